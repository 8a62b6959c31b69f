"""Nodes of ``torch.fx`` graphs: what they read, how their results are called, where they come from."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from ..ir.opdef import Location
from .normal import CHECKS

_LIBRARY = os.path.dirname(torch.__file__)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')

#: The numbers that schemas use for dtypes, of those that the IR has.
_NUMBERED = {
    0: torch.uint8, 1: torch.int8, 3: torch.int32, 4: torch.int64, 5: torch.float16, 6: torch.float32, 7: torch.float64,
    11: torch.bool, 15: torch.bfloat16,
}  # fmt: skip


def lookup(argument: Any, env: Mapping[torch.fx.Node, Any]) -> Any:
    """Return an argument with nodes replaced by what they stand for; lists become tuples."""
    if isinstance(argument, torch.fx.Node):
        return env[argument]
    if isinstance(argument, (list, tuple)):
        return tuple(lookup(a, env) for a in argument)
    if isinstance(argument, dict):
        return {k: lookup(v, env) for k, v in argument.items()}
    return argument


def only_checked(node: torch.fx.Node) -> bool:
    """Return whether a truth value goes nowhere but into assertions."""
    return all(
        str(user.target) in CHECKS or (isinstance(user.meta.get("val"), (torch.SymBool, bool)) and only_checked(user))
        for user in node.users
    )


def returned_nodes(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Return the node that a graph returns, if it returns one by itself."""
    output = next(n for n in reversed(graph.nodes) if n.op == "output")
    return {output.args[0]} if isinstance(output.args[0], torch.fx.Node) else set()


def used_results(node: torch.fx.Node) -> set[int]:
    """Return the positions of the results of a node that something reads."""
    if all(user.target is operator.getitem for user in node.users):
        return {int(user.args[1]) for user in node.users if user.users}
    return set(range(len(node.meta["val"])))


def result_names(node: torch.fx.Node, name: str, n: int) -> list[str]:
    """Return a name for each of ``n`` results of a node: that of the node which picks it, where that says something."""
    names = [f"{name}_{i}" for i in range(n)]
    for user in node.users:
        if user.target is operator.getitem and not user.name.startswith("getitem"):
            names[int(user.args[1])] = user.name
    return names


def location(node: torch.fx.Node) -> Location | None:
    """Return the user's line: the innermost frame outside PyTorch."""
    frames = _FRAME.findall(node.stack_trace or "")
    for file, line in reversed(frames):
        if not file.startswith((_LIBRARY, "torch/", "<")):
            return Location(file, int(line))
    return None


def default_of(argument: Any) -> Any:
    """Return the default value of an argument of a schema; dtypes stand there by number."""
    value = argument.default_value
    return _NUMBERED.get(value, value) if isinstance(value, int) and "ScalarType" in str(argument.real_type) else value
