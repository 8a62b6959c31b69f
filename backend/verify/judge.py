"""The judge of one fragment and one candidate: all gates, cheapest first."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch

from ...ir import OPAQUE, Graph, OpSet, TensorType, builtin_ops, checked, input_ranges
from ...ir.errors import Unsupported, UsageError, VerifyError
from ..candidate import PRECISIONS, Candidate
from ..oracle import Oracle
from ..sandbox import Frame, Job, Reply, interpreter_sandbox
from ..threads import one_thread
from ..to_torch import to_callable
from . import families, reading, shrink
from .algebra import RingJudge, RingOutcome, ring_trials
from .policy import check_source
from .tolerance import Comparison, Reassociated, compare
from .verdict import Docket, Verdict

#: Time after which no further run of a candidate is begun in the interpreter.
BUDGET_S = 8.0

#: Runs before the first inputs come once more.
REPEATED = 4


@attrs.frozen
class Trial:
    """One run: an instance, a family of values, the inputs by name."""

    instance: int
    family: str
    inputs: dict[str, torch.Tensor] = attrs.field(eq=False)


@attrs.frozen
class Truth:
    """What the outputs of a trial must be: the float64 values, and the reference's own evaluations."""

    outputs: list[torch.Tensor] = attrs.field(eq=False)
    variants: list[list[torch.Tensor]] = attrs.field(eq=False)
    exact: bool = False


def reference_evaluations(
    call: Any, inputs: Sequence[Any], precision: str, smallest: int, seed: int, device: str = "cpu"
) -> list[list[torch.Tensor]]:
    """Return evaluations of a reference in its own precision: eager, and re-associated (several times for few elements).

    Args:
        call: the reference, from positional inputs to a tensor or a nest of them.
        smallest: elements of the smallest output: with few elements one evaluation says little about the next.
    """
    from torch.utils._pytree import tree_leaves

    n = 3 if smallest >= 256 else 4 if smallest >= 16 else 8
    tf32 = precision == "tf32"
    out = []
    with torch.no_grad():
        with Reassociated(tf32=tf32, reassociate=False):
            out.append([t for t in tree_leaves(call(*inputs)) if isinstance(t, torch.Tensor)])
        for k in range(n - 1):
            # A program may not run in another order (one that takes apart what a library call returned).
            with contextlib.suppress(RuntimeError), Reassociated(seed + k, tf32=tf32):
                out.append([t for t in tree_leaves(call(*inputs)) if isinstance(t, torch.Tensor)])
    return out


def worker_job(
    source: str, entry: str, names: list[str], runs: Sequence[Sequence[torch.Tensor]], budget_s: float = 30.0
) -> dict[str, Any]:
    """Return the header of a sandbox job that runs a launcher; tensor ``i`` of run ``k`` travels as ``k.i``.

    Args:
        names: of the inputs, for messages.
        runs: the inputs of each run, in order.
    """
    listing = [{"shapes": k, "strides": [list(t.stride()) for t in tensors]} for k, tensors in enumerate(runs)]
    return {"kind": "fragment", "source": source, "entry": entry, "names": names, "runs": listing, "budget_s": budget_s}


