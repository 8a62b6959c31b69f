"""Assembly of a candidate's source: kernels, and the launcher with the fragment's signature."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from ...ir import Graph, SizeLike
from ...ir.size import substitute, symbols_of
from ...ir.text import print_graph
from .coords import Space
from .writer import RESERVED, TORCH_DTYPES, Names, Writer


@attrs.frozen
class Sizes:
    """Where the launcher finds the symbols of the fragment, and what they are in the fragment itself.

    Attributes:
        origin: symbol -> (input, axis).
        hints: symbol -> size in the fragment (a typical size where the fragment is dynamic).
        dynamic: symbols that change from call to call; the others are compiled into the kernel.
    """

    origin: Mapping[str, tuple[str, int]] = attrs.field(factory=dict)
    hints: Mapping[str, int] = attrs.field(factory=dict)
    dynamic: frozenset[str] = frozenset()

    def hint(self, size: SizeLike) -> int:
        """Return ``size`` in the fragment itself."""
        if isinstance(size, int):
            return size
        value = substitute(size, dict(self.hints))
        return value if isinstance(value, int) else 1024


_TEXT = Space()


def size_text(size: SizeLike, level: int = 0) -> str:
    """Return Python text of a size over its symbols."""
    return _TEXT.text(size, level)


@attrs.define
class Launch:
    """One kernel and how to launch it.

    Attributes:
        writer: the body.
        grid: sizes of the grid, as launcher text over sizes and block names.
        constants: constexpr parameters -> launcher text.
        options: ``num_warps`` and ``num_stages``.
        suffix: distinguishes the kernels of one candidate.
        descriptors: parameters that are tensor descriptors -> (the tensor, shape, strides and block of it as launcher text).
    """

    writer: Writer
    grid: tuple[str, ...]
    constants: dict[str, str]
    options: dict[str, int]
    suffix: str = "kernel"
    descriptors: dict[str, tuple[str, str]] = attrs.field(factory=dict)


class Assembly:
    """Builds the source of one candidate.

    Args:
        graph: the fragment as given, for the docstring and the outputs.
        typed: the fragment with symbolic sizes, for shapes.
        entry: name of the launcher and prefix of every top-level name.
        sizes: where symbols come from.
        n_multiprocessors: those of the target.
    """

    def __init__(self, graph: Graph, typed: Graph, entry: str, sizes: Sizes, n_multiprocessors: int = 132) -> None:
        self.graph = graph
        self.typed = typed
        self.entry = entry
        self.sizes = sizes
        self.n_multiprocessors = n_multiprocessors
        self.launches: list[Launch] = []
        #: What the launcher asks before it makes ``launches``, and what it launches where the answer is no.
        self.condition = ""
        self.otherwise: list[Launch] = []
        self.buffers: list[tuple[str, str, str]] = []
        self.helpers: dict[str, str] = {}

    def buffer(self, name: str, shape_text: str, dtype: str) -> None:
        """Declare a workspace that the launcher allocates."""
        self.buffers.append((name, shape_text, dtype))

    def source(self, note: str) -> str:
        """Return the module text: kernels, then the launcher."""
        parts = [*self.helpers.values(), *(self._kernel(launch) for launch in self.launches + self.otherwise)]
        parts.append(self._launcher(note))
        return "\n\n\n".join(parts) + "\n"

    def _kernel(self, launch: Launch) -> str:
        w = launch.writer
        assert len(w.scopes) == 1
        body = w.scopes[0].lines
        used = self._sizes_used(body)
        params = [*w.pointers.values(), *launch.descriptors]
        params += [s if s in self.sizes.dynamic else f"{s}: tl.constexpr" for s in used]
        params += [f"{c}: tl.constexpr" for c in launch.constants]
        head = _wrapped(f"def {self.entry}_{launch.suffix}(", params, "):")
        return "\n".join(["@triton.jit", head, *("    " + line for line in body)])

    def _sizes_used(self, lines: Iterable[str]) -> list[str]:
        words = set(re.findall(r"[A-Za-z_]\w*", "\n".join(lines)))
        return [s for s in self._symbols() if s in words]

    def _symbols(self) -> list[str]:
        found: dict[str, None] = {}
        for i in self.typed.inputs:
            for n in i.type.shape:
                for s in sorted(symbols_of(n), key=lambda s: s.name):
                    found[s.name] = None
        return list(found)

    def _launcher(self, note: str) -> str:
        g = self.typed
        names = [i.name for i in g.inputs]
        outputs = [o for o in g.outputs if isinstance(o, str)]
        ir = [line for line in print_graph(self.graph).splitlines() if line.strip() and not line.startswith("drt ")]
        lines = [f"def {self.entry}({', '.join(_safe(n) for n in names)}):"]
        lines += [f'    """{note}', "", *("    " + line for line in ir), '    """']
        body: list[str] = []
        every = self.launches + self.otherwise
        pointed = {
            p for launch in every for p in [*launch.writer.pointers, *(name for name, _ in launch.descriptors.values())]
        }
        if any(launch.descriptors for launch in every):
            # Triton does not load this module by itself.
            body.append("from triton.tools.tensor_descriptor import TensorDescriptor")
        for n in names:
            if n in pointed and g.types[n].rank:
                body.append(f"{_safe(n)} = {_safe(n)}.contiguous()")
        calls: list[str] = []
        for launch in self.launches:
            calls += self._call(launch)
        if self.condition:
            plain = [line for launch in self.otherwise for line in self._call(launch)]
            calls = [f"if {self.condition}:", *("    " + c for c in calls), "else:", *("    " + c for c in plain)]
        made = dict.fromkeys(outputs)
        device = f"{_safe(names[0])}.device" if names else '"cuda"'
        allocations = []
        for o in made:
            t = g.types[o]
            shape = ", ".join(size_text(s) for s in t.shape)
            shape = f"({shape},)" if t.rank == 1 else f"({shape})"
            allocations.append(f"{_safe(o)} = torch.empty({shape}, dtype={TORCH_DTYPES[t.dtype]}, device={device})")
        for name, shape, dtype in self.buffers:
            allocations.append(f"{name} = torch.empty({shape}, dtype={dtype}, device={device})")
        returned = ", ".join(_safe(o) for o in outputs)
        if any(not isinstance(g.types[o].numel, int) or g.types[o].numel == 0 for o in made):
            empty = " and ".join(f"{_safe(o)}.numel() == 0" for o in made)
            allocations += [f"if {empty}:", f"    return {returned}"]
        body += self._size_lines([*allocations, *calls])
        body += allocations + calls
        body.append(f"return {returned}")
        return "\n".join([*lines, *("    " + line for line in body)])

    def _size_lines(self, lines: Sequence[str]) -> list[str]:
        used = self._sizes_used(lines)
        out: list[str] = []
        by_input: dict[str, dict[int, str]] = {}
        for s in used:
            name, axis = self.sizes.origin[s]
            by_input.setdefault(name, {})[axis] = s
        for name, axes in by_input.items():
            rank = self.typed.types[name].rank
            if len(axes) == 1 and rank > 1:
                ((axis, s),) = axes.items()
                out.append(f"{s} = {_safe(name)}.shape[{axis}]")
            else:
                unpacked = ", ".join(axes.get(k, "_") for k in range(rank))
                out.append(f"{unpacked}{',' if rank == 1 else ''} = {_safe(name)}.shape")
        return out

    def _call(self, launch: Launch) -> list[str]:
        w = launch.writer
        used = self._sizes_used(w.scopes[0].lines)
        arguments = [_safe(n) for n in w.pointers]
        arguments += [f"TensorDescriptor({_safe(n)}, {text})" for n, text in launch.descriptors.values()]
        arguments += [s if s in self.sizes.dynamic else f"{s}={s}" for s in used]
        arguments += [f"{c}={text}" for c, text in launch.constants.items()]
        arguments += [f"{k}={v}" for k, v in launch.options.items()]
        # A positional argument may not follow a keyword one.
        arguments.sort(key=lambda a: "=" in a.split("(")[0])
        grid = ", ".join(launch.grid) + ("," if len(launch.grid) == 1 else "")
        head = f"{self.entry}_{launch.suffix}[({grid})]("
        return _wrapped(head, arguments, ")").split("\n")


def _safe(name: str) -> str:
    return name + "_" if name in RESERVED else name


def _wrapped(head: str, items: Sequence[str], tail: str, width: int = 112) -> str:
    line = head + ", ".join(items) + tail
    if len(line) <= width:
        return line
    return (
        "\n".join([head, "    " + ", ".join(items) + ",", tail])
        if len(", ".join(items)) < width - 8
        else "\n".join([head, *("    " + i + "," for i in items), tail])
    )


def new_names(graph: Graph) -> Names:
    """Return a name pool in which the fragment's symbols and inputs are taken."""
    taken = {s.name for t in graph.types.values() for n in t.shape for s in symbols_of(n)}
    return Names(taken)


def next_power_of_2(n: int) -> int:
    """Return the least power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()


def ceildiv(a: int, b: int) -> int:
    """Return ``a / b`` rounded up."""
    return -(-a // b)


def product(sizes: Iterable[SizeLike]) -> SizeLike:
    """Return the product of sizes."""
    return math.prod(sizes)  # type: ignore[arg-type]
