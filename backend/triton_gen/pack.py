"""Float32 products on the half-precision tensor cores: every factor is split into two halves of 11 bits each.

A kernel for each factor scales its rows by powers of two, so that the largest element of a row lies in ``2**14..2**15``, and
writes every element as ``high + low``, two f16 numbers that together keep 22 bits and a sign; below ``2**-16`` of the largest
element of the row the last bits go.  The product is ``high*high + high*low + low*high``, accumulated in f32, and scaled back.
What it leaves out, ``low*low``, is ``2**-22`` of a term at most.  See Ootomo and Yokota, https://arxiv.org/abs/2203.03341.

The copies also do whatever stands in front of the product, once: views, casts, taps, elementwise operators.
"""

from __future__ import annotations

import attrs

from ...ir import SizeLike, Unsupported
from .contraction import Contraction
from .coords import Space
from .descriptors import DescriptorWriter, direct
from .kernel import Launch, new_names, next_power_of_2, size_text
from .pull import Pull, Site
from .writer import Val, Writer, computing, convert

#: Rows whose elements all go at once.
_WHOLE_ROW = 8192

#: Inverse scales above this mark rows with an infinity: the scale of the largest finite number is the next below.
_INFINITE = "1.5e34"


@attrs.frozen
class Packed:
    """A packed factor: names of its planes and of its inverse scales, and how many rows a plane has."""

    planes: str
    scale: str
    rows: SizeLike


