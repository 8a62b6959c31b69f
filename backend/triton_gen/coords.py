"""Coordinates: integer polynomials over the axes of a kernel, simplified by what is known about the ranges of the axes.

A coordinate is a :data:`~drt.ir.SizeLike`: an ``int``, or a polynomial over symbols, quotients and remainders.  Symbols are
of three kinds: *axes* (``0 <= axis < extent``), *sizes* (at least 1, known when a kernel is launched), and *loaded* indices,
of which nothing is known.  Quotients are floor quotients.

The one simplification that the generator lives from: a flat index that is taken apart (``f // N``, ``f % N``) and put
together again (``(f // N)*N + f % N``) is the flat index again.  So a contiguous tensor is addressed without any division,
whatever chain of views led there, and no separate pass that merges axes is needed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from ...ir import Size, SizeLike, Symbol
from ...ir.size import Quotient, substitute


def atom(value: Symbol | Quotient) -> Size:
    """Return the coordinate that is one symbol or quotient."""
    return Size((((value,), 1),))


def terms(value: SizeLike) -> tuple[tuple[tuple[Symbol | Quotient, ...], int], ...]:
    """Return the terms of ``value`` as pairs (atoms, coefficient)."""
    if isinstance(value, Size):
        return value.terms
    return (((), int(value)),) if value else ()


def total(parts: Sequence[tuple[tuple[Symbol | Quotient, ...], int]]) -> SizeLike:
    """Return the sum of ``parts``."""
    result: SizeLike = 0
    for atoms, coefficient in parts:
        result = result + (Size(((atoms, coefficient),)) if atoms else coefficient)
    return result


@lru_cache(maxsize=65536)
def at_least_zero(size: SizeLike) -> bool:
    """Return whether ``size``, a polynomial over sizes (each at least 1), is proved to be at least 0."""
    if isinstance(size, int):
        return size >= 0
    if all(c >= 0 for _, c in size.terms):
        return True
    names = {a.name for atoms, _ in size.terms for a in atoms if isinstance(a, Symbol)}
    shifted = substitute(size, {n: atom(Symbol(n)) + 1 for n in names})
    return all(c >= 0 for _, c in terms(shifted))


class Space:
    """The axes in scope, with what is known about them.

    Args:
        extents: the exclusive upper end of each axis, by name.
        loaded: names of symbols that stand for loaded integers, of unknown range.
    """

    def __init__(self, extents: Mapping[str, SizeLike] | None = None) -> None:
        self.extents: dict[str, SizeLike] = dict(extents or {})
        self.loaded: dict[str, frozenset[str]] = {}
        self._bounds: dict[SizeLike, tuple[SizeLike | None, SizeLike | None]] = {}
        self._assumed: dict[Symbol | Quotient, tuple[SizeLike, SizeLike]] = {}

    @contextlib.contextmanager
    def assume(self, e: SizeLike, lo: SizeLike, hi: SizeLike) -> Iterator[None]:
        """Take ``lo <= e <= hi`` for known inside the context: where a guard sees to it that nothing else is read.

        Only an ``e`` that is one symbol or quotient is remembered.
        """
        item = _single(e)
        if item is None:
            yield
            return
        saved, kept = self._assumed, self._bounds
        self._assumed, self._bounds = {**saved, item: (lo, hi)}, {}
        try:
            yield
        finally:
            self._assumed, self._bounds = saved, kept

    def axis(self, name: str, extent: SizeLike) -> Size:
        """Declare an axis and return it as a coordinate."""
        self.extents[name] = extent
        self._bounds.clear()
        return atom(Symbol(name))

    def load(self, name: str, axes: frozenset[str]) -> Size:
        """Declare a loaded integer that depends on ``axes`` and return it as a coordinate."""
        self.loaded[name] = axes
        return atom(Symbol(name))

    # -- ranges -------------------------------------------------------------------------------------------------------
    def bounds(self, e: SizeLike) -> tuple[SizeLike | None, SizeLike | None]:
        """Return inclusive bounds of ``e`` as polynomials over sizes; None where nothing is known."""
        if isinstance(e, int):
            return e, e
        if e in self._bounds:
            return self._bounds[e]
        lo: SizeLike | None = 0
        hi: SizeLike | None = 0
        for atoms, coefficient in e.terms:
            a: SizeLike | None = 1
            b: SizeLike | None = 1
            for item in atoms:
                x, y = self._atom_bounds(item)
                # Factors are at least 0 wherever a bound is known, so bounds multiply.
                a = None if a is None or x is None or not at_least_zero(x) else a * x
                b = None if b is None or y is None or a is None else b * y
            if coefficient < 0:
                a, b = b, a
            lo = None if lo is None or a is None else lo + a * coefficient
            hi = None if hi is None or b is None else hi + b * coefficient
        self._bounds[e] = (lo, hi)
        return lo, hi

    def _atom_bounds(self, item: Symbol | Quotient) -> tuple[SizeLike | None, SizeLike | None]:
        if item in self._assumed:
            return self._assumed[item]
        if isinstance(item, Symbol):
            if item.name in self.extents:
                return 0, self.extents[item.name] - 1
            return (None, None) if item.name in self.loaded else (atom(item), atom(item))
        if not self.depends(item.a) and not self.depends(item.b):
            return atom(item), atom(item)
        if item.op == "%":
            return 0, item.b - 1
        if item.op == "//":
            lo, hi = self.bounds(item.a)
            if lo is not None and at_least_zero(lo):
                return 0, None if hi is None else _floor(hi, item.b)
        return None, None

    def nonnegative(self, e: SizeLike) -> bool:
        """Return whether ``e >= 0`` is proved."""
        lo, _ = self.bounds(e)
        return lo is not None and at_least_zero(lo)

    def below(self, e: SizeLike, limit: SizeLike) -> bool:
        """Return whether ``e < limit`` is proved."""
        _, hi = self.bounds(e)
        return hi is not None and at_least_zero(limit - 1 - hi)

    def depends(self, e: SizeLike) -> frozenset[str]:
        """Return the axes that ``e`` depends on."""
        found: frozenset[str] = frozenset()
        for atoms, _ in terms(e):
            for item in atoms:
                if isinstance(item, Quotient):
                    found |= self.depends(item.a) | self.depends(item.b)
                elif item.name in self.extents:
                    found |= {item.name}
                elif item.name in self.loaded:
                    found |= self.loaded[item.name]
        return found

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    def floordiv(self, e: SizeLike, d: SizeLike) -> SizeLike:
        """Return ``e // d``."""
        if isinstance(e, int) and isinstance(d, int):
            return e // d
        if d == 1 or e == 0:
            return e
        e = self.recombined(e)
        if self.nonnegative(e) and self.below(e, d):
            return 0
        whole, rest = _divide(e, d)
        if rest == 0 or (self.nonnegative(rest) and self.below(rest, d)):
            return whole
        factor = _common(rest, d)
        if factor != 1:
            rest, d = _divide(rest, factor)[0], _divide(d, factor)[0]
        peeled = self._peel(rest, d)
        if peeled is not None:
            factor, high, _ = peeled
            return whole + self.floordiv(high, _divide(d, factor)[0])
        single = _single(rest)
        if isinstance(single, Quotient) and single.op == "//":
            return whole + self.floordiv(single.a, single.b * d)
        if isinstance(single, Quotient) and single.op == "%":
            quotient, left = _divide(single.b, d)
            if left == 0:
                return whole + self.modulo(self.floordiv(single.a, d), quotient)
        return whole + atom(Quotient("//", rest, d))

    def modulo(self, e: SizeLike, d: SizeLike) -> SizeLike:
        """Return ``e % d``."""
        if isinstance(e, int) and isinstance(d, int):
            return e % d
        if d == 1 or e == 0:
            return 0
        e = self.recombined(e)
        if self.nonnegative(e) and self.below(e, d):
            return e
        _, rest = _divide(e, d)
        if rest == 0 or (self.nonnegative(rest) and self.below(rest, d)):
            return rest
        factor = _common(rest, d)
        if factor != 1:
            return self.modulo(_divide(rest, factor)[0], _divide(d, factor)[0]) * factor
        peeled = self._peel(rest, d)
        if peeled is not None:
            factor, high, low = peeled
            return self.modulo(high, _divide(d, factor)[0]) * factor + low
        if not self.nonnegative(rest) and self.nonnegative(rest + d):
            # A shifted index (roll): one period more makes the dividend non-negative.
            rest = rest + d
        single = _single(rest)
        if isinstance(single, Quotient) and single.op == "%" and _divide(single.b, d)[1] == 0:
            return self.modulo(single.a, d)
        return atom(Quotient("%", rest, d))

    def _peel(self, e: SizeLike, d: SizeLike) -> tuple[SizeLike, SizeLike, SizeLike] | None:
        """Return (g, high, low) with ``e == g*high + low``, ``0 <= low < g`` and g a divisor of ``d``, or None.

        Then ``e // d == high // (d / g)`` and ``e % d == (high % (d / g))*g + low``.
        """
        tried = set()
        for atoms, coefficient in terms(e):
            g = _common(total([(atoms, coefficient)]), d)
            if g in tried or g == 1 or g == d:
                continue
            tried.add(g)
            high, low = _divide(e, g)
            if high != 0 and low != 0 and self.nonnegative(low) and self.below(low, g) and _divide(d, g)[1] == 0:
                return g, high, low
        return None

    def recombined(self, e: SizeLike) -> SizeLike:
        """Return ``e`` with ``(x // a)*a*k + (x % a)*k`` replaced by ``x*k``, as often as it occurs."""
        if isinstance(e, int) or len(e.terms) < 2:
            return e
        changed = True
        while changed and isinstance(e, Size):
            changed = False
            for atoms, coefficient in terms(e):
                for item in atoms:
                    if not isinstance(item, Quotient) or item.op != "%":
                        continue
                    others = list(atoms)
                    others.remove(item)
                    k = total([(tuple(others), coefficient)])
                    high = self.floordiv(item.a, item.b) * item.b * k
                    wanted = dict(terms(high))
                    have = dict(terms(e))
                    if wanted and all(have.get(t) == c for t, c in wanted.items()):
                        e = e - high - total([(atoms, coefficient)]) + item.a * k
                        changed = True
                        break
                    wider = self._wider(item, k, have)
                    if wider is not None:
                        used, period = wider
                        e = e - used - total([(atoms, coefficient)]) + self.modulo(item.a, period) * k
                        changed = True
                        break
                if changed:
                    break
        return e

    def _wider(
        self, item: Quotient, k: SizeLike, have: Mapping[tuple[Symbol | Quotient, ...], int]
    ) -> tuple[SizeLike, SizeLike] | None:
        """For ``(x % a)*k`` find a term ``((x // a) % b)*a*k``: together they are ``(x % (a*b))*k``."""
        quotient = self.floordiv(item.a, item.b)
        for atoms, coefficient in have.items():
            for other in atoms:
                if isinstance(other, Quotient) and other.op == "%" and other.a == quotient:
                    rest = list(atoms)
                    rest.remove(other)
                    if total([(tuple(rest), coefficient)]) == item.b * k:
                        return total([(atoms, coefficient)]), item.b * other.b
        return None

    def ravel(self, coordinates: Sequence[SizeLike], shape: Sequence[SizeLike]) -> SizeLike:
        """Return the row-major flat index of ``coordinates`` in ``shape``."""
        flat: SizeLike = 0
        for c, n in zip(coordinates, shape, strict=True):
            flat = flat * n + c if n != 1 else flat
        return self.recombined(flat)

    def unravel(self, flat: SizeLike, shape: Sequence[SizeLike]) -> tuple[SizeLike, ...]:
        """Return the coordinates in ``shape`` of the row-major index ``flat``, known to be inside."""
        out: list[SizeLike] = []
        for i, n in enumerate(shape):
            if n == 1:
                out.append(0)
                continue
            inner = math.prod(shape[i + 1 :])  # type: ignore[arg-type]
            q = self.floordiv(flat, inner)
            # The leading coordinate needs no remainder: the index is inside.
            leading = all(s == 1 for s in shape[:i])
            out.append(q if leading else self.modulo(q, n))
        return tuple(out)

    def substitute(self, e: SizeLike, env: Mapping[str, SizeLike]) -> SizeLike:
        """Return ``e`` with axes replaced by coordinates, simplified again."""
        if isinstance(e, int) or not env:
            return e
        result: SizeLike = 0
        for atoms, coefficient in e.terms:
            product: SizeLike = coefficient
            for item in atoms:
                if isinstance(item, Symbol):
                    product = product * env.get(item.name, atom(item))
                else:
                    a, b = self.substitute(item.a, env), self.substitute(item.b, env)
                    product = product * (self.floordiv(a, b) if item.op == "//" else self.modulo(a, b))
            result = result + product
        return self.recombined(result)

    # -- text ---------------------------------------------------------------------------------------------------------
    def text(self, e: SizeLike, level: int = 0) -> str:
        """Return Python text of ``e``; ``level`` is 0 for a whole expression, 1 for a summand, 2 for a factor."""
        if isinstance(e, int):
            return f"({e})" if e < 0 and level else str(e)
        out = ""
        for atoms, coefficient in _ordered(e):
            factors = [self._atom_text(a) for a in atoms]
            if abs(coefficient) != 1 or not factors:
                factors.append(str(abs(coefficient)))
            text = " * ".join(factors)
            if not out:
                out = f"-{text}" if coefficient < 0 else text
            else:
                out += (" - " if coefficient < 0 else " + ") + text
        if level == 0 or (len(e.terms) == 1 and (level == 1 or (e.terms[0][1] == 1 and len(e.terms[0][0]) == 1))):
            return out
        return f"({out})"

    def _atom_text(self, item: Symbol | Quotient) -> str:
        if isinstance(item, Symbol):
            return item.name
        if item.op in ("min", "max"):
            return f"{item.op}({self.text(item.a)}, {self.text(item.b)})"
        a, b = self.text(item.a, 2), self.text(item.b, 2)
        if self.nonnegative(item.a) or not self.depends(item.a):
            return f"({a} {item.op} {b})"
        # Triton truncates towards zero; a floor needs the remainder to be made non-negative first.
        floored = f"(({a} % {b} + {b}) % {b})"
        return floored if item.op == "%" else f"(({a} - {floored}) // {b})"


