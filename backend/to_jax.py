"""Graphs as JAX source that a person would write, and as callables.

An operator stands as its ``jax`` clause says; one without a clause becomes a function of the generated file: its expansion,
or its ``scalar``, ``reduce`` or ``index`` body in terms of ``jax.numpy``.  So every operator that has a meaning runs in JAX.
"""

from __future__ import annotations

import importlib
import json
import linecache
import math
import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from ..ir import Graph, Input, OpSet, SizeLike, TensorType, Unsupported, UsageError, builtin_ops, checked
from ..ir.build import clean_name
from ..ir.size import symbols_of
from ..ir.typesys import is_float
from .jax_bodies import JAX_DTYPES
from .jax_nodes import JaxFile, require_jax, wide_numbers

_WIDE_TEXT = "with jax.enable_x64(True):"
_OLD_WIDE_TEXT = "with jax.experimental.enable_x64():"

_NUMBERS = count()


def _sample_sizes(graph: Graph) -> dict[str, SizeLike]:
    found: dict[str, SizeLike] = {}
    for i in graph.inputs:
        for d in i.type.shape:
            for s in symbols_of(d):
                found[s.name] = min(max(s.lo, 2), s.hi)
    return found


def _is_wide(graph: Graph, ops: OpSet) -> bool:
    return any(t.dtype in ("f64", "i64") for t in graph.types.values())


@checked
def to_jax_source(graph: Graph, ops: OpSet | None = None, name: str = "", style: str = "module") -> str:
    """Return a Python file that says in JAX what ``graph`` says.

    The main function returns the outputs, or ``(outputs, updates)`` with a dict of new buffers where the graph updates some.
    Where a value has 64 bits, its body runs in a context that lets JAX keep them.

    Args:
        graph: any valid graph.
        ops: the operators; None means the built-in ones.
        name: of the main function; "" takes the graph's.
        style: ``"module"`` for ``name(params, *inputs)`` beside ``get_params()`` and ``get_inputs()``, parameters and
            buffers in a dict by their targets; ``"function"`` for one function of all inputs in order.

    Raises:
        UsageError: JAX is not installed, or an operator has no meaning outside PyTorch.
    """
    ops = builtin_ops() if ops is None else ops
    if style not in ("module", "function"):
        raise UsageError(f"style is {style}, expected module or function", subject="to_jax_source")
    name = clean_name(name or graph.name)
    file = JaxFile(ops, samples=_sample_sizes(graph))
    scope = file.scope(name)
    state = [i for i in graph.inputs if i.kind != "input"] if style == "module" else []
    given = [i for i in graph.inputs if i not in state]
    for i in state:
        scope.names[i.name] = f"params[{json.dumps(i.target or i.name)}]"
    try:
        lines = file.body(graph, scope, {i.name for i in state})
    except Unsupported as error:
        raise UsageError(error.message, place=error.place, subject=graph.name) from None
    parameters = (["params"] if state else []) + [scope.names[i.name] for i in given]
    if _is_wide(graph, ops):
        wide = _WIDE_TEXT if hasattr(require_jax(), "enable_x64") else _OLD_WIDE_TEXT
        lines = [wide, *(f"    {line}" for line in lines)]
    main = "\n".join([f"def {name}({', '.join(parameters)}):", *(f"    {line}" for line in lines)])
    parts = [*([file.functions().rstrip()] if file.helpers else []), main]
    if style == "module":
        if state:
            parts.append(_get_params(state))
        parts.append(_get_inputs(given))
    text = "\n\n\n".join(parts)
    imports = ["import jax"]
    if "enable_x64" in text and "jax.experimental" in text:
        imports.append("import jax.experimental")
    imports += ["import jax.numpy as jnp"]
    if "jax.scipy.special." in text:
        imports.append("import jax.scipy.special")
    if re.search(r"(?<![\w.])np\.", text):
        imports.append("import numpy as np")
    if re.search(r"(?<![\w.])lax\.", text):
        imports.append("from jax import lax")
    if not re.search(r"(?<![\w.])jax\.", text):
        imports.remove("import jax")
    return "\n".join(imports) + f"\n\n\n{text}\n"


_NUMPY_DTYPES = {"f64": "np.float64", "f32": "np.float32", "f16": "np.float16", "bf16": "jnp.bfloat16"}


def _array_text(t: TensorType, kind: str) -> str:
    """Return Python text of example content: scaled normal weights, buffers in 0.5..1.5, integers 0 and 1."""
    shape = f"({', '.join(map(str, t.shape))}{',' if t.rank == 1 else ''})"
    if t.dtype == "bool":
        return f"rng.random({shape}) < 0.5"
    if not is_float(t.dtype):
        return f"rng.integers(0, 2, {shape}).astype(np.{JAX_DTYPES[t.dtype].removeprefix('jnp.')})"
    cast = f".astype({_NUMPY_DTYPES[t.dtype]})"
    if kind not in ("input", "param"):
        return f"(rng.random({shape}) + 0.5){cast}"
    fan_in = math.prod(s for s in t.shape[1:] if isinstance(s, int))
    if kind == "param" and t.rank >= 2 and fan_in > 1:
        return f"(rng.standard_normal({shape}) / {math.sqrt(fan_in):.4g}){cast}"
    # Of no axes, numpy gives a number and not an array.
    return f"np.asarray(rng.standard_normal({shape})){cast}" if t.rank == 0 else f"rng.standard_normal({shape}){cast}"


def _get_params(state: Sequence[Input]) -> str:
    rows = "\n".join(f"        {json.dumps(i.target or i.name)}: {_array_text(i.type, i.kind)}," for i in state)
    return f"def get_params(seed=0):\n    rng = np.random.default_rng(seed)\n    return {{\n{rows}\n    }}"


def _get_inputs(given: Sequence[Input]) -> str:
    sizes = {s.name: str(min(max(s.lo, 2), s.hi)) for i in given for d in i.type.shape for s in symbols_of(d)}
    lines = [f"    {s} = {n}" for s, n in sizes.items()]
    if given:
        lines.insert(0, "    rng = np.random.default_rng(seed)")
    rows = ", ".join(_array_text(i.type, i.kind) for i in given)
    return "\n".join(["def get_inputs(seed=0):", *lines, f"    return [{rows}]"])


@checked
def to_jax_callable(graph: Graph, ops: OpSet | None = None) -> Callable[..., Any]:
    """Return a function of the graph's inputs, in order, that runs it with JAX in the graph's own dtypes.

    It takes arrays of numpy or JAX and returns JAX arrays: one, or a tuple where there are several outputs; with buffer
    updates, ``(outputs, updates)``.  Its attribute ``source`` is the text that it runs.

    Raises:
        UsageError: JAX is not installed, or an operator has no meaning outside PyTorch.
    """
    source = to_jax_source(graph, ops, name="run", style="function")
    file = f"<drt jax {graph.name} {next(_NUMBERS)}>"
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    run, asarray = namespace["run"], importlib.import_module("jax.numpy").asarray
    wide = _is_wide(graph, builtin_ops() if ops is None else ops)
    dtypes = [JAX_DTYPES[i.type.dtype].removeprefix("jnp.") for i in graph.inputs]

    def call(*arguments: Any) -> Any:
        if len(arguments) != len(dtypes):
            raise UsageError(f"{len(arguments)} arrays given, expected {len(dtypes)}", subject=graph.name)
        with wide_numbers(wide):
            return run(*(asarray(a, d) for a, d in zip(arguments, dtypes)))

    call.source = source  # type: ignore[attr-defined]
    return call


__all__ = ["require_jax", "to_jax_callable", "to_jax_source", "wide_numbers"]
