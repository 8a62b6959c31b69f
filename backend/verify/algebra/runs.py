"""A candidate's run on ring elements, in the sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from ... import fork_server, sandbox
from ..launches import PretendCuda, Recorder, cuda_stubs, monitored
from ..loading import error_text
from .element import Algebra
from .kernels import RingMonitor, ring_kernels

_DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def ring_runs(call: Callable[..., Any], request: sandbox.Frame, channel: fork_server.Channel) -> None:
    """Make the runs that ``request`` asks for under ``ring``, until one cannot be made; send one frame for each.

    Args:
        call: the launcher.
    """
    ring = request.header["ring"]
    for index, run in enumerate(ring["runs"]):
        deadline = time.process_time() + ring["later_s" if index else "first_s"]
        channel.send("stage", name="ring", index=index)
        started = time.perf_counter()
        try:
            header, tensors = _ring_run(call, request, ring["seed"], index, run, deadline)
        except Exception as error:  # whatever it is, the candidate ran well on floats
            header, tensors = {"skipped": error_text(error)}, {}
        channel.send("ring", tensors, index=index, time_ms=(time.perf_counter() - started) * 1e3, **header)
        if "skipped" in header:
            return


def _ring_run(
    call: Callable[..., Any], request: sandbox.Frame, seed: int, index: int, run: dict[str, Any], deadline: float
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    algebra = Algebra(seed)
    monitor = RingMonitor(algebra, deadline)
    arguments = []
    for i, dtype in enumerate(run["dtypes"]):
        given = request.tensors[f"ring.{index}.{i}"]
        tensor = given.to(_DTYPES.get(dtype, given.dtype), copy=True)
        if tensor.is_floating_point() and tensor.numel():
            monitor.shadows.put(tensor, algebra.numbers(given.numpy()))
        arguments.append(tensor)
    with (
        torch.no_grad(), cuda_stubs(), Recorder(True), monitored(monitor), PretendCuda(), ring_kernels(monitor),
    ):  # fmt: skip
        outputs = [o for o in tree_leaves(call(*arguments)) if isinstance(o, torch.Tensor)]
    tensors: dict[str, torch.Tensor] = {}
    lawful = []
    for i, o in enumerate(outputs):
        lawful.append(-1)
        if o.is_floating_point():
            x = monitor.shadows.get(o)
            tensors[f"v.{i}"] = torch.from_numpy(x.v.copy())
            tensors[f"r.{i}"] = torch.from_numpy(x.r.astype(np.int32))
            lawful[-1] = x.lawful
    header = {
        "lawful": lawful, "used": sorted(algebra.used), "accidents": sorted(algebra.accidents),
        "written": sorted(algebra.constants.written), "unexplained": sorted(algebra.constants.unexplained),
    }  # fmt: skip
    return header, tensors


def warm_up(call: Callable[..., Any]) -> None:
    """Run a kernel of two inputs on elements once, so that the first job finds everything imported."""
    given = torch.linspace(-1, 1, 20, dtype=torch.float64)
    request = sandbox.Frame({}, {"ring.0.0": given, "ring.0.1": given})
    _ring_run(call, request, 1, 0, {"dtypes": ["f32", "bf16"]}, time.process_time() + 60.0)