class PackedWriter(DescriptorWriter):
    """The product of packed factors; one kernel packs each distinct factor first."""

    def write(self) -> None:
        """Write the packing kernels and the product."""
        self.packed: dict[tuple[int, bool], Packed] = {}
        seen: dict[object, Packed] = {}
        for i, c in enumerate(self.p.parts):
            for right in (False, True):
                key = self._meaning(c, right)
                if key not in seen:
                    seen[key] = self._pack(c, right, len(seen))
                self.packed[i, right] = seen[key]
        self._tiles()

    def _meaning(self, c: Contraction, right: bool) -> object:
        """Return what is equal for equal factors."""
        space = Space()
        w = Writer(space, new_names(self.program.graph))
        v = self._value(c, right, w, space.axis("row", self._rows(c, right)), space.axis("col", c.extents[3]))
        return tuple(w.lines), v.text

    def _rows(self, c: Contraction, right: bool) -> SizeLike:
        batch, m, n, _ = c.extents
        return batch * (n if right else m)

    def _value(self, c: Contraction, right: bool, w: Writer, row: SizeLike, col: SizeLike) -> Val:
        def refuse(site: Site) -> Val:
            raise Unsupported("a reduction on the way into a matrix product")

        batch, m, n, _ = c.extents
        b, index = w.space.unravel(row, (batch, n if right else m))
        v = c.factor(Pull(self.program, w, refuse), right, b, index, col)
        return convert(computing(v), "f32")

    def _pack(self, c: Contraction, right: bool, number: int) -> Packed:
        k = c.extents[3]
        rows = self._rows(c, right)
        side = f"{c.value}_{'right' if right else 'left'}"
        packed = Packed(f"{side}_planes", f"{side}_scale", rows)
        # Rows start at multiples of 16 bytes, as descriptors want them.
        padded = f"triton.cdiv({size_text(k)}, 8) * 8"
        self.assembly.buffer(packed.planes, f"(2, {size_text(rows)}, {padded})", "torch.float16")
        self.assembly.buffer(packed.scale, f"({size_text(rows)},)", "torch.float32")
        found = direct(self.program, c, right)
        along_k = found is None or found.inner
        width = next_power_of_2(self.sizes.hint(k))
        whole = along_k and width <= _WHOLE_ROW
        block_rows = max(1, min(16, 4096 // width)) if whole else 1 if along_k else 64
        block_cols = str(4096 if along_k else 64)
        space = Space()
        names = new_names(self.program.graph)
        names.taken |= {"row", "col", "start", "top", "biased", "scale", "inverse", "scaled", "high", "low", "BLOCK_ROWS",
                        "BLOCK_COLS", "ROW_LENGTH"}  # fmt: skip
        w = Writer(space, names)
        row = space.axis("row", rows)
        wide = ".to(tl.int64)" if self.wide else ""
        w.lines.extend([
            f"row = tl.program_id(0){wide} * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]",
            f"row_mask = row < {size_text(rows, 1)}",
        ])
        w.masks["row"], w.masks["col"] = "row_mask", "col_mask"
        col = space.axis("col", k)
        mask = "row_mask & col_mask"
        planes, inverse = w.pointer(packed.planes), w.pointer(packed.scale)

        def columns(start: str) -> list[str]:
            return [f"col = {start}tl.arange(0, BLOCK_COLS)[None, :]", f"col_mask = col < {size_text(k, 1)}"]

        def magnitude() -> str:
            v = w.assign("x", self._value(c, right, w, row, col))
            return f"tl.where({mask}, tl.abs({v.text}), 0.0)"

        def split() -> None:
            v = self._value(c, right, w, row, col)
            plane = f"{size_text(rows, 2)} * ROW_LENGTH"
            w.lines.extend([
                f"scaled = {v.inside(7)} * scale",
                "high = scaled.to(tl.float16)",
                'low = tl.where(tl.abs(high.to(tl.float32)) < float("inf"), scaled - high.to(tl.float32), 0.0).to(tl.float16)',
                f"tl.store({planes} + row * ROW_LENGTH + col, high, mask={mask})",
                f"tl.store({planes} + {plane} + row * ROW_LENGTH + col, low, mask={mask})",
            ])

        scaling = [
            "# The largest element keeps its mantissa and gets the exponent 14; scales are powers of two and lose nothing.",
            "biased = tl.minimum(tl.maximum(268 - (top.to(tl.int32, bitcast=True) >> 23), 1), 253)",
            "scale = (biased << 23).to(tl.float32, bitcast=True)",
            "inverse = ((254 - biased) << 23).to(tl.float32, bitcast=True)",
            f"tl.store({inverse} + row, inverse, mask=row_mask)",
        ]
        if whole:
            block_cols = f"triton.next_power_of_2({size_text(k)})"
            w.lines.extend(columns(""))
            w.lines.append(f"top = tl.max({magnitude()}, axis=1)[:, None]")
            w.lines.extend(scaling)
            split()
        else:
            w.lines.append("tops = tl.zeros([BLOCK_ROWS, BLOCK_COLS], tl.float32)")
            w.open({"col"})
            w.lines.append(f"tops = tl.maximum(tops, {magnitude()})")
            w.close(f"for start in range(0, {size_text(k)}, BLOCK_COLS):", columns("start + "))
            w.lines.append("top = tl.max(tops, axis=1)[:, None]")
            w.lines.extend(scaling)
            w.open({"col"})
            split()
            w.close(f"for start in range(0, {size_text(k)}, BLOCK_COLS):", columns("start + "))
        constants = {"BLOCK_ROWS": str(block_rows), "BLOCK_COLS": block_cols, "ROW_LENGTH": padded}
        grid = (f"triton.cdiv({size_text(rows)}, {block_rows})",)
        options = {"num_warps": 8 if whole and width >= 4096 else 4}
        self.assembly.launches.append(Launch(w, grid, constants, options, f"pack{number}"))
        return packed

    def _products(self) -> None:
        w = self.w
        k = self.p.main.extents[3]
        batch, m, n, _ = self.p.main.extents
        scales: dict[str, str] = {}
        for (_, right), packed in self.packed.items():
            if packed.scale in scales:
                continue
            outer, axis = (n, "n") if right else (m, "m")
            lead = f"b * {size_text(outer, 2)} + " if batch != 1 else ""
            name = w.names.fresh("scale")
            w.lines.append(
                f"{name} = tl.load({w.pointer(packed.scale)} + {lead}{axis}, mask={w.masks[axis]}, other=1.0)"
            )
            scales[packed.scale] = name
        finite = " & ".join(f"(tl.max({name}) < {_INFINITE})" for name in scales.values())
        w.lines.append(f"padded = tl.cdiv({size_text(k)}, BLOCK_K) * BLOCK_K")
        for head, guarded in ((f"if {finite}:", False), ("else:", True)):
            w.lines.append(head)
            if guarded:
                w.lines.append("    # An infinity times the low half of its partner may have the wrong sign: it is left out.")
            w.lines.append("    for step in range(0, 3 * padded, BLOCK_K):")
            w.lines.extend("        " + line for line in self._step(guarded))
        for i, acc in enumerate(self.accumulators):
            left, right_ = (scales[self.packed[i, side].scale] for side in (False, True))
            w.lines.append(f"{acc} = {acc} * ({left} * {right_})")

    def _step(self, guarded: bool) -> list[str]:
        """Return one step over k: high*high in the first third of all steps, then low*high, then high*low."""
        lines = ["third = step // padded", "start = step - third * padded"]
        loaded: dict[str, str] = {}
        for (_, right), packed in self.packed.items():
            if packed.planes in loaded:
                continue
            batch, m, n, k = self.p.main.extents
            outer, first, size = (n, "tile_n * BLOCK_N", self.t.n) if right else (m, "tile_m * BLOCK_M", self.t.m)
            if batch != 1:
                first = f"b * {size_text(outer, 2)} + {first}"
            rows = size_text(packed.rows, 2)
            text = f"[2 * {rows}, {size_text(k)}], [{packed.planes}.shape[2], 1], [{size}, {self.t.k}]"
            tile = f"right_{len(loaded)}" if right else f"left_{len(loaded)}"
            low = f"tl.where(third == {2 if right else 1}, {size_text(packed.rows)}, 0)"
            parameter = self._descriptor(packed.planes, text)
            lines.append(f"{tile} = {parameter}.load([{first} + {low}, start]){'.T' if right else ''}")
            if guarded:
                lines.append(f'{tile} = tl.where((third == 0) | (tl.abs({tile}) < float("inf")), {tile}, 0.0).to(tl.float16)')
            loaded[packed.planes] = tile
        for i, acc in enumerate(self.accumulators):
            left, right_ = (loaded[self.packed[i, side].planes] for side in (False, True))
            lines.append(f"{acc} = tl.dot({left}, {right_}, {acc})")
        return lines
