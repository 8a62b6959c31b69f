"""Templates as flat data with compiled formulas, as they are kept on disk.

A *code* says what a dimension is: an int >= 0 is a local variable, an int < 0 is the constant ``-1 - code``, and a pair is a
formula with the locals that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .calls import Template
from .symbolic import Formula

_TEXT = re.compile(r"(?:a\d+|b\d+|\d+|min|max|not|//|[-+*%()<>=!, ])*")


class Function:
    """A formula over cells: ``run(values, cells)`` reads argument k at ``values[cells[k]]``.

    Attributes:
        text: over ``a0, a1, ...``.
        arity: number of arguments.
        run: the compiled text.
    """

    __slots__ = ("_formula", "_inverses", "arity", "run", "text")

    def __init__(self, text: str, arity: int, formula: Formula | None, inverses: Sequence[str | None] | None) -> None:
        self.text, self.arity = text, arity
        self._formula = formula
        self._inverses: list[Function | str | None] | None = None if inverses is None else list(inverses)
        body = re.sub(r"\ba(\d+)\b", r"v[i[\1]]", text)
        if not _TEXT.fullmatch(text):
            raise ValueError(f"no formula: {text}")
        self.run: Callable[[Sequence[int], Sequence[int]], int] = eval(
            f"lambda v, i: {body}", {"min": min, "max": max, "__builtins__": {}}
        )

    def inverse_texts(self) -> list[str | None]:
        """Return, for each argument, the text of its value from the result (``a0``) and the other arguments, or None."""
        if self._inverses is None:
            found = [self._formula.inverse(k) if self._formula is not None else None for k in range(self.arity)]
            self._inverses = [None if f is None else re.sub(r"\bb(\d+)\b", r"a\1", f.text) for f in found]
        return [f.text if isinstance(f, Function) else f for f in self._inverses]

    def inverse(self, k: int) -> Function | None:
        """Return argument ``k`` as a function of the result and the other arguments in order, where that can be had."""
        if self._inverses is None:
            self.inverse_texts()
        assert self._inverses is not None
        found = self._inverses[k]
        if isinstance(found, str):
            found = self._inverses[k] = function(found, self.arity)
        return found


_FUNCTIONS: dict[tuple[str, int, bool], Function] = {}


def function(
    text: str, arity: int, formula: Formula | None = None, inverses: Sequence[str | None] | None = None
) -> Function:
    """Return the one function of a text; raises ValueError for a text that is no arithmetic.

    With neither a formula nor inverses it has none; such functions are others, so that what a function can do does not depend
    on which of the two was asked for first.
    """
    key = (text, arity, formula is None and inverses is None)
    found = _FUNCTIONS.get(key)
    if found is None:
        found = _FUNCTIONS[key] = Function(text, arity, formula, inverses)
    return found


def flatten(t: Template) -> dict[str, Any]:
    """Return a template as the data of a :class:`drt.synth.sites.Flat`."""

    def code(d: Any) -> Any:
        if type(d) is int:
            return d
        return -1 - d[1] if d[0] is None else call(d)

    def call(d: Any) -> Any:
        return function(d[0].text, d[0].arity, d[0]), d[1]

    def attribute(v: Any) -> Any:
        if type(v) is int:
            return v
        if v and v[0] == "value":
            return ("value", v[1])
        if v and (v[0] is None or not isinstance(v[0], (int, tuple))):
            return ("value", v[1]) if v[0] is None else call(v)
        return [code(d) for d in v]

    return {
        "locals": t.locals,
        "slots": tuple(map(code, t.slots)),
        "results": tuple(tuple(map(code, shape)) for shape in t.results),
        "attributes": tuple((k, attribute(v)) for k, v in t.attributes),
        "numbers": tuple((n.local, tuple(map(call, n.lows)), tuple(map(call, n.highs))) for n in t.numbers),
        "factors": tuple((group, code(size)) for group, size in t.factors),
        "checks": tuple(map(call, t.checks)),
        "two": tuple(map(code, t.at_least_two)),
    }


def read(code: Any, value: Sequence[int], cells: Sequence[int]) -> int:
    """Return the value of a code."""
    if type(code) is int:
        return value[cells[code]] if code >= 0 else -1 - code
    found: int = code[0].run(value, [cells[k] for k in code[1]])
    return found
