"""Untrusted code in a process of its own: the parent's side of a fork server, one short-lived child per job.

A job is a :class:`Frame` (JSON header and tensors); the child answers with frames as it goes, so that what it had found before
a crash is kept.  Nothing that a child wrote is ever unpickled.  Crashes, exits and time-outs come back as a :class:`Reply` with
a status, never as an exception.  What a child may do, and who ends it: ``fork_server.py``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import torch

from ..ir.errors import UsageError
from . import jail
from .fork_server import STOP
from .frames import Frame as Frame
from .frames import frames_and_ends
from .frames import read_frames as read_frames


@attrs.frozen
class Reply:
    """What became of a job.

    Attributes:
        status: ``ok``, ``timeout``, ``signal`` (``detail`` names it), ``exit`` (left without finishing), or ``lost``.
        frames: what the child had sent, in order.
        log: the end of what it printed.
    """

    status: str
    detail: str
    frames: tuple[Frame, ...]
    log: str
    time_ms: float

    def named(self, kind: str) -> list[Frame]:
        """Return the frames whose header has this ``kind``."""
        return [f for f in self.frames if f.header.get("kind") == kind]


_PREAMBLE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("drt", {init!r}, submodule_search_locations=[{root!r}])
sys.modules["drt"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from {module} import main
main()
"""


def start_server(module: str, environment: Mapping[str, str], errors: Any) -> subprocess.Popen[bytes]:
    """Start ``<module>.main`` in a fresh interpreter with this drt; ``errors`` is its standard error."""
    root = Path(__file__).resolve().parent.parent
    code = _PREAMBLE.format(init=str(root / "__init__.py"), root=str(root), module=module)
    paths = [p for p in sys.path if p and Path(p).resolve() != root]
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, start_new_session=True,
        cwd=tempfile.gettempdir(),
    )  # fmt: skip


#: The environment of a server whose jobs run in one thread and see no device.
SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    "TRITON_DEFAULT_FP_FUSION": "1",
}  # fmt: skip


class Job(Future[Reply]):
    """A running job; its result is the :class:`Reply`, and frames can be read while it runs."""

    def __init__(self, workdir: str = "") -> None:
        super().__init__()
        self._workdir, self._read = workdir, 0
        self.was_stopped = False

    def new_frames(self) -> list[Frame]:
        """Return the frames that came since the last call."""
        try:
            with open(os.path.join(self._workdir, "reply"), "rb") as f:
                f.seek(self._read)
                data = f.read()
        except OSError:
            return []
        found = []
        for frame, end in frames_and_ends(data):
            found.append(frame)
            last = end
        self._read += last if found else 0
        return found

    def stop(self) -> None:
        """Tell the job that its remaining runs are of no interest; it need not listen."""
        self.was_stopped = True
        with contextlib.suppress(OSError):
            Path(self._workdir, STOP).touch()


