"""What the kernel takes away from a process that runs a candidate: files, network, other processes, and most system calls.

Each measure stands alone: where the kernel lacks one, the others hold, and :func:`survey` says which is missing and what that
costs.  Linux only; elsewhere every measure is missing.

Sources: https://docs.kernel.org/userspace-api/landlock.html, https://docs.kernel.org/userspace-api/seccomp_filter.html,
https://man7.org/linux/man-pages/man2/prctl.2.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

#: Users that candidates run as where the judge is root; no account has these numbers.
FIRST_USER, N_USERS = 61_200, 256

#: Processes and threads that one candidate's user may have.
MAX_PROCESSES = 64

# -- system calls -------------------------------------------------------------------------------------------------------

#: Refused calls -> number on x86-64 and on arm64 (None where the machine has no such call).
_REFUSED: dict[str, tuple[int, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "socketpair": (53, 199),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "move_mount": (429, 429), "fsopen": (430, 430),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "acct": (163, 89), "quotactl": (179, 60), "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "mknodat": (259, 33), "clone3": (435, 435),
}  # fmt: skip
_EXECUTING = {"execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None)}
_CLONE = (56, 220)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_PRCTL = {"pdeathsig": 1, "dumpable": 4, "seccomp": 22, "subreaper": 36, "no_new_privileges": 38}
_NEW_USERS, _NEW_PROCESSES = 0x10000000, 0x20000000
_LANDLOCK = {"create": 444, "add": 445, "restrict": 446}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(name: str, value: int, pointer: object = None) -> None:
    if _libc().prctl(_PRCTL[name], ctypes.c_ulong(value), pointer or ctypes.c_ulong(0), 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none escapes its end."""
    _prctl("subreaper", 1)


class Namespaces:
    """Namespaces of processes, one for each child: it sees no process outside, and all in it end when it does.

    The child is the first process of its namespace, so that signals from inside reach it only where it handles them; a fault
    and the judge's SIGKILL end it.

    Source: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
    """

    def __init__(self) -> None:
        """Find out whether this process, which must have a single thread, can make them.

        Where it is not root, it moves to a child with a user namespace: the constructor returns there, and this process ends
        when the child does.

        Raises:
            OSError: the kernel has no such namespaces, or this user may not make one.
        """
        column = _ARCHITECTURES.get(platform.machine(), (0, 0))[0]
        self._unshare, self._enter = _REFUSED["unshare"][column] or 0, _REFUSED["setns"][column] or 0
        if os.geteuid():
            self._move_to_own_users()
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        trial = self.fork()
        if trial == 0:
            os._exit(0)
        os.waitpid(trial, 0)

    def _move_to_own_users(self) -> None:
        _call(self._unshare, ctypes.c_int(_NEW_USERS | _NEW_PROCESSES))
        moved = os.fork()
        if moved == 0:
            _prctl("pdeathsig", signal.SIGKILL)
        else:
            _, status = os.waitpid(moved, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)

    def fork(self) -> int:
        """Fork into a new namespace; return 0 in the child, the child's number in the parent.

        Raises:
            OSError: there are too many processes or namespaces.
        """
        _call(self._unshare, ctypes.c_int(_NEW_PROCESSES))
        child = -1
        try:
            child = os.fork()
            return child
        finally:
            if child:
                _call(self._enter, ctypes.c_int(self._own), ctypes.c_int(_NEW_PROCESSES))


def refuse_calls(executing: bool) -> None:
    """Refuse system calls that reach past the process (seccomp).

    Args:
        executing: processes and programs may be started.

    Raises:
        OSError: the kernel has no filters, or the machine is neither x86-64 nor arm64.
    """
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    column, architecture = _ARCHITECTURES[platform.machine()]
    refused = {**_REFUSED, **({} if executing else _EXECUTING)}
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    of_call, of_architecture, of_first_argument, of_a_thread = 0, 4, 16, 0x10000
    kill, allow, fail = 0x80000000, 0x7FFF0000, 0x00050000
    # A call under another architecture's numbers, or in the x32 numbering, ends the process.
    program = [(load, 0, 0, of_architecture), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, of_call)]
    if column == 0:
        program += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, kill)]
    if not executing:  # of clone's forms the one that starts a thread remains
        program += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, of_first_argument), (any_bit, 1, 0, of_a_thread)]
        program += [(answer, 0, 0, fail | errno.EPERM), (answer, 0, 0, allow)]
    for name, numbers in refused.items():
        number = numbers[column]
        if number is not None:
            # The C library falls back to clone, which can be filtered by its flags, where clone3 is not there.
            code = errno.ENOSYS if name == "clone3" else errno.EPERM
            program += [(equal, 0, 1, number), (answer, 0, 0, fail | code)]
    program.append((answer, 0, 0, allow))
    code_bytes = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code_bytes)))
    _prctl("no_new_privileges", 1)
    _prctl("seccomp", 2, header)


# -- files --------------------------------------------------------------------------------------------------------------


