"""The device gate: the candidate on the CUDA device, at the real sizes, in a process of its own.

A fragment's candidate is replayed from its tape (:mod:`.tape`) by a process that never sees the candidate's Python.  Where it
has no tape, or its kernels do not compile from their IR, its Python runs in another process, whose word is then taken for what
it computed; the evidence says which of the two it was.

Every input lies between guard zones, once filled with a huge positive and once with a huge negative number; every tensor that
the candidate allocates is guarded too and starts as NaN.  Results are compared, on the device, with the reference in float64
under the tolerance of the gate meaning.  The truth is computed after the candidate has run, from inputs that are drawn
after it was loaded.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import math
import os
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from ...ir import DrtError, Graph, OpSet, UsageError, builtin_ops, input_ranges
from .. import fork_server, sandbox
from ..candidate import Candidate
from ..oracle import Oracle
from ..sandbox import Frame, Reply
from ..to_torch import to_callable
from . import families, reading, shrink
from .compiling import why_no_tape
from .draws import compare_calls, graph_is_random
from .judge import expected_outputs, reference_evaluations
from .loading import describe, error_text, load_source
from .reference import ALIKE, Reference
from .tape import Replay, Tape, TapeError, set_scratch_allocator
from .tolerance import compare
from .verdict import Docket

#: Where candidates run; tests of this file's own logic set it to ``cpu``, with kernels interpreted.
DEVICE = "cuda"

_PAD_BYTES = 64 * 1024
_EMPTY = {
    f"aten::{n}" for n in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted")
}


# -- in the device process --------------------------------------------------------------------------------------------


def _fill_value(dtype: torch.dtype, sign: float) -> float | int | bool:
    if dtype == torch.bool:
        return sign > 0
    if not dtype.is_floating_point:
        return 0x55 if sign > 0 else 0x2A
    return sign * (6e4 if dtype == torch.float16 else 1e30)


class _Zone:
    """A tensor in the middle of a larger allocation whose ends hold a known pattern."""

    def __init__(self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, sign: float, name: str) -> None:
        self.name, self.dtype = name, dtype
        size = torch.empty(0, dtype=dtype).element_size()
        self.pad = _PAD_BYTES // size
        self.n = 1 + sum((s - 1) * t for s, t in zip(shape, stride, strict=True)) if 0 not in shape else 0
        self.whole = torch.empty(self.n + 2 * self.pad, dtype=dtype, device=DEVICE)
        self.pattern = _fill_value(dtype, sign)
        self.whole[: self.pad].fill_(self.pattern)
        self.whole[self.pad + self.n :].fill_(self.pattern)
        self.tensor = self.whole.as_strided(tuple(shape), tuple(stride), self.pad)

    def damage(self) -> str:
        """Return what was written outside the tensor, as text; empty where nothing was."""
        zones = ((self.whole[: self.pad], "before"), (self.whole[self.pad + self.n :], "after"))
        for zone, where in zones:
            wrong = zone != self.pattern
            n = int(wrong.sum())
            if n:
                at = int(wrong.to(torch.int8).argmax())
                element = at - self.pad if where == "before" else self.n + at
                return f"{n} element(s) written {where} {self.name}, first at element {element} (valid 0..{self.n - 1})"
        return ""


class _GuardAllocations(TorchDispatchMode):
    """Puts what the candidate allocates into guard zones, filled with NaN."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.zones: list[_Zone] = []
        self.aten: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        if (
            name in _EMPTY
            and isinstance(out, torch.Tensor)
            and out.device.type == DEVICE
            and out.numel()
            and out.layout == torch.strided
        ):
            if out.dtype.is_complex:
                return out
            zone = _Zone(out.shape, out.stride(), out.dtype, self.sign, f"allocation {len(self.zones)}")
            dtype = out.dtype
            zone.tensor.fill_(float("nan") if dtype.is_floating_point else dtype == torch.bool or 0x55)
            self.zones.append(zone)
            return zone.tensor
        if func.namespace == "aten" and not func.is_view and name not in _EMPTY:
            key = str(func).removeprefix("aten.")
            self.aten[key] = self.aten.get(key, 0) + 1
        return out


def _set_flags(precision: str) -> None:
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _load(source: str, name: str) -> types.ModuleType:
    module = load_source(source, name)
    sys.modules[name] = module
    return module


