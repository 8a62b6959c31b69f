"""One form for programs that are equal up to names, order and swapped operands: depth first from the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..ir import OpDef
from ..ir import expr as ex
from ..ir.opdef import Scalar

if TYPE_CHECKING:
    from .emit import Draft

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
    draft: Draft, types: Sequence[str], sources: Sequence[tuple[int, int]]
) -> tuple[list[int], list[int], list[list[Any]]]:
    """Return nodes and inputs in the order of a depth-first walk from the outputs, and operands with ties sorted.

    Args:
        draft: the program.
        types: the result types of each node, as text.
        sources: what fills the outputs.
    """
    operands = draft.operands
    keys: dict[int, int] = {}

    def key(r: Any) -> Any:
        # Python hashes of strings vary between runs, so the order is that of the texts.
        if r.__class__ is not tuple:
            return (0, repr(r.value), 0)
        if r[0] == "i":
            return (1, repr(draft.inputs[r[1]][:2]), 0)
        return (2, str(digest(r[1])), r[2])

    def digest(n: int) -> int:
        found = keys.get(n)
        if found is None:
            below = [key(r) for r in operands[n]]
            if len(below) == 2 and draft.sites[n].commutes and below[0] > below[1]:
                below.reverse()
            label = (draft.sites[n].name, [a[2] for a in draft.attributes[n]], types[n], below)
            found = keys[n] = crc32(repr(label).encode())
        return found

    out: list[list[Any]] = operands
    for n, site in enumerate(draft.sites):
        if site.commutes:
            pair = operands[n]
            if len(pair) == 2:
                a, b = pair
                first = _rank(a) - _rank(b)
                if first > 0 or (not first and key(a) > key(b)):
                    if out is operands:
                        out = list(operands)
                    out[n] = [b, a]
    order: list[int] = []
    input_order: dict[int, None] = {}
    seen: set[int] = set()

    def visit(n: int) -> None:
        seen.add(n)
        for r in out[n]:
            if r.__class__ is tuple:
                if r[0] == "i":
                    input_order.setdefault(r[1])
                elif r[1] not in seen:
                    visit(r[1])
        order.append(n)

    for n, _ in sources:
        if n not in seen:
            visit(n)
    return order, list(input_order), out


def _rank(r: Any) -> int:
    return 0 if r.__class__ is not tuple else 1 if r[0] == "i" else 2
