"""What ring elements say about a candidate: equal, different, or nothing.

The reference is the oracle's reading of the operators' definitions, run on elements; the candidate's outputs come from the
sandbox.  Both are compared bit for bit at every prime at which laws hold.  Where they differ, the float64 values that
accompany the elements are a second witness: exact but for float64's rounding, and blind to how functions were rearranged.
A candidate is refused where both witnesses say that it computes another function.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from ....ir import OPAQUE, Graph, OpSet, TensorType, Unsupported, input_ranges
from ....ir.typesys import UNIT_ROUNDOFF, is_float
from ...oracle import Oracle
from ...sandbox import Frame
from .. import families
from ..shrink import Instance
from .aten import ShadowMode, Shadows
from .diagnose import likely_cause
from .element import ALL_LEVELS, Algebra, Elements
from .field import LEVELS

#: Relative deviation in float64 above which programs of sums, products, quotients and selections differ: a constant that was
#: written with seven digits is nearer.
ARITHMETIC_LIMIT = 2.0**-21

#: The same for programs with other functions, which kernels may approximate within a few roundings of float32.
FUNCTION_LIMIT = 2.0**-20

#: The same for these where outputs are narrower than float32: this share of their rounding.
NARROW_SHARE = 0.25

#: The same for narrow outputs of kernels that are the definition with another constant: more digits than anyone leaves out.
EXPLAINED_LIMIT = 2.0**-16

#: Processor time of a candidate's first run on elements, and of each later one, at most.
FIRST_S, LATER_S = 4.0, 0.12

#: Elements of the largest value above which no run is made.
_LARGEST = 30_000


@attrs.frozen
class RingTrial:
    """One run on elements: an instance of the fragment, its name, and its inputs (float64, integers, booleans)."""

    name: str
    graph: Graph
    inputs: dict[str, torch.Tensor] = attrs.field(eq=False)


@attrs.frozen
class Reading:
    """What the definitions give on elements: a list of outputs (None where an output has no floats), and what was used."""

    outputs: list[Elements | None]
    used: frozenset[str]
    written: frozenset[float]
    accidents: frozenset[int]
    time_ms: float


@attrs.frozen
class RingOutcome:
    """What was found.

    Attributes:
        outcome: ``equal``; ``inconclusive`` (the ring differs, float64 does not, or not by enough); ``differs``;
            ``not_applicable``.
        message: why, where it is not ``equal``; one line.
        evidence: JSON values.
    """

    outcome: str
    message: str = ""
    evidence: dict[str, Any] = attrs.field(factory=dict)

    def to_evidence(self) -> dict[str, Any]:
        """Return what the report of the gate says."""
        return {"outcome": self.outcome, **({"reason": self.message} if self.message else {}), **self.evidence}


def ring_trials(instances: Sequence[Instance], ops: OpSet, domains: Mapping[str, str], seed: int) -> list[RingTrial]:
    """Return the runs to make, one at each instance.

    Floats are drawn in float64, whatever the fragment's dtypes: rounding is no part of this.

    Args:
        instances: of the fragment; the first is judged in any case, the others while their runs are short.
        domains: of the inputs, by name, as :func:`..families.find_domains` gives them.
    """
    if OPAQUE in {n.op for n in instances[0].graph.nodes}:
        return []
    first = instances[0]
    floats = [o for o in first.graph.outputs if isinstance(o, str) and is_float(first.graph.types[o].dtype)]
    trials = []
    for k, instance in enumerate(instances) if floats else ():
        graph = instance.graph
        if max((int(t.numel) for t in graph.types.values()), default=0) > _LARGEST:  # type: ignore[arg-type]
            continue
        ranges = input_ranges(graph, ops)
        generator = torch.Generator().manual_seed((seed ^ 0x5DEECE66D ^ k) % 2**62)
        inputs: dict[str, torch.Tensor] = {}
        for i in graph.inputs:
            t = attrs.evolve(i.type, dtype="f64") if is_float(i.type.dtype) else i.type
            domain = domains.get(i.name, "real")
            x = families.draw(t, "normal", generator, domain, ranges.get(i.name))
            is_free = is_float(t.dtype) and domain == "real" and i.name not in ranges
            inputs[i.name] = _telling(x, instance.name == "deep", generator) if is_free else x
        trials.append(RingTrial(instance.name, graph, inputs))
    return trials


def _telling(x: torch.Tensor, is_deep: bool, generator: torch.Generator) -> torch.Tensor:
    """Return values at which faults show.

    Rows differ in size, so that a small summand (the epsilon of a normalisation) counts in some of them; or rows rise, to
    their last element most, so that the maximum of a row changes from step to step of a loop.
    """
    if x.ndim == 0:
        return x
    if is_deep:
        x = x + torch.linspace(-1.5, 1.5, x.shape[-1], dtype=x.dtype)
        x[..., -1] += 3.0
        return x
    if x.ndim == 1:
        return x
    return x * 10.0 ** (-3 * torch.rand((x.shape[-2], 1), dtype=x.dtype, generator=generator))


class RingJudge:
    """Judges candidates of one fragment on ring elements.

    Args:
        trials: the runs to make, the most telling first.
        seed: of everything that must stay secret.
    """

    def __init__(self, trials: Sequence[RingTrial], ops: OpSet, seed: int) -> None:
        self.trials, self.ops, self.seed = tuple(trials), ops, seed
        self.oracle = Oracle(ops)
        self._readings: dict[int, Reading | str] = {}

    def read(
        self,
        index: int,
        replaced: Mapping[float, float] | None = None,
        inputs: Mapping[str, torch.Tensor] | None = None,
    ) -> Reading:
        """Return what the definitions give for a trial.

        Args:
            replaced: constants to read as others.
            inputs: values to take instead of the trial's.

        Raises:
            Unsupported: the definitions use what the ring has no reading for.
        """
        started = time.perf_counter()
        trial = self.trials[index]
        given = dict(trial.inputs if inputs is None else inputs)
        algebra = Algebra(self.seed)
        algebra.constants.replaced = dict(replaced or {})
        shadows = Shadows(algebra)
        for tensor in given.values():
            if tensor.is_floating_point() and tensor.numel():
                shadows.put(tensor, algebra.numbers(tensor.numpy()))
        with torch.no_grad(), ShadowMode(shadows):
            values = [v for v in self.oracle.run(trial.graph, given) if isinstance(v, torch.Tensor)]
        outputs = [shadows.get(v) if v.is_floating_point() else None for v in values]
        return Reading(
            outputs, frozenset(algebra.used), frozenset(algebra.constants.written), frozenset(algebra.accidents),
            (time.perf_counter() - started) * 1e3,
        )  # fmt: skip

    def reading(self, index: int) -> Reading | str:
        """Return what the definitions give, computed once, or why they give nothing."""
        if index not in self._readings:
            try:
                self._readings[index] = self.read(index)
            except Unsupported as error:
                self._readings[index] = error.message
            except (RuntimeError, TypeError, ValueError) as error:  # an ATen call that a rule does not fit
                self._readings[index] = f"{type(error).__name__}: {error}"
        return self._readings[index]

    def request(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the part of a sandbox job that asks for the runs: a header entry, and tensors."""
        tensors: dict[str, torch.Tensor] = {}
        runs = []
        for j, trial in enumerate(self.trials):
            runs.append({"dtypes": [i.type.dtype for i in trial.graph.inputs]})
            tensors.update({f"ring.{j}.{i}": trial.inputs[p.name] for i, p in enumerate(trial.graph.inputs)})
        return {"seed": self.seed, "runs": runs, "first_s": FIRST_S, "later_s": LATER_S}, tensors

    # -- judging ------------------------------------------------------------------------------------------------------
    def judge(self, frames: Sequence[Frame], diagnose_ms: float = 150.0) -> RingOutcome:
        """Return what the runs say.

        Args:
            frames: those of kind ``ring`` that the candidate's process sent.
            diagnose_ms: time to look for a cause.
        """
        if not self.trials:
            return RingOutcome("not_applicable", "no output of floats, or the smallest instance is too large")
        if not frames:
            return RingOutcome("not_applicable", "the candidate was not run on elements")
        seen: list[str] = []
        worst, time_ms, collision = 0.0, 0.0, 0.0
        used: set[str] = set()
        found: RingOutcome | None = None
        for frame in frames:
            h, index = frame.header, frame.header["index"]
            if not 0 <= index < len(self.trials) or ("skipped" in h and seen):
                continue
            if "skipped" in h:
                return RingOutcome("not_applicable", h["skipped"])
            reading = self.reading(index)
            if isinstance(reading, str):
                if seen:
                    continue
                return RingOutcome("not_applicable", f"the definition: {reading}")
            time_ms += h["time_ms"] + reading.time_ms
            compared = self._compare(index, reading, frame, diagnose_ms)
            seen.append(self.trials[index].name)
            used |= reading.used | set(h["used"])
            worst = max(worst, compared.evidence["deviation"])
            collision = max(collision, compared.evidence["collision"])
            if compared.outcome != "equal" and (found is None or compared.outcome == "differs"):
                found = compared
                if compared.outcome == "differs":
                    break
        evidence = {
            "instances": seen, "functions": sorted(used), "deviation": worst, "collision": collision,
            "time_ms": round(time_ms, 1),
        }  # fmt: skip
        if found is None:
            return RingOutcome("equal", "", evidence)
        return RingOutcome(found.outcome, found.message, {**found.evidence, **evidence})

    def _compare(self, index: int, reading: Reading, frame: Frame, diagnose_ms: float) -> RingOutcome:
        h, graph = frame.header, self.trials[index].graph
        types = [graph.types[o] for o in graph.outputs if isinstance(o, str)]
        used = reading.used | set(h["used"])
        accidents = reading.accidents | set(h["accidents"])
        evidence: dict[str, Any] = {"deviation": 0.0, "collision": 0.0}
        inconclusive = ""
        for i, (want, t) in enumerate(zip(reading.outputs, types, strict=True)):
            if want is None or not is_float(t.dtype) or f"v.{i}" not in frame.tensors:
                continue
            v = frame.tensors[f"v.{i}"].numpy()
            r = frame.tensors[f"r.{i}"].numpy().astype(np.int64)
            if v.shape != want.shape or r.shape != (LEVELS, *v.shape):
                return RingOutcome("not_applicable", f"output {i} has shape {list(v.shape)}", evidence)
            lawful = want.lawful & int(h["lawful"][i]) & ALL_LEVELS
            levels = [k for k in range(LEVELS) if lawful >> k & 1 and k not in accidents]
            evidence["collision"] = max(evidence["collision"], self._collision(levels))
            apart = self._apart(r, want, levels)
            size = _deviation(v, want.v)
            evidence["deviation"] = max(
                evidence["deviation"], float(np.max(size, initial=0.0, where=np.isfinite(size)))
            )
            if not apart.any():
                continue
            cause, explained = "", False
            if float(np.max(size, initial=0.0, where=apart)) > families.DOUBLE_NOISE:
                written = set(h["written"])
                cause, explained = likely_cause(self, index, i, want, v, apart, written, reading, diagnose_ms)
            wrong = apart & (size > _limit(used, t, explained))
            is_wrong = bool(wrong.any()) and "rounding" not in used and bool(np.isfinite(v[wrong]).all())
            if not is_wrong:
                text = self._inconclusive(i, apart, size, used)
                inconclusive = inconclusive or text + (f"; {cause}" if cause else "")
                continue
            message = _message(i, wrong, v, want.v, apart)
            first = [int(k) for k in np.argwhere(wrong)[0]]
            evidence.update(output=i, index=first, n_wrong=int(apart.sum()), cause=cause)
            return RingOutcome("differs", message + (f"; {cause}" if cause else ""), evidence)
        return RingOutcome("inconclusive" if inconclusive else "equal", inconclusive, evidence)

    def _collision(self, levels: Sequence[int]) -> float:
        """Return the chance that two different elements agree at all of ``levels``, or at one where there are none."""
        primes = Algebra(self.seed).field.primes
        out = 1.0
        for k in levels:
            out /= primes[k]
        return out if levels else 1.0 / min(primes)

    @staticmethod
    def _apart(r: np.ndarray, want: Elements, levels: Sequence[int]) -> np.ndarray:
        """Return which elements differ: at any prime where laws hold; where there is none, at the prime that agrees best."""
        apart = r != want.r
        if levels:
            return np.asarray(apart[list(levels)].any(0))
        best = min(range(LEVELS), key=lambda k: int(apart[k].sum()))
        return np.asarray(apart[best])

    @staticmethod
    def _inconclusive(output: int, apart: np.ndarray, size: np.ndarray, used: set[str] | frozenset[str]) -> str:
        others = sorted(set(used) - {"arithmetic", "selection"})
        why = f"rearranged functions ({', '.join(others)})" if others else "constants that round alike"
        worst = float(np.max(size, initial=0.0, where=apart & np.isfinite(size)))
        return (
            f"output {output}: {int(apart.sum())} of {apart.size} elements differ in the ring, and by {worst:.1e} of their row "
            f"in float64: {why}"
        )


