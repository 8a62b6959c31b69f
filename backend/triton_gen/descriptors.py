"""Matrix products whose operands the bulk copy engine brings in, through tensor descriptors."""

from __future__ import annotations

import attrs

from ...ir import SizeLike, Unsupported
from ...ir.typesys import DTYPES
from .contraction import Contraction
from .coords import Space, terms, total
from .gemm import GemmWriter
from .kernel import new_names, size_text
from .pull import Program, Pull, Site
from .writer import Val, Writer


@attrs.frozen
class Direct:
    """A factor that is an input as it is, in rows.

    Attributes:
        name: the input.
        inner: whether neighbours along k are neighbours in memory; else those along the factor's own axis are.
        batched: whether every batch has its own rows.
    """

    name: str
    inner: bool
    batched: bool


def direct(program: Program, c: Contraction, right: bool) -> Direct | None:
    """Return how a factor stands in memory, or None where it is computed or no matrix in rows."""
    batch, m, n, k = c.extents
    outer = n if right else m
    if outer == 1 or k == 1:
        return None
    space = Space()
    writer = Writer(space, new_names(program.graph))
    found: list[tuple[str, SizeLike, object]] = []
    plain = writer.load

    def load(name: str, dtype: str, offset: SizeLike, guard: tuple[Val, ...] = ()) -> Val:
        found.append((name, offset, guard))
        return plain(name, dtype, offset, guard)

    def stop(site: Site) -> Val:
        raise Unsupported("a fold")

    writer.load = load  # type: ignore[method-assign]
    b = space.axis("b", batch) if batch != 1 else 0
    try:
        v = c.factor(Pull(program, writer, stop), right, b, space.axis("o", outer), space.axis("k", k))
    except Unsupported:
        return None
    if len(found) != 1 or found[0][2] or len(writer.lines) != 1 or not v.text.isidentifier():
        return None
    name, offset, _ = found[0]
    strides = _strides(offset)
    if (
        strides is None
        or program.types[name].dtype not in ("f32", "bf16", "f16")
        or v.dtype != program.types[name].dtype
    ):
        return None
    for inner, expected in ((True, {"o": k, "k": 1}), (False, {"o": 1, "k": outer})):
        if strides == expected or strides == {**expected, "b": outer * k}:
            return Direct(name, inner, "b" in strides)
    return None


def _strides(offset: SizeLike) -> dict[str, SizeLike] | None:
    """Return the stride of each axis in a sum of axes times sizes; None for any other offset."""
    found: dict[str, SizeLike] = {}
    for atoms, coefficient in terms(offset):
        axes = [a for a in atoms if getattr(a, "name", None) in ("b", "o", "k")]
        if len(axes) != 1:
            return None
        rest = list(atoms)
        rest.remove(axes[0])
        if any(not hasattr(a, "name") for a in rest):
            return None
        name = axes[0].name  # type: ignore[union-attr]
        found[name] = found.get(name, 0) + total([(tuple(rest), coefficient)])
    return found


class DescriptorWriter(GemmWriter):
    """Operands that are inputs as they are come through descriptors; where the sizes forbid it, through pointers."""

    def write(self) -> None:
        """Write the kernel, and the one through pointers that serves sizes and addresses that are not aligned."""
        self.conditions: dict[str, None] = {}
        self.direct = {(i, r): direct(self.program, c, r) for i, c in enumerate(self.p.parts) for r in (False, True)}
        for key, d in self.direct.items():
            four = d is not None and DTYPES[self.program.types[d.name].dtype] == 4
            # The tensor cores take 32-bit operands in rows along k only.
            if d is not None and four and not d.inner:
                self.direct[key] = None
        if not any(self.direct.values()):
            raise Unsupported("no factor that is an input as it is")
        self._tiles()
        conditions = [c for c in self.conditions if c != "True"]
        if "False" in conditions:
            raise Unsupported("rows that are not aligned")
        if conditions:
            start = len(self.assembly.launches)
            plain = attrs.evolve(self.t, operands="loads", resident=0)
            GemmWriter(self.program, self.p, plain, self.assembly).write()
            self.assembly.otherwise = [attrs.evolve(x, suffix="plain") for x in self.assembly.launches[start:]]
            del self.assembly.launches[start:]
            self.assembly.condition = " and ".join(conditions)

    def _products(self) -> None:
        if all(self.direct.values()):
            updates = [
                self._dot(acc, self._factor(i, False), self._factor(i, True), i)
                for i, acc in enumerate(self.accumulators)
            ]
            k = size_text(self.p.main.extents[3])
            self.w.lines.append(f"for start in range(0, {k}, BLOCK_K):")
            self.w.lines.extend(["    " + u for u in updates])
        else:
            super()._products()

    def _factor(self, part: int, right: bool) -> str:
        d = self.direct[part, right]
        if d is None:
            return super()._factor(part, right)
        _, m, n, k = self.p.parts[part].extents
        batch = self.p.parts[part].extents[0]
        outer, tile, block = (n, "tile_n * BLOCK_N", "BLOCK_N") if right else (m, "tile_m * BLOCK_M", "BLOCK_M")
        size = self.t.n if right else self.t.m
        rows = outer if d.inner else k
        first = tile if d.inner else "start"
        if d.batched:
            # A tile that reaches past its batch reads rows of the next one: they are never stored, but must not be summed.
            if not d.inner:
                self._demand(k, self.t.k)
            first = f"b * {size_text(rows, 2)} + {first}"
            rows = batch * rows
        row_length, second = (k, "start") if d.inner else (outer, tile)
        shape = f"[{self.t.k}, {size}]" if not d.inner else f"[{size}, {self.t.k}]"
        lanes = 16 // DTYPES[self.program.types[d.name].dtype]
        self._demand(row_length, lanes)
        self.conditions[f"{d.name}.storage_offset() % {lanes} == 0"] = None
        text = f"[{size_text(rows)}, {size_text(row_length)}], [{size_text(row_length)}, 1], {shape}"
        parameter = self._descriptor(d.name, text)
        loaded = f"{parameter}.load([{first}, {second}])"
        # A descriptor gives rows as they stand in memory: the left factor wants (m, k), the right one (k, n).
        return f"{loaded}.T" if d.inner == right else loaded

    def _descriptor(self, name: str, text: str) -> str:
        for parameter, known in self.descriptors.items():
            if known == (name, text):
                return parameter
        parameter = self.w.names.fresh(f"{name}_desc")
        self.descriptors[parameter] = (name, text)
        return parameter

    def _demand(self, size: SizeLike, divisor: int) -> None:
        if isinstance(size, int):
            self.conditions[str(size % divisor == 0)] = None
        else:
            self.conditions[f"{size_text(size, 2)} % {divisor} == 0"] = None
