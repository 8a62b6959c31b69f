"""One standalone file from a cut program: kernels, what PyTorch runs, and ``class ModelNew`` around them.

The file needs torch and triton only (and whatever the original model's own file imports).  ``ModelNew`` has the original's
constructor and ``state_dict``; arguments that the kernels were not compiled for go to the original's ``forward``.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ..ir import Graph, Input, OpSet, Size, TensorType
from .candidate import Candidate
from .opaque import TORCH_DTYPES, draws, size_text
from .python_text import parse_python
from .symbols import conditions, shape_text, symbol_sources
from .tensors import UNPACK
from .torch_calls import render_node
from .torch_memory import Layouts

#: Names that a generated file uses itself.
_TAKEN = frozenset(
    "torch triton tl libdevice nn F self super warnings Model ModelNew device versions".split()
)  # fmt: skip

_HELPERS = '''
def _runs_kernels(*tensors):
    """Whether Triton can run on these tensors: they are on a GPU, or kernels are interpreted."""
    return triton.knobs.runtime.interpret or all(t.is_cuda for t in tensors)


def _versions(*tensors):
    """What changes when one of the tensors is written to or replaced."""
    return tuple((id(t), t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
'''


@attrs.frozen
class Step:
    """One step of the forward pass: a fragment, and the kernel for it, or None where PyTorch runs it."""

    fragment: Graph
    candidate: Candidate | None = None


@attrs.frozen
class Host:
    """The module that a program came from, as text.

    Attributes:
        source: the file that defines it, or "" where there is none; its class becomes the base of ``ModelNew``.
        class_name: the class in ``source``.
        parameters: the parameters of ``forward`` as text (``x, mask=None``).
        call: the arguments of a call of the original ``forward`` with them (``x, mask=mask``).
        arguments: graph input -> Python text over the parameters.
        guards: Python text over the parameters -> the value that was compiled in.
        state: graph input -> Python text of a parameter or buffer (``self.layers[0].weight``).
        constants: graph input -> Python text that makes the tensor (tensors in the module's code).
        result: Python text of the result; ``{0}``, ``{1}`` stand for the graph's outputs.
        training: the mode that the program was exported in; None where it makes no difference.
        autocast: the type of device (``cuda``) for which autocast was on around the export; its casts are in the program.
        registry: for ``source == ""``: module name -> (type, is_parameter), from which an empty module is built.
    """

    source: str = ""
    class_name: str = "Model"
    parameters: str = "*args"
    call: str = "*args"
    arguments: Mapping[str, str] = attrs.field(factory=dict)
    guards: Mapping[str, Any] = attrs.field(factory=dict)
    state: Mapping[str, str] = attrs.field(factory=dict)
    constants: Mapping[str, str] = attrs.field(factory=dict)
    result: str = "{0}"
    training: bool | None = None
    autocast: str = ""
    registry: Mapping[str, tuple[TensorType, bool]] = attrs.field(factory=dict)


class _Names:
    """Python names for the values of a graph, all different."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self.taken = set(reserved)
        self.names: dict[str, str] = {}
        self.symbols: dict[str, str] = {}

    def add_symbols(self, graph: Graph) -> None:
        """Give the symbols of a graph names that no value has."""
        for s in graph.symbols:
            name = s.name
            while name in self.taken or keyword.iskeyword(name):
                name += "_size"
            self.taken.add(name)
            self.symbols[s.name] = name

    def __getitem__(self, value: str) -> str:
        if value not in self.names:
            name = value.replace(".", "_")
            while name in self.taken or keyword.iskeyword(name):
                name += "_"
            self.taken.add(name)
            self.names[value] = name
        return self.names[value]


def assemble(graph: Graph, steps: Sequence[Step], host: Host, ops: OpSet, title: str, notes: Sequence[str] = ()) -> str:
    """Return the text of a file that defines ``ModelNew``.

    Args:
        graph: the whole program.
        steps: its steps in running order; together they define every output and update.
        host: the module that it came from.
        ops: the operators, for what PyTorch runs.
        title: first line of the file's docstring.
        notes: further lines of the docstring (the table of fragments).
    """
    entries = {s.candidate.entry for s in steps if s.candidate}
    names = _Names(_TAKEN | entries | _identifiers(host.parameters) | _module_names(host.source))
    names.add_symbols(graph)
    for value, text in host.arguments.items():
        if text.isidentifier():  # a parameter of forward keeps its own name
            names.names[value] = text
    packed, running = _split_packed(graph, steps, ops)
    body = _forward(graph, packed, running, host, names, ops)
    future, original = _original(host.source)
    lines = [f'"""{title}', "", *(n.rstrip() for n in notes), '"""', ""]
    lines += [*future, "import warnings", "", "import torch", "import triton", "import triton.language as tl"]
    lines += ["from torch import nn", "from triton.language.extra import libdevice", ""]
    text = "\n".join(lines)
    if original:
        text += f"\n# ---- the original model ----\n\n{original.strip()}\n\n"
    text += "\n# ---- kernels ----\n"
    seen: set[str] = set()
    for step in steps:
        if step.candidate and step.candidate.entry not in seen:
            seen.add(step.candidate.entry)
            text += "\n" + step.candidate.source.strip() + "\n\n"
    unpack = f"\n{UNPACK}" if any("_unpack(" in t for t in host.constants.values()) else ""
    text += "\n# ---- the compiled model ----\n" + _HELPERS + unpack + "\n\n" + body
    return text


def assemble_function(graph: Graph, steps: Sequence[Step], ops: OpSet, entry: str) -> str:
    """Return the text of a function from the graph's inputs, in order, to its outputs and the new values of updates.

    It runs the same steps in the same order as the forward pass of :func:`assemble`, and can be judged like a kernel.
    """
    kernels = {s.candidate.entry: s.candidate.source for s in steps if s.candidate}
    names = _Names(_TAKEN | set(kernels) | {entry})
    parameters = ", ".join(names[i.name] for i in graph.inputs)
    body = [f"    {line}" for line in _steps(graph, steps, names, ops, keep=_outside(graph))]
    values = [*graph.outputs, *(u.value for u in graph.updates)]
    results = [names[o] if isinstance(o, str) else repr(getattr(o, "value", None)) for o in values]
    returned = results[0] if len(results) == 1 else f"({', '.join(results)})"
    text = "\n\n\n".join(source.strip() for source in kernels.values())
    return f"{text}\n\n\ndef {entry}({parameters}):\n" + "\n".join([*body, f"    return {returned}"]) + "\n"


def _identifiers(text: str) -> frozenset[str]:
    try:
        tree = parse_python(f"def f({text}): pass")
    except SyntaxError:
        return frozenset()
    return frozenset(a.arg for a in ast.walk(tree) if isinstance(a, ast.arg))


def _module_names(source: str) -> frozenset[str]:
    """Names that the original file defines at its top level."""
    found: set[str] = set()
    for node in parse_python(source).body if source else ():
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.Assign):
            found |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return frozenset(found)


