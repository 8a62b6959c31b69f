"""The interpreter: graphs on float64 tensors, from the definitions of their operators alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch

from ...ir import (
    OPAQUE,
    Graph,
    Inferred,
    Input,
    InternalError,
    Literal,
    Node,
    OpDef,
    Operand,
    OpSet,
    Size,
    SizeLike,
    TensorType,
    UsageError,
    bindings,
    builtin_ops,
    evaluate,
    expand_graph,
    find_op,
    infer,
)
from ...ir.binding import read_sizes
from ...ir.opdef import Expand, Hook, Index, Opaque, Param, Random, Reduce, Scalar
from ...ir.size import substitute
from ...ir.typesys import is_float
from ..opaque import run_opaque
from ..resolve import Part, prepare_clause, run_clause
from .bodies import KEPT_DTYPES, Body, combine, to_tensor
from .chance import SAMPLERS
from .hooks import HOOKS

#: ``definition`` reads bodies; ``torch`` calls each operator's ``torch`` clause, for sizes at which bodies are slow.
MODES = ("definition", "torch")


class Oracle:
    """Evaluates graphs in float64.

    What is random is drawn anew at each run, from PyTorch's generator.

    Rounding to the graph's dtypes is left out: the oracle gives the values that exact arithmetic would give, up to
    float64.  Integers and booleans are exact, and wrap as PyTorch's do.

    Args:
        ops: the operators; the built-in ones if None.
        mode: one of ``MODES``.
    """

    def __init__(self, ops: OpSet | None = None, mode: str = "definition") -> None:
        if mode not in MODES:
            raise UsageError(f"mode is {mode}, expected one of {', '.join(MODES)}", subject="oracle")
        self.ops = builtin_ops() if ops is None else ops
        self.mode = mode

    def run(self, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> list[Any]:
        """Return the outputs of ``graph``, in order, as float64, integer or bool tensors; numbers and None stay.

        Args:
            graph: the program; its symbols are bound by the shapes of ``inputs``.
            inputs: a tensor per input by value name, all on one device; any float dtype.

        Raises:
            UsageError: an input is missing or its shape does not fit.
        """
        values = self.values(graph, inputs)
        return [_pick(o, values) for o in graph.outputs]

    def values(self, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return every value of ``graph`` by name, those of buffer updates included; see :meth:`run`."""
        symbols: dict[str, SizeLike] = dict(read_sizes(graph, {n: tuple(t.shape) for n, t in inputs.items()}))
        values: dict[str, torch.Tensor] = {}
        types: dict[str, TensorType] = {}
        for i in graph.inputs:
            values[i.name] = inputs[i.name].detach().to(KEPT_DTYPES[i.type.dtype])
            types[i.name] = i.type.substitute(symbols)
        device = next((v.device for v in values.values()), torch.device("cpu"))
        for node in graph.nodes:
            results = self._node(node, values, types, symbols, device)
            for name, (value, t) in zip(node.results, results, strict=True):
                values[name], types[name] = value, t
        return values

    def apply(
        self, op: OpDef, operands: tuple[Any, ...], types: tuple[Any, ...], attributes: Mapping[str, Any],
        inferred: Inferred | None = None,
    ) -> list[torch.Tensor]:  # fmt: skip
        """Return the results of one call.

        Args:
            op: the definition.
            operands: tensors as the oracle keeps them, literals, ``None``, or tuples of tensors.
            types: the operands' types, as for ``infer``.
            attributes: by name, static.
            inferred: what ``infer`` says of the call, where that is known.
        """
        device = next((t.device for t in _leaves(operands)), torch.device("cpu"))
        inferred = infer(op, types, attributes) if inferred is None else inferred
        return self._call(op, operands, types, attributes, inferred, device)

    def prepare(
        self, node: Node, types: Mapping[str, TensorType]
    ) -> Callable[[Mapping[str, torch.Tensor]], list[torch.Tensor]]:
        """Return a node of a valid static program as a function of the program's values by name, to be run many times.

        Args:
            node: its attributes complete.
            types: of the program's values.
        """
        op = find_op(node.op, self.ops)
        operands = tuple(_pick(o, types) for o in node.operands)
        device = torch.device("cpu")
        if self.mode != "torch" or "torch" not in op.calls:
            inferred = infer(op, operands, node.attributes)
            return lambda table: self._call(
                op, tuple(_pick(o, table) for o in node.operands), operands, node.attributes, inferred, device
            )
        env = bindings(op, operands, node.attributes)
        known: dict[str, Part] = {n: (True, v) for n, v in _dtype_names(op, env).items()}
        padded = (*node.operands, *(None,) * (len(op.operands) - len(node.operands)))
        for p, o in zip(op.operands, padded, strict=True):
            if isinstance(o, (str, tuple)):
                known[p.name] = (False, itemgetter(o) if isinstance(o, str) else _several(o))
            else:
                known[p.name] = (True, _operand(o, p, env, device))
        clause = prepare_clause(op.calls["torch"], known, env)
        declared: list[tuple[bool, torch.dtype, Any]] = [
            (is_float(t.dtype), KEPT_DTYPES[t.dtype], t.shape) for t in node.types
        ]

        def run(table: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
            found = clause(table)
            out = []
            for v, (floating, dtype, shape) in zip(
                found if isinstance(found, (tuple, list)) else (found,), declared, strict=True
            ):
                v = to_tensor(v, device=device)
                if v.dtype != dtype and not (floating and v.dtype.is_floating_point):
                    v = v.to(dtype)
                # Elements that share memory (of ``expand``) are what some kernels do not expect: ``torch.median`` gives others.
                out.append((v.expand(shape) if v.shape != shape else v).contiguous())
            return out

        return run

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _node(
        self,
        node: Node,
        values: Mapping[str, torch.Tensor],
        types: Mapping[str, TensorType],
        symbols: Mapping[str, SizeLike],
        device: torch.device,
    ) -> list[tuple[torch.Tensor, TensorType]]:
        result_types = [t.substitute(dict(symbols)) for t in node.types]
        attributes = {k: _static(v, symbols) for k, v in node.attrs}
        if node.op == OPAQUE:
            return list(zip(_run_opaque(node, values, result_types, symbols, device), result_types, strict=True))
        op = find_op(node.op, self.ops)
        operands = tuple(_pick(o, values) for o in node.operands)
        operand_types = tuple(_pick(o, types) for o in node.operands)
        inferred = infer(op, operand_types, attributes)
        results = self._call(op, operands, operand_types, attributes, inferred, device)
        return list(zip(results, inferred.types, strict=True))

    def _call(
        self,
        op: OpDef,
        operands: tuple[Any, ...],
        types: tuple[Any, ...],
        attributes: Mapping[str, Any],
        inferred: Inferred,
        device: torch.device,
    ) -> list[torch.Tensor]:
        body = op.body
        by_name = _operand_tensors(op, operands, inferred, device)
        if (self.mode == "torch" or isinstance(body, Opaque)) and "torch" in op.calls:
            results = _run_torch(op, by_name, inferred)
        elif isinstance(body, Expand):
            results = self._expand(op, operands, types, inferred, device)
        elif isinstance(body, Hook):
            if body.name not in HOOKS:
                raise InternalError(f"{op.name}: no hook is called {body.name}")
            results = HOOKS[body.name](by_name, inferred.env)
        elif isinstance(body, Random):
            values = [Body(inferred.env, by_name, device).value(p) for p in body.parameters]
            results = [SAMPLERS[body.distribution](inferred.types[0].shape, values, device)]  # type: ignore[arg-type]
        elif isinstance(body, Opaque):
            raise UsageError(f"has neither a meaning nor a torch clause: {body.reason}", subject=op.name)
        else:
            results = _run_body(body, by_name, inferred, device)
        return [_as_declared(v, t, device) for v, t in zip(results, inferred.types, strict=True)]

    def _expand(
        self, op: OpDef, operands: tuple[Any, ...], types: tuple[Any, ...], inferred: Inferred, device: torch.device
    ) -> list[torch.Tensor]:
        """Return the results of a composite: its expansion, evaluated."""
        values: dict[str, torch.Tensor] = {}
        inputs: list[Input] = []

        def name(value: Any, t: Any, stem: str) -> Operand:
            if isinstance(value, tuple):
                return tuple(name(v, s, f"{stem}_{i}") for i, (v, s) in enumerate(zip(value, t, strict=True)))
            if isinstance(value, torch.Tensor):
                inputs.append(Input(f"operand_{stem}", t))
                values[f"operand_{stem}"] = value
                return f"operand_{stem}"
            return value  # type: ignore[no-any-return]

        named = tuple(name(v, t, str(i)) for i, (v, t) in enumerate(zip(operands, types, strict=True)))
        results = tuple(f"result_{p.name}" for p in op.results)
        node = Node(op.name, named, inferred.attributes, results, inferred.types)
        graph = expand_graph(Graph(op.name, tuple(inputs), (node,), results), self.ops)
        known = {i.name: i.type for i in inputs}
        for inner in graph.nodes:
            for r, (value, t) in zip(inner.results, self._node(inner, values, known, {}, device), strict=True):
                values[r], known[r] = value, t
        picked = [_pick(o, values) for o in graph.outputs]
        return [to_tensor(v.value if isinstance(v, Literal) else v, device=device) for v in picked]


# -- one body ---------------------------------------------------------------------------------------------------------


def _run_body(
    body: Scalar | Reduce | Index, tensors: Mapping[str, Any], inferred: Inferred, device: torch.device
) -> list[torch.Tensor]:
    """Return the results of a scalar, reduce or index body."""
    if isinstance(body, Scalar):
        return [to_tensor(Body(inferred.env, tensors, device).value(e), device=device) for _, e in body.exprs]
    if isinstance(body, Index):
        walk = Body(inferred.env, tensors, device)
        walk.bind_coordinates(body.coordinates, inferred.types[0].shape)  # type: ignore[arg-type]
        return [to_tensor(walk.value(body.expr), device=device)]
    shape = torch.broadcast_shapes(*(t.shape for t in _leaves(tuple(tensors.values()))))
    v = to_tensor(Body(inferred.env, tensors, device).value(body.expr), device=device).expand(shape)
    axes = evaluate(body.axes, inferred.env)
    v = combine(body.combiner, v, list(axes) if isinstance(axes, tuple) else [axes])
    return [v.reshape(inferred.types[0].shape)]  # type: ignore[arg-type]


def _run_torch(op: OpDef, tensors: Mapping[str, Any], inferred: Inferred) -> list[torch.Tensor]:
    """Return the results of the ``torch`` clause on the kept dtypes."""
    value = run_clause(op.calls["torch"], {**_dtype_names(op, inferred.env), **tensors}, inferred.env)
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _dtype_names(op: OpDef, env: Mapping[str, Any]) -> dict[str, torch.dtype]:
    """Return the dtypes in which values are kept, by the names that a clause has for them."""
    names = dict(KEPT_DTYPES)
    for a in op.attributes:
        if a.kind == "dtype" and env[a.name] is not None:
            names[a.name] = KEPT_DTYPES[env[a.name]]
    for variable in (*op.dtypes, *(n for n, _ in op.dtype_lets)):
        if variable in env:
            names[variable] = KEPT_DTYPES[env[variable]]
    return names


def _run_opaque(
    node: Node,
    values: Mapping[str, torch.Tensor],
    types: list[TensorType],
    symbols: Mapping[str, SizeLike],
    device: torch.device,
) -> list[torch.Tensor]:
    """Call the ATen operator that an opaque node names, on the kept dtypes."""
    results = run_opaque(node, lambda o: _pick(o, values), symbols=symbols, device=device, dtypes=KEPT_DTYPES)
    return [_as_declared(v, t, v.device) for v, t in zip(results, types, strict=False)]


# -- values -----------------------------------------------------------------------------------------------------------


def _operand_tensors(op: OpDef, operands: tuple[Any, ...], inferred: Inferred, device: torch.device) -> dict[str, Any]:
    """Return the operands by name; a literal becomes a rank-0 tensor of its parameter's dtype."""
    padded = (*operands, *(None,) * (len(op.operands) - len(operands)))
    found: dict[str, Any] = {}
    for p, v in zip(op.operands, padded, strict=True):
        found[p.name] = _operand(v, p, inferred.env, device)
    return found


def _operand(v: Any, p: Param, env: Mapping[str, Any], device: torch.device) -> Any:
    """Return an operand; a literal becomes a rank-0 tensor of its parameter's dtype."""
    if isinstance(v, Literal):
        return torch.tensor(v.value, dtype=KEPT_DTYPES[env.get(p.dtype, p.dtype)], device=device)
    return v


def _several(operand: tuple[Operand, ...]) -> Callable[[Mapping[str, torch.Tensor]], tuple[Any, ...]]:
    return lambda table: tuple(_pick(o, table) for o in operand)


def _as_declared(v: torch.Tensor, t: TensorType, device: torch.device) -> torch.Tensor:
    """Return ``v`` broadcast to the declared shape, in the dtype that the oracle keeps for ``t``."""
    v = to_tensor(v, device=device)
    if is_float(t.dtype) != v.dtype.is_floating_point or not v.dtype.is_floating_point:
        v = v.to(KEPT_DTYPES[t.dtype])
    return v.expand(t.shape) if tuple(v.shape) != t.shape else v  # type: ignore[arg-type]


def _static(value: Any, symbols: Mapping[str, SizeLike]) -> Any:
    """Return an attribute with its symbols replaced."""
    if isinstance(value, tuple):
        return tuple(_static(v, symbols) for v in value)
    return substitute(value, symbols) if isinstance(value, Size) else value


def _pick(operand: Operand, table: Mapping[str, Any]) -> Any:
    """Return what an operand refers to; literals and None stand for themselves."""
    if isinstance(operand, str):
        return table[operand]
    if isinstance(operand, tuple):
        return tuple(_pick(o, table) for o in operand)
    return operand


def _leaves(values: tuple[Any, ...]) -> list[torch.Tensor]:
    out: list[torch.Tensor] = []
    for v in values:
        out += _leaves(v) if isinstance(v, tuple) else [v] if isinstance(v, torch.Tensor) else []
    return out
