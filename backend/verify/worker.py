"""What the sandbox's children do: import a candidate, trace it, run it under the corrected interpreter, send what came out.

Nothing is judged here: outputs and observations go to the parent, which alone knows what is right.
"""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .. import fork_server, sandbox
from . import interpreter, memory
from .algebra.runs import ring_runs, warm_up
from .launches import AtenRecorder, Event, NameRecorder, PretendCuda, Recorder, cuda_stubs, dead_steps, monitored
from .loading import describe, error_text, load_source


def trace_fake(
    entry: Callable[..., Any], inputs: Sequence[dict[str, Any] | None], others: Sequence[Any] = ()
) -> dict[str, Any]:
    """Run a launcher on fake tensors of the real sizes, which say that they are on a CUDA device; nothing is computed.

    Args:
        inputs: ``shape``, ``stride`` and ``dtype`` (PyTorch's name) of each argument; None for those that are no tensors.
        others: the arguments that are no tensors, at their places.

    Returns:
        ``launches`` (name, grid), ``outputs``, ``constants``, ``aten`` (calls that compute) and ``cpu_s`` (what the launcher
        itself takes), or ``error``, or ``skipped`` with the reason.
    """
    recorder, calls = Recorder(execute=False), NameRecorder()
    began = time.process_time()
    try:
        with cuda_stubs(), FakeTensorMode(allow_non_fake_inputs=True), calls, torch.no_grad(), recorder, PretendCuda():
            fake = [
                others[k] if i is None
                else torch.empty_strided(i["shape"], i["stride"], dtype=getattr(torch, i["dtype"]))
                for k, i in enumerate(inputs)
            ]  # fmt: skip
            out = entry(*fake)
            given = {id(t) for t in fake}
            outputs = [{**describe(o), "is_input": id(o) in given} for o in tree_leaves(out)]
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        return {"skipped": f"cannot be traced without values: {error_text(error)}"}
    except Exception as error:
        text = error_text(error)
        if "data_ptr" in text or "fake" in text.lower():
            return {"skipped": f"cannot be traced without values: {text}"}
        return {"error": text}
    return {
        "launches": [[e.name, list(e.grid)] for e in recorder.events], "outputs": outputs,
        "constants": sorted(c for c in recorder.constants if 0 < c < 2**31), "n_configs": recorder.n_configs,
        "aten": sorted(set(calls.names)), "cpu_s": time.process_time() - began,
    }  # fmt: skip


#: Runs that are made however long they take; the order puts the most telling ones first.
ENOUGH_RUNS = {"fragment": 4, "module": 2}


