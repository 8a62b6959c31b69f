"""Graphs as PyTorch source that a person would write, and as callables.

Every line comes from an operator's ``torch`` clause: sizes and attributes become literals, operators stay infix, and
parentheses stand only where Python needs them.  What has no definition calls its ATen overload by name.
"""

from __future__ import annotations

import json
import keyword
import linecache
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import torch

from ..ir import (
    OPAQUE,
    Graph,
    Input,
    Literal,
    Node,
    OpDef,
    Operand,
    OpSet,
    Range,
    Size,
    TensorType,
    UsageError,
    builtin_ops,
    evaluate,
    find_op,
    input_ranges,
)
from ..ir import expr as ex
from ..ir.build import clean_name, infer_node
from ..ir.evaluate import decide
from ..ir.infer import Inferred
from ..ir.size import minimum, symbols_of
from .opaque import TORCH_DTYPES, flat, number_text, opaque_text, operand_text, size_text
from .resolve import is_allowed, run_clause
from .symbols import check_lines, symbol_sources
from .torch_phrases import ATOM, Inlined, Phrase, spoken
from .torch_style import Pen, wrapped

#: Keyword arguments that are left out where they have PyTorch's default.
_DEFAULTS: dict[str, Any] = {"keepdim": False, "approximate": "none"}

_FUNCTIONAL = "torch.nn.functional."
_RESERVED = frozenset({"torch", "nn", "F", "self", "Model", "get_inputs", "get_init_inputs", "float"})
_NUMBERS = count()


# -- one node ---------------------------------------------------------------------------------------------------------


def render_node(
    node: Node,
    graph_types: Mapping[str, TensorType],
    ops: OpSet,
    names: Mapping[str, str],
    *,
    device: str = "",
    symbols: Mapping[str, str] | None = None,
    functional: str = _FUNCTIONAL,
) -> list[str]:
    """Return lines of Python that run one node and assign its results.

    The text needs ``import torch`` alone.

    Args:
        node: any node, opaque ones included.
        graph_types: the types of its operands, by value name.
        ops: the operators.
        names: Python text of every value that the node reads and name of every value that it defines.
        device: Python text of the device for tensors that are made from nothing; "" derives it from an operand, or
            leaves PyTorch's default where there is none.
        symbols: Python text of each symbol; a symbol that is not in it stands under its own name.
        functional: how ``torch.nn.functional.`` is spelled.

    Raises:
        UsageError: the operator has no ``torch`` clause, or its clause calls what the allow-list does not have.
    """
    text, _ = render_call(node, graph_types, ops, names, device=device, symbols=symbols, functional=functional)
    return [f"{', '.join(names[r] for r in node.results)} = {text}"]


def render_call(
    node: Node, graph_types: Mapping[str, TensorType], ops: OpSet, names: Mapping[str, str], *, device: str = "",
    symbols: Mapping[str, str] | None = None, functional: str = _FUNCTIONAL, is_spoken: bool = False,
) -> tuple[str, int]:  # fmt: skip
    """Return Python text that runs one node, and its binding strength; arguments as :func:`render_node`.

    With ``is_spoken`` it is spelled as a person would (see :mod:`.torch_phrases`), which means the same.
    """
    if node.op == OPAQUE:
        return opaque_text(node, names, device, symbols or {}), ATOM
    op = find_op(node.op, ops)
    if "torch" not in op.calls:
        raise UsageError("has no torch clause, expected one to run it in PyTorch", subject=op.name)
    inferred = infer_node(node, graph_types, ops)
    writer = _Writer(op, node, inferred, graph_types, names, device, symbols or {}, functional, is_spoken)
    return writer.write(op.calls["torch"])


