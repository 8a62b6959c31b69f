"""``drt ops coverage``: what is counted, what a failure looks like, and the models of the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from drt import cli
from drt.cli_coverage import known_percent, percent, to_markdown
from drt.coverage_model import Comparison, ModelCoverage, cover_model
from drt.coverage_suite import ZOO, Results, cover_suite, find_models, row_of
from drt.ir import UsageError

KNOWN = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, n)

    def forward(self, x):
        return torch.relu(self.fc(x))

def get_inputs():
    return [torch.randn(4, 8)]

def get_init_inputs():
    return [8]
"""

FAMILY = """
import time
import torch
from torch import nn

@torch.library.custom_op("drt_coverage_test::scaled", mutates_args=())
def scaled(x: torch.Tensor, by: float) -> torch.Tensor:
    return x * by

@scaled.register_fake
def _(x, by):
    return torch.empty_like(x)

class Half(nn.Module):
    def forward(self, x):
        y = torch.ops.drt_coverage_test.scaled(x, 2.0)
        return y @ y

class Sized(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, n, bias=False)

    def forward(self, x):
        return self.fc(x)

def _hidden():
    raise AssertionError

def helper(n):
    raise AssertionError

def half():
    return Half(), (torch.randn(6, 6),)

def sized(full: bool = False):
    n = 4096 if full else 4
    return Sized(n), (torch.randn(2, n),)

def without_package():
    import a_package_that_nobody_has

def broken():
    return Half(), (torch.randn(3, 4),)

def stuck():
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    (models / "known.py").write_text(KNOWN)
    (models / "family.py").write_text(FAMILY)
    (models / "_shared.py").write_text("raise AssertionError")
    return models


def test_models_of_a_folder(folder: Path) -> None:
    entries = find_models([str(folder), "package.module:made"])
    assert [(e.name, e.group, e.has_full) for e in entries] == [
        ("half", "family", False), ("sized", "family", True), ("without_package", "family", False),
        ("broken", "family", False), ("stuck", "family", False), ("known", "known", False),
        ("made", "package.module", False),
    ]  # fmt: skip
    assert entries[0].spec == f"{folder / 'family.py'}:half" and entries[5].spec == str(folder / "known.py")


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match="no such file, expected a model"):
        find_models([str(tmp_path / "absent.py")])
    with pytest.raises(UsageError, match="has no Python files"):
        find_models([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="has neither class Model nor a function"):
        find_models([str(tmp_path / "nothing.py")])


def test_shares_of_an_opaque_node(folder: Path) -> None:
    row = cover_model(f"{folder / 'family.py'}:half", name="half", check=True)
    assert (row.status, row.n_nodes, row.n_opaque) == ("good", 2, 1)
    # 36 elements once; a product of 6 x 6 matrices: 2 * 6**3.  Each reads and writes 6 x 6 float32.
    assert (row.opaque_flops, row.flops) == (36, 36 + 432)
    assert (row.opaque_bytes, row.bytes) == (288, 576)
    assert [(t.target, t.count) for t in row.opaque] == [("drt_coverage_test.scaled.default", 1)]
    assert "no operator has a pattern for it" in row.opaque[0].reason
    assert row.comparison == Comparison("float64", True, 0.0, 0.0)
    assert known_percent([row]) == (50.0, percent(36, 468), 50.0)


def test_the_published_size_is_counted_and_the_small_one_compared(folder: Path) -> None:
    row = cover_model(f"{folder / 'family.py'}:sized", check=True, full=True)
    assert (row.size, row.flops) == ("full", 2 * 2 * 4096 * 4096)
    assert row.comparison is not None and row.comparison.bitwise


def test_failures_are_rows(folder: Path) -> None:
    broken = cover_model(f"{folder / 'family.py'}:broken")
    assert broken.status == "failed" and "torch.export fails" in broken.reason and "\n" not in broken.reason
    absent = cover_model(f"{folder / 'family.py'}:without_package")
    assert (absent.status, absent.reason) == (
        "skipped",
        "a_package_that_nobody_has is not installed, expected drt[zoo]",
    )


def test_a_difference_fails_the_model() -> None:
    assert Comparison("float64", False, 1e-12, 0.0).good
    assert not Comparison("float64", False, 1e-6, 0.0).good
    assert not Comparison("float64", True, 0.0, 1e-6).good
    assert Comparison("float32", False, 1e-6, 1e-6).good


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family, output, page = str(folder / "family.py"), tmp_path / "rows.json", tmp_path / "page.md"
    half, known = f"{family}:half", str(folder / "known.py")
    arguments = ["ops", "coverage", known, half, f"{family}:broken", "-o", str(output), "-q"]
    assert cli.main([*arguments, "--markdown", str(page)]) == cli.NO
    told = capsys.readouterr().out
    assert "failed: " in told and "drt_coverage_test.scaled.default" in told
    assert "| half | small | 2 | 50.0 |" in page.read_text() and f"torch {torch.__version__}" in page.read_text()
    rows = json.loads(output.read_text())["rows"]
    assert [r["status"] for r in rows] == ["good", "good", "failed"]
    # What is good is taken over: its row is the one in the file.
    rows[0]["n_nodes"], rows[0]["n_opaque"] = 98, 0
    output.write_text(json.dumps({"rows": rows[:2]}))
    resumed = ["ops", "coverage", known, half, "-o", str(output), "--resume", "-q"]
    assert cli.main([*resumed, "--require", "99.5"]) == cli.NO
    assert cli.main([*resumed, "--require", "98.5"]) == cli.GOOD
    capsys.readouterr()
    assert cli.main([*resumed, "--json"]) == cli.GOOD
    assert [row_of(r).n_nodes for r in json.loads(capsys.readouterr().out)["rows"]] == [98, 2]


def test_a_model_that_takes_too_long_is_a_row(folder: Path) -> None:
    (entry,) = (e for e in find_models([str(folder)]) if e.name == "stuck")
    (row,) = cover_suite([entry], deadline_s=0.5).rows
    assert (row.status, row.reason) == ("failed", "is not done after 0.5 s")


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ops", "coverage"]) == cli.BAD_INPUT
    assert "no model given" in capsys.readouterr().err
    assert cli.main(["ops", "coverage", "--zoo", "--resume"]) == cli.BAD_INPUT
    assert "expected -o FILE.json too" in capsys.readouterr().err


def test_page_says_when_nothing_is_opaque() -> None:
    page = to_markdown(Results((ModelCoverage("m", "m.py", n_nodes=3),), {"drt": "0"}))
    assert "There is none." in page and "versions: drt 0." in page and "| 1 models |" in page


# -- the zoo ------------------------------------------------------------------------------------------------------------

#: Models of different kinds that need torch alone.
ALWAYS = ("nerf", "dlrm", "graph_convolution")
ENTRIES = {e.name: e for e in find_models([str(ZOO)])}


def checked(name: str) -> ModelCoverage:
    row = cover_model(ENTRIES[name].spec, name=name, check=True)
    if row.status == "skipped":
        pytest.skip(row.reason)
    assert row.status == "good", row.reason
    return row


@pytest.mark.parametrize("name", ALWAYS)
def test_hand_written_models_are_known(name: str) -> None:
    row = checked(name)
    assert [t.target for t in row.opaque] == []
    assert row.comparison is not None and row.comparison.dtype == "float64"


def test_the_zoo_is_large() -> None:
    assert len(ENTRIES) >= 60 and len(ENTRIES) == len(find_models([str(ZOO)]))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ENTRIES) - set(ALWAYS)))
def test_models_of_the_zoo_come_back_equal(name: str) -> None:
    checked(name)
