"""Rows and columns of a fragment: what its folds run over, and in which order they depend on each other."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...ir import SizeLike, Unsupported
from ...ir.opdef import Reduce
from .coords import Space
from .kernel import new_names, product
from .pairs import Pair, find_pairs
from .pull import Coordinates, Program, Pull, Site
from .writer import Val, Writer


@attrs.frozen
class Domain:
    """Rows and columns of a fragment.

    Attributes:
        shape: the shape that rows and columns together index.
        row_axes: axes of ``shape`` that make up the rows, in order; the others are the columns.
        outputs: output name -> "full" or "row".
        levels: the folds by level: those of one level depend on earlier levels, or are the second of a pair.
        pairs: pairs of folds, of one level each.
    """

    shape: tuple[SizeLike, ...]
    row_axes: tuple[int, ...]
    outputs: dict[str, str] = attrs.field(factory=dict)
    levels: tuple[tuple[Site, ...], ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def passes(self) -> int:
        """How often a program that keeps nothing walks the columns."""
        return len(self.levels) + ("full" in self.outputs.values())

    @property
    def rows(self) -> SizeLike:
        """Number of rows."""
        return product(self.shape[a] for a in self.row_axes)

    @property
    def column_axes(self) -> tuple[int, ...]:
        """Axes that make up the columns."""
        return tuple(a for a in range(len(self.shape)) if a not in self.row_axes)

    @property
    def columns(self) -> SizeLike:
        """Number of columns."""
        return product(self.shape[a] for a in self.column_axes)

    def coordinates(self, space: Space, row: SizeLike, column: SizeLike) -> Coordinates:
        """Return the coordinates in ``shape`` of an element."""
        out: list[SizeLike] = [0] * len(self.shape)
        for axes, flat in ((self.row_axes, row), (self.column_axes, column)):
            for a, c in zip(axes, space.unravel(flat, [self.shape[a] for a in axes]), strict=True):
                out[a] = c
        return tuple(out)


class _Found(Exception):
    def __init__(self, site: Site) -> None:
        self.site = site


def find_domain(program: Program) -> Domain:
    """Return rows and columns of a fragment.

    Raises:
        Unsupported: the fragment's folds do not share rows and columns, or an output fits neither.
    """
    graph = program.graph
    outputs = [o for o in graph.outputs if isinstance(o, str)]
    root = _first_site(program, outputs)
    if root is None:
        shape = max((graph.types[o].shape for o in outputs), key=len)
        numel = product(shape)
        for o in outputs:
            if product(graph.types[o].shape) != numel:
                raise Unsupported("outputs of different sizes in one loop nest")
        return Domain(shape, (), dict.fromkeys(outputs, "full"))
    domain = _domain_of(program, root)
    kinds = {}
    for o in outputs:
        n = product(graph.types[o].shape)
        whole = graph.types[o].shape == domain.shape or n == domain.rows * domain.columns
        if whole and not (n == domain.rows and graph.types[o].shape != domain.shape):
            kinds[o] = "full"
        elif n == domain.rows:
            kinds[o] = "row"
        else:
            raise Unsupported(f"output {o} is neither one number for each row nor one for each element")
    domain = attrs.evolve(domain, outputs=kinds)
    return _levelled(program, domain)


def _first_site(program: Program, outputs: Sequence[str]) -> Site | None:
    def stop(site: Site) -> Val:
        raise _Found(site)

    for o in outputs:
        space = Space()
        pull = Pull(program, Writer(space, new_names(program.graph)), stop)
        shape = program.types[o].shape
        try:
            pull.value(o, tuple(0 if n == 1 else space.axis(f"i{k}", n) for k, n in enumerate(shape)))
        except _Found as found:
            return found.site
    return None


def _domain_of(program: Program, site: Site) -> Domain:
    body = program.ops[site.node.op].body
    if isinstance(body, Reduce):
        shape, axes, _ = program.reduction(site.node, body)
        return Domain(shape, tuple(i for i in range(len(shape)) if i not in axes))
    result = site.node.types[0].shape
    return Domain((*result, *site.ranges), tuple(range(len(result))))


def _levelled(program: Program, domain: Domain) -> Domain:
    """Trace every output: check that all folds live on the domain, and order them by dependence."""
    space = Space()
    w = Writer(space, new_names(program.graph))
    row = 0 if domain.rows == 1 else space.axis("row", domain.rows)
    column = space.axis("col", domain.columns)
    sites: dict[tuple[object, ...], Site] = {}

    def visit(site: Site) -> Val:
        check_site(program, domain, space, site, row)
        if site.key not in sites:
            sites[site.key] = site
            site.body(pull, space.unravel(column, site.ranges), ())
        return Val(f"fold{len(sites)}", held_dtype(site.dtype), frozenset({"row"} if row != 0 else ()))

    pull = Pull(program, w, visit)
    for o, kind in domain.outputs.items():
        pull.value(o, output_coordinates(program, domain, space, o, kind, row, column))
    pairs = find_pairs(program, sites.values())
    # The second of a pair is folded together with the first.
    folded = {s.node.results[0] for s in sites.values()} - {p.second.node.results[0] for p in pairs}
    depth: dict[str, int] = {}
    for node in program.graph.nodes:
        below = max((depth.get(v, 0) for v in node.uses()), default=0)
        for r in node.results:
            depth[r] = below + (r in folded)
    level = {key: depth[site.node.results[0]] - 1 for key, site in sites.items()}
    count = max(level.values(), default=-1) + 1
    levels = tuple(tuple(sites[k] for k, v in level.items() if v == n) for n in range(count))
    return attrs.evolve(domain, levels=levels, pairs=pairs)


def check_site(program: Program, domain: Domain, space: Space, site: Site, row: SizeLike) -> None:
    """Raise Unsupported unless ``site`` folds the columns of row ``row``."""
    if product(site.ranges) != domain.columns:
        raise Unsupported("folds over different ranges")
    shape = site.node.types[0].shape
    kept = (
        shape
        if len(shape) == len(site.coordinates)
        else tuple(n for i, n in enumerate(shape) if i not in _axes(program, site))
    )
    if space.ravel(site.coordinates, kept) != row:
        raise Unsupported("a fold is wanted at other rows than its neighbours")
    if product(kept) != domain.rows:
        raise Unsupported("folds with different rows")


def _axes(program: Program, site: Site) -> tuple[int, ...]:
    body = program.ops[site.node.op].body
    assert isinstance(body, Reduce)
    return program.reduction(site.node, body)[1]


def output_coordinates(
    program: Program, domain: Domain, space: Space, name: str, kind: str, row: SizeLike, column: SizeLike
) -> Coordinates:
    """Return the coordinates of output ``name`` for an element of the domain."""
    shape = program.types[name].shape
    if kind == "row":
        return space.unravel(row, shape)
    at = domain.coordinates(space, row, column)
    if shape == domain.shape:
        return at
    return space.unravel(space.ravel(at, domain.shape), shape)


def held_dtype(dtype: str) -> str:
    """Return the type that values of ``dtype`` are computed in."""
    return "f32" if dtype in ("bf16", "f16") else dtype
