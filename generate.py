"""Generated programs and a back end: their reference source, and whether they compute something.

A program is *degenerate* if a learner or a benchmark could satisfy it without computing: a value that is the same for all
inputs, a node that gives back its operand, an output that does not depend on some input, a value that is not finite, one
whose variation is lost in the rounding of its own dtype, or one that depends on the order in which equal elements were sorted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import count, product
from typing import TYPE_CHECKING, Any

import attrs

from .ir import Graph, Node, OpDef, builtin_ops, expand_graph, make_range, order_of
from .ir import expr as ex
from .ir.effects import operators_through
from .ir.intrinsics import INTRINSICS
from .ir.opdef import Body, Hook, Index, Opaque, Reduce, Scalar
from .ir.typesys import INTEGER_RANGES, is_float
from .synth import Program, Refusal

if TYPE_CHECKING:
    from .probe import Finding, Law

Range = tuple[float, float]
_POSITIVE: Range = (0.25, 2.0)
#: Integers are drawn from it unless something else is said, unsigned ones from its upper half.
_INTEGERS: Range = (-4, 7)
#: Ranges of floating-point and of integer inputs, and shares of true booleans, in the order in which they are tried; None is
#: the common law.
_LAWS: tuple[tuple[Range | None, Range | None, float | None], ...] = (
    (None, None, None), (_POSITIVE, None, None), ((0.125, 0.875), None, None), ((1.125, 3.0), None, None), (None, (0, 1), 0.1),
    (_POSITIVE, (0, 1), 0.9), (None, (-999, 999), 0.01), (_POSITIVE, (1, 40), 0.99),
)  # fmt: skip
#: A range of positive numbers whose ends are so many times apart is narrowed to numbers near 1: scales of a quantizer.
_WIDE = 100
#: What other inputs may mend.
_TIES = "order of equal elements"
_LAW_MATTERS = frozenset({"not finite", "out of scale", "constant", "changes nothing", _TIES})
#: Orders of equal elements that are tried, the reverse one first.
_ORDERS = 4
#: Units in the last place of float64 by which another order of operations may move one result.
_UNITS = 16
#: Combiners that round.
_SUMS = frozenset({"sum", "prod"})


def reference_source(program: Program) -> str:
    """Return a generated program as PyTorch source that a person would write; importable by name for worker processes."""
    from .backend.to_torch import to_source

    return to_source(program.graph, ranges=program.ranges)


def judge(program: Program, seed: int = 0) -> Program | Refusal:
    """Return a program that is sound, with the ranges that its inputs need, or why there are none.

    Normal inputs are tried first, then those inside the domains of logarithms, roots and arc functions, integers near zero
    and far from it, and masks of few and of many elements.  Importable by name for worker processes.
    """
    from .backend.threads import one_thread

    # One order of additions, too: with several threads what is near a bound is judged so or so.
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's opinions of the shapes of losses
        ranges, found = _ranges_for(program, seed)
    if found is not None:
        return Refusal(found.reason, found.node)
    return program if ranges == program.ranges else attrs.evolve(program, ranges=ranges)


def _ranges_for(program: Program, seed: int) -> tuple[Mapping[str, Range], Finding | None]:
    """Return ranges of the inputs at which a program is sound, or some with what is wrong there and no others mend.

    Nodes are looked at in order.  Where one computes nothing, the inputs behind it get other ranges, all of them the same or
    those alone that it reads itself, at which it does and so do the nodes before it.
    """
    from .probe import FAILS, FAILURES, Finding, Law, Probe

    probe = Probe(program.graph, seed * 0x9E3779B1 + program.index)
    types, given = program.graph.types, dict(program.ranges)
    law = Law(probe, {i.name: _within(given.get(i.name), i.type.dtype, *_LAWS[0]) for i in program.graph.inputs})
    reached = -1
    while True:
        try:
            found = law.finding() or _open(program.graph, law)
        except FAILURES:
            found = Finding(FAILS, probe.running)
        k = None if found is None else found.node
        if k is None or k <= reached or found is None or found.reason not in _LAW_MATTERS:
            return {n: r for n, r in law.ranges.items() if r is not None}, found
        reached = k
        behind, own = probe.calls[k].inputs, frozenset(probe.calls[k].uses) & probe.calls[k].inputs
        seen = [tuple(law.ranges.get(i) for i in sorted(behind))]
        for names, laws in product((behind, own) if own and own != behind else (behind,), _LAWS):
            ranges = {**law.ranges} | {i: _within(given.get(i), types[i].dtype, *laws) for i in names}
            tried = tuple(ranges.get(i) for i in sorted(behind))
            if tried in seen:
                continue
            seen.append(tried)
            other = Law(probe, ranges, law)
            try:
                if other.is_sound_until(k) and (found.reason != _TIES or _open(program.graph, other) is None):
                    law = other
                    break
            except FAILURES:
                continue
        else:
            return given, found


def _open(graph: Graph, law: Law) -> Finding | None:
    """Return the finding that the order of equal elements decides, or None."""
    if not any(n.op in _sorts() for n in graph.nodes):
        return None
    from .probe import Finding

    if not depends_on_ties(graph, law.given(0)):
        return None
    return Finding(_TIES, next(k for k, n in enumerate(graph.nodes) if n.op in _sorts()))


def _within(
    given: Range | None, dtype: str, floats: Range | None, integers: Range | None, masks: float | None
) -> Range | None:
    """Return the range of an input with a law put inside the one that it must have."""
    if dtype == "bool":
        return given if masks is None else (0.0, masks)
    low, high = given or (-math.inf, math.inf)
    if is_float(dtype):
        law = _POSITIVE if floats is None and low > 0 and high > _WIDE * low else floats
    else:
        law = integers or (None if given else _INTEGERS)
        low, high = max(low, INTEGER_RANGES[dtype][0]), min(high, INTEGER_RANGES[dtype][1])
    if law is not None and max(low, law[0]) < min(high, law[1]):
        return make_range(max(low, law[0]), min(high, law[1]), order_of(given))
    return given


def degeneracy(program: Program, seed: int = 0) -> str:
    """Return why a program is degenerate, by running it in float64 on random inputs; importable by name for worker processes.

    Args:
        program: with at most a few million elements.
        seed: of the inputs, with the program's number.

    Returns:
        ``""`` for a sound program, or one of ``constant``, ``changes nothing``, ``ignores an input`` (all up to the rounding
        of the dtype), ``not finite``, ``out of scale``, ``order of equal elements``, and ``does not run``.
    """
    from .probe import FAILS, FAILURES, Law, Probe

    probe, found = Probe(program.graph, seed * 0x9E3779B1 + program.index), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's opinions of the shapes of losses
        try:
            law = Law(probe, program.ranges)
            found = law.finding() or _open(program.graph, law)
        except FAILURES:
            return FAILS
    return "" if found is None else found.reason


def depends_on_ties(graph: Graph, inputs: Mapping[str, Any]) -> bool:
    """Return whether outputs depend on the order of equal elements, which sorts that are not ``stable`` leave open.

    A definition says so by its attribute ``stable``; whatever consists of such a sort (``topk``, ``mode``) is asked with it.

    Args:
        graph: static.
        inputs: by name, float64, integers or booleans.
    """
    if not any(n.op in _sorts() for n in graph.nodes):
        return False
    import torch

    from .probe import differ

    # What has no sort inside is run as a whole, by PyTorch's own kernels.
    flat = expand_graph(graph, builtin_ops(), keep=lambda node: node.op not in _sorts())
    generator = torch.Generator().manual_seed(0)
    first = _values(flat, inputs, mode="torch")
    tied = {n.results for n in flat.nodes if _is_open(n) and _has_ties(first[str(n.operands[0])], _axis(n))}
    if not tied:
        return False
    for n in range(_ORDERS):

        def order(k: int, reverse: bool = n == 0) -> Any:
            return torch.arange(k).flip(0) if reverse else torch.randperm(k, generator=generator)

        # Only what stands behind equal elements can be another.
        changed: set[str] = set()
        again = []
        for node in flat.nodes:
            if node.results in tied or not changed.isdisjoint(node.uses()):
                changed.update(node.results)
                again.append(node)
        other = _values(attrs.evolve(flat, nodes=tuple(again)), first, order, mode="torch", types=flat.types)
        if any(differ(first[o], other[o], flat.types[o].dtype) for o in map(str, flat.outputs)):
            return True
    return False


def _is_open(node: Node) -> bool:
    """Return whether a node is a sort that leaves the order of equal elements open."""
    return _leaves_order_open(builtin_ops()[node.op]) and not node.attributes["stable"]


def _axis(node: Node) -> int:
    axis = node.attributes["axis"]
    assert isinstance(axis, int)
    return axis


def _has_ties(values: Any, axis: int) -> bool:
    """Return whether a sort along an axis meets equal elements; those that are no numbers are equal."""
    if not values.dim() or values.shape[axis] < 2:
        return False
    ordered = values.sort(axis).values
    low, high = ordered.narrow(axis, 0, values.shape[axis] - 1), ordered.narrow(axis, 1, values.shape[axis] - 1)
    return bool(((low == high) | ((low != low) & (high != high))).any())


@cache
def _sorts() -> frozenset[str]:
    """Return the names of the operators that sort, by themselves or through what they consist of."""
    return operators_through(builtin_ops(), _leaves_order_open)


def _leaves_order_open(op: OpDef) -> bool:
    return isinstance(op.body, Hook) and any(a.name == "stable" for a in op.attributes)


def other_roundings(graph: Graph, inputs: Mapping[str, Any], seed: int = 0, dtype: str = "f64") -> Iterator[list[Any]]:
    """Yield, without end, the outputs that a program may have where other roundings decide among its values.

    Every value that arithmetic has rounded is moved by a few units in its last place.  What only moves, selects or compares
    stays exact, so that the definitions go on to decide between elements that are equal before any rounding.  Which of several
    elements that are no numbers has its position told is another one each time, the last one first.  So is the sign of zeros:
    PyTorch's kernels give the one or the other by how many elements there are.

    Args:
        graph: static.
        inputs: by name, float64, integers or booleans.
        seed: of the roundings.
        dtype: in which it is rounded.
    """
    import torch

    from .probe import EPSILON

    flat = expand_graph(graph, builtin_ops())
    generator = torch.Generator().manual_seed(seed)

    def moved(value: Any, is_rounded: bool) -> Any:
        if not value.dtype.is_floating_point:
            return value
        unit = torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return torch.where(value == 0, unit * 0, value * (1 + _UNITS * EPSILON[dtype] * unit) if is_rounded else value)

    for n in count():

        def ordered(value: Any, n: int = n) -> Any:
            k = value.numel()
            place = torch.arange(k) if n < 2 else torch.randperm(k, generator=generator)
            beyond = 1e300 * (1 + place.double().view(value.shape) / k)
            return torch.where(value.isnan(), -beyond if n % 2 else beyond, value)

        values = _values(flat, inputs, rounded=moved, ordered=ordered)
        yield [_pick(o, values) for o in flat.outputs]


@cache
def _rounding() -> frozenset[str]:
    """Return the names of the operators without an expansion whose results are rounded."""
    return frozenset(n for n, op in builtin_ops().items() if _rounds(op.body))


def _rounds(body: Body) -> bool:
    match body:
        case Scalar(exprs):
            return any(_computes(e) for _, e in exprs)
        case Reduce(_, combiner, e, _):
            return combiner in _SUMS or _computes(e)
        case Index(_, _, e):
            return _computes(e)
    return isinstance(body, Opaque)


def _computes(e: ex.Expr) -> bool:
    """Return whether an expression computes with elements: its functions are issued at full rate where they only select."""
    match e:
        case ex.Bin(op, _, _) if op in ("+", "-", "*", "/", "//", "%", "**"):
            return True
        case ex.Call(fn, _, _) if fn in INTRINSICS and INTRINSICS[fn].flops > 1:
            return True
        case ex.Fold(combiner, _, _) if combiner in _SUMS:
            return True
        case ex.Load():  # arithmetic on coordinates
            return False
    return any(map(_computes, ex.children(e)))


def _values(
    flat: Graph, inputs: Mapping[str, Any], order: Callable[[int], Any] | None = None,
    rounded: Callable[[Any, bool], Any] | None = None, mode: str = "definition", types: Mapping[str, Any] | None = None,
    ordered: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the values of a graph.

    Args:
        flat: without composite operators that sort.
        inputs: by name; values of nodes that are not in the graph, too.
        order: the order, for its extent, in which sorts that leave the order of equal elements open meet their operand.
        rounded: what becomes of results, and whether these are rounded.
        mode: of the oracle; sorts are run by their definition.
        types: of all values; None means those of the graph.
        ordered: numbers in the place of elements that are none, where positions of elements are asked for.
    """
    from .backend.oracle import Oracle

    ops = builtin_ops()
    oracle, sorting = Oracle(mode=mode), Oracle()
    types = flat.types if types is None else types
    values = dict(inputs)
    for node in flat.nodes:
        op = ops[node.op]
        opened = order is not None and _is_open(node) and values[str(node.operands[0])].dim() > 0
        run = (sorting if _leaves_order_open(op) else oracle).prepare(node, types)
        if opened and order is not None:
            operand, axis = str(node.operands[0]), _axis(node)
            places = order(values[operand].shape[axis])
            found = [places[r] for r in run({**values, operand: values[operand].index_select(axis, places)})]
        else:
            found = run(values)
        if ordered is not None and (unknown := _without_order(node, types, values)):
            again = run({**values, **{u: ordered(values[u]) for u in unknown}})
            found = [v if is_float(t.dtype) else w for t, v, w in zip(node.types, found, again, strict=True)]
        if rounded is not None:
            found = [rounded(v, node.op in _rounding()) for v in found]
        values.update(zip(node.results, found, strict=True))
    return values


def _without_order(node: Node, types: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Return the operands with elements that are no numbers, of a node that makes integers of what they are."""
    if not any(t.dtype != "bool" and not is_float(t.dtype) for t in node.types):
        return []
    return [u for u in dict.fromkeys(node.uses()) if is_float(types[u].dtype) and bool(values[u].isnan().any())]


def _pick(operand: Any, table: Mapping[str, Any]) -> Any:
    if isinstance(operand, str):
        return table[operand]
    return tuple(_pick(o, table) for o in operand) if isinstance(operand, tuple) else operand


def input_values(graph: Graph, ranges: Mapping[str, tuple[float, float]], name: str, generator: Any) -> Any:
    """Return random values that fit an input of a generated program, as a tensor of the input's type.

    Args:
        graph: the program.
        ranges: of the inputs that are bounded or in order; both ends belong to a range.
        name: of the input.
        generator: PyTorch's.
    """
    import torch

    from .backend.tensors import in_order
    from .probe import fitted

    t = graph.input(name).type
    draw = torch.randn if is_float(t.dtype) else torch.rand
    value = fitted(draw(t.shape, generator=generator, dtype=torch.float64), t.dtype, ranges.get(name))
    return in_order(value, ranges.get(name))
