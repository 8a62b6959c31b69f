"""Graphs as files of PyTorch that a person would write: a module in KernelBench's form, or one function."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from ..ir import (
    Graph,
    Input,
    Node,
    OpSet,
    Range,
    Size,
    TensorType,
    input_ranges,
    order_of,
)
from ..ir.build import clean_name
from ..ir.size import minimum, symbols_of
from .opaque import TORCH_DTYPES, number_text, operand_text, size_text
from .symbols import check_lines, symbol_sources
from .tensors import UNPACK, tensor_text
from .torch_calls import render_call, render_node
from .torch_layers import Layers, Path, call_layer, find_layers
from .torch_memory import Layouts
from .torch_phrases import Phrase
from .torch_style import Pen, wrapped

_RESERVED = frozenset({"torch", "nn", "F", "self", "Model", "get_inputs", "get_init_inputs", "float"})


class Scope:
    """Distinct Python names for values."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.names: dict[str, str] = {}

    def add(self, value: str) -> str:
        """Return a new name for a value."""
        name = clean_name(value)
        while name in self.taken or keyword.iskeyword(name):
            name += "_"
        self.taken.add(name)
        self.names[value] = name
        return name


def _body(graph: Graph, ops: OpSet, scope: Scope, device: str) -> list[str]:
    """Return the lines of the function: symbols, nodes, updates, result."""
    symbols: dict[str, str] = {}
    lines = []
    for s, text in symbol_sources(graph, scope.names).items():
        symbols[s] = scope.add(s)
        lines.append(f"{symbols[s]} = {size_text(text, symbols)}")
    lines += check_lines(graph, scope.names, symbols)
    layouts = Layouts(graph, ops)
    for node in graph.nodes:
        for r in node.results:
            scope.add(r)
        lines += render_node(
            node, graph.types, ops, scope.names, device=device, symbols=symbols, functional="F.", layouts=layouts
        )  # fmt: skip
    lines += _update_lines(graph, scope.names)
    texts = [operand_text(o, scope.names, symbols) for o in graph.outputs]
    lines.append(f"return {texts[0] if len(texts) == 1 else '(' + ', '.join(texts) + ')'}")
    return lines


def _update_lines(graph: Graph, names: Mapping[str, str]) -> list[str]:
    """Return the lines that write updates; a parameter, which may want a gradient, is written to past its history."""
    params = {i.name for i in graph.inputs if i.kind == "param"}
    return [
        f"{names[u.target]}{'.detach()' if u.target in params else ''}.copy_({names[u.value]})" for u in graph.updates
    ]


def _styled(
    graph: Graph, ops: OpSet, scope: Scope, device: str, paths: Mapping[str, Path] | None = None
) -> tuple[list[str], Layers]:
    """Return the lines of the function as a person would write them, and the layers that they call.

    Args:
        graph: the program.
        ops: the operators.
        scope: names of the inputs.
        device: Python text of the device of new tensors.
        paths: attributes of params, buffers and constants, of which layers are made; None for a function.
    """
    symbols: dict[str, str] = {}
    lines = []
    for s, text in symbol_sources(graph, scope.names).items():
        symbols[s] = scope.add(s)
        lines.append(f"{symbols[s]} = {size_text(text, symbols)}")
    lines += check_lines(graph, scope.names, symbols)

    layouts = Layouts(graph, ops)

    def call(node: Node, names: Mapping[str, str]) -> Phrase:
        return render_call(
            node, graph.types, ops, names, device=device, symbols=symbols, functional="F.", is_spoken=True, layouts=layouts
        )  # fmt: skip

    paths = paths or {}
    layers = find_layers(graph, paths, {v: scope.names[v] for v in paths}, call)
    tree = _tree(paths.values())

    def express(node: Node, names: Mapping[str, str]) -> Phrase:
        text, level = call(node, names)
        path = layers.calls.get(node.results[0])
        return (text, level) if path is None else (call_layer(text, _access(path, tree)), level)

    def result(names: Mapping[str, str]) -> str:
        texts = [operand_text(o, names, symbols) for o in graph.outputs]
        return texts[0] if len(texts) == 1 else ", ".join(texts) or "()"

    updated = {u.target for u in graph.updates}
    own = [i.name for i in graph.inputs if scope.names[i.name].isidentifier() and i.name not in updated]
    inputs = {i.name: scope.names[i.name] for i in graph.inputs}
    pen = Pen(graph, ops, inputs, scope.taken, own, express)
    for node in graph.nodes:
        pen.write(node)
    return [*lines, *pen.finish(result, partial(_update_lines, graph))], layers


def _device_text(graph: Graph, names: Mapping[str, str]) -> str:
    return f"{names[graph.inputs[0].name]}.device" if graph.inputs else ""


def function_source(graph: Graph, ops: OpSet, name: str, is_plain: bool = False) -> str:
    """Return a file with one function of all inputs in order.

    Args:
        graph: the program.
        ops: the operators.
        name: of the function.
        is_plain: one line for each node, under the node's own names.
    """
    scope = Scope(_RESERVED | {name})
    parameters = [scope.add(i.name) for i in graph.inputs]
    device = _device_text(graph, scope.names)
    lines = _body(graph, ops, scope, device) if is_plain else _styled(graph, ops, scope, device)[0]
    text = _indented(lines, 4)
    head = "\n".join(wrapped(f"def {name}({', '.join(parameters)})", 1))
    return f"{_imports(text)}\n\n{head}:\n{text}\n"