class FragmentJudge:
    """What is needed to judge candidates of one fragment; made once, used for every candidate of it.

    Args:
        fragment: known operators only; every input a tensor.
        shapes: instances to use, each mapping symbols to sizes; found by shrinking where None.
        seed: of the inputs; secret where None.
        instances: used in place of any that would be found.
    """

    @checked
    def __init__(
        self, fragment: Graph, ops: OpSet | None = None, precision: str = "strict",
        shapes: Sequence[Mapping[str, Any]] | None = None, seed: int | None = None, constants: Sequence[int] = (),
        pinned: Sequence[tuple[str, int]] = (), instances: Sequence[shrink.Instance] = (),
    ) -> None:  # fmt: skip
        if precision not in PRECISIONS:
            raise UsageError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}", subject="verify")
        self.fragment, self.precision = fragment, precision
        self.ops = builtin_ops() if ops is None else ops
        self.seed = families.secret_seed() if seed is None else seed
        self.oracle = Oracle(self.ops)
        self.instances = list(instances) or shrink.instances(fragment, self.ops, constants, shapes, pinned)
        self._calls = [to_callable(i.graph, self.ops) for i in self.instances]
        self._domains: dict[str, str] | None = None
        self._truths: dict[int, Truth | None] = {}
        self.trials = self._plan()
        self._ring: RingJudge | None = None
        self._pinned = tuple(pinned)
        if any(n.op == OPAQUE for n in fragment.nodes):
            self.trials = [t for t in self.trials if self._is_defined(t)]
            if not self.trials:
                raise Unsupported("an operator that PyTorch runs refuses all values that were drawn", subject="verify")

    def _is_defined(self, trial: Trial) -> bool:
        """Return whether the operators that PyTorch runs accept the values of a trial (an inverse wants regular ones)."""
        try:
            self.oracle.run(self.instances[trial.instance].graph, trial.inputs)
        except RuntimeError:
            return False
        return True

    def _draw(self, instance: int, family: str, salt: int) -> dict[str, torch.Tensor]:
        graph = self.instances[instance].graph
        ranges = input_ranges(graph, self.ops)
        generator = torch.Generator().manual_seed((self.seed + salt * 7919 + instance * 104729) % 2**62)
        if self._domains is None:
            first = self.instances[0].graph
            first_ranges = input_ranges(first, self.ops)
            self._domains = families.find_domains(first, lambda given: self.oracle.run(first, given), first_ranges)
        ties = families.tie_points(graph) if family == "ties" else []
        wide = next((i.name for i in graph.inputs if i.type.dtype == "f32" and i.type.rank > 1), "")
        return {
            i.name: families.draw(
                i.type,
                family,
                generator,
                self._domains.get(i.name, "real"),
                ranges.get(i.name),
                i.name == wide,
                ties=ties,
            )
            for i in graph.inputs
        }

    def _plan(self) -> list[Trial]:
        """Choose the runs: every instance with plain values, the first with every family."""
        if shrink.largest(self.instances[0].graph) > 4 * shrink.SMALL_ELEMENTS:
            return [Trial(0, f, self._draw(0, f, salt)) for salt, f in enumerate(("normal", "mixed"))]
        order = list(range(len(self.instances)))
        by_name = {i.name: k for k, i in enumerate(self.instances)}
        tiles, turned = by_name.get("tiles", 0), by_name.get("turned", 0)
        # The first ones are tried however long they take.
        plan = [(0, "normal"), (tiles, "normal"), (0, "huge"), (0, "mixed"), (turned, "normal")]
        if families.may_be_exact(self.instances[0].graph, self.ops):
            plan.append((0, "integers"))
            if self.precision == "strict":
                plan.append((0, "wide_integers"))
            plan.append((tiles, "integers"))
        plan += [(k, f) for k in sorted({tiles, turned} - {0}) for f in families.TILE_FAMILIES]
        products = families.has_products(self.instances[0].graph)
        plan += [(0, f) for f in families.FAMILIES if f != "wide" or not products]
        plan += [(k, "normal") for k in order]
        plan += [(k, f) for k in order if self.instances[k].name == "far" for f in families.FAR_FAMILIES]
        plan += [(0, f) for f in families.ADVISORY_FAMILIES]
        plan = list(dict.fromkeys(plan))
        trials = [Trial(k, f, self._draw(k, f, salt)) for salt, (k, f) in enumerate(plan)]
        # The same inputs again: an answer that was kept under their values is given out without a launch.
        return [*trials[:REPEATED], trials[0], *trials[REPEATED:]]

    @property
    def ring(self) -> RingJudge:
        """The judge of runs on ring elements."""
        if self._ring is None:
            small = self.instances[:1]
            if small[0].name == "odd":  # sizes that were asked for stay what they are
                deep = shrink.deep_instance(self.fragment, self.ops, self._pinned)
                small += [deep] if deep is not None and deep.graph.inputs != small[0].graph.inputs else []
            self._ring = RingJudge(ring_trials(small, self.ops, self._domains or {}, self.seed), self.ops, self.seed)
        return self._ring

    def depends_on(self, name: str) -> bool:
        """Return whether other values of an input ever give other outputs: what overwrites all of it does not depend on it."""
        graph = self.instances[0].graph
        for salt, family in enumerate(("normal", "mixed", "negative", "huge", "zeros")):
            inputs = self._draw(0, "normal", 900 + salt)
            others = {**inputs, name: self._draw(0, family, 950 + salt)[name]}
            with one_thread():
                before, after = self.oracle.run(graph, inputs), self.oracle.run(graph, others)
            pairs = zip(before, after, strict=True)
            if not all(
                not isinstance(a, torch.Tensor) or torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs
            ):
                return True
        return False

    def truth(self, index: int) -> Truth | None:
        """Return the truth of a trial, computed once; None where the trial says nothing."""
        index = self.trials.index(self.trials[index])  # of the first run on these inputs
        if index not in self._truths:
            with one_thread():
                self._truths[index] = self._truth(index)
        return self._truths[index]

    def _truth(self, index: int) -> Truth | None:
        trial = self.trials[index]
        graph = self.instances[trial.instance].graph
        outputs = [o for o in self.oracle.run(graph, trial.inputs) if isinstance(o, torch.Tensor)]
        if trial.family in families.EXACT_FAMILIES and families.is_exact(graph, self.ops, self.oracle, trial.inputs):
            return Truth(outputs, [], True)
        given = [trial.inputs[i.name] for i in graph.inputs]
        smallest = min((o.numel() for o in outputs), default=0)
        variants = reference_evaluations(
            self._calls[trial.instance], given, self.precision, smallest, self.seed % 1000003
        )
        return Truth(outputs, variants)

    def expected(self, index: int) -> list[dict[str, Any]]:
        """Return the types of the outputs of a trial."""
        return expected_outputs(self.instances[self.trials[index].instance].graph)

    def real_inputs(self) -> list[dict[str, Any]]:
        """Return what stands for the inputs at the real sizes, where the launcher is traced: contiguous tensors."""
        return [_described(i.type) for i in shrink.bind(self.fragment, None, self.ops).inputs]

    def request(self, candidate: Candidate, budget_s: float) -> Frame:
        """Return the job for the sandbox."""
        tensors: dict[str, torch.Tensor] = {}
        given = []
        for index, trial in enumerate(self.trials):
            graph = self.instances[trial.instance].graph
            given.append([trial.inputs[i.name] for i in graph.inputs])
            tensors.update({f"{index}.{k}": t for k, t in enumerate(given[-1])})
        names = [i.name for i in self.fragment.inputs]
        header = worker_job(candidate.source, candidate.entry, names, given, budget_s)
        for run, trial in zip(header["runs"], self.trials, strict=True):
            run["shapes"] = trial.instance
        ring, elements = self.ring.request()
        return Frame({**header, "real": self.real_inputs(), "ring": ring}, tensors | elements)

    def _judge_exactly(self, reply: Reply, docket: Docket) -> RingOutcome:
        """Compare the runs on ring elements; a difference that may be one of rounding is a flag."""
        with one_thread():
            exact = self.ring.judge(reply.named("ring"))
        if exact.outcome == "inconclusive" and exact.evidence["deviation"] > families.DOUBLE_NOISE:
            docket.flags.append(f"in exact arithmetic {exact.message}")
        return exact

    def compare_run(self, key: reading.RunKey, frame: Frame) -> list[Comparison]:
        """Compare the outputs of one run, each with its truth; empty where they say nothing."""
        if frame.header["observed"]["error"]:
            return []
        truth = self.truth(key.index)
        if truth is None:
            return []
        outputs = [frame.tensors[f"out.{i}"] for i in range(len(truth.outputs)) if f"out.{i}" in frame.tensors]
        if len(outputs) != len(truth.outputs) or any(
            o.shape != t.shape for o, t in zip(outputs, truth.outputs, strict=True)
        ):
            return []  # the gate trace says so
        with one_thread():
            return [
                compare(i, out, truth.outputs[i], [v[i] for v in truth.variants], truth.exact)
                for i, out in enumerate(outputs)
            ]

    def watch(self, job: Job) -> dict[reading.RunKey, list[Comparison]]:
        """Compare runs as they come in, and stop the job at the first wrong value; returns the comparisons."""
        known: dict[reading.RunKey, list[Comparison]] = {}
        readings = iter(range(len(self.ring.trials)))
        while not job.done():
            fresh = [f for f in job.new_frames() if f.header.get("kind") == "run"]
            for frame in fresh:
                key = reading.key_of(frame)
                known[key] = self.compare_run(key, frame)
                judged = self.trials[key.index].family not in families.ADVISORY_FAMILIES
                if judged and any(found.mismatch is not None for found in known[key]):
                    job.stop()
                    return known
            if not fresh:
                # What the exact runs must be is worked out while the child is busy.
                index = next(readings, None)
                if index is None:
                    time.sleep(0.004)
                else:
                    with one_thread():
                        self.ring.reading(index)
        return known

    def judge_values(
        self, reply: Reply, docket: Docket, known: Mapping[reading.RunKey, list[Comparison]] | None = None
    ) -> None:
        """Judge the gate meaning from the outputs that came back.

        Args:
            known: what :meth:`watch` has compared.
        """
        started = time.perf_counter()
        used: dict[str, dict[str, float]] = {}
        judged = 0
        exact = self._judge_exactly(reply, docket)
        for key, frame in reading.runs_of(reply).items():
            comparisons = known[key] if known and key in known else self.compare_run(key, frame)
            if not comparisons:
                continue
            trial = self.trials[key.index]
            name = self.instances[trial.instance].name
            for found in comparisons:
                if trial.family in families.ADVISORY_FAMILIES:
                    if found.mismatch is not None:
                        docket.flags.append(f"differs from the reference on infinities or NaN: {found.mismatch.text}")
                    continue
                judged += not found.refused
                _note(used, f"{name} {trial.family}", found)
                if found.mismatch is not None:
                    config = f", configuration {key.config}" if key.config else ""
                    where = f"{self.instances[trial.instance].sizes}; values {trial.family}{config}"
                    label = {
                        "element": "wrong_value",
                        "bulk": "inaccurate",
                        "nonfinite": "nonfinite",
                        "exact": "inexact",
                    }
                    cause = exact.evidence.get("cause", "")
                    message = f"{found.mismatch.text} (inputs {where})" + (
                        f"; in exact arithmetic: {cause}" if cause else ""
                    )
                    docket.add_failure(
                        "meaning", label[found.mismatch.kind], message, (time.perf_counter() - started) * 1e3, used=used,
                        algebra=exact.to_evidence(), **_evidence(found),
                    )  # fmt: skip
                    return
        elapsed = (time.perf_counter() - started) * 1e3
        if exact.outcome == "differs":
            docket.add_failure(
                "meaning", "other_function", exact.message, elapsed, used=used, algebra=exact.to_evidence()
            )
        elif judged:
            docket.add_pass("meaning", elapsed, used=used, comparisons=judged, algebra=exact.to_evidence())
        else:
            memory = docket.reports.get("memory")
            reason = memory.reason if memory is not None and memory.skipped else "no run gave values to compare"
            docket.add_skip("meaning", reason)


