"""What a source counts from call to call: how often it ran, and what it does by that, no number of runs can show.

Reads the syntax tree.  Three things keep a count: a container or an iterator at the top level of the file, or in a default
argument, that functions change; and an attribute of the model that a method other than the constructor changes by its own
value, and that a condition then asks for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_GROWING = {
    "append", "appendleft", "extend", "insert", "pop", "popleft", "popitem", "remove", "discard", "clear",
    "__setitem__", "__next__", "send",
}  # fmt: skip
_CONTAINERS = {"list", "dict", "set", "deque", "defaultdict", "Counter", "OrderedDict"}
#: What a tensor's type says.
_OF_TYPE = {
    "shape", "dtype", "device", "ndim", "is_cuda", "size", "dim", "stride", "numel", "is_contiguous", "requires_grad",
    "is_floating_point", "itemsize", "element_size",
}  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.Lambda)


def counters(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the reason for everything that counts calls."""
    kept = _assigned(tree.body)
    empty = {name for name, value in kept.items() if _is_empty(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _in_class(node)
        if not isinstance(node, _FUNCTIONS):
            continue
        arguments = node.args
        pairs = zip(arguments.args[len(arguments.args) - len(arguments.defaults) :], arguments.defaults, strict=True)
        defaults = {a.arg for a, d in pairs if _is_container(d)}
        defaults |= {
            a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d and _is_container(d)
        }
        body = node.body if isinstance(node.body, list) else [node.body]
        own = {a.arg for a in (*arguments.args, *arguments.kwonlyargs)} | _locals(body)
        yield from _in_function(body, (set(kept) - own) | defaults, (empty - own) | defaults)


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for statement in body:
        if isinstance(statement, ast.Assign):
            found.update({t.id: statement.value for t in statement.targets if isinstance(t, ast.Name)})
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            found[statement.target.id] = statement.value
    return found


def _locals(body: list[ast.stmt] | list[ast.expr]) -> set[str]:
    return {
        n.id for statement in body for n in ast.walk(statement)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }  # fmt: skip


def _is_empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return name in _CONTAINERS and (not value.args or name == "defaultdict")
    return (isinstance(value, ast.Dict) and not value.keys) or (
        isinstance(value, (ast.List, ast.Set)) and not value.elts
    )


def _is_container(value: ast.expr) -> bool:
    return isinstance(value, (ast.List, ast.Dict, ast.Set, ast.Call, ast.ListComp, ast.DictComp, ast.GeneratorExp))


def _changes(method: str) -> bool:
    """Whether a method changes the object that it is called on; those of tensors end in one underscore."""
    return method in _GROWING or (method.endswith("_") and not method.endswith("__"))


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))


def _in_function(body: list[ast.stmt] | list[ast.expr], kept: set[str], empty: set[str]) -> Iterator[tuple[int, str]]:
    for node in (n for statement in body for n in ast.walk(statement)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.AugAssign) and not isinstance(node.target, ast.Name) and _root(node.target) in kept:
            yield line, f"counts in {ast.unparse(node.target)}, which outlives the call"
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                name = _root(target)
                if isinstance(target, ast.Subscript) and name in kept and _mentions(node.value, name):
                    yield line, f"counts in {ast.unparse(target)}, which outlives the call"
        elif isinstance(node, ast.Call):
            called, first = node.func, node.args[0] if node.args else None
            grows = isinstance(called, ast.Attribute) and (
                _changes(called.attr) or (called.attr == "add" and _root(called.value) in empty)
            )
            if isinstance(called, ast.Attribute) and grows and _root(called.value) in kept:
                yield line, f"changes {ast.unparse(called.value)}, which outlives the call"
            elif isinstance(called, ast.Name) and first is not None:
                persistent = _root(first) in kept or (_root(first) == "self" and isinstance(first, ast.Attribute))
                if called.id == "next" and persistent:
                    yield line, f"takes the next of {ast.unparse(first)}, which outlives the call"
                elif called.id == "len" and _root(first) in empty:
                    yield line, f"counts what is in {ast.unparse(first)}, which outlives the call"


def _in_class(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    methods = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name != "__init__"]
    made = {
        ast.unparse(t): n.value for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"
        for n in ast.walk(s) if isinstance(n, ast.Assign) for t in n.targets
    }  # fmt: skip
    counted: dict[str, int] = {}
    for n in (n for m in methods for n in ast.walk(m)):
        if isinstance(n, ast.AugAssign) and _root(n.target) == "self":
            counted.setdefault(ast.unparse(n.target), n.lineno)
        elif isinstance(n, ast.Assign) and len(n.targets) == 1 and _root(n.targets[0]) == "self":
            name = ast.unparse(n.targets[0])
            if isinstance(n.targets[0], (ast.Attribute, ast.Subscript)) and any(
                ast.unparse(v) == name for v in ast.walk(n.value) if isinstance(v, ast.expr)
            ):
                counted.setdefault(name, n.lineno)
        elif isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and _root(n.func.value) == "self":
            if _changes(n.func.attr) and n.func.attr.endswith("_"):
                counted.setdefault(ast.unparse(n.func.value), n.lineno)
    for n in (n for m in methods for n in ast.walk(m)):
        for part in (p for place in _deciding(n) for p in _asked(place)):
            name = ast.unparse(part) if isinstance(part, (ast.Attribute, ast.Subscript)) else ""
            if name in counted:
                yield (
                    counted[name],
                    f"{name} changes by its own value from call to call, and line {part.lineno} asks for it",
                )
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "len" and n.args:
            name = ast.unparse(n.args[0])
            if name in made and _is_empty(made[name]):
                yield n.lineno, f"counts what is in {name}, which outlives the call"


def _asked(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the parts of an expression whose values count, not only their types."""
    if isinstance(node, ast.Attribute) and node.attr in _OF_TYPE:
        return
    if isinstance(node, ast.expr):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _asked(child)


def _deciding(node: ast.AST) -> list[ast.expr]:
    """Return the expressions of a node by which it decides: conditions, what is compared, and indices."""
    if isinstance(node, ast.Compare):
        return [] if any(isinstance(o, (ast.Is, ast.IsNot)) for o in node.ops) else [node]
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        return [] if isinstance(node.test, ast.Compare) else [node.test]
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return [node.slice]
    return []
