"""Many candidates side by side: gates that need no device in parallel, the device's one at a time.

Candidates run in processes of their own, so that one that hangs, crashes or eats memory costs its deadline and nothing else.
A verdict is always returned: where the judge itself fails, or a sandbox ends under a candidate twice, the label says so and
the candidate has not passed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import attrs

from ...ir import Graph, OpSet, checked
from ..candidate import Candidate
from .judge import verify_candidate
from .verdict import Verdict

#: Labels of verdicts that say nothing about the candidate.
UNJUDGED = ("lost", "internal")


@attrs.frozen
class PoolReport:
    """What a pool has done so far.

    Attributes:
        n: verdicts returned.
        n_passed: how many of them passed.
        labels: label -> how many failed with it.
        elapsed_s: wall time from the first candidate's submission to the last verdict.
        gate_ms: gate -> mean wall time of a candidate that reached it, milliseconds.
    """

    n: int
    n_passed: int
    labels: dict[str, int]
    elapsed_s: float
    gate_ms: dict[str, float]

    @property
    def per_s(self) -> float:
        """Verdicts per second of wall time."""
        return self.n / self.elapsed_s if self.elapsed_s else 0.0

    def __str__(self) -> str:
        gates = ", ".join(f"{g} {t:.0f} ms" for g, t in self.gate_ms.items())
        failed = "".join(f", {k} {label}" for label, k in sorted(self.labels.items(), key=lambda x: -x[1]))
        return (
            f"{self.n_passed} of {self.n} passed{failed}; {self.elapsed_s:.1f} s, {self.per_s:.2f} verdicts/s; {gates}"
        )


class JudgePool:
    """Judges candidates in parallel.

    Args:
        jobs: candidates at a time; None means one for each processor that this process may use.
        options: keyword arguments of :func:`drt.backend.verify.verify_candidate` for every candidate.

    Use it as a context manager, or call :meth:`close`.

    >>> with JudgePool(jobs=2, device="cpu") as pool:
    ...     verdicts = list(pool.judge([]))
    """

    @checked
    def __init__(self, jobs: int | None = None, **options: Any) -> None:
        self.jobs = jobs or len(os.sched_getaffinity(0))
        self.options = options
        self._threads = ThreadPoolExecutor(self.jobs, thread_name_prefix="judge")
        self._lock = threading.Lock()
        self._verdicts: list[Verdict] = []
        self._first_s: float | None = None
        self._last_s = 0.0

    def __enter__(self) -> JudgePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the verdicts that are under way, and take no more candidates."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def submit(self, fragment: Graph, candidate: Candidate, ops: OpSet | None = None) -> Future[Verdict]:
        """Begin to judge a candidate; the future never raises."""
        return self.call(lambda: verify_candidate(fragment, candidate, ops=ops, **self.options))

    def call(self, judge: Callable[[], Verdict]) -> Future[Verdict]:
        """Run anything that returns a verdict under the pool's bound; the future never raises."""
        with self._lock:
            self._first_s = self._first_s or time.monotonic()
        return self._threads.submit(self._judged, judge)

    def judge(self, items: Iterable[tuple[Graph, Candidate]]) -> Iterator[Verdict]:
        """Yield a verdict for each (fragment, candidate), in order."""
        futures = [self.submit(fragment, candidate) for fragment, candidate in items]
        for future in futures:
            yield future.result()

    def _judged(self, judge: Callable[[], Verdict]) -> Verdict:
        verdict = _safely(judge)
        if verdict.label == "lost":  # the sandbox ended, perhaps under another candidate: once more
            verdict = _safely(judge)
        with self._lock:
            self._verdicts.append(verdict)
            self._last_s = time.monotonic()
        return verdict

    @property
    def report(self) -> PoolReport:
        """What has been done so far."""
        with self._lock:
            verdicts, first_s, last_s = list(self._verdicts), self._first_s, self._last_s
        return summarise(verdicts, (last_s - first_s) if verdicts and first_s is not None else 0.0)


def summarise(verdicts: Sequence[Verdict], elapsed_s: float) -> PoolReport:
    """Return a report on verdicts that took ``elapsed_s`` together."""
    labels = Counter(v.label for v in verdicts if not v.passed)
    times: dict[str, list[float]] = {}
    for verdict in verdicts:
        for g in verdict.gates:
            if not g.skipped:
                times.setdefault(g.gate, []).append(g.time_ms)
    mean = {gate: round(sum(t) / len(t), 2) for gate, t in times.items()}
    return PoolReport(len(verdicts), sum(v.passed for v in verdicts), dict(labels), elapsed_s, mean)


def _safely(judge: Callable[[], Verdict]) -> Verdict:
    try:
        return judge()
    except Exception as error:
        message = f"the judge failed: {type(error).__name__}: {error}"
        return Verdict(False, "meaning", "internal", " ".join(message.split())[:500])
