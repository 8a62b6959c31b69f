"""The command ``drt ops coverage``: how much of real models the operators say."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_common import CODES, GOOD, NO, OpsOption, bad_usage, examples, require_file

if TYPE_CHECKING:
    from .coverage_model import ModelCoverage
    from .coverage_suite import Results

#: Width of tables that do not go to a terminal, columns.
PLAIN_WIDTH = 160

EPILOG = examples(
    "drt ops coverage model.py",
    "drt ops coverage mypackage.models:make_block --check",
    "drt ops coverage --zoo --check -o build/coverage.json --resume",
    "drt ops coverage models/ --require 99",
    CODES,
)


def coverage(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="X...",
            help="FILE.py with `class Model`, or a family of factories (public functions without required parameters); "
            "package.module:factory; or a directory of such files.",
        ),
    ] = None,
    zoo: Annotated[bool, typer.Option("--zoo", help="The models of benchmarks/zoo; needs a checkout.")] = False,
    ops: OpsOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run each graph in PyTorch, in float64, and compare it with its model.")
    ] = False,
    require: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Exit with 1 if fewer nodes are known in any total.")
    ] = None,
    deadline: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="For one model.")] = 300.0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="Keep the rows there as they come.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what the output holds, except for models that failed.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the tables there, with versions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")] = False,
) -> int:
    """Count which operators of models are known, by number, FLOPs and bytes.

    A node is known where an operator says it.  A model that cannot be imported is a row with its reason.
    """
    from . import cli_view, coverage_suite
    from .files import finished_file, require_writable

    specs = [*(models or ())]
    if zoo:
        if not coverage_suite.ZOO.is_dir():
            raise bad_usage("the zoo is not part of an installed package, expected a checkout", subject="--zoo")
        specs.append(str(coverage_suite.ZOO))
    if not specs:
        raise bad_usage("no model given, expected FILE.py, package.module:factory, a directory or --zoo")
    if resume and output is None:
        raise bad_usage("has nothing to resume, expected -o FILE.json too", subject="--resume")
    for file in ops or ():
        require_file(file)
    for path in (output, markdown):
        if path is not None:
            require_writable(path)
    entries = coverage_suite.find_models(specs)
    with cli_view.progress(quiet) as progress:
        results = coverage_suite.cover_suite(
            entries, ops=ops or (), check=check, deadline_s=deadline, output=output, resume=resume, progress=progress
        )
    if markdown is not None:
        with finished_file(markdown, to_markdown(results)):
            pass
    if as_json:
        print(results.to_json(), end="")
    else:
        show(results)
    failed = any(r.status == "failed" for r in results.rows)
    below = require is not None and known_percent(results.rows)[0] < require
    return NO if failed or below else GOOD


# -- tables -----------------------------------------------------------------------------------------------------------

HEADS = ("model", "size", "nodes", "known %", "FLOP %", "byte %", "export s", "import s", "against the model")


def percent(part: float, whole: float) -> float:
    """Return what is left of ``whole`` without ``part``, in percent; everything of nothing."""
    return 100.0 if whole == 0 else 100.0 * (1 - part / whole)


def known_percent(rows: Sequence[ModelCoverage]) -> tuple[float, float, float]:
    """Return the known share of all rows together: of nodes, of FLOPs, of bytes."""
    return (
        percent(sum(r.n_opaque for r in rows), sum(r.n_nodes for r in rows)),
        percent(sum(r.opaque_flops for r in rows), sum(r.flops for r in rows)),
        percent(sum(r.opaque_bytes for r in rows), sum(r.bytes for r in rows)),
    )


def _shown(value: float) -> str:
    """Return percent with one digit, rounded down: 100 means all."""
    return "100" if value == 100 else f"{math.floor(value * 10) / 10:.1f}"


def _cells(row: ModelCoverage) -> tuple[str, ...]:
    if row.status == "skipped":
        return (row.model, "", "", "", "", "", "", "", f"skipped: {row.reason}")
    if not row.n_nodes:
        return (row.model, "", "", "", "", "", "", "", f"{row.status}: {row.reason}")
    shares = [_shown(v) for v in known_percent([row])]
    c = row.comparison
    if row.status == "failed":
        verdict = f"failed: {row.reason}"
    elif c is None:
        verdict = "-"
    elif c.bitwise:
        verdict = f"bitwise, {c.dtype}"
    else:
        verdict = f"{c.error:.0e}, {c.dtype}"
    return (row.model, row.size, str(row.n_nodes), *shares, f"{row.export_s:.1f}", f"{row.import_s:.2f}", verdict)


def _total(rows: Sequence[ModelCoverage]) -> tuple[str, ...]:
    counted = [r for r in rows if r.n_nodes]
    compared = [r for r in counted if r.comparison is not None]
    bitwise = sum(r.comparison.bitwise for r in compared if r.comparison is not None)
    good = sum(r.status == "good" for r in counted)
    verdict = f"{good} good, {bitwise} of {len(compared)} bitwise" if compared else f"{good} good"
    shares = [_shown(v) for v in known_percent(rows)]
    times = f"{sum(r.export_s for r in rows):.1f}", f"{sum(r.import_s for r in rows):.2f}"
    return (f"{len(counted)} models", "", str(sum(r.n_nodes for r in rows)), *shares, *times, verdict)


def _targets(rows: Sequence[ModelCoverage]) -> list[tuple[str, ...]]:
    """Return a line for each target that no operator says, the most frequent first."""
    found = defaultdict(list)
    for row in rows:
        for target in row.opaque:
            found[target.target].append((row.model, target))
    flops = sum(r.flops for r in rows)
    lines: list[tuple[str, ...]] = []
    for name, uses in sorted(found.items(), key=lambda item: (-sum(t.count for _, t in item[1]), item[0])):
        models = [m for m, _ in uses]
        shown = ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")
        part = 100 * sum(t.flops for _, t in uses) / flops if flops else 0.0
        lines.append((name, str(sum(t.count for _, t in uses)), f"{part:.2g}", shown, uses[0][1].reason))
    return lines


TARGET_HEADS = ("no operator says", "nodes", "FLOP %", "models", "reason")


def show(results: Results) -> None:
    """Print the tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in HEADS:
        text = head in (HEADS[0], HEADS[1], HEADS[-1])
        table.add_column(head, justify="left" if text else "right", no_wrap=head != HEADS[-1], overflow="fold")
    for row in results.rows:
        table.add_row(*map(escape, _cells(row)))
    if len(results.rows) > 1:
        table.add_row(*map(escape, _total(results.rows)), style="bold")
    out.print(table)
    targets = _targets(results.rows)
    if targets:
        out.print()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in TARGET_HEADS:
            table.add_column(head, overflow="fold")
        for line in targets:
            table.add_row(*map(escape, line))
        out.print(table)


def to_markdown(results: Results) -> str:
    """Return the tables as a page."""

    def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
        rule = ["---"] * len(heads)
        return "\n".join(
            "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in (heads, rule, *lines)
        )

    lines = [_cells(r) for r in results.rows]
    found = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    targets = _targets(results.rows)
    opaque = table(TARGET_HEADS, targets) if targets else "There is none."
    return f"""# What the operators cover

Written by `drt ops coverage --zoo --check --markdown docs/coverage.md`; versions: {found}.

The models of `benchmarks/zoo/` are built without weights.  Nodes, shares and times are of the published width on the meta
device where *size* is `full` (language models with two layers, or one period of their pattern), else of a small
configuration.  A node is *known* where an operator says it; FLOPs and bytes are weighted by what the nodes compute, read and
write at that size.  *export* is the CPU time of `torch.export.export`, *import* what importing took beside it.  *Against the
model*: a small configuration, imported and run in PyTorch through its graph and through its written source, on random
weights and inputs; `bitwise`, or the largest difference relative to the largest magnitude of a result.

{table(HEADS, [*lines, _total(results.rows)])}

## What is left to PyTorch

{opaque}
"""
