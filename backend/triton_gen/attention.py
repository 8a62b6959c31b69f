"""Attention: softmax(scale * q k^T + mask) v in one pass over the keys, with running maxima and sums (flash attention).

A program holds a tile of queries and walks the keys in blocks.  The operands are pulled at tile coordinates, so the heads may
lie anywhere in a bigger projection, keys and values may be shared by several heads, and nothing of that is materialised.
Exponentials are taken to the base 2 with the scale folded in.  Blocks that a causal mask leaves whole are walked first,
without any mask; then those that it (or the end of the keys) cuts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from ...ir import Node, SizeLike, Unsupported
from ...ir.cost import node_flops
from ...ir.evaluate import FUNCTIONS
from ...ir.size import Symbol, symbols_of
from ...ir.typesys import DTYPES
from .coords import Space, atom, terms
from .epilogue import output_coordinates
from .kernel import Assembly, Launch, Sizes, new_names, next_power_of_2, product, size_text
from .pull import Coordinates, Program, Pull, Site
from .symbolic import ATTENTION
from .writer import LEVELS, TRITON_DTYPES, Names, Val, Writer, computing, convert

LOG2_E = 1.4426950408889634

#: Widest head whose tiles fit a multiprocessor.
MAX_HEAD = 512

_LOCALS = {
    "m", "n", "n_v", "d_q", "d_k", "d_v", "b", "pid", "tile", "tiles", "split", "first", "last", "diagonal", "start", "acc",
    "top", "weight", "scores", "keep", "raised", "base", "fade", "p", "part", "BLOCK_M", "BLOCK_N", "BLOCK_E", "BLOCK_V",
    "SCALE", "SPLITS", "CHUNK",
}  # fmt: skip

_WHAT = "the attention"


@attrs.frozen
class Tiling:
    """Block sizes and launch options of one variant.

    Attributes:
        splits: programs that share the keys of one tile of queries.
        descriptors: whether keys and values come through the bulk copy engine.
    """

    m: int
    n: int
    num_warps: int
    num_stages: int
    arithmetic: str = ""
    splits: int = 1
    descriptors: bool = False

    @property
    def label(self) -> str:
        """The variant's name."""
        split = f" split {self.splits}" if self.splits > 1 else " tma" if self.descriptors else ""
        arithmetic = f" {self.arithmetic}" if self.arithmetic else ""
        return f"attention {self.m}x{self.n}{arithmetic} w{self.num_warps} s{self.num_stages}{split}"


@attrs.frozen
class Attention:
    """The attention of a fragment.

    Attributes:
        node: its node.
        q, k, v: names of the operands; ``mask`` is None where there is none.
        batch: the sizes in front of queries and width.
        queries, keys, width, value_width: L, S, E and EV of the operator.
        causal: whether query i sees keys 0..i only.
        scale: the factor of the scores; None for ``E ** -0.5``.
    """

    node: Node
    q: str
    k: str
    v: str
    mask: str | None
    batch: tuple[SizeLike, ...]
    queries: SizeLike
    keys: SizeLike
    width: SizeLike
    value_width: SizeLike
    causal: bool
    scale: float | None
    outputs: tuple[str, ...]

    @property
    def value(self) -> str:
        """The name of the result."""
        return self.node.results[0]


def is_attention(node: Node) -> bool:
    """Return whether ``node`` stays whole because this family writes it."""
    return node.op == ATTENTION


def find_attention(program: Program) -> Attention | None:
    """Return the attention of a fragment; None where it has none.

    Raises:
        Unsupported: there are several, or this family cannot write it.
    """
    nodes = [n for n in program.graph.nodes if is_attention(n)]
    if not nodes:
        return None
    if len(nodes) > 1:
        raise Unsupported("more than one attention")
    node = nodes[0]
    operands = [*node.operands, *([None] * (4 - len(node.operands)))]
    q, k, v, mask = operands
    if not isinstance(q, str) or not isinstance(k, str) or not isinstance(v, str):
        raise Unsupported("attention of numbers")
    types = program.types
    *batch, queries, width = types[q].shape
    keys, value_width = types[v].shape[-2:]
    if types[q].dtype not in ("bf16", "f16", "f32"):
        raise Unsupported(f"attention of {types[q].dtype}")
    if width == 1 or value_width == 1:
        raise Unsupported("attention with heads of one element")
    outputs = tuple(o for o in program.graph.outputs if isinstance(o, str))
    scale = node.attributes.get("scale")
    found = Attention(
        node, q, k, v, mask if isinstance(mask, str) else None, tuple(batch), queries, keys, width, value_width,
        bool(node.attributes.get("causal")), float(scale) if isinstance(scale, (int, float)) else None, outputs,
    )  # fmt: skip
    space = Space()
    at = tuple(space.axis(f"i{k}", n) if n != 1 else 0 for k, n in enumerate(node.types[0].shape))
    for o in outputs:
        output_coordinates(program, {found.value}, space, o, at, _WHAT)
    return found