def _launch_counter() -> list[int] | None:
    from triton import knobs

    hook = getattr(knobs.runtime, "launch_enter_hook", None)
    if hook is None or not hasattr(hook, "add") or knobs.runtime.interpret:  # interpreted launches call no hook
        return None
    count = [0]

    def enter(*args: Any) -> None:
        count[0] += 1

    hook.add(enter)
    return count


def _guarded_call(
    call: Callable[..., Any], given: Sequence[Any], sign: float
) -> tuple[list[Any], _GuardAllocations, list[_Zone], list[int]]:
    """Run ``call`` on guarded copies; returns the outputs (copied), the guards, and which inputs changed."""
    zones: list[_Zone] = []
    copies: list[Any] = []
    for k, t in enumerate(given):
        if isinstance(t, torch.Tensor) and t.numel() and not t.dtype.is_complex:
            zone = _Zone(t.shape, t.stride(), t.dtype, sign, f"input {k}")
            zone.tensor.copy_(t)
            zones.append(zone)
            copies.append(zone.tensor)
        else:
            copies.append(t)
    with torch.no_grad(), _GuardAllocations(sign) as guards:
        result = call(*copies)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    outputs = [o.clone() if isinstance(o, torch.Tensor) else o for o in tree_leaves(result)]
    changed = [
        k for k, (c, t) in enumerate(zip(copies, given, strict=True))
        if isinstance(t, torch.Tensor) and not torch.equal(_bits(c), _bits(t))
    ]  # fmt: skip
    return outputs, guards, zones, changed


