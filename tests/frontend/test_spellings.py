"""Spellings of one call that become one operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from drt.backend.to_torch import to_callable
from drt.frontend import import_module

X = torch.arange(24.0).view(2, 3, 4)


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (lambda x: x.flatten(1) + 1, ["reshape", "add"]),
        (lambda x: x.flatten(1, 1) + 1, ["add"]),
        (lambda x: x.narrow(-1, 1, 2) + 1, ["slice", "add"]),
        (lambda x: x.narrow(1, -2, 2) + 1, ["slice", "add"]),
        (lambda x: torch.cat([x.new_zeros(0), x], -2) + 1, ["add"]),
        (lambda x: torch.cat([x, x.new_zeros(0), x + 1], -1), ["add", "cat"]),
        (lambda x: torch.cat([x.new_zeros(0, dtype=torch.float64), x]), ["cast"]),
        (lambda x: torch.cat([x[0, 0], x.new_zeros(0)]), ["select", "select", "full", "cat"]),
    ],
)
def test_one_operator_for_every_spelling(
    function: Callable[[torch.Tensor], torch.Tensor], operators: list[str]
) -> None:
    imported = import_module(function, (X,))
    assert [n.op for n in imported.graph.nodes] == operators
    got, want = to_callable(imported.graph)(*imported.bind(X)), function(X)
    assert got.dtype == want.dtype and torch.equal(got, want)
