"""Greedy fusion: cut a graph into fragments that one kernel each can compute.

Every compute node starts as a fragment of its own.  Fragments that feed each other are merged, the largest saving of
roofline time first, while the generator can still write the result (``planner``).  Re-indexing nodes (``reshape``,
``permute``, ``slice``) cost nothing inside a kernel, so they belong to no fragment: each fragment takes along those that it
reads through.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from ..backend.candidate import Target
from ..backend.opaque import draws
from ..backend.user_kernels import has_user_kernel
from ..ir import OPAQUE, Graph, Input, Node, Operand, OpSet, Unsupported, UsageError, checked, print_graph
from ..ir.binding import part_symbols
from ..ir.expr import Bin, Call, Cond, Expr, Load, children
from ..ir.opdef import Expand, Index
from ..ir.products import factors

#: Index functions that move elements without changing or choosing among them.
_MOVES = frozenset(
    {"permuted", "inverse", "align", "ravel", "unravel", "set", "insert", "remove", "minus", "plus", "concat", "head",
     "tail", "range", "rank", "len", "repeat", "reduced"}
)  # fmt: skip


class PlanLike(Protocol):
    """What fusion needs to know of a generator's plan; see :class:`drt.backend.triton_gen.Plan`."""

    @property
    def family(self) -> str:
        """Loop structure: ``loops``, ``gemm``, ``attention``, ..."""
        ...

    @property
    def recompute(self) -> bool:
        """Whether an expensive value would be computed more than once."""
        ...

    @property
    def bytes(self) -> int:
        """Device-memory traffic, bytes."""
        ...

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        ...

    @property
    def launches(self) -> int:
        """Kernel launches."""
        ...


Planner = Callable[[Graph], PlanLike]

#: Above this intensity a contraction is bound by arithmetic: its tiles should come straight from memory, and a factor that
#: is computed on the way would be computed again for every tile that reads it.
PROLOGUE_FLOPS_PER_BYTE = 16.0

#: Reasons of parts that PyTorch runs although nothing is lost by it.
ONCE = "computed once, from parameters"
A_VIEW = "a view"


@attrs.frozen
class Part:
    """One step of a program that has been cut.

    Attributes:
        indices: positions in ``graph.nodes`` of the nodes that it computes, ascending; the re-indexing nodes that a kernel
            reads through are not among them.
        fragment: the step as a graph of its own; all its inputs are of kind ``input``.
        plan: how the generator would write it; None where PyTorch runs it.
        reason: why PyTorch runs it; empty where a kernel does.
    """

    indices: tuple[int, ...]
    fragment: Graph
    plan: PlanLike | None = None
    reason: str = ""


def parameter_only(graph: Graph, ops: OpSet) -> frozenset[int]:
    """Return the nodes that depend on parameters, buffers and constants alone: on none that the call writes, on no chance."""
    written = {u.target for u in graph.updates}
    fixed = {i.name for i in graph.inputs if i.kind != "input" and i.name not in written}
    found: set[int] = set()
    for k, node in enumerate(graph.nodes):
        reads = list(node.uses())
        if reads and all(v in fixed for v in reads) and not draws(node, ops):
            found.add(k)
            fixed |= set(node.results)
    return frozenset(found)


@checked
def is_view(name: str, ops: OpSet) -> bool:
    """Return whether the operator only re-indexes one operand, so that it costs nothing inside a kernel."""
    op = ops.get(name)
    if op is None or len(op.operands) != 1 or op.operands[0].variadic or len(op.results) != 1:
        return False
    match op.body:
        case Index(_, _, Load(tensor, index)):
            return tensor == op.operands[0].name and all(_moves(i, tensor) for i in index)
        case Expand(statements):
            called = {fn for _, e in statements for fn in _called(e) if fn in ops}
            return bool(called) and all(fn != name and is_view(fn, ops) for fn in called)
    return False


def _moves(e: Expr, tensor: str) -> bool:
    match e:
        case Call(fn, _, _) if fn not in _MOVES:
            return False
        case Load(name, _) if name == tensor:
            return False
        case Bin(op, _, _) if op not in ("+", "-", "*", "//", "%"):
            return False
        case Cond():
            return False
    return all(_moves(c, tensor) for c in children(e))


