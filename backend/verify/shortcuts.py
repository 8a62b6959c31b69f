"""Shorter ways through Triton's interpreter: the same results with less of Python between the numpy calls.

Small kernels spend nearly all of a verdict in the language's rules for types and shapes, not on numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock


def install_caches() -> None:
    """Remember numpy's types and what follows from a shape: the stock functions derive them at each call."""
    stock_type = stock._get_np_dtype
    known: dict[str, Any] = {}

    def get_np_dtype(dtype: Any) -> Any:
        if type(dtype) is not tl.dtype:
            return stock_type(dtype)
        found = known.get(dtype.name)
        if found is None:
            found = known[dtype.name] = stock_type(dtype)
        return found

    stock._get_np_dtype = get_np_dtype

    # Types of blocks are made anew for each operation.
    stock_block, stock_tensor = tl.block_type.__init__, tl.core.tensor.__init__
    blocks: dict[Any, dict[str, Any]] = {}
    scalar: dict[str, Any] = {}

    def block_init(self: Any, element_ty: Any, shape: Any) -> None:
        place = getattr(element_ty, "address_space", None)
        key = (type(element_ty), element_ty.name, place, *(s.value if type(s) is tl.constexpr else s for s in shape))
        derived = blocks.get(key)
        if derived is None:
            stock_block(self, element_ty, shape)
            derived = blocks[key] = {k: v for k, v in vars(self).items() if k != "element_ty"}
            derived["derived"] = derived
        self.element_ty = element_ty
        vars(self).update(derived)

    def tensor_init(self: Any, handle: Any, type: Any) -> None:
        derived = vars(type).get("derived", scalar)
        parts = derived.get("tensor")
        if parts is None:
            stock_tensor(self, handle, type)
            derived["tensor"] = (self.shape, self.numel)
        else:
            self.handle, self.type, self.dtype = handle, type, type.scalar
            self.shape, self.numel = parts

    tl.block_type.__init__, tl.core.tensor.__init__ = block_init, tensor_init


#: Types of operands that need no conversion where both have it.
_ALIKE = frozenset(("fp32", "fp64", "fp16", "bf16", "int32", "int64", "int1"))
_LARGEST = {"int32": 2**31 - 1, "int64": 2**63 - 1}


def install_matching() -> None:
    """Match the operands of an operation at once in the cases that nearly all operations are.

    Two values of one type and one shape are what the language's rules make of them, and so is a number that its operand's
    type can hold; everything else is left to the rules.
    """
    semantic = stock.interpreter_semantic
    stock_match, stock_broadcast = semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value
    tensor, block = tl.core.tensor, tl.block_type
    numbers: dict[Any, np.ndarray] = {}

    def spread(value: Any, like: Any) -> Any:
        kind = like if like.scalar is value.type else like.with_element_ty(value.type.scalar)
        return tensor(semantic.builder.create_splat(kind, value.handle), kind)

    def broadcast(lhs: Any, rhs: Any) -> Any:
        left, right = lhs.type, rhs.type
        if type(left) is block:
            if type(right) is not block:
                return lhs, spread(rhs, left)
            if left.shape == right.shape:
                return lhs, rhs
            return stock_broadcast(lhs, rhs)
        return (spread(lhs, right), rhs) if type(right) is block else (lhs, rhs)

    def number(value: int, like: Any) -> Any:
        kind = like.type
        shape = tuple(kind.shape) if type(kind) is block else (1,)
        key = (like.dtype.name, value, shape)
        data = numbers.get(key)
        if data is None:
            data = numbers[key] = np.full(shape, value, dtype=stock._get_np_dtype(like.dtype))
            data.flags.writeable = False
        return tensor(stock.TensorHandle(data, like.dtype), kind)

    def match(
        lhs: Any, rhs: Any, left_pointer: bool = False, right_pointer: bool = False, arithmetic: bool = True,
        division: bool = False,
    ) -> Any:  # fmt: skip
        left, right = type(lhs), type(rhs)
        if left is tensor and right is tensor:
            name = lhs.dtype.name
            if name == rhs.dtype.name and name in _ALIKE and not (division and name in ("fp16", "bf16", "int1")):
                return broadcast(lhs, rhs)
        elif left is tensor and right is int and arithmetic:
            most = _LARGEST.get(lhs.dtype.name)
            if most is not None and -most <= rhs <= most:
                return lhs, number(rhs, lhs)
        elif right is tensor and left is int and arithmetic:
            most = _LARGEST.get(rhs.dtype.name)
            if most is not None and -most <= lhs <= most:
                return number(lhs, rhs), rhs
        return stock_match(lhs, rhs, left_pointer, right_pointer, arithmetic, division)

    semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value = match, broadcast

    stock_unwrap = tl.core._unwrap_if_constexpr
    plain = frozenset((tensor, int, float, bool, str, type(None)))
    tl.core._unwrap_if_constexpr = lambda value: value if type(value) in plain else stock_unwrap(value)
