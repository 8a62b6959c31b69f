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


TOKENS = torch.tensor([3, 1, 2, 3, 0, 1], dtype=torch.int32)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: torch.cumsum(x, 0, dtype=torch.int32), TOKENS),
        (lambda x: torch.cumsum(x, 0, dtype=torch.int32), TOKENS.long() * 2**30),  # wraps
        (lambda x: torch.cumprod(x + 5, 0, dtype=torch.uint8), TOKENS),
        (lambda x: torch.cumsum(x, 0, dtype=torch.float64), TOKENS),
    ],
)
def test_running_sums_of_a_given_dtype(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    imported = import_module(function, (x,))
    assert not imported.unknown
    got, want = to_callable(imported.graph)(*imported.bind(x)), function(x)
    assert got.dtype == want.dtype and torch.equal(got, want)


def test_integers_are_counted_as_devices_count_them() -> None:
    """PyTorch has no kernel for it on the CPU, and on other devices it keeps the dtype."""
    imported = import_module(lambda x: torch.histc(x, bins=4, min=0, max=3), (TOKENS.to("meta"),))
    assert not imported.unknown
    got = to_callable(imported.graph)(TOKENS)
    assert got.dtype == torch.int32 and got.tolist() == [1, 2, 1, 2]
