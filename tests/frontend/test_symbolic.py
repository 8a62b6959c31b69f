"""Symbolic sizes of exported programs: what holds of the example alone becomes a guard, and other sizes compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from drt.backend.oracle import Oracle
from drt.backend.to_torch import to_callable
from drt.frontend import import_module
from drt.ir import UsageError, parse_graph, print_graph, verify_graph
from torch import nn


def split_rows(x: torch.Tensor, y: torch.Tensor) -> Any:
    return x.view(x.shape[0] // 8, 8, -1).sum(1), y[: x.shape[0]]


def branch(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, 6).amax(0) if x.shape[0] > 4 else x


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, 8))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x).flatten(2).transpose(1, 2)
        return self.norm(h).mean(1)


#: Program, example arguments, dynamic sizes, other arguments, header of the graph (after the name).
Row = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], tuple[Any, ...], str]
r = torch.randn
ROWS: dict[str, Row] = {
    "split": (split_rows, (r(16, 4), r(20)), {"x": {0: "B"}, "y": {0: ("T", 1, 500)}}, (r(40, 4), r(41)),
              "<B in 16..496, T in 1..500 where B % 8 == 0, B <= T>"),
    "branch": (branch, (r(9, 4),), {"x": {0: ("B", 1, 1000)}}, (r(12, 4),), "<B in 6..999 where B % 3 == 0>"),
    "equal": (lambda x, y: x + y, (r(9, 4), r(9, 4)), {"x": {0: "B"}, "y": {0: "T"}}, (r(5, 4), r(5, 4)), "<B in 2..65536>"),
    "chunk": (lambda x: x.chunk(2, 1)[0] * 2, (r(3, 9),), {"x": {1: "B"}}, (r(3, 14),), "<B in 4..65536>"),
    "pool": (lambda x: F.avg_pool1d(x, 3, 2), (r(2, 3, 9),), {"x": {2: "L"}}, (r(2, 3, 16),), "<L in 5..65536>"),
    "attention": (Attention(), (r(2, 5, 8),), {"x": {0: ("B", 1, 64), 1: ("T", 1, 128)}}, (r(3, 7, 8),),
                  "<B in 1..64, T in 1..128>"),
    "patches": (Patches(), (r(2, 3, 16, 16),), {"x": {0: ("B", 1, 64)}}, (r(5, 3, 16, 16),), "<B in 1..64>"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_other_sizes_compute_the_same(name: str) -> None:
    program, args, dynamic, others, header = ROWS[name]
    imported = import_module(program, args, dynamic=dynamic)
    graph = imported.graph
    assert print_graph(graph).split("(%x")[0].split("(\n")[0].endswith(header)
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph
    for given in (args, others):
        inputs = imported.bind(*given)
        with torch.no_grad():
            wanted = program(*given)
        got = imported.result(to_callable(graph)(*inputs), inputs)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        exact = Oracle().run(graph, {i.name: t for i, t in zip(graph.inputs, inputs)})
        torch.testing.assert_close(imported.result(exact, inputs), wanted, rtol=1e-4, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize(
    ("name", "others", "message"),
    [
        ("split", (r(20, 4), r(20)), "sizes B = 20 given, expected B % 8 == 0"),
        ("split", (r(24, 4), r(20)), "sizes B = 24, T = 20 given, expected B <= T"),
        ("pool", (r(2, 3, 4),), "size L is 4, expected 5..65536"),
        ("equal", (r(5, 4), r(6, 4)), r"input y has shape \[6, 4\], expected f32\[B, 4\]"),
    ],
)
def test_sizes_outside_are_refused(name: str, others: tuple[torch.Tensor, ...], message: str) -> None:
    program, args, dynamic, _, _ = ROWS[name]
    graph = import_module(program, args, dynamic=dynamic).graph
    inputs = dict(zip([i.name for i in graph.inputs], others))
    with pytest.raises(UsageError, match=message):
        Oracle().run(graph, inputs)
    with pytest.raises(ValueError, match=message):
        to_callable(graph)(*others)


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"x": {4: "B"}}, "x: has 2 axes, expected one of them rather than 4"),
        ({"x": {"0": "B"}}, "x: has 2 axes, expected one of them rather than '0'"),
        ({"x": "B"}, r"x: has the symbolic sizes 'B', expected {axis: name}"),
        ({"x": {0: 5}}, r"x: axis 0 has the symbolic size 5, expected {axis: name}"),
        ({"x": {0: "1 B"}}, "1 B: is no name, expected one such as B"),
        ([("x", 0)], r"dynamic: is a list, expected {argument: {axis: name}}"),
        ({"x": {0: ("B", 4, 64)}}, r"B: axis 0 of x is 3 in the example call, expected 4\.\.64"),
        ({"x": {0: "B", 1: "B"}}, "B: axis 1 of x is 5, but axis 0 of x is 3, expected one size"),
    ],
)
def test_sizes_that_the_example_does_not_have(dynamic: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_module(lambda x: x + 1, [torch.ones(3, 5)], dynamic=dynamic)


def test_a_size_that_must_be_one_number_is_named() -> None:
    with pytest.raises(UsageError, match=r"Constraints violated \(B\): B = 8 is the only size that the program takes"):
        import_module(lambda x: x.view(2, -1) + x.new_ones(2, 4), (torch.ones(8),), dynamic={"x": {0: "B"}})
