"""Calls of ``torch.nn.functional`` on a module's own parameters as layers of ``torch.nn``: ``self.fc(x)``.

Only layers that compute the same in training and in evaluation are written so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from ..ir import Graph, Node, TensorType
from .opaque import TORCH_DTYPES
from .python_text import parse_expression
from .torch_phrases import Phrase

Path: TypeAlias = tuple[str, ...]


@attrs.frozen
class Layers:
    """The layers of a program.

    Attributes:
        constructors: path of a submodule -> Python text that makes it.
        calls: node (by its first result) -> path of the layer that it calls.
    """

    constructors: Mapping[Path, str] = attrs.field(factory=dict)
    calls: Mapping[str, Path] = attrs.field(factory=dict)


#: Function -> the names of its positional arguments.
_POSITIONAL: dict[str, tuple[str, ...]] = {
    "linear": ("input", "weight", "bias"),
    **{f"conv{n}d": ("input", "weight", "bias") for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ("input", "weight", "bias") for n in (1, 2, 3)},
    "layer_norm": ("input", "shape", "weight", "bias"),
    "rms_norm": ("input", "shape", "weight"),
    "group_norm": ("input", "groups", "weight", "bias"),
    "embedding": ("input", "weight", "padding_idx"),
}  # fmt: skip
#: Keyword arguments that the constructor takes under the same name.
_PASSED = ("stride", "padding", "output_padding", "dilation", "groups", "eps", "padding_idx")


def find_layers(
    graph: Graph,
    paths: Mapping[str, Path],
    access: Mapping[str, str],
    express: Callable[[Node, Mapping[str, str]], Phrase],
) -> Layers:
    """Return the layers that a program's calls amount to.

    A layer's parameters are called ``weight`` and ``bias``, are alone in their submodule, and every use of them is the same
    call.

    Args:
        graph: the program.
        paths: param, buffer or constant -> path of attributes.
        access: Python text that reads each of them.
        express: text of a node's call, given names of values.
    """
    own = {text: value for value, text in access.items()}
    inputs = {i.name: i for i in graph.inputs}
    fixed = {u.target for u in graph.updates} | {o for o in graph.outputs if isinstance(o, str)}
    children: dict[Path, set[str]] = {}
    for path in paths.values():
        children.setdefault(path[:-1], set()).add(path[-1])
    names = {v: access.get(v, "_") for v in graph.types}
    made: dict[Path, set[str]] = {}
    calls: dict[str, Path] = {}
    users: dict[Path, set[str]] = {}
    for node in graph.nodes:
        if not any(v in paths for v in node.uses()):
            continue
        found = _layer(express(node, names)[0])
        if found is None:
            continue
        name, bound = found
        held = {role: own.get(bound[role]) for role in ("weight", "bias") if bound.get(role, "None") != "None"}
        weight = held.get("weight")
        if weight is None or None in held.values() or bound["input"] != "_":
            continue
        path = paths[weight][:-1]
        fits = path and children[path] == set(held) and all(paths[v] == (*path, r) for r, v in held.items() if v)
        is_parameter = all(inputs[v].kind == "param" and v not in fixed for v in held.values() if v)
        text = _constructor(name, bound, inputs[weight].type, "bias" in held) if fits and is_parameter else ""
        if text:
            made.setdefault(path, set()).add(text)
            calls[node.results[0]] = path
            users.setdefault(path, set()).add(node.results[0])
    good = {p for p in made if len(made[p]) == 1 and _all_uses(graph, p, paths) == users[p]}
    good = {p for p in good if not any(q != p and q[: len(p)] == p for q in paths.values() if q[:-1] != p)}
    return Layers({p: next(iter(made[p])) for p in made if p in good}, {v: p for v, p in calls.items() if p in good})


def call_layer(text: str, access: str) -> str:
    """Return the call of a layer in place of a call of its function: ``self.fc(x)`` for ``F.linear(x, self.fc.weight)``."""
    call = parse_expression(text)
    assert isinstance(call, ast.Call)
    return f"{access}({ast.get_source_segment(text, call.args[0])})"


def _all_uses(graph: Graph, path: Path, paths: Mapping[str, Path]) -> set[str]:
    return {n.results[0] for v, p in paths.items() if p[:-1] == path for n in graph.users[v]}


def _layer(text: str) -> tuple[str, dict[str, str]] | None:
    """Return the function's name and its arguments as text, where it is one that a layer calls."""
    match = re.match(r"F\.(\w+)\(", text)
    if match is None or match.group(1) not in _POSITIONAL:
        return None
    call = parse_expression(text)
    names = _POSITIONAL[match.group(1)]
    if not isinstance(call, ast.Call) or len(call.args) > len(names):
        return None
    bound = {n: ast.unparse(a) for n, a in zip(names, call.args)}
    bound |= {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg}
    return match.group(1), bound


def _constructor(name: str, bound: Mapping[str, str], weight: TensorType, has_bias: bool) -> str:
    """Return Python text that makes the layer, or "" where there is none that does the same."""
    if not weight.is_static or not set(bound) <= {*_POSITIONAL[name], *_PASSED}:
        return ""
    shape: Any = weight.shape
    passed = [f"{k}={bound[k]}" for k in _PASSED if k in bound and k not in _POSITIONAL[name]]
    without_bias = [] if has_bias else ["bias=False"]
    dtype = [] if weight.dtype == "f32" else [f"dtype={TORCH_DTYPES[weight.dtype]}"]
    groups = int(bound.get("groups", "1"))
    if name == "linear":
        cls, given = "Linear", [shape[1], shape[0], *without_bias]
    elif name.startswith("conv_transpose"):
        cls, given = (
            f"ConvTranspose{name[-2:]}",
            [shape[0], shape[1] * groups, _even(shape[2:]), *passed, *without_bias],
        )
    elif name.startswith("conv"):
        cls, given = f"Conv{name[-2:]}", [shape[1] * groups, shape[0], _even(shape[2:]), *passed, *without_bias]
    elif name in ("layer_norm", "rms_norm"):
        cls = "LayerNorm" if name == "layer_norm" else "RMSNorm"
        given = [_even(shape) if len(shape) == 1 else shape, *passed, *(without_bias if name == "layer_norm" else [])]
    elif name == "group_norm":
        cls, given = "GroupNorm", [bound["groups"], shape[0], *passed]
        if not has_bias:
            return ""
    else:
        cls, given = "Embedding", [*shape, *([f"padding_idx={bound['padding_idx']}"] if "padding_idx" in bound else [])]
    return f"nn.{cls}({', '.join(map(str, [*given, *dtype]))})"


def _even(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else str(tuple(sizes))


__all__ = ["Layers", "call_layer", "find_layers"]
