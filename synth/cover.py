"""Programs of two operators, one for each producer, consumer and slot that the types allow.

Random programs see the common edges again and again and the rare ones hardly ever; here each edge is asked for by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import cache

import attrs

from .calls import Signature, Type
from .emit import write
from .sampler import Sampler
from .skeleton import wired_pair
from .spec import Program
from .stats import Edge, possible_edges

#: Wirings that are tried for an edge; every fourth is solved as a whole.
TRIES = 32


@attrs.frozen
class Covered:
    """What was found for one edge.

    Attributes:
        edge: producer, consumer, slot of the consumer.
        program: has the edge; None where none was found.
        reason: why not.
    """

    edge: Edge
    program: Program | None
    reason: str = ""


def cover(
    sampler: Sampler, edges: Iterable[Edge] | None = None, seed: int = 0, tries: int = TRIES
) -> Iterator[Covered]:
    """Yield a program for each edge: a pure function of the sampler's specification, the edge and ``seed``.

    Args:
        sampler: of any level.
        edges: all that the types allow, in order of their names, where None.
        tries: wirings, sizes and attributes that are drawn before an edge is given up.
    """
    wanted = sorted(possible_edges(sampler)) if edges is None else edges

    @cache
    def consumers(name: str, slot: int) -> dict[Type, list[Signature]]:
        found: dict[Type, list[Signature]] = {}
        for s in sampler.signatures[name]:
            if slot in s.open_slots(sampler.pinned):
                found.setdefault(s.types[slot], []).append(s)
        return found

    @cache
    def producers(name: str) -> dict[Type, list[tuple[Signature, int]]]:
        found: dict[Type, list[tuple[Signature, int]]] = {}
        for s in sampler.signatures[name]:
            for k, t in enumerate(s.results):
                found.setdefault(t, []).append((s, k))
        return found

    for edge in wanted:
        producer, consumer, slot = edge
        rng = random.Random(f"{seed} {producer} {consumer} {slot}")
        makes, takes = producers(producer), consumers(consumer, slot)
        types = sorted(makes.keys() & takes.keys())
        program, reason = None, "" if types else "no type of a result is one of the slot's"
        for attempt in range(tries if types else 0):
            kind = types[rng.randrange(len(types))]
            first, result = rng.choice(makes[kind])
            second = rng.choice(takes[kind])
            draft, found = sampler.sized(wired_pair(first, result, second, slot), [(1, 0)], rng, whole=attempt % 4 == 3)
            if draft is not None:
                program = Program(0, seed, attempt + 1, (consumer, producer), write(draft), sampler.relations.ops)
                break
            reason = found or reason or "no sizes fit"
        yield Covered(edge, program, "" if program is not None else reason)
