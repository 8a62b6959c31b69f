"""Loop nests over rows and columns: elementwise fragments, and reductions with everything that depends on them.

Every output element lies in one *row*; all folds of a fragment run over the *columns* of a row.  Rows and columns are flat
indices: what the axes of the tensors are is the business of the coordinates.  One analysis finds rows and columns; the
strategies that write it differ in how a program walks the columns:

* ``flat``: no folds; a block of consecutive elements.
* ``tile``: no folds; a two-dimensional block, where some input is contiguous along another axis than the output.
* ``rows``: a block holds whole rows; every input is read once.
* ``loop``: a program walks its rows in chunks, once for each level of folds that depend on each other, and every other time
  backwards: what was read last is what the cache still holds.
* ``split``: few long rows; each level is a launch of its own whose programs share a row and leave partial results, which
  the next launch combines in a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...ir import SizeLike, Unsupported
from ...ir.typesys import is_float
from .coords import Space
from .domain import Domain, check_site, held_dtype, output_coordinates
from .domain import find_domain as find_domain
from .kernel import Assembly, Launch, Sizes, new_names, size_text
from .pairs import PairWriter
from .pull import Program, Pull, Site
from .writer import LEVELS, TORCH_DTYPES, TRITON_DTYPES, Val, Writer, computing, convert

#: The neutral element of each combiner, as text.
IDENTITY = {"sum": "0", "prod": "1", "max": 'float("-inf")', "min": 'float("inf")', "any": "0", "all": "1",
            "argmax": 'float("-inf")', "argmin": 'float("inf")'}  # fmt: skip

_INTEGER_ENDS = {"i64": (-(2**63), 2**63 - 1), "i32": (-(2**31), 2**31 - 1), "i8": (-128, 127), "u8": (0, 255)}

#: Names that the loops themselves use.
_LOCALS = {
    "row", "col", "start", "back", "first", "last", "piece", "part", "count", "BLOCK_ROWS", "BLOCK_COLS", "CHUNK", "PART",
    "SPLITS",
}  # fmt: skip

#: Elements of one row that a block may hold in registers.
MAX_BLOCK = 65536


@attrs.frozen
class Strategy:
    """How one variant walks the domain; block sizes are elements, 0 for a whole row."""

    kind: str
    block_rows: int
    block_columns: int
    num_warps: int
    splits: int = 1

    @property
    def label(self) -> str:
        """The variant's name."""
        columns = self.block_columns or "all"
        text = {"flat": f"flat {columns}", "split": f"split {self.splits} {self.block_rows}x{columns}"}.get(
            self.kind, f"{self.kind} {self.block_rows}x{columns}"
        )
        return f"{text} w{self.num_warps}"


