"""Float32 products on the bfloat16 tensor cores: every factor is the sum of three bfloat16 numbers.

A kernel for each factor writes three planes: the first 8 bits of every element's significand, what is left rounded to 8 bits,
and what is left then, which has 8 bits at most.  Their sum is the element, exactly, down to the spacing ``2**-133`` of the
smallest bfloat16 numbers: float32 has bits below that where an element is smaller than ``2**-110``.  The product is the sum
over six pairs of planes (left, right), accumulated in f32, the small ones first: ``(1, 3) (2, 2) (3, 1) (1, 2) (2, 1) (1, 1)``.
The pairs left out, ``(2, 3) (3, 2) (3, 3)``, are ``2**-22`` of a term at most and of either sign.  Nothing is scaled, so the
error of a term is relative to that term, whatever else stands in its row.  See Henry, Tang and Heinecke,
https://arxiv.org/abs/1904.06376.

An element that is not finite is ``1`` with its sign in the first plane, ``0`` in the second and itself in the third.  The
pairs ``(1, 3)`` and ``(3, 1)`` then give what IEEE gives: an infinity times an infinity or a finite number is an infinity of
the right sign, times 0 (or less than ``2**-133``) it is NaN.

The copies also do whatever stands in front of the product, once: views, casts, taps, elementwise operators.
"""

from __future__ import annotations

import attrs

from ...ir import SizeLike, Unsupported
from .contraction import Contraction
from .coords import Space
from .descriptors import DescriptorWriter, direct
from .kernel import Launch, ceildiv, new_names, next_power_of_2, size_text
from .pull import Pull, Site
from .writer import Val, Writer, computing, convert

#: Elements that one program of a packing kernel writes to each plane.
_BLOCK = 2048

#: Programs along the second axis of a grid.
_GRID_LIMIT = 65535


@attrs.frozen
class Packed:
    """A packed factor: the name of its planes, and how many rows a plane has."""

    planes: str
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
        packed = Packed(f"{c.value}_{'right' if right else 'left'}_planes", rows)
        # Rows start at multiples of 16 bytes, as descriptors want them; what lies beyond k, descriptors read as zeros.
        padded = f"triton.cdiv({size_text(k)}, 8) * 8"
        self.assembly.buffer(packed.planes, f"(3, {size_text(rows)}, {padded})", "torch.bfloat16")
        found = direct(self.program, c, right)
        along_k = found is None or found.inner
        block_cols = min(1024, next_power_of_2(self.sizes.hint(k))) if along_k else 64
        block_rows = max(1, _BLOCK // block_cols) if along_k else 64
        space = Space()
        names = new_names(self.program.graph)
        names.taken |= {"row", "col", "row_mask", "col_mask", "bits", "finite", "first", "rest", "second", "third",
                        "BLOCK_ROWS", "BLOCK_COLS", "ROW_LENGTH"}  # fmt: skip
        w = Writer(space, names)
        row, col = space.axis("row", rows), space.axis("col", k)
        wide = ".to(tl.int64)" if self.wide or 3 * self.sizes.hint(rows * k) >= 2**31 else ""
        w.lines.extend(
            [
                f"row = tl.program_id(0){wide} * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]",
                "col = tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)[None, :]",
                f"row_mask = row < {size_text(rows, 1)}",
                f"col_mask = col < {size_text(k, 1)}",
            ]
        )
        w.masks["row"], w.masks["col"] = "row_mask", "col_mask"
        v = self._value(c, right, w, row, col)
        if not {"row", "col"} <= v.axes:
            v = Val(f"tl.broadcast_to({v.text}, [BLOCK_ROWS, BLOCK_COLS])", "f32", frozenset({"row", "col"}))
        x = w.assign("x", v).text
        planes = w.pointer(packed.planes)
        w.lines.extend(
            [
                f"bits = {x}.to(tl.int32, bitcast=True)",
                f'finite = tl.abs({x}) < float("inf")',
                "# Cut, not rounded: the largest numbers would round to infinity.",
                f"first = tl.where(finite, (bits & -0x10000).to(tl.float32, bitcast=True), tl.where({x} < 0, -1.0, 1.0))",
                f"rest = tl.where(finite, {x} - first, 0.0)",
                "second = rest.to(tl.bfloat16)",
                f"third = tl.where(finite, rest - second.to(tl.float32), {x})",
            ]
        )
        for plane, name in enumerate(("first", "second", "third")):
            at = f"(row + {size_text(plane * rows, 1)}) * ROW_LENGTH" if plane else "row * ROW_LENGTH"
            value = name if name == "second" else f"{name}.to(tl.bfloat16)"
            w.lines.append(f"tl.store({planes} + {at} + col, {value}, mask=row_mask & col_mask)")
        constants = {"BLOCK_ROWS": str(block_rows), "BLOCK_COLS": str(block_cols), "ROW_LENGTH": padded}
        grid = (f"triton.cdiv({size_text(rows)}, {block_rows})", f"triton.cdiv({size_text(k)}, {block_cols})")
        if ceildiv(self.sizes.hint(k), block_cols) > _GRID_LIMIT:
            raise Unsupported("rows too long to pack")
        self.assembly.launches.append(Launch(w, grid, constants, {"num_warps": 4}, f"pack{number}"))
        return packed

    def _products(self) -> None:
        w = self.w
        w.lines.extend(
            [
                f"padded = tl.cdiv({size_text(self.p.main.extents[3])}, BLOCK_K) * BLOCK_K",
                "# Pairs of planes whose product is small come first.",
                "for step in range(0, 6 * padded, BLOCK_K):",
                *("    " + line for line in self._step()),
            ]
        )

    def _step(self) -> list[str]:
        """Return one step over k of one pair of planes."""
        lines = [
            "pair = step // padded",
            "start = step - pair * padded",
            "last = tl.where(pair < 3, 2, tl.where(pair < 5, 1, 0))",
            "plane = tl.where(pair < 3, pair, tl.where(pair < 5, pair - 3, 0))",
        ]
        loaded: dict[tuple[str, bool], str] = {}
        batch, m, n, k = self.p.main.extents
        for (_, right), packed in self.packed.items():
            if (packed.planes, right) in loaded:
                continue
            outer, first, size = (n, "tile_n * BLOCK_N", self.t.n) if right else (m, "tile_m * BLOCK_M", self.t.m)
            if batch != 1:
                # Descriptors take 32-bit coordinates.
                first = f"b{'.to(tl.int32)' if self.wide else ''} * {size_text(outer, 2)} + {first}"
            text = f"[3 * {size_text(packed.rows, 2)}, {size_text(k)}], [{packed.planes}.shape[2], 1], [{size}, {self.t.k}]"
            tile = f"right_{len(loaded)}" if right else f"left_{len(loaded)}"
            plane = "(last - plane)" if right else "plane"
            parameter = self._descriptor(packed.planes, text)
            row = f"{first} + {plane} * {size_text(packed.rows, 2)}"
            lines.append(f"{tile} = {parameter}.load([{row}, start]){'.T' if right else ''}")
            loaded[packed.planes, right] = tile
        for i, acc in enumerate(self.accumulators):
            left, right_ = (loaded[self.packed[i, side].planes, side] for side in (False, True))
            lines.append(f"{acc} = tl.dot({left}, {right_}, {acc})")
        return lines
