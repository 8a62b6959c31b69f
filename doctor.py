"""What this machine offers DRT: versions, the device, the compilers, optional packages, and what keeps candidates in."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import attrs

from . import __version__

#: Distributions of each extra, with what is lost without it.
EXTRAS = {
    "jax": (("jax",), "programs of JAX cannot be imported or written"),
    "synth": (("ortools", "pyarrow"), "drt synth writes no parquet, and solves no dimensions that sampling misses"),
    "llm": (("transformers",), "no language model writes kernels"),
    "rl": (("verl", "ray"), "no training"),
}


@attrs.frozen
class Finding:
    """One line of the examination.

    Attributes:
        topic: the group it belongs to.
        name: what was looked at.
        status: ``good``; ``limited``: DRT works with less; ``missing``: DRT does not work.
        detail: a version, or what the lack of it means.
    """

    topic: str
    name: str
    status: str
    detail: str

    def to_dict(self) -> dict[str, str]:
        """Return the finding as JSON values."""
        return attrs.asdict(self)


def examine() -> tuple[Finding, ...]:
    """Return what was found, in the order in which it is shown."""
    return (*_versions(), *_device(), *_compilers(), *_interpreter(), *_jail(), *_extras())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _versions() -> list[Finding]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors"
    found = [
        Finding("machine", "system", "good", system),
        Finding("machine", "python", "good", platform.python_version()),
    ]
    found.append(Finding("machine", "drt", "good", __version__))
    for name in ("torch", "triton", "numpy", "attrs", "lark"):
        version = _version(name)
        found.append(Finding("machine", name, "good" if version else "missing", version or "not installed"))
    return found


def _device() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        why = "no CUDA device: kernels are verified by interpretation and their times are predicted"
        return [Finding("device", "cuda", "limited", why)]
    found = []
    for k in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(k)
        text = f"{p.name}, {p.total_memory / 2**30:.0f} GiB, {p.multi_processor_count} multiprocessors, sm_{p.major}{p.minor}"
        found.append(Finding("device", f"cuda:{k}", "good", text))
    return [*found, Finding("device", "cuda runtime", "good", str(torch.version.cuda))]


def _compilers() -> list[Finding]:
    from .backend.verify.compiling import tools

    lost = {"ptxas": "the gate compile cannot run", "cuobjdump": "registers and spills of kernels are not known"}
    return [
        Finding("compilers", name, "good" if place else "limited", place or f"not found; {lost[name]}")
        for name, place in tools().items()
    ]


def _interpreter() -> list[Finding]:
    from .backend.sandbox import interpreter_sandbox

    lost = "the gates trace, memory and meaning cannot run"
    if not interpreter_sandbox().wait_ready():
        return [Finding("judge", "interpreter", "missing", f"its process does not come up; {lost}")]
    return [Finding("judge", "interpreter", "good", "its process is up")]


def _jail() -> list[Finding]:
    from .backend.jail import survey

    return [Finding("judge", f"jail: {m.name}", "good" if m.holds else "limited", m.detail) for m in survey()]


def _extras() -> list[Finding]:
    found = []
    for extra, (names, lost) in EXTRAS.items():
        versions = {n: _version(n) for n in names}
        absent = [n for n, v in versions.items() if not v]
        listing = ", ".join(f"{n} {v}" for n, v in versions.items() if v)
        detail = f"{', '.join(absent)} not installed (pip install 'drt[{extra}]'): {lost}" if absent else listing
        found.append(Finding("extras", extra, "limited" if absent else "good", detail))
    return found
