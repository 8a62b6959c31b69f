"""The corpus of whole files: a sample of right ones, wrong ones and cheats; all of them with ``--full``."""

from __future__ import annotations

from pathlib import Path

import pytest
from drt.backend.verify.policy import check_source
from judge.files.run import FileCase, cases, judge

CASES = {f"{c.corpus}-{c.name}": c for c in cases()}

#: One of each kind of fix that these files asked for.
SAMPLE = (
    "right-batch_norm_training", "right-grouped_gemm_pointers", "wrong-smooth_l1_beta/lost_updates", "cheats-work_in_a_property",
    "cheats-work_in_an_expression", "cheats-counter_in_a_kernel",
)  # fmt: skip

COUNTERS = [name for name in CASES if name.startswith("cheats-counter_") and not name.endswith("_kernel")]


def _judge(case: FileCase, folder: Path) -> None:
    verdict = judge(case, folder)
    assert verdict.passed == case.wanted, verdict.summary()


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(name: str, tmp_path: Path) -> None:
    _judge(CASES[name], tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(set(CASES) - set(SAMPLE)))
def test_all(name: str, tmp_path: Path) -> None:
    _judge(CASES[name], tmp_path)


@pytest.mark.parametrize("name", COUNTERS)
def test_counts_of_calls_are_refused(name: str) -> None:
    found = check_source(CASES[name].source, "ModelNew", "module")
    assert [v.label for v in found] == ["state"] * len(found) and found


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("right-")])
def test_right_files_are_within_the_policy(name: str) -> None:
    found = check_source(CASES[name].source, "ModelNew", "module")
    assert all("data_ptr" in v.message for v in found), found


def test_what_is_no_count_of_calls_is_let_alone() -> None:
    source = """
import torch, torch.nn as nn, triton, triton.language as tl

SCALE = torch.tensor(2.0)
SIZES = {"small": 32}
BLOCK: tl.constexpr = 64


@triton.jit
def kernel(x, BLOCK: tl.constexpr):
    tl.store(x, tl.load(x))


def configs():
    found = []
    for size in SIZES.values():
        found.append(triton.Config({"BLOCK": size}))
    return found


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.layers = []
        self.table = None
        self.seed = 0
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self._fill()

    def _fill(self):
        self.weight.data.uniform_(-1, 1)
        self.layers.append(nn.ReLU())

    def forward(self, x):
        assert x.shape[0] == self.weight.shape[0] and len(SIZES) == 1
        if self.table is None:
            self.table = torch.arange(3)
        self.seed += 1
        self.num_batches_tracked += 1
        factor = 1.0 / float(self.num_batches_tracked)
        x = x.add(SCALE).add(SCALE.add(factor))
        for layer in self.layers:
            x = layer(x)
        return next(iter(self.parameters())).add(x, alpha=self.seed)
"""
    assert not check_source(source, "ModelNew", "module")
