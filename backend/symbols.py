"""Symbols of a program in generated Python: read off the shapes of its inputs, and checked."""

from __future__ import annotations

from collections.abc import Mapping

from ..ir import Graph, Size, SizeLike, UsageError
from ..ir.linear import solved_for
from ..ir.size import symbols_of
from .opaque import size_text

#: Ends of ranges that say nothing of a size.
_ENDLESS = (0, 2**31 - 1)


def symbol_sources(graph: Graph, names: Mapping[str, str]) -> dict[str, str]:
    """Return symbol -> Python text that reads it off an input's shape, in an order in which each needs earlier ones only.

    Args:
        graph: the program.
        names: Python text of each input.

    Raises:
        UsageError: the shapes of the inputs do not say what a symbol is.
    """
    found: dict[str, str] = {}
    sizes = [
        (size, f"{names[i.name]}.shape[{axis}]")
        for i in graph.inputs
        for axis, size in enumerate(i.type.shape)
        if isinstance(size, Size)
    ]
    wanted = dict.fromkeys(s.name for size, _ in sizes for s in sorted(symbols_of(size), key=str))
    progress = True
    while progress:
        progress = False
        for size, text in sorted(sizes, key=lambda item: len(str(item[0]))):
            unknown = {s.name for s in symbols_of(size)} - set(found)
            if len(unknown) == 1:
                (name,) = unknown
                value = text if str(size) == name else _solution(size, name, text)
                if value is not None:
                    found[name] = value
                    progress = True
                    break
    missing = [s for s in wanted if s not in found]
    if missing:
        raise UsageError(f"no input's size is the symbol {missing[0]}", subject=graph.name)
    return found


def _solution(size: Size, name: str, text: str) -> str | None:
    """Return Python text of the symbol ``name`` where ``size`` is what ``text`` says."""
    solved = solved_for(size, name)
    if solved is None:
        return None
    factor, rest = solved
    shifted = text if rest == 0 else f"({text} - ({rest}))"
    return shifted if factor == 1 else f"{shifted} // ({factor})"


def shape_text(shape: tuple[SizeLike, ...], symbols: Mapping[str, str]) -> str:
    """Return Python text of a shape as a tuple."""
    inside = ", ".join(size_text(s, symbols) for s in shape)
    return f"({inside}{',' if len(shape) == 1 else ''})"


def conditions(graph: Graph, names: Mapping[str, str], symbols: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what must hold of a call: pairs of a Python test and of the inside of an f-string that says what is wrong.

    Args:
        graph: the program.
        names: Python text of each input.
        symbols: Python text of each symbol.
    """
    found: list[tuple[str, str]] = []
    defining: set[str] = set()
    for i in graph.inputs:
        own = [str(n) for n in i.type.shape if isinstance(n, Size)]
        new = {s.name for n in i.type.shape for s in symbols_of(n)} - defining
        defining |= new
        # Axes that alone say what their symbol is need no check.
        if len(set(own)) == len(own) and set(own) <= new:
            continue
        x = names[i.name]
        message = f"input {i.name} has shape {{list({x}.shape)}}, expected {i.type}"
        found.append((f"{x}.shape == {shape_text(i.type.shape, symbols)}", message))
    for s in graph.symbols:
        text = symbols.get(s.name)
        if text is not None and (s.lo, s.hi) != _ENDLESS:
            found.append((f"{s.lo} <= {text} <= {s.hi}", f"size {s.name} is {{{text}}}, expected {s.lo}..{s.hi}"))
    for g in graph.guards:
        tests = [f"{size_text(r.a, symbols)} {r.op} {size_text(r.b, symbols)}" for r in g.alternatives]
        values = ", ".join(f"{n} = {{{symbols[n]}}}" for n in sorted(g.symbols()))
        found.append((" or ".join(tests), f"sizes {values} given, expected {g}"))
    return found


def _negation(test: str) -> str:
    if " or " in test:
        return f"not ({test})"
    return test.replace(" == ", " != ") if test.count(" == ") == 1 else f"not {test}"


def check_lines(graph: Graph, names: Mapping[str, str], symbols: Mapping[str, str]) -> list[str]:
    """Return lines that raise ValueError where a call has sizes that the program does not take."""
    lines: list[str] = []
    for test, message in conditions(graph, names, symbols):
        lines += [f"if {_negation(test)}:", f"    raise ValueError(f{f'{graph.name}: {message}'!r})"]
    return lines
