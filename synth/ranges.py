"""Values that operands must have: indices that lie inside an axis, divisors that are not zero.

Both are read from the bodies of the definitions.  An operand that stands inside the coordinates of a load is an index into the
axis that the coordinate runs over.  An integer operand on which a body has no value for some numbers (a division by zero, a
negative shift) must avoid them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..ir import OpDef, OpSet, present_key
from ..ir import expr as ex
from ..ir.opdef import Expand, Index, Scalar
from ..ir.typesys import DTYPE_CLASSES

#: How an index operand is bounded: the operand that it indexes and which coordinate of the load it is in; or, where it is
#: compared with a coordinate, the extent of that coordinate.
Bound = tuple[str, Any]


def index_operands(op: OpDef, ops: OpSet) -> dict[str, list[Bound]]:
    """Return the operands of ``op`` whose elements select positions, with what bounds them."""
    found: dict[str, list[Bound]] = {}
    tensors = {p.name for p in op.operands}
    match op.body:
        case Index(_, coordinates, e):
            for load in _loads(e):
                for place, inner in _selectors(load, tensors):
                    found.setdefault(inner, []).append((load.name, place))
            result = op.results[0]
            for name, k in _compared(e, tensors):
                names = [c.name for c in coordinates if isinstance(c, (ex.Sym, ex.Pack))]
                if k in names and len(names) == len(result.shape):
                    found.setdefault(name, []).append(("", result.shape[names.index(k)]))
        case Expand(statements):
            integers = {p.name for p in op.operands if op.dtypes.get(p.dtype, {p.dtype}) <= DTYPE_CLASSES["int"]}
            origin = {n: {n} for n in tensors}  # which operands each local is made of
            for local, e in statements:
                for call in _calls(e):
                    inner_op = ops.get(call.fn)
                    if inner_op is None:
                        continue
                    selecting = index_operands(inner_op, ops)
                    for p, a in zip(inner_op.operands, call.args):
                        if p.name in selecting:
                            made_of = set().union(*(origin.get(n, set()) for n in ex.names(a)))
                            for name in made_of & integers:
                                found.setdefault(name, []).append(("", None))
                origin[local] = set().union(*(origin.get(n, set()) for n in ex.names(e)))
    return found


def _loads(e: ex.Expr) -> Iterator[ex.Load]:
    if isinstance(e, ex.Load):
        yield e
    for c in ex.children(e):
        yield from _loads(c)


def _calls(e: ex.Expr) -> Iterator[ex.Call]:
    if isinstance(e, ex.Call):
        yield e
    for c in ex.children(e):
        yield from _calls(c)


def _selectors(load: ex.Load, tensors: set[str]) -> Iterator[tuple[Any, str]]:
    """Yield ``(coordinate, operand)`` for operands that stand in the coordinates of a load."""
    if load.name not in tensors:
        return
    for place, item in enumerate(load.index):
        inner = {i.name for i in _loads(item) if i.name in tensors} | (ex.names(item) & tensors)
        for name in inner:
            match item:
                case ex.Call("set", (_, axis, _), ()):
                    yield axis, name
                case _:
                    yield place, name


def _compared(e: ex.Expr, tensors: set[str]) -> Iterator[tuple[str, str]]:
    """Yield ``(operand, coordinate)`` for loads that are compared with a coordinate."""
    if isinstance(e, ex.Bin) and e.op == "==":
        for a, b in ((e.a, e.b), (e.b, e.a)):
            if isinstance(a, ex.Load) and a.name in tensors and isinstance(b, ex.Sym):
                yield a.name, b.name
    for c in ex.children(e):
        yield from _compared(c, tensors)


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


def limit_of(op: OpDef, bound: Bound, env: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many values an index operand may take (``0..limit-1``) in one call.

    Args:
        op: the definition.
        bound: from :func:`index_operands`.
        env: what inference says of the call.
        shapes: the shape of each operand by name.
    """
    from ..ir import evaluate

    source, place = bound
    if not source:
        if place is None:  # through a composite: every axis of every operand is a safe bound
            return min((s for shape in shapes.values() for s in shape), default=1)
        value = evaluate(place, env)
        return int(value)
    shape = shapes[source]
    if isinstance(place, int):
        before = op.operand(source).shape[:place]
        return shape[place] if all(isinstance(d, ex.Sym) for d in before) else min(shape, default=1)
    return shape[int(evaluate(place, env))]


__all__ = ["Bound", "index_operands", "limit_of", "math", "partial_operands"]
