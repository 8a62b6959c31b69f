"""The judge passes right kernels and stops wrong ones at the right gate, with a message that says where."""

from __future__ import annotations

import json

import pytest
from drt.backend.candidate import Candidate
from drt.backend.verify import GATES, Verdict, verify_candidate
from drt.ir import Unsupported, UsageError, parse_graph
from programs.judged import BIAS_GELU, FAULTS, SUBJECTS, Fault, Subject

_BY_NAME = {s.name: s for s in SUBJECTS}


def _judge(subject: Subject, source: str, timeout_s: float = 60.0) -> Verdict:
    candidate = Candidate(source, "f", "test", precision=subject.precision)
    return verify_candidate(parse_graph(subject.graph), candidate, device="cpu", timeout_s=timeout_s)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_right_kernel_passes(subject: Subject) -> None:
    verdict = _judge(subject, subject.source)
    assert verdict.passed, verdict.summary()
    assert [g.gate for g in verdict.gates if g.passed] == ["policy", "trace", "memory", "meaning"]
    meaning = verdict.report("meaning")
    assert meaning is not None and meaning.evidence["algebra"]["outcome"] == "equal"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "_"))
def test_wrong_kernel_fails(fault: Fault) -> None:
    subject = _BY_NAME[fault.subject]
    assert fault.old in subject.source
    timeout_s = 3.0 if fault.label == "timeout" else 60.0
    verdict = _judge(subject, subject.source.replace(fault.old, fault.new), timeout_s)
    assert not verdict.passed
    assert verdict.gate == fault.gate, verdict.summary()
    assert not fault.label or verdict.label == fault.label, verdict.summary()
    assert fault.says in verdict.message


def test_message_names_kernel_line_tensor_and_element() -> None:
    verdict = _judge(BIAS_GELU, BIAS_GELU.source.replace("m = i < n", "m = i <= n"))
    for part in ("f_kernel", "line 6", "'x'", "valid 0..", "at sizes"):
        assert part in verdict.message


def test_verdict_is_json() -> None:
    verdict = _judge(BIAS_GELU, BIAS_GELU.source)
    data = json.loads(verdict.to_json())
    assert Verdict.from_dict(data).passed
    assert [g["gate"] for g in data["gates"]] == [g for g in GATES if g in {r["gate"] for r in data["gates"]}]


def test_a_gate_that_did_not_run_says_why() -> None:
    verdict = _judge(BIAS_GELU, BIAS_GELU.source)
    report = verdict.report("device")
    assert report is not None and report.skipped and report.reason


def test_what_the_interpreter_cannot_model_is_not_passed() -> None:
    source = BIAS_GELU.source.replace("tl.erf(v * 0.7071067811865476)", "libdevice.rhypot(v, v)")
    verdict = _judge(BIAS_GELU, source)
    assert not verdict.passed and verdict.label == "not_judged"
    assert "rhypot" in verdict.message


def test_unknown_precision_is_a_usage_error() -> None:
    candidate = Candidate(BIAS_GELU.source, "f", "test", precision="fast")
    with pytest.raises(UsageError, match="strict, tf32"):
        verify_candidate(parse_graph(BIAS_GELU.graph), candidate, device="cpu")


def test_opaque_fragment_is_not_judged() -> None:
    text = (
        "drt 1\ngraph f(%x: f32[300, 300]) -> (%y) {\n"
        '  %y = opaque(%x) {arguments = "[[\\"$0\\"], {}]", target = "aten.foo.default"} : f32[300, 300]\n}\n'
    )
    try:
        verdict = verify_candidate(parse_graph(text), Candidate(BIAS_GELU.source, "f", "test"), device="cpu")
    except Unsupported:
        return
    assert not verdict.passed
