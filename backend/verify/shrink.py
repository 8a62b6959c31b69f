"""Small, odd instances of a graph: the same program at sizes that take milliseconds to interpret.

Independent dimensions get distinct sizes, so that a transposed stride shows even where the original is square; see
:mod:`.classes` for what is independent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from ...ir import Graph, OpSet, Symbol, Unsatisfiable, Unsupported, VerifyError, builtin_ops, checked
from ...ir.binding import at_sizes, choose_sizes, symbols_of_types
from ...ir.size import Size
from .classes import Place, Shrinker

#: A graph with at most this many elements in every value may be judged at its real sizes where it cannot be shrunk.
SMALL_ELEMENTS = 65536

#: Elements of a value, and multiplications, above which interpreting even one run takes too long.
LARGE_ELEMENTS, LARGE_WORK = 2_000_000, 60_000_000


@attrs.frozen
class Instance:
    """One small instance: a name for messages (``odd``, ``tiny``, ``tiles``, ``long``, ``real``) and the graph."""

    name: str
    graph: Graph

    @property
    def sizes(self) -> str:
        """The input types as text."""
        return ", ".join(f"{i.name}: {i.type}" for i in self.graph.inputs)


def bind(graph: Graph, sizes: Mapping[str, int] | None = None, ops: OpSet | None = None) -> Graph:
    """Return the graph with every symbol replaced: by sizes near ``sizes``, or small ones, that satisfy its ranges and guards.

    Raises:
        Unsupported: no sizes were found.
    """
    if graph.is_static:
        return graph
    wished = {s.name: 32 + 5 * k for k, s in enumerate(sorted(_symbols(graph), key=lambda s: s.name))}
    try:
        chosen = choose_sizes(graph, {**wished, **(sizes or {})})
    except Unsatisfiable as error:
        raise Unsupported(error.message, subject="shrink") from None
    return at_sizes(graph, chosen, ops)


def _symbols(graph: Graph) -> tuple[Symbol, ...]:
    return graph.symbols or symbols_of_types(graph.types.values())


def largest(graph: Graph) -> int:
    """Return the number of elements of the largest value."""
    return max((int(t.numel) for t in graph.types.values()), default=0)  # type: ignore


def _rows(graph: Graph) -> int:
    """Return the largest number of rows (last axes) of a value."""
    return max(int(t.numel) // max(1, int(t.shape[-1])) for t in graph.types.values() if t.shape)  # type: ignore


def work(graph: Graph) -> int:
    """Return a rough count of the multiplications of a graph: products of contractions, elements of the rest."""
    total = 0
    for node in graph.nodes:
        out = sum(int(t.numel) for t in node.types)  # type: ignore
        shapes = [graph.types[u].shape for u in node.uses()]
        if ("matmul" in node.op or node.op in ("linear", "addmm", "baddbmm", "mv", "vm", "dot")) and shapes:
            out *= int(shapes[-1 if node.op == "vm" else 0][-1] if shapes[0] else 1)  # type: ignore
        elif "conv" in node.op and len(shapes) > 1:
            out *= math.prod(int(s) for s in shapes[1][1:])  # type: ignore
        elif node.op == "scaled_dot_product_attention":
            out *= 2 * int(shapes[1][-2])  # type: ignore
        total += max(out, *(math.prod(int(d) for d in s) for s in shapes), 1)  # type: ignore
    return total


def _symbolic_instances(graph: Graph, ops: OpSet, constants: Sequence[int], pinned: Iterable[Place]) -> list[Instance]:
    """Return instances of a program with symbols: odd, lowest and several tiles for these, what is static shrunk beside."""
    symbols = sorted(_symbols(graph), key=lambda s: s.name)
    wishes = {
        "odd": {s.name: _ODD[k % len(_ODD)] for k, s in enumerate(symbols)},
        "lowest": {s.name: max(s.lo, 1) for s in symbols},
        "tiles": {s.name: _WIDE[k] if k < len(_WIDE) else _ODD[k % len(_ODD)] for k, s in enumerate(symbols)},
    }
    kept = [(i.name, axis) for i in graph.inputs for axis, n in enumerate(i.type.shape) if isinstance(n, Size)]
    found: list[Instance] = []
    reason: Unsupported | None = None
    for name, wished in wishes.items():
        try:
            static = bind(graph, wished, ops)
            if name != "odd" and found and (largest(static) > 20 * SMALL_ELEMENTS):
                continue
            own = instances(static, ops, constants, None, [*pinned, *kept])
        except Unsupported as error:
            reason = error
            continue
        new = [i for i in (own if name == "odd" else own[:1]) if all(i.graph.inputs != f.graph.inputs for f in found)]
        found += [Instance(name if k == 0 else f"{name}, {i.name}", i.graph) for k, i in enumerate(new)]
    if not found:
        raise reason or Unsupported("cannot be judged at small sizes", subject="shrink")
    return found


def aligned_instances(graph: Graph, ops: OpSet | None = None, pinned: Iterable[Place] = ()) -> list[Instance]:
    """Return instances that a launcher takes for the real one.

    First last axes as divisible as the real ones, with several tiles along each axis; then all axes so; then the real sizes.
    Instances that take too long to interpret are left out.
    """
    ops = builtin_ops() if ops is None else ops
    static = bind(graph, None, ops)
    found: list[Instance] = []

    def add(name: str, built: Graph | None) -> bool:
        fits = built is not None and largest(built) <= SMALL_ELEMENTS and work(built) <= 8_000_000
        if built is not None and fits and all(built.inputs != f.graph.inputs for f in found):
            found.append(Instance(name, built))
        return fits

    try:
        shrinker = Shrinker(static, ops, pinned)
        free, root = shrinker.free(), shrinker.sizes.root
        places = [(i.name, i.type.rank - 1) for i in static.inputs if i.type.rank]
        results = [name for name in static.outputs if isinstance(name, str)]
        places += [(name, static.types[name].rank - 1) for name in results if static.types[name].rank]
        last = {root(p) for p in places}
        sizes = {p: _like(v, 16) if p in last else min(v, 2 + k % 2) for k, (p, v) in enumerate(free)}
        for p, v in free[::-1]:
            for size in (272, 144, 80, 48, 32):
                wider = {**sizes, p: min(v, size if p in last or v <= size else size - 15)}
                trial = shrinker.build(wider) if wider[p] == v or wider[p] not in sizes.values() else None
                if trial is not None and largest(trial) <= SMALL_ELEMENTS and work(trial) <= 8_000_000:
                    sizes = wider
                    break
        add("aligned tiles", shrinker.build(sizes))
        any(add("aligned", shrinker.build({p: _like(v, most) for p, v in free})) for most in (128, 64, 32))
    except (Unsupported, VerifyError):
        pass
    add("real", static)
    return found


def _like(size: int, most: int) -> int:
    """Return a size up to ``most`` that the same powers of two divide."""
    power = min(size & -size, most)
    return min(size, power * max(1, most // power // (1 if power >= 16 else 4)))


_ODD = (13, 7, 5, 11, 3, 17, 9, 19)

#: Elements of the largest value in the first instance, unless pinned sizes make it larger.
_ODD_ELEMENTS = 24_000

#: One more than a multiple of every usual tile: the remainder that shows a loop or mask that stops one early.
_WIDE = (129, 65, 33)


def deep_instance(graph: Graph, ops: OpSet | None = None, pinned: Iterable[Place] = ()) -> Instance | None:
    """Return the graph with long last axes and tiny others: few rows, each of which takes several steps of a loop.

    Args:
        graph, ops, pinned: as for :func:`instances`.
    """
    ops = builtin_ops() if ops is None else ops
    try:
        static = bind(graph, None, ops)
        shrinker = Shrinker(static, ops, pinned)
    except (Unsupported, VerifyError):
        return None
    last = {shrinker.sizes.root((i.name, i.type.rank - 1)) for i in static.inputs if i.type.rank > 1}
    free = shrinker.free()
    built = shrinker.build({p: min(v, _WIDE[0] if p in last else 2 + k % 2) for k, (p, v) in enumerate(free)})
    return None if built is None or largest(built) > _ODD_ELEMENTS else Instance("deep", built)


@checked
def instances(
    graph: Graph,
    ops: OpSet | None = None,
    constants: Sequence[int] = (),
    shapes: Sequence[Mapping[str, Any]] | None = None,
    pinned: Iterable[Place] = (),
) -> list[Instance]:
    """Return small instances of ``graph``.

    ``odd`` has small distinct sizes; ``tiles`` several tiles along each axis, the first axes the longest; ``turned`` the last
    axes the longest, so that of two sizes each is once the larger; ``flat`` one element more than a multiple of a tile in all;
    ``tiny`` two or three of everything; ``long`` one axis of several large tiles; ``far`` an axis whose indices need more than
    eight bits, where indices are results.

    Args:
        graph: the program; symbols are bound to small sizes first.
        constants: compile-time integers of the kernels' launches; sizes above them make loops and masks work.
        shapes: instances to use instead: each maps a symbol to its size.
        pinned: axes of values that keep their size.

    Raises:
        Unsupported: it cannot be shrunk and is too large as it is.
    """
    ops = builtin_ops() if ops is None else ops
    if shapes:
        return [Instance(f"given {k}", bind(graph, given, ops)) for k, given in enumerate(shapes)]
    if not graph.is_static:
        return _symbolic_instances(graph, ops, constants, pinned)
    static = graph
    small = largest(static) <= SMALL_ELEMENTS and work(static) <= 4_000_000
    try:
        shrinker = Shrinker(static, ops, pinned)
    except (Unsupported, VerifyError) as error:
        if small:
            return [Instance("real", static)]
        raise Unsupported(f"cannot be judged at small sizes: {error.message}", subject="shrink") from None
    free = shrinker.free()
    found: list[Instance] = []

    def add(name: str, wanted: Mapping[Place, int], cap: int = 60_000) -> None:
        built = shrinker.build(wanted)
        if built is None or (largest(built) > cap and largest(built) > largest(found[0].graph) if found else False):
            return
        if built is not None and all(built.inputs != f.graph.inputs for f in found):
            found.append(Instance(name, built))

    # Where other sizes are pinned, the free ones get smaller until a run takes milliseconds.
    odd: dict[Place, int] = {}
    smallest = math.inf
    for cycle in (_ODD, (5, 3, 7, 2), (3, 2)):
        wanted = {p: min(v, cycle[k % len(cycle)]) for k, (p, v) in enumerate(free)}
        trial = shrinker.build(wanted)
        if trial is not None and largest(trial) < smallest:
            odd, smallest = wanted, largest(trial)
        if smallest <= _ODD_ELEMENTS:
            break
    add("odd", odd)
    if found and (largest(found[0].graph) > LARGE_ELEMENTS or work(found[0].graph) > LARGE_WORK):
        raise Unsupported("cannot be judged at small sizes: too many sizes are compiled in", subject="shrink")
    if not found:
        if small:
            return [Instance("real", static)]
        raise Unsupported("cannot be judged at small sizes: no small sizes satisfy its rules", subject="shrink")
    add("tiny", {p: min(v, 2 + k % 2) for k, (p, v) in enumerate(free)})
    # Without products a program takes few rows, and the interpreter takes milliseconds for each program.
    contracts = work(static) > 4 * largest(static)
    max_rows = 10_000 if contracts else 40

    def widened(
        base: Mapping[Place, int], order: Sequence[tuple[Place, int]], max_rows: int = max_rows
    ) -> dict[Place, int]:
        sizes = dict(base)
        for k, (p, v) in enumerate(order):
            for size in _WIDE[k % len(_WIDE) :] + _WIDE[: k % len(_WIDE)]:
                trial = shrinker.build({**sizes, p: min(v, size)})
                if trial is None or largest(trial) > 24_000 or work(trial) > 4_000_000 or _rows(trial) > max_rows:
                    continue
                sizes[p] = min(v, size)
                break
        return sizes

    few = {p: min(v, 2 + k % 2) for k, (p, v) in enumerate(free)}
    wide = widened(odd, free)
    add("tiles", wide if wide != odd else widened(few, free))
    add(
        "turned",
        widened(few, free[::-1], max(max_rows, 80) if any(i.type.rank > 2 for i in static.inputs) else max_rows),
    )
    if any(t.dtype in ("i64", "i32") for n in static.nodes for t in n.types) and not contracts:
        for p, v in free[-2:]:
            add("far", {**few, p: min(v, 700)})
    tiles = [c for c in constants if 32 <= c <= 4096 and c & (c - 1) == 0]
    last = {shrinker.sizes.root((i.name, i.type.rank - 1)) for i in static.inputs if i.type.rank > 1}
    for p, v in free:
        if p not in last and len(free) > 1:
            continue
        fitting = [c for c in tiles if c < v]
        if fitting and wide.get(p, 0) <= max(fitting):
            long = {q: min(u, 2 + j % 2) for j, (q, u) in enumerate(free)}
            long[p] = min(v, 2 * max(fitting) + 3)
            add("long", long)
            break
    if tiles and free and not contracts:
        add("flat", _flat_sizes(shrinker, free, last, max(tiles)))
    return found


def _flat_sizes(
    shrinker: Shrinker, free: Sequence[tuple[Place, int]], last: Collection[Place], tile: int
) -> dict[Place, int]:
    """Return sizes with which the largest input has one element more than a multiple of ``tile``, or of as much as fits.

    Args:
        last: the classes of last axes; one of them takes what the others leave.
    """
    chosen, most = next(((p, v) for p, v in free if p in last), free[0])
    others = [(p, v) for p, v in free if p != chosen]
    best = {p: min(v, 3) for p, v in free}
    while tile >= 32:
        for first in range(3, 65, 2):
            sizes = {p: min(v, first if k == 0 else 3) for k, (p, v) in enumerate(others)}
            trial = shrinker.build({**sizes, chosen: min(most, 7)})
            if trial is None:
                continue
            largest = max(math.prod(int(str(x)) for x in i.type.shape) for i in trial.inputs)
            rest = largest // min(most, 7)
            if rest % 2 == 0:
                continue
            size = pow(rest, -1, tile)
            size += tile if size * rest < tile else 0
            if size <= most and size * rest <= _ODD_ELEMENTS:
                return {**sizes, chosen: size}
        tile //= 2
    return best
