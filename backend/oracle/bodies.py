"""Values of ``scalar``, ``reduce`` and ``index`` bodies on float64 tensors.

An iteration variable is an integer tensor that varies along one axis of the iteration space and has size one along the
others.  Axes are numbered from the right (*position* 0 is the last): the coordinates of the result come first, the variables
of a ``sum{k in K}`` stand to their left, so that ordinary broadcasting aligns everything and a fold reduces leading axes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from ...ir import InternalError, Unsupported, decide, evaluate
from ...ir.evaluate import FUNCTIONS
from ...ir.expr import Bin, Call, Cond, Expr, Fold, Load, Lst, Num, Pack, Sym, Unary
from ...ir.intrinsics import INTRINSICS
from ..resolve import resolve

#: Elements of the iteration space that a fold keeps at once; longer ranges are looped over.
FOLD_ELEMENTS = 2**22

#: Where a value of each dtype is kept: floats as float64, integers and booleans as they are.
KEPT_DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "i32": torch.int32, "i64": torch.int64,
    "f16": torch.float64, "bf16": torch.float64, "f32": torch.float64, "f64": torch.float64,
}  # fmt: skip

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TENSOR_BINARY: dict[str, Callable[[Any, Any], torch.Tensor]] = _BINARY | {
    "//": torch.floor_divide, "%": torch.remainder, "**": torch.pow, "and": torch.logical_and, "or": torch.logical_or,
}  # fmt: skip


def is_float_value(v: Any) -> bool:
    """Return whether ``v`` is a floating-point tensor or number."""
    return v.is_floating_point() if isinstance(v, torch.Tensor) else isinstance(v, float)


def to_tensor(v: Any, like: torch.Tensor | None = None, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return a number as a rank-0 tensor: float64, int64 or bool; tensors pass."""
    if isinstance(v, torch.Tensor):
        return v
    dtype = torch.bool if isinstance(v, bool) else torch.float64 if isinstance(v, float) else torch.int64
    return torch.tensor(v, dtype=dtype, device=like.device if like is not None else device)


def promoted(values: list[Any]) -> list[torch.Tensor]:
    """Return ``values`` as tensors of one kind: float64 where any is a float, else integers of the widest type, else bool."""
    device = next((v.device for v in values if isinstance(v, torch.Tensor)), "cpu")
    tensors = [to_tensor(v, device=device) for v in values]
    if any(is_float_value(v) for v in values):
        return [t if t.is_floating_point() else t.to(torch.float64) for t in tensors]
    kinds = [t.dtype for v, t in zip(values, tensors) if isinstance(v, torch.Tensor)] or [t.dtype for t in tensors]
    dtype = kinds[0]
    for kind in kinds[1:]:
        dtype = torch.promote_types(dtype, kind)
    if dtype == torch.bool and any(t.dtype != torch.bool for t in tensors):
        dtype = torch.int64
    return [t.to(dtype) for t in tensors]


