"""Giving names to the sizes of a fragment, so that one launcher serves every shape that the operators allow.

Each axis of each input becomes a symbol, the graph is inferred again, and two symbols become one where an operator demands
it.  Where an operator ties a size to a number in its attributes, the size stays a number: a kernel is never more general
than the program it implements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ...ir import DrtError, Graph, Node, OpSet, Size, SizeLike, TensorType, Unsupported
from ...ir.build import operand_types
from ...ir.infer import infer
from ...ir.size import Symbol, substitute, symbols_of
from .kernel import Sizes

#: The operator whose rules tie sizes of several operands.
ATTENTION = "scaled_dot_product_attention"

_LETTERS = ("M", "N", "K", "P", "Q", "R", "S", "T", "U", "V", "W", "H", "L", "D", "E", "F", "G")


class _Restart(Exception):
    """Some symbols were unified or became numbers; inference starts again."""


def named_sizes(graph: Graph, ops: OpSet, last: int = 0) -> tuple[Graph, Sizes]:
    """Return ``graph`` with as many sizes as possible symbolic, and where the launcher finds the symbols.

    Sizes of 1 stay numbers, for they decide how operands broadcast.

    Args:
        graph: a fragment.
        ops: the operators.
        last: how many of the last axes of each input keep their numbers.
    """
    if not graph.is_static:
        return graph, dynamic_sizes(graph)
    return _Namer(graph, ops, last).run()


def numbered_axes(graph: Graph) -> tuple[tuple[str, int], ...]:
    """Return the axes (value, axis) of a named graph whose size is a number other than 1: those that are compiled in."""
    return tuple(
        (name, axis)
        for name, t in graph.types.items()
        for axis, n in enumerate(t.shape)
        if isinstance(n, int) and n != 1
    )


def fixed_sizes(graph: Graph) -> tuple[Graph, Sizes]:
    """Return the graph as it is, with its sizes compiled in."""
    return graph, (dynamic_sizes(graph) if not graph.is_static else Sizes())


def dynamic_sizes(graph: Graph) -> Sizes:
    """Return where the symbols of a dynamic graph are found.

    Raises:
        Unsupported: a symbol is no axis of any input by itself.
    """
    origin: dict[str, tuple[str, int]] = {}
    hints: dict[str, int] = {}
    wanted: dict[str, Symbol] = {}
    for t in graph.types.values():
        for n in t.shape:
            wanted.update({s.name: s for s in symbols_of(n)})
    for i in graph.inputs:
        for axis, n in enumerate(i.type.shape):
            for s in symbols_of(n):
                if n == Size((((s,), 1),)):
                    origin.setdefault(s.name, (i.name, axis))
    for name, s in wanted.items():
        if name not in origin:
            raise Unsupported(f"no input has an axis of size {name}")
        hints[name] = max(s.lo, min(s.hi, 1024))
    return Sizes(origin, hints, frozenset(origin))


class _Namer:
    def __init__(self, graph: Graph, ops: OpSet, last: int = 0) -> None:
        self.graph, self.ops = graph, ops
        self.origin: dict[str, tuple[str, int]] = {}
        self.hints: dict[str, int] = {}
        self.env: dict[str, SizeLike] = {}
        taken = set(graph.types)
        # The taps of a convolution are written out or compiled in.
        taps = {(o, a) for n in graph.nodes if "conv" in n.op for o in list(n.uses())[1:2] for a in range(2, 5)}
        letters = [c for c in _LETTERS if c not in taken]
        for i in graph.inputs:
            for axis, n in enumerate(i.type.shape):
                if isinstance(n, int) and n > 1 and (i.name, axis) not in taps:
                    name = letters.pop(0) if letters else f"D{len(self.origin)}"
                    self.origin[name] = (i.name, axis)
                    self.hints[name] = n

    def run(self) -> tuple[Graph, Sizes]:
        for _ in range(3 * len(self.origin) + 2):
            try:
                graph = self._infer()
            except _Restart:
                continue
            origin = {s: where for s, where in self.origin.items() if s not in self.env}
            return graph, Sizes(origin, {s: self.hints[s] for s in origin})
        raise Unsupported("sizes could not be named")

    def _symbol(self, name: str) -> SizeLike:
        seen = name
        while seen in self.env:
            value = self.env[seen]
            if isinstance(value, int):
                return value
            seen = str(value)
        return Size((((Symbol(seen, 1),), 1),))

    def _infer(self) -> Graph:
        places = {where: s for s, where in self.origin.items()}
        types: dict[str, TensorType] = {}
        inputs = []
        for i in self.graph.inputs:
            shape = tuple(
                self._symbol(places[i.name, a]) if (i.name, a) in places else n for a, n in enumerate(i.type.shape)
            )
            types[i.name] = TensorType(i.type.dtype, shape)
            inputs.append(attrs.evolve(i, type=types[i.name]))
        nodes = [self._node(node, types) for node in self.graph.nodes]
        return Graph(self.graph.name, tuple(inputs), tuple(nodes), self.graph.outputs, self.graph.updates, ())

    def _node(self, node: Node, types: dict[str, TensorType]) -> Node:
        if node.op == ATTENTION:
            self._tie_attention([types[o].shape for o in node.uses()])
        attributes = self._attributes(node, types)
        operands = operand_types(node.operands, types)
        try:
            inferred = infer(self.ops[node.op], operands, attributes)
        except (DrtError, KeyError, TypeError, ValueError, IndexError):
            self._fix(s for o in node.uses() for n in types[o].shape for s in symbols_of(n))
            raise _Restart from None
        for guard in inferred.guards:
            self._settle(guard, node, types)
        for name, got, static in zip(node.results, inferred.types, node.types, strict=True):
            # The hints must lead to the shapes of the fragment itself.
            if tuple(self._hint(n) for n in got.shape) != static.shape:
                self._fix(s for n in got.shape for s in symbols_of(n))
                raise _Restart
            types[name] = got
        return attrs.evolve(node, attrs=inferred.attributes, types=inferred.types)

    def _tie_attention(self, shapes: Sequence[tuple[SizeLike, ...]]) -> None:
        """Fix the widths of heads, whose root is the scale, and tie the sizes that queries, keys, values and mask share.

        The numbers of queries and of keys stay apart even where they are equal here.
        """
        q, k, v = shapes[:3]
        changed = False
        for n in (q[-1], k[-1], v[-1]):
            changed |= bool(symbols_of(n))
            self._fix(symbols_of(n))
        pairs = [(k[-2], v[-2]), *zip(reversed(q[:-2]), reversed(k[:-2])), *zip(reversed(q[:-2]), reversed(v[:-2]))]
        if len(shapes) > 3:
            pairs += zip(reversed((*q[:-1], k[-2])), reversed(shapes[3]))
        for a, b in pairs:
            x, y = _name(a), _name(b)
            if a == b or 1 in (a, b):
                continue
            if x and y and self.hints[x] == self.hints[y]:
                self._unify(x, y)
            else:
                self._fix(symbols_of(a) | symbols_of(b))
            changed = True
        if changed:
            raise _Restart

    def _hint(self, n: SizeLike) -> SizeLike:
        return substitute(n, dict(self.hints))

    def _settle(self, guard: str, node: Node, types: Mapping[str, TensorType]) -> None:
        """Unify or fix the symbols of an undecided rule, and start again."""
        # The names of the rule stand before "where", the sizes that they have after it, each behind "name =".
        rule, _, values = guard.partition(" where ")
        words = re.findall(r"[A-Za-z_]\w*(?! = )(?!\w)", values) if values else re.findall(r"[A-Za-z_]\w*", rule)
        names = [n for n in dict.fromkeys(words) if n in self.origin]
        if not names:
            return
        equation = re.fullmatch(r"(\w+) == (\w+)", guard)
        if equation and equation[1] in self.origin and equation[2] in self.origin:
            self._unify(equation[1], equation[2])
            raise _Restart
        if "broadcastable(" in guard or "agree(" in guard:
            if self._align([types[o].shape for o in node.uses()], "agree(" in guard):
                raise _Restart
        # Sizes that an undecided rule names, and that are equal here, are taken for one size.
        for n in names[1:] if "prod(" not in rule else ():
            same = next((m for m in names[: names.index(n)] if self.hints[m] == self.hints[n]), None)
            if same is not None and self._symbol(same) != self._symbol(n):
                self._unify(same, n)
                raise _Restart
        # One more number at a time, last axes first, until the rule is decided.
        self._fix((Symbol(max(names, key=lambda n: (self.origin[n][1], names.index(n)))),))
        raise _Restart

    def _align(self, shapes: Sequence[Sequence[SizeLike]], leading: bool) -> bool:
        """Unify sizes that stand at the same place; return whether anything changed."""
        changed = False
        first = max(shapes, key=len)
        for shape in shapes:
            for a, b in zip(reversed(tuple(first)), reversed(tuple(shape)), strict=False):
                x, y = _name(a), _name(b)
                if x and y and x != y and self.hints[x] == self.hints[y]:
                    self._unify(x, y)
                    changed = True
                elif (x or y) and self._hint(a) == self._hint(b) and isinstance(b if x else a, int):
                    self._fix((Symbol(x or y),))
                    changed = True
        return changed

    def _unify(self, a: str, b: str) -> None:
        if self.hints[a] != self.hints[b] or self._symbol(a) == self._symbol(b):
            self._fix((Symbol(a), Symbol(b)))
            return
        x, y = self._symbol(a), self._symbol(b)
        if isinstance(x, int) or isinstance(y, int):
            self._fix((Symbol(a), Symbol(b)))
            return
        self.env[str(y)] = x

    def _fix(self, symbols: Any) -> None:
        for s in list(symbols):
            root = self._symbol(s.name)
            if not isinstance(root, int):
                self.env[str(root)] = self.hints[str(root)]

    def _attributes(self, node: Node, types: Mapping[str, TensorType]) -> dict[str, Any]:
        """Return the attributes, with sizes that only repeat an operand's size made symbolic."""
        out = dict(node.attributes)
        used = list(node.uses())
        shape = types[used[0]].shape if used else ()
        if node.op == "reshape":
            out["shape"] = self._reshaped(shape, node.attributes["shape"])  # type: ignore[arg-type]
        elif node.op == "expand":
            target = list(node.attributes["shape"])  # type: ignore[arg-type]
            for k in range(1, len(shape) + 1):
                if self._hint(shape[-k]) == target[-k]:
                    target[-k] = shape[-k]
            out["shape"] = tuple(target)
        elif node.op == "slice":
            size = shape[int(node.attributes["axis"])]  # type: ignore[arg-type]
            if self._hint(size) == node.attributes["stop"]:
                out["stop"] = size
        elif node.op == "layer_norm" or "normalized" in node.attributes:
            n = len(node.attributes.get("normalized") or ())  # type: ignore[arg-type]
            if n:
                out["normalized"] = tuple(shape[len(shape) - n :])
        return out

    def _reshaped(self, shape: Sequence[SizeLike], target: Sequence[int]) -> tuple[SizeLike, ...]:
        """Return ``target`` with its sizes named: equal and merged axes follow the operand, split axes stay numbers."""
        out: list[SizeLike] = []
        i = k = 0
        while i < len(shape) or k < len(target):
            left, right = [i], [k]
            a = self._hint(shape[i]) if i < len(shape) else 1
            b = target[k] if k < len(target) else 1
            i, k = i + 1, k + 1
            while a != b:
                if a < b:  # type: ignore[operator]
                    left.append(i)
                    a = a * self._hint(shape[i])
                    i += 1
                else:
                    right.append(k)
                    b *= target[k]
                    k += 1
            sources = [shape[x] for x in left if x < len(shape)]
            wanted = [target[x] for x in right if x < len(target)]
            out += self._group(sources, wanted)
        return tuple(out)

    def _group(self, sources: Sequence[SizeLike], wanted: Sequence[int]) -> list[SizeLike]:
        product: SizeLike = 1
        for s in sources:
            product = product * s
        real = [w for w in wanted if w != 1]
        if len(real) == 1:
            return [product if w != 1 else 1 for w in wanted]
        if isinstance(product, Size) and len(product.terms) == 1:
            # A product of named sizes that is taken apart again: (B*T) -> (B, T), in the order of the wanted sizes.
            factors = [Size((((a,), 1),)) for a in product.terms[0][0]]
            rest: list[SizeLike] = []
            for w in real:
                match = next((f for f in factors if self._hint(f) == w), None)
                if match is None:
                    break
                factors.remove(match)
                rest.append(match)
            if len(rest) == len(real) and not factors and product.terms[0][1] == 1:
                named = iter(rest)
                return [next(named) if w != 1 else 1 for w in wanted]
        return list(wanted)


def _name(n: SizeLike) -> str:
    if isinstance(n, Size) and len(n.terms) == 1 and n.terms[0][1] == 1 and len(n.terms[0][0]) == 1:
        atom = n.terms[0][0][0]
        return atom.name if isinstance(atom, Symbol) else ""
    return ""
