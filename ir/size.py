"""Sizes: non-negative integers that may depend on symbols (``f32[B, 4*T]``).

A size is a plain ``int`` wherever it is known.  A :class:`Size` is a polynomial with integer coefficients over *atoms*:
symbols, and quotients, remainders, minima and maxima of sizes that cannot be simplified further.  Polynomials are kept in
one normal form, so equality of sizes is equality of values wherever the arithmetic is polynomial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias, Union

import attrs

Monomial: TypeAlias = "tuple[Atom, ...]"


@attrs.frozen(order=False, cache_hash=True)
class Symbol:
    """A named size, known only to lie in ``lo..hi`` (elements, both ends included)."""

    name: str
    lo: int = 0
    hi: int = 2**31 - 1

    def __str__(self) -> str:
        return self.name


@attrs.frozen(cache_hash=True)
class Quotient:
    """A non-polynomial atom: ``a // b``, ``a % b``, ``min(a, b)`` or ``max(a, b)``."""

    op: str
    a: SizeLike
    b: SizeLike

    @property
    def is_call(self) -> bool:
        """Whether it is written as a call, so that it needs no parentheses."""
        return self.op in ("min", "max")

    def __str__(self) -> str:
        if self.is_call:
            return f"{self.op}({self.a}, {self.b})"
        return f"{_operand(self.a)} {self.op} {_operand(self.b)}"


def _operand(value: SizeLike) -> str:
    """Return the text of an operand of a quotient."""
    text = str(value)
    return text if text.isalnum() or text.isidentifier() else f"({text})"


Atom: TypeAlias = Union[Symbol, Quotient]