@attrs.define(eq=False)
class _Server:
    """A server's process and the jobs that it has been given.

    Attributes:
        ready: set when it takes jobs, and when it has ended.
        waiting: id -> a job under way, and the time after which the server has forgotten it.
        has_ended: nothing more is to be heard from it; what was waiting then is lost, and nothing is added to it.
    """

    process: subprocess.Popen[bytes]
    ready: threading.Event = attrs.field(factory=threading.Event)
    waiting: dict[str, tuple[Future[dict[str, Any]], float]] = attrs.field(factory=dict)
    has_ended: bool = False

    def lines(self) -> Iterator[bytes]:
        """Yield what the server writes, a line at a time, until it ends; end it where it has forgotten a job."""
        assert self.process.stdout is not None
        fd, pending = self.process.stdout.fileno(), b""
        while True:
            if not select.select([fd], [], [], _PATIENCE_S)[0]:
                now = time.monotonic()
                if any(overdue <= now for _, overdue in list(self.waiting.values())):
                    self.kill()
                continue
            chunk = os.read(fd, 65536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines

    def kill(self) -> None:
        """End the server and what is in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Tell the server that there are no more jobs; it ends those that are running, and itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


#: How long after its deadline a job may stay unanswered; the server is then taken to be stuck.
_PATIENCE_S = 20.0


class Sandbox:
    """A fork server for one kind of job; start it with :func:`interpreter_sandbox` or :func:`compiler_sandbox`."""

    def __init__(self, module: str, environment: Mapping[str, str], executing: bool = False) -> None:
        self._module, self._environment, self._executing = module, dict(environment), executing
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._count = 0
        self._owner = os.getpid()
        self._errors = tempfile.TemporaryFile()

    def start(self) -> _Server:
        """Start the server, if it is not running, without waiting for it; return it."""
        with self._lock:
            server = self._server
            if server is not None:
                if not server.has_ended and server.process.poll() is None:
                    return server
                server.let_go()  # what stood behind a process that was ended may still listen
            self._server = server = _Server(start_server(self._module, self._environment, self._errors))
            threading.Thread(target=self._listen, args=(server,), daemon=True).start()
            return server

    def wait_ready(self, timeout_s: float = 120.0) -> bool:
        """Start the server and wait until it takes jobs; False where it did not come up."""
        for _ in range(2):  # a server that was ended after it had been found running is started again
            server = self.start()
            if server.ready.wait(timeout_s) and not server.has_ended and server.process.poll() is None:
                return True
        return False

    def _listen(self, server: _Server) -> None:
        for line in server.lines():
            message = json.loads(line)
            if message["id"] == "ready":
                server.ready.set()
                continue
            with self._lock:
                future, _ = server.waiting.pop(message["id"], (None, 0.0))
            if future is not None:
                future.set_result(message)
        with self._lock:
            server.has_ended = True
            lost, server.waiting = server.waiting, {}
        server.ready.set()
        for future, _ in lost.values():
            future.set_result({"status": "lost", "detail": "the sandbox server ended", "time_ms": 0.0})

    def submit(self, request: Frame, timeout_s: float, memory_mb: int = 16384) -> Job:
        """Start a job and return it; its result never raises."""
        if not self.wait_ready():
            done = Job()
            log = _tail(self._errors)
            last = log.strip().splitlines()[-1:] or ["no message"]
            done.set_result(Reply("lost", f"the sandbox server could not be started: {last[0]}", (), log, 0.0))
            return done
        workdir = tempfile.mkdtemp(prefix="drt_job_")
        Path(workdir, "job").write_bytes(request.to_bytes())
        outer, inner = Job(workdir), Future[dict[str, Any]]()
        inner.add_done_callback(lambda f: outer.set_result(_collect(workdir, f.result())))
        job = {
            "dir": workdir, "timeout_s": timeout_s, "memory_mb": memory_mb, "cpu_s": int(timeout_s) + 5,
            "executing": self._executing,
        }  # fmt: skip
        if reason := self._hand_over(job, inner):
            inner.set_result({"status": "lost", "detail": reason, "time_ms": 0.0})
        return outer

    def _hand_over(self, job: dict[str, Any], done: Future[dict[str, Any]]) -> str:
        """Give the server a job, whose outcome ``done`` will hold; return why that was not possible, or nothing."""
        with self._lock:
            server = self._server
            if server is None or server.has_ended or server.process.stdin is None:
                return "the sandbox server ended"
            self._count += 1
            name = f"{self._owner}.{self._count}"
            line = json.dumps({**job, "id": name, "user": jail.foreign_user(self._count)})
            server.waiting[name] = (done, time.monotonic() + job["timeout_s"] + _PATIENCE_S)
            try:
                server.process.stdin.write(f"{line}\n".encode())
                server.process.stdin.flush()
            except (OSError, ValueError) as error:  # the server ended, or was told that there are no more jobs
                del server.waiting[name]
                return str(error)
        return ""

    def run(self, request: Frame, timeout_s: float, memory_mb: int = 16384) -> Reply:
        """Run a job and return what became of it."""
        return self.submit(request, timeout_s, memory_mb).result()

    def close(self) -> None:
        """End the server; running jobs are lost."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.let_go()
            try:
                server.process.wait(2)
            except subprocess.TimeoutExpired:
                server.kill()
                server.process.wait()


def _tail(file: Any, n: int = 4000) -> str:
    """Return the end of a file that another process writes to."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), n, max(0, size - n)).decode(errors="replace")


def _collect(workdir: str, message: dict[str, Any]) -> Reply:
    reply, log = Path(workdir, "reply"), Path(workdir, "log")
    try:
        frames = tuple(read_frames(reply.read_bytes())) if reply.exists() else ()
        text = log.read_bytes()[-8000:].decode(errors="replace") if log.exists() else ""
    except OSError as error:
        frames, text = (), str(error)
    shutil.rmtree(workdir, ignore_errors=True)
    status, detail = message["status"], message["detail"]
    finished = bool(frames) and frames[-1].header.get("kind") == "end"
    if status == "ok" and not finished:
        status, detail = "exit", "the process ended before its work was done"
    return Reply(status, detail, frames, text, message["time_ms"])


_SANDBOXES: dict[str, Sandbox] = {}


def _sandbox(module: str, environment: Mapping[str, str], executing: bool = False) -> Sandbox:
    key = f"{module}@{os.getpid()}"  # a server belongs to the process that started it
    if key not in _SANDBOXES:
        _SANDBOXES[key] = Sandbox(module, {**SINGLE_THREAD, **environment}, executing)
        atexit.register(_SANDBOXES[key].close)
    return _SANDBOXES[key]


def interpreter_sandbox() -> Sandbox:
    """The sandbox whose children run Triton kernels in the corrected interpreter, on the CPU."""
    return _sandbox("drt.backend.verify.worker", {"TRITON_INTERPRET": "1"})


def compiler_sandbox() -> Sandbox:
    """The sandbox whose children compile kernels to machine code without a GPU."""
    return _sandbox(
        "drt.backend.verify.compiling", {"TRITON_INTERPRET": "0"}, executing=True
    )  # it starts the assembler


# -- a persistent process, for a device --------------------------------------------------------------------------------


class Worker:
    """One process that runs jobs one after another, for devices that cannot be used after a fork.

    It is started on first use, kept for later jobs, and replaced when a job outlives its deadline or ends it.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._module, self._environment = module, dict(environment or {})
        self._server: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._count = 0
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()

    def _line(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message; None at the deadline; raises EOFError when the process ended."""
        assert self._server is not None and self._server.stdout is not None
        fd = self._server.stdout.fileno()
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return None
            chunk = os.read(fd, 65536)
            if not chunk:
                raise EOFError
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return dict(json.loads(line))

    def run(self, request: Frame, timeout_s: float, start_timeout_s: float = 180.0) -> Reply:
        """Run a job and return what became of it."""
        with self._lock:
            workdir = tempfile.mkdtemp(prefix="drt_job_")
            Path(workdir, "job").write_bytes(request.to_bytes())
            started = time.monotonic()
            try:
                if self._server is None or self._server.poll() is not None:
                    self._pending = b""
                    self._server = start_server(self._module, self._environment, self._errors)
                    if self._line(time.monotonic() + start_timeout_s) is None:
                        raise TimeoutError
                self._count += 1
                started = time.monotonic()
                assert self._server.stdin is not None
                self._server.stdin.write((json.dumps({"id": self._count, "dir": workdir}) + "\n").encode())
                self._server.stdin.flush()
                message = self._line(started + timeout_s)
                if message is None:
                    raise TimeoutError
                outcome = {"status": message["status"], "detail": message["detail"]}
            except TimeoutError:
                outcome = {"status": "timeout", "detail": f"no result within {timeout_s:g} s"}
                self._end()
            except (EOFError, OSError):
                code = self._server.wait() if self._server is not None else 0
                name = signal.Signals(-code).name if code and code < 0 else f"exit status {code}"
                last = _tail(self._errors).strip().splitlines()[-1:]
                detail = f"{name}: {last[0]}" if last else name
                outcome = {"status": "signal" if code and code < 0 else "exit", "detail": detail}
                self._server = None
            return _collect(workdir, {**outcome, "time_ms": (time.monotonic() - started) * 1e3})

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


_WORKERS: dict[str, Worker] = {}


def device_worker(trusted: bool = True) -> Worker:
    """A process on the CUDA device: one that never runs a candidate's Python, or the one that does.

    Raises:
        UsageError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UsageError("no CUDA device is available")
    key = f"{'replay' if trusted else 'device'}@{os.getpid()}"
    if key not in _WORKERS:
        _WORKERS[key] = Worker("drt.backend.verify.device", {"TRITON_INTERPRET": "0"})
        atexit.register(_WORKERS[key].close)
    return _WORKERS[key]
