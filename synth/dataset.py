"""Streams of programs, rows of a data set, and files: every row is a pure function of the specification, seed and index."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from ..ir import DrtError, UsageError, checked, order_of
from ..ir.cost import graph_cost
from .calls import known_size
from .sampler import Judge, Program, Sampler, Spec

#: The columns of a data set, in order; ``source`` is filled by the caller, who knows a back end.
COLUMNS = ("id", "level", "ir", "source", "inputs", "ops", "flops", "bytes", "seed", "index")
FORMATS = ("parquet", "jsonl", "py", "ir")

Source = Callable[[Program], str]
_WORKER: Sampler | None = None


@checked
def stream(sampler: Sampler, n: int, *, seed: int = 0, start: int = 0, unique: bool = True) -> Iterator[Program]:
    """Yield ``n`` programs in the order of their numbers, each at most once up to names and order.

    Args:
        sampler: draws them.
        n: how many.
        seed: of the stream.
        start: the first number.
        unique: whether programs that have been yielded before are passed over.

    Raises:
        UsageError: hardly any number gives a new program (the space is exhausted).
    """
    seen: set[str] = set()
    index, given, since = start, 0, 0
    while given < n:
        program = sampler.program(index, seed)
        index, since = index + 1, since + 1
        if program is not None and not (unique and program.key in seen):
            if unique:
                seen.add(program.key)
            given, since = given + 1, 0
            yield program
        elif since > 2000:
            raise UsageError(f"only {given} different programs found, expected {n}; widen the sizes or the operators")


@checked
def input_specs(program: Program) -> list[dict[str, Any]]:
    """Return what each graph input must be, as JSON values.

    Keys: ``name``, ``dtype``, ``shape``; ``range`` where elements are bounded: both ends, which they may take, or null; and
    ``order`` where they stand in order along the last axis: ``ascending``, or ``anchored`` if the first is the lower end, too.
    """
    out = []
    for i in program.graph.inputs:
        entry: dict[str, Any] = {"name": i.name, "dtype": i.type.dtype, "shape": list(i.type.shape)}
        if i.name in program.ranges:
            entry["range"] = [end if isfinite(end) else None for end in program.ranges[i.name]]
            order = order_of(program.ranges[i.name])
            if order:
                entry["order"] = order
        out.append(entry)
    return out


@checked
def row(program: Program, sampler: Sampler, source: Source | None = None) -> dict[str, Any]:
    """Return one program as a row of :data:`COLUMNS`; FLOPs and bytes are -1 where the definitions do not tell them."""
    try:
        cost = graph_cost(program.graph, sampler.relations.ops)
        flops, size = float(known_size(cost.flops)), known_size(cost.bytes)
    except DrtError:
        flops, size = -1.0, -1
    return {
        "id": program.key,
        "level": len(program.graph.nodes),
        "ir": program.text,
        "source": source(program) if source is not None else "",
        "inputs": json.dumps(input_specs(program)),
        "ops": [n.op for n in program.graph.nodes],
        "flops": flops,
        "bytes": size,
        "seed": program.seed,
        "index": program.index,
    }


def _start_worker(spec: Spec, source: Source | None, judge: Judge | None) -> None:
    global _WORKER, _SOURCE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool
    _WORKER, _SOURCE = Sampler(spec, judge=judge), source


_SOURCE: Source | None = None


def _work(job: tuple[int, int]) -> tuple[dict[str, Any] | None, dict[str, int]]:
    index, seed = job
    assert _WORKER is not None
    before = Counter(_WORKER.failures)
    program = _WORKER.program(index, seed)
    found = None if program is None else row(program, _WORKER, _SOURCE)
    return found, dict(_WORKER.failures - before)


@checked
def rows(
    spec: Spec, n: int, *, seed: int = 0, start: int = 0, workers: int = 1, source: Source | None = None,
    skip: Iterable[str] = (), sampler: Sampler | None = None, judge: Judge | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield ``n`` rows of different programs; the same ones for any number of workers.

    Args:
        spec: which programs.
        n: how many.
        seed: of the stream.
        start: the first number.
        workers: processes.
        source: gives the ``source`` column; must be importable by name for more than one worker.
        skip: ids that have been given before.
        sampler: to use where there is one worker; counts the failures of all workers.
        judge: of the sampler; must be importable by name for more than one worker.
    """
    seen = set(skip)
    given = missed = 0

    def candidates() -> Iterator[dict[str, Any] | None]:
        if workers <= 1:
            one = sampler or Sampler(spec, judge=judge)
            for index in itertools.count(start):
                program = one.program(index, seed)
                fresh = program is not None and program.key not in seen
                yield row(program, one, source) if fresh and program is not None else None
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        jobs = ((i, seed) for i in itertools.count(start))
        with context.Pool(workers, _start_worker, (spec, source, judge)) as pool:
            # Programs that are judged take long, and some much longer than others.
            for found, failures in pool.imap(_work, jobs, chunksize=16 if judge is None else 1):
                if sampler is not None:
                    sampler.failures.update(failures)
                yield found

    if n <= 0:
        return
    for r in candidates():
        if r is None or r["id"] in seen:
            missed += 1
            if missed > (5000 if given else 300):
                raise UsageError(
                    f"only {given} different programs found, expected {n}; widen the sizes or the operators"
                )
            continue
        missed = 0
        seen.add(r["id"])
        yield r
        given += 1
        if given == n:
            return


