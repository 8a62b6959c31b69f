"""A fragment in primitives, with the environment of every node."""

from __future__ import annotations

from typing import Any

import attrs

from ...ir import Graph, Node, OpSet, SizeLike
from ...ir.evaluate import FUNCTIONS, evaluate
from ...ir.infer import infer
from ...ir.opdef import Reduce


@attrs.frozen
class Operand:
    """An operand in the environment of a body: a value name, a literal, or a tuple of operands."""

    source: Any


def without_duplicates(graph: Graph) -> Graph:
    """Return ``graph`` with each repeated application replaced by its first occurrence."""
    same: dict[str, str] = {}
    seen: dict[object, Node] = {}
    nodes: list[Node] = []

    def renamed(o: Any) -> Any:
        return same.get(o, o) if isinstance(o, str) else tuple(map(renamed, o)) if isinstance(o, tuple) else o

    for node in graph.nodes:
        operands = tuple(renamed(o) for o in node.operands)
        key = (node.op, operands, node.attrs)
        first = seen.get(key)
        if first is not None and not set(node.results) & graph.live_out:
            same.update(zip(node.results, first.results, strict=True))
            continue
        if first is None:
            seen[key] = node
        nodes.append(attrs.evolve(node, operands=operands))
    return attrs.evolve(graph, nodes=tuple(nodes))


class Program:
    """A fragment in primitives with the environment of every node; shared by all attempts to write it."""

    def __init__(self, graph: Graph, ops: OpSet) -> None:
        graph = without_duplicates(graph)
        self.graph = graph
        self.ops = ops
        self.types = graph.types
        self.producers = graph.producers
        self._env: dict[int, dict[str, Any]] = {}

    def env(self, node: Node) -> dict[str, Any]:
        """Return the environment of a node's body: sizes, attributes, and its operands as :class:`Operand`."""
        found = self._env.get(id(node))
        if found is None:
            op = self.ops[node.op]
            found = dict(infer(op, [self._type(o) for o in node.operands], node.attributes).env)
            operands = [*node.operands, *([None] * (len(op.operands) - len(node.operands)))]
            for p, o in zip(op.operands, operands, strict=True):
                if o is not None:
                    found[p.name] = Operand(o)
            self._env[id(node)] = found
        return found

    def _type(self, o: Any) -> Any:
        if isinstance(o, str):
            return self.types[o]
        return tuple(self._type(x) for x in o) if isinstance(o, tuple) else o

    def reduction(self, node: Node, body: Reduce) -> tuple[tuple[SizeLike, ...], tuple[int, ...], bool]:
        """Return (the shape folded over, the axes, whether the axes are kept with size 1)."""
        env = self.env(node)
        shapes = [self.types[o].shape for o in node.uses()]
        shape = FUNCTIONS["broadcast"](*shapes)
        axes = evaluate(body.axes, env)
        axes = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)
        kept = len(node.types[0].shape) == len(shape)
        return shape, axes, kept