def _note(used: dict[str, dict[str, float]], name: str, found: Comparison) -> None:
    """Keep how much of the allowance a trial used (1 is all of it)."""
    if not found.refused:
        entry = used.setdefault(name, {"bulk": 0.0, "element": 0.0})
        entry["bulk"] = max(entry["bulk"], round(found.bulk / 4, 3))
        entry["element"] = max(entry["element"], round(found.element / 8, 3))


def _evidence(found: Comparison) -> dict[str, Any]:
    m = found.mismatch
    assert m is not None
    return {
        "output": m.output, "index": list(m.index), "value": m.value, "expected": m.expected, "allowed": m.allowed,
        "n_wrong": m.n_wrong,
    }  # fmt: skip


def expected_outputs(graph: Graph) -> list[dict[str, Any]]:
    """Return the types that the outputs of a graph must have: contiguous tensors."""
    out = []
    for o in graph.outputs:
        if isinstance(o, str):
            found = _described(graph.types[o])
            out.append({"shape": found["shape"], "dtype": found["dtype"], "strides": [found["stride"]]})
    return out


def _described(t: TensorType) -> dict[str, Any]:
    """Return a contiguous tensor's shape, stride, and PyTorch's name of its dtype."""
    shape = [int(s) for s in t.shape]  # type: ignore[arg-type]
    dtype = str(families.DTYPES[t.dtype]).removeprefix("torch.")
    return {"shape": shape, "stride": reading.contiguous(shape), "dtype": dtype}


