"""Triton's interpreter with the arithmetic of the device.

The stock interpreter (Triton 3.6 to 3.9) computes bfloat16 on raw bit patterns, truncates when it narrows, ignores TF32 and
has no ``libdevice``.  :func:`install` corrects this in the running process; it is called once, in the sandbox server, before
any candidate exists.  Triton must have been imported with ``TRITON_INTERPRET=1``.

Arithmetic modelled:
    bf16, fp8: computed in float32, rounded once to nearest even (or toward zero where asked); fp8 saturates.
    Functions of float32: ``exp`` is a power of two of a rounded product; roots, ``floor``, ``ceil`` and ``libdevice`` read
    subnormal numbers as zeros.
    ``tl.dot``: products of float32 under ``tf32`` take the top 19 bits of their inputs (tensor cores truncate); ``tf32x3`` is
    the three-product split with inputs rounded to nearest, ``bf16x3`` and ``bf16x6`` the products of bfloat16 triples that
    these keep; accumulation in the accumulator's type.
    Reductions and scans with any combine function: a tree over whole blocks, as on the device.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton._C.libtriton import ir as triton_ir
from triton.runtime import interpreter as stock

from ...ir.errors import Unsupported
from . import shortcuts

Handle = stock.TensorHandle

_TORCH_TYPES = {
    "bf16": torch.bfloat16, "fp8e5": torch.float8_e5m2, "fp8e4nv": torch.float8_e4m3fn,
    "fp8e4b8": torch.float8_e4m3fnuz, "fp8e5b16": torch.float8_e5m2fnuz,
}  # fmt: skip


def is_emulated(dtype: Any) -> bool:
    """Whether numpy has no such type, so that the interpreter holds its bits in an unsigned integer."""
    return dtype.scalar.name in _TORCH_TYPES


def widen(data: np.ndarray, dtype: Any) -> np.ndarray:
    """Return float32 values of emulated bits; other data, which may only behave like an array, as it is."""
    if not is_emulated(dtype) or not isinstance(data, np.ndarray):
        return data
    name = dtype.scalar.name
    bits = np.ascontiguousarray(data).view(np.int16 if name == "bf16" else np.uint8)
    return torch.from_numpy(bits).view(_TORCH_TYPES[name]).float().numpy().reshape(data.shape)


def narrow(values: np.ndarray, dtype: Any, toward_zero: bool = False) -> np.ndarray:
    """Return ``values`` as the interpreter holds ``dtype``."""
    if not is_emulated(dtype) or not isinstance(values, np.ndarray):
        return values.astype(stock._get_np_dtype(dtype.scalar), copy=False)
    name = dtype.scalar.name
    wide = np.ascontiguousarray(values, dtype=np.float32)
    if name != "bf16":  # the device's conversions to eight bits saturate
        largest = torch.finfo(_TORCH_TYPES[name]).max
        wide = np.clip(wide, -largest, largest)
    if name == "bf16" and toward_zero:
        return (wide.view(np.uint32) >> np.uint32(16)).astype(np.uint16).reshape(values.shape)
    bits = torch.from_numpy(wide).to(_TORCH_TYPES[name]).view(torch.int16 if name == "bf16" else torch.uint8)
    return bits.numpy().view(stock._get_np_dtype(dtype.scalar)).reshape(values.shape)


def flush(x: np.ndarray) -> np.ndarray:
    """Return float32 values with subnormal numbers as zeros, as approximate functions on the device read them."""
    if x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def _exp(x: np.ndarray) -> np.ndarray:
    """Return the exponential as the device has it: float32 through a rounded power of two, off by some ``|x|`` units."""
    return np.exp2(x * np.float32(1.4426950408889634)) if x.dtype == np.float32 else np.exp(x)


def truncate_tf32(x: np.ndarray) -> np.ndarray:
    """Return float32 values with the 13 low bits cleared: what a tensor core reads of a float32."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32) & np.uint32(0xFFFFE000)
    return bits.view(np.float32).reshape(x.shape)