@checked
def extract(graph: Graph, indices: Iterable[int], ops: OpSet, name: str = "fragment", views: bool = True) -> Graph:
    """Return the nodes at ``indices`` as a graph of their own.

    Args:
        graph: the whole program.
        indices: positions in ``graph.nodes``.
        ops: the operators.
        name: of the new graph.
        views: whether re-indexing nodes that the fragment reads through come along.

    Returns:
        A graph whose inputs are the values that it reads from outside, in order of first use, and whose outputs are the
        values that something outside reads or the caller sees, in order of definition.
    """
    indices = tuple(indices)
    wanted = set(indices)
    beyond = [k for k in wanted if not 0 <= k < len(graph.nodes)]
    if beyond:
        raise UsageError(f"node {beyond[0]}, expected numbers below {len(graph.nodes)}", subject="extract: indices")
    if views:
        wanted |= _views_behind(graph, wanted, ops)
    chosen = [graph.nodes[i] for i in sorted(wanted)]
    inside = {r for n in chosen for r in n.results}
    core = {r for i in indices for r in graph.nodes[i].results}
    reads: dict[str, None] = {}
    for node in chosen:
        for value in node.uses():
            if value not in inside:
                reads[value] = None
    outside = {v for k, n in enumerate(graph.nodes) if k not in wanted for v in n.uses()} | graph.live_out
    outputs = tuple(r for n in chosen for r in n.results if r in core and r in outside)
    inputs = tuple(Input(v, graph.types[v]) for v in reads)
    return Graph(name, inputs, tuple(chosen), outputs, (), *part_symbols(graph, inputs, chosen))


def _views_behind(graph: Graph, indices: set[int], ops: OpSet) -> set[int]:
    found: set[int] = set()
    position = _positions(graph)
    stack = [v for i in indices for v in graph.nodes[i].uses()]
    while stack:
        value = stack.pop()
        k = position.get(value)
        if k is None or k in found or k in indices or not is_view(graph.nodes[k].op, ops):
            continue
        found.add(k)
        stack.extend(graph.nodes[k].uses())
    return found


def _positions(graph: Graph) -> dict[str, int]:
    return {r: k for k, n in enumerate(graph.nodes) for r in n.results}


