"""Inference over symbolic sizes agrees with inference at numbers: for every operator, at sizes that its guards admit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from drt.ir import (
    DrtError,
    OpDef,
    Size,
    SizeLike,
    Symbol,
    TensorType,
    Unsatisfiable,
    VerifyError,
    builtin_ops,
    infer,
    symbol,
)
from drt.ir.guards import Facts, choices
from drt.ir.size import substitute
from ops.instances import Instance, draw

OPS = builtin_ops()

#: Sizes up to this may become symbols of 2..HIGHEST; larger and smaller ones stay numbers.
HIGHEST = 40


def symbolic(instance: Instance, rng: random.Random) -> tuple[tuple[Any, ...], list[Symbol], dict[str, int]]:
    """Return the operands' types with sizes as symbols (equal sizes mostly share one), the symbols, and their values."""
    names: dict[tuple[int, int], Symbol] = {}
    values: dict[str, int] = {}

    def size(n: int) -> SizeLike:
        if not 2 <= n <= HIGHEST or rng.random() < 0.2:
            return n
        key = (n, 0 if rng.random() < 0.8 else len(names))
        if key not in names:
            names[key] = Symbol(f"S{len(names)}", 2, HIGHEST)
            values[names[key].name] = n
        return symbol(names[key].name, 2, HIGHEST)

    def type_of(t: Any) -> Any:
        if isinstance(t, tuple):
            return tuple(map(type_of, t))
        return TensorType(t.dtype, tuple(map(size, t.shape))) if isinstance(t, TensorType) else t

    return tuple(map(type_of, instance.types)), list(names.values()), values


def at(value: Any, sizes: dict[str, int]) -> Any:
    if isinstance(value, tuple):
        return tuple(at(v, sizes) for v in value)
    if isinstance(value, TensorType):
        return value.substitute(sizes)  # type: ignore[arg-type]
    return substitute(value, sizes) if isinstance(value, Size) else value  # type: ignore[arg-type]


def differences(op: OpDef, rng: random.Random, n_calls: int, n_sizes: int = 3) -> Iterator[str]:
    agreed = 0
    for k in range(n_calls):
        try:
            instance = draw(op, rng, turn=k)
        except Unsatisfiable:
            continue
        types, symbols, values = symbolic(instance, rng)
        if not symbols:
            continue
        try:
            found = infer(op, types, instance.attributes)
            guards = found.conditions()
        except DrtError:
            continue  # a condition at compile time, or an attribute that demands one size
        facts = Facts(guards)
        if not all(g.holds(values) for g in guards):  # type: ignore[arg-type]
            yield f"{instance}: guards {', '.join(map(str, guards))} refuse its own sizes {values}"
            continue
        wished = [values, *({s.name: rng.randint(2, HIGHEST) for s in symbols} for _ in range(n_sizes - 1))]
        for wish in wished:
            sizes = next(choices(symbols, guards, wish, most=600), None)
            if sizes is None:
                continue
            try:
                wanted = infer(op, at(types, sizes), instance.attributes).types
            except VerifyError as error:
                yield f"{instance} at {sizes}: guards {', '.join(map(str, guards)) or 'none'} admit what is refused: {error.line()}"
                continue
            got = tuple(at(t, sizes) for t in found.types)
            simple = tuple(at(TensorType(t.dtype, tuple(map(facts.simplify, t.shape))), sizes) for t in found.types)
            if got != wanted or simple != wanted:
                yield f"{instance} at {sizes}: {found.types} gives {got}, simplified {simple}, expected {wanted}"
            agreed += 1
    if not agreed and n_calls >= 40 and any(p.shape for p in op.operands):
        yield f"{op.name}: no symbolic call in {n_calls} draws"


@pytest.mark.parametrize("family", sorted({op.family for op in OPS.values()}))
def test_symbolic_sizes_agree_with_numbers(family: str) -> None:
    rng = random.Random(f"symbolic {family}")
    members = [op for op in OPS.values() if op.family == family]
    found = [line for op in members for line in differences(op, rng, 3)]
    assert not found, "\n".join(found[:5])


@pytest.mark.full
@pytest.mark.parametrize("op", OPS)
def test_symbolic_sizes_agree_with_numbers_thoroughly(op: str) -> None:
    found = list(differences(OPS[op], random.Random(op), 40))
    assert not found, "\n".join(found[:5])
