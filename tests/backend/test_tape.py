"""Tapes: what a launcher does, recorded without a device and compiled again from Triton's IR to the same machine code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drt.backend.candidate import Candidate
from drt.backend.triton_gen import TemplateTranslator
from drt.backend.verify.compiling import submit_fragment, why_no_tape
from drt.backend.verify.tape import Replay, Tape, TapeError, TapeRecorder
from drt.ir import Graph, parse_graph

SCALE = """
@triton.jit
def f_kernel(x, y, n, s, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) * s, mask=at < n)


def f(x):
    y = torch.empty_like(x)
    {body}
    f_kernel[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), 2.0, BLOCK=64)
    return y
"""
TUNED = SCALE.replace(
    "@triton.jit\ndef f_kernel",
    '@triton.autotune([triton.Config({"BLOCK": b}) for b in (32, 128)], key=["n"], reset_to_zero=["y"])\n@triton.jit\ndef f_kernel',
).replace("{body}", "").replace(", BLOCK=64)", ")")  # fmt: skip
GRAPH = "drt 1\ngraph f(%x: f32[100]) -> (%y) { %y = mul(%x, 2.0) : f32[100] }"


def h100() -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", 90, 32)


def recorded(graph: Graph, candidate: Candidate) -> Tape | str:
    """Return the tape of a call at the fragment's sizes, or why there is none."""
    reply = submit_fragment(graph, candidate, 120, tape=True).result()
    for frame in reply.named("tape"):
        return Tape.from_json(frame.header["tape"])
    return why_no_tape(reply)


def of_source(source: str) -> Tape | str:
    return recorded(parse_graph(GRAPH), Candidate(source, "f", "test", writer="test"))


GENERATED = {
    "rows": "graph softmax_(%x: f32[64, 1000]) -> (%y) { %y = softmax(%x) {axis = 1} : f32[64, 1000] }",
    "two launches": "graph sum_(%x: f32[4, 200000]) -> (%y) { %y = sum(%x) {axes = [1]} : f32[4] }",
    "descriptors": """graph linear_(%x: bf16[512, 256], %w: bf16[512, 256]) -> (%y) {
        %y = linear(%x, %w, None) : bf16[512, 512] }""",
}


@pytest.mark.parametrize("name", GENERATED)
def test_the_machine_code_is_the_same(name: str, tmp_path: Path) -> None:
    graph = parse_graph("drt 1\n" + GENERATED[name])
    candidate = TemplateTranslator().propose(graph, 1)[0]
    tape = recorded(graph, candidate)
    assert isinstance(tape, Tape), tape
    assert Tape.from_json(tape.to_json()) == tape
    assert sum("launch" in s for s in tape.steps) == (2 if name == "two launches" else 1)
    assert any(t.startswith("tensordesc") for k in tape.kernels.values() for _, t in k["signature"]) == (
        name == "descriptors"
    )
    assert Replay(tape, tmp_path, "cpu", h100()).same_code


def test_every_configuration_of_an_autotuned_kernel_is_on_the_tape(tmp_path: Path) -> None:
    tape = of_source(TUNED)
    assert isinstance(tape, Tape), tape
    (step,) = (s for s in tape.steps if "launch" in s)
    assert [one["grid"][0] for one in step["launch"]] == [2, 2] and len(tape.kernels) == 2
    assert len(step["reset"]) == 1
    replay = Replay(tape, tmp_path, "cpu", h100())
    assert replay.n_alternatives == 2 and replay.same_code


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = y + torch.tensor([1.0, 2.0]).sum()", "uses a tensor that is no argument"),
        ("y = y + x[0].item()", "cannot be traced without a device"),
        ("y = torch.rand_like(x)", "the launcher draws random numbers"),
    ],
)
def test_what_a_tape_cannot_hold_is_said(body: str, reason: str) -> None:
    assert reason in str(of_source(SCALE.replace("{body}", body)))


def test_calls_of_pytorch_are_repeated(tmp_path: Path) -> None:
    x, y = torch.randn(3, 4), torch.randn(4)

    def program(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = torch.empty(4, 3, dtype=torch.float64)
        out.copy_(x.t())
        out.mul_(0.1)
        a, b = torch.split(x.add(y, alpha=2.5), 2, dim=1)
        return out, torch.cat([b, a], 1)

    recorder = TapeRecorder([x, y])
    with recorder:
        result = program(x, y)
    tape = recorder.finish(result)
    given = torch.randn(3, 4), torch.randn(4)
    for got, want in zip(Replay(tape, tmp_path, "cpu")(*given), program(*given), strict=True):
        assert torch.equal(got, want) and got.dtype == want.dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [{"call": "os.system", "args": [], "kwargs": {}, "out": []}]}, "the tape calls os.system"),
        (
            {"steps": [{"call": "aten.add.Nothing", "args": [], "kwargs": {}, "out": []}]},
            "the tape calls aten.add.Nothing",
        ),
        (
            {"kernels": {"../x": {"ttir": "", "options": {}, "signature": [], "name": "k"}}},
            "a kernel's key is malformed",
        ),
        (
            {"kernels": {"0" * 32: {"ttir": "?", "options": {}, "signature": [], "name": "k"}}},
            "does not compile from its IR",
        ),
    ],
)
def test_a_tape_of_something_else_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    tape = Tape.from_json({"n_inputs": 1, "steps": [], "kernels": {}, "outputs": [0], **change})
    with pytest.raises(TapeError, match=message):
        Replay(tape, tmp_path, "cpu", h100())


def test_a_malformed_tape_is_refused() -> None:
    with pytest.raises(TapeError, match="malformed"):
        Tape.from_json({"n_inputs": "many"})
