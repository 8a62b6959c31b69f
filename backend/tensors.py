"""Tensors as Python text, and in the order that a range asks for."""

from __future__ import annotations

import base64
import zlib

import torch

from ..ir import Range, order_of

#: Elements of a tensor that is written as its numbers, at most.
MAX_WRITTEN = 64

#: What a file defines in which the text of a large tensor stands.
UNPACK = '''
def _unpack(text, dtype, shape):
    """Return a tensor from its packed bytes."""
    import base64
    import zlib

    raw = bytearray(zlib.decompress(base64.b85decode(text)))
    return torch.frombuffer(raw, dtype=dtype).reshape(shape)
'''


def in_order(value: torch.Tensor, range_: Range | None) -> torch.Tensor:
    """Return elements of a range, without symbols, in the order along the last axis that it asks for."""
    order = order_of(range_)
    if not order or not value.numel() or not value.dim():
        return value
    if order == "anchored":
        assert range_ is not None
        lowest = torch.tensor(range_[0], dtype=value.dtype, device=value.device)
        value = value.index_fill(-1, torch.zeros(1, dtype=torch.int64, device=value.device), lowest)
    return value.sort(-1).values


def tensor_text(tensor: torch.Tensor) -> str:
    """Return Python text that makes ``tensor`` anew: its numbers, or its packed bytes where it is large.

    The text of packed bytes calls what :data:`UNPACK` defines.
    """
    dense = tensor.detach().cpu().contiguous()
    dtype, shape = str(dense.dtype), tuple(dense.shape)
    if 0 < dense.numel() <= MAX_WRITTEN and dense.dtype not in (torch.bfloat16, torch.float16):
        text = f"torch.tensor({dense.tolist()!r}, dtype={dtype})"
        return text.replace("inf", 'float("inf")').replace("nan", 'float("nan")')
    if not dense.numel():
        return f"torch.empty({shape}, dtype={dtype})"
    raw = dense.reshape(-1).view(torch.uint8).numpy().tobytes()
    packed = base64.b85encode(zlib.compress(raw, 9)).decode()
    return f"_unpack({packed!r}, {dtype}, {shape})"


__all__ = ["MAX_WRITTEN", "UNPACK", "tensor_text"]