class _Writer:
    """Writes one clause; every method returns text and its binding strength."""

    def __init__(
        self, op: OpDef, node: Node, inferred: Inferred, types: Mapping[str, TensorType], names: Mapping[str, str],
        device: str, symbols: Mapping[str, str], functional: str, is_spoken: bool = False,
    ) -> None:  # fmt: skip
        self.is_spoken = is_spoken
        self.op, self.node, self.env = op, node, inferred.env
        self.types, self.names = types, names
        self.device, self.symbols, self.functional = device, symbols, functional
        self.operands: dict[str, Operand] = dict(zip([p.name for p in op.operands], node.operands))
        self.params = {p.name: p for p in op.operands}
        self.dtypes = {a.name for a in op.attributes if a.kind == "dtype"} | set(op.dtypes) | {
            n for n, _ in op.dtype_lets
        }  # fmt: skip
        reads = [v for v in flat(node.operands) if isinstance(v, str)]
        self.first = names[reads[0]] if reads else ""
        self.first_type = types[reads[0]] if reads else None
        literal = tuple(isinstance(o, Literal) for o in node.operands)
        self.numbers = not any(literal) or _takes_numbers(op, node, types, inferred)

    def write(self, e: ex.Expr) -> tuple[str, int]:
        if isinstance(e, ex.Cond):
            return self.write(e.a if decide(e.test, self.env) else e.b)
        if self._is_static(e):
            return self._static(e)
        match e:
            case ex.Sym(n):
                return self._operand(n)
            case ex.Lst(items):
                return f"[{', '.join(self._items(items))}]", ATOM
            case ex.Bin("**", a, b):
                return f"{self._at(a, 9)} ** {self._at(b, 7)}", 8
            case ex.Bin(op, a, b):
                level = ex.PRECEDENCE[op]
                return f"{self._at(a, level + (level == 4))} {op} {self._at(b, level + 1)}", level
            case ex.Unary("-", a):
                return f"-{self._at(a, 7)}", 7
            case ex.Load(n, items):
                return f"{self._operand(n)[0]}[{', '.join(self._items(items))}]", ATOM
            case ex.Call(fn, args, kwargs) if "." in fn:
                return self._call(fn, args, kwargs)
        raise UsageError(f"'{ex.to_text(e)}' cannot be written in Python", subject=self.op.name)

    def _at(self, e: ex.Expr, level: int) -> str:
        text, own = self.write(e)
        return f"({text})" if own < level else text

    def _items(self, items: Iterable[ex.Expr]) -> list[str]:
        return [text for text, _ in self._phrases(items)]

    def _phrases(self, items: Iterable[ex.Expr]) -> list[Phrase]:
        out: list[Phrase] = []
        for item in items:
            if isinstance(item, ex.Pack):
                out += [self._value(v) for v in self.env[item.name]]
            else:
                out.append(self.write(item))
        return out

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self, fn: str, args: Sequence[ex.Expr], kwargs: Sequence[tuple[str, ex.Expr]]) -> Phrase:
        if not is_allowed(fn):
            raise UsageError("not among the functions that a lowering clause may call", subject=fn)
        given = list(args)
        while given and self._is_absent(given[-1]):
            given.pop()
        positional = self._phrases(given)
        keywords = [
            (k, self.write(v)[0]) for k, v in kwargs if not self._is_absent(v) and not self._is_default(k, v)
        ]  # fmt: skip
        is_method = fn.startswith("torch.Tensor.")
        if not is_method and not any(self._reads(a) for a in (*args, *(v for _, v in kwargs))):
            where = self.device or (f"{self.first}.device" if self.first else "")
            keywords += [("device", where)] if where else []
        if self.is_spoken:
            return spoken(fn, positional, keywords, self.functional, self.first_type)
        texts = [*(t for t, _ in positional), *(f"{k}={v}" for k, v in keywords)]
        if is_method:
            receiver = self._at(given[0], ATOM)
            return f"{receiver}.{fn.removeprefix('torch.Tensor.')}({', '.join(texts[1:])})", ATOM
        if fn.startswith(_FUNCTIONAL):
            fn = self.functional + fn.removeprefix(_FUNCTIONAL)
        return f"{fn}({', '.join(texts)})", ATOM

    def _is_absent(self, e: ex.Expr) -> bool:
        return isinstance(e, ex.Sym) and e.name in self.params and self.operands.get(e.name) is None

    def _is_default(self, name: str, e: ex.Expr) -> bool:
        if name not in _DEFAULTS or not self._is_static(e):
            return False
        value = evaluate(e, self.env)
        return type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name]

    def _reads(self, e: ex.Expr) -> bool:
        return any(n in self.params and self.operands.get(n) is not None for n in ex.names(e))

    # -- leaves -------------------------------------------------------------------------------------------------------

    def _operand(self, name: str) -> tuple[str, int]:
        if name not in self.params:
            return self._value(self.env[name])
        operand = self.operands.get(name)
        if isinstance(operand, Literal):
            text, level = self._value(operand.value)
            if self.numbers:
                return text, level
            dtype = self.params[name].dtype
            dtype = self.env.get(dtype, dtype)
            where = f", device={self.first}.device" if self.first else ""
            return f"torch.full((), {text}, dtype={TORCH_DTYPES[dtype]}{where})", ATOM
        if isinstance(operand, tuple):
            return f"[{', '.join(self.names[o] for o in operand if isinstance(o, str))}]", ATOM
        if operand is None:
            return "None", ATOM
        text = self.names[operand]
        if isinstance(text, Inlined):
            return text, text.level
        return text, ATOM if re.fullmatch(r"[\w.\[\]'\"]+|getattr\([^()]*\)", text) else 0

    def _is_static(self, e: ex.Expr) -> bool:
        if isinstance(e, ex.Call) and "." in e.fn:
            return False
        if isinstance(e, ex.Call) and e.fn == "present":
            return True
        if isinstance(e, (ex.Sym, ex.Pack, ex.Load)) and e.name in self.params:
            return False
        return all(self._is_static(c) for c in ex.children(e))

    def _static(self, e: ex.Expr) -> tuple[str, int]:
        if isinstance(e, ex.Sym) and (e.name in self.dtypes or (e.name not in self.env and e.name in TORCH_DTYPES)):
            name = self.env.get(e.name, e.name)
            return ("None" if name is None else str(TORCH_DTYPES[name])), ATOM
        return self._value(evaluate(e, self.env))

    def _value(self, value: Any) -> tuple[str, int]:
        if isinstance(value, (tuple, list)):
            return f"[{', '.join(self._value(v)[0] for v in value)}]", ATOM
        if isinstance(value, Size):
            return size_text(value, self.symbols), 0 if re.search(r"\W", str(value)) else ATOM
        if isinstance(value, str):
            return json.dumps(value), ATOM
        return number_text(value), 7 if _is_negative(value) else ATOM


