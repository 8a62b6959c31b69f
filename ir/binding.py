"""Values for the symbols of a program: read off shapes, checked against ranges and guards, put in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .build import GraphBuilder
from .errors import Unsatisfiable, UsageError
from .graph import OPAQUE, Graph, Input, Literal, Node
from .guards import Guard, choices
from .linear import solve
from .load import builtin_ops
from .opdef import OpSet
from .size import Size, SizeLike, Symbol, substitute, symbols_of
from .typesys import TensorType


def symbols_of_types(types: Iterable[TensorType]) -> tuple[Symbol, ...]:
    """Return the symbols of some types, each once, in order of appearance."""
    found: dict[str, Symbol] = {}
    for t in types:
        for size in t.shape:
            for s in sorted(symbols_of(size), key=lambda s: s.name):
                found.setdefault(s.name, s)
    return tuple(found.values())


def guards_of(graph: Graph, symbols: Iterable[Symbol]) -> tuple[Guard, ...]:
    """Return the guards of ``graph`` that speak of ``symbols`` alone: those that a part with these symbols keeps."""
    names = {s.name for s in symbols}
    return tuple(g for g in graph.guards if g.symbols() <= names)


def read_sizes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the values of the graph's symbols for a call with inputs of these shapes.

    Args:
        graph: the program.
        shapes: of every input, by value name.

    Raises:
        UsageError: an input is missing, a shape does not fit its type, or the sizes break a range or a guard.
    """
    sizes: dict[str, int] = {}
    for i in graph.inputs:
        if i.name not in shapes:
            raise UsageError(f"input {i.name} is missing, expected {i.type}", subject=graph.name)
        if len(shapes[i.name]) != i.type.rank:
            raise UsageError(f"input {i.name} has shape {list(shapes[i.name])}, expected {i.type}", subject=graph.name)
    pairs = [(s, int(n)) for i in graph.inputs for s, n in zip(i.type.shape, shapes[i.name], strict=True)]
    open_pairs = [(s, n) for s, n in pairs if isinstance(s, Size)]
    while open_pairs:
        left: list[tuple[Size, int]] = []
        # A size that is a symbol by itself says its value; one that is linear in a symbol says it when no other does.
        for size, n in sorted(open_pairs, key=lambda p: len(str(p[0]))):
            rest = substitute(size, sizes)  # type: ignore[arg-type]
            unknown = [s.name for s in symbols_of(rest)]
            value = solve(rest - n, unknown[0]) if len(unknown) == 1 else None
            if value is not None:
                sizes[unknown[0]] = value
            elif unknown:
                left.append((size, n))
        if len(left) == len(open_pairs):
            break
        open_pairs = left
    missing = [s.name for s in graph.symbols if s.name not in sizes]
    if missing:
        raise UsageError(f"no input's size is the symbol {', '.join(missing)}", subject=graph.name)
    for i in graph.inputs:
        if i.type.substitute(dict(sizes)).shape != tuple(shapes[i.name]):
            raise UsageError(f"input {i.name} has shape {list(shapes[i.name])}, expected {i.type}", subject=graph.name)
    check_sizes(graph, sizes)
    return sizes