def _original(source: str) -> tuple[list[str], str]:
    """Return the ``__future__`` lines of a file, and its text without them, its docstring and its ``__main__`` block."""
    if not source:
        return [], ""
    lines = source.splitlines()
    future: list[str] = []
    for k, node in enumerate(parse_python(source).body):
        is_doc = k == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        is_main = isinstance(node, ast.If) and "__main__" in ast.dump(node.test)
        if is_future:
            future.append(ast.unparse(node))
        if is_doc or is_future or is_main:
            assert node.end_lineno is not None
            for i in range(node.lineno - 1, node.end_lineno):
                lines[i] = ""
    return future, "\n".join(lines)


def _split_packed(graph: Graph, steps: Sequence[Step], ops: OpSet) -> tuple[list[Step], list[Step]]:
    """Separate the steps that depend on parameters, buffers and constants alone, and on nothing that the call writes."""
    written = {u.target for u in graph.updates}
    fixed = {i.name for i in graph.inputs if i.kind != "input" and i.name not in written}
    packed: list[Step] = []
    running: list[Step] = []
    for step in steps:
        reads = [i.name for i in step.fragment.inputs]
        if (
            step.candidate is None
            and reads
            and all(r in fixed for r in reads)
            and not any(draws(n, ops) for n in step.fragment.nodes)
        ):
            packed.append(step)
            fixed |= {o for o in step.fragment.outputs if isinstance(o, str)}
        else:
            running.append(step)
    # A view of a parameter is cheaper to take than to keep.
    worth = any(len(s.fragment.nodes) > 1 or s.fragment.nodes[0].op not in _FREE for s in packed)
    return (packed, running) if worth else ([], list(steps))


