"""Integers that operands must avoid: divisors that are zero, negative shifts.

They are read from the bodies of the definitions: an integer operand on which a body has no value for some numbers must avoid
them.  What a definition bounds by a ``range`` clause is not told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..ir import OpDef, present_key
from ..ir import expr as ex
from ..ir.opdef import Scalar
from ..ir.typesys import DTYPE_CLASSES

_INTEGER: dict[str, Callable[..., Any]] = {
    "shift_left": lambda a, b: a << b,
    "shift_right": lambda a, b: a >> b,
    "max": max, "min": min, "abs": abs, "where": lambda c, a, b: a if c else b,
    "bit_and": lambda a, b: a & b, "bit_or": lambda a, b: a | b, "bit_xor": lambda a, b: a ^ b,
    "sign": lambda a: (a > 0) - (a < 0), "fmod": lambda a, b: a - b * int(a / b), "trunc": int, "square": lambda a: a * a,
}  # fmt: skip


def partial_operands(op: OpDef) -> dict[str, str]:
    """Return the operands of a scalar operator on integers that may not have every value.

    Returns:
        Name -> ``"positive"`` where every number above zero has a value, for operands that fail at zero or below.
    """
    if not isinstance(op.body, Scalar):
        return {}
    if not any(op.dtypes.get(p.dtype, frozenset((p.dtype,))) & DTYPE_CLASSES["int"] for p in op.operands):
        return {}
    names = [p.name for p in op.operands]
    bad: dict[str, set[int]] = {}
    for name in names:
        for v in (-2, -1, 0, 1, 2):
            env: dict[str, Any] = dict.fromkeys(names, 3) | {a.name: 1 for a in op.attributes}
            env |= {present_key(n): True for n in names}
            env[name] = v
            for _, e in op.body.exprs:
                try:
                    value = _integer(e, env)
                except (ZeroDivisionError, ValueError, OverflowError):
                    bad.setdefault(name, set()).add(v)
                    continue
                except (KeyError, TypeError):
                    continue  # a function of floats alone
                # An integer power with a negative exponent has no integer value.
                if isinstance(value, float) and not isinstance(e, ex.Call) and not float(value).is_integer():
                    bad.setdefault(name, set()).add(v)
    return {n: "positive" for n, values in bad.items() if not values & {1, 2}}


def _integer(e: ex.Expr, env: Mapping[str, Any]) -> Any:
    """Return the value of a scalar expression in Python's integers."""
    match e:
        case ex.Num(v):
            return v
        case ex.Sym(n):
            return env[n]
        case ex.Bin(op, a, b):
            x, y = _integer(a, env), _integer(b, env)
            return {
                "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y, "//": lambda: x // y,
                "%": lambda: x % y, "**": lambda: x**y, "==": lambda: x == y, "!=": lambda: x != y, "<": lambda: x < y,
                "<=": lambda: x <= y, ">": lambda: x > y, ">=": lambda: x >= y, "and": lambda: x and y,
                "or": lambda: x or y,
            }[op]()  # fmt: skip
        case ex.Unary("not", a):
            return not _integer(a, env)
        case ex.Unary(_, a):
            return -_integer(a, env)
        case ex.Cond(test, a, b):
            return _integer(a if _integer(test, env) else b, env)
        case ex.Call("is_float", _, ()):
            return False
        case ex.Call("is_int", _, ()):
            return True
        case ex.Call(fn, args, ()) if fn in _INTEGER:
            return _INTEGER[fn](*(_integer(a, env) for a in args))
    raise TypeError(e)


__all__ = ["partial_operands"]
