"""Sums of products, however a body says which of them there are."""

from __future__ import annotations

from . import expr as ex


def factors(e: ex.Expr) -> tuple[ex.Expr, ex.Expr] | None:
    """Return the two factors of each term where ``e`` is a sum of products, else None.

    A term that there is only under a condition, ``sum{k in K} where(test, a * b, 0)``, has the factors ``where(test, a, 0)``
    and ``b``: for finite numbers it is the same.

    >>> print(*map(ex.to_text, factors(ex.Fold("sum", (("k", ex.Sym("K")),), ex.Bin("*", ex.Sym("a"), ex.Sym("b"))))))
    a b
    """
    return _factors(e.body) if isinstance(e, ex.Fold) and e.combiner == "sum" else None


def _factors(e: ex.Expr) -> tuple[ex.Expr, ex.Expr] | None:
    match e:
        case ex.Bin("*", a, b):
            return a, b
        case ex.Call("where", (test, inner, ex.Num(0) as zero), _):
            found = _factors(inner)
            return found and (ex.Call("where", (test, found[0], zero)), found[1])
    return None


__all__ = ["factors"]
