"""The gate meaning for programs that draw random numbers: many runs of both sides, compared in distribution.

Where equal seeds of PyTorch's generator lead both sides to equal numbers, as in a program whose random parts PyTorch itself
runs in their order, the numbers are compared too; nothing demands it of a kernel with a generator of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ...ir import OpSet
from ..candidate import Candidate
from ..opaque import draws
from ..sandbox import Frame, Reply, interpreter_sandbox
from ..threads import one_thread
from .chance import CONFIRMED, CONVINCING, DRAWS, FEWEST_DRAWS, MORE_DRAWS, Difference, compare_draws
from .judge import FragmentJudge, Trial, reference_evaluations, worker_job
from .reference import Reference, process_settings
from .tolerance import compare
from .verdict import Docket

#: Draws whose numbers are compared under equal seeds.
PAIRED = 3

#: Processor time after which no further draw is begun, seconds; several tiles take fewer draws, each of many elements.
DRAWS_BUDGET_S, DRAWS_OF_TILES = 10.0, 32

#: Elements of an output that are compared at full size.
SAMPLED = 4096

#: Relative difference of two numbers that count as one value of a discrete distribution, by dtype.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def graph_is_random(graph: Any, ops: OpSet) -> bool:
    """Return whether some node of a graph draws random numbers, known or opaque."""
    return any(draws(n, ops) for n in graph.nodes)


class _NoRing:
    """Stands for the judge of exact algebra, which has nothing to say of random programs."""

    trials: tuple[()] = ()


class DrawsJudge(FragmentJudge):
    """A judge of one fragment that draws random numbers; see :class:`FragmentJudge`."""

    def _plan(self) -> list[Trial]:
        chosen = [0] + [k for k, i in enumerate(self.instances) if i.name == "tiles"][:1]
        return [Trial(k, "normal", self._draw(k, "normal", k)) for k in chosen]

    @property
    def ring(self) -> Any:
        """What stands for the judge of runs on ring elements."""
        return _NoRing()

    def truth(self, index: int) -> None:
        """Return nothing: one draw has no truth."""
        return None

    def request(self, candidate: Candidate, budget_s: float) -> Frame:
        """Return the job for the sandbox: a watched run of each instance, and draws."""
        self.candidate = candidate
        jobs = [draw_job(k, DRAWS_OF_TILES if k else DRAWS, self.seed) for k in range(len(self.trials))]
        frame = self._job(candidate, jobs, budget_s)
        return Frame({**frame.header, "real": self.real_inputs()}, frame.tensors)

    def _job(self, candidate: Candidate, jobs: list[dict[str, Any]], budget_s: float) -> Frame:
        given = [[t.inputs[i.name] for i in self.instances[t.instance].graph.inputs] for t in self.trials]
        tensors = {f"{index}.{k}": t for index, row in enumerate(given) for k, t in enumerate(row)}
        header = worker_job(candidate.source, candidate.entry, [i.name for i in self.fragment.inputs], given, budget_s)
        return Frame({**header, "draws": jobs}, tensors)

    def _reference(self, run: int, n: int, seed: int) -> list[list[torch.Tensor]]:
        """Return draws of the definition, in float64."""
        trial = self.trials[run]
        graph = self.instances[trial.instance].graph
        with process_settings, torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(seed % 2**62)
            rows = [self.oracle.run(graph, trial.inputs) for _ in range(n)]
        return [[o for o in row if isinstance(o, torch.Tensor)] for row in rows]

    def judge_values(self, reply: Reply, docket: Docket, known: Any = None) -> None:
        """Judge the gate meaning from the draws that came back."""
        started = time.perf_counter()
        n_outputs = len(self.expected(0))
        found = draws_of(reply, n_outputs)
        names = {run: self.instances[self.trials[run].instance].name for run in found}
        evidence: dict[str, Any] = {"draws": {names[run]: len(own) for run, own in found.items()}}
        enough = {run: own for run, own in found.items() if len(own) >= FEWEST_DRAWS}
        if not enough:
            memory = docket.reports.get("memory")
            reason = memory.reason if memory is not None and memory.skipped else "too few runs gave values to compare"
            docket.add_skip("meaning", reason)
            return
        for run, own in enough.items():
            difference = compare_sides(self._reference(run, DRAWS, self.seed + 1), own, self.seed)
            if difference is not None and difference.deviations < CONVINCING:
                difference = self._confirmed(run, difference)
            if difference is not None:
                label = "support" if difference.kind == "support" else "distribution"
                docket.add_failure(
                    "meaning", label, f"{difference.text} (inputs {self.instances[self.trials[run].instance].sizes})",
                    (time.perf_counter() - started) * 1e3, **evidence, kind=difference.kind,
                )  # fmt: skip
                return
        evidence["equal_under_equal_seeds"] = all(self._paired(run, own) for run, own in enough.items())
        docket.add_pass("meaning", (time.perf_counter() - started) * 1e3, **evidence, comparisons=len(enough))

    def _confirmed(self, run: int, first: Difference) -> Difference | None:
        """Return what fresh draws, several times as many, say of a suspicion."""
        frame = self._job(self.candidate, [draw_job(run, MORE_DRAWS, self.seed + 7919)], 10.0)
        reply = interpreter_sandbox().run(frame, 120.0)
        own = draws_of(reply, len(self.expected(0))).get(run, [])
        if len(own) < FEWEST_DRAWS:
            return first
        return compare_sides(self._reference(run, MORE_DRAWS, self.seed + 2), own, self.seed + 1, CONFIRMED)

    def _paired(self, run: int, own: Sequence[Sequence[torch.Tensor]]) -> bool:
        """Return whether the first draws are the reference's own numbers under the same seeds."""
        trial = self.trials[run]
        given = [trial.inputs[i.name] for i in self.instances[trial.instance].graph.inputs]
        call = self._calls[trial.instance]
        return all(
            equal_numbers(_seeded(call, first_seed(self.seed, run) + k), given, outputs, self.precision, self.seed)
            for k, outputs in enumerate(own[:PAIRED])
        )


