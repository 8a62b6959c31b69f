"""``drt verify`` over several candidates, and ``drt doctor``."""

from __future__ import annotations

import json
from pathlib import Path

import drt
import pytest
import torch
from drt.cli import main

REFERENCE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x * 2.0
def get_inputs():
    return [torch.randn(6, 10)]
def get_init_inputs():
    return []
"""
CANDIDATE = """
import torch, triton, triton.language as tl
@triton.jit
def double_kernel(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) * 2.0, mask=at < n)
class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        double_kernel[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64)
        return y
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "model.py", tmp_path / "right.py", tmp_path / "wrong.py"
    for path, text in zip(paths, (REFERENCE, CANDIDATE, CANDIDATE.replace("* 2.0, mask", "* 2.1, mask")), strict=True):
        path.write_text(text)
    return paths


def test_each_candidate_gets_a_verdict(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    reference, right, wrong = map(str, files)
    assert main(["verify", reference, right, wrong, "--jobs", "2", "--device", "cpu", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(Path(r["candidate"]).name, r["passed"]) for r in rows] == [("right.py", True), ("wrong.py", False)]
    assert rows[1]["gate"] == "meaning"


def test_the_table_says_how_fast_it_went(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    reference, right, _ = map(str, files)
    assert main(["verify", reference, right, right, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 passed" in out and "verdicts/s" in out


def test_a_candidate_that_is_not_there_is_said_before_any_work(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(files[0]), str(files[1]), "nothing.py"]) == 2
    assert "nothing.py: no such file, expected a readable file" in capsys.readouterr().err


def test_the_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {(f["topic"], f["name"]): f for f in json.loads(capsys.readouterr().out)}
    assert found["machine", "torch"]["status"] == "good"
    assert found["judge", "interpreter"]["status"] == "good"
    assert {n for t, n in found if t == "extras"} == {"jax", "synth", "llm", "rl"}
    assert any(n.startswith("jail: ") for _, n in found)
    assert main(["doctor"]) == 0
    assert "jail: files" in capsys.readouterr().out


PROGRAM = "drt 1\ngraph double(%x: f32[6, 10]) -> (%y) {\n  %y = mul(%x, 2.0) : f32[6, 10]\n}\n"
KERNEL = CANDIDATE[: CANDIDATE.index("class ModelNew")] + (
    "def double(x):\n    y = torch.empty_like(x)\n    double_kernel[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64)\n"
    "    return y\n"
)


def test_a_program_is_a_reference_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, right, wrong = tmp_path / "double.ir", tmp_path / "right.py", tmp_path / "wrong.py"
    program.write_text(PROGRAM)
    right.write_text(
        "import torch.nn.functional as F\n"
        + KERNEL.replace("def double(", "def helper():\n    return 1\n\n\ndef double(")
    )
    wrong.write_text(KERNEL.replace("mask=at < n) * 2.0", "mask=at < n) * 2.5"))
    assert main(["verify", str(program), str(right), "--device", "cpu"]) == 0
    assert main(["verify", str(program), str(wrong), "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "wrong_value" in out and "to mend:" in out
    assert drt.verify(drt.parse_graph(PROGRAM), right, device="cpu").passed
    wrong.write_text(KERNEL.replace("def double(", "def twice("))
    verdict = drt.verify(program, wrong, device="cpu")
    assert (verdict.label, "function double" in verdict.message) == ("entry", True)


def test_a_module_is_a_reference_too(files: tuple[Path, Path, Path]) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2.0

    assert drt.verify(Double(), files[1], example_inputs=[torch.randn(6, 10)], device="cpu").passed
    assert not drt.verify(Double(), files[2], example_inputs=[torch.randn(6, 10)], device="cpu").passed


LARGE = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x / (x.abs().mean(1, keepdim=True) + 1e-3)
def get_inputs():
    return [torch.rand(2000, 32, 70)]
def get_init_inputs():
    return []
"""
LARGE_NEW = """
import torch, triton, triton.language as tl
@triton.jit
def scale_kernel(x, y, S, C: tl.constexpr, BLOCK: tl.constexpr):
    s = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    at = tl.program_id(1) * C * S + tl.arange(0, C)[:, None] * S + s
    v = tl.load(x + at, mask=s < S, other=0.0)
    tl.store(y + at, v / (tl.sum(tl.abs(v), 0)[None, :] / C + 1e-3), mask=s < S)
class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        scale_kernel[(triton.cdiv(x.shape[2], 64), x.shape[0])](x, y, x.shape[2], C=x.shape[1], BLOCK=64)
        return y
"""


def test_what_is_too_large_to_interpret_is_judged_at_small_sizes(tmp_path: Path) -> None:
    """The kernel takes powers of two alone as the number of its channels, so that axis keeps its size."""
    model, right, wrong = tmp_path / "model.py", tmp_path / "right.py", tmp_path / "wrong.py"
    model.write_text(LARGE)
    right.write_text(LARGE_NEW)
    wrong.write_text(LARGE_NEW.replace("1e-3", "1e-4"))
    verdict = drt.verify(model, right, device="cpu", seeds=1)
    assert verdict.passed, verdict.summary()
    assert "too large to interpret; judged at x: [" in verdict.flags[-1]
    assert drt.verify(model, wrong, device="cpu", seeds=1).label == "wrong_value"


def test_what_cannot_be_judged_without_a_device_is_said(tmp_path: Path) -> None:
    class Wide(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2100, 2100))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    (tmp_path / "fast.py").write_text(CANDIDATE)
    verdict = drt.verify(Wide(), tmp_path / "fast.py", example_inputs=[torch.zeros(4, 2100)], device="cpu")
    assert (verdict.passed, verdict.label) == (False, "not_judged")
    assert "4 million elements are too many to interpret" in verdict.message
