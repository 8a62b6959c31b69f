"""From chosen calls and sizes to a program: canonical order and names, its text at once, its graph when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any

import attrs

from ..ir import Graph, Input, Literal, Node, OpSet, TensorType
from ..ir.ranges import node_ranges
from .canonical import canonical_order
from .sites import Site


@attrs.define(eq=False)
class Draft:
    """A program before it is written down.

    Attributes:
        sites: of each node.
        operands: of each node, per slot: ``("n", node, result)``, ``("i", input)`` or a literal.
        attributes: of each node, by name: ``(name, value, text)``.
        results: of each node: the shape of each result.
        inputs: dtype, shape and guard of each graph input.
        outputs: what fills them: ``(node, result)``.
    """

    sites: list[Site]
    operands: list[list[Any]]
    attributes: list[list[tuple[str, Any, str]]]
    results: list[list[tuple[int, ...]]]
    inputs: list[tuple[str, tuple[int, ...], str]]
    outputs: Sequence[tuple[int, int]]


@attrs.frozen(eq=False)
class Written:
    """A program in canonical order.

    Attributes:
        text: the canonical text.
        draft: what it was written from.
        order: its nodes in order.
        inputs: its inputs in order.
        operands: as in the draft, with those of commutative operators sorted.
        names: of each result of each node.
        outputs: names.
    """

    text: str
    draft: Draft
    order: list[int]
    inputs: list[int]
    operands: list[list[Any]]
    names: list[list[str]]
    outputs: tuple[str, ...]


@lru_cache(1 << 16)
def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def write(draft: Draft) -> Written:
    """Return a program in canonical order, with the text that :func:`drt.ir.print_graph` gives its graph."""
    sources = list(dict.fromkeys(draft.outputs))
    sites, results = draft.sites, draft.results
    types = [
        ", ".join([f"{head}{_sizes(shape)}]" for head, shape in zip(site.result_heads, shapes)])
        if len(shapes) > 1
        else f"{site.result_heads[0]}{_sizes(shapes[0])}]"
        for site, shapes in zip(sites, results)
    ]
    order, inputs, operands = canonical_order(draft, types, sources)
    input_names = {i: f"%x{k}" for k, i in enumerate(inputs)}
    names: list[list[str]] = [[]] * len(sites)
    rows: list[tuple[str, str]] = []
    width = 0
    for k, n in enumerate(order):
        site = sites[n]
        count = len(results[n])
        names[n] = own = [f"%v{k}"] if count == 1 else [f"%v{k}_{r}" for r in range(count)]
        flat = []
        for r in operands[n]:
            if r.__class__ is tuple:
                flat.append(names[r[1]][r[2]] if r[0] == "n" else input_names[r[1]])
            else:
                flat.append(repr(r.value))
        if not site.plain:
            grouped = []
            for span in site.spans:
                if span is None:
                    grouped.append("None")
                elif span[1] < 0:
                    grouped.append(flat[span[0]])
                else:
                    grouped.append(f"[{', '.join(flat[span[0] : span[1]])}]")
            while grouped and grouped[-1] == "None":
                grouped.pop()
            flat = grouped
        attributes = draft.attributes[n]
        left = f"{own[0] if count == 1 else ', '.join(own)} = {site.name}({', '.join(flat)})"
        if attributes:
            left = f"{left} {{{', '.join([a[2] for a in attributes])}}}"
        rows.append((left, types[n]))
        if len(left) > width:
            width = len(left)
    outs: list[str] = []
    for n, r in sources:
        # Every result of an output operator is given back, so that none of its work is dead.
        outs += names[n] if len(names[n]) > 1 else [names[n][r]]
    outs = list(dict.fromkeys(outs))
    width = min(width, 88)
    heads = [f"{input_names[i]}: {draft.inputs[i][0]}[{_sizes(draft.inputs[i][1])}]" for i in inputs]
    tail = f") -> ({', '.join(outs)}) {{"
    one_line = ", ".join(heads)
    if 14 + len(one_line) + len(tail) <= 120:
        top = f"graph program({one_line}{tail}"
    else:
        top = "\n".join(["graph program(", *[f"    {h}," for h in heads], tail])
    body = "\n".join([f"  {left:<{width}} : {t}" for left, t in rows])
    return Written(f"drt 1\n{top}\n{body}\n}}\n", draft, order, inputs, operands, names, tuple([o[1:] for o in outs]))


def build_graph(w: Written) -> Graph:
    """Return the graph of a program that has been written."""
    draft = w.draft
    number = {i: f"x{k}" for k, i in enumerate(w.inputs)}
    nodes = []
    for n in w.order:
        site = draft.sites[n]
        flat = [
            r if r.__class__ is Literal else w.names[r[1]][r[2]][1:] if r[0] == "n" else number[r[1]]
            for r in w.operands[n]
        ]
        grouped = tuple(None if s is None else flat[s[0]] if s[1] < 0 else tuple(flat[s[0] : s[1]]) for s in site.spans)
        types = tuple(TensorType(d, shape) for (d, _), shape in zip(site.signature.results, draft.results[n]))
        pairs = tuple((name, v) for name, v, _ in draft.attributes[n])
        nodes.append(Node(site.name, grouped, pairs, tuple(x[1:] for x in w.names[n]), types))
    inputs = tuple(Input(number[i], TensorType(draft.inputs[i][0], draft.inputs[i][1])) for i in w.inputs)
    return Graph("program", inputs, tuple(nodes), w.outputs)


def edges_of(w: Written) -> tuple[tuple[str, str, int], ...]:
    """Return ``(producer, consumer, slot)`` of every use of a node's value."""
    sites = w.draft.sites
    return tuple(
        (sites[r[1]].name, sites[n].name, slot)
        for n in w.order
        for slot, r in enumerate(w.operands[n])
        if r.__class__ is tuple and r[0] == "n"
    )


def ranges_of(w: Written, graph: Graph, ops: OpSet) -> Mapping[str, tuple[Any, Any]]:
    """Return both ends of the values of each input whose elements an operator bounds."""
    found: dict[str, tuple[Any, Any]] = {
        f"x{k}": (1, inf) for k, i in enumerate(w.inputs) if w.draft.inputs[i][2] == "positive"
    }
    for node in graph.nodes:
        if ops[node.op].ranges:
            found |= node_ranges(node, graph.types, ops)
    return found
