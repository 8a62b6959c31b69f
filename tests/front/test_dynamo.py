"""``torch.compile(backend="drt")``: kernels where they can be had, PyTorch with a reason where not, gradients either way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from drt.dynamo import DynamoOptions, dynamo_backend, read_options
from drt.ir import UsageError

#: Run with ``TRITON_INTERPRET=1``: kernels in this process.
KERNELS = """
import logging, sys
import torch
from torch import nn

seen = []

class Keep(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())

logging.getLogger("drt.dynamo").addHandler(Keep())
logging.getLogger("drt.dynamo").setLevel(logging.INFO)
counts = torch._dynamo.utils.counters["drt"]

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16) + 0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        y = torch.sigmoid(x * torch.exp(self.scale)) + 1.0
        return {"y": y, "t": y.t(), "n": x.shape[0]}

torch.manual_seed(0)
model = Block().eval()
options = {"budget": 60, "variants": 1}
fast = torch.compile(model, backend="drt", options=options, fullgraph=True)

def same(x):
    calls = model.calls.item()
    got, want = fast(x), Block.forward(model, x)
    assert model.calls.item() == calls + 2
    assert got["n"] == want["n"]
    for k in ("y", "t"):
        torch.testing.assert_close(got[k], want[k], rtol=1e-5, atol=1e-6)
        assert got[k].stride() == want[k].stride(), k

with torch.no_grad():
    same(torch.randn(4, 16))
    assert counts["compiled"] == 1 and not counts["eager"], seen
    assert any("flat" in line or "rows" in line for line in seen), seen
    # Weights that change, in place or by replacement, are seen by what was computed from them once.
    model.scale.mul_(0.5)
    same(torch.randn(4, 16))
    model.load_state_dict({k: v + 0.25 for k, v in model.state_dict().items()}, assign=True)
    same(torch.randn(4, 16))
with torch.inference_mode():
    same(torch.randn(4, 16))
n_compiled = counts["compiled"]

# Two graphs around a break, forward and backward each.
options["verify"] = False
def broken(x, w):
    h = torch.exp(x * w)
    torch._dynamo.graph_break()
    return torch.sin(h) * w

x, w = torch.rand(8, 4), torch.rand(4, requires_grad=True)
slow_w = w.detach().clone().requires_grad_()
torch.compile(broken, backend="drt", options=options)(x, w).sum().backward()
broken(x, slow_w).sum().backward()
torch.testing.assert_close(w.grad, slow_w.grad, rtol=1e-5, atol=1e-6)
assert counts["compiled"] == n_compiled + 4, (counts, seen)

# Sizes that are dynamic are those of the first call; others run in PyTorch, with one warning.
fast = torch.compile(lambda x: torch.sin(x) * 2, backend="drt", options=options, dynamic=True)
for n in (5, 6, 7):
    z = torch.randn(n, 3)
    torch.testing.assert_close(fast(z), torch.sin(z) * 2)
assert sum("runs in PyTorch for other sizes" in line for line in seen) == 1, seen
print("good")
"""


def test_graphs_run_by_kernels(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == "good\n"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A process in which kernels cannot run on the CPU; yields the backend's counters."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters["drt"]
    counters.clear()
    yield counters
    torch._dynamo.reset()


def scaled(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * w)


def test_pytorch_knows_the_backend_by_its_name() -> None:
    assert "drt" in torch._dynamo.list_backends()
    assert torch._dynamo.lookup_backend("drt") is dynamo_backend


def test_what_cannot_run_runs_in_pytorch_and_says_why(plain: Any, caplog: pytest.LogCaptureFixture) -> None:
    x, w = torch.randn(3, 4), torch.randn(4, requires_grad=True)
    fast = torch.compile(scaled, backend=dynamo_backend)
    with caplog.at_level(logging.WARNING, "drt.dynamo"):
        fast(x, w).sum().backward()
    assert w.grad is not None
    assert torch.equal(w.grad, torch.autograd.grad(scaled(x, w).sum(), w)[0])
    assert plain == {"eager": 2}
    said = [r.getMessage() for r in caplog.records if r.name == "drt.dynamo"]
    assert ["forward graph" in said[0], "backward graph" in said[1]] == [True, True]
    assert all("runs in PyTorch: its tensors are on the CPU" in line and "\n" not in line for line in said)


def test_strict_raises_instead(plain: Any) -> None:
    fast = torch.compile(scaled, backend=dynamo_backend, options={"strict": True})
    with pytest.raises(UsageError, match=r"graph \d+: its tensors are on the CPU"), torch.no_grad():
        fast(torch.ones(2), torch.ones(2))


def test_backward_can_stay_in_pytorch(plain: Any) -> None:
    w = torch.ones(2, requires_grad=True)
    torch.compile(scaled, backend=dynamo_backend, options={"backward": "eager"})(torch.ones(2), w).sum().backward()
    assert w.grad is not None and plain == {"eager": 1}


def test_a_graph_that_computes_nothing_is_left_alone(plain: Any) -> None:
    graph = torch.fx.symbolic_trace(lambda x: (x,))
    assert dynamo_backend(graph, [torch.ones(2)]) is graph
    assert plain == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgt": 3}, "budgt: is no option of the backend drt, expected one of budget, variants, precision, ops,"),
        ({"precision": "exact"}, "options: precision: is 'exact', expected strict or tf32"),
        ({"backward": "never"}, "options: backward: is 'never', expected drt or eager"),
        ({"variants": 0}, "options: expected seconds for budget and a count of at least 1 for variants"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_options(options)
    assert raised.value.line().startswith(message)


def test_options() -> None:
    assert read_options(None) == DynamoOptions()
    assert read_options({"ops": "a.drt", "budget": 3}) == DynamoOptions(ops=(Path("a.drt"),), budget=3)
