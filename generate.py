"""Generated programs and a back end: their reference source, and whether they compute something.

A program is *degenerate* if a learner or a benchmark could satisfy it without computing: a value that is the same for all
inputs, a node that gives back its operand, an output that does not depend on some input, one that is mostly not finite, one
whose variation is lost in the rounding of its own dtype, or one that depends on the order in which equal elements were sorted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import attrs

from .ir import DrtError, Graph, Inferred, Node, OpDef, builtin_ops, expand_graph, infer, make_range, order_of
from .ir import expr as ex
from .ir.effects import operators_through
from .ir.intrinsics import INTRINSICS
from .ir.opdef import Body, Hook, Index, Opaque, Reduce, Scalar
from .ir.typesys import is_float
from .synth import Program

#: Machine epsilon and largest finite number of the floating-point types.
_EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}
_LARGEST = {"f64": 1.7e308, "f32": 3.4e38, "bf16": 3.3e38, "f16": 65504.0}
#: Largest element that an output may have at least, and at most: beyond, squares of it leave the range of float32.
_SMALL, _LARGE = 1e-12, 1e12
#: Least share of an output's elements that are finite.
_FINITE = 0.5
Range = tuple[float, float]
_POSITIVE: Range = (0.25, 2.0)
#: Ranges of floating-point and of integer inputs, in the order in which they are tried; None is the common law.
_LAWS: tuple[tuple[Range | None, Range | None], ...] = (
    (None, None), (_POSITIVE, None), ((0.125, 0.875), None), ((1.125, 3.0), None), (None, (0, 1)), (_POSITIVE, (0, 1)),
)  # fmt: skip
#: A range of positive numbers whose ends are so many times apart is narrowed to numbers near 1: scales of a quantizer.
_WIDE = 100
#: What other inputs may mend.
_LAW_MATTERS = frozenset({"not finite", "out of scale", "constant", "changes nothing"})
_FAILS = "does not run"
_TIES = "order of equal elements"
#: Orders of equal elements that are tried, the reverse one first.
_ORDERS = 4
#: Units in the last place of float64 by which another order of operations may move one result.
_UNITS = 16
#: Combiners that round.
_SUMS = frozenset({"sum", "prod"})
#: Draws of the inputs before two values count as always equal.
_DRAWS = 4


def reference_source(program: Program) -> str:
    """Return a generated program as PyTorch source that a person would write; importable by name for worker processes."""
    from .backend.to_torch import to_source

    return to_source(program.graph, ranges=program.ranges)


def judge(program: Program, seed: int = 0) -> Program | str:
    """Return a program that is sound, with the ranges that its inputs need, or why there are none.

    Normal inputs are tried first, then those inside the domains of logarithms, roots and arc functions, and integers
    near zero.  Importable by name for worker processes.
    """
    reason = ""
    tried: set[tuple[Any, ...]] = set()
    for law in _LAWS:
        ranges = _ranges(program, *law)
        key = tuple(sorted(ranges.items()))
        if key in tried:
            continue
        tried.add(key)
        bounded = attrs.evolve(program, ranges=ranges)
        found = degeneracy(bounded, seed)
        if not found:
            return bounded
        reason = reason or found
        if found not in _LAW_MATTERS:
            break
    return reason


def _ranges(program: Program, floats: Range | None, integers: Range | None) -> dict[str, Range]:
    """Return the ranges of a program's inputs with laws put inside them."""
    ranges: dict[str, Range] = dict(program.ranges)
    for i in program.graph.inputs:
        law = floats if is_float(i.type.dtype) else integers if i.type.dtype != "bool" else None
        low, high = ranges.get(i.name, (-math.inf, math.inf))
        if is_float(i.type.dtype) and low > 0 and high > _WIDE * low:
            law = law or _POSITIVE
        if law is not None and max(low, law[0]) < min(high, law[1]):
            ranges[i.name] = make_range(max(low, law[0]), min(high, law[1]), order_of(ranges.get(i.name)))
    return ranges


