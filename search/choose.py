"""A kernel for each fragment: propose, verify, time, keep the best; or leave the fragment to PyTorch and say why."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import torch

from ..backend.assemble import Step
from ..backend.candidate import Candidate, Target, Translator
from ..backend.measure import Timing, measure
from ..backend.predict import predict_compiled_us, predict_eager_us, predict_us
from ..backend.to_torch import to_callable
from ..backend.triton_gen import TemplateTranslator, plan
from ..backend.user_kernels import UserKernels, plan_user_kernel
from ..backend.verify import Verdict, verify_candidate
from ..ir import DrtError, Graph, OpSet, Unsupported, UsageError, checked
from ..ir.binding import at_sizes
from .fuse import A_VIEW, ONCE, Part, PlanLike, fragment_key, split_anchor
from .symbols import with_own_symbols


@attrs.frozen
class Times:
    """Times of one call of a fragment, microseconds; None where unknown.

    Attributes:
        kind: ``measured`` (median, device events, one run on one device) or ``predicted`` (roofline model).
        drt_us: with the chosen kernel, or with PyTorch where there is none.
    """

    kind: str = "predicted"
    drt_us: float | None = None
    eager_us: float | None = None
    compiled_us: float | None = None


@attrs.frozen
class Chosen:
    """A part of the program with what will run it.

    Attributes:
        kernel_values: the values of the fragment that the kernel was written for, in order; this part's own fragment has
            as many, perhaps under other names.
    """

    part: Part
    step: Step
    verdict: Verdict | None = None
    times: Times = Times()
    reason: str = ""
    kernel_values: tuple[str, ...] = ()


@attrs.frozen
class _Answer:
    """What was found for a fragment, whatever its values are called."""

    candidate: Candidate | None
    verdict: Verdict | None
    times: Times
    reason: str
    values: tuple[str, ...] = ()


class Chooser:
    """Finds kernels, one fragment after another, until the deadline.

    Args:
        ops: the operators.
        target: the device that kernels are planned for.
        precision: arithmetic of float32 products.
        variants: kernels that are tried for one fragment, at most.
        device: ``cpu`` (verified by interpretation, times predicted) or ``cuda`` (verified at full size and timed).
        deadline_s: ``time.monotonic()`` after which nothing new is begun.
        translator: who writes the kernels; None means the template generator.
        time_compiled: whether fragments are also timed under ``torch.compile``.
        sizes: of the program's symbols in the example call, at which kernels are timed.
    """

    @checked
    def __init__(
        self,
        ops: OpSet,
        target: Target,
        precision: str,
        variants: int,
        device: str,
        deadline_s: float,
        translator: Translator | None = None,
        time_compiled: bool = True,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.ops, self.target, self.precision = ops, target, precision
        self.variants, self.device, self.deadline_s = variants, device, deadline_s
        self.translator = translator or TemplateTranslator(target=target, precision=precision, ops=ops)
        self.user_kernels = UserKernels(ops, target)
        self.time_compiled = time_compiled
        self.sizes = dict(sizes or {})
        self._answers: dict[str, _Answer] = {}

    def plan(self, fragment: Graph) -> PlanLike:
        """Return the plan of a user's kernel for the fragment, or else the generator's; raises Unsupported."""
        with _no_crash():
            return plan_user_kernel(fragment, self.ops) or plan(with_own_symbols(fragment), self.ops)

    def choose(self, part: Part) -> list[Chosen]:
        """Return what runs ``part``: itself as one step, or the steps that it was cut into."""
        whole = self._choose(part)
        if whole.times.kind != "measured" or whole.part.plan is None:
            return [whole]
        halves = split_anchor(part, self.ops, self.plan, self.target)
        if halves is None:
            return [whole]
        pieces = [self._choose(p) for p in halves]
        total_us = sum(p.times.drt_us or 0.0 for p in pieces)
        if whole.times.drt_us is not None and whole.times.drt_us <= total_us:
            return [whole]
        return pieces

    def _choose(self, part: Part) -> Chosen:
        if part.plan is None:
            costs = part.reason not in (A_VIEW, ONCE)
            times = self._baseline(part.fragment) if self.device == "cuda" and costs else Times()
            return Chosen(part, Step(part.fragment), None, times, part.reason)
        key = fragment_key(part.fragment)
        if key not in self._answers:
            if time.monotonic() > self.deadline_s:
                reason = "the time budget was used up before it"
                return Chosen(part, Step(part.fragment), None, Times(), reason)
            answer = self._search(part.fragment)
            self._answers[key] = attrs.evolve(answer, values=tuple(part.fragment.types))
        a = self._answers[key]
        return Chosen(part, Step(part.fragment, a.candidate), a.verdict, a.times, a.reason, a.values)

    def _search(self, fragment: Graph) -> _Answer:
        candidates = self.user_kernels.propose(fragment, self.variants)
        reason = "the generator proposed nothing"
        try:
            with _no_crash():
                candidates += self.translator.propose(with_own_symbols(fragment), self.variants)
        except Unsupported as error:
            reason = error.message
        if not candidates:
            return _Answer(None, None, Times(), reason)
        refused: Verdict | None = None
        verdicts: dict[Candidate, Verdict] = {}
        times = Times()
        us: dict[Candidate, float | None] = {}
        if self.device == "cuda":
            # Only kernels of our own generator, and of the user who runs us, run in this process before they are judged.
            foreign = [c for c in candidates if c.writer not in (TemplateTranslator.name, UserKernels.name)]
            verdicts = {c: self._verdict(fragment, c) for c in foreign}
            refused = next((v for v in verdicts.values() if not v.passed), None)
            candidates = [c for c in candidates if c not in verdicts or verdicts[c].passed]
            timings = self._time(fragment, {str(k): load_entry(c) for k, c in enumerate(candidates)})
            us = {c: _us(timings, str(k)) for k, c in enumerate(candidates)}
            times = Times("measured", None, _us(timings, "eager"), _us(timings, "compiled"))
            candidates = sorted(candidates, key=lambda c: us.get(c) or float("inf"))
        for candidate in candidates:
            own_us = us.get(candidate)
            if own_us is not None and times.eager_us is not None and own_us > times.eager_us:
                reason = f"PyTorch is faster: {times.eager_us:.0f} us against {own_us:.0f} us"
                return _Answer(None, refused, attrs.evolve(times, drt_us=times.eager_us), reason)
            verdict = verdicts.get(candidate) or self._verdict(fragment, candidate)
            if verdict.passed:
                if self.device == "cpu":
                    return _Answer(candidate, verdict, self._predicted(fragment, candidate), "")
                if own_us is None:
                    own_us = _us(self._time(fragment, {"own": load_entry(candidate)}), "own")
                return _Answer(candidate, verdict, attrs.evolve(times, drt_us=own_us), "")
            refused = verdict
        if refused is not None:
            reason = f"no kernel passed: {refused.summary()}"
        return _Answer(None, refused, attrs.evolve(times, drt_us=times.eager_us), reason)

    def _verdict(self, fragment: Graph, candidate: Candidate) -> Verdict:
        named = with_own_symbols(fragment)
        if named.is_static or self.device == "cpu":
            return verify_candidate(named, candidate, ops=self.ops, precision=self.precision, device=self.device)
        # All sizes of a range are judged by small ones, and those of the example call on the device.
        verdict = verify_candidate(named, candidate, ops=self.ops, precision=self.precision, device="cpu")
        if not verdict.passed:
            return verdict
        concrete = self._concrete(fragment)
        return verify_candidate(concrete, candidate, ops=self.ops, precision=self.precision, device=self.device)

    def _concrete(self, fragment: Graph) -> Graph:
        """Return the fragment at the sizes of the example call."""
        if fragment.is_static:
            return fragment
        return at_sizes(fragment, {s.name: self.sizes[s.name] for s in fragment.symbols}, self.ops)

    def _predicted(self, fragment: Graph, candidate: Candidate | None) -> Times:
        fragment = self._concrete(fragment)
        drt_us = candidate.predicted_us if candidate else None
        if candidate is not None and drt_us is None:
            drt_us = predict_us(fragment, self.target, self.precision, ops=self.ops)
        return Times(
            "predicted",
            drt_us,
            predict_eager_us(fragment, self.target, self.precision, ops=self.ops),
            predict_compiled_us(fragment, self.target, self.precision, ops=self.ops),
        )

    # -- on a device ------------------------------------------------------------------------------------------------

    def _baseline(self, fragment: Graph) -> Times:
        timings = self._time(fragment, {})
        eager_us = _us(timings, "eager")
        return Times("measured", eager_us, eager_us, _us(timings, "compiled"))

    def _time(self, fragment: Graph, functions: dict[str, Callable[..., Any]]) -> dict[str, Timing]:
        fragment = self._concrete(fragment)
        eager = to_callable(fragment, self.ops)
        everything = {**functions, "eager": eager}
        if self.time_compiled and time.monotonic() < self.deadline_s:
            torch._dynamo.reset()
            everything["compiled"] = torch.compile(eager)
        return measure(everything, fragment, precision=self.precision, target=self.target, ops=self.ops, budget_s=0.5)


@contextlib.contextmanager
def _no_crash() -> Iterator[None]:
    """Turn a bug of a translator into a reason: the fragment stays in PyTorch, and the compile goes on."""
    try:
        yield
    except DrtError:
        raise
    except Exception as error:
        raise Unsupported(f"the generator fails: {type(error).__name__}: {error}") from error


def _us(timings: dict[str, Timing], name: str) -> float | None:
    """Return the median of a timing; None where there is none, or where it is no time of what it should be."""
    if name not in timings or timings[name].median_us == float("inf"):
        return None
    return timings[name].median_us


_PREAMBLE = (
    "import torch\nimport triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n\n"
)


@checked
def load_entry(candidate: Candidate) -> Callable[..., Any]:
    """Load a verified candidate into this process and return its launcher.

    Triton reads kernels from a file, which therefore stays until the process ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="drt_"))
    path = folder / f"{candidate.entry}.py"
    path.write_text(_PREAMBLE + candidate.source)
    entry: Callable[..., Any] = getattr(load_file(path), candidate.entry)
    return entry


@checked
def load_file(path: str | os.PathLike[str]) -> ModuleType:
    """Import a Python file under a name of its own.

    Raises:
        UsageError: there is no such file.
    """
    path = Path(path)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError("no such file, expected a Python file", place=str(path))
    name = f"drt_loaded_{path.stem}_{abs(hash(str(path.resolve())))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@checked
def load_model_new(
    path: str | os.PathLike[str], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    """Return ``ModelNew`` of a written file, constructed; raises UsageError where there is no such file."""
    model: torch.nn.Module = load_file(path).ModelNew(*args, **dict(kwargs or {}))
    return model
