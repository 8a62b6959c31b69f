"""Many models, one at a time, each under a deadline in a process that may be killed; results survive an interruption."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import platform
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from . import __version__
from .coverage_model import Comparison, ModelCoverage, OpaqueTarget, cover_model
from .files import draft_of
from .ir import UsageError, load_ops

#: Where a checkout keeps its models.
ZOO = Path(__file__).resolve().parent / "benchmarks" / "zoo"
#: Packages whose versions decide what a model exports to.
PACKAGES = ("torch", "torchvision", "timm", "transformers", "diffusers", "torch-geometric")


#: A process that has held more memory than this is replaced before the next model.
MAX_BYTES = 6 << 30
#: Seconds within which a process must be ready for its first model.
START_S = 600.0


@attrs.frozen
class Entry:
    """A model of a suite.

    Attributes:
        name: of the model.
        spec: what :func:`drt.frontend.load_model` takes.
        group: the file's name.
        has_full: whether its factory takes ``full``.
    """

    name: str
    spec: str
    group: str = ""
    has_full: bool = False


@attrs.frozen
class Results:
    """What a run has found so far, with what it depends on."""

    rows: tuple[ModelCoverage, ...]
    versions: dict[str, str] = attrs.field(factory=lambda: versions())

    def to_json(self) -> str:
        """Return the results as JSON."""
        return json.dumps({"versions": self.versions, "rows": [attrs.asdict(r) for r in self.rows]}, indent=1) + "\n"


def versions() -> dict[str, str]:
    """Return package -> version of what is installed here."""
    found = {"drt": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# -- suites -----------------------------------------------------------------------------------------------------------


def find_models(specs: Iterable[str]) -> list[Entry]:
    """Return the models that the words of a command line name.

    Args:
        specs: a directory (its files, without those whose names begin with ``_``); ``FILE.py``, either a model
            (``class Model`` and ``get_inputs``) or a family of factories: public functions without required parameters;
            or anything else that :func:`drt.frontend.load_model` takes.

    Raises:
        UsageError: there is no such file, or nothing in it is a model.
    """
    found: list[Entry] = []
    for spec in specs:
        path = Path(spec)
        if path.is_dir():
            files = sorted(f for f in path.glob("*.py") if not f.name.startswith("_"))
            if not files:
                raise UsageError("has no Python files, expected models", subject=spec)
            for file in files:
                found += _models_of(file)
        elif spec.endswith(".py"):
            found += _models_of(path)
        else:
            found.append(Entry(spec.rpartition(":")[2] or spec, spec, spec.partition(":")[0]))
    return found


def _models_of(file: Path) -> list[Entry]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("no such file, expected a model", subject=str(file)) from None
    except (OSError, UnicodeDecodeError, SyntaxError):
        return [Entry(file.stem, str(file), file.stem)]  # loading it says what is wrong
    if any(isinstance(n, ast.ClassDef) and n.name == "Model" for n in tree.body):
        return [Entry(file.stem, str(file), file.stem)]
    entries = [
        Entry(n.name, f"{file}:{n.name}", file.stem, any(a.arg == "full" for a in n.args.args))
        for n in tree.body
        if isinstance(n, ast.FunctionDef) and not n.name.startswith("_") and len(n.args.args) == len(n.args.defaults)
    ]
    if not entries:
        raise UsageError(
            "has neither class Model nor a function without required parameters, expected one", subject=str(file)
        )
    return entries


# -- running ----------------------------------------------------------------------------------------------------------


def cover_suite(
    entries: Sequence[Entry], *, ops: Sequence[Path] = (), check: bool = False, deadline_s: float = 300.0,
    output: Path | None = None, resume: bool = False, progress: Callable[[str, int, int, str], None] | None = None,
) -> Results:  # fmt: skip
    """Cover models one at a time, each in a child process under a deadline.

    Args:
        entries: the models.
        ops: files of operator definitions to add to the built-in ones.
        check: compare each graph with its model.
        deadline_s: for one model, seconds.
        output: a JSON file that holds the rows so far after each model.
        resume: take over the rows of ``output`` that are good or skipped, instead of making them again.
        progress: called with the stage, how many models are done, how many there are, and the model's name.
    """
    kept = {r.spec: r for r in _read(output) if r.status != "failed"} if resume and output and output.exists() else {}
    rows: list[ModelCoverage] = []
    child: _Child | None = None
    try:
        for done, entry in enumerate(entries):
            if progress:
                progress("models", done, len(entries), entry.name)
            if entry.spec in kept:
                rows.append(kept[entry.spec])
                continue
            # One process for many models pays for its imports once; one that has grown is replaced by a fresh one.
            if child is None or not child.alive or child.peak_bytes > MAX_BYTES:
                if child is not None:
                    child.close()
                child = _Child(ops)
            rows.append(child.cover(entry, check, deadline_s))
            if output is not None:
                with draft_of(output) as draft:
                    draft.write_text(Results(tuple(rows)).to_json())
        if progress:
            progress("models", len(entries), len(entries), "")
    finally:
        if child is not None:
            child.close()
    return Results(tuple(rows))


class _Child:
    """A process that covers the models it is told, one line of JSON each way."""

    def __init__(self, ops: Sequence[Path]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *map(str, ops)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self.alive = True
        self.peak_bytes = 0
        self._line(START_S)

    def cover(self, entry: Entry, check: bool, deadline_s: float) -> ModelCoverage:
        request = {"spec": entry.spec, "name": entry.name, "check": check, "full": entry.has_full}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(deadline_s)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            return ModelCoverage(entry.name, entry.spec, "failed", f"is not done after {deadline_s:g} s")
        if not line:
            self.close()
            code = self.process.returncode
            return ModelCoverage(entry.name, entry.spec, "failed", f"its process ended with exit code {code}")
        answer = json.loads(line)
        self.peak_bytes = answer["peak_bytes"]
        return row_of(answer["row"])

    def _line(self, limit_s: float) -> bytes:
        """Return the next line that the process writes, b"" where it has ended; raises TimeoutError."""
        assert self.process.stdout is not None
        line, end_s = b"", time.monotonic() + limit_s
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end_s - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                return b""
            line += part
        return line

    def close(self) -> None:
        """End the process."""
        self.alive = False
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def row_of(data: dict[str, Any]) -> ModelCoverage:
    """Return a row from its JSON."""
    comparison = data["comparison"]
    return ModelCoverage(
        **{
            **data,
            "opaque": tuple(OpaqueTarget(**t) for t in data["opaque"]),
            "comparison": None if comparison is None else Comparison(**comparison),
        }
    )


def _read(output: Path) -> list[ModelCoverage]:
    try:
        return [row_of(r) for r in json.loads(output.read_text())["rows"]]
    except (ValueError, KeyError, TypeError):
        raise UsageError("is not a file of results, expected one to resume", subject=str(output)) from None


def _serve(files: Sequence[str]) -> None:
    """Answer requests on standard input until it ends."""
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    ops = load_ops(*files) if files else None
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        row = cover_model(request["spec"], name=request["name"], ops=ops, check=request["check"], full=request["full"])
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"row": attrs.asdict(row), "peak_bytes": peak_bytes}), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1:])
