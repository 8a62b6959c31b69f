"""Running sums and products along one axis.

Every output element lies in one *row*; all scans of a fragment run along the *columns* of a row, which are one axis of the
scanned tensor.  Operands are pulled at row and column, so a mask, a cast or a flip in front of a scan is part of its loads,
and what follows it happens in registers.  Strategies:

* ``rows``: a block holds whole rows.
* ``loop``: a program walks its rows in chunks and carries the last running value from chunk to chunk.
* ``split``: few long rows; a first launch leaves the total of every part, a second one starts each part from the totals
  before it, combined in a fixed order.
"""

from __future__ import annotations

import attrs

from ...ir import SizeLike, Unsupported
from ...ir import expr as ex
from ...ir.opdef import Index
from ...ir.size import Symbol
from ..candidate import Target
from .coords import Space, atom
from .epilogue import output_coordinates
from .kernel import Assembly, Launch, Sizes, ceildiv, new_names, next_power_of_2, product, size_text
from .loops import MAX_BLOCK, Strategy, held_dtype
from .pull import Coordinates, Program, Pull, Site
from .strategies import PROGRAMS_PER_MULTIPROCESSOR, traffic_bytes
from .writer import TORCH_DTYPES, TRITON_DTYPES, Val, Writer, computing, convert

#: The bodies that are scans, by combiner.
_BODIES = {f"{c}{{k in I[axis] + 1}} x[set(I, axis, k)]": c for c in ("sum", "prod")}

_IDENTITY = {"sum": "0", "prod": "1"}

_FUNCTIONS = {"sum": "tl.cumsum", "prod": "tl.cumprod"}

_WHAT = "a running value"


@attrs.frozen
class Scans:
    """The scans of a fragment.

    Attributes:
        combiners: scanned value -> ``sum`` or ``prod``.
        shape: of every scanned value.
        axis: along which they run.
        outputs: names.
    """

    combiners: dict[str, str]
    shape: tuple[SizeLike, ...]
    axis: int
    outputs: tuple[str, ...]

    @property
    def row_axes(self) -> tuple[int, ...]:
        """The axes that make up the rows."""
        return tuple(a for a in range(len(self.shape)) if a != self.axis)

    @property
    def rows(self) -> SizeLike:
        """Number of rows."""
        return product(self.shape[a] for a in self.row_axes)

    @property
    def columns(self) -> SizeLike:
        """Length of a row."""
        return self.shape[self.axis]

    def coordinates(self, space: Space, row: SizeLike, column: SizeLike) -> Coordinates:
        """Return the coordinates of an element."""
        at = list(space.unravel(row, [self.shape[a] for a in self.row_axes]))
        at.insert(self.axis, column)
        return tuple(at)


def find_scans(program: Program) -> Scans | None:
    """Return the scans of a fragment; None where it has none.

    Raises:
        Unsupported: they run along different axes, or an output is no re-indexing of them.
    """
    combiners: dict[str, str] = {}
    places: set[tuple[tuple[SizeLike, ...], int]] = set()
    for node in program.graph.nodes:
        body = program.ops[node.op].body
        combiner = _BODIES.get(ex.to_text(body.expr)) if isinstance(body, Index) else None
        if combiner is not None:
            combiners[node.results[0]] = combiner
            places.add((node.types[0].shape, int(node.attributes["axis"])))  # type: ignore[arg-type]
    if not combiners:
        return None
    if len(places) > 1:
        raise Unsupported("scans along different axes")
    ((shape, axis),) = places
    if not shape or shape[axis] == 1:
        raise Unsupported("a scan of one element")
    scans = Scans(combiners, shape, axis, tuple(o for o in program.graph.outputs if isinstance(o, str)))
    space = Space()
    at = tuple(space.axis(f"i{k}", n) if n != 1 else 0 for k, n in enumerate(shape))
    for o in scans.outputs:
        output_coordinates(program, scans.combiners, space, o, at, _WHAT)
    return scans


