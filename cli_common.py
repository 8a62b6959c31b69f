"""What the commands of ``drt`` share: help texts, options, and the mistakes that all of them meet."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .ir import OpSet, UsageError

GOOD, NO, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 3, 130

CODES = "[dim]Exit codes: 0 good, 1 the answer is no, 2 bad usage or input, 3 a bug of DRT, 130 interrupted.[/dim]"


class Precision(StrEnum):
    """Arithmetic of float32 products."""

    strict = "strict"
    tf32 = "tf32"


class Device(StrEnum):
    """Where kernels are verified and timed."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


PrecisionOption = Annotated[
    Precision,
    typer.Option(help="Arithmetic of float32 products: IEEE float32, or TF32 inputs allowed."),
]
DeviceOption = Annotated[
    Device, typer.Option(help="Where kernels run; on the CPU they are interpreted and times are predicted.")
]

OpsOption = Annotated[
    list[Path] | None,
    typer.Option("--ops", metavar="FILE.drt", help="Operator definitions to add to the built-in ones; repeatable."),
]

DynamicOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dynamic",
        metavar="ARGUMENT:AXIS=NAME[:LOWEST..HIGHEST]",
        help="A size that may change from call to call: an axis of an argument of `forward`; repeatable.",
    ),
]


def examples(*lines: str) -> str:
    """Return an epilog; blank lines keep the help renderer from joining the examples."""
    return "\n\n".join(("[bold]Examples[/bold]", *lines))


def bad_usage(message: str, subject: str = "") -> UsageError:
    """Return a UsageError."""
    # Imported here: the IR is the slowest part of start-up, and help does without it.
    from .ir import UsageError

    return UsageError(message, subject=subject)


def operators(files: Sequence[Path] | None) -> OpSet:
    """Return the built-in operators, and those of ``files``."""
    from .ir import builtin_ops, load_ops

    for path in files or ():
        require_file(path)
    return load_ops(*files) if files else builtin_ops()


def require_file(path: Path) -> None:
    """Raise UsageError unless ``path`` is a file."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise bad_usage(f"{what}, expected a readable file", subject=str(path))


def stem(model: str) -> str:
    """Return the name of what ``model`` names, without folder and suffix."""
    return (
        Path(model).stem if Path(model).suffix in (".py", ".pt2", ".ir", ".drt") else model.rpartition(":")[2] or model
    )
