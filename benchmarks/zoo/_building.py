"""What the factories of the zoo share.

A file of the zoo is a family of models; a public function of it without required parameters makes one model and the
arguments of one call.  A factory builds a small configuration whose float64 comparison takes seconds; with ``full=True``
it builds the published width instead, which is only ever traced, never run.  No weights are downloaded.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

#: Models and arguments of one call: a tuple for positional ones, a dict for keyword arguments.
Made = tuple[nn.Module, Any]


class Outputs(nn.Module):
    """Calls a model with fixed keyword arguments and keeps the tensors of its result, in order."""

    def __init__(self, model: nn.Module, **fixed: Any) -> None:
        super().__init__()
        self.model = model
        self.fixed = fixed

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensors(self.model(*args, **kwargs, **self.fixed)))


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a nested result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors(v)] if isinstance(value, (tuple, list)) else []


def tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    """Return random token ids; the two smallest ids, often padding and start, are left out."""
    return torch.randint(2, vocabulary, (batch, length))


def image(size: int, batch: int = 2, channels: int = 3) -> torch.Tensor:
    """Return random pixels."""
    return torch.randn(batch, channels, size, size)


_DECLARED: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, also where its compiled operators cannot be loaded.

    The wheel of torchvision on the package index is built for CUDA and its library does not load beside a CPU build of
    torch; the import then fails where it registers shapes for operators that do not exist.  No model here calls these
    operators, so declaring their schemas is enough.
    """
    if not _DECLARED and importlib.util.find_spec("torchvision") and not torch.cuda.is_available():
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)
    import torchvision  # noqa: F401