def first_seed(seed: int, run: int) -> int:
    """Return the seed of the first draw of a run's arguments."""
    return (seed + 1000003 * run) % 2**31


def draw_job(run: int, n: int, seed: int) -> dict[str, Any]:
    """Return what the sandbox is told of a set of draws."""
    return {"run": run, "n": n, "seed": first_seed(seed, run), "budget_s": DRAWS_BUDGET_S}


def draws_of(reply: Reply, n_outputs: int) -> dict[int, list[list[torch.Tensor]]]:
    """Return the draws that came back: run -> draws, each a list of outputs."""
    found: dict[int, list[list[torch.Tensor]]] = {}
    for frame in reply.named("draws"):
        columns = [frame.tensors[f"out.{i}"] for i in range(n_outputs) if f"out.{i}" in frame.tensors]
        if len(columns) == n_outputs and not frame.header["error"]:
            found[frame.header["run"]] = [list(row) for row in zip(*columns, strict=True)]
    return found


def _seeded(call: Callable[..., Any], seed: int) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        torch.manual_seed(seed)
        return call(*args)

    return run


def equal_numbers(
    call: Callable[..., Any], given: Sequence[Any], outputs: Sequence[torch.Tensor], precision: str, seed: int
) -> bool:
    """Return whether outputs are those of the reference, within what its own evaluations differ by.

    Args:
        call: the reference under a fixed seed.
        given: its arguments.
        outputs: the candidate's, in order.
    """
    smallest = min((o.numel() for o in outputs), default=0)
    with process_settings, torch.random.fork_rng(devices=[]), one_thread():
        variants = reference_evaluations(call, given, precision, smallest, seed % 1000003)
    for i, out in enumerate(outputs):
        mean = torch.stack([v[i].to(torch.float64) for v in variants]).mean(0)
        truth = mean if out.is_floating_point() else variants[0][i]
        if compare(i, out, truth, [v[i] for v in variants]).mismatch is not None:
            return False
    return True


def compare_sides(
    reference: Sequence[Sequence[torch.Tensor]], candidate: Sequence[Sequence[torch.Tensor]], seed: int,
    deviations: float | None = None,
) -> Difference | None:  # fmt: skip
    """Return what two sets of draws of several outputs differ in: each output by itself, and all of them together.

    Args:
        reference: draws, each a list of outputs.
        candidate: likewise.
        seed: of the relabellings.
        deviations: beyond which a statistic counts as different; None raises suspicions.
    """
    options = {} if deviations is None else {"deviations": deviations}
    whole: list[tuple[torch.Tensor, torch.Tensor]] = []
    for i in range(len(reference[0])):
        a = torch.stack([r[i] for r in reference]).to(torch.float64)
        b = torch.stack([c[i].to(torch.float64) for c in candidate])
        found = compare_draws(a, b, TOLERANCES.get(candidate[0][i].dtype, 1e-9), seed, **options)
        if found is not None:
            return Difference(found.kind, f"output {i}: {found.text}", found.deviations)
        whole.append((a.reshape(len(a), -1), b.reshape(len(b), -1)))
    if len(whole) < 2:
        return None
    # Outputs may be right each by itself and yet share their random numbers.
    tolerance = max(TOLERANCES.get(o.dtype, 1e-9) for o in candidate[0])
    a, b = (torch.cat([side[k] for side in whole], 1) for k in range(2))
    return compare_draws(a, b, tolerance, seed, **options)