def round_tf32(x: np.ndarray) -> np.ndarray:
    """Return float32 values rounded to 10 fraction bits, ties away from zero (``cvt.rna.tf32.f32``)."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(special, bits, rounded).view(np.float32).reshape(x.shape)


def split_bf16(x: np.ndarray) -> list[np.ndarray]:
    """Return three float32 arrays of bfloat16 numbers that add up to ``x``, the largest first."""
    parts = []
    rest = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    for _ in range(3):
        parts.append(rest.to(torch.bfloat16).to(torch.float32))
        rest = rest - parts[-1]
    return [p.numpy() for p in parts]


def _by_torch(f: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    return lambda *xs: f(*(torch.from_numpy(np.ascontiguousarray(x)) for x in xs)).numpy()


_LIBDEVICE: dict[str, Callable[..., np.ndarray]] = {
    name: _by_torch(getattr(torch, other))
    for name, other in {
        "tanh": "tanh", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2", "log1p": "log1p",
        "log10": "log10", "sqrt": "sqrt", "rsqrt": "rsqrt", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin",
        "acos": "acos", "atan": "atan", "atan2": "atan2", "sinh": "sinh", "cosh": "cosh", "asinh": "asinh",
        "acosh": "acosh", "atanh": "atanh", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "pow": "pow",
        "fabs": "abs", "abs": "abs", "floor": "floor", "ceil": "ceil", "rint": "round", "nearbyint": "round",
        "trunc": "trunc", "fmod": "fmod", "lgamma": "lgamma", "hypot": "hypot", "copysign": "copysign",
        "div_rn": "div", "sqrt_rn": "sqrt", "fast_expf": "exp", "fast_logf": "log", "fast_log2f": "log2",
        "fast_log10f": "log10", "fast_sinf": "sin", "fast_cosf": "cos", "fast_tanf": "tan", "fast_powf": "pow",
        "fast_dividef": "div", "isnan": "isnan", "isinf": "isinf", "fast_tanhf": "tanh", "signbit": "signbit",
        "fmax": "fmax", "fmin": "fmin",
    }.items()
}  # fmt: skip
_LIBDEVICE["round"] = lambda x: np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x)
_LIBDEVICE["fma"] = lambda x, y, z: (x.astype(np.float64) * y + z).astype(x.dtype)
_LIBDEVICE["exp10"] = lambda x: np.power(x.dtype.type(10), x)
_LIBDEVICE["normcdf"] = _by_torch(torch.special.ndtr)
_LIBDEVICE["normcdfinv"] = _by_torch(torch.special.ndtri)
_LIBDEVICE["erfcx"] = _by_torch(torch.special.erfcx)
_LIBDEVICE["cyl_bessel_i0"] = _by_torch(torch.special.i0)
_LIBDEVICE["cyl_bessel_i1"] = _by_torch(torch.special.i1)
_LIBDEVICE["cbrt"] = np.cbrt
_LIBDEVICE["finitef"] = np.isfinite


def _libdevice(name: str, handles: Sequence[Any]) -> Any:
    """Apply a libdevice function to handles; raises Unsupported for one that is not modelled."""
    function = _LIBDEVICE.get(name)
    if function is None:
        raise Unsupported(f"libdevice.{name} has no model in the interpreter", subject="interpreter")
    with np.errstate(all="ignore"):
        out = function(*np.broadcast_arrays(*(flush(widen(h.data, h.dtype)) for h in handles)))
    out = np.asarray(out)
    dtype = handles[0].dtype.scalar
    if out.dtype == np.bool_:
        return Handle(out.astype(np.int32), tl.int32)
    return Handle(narrow(out, dtype) if dtype.is_floating() else out, dtype)


def _block(handle: Any) -> Any:
    """Wrap a handle as a value of the kernel language."""
    shape = list(handle.data.shape)
    return tl.core.tensor(handle, tl.block_type(handle.dtype.scalar, shape) if shape else handle.dtype.scalar)


# -- elementwise ------------------------------------------------------------------------------------------------------


def _install_elementwise() -> None:
    builder = stock.InterpreterBuilder
    stock_binary, stock_unary, stock_ternary = builder.binary_op, builder.unary_op, builder.ternary_op
    stock_cast, stock_fma, stock_clamp = builder.cast_impl, builder.create_fma, builder.create_clampf

    def binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
        with np.errstate(all="ignore"):
            if not (is_emulated(lhs.dtype) or is_emulated(rhs.dtype)):
                return stock_binary(self, lhs, rhs, op)
            out = op(widen(lhs.data, lhs.dtype), widen(rhs.data, rhs.dtype))
        dtype = lhs.dtype.scalar
        return Handle(out, tl.int1) if out.dtype == np.bool_ else Handle(narrow(out, dtype), dtype)

    def unary_op(self: Any, arg: Any, op: Any) -> Any:
        with np.errstate(all="ignore"):
            if not is_emulated(arg.dtype):
                return stock_unary(self, arg, op)
            return Handle(narrow(op(widen(arg.data, arg.dtype)), arg.dtype), arg.dtype.scalar)

    def ternary_op(self: Any, x: Any, y: Any, z: Any, op: Any) -> Any:
        if op is np.where or not is_emulated(z.dtype):  # a selection moves bits
            return stock_ternary(self, x, y, z, op)
        out = op(*(widen(v.data, v.dtype) for v in (x, y, z)))
        return Handle(narrow(out, z.dtype), z.dtype.scalar)

    def cast_impl(self: Any, src: Any, dst_type: Any) -> Any:
        source, target = src.dtype.scalar, dst_type.scalar
        with np.errstate(all="ignore"):
            if not (is_emulated(source) or is_emulated(target)):
                return stock_cast(self, src, dst_type)
            wide: Any = widen(src.data, source) if is_emulated(source) else src.data.astype(np.float32)
            return Handle(narrow(wide, target), target)

    def create_fp_to_fp(self: Any, src: Any, dst_type: Any, rounding: Any = None) -> Any:
        if rounding == triton_ir.ROUNDING_MODE.RTZ and dst_type.scalar.name == "bf16":
            wide: np.ndarray = widen(src.data, src.dtype).astype(np.float32)
            return Handle(narrow(wide, dst_type, toward_zero=True), dst_type.scalar)
        return cast_impl(self, src, dst_type)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        dtype = z.dtype.scalar
        a, b, c = (widen(v.data, v.dtype) for v in (x, y, z))
        with np.errstate(all="ignore"):
            if c.dtype == np.float64:
                return stock_fma(self, x, y, z)
            # A product of two float32 is exact in float64; the sum then rounds twice, which differs in rare ties only.
            return Handle(narrow((a.astype(np.float64) * b + c).astype(c.dtype), dtype), dtype)

    def get_bf16(self: Any, value: float) -> Any:
        return Handle(narrow(np.array([value], dtype=np.float32), tl.bfloat16), tl.bfloat16)

    def create_erf(self: Any, arg: Any) -> Any:
        return unary_op(self, arg, _LIBDEVICE["erf"])

    def create_rsqrt(self: Any, arg: Any) -> Any:
        return unary_op(self, arg, lambda v: (1 / np.sqrt(flush(v))).astype(v.dtype))

    def function(of_numbers: Callable[[np.ndarray], np.ndarray], of_others: Any) -> Callable[..., Any]:
        return lambda self, arg: self.unary_op(
            arg, lambda v: of_numbers(v) if isinstance(v, np.ndarray) else of_others(v)
        )

    def create_clampf(self: Any, arg: Any, low: Any, high: Any, propagate_nan: Any) -> Any:
        if propagate_nan == triton_ir.PROPAGATE_NAN.ALL:
            return stock_clamp(self, arg, low, high, propagate_nan)
        return self.create_minnumf(self.create_maxnumf(arg, low), high)

    def get_all_ones_value(self: Any, type: Any) -> Any:
        return Handle(np.full(1, -1).astype(stock._get_np_dtype(type)), type.scalar)

    def create_extern_elementwise(self: Any, lib: str, path: str, symbol: str, args: Any, ret: Any, pure: Any) -> Any:
        name = symbol.removeprefix("__nv_")
        if name not in _LIBDEVICE and name.endswith("f"):
            name = name[:-1]
        return _libdevice(name, args)

    def create_inline_asm(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise Unsupported("inline assembly has no model in the interpreter", subject="interpreter")

    for f in (binary_op, unary_op, ternary_op, cast_impl, create_fp_to_fp, create_fma, get_bf16, create_erf,
              create_rsqrt, create_clampf, create_extern_elementwise, create_inline_asm, get_all_ones_value):  # fmt: skip
        setattr(builder, f.__name__, f)
    builder.create_exp = function(_exp, np.exp)
    builder.create_sqrt = function(lambda v: np.sqrt(flush(v)), np.sqrt)
    builder.create_floor = function(lambda v: np.floor(flush(v)), np.floor)
    builder.create_ceil = function(lambda v: np.ceil(flush(v)), np.ceil)
    # The device's default for NaN in a maximum or minimum is to return the other operand.
    builder.create_minnumf = lambda self, a, b: self.binary_op(a, b, np.fmin)
    builder.create_maxnumf = lambda self, a, b: self.binary_op(a, b, np.fmax)


# -- products ---------------------------------------------------------------------------------------------------------


def _install_dot() -> None:
    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, max_imprecise: Any) -> Any:
        x, y = widen(a.data, a.dtype), widen(b.data, b.dtype)
        out_type = d.data.dtype
        if not (x.dtype.kind == "f" and out_type.kind == "f"):
            return Handle((np.matmul(x.astype(np.int64), y.astype(np.int64)) + d.data).astype(out_type), d.dtype.scalar)
        work = np.float64 if out_type == np.float64 else np.float32
        mode = getattr(precision, "name", str(precision)).upper() if x.dtype == np.float32 else ""
        if is_emulated(a.dtype) or is_emulated(b.dtype):
            mode = ""
        with np.errstate(all="ignore"):
            if mode == "TF32":
                total = np.matmul(truncate_tf32(x), truncate_tf32(y))
            elif mode == "TF32X3":
                xh, yh = round_tf32(x), round_tf32(y)
                xl, yl = round_tf32(x - xh), round_tf32(y - yh)
                total = np.matmul(xl, yh) + np.matmul(xh, yl)
                total = np.where(np.isnan(total), 0, total) + np.matmul(xh, yh)
            elif mode in ("BF16X3", "BF16X6"):
                xs, ys = split_bf16(x), split_bf16(y)
                six = ((1, 1), (0, 2), (2, 0), (0, 1), (1, 0))
                total = np.zeros(
                    np.broadcast_shapes(x.shape[:-2], y.shape[:-2]) + (x.shape[-2], y.shape[-1]), np.float32
                )
                for i, j in six if mode == "BF16X6" else six[3:]:
                    total = total + np.matmul(xs[i], ys[j])
                total = np.where(np.isnan(total), 0, total) + np.matmul(xs[0], ys[0])
            else:
                total = np.matmul(x.astype(work, copy=False), y.astype(work, copy=False))
            return Handle((total + d.data.astype(work, copy=False)).astype(out_type), d.dtype.scalar)

    stock.InterpreterBuilder.create_dot = create_dot


# -- reductions and scans ---------------------------------------------------------------------------------------------


def _arg_reduce(cls_self: Any, values: np.ndarray, indices: np.ndarray, largest: bool, axis: int) -> tuple[Any, Any]:
    """Return the extreme value and the index of its first occurrence; NaN loses to everything."""
    if values.dtype.kind == "f":
        key = np.where(np.isnan(values), -np.inf if largest else np.inf, values)
    else:
        key = values
    place = np.expand_dims(np.argmax(key, axis) if largest else np.argmin(key, axis), axis)
    return np.take_along_axis(values, place, axis), np.take_along_axis(indices, place, axis)


def _install_reductions() -> None:
    standard = tl.standard

    def named(*names: str) -> list[Any]:
        return [getattr(standard, n) for n in names if hasattr(standard, n)]

    sums, products = named("_sum_combine"), named("_prod_combine")
    maxima, minima = named("_elementwise_max"), named("_elementwise_min")
    arg_max = named("_argmax_combine_tie_break_left", "_argmax_combine_tie_break_fast")
    arg_min = named("_argmin_combine_tie_break_left", "_argmin_combine_tie_break_fast")

    def combine(fn: Any, left: list[Any], right: list[Any]) -> list[Any]:
        out = fn.fn(*map(_block, left), *map(_block, right))
        out = out if isinstance(out, (tuple, list, tl.tuple)) else (out,)
        return [o.handle for o in out]

    def part(handles: list[Any], where: Any) -> list[Any]:
        return [Handle(h.data[where], h.dtype) for h in handles]

    def reduce_apply(self: Any, inputs: Any) -> Any:
        handles = [t.handle for t in inputs]
        axis = self.axis
        if axis is None:
            handles, axis = [Handle(h.data.reshape(-1), h.dtype) for h in handles], 0
        wide = [widen(h.data, h.dtype) for h in handles]
        fn = self.combine_fn
        with np.errstate(all="ignore"):
            if fn in sums and len(wide) == 1:
                out = [np.sum(wide[0], axis, keepdims=True, dtype=wide[0].dtype if wide[0].dtype.kind == "f" else None)]
            elif fn in products and len(wide) == 1:
                out = [np.prod(wide[0], axis, keepdims=True)]
            elif fn in maxima and len(wide) == 1:
                out = [(np.fmax if wide[0].dtype.kind == "f" else np.maximum).reduce(wide[0], axis, keepdims=True)]
            elif fn in minima and len(wide) == 1:
                out = [(np.fmin if wide[0].dtype.kind == "f" else np.minimum).reduce(wide[0], axis, keepdims=True)]
            elif fn in arg_max + arg_min and len(wide) == 2:
                out = list(_arg_reduce(self, wide[0], wide[1], fn in arg_max, axis))
            else:
                rest = [Handle(np.moveaxis(h.data, axis, 0), h.dtype) for h in handles]
                while (n := rest[0].data.shape[0]) > 1:
                    half = n // 2
                    rest = combine(fn, part(rest, slice(0, half)), part(rest, slice(half, 2 * half)))
                out = [np.moveaxis(widen(h.data, h.dtype), 0, axis) for h in rest]
        results = []
        for array, t in zip(out, inputs, strict=True):
            dtype = t.dtype.scalar
            if self.axis is None:
                array = array.reshape((1,) * len(t.shape)) if self.keep_dims else array.reshape(())
            elif not self.keep_dims:
                array = np.squeeze(array, axis)
            data = narrow(array, dtype) if dtype.is_floating() else array.astype(stock._get_np_dtype(dtype))
            if data.shape:
                results.append(tl.core.tensor(Handle(data, dtype), tl.block_type(dtype, list(data.shape))))
            else:
                results.append(tl.core.tensor(Handle(data.reshape(1), dtype), dtype))
        return tuple(results)

    def scan_apply(self: Any, inputs: Any) -> Any:
        handles = [Handle(np.moveaxis(t.handle.data, self.axis, 0), t.handle.dtype) for t in inputs]
        if self.reverse:
            handles = part(handles, slice(None, None, -1))
        n, step = handles[0].data.shape[0], 1
        if self.combine_fn in sums and len(handles) == 1:
            dtype = handles[0].dtype.scalar
            total = widen(handles[0].data, dtype)
            while step < n and total.dtype.kind == "f":
                total = np.concatenate([total[:step], total[step:] + total[:-step]])
                step *= 2
            if total.dtype.kind != "f":
                total = np.cumsum(total, 0)
            data = narrow(total, dtype) if dtype.is_floating() else total.astype(stock._get_np_dtype(dtype))
            handles = [Handle(data, dtype)]
        else:
            while step < n:  # inclusive scan by doubling; blocks keep their power-of-two shape
                shifted = [Handle(np.roll(h.data, step, 0), h.dtype) for h in handles]
                merged = combine(self.combine_fn, shifted, handles)
                handles = [
                    Handle(np.concatenate([h.data[:step], m.data[step:].astype(h.data.dtype)]), h.dtype)
                    for h, m in zip(handles, merged, strict=True)
                ]
                step *= 2
        if self.reverse:
            handles = part(handles, slice(None, None, -1))
        results = []
        for h, t in zip(handles, inputs, strict=True):
            data = np.moveaxis(h.data, 0, self.axis).copy()
            results.append(
                tl.core.tensor(Handle(data, t.dtype.scalar), tl.block_type(t.dtype.scalar, list(data.shape)))
            )
        return tuple(results)

    stock.ReduceOps.apply_impl = reduce_apply
    stock.ScanOps.apply_impl = scan_apply


# -- the language -----------------------------------------------------------------------------------------------------


def _install_language() -> None:
    """Point the kernel language at the interpreter once, instead of around every launch and device function call."""
    semantic = stock.interpreter_semantic

    def patch_attr(obj: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
        function = getattr(member, "__wrapped__", member)  # without the check that there is a semantic

        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs["_semantic"] = semantic
            return function(*args, **kwargs)

        scope.set_attr(obj, name, call)

    stock._patch_attr = patch_attr
    both = types.SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    stock._patch_lang(both)
    # Scalars are arrays of one element here, which numpy no longer converts by itself.
    tl.core.tensor.__index__ = lambda self: int(self.handle.data.reshape(-1)[0])
    stock._patch_lang = lambda fn: types.SimpleNamespace(restore=lambda: None)

    modules = []
    for path in ("triton.language.extra.libdevice", "triton.language.extra.cuda.libdevice"):
        try:
            modules.append(__import__(path, fromlist=["_"]))
        except ImportError:
            continue

    def front(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            values = [a if isinstance(a, tl.core.tensor) else stock.interpreter_semantic.to_tensor(a) for a in args]
            handle = _libdevice(name, [v.handle for v in values])
            shape = next((list(v.shape) for v in values if v.shape), None)
            return tl.core.tensor(handle, tl.block_type(handle.dtype, shape) if shape else handle.dtype)

        call.__name__ = name
        return call

    for module in modules:
        for name in [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]:
            setattr(module, name, front(name))

    # ``x = y = expression``: the stock rewriter refuses more than one target; so does the compiler, which says so better.
    stock_assign = stock.ASTTransformer.visit_Assign

    def visit_assign(self: Any, node: ast.Assign) -> Any:
        if len(node.targets) == 1:
            return stock_assign(self, node)
        last = node.targets[-1]
        if not isinstance(last, ast.Name):
            return stock_assign(self, node)
        first = ast.copy_location(ast.Assign(targets=[last], value=node.value), node)
        rest = [
            ast.copy_location(ast.Assign(targets=[t], value=ast.Name(id=last.id, ctx=ast.Load())), node)
            for t in node.targets[:-1]
        ]
        return [stock_assign(self, first), *rest]

    stock.ASTTransformer.visit_Assign = visit_assign


_installed = False


def install() -> None:
    """Correct the interpreter of this process; a second call does nothing.

    Raises:
        Unsupported: Triton was imported without ``TRITON_INTERPRET=1``, or its interpreter is laid out in another way.
    """
    global _installed
    if _installed:
        return
    needed = {
        stock: ("InterpreterBuilder", "TensorHandle", "ReduceOps", "ScanOps", "_patch_lang", "_implicit_cvt",
                "interpreter_builder", "interpreter_semantic", "_patch_attr", "ASTTransformer", "InterpretedFunction",
                "GridExecutor"),
        stock.InterpreterBuilder: ("binary_op", "unary_op", "ternary_op", "cast_impl", "create_dot", "create_fma",
                                   "create_masked_load", "create_masked_store", "create_atomic_rmw", "create_atomic_cas"),
    }  # fmt: skip
    missing = [name for owner, names in needed.items() for name in names if not hasattr(owner, name)]
    if missing:
        raise Unsupported(f"triton {triton.__version__} has no {', '.join(missing)}", subject="interpreter")
    if not isinstance(tl.sum, stock.InterpretedFunction):
        raise Unsupported("triton was imported without TRITON_INTERPRET=1", subject="interpreter")
    shortcuts.install_caches()
    _install_elementwise()
    _install_dot()
    _install_reductions()
    _install_language()
    shortcuts.install_matching()
    options = stock.interpreter_builder.options
    known = tuple(dict.fromkeys((*options.allowed_dot_input_precisions, "tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")))
    changes: dict[str, Any] = {"allowed_dot_input_precisions": known}
    if hasattr(options, "sanitize_overflow"):  # checks that only assertions on a device read, at three times the time
        changes["sanitize_overflow"] = False
    stock.interpreter_builder.options = dataclasses.replace(options, **changes)
    # A kernel's class says nothing about where it runs.
    stock.InterpretedFunction.__name__ = stock.InterpretedFunction.__qualname__ = "JITFunction"
    stock.InterpretedFunction.__module__ = "triton.runtime.jit"
    _installed = True
