"""Whole compiles through the command and in the process: what is written, what it computes, and how mistakes end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drt import cli

ROOT = Path(__file__).parents[2]

#: Convolution and frozen batch norm: weights that are computed once, kernels, and a constructor with an argument.
MODEL = '''"""A small convolution block."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x))) + 1.0


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(2, 3, 6, 6)]


def get_init_inputs() -> list[int]:
    return [4]
'''

#: Run where ``fast.py`` lies: the file alone, without DRT, against the model that it came from.
USE = """
import importlib.util, sys, warnings
import torch

sys.modules["drt"] = None  # the file needs torch and triton only

def load(name):
    spec = importlib.util.spec_from_file_location(name, name + ".py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

model, fast = load("model"), load("fast")
warnings.simplefilter("error")
torch.manual_seed(7)
old, new = model.Model(4), fast.ModelNew(4)
with torch.no_grad():
    old.bn.running_mean.normal_(); old.bn.running_var.uniform_(0.5, 2.0)
assert list(new.state_dict()) == list(old.state_dict())
new.load_state_dict(old.state_dict())
x = torch.randn(2, 3, 6, 6)
launches = []
for name, value in vars(fast).items():
    if type(value).__name__ == "InterpretedFunction":
        launches.append(name)
assert launches, "the file has no kernel"

def same(x):
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x), rtol=1e-5, atol=1e-5)

same(x)
same(x)
with torch.no_grad():  # weights that change after they were packed are noticed: in place, by replacement, by loading
    old.bn.running_var.mul_(3.0); new.bn.running_var.mul_(3.0)
    same(x)
    old.conv.weight = torch.nn.Parameter(old.conv.weight + 1.0); new.conv.weight = torch.nn.Parameter(old.conv.weight.clone())
    same(x)
    other = model.Model(4)
    old.load_state_dict(other.state_dict()); new.load_state_dict(other.state_dict())
    same(x)

def warned(x):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        same(x)
    assert any("running the original" in str(w.message) for w in seen), [str(w.message) for w in seen]

warned(torch.randn(5, 3, 6, 6))
warned(torch.randn(2, 3, 8, 8))
old.double(); new.double()
warned(x.double())
print("good")
"""


def drt(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_a_model_becomes_a_file_that_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    words = ["--device", "cpu", "--variants", 1, "--strict", "--report", tmp_path / "report.json"]
    assert drt("compile", tmp_path / "model.py", "-o", tmp_path / "fast.py", *words) == 0
    assert "verified" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["fast.py", "model.py", "report.json"]
    assert "class ModelNew(Model):" in (tmp_path / "fast.py").read_text()
    result = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "good\n"


#: ``drt.compile`` under the interpreter, on a module whose code computes with a constant and whose result is a dict.
IN_PROCESS = """
import warnings
import torch, drt
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(24)
        self.register_buffer("shift", torch.arange(24.0))

    def forward(self, x, *, scale=2.0):
        table = torch.tensor([[1.0, 2.0, 5.0], [0.5, 3.0, 7.0], [2.0, 1.0, 9.0]])
        h = self.norm(x) * scale + self.shift * torch.linalg.det(table)
        return {"h": h, "top": (h.amax(-1), torch.sigmoid(h))}

torch.manual_seed(0)
block = Block()
fast = drt.compile(block, [torch.randn(5, 24)], {"scale": 3.0}, variants=1, device="cpu")
assert any(not row.is_leftover for row in fast.report_rows), fast.report_rows
assert list(fast.state_dict()) == list(block.state_dict())
assert fast.norm.weight is block.norm.weight

def same(x, **kwargs):
    with torch.no_grad():
        torch.testing.assert_close(fast(x, **kwargs), block(x, **kwargs), rtol=1e-5, atol=1e-5)

warnings.filterwarnings("error", message="ModelNew")
same(torch.randn(5, 24), scale=3.0)
with torch.no_grad():
    block.norm.weight.uniform_()
same(torch.randn(5, 24), scale=3.0)
# Another scale than the one compiled in, and another shape: the original answers.
for shape, scale in [((5, 24), 2.0), ((2, 5, 24), 3.0)]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        same(torch.randn(shape), scale=scale)
    assert "running the original" in str(seen[0].message)
double = drt.compile(lambda x, y: torch.sin(x) * y, [torch.randn(7), torch.randn(7)], variants=1, device="cpu")
torch.testing.assert_close(double(torch.ones(7), torch.ones(7)), torch.sin(torch.ones(7)))
print("good")
"""


def test_a_module_is_compiled_in_this_process(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IN_PROCESS],
        cwd=tmp_path,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "good\n"
    assert list(tmp_path.iterdir()) == []


LEFT = MODEL.replace("+ 1.0", "+ torch.linalg.det(x[..., :3, :3])[:, :1, None, None]")


def test_strict_says_no_where_something_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(LEFT)
    words = ["compile", tmp_path / "model.py", "-o", tmp_path / "fast.py", "--device", "cpu", "--variants", 1, "-q"]
    assert drt(*words, "--strict") == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "left to PyTorch, expected kernels for everything" in err and "det" in err


def test_a_custom_operator_is_compiled_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "examples/ops/gated_mlp.py").read_text()
    sizes = {"BATCH": 4, "WIDTH": 16, "HIDDEN": 24}
    text = re.sub(r"^([A-Z]+) = \d+$", lambda m: f"{m[1]} = {sizes[m[1]]}", text, flags=re.MULTILINE)
    # Operators are registered once in a process, under names that other tests use too.
    (tmp_path / "model.py").write_text(text.replace("example::", "compiled::"))
    ops = tmp_path / "ops.drt"
    ops.write_text((ROOT / "examples/ops/squared_relu_gate.drt").read_text().replace("example.", "compiled."))
    words = ["--ops", ops, "--device", "cpu", "--variants", 1, "--strict"]
    assert drt("compile", tmp_path / "model.py", "-o", tmp_path / "fast.py", *words) == 0
    assert "squared_relu_gate" in capsys.readouterr().out


def model_with(old: str, new: str) -> str:
    assert old in MODEL
    return MODEL.replace(old, new)


@pytest.mark.parametrize(
    "text, ops, line",
    [
        (model_with("return torch.relu(", "return torch.relu(("), "", r"model\.py:1\d:\d+: .*\n.*\n *\^\n"),
        (model_with("def get_inputs", "def inputs"), "", r"model\.py: does not define get_inputs, expected .*\n"),
        (model_with("(2, 3, 6, 6)", "(2, 5, 6, 6)"), "", r".*model\.py:1\d: .*channels.*\n"),
        (model_with("[4]", "['four']"), "", r"model\.py:\d+: Model\('four'\): raises .*\n"),
        (
            model_with("    return torch.relu", "    return 1 if x.sum() > 0 else torch.relu"),
            "",
            r".*model\.py:1\d: .*\n",
        ),
        (MODEL, "op broken(x: T[S..]) -> (y: T[S..]) {\n  scalar y = x\n}\n", r"ops\.drt:1:4: broken: .*dtype 'T'.*\n"),
    ],
    ids=["syntax", "no-inputs", "wrong-shape", "constructor", "data-dependent", "operator"],
)
def test_a_bad_input_is_one_line_and_leaves_no_file(
    text: str, ops: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.py").write_text(text)
    (tmp_path / "ops.drt").write_text(ops)
    words = ["--ops", tmp_path / "ops.drt"] if ops else []
    assert (
        drt("compile", tmp_path / "model.py", "-o", tmp_path / "out" / "fast.py", "--device", "cpu", "-q", *words) == 2
    )
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("drt: ")
    assert re.fullmatch(line, err.removeprefix("drt: ").replace(f"{tmp_path}/", "")), err
    assert list(tmp_path.rglob("*fast*")) == []


def test_an_unknown_operator_of_a_program_is_shown_in_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.drt"
    file.write_text("drt 1\ngraph f(%x: f32[8]) -> (%y) {\n  %y = expp(%x) : f32[8]\n}\n")
    assert drt("ir", "check", file) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"drt: {file}:3") and "unknown operator 'expp'" in err
    assert err.splitlines()[1:] == ["    %y = expp(%x) : f32[8]"]


def test_an_output_that_cannot_be_written_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text("raise SystemError('the model was loaded')")
    (tmp_path / "file").write_text("")
    for output, text in [
        (tmp_path, "is a folder, expected a file name"),
        (tmp_path / "file" / "o.py", "cannot be written"),
    ]:
        assert drt("compile", tmp_path / "model.py", "-o", output) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"drt: {output}: {text}") and err.count("\n") == 1
