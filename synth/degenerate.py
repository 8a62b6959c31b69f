"""Calls that are degenerate whatever the sizes and values: read from the bodies of the definitions.

A scalar body that is one of its operands (``ceil`` of integers), that reads none of them (``full_like``), or that asks whether
a finite number is finite (``isnan``) makes a node that computes nothing; such signatures stay out of drawn programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ir import DrtError, OpDef, evaluate
from ..ir import expr as ex
from ..ir.opdef import Expand, Scalar
from .calls import Signature

#: Predicates that have one value on all finite numbers.
_PREDICATES = frozenset({"isnan", "isinf", "isfinite"})


def degenerate_call(op: OpDef, signature: Signature) -> str:
    """Return why every call of an operator with these dtypes and ranks is degenerate, or ``""``.

    Returns:
        ``constant`` or ``changes nothing``, as of whole programs.
    """
    if isinstance(op.body, Expand) and op.operands:
        read = set().union(*(ex.names(e) for _, e in op.body.statements))
        return "" if read & {p.name for p in op.operands} else "constant"
    if not isinstance(op.body, Scalar) or not op.operands:
        return ""
    dtypes = dict(signature.dtypes)
    operands = {p.name: o for p, o in zip(op.operands, signature.operands, strict=True)}
    reasons = {
        _reason(_decided(e, dtypes), operands, result, dtypes)
        for (_, e), result in zip(op.body.exprs, signature.results, strict=True)
    }
    return reasons.pop() if len(reasons) == 1 else ""


def _reason(e: ex.Expr, operands: Mapping[str, Any], result: tuple[str, int], dtypes: Mapping[str, str]) -> str:
    match e:
        case ex.Sym(n) if n in operands:
            # Broadcasting against another operand, or another dtype, is a change.
            return "changes nothing" if operands[n] == result and _alone(operands) else ""
        case ex.Call("cast", (inner, ex.Sym(to)), ()) if dtypes.get(to, to) == result[0]:
            return _reason(inner, operands, result, dtypes)
        case ex.Call(fn, _, ()) if fn in _PREDICATES:
            return "constant"
    return "" if ex.names(e) & operands.keys() else "constant"


def _alone(operands: Mapping[str, Any]) -> bool:
    return sum(o is not None for o in operands.values()) == 1


def _decided(e: ex.Expr, dtypes: Mapping[str, str]) -> ex.Expr:
    """Return an expression without the conditions that dtypes decide."""
    while isinstance(e, ex.Cond):
        try:
            truth = evaluate(e.test, dict(dtypes))
        except (DrtError, KeyError, TypeError, ValueError):
            return e
        if not isinstance(truth, bool):
            return e
        e = e.a if truth else e.b
    return e


__all__ = ["degenerate_call"]