def _bits(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous().reshape(-1).view(torch.uint8)


class _Report:
    """Collects the first failure, and how much of the allowance was used."""

    def __init__(self, channel: fork_server.Channel) -> None:
        self.channel = channel
        self.used: dict[str, float] = {}
        self.failed = False

    def fail(self, label: str, message: str) -> None:
        if not self.failed:
            self.channel.send("failure", label=label, message=message)
        self.failed = True

    def structure(
        self, outputs: list[Any], guards: _GuardAllocations, zones: list[_Zone], changed: list[int], names: Sequence[str],
        expected: list[dict[str, Any]], where: str,
    ) -> None:  # fmt: skip
        described = [{**describe(o), "device": "cuda"} for o in outputs]
        problem = reading.check_outputs(described, expected)
        if problem is not None:
            self.fail(problem[0], f"{problem[1]} ({where})")
        for zone in (*zones, *guards.zones):
            damage = zone.damage()
            if damage:
                self.fail("oob_write", f"{damage} ({where})")
        if changed:
            self.fail("input_write", f"input {names[changed[0]]} changed during the call ({where})")

    def values(
        self, outputs: list[Any], truth: Sequence[torch.Tensor], variants: Sequence[Sequence[torch.Tensor]], where: str
    ) -> None:
        tensors = [o for o in outputs if isinstance(o, torch.Tensor)]
        labels = {"element": "wrong_value", "bulk": "inaccurate", "nonfinite": "nonfinite", "exact": "inexact"}
        for i, (out, want) in enumerate(zip(tensors, truth, strict=False)):
            if out.shape != want.shape:
                continue
            found = compare(i, out, want, [v[i] for v in variants])
            if not found.refused:
                used = round(max(found.bulk / 4, found.element / 8), 3)
                self.used[where] = max(self.used.get(where, 0.0), min(used, 1e9))
            if found.mismatch is not None:
                self.fail(labels[found.mismatch.kind], f"{found.mismatch.text} ({where})")


def judge_fragment(request: Frame, channel: fork_server.Channel) -> None:
    """Serve a job of kind ``fragment`` on the device."""
    h = request.header
    graph, ops, domains = _unpickled(request, "program")
    ops = builtin_ops() if ops is None else ops
    _set_flags(h["precision"])
    report = _Report(channel)
    replay: Replay | None = None
    if "tape" in h:
        try:
            set_scratch_allocator()
            entry = replay = Replay(Tape.from_json(h["tape"]), Path.cwd(), DEVICE)
        except TapeError as error:
            channel.send("no_tape", reason=str(error))
            return
    else:
        try:
            module = _load(h["source"], f"candidate_{h['number']}")
            entry = getattr(module, h["entry"])
        except Exception as error:
            report.fail("import", f"importing the source raised {type(error).__name__}: {error}"[:600])
            return
    count = _launch_counter()
    static = shrink.bind(graph, None, ops)
    ranges = input_ranges(static, ops)
    expected = expected_outputs(static)
    oracle, reference = Oracle(ops, mode="torch"), to_callable(static, ops)
    generator = torch.Generator(DEVICE)
    generator.manual_seed(families.secret_seed())
    names = [i.name for i in static.inputs]
    first_ms = 0.0
    for family, sign in (("normal", 1.0), ("mixed", -1.0), ("normal", -1.0)):
        inputs = {
            i.name: families.draw(
                i.type, family, generator, domains.get(i.name, "real"), ranges.get(i.name), device=DEVICE
            )
            for i in static.inputs
        }
        given = list(inputs.values())
        started = time.perf_counter()
        try:
            outputs, guards, zones, changed = _guarded_call(entry, given, sign)
        except torch.cuda.OutOfMemoryError:
            channel.send("skipped", reason="the device has too little memory for guarded copies")
            return
        except TapeError as error:
            channel.send("no_tape", reason=str(error))
            return
        except Exception as error:
            _fatal(report, error, family)
            return
        first_ms = first_ms or (time.perf_counter() - started) * 1e3
        if count is not None and count[0] == 0 and any(math.prod(e["shape"]) for e in expected):
            report.fail("no_kernel", "no Triton kernel was launched")
        report.structure(outputs, guards, zones, changed, names, expected, f"values {family}")
        del guards, zones
        if graph_is_random(static, ops):
            difference = compare_calls(partial(reference, *given), partial(entry, *given), families.secret_seed())
            if difference is not None:
                report.fail("distribution", f"{difference.text} (values {family})")
                return
            continue
        try:
            truth = [o for o in oracle.run(static, inputs) if isinstance(o, torch.Tensor)]
            smallest = min((t.numel() for t in truth), default=0)
            variants = reference_evaluations(reference, given, h["precision"], smallest, 1)
        except torch.cuda.OutOfMemoryError:
            channel.send("skipped", reason="the device has too little memory for the float64 reference")
            return
        report.values(outputs, truth, variants, f"values {family}")
        del truth, variants, outputs, inputs, given
        if report.failed:
            return
    timed: dict[str, Any] = {}
    if replay is not None:
        timed["same_code"] = replay.same_code
        if DEVICE == "cuda":
            timed |= _timed(replay, static, ops, h["precision"])
    n_launches = count[0] if count else None
    channel.send(
        "passed", used=report.used, first_call_ms=first_ms, launches=n_launches, replayed=replay is not None, **timed
    )


def _timed(replay: Replay, static: Graph, ops: OpSet, precision: str) -> dict[str, Any]:
    """Return the time of a replay: chosen among its autotuned configurations, and measured, by this process's clock."""
    from ..measure import graph_inputs, measure

    inputs = graph_inputs(static, DEVICE, ops)

    def time_us(call: Callable[[], Any]) -> float:
        found = measure({"call": lambda *_: call()}, inputs, precision=precision, budget_s=0.05, max_samples=10)
        return found["call"].median_us

    try:
        with torch.no_grad():
            replay.tune(list(inputs(0)), time_us)
        timing = measure({"replay": replay}, static, precision=precision, budget_s=0.3, ops=ops)["replay"]
    except torch.cuda.OutOfMemoryError:
        return {}
    return {"time_us": round(timing.median_us, 3), "low_us": timing.low_us, "high_us": timing.high_us,
            "suspicious": timing.suspicious}  # fmt: skip


def _fatal(report: _Report, error: Exception, where: str) -> None:
    text = error_text(error)
    label = "crash" if "CUDA error" in text or "illegal" in text else "raises"
    report.fail(label, f"on the device the candidate raised {text} (values {where})")
    if label == "crash":  # the CUDA context is lost: this process can do no more
        os._exit(17)


def judge_module(request: Frame, channel: fork_server.Channel) -> None:
    """Serve a job of kind ``module`` on the device."""
    h = request.header
    try:
        _provide(h["modules"])
        init, calls, reference = _unpickled(request, "program")
    except Exception as error:
        channel.send("skipped", reason=f"the reference cannot be rebuilt in the device process: {error}"[:300])
        return
    _set_flags(h["precision"])
    report = _Report(channel)
    try:
        module = _load(h["source"], f"candidate_{h['number']}")
        model = getattr(module, h["entry"])(*init[0], **init[1])
        model.load_state_dict(reference.state_dict(), strict=True)
        model.to(DEVICE).train(reference.training)
    except Exception as error:
        report.fail("construct", f"constructing {h['entry']} raised {type(error).__name__}: {error}"[:600])
        return
    count = _launch_counter()
    reference.to(DEVICE)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    truth_of = Reference(reference, h["precision"], 1)
    first_ms = 0.0
    for number, (family, args, kwargs) in enumerate(calls):
        args, kwargs = _to_cuda((args, kwargs))
        leaves, spec = tree_flatten((args, kwargs))
        model.load_state_dict(state, strict=True)

        def call(*flat: Any, spec: Any = spec) -> Any:
            again, named = tree_unflatten(list(flat), spec)
            return model(*again, **named)

        started = time.perf_counter()
        try:
            outputs, guards, zones, changed = _guarded_call(call, leaves, 1.0 if number % 2 else -1.0)
        except torch.cuda.OutOfMemoryError:
            channel.send("skipped", reason="the device has too little memory for guarded copies")
            return
        except Exception as error:
            _fatal(report, error, family)
            return
        first_ms = first_ms or (time.perf_counter() - started) * 1e3
        n_elements = sum(o.numel() for o in outputs if isinstance(o, torch.Tensor))
        if h["require_kernel"] and count is not None and count[0] == 0 and n_elements:
            report.fail("no_kernel", "no Triton kernel was launched")
        try:
            if number == 0 and truth_of.is_random(args, kwargs):
                difference = compare_calls(
                    partial(truth_of.call, args, kwargs), partial(model, *args, **kwargs), families.secret_seed()
                )
                if difference is not None:
                    report.fail("distribution", difference.text)
                    return
                launches = count[0] if count else None
                channel.send("passed", used={"compared": "draws"}, first_call_ms=first_ms, launches=launches)
                return
            result = truth_of.run(args, kwargs)
        except UsageError:
            continue  # a moved input outside what the program takes
        except torch.cuda.OutOfMemoryError:
            channel.send("skipped", reason="the device has too little memory for the float64 reference")
            return
        expected = [
            {
                "shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."),
                "strides": [list(t.stride()), reading.contiguous(list(t.shape))],
            }
            for t in result.eager if isinstance(t, torch.Tensor)
        ]  # fmt: skip
        if family != "given" and not result.is_finite() or family in ALIKE and truth_of.is_unordered(args, kwargs):
            continue
        names = [f"argument {k}" for k in range(len(leaves))]
        tensors = [o for o in outputs if isinstance(o, torch.Tensor)]
        report.structure(tensors, guards, zones, changed, names, expected, f"values {family}")
        report.values(tensors, result.truth, result.variants, f"values {family}")
        now = model.state_dict()
        for n in state:
            same = torch.equal(_bits(now[n]), _bits(state[n]))
            if n in result.updated:
                found = compare(0, now[n], result.updated[n], result.updated_variants[n])
                if found.mismatch is not None:
                    report.fail("state", f"buffer {n}: {found.mismatch.text.replace('output 0', 'its content')}")
            elif not same:
                report.fail("state", f"{n} changed during the call, expected it to stay")
        if report.failed:
            return
    channel.send("passed", used=report.used, first_call_ms=first_ms, launches=count[0] if count else None)


