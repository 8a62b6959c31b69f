"""Nodes as lines of JAX: by ``jax`` clauses, and by functions made from expansions and bodies where there is none."""

from __future__ import annotations

import importlib
import inspect
import json
import keyword
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from ..ir import (
    OPAQUE,
    Graph,
    Inferred,
    Input,
    InternalError,
    Literal,
    Node,
    OpDef,
    Operand,
    OpSet,
    Size,
    SizeLike,
    TensorType,
    Unsupported,
    UsageError,
    evaluate,
    expand_graph,
    find_op,
)
from ..ir import expr as ex
from ..ir.build import clean_name, infer_node
from ..ir.opdef import Expand, Hook, Index, Opaque, Random, Reduce, Scalar
from ..ir.size import symbols_of
from ..ir.typesys import INTEGER_RANGES
from .jax_bodies import (
    ATOM,
    JAX_DTYPES,
    BodyWriter,
    Text,
    as_code,
    level_of,
    number_text,
)
from .jax_clauses import ClauseWriter
from .opaque import flat, size_text
from .resolve import JAX_FUNCTIONS

RESERVED = frozenset({"jax", "jnp", "lax", "np", "params", "get_inputs", "get_params", "padded", "float"})
#: A body of more operators than this becomes a function.
_INLINE_OPERATORS = 5
_HALF = ("f16", "bf16")
#: Longer expressions are not nested.
_NESTED_LENGTH = 60