class Runner:
    """Runs one callable many times and observes each run.

    Args:
        call: takes positional arguments and returns a tensor, or a nest of them.
        persistent: tensors that belong to the callable (parameters, buffers) by name.
    """

    def __init__(self, call: Callable[..., Any], source_file: str, persistent: dict[str, torch.Tensor]) -> None:
        self.call, self.source_file, self.persistent = call, source_file, persistent
        self._kept: list[Any] = []
        self._storages: set[int] = set()

    def run(self, args: list[Any], names: list[str], fill: float = float("nan"), config: int = 0) -> dict[str, Any]:
        """Return ``outputs`` (leaves) and observations of one run; ``error`` where it raised."""
        events: list[Event] = []
        monitor = memory.MemoryMonitor(fill)
        monitor.source_file = self.source_file
        recorder = Recorder(True, config, events, source_file=self.source_file)
        tensors = {n: t for n, t in zip(names, args, strict=False) if isinstance(t, torch.Tensor)}
        for name, tensor in tensors.items():
            monitor.protect(tensor, name)
        before = {n: t.clone() for n, t in tensors.items()}
        started = time.perf_counter()
        error = ""
        outputs: list[Any] = []
        with torch.no_grad(), cuda_stubs(), recorder, monitored(monitor), AtenRecorder(events), PretendCuda():
            try:
                outputs = tree_leaves(self.call(*args))
            except Exception as raised:
                error = error_text(raised)
        seconds = time.perf_counter() - started
        found: dict[str, Any] = {"error": error, "kernel_error": recorder.kernel_error, "time_ms": seconds * 1e3}
        found["launches"] = [e.name for e in events if e.kind == "launch"]
        compute = [e for e in events if e.kind in ("compute", "opaque", "random")]
        counts: dict[str, int] = {}
        for e in compute:
            counts[e.name] = counts.get(e.name, 0) + 1
        found["aten"] = counts
        found["aten_flops"] = sum(e.flops for e in compute)
        found["triton_flops"] = monitor.flops
        found["syncs"] = sum(e.kind == "sync" for e in events)
        found["n_configs"] = recorder.n_configs
        read = frozenset[int]().union(*(e.reads for e in events))
        found["unread"] = [n for n, t in tensors.items() if t.numel() and t.untyped_storage().data_ptr() not in read]
        found["undefined_lanes"] = monitor.undefined_lanes
        found["changed_inputs"] = [
            n for n, t in tensors.items() if not torch.equal(_bits(t.contiguous()), _bits(before[n].contiguous()))
        ]
        if not error:
            found["dead"] = dead_steps(events, (outputs, list(self.persistent.values())))
            for i, o in enumerate(outputs):
                if isinstance(o, torch.Tensor):
                    monitor.check_output(o, f"output {i}")
            found["outputs"] = [describe(o) for o in outputs]
            found["alias"] = self._aliases(outputs, tensors)
            found["by_kernels"] = [monitor.share_by_kernels(o) for o in outputs if isinstance(o, torch.Tensor)]
        found["findings"] = [{**_plain(f), "text": f.text()} for f in monitor.findings]
        return {"observed": found, "outputs": outputs}

    def run_plainly(self, args: list[Any]) -> tuple[list[Any], str]:
        """Return the outputs of one run whose findings are left aside, and the error that it raised, if any."""
        recorder = Recorder(True, 0, [], source_file=self.source_file)
        with torch.no_grad(), cuda_stubs(), recorder, monitored(memory.MemoryMonitor()), PretendCuda():
            try:
                return tree_leaves(self.call(*args)), ""
            except Exception as raised:
                return [], error_text(raised)

    def _aliases(self, outputs: list[Any], inputs: dict[str, torch.Tensor]) -> list[str]:
        """Return what each output shares its memory with: ``input x``, ``output 0``, ``an earlier call``, or nothing."""
        given = {t.untyped_storage().data_ptr(): f"input {n}" for n, t in inputs.items()}
        given.update({t.untyped_storage().data_ptr(): f"state {n}" for n, t in self.persistent.items()})
        result = []
        for i, o in enumerate(outputs):
            if not isinstance(o, torch.Tensor) or not o.untyped_storage().nbytes():
                result.append("")
                continue
            address = o.untyped_storage().data_ptr()
            alias = given.get(address, "an earlier call" if address in self._storages else "")
            result.append(alias)
            given.setdefault(address, f"output {i}")
        self._storages |= {o.untyped_storage().data_ptr() for o in outputs if isinstance(o, torch.Tensor) and o.numel()}
        self._kept.append(outputs)  # so that an address is not given out twice
        return result


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)


def _plain(finding: memory.Finding) -> dict[str, Any]:
    return {"kind": finding.kind, "kernel": finding.kernel, "argument": finding.argument, "line": finding.line}


def _same(a: list[Any], b: list[Any]) -> bool:
    pairs = [(x, y) for x, y in zip(a, b, strict=False) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)]
    return all(x.shape == y.shape and torch.equal(_bits(x.contiguous()), _bits(y.contiguous())) for x, y in pairs)