def _provide(modules: Mapping[str, str]) -> None:
    """Load the files of modules that pickled classes live in and that no import finds."""
    for name, path in modules.items():
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)


def _to_cuda(value: Any) -> Any:
    return tree_map(lambda t: t.to(DEVICE) if isinstance(t, torch.Tensor) else t, value)


def _unpickled(frame: Frame, name: str) -> Any:
    # Written by the parent, read here: the trusted direction.
    return torch.load(io.BytesIO(frame.tensors[name].numpy().tobytes()), weights_only=False)


_jobs = 0


def handle(request: Frame, channel: fork_server.Channel) -> None:
    """Serve one job."""
    global _jobs
    _jobs += 1
    request.header["number"] = _jobs
    here = os.getcwd()
    import tempfile

    with tempfile.TemporaryDirectory(prefix="drt_device_") as folder:
        os.chdir(folder)  # the candidate's file must exist while Triton reads kernels from it
        try:
            (judge_module if request.header["kind"] == "module" else judge_fragment)(request, channel)
        finally:
            os.chdir(here)
            if DEVICE == "cuda":
                torch.cuda.empty_cache()


def main() -> None:
    """The device process's program."""
    torch.zeros(1, device=DEVICE)
    fork_server.serve_worker(handle)


# -- in the parent ----------------------------------------------------------------------------------------------------


