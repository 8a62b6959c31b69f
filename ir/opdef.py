"""Operator definitions: a relation between operand and result types, and a meaning.

An :class:`OpDef` is a frozen value, read from a ``.drt`` file (:mod:`drt.ir.load`) or built in Python.  Shape inference, the
synthesizer's constraints, the float64 oracle, lowerings, import, cost, documentation and tests are readings of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, Union

import attrs

from .expr import Call, Expr

#: Kinds of attributes.  ``axis`` and ``axes`` are non-negative axes of the shape named by ``Attribute.of``; ``ints`` is a
#: list of sizes, of fixed length where ``Attribute.length`` is given; ``number`` is an int or a float.
ATTRIBUTE_KINDS = ("int", "float", "number", "bool", "enum", "str", "dtype", "ints", "axis", "axes")

#: Combiners of ``reduce`` and of ``sum{k in K} ...``.
COMBINERS = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")

#: Distributions of ``random`` and what their parameters are.  Two are drawn as a whole: ``permutation`` is a random order
#: of the numbers below n, ``categorical`` draws positions along the last axis of its weights.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"), "normal": ("mean", "std"), "bernoulli": ("p",), "integers": ("low", "high"),
    "poisson": ("rate",), "permutation": ("n",), "categorical": ("weights", "n", "replacement"),
}  # fmt: skip


@attrs.frozen
class Location:
    """A place in a file; lines and columns start at 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


@attrs.frozen
class Param:
    """An operand or result: ``x: T[N, C, H, W]``.

    Attributes:
        name: as used in the body and in lowering templates.
        dtype: a dtype variable (``T``), a dtype (``i64``), or the name of a ``dtype`` attribute.
        shape: dimensions: names, packs (``S..``), literals, or (in results) size expressions.
        optional: ``x: T[C]?``: may be absent (``None``).
        variadic: ``x: T[S..]*``: one or more tensors; every dimension name is then bound to the tuple of that dimension
            over the tensors, and the pack to the tuple of shapes.
    """

    name: str
    dtype: str
    shape: tuple[Expr, ...]
    optional: bool = False
    variadic: bool = False


@attrs.frozen
class Attribute:
    """A compile-time argument: ``stride: int[2] in 1..8 = [1, 1]``."""

    name: str
    kind: str
    length: int | None = None  # of ``ints``: the fixed length, or None
    of: str = ""  # of ``axis`` and ``axes``: the pack or operand whose axes are meant
    choices: tuple[str, ...] = ()  # of ``enum``
    lo: Expr | None = None
    hi: Expr | None = None
    default: Expr | None = None
    optional: bool = False  # ``kind?``: may be None


@attrs.frozen
class Let:
    """``let OH = ...``: a derived size, list or flag."""

    name: str
    expr: Expr


@attrs.frozen
class Constraint:
    """``where c1: ...``: must hold; an error about it carries the label ``<op>_c1``."""

    label: str
    expr: Expr
    location: Location | None = attrs.field(default=None, eq=False)


#: What a range may say of the order of an operand's elements along its last axis: that none is below the one before it, and,
#: if ``anchored``, that the first is the lower end.
ORDERS = ("", "ascending", "anchored")


@attrs.frozen
class ValueRange:
    """``range index in 0..V - 1``: every element of an operand lies between two ends, both included.

    A call with other elements has no meaning: PyTorch refuses it, or reads out of bounds.  What only the dtype bounds has no
    range.  The ends are expressions over sizes and attributes, or ``-inf`` and ``inf``.  ``range offsets in 0..N anchored``
    also says how the elements are ordered; ``order`` is one of ``ORDERS``.
    """

    operand: str
    lo: Expr
    hi: Expr
    order: str = ""


@attrs.frozen
class Scalar:
    """One expression per result, applied to each element after broadcasting the operands to the result's shape."""

    exprs: tuple[tuple[str, Expr], ...]


@attrs.frozen
class Reduce:
    """``reduce y = sum(x * x) over axes``: combine a scalar expression over axes of the (broadcast) operands."""

    result: str
    combiner: str
    expr: Expr
    axes: Expr


@attrs.frozen
class Index:
    """``index y[n, f, I..] = ...``: each element by its coordinates; loads may be affine, guarded or data-dependent."""

    result: str
    coordinates: tuple[Expr, ...]  # Sym or Pack
    expr: Expr


@attrs.frozen
class Expand:
    """Statements ``name = expression`` over other operators; calls may nest."""

    statements: tuple[tuple[str, Expr], ...]


@attrs.frozen
class Hook:
    """A meaning that the language cannot say: the name of a function in the oracle's table of hooks."""

    name: str