def _ordered(e: Size) -> list[tuple[tuple[Symbol | Quotient, ...], int]]:
    """Return the terms with a positive one first, so that no text starts with a minus where it need not."""
    return sorted(e.terms, key=lambda t: t[1] < 0)


def _floor(high: SizeLike, d: SizeLike) -> SizeLike:
    """Return ``high // d`` for an inclusive bound: ``(d*q - 1) // d`` is ``q - 1``."""
    quotient, rest = _divide(high + 1, d)
    return quotient - 1 if rest == 0 else high // d


def _single(e: SizeLike) -> Symbol | Quotient | None:
    if isinstance(e, Size) and len(e.terms) == 1:
        (atoms, coefficient) = e.terms[0]
        if coefficient == 1 and len(atoms) == 1:
            return atoms[0]
    return None


def _monomial(d: SizeLike) -> tuple[tuple[Symbol | Quotient, ...], int] | None:
    found = terms(d)
    return found[0] if len(found) == 1 else None


def _divide(e: SizeLike, d: SizeLike) -> tuple[SizeLike, SizeLike]:
    """Return (q, r) with ``e == q*d + r``, where q takes every term that ``d`` divides exactly."""
    if e == d:
        return 1, 0
    divisor = _monomial(d)
    if divisor is None:
        return _divide_polynomial(e, d)
    mono, coefficient = divisor
    whole: list[tuple[tuple[Symbol | Quotient, ...], int]] = []
    rest: list[tuple[tuple[Symbol | Quotient, ...], int]] = []
    for atoms, c in terms(e):
        left = list(atoms)
        fits = True
        for item in mono:
            if item in left:
                left.remove(item)
            else:
                fits = False
                break
        if fits and coefficient and c % coefficient == 0:
            whole.append((tuple(left), c // coefficient))
        elif fits and coefficient > 0 and not left and not mono:
            q, r = divmod(c, coefficient)
            whole.append(((), q))
            rest.append(((), r))
        else:
            rest.append((atoms, c))
    return total(whole), total(rest)


def _divide_polynomial(e: SizeLike, d: SizeLike) -> tuple[SizeLike, SizeLike]:
    """Divide by a sum (``H + 2``): group the terms of ``e`` by their multiple of the leading term of ``d``."""
    lead_atoms, lead_coefficient = terms(d)[0]
    quotient: SizeLike = 0
    rest = e
    for atoms, c in terms(e):
        left = list(atoms)
        fits = c % lead_coefficient == 0
        for item in lead_atoms:
            if item in left:
                left.remove(item)
            else:
                fits = False
        if not fits:
            continue
        q = total([(tuple(left), c // lead_coefficient)])
        candidate = rest - q * d
        if len(terms(candidate)) <= len(terms(rest)) - 1:
            quotient, rest = quotient + q, candidate
    return quotient, rest


def _common(e: SizeLike, d: SizeLike) -> SizeLike:
    """Return a monomial that divides every term of both ``e`` and ``d``."""
    everything = [*terms(e), *terms(d)]
    coefficient = math.gcd(*(c for _, c in everything))
    shared = list(everything[0][0])
    for atoms, _ in everything[1:]:
        left, kept = list(atoms), []
        for item in shared:
            if item in left:
                left.remove(item)
                kept.append(item)
        shared = kept
    return total([(tuple(shared), coefficient)])
