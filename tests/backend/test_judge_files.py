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
