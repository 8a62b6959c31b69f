"""Whole files: the reference's state, buffers, aliases and inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drt.backend.verify import Verdict, verify_files, verify_module
from drt.ir import UsageError

REFERENCE = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, 24)
        self.bn = nn.BatchNorm1d(24)

    def forward(self, x):
        return torch.relu(self.bn(self.fc(x)))


def get_inputs():
    return [torch.rand(10, 12)]


def get_init_inputs():
    return [12]
"""

CANDIDATE = """
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x, o, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(o + i, tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0), mask=i < n)


class ModelNew(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, 24)
        self.bn = nn.BatchNorm1d(24)

    def forward(self, x):
        y = self.bn(self.fc(x))
        o = torch.empty_like(y)
        relu_kernel[(triton.cdiv(y.numel(), 128),)](y, o, y.numel(), B=128)
        return o
"""

STATISTICS = "nn.functional.batch_norm(self.fc(x), {}, {}, self.bn.weight, self.bn.bias, {})"

FAULTS = {
    "correct": ("", "", "", ""),
    "relu_left_out": ("tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0)", "tl.load(x + i, mask=i < n, other=0.0)",
                      "trace", "aten_compute"),  # what is left only copies
    "minimum": ("tl.maximum(", "tl.minimum(", "meaning", "wrong_value"),
    "statistics_not_updated": ("self.bn(self.fc(x))", STATISTICS.format(None, None, True), "meaning", "state"),
    "evaluation_statistics": ("self.bn(self.fc(x))",
                              STATISTICS.format("self.bn.running_mean", "self.bn.running_var", False), "meaning", ""),
    "shape": ("return o", "return o[:, :-1]", "trace", "shape"),
    "other_state": ("self.bn", "self.norm", "trace", "construct"),
    "input_written": ("y = self.bn", "x.mul_(1.001)\n        y = self.bn", "trace", "input_write"),
    "parameter_written": ("y = self.bn", "self.fc.bias.data.mul_(1.000001)\n        y = self.bn", "meaning", ""),
    "no_kernel": ("relu_kernel[(", "if False: relu_kernel[(", "trace", "no_kernel"),
    "exits": ("class ModelNew", "import os\nos._exit(0)\n\n\nclass ModelNew", "policy", "import"),
}  # fmt: skip


def _verify(folder: Path, candidate: str, reference: str = REFERENCE) -> Verdict:
    (folder / "model.py").write_text(reference)
    (folder / "fast.py").write_text(candidate)
    return verify_files(folder / "model.py", folder / "fast.py", seeds=2, device="cpu")


@pytest.mark.parametrize("name", FAULTS)
def test_files(name: str, tmp_path: Path) -> None:
    old, new, gate, label = FAULTS[name]
    verdict = _verify(tmp_path, CANDIDATE.replace(old, new) if old else CANDIDATE)
    assert verdict.gate == gate, verdict.summary()
    assert verdict.passed == (not gate)
    assert not label or verdict.label == label


def test_a_candidate_without_chance_is_not_a_random_reference(tmp_path: Path) -> None:
    reference = REFERENCE.replace("torch.relu(", "torch.nn.functional.dropout(")
    verdict = _verify(tmp_path, CANDIDATE, reference)
    assert not verdict.passed and verdict.label == "distribution" and "the same values" in verdict.message


def test_what_is_repeated_from_the_reference_is_not_held_to_the_policy(tmp_path: Path) -> None:
    helper = "\n\ndef helper(x):\n    try:\n        return x\n    except ValueError:\n        return x\n"
    assert _verify(tmp_path, CANDIDATE + helper, REFERENCE + helper).passed
    assert _verify(tmp_path, CANDIDATE + helper, REFERENCE).gate == "policy"


def test_incomplete_reference_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="get_inputs"):
        _verify(tmp_path, CANDIDATE, REFERENCE.replace("def get_inputs", "def inputs"))


def test_module_in_evaluation_mode(tmp_path: Path) -> None:
    (tmp_path / "fast.py").write_text(CANDIDATE)
    namespace: dict[str, object] = {}
    exec(REFERENCE, namespace)
    model = namespace["Model"](12).eval()  # type: ignore[operator]
    verdict = verify_module(model, tmp_path / "fast.py", [torch.randn(5, 12)], init_args=[12], device="cpu", seeds=1)
    assert verdict.passed, verdict.summary()
