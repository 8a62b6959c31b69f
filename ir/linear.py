"""Sizes as sums of terms: taken apart, put together, and solved for one symbol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .size import Size, SizeLike, Symbol, symbols_of


def split_terms(size: SizeLike) -> tuple[dict[Any, int], int]:
    """Return the terms without the constant, and the constant."""
    if isinstance(size, int):
        return {}, size
    terms = dict(size.terms)
    return {m: c for m, c in terms.items() if m}, terms.get((), 0)


def sum_terms(terms: Mapping[Any, int]) -> SizeLike:
    """Return the sum of terms, each a product of atoms with a coefficient."""
    total: SizeLike = 0
    for monomial, coefficient in terms.items():
        product: SizeLike = coefficient
        for atom in monomial:
            product = product * Size((((atom,), 1),))
        total = total + product
    return total


def solved_for(size: SizeLike, name: str) -> tuple[SizeLike, SizeLike] | None:
    """Return (factor, rest) with ``size == factor * name + rest``, neither speaking of ``name``; None where there are none."""
    factor: SizeLike = 0
    rest: SizeLike = 0
    for monomial, c in size.terms if isinstance(size, Size) else [((), size)]:
        own = [a for a in monomial if isinstance(a, Symbol) and a.name == name]
        others = [a for a in monomial if a not in own]
        if len(own) > 1 or name in {s.name for a in others for s in symbols_of(Size((((a,), 1),)))}:
            return None
        term = sum_terms({tuple(others): c})
        factor, rest = (factor + term, rest) if own else (factor, rest + term)
    return None if factor == 0 else (factor, rest)


def solve(size: SizeLike, name: str) -> int | None:
    """Return the value of the symbol ``name`` for which a size that is linear in it is 0; None where there is none."""
    terms, constant = split_terms(size)
    if len(terms) != 1:
        return None
    ((monomial, c),) = terms.items()
    symbol = monomial[0] if len(monomial) == 1 else None
    if not isinstance(symbol, Symbol) or symbol.name != name or constant % c:
        return None
    return -constant // c