_FREE = frozenset({"reshape", "permute", "expand", "slice", "select", "squeeze", "unsqueeze", "transpose", "flatten"})


def _forward(
    graph: Graph, packed: Sequence[Step], running: Sequence[Step], host: Host, names: _Names, ops: OpSet
) -> str:
    base = host.class_name if host.source else "nn.Module"
    out = [f"class ModelNew({base}):", f'    """{_doc(host)}"""', ""]
    if not host.source:
        out += [*_constructor(host), ""]
    packed_names = _packed_values(graph, packed, running)
    if packed:
        out += [*_pack_method(graph, packed, packed_names, host, names, ops), ""]
    comma = f", {host.parameters}" if host.parameters else ""
    if host.autocast:
        out.append(f'    @torch.autocast("{host.autocast}", enabled=False)')
    out += ["    @torch.no_grad()", f"    def forward(self{comma}):"]
    body: list[str] = []
    bound: set[str] = set()
    used = _used(graph, running)
    for value in graph.inputs:
        if value.name in host.arguments and names[value.name] != host.arguments[value.name]:
            body.append(f"{names[value.name]} = {host.arguments[value.name]}")
        bound.add(value.name)
    body += _guards(graph, host, names)
    for value in graph.inputs:
        if value.name in used and value.name in host.state:
            body.append(f"{names[value.name]} = {host.state[value.name]}")
        elif value.name in used and value.name in host.constants:
            body.append(f"{names[value.name]} = self._constant({value.name!r}, {_device(graph, host, names)})")
    if packed_names:
        left = ", ".join(names[v] for v in packed_names)
        body.append(f"{left}{',' if len(packed_names) == 1 else ''} = self._packed({_device(graph, host, names)})")
    body += _steps(graph, running, names, ops, keep=_outside(graph))
    for u in graph.updates:
        body.append(f"{names[u.target]}.copy_({names[u.value]})")
    results = [names[o] if isinstance(o, str) else repr(getattr(o, "value", None)) for o in graph.outputs]
    body.append(f"return {host.result.format(*results)}")
    out += [f"        {line}" for line in body]
    if host.constants:
        out += ["", *_constant_method(host)]
    return "\n".join(out) + "\n"


def _doc(host: Host) -> str:
    what = f"{host.class_name} with verified Triton kernels" if host.source else "The compiled program"
    return f"{what}; for inference (its results carry no gradient)."


def _outside(graph: Graph) -> set[str]:
    return set(graph.live_out) | {i.name for i in graph.inputs}


def _used(graph: Graph, running: Sequence[Step]) -> set[str]:
    reads = {i.name for s in running for i in s.fragment.inputs}
    return reads | set(graph.live_out) | {u.target for u in graph.updates}


def _packed_values(graph: Graph, packed: Sequence[Step], running: Sequence[Step]) -> list[str]:
    made = {o for s in packed for o in s.fragment.outputs if isinstance(o, str)}
    return [v for v in _used_in_order(graph, running) if v in made]


def _used_in_order(graph: Graph, running: Sequence[Step]) -> list[str]:
    order = dict.fromkeys(i.name for s in running for i in s.fragment.inputs)
    order.update(dict.fromkeys(graph.live_out))
    return list(order)


def _device(graph: Graph, host: Host, names: _Names) -> str:
    """Return Python text of the device of a call: that of its first tensor."""
    tensors = [names[i.name] for i in graph.inputs if i.name in host.arguments] or list(host.state.values())
    return f"{tensors[0]}.device" if tensors else 'torch.device("cpu")'


def _steps(graph: Graph, steps: Sequence[Step], names: _Names, ops: OpSet, keep: set[str]) -> list[str]:
    """Return the lines of the steps; a value is deleted after its last use, so that its memory can be used again."""
    last: dict[str, int] = {}
    for k, step in enumerate(steps):
        for i in step.fragment.inputs:
            last[i.name] = k
    made = {o for s in steps for o in s.fragment.outputs if isinstance(o, str)}
    lines: list[str] = []
    layouts = Layouts(graph, ops)
    for k, step in enumerate(steps):
        lines += _step(step, graph, names, ops, layouts)
        dead = [names[v] for v, when in last.items() if when == k and v in made and v not in keep]
        if dead and k + 1 < len(steps):
            lines.append(f"del {', '.join(dead)}")
    return lines


