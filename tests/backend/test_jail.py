"""Hostile candidates: each attack is refused or ended, nothing outside changes, and the sandbox goes on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from drt.backend import jail
from drt.backend.sandbox import Frame, Reply, compiler_sandbox, interpreter_sandbox
from drt.backend.verify import worker_job
from programs.judged import BIAS_GELU

MEASURES = {m.name: m for m in jail.survey()}


def run(source: str, timeout_s: float = 30.0, memory_mb: int = 4096) -> Reply:
    x, b = torch.randn(6, 8), torch.randn(8)
    header = worker_job(source + "\n" + BIAS_GELU.source, "f", ["x", "b"], [[x, b]])
    return interpreter_sandbox().run(Frame(header, {"0.0": x, "0.1": b}), timeout_s, memory_mb)


def error_of(reply: Reply) -> str:
    """Return what importing the candidate raised."""
    frames = reply.named("import_error")
    assert frames, (reply.status, reply.detail, reply.log[-500:])
    return str(frames[0].header["error"])


@pytest.fixture(autouse=True)
def alive() -> object:
    """After every attack an honest candidate still gets its answer."""
    yield
    assert run("").status == "ok"


def needs(name: str) -> pytest.MarkDecorator:
    m = MEASURES[name]
    return pytest.mark.skipif(not m.holds, reason=f"this machine lacks {name}: {m.detail}")


#: Attack -> (measure that refuses it, what it does, words of the refusal).
REFUSED = {
    "read accounts": ("files", "open('/etc/passwd').read()", "Permission denied"),
    "read the shadow file": ("files", "open('/etc/shadow').read()", "Permission denied"),
    "list home": ("files", "import os\nos.listdir('/root')", "Permission denied"),
    "write to /tmp": ("files", "open('/tmp/drt_escaped', 'w').write('x')", "Permission denied"),
    "write into the package": ("files", "import torch\nopen(torch.__file__, 'a').write('#')", "Permission denied"),
    "delete a file": ("files", "import os, torch\nos.unlink(torch.__file__)", "Permission denied"),
    "leave through a link": ("files", "import os\nos.symlink('/etc', 'e')\nopen('e/hostname').read()", "Permission denied"),
    "make a device": ("system calls", "import os\nos.mknod('d', 0o60600, os.makedev(8, 0))", "Operation not permitted"),
    "connect": ("system calls", "import socket\nsocket.create_connection(('127.0.0.1', 9))", "Operation not permitted"),
    "send datagrams": ("system calls", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "Operation not permitted"),
    "open a local socket": ("system calls", "import socket\nsocket.socket(socket.AF_UNIX)", "Operation not permitted"),
    "start a program": ("system calls", "import subprocess\nsubprocess.run(['/bin/true'], check=True)", "Operation not permitted"),
    "become a program": ("system calls", "import os\nos.execv('/bin/true', ['true'])", "Operation not permitted"),
    "chroot": ("system calls", "import os\nos.chroot('.')", "Operation not permitted"),
    "trace the parent": (
        "system calls",
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.ptrace(16, os.getppid(), 0, 0) != 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))",
        "Operation not permitted",
    ),
    "leave the namespace": (
        "system calls",
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.unshare(0x10000000) != 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))",
        "Operation not permitted",
    ),
    "fork": ("system calls", "import os\nos.fork()", "Operation not permitted"),
    "fork below the library": (
        "system calls",
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        f"if c.syscall({jail._CLONE[platform.machine() != 'x86_64']}, 17, 0, 0, 0, 0) < 0:\n"
        "    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))",
        "Operation not permitted",
    ),
    "kill everything": ("processes", "import os, signal\nos.kill(-1, signal.SIGKILL)", "No such process"),
    "kill the judge": ("processes", f"import os, signal\nos.kill({os.getpid()}, signal.SIGTERM)", "No such process"),
    "fill memory": ("", "x = []\nwhile True: x.append(bytearray(1 << 28))", "MemoryError"),
    "fill the disk": ("", "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 26))", "File too large"),
}  # fmt: skip


@pytest.mark.parametrize("attack", REFUSED)
def test_attack_is_refused(attack: str) -> None:
    measure, source, words = REFUSED[attack]
    if measure and not MEASURES[measure].holds:
        pytest.skip(f"this machine lacks {measure}: {MEASURES[measure].detail}")
    assert words in error_of(run(source))
    assert not Path("/tmp/drt_escaped").exists()


#: Attack -> (what it does, how its job ends).
ENDED = {
    "loop": ("while True: pass", {"timeout"}),
    "loop deaf to signals": (
        "import signal\nfor s in range(1, 32):\n    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        {"timeout"},
    ),
    "stop itself": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nos.kill(os.getpid(), signal.SIGKILL)\nos._exit(1)",
        {"timeout", "signal", "exit"},  # the first process of a namespace does not hear its own signals
    ),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", {"signal"}),
    "abort": ("import os\nos.abort()", {"signal"}),
    "exit": ("import os\nos._exit(0)", {"exit"}),
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout", "signal", "exit"}),
    "threads": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()", {"timeout", "exit"}),
    "endless output": ("while True: print('x' * 65536)", {"timeout", "exit", "signal"}),
    "endless recursion": ("import sys\nsys.setrecursionlimit(1 << 30)\ndef g(): g()\ng()", {"signal", "exit", "timeout"}),
}  # fmt: skip


@pytest.mark.parametrize("attack", ENDED)
def test_attack_is_ended(attack: str) -> None:
    source, statuses = ENDED[attack]
    started = time.monotonic()
    reply = run(source, 2.0)
    # Threads and output meet a limit, which Python reports, where the deadline does not come first.
    limited = attack in ("threads", "endless output") and bool(reply.named("import_error"))
    assert reply.status in statuses or limited, reply
    assert not reply.named("run")
    assert time.monotonic() - started < 30


def test_a_candidate_holds_nothing_of_the_server() -> None:
    source = (
        "import os\nheld = []\nfor fd in range(3, 256):\n    try: held.append(os.readlink(f'/proc/self/fd/{fd}'))\n"
        "    except OSError: pass\nraise RuntimeError(repr(held))"
    )
    said = error_of(run(source))
    assert "/reply" in said
    assert "pipe:" not in said and "anon_inode:" not in said and "socket:" not in said and "deleted" not in said, said


def compile_with(source: str, timeout_s: float) -> Reply:
    """Run a job where processes may be started, because compilers need an assembler."""
    header = {"source": source + "\ndef f(x):\n    return x + 1\n", "entry": "f", "real": []}
    return compiler_sandbox().run(Frame(header), timeout_s)


@needs("processes")
def test_a_daemon_ends_with_its_job() -> None:
    marker = f"drt daemon {os.getpid()} {time.time()}"[-15:].strip()
    source = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        import ctypes\n        ctypes.CDLL(None).prctl(15, {marker.encode()!r}, 0, 0, 0)\n"
        "        time.sleep(600)\n    os._exit(0)\nos.wait()\nopen('forked', 'w')\n"
    )
    reply = compile_with(source, 30.0)
    assert reply.status == "ok", reply
    assert "PermissionError" not in str(reply.frames), reply
    names = []
    for p in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.append(p.read_text().strip())
        except OSError:
            continue
    assert marker not in names


def test_a_fork_bomb_ends_where_processes_may_be_started() -> None:
    started = time.monotonic()
    reply = compile_with("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n", 1.0)
    assert reply.status in ("timeout", "exit", "signal")
    assert time.monotonic() - started < 30
    assert compile_with("", 30.0).status == "ok"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no table of system calls for this machine")
def test_the_tables_of_system_calls_name_each_number_once() -> None:
    for column in (0, 1):
        numbers = [
            n[column]
            for n in (*jail._REFUSED.values(), *jail._EXECUTING.values(), jail._CLONE)
            if n[column] is not None
        ]
        assert len(numbers) == len(set(numbers))


def test_a_missing_measure_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail.platform, "machine", lambda: "riscv64")
    by_name = {m.name: m for m in jail.survey()}
    assert not by_name["system calls"].holds
    assert "no table of system calls for riscv64; candidates can open connections" in by_name["system calls"].detail


_SERVER = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("drt", {init!r}, submodule_search_locations=[{root!r}])
sys.modules["drt"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from drt.backend import fork_server, jail

def none(self):
    raise OSError(1, "none")

def handler(request, channel):
    if request.header["do"] == "fork" and os.fork() == 0:
        os.setsid()
        time.sleep(600)
    while request.header["do"] == "loop":
        time.sleep(1)

if {user}:
    os.setgid({user})
    os.setuid({user})
if not {namespaces}:
    jail.Namespaces.__init__ = none
fork_server.serve(handler)
"""


