"""Text of kernels: values with names, statements in nested scopes, parameters collected as they are used."""

from __future__ import annotations

import builtins
import keyword
import math
from collections.abc import Iterable

import attrs

from ...ir import SizeLike, Unsupported
from ...ir.typesys import is_float
from .coords import Space

#: Triton's name of each element type.
TRITON_DTYPES = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float16", "bf16": "tl.bfloat16",
    "i64": "tl.int64", "i32": "tl.int32", "i8": "tl.int8", "u8": "tl.uint8", "bool": "tl.int1",
}  # fmt: skip

#: PyTorch's name of each element type.
TORCH_DTYPES = {
    "f64": "torch.float64", "f32": "torch.float32", "f16": "torch.float16", "bf16": "torch.bfloat16",
    "i64": "torch.int64", "i32": "torch.int32", "i8": "torch.int8", "u8": "torch.uint8", "bool": "torch.bool",
}  # fmt: skip

#: Binding strength of the operators in generated text, weakest first.
LEVELS = {
    "==": 1, "!=": 1, "<": 1, "<=": 1, ">": 1, ">=": 1, "|": 2, "^": 3, "&": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6,
    "neg": 7, "atom": 9,
}  # fmt: skip

#: Names that generated code does not use for values: Python's own, and those of the modules it imports.
RESERVED = frozenset(keyword.kwlist) | frozenset(dir(builtins)) | {"tl", "triton", "torch", "libdevice"}


@attrs.frozen
class Val:
    """A scalar of every lane: Triton text, element type, and the axes along which it varies.

    Attributes:
        dtype: the element type that the text has (``bf16`` and ``f16`` only straight after a load); empty for a literal,
            which takes the type of its partner.
        level: binding strength of the outermost operator of the text.
        literal: the Python number, for literals.
        zero_outside: whether masked lanes are known to hold 0.
    """

    text: str
    dtype: str
    axes: frozenset[str] = frozenset()
    level: int = LEVELS["atom"]
    literal: bool | int | float | None = None
    zero_outside: bool = False

    def inside(self, level: int) -> str:
        """Return the text for a context that binds with ``level``."""
        return self.text if self.level >= level else f"({self.text})"


def literal(value: bool | int | float) -> Val:
    """Return a literal."""
    if isinstance(value, float) and not math.isfinite(value):
        return Val(f'float("{value}")', "", literal=value)
    text = repr(value)
    return Val(text, "", level=LEVELS["neg"] if text.startswith("-") else LEVELS["atom"], literal=value)