def _judge_runs(
    runner: Runner,
    runs: list[dict[str, Any]],
    arguments: Callable[[int], list[Any]],
    names: list[str],
    channel: fork_server.Channel,
    budget_s: float,
    enough: int,
    before_run: Callable[[], None] = lambda: None,
    after_run: Callable[[], dict[str, torch.Tensor]] = dict,
) -> bool:
    """Run what was asked for, in order, until the budget is used or a run shows a fault; send one frame per run.

    Returns:
        Whether nothing was found against the candidate.
    """
    started = time.monotonic()
    pool: dict[int, list[Any]] = {}
    for index, run in enumerate(runs):
        if index >= enough and time.monotonic() - started > budget_s:
            channel.send("stopped", done=index)
            return True
        channel.send("stage", name="run", index=index)
        fresh = arguments(index)
        group = int(run["shapes"])
        if group in pool and not run.get("fresh"):
            # The same memory with new contents: an answer remembered by address is now a wrong one.
            for old, new in zip(pool[group], fresh, strict=True):
                if isinstance(old, torch.Tensor):
                    old.copy_(new)
            fresh = [o if isinstance(o, torch.Tensor) else n for o, n in zip(pool[group], fresh, strict=True)]
        else:
            pool[group] = fresh
        before_run()
        result = runner.run(fresh, names, config=int(run.get("config", 0)))
        observed, outputs = result["observed"], result["outputs"]
        tensors = {f"out.{i}": o for i, o in enumerate(outputs) if isinstance(o, torch.Tensor)}
        tensors.update({f"state.{n}": t for n, t in after_run().items()})
        channel.send("run", tensors, index=index, observed=observed)
        if observed["error"] or observed["findings"] or observed["changed_inputs"]:
            return False
        n_configs = observed["n_configs"]
        if index == 0 and n_configs > 1:
            for config in range(1, min(n_configs, 24)):
                if time.monotonic() - started > budget_s:
                    break
                channel.send("stage", name="config", index=index, config=config)
                before_run()
                other = runner.run(fresh, names, config=config)
                tensors = {f"out.{i}": o for i, o in enumerate(other["outputs"]) if isinstance(o, torch.Tensor)}
                channel.send("run", tensors, index=index, config=config, observed=other["observed"])
                if other["observed"]["error"] or other["observed"]["findings"]:
                    return False
        if observed["undefined_lanes"] and not run.get("repeat_done") and index < 2:
            sides = []
            for fill in (3e38, -3e38):
                before_run()
                sides.append(runner.run(fresh, names, fill=fill, config=int(run.get("config", 0)))["outputs"])
            if not _same(sides[0], sides[1]):
                channel.send("undefined", index=index)
                return False
        if channel.is_stopped():
            channel.send("halted", done=index + 1)
            break
    return True


def _draw_runs(
    runner: Runner,
    h: dict[str, Any],
    arguments: Callable[[int], list[Any]],
    channel: fork_server.Channel,
    before_run: Callable[[], None] = lambda: None,
    after_run: Callable[[], dict[str, torch.Tensor]] = dict,
) -> None:
    """Run a random program many times on the same arguments, unwatched; send one frame of stacked results per set of draws.

    Each entry of ``h["draws"]`` says which run's arguments, how many draws, the seed of the first, and the processor time
    they may take.
    """
    for job in h.get("draws", ()):
        channel.send("stage", name="draws", index=job["run"])
        started = time.process_time()
        columns: dict[str, list[torch.Tensor]] = {}
        error = ""
        for k in range(job["n"]):
            if time.process_time() - started > job["budget_s"]:
                break
            args = arguments(job["run"])
            before_run()
            torch.manual_seed(job["seed"] + k)
            outputs, error = runner.run_plainly(args)
            if error:
                break
            found = {f"out.{i}": o.clone() for i, o in enumerate(outputs) if isinstance(o, torch.Tensor)}
            found.update({f"state.{n}": t.clone() for n, t in after_run().items()})
            for name, tensor in found.items():
                columns.setdefault(name, []).append(tensor)
        stacks = {n: torch.stack(c) for n, c in columns.items() if len({t.shape for t in c}) == 1}
        channel.send("draws", stacks, run=job["run"], seed=job["seed"], error=error)


def judge_fragment(request: sandbox.Frame, channel: fork_server.Channel) -> None:
    """Serve a job of kind ``fragment``: a launcher that takes and returns tensors."""
    h = request.header
    channel.send("stage", name="import")
    try:
        module = load_source(h["source"])
        entry = getattr(module, h["entry"])
    except Exception as error:
        channel.send("import_error", error=error_text(error))
        return
    if h.get("real"):
        channel.send("stage", name="trace")
        started = time.perf_counter()
        fake = trace_fake(entry, h["real"])
        channel.send("fake", time_ms=(time.perf_counter() - started) * 1e3, **fake)
        if "error" in fake:
            return
    runner = Runner(entry, str(module.__file__), {})

    def arguments(index: int) -> list[Any]:
        out = []
        for i, stride in enumerate(h["runs"][index]["strides"]):
            dense = request.tensors[f"{index}.{i}"]
            if stride is not None and list(dense.stride()) != stride:
                view = torch.empty_strided(dense.shape, stride, dtype=dense.dtype)
                dense = view.copy_(dense)
            out.append(dense)
        return out

    went_well = _judge_runs(runner, h["runs"], arguments, h["names"], channel, h["budget_s"], ENOUGH_RUNS["fragment"])
    if went_well:
        _draw_runs(runner, h, arguments, channel)
    if h.get("ring") and went_well:
        ring_runs(entry, request, channel)