def tile_constants(source: str) -> list[int]:
    """Return the powers of two from 32 to 4096 that a source writes: its tile sizes are among them."""
    return sorted({int(x) for x in re.findall(r"(?<![\w.])\d{2,4}(?![\w.])", source) if int(x) & (int(x) - 1) == 0})


_JUDGES: dict[tuple[Any, ...], FragmentJudge] = {}


def _judge_for(
    fragment: Graph, ops: OpSet | None, precision: str, shapes: Sequence[Mapping[str, Any]] | None, seed: int | None,
    constants: Sequence[int], pinned: Sequence[tuple[str, int]],
) -> FragmentJudge:  # fmt: skip
    """Return the judge of a fragment, kept for its other candidates; the inputs stay secret by not being kept for long."""
    key = (fragment, id(ops), precision, repr(shapes), seed, tuple(constants), tuple(pinned))
    judge = _JUDGES.get(key)
    if judge is None:
        while len(_JUDGES) >= 8:
            _JUDGES.pop(next(iter(_JUDGES)))
        from .draws import DrawsJudge, graph_is_random

        kind = DrawsJudge if graph_is_random(fragment, builtin_ops() if ops is None else ops) else FragmentJudge
        judge = _JUDGES[key] = kind(fragment, ops, precision, shapes, seed, constants, pinned)
    return judge


