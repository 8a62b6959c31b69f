"""What the two grammars share: reading text by LALR tables, operator precedence, and complaints with a caret.

A grammar file (``grammar/<name>.lark``) says the structure; Lark turns it into tables, and :class:`_Machine` runs them and
builds values directly, without a tree.  Two things are not said in the grammars, because saying them there makes reading
several times slower: words are told from keywords by what can stand where they do, and infix operators arrive as one flat
list that :meth:`Builder.climb` arranges by the binding strengths of :data:`drt.ir.expr.PRECEDENCE`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, TypeVar, Union

from lark import Lark
from lark.lexer import Lexer
from lark.parsers.lalr_analysis import Shift

from .errors import ParseError
from .expr import PRECEDENCE

GRAMMAR_DIR = Path(__file__).parent / "grammar"

#: What a person types for each terminal that is not spelled as itself.
TERMINAL_NAMES = {
    "NAME": "a name", "DOTTED": "a dotted name", "INT": "an integer", "FLOAT": "a number",
    "STRING": "a string in double quotes", "VALUE": "a value such as %x", "INFIX": "an operator",
    "PREFIX": "'-' or 'not'", "MARK": "'?' or '*'", "OPTIONAL": "'?'", "APPROXIMATE": "'approximate'", "KIND": "a kind",
    "ORDER": "'ascending' or 'anchored'",
    "OFKIND": "'axis' or 'axes'", "RELATION": "'==', '!=', '<=' or '>='", "$END": "the end of the file",
}  # fmt: skip

#: Blanks and comments, then one lexeme: a word, a number, a string, a value name, or a sign.
_LEXEME = re.compile(
    r"""(?:[ \t\r\n]+|\#[^\n]*)*
    ( [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*
    | [0-9]+(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)?
    | "(?:\\.|[^"\\])*"
    | %[A-Za-z_0-9.]+
    | \*\*|//|->|=>|==|!=|<=|>=|\.\.|[-+*/%<>=(){}\[\],;:|?@]
    )?""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)

T = TypeVar("T")


class Token(str):
    """A lexeme with its terminal and its place; lines and columns start at 1."""

    __slots__ = ("type", "line", "column")
    type: str
    line: int
    column: int


class FoldHead(tuple[str, Any]):
    """The head of a fold: its combiner and ranges; a prefix of the body."""


class Builder(ABC):
    """Base of the values' builders: one method per rule of the grammar, called with the rule's children.

    Attributes:
        file: the name of the text being read, for locations and messages.
        text: the text being read.
    """

    file = "<text>"
    text = ""

    def error(self, token: Token, message: str, subject: str = "") -> ParseError:
        """Return an error placed at a token, with its line and a caret."""
        place = f"{self.file}:{token.line}:{token.column}"
        return ParseError(message, place=place, subject=subject, context=_caret(self.text, token.line, token.column))

    def one(self, children: list[Any]) -> list[Any]:
        """Begin a list; lists are left-recursive in the grammars, so that they grow in place."""
        return children

    def another(self, children: list[Any]) -> list[Any]:
        """Append to a list."""
        children[0].append(children[1])
        return children[0]  # type: ignore[no-any-return]

    def first(self, children: list[Any]) -> list[Any]:
        """Begin a chain: the flat list operand, operator, operand, ..., in which prefixes may stand before operands."""
        return children[0] if isinstance(children[0], list) else children

    def more(self, children: list[Any]) -> list[Any]:
        """Append an operator and an operand to a chain."""
        chain, operator, operand = children
        chain.append(operator)
        chain.extend(operand) if isinstance(operand, list) else chain.append(operand)
        return chain  # type: ignore[no-any-return]

    def prefixed(self, children: list[Any]) -> list[Any]:
        """Put a prefix before an operand."""
        sign, operand = children
        return [sign, *operand] if isinstance(operand, list) else children

    @abstractmethod
    def _prefix(self, sign: Any, value: Any) -> Any:
        """Return the value of a prefix (a token or the head of a fold) and what it applies to."""

    @abstractmethod
    def _infix(self, a: Any, operator: str, b: Any) -> Any:
        """Return the value of an operator between two values."""

    def climb(self, items: Sequence[Any]) -> Any:
        """Return the value of a chain, arranged by binding strength.

        Args:
            items: operands, operator tokens between them, and before an operand any number of prefixes: the tokens ``-``
                and ``not``, and heads of folds.

        Raises:
            ParseError: comparisons in a row, or a prefix that binds less than the operator before it.
        """
        at = 0

        def operand(level: int) -> Any:
            nonlocal at
            item = items[at]
            at += 1
            if isinstance(item, FoldHead):
                strength = PRECEDENCE["*"]
            elif type(item) is Token:
                strength = PRECEDENCE["neg" if item == "-" else "not"]
            else:
                return item
            if strength < level:
                before = items[at - 2]
                what = f"'{item}'" if type(item) is Token else "a reduction"
                message = f"{what} binds less than the '{before}' before it, expected parentheses"
                raise self.error(before, message)
            return self._prefix(item, chain(strength))

        def chain(level: int) -> Any:
            nonlocal at
            value = operand(level)
            while at < len(items):
                operator = items[at]
                strength = PRECEDENCE[operator]
                if strength < level:
                    break
                at += 1
                # A power binds to the right, and its exponent may be negative.
                right = chain(PRECEDENCE["neg"] if operator == "**" else strength + 1)
                value = self._infix(value, str(operator), right)
                if strength == PRECEDENCE["=="] and at < len(items) and PRECEDENCE[items[at]] == strength:
                    message = f"'{operator}' and '{items[at]}' in a row, expected 'and' between comparisons"
                    raise self.error(items[at], message)
            return value

        return items[0] if len(items) == 1 else chain(0)


