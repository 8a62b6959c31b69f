"""Ways in and out of the IR from end to end: what is imported, how it is written, and what a person is told of it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from .files import draft_of
from .ir import (
    OPAQUE,
    PROGRAM_SUFFIXES,
    DrtError,
    Graph,
    OpSet,
    SizeLike,
    UsageError,
    expand_graph,
    parse_graph,
    simplify,
    verify_graph,
)
from .ir.cost import graph_cost
from .ir.typesys import DTYPES

if TYPE_CHECKING:
    from .frontend import LoadedModel

#: Files that the tensors of a program can be kept in.
STATE_SUFFIXES = (".safetensors", ".pt")
#: Languages that a program can be written in.
LANGUAGES = ("torch", "jax")


@attrs.frozen
class ImportSummary:
    """What was imported.

    Attributes:
        graph: the program.
        operators: operator -> how many nodes apply it; opaque nodes are not among them.
        opaque: ``(target, nodes, reason)`` of what no operator says.
        n_parameters: elements of parameters, buffers and constants.
        parameter_bytes: their bytes.
        flops: floating-point operations of one call; None where it cannot be counted.
        bytes: least traffic of one call, bytes; None where it cannot be counted.
    """

    graph: Graph
    operators: Mapping[str, int]
    opaque: tuple[tuple[str, int, str], ...]
    n_parameters: int
    parameter_bytes: int
    flops: SizeLike | None
    bytes: SizeLike | None

    @property
    def n_known(self) -> int:
        """Nodes that are operators."""
        return sum(self.operators.values())

    @property
    def n_opaque(self) -> int:
        """Nodes that PyTorch runs."""
        return sum(n for _, n, _ in self.opaque)


def read_graph(spec: str, ops: OpSet) -> tuple[Graph, dict[str, Any]]:
    """Return the graph of any way in, with the tensors that belong to it; a text is read without PyTorch.

    Raises:
        ParseError, VerifyError, UsageError: see :func:`drt.frontend.import_program`.
    """
    if spec.endswith(PROGRAM_SUFFIXES):
        path = Path(spec).expanduser()
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "no such file"
            raise UsageError(f"{what}, expected a readable file", subject=spec)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"is not text ({error.reason}), expected a program in UTF-8", subject=spec) from None
        graph = parse_graph(text, file=spec, ops=ops)
        verify_graph(graph, ops)
        return graph, {}
    from .frontend import import_program

    imported = import_program(spec, ops=ops)
    verify_graph(imported.graph, ops)
    return imported.graph, dict(imported.state)


def load(spec: str | os.PathLike[str], ops: OpSet) -> LoadedModel:
    """Return anything that :func:`drt.frontend.import_program` takes as a PyTorch module with example inputs.

    A program's text becomes the module that it is lowered to.

    Raises:
        ParseError, VerifyError, UsageError: see :func:`drt.frontend.import_program`.
    """
    from .frontend import SAVED_SUFFIX, import_loaded, is_jax, load_model, saved_model

    text = os.fspath(spec)
    if text.endswith(SAVED_SUFFIX):
        return saved_model(text)
    if text.endswith(PROGRAM_SUFFIXES):
        return _as_module(read_graph(text, ops)[0], {}, ops, text)
    loaded = load_model(text)
    if not is_jax(loaded):
        return loaded
    imported = import_loaded(loaded, ops=ops)
    return _as_module(imported.graph, imported.state, ops, text)


def _as_module(graph: Graph, state: Mapping[str, Any], ops: OpSet, spec: str) -> LoadedModel:
    """Return a graph as the module that it is lowered to, with the tensors that it has."""
    import torch

    from .backend.to_torch import state_paths
    from .frontend import load_model

    with tempfile.TemporaryDirectory(prefix="drt_") as folder:
        file = Path(folder) / "model.py"
        file.write_text(lower(graph, ops, state=state), encoding="utf-8")
        loaded = attrs.evolve(load_model(file), spec=spec)
    paths = state_paths(graph)
    with torch.no_grad():
        for i in graph.inputs:
            if i.target in state:
                *owner, leaf = paths[i.name]
                held = getattr(loaded.module.get_submodule(".".join(owner)), leaf)  # type: ignore[union-attr]
                held.copy_(state[i.target])
    return loaded


def transformed(graph: Graph, ops: OpSet, *, simplified: bool = False, expanded: bool = False) -> Graph:
    """Return ``graph`` after the rewrites that keep its value, and with composite operators replaced, as asked."""
    if simplified:
        graph, _ = simplify(graph, ops)
    return expand_graph(graph, ops) if expanded else graph


def summarise(graph: Graph, ops: OpSet, reasons: Mapping[str, str] | None = None) -> ImportSummary:
    """Return what there is to say about an imported graph.

    Args:
        graph: the program.
        ops: the operators.
        reasons: ATen target -> why it is opaque.
    """
    operators: dict[str, int] = {}
    opaque: dict[str, int] = {}
    for node in graph.nodes:
        found, key = (opaque, str(node.attributes["target"])) if node.op == OPAQUE else (operators, node.op)
        found[key] = found.get(key, 0) + 1
    state = [i.type for i in graph.inputs if i.kind != "input"]
    elements = [math.prod(s for s in t.shape if isinstance(s, int)) for t in state]
    flops, size = None, None
    try:
        cost = graph_cost(graph, ops)
        flops, size = cost.flops, cost.bytes
    except DrtError:  # an operator whose work depends on its elements
        pass
    return ImportSummary(
        graph=graph,
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        opaque=tuple((t, n, (reasons or {}).get(t, "")) for t, n in opaque.items()),
        n_parameters=sum(elements),
        parameter_bytes=sum(n * DTYPES[t.dtype] for n, t in zip(elements, state)),
        flops=flops,
        bytes=size,
    )


def lower(
    graph: Graph, ops: OpSet, to: str = "torch", style: str = "module", name: str = "",
    state: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Return a Python file that says what ``graph`` says.

    Args:
        graph: any valid graph.
        ops: the operators.
        to: ``torch`` or ``jax``.
        style: ``module`` for a file with example inputs, ``function`` for one function of all inputs in order.
        name: of the class or the function; "" takes ``Model``, or the graph's name for a function.
        state: tensors by their targets; those of the program's own code become part of the file (PyTorch, modules).

    Raises:
        UsageError: there is no such language or style, or an operator has no meaning in that language.
    """
    if to == "torch":
        from .backend.to_torch import to_source

        title = name or ("Model" if style == "module" else graph.name)
        return to_source(graph, ops, name=title, style=style, constants=state)
    if to == "jax":
        from .backend.to_jax import to_jax_source

        return to_jax_source(graph, ops, name=name, style=style)
    raise UsageError(f"is no language of programs, expected one of {', '.join(LANGUAGES)}", subject=to)


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Save tensors by name, by the file's suffix with ``safetensors`` or ``torch.save``; tied tensors are saved each.

    Raises:
        UsageError: the suffix is another one, or safetensors is not installed.
    """
    file = Path(path)
    require_state_suffix(file)
    missing = [k for k, v in state.items() if v.is_meta]
    if missing:
        raise UsageError(f"{missing[0]} is on the meta device and has no content to save", place=str(file))
    tensors = {k: v.detach().cpu().clone(memory_format=_contiguous()) for k, v in state.items()}
    with draft_of(file) as draft:
        if file.suffix == ".pt":
            import torch

            torch.save(tensors, draft)
        else:
            _safetensors(file).save_file(tensors, draft)


def require_state_suffix(file: Path) -> None:
    """Raise UsageError unless tensors can be kept in a file of this name."""
    if file.suffix not in STATE_SUFFIXES:
        raise UsageError(
            f"is no file of tensors, expected one that ends with {' or '.join(STATE_SUFFIXES)}", place=str(file)
        )
    if file.suffix == ".safetensors":
        _safetensors(file)


def _safetensors(file: Path) -> Any:
    try:
        from safetensors import torch as safetensors
    except ModuleNotFoundError:
        raise UsageError(
            "safetensors is not installed, expected it (pip install safetensors) or .pt", place=str(file)
        ) from None
    return safetensors


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format


__all__ = [
    "LANGUAGES",
    "STATE_SUFFIXES",
    "ImportSummary",
    "load",
    "lower",
    "read_graph",
    "require_state_suffix",
    "save_state",
    "summarise",
    "transformed",
]