def _is_negative(value: Any) -> bool:
    return isinstance(value, (int, float)) and (value < 0 or math.copysign(1.0, value) < 0)


_TAKES_NUMBERS: dict[Any, bool] = {}


def _takes_numbers(op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred) -> bool:
    """Whether PyTorch takes Python numbers where the node has literals: ``x + 1.0`` yes, ``torch.maximum(x, 1.0)`` no.

    Found by trying, on tensors whose axes all have size one: what PyTorch makes of a number depends on ranks and dtypes.
    A call that does not fit such sizes gets tensors, which are never wrong.
    """
    shapes = [_probe_type(o, types) for o in node.operands]
    key = (op.name, op.location, str(shapes))
    if key not in _TAKES_NUMBERS:
        values: dict[str, Any] = {}
        for p, t in zip(op.operands, shapes):
            values[p.name] = _probe(t)
        env = dict(inferred.env)
        for a in op.attributes:
            if a.kind == "dtype" and env[a.name] is not None:
                values[a.name] = TORCH_DTYPES[env[a.name]]
        try:
            result = run_clause(op.calls["torch"], values, env)
            results = result if isinstance(result, (tuple, list)) else [result]
            fits = all(r.dtype == TORCH_DTYPES[t.dtype] for r, t in zip(results, inferred.types))
        except (TypeError, RuntimeError, AttributeError, ValueError):
            fits = False
        _TAKES_NUMBERS[key] = fits
    return _TAKES_NUMBERS[key]