class Names:
    """Unique identifiers near to wished ones."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken) | RESERVED

    def fresh(self, wish: str) -> str:
        """Return an unused identifier and take it."""
        base = "".join(c if c.isalnum() or c == "_" else "_" for c in wish) or "t"
        base = f"t{base}" if base[0].isdigit() else base
        name, n = base, 0
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        return name


class Scope:
    """A straight run of statements; the axes it introduces exist only inside."""

    def __init__(self, axes: Iterable[str] = ()) -> None:
        self.axes = set(axes)
        self.lines: list[str] = []
        self.memo: dict[object, Val] = {}


class Writer:
    """The body of one kernel under construction.

    A statement goes into the outermost scope in which everything that it depends on exists, so what a loop does not change
    is computed before the loop.
    """

    def __init__(self, space: Space, names: Names) -> None:
        self.space = space
        self.names = names
        self.scopes = [Scope()]
        self.masks: dict[str, str] = {}
        self.pointers: dict[str, str] = {}
        #: Eviction policy of loads of the tensors in ``streamed``; empty for none.
        self.policy = ""
        self.streamed: set[str] = set()

    # -- scopes -------------------------------------------------------------------------------------------------------
    def open(self, axes: Iterable[str]) -> None:
        """Begin a nested scope that introduces ``axes``."""
        self.scopes.append(Scope(axes))

    def close(self, head: str, first: Iterable[str] = (), last: Iterable[str] = ()) -> None:
        """End the innermost scope: append ``head`` and the indented body to the enclosing scope."""
        scope = self.scopes.pop()
        body = [*first, *scope.lines, *last]
        self.scopes[-1].lines += [head, *("    " + line for line in (body or ["pass"]))]

    def scope_of(self, axes: Iterable[str]) -> Scope:
        """Return the outermost scope in which ``axes`` exist."""
        wanted = set(axes)
        for scope in reversed(self.scopes[1:]):
            if scope.axes & wanted:
                return scope
        return self.scopes[0]

    @property
    def lines(self) -> list[str]:
        """The statements of the innermost scope."""
        return self.scopes[-1].lines

    def find(self, key: object) -> Val | None:
        """Return what was remembered under ``key`` in a scope that is still open."""
        for scope in reversed(self.scopes):
            if key in scope.memo:
                return scope.memo[key]
        return None

    def remember(self, key: object, val: Val) -> Val:
        """Remember ``val`` under ``key`` for as long as its scope is open."""
        self.scope_of(val.axes).memo[key] = val
        return val

    # -- statements ---------------------------------------------------------------------------------------------------
    def assign(self, wish: str, val: Val) -> Val:
        """Give ``val`` a name, unless it is a name or a literal already."""
        if val.literal is not None or val.text.isidentifier():
            return val
        name = self.names.fresh(wish)
        self.scope_of(val.axes).lines.append(f"{name} = {val.text}")
        return attrs.evolve(val, text=name, level=LEVELS["atom"])

    def pointer(self, name: str) -> str:
        """Return the kernel parameter that points to the tensor ``name``."""
        if name not in self.pointers:
            self.pointers[name] = self.names.fresh(f"{name}_ptr")
        return self.pointers[name]

    def mask(self, axes: Iterable[str], guard: tuple[Val, ...] = ()) -> str:
        """Return the conjunction of the masks of ``axes`` and of ``guard``; empty where nothing needs a mask."""
        parts = [self.masks[a] for a in self.masks if a in axes and self.masks[a]]
        parts += [g.inside(LEVELS["&"] + 1) for g in guard]
        return " & ".join(dict.fromkeys(parts))

    def load(self, name: str, dtype: str, offset: SizeLike, guard: tuple[Val, ...] = ()) -> Val:
        """Load an element of the tensor ``name``; masked lanes hold 0."""
        axes = self.space.depends(offset).union(*(g.axes for g in guard))
        mask = self.mask(axes, guard)
        where = f"{self.pointer(name)} + {self.space.text(offset, 1)}" if offset != 0 else self.pointer(name)
        other = "0.0" if is_float(dtype) else "0"
        options = f", mask={mask}, other={other}" if mask else ""
        if self.policy and name in self.streamed:
            options += f', eviction_policy="{self.policy}"'
        text = f"tl.load({where}{options})"
        return self.assign(name, Val(text, dtype, axes, zero_outside=bool(mask)))

    def store(self, name: str, offset: SizeLike, val: Val, dtype: str) -> None:
        """Store ``val`` to the tensor ``name``."""
        mask = self.mask(self.space.depends(offset))
        where = f"{self.pointer(name)} + {self.space.text(offset, 1)}" if offset != 0 else self.pointer(name)
        text = convert(val, dtype).text if val.literal is None else val.text
        self.lines.append(f"tl.store({where}, {text}, mask={mask})" if mask else f"tl.store({where}, {text})")


def convert(val: Val, dtype: str) -> Val:
    """Return ``val`` as an element of ``dtype``; literals stay literals."""
    if val.dtype == dtype or (not val.dtype and val.literal is None):
        return val
    if val.literal is not None:
        if is_float(dtype):
            return literal(float(val.literal))
        if dtype == "bool":
            return literal(bool(val.literal))
        if isinstance(val.literal, float) and not math.isfinite(val.literal):
            raise Unsupported(f"the literal {val.literal} has no value as {dtype}")
        return literal(int(val.literal))
    if dtype == "bool":
        return Val(f"{val.inside(LEVELS['=='] + 1)} != 0", "bool", val.axes, LEVELS["!="])
    return Val(
        f"{val.inside(LEVELS['atom'])}.to({TRITON_DTYPES[dtype]})", dtype, val.axes, zero_outside=val.zero_outside
    )


def computing(val: Val) -> Val:
    """Return ``val`` in the type that arithmetic uses: half types widen to f32."""
    return convert(val, "f32") if val.dtype in ("bf16", "f16") else val
