"""The command ``drt``: arguments in, exit codes out; the work is done elsewhere.

Exit codes: 0 it is good; 1 the answer is no (a verification failed, ``--strict`` found leftovers); 2 bad usage or bad input;
3 a bug of DRT; 130 interrupted.  Modules that do work are imported inside the commands, so that help is instant.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__, cli_coverage, cli_judge, cli_ways
from .cli_common import (
    BAD_INPUT,
    BUG,
    CODES,
    GOOD,
    INTERRUPTED,
    NO,
    Device,
    DeviceOption,
    DynamicOption,
    OpsOption,
    Precision,
    PrecisionOption,
    bad_usage,
    examples,
    operators,
    require_file,
    stem,
)

if TYPE_CHECKING:
    from .ir import Graph, OpSet


app = typer.Typer(
    name="drt",
    help="Compile PyTorch programs to fast, verified Triton kernels.",
    epilog=examples(
        "drt compile model.py -o fast.py",
        "drt verify model.py fast.py",
        "drt import model.py -o model.ir",
        "drt lower model.ir --to torch",
        "drt ir print model.py",
        "drt ops show softmax",
        CODES,
    ),
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ir_app = typer.Typer(help="Look at programs of the typed graph IR.", rich_markup_mode="rich")
ops_app = typer.Typer(help="Look at operator definitions.", rich_markup_mode="rich")
app.add_typer(ir_app, name="ir")
app.add_typer(ops_app, name="ops")

SizeOption = Annotated[
    list[str] | None, typer.Option("--size", metavar="NAME=N", help="The value of a symbolic size; repeatable.")
]
ProgramArgument = Annotated[
    str, typer.Argument(metavar="X", help="A program (.ir text), or anything else that `drt import` takes.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"drt {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        raise bad_usage(
            "no command given, expected one of compile, verify, doctor, import, lower, ir, ops, synth; see drt --help"
        )


@app.command(
    epilog=examples(
        "drt compile examples/gemm_gelu_softmax.py -o build/demo.py",
        "drt compile mypackage.models:make_block --precision tf32 --budget 300",
        "drt compile model.py --ops my_ops.drt --report report.json --strict",
        "drt compile model.py --dynamic x:0=B:1..64",
        CODES,
    )
)
def compile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="FILE.py with `class Model`, `get_inputs()` and `get_init_inputs()`, or `package.module:factory` "
            "for a function that returns the module and its example inputs.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.py", help="Where to write `class ModelNew`; default: NAME_drt.py."
        ),
    ] = None,
    ops: OpsOption = None,
    precision: PrecisionOption = Precision.strict,
    budget: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time that the search may take.")] = 60.0,
    variants: Annotated[int, typer.Option(metavar="N", min=1, help="Kernels to try for one fragment, at most.")] = 4,
    device: DeviceOption = Device.auto,
    dynamic: DynamicOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any operator was left to PyTorch.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the report there, with every verdict and time.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> int:
    """Compile MODEL into one file of verified Triton kernels.

    The file needs torch and triton only; its `ModelNew` takes the same arguments and the same state_dict as the original.
    Every kernel in it passed the judge; what has no good kernel stays in PyTorch, with the reason in the table.
    """
    target = output if output is not None else Path(f"{stem(model)}_drt.py")
    for file in ops or ():
        require_file(file)

    from . import cli_view
    from .files import finished_file, require_writable
    from .pipeline import compile_model
    from .report import CompileOptions

    if report is not None:
        require_writable(report)

    options = CompileOptions(
        ops=tuple(ops or ()), precision=precision.value, budget_s=budget, variants=variants, device=device.value,
        dynamic=tuple(dynamic or ()),
    )  # fmt: skip
    with cli_view.progress(quiet) as progress:
        result = compile_model(model, output=target, options=options, progress=progress)
    if report is not None:
        with finished_file(report, result.to_json()):
            pass
    if not quiet:
        cli_view.show_report(result)
    if strict and result.leftovers:
        left = ", ".join(row.operators for row in result.leftovers)
        print(f"drt: {model}: --strict: {left} left to PyTorch, expected kernels for everything", file=sys.stderr)
    return NO if not result.whole.passed or (strict and result.leftovers) else GOOD


cli_judge.register(app)
cli_ways.register(app)


@ir_app.command(
    "print", epilog=examples("drt ir print model.py", "drt ir print model.py --expand", "drt ir print block.drt")
)
def ir_print(
    file: ProgramArgument,
    ops: OpsOption = None,
    expand: Annotated[bool, typer.Option("--expand", help="Replace composite operators by their definitions.")] = False,
) -> None:
    """Print a program in canonical text."""
    from .ir import expand_graph, print_graph

    graph, known, _ = _read_program(file, ops)
    print(print_graph(expand_graph(graph, known) if expand else graph), end="")


@ir_app.command("check", epilog=examples("drt ir check block.drt"))
def ir_check(file: ProgramArgument, ops: OpsOption = None) -> None:
    """Check a program: names, operators, types and every constraint."""
    graph, _, _ = _read_program(file, ops)
    print(f"{file}: good: {len(graph.nodes)} operators, {len(graph.inputs)} inputs, {len(graph.outputs)} outputs")


@ir_app.command(
    "run", epilog=examples("drt ir run block.drt --seed 3 --size B=8", "drt ir run block.drt --inputs values.pt")
)
def ir_run(
    file: ProgramArgument,
    ops: OpsOption = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="FILE.pt", help="A torch.save'd list of tensors, or a dict by value name.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random inputs.")] = 0,
    size: SizeOption = None,
) -> None:
    """Run a program in PyTorch and print each output's type and statistics."""
    graph, known, state = _read_program(file, ops)

    from . import cli_view, program

    if inputs is not None:
        values = program.load_inputs(graph, inputs)
    else:
        values = program.random_inputs(graph, program.parse_sizes(graph, size or ()), seed, state, known)
    cli_view.show_summaries(program.run(graph, values, known))


