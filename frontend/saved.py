"""Saved programs: files of ``torch.export.save`` (``.pt2``), as their ``torch.export.load`` reads them."""

from __future__ import annotations

import inspect
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree

from ..ir import OpSet, Unsupported, UsageError, builtin_ops, checked
from .calling import argument_paths
from .export import Imported, exported_graph, quiet
from .load import LoadedModel

#: What the name of a saved program ends with.
SUFFIX = ".pt2"


@checked
def load_saved(path: str | os.PathLike[str]) -> Any:
    """Load an ``ExportedProgram``.

    Raises:
        UsageError: no such file, or it is no saved program that this PyTorch reads (damaged, of another kind, of a newer
            version).
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a directory, expected a saved ExportedProgram" if file.is_dir() else "no such file"
        raise UsageError(what, place=str(path))
    kind = _kind_of(file)
    if kind:
        raise UsageError(f"{kind}, expected a file that torch.export.save wrote", place=str(path))
    try:
        with quiet():
            return torch.export.load(file)
    except Exception as error:
        raise UsageError(_why(file, error), place=str(path)) from error


@checked
def import_exported(
    program: torch.export.ExportedProgram, *, ops: OpSet | None = None, name: str = "exported"
) -> Imported:
    """Import an ``ExportedProgram`` in the mode and with the symbolic sizes that it was exported with.

    Args:
        program: a ``torch.export.ExportedProgram``.
        ops: the operators; None means the built-in ones.
        name: of the graph.

    Raises:
        UsageError: the program does what a graph cannot say (control flow, sizes that depend on tensor contents).
    """
    ops = builtin_ops() if ops is None else ops
    args, kwargs = _call_of(program)
    convention = argument_paths(_forward_of(program, len(args)), args, kwargs)
    try:
        # An empty table makes the program functional and keeps operators such as linear and softmax whole.
        with torch.no_grad(), quiet():
            functional = program.run_decompositions({})
    except Exception as error:
        raise UsageError(f"cannot be made functional: {_first_line(error)}", subject=name) from error
    try:
        return exported_graph(functional, name, ops, args, kwargs, None, convention)
    except Unsupported as error:
        raise UsageError(error.message, place=error.place, subject=name) from None


@checked
def saved_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Load an ``ExportedProgram`` as a module with example inputs: those that were saved, else random ones of their types.

    Raises:
        UsageError: as :func:`load_saved`.
    """
    program = load_saved(path)
    args, kwargs = program.example_inputs or (None, None)
    if args is None:
        args, kwargs = _examples(program)
    file = Path(path)
    return LoadedModel(
        module=program.module(),
        example_inputs=tuple(args),
        example_kwargs=dict(kwargs or {}),
        spec=os.fspath(path),
        class_name=file.stem,
        program=program,
    )


# -- files ----------------------------------------------------------------------------------------------------------------


def _kind_of(file: Path) -> str:
    """Return what a file is that is certainly no saved program, or ""."""
    if not zipfile.is_zipfile(file):
        return "is no zip archive"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any("/aotinductor/" in n for n in names):
        return "is a package of compiled kernels (AOTInductor)"
    if not any(n.endswith((".json", ".pkl")) for n in names):
        return "is a zip archive without a program"
    if any(n.endswith("/data.pkl") for n in names):
        return "is a file of torch.jit.save" if any("/code/" in n for n in names) else "is a file of torch.save"
    return ""


def _why(file: Path, error: Exception) -> str:
    """Return why a file does not load: its version where it is a newer one, else PyTorch's first line."""
    written = _versions(file)
    ours = torch.__version__.partition("+")[0]
    if written and _numbers(written) > _numbers(ours):
        return f"was saved by PyTorch {written}, expected {ours} or older"
    text = _first_line(error)
    # PyTorch writes the reason to its log, from two attempts of which one is always wrong.
    return "is damaged or incomplete" if "warnings above" in text else f"torch.export.load fails: {text}"


def _versions(file: Path) -> str:
    """Return the version of PyTorch that wrote the file, or ""."""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                if entry.endswith(".json") and "/models/" in entry:
                    held = json.loads(archive.read(entry))
                    return str(held.get("torch_version", "")).partition("+")[0]
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(p) for p in version.split(".") if p.isdigit())


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# -- calls ----------------------------------------------------------------------------------------------------------------


def _call_of(program: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments of the structure of a call, with a number for each leaf."""
    spec = program.call_spec.in_spec
    args, kwargs = pytree.tree_unflatten(range(spec.num_leaves), spec)
    return tuple(args), dict(kwargs)


def _forward_of(program: Any, n_args: int) -> Callable[..., Any]:
    """Return a function with the signature of the exported ``forward``, as far as the program tells."""
    signature = program.module_call_graph[0].signature
    names: Sequence[str] = getattr(signature, "forward_arg_names", None) or [f"arg{i}" for i in range(n_args)]
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]

    def forward(*args: Any, **kwargs: Any) -> None:
        return None

    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return forward


def _examples(program: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    leaves = []
    for spec in program.graph_signature.input_specs:
        if spec.kind == torch.export.graph_signature.InputKind.USER_INPUT:
            value = values.get(spec.arg.name)
            leaves.append(_example(value) if isinstance(value, torch.Tensor) else getattr(spec.arg, "value", value))
    return pytree.tree_unflatten(leaves, program.call_spec.in_spec)


def _example(fake: torch.Tensor) -> torch.Tensor:
    shape = [s if isinstance(s, int) else int(s.node.hint or 2) for s in fake.shape]
    made = torch.zeros(shape, dtype=fake.dtype)
    return made.normal_() if made.is_floating_point() else made


__all__ = ["SUFFIX", "import_exported", "load_saved", "saved_model"]
