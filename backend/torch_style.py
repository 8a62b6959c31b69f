"""The lines of a forward pass as a person would write them.

A value that is used once stands in the call that uses it, while lines stay short and flat.  A name that a program gives to
a value is kept; names that say no more than the operator (``linear_3``) are chosen anew, and free again after their last use.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch

from ..ir import OPAQUE, Graph, Node, Operand, OpSet
from .opaque import draws, flat
from .torch_phrases import ATOM, Inlined, Phrase

#: Columns of a line, its indentation included.
WIDTH = 100
#: Characters of a value that stands inside a call, and of a call with such values.
MAX_INLINED, MAX_CALL = 48, 72
#: Calls inside one another.
MAX_DEPTH = 2

_WORD = re.compile(r"[A-Za-z_]\w*")
_NUMBERED = re.compile(r"(\w+?)(?:_\d+)*")
_NOTHING = re.compile(r"v\d+(_\d+)?")
_CAST = re.compile(r"\w+_(?:f64|f32|f16|bf16|i64|i32|i8|u8|bool)")


def is_automatic(name: str, ops: OpSet) -> bool:
    """Return whether a value's name says no more than which operator made it (``add_3``, ``x_f32``, ``v7``)."""
    base = _stem(name)
    is_operator = len(base) > 2 and (base in ops or hasattr(torch.ops.aten, base))
    return is_operator or _CAST.fullmatch(name) is not None or _NOTHING.fullmatch(name) is not None


def _stem(name: str) -> str:
    match = _NUMBERED.fullmatch(name)
    return match.group(1) if match else name


class Pen:
    """Writes the nodes of a graph.

    Args:
        graph: the program.
        ops: the operators.
        names: Python text of every input.
        taken: names that no value may have.
        parameters: inputs whose names may be given to what is made of them; not the targets of updates.
        express: text of a node's call, given names of values.
    """

    def __init__(
        self, graph: Graph, ops: OpSet, names: Mapping[str, str], taken: Collection[str], parameters: Iterable[str],
        express: Callable[[Node, Mapping[str, str]], Phrase],
    ) -> None:  # fmt: skip
        self.graph, self.ops, self.express = graph, ops, express
        self.names: dict[str, str] = dict(names)
        self.taken = set(taken) | set(names.values()) | set(keyword.kwlist) | set(dir(builtins))
        self.lines: list[str] = []
        reads = [
            *(v for n in graph.nodes for v in n.uses()),
            *_values(graph.outputs),
            *(u.value for u in graph.updates),
        ]
        self.left = Counter(reads)  # uses that are still to be written
        self.holds: dict[str, str] = {}  # variable -> the value that it holds
        for p in parameters:
            self.holds[self.names[p]] = p
            self.taken.discard(self.names[p])
        self.reusable = frozenset(self.holds)
        self.waiting: dict[str, Inlined] = {}  # values that have not been written yet
        self.single = {v for v, n in self.left.items() if n == 1}

    def write(self, node: Node) -> None:
        """Write one node, or keep it for the call that uses it."""
        text, level = self._spelled(node)
        for v in node.uses():
            self.left[v] -= 1
        depth = self._depth(node, text)
        if self._may_wait(node) and len(text) <= MAX_INLINED and depth <= MAX_DEPTH:
            self._drop(node)
            phrase = Inlined(text)
            phrase.level, phrase.depth = level, depth
            self.waiting[node.results[0]] = self.names[node.results[0]] = phrase
            return
        self._drop(node)
        left = ", ".join(self._name(r, node, text) for r in node.results)
        self.lines.append(f"{left} = {text}")

    def finish(
        self, result: Callable[[Mapping[str, str]], str], updates: Callable[[Mapping[str, str]], Sequence[str]]
    ) -> list[str]:
        """Write updates and the return, and return all lines.

        Args:
            result: the text behind ``return``, given names of values.
            updates: the lines of updates, given names of values, which are known when nothing waits any more.
        """
        outputs = list(_values(self.graph.outputs))
        waits = [v for v in outputs if v in self.waiting]
        if self.graph.updates or len(f"return {result(self.names)}") > MAX_CALL + 8 or len(set(outputs)) < len(outputs):
            self._settle([*self.waiting])
        elif len(outputs) > 1:
            self._settle([v for v in waits if self.waiting[v].depth > 1])
        self.lines += updates(self.names)
        self.lines.append(f"return {result(self.names)}")
        return self.lines

    # -- one node -----------------------------------------------------------------------------------------------------

    def _spelled(self, node: Node) -> Phrase:
        """Return the call; what waits for it is written before it where it does not fit in."""
        while True:
            inside = [v for v in dict.fromkeys(node.uses()) if v in self.waiting]
            text, level = self.express(node, self.names)
            if not inside:
                return text, level
            twice = [v for v in inside if text.count(self.waiting[v]) != 1 or _is_asked(self.waiting[v], text)]
            if twice:
                self._settle(twice)
            elif node.op == OPAQUE or draws(node, self.ops) or len(node.results) > 1:
                self._settle(inside)
            elif len(text) > MAX_CALL or self._depth(node, text) > MAX_DEPTH + 1:
                self._settle([max(inside, key=lambda v: (self.waiting[v].depth, len(self.waiting[v])))])
            else:
                return text, level

    def _depth(self, node: Node, text: str) -> int:
        inner = [self.waiting[v].depth for v in node.uses() if v in self.waiting]
        # An infix operator or a subscript nests no deeper for the eye than its operands.
        return max(inner, default=0) + (1 if text.endswith(")") and not text.startswith("(") else 0)

    def _may_wait(self, node: Node) -> bool:
        (value, *more) = node.results
        if more or value not in self.single or node.op == OPAQUE or draws(node, self.ops):
            return False
        return is_automatic(value, self.ops)

    def _drop(self, node: Node) -> None:
        for v in node.uses():
            self.waiting.pop(v, None)

    def _settle(self, values: Iterable[str]) -> None:
        """Write waiting values, in the order in which they were made."""
        chosen = set(values)
        for v in [w for w in self.waiting if w in chosen]:
            text = self.waiting.pop(v)
            name = self._name(v, self.graph.producers[v], text)
            self.lines.append(f"{name} = {text}")

    # -- names --------------------------------------------------------------------------------------------------------

    def _name(self, value: str, node: Node, text: str) -> str:
        """Choose the variable of a value that is assigned ``text``."""
        if not self.left[value]:
            return "_" if len(node.results) > 1 else self._fresh(node.op)
        name = self._chosen(value, node, text)
        self.holds[name] = value
        self.names[value] = name
        return name

    def _chosen(self, value: str, node: Node, text: str) -> str:
        if not is_automatic(value, self.ops):
            return self._fresh(value)
        words = [w for w in _WORD.findall(text) if w in self.holds]
        # ``x = relu(x)``: what a parameter becomes keeps its name, while it is the same kind of thing.
        if words and words[0] in self.reusable and self._is_free(words[0]) and any(True for _ in node.uses()):
            types = self.graph.types
            if len(node.results) == 1 and types[self.holds[words[0]]].dtype == types[value].dtype:
                return words[0]
        cast = _CAST.fullmatch(value)
        if cast:
            whole = re.fullmatch(r"(\w+)\.to\([^()]*\)", text)
            own, _, dtype = value.rpartition("_")
            return self._fresh(f"{whole.group(1) if whole else _stem(own)}_{dtype}")
        base = node.op if _NOTHING.fullmatch(value) else _stem(value)
        return self._fresh(base if len(base) <= 14 else base.rpartition("_")[2])

    def _fresh(self, base: str) -> str:
        base = re.sub(r"\W", "_", base).strip("_") or "value"
        base = base if not base[0].isdigit() else f"v{base}"
        name, n = base, 1
        while name in self.taken or name in self.reusable or not self._is_free(name):
            n += 1
            name = f"{base}_{n - 1}" if not base[-1].isdigit() else f"{base}_{n}"
        return name

    def _is_free(self, name: str) -> bool:
        held = self.holds.get(name)
        if held is not None and self.left[held]:
            return False
        return not any(name in _WORD.findall(text) for text in self.waiting.values())


