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


HOOKS: dict[str, HookFunction] = {"cat": _cat, "stack": _stack}
