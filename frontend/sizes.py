"""PyTorch's symbolic integers (sympy expressions over ``s0, s1, ...``) as IR sizes over named symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sympy
import torch

from ..ir import InternalError, SizeLike, Symbol, UsageError, symbol
from ..ir.guards import Guard, Relation, any_of, relation
from ..ir.size import floordiv, maximum, minimum, modulo, symbols_of

#: The largest size that a symbol without an upper bound may take.
LARGEST = 2**31 - 1

#: sympy's relations -> ours, and those that hold where they do not.
_RELATIONS = {
    "Equality": "==", "Unequality": "!=", "LessThan": "<=", "GreaterThan": ">=", "StrictLessThan": "<",
    "StrictGreaterThan": ">",
}  # fmt: skip
_OPPOSITES = {
    "Equality": "Ne", "Unequality": "Eq", "LessThan": "Gt", "GreaterThan": "Lt", "StrictLessThan": "Ge",
    "StrictGreaterThan": "Le",
}  # fmt: skip


def numbers(shape: Sequence[SizeLike]) -> tuple[int, ...]:
    """Return a shape of a program that has no symbols.

    Raises:
        InternalError: it has one.
    """
    found = tuple(n for n in shape if isinstance(n, int))
    if len(found) != len(shape):
        raise InternalError(f"a shape is {shape}, expected numbers")
    return found


class SymbolTable:
    """Maps the symbols of one exported program to IR symbols.

    Args:
        ranges: symbol -> (lowest, highest) size, both included.
        names: symbol -> the name that the user gave it; others keep PyTorch's name.
    """

    def __init__(self, ranges: Mapping[Any, tuple[int, int]], names: Mapping[Any, str]) -> None:
        self._sizes: dict[Any, SizeLike] = {}
        for s, (lo, hi) in ranges.items():
            self._sizes[s] = lo if lo == hi else symbol(names.get(s, str(s)), lo, hi)

    def size(self, value: Any) -> SizeLike:
        """Return an ``int``, ``SymInt`` or sympy expression as a size.

        Raises:
            UsageError: the size depends on tensor contents, or uses arithmetic that sizes do not have.
        """
        if isinstance(value, int):
            return int(value)
        node = getattr(value, "node", None)
        return self._convert(node.expr if node is not None else value)

    def shape(self, sizes: Any) -> tuple[SizeLike, ...]:
        """Return a ``torch.Size`` as a tuple of sizes."""
        return tuple(map(self.size, sizes))

    def symbols(self) -> tuple[Symbol, ...]:
        """Return the IR symbols in the order in which PyTorch met them."""
        return tuple(dict.fromkeys(s for size in self._sizes.values() for s in symbols_of(size)))

    def guards(self, conditions: Iterable[Any]) -> tuple[Guard, ...]:
        """Return conditions (sympy relations, and what ``and``, ``or`` and ``not`` make of them) as guards.

        Raises:
            UsageError: a condition says something that guards cannot, or holds for no sizes.
        """
        found: list[Guard] = []
        for condition in conditions:
            for clause in self._clauses(condition):
                made = any_of(clause)
                if made is False:
                    raise UsageError(f"the program demands {condition}, which holds for no sizes in their ranges")
                if isinstance(made, Guard):
                    found.append(made)
        return tuple(dict.fromkeys(found))

    def _clauses(self, e: Any) -> list[list[Relation | bool]]:
        """Return a condition as clauses that all hold, each a list of relations of which one does."""
        name = type(e).__name__
        if name in ("BooleanTrue", "BooleanFalse"):
            return [[bool(e)]]
        if name == "And":
            return [clause for a in e.args for clause in self._clauses(a)]
        if name == "Or":
            total: list[list[Relation | bool]] = [[]]
            for a in e.args:
                total = [[*x, *y] for x in total for y in self._clauses(a)]
            return total
        if name == "Not":
            (inner,) = e.args
            if type(inner).__name__ in _OPPOSITES:
                return self._clauses(getattr(sympy, _OPPOSITES[type(inner).__name__])(*inner.args))
        if name in _RELATIONS:
            return [[relation(_RELATIONS[name], *map(self._convert, e.args))]]
        raise UsageError(f"the program demands {e}, expected a comparison of sizes")

    def _convert(self, e: Any) -> SizeLike:
        if e.is_Integer:
            return int(e)
        if e.is_Symbol:
            if e not in self._sizes:
                raise UsageError("a size depends on tensor contents, expected sizes that depend on input shapes alone")
            return self._sizes[e]
        args = [self._convert(a) for a in e.args] if not e.is_Pow else []
        match type(e).__name__:
            case "Add":
                total: SizeLike = 0
                for a in args:
                    total = total + a
                return total
            case "Mul":
                product: SizeLike = 1
                for a in args:
                    product = product * a
                return product
            case "Pow" if e.exp.is_Integer and e.exp > 0:
                base, power = self._convert(e.base), 1
                result: SizeLike = power
                for _ in range(int(e.exp)):
                    result = result * base
                return result
            case "PowByNatural" if isinstance(args[1], int):
                result = 1
                for _ in range(args[1]):
                    result = result * args[0]
                return result
            case "FloorDiv" | "CleanDiv":
                return floordiv(args[0], args[1])
            case "CeilDiv":
                return floordiv(args[0] + args[1] - 1, args[1])
            case "Mod" | "PythonMod":
                return modulo(args[0], args[1])
            case "ModularIndexing":
                return modulo(floordiv(args[0], args[1]), args[2])
            case "Min":
                return _fold(minimum, args)
            case "Max":
                return _fold(maximum, args)
        raise UsageError(f"a size is computed with {type(e).__name__} ({e}), expected + - * // % min max")


def _fold(f: Any, args: list[SizeLike]) -> SizeLike:
    total = args[0]
    for a in args[1:]:
        total = f(total, a)
    return total


def range_of(bounds: Any) -> tuple[int, int]:
    """Return a ``ValueRanges`` as plain integers, clipped to ``0..LARGEST``."""

    def clip(value: Any) -> int:
        return LARGEST if value in (sympy.oo,) or value > LARGEST else max(int(value), 0)

    try:
        return clip(bounds.lower), clip(bounds.upper)
    except (TypeError, ValueError):  # an infinity of PyTorch's own (``int_oo``) compares but does not convert
        return (0 if bounds.lower < 0 else int(bounds.lower)), LARGEST


def require_sizes(dynamic: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check the symbolic sizes of tensors (``{"x": {0: "B"}}``) against an example call.

    Args:
        dynamic: argument -> axis -> name or ``(name, lowest, highest)``; lists of axes, and what is no tensor, are passed over.
        values: argument -> its example.

    Raises:
        UsageError: another form, no such axis, an example outside the range, or one name for sizes that differ.
    """
    form = "expected {axis: name} or {axis: (name, lowest, highest)}"
    seen: dict[str, tuple[int, str]] = {}
    for argument, axes in dynamic.items():
        value = values[argument]
        if isinstance(value, torch.Tensor) and isinstance(axes, (str, int)):
            raise UsageError(f"has the symbolic sizes {axes!r}, {form}", subject=argument)
        if not isinstance(value, torch.Tensor) or not isinstance(axes, Mapping):
            continue
        for axis, named in axes.items():
            if not isinstance(axis, int) or not 0 <= axis < value.dim():
                raise UsageError(f"has {value.dim()} axes, expected one of them rather than {axis!r}", subject=argument)
            name, *ends = named if isinstance(named, tuple) else (named,)
            if isinstance(named, (int, tuple)) and (not isinstance(name, str) or len(ends) != 2):
                raise UsageError(f"axis {axis} has the symbolic size {named!r}, {form}", subject=argument)
            if isinstance(name, str) and not name.isidentifier():
                raise UsageError("is no name, expected one such as B", subject=name)
            size, place = value.shape[axis], f"axis {axis} of {argument}"
            if len(ends) == 2 and not ends[0] <= size <= ends[1]:
                raise UsageError(f"{place} is {size} in the example call, expected {ends[0]}..{ends[1]}", subject=name)
            before = seen.setdefault(name, (size, place)) if isinstance(name, str) else (size, place)
            if before[0] != size:
                raise UsageError(f"{place} is {size}, but {before[1]} is {before[0]}, expected one size", subject=name)
