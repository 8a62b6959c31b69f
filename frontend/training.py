"""What training mode does behind PyTorch's back, said in operations that ``torch.export`` sees.

Two updates of running statistics do not survive an export as they stand: a cumulative average (``momentum=None``) reads the
number of batches into Python, and instance normalisation writes to its buffers inside one call that says nothing of it.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_instance_norm = torch.nn.functional.instance_norm


@contextlib.contextmanager
def visible_updates(module: nn.Module) -> Iterator[None]:
    """Within this context, calls of ``module`` update running statistics by operations that an export records."""
    averaging = [
        m for m in module.modules()
        if isinstance(m, _BatchNorm) and m.momentum is None and m.training and m.track_running_stats
        and type(m).forward is _BatchNorm.forward
    ]  # fmt: skip
    for m in averaging:
        m.forward = types.MethodType(_cumulative_batch_norm, m)  # type: ignore[method-assign]
    try:
        with mock.patch.object(torch.nn.functional, "instance_norm", _tracked_instance_norm):
            yield
    finally:
        for m in averaging:
            del m.forward


def _cumulative_batch_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Batch normalisation whose running statistics are plain averages over all batches so far."""
    self._check_input_dim(x)
    self.num_batches_tracked.add_(1)
    factor = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
    axes = [0, *range(2, x.dim())]
    mean, variance = x.mean(axes), x.var(axes, correction=1)
    # As PyTorch does, average in the dtype of the buffers.
    self.running_mean.copy_(self.running_mean * (1 - factor) + mean.to(self.running_mean.dtype) * factor)
    self.running_var.copy_(self.running_var * (1 - factor) + variance.to(self.running_var.dtype) * factor)
    return torch.nn.functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


def _tracked_instance_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Instance normalisation; the running statistics move towards the average over the samples."""
    if use_input_stats and running_mean is not None and running_var is not None:
        axes = list(range(2, x.dim()))
        mean, variance = x.mean(axes).mean(0), x.var(axes, correction=1).mean(0)
        running_mean.copy_(running_mean * (1 - momentum) + mean.to(running_mean.dtype) * momentum)
        running_var.copy_(running_var * (1 - momentum) + variance.to(running_var.dtype) * momentum)
        running_mean = running_var = None
    if not use_input_stats:
        return torch.nn.functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _instance_norm(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
