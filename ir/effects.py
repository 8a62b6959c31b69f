"""Which operators draw random numbers: these are never merged, computed twice, computed once for all, or exchanged."""

from __future__ import annotations

from . import expr as ex
from .graph import OPAQUE, Graph, Node
from .opdef import Expand, OpSet, Random

#: Sets of operators that were asked about lately, with their answers; the sets are kept so that identities stay theirs.
_KNOWN: list[tuple[OpSet, frozenset[str]]] = []


def random_operators(ops: OpSet) -> frozenset[str]:
    """Return the names of the operators that draw random numbers, by themselves or through what they consist of."""
    for known, found in _KNOWN:
        if known is ops:
            return found
    found_now: dict[str, bool] = {}

    def draws(name: str) -> bool:
        if name not in found_now:
            found_now[name] = False
            body = ops[name].body
            found_now[name] = isinstance(body, Random) or (
                isinstance(body, Expand)
                and any(draws(fn) for _, e in body.statements for fn in _called(e) if fn in ops)
            )
        return found_now[name]

    found = frozenset(name for name in ops if draws(name))
    _KNOWN.insert(0, (ops, found))
    del _KNOWN[8:]
    return found


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
