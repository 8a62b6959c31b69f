"""Which variants of a loop nest are worth a measurement, and how long each should take."""

from __future__ import annotations

from ...ir import Unsupported
from ...ir.typesys import DTYPES
from ..candidate import Target
from .coords import Space
from .kernel import Sizes, ceildiv, new_names, next_power_of_2
from .loops import MAX_BLOCK, Domain, Strategy
from .pull import Program, Pull, Site
from .writer import Val, Writer

#: Programs that a launch needs before every multiprocessor has enough loads in flight.
PROGRAMS_PER_MULTIPROCESSOR = 4


def loop_strategies(program: Program, domain: Domain, sizes: Sizes, target: Target) -> list[tuple[Strategy, float]]:
    """Return (strategy, predicted microseconds), the best prediction first."""
    numel = sizes.hint(domain.rows * domain.columns)
    traffic_us = traffic_bytes(program, sizes) / (target.bandwidth_gbps * 1e3)
    found: list[tuple[Strategy, float]] = []
    if not domain.levels:
        for columns, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (512, 4), (1024, 8), (256, 4)):
            if columns > 256 and columns > 2 * numel:
                continue
            penalty = 1.0 + 0.01 * len(found)
            if ceildiv(numel, columns) < 2 * target.n_multiprocessors:
                penalty += columns / 8192
            found.append((Strategy("flat", 1, columns, warps), traffic_us * penalty + target.launch_us))
    elif trailing(domain):
        found = _row_strategies(domain, sizes, target, traffic_us)
    else:
        found = _column_strategies(domain, sizes, target, traffic_us)
    if not found:
        raise Unsupported("no strategy fits these rows and columns")
    unique: dict[Strategy, float] = {}
    for s, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(s, time)
    return list(unique.items())


def trailing(domain: Domain) -> bool:
    """Return whether neighbouring elements of a row are neighbours in memory."""
    last = [a for a in range(len(domain.shape)) if domain.shape[a] != 1][-1:]
    return not last or last[0] not in domain.row_axes


def traffic_bytes(program: Program, sizes: Sizes) -> int:
    """Return the bytes of inputs and outputs."""
    graph = program.graph
    names = dict.fromkeys([i.name for i in graph.inputs] + [o for o in graph.outputs if isinstance(o, str)])
    return sum(sizes.hint(graph.types[n].numel) * DTYPES[graph.types[n].dtype] for n in names)


