"""Which variants of a loop nest are worth a measurement, and how long each should take."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

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
    traffic = Traffic.of(program, sizes, target)
    if not domain.levels:
        found = _flat_strategies(program, domain, sizes, target, traffic)
    elif trailing(domain):
        found = _row_strategies(domain, sizes, target, traffic)
    else:
        found = _column_strategies(domain, sizes, target, traffic)
    if not found:
        raise Unsupported("no strategy fits these rows and columns")
    unique: dict[Strategy, float] = {}
    for s, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(s, time)
    return list(unique.items())


@attrs.frozen
class Traffic:
    """Device-memory times of a fragment, microseconds, and what the cache keeps between passes.

    Attributes:
        read_us: time to read every input once.
        write_us: time to write every output.
        read_bytes: bytes of the inputs.
        target: the device.
    """

    read_us: float
    write_us: float
    read_bytes: int
    target: Target

    @classmethod
    def of(cls, program: Program, sizes: Sizes, target: Target) -> Traffic:
        """Return the traffic of a program."""
        inputs = _bytes(program, sizes, [i.name for i in program.graph.inputs])
        outputs = traffic_bytes(program, sizes) - inputs
        rate = target.bandwidth_gbps * 1e3
        return cls(inputs / rate, outputs / rate, inputs, target)

    @property
    def once_us(self) -> float:
        """Time to read and write everything once."""
        return self.read_us + self.write_us

    def passes_us(self, passes: int, live_bytes: float) -> float:
        """Return the time of several passes, of which every other one runs backwards.

        Args:
            passes: how often the inputs are walked.
            live_bytes: what is read between two visits of one element, at most.
        """
        # Half of the cache: writes pass through it too, and each of its two halves keeps its own copy of what it serves.
        kept = min(1.0, self.target.l2_bytes / 2 / max(1.0, live_bytes))
        return self.once_us + self.read_us * (passes - 1) * (1 - kept)


def _flat_strategies(
    program: Program, domain: Domain, sizes: Sizes, target: Target, traffic: Traffic
) -> list[tuple[Strategy, float]]:
    numel = sizes.hint(domain.columns)
    shapes = [(1024, 4), (2048, 4), (256, 4), (4096, 8), (2048, 8), (1024, 8), (512, 4)]
    if _scattered(program, domain, sizes):
        # Loads that no vector serves: one thread with few elements has fewer of them to wait for.
        shapes = [(256, 4), (512, 8), (128, 4), (512, 4), (1024, 8), (1024, 4), (2048, 8)]
    found: list[tuple[Strategy, float]] = []
    for columns, warps in shapes:
        if columns > 256 and columns > 2 * numel:
            continue
        penalty = 1.0 + 0.01 * len(found)
        if ceildiv(numel, columns) < 2 * target.n_multiprocessors:
            penalty += columns / 8192
        found.append((Strategy("flat", 1, columns, warps), traffic.once_us * penalty + target.launch_us))
    return found


def trailing(domain: Domain) -> bool:
    """Return whether neighbouring elements of a row are neighbours in memory."""
    last = [a for a in range(len(domain.shape)) if domain.shape[a] != 1][-1:]
    return not last or last[0] not in domain.row_axes


def traffic_bytes(program: Program, sizes: Sizes) -> int:
    """Return the bytes of inputs and outputs."""
    graph = program.graph
    names = dict.fromkeys([i.name for i in graph.inputs] + [o for o in graph.outputs if isinstance(o, str)])
    return _bytes(program, sizes, names)


def _bytes(program: Program, sizes: Sizes, names: Iterable[str]) -> int:
    return sum(sizes.hint(program.types[n].numel) * DTYPES[program.types[n].dtype] for n in names)


def _programs_per_multiprocessor(elements: int, warps: int) -> int:
    """Return how many programs of ``warps`` warps share a multiprocessor, each with ``elements`` of a chunk in registers."""
    registers = min(255, 24 + 3 * elements // (32 * warps))
    return max(1, min(64 // warps, 65536 // (32 * warps * registers), 32))


def _row_strategies(domain: Domain, sizes: Sizes, target: Target, traffic: Traffic) -> list[tuple[Strategy, float]]:
    rows, columns = sizes.hint(domain.rows), sizes.hint(domain.columns)
    width = next_power_of_2(columns)
    programs = target.n_multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
    found: list[tuple[Strategy, float]] = []
    row_bytes = traffic.read_bytes / max(1, rows)
    if width <= MAX_BLOCK:
        base = traffic.once_us + target.launch_us
        if width <= 1024:
            for n, (elements, warps) in enumerate(((2048, 4), (1024, 2), (4096, 4), (1024, 1), (4096, 8))):
                together = max(1, min(elements // width, next_power_of_2(rows)))
                found.append((Strategy("rows", together, 0, warps), base * (1 + 0.01 * n)))
        else:
            # Half of the registers for the row itself, at 32 bits an element.
            ideal = min(32, max(4, width // 1024))
            for warps, penalty in ((ideal, 1.0), (min(32, ideal * 2), 1.01), (max(4, ideal // 2), 1.02)):
                spilled = 1.0 if width <= 32 * 32 * warps else 1.3
                found.append((Strategy("rows", 1, 0, warps), base * penalty * spilled))
            if width <= 2048:
                found.append((Strategy("rows", 2, 0, 8), base * 1.03))
        if rows < target.n_multiprocessors and columns > 16384:
            found = [(s, t * target.n_multiprocessors / max(1, rows)) for s, t in found]
    if columns >= 4096:
        slow = max(1.0, target.n_multiprocessors / max(1, rows))
        for chunk, warps, penalty in (
            (8192, 32, 1.03), (8192, 16, 1.035), (16384, 32, 1.04), (4096, 16, 1.045), (4096, 8, 1.05), (2048, 8, 1.07),
            (2048, 4, 1.5), (1024, 4, 1.55),
        ):  # fmt: skip
            if chunk > width:
                continue
            live = min(rows, _programs_per_multiprocessor(chunk, warps) * target.n_multiprocessors) * row_bytes
            time = traffic.passes_us(domain.passes, live) * slow * penalty + target.launch_us
            found.append((Strategy("loop", 1, chunk, warps), time))
    if rows < 2 * programs and columns >= 8192:
        launches = (len(domain.levels) + 1) * target.launch_us
        for per_program, chunk, warps, penalty in (
            (2, 4096, 8, 1.0), (4, 4096, 8, 1.01), (1, 8192, 16, 1.02), (1, 4096, 8, 1.03), (8, 4096, 8, 1.04),
            (4, 2048, 4, 1.05),
        ):  # fmt: skip
            splits = min(1024, next_power_of_2(max(2, ceildiv(programs * per_program // 2, rows))))
            splits = min(splits, next_power_of_2(columns) // chunk)
            if splits >= 2:
                time = traffic.passes_us(domain.passes, traffic.read_bytes) * penalty + launches
                found.append((Strategy("split", 1, chunk, warps, splits), time))
    return found


def _column_strategies(domain: Domain, sizes: Sizes, target: Target, traffic: Traffic) -> list[tuple[Strategy, float]]:
    """Rows are neighbours in memory: tiles are wide in rows, and folds run across them."""
    rows, columns = sizes.hint(domain.rows), sizes.hint(domain.columns)
    row_bytes = traffic.read_bytes / max(1, rows)
    found: list[tuple[Strategy, float]] = []
    width = next_power_of_2(columns)
    for together, warps, penalty in ((64, 8, 1.0), (64, 4, 1.01), (32, 4, 1.015), (128, 8, 1.02), (16, 4, 1.03)):
        together = min(together, max(8, next_power_of_2(rows)))
        programs = ceildiv(rows, together)
        # Two programs on every multiprocessor keep enough loads in flight.
        idle = max(1.0, 2 * target.n_multiprocessors / programs)
        if together * width <= 16384:
            found.append((Strategy("rows", together, 0, warps), traffic.once_us * penalty * idle + target.launch_us))
        chunk = max(4, min(64, 4096 // together))
        if columns > chunk:
            live = min(rows, 4 * together * target.n_multiprocessors) * row_bytes
            time = traffic.passes_us(domain.passes, live) * idle * (penalty + 0.05) + target.launch_us
            found.append((Strategy("loop", together, chunk, warps), time))
        if idle > 1 and columns >= 16 * chunk:
            splits = next_power_of_2(ceildiv(target.n_multiprocessors * PROGRAMS_PER_MULTIPROCESSOR, programs))
            splits = min(splits, 256, next_power_of_2(columns) // (4 * chunk))
            if splits >= 2:
                launches = (len(domain.levels) + 1) * target.launch_us
                time = traffic.passes_us(domain.passes, traffic.read_bytes) * penalty + launches
                found.append((Strategy("split", together, chunk, warps, splits), time))
    return found


def _loads(program: Program, domain: Domain) -> tuple[Space, list[tuple[str, object, object]]]:
    """Return the loads (input, offset, guard) of one element of an elementwise domain, over axes ``i0``, ``i1``, ..."""
    shape = domain.shape
    space = Space()
    axes = tuple(0 if n == 1 else space.axis(f"i{k}", n) for k, n in enumerate(shape))
    writer = Writer(space, new_names(program.graph))
    found: list[tuple[str, object, object]] = []
    plain = writer.load

    def load(name: str, dtype: str, offset: object, guard: object = ()) -> Val:
        found.append((name, offset, guard))
        return plain(name, dtype, offset, guard)  # type: ignore[arg-type]

    def stop(site: Site) -> Val:
        raise Unsupported("a fold")

    writer.load = load  # type: ignore[method-assign, assignment]
    pull = Pull(program, writer, stop)
    for o in program.graph.outputs:
        if isinstance(o, str) and program.types[o].shape == shape:
            pull.value(o, axes)
    return space, found


def _scattered(program: Program, domain: Domain, sizes: Sizes) -> bool:
    """Return whether most large inputs are loaded at places that are no aligned run of the last axis."""
    real = [k for k, n in enumerate(domain.shape) if n != 1]
    if not real:
        return False
    space, loads = _loads(program, domain)
    numel = sizes.hint(domain.columns)
    large = [(o, g) for name, o, g in loads if sizes.hint(program.types[name].numel) * 4 >= numel]
    last = f"i{real[-1]}"
    return sum(1 for o, g in large if g or _unit_axis(space, o) != last) * 2 > len(large)


def transposed_axis(program: Program, domain: Domain, sizes: Sizes) -> int | None:
    """Return the axis of an elementwise domain along which some large input is contiguous while the output is not."""
    shape = domain.shape
    real = [k for k, n in enumerate(shape) if n != 1]
    if len(real) < 2:
        return None
    space, loads = _loads(program, domain)
    numel = sizes.hint(domain.columns)
    for name, offset, _ in loads:
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
