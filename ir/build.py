"""Building and checking graphs: every node goes through inference, so what is built is valid."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import expr as ex
from .errors import VerifyError
from .evaluate import assuming, evaluate, partial
from .graph import INPUT_KINDS, OPAQUE, Graph, Input, Literal, Node, Operand, Update
from .guards import Facts, Guard
from .infer import Inferred, OperandType, infer
from .load import builtin_ops, near_names
from .opdef import Expand, Location, OpDef, OpSet, Scalar
from .size import Size, Symbol
from .typesys import TensorType, is_float


def operand_types(operands: Sequence[Operand], types: Mapping[str, TensorType]) -> list[OperandType]:
    """Return the operands with value names replaced by their types; raises VerifyError for an undefined value."""
    out: list[OperandType] = []
    for o in operands:
        if isinstance(o, str):
            if o not in types:
                raise VerifyError(f"%{o} is used before it is defined", label="ssa")
            out.append(types[o])
        elif isinstance(o, tuple):
            out.append(tuple(operand_types(o, types)))
        else:
            out.append(o)
    return out


def infer_node(node: Node, types: Mapping[str, TensorType], ops: OpSet) -> Inferred:
    """Return what the definition says of ``node``.

    Raises:
        VerifyError: the operator is unknown, or a rule of it is broken.
    """
    if node.op not in ops:
        near = near_names(node.op, ops)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise VerifyError(f"unknown operator '{node.op}'{hint}", label="unknown_operator")
    return infer(ops[node.op], operand_types(node.operands, types), node.attributes)


def infer_under(node: Node, types: Mapping[str, TensorType], ops: OpSet, facts: Facts) -> Inferred:
    """Return what the definition says of ``node`` where ``facts`` hold; see :func:`infer_node`."""
    with assuming(facts.decide):
        return infer_node(node, types, ops)


def require_conditions(inferred: Inferred, op: str, facts: Facts) -> None:
    """Raise VerifyError where a call needs more than the guards of its program say."""
    missing = inferred.conditions(facts) if inferred.undecided else ()
    if missing:
        raise VerifyError(f"{op} needs {missing[0]}, expected it among the guards: where {missing[0]}", label="guard")


def clean_name(text: str) -> str:
    """Return ``text`` as a value name: letters, digits and underscores."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", text) or "v"
    return name if not name[0].isdigit() else f"v{name}"


