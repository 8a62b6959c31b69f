"""The commands ``drt import`` and ``drt lower``: every way into the IR, and out of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_common import CODES, GOOD, DynamicOption, OpsOption, bad_usage, examples, operators, stem

WAYS_IN = (
    "FILE.py with `class Model`, `get_inputs()` and `get_init_inputs()`; FILE.py:NAME or package.module:NAME for another "
    "class, a function (of PyTorch or JAX) beside `get_inputs()`, or a factory that returns a module and its example inputs; "
    "FILE.pt2 for a saved ExportedProgram; FILE.ir for a program's text."
)


class Language(StrEnum):
    """What a program can be written in."""

    torch = "torch"
    jax = "jax"


class Style(StrEnum):
    """The form of a written program."""

    module = "module"
    function = "function"


def import_(
    source: Annotated[str, typer.Argument(metavar="X", help=WAYS_IN)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.ir", help="Where to write the program; default: NAME.ir."),
    ] = None,
    ops: OpsOption = None,
    dynamic: DynamicOption = None,
    training: Annotated[
        bool, typer.Option("--training", help="Import the model in training mode; default: evaluation.")
    ] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the program; default: the model's.")] = "",
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save parameters, buffers and constants there (.safetensors or .pt)."),
    ] = None,
    simplified: Annotated[bool, typer.Option("--simplify", help="Apply the rewrites that keep the value.")] = False,
    expanded: Annotated[
        bool, typer.Option("--expand", help="Replace composite operators by their definitions.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> int:
    """Import X as a program of the typed graph IR.

    Prints which operators it has, and what no operator says: such calls become opaque nodes, which PyTorch runs.
    """
    from . import cli_view, ways
    from .files import finished_file, require_writable
    from .ir import print_graph

    target = output if output is not None else Path(f"{stem(source)}.ir")
    known = operators(ops)
    if target.resolve() == Path(source).resolve():
        raise bad_usage("is the program that is read, expected another file", subject=str(target))
    for path in (target, *([state] if state else [])):
        require_writable(path)
    if state is not None:
        ways.require_state_suffix(state)

    from .frontend import import_program, parse_dynamic

    imported = import_program(
        source, ops=known, dynamic=parse_dynamic(dynamic or ()), training=training, name=name
    )  # fmt: skip
    graph = ways.transformed(imported.graph, known, simplified=simplified, expanded=expanded)
    with finished_file(target, print_graph(graph)):
        if state is not None:
            ways.save_state(state, imported.state)
    if not quiet:
        reasons = {u.target: u.reason for u in imported.unknown}
        cli_view.show_import(ways.summarise(graph, known, reasons), target)
    return GOOD


def lower(
    source: Annotated[str, typer.Argument(metavar="X", help=WAYS_IN)],
    to: Annotated[Language, typer.Option("--to", help="The language.")] = Language.torch,
    style: Annotated[
        Style, typer.Option(help="A file with example inputs (`class Model` in PyTorch), or one function.")
    ] = Style.module,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.py", help="Where to write it; default: standard output."),
    ] = None,
    ops: OpsOption = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the class or the function.")] = "",
) -> int:
    """Write X as source that a person would have written.

    Parameters keep their names in the state_dict; `drt import` reads the file back as the same program.
    """
    from . import ways
    from .files import finished_file, require_writable

    known = operators(ops)
    if name and not name.isidentifier():
        raise bad_usage("is no Python name, expected one", subject=name)
    if output is not None:
        require_writable(output)
    graph, state = ways.read_graph(source, known)
    text = ways.lower(graph, known, to.value, style.value, name, state)
    if output is None:
        print(text, end="")
    else:
        with finished_file(output, text):
            pass
    return GOOD


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        "import",
        epilog=examples(
            "drt import model.py -o model.ir",
            "drt import model.py --dynamic x:0=B:1..64 --simplify",
            "drt import mypackage.models:make_block --training --state block.safetensors",
            "drt import exported.pt2 -o exported.ir",
            "drt import functions.py:attention -o attention.ir",
            CODES,
        ),
    )(import_)
    app.command(
        epilog=examples(
            "drt lower model.ir -o model_again.py",
            "drt lower exported.pt2 --style function",
            "drt lower model.py --to jax -o model_jax.py",
            CODES,
        )
    )(lower)
