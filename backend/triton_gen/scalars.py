"""Scalar arithmetic as Triton text, with PyTorch's meaning of every operator."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...ir import Unsupported
from ...ir.intrinsics import INTRINSICS
from ...ir.typesys import DTYPES, is_float
from .writer import LEVELS, Val, Writer, computing, convert, literal

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")

_FOLDED: dict[str, Callable[[float, float], bool | int | float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "and": lambda a, b: bool(a) and bool(b), "or": lambda a, b: bool(a) or bool(b),
}  # fmt: skip

#: Functions that exist for f32 alone, and what f64 takes instead.
_F64_SPELLING = {"tl.sqrt_rn": "tl.sqrt"}

#: tl.sigmoid and the approximations of the special-function unit are accurate to a few units in the last place of f32.
_PYTHON: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "tanh": math.tanh,
    "floor": math.floor,
}


def common_dtype(*vals: Val) -> str:
    """Return the type that operands of one operator are computed in."""
    found = [computing(v).dtype for v in vals if v.dtype]
    if not found:
        return ""
    order = list(DTYPES)
    return max(found, key=order.index)


def binary(w: Writer, op: str, a: Val, b: Val) -> Val:
    """Return ``a op b``."""
    if a.literal is not None and b.literal is not None:
        try:
            value = _FOLDED[op](a.literal, b.literal)
        except (ZeroDivisionError, OverflowError):
            raise Unsupported(f"{a.literal} {op} {b.literal} has no value") from None
        # Python gives a complex number for a fractional power of a negative one.
        return literal(math.nan if isinstance(value, complex) else value)
    if op in ("and", "or"):
        return _plain("&" if op == "and" else "|", truth(a), truth(b), "bool")
    dtype = common_dtype(a, b)
    a, b = _operand(a, dtype), _operand(b, dtype)
    if op in COMPARISONS:
        return _plain(op, a, b, "bool")
    if op == "**":
        return power(w, a, b)
    if op in ("//", "%"):
        return _floor(w, op, a, b)
    if op == "/" and not is_float(dtype):
        dtype = "f32"
        a, b = _operand(a, dtype), _operand(b, dtype)
    if dtype == "bool":
        raise Unsupported(f"operator {op} on booleans")
    return _plain(op, a, b, dtype)


def _operand(v: Val, dtype: str) -> Val:
    """Return ``v`` in the common type; a literal keeps its text where Triton converts it without loss."""
    if v.literal is not None:
        return convert(v, dtype) if is_float(dtype) or dtype == "bool" else v
    return convert(computing(v), dtype)


def _plain(op: str, a: Val, b: Val, dtype: str) -> Val:
    level = LEVELS[op]
    left = level + 1 if op in COMPARISONS else level
    return Val(f"{a.inside(left)} {op} {b.inside(level + 1)}", dtype, a.axes | b.axes, level)


def truth(v: Val) -> Val:
    """Return ``v`` as a boolean."""
    return convert(v, "bool")


def unary(w: Writer, op: str, a: Val) -> Val:
    """Return ``-a`` or ``not a``."""
    if a.literal is not None:
        return literal(-a.literal if op == "-" else not a.literal)
    if op == "not":
        return Val(f"{truth(a).inside(LEVELS['=='] + 1)} == 0", "bool", a.axes, LEVELS["=="])
    a = computing(a)
    return Val(f"-{a.inside(LEVELS['neg'])}", a.dtype, a.axes, LEVELS["neg"])


def _floor(w: Writer, op: str, a: Val, b: Val) -> Val:
    """Return the floored quotient or its remainder; Triton's own truncate towards zero."""
    dtype = common_dtype(a, b)
    a, b = w.assign("dividend", a), w.assign("divisor", b)
    axes = a.axes | b.axes
    if is_float(dtype):
        if op == "//":
            divide = "tl.div_rn" if dtype == "f32" else ""
            inner = f"{divide}({a.text}, {b.text})" if divide else f"{a.text} / {b.text}"
            return Val(f"tl.floor({inner})", dtype, axes)
        rest = w.assign("rest", Val(f"libdevice.fmod({a.text}, {_tensor(b, a)})", dtype, axes))
    else:
        rest = w.assign("rest", Val(f"{a.text} % {b.text}", dtype, axes))
    opposite = f"({rest.text} != 0) & (({rest.text} < 0) != ({b.text} < 0))"
    if op == "%":
        return Val(f"tl.where({opposite}, {rest.text} + {b.text}, {rest.text})", dtype, axes)
    return Val(f"tl.where({opposite}, {a.text} // {b.text} - 1, {a.text} // {b.text})", dtype, axes)


def _tensor(v: Val, like: Val) -> str:
    """Return text of a literal as a tensor shaped like ``like``; libdevice takes tensors only."""
    return f"tl.full({like.text}.shape, {v.text}, {like.text}.dtype)" if not v.dtype else v.text


