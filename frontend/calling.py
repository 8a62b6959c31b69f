"""Calling conventions: nested arguments and results (PyTorch's pytrees) and the flat tensors of a graph."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, Union

import attrs
import torch
import torch.utils._pytree as pytree

from ..ir import SizeLike, UsageError


@attrs.frozen
class Baked:
    """A number, string or None that the program was specialised to."""

    value: Any


@attrs.frozen
class Extent:
    """An integer result that is a size expression over the graph's symbols."""

    size: SizeLike


@attrs.frozen
class ComplexPair:
    """A complex result, which the graph gives as a pair of reals in the last axis of output ``index``."""

    index: int


#: A leaf of the arguments: the name of a graph input, or a value that each call must repeat.
ArgumentLeaf: TypeAlias = Union[str, Baked]
#: A leaf of the results: the position among the graph's outputs, a complex tensor, a value, or a size.
ResultLeaf: TypeAlias = Union[int, ComplexPair, Baked, Extent]


@attrs.frozen(eq=False)
class InSpec:
    """How the arguments of a call become the graph's inputs.

    Attributes:
        tree: the structure of ``(args, kwargs)``.
        leaves: one per leaf of that structure.
        paths: one per leaf: Python text in terms of the parameters of ``forward`` (``x``, ``batch['mask']``).
        parameters: the parameters of ``forward`` that the call binds, in order.
        complexes: the inputs whose arguments are complex.
    """

    tree: pytree.TreeSpec
    leaves: tuple[ArgumentLeaf, ...]
    paths: tuple[str, ...]
    parameters: tuple[str, ...]
    complexes: frozenset[str] = frozenset()

    def flatten(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Return the tensors of a call in the order of the graph's inputs.

        Raises:
            UsageError: the structure differs from the example's, or a value that was baked in is another.
        """
        # Keyword arguments are compared by name, whatever their order.
        if len(self.tree.children()) == 2:
            wanted = self.tree.child(1).context or []
            if set(wanted) == set(kwargs):
                kwargs = {k: kwargs[k] for k in wanted}
        leaves, tree = pytree.tree_flatten((args, kwargs))
        if tree != self.tree:
            raise UsageError(
                f"given {_structure(tree)}, expected the structure of the example inputs: {_structure(self.tree)}",
                subject="arguments",
            )
        tensors = []
        for leaf, value, path in zip(self.leaves, leaves, self.paths, strict=True):
            if isinstance(leaf, Baked):
                if type(value) is not type(leaf.value) or value != leaf.value:
                    raise UsageError(
                        f"is {value!r}, expected {leaf.value!r}: the program is specialised to it", subject=path
                    )
            elif not isinstance(value, torch.Tensor):
                raise UsageError(f"is a {type(value).__name__}, expected a tensor", subject=path)
            else:
                # A complex tensor is a pair of reals in the graph.
                tensors.append(torch.view_as_real(value.resolve_conj()) if value.is_complex() else value)
        return tensors

    def sources(self) -> dict[str, str]:
        """Return graph input -> Python text that reads it from the parameters of ``forward``."""
        return {
            leaf: f"torch.view_as_real({path}.resolve_conj())" if leaf in self.complexes else path
            for leaf, path in zip(self.leaves, self.paths, strict=True)
            if isinstance(leaf, str)
        }

    def guards(self) -> dict[str, Any]:
        """Return Python text of an argument -> the value that it must have."""
        return {path: leaf.value for leaf, path in zip(self.leaves, self.paths, strict=True) if isinstance(leaf, Baked)}


@attrs.frozen(eq=False)
class OutSpec:
    """How the graph's outputs become the result of a call."""

    tree: pytree.TreeSpec
    leaves: tuple[ResultLeaf, ...]

    def unflatten(self, outputs: Sequence[torch.Tensor], sizes: Callable[[SizeLike], int] | None = None) -> Any:
        """Return the nested result.

        Args:
            outputs: the graph's outputs in order.
            sizes: the value of a size expression; needed where an integer result depends on input shapes.
        """
        leaves: list[Any] = []
        for leaf in self.leaves:
            if isinstance(leaf, Baked):
                leaves.append(leaf.value)
            elif isinstance(leaf, Extent):
                if sizes is None:
                    raise UsageError(f"a result is the size {leaf.size}, expected the values of its symbols")
                leaves.append(sizes(leaf.size))
            elif isinstance(leaf, ComplexPair):
                leaves.append(torch.view_as_complex(outputs[leaf.index].contiguous()))
            else:
                leaves.append(outputs[leaf])
        return pytree.tree_unflatten(leaves, self.tree)

    def source(self, outputs: Sequence[str], sizes: Mapping[str, str] | None = None) -> str:
        """Return Python text of the nested result.

        Args:
            outputs: Python text of each graph output.
            sizes: Python text of each symbol.

        Raises:
            UsageError: the result holds a class that has no literal form.
        """
        texts = []
        for leaf in self.leaves:
            if isinstance(leaf, Baked):
                texts.append(repr(leaf.value))
            elif isinstance(leaf, Extent):
                texts.append(size_source(leaf.size, sizes or {}))
            elif isinstance(leaf, ComplexPair):
                texts.append(f"torch.view_as_complex({outputs[leaf.index]}.contiguous())")
            else:
                texts.append(outputs[leaf])
        return _tree_source(self.tree, iter(texts))


def size_source(size: SizeLike, symbols: Mapping[str, str]) -> str:
    """Return Python text of a size, given Python text of its symbols."""
    return re.sub(r"[A-Za-z_]\w*", lambda m: symbols.get(m.group(), m.group()), str(size))


def _tree_source(tree: Any, leaves: Any) -> str:
    if tree.is_leaf():
        return str(next(leaves))
    items = [_tree_source(child, leaves) for child in tree.children()]
    if tree.type is tuple:
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if tree.type is list:
        return f"[{', '.join(items)}]"
    if tree.type is dict:
        return "{" + ", ".join(f"{k!r}: {v}" for k, v in zip(tree.context, items, strict=True)) + "}"
    if tree.type is type(None):
        return "None"
    raise UsageError(f"the result is a {tree.type.__name__}, expected tensors, tuples, lists and dicts")


def _structure(tree: pytree.TreeSpec) -> str:
    """Return Python text of ``(args, kwargs)`` with a star for each leaf."""

    class Leaf:
        def __repr__(self) -> str:
            return "*"

    args, kwargs = pytree.tree_unflatten([Leaf() for _ in range(tree.num_leaves)], tree)
    return f"({', '.join([*map(repr, args), *(f'{k}={v!r}' for k, v in kwargs.items())])})"


def argument_paths(
    forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return Python text for each leaf of ``(args, kwargs)``, and the parameters that they bind."""
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        signature = None
    names: list[str] = []
    rest = ""
    for p in signature.parameters.values() if signature else ():
        if p.kind is p.VAR_POSITIONAL:
            rest = p.name
            break
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    heads = [names[i] if i < len(names) else f"{rest or 'args'}[{i - len(names)}]" for i in range(len(args))]
    paths = []
    for head, value in [*zip(heads, args, strict=True), *kwargs.items()]:
        for key, _ in pytree.tree_flatten_with_path(value)[0]:
            paths.append(head + pytree.keystr(key))
    return paths, [*heads, *kwargs]
