"""What ``drt synth`` and ``drt synth stats`` do, without the parsing of their arguments."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from ..ir import UsageError, checked
from .dataset import FORMATS, Source, read, rows, write
from .profiles import PROFILES, Profile
from .sampler import Judge, Sampler, Spec
from .stats import chi_squared_p, describe, impossible_edges, possible_edges, uniformity

#: ``track(rows, total)``: an iterable that shows its progress.
Track = Callable[[Iterable[dict[str, Any]], int], Iterable[dict[str, Any]]]


#: Why the judge has programs drawn again.
REASONS = (
    "constant", "changes nothing", "ignores an input", "not finite", "out of scale", "does not run",
    "order of equal elements",
)  # fmt: skip


def find_profile(name: str) -> Profile:
    """Return a named profile, or the one that a JSON file describes with the fields of :class:`Profile`.

    Raises:
        UsageError: the name is unknown, or the file cannot be read or does not fit.
    """
    if name in PROFILES:
        return PROFILES[name]
    path = Path(name)
    if path.suffix != ".json":
        raise UsageError(f"unknown profile '{name}', expected {', '.join(PROFILES)} or FILE.json")
    try:
        fields = json.loads(path.read_text())
        given: dict[str, Any] = {"name": path.stem, **{k: tuple(v) if k == "menu" else v for k, v in fields.items()}}
        return Profile(**given)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", place=name) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"is no profile: {error}", place=name) from None


@checked
def generate(
    spec: Spec, n: int, output: str | os.PathLike[str], format: str, *, seed: int = 0, workers: int = 1, resume: bool = False,
    source: Source | None = None, judge: Judge | None = None, track: Track | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write ``n`` programs to a file or folder and return the statistics that were printed.

    Args:
        spec: which programs.
        n: how many.
        output: a file for ``parquet`` and ``jsonl``, a folder for ``py`` and ``ir``.
        format: one of FORMATS.
        seed: of the stream.
        workers: processes; the result does not depend on it.
        resume: go on after the rows that ``output`` holds.
        source: gives the PyTorch reference of a program.
        judge: says which programs are degenerate; they are drawn again with their operators kept.
        track: passes the rows on and shows how many of how many there are.

    Raises:
        UsageError: bad options, or a path that cannot be written; nothing is left half written.
        Unsatisfiable: no such program exists.
    """
    if n < 1:
        raise UsageError(f"{n} programs, expected at least 1")
    if workers < 1:
        raise UsageError(f"{workers} workers, expected at least 1")
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}', expected one of {', '.join(FORMATS)}")
    output = Path(output)
    if format in ("parquet", "jsonl") and output.is_dir():
        raise UsageError("is a directory, expected a file to write", place=str(output))
    done: list[dict[str, Any]] = []
    resumable = format in ("parquet", "jsonl")
    if resume and output.exists():
        if not resumable:
            raise UsageError(f"--resume reads parquet and jsonl, not {format}")
        done = read(output)
        other = {r["seed"] for r in done} - {seed}
        if other:
            raise UsageError(f"was made with seed {min(other)}, expected {seed}", place=str(output))
    first = max((r["index"] for r in done), default=-1) + 1
    sampler = Sampler(spec, judge=judge, progress=_reading if sys.stderr.isatty() else None)
    started = time.monotonic()
    fresh = rows(
        spec, n - len(done), seed=seed, start=first, workers=workers, source=source,
        skip=[r["id"] for r in done], sampler=sampler, judge=judge,
    )  # fmt: skip
    made: list[dict[str, Any]] = []
    interrupted = False

    def all_rows() -> Any:
        nonlocal interrupted
        yield from done
        try:
            for r in track(fresh, n - len(done)) if track is not None else fresh:
                made.append({"ops": r["ops"], "ir": r["ir"], "level": r["level"]})
                yield r
        except KeyboardInterrupt:
            # The rows that are there are whole: they are kept for --resume.
            if not resumable or not (made or done):
                raise
            interrupted = True

    count = write(output, format, all_rows())
    if interrupted:
        print(f"{count} of {n} programs in {output}; --resume goes on")
        raise KeyboardInterrupt
    seconds = time.monotonic() - started
    kept = [*done, *made]
    found = describe(kept)
    found["coverage"] = coverage(sampler, kept)
    found["model"] = uniformity(sampler, []).error
    found["p"] = marginal_p(sampler, kept)
    found["failures"] = dict(sampler.failures)
    print(f"{count} programs in {output} ({len(made) / max(seconds, 1e-9):.0f}/s)")
    show(found)
    if sampler.left_out:
        print(f"left out, for their dtypes are not among {', '.join(spec.dtypes)}: {', '.join(sampler.left_out)}")
    if sampler.degenerate:
        print(f"left out, for they compute nothing: {', '.join(sampler.degenerate)}")
    return found