def power(w: Writer, a: Val, b: Val) -> Val:
    """Return ``a ** b``; small constant exponents become products and roots."""
    dtype = common_dtype(a, b)
    if b.literal is not None and not isinstance(b.literal, bool):
        exponent = b.literal
        base = w.assign("base", a)
        if exponent == 0.5 and is_float(dtype):
            return call(w, "sqrt", base)
        if exponent == -0.5 and is_float(dtype):
            return call(w, "rsqrt", base)
        if float(exponent).is_integer() and 0 < exponent <= 8:
            n, factors, square = int(exponent), [], base
            while n:
                if n & 1:
                    factors.append(square)
                n >>= 1
                if n:
                    square = w.assign("square", _plain("*", square, square, dtype))
            product = factors[0]
            for f in factors[1:]:
                product = _plain("*", product, f, dtype)
            return product
        if float(exponent).is_integer() and -8 <= exponent < 0 and is_float(dtype):
            return _plain("/", literal(1.0), power(w, base, literal(-exponent)), dtype)
    if not is_float(dtype):
        raise Unsupported("integer power with a variable exponent")
    a, b = w.assign("base", a), w.assign("exponent", b)
    if a.literal is not None and b.literal is None:
        if a.literal == 2:
            return call(w, "exp2", b)
        return Val(f"libdevice.pow({_tensor(a, b)}, {b.text})", dtype, b.axes)
    return Val(f"libdevice.pow({a.text}, {_tensor(b, a)})", dtype, a.axes | b.axes)


def call(w: Writer, fn: str, *args: Val) -> Val:
    """Return the intrinsic ``fn`` of ``args``."""
    if fn == "where":
        return select(w, *args)
    if fn not in INTRINSICS:
        raise Unsupported(f"function {fn} has no Triton spelling")
    row = INTRINSICS[fn]
    if all(a.literal is not None for a in args):
        if fn in ("max", "min"):
            pick = max if fn == "max" else min
            return literal(pick(*(a.literal for a in args)))  # type: ignore[type-var, arg-type]
        if fn in _PYTHON and len(args) == 1:
            return literal(_folded(fn, float(args[0].literal)))  # type: ignore[arg-type]
        raise Unsupported(f"{fn} of literals alone")
    dtype = common_dtype(*args)
    axes = frozenset().union(*(a.axes for a in args))
    result = "bool" if row.result == "bool" else dtype
    if dtype == "bool" and fn in ("max", "min"):
        return _plain("|" if fn == "max" else "&", truth(args[0]), truth(args[1]), "bool")
    if not is_float(dtype) and row.result == "bool":
        return Val(f"{args[0].text} != {args[0].text}" if fn != "isfinite" else f"{args[0].text} == {args[0].text}",
                   "bool", axes, LEVELS["=="])  # fmt: skip
    if not is_float(dtype) and fn in ("floor", "ceil", "round", "trunc"):
        return args[0]
    if fn == "bit_not" and dtype == "bool":
        return unary(w, "not", args[0])
    operands = [w.assign("t", _operand(a, dtype)) if "{0}" in row.triton else _operand(a, dtype) for a in args]
    texts = [o.text for o in operands]
    if "libdevice." in row.triton:
        operands = [w.assign("t", o) for o in operands]
        anchor = next(o for o in operands if o.dtype)
        texts = [_tensor(o, anchor) for o in operands]
    if "{0}" in row.triton:
        spelled = row.in_triton(*texts)
        # Templates with a bitwise operator are one parenthesised operand, like calls.
        return Val(spelled, result, axes)
    name = _F64_SPELLING.get(row.triton, row.triton) if dtype == "f64" else row.triton
    return Val(f"{name}({', '.join(texts)})", result, axes)


def _folded(fn: str, x: float) -> float:
    """Return an intrinsic of a number as IEEE 754 gives it, where Python raises."""
    try:
        return _PYTHON[fn](x)
    except ValueError:
        return -math.inf if fn == "log" and x == 0 else math.nan
    except OverflowError:
        return x if fn == "floor" else math.inf


def select(w: Writer, c: Val, a: Val, b: Val) -> Val:
    """Return ``a`` where ``c``, else ``b``."""
    if c.literal is not None:
        return a if c.literal else b
    if a.dtype != b.dtype or not a.dtype:
        dtype = common_dtype(a, b)
        if not dtype:
            dtype = "f32" if any(isinstance(v.literal, float) for v in (a, b)) else "i32"
            a, b = _constant(a, dtype), _constant(b, dtype)
        else:
            a, b = _operand(a, dtype), _operand(b, dtype)
    else:
        dtype = a.dtype
    axes = a.axes | b.axes | c.axes
    return Val(f"tl.where({truth(c).text}, {a.text}, {b.text})", dtype, axes)


def _constant(v: Val, dtype: str) -> Val:
    return Val(convert(v, dtype).text, dtype)
