"""Other instances of a program: its sizes drawn again within bounds, every constraint of its operators kept.

The sizes of a graph become classes, tied by the same templates that the sampler uses; what is drawn is free, so structure and
specialisations (sizes of 1, multiples of a block) are varied on purpose.  Failing programs are minimised here, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from ..ir import (
    DTYPES,
    DrtError,
    Graph,
    GraphBuilder,
    Literal,
    Node,
    OpSet,
    TensorType,
    Unsatisfiable,
    Unsupported,
    builtin_ops,
    checked,
)
from .calls import Signature, Structure, Symbolic, Template, known_size
from .dims import ConflictError, Plan, Sizes
from .profiles import Profile
from .relation import Relations


@attrs.frozen(eq=False)
class _Tied:
    """A node with its template: the attributes come from the template's local variables."""

    node: Node
    template: Template
    local: list[int]


class Instances:
    """The space of instances of one graph.

    Args:
        graph: static, without opaque nodes.
        ops: the operators.
        keep_ones: whether sizes of 1 stay 1, as broadcasting and size-1 specialisations need.

    Raises:
        Unsupported: a node is opaque or its sizes cannot be said by formulas.
    """

    @checked
    def __init__(self, graph: Graph, ops: OpSet | None = None, keep_ones: bool = True) -> None:
        ops = builtin_ops() if ops is None else ops
        if not graph.is_static:
            raise Unsupported("sizes are symbolic, expected a graph with known sizes", subject=graph.name)
        self.graph, self.ops = graph, ops
        self.relations = Relations(ops, tuple(DTYPES), max_rank=8)
        self.sizes = Sizes()
        self.shapes: dict[str, list[int]] = {}
        self.tied: list[_Tied] = []
        for i in graph.inputs:
            self.shapes[i.name] = [0 if d == 1 and keep_ones else self.sizes.new() for d in i.type.shape]
        for node in graph.nodes:
            try:
                self._tie(node)
            except ConflictError:
                message = f"sizes of %{node.results[0]} are tied in a way that is not understood"
                raise Unsupported(message, subject=node.op) from None

    def _tie(self, node: Node) -> None:
        op = self.ops.get(node.op)
        if op is None:
            raise Unsupported("has no definition", subject=node.op)
        env = {a.name: str(node.attributes[a.name]) for a in op.attributes if a.kind == "dtype"}
        types = self.graph.types
        ranks: list[Any] = []
        flat: list[int] = []
        real: list[int] = []

        def shape(o: Any, declared: str) -> int:
            if isinstance(o, Literal):
                return 0
            flat.extend(self.shapes[o])
            real.extend(map(known_size, types[o].shape))
            if declared not in DTYPES:
                env[declared] = types[o].dtype
            return types[o].rank

        for p, o in zip(op.operands, node.operands, strict=True):
            if o is None:
                ranks.append(None)
            elif isinstance(o, tuple):
                ranks.append(tuple(shape(x, p.dtype) for x in o))
            else:
                ranks.append(shape(o, p.dtype))
        structure = self._structure(node, tuple(ranks), env)
        ones = sum(1 << i for i, d in enumerate(flat) if self.sizes.find(d) == 0)
        signature = Signature(node.op, (), (), tuple(sorted(env.items())), (structure,))
        for template in self.relations.find_templates(signature, structure, ones):
            known = _known(template, real, node)
            if known is None:
                continue
            mark = self.sizes.mark()
            try:
                results, local = self.sizes.apply(attrs.evolve(template, at_least_two=()), flat)
                # Strides, paddings and positions are structure: they stay as they are.
                for number in template.numbers:
                    x = self.sizes.find(local[number.local])
                    self.sizes.made[x] = ("c", known[number.local])
            except ConflictError:
                self.sizes.undo(mark)
                continue
            for name, dims in zip(node.results, results, strict=True):
                self.shapes[name] = dims
            self.tied.append(_Tied(node, template, local))
            return
        raise Unsupported("no template fits its sizes", subject=node.op)

    def _structure(self, node: Node, ranks: tuple[Any, ...], env: Mapping[str, str]) -> Structure:
        """Return the node's structure with as many sizes symbolic as its definition allows."""
        op = self.ops[node.op]
        chosen: dict[str, Any] = dict(node.attributes)
        sized = [a for a in op.attributes if a.kind in ("int", "ints") and chosen[a.name] is not None]
        for a in sized:
            value = chosen[a.name]
            chosen[a.name] = Symbolic(len(value) if isinstance(value, tuple) else None)
        for a in sized:
            if not self.relations.selects(op, env, ranks, chosen):
                break
            alone = dict(chosen)
            alone[a.name] = node.attributes[a.name]
            if not self.relations.selects(op, env, ranks, alone) or a is not sized[-1]:
                chosen = alone
        if self.relations.selects(op, env, ranks, chosen):
            chosen = dict(node.attributes)
        return Structure(ranks, tuple(chosen.items()), ())

    def draw(self, profile: Profile, rng: random.Random, tries: int = 200) -> Graph:
        """Return one instance within a profile; inference has checked every rule of it.

        Raises:
            Unsatisfiable: none was found.
        """
        wanted = [i for t in self.tied for i in t.local]
        plan = Plan(self.sizes, list(self.shapes.values()), wanted, profile)
        value = plan.sample(rng, tries)
        if value is None:
            try:
                from .cpsat import solve

                value = solve(plan, rng)
            except DrtError as error:
                if isinstance(error, Unsatisfiable):
                    raise
        if value is None:
            raise Unsatisfiable(
                f"no instance with at most {profile.max_numel} elements was found", subject=self.graph.name
            )
        return self._rebuild(value)

    def _rebuild(self, value: list[int]) -> Graph:
        from .sampler import template_attributes

        find = self.sizes.find
        b = GraphBuilder(self.graph.name, self.ops)
        for i in self.graph.inputs:
            shape = tuple(value[find(d)] for d in self.shapes[i.name])
            b.input(i.name, TensorType(i.type.dtype, shape), i.kind, i.target)
        for t in self.tied:
            found = template_attributes(t.template, [value[find(x)] for x in t.local])
            attributes = {k: found.get(k, v) for k, v in t.node.attributes.items()}
            b.add(t.node.op, *t.node.operands, result=list(t.node.results), location=t.node.location, **attributes)
        return b.build(self.graph.outputs, self.graph.updates)


