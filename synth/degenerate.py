"""Calls that are degenerate whatever the sizes: read from the bodies of the definitions.

A call computes nothing if it gives back its operand (``ceil`` of integers), if it reads none (``full_like``), or if it has one
value on all finite numbers in general position (``isnan``; whether two reals are equal).  Such signatures stay out of drawn
programs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import attrs

from ..ir import DrtError, OpDef, evaluate, present_key
from ..ir import expr as ex
from ..ir.opdef import Expand, Scalar
from ..ir.typesys import is_float
from .calls import Signature

#: Points in general position at which a body is evaluated.
_POINTS = 300

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isnan": lambda x: False, "isinf": lambda x: False, "isfinite": lambda x: True,
    "max": max, "min": min, "abs": abs, "sign": lambda x: (x > 0) - (x < 0), "where": lambda c, a, b: a if c else b,
    "floor": math.floor, "ceil": math.ceil, "round": round, "trunc": math.trunc, "exp": math.exp, "tanh": math.tanh,
    "sqrt": math.sqrt, "log": math.log, "bit_and": lambda a, b: a & b, "bit_or": lambda a, b: a | b,
    "bit_xor": lambda a, b: a ^ b, "copysign": math.copysign,
}  # fmt: skip
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b, "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "and": lambda a, b: bool(a) and bool(b), "or": lambda a, b: bool(a) or bool(b),
}  # fmt: skip


@attrs.frozen
class Refusal:
    """Why a judge takes no form of a program.

    Attributes:
        reason: such as ``constant``.
        node: the number of the node that is to blame, in the program's graph; None where none is.
    """

    reason: str
    node: int | None = None


class _UnknownError(Exception):
    """A body has a part that is not evaluated here."""


def degenerate_call(op: OpDef, signature: Signature) -> str:
    """Return why every call of an operator with these dtypes and ranks is degenerate, or ``""``.

    Returns:
        ``constant`` or ``changes nothing``, as of whole programs.
    """
    if not op.operands:
        return ""
    if isinstance(op.body, Expand):
        read = set().union(*(ex.names(e) for _, e in op.body.statements))
        return "" if read & {p.name for p in op.operands} else "constant"
    if not isinstance(op.body, Scalar):
        return ""
    given = tuple(o is not None for o in signature.operands)
    found = _scalar_reason(op, signature.dtypes, given)
    if found == "changes nothing":
        # Broadcasting against another operand, and another dtype, are changes.
        same = [o for o in signature.operands if o is not None]
        return found if len(same) == 1 and same[0] == signature.results[0] else ""
    return found


@cache
def _scalar_reason(op: OpDef, dtypes: tuple[tuple[str, str], ...], given: tuple[bool, ...]) -> str:
    assert isinstance(op.body, Scalar)
    known = dict(dtypes)
    rng = random.Random(0)
    operands = [p for p, g in zip(op.operands, given, strict=True) if g]
    seen: set[Any] = set()
    same = True
    try:
        for _ in range(_POINTS):
            env: dict[str, Any] = dict(known)
            env |= {present_key(p.name): g for p, g in zip(op.operands, given, strict=True)}
            for p in operands:
                env[p.name] = _point(known.get(p.dtype, p.dtype), rng)
            for a in op.attributes:
                if a.kind != "dtype":
                    env[a.name] = _Absent
            values = tuple(_value(e, env) for _, e in op.body.exprs)
            seen.add(values)
            same = same and len(operands) == 1 and values[0] == env[operands[0].name]
    except (_UnknownError, DrtError, ArithmeticError, LookupError, TypeError, ValueError):
        return ""
    return "constant" if len(seen) == 1 else "changes nothing" if same else ""


class _Absent:
    """Stands for an attribute, whose value is drawn later."""


def _point(dtype: str, rng: random.Random) -> Any:
    if dtype == "bool":
        return rng.random() < 0.5
    return rng.gauss(0, 2) if is_float(dtype) else rng.randint(-4, 7)


def _value(e: ex.Expr, env: Mapping[str, Any]) -> Any:
    match e:
        case ex.Num(v):
            return v
        case ex.Sym(n):
            if env.get(n, _Absent) is _Absent:
                raise _UnknownError
            return env[n]
        case ex.Bin(op, a, b):
            return _OPERATORS[op](_value(a, env), _value(b, env))
        case ex.Unary(op, a):
            return (not _value(a, env)) if op == "not" else -_value(a, env)
        case ex.Cond(test, a, b):
            truth = evaluate(test, {k: v for k, v in env.items() if v is not _Absent})
            if not isinstance(truth, bool):
                raise _UnknownError
            return _value(a if truth else b, env)
        case ex.Call("cast", (a, ex.Sym(to)), ()):
            value, dtype = _value(a, env), str(env.get(to, to))
            return bool(value) if dtype == "bool" else float(value) if is_float(dtype) else int(value)
        case ex.Call(fn, args, ()) if fn in _FUNCTIONS:
            return _FUNCTIONS[fn](*(_value(a, env) for a in args))
    raise _UnknownError


__all__ = ["Refusal", "degenerate_call"]
