"""Triton kernels on ring elements: the corrected interpreter with :class:`Elements` in place of arrays of floats.

Most of the interpreter runs as it is, for elements take part in numpy's protocols.  What is replaced while
:func:`ring_kernels` is entered: how constants are made, casts (a cast between floats changes nothing: rounding is invisible),
reinterpretations of bits, ``libdevice``, and the memory that floats are loaded from and stored to.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter as stock

from ....ir.errors import Unsupported
from ....ir.intrinsics import INTRINSICS
from .. import interpreter
from ..interpreter import Handle, is_emulated, narrow, widen
from ..memory import MemoryMonitor
from . import functions as fn
from .aten import Shadow, Shadows, observe
from .element import Algebra, Elements, broadcast, select
from .field import LEVELS

#: How far the value of a float whose low bits were cut may be from the whole: 8 bits of significand are left at least.
_CUT = 2.0**-7


def _is_float(dtype: Any) -> bool:
    return bool(dtype.scalar.is_floating())


class RingMonitor(MemoryMonitor):
    """Memory whose floats are ring elements; integers are what they are.

    Args:
        deadline: when to give up, on the clock of :func:`time.process_time`.
    """

    def __init__(self, algebra: Algebra, deadline: float) -> None:
        super().__init__()
        self.algebra, self.deadline = algebra, deadline
        self.shadows = Shadows(algebra)

    def elements(self, handle: Any) -> Elements:
        """Return what a handle of floats holds as elements."""
        data = handle.data
        return data if isinstance(data, Elements) else self.algebra.lift(widen(data, handle.dtype))

    def check_time(self) -> None:
        """Raise Unsupported where the time for this run is over."""
        if time.process_time() > self.deadline:
            raise Unsupported("the run with ring elements takes too long", subject="algebra")

    # -- kernels ------------------------------------------------------------------------------------------------------
    def begin_launch(self, kernel: str, arguments: dict[str, Any]) -> None:
        """Name the tensors of a launch; those of floats get elements."""
        super().begin_launch(kernel, arguments)
        for value in arguments.values():
            tensor = value if isinstance(value, torch.Tensor) else getattr(value, "base", None)
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.untyped_storage().nbytes():
                self.shadows.of(tensor)

    def _floats(self, region: Any, size: int) -> Shadow:
        shadow = self.shadows.by_address.get(region.address)
        if shadow is None or shadow.unit != size:
            raise Unsupported("memory is used as another type than the tensor's", subject="algebra")
        return shadow

    def load(self, ptrs: Any, mask: Any, other: Any) -> Any:
        """Perform a masked load."""
        self.check_time()
        dtype = ptrs.get_element_ty()
        if not _is_float(dtype):
            return super().load(ptrs, mask, other)
        shape, size = ptrs.data.shape, stock._get_np_dtype(dtype).itemsize
        flat = np.ascontiguousarray(ptrs.data).reshape(-1).astype(np.uint64, copy=False)
        active = np.flatnonzero(np.broadcast_to(mask, shape).reshape(-1))
        if other is not None:
            filled = broadcast(self.elements(other), shape).reshape(-1)
        else:
            filled = broadcast(self.algebra.written(np.full(1, np.nan)), (len(flat),))
        v, r, lawful = filled.v.copy(), filled.r.copy(), filled.lawful
        if len(active):
            for region, lanes, offset in self._resolve(flat[active], size, "read"):
                shadow = self._floats(region, size)
                region.was_read = True
                lane, element = active[lanes], offset // size
                v[lane], r[:, lane] = shadow.v[element], shadow.r[:, element]
                lawful &= shadow.lawful
        return Handle(Elements(self.algebra, v.reshape(shape), r.reshape(LEVELS, *shape), lawful), dtype)

    def store(self, ptrs: Any, value: Any, mask: Any) -> None:
        """Perform a masked store."""
        self.check_time()
        dtype = ptrs.get_element_ty()
        if not _is_float(dtype):
            super().store(ptrs, value, mask)
            return
        shape, size = ptrs.data.shape, stock._get_np_dtype(dtype).itemsize
        x = broadcast(self.elements(value), shape).reshape(-1)
        with np.errstate(all="ignore"):
            rounded = narrow(x.v.astype(np.float32) if is_emulated(dtype) else x.v, dtype)
        super().store(ptrs, Handle(rounded.reshape(shape), dtype), mask)
        flat = np.ascontiguousarray(ptrs.data).reshape(-1).astype(np.uint64, copy=False)
        active = np.flatnonzero(np.broadcast_to(mask, shape).reshape(-1))
        if len(active):
            for region, lanes, offset in self._resolve(flat[active], size, "write"):
                shadow, lane, element = self._floats(region, size), active[lanes], offset // size
                shadow.v[element], shadow.r[:, element] = x.v[lane], x.r[:, lane]
                shadow.lawful &= x.lawful

    def update(self, op: str, ptr: Any, value: Any, mask: Any) -> Any:
        """Perform an atomic update; of floats, sums and exchanges."""
        self.check_time()
        dtype = ptr.get_element_ty()
        if not _is_float(dtype):
            for region, _, _ in self._resolve(
                np.ascontiguousarray(ptr.data).reshape(-1)[:1].astype(np.uint64), 1, "update"
            ):
                if region.address in self.shadows.by_address:
                    raise Unsupported("an atomic on the bits of floats", subject="algebra")
            return super().update(op, ptr, value, mask)
        if op not in ("FADD", "ADD", "XCHG"):
            raise Unsupported(f"an atomic {op} of floats has no reading in the ring", subject="algebra")
        shape, size = ptr.data.shape, stock._get_np_dtype(dtype).itemsize
        x = broadcast(self.elements(value), shape).reshape(-1)
        flat = np.ascontiguousarray(ptr.data).reshape(-1).astype(np.uint64, copy=False)
        active = np.flatnonzero(np.broadcast_to(mask, shape).reshape(-1))
        old = self.algebra.written(np.zeros(len(flat)))
        for region, lanes, offset in self._resolve(flat[active], size, "update") if len(active) else ():
            shadow, lane, element = self._floats(region, size), active[lanes], offset // size
            region.was_written, region.initialized[element], region.by_kernel[element] = True, True, True
            region.atomic[element] = True
            old.v[lane], old.r[:, lane], old.lawful = shadow.v[element], shadow.r[:, element], shadow.lawful
            if op == "XCHG":
                shadow.v[element], shadow.r[:, element] = x.v[lane], x.r[:, lane]
            else:
                self.algebra.used.add("arithmetic")
                np.add.at(shadow.v, element, x.v[lane])
                for k, p in enumerate(self.algebra.field.primes):
                    np.add.at(shadow.r[k], element, x.r[k, lane])
                    shadow.r[k, element] %= p
            shadow.lawful &= x.lawful
        return Handle(old.reshape(shape), dtype)

    def compare_and_swap(self, ptr: Any, expected: Any, value: Any) -> Any:
        """Perform an atomic compare-and-swap of integers."""
        if _is_float(ptr.get_element_ty()):
            raise Unsupported("an atomic comparison of floats has no reading in the ring", subject="algebra")
        return super().compare_and_swap(ptr, expected, value)

    # -- ATen ---------------------------------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.check_time()
        kwargs = kwargs or {}
        out = super().__torch_dispatch__(func, types, args, kwargs)
        observe(self.shadows, func, args, kwargs, out)
        return out


def _libdevice_function(name: str) -> Callable[..., Any]:
    """Return what a libdevice function computes; its name with ``fast_`` and ``f`` is that of a single-precision variant."""
    if name == "round":
        return fn.round_away
    short = name.removeprefix("fast_")
    spellings = (name, short, short.removesuffix("f"), short.removesuffix("idef"))
    known = {i.triton.removeprefix("libdevice."): i.name for i in INTRINSICS.values()}
    for n in spellings:
        if known.get(n, n) in fn.NAMED:
            return fn.NAMED[known.get(n, n)]
    for n in spellings:
        if n in interpreter._LIBDEVICE:
            return lambda *xs: fn.unknown(known.get(n, n), interpreter._LIBDEVICE[n], *xs)
    raise Unsupported(f"libdevice.{name} has no reading in the ring", subject="algebra")


@contextlib.contextmanager
def ring_kernels(monitor: RingMonitor) -> Iterator[None]:
    """Let kernels compute with ring elements while entered."""
    builder = stock.InterpreterBuilder
    algebra = monitor.algebra
    plain = {n: builder.__dict__.get(n) for n in ("get_null_value", "create_splat", "create_unsplat", "cast_impl", "binary_op",
                                                  "create_bitcast")}  # fmt: skip

    def constant(dtype: Any) -> Any:
        return lambda self, value: Handle(algebra.written(np.array([float(value)])), dtype)

    def get_null_value(self: Any, kind: Any) -> Any:
        if _is_float(kind):
            return Handle(algebra.written(np.zeros(1)), kind.scalar)
        return plain["get_null_value"](self, kind)  # type: ignore[misc]

    def create_splat(self: Any, kind: Any, arg: Any) -> Any:
        if isinstance(arg.data, Elements):
            return Handle(broadcast(arg.data.reshape(-1)[0], tuple(int(s) for s in kind.shape)), arg.dtype.scalar)
        return plain["create_splat"](self, kind, arg)  # type: ignore[misc]

    def create_unsplat(self: Any, arg: Any) -> Any:
        if isinstance(arg.data, Elements):
            return Handle(arg.data.reshape(-1)[0:1], arg.dtype.scalar)
        return plain["create_unsplat"](self, arg)  # type: ignore[misc]

    def cast_impl(self: Any, src: Any, kind: Any) -> Any:
        if isinstance(src.data, Elements):
            if _is_float(kind):
                return Handle(src.data, kind.scalar)
            return Handle(src.data.astype(stock._get_np_dtype(kind.scalar)), kind.scalar)
        if _is_float(kind):
            return Handle(algebra.lift(widen(src.data, src.dtype)), kind.scalar)
        return plain["cast_impl"](self, src, kind)  # type: ignore[misc]

    def create_fp_to_fp(self: Any, src: Any, kind: Any, rounding: Any = None) -> Any:
        return Handle(monitor.elements(src), kind.scalar)

    def create_bitcast(self: Any, src: Any, kind: Any) -> Any:
        if isinstance(src.data, Elements):
            x = src.data
            if _is_float(kind):
                raise Unsupported("the bits of a float are read as another float", subject="algebra")
            with np.errstate(all="ignore"):
                rounded = narrow(x.v.astype(np.float32) if is_emulated(src.dtype) else x.v, src.dtype)
            out = Handle(np.ascontiguousarray(rounded).view(stock._get_np_dtype(kind.scalar)), kind.scalar)
            out.of_float = x
            return out
        if not _is_float(kind):
            return plain["create_bitcast"](self, src, kind)  # type: ignore[misc]
        bits = np.ascontiguousarray(src.data).view(stock._get_np_dtype(kind.scalar))
        return Handle(_float_of_bits(algebra, getattr(src, "of_float", None), widen(bits, kind)), kind.scalar)

    def binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
        out = plain["binary_op"](self, lhs, rhs, op)  # type: ignore[misc]
        if op is np.bitwise_and:
            for h in (lhs, rhs):
                if getattr(h, "of_float", None) is not None and h.data.shape == out.data.shape:
                    out.of_float = h.of_float
        return out

    def unary(function: Any) -> Any:
        return lambda self, arg: Handle(function(monitor.elements(arg)), arg.dtype.scalar)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        return Handle(fn.fma(*(monitor.elements(h) for h in (x, y, z))), z.dtype.scalar)

    def create_histogram(self: Any, *args: Any) -> Any:
        raise Unsupported("a histogram has no reading in the ring", subject="algebra")

    def libdevice(name: str, handles: Sequence[Any]) -> Any:
        if not any(_is_float(h.dtype) for h in handles):
            return plain_libdevice(name, handles)
        out = _libdevice_function(name)(*(monitor.elements(h) for h in handles))
        return (
            Handle(out, handles[0].dtype.scalar)
            if isinstance(out, Elements)
            else Handle(out.astype(np.int32), tl.int32)
        )

    replaced: dict[str, Any] = {
        "get_fp16": constant(tl.float16), "get_bf16": constant(tl.bfloat16), "get_fp32": constant(tl.float32),
        "get_fp64": constant(tl.float64), "get_null_value": get_null_value, "create_splat": create_splat,
        "create_unsplat": create_unsplat, "cast_impl": cast_impl, "create_fp_to_fp": create_fp_to_fp,
        "create_bitcast": create_bitcast, "binary_op": binary_op, "create_fabs": unary(fn.absolute),
        "create_erf": unary(fn.erf), "create_rsqrt": unary(fn.rsqrt), "create_fma": create_fma,
        "create_histogram": create_histogram,
    }  # fmt: skip
    saved = {n: builder.__dict__.get(n) for n in replaced}
    plain_libdevice = interpreter._libdevice
    for n, f in replaced.items():
        setattr(builder, n, f)
    interpreter._libdevice = libdevice
    try:
        yield
    finally:
        interpreter._libdevice = plain_libdevice
        for n, f in saved.items():
            if f is None:
                delattr(builder, n)
            else:
                setattr(builder, n, f)


def _float_of_bits(algebra: Algebra, source: Elements | None, value: np.ndarray) -> Elements:
    """Return the element of a float that was made from the bits of ``source``: the same up to low bits, or its negative."""
    v = np.asarray(value, np.float64)
    if source is None:
        raise Unsupported("a float is made from bits", subject="algebra")
    with np.errstate(all="ignore"):
        size = np.abs(source.v)
        same = (np.abs(v - source.v) <= _CUT * size) | (v == source.v) | ~np.isfinite(source.v)
        mirrored = np.abs(v + source.v) <= _CUT * size
    if not (same | mirrored).all():
        raise Unsupported("the bits of a float are changed beyond its sign and its low bits", subject="algebra")
    return select(same, source, fn.negative(source))