def require_jax() -> Any:
    """Return the module ``jax``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("jax")
    except ImportError as error:
        raise UsageError("is not installed; install the extra drt[jax]", subject="jax") from error


def wide_numbers(on: bool = True) -> Any:
    """Return a context in which JAX keeps 64-bit numbers, or not; it ends with the context."""
    jax = require_jax()
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)
    return importlib.import_module("jax.experimental").enable_x64(on)


def _literal_text(literal: Literal, dtype: str, symbols: Mapping[str, str]) -> str:
    """Return Python text of a literal; an integer that its dtype does not hold wraps, as in PyTorch."""
    value = literal.value
    if isinstance(value, Size):
        return size_text(value, symbols)
    if dtype in INTEGER_RANGES and isinstance(value, int):
        low, high = INTEGER_RANGES[dtype]
        value = (int(value) - low) % (high - low + 1) + low
    return number_text(value)


def _is_exact(value: Any, dtype: str) -> bool:
    """Return whether a literal is a number of ``dtype``, which JAX rounds it to before it computes."""
    from ..ir.passes import round_to

    return not isinstance(value, float) or round_to(value, dtype) == value or math.isnan(value)


# -- programs ---------------------------------------------------------------------------------------------------------


@attrs.define
class JaxFile:
    """One generated file: its functions so far, and what has been found out about operators.

    Attributes:
        ops: the operators.
        helpers: text of each function -> its name.
        namespace: the functions, ready to be called.
        fixes: call -> what makes each of its results the declared one.
    """

    ops: OpSet
    helpers: dict[str, str] = attrs.field(factory=dict)
    namespace: dict[str, Any] = attrs.field(factory=dict)
    fixes: dict[Any, list[str]] = attrs.field(factory=dict)
    #: Values of the symbols for trying code out.
    samples: dict[str, SizeLike] = attrs.field(factory=dict)
    #: Operators and half-precision dtypes that JAX has no function for: they run in single precision.
    single: set[tuple[str, str]] = attrs.field(factory=set)
    #: Binding strength of the expression written last.
    level: int = ATOM

    def __attrs_post_init__(self) -> None:
        jax = require_jax()
        self.namespace |= {
            "jax": jax, "jnp": importlib.import_module("jax.numpy"), "lax": importlib.import_module("jax.lax")
        }  # fmt: skip
        importlib.import_module("jax.scipy.special")

    # -- nodes --------------------------------------------------------------------------------------------------------

    def node(
        self, node: Node, types: Mapping[str, TensorType], names: Mapping[str, str], symbols: Mapping[str, str]
    ) -> list[str]:
        """Return the lines that run one node and assign its results.

        Raises:
            UsageError: the node has no meaning outside PyTorch.
        """
        if node.op == OPAQUE:
            target = node.attributes["target"]
            raise UsageError(f"{target} is PyTorch's own, expected an operator with a meaning", subject="to_jax",
                             place=str(node.location or ""))  # fmt: skip
        op = find_op(node.op, self.ops)
        inferred = infer_node(node, types, self.ops)
        dtypes = _operand_dtypes(op, node, types, inferred)
        operands: dict[str, Any] = {}
        for p, o in zip(op.operands, node.operands):
            if isinstance(o, tuple):
                operands[p.name] = tuple(names[x] for x in o if isinstance(x, str))
            elif isinstance(o, Literal):
                operands[p.name] = _literal_text(o, dtypes[p.name], symbols)
            else:
                operands[p.name] = None if o is None else names[o]
        fixes = self._fixes(op, node, types, inferred, dtypes, symbols)
        text, level = self._text(op, node, types, inferred, operands, dtypes, symbols)
        self.level = ATOM if fixes[0] else level
        left = [names[r] for r in node.results]
        if len(left) == 1:
            return [f"{left[0]} = {_fixed(text, level, fixes[0])}"]
        lines = [f"{', '.join(left)} = {text}"]
        return lines + [f"{n} = {_fixed(n, ATOM, f)}" for n, f in zip(left, fixes) if f]

    def _text(
        self, op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred, operands: Mapping[str, Any],
        dtypes: Mapping[str, str], symbols: Mapping[str, str],
    ) -> tuple[str, int]:  # fmt: skip
        """Return Python text of one call, given that of its operands, and its binding strength."""
        place = str(node.location or "")
        if "jax" in op.calls:
            return self._clause(op, node, inferred, operands, dtypes, symbols)
        if isinstance(op.body, Opaque):
            raise UsageError(f"has no meaning outside PyTorch: {op.body.reason}", subject=op.name, place=place)
        if isinstance(op.body, Random):
            raise UsageError("draws random numbers, expected them as arguments", subject=op.name, place=place)
        if isinstance(op.body, Hook):
            message = f"its meaning is the function {op.body.name} of the oracle, expected a jax clause"
            raise UsageError(message, subject=op.name, place=place)
        if isinstance(op.body, Expand):
            return self._expansion(op, node, types, operands), ATOM
        return self._body(op, node, types, inferred, operands, dtypes, symbols)

    def _clause(
        self, op: OpDef, node: Node, inferred: Inferred, operands: Mapping[str, Any], dtypes: Mapping[str, str],
        symbols: Mapping[str, str],
    ) -> tuple[str, int]:  # fmt: skip
        result = inferred.types[0].dtype if inferred.types else ""
        literals = [o.value for o in node.operands if isinstance(o, Literal)]
        half = isinstance(op.body, Scalar) and result in _HALF and op.name != "cast"
        if half and not all(_is_exact(v, result) for v in literals):
            # JAX rounds a number to the dtype of its partner first; PyTorch computes in single precision.
            operands = self._in_single(op, node, operands, dtypes)
        elif (op.name, result) in self.single:
            operands = self._in_single(op, node, operands, dtypes)
        clause = ClauseWriter(op, inferred, operands, symbols)
        written = clause.write(op.calls["jax"])
        for name in clause.functions:
            self.function(name)
        return written

    def _in_single(
        self, op: OpDef, node: Node, operands: Mapping[str, Any], dtypes: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the operands with arrays of half precision widened."""
        arrays = {p.name for p, o in zip(op.operands, node.operands) if isinstance(o, str) and dtypes[p.name] in _HALF}
        return {
            k: Text(f"({v}).astype(jnp.float32)" if level_of(v) < ATOM else f"{v}.astype(jnp.float32)")
            if k in arrays else v
            for k, v in operands.items()
        }  # fmt: skip

    def _expansion(self, op: OpDef, node: Node, types: Mapping[str, TensorType], operands: Mapping[str, Any]) -> str:
        """Return a call of a function that is the operator's expansion."""
        inputs: dict[str, Input] = {}
        arguments: list[str] = []

        def name(o: Operand, stem: str) -> Operand:
            if isinstance(o, tuple):
                return tuple(name(v, f"{stem}{i}") for i, v in enumerate(o))
            if not isinstance(o, str):
                return o
            inputs[stem] = Input(stem, types[o])
            return stem

        renamed = tuple(name(o, p.name) for p, o in zip(op.operands, node.operands))
        for p, o in zip(op.operands, node.operands):
            if isinstance(o, tuple):
                arguments += operands[p.name]
            elif isinstance(o, str):
                arguments.append(operands[p.name])
        results = tuple(p.name for p in op.results)
        taken = set(inputs)
        results = tuple(r if r not in taken else f"{r}_" for r in results)
        whole = Node(op.name, renamed, node.attrs, results, node.types, node.location)
        graph = Graph(op.name, tuple(inputs.values()), (whole,), results)
        graph = _short_names(expand_graph(graph, self.ops, keep=lambda n: n.op != op.name), results)
        lines = self.body(graph, self.scope(), set(), nested=True)
        parameters = ", ".join(clean_name(i.name) for i in graph.inputs)
        return f"{self.helper(op.name, parameters, op.doc, lines)}({', '.join(arguments)})"

    def _body(
        self, op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred,
        operands: Mapping[str, Any], dtypes: Mapping[str, str], symbols: Mapping[str, str],
    ) -> tuple[str, int]:  # fmt: skip
        """Return an expression for a scalar, reduce or index body, or a call of a function that is one."""
        body = op.body
        assert isinstance(body, (Scalar, Reduce, Index))
        results = inferred.types
        half = any(t.dtype in _HALF for t in results)
        exprs = [e for _, e in body.exprs] if isinstance(body, Scalar) else [body.expr]
        arrays = {
            p.name: types[o] for p, o in zip(op.operands, node.operands) if isinstance(o, str)
        }  # fmt: skip
        small = isinstance(body, Scalar) and sum(map(_operators, exprs)) <= _INLINE_OPERATORS and not half
        own = {k: v if small or k not in arrays else k for k, v in operands.items()}
        shapes = {k: t.shape for k, t in arrays.items()}
        known = {s: s for s in symbols} if not small else symbols
        writer = BodyWriter(inferred.env, own, shapes, dtypes, known)
        if isinstance(body, Scalar):
            codes = [as_code(writer.value(e)) for e in exprs]
        elif isinstance(body, Reduce):
            code = as_code(writer.value(body.expr))
            axes = evaluate(body.axes, inferred.env)
            axes = tuple(axes) if isinstance(axes, tuple) else (axes,)
            codes = [
                attrs.evolve(
                    code, text=_reduction(body.combiner, code.text, axes, results[0], shapes, known), level=ATOM
                )
            ]
        else:
            writer.bind_coordinates(body.coordinates, results[0].shape)
            codes = [as_code(writer.value(body.expr))]
        texts = [writer.use(c) for c in codes]
        if small:
            return (texts[0], codes[0].level) if len(texts) == 1 else (f"[{', '.join(texts)}]", ATOM)
        for needed in writer.helpers:
            self._define(needed, "padded")
        lines = []
        if half:
            lines += [f"{k} = {k}.astype(jnp.float32)" for k, t in arrays.items() if t.dtype in _HALF]
        lines += writer.lines
        last = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        lines.append(f"return {last}")
        parameters = [*arrays, *(s for s in symbols if any(re.search(rf"\b{s}\b", line) for line in lines))]
        given = [operands[k] for k in arrays] + [symbols[s] for s in parameters[len(arrays) :]]
        return f"{self.helper(op.name, ', '.join(parameters), op.doc, lines)}({', '.join(given)})", ATOM

    def scope(self, *taken: str) -> Scope:
        """Return a scope in which no value has the name of a function of the file."""
        return Scope(RESERVED | {*taken}, {n for n, op in self.ops.items() if "jax" not in op.calls} | JAX_FUNCTIONS)

    # -- helper functions ---------------------------------------------------------------------------------------------

    def helper(self, name: str, parameters: str, doc: str, lines: Sequence[str]) -> str:
        """Return the name of a function with these lines, made unless there is one already."""
        inside = "\n".join(f"    {line}" for line in lines)
        text = f'def {{name}}({parameters}):\n    """{doc}"""\n{inside}\n'
        if text not in self.helpers:
            stem, taken = clean_name(name), set(self.helpers.values())
            own, n = stem, 2
            while own in taken or own in RESERVED or keyword.iskeyword(own):
                own, n = f"{stem}_{n}", n + 1
            self.helpers[text] = own
            exec(text.replace("{name}", own, 1), self.namespace)
        return self.helpers[text]

    def function(self, name: str) -> None:
        """Make a function of :mod:`drt.backend.jax_functions`, and those that it calls, part of the file."""
        module = importlib.import_module(".jax_functions", __package__)
        text = _plain_source(module.FUNCTIONS[name])
        if text not in self.helpers:
            for other in module.FUNCTIONS:
                if other != name and re.search(rf"\b{other}\(", text):
                    self.function(other)
            self._define(text, name)

    def _define(self, text: str, name: str) -> None:
        if text not in self.helpers:
            self.helpers[text] = name
            exec(text, self.namespace)

    def functions(self) -> str:
        """Return the text of the functions, each before its first use."""
        return "\n\n".join(text.replace("{name}", name, 1) for text, name in self.helpers.items())

    # -- results as declared ------------------------------------------------------------------------------------------

    def _fixes(
        self, op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred, dtypes: Mapping[str, str],
        symbols: Mapping[str, str],
    ) -> list[str]:  # fmt: skip
        """Return, for each result, what follows the text so that dtype and shape are the declared ones.

        Found by tracing the text on arrays without content.
        """
        key = (op.name, repr(node.attrs), str([_shown(o, types) for o in node.operands]))
        if key in self.fixes:
            return self.fixes[key]
        jax = self.namespace["jax"]
        given: dict[str, Any] = {}

        def stand_in(o: Operand, dtype: str) -> Any:
            if isinstance(o, tuple):
                return tuple(stand_in(v, dtype) for v in o)
            if isinstance(o, Literal):
                return _literal_text(o, dtype, symbols)
            if o is None:
                return None
            t = types[o].substitute(dict(self.samples))
            name = f"operand_{len(given)}"
            given[name] = jax.ShapeDtypeStruct(t.shape, self.dtype(t.dtype))
            return name

        operands = {p.name: stand_in(o, dtypes[p.name]) for p, o in zip(op.operands, node.operands)}
        text, _ = self._text(op, node, types, inferred, operands, dtypes, symbols)
        sizes = {own: self.samples[s] for s, own in symbols.items()}
        try:
            with wide_numbers():
                found = jax.eval_shape(
                    eval(f"lambda {', '.join(given)}: {text}", self.namespace | sizes), *given.values()
                )
        except Exception as error:
            result = inferred.types[0].dtype
            if result in _HALF and "jax" in op.calls and (op.name, result) not in self.single:
                self.single.add((op.name, result))
                return self._fixes(op, node, types, inferred, dtypes, symbols)
            first = (str(error).splitlines() or [""])[0]
            raise InternalError(f"{op.name}: JAX refuses '{text}': {type(error).__name__}: {first}") from error
        fixes = []
        for v, t in zip(found if isinstance(found, (tuple, list)) else [found], inferred.types, strict=True):
            fix = ""
            if tuple(getattr(v, "shape", ())) != t.substitute(dict(self.samples)).shape:
                sizes_text = ", ".join(size_text(s, symbols) for s in t.shape)
                fix = f"jnp.broadcast_to({{}}, ({sizes_text},))"
            if getattr(v, "dtype", None) != self.dtype(t.dtype) or getattr(v, "weak_type", False):
                fix += f".astype({JAX_DTYPES[t.dtype]})"
            fixes.append(fix)
        self.fixes[key] = fixes
        return fixes

    def dtype(self, name: str) -> Any:
        """Return the dtype of JAX that an IR dtype is."""
        jnp = self.namespace["jnp"]
        return jnp.dtype(getattr(jnp, JAX_DTYPES[name].removeprefix("jnp.")))

    # -- whole programs -----------------------------------------------------------------------------------------------

    def body(self, graph: Graph, scope: Scope, params: set[str], nested: bool = False) -> list[str]:
        """Return the lines of a function: symbols, nodes, result.

        Args:
            graph: what it computes.
            scope: gets a name for every value.
            params: inputs that have their names already.
            nested: write what is read once inside what reads it, where the definition of a composite does so.
        """
        for i in graph.inputs:
            if i.name not in params:
                scope.add(i.name)
        symbols: dict[str, str] = {}
        lines = []
        for s, text in _symbol_texts(graph, scope.names).items():
            symbols[s] = scope.add(s)
            lines.append(f"{symbols[s]} = {text}")
        uses = Counter(name for node in graph.nodes for name in node.uses())
        uses.update(o for o in graph.outputs if isinstance(o, str))
        for node in graph.nodes:
            for r in node.results:
                scope.add(r)
            made = self.node(node, graph.types, scope.names, symbols)
            (result, *more) = node.results
            text, _, own = made[-1].partition(" = ")
            if nested and not more and uses[result] == 1 and re.search(r"_\d+$", result) and len(own) <= _NESTED_LENGTH:
                # The definition does not name this value either: it stands inside the expression that reads it.
                scope.names[result] = Text(own, self.level)
            else:
                lines += made
        texts = [_output_text(o, scope.names, symbols) for o in graph.outputs]
        result = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
        if graph.updates:
            targets = {i.name: i.target or i.name for i in graph.inputs}
            inside = ", ".join(f"{json.dumps(targets[u.target])}: {scope.names[u.value]}" for u in graph.updates)
            result = f"{result}, {{{inside}}}"
        return _returned([*lines, f"return {result}"])