class ScanWriter:
    """Writes one variant of the scans of a fragment.

    Args:
        program: the fragment in primitives.
        scans: what :func:`find_scans` found.
        strategy: how to walk the rows.
        assembly: receives the kernels.
    """

    def __init__(self, program: Program, scans: Scans, strategy: Strategy, assembly: Assembly) -> None:
        self.program, self.d, self.s, self.assembly = program, scans, strategy, assembly
        self.sizes: Sizes = assembly.sizes
        numel = self.sizes.hint(scans.rows * scans.columns)
        self.wide = numel >= 2**31 or any(self.sizes.hint(t.numel) >= 2**31 for t in program.types.values())

    def write(self) -> None:
        """Write all kernels of the variant."""
        d, s = self.d, self.s
        rows, columns = size_text(d.rows), size_text(d.columns)
        grid_rows = rows if s.block_rows == 1 else f"triton.cdiv({rows}, {s.block_rows})"
        if s.kind == "rows":
            self._start(f"triton.next_power_of_2({columns})")
            self.w.lines.extend(self._columns("", columns))
            self._outputs()
            self._launch((grid_rows,), "kernel")
        elif s.kind == "loop":
            self._start(str(s.block_columns))
            self._walk(f"for start in range(0, {columns}, BLOCK_COLS):", columns, {})
            self._launch((grid_rows,), "kernel")
        else:
            self._split(grid_rows)

    # -- parts --------------------------------------------------------------------------------------------------------
    def _start(self, block_columns: str) -> None:
        d, s = self.d, self.s
        self.space = Space()
        names = new_names(self.program.graph)
        names.taken |= {"row", "col", "start", "first", "last", "part", "BLOCK_ROWS", "BLOCK_COLS", "CHUNK", "SPLITS"}
        self.w = Writer(self.space, names)
        self.pull = Pull(self.program, self.w, self._scan)
        #: Scans are demanded by name, so that short ones are not written out.
        self.pull.sums = set(d.combiners)
        self.constants = {"BLOCK_ROWS": str(s.block_rows), "BLOCK_COLS": block_columns}
        self.carries: dict[str, str] = {}
        self.values: dict[tuple[object, ...], Val] = {}
        self.row: SizeLike = 0
        wide = ".to(tl.int64)" if self.wide else ""
        # Even a single row is an axis of the tile; its coordinate is 0.
        self.space.axis("row", d.rows)
        if d.rows != 1:
            self.row = self._atom("row")
        self.w.masks["row"] = "row_mask"
        self.w.lines.extend([
            f"row = tl.program_id(0){wide} * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]",
            f"row_mask = row < {size_text(d.rows, 1)}",
        ])  # fmt: skip

    def _atom(self, name: str) -> SizeLike:
        return atom(Symbol(name))

    def _columns(self, start: str, end: str) -> list[str]:
        self.column = self.space.axis("col", self.d.columns)
        self.w.masks["col"] = "col_mask"
        wide = ".to(tl.int64)" if self.wide else ""
        return [f"col = {start}tl.arange(0, BLOCK_COLS)[None, :]{wide}", f"col_mask = col < {end}"]

    def _walk(self, head: str, end: str, initial: dict[str, str], totals: bool = False) -> None:
        """Write the walk over chunks; with ``totals`` nothing is stored and only the carries matter."""
        for v, combiner in self.d.combiners.items():
            dtype = self._held(v)
            self.carries[v] = self.w.names.fresh(f"{v}_carry")
            identity = f"tl.full([BLOCK_ROWS, 1], {_IDENTITY[combiner]}, {TRITON_DTYPES[dtype]})"
            self.w.lines.append(f"{self.carries[v]} = {initial.get(v, identity)}")
        self.w.open({"col"})
        first = self._columns("start + ", end)
        if totals:
            at = self.d.coordinates(self.space, self.row, self.column)
            for v in self.d.combiners:
                self.pull.value(v, at)
        else:
            self._outputs()
        self.w.close(head, first)

    def _held(self, value: str) -> str:
        # PyTorch accumulates float32 in float64; a scan waits for memory, not for arithmetic.
        dtype = held_dtype(self.program.types[value].dtype)
        return "f64" if self.program.types[value].dtype == "f32" else dtype

    def _scan(self, site: Site) -> Val:
        value = site.node.results[0]
        if value not in self.d.combiners:
            raise Unsupported("a fold beside a scan")
        if site.coordinates != self.d.coordinates(self.space, self.row, self.column):
            raise Unsupported("a scan that is wanted at other places than its neighbours")
        if site.key in self.values:
            return self.values[site.key]
        combiner, dtype = self.d.combiners[value], self._held(value)
        identity = _IDENTITY[combiner] + (".0" if dtype.startswith("f") else "")
        term = site.body(self.pull, (self.column,), ())
        term = convert(computing(term), dtype)
        if term.literal is None and term.zero_outside and combiner == "sum" and {"row", "col"} <= term.axes:
            text = self.w.assign("terms", term).text
        else:
            inner = f"tl.where(row_mask & col_mask, {term.text}, {identity})"
            typed = f"({inner}).to({TRITON_DTYPES[dtype]})" if term.literal is not None else inner
            text = self.w.assign("terms", Val(typed, dtype, term.axes | {"row", "col"})).text
        axes = frozenset({"row", "col"})
        running = self.w.assign(value, Val(f"{_FUNCTIONS[combiner]}({text}, axis=1)", dtype, axes))
        if value in self.carries:
            carry = self.carries[value]
            sign = "+" if combiner == "sum" else "*"
            running = self.w.assign(value, Val(f"{carry} {sign} {running.text}", dtype, axes))
            # Beyond the end terms are neutral, so that the last lane holds the total.
            lane = "tl.arange(0, BLOCK_COLS)[None, :] == BLOCK_COLS - 1"
            self.w.lines.append(f"{carry} = tl.sum(tl.where({lane}, {running.text}, 0), axis=1)[:, None]")
        result = held_dtype(self.program.types[value].dtype)
        self.values[site.key] = self.w.assign(value, convert(running, result))
        return self.values[site.key]

    def _outputs(self) -> None:
        result = self.d.coordinates(self.space, self.row, self.column)
        for o in self.d.outputs:
            t = self.program.types[o]
            at = output_coordinates(self.program, self.d.combiners, self.space, o, result, _WHAT)
            val = self.pull.value(o, at)
            text = convert(val, t.dtype).text
            offset = self.space.ravel(at, t.shape)
            # The row of a single row is 0 wherever it is not masked.
            row = " + row" if self.row == 0 else ""
            pointer = self.w.pointer(o)
            self.w.lines.append(
                f"tl.store({pointer} + {self.space.text(offset, 1)}{row}, {text}, mask=row_mask & col_mask)"
            )

    def _launch(self, grid: tuple[str, ...], suffix: str) -> None:
        self.assembly.launches.append(Launch(self.w, grid, self.constants, {"num_warps": self.s.num_warps}, suffix))

    # -- rows in parts ------------------------------------------------------------------------------------------------
    def _split(self, grid_rows: str) -> None:
        d, s = self.d, self.s
        if len(d.combiners) > 1:
            raise Unsupported("several scans in parts")
        ((value, combiner),) = d.combiners.items()
        dtype = self._held(value)
        columns = size_text(d.columns)
        chunk = f"triton.cdiv(triton.cdiv({columns}, {s.splits}), {s.block_columns}) * {s.block_columns}"
        wide = ".to(tl.int64)" if self.wide else ""
        totals = f"{value}_totals"
        self.assembly.buffer(totals, f"({size_text(d.rows)}, {s.splits})", TORCH_DTYPES[dtype])
        bounds = [f"first = tl.program_id(1){wide} * CHUNK", f"last = tl.minimum(first + CHUNK, {columns})"]
        head = "for start in range(first, last, BLOCK_COLS):"
        for last in (False, True):
            self._start(str(s.block_columns))
            self.constants |= {"CHUNK": chunk, "SPLITS": str(s.splits)}
            self.w.lines.extend(bounds)
            pointer = self.w.pointer(totals)
            if last:
                identity = _IDENTITY[combiner]
                sign = "+" if combiner == "sum" else "*"
                before = self.w.names.fresh("before")
                self.w.lines.extend([
                    f"{before} = tl.full([BLOCK_ROWS, 1], {identity}, {TRITON_DTYPES[dtype]})",
                    "for part in range(0, tl.program_id(1)):",
                    f"    {before} = {before} {sign} tl.load({pointer} + row * SPLITS + part, mask=row_mask, other={identity})",
                ])  # fmt: skip
                self._walk(head, "last", {value: before})
            else:
                self._walk(head, "last", {}, totals=True)
                self.w.lines.append(
                    f"tl.store({pointer} + row * SPLITS + tl.program_id(1), {self.carries[value]}, mask=row_mask)"
                )
            self._launch((grid_rows, str(s.splits)), "apply" if last else "totals")


