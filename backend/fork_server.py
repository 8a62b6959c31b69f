"""Untrusted code in a process of its own: the fork server and its children.

The server (the *zygote*) imports torch, Triton and the checkers once, single-threaded and without a GPU, and then forks for
each job the child that runs the job's handler: the first process of a namespace, with which all others in it end, at the
deadline at the latest.  Where the kernel has no such namespaces, a supervisor between the two ends what the child has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs
import torch

from . import jail
from .frames import Frame, read_frames

#: The file in a job's folder by which the parent says that it has seen enough.
STOP = "stop"

# -- in the child -----------------------------------------------------------------------------------------------------


class Channel:
    """The child's side: sends frames."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._stop = os.path.join(os.path.dirname(path), STOP)

    def is_stopped(self) -> bool:
        """Whether the parent has seen enough; see :meth:`Job.stop`."""
        return os.path.exists(self._stop)

    def send(self, kind: str, tensors: Mapping[str, torch.Tensor] | None = None, **header: Any) -> None:
        """Write one frame."""
        data = memoryview(Frame({"kind": kind, **header}, dict(tensors or {})).to_bytes())
        while data:
            data = data[os.write(self._fd, data) :]


def _limit(memory_mb: int, cpu_s: int) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 1 << 30,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_AS: memory_mb << 20,
    }
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _isolate(job: dict[str, Any]) -> list[str]:
    """Take away what a candidate has no use for; return the measures that this machine lacks."""
    workdir = job["dir"]
    os.chdir(workdir)
    keep = {k: v for k, v in os.environ.items() if k in ("TRITON_INTERPRET", "OMP_NUM_THREADS", "LANG", "PATH")}
    os.environ.clear()
    os.environ.update(keep, HOME=workdir, TMPDIR=workdir, TRITON_CACHE_DIR=os.path.join(workdir, "triton"))
    tempfile.tempdir = None  # so that TMPDIR is read again
    return jail.confine(workdir, job["user"], job["executing"])


