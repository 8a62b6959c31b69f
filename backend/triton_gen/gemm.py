"""Matrix products with everything around them: tiles, a loop over k, an epilogue in registers.

The operands of the product are pulled at tile coordinates, so views and elementwise operators in front of it (a transposed
weight, a cast, the taps of a convolution) are part of the loads.  What follows it is pulled at the coordinates of the
result tile with the accumulator in the product's place.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...ir import SizeLike, Unsupported
from ...ir.intrinsics import SPECIAL
from ...ir.typesys import DTYPES, is_float
from ..candidate import Target
from .contraction import Contraction, contraction_of, invert
from .coords import Space
from .kernel import Assembly, Launch, Sizes, ceildiv, new_names, next_power_of_2, product, size_text
from .pull import Coordinates, Program, Pull, Site
from .writer import TORCH_DTYPES, TRITON_DTYPES, Val, Writer, computing, convert


#: Names that the tile loop itself uses.
_LOCALS = {
    "m", "n", "b", "k_a", "k_b", "pid", "tile_m", "tile_n", "tiles_m", "tiles_n", "first", "height", "group", "start", "inner",
    "rows", "cols", "split", "BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP", "SPLITS",
}  # fmt: skip


@attrs.frozen
class Tiling:
    """Block sizes and launch options of one variant; ``splits`` programs share the k of one tile."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int
    splits: int = 1
    group: int = 8
    arithmetic: str = ""

    @property
    def label(self) -> str:
        """The variant's name."""
        split = f" split {self.splits}" if self.splits > 1 else ""
        arithmetic = f" {self.arithmetic}" if self.arithmetic else ""
        return f"gemm {self.m}x{self.n}x{self.k}{arithmetic} w{self.num_warps} s{self.num_stages}{split}"


@attrs.frozen
class Product:
    """The matrix products of a fragment, all over the same axes, and where each output stands on them.

    Attributes:
        parts: the products, at most two.
        outputs: names.
    """

    parts: tuple[Contraction, ...]
    outputs: tuple[str, ...]

    @property
    def main(self) -> Contraction:
        """The first product, whose axes all others share."""
        return self.parts[0]


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


def output_coordinates(
    program: Program, p: Product, space: Space, name: str, result: Coordinates
) -> Coordinates:
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