def _unpickled(frame: sandbox.Frame, name: str) -> Any:
    # Written by the parent, read by the child: the trusted direction.
    return torch.load(io.BytesIO(frame.tensors[name].numpy().tobytes()), weights_only=False)


def judge_module(request: sandbox.Frame, channel: fork_server.Channel) -> None:
    """Serve a job of kind ``module``: a whole file that defines ``ModelNew``."""
    h = request.header
    channel.send("stage", name="import")
    try:
        module = load_source(h["source"])
    except Exception as error:
        channel.send("import_error", error=error_text(error))
        return
    factory = getattr(module, h["entry"], None)
    if factory is None:
        channel.send("import_error", error=f"the file defines no {h['entry']}")
        return
    channel.send("stage", name="construct")
    state = {k.removeprefix("state."): v for k, v in request.tensors.items() if k.startswith("state.")}
    try:
        args, kwargs = _unpickled(request, "init")
        with cuda_stubs():
            model = factory(*args, **kwargs)
        model.train(bool(h["training"]))
        model.load_state_dict(state, strict=True)
    except Exception as error:
        channel.send("construct_error", error=error_text(error))
        return
    persistent = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    specs: dict[str, Any] = {}

    def call(*leaves: Any) -> Any:
        args, kwargs = tree_unflatten(list(leaves), specs["now"])
        return model(*args, **kwargs)

    def arguments(index: int) -> list[Any]:
        leaves, specs["now"] = tree_flatten(_unpickled(request, f"args.{index}"))
        return leaves

    runner = Runner(call, str(module.__file__), persistent)

    def restore() -> None:
        with torch.no_grad():
            model.load_state_dict(state, strict=True)
        torch.manual_seed(h["seed"])

    def changed() -> dict[str, torch.Tensor]:
        return {
            n: t for n, t in model.state_dict().items()
            if not torch.equal(_bits(t.contiguous()), _bits(state[n].contiguous()))
        }  # fmt: skip

    if h.get("real"):
        channel.send("stage", name="trace")
        started = time.perf_counter()
        fake = trace_fake(call, h["real"], arguments(0))
        channel.send("fake", time_ms=(time.perf_counter() - started) * 1e3, **fake)
        if "error" in fake:
            return
    enough = ENOUGH_RUNS["module"]
    if _judge_runs(runner, h["runs"], arguments, h["names"], channel, h["budget_s"], enough, restore, changed):
        _draw_runs(runner, h, arguments, channel, restore, changed)


def handle(request: sandbox.Frame, channel: fork_server.Channel) -> None:
    """Serve one job."""
    warnings.simplefilter("ignore")
    (judge_module if request.header["kind"] == "module" else judge_fragment)(request, channel)


_WARM = """
@triton.jit
def _warm(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    b = tl.load(y + i, mask=i < n, other=0.0).to(tl.float32)
    m = tl.max(a, 0) + tl.sum(tl.exp(b), 0)
    tl.store(o + i, tl.where(a > 0, a * b + m, tl.sigmoid(a)), mask=i < n)


def warm(x, y):
    o = torch.empty_like(x)
    _warm[(triton.cdiv(x.numel(), 16),)](x, y, o, x.numel(), BLOCK=16)
    return o
"""


def _warm_up() -> None:
    """Run one small kernel through everything, so that children start with it all imported and cached."""
    import tempfile

    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        module = load_source(_WARM, "warm")
        shape = {"shape": [20], "stride": [1]}
        trace_fake(module.warm, [{**shape, "dtype": "float32"}, {**shape, "dtype": "bfloat16"}])
        runner = Runner(module.warm, str(module.__file__), {})
        runner.run([torch.ones(20), torch.ones(20, dtype=torch.bfloat16)], ["x", "y"])
        warm_up(module.warm)
        os.chdir(here)


def main() -> None:
    """The sandbox server's program."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    interpreter.install()
    memory.install()
    _warm_up()
    fork_server.serve(handle)