def repeats_work(program: Program, a: Attention) -> bool:
    """Return whether keys or values are computed on the way in: every tile of queries would compute them again."""
    stack, seen = [a.k, a.v], set()
    while stack:
        v = stack.pop()
        node = program.producers.get(v)
        if node is None or v in seen:
            continue
        seen.add(v)
        stack.extend(node.uses())
        if node.op != "cast" and node_flops(node, program.types, program.ops) != 0:
            return True
    return False


class _TileWriter(Writer):
    """A writer that keeps the addresses of the first block, where those of later blocks are a multiple of ``start`` away."""

    def __init__(self, space: Space, names: Names, moving: Mapping[str, str], wide: bool) -> None:
        super().__init__(space, names)
        self.moving, self.wide = moving, wide
        self._bases: dict[tuple[object, ...], str] = {}

    def load(self, name: str, dtype: str, offset: SizeLike, guard: tuple[Val, ...] = ()) -> Val:
        """Load an element of the tensor ``name``; masked lanes hold 0."""
        axes = self.space.depends(offset)
        axis = next((a for a in self.moving if a in axes), None)
        parts = self.parted(offset, axis) if axis is not None and not guard else None
        if axis is None or parts is None:
            return super().load(name, dtype, offset, guard)
        rest, stride = parts
        step = self.space.text(stride, 2)
        key = (name, rest, stride, axis)
        if key not in self._bases:
            self._bases[key] = self.names.fresh(f"{name}_block")
            lanes = f"{self.moving[axis]} * {step}" if stride != 1 else self.moving[axis]
            start = f" + {self.space.text(rest, 1)}" if rest != 0 else ""
            self.scopes[0].lines.append(f"{self._bases[key]} = {self.pointer(name)}{start} + {lanes}")
        mask = self.mask(axes)
        far = f"start * tl.full([], {step}, tl.int64)" if self.wide else f"start * {step}" if stride != 1 else "start"
        options = f", mask={mask}, other=0.0" if mask else ""
        return self.assign(
            name, Val(f"tl.load({self._bases[key]} + {far}{options})", dtype, axes, zero_outside=bool(mask))
        )

    def parted(self, offset: SizeLike, axis: str) -> tuple[SizeLike, SizeLike] | None:
        """Return (rest, stride) with ``offset == rest + axis*stride``, or None."""
        rest: SizeLike = 0
        stride: SizeLike = 0
        for atoms, coefficient in terms(offset):
            term: SizeLike = coefficient
            left = [a for a in atoms if not (isinstance(a, Symbol) and a.name == axis)]
            for a in left:
                term = term * atom(a)
            if axis in self.space.depends(term):
                return None
            if len(left) == len(atoms):
                rest = rest + term
            elif len(left) == len(atoms) - 1:
                stride = stride + term
            else:
                return None
        return (rest, stride) if not self.space.depends(stride) else None