class GemmWriter:
    """Writes one variant of a matrix product."""

    def __init__(self, program: Program, p: Product, tiling: Tiling, assembly: Assembly) -> None:
        self.program, self.p, self.t, self.assembly = program, p, tiling, assembly
        self.sizes: Sizes = assembly.sizes
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
            lines.append(f"{mask} = {bound} if {size_text(extent, 2)} % {block} else tl.full({name}.shape, True, tl.int1)")
        return lines

    def _tiles(self) -> None:
        t = self.t
        batch, m, n, k = self.p.main.extents
        self.space = Space()
        names = new_names(self.program.graph)
        names.taken |= _LOCALS
        self.w = w = Writer(self.space, names)
        wide = ".to(tl.int64)" if self.wide else ""
        w.lines.extend([
            "pid = tl.program_id(0)",
            f"tiles_m = tl.cdiv({size_text(m)}, BLOCK_M)",
            f"tiles_n = tl.cdiv({size_text(n)}, BLOCK_N)",
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
        constants = {"BLOCK_M": str(t.m), "BLOCK_N": str(t.n), "BLOCK_K": str(t.k), "GROUP": str(t.group)}
        grid = [f"triton.cdiv({size_text(m)}, {t.m}) * triton.cdiv({size_text(n)}, {t.n})"]
        b: SizeLike = 0
        if batch != 1:
            b = self.space.axis("b", batch)
            w.lines.append(f"b = tl.program_id(1){wide}")
            grid.append(size_text(batch))
        pull = Pull(self.program, w, self._refuse)
        accumulators = []
        dtypes = []
        for c in self.p.parts:
            operand = self._operand_dtype(c)
            held = "f64" if operand == "f64" else "f32" if is_float(operand) else "i32"
            name = names.fresh("acc")
            w.lines.append(f"{name} = tl.zeros([BLOCK_M, BLOCK_N], {TRITON_DTYPES[held]})")
            accumulators.append(name)
            dtypes.append((operand, held))
        w.open({"k_a", "k_b"})
        head = ["inner = start + tl.arange(0, BLOCK_K)"]
        head += self._axis("k_a", k, "BLOCK_K", "inner", "[None, :]")
        head += self._axis("k_b", k, "BLOCK_K", "inner", "[:, None]")
        mm, nn = self._or_zero("m", m), self._or_zero("n", n)
        ka, kb = self._or_zero("k_a", k), self._or_zero("k_b", k)
        updates = []
        for c, acc, (operand, held) in zip(self.p.parts, accumulators, dtypes, strict=True):
            left = self._tile(c.factor(pull, False, b, mm, ka), operand, "m", "k_a", ("BLOCK_M", "BLOCK_K"))
            right = self._tile(c.factor(pull, True, b, nn, kb), operand, "n", "k_b", ("BLOCK_K", "BLOCK_N"))
            precision = f', input_precision="{t.arithmetic}"' if t.arithmetic else ""
            out = f", out_dtype={TRITON_DTYPES[held]}" if held != "f32" else ""
            updates.append(f"{acc} = tl.dot({left}, {right}, {acc}{precision}{out})")
        w.lines.extend(updates)
        if t.splits == 1:
            loop = f"for start in range(0, {size_text(k)}, BLOCK_K):"
        else:
            axis = 2 if batch != 1 else 1
            w.scopes[0].lines.append(f"split = tl.program_id({axis})")
            loop = f"for start in range(split * BLOCK_K, {size_text(k)}, SPLITS * BLOCK_K):"
            constants["SPLITS"] = str(t.splits)
            grid.append(str(t.splits))
        w.close(loop, head)
        result = self.p.main.flat(self.space, b, mm, nn)
        axes = frozenset(x for x in ("b", "m", "n") if x in self.space.extents)
        if t.splits == 1:
            self._epilogue(pull, result, accumulators, dtypes, axes)
        else:
            shape = self.program.types[self.p.main.value].shape
            for c, acc in zip(self.p.parts, accumulators, strict=True):
                pointer = w.pointer(self._buffer(c))
                offset = self.space.ravel(result, shape)
                mask = w.mask({"m", "n"})
                total = size_text(product(shape), 2)
                lead = "split.to(tl.int64)" if self.sizes.hint(product(shape)) * t.splits >= 2**31 else "split"
                w.lines.append(f"tl.store({pointer} + {lead} * {total} + {self.space.text(offset, 1)}, {acc}, mask={mask})")
        options = {"num_warps": t.num_warps, "num_stages": t.num_stages}
        self.assembly.launches.append(Launch(w, tuple(grid), constants, options))

    def _or_zero(self, name: str, extent: SizeLike) -> SizeLike:
        from .contraction import atom_of

        return 0 if extent == 1 else atom_of(name)

    def _buffer(self, c: Contraction) -> str:
        return f"{c.value}_parts"

    def _operand_dtype(self, c: Contraction) -> str:
        node = self.program.producers[c.value]
        dtype = self.program.types[next(iter(node.uses()))].dtype
        if dtype in ("i64", "i32", "u8", "bool"):
            raise Unsupported(f"matrix products of {dtype}")
        return dtype

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
            return sums[site.node.results[0]]

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
            held = "f64" if self._operand_dtype(c) == "f64" else "f32"
            name = names.fresh("acc")
            w.lines.append(f"{name} = tl.zeros([BLOCK], {TRITON_DTYPES[held]})")
            w.lines.append("for part in range(SPLITS):")
            w.lines.append(f"    {name} += tl.load({pointer} + part * {size_text(numel, 2)} + col, mask=col_mask, other=0.0)")
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


#: (m, n, k, warps, stages) by the arithmetic that the tensor cores do, best guess first.
_TILINGS: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "half": ((128, 256, 64, 8, 3), (128, 128, 64, 8, 4), (256, 128, 64, 8, 3), (128, 128, 64, 4, 4), (64, 256, 64, 4, 4),
             (64, 128, 64, 4, 4), (128, 64, 64, 4, 4), (64, 64, 64, 4, 5), (32, 64, 128, 4, 4)),
    "tf32": ((128, 128, 32, 8, 4), (128, 256, 32, 8, 3), (256, 128, 32, 8, 3), (128, 128, 32, 4, 4), (64, 128, 32, 4, 4),
             (64, 64, 32, 4, 5), (128, 64, 32, 4, 4), (32, 64, 64, 4, 4)),
    "tf32x3": ((128, 128, 32, 8, 3), (128, 64, 32, 4, 3), (64, 128, 32, 4, 3), (128, 128, 32, 4, 3), (128, 128, 16, 8, 4),
               (64, 64, 32, 4, 4), (128, 256, 16, 8, 3), (32, 64, 32, 4, 4)),
    "ieee": ((64, 64, 16, 4, 3), (128, 64, 16, 8, 3), (128, 128, 16, 8, 2), (64, 64, 32, 8, 3), (32, 64, 32, 4, 3)),
}  # fmt: skip

#: Measured shares of the datasheet rate that such tile loops reach.
_EFFICIENCY = {"half": 0.75, "tf32": 0.7, "tf32x3": 0.75, "ieee": 0.5}


def tilings(
    program: Program, p: Product, sizes: Sizes, target: Target, precision: str, traffic: int
) -> list[tuple[Tiling, float]]:
    """Return (tiling, predicted microseconds), the best prediction first."""
    batch, m, n, k = (sizes.hint(e) for e in p.main.extents)
    node = program.producers[p.main.value]
    dtype = program.types[next(iter(node.uses()))].dtype
    flops = 2.0 * batch * m * n * k * len(p.parts)
    memory_us = traffic / (target.bandwidth_gbps * 1e3)
    found: list[tuple[Tiling, float]] = []
    for kind, arithmetic, rate in _arithmetics(dtype, precision, target):
        for order, (bm, bn, bk, warps, stages) in enumerate(_TILINGS[kind]):
            bm, bn = min(bm, max(16, next_power_of_2(m))), min(bn, max(16, next_power_of_2(n)))
            bk = min(bk, max(16, next_power_of_2(k)))
            if len(p.parts) > 1 and bm * bn > 128 * 128:
                continue
            if _shared_bytes(bm, bn, bk, stages, DTYPES[dtype]) * len(p.parts) > target.shared_bytes:
                stages = max(2, stages - 1)
            tiles = batch * ceildiv(m, bm) * ceildiv(n, bn)
            padded = batch * ceildiv(m, bm) * bm * ceildiv(n, bn) * bn * k * 2.0 * len(p.parts)
            # Small tiles re-read operands: bytes from L2 per operation grow as 1/bm + 1/bn.
            reuse = 1 + 24 * (1 / bm + 1 / bn) / 2
            for splits in _splits(tiles, k, bk, target):
                waves = ceildiv(tiles * splits, target.n_multiprocessors) / (tiles * splits / target.n_multiprocessors)
                compute_us = max(flops, padded) / (rate * _EFFICIENCY[kind] * 1e6) * waves * reuse
                extra = 0.0
                if splits > 1:
                    partial = 4.0 * batch * m * n * splits * len(p.parts)
                    extra = 2 * partial / (target.bandwidth_gbps * 1e3) + target.launch_us
                stream_us = memory_us * max(1.0, target.n_multiprocessors / (tiles * splits))
                time = max(compute_us, stream_us) + extra + target.launch_us + 1e-3 * order
                found.append((Tiling(bm, bn, bk, warps, stages, splits, 8, arithmetic), time))
    unique: dict[Tiling, float] = {}
    for t, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(t, time)
    return list(unique.items())


def _arithmetics(dtype: str, precision: str, target: Target) -> list[tuple[str, str, float]]:
    rates = target.rate_tflops
    if dtype in ("bf16", "f16"):
        return [("half", "", rates[dtype])]
    if dtype == "f32":
        strict = [("tf32x3", "tf32x3", rates["tf32"] / 3), ("ieee", "ieee", rates["f32"])]
        return [("tf32", "tf32", rates["tf32"]), *strict] if precision == "tf32" else strict
    if dtype == "f64":
        return [("ieee", "ieee", rates["f64"] / 4)]
    return [("half", "", rates["f16"])]


def _splits(tiles: int, k: int, bk: int, target: Target) -> list[int]:
    """Return how many programs may share the k of a tile: more where there are fewer tiles than multiprocessors."""
    out = [1]
    if tiles <= target.n_multiprocessors // 2 and k >= 8 * bk:
        wanted = next_power_of_2(max(2, target.n_multiprocessors // tiles))
        out += [s for s in (wanted, wanted // 2, wanted * 2) if 2 <= s <= 64 and s * bk * 2 <= k]
    return out


def _shared_bytes(m: int, n: int, k: int, stages: int, element_bytes: int) -> int:
    return (m * k + k * n) * element_bytes * stages


#: Operations per element on the way into a product that are worth computing again for each tile.
CHEAP_PROLOGUE = SPECIAL // 4