@ops_app.callback(invoke_without_command=True)
def _ops(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        ops_list()


@ops_app.command(
    "list",
    epilog=examples(
        "drt ops", "drt ops list norm", "drt ops list --family pool --limits", "drt ops list --ops my_ops.drt"
    ),
)
def ops_list(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Only operators whose name contains this.")] = "",
    family: Annotated[
        list[str] | None, typer.Option("--family", metavar="NAME", help="Only operators of this family; repeatable.")
    ] = None,
    limits: Annotated[
        bool, typer.Option("--limits", help="Only what PyTorch or JAX computes otherwise; says where.")
    ] = False,
    ops: OpsOption = None,
) -> None:
    """List the operators: family, kind of meaning, libraries that have it, and where these are known to differ.

    A meaning is one of scalar, reduce, index, expand, hook, random and opaque (PyTorch's own); `drt ops show NAME` prints it.
    """
    from . import cli_view
    from .ir.docgen import families
    from .ir.load import near_names

    known = operators(ops)
    groups = families(known)
    for name in family or ():
        if name not in groups:
            raise bad_usage(f"no such family, expected one of {', '.join(groups)}", subject=name)
    found = [
        op for name, op in sorted(known.items())
        if pattern in name and (not family or op.family in family) and (op.limits or not limits)
    ]  # fmt: skip
    if not found and pattern and not any(pattern in name for name in known):
        near = near_names(pattern, known)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise bad_usage(f"no operator has this in its name{hint}", subject=pattern)
    cli_view.show_operators(found, limits)


@ops_app.command("show", epilog=examples("drt ops show softmax", "drt ops show squared_relu_gate --ops my_ops.drt"))
def ops_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The operator.")],
    ops: OpsOption = None,
) -> None:
    """Print one definition: signature, constraints, meaning, lowerings."""
    from difflib import get_close_matches

    from .ir import print_op

    known = operators(ops)
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise bad_usage(f"no such operator, expected one that `drt ops list` names{hint}", subject=name)
    print(print_op(known[name]), end="")


ops_app.command("coverage", epilog=cli_coverage.EPILOG)(cli_coverage.coverage)

synth_app = typer.Typer(
    help="Generate programs: valid by construction, operators exactly uniform.", rich_markup_mode="rich"
)
app.add_typer(synth_app, name="synth")


