"""Memory as the judge sees it: every tensor in an address range of its own, with shadow memory beside it.

A kernel under the interpreter gets made-up addresses, one far-apart range per storage.  Each load, store and atomic is
translated back and checked lane by lane, so that an overrun can neither land in a neighbour nor end the process.  The shadow
says for each element whether it was ever written and which program of the launch read or wrote it last, which shows
races that the interpreter, running programs one after another, hides.
"""

from __future__ import annotations

import sys
from typing import Any

import attrs
import numpy as np
import torch
import triton.language as tl
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter as stock

from .interpreter import Handle, narrow, widen

_SHIFT, _FIRST, _BIAS = 40, 0x1000, 1 << 39
_OFFSET = np.uint64((1 << _SHIFT) - 1)
_EMPTY = {
    f"aten::{n}" for n in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted")
}
_OVERWRITES = {"aten::copy_", "aten::fill_", "aten::zero_"}
_MANY = -2  # more than one program

#: What a finding of each kind means; the texts are completed with kernel, argument, line and numbers.
KINDS = {
    "oob_read": "reads outside the tensor",
    "oob_write": "writes outside the tensor",
    "wild_pointer": "uses a pointer into no tensor argument",
    "misaligned": "accesses an address that is no multiple of the element size",
    "uninitialized_read": "reads memory that nobody wrote",
    "race": "races with another program of the launch",
    "lane_conflict": "stores different values to one address",
    "input_write": "writes to an input",
    "unwritten_output": "leaves output elements unwritten",
    "undefined_lanes": "lets lanes that the mask turned off reach the output",
}


@attrs.frozen
class Finding:
    """One fault of memory use, at one place in the source."""

    kind: str
    kernel: str
    argument: str
    line: int
    program: tuple[int, ...]
    detail: str

    def text(self) -> str:
        """Return one line for a person or a model."""
        where = f"kernel {self.kernel}" if self.kernel else "the launcher"
        line = f" line {self.line}" if self.line > 0 else ""
        arg = f", tensor {self.argument!r}" if self.argument else ""
        program = f", program {self.program}" if self.kernel else ""
        return f"{where}{line}{arg}{program}: {KINDS[self.kind]}: {self.detail}"


