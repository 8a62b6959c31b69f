"""JAX functions as IR graphs, through their jaxpr."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
import torch.utils._pytree as pytree

from ..ir import (
    Graph,
    OpSet,
    TensorType,
    Unsupported,
    UsageError,
    VerifyError,
    builtin_ops,
    checked,
    eliminate_dead_code,
)
from ..ir.build import GraphBuilder, clean_name
from . import jaxpr_indexing, jaxpr_products, jaxpr_views
from .calling import ArgumentLeaf, Baked, InSpec, OutSpec, ResultLeaf, argument_paths
from .export import Imported
from .jaxpr_reader import MAX_UNROLL, Entry, Reader
from .matching import Value

RULES = jaxpr_views.RULES | jaxpr_products.RULES | jaxpr_indexing.RULES
_OWN = os.path.dirname(os.path.abspath(__file__))


def require_jax() -> Any:
    """Return the module ``jax``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("jax")
    except ImportError as error:
        raise UsageError("is not installed; install the extra drt[jax]", subject="jax") from error


@checked
def import_jax(
    function: Callable[..., Any],
    example_args: Sequence[Any],
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    params: bool = False,
    ops: OpSet | None = None,
    name: str = "",
    max_unroll: int = MAX_UNROLL,
    x64: bool | None = None,
) -> Imported:
    """Import a JAX program.

    The graph, its state and its calling convention are what :func:`drt.frontend.import_module` gives for a PyTorch program:
    tensors are PyTorch's.  Functions that are called under ``jit`` are read through, loops of few steps are written out, and
    indices are taken to lie within the axes.

    Args:
        function: a function of arrays in tuples, lists and dicts.
        example_args: positional arguments of one call: arrays of JAX, numpy or PyTorch, ``jax.ShapeDtypeStruct``, and
            numbers that the program is specialised to.
        example_kwargs: keyword arguments of one call.
        params: the arrays of the first argument are parameters: they become state, named after their place
            (``dense.w``), and calls of the imported program leave that argument out.
        ops: the operators; None means the built-in ones.
        name: of the graph; "" takes the function's name.
        max_unroll: steps of a loop that are written out.
        x64: whether JAX keeps 64-bit numbers; None leaves it as JAX is configured.

    Raises:
        UsageError: JAX is not installed or cannot trace the function, or it does what a graph cannot say (random numbers,
            control flow that depends on array contents, other dtypes); placed at the user's line where JAX knows it.
    """
    jax = require_jax()
    ops = builtin_ops() if ops is None else ops
    if not callable(function):
        raise UsageError(f"is a {type(function).__name__}, expected a function", subject="function")
    title = name or clean_name(getattr(function, "__name__", type(function).__name__))
    args, kwargs = tuple(example_args), dict(example_kwargs or {})
    leaves, tree = pytree.tree_flatten((args, kwargs))
    n_params = len(pytree.tree_leaves(args[0])) if params and args else 0
    paths, names = argument_paths(function, args, kwargs)
    arrays = [_is_array(leaf) for leaf in leaves]
    for leaf, path, is_array in zip(leaves, paths, arrays, strict=True):
        if not is_array and not (leaf is None or isinstance(leaf, (bool, int, float, str))):
            raise UsageError(f"is a {type(leaf).__name__}, expected arrays in tuples, lists and dicts", subject=path)
    returned: dict[str, Any] = {}

    def flat(*given: Any) -> list[Any]:
        rest = iter(given)
        call_args, call_kwargs = pytree.tree_unflatten(
            [next(rest) if is_array else leaf for leaf, is_array in zip(leaves, arrays, strict=True)], tree
        )
        results, returned["tree"] = pytree.tree_flatten(function(*call_args, **call_kwargs))
        returned["leaves"] = results
        return [v for v in results if hasattr(v, "dtype")]

    with _precision(jax, x64):
        examples = [_as_jax(jax, leaf) for leaf, is_array in zip(leaves, arrays, strict=True) if is_array]
        try:
            closed = jax.make_jaxpr(flat)(*examples)
        except Exception as error:
            raise UsageError(
                f"jax.make_jaxpr fails: {_cause(error)}", place=_user_line(error), subject=title
            ) from error
    builder = GraphBuilder(title, ops, ())
    reader = Reader(builder, RULES, max_unroll)
    state: dict[str, torch.Tensor] = {}
    arguments: list[Entry] = []
    argument_leaves: list[ArgumentLeaf] = []
    avals = iter(closed.in_avals)
    try:
        inputs = []
        for i, (leaf, path, is_array) in enumerate(zip(leaves, paths, arrays, strict=True)):
            if not is_array:
                argument_leaves.append(Baked(leaf))
                continue
            aval = next(avals)
            inputs.append((i, TensorType(reader.dtype(aval.dtype), tuple(aval.shape)), path))
        # Parameters follow the inputs, as in graphs of PyTorch programs; their names keep their places.
        values: dict[int, Value] = {}
        for i, own_type, path in sorted(inputs, key=lambda item: item[0] < n_params):
            target = _target(path) if i < n_params else ""
            kind = "param" if i < n_params else "input"
            values[i] = Value(builder.input(_stem(target or path), own_type, kind, target), own_type)
            if i < n_params:
                state[target] = to_tensor(leaves[i], own_type.dtype)
        arguments = [reader.of_value(values[i]) for i, _, _ in inputs]
        outputs = reader.closed(closed, arguments)
        names_out = [reader.whole(o).name for o in outputs]
    except (Unsupported, UsageError, VerifyError) as error:
        raise UsageError(error.message, place=error.place, subject=error.subject or title) from None
    for target, array in reader.constants.items():
        state[target] = to_tensor(array, builder.types[target].dtype)
    graph = _live(builder.build(names_out))
    kept = {i.target for i in graph.inputs}
    own = {values[i].name: i for i in values if i >= n_params}
    by_place = {i: name for name, i in own.items()}
    baked = {i: leaf for i, (leaf, is_array) in enumerate(zip(leaves, arrays, strict=True)) if not is_array}
    places = [i for i in range(len(leaves)) if i >= n_params]
    result_leaves: list[ResultLeaf] = []
    count = 0
    for leaf in returned["leaves"]:
        if hasattr(leaf, "dtype"):
            result_leaves.append(count)
            count += 1
        else:
            result_leaves.append(Baked(leaf))
    return Imported(
        graph=graph,
        state={k: v for k, v in state.items() if k in kept},
        in_spec=InSpec(
            tree=pytree.tree_structure((args[1:] if n_params else args, kwargs)),
            leaves=tuple(by_place[i] if i in by_place else Baked(baked[i]) for i in places),
            paths=tuple(paths[i] for i in places),
            parameters=tuple(names[1:] if n_params else names),
        ),
        out_spec=OutSpec(returned["tree"], tuple(result_leaves)),
        unknown=(),
    )