@synth_app.callback(
    invoke_without_command=True,
    epilog=examples(
        "drt synth --level 3 -n 10000 -o out.parquet",
        "drt synth --level 5 -n 100 --profile bench --format py -o programs",
        "drt synth stats out.parquet",
        "drt synth check out.parquet --only torch",
        CODES,
    ),
)
def synth(
    context: typer.Context,
    level: Annotated[int, typer.Option(help="Operators in each program, all of them live.")] = 3,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", help="How many different programs.")] = 1000,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PATH", help="A file, or a folder for py and ir.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="parquet, jsonl, py or ir; default: by the output's name.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the stream; equal seeds give equal programs on any machine.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; they do not change the result.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the rows that the output holds.")] = False,
    profile: Annotated[str, typer.Option(help="Sizes: small, bench, edge, or FILE.json.")] = "small",
    dtypes: Annotated[str, typer.Option(help="Element types, separated by commas.")] = "f32,i64,bool",
    use: Annotated[
        list[str] | None,
        typer.Option(
            "--ops",
            "--use",
            metavar="NAME",
            help="Use only these operators or families, separated by commas; repeatable.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="NAME", help="Leave out operators or families, separated by commas."),
    ] = None,
    outputs: Annotated[int, typer.Option(help="Most results of a program.")] = 1,
    max_depth: Annotated[int | None, typer.Option(help="Longest chain of operators.")] = None,
    max_fan_out: Annotated[int | None, typer.Option(help="Most uses of one value.")] = None,
    min_flops: Annotated[float, typer.Option(help="Least work of a program (FLOPs).")] = 0,
    max_flops: Annotated[float | None, typer.Option(help="Most work of a program (FLOPs).")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Most bytes of inputs and outputs.")] = None,
    max_parameters: Annotated[
        int | None,
        typer.Option("--max-parameters", "--max-elements", help="Most elements of all inputs, weights among them."),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Run each program in float64; draw degenerate ones again."),
    ] = True,
    solver: Annotated[bool, typer.Option("--solver", help="Ask CP-SAT where drawn sizes do not fit.")] = False,
) -> None:
    """Generate programs and write them with their PyTorch reference."""
    if context.invoked_subcommand is not None:
        return
    from .generate import judge, reference_source
    from .synth import generate, make_spec

    _be_interrupted_when_ended()
    if output is None:
        raise bad_usage("no output given, expected -o PATH")
    by_name = {".parquet": "parquet", ".jsonl": "jsonl"}
    spec = make_spec(
        level, profile=profile, dtypes=dtypes, ops=_names(use), without=_names(without), outputs=outputs,
        max_depth=max_depth, max_fan_out=max_fan_out, min_flops=min_flops, max_flops=max_flops, max_bytes=max_bytes,
        max_elements=max_parameters, solver=solver,
    )  # fmt: skip
    generate(
        spec, count, output, form or by_name.get(output.suffix, "ir"), seed=seed, workers=workers, resume=resume,
        source=reference_source, judge=judge if probe else None, track=_bar if sys.stderr.isatty() else None,
    )  # fmt: skip


def _be_interrupted_when_ended() -> None:
    """Let whoever ends the command have what an interruption leaves: whole rows or nothing, and what was found so far."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _names(options: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(n.strip() for text in options or () for n in text.split(",") if n.strip())


def _bar(rows: Iterable[Any], total: int) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    return track(rows, "programs", total=total, console=Console(stderr=True), transient=True)


@synth_app.command("stats", epilog=examples("drt synth stats out.parquet"))
def synth_stats(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A data set: .parquet or .jsonl.")],
) -> None:
    """Print statistics of a data set: frequencies, edges, sizes."""
    from .synth import statistics

    require_file(file)
    statistics(file)


@synth_app.command(
    "check",
    epilog=examples(
        "drt synth check out.parquet", "drt synth check out.parquet --only torch --only jax --sample 500", CODES
    ),
)
def synth_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A data set: .parquet or .jsonl.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CHECK", help="verify, meta, torch, jax, export, jaxpr, plan, kernel; repeatable."
        ),
    ] = None,
    sample: Annotated[int, typer.Option(help="Check so many programs, evenly spread; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    show: Annotated[int, typer.Option(help="Print so many programs that fail.")] = 5,
) -> None:
    """Hold every program of a data set to what it must mean: verifier, PyTorch, JAX, the definitions, the ways in and out."""
    from .program_checks import check_rows, summary
    from .synth.dataset import read

    require_file(file)
    _be_interrupted_when_ended()
    rows = read(file)
    if sample and sample < len(rows):
        rows = [rows[k * len(rows) // sample] for k in range(sample)]
    track = _bar(rows, len(rows)) if sys.stderr.isatty() else rows
    found = check_rows(track, tuple(only or ("verify", "meta", "torch")), seed)
    print("\n".join(summary(found)))
    if found.interrupted:
        print(f"{found.rows} of {len(rows)} programs were checked")
    for fault in found.faults[:show]:
        print(f"\n{fault.check}: row {fault.number}: {fault.problem}\n{fault.ir}", end="")
    if found.interrupted:
        raise KeyboardInterrupt
    if found.faults:
        raise typer.Exit(NO)


def _read_program(file: str, ops: Sequence[Path] | None) -> tuple[Graph, OpSet, dict[str, Any]]:
    """Return the checked graph of whatever ``file`` names, the operators that it may use, and the tensors that it has."""
    from .ways import read_graph

    known = operators(ops)
    graph, state = read_graph(file, known)
    return graph, known, state


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``drt`` and return its exit code.

    Args:
        arguments: the words after ``drt``; those of the process if None.
    """
    command = typer.main.get_command(app)
    try:
        result: Any = command.main(
            args=list(sys.argv[1:] if arguments is None else arguments), prog_name="drt", standalone_mode=False
        )
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as error:
        if not _was_interrupted(error):
            return _explain(error)
        result = INTERRUPTED
    if result == INTERRUPTED:  # newer versions of typer return it, older ones raise Abort
        print("drt: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else GOOD


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether an error came of an interruption: a signal may arrive where others must still be told of the end."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _explain(error: Exception) -> int:
    """Print ``error`` for a person and return the exit code that fits it."""
    from .ir import DrtError

    if isinstance(error, DrtError):
        print(f"drt: {error}", file=sys.stderr)
        return BAD_INPUT
    # Errors of the argument parser: their class lives in click or inside typer, by typer's version.
    if hasattr(error, "format_message"):
        where = getattr(getattr(error, "ctx", None), "command_path", "drt")
        text = error.format_message().strip().rstrip(".")
        print(": ".join([*where.split(), text[:1].lower() + text[1:]]), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename:
        print(f"drt: {error.filename}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    traceback.print_exception(error)
    print(f"drt: this is a bug of DRT ({type(error).__name__}); please report the text above", file=sys.stderr)
    return BUG