@attrs.frozen(eq=True, cache_hash=True)
class Size:
    """A sum of monomials, ``terms``: sorted pairs (monomial, coefficient), no coefficient zero, never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]

    # -- arithmetic -----------------------------------------------------------------------------------------------
    def __add__(self, other: SizeLike) -> SizeLike:
        if isinstance(other, int):
            # The constant stands last.
            rest, constant = (self.terms[:-1], self.terms[-1][1]) if not self.terms[-1][0] else (self.terms, 0)
            constant += int(other)
            if not rest:
                return constant
            return Size((*rest, ((), constant))) if constant else Size(rest)
        if not isinstance(other, Size):
            return NotImplemented
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> SizeLike:
        return self * -1

    def __sub__(self, other: SizeLike) -> SizeLike:
        if not isinstance(other, (int, Size)):
            return NotImplemented
        return self + (other * -1)

    def __rsub__(self, other: SizeLike) -> SizeLike:
        return (self * -1) + other

    def __mul__(self, other: SizeLike) -> SizeLike:
        if isinstance(other, int):
            factor = int(other)
            return Size(tuple([(m, c * factor) for m, c in self.terms])) if factor else 0
        if not isinstance(other, Size):
            return NotImplemented
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                monomial = _joined(m1, m2)
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
            alone = len(monomial) == 1 and (coefficient == 1 or (coefficient == -1 and out != ""))
            factors = [
                f"({a})" if isinstance(a, Quotient) and not a.is_call and not alone else str(a) for a in monomial
            ]
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
    if len(kept) == 1:
        return Size(tuple(kept.items()))
    return Size(tuple(sorted(kept.items(), key=_place)))


def _place(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return _order(term[0])


@lru_cache(1 << 14)
def _order(monomial: Monomial) -> tuple[int, list[str]]:
    """Return what terms are sorted by: higher degrees first, then by name; the constant stands last."""
    return -len(monomial), [str(a) for a in monomial]


@lru_cache(1 << 14)
def _joined(a: Monomial, b: Monomial) -> Monomial:
    """Return the product of two monomials."""
    return tuple(sorted(a + b, key=str))


def floordiv(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return ``a // b``, exact where every term of ``a`` is divisible by ``b``; ``b`` is taken to be nonzero."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if a == b:
        return 1
    exact = _exact_quotient(a, b)
    if exact is not None:
        return exact
    if isinstance(a, Size) and isinstance(b, int) and b > 0:
        # (b*q + r) // b == q + r // b, and (g*r) // (g*c) == r // c, for integers of any sign.
        whole = _normal({m: c // b for m, c in a.terms})
        rest = _normal({m: c % b for m, c in a.terms})
        if isinstance(rest, int):
            return whole
        common = math.gcd(b, *(c for _, c in rest.terms))
        rest = _normal({m: c // common for m, c in rest.terms})
        return whole + _bounded("//", rest, b // common)
    return _bounded("//", a, b)


def _bounded(op: str, a: SizeLike, b: SizeLike) -> SizeLike:
    """Return the quotient or remainder, as a number where the ranges of its operands decide it."""
    lo, hi = _quotient_bounds(a, b)
    if op == "//" and lo == hi:
        return int(lo)
    if op == "%" and lo == hi == 0:
        return a
    return _atom(op, a, b)


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
    """Return ``a % b``; ``b`` is taken to be nonzero."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if a == b or _exact_quotient(a, b) is not None:
        return 0
    if isinstance(a, Size) and isinstance(b, int) and b > 0:
        # (b*q + r) % b == r % b, and (g*r) % (g*c) == g * (r % c), for integers of any sign.
        rest = _normal({m: c % b for m, c in a.terms})
        if isinstance(rest, int):
            return rest
        common = math.gcd(b, *(c for _, c in rest.terms))
        rest = _normal({m: c // common for m, c in rest.terms})
        return _bounded("%", rest, b // common) * common
    return _bounded("%", a, b)


def minimum(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return the smaller size."""
    if compare("<=", a, b):
        return a
    return b if compare("<=", b, a) else _atom("min", *sorted((a, b), key=str))


def maximum(a: SizeLike, b: SizeLike) -> SizeLike:
    """Return the larger size."""
    if compare(">=", a, b):
        return a
    return b if compare(">=", b, a) else _atom("max", *sorted((a, b), key=str))


def _atom(op: str, a: SizeLike, b: SizeLike) -> SizeLike:
    return Size((((Quotient(op, a, b),), 1),))


def bounds(value: SizeLike) -> tuple[float, float]:
    """Return an interval that contains every value of ``value``: integers, exact however large, or infinities."""
    if isinstance(value, int):
        return value, value
    lo: float = 0
    hi: float = 0
    for monomial, coefficient in value.terms:
        a: float = 1
        b: float = 1
        for atom in monomial:
            x, y = _atom_bounds(atom)
            corners = [_times(p, q) for p in (a, b) for q in (x, y)]
            a, b = min(corners), max(corners)
        if coefficient < 0:
            a, b = b, a
        lo, hi = lo + coefficient * a, hi + coefficient * b
    return lo, hi


def _times(p: float, q: float) -> float:
    return 0 if p == 0 or q == 0 else p * q


def _divide(p: float, q: float) -> float:
    """Return ``p // q`` of ends of intervals, ``q`` positive."""
    if math.isinf(p):
        return p
    return (0 if p >= 0 else -1) if math.isinf(q) else p // q


def _quotient_bounds(a: SizeLike, b: SizeLike) -> tuple[float, float]:
    (lo, hi), (low, high) = bounds(a), bounds(b)
    if low <= 0:
        return -math.inf, math.inf
    return _divide(lo, high if lo >= 0 else low), _divide(hi, low if hi >= 0 else high)


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return atom.lo, atom.hi
    if atom.op == "//":
        return _quotient_bounds(atom.a, atom.b)
    (a, b), (c, d) = bounds(atom.a), bounds(atom.b)
    if atom.op == "min":
        return min(a, c), min(b, d)
    if atom.op == "max":
        return max(a, c), max(b, d)
    if c <= 0:
        return -math.inf, math.inf
    return 0, (min(b, d - 1) if a >= 0 else d - 1)


def compare(op: str, a: SizeLike, b: SizeLike) -> bool | None:
    """Return the truth of ``a op b`` for every value of the symbols, or None where it depends on them."""
    difference = a - b
    lo, hi = bounds(difference)
    if op in ("==", "!="):
        equal = True if lo == hi == 0 else False if lo > 0 or hi < 0 or _never_zero(difference) else None
        return equal if op == "==" or equal is None else not equal
    always = {"<": hi < 0, "<=": hi <= 0, ">": lo > 0, ">=": lo >= 0}[op]
    never = {"<": lo >= 0, "<=": lo > 0, ">": hi <= 0, ">=": hi < 0}[op]
    if always or never:
        return bool(always)
    return _by_cases(op, difference)


def _by_cases(op: str, difference: SizeLike) -> bool | None:
    """Compare with 0 a sum in which a minimum or maximum stands alone, by what it is at most, at least, or one of."""
    for monomial, c in _terms(difference):
        atom = monomial[0] if len(monomial) == 1 else None
        if not isinstance(atom, Quotient) or atom.op == "%":
            continue
        rest = difference - _normal({monomial: c})
        if atom.op == "//":
            # a // b lies between (a - b + 1) / b and a / b.
            if not isinstance(atom.b, int) or atom.b <= 0 or op not in ("<", "<=", ">", ">="):
                continue
            most, least = atom.b * rest + c * atom.a, atom.b * rest + c * (atom.a - atom.b + 1)
            if c < 0:
                most, least = least, most
            ends = (least, most) if op in (">", ">=") else (most, least)
            if compare(op, ends[0], 0) is True:
                return True
            if compare(op, ends[1], 0) is False:
                return False
            continue
        cases = [compare(op, rest + c * side, 0) for side in (atom.a, atom.b)]
        # c * min(a, b) with c < 0, and c * max(a, b) with c > 0, is the larger of its cases.
        larger = (atom.op == "max") == (c > 0)
        enough = {">": larger, ">=": larger, "<": not larger, "<=": not larger}[op]
        if cases == [True, True] or (enough and True in cases):
            return True
        if cases == [False, False] or (not enough and False in cases):
            return False
    return None


def _never_zero(value: SizeLike) -> bool:
    """Return whether the coefficients have a common divisor that does not divide the constant."""
    terms = dict(_terms(value))
    constant = terms.pop((), 0)
    return bool(terms) and constant % math.gcd(*terms.values()) != 0


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
