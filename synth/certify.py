"""Proofs that an edge between two operators has no sizes: CP-SAT on every way in which both definitions can hold.

Nothing is solved beforehand.  The conditions are those under which inference accepts the two calls, the rule that a reduction
combines at least two elements, and that the producer's result is the consumer's operand; what is proved names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from ..ir import SizeLike
from ..ir import expr as ex
from ..ir.size import Size, substitute, symbol, symbols_of
from .calls import Signature
from .cpsat import new_model, relation
from .relation import Relations
from .sampler import Sampler
from .stats import Edge

#: Sizes up to this are refuted.
MOST = 2**16
#: Functions for which a size of 1 is another than a symbol.
_BROADCASTS = frozenset(("broadcast", "broadcastable"))

#: A named relation between two sizes, and whether it must hold or must not.
Named = tuple[str, str, SizeLike, SizeLike, bool]


@attrs.frozen
class Certificate:
    """Why two operators cannot follow each other.

    Attributes:
        edge: producer, consumer, slot of the consumer.
        cases: pairs of ways in which the two calls can hold, each proved to contradict.
        reasons: the conditions that contradict each other, the most frequent first; each set is minimal.
    """

    edge: Edge
    cases: int
    reasons: tuple[str, ...]


@attrs.frozen
class _Way:
    conditions: tuple[Named, ...]
    shape: tuple[SizeLike, ...]


def certify(sampler: Sampler, edge: Edge) -> Certificate | None:
    """Return a proof that no sizes up to ``MOST`` fit an edge, None where some do or no proof was found.

    Args:
        sampler: of any level.
        edge: one that the types allow.

    Raises:
        UsageError: OR-tools is not installed.
    """
    producer, consumer, slot = edge
    made: dict[Any, list[tuple[Signature, int]]] = {}
    for s in sampler.signatures[producer]:
        for k, t in enumerate(s.results):
            made.setdefault(t, []).append((s, k))
    reasons: Counter[str] = Counter()
    cases = 0
    for second in sampler.signatures[consumer]:
        if slot not in second.open_slots(sampler.pinned):
            continue
        takes = _ways(sampler.relations, second, slot, None)
        for first, result in made.get(second.types[slot], ()):
            gives = _ways(sampler.relations, first, None, result)
            if takes is None or gives is None:
                return None
            for a in gives:
                for b in takes:
                    found = _contradiction(a, b, consumer)
                    if found is None:
                        return None
                    cases += 1
                    reasons["; ".join(sorted(found))] += 1
    return Certificate(edge, cases, tuple(text for text, _ in reasons.most_common()))


def _ways(relations: Relations, signature: Signature, slot: int | None, result: int | None) -> list[_Way] | None:
    """Return the different ways of a call with the shape of one slot or result, None where they are not all known."""
    found: dict[_Way, None] = {}
    for s in signature.structures:
        for ones in _masks(relations, signature):
            ways = relations.ways(signature, s, ones)
            if ways is None:
                return None
            for conditions, dims, shapes, extents in ways:
                names = _names(relations, signature)
                named = [(_text(names, signature.op, *c), *c) for c in conditions]
                for e in extents:
                    least = (">=", e, 2, True)
                    named.append((f"{signature.op} reduces at least two elements: {_say(e, names)} >= 2", *least))
                named += [
                    (_text(names, signature.op, ">=", e, 1, True), ">=", e, 1, True) for shape in shapes for e in shape
                ]
                ranks = [rank for _, rank in signature.types]
                if slot is not None:
                    start = sum(ranks[:slot])
                    shape = dims[start : start + ranks[slot]]
                else:
                    assert result is not None
                    shape = shapes[result]
                found[_Way(tuple(dict.fromkeys(named)), tuple(shape))] = None
    return list(found)


def _masks(relations: Relations, signature: Signature) -> Sequence[int]:
    """Return the sets of operand dimensions, as bits, that inference must be told are 1."""
    op = relations.typing(relations.ops[signature.op])
    clauses = [c.expr for c in op.constraints] + [x.expr for x in op.lets]
    clauses += [d for p in (*op.operands, *op.results) for d in p.shape]
    if not any(e.fn in _BROADCASTS for clause in clauses for e in _inside(clause) if isinstance(e, ex.Call)):
        return (0,)
    return range(1 << sum(rank for _, rank in signature.types))


def _inside(e: ex.Expr) -> Iterator[ex.Expr]:
    yield e
    for c in ex.children(e):
        yield from _inside(c)


def _names(relations: Relations, signature: Signature) -> dict[str, SizeLike]:
    """Return the symbol of each operand dimension under a name that a person knows: operand and axis."""
    op = relations.ops[signature.op]
    out: dict[str, SizeLike] = {}
    for k, (position, (_, rank)) in enumerate(signature.slots):
        p = op.operands[position]
        own = [n for n, (at, _) in enumerate(signature.slots) if at == position]
        head = f"{p.name}{own.index(k)}" if p.variadic else p.name
        for axis in range(rank):
            out[f"d{len(out)}"] = symbol(f"{head}.shape[{axis}]")
    return out


def _say(e: SizeLike, names: dict[str, SizeLike]) -> str:
    return str(substitute(e, names) if isinstance(e, Size) else e)


def _text(names: dict[str, SizeLike], op: str, sign: str, a: SizeLike, b: SizeLike, truth: bool) -> str:
    said = f"{_say(a, names)} {sign} {_say(b, names)}"
    return f"{op}: {said if truth else f'not {said}'}"


def _contradiction(a: _Way, b: _Way, consumer: str) -> list[str] | None:
    """Return a minimal set of conditions of two calls that contradict each other, None where no contradiction was found."""
    conditions: list[tuple[int, Named]] = [(0, c) for c in a.conditions] + [(1, c) for c in b.conditions]
    labels = list(dict.fromkeys(c[0] for _, c in conditions))
    joint = (
        f"{consumer} takes what has the shape ({', '.join('_' if isinstance(d, Size) else str(d) for d in a.shape)})"
    )
    core = _core(a, b, conditions, [*labels, joint], joint)
    if core is None:
        return None
    for label in list(core):
        less = [x for x in core if x != label]
        if _core(a, b, conditions, less, joint) is not None:
            core = less
    return core


def _core(
    a: _Way, b: _Way, conditions: Sequence[tuple[int, Named]], kept: Sequence[str], joint: str
) -> list[str] | None:
    """Return which of the kept conditions contradict each other, None where they do not."""
    m = new_model()
    values: list[dict[str, Any]] = [{}, {}]

    def of(side: int, e: SizeLike) -> Any:
        for s in symbols_of(e) if isinstance(e, Size) else ():
            if s.name not in values[side]:
                lo = s.lo if isinstance(s.lo, int) else -MOST
                values[side][s.name] = m.variable(max(lo, -MOST), MOST)
        return m.size(e, values[side].__getitem__)

    for side, (label, op, x, y, truth) in conditions:
        if label in kept:
            m.require(label, relation(op, of(side, x), of(side, y), truth))
    if joint in kept:
        for x, y in zip(a.shape, b.shape, strict=True):
            m.require(joint, relation("==", of(0, x), of(1, y)))
    return m.contradiction()[0]


__all__ = ["Certificate", "certify"]
