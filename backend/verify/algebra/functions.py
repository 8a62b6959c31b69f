"""The laws: what arithmetic and functions do to ring elements.

Sums, products and quotients are those of the fields.  ``exp`` and ``log`` turn sums into products and back; what is made of
them (``sigmoid``, ``tanh``, ``log1p``, powers) is written in terms of them.  ``erf``, ``sin`` and the like are unknown
functions that are odd or even as the real ones are.  Extremes, comparisons and integer parts follow the float64 values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ....ir.errors import Unsupported
from .element import ALL_LEVELS, Algebra, Elements, aligned, broadcast, moved, select, transpose
from .field import LEVELS, Residues

Unary = Callable[[Elements], Elements]


def _made(a: Algebra, kind: str, v: np.ndarray, r: Residues, lawful: int) -> Elements:
    a.used.add(kind)
    return a.made(v, r, lawful)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def add(x: Elements, y: Elements) -> Elements:
    """Return ``x + y``."""
    a, (p, q) = x.algebra, aligned(x, y)
    with np.errstate(all="ignore"):
        return _made(a, "arithmetic", x.v + y.v, a.field.reduce(p + q), x.lawful & y.lawful)


def subtract(x: Elements, y: Elements) -> Elements:
    """Return ``x - y``."""
    a, (p, q) = x.algebra, aligned(x, y)
    with np.errstate(all="ignore"):
        return _made(a, "arithmetic", x.v - y.v, a.field.reduce(p - q), x.lawful & y.lawful)


def multiply(x: Elements, y: Elements) -> Elements:
    """Return ``x * y``."""
    a, (p, q) = x.algebra, aligned(x, y)
    with np.errstate(all="ignore"):
        return _made(a, "arithmetic", x.v * y.v, a.field.reduce(p * q), x.lawful & y.lawful)


def divide(x: Elements, y: Elements) -> Elements:
    """Return ``x / y``."""
    a = x.algebra
    a.check_divisor(y)
    p, q = aligned(x, Elements(a, y.v, a.field.inverse(y.r), y.lawful))
    with np.errstate(all="ignore"):
        return _made(a, "arithmetic", x.v / y.v, a.field.reduce(p * q), x.lawful & y.lawful)


def negative(x: Elements) -> Elements:
    """Return ``-x``."""
    return _made(x.algebra, "arithmetic", -x.v, x.algebra.field.reduce(-x.r), x.lawful)


def reciprocal(x: Elements) -> Elements:
    """Return ``1 / x``."""
    return divide(x.algebra.written(1.0), x)


def square(x: Elements) -> Elements:
    """Return ``x * x``."""
    return multiply(x, x)


def matmul(x: Elements, y: Elements) -> Elements:
    """Return products of matrices."""
    a = x.algebra
    p, q = aligned(x, y)
    with np.errstate(all="ignore"):
        return _made(a, "arithmetic", np.matmul(x.v, y.v), a.field.matmul(p, q), x.lawful & y.lawful)


def fma(x: Elements, y: Elements, z: Elements) -> Elements:
    """Return ``x * y + z``."""
    return add(multiply(x, y), z)


# -- selection --------------------------------------------------------------------------------------------------------


def _extreme(largest: bool, propagate: bool) -> Callable[[Elements, Elements], Elements]:
    def f(x: Elements, y: Elements) -> Elements:
        x.algebra.used.add("selection")
        with np.errstate(all="ignore"):
            first = x.v >= y.v if largest else x.v <= y.v
        spread = np.isnan(x.v) if propagate else np.isnan(y.v)
        return select(first | spread, x, y)

    return f


maximum, minimum = _extreme(True, True), _extreme(False, True)
fmax, fmin = _extreme(True, False), _extreme(False, False)


def absolute(x: Elements) -> Elements:
    """Return ``x`` or ``-x``, whichever is not negative."""
    x.algebra.used.add("selection")
    return select(np.signbit(x.v), negative(x), x)


def copysign(x: Elements, y: Elements) -> Elements:
    """Return ``x`` or ``-x``, with the sign of ``y``."""
    x.algebra.used.add("selection")
    return select(np.signbit(x.v) != np.signbit(y.v), negative(x), x)


def clip(x: Elements, low: Elements | None, high: Elements | None) -> Elements:
    """Return ``x`` between two bounds."""
    x = x if low is None else maximum(x, x.algebra.lift(low))
    return x if high is None else minimum(x, x.algebra.lift(high))


def where(test: Any, x: Any, y: Any) -> Elements:
    """Return ``x`` where ``test`` holds, else ``y``."""
    a = next(z.algebra for z in (test, x, y) if isinstance(z, Elements))
    chosen: Any = test.astype(bool) if isinstance(test, (Elements, np.ndarray)) else np.bool_(test)
    return select(np.asarray(chosen), a.lift(x), a.lift(y))


def _compare(ufunc: Any) -> Callable[[Elements, Elements], np.ndarray]:
    def f(x: Elements, y: Elements) -> np.ndarray:
        x.algebra.used.add("selection")
        return np.asarray(ufunc(x.v, y.v))

    return f


def _predicate(ufunc: Any) -> Callable[[Elements], np.ndarray]:
    return lambda x: np.asarray(ufunc(x.v))


# -- whole numbers ----------------------------------------------------------------------------------------------------


def _whole(ufunc: Any) -> Unary:
    def f(x: Elements) -> Elements:
        x.algebra.used.add("rounding")
        return x.algebra.numbers(ufunc(x.v))

    return f


floor, ceil, rint, trunc, sign = map(_whole, (np.floor, np.ceil, np.rint, np.trunc, np.sign))
round_away = _whole(lambda v: np.copysign(np.floor(np.abs(v) + 0.5), v))


def _remainder(quotient: Any, ufunc: Any) -> Callable[[Elements, Elements], Elements]:
    def f(x: Elements, y: Elements) -> Elements:
        x.algebra.used.add("rounding")
        with np.errstate(all="ignore"):
            whole = x.algebra.numbers(quotient(x.v / y.v))
            out = subtract(x, multiply(whole, y))
            return Elements(out.algebra, np.asarray(ufunc(x.v, y.v)), out.r, out.lawful)

    return f


fmod, remainder = _remainder(np.trunc, np.fmod), _remainder(np.floor, np.remainder)


# -- exponentials and logarithms --------------------------------------------------------------------------------------


def _times(x: Elements, name: str) -> Elements:
    """Return ``x`` times an irrational number; the value is left to the caller."""
    a = x.algebra
    factor = np.array(a.constants.named(name), np.int64).reshape(LEVELS, *(1,) * x.ndim)
    return Elements(a, x.v, a.field.reduce(x.r * factor), x.lawful)


def _exponential(v: np.ndarray, x: Elements) -> Elements:
    """Return the elements of ``exp(x)`` with values ``v``; zero where the value underflowed."""
    r = x.algebra.field.exp(x.r)
    if not v.all():
        r = np.where(v == 0, 0, r)
    return _made(x.algebra, "exp", v, r, (x.lawful << 1) & ALL_LEVELS)


def exp(x: Elements) -> Elements:
    """Return e to the power x."""
    with np.errstate(all="ignore"):
        return _exponential(np.exp(x.v), x)


def exp2(x: Elements) -> Elements:
    """Return 2 to the power x."""
    with np.errstate(all="ignore"):
        return _exponential(np.exp2(x.v), _times(x, "ln_2"))


def exp10(x: Elements) -> Elements:
    """Return 10 to the power x."""
    with np.errstate(all="ignore"):
        return _exponential(np.power(10.0, x.v), _times(x, "ln_10"))


def log(x: Elements) -> Elements:
    """Return the natural logarithm."""
    x.algebra.check_divisor(x)
    with np.errstate(all="ignore"):
        return _made(x.algebra, "log", np.log(x.v), x.algebra.field.log(x.r), x.lawful >> 1)


def log2(x: Elements) -> Elements:
    """Return the logarithm to base 2."""
    return _valued(np.log2, x, _times(log(x), "log2_e"))


def log10(x: Elements) -> Elements:
    """Return the logarithm to base 10."""
    return _valued(np.log10, x, _times(log(x), "log10_e"))


def _valued(ufunc: Any, x: Elements, out: Elements) -> Elements:
    """Return ``out`` with the values ``ufunc(x)``, which are more accurate than its own."""
    with np.errstate(all="ignore"):
        return out.algebra.made(np.asarray(ufunc(x.v)), out.r, out.lawful)


def _number(x: Elements, value: float) -> Elements:
    return x.algebra.written(value)


def expm1(x: Elements) -> Elements:
    """Return ``exp(x) - 1``."""
    return _valued(np.expm1, x, subtract(exp(x), _number(x, 1.0)))


def log1p(x: Elements) -> Elements:
    """Return ``log(1 + x)``."""
    return _valued(np.log1p, x, log(add(_number(x, 1.0), x)))


def sigmoid(x: Elements) -> Elements:
    """Return ``1 / (1 + exp(-x))``."""
    return reciprocal(add(_number(x, 1.0), exp(negative(x))))


def tanh(x: Elements) -> Elements:
    """Return ``1 - 2 / (exp(2x) + 1)``."""
    one, two = _number(x, 1.0), _number(x, 2.0)
    return _valued(np.tanh, x, subtract(one, divide(two, add(exp(multiply(two, x)), one))))


def sinh(x: Elements) -> Elements:
    """Return ``(exp(x) - exp(-x)) / 2``."""
    e = exp(x)
    return _valued(np.sinh, x, divide(subtract(e, reciprocal(e)), _number(x, 2.0)))


def cosh(x: Elements) -> Elements:
    """Return ``(exp(x) + exp(-x)) / 2``."""
    e = exp(x)
    return _valued(np.cosh, x, divide(add(e, reciprocal(e)), _number(x, 2.0)))


def asinh(x: Elements) -> Elements:
    """Return ``log(x + sqrt(x*x + 1))``."""
    return _valued(np.arcsinh, x, log(add(x, sqrt(add(square(x), _number(x, 1.0))))))


def acosh(x: Elements) -> Elements:
    """Return ``log(x + sqrt(x*x - 1))``."""
    return _valued(np.arccosh, x, log(add(x, sqrt(subtract(square(x), _number(x, 1.0))))))


def atanh(x: Elements) -> Elements:
    """Return ``log((1 + x) / (1 - x)) / 2``."""
    one = _number(x, 1.0)
    return _valued(np.arctanh, x, divide(log(divide(add(one, x), subtract(one, x))), _number(x, 2.0)))


# -- roots and powers -------------------------------------------------------------------------------------------------


def sqrt(x: Elements) -> Elements:
    """Return the square root."""
    with np.errstate(all="ignore"):
        return _made(x.algebra, "sqrt", np.sqrt(x.v), x.algebra.field.root(x.r), x.lawful)


def rsqrt(x: Elements) -> Elements:
    """Return ``1 / sqrt(x)``."""
    return reciprocal(sqrt(x))


def hypot(x: Elements, y: Elements) -> Elements:
    """Return ``sqrt(x*x + y*y)``."""
    return sqrt(add(square(x), square(y)))


def power(x: Elements, y: Elements) -> Elements:
    """Return ``x ** y``: products for whole and half exponents that are the same everywhere, else ``exp(y * log(x))``."""
    doubled = np.unique(2 * y.v)
    with np.errstate(all="ignore"):
        v = np.asarray(np.power(x.v, y.v))
    if len(doubled) == 1 and doubled[0] == round(doubled[0]) and abs(doubled[0]) <= 128:
        n = int(doubled[0])
        base = x if n % 2 == 0 else sqrt(x)
        whole = n // 2 if n % 2 == 0 else n
        x.algebra.used.add("arithmetic")
        out = Elements(x.algebra, base.v, x.algebra.field.power(base.r, (abs(whole),) * LEVELS), base.lawful)
        if whole < 0:
            out = reciprocal(out)
    else:
        out = exp(multiply(y, log(x)))
    return x.algebra.made(v, broadcast(out, v.shape).r, out.lawful)


# -- unknown functions ------------------------------------------------------------------------------------------------


def _by_torch(function: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    def f(*vs: np.ndarray) -> np.ndarray:
        from torch.utils._python_dispatch import _disable_current_modes

        with _disable_current_modes():
            return function(*(torch.from_numpy(np.array(v)) for v in vs)).numpy()

    return f


def _unknown(name: str, values: Any, symmetry: str) -> Unary:
    def f(x: Elements) -> Elements:
        field = x.algebra.field
        read: Any = {"odd": field.odd, "even": field.even, "none": field.hash}[symmetry]
        with np.errstate(all="ignore"):
            return _made(x.algebra, name, np.asarray(values(x.v)), read(name, x.r), x.lawful)

    return f


erf = _unknown("erf", _by_torch(torch.erf), "odd")
erfinv = _unknown("erfinv", _by_torch(torch.erfinv), "odd")
lgamma = _unknown("lgamma", _by_torch(torch.lgamma), "none")
sin, cos = _unknown("sin", np.sin, "odd"), _unknown("cos", np.cos, "even")
asin, atan = _unknown("asin", np.arcsin, "odd"), _unknown("atan", np.arctan, "odd")
cbrt = _unknown("cbrt", np.cbrt, "odd")


def erfc(x: Elements) -> Elements:
    """Return ``1 - erf(x)``."""
    return _valued(_by_torch(torch.erfc), x, subtract(_number(x, 1.0), erf(x)))


def erfcx(x: Elements) -> Elements:
    """Return ``exp(x * x) * erfc(x)``."""
    return _valued(_by_torch(torch.special.erfcx), x, multiply(exp(square(x)), erfc(x)))


def unknown(name: str, values: Callable[..., np.ndarray], *xs: Elements) -> Elements:
    """Return an unknown function of several arguments, as keyed hashes.

    Args:
        name: two functions are one where their names are equal.
        values: what it is on float64 arrays of one shape.
    """
    a = xs[0].algebra
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    spread = [broadcast(x, shape) for x in xs]
    lawful = ALL_LEVELS
    for x in xs:
        lawful &= x.lawful
    v = np.asarray(values(*(np.array(x.v) for x in spread)), np.float64).reshape(shape)
    return _made(a, name, v, a.field.hash(name, *(x.r for x in spread)), lawful)


def normcdf(x: Elements) -> Elements:
    """Return ``(1 + erf(x / sqrt(2))) / 2``."""
    half = _number(x, 0.5)
    return multiply(half, add(_number(x, 1.0), erf(multiply(x, _number(x, math.sqrt(0.5))))))


def tan(x: Elements) -> Elements:
    """Return ``sin(x) / cos(x)``."""
    return _valued(np.tan, x, divide(sin(x), cos(x)))


def acos(x: Elements) -> Elements:
    """Return ``pi / 2 - asin(x)``."""
    return _valued(np.arccos, x, subtract(_number(x, math.pi / 2), asin(x)))


def atan2(y: Elements, x: Elements) -> Elements:
    """Return the angle of the point (x, y): an unknown function of both."""
    return unknown("atan2", np.arctan2, y, x)


# -- along axes -------------------------------------------------------------------------------------------------------


def _axes(x: Elements, axis: Any) -> tuple[int, ...]:
    if axis is None or axis == () or axis == []:
        return tuple(range(x.ndim))
    return tuple(sorted(a % x.ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))))


def total(x: Elements, axis: Any = None, keepdims: bool = False, **_: Any) -> Elements:
    """Return the sum over axes."""
    if x.ndim == 0:
        return x
    axes = _axes(x, axis)
    with np.errstate(all="ignore"):
        v = np.asarray(x.v.sum(axis=axes, keepdims=keepdims))
    r = x.r.sum(axis=tuple(a + 1 for a in axes), keepdims=keepdims)
    return _made(x.algebra, "arithmetic", v, x.algebra.field.reduce(r), x.lawful)


def mean(x: Elements, axis: Any = None, keepdims: bool = False) -> Elements:
    """Return the mean over axes."""
    n = math.prod(x.shape[a] for a in _axes(x, axis)) if x.ndim else 1
    return divide(total(x, axis, keepdims), _number(x, float(n)))


def product(x: Elements, axis: Any = None, keepdims: bool = False, **_: Any) -> Elements:
    """Return the product over axes."""
    axes = _axes(x, axis)
    last = _last(x, axes)
    while last.shape[-1] > 1:
        n = last.shape[-1]
        pairs = multiply(last[..., 0 : n - n % 2 : 2], last[..., 1 : n - n % 2 + 1 : 2])
        last = pairs if n % 2 == 0 else concatenate([pairs, last[..., n - 1 :]], -1)
    return last.reshape(_kept_shape(x, axes, keepdims))


def _last(x: Elements, axes: tuple[int, ...]) -> Elements:
    """Return the elements with ``axes`` merged into a last one."""
    kept = [a for a in range(x.ndim) if a not in axes]
    return transpose(x, (*kept, *axes)).reshape(*(x.shape[a] for a in kept), -1)


def _kept_shape(x: Elements, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return tuple(1 if a in axes else s for a, s in enumerate(x.shape) if keepdims or a not in axes)


def extreme_place(v: np.ndarray, largest: bool, propagate: bool) -> np.ndarray:
    """Return where the extreme along the last axis is, first occurrence; NaN wins over all or loses to all."""
    worst = -np.inf if largest else np.inf
    key = np.where(np.isnan(v), -worst if propagate else worst, v)
    if propagate and np.isnan(v).any():
        first_nan = np.argmax(np.isnan(v), -1)
        plain = np.argmax(key, -1) if largest else np.argmin(key, -1)
        return np.asarray(np.where(np.isnan(v).any(-1), first_nan, plain))
    return np.asarray(np.argmax(key, -1) if largest else np.argmin(key, -1))


def extreme(largest: bool, propagate: bool) -> Callable[..., Elements]:
    """Return the maximum or minimum over axes as a function of (elements, axes, keepdims)."""

    def f(x: Elements, axis: Any = None, keepdims: bool = False, **_: Any) -> Elements:
        x.algebra.used.add("selection")
        axes = _axes(x, axis)
        last = _last(x, axes) if x.ndim else x.reshape(1)
        place = extreme_place(last.v, largest, propagate)[..., None]
        out = moved(lambda p: np.take_along_axis(p, place, -1), last)
        return out.reshape(_kept_shape(x, axes, keepdims))

    return f


amax, amin = extreme(True, True), extreme(False, True)


def running_sum(x: Elements, axis: int = 0, **_: Any) -> Elements:
    """Return the sums of all elements up to each."""
    axis %= max(x.ndim, 1)
    with np.errstate(all="ignore"):
        v = np.cumsum(x.v, axis)
    return _made(x.algebra, "arithmetic", v, x.algebra.field.reduce(np.cumsum(x.r, axis + 1)), x.lawful)


def concatenate(xs: Any, axis: int = 0, **_: Any) -> Elements:
    """Return arrays joined along an axis."""
    a = next(x.algebra for x in xs if isinstance(x, Elements))
    return moved(lambda *ps: np.concatenate(ps, axis), *(a.lift(x) for x in xs))


def _stack(xs: Any, axis: int = 0, **_: Any) -> Elements:
    a = next(x.algebra for x in xs if isinstance(x, Elements))
    return moved(lambda *ps: np.stack(ps, axis), *(a.lift(x) for x in xs))


def _moving(f: Any) -> Callable[..., Elements]:
    return lambda x, *args, **kwargs: moved(lambda p: f(p, *args, **kwargs), x)


def _place(largest: bool) -> Callable[..., np.ndarray]:
    def f(x: Elements, axis: Any = None, **_: Any) -> np.ndarray:
        x.algebra.used.add("selection")
        return np.asarray(np.argmax(x.v, axis) if largest else np.argmin(x.v, axis))

    return f


def _unread(*args: Any, **kwargs: Any) -> Elements:
    raise Unsupported("a value is read out of the program", subject="algebra")


#: Functions by the names that intrinsics, ATen and libdevice give them.
NAMED: dict[str, Callable[..., Any]] = {
    "abs": absolute, "fabs": absolute, "neg": negative, "reciprocal": reciprocal, "square": square, "exp": exp, "exp2": exp2,
    "exp10": exp10, "expm1": expm1, "log": log, "log2": log2, "log10": log10, "log1p": log1p, "sqrt": sqrt, "sqrt_rn": sqrt,
    "rsqrt": rsqrt, "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan, "sinh": sinh, "cosh": cosh,
    "tanh": tanh, "asinh": asinh, "acosh": acosh, "atanh": atanh, "erf": erf, "erfc": erfc, "erfinv": erfinv, "erfcx": erfcx,
    "lgamma": lgamma, "sigmoid": sigmoid, "floor": floor, "ceil": ceil, "round": rint, "rint": rint, "nearbyint": rint,
    "trunc": trunc, "sign": sign, "sgn": sign, "cbrt": cbrt, "normcdf": normcdf, "maximum": maximum, "minimum": minimum,
    "fmax": fmax, "fmin": fmin, "pow": power, "fmod": fmod, "remainder": remainder, "atan2": atan2, "copysign": copysign,
    "hypot": hypot, "fma": fma, "add": add, "sub": subtract, "mul": multiply, "div": divide, "div_rn": divide,
    "isnan": _predicate(np.isnan), "isinf": _predicate(np.isinf), "isfinite": _predicate(np.isfinite),
    "finitef": _predicate(np.isfinite), "signbit": _predicate(np.signbit),
}  # fmt: skip

#: Meanings of numpy's elementwise functions.
UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: add, np.subtract: subtract, np.multiply: multiply, np.divide: divide, np.negative: negative,
    np.positive: lambda x: x, np.absolute: absolute, np.fabs: absolute, np.reciprocal: reciprocal, np.square: square,
    np.maximum: maximum, np.minimum: minimum, np.fmax: fmax, np.fmin: fmin, np.fmod: fmod, np.remainder: remainder,
    np.power: power, np.float_power: power, np.exp: exp, np.exp2: exp2, np.expm1: expm1, np.log: log, np.log2: log2,
    np.log10: log10, np.log1p: log1p, np.sqrt: sqrt, np.sin: sin, np.cos: cos, np.tan: tan, np.tanh: tanh, np.sinh: sinh,
    np.cosh: cosh, np.arcsin: asin, np.arccos: acos, np.arctan: atan, np.arctan2: atan2, np.arcsinh: asinh,
    np.arccosh: acosh, np.arctanh: atanh, np.cbrt: cbrt, np.hypot: hypot, np.copysign: copysign, np.floor: floor,
    np.ceil: ceil, np.rint: rint, np.trunc: trunc, np.sign: sign, np.matmul: matmul, np.isnan: _predicate(np.isnan),
    np.isinf: _predicate(np.isinf), np.isfinite: _predicate(np.isfinite), np.signbit: _predicate(np.signbit),
    np.logical_not: _predicate(np.logical_not),
    **{u: _compare(u) for u in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
                                np.logical_and, np.logical_or, np.logical_xor)},
}  # fmt: skip

#: Meanings of ``ufunc.reduce``.
REDUCTIONS: dict[Any, Callable[..., Elements]] = {
    np.add: total, np.multiply: product, np.maximum: amax, np.minimum: amin, np.fmax: extreme(True, False),
    np.fmin: extreme(False, False),
}  # fmt: skip

#: Meanings of numpy's other functions.
ARRAY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: where, np.clip: clip, np.sum: total, np.prod: product, np.cumsum: running_sum, np.transpose: transpose,
    np.broadcast_to: broadcast, np.reshape: lambda x, *shape: x.reshape(*shape), np.concatenate: concatenate,
    np.stack: _stack, np.argmax: _place(True), np.argmin: _place(False), np.mean: mean, np.ravel: lambda x: x.reshape(-1),
    np.max: amax, np.amax: amax, np.min: amin, np.amin: amin, np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size, np.array_equal: _unread, np.isscalar: lambda x: False,
    **{f: _moving(f) for f in (np.expand_dims, np.squeeze, np.moveaxis, np.swapaxes, np.take_along_axis, np.take, np.roll,
                               np.flip, np.repeat, np.tile, np.ascontiguousarray, np.copy)},
    np.zeros_like: lambda x, dtype=None, **_: (
        np.zeros(x.shape, dtype) if dtype is not None and np.dtype(dtype).kind != "f" else x.algebra.written(np.zeros(x.shape))
    ),
    np.ones_like: lambda x, dtype=None, **_: (
        np.ones(x.shape, dtype) if dtype is not None and np.dtype(dtype).kind != "f" else x.algebra.written(np.ones(x.shape))
    ),
}  # fmt: skip
