"""What a matrix product is: sums of products whose two factors share some axes and own others.

From the body of an index operator (``sum{c in CG, u in KH, v in KW} pad(x[...], 0.0) * w[f, c, u, v]``) and the axes on which
each factor depends follow the roles of every axis: *batch* (both factors and the result), *m* (left factor and result), *n*
(right factor and result) and *k* (summed).  So ``matmul``, ``linear``, ``bmm`` and convolutions are one thing: each role is
one flat index, and coordinates are taken apart from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ...ir import SizeLike, Unsupported
from ...ir import expr as ex
from ...ir.opdef import Index
from ...ir.products import factors
from ...ir.size import Quotient
from .coords import Space, atom, terms
from .kernel import new_names, product
from .pull import Coordinates, Program, Pull, Site
from .writer import Val, Writer


@attrs.frozen
class Axis:
    """An axis of the product's result, or a part of one."""

    name: str
    extent: SizeLike


@attrs.frozen
class Contraction:
    """One sum of products with the roles of its axes.

    Attributes:
        value: name of the graph value whose body has the sum.
        batch, m, n: axes of the result by role.
        k: extents of the summed indices.
        coordinates: the result's coordinates over the axes.
        left, right: the factors.
        swapped: whether the factors changed places.
    """

    value: str
    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: tuple[Axis, ...]
    k: tuple[SizeLike, ...]
    coordinates: Coordinates
    left: ex.Expr
    right: ex.Expr
    variables: tuple[str, ...]

    @property
    def extents(self) -> tuple[SizeLike, SizeLike, SizeLike, SizeLike]:
        """Sizes of batch, m, n and k."""
        return (
            product(a.extent for a in self.batch),
            product(a.extent for a in self.m),
            product(a.extent for a in self.n),
            product(self.k),
        )

    def flat(self, space: Space, batch: SizeLike, m: SizeLike, n: SizeLike) -> Coordinates:
        """Return the result's coordinates at flat indices."""
        env: dict[str, SizeLike] = {}
        for axes, index in ((self.batch, batch), (self.m, m), (self.n, n)):
            for a, c in zip(axes, space.unravel(index, [a.extent for a in axes]), strict=True):
                env[a.name] = c
        return tuple(space.substitute(c, env) for c in self.coordinates)

    def factor(self, pull: Pull, right: bool, batch: SizeLike, index: SizeLike, k: SizeLike) -> Val:
        """Return one factor at flat indices: ``index`` is m for the left one, n for the right one."""
        node = pull.program.producers[self.value]
        body = pull.program.ops[node.op].body
        assert isinstance(body, Index)
        at = self.flat(pull.space, batch, 0 if right else index, index if right else 0)
        env = pull.index_env(node, body, at)
        env.update(zip(self.variables, pull.space.unravel(k, self.k), strict=True))
        return pull._as_val(pull.indexed(self.right if right else self.left, env, (), node))


@attrs.frozen
class Product:
    """The matrix products of a fragment, all over the same axes, and where each output stands on them.

    Attributes:
        parts: the products, at most two.
        outputs: names.
    """

    parts: tuple[Contraction, ...]
    outputs: tuple[str, ...]

    @property
    def main(self) -> Contraction:
        """The first product, whose axes all others share."""
        return self.parts[0]


def find_sum(e: ex.Expr) -> ex.Fold | None:
    """Return the sum of products inside an index body."""
    if isinstance(e, ex.Fold):
        return e if factors(e) else None
    found = [f for c in ex.children(e) if (f := find_sum(c)) is not None]
    return found[0] if found else None


def contraction_of(program: Program, value: str) -> Contraction | None:
    """Return the roles of the axes of ``value``, or None where it is no matrix product.

    A product of which one factor owns no axis of the result (a matrix times a vector, a depthwise convolution) moves as many
    bytes as it does arithmetic and is none.
    """
    node = program.producers.get(value)
    if node is None or node.op not in program.ops:
        return None
    body = program.ops[node.op].body
    if not isinstance(body, Index):
        return None
    fold = find_sum(body.expr)
    if fold is None:
        return None
    found = factors(fold)
    assert found is not None
    space = Space()
    pull = Pull(program, Writer(space, new_names(program.graph)), _refuse)
    shape = node.types[0].shape
    axes: list[Axis] = []
    coordinates: list[SizeLike] = []
    split = _group_size(program, node.attributes, program.env(node))
    for i, size in enumerate(shape):
        if size == 1:
            coordinates.append(0)
        elif i == 1 and split is not None:
            groups, each = split
            parts = [Axis("g", groups), Axis(f"i{i}", each)] if each != 1 else [Axis("g", groups)]
            axes += parts
            g = space.axis("g", groups)
            coordinates.append(g * each + (space.axis(f"i{i}", each) if each != 1 else 0))
        else:
            axes.append(Axis(f"i{i}", size))
            coordinates.append(space.axis(f"i{i}", size))
    env = pull.index_env(node, body, tuple(coordinates))
    ranges = [pull.as_coordinate(pull.indexed(r, env, (), node)) for _, r in fold.ranges]
    if any(space.depends(r) for r in ranges):
        return None
    variables = tuple(n for n, _ in fold.ranges)
    for v, r in zip(variables, ranges, strict=True):
        env[v] = 0 if r == 1 else space.axis(f"k_{v}", r)
    try:
        left = pull._as_val(pull.indexed(found[0], env, (), node)).axes
        right = pull._as_val(pull.indexed(found[1], env, (), node)).axes
    except _Refused:
        return None
    batch = tuple(a for a in axes if a.name in left and a.name in right)
    m = tuple(a for a in axes if a.name in left and a.name not in right)
    n = tuple(a for a in axes if a.name in right and a.name not in left)
    if len(batch) + len(m) + len(n) != len(axes) or not m or not n:
        return None
    return Contraction(value, batch, m, n, tuple(ranges), tuple(coordinates), *found, variables)