def combine(combiner: str, v: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """Reduce ``axes`` of ``v``; the first of equal extremes wins ``argmax`` and ``argmin``, NaN wins over all."""
    if not axes:
        axes_kept = v.unsqueeze(0)
        return combine(combiner, axes_kept, [0])
    match combiner:
        case "sum":
            return v.to(torch.int64).sum(axes) if v.dtype == torch.bool else v.sum(axes)
        case "prod":
            for axis in sorted(axes, reverse=True):
                v = v.prod(axis)
            return v
        case "max" | "min":
            wide = v.to(torch.uint8) if v.dtype == torch.bool else v
            return (wide.amax(axes) if combiner == "max" else wide.amin(axes)).to(v.dtype)
        case "any" | "all":
            for axis in sorted(axes, reverse=True):
                v = v.any(axis) if combiner == "any" else v.all(axis)
            return v.to(torch.bool)
        case "argmax" | "argmin":
            kept = [a for a in range(v.ndim) if a not in axes]
            flat = v.permute(*kept, *axes).reshape(*(v.shape[a] for a in kept), -1)
            extreme = flat.amax(-1, keepdim=True) if combiner == "argmax" else flat.amin(-1, keepdim=True)
            hit = (flat == extreme) | (flat != flat)
            count = flat.shape[-1]
            place = torch.arange(count, device=v.device)
            return torch.where(hit, place, count).amin(-1)
    raise InternalError(f"combiner {combiner} has no meaning in the oracle")


def identity_of(combiner: str, dtype: torch.dtype) -> bool | int | float:
    """Return the value that leaves every other unchanged under ``combiner``."""
    floating = dtype.is_floating_point
    if combiner in ("max", "min"):
        if dtype == torch.bool:
            return combiner == "min"
        lowest: float = -math.inf if floating else torch.iinfo(dtype).min
        highest: float = math.inf if floating else torch.iinfo(dtype).max
        return lowest if combiner == "max" else highest
    fixed: dict[str, bool | int | float] = {"sum": 0, "prod": 1, "any": False, "all": True}
    if combiner not in fixed:
        raise Unsupported(f"{combiner} over a range that depends on the coordinates")
    return fixed[combiner]


def merge(combiner: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Combine two partial folds."""
    table: dict[str, Callable[..., torch.Tensor]] = {
        "sum": torch.add, "prod": torch.mul, "max": torch.maximum, "min": torch.minimum,
        "any": torch.logical_or, "all": torch.logical_and,
    }  # fmt: skip
    return table[combiner](a, b)


@attrs.define
class Body:
    """The evaluation of one body.

    Attributes:
        env: sizes, packs, attributes, lets, dtype variables and ``present`` flags, as ``infer`` binds them.
        tensors: operands by name: a tensor (float64, integer or bool), a tuple of them, or None.
        device: where iteration variables live.
        bound: iteration variables by name: a tensor, a number (in a looped fold), or a tuple of tensors for a pack.
        places: identity of an iteration variable's tensor -> (position, size).
        depth: axes of the iteration space so far.
        elements: product of their sizes.
        valid: where the fold ranges that depend on coordinates have a value; loads elsewhere are not made.
    """

    env: Mapping[str, Any]
    tensors: Mapping[str, Any]
    device: torch.device
    bound: dict[str, Any] = attrs.field(factory=dict)
    places: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    depth: int = 0
    elements: int = 1
    valid: torch.Tensor | None = None

    # -- iteration variables ------------------------------------------------------------------------------------------
    def variable(self, position: int, size: int) -> torch.Tensor:
        """Return a new iteration variable ``0..size-1`` along ``position``."""
        t = torch.arange(size, device=self.device).reshape(size, *(1,) * position)
        self.places[id(t)] = (position, size)
        return t

    def bind_coordinates(self, coordinates: tuple[Expr, ...], shape: tuple[int, ...]) -> None:
        """Bind the coordinates of the result, a pack to as many axes as the others leave."""
        rank = len(shape)
        rest = rank - sum(not isinstance(c, Pack) for c in coordinates)
        axis = 0
        for c in coordinates:
            count = rest if isinstance(c, Pack) else 1
            own = tuple(self.variable(rank - 1 - a, shape[a]) for a in range(axis, axis + count))
            axis += count
            if isinstance(c, Pack):
                self.bound[c.name] = own
            elif isinstance(c, Sym):
                self.bound[c.name] = own[0]
        self.depth, self.elements = rank, math.prod(shape)

    # -- expressions --------------------------------------------------------------------------------------------------
    def value(self, e: Expr) -> Any:
        """Return the value of ``e``: a tensor that broadcasts over the iteration space, a number, a list or a flag."""
        match e:
            case Num(v):
                return v
            case Sym(n) | Pack(n):
                if n in self.bound:
                    return self.bound[n]
                if n in self.tensors:
                    return self.tensors[n]
                return self.env[n]
            case Lst(items):
                return self.spliced(items)
            case Bin(op, a, b):
                return self.binary(op, self.value(a), self.value(b))
            case Unary(op, a):
                v = self.value(a)
                if isinstance(v, torch.Tensor):
                    return torch.logical_not(v) if op == "not" else -v
                return (not v) if op == "not" else -v
            case Cond(test, a, b):
                return self.value(a if decide(test, self.env) else b)
            case Call():
                return self.call(e)
            case Load(n, index):
                return self.load(n, index)
            case Fold():
                return self.fold(e)
        raise InternalError(f"{type(e).__name__} has no value in a body")

    def spliced(self, items: tuple[Expr, ...], lists: bool = False) -> tuple[Any, ...]:
        """Return the values of ``items``, packs spliced in, and lists too if ``lists``."""
        out: list[Any] = []
        for item in items:
            v = self.value(item)
            if isinstance(v, (tuple, list)) and (lists or isinstance(item, Pack)):
                out += v
            else:
                out.append(v)
        return tuple(out)

    def binary(self, op: str, a: Any, b: Any) -> Any:
        """Apply an operator; integers meet floats as float64, booleans take part in arithmetic as integers."""
        if not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor):
            if op == "and":
                return a and b
            return (a or b) if op == "or" else _BINARY[op](a, b)
        if op in ("and", "or"):
            return _TENSOR_BINARY[op](*(to_tensor(v, device=self.device) for v in (a, b)))
        a, b = promoted([a, b])
        if a.dtype == torch.bool and op in ("+", "-", "*", "//", "%", "**"):
            a, b = a.to(torch.int64), b.to(torch.int64)
        if op == "/" and not a.is_floating_point():
            a, b = a.to(torch.float64), b.to(torch.float64)
        return _TENSOR_BINARY[op](a, b)

    def call(self, e: Call) -> Any:
        """Apply an intrinsic, ``pad``, or a function of lists."""
        if e.fn == "pad":
            target, fill = e.args
            if not isinstance(target, Load):
                raise Unsupported("pad of anything but a load")
            return self.load(target.name, target.index, fill=self.fill(target.name, self.value(fill)))
        if e.fn == "present":
            return evaluate(e, self.env)
        if e.fn == "cast":
            operand, to = e.args
            return to_tensor(self.value(operand), device=self.device).to(KEPT_DTYPES[self.value(to)])
        arguments = self.spliced(e.args)
        row = INTRINSICS.get(e.fn)
        if row is not None and (e.fn not in FUNCTIONS or any(isinstance(a, torch.Tensor) for a in arguments)):
            if e.fn == "where":
                test, *branches = arguments
                return torch.where(to_tensor(test, device=self.device).to(torch.bool), *promoted(branches))
            function = resolve(row.torch)
            values = promoted(list(arguments))
            if values[0].dtype == torch.bool and e.fn in ("abs", "sign", "max", "min"):
                values = [v.to(torch.uint8) for v in values]
                return function(*values).to(torch.bool)
            return function(*values)
        return FUNCTIONS[e.fn](*arguments, **{k: self.value(v) for k, v in e.kwargs})

    def fill(self, name: str, value: Any) -> Any:
        """Return what stands outside an operand; of integers, an infinity is the lowest or highest of their dtype."""
        x = self.tensors.get(name)
        if isinstance(value, float) and math.isinf(value) and isinstance(x, torch.Tensor):
            if x.dtype.is_floating_point or x.dtype == torch.bool:
                return value
            return torch.iinfo(x.dtype).max if value > 0 else torch.iinfo(x.dtype).min
        return value

    # -- loads --------------------------------------------------------------------------------------------------------
    def load(self, name: str, index: tuple[Expr, ...], fill: Any = None) -> Any:
        """Return elements of an operand, or an item of a list; outside an operand the value is ``fill``, if given."""
        items = self.spliced(index, lists=True)
        if name not in self.tensors:
            whole = self.value(Sym(name))
            return whole[items[0]]
        x = self.tensors[name]
        if len(items) != x.ndim:
            raise InternalError(f"load of {name} has {len(items)} indices, expected {x.ndim}")
        direct = self.view(x, items)
        return direct if direct is not None else self.gather(name, x, items, fill)

    def view(self, x: torch.Tensor, items: tuple[Any, ...]) -> torch.Tensor | None:
        """Return the load without a gather where each index is a number or an iteration variable of its own; else None."""
        kept: list[tuple[int, int]] = []
        for axis in range(x.ndim - 1, -1, -1):
            item = items[axis]
            if isinstance(item, torch.Tensor):
                place = self.places.get(id(item))
                if place is None or place[1] > x.shape[axis] or any(p == place[0] for p, _ in kept):
                    return None
                kept.insert(0, place)
            elif not 0 <= item < x.shape[axis]:
                return None
        for axis in range(x.ndim - 1, -1, -1):
            item = items[axis]
            x = x.narrow(axis, 0, self.places[id(item)][1]) if isinstance(item, torch.Tensor) else x.select(axis, item)
        order = sorted(range(len(kept)), key=lambda i: -kept[i][0])
        sizes = dict(kept)
        highest = max(sizes, default=-1)
        return x.permute(order).reshape([sizes.get(p, 1) for p in range(highest, -1, -1)])

    def gather(self, name: str, x: torch.Tensor, items: tuple[Any, ...], fill: Any) -> torch.Tensor:
        """Return ``x[items]`` with broadcast integer indices."""
        inside: torch.Tensor | None = None
        indices: list[torch.Tensor] = []
        for axis, item in enumerate(items):
            t = to_tensor(item, like=x).to(torch.int64)
            size = x.shape[axis]
            within = (t >= 0) & (t < size)
            if not bool(within.all()):
                if fill is None and not (self.valid is not None and bool((within | ~self.valid).all())):
                    raise Unsupported(
                        f"index {int(t.min())}..{int(t.max())} of axis {axis} lies outside 0..{size - 1}", subject=name
                    )
                if fill is not None:
                    inside = within if inside is None else inside & within
                t = t.clamp(0, max(size - 1, 0))
            indices.append(t)
        if x.numel() == 0 and inside is not None:
            shape = torch.broadcast_shapes(*(t.shape for t in indices))
            return torch.full(shape, fill, dtype=x.dtype, device=x.device)
        v = x[tuple(indices)] if indices else x
        if inside is None:
            return v
        return torch.where(inside, *promoted([v, fill]))

    # -- folds --------------------------------------------------------------------------------------------------------
    def fold(self, e: Fold) -> torch.Tensor:
        """Return ``sum{k in K} body`` over the iteration space so far."""
        ranges = [(n, self.value(r)) for n, r in e.ranges]
        if e.combiner == "sum" and all(isinstance(r, int) for _, r in ranges):
            product = self.contraction(e.body, ranges)
            if product is not None:
                return product
        return self.fold_ranges(e.combiner, ranges, e.body)

    def fold_ranges(self, combiner: str, ranges: list[tuple[str, Any]], body: Expr) -> torch.Tensor:
        """Return the fold over ``ranges``: as axes of the iteration space while it stays small, else range by range."""
        sizes = [(int(r.max()) if r.numel() else 0) if isinstance(r, torch.Tensor) else r for _, r in ranges]
        if self.elements * math.prod(sizes) > FOLD_ELEMENTS and combiner not in ("argmax", "argmin"):
            (name, extent), *rest = ranges
            if sizes[0] > 1 and not isinstance(extent, torch.Tensor):
                total: torch.Tensor | None = None
                for k in range(sizes[0]):
                    self.bound[name] = k
                    part = (
                        self.fold_ranges(combiner, rest, body)
                        if rest
                        else to_tensor(self.value(body), device=self.device)
                    )
                    total = part if total is None else merge(combiner, *promoted([total, part]))
                del self.bound[name]
                assert total is not None
                return total.to(torch.int64) if combiner == "sum" and total.dtype == torch.bool else total
        depth, elements = self.depth, self.elements
        valid: torch.Tensor | None = None
        for (name, extent), size in zip(reversed(ranges), reversed(sizes)):
            variable = self.variable(self.depth, size)
            self.bound[name] = variable
            self.depth, self.elements = self.depth + 1, self.elements * size
            if isinstance(extent, torch.Tensor):
                within = variable < extent
                valid = within if valid is None else valid & within
        outer = self.valid
        self.valid = valid if outer is None else outer if valid is None else outer & valid
        v = to_tensor(self.value(body), device=self.device)
        self.valid = outer
        for name, _ in ranges:
            self.places.pop(id(self.bound.pop(name)))
        if valid is not None:
            v = torch.where(valid, v, torch.tensor(identity_of(combiner, v.dtype), dtype=v.dtype, device=v.device))
        self.depth, self.elements = depth, elements
        n = len(ranges)
        v = v.reshape(*(1,) * (depth + n - v.ndim), *v.shape)
        v = v.expand(*sizes, *v.shape[n:])
        return combine(combiner, v, list(range(n)))

    def contraction(self, body: Expr, ranges: list[tuple[str, Any]]) -> torch.Tensor | None:
        """Return the sum of a product of loads by plain variables through ``einsum``; None where the body is not one."""
        factors: list[Load] = []

        def collect(e: Expr) -> bool:
            if isinstance(e, Bin) and e.op == "*":
                return collect(e.a) and collect(e.b)
            if isinstance(e, Load) and isinstance(self.tensors.get(e.name), torch.Tensor):
                factors.append(e)
                return True
            return False

        if not collect(body) or len(factors) < 2:
            return None
        own: dict[str, torch.Tensor] = {}
        for i, (name, size) in enumerate(reversed(ranges)):
            own[name] = self.bound[name] = self.variable(self.depth + i, size)
        try:
            arguments: list[Any] = []
            sizes: dict[int, int] = {}
            for f in factors:
                items = self.spliced(f.index, lists=True)
                x = self.tensors[f.name]
                letters = []
                for axis, item in enumerate(items):
                    place = self.places.get(id(item))
                    if place is None or place[1] != x.shape[axis] or place[0] in letters:
                        return None
                    letters.append(place[0])
                    sizes[place[0]] = place[1]
                arguments += [x if x.is_floating_point() else x.to(torch.int64), letters]
            if any(self.depth + i not in sizes for i in range(len(ranges))) or max(sizes) > 51:
                return None
            kept = [p for p in sorted(sizes, reverse=True) if p < self.depth]
            if len({a.dtype for a in arguments[::2]}) > 1:
                return None
            v = torch.einsum(*arguments, kept)
            return v.reshape([sizes.get(p, 1) for p in range(max(kept, default=-1), -1, -1)])
        finally:
            for name, t in own.items():
                del self.bound[name]
                del self.places[id(t)]
