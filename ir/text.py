"""The text form of programs: a parser and the canonical printer; ``parse_graph(print_graph(g)) == g``."""

from __future__ import annotations

from typing import Any

from .arguments import checked
from .build import infer_under, require_conditions, verify_results
from .errors import ParseError, VerifyError
from .expr import literal_text, quote
from .graph import OPAQUE, Graph, Input, Literal, Node, Operand, Update
from .guards import Facts, Guard, any_of, relation
from .load import builtin_ops
from .opdef import Location, OpSet
from .size import Size, SizeLike, Symbol, compare, maximum, minimum, symbol
from .syntax import Builder, Token, inline, parse, unquote
from .typesys import DTYPES, TensorType

FORMAT_VERSION = 1
#: What the name of a file with a program's text ends with.
PROGRAM_SUFFIXES = (".ir", ".drt")
_WORDS: dict[str, Any] = {
    "True": True, "False": False, "None": None, "inf": float("inf"), "nan": float("nan"),
}  # fmt: skip


class _Word(str):
    """A bare word, not yet known to be a symbol or a string."""


class _Value(str):
    """The name of a value."""


@inline
class _Builder(Builder):
    # Lists stay lists, and sizes nested tuples ``(operator, a, b)`` until the symbols of the header are known.
    def integer(self, t: Token) -> Any:
        return int(t)

    def floating(self, t: Token) -> Any:
        return float(t)

    def word(self, t: Token) -> Any:
        return _Word(t)

    def size(self, items: list[Any]) -> Any:
        return self.climb(items)

    def _prefix(self, sign: Any, value: Any) -> Any:
        if isinstance(value, _Word) and value in ("inf", "nan"):
            value = float(value)
        return -value if isinstance(value, (int, float)) else ("neg", value)

    def _infix(self, a: Any, operator: str, b: Any) -> Any:
        return (operator, a, b)

    def extremum(self, name: Token, a: Any, b: Any) -> Any:
        return (str(name), a, b)

    def type(self, dtype: Token, sizes: list[Any] | None) -> tuple[Token, list[Any]]:
        return dtype, sizes or []

    def symbol(self, name: Token, lo: Token, hi: Token) -> Symbol:
        if name in _WORDS:
            raise self.error(name, f"'{name}' is a literal, expected another name for a symbol")
        if int(lo) > int(hi):
            raise self.error(name, f"symbol {name} in {lo}..{hi} has no value, expected {hi}..{lo}")
        return Symbol(str(name), int(lo), int(hi))

    def guard(self, *parts: Any) -> list[tuple[Any, str, Any]]:
        return [(parts[k], str(parts[k + 1]), parts[k + 2]) for k in range(0, len(parts), 3)]

    def guards(self, *items: Any) -> tuple[Any, ...]:
        return items

    def listed(self, *items: Symbol) -> tuple[Symbol, ...]:
        names = [s.name for s in items]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ParseError(f"symbol {twice} stands twice, expected once", place=self.file)
        return items

    def symbols(self, items: tuple[Symbol, ...], guards: tuple[Any, ...] | None) -> tuple[Any, ...]:
        return items, guards or ()

    def input(self, kind: Token | None, name: Token, type: Any, target: Token | None) -> tuple[Any, ...]:
        return str(kind or "input"), str(name[1:]), type, unquote(target) if target else "", name.line

    def inputs(self, *items: Any) -> tuple[Any, ...]:
        return tuple(i for i in items if i is not None)

    def value(self, t: Token) -> _Value:
        return _Value(t[1:])

    def update(self, target: Token, value: Token) -> Update:
        return Update(str(target[1:]), str(value[1:]))

    def updates(self, *items: Update) -> tuple[Update, ...]:
        return items

    def string(self, t: Token) -> str:
        return unquote(t)

    def list_(self, items: list[Any] | None) -> list[Any]:
        return items or []

    def attribute(self, name: Token, value: Any) -> tuple[str, Any]:
        return str(name), value

    def node(
        self, results: Any, op: Token, operands: Any, attributes: Any, types: Any, file: Any, line: Any
    ) -> tuple[Any, ...]:
        place = (unquote(file), int(line)) if file else None
        return results, str(op), operands or [], attributes or (), types, place

    def graph(self, name: Token, symbols: Any, inputs: Any, outputs: Any, updates: Any, *nodes: Any) -> tuple[Any, ...]:
        return name, *(symbols or ((), ())), inputs or (), outputs or [], updates or (), nodes

    def start(self, version: Token | None, graph: Any) -> Any:
        if version is not None and int(version) != FORMAT_VERSION:
            raise self.error(version, f"format version {version}, expected {FORMAT_VERSION}")
        return graph


