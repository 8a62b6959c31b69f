"""Sizes: non-negative integers that may depend on symbols (``f32[B, 4*T]``).

A size is a plain ``int`` wherever it is known.  A :class:`Size` is a polynomial with integer coefficients over *atoms*:
symbols, and quotients, remainders, minima and maxima of sizes that cannot be simplified further.  Polynomials are kept in
one normal form, so equality of sizes is equality of values wherever the arithmetic is polynomial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, Union

import attrs

Monomial: TypeAlias = "tuple[Atom, ...]"


@attrs.frozen(order=False)
class Symbol:
    """A named size, known only to lie in ``lo..hi`` (elements, both ends included)."""

    name: str
    lo: int = 0
    hi: int = 2**31 - 1

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Quotient:
    """A non-polynomial atom: ``a // b``, ``a % b``, ``min(a, b)`` or ``max(a, b)``."""

    op: str
    a: SizeLike
    b: SizeLike

    def __str__(self) -> str:
        if self.op in ("min", "max"):
            return f"{self.op}({self.a}, {self.b})"
        return f"({self.a}) {self.op} ({self.b})" if isinstance(self.a, Size) else f"{self.a} {self.op} ({self.b})"


Atom: TypeAlias = Union[Symbol, Quotient]


@attrs.frozen(eq=True, hash=True)
class Size:
    """A sum of monomials, ``terms``: sorted pairs (monomial, coefficient), no coefficient zero, never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]

    # -- arithmetic -----------------------------------------------------------------------------------------------
    def __add__(self, other: SizeLike) -> SizeLike:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> SizeLike:
        return self * -1

    def __sub__(self, other: SizeLike) -> SizeLike:
        return self + (other * -1)

    def __rsub__(self, other: SizeLike) -> SizeLike:
        return (self * -1) + other

    def __mul__(self, other: SizeLike) -> SizeLike:
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                monomial = tuple(sorted(m1 + m2, key=str))
                total[monomial] = total.get(monomial, 0) + c1 * c2
        return _normal(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: SizeLike) -> SizeLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: SizeLike) -> SizeLike:
        return floordiv(other, self)

    def __mod__(self, other: SizeLike) -> SizeLike:
        return modulo(self, other)

    def __rmod__(self, other: SizeLike) -> SizeLike:
        return modulo(other, self)

    def __str__(self) -> str:
        out = ""
        for monomial, coefficient in self.terms:
            factors = [f"({a})" if isinstance(a, Quotient) and a.op not in ("min", "max") else str(a) for a in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            text = "*".join(factors)
            sign = "-" if coefficient < 0 else "+"
            out = (f"-{text}" if coefficient < 0 else text) if not out else f"{out} {sign} {text}"
        return out


SizeLike: TypeAlias = Union[int, Size]


def symbol(name: str, lo: int = 0, hi: int = 2**31 - 1) -> Size:
    """Return the size that is the symbol ``name`` with range ``lo..hi``."""
    return Size((((Symbol(name, lo, hi),), 1),))


def _terms(value: SizeLike) -> tuple[tuple[Monomial, int], ...]:
    return value.terms if isinstance(value, Size) else ((((), int(value)),) if value else ())


def _normal(total: Mapping[Monomial, int]) -> SizeLike:
    kept = {m: c for m, c in total.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    # Higher degrees first, then by name; the constant stands last.
    return Size(tuple(sorted(kept.items(), key=lambda item: (-len(item[0]), [str(a) for a in item[0]]))))


def floordiv(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return ``a // b``, exact where every term of ``a`` is divisible by ``b``."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if a == b:
        return 1
    if b == 1 or a == 0:
        return a
    exact = _exact_quotient(a, b)
    if exact is not None:
        return exact
    if isinstance(a, Size) and isinstance(b, int) and b > 0:
        # (b*q + r) // b == q + r // b for integers, whatever the sign of r.
        whole = _normal({m: c // b for m, c in a.terms})
        rest = _normal({m: c % b for m, c in a.terms})
        if whole != 0:
            return whole + (rest // b if isinstance(rest, int) else _atom("//", rest, b))
    return _atom("//", a, b)


def _exact_quotient(a: SizeLike, b: SizeLike) -> SizeLike | None:
    """Return ``a / b`` if ``b`` is one monomial that divides every term of ``a``."""
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    (mono, coefficient), total = divisor[0], {}
    for monomial, c in _terms(a):
        left = list(monomial)
        for atom in mono:
            if atom not in left:
                return None
            left.remove(atom)
        if c % coefficient:
            return None
        total[tuple(left)] = c // coefficient
    return _normal(total)


def modulo(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return ``a % b``."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 1 or a == b or a == 0 or _exact_quotient(a, b) is not None:
        return 0
    return _atom("%", a, b)


def minimum(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return the smaller size."""
    order = compare("<=", a, b)
    return _atom("min", a, b) if order is None else (a if order else b)


