"""Mutants of right kernels: one small change each, of the kinds that people and models make.

A mutant changes one place in a kernel or in its launcher.  Tile sizes, numbers of warps and the order of a commutative
function are left alone: another value there is another right kernel, not a wrong one.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator

import attrs

from .kernels import Kernel

#: Kind of a mutant -> what it changes.
MUTANT_KINDS = {
    "arithmetic": "an operator becomes another: + - * / // %",
    "dropped_term": "a + b becomes a, or b; a * b likewise",
    "swapped_operands": "a - b becomes b - a; likewise /, //, % and the branches of where",
    "comparison": "< becomes <=, >=, and so on",
    "mask": "a mask, or one of the conditions joined in it, is dropped, or joined by | instead of &",
    "other": "other= is dropped or changed",
    "constant": "a number is a little off, or has the other sign",
    "index": "an integer in an index is off by one",
    "bounds": "a range begins or ends one step early or late, or has another step",
    "names": "one size, stride or pointer stands where another belongs",
    "function": "a function becomes a similar one",
    "axis": "a reduction goes over, or a block is laid along, the other axis",
    "precision": "a value is rounded to bfloat16, an accumulator has fewer bits, a product is in TF32",
    "loop_carried": "an accumulation becomes an assignment, or what is carried is not updated",
    "atomic": "an atomic update becomes a store, or another update",
    "statement": "a statement is missing",
    "launch": "the grid, or what is passed or allocated, is another",
}

_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mod,),
    ast.Mod: (ast.FloorDiv,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
}  # fmt: skip
_FUNCTIONS = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "exp": "exp2", "exp2": "exp", "sum": "max",
    "rsqrt": "sqrt", "sqrt": "rsqrt", "log": "log2", "erf": "sigmoid", "sigmoid": "exp", "tanh": "sin", "log1p": "log",
    "abs": "sqrt", "cdiv": "div_rn", "cumsum": "cumprod", "zeros": "ones", "zeros_like": "empty_like", "trans": "abs",
}  # fmt: skip
_COMMUTATIVE = {"maximum", "minimum", "f_plus", "f_times"}
_UPDATES = {"atomic_add": ("store", "atomic_max", "atomic_xchg")}
_META = {"num_warps", "num_stages", "num_ctas", "dtype", "device"}


@attrs.frozen
class Mutant:
    """One mutant.

    Attributes:
        kernel: what it was made of.
        kind: of ``MUTANT_KINDS``.
        line: of the change, in the kernel's own source.
        before, after: the changed expression or statement.
        source: the whole mutated source.
    """

    kernel: Kernel = attrs.field(repr=False)
    kind: str
    line: int
    before: str
    after: str
    source: str = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """A stable name: kernel, line and change."""
        return f"{self.kernel.name}:{self.line}: {self.before} -> {self.after}"


_Change = tuple[str, Callable[[ast.AST], "ast.AST | None"]]


def _operator(op: type[ast.operator]) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, (ast.BinOp, ast.AugAssign))
        node.op = op()
        return node

    return change


def _keep(field: str) -> Callable[[ast.AST], ast.AST]:
    return lambda node: getattr(node, field)


def _swap(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.BinOp):
        node.left, node.right = node.right, node.left
    elif isinstance(node, ast.Call):
        node.args[-1], node.args[-2] = node.args[-2], node.args[-1]
    return node


def _compare(op: type[ast.cmpop]) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Compare)
        node.ops = [op()]
        return node

    return change


def _value(value: object) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Constant)
        node.value = value  # type: ignore[assignment]
        return node

    return change


def _name(name: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Attribute):
            node.attr = name
        elif isinstance(node, ast.Name):
            node.id = name
        return node

    return change


def _call_name(name: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        _name(name)(node.func)
        return node

    return change


def _without(keyword: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.keywords = [k for k in node.keywords if k.arg != keyword]
        return node

    return change


def _keyword(keyword: str, text: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.keywords = [k for k in node.keywords if k.arg != keyword]
        node.keywords.append(ast.keyword(keyword, ast.parse(text, mode="eval").body))
        return node

    return change


def _wrapped(pattern: str) -> Callable[[ast.AST], ast.AST]:
    """Return a change that puts the expression where ``_`` stands in ``pattern``."""

    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.expr)
        text = pattern.replace("_", f"({ast.unparse(node)})", 1)
        return ast.parse(text, mode="eval").body

    return change


def _argument(index: int, pattern: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.args[index] = _wrapped(pattern)(node.args[index])  # type: ignore[assignment]
        return node

    return change


def _augment_to_assign(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.AugAssign)
    return ast.Assign(targets=[node.target], value=node.value)


def _first_arguments(n: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.args = node.args[:n]
        return node

    return change


def _axis_of(expr: ast.expr) -> int | None:
    return expr.value if isinstance(expr, ast.Constant) and expr.value in (0, 1) and expr.value is not True else None


def _transposed_index(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)
    node.slice.elts = node.slice.elts[::-1]
    return node


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class _Finder:
    """Collects the changes that one function of a source admits.

    Args:
        narrow: the program's values have 16 bits: PyTorch itself rounds to these between any two operators.
    """

    def __init__(self, function: ast.FunctionDef, is_kernel: bool, narrow: bool) -> None:
        self.function, self.is_kernel, self.narrow = function, is_kernel, narrow
        arguments = [a.arg for a in function.args.args]
        constants = {a.arg for a in function.args.args if a.annotation is not None}
        stored = {
            n.id
            for c in ast.walk(function) if isinstance(c, ast.Call) and _called(c) in ("load", "store", "atomic_add") and c.args
            for n in ast.walk(c.args[0]) if isinstance(n, ast.Name)
        }  # fmt: skip
        self.pointers = [a for a in arguments if a in stored and a.islower() and a not in constants]
        self.sizes = [a for a in arguments if a not in self.pointers and a not in constants]
        self.indexing: set[int] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _called(node) in ("load", "store", "atomic_add") and node.args:
                self.indexing |= {id(n) for n in ast.walk(node.args[0])}

    def changes(self, node: ast.AST) -> Iterator[_Change]:
        """Yield the changes at one node."""
        match node:
            case ast.BinOp(op=op):
                for other in _ARITHMETIC.get(type(op), ()):
                    yield "arithmetic", _operator(other)
                if isinstance(op, (ast.Add, ast.Mult)):
                    yield "dropped_term", _keep("left")
                    yield "dropped_term", _keep("right")
                elif isinstance(op, (ast.Sub, ast.Div)):
                    yield "dropped_term", _keep("left")
                    yield "swapped_operands", _swap
                elif isinstance(op, (ast.FloorDiv, ast.Mod)):
                    yield "dropped_term", _keep("left")
                elif isinstance(op, ast.BitAnd):
                    yield "mask", _keep("left")
                    yield "mask", _keep("right")
                    yield "mask", _operator(ast.BitOr)
            case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
                yield "dropped_term", _keep("operand")
            case ast.Compare(ops=[op]):
                for other_op in _COMPARISONS.get(type(op), ()):
                    yield "comparison", _compare(other_op)
            case ast.Constant(value=bool() | None | str()):
                return
            case ast.Constant(value=float(v)):
                yield "constant", _value(v * 1.01 if v else 1e-3)
                yield "constant", _value(v * 1.001 if v else -1.0)
                if v:
                    yield "constant", _value(-v)
            case ast.Constant(value=int(v)):
                kind = "index" if id(node) in self.indexing else "constant"
                yield kind, _value(v + 1)
                if v > 0:
                    yield kind, _value(v - 1)
            case ast.Call():
                yield from self._call(node)
            case ast.Subscript(slice=ast.Tuple(elts=[a, b])) if self.is_kernel and isinstance(
                b if isinstance(a, ast.Slice) else a, ast.Constant
            ):
                yield "axis", _transposed_index
            case ast.AugAssign():
                yield "loop_carried", _augment_to_assign
            case ast.Name(id=name, ctx=ast.Load()) if self.is_kernel:
                for group in (self.pointers, self.sizes):
                    if name in group:
                        for other_name in group:
                            if other_name != name:
                                yield "names", _name(other_name)

    def _call(self, node: ast.Call) -> Iterator[_Change]:
        name = _called(node)
        keywords = {k.arg: k.value for k in node.keywords}
        if name in ("load", "store", "atomic_add") and self.is_kernel:
            if "mask" in keywords:
                yield "mask", _without("mask")
            if name == "store" and len(node.args) > 1 and not self.narrow:
                yield "precision", _argument(1, "_.to(tl.bfloat16)")
            if "other" in keywords:
                yield "other", _without("other")
                text = ast.unparse(keywords["other"])
                for value in ("0.0", "1.0", "-float('inf')") if "inf" in text or "." in text else ("1",):
                    if value.replace("'", '"') != text.replace("'", '"'):
                        yield "other", _keyword("other", value)
        for other in _UPDATES.get(name, ()):
            yield "atomic", _call_name(other)
        if name in _FUNCTIONS and name not in ("cdiv", "trans"):
            yield "function", _call_name(_FUNCTIONS[name])
        if name == "trans":
            yield "function", lambda n: n.args[0]  # type: ignore[attr-defined]
        if name == "cdiv":
            yield "launch" if not self.is_kernel else "bounds", _wrapped_division
        if name == "next_power_of_2":
            yield "launch", _wrapped("_ // 2")
        if name == "where" and len(node.args) == 3:
            yield "swapped_operands", _swap
            yield "dropped_term", lambda n: n.args[1]  # type: ignore[attr-defined]
            yield "dropped_term", lambda n: n.args[2]  # type: ignore[attr-defined]
        if name == "program_id" and _axis_of(node.args[0]) is not None:
            yield "axis", _argument(0, "1 - _")
        if name in ("sum", "max", "min", "cumsum", "reduce", "associative_scan") and self.is_kernel:
            if "axis" in keywords and _axis_of(keywords["axis"]) is not None:
                yield "axis", _keyword("axis", f"1 - {ast.unparse(keywords['axis'])}")
            elif len(node.args) > 1 and _axis_of(node.args[1]) is not None:
                yield "axis", _argument(1, "1 - _")
        if name == "dot":
            if len(node.args) > 2:
                yield "loop_carried", _first_arguments(2)
            if "input_precision" in keywords and ast.unparse(keywords["input_precision"]) == "'ieee'":
                yield "precision", _keyword("input_precision", "'tf32'")
            yield "precision", _argument(0, "_.to(tl.float16).to(tl.float32)")
        if name in ("zeros", "full") and self.is_kernel:
            yield "precision", _wrapped("_.to(tl.float16)")
        if name == "range":
            n = len(node.args)
            if n == 3:
                yield "bounds", _argument(0, "_ + " + ast.unparse(node.args[2]))
                yield "bounds", _argument(1, "_ - 1")
                yield "bounds", _argument(1, "_ - " + ast.unparse(node.args[2]))
                yield "bounds", _argument(2, "2 * _")
            else:
                yield "bounds", _argument(n - 1, "_ - 1")
                if n == 2:
                    yield "bounds", _argument(0, "_ + 1")
        if name == "arange" and self.is_kernel:
            yield "index", _wrapped("_ + 1")
        if name == "to" and self.is_kernel and node.args and ast.unparse(node.args[0]) == "tl.float32":
            yield "precision", lambda n: n.func.value  # type: ignore[attr-defined]
        if name in ("exp", "exp2", "sum", "rsqrt", "erf", "sigmoid") and self.is_kernel and not self.narrow:
            yield "precision", _wrapped("_.to(tl.bfloat16).to(tl.float32)")
        if not self.is_kernel and isinstance(node.func, ast.Subscript):
            plain = [k for k, a in enumerate(node.args) if not isinstance(a, (ast.List, ast.Tuple))]
            for i, j in zip(plain, plain[1:], strict=False):
                yield "launch", _swapped_arguments(i, j)


def _swapped_arguments(i: int, j: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.args[i], node.args[j] = node.args[j], node.args[i]
        return node

    return change


def _wrapped_division(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Call)
    return ast.BinOp(node.args[0], ast.FloorDiv(), node.args[1])


def _statements(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str, int]]:
    """Yield (owner, field, place) of every statement that can be left out without leaving a name undefined."""
    defined: dict[str, int] = {}
    for node in ast.walk(function):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        for t in targets:
            if isinstance(t, ast.Name):
                defined[t.id] = defined.get(t.id, 0) + 1
    for owner in ast.walk(function):
        for field in ("body", "orelse"):
            block = getattr(owner, field, None)
            if not isinstance(block, list):
                continue
            for k, s in enumerate(block):
                carried = (
                    isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name) and defined[s.targets[0].id] > 1
                )
                call = isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)
                if (isinstance(s, ast.AugAssign) or carried or call) and not (carried and _first(function, s)):
                    yield owner, field, k


def _first(function: ast.FunctionDef, statement: ast.stmt) -> bool:
    """Whether an assignment is the first to its name."""
    name = statement.targets[0].id  # type: ignore[attr-defined]
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return node.lineno >= statement.lineno
    return False


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list):
                for k, item in enumerate(value):
                    if item is old:
                        value[k] = new
                        return


def mutants(kernel: Kernel) -> list[Mutant]:
    """Return every mutant of a kernel, in the order of its source; mutants with one text are one mutant."""
    tree = ast.parse(kernel.source)
    original = ast.unparse(tree)
    seen = {original}
    found: list[Mutant] = []
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef)]

    def add(kind: str, line: int, before: str, after: str, changed: ast.AST) -> None:
        try:
            text = ast.unparse(ast.fix_missing_locations(changed))
        except (ValueError, AttributeError):
            return
        if text not in seen:
            seen.add(text)
            found.append(Mutant(kernel, kind, line, before[:80], after[:80], text + "\n"))

    for position, function in enumerate(functions):
        is_kernel = bool(function.decorator_list)
        finder = _Finder(function, is_kernel, any(f"{d}[" in kernel.program for d in ("bf16", " f16")))
        skip = {id(n) for part in (*function.decorator_list, function.args) for n in ast.walk(part)}
        for call in ast.walk(function):
            if isinstance(call, ast.Call):
                # Tile sizes, warps and the like; shapes of blocks; the name of an option.
                meta = [k.value for k in call.keywords if k.arg and (k.arg.isupper() or k.arg in _META)]
                if is_kernel and _called(call) in ("zeros", "full", "arange", "static_range"):
                    meta += call.args
                skip |= {id(n) for m in meta for n in ast.walk(m) if isinstance(n, ast.Constant)}
        for k, node in enumerate(ast.walk(function)):
            if id(node) in skip or isinstance(node, ast.FunctionDef):
                continue
            if not is_kernel and not isinstance(node, (ast.Call, ast.BinOp)):
                continue
            for kind, change in finder.changes(node):
                copied = copy.deepcopy(tree)
                twin = [f for f in copied.body if isinstance(f, ast.FunctionDef)][position]
                target = list(ast.walk(twin))[k]
                before = ast.unparse(target)
                new = change(target)
                if new is None:
                    continue
                if new is not target:
                    _replace(copied, target, ast.copy_location(new, target))
                add(kind if is_kernel else "launch", getattr(node, "lineno", 0), before, ast.unparse(new), copied)
        if is_kernel:
            for owner, field, k in list(_statements(function)):
                copied = copy.deepcopy(tree)
                twin = [f for f in copied.body if isinstance(f, ast.FunctionDef)][position]
                place = list(ast.walk(function)).index(owner)
                block = getattr(list(ast.walk(twin))[place], field)
                gone = block[k]
                block[k] = ast.Pass()
                add("statement", gone.lineno, ast.unparse(gone), "pass", copied)
    return found


def sample(everything: list[Mutant], n: int, seed: int = 0) -> list[Mutant]:
    """Return at most ``n`` mutants, as evenly over the kinds as they come; the same for the same seed."""
    if n <= 0 or len(everything) <= n:
        return everything
    chance = random.Random(seed)
    by_kind: dict[str, list[Mutant]] = {}
    for m in everything:
        by_kind.setdefault(m.kind, []).append(m)
    queues = [chance.sample(v, len(v)) for v in by_kind.values()]
    chosen: list[Mutant] = []
    while len(chosen) < n:
        queues = [q for q in queues if q]
        for q in queues:
            if len(chosen) < n:
                chosen.append(q.pop())
    order = {id(m): k for k, m in enumerate(everything)}
    return sorted(chosen, key=lambda m: order[id(m)])