@checked
def verify_candidate(
    fragment: Graph, candidate: Candidate, *, ops: OpSet | None = None, precision: str | None = None,
    device: str = "auto", shapes: list[dict[str, Any]] | None = None, seed: int | None = None, timeout_s: float = 60.0,
    gates: Sequence[str] = ("policy", "trace", "memory", "meaning", "device"), mixed: bool = False, standalone: bool = False,
) -> Verdict:  # fmt: skip
    """Judge one candidate for one fragment.

    Without a GPU it is run under the corrected interpreter, at small sizes with the fragment's structure.  With one it is
    also run on the device, at the real sizes.

    Args:
        fragment: the program that the candidate must compute; its inputs are tensors.
        candidate: what a translator wrote.
        ops: the operators; the built-in ones if None.
        precision: the declared precision of products; the candidate's own if None.
        device: ``auto``, ``cpu`` (no device gate) or ``cuda``.
        shapes: instances to use instead of those found by shrinking, each mapping a symbol to a size.
        seed: of the inputs; secret where None.
        timeout_s: wall time for all runs of the candidate, each on the CPU and on the device.
        gates: those to run, of ``GATES``; ``compile`` is not among the defaults because it takes seconds.
        mixed: the candidate is a whole program, part of which PyTorch may run.
        standalone: the source is a file of its own, whose names need not begin with the entry's.

    Returns:
        The verdict; faults of the candidate are never exceptions.

    Raises:
        UsageError: ``precision`` is unknown, or ``device`` is ``cuda`` and there is none.
        Unsupported: the fragment contains operators without a definition.
    """
    precision = candidate.precision if precision is None else precision
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available", subject="verify")
    docket = Docket()
    started = time.perf_counter()
    if "policy" in gates:
        violations = check_source(candidate.source, candidate.entry, "file" if standalone else "fragment")
        elapsed = (time.perf_counter() - started) * 1e3
        if violations:
            v = violations[0]
            place = f"line {v.line}: " if v.line else ""
            listing = [f"line {w.line}: {w.message}" for w in violations]
            docket.add_failure("policy", v.label, f"{place}{v.message}", elapsed, violations=listing[:20])
            return docket.verdict()
        docket.add_pass("policy", elapsed)
    else:
        docket.add_skip("policy", "the source was written by DRT")

    compiling = None
    on_device = "device" in gates and device != "cpu" and torch.cuda.is_available()
    replayed = on_device and candidate.writer != "template"
    if "compile" in gates or replayed:
        from .compiling import submit_fragment

        compiling = submit_fragment(shrink.bind(fragment, None, ops), candidate, timeout_s, tape=replayed)
    judge: FragmentJudge | None = None
    interpreted, reason = ("trace", "memory", "meaning"), "not asked for"
    if set(interpreted) & set(gates):
        try:
            constants = tile_constants(candidate.source)
            judge = _judge_for(fragment, ops, precision, shapes, seed, constants, candidate.pinned)
        except (Unsupported, VerifyError) as error:
            reason = error.message
    if judge is None:
        for gate in interpreted:
            docket.add_skip(gate, reason)
    else:
        pending = interpreter_sandbox().submit(judge.request(candidate, min(BUDGET_S, timeout_s * 0.8)), timeout_s)
        known = judge.watch(pending)
        _read_fragment(judge, pending, docket, mixed, known)
        if docket.failure is None and not mixed and not on_device:
            _judge_path(judge, candidate, pending, docket, timeout_s, mixed)
    if compiling is not None:
        from .compiling import read_compile

        read_compile(compiling.result(), docket, precision)
    if docket.failure is None and "device" in gates:
        if on_device:
            from .device import judge_on_device

            compiled = compiling.result() if compiling is not None and replayed else None
            judge_on_device(fragment, candidate, ops, precision, timeout_s, docket, compiled)
        else:
            docket.add_skip("device", "not asked for" if device == "cpu" else "no CUDA device is available")
    device_report = docket.reports.get("device")
    required = ("device",) if device_report is not None and device_report.passed else ("meaning",)
    return docket.verdict(required)