def restrict_files(readable: Sequence[str], writable: Sequence[str]) -> int:
    """Leave only these folders readable and writable (Landlock); return the version of the kernel's interface.

    From version 4 on TCP is refused too, from version 6 on signals to processes outside.

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """
    version = _call(_LANDLOCK["create"], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", rights, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = _call(
        _LANDLOCK["create"], ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    execute, write_file, read_file, list_folder, truncate, control = 1, 2, 4, 8, 1 << 14, 1 << 15
    granted = [(p, execute | read_file | list_folder) for p in readable] + [(p, rights) for p in writable]
    for path, access in granted:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= execute | write_file | read_file | truncate | control
        rule = struct.pack("<Qi", access & rights, handle)
        _call(_LANDLOCK["add"], ctypes.c_int(rules), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
        os.close(handle)
    _prctl("no_new_privileges", 1)
    _call(_LANDLOCK["restrict"], ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    return version


def program_folders() -> list[str]:
    """Return what a candidate may read: the interpreter, the libraries, this package, and the system's shared data."""
    own = str(Path(__file__).resolve().parent.parent)
    folders = [sys.prefix, sys.base_prefix, own, *(p for p in sys.path if p and os.path.isdir(p))]
    folders += [os.path.dirname(os.path.realpath(sys.executable))]
    folders += [
        "/usr",
        "/lib",
        "/lib64",
        "/lib32",
        "/bin",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/proc",
        "/sys/devices",
    ]
    folders += ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
    return list(dict.fromkeys(os.path.realpath(f) for f in folders if os.path.exists(f)))


def _reachable(folder: str, user: int) -> bool:
    """Return whether another user can enter the folder: every part of its path lets others through."""
    path = Path(folder)
    return all(p.stat().st_mode & stat.S_IXOTH or p.stat().st_uid == user for p in (path, *path.parents) if p.is_dir())


def foreign_user(number: int) -> int | None:
    """Return the user that job ``number`` runs as; None where the judge is not root, or that user could not read Python."""
    if os.geteuid() != 0:
        return None
    user = FIRST_USER + number % N_USERS
    needed = [
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).resolve().parent),
        *(p for p in sys.path if os.path.isdir(p)),
    ]
    return user if all(_reachable(f, user) for f in needed if f) else None


# -- all of it ----------------------------------------------------------------------------------------------------------


def confine(workdir: str, user: int | None, executing: bool) -> list[str]:
    """Confine this process for good; return the measures that could not be taken, with the reason.

    Args:
        workdir: the one folder that stays writable; it belongs to ``user`` already.
        user: whom to become; None to stay.
        executing: programs may be started (compilers need an assembler).
    """
    missing: list[str] = []

    def attempt(what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, AttributeError, ValueError) as error:
            missing.append(f"{what}: {error}")

    def become() -> None:
        assert user is not None
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_PROCESSES, MAX_PROCESSES))

    if user is not None:
        attempt("user", become)
    # After the change of user, which makes a process dumpable and forgets the signal.
    attempt("end with the judge", lambda: _prctl("pdeathsig", signal.SIGKILL))
    attempt("privacy", lambda: _prctl("dumpable", 0))
    attempt("files", lambda: restrict_files(program_folders(), [workdir, "/dev/null"]))
    attempt("system calls", lambda: refuse_calls(executing))
    return missing


@attrs.frozen
class Measure:
    """One thing that keeps candidates in.

    Attributes:
        name: short.
        holds: whether this machine has it.
        detail: what it does, or why it is missing and what that costs.
    """

    name: str
    holds: bool
    detail: str


def survey() -> tuple[Measure, ...]:
    """Return what this machine offers, each measure tried in a child process."""

    def tried(action: Callable[[], object]) -> str:
        """Return the reason why ``action`` fails in a child; empty where it does not."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                action()
            except BaseException as error:
                words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                os.write(writing, words.encode()[:400] or b"failed")
            os._exit(0)
        os.close(writing)
        text = os.read(reading, 500).decode(errors="replace")
        os.close(reading)
        os.waitpid(child, 0)
        return text

    def become() -> None:
        if foreign_user(0) is None:
            cause = "the judge is not root" if os.geteuid() else "another user could not read this Python"
            raise OSError(errno.EPERM, cause)

    users = f"{FIRST_USER} to {FIRST_USER + N_USERS - 1}"
    found = []
    for name, action, good, cost in (
        ("user", become,
         f"candidates run as users {users}, with {MAX_PROCESSES} processes each",
         "candidates run as you"),
        ("files", lambda: restrict_files(program_folders(), ["/dev/null"]),
         "Landlock: candidates read the libraries and write one folder",
         "candidates read and write what you can"),
        ("system calls", lambda: refuse_calls(False),
         "seccomp: no network, processes, programs, tracing or namespaces",
         "candidates can open connections, start programs and fork until the deadline"),
        ("processes", Namespaces,
         "namespace: candidates see no other process, and all that they start ends at once",
         "candidates may signal your processes; what they start is ended one by one"),
        ("orphans", adopt_orphans,
         "every descendant ends with its job",
         "a descendant that leaves its group may outlive its job"),
    ):  # fmt: skip
        reason = tried(action)
        found.append(Measure(name, not reason, good if not reason else f"{reason}; {cost}"))
    return tuple(found)


__all__ = ["Measure", "Namespaces", "adopt_orphans", "confine", "foreign_user", "survey"]