class LoopWriter:
    """Writes one variant of a loop nest.

    Args:
        program: the fragment in primitives.
        domain: its rows and columns.
        strategy: how to walk them.
        assembly: receives the kernels.
    """

    def __init__(self, program: Program, domain: Domain, strategy: Strategy, assembly: Assembly) -> None:
        self.program = program
        self.domain = domain
        self.s = strategy
        self.assembly = assembly
        self.sizes: Sizes = assembly.sizes
        self.rank = 1 if strategy.block_rows == 1 or domain.rows == 1 else 2
        self.wide = any(
            self.sizes.hint(t.numel) * 1 >= 2**31 for t in program.types.values()
        ) or self.sizes.hint(domain.rows * domain.columns) >= 2**31  # fmt: skip

    def write(self) -> None:
        """Write all kernels of the variant."""
        if self.s.kind == "split":
            self._write_split()
        else:
            self._write_single()

    # -- one kernel ---------------------------------------------------------------------------------------------------
    def _start(self, grid_axis: int = 0, backwards: bool = False) -> None:
        d, s = self.domain, self.s
        self.space = Space()
        self.w = Writer(self.space, new_names(self.program.graph))
        self.w.names.taken |= _LOCALS
        self.row: SizeLike = 0
        self.values: dict[tuple[object, ...], Val] = {}
        self.pull = Pull(self.program, self.w, self._fold)
        self.constants: dict[str, str] = {}
        self.has_rows = d.rows != 1
        if self.has_rows:
            self.row = self.space.axis("row", d.rows)
            pid = f"tl.program_id({grid_axis})" + (".to(tl.int64)" if self.wide else "")
            if backwards:
                pid = f"(tl.num_programs({grid_axis}) - 1 - {pid})"
            if self.rank == 1:
                self.w.lines.append(f"row = {pid}")
            else:
                self.w.lines.append(f"row = {pid} * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]")
                self.constants["BLOCK_ROWS"] = str(s.block_rows)
                self.w.masks["row"] = "row_mask"
                self.w.lines.append(f"row_mask = row < {size_text(d.rows, 1)}")

    def _columns(self, start: str) -> list[str]:
        """Return the statements that set ``col`` and its mask."""
        arange = "tl.arange(0, BLOCK_COLS)" + ("[None, :]" if self.rank == 2 else "")
        columns = self.domain.columns
        self.column = self.space.axis("col", columns)
        self.w.masks["col"] = "col_mask"
        return [f"col = {start}{arange}", f"col_mask = col < {size_text(columns, 1)}"]

    def _write_single(self) -> None:
        d, s = self.domain, self.s
        self._start(1 if s.kind == "tile" else 0)
        columns = size_text(d.columns)
        grid: tuple[str, ...]
        if s.kind in ("flat", "tile"):
            pid = "tl.program_id(0)" + (".to(tl.int64)" if self.wide else "")
            self.w.lines.extend(self._columns(f"{pid} * BLOCK_COLS + "))
            self.constants["BLOCK_COLS"] = str(s.block_columns)
            self._outputs("full")
            grid = (f"triton.cdiv({columns}, {s.block_columns})",)
            if s.kind == "tile":
                grid = (*grid, f"triton.cdiv({size_text(d.rows)}, {s.block_rows})")
        else:
            rows = size_text(d.rows)
            grid = (rows if self.rank == 1 else f"triton.cdiv({rows}, {s.block_rows})",)
            if s.kind == "rows":
                self.w.lines.extend(self._columns(""))
                self.constants["BLOCK_COLS"] = f"triton.next_power_of_2({columns})"
                self._outputs("full")
                self._outputs("row")
            else:
                self.constants["BLOCK_COLS"] = str(s.block_columns)
                self._passes(size_text(d.columns, 1))
        self.assembly.launches.append(Launch(self.w, grid, self.constants, {"num_warps": s.num_warps}))

    def _outputs(self, kind: str) -> None:
        for o, k in self.domain.outputs.items():
            if k == kind:
                self._store(o, k)

    def _store(self, name: str, kind: str) -> None:
        column = self.column if kind == "full" else 0
        at = output_coordinates(self.program, self.domain, self.space, name, kind, self.row, column)
        t = self.program.types[name]
        val = self.pull.value(name, at)
        self.w.store(name, self.space.ravel(at, t.shape), val, t.dtype)

    # -- folds --------------------------------------------------------------------------------------------------------
    def _fold(self, site: Site) -> Val:
        check_site(self.program, self.domain, self.space, site, self.row)
        if site.key in self.values:
            return self.values[site.key]
        if self.s.kind != "rows":
            raise Unsupported("a fold before its level")
        val = self.reduced(site, self.term(site))
        self.values[site.key] = val
        return val

    def term(self, site: Site) -> Val:
        """Return the folded term on the current tile, with neutral elements outside the row."""
        v = site.body(self.pull, self.space.unravel(self.column, site.ranges), ())
        v = self._prepared(site, v)
        neutral = self._neutral(site, v.dtype)
        if site.combiner == "sum" and v.zero_outside and "col" in v.axes:
            return v
        text = f"tl.where(col_mask, {v.text}, {neutral})"
        return self.w.assign(f"{site.node.results[0]}_terms", Val(text, v.dtype, v.axes | {"col"}))

    def _prepared(self, site: Site, v: Val) -> Val:
        v = computing(v)
        if site.combiner in ("any", "all"):
            return convert(convert(v, "bool"), "i32")
        if site.combiner in ("sum", "prod"):
            held = held_dtype(site.dtype)
            return convert(v, held) if v.literal is None else Val(convert(v, held).text, held)
        if v.dtype == "bool":
            return convert(v, "i32")
        return v if v.literal is None else Val(v.text, held_dtype(site.dtype))

    def _neutral(self, site: Site, dtype: str) -> str:
        text = IDENTITY[site.combiner]
        if is_float(dtype):
            return text if text.startswith("float") else text + ".0"
        if text.startswith("float"):
            lo, hi = _INTEGER_ENDS[dtype]
            return str(lo if "-inf" in text else hi)
        return text

    def reduced(self, site: Site, terms: Val) -> Val:
        """Fold a tile along its columns."""
        axes = terms.axes - {"col"}
        axis = self.rank - 1
        tail = "[:, None]" if self.rank == 2 else ""
        wish = site.node.results[0]
        t = self.w.assign("terms", terms).text

        def named(text: str, dtype: str, name: str = wish) -> Val:
            return self.w.assign(name, Val(text + tail, dtype, axes))

        match site.combiner:
            case "sum":
                return named(f"tl.sum({t}, axis={axis})", terms.dtype)
            case "max" | "min" if not is_float(terms.dtype):
                return named(f"tl.{site.combiner}({t}, axis={axis})", terms.dtype)
            case "max" | "min":
                plain = named(f"tl.{site.combiner}({t}, axis={axis})", terms.dtype)
                if self._nan_shows_anyway(site):
                    return plain
                # tl.max and tl.min pass over NaN; PyTorch returns it.
                nan = named(f"tl.max(({t} != {t}).to(tl.int32), axis={axis})", "i32", "has_nan")
                return self.w.assign(
                    wish, Val(f'tl.where({nan.text} != 0, float("nan"), {plain.text})', terms.dtype, axes)
                )
            case "any":
                return self._flag(named(f"tl.max({t}, axis={axis})", "i32", "hit"))
            case "all":
                return self._flag(named(f"tl.min({t}, axis={axis})", "i32", "hit"))
            case "prod":
                fn = f"{self.assembly.entry}_multiply"
                self.assembly.helpers[fn] = f"@triton.jit\ndef {fn}(a, b):\n    return a * b"
                return named(f"tl.reduce({t}, {axis}, {fn})", terms.dtype)
            case "argmax" | "argmin":
                best = named(f"tl.{site.combiner}({t}, axis={axis}, tie_break_left=True)", "i32")
                if is_float(terms.dtype):
                    nan = self.w.assign("is_nan", Val(f"({t} != {t}).to(tl.int32)", "i32", terms.axes))
                    any_nan = named(f"tl.max({nan.text}, axis={axis})", "i32", "has_nan")
                    first = named(f"tl.argmax({nan.text}, axis={axis}, tie_break_left=True)", "i32", "first_nan")
                    best = self.w.assign(
                        wish, Val(f"tl.where({any_nan.text} != 0, {first.text}, {best.text})", "i32", axes)
                    )
                return convert(best, "i64")
        raise Unsupported(f"combiner {site.combiner}")

    def _flag(self, v: Val) -> Val:
        return Val(f"{v.text} != 0", "bool", v.axes, LEVELS["!="])

    def _nan_shows_anyway(self, site: Site) -> bool:
        """Whether the maximum only shifts an exponential: a NaN then reaches the result through the sum."""
        users = self.program.graph.users[site.node.results[0]]
        if site.node.results[0] in self.program.graph.outputs:
            return False
        folded = list(site.node.uses())
        for user in users:
            if user.op == "sub" and user.operands[0] in folded:
                continue
            return False
        return bool(users)

    # -- chunks -------------------------------------------------------------------------------------------------------
    def _passes(self, stop: str) -> None:
        """Walk the columns once for each level, and once more for the outputs that need them."""
        for number, level in enumerate(self.domain.levels):
            self._chunk_pass(level, "0", stop, number)
        if any(k == "full" for k in self.domain.outputs.values()):
            self._full_pass("0", stop)
        self._outputs("row")

    def _full_pass(self, start: str, stop: str) -> None:
        """Write one loop over columns ``start..stop`` that stores the outputs with columns."""
        number = len(self.domain.levels)
        self.w.open({"col"})
        lines = self._columns("start + ")
        self._set_policy(number)
        self._outputs("full")
        self.w.policy = ""
        self._close_loop(start, stop, lines, backwards=number % 2 == 1)

    def _set_policy(self, number: int) -> None:
        """Ask the cache to keep what a later pass reads again, and to drop what nobody will."""
        if self.domain.passes > 1:
            self.w.policy = "evict_last" if number < self.domain.passes - 1 else "evict_first"
            numel = self.sizes.hint(self.domain.rows * self.domain.columns)
            types = self.program.types
            self.w.streamed = {
                i.name for i in self.program.graph.inputs if self.sizes.hint(types[i.name].numel) * 4 >= numel
            }

    def _close_loop(self, start: str, stop: str, head: list[str], backwards: bool) -> None:
        if not backwards:
            self.w.close(f"for start in range({start}, {stop}, BLOCK_COLS):", head)
            return
        length = stop if start == "0" else f"({stop} - {start})"
        base = "" if start == "0" else f"{start} + "
        first = f"start = {base}({length} - 1) // BLOCK_COLS * BLOCK_COLS - back"
        self.w.close(
            f"for back in range(0, {length.strip('()') if start != '0' else length}, BLOCK_COLS):", [first, *head]
        )

    def _chunk_pass(
        self, sites: Sequence[Site], start: str, stop: str, number: int, partial: bool = False
    ) -> dict[tuple[object, ...], Val]:
        """Write one loop over columns ``start..stop`` that folds ``sites``; their values are known afterwards.

        Args:
            sites: the folds of one level.
            start, stop: text of the columns.
            number: that of the level.
            partial: whether other programs have other columns of the row.
        """
        shape = "[BLOCK_COLS]" if self.rank == 1 else "[BLOCK_ROWS, BLOCK_COLS]"
        outer = self.w.lines
        self.w.open({"col"})
        head = self._columns("start + ")
        self._set_policy(number)
        finals: list[tuple[Site, Val, Val | None]] = []
        updates: list[str] = []
        pairs = [PairWriter(self, p) for p in self.domain.pairs if p.first in sites]
        together = {s.key for p in pairs for s in (p.pair.first, p.pair.second)}
        for p in pairs:
            updates += p.begin(shape, outer)
        for site in sites:
            if site.key in together:
                continue
            terms = self.term(site)
            acc = self.w.names.fresh(f"{site.node.results[0]}_acc")
            dtype = TRITON_DTYPES[terms.dtype]
            held = Val(acc, terms.dtype, frozenset({"row", "col"} if self.has_rows else {"col"}))
            outer.append(f"{acc} = tl.full({shape}, {self._neutral(site, terms.dtype)}, {dtype})")
            if site.combiner in ("argmax", "argmin"):
                index = self.w.names.fresh(f"{acc}_index")
                outer.append(f"{index} = tl.full({shape}, {2**31 - 1}, tl.int32)")
                sign = ">" if site.combiner == "argmax" else "<"
                t = self.w.assign("terms", terms).text
                better = self.w.names.fresh("better")
                nan = f" | (({t} != {t}) & ({acc} == {acc}))" if is_float(terms.dtype) else ""
                # An untouched lane takes its first element even if that is the neutral one.
                updates += [
                    f"{better} = (({t} {sign} {acc}){nan} | ({index} == {2**31 - 1})) & col_mask",
                    f"{acc} = tl.where({better}, {t}, {acc})",
                    f"{index} = tl.where({better}, col.to(tl.int32), {index})",
                ]
                finals.append((site, held, attrs.evolve(held, text=index, dtype="i32")))
                continue
            step = {
                "sum": f"{acc} + {terms.inside(LEVELS['+'] + 1)}", "prod": f"{acc} * {terms.inside(LEVELS['*'] + 1)}",
                "any": f"tl.maximum({acc}, {terms.text})", "all": f"tl.minimum({acc}, {terms.text})",
            }.get(site.combiner)  # fmt: skip
            if step is None:
                nan = ", propagate_nan=tl.PropagateNan.ALL" if is_float(terms.dtype) else ""
                step = f"tl.{site.combiner}imum({acc}, {terms.text}{nan})"
            updates.append(f"{acc} = {step}")
            finals.append((site, held, None))
        self.w.lines.extend(updates)
        self.w.policy = ""
        # The first of equal elements wins, and lanes count what they have seen: both need the order.
        ordered = any(s.combiner in ("argmax", "argmin") for s in sites) or any(p.pair.kind == "square" for p in pairs)
        self._close_loop(start, stop, head, backwards=number % 2 == 1 and not ordered)
        for p in pairs:
            for site, val in zip((p.pair.first, p.pair.second), p.finish(start, stop, partial), strict=True):
                self.values[site.key] = val
        for site, held, lanes in finals:
            val = self.reduced(site, held) if lanes is None else self._arg_result(site, held, lanes)
            self.values[site.key] = val
        return {site.key: self.values[site.key] for site in sites}

    def _arg_result(self, site: Site, best: Val, index: Val) -> Val:
        axes = best.axes - {"col"}
        axis, tail = self.rank - 1, "[:, None]" if self.rank == 2 else ""
        pick = "max" if site.combiner == "argmax" else "min"
        top = self.w.assign("top", Val(f"tl.{pick}({best.text}, axis={axis}){tail}", best.dtype, axes))
        tied = f"{best.text} == {top.text}"
        if is_float(best.dtype):
            nan = self.w.assign(
                "has_nan", Val(f"tl.max(({best.text} != {best.text}).to(tl.int32), axis={axis}){tail}", "i32", axes)
            )
            tied = f"tl.where({nan.text} != 0, {best.text} != {best.text}, {tied})"
        text = f"tl.min(tl.where({tied}, {index.text}, {2**31 - 1}), axis={axis}){tail}"
        return convert(self.w.assign(site.node.results[0], Val(text, "i32", axes)), "i64")

    # -- split rows ---------------------------------------------------------------------------------------------------
    def _write_split(self) -> None:
        """One launch for each level; every launch first combines what the launches before it left."""
        d, s = self.domain, self.s
        rows = size_text(d.rows)
        grid_rows = rows if self.rank == 1 else f"triton.cdiv({rows}, {s.block_rows})"
        if any(site.combiner in ("argmax", "argmin", "prod") for level in d.levels for site in level):
            raise Unsupported("split argmax and prod")
        earlier: list[tuple[Site, str, str]] = []
        chunk = f"triton.cdiv(triton.cdiv({size_text(d.columns)}, {s.splits}), {s.block_columns}) * {s.block_columns}"
        self.chunk_text = chunk
        full = any(k == "full" for k in d.outputs.values())
        for number, level in enumerate([*d.levels, ()]):
            last = number == len(d.levels)
            backwards = number % 2 == 1 and full
            self._start(backwards=backwards)
            self._combine_partials(earlier)
            if not last or full:
                self.w.lines.append(
                    f"piece = {s.splits - 1} - tl.program_id(1)" if backwards else "piece = tl.program_id(1)"
                )
                self.constants["BLOCK_COLS"] = str(s.block_columns)
                self.constants["CHUNK"] = chunk
                self.w.lines.append(f"first = piece{'.to(tl.int64)' if self.wide else ''} * CHUNK")
                self.w.lines.append(f"last = tl.minimum(first + CHUNK, {size_text(d.columns)})")
            if not last:
                results = self._chunk_pass(level, "first", "last", number, partial=True)
                for site in level:
                    val = results[site.key]
                    name = self.w.names.fresh(f"{site.node.results[0]}_partial")
                    dtype = val.dtype if val.dtype != "bool" else "i32"
                    held = convert(val, dtype)
                    pointer = self.w.pointer(name)
                    where = "row * SPLITS + piece" if self.has_rows else "piece"
                    mask = f", mask={self.w.masks['row']}" if "row" in self.w.masks else ""
                    self.w.lines.append(f"tl.store({pointer} + {where}, {held.text}{mask})")
                    earlier.append((site, name, dtype))
                    self.assembly.buffer(name, f"({rows}, {s.splits})", TORCH_DTYPES[dtype])
                if self.has_rows:
                    self.constants["SPLITS"] = str(s.splits)
                grid: tuple[str, ...] = (grid_rows, str(s.splits))
            else:
                if full:
                    self._full_pass("first", "last")
                    grid = (grid_rows, str(s.splits))
                else:
                    grid = (grid_rows,)
                if full and any(k == "row" for k in d.outputs.values()):
                    self.w.open(())
                    self._outputs("row")
                    self.w.close("if tl.program_id(1) == 0:")
                else:
                    self._outputs("row")
            suffix = f"level{number}" if not last else "finish"
            warps = s.num_warps if not last or full else 4
            self.assembly.launches.append(Launch(self.w, grid, self.constants, {"num_warps": warps}, suffix))

    def _combine_partials(self, earlier: Sequence[tuple[Site, str, str]]) -> None:
        if not earlier:
            return
        s = self.s
        self.constants["SPLITS"] = str(s.splits)
        tail = "[None, :]" if self.rank == 2 else ""
        self.w.lines.append(f"part = tl.arange(0, SPLITS){tail}")
        parts: dict[tuple[object, ...], Val] = {}
        for site, name, dtype in earlier:
            pointer = self.w.pointer(name)
            where = f"{pointer} + row * SPLITS + part" if self.has_rows else f"{pointer} + part"
            mask = f", mask={self.w.masks['row']}, other=0" if "row" in self.w.masks else ""
            loaded = Val(f"tl.load({where}{mask})", dtype, frozenset({"row", "col"} if self.has_rows else {"col"}))
            parts[site.key] = self.w.assign("partials", loaded)
        pairs = [p for p in self.domain.pairs if p.first.key in parts]
        for p in pairs:
            PairWriter(self, p).combine(parts[p.first.key], parts[p.second.key])
        for site, _, _ in earlier:
            if site.key not in self.values:
                self.values[site.key] = self.reduced(site, parts[site.key])