def _is_asked(phrase: str, text: str) -> bool:
    """Return whether ``text`` computes ``phrase`` only to ask for its device or shape."""
    return any(f"{p}.{what}" in text for p in (phrase, f"({phrase})") for what in ("device", "shape"))


def _values(operands: Iterable[Operand]) -> Iterable[str]:
    return (o for o in flat(operands) if isinstance(o, str))


def wrapped(line: str, indent: int) -> list[str]:
    """Return a line in pieces of at most :data:`WIDTH` columns, broken inside its last call as a formatter would.

    Args:
        line: one statement, without indentation.
        indent: columns that will stand before it.
    """
    if len(line) + indent <= WIDTH or line[-1:] not in ")]":
        return [line]
    depth, start = 0, -1
    for k in range(len(line) - 1, -1, -1):
        depth += (line[k] in ")]}") - (line[k] in "([{")
        if depth == 0:
            start = k
            break
    items = _split(line[start + 1 : -1])
    if start < 0 or len(items) < 2:
        return [line]
    inner = ", ".join(items)
    if len(inner) + indent + 4 <= WIDTH:
        return [line[: start + 1], f"    {inner}", line[-1]]
    rows: list[str] = []
    for item in items:
        rows += wrapped(item, indent + 4)
        rows[-1] += ","
    return [line[: start + 1], *(f"    {row}" for row in rows), line[-1]]


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no string."""
    items, depth, start, quote = [], 0, 0, ""
    for k, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            items.append(text[start:k].strip())
            start = k + 1
    return [*items, text[start:].strip()]


__all__ = ["ATOM", "Pen", "is_automatic", "wrapped"]