class _Refused(Unsupported):
    pass


def _refuse(site: Site) -> Val:
    raise _Refused("a fold inside a factor of a product")


def _group_size(
    program: Program, attributes: Mapping[str, object], env: Mapping[str, object]
) -> tuple[SizeLike, SizeLike] | None:
    """Return (groups, channels of one group) of a grouped convolution."""
    groups, each = attributes.get("groups"), env.get("FG")
    if not isinstance(groups, int) or groups == 1 or each is None:
        return None
    return groups, each  # type: ignore[return-value]


def invert(
    space: Space, wanted: Sequence[SizeLike], axes: Mapping[str, SizeLike], given: Sequence[SizeLike]
) -> dict[str, SizeLike] | None:
    """Solve ``wanted == given`` for ``axes``.

    Args:
        space: where both kinds of axes are declared.
        wanted: coordinates over ``axes``: sums of distinct axes with the strides of a mixed radix, after the axes have been
            split where a coordinate takes a quotient or a remainder of one.
        axes: name -> extent.
        given: what each wanted coordinate is.

    Returns:
        Each axis over the given coordinates, or None where there is no such form.
    """
    extents = dict(axes)
    parts: dict[str, SizeLike] = {name: atom_of(name) for name in axes}
    wanted = list(wanted)
    for _ in range(8):
        cut = _first_cut(wanted, extents)
        if cut is None:
            break
        name, d = cut
        high, rest = space.floordiv(extents[name], d), space.modulo(extents[name], d)
        if rest != 0:
            return None
        hi, lo = f"{name}h", f"{name}l"
        value = space.axis(hi, high) * d + space.axis(lo, d)
        extents.pop(name)
        extents[hi], extents[lo] = high, d
        wanted = [space.substitute(w, {name: value}) for w in wanted]
        parts = {k: space.substitute(v, {name: value}) for k, v in parts.items()}
    solved: dict[str, SizeLike] = {}
    for w, c in zip(wanted, given, strict=True):
        digits: list[tuple[SizeLike, str]] = []
        for atoms, coefficient in terms(w):
            moving = [a for a in atoms if getattr(a, "name", None) in extents]
            if len(moving) != 1 or isinstance(moving[0], Quotient):
                return None
            rest_atoms = list(atoms)
            rest_atoms.remove(moving[0])
            stride: SizeLike = coefficient
            for a in rest_atoms:
                stride = stride * atom(a)
            digits.append((stride, moving[0].name))  # type: ignore[union-attr]
        # Order by stride: each must be the product of the extents below it.
        expected: SizeLike = 1
        remaining = list(digits)
        while remaining:
            found = next(((s, d) for s, d in remaining if s == expected), None)
            if found is None or found[1] in solved:
                return None
            remaining.remove(found)
            name = found[1]
            top = not remaining
            q = space.floordiv(c, expected)
            solved[name] = q if top else space.modulo(q, extents[name])
            expected = expected * extents[name]
    if set(solved) != {n for n, e in extents.items() if e != 1}:
        return None
    return {name: space.substitute(value, solved) for name, value in parts.items()}


def atom_of(name: str) -> SizeLike:
    """Return the coordinate that is the axis ``name``."""
    from ...ir.size import Symbol

    return atom(Symbol(name))


def _first_cut(wanted: Sequence[SizeLike], extents: Mapping[str, SizeLike]) -> tuple[str, SizeLike] | None:
    for w in wanted:
        for atoms, _ in terms(w):
            for item in atoms:
                found = _cut_in(item, extents)
                if found is not None:
                    return found
    return None


def _cut_in(item: object, extents: Mapping[str, SizeLike]) -> tuple[str, SizeLike] | None:
    if not isinstance(item, Quotient):
        return None
    inner = terms(item.a)
    if len(inner) == 1 and inner[0][1] == 1 and len(inner[0][0]) == 1:
        name = getattr(inner[0][0][0], "name", None)
        if name in extents:
            return str(name), item.b
        return _cut_in(inner[0][0][0], extents)
    for atoms, _ in inner:
        for sub in atoms:
            found = _cut_in(sub, extents)
            if found is not None:
                return found
    return None
