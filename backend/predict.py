"""Times from a roofline model, for planning and for reports made without a device.  Every figure from here is a prediction.

A kernel takes ``max(bytes / bandwidth, work / rate)`` plus its launch.  Three models of who runs a program:

* :func:`predict_us`: one kernel for all of it; nothing in between touches device memory.  No kernel can be much faster.
* :func:`predict_eager_us`: PyTorch eager; one kernel per operator, views free.
* :func:`predict_compiled_us`: ``torch.compile`` in its default mode; products and convolutions are library calls of their
  own, and whatever lies between two of them and is connected becomes one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import OPAQUE, Graph, Input, Node, OpSet, SizeLike, builtin_ops
from ..ir.binding import part_symbols
from ..ir.cost import Cost, graph_cost, is_view
from ..ir.size import substitute, symbols_of
from .candidate import H100, Target

#: A symbolic size counts as this many elements, or the nearest size in its range.
TYPICAL_SIZE = 1024


def number(size: SizeLike) -> int:
    """Return a size with its symbols set to typical values."""
    env: dict[str, SizeLike] = {s.name: min(max(TYPICAL_SIZE, s.lo), s.hi) for s in symbols_of(size)}
    value = substitute(size, env) if env else size
    assert isinstance(value, int)
    return value


def product_rate_tflops(graph: Graph, target: Target, precision: str, library: bool) -> float:
    """Return the rate of products in a graph.

    Args:
        library: PyTorch's own kernels, which under ``strict`` use no tensor cores for float32; a kernel of ours may
            split each float32 product into three TF32 products.
    """
    dtypes = {t.dtype for t in graph.types.values()}
    rates = target.rate_tflops
    if "f64" in dtypes:
        return rates["f64"]
    for half in ("bf16", "f16"):
        if half in dtypes:
            return rates[half]
    if precision == "tf32":
        return rates["tf32"]
    return rates["f32"] if library else max(rates["f32"], rates["tf32"] / 3)


def _time_us(cost: Cost, graph: Graph, target: Target, precision: str, library: bool) -> float:
    products = number(cost.product_flops)
    others = max(0, number(cost.flops) - products)
    work_us = products / (product_rate_tflops(graph, target, precision, library) * 1e6)
    work_us += others / (target.rate_tflops["f32"] * 1e6)
    return max(number(cost.bytes) / (target.bandwidth_gbps * 1e3), work_us)


def predict_us(graph: Graph, target: Target = H100, precision: str = "strict", *, ops: OpSet | None = None) -> float:
    """Return the predicted time of ``graph`` as one fused kernel, microseconds, its launch included.

    Raises:
        Unsupported: a compile-time condition depends on a symbolic size.
    """
    ops = builtin_ops() if ops is None else ops
    return _time_us(graph_cost(graph, ops), graph, target, precision, False) + target.launch_us


def floor_us(graph: Graph, target: Target = H100, precision: str = "strict", *, ops: OpSet | None = None) -> float:
    """Return the time below which a measurement of ``graph`` is not believed, microseconds.

    Half of the roofline without the launch: what stays in the last-level cache need not be read again.
    """
    ops = builtin_ops() if ops is None else ops
    return 0.5 * _time_us(graph_cost(graph, ops), graph, target, precision, False)


def _part(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """Return the nodes as a graph of their own; what is used outside is its output."""
    inside = {r for n in nodes for r in n.results}
    reads = dict.fromkeys(u for n in nodes for u in n.uses() if u not in inside)
    members = {id(n) for n in nodes}
    outputs = [
        r for n in nodes for r in n.results
        if r in graph.live_out or any(id(u) not in members for u in graph.users[r])
    ]  # fmt: skip
    inputs = tuple(Input(name, graph.types[name]) for name in reads)
    return Graph(graph.name, inputs, tuple(nodes), tuple(outputs), (), *part_symbols(graph, inputs, nodes))


def _kernel_us(graph: Graph, nodes: Sequence[Node], target: Target, precision: str, ops: OpSet) -> float:
    known = [n for n in nodes if n.op != OPAQUE]
    part = _part(graph, nodes)
    moved = sum(number(graph.types[i.name].size_bytes) for i in part.inputs)
    moved += sum(number(part.types[o].size_bytes) for o in part.outputs if isinstance(o, str))
    if len(known) != len(nodes):
        return moved / (target.bandwidth_gbps * 1e3) + target.launch_us
    if all(n.op in ops and is_view(ops[n.op], ops) for n in nodes):
        return 0.0
    return _time_us(graph_cost(part, ops), part, target, precision, True) + target.launch_us


def predict_eager_us(
    graph: Graph, target: Target = H100, precision: str = "strict", *, ops: OpSet | None = None
) -> float:
    """Return the predicted time of ``graph`` in PyTorch eager, microseconds."""
    ops = builtin_ops() if ops is None else ops
    return sum(_kernel_us(graph, [n], target, precision, ops) for n in graph.nodes)


def predict_compiled_us(
    graph: Graph, target: Target = H100, precision: str = "strict", *, ops: OpSet | None = None
) -> float:
    """Return the predicted time of ``graph`` under ``torch.compile``, microseconds."""
    ops = builtin_ops() if ops is None else ops
    return sum(_kernel_us(graph, group, target, precision, ops) for group in compiled_groups(graph, ops))


def compiled_groups(graph: Graph, ops: OpSet) -> list[list[Node]]:
    """Return the nodes as ``torch.compile`` would group them into kernels, by this model."""
    alone = [n.op == OPAQUE or number(graph_cost(_part(graph, [n]), ops).product_flops) > 0 for n in graph.nodes]
    depth: dict[str, int] = {i.name: 0 for i in graph.inputs}
    group = list(range(len(graph.nodes)))

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    made: dict[str, int] = {}
    levels: list[int] = []
    for k, node in enumerate(graph.nodes):
        # A value behind n products can only be fused with what is behind n products too: no cycles can arise.
        level = max((depth[u] for u in node.uses()), default=0)
        levels.append(level)
        for r in node.results:
            depth[r] = level + alone[k]
            made[r] = k
        for u in node.uses():
            j = made.get(u)
            if j is not None and not alone[k] and not alone[j] and levels[j] == level:
                group[root(k)] = root(j)
    groups: dict[int, list[Node]] = {}
    for k, node in enumerate(graph.nodes):
        groups.setdefault(root(k), []).append(node)
    return list(groups.values())
