"""Times on a CUDA device: events, a flushed cache, rotated inputs, everything that is compared in one interleaved run.

Each sample is ``flush the L2 cache, hold the device until the host has queued the call, event, call, event``: the time of
the device's work, without the host's.  ``wall_us`` is the host's time per call in a loop, which for small programs is
what the user sees.  Baselines run under the same precision flags as candidates, and the flags stand in the result.
"""

from __future__ import annotations

import contextlib
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Union

import attrs
import torch
from torch.utils._pytree import tree_leaves, tree_map

from ..ir import Graph, OpSet, UsageError, builtin_ops, input_ranges
from .candidate import H100, PRECISIONS, Target
from .predict import floor_us
from .verify import families

Factory: TypeAlias = Callable[[int], Sequence[Any]]


@attrs.frozen
class Timing:
    """The time of one callable.

    Attributes:
        median_us, low_us, high_us: median of the samples and its 95 % confidence interval, microseconds of device time.
        wall_us: host time per call, microseconds, calls queued one after another.
        n: samples.
        peak_bytes: device memory that one call took at its peak, inputs not counted.
        flags: precision flags and versions under which it ran.
        triton_launches: Triton kernels launched by one call; None where they cannot be counted.
        suspicious: why the figure should not be believed; empty where nothing speaks against it.
    """

    name: str
    median_us: float
    low_us: float
    high_us: float
    wall_us: float
    n: int
    peak_bytes: int
    flags: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    triton_launches: int | None = None
    suspicious: str = ""

    def __str__(self) -> str:
        note = f"  [suspicious: {self.suspicious}]" if self.suspicious else ""
        return f"{self.name}: {self.median_us:.1f} us ({self.low_us:.1f}..{self.high_us:.1f}, n={self.n}){note}"


@contextlib.contextmanager
def precision_flags(precision: str) -> Iterator[dict[str, Any]]:
    """Set PyTorch's float32 flags to a declared precision and yield what is in force; restored at the end.

    Args:
        precision: ``strict`` (TF32 off everywhere) or ``tf32`` (allowed everywhere).
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}", subject="measure")
    allowed = precision == "tf32"
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    saved = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = allowed, allowed
    try:
        yield {
            "precision": precision, "matmul.allow_tf32": allowed, "cudnn.allow_tf32": allowed,
            "torch": torch.__version__, "cuda": torch.version.cuda,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }  # fmt: skip
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = saved


def graph_inputs(graph: Graph, device: str = "cuda", ops: OpSet | None = None) -> Factory:
    """Return a factory of random inputs for a fragment: from a seed to tensors in order."""
    from .verify.shrink import bind

    static = bind(graph, None, ops)
    ranges = input_ranges(static, ops)

    def make(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator(device)
        generator.manual_seed(seed)
        return [
            families.draw(i.type, "normal", generator, range_=ranges.get(i.name), device=device) for i in static.inputs
        ]

    return make


def confidence_of_median(samples: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by order statistics; no distribution is assumed."""
    s, n = sorted(samples), len(samples)
    half = 1.96 * math.sqrt(n) / 2
    lo, hi = math.floor(n / 2 - half), math.ceil(n / 2 + half)
    return s[max(0, lo)], s[min(n - 1, hi)]


@contextlib.contextmanager
def _counted_launches() -> Iterator[list[int]]:
    """Count Triton launches; the list stays empty where this Triton has no hook."""
    count: list[int] = []
    hook = None
    try:
        from triton import knobs

        hook = knobs.runtime.launch_enter_hook
    except (ImportError, AttributeError):
        pass
    if hook is None or not hasattr(hook, "add"):
        yield count
        return
    count.append(0)

    def enter(*args: Any) -> None:
        count[0] += 1

    hook.add(enter)
    try:
        yield count
    finally:
        hook.remove(enter)


class _Flusher:
    """Writes a buffer larger than the last-level cache, and keeps the device busy while the host queues work."""

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        size = max(2 * getattr(properties, "L2_cache_size", 50 << 20), 64 << 20)
        self.buffer = torch.empty(size, dtype=torch.int8, device="cuda")

    def __call__(self, hold_cycles: int) -> None:
        self.buffer.zero_()
        if hold_cycles and hasattr(torch.cuda, "_sleep"):
            torch.cuda._sleep(hold_cycles)


def _fits(inputs: Sequence[Any]) -> int:
    """Return how many sets of these inputs may be held: up to four, in an eighth of the free memory."""
    size = sum(t.nbytes for t in tree_leaves(list(inputs)) if isinstance(t, torch.Tensor))
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(4, free // 8 // max(size, 1)))


def _copy(value: Any) -> Any:
    return tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, value)


def _same(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=False)
    return all(
        torch.allclose(x, y, rtol=1e-2, atol=1e-2, equal_nan=True) if x.is_floating_point() else torch.equal(x, y)
        for x, y in pairs
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)
    )


