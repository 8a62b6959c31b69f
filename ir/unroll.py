"""Recurrent sequences as their steps: each call of ``lstm``, ``gru`` or ``rnn`` becomes one cell per step, layer and direction.

Unrolled, the steps are operators with a meaning like any other: the oracle, the judge and the generator read them.  The number
of nodes grows with the sequence, so only sequences of bounded, static length are unrolled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .build import GraphBuilder
from .graph import OPAQUE, Graph, Node, Operand, Update
from .load import builtin_ops
from .opdef import OpSet
from .passes import rename_operands

#: Sequence -> its cell, and how many states a step hands to the next.
CELLS: dict[str, tuple[str, int]] = {"lstm": ("lstm_cell", 2), "gru": ("gru_cell", 1), "rnn": ("rnn_cell", 1)}


def unroll(graph: Graph, max_steps: int, ops: OpSet | None = None) -> Graph:
    """Return the graph with recurrent sequences of at most ``max_steps`` steps written as their steps.

    A sequence that is longer, has a symbolic length or projects its outputs stays whole.

    Args:
        graph: any valid graph.
        max_steps: the longest sequence that is unrolled.
        ops: the operators; None means the built-in ones.
    """
    ops = builtin_ops() if ops is None else ops
    if not any(_fits(node, graph, max_steps) for node in graph.nodes):
        return graph
    b = GraphBuilder(graph.name, ops, graph.symbols, graph.guards)
    for i in graph.inputs:
        b.input(i.name, i.type, i.kind, i.target)
    env: dict[str, Operand] = {i.name: i.name for i in graph.inputs}
    for node in graph.nodes:
        operands = rename_operands(node.operands, env)
        if _fits(node, graph, max_steps):
            results = _steps(b, node, operands)
        elif node.op == OPAQUE:
            made = b.append_opaque(node.attrs, operands, node.types, node.results, node.location)
            results = (made,) if isinstance(made, str) else made
        else:
            made = b.add(node.op, *operands, result=node.results, location=node.location, **node.attributes)
            results = (made,) if isinstance(made, str) else made
        env.update(zip(node.results, results, strict=True))
    updates = [Update(u.target, str(env[u.value])) for u in graph.updates]
    return b.build(rename_operands(graph.outputs, env), updates)


def _fits(node: Node, graph: Graph, max_steps: int) -> bool:
    if node.op not in CELLS:
        return False
    x = graph.types[str(node.operands[0])]
    steps = x.shape[1 if node.attributes["batch_first"] else 0]
    states = [graph.types[str(o)].shape[2] for o in node.operands[1 : 1 + CELLS[node.op][1]]]
    return x.is_static and isinstance(steps, int) and steps <= max_steps and len(set(states)) == 1


def _steps(b: GraphBuilder, node: Node, operands: tuple[Operand, ...]) -> tuple[str, ...]:
    cell, n_states = CELLS[node.op]
    a: Mapping[str, Any] = node.attributes
    x, *initial = operands[: 1 + n_states]
    weights = operands[1 + n_states]
    assert isinstance(weights, tuple) and isinstance(x, str)
    ways, time = (2 if a["bidirectional"] else 1), (1 if a["batch_first"] else 0)
    count = 4 if a["biases"] else 2
    extra = {"nonlinearity": a["nonlinearity"]} if "nonlinearity" in a else {}
    steps = b.types[x].shape[time]
    assert isinstance(steps, int)
    stem = node.results[0]
    sequence = [_add(b, node, "select", x, axis=time, index=t, result=f"{stem}_x{t}") for t in range(steps)]
    last: list[list[Operand]] = [[] for _ in range(n_states)]
    for layer in range(a["layers"]):
        outputs: list[list[str]] = []
        for way in range(ways):
            k = layer * ways + way
            own = weights[k * count : (k + 1) * count]
            state = [_add(b, node, "select", s, axis=0, index=k, result=f"{stem}_state{k}") for s in initial]
            found: dict[int, str] = {}
            for t in range(steps) if way == 0 else reversed(range(steps)):
                names = [f"{stem}_h{k}_{t}", f"{stem}_c{k}_{t}"][:n_states]
                made = b.add(cell, sequence[t], *state, *own, result=names, location=node.location, **extra)
                state = [made] if isinstance(made, str) else list(made)
                found[t] = state[0]
            outputs.append([found[t] for t in range(steps)])
            for kept, s in zip(last, state, strict=True):
                kept.append(s)
        if ways == 1:
            sequence = outputs[0]
        else:
            sequence = [
                _add(b, node, "cat", pair, axis=1, result=f"{stem}_l{layer}_{t}")
                for t, pair in enumerate(zip(*outputs, strict=True))
            ]
    y = _add(b, node, "stack", tuple(sequence), axis=time, result=stem)
    states = [_add(b, node, "stack", tuple(s), axis=0, result=r) for s, r in zip(last, node.results[1:], strict=True)]
    return (y, *states)


def _add(b: GraphBuilder, node: Node, op: str, *operands: Any, result: str, **attributes: Any) -> str:
    made: str = b.add(op, *operands, result=result, location=node.location, **attributes)
    return made


__all__ = ["CELLS", "unroll"]
