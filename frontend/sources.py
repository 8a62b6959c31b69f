"""One door for every way in: what a person names on the command line, as a graph."""

from __future__ import annotations

import keyword
import os
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.utils._pytree as pytree

from ..ir import OPAQUE, PROGRAM_SUFFIXES, Graph, OpSet, UsageError, builtin_ops, checked, parse_graph, verify_graph
from .calling import InSpec, OutSpec
from .export import DEFAULT_RANGE, Imported, import_module
from .importer import Unknown
from .load import LoadedModel, load_model
from .saved import SUFFIX, import_exported, load_saved

#: ``x:0=B`` and ``x:0=B:1..64``: argument, axis, name, range.
_DYNAMIC = re.compile(r"([A-Za-z_]\w*):(\d+)=([A-Za-z_]\w*)(?::(\d+)\.\.(\d+))?")

_JAX = frozenset({"jax", "jaxlib"})

#: Why a program has the sizes that it has.
_FIXED = {"text": "has its sizes in its text", "saved": "has the sizes that it was exported with"}


@checked
def import_program(
    spec: str | os.PathLike[str],
    *,
    ops: OpSet | None = None,
    dynamic: Mapping[str, Any] | None = None,
    training: bool = False,
    name: str = "",
) -> Imported:
    """Import whatever ``spec`` names.

    Args:
        spec: ``FILE.ir`` or ``FILE.drt`` (a program's text); ``FILE.pt2`` (a saved ``ExportedProgram``); else what
            :func:`load_model` takes, a PyTorch module or function, or a JAX function.
        ops: the operators; None means the built-in ones.
        dynamic: which sizes stay symbols, as :func:`import_module` takes it; PyTorch modules and functions only.
        training: the mode to import in; PyTorch modules only.
        name: of the graph; "" takes the class's, the function's or the file's name.

    Raises:
        ParseError, VerifyError: the text is no valid program.
        UsageError: there is no such thing, its code raises, it cannot be exported, or an argument does not fit it.
    """
    ops = builtin_ops() if ops is None else ops
    text = os.fspath(spec)
    if text.endswith(PROGRAM_SUFFIXES):
        _refuse(text, _FIXED["text"], dynamic, training)
        return from_text(_read(text), text, ops, name)
    if text.endswith(SUFFIX):
        _refuse(text, _FIXED["saved"], dynamic, training)
        return import_exported(load_saved(text), ops=ops, name=name or _identifier(Path(text).stem))
    return import_loaded(load_model(text), ops=ops, dynamic=dynamic, training=training, name=name)


@checked
def import_loaded(
    loaded: LoadedModel,
    *,
    ops: OpSet | None = None,
    dynamic: Mapping[str, Any] | None = None,
    training: bool | None = False,
    name: str = "",
) -> Imported:
    """Import a model that was loaded, by whichever way fits it; arguments as :func:`import_program`."""
    if loaded.program is not None:
        _refuse(loaded.spec, _FIXED["saved"], dynamic, bool(training))
        return import_exported(loaded.program, ops=ops, name=name or _identifier(loaded.class_name))
    if is_jax(loaded):
        from .jaxpr import import_jax

        if dynamic or training:
            raise UsageError("is a JAX function, expected neither symbolic sizes nor a mode", place=loaded.spec)
        return import_jax(
            loaded.module, loaded.example_inputs, example_kwargs=loaded.example_kwargs, params=loaded.params, ops=ops,
            name=name,
        )  # fmt: skip
    return import_module(
        loaded.module, loaded.example_inputs, example_kwargs=loaded.example_kwargs, ops=ops, dynamic=dynamic,
        training=training, name=name,
    )  # fmt: skip


@checked
def is_jax(loaded: LoadedModel) -> bool:
    """Return whether a function that was loaded is one of JAX: it is called with JAX's arrays, or made by JAX.

    Arrays of numpy are JAX's where the function's own file imports JAX.
    """
    if isinstance(loaded.module, torch.nn.Module):
        return False
    leaves = pytree.tree_leaves((loaded.example_inputs, dict(loaded.example_kwargs)))
    if any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return False
    if any(_package(type(v)) in _JAX for v in (loaded.module, *leaves)):
        return True
    names = getattr(loaded.module, "__globals__", {}).values()
    return any(_package(v) in _JAX for v in names)


def _package(value: Any) -> str:
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0]


@checked
def from_text(text: str, file: str = "<text>", ops: OpSet | None = None, name: str = "") -> Imported:
    """Read a program's text; its parameters have types, but no values.

    Raises:
        ParseError, VerifyError: the text is no valid program.
    """
    ops = builtin_ops() if ops is None else ops
    graph = parse_graph(text, file=file, ops=ops)
    verify_graph(graph, ops)
    graph = attrs.evolve(graph, name=name) if name else graph
    given = tuple(i.name for i in graph.inputs if i.kind == "input")
    n = len(graph.outputs)
    return Imported(
        graph=graph,
        state={},
        in_spec=InSpec(pytree.tree_structure((given, {})), given, given, given),
        out_spec=OutSpec(pytree.tree_structure(0 if n == 1 else tuple(range(n))), tuple(range(n))),
        unknown=unknown_of(graph),
    )


def unknown_of(graph: Graph) -> tuple[Unknown, ...]:
    """Return the targets of a graph's opaque nodes, with their numbers."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == OPAQUE:
            target = str(node.attributes["target"])
            counts[target] = counts.get(target, 0) + 1
    return tuple(Unknown(t, n, "the program says so") for t, n in counts.items())


@checked
def parse_dynamic(texts: Sequence[str]) -> dict[str, Any] | None:
    """Read ``x:0=B`` (any size) and ``x:0=B:1..64`` as :func:`import_module` takes them; None where there are none.

    Raises:
        UsageError: a text has another form, or a range that holds no size.
    """
    found: dict[str, dict[int, Any]] = {}
    for text in texts:
        match = _DYNAMIC.fullmatch(text)
        if match is None:
            raise UsageError("expected ARGUMENT:AXIS=NAME or ARGUMENT:AXIS=NAME:LOWEST..HIGHEST", subject=text)
        argument, axis, symbol, lo, hi = match.groups()
        low, high = (int(lo), int(hi)) if lo else DEFAULT_RANGE
        if keyword.iskeyword(symbol):
            raise UsageError(f"{symbol} is a word of Python, expected a name", subject=text)
        if int(axis) in found.get(argument, {}):
            raise UsageError(f"axis {axis} of {argument} has a name already, expected one", subject=text)
        if low > high:
            raise UsageError(f"{low}..{high} holds no size, expected {high}..{low}", subject=text)
        found.setdefault(argument, {})[int(axis)] = (symbol, low, high)
    return found or None


def _refuse(text: str, why: str, dynamic: Mapping[str, Any] | None, training: bool) -> None:
    if dynamic:
        raise UsageError(f"{why}, expected no further symbolic sizes", place=text)
    if training:
        raise UsageError("has the mode that it was written in, expected no other", place=text)


def _read(file: str) -> str:
    path = Path(file).expanduser()
    if not path.is_file():
        what = "is a directory, expected a program's text" if path.is_dir() else "no such file"
        raise UsageError(what, place=file)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"is not text ({error.reason}), expected a program in UTF-8", place=file) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", place=file) from None


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text)
    return name if name[:1].isalpha() or name[:1] == "_" else f"program_{name}"


__all__ = ["from_text", "import_loaded", "import_program", "is_jax", "parse_dynamic", "unknown_of"]
