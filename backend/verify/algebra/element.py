"""Arrays of ring elements that stand where numpy arrays of floats stood.

An :class:`Elements` holds for every float its residues and, beside them, its value in float64.  The value decides what a
residue cannot: comparisons, maxima, signs, roundings to integers.  Arrays of elements take part in numpy's protocols, so that
code written for arrays of floats, Triton's interpreter among it, runs on them as it is.

Where the value is infinite, NaN, or a zero that ``exp`` underflowed to, the residues follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ....ir.errors import Unsupported
from .constants import Constants
from .field import LEVELS, Field, Residues

ALL_LEVELS = (1 << LEVELS) - 1

#: Residues of what is not a number; no law holds for them, and both programs have them in the same places.
_INFINITY, _NAN = 271828, 314159


class Algebra:
    """What one run computes with, and what it noted.

    Attributes:
        used: kinds of operations: ``arithmetic``, ``selection``, ``rounding``, or the name of a function.
        accidents: primes (by level) at which something was divided by a zero that is none.
    """

    def __init__(self, seed: int) -> None:
        self.field = Field(seed)
        self.constants = Constants(self.field)
        self.used: set[str] = set()
        self.accidents: set[int] = set()

    # -- making elements ----------------------------------------------------------------------------------------------
    def numbers(self, values: Any) -> Elements:
        """Return data as elements: every float64 is itself."""
        v = np.array(values, dtype=np.float64)
        return self.made(v, self.field.embed(v))

    def written(self, values: Any) -> Elements:
        """Return constants as elements: each is the simple number that it is a rounding of."""
        v = np.array(values, dtype=np.float64)
        distinct, place = np.unique(v.reshape(-1), return_inverse=True)
        if self.constants.replaced:
            distinct = np.array([self.constants.replaced.get(float(x), float(x)) for x in distinct])
            v = distinct[place].reshape(v.shape)
        whole = np.isfinite(distinct) & (distinct == np.rint(distinct)) & (np.abs(distinct) < 2**53)
        table = self.field.embed(np.where(whole, distinct, 0.0))
        for k in np.flatnonzero(~whole & np.isfinite(distinct)):
            table[:, k] = self.constants.element(float(distinct[k]))
        if v.size == 1 and whole.all():
            self.constants.written.add(float(distinct[0]))
        return self.made(v, table[:, place.reshape(-1)].reshape(LEVELS, *v.shape))

    def lift(self, x: Any) -> Elements:
        """Return anything numeric as elements."""
        if isinstance(x, Elements):
            return x
        a = np.asarray(x)
        if a.dtype.kind == "f" or a.size == 1:
            return self.written(a.astype(np.float64))
        return self.made(a.astype(np.float64), self.field.reduce(np.stack([a.astype(np.int64)] * LEVELS)))

    def made(self, v: np.ndarray, r: Residues, lawful: int = ALL_LEVELS) -> Elements:
        """Return elements of values and residues; what is not finite gets its own residues."""
        finite = np.isfinite(v)
        if not finite.all():
            r = np.where(finite, r, np.where(np.isnan(v), _NAN, np.where(v > 0, _INFINITY, -_INFINITY)))
            r = self.field.reduce(r)
        return Elements(self, v, r, lawful)

    def check_divisor(self, x: Elements) -> None:
        """Note the primes at which a value that is not zero has residue zero."""
        zero = x.r == 0
        if zero.any():
            zero &= x.v != 0
            self.accidents |= {k for k in range(LEVELS) if zero[k].any()}


class Elements(NDArrayOperatorsMixin):
    """An array of ring elements.

    Attributes:
        v: float64 values.
        r: residues, ``[LEVELS, *v.shape]``.
        lawful: bit set of the levels at which the laws of the functions used so far hold.
    """

    __slots__ = ("algebra", "lawful", "r", "v")
    __array_priority__ = 1000

    #: What numpy dtype the array answers with; it fits into every float of the kernel language.
    dtype = np.dtype(np.float64)
    itemsize = 1

    def __init__(self, algebra: Algebra, v: np.ndarray, r: Residues, lawful: int = ALL_LEVELS) -> None:
        self.algebra, self.v, self.r, self.lawful = algebra, v, r, lawful

    # -- as an array --------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.v.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.v.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.v.size

    @property
    def T(self) -> Elements:
        """The array with its axes reversed."""
        return transpose(self)

    def __len__(self) -> int:
        return len(self.v)

    def __bool__(self) -> bool:
        self.algebra.used.add("selection")
        return bool(self.v)

    def __float__(self) -> float:
        raise Unsupported("a value is read out of the program", subject="algebra")

    item = __int__ = __index__ = __float__

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise Unsupported("elements are used where numpy wants numbers", subject="algebra")

    def __getitem__(self, key: Any) -> Elements:
        keys = key if isinstance(key, tuple) else (key,)
        return Elements(self.algebra, np.asarray(self.v[keys]), self.r[(slice(None), *keys)], self.lawful)

    def reshape(self, *shape: Any) -> Elements:
        """Return the elements in another shape."""
        v = self.v.reshape(*shape)
        return Elements(self.algebra, v, self.r.reshape(LEVELS, *v.shape), self.lawful)

    def copy(self) -> Elements:
        """Return a copy."""
        return Elements(self.algebra, self.v.copy(), self.r.copy(), self.lawful)

    def squeeze(self, axis: Any = None) -> Elements:
        """Return the elements without axes of size one."""
        return self.reshape(np.squeeze(self.v, axis).shape)

    def flatten(self) -> Elements:
        """Return the elements along one axis."""
        return self.reshape(-1)

    def all(self) -> Any:
        """Return whether no element is zero."""
        return self.v.all()

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Return the elements themselves as any float; as integers and booleans, what the values say."""
        kind = np.dtype(dtype).kind
        if kind == "f":
            return self
        self.algebra.used.add("selection" if kind == "b" else "rounding")
        with np.errstate(all="ignore"):
            return (self.v != 0) if kind == "b" else np.trunc(self.v).astype(dtype)

    def fill(self, like: np.ndarray) -> Elements:
        """Return one element repeated over the shape of ``like``."""
        return broadcast(self.reshape(-1)[0], like.shape)

    # -- protocols ----------------------------------------------------------------------------------------------------
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .functions import REDUCTIONS, UFUNCS

        if method == "reduce" and ufunc in REDUCTIONS:
            axis = kwargs.get("axis", inputs[1] if len(inputs) > 1 else 0)
            return REDUCTIONS[ufunc](self.algebra.lift(inputs[0]), axis, kwargs.get("keepdims", False))
        function = UFUNCS.get(ufunc)
        if method != "__call__" or function is None or kwargs.get("out") is not None:
            raise Unsupported(f"numpy.{ufunc.__name__} has no reading in the ring", subject="algebra")
        return function(*(self.algebra.lift(x) for x in inputs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from .functions import ARRAY_FUNCTIONS

        function = ARRAY_FUNCTIONS.get(func)
        if function is None:
            raise Unsupported(f"numpy.{func.__name__} has no reading in the ring", subject="algebra")
        return function(*args, **kwargs)


# -- moving elements --------------------------------------------------------------------------------------------------


def transpose(x: Elements, axes: Sequence[int] | None = None) -> Elements:
    """Return the elements with permuted axes."""
    order = tuple(a % x.ndim for a in axes) if axes is not None else tuple(range(x.ndim))[::-1]
    return Elements(x.algebra, x.v.transpose(order), x.r.transpose(0, *(a + 1 for a in order)), x.lawful)


def broadcast(x: Elements, shape: Any) -> Elements:
    """Return a view of the elements in a larger shape."""
    v = np.broadcast_to(x.v, shape)
    r = x.r.reshape(LEVELS, *(1,) * (v.ndim - x.ndim), *x.v.shape)
    return Elements(x.algebra, v, np.broadcast_to(r, (LEVELS, *v.shape)), x.lawful)


def moved(f: Callable[..., np.ndarray], *xs: Elements) -> Elements:
    """Return what ``f``, which only moves numbers, makes of arrays of elements."""
    lawful = ALL_LEVELS
    for x in xs:
        lawful &= x.lawful
    v = f(*(x.v for x in xs))
    return Elements(xs[0].algebra, v, np.stack([f(*(x.r[k] for x in xs)) for k in range(LEVELS)]), lawful)


def select(test: np.ndarray, a: Elements, b: Elements) -> Elements:
    """Return ``a`` where ``test`` holds, else ``b``."""
    r = np.where(test, *aligned(a, b, np.ndim(test)))
    return Elements(a.algebra, np.where(test, a.v, b.v), r, a.lawful & b.lawful)


def aligned(a: Elements, b: Elements, ndim: int = 0) -> tuple[Residues, Residues]:
    """Return residues with so many axes that they broadcast as the values do."""
    n = max(a.ndim, b.ndim, ndim)
    return tuple(x.r.reshape(LEVELS, *(1,) * (n - x.ndim), *x.v.shape) for x in (a, b))  # type: ignore[return-value]