def _indented(lines: Iterable[str], indent: int) -> str:
    return "\n".join(" " * indent + row for line in lines for row in wrapped(line, indent))


def _imports(text: str) -> str:
    lines = ["import torch"]
    if "F." in text and re.search(r"(?<![\w.])F\.", text):
        lines.append("import torch.nn.functional as F")
    if re.search(r"(?<![\w.])nn\.", text):
        lines.append("from torch import nn")
    return "\n".join(lines) + "\n"


def module_source(
    graph: Graph, ops: OpSet, name: str, constants: Mapping[str, torch.Tensor] | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> str:  # fmt: skip
    """Return a file in KernelBench's form: a module, ``get_inputs`` and ``get_init_inputs``.

    Args:
        graph: the program.
        ops: the operators.
        name: of the class.
        constants: the tensors of the program's code by their targets, which the file then holds; others are random.
        ranges: in which to draw example inputs, where the operators themselves do not bound them.
    """
    scope = Scope(_RESERVED | {name})
    given = [i for i in graph.inputs if i.kind == "input"]
    state = [i for i in graph.inputs if i.kind != "input"]
    parameters = [scope.add(i.name) for i in given]
    targets = _targets(state)
    tree = _tree(targets.values())
    for i in state:
        scope.names[i.name] = _access(targets[i.name], tree)
    lines, layers = _styled(graph, ops, scope, _device_text(graph, scope.names), targets)
    body = [f"class {name}(nn.Module):"]
    if state:
        body += ["    def __init__(self):", "        super().__init__()"]
        body.append(_indented(_registrations(state, targets, tree, layers, constants or {}), 8))
        body.append("")
    head = wrapped(f"def forward({', '.join(['self', *parameters])})", 5)
    body.append("\n".join(f"    {row}" for row in head) + ":")
    body.append(_indented(lines, 8))
    body += ["", "", "def get_inputs():"]
    sizes = {s.name: str(min(max(s.lo, 2), s.hi)) for i in graph.inputs for d in i.type.shape for s in symbols_of(d)}
    body += [f"    {s} = {n}" for s, n in sizes.items()]
    ranges = {**(ranges or {}), **input_ranges(graph, ops)}
    body.append(_indented([f"return [{', '.join(_example(i.type, ranges.get(i.name)) for i in given)}]"], 4))
    body += ["", "", "def get_init_inputs():", "    return []"]
    text = "\n".join(body)
    unpack = f"\n{UNPACK}" if "_unpack(" in text else ""
    return f"{_imports(text)}{unpack}\n\n{text}\n"


def state_paths(graph: Graph) -> dict[str, Path]:
    """Return value name -> path of attributes of the written module, for every param, buffer and constant."""
    return _targets([i for i in graph.inputs if i.kind != "input"])


def _targets(state: Sequence[Input]) -> dict[str, Path]:
    """Return value name -> path of attributes; names that Python cannot say are cleaned, and no two agree."""
    found: dict[str, Path] = {}
    taken: set[Path] = set()
    for i in state:
        path = tuple(p if p.isdigit() else clean_name(p) for p in (i.target or i.name).split("."))
        if path[-1].isdigit():
            path = tuple(clean_name(p) for p in path)
        while path in taken or any(path[:k] in taken for k in range(1, len(path))):
            path = (*path[:-1], f"{path[-1]}_")
        taken.add(path)
        found[i.name] = path
    return found


def _tree(paths: Iterable[Path]) -> dict[Path, set[str]]:
    """Return inner module -> names of its children."""
    children: dict[Path, set[str]] = {}
    for path in paths:
        for k in range(1, len(path) + 1):
            children.setdefault(path[: k - 1], set()).add(path[k - 1])
    return children


def _is_list(children: set[str]) -> bool:
    return all(c.isdigit() for c in children)


def _access(path: Path, tree: Mapping[Path, set[str]]) -> str:
    text = "self"
    for k, part in enumerate(path):
        if not part.isdigit():
            text += f".{part}"
        elif k and _is_list(tree[path[:k]]):
            text += f"[{part}]"
        else:
            text = f'getattr({text}, "{part}")'
    return text


def _registrations(
    state: Sequence[Input], targets: Mapping[str, Path], tree: Mapping[Path, set[str]], layers: Layers,
    constants: Mapping[str, torch.Tensor],
) -> list[str]:  # fmt: skip
    lines: list[str] = []
    made: set[Path] = {()}
    # What belongs together stands together: parameters, then buffers, of one module after the other.
    first: dict[Path, int] = {}
    for i in state:
        first.setdefault(targets[i.name][:-1], len(first))
    for i in sorted(state, key=lambda i: first[targets[i.name][:-1]]):
        path = targets[i.name]
        for k in range(1, len(path)):
            scope = path[:k]
            if scope in made:
                continue
            made.add(scope)
            kids = tree[scope]
            owner, here = _access(scope[:-1], tree), scope[-1]
            new = layers.constructors.get(scope, "nn.Module()")
            if scope not in layers.constructors and _is_list(kids):
                new = _module_list(scope, tree, layers, made)
            lines.append(f'{owner}.add_module("{here}", {new})' if here.isdigit() else f"{owner}.{here} = {new}")
        if path[:-1] in layers.constructors:
            continue
        owner, leaf = _access(path[:-1], tree), path[-1]
        value = _initial(i, constants)
        if i.kind == "param":
            flag = "" if i.type.dtype in ("f64", "f32", "f16", "bf16") else ", requires_grad=False"
            lines.append(f"{owner}.{leaf} = nn.Parameter({value}{flag})")
        else:
            keep = ", persistent=False" if i.kind == "constant" else ""
            lines.append(f'{owner}.register_buffer("{leaf}", {value}{keep})')
    return lines


def _module_list(scope: Path, tree: Mapping[Path, set[str]], layers: Layers, made: set[Path]) -> str:
    """Return Python text of a list of modules; what has no state in between is what a person had there."""
    kids = tree[scope]
    texts = []
    for number in range(max(map(int, kids)) + 1):
        path = (*scope, str(number))
        made.add(path)
        if path in layers.constructors or str(number) not in kids:
            texts.append(layers.constructors.get(path, "nn.Identity()"))
        elif _is_list(tree[path]):
            texts.append(_module_list(path, tree, layers, made))
        else:
            texts.append("nn.Module()")
    n = len(texts)
    items = f"[{texts[0]} for _ in range({n})]" if n > 1 and len(set(texts)) == 1 else f"[{', '.join(texts)}]"
    return f"nn.ModuleList({items})"


def _shape_text(t: TensorType) -> str:
    return ", ".join(map(str, t.shape)) if t.shape else "()"


def _dtype_argument(dtype: str, default: str) -> str:
    return "" if dtype == default else f", dtype={TORCH_DTYPES[dtype]}"


def _initial(i: Input, constants: Mapping[str, torch.Tensor]) -> str:
    """Return Python text of a first value: scaled normal weights, buffers in 0.5..1.5 (a variance must be positive)."""
    t = i.type
    if i.kind == "constant" and i.target in constants:
        return tensor_text(constants[i.target])
    if t.dtype not in ("f64", "f32", "f16", "bf16"):
        return f"torch.zeros({_shape_text(t)}, dtype={TORCH_DTYPES[t.dtype]})"
    dtype = _dtype_argument(t.dtype, "f32")
    if i.kind != "param":
        return f"torch.rand({_shape_text(t)}{dtype}) + 0.5"
    fan_in = math.prod(s for s in t.shape[1:] if isinstance(s, int))
    scale = f" / {math.sqrt(fan_in):.4g}" if t.rank >= 2 and fan_in > 1 else ""
    return f"torch.randn({_shape_text(t)}{dtype}){scale}"


def _example(t: TensorType, range_: Range | None = None) -> str:
    """Return Python text of an example input; integers without a range are 0 and 1."""
    order = order_of(range_) if t.shape and all(s != 0 for s in t.shape) else ""
    text = _example_elements(t, range_)
    if order == "anchored":
        assert range_ is not None
        text = f"{text}.index_fill(-1, torch.tensor([0]), {_end(range_[0])})"
    return f"{text}.sort().values" if order else text


def _example_elements(t: TensorType, range_: Range | None) -> str:
    lo, hi = (-math.inf, math.inf) if range_ is None else range_
    endless = [isinstance(e, float) and math.isinf(e) for e in (lo, hi)]
    if t.dtype == "bool":
        return f"torch.rand({_shape_text(t)}) < {0.5 if range_ is None else _end(hi)}"
    if t.dtype in ("f64", "f32", "f16", "bf16"):
        arguments = f"{_shape_text(t)}{_dtype_argument(t.dtype, 'f32')}"
        if all(endless):
            return f"torch.randn({arguments})"
        if any(endless):
            return f"torch.randn({arguments}).clamp({f'max={_end(hi)}' if endless[0] else f'min={_end(lo)}'})"
        scale = "" if (lo, hi) == (0, 1) else f" * ({_end(hi)} - {_end(lo)})"
        text = f"torch.rand({arguments}){scale}" + ("" if lo == 0 else f" + {_end(lo)}")
        return f"({text})" if order_of(range_) else text
    if endless[0]:
        lo = 0 if endless[1] else minimum(0, hi)  # type: ignore[arg-type]
    stop = _end(lo + 2 if endless[1] else hi + 1)
    shape = f"({_shape_text(t)}{',' if t.rank == 1 else ''})" if t.shape else "()"
    return f"torch.randint({_end(lo)}, {stop}, {shape}{_dtype_argument(t.dtype, 'i64')})"


def _end(end: Any) -> str:
    """Return Python text of an end of a range; symbols stand under their own names."""
    return size_text(end, {}) if isinstance(end, Size) else number_text(end)


__all__ = ["function_source", "module_source", "state_paths"]