def scan_strategies(program: Program, d: Scans, sizes: Sizes, target: Target) -> list[tuple[Strategy, float]]:
    """Return (strategy, predicted microseconds), the best prediction first."""
    rows, columns = sizes.hint(d.rows), sizes.hint(d.columns)
    traffic_us = traffic_bytes(program, sizes) / (target.bandwidth_gbps * 1e3)
    # Where rows are neighbours in memory, a tile must be wide in rows.
    inner = any(n != 1 for n in d.shape[d.axis + 1 :])
    width = next_power_of_2(columns)
    found: list[tuple[Strategy, float]] = []

    def add(
        kind: str, together: int, chunk: int, warps: int, penalty: float, splits: int = 1, launches: int = 1
    ) -> None:
        programs = ceildiv(rows, together) * splits
        idle = max(1.0, target.n_multiprocessors / programs)
        time = traffic_us * penalty * idle + launches * target.launch_us
        found.append((Strategy(kind, together, chunk, warps, splits), time))

    if inner:
        choices = ((32, 32, 4), (64, 16, 4), (32, 64, 8), (64, 32, 8), (16, 64, 4))
        for n, (together, chunk, warps) in enumerate(choices):
            together = min(together, max(8, next_power_of_2(rows)))
            if width * together <= 8192:
                add("rows", together, 0, warps, 1 + 0.01 * n)
            if columns > chunk:
                add("loop", together, chunk, warps, 1.1 + 0.01 * n)
    else:
        if width <= 1024:
            for n, (elements, warps) in enumerate(((2048, 4), (4096, 4), (1024, 2), (1024, 1), (4096, 8))):
                add("rows", max(1, elements // width), 0, warps, 1 + 0.01 * n)
        elif width <= min(MAX_BLOCK, 16384):
            for n, per_thread in enumerate((16, 32, 8)):
                add("rows", 1, 0, min(32, max(4, width // (32 * per_thread))), 1 + 0.01 * n)
        if columns > 1024:
            walks = ((1, 2048, 4), (1, 4096, 8), (1, 1024, 4), (1, 4096, 4), (2, 1024, 4))
            for n, (together, chunk, warps) in enumerate(walks):
                if columns > chunk:
                    add("loop", together, chunk, warps, 1.05 + 0.01 * n)
    programs = target.n_multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
    together, chunk = (32, 32) if inner else (1, 2048)
    together = min(together, next_power_of_2(rows))
    if ceildiv(rows, together) < target.n_multiprocessors and columns >= 8 * chunk and len(d.combiners) == 1:
        for n, splits in enumerate((programs, programs // 2, programs // 4)):
            splits = min(256, next_power_of_2(ceildiv(splits, ceildiv(rows, together))))
            splits = min(splits, next_power_of_2(columns) // (2 * chunk))
            if splits >= 2:
                add("split", together, chunk, 4, 1.5 + 0.01 * n, splits, 2)
    if not found:
        raise Unsupported("no strategy fits these rows and columns")
    unique: dict[Strategy, float] = {}
    for s, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(s, time)
    return list(unique.items())
