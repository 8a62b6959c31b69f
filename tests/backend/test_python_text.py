"""Parsing Python in many threads at a time, as a pool of judges does."""

from __future__ import annotations

import ast
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from drt.backend.python_text import parse_expression, parse_python
from drt.backend.verify.policy import check_source


@pytest.fixture
def garbage() -> Iterator[None]:
    """Collect garbage all the time, and let other threads run in the midst of it."""

    def pause(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(pause)
    yield
    gc.callbacks.remove(pause)
    gc.set_threshold(*threshold)


def test_threads_do_not_disturb_each_other(garbage: None) -> None:
    text = "\n".join(f"def f{i}(a, b=({i}, [1, 2])):\n    return [x + {i} * (a - b[0]) for x in a]" for i in range(40))

    def parse(k: int) -> int:
        values = ast.literal_eval(parse_expression(f"(1, {k}, (2, 3))"))
        return len(parse_python(text).body) + len(values)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(parse, range(40))) == {43}


@pytest.mark.parametrize("source", ["x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 100_000 + "1", "x = \0"])
def test_text_that_no_parser_takes_is_not_python(source: str) -> None:
    assert [v.label for v in check_source(source, "f")] == ["syntax"]