def _limit(used: set[str] | frozenset[str], t: TensorType, explained: bool) -> float:
    """Return the deviation above which a candidate computes something else.

    Args:
        used: kinds of operations on either side.
        t: of the output.
        explained: whether the candidate is known to be the definition with another constant, factor or operand, so that
            it is no approximation of the definition's functions.
    """
    if not used - {"arithmetic", "selection"}:
        return ARITHMETIC_LIMIT
    if t.dtype not in ("f16", "bf16"):
        return FUNCTION_LIMIT
    return EXPLAINED_LIMIT if explained else max(FUNCTION_LIMIT, NARROW_SHARE * UNIT_ROUNDOFF[t.dtype])


def _deviation(v: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return the distance of each element from what it should be, relative to the largest of its row."""
    with np.errstate(all="ignore"):
        distance = np.abs(v - want)
        finite = np.where(np.isfinite(want), np.abs(want), 0.0)
        scale = finite.max(-1, keepdims=True, initial=0.0) if want.ndim else finite
        same = (v == want) | (np.isnan(v) & np.isnan(want))
        return np.where(same, 0.0, np.where(np.isfinite(distance), distance / scale, np.inf))


def _message(output: int, wrong: np.ndarray, v: np.ndarray, want: np.ndarray, apart: np.ndarray) -> str:
    first = tuple(int(k) for k in np.argwhere(wrong)[0])
    return (
        f"computes another function: output {output} at index {list(first)} is {v[first]:.10g} in exact arithmetic, expected "
        f"{want[first]:.10g}; {int(apart.sum())} of {apart.size} elements differ"
    )
