"""PyTorch's tensors with ring elements beside their floats.

A :class:`Shadows` keeps elements for storages of floats.  :class:`ShadowMode` runs PyTorch code and gives every float tensor
that an ATen operator makes its elements: views share them as they share their memory, operators that move numbers move
elements, the others compute them by the laws of :mod:`.functions`.  The oracle's readings of definitions and a candidate's
launcher run under the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ....ir.errors import Unsupported
from . import functions as fn
from .element import ALL_LEVELS, Algebra, Elements, broadcast, select
from .field import LEVELS

#: Elements of the largest tensor that gets ring elements.
LARGEST = 2**22

_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted", "resize_", "set_"}


class Shadow:
    """The elements of one storage: flat, one for each float that it holds."""

    def __init__(self, algebra: Algebra, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.storage, self.unit = storage, tensor.element_size()
        n = storage.nbytes() // self.unit
        if n > LARGEST:
            raise Unsupported(f"a tensor of {n} elements, more than {LARGEST}", subject="algebra")
        self.v = np.zeros(n)
        self.r = np.zeros((LEVELS, n), np.int64)
        self.lawful = ALL_LEVELS
        self.algebra = algebra
        self.is_new = True  # nothing was put here yet

    def view(self, t: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return writable views of values and residues, as ``t`` views the storage."""
        if t.element_size() != self.unit:
            raise Unsupported("memory is read as another type than it was written", subject="algebra")
        item, stride = self.v.itemsize, t.stride()
        start = t.storage_offset()
        v = np.lib.stride_tricks.as_strided(self.v[start:], tuple(t.shape), tuple(s * item for s in stride))
        r = np.lib.stride_tricks.as_strided(
            self.r[:, start:], (LEVELS, *t.shape), (self.r.strides[0], *(s * item for s in stride))
        )
        return v, r


class Shadows:
    """The elements of all storages that were seen; storages are kept, so that an address means one of them."""

    def __init__(self, algebra: Algebra) -> None:
        self.algebra = algebra
        self.by_address: dict[int, Shadow] = {}

    def of(self, t: torch.Tensor) -> Shadow:
        """Return the shadow of a float tensor's storage; one that was never seen holds constants."""
        address = t.untyped_storage().data_ptr()
        shadow = self.by_address.get(address)
        if shadow is None or shadow.storage.nbytes() != t.untyped_storage().nbytes():
            shadow = self.by_address[address] = Shadow(self.algebra, t)
            with _disable_current_modes():
                n = len(shadow.v)
                flat = torch.empty(0, dtype=t.dtype).set_(t.untyped_storage(), 0, (n,), (1,))
                values = flat.to(torch.float64).numpy()
            if n <= 4096:
                known = self.algebra.written(values)
                shadow.v[:], shadow.r[:] = known.v, known.r
            else:
                shadow.v[:], shadow.r[:] = values, self.algebra.field.embed(values)
        return shadow

    def fresh(self, t: torch.Tensor) -> Shadow:
        """Return a new, empty shadow for the storage of ``t``."""
        shadow = self.by_address[t.untyped_storage().data_ptr()] = Shadow(self.algebra, t)
        return shadow

    def get(self, t: torch.Tensor) -> Elements:
        """Return the elements of a tensor; integers and booleans are themselves."""
        if not t.is_floating_point():
            with _disable_current_modes():
                return self.algebra.lift(t.detach().cpu().numpy())
        if not t.numel():
            return self.algebra.numbers(np.zeros(tuple(t.shape)))
        shadow = self.of(t)
        v, r = shadow.view(t)
        return Elements(self.algebra, v, r, shadow.lawful)

    def put(self, t: torch.Tensor, x: Elements) -> None:
        """Give a float tensor its elements, broadcast."""
        if not t.numel():
            return
        address = t.untyped_storage().data_ptr()
        shadow = self.by_address.get(address)
        if shadow is None:
            shadow = self.fresh(t)
        v, r = shadow.view(t)
        whole = shadow.is_new or t.numel() == len(shadow.v)
        shadow.lawful = x.lawful if whole else shadow.lawful & x.lawful
        shadow.is_new = False
        x = broadcast(x, tuple(t.shape))
        v[...] = x.v
        r[...] = x.r


# -- rules ------------------------------------------------------------------------------------------------------------


def _scaled_sum(sign: int) -> Callable[..., Elements]:
    def f(x: Elements, y: Elements, *, alpha: float = 1) -> Elements:
        y = y if alpha == 1 else fn.multiply(y, x.algebra.written(alpha))
        return fn.add(x, y) if sign > 0 else fn.subtract(x, y)

    return f