def _probe_type(operand: Operand, types: Mapping[str, TensorType]) -> Any:
    if isinstance(operand, str):
        t = types[operand]
        return TensorType(t.dtype, (1,) * t.rank)
    return tuple(_probe_type(o, types) for o in operand) if isinstance(operand, tuple) else operand


def _probe(operand: Any) -> Any:
    if isinstance(operand, TensorType):
        return torch.ones(operand.shape, dtype=TORCH_DTYPES[operand.dtype])  # type: ignore[arg-type]
    if isinstance(operand, Literal):
        return 2 if isinstance(operand.value, Size) else operand.value
    return tuple(map(_probe, operand)) if isinstance(operand, tuple) else operand


# -- whole graphs -----------------------------------------------------------------------------------------------------


def to_source(graph: Graph, ops: OpSet | None = None, name: str = "Model", style: str = "module") -> str:
    """Return a Python file that says what ``graph`` says.

    Args:
        graph: any valid graph.
        ops: the operators; None means the built-in ones.
        name: of the class or the function.
        style: ``"module"`` for a KernelBench-style file (the class, ``get_inputs``, ``get_init_inputs``; parameters and
            buffers keep their names in ``state_dict``), ``"function"`` for one function of all inputs in order.

    Raises:
        UsageError: an operator has no ``torch`` clause.
    """
    ops = builtin_ops() if ops is None else ops
    if style == "function":
        return _function_source(graph, ops, name)
    if style != "module":
        raise UsageError(f"style is {style}, expected module or function", subject="to_source")
    return _module_source(graph, ops, name)


def to_callable(graph: Graph, ops: OpSet | None = None) -> Callable[..., Any]:
    """Return a function of the graph's inputs, in order, that runs it node by node in the graph's own dtypes.

    It returns one tensor, or a tuple where there are several outputs, and writes buffer updates into the inputs that they
    belong to.  Its attribute ``source`` is the text that it runs.
    """
    source = _function_source(graph, builtin_ops() if ops is None else ops, "run", is_plain=True)
    file = f"<drt {graph.name} {next(_NUMBERS)}>"
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    run = namespace["run"]
    run.source = source
    return run  # type: ignore[no-any-return]