class Region:
    """One storage and its shadow; elements are those of the tensor that was seen first."""

    def __init__(self, number: int, tensor: torch.Tensor, name: str) -> None:
        storage = tensor.untyped_storage()
        self.name, self.storage, self.n_bytes = name, storage, storage.nbytes()
        self.unit = tensor.element_size()
        self.address = storage.data_ptr()
        self.base = ((_FIRST + number) << _SHIFT) + _BIAS
        whole = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (self.n_bytes,), (1,))
        self.bytes = whole.numpy()
        n = -(-self.n_bytes // self.unit)
        self.initialized = np.ones(n, bool)
        left = _left.get(self.address)
        # Nobody has written to it in this call, and it holds what a kernel of an earlier one did.
        self.is_left_over = left is not None and not left[0].expired() and np.array_equal(left[1], self.bytes)
        if self.is_left_over:
            self.initialized[:] = False
        self.is_written = False
        self.before = self.bytes.copy()
        self.by_kernel = np.zeros(n, bool)
        self.is_input = False
        self.reset()

    def reset(self) -> None:
        """Forget which programs touched which element: a launch begins."""
        n = len(self.initialized)
        self.writer: np.ndarray = np.full(n, -1, np.int32)
        self.reader: np.ndarray = np.full(n, -1, np.int32)
        self.atomic: np.ndarray = np.zeros(n, bool)
        self.was_read = self.was_written = self.was_changed = False

    def elements(self, tensor: torch.Tensor) -> np.ndarray:
        """Return the element numbers that ``tensor``, a view of this storage, covers."""
        if tensor.element_size() != self.unit:
            return np.arange(len(self.initialized))
        with _disable_current_modes():
            index = torch.arange(len(self.initialized)).as_strided(
                tensor.shape, tensor.stride(), tensor.storage_offset()
            )
            return index.reshape(-1).numpy()


class MemoryMonitor(TorchDispatchMode):
    """Watches the memory of everything that runs inside it: launches through :meth:`launch`, ATen calls through dispatch.

    Args:
        fill: what masked-off lanes of loads without ``other`` hold (they are undefined on a device).
        poison: fill new memory with NaN; False leaves in it what was there.
    """

    def __init__(self, fill: float = float("nan"), max_findings: int = 20, poison: bool = True) -> None:
        super().__init__()
        self.fill, self.max_findings, self.poison = fill, max_findings, poison
        self.findings: list[Finding] = []
        self.regions: dict[int, Region] = {}
        self.by_number: dict[int, Region] = {}
        self.undefined_lanes = 0
        self.flops = self._flops_before = 0
        self.kernel = ""
        self._seen: set[tuple[Any, ...]] = set()
        self._keep: list[Any] = []

    # -- regions ------------------------------------------------------------------------------------------------------
    def region(self, tensor: torch.Tensor, name: str = "") -> Region:
        """Return the region of the tensor's storage, made on first sight."""
        storage = tensor.untyped_storage()
        found = self.regions.get(storage.data_ptr())
        if found is None or found.n_bytes != storage.nbytes():
            number = len(self.by_number)
            found = Region(number, tensor, name or "?")
            self.regions[storage.data_ptr()] = self.by_number[_FIRST + number] = found
        if name:
            found.name = name
        return found

    def protect(self, tensor: torch.Tensor, name: str) -> None:
        """Declare an input: stores to it are findings."""
        if tensor.untyped_storage().nbytes():
            self.region(tensor, name).is_input = True

    def report(self, kind: str, region: Region | None, detail: str) -> None:
        """Record a finding, once per kernel, argument and source line."""
        frame, line = sys._getframe(1), -1
        while frame is not None:
            if frame.f_code.co_filename == self.source_file:
                line = frame.f_lineno
                break
            frame = frame.f_back  # type: ignore[assignment]
        name = region.name if region is not None else ""
        key = (kind, self.kernel, name, line)
        if key not in self._seen and len(self.findings) < self.max_findings:
            self._seen.add(key)
            program = tuple(int(i) for i in (getattr(stock.interpreter_builder, "grid_idx", None) or ()))
            self.findings.append(Finding(kind, self.kernel, name, line, program, detail))

    source_file = ""

    # -- one access ---------------------------------------------------------------------------------------------------
    def _program(self) -> int:
        x, y, z = stock.interpreter_builder.grid_idx
        _, ny, nz = stock.interpreter_builder.grid_dim
        return int((x * ny + y) * nz + z)

    def _resolve(self, pointers: np.ndarray, size: int, verb: str) -> list[tuple[Region, np.ndarray, np.ndarray]]:
        """Return (region, lanes, byte offsets) for the legal lanes of ``pointers`` (flat, all active)."""
        number = (pointers >> np.uint64(_SHIFT)).astype(np.int64)
        found = []
        groups = [None] if (number == number[0]).all() else list(np.unique(number))
        for k in groups:
            lanes = np.arange(len(pointers)) if k is None else np.flatnonzero(number == k)
            region = self.by_number.get(int(number[lanes[0]]))
            if region is None:
                self.report("wild_pointer", None, f"{len(lanes)} lane(s) {verb} at {int(pointers[lanes[0]]):#x}")
                continue
            offset = (pointers[lanes] & _OFFSET).astype(np.int64) - _BIAS
            bad = (offset < 0) | (offset + size > region.n_bytes)
            if bad.any():
                kind = "oob_read" if verb == "read" else "oob_write"
                n, first = region.n_bytes // size, offset[bad] // size
                self.report(kind, region, f"{int(bad.sum())} lane(s), elements {int(first.min())}..{int(first.max())} of "
                                          f"a storage of {n} (valid 0..{n - 1})")  # fmt: skip
                lanes, offset = lanes[~bad], offset[~bad]
            crooked = offset % size != 0
            if crooked.any():
                self.report("misaligned", region, f"{int(crooked.sum())} lane(s), element size {size}")
                lanes, offset = lanes[~crooked], offset[~crooked]
            if len(lanes):
                found.append((region, lanes, offset))
        return found

    def _note_read(self, region: Region, element: np.ndarray) -> None:
        me = self._program()
        region.was_read = True
        missing = ~region.initialized[element]
        if missing.any():
            left = ", which an earlier call left there" if region.is_left_over else ""
            self.report(
                "uninitialized_read", region, f"{int(missing.sum())} element(s), first {int(element[missing][0])}{left}"
            )
        writer = region.writer[element]
        other = (writer >= 0) & (writer != me) & ~region.atomic[element]
        if other.any():
            self.report("race", region, f"reads {int(other.sum())} element(s) that program {int(writer[other][0])} writes "
                                        f"in the same launch, first element {int(element[other][0])}")  # fmt: skip
        reader = region.reader[element]
        region.reader[element] = np.where((reader == -1) | (reader == me), me, _MANY)

    def _note_write(self, region: Region, element: np.ndarray, changed: np.ndarray, atomic: bool) -> None:
        me = self._program()
        region.was_written = region.is_written = True
        region.was_changed |= bool(changed.any())
        if region.is_input:
            self.report("input_write", region, f"{len(element)} element(s), first {int(element[0])}")
        writer, reader = region.writer[element], region.reader[element]
        if atomic:
            clash = (writer >= 0) & (writer != me) & ~region.atomic[element]
            if clash.any():
                self.report("race", region, f"updates atomically {int(clash.sum())} element(s) that another program stores "
                                            "to in the same launch without an atomic")  # fmt: skip
            missing = ~region.initialized[element]
            if missing.any():
                self.report("uninitialized_read", region, f"atomic update of {int(missing.sum())} element(s) that nobody "
                                                          f"initialised, first {int(element[missing][0])}")  # fmt: skip
            region.atomic[element] = True
        else:
            clash = (writer >= 0) & (writer != me) & changed
            if clash.any():
                self.report("race", region, f"overwrites {int(clash.sum())} element(s) with other values than program "
                                            f"{int(writer[clash][0])} stores in the same launch, first element "
                                            f"{int(element[clash][0])}")  # fmt: skip
            clash = (((reader >= 0) & (reader != me)) | (reader == _MANY)) & changed
            if clash.any():
                self.report("race", region, f"overwrites {int(clash.sum())} element(s) that another program reads in the "
                                            f"same launch, first element {int(element[clash][0])}")  # fmt: skip
        region.writer[element] = me
        region.initialized[element] = True
        region.by_kernel[element] = True

    @staticmethod
    def _elements(region: Region, offset: np.ndarray, size: int) -> np.ndarray:
        first = offset // region.unit
        if size <= region.unit:
            return first
        return (first[:, None] + np.arange(size // region.unit)).reshape(-1)

    def load(self, ptrs: Any, mask: Any, other: Any) -> Any:
        """Perform a masked load."""
        dtype = ptrs.get_element_ty()
        np_dtype = stock._get_np_dtype(dtype)
        shape = ptrs.data.shape
        flat = np.ascontiguousarray(ptrs.data).reshape(-1).astype(np.uint64, copy=False)
        on = np.broadcast_to(mask, shape).reshape(-1)
        active = np.flatnonzero(on)
        out = np.empty(len(flat), np_dtype)
        if len(active) < len(flat):
            if other is not None:
                out[:] = np.broadcast_to(other.data, shape).reshape(-1)
            else:
                self.undefined_lanes += len(flat) - len(active)
                out[:] = self._undefined(dtype, np_dtype)
        if len(active):
            # An access outside its tensor was reported; it then reads what an undefined lane holds.
            if len(active) == len(flat):
                out[:] = self._undefined(dtype, np_dtype)
            for region, lanes, offset in self._resolve(flat[active], np_dtype.itemsize, "read"):
                self._note_read(region, self._elements(region, offset, np_dtype.itemsize))
                whole = region.bytes[: region.n_bytes // np_dtype.itemsize * np_dtype.itemsize].view(np_dtype)
                out[active[lanes]] = whole[offset // np_dtype.itemsize]
        return Handle(out.reshape(shape), dtype)

    def _undefined(self, dtype: Any, np_dtype: np.dtype) -> Any:
        if dtype.is_floating():
            limit = 3e4 if np_dtype == np.float16 else 3e38
            value = self.fill if self.fill != self.fill else float(np.clip(self.fill, -limit, limit))
            return narrow(np.array([value], np.float32), dtype)[0]
        if np_dtype == np.bool_ or np_dtype.kind not in "iu":
            return np.zeros(1, np_dtype)[0]
        return np_dtype.type(0x55) if self.fill > 0 else np_dtype.type(0x2A)

    def store(self, ptrs: Any, value: Any, mask: Any) -> None:
        """Perform a masked store."""
        np_dtype = stock._get_np_dtype(ptrs.get_element_ty())
        shape = ptrs.data.shape
        flat = np.ascontiguousarray(ptrs.data).reshape(-1).astype(np.uint64, copy=False)
        active = np.flatnonzero(np.broadcast_to(mask, shape).reshape(-1))
        if not len(active):
            return
        values = (
            np.ascontiguousarray(np.broadcast_to(value.data, shape)).reshape(-1)[active].astype(np_dtype, copy=False)
        )
        for region, lanes, offset in self._resolve(flat[active], np_dtype.itemsize, "write"):
            whole = region.bytes[: region.n_bytes // np_dtype.itemsize * np_dtype.itemsize].view(np_dtype)
            index, new = offset // np_dtype.itemsize, values[lanes]
            changed = whole[index].view(f"u{np_dtype.itemsize}") != new.view(f"u{np_dtype.itemsize}")
            element = self._elements(region, offset, np_dtype.itemsize)
            if len(element) != len(index):
                changed = np.repeat(changed, len(element) // len(index))
            self._note_write(region, element, changed, False)
            whole[index] = new
            if (whole[index].view(f"u{np_dtype.itemsize}") != new.view(f"u{np_dtype.itemsize}")).any():
                self.report("lane_conflict", region, "two lanes of one store differ in value and share an address")

    def update(self, op: str, ptr: Any, value: Any, mask: Any) -> Any:
        """Perform an atomic read-modify-write; returns the old values."""
        dtype = ptr.get_element_ty()
        np_dtype = stock._get_np_dtype(dtype)
        shape = ptr.data.shape
        flat = np.ascontiguousarray(ptr.data).reshape(-1).astype(np.uint64, copy=False)
        active = np.flatnonzero(np.broadcast_to(mask, shape).reshape(-1))
        values = np.broadcast_to(value.data, shape).reshape(-1)
        old = np.zeros(len(flat), np_dtype)
        if len(active):
            for region, lanes, offset in self._resolve(flat[active], np_dtype.itemsize, "update"):
                element = self._elements(region, offset, np_dtype.itemsize)
                self._note_write(region, element, np.ones(len(element), bool), True)
                whole = region.bytes[: region.n_bytes // np_dtype.itemsize * np_dtype.itemsize].view(np_dtype)
                index, lane = offset // np_dtype.itemsize, active[lanes]
                step = _UPDATES[op]
                if len(np.unique(index)) == len(index):
                    old[lane] = whole[index]
                    whole[index] = narrow(step(widen(old[lane], dtype), widen(values[lane], dtype)), dtype)
                else:
                    for i, j in zip(index, lane, strict=True):
                        old[j] = whole[i]
                        new = step(widen(whole[i : i + 1], dtype), widen(values[j : j + 1], dtype))
                        whole[i] = narrow(np.asarray(new), dtype)[0]
        return Handle(old.reshape(shape), value.dtype.scalar)

    def compare_and_swap(self, ptr: Any, expected: Any, value: Any) -> Any:
        """Perform an atomic compare-and-swap; returns the old values."""
        dtype = ptr.get_element_ty()
        want = np.broadcast_to(expected.data, ptr.data.shape)
        old = self.update("OR" if not dtype.is_floating() else "FADD", ptr, Handle(np.zeros_like(want), dtype), True)
        hit = old.data == want
        if hit.any():
            self.update("XCHG", ptr, Handle(np.broadcast_to(value.data, ptr.data.shape), dtype), hit)
        return Handle(old.data, expected.dtype.scalar)

    # -- launches -----------------------------------------------------------------------------------------------------
    def begin_launch(self, kernel: str, arguments: dict[str, Any]) -> None:
        """Name the tensors of a launch and forget the programs of the last one."""
        self.kernel = kernel
        self._flops_before = self.flops
        for name, value in arguments.items():
            tensor = getattr(value, "base", value) if not isinstance(value, torch.Tensor) else value
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes():
                self.region(tensor, name)
        for region in self.by_number.values():
            region.reset()

    def end_launch(self) -> tuple[set[int], set[int]]:
        """Return the addresses of the storages that the launch read and wrote.

        A launch counts as work where what it wrote is neither what was there nor a copy of what it read.
        """
        self.kernel = ""
        read_regions = [r for r in self.by_number.values() if r.was_read]
        new = [r for r in self.by_number.values() if r.was_changed]
        new = [r for r in new if not any(q is not r and np.array_equal(q.bytes, r.bytes) for q in read_regions)]
        self.flops = max(self.flops, self._flops_before + 1) if new else self._flops_before
        read = {r.address for r in self.by_number.values() if r.was_read or r.atomic.any()}
        return read, {r.address for r in self.by_number.values() if r.was_written}

    def remember(self) -> None:
        """Keep in mind what kernels left in memory, for the next call that meets it: the call has ended."""
        for address in [a for a, (storage, _) in _left.items() if storage.expired()]:
            del _left[address]
        for r in self.by_number.values():
            if r.is_written and not r.is_input and (r.is_left_over or not np.array_equal(r.before, r.bytes)):
                _left[r.address] = StorageWeakRef(r.storage), r.bytes.copy()

    def pointer(self, tensor: torch.Tensor) -> int:
        """Return the made-up address of a tensor's first element."""
        region = self.region(tensor)
        return region.base + tensor.storage_offset() * tensor.element_size()

    # -- ATen ---------------------------------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        written = written_arguments(func, args, kwargs)
        if name not in _EMPTY and not func.is_view and not name.endswith("_like"):
            self._check_reads(name, args, kwargs, written)
        out = func(*args, **kwargs)
        for tensor in written:
            region = self.regions.get(tensor.untyped_storage().data_ptr())
            if region is not None:
                region.initialized[region.elements(tensor)] = True
                if name in _OVERWRITES or any(a.kwarg_only and a.alias_info for a in func._schema.arguments):
                    source = args[1] if name == "aten::copy_" else None
                    region.by_kernel[region.elements(tensor)] = (
                        isinstance(source, torch.Tensor) and self.share_by_kernels(source) > 0
                    )
                if region.is_input:
                    self.report("input_write", region, f"{name} writes to it in place")
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._keep.append(tensor)  # an address must mean one storage for as long as we look
                if name in _EMPTY and tensor.untyped_storage().nbytes():
                    region = self.region(tensor, name.removeprefix("aten::"))
                    region.initialized[:] = False
                    if self.poison:
                        region.bytes[:] = 0xFF  # NaN in every float type
        return out

    def _check_reads(self, name: str, args: Any, kwargs: Any, written: list[torch.Tensor]) -> None:
        skip = {t.untyped_storage().data_ptr() for t in written}
        for tensor in tree_leaves((args, kwargs)):
            if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu":
                continue
            address = tensor.untyped_storage().data_ptr()
            region = self.regions.get(address)
            if region is None or address in skip or region.initialized.all():
                continue
            missing = ~region.initialized[region.elements(tensor)]
            if missing.any():
                self.report(
                    "uninitialized_read", region, f"{name} reads {int(missing.sum())} element(s) that nobody wrote"
                )

    def check_output(self, tensor: torch.Tensor, name: str) -> None:
        """Report elements of an output that nobody wrote."""
        region = self.regions.get(tensor.untyped_storage().data_ptr())
        if region is None or not tensor.numel():
            return
        missing = ~region.initialized[region.elements(tensor)]
        if missing.any():
            first = np.unravel_index(int(np.flatnonzero(missing)[0]), tuple(tensor.shape))
            region.name = name
            self.report("unwritten_output", region, f"{int(missing.sum())} of {missing.size} elements, first at index "
                                                    f"{[int(i) for i in first]}")  # fmt: skip

    def share_by_kernels(self, tensor: torch.Tensor) -> float:
        """Return the share of a tensor's elements that a Triton kernel wrote."""
        region = self.regions.get(tensor.untyped_storage().data_ptr())
        return 0.0 if region is None or not tensor.numel() else float(region.by_kernel[region.elements(tensor)].mean())


_UPDATES = {
    "ADD": np.add, "FADD": np.add, "MAX": np.maximum, "UMAX": np.maximum, "MIN": np.minimum, "UMIN": np.minimum,
    "AND": np.bitwise_and, "OR": np.bitwise_or, "XOR": np.bitwise_xor, "XCHG": lambda old, new: new,
}  # fmt: skip


def written_arguments(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the tensors that an ATen call writes to in place."""
    found = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]
    return found


#: What kernels of earlier calls left in memory that is still there: address of the storage -> (the storage, its bytes).
_left: dict[int, tuple[StorageWeakRef, np.ndarray]] = {}

_active: MemoryMonitor | None = None


def set_monitor(monitor: MemoryMonitor | None) -> None:
    """Choose the monitor that kernels run under."""
    global _active
    _active = monitor


def address_of(tensor: torch.Tensor) -> int:
    """Return the address that kernels know a tensor by: made up where a monitor is active, the machine's otherwise."""
    return tensor.data_ptr() if _active is None else _active.pointer(tensor)


def active_monitor() -> MemoryMonitor:
    """Return the monitor that kernels run under; launching without one is a bug of the judge."""
    assert _active is not None
    return _active


def install() -> None:
    """Lead every memory access of the interpreter through the active monitor; once per process."""
    builder = stock.InterpreterBuilder

    def raw(mask: Any) -> Any:
        return mask.data if isinstance(mask, Handle) else mask

    def create_masked_load(self: Any, ptrs: Any, mask: Any, other: Any, *policy: Any, **named: Any) -> Any:
        return active_monitor().load(ptrs, raw(mask), other)

    def create_masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *policy: Any, **named: Any) -> Any:
        return active_monitor().store(ptrs, value, raw(mask))

    def create_load(self: Any, ptr: Any, *policy: Any, **named: Any) -> Any:
        return active_monitor().load(ptr, True, None)

    def create_store(self: Any, ptr: Any, value: Any, *policy: Any, **named: Any) -> Any:
        return active_monitor().store(ptr, value, True)

    def create_atomic_rmw(self: Any, op: Any, ptr: Any, value: Any, mask: Any, *order: Any) -> Any:
        return active_monitor().update(op.name, ptr, value, raw(mask))

    def create_atomic_cas(self: Any, ptr: Any, cmp: Any, value: Any, *order: Any) -> Any:
        return active_monitor().compare_and_swap(ptr, cmp, value)

    for f in (create_masked_load, create_masked_store, create_load, create_store, create_atomic_rmw, create_atomic_cas):
        setattr(builder, f.__name__, f)

    count_binary, count_unary, count_dot = builder.binary_op, builder.unary_op, builder.create_dot

    def binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
        if _active is not None and lhs.dtype.scalar.is_floating():
            _active.flops += max(lhs.data.size, rhs.data.size)
        return count_binary(self, lhs, rhs, op)

    def unary_op(self: Any, arg: Any, op: Any) -> Any:
        if _active is not None and arg.dtype.scalar.is_floating():
            _active.flops += arg.data.size
        return count_unary(self, arg, op)

    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if _active is not None:
            _active.flops += 2 * a.data.size * b.data.shape[-1]
        return count_dot(self, a, b, d, *rest)

    builder.binary_op, builder.unary_op, builder.create_dot = binary_op, unary_op, create_dot

    stock_convert = stock._implicit_cvt

    def implicit_cvt(argument: Any) -> Any:
        if isinstance(argument, torch.Tensor) or (hasattr(argument, "data_ptr") and not isinstance(argument, tuple)):
            tensor = stock._unwrap_tensor(argument)
            dtype = tl.str_to_ty(stock.triton.runtime.jit.mangle_type(argument), None)
            address = active_monitor().pointer(tensor)
            return tl.tensor(Handle(np.array([address], dtype=np.uint64), dtype), dtype)
        return stock_convert(argument)

    stock._implicit_cvt = implicit_cvt
