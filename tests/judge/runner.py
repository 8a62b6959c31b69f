"""Runs corpora through the judge and through the published rules; keeps each result, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
from drt.backend.verify import Verdict, verify_candidate

from .kernels import Kernel
from .published import judge_by_rules

ROOT = Path(__file__).resolve().parents[2]

#: The gates that need no device and no compiler, and those with it.
QUICK = ("policy", "trace", "memory", "meaning")
ALL = ("policy", "trace", "compile", "memory", "meaning")


@attrs.frozen
class Case:
    """One candidate to judge.

    Attributes:
        corpus: ``right``, ``mutant`` or ``cheat``.
        kind: of the kernel, of the mutant, or the letter of the cheat's pattern.
        source: what is judged.
        about: shown in lists: the change, or the pattern.
        gate: that must stop it; empty where none must, ``?`` where any may.
    """

    corpus: str
    name: str
    kind: str
    kernel: Kernel = attrs.field(repr=False)
    source: str = attrs.field(repr=False)
    about: str = ""
    gate: str = "?"


def fingerprint() -> str:
    """Return a digest of everything that decides a verdict: the judge, the definitions, the corpora's own rules."""
    digest = hashlib.sha256()
    for folder in ("backend", "ir", "tests/judge"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".drt", ".lark") and "right" not in path.parts and "cheats" not in path.parts:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def key_of(case: Case, seed: int) -> str:
    """Return a key under which the result of a case may be kept."""
    text = "\0".join((case.corpus, case.name, case.source, case.kernel.program, case.kernel.precision, str(seed)))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
    """Results as JSON lines; those that another judge gave are not read.

    Args:
        path: of the file; None keeps nothing.
        judge: the fingerprint; the empty string takes results of any judge.
    """

    def __init__(self, path: Path | None, judge: str) -> None:
        self.path, self.judge = path, judge
        self._lock = threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                if not judge or record["judge"] == judge:
                    self.known[record["key"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a result."""
        with self._lock:
            self.known[record["key"]] = record
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as f:
                    f.write(json.dumps(record) + "\n")


def judge_case(
    case: Case, seed: int = 1, rules: bool = False, gates: Sequence[str] = ALL, device: bool = False
) -> dict[str, Any]:
    """Judge one candidate and return the result as JSON values.

    What the quick gates stop is not compiled, except to measure the cost of a right kernel.

    Args:
        device: what passes is judged on the CUDA device too.
    """
    graph, candidate = case.kernel.graph, case.kernel.candidate(case.source)

    def judged(gates: Sequence[str]) -> Verdict:
        return verify_candidate(graph, candidate, device="cpu", seed=seed, timeout_s=30.0, gates=gates)

    started = time.perf_counter()
    quick = tuple(g for g in gates if g != "compile")
    verdict = judged(gates if case.corpus == "right" else quick)
    if case.corpus != "right" and verdict.passed and "compile" in gates:
        verdict = judged(("policy", "compile", "meaning", "memory", "trace"))
    if device and verdict.passed:
        on_device = verify_candidate(graph, candidate, device="cuda", seed=seed, timeout_s=60.0, gates=("device",))
        if not on_device.passed:
            verdict = on_device
    record = {
        "corpus": case.corpus, "name": case.name, "kind": case.kind, "kernel": case.kernel.name, "about": case.about,
        "program_kind": case.kernel.kind, "want": case.gate, "passed": verdict.passed, "gate": verdict.gate,
        "label": verdict.label, "message": verdict.message, "seconds": round(time.perf_counter() - started, 3),
        "gates_ms": {g.gate: g.time_ms for g in verdict.gates if not g.skipped},
    }  # fmt: skip
    if rules:
        record["rules"] = judge_by_rules(case.kernel.program, case.source)
    return record


def run(
    cases: Sequence[Case], store: Store, *, seed: int = 1, rules: bool = False, jobs: int = 2,
    gates: Sequence[str] = ALL, device: bool = False,
    report: Callable[[int, dict[str, Any]], None] = lambda n, r: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Judge all cases, several at once, and return their results in order; those in the store are taken from it."""
    lock = threading.Lock()
    done = 0

    def one(case: Case) -> dict[str, Any]:
        nonlocal done
        key = key_of(case, seed)
        record = store.known.get(key)
        if record is None or (rules and "rules" not in record):
            record = {"key": key, "judge": store.judge, **judge_case(case, seed, rules, gates, device)}
            store.add(record)
        with lock:
            done += 1
            report(done, record)
        return record

    # Neighbours share a program, whose truth is worked out once: they go to one worker.
    groups = list(_by_kernel(cases))
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        found = list(pool.map(lambda group: [one(c) for c in group], groups))
    return [r for group in found for r in group]


def _by_kernel(cases: Sequence[Case]) -> Iterator[list[Case]]:
    group: list[Case] = []
    for case in cases:
        if group and group[-1].kernel.program != case.kernel.program:
            yield group
            group = []
        group.append(case)
    if group:
        yield group