class _Scope:
    """Distinct Python names for values."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.names: dict[str, str] = {}

    def add(self, value: str) -> str:
        name = clean_name(value)
        while name in self.taken or keyword.iskeyword(name):
            name += "_"
        self.taken.add(name)
        self.names[value] = name
        return name


def _body(graph: Graph, ops: OpSet, scope: _Scope, device: str) -> list[str]:
    """Return the lines of the function: symbols, nodes, updates, result."""
    symbols: dict[str, str] = {}
    lines = []
    for s, text in symbol_sources(graph, scope.names).items():
        symbols[s] = scope.add(s)
        lines.append(f"{symbols[s]} = {size_text(text, symbols)}")
    lines += check_lines(graph, scope.names, symbols)
    for node in graph.nodes:
        for r in node.results:
            scope.add(r)
        lines += render_node(node, graph.types, ops, scope.names, device=device, symbols=symbols, functional="F.")
    lines += [f"{scope.names[u.target]}.copy_({scope.names[u.value]})" for u in graph.updates]
    texts = [operand_text(o, scope.names, symbols) for o in graph.outputs]
    lines.append(f"return {texts[0] if len(texts) == 1 else '(' + ', '.join(texts) + ')'}")
    return lines


def _styled(graph: Graph, ops: OpSet, scope: _Scope, device: str) -> list[str]:
    """Return the lines of the function as a person would write them."""
    symbols: dict[str, str] = {}
    lines = []
    for s, text in symbol_sources(graph, scope.names).items():
        symbols[s] = scope.add(s)
        lines.append(f"{symbols[s]} = {size_text(text, symbols)}")
    lines += check_lines(graph, scope.names, symbols)

    def express(node: Node, names: Mapping[str, str]) -> Phrase:
        return render_call(
            node, graph.types, ops, names, device=device, symbols=symbols, functional="F.", is_spoken=True
        )  # fmt: skip

    def result(names: Mapping[str, str]) -> str:
        texts = [operand_text(o, names, symbols) for o in graph.outputs]
        return texts[0] if len(texts) == 1 else ", ".join(texts) or "()"

    updated = {u.target for u in graph.updates}
    own = [i.name for i in graph.inputs if scope.names[i.name].isidentifier() and i.name not in updated]
    inputs = {i.name: scope.names[i.name] for i in graph.inputs}
    pen = Pen(graph, ops, inputs, scope.taken, own, express)
    for node in graph.nodes:
        pen.write(node)
    # Names of updates are known only once all values have been written.
    updates = (f"{pen.names[u.target]}.copy_({pen.names[u.value]})" for u in graph.updates)
    return [*lines, *pen.finish(result, updates)]


def _device_text(graph: Graph, names: Mapping[str, str]) -> str:
    return f"{names[graph.inputs[0].name]}.device" if graph.inputs else ""


def _function_source(graph: Graph, ops: OpSet, name: str, is_plain: bool = False) -> str:
    scope = _Scope(_RESERVED | {name})
    parameters = [scope.add(i.name) for i in graph.inputs]
    lines = (_body if is_plain else _styled)(graph, ops, scope, _device_text(graph, scope.names))
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


def _module_source(graph: Graph, ops: OpSet, name: str) -> str:
    scope = _Scope(_RESERVED | {name})
    given = [i for i in graph.inputs if i.kind == "input"]
    state = [i for i in graph.inputs if i.kind != "input"]
    parameters = [scope.add(i.name) for i in given]
    targets = _targets(state)
    tree = _tree(targets.values())
    for i in state:
        scope.names[i.name] = _access(targets[i.name], tree)
    lines = _styled(graph, ops, scope, _device_text(graph, scope.names))
    body = [f"class {name}(nn.Module):"]
    if state:
        body += ["    def __init__(self):", "        super().__init__()"]
        body += [f"        {line}" for line in _registrations(state, targets, tree)]
        body.append("")
    head = wrapped(f"def forward({', '.join(['self', *parameters])})", 5)
    body.append("\n".join(f"    {row}" for row in head) + ":")
    body.append(_indented(lines, 8))
    body += ["", "", "def get_inputs():"]
    sizes = {s.name: str(min(max(s.lo, 2), s.hi)) for i in graph.inputs for d in i.type.shape for s in symbols_of(d)}
    body += [f"    {s} = {n}" for s, n in sizes.items()]
    ranges = input_ranges(graph, ops)
    body.append(_indented([f"return [{', '.join(_example(i.type, ranges.get(i.name)) for i in given)}]"], 4))
    body += ["", "", "def get_init_inputs():", "    return []"]
    text = "\n".join(body)
    return f"{_imports(text)}\n\n{text}\n"


def state_paths(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return value name -> path of attributes of the written module, for every param, buffer and constant."""
    return _targets([i for i in graph.inputs if i.kind != "input"])


def _targets(state: Sequence[Input]) -> dict[str, tuple[str, ...]]:
    """Return value name -> path of attributes; names that Python cannot say are cleaned, and no two agree."""
    found: dict[str, tuple[str, ...]] = {}
    taken: set[tuple[str, ...]] = set()
    for i in state:
        path = tuple(p if p.isdigit() else clean_name(p) for p in (i.target or i.name).split("."))
        if path[0].isdigit() or path[-1].isdigit():
            path = tuple(clean_name(p) for p in path)
        while path in taken or any(path[:k] in taken for k in range(1, len(path))):
            path = (*path[:-1], f"{path[-1]}_")
        taken.add(path)
        found[i.name] = path
    return found


def _tree(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], set[str]]:
    """Return inner module -> names of its children."""
    children: dict[tuple[str, ...], set[str]] = {}
    for path in paths:
        for k in range(1, len(path) + 1):
            children.setdefault(path[: k - 1], set()).add(path[k - 1])
    return children


