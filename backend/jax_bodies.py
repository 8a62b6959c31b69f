"""Python text of ``scalar``, ``reduce`` and ``index`` bodies over ``jax.numpy`` arrays.

The layout is that of :mod:`drt.backend.oracle.bodies`: an iteration variable is an integer array that varies along one axis of
the iteration space, axes are numbered from the right (*position* 0 is the last), and the variables of a ``sum{k in K}`` stand
to the left of the coordinates, so that broadcasting aligns everything and a fold reduces leading axes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from ..ir import Size, SizeLike, Unsupported, decide, evaluate
from ..ir.evaluate import FUNCTIONS
from ..ir.expr import PRECEDENCE, Bin, Call, Cond, Expr, Fold, Load, Lst, Num, Pack, Sym, Unary
from ..ir.intrinsics import INTRINSICS
from ..ir.typesys import INTEGER_RANGES, is_float
from .opaque import size_text

#: IR dtype -> Python text of the JAX dtype.
JAX_DTYPES: dict[str, str] = {
    "f64": "jnp.float64", "f32": "jnp.float32", "f16": "jnp.float16", "bf16": "jnp.bfloat16", "i64": "jnp.int64",
    "i32": "jnp.int32", "i8": "jnp.int8", "u8": "jnp.uint8", "bool": "jnp.bool_",
}  # fmt: skip


class Text(str):
    """Python text of an expression, with its binding strength."""

    level: int

    def __new__(cls, text: str, level: int = 10) -> Text:
        """Return ``text`` with its binding strength."""
        made = super().__new__(cls, text)
        made.level = level
        return made


#: Binding strength of names, calls and subscripts, of unary minus, and of a sum.
ATOM, MINUS, SUM = 10, 7, 5

#: An index of so many characters gets a name of its own.
LONG_INDEX = 24

#: A function of the generated file: elements of an array, a number where an index lies outside.
PADDED = """\
def padded(x, fill, *index):
    \"\"\"Return the elements of x at the indices, and fill where one of them lies outside.\"\"\"
    index = jnp.broadcast_arrays(*index)
    inside = jnp.ones(index[0].shape, bool)
    for i, n in zip(index, x.shape):
        inside &= (i >= 0) & (i < n)
    if x.size == 0:
        return jnp.full(inside.shape, fill, x.dtype)
    near = tuple(jnp.clip(i, 0, n - 1) for i, n in zip(index, x.shape))
    return jnp.where(inside, x[near], fill)
