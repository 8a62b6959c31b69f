"""``torch.export`` programs as IR graphs."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Union

import attrs
import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    TensorArgument,
)

from ..ir import (
    Graph,
    InternalError,
    OpSet,
    Size,
    SizeLike,
    Unsupported,
    UsageError,
    VerifyError,
    builtin_ops,
    eliminate_dead_code,
    require,
    unroll,
)
from ..ir.build import GraphBuilder, clean_name
from ..ir.graph import Update
from ..ir.guards import Facts, Guard, tightened
from ..ir.size import substitute, symbol
from .calling import ArgumentLeaf, Baked, ComplexPair, Extent, InSpec, OutSpec, ResultLeaf, argument_paths
from .functional import make_functional
from .importer import DTYPE_NAMES, Importer, Unknown
from .matching import Value
from .reasons import cause, require_importable, where_module_is
from .sizes import LARGEST, SymbolTable, range_of, require_sizes
from .training import visible_updates
from .transforms import fails_in_transform, has_transforms, traced

#: ``{"x": {0: "B"}}``, ``{"x": {0: ("B", 1, 4096)}}``, or what ``torch.export`` takes as ``dynamic_shapes``.
Dynamic: TypeAlias = Mapping[str, Any]

#: The range of a symbol that was given by name alone.
DEFAULT_RANGE = (1, 65536)

_KINDS = {
    InputKind.PARAMETER: "param",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
    InputKind.USER_INPUT: "input",
}
_STATE_MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)
_LIBRARY = os.path.dirname(torch.__file__)


@attrs.frozen(eq=False)
class Imported:
    """A program as a graph, with what is needed to call it.

    Attributes:
        graph: inputs first, then the parameters, buffers and constants that it reads.
        state: ``Input.target`` -> the module's own tensor, for every param, buffer and constant of the graph.
        in_spec: how the arguments of a call become the graph's inputs.
        out_spec: how the graph's outputs become the result.
        unknown: the ATen targets that are left opaque.
        autocast: the type of device (``cpu``, ``cuda``) for which autocast was on around the import, as far as it casts.
    """

    graph: Graph
    state: Mapping[str, torch.Tensor]
    in_spec: InSpec
    out_spec: OutSpec
    unknown: tuple[Unknown, ...]
    autocast: str = ""

    def bind(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Return the tensors for the graph's inputs, state included, in order.

        Raises:
            UsageError: the arguments do not have the structure of the example inputs.
        """
        given = iter(self.in_spec.flatten(*args, **kwargs))
        return [next(given) if i.kind == "input" else self.state[i.target] for i in self.graph.inputs]

    def result(self, outputs: torch.Tensor | Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> Any:
        """Return the nested result of a call.

        Args:
            outputs: the graph's outputs: one tensor, or a tuple of them.
            inputs: what :meth:`bind` returned; sizes among the results are read off it.
        """
        sizes: dict[str, SizeLike] = {}
        for i, tensor in zip(self.graph.inputs, inputs, strict=True):
            sizes.update({str(s): n for s, n in zip(i.type.shape, tensor.shape, strict=True) if isinstance(s, Size)})
        several = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        return self.out_spec.unflatten(several, lambda size: int(substitute(size, sizes)))  # type: ignore[arg-type]


def import_module(
    module: Union[torch.nn.Module, Callable[..., Any]],
    example_inputs: Sequence[Any],
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    ops: OpSet | None = None,
    dynamic: Dynamic | None = None,
    training: bool | None = False,
    name: str = "",
    unroll_steps: int = 0,
) -> Imported:
    """Import a PyTorch program.

    Args:
        module: an ``nn.Module`` or a function of tensors.
        example_inputs: positional arguments of one call: tensors, and numbers that the program is specialised to.
        example_kwargs: keyword arguments of one call.
        ops: the operators; None means the built-in ones.
        dynamic: which sizes stay symbols: parameter of ``forward`` -> axis -> name or ``(name, lowest, highest)``.
        training: the mode to import in; None leaves each submodule as it is.
        name: of the graph; "" takes the class's or function's name.
        unroll_steps: recurrent sequences of at most so many steps are written as their steps.

    Raises:
        UsageError: PyTorch cannot export the program, or it does what a graph cannot say (complex numbers, sizes that
            depend on tensor contents, control flow); placed at the user's line where PyTorch knows it.
    """
    ops = builtin_ops() if ops is None else ops
    for argument, value, hint in (("ops", ops, OpSet), ("name", name, str), ("unroll_steps", unroll_steps, int)):
        require(value, hint, f"import_module: {argument}")
    _require_call(module, example_inputs, example_kwargs)
    args, kwargs = tuple(example_inputs), dict(example_kwargs or {})
    owner = module if isinstance(module, torch.nn.Module) else _as_module(module)
    title = name or getattr(module, "__name__", type(module).__name__)
    require_importable(module, (), {}, (), title)
    paths, parameters = argument_paths(module.forward if isinstance(module, torch.nn.Module) else module, args, kwargs)
    require_importable(None, args, kwargs, paths, title)
    args, kwargs = where_module_is(module, args, kwargs)
    shapes = None if dynamic is None else _dynamic_shapes(dynamic, owner, args, kwargs)
    with _mode(owner, training):
        program = _exported(owner, args, kwargs, shapes, title)
    try:
        imported = exported_graph(program, title, ops, args, kwargs, dynamic, (paths, parameters))
        imported = attrs.evolve(imported, autocast=_autocast_of(args, kwargs, owner))
        if not unroll_steps:
            return imported
        return attrs.evolve(imported, graph=eliminate_dead_code(unroll(imported.graph, unroll_steps, ops)))
    except Unsupported as error:
        raise UsageError(error.message, place=error.place, subject=title) from None


def _autocast_of(args: Any, kwargs: Any, module: torch.nn.Module) -> str:
    """Return the type of the program's device where autocast is on for it now; empty elsewhere."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)] + list(module.parameters())
    device = tensors[0].device.type if tensors else "cpu"
    return device if device in ("cpu", "cuda") and torch.is_autocast_enabled(device) else ""


# -- export ---------------------------------------------------------------------------------------------------------------


def _exported(module: torch.nn.Module, args: Any, kwargs: Any, shapes: Any, title: str) -> Any:
    try:
        with torch.no_grad(), quiet(), visible_updates(module):
            return make_functional(_exported_below_transforms(module, args, kwargs, shapes, title))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"torch.export fails: {cause(error)}", place=_user_line(error, module), subject=title
        ) from error


def _exported_below_transforms(module: torch.nn.Module, args: Any, kwargs: Any, shapes: Any, title: str) -> Any:
    """Export a program, where need be from a trace of it without ``torch.vmap`` and ``torch.func``."""
    try:
        program = _exported_for_sizes(module, args, kwargs, shapes)
        if not has_transforms(program):
            return program
    except Exception as error:
        if not fails_in_transform(error):
            raise
    if shapes is not None:
        raise UsageError(
            "transforms of functions (torch.vmap, torch.func) have symbolic sizes, expected numbers", subject=title
        )
    with traced(module, args, kwargs):
        return torch.export.export(module, args, kwargs, strict=False)


#: How PyTorch says that a program takes fewer sizes than were named, and of which names.
_FEWER = re.compile(r"(?:Constraints violated|Specializations unexpectedly required) \(([^)]*)\)!")


def _exported_for_sizes(module: torch.nn.Module, args: Any, kwargs: Any, shapes: Any) -> Any:
    """Export a program for all sizes that were named, or for those of them that it takes.

    What PyTorch finds to hold of the example's sizes alone then stands in the program as assertions, which become guards.
    """
    try:
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        found = _FEWER.match(str(error))
        if found is None:
            raise
        names = {n.strip() for n in found[1].split(",")}
    attempts: list[set[str] | None] = [names, None]
    for loose in attempts:
        try:
            return torch.export.export(
                module, args, kwargs, dynamic_shapes=_loosened(shapes, loose), strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )  # fmt: skip
        except Exception as error:
            if loose is None or _FEWER.match(str(error)) is None:
                raise
    raise InternalError("the last attempt returns or raises")


def _loosened(shapes: Any, names: set[str] | None) -> Any:
    """Return dynamic sizes of which PyTorch may find that fewer work: those of these names, or all."""
    if isinstance(shapes, torch.export.Dim):
        return (
            torch.export.Dim.AUTO(min=shapes.min, max=shapes.max)
            if names is None or shapes.__name__ in names
            else shapes
        )
    if isinstance(shapes, Mapping):
        return {k: _loosened(v, names) for k, v in shapes.items()}
    return type(shapes)(_loosened(v, names) for v in shapes) if isinstance(shapes, (list, tuple)) else shapes


def _user_line(error: BaseException, module: torch.nn.Module) -> str:
    """Return ``file:line`` of the innermost frame of the user's code, ``forward`` and what it calls."""
    own = os.path.dirname(os.path.abspath(__file__))
    seen_export, place = False, ""
    for frame in traceback.extract_tb(error.__traceback__):
        inside = frame.filename.startswith((_LIBRARY, own, "<"))
        seen_export = seen_export or (inside and frame.filename.startswith(_LIBRARY))
        if seen_export and not inside and not frame.filename.startswith(os.path.dirname(os.__file__)):
            place = f"{frame.filename}:{frame.lineno}"
    if place:
        return place
    try:
        file = inspect.getsourcefile(module.forward)
        return f"{file}:{inspect.getsourcelines(module.forward)[1]}" if file and not file.startswith(_LIBRARY) else ""
    except (TypeError, OSError):
        return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep PyTorch's log and warnings off the screen: what goes wrong is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # the partial graph of an export that fails
                yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _mode(module: torch.nn.Module, training: bool | None) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    # An exported module keeps the mode that it was exported in, and has a method of its own that says so.
    if training is not None and "train" not in vars(module):
        module.train(training)
    try:
        yield
    finally:
        for m, was in modes:
            m.training = was


def _require_call(module: Any, args: Any, kwargs: Any) -> None:
    """Raise UsageError unless a module, or a function, comes with a list of arguments and a dict of them."""
    if isinstance(module, torch.export.ExportedProgram):
        raise UsageError("is an ExportedProgram, expected its module() here, or import_exported", subject="module")
    if isinstance(module, type):
        raise UsageError(f"is the class {module.__name__}, expected an object of it", subject="module")
    if not isinstance(args, (list, tuple)):
        raise UsageError(f"is a {type(args).__name__}, expected a list of arguments", subject="example_inputs")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(f"is a {type(kwargs).__name__}, expected arguments by name", subject="example_kwargs")


def _as_module(function: Callable[..., Any]) -> torch.nn.Module:
    if not callable(function):
        raise UsageError(f"is a {type(function).__name__}, expected an nn.Module or a function", subject="module")
    module = torch.nn.Module()
    if isinstance(function, types.FunctionType):
        # PyTorch records source lines of code objects that are called forward, and of no others.
        code = function.__code__.replace(co_name="forward")
        renamed = types.FunctionType(code, function.__globals__, "forward", function.__defaults__, function.__closure__)
        renamed.__kwdefaults__ = function.__kwdefaults__
        function = renamed
    elif not isinstance(function, types.MethodType):
        called = function

        def forward(*args: Any, **kwargs: Any) -> Any:
            return called(*args, **kwargs)

        with contextlib.suppress(TypeError, ValueError):
            forward.__signature__ = inspect.signature(called)  # type: ignore[attr-defined]
        function = forward
    module.forward = function
    return module


def _dynamic_shapes(dynamic: Dynamic, module: torch.nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    names = list(inspect.signature(module.forward).parameters)
    known = [*names[: len(args)], *kwargs]
    if not isinstance(dynamic, Mapping):
        raise UsageError(f"is a {type(dynamic).__name__}, expected {{argument: {{axis: name}}}}", subject="dynamic")
    for key in dynamic:
        if key not in known:
            raise UsageError(
                f"is not an argument of the example call, expected one of {', '.join(known)}", subject=str(key)
            )
    values = dict(zip(names, args, strict=False)) | kwargs
    require_sizes(dynamic, values)
    dims: dict[str, Any] = {}

    def convert(spec: Any) -> Any:
        if isinstance(spec, Mapping):
            return {k: convert(v) for k, v in spec.items()}
        if isinstance(spec, tuple) and len(spec) == 3 and isinstance(spec[0], str):
            return dims.setdefault(spec[0], torch.export.Dim(spec[0], min=spec[1], max=spec[2]))
        if isinstance(spec, str):
            return dims.setdefault(spec, torch.export.Dim(spec, min=DEFAULT_RANGE[0], max=DEFAULT_RANGE[1]))
        if isinstance(spec, (list, tuple)):
            return type(spec)(map(convert, spec))
        return spec

    return {k: convert(dynamic[k]) if k in dynamic else pytree.tree_map(lambda _: None, values[k]) for k in known}


# -- import ---------------------------------------------------------------------------------------------------------------


def exported_graph(
    program: Any, title: str, ops: OpSet, args: Any, kwargs: Any, dynamic: Dynamic | None,
    convention: tuple[list[str], list[str]],
) -> Imported:  # fmt: skip
    """Return a functional ``ExportedProgram`` as a graph.

    Args:
        program: what :func:`drt.frontend.functional.make_functional` returns.
        title: the name of the graph.
        ops: the operators.
        args: positional arguments of one call, or anything of their structure.
        kwargs: keyword arguments likewise.
        dynamic: which sizes are symbols, for their names.
        convention: what :func:`.calling.argument_paths` returns.

    Raises:
        Unsupported, UsageError: the program does what a graph cannot say.
    """
    signature = program.graph_signature
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    table, guards = _symbols(program, placeholders, dynamic)
    builder = GraphBuilder(title, ops, (), guards)
    importer = Importer(builder, table)
    env: dict[torch.fx.Node, Any] = {}
    state: dict[str, torch.Tensor] = {}
    # Names of fx nodes are taken, so that a parameter does not push a value out of its name.
    taken = {n.name for n in program.graph.nodes}
    argument_leaves: list[ArgumentLeaf] = []
    complexes: set[str] = set()
    given: dict[str, str] = {}  # fx name of a user input -> value name
    for spec in signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        node = placeholders[spec.arg.name]
        if isinstance(spec.arg, TensorArgument):
            value = importer.input(node.name, node.meta["val"], "input", "")
            env[node] = value
            given[node.name] = value.name
            argument_leaves.append(value.name)
            if value.complex:
                complexes.add(value.name)
        elif isinstance(spec.arg, ConstantArgument):
            env[node] = spec.arg.value
            argument_leaves.append(Baked(spec.arg.value))
        else:
            raise Unsupported(f"argument {node.name} is a symbolic number, expected a tensor or a plain number")
    values: dict[str, str] = {}  # FQN -> value name
    for spec in signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            continue
        if spec.kind not in _KINDS or spec.target is None:
            held = type(program.constants.get(spec.target)).__name__
            what = f"a {held}" if spec.kind == InputKind.CUSTOM_OBJ else f"an input of kind {spec.kind.name}"
            raise Unsupported(f"the program uses {what}, expected tensors")
        node = placeholders[spec.arg.name]
        tensor = program.state_dict.get(spec.target)
        if tensor is None:
            tensor = program.constants[spec.target]
        mutated = any(s.target == spec.target for s in signature.output_specs if s.kind in _STATE_MUTATIONS)
        if not node.users and not mutated:
            continue
        # A complex tensor enters as a pair of reals, which is a tensor of the program's own.
        kind = "constant" if tensor.is_complex() else _KINDS[spec.kind]
        if tensor.is_complex() and mutated:
            raise Unsupported(f"buffer {spec.target} is complex and changes, expected a real one")
        number = None
        if kind == "constant" and tensor.dim() == 0 and tensor.dtype in DTYPE_NAMES and not tensor.is_meta:
            number = tensor.item()
        stem = clean_name(spec.target)
        value = importer.input(node.name if stem in taken else stem, node.meta["val"], kind, spec.target, number)
        env[node] = value
        values[spec.target] = value.name
        state[spec.target] = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    try:
        returned = importer.run(program.graph, env)
    except (Unsupported, UsageError, VerifyError) as error:
        error.subject = error.subject or title
        raise error.at(str(importer.location or "")) from None
    outputs, updates, result_leaves = _outputs(signature, returned, values, given)
    for n, tensor in importer.constants.items():
        state[n] = tensor
    builder.symbols = table.symbols()
    graph = _without_dead(builder.build(outputs, updates))
    kept = {i.target for i in graph.inputs}
    return Imported(
        graph=graph,
        state={k: v for k, v in state.items() if k in kept},
        in_spec=InSpec(
            tree=pytree.tree_structure((args, kwargs)),
            leaves=tuple(argument_leaves),
            paths=tuple(convention[0]),
            parameters=tuple(convention[1]),
            complexes=frozenset(complexes),
        ),
        out_spec=OutSpec(program.call_spec.out_spec, tuple(result_leaves)),
        unknown=tuple(Unknown(t, c, r) for t, (c, r) in importer.unknown.items()),
    )


def _symbols(
    program: Any, placeholders: Mapping[str, torch.fx.Node], dynamic: Dynamic | None
) -> tuple[SymbolTable, tuple[Guard, ...]]:
    """Return the program's symbols by the names that the user gave them, and what it demands of them beyond their ranges."""
    backed: set[Any] = set()
    for node in placeholders.values():
        for size in getattr(node.meta.get("val"), "shape", ()):
            if isinstance(size, torch.SymInt):
                backed |= size.node.expr.free_symbols
    # A symbol that no argument shows stands for a size that tensor contents decide.
    ranges = {s: range_of(r) for s, r in program.range_constraints.items() if s in backed}
    names: dict[Any, str] = {}
    if dynamic is not None:
        for spec, fx_name in _dynamic_leaves(dynamic, program, placeholders):
            fake = placeholders[fx_name].meta["val"]
            for axis, dim in spec.items() if isinstance(spec, Mapping) else enumerate(spec or ()):
                label, ends = _label_and_range(dim)
                size = fake.shape[axis]
                if label and isinstance(size, int):
                    message = f"{label} = {size} is the only size that the program takes"
                    raise UsageError(f"torch.export fails: Constraints violated ({label}): {message}")
                if label and isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                    names.setdefault(size.node.expr, label.lstrip("_") or label)
                    lo, hi = ranges.get(size.node.expr, ends)
                    ranges[size.node.expr] = max(lo, ends[0]), min(hi, ends[1])
    demanded = [
        node.args[0].meta["val"].node.expr
        for node in program.graph.nodes
        if str(node.target) == "aten._assert_scalar.default" and isinstance(node.args[0], torch.fx.Node)
        and isinstance(node.args[0].meta.get("val"), torch.SymBool)
    ]  # fmt: skip
    demanded = [e for e in demanded if e.free_symbols <= backed]
    table = SymbolTable(ranges, names)
    if not demanded:
        return table, ()
    guards, left = tightened(table.guards(demanded), table.symbols())
    for s in ranges:
        values = left.get(names.get(s, str(s)))
        if values is not None:
            if len(values) < 2:
                only = f"{names.get(s, s)} = {values[0]} is the only size" if values else "there is no size"
                raise UsageError(
                    f"torch.export fails: Constraints violated ({names.get(s, s)}): {only} that the program takes"
                )
            ranges[s] = values[0], values[-1]
    narrower = SymbolTable(ranges, names)
    sizes: dict[str, SizeLike] = {s.name: symbol(s.name, s.lo, s.hi) for s in narrower.symbols()}
    said = [g for g in (g.substitute(sizes) for g in guards) if isinstance(g, Guard)]
    kept = [g for g in said if len(g.symbols()) == 1]
    for g in sorted((g for g in said if len(g.symbols()) != 1), key=lambda g: len(str(g))):
        if not Facts(kept).implies(g):
            kept.append(g)
    return narrower, tuple(kept)


def _label_and_range(dim: Any) -> tuple[str, tuple[int, int]]:
    """Return the name and the range of a dynamic axis as the user gave them."""
    if isinstance(dim, str):
        return dim, DEFAULT_RANGE
    if isinstance(dim, tuple):
        return str(dim[0]), (int(dim[1]), int(dim[2]))
    lo, hi = getattr(dim, "min", None), getattr(dim, "max", None)
    return getattr(dim, "__name__", ""), (lo if isinstance(lo, int) else 0, hi if isinstance(hi, int) else LARGEST)


def _dynamic_leaves(
    dynamic: Dynamic, program: Any, placeholders: Mapping[str, torch.fx.Node]
) -> Iterator[tuple[Any, str]]:
    """Yield the shape specification of each tensor argument that has one, with the name of its fx node."""
    for key, spec in dynamic.items():
        if key in placeholders and spec is not None:
            yield spec, key
            continue
        # A nested argument: its leaves are named after it (``batch_mask``).
        for path, leaf in pytree.tree_flatten_with_path(
            spec, is_leaf=lambda s: isinstance(s, Mapping) and all(isinstance(k, int) for k in s)
        )[0]:
            parts = [str(getattr(k, "key", getattr(k, "idx", k))) for k in path]
            if leaf is not None and "_".join([key, *parts]) in placeholders:
                yield leaf, "_".join([key, *parts])


def _outputs(
    signature: Any, returned: Sequence[Any], values: Mapping[str, str], given: Mapping[str, str]
) -> tuple[list[str], list[Update], list[ResultLeaf]]:
    outputs: list[str] = []
    updates: list[Update] = []
    leaves: list[ResultLeaf] = []
    for spec, value in zip(signature.output_specs, returned, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            if isinstance(value, Value):
                leaves.append(ComplexPair(len(outputs)) if value.complex else len(outputs))
                outputs.append(value.name)
            elif isinstance(value, Size):
                leaves.append(Extent(value))
            else:
                leaves.append(Baked(value))
        elif spec.kind in _STATE_MUTATIONS:
            updates.append(Update(values[spec.target], value.name))
        elif spec.kind == OutputKind.USER_INPUT_MUTATION:
            updates.append(Update(given[spec.target], value.name))
        else:
            raise Unsupported(
                f"the program has an output of kind {spec.kind.name}, expected results and buffer updates"
            )
    return outputs, updates, leaves


def _without_dead(graph: Graph) -> Graph:
    """Return the graph without nodes and state inputs that nothing reads."""
    live = set(graph.live_out) | {u.target for u in graph.updates}
    nodes = []
    for node in reversed(graph.nodes):
        if any(r in live for r in node.results):
            nodes.append(node)
            live.update(node.uses())
    inputs = tuple(i for i in graph.inputs if i.kind == "input" or i.name in live)
    return attrs.evolve(graph, inputs=inputs, nodes=tuple(reversed(nodes)))


__all__ = ["DEFAULT_RANGE", "Dynamic", "Imported", "import_module"]
