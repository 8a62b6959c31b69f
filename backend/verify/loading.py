"""Loading a candidate's source, and describing what it gives: shared by the sandbox's children and the device process."""

from __future__ import annotations

import contextlib
import os
import types
from typing import Any

import torch
import triton
import triton.language as tl
from torch._subclasses.fake_tensor import FakeTensor


def error_text(error: BaseException) -> str:
    """Return the innermost cause of an error as ``Type: message``, one line, with the candidate's line where known."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    line, trace = 0, root.__traceback__
    while trace is not None:
        if os.path.basename(trace.tb_frame.f_code.co_filename).startswith("candidate"):
            line = trace.tb_lineno
        trace = trace.tb_next
    text = " ".join(f"{type(root).__name__}: {root}".split())
    return f"{text[:600]}{f' (line {line})' if line else ''}"


def load_source(source: str, name: str = "candidate") -> types.ModuleType:
    """Run ``source`` as a module in whose namespace ``torch``, ``triton``, ``tl`` and ``math`` are bound."""
    import math

    path = os.path.join(os.getcwd(), f"{name}.py")
    with open(path, "w") as f:
        f.write(source)
    module = types.ModuleType(name)
    module.__file__ = path
    module.__dict__.update(torch=torch, triton=triton, tl=tl, math=math)
    with contextlib.suppress(ImportError):
        from triton.language.extra import libdevice

        module.__dict__["libdevice"] = libdevice
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def describe(value: Any) -> dict[str, Any]:
    """Return the shape, dtype, stride and device of an output, or what it is instead of a tensor."""
    # A tensor of a class of its own may compute when it is looked at.
    if not isinstance(value, torch.Tensor) or type(value) not in (torch.Tensor, torch.nn.Parameter, FakeTensor):
        return {
            "type": type(value).__name__,
            "value": value if isinstance(value, (bool, int, float, str)) else "",
        }
    return {
        "shape": list(value.shape), "stride": list(value.stride()), "dtype": str(value.dtype).removeprefix("torch."),
        "device": value.device.type,
    }  # fmt: skip