def _div(x: Elements, y: Elements, *, rounding_mode: str | None = None) -> Elements:
    q = fn.divide(x, y)
    return q if rounding_mode is None else fn.trunc(q) if rounding_mode == "trunc" else fn.floor(q)


def _addmm(c: Elements, a: Elements, b: Elements, *, beta: float = 1, alpha: float = 1) -> Elements:
    product = fn.matmul(a, b)
    if alpha != 1:
        product = fn.multiply(product, c.algebra.written(alpha))
    return fn.add(product, c if beta == 1 else fn.multiply(c, c.algebra.written(beta)))


def _var(x: Elements, axis: Any = None, correction: float = 1, keepdim: bool = False) -> Elements:
    d = fn.subtract(x, fn.mean(x, axis, True))
    n = math.prod(x.shape[a] for a in fn._axes(x, axis))
    return fn.divide(fn.total(fn.square(d), axis, keepdim), x.algebra.written(float(n - correction)))


def _softmax(x: Elements, axis: int, half_to_float: bool = False) -> Elements:
    e = fn.exp(fn.subtract(x, fn.amax(x, axis, True)))
    return fn.divide(e, fn.total(e, axis, True))


def _rsub(x: Elements, y: Elements, *, alpha: float = 1) -> Elements:
    return _scaled_sum(-1)(y, x, alpha=alpha)


def _gelu(x: Elements, *, approximate: str = "none") -> Elements:
    a = x.algebra
    half, one = a.written(0.5), a.written(1.0)
    if approximate == "none":
        return fn.multiply(x, fn.normcdf(x))
    inner = fn.multiply(a.written(math.sqrt(2 / math.pi)),
                        fn.add(x, fn.multiply(a.written(0.044715), fn.multiply(x, fn.square(x)))))  # fmt: skip
    return fn.multiply(fn.multiply(half, x), fn.add(one, fn.tanh(inner)))


def _threshold(x: Elements, threshold: Any, value: Any) -> Elements:
    a = x.algebra
    return select(np.asarray(fn.UFUNCS[np.less_equal](x, a.lift(threshold))), a.lift(value), x)


def _keeping(f: Callable[..., Elements]) -> Callable[..., Elements]:
    """Return a reduction that takes ATen's arguments (x, axes, keepdim)."""
    return lambda x, axis=None, keepdim=False, **_: f(x, axis, keepdim)


#: What ATen operators compute, from elements; arguments that were tensors or numbers of the schema's tensors are elements.
RULES: dict[str, Callable[..., Any]] = {
    **{n: f for n, f in fn.NAMED.items() if n not in ("add", "sub", "div", "isnan", "isinf", "isfinite", "signbit")},
    "add": _scaled_sum(1), "sub": _scaled_sum(-1), "rsub": _rsub, "div": _div, "true_divide": fn.divide, "ndtr": fn.normcdf,
    "floor_divide": lambda x, y: fn.floor(fn.divide(x, y)),
    "float_power": fn.power,
    "relu": lambda x: fn.maximum(x, x.algebra.written(0.0)),
    "silu": lambda x: fn.multiply(x, fn.sigmoid(x)), "gelu": _gelu,
    "threshold": _threshold, "clamp": lambda x, low=None, high=None: fn.clip(x, low, high),
    "clamp_min": lambda x, low: fn.clip(x, low, None), "clamp_max": lambda x, high: fn.clip(x, None, high),
    "addcmul": lambda c, x, y, *, value=1: fn.add(c, fn.multiply(fn.multiply(x, y), c.algebra.written(value))),
    "addcdiv": lambda c, x, y, *, value=1: fn.add(c, fn.divide(fn.multiply(x, y), c.algebra.written(value))),
    "lerp": lambda x, y, w: fn.add(x, fn.multiply(w, fn.subtract(y, x))),
    "mm": fn.matmul, "bmm": fn.matmul, "mv": lambda a, b: fn.matmul(a, b.reshape(-1, 1)).reshape(-1),
    "dot": lambda a, b: fn.total(fn.multiply(a, b)), "addmm": _addmm, "baddbmm": _addmm,
    "sum": _keeping(fn.total), "mean": _keeping(fn.mean), "amax": _keeping(fn.amax), "amin": _keeping(fn.amin),
    "prod": _keeping(fn.product), "cumsum": lambda x, axis, **_: fn.running_sum(x, axis), "_softmax": _softmax, "var": _var,
    "linalg_vector_norm": lambda x, order=2, axis=None, keepdim=False, **_: _norm(x, order, axis, keepdim),
}  # fmt: skip


