"""Opaque nodes: calls of ATen overloads that have no definition, run or written as PyTorch has them."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ..ir import OPAQUE, Literal, Node, Operand, OpSet, Size, SizeLike, UsageError
from ..ir.effects import is_random
from .python_text import parse_expression

#: IR dtype -> PyTorch dtype.
TORCH_DTYPES: dict[str, torch.dtype] = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "i64": torch.int64, "i32": torch.int32, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}  # fmt: skip


def number_text(value: bool | int | float | None) -> str:
    """Return Python text of a number, infinities and NaN included."""
    if isinstance(value, float) and not math.isfinite(value):
        return "float('nan')" if math.isnan(value) else f"float('{'inf' if value > 0 else '-inf'}')"
    return repr(value)


def size_text(size: SizeLike | str, symbols: Mapping[str, str]) -> str:
    """Return Python text of a size (or of its text), given Python text of its symbols."""
    return re.sub(r"[A-Za-z_]\w*", lambda m: symbols.get(m.group(), m.group()), str(size))


def flat(operands: Iterable[Operand]) -> Iterable[Operand]:
    """Yield the operands with variadic ones spread out."""
    for o in operands:
        if isinstance(o, tuple):
            yield from flat(o)
        else:
            yield o


#: In the JSON arguments of an opaque node ``"$0"`` is operand 0, and an object with one of these keys says what JSON lacks:
#: a dtype (``f32``), the device of the program, a memory format or layout of torch, a size over the graph's symbols, or a
#: complex tensor that the graph holds as a pair of reals in the last axis.  A third item beside args and kwargs says
#: which results are complex, to be held likewise.
OPAQUE_KEYS = ("$dtype", "$device", "$torch", "$size", "$complex")
_SIZE_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip


class _OpaqueCall:
    """The call that an opaque node stands for, read strictly: nothing in it reaches Python unchecked."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.target = str(node.attributes["target"])
        if not re.fullmatch(r"[A-Za-z]\w*(\.\w+){1,2}", self.target):
            raise self.wrong(f"target is '{self.target}', expected namespace.operator.overload")
        try:
            self.args, self.kwargs, *rest = json.loads(str(node.attributes["arguments"]))
            self.complexes: list[bool] = [c == "complex" for c in (rest[0] if rest else [])]
            well_formed = isinstance(self.args, list) and all(k.isidentifier() for k in self.kwargs) and len(rest) < 2
        except (ValueError, TypeError, AttributeError):
            well_formed = False
        if not well_formed:
            raise self.wrong("arguments are not [list, object] in JSON")
        if any(self.complexes) and len(self.complexes) != 1:
            raise self.wrong("one of several results is complex, expected a single result")

    def wrong(self, message: str) -> UsageError:
        return UsageError(message, subject="opaque", place=str(self.node.location or ""))

    def function(self) -> Callable[..., Any]:
        """Return what PyTorch calls by the target's name."""
        found: Any = torch.ops
        for part in self.target.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise self.wrong(f"target is {self.target}, which PyTorch does not have") from None
        return found  # type: ignore[no-any-return]

    def operand(self, item: str) -> Operand:
        """Return the operand that ``"$0"`` names."""
        if int(item[1:]) >= len(self.node.operands):
            raise self.wrong(f"{item} is not among its {len(self.node.operands)} operands")
        return self.node.operands[int(item[1:])]

    def special(self, item: Mapping[str, Any]) -> tuple[str, str]:
        """Return the key and text of an object among the arguments."""
        if len(item) == 1:
            ((key, text),) = item.items()
            known = {
                "$dtype": text in TORCH_DTYPES,
                "$device": str(text).isidentifier(),
                "$torch": str(text).isidentifier(),
                "$size": isinstance(text, str),
                "$complex": _is_reference(text),
            }
            if known.get(key, False):
                return key, text
        raise self.wrong(f"an argument is {dict(item)}, expected one of {', '.join(OPAQUE_KEYS)}")


def _is_reference(item: Any) -> bool:
    return isinstance(item, str) and re.fullmatch(r"\$\d+", item) is not None