def _returned(lines: list[str]) -> list[str]:
    """Return the lines with a last assignment that is returned at once left out."""
    match = re.fullmatch(r"(\w+) = (.*)", lines[-2]) if len(lines) > 1 else None
    if match and lines[-1] == f"return {match[1]}":
        return [*lines[:-2], f"return {match[2]}"]
    return lines


class Scope:
    """Distinct Python names for values.

    Args:
        taken: names that no value gets.
        stems: names that functions may have, with a number behind or without.
    """

    def __init__(self, taken: Iterable[str], stems: Iterable[str]) -> None:
        self.taken, self.stems = set(taken), frozenset(stems)
        self.names: dict[str, str] = {}

    def add(self, value: str) -> str:
        """Return a new name for a value."""
        name = clean_name(value)
        while name in self.taken or keyword.iskeyword(name) or re.sub(r"_\d+$", "", name) in self.stems:
            name += "_"
        self.taken.add(name)
        self.names[value] = name
        return name


def _fixed(text: str, level: int, fix: str) -> str:
    if "{}" in fix:
        return fix.replace("{}", text, 1)
    return f"({text}){fix}" if level < ATOM and fix else f"{text}{fix}"


def _plain_source(function: Callable[..., Any]) -> str:
    """Return the text of a function without annotations and marks for tools."""
    text = inspect.getsource(function).replace("  # fmt: skip", "")
    head, colon, rest = text.partition(':\n    """')
    head = re.sub(r"\s+", " ", re.sub(r": Any| -> Any", "", head)).replace("( ", "(").replace(" )", ")")
    return head + colon + rest