def _step(step: Step, graph: Graph, names: _Names, ops: OpSet, layouts: Layouts) -> list[str]:
    if step.candidate is None:
        lines: list[str] = []
        for node in step.fragment.nodes:
            # A tensor that is made from nothing is made where the arguments are.
            made = not any(True for _ in node.uses()) and graph.inputs and graph.inputs[0].kind == "input"
            device = f"{names[graph.inputs[0].name]}.device" if made else ""
            lines += render_node(
                node, step.fragment.types, ops, _Mapping(names), device=device, symbols=names.symbols, layouts=layouts
            )  # fmt: skip
        return lines
    left = ", ".join(names[o] for o in step.fragment.outputs if isinstance(o, str))
    right = ", ".join(names[i.name] for i in step.fragment.inputs)
    return [f"{left} = {step.candidate.entry}({right})"]


class _Mapping(Mapping[str, str]):
    """A read-only view of the names that invents one for a value it has not seen."""

    def __init__(self, names: _Names) -> None:
        self.names = names

    def __getitem__(self, key: str) -> str:
        return self.names[key]

    def __iter__(self) -> Any:
        return iter(self.names.names)

    def __len__(self) -> int:
        return len(self.names.names)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)


def _guards(graph: Graph, host: Host, names: _Names) -> list[str]:
    """Lines that send everything the kernels were not compiled for to the original."""
    tests: list[str] = []
    tensors: list[str] = []
    for i in graph.inputs:
        name = names[i.name] if i.name in host.arguments else host.state.get(i.name)
        if name is None:
            continue
        shape = f"{name}.dim() == {i.type.rank}" if _is_symbolic(i) else f"{name}.shape == {_shape_text(i)}"
        tests.append(f"{shape} and {name}.dtype == {TORCH_DTYPES[i.type.dtype]}")
        tensors.append(name)
    given = [names[i.name] for i in graph.inputs if i.name in host.arguments]
    for text, value in host.guards.items():
        tests.append(f"{text} is {value!r}" if value is None or isinstance(value, bool) else f"{text} == {value!r}")
    if host.training is not None:
        tests.append(f"self.training is {host.training}")
    if not host.autocast and tensors:
        tests.append(f"not torch.is_autocast_enabled({tensors[0]}.device.type)")
    tests.append(f"_runs_kernels({', '.join(tensors)})" if tensors else "triton.knobs.runtime.interpret")
    return [*_unless(tests, host, given), *_size_guards(graph, host, names, given)]


def _size_guards(graph: Graph, host: Host, names: _Names, given: Sequence[str]) -> list[str]:
    """Lines that read the symbols of a program off its arguments, and send sizes that it does not take to the original."""
    texts = {i.name: names[i.name] for i in graph.inputs if _is_symbolic(i)}
    if not texts:
        return []
    lines = []
    for s, text in symbol_sources(graph, texts).items():
        lines.append(f"{names.symbols[s]} = {size_text(text, names.symbols)}")
    tests = [
        f"{texts[i.name]}.shape == {shape_text(i.type.shape, names.symbols)}" for i in graph.inputs if i.name in texts
    ]
    tests += [test if " or " not in test else f"({test})" for test, _ in conditions(graph, texts, names.symbols)]
    return [*lines, *_unless(list(dict.fromkeys(tests)), host, given)]


def _unless(tests: Sequence[str], host: Host, given: Sequence[str]) -> list[str]:
    lines = ["if not ("]
    lines += [f"    {'and ' if k else ''}{t}" for k, t in enumerate(tests)]
    return [*lines, "):", *(f"    {line}" for line in _fallback(host, given))]


def _is_symbolic(i: Input) -> bool:
    return any(isinstance(n, Size) for n in i.type.shape)