class _Cutter:
    """The state of one greedy cut: disjoint clusters of compute nodes, and who feeds whom."""

    def __init__(self, graph: Graph, ops: OpSet, planner: Planner, target: Target) -> None:
        self.graph, self.ops, self.planner, self.target = graph, ops, planner, target
        self.once = parameter_only(graph, ops)
        self.compute = [k for k, n in enumerate(graph.nodes) if not is_view(n.op, ops)]
        self.position = _positions(graph)
        self.sources = {k: self._sources(k) for k in self.compute}
        # Random numbers are drawn in the order of the program: each node that draws some waits for the one before it.
        random = [k for k in self.compute if draws(graph.nodes[k], ops)]
        for earlier, later in zip(random, random[1:], strict=False):
            self.sources[later] |= {earlier}
        self.cluster = {k: frozenset({k}) for k in self.compute}
        self.plans: dict[frozenset[int], PlanLike | str] = {}
        # A kernel that a user wrote computes its operator and nothing around it.
        self.own = {k for k in self.compute if has_user_kernel(graph.nodes[k], graph.types, ops)} - self.once

    def _sources(self, k: int) -> frozenset[int]:
        """The compute nodes that node ``k`` reads, directly or through re-indexing nodes."""
        found: set[int] = set()
        stack = list(self.graph.nodes[k].uses())
        seen: set[str] = set()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            p = self.position.get(value)
            if p is None:
                continue
            if is_view(self.graph.nodes[p].op, self.ops):
                stack.extend(self.graph.nodes[p].uses())
            else:
                found.add(p)
        return frozenset(found)

    def plan(self, members: frozenset[int]) -> PlanLike | str:
        """The generator's plan for a cluster, or the reason why there is none."""
        if members not in self.plans:
            try:
                if members & self.once:
                    raise Unsupported(ONCE)
                if any(self.graph.nodes[k].op == OPAQUE for k in members):
                    target = str(self.graph.nodes[min(members)].attributes["target"])
                    raise Unsupported(f"no definition of {target}")
                fragment = extract(self.graph, members, self.ops, views=not members & self.own)
                self.plans[members] = self.planner(fragment)
            except Unsupported as error:
                self.plans[members] = error.line()
        return self.plans[members]

    def time_us(self, plan: PlanLike) -> float:
        """Roofline time of a plan, microseconds: traffic and launches; arithmetic that fusion does not change is left out."""
        return plan.bytes / (self.target.bandwidth_gbps * 1e3) + plan.launches * self.target.launch_us

    def reaches(self, start: frozenset[int], goal: frozenset[int]) -> bool:
        """Whether a path from ``start`` to ``goal`` leaves both on the way, so that merging them would make a cycle."""
        first = min(start)
        stack = [s for k in goal for s in self.sources[k] if s not in start and s not in goal]
        seen: set[int] = set()
        while stack:
            k = stack.pop()
            if k in seen or k < first:
                continue
            seen.add(k)
            members = self.cluster[k]
            if members == start:
                return True
            if members == goal:
                continue
            stack.extend(s for m in members for s in self.sources[m] if s not in members)
        return False

    def saving_us(self, a: frozenset[int], b: frozenset[int]) -> float | None:
        """Roofline time that one kernel for both clusters saves; None where there can be none or it does not pay."""
        if (a | b) & self.own:
            return None
        plan_a, plan_b = self.plan(a), self.plan(b)
        if isinstance(plan_a, str) or isinstance(plan_b, str) or self.reaches(a, b) or self.reaches(b, a):
            return None
        if plan_b.flops > PROLOGUE_FLOPS_PER_BYTE * plan_b.bytes and self.is_operand(a, b):
            return None
        merged = self.plan(a | b)
        if isinstance(merged, str) or merged.recompute:
            return None
        saved = self.time_us(plan_a) + self.time_us(plan_b) - self.time_us(merged)
        return saved if saved >= 0 else None

    def is_operand(self, a: frozenset[int], b: frozenset[int]) -> bool:
        """Whether a contraction of ``b`` takes a value of ``a`` as a factor."""
        return any(self.sources[k] & a and is_contraction(self.graph.nodes[k], self.ops) for k in b)

    def feeding(self, cluster: frozenset[int]) -> set[frozenset[int]]:
        """The clusters that ``cluster`` reads."""
        return {self.cluster[s] for m in cluster for s in self.sources[m]} - {cluster}

    def run(self) -> list[frozenset[int]]:
        """Merge, the largest saving first, until no merge pays; return the clusters."""
        heap: list[tuple[float, int, int, frozenset[int], frozenset[int]]] = []

        def push(a: frozenset[int], b: frozenset[int]) -> None:
            saved = self.saving_us(a, b)
            if saved is not None:
                # Ties go to the later consumer, so that chains grow from their ends.
                heapq.heappush(heap, (-saved, -max(b), -max(a), a, b))

        for k in self.compute:
            for other in self.feeding(self.cluster[k]):
                push(other, self.cluster[k])
        while heap:
            _, _, _, a, b = heapq.heappop(heap)
            if self.cluster[min(a)] != a or self.cluster[min(b)] != b or self.reaches(a, b):
                continue
            both = a | b
            for k in both:
                self.cluster[k] = both
            readers = {self.cluster[k] for k in self.compute if self.sources[k] & both} - {both}
            for other in sorted(self.feeding(both), key=min):
                push(other, both)
            for other in sorted(readers, key=min):
                push(both, other)
        return sorted(set(self.cluster.values()), key=min)


@checked
def partition(graph: Graph, ops: OpSet, planner: Planner, target: Target) -> list[Part]:
    """Cut ``graph`` into parts, in an order in which they can run.

    Args:
        graph: a valid program.
        ops: the operators.
        planner: ``planner(fragment)`` returns a plan, or raises Unsupported with the reason.
        target: the device, for the roofline time that decides whether a merge pays.

    Returns:
        Parts for all nodes that compute; re-indexing nodes that nothing but fragments read are in no part, the others are
        parts of their own with PyTorch as the writer.
    """
    cutter = _Cutter(graph, ops, planner, target)
    parts: list[Part] = []
    for n, members in enumerate(cutter.run()):
        plan = cutter.plan(members)
        indices = tuple(sorted(members))
        views = not isinstance(plan, str) and not members & cutter.own
        fragment = extract(graph, indices, ops, name=_name(graph, indices, n), views=views)
        parts.append(Part(indices, fragment, reason=plan) if isinstance(plan, str) else Part(indices, fragment, plan))
    return order_parts(graph, [*parts, *_views_needed(graph, parts)], ops)


def _name(graph: Graph, indices: Sequence[int], n: int) -> str:
    """A name that tells what a fragment computes: its first and last operators, and a number."""
    words = list(dict.fromkeys(graph.nodes[k].op for k in indices))
    if len(words) > 4:
        words = [*words[:2], *words[-2:]]
    return "_".join([*words, str(n)])