def sampled_draws(call: Callable[[], Any], n: int, seed: int, most: int = SAMPLED) -> list[list[torch.Tensor]]:
    """Return draws of a call, each the same few elements of every output, on the CPU: what full sizes leave in memory.

    Args:
        call: gives a tensor or a nest of them.
        n: how many draws.
        seed: of the choice of elements; the draws take PyTorch's generator as it stands.
        most: elements of an output that are kept.
    """
    chosen: list[torch.Tensor] = []
    rows: list[list[torch.Tensor]] = []
    generator = torch.Generator().manual_seed(seed % 2**62)
    for _ in range(n):
        leaves = [t.reshape(-1) for t in tree_leaves(call()) if isinstance(t, torch.Tensor)]
        if not chosen:
            # Neighbours and far elements alike: what shares a mask may be either.
            for t in leaves:
                first = torch.arange(min(t.numel(), most // 2))
                far = torch.randint(max(t.numel(), 1), (min(t.numel(), most // 2),), generator=generator)
                chosen.append(torch.cat([first, far]).unique().to(t.device))
        rows.append([t[c].cpu() for t, c in zip(leaves, chosen, strict=True)])
    return rows


def compare_calls(reference: Callable[[], Any], candidate: Callable[[], Any], seed: int) -> Difference | None:
    """Return what the draws of two calls differ in at full size, a suspicion confirmed by fresh draws; None for nothing."""
    found: Difference | None = None
    for n, deviations in ((DRAWS, None), (MORE_DRAWS, CONFIRMED)):
        found = compare_sides(sampled_draws(reference, n, seed), sampled_draws(candidate, n, seed), seed, deviations)
        if found is None:
            break
    return found


# -- whole modules ----------------------------------------------------------------------------------------------------


def with_draws(request: Frame, seed: int) -> Frame:
    """Return a job for a whole file that also asks for draws, with the arguments of its first run."""
    return Frame({**request.header, "draws": [draw_job(0, DRAWS, seed)]}, request.tensors)


class ModuleDraws:
    """The gate meaning of a random module.

    Args:
        truth: the reference with its state.
        seed: of the draws.
    """

    def __init__(self, truth: Reference, seed: int) -> None:
        self.truth, self.seed = truth, seed

    def judge(self, reply: Reply, calls: Sequence[tuple[Sequence[Any], dict[str, Any]]], docket: Docket) -> None:
        """Judge results and changed buffers of the draws that came back."""
        started = time.perf_counter()
        frame = next((f for f in reply.named("draws") if not f.header["error"]), None)
        if frame is None or not frame.tensors or len(next(iter(frame.tensors.values()))) < FEWEST_DRAWS:
            docket.add_skip("meaning", "too few runs gave values to compare")
            return
        args, kwargs = calls[0]
        reference = self._columns(args, kwargs, DRAWS, frame.header["seed"] + 104729)
        missing = sorted(set(reference) ^ set(frame.tensors))
        if missing:
            name = missing[0].removeprefix("state.")
            docket.add_failure(
                "meaning", "state", f"{name} is changed by one side alone", (time.perf_counter() - started) * 1e3
            )
            return
        names = sorted(reference)
        own = [[frame.tensors[n][k] for n in names] for k in range(len(frame.tensors[names[0]]))]
        theirs = [[reference[n][k] for n in names] for k in range(DRAWS)]
        difference = compare_sides(theirs, own, self.seed, CONFIRMED)
        evidence: dict[str, Any] = {"draws": len(own)}
        if difference is not None:
            label = "support" if difference.kind == "support" else "distribution"
            where = re.sub(
                r"output (\d+)", lambda m: names[int(m[1])].replace("out.", "output "), difference.text, count=1
            )
            docket.add_failure("meaning", label, where, (time.perf_counter() - started) * 1e3, **evidence)
            return
        paired = self._columns(args, kwargs, PAIRED, frame.header["seed"])
        evidence["equal_under_equal_seeds"] = all(
            torch.allclose(paired[n].double(), frame.tensors[n][:PAIRED].double(), rtol=1e-3, atol=1e-4, equal_nan=True)
            for n in names
        )
        docket.add_pass("meaning", (time.perf_counter() - started) * 1e3, **evidence, comparisons=len(names))

    def _columns(self, args: Sequence[Any], kwargs: dict[str, Any], n: int, seed: int) -> dict[str, torch.Tensor]:
        """Return the reference's draws by name (``out.0``, ``state.running_mean``), stacked."""
        before = self.truth.module.state_dict()
        columns: dict[str, list[torch.Tensor]] = {}
        with process_settings, torch.random.fork_rng(devices=[]), one_thread():
            for k in range(n):
                torch.manual_seed(seed + k)
                result, after = self.truth.call(args, kwargs)
                leaves = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
                found = {f"out.{i}": t for i, t in enumerate(leaves)}
                state = after.state_dict()
                found.update(
                    {
                        f"state.{s}": t
                        for s, t in state.items()
                        if not torch.equal(t.nan_to_num(), before[s].nan_to_num())
                    }
                )
                for name, tensor in found.items():
                    columns.setdefault(name, []).append(tensor)
        return {name: torch.stack(c) for name, c in columns.items() if len(c) == n}


__all__ = [
    "ModuleDraws",
    "compare_calls",
    "sampled_draws",
    "with_draws",
    "DrawsJudge",
    "compare_sides",
    "draw_job",
    "draws_of",
    "equal_numbers",
    "first_seed",
    "graph_is_random",
]