def _is_list(children: set[str]) -> bool:
    return all(c.isdigit() for c in children)


def _access(path: tuple[str, ...], tree: Mapping[tuple[str, ...], set[str]]) -> str:
    text = "self"
    for k, part in enumerate(path):
        if not part.isdigit():
            text += f".{part}"
        elif _is_list(tree[path[:k]]):
            text += f"[{part}]"
        else:
            text = f'getattr({text}, "{part}")'
    return text


def _registrations(
    state: Sequence[Input], targets: Mapping[str, tuple[str, ...]], tree: Mapping[tuple[str, ...], set[str]]
) -> list[str]:
    lines: list[str] = []
    made: set[tuple[str, ...]] = {()}
    leaves = set(targets.values())
    for i in state:
        path = targets[i.name]
        for k in range(1, len(path)):
            scope = path[:k]
            if scope in made:
                continue
            made.add(scope)
            kids = tree[scope]
            owner, here = _access(scope[:-1], tree), scope[-1]
            if _is_list(kids) and not any((*scope, c) in leaves for c in kids):
                n = max(map(int, kids)) + 1
                lines.append(f"{owner}.{here} = nn.ModuleList([nn.Module() for _ in range({n})])")
                made |= {(*scope, str(c)) for c in range(n)}
            elif here.isdigit():
                lines.append(f'{owner}.add_module("{here}", nn.Module())')
            else:
                lines.append(f"{owner}.{here} = nn.Module()")
        owner, leaf = _access(path[:-1], tree), path[-1]
        value = _initial(i)
        if i.kind == "param":
            flag = "" if i.type.dtype in ("f64", "f32", "f16", "bf16") else ", requires_grad=False"
            lines.append(f"{owner}.{leaf} = nn.Parameter({value}{flag})")
        else:
            keep = ", persistent=False" if i.kind == "constant" else ""
            lines.append(f'{owner}.register_buffer("{leaf}", {value}{keep})')
    return lines


def _shape_text(t: TensorType) -> str:
    return ", ".join(map(str, t.shape)) if t.shape else "()"


def _dtype_argument(dtype: str, default: str) -> str:
    return "" if dtype == default else f", dtype={TORCH_DTYPES[dtype]}"


def _initial(i: Input) -> str:
    """Return Python text of a first value: scaled normal weights, buffers in 0.5..1.5 (a variance must be positive)."""
    t = i.type
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
    lo, hi = (-math.inf, math.inf) if range_ is None else range_
    endless = [isinstance(e, float) and math.isinf(e) for e in (lo, hi)]
    if t.dtype == "bool":
        return f"torch.rand({_shape_text(t)}) < 0.5"
    if t.dtype in ("f64", "f32", "f16", "bf16"):
        arguments = f"{_shape_text(t)}{_dtype_argument(t.dtype, 'f32')}"
        if all(endless):
            return f"torch.randn({arguments})"
        if any(endless):
            return f"torch.randn({arguments}).clamp({f'max={_end(hi)}' if endless[0] else f'min={_end(lo)}'})"
        scale = "" if (lo, hi) == (0, 1) else f" * ({_end(hi)} - {_end(lo)})"
        return f"torch.rand({arguments}){scale}" + ("" if lo == 0 else f" + {_end(lo)}")
    if endless[0]:
        lo = 0 if endless[1] else minimum(0, hi)  # type: ignore[arg-type]
    stop = _end(lo + 2 if endless[1] else hi + 1)
    shape = f"({_shape_text(t)}{',' if t.rank == 1 else ''})" if t.shape else "()"
    return f"torch.randint({_end(lo)}, {stop}, {shape}{_dtype_argument(t.dtype, 'i64')})"


def _end(end: Any) -> str:
    """Return Python text of an end of a range; symbols stand under their own names."""
    return size_text(end, {}) if isinstance(end, Size) else number_text(end)


__all__ = ["render_node", "state_paths", "to_callable", "to_source"]
