"""What the command ``drt`` shows: progress, reports, verdicts, operators and outputs, drawn with rich."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from .report import CompileReport, FragmentRow, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from .backend.verify import Verdict
    from .doctor import Finding
    from .ir import OpDef
    from .program import Summary
    from .ways import ImportSummary

#: Width of tables that do not go to a terminal, columns.
PLAIN_WIDTH = 132


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """Yield a callback that shows the stages of a compile on standard error.

    On a terminal each stage is a bar that disappears at the end; elsewhere each stage is one line, written when it begins.
    """
    if quiet:
        yield lambda stage, done, total, detail="": None
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, TextColumn("{task.fields[detail]}"), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int, detail: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, detail="")
            bars.update(tasks[stage], completed=done, total=total, detail=escape(detail))  # type: ignore[arg-type]

        yield show


class _Lines:
    """Progress without a terminal: one line per stage."""

    def __init__(self) -> None:
        self.stage = ""
        self.start_s = time.monotonic()

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        if stage != self.stage:
            self.stage = stage
            count = f" ({total})" if total > 1 else ""
            print(f"[{time.monotonic() - self.start_s:6.1f} s] {stage}{count}", file=sys.stderr, flush=True)


def format_time(time_us: float | None) -> str:
    """Return a time with a unit that keeps three digits.

    >>> [format_time(t) for t in (None, 3.14159, 1234.5, 2.5e6)]
    ['-', '3.14 us', '1.23 ms', '2.5 s']
    """
    if time_us is None:
        return "-"
    scale, unit = (1e6, "s") if time_us >= 1e6 else (1e3, "ms") if time_us >= 1e3 else (1.0, "us")
    return f"{time_us / scale:.3g} {unit}"


def _fragment_cells(number: int, row: FragmentRow) -> tuple[str, ...]:
    if row.is_leftover:
        kernel = f"[yellow]left to PyTorch:[/yellow] {escape(row.reason)}"
    else:
        kernel = escape(f"{row.writer}: {row.variant}" if row.variant else row.reason)
    mark = " *" if row.time_kind == "predicted" else ""
    times = (format_time(t) + (mark if t is not None else "") for t in (row.time_us, row.eager_us, row.compiled_us))
    verified = f"[green]{escape(row.verified)}[/green]" if row.verified else "-"
    return (str(number), escape(row.operators), kernel, verified, *times)


def report_table(report: CompileReport) -> Table:
    """Return the fragments of ``report`` as a table, one row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "operators", "kernel", "verified"):
        table.add_column(name, overflow="fold")
    for name in ("time", "eager", "torch.compile"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(report.rows, 1):
        table.add_row(*_fragment_cells(number, row))
    return table


def show_report(report: CompileReport) -> None:
    """Print the table of fragments, the whole model's verdict and times, and where the file is."""
    console = _console()
    console.print(report_table(report))
    flags = ", ".join(f"{name}={value}" for name, value in report.precision_flags.items())
    console.print(f"\ndevice: {report.device}; {flags}", highlight=False, markup=False)
    if any(row.time_us is not None and row.time_kind == "predicted" for row in report.rows):
        console.print("* predicted by the roofline model, not measured", highlight=False, markup=False)
    if report.serves:
        console.print(f"sizes: {report.serves}", highlight=False, markup=False)
    if report.whole_us:
        times = ", ".join(f"{who} {format_time(value)}" for who, value in report.whole_us.items())
        console.print(f"whole model: {times}", highlight=False, markup=False)
    running = [row for row in report.rows if row.variant or row.is_leftover]
    kernels = len(running) - len(report.leftovers)
    state = "[green]verified[/green]" if report.whole.passed else "[red]NOT verified[/red]"
    count = f"{kernels} of {len(running)} fragments are kernels"
    console.print(
        f"{state}: {escape(str(report.output))}: {count}, {report.elapsed_s:.1f} s",
        highlight=False,
        soft_wrap=True,
    )


def show_verdict(verdict: Verdict, as_json: bool = False) -> None:
    """Print a verdict: the first failing gate decides, so it is named first."""
    if as_json:
        print(verdict.to_json(indent=2))
        return
    console = _console()
    colour = "green" if verdict.passed else "red"
    console.print(f"[{colour}]{escape(verdict.summary())}[/{colour}]", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    for gate in verdict.gates:
        table.add_row(f"  {gate.gate}", gate.status, f"{gate.time_ms:.0f} ms", escape(gate.reason))
    console.print(table)
    if verdict.advice:
        console.print(f"  to mend: {escape(verdict.advice)}", highlight=False, soft_wrap=True)
    for flag in verdict.flags:
        console.print(f"  flag: {escape(flag)}", highlight=False, soft_wrap=True)


def show_verdicts(names: Sequence[str], verdicts: Sequence[Verdict], report: str) -> None:
    """Print one line for each candidate, and what the pool says of all of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("candidate", overflow="fold")
    table.add_column("verdict", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for name, verdict in zip(names, verdicts, strict=True):
        colour = "green" if verdict.passed else "red"
        table.add_row(
            escape(name), f"[{colour}]{escape(verdict.summary())}[/{colour}]", f"{verdict.time_ms / 1e3:.1f} s"
        )
    console = _console()
    console.print(table)
    console.print(escape(report), highlight=False, soft_wrap=True)


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what was found on this machine, group by group."""
    console = _console()
    colours = {"good": "green", "limited": "yellow", "missing": "red"}
    for topic in dict.fromkeys(f.topic for f in findings):
        console.print(f"[bold]{topic}[/bold]")
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for f in findings:
            if f.topic == topic:
                table.add_row(
                    f"  {escape(f.name)}", f"[{colours[f.status]}]{f.status}[/{colours[f.status]}]", escape(f.detail)
                )
        console.print(table)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def show_operators(operators: Sequence[OpDef], limits: bool = False) -> None:
    """Print one line per operator, or with ``limits`` one per limitation.

    A line says the operator's family, the kind of its meaning, the libraries that have it, with ``*`` where one is known to
    differ for some inputs, and what it does.  JAX has what has a clause of its own, and what the meaning can be written as.
    """
    from .ir.docgen import MEANINGS
    from .ir.opdef import DIFFERENCES, Hook, Opaque, Random
    from .ir.printing import dtype_text

    heads = ("operator", "family", "meaning", "torch", "jax", "what it does")
    rows: list[tuple[str, ...]] = []
    if limits:
        heads = ("operator", "library", "results", "for", "inputs", "because")
        rows = [
            (op.name, x.library, DIFFERENCES[x.kind], dtype_text(x.dtypes), x.inputs, x.reason)
            for op in operators
            for x in op.limits
        ]
    for op in () if limits else operators:
        written = not isinstance(op.body, (Hook, Opaque, Random))
        has = {"torch": "torch" in op.calls, "jax": "jax" in op.calls or written}
        differing = {x.library for x in op.limits}
        marks = [("yes" if has[k] else "-") + ("*" if k in differing else "") for k in has]
        rows.append((op.name, op.family, MEANINGS[type(op.body)], *marks, op.doc))
    console = _console()
    if not limits:
        # One line each: what an operator does gives way where the terminal is narrow.
        taken = sum(max((len(cell) for cell in column), default=0) + 2 for column in list(zip(heads, *rows))[:-1])
        rows = [(*row[:-1], _shortened(row[-1], max(20, console.width - taken))) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=not limits or head not in ("inputs", "because"))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    if not limits and any(op.limits for op in operators):
        console.print("* differs for some inputs; drt ops list --limits says which", highlight=False, markup=False)


def format_count(value: object, unit: str = "") -> str:
    """Return a count with a prefix that keeps three digits; a symbolic one stays as it is.

    >>> [format_count(v, "FLOPs") for v in (999, 12345, 3.2e9, "2*B")]
    ['999 FLOPs', '12.3 kFLOPs', '3.2 GFLOPs', '2*B FLOPs']
    """
    if not isinstance(value, (int, float)):
        return f"{value} {unit}".strip()
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}".strip()
    return f"{value:g} {unit}".strip()


def show_import(summary: ImportSummary, path: Path) -> None:
    """Print what was imported: the operators, what no operator says, and the size of the whole."""
    console = _console()
    graph = summary.graph
    operators = ", ".join(f"{name} {n}" if n > 1 else name for name, n in summary.operators.items())
    console.print(f"operators: {operators or 'none'}", highlight=False, markup=False)
    for target, n, reason in summary.opaque:
        count = f" ({n} nodes)" if n > 1 else ""
        console.print(f"opaque: {target}{count}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if graph.symbols:
        ranges = ", ".join(f"{s.name} in {s.lo}..{s.hi}" for s in graph.symbols)
        console.print(f"symbols: {ranges}", highlight=False, markup=False)
    state = f"{format_count(summary.n_parameters)} parameters ({format_count(summary.parameter_bytes, 'B')})"
    work = ""
    if summary.flops is not None:
        work = f", {format_count(summary.flops, 'FLOPs')}, {format_count(summary.bytes, 'B')} moved at least"
    console.print(f"{state}{work}", highlight=False, markup=False, soft_wrap=True)
    nodes = f"{len(graph.nodes)} nodes: {summary.n_known} known, {summary.n_opaque} opaque"
    console.print(f"{path}: {graph.name}: {nodes}", highlight=False, markup=False, soft_wrap=True)


def show_summaries(summaries: Iterable[Summary]) -> None:
    """Print type and statistics of each output."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("output", "type", "mean", "std", "min", "max", "non-finite"):
        table.add_column(name, justify="left" if name in ("output", "type") else "right", no_wrap=True)
    for row in summaries:
        numbers = (f"{value:.6g}" for value in (row.mean, row.std, row.minimum, row.maximum))
        table.add_row(f"%{row.name}", escape(str(row.type)), *numbers, str(row.n_nonfinite))
    _console().print(table)
