"""The targets of the Makefile, and what continuous integration calls."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make(*words: str) -> str:
    # Without what an outer make, which may have started this test, tells its children.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    result = subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_is_the_default_and_lists_every_target() -> None:
    assert make() == make("help")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make (\w+)", make("help"))) == set(targets) >= {"demo", "test", "help"}


def test_the_torch_that_goes_first_is_the_one_the_package_asks_for() -> None:
    (torch,) = (
        d
        for d in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if d.startswith("torch")
    )
    assert f"TORCH := {torch}" in make("-p", "-n", "help").splitlines()


def test_the_last_thing_that_a_test_run_prints_is_the_summary_of_pytest() -> None:
    commands = make("-n", "test").strip().splitlines()
    assert "-m pytest" in commands[-1] and "-rs" in commands[-1]


def test_continuous_integration_calls_make_test_and_nothing_cleverer() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert [line for line in script.read_text().splitlines() if "make" in line and not line.startswith("#")] == [
        "exec make test"
    ]