def _child(job: dict[str, Any], handler: Any) -> None:
    workdir = job["dir"]
    log = os.open(os.path.join(workdir, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    channel = Channel(os.path.join(workdir, "reply"))
    request = next(read_frames(Path(workdir, "job").read_bytes()))
    _limit(job["memory_mb"], job["cpu_s"])
    _isolate(job)
    handler(request, channel)
    channel.send("end")


def _close_inherited() -> None:
    """Close what the server holds: both ways to its parent, who must see when it ends, and its handles of other jobs."""
    os.closerange(3, 1 << 20)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _run_child(job: dict[str, Any], handler: Any) -> NoReturn:
    """Be the child: run the job's handler and exit."""
    code = 3
    try:
        _close_inherited()
        os.setsid()
        if job["user"] is not None:
            os.chown(job["dir"], job["user"], job["user"])
        _child(job, handler)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _supervise(job: dict[str, Any], handler: Any) -> NoReturn:
    """Run the child where it has no namespace: end what it leaves behind, and end as it ended.

    Everything that the child starts becomes a descendant of this process, whatever group it moves to.  The child ends with
    the server, too.
    """
    server = os.getppid()
    _close_inherited()
    with contextlib.suppress(OSError, AttributeError):
        jail.adopt_orphans()
    child = os.fork()
    if child == 0:
        _run_child(job, handler)
    watched = [os.pidfd_open(child)]
    with contextlib.suppress(ProcessLookupError):
        watched.append(os.pidfd_open(server))
    if watched[0] not in select.select(watched, [], [], job["timeout_s"])[0]:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    _end_descendants()
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)  # not for SIGKILL, which needs it not
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _end_descendants() -> None:
    """End what a child has left behind, processes that left its group included."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    for _ in range(1000):
        try:
            left = [int(p) for p in listing.read_text().split()]
        except OSError:
            return
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


# -- in the server ----------------------------------------------------------------------------------------------------


@attrs.define
class _Running:
    """A job and its first process."""

    job: dict[str, Any]
    pid: int
    started: float

    @property
    def deadline(self) -> float:
        return self.started + float(self.job["timeout_s"])

    def outcome(self, status: int, cpu_s: float) -> dict[str, Any]:
        """Return what became of the job, given the status and the processor time of its first process."""
        passed = time.monotonic() - self.started
        word, detail = "ok", ""
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            word, detail = "signal", signal.Signals(number).name
            if number == signal.SIGKILL and passed >= self.job["timeout_s"]:
                word, detail = "timeout", f"no result within {self.job['timeout_s']:g} s"
            elif number in (signal.SIGKILL, signal.SIGXCPU) and cpu_s >= self.job["cpu_s"]:
                word, detail = "timeout", f"more than {self.job['cpu_s']} s of processor time"
        elif os.WEXITSTATUS(status):
            word, detail = "exit", f"exit status {os.WEXITSTATUS(status)}"
        return {"id": self.job["id"], "status": word, "detail": detail, "time_ms": passed * 1e3}


#: How long after its deadline a job without a namespace may take to end what it has started.
_GRACE_S = 5.0


def _kill(pid: int) -> None:
    """End a process that is still to be waited for, however many compete with it for the processor."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
    os.kill(pid, signal.SIGKILL)


def _tell(out: int, message: dict[str, Any]) -> None:
    os.write(out, (json.dumps(message) + "\n").encode())


def _serve(handler: Any, out: int, namespaces: jail.Namespaces | None) -> None:
    """Start a process for each line of standard input, and write a line to ``out`` when one has ended."""
    running: dict[int, _Running] = {}  # by a descriptor that becomes readable when the process ends
    pending, grace = b"", 0.0 if namespaces else _GRACE_S
    while True:
        now = time.monotonic()
        for one in running.values():
            if one.deadline + grace <= now:
                _kill(one.pid)  # and with the first process of a namespace all others
        left = min((max(0.0, one.deadline + grace - now) for one in running.values()), default=None)
        ready, _, _ = select.select([0, *running], [], [], left)
        for watched in (fd for fd in ready if fd):
            one = running.pop(watched)
            os.close(watched)
            _, status, used = os.wait4(one.pid, 0)
            _tell(out, one.outcome(status, used.ru_utime + used.ru_stime))
        if 0 not in ready:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            for one in running.values():
                _kill(one.pid)
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for text in lines:
            job, started = json.loads(text), time.monotonic()
            try:
                pid = namespaces.fork() if namespaces else os.fork()
            except OSError as error:
                reason = f"no process for it: {error.strerror}"
                _tell(out, {"id": job["id"], "status": "lost", "detail": reason, "time_ms": 0.0})
                continue
            if pid == 0:
                (_run_child if namespaces else _supervise)(job, handler)
            running[os.pidfd_open(pid)] = _Running(job, pid, started)


def serve(handler: Any) -> None:
    """Run the fork server on standard input and output; ``handler(request, channel)`` runs in the children."""
    import gc

    out = os.dup(1)
    os.dup2(2, 1)
    gc.collect()
    gc.freeze()
    namespaces = None
    with contextlib.suppress(OSError, AttributeError):
        namespaces = jail.Namespaces()
    os.write(out, b'{"id": "ready"}\n')
    _serve(handler, out, namespaces)


# -- a persistent process ---------------------------------------------------------------------------------------------


def serve_worker(handler: Any) -> None:
    """Run ``handler(request, channel)`` for each job on standard input, in this process."""
    out = os.dup(1)
    os.dup2(2, 1)
    os.write(out, b'{"id": "ready"}\n')
    for line in sys.stdin:
        job = json.loads(line)
        outcome = {"id": job["id"], "status": "ok", "detail": ""}
        try:
            request = next(read_frames(Path(job["dir"], "job").read_bytes()))
            channel = Channel(os.path.join(job["dir"], "reply"))
            handler(request, channel)
            channel.send("end")
        except BaseException as error:
            outcome.update(status="exit", detail=f"{type(error).__name__}: {error}"[:500])
        os.write(out, (json.dumps(outcome) + "\n").encode())