def _operators(e: ex.Expr) -> int:
    own = isinstance(e, (ex.Bin, ex.Unary, ex.Call))
    return own + sum(map(_operators, ex.children(e)))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?(\d[\w.+-]*|jnp\.(inf|nan)|True|False)", text) is not None


def _shown(o: Operand, types: Mapping[str, TensorType]) -> Any:
    return types[o] if isinstance(o, str) else tuple(_shown(v, types) for v in o) if isinstance(o, tuple) else o


def _operand_dtypes(op: OpDef, node: Node, types: Mapping[str, TensorType], inferred: Inferred) -> dict[str, str]:
    found: dict[str, str] = {}
    for p, o in zip(op.operands, node.operands):
        first = next(iter(flat((o,))), None)
        found[p.name] = types[first].dtype if isinstance(first, str) else inferred.env.get(p.dtype, p.dtype)
    return found


def _reduction(
    combiner: str, text: str, axes: Sequence[int], result: TensorType, shapes: Mapping[str, Any], symbols: Mapping[str, str]
) -> str:  # fmt: skip
    """Return the text of a reduction over axes of the broadcast operands."""
    rank = max((len(s) for s in shapes.values()), default=0)
    if combiner.startswith("arg"):
        kept = [a for a in range(rank) if a not in axes]
        if kept or rank != len(axes):
            if len(axes) != 1:
                raise Unsupported(f"{combiner} over {len(axes)} of {rank} axes")
            keep = ", keepdims=True" if result.rank == rank else ""
            return f"jnp.{combiner}({text}, axis={axes[0]}{keep})"
        keep = ", keepdims=True" if result.rank == rank and rank else ""
        return f"jnp.{combiner}({text}{keep})"
    keep = ", keepdims=True" if result.rank == rank and axes else ""
    return f"jnp.{combiner}({text}, axis={tuple(axes)}{keep})"


