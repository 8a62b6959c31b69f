"""Fragments of programs with symbolic sizes: every symbol read off an input of the fragment itself."""

from __future__ import annotations

from typing import Any

import attrs

from ..ir import Graph, Input, Literal, Node, Size, SizeLike, Symbol, TensorType
from ..ir.binding import guards_of, symbols_of_types
from ..ir.size import bounds, symbols_of


def with_own_symbols(fragment: Graph) -> Graph:
    """Return the fragment with products that stand on its inputs (``f32[B*T, 8]``) as symbols, where their factors do not.

    A kernel reads sizes off the tensors it is given; that one of them is a product elsewhere need not concern it.
    """
    if fragment.is_static:
        return fragment
    sizes = [n for i in fragment.inputs for n in i.type.shape if isinstance(n, Size)]
    alone = {s.name for n in sizes for s in symbols_of(n) if str(n) == s.name}
    cores: dict[tuple[Any, ...], Symbol] = {}
    for n in sizes:
        if {s.name for s in symbols_of(n)} <= alone or len(n.terms) != 1:
            continue
        ((core, _),) = n.terms
        if core not in cores:
            lo, hi = bounds(Size(((core, 1),)))
            cores[core] = Symbol(f"N{len(cores)}", max(int(lo), 0), int(min(hi, 2**31 - 1)))
    if not cores:
        return fragment
    ordered = sorted(cores.items(), key=lambda item: -len(item[0]))

    def size(value: SizeLike) -> SizeLike:
        if not isinstance(value, Size):
            return value
        total: SizeLike = 0
        for monomial, coefficient in value.terms:
            rest, product = list(monomial), coefficient
            term: SizeLike = product
            for core, symbol in ordered:
                while all(rest.count(a) >= core.count(a) for a in core):
                    for a in core:
                        rest.remove(a)
                    term = term * Size((((symbol,), 1),))
            for atom in rest:
                term = term * Size((((atom,), 1),))
            total = total + term
        return total

    def value(v: Any) -> Any:
        return tuple(map(value, v)) if isinstance(v, tuple) else size(v) if isinstance(v, Size) else v

    def operand(o: Any) -> Any:
        if isinstance(o, tuple):
            return tuple(map(operand, o))
        return Literal(size(o.value)) if isinstance(o, Literal) and isinstance(o.value, Size) else o

    def renamed(t: TensorType) -> TensorType:
        return TensorType(t.dtype, tuple(map(size, t.shape)))

    inputs = tuple(Input(i.name, renamed(i.type), i.kind, i.target) for i in fragment.inputs)
    nodes = tuple(
        Node(n.op, tuple(map(operand, n.operands)), tuple((k, value(v)) for k, v in n.attrs), n.results,
             tuple(map(renamed, n.types)), n.location)
        for n in fragment.nodes
    )  # fmt: skip
    symbols = symbols_of_types([*(i.type for i in inputs), *(t for n in nodes for t in n.types)])
    made = attrs.evolve(fragment, inputs=inputs, nodes=nodes, symbols=symbols, guards=())
    return attrs.evolve(made, guards=guards_of(fragment, symbols))