def _live(graph: Graph) -> Graph:
    """Return the graph without nodes, parameters and constants that nothing reads."""
    graph = eliminate_dead_code(graph)
    used = {name for node in graph.nodes for name in node.uses()} | graph.live_out
    return attrs.evolve(graph, inputs=tuple(i for i in graph.inputs if i.kind == "input" or i.name in used))


# -- arrays -----------------------------------------------------------------------------------------------------------------


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _as_jax(jax: Any, value: Any) -> Any:
    """Return the shape and dtype of an array, as JAX keeps them."""
    dtype = value.dtype
    if isinstance(value, torch.Tensor):
        name = str(dtype).removeprefix("torch.")
        dtype = jax.numpy.bfloat16 if name == "bfloat16" else np.dtype(name)
    if not str(dtype).startswith("key<"):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(tuple(value.shape), dtype)


def to_tensor(array: Any, dtype: str = "") -> torch.Tensor:
    """Return an array of JAX or numpy as a tensor of its own, of an IR dtype where one is given.

    Raises:
        UsageError: it has a shape alone.
    """
    from .importer import TORCH_DTYPES

    if isinstance(array, torch.Tensor):
        tensor = array.detach().clone()
    else:
        if type(array).__name__ == "ShapeDtypeStruct":
            raise UsageError("has a shape but no content, expected an array", subject="parameter")
        own = np.array(array)
        half = str(own.dtype) == "bfloat16"
        tensor = torch.from_numpy(own.astype(np.float32) if half else own)
        tensor = tensor.to(torch.bfloat16) if half else tensor
    return tensor.to(TORCH_DTYPES[dtype]) if dtype else tensor


def _target(path: str) -> str:
    """Return the name of a parameter from Python text of its place: ``p['dense'][0]`` is ``dense.0``."""
    parts = re.findall(r"\[(?:'([^']*)'|(\d+))\]|\.(\w+)", path)
    return ".".join(next(p for p in part if p) for part in parts) or path


def _stem(path: str) -> str:
    return re.sub(r"_+", "_", clean_name(path)).strip("_") or "x"


# -- tracing ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _precision(jax: Any, x64: bool | None) -> Iterator[None]:
    if x64 is None:
        yield
        return
    wide = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64
    with wide(x64):
        yield


def _cause(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    kind = type(error).__name__
    if any(word in kind for word in ("Tracer", "Concret")) or "Tracer" in text:
        return f"control flow or a size depends on array contents ({kind})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _user_line(error: BaseException) -> str:
    """Return ``file:line`` of the innermost frame of the user's code."""
    site = os.path.dirname(os.path.dirname(np.__file__))
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith((site, _OWN, "<", os.path.dirname(os.__file__))):
            place = f"{frame.filename}:{frame.lineno}"
    return place


__all__ = ["import_jax", "to_tensor"]