"""

_REDUCTIONS = {
    "sum": "jnp.sum", "prod": "jnp.prod", "max": "jnp.max", "min": "jnp.min", "any": "jnp.any", "all": "jnp.all",
    "argmax": "jnp.argmax", "argmin": "jnp.argmin",
}  # fmt: skip
_IDENTITIES = {
    "sum": "0", "prod": "1", "any": "False", "all": "True", "max": "-jnp.inf", "min": "jnp.inf",
}  # fmt: skip

Bounds: TypeAlias = "tuple[int, int] | None"


def number_text(value: bool | int | float | None) -> str:
    """Return Python text of a number; infinities and NaN by their names in ``jax.numpy``."""
    if isinstance(value, float) and not math.isfinite(value):
        return "jnp.nan" if math.isnan(value) else "jnp.inf" if value > 0 else "-jnp.inf"
    return repr(value)


def level_of(text: str) -> int:
    """Return the binding strength of the text of a name, a number or an expression."""
    return text.level if isinstance(text, Text) else MINUS if text.startswith("-") else ATOM


def function_text(name: str) -> str:
    """Return how the generated file spells a function of JAX."""
    for long, short in (("jax.numpy.", "jnp."), ("jax.lax.", "lax."), ("drt.", "")):
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


@attrs.frozen(eq=False)
class Code:
    """Python text of an array (or number) in a body, with the operators of Python.

    Attributes:
        text: the text.
        level: its binding strength.
        kind: ``float``, ``int`` or ``bool``.
        extents: position -> size of the axes along which it varies.
        bounds: lowest and highest value of an integer that is known to stay within them.
        variable: position of the iteration variable that it is; -1 for everything else.
    """

    text: str
    level: int = ATOM
    kind: str = "int"
    extents: Mapping[int, SizeLike] = attrs.field(factory=dict)
    bounds: Bounds = None
    variable: int = -1

    def at(self, level: int) -> str:
        """Return the text, in parentheses where it binds less than ``level``."""
        return f"({self.text})" if self.level < level else self.text

    def __add__(self, other: Any) -> Code:
        return join("+", self, other)

    def __radd__(self, other: Any) -> Code:
        return join("+", other, self)

    def __sub__(self, other: Any) -> Code:
        return join("-", self, other)

    def __rsub__(self, other: Any) -> Code:
        return join("-", other, self)

    def __mul__(self, other: Any) -> Code:
        return join("*", self, other)

    def __rmul__(self, other: Any) -> Code:
        return join("*", other, self)

    def __floordiv__(self, other: Any) -> Code:
        return join("//", self, other)

    def __mod__(self, other: Any) -> Code:
        return join("%", self, other)

    def __neg__(self) -> Code:
        bounds = None if self.bounds is None else (-self.bounds[1], -self.bounds[0])
        if bounds is not None and _is_number(self):
            return as_code(bounds[0])
        return Code(f"-{self.at(MINUS)}", MINUS, self.kind, self.extents, bounds)


def as_code(value: Any) -> Code:
    """Return a number as code."""
    if isinstance(value, Code):
        return value
    kind = "bool" if isinstance(value, bool) else "float" if isinstance(value, float) else "int"
    negative = isinstance(value, (int, float)) and math.copysign(1.0, value) < 0
    bounds = (value, value) if kind == "int" else None
    return Code(number_text(value), MINUS if negative else ATOM, kind, {}, bounds)


def _is_number(code: Code) -> bool:
    """Return whether ``code`` is one integer that is known now."""
    return not code.extents and code.bounds is not None and code.bounds[0] == code.bounds[1]


def _together(values: Sequence[Code]) -> dict[int, SizeLike]:
    found: dict[int, SizeLike] = {}
    for v in values:
        found.update(v.extents)
    return found


def join(op: str, a: Any, b: Any) -> Code:
    """Return the code of a binary operator."""
    x, y = as_code(a), as_code(b)
    # Adding and multiplying by what changes nothing is left out of index arithmetic.
    if x.kind == y.kind == "int":
        if (op in ("+", "-") and y.bounds == (0, 0)) or (op in ("*", "//") and y.bounds == (1, 1)):
            return x
        if (op == "+" and x.bounds == (0, 0)) or (op == "*" and x.bounds == (1, 1)):
            return y
    extents = _together([x, y])
    if op in ("+", "-", "*", "//", "%") and not extents:
        known = _bounds(op, x.bounds, y.bounds)
        if known is not None and known[0] == known[1] and _is_number(x) and _is_number(y):
            return as_code(known[0])
    if op in ("and", "or"):
        return Code(f"jnp.logical_{op}({x.text}, {y.text})", ATOM, "bool", extents)
    if op == "+" and y.bounds is not None and y.bounds[0] == y.bounds[1] < 0:
        op, y = "-", as_code(-y.bounds[0])
    level = PRECEDENCE[op]
    if op == "**":
        text = f"{x.at(9)} ** {y.at(7)}"
    else:
        text = f"{x.at(level + (level == 4))} {op} {y.at(level + 1)}"
    kind = "bool" if level == 4 else "float" if op == "/" or "float" in (x.kind, y.kind) else "int"
    return Code(text, level, kind, extents, _bounds(op, x.bounds, y.bounds) if kind == "int" else None)


def _bounds(op: str, a: Bounds, b: Bounds) -> Bounds:
    if a is None or b is None:
        return None
    if op == "+":
        return a[0] + b[0], a[1] + b[1]
    if op == "-":
        return a[0] - b[1], a[1] - b[0]
    if op == "*":
        corners = [x * y for x in a for y in b]
    elif op == "//" and b[0] > 0:
        corners = [x // y for x in a for y in b]
    elif op == "%" and b[0] > 0:
        return (0, b[1] - 1)
    else:
        return None
    return min(corners), max(corners)


class BodyWriter:
    """Writes one body.

    Args:
        env: sizes, packs, attributes, lets, dtype variables and ``present`` flags, as ``infer`` binds them.
        tensors: operands by name: Python text, a tuple of texts, a number, or None.
        shapes: of each operand that is an array.
        dtypes: the dtype of each operand.
        symbols: Python text of each symbol.
    """

    def __init__(
        self, env: Mapping[str, Any], tensors: Mapping[str, Any], shapes: Mapping[str, Any], dtypes: Mapping[str, str],
        symbols: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.env, self.tensors, self.shapes, self.dtypes, self.symbols = env, tensors, shapes, dtypes, symbols
        self.lines: list[str] = []
        self.locals: dict[str, str] = {}
        self.helpers: dict[str, None] = {}
        self.bound: dict[str, Any] = {}
        self.sizes: dict[int, SizeLike] = {}  # position -> size, of the iteration space so far
        self.pending: dict[str, str] = {}  # iteration variable -> the line that makes it
        self.depth = 0

    # -- iteration variables ------------------------------------------------------------------------------------------

    def variable(self, name: str, position: int, size: SizeLike) -> Code:
        """Return a new iteration variable ``0..size-1`` along ``position``; its line is written when it is read."""
        while name in self.pending or name in self.tensors or name in ("jnp", "jax", "lax"):
            name += "_"
        shape = f".reshape({', '.join(['-1', *['1'] * position])})" if position else ""
        self.pending[name] = f"{name} = jnp.arange({self.size(size)}){shape}"
        self.sizes[position] = size
        bounds = (0, size - 1) if isinstance(size, int) and size >= 1 else None
        return Code(name, ATOM, "int", {position: size}, bounds, position)

    def use(self, code: Code) -> str:
        """Return the text of ``code`` with the variables in it defined before."""
        for name, line in self.pending.items():
            if line and _mentions(code.text, name):
                self.lines.append(line)
                self.pending[name] = ""
        return code.text

    def local(self, code: Code) -> str:
        """Return the text of an index, of a name for it where it is long."""
        text = self.use(code)
        if code.kind == "float":
            text = f"{code.at(ATOM)}.astype(int)"
        if len(text) < LONG_INDEX:
            return text
        if text not in self.locals:
            self.locals[text] = f"at{len(self.locals)}"
            self.lines.append(f"{self.locals[text]} = {text}")
        return self.locals[text]

    def size(self, size: SizeLike) -> str:
        """Return Python text of a size."""
        return size_text(size, self.symbols)

    def bind_coordinates(self, coordinates: Sequence[Expr], shape: Sequence[SizeLike]) -> None:
        """Bind the coordinates of the result, a pack to as many axes as the others leave."""
        rank = len(shape)
        rest = rank - sum(not isinstance(c, Pack) for c in coordinates)
        axis = 0
        for c in coordinates:
            assert isinstance(c, (Sym, Pack))
            count = rest if isinstance(c, Pack) else 1
            stem = c.name.lower()
            names = [stem] if not isinstance(c, Pack) else [f"{stem}{k}" for k in range(count)]
            own = tuple(self.variable(n, rank - 1 - a, shape[a]) for n, a in zip(names, range(axis, axis + count)))
            axis += count
            self.bound[c.name] = own if isinstance(c, Pack) else own[0]
        self.depth = rank

    # -- expressions --------------------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Any:
        """Return the value of ``e``: code, a number, a list or a flag."""
        match e:
            case Num(v):
                return v
            case Sym(n) | Pack(n):
                if n in self.bound:
                    return self.bound[n]
                if n in self.tensors:
                    return self.operand(n)
                return self.sized(self.env[n])
            case Lst(items):
                return self.spliced(items)
            case Bin(op, a, b):
                return self.binary(op, self.value(a), self.value(b))
            case Unary(op, a):
                v = self.value(a)
                if isinstance(v, Code):
                    if op == "not":
                        return Code(f"jnp.logical_not({v.text})", ATOM, "bool", v.extents)
                    return -v
                return (not v) if op == "not" else -v
            case Cond(test, a, b):
                return self.value(a if decide(test, self.env) else b)
            case Call():
                return self.call(e)
            case Load(n, index):
                return self.load(n, index)
            case Fold():
                return self.fold(e)
        raise Unsupported(f"{type(e).__name__} has no value in a body")

    def sized(self, value: Any) -> Any:
        """Return a value of the environment with symbolic sizes as code."""
        if isinstance(value, tuple):
            return tuple(map(self.sized, value))
        return Code(self.size(value), 0) if isinstance(value, Size) else value

    def operand(self, name: str) -> Any:
        """Return an operand as it stands in a scalar body."""
        text = self.tensors[name]
        if not isinstance(text, str):
            return text
        return Code(text, level_of(text), _kind(self.dtypes[name]))

    def spliced(self, items: Sequence[Expr], lists: bool = False) -> tuple[Any, ...]:
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
        """Apply an operator: in Python where both sides are known now, else in the generated file."""
        if not isinstance(a, Code) and not isinstance(b, Code):
            if op == "and":
                return a and b
            return (a or b) if op == "or" else evaluate(Bin(op, Sym("a"), Sym("b")), {"a": a, "b": b})
        return join(op, a, b)

    def call(self, e: Call) -> Any:
        """Apply an intrinsic, ``pad``, or a function of lists."""
        if e.fn == "pad":
            target, fill = e.args
            if not isinstance(target, Load):
                raise Unsupported("pad of anything but a load")
            return self.load(target.name, target.index, fill=self.value(fill))
        if e.fn == "present":
            return evaluate(e, self.env)
        if e.fn == "cast":
            operand, to = e.args
            v, dtype = as_code(self.value(operand)), self.value(to)
            text = JAX_DTYPES[dtype]
            made = f"{v.at(ATOM)}.astype({text})" if v.extents or v.kind else f"jnp.asarray({v.text}, {text})"
            return Code(made, ATOM, _kind(dtype), v.extents)
        arguments = self.spliced(e.args)
        row = INTRINSICS.get(e.fn)
        if row is not None and (e.fn not in FUNCTIONS or any(isinstance(a, Code) for a in arguments)):
            codes = [as_code(a) for a in arguments]
            if e.fn == "where":
                known = codes[1:]
                kind = "float" if any(c.kind == "float" for c in known) else known[0].kind
            elif row.result == "bool":
                kind = "bool"
            else:
                kind = "float" if any(c.kind == "float" for c in codes) else codes[0].kind
            text = f"{function_text(row.jax)}({', '.join(c.text for c in codes)})"
            return Code(text, ATOM, kind, _together(codes), _call_bounds(e.fn, codes))
        return FUNCTIONS[e.fn](*arguments, **{k: self.value(v) for k, v in e.kwargs})

    # -- loads --------------------------------------------------------------------------------------------------------

    def load(self, name: str, index: Sequence[Expr], fill: Any = None) -> Any:
        """Return elements of an operand, or an item of a list; outside an operand the value is ``fill``, if given."""
        items = self.spliced(index, lists=True)
        if name not in self.tensors:
            return self.value(Sym(name))[items[0]]
        x, kind = self.tensors[name], _kind(self.dtypes[name])
        if not isinstance(x, str):
            return x
        codes = [as_code(i) for i in items]
        extents = _together(codes)
        direct = self.view(name, x, codes)
        if direct is not None:
            return Code(direct, ATOM, kind, extents)
        texts = [self.local(c) for c in codes]
        if fill is None:
            return Code(f"{x}[{', '.join(texts)}]", ATOM, kind, extents)
        self.helpers[PADDED] = None
        if kind == "int" and isinstance(fill, float) and math.isinf(fill):
            fill = INTEGER_RANGES[self.dtypes[name]][fill > 0]
        return Code(f"padded({x}, {as_code(fill).text}, {', '.join(texts)})", ATOM, kind, extents)

    def view(self, name: str, x: str, codes: Sequence[Code]) -> str | None:
        """Return the load by transposition and new axes where each index is a variable of its own; else None."""
        shape = self.shapes.get(name)
        places = [c.variable for c in codes]
        if shape is None or len(set(places)) != len(places) or any(p < 0 for p in places):
            return None
        for code, size in zip(codes, shape, strict=True):
            if code.extents[code.variable] != size:
                return None
        order = sorted(range(len(places)), key=lambda i: -places[i])
        if order != list(range(len(places))):
            x = f"jnp.transpose({x}, {tuple(order)})"
        highest = max(places, default=-1)
        if len(places) == highest + 1:
            return x
        axes = [":" if p in places else "None" for p in range(highest, -1, -1)]
        return f"{x}[{', '.join(axes)}]" if places else x

    # -- folds --------------------------------------------------------------------------------------------------------

    def fold(self, e: Fold) -> Code:
        """Return ``sum{k in K} body`` over the iteration space so far."""
        ranges = [(n, self.value(r)) for n, r in e.ranges]
        if e.combiner == "sum" and not any(isinstance(r, Code) and r.extents for _, r in ranges):
            product = self.contraction(e.body, ranges)
            if product is not None:
                return product
        depth = self.depth
        inside: list[Code] = []
        for name, extent in reversed(ranges):
            size = extent
            if isinstance(extent, Code) and extent.extents:
                if extent.bounds is not None:
                    size = max(extent.bounds[1], 0)
                elif 0 in extent.extents.values():  # there is no coordinate to depend on
                    size = 0
                else:
                    raise Unsupported(f"the range of {name} depends on coordinates of symbolic size")
            elif isinstance(extent, Code):
                size = extent.bounds[0] if extent.bounds is not None and _is_number(extent) else self.env_size(extent)
            variable = self.variable(name, self.depth, size)
            self.bound[name] = variable
            self.depth += 1
            if isinstance(extent, Code) and extent.extents:
                inside.append(join("<", variable, extent))
        v = as_code(self.value(e.body))
        for name, _ in ranges:
            del self.bound[name]
        if inside:
            test = inside[0]
            for other in inside[1:]:
                test = join("and", test, other)
            identity = Code(_IDENTITIES[e.combiner], MINUS if _IDENTITIES[e.combiner][0] == "-" else ATOM, v.kind)
            v = Code(f"jnp.where({test.text}, {v.text}, {identity.text})", ATOM, v.kind, _together([v, test]))
        n = self.depth - depth
        folded = range(depth, self.depth)
        self.depth = depth
        text = self.use(v)
        if not all(p in v.extents for p in folded):
            sizes = [v.extents.get(p, self.sizes[p] if p in folded else 1) for p in range(depth + n - 1, -1, -1)]
            text = f"jnp.broadcast_to({text}, ({', '.join(map(self.size, sizes))},))"
        axes = str(tuple(range(n))) if n > 1 else "0"
        rest = {p: s for p, s in v.extents.items() if p < depth}
        kind = "bool" if e.combiner in ("any", "all") else "int" if v.kind == "bool" else v.kind
        return Code(f"{_REDUCTIONS[e.combiner]}({text}, axis={axes})", ATOM, kind, rest)

    def env_size(self, code: Code) -> SizeLike:
        """Return the size that a piece of code stands for."""
        for v in self.env.values():
            if isinstance(v, Size) and self.size(v) == code.text:
                return v
        raise Unsupported(f"'{code.text}' is the range of a fold, expected a size")

    def contraction(self, body: Expr, ranges: Sequence[tuple[str, Any]]) -> Code | None:
        """Return the sum of a product of loads by plain variables through ``einsum``; None where the body is not one."""
        factors: list[Load] = []

        def collect(e: Expr) -> bool:
            if isinstance(e, Bin) and e.op == "*":
                return collect(e.a) and collect(e.b)
            if isinstance(e, Load) and isinstance(self.tensors.get(e.name), str):
                factors.append(e)
                return True
            return False

        if not collect(body) or len(factors) < 2:
            return None
        own = {name: Code(name, ATOM, "int", {self.depth + i: size}, None, self.depth + i)
               for i, (name, size) in enumerate(reversed(ranges))}  # fmt: skip
        self.bound.update(own)
        try:
            terms, extents = [], dict[int, SizeLike]()
            for f in factors:
                codes = [as_code(i) for i in self.spliced(f.index, lists=True)]
                places = [c.variable for c in codes]
                if any(p < 0 for p in places) or len(set(places)) != len(places):
                    return None
                shape = self.shapes.get(f.name)
                if shape is None or any(c.extents[p] != s for c, p, s in zip(codes, places, shape, strict=True)):
                    return None
                terms.append("".join(_letter(p) for p in places))
                extents.update(_together(codes))
        finally:
            for name in own:
                del self.bound[name]
        if any(p not in extents for c in own.values() for p in c.extents) or max(extents) > 25:
            return None
        kept = [p for p in sorted(extents, reverse=True) if p < self.depth]
        inputs = ", ".join(self.tensors[f.name] for f in factors)
        text = f'jnp.einsum("{",".join(terms)}->{"".join(map(_letter, kept))}", {inputs})'
        if kept and len(kept) != kept[0] + 1:
            axes = [":" if p in kept else "None" for p in range(kept[0], -1, -1)]
            text += f"[{', '.join(axes)}]"
        kind = "float" if any(_kind(self.dtypes[f.name]) == "float" for f in factors) else "int"
        return Code(text, ATOM, kind, {p: extents[p] for p in kept})


def _letter(position: int) -> str:
    return "zyxwvutsrqponmlkjihgfedcba"[position]


def _kind(dtype: str) -> str:
    return "bool" if dtype == "bool" else "float" if is_float(dtype) else "int"


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}(?!\w)", text) is not None


def _call_bounds(fn: str, codes: Sequence[Code]) -> Bounds:
    known: list[tuple[int, int]] = [c.bounds for c in codes if c.bounds is not None]
    if len(known) != len(codes) or any(c.kind != "int" for c in codes):
        return None
    pick: dict[str, Callable[..., int]] = {"min": min, "max": max}
    if fn in pick:
        return pick[fn](b[0] for b in known), pick[fn](b[1] for b in known)
    if fn == "abs":
        low, high = known[0]
        return (0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    return None
