"""Matrix products with everything around them: tiles, a loop over k, an epilogue in registers.

The operands of the product are pulled at tile coordinates, so views and elementwise operators in front of it (a transposed
weight, a cast, the taps of a convolution) are part of the loads.  What follows it is pulled at the coordinates of the
result tile with the accumulator in the product's place.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import SizeLike, Unsupported
from ...ir.intrinsics import SPECIAL
from ...ir.typesys import is_float
from .contraction import Contraction, Product, contraction_of, invert
from .coords import Space
from .kernel import Assembly, Launch, Sizes, new_names, product, size_text
from .pull import Coordinates, Program, Pull, Site
from .tiling import Tiling
from .writer import TORCH_DTYPES, TRITON_DTYPES, Val, Writer, computing, convert

#: Names that the tile loop itself uses.
_LOCALS = {
    "m", "n", "b", "k_a", "k_b", "pid", "tile", "tile_m", "tile_n", "tiles_m", "tiles_n", "first", "height", "group", "start",
    "inner", "rows", "cols", "split", "step", "pair", "plane", "last", "padded", "BLOCK_M", "BLOCK_N", "BLOCK_K",
    "GROUP", "SPLITS",
}  # fmt: skip


def find_product(program: Program) -> Product | None:
    """Return the products of a fragment; None where it has none.

    Raises:
        Unsupported: the fragment has products that one tile loop cannot compute.
    """
    found = [c for node in program.graph.nodes for r in node.results if (c := contraction_of(program, r)) is not None]
    if not found:
        return None
    if len(found) > 2:
        raise Unsupported("more than two matrix products")
    main = found[0]
    for other in found[1:]:
        if other.extents != main.extents or other.coordinates != main.coordinates or other.m != main.m:
            raise Unsupported("matrix products over different axes")
    product_ = Product(tuple(found), tuple(o for o in program.graph.outputs if isinstance(o, str)))
    _check_outputs(program, product_)
    return product_


def _check_outputs(program: Program, p: Product) -> None:
    space = Space()
    axes = [space.axis(n, e) if e != 1 else 0 for n, e in zip(("b", "m", "n"), p.main.extents, strict=False)]
    for o in p.outputs:
        output_coordinates(program, p, space, o, p.main.flat(space, axes[0], axes[1], axes[2]))


def output_coordinates(program: Program, p: Product, space: Space, name: str, result: Coordinates) -> Coordinates:
    """Return the coordinates of output ``name`` that depend on the product's result at ``result``.

    Raises:
        Unsupported: an output element needs several elements of the product, or none.
    """
    shape = program.types[name].shape
    if name in {c.value for c in p.parts}:
        return result
    scratch = Space(space.extents)
    axes = {f"o{i}": n for i, n in enumerate(shape) if n != 1}
    at = tuple(scratch.axis(f"o{i}", n) if n != 1 else 0 for i, n in enumerate(shape))
    demanded: list[Coordinates] = []
    values = {c.value for c in p.parts}

    def demand(coordinates: Coordinates, guard: tuple[Val, ...]) -> Val:
        if guard:
            raise Unsupported("a product under a condition")
        demanded.append(coordinates)
        return Val("acc", "f32", frozenset().union(*(scratch.depends(c) for c in coordinates)))

    def refuse(site: Site) -> Val:
        raise Unsupported("a reduction behind a matrix product")

    pull = Pull(program, Writer(scratch, new_names(program.graph)), refuse)
    for v in values:
        pull.bound[v] = demand
    pull.value(name, at)
    if not demanded:
        raise Unsupported(f"output {name} does not depend on the product")
    if any(d != demanded[0] for d in demanded):
        raise Unsupported("a product wanted at several places")
    if product(program.types[p.main.value].shape) != product(shape):
        raise Unsupported(f"output {name} is larger or smaller than the product")
    given = [c for c, n in zip(result, program.types[p.main.value].shape, strict=True) if n != 1]
    wanted = [c for c, n in zip(demanded[0], program.types[p.main.value].shape, strict=True) if n != 1]
    solved = invert(scratch, wanted, axes, given)
    if solved is None:
        raise Unsupported(f"output {name} is no rearrangement of the product")
    return tuple(space.substitute(solved[f"o{i}"], {}) if n != 1 else 0 for i, n in enumerate(shape))


def prologue_flops(program: Program, p: Product) -> int:
    """Return the operations that are repeated for each tile because they happen on the way into the product."""
    from ...ir.cost import node_flops

    total = 0
    stack = [v for c in p.parts for v in program.producers[c.value].uses()]
    seen: set[str] = set()
    while stack:
        v = stack.pop()
        node = program.producers.get(v)
        if node is None or v in seen:
            continue
        seen.add(v)
        stack.extend(node.uses())
        numel = node.types[0].numel
        flops = node_flops(node, program.types, program.ops)
        if isinstance(numel, int) and numel and isinstance(flops, int) and node.op != "cast":
            total += flops // numel
    return total


def operand_dtype(program: Program, c: Contraction) -> str:
    """Return the element type of the factors.

    Raises:
        Unsupported: the tensor cores have no product of such elements.
    """
    dtype = program.types[next(iter(program.producers[c.value].uses()))].dtype
    if dtype in ("i64", "i32", "u8", "bool"):
        raise Unsupported(f"matrix products of {dtype}")
    return dtype


class GemmWriter:
    """Writes one variant of a matrix product."""

    def __init__(self, program: Program, p: Product, tiling: Tiling, assembly: Assembly) -> None:
        self.program, self.p, self.t, self.assembly = program, p, tiling, assembly
        self.sizes: Sizes = assembly.sizes
        self.descriptors: dict[str, tuple[str, str]] = {}
        self.wide = any(self.sizes.hint(t.numel) >= 2**31 for t in program.types.values())

    def write(self) -> None:
        """Write the kernel, and the one that sums the splits where there are several."""
        self._tiles()
        if self.t.splits > 1:
            self._finish()

    def _axis(self, name: str, extent: SizeLike, block: str, start: str, dims: str) -> list[str]:
        mask = f"{name}_mask"
        self.space.axis(name, extent)
        self.w.masks[name] = mask
        lines = [f"{name} = {start}{dims}" if start.isidentifier() else f"{name} = ({start}){dims}"]
        bound = f"{name} < {size_text(extent, 1)}"
        if any(s.name in self.sizes.dynamic for s in _symbols(extent)):
            lines.append(f"{mask} = {bound}")
        else:
            # A size that the tile divides needs no mask; the constant folds away.
            lines.append(
                f"{mask} = {bound} if {size_text(extent, 2)} % {block} else tl.full({name}.shape, True, tl.int1)"
            )
        return lines

    def _tiles(self) -> None:
        t = self.t
        batch, m, n, k = self.p.main.extents
        self.space = Space()
        names = new_names(self.program.graph)
        names.taken |= _LOCALS
        self.w = w = Writer(self.space, names)
        wide = ".to(tl.int64)" if self.wide else ""
        resident = t.resident > 0
        if not resident:
            w.lines.append("pid = tl.program_id(0)")
        w.lines.extend([f"tiles_m = tl.cdiv({size_text(m)}, BLOCK_M)", f"tiles_n = tl.cdiv({size_text(n)}, BLOCK_N)"])
        before = len(w.lines)
        if resident:
            w.lines.append("pid = tile" if batch == 1 else "pid = tile % (tiles_m * tiles_n)")
        w.lines.extend([
            "# Programs that run together share rows of tiles, so operands stay in the L2 cache.",
            "group = GROUP * tiles_n",
            "first = (pid // group) * GROUP",
            "height = tl.minimum(tiles_m - first, GROUP)",
            "tile_m = first + (pid % group) % height",
            "tile_n = (pid % group) // height",
            f"rows = tile_m{wide} * BLOCK_M + tl.arange(0, BLOCK_M)",
            f"cols = tile_n{wide} * BLOCK_N + tl.arange(0, BLOCK_N)",
        ])  # fmt: skip
        w.lines.extend(self._axis("m", m, "BLOCK_M", "rows", "[:, None]"))
        w.lines.extend(self._axis("n", n, "BLOCK_N", "cols", "[None, :]"))
        self.constants = {"BLOCK_M": str(t.m), "BLOCK_N": str(t.n), "BLOCK_K": str(t.k), "GROUP": str(t.group)}
        tiles = f"triton.cdiv({size_text(m)}, {t.m}) * triton.cdiv({size_text(n)}, {t.n})"
        self.grid = [tiles]
        self.b: SizeLike = 0
        if batch != 1:
            self.b = self.space.axis("b", batch)
            w.lines.append(f"b = {'tile // (tiles_m * tiles_n)' if resident else 'tl.program_id(1)'}{wide}")
            self.grid.append(size_text(batch))
        if resident:
            self.grid = [f"min({t.resident * self.assembly.n_multiprocessors}, {' * '.join([tiles, *self.grid[1:]])})"]
        self.mm, self.nn = self._or_zero("m", m), self._or_zero("n", n)
        self.pull = pull = Pull(self.program, w, self._refuse)
        self.accumulators = []
        self.dtypes = []
        for c in self.p.parts:
            operand = operand_dtype(self.program, c)
            held = "f64" if operand == "f64" else "f32" if is_float(operand) else "i32"
            name = names.fresh("acc")
            w.lines.append(f"{name} = tl.zeros([BLOCK_M, BLOCK_N], {TRITON_DTYPES[held]})")
            self.accumulators.append(name)
            self.dtypes.append((operand, held))
        self._products()
        result = self.p.main.flat(self.space, self.b, self.mm, self.nn)
        axes = frozenset(x for x in ("b", "m", "n") if x in self.space.extents)
        if t.splits == 1:
            self._epilogue(pull, result, self.accumulators, self.dtypes, axes)
        else:
            shape = self.program.types[self.p.main.value].shape
            for c, acc in zip(self.p.parts, self.accumulators, strict=True):
                pointer = w.pointer(self._buffer(c))
                offset = self.space.ravel(result, shape)
                mask = w.mask({"m", "n"})
                total = size_text(product(shape), 2)
                lead = "split.to(tl.int64)" if self.sizes.hint(product(shape)) * t.splits >= 2**31 else "split"
                w.lines.append(
                    f"tl.store({pointer} + {lead} * {total} + {self.space.text(offset, 1)}, {acc}, mask={mask})"
                )
        if resident:
            number = "tiles_m * tiles_n" + ("" if batch == 1 else f" * {size_text(batch, 2)}")
            body = ["    " + line for line in w.lines[before:]]
            w.lines[before:] = [
                f"for tile in tl.range(tl.program_id(0), {number}, tl.num_programs(0), flatten=True):",
                *body,
            ]
        options = {"num_warps": t.num_warps, "num_stages": t.num_stages}
        launch = Launch(w, tuple(self.grid), self.constants, options, descriptors=self.descriptors)
        self.assembly.launches.append(launch)

    def _products(self) -> None:
        """Write the loop over k that adds to the accumulators."""
        w, t = self.w, self.t
        k = self.p.main.extents[3]
        w.open({"k_a", "k_b"})
        head = ["inner = start + tl.arange(0, BLOCK_K)"]
        head += self._axis("k_a", k, "BLOCK_K", "inner", "[None, :]")
        head += self._axis("k_b", k, "BLOCK_K", "inner", "[:, None]")
        updates = []
        for part, acc in enumerate(self.accumulators):
            updates.append(self._dot(acc, self._factor(part, False), self._factor(part, True), part))
        w.lines.extend(updates)
        if t.splits == 1:
            loop = f"for start in range(0, {size_text(k)}, BLOCK_K):"
        else:
            axis = 2 if self.p.main.extents[0] != 1 else 1
            w.scopes[0].lines.append(f"split = tl.program_id({axis})")
            loop = f"for start in range(split * BLOCK_K, {size_text(k)}, SPLITS * BLOCK_K):"
            self.constants["SPLITS"] = str(t.splits)
            self.grid.append(str(t.splits))
        w.close(loop, head)

    def _factor(self, part: int, right: bool) -> str:
        """Return the current tile of a factor."""
        c, operand = self.p.parts[part], self.dtypes[part][0]
        k = self.p.main.extents[3]
        if right:
            v = c.factor(self.pull, True, self.b, self.nn, self._or_zero("k_b", k))
            return self._tile(v, operand, "n", "k_b", ("BLOCK_K", "BLOCK_N"))
        v = c.factor(self.pull, False, self.b, self.mm, self._or_zero("k_a", k))
        return self._tile(v, operand, "m", "k_a", ("BLOCK_M", "BLOCK_K"))

    def _dot(self, acc: str, left: str, right: str, part: int) -> str:
        precision = f', input_precision="{self.t.arithmetic}"' if self.t.arithmetic else ""
        held = self.dtypes[part][1]
        out = f", out_dtype={TRITON_DTYPES[held]}" if held != "f32" else ""
        return f"{acc} = tl.dot({left}, {right}, {acc}{precision}{out})"

    def _or_zero(self, name: str, extent: SizeLike) -> SizeLike:
        from .contraction import atom_of

        return 0 if extent == 1 else atom_of(name)

    def _buffer(self, c: Contraction) -> str:
        return f"{c.value}_parts"

    def _tile(self, v: Val, dtype: str, outer: str, inner: str, shape: tuple[str, str]) -> str:
        """Return a factor's tile in the operand's own type, with zeros beyond k."""
        if v.literal is not None or not {outer, inner} & v.axes:
            raise Unsupported("a factor that is one number")
        if v.dtype not in ("bf16", "f16") or v.dtype != dtype:
            v = convert(computing(v) if v.dtype in ("bf16", "f16") else v, dtype)
        if not v.zero_outside or inner not in v.axes:
            named = self.w.assign("t", v)
            zero = "0.0" if is_float(dtype) else "0"
            v = Val(f"tl.where({inner}_mask, {named.text}, {zero})", dtype, v.axes | {inner})
        if outer not in v.axes:
            v = Val(f"tl.broadcast_to({v.text}, [{shape[0]}, {shape[1]}])", dtype, v.axes | {outer})
        side = "left" if outer == "m" else "right"
        return self.w.assign(side, v).text

    def _epilogue(
        self, pull: Pull, result: Coordinates, accumulators: Sequence[str], dtypes: Sequence[tuple[str, str]],
        axes: frozenset[str],
    ) -> None:  # fmt: skip
        self._bind(pull, {c.value: Val(acc, held, axes) for c, acc, (_, held) in zip(
            self.p.parts, accumulators, dtypes, strict=True)})  # fmt: skip
        self._store(pull, result)

    def _bind(self, pull: Pull, sums: dict[str, Val]) -> None:
        """Put what stands around the sums in the products' bodies (a bias) back around the accumulators."""

        def fold(site: Site) -> Val:
            value = site.node.results[0]
            if value not in sums:
                raise Unsupported("a reduction behind a matrix product")
            return sums[value]

        pull.barrier = fold
        pull.sums = set(sums)

    def _store(self, pull: Pull, result: Coordinates) -> None:
        for o in self.p.outputs:
            t = self.program.types[o]
            at = output_coordinates(self.program, self.p, self.space, o, result)
            self.w.store(o, self.space.ravel(at, t.shape), pull.value(o, at), t.dtype)

    def _finish(self) -> None:
        """Write the kernel that sums the splits in order and computes the epilogue."""
        shape = self.program.types[self.p.main.value].shape
        numel = product(shape)
        self.space = Space()
        names = new_names(self.program.graph)
        names.taken |= {"col", "part", "BLOCK", "SPLITS"}
        self.w = w = Writer(self.space, names)
        col = self.space.axis("col", numel)
        w.lines.append(f"col = tl.program_id(0){'.to(tl.int64)' if self.wide else ''} * BLOCK + tl.arange(0, BLOCK)")
        w.lines.append(f"col_mask = col < {size_text(numel, 1)}")
        w.masks["col"] = "col_mask"
        sums = {}
        for c in self.p.parts:
            pointer = w.pointer(self._buffer(c))
            held = "f64" if operand_dtype(self.program, c) == "f64" else "f32"
            name = names.fresh("acc")
            w.lines.append(f"{name} = tl.zeros([BLOCK], {TRITON_DTYPES[held]})")
            w.lines.append("for part in range(SPLITS):")
            w.lines.append(
                f"    {name} += tl.load({pointer} + part * {size_text(numel, 2)} + col, mask=col_mask, other=0.0)"
            )
            sums[c.value] = Val(name, held, frozenset({"col"}))
            self.assembly.buffer(self._buffer(c), f"({self.t.splits}, {size_text(numel)})", TORCH_DTYPES[held])
        pull = Pull(self.program, w, self._refuse)
        self._bind(pull, sums)
        self._store(pull, self.space.unravel(col, shape))
        constants = {"BLOCK": "512", "SPLITS": str(self.t.splits)}
        grid = (f"triton.cdiv({size_text(numel)}, 512)",)
        self.assembly.launches.append(Launch(w, grid, constants, {"num_warps": 4}, "finish"))

    def _refuse(self, site: Site) -> Val:
        raise Unsupported("a reduction on the way into a matrix product")


def _symbols(size: SizeLike) -> set:  # type: ignore[type-arg]
    from ...ir.size import symbols_of

    return symbols_of(size)


#: Operations per element on the way into a product that are worth computing again for each tile.
CHEAP_PROLOGUE = SPECIAL // 4