def _judge_path(
    judge: FragmentJudge, candidate: Candidate, job: Job, docket: Docket, timeout_s: float, mixed: bool
) -> None:
    """Judge what the launcher does at the real sizes only, or there alone with several tiles, at sizes taken for them."""
    replies = [job.result()]
    path = reading.unjudged_path(replies)
    if not path and not reading.chooses(replies[0]):
        return
    for instance in shrink.aligned_instances(judge.fragment, judge.ops, candidate.pinned):
        if docket.failure is not None or len(replies) > 1 and not path:
            return
        like = FragmentJudge(judge.fragment, judge.ops, judge.precision, seed=judge.seed, instances=[instance])
        again = interpreter_sandbox().submit(like.request(candidate, min(BUDGET_S, timeout_s * 0.8)), timeout_s)
        known = like.watch(again)
        found = Docket()
        _read_fragment(like, again, found, mixed, known)
        if found.failure is not None:
            report = found.reports[found.failure[0]]
            docket.add_failure(*found.failure, report.time_ms, **report.evidence)
        replies.append(again.result())
        path = reading.unjudged_path(replies)
    if path and docket.failure is None:
        message = (
            f"at the real sizes the launcher {path}, which it did at none of the sizes that were judged; expected one path "
            "for all sizes, or a choice by divisibility"
        )
        docket.add_failure("trace", "unjudged_path", message)


def _needed(graph: Graph, ops: OpSet) -> list[str]:
    """Return the inputs on whose elements the outputs depend, not only on their shapes."""
    users = {i.name: [n for n in graph.nodes if i.name in n.uses()] for i in graph.inputs}
    return [
        name for name, nodes in users.items()
        if any(n.op not in ops or ops[n.op].family != "create" for n in nodes) and any(n for n in nodes)
    ]  # fmt: skip


def _read_fragment(
    judge: FragmentJudge, job: Job, docket: Docket, mixed: bool, known: Mapping[reading.RunKey, list[Comparison]]
) -> None:
    reply = job.result()
    if reply.named("halted") and not job.was_stopped:
        docket.add_failure("trace", "exit", "the process left out runs that nobody told it to leave out", reply.time_ms)
        return
    if not reading.read_start(reply, docket, "the source"):
        return
    evidence = reading.read_fake(reply, expected_outputs(shrink.bind(judge.fragment, None, judge.ops)), docket)
    names = [f"{judge.instances[t.instance].name} ({judge.instances[t.instance].sizes})" for t in judge.trials]
    expected = [judge.expected(k) for k in range(len(judge.trials))]
    kind = "module" if mixed else "fragment"
    reading.read_observations(
        reply,
        names,
        docket,
        expected=expected,
        kind=kind,
        evidence=evidence,
        # A launcher may draw the seed of its kernels as a number.
        random=type(judge) is not FragmentJudge,
        require_kernel=not mixed,
    )
    judge.judge_values(reply, docket, known)
    unread = reading.unread_inputs(reply) & set(_needed(judge.fragment, judge.ops))
    if unread and docket.failure is None and not mixed:
        unread = {name for name in unread if judge.depends_on(name)}
    if unread and docket.failure is None and not mixed:
        message = (
            f"nobody reads input {', '.join(sorted(unread))}, on which the program depends; that its outputs are right for the "
            "inputs tried says nothing"
        )
        docket.add_failure("meaning", "ignored_input", message)
