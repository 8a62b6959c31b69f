"""Symbolic sizes: every simplification is proved by trying all values of the symbols."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from drt.ir import Size, symbol
from drt.ir.size import SizeLike, bounds, compare, floordiv, maximum, minimum, modulo, substitute, symbols_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import SYMBOLS, SizeTree, as_size, size_trees

B, T, L = (symbol(s.name, s.lo, s.hi) for s in SYMBOLS)
ENVIRONMENTS = [
    dict(zip([s.name for s in SYMBOLS], values))
    for values in itertools.product(*(range(s.lo, s.hi + 1) for s in SYMBOLS))
]


def values(tree: SizeTree) -> Iterator[tuple[dict[str, int], SizeLike]]:
    """Yield every value of a tree; a division by zero, which the arithmetic need not notice, rejects the tree."""
    for env in ENVIRONMENTS:
        try:
            yield env, tree.value(env)
        except ZeroDivisionError:
            assume(False)


def sized(tree: SizeTree) -> SizeLike:
    try:
        return as_size(tree)
    except ZeroDivisionError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(size_trees())
def test_arithmetic_keeps_every_value(tree: SizeTree) -> None:
    expected = list(values(tree))
    size = sized(tree)
    for env, value in expected:
        assert substitute(size, env) == value, f"{size} at {env}"


@settings(max_examples=150, deadline=None)
@given(size_trees())
def test_bounds_contain_every_value(tree: SizeTree) -> None:
    found = [v for _, v in values(tree)]
    lo, hi = bounds(sized(tree))
    assert lo <= min(found) and max(found) <= hi


@settings(max_examples=150, deadline=None)
@given(size_trees(), size_trees(), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
def test_a_decided_comparison_holds_everywhere(a: SizeTree, b: SizeTree, op: str) -> None:
    pairs = [(x, y) for (_, x), (_, y) in zip(values(a), values(b))]
    decided = compare(op, sized(a), sized(b))
    truth = {eval(f"{x} {op} {y}") for x, y in pairs}
    assert decided is None or truth == {decided}


@settings(max_examples=150, deadline=None)
@given(size_trees(("+", "-", "*"), (-3, 3)), size_trees(("+", "-", "*"), (-3, 3)))
def test_equal_polynomials_are_equal_values(a: SizeTree, b: SizeTree) -> None:
    # Polynomials that agree on a grid larger than their degree are one polynomial.
    grid = [dict(zip("BTL", p)) for p in itertools.product(range(9), repeat=3)]
    same = all(a.value(env) == b.value(env) for env in grid)
    assert (sized(a) == sized(b)) is same


@settings(max_examples=100, deadline=None)
@given(size_trees())
def test_a_size_is_its_own_normal_form(tree: SizeTree) -> None:
    size = sized(tree)
    assert substitute(size, {}) == size
    assert substitute(size, {s.name: symbol(s.name, s.lo, s.hi) for s in SYMBOLS}) == size


@pytest.mark.parametrize(
    "size, text",
    [
        (B * T + 2 * B - 1, "B*T + 2*B - 1"),
        (-B, "-B"),
        ((B + 1) * (B + 1), "B*B + 2*B + 1"),
        (floordiv(B, 4), "B // 4"),
        (floordiv(7 * B + 9, 4), "(3*B + 1) // 4 + B + 2"),
        (T - floordiv(B, 2), "-(B // 2) + T"),
        (floordiv(4 * B * T, 2 * T), "2*B"),
        (floordiv(2 * B + 2, 4), "(B + 1) // 2"),
        (modulo(5 * B + 7, 4), "(B + 3) % 4"),
        (modulo(2 * B, 4), "2*(B % 2)"),
        (T * floordiv(B, 2), "(B // 2)*T"),
        (floordiv(T, L), "T // L"),
        (floordiv(B + T, L), "(B + T) // L"),
        (floordiv(6, B + 1), "6 // (B + 1)"),
    ],
)
def test_text(size: Size, text: str) -> None:
    assert str(size) == text


@pytest.mark.parametrize(
    "value, expected",
    [
        (floordiv(B, 6), 0),
        (modulo(B, 6), B),
        (modulo(T + 4 * B, 4) == modulo(T, 4), True),
        (floordiv(B, 1), B),
        (maximum(B, 5), 5),
        (minimum(5, B), B),
        (minimum(B, T) == minimum(T, B), True),
        (B - B, 0),
        (floordiv(0, B), 0),
        (B * 0, 0),
    ],
)
def test_ranges_and_zeros_decide(value: SizeLike, expected: SizeLike) -> None:
    assert value == expected


def test_parity_decides_inequality() -> None:
    assert compare("==", 2 * B, 2 * T + 1) is False
    assert compare("!=", 4 * B + 2, 8) is True
    assert compare("==", 2 * B, 2 * T) is None


def test_bounds_of_large_sizes_are_exact() -> None:
    n = symbol("N", 2**40, 2**60 + 1)
    assert bounds(n * n + 1) == (2**80 + 1, (2**60 + 1) ** 2 + 1)
    assert compare("==", n * 0 + 2**60, 2**60 + 1) is False


def test_a_size_adds_to_integers_alone() -> None:
    for bad in (0.5, "x", None):
        with pytest.raises(TypeError):
            B + bad  # type: ignore[operator]
        with pytest.raises(TypeError):
            bad * B  # type: ignore[operator]
        with pytest.raises(TypeError):
            B - bad  # type: ignore[operator]


def test_symbols_of_quotients() -> None:
    assert {s.name for s in symbols_of(floordiv(B + 1, T) * 2 + modulo(L, B + 1))} == {"B", "T", "L"}


def test_numbers_keep_the_normal_form():
    n, m = symbol("n"), symbol("m")
    p = n * m + 2 * n + 3
    assert p + -3 == n * m + 2 * n and p - p == 0 and p * 0 == 0
    assert (p + 4).terms[-1] == ((), 7) and (p * -1 + p) == 0
    assert (m * n) * 3 + 5 == 5 + 3 * (n * m)