def _norm(x: Elements, order: float, axis: Any, keepdim: bool) -> Elements:
    if order == 2:
        return fn.sqrt(fn.total(fn.square(x), axis, keepdim))
    if order == 1:
        return fn.total(fn.absolute(x), axis, keepdim)
    raise Unsupported(f"a norm of order {order} has no reading in the ring", subject="algebra")


#: Operators that only move numbers: run once for the values and once for the residues of each prime.
MOVES = {
    "clone", "index", "gather", "cat", "stack", "flip", "roll", "index_select", "repeat", "tril", "triu", "_unsafe_index",
    "take", "unfold_copy", "constant_pad_nd", "select_scatter", "slice_scatter", "diag_embed", "masked_select", "_reshape_copy",
    "view_copy", "expand_copy", "permute_copy", "embedding", "scatter", "index_put", "repeat_interleave", "pixel_shuffle",
    "pixel_unshuffle", "_reshape_alias_copy", "contiguous", "where", "masked_fill", "scatter_add", "index_add",
    "col2im", "im2col",
}  # fmt: skip
#: Parameters of moves that are numbers to be written, not places.
_FILLS = {"value", "other", "self"}

#: Moves that add up what they put into one place.
_ADDITIONS = {"scatter_add", "index_add", "scatter_reduce", "col2im", "index_put"}

#: Elementwise functions without laws; with them all whose name begins with ``special_``.
_UNKNOWN = {"i0", "digamma", "polygamma", "igamma", "igammac", "lgamma", "erfinv"}

_CREATE = {"full", "full_like", "new_full", "scalar_tensor", "fill", "ones", "ones_like", "new_ones", "zeros", "zeros_like",
           "new_zeros", "zero", "arange", "eye", "linspace"}  # fmt: skip


def _arguments(func: Any, args: Any, kwargs: Any) -> list[tuple[str, str, Any, bool]]:
    """Return (name, type, value, is positional) of every argument that was given."""
    schema = func._schema.arguments
    named = [(a.name, str(a.type), args[i], True) for i, a in enumerate(schema) if i < len(args)]
    by_name = {a.name: str(a.type) for a in schema}
    return named + [(k, by_name.get(k, ""), v, False) for k, v in kwargs.items()]


def apply_rule(shadows: Shadows, func: Any, args: Any, kwargs: Any, outputs: list[torch.Tensor]) -> None:
    """Give the outputs of an ATen call their elements.

    Raises:
        Unsupported: the operator has no rule, or reads a value out.
    """
    name = func._schema.name.split("::")[1]
    if name in _EMPTY:
        for t in outputs:
            if t.is_floating_point() and t.numel():
                shadows.fresh(t)
        return
    if name in ("_local_scalar_dense", "item", "equal"):
        if any(isinstance(t, torch.Tensor) and t.is_floating_point() for t in tree_leaves((args, kwargs))):
            raise Unsupported("a value is read out of the program", subject="algebra")
        return
    floats = [t for t in outputs if t.is_floating_point()]
    if not floats:
        return
    given = _arguments(func, args, kwargs)
    in_place = name.endswith("_") and not name.endswith("__")
    base = name[:-1] if in_place else name
    if not in_place and "out" not in kwargs:
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        if func.is_view or all(t.untyped_storage().data_ptr() in known for t in floats):
            return
    given = [g for g in given if g[0] not in ("out", "generator", "layout", "device", "pin_memory", "memory_format")]
    results = _results(shadows, base, func, given, floats)
    for t, x in zip(floats, results, strict=True):
        shadows.put(t, x)


def _results(
    shadows: Shadows, name: str, func: Any, given: list[tuple[str, str, Any, bool]], floats: list[torch.Tensor]
) -> list[Elements]:
    algebra = shadows.algebra
    values = {n: v for n, _, v, _ in given}
    if name in ("copy", "_to_copy", "lift_fresh_copy", "lift_fresh", "convert_element_type"):
        return [shadows.get(values.get("src", values.get("self", values.get("a"))))]
    if name in _CREATE:
        with _disable_current_modes():
            made = floats[0].detach().to(torch.float64).numpy()
        value = values.get("fill_value", values.get("value", values.get("s")))
        if isinstance(value, torch.Tensor):
            return [shadows.get(value)]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return [algebra.written(float(value))]
        return [algebra.written(made)]
    if name in MOVES or (name == "scatter_reduce" and values.get("reduce") == "sum"):
        return [_moved(shadows, func, given, name in _ADDITIONS)]
    if name in ("sort", "topk") or (name in ("max", "min") and isinstance(values.get("dim"), int)):
        return [_with_indices(shadows, name, func, given)]
    if name in ("max", "min"):
        return [(fn.amax if name == "max" else fn.amin)(shadows.get(values["self"]))]
    rule = RULES.get(name.removeprefix("special_"))
    if rule is None and (name.startswith("special_") or name in _UNKNOWN):
        return [_unknown(shadows, name.removeprefix("special_"), func, given)]
    if rule is None:
        raise Unsupported(f"aten.{name} has no reading in the ring", subject="algebra")
    positional, named = [], {}
    for n, kind, v, by_place in given:
        if n == "dtype":
            continue
        if isinstance(v, torch.Tensor):
            v = shadows.get(v)
        elif (
            isinstance(v, (int, float))
            and not isinstance(v, bool)
            and ("Tensor" in kind or kind in ("number", "Scalar"))
        ):
            v = v if n in ("alpha", "beta", "value", "ord", "correction", "threshold") else algebra.written(float(v))
        if by_place:
            positional.append(v)
        else:
            named[n] = v
    return [rule(*positional, **named)]