def _views_needed(graph: Graph, parts: Sequence[Part]) -> list[Part]:
    """The re-indexing nodes that PyTorch must run: those whose values the caller or a PyTorch part reads."""
    position = _positions(graph)
    computed = {k for p in parts for k in p.indices}
    stack = [*graph.live_out, *(i.name for p in parts for i in p.fragment.inputs)]
    needed: set[int] = set()
    while stack:
        k = position.get(stack.pop())
        if k is None or k in computed or k in needed:
            continue
        needed.add(k)
        stack.extend(graph.nodes[k].uses())
    out = []
    for k in sorted(needed):
        node = graph.nodes[k]
        inputs = tuple(Input(v, graph.types[v]) for v in dict.fromkeys(node.uses()))
        view = Graph(f"view{k}", inputs, (node,), node.results, (), *part_symbols(graph, inputs, [node]))
        out.append(Part((k,), view, reason=A_VIEW))
    return out


def order_parts(graph: Graph, parts: Sequence[Part], ops: OpSet) -> list[Part]:
    """Return ``parts`` in an order in which each value is defined before it is read, and what is random stays in order."""
    owner = {r: p for p in parts for r in p.fragment.outputs if isinstance(r, str)}
    # What draws random numbers keeps its order, so that equal seeds give equal numbers.
    chance = sorted((p for p in parts if any(draws(n, ops) for n in p.fragment.nodes)), key=lambda p: p.indices)
    before = {later.indices: earlier for earlier, later in zip(chance, chance[1:], strict=False)}
    done: set[int] = set()
    out: list[Part] = []

    def visit(root: Part) -> None:
        stack: list[tuple[Part, bool]] = [(root, False)]
        while stack:
            part, ready = stack.pop()
            if part.indices[0] in done:
                continue
            if ready:
                done.add(part.indices[0])
                out.append(part)
                continue
            stack.append((part, True))
            stack.extend((owner[i.name], False) for i in part.fragment.inputs if i.name in owner)
            if part.indices in before:
                stack.append((before[part.indices], False))

    for part in sorted(parts, key=lambda p: p.indices):
        visit(part)
    return out


@checked
def split_anchor(part: Part, ops: OpSet, planner: Planner, target: Target) -> list[Part] | None:
    """Return the part cut around its contraction: what feeds it, the contraction alone, what follows it.

    A library's product with fused pointwise kernels around it is the alternative to one fused kernel; which of the two is
    faster is for the clock to say.  None where the part is nothing but the contraction, or has no single one.
    """
    anchors = [k for k, n in enumerate(part.fragment.nodes) if is_contraction(n, ops)]
    if len(anchors) != 1 or len(part.indices) == 1:
        return None

    def only_rest(fragment: Graph) -> PlanLike:
        if any(is_contraction(n, ops) for n in fragment.nodes):
            raise Unsupported("PyTorch's library is faster")
        return planner(fragment)

    return partition(part.fragment, ops, only_rest, target)


def is_contraction(node: Node, ops: OpSet) -> bool:
    """Return whether the node's meaning is a sum of products over indices (a matrix product, a convolution)."""
    return node.op in ops and _contracts(node.op, ops, frozenset())


def _contracts(name: str, ops: OpSet, seen: frozenset[str]) -> bool:
    if name not in ops or name in seen:
        return False
    body = ops[name].body
    if isinstance(body, Index):
        return _has_product_fold(body.expr)
    if isinstance(body, Expand):
        return any(_contracts(fn, ops, seen | {name}) for _, e in body.statements for fn in _called(e))
    return False


def _has_product_fold(e: Expr) -> bool:
    return factors(e) is not None or any(_has_product_fold(c) for c in children(e))


def _called(e: Expr) -> set[str]:
    found = {e.fn} if isinstance(e, Call) else set()
    return found.union(*(_called(c) for c in children(e)))


@checked
def fragment_key(fragment: Graph) -> str:
    """Return the canonical text of a fragment with its values numbered: equal for fragments that one kernel can serve."""
    number = {v: f"v{k}" for k, v in enumerate(fragment.types)}

    def rename(o: Operand) -> Operand:
        if isinstance(o, str):
            return number[o]
        return tuple(map(rename, o)) if isinstance(o, tuple) else o

    inputs = tuple(Input(number[i.name], i.type) for i in fragment.inputs)
    nodes = tuple(
        Node(n.op, tuple(map(rename, n.operands)), n.attrs, tuple(number[r] for r in n.results), n.types)
        for n in fragment.nodes
    )
    outputs = tuple(map(rename, fragment.outputs))
    return print_graph(Graph("fragment", inputs, nodes, outputs, (), fragment.symbols, fragment.guards))
