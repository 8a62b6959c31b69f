"""Meanings that the operator language cannot say, by the name that a ``hook`` clause gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

#: A hook takes the operands by name (float64, integer or bool tensors) and the environment of ``infer``, and returns the
#: results in order.
HookFunction: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], list[torch.Tensor]]


def _cat(operands: Mapping[str, Any], env: Mapping[str, Any]) -> list[torch.Tensor]:
    return [torch.cat(list(operands["xs"]), dim=env["axis"])]


def _stack(operands: Mapping[str, Any], env: Mapping[str, Any]) -> list[torch.Tensor]:
    return [torch.stack(list(operands["xs"]), dim=env["axis"])]


def _argsort(operands: Mapping[str, Any], env: Mapping[str, Any]) -> list[torch.Tensor]:
    # PyTorch sorts booleans as numbers, but not on every device.
    x = operands["x"].to(torch.uint8) if operands["x"].dtype == torch.bool else operands["x"]
    return [torch.argsort(x, dim=env["axis"], descending=env["descending"], stable=True)]


def _scatter(operands: Mapping[str, Any], env: Mapping[str, Any]) -> list[torch.Tensor]:
    """Combine elements of ``src`` at the places that ``index`` names; without ``reduce`` the last one stays."""
    x, index, src = operands["x"], operands["index"].to(torch.int64), operands["src"]
    if "reduce" not in env:
        return [torch.scatter(x, env["axis"], index, src)]
    return [torch.scatter_reduce(x, env["axis"], index, src, env["reduce"], include_self=env["include_self"])]


def _searchsorted(operands: Mapping[str, Any], env: Mapping[str, Any]) -> list[torch.Tensor]:
    sequence, values = operands["sequence"].contiguous(), operands["values"].contiguous()
    return [torch.searchsorted(sequence, values, sorter=operands["sorter"], right=env["right"])]


HOOKS: dict[str, HookFunction] = {
    "cat": _cat, "stack": _stack, "argsort": _argsort, "scatter": _scatter, "searchsorted": _searchsorted,
}  # fmt: skip
