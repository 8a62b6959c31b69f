"""PyTorch calls as a person spells them: methods, operators, subscripts, and no argument that says the default."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import torch

from ..ir import TensorType
from ..ir import expr as ex
from .python_text import parse_expression, parse_python

#: Python text and its binding strength.
Phrase: TypeAlias = tuple[str, int]

ATOM = 10


class Inlined(str):
    """Python text of a value that stands in the place of its name."""

    level: int = ATOM
    depth: int = 0


_PRODUCT = ex.PRECEDENCE["*"]

#: Functions of ``torch`` that read better as methods of their first argument.
_METHODS = frozenset(
    "reshape permute transpose unsqueeze squeeze flatten sum mean prod amax amin argmax argmin cumsum cumprod clone "
    "masked_fill gather index_select repeat_interleave roll flip tril triu any all unbind chunk split".split()
)
#: Methods that take sizes or axes one by one.
_SPREAD = frozenset("reshape permute expand repeat view flip tile".split())
#: Functions of ``torch`` that people call by their name in ``torch.nn.functional``.
_FUNCTIONAL = frozenset("relu softmax log_softmax group_norm layer_norm rms_norm".split())
#: Functions of two tensors -> the operator, the binding strength of the result, and what operands need at least.
_INFIX = {
    "torch.matmul": ("@", _PRODUCT, (_PRODUCT, _PRODUCT + 1)),
    "torch.bitwise_and": ("&", 4, (5, 5)),
    "torch.bitwise_or": ("|", 4, (5, 5)),
    "torch.bitwise_xor": ("^", 4, (5, 5)),
}
#: Functions whose ``dim`` counts the axes of the result, not of the first argument.
_NEW_AXIS = frozenset({"stack", "unsqueeze"})


def spoken(
    fn: str, positional: Sequence[Phrase], keywords: Sequence[tuple[str, str]], functional: str, type: TensorType | None
) -> Phrase:
    """Return a call as a person spells it.

    Args:
        fn: the function's full name (``torch.transpose``, ``torch.Tensor.to``).
        positional: its positional arguments.
        keywords: its keyword arguments as text.
        functional: how ``torch.nn.functional.`` is spelled.
        type: of the first tensor that it reads.
    """
    name = fn.rpartition(".")[2]
    if fn in _INFIX and len(positional) == 2 and not keywords:
        operator, own, needed = _INFIX[fn]
        a, b = (t if level >= least else f"({t})" for (t, level), least in zip(positional, needed))
        return f"{a} {operator} {b}", own
    if fn == "torch.bitwise_not" and len(positional) == 1:
        text, level = positional[0]
        return f"~{text if level >= ATOM else f'({text})'}", 7
    if fn in ("torch.narrow", "torch.select") and type is not None and not keywords:
        text = _subscript(name, positional, type)
        if text:
            return text, ATOM
    texts = [t for t, _ in positional]
    plain = [(k, _short(name, k, v, type)) for k, v in keywords]
    pooled = "pool" in name or "conv" in name
    if pooled:
        texts = [_even(t) for t in texts]
        plain = [(k, _even(v)) for k, v in plain]
    defaults = defaults_of(fn)
    kept = [f"{k}={v}" for k, v in plain if not _says_nothing(name, k, v, texts, defaults)]
    is_method = fn.startswith("torch.Tensor.") or (fn == f"torch.{name}" and name in _METHODS)
    if is_method and texts:
        receiver, level = positional[0]
        rest = texts[1:]
        if name in _SPREAD and len(rest) == 1 and rest[0].startswith("[") and rest[0] != "[]" and not kept:
            rest = [rest[0][1:-1]]
        return f"{receiver if level >= ATOM else f'({receiver})'}.{name}({', '.join([*rest, *kept])})", ATOM
    if fn.startswith("torch.nn.functional.") or (fn == f"torch.{name}" and name in _FUNCTIONAL):
        fn = functional + name
    return f"{fn}({', '.join([*texts, *kept])})", ATOM


def _subscript(name: str, positional: Sequence[Phrase], type: TensorType) -> str:
    """Return ``x[..., 2:5]`` for a narrow, ``x[:, 3]`` for a select; "" where an argument is no number."""
    numbers = [t for t, _ in positional[1:]]
    if len(numbers) != (3 if name == "narrow" else 2) or not all(re.fullmatch(r"-?\d+", n) for n in numbers):
        return ""
    (receiver, level), axis, start = positional[0], int(numbers[0]), int(numbers[1])
    axis += type.rank if axis < 0 else 0
    if name == "select":
        inner = str(start)
    else:
        stop = start + int(numbers[2])
        inner = f"{start or ''}:{'' if stop == type.shape[axis] else stop}"
    before = ["..."] if axis == type.rank - 1 and axis >= 2 else [":"] * axis
    return f"{receiver if level >= ATOM else f'({receiver})'}[{', '.join([*before, inner])}]"


def _short(name: str, keyword: str, text: str, type: TensorType | None) -> str:
    """Return an axis as one number where it is one, and the last axis as -1."""
    if keyword != "dim" or not re.fullmatch(r"\d+|\[\d+\]", text):
        return text
    axis = int(text.strip("[]"))
    is_last = type is not None and type.rank > 1 and axis == type.rank - 1 and name not in _NEW_AXIS
    return "-1" if is_last else str(axis)


def _even(text: str) -> str:
    """Return ``2`` for ``[2, 2]``."""
    numbers = re.fullmatch(r"\[(\d+)((?:, \1)*)\]", text)
    return numbers.group(1) if numbers else text


def _says_nothing(name: str, keyword: str, text: str, positional: Sequence[str], defaults: dict[str, Any]) -> bool:
    if "pool" in name and keyword == "stride" and len(positional) > 1:
        return text == positional[1]  # the default is the size of the window
    if keyword not in defaults:
        return False
    try:
        value = ast.literal_eval(parse_expression(text))
    except (ValueError, SyntaxError):
        return False
    return type_and_value(value) == type_and_value(defaults[keyword])


def type_and_value(value: Any) -> tuple[type, Any]:
    """Return what two equal defaults have in common: 1, 1.0 and True differ."""
    return type(value), value


@cache
def defaults_of(fn: str) -> dict[str, Any]:
    """Return PyTorch's own defaults of a function, from its signature, or the one that its documentation begins with.

    >>> defaults_of("torch.nn.functional.conv2d")["stride"]
    1
    """
    owner: Any = torch
    for part in fn.split(".")[1:]:
        owner = getattr(owner, part, None)
    try:
        parameters = inspect.signature(owner).parameters.values()
        found = {p.name: p.default for p in parameters if p.default is not p.empty}
        if found:
            return found
    except (TypeError, ValueError):
        pass
    match = re.search(rf"\b{fn.rpartition('.')[2]}\(([^()]*)\)", inspect.getdoc(owner) or "")
    if match is None:
        return {}
    try:
        (function,) = parse_python(f"def f({match.group(1)}): pass").body
    except SyntaxError:
        return {}
    assert isinstance(function, ast.FunctionDef)
    a = function.args
    pairs = [*zip(a.args[len(a.args) - len(a.defaults) :], a.defaults), *zip(a.kwonlyargs, a.kw_defaults)]
    return {p.arg: d.value for p, d in pairs if isinstance(d, ast.Constant)}


__all__ = ["ATOM", "Inlined", "Phrase", "defaults_of", "spoken"]