class GraphBuilder:
    """Builds one graph, value by value.

    >>> b = GraphBuilder("f")
    >>> x = b.input("x", TensorType("f32", (8, 16)))
    >>> print_graph(b.build([b.add("relu", x, result="y")]))  # doctest: +SKIP
    """

    def __init__(
        self, name: str, ops: OpSet | None = None, symbols: Sequence[Symbol] = (), guards: Sequence[Guard] = ()
    ) -> None:
        self.name = clean_name(name)
        self.ops = builtin_ops() if ops is None else ops
        self.symbols = tuple(symbols)
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.guards: list[Guard] = list(guards)
        self._facts = Facts()
        self._counters: dict[str, int] = {}

    @property
    def facts(self) -> Facts:
        """What the guards so far say."""
        if self._facts.guards != tuple(self.guards):
            self._facts = Facts(self.guards)
        return self._facts

    def fresh(self, stem: str) -> str:
        """Return a value name that is not taken: ``stem``, or ``stem`` with a number."""
        stem = clean_name(stem)
        if stem not in self.types:
            return stem
        n = self._counters.get(stem, 0)
        while True:
            n += 1
            if f"{stem}_{n}" not in self.types:
                self._counters[stem] = n
                return f"{stem}_{n}"

    def input(self, name: str, type: TensorType, kind: str = "input", target: str = "") -> str:
        """Add an input and return its value name."""
        name = self.fresh(name)
        self.inputs.append(Input(name, type, kind, target))
        self.types[name] = type
        return name

    def add(
        self,
        op: str,
        *operands: Operand,
        result: str | Sequence[str] | None = None,
        location: Location | None = None,
        **attributes: Any,
    ) -> Any:
        """Add one application and return its result's name, or a tuple of names where there are several.

        Args:
            op: operator name.
            operands: value names, Literals (plain Python numbers are wrapped), None, or tuples for a variadic operand.
            result: wished name or names; made unique.
            location: where the user's program says this.
            attributes: by name; defaults may be left out.

        Raises:
            VerifyError: a rule of the operator is broken.
        """
        wrapped = tuple(_wrap(o) for o in operands)
        if self.guards:
            attributes = {k: self._simplified(v) for k, v in attributes.items()}
        node = Node(op, wrapped, tuple(attributes.items()), (), (), location)
        inferred = infer_under(node, self.types, self.ops, self.facts)
        if inferred.undecided:
            self.guards += inferred.conditions(self.facts)
        definition = self.ops[op]
        stems = _stems(result, op, [p.name for p in definition.results])
        padded = wrapped + (None,) * (len(definition.operands) - len(wrapped))
        return self._append(op, padded, inferred.attributes, inferred.types, stems, location)

    def _simplified(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._simplified, value))
        return self.facts.simplify(value) if isinstance(value, Size) else value

    def opaque(
        self,
        target: str,
        operands: Sequence[Operand],
        types: Sequence[TensorType],
        arguments: Any,
        result: str | Sequence[str] | None = None,
        location: Location | None = None,
    ) -> Any:
        """Add a call of an ATen target that has no definition.

        Args:
            target: dotted name, ``aten.topk.default``.
            operands: the tensor arguments.
            types: the results' types, as PyTorch says.
            arguments: ``[args, kwargs]``, JSON values in which ``"$0"`` stands for operand 0.
        """
        attrs = (("arguments", json.dumps(arguments)), ("target", target))
        parts = target.split(".")
        stem = parts[1] if len(parts) > 1 else parts[0]
        stems = _stems(result, stem, [str(i) for i in range(len(types))])
        return self._append(OPAQUE, tuple(operands), attrs, tuple(types), stems, location)

    def append_opaque(
        self,
        attrs: tuple[tuple[str, Any], ...],
        operands: tuple[Operand, ...],
        types: tuple[TensorType, ...],
        names: Sequence[str],
        location: Location | None = None,
    ) -> Any:
        """Add an opaque node as another graph has it; its results take ``names`` where these are free."""
        return self._append(OPAQUE, operands, attrs, types, names, location)

    def _append(
        self,
        op: str,
        operands: tuple[Operand, ...],
        attrs: tuple[tuple[str, Any], ...],
        types: tuple[TensorType, ...],
        stems: Sequence[str],
        location: Location | None,
    ) -> Any:
        names = []
        for stem, type in zip(stems, types, strict=True):
            name = self.fresh(stem)
            self.types[name] = type
            names.append(name)
        self.nodes.append(Node(op, operands, attrs, tuple(names), types, location))
        return names[0] if len(names) == 1 else tuple(names)

    def build(self, outputs: Sequence[Operand], updates: Sequence[Update] = ()) -> Graph:
        """Return the graph; raises VerifyError where an output is not defined."""
        wrapped = tuple(_wrap(o) for o in outputs)
        operand_types(wrapped, self.types)
        graph = Graph(
            self.name, tuple(self.inputs), tuple(self.nodes), wrapped, tuple(updates), self.symbols, tuple(self.guards)
        )
        for u in updates:
            operand_types([u.target, u.value], self.types)
        return graph


def _wrap(o: Any) -> Operand:
    if isinstance(o, (bool, int, float)):
        return Literal(o)
    return tuple(_wrap(x) for x in o) if isinstance(o, (tuple, list)) else o


def _stems(result: str | Sequence[str] | None, op: str, results: Sequence[str]) -> Sequence[str]:
    if isinstance(result, str):
        return [result] if len(results) == 1 else [f"{result}_{r}" for r in results]
    if result is not None:
        return result
    return [op] if len(results) == 1 else [f"{op}_{r}" for r in results]


def verify_graph(graph: Graph, ops: OpSet | None = None) -> None:
    """Check every rule of a graph: single assignment, definition before use, each node's operator, stated types.

    Raises:
        VerifyError: the first broken rule, with its label and the node's place.
    """
    ops = builtin_ops() if ops is None else ops
    types: dict[str, TensorType] = {}
    for i in graph.inputs:
        if i.name in types:
            raise VerifyError(f"%{i.name} is defined twice", label="ssa")
        if i.kind not in INPUT_KINDS:
            raise VerifyError(f"%{i.name} has kind '{i.kind}', expected one of {', '.join(INPUT_KINDS)}", label="input")
        types[i.name] = i.type
    for node in graph.nodes:
        place = str(node.location) if node.location else ""
        try:
            if node.op == OPAQUE:
                operand_types(node.operands, types)
                inferred: tuple[TensorType, ...] = node.types
            else:
                found = infer_under(node, types, ops, graph.facts)
                require_conditions(found, node.op, graph.facts)
                inferred = found.types
                if found.attributes != node.attrs:
                    wanted = ", ".join(f"{k} = {v}" for k, v in found.attributes)
                    raise VerifyError(f"attributes are not canonical, expected {{{wanted}}}", label="attributes")
            if len(inferred) != len(node.results):
                raise VerifyError(
                    f"{node.op} gives {len(inferred)} results, {len(node.results)} named", label="results"
                )
            for name, got, stated in zip(node.results, inferred, node.types, strict=True):
                if name in types:
                    raise VerifyError(f"%{name} is defined twice", label="ssa")
                if got != stated:
                    raise VerifyError(f"%{name} is annotated {stated} but {node.op} gives {got}", label="type")
                types[name] = stated
        except VerifyError as error:
            raise error.at(place) from None
    verify_results(graph, types)


