"""The values that a program's inputs must have: the ``range`` clauses of its operators, read back to the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, Union

from .build import expand_graph, infer_node
from .evaluate import evaluate
from .graph import Graph, Node
from .infer import Inferred
from .load import builtin_ops
from .opdef import ORDERS, OpDef, OpSet, Scalar
from .passes import moves_elements
from .size import Size, maximum, minimum
from .typesys import TensorType, is_float

#: An end of a range; a size where the program has symbols.
End: TypeAlias = Union[int, float, Size]
#: Both ends, which belong to the range; an :class:`Ordered` where the elements are also in order.
Range: TypeAlias = "tuple[End, End]"


E = TypeVar("E", bound=End)


class Ordered(tuple[E, E]):
    """A range of elements that ascend along the last axis.

    Attributes:
        order: ``ascending``, or ``anchored`` where the first element is the lower end.
    """

    order: str

    def __new__(cls, lo: E, hi: E, order: str) -> Ordered[E]:
        """Return the range from ``lo`` to ``hi``."""
        made = super().__new__(cls, (lo, hi))
        made.order = order
        return made

    def __getnewargs__(self) -> Any:
        return self[0], self[1], self.order


def order_of(range_: Range | None) -> str:
    """Return one of :data:`drt.ir.opdef.ORDERS`: how the elements of a range stand along the last axis."""
    return range_.order if isinstance(range_, Ordered) else ""


def make_range(lo: E, hi: E, order: str = "") -> tuple[E, E]:
    """Return a range of elements in an order of :data:`drt.ir.opdef.ORDERS`."""
    return Ordered(lo, hi, order) if order else (lo, hi)


def call_ranges(op: OpDef, inferred: Inferred) -> dict[str, Range]:
    """Return the range of each operand of one call that has one, by the operand's name."""
    env = inferred.env
    return {r.operand: make_range(evaluate(r.lo, env), evaluate(r.hi, env), r.order) for r in op.ranges}


def node_ranges(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> dict[str, Range]:
    """Return the range of each value that ``node`` reads and that must be in one; a composite's own clauses alone."""
    op = ops.get(node.op)
    if op is None or not op.ranges:
        return {}
    operands = dict(zip([p.name for p in op.operands], node.operands, strict=False))
    found: dict[str, Range] = {}
    for name, range_ in call_ranges(op, infer_node(node, types, ops)).items():
        operand = operands.get(name)
        for value in operand if isinstance(operand, tuple) else (operand,):
            if isinstance(value, str):
                found[value] = _both(found.get(value), range_)
    return found


def input_ranges(graph: Graph, ops: OpSet | None = None) -> dict[str, Range]:
    """Return, for each input that needs one, the range in which its elements must lie for the program to have a meaning.

    A range is that of the operator which the elements reach unchanged, or after arithmetic on integers alone (an index
    that is first normalised).  Both ends are included.

    Args:
        graph: any valid graph.
        ops: the operators; None means the built-in ones.
    """
    ops = builtin_ops() if ops is None else ops
    flat = expand_graph(graph, ops, keep=lambda node: bool(ops[node.op].ranges))
    if not any(n.op in ops and ops[n.op].ranges for n in flat.nodes):
        return {}
    sources = {i.name: {i.name} for i in flat.inputs}
    found: dict[str, Range] = {}
    for node in flat.nodes:
        for value, range_ in node_ranges(node, flat.types, ops).items():
            for source in sources.get(value, ()):
                found[source] = _both(found.get(source), range_)
        for value in _same_values(node, flat.types, ops):
            if value in sources:
                sources.setdefault(node.results[0], set()).update(sources[value])
    return found


def _same_values(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> Iterator[str]:
    """Yield the operands whose elements are those of the result."""
    op = ops.get(node.op)
    uses = list(node.uses())
    if op is None or not uses:
        return
    if node.op == "cast" or moves_elements(op, ops):
        yield uses[0]
    elif node.op in ("cat", "stack"):
        yield from uses
    elif (
        len(uses) == 1
        and isinstance(op.body, Scalar)
        and not any(is_float(t.dtype) or t.dtype == "bool" for t in (types[uses[0]], node.types[0]))
    ):
        yield uses[0]


def _both(a: Range | None, b: Range) -> Range:
    if a is None:
        return b
    order = max(order_of(a), order_of(b), key=ORDERS.index)
    return make_range(_inner(a[0], b[0], True), _inner(a[1], b[1], False), order)


def _inner(a: End, b: End, lower: bool) -> End:
    """Return the tighter of two lower or of two upper ends."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, float) and (x == float("-inf") if lower else x == float("inf")):
            return y
    if isinstance(a, Size) or isinstance(b, Size):
        x, y = (a if isinstance(a, Size) else int(a)), (b if isinstance(b, Size) else int(b))
        return maximum(x, y) if lower else minimum(x, y)
    return max(a, b) if lower else min(a, b)


__all__ = ["End", "Ordered", "Range", "call_ranges", "input_ranges", "make_range", "node_ranges", "order_of"]
