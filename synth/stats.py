"""Statistics of generated programs: marginals with their chi-squared p-values, coverage of edges, histograms of shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ..ir import Graph, parse_graph
from .calls import Type, known_size
from .sampler import Sampler


def chi_squared_p(counts: Sequence[float], expected: Sequence[float]) -> float:
    """Return the p-value of Pearson's test of counts against expected counts.

    The regularised incomplete gamma function by its series or continued fraction; Numerical Recipes, section 6.2.
    """
    statistic = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True) if e > 0)
    freedom = sum(e > 0 for e in expected) - 1
    if freedom <= 0:
        return 1.0
    return _gamma_q(freedom / 2, statistic / 2)


def _gamma_q(a: float, x: float) -> float:
    if x <= 0:
        return 1.0
    scale = math.exp(-x + a * math.log(x) - math.lgamma(a)) if -x + a * math.log(x) - math.lgamma(a) > -700 else 0.0
    if x < a + 1:
        term = total = 1 / a
        n = a
        for _ in range(10000):
            n += 1
            term *= x / n
            total += term
            if abs(term) < abs(total) * 1e-14:
                break
        return max(0.0, 1 - total * scale)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for i in range(1, 10000):
        an = -i * (i - a)
        b += 2
        d = an * d + b
        d = tiny if abs(d) < tiny else d
        c = b + an / c
        c = tiny if abs(c) < tiny else c
        d = 1 / d
        step = d * c
        h *= step
        if abs(step - 1) < 1e-14:
            break
    return min(1.0, scale * h)


def kolmogorov_p(values: Sequence[float]) -> float:
    """Return the p-value of the Kolmogorov-Smirnov test that ``values`` are uniform on [0, 1] (asymptotic series)."""
    n = len(values)
    if n == 0:
        return 1.0
    ordered = sorted(values)
    d = max(max((i + 1) / n - v, v - i / n) for i, v in enumerate(ordered))
    t = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * d
    if t < 0.2:
        return 1.0
    return max(0.0, min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * t) ** 2) for k in range(1, 101))))


@attrs.frozen
class Uniformity:
    """How operators are distributed over positions.

    Attributes:
        programs: how many were counted.
        p_values: of Pearson's test, one for each position, the outputs first.
        error: largest relative error of the exact model's marginals.
        ratio: the most over the least frequent operator, all positions together.
    """

    programs: int
    p_values: tuple[float, ...]
    error: float
    ratio: float

    @property
    def uniform_p(self) -> float:
        """The p-value of the test that the p-values are uniform."""
        return kolmogorov_p(self.p_values)


def uniformity(sampler: Sampler, sequences: Sequence[Sequence[str]]) -> Uniformity:
    """Test operator sequences (outputs first) against the wished marginals of a sampler."""
    model = sampler.skeletons
    number = {n: i for i, n in enumerate(model.names)}
    total: Counter[str] = Counter()
    p_values = []
    for t, target in enumerate(model.targets):
        counts = [0] * len(model.names)
        for s in sequences:
            counts[number[s[t]]] += 1
            total[s[t]] += 1
        p_values.append(chi_squared_p(counts, [len(sequences) * float(p) for p in target.tolist()]))
    everywhere = [total[n] for n in model.names]
    return Uniformity(len(sequences), tuple(p_values), model.error, max(everywhere) / max(1, min(everywhere)))


Edge = tuple[str, str, int]


def possible_edges(sampler: Sampler) -> set[Edge]:
    """Return every ``(producer, consumer, slot)`` that the types allow."""
    makes: dict[Type, set[str]] = {}
    takes: dict[Type, set[tuple[str, int]]] = {}
    for name, signatures in sampler.signatures.items():
        for s in signatures:
            for r in s.results:
                makes.setdefault(r, set()).add(name)
            for slot in s.open_slots(sampler.pinned):
                takes.setdefault(s.types[slot], set()).add((name, slot))
    return {(p, c, k) for t in makes.keys() & takes.keys() for p in makes[t] for c, k in takes[t]}


def impossible_edges(sampler: Sampler) -> set[Edge]:
    """Return every ``(producer, consumer, slot)`` that no types allow."""
    slots = {(n, k) for n, signatures in sampler.signatures.items() for s in signatures for k in range(len(s.slots))}
    return {(p, c, k) for p in sampler.signatures for c, k in slots} - possible_edges(sampler)


@attrs.frozen
class Shapes:
    """What sizes the programs have.

    Attributes:
        dims: how often each power of two bounds a dimension from below: ``floor(log2(size))`` -> count.
        ones: share of dimensions that are 1.
        powers: share of dimensions that are powers of two above 1.
        numel: 10th, 50th and 90th percentile of the number of elements of a value.
    """

    dims: Mapping[int, int]
    ones: float
    powers: float
    numel: tuple[int, int, int]


def shapes(graphs: Iterable[Graph]) -> Shapes:
    """Return the statistics of the sizes of all values."""
    dims: Counter[int] = Counter()
    ones = powers = total = 0
    elements: list[int] = []
    for g in graphs:
        for t in g.types.values():
            elements.append(known_size(t.numel))
            for d in t.shape:
                assert isinstance(d, int)
                total += 1
                ones += d == 1
                powers += d > 1 and d & (d - 1) == 0
                dims[max(d, 1).bit_length() - 1] += 1
    elements.sort()
    at = [elements[min(len(elements) - 1, int(len(elements) * q))] if elements else 0 for q in (0.1, 0.5, 0.9)]
    return Shapes(dict(sorted(dims.items())), ones / max(total, 1), powers / max(total, 1), (at[0], at[1], at[2]))


def describe(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the statistics of a data set's rows, as JSON values.

    Keys: ``programs``, ``levels``, ``operators``, ``frequencies`` (least, most), ``edges`` (different producer-consumer-slot
    triples), ``p`` (chi-squared of all operator counts together), ``ones``, ``powers``, ``numel``, ``dims``.
    """
    counts: Counter[str] = Counter()
    levels: Counter[int] = Counter()
    edges: set[Edge] = set()
    graphs = []
    for r in rows:
        counts.update(r["ops"])
        levels[r["level"]] += 1
        graph = parse_graph(r["ir"])
        graphs.append(graph)
        for node in graph.nodes:
            for slot, name in enumerate(node.uses()):
                if name in graph.producers:
                    edges.add((graph.producers[name].op, node.op, slot))
    found = shapes(graphs)
    n = sum(counts.values())
    return {
        "programs": len(rows),
        "levels": {str(k): v for k, v in sorted(levels.items())},
        "operators": len(counts),
        "frequencies": [min(counts.values(), default=0), max(counts.values(), default=0)],
        "p": chi_squared_p(list(counts.values()), [n / max(1, len(counts))] * len(counts)) if counts else 1.0,
        "edges": len(edges),
        "ones": found.ones,
        "powers": found.powers,
        "numel": list(found.numel),
        "dims": {str(2**k): v for k, v in found.dims.items()},
    }