def degeneracy(program: Program, seed: int = 0) -> str:
    """Return why a program is degenerate, by running it in float64 on random inputs; importable by name for worker processes.

    Args:
        program: with at most a few million elements.
        seed: of the inputs, with the program's number.

    Returns:
        ``""`` for a sound program, or one of ``constant``, ``changes nothing``, ``ignores an input`` (all up to the rounding
        of the dtype), ``not finite``, ``out of scale``, ``order of equal elements``, and ``does not run``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's opinions of the shapes of losses
        try:
            return _Probe(program, seed).reason()
        except (DrtError, RuntimeError, ArithmeticError, ValueError, IndexError, TypeError):
            return _FAILS


@attrs.frozen
class _Call:
    """A node with what does not change from run to run."""

    node: Node
    op: OpDef
    types: tuple[Any, ...]
    inferred: Inferred


class _Probe:
    """Runs one program on several draws of its inputs, whole or behind one input."""

    def __init__(self, program: Program, seed: int) -> None:
        import torch

        from .backend.oracle import Oracle

        self.program, self.graph = program, program.graph
        self.types = self.graph.types
        # PyTorch's own kernels: the definitions' bodies say the same, slower.
        self.oracle = Oracle(mode="torch")
        self.generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + program.index) % 2**63)
        ops = builtin_ops()
        self.calls = []
        for node in self.graph.nodes:
            types = tuple(_pick(o, self.types) for o in node.operands)
            self.calls.append(_Call(node, ops[node.op], types, infer(ops[node.op], types, node.attributes)))
        self.draws: list[dict[str, Any]] = []
        self.done: list[int] = []  # nodes that have run on each draw

    def reason(self) -> str:
        """Return why the program is degenerate, or ``""``."""
        found = self._values() or self._outputs() or self._inputs()
        if not found and self._depends_on_ties():
            found = _TIES
        if not found and any(i.type.dtype == "bool" for i in self.graph.inputs):
            # As many elements picked as there can be must be there.
            self.draw(len(self.draws), masks=1.0)
        return found

    def draw(self, n: int, until: int | None = None, masks: float = 0.5) -> dict[str, Any]:
        """Return the values on draw ``n`` of the inputs: of all nodes, or of those before number ``until``.

        ``masks`` is the share of booleans that are true.
        """
        while len(self.draws) <= n:
            values = {
                i.name: input_values(self.graph, self.program.ranges, i.name, self.generator, masks)
                for i in self.graph.inputs
            }
            self.draws.append({k: v.double() if v.dtype.is_floating_point else v for k, v in values.items()})
            self.done.append(0)
        values = self.draws[n]
        for call in self.calls[self.done[n] : until]:
            self._run(call, values)
            self.done[n] += 1
        return values

    def _depends_on_ties(self) -> bool:
        values = self.draw(0)
        return depends_on_ties(self.graph, {i.name: values[i.name] for i in self.graph.inputs})

    def _run(self, call: _Call, values: dict[str, Any]) -> None:
        operands = tuple(_pick(o, values) for o in call.node.operands)
        found = self.oracle.apply(call.op, operands, call.types, call.node.attributes, call.inferred)
        values.update(zip(call.node.results, found, strict=True))

    def _values(self) -> str:
        used = {u for n in self.graph.nodes for u in n.uses()} | {str(o) for o in self.graph.outputs}
        for k, call in enumerate(self.calls):
            node = call.node
            operands = tuple(dict.fromkeys(node.uses()))
            for name in node.results:
                # What has no operands is a constant on purpose, as long as something else goes into its use.
                if name in used and operands and not any(self._moves(name, n, k) for n in range(1, _DRAWS)):
                    return "constant"
                for u in operands:
                    if self.types[u] == self.types[name] and all(self._same(u, name, n, k) for n in range(_DRAWS)):
                        return "changes nothing"
        return ""

    def _moves(self, name: str, n: int, k: int) -> bool:
        return _differ(self.draw(0, k + 1)[name], self.draw(n, k + 1)[name], self.types[name].dtype)

    def _same(self, a: str, b: str, n: int, k: int) -> bool:
        import torch

        values = self.draw(n, k + 1)
        return torch.equal(values[a].nan_to_num(), values[b].nan_to_num())

    def _outputs(self) -> str:
        for output in self.graph.outputs:
            dtype = self.types[str(output)].dtype
            if not is_float(dtype):
                continue
            for n in range(2):
                v = self.draw(n)[str(output)].double()
                known = v[v.isfinite() & (v.abs() <= _LARGEST[dtype])]
                if known.numel() < _FINITE * v.numel() or not known.numel():
                    return "not finite"
                most = float(known.abs().max())
                if not most <= _LARGE or (0 < most < _SMALL):
                    return "out of scale"
        return ""

    def _inputs(self) -> str:
        for i in self.graph.inputs:
            if not any(self._reaches(i.name, n) for n in range(1, _DRAWS)):
                return "ignores an input"
        return ""

    def _reaches(self, name: str, n: int) -> bool:
        """Return whether some output changes when one input takes its value of another draw."""
        before, values = self.draw(0), dict(self.draw(0))
        values[name] = self.draw(n)[name]
        changed = {name}
        for call in self.calls:
            if changed.isdisjoint(call.node.uses()):
                continue
            self._run(call, values)
            changed |= {r for r in call.node.results if _differ(before[r], values[r], self.types[r].dtype)}
        return not changed.isdisjoint(str(o) for o in self.graph.outputs)


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

    flat = expand_graph(graph, builtin_ops())
    generator = torch.Generator().manual_seed(0)
    first = _values(flat, inputs)
    for n in range(_ORDERS):

        def order(k: int, reverse: bool = n == 0) -> Any:
            return torch.arange(k).flip(0) if reverse else torch.randperm(k, generator=generator)

        other = _values(flat, inputs, order)
        if any(_differ(first[o], other[o], flat.types[o].dtype) for o in map(str, flat.outputs)):
            return True
    return False


@cache
def _sorts() -> frozenset[str]:
    """Return the names of the operators that sort, by themselves or through what they consist of."""
    return operators_through(builtin_ops(), _leaves_order_open)


def _leaves_order_open(op: OpDef) -> bool:
    return isinstance(op.body, Hook) and any(a.name == "stable" for a in op.attributes)


def other_roundings(graph: Graph, inputs: Mapping[str, Any], seed: int = 0) -> Iterator[list[Any]]:
    """Yield, without end, the outputs that a program may have where other roundings decide among its values.

    Every value that arithmetic has rounded is moved by a few units in its last place.  What only moves, selects or compares
    stays exact, so that the definitions go on to decide between elements that are equal before any rounding.

    Args:
        graph: static.
        inputs: by name, float64, integers or booleans.
        seed: of the roundings.
    """
    import torch

    flat = expand_graph(graph, builtin_ops())
    generator = torch.Generator().manual_seed(seed)

    def moved(value: Any) -> Any:
        if not value.dtype.is_floating_point:
            return value
        unit = torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return value * (1 + _UNITS * _EPSILON["f64"] * unit)

    while True:
        values = _values(flat, inputs, rounded=moved)
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
    rounded: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the values of a graph of primitives.

    Args:
        flat: without composite operators.
        inputs: by name.
        order: the order, for its extent, in which sorts that leave the order of equal elements open meet their operand.
        rounded: what becomes of results that are rounded.
    """
    from .backend.oracle import Oracle

    ops, oracle = builtin_ops(), Oracle()
    values = dict(inputs)
    for node in flat.nodes:
        op, attributes = ops[node.op], node.attributes
        operands = tuple(_pick(o, values) for o in node.operands)
        types = tuple(_pick(o, flat.types) for o in node.operands)
        if order is not None and _leaves_order_open(op) and not attributes["stable"] and operands[0].dim():
            axis = attributes["axis"]
            places = order(operands[0].shape[axis])
            found = oracle.apply(op, (operands[0].index_select(axis, places), *operands[1:]), types, attributes)
            found = [places[r] for r in found]
        else:
            found = oracle.apply(op, operands, types, attributes)
        if rounded is not None and node.op in _rounding():
            found = [rounded(v) for v in found]
        values.update(zip(node.results, found, strict=True))
    return values