def verify_results(graph: Graph, types: Mapping[str, TensorType]) -> None:
    """Check that outputs and updates name values of ``types``, and that an update keeps its target's type.

    Raises:
        VerifyError: ``ssa`` or ``update``.
    """
    operand_types(graph.outputs, types)
    inputs = {i.name for i in graph.inputs}
    for u in graph.updates:
        operand_types([u.value], types)
        if u.target not in inputs:
            raise VerifyError(f"update of %{u.target}, which is no input", label="update")
        if types[u.target] != types[u.value]:
            message = f"update of %{u.target}: {types[u.target]} with %{u.value}: {types[u.value]}, expected one type"
            raise VerifyError(message, label="update")


# -- composites -----------------------------------------------------------------------------------------------------


def is_composite(op: OpDef) -> bool:
    """Return whether ``op`` is defined by other operators."""
    return isinstance(op.body, Expand)


def expand_graph(graph: Graph, ops: OpSet | None = None, keep: Any = None) -> Graph:
    """Return the graph with every composite operator replaced by its definition, all the way down.

    Args:
        graph: any valid graph.
        ops: the operators.
        keep: ``keep(node) -> bool``: composites that stay whole; None keeps none.
    """
    ops = builtin_ops() if ops is None else ops
    b = GraphBuilder(graph.name, ops, graph.symbols, graph.guards)
    for i in graph.inputs:
        b.input(i.name, i.type, i.kind, i.target)
    # Names of the original graph stay free for the values that carry them.
    reserved = {r for n in graph.nodes for r in n.results}
    env: dict[str, Operand] = {i.name: i.name for i in graph.inputs}
    for node in graph.nodes:
        results = _expand_into(b, node, _rename(node.operands, env), keep, node.results, reserved)
        env.update(zip(node.results, results, strict=True))
    outputs = _rename(graph.outputs, env)
    updates = [Update(u.target, env[u.value]) for u in graph.updates]  # type: ignore[arg-type]
    return b.build(outputs, updates)


def _rename(operands: tuple[Operand, ...], env: Mapping[str, Operand]) -> tuple[Operand, ...]:
    return tuple(env[o] if isinstance(o, str) else _rename(o, env) if isinstance(o, tuple) else o for o in operands)


def _expand_into(
    b: GraphBuilder, node: Node, operands: tuple[Operand, ...], keep: Any, wished: Sequence[str], reserved: set[str]
) -> tuple[Operand, ...]:
    op = b.ops.get(node.op)
    if op is None or not is_composite(op) or (keep is not None and keep(node)):
        return _append_node(b, node, operands, wished, reserved)
    moved = Node(node.op, operands, node.attrs, (), (), node.location)
    inferred = infer_under(moved, b.types, b.ops, b.facts)
    env: dict[str, Any] = dict(inferred.env)
    values: dict[str, Operand] = dict(zip([p.name for p in op.operands], operands, strict=True))
    assert isinstance(op.body, Expand)
    names = dict(zip([p.name for p in op.results], wished, strict=True))
    for name, e in op.body.statements:
        values[name] = _statement(b, e, env, values, keep, names.get(name, f"{wished[0]}_{name}"), node, reserved)
        env.pop(name, None)
    for p, t in zip(op.results, inferred.types, strict=True):
        value = values[p.name]
        if isinstance(value, Literal):
            values[p.name] = _constant(b, value, t.shape, t.dtype, names[p.name], node.location)
    return tuple(values[p.name] for p in op.results)