def write(path: Path, format: str, found: Iterable[dict[str, Any]]) -> int:
    """Write rows to a file, or for ``py`` and ``ir`` to one file each in a folder; return how many.

    Nothing is left behind if the rows stop with an error: the file appears when it is complete.

    Raises:
        UsageError: the path cannot be written, or the format is unknown.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}', expected one of {', '.join(FORMATS)}")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format in ("py", "ir"):
            partial.mkdir()
            for r in found:
                count += 1
                text = r["source"] if format == "py" else r["ir"]
                (partial / f"{r['index']:08d}_{r['id'][:8]}.{'py' if format == 'py' else 'drt'}").write_text(text)
        elif format == "jsonl":
            with partial.open("w") as out:
                for r in found:
                    count += 1
                    out.write(json.dumps(r) + "\n")
        else:
            count = _write_parquet(partial, found)
        if path.is_dir() and format in ("py", "ir"):
            for f in partial.iterdir():
                f.replace(path / f.name)
            partial.rmdir()
        else:
            partial.replace(path)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", place=str(path)) from None
    finally:
        if partial.is_dir():
            for f in partial.iterdir():
                f.unlink()
            partial.rmdir()
        else:
            with suppress(FileNotFoundError):
                partial.unlink()
    return count


def _write_parquet(path: Path, found: Iterable[dict[str, Any]]) -> int:
    pa, pq = _pyarrow()
    schema = pa.schema(
        [
            ("id", pa.string()), ("level", pa.int32()), ("ir", pa.string()), ("source", pa.string()),
            ("inputs", pa.string()), ("ops", pa.list_(pa.string())), ("flops", pa.float64()), ("bytes", pa.int64()),
            ("seed", pa.int64()), ("index", pa.int64()),
        ]
    )  # fmt: skip
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for r in found:
            batch.append(r)
            count += 1
            if len(batch) == 2000:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        if batch or not count:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    return count


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a parquet or jsonl file; raises UsageError where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start.lstrip()[:1] in (b"{", b"") and path.suffix != ".parquet":
            found = [json.loads(line) for line in path.read_text().splitlines() if line]
        elif start != b"PAR1":
            raise UsageError("is no data set of programs, expected one of parquet or jsonl", place=str(path))
        else:
            _, pq = _pyarrow()
            found = pq.read_table(path).to_pylist()
        missing = [c for r in found for c in COLUMNS if not isinstance(r, dict) or c not in r]
        if missing:
            raise UsageError(f"is no data set of programs: a row has no '{missing[0]}'", place=str(path))
        return found
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", place=str(path)) from None
    except ValueError as error:
        raise UsageError(f"is no data set of programs: {str(error).splitlines()[0]}", place=str(path)) from None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("parquet needs pyarrow, expected `pip install drt[synth]` or --format jsonl") from None
    return pyarrow, pyarrow.parquet


__all__ = ["COLUMNS", "FORMATS", "input_specs", "read", "row", "rows", "stream", "write"]
