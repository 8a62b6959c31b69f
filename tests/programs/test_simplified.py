"""Programs that people bring, simplified: the same bits, or the same numbers where approximate rules are allowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drt.backend.to_torch import to_callable
from drt.ir import Graph, simplify, verify_graph
from programs.imported import case
from programs.zoo import PROGRAMS

#: Relative and absolute, for approximate rules, by dtype.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-5, torch.float64: 1e-9}


def outputs(graph: Graph, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    def leaves(value: Any) -> list[torch.Tensor]:
        if isinstance(value, (tuple, list)):
            return [t for v in value for t in leaves(v)]
        return [value] if isinstance(value, torch.Tensor) else []

    torch.manual_seed(1)
    return leaves(to_callable(graph)(*inputs))


@pytest.mark.parametrize("name", PROGRAMS)
def test_simplified(name: str) -> None:
    found = case(name)
    graph = found.imported.graph
    expected = outputs(graph, found.inputs())
    exact, _ = simplify(graph)
    verify_graph(exact)
    for a, b in zip(expected, outputs(exact, found.inputs()), strict=True):
        assert a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
    rounded, _ = simplify(graph, exact_only=False)
    verify_graph(rounded)
    for a, b in zip(expected, outputs(rounded, found.inputs()), strict=True):
        tolerance = TOLERANCE.get(a.dtype, 0.0)
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
