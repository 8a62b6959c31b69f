"""Numbers that are written in programs, as elements of the ring.

A kernel holds a constant as the nearest float32, often of an expression that Python folded: ``1/3``, ``scale * log2(e)``.  Two
programs agree when their constants are roundings of one real number, so a constant is read as the simplest number that it is
a rounding of: a short decimal, a fraction, a root of one, or one of these times ``ln 2``, ``log2 e``, ``pi`` and the like.
What is none of these is the float32 itself.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .field import LEVELS, Field

#: Relative distance within which two constants are roundings of one number: float32, rounded once or folded.
TOLERANCE = 1.3e-7

_IRRATIONALS = {
    "log2_e": math.log2(math.e), "ln_2": math.log(2), "log10_e": math.log10(math.e), "ln_10": math.log(10),
    "log2_10": math.log2(10), "log10_2": math.log10(2), "pi": math.pi, "1/pi": 1 / math.pi, "sqrt_pi": math.sqrt(math.pi),
    "1/sqrt_pi": 1 / math.sqrt(math.pi), "e": math.e,
}  # fmt: skip


def simplest_fraction(value: float, bound: int, tolerance: float) -> Fraction | None:
    """Return the first convergent of ``value`` within ``tolerance``; None where its parts multiply to more than ``bound``."""
    if not 1e-12 < value < 1e12:
        return None
    a0, a1, b0, b1, rest = 0, 1, 1, 0, Fraction(value)
    for _ in range(40):
        whole = math.floor(rest)
        a0, a1, b0, b1 = a1, whole * a1 + a0, b1, whole * b1 + b0
        if a1 * b1 > bound:
            return None
        if a1 and abs(a1 / b1 - value) <= tolerance * value:
            return Fraction(a1, b1)
        if rest == whole:
            return None
        rest = 1 / (rest - whole)
    return None


def float32_text(value: float) -> str:
    """Return the shortest text that rounds to the float32 nearest to ``value``."""
    return str(np.format_float_scientific(np.float32(value), unique=True))


def short_decimal(text: str, digits: int) -> Fraction | None:
    """Return the number that ``text`` writes, where it has at most ``digits`` digits."""
    figures = text.lower().split("e")[0].replace(".", "").strip("0")
    return Fraction(text) if len(figures) <= digits else None


class Constants:
    """The elements of constants, remembered.

    Attributes:
        unexplained: constants that no simple number rounds to.
        written: constants that programs used, as float64.
        replaced: constants to be read as others, for trying explanations of a difference.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.unexplained: set[float] = set()
        self.written: set[float] = set()
        self.replaced: dict[float, float] = {}
        self._known: dict[float, tuple[int, ...]] = {}
        self._irrational = self._irrationals()

    def _irrationals(self) -> dict[str, tuple[int, ...]]:
        """Choose elements for irrational numbers so that their products are right."""
        primes = self.field.primes

        def unary(f: object, x: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(f(v, p) for v, p in zip(x, primes, strict=True))  # type: ignore[operator]

        def inverse(x: tuple[int, ...]) -> tuple[int, ...]:
            return unary(lambda v, p: pow(v, -1, p), x)

        def times(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(a * b % p for a, b, p in zip(x, y, primes, strict=True))

        ln_2, ln_10 = self.field.element(0), self.field.element(1)
        sqrt_pi = unary(lambda v, p: v * v % p, self.field.element(2))
        pi = times(sqrt_pi, sqrt_pi)
        return {
            "log2_e": inverse(ln_2), "ln_2": ln_2, "log10_e": inverse(ln_10), "ln_10": ln_10,
            "log2_10": times(ln_10, inverse(ln_2)), "log10_2": times(ln_2, inverse(ln_10)), "pi": pi, "1/pi": inverse(pi),
            "sqrt_pi": sqrt_pi, "1/sqrt_pi": inverse(sqrt_pi),
            "e": tuple(int(x) for x in self.field.exp(np.ones((LEVELS, 1), np.int64))[:, 0]),
        }  # fmt: skip

    def named(self, name: str) -> tuple[int, ...]:
        """Return the element of an irrational number: ``ln_2``, ``pi``, ..."""
        return self._irrational[name]

    def element(self, value: float) -> tuple[int, ...]:
        """Return the residues of a finite constant."""
        self.written.add(value)
        known = self._known.get(value)
        if known is None:
            found = self._explained(abs(value))
            if found is None:
                self.unexplained.add(value)
                exact = Fraction(float(np.float32(value))) if np.isfinite(np.float32(value)) else Fraction(value)
                found = self.field.fraction(abs(exact.numerator), exact.denominator)
            known = found if value >= 0 else tuple(-r % p for r, p in zip(found, self.field.primes, strict=True))
            self._known[value] = known
        return known

    def _explained(self, value: float) -> tuple[int, ...] | None:
        """Return the element of the number that ``value`` is a rounding of: to float64 if there is one, else to float32."""
        mantissa = int(math.frexp(value)[0] * 2**53)
        trailing = (mantissa & -mantissa).bit_length() - 1
        if value == 0 or 53 - trailing <= 12 or (value == round(value) and value < 2**53):
            exact = Fraction(value)
            return self.field.fraction(exact.numerator, exact.denominator)
        if not 1e-37 < value < 1e38:
            return None
        exact64 = self._simple(value, 1e-14, short_decimal(repr(value), 6), 2**40, 2**24, 2**16)
        return exact64 or self._simple(value, TOLERANCE, short_decimal(float32_text(value), 5), 2**18, 2**12, 2**8)

    def _simple(
        self, value: float, tolerance: float, decimal: Fraction | None, fraction: int, square: int, factor: int
    ) -> tuple[int, ...] | None:
        """Return the element of a simple number within ``tolerance``; the bounds are on numerator times denominator."""
        if decimal is not None:
            return self._rational(decimal)
        for name, number in _IRRATIONALS.items():
            ratio = value / number
            short = short_decimal(f"{ratio:.4g}", 4)
            if short is not None and abs(float(short) - ratio) <= tolerance * ratio:
                return self._scaled(name, self._rational(short))
            found = simplest_fraction(ratio, factor, tolerance)
            if found is not None:
                return self._scaled(name, self._rational(found))
            found = simplest_fraction(ratio * ratio, factor, 2 * tolerance)
            if found is not None:
                return self._scaled(name, self._root(found))
        found = simplest_fraction(value, fraction, tolerance)
        if found is not None:
            return self._rational(found)
        found = simplest_fraction(value * value, square, 2 * tolerance)
        return self._root(found) if found is not None else None

    def _rational(self, value: Fraction) -> tuple[int, ...]:
        return self.field.fraction(value.numerator, value.denominator)

    def _scaled(self, name: str, factor: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a * b % p for a, b, p in zip(self._irrational[name], factor, self.field.primes, strict=True))

    def _root(self, square: Fraction) -> tuple[int, ...]:
        r = np.array(self.field.fraction(square.numerator, square.denominator), np.int64).reshape(LEVELS, 1)
        return tuple(int(x) for x in self.field.root(r)[:, 0])