def _differ(a: Any, b: Any, dtype: str) -> bool:
    """Return whether two values differ by more than the rounding of a dtype."""
    import torch

    if dtype not in _EPSILON:
        return not torch.equal(a, b)
    if not torch.equal(a.isfinite(), b.isfinite()):
        return True
    a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
    noise = 8 * _EPSILON[dtype] * torch.maximum(a.abs(), b.abs())
    return bool(((a - b).abs() > noise).any())


def _pick(operand: Any, table: Mapping[str, Any]) -> Any:
    if isinstance(operand, str):
        return table[operand]
    return tuple(_pick(o, table) for o in operand) if isinstance(operand, tuple) else operand


def input_values(
    graph: Graph, ranges: Mapping[str, tuple[float, float]], name: str, generator: Any, masks: float = 0.5
) -> Any:
    """Return random values that fit an input of a generated program, as a tensor of the input's type.

    Args:
        graph: the program.
        ranges: of the inputs that are bounded or in order; both ends belong to a range.
        name: of the input.
        generator: PyTorch's.
        masks: share of booleans that are true.
    """
    import torch

    from .backend.opaque import TORCH_DTYPES
    from .backend.tensors import in_order

    t = graph.input(name).type
    if t.dtype == "bool":
        return torch.rand(t.shape, generator=generator) < masks
    range_ = ranges.get(name, (-math.inf, math.inf))
    low, high = range_
    if is_float(t.dtype):
        value = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        if math.isfinite(low) and math.isfinite(high):
            value = low + (high - low) * torch.sigmoid(value)
        elif math.isfinite(low):
            value = low + value.abs()
        elif math.isfinite(high):
            value = high - value.abs()
        return in_order(value.to(TORCH_DTYPES[t.dtype]), range_)
    first = int(low) if math.isfinite(low) else -4 if t.dtype != "u8" else 0
    stop = int(high) + 1 if math.isfinite(high) else max(first, 0) + 8
    value = torch.randint(first, max(first + 1, stop), t.shape, generator=generator).to(TORCH_DTYPES[t.dtype])
    return in_order(value, range_)
