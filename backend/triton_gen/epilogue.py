"""Where an output stands on the tile that a kernel has in registers.

A kernel computes one *core* value (a matrix product, an attention, a running sum) in tiles; the outputs of the fragment are
re-indexings of it with elementwise operators on the way.  Which element of an output belongs to which element of the core
follows from the coordinates at which the output's definition asks for the core.
"""

from __future__ import annotations

from collections.abc import Collection

from ...ir import SizeLike, Unsupported
from .contraction import invert
from .coords import Space, terms
from .kernel import new_names, product
from .pull import Coordinates, Program, Pull, Site
from .writer import Val, Writer


def output_coordinates(
    program: Program, cores: Collection[str], space: Space, name: str, result: Coordinates, what: str
) -> Coordinates:
    """Return the coordinates of output ``name`` that depend on the cores' element at ``result``.

    Args:
        program: the fragment.
        cores: values of one shape that are computed in tiles.
        space: where the axes of ``result`` are declared.
        name: an output.
        result: coordinates of the cores.
        what: the core in messages (``the product``).

    Raises:
        Unsupported: an output element needs several elements of a core, or none.
    """
    shape = program.types[name].shape
    if name in cores:
        return result
    core_shape = program.types[next(iter(cores))].shape
    scratch = Space(space.extents)
    axes = {f"o{i}": n for i, n in enumerate(shape) if n != 1}
    at = tuple(scratch.axis(f"o{i}", n) if n != 1 else 0 for i, n in enumerate(shape))
    demanded: list[Coordinates] = []

    def demand(coordinates: Coordinates, guard: tuple[Val, ...]) -> Val:
        if guard:
            raise Unsupported(f"{what} under a condition")
        demanded.append(coordinates)
        return Val("core", "f32", frozenset().union(*(scratch.depends(c) for c in coordinates)))

    def refuse(site: Site) -> Val:
        raise Unsupported(f"a reduction behind {what}")

    pull = Pull(program, Writer(scratch, new_names(program.graph)), refuse)
    for v in cores:
        pull.bound[v] = demand
    pull.value(name, at)
    if not demanded:
        raise Unsupported(f"output {name} does not depend on {what}")
    if any(d != demanded[0] for d in demanded):
        raise Unsupported(f"{what} wanted at several places")
    if product(core_shape) != product(shape):
        raise Unsupported(f"output {name} is larger or smaller than {what}")
    given: list[SizeLike] = []
    wanted: list[SizeLike] = []
    for have, want, n in zip(result, demanded[0], core_shape, strict=True):
        if n == 1:
            continue
        # A flipped axis runs backwards on both sides alike.
        backwards = any(c < 0 and any(getattr(a, "name", "") in axes for a in atoms) for atoms, c in terms(want))
        given.append(n - 1 - have if backwards else have)
        wanted.append(n - 1 - want if backwards else want)
    solved = invert(scratch, wanted, axes, given)
    if solved is None:
        raise Unsupported(f"output {name} is no rearrangement of {what}")
    return tuple(space.substitute(solved[f"o{i}"], {}) if n != 1 else 0 for i, n in enumerate(shape))
