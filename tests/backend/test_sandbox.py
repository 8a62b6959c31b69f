"""What untrusted code does to its own process never reaches ours."""

from __future__ import annotations

import pytest
import torch
from drt.backend.sandbox import Frame, Reply, interpreter_sandbox, read_frames
from drt.backend.verify import worker_job
from programs.judged import BIAS_GELU


def _run(source: str, timeout_s: float = 5.0, memory_mb: int = 16384) -> Reply:
    x, b = torch.randn(6, 8), torch.randn(8)
    header = worker_job(source, "f", ["x", "b"], [[x, b]])
    return interpreter_sandbox().run(Frame(header, {"0.0": x, "0.1": b}), timeout_s, memory_mb)


def test_memory_is_bounded() -> None:
    reply = _run("x = []\nwhile True: x.append(bytearray(1 << 28))\n" + BIAS_GELU.source, 30.0, memory_mb=4096)
    assert "MemoryError" in reply.named("import_error")[0].header["error"]


def test_the_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import os\nraise RuntimeError(repr(sorted(os.environ)))\n" + BIAS_GELU.source
    monkeypatch.setenv("SECRET_TOKEN", "x")
    reply = _run(source)
    assert "SECRET_TOKEN" not in reply.named("import_error")[0].header["error"]


def test_outputs_come_back_as_tensors() -> None:
    reply = _run(BIAS_GELU.source)
    assert reply.status == "ok"
    assert reply.named("run")[0].tensors["out.0"].shape == (6, 8)


def test_the_server_survives_its_children() -> None:
    for _ in range(3):
        assert _run("import os\nos._exit(9)\n", 2.0).status == "exit"
    assert _run(BIAS_GELU.source).status == "ok"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.float16])
def test_frames_keep_tensors(dtype: torch.dtype) -> None:
    tensor = torch.randint(0, 2, (3, 5)).to(dtype)
    frame = Frame({"kind": "x", "n": 3}, {"t": tensor, "empty": torch.empty(0, 4), "scalar": torch.tensor(2.5)})
    (back,) = read_frames(frame.to_bytes())
    assert back.header == frame.header
    assert torch.equal(back.tensors["t"], tensor)
    assert back.tensors["empty"].shape == (0, 4) and back.tensors["scalar"].shape == ()


def test_garbage_is_no_frame() -> None:
    good = Frame({"kind": "x"}).to_bytes()
    assert len(list(read_frames(good + good[:-1]))) == 1
    assert list(read_frames(b"\xff" * 64)) == []
