"""What untrusted code does to its own process never reaches ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
import torch
from drt.backend import sandbox
from drt.backend.sandbox import SINGLE_THREAD, Frame, Reply, Sandbox, interpreter_sandbox, read_frames
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


@pytest.fixture(params=["namespaces", "none"])
def sleeper(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox whose jobs sleep."""
    alone = {"SLEEPING_ALONE": "1"} if request.param == "none" else {}
    made = Sandbox("judge.sleeping_server", {**SINGLE_THREAD, **alone})
    yield made
    made.close()


def test_every_job_is_answered_when_its_server_ends(sleeper: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    running = sleeper.submit(Frame({"s": 2.0}), 5.0)
    while not running.new_frames():
        time.sleep(0.01)
    os.kill(sleeper.start().process.pid, signal.SIGKILL)
    assert running.result(30).status == "lost"
    with monkeypatch.context() as patch:
        patch.setattr(sleeper, "wait_ready", lambda: True)  # as one finds a server that is about to end
        assert sleeper.submit(Frame({"s": 0.0}), 5.0).result(30).status == "lost"
    assert sleeper.run(Frame({"s": 0.0}), 5.0).status == "ok"


@pytest.mark.parametrize("sleeper", ["namespaces"], indirect=True)
def test_jobs_of_a_server_that_is_stuck_are_lost(sleeper: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_PATIENCE_S", 0.5)
    assert sleeper.run(Frame({"s": 0.0}), 5.0).status == "ok"
    os.kill(sleeper.start().process.pid, signal.SIGSTOP)
    started = time.monotonic()
    assert sleeper.submit(Frame({"s": 0.0}), 0.5).result(30).status == "lost"
    assert time.monotonic() - started < 10
    assert sleeper.run(Frame({"s": 0.0}), 5.0).status == "ok"