def measure(
    functions: Mapping[str, Callable[..., Any]], inputs: Union[Graph, Factory, Sequence[Any]], *,
    precision: str = "strict", budget_s: float = 2.0, max_samples: int = 200, floor: float | None = None,
    target: Target = H100, ops: OpSet | None = None, seed: int = 0,
) -> dict[str, Timing]:  # fmt: skip
    """Time callables against each other on the CUDA device.

    Args:
        functions: by name; each takes the same positional arguments.
        inputs: a fragment (random inputs of its types), a factory from a seed to arguments, or the arguments.
        precision: declared arithmetic; sets PyTorch's flags while everything runs.
        budget_s: device time for the samples of all functions together, seconds.
        max_samples: of each function, at most; at least 10 are taken.
        floor: time below which a figure is suspicious, microseconds; from the roofline where ``inputs`` is a fragment.

    Returns:
        A timing for each function that ran; one that raised has ``median_us`` infinite and the error as ``suspicious``.

    Raises:
        UsageError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UsageError("no CUDA device is available, expected one to measure on", subject="measure")
    ops = builtin_ops() if ops is None else ops
    if isinstance(inputs, Graph):
        make: Factory = graph_inputs(inputs, "cuda", ops)
        if floor is None:
            floor = floor_us(inputs, target, precision, ops=ops)
    elif callable(inputs):
        make = inputs
    else:
        given = inputs
        make = lambda k: given if k == seed else _copy(given)  # noqa: E731
    with precision_flags(precision) as flags, torch.no_grad():
        first = list(make(seed))
        sets = [first] + [list(make(seed + k)) for k in range(1, _fits(first))]
        timings: dict[str, Timing] = {}
        ready: dict[str, _Subject] = {}
        for name, function in functions.items():
            try:
                ready[name] = _Subject(name, function, sets[0])
            except Exception as error:
                text = f"raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
                timings[name] = Timing(name, math.inf, math.inf, math.inf, math.inf, 0, 0, flags, None, text)
        _sample(list(ready.values()), sets, budget_s, max_samples, random.Random(seed))
        for name, subject in ready.items():
            timings[name] = subject.timing(flags, floor, sets[0])
    return {name: timings[name] for name in functions}


class _Subject:
    """One callable under measurement."""

    def __init__(self, name: str, function: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.name, self.function = name, function
        self.samples: list[float] = []
        for _ in range(2):  # compiles and tunes
            function(*inputs)
        torch.cuda.synchronize()
        with _counted_launches() as count:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.first = _copy(function(*inputs))
            torch.cuda.synchronize()
            self.peak_bytes = max(0, torch.cuda.max_memory_allocated() - before)
        self.launches = count[0] if count else None
        started = time.perf_counter()
        n = 5
        for _ in range(n):
            function(*inputs)
        queued = time.perf_counter() - started
        torch.cuda.synchronize()
        self.wall_us = (time.perf_counter() - started) / n * 1e6
        self.host_us = queued / n * 1e6

    def sample(self, inputs: Sequence[Any], flush: _Flusher, hold_cycles: int) -> tuple[Any, Any]:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush(hold_cycles)
        start.record()
        self.function(*inputs)
        end.record()
        return start, end

    def timing(self, flags: Mapping[str, Any], floor: float | None, inputs: Sequence[Any]) -> Timing:
        median = statistics.median(self.samples)
        low, high = confidence_of_median(self.samples)
        suspicious = ""
        if floor is not None and median < floor:
            suspicious = f"{median:.1f} us is below the {floor:.1f} us that moving the data or computing takes at least"
        elif not _same(self.first, self.function(*inputs)):
            suspicious = "its results changed during the measurement"
        return Timing(
            self.name,
            median,
            low,
            high,
            self.wall_us,
            len(self.samples),
            self.peak_bytes,
            flags,
            self.launches,
            suspicious,
        )


def _sample(
    subjects: list[_Subject], sets: Sequence[Sequence[Any]], budget_s: float, max_samples: int, order: random.Random
) -> None:
    """Take samples in rounds, the subjects in a fresh random order each time."""
    if not subjects:
        return
    flush = _Flusher()
    clock = torch.cuda.get_device_properties(torch.cuda.current_device())
    cycles_per_us = max(1.0, getattr(clock, "clock_rate", 1_700_000) / 1000)
    round_us = sum(s.wall_us + 150 for s in subjects)
    n = int(min(max_samples, max(10, budget_s * 1e6 / round_us)))
    for k in range(n):
        events = []
        for subject in order.sample(subjects, len(subjects)):
            hold = int(min(2 * subject.host_us + 20, 5000) * cycles_per_us)
            events.append((subject, *subject.sample(sets[k % len(sets)], flush, hold)))
        torch.cuda.synchronize()
        for subject, start, end in events:
            subject.samples.append(start.elapsed_time(end) * 1e3)


@attrs.frozen
class Row:
    """One line of a comparison: a callable, its time, and how much faster it is than eager and than torch.compile."""

    timing: Timing
    speedup_eager: float | None = None
    speedup_compiled: float | None = None


def compare(
    reference: Callable[..., Any], candidate: Callable[..., Any], inputs: Union[Factory, Sequence[Any]], *,
    precision: str = "strict", budget_s: float = 4.0, mode: str | None = None, max_samples: int = 200,
) -> list[Row]:  # fmt: skip
    """Time a candidate against its reference, eager and under ``torch.compile``, in one run.

    Args:
        reference, candidate: modules or functions on the CUDA device with the same arguments.
        inputs: a factory from a seed to arguments, or the arguments.
        mode: of ``torch.compile``; its default where None.

    Returns:
        Rows ``eager``, ``torch.compile`` and ``drt``.

    Raises:
        UsageError: there is no CUDA device.
    """
    with precision_flags(precision):  # a compiled function keeps the flags that it was compiled under
        torch._dynamo.reset()
        compiled = torch.compile(reference, mode=mode)
        functions = {"eager": reference, "torch.compile": compiled, "drt": candidate}
        times = measure(functions, inputs, precision=precision, budget_s=budget_s, max_samples=max_samples)
    eager_us, compiled_us = times["eager"].median_us, times["torch.compile"].median_us

    def ratio(base: float, own: float) -> float | None:
        return base / own if 0 < own < math.inf and base < math.inf else None

    return [Row(t, ratio(eager_us, t.median_us), ratio(compiled_us, t.median_us)) for t in times.values()]
