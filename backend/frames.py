"""Messages between a process and the sandbox: JSON values and tensors as bytes, read without trust.

Nothing is unpickled: a reader takes what has the form of a frame and stops at anything else.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import attrs
import torch

_DTYPES = {str(d).removeprefix("torch."): d for d in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
)}  # fmt: skip


@attrs.frozen
class Frame:
    """A message: JSON values and tensors by name."""

    header: dict[str, Any]
    tensors: dict[str, torch.Tensor] = attrs.field(factory=dict, eq=False)

    def to_bytes(self) -> bytes:
        """Return the frame as bytes: two lengths, the header, and the dense contents of the tensors."""
        parts: list[bytes] = []
        listing = []
        for name, tensor in self.tensors.items():
            dense = tensor.detach().to("cpu").contiguous()
            data = dense.view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
            listing.append([name, str(dense.dtype).removeprefix("torch."), list(dense.shape), len(data)])
            parts.append(data)
        head = json.dumps({"header": self.header, "tensors": listing}).encode()
        body = b"".join(parts)
        return struct.pack("<QQ", len(head), len(body)) + head + body


def read_frames(data: bytes) -> Iterator[Frame]:
    """Yield the frames in ``data``; an incomplete last one, or anything malformed, ends the sequence."""
    return (frame for frame, _ in frames_and_ends(data))


def frames_and_ends(data: bytes) -> Iterator[tuple[Frame, int]]:
    """Yield the frames in ``data``, each with the place where it ends."""
    at = 0
    while at + 16 <= len(data):
        n_head, n_body = struct.unpack_from("<QQ", data, at)
        at += 16
        if at + n_head + n_body > len(data):
            return
        try:
            head = json.loads(data[at : at + n_head])
            offset, tensors = at + n_head, {}
            for name, dtype, shape, n_bytes in head["tensors"]:
                raw = bytearray(data[offset : offset + n_bytes])
                flat = torch.frombuffer(raw, dtype=torch.uint8).view(_DTYPES[dtype]) if raw else None
                empty = torch.empty(0, dtype=_DTYPES[dtype])
                tensors[name] = (empty if flat is None else flat).reshape(shape)
                offset += n_bytes
            frame = Frame(head["header"], tensors)
        except (ValueError, KeyError, TypeError, RuntimeError):
            return
        at += n_head + n_body
        yield frame, at
