"""Which tests run: what needs a device, a network or patience is skipped with its reason, never passed over in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Set before torch is loaded: the workers of a parallel run share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# JAX is an oracle here: on a GPU machine it would take most of the memory of the device that kernels are judged on.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Each program of a test runs once: compiling it well would take longer than all its runs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import pytest

#: Marker -> what switches it on.
OPTIONS = {
    "slow": "run the tests that take more than a few seconds",
    "net": "run the tests that need a network",
    "full": "run sampled tests exhaustively",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, text in OPTIONS.items():
        parser.addoption(f"--{name}", action="store_true", help=text)
    parser.addoption("--accept", action="store_true", help="rewrite the expected part of golden tests")


def pytest_configure(config: pytest.Config) -> None:
    """Take ``-m full`` for ``--full``, and so on: who asks for such tests wants them run."""
    for name in OPTIONS:
        if name in config.option.markexpr.split():
            setattr(config.option, name, "not " + name not in config.option.markexpr)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name in OPTIONS:
            if item.get_closest_marker(name) and not config.getoption(f"--{name}"):
                item.add_marker(pytest.mark.skip(reason=f"{name}: run with --{name}"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="gpu: no CUDA device here"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _settings_stay() -> Iterator[None]:
    """Fail the test that leaves another default dtype behind, rather than the next one that relies on it."""
    yield
    import torch

    found = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    assert found == torch.float32, f"the test leaves the default dtype at {found}"
