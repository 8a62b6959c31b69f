"""Programs beside what a pass makes of them, as text.

A file holds cases.  Each begins with ``# case NAME: PASS``; its program follows, then ``# becomes`` and the program that comes
out, or ``# fails`` and the message as comments.  ``pytest tests/golden --accept`` rewrites what comes out; read the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from drt.ir import (
    DrtError,
    Graph,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    expand_graph,
    fold_constants,
    parse_graph,
    print_graph,
    simplify,
)

HERE = Path(__file__).parent


def _simplify(graph: Graph, exact_only: bool) -> str:
    after, applied = simplify(graph, exact_only=exact_only)
    return print_graph(after) + "".join(f"# {a.rule}: %{a.value}\n" for a in applied)


PASSES: dict[str, Callable[[Graph], str]] = {
    "parse": print_graph,
    "expand": lambda g: print_graph(expand_graph(g)),
    "dead": lambda g: print_graph(eliminate_dead_code(g)),
    "common": lambda g: print_graph(eliminate_common_subexpressions(g)),
    "fold": lambda g: print_graph(fold_constants(g)),
    "simplify": lambda g: _simplify(g, True),
    "simplify approximately": lambda g: _simplify(g, False),
}


@attrs.frozen
class Case:
    """One program, the pass that it goes through and what is expected."""

    file: str
    name: str
    run: str
    program: str
    expected: str

    def result(self) -> str:
        """Return what the pass makes of the program, under its heading."""
        try:
            return "# becomes\n" + PASSES[self.run](parse_graph(self.program, self.file))
        except DrtError as error:
            return "# fails\n" + "".join(f"# {line}\n" for line in str(error).splitlines())

    def text(self, expected: str) -> str:
        return f"# case {self.name}: {self.run}\n{self.program.strip()}\n{expected.strip()}\n"


def cases(path: Path) -> Iterator[Case]:
    """Yield the cases of a file."""
    head, *parts = path.read_text().split("# case ")
    assert not head.strip(), f"{path.name} begins with something else than a case"
    for part in parts:
        title, _, rest = part.partition("\n")
        name, _, run = title.partition(": ")
        cut = min((i for i in (rest.find("# becomes\n"), rest.find("# fails\n")) if i >= 0), default=len(rest))
        yield Case(path.name, name, run, rest[:cut], rest[cut:])


FILES = sorted(HERE.glob("*.drt"))


@pytest.mark.parametrize("case", [c for f in FILES for c in cases(f)], ids=lambda c: f"{c.file}-{c.name}")
def test_golden(case: Case, request: pytest.FixtureRequest) -> None:
    result = case.result()
    if request.config.getoption("--accept"):
        path = HERE / case.file
        new = [c.text(result if c.name == case.name else c.expected) for c in cases(path)]
        path.write_text("\n".join(new))
        return
    assert result.strip() == case.expected.strip()


def test_every_pass_and_failure_has_a_case() -> None:
    all_cases = [c for f in FILES for c in cases(f)]
    assert {c.run for c in all_cases} == set(PASSES)
    assert len({(c.file, c.name) for c in all_cases}) == len(all_cases)
    assert sum("# fails" in c.expected for c in all_cases) >= 8
