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


@pytest.mark.parametrize("literal", [1.5, -0.25])
def test_comparisons_are_tried_at_the_numbers_of_the_program(literal: float) -> None:
    """``<`` for ``<=`` shows at one number alone, which the program's text has."""
    graph = parse_graph(f"drt 1\ngraph f(%x: f32[50, 60]) -> (%z) {{\n  %z = lt(%x, {literal}) : bool[50, 60]\n}}\n")
    source = f"""
import torch, triton, triton.language as tl
@triton.jit
def f_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n, other=0.0) < {literal}, mask=i < n)
def f(x):
    o = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    f_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)
    return o
"""
    assert verify_candidate(graph, Candidate(source, "f", "test"), device="cpu").passed
    wrong = source.replace(f"< {literal}", f"<= {literal}")
    assert verify_candidate(graph, Candidate(wrong, "f", "test"), device="cpu").label == "inexact"


def test_indices_are_tried_where_eight_bits_do_not_hold_them() -> None:
    graph = parse_graph(
        "drt 1\ngraph f(%x: f32[40, 300]) -> (%y) {\n  %y = argmin(%x) {axis = 1, keepdim = False} : i64[40]\n}\n"
    )
    source = """
import torch, triton, triton.language as tl
@triton.jit
def f_kernel(x, o, N, BLOCK: tl.constexpr):
    r, c = tl.program_id(0), tl.arange(0, BLOCK)
    at = tl.argmin(tl.load(x + r * N + c, mask=c < N, other=float("inf")), 0)
    tl.store(o + r, at.to(tl.int64))
def f(x):
    o = torch.empty(x.shape[0], dtype=torch.int64, device=x.device)
    f_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o
"""
    assert verify_candidate(graph, Candidate(source, "f", "test"), device="cpu").passed
    wrong = source.replace("at.to(tl.int64)", "at.to(tl.bfloat16).to(tl.int64)")
    assert verify_candidate(graph, Candidate(wrong, "f", "test"), device="cpu").label == "inexact"


def test_an_input_that_is_overwritten_whole_need_not_be_read() -> None:
    text = "drt 1\ngraph f(%x: f32[6, 8], %y: f32[6, 8]) -> (%z) {{\n  %z = slice_scatter(%x, %y) {{axis = 1, start = {start}, stop = 8, step = 1}} : f32[6, 8]\n}}\n"
    source = """
import torch, triton, triton.language as tl
@triton.jit
def f_kernel(y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(y + i, mask=i < n, other=0.0), mask=i < n)
def f(x, y):
    o = torch.empty_like(y)
    f_kernel[(triton.cdiv(y.numel(), 32),)](y, o, y.numel(), BLOCK=32)
    return o
"""
    verdict = verify_candidate(parse_graph(text.format(start=0)), Candidate(source, "f", "test"), device="cpu")
    assert verdict.passed, verdict.summary()


_CHOOSING = """
@triton.jit
def f_kernel(x, o, M, N, BLOCK: tl.constexpr):
    tiles = tl.cdiv(N, BLOCK)
    pid = tl.program_id(0)
    r = pid // tiles * BLOCK + tl.arange(0, BLOCK)[:, None]
    c = pid % tiles * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = (r < M) & (c < N)
    v = tl.load(x + r * N + c, mask=inside, other=0.0)
    tl.store(o + r * N + c, tl.maximum(v, 0.0), mask=inside)


@triton.jit
def f_plain(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(o + i, tl.maximum(v, 0.0), mask=i < n)


def f(x):
    o = torch.empty_like(x)
    M, N = x.shape
    if N % 32 == 0:
        f_kernel[(triton.cdiv(N, 64),)](x, o, M, N, BLOCK=64)
    else:
        f_plain[(triton.cdiv(x.numel(), 256),)](x, o, x.numel(), BLOCK=256)
    return o
"""


@pytest.mark.parametrize("shape", ["70, 96", "300, 96", "4096, 1024"])
def test_a_launcher_that_chooses_is_judged_with_several_tiles_each_way(shape: str) -> None:
    graph = parse_graph(f"drt 1\ngraph f(%x: f32[{shape}]) -> (%y) {{\n  %y = relu(%x) : f32[{shape}]\n}}\n")
    gates = ("policy", "trace", "memory", "meaning")
    right = _CHOOSING.replace("(triton.cdiv(N, 64),)", "(triton.cdiv(M, 64) * triton.cdiv(N, 64),)")
    assert verify_candidate(graph, Candidate(right, "f", "test"), device="cpu", gates=gates).passed
    verdict = verify_candidate(graph, Candidate(_CHOOSING, "f", "test"), device="cpu", gates=gates)
    assert (verdict.gate, verdict.label) == ("memory", "unwritten_output"), verdict.summary()
