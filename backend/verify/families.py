"""Inputs that show faults: families of values, within the ranges of operators and the domains of functions."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ...ir import Graph, Literal, OpSet, Range, Size, TensorType
from ..tensors import in_order

DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    "i32": torch.int32, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}  # fmt: skip

#: Families whose outputs must be right; ``normal`` is first because its messages are the plainest.
FAMILIES = ("normal", "mixed", "small", "negative", "huge", "wide", "peaks", "ties", "zeros")

#: For instances with an axis whose indices need more than eight bits: the largest and smallest elements stand at its ends.
FAR_FAMILIES = ("peaks", "dips")

#: For instances of several tiles: values grow along the last axis, so that running maxima change from tile to tile.
TILE_FAMILIES = ("ascending",)

#: Small integers, on which programs of sums and products are exact, whatever the order; see :func:`is_exact`.
EXACT_FAMILIES = ("integers", "wide_integers")

#: Infinities and NaN: differences are reported, not judged.
ADVISORY_FAMILIES = ("special",)

#: Relative differences that float64 itself makes in small programs.
DOUBLE_NOISE = 1e-9

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


def peaked(x: torch.Tensor) -> torch.Tensor:
    """Return values far below zero, with one number in a line far above the others, the first and last places first."""
    n = x.shape[-1]
    moved = (x - 500.0).contiguous()
    row = torch.arange(x.numel() // n, device=x.device)
    place = torch.where(row % 2 == 0, row // 2 % n, n - 1 - row // 2 % n)
    moved.view(-1, n)[row, place] += 250.0
    return moved


def ascending(x: torch.Tensor) -> torch.Tensor:
    """Return values that grow along the last axis: running maxima change from tile to tile."""
    return x + torch.linspace(-6, 6, x.shape[-1], dtype=x.dtype, device=x.device)


def draw(
    t: TensorType, family: str, generator: torch.Generator, domain: str = "real", range_: Range | None = None,
    wide: bool = False, device: str = "cpu", ties: Sequence[float] = (),
) -> torch.Tensor:  # fmt: skip
    """Return one input.

    Args:
        family: one of the families above; no value of it leaves ``range_``.
        domain: one of ``DOMAINS``; for floats without a range.
        range_: the ends, sizes replaced by numbers, between which every element must lie, and the order in which they stand;
            from ``ir.input_ranges``.
        wide: in ``wide_integers``: take odd integers of 13 bits, which TF32 cannot hold.
        ties: in ``ties``: numbers at which the program may change its course; see :func:`tie_points`.
    """
    return in_order(_drawn(t, family, generator, domain, range_, wide, device, ties), range_)


def _drawn(
    t: TensorType, family: str, generator: torch.Generator, domain: str, range_: Range | None, wide: bool, device: str,
    ties: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    shape = tuple(int(s) for s in t.shape)  # type: ignore[arg-type]
    dtype = DTYPES[t.dtype]
    options: dict[str, Any] = {"generator": generator, "device": device}
    if dtype == torch.bool:
        return torch.rand(shape, **options) < 0.5
    if not dtype.is_floating_point:
        lo, hi = (0, 15) if t.dtype == "u8" else (-8, 8)
        if family in ("huge", "wide") and t.dtype != "u8":  # products of two stay within 31 bits
            lo, hi = (-100, 100) if t.dtype == "i8" else (-30000, 30000)
        if range_ is not None:
            least, most = _ends(range_)
            lo = math.ceil(least if math.isfinite(least) else min(lo, most))
            hi = math.floor(most if math.isfinite(most) else max(hi, least + 16))
        return torch.randint(lo, max(hi, lo) + 1, shape, dtype=dtype, **options)
    if family in EXACT_FAMILIES:
        sign = torch.randint(0, 2, shape, **options) * 2 - 1
        size = torch.ones(shape, device=device)
        if wide and family == "wide_integers" and dtype in (torch.float32, torch.float64):
            size = torch.randint(2048, 4096, shape, **options) * 2 + 1
        keep = torch.rand(shape, **options) < (0.5 if not wide else 0.25)
        values = (sign * size * keep).to(torch.float64)
        if range_ is not None:
            return values.clamp(*_ends(range_)).to(dtype)
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
    elif family == "wide":
        x = x * 10.0 ** (torch.rand(shape, dtype=torch.float64, **options) * 16 - 8)
    elif family == "ties":
        points = torch.tensor([0.0, 1.0, -1.0, *ties], dtype=torch.float64, device=device)
        chosen = points[torch.randint(0, len(points), shape, **options)]
        x = torch.where(torch.rand(shape, **options) < 0.75, chosen, x)
    elif family in ("peaks", "dips") and shape and x.numel():
        x = -peaked(x) if family == "dips" else peaked(x)
    elif family == "ascending" and shape:
        x = ascending(x)
    elif family == "zeros":
        x = x * 0
    elif family == "special" and range_ is None:
        places = torch.rand(shape, **options)
        n = max(1, x.numel())
        x = torch.where(places < 1.0 / n**0.5 / 3, torch.full_like(x, float("nan")), x)
        x = torch.where((places > 0.5) & (places < 0.5 + 0.3 / n**0.5), torch.full_like(x, float("inf")), x)
        x = torch.where((places > 0.8) & (places < 0.8 + 0.3 / n**0.5), torch.full_like(x, float("-inf")), x)
        return x.to(dtype)
    out = (DOMAINS[domain](x) if range_ is None else _in_range(x, *_ends(range_))).to(dtype)
    return out.clamp(-1e4, 1e4) if dtype == torch.float16 else out


def _ends(range_: Range) -> tuple[float, float]:
    """Return the ends of a range without symbols."""
    lo, hi = range_
    assert not isinstance(lo, Size) and not isinstance(hi, Size)
    return float(lo), float(hi)


def tie_points(graph: Graph) -> list[float]:
    """Return the numbers that a program's text has, and their negatives: at some of them it may change its course."""
    found: set[float] = set()

    def collect(value: Any) -> None:
        if isinstance(value, tuple):
            for v in value:
                collect(v)
        elif isinstance(value, Literal):
            collect(value.value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and 1e-3 < abs(value) < 1e4:
            found.update((float(value), -float(value)))

    for node in graph.nodes:
        collect(tuple(v for _, v in node.attrs))
        collect(tuple(o for o in node.operands if not isinstance(o, str)))
    return sorted(found)


def _in_range(x: torch.Tensor, lo: float, hi: float) -> torch.Tensor:
    """Return reals as numbers between two ends, rarely quite at one."""
    if math.isinf(lo) or math.isinf(hi):
        return x if math.isinf(lo) and math.isinf(hi) else lo + x.abs() if math.isinf(hi) else hi - x.abs()
    return lo + (hi - lo) * torch.sigmoid(x).clamp(0.02, 0.98)


def find_domains(
    graph: Graph, evaluate: Callable[[dict[str, torch.Tensor]], list[Any]], ranges: Mapping[str, Range]
) -> dict[str, str]:
    """Return a domain for each float input without a range in which the graph has values: the first that leaves no NaN.

    Args:
        evaluate: the truth, from inputs by name.
    """
    floats = [i.name for i in graph.inputs if i.type.dtype in ("f64", "f32", "f16", "bf16")]
    domains = {name: "real" for name in floats if name not in ranges}

    def count(chosen: Mapping[str, str]) -> int:
        generator = torch.Generator().manual_seed(20240229)
        inputs = {
            i.name: draw(i.type, "normal", generator, chosen.get(i.name, "real"), ranges.get(i.name))
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
#: How the names of operators begin that multiply elements of inputs with one another and sum.
_PRODUCTS = (
    "matmul",
    "linear",
    "addmm",
    "addmv",
    "baddbmm",
    "conv",
    "mv",
    "vm",
    "dot",
    "bilinear",
    "scaled_dot_product",
)
_CONTRACTIONS = (*_PRODUCTS, "sum", "mean", "cumsum")

#: Sums of terms that are never negative: no partial sum is larger than the result.
_POSITIVE_SUMS = ("mse_loss", "l1_loss")


def has_products(graph: Graph) -> bool:
    """Return whether elements of inputs are multiplied with one another and summed.

    Over sixteen orders of magnitude one product outweighs all others, and right ways to multiply float32 numbers on tensor
    cores are good to two bits less for one product than for a sum of many.
    """
    return any(n.op.startswith(_PRODUCTS) for n in graph.nodes)


def may_be_exact(graph: Graph, ops: OpSet) -> bool:
    """Return whether the graph consists of operators that are exact on small integers."""
    return all(n.op in _EXACT_OPS or (n.op in ops and ops[n.op].family == "view") for n in graph.nodes)


def is_exact(graph: Graph, ops: OpSet, oracle: Any, inputs: Mapping[str, torch.Tensor]) -> bool:
    """Return whether every value on these inputs is exact in its dtype and in any order of float32 summation.

    An output of fewer bits than float32 may be inexact in its dtype: it is then rounded once, and equality still holds.
    """
    values = oracle.values(graph, inputs)
    outputs = {o for o in graph.outputs if isinstance(o, str)}
    for node in graph.nodes:
        if node.op.startswith((*_CONTRACTIONS, *_POSITIVE_SUMS, "avg_pool")):
            magnitudes = tuple(_absolute(o, values) for o in node.operands)
            types = tuple(graph.types[o] if isinstance(o, str) else o for o in node.operands)
            if node.op in _POSITIVE_SUMS:
                bound = values[node.results[0]]
            else:
                bound = oracle.apply(ops[node.op], magnitudes, types, node.attributes)[0]
            n = 1
            if node.op == "mean" or node.op.startswith("avg_pool") or node.attributes.get("reduction") == "mean":
                n = max(1, int(graph.types[node.operands[0]].numel) // max(1, int(node.types[0].numel)))  # type: ignore
            if bound.numel() and float(bound.max()) * n >= 2**24:
                return False
        for name, t in zip(node.results, node.types, strict=True):
            value = values[name]
            if not value.is_floating_point():
                continue
            # An output may be rounded, once: from the accumulator of 32 bits to a smaller dtype.
            kept = DTYPES[t.dtype]
            if name in outputs and not graph.users[name] and kept.itemsize < 4:
                kept = torch.float32
            if not torch.equal(value.to(kept).to(torch.float64), value):
                return False
    return True


def _absolute(operand: Any, values: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(operand, str):
        value = values[operand]
        return value.abs() if value.dtype != torch.bool else value
    if isinstance(operand, tuple):
        return tuple(_absolute(o, values) for o in operand)
    return operand
