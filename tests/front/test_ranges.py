"""Compiles of programs whose sizes change from call to call, and of programs in training mode."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import drt
import pytest
import torch
import torch.nn.functional as F
from drt.pipeline import compile_model
from drt.report import CompileOptions
from torch import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        b, t, n = x.shape
        pairs = self.norm(x).reshape(b, t // 2, 2 * n)
        return F.gelu(pairs).mean(1), t


def test_one_file_serves_a_range_of_sizes() -> None:
    module = Block().eval()
    compiled = drt.compile(
        module, (torch.randn(3, 8, 24),), dynamic=("x:0=B:1..64", "x:1=T:2..128"), device="cpu", variants=1
    )
    assert "Sizes: B in 1..64, T in 4..128 where T % 2 == 0." in compiled.source  # type: ignore[operator]
    assert any(row.writer == "template" for row in compiled.report_rows)  # type: ignore[union-attr]
    with warnings.catch_warnings():
        # Outside the interpreter a CPU runs the original, and says so.
        warnings.simplefilter("error" if os.environ.get("TRITON_INTERPRET") == "1" else "ignore")
        for b, t in ((3, 8), (1, 4), (5, 30), (64, 6)):
            x = torch.randn(b, t, 24)
            got, wanted = compiled(x), module(x)
            assert got[1] == wanted[1] == t
            torch.testing.assert_close(got[0], wanted[0], rtol=1e-5, atol=1e-5)
    for shape in ((65, 8, 24), (3, 130, 24)):
        x = torch.randn(*shape)
        with pytest.warns(UserWarning, match="running the original"):
            got = compiled(x)
        torch.testing.assert_close(got[0], module(x)[0])


TRAINING = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.25)

    def forward(self, x):
        return torch.tanh(self.drop(torch.relu(self.norm(x)) + 1.0))


def get_inputs():
    return [torch.randn(12, 16)]
"""


def test_a_model_in_training_mode_is_compiled_and_judged_by_its_draws(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(TRAINING)
    report = compile_model(tmp_path / "model.py", tmp_path / "out.py", CompileOptions(device="cpu", variants=1))
    assert report.whole.passed, report.whole.to_json()
    reasons = {row.operators: row.reason for row in report.rows}
    assert reasons["dropout"] == "it draws random numbers"
    assert any("batch_norm_training" in row.operators and row.writer == "template" for row in report.rows)
    assert '"draws"' in report.whole.to_json()
