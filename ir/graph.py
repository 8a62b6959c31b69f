"""Programs: immutable graphs in static single assignment form, one value per name.

Values are referred to by name, without the ``%`` of the text form.  An operand is a value name, a :class:`Literal` (a Python
number that takes the dtype of its partners, as in PyTorch), ``None`` (an absent optional operand), or a tuple of operands
(a variadic one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TypeAlias, Union

import attrs
from attrs import field

from .guards import Facts, Guard
from .opdef import Location
from .size import Size, SizeLike, Symbol, symbols_of
from .typesys import TensorType

INPUT_KINDS = ("input", "param", "buffer", "constant")

#: The operator name of a node that DRT has no definition for; its attribute ``target`` names what to call.
OPAQUE = "opaque"


@attrs.frozen
class Literal:
    """A number written in the program; it has rank 0 and no dtype of its own.

    In an expanded graph with symbolic sizes it may be a size (the divisor of a mean).
    """

    value: bool | int | float | Size

    # 1, 1.0, True, -0.0 and 0.0 are different literals; nan equals itself.
    def _key(self) -> tuple[type, str]:
        return (type(self.value), repr(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return str(self.value) if isinstance(self.value, Size) else repr(self.value)


Operand: TypeAlias = Union[str, Literal, None, "tuple[Operand, ...]"]
AttrValue: TypeAlias = Union[bool, int, float, str, None, SizeLike, "tuple[AttrValue, ...]"]


@attrs.frozen
class Input:
    """A value that comes from outside.

    Attributes:
        kind: ``input`` (given at each call), ``param``, ``buffer`` (of the module), or ``constant`` (a tensor in its code).
        target: the module's own name of a param, buffer or constant (``fc.weight``); empty for an input.
    """

    name: str
    type: TensorType
    kind: str = "input"
    target: str = ""


@attrs.frozen(slots=False)
class Node:
    """One application of an operator; ``attrs`` is sorted by name and complete (defaults filled in)."""

    op: str
    operands: tuple[Operand, ...]
    attrs: tuple[tuple[str, AttrValue], ...]
    results: tuple[str, ...]
    types: tuple[TensorType, ...]
    location: Location | None = field(default=None, eq=False, repr=False)

    @cached_property
    def attributes(self) -> dict[str, AttrValue]:
        """The attributes as a dict."""
        return dict(self.attrs)

    def uses(self) -> Iterator[str]:
        """Yield the names of the values read, in order, repeats included."""
        yield from _names(self.operands)


def _names(operands: tuple[Operand, ...]) -> Iterator[str]:
    for o in operands:
        if isinstance(o, str):
            yield o
        elif isinstance(o, tuple):
            yield from _names(o)


@attrs.frozen
class Update:
    """The new content of a buffer (or of a mutated input) after the call."""

    target: str  # the name of an Input of the graph
    value: str


@attrs.frozen(slots=False)
class Graph:
    """A program: ``inputs`` in calling order, ``nodes`` in an order in which each value is defined before it is used.

    ``guards`` are what must hold of the symbols beyond their ranges.
    """

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Operand, ...]
    updates: tuple[Update, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    guards: tuple[Guard, ...] = ()

    @cached_property
    def types(self) -> Mapping[str, TensorType]:
        """The type of every value by name."""
        found = {i.name: i.type for i in self.inputs}
        for node in self.nodes:
            found.update(zip(node.results, node.types, strict=True))
        return found

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that defines each value; inputs are not in it."""
        return {r: node for node in self.nodes for r in node.results}

    @cached_property
    def users(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in program order, each once."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in dict.fromkeys(node.uses()):
                found[name].append(node)
        return {k: tuple(v) for k, v in found.items()}

    @cached_property
    def live_out(self) -> frozenset[str]:
        """Values that the caller sees: outputs and updates."""
        return frozenset(_names(self.outputs)) | {u.value for u in self.updates}

    @cached_property
    def facts(self) -> Facts:
        """What the guards say, in a form that decides comparisons of sizes."""
        return Facts(self.guards)

    def input(self, name: str) -> Input:
        """Return the input ``name``; raises KeyError."""
        for i in self.inputs:
            if i.name == name:
                return i
        raise KeyError(name)

    @property
    def is_static(self) -> bool:
        """Whether no size depends on a symbol."""
        return not any(symbols_of(s) for t in self.types.values() for s in t.shape)

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the canonical text: equal for equal programs, whatever their source locations."""
        from .text import print_graph

        return hashlib.sha256(print_graph(self).encode()).hexdigest()