def _known(template: Template, real: list[int], node: Node) -> list[int] | None:
    """Return the template's locals for the node's own sizes, or None where the template does not describe them."""
    local: list[int | None] = [None] * template.locals
    for slot, n in zip(template.slots, real, strict=True):
        if type(slot) is int:
            if local[slot] not in (None, n):
                return None
            local[slot] = n
        elif slot[0] is None and slot[1] != n:
            return None
    for name, v in template.attributes:
        whole = node.attributes[name]
        pairs: Iterable[tuple[Any, Any]] = (
            [(v, whole)]
            if type(v) is int
            else zip(v, whole)
            if isinstance(v, tuple) and isinstance(whole, tuple)
            else []
        )
        for d, given in pairs:
            if type(d) is int:
                local[d] = int(given)
    if any(n is None for n in local):
        return None
    numbers = [int(n) for n in local if n is not None]
    for slot, n in zip(template.slots, real, strict=True):
        if type(slot) is not int and slot[0] is not None and slot[0].function(*[numbers[i] for i in slot[1]]) != n:
            return None
    for f, args in template.checks:
        if not f.function(*[numbers[i] for i in args]):
            return None
    return numbers


@checked
def instances(
    graph: Graph, max_numel: int = 4096, *, ops: OpSet | None = None, seed: int = 0
) -> Iterator[tuple[str, Graph]]:
    """Yield instances of a graph that differ on purpose: ``tiny``, ``odd``, ``ones``, ``blocks`` and ``near`` blocks.

    Args:
        graph: any static graph.
        max_numel: most elements of any value.
        ops: the operators.
        seed: of the draws.

    Raises:
        Unsupported: the graph's sizes cannot be varied.
    """
    menus = {
        "tiny": ((1, 2, 3), 3), "odd": ((3, 5, 7, 13, 17, 31), 31), "ones": ((1, 1, 1, 2, 5), 5),
        "blocks": ((16, 32, 64), 64), "near": ((15, 17, 31, 33, 63, 65), 65),
    }  # fmt: skip
    rng = random.Random(seed)
    space = Instances(graph, ops)
    for name, (menu, most) in menus.items():
        try:
            yield name, space.draw(Profile(name, most, max_numel, menu=menu, menu_share=0.9), rng)
        except Unsatisfiable:
            continue


@checked
def minimise(graph: Graph, fails: Callable[[Graph], bool], *, ops: OpSet | None = None, tries: int = 60) -> Graph:
    """Return a smaller graph that still fails: fewer operators, then smaller sizes.

    Args:
        graph: a failing program.
        fails: whether a graph shows the failure; called often.
        ops: the operators.
        tries: limit on draws of sizes.
    """
    ops = builtin_ops() if ops is None else ops
    smaller = True
    while smaller and len(graph.nodes) > 1:
        smaller = False
        for candidate in _cuts(graph):
            if len(candidate.nodes) < len(graph.nodes) and candidate.nodes and fails(candidate):
                graph, smaller = candidate, True
                break
    rng = random.Random(0)
    try:
        space = Instances(graph, ops)
    except Unsupported:
        return graph
    best = _elements(graph)
    for n in range(tries):
        try:
            candidate = space.draw(Profile("less", max(2, 32 >> (n % 5)), max(1, best - 1)), rng, tries=40)
        except Unsatisfiable:
            continue
        if _elements(candidate) < best and fails(candidate):
            graph, best = candidate, _elements(candidate)
    return graph


def _elements(graph: Graph) -> int:
    return sum(known_size(t.numel) for t in graph.types.values())


def _cuts(graph: Graph) -> Iterator[Graph]:
    """Yield the graph with one operator fewer: the values of a node become inputs, or its result the output."""
    for node in reversed(graph.nodes):
        yield _with_outputs(graph, set(), node.results)
    for node in graph.nodes:
        yield _with_outputs(graph, set(node.results), graph.outputs)


def _with_outputs(graph: Graph, given: set[str], outputs: tuple[Any, ...]) -> Graph:
    """Return the part of a graph that ``outputs`` need, with the values of ``given`` as inputs."""
    from ..ir import Input

    needed = {o for o in outputs if isinstance(o, str)}
    nodes = []
    for node in reversed(graph.nodes):
        if needed & set(node.results) - given:
            nodes.append(node)
            needed |= set(node.uses())
    inputs = [i for i in graph.inputs if i.name in needed]
    inputs += [Input(n, graph.types[n]) for n in graph.types if n in given and n in needed]
    kept = tuple(reversed(nodes))
    return Graph(graph.name, tuple(inputs), kept, tuple(outputs), (), graph.symbols, graph.guards)


__all__ = ["Instances", "instances", "minimise"]