def _fallback(host: Host, given: Sequence[str]) -> list[str]:
    text = "arguments, mode or device differ from those compiled for"
    if not host.source:
        return [
            'original = self.__dict__.get("original")',
            "if original is None:",
            f'    raise ValueError("ModelNew: {text}")',
            f'warnings.warn("ModelNew: {text}; running the original", stacklevel=2)',
            f"return original({host.call})",
        ]
    return [
        f'warnings.warn("ModelNew: {text}; running the original", stacklevel=2)',
        f"return super().forward({host.call})",
    ]


def _shape_text(i: Input) -> str:
    return f"({', '.join(map(str, i.type.shape))}{',' if i.type.rank == 1 else ''})"


def _pack_method(
    graph: Graph, packed: Sequence[Step], values: Sequence[str], host: Host, names: _Names, ops: OpSet
) -> list[str]:
    sources = list(dict.fromkeys(i.name for s in packed for i in s.fragment.inputs if i.name in host.state))
    local = _Names(frozenset(names.taken))
    local.names, local.symbols = dict(names.names), names.symbols
    out = [
        "def _packed(self, device):",
        '    """Return what depends on parameters and constants alone, computed again when one of them changes."""',
    ]
    out += [f"    {local[v]} = {host.state[v]}" for v in sources]
    out.append(f"    versions = (device, *_versions({', '.join(local[v] for v in sources)}))")
    out.append('    if self.__dict__.get("_packed_versions") != versions:')
    for v in dict.fromkeys(i.name for s in packed for i in s.fragment.inputs if i.name in host.constants):
        out.append(f"        {local[v]} = self._constant({v!r}, device)")
    out += [f"        {line}" for line in _steps(graph, packed, local, ops, keep=_outside(graph) | set(values))]
    items = ", ".join(local[v] for v in values) + ("," if len(values) == 1 else "")
    out.append(f'        self.__dict__["_packed_values"] = ({items})')
    out.append('        self.__dict__["_packed_versions"] = versions')
    out.append('    return self.__dict__["_packed_values"]')
    names.taken |= local.taken
    return [f"    {line}" for line in out]


def _constant_method(host: Host) -> list[str]:
    out = [
        "def _constant(self, name, device):",
        '    """Return a tensor of the model\'s code on ``device``."""',
        '    held = self.__dict__.setdefault("_constants", {})',
        "    if (name, device) not in held:",
        "        held[name, device] = self._CONSTANTS[name]().to(device)",
        "    return held[name, device]",
        "",
        "_CONSTANTS = {",
        *(f"    {name!r}: lambda: {text}," for name, text in host.constants.items()),
        "}",
    ]
    return [f"    {line}" if line else "" for line in out]


def _constructor(host: Host) -> list[str]:
    """Lines of an ``__init__`` that registers empty parameters and buffers under the original names."""
    out = ["    def __init__(self):", "        super().__init__()"]
    scopes: set[str] = set()
    for target, (type_, is_parameter) in host.registry.items():
        *path, leaf = target.split(".")
        for k in range(1, len(path) + 1):
            scope = ".".join(path[:k])
            if scope not in scopes:
                scopes.add(scope)
                out.append(f"        {_module_text(path[: k - 1])}.add_module({path[k - 1]!r}, nn.Module())")
        empty = f"torch.empty({_shape_text(Input('', type_))}, dtype={TORCH_DTYPES[type_.dtype]})"
        floating = type_.dtype in ("f64", "f32", "f16", "bf16")
        if is_parameter:
            value = f"nn.Parameter({empty}{'' if floating else ', requires_grad=False'})"
            out.append(f"        {_module_text(path)}.register_parameter({leaf!r}, {value})")
        else:
            out.append(f"        {_module_text(path)}.register_buffer({leaf!r}, {empty})")
    if host.training is not None:
        out.append(f"        self.train({host.training})")
    return out


def _module_text(path: Sequence[str]) -> str:
    text = "self"
    for name in path:
        text = f"{text}.{name}" if name.isidentifier() else f"getattr({text}, {name!r})"
    return text


def state_text(target: str) -> str:
    """Return Python text of a parameter or buffer in a module that was built from a registry."""
    *path, leaf = target.split(".")
    owner = _module_text(path)
    return f"{owner}.{leaf}" if leaf.isidentifier() else f"getattr({owner}, {leaf!r})"
