"""Running one graph by hand: values for its symbols and inputs, and a summary of what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch

from .backend.opaque import TORCH_DTYPES
from .backend.tensors import in_order
from .backend.to_torch import to_callable
from .ir import Graph, Input, OpSet, TensorType, UsageError, input_ranges, make_range, order_of
from .ir.size import Size, SizeLike, substitute, symbols_of


@attrs.frozen
class Summary:
    """One output: its type, and statistics in float64 over its finite elements.

    Attributes:
        name: the value's name, without ``%``.
        std: standard deviation of the elements as a population.
        n_nonfinite: elements that are infinite or NaN.
    """

    name: str
    type: TensorType
    mean: float
    std: float
    minimum: float
    maximum: float
    n_nonfinite: int


def parse_sizes(graph: Graph, given: Sequence[str]) -> dict[str, int]:
    """Return a value for every symbol of ``graph``: from ``NAME=N`` texts, else the smallest value of at least 2.

    Raises:
        UsageError: a text is not ``NAME=N``, names no symbol, or is out of the symbol's range.
    """
    symbols = {s.name: s for i in graph.inputs for size in i.type.shape for s in symbols_of(size)}
    values = {name: min(max(s.lo, 2), s.hi) for name, s in symbols.items()}
    for text in given:
        name, _, number = text.partition("=")
        if name not in symbols:
            known = ", ".join(sorted(symbols)) or "none"
            raise UsageError(f"no such symbol, expected one of the program's: {known}", subject=f"--size {text}")
        if not number.isdecimal() or not symbols[name].lo <= int(number) <= symbols[name].hi:
            raise UsageError(
                f"expected {name}=N with N in {symbols[name].lo}..{symbols[name].hi}", subject=f"--size {text}"
            )
        values[name] = int(number)
    return values


def _shape(type_: TensorType, sizes: Mapping[str, int]) -> tuple[int, ...]:
    env: dict[str, SizeLike] = dict(sizes)
    return tuple(int(substitute(size, env)) for size in type_.shape)  # type: ignore[arg-type]


def random_inputs(
    graph: Graph, sizes: Mapping[str, int], seed: int = 0, state: Mapping[str, torch.Tensor] | None = None,
    ops: OpSet | None = None,
) -> list[torch.Tensor]:  # fmt: skip
    """Return a tensor for each input of ``graph``: standard normal floats, integers 0 and 1, fair booleans.

    What an operator wants between two ends is drawn evenly between them, and what it wants in order is sorted.

    Args:
        sizes: a value for every symbol.
        seed: of the generator; equal seeds give equal tensors.
        state: tensors that a module already has, by its own names (``fc.weight``); they are not drawn.
        ops: the operators; None means the built-in ones.
    """
    ranges = input_ranges(graph, ops)
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for value in graph.inputs:
        if state and value.target in state:
            tensors.append(state[value.target])
            continue
        shape, dtype = _shape(value.type, sizes), TORCH_DTYPES[value.type.dtype]
        range_ = ranges.get(value.name, (-math.inf, math.inf))
        lo, hi = (_number(end, sizes) for end in range_)
        if not dtype.is_floating_point:
            lo = lo if math.isfinite(lo) else min(0, hi)
            stop = lo + 2 if math.isinf(hi) else hi + 1
            drawn = torch.randint(int(lo), max(int(stop), int(lo) + 1), shape, generator=generator).to(dtype)
        elif math.isfinite(lo) and math.isfinite(hi):
            drawn = (torch.rand(shape, generator=generator) * (hi - lo) + lo).to(dtype)
        else:
            drawn = torch.randn(shape, generator=generator).clamp(lo, hi).to(dtype)
        tensors.append(in_order(drawn, make_range(lo, hi, order_of(range_))))
    return tensors


def _number(end: object, sizes: Mapping[str, int]) -> float:
    return float(substitute(end, dict(sizes)) if isinstance(end, Size) else end)  # type: ignore[arg-type]


def load_inputs(graph: Graph, file: Path) -> list[torch.Tensor]:
    """Return the inputs of ``graph`` from a ``torch.save``d list, or dict by value name or module name (``fc.weight``).

    Raises:
        UsageError: the file holds anything else, or a tensor has another dtype or rank than its input.
    """
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"cannot be read by torch.load: {str(error).splitlines()[0]}", subject=str(file)) from None
    if isinstance(held, Mapping):
        missing = [i.name for i in graph.inputs if i.name not in held and i.target not in held]
        if missing:
            raise UsageError(f"lacks {', '.join(missing)}, expected every input of the program", subject=str(file))
        held = [held[i.name] if i.name in held else held[i.target] for i in graph.inputs]
    if not isinstance(held, (list, tuple)) or len(held) != len(graph.inputs):
        raise UsageError(f"expected a list of {len(graph.inputs)} tensors or a dict", subject=str(file))
    for value, tensor in zip(graph.inputs, held):
        _require(value, tensor, file)
    return list(held)


def _require(value: Input, tensor: object, file: Path) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise UsageError(f"{value.name} is {type(tensor).__name__}, expected a tensor", subject=str(file))
    if tensor.dtype != TORCH_DTYPES[value.type.dtype] or tensor.dim() != value.type.rank:
        found = f"{tensor.dtype} {tuple(tensor.shape)}"
        raise UsageError(f"{value.name} is {found}, expected {value.type}", subject=str(file))


def run(graph: Graph, inputs: Sequence[torch.Tensor], ops: OpSet) -> list[Summary]:
    """Run ``graph`` in PyTorch, in the dtypes of the graph, and summarise its outputs."""
    with torch.no_grad():
        results = to_callable(graph, ops)(*inputs)
    outputs = results if isinstance(results, (tuple, list)) else (results,)
    return [summarise(str(name), tensor) for name, tensor in zip(graph.outputs, outputs)]


def summarise(name: str, tensor: torch.Tensor) -> Summary:
    """Return the type and the statistics of ``tensor``."""
    dtype = next(ours for ours, theirs in TORCH_DTYPES.items() if theirs == tensor.dtype)
    values = tensor.detach().double()
    finite = values[values.isfinite()]
    if not finite.numel():
        finite = torch.tensor([float("nan")], dtype=torch.float64)
    mean, std = finite.mean().item(), finite.std(correction=0).item()
    minimum, maximum = finite.min().item(), finite.max().item()
    type_ = TensorType(dtype, tuple(tensor.shape))
    return Summary(name, type_, mean, std, minimum, maximum, n_nonfinite=int((~values.isfinite()).sum()))
