"""Which tilings of an attention are worth a measurement, and how long each should take."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...ir import Unsupported
from ...ir.typesys import DTYPES
from ..candidate import Target
from .attention import MAX_HEAD, Attention, Tiling
from .kernel import Sizes, ceildiv, next_power_of_2, product
from .pull import Program
from .strategies import traffic_bytes

#: (m, n, warps, stages) by arithmetic and padded head width, best guess first.
_TILINGS: dict[str, tuple[tuple[int, tuple[tuple[int, int, int, int], ...]], ...]] = {
    "half": (
        (64, ((128, 128, 8, 3), (128, 64, 4, 3), (128, 128, 8, 2), (128, 64, 4, 2), (128, 64, 8, 3), (64, 128, 4, 3),
              (64, 64, 4, 3), (128, 32, 4, 4))),
        (128, ((128, 64, 8, 3), (128, 128, 8, 2), (128, 64, 8, 2), (64, 128, 4, 2), (64, 64, 4, 3), (128, 128, 8, 3),
               (128, 32, 8, 3))),
        (256, ((128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 8, 2), (64, 32, 4, 3), (64, 64, 8, 2))),
        (MAX_HEAD, ((64, 32, 8, 2), (32, 32, 4, 2), (64, 16, 8, 2))),
    ),
    "tf32": (
        (64, ((128, 64, 8, 2), (128, 64, 4, 2), (128, 32, 4, 3), (64, 64, 4, 3), (128, 128, 8, 2))),
        (128, ((128, 32, 8, 2), (128, 64, 8, 2), (64, 32, 4, 2), (64, 64, 4, 2))),
        (MAX_HEAD, ((64, 32, 8, 2), (32, 32, 4, 2), (32, 16, 4, 2))),
    ),
    "x3": (
        (64, ((64, 64, 4, 2), (128, 64, 8, 2), (128, 32, 4, 2), (64, 32, 4, 3), (128, 32, 8, 2), (32, 64, 4, 2))),
        (128, ((64, 32, 4, 2), (128, 32, 8, 2), (64, 64, 8, 2), (32, 32, 4, 2))),
        (MAX_HEAD, ((64, 16, 4, 2), (32, 16, 4, 2), (32, 32, 8, 2))),
    ),
    "ieee": (
        (128, ((64, 64, 8, 2), (64, 32, 4, 2), (32, 32, 4, 2))),
        (MAX_HEAD, ((32, 32, 8, 2), (16, 32, 4, 2))),
    ),
}  # fmt: skip

#: Shares of the arithmetic's rate that such loops reach.
_EFFICIENCY = {"half": 0.55, "tf32": 0.4, "x3": 0.45, "ieee": 0.4}


def tilings(program: Program, a: Attention, sizes: Sizes, target: Target, precision: str) -> list[tuple[Tiling, float]]:
    """Return (tiling, predicted microseconds), the best prediction first.

    Raises:
        Unsupported: no tile of such heads fits a multiprocessor.
    """
    dtype = program.types[a.q].dtype
    rows, keys = sizes.hint(a.queries), sizes.hint(a.keys)
    wide = max(16, next_power_of_2(sizes.hint(a.width))), max(16, next_power_of_2(sizes.hint(a.value_width)))
    batch = sizes.hint(product(a.batch))
    memory_us = traffic_bytes(program, sizes) / (target.bandwidth_gbps * 1e3)
    found: list[tuple[Tiling, float]] = []
    for kind, arithmetic, rate in _arithmetics(dtype, precision, target):
        table = next((tiles for width, tiles in _TILINGS[kind] if max(wide) <= width), ())
        for order, (m, n, warps, stages) in enumerate(table):
            m, n = min(m, max(16, next_power_of_2(rows))), min(n, max(16, next_power_of_2(keys)))
            warps = warps if m > 32 else min(warps, 4)
            while stages > 1 and _shared_bytes(m, n, wide, stages, DTYPES[dtype]) > target.shared_bytes:
                stages -= 1
            if _shared_bytes(m, n, wide, stages, DTYPES[dtype]) > target.shared_bytes:
                continue
            tiles = batch * ceildiv(rows, m)
            for splits in _splits(a, tiles, rows, keys, n, target):
                work = 2.0 * tiles * m * (ceildiv(keys, n) * n) * sum(wide) * (0.5 if a.causal else 1.0)
                busy = min(1.0, tiles * splits / _programs(rows, target))
                time = max(work / (rate * _EFFICIENCY[kind] * 1e6), memory_us) / busy + target.launch_us * (
                    1 + (splits > 1)
                )
                found.append((Tiling(m, n, warps, stages, arithmetic, splits), time * (1 + 0.02 * order)))
    if not found:
        raise Unsupported(f"attention with heads of {sizes.hint(a.width)} elements")
    # The copy engine spares address arithmetic; what it cannot reach is refused when it is written.
    found += [
        (attrs.evolve(t, descriptors=True), time * 0.95)
        for t, time in found
        if t.splits == 1 and t.arithmetic != "ieee"
    ]
    unique: dict[Tiling, float] = {}
    for t, time in sorted(found, key=lambda item: item[1]):
        unique.setdefault(t, time)
    return list(unique.items())


def _arithmetics(dtype: str, precision: str, target: Target) -> Sequence[tuple[str, str, float]]:
    rates = target.rate_tflops
    if dtype != "f32":
        return [("half", "", rates[dtype])]
    # Three bfloat16 numbers hold a float32; the six larger products of such triples take as long as three of TF32.
    strict = [("x3", "bf16x6", rates["bf16"] / 6), ("x3", "tf32x3", rates["tf32"] / 3), ("ieee", "ieee", rates["f32"])]
    return [("tf32", "tf32", rates["tf32"]), *strict] if precision == "tf32" else strict


def _programs(rows: int, target: Target) -> int:
    """Return the programs that keep the device busy: few queries wait for memory, which takes several programs at a time."""
    return target.n_multiprocessors * (4 if rows <= 32 else 1)


def _splits(a: Attention, tiles: int, rows: int, keys: int, n: int, target: Target) -> list[int]:
    """Return how many programs may share the keys: more where there are fewer tiles than the device could work on."""
    wanted = _programs(rows, target)
    if a.causal or tiles > wanted // 2 or keys < 4 * n:
        return [1]
    wanted = next_power_of_2(ceildiv(wanted, tiles))
    return [1, *dict.fromkeys(min(s, next_power_of_2(keys // n)) for s in (wanted, max(2, wanted // 2)))]


def _shared_bytes(m: int, n: int, wide: tuple[int, int], stages: int, element_bytes: int) -> int:
    return (m * wide[0] + stages * n * sum(wide)) * element_bytes
