"""The compile gate: machine code for the target, without a device."""

from __future__ import annotations

import pytest
from drt.backend.candidate import Candidate
from drt.backend.verify import Verdict, verify_candidate
from drt.ir import parse_graph
from programs.judged import AUTOTUNED, BIAS_GELU, MATMUL, MATMUL_TF32X3, Subject

GATES = ("policy", "trace", "compile", "memory", "meaning")


def _judge(subject: Subject, source: str) -> Verdict:
    return verify_candidate(parse_graph(subject.graph), Candidate(source, "f", "test"), device="cpu", gates=GATES)


@pytest.mark.parametrize("subject", [MATMUL_TF32X3, AUTOTUNED], ids=lambda s: s.name)
def test_right_kernel_compiles(subject: Subject) -> None:
    verdict = _judge(subject, subject.source)
    assert verdict.passed, verdict.summary()
    report = verdict.report("compile")
    assert report is not None and report.passed
    kernels = report.evidence["kernels"]
    assert len(kernels) == (2 if subject is AUTOTUNED else 1)
    assert all(k["kernel"] == "f_kernel" and k["shared_bytes"] >= 0 for k in kernels)
    assert kernels[0]["tensor_cores"] == (subject is MATMUL_TF32X3)


def test_what_only_the_interpreter_accepts_is_refused() -> None:
    verdict = _judge(BIAS_GELU, BIAS_GELU.source.replace("    m = i < n", "    if n > 0:\n        m = i < n"))
    assert (verdict.gate, verdict.label) == ("compile", "compile")
    assert "f_kernel" in verdict.message and "m is not defined" in verdict.message


def test_undeclared_tf32_is_refused() -> None:
    verdict = _judge(MATMUL, MATMUL.source.replace("ieee", "tf32"))
    assert (verdict.gate, verdict.label) == ("compile", "tf32")


def test_too_much_shared_memory_is_refused() -> None:
    source = MATMUL_TF32X3.source.replace("BM=64, BN=64, BK=32", "BM=128, BN=128, BK=64, num_stages=5")
    verdict = _judge(MATMUL, source)
    assert verdict.gate == "compile" and verdict.label == "shared_memory"