def _row_strategies(domain: Domain, sizes: Sizes, target: Target, traffic_us: float) -> list[tuple[Strategy, float]]:
    rows, columns = sizes.hint(domain.rows), sizes.hint(domain.columns)
    width = next_power_of_2(columns)
    programs = target.n_multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
    found: list[tuple[Strategy, float]] = []
    if width <= MAX_BLOCK:
        base = traffic_us + target.launch_us
        if width <= 1024:
            for n, (elements, warps) in enumerate(((2048, 4), (1024, 2), (4096, 4), (1024, 1), (4096, 8))):
                together = max(1, elements // width)
                found.append((Strategy("rows", together, 0, warps), base * (1 + 0.01 * n)))
        else:
            ideal = min(32, max(4, width // 1024))
            for warps, penalty in ((ideal, 1.0), (min(32, ideal * 2), 1.01), (max(4, ideal // 2), 1.02)):
                found.append((Strategy("rows", 1, 0, warps), base * penalty))
            if width <= 2048:
                found.append((Strategy("rows", 2, 0, 8), base * 1.03))
        if rows < target.n_multiprocessors and columns > 16384:
            found = [(s, t * target.n_multiprocessors / max(1, rows)) for s, t in found]
    passes = len(domain.levels) + ("full" in domain.outputs.values())
    if columns >= 4096:
        slow = max(1.0, target.n_multiprocessors / max(1, rows))
        for chunk, warps, penalty in ((4096, 8, 1.05), (8192, 16, 1.06), (2048, 8, 1.07), (2048, 4, 1.08), (1024, 4, 1.1)):
            found.append(
                (Strategy("loop", 1, chunk, warps), traffic_us * (1 + 0.5 * (passes - 1)) * slow * penalty + target.launch_us)
            )
    if rows < programs and columns >= 8192:
        for per_program, warps, penalty in ((1, 8, 1.0), (2, 8, 1.02), (4, 8, 1.04)):
            splits = min(1024, next_power_of_2(max(2, ceildiv(programs * per_program // 2, rows))))
            splits = min(splits, next_power_of_2(columns) // 4096)
            if splits >= 2:
                time = traffic_us * (1 + 0.5 * (passes - 1)) * penalty + (len(domain.levels) + 1) * target.launch_us
                found.append((Strategy("split", 1, 4096, warps, splits), time))
                found.append((Strategy("split", 1, 2048, 4, splits), time * 1.01))
    return found


def _column_strategies(domain: Domain, sizes: Sizes, target: Target, traffic_us: float) -> list[tuple[Strategy, float]]:
    """Rows are neighbours in memory: tiles are wide in rows, and folds run across them."""
    rows, columns = sizes.hint(domain.rows), sizes.hint(domain.columns)
    passes = len(domain.levels) + ("full" in domain.outputs.values())
    found: list[tuple[Strategy, float]] = []
    width = next_power_of_2(columns)
    for together, warps, penalty in ((32, 4, 1.0), (64, 4, 1.01), (64, 8, 1.02), (128, 8, 1.03), (16, 4, 1.1)):
        together = min(together, max(8, next_power_of_2(rows)))
        programs = ceildiv(rows, together)
        idle = max(1.0, target.n_multiprocessors / programs)
        if together * width <= 16384:
            found.append((Strategy("rows", together, 0, warps), traffic_us * penalty * idle + target.launch_us))
        chunk = max(4, min(64, 4096 // together))
        if columns > chunk:
            time = traffic_us * (1 + 0.5 * (passes - 1)) * idle * (penalty + 0.05) + target.launch_us
            found.append((Strategy("loop", together, chunk, warps), time))
        if idle > 1 and columns >= 16 * chunk:
            splits = next_power_of_2(ceildiv(target.n_multiprocessors * PROGRAMS_PER_MULTIPROCESSOR, programs))
            splits = min(splits, 256, next_power_of_2(columns) // (4 * chunk))
            if splits >= 2:
                time = traffic_us * (1 + 0.5 * (passes - 1)) * penalty + (len(domain.levels) + 1) * target.launch_us
                found.append((Strategy("split", together, chunk, warps, splits), time))
    return found


def transposed_axis(program: Program, domain: Domain, sizes: Sizes) -> int | None:
    """Return the axis of an elementwise domain along which some large input is contiguous while the output is not."""
    shape = domain.shape
    real = [k for k, n in enumerate(shape) if n != 1]
    if len(real) < 2:
        return None
    space = Space()
    axes = tuple(0 if n == 1 else space.axis(f"i{k}", n) for k, n in enumerate(shape))
    writer = Writer(space, new_names(program.graph))
    offsets: list[tuple[str, object]] = []
    plain = writer.load

    def load(name: str, dtype: str, offset: object, guard: object = ()) -> Val:
        offsets.append((name, offset))
        return plain(name, dtype, offset, guard)  # type: ignore[arg-type]

    def stop(site: Site) -> Val:
        raise Unsupported("a fold")

    writer.load = load  # type: ignore[method-assign, assignment]
    pull = Pull(program, writer, stop)
    outputs = [o for o in program.graph.outputs if isinstance(o, str)]
    for o in outputs:
        if program.types[o].shape == shape:
            pull.value(o, axes)
    numel = sizes.hint(domain.columns)
    for name, offset in offsets:
        if sizes.hint(program.types[name].numel) * 4 < numel:
            continue
        unit = _unit_axis(space, offset)
        if unit is not None and unit != f"i{real[-1]}":
            return int(unit[1:])
    return None


def _unit_axis(space: Space, offset: object) -> str | None:
    """Return the axis whose next element is the neighbour in memory."""
    from .coords import terms

    for atoms, coefficient in terms(offset):  # type: ignore[arg-type]
        if coefficient == 1 and len(atoms) == 1 and getattr(atoms[0], "name", None) in space.extents:
            return str(atoms[0].name)  # type: ignore[union-attr]
    return None
