"""The reference source of generated programs: where the synthesizer and a back end meet."""

from __future__ import annotations

import math
from typing import Any

from .synth import Program


def reference_source(program: Program) -> str:
    """Return a generated program as PyTorch source that a person would write; importable by name for worker processes."""
    from .backend.to_torch import to_source

    return to_source(program.graph)


def is_sound(program: Program, seed: int = 0) -> bool:
    """Return whether a program is worth training on, by running it in float64 on random inputs.

    It is not if some output is constant or mostly not finite, if a node gives back one of its operands, or if the outputs do
    not depend on some input at all.
    """
    import torch

    from .backend.oracle import Oracle
    from .ir import DrtError, Graph

    graph = program.graph
    every = Graph(graph.name, graph.inputs, graph.nodes, tuple(r for n in graph.nodes for r in n.results))
    generator = torch.Generator().manual_seed(seed + program.index)
    inputs = {i.name: _values(program, i.name, generator) for i in graph.inputs}
    try:
        values = dict(zip(every.outputs, Oracle().run(every, inputs), strict=True))
        for node in graph.nodes:
            for name in node.uses():
                before, after = values.get(name, inputs.get(name)), values[node.results[0]]
                if before is not None and before.shape == after.shape and torch.equal(before.double(), after.double()):
                    return False
        for output in graph.outputs:
            v = values[str(output)].double()
            if not v.isfinite().float().mean() > 0.5 or (v.numel() > 1 and bool((v == v.flatten()[0]).all())):
                return False
        for i in graph.inputs:
            # Several draws, for comparisons and extremes need not notice one.
            if not any(
                _differs(graph, values, inputs | {i.name: _values(program, i.name, generator)}) for _ in range(4)
            ):
                return False
    except (DrtError, RuntimeError, ArithmeticError):
        return False
    return True


def _differs(graph: Any, values: dict[Any, Any], inputs: dict[str, Any]) -> bool:
    import torch

    from .backend.oracle import Oracle

    again = Oracle().run(graph, inputs)
    return any(
        not torch.equal(values[n].nan_to_num(), v.nan_to_num()) for n, v in zip(graph.outputs, again, strict=True)
    )


def _values(program: Program, name: str, generator: Any) -> Any:
    """Return random values that fit an input of a generated program."""
    import torch

    from .backend.opaque import TORCH_DTYPES
    from .ir.typesys import is_float

    t = program.graph.input(name).type
    if t.dtype == "bool":
        return torch.rand(t.shape, generator=generator) < 0.5
    low, high = program.ranges.get(name, (-math.inf, math.inf))
    if is_float(t.dtype):
        value = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        if math.isfinite(low) and math.isfinite(high):
            value = low + (high - low) * torch.sigmoid(value)
        return value.clamp(low, high).to(TORCH_DTYPES[t.dtype])
    first = int(low) if math.isfinite(low) else 0
    stop = int(high) + 1 if math.isfinite(high) else 8
    return torch.randint(first, max(first + 1, stop), t.shape, generator=generator).to(TORCH_DTYPES[t.dtype])
