"""Which sizes of a graph are independent: classes of dimensions, discovered by trying.

Every dimension of an input, and every size written in an attribute (``reshape``, ``expand``), is a class of its own until
inference says that two must agree.  The graph is inferred again at trial sizes, distinct primes; a violated rule names the
sizes that clash; they are merged, tied to a computed size, or made multiples of what an attribute asks for, and the trial
repeats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from ...ir import (
    OPAQUE,
    Graph,
    GraphBuilder,
    Node,
    Operand,
    OpSet,
    TensorType,
    Unsupported,
    VerifyError,
    builtin_ops,
)
from ...ir.expr import Pack
from ...ir.graph import AttrValue

_KEPT = 4  # sizes up to this are structure (channels of an image, a pair, a kernel), not extent
_PRIMES = [p for p in range(61, 2000) if all(p % q for q in range(2, int(p**0.5) + 1))]

Place = tuple[str, int]  # (value name, axis) of an input, or of a result whose attribute says the size


class _Clash(Exception):
    """Something was learnt; try again."""


@attrs.define
class _Sizes:
    """What is known about the classes: which places share one, and what each must be."""

    parent: dict[Place, Place] = attrs.field(factory=dict)
    original: dict[Place, int] = attrs.field(factory=dict)
    multiple: dict[Place, int] = attrs.field(factory=dict)
    tied: dict[Place, int] = attrs.field(factory=dict)  # a size that the rest of the graph computes
    pinned: set[Place] = attrs.field(factory=set)
    value: dict[Place, int] = attrs.field(factory=dict)
    keep: frozenset[Place] = frozenset()  # places that are pinned from the start

    def root(self, place: Place) -> Place:
        while self.parent.get(place, place) != place:
            place = self.parent[place]
        return place

    def add(self, place: Place, original: int) -> Place:
        if place not in self.parent:
            self.parent[place] = place
            self.original[place] = original
            if place in self.keep:
                self.pinned.add(place)
        return self.root(place)

    def union(self, a: Place, b: Place) -> bool:
        a, b = self.root(a), self.root(b)
        if a == b or self.original[a] != self.original[b]:
            return False
        self.parent[b] = a
        self.multiple[a] = math.lcm(self.multiple.get(a, 1), self.multiple.pop(b, 1))
        if b in self.tied:
            self.tied[a] = self.tied.pop(b)
        if b in self.pinned:
            self.pinned.add(a)
        return True

    def roots(self) -> list[Place]:
        return [p for p in self.parent if self.root(p) == p]

    def size(self, place: Place) -> int:
        place = self.root(place)
        original = self.original[place]
        if original <= 1 or place in self.pinned:
            return original
        if place in self.tied:
            return self.tied[place]
        if original <= _KEPT:
            return original
        return self.value[place]

    def is_free(self, place: Place) -> bool:
        place = self.root(place)
        return self.original[place] > _KEPT and place not in self.tied and place not in self.pinned

    def owner(self, size: int) -> list[Place]:
        """The free or tied classes that have this size now."""
        return [p for p in self.roots() if self.original[p] > _KEPT and self.size(p) == size]


class Shrinker:
    """Finds the classes of a static graph and builds instances of it.

    Args:
        graph: known operators only, no symbols.
        pinned: axes of values that keep their size.

    Raises:
        Unsupported: no way was found to build the graph at other sizes; the message says where it stuck.
    """

    def __init__(self, graph: Graph, ops: OpSet | None = None, pinned: Iterable[Place] = ()) -> None:
        self.graph = graph
        self.ops = builtin_ops() if ops is None else ops
        if any(n.op == OPAQUE for n in graph.nodes):
            raise Unsupported("a graph with opaque operators has one set of sizes only", subject="shrink")
        self.sizes = _Sizes(keep=frozenset(pinned))
        for i in graph.inputs:
            for axis, s in enumerate(i.type.shape):
                self.sizes.add((i.name, axis), int(s))  # type: ignore
        self._products: dict[int, tuple[int, ...]] = {}
        self._discover()

    # -- trials -------------------------------------------------------------------------------------------------------
    def _discover(self) -> None:
        """Find which classes must agree, at trial sizes that are distinct primes."""
        for _ in range(400):
            self._assign_primes()
            try:
                self._build()
                return
            except _Clash:
                continue
        raise Unsupported("the sizes depend on each other in too many ways", subject="shrink")

    def _assign_primes(self) -> None:
        free = [p for p in self.sizes.roots() if self.sizes.is_free(p)]
        for place, prime in zip(free, _PRIMES, strict=False):
            self.sizes.value[place] = prime * self.sizes.multiple.get(place, 1)
        if len(free) > len(_PRIMES):
            raise Unsupported(f"{len(free)} independent sizes, at most {len(_PRIMES)} are handled", subject="shrink")

    def _build(self) -> Graph:
        """Return the graph at the current sizes; raises _Clash after learning from a violated rule."""
        self._products.clear()
        builder = GraphBuilder(self.graph.name, self.ops)
        for i in self.graph.inputs:
            shape = tuple(self.sizes.size((i.name, a)) for a in range(i.type.rank))
            builder.input(i.name, TensorType(i.type.dtype, shape), i.kind, i.target)
        for node in self.graph.nodes:
            self._node(builder, node)
        return builder.build(self.graph.outputs, self.graph.updates)

    def _node(self, builder: GraphBuilder, node: Node) -> None:
        error: VerifyError | Unsupported | None = None
        for attributes in self._attribute_choices(node, builder.types):
            try:
                builder.add(node.op, *node.operands, result=node.results, location=node.location, **attributes)
            except (VerifyError, Unsupported) as found:
                error = error or found
                continue
            types = builder.nodes[-1].types
            same_pattern = all(
                len(t.shape) == len(old.shape)
                and all((s == 0) == (o == 0) and (o == 1) <= (s == 1) for s, o in zip(t.shape, old.shape, strict=True))
                for t, old in zip(types, node.types, strict=True)
            )
            if same_pattern:
                self._check_kept(node, types)
                return
            builder.nodes.pop()
            for r in node.results:
                builder.types.pop(r, None)
            error = error or VerifyError(f"result {types[0]} for {node.types[0]}", subject=node.op)
        assert error is not None
        self._learn(node, builder.types, error)

    def _check_kept(self, node: Node, types: Sequence[TensorType]) -> None:
        """Pin the classes that a computed size depends on where that size must stay; raises _Clash after learning."""
        for name, t, old in zip(node.results, types, node.types, strict=True):
            for axis, (size, original) in enumerate(zip(t.shape, old.shape, strict=True)):
                if size == original or (name, axis) not in self.sizes.keep:
                    continue
                free = [p for p in self.sizes.roots() if self.sizes.is_free(p)]
                behind = [p for p in free if int(size) % self.sizes.size(p) == 0]  # type: ignore
                if behind:
                    self.sizes.pinned.update(behind)
                    raise _Clash

    # -- attributes ---------------------------------------------------------------------------------------------------
    def _attribute_choices(self, node: Node, types: Mapping[str, TensorType]) -> Iterator[dict[str, AttrValue]]:
        """Yield attributes of a node to try, the most faithful first."""
        plain = dict(node.attributes)
        old, new = self._shapes(node.operands, self.graph.types), self._shapes(node.operands, types)
        if node.op == "reshape":
            yield {**plain, "shape": self._reshaped(node, old[0], new[0])}
            return
        if node.op == "expand":
            yield {**plain, "shape": self._expanded(node, old[0], new[0])}
            return
        if node.op in ("slice", "narrow"):
            yield self._sliced(node, old[0], new[0])
            return
        mapped = self._mapped(node, old, new)
        op = self.ops.get(node.op)
        sized = {p.name for r in (op.results if op else ()) for p in r.shape if isinstance(p, Pack)}
        if any(a.name in sized for a in (op.attributes if op else ())):
            yield mapped
            yield plain
        else:
            yield plain
            if mapped != plain:
                yield mapped

    def _mapped(self, node: Node, old: list[Any], new: list[Any]) -> dict[str, AttrValue]:
        """Replace integers that equal a size of an operand, or else of an input, by the new size."""
        table = {
            self.sizes.original[p]: self.sizes.size(p) for p in self.sizes.roots() if self.sizes.original[p] > _KEPT
        }
        for before, after in zip(old, new, strict=True):
            table.update({b: a for b, a in zip(before, after, strict=True) if b > _KEPT})
        kinds = {a.name: a.kind for a in self.ops[node.op].attributes} if node.op in self.ops else {}
        out: dict[str, AttrValue] = {}
        for name, value in node.attrs:
            kind = kinds.get(name, "")
            if kind in ("int", "number") and isinstance(value, int) and not isinstance(value, bool):
                out[name] = table.get(value, value)
            elif kind == "ints" and isinstance(value, tuple):
                out[name] = tuple(table.get(v, v) if isinstance(v, int) else v for v in value)
            else:
                out[name] = value
        return out

    @staticmethod
    def _shapes(operands: Sequence[Operand], types: Mapping[str, TensorType]) -> list[tuple[int, ...]]:
        flat: list[tuple[int, ...]] = []
        for o in operands:
            if isinstance(o, str):
                flat.append(tuple(int(s) for s in types[o].shape))  # type: ignore
            elif isinstance(o, tuple):
                flat.extend(Shrinker._shapes(o, types))
        return flat

    def _attribute_size(self, node: Node, axis: int, original: int) -> int:
        if original <= 1:
            return original
        place = self.sizes.add((node.results[0], axis), original)
        if self.sizes.is_free(place) and place not in self.sizes.value:
            raise _Clash
        return self.sizes.size(place)

    def _reshaped(self, node: Node, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
        target = tuple(int(s) for s in node.types[0].shape)  # type: ignore
        out = [1] * len(target)
        for ins, outs in _groups(old, target):
            extent = math.prod(new[i] for i in ins)
            solid_in = [i for i in ins if old[i] != 1]
            solid_out = [o for o in outs if target[o] != 1]
            if len(solid_out) == 1:
                out[solid_out[0]] = extent
                if len(solid_in) > 1:
                    self._products[extent] = tuple(new[i] for i in solid_in)
            elif [old[i] for i in solid_in] == [target[o] for o in solid_out]:
                for i, o in zip(solid_in, solid_out, strict=True):
                    out[o] = new[i]
            elif len(solid_in) == 1:
                self._split(node, new[solid_in[0]], old[solid_in[0]], [(o, target[o]) for o in solid_out], out)
            elif solid_out:  # many to many: these sizes stay what they are
                for i in solid_in:
                    if new[i] != old[i]:
                        self._pin(new[i], old[i], node)
                for o in solid_out:
                    out[o] = target[o]
        return tuple(out)

    def _split(self, node: Node, size: int, original: int, parts: list[tuple[int, int]], out: list[int]) -> None:
        """Give sizes to the parts of one axis that ``reshape`` splits."""
        factors = list(self._products.get(size, ()))
        sizes = [self._attribute_size(node, axis, t) for axis, t in parts]
        if math.prod(sizes) == size:
            for (axis, _), s in zip(parts, sizes, strict=True):
                out[axis] = s
            return
        if len(factors) == len(parts):  # split as it was merged: each part is the factor that stood there
            for (axis, _), factor, s in zip(parts, factors, sizes, strict=True):
                self._equate((node.results[0], axis), s, factor)
            raise _Clash
        owners = [p for p in self.sizes.owner(size) if self.sizes.original[p] == original]
        if owners:
            self.sizes.tied[owners[0]] = math.prod(sizes)
            raise _Clash
        rest = math.prod(sizes[1:])  # a computed size: the first part takes what is left
        if size % rest == 0 and (node.results[0], parts[0][0]) in self.sizes.parent:
            self.sizes.tied[self.sizes.root((node.results[0], parts[0][0]))] = size // rest
            raise _Clash
        raise Unsupported(f"reshape of {size} into {len(parts)} axes", subject="shrink")

    def _equate(self, place: Place, size: int, wanted: int) -> None:
        if size == wanted:
            return
        place = self.sizes.root(place)
        for other in self.sizes.owner(wanted):
            if other != place and self.sizes.union(other, place):
                return
        self.sizes.tied[place] = wanted

    def _pin(self, size: int, original: int, node: Node) -> None:
        owners = [p for p in self.sizes.owner(size) if self.sizes.original[p] == original]
        parts = [p for f in self._products.get(size, ()) for p in self.sizes.owner(f)]
        if not owners and not parts:
            raise Unsupported(f"{node.op} needs size {original}, which the graph computes", subject="shrink")
        self.sizes.pinned.update(owners or parts)
        raise _Clash

    def _expanded(self, node: Node, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
        target = tuple(int(s) for s in node.types[0].shape)  # type: ignore
        skip = len(target) - len(old)
        out = []
        for axis, t in enumerate(target):
            same = axis >= skip and old[axis - skip] == t
            out.append(new[axis - skip] if same else self._attribute_size(node, axis, t))
        return tuple(out)

    def _sliced(self, node: Node, old: tuple[int, ...], new: tuple[int, ...]) -> dict[str, AttrValue]:
        """Scale the ends of a slice with its axis where they are a simple fraction of it, or keep their distance to an end."""
        attributes = dict(node.attributes)
        axis = int(attributes["axis"])  # type: ignore
        n, m = old[axis], new[axis]
        if n == m:
            return attributes
        start = int(attributes["start"])  # type: ignore
        stop = start + int(attributes["length"]) if node.op == "narrow" else int(attributes["stop"])  # type: ignore
        parts = [n // math.gcd(n, e) for e in (start, stop) if 0 < e < n]
        q = math.lcm(*parts) if parts else 1
        if q <= 16:
            if m % q:
                self._need_multiple(m, n, q, node)
            start, stop = start * m // n, stop * m // n
        elif start < m - (n - stop):
            stop = m - (n - stop)
        else:
            self._pin(m, n, node)
        if node.op == "narrow":
            return {**attributes, "start": start, "length": stop - start}
        return {**attributes, "start": start, "stop": stop}

    def _need_multiple(self, size: int, original: int, q: int, node: Node) -> None:
        for p in self.sizes.owner(size):
            if self.sizes.original[p] == original and self.sizes.is_free(p):
                self.sizes.multiple[p] = math.lcm(self.sizes.multiple.get(p, 1), q)
                raise _Clash
        for f in self._products.get(size, ()):
            for p in self.sizes.owner(f):
                if self.sizes.is_free(p) and self.sizes.original[p] % q == 0:
                    self.sizes.multiple[p] = math.lcm(self.sizes.multiple.get(p, 1), q)
                    raise _Clash
        raise Unsupported(f"{node.op} needs a multiple of {q}", subject="shrink")

    # -- learning from errors -----------------------------------------------------------------------------------------
    def _learn(self, node: Node, types: Mapping[str, TensorType], error: VerifyError | Unsupported) -> None:
        """Change the classes so that the next trial gets further; raises _Clash, or Unsupported where nothing helps."""
        if "does not hold" in error.message and not any(w in error.message for w in ("==", "%", "broadcast", " in ")):
            raise Unsupported(
                f"{node.op} at other sizes: {error.message}", subject="shrink"
            )  # a bound: sizes must grow
        old, new = self._shapes(node.operands, self.graph.types), self._shapes(node.operands, types)
        pairs = [(o, n) for before, after in zip(old, new, strict=True) for o, n in zip(before, after, strict=True)]
        by_size: dict[int, int] = {n: o for o, n in pairs}
        named = [int(x) for x in re.findall(r"\d+", error.message)]
        clashing = [n for n in dict.fromkeys(named) if n in by_size]
        for i, a in enumerate(clashing):
            for b in clashing[i + 1 :]:
                if by_size[a] == by_size[b] and self._join(a, b):
                    raise _Clash
        # The message names whole shapes: compare the operands axis by axis, from the last.
        for x in range(len(old)):
            for y in range(x + 1, len(old)):
                for k in range(1, min(len(old[x]), len(old[y])) + 1):
                    if old[x][-k] == old[y][-k] and new[x][-k] != new[y][-k] and self._join(new[x][-k], new[y][-k]):
                        raise _Clash
        # An attribute asks for a divisor: groups, heads, a factor.
        numbers = [v for _, v in node.attrs if isinstance(v, int) and not isinstance(v, bool) and v > 1]
        numbers += [v for _, vs in node.attrs if isinstance(vs, tuple) for v in vs if isinstance(v, int) and v > 1]
        for q in numbers if "%" in error.message else ():
            for o, n in pairs:
                if o % q == 0 and n % q and (n in named or not clashing):
                    for p in self.sizes.owner(n):
                        if self.sizes.original[p] == o and self.sizes.is_free(p):
                            self.sizes.multiple[p] = math.lcm(self.sizes.multiple.get(p, 1), q)
                            raise _Clash
        for x in range(len(old)):
            for y in range(x + 1, len(old)):
                for o, n in zip(old[x], new[x], strict=True):
                    for other, m in zip(old[y], new[y], strict=True):
                        if o == other and n != m and self._join(n, m):
                            raise _Clash
        raise Unsupported(f"{node.op} at other sizes: {error.message}", subject="shrink")

    def _join(self, a: int, b: int) -> bool:
        """Make the classes of two sizes agree: merge them, or tie one to the other where that is computed."""
        first, second = self.sizes.owner(a), self.sizes.owner(b)
        for p in first:
            for q in second:
                if self.sizes.union(p, q):
                    return True
        for owners, wanted in ((first, b), (second, a)):
            for p in owners:
                if self.sizes.tied.get(self.sizes.root(p)) != wanted:
                    self.sizes.tied[self.sizes.root(p)] = wanted
                    return True
        return False

    # -- instances ----------------------------------------------------------------------------------------------------
    def free(self) -> list[tuple[Place, int]]:
        """Return the independent classes with their original sizes, largest first."""
        places = [p for p in self.sizes.roots() if self.sizes.is_free(p)]
        return sorted(((p, self.sizes.original[p]) for p in places), key=lambda item: (-item[1], str(item[0])))

    def build(self, wanted: Mapping[Place, int]) -> Graph | None:
        """Return the graph with these sizes of free classes, raised where rules ask for more; None where none was found."""
        wanted = dict(wanted)
        for _ in range(24):
            for place, size in wanted.items():
                q = self.sizes.multiple.get(place, 1)
                self.sizes.value[place] = max(1, round(size / q)) * q
            try:
                return self._build()
            except _Clash:
                # A tied size moved along, or more was learnt about the classes.
                wanted = {self.sizes.root(p): s for p, s in wanted.items() if self.sizes.is_free(p)}
                for p in self.sizes.roots():
                    if self.sizes.is_free(p) and p not in wanted:
                        wanted[p] = min(self.sizes.original[p], 6)
            except Unsupported:
                grown = {p: min(2 * s + 1, self.sizes.original[p]) for p, s in wanted.items()}
                if grown == wanted:
                    return None
                wanted = grown
        return None


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of axes of ``old`` and ``new`` with equal products, in order."""
    i = j = 0
    while i < len(old) or j < len(new):
        ins, outs, a, b = [], [], 1, 1
        if i < len(old):
            ins.append(i)
            a *= old[i]
            i += 1
        if j < len(new):
            outs.append(j)
            b *= new[j]
            j += 1
        while a != b:
            if a < b and i < len(old):
                ins.append(i)
                a *= old[i]
                i += 1
            elif j < len(new):
                outs.append(j)
                b *= new[j]
                j += 1
            else:
                break
        while i < len(old) and old[i] == 1 and j >= len(new):
            ins.append(i)
            i += 1
        yield ins, outs