def maximum(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return the larger size."""
    order = compare(">=", a, b)
    return _atom("max", a, b) if order is None else (a if order else b)


def _atom(op: str, a: SizeLike, b: SizeLike) -> SizeLike:
    return Size((((Quotient(op, a, b),), 1),))


def bounds(value: SizeLike) -> tuple[float, float]:
    """Return an interval that contains every value of ``value``; ends may be infinite."""
    if isinstance(value, int):
        return value, value
    lo = hi = 0.0
    for monomial, coefficient in value.terms:
        a, b = 1.0, 1.0
        for atom in monomial:
            x, y = _atom_bounds(atom)
            corners = [_times(p, q) for p in (a, b) for q in (x, y)]
            a, b = min(corners), max(corners)
        if coefficient < 0:
            a, b = b, a
        lo, hi = lo + coefficient * a, hi + coefficient * b
    return lo, hi


def _times(p: float, q: float) -> float:
    return 0.0 if p == 0 or q == 0 else p * q


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return atom.lo, atom.hi
    (a, b), (c, d) = bounds(atom.a), bounds(atom.b)
    if atom.op == "min":
        return min(a, c), min(b, d)
    if atom.op == "max":
        return max(a, c), max(b, d)
    if atom.op == "%":
        return 0, d - 1
    if a >= 0 and c > 0:
        return a // d, b // c
    return float("-inf"), float("inf")


def compare(op: str, a: SizeLike, b: SizeLike) -> bool | None:
    """Return the truth of ``a op b`` for every value of the symbols, or None where it depends on them."""
    difference = a - b
    lo, hi = bounds(difference)
    if op in ("==", "!="):
        equal = True if lo == hi == 0 else False if lo > 0 or hi < 0 else None
        return equal if op == "==" or equal is None else not equal
    always = {"<": hi < 0, "<=": hi <= 0, ">": lo > 0, ">=": lo >= 0}[op]
    never = {"<": lo >= 0, "<=": lo > 0, ">": hi <= 0, ">=": hi < 0}[op]
    return True if always else False if never else None


def substitute(value: SizeLike, env: Mapping[str, SizeLike]) -> SizeLike:
    """Return ``value`` with the symbols named in ``env`` replaced."""
    if isinstance(value, int):
        return value
    total: SizeLike = 0
    for monomial, coefficient in value.terms:
        product: SizeLike = coefficient
        for atom in monomial:
            product = product * _substitute_atom(atom, env)
        total = total + product
    return total


def _substitute_atom(atom: Atom, env: Mapping[str, SizeLike]) -> SizeLike:
    if isinstance(atom, Symbol):
        return env.get(atom.name, Size((((atom,), 1),)))
    a, b = substitute(atom.a, env), substitute(atom.b, env)
    return {"//": floordiv, "%": modulo, "min": minimum, "max": maximum}[atom.op](a, b)


def symbols_of(value: SizeLike) -> set[Symbol]:
    """Return the symbols that ``value`` depends on."""
    if isinstance(value, int):
        return set()
    found: set[Symbol] = set()
    for monomial, _ in value.terms:
        for atom in monomial:
            found |= {atom} if isinstance(atom, Symbol) else symbols_of(atom.a) | symbols_of(atom.b)
    return found
