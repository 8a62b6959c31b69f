"""Inputs that show faults: families of values, index ranges, domains of functions."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...ir import Graph, Node, OpSet, TensorType, builtin_ops, expand_graph
from ...ir.expr import Call, Expr, Load, Num, Pack, Sym, children
from ...ir.opdef import Index

DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    "i32": torch.int32, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}  # fmt: skip

#: Families whose outputs must be right; ``normal`` is first because its messages are the plainest.
FAMILIES = ("normal", "mixed", "small", "negative", "huge", "zeros")

#: For instances of several tiles: values grow along the last axis, so that running maxima change from tile to tile.
TILE_FAMILIES = ("normal", "ascending")

#: Small integers, on which programs of sums and products are exact, whatever the order; see :func:`is_exact`.
EXACT_FAMILIES = ("integers", "wide_integers")

#: Infinities and NaN: differences are reported, not judged.
ADVISORY_FAMILIES = ("special",)

#: How an input is mapped into the domain of the functions that it feeds.
DOMAINS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "real": lambda t: t,
    "positive": lambda t: t.abs() + 0.05 * (t == 0) + 1e-3,
    "unit": lambda t: torch.sigmoid(t).clamp(0.02, 0.98),
    "inside": lambda t: torch.tanh(0.5 * t) * 0.95,
    "above_one": lambda t: 1.0 + t.abs() + 1e-3,
}


def secret_seed() -> int:
    """Return a seed that a candidate cannot know."""
    return random.SystemRandom().getrandbits(62)


def draw(
    t: TensorType, family: str, generator: torch.Generator, domain: str = "real", bound: int | None = None,
    wide: bool = False, device: str = "cpu",
) -> torch.Tensor:  # fmt: skip
    """Return one input.

    Args:
        family: one of the families above.
        domain: one of ``DOMAINS``; for floats.
        bound: for integers: values are indices in ``0..bound-1``.
        wide: in ``wide_integers``: take odd integers of 13 bits, which TF32 cannot hold.
    """
    shape = tuple(int(s) for s in t.shape)  # type: ignore[arg-type]
    dtype = DTYPES[t.dtype]
    options: dict[str, Any] = {"generator": generator, "device": device}
    if dtype == torch.bool:
        return torch.rand(shape, **options) < 0.5
    if not dtype.is_floating_point:
        lo, hi = (0, bound) if bound is not None else (0, 16) if t.dtype == "u8" else (-8, 9)
        return torch.randint(lo, max(hi, lo + 1), shape, dtype=dtype, **options)
    if family in EXACT_FAMILIES:
        sign = torch.randint(0, 2, shape, **options) * 2 - 1
        size = torch.ones(shape, device=device)
        if wide and family == "wide_integers" and dtype in (torch.float32, torch.float64):
            size = torch.randint(2048, 4096, shape, **options) * 2 + 1
        keep = torch.rand(shape, **options) < (0.5 if not wide else 0.25)
        values = (sign * size * keep).to(torch.float64)
        return (values.abs() + (domain == "above_one") if domain not in ("real", "inside") else values).to(dtype)
    x = torch.randn(shape, dtype=torch.float64, **options)
    if family == "huge":
        x = x * 150
    elif family == "small":
        x = x * 1e-4
    elif family == "negative":
        x = -x.abs() if domain == "real" else x * 0.5
    elif family == "mixed":
        x = x * 10.0 ** (torch.rand(shape, dtype=torch.float64, **options) * 5 - 3.5)
    elif family == "ascending" and shape:
        x = x + torch.linspace(-6, 6, shape[-1], dtype=torch.float64, device=device)
    elif family == "zeros":
        x = x * 0
    elif family == "special":
        places = torch.rand(shape, **options)
        n = max(1, x.numel())
        x = torch.where(places < 1.0 / n**0.5 / 3, torch.full_like(x, float("nan")), x)
        x = torch.where((places > 0.5) & (places < 0.5 + 0.3 / n**0.5), torch.full_like(x, float("inf")), x)
        x = torch.where((places > 0.8) & (places < 0.8 + 0.3 / n**0.5), torch.full_like(x, float("-inf")), x)
        return x.to(dtype)
    out = DOMAINS[domain](x).to(dtype)
    return out.clamp(-1e4, 1e4) if dtype == torch.float16 else out


def index_bounds(graph: Graph, ops: OpSet | None = None) -> dict[str, int]:
    """Return, for each integer input that is used as an index, the size of the axis that it indexes.

    Read off the index bodies: in ``y[i, d] = w[index[i], d]`` the operand ``index`` indexes axis 0 of ``w``.
    """
    ops = builtin_ops() if ops is None else ops
    flat = expand_graph(graph, ops)
    sources: dict[str, set[str]] = {i.name: {i.name} for i in flat.inputs if i.type.dtype in ("i64", "i32", "i8", "u8")}
    bounds: dict[str, int] = {}
    for node in flat.nodes:
        op = ops.get(node.op)
        if op is None:
            continue
        operands = dict(zip([p.name for p in op.operands], node.operands, strict=False))
        if isinstance(op.body, Index):
            for param, size in _indexed(op.body.expr, operands, node, flat):
                value = operands.get(param)
                for source in sources.get(value, ()) if isinstance(value, str) else ():
                    bounds[source] = min(bounds.get(source, size), size)
        if node.types and node.types[0].dtype in ("i64", "i32") and len(list(node.uses())) == 1:
            used = next(iter(node.uses()))
            if used in sources:
                sources[node.results[0]] = sources[used]
    return bounds


def _indexed(e: Expr, operands: Mapping[str, Any], node: Node, graph: Graph) -> list[tuple[str, int]]:
    """Return (operand, size) for every operand that appears inside the subscript of another."""
    found: list[tuple[str, int]] = []
    if isinstance(e, Load) and isinstance(operands.get(e.name), str):
        shape = graph.types[operands[e.name]].shape
        for k, index in enumerate(e.index):
            for param in _loads(index) & set(operands):
                axis: int | None = (
                    k if not any(isinstance(i, Pack) for i in e.index[:k]) else k - len(e.index) + len(shape)
                )
                if isinstance(index, Call) and index.fn == "set" and len(index.args) == 3:
                    where = index.args[1]
                    number = node.attributes.get(where.name) if isinstance(where, Sym) else None
                    number = where.value if isinstance(where, Num) else number
                    axis = int(number) if isinstance(number, int) else None
                if axis is not None and 0 <= axis < len(shape):
                    found.append((param, int(shape[axis])))  # type: ignore[arg-type]
                elif shape:
                    found.append((param, min(int(s) for s in shape)))  # type: ignore[arg-type]
    for child in children(e):
        found += _indexed(child, operands, node, graph)
    return found


def _loads(e: Expr) -> set[str]:
    own = {e.name} if isinstance(e, Load) else set()
    return own.union(*(_loads(c) for c in children(e)))


def find_domains(
    graph: Graph, evaluate: Callable[[dict[str, torch.Tensor]], list[Any]], bounds: Mapping[str, int]
) -> dict[str, str]:
    """Return a domain for each float input in which the graph has values: the first one that leaves no NaN.

    Args:
        evaluate: the truth, from inputs by name.
    """
    domains = {i.name: "real" for i in graph.inputs if i.type.dtype in ("f64", "f32", "f16", "bf16")}

    def count(chosen: Mapping[str, str]) -> int:
        generator = torch.Generator().manual_seed(20240229)
        inputs = {
            i.name: draw(i.type, "normal", generator, chosen.get(i.name, "real"), bounds.get(i.name))
            for i in graph.inputs
        }
        try:
            outputs = evaluate(inputs)
        except RuntimeError:  # an operator that PyTorch runs refuses the values: worse than any NaN
            return sys.maxsize
        return sum(int((~o.isfinite()).sum()) for o in outputs if isinstance(o, torch.Tensor) and o.is_floating_point())

    best = count(domains)
    for name in domains:
        if best == 0:
            break
        for domain in list(DOMAINS)[1:]:
            trial = {**domains, name: domain}
            n = count(trial)
            if n < best:
                best, domains = n, trial
            if best == 0:
                break
    return domains


#: Operators whose results on integers are integers (or exact quotients), whatever the order of evaluation.
_EXACT_OPS = frozenset(
    """
    add sub mul add_scaled neg abs sign square maximum minimum relu relu6 clamp clamp_tensor where masked_fill eq ne lt le gt
    ge logical_and logical_or logical_not matmul matmul_shared matmul_broadcast mv vm dot outer linear addmm addmv baddbmm
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d sum mean amax amin any all max_dim min_dim
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d identity cast cumsum hardtanh leaky_relu prelu
    addcmul full full_like arange one_hot embedding gather index_select l1_loss mse_loss threshold
    """.split()
)
_CONTRACTIONS = ("matmul", "linear", "addmm", "addmv", "baddbmm", "conv", "mv", "vm", "dot", "sum", "mean", "cumsum")


def may_be_exact(graph: Graph, ops: OpSet) -> bool:
    """Return whether the graph consists of operators that are exact on small integers."""
    return all(n.op in _EXACT_OPS or (n.op in ops and ops[n.op].family == "view") for n in graph.nodes)


def is_exact(graph: Graph, ops: OpSet, oracle: Any, inputs: Mapping[str, torch.Tensor]) -> bool:
    """Return whether every value on these inputs is exact in its dtype and in any order of float32 summation."""
    values = oracle.values(graph, inputs)
    outputs = {o for o in graph.outputs if isinstance(o, str)}
    for node in graph.nodes:
        if node.op.startswith(_CONTRACTIONS):
            magnitudes = tuple(_absolute(o, values) for o in node.operands)
            types = tuple(graph.types[o] if isinstance(o, str) else o for o in node.operands)
            bound = oracle.apply(ops[node.op], magnitudes, types, node.attributes)[0]
            n = 1
            if node.op in ("mean",) or node.op.startswith("avg_pool"):
                n = max(1, int(graph.types[node.operands[0]].numel) // max(1, int(node.types[0].numel)))  # type: ignore
            if bound.numel() and float(bound.max()) * n >= 2**24:
                return False
        for name, t in zip(node.results, node.types, strict=True):
            value = values[name]
            if not value.is_floating_point() or (name in outputs and not graph.users[name]):
                continue
            if not torch.equal(value.to(DTYPES[t.dtype]).to(torch.float64), value):
                return False
    return True


def _absolute(operand: Any, values: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(operand, str):
        value = values[operand]
        return value.abs() if value.dtype != torch.bool else value
    if isinstance(operand, tuple):
        return tuple(_absolute(o, values) for o in operand)
    return operand
