"""What operators are through what they consist of; above all which ones draw random numbers.

Random operators are never merged, computed twice, computed once for all, or exchanged.
"""

from __future__ import annotations

from collections.abc import Callable

from . import expr as ex
from .graph import OPAQUE, Graph, Node
from .opdef import Expand, OpDef, OpSet, Random

#: Sets of operators that were asked about lately, with their answers; the sets are kept so that identities stay theirs.
_KNOWN: list[tuple[OpSet, frozenset[str]]] = []


def random_operators(ops: OpSet) -> frozenset[str]:
    """Return the names of the operators that draw random numbers, by themselves or through what they consist of."""
    for known, found in _KNOWN:
        if known is ops:
            return found
    found = operators_through(ops, lambda op: isinstance(op.body, Random))
    _KNOWN.insert(0, (ops, found))
    del _KNOWN[8:]
    return found


def operators_through(ops: OpSet, predicate: Callable[[OpDef], bool]) -> frozenset[str]:
    """Return the names of the operators for which ``predicate`` holds, or for something that they consist of."""
    known: dict[str, bool] = {}

    def holds(name: str) -> bool:
        if name not in known:
            known[name] = False
            known[name] = predicate(ops[name]) or any(map(holds, parts(ops[name], ops)))
        return known[name]

    return frozenset(name for name in ops if holds(name))


def parts(op: OpDef, ops: OpSet) -> list[str]:
    """Return the names of the operators that an operator consists of directly, in order."""
    if not isinstance(op.body, Expand):
        return []
    return [fn for _, e in op.body.statements for fn in sorted(_called(e)) if fn in ops]


def _called(e: ex.Expr) -> set[str]:
    own = {e.fn} if isinstance(e, ex.Call) else set()
    return own.union(*(_called(c) for c in ex.children(e)))


def is_random(node: Node, ops: OpSet) -> bool:
    """Return whether a node draws random numbers; of an opaque one this is not known here, and the answer is no."""
    return node.op in random_operators(ops)


def may_be_random(node: Node, ops: OpSet) -> bool:
    """Return whether a node draws random numbers or calls what DRT does not know."""
    return node.op == OPAQUE or is_random(node, ops)


def draws_random(graph: Graph, ops: OpSet) -> bool:
    """Return whether some node of a graph is known to draw random numbers."""
    random = random_operators(ops)
    return any(n.op in random for n in graph.nodes)