class _Resolver:
    def __init__(self, file: str, symbols: tuple[Symbol, ...]) -> None:
        self.file = file
        self.symbols = {s.name: symbol(s.name, s.lo, s.hi) for s in symbols}

    def size(self, raw: Any, line: int) -> SizeLike:
        if isinstance(raw, int):
            return raw
        if isinstance(raw, float):
            raise ParseError(f"size {raw}, expected an integer", place=f"{self.file}:{line}")
        if isinstance(raw, _Word):
            if raw not in self.symbols:
                known = ", ".join(self.symbols) or "none is declared"
                raise ParseError(f"unknown size '{raw}', expected an integer or a symbol ({known})",
                                 place=f"{self.file}:{line}")  # fmt: skip
            return self.symbols[raw]
        op, *rest = raw
        a, *b = (self.size(r, line) for r in rest)
        if op in ("//", "%") and b == [0]:
            raise ParseError("a size is divided by zero", place=f"{self.file}:{line}")
        match op:
            case "neg":
                return a * -1
            case "+":
                return a + b[0]
            case "-":
                return a - b[0]
            case "*":
                return a * b[0]
            case "//":
                return a // b[0]
            case "%":
                return a % b[0]
            case "min":
                return minimum(a, b[0])
            case "max":
                return maximum(a, b[0])
        raise ParseError(f"unknown function '{op}' of sizes, expected min or max", place=f"{self.file}:{line}")

    def guard(self, raw: list[tuple[Any, str, Any]], line: int) -> Guard | None:
        """Return a guard; None where it always holds."""
        sides = [(self.size(a, line), op, self.size(b, line)) for a, op, b in raw]
        made = any_of(relation(op, a, b) for a, op, b in sides)
        if made is False:
            text = " or ".join(f"{a} {op} {b}" for a, op, b in sides)
            raise ParseError(
                f"guard {text} holds for no sizes, expected one that can hold", place=f"{self.file}:{line}"
            )
        return made if isinstance(made, Guard) else None

    def type(self, raw: Any) -> TensorType:
        dtype, sizes = raw
        if dtype not in DTYPES:
            raise ParseError(f"unknown dtype '{dtype}', expected one of {', '.join(DTYPES)}",
                             place=f"{self.file}:{dtype.line}:{dtype.column}")  # fmt: skip
        shape = tuple(self.size(s, dtype.line) for s in sizes)
        for s in shape:
            if compare("<", s, 0) is True:
                raise ParseError(f"size {s}, expected at least 0", place=f"{self.file}:{dtype.line}:{dtype.column}")
        return TensorType(str(dtype), shape)

    def operands(self, raw: list[Any], line: int) -> tuple[Operand, ...]:
        return tuple(self._operand(r, line) for r in raw)

    def _operand(self, raw: Any, line: int) -> Operand:
        if isinstance(raw, _Value):
            return str(raw)
        if isinstance(raw, list):
            return self.operands(raw, line)
        if isinstance(raw, _Word) and raw not in self.symbols:
            if raw not in _WORDS:
                raise ParseError(f"'{raw}' is no operand, expected a value such as %{raw}, a number or None",
                                 place=f"{self.file}:{line}")  # fmt: skip
            return None if raw == "None" else Literal(_WORDS[raw])
        return Literal(raw if isinstance(raw, (int, float)) else self.size(raw, line))

    def attribute(self, raw: Any, line: int) -> Any:
        if isinstance(raw, list):
            return tuple(self.attribute(r, line) for r in raw)
        if isinstance(raw, tuple):
            return self.size(raw, line)
        if isinstance(raw, _Word):
            return self.symbols[raw] if raw in self.symbols else _WORDS.get(raw, str(raw))
        return raw


