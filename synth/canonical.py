"""One form for programs that are equal up to names, order and swapped operands: depth first from the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ir import OpDef, OpSet
from ..ir import expr as ex
from ..ir.graph import Literal
from ..ir.opdef import Scalar

_COMMUTATIVE = frozenset(("+", "*", "==", "!=", "and", "or"))
_SYMMETRIC = frozenset(("max", "min", "bit_and", "bit_or", "bit_xor"))
_KNOWN: dict[str, tuple[OpDef, bool]] = {}


def commutes(op: OpDef) -> bool:
    """Return whether swapping the two operands of ``op`` provably changes nothing: its scalar body is symmetric."""
    found = _KNOWN.get(op.name)
    if found is None or found[0] is not op:
        found = _KNOWN[op.name] = (op, _symmetric(op))
    return found[1]


def _symmetric(op: OpDef) -> bool:
    if not isinstance(op.body, Scalar) or len(op.operands) != 2 or op.operands[0].dtype != op.operands[1].dtype:
        return False
    a, b = (p.name for p in op.operands)
    return all(_normal(e, {}) == _normal(e, {a: b, b: a}) for _, e in op.body.exprs)


def _normal(e: ex.Expr, swap: Mapping[str, str]) -> Any:
    """Return ``e`` as nested tuples with commutative arguments sorted and names swapped."""
    match e:
        case ex.Sym(n):
            return ("name", swap.get(n, n))
        case ex.Bin(op, a, b) if op in _COMMUTATIVE:
            return (op, *sorted((_normal(a, swap), _normal(b, swap)), key=repr))
        case ex.Call(fn, args, ()) if fn in _SYMMETRIC:
            return (fn, *sorted((_normal(a, swap) for a in args), key=repr))
        case ex.Num(v):
            return ("number", repr(v))
    head = tuple(getattr(e, f) for f in ("op", "fn", "combiner") if hasattr(e, f))
    return (type(e).__name__, head, *(_normal(c, swap) for c in ex.children(e)))


def canonical_order(
    labels: Sequence[Any], inputs: Mapping[int, Any], operands: Sequence[Sequence[Any]],
    sources: Sequence[tuple[int, int]], ops: OpSet,
) -> tuple[list[int], list[int], list[list[Any]]]:  # fmt: skip
    """Return nodes and inputs in the order of a depth-first walk from the outputs, and operands with ties sorted.

    Args:
        labels: of each node: operator, attributes, shapes.
        inputs: label of each graph input in use.
        operands: of each node: ``("n", node, result)``, ``("i", input)`` or a literal.
        sources: what fills the outputs.
        ops: the operators.
    """
    sorted_operands: list[list[Any]] = [list(r) for r in operands]
    if any(commutes(ops[label[0]]) for label in labels):
        keys: list[int] = []
        for n, label in enumerate(labels):
            below = [_key(r, keys, inputs) for r in operands[n]]
            if len(below) == 2 and commutes(ops[label[0]]) and below[0] != below[1]:
                # Python hashes of strings vary between runs, so the order is that of the texts.
                if below[0] > below[1]:
                    sorted_operands[n].reverse()
                    below.reverse()
            keys.append(_digest(repr((label, below))))
    order: list[int] = []
    input_order: dict[int, None] = {}
    seen: set[int] = set()

    def visit(n: int) -> None:
        seen.add(n)
        for r in sorted_operands[n]:
            if r.__class__ is Literal:
                continue
            if r[0] == "i":
                input_order.setdefault(r[1])
            elif r[1] not in seen:
                visit(r[1])
        order.append(n)

    for n, _ in sources:
        if n not in seen:
            visit(n)
    return order, list(input_order), sorted_operands


def _key(r: Any, keys: Sequence[int], inputs: Mapping[int, Any]) -> Any:
    if r.__class__ is Literal:
        return (0, repr(r.value), 0)
    if r[0] == "i":
        return (1, repr(inputs[r[1]]), 0)
    return (2, str(keys[r[1]]), r[2])


def _digest(text: str) -> int:
    from zlib import crc32

    return crc32(text.encode())
