"""Graphs as PyTorch source that a person would write, and as callables.

Every line comes from an operator's ``torch`` clause (:mod:`.torch_calls`); how lines are put together is in
:mod:`.torch_files` and :mod:`.torch_style`.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import torch

from ..ir import (
    Graph,
    OpSet,
    UsageError,
    builtin_ops,
    checked,
)
from ..ir.ranges import Range
from .torch_calls import render_call, render_node
from .torch_files import function_source, module_source, state_paths

_NUMBERS = count()


@checked
def to_source(
    graph: Graph, ops: OpSet | None = None, name: str = "Model", style: str = "module",
    constants: Mapping[str, torch.Tensor] | None = None, ranges: Mapping[str, Range] | None = None,
) -> str:  # fmt: skip
    """Return a Python file that says what ``graph`` says.

    Args:
        graph: any valid graph.
        ops: the operators; None means the built-in ones.
        name: of the class or the function.
        style: ``"module"`` for a KernelBench-style file (the class, ``get_inputs``, ``get_init_inputs``; parameters and
            buffers keep their names in ``state_dict``), ``"function"`` for one function of all inputs in order.
        constants: for a module: the tensors of the program's code by their targets, which the file then holds.
        ranges: for a module: in which to draw example inputs, where the operators themselves do not bound them.

    Raises:
        UsageError: an operator has no ``torch`` clause.
    """
    ops = builtin_ops() if ops is None else ops
    if style == "function":
        return function_source(graph, ops, name)
    if style != "module":
        raise UsageError(f"style is {style}, expected module or function", subject="to_source")
    return module_source(graph, ops, name, constants, ranges)


@checked
def to_callable(graph: Graph, ops: OpSet | None = None) -> Callable[..., Any]:
    """Return a function of the graph's inputs, in order, that runs it node by node in the graph's own dtypes.

    It returns one tensor, or a tuple where there are several outputs, and writes buffer updates into the inputs that they
    belong to.  Its attribute ``source`` is the text that it runs.
    """
    source = function_source(graph, builtin_ops() if ops is None else ops, "run", is_plain=True)
    file = f"<drt {graph.name} {next(_NUMBERS)}>"
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    run = namespace["run"]
    run.source = source
    return run  # type: ignore[no-any-return]


__all__ = ["render_call", "render_node", "state_paths", "to_callable", "to_source"]
