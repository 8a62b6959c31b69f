"""Verdicts: what the judge found about one candidate, gate by gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from ...ir import UsageError, checked
from .labels import GATES as GATES
from .labels import advice


@attrs.frozen
class GateReport:
    """What one gate found.

    Attributes:
        gate: one of :data:`GATES`.
        status: ``passed``, ``failed`` or ``skipped``.
        time_ms: wall time that the gate took; gates that share a run share its time by part.
        evidence: facts found, JSON values; for tools and for the feedback of a translator.
        reason: why it failed or why it was skipped; one line, empty where it passed.
    """

    gate: str
    status: str
    time_ms: float = 0.0
    evidence: dict[str, Any] = attrs.field(factory=dict, hash=False)
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate ran and found nothing wrong."""
        return self.status == "passed"

    @property
    def skipped(self) -> bool:
        """Whether the gate did not run; ``reason`` says why."""
        return self.status == "skipped"


@attrs.frozen
class Verdict:
    """The judgement of one candidate.

    Attributes:
        passed: no gate failed, and the gates that give values their meaning ran.
        gate: the gate that decided; empty where the candidate passed.
        label: a short stable word for the failure (``oob_read``, ``wrong_value``, ``timeout``); empty where it passed.
        message: one line for a person or a model: which kernel, which output, which element, and what was expected.
        gates: the reports, in the order of :data:`GATES`.
        flags: findings that do not decide but that a reader wants to know (``suspicious`` behaviour, advisory differences).
    """

    passed: bool
    gate: str = ""
    label: str = ""
    message: str = ""
    gates: tuple[GateReport, ...] = ()
    flags: tuple[str, ...] = ()

    def report(self, gate: str) -> GateReport | None:
        """Return the report of ``gate``, or None where it was not reached."""
        return next((g for g in self.gates if g.gate == gate), None)

    @property
    def time_ms(self) -> float:
        """Wall time of all gates."""
        return sum(g.time_ms for g in self.gates)

    @property
    def advice(self) -> str:
        """What to change in the candidate; empty where it passed."""
        return advice(self.label)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values; :func:`drt.backend.verify.verdict_schema` says which."""
        return {**attrs.asdict(self), "advice": self.advice}

    def to_json(self, indent: int | None = None) -> str:
        """Return the verdict as JSON text; numbers that JSON cannot say become strings."""
        return json.dumps(_plain(self.to_dict()), indent=indent, allow_nan=False)

    @staticmethod
    @checked
    def from_dict(data: Mapping[str, Any]) -> Verdict:
        """Return the verdict that :meth:`to_dict` wrote; raises UsageError where it has other keys."""
        known, needed = {f.name for f in attrs.fields(Verdict)}, {"passed"}
        if not needed <= set(data) <= known | {"advice"}:
            raise UsageError(f"has the keys {sorted(data)}, expected those of a verdict", subject="Verdict.from_dict")
        gates = tuple(GateReport(**g) for g in data.get("gates", ()))
        own = {k: v for k, v in data.items() if k != "advice"}
        return Verdict(**{**own, "gates": gates, "flags": tuple(data.get("flags", ()))})

    def summary(self) -> str:
        """Return one line: ``passed (policy, trace, memory, meaning)`` or ``failed at memory [oob_read]: ...``."""
        if self.passed:
            ran = ", ".join(g.gate for g in self.gates if g.passed)
            skipped = ", ".join(g.gate for g in self.gates if g.skipped)
            return f"passed ({ran}{'; skipped: ' + skipped if skipped else ''})"
        return f"failed at {self.gate} [{self.label}]: {self.message}"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


@attrs.define
class Docket:
    """Reports as they come in, and the verdict that follows from them."""

    reports: dict[str, GateReport] = attrs.field(factory=dict)
    flags: list[str] = attrs.field(factory=list)
    failure: tuple[str, str, str] | None = None

    def add_pass(self, gate: str, time_ms: float = 0.0, **evidence: Any) -> None:
        """Record that ``gate`` found nothing wrong."""
        self.reports[gate] = GateReport(gate, "passed", round(time_ms, 2), evidence)

    def add_skip(self, gate: str, reason: str, **evidence: Any) -> None:
        """Record that ``gate`` did not run."""
        self.reports[gate] = GateReport(gate, "skipped", 0.0, evidence, reason)

    def add_failure(self, gate: str, label: str, message: str, time_ms: float = 0.0, **evidence: Any) -> None:
        """Record that ``gate`` failed; an earlier gate in the order overrides a later one."""
        message = " ".join(message.split())
        self.reports[gate] = GateReport(gate, "failed", round(time_ms, 2), evidence, message)
        if self.failure is None or GATES.index(gate) < GATES.index(self.failure[0]):
            self.failure = (gate, label, message)

    def verdict(self, required: tuple[str, ...] = ("meaning",)) -> Verdict:
        """Return the verdict; a required gate that did not pass decides where no gate failed."""
        reports = tuple(self.reports[g] for g in GATES if g in self.reports)
        flags = tuple(dict.fromkeys(self.flags))
        if self.failure is not None:
            gate, label, message = self.failure
            stop = GATES.index(gate)
            return Verdict(False, gate, label, message, tuple(r for r in reports if GATES.index(r.gate) <= stop), flags)
        for gate in required:
            report = self.reports.get(gate)
            if report is None or not report.passed:
                reason = report.reason if report else "did not run"
                return Verdict(False, gate, "not_judged", f"gate {gate}: {reason}", reports, flags)
        return Verdict(True, gates=reports, flags=flags)