def inline(cls: type[T]) -> type[T]:
    """Make the methods of a builder take a rule's children as separate arguments."""

    def spread(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, children: f(self, *children)

    for name, f in list(vars(cls).items()):
        if callable(f) and not name.startswith("_"):
            setattr(cls, name, spread(f))
    return cls


class _NoLexer(Lexer):
    """Stands where Lark wants a lexer; :class:`_Machine` has its own."""

    def __init__(self, lexer_conf: Any) -> None:
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Iterator[Any]:
        """Yield nothing."""
        yield from ()


#: Where a state goes: to the state after a shift, or (builder's method, number of children, rule) for a reduction.
_Action: TypeAlias = Union[int, tuple[Callable[[list[Any]], Any], int, str]]


class _Machine:
    """Runs the LALR tables that Lark makes of a grammar; the builder's methods give the values of its rules."""

    def __init__(self, grammar: str, builder: Builder) -> None:
        text = (GRAMMAR_DIR / f"{grammar}.lark").read_text()
        lark = Lark(text, parser="lalr", lexer=_NoLexer, maybe_placeholders=True, transformer=builder)
        table, methods = lark.parser.parser._parse_table, lark.parser.parser_conf.callbacks  # type: ignore[union-attr]
        self.builder = builder
        self.lock = Lock()
        self.start, self.end = table.start_states["start"], table.end_states["start"]
        self.actions: dict[int, dict[str, _Action]] = {
            state: {
                name: arg if action is Shift else (methods[arg], len(arg.expansion), str(arg.origin.name))
                for name, (action, arg) in row.items()
            }
            for state, row in table.states.items()
        }
        # The most general pattern stands last, so that a keyword wins where both fit.
        terminals = sorted(lark.terminals, key=lambda t: (t.name == "NAME", t.pattern.type != "str", t.name))
        self.patterns = [(t.name, re.compile(t.pattern.to_regexp(), re.ASCII | re.DOTALL)) for t in terminals]
        self.spelling = {t.name: repr(t.pattern.value) for t in terminals if t.pattern.type == "str"} | TERMINAL_NAMES
        self.known: dict[str, tuple[str, ...]] = {}

    def types(self, lexeme: str) -> tuple[str, ...]:
        """Return the terminals that ``lexeme`` may be."""
        found = self.known.get(lexeme)
        if found is None:
            found = tuple(name for name, pattern in self.patterns if pattern.fullmatch(lexeme))
            self.known[lexeme] = found
        return found

    def run(self, text: str, file: str) -> Any:
        """Return the value of ``text``; see :func:`parse`."""
        stack: list[int] = [self.start]
        values: list[Any] = []
        position, line, line_start = 0, 1, 0
        match, known, actions = _LEXEME.match, self.known, self.actions
        while True:
            found = match(text, position)
            assert found is not None
            lexeme = found[1]
            start = found.end() if lexeme is None else found.start(1)
            if start > position:
                newlines = text.count("\n", position, start)
                if newlines:
                    line += newlines
                    line_start = text.rfind("\n", position, start) + 1
            row = actions[stack[-1]]
            if lexeme is None:
                if start < len(text):
                    raise self._complaint(stack, text, file, start, line, repr(text[start]))
                type = "$END"
            else:
                types = known.get(lexeme) or self.types(lexeme)
                type = next((t for t in types if t in row), "")
                if not type and lexeme[0] == "%":  # a remainder written without a blank after it
                    lexeme = "%"
                    type = next((t for t in self.types(lexeme) if t in row), "")
            action = row.get(type)
            while isinstance(action, tuple):
                method, size, origin = action
                if size:
                    children = values[-size:]
                    del values[-size:], stack[-size:]
                else:
                    children = []
                values.append(method(children))
                stack.append(actions[stack[-1]][origin])  # type: ignore[arg-type]
                if type == "$END" and stack[-1] == self.end:
                    return values[-1]
                action = actions[stack[-1]].get(type)
            if action is None:
                shown = "the end of the file" if lexeme is None else repr(lexeme)
                raise self._complaint(stack, text, file, start, line, shown)
            token = Token(lexeme)
            token.type, token.line, token.column = type, line, start - line_start + 1
            stack.append(action)
            values.append(token)
            position = start + len(token)
            if "\n" in token:
                line += token.count("\n")
                line_start = start + token.rfind("\n") + 1

    def _accepts(self, stack: list[int], type: str) -> bool:
        """Return whether the parser could go on with a terminal; reductions alone do not consume it."""
        stack = list(stack)
        action = self.actions[stack[-1]].get(type)
        while isinstance(action, tuple):
            _, size, origin = action
            if size:
                del stack[-size:]
            stack.append(self.actions[stack[-1]][origin])  # type: ignore[arg-type]
            if stack[-1] == self.end:
                return type == "$END"
            action = self.actions[stack[-1]].get(type)
        return action is not None

    def _complaint(self, stack: list[int], text: str, file: str, start: int, line: int, found: str) -> ParseError:
        column = start - text.rfind("\n", 0, start)
        context = _caret(text, line, column) if start < len(text) else ""
        terminals = [t for t in self.actions[stack[-1]] if t.isupper() or t == "$END"]
        names = sorted({self.spelling.get(t, t) for t in terminals if self._accepts(stack, t)})
        return ParseError(f"found {found}, expected {_either(names)}", place=f"{file}:{line}:{column}", context=context)


@cache
def _machine(grammar: str, builder: Callable[[], Builder]) -> _Machine:
    return _Machine(grammar, builder())


def parse(grammar: str, builder: Callable[[], Builder], text: str, file: str) -> Any:
    """Parse ``text`` and build its value.

    Args:
        grammar: the stem of a grammar file.
        builder: makes the object whose methods build the values of its rules; called once per grammar.
        text: what to read.
        file: its name, for messages and locations.

    Raises:
        ParseError: with ``file:line:column``, what was found and what was expected, and the line with a caret.
    """
    machine = _machine(grammar, builder)
    with machine.lock:
        machine.builder.file, machine.builder.text = file, text
        return machine.run(text, file)


def _caret(text: str, line: int, column: int) -> str:
    row = text.split("\n")[line - 1]
    return f"    {row}\n    {' ' * (column - 1)}^"


def _either(names: list[str]) -> str:
    if len(names) > 8:
        names = [*names[:8], "..."]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def unquote(token: str) -> str:
    """Return the text of a quoted string token; :func:`drt.ir.expr.quote` is its inverse."""
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), token[1:-1], flags=re.DOTALL)