def _unknown(shadows: Shadows, name: str, func: Any, given: list[tuple[str, str, Any, bool]]) -> Elements:
    """Return an elementwise function without laws; its name tells it and its numbers apart."""
    values = [v for _, _, v, by_place in given if by_place]
    places = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor)]
    numbers = "".join(f" {v}" for i, v in enumerate(values) if i not in places)

    def evaluate(*arrays: np.ndarray) -> np.ndarray:
        own = list(values)
        for i, a in zip(places, arrays, strict=True):
            own[i] = torch.from_numpy(a)
        with _disable_current_modes():
            return np.asarray(func(*own).numpy())

    return fn.unknown(name + numbers, evaluate, *(shadows.get(values[i]) for i in places))


def _moved(shadows: Shadows, func: Any, given: list[tuple[str, str, Any, bool]], adds: bool) -> Elements:
    """Run an operator that moves numbers on the values, and on the residues of each prime."""
    algebra = shadows.algebra
    flat, spec = tree_flatten(
        ([v for _, _, v, p in given if p], {n: v for n, _, v, p in given if not p and n != "dtype"})
    )
    elements = {i: shadows.get(t) for i, t in enumerate(flat) if isinstance(t, torch.Tensor) and t.is_floating_point()}
    lawful = ALL_LEVELS
    for x in elements.values():
        lawful &= x.lawful
    fills = {
        i for n, kind, v, p in given if n in _FILLS and isinstance(v, (int, float)) and not isinstance(v, bool)
        for i, leaf in enumerate(flat) if leaf is v
    }  # fmt: skip
    for i in fills:
        elements[i] = algebra.written(float(flat[i]))

    def run(plane: Callable[[Elements], np.ndarray]) -> np.ndarray:
        leaves = list(flat)
        for i, x in elements.items():
            own = np.array(plane(x))
            leaves[i] = own.reshape(-1)[0].item() if i in fills else torch.from_numpy(own).reshape(x.shape)
        positional, named = tree_unflatten(leaves, spec)
        return np.asarray(func(*positional, **named).numpy())

    with _disable_current_modes():
        v = run(lambda x: x.v)
        r = np.stack([run(lambda x, k=k: x.r[k]) for k in range(LEVELS)])  # type: ignore[misc]
    if adds:
        algebra.used.add("arithmetic")
    return algebra.made(v, algebra.field.reduce(r) if adds else r, lawful)


def _with_indices(shadows: Shadows, name: str, func: Any, given: list[tuple[str, str, Any, bool]]) -> Elements:
    """Return the values of an operator that gives values and their places along an axis."""
    shadows.algebra.used.add("selection")
    values = {n: v for n, _, v, _ in given}
    x = shadows.get(values["self"])
    axis = int(values.get("dim", -1))
    with _disable_current_modes():
        own = torch.from_numpy(x.v.copy())
        positional = [own if n == "self" else v for n, _, v, by_place in given if by_place]
        _, place = func(*positional, **{n: v for n, _, v, by_place in given if not by_place})
    index = place.numpy()
    if name in ("max", "min") and not values.get("keepdim", False) and x.ndim:
        return fn.moved(lambda p: np.squeeze(np.take_along_axis(p, np.expand_dims(index, axis), axis), axis), x)
    return fn.moved(lambda p: np.take_along_axis(p, index, axis), x)


class ShadowMode(TorchDispatchMode):
    """Runs PyTorch code with elements beside every float."""

    def __init__(self, shadows: Shadows) -> None:
        super().__init__()
        self.shadows = shadows

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        observe(self.shadows, func, args, kwargs, out)
        return out


def observe(shadows: Shadows, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Give what an ATen call returned its elements."""
    outputs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
    apply_rule(shadows, func, args, kwargs, outputs)