@checked
def parse_graph(text: str, file: str = "<text>", ops: OpSet | None = None) -> Graph:
    """Parse and check a program.

    Args:
        text: the program, with or without the ``drt 1`` header.
        file: for messages.
        ops: the operators it may use.

    Raises:
        ParseError: the text is not in the grammar.
        VerifyError: the program breaks a rule; the place is the line of the offending node.
    """
    ops = builtin_ops() if ops is None else ops
    name, symbols, raw_guards, raw_inputs, raw_outputs, updates, raw_nodes = parse("graph", _Builder, text, file)
    resolver = _Resolver(file, symbols)
    stated_guards = (resolver.guard(raw, name.line) for raw in raw_guards)
    guards = tuple(dict.fromkeys(g for g in stated_guards if g is not None))
    facts = Facts(guards)
    lines = text.splitlines()

    def place(error: VerifyError, line: int) -> VerifyError:
        error.at(f"{file}:{line}", f"    {lines[line - 1].strip()}")
        return error

    inputs: list[Input] = []
    types: dict[str, TensorType] = {}
    for kind, value, raw_type, target, line in raw_inputs:
        if value in types:
            raise place(VerifyError(f"%{value} is defined twice", label="ssa"), line)
        types[str(value)] = resolver.type(raw_type)
        inputs.append(Input(str(value), types[value], kind, target))
    nodes: list[Node] = []
    for results, op, raw_operands, raw_attributes, raw_types, location in raw_nodes:
        line = results[0].line
        operands = resolver.operands(raw_operands, line)
        stated = tuple(map(resolver.type, raw_types))
        attributes = tuple((k, resolver.attribute(v, line)) for k, v in raw_attributes)
        twice = [k for i, (k, _) in enumerate(attributes) if k in dict(attributes[:i])]
        if twice:
            raise ParseError(f"attribute {twice[0]} stands twice, expected once", place=f"{file}:{line}")
        names = tuple(str(r[1:]) for r in results)
        where = Location(*location) if location else Location(file, line)
        node = Node(str(op), operands, attributes, names, stated, where)
        try:
            if node.op != OPAQUE:
                inferred = infer_under(node, types, ops, facts)
                require_conditions(inferred, node.op, facts)
                padded = operands + (None,) * (len(ops[node.op].operands) - len(operands))
                node = Node(node.op, padded, inferred.attributes, names, stated, where)
                got = inferred.types
            else:
                node = Node(node.op, operands, tuple(sorted(attributes)), names, stated, where)
                got = stated
            if len(got) != len(names) or len(stated) != len(names):
                raise VerifyError(f"{op} gives {len(got)} results, {len(names)} named with {len(stated)} types",
                                  label="results")  # fmt: skip
            for n, g, s in zip(names, got, stated, strict=True):
                if n in types:
                    raise VerifyError(f"%{n} is defined twice", label="ssa")
                if g != s:
                    raise VerifyError(f"%{n} is annotated {s} but {op} gives {g}", label="type")
                types[n] = s
        except VerifyError as error:
            raise place(error, line) from None
        nodes.append(node)
    outputs = resolver.operands(raw_outputs, name.line)
    graph = Graph(str(name), tuple(inputs), tuple(nodes), outputs, updates, symbols, guards)
    try:
        verify_results(graph, types)
    except VerifyError as error:
        raise place(error, name.line) from None
    return graph


# -- printing -------------------------------------------------------------------------------------------------------


def operand_text(o: Operand) -> str:
    """Return an operand as the text form writes it."""
    if isinstance(o, str):
        return f"%{o}"
    if isinstance(o, tuple):
        return f"[{', '.join(map(operand_text, o))}]"
    return str(o)


def attr_text(v: Any, symbols: frozenset[str] = frozenset()) -> str:
    """Return an attribute value as the text form writes it; a string that reads as one of ``symbols`` is quoted."""
    if isinstance(v, tuple):
        return f"[{', '.join(attr_text(i, symbols) for i in v)}]"
    if isinstance(v, str):
        return quote(v) if v in _WORDS or v in symbols else literal_text(v)
    if isinstance(v, Size):
        return str(v)
    return repr(v)


def _input_text(i: Input) -> str:
    kind = "" if i.kind == "input" else f"{i.kind} "
    target = f" @{quote(i.target)}" if i.target else ""
    return f"{kind}%{i.name}: {i.type}{target}"


def node_text(node: Node, symbols: frozenset[str] = frozenset()) -> tuple[str, str]:
    """Return the left part of a node's line and its types; ``symbols`` are the names of the graph's symbols."""
    operands = list(node.operands)
    while operands and operands[-1] is None:
        operands.pop()
    text = f"{', '.join(f'%{r}' for r in node.results)} = {node.op}({', '.join(map(operand_text, operands))})"
    if node.attrs:
        text += " {" + ", ".join(f"{k} = {attr_text(v, symbols)}" for k, v in node.attrs) + "}"
    return text, ", ".join(map(str, node.types))


@checked
def print_graph(graph: Graph, locations: bool = False) -> str:
    """Return the canonical text of a program.

    Args:
        graph: any valid graph.
        locations: also print where each node comes from; not part of the canonical text.
    """
    symbols = ", ".join(f"{s.name} in {s.lo}..{s.hi}" for s in graph.symbols)
    if graph.guards:
        symbols += f" where {', '.join(map(str, graph.guards))}"
    updates = "; " + ", ".join(f"%{u.target} = %{u.value}" for u in graph.updates) if graph.updates else ""
    one_line = ", ".join(map(_input_text, graph.inputs))
    head = f"graph {graph.name}{f'<{symbols}>' if symbols else ''}("
    tail = f") -> ({', '.join(map(operand_text, graph.outputs))}{updates}) {{"
    if len(head) + len(one_line) + len(tail) <= 120:
        rows = [head + one_line + tail]
    else:
        rows = [head, *(f"    {_input_text(i)}," for i in graph.inputs), tail]
    names = frozenset(s.name for s in graph.symbols)
    bodies = [node_text(n, names) for n in graph.nodes]
    width = min(max((len(left) for left, _ in bodies), default=0), 88)
    for node, (left, types) in zip(graph.nodes, bodies, strict=True):
        place = ""
        if locations and node.location:
            place = f" @{quote(node.location.file)}:{node.location.line}"
        rows.append(f"  {left:<{width}} : {types}{place}")
    return "\n".join([f"drt {FORMAT_VERSION}", *rows, "}", ""])
