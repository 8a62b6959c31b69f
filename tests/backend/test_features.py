"""The corrected interpreter against a GPU, feature by feature."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from features.table import FEATURES, RECORDED, Feature, distance, read

HERE = Path(__file__).parents[1]

#: Features whose results on the device the interpreter does not promise, and why.
LIMITATIONS: dict[str, str] = {}


def _run(folder: Path, interpret: bool) -> dict[str, Any]:
    env = {**os.environ, "TRITON_INTERPRET": str(int(interpret)), "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "features.table", str(folder / "out")], capture_output=True, text=True, env=env, timeout=500, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(read(folder / "out")["outputs"])


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(tmp_path_factory.mktemp("interpreted"), True)


@pytest.fixture(scope="module")
def on_device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _run(tmp_path_factory.mktemp("device"), False)


def _compare(f: Feature, found: dict[str, Any], want: dict[str, Any]) -> None:
    a, b = found[f.name], want[f.name]
    assert isinstance(b, str), b
    assert isinstance(a, str), a
    away = distance(f, b, a)
    if f.name in LIMITATIONS:
        assert away > f.ulps, f"{f.name} is as on the device: its limitation ({LIMITATIONS[f.name]}) holds no longer"
    else:
        assert away <= f.ulps, f"{away:.3g} units in the last place from the device, expected at most {f.ulps:g}"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_as_recorded(feature: Feature, interpreted: dict[str, Any]) -> None:
    _compare(feature, interpreted, read(RECORDED)["outputs"])


@pytest.mark.gpu
@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_as_on_this_device(feature: Feature, interpreted: dict[str, Any], on_device: dict[str, Any]) -> None:
    _compare(feature, interpreted, on_device)
