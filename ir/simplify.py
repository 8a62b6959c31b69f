"""Applying rewrite rules, and simplification: rules and passes to a fixed point."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import attrs

from .cost import is_view, node_flops
from .effects import may_be_random
from .errors import ParseError, Unsupported, VerifyError
from .graph import OPAQUE, Graph, Node, Operand, Update
from .guards import Facts
from .load import builtin_ops, parse_definitions, read_text
from .opdef import OpSet
from .passes import eliminate_common_subexpressions, eliminate_dead_code, fold_constants, rename_operands
from .patterns import Matcher, check_rule
from .rewrite import Rule
from .size import SizeLike, substitute, symbols_of
from .typesys import DTYPES

REWRITES_DIR = Path(__file__).parent / "rewrites"

#: Operations that take as long as moving one byte on a data-centre GPU (H100: 67 TFLOP/s in f32, 3.35 TB/s).
FLOPS_PER_BYTE = 20

#: What a symbol counts as where costs are compared, within its range.
TYPICAL_SIZE = 1024

#: Rounds of passes and rules after which :func:`simplify` stops, converged or not.
MAX_ROUNDS = 10


@attrs.frozen
class Applied:
    """One change: the rule or pass, and the value it changed."""

    rule: str
    value: str


# -- rules ----------------------------------------------------------------------------------------------------------


def load_rules(*paths: str | Path, ops: OpSet | None = None) -> tuple[Rule, ...]:
    """Return the rules of files, in order.

    Raises:
        UsageError: a file cannot be read.
        ParseError: a file is not in the grammar, or a rule speaks of what is not there.
    """
    rules: list[Rule] = []
    for path in paths:
        rules += parse_rules(read_text(path), str(path), ops)
    return tuple(rules)


def parse_rules(text: str, file: str = "<text>", ops: OpSet | None = None) -> tuple[Rule, ...]:
    """Parse and check rewrite rules; raises ParseError."""
    ops = builtin_ops() if ops is None else ops
    rules: dict[str, Rule] = {}
    for item in parse_definitions(text, file):
        if not isinstance(item, Rule):
            raise ParseError("an operator stands among rewrites", place=str(item.location), subject=item.name)
        if item.name in rules:
            first = rules[item.name].location
            raise ParseError(f"defined twice, first at {first}", place=str(item.location), subject=item.name)
        check_rule(item, ops)
        rules[item.name] = item
    return tuple(rules.values())


@cache
def builtin_rules() -> tuple[Rule, ...]:
    """Return the rules that come with DRT (``ir/rewrites/*.drt``), read once."""
    return load_rules(*sorted(REWRITES_DIR.glob("*.drt")))


# -- one graph being rewritten ----------------------------------------------------------------------------------------


class _Editor:
    """A graph that changes node by node; what a value means never changes, so that names keep their types."""

    def __init__(self, graph: Graph, ops: OpSet) -> None:
        self.graph, self.ops = graph, ops
        self.types = dict(graph.types)
        self.outputs, self.updates = graph.outputs, graph.updates
        self.nodes: dict[int, Node] = dict(enumerate(graph.nodes))
        # New nodes stand where the node stood that they replace: (5, 0) and (5, 1) between 5 and 6.
        self.place: dict[int, tuple[int, ...]] = {i: (i,) for i in self.nodes}
        self.makers: dict[str, int] = {r: i for i, n in self.nodes.items() for r in n.results}
        self.users: dict[str, set[int]] = {name: set() for name in self.types}
        for i, n in self.nodes.items():
            for name in n.uses():
                self.users[name].add(i)
        self.live = Counter(_leaves(graph.outputs)) + Counter(u.value for u in graph.updates)
        changed = {u.target for u in graph.updates}
        self.frozen = {i.name: i.kind != "input" and i.name not in changed for i in graph.inputs}
        self.taken = set(self.types)
        self.count = len(graph.nodes)
        self.costs: dict[object, tuple[float, int]] = {}

    # -- what patterns ask ------------------------------------------------------------------------------------------

    def producer(self, value: str) -> Node | None:
        """Return the node that defines ``value``, None for an input."""
        maker = self.makers.get(value)
        return None if maker is None else self.nodes[maker]

    @property
    def facts(self) -> Facts:
        """What the guards of the program say."""
        return self.graph.facts

    def n_uses(self, value: str) -> int:
        """Return how many nodes, outputs and updates read ``value``."""
        return len(self.users[value]) + self.live[value]

    def is_frozen(self, operand: Operand) -> bool:
        """Return whether ``operand`` is made from parameters, buffers and constants alone."""
        if isinstance(operand, tuple):
            return all(map(self.is_frozen, operand))
        if not isinstance(operand, str):
            return True
        if operand not in self.frozen:
            pending = [operand]
            while pending:
                node = self.nodes[self.makers[pending[-1]]]
                unknown = [u for u in node.uses() if u not in self.frozen] if node.op != OPAQUE else []
                if unknown:
                    pending += unknown
                    continue
                still = not may_be_random(node, self.ops) and all(self.frozen[u] for u in node.uses())
                self.frozen.update(dict.fromkeys(node.results, still))
                pending.pop()
        return self.frozen[operand]

    # -- costs ------------------------------------------------------------------------------------------------------

    def cost(self, node: Node) -> tuple[float, int]:
        """Return the time of ``node`` in operations, and 1; both 0 where it need be computed only once."""
        if all(self.frozen.get(r, False) for r in node.results) or self.is_frozen(node.operands):
            return 0.0, 0
        types = tuple(map(self._type, node.operands))
        key = (node.op, types, node.attrs)
        if key not in self.costs:
            time = 0.0
            if node.op == OPAQUE or not is_view(self.ops[node.op], self.ops):
                moved = sum((t.size_bytes for t in node.types), start=0)
                for name in dict.fromkeys(node.uses()):
                    moved = moved + self.types[name].numel * DTYPES[self.types[name].dtype]
                time = _typical(node_flops(node, self.types, self.ops)) + FLOPS_PER_BYTE * _typical(moved)
            self.costs[key] = (time, 1)
        return self.costs[key]

    def _type(self, o: Operand) -> object:
        return self.types[o] if isinstance(o, str) else tuple(map(self._type, o)) if isinstance(o, tuple) else o

    def _unused_without(self, root: int, read: set[str]) -> set[int]:
        """Return the nodes that nothing needs once ``root`` is gone and the values ``read`` are used by what replaces it."""
        dead = {root}
        pending = list(self.nodes[root].uses())
        while pending:
            maker = self.makers.get(pending.pop())
            if maker is None or maker in dead:
                continue
            results = self.nodes[maker].results
            if any(r in read or self.live[r] or not self.users[r] <= dead for r in results):
                continue
            dead.add(maker)
            pending += self.nodes[maker].uses()
        return dead

    # -- changing -----------------------------------------------------------------------------------------------------

    def fresh(self, wish: str) -> str:
        """Return a value name that is not taken, and take it."""
        name, n = wish, 0
        while name in self.taken:
            n += 1
            name = f"{wish}_{n}"
        self.taken.add(name)
        return name

    def apply(self, root: int, matcher: Matcher) -> list[int] | None:
        """Apply a rule at a node; return the nodes to look at again, None where it does not apply."""
        node = self.nodes[root]
        result = node.results[0]
        for match in matcher.matches(node, self):
            wished: list[str] = []

            def wish(op: str, wished: list[str] = wished) -> str:
                wished.append(self.fresh(f"{result}_{op}"))
                return wished[-1]

            try:
                top, new = matcher.replacement(match, self, wish)
            except (VerifyError, Unsupported):
                self.taken.difference_update(wished)
                continue
            if self._fits(root, top, new):
                return self._replace(root, top, new)
            self.taken.difference_update(wished)
        return None

    def _fits(self, root: int, top: Operand, new: list[Node]) -> bool:
        """Return whether a replacement has the right type and costs no more than what becomes unused."""
        wanted = self.types[self.nodes[root].results[0]]
        made = {n.results[0]: n.types[0] for n in new}
        if not isinstance(top, str) or (made.get(top) or self.types[top]) != wanted:
            return False
        if not new:
            # What the caller receives is a tensor of its own, not the one that it gave.
            return top in self.makers or not self.live[self.nodes[root].results[0]]
        dead = self._unused_without(root, {u for n in new for u in n.uses()} | {top})
        before = [self.cost(self.nodes[i]) for i in dead]
        self.types.update(made)
        try:
            after = []
            for n in new:
                self.frozen[n.results[0]] = self.is_frozen(n.operands)
                after.append(self.cost(n))
        except Unsupported:
            return False
        finally:
            for name in made:
                del self.types[name]
                self.frozen.pop(name, None)
        times = sum(t for t, _ in before), sum(t for t, _ in after)
        # Equal work may be summed in another order.
        if abs(times[0] - times[1]) <= 1e-9 * times[0]:
            return sum(n for _, n in after) <= sum(n for _, n in before)
        return times[1] < times[0]

    def _replace(self, root: int, top: Operand, new: list[Node]) -> list[int]:
        old = self.nodes[root]
        result = old.results[0]
        added: list[int] = []
        for k, n in enumerate(new):
            if n.results[0] == top:
                # The replacement takes the name, so that nothing that reads it changes.
                self.taken.discard(str(top))
                n = attrs.evolve(n, results=(result,))
            n = attrs.evolve(n, location=old.location)
            number = self.count
            self.count += 1
            self.nodes[number] = n
            self.place[number] = (*self.place[root], k)
            self.makers[n.results[0]] = number
            self.types[n.results[0]] = n.types[0]
            self.users.setdefault(n.results[0], set())
            for name in n.uses():
                self.users[name].add(number)
            added.append(number)
        again = added + sorted(self.users[result])
        if all(n.results[0] != top for n in new):
            self._rename(result, top)
        self._remove(root)
        return [i for i in again if i in self.nodes]

    def _rename(self, old: str, new: Operand) -> None:
        for i in self.users[old]:
            self.nodes[i] = attrs.evolve(self.nodes[i], operands=rename_operands(self.nodes[i].operands, {old: new}))
        if isinstance(new, str):
            self.users[new] |= self.users[old]
            self.live[new] += self.live[old]
        self.users[old] = set()
        self.outputs = rename_operands(self.outputs, {old: new})
        self.updates = tuple(Update(u.target, str(new) if u.value == old else u.value) for u in self.updates)
        del self.live[old]

    def _remove(self, number: int) -> None:
        """Remove a node, and then what only it needed."""
        pending = [number]
        while pending:
            i = pending.pop()
            if i not in self.nodes:
                continue
            node = self.nodes.pop(i)
            del self.place[i]
            for r in node.results:
                if self.makers.get(r) == i:
                    del self.makers[r]
            for name in dict.fromkeys(node.uses()):
                self.users[name].discard(i)
                maker = self.makers.get(name)
                if maker is not None and all(self.n_uses(r) == 0 for r in self.nodes[maker].results):
                    pending.append(maker)

    def built(self) -> Graph:
        """Return the graph as it is now."""
        order = sorted(self.nodes, key=lambda i: self.place[i])
        nodes = tuple(self.nodes[i] for i in order)
        return attrs.evolve(self.graph, nodes=nodes, outputs=self.outputs, updates=self.updates)


def _leaves(operands: tuple[Operand, ...]) -> Iterator[str]:
    for o in operands:
        if isinstance(o, tuple):
            yield from _leaves(o)
        elif isinstance(o, str):
            yield o


def _typical(size: SizeLike) -> float:
    symbols = symbols_of(size)
    values: dict[str, SizeLike] = {s.name: max(s.lo, min(s.hi, TYPICAL_SIZE)) for s in symbols}
    found = substitute(size, values)
    assert isinstance(found, int)
    return float(found)


# -- the passes ---------------------------------------------------------------------------------------------------------


def apply_rules(
    graph: Graph, rules: Iterable[Rule], ops: OpSet | None = None, exact_only: bool = True
) -> tuple[Graph, list[Applied]]:
    """Apply rules until none fits, first rule first, at most some ten times per node.

    Args:
        graph: any valid graph.
        rules: in order of preference.
        ops: the operators; rules that speak of others are passed over.
        exact_only: leave out the approximate rules.

    Returns:
        The graph without what became unused, and what was applied where, in order.
    """
    ops = builtin_ops() if ops is None else ops
    by_root = _matchers(_Same(tuple(rules)), _Same(ops), exact_only)
    editor = _Editor(graph, ops)
    applied: list[Applied] = []
    queue = deque(editor.nodes)
    limit = 50 + 10 * len(graph.nodes)
    while queue and len(applied) < limit:
        number = queue.popleft()
        if number not in editor.nodes:
            continue
        for matcher in by_root.get(editor.nodes[number].op, ()):
            value = editor.nodes[number].results[0]
            again = editor.apply(number, matcher)
            if again is not None:
                applied.append(Applied(matcher.rule.name, value))
                queue.extendleft(reversed(again))
                break
    return (editor.built() if applied else graph), applied


@attrs.frozen(eq=False)
class _Same:
    """A value as a key that only the same object equals; its own equality would walk all of it."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=8)
def _matchers(rules: _Same, ops: _Same, exact_only: bool) -> Mapping[str, Sequence[Matcher]]:
    """Return the matchers by the operator at the root of their patterns."""
    found: dict[str, list[Matcher]] = {}
    for rule in rules.value:
        if exact_only and not rule.exact:
            continue
        try:
            check_rule(rule, ops.value)
        except ParseError:  # it speaks of operators that this set has not
            continue
        matcher = Matcher(rule, ops.value)
        found.setdefault(matcher.root, []).append(matcher)
    return found


def simplify(
    graph: Graph, ops: OpSet | None = None, exact_only: bool = True, rules: Iterable[Rule] | None = None
) -> tuple[Graph, list[Applied]]:
    """Fold constants, merge equal values, apply rules and drop what is unused, until nothing changes.

    Args:
        graph: any valid graph.
        ops: the operators.
        exact_only: keep every bit of every output; without it, only the real-number meaning.
        rules: the built-in ones if None.

    Returns:
        The graph and what was done, in order; a value that was folded or merged away is recorded by its name.
    """
    ops = builtin_ops() if ops is None else ops
    chosen = builtin_rules() if rules is None else tuple(rules)
    applied: list[Applied] = []
    for _ in range(MAX_ROUNDS):
        before = graph
        folded = fold_constants(graph, ops)
        was = {n.results: n for n in graph.nodes}
        applied += [Applied("fold_constants", n.results[0]) for n in folded.nodes if was[n.results] != n]
        merged = eliminate_common_subexpressions(folded, ops)
        gone = set(folded.producers) - set(merged.producers)
        applied += [Applied("eliminate_common_subexpressions", name) for name in folded.producers if name in gone]
        graph, done = apply_rules(merged, chosen, ops, exact_only)
        applied += done
        graph = eliminate_dead_code(graph)
        if graph == before:
            break
    return graph, applied