def _short_names(graph: Graph, results: Sequence[str]) -> Graph:
    """Return an expansion with the names that its definition gives: ``y_d`` becomes ``d`` where that is free."""
    taken = set(graph.types)
    renamed: dict[str, str] = {}
    for name in graph.types:
        short = name
        for r in results:
            short = short.removeprefix(f"{r}_")
        if short != name and short and not short[0].isdigit() and short not in taken and not keyword.iskeyword(short):
            taken.add(short)
            renamed[name] = short

    def new(o: Operand) -> Operand:
        return renamed.get(o, o) if isinstance(o, str) else tuple(map(new, o)) if isinstance(o, tuple) else o

    nodes = tuple(
        attrs.evolve(n, operands=tuple(map(new, n.operands)), results=tuple(renamed.get(r, r) for r in n.results))
        for n in graph.nodes
    )
    return attrs.evolve(graph, nodes=nodes, outputs=tuple(map(new, graph.outputs)))


def _output_text(o: Operand, names: Mapping[str, str], symbols: Mapping[str, str]) -> str:
    if isinstance(o, str):
        return names[o]
    if isinstance(o, Literal):
        return size_text(o.value, symbols) if isinstance(o.value, Size) else number_text(o.value)
    return "None" if o is None else f"[{', '.join(_output_text(v, names, symbols) for v in o)}]"


def _symbol_texts(graph: Graph, names: Mapping[str, str]) -> dict[str, str]:
    """Return symbol -> Python text that reads it off an input's shape; raises UsageError where none shows it."""
    found: dict[str, str] = {}
    wanted: dict[str, None] = {}
    for i in graph.inputs:
        for axis, size in enumerate(i.type.shape):
            for s in sorted(symbols_of(size), key=str):
                wanted[s.name] = None
                if str(size) == s.name:
                    found.setdefault(s.name, f"{names[i.name]}.shape[{axis}]")
    missing = [s for s in wanted if s not in found]
    if missing:
        raise UsageError(f"no input's size is the symbol {missing[0]}", subject=graph.name)
    return found