def opaque_text(node: Node, names: Mapping[str, str], device: str, symbols: Mapping[str, str]) -> str:
    """Return Python text of the call that an opaque node stands for; see :func:`drt.backend.to_torch.render_node`."""
    call = _OpaqueCall(node)
    reads = [o for o in flat(node.operands) if isinstance(o, str)]
    where = device or (f"{names[reads[0]]}.device" if reads else "")

    def text(item: Any) -> str:
        if isinstance(item, str):
            return operand_text(call.operand(item), names, symbols) if _is_reference(item) else repr(item)
        if isinstance(item, list):
            return f"[{', '.join(map(text, item))}]"
        if isinstance(item, dict):
            key, value = call.special(item)
            if key == "$dtype":
                return str(TORCH_DTYPES[value])
            if key == "$device":
                return where or f'torch.device("{value}")'
            if key == "$torch":
                return f"torch.{value}"
            if key == "$complex":
                return f"torch.view_as_complex({operand_text(call.operand(value), names, symbols)}.contiguous())"
            size_value(value, dict.fromkeys(_words(value), 1))
            return size_text(value, symbols)
        return number_text(item)

    call.function()
    inside = [*map(text, call.args), *(f"{k}={text(v)}" for k, v in call.kwargs.items())]
    line = f"torch.ops.{call.target}({', '.join(inside)})"
    return f"torch.view_as_real({line}.resolve_conj())" if any(call.complexes) else line


def operand_text(operand: Operand, names: Mapping[str, str], symbols: Mapping[str, str]) -> str:
    """Return Python text of an operand."""
    if isinstance(operand, str):
        return names[operand]
    if isinstance(operand, Literal):
        value = operand.value
        return size_text(value, symbols) if isinstance(value, Size) else number_text(value)
    return "None" if operand is None else f"[{', '.join(operand_text(o, names, symbols) for o in operand)}]"


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", text)


def size_value(text: str, symbols: Mapping[str, Any]) -> int:
    """Return the value of the text of a size; raises UsageError where it is not one."""

    def value(e: ast.AST) -> int:
        match e:
            case ast.Constant(value=int(n)):
                return n
            case ast.Name(id=name) if name in symbols:
                return int(symbols[name])
            case ast.BinOp(left=a, op=op, right=b) if type(op) in _SIZE_OPERATORS:
                return _SIZE_OPERATORS[type(op)](value(a), value(b))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return -value(a)
            case ast.Call(func=ast.Name(id="min" | "max" as f), args=args, keywords=[]):
                return (min if f == "min" else max)(map(value, args))
        raise UsageError(f"'{text}' is no size", subject="opaque")

    try:
        return value(parse_expression(text))
    except SyntaxError:
        raise UsageError(f"'{text}' is no size", subject="opaque") from None


def draws(node: Node, ops: OpSet) -> bool:
    """Return whether a node may draw random numbers: its definition says so, or PyTorch does of what has none."""
    if node.op != OPAQUE:
        return is_random(node, ops)
    try:
        function = _OpaqueCall(node).function()
    except UsageError:
        return True
    return torch.Tag.nondeterministic_seeded in getattr(function, "tags", ())


def run_opaque(
    node: Node,
    operand: Callable[[Operand], Any],
    *,
    symbols: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    dtypes: Mapping[str, torch.dtype] = TORCH_DTYPES,
) -> list[Any]:
    """Call the operator that an opaque node names and return its results.

    Args:
        node: the node.
        operand: the value of an operand.
        symbols: the values of the graph's symbols.
        device: for tensors that are made from nothing; None takes the one that the program was exported on.
        dtypes: what each IR dtype is kept in.

    Raises:
        UsageError: PyTorch has no such operator, or the arguments are not well formed.
    """
    call = _OpaqueCall(node)
    function = call.function()

    def value(item: Any) -> Any:
        if isinstance(item, str):
            return operand(call.operand(item)) if _is_reference(item) else item
        if isinstance(item, list):
            return [value(v) for v in item]
        if isinstance(item, dict):
            key, text = call.special(item)
            if key == "$dtype":
                return dtypes[text]
            if key == "$device":
                return torch.device(device or text)
            if key == "$complex":
                return torch.view_as_complex(operand(call.operand(text)).contiguous())
            return getattr(torch, text) if key == "$torch" else size_value(text, symbols or {})
        return item

    result = function(*map(value, call.args), **{k: value(v) for k, v in call.kwargs.items()})
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    return [torch.view_as_real(r.resolve_conj()) for r in results] if any(call.complexes) else results