@attrs.frozen
class Random:
    """``random y = bernoulli(p)``: each element drawn anew at every call, independently of all others.

    The parameters are scalar expressions: numbers, attributes, or operands that broadcast to the result.
    """

    result: str
    distribution: str
    parameters: tuple[Expr, ...]


@attrs.frozen
class Opaque:
    """No meaning in the language: PyTorch is the reference; ``reason`` says why."""

    reason: str


Body: TypeAlias = Union[Scalar, Reduce, Index, Expand, Hook, Random, Opaque]


@attrs.frozen
class AtenPattern:
    """One way in which ATen says this operator.

    ``aten.sum.default(x) {axes = range(0, rank(S)), keepdim = False} -> (y) if rank(S) > 0``

    Attributes:
        call: the call, matched backwards; arguments left out must equal the schema's defaults; ``_`` matches anything.
        bindings: attributes that the call does not name, computed from what it does.
        results: result names in the order of ATen's results, ``_`` for one that must be unused; empty means all, in order.
        guard: must hold after binding.
    """

    call: Call
    bindings: tuple[tuple[str, Expr], ...] = ()
    results: tuple[str, ...] = ()
    guard: Expr | None = None


@attrs.frozen
class KernelTemplate:
    """A user's own kernel for the operator: ``triton "gate.py.j2" {BLOCK = [256, 1024]} if N % 8 == 0``.

    Attributes:
        path: a Jinja2 template of Triton source, relative to the file of the definition; read when a kernel is wanted.
        parameters: names of the template's own, each with a value or a list of values to try in turn.
        guard: must hold for the template to be used.
    """

    path: str
    parameters: tuple[tuple[str, Expr], ...] = ()
    guard: Expr | None = None


#: What is compared with a definition.
LIBRARIES = ("torch", "jax")

#: What a difference shows in: which kind of number stands on one side alone, or that the call is refused.
DIFFERENCES: dict[str, str] = {
    "nan": "NaN on one side", "infinity": "an infinity on one side", "zero": "the sign of a zero",
    "value": "another number", "refusal": "no result",
}  # fmt: skip


@attrs.frozen
class Limitation:
    """``limit jax nan of float at "x = -inf" because "..."``: where a library is known not to give what the body means.

    The body holds; a test asks that the difference is there, and that there is no other.

    Attributes:
        library: one of ``LIBRARIES``.
        kind: one of ``DIFFERENCES``.
        dtypes: of the result.
        inputs: for which inputs.
        reason: why the library's answer is not taken for the meaning.
    """

    library: str
    kind: str
    dtypes: frozenset[str]
    inputs: str
    reason: str


@attrs.frozen
class OpDef:
    """One operator: a relation between operand and result types, and a meaning.

    Attributes:
        dtypes: dtype variable -> the dtypes that it may take.
        dtype_lets: dtype variable of a result -> a dtype expression (``accumulator(T)``).
        calls: ``torch`` and ``jax`` lowering expressions; names in them are operands, attributes and lets.
        lax: the primitives of JAX that say this operator, in the syntax of ``aten``: ``lax reduce_sum(x, axes=axes)``.
        kernels: the user's own Triton kernels for it, tried before the generator's.
        limits: inputs for which PyTorch or JAX is known to differ from the body.
        flops: work of one call, floating-point operations; None means derived from the body.
        family: the stem of the file that defines it; groups the documentation.
    """

    name: str
    operands: tuple[Param, ...]
    attributes: tuple[Attribute, ...]
    results: tuple[Param, ...]
    doc: str = ""
    dtypes: Mapping[str, frozenset[str]] = attrs.field(factory=dict, hash=False)
    dtype_lets: tuple[tuple[str, Expr], ...] = ()
    lets: tuple[Let, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    ranges: tuple[ValueRange, ...] = ()
    body: Body = Opaque("no meaning given")
    calls: Mapping[str, Expr] = attrs.field(factory=dict, hash=False)
    aten: tuple[AtenPattern, ...] = ()
    lax: tuple[AtenPattern, ...] = ()
    kernels: tuple[KernelTemplate, ...] = ()
    limits: tuple[Limitation, ...] = ()
    flops: Expr | None = None
    source: str = ""
    family: str = attrs.field(default="", eq=False)
    location: Location | None = attrs.field(default=None, eq=False)

    def attribute(self, name: str) -> Attribute:
        """Return the attribute ``name``; raises KeyError."""
        for a in self.attributes:
            if a.name == name:
                return a
        raise KeyError(name)

    def operand(self, name: str) -> Param:
        """Return the operand ``name``; raises KeyError."""
        for p in self.operands:
            if p.name == name:
                return p
        raise KeyError(name)


#: All operators that one compile knows, by name; immutable by convention and passed explicitly.
OpSet: TypeAlias = Mapping[str, OpDef]