def _files_of(module: torch.nn.Module) -> dict[str, str]:
    """Return the files of the Python modules that define the classes of ``module`` and that no import finds by name."""
    found: dict[str, str] = {}
    for part in module.modules():
        name = type(part).__module__
        owner = sys.modules.get(name)
        path = getattr(owner, "__file__", None)
        if path and importlib.machinery.PathFinder.find_spec(name.split(".")[0]) is None:
            found[name] = os.path.abspath(path)
    return found


def _packed(value: Any) -> torch.Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def judge_on_device(
    fragment: Graph, candidate: Candidate, ops: OpSet | None, precision: str, timeout_s: float, docket: Docket,
    compiled: Reply | None = None,
) -> None:  # fmt: skip
    """Judge the gate device for a fragment.

    Args:
        compiled: the reply of the gate compile; the tape in it is replayed.  None where the candidate's own Python may be
            trusted (it was written by DRT).
    """
    domains: dict[str, str] = {}
    try:
        small = shrink.instances(fragment, ops)[0].graph
    except DrtError:  # it stays possible to run at the real sizes
        small = None
    if small is not None:
        oracle = Oracle(ops)
        domains = families.find_domains(small, lambda given: oracle.run(small, given), input_ranges(small, ops))
    header = {"kind": "fragment", "source": candidate.source, "entry": candidate.entry, "precision": precision}
    program = _packed((fragment, dict(ops) if ops is not None else None, domains))
    why = "the candidate was written by DRT"
    if compiled is not None:
        why = why_no_tape(compiled)
        tapes = compiled.named("tape")
        if tapes:
            clean = {**{k: v for k, v in header.items() if k != "source"}, "tape": tapes[0].header["tape"]}
            reply = sandbox.device_worker().run(Frame(clean, {"program": program}), timeout_s)
            if not reply.named("no_tape"):
                _read(reply, docket)
                return
            why = reply.named("no_tape")[0].header["reason"]
    reply = sandbox.device_worker(trusted=False).run(Frame(header, {"program": program}), timeout_s)
    _read(reply, docket, why_not_replayed=why)


def judge_module_on_device(
    source: str, entry: str, reference: torch.nn.Module, calls: Sequence[tuple[str, Any, Any]],
    init: tuple[tuple[Any, ...], Mapping[str, Any]], precision: str, timeout_s: float, require_kernel: bool, docket: Docket,
) -> None:  # fmt: skip
    """Judge the gate device for a whole file.

    The reference travels with its state; where its class cannot be pickled the gate is skipped.
    """
    header = {
        "kind": "module", "source": source, "entry": entry, "precision": precision, "require_kernel": require_kernel,
        "modules": _files_of(reference),
    }  # fmt: skip
    try:
        program = _packed((init, list(calls), reference))
    except Exception as error:
        docket.add_skip("device", f"the reference cannot be sent to the device process: {error}")
        return
    reply = sandbox.device_worker(trusted=False).run(Frame(header, {"program": program}), timeout_s)
    _read(reply, docket, why_not_replayed="a whole file is not recorded on a tape")


def _read(reply: Reply, docket: Docket, why_not_replayed: str = "") -> None:
    """Turn the reply of the device process into the report of the gate."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    failures, skips, passes = reply.named("failure"), reply.named("skipped"), reply.named("passed")
    if failures:
        h = failures[0].header
        docket.add_failure("device", h["label"], h["message"], reply.time_ms, device=device)
    elif reply.status != "ok":
        label = {"timeout": "timeout", "signal": "crash", "exit": "crash", "lost": "lost"}[reply.status]
        message = f"the device process ended: {reply.detail}"
        docket.add_failure("device", label, message, reply.time_ms, device=device)
    elif skips:
        docket.add_skip("device", skips[0].header["reason"])
    elif passes:
        h = {k: v for k, v in passes[0].header.items() if k != "kind"}
        if why_not_replayed:
            h["why_not_replayed"] = why_not_replayed
        docket.add_pass("device", reply.time_ms, device=device, **h)
    else:
        docket.add_skip("device", "the device process gave no answer")