class AttentionWriter:
    """Writes one variant of an attention.

    Args:
        program: the fragment, its attention whole and everything else in primitives.
        attention: what :func:`find_attention` found.
        tiling: the variant.
        assembly: receives the kernels.
    """

    def __init__(self, program: Program, attention: Attention, tiling: Tiling, assembly: Assembly) -> None:
        self.program, self.a, self.t, self.assembly = program, attention, tiling, assembly
        self.sizes: Sizes = assembly.sizes
        self.wide = any(self.sizes.hint(t.numel) >= 2**31 for t in program.types.values())
        self.dtype = program.types[attention.q].dtype
        if tiling.splits > 1 and attention.causal:
            raise Unsupported("the keys of a causal attention in several parts")
        self.descriptors: dict[str, tuple[str, str]] = {}
        self.conditions: dict[str, None] = {}

    def write(self) -> None:
        """Write the kernel, and the one that joins the splits where there are several.

        Through descriptors, another kernel serves the sizes and addresses that are not aligned.
        """
        self._tiles()
        if not self.t.descriptors:
            return
        conditions = [c for c in self.conditions if c != "True"]
        if "False" in conditions:
            raise Unsupported("rows that are not aligned, or blocks that reach beyond the keys")
        if conditions:
            start = len(self.assembly.launches)
            AttentionWriter(self.program, self.a, attrs.evolve(self.t, descriptors=False), self.assembly).write()
            self.assembly.otherwise = [attrs.evolve(x, suffix="plain") for x in self.assembly.launches[start:]]
            del self.assembly.launches[start:]
            self.assembly.condition = " and ".join(conditions)

    def _tiles(self) -> None:
        a, t = self.a, self.t
        self._start(_LOCALS)
        w = self.w
        rows, keys = size_text(a.queries, 1), size_text(a.keys, 1)
        wide = ".to(tl.int64)" if self.wide else ""
        batch = product(a.batch)
        w.lines.extend(["pid = tl.program_id(0)", f"tiles = tl.cdiv({size_text(a.queries)}, BLOCK_M)"])
        if a.causal:
            w.lines.extend(["# Later queries see more keys: the programs with most work start first.",
                        "tile = tiles - 1 - pid % tiles"])  # fmt: skip
        else:
            w.lines.append("tile = pid % tiles")
        b = self._batch(batch, f"(pid // tiles){wide}")
        w.lines.extend(self._axis("m", a.queries, f"tile{wide} * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]",
                              f"{size_text(a.queries, 2)} % BLOCK_M != 0"))  # fmt: skip
        w.lines.extend(
            self._axis("d_q", a.width, "tl.arange(0, BLOCK_E)[None, :]", f"{size_text(a.width, 1)} != BLOCK_E")
        )
        d_k = self._axis("d_k", a.width, "tl.arange(0, BLOCK_E)[:, None]", f"{size_text(a.width, 1)} != BLOCK_E")
        if not t.descriptors:
            w.lines.extend(d_k)
        w.lines.extend(self._axis("d_v", a.value_width, "tl.arange(0, BLOCK_V)[None, :]",
                              f"{size_text(a.value_width, 1)} != BLOCK_V"))  # fmt: skip
        for name in self.moving:
            self.space.axis(name, a.keys)
        at = self.space.unravel(b, a.batch)
        m = self._or_zero("m", a.queries)
        q = self._tile(self.pull.value(a.q, (*at, m, self._atom("d_q"))), ("m", "d_q"), ("BLOCK_M", "BLOCK_E"), "q")
        w.lines.extend(
            [
                'top = tl.full([BLOCK_M], float("-inf"), tl.float32)',
                "weight = tl.zeros([BLOCK_M], tl.float32)",
                "acc = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)",
            ]
        )
        constants = {
            "BLOCK_M": str(t.m), "BLOCK_N": str(t.n), "BLOCK_E": _padded(a.width), "BLOCK_V": _padded(a.value_width),
            "SCALE": self._scale(),
        }  # fmt: skip
        grid = [f"triton.cdiv({size_text(a.queries)}, {t.m})" + (f" * {size_text(batch, 2)}" if batch != 1 else "")]
        if t.splits > 1:
            constants |= {
                "SPLITS": str(t.splits),
                "CHUNK": f"triton.cdiv(triton.cdiv({keys}, {t.splits}), {t.n}) * {t.n}",
            }
            grid.append(str(t.splits))
            w.lines.extend(["split = tl.program_id(1)", "first = split * CHUNK",
                        f"last = tl.minimum(first + CHUNK, {keys})"])  # fmt: skip
            self._loop(q, at, "for start in range(first, last, BLOCK_N):", True)
        elif a.causal:
            w.lines.extend(
                [
                    f"diagonal = tl.minimum((tile * BLOCK_M + 1) // BLOCK_N, {size_text(a.keys, 2)} // BLOCK_N) * BLOCK_N",
                    f"last = tl.minimum(tile * BLOCK_M + BLOCK_M, {keys})",
                ]
            )
            self._loop(q, at, "for start in range(0, diagonal, BLOCK_N):", False)
            self._loop(q, at, "for start in range(diagonal, last, BLOCK_N):", True)
        else:
            whole = f"{size_text(a.keys, 2)} // BLOCK_N * BLOCK_N"
            self._loop(q, at, f"for start in range(0, {whole}, BLOCK_N):", False)
            self._loop(q, at, f"for start in range({whole}, {keys}, BLOCK_N):", True)
        if t.splits > 1:
            self._store_parts(b)
        else:
            w.lines.append(f"acc = {_normalised(a)}")
            self._outputs(at, m)
        options = {"num_warps": t.num_warps, "num_stages": t.num_stages}
        self.assembly.launches.append(Launch(w, tuple(grid), constants, options, descriptors=self.descriptors))
        if t.splits > 1:
            self._finish(batch, rows)

    # -- parts --------------------------------------------------------------------------------------------------------
    def _start(self, taken: set[str]) -> None:
        self.space = Space()
        names = new_names(self.program.graph)
        names.taken |= taken
        self.moving = {"n": "tl.arange(0, BLOCK_N)[None, :]", "n_v": "tl.arange(0, BLOCK_N)[:, None]"}
        self.w: Writer = _TileWriter(self.space, names, self.moving, self.wide)
        self.pull = Pull(self.program, self.w, _refuse)

    def _batch(self, batch: SizeLike, text: str) -> SizeLike:
        if batch == 1:
            return 0
        self.w.lines.append(f"b = {text}")
        return self.space.axis("b", batch)

    def _axis(self, name: str, extent: SizeLike, text: str, partial: str) -> list[str]:
        """Declare an axis; ``partial`` is when a tile may reach beyond its end."""
        self.space.axis(name, extent)
        self.w.masks[name] = f"{name}_mask"
        bound = f"{name} < {size_text(extent, 1)}"
        fixed = not any(s.name in self.sizes.dynamic for s in symbols_of(extent))
        # Where tiles fit, the mask is a constant and folds away.
        mask = f"{bound} if {partial} else tl.full({name}.shape, True, tl.int1)" if fixed else bound
        return [f"{name} = {text}", f"{name}_mask = {mask}"]

    def _atom(self, name: str) -> SizeLike:
        return atom(Symbol(name))

    def _or_zero(self, name: str, extent: SizeLike) -> SizeLike:
        return 0 if extent == 1 else self._atom(name)

    def _scale(self) -> str:
        if self.a.scale is not None:
            return repr(self.a.scale * LOG2_E)
        if isinstance(self.a.width, int):
            return repr(self.a.width**-0.5 * LOG2_E)
        return f"{size_text(self.a.width, 2)} ** -0.5 * {LOG2_E!r}"

    def _tile(self, v: Val, axes: tuple[str, str], shape: tuple[str, str], wish: str) -> str:
        """Return an operand's tile in its own type, with zeros outside."""
        if v.literal is not None:
            raise Unsupported("an operand of an attention that is one number")
        if v.dtype != self.dtype:
            v = convert(computing(v) if v.dtype in ("bf16", "f16") else v, self.dtype)
        outside = [a for a in axes if self.w.masks.get(a) and not (v.zero_outside and a in v.axes)]
        if outside:
            named = self.w.assign(wish, v)
            mask = self.w.mask(outside)
            v = Val(f"tl.where({mask}, {named.text}, 0.0)", self.dtype, v.axes | set(outside))
        if not set(axes) <= v.axes:
            v = Val(f"tl.broadcast_to({v.text}, [{shape[0]}, {shape[1]}])", self.dtype, v.axes | set(axes))
        return self.w.assign(wish, v).text

    def _shared(self, name: str, at: Coordinates, row: SizeLike, column: SizeLike) -> Coordinates:
        """Return the coordinates in keys or values, whose heads may serve several heads of the queries."""
        shape = self.program.types[name].shape
        batch = self.a.batch
        own = shape[:-2]
        if own and len(own) == len(batch) and own[:-1] == batch[:-1] and own[-1] not in (1, batch[-1]):
            return (*at[:-1], self.space.floordiv(at[-1], self.space.floordiv(batch[-1], own[-1])), row, column)
        aligned: Coordinates = FUNCTIONS["align"]((*at, row, column), shape)
        return aligned

    def _loop(self, q: str, at: Coordinates, head: str, cut: bool) -> None:
        """Write a walk over blocks of keys; ``cut`` where some keys of a block may be out of sight."""
        a, t, w = self.a, self.t, self.w
        for name in self.moving:
            w.masks[name] = f"{name}_mask" if cut else ""
        w.open(self.moving)
        n, n_v = self._or_zero("n", a.keys), self._or_zero("n_v", a.keys)
        m = self._or_zero("m", a.queries)
        if t.descriptors:
            k = self._copied(a.k, at, "n", "d_k", a.width) + ".T"
        else:
            there = self._shared(a.k, at, n, self._atom("d_k"))
            k = self._tile(self.pull.value(a.k, there), ("d_k", "n"), ("BLOCK_E", "BLOCK_N"), "k")
        precision = f', input_precision="{self.t.arithmetic}"' if self.t.arithmetic else ""
        w.lines.append(f"scores = tl.dot({q}, {k}{precision})")
        hidden = [f"{'n_mask' if cut else ''}", "(n <= m)" if cut and a.causal else ""]
        scaled = False
        if a.mask is not None:
            shape = self.program.types[a.mask].shape
            mask = self.pull.value(a.mask, FUNCTIONS["align"]((*at, m, n), shape))
            w.lines.append("scores = scores * SCALE")
            scaled = True
            if mask.dtype == "bool" or isinstance(mask.literal, bool):
                hidden.append(mask.inside(LEVELS["&"] + 1) if mask.literal is None else str(mask.literal))
            else:
                added = convert(computing(mask), "f32") if mask.literal is None else mask
                w.lines.append(f"scores += {added.inside(LEVELS['*'])} * {LOG2_E!r}")
        hidden = [h for h in hidden if h]
        if hidden:
            text = "scores" if scaled else "scores * SCALE"
            scaled = True
            w.lines.append(f'scores = tl.where({" & ".join(hidden)}, {text}, float("-inf"))')
        highest = "tl.max(scores, axis=1)" + ("" if scaled else " * SCALE")
        exponent = "scores" if scaled else "scores * SCALE"
        w.lines.extend(
            [
                f"raised = tl.maximum(top, {highest})",
                "# Nothing but hidden keys so far: any finite base leaves their weights 0.",
                'base = tl.where(raised == float("-inf"), 0.0, raised)',
                f"p = tl.exp2({exponent} - base[:, None])",
                "fade = tl.exp2(top - base)",
                "weight = weight * fade + tl.sum(p, axis=1)",
                "acc = acc * fade[:, None]",
            ]
        )
        if t.descriptors:
            v = self._copied(a.v, at, "n_v", "d_v", a.value_width)
        else:
            there = self._shared(a.v, at, n_v, self._atom("d_v"))
            v = self._tile(self.pull.value(a.v, there), ("n_v", "d_v"), ("BLOCK_N", "BLOCK_V"), "v")
        p = f"p.to({TRITON_DTYPES[self.dtype]})" if self.dtype != "f32" else "p"
        w.lines.extend([f"acc = tl.dot({p}, {v}, acc{precision})", "top = raised"])
        body = "\n".join(w.lines)
        first = []
        for name, lanes in self.moving.items():
            words = set(re.findall(r"\w+", body))
            if name in words or f"{name}_mask" in words:
                first.append(f"{name} = start + {lanes}" + (".to(tl.int64)" if self.wide else ""))
            if f"{name}_mask" in words:
                end = "last" if self.t.splits > 1 else size_text(a.keys, 1)
                first.append(f"{name}_mask = {name} < {end}")
        w.close(head, first)

    def _copied(self, name: str, at: Coordinates, row: str, column: str, width: SizeLike) -> str:
        """Return a block of keys or values that the copy engine brings: whole rows of an input, seen as a matrix.

        Raises:
            Unsupported: the operand is computed, or its heads are no columns of such a matrix.
        """
        if self.wide:
            raise Unsupported("descriptors of tensors with 2**31 elements")
        source, offset = self._direct(name, (self._shared(name, at, self._atom(row), self._atom(column))))
        assert isinstance(self.w, _TileWriter)
        parts = self.w.parted(offset, row)
        numel = self.program.types[source].numel
        if parts is None or parts[1] == 0 or self.space.modulo(numel, parts[1]) != 0:
            raise Unsupported("keys that are no rows of a matrix")
        rest, length = parts
        inner = self.w.parted(rest, column)
        if inner is None or inner[1] != 1:
            raise Unsupported("keys that are no rows of a matrix")
        first, lane = self.space.floordiv(inner[0], length), self.space.modulo(inner[0], length)
        if not self.space.below(lane + width - 1, length):
            raise Unsupported("heads that are no columns of a matrix")
        lanes = 16 // DTYPES[self.dtype]
        for condition in (
            self._holds(self.a.keys, self.t.n), self._holds(length, lanes), f"{source}.storage_offset() % {lanes} == 0",
            str(isinstance(width, int) and width >= 16 and width == next_power_of_2(width)),
        ):  # fmt: skip
            self.conditions[condition] = None
        size, rows = size_text(length), size_text(self.space.floordiv(numel, length))
        known = (source, f"[{rows}, {size}], [{size}, 1], [{self.t.n}, {size_text(width)}]")
        parameter = next((p for p, d in self.descriptors.items() if d == known), "")
        if not parameter:
            parameter = self.w.names.fresh(f"{source}_desc")
            self.descriptors[parameter] = known
        top = f"{self.space.text(first, 1)} + start" if first != 0 else "start"
        return f"{parameter}.load([{top}, {self.space.text(lane)}])"

    def _direct(self, name: str, at: Coordinates) -> tuple[str, SizeLike]:
        """Return the input that ``name`` is a view of, and the offset in it."""
        found: list[tuple[str, SizeLike]] = []
        scratch = Writer(self.space, Names(self.w.names.taken))

        def load(name: str, dtype: str, offset: SizeLike, guard: tuple[Val, ...] = ()) -> Val:
            if guard or dtype != self.dtype:
                raise Unsupported("keys that are computed on the way")
            found.append((name, offset))
            return Val("loaded", dtype, self.space.depends(offset))

        scratch.load = load  # type: ignore[method-assign]
        value = Pull(self.program, scratch, _refuse).value(name, at)
        if len(found) != 1 or value.text != "loaded":
            raise Unsupported("keys that are computed on the way")
        return found[0]

    def _holds(self, size: SizeLike, divisor: int) -> str:
        return str(size % divisor == 0) if isinstance(size, int) else f"{size_text(size, 2)} % {divisor} == 0"

    def _outputs(self, at: Coordinates, m: SizeLike) -> None:
        axes = frozenset(x for x in ("b", "m", "d_v") if x in self.space.extents)
        self.pull.bound[self.a.value] = lambda coordinates, guard: Val("acc", "f32", axes)
        result = (*at, m, self._atom("d_v"))
        for o in self.a.outputs:
            t = self.program.types[o]
            where = output_coordinates(self.program, {self.a.value}, self.space, o, result, _WHAT)
            val = self.pull.value(o, where)
            if val.literal is not None:
                raise Unsupported(f"output {o} is one number")
            offset = self.space.text(self.space.ravel(where, t.shape), 1)
            # Of one query only row 0 of the tile is stored, so that its row may stand in the address.
            row = " + m" if m == 0 else ""
            mask = self.w.mask({"m", "d_v"})
            self.w.lines.append(
                f"tl.store({self.w.pointer(o)} + {offset}{row}, {convert(val, t.dtype).text}, mask={mask})"
            )

    # -- keys in parts ------------------------------------------------------------------------------------------------
    def _store_parts(self, b: SizeLike) -> None:
        a, w = self.a, self.w
        batch, rows = product(a.batch), a.queries
        lead = "split" + (".to(tl.int64)" if self.wide else "")
        row = self.space.text(b * rows, 1) if b != 0 else "0"
        w.lines.append(f"row = {lead} * {size_text(batch * rows, 2)} + {row} + m")
        names = [f"{a.value}_{x}" for x in ("parts", "tops", "weights")]
        shapes = [f"({self.t.splits}, {size_text(batch * rows)}, {size_text(a.value_width)})"]
        shapes += [f"({self.t.splits}, {size_text(batch * rows)})"] * 2
        for name, shape in zip(names, shapes, strict=True):
            self.assembly.buffer(name, shape, "torch.float32")
        width = size_text(a.value_width, 2)
        w.lines.extend(
            [
                f"tl.store({w.pointer(names[0])} + row * {width} + d_v, acc, mask=m_mask & d_v_mask)",
                f"tl.store({w.pointer(names[1])} + row, top[:, None], mask=m_mask)",
                f"tl.store({w.pointer(names[2])} + row, weight[:, None], mask=m_mask)",
            ]
        )

    def _finish(self, batch: SizeLike, rows: str) -> None:
        """Write the kernel that joins the parts of every row, in order, and computes the epilogue."""
        a = self.a
        self._start(_LOCALS | {"row", "total", "here", "part_top"})
        w = self.w
        wide = ".to(tl.int64)" if self.wide else ""
        w.lines.extend(
            ["pid = tl.program_id(0)", f"tiles = tl.cdiv({size_text(a.queries)}, BLOCK_M)", "tile = pid % tiles"]
        )
        b = self._batch(batch, f"(pid // tiles){wide}")
        w.lines.extend(self._axis("m", a.queries, "tile * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]",
                              f"{size_text(a.queries, 2)} % BLOCK_M != 0"))  # fmt: skip
        w.lines.extend(self._axis("d_v", a.value_width, "tl.arange(0, BLOCK_V)[None, :]",
                              f"{size_text(a.value_width, 1)} != BLOCK_V"))  # fmt: skip
        parts, tops, weights = (w.pointer(f"{a.value}_{x}") for x in ("parts", "tops", "weights"))
        row = self.space.text(b * a.queries, 1) if b != 0 else "0"
        total = size_text(batch * a.queries, 2)
        width = size_text(a.value_width, 2)
        w.lines.extend(
            [
                f"row = {row} + m",
                'top = tl.full([BLOCK_M, 1], float("-inf"), tl.float32)',
                "for part in range(SPLITS):",
                f'    top = tl.maximum(top, tl.load({tops} + part * {total} + row, mask=m_mask, other=float("-inf")))',
                'base = tl.where(top == float("-inf"), 0.0, top)',
                "weight = tl.zeros([BLOCK_M, 1], tl.float32)",
                "acc = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)",
                "for part in range(SPLITS):",
                f"    here = part * {total} + row",
                f'    fade = tl.exp2(tl.load({tops} + here, mask=m_mask, other=float("-inf")) - base)',
                f"    weight += fade * tl.load({weights} + here, mask=m_mask, other=0.0)",
                f"    acc += fade * tl.load({parts} + here * {width} + d_v, mask=m_mask & d_v_mask, other=0.0)",
                f"acc = {_normalised(a, '')}",
            ]
        )
        self._outputs(self.space.unravel(b, a.batch), self._or_zero("m", a.queries))
        block = 16 if self.t.m >= 16 else self.t.m
        grid = f"triton.cdiv({size_text(a.queries)}, {block})" + (f" * {size_text(batch, 2)}" if batch != 1 else "")
        constants = {"BLOCK_M": str(block), "BLOCK_V": _padded(a.value_width), "SPLITS": str(self.t.splits)}
        self.assembly.launches.append(Launch(w, (grid,), constants, {"num_warps": 4}, "finish"))


def _refuse(site: Site) -> Val:
    raise Unsupported("a reduction on the way into an attention")


def _normalised(a: Attention, lane: str = "[:, None]") -> str:
    """Return the weighted mean; rows that see nothing are 0 where there is a mask, as the operator says."""
    mean = f"acc / weight{lane}"
    return mean if a.mask is None else f"tl.where(weight{lane} == 0.0, 0.0, {mean})"


def _padded(width: SizeLike) -> str:
    if isinstance(width, int):
        return str(max(16, next_power_of_2(width)))
    return f"max(16, triton.next_power_of_2({size_text(width)}))"
