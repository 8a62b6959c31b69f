"""From what a sandbox child reported to reports of the gates trace and memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs

from ..sandbox import Frame, Reply
from .verdict import Docket

#: Share of the work that may be left to ATen compute calls in a fragment's launcher.
ATEN_SHARE = 0.05

#: Share of the work of a whole file above which it is said that PyTorch does it; its outputs must then come from kernels.
MIXED_SHARE = 0.5

#: Processor time that a launcher may take for itself, its kernels left out.
MAX_LAUNCHER_S = 0.5


#: Names that begin those of ATen calls that draw random numbers.
_RANDOM = (
    "rand",
    "bernoulli",
    "multinomial",
    "normal",
    "uniform",
    "exponential",
    "native_dropout",
    "poisson",
    "geometric_",
)


@attrs.frozen
class RunKey:
    """Which run a frame belongs to."""

    index: int
    config: int = 0


def last_stage(reply: Reply) -> str:
    """Return what the child was doing when it stopped, as text."""
    stages = reply.named("stage")
    if not stages:
        return "starting"
    h = stages[-1].header
    return {
        "import": "importing the source",
        "construct": "constructing the model",
        "trace": "tracing the launcher",
    }.get(h["name"], "running the kernels")


def key_of(frame: Frame) -> RunKey:
    """Return which run a frame belongs to."""
    return RunKey(int(frame.header["index"]), int(frame.header.get("config", 0)))


def runs_of(reply: Reply) -> dict[RunKey, Frame]:
    """Return the frames of runs."""
    return {key_of(f): f for f in reply.named("run")}


def read_start(reply: Reply, docket: Docket, what: str) -> bool:
    """Judge import and construction; False where nothing ran."""
    for kind, label in (("import_error", "import"), ("construct_error", "construct")):
        for frame in reply.named(kind):
            verb = "importing" if label == "import" else "constructing"
            docket.add_failure("trace", label, f"{verb} {what} raised {frame.header['error']}", reply.time_ms)
            return False
    if reply.status == "lost":
        docket.add_skip("trace", reply.detail)
        return False
    return True


def read_fake(reply: Reply, expected: list[dict[str, Any]], docket: Docket) -> dict[str, Any]:
    """Judge the trace at real sizes against the expected outputs; returns its evidence."""
    frames = reply.named("fake")
    if not frames:
        return {}
    h = frames[0].header
    if "skipped" in h:
        return {"real_sizes": h["skipped"]}
    if "error" in h:
        docket.add_failure("trace", "raises", f"at the real sizes the launcher raised {h['error']}", h["time_ms"])
        return {}
    evidence = {"launches": h["launches"], "configurations": h["n_configs"]}
    if h["cpu_s"] > MAX_LAUNCHER_S:
        docket.add_failure("trace", "slow_launcher", f"the launcher computes for {h['cpu_s']:.1f} s of its own, without its "
                           "kernels; expected it to launch at once", h["time_ms"], **evidence)  # fmt: skip
    problem = check_outputs(h["outputs"], expected, "at the real sizes, ")
    if problem is not None:
        docket.add_failure("trace", *problem, h["time_ms"], **evidence)
    elif not h["launches"] and _has_elements(expected):
        docket.add_failure("trace", "no_kernel", "the launcher launches no Triton kernel", h["time_ms"], **evidence)
    return evidence


def _has_elements(outputs: list[dict[str, Any]]) -> bool:
    """Whether there is anything for a kernel to write."""
    return any(0 not in o.get("shape", ()) for o in outputs)


def check_outputs(
    outputs: list[dict[str, Any]], expected: list[dict[str, Any]], prefix: str = ""
) -> tuple[str, str] | None:
    """Return (label, message) for the first output that has another type than expected.

    Args:
        expected: ``shape``, ``dtype``, and ``strides``: the layouts that are accepted, or None for any.
    """
    if len(outputs) != len(expected):
        return "n_outputs", f"{prefix}{len(outputs)} output(s), expected {len(expected)}"
    for i, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        if "type" in got:
            return "type", f"{prefix}output {i} is a {got['type']}, expected a tensor"
        if got.get("is_input"):
            return "alias", f"{prefix}output {i} is one of the inputs, expected a new tensor"
        if got["shape"] != want["shape"]:
            return "shape", f"{prefix}output {i} has shape {got['shape']}, expected {want['shape']}"
        if got["dtype"] != want["dtype"]:
            return "dtype", f"{prefix}output {i} has dtype {got['dtype']}, expected {want['dtype']}"
        accepted = want.get("strides")
        if accepted is not None and not any(same_layout(got["stride"], s, got["shape"]) for s in accepted):
            return "stride", f"{prefix}output {i} has strides {got['stride']}, expected {accepted[0]}"
    return None


def same_layout(a: list[int], b: list[int], shape: list[int]) -> bool:
    """Whether two stride lists address alike; strides of axes of size one or of empty tensors mean nothing."""
    return 0 in shape or all(x == y for x, y, s in zip(a, b, shape, strict=True) if s > 1)


def contiguous(shape: list[int]) -> list[int]:
    """Return row-major strides."""
    strides, n = [], 1
    for s in reversed(shape):
        strides.append(n)
        n *= max(s, 1)
    return strides[::-1]


def read_observations(
    reply: Reply, names: list[str], docket: Docket, *, expected: list[list[dict[str, Any]]], kind: str,
    aliases: Collection[str] = (), evidence: dict[str, Any] | None = None, require_kernel: bool = True,
    random: bool | None = None,
) -> None:  # fmt: skip
    """Judge what was observed at runs: the gates trace and memory.

    Args:
        names: of the runs' instances, for messages; by index.
        expected: the expected outputs, by index of the run.
        kind: ``fragment`` (strict about aliases and ATen work) or ``module``.
        aliases: what outputs of the reference share memory with too: ``input``, ``state``, ``output 0``.
        evidence: of the trace at real sizes; completed here.
        random: whether the program draws random numbers; None where that is not known.
    """
    evidence = dict(evidence or {})
    runs = runs_of(reply)
    trace_ms = sum(f.header["time_ms"] for f in reply.named("fake"))
    findings: list[str] = []
    first_kind = ""
    unsupported = ""
    for key, frame in runs.items():
        observed = frame.header["observed"]
        where = names[key.index] + (f", configuration {key.config}" if key.config else "")
        for f in observed["findings"]:
            text = f"{f['text']} (at sizes {where})"
            if f["kind"] == "input_write":
                docket.add_failure("trace", "input_write", text, trace_ms, **evidence)
            else:
                findings.append(text)
                first_kind = first_kind or f["kind"]
        if observed["changed_inputs"] and "trace" not in docket.reports:
            changed = ", ".join(observed["changed_inputs"])
            docket.add_failure("trace", "input_write", f"input(s) {changed} changed during the call (at sizes {where})",
                               trace_ms, **evidence)  # fmt: skip
        if observed["error"]:
            if "has no model in the interpreter" in observed["error"]:
                unsupported = observed["error"]
                break
            kernel = observed["kernel_error"]
            place = (
                f"kernel {kernel[0]} line {kernel[1]}: {kernel[2]}" if kernel else f"the launcher: {observed['error']}"
            )
            docket.add_failure("memory" if kernel else "trace", "raises", f"{place} (at sizes {where})", trace_ms)
            continue
        problem = check_outputs(observed["outputs"], expected[key.index], f"at sizes {where}, ")
        if problem is not None:
            docket.add_failure("trace", *problem, trace_ms, **evidence)
            continue
        for i, alias in enumerate(observed["alias"]):
            if alias and not alias.startswith(tuple(aliases)):
                docket.add_failure("trace", "alias", f"output {i} shares its memory with {alias}, expected a new tensor "
                                   f"(at sizes {where})", trace_ms, **evidence)  # fmt: skip
        _work(key, observed, docket, evidence, kind, require_kernel, trace_ms, random)
    if kind != "fragment" and require_kernel:
        _share([f.header["observed"] for f in runs.values()], docket, evidence, trace_ms)
    for frame in reply.named("undefined"):
        findings.append(
            "lanes that a load's mask turned off, and that no other= defines, reach an output "
            f"(at sizes {names[frame.header['index']]})"
        )
        first_kind = first_kind or "undefined_lanes"
    memory_ms = sum(f.header["observed"]["time_ms"] for f in runs.values())
    if findings:
        more = f"; {len(findings) - 1} more finding(s)" if len(findings) > 1 else ""
        docket.add_failure("memory", first_kind, findings[0] + more, memory_ms, findings=findings[:20])
    in_ring = bool(reply.named("stage")) and reply.named("stage")[-1].header["name"] == "ring"
    if reply.status != "ok" and in_ring:
        docket.flags.append(f"the run on ring elements ended early: {reply.detail}")
    elif reply.status != "ok":
        label = {"timeout": "timeout", "signal": "crash", "exit": "exit", "lost": "lost"}[reply.status]
        stage = last_stage(reply)
        gate = "memory" if stage == "running the kernels" else "trace"
        at = ""
        if gate == "memory":
            done = len({k.index for k in runs})
            at = f" at sizes {names[min(done, len(names) - 1)]}" if names else ""
        docket.add_failure(gate, label, f"the process ended while {stage}{at}: {reply.detail}", reply.time_ms,
                           log=reply.log[-2000:])  # fmt: skip
    if unsupported:
        docket.add_skip("memory", unsupported)
    if "trace" not in docket.reports:
        docket.add_pass("trace", trace_ms, **evidence)
    if "memory" not in docket.reports and runs:
        sizes = sorted({names[k.index] for k in runs})
        left = len(names) - len({k.index for k in runs})
        docket.add_pass("memory", memory_ms, runs=len(runs), left_out=left, sizes=sizes)
    if "memory" not in docket.reports:
        docket.add_skip("memory", "no run was made")


def _share(observed: list[dict[str, Any]], docket: Docket, evidence: dict[str, Any], time_ms: float) -> None:
    """Judge who did the work of all runs of a whole file, part of which may be left to PyTorch.

    Its kernels must do more than copy, and where no kernel writes an output, PyTorch must not have done most of the work.
    """
    runs = [o for o in observed if not o["error"] and o["launches"]]
    aten, own = sum(o["aten_flops"] for o in runs), sum(o["triton_flops"] for o in runs)
    if not aten or "trace" in docket.reports:
        return
    calls = ", ".join(runs[0]["aten"])
    share = aten / (aten + own)
    if not own:
        docket.add_failure("trace", "aten_compute", f"PyTorch does the work ({calls}), and the kernels only copy; expected "
                           "Triton kernels to do it", time_ms, **evidence)  # fmt: skip
    elif share > MIXED_SHARE and not any(any(o["by_kernels"]) for o in runs):
        docket.add_failure("trace", "aten_compute", f"no kernel writes to an output, and {share:.0%} of the work is left to "
                           f"PyTorch: {calls}; expected Triton kernels to do it", time_ms, **evidence)  # fmt: skip
    elif share > MIXED_SHARE:
        docket.flags.append(f"{share:.0%} of the work is left to PyTorch: {calls}")


def unread_inputs(reply: Reply) -> set[str]:
    """Return the inputs that no kernel and no call read in any run."""
    found = [set(f.header["observed"]["unread"]) for f in runs_of(reply).values() if not f.header["observed"]["error"]]
    return set.intersection(*found) if found else set()


def unjudged_path(replies: Collection[Reply]) -> str:
    """Return what the launcher does at the real sizes and did in none of the runs, as text; empty where there is nothing.

    A launcher may choose by size among kernels; what it chooses at the real sizes must be among what was judged.
    """
    kernels: set[str] = set()
    calls: set[str] = set()
    for reply in replies:
        for frame in runs_of(reply).values():
            kernels.update(frame.header["observed"]["launches"])
            calls.update(frame.header["observed"]["aten"])
    for reply in replies:
        for frame in reply.named("fake"):
            new = [f"launches kernel {name}" for name, _ in frame.header.get("launches", ()) if name not in kernels]
            new += [f"calls {name}" for name in frame.header.get("aten", ()) if name not in calls]
            if new:
                return new[0]
    return ""


def chooses(reply: Reply) -> bool:
    """Return whether the launcher launches other kernels, or more of them, at some sizes than at others."""
    ways = {
        tuple(f.header["observed"]["launches"]) for f in runs_of(reply).values() if f.header["observed"]["launches"]
    }
    return len(ways) > 1


def _work(
    key: RunKey, observed: dict[str, Any], docket: Docket, evidence: dict[str, Any], kind: str, require_kernel: bool,
    time_ms: float, random: bool | None,
) -> None:  # fmt: skip
    """Judge who did the work of one run."""
    launches = observed["launches"]
    drawn = [name for name in observed["aten"] if name.startswith(_RANDOM)]
    if drawn and random is False:
        docket.add_failure("trace", "aten_compute", f"draws random numbers ({', '.join(drawn)}), and the program does not",
                           time_ms, **evidence)  # fmt: skip
    total = observed["aten_flops"] + observed["triton_flops"]
    share = observed["aten_flops"] / total if total else 0.0
    if not key.index and not key.config:
        evidence.update(launches_run=launches, aten_compute=observed["aten"], aten_share=round(share, 4))
    if not launches:
        if not _has_elements(observed["outputs"]):
            return
        if require_kernel:
            docket.add_failure("trace", "no_kernel", "no Triton kernel was launched", time_ms, **evidence)
        else:
            docket.flags.append("no Triton kernel was launched")
        return
    dead = [name for name in observed["dead"] if name in launches]
    if dead:
        docket.add_failure("trace", "dead_launch", f"the result of kernel {dead[0]} is never used", time_ms, **evidence)
    if kind != "fragment":
        return
    if observed["syncs"] and not random:
        docket.add_failure("trace", "sync", "the launcher reads an element of a tensor back (item(), float(), bool(), ==), "
                           "which makes the caller wait for the device; expected launches that depend on shapes alone",
                           time_ms, **evidence)  # fmt: skip
    calls = ", ".join(f"{n} x{c}" if c > 1 else n for n, c in observed["aten"].items())
    if share > ATEN_SHARE:
        docket.add_failure("trace", "aten_compute", f"{share:.0%} of the work is left to PyTorch: {calls}; expected "
                           "Triton kernels to do it", time_ms, **evidence)  # fmt: skip
    elif calls:
        docket.flags.append(f"small work is left to PyTorch: {calls}")
    for i, written in enumerate(observed["by_kernels"]):
        if written == 0.0 and observed["outputs"][i]["shape"] and 0 not in observed["outputs"][i]["shape"]:
            docket.add_failure("trace", "not_by_kernel", f"no Triton kernel writes to output {i}", time_ms, **evidence)