def _constant(
    b: GraphBuilder, literal: Literal, shape: tuple[Any, ...], dtype: str, name: str, location: Location | None
) -> Operand:
    """Return a tensor that holds a literal; the literal itself where the operators have no ``full``."""
    if "full" not in b.ops:
        return literal
    value = int(literal.value) if isinstance(literal.value, bool) else literal.value
    made: str = b.add("full", shape=shape, value=value, dtype=dtype, result=b.fresh(name), location=location)
    return made


def _give_dtypes(
    b: GraphBuilder, definition: OpDef, operands: list[Operand], args: Sequence[Any], env: Mapping[str, Any], node: Node
) -> None:
    """Write as a tensor one of the literals that no partner gives a dtype, in the dtype that the composite says.

    A literal that was an operand of the composite has its parameter's dtype; any other the composite's first one.
    """
    composite = b.ops[node.op]
    declared = {p.name: env.get(p.dtype, p.dtype) for p in composite.operands}
    usual = next((env[v] for v in composite.dtypes if v in env), "f32")
    for variable in definition.dtypes:
        places = [
            i
            for i, (p, o) in enumerate(zip(definition.operands, operands, strict=False))
            if p.dtype == variable and o is not None
        ]
        if not places or not all(isinstance(operands[i], Literal) for i in places):
            continue
        dtype = next(
            (declared[a.name] for a in (args[i] for i in places) if isinstance(a, ex.Sym) and a.name in declared), usual
        )
        if not is_float(dtype) and any(isinstance(operands[i].value, float) for i in places):  # type: ignore[union-attr]
            dtype = "f32"
        first = operands[places[0]]
        assert isinstance(first, Literal)
        operands[places[0]] = _constant(b, first, (), dtype, f"{node.op}_constant", node.location)


def _append_node(
    b: GraphBuilder, node: Node, operands: tuple[Operand, ...], wished: Sequence[str], reserved: set[str]
) -> tuple[Operand, ...]:
    names = []
    for w in wished:
        name = w if w not in b.types else b.fresh(w)
        names.append(name)
    if node.op == OPAQUE:
        types = node.types
        b._append(OPAQUE, operands, node.attrs, types, names, node.location)
        return tuple(b.nodes[-1].results)
    b.add(node.op, *operands, result=names, location=node.location, **node.attributes)
    return tuple(b.nodes[-1].results)


def _statement(
    b: GraphBuilder, e: Any, env: Mapping[str, Any], values: Mapping[str, Operand], keep: Any, wished: str,
    node: Node, reserved: set[str],
) -> Operand:  # fmt: skip
    """Emit the nodes of one ``expand`` statement and return the value it stands for."""
    match e:
        case ex.Cond(test, a, c):
            from .evaluate import decide

            with assuming(b.facts.decide):
                taken = a if decide(test, env) else c
            return _statement(b, taken, env, values, keep, wished, node, reserved)
        case ex.Sym(n) if n in values:
            return values[n]
        case ex.Call(fn, args, kwargs) if fn in b.ops:
            inner = [_statement(b, a, env, values, keep, f"{wished}_{i}", node, reserved) for i, a in enumerate(args)]
            with assuming(b.facts.decide):
                attributes = {k: evaluate(v, env) for k, v in kwargs}
            name = wished if wished not in b.types and wished not in (reserved - {wished}) else b.fresh(wished)
            definition = b.ops[fn]
            _give_dtypes(b, definition, inner, args, env, node)
            padded = tuple(inner) + (None,) * (len(definition.operands) - len(inner))
            call = Node(fn, padded, tuple(attributes.items()), (), (), node.location)
            stems = [name] if len(definition.results) == 1 else [f"{name}_{p.name}" for p in definition.results]
            results = _expand_into(b, call, padded, keep, stems, reserved)
            return results[0] if len(results) == 1 else tuple(results)
        case ex.Lst(items):
            return tuple(
                _statement(b, i, env, values, keep, f"{wished}_{k}", node, reserved) for k, i in enumerate(items)
            )
        case ex.Call("item", (inner_e, index), ()):
            several = _statement(b, inner_e, env, values, keep, wished, node, reserved)
            assert isinstance(several, tuple)
            return several[int(evaluate(index, env))]
    value = evaluate(e, env)
    if value is None or isinstance(value, (bool, int, float, Size)):
        return None if value is None else Literal(value)
    raise VerifyError(f"'{ex.to_text(e)}' is neither a value nor a number", label="expand", subject=node.op)


__all__ = [
    "GraphBuilder", "Scalar", "clean_name", "expand_graph", "infer_node", "is_composite", "operand_types", "partial",
    "verify_graph", "verify_results",
]  # fmt: skip