def _reading(done: int, total: int) -> None:
    """Show how many definitions have been read, on a line that goes away."""
    text = f"reading definitions: {done} of {total}" if done < total else ""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def marginal_p(sampler: Sampler, made: list[dict[str, Any]]) -> float:
    """Return the p-value of Pearson's test of how often operators occur against what the exact model says."""
    counts = Counter(o for r in made for o in r["ops"])
    names = sampler.skeletons.names
    if not made:
        return 1.0
    expected = [len(made) * sum(float(t[k]) for t in sampler.skeletons.targets) for k in range(len(names))]
    return chi_squared_p([counts[n] for n in names], expected)


def coverage(sampler: Sampler, made: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many operators and producer-consumer-slot triples could occur and are impossible."""
    return {
        "operators": len(sampler.skeletons.names),
        "possible": len(possible_edges(sampler)),
        "impossible": len(impossible_edges(sampler)),
        "programs": len(made),
    }


def show(found: dict[str, Any]) -> None:
    """Print statistics for a person."""
    least, most = found["frequencies"]
    print(f"levels      {', '.join(f'{k}: {v}' for k, v in found['levels'].items())}")
    print(f"operators   {found['operators']} seen, {least} to {most} times each; chi-squared p = {found['p']:.3g}")
    known = found.get("coverage")
    if known:
        print(f"            {known['operators']} in the set; marginals of the exact model off by {found['model']:.1e}")
        share = found["edges"] / max(known["possible"], 1)
        print(f"edges       {found['edges']} of {known['possible']} possible triples ({share:.1%})")
    else:
        print(f"edges       {found['edges']} different triples of producer, consumer, slot")
    print(f"sizes       {found['ones']:.1%} are 1, {found['powers']:.1%} larger powers of two")
    print(f"elements    10 % {found['numel'][0]}, median {found['numel'][1]}, 90 % {found['numel'][2]}")
    failures = found.get("failures") or {}
    if failures.get("given up"):
        print(f"given up    {failures['given up']} numbers, for no sound program of their operators was found")
    drawn_again = {k: v for k, v in failures.items() if k in REASONS}
    if drawn_again:
        print("drawn again " + ", ".join(f"{k}: {v}" for k, v in sorted(drawn_again.items(), key=lambda i: -i[1])))
    print("histogram   " + ", ".join(f"{k}+: {v}" for k, v in found["dims"].items()))


@checked
def statistics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Print and return the statistics of a data set; raises UsageError where it cannot be read."""
    found = describe(read(Path(path)))
    show(found)
    return found


@checked
def make_spec(
    level: int, *, profile: str = "small", dtypes: str = "f32,i64,bool", ops: tuple[str, ...] = (),
    without: tuple[str, ...] = (), outputs: int = 1, max_depth: int | None = None, max_fan_out: int | None = None,
    min_flops: float = 0, max_flops: float | None = None, max_bytes: int | None = None, max_elements: int | None = None,
    solver: bool = False,
) -> Spec:  # fmt: skip
    """Return the specification that the command's options say; raises UsageError for an unknown profile."""
    law = find_profile(profile)
    law = attrs.evolve(
        law,
        min_flops=min_flops or law.min_flops,
        max_flops=max_flops if max_flops is not None else law.max_flops,
        max_bytes=max_bytes if max_bytes is not None else law.max_bytes,
        max_elements=max_elements if max_elements is not None else law.max_elements,
    )
    return Spec(
        level=level, dtypes=tuple(d.strip() for d in dtypes.split(",") if d.strip()), ops=ops, without=without,
        profile=law, outputs=outputs, max_depth=max_depth, max_fan_out=max_fan_out, solver=solver,
    )  # fmt: skip
