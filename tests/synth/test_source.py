"""Generated programs as PyTorch source: what is written runs, means the same, and is read back as an equivalent program."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drt.backend.to_torch import to_callable, to_source
from drt.frontend import import_module
from drt.ir import Graph, builtin_ops, simplify
from drt.synth import Sampler, Spec, stream
from programs.imported import without_names

#: Operators whose ``torch`` clause is one ATen call: their programs come back as the same graph.
OPS = (
    "relu", "gelu", "add", "mul", "linear", "matmul", "conv2d", "max_pool2d", "softmax", "sum", "mean", "layer_norm", "cat",
    "reshape", "permute", "where", "lt", "embedding", "cast", "cumsum", "bitwise_and", "flip", "silu", "amax", "transpose",
)  # fmt: skip


def results(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def plain(graph: Graph) -> tuple[Any, ...]:
    """Return what a graph says, without what changes nothing (a cast to the same dtype), which an import leaves out."""
    return without_names(simplify(graph, builtin_ops(), exact_only=True)[0])


def round_trip(graph: Graph) -> tuple[Graph, str]:
    """Check that the written module computes what the graph says, bit for bit, and return it as a graph again."""
    text = to_source(graph)
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    torch.manual_seed(0)
    module, args = namespace["Model"]().eval(), namespace["get_inputs"]()
    with torch.no_grad():
        torch.manual_seed(1)
        want = results(module(*[a.clone() for a in args]))
        torch.manual_seed(1)
        lines = results(to_callable(graph)(*[a.clone() for a in args]))
        again = import_module(module, args).graph
        torch.manual_seed(1)
        got = results(to_callable(again)(*[a.clone() for a in args]))
    for a, b, c in zip(want, lines, got, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=text)
        torch.testing.assert_close(c, b, rtol=1e-5, atol=1e-5, equal_nan=True, msg=text)
    return again, text


@pytest.mark.parametrize(("level", "n"), [(2, 10), (7, 6)])
def test_source_is_read_back(level: int, n: int) -> None:
    for program in stream(Sampler(Spec(level=level, ops=OPS, max_rank=4)), n):
        again, text = round_trip(program.graph)
        assert plain(again) == plain(program.graph), text


@pytest.mark.full
@pytest.mark.parametrize("level", [1, 4, 10])
def test_source_is_read_back_at_length(level: int) -> None:
    for program in stream(Sampler(Spec(level=level, ops=OPS, max_rank=5)), 150):
        again, text = round_trip(program.graph)
        assert plain(again) == plain(program.graph), text