def check_sizes(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Check values of symbols against their ranges and the guards.

    Raises:
        UsageError: the first one that is broken, with the values.
    """
    for s in graph.symbols:
        if s.name in sizes and not s.lo <= sizes[s.name] <= s.hi:
            raise UsageError(f"size {s.name} is {sizes[s.name]}, expected {s.lo}..{s.hi}", subject=graph.name)
    for g in graph.guards:
        if g.holds(sizes) is False:  # type: ignore[arg-type]
            values = ", ".join(f"{n} = {sizes[n]}" for n in sorted(g.symbols()))
            raise UsageError(f"sizes {values} given, expected {g}", subject=graph.name)


def choose_sizes(graph: Graph, wished: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return values for all symbols that satisfy every range and guard, near to the wished ones.

    Raises:
        Unsatisfiable: none were found.
    """
    for found in choices(graph.symbols or symbols_of_types(graph.types.values()), graph.guards, wished or {}):
        return found
    raise Unsatisfiable("no sizes were found that satisfy its guards", subject=graph.name)


def at_sizes(graph: Graph, sizes: Mapping[str, int], ops: OpSet | None = None) -> Graph:
    """Return the program at given sizes: without symbols, inferred again.

    Args:
        graph: any program.
        sizes: a value for every symbol.
        ops: the operators.

    Raises:
        UsageError: a size breaks a range or a guard.
    """
    check_sizes(graph, sizes)
    env: dict[str, SizeLike] = dict(sizes)

    def fix(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(fix, value))
        return substitute(value, env) if isinstance(value, Size) else value

    builder = GraphBuilder(graph.name, builtin_ops() if ops is None else ops)
    for i in graph.inputs:
        builder.input(i.name, i.type.substitute(env), i.kind, i.target)
    for node in graph.nodes:
        attributes = {k: fix(v) for k, v in node.attrs}
        if node.op == OPAQUE:
            attributes["arguments"] = _bound_arguments(str(attributes["arguments"]), sizes)
            types = tuple(t.substitute(env) for t in node.types)
            builder.append_opaque(tuple(sorted(attributes.items())), node.operands, types, node.results, node.location)
        else:
            operands = tuple(map(_fix_literal(env), node.operands))
            builder.add(node.op, *operands, result=node.results, location=node.location, **attributes)
    return builder.build(tuple(map(_fix_literal(env), graph.outputs)), graph.updates)


def _fix_literal(env: Mapping[str, SizeLike]) -> Any:
    def fix(operand: Any) -> Any:
        if isinstance(operand, tuple):
            return tuple(map(fix, operand))
        if isinstance(operand, Literal) and isinstance(operand.value, Size):
            return Literal(substitute(operand.value, env))
        return operand

    return fix


def _bound_arguments(text: str, sizes: Mapping[str, int]) -> str:
    """Return the JSON arguments of an opaque node with the symbols in its sizes (``{"$size": "2*B"}``) replaced."""

    def fix(value: Any) -> Any:
        if isinstance(value, list):
            return [fix(v) for v in value]
        if isinstance(value, dict):
            if set(value) == {"$size"}:
                return {"$size": re.sub(r"[A-Za-z_]\w*", lambda m: str(sizes.get(m[0], m[0])), str(value["$size"]))}
            return {k: fix(v) for k, v in value.items()}
        return value

    return json.dumps(fix(json.loads(text)))


def part_symbols(
    graph: Graph, inputs: Iterable[Input], nodes: Iterable[Node]
) -> tuple[tuple[Symbol, ...], tuple[Guard, ...]]:
    """Return the symbols and guards of a part of a program."""
    chosen = list(nodes)
    found = symbols_of_types([*(i.type for i in inputs), *(t for n in chosen for t in n.types)])
    names = {s.name for s in found} | {n for node in chosen for n in _attribute_symbols(node)}
    symbols = tuple(s for s in graph.symbols if s.name in names)
    return symbols, guards_of(graph, symbols)


def _attribute_symbols(node: Node) -> set[str]:
    def walk(value: Any) -> set[str]:
        if isinstance(value, tuple):
            return set().union(*map(walk, value))
        return {s.name for s in symbols_of(value)} if isinstance(value, Size) else set()

    if node.op == OPAQUE:
        return set(re.findall(r"[A-Za-z_]\w*", str(node.attributes["arguments"])))
    literals = [getattr(o, "value", None) for o in node.operands]
    return walk(tuple(v for _, v in node.attrs)) | walk(tuple(literals))


__all__ = [
    "at_sizes", "check_sizes", "choose_sizes", "guards_of", "part_symbols", "read_sizes", "symbols_of_types",
]  # fmt: skip
