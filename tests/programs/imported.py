"""Each example program imported once, shared by the tests."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import attrs
import torch
from drt.frontend import Imported, import_module
from drt.ir import Graph, Node
from programs.zoo import PROGRAMS, Program


@attrs.frozen(eq=False)
class Case:
    """A program with its module, its arguments and its import."""

    program: Program
    module: Any
    args: tuple[Any, ...]
    imported: Imported

    def inputs(self) -> list[torch.Tensor]:
        """Return fresh tensors for the graph's inputs: running one call must not change what the next one sees."""
        return [t.clone() for t in self.imported.bind(*self.args, **self.program.kwargs)]

    def expected(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return what the module gives, and its buffers after the call."""
        module = copy.deepcopy(self.module)
        with torch.no_grad():
            torch.manual_seed(1)
            result = module(*self.args, **self.program.kwargs)
        return result, dict(module.named_buffers()) if isinstance(module, torch.nn.Module) else {}


@cache
def case(name: str) -> Case:
    program = PROGRAMS[name]
    torch.manual_seed(0)
    module = program.make()
    if isinstance(module, torch.nn.Module):
        module.train(program.training)
    args = program.args()
    imported = import_module(
        module, args, example_kwargs=program.kwargs, training=program.training, dynamic=program.dynamic
    )
    return Case(program, module, args, imported)


def without_names(graph: Graph) -> tuple[Any, ...]:
    """Return what a graph says: nodes in the order in which the outputs need them, values numbered, state by its target."""
    numbers: dict[str, int] = {}

    def number(value: Any) -> Any:
        if isinstance(value, str):
            return numbers.setdefault(value, len(numbers))
        return tuple(map(number, value)) if isinstance(value, tuple) else value

    given = [i for i in graph.inputs if i.kind == "input"]
    state = sorted((i for i in graph.inputs if i.kind != "input"), key=lambda i: i.target)
    inputs = [(number(i.name), i.type) for i in [*given, *state]]
    nodes = [(n.op, number(n.operands), n.attrs, number(n.results), n.types) for n in _needed(graph)]
    updates = sorted((number(u.target), number(u.value)) for u in graph.updates)
    return inputs, [i.target for i in state], nodes, number(graph.outputs), updates


def _needed(graph: Graph) -> list[Node]:
    """Return the nodes in post-order from the outputs and updates; what they do not need comes last."""
    order: dict[int, Node] = {}
    roots = [graph.producers[v] for o in graph.outputs for v in _names(o) if v in graph.producers]
    roots += [graph.producers[u.value] for u in graph.updates if u.value in graph.producers]
    stack = [(n, False) for n in reversed([*roots, *graph.nodes])]
    while stack:
        node, is_done = stack.pop()
        if id(node) in order:
            continue
        if is_done:
            order[id(node)] = node
            continue
        before = [graph.producers[v] for v in node.uses() if v in graph.producers]
        stack += [(node, True), *((b, False) for b in reversed(before))]
    return list(order.values())


def _names(operand: Any) -> list[str]:
    return (
        [operand]
        if isinstance(operand, str)
        else [n for o in operand for n in _names(o)]
        if isinstance(operand, tuple)
        else []
    )
