"""Draws from the distributions that ``random`` clauses name, in float64 or int64, from PyTorch's own generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

#: A sampler takes the shape of the result, the parameters (numbers, or tensors that broadcast to it) and the device.
Sampler = Callable[[Sequence[int], Sequence[Any], torch.device], torch.Tensor]


def _wide(value: Any, shape: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device=device).expand(tuple(shape))


def _uniform(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    low, high = (_wide(p, shape, device) for p in parameters)
    return low + (high - low) * torch.rand(tuple(shape), dtype=torch.float64, device=device)


def _normal(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    mean, std = (_wide(p, shape, device) for p in parameters)
    return mean + std * torch.randn(tuple(shape), dtype=torch.float64, device=device)


def _bernoulli(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    return torch.bernoulli(_wide(parameters[0], shape, device).contiguous())


def _integers(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    low, high = parameters
    return torch.randint(int(low), int(high), tuple(shape), device=device)


def _poisson(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    return torch.poisson(_wide(parameters[0], shape, device).contiguous())


def _permutation(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    return torch.randperm(int(parameters[0]), device=device)


def _categorical(shape: Sequence[int], parameters: Sequence[Any], device: torch.device) -> torch.Tensor:
    weights, n, replacement = parameters
    return torch.multinomial(weights, int(n), replacement=bool(replacement))


#: Name of the distribution -> its sampler; :data:`drt.ir.opdef.DISTRIBUTIONS` says what the parameters are.
SAMPLERS: dict[str, Sampler] = {
    "uniform": _uniform, "normal": _normal, "bernoulli": _bernoulli, "integers": _integers, "poisson": _poisson,
    "permutation": _permutation, "categorical": _categorical,
}  # fmt: skip