@pytest.mark.parametrize(("user", "namespaces"), [(0, True), (0, False), (65534, True)])
def test_a_job_ends_with_all_that_it_started(user: int, namespaces: bool) -> None:
    if user and os.geteuid():
        pytest.skip("only root can become another user")
    if namespaces and not MEASURES["processes"].holds:
        pytest.skip(f"this machine lacks processes: {MEASURES['processes'].detail}")
    root = Path(jail.__file__).resolve().parent.parent
    code = _SERVER.format(init=str(root / "__init__.py"), root=str(root), user=user, namespaces=namespaces)
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert server.stdin is not None and server.stdout is not None
    assert json.loads(server.stdout.readline())["id"] == "ready"
    ended = {}
    for do in ("nothing", "fork", "loop"):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            Path(folder, "job").write_bytes(Frame({"do": do}).to_bytes())
            job = {
                "id": do,
                "dir": folder,
                "timeout_s": 1.0,
                "memory_mb": 16384,
                "cpu_s": 6,
                "user": None,
                "executing": True,
            }
            server.stdin.write((json.dumps(job) + "\n").encode())
            server.stdin.flush()
            ended[do] = json.loads(server.stdout.readline())["status"]
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert ended == {"nothing": "ok", "fork": "ok", "loop": "timeout"}
    # A server that is not root moved to a child.
    assert len(children) == (1 if user and namespaces else 0)
    for child in children:
        assert not Path(f"/proc/{child}/task/{child}/children").read_text().split()
    server.stdin.close()
    assert server.wait(10) == 0
