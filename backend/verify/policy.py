"""The policy gate: what the source of a candidate may say.  Reads the syntax tree; runs nothing."""

from __future__ import annotations

import ast
import sys
import types

import attrs

from ..python_text import parse_python
from .counting import counters

#: Modules that a candidate may import, with everything below them that is not refused.
ALLOWED_IMPORTS = (
    "torch", "triton", "math", "typing", "collections", "dataclasses", "functools", "itertools", "operator", "enum",
    "numbers", "abc", "__future__", "typing_extensions", "warnings", "contextlib",
)  # fmt: skip

_REFUSED_MODULES = {
    "torch.utils.cpp_extension", "torch._dynamo", "torch._inductor", "torch.multiprocessing", "torch.distributed",
    "torch.hub", "torch.jit", "torch.package", "torch.profiler", "torch.compiler", "torch.library", "torch.overrides",
    "torch.utils._python_dispatch", "triton.testing", "triton.runtime", "triton.compiler", "triton.backends",
    "triton.knobs", "torch._C", "torch.fx", "torch.serialization", "torch.cuda.graphs",
}  # fmt: skip

#: Names that reach past the language: other code, files, frames.
_REFUSED_NAMES = {
    "exec", "eval", "compile", "open", "__import__", "globals", "locals", "vars", "input", "breakpoint", "setattr",
    "delattr", "memoryview", "exit", "quit", "__builtins__", "__loader__", "__spec__", "type", "id",
}  # fmt: skip

#: Attributes that are refused on any object, and why.
_REFUSED_ATTRIBUTES = {
    "data_ptr": "reads an address, which serves to remember answers",
    "untyped_storage": "reaches the memory behind a tensor",
    "storage": "reaches the memory behind a tensor",
    "set_": "replaces the memory behind a tensor",
    "_version": "reads a tensor's version, which serves to remember answers",
    "__globals__": "reaches other code", "__code__": "reaches other code", "__subclasses__": "reaches other code",
    "__builtins__": "reaches other code", "__closure__": "reaches other code", "__bases__": "reaches other code",
    "__mro__": "reaches other code", "gi_frame": "reaches other code", "f_back": "reaches other code",
    "ctypes": "reaches raw memory", "_getframe": "reaches other code",
    "manual_seed": "changes the random state", "set_rng_state": "changes the random state",
    "load_inline": "compiles other code", "CUDAGraph": "replays recorded work", "ExternalStream": "uses another stream",
    "Stream": "uses another stream", "record_stream": "uses another stream",
    "set_float32_matmul_precision": "changes a global precision flag",
    "use_deterministic_algorithms": "changes a global flag", "set_default_dtype": "changes a global default",
    "set_default_device": "changes a global default", "set_num_threads": "changes a global setting",
    "__torch_function__": "hides what a tensor is", "__torch_dispatch__": "hides what a tensor is",
    "register_forward_hook": "runs code around the model", "register_forward_pre_hook": "runs code around the model",
    "__class__": "changes what an object is", "__dict__": "reaches into an object",
    "__traceback__": "reaches other code", "tb_frame": "reaches other code", "tb_next": "reaches other code",
    "f_locals": "reaches other code", "f_globals": "reaches other code", "cr_frame": "reaches other code",
    "__array_interface__": "reaches raw memory", "__dlpack__": "reaches raw memory", "numpy": "reaches raw memory",
    "as_subclass": "hides what a tensor is", "_make_subclass": "hides what a tensor is",
    "_make_wrapper_subclass": "hides what a tensor is", "__init_subclass__": "changes what a class is",
}  # fmt: skip

#: Modules of the standard library whose names PyTorch uses for something of its own, or that do no harm.
_HARMLESS = {"math", "random", "select", "types", "copy", "operator", "functools", "itertools", "typing", "abc", "enum"}

#: Dotted names below ``torch`` that are refused, as a whole or as a prefix.
_REFUSED_DOTTED = {
    "torch.compile": "compiles with another compiler", "torch.jit": "compiles with another compiler",
    "torch.ops.load_library": "loads other code", "torch.load": "reads a file", "torch.save": "writes a file",
    "torch.hub": "loads other code", "torch.cuda.stream": "uses another stream", "torch.cuda.graph": "replays recorded work",
    "torch.cuda.graphs": "replays recorded work", "torch.cuda.Event": "takes part in timing",
    "torch.cuda.make_graphed_callables": "replays recorded work", "torch.library": "hides work in an opaque operator",
    "torch.from_file": "reads a file", "torch.multiprocessing": "starts processes", "torch._C": "reaches other code",
    "torch.classes": "loads other code", "torch._dynamo": "compiles with another compiler",
    "torch._inductor": "compiles with another compiler",
}  # fmt: skip


#: Names below refused modules that decorate kernels.
_DECORATORS = {"triton.runtime.jit.jit", "triton.runtime.jit", "triton.runtime"}


@attrs.frozen
class Violation:
    """One thing that the source may not say."""

    label: str
    line: int
    message: str


def check_source(source: str, entry: str, kind: str = "fragment", require_kernel: bool = True) -> list[Violation]:
    """Return what the source of a candidate may not say, in the order of lines; empty where it is within the policy.

    Args:
        source: Python text.
        entry: the launcher or the class that it must define.
        kind: ``fragment``: a piece of a file, which defines a function and whose names begin with ``entry``; ``file``: one that
            defines a function; ``module``: one that defines a class.
        require_kernel: at least one ``triton.jit`` function must be there.
    """
    try:
        tree = parse_python(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", 0) or 0
        return [Violation("syntax", line, f"not Python: {getattr(error, 'msg', error)}")]
    walk = _Walk()
    walk.visit(tree)
    found = walk.found + [Violation("state", line, message) for line, message in counters(tree)]
    defined = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    if entry not in defined:
        what = "class" if kind == "module" else "function"
        found.append(Violation("entry", 0, f"no top-level {what} {entry}, expected one"))
    if require_kernel and not walk.n_kernels:
        found.append(Violation("no_kernel", 0, "no triton.jit kernel, expected at least one"))
    if kind == "fragment":
        stray = [n for n in defined if not n.lstrip("_").startswith(entry)]
        for name in stray:
            found.append(Violation("name", 0, f"top-level name {name}, expected names that start with {entry}"))
    return sorted(found, key=lambda v: v.line)


class _Walk(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.modules: dict[str, str] = {"torch": "torch", "triton": "triton", "tl": "triton.language", "math": "math"}
        self.n_kernels = 0
        self.n_classes = 0
        self.own: set[str] = set()  # local names of what hangs on self
        self._inside: set[ast.AST] = set()  # modules of which a member is taken, or that get another name

    def refuse(self, label: str, node: ast.AST, message: str) -> None:
        self.found.append(Violation(label, getattr(node, "lineno", 0), message))

    # -- imports ------------------------------------------------------------------------------------------------------
    def _import(self, node: ast.AST, module: str, bound: str, member: bool = False) -> None:
        root = module.split(".")[0]
        if root not in ALLOWED_IMPORTS:
            self.refuse(
                "import", node, f"imports {module}, expected only {', '.join(ALLOWED_IMPORTS[:3])} and the like"
            )
        elif any(module == r or module.startswith(r + ".") for r in _REFUSED_MODULES):
            self.refuse("import", node, f"imports {module}")
        elif module in _REFUSED_DOTTED:
            self.refuse("import", node, f"imports {module}: {_REFUSED_DOTTED[module]}")
        elif member and module.rsplit(".", 1)[-1] in _REFUSED_ATTRIBUTES:
            self.refuse("import", node, f"imports {module}: {_REFUSED_ATTRIBUTES[module.rsplit('.', 1)[-1]]}")
        self.modules[bound] = module

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(node, alias.name, alias.asname or alias.name.split(".")[0])
            if alias.asname is None:
                self.modules[alias.name.split(".")[0]] = alias.name.split(".")[0]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            self.refuse("import", node, "imports relatively; a candidate stands alone")
            return
        for alias in node.names:
            if alias.name == "*":
                self.refuse("import", node, f"imports everything from {node.module}")
                continue
            self._import(node, f"{node.module}.{alias.name}", alias.asname or alias.name, True)

    # -- names --------------------------------------------------------------------------------------------------------
    def _dotted(self, node: ast.AST) -> str:
        """Return the full dotted name of an attribute chain on a module, or the empty string."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.modules:
            return ""
        return ".".join([self.modules[node.id], *reversed(parts)])

    def _check_module(self, node: ast.expr) -> None:
        """Refuse a module as a value: what a list, an attribute or a function holds, nobody can follow."""
        dotted = self._dotted(node)
        if dotted and node not in self._inside and isinstance(sys.modules.get(dotted), types.ModuleType):
            self.refuse("patch", node, f"hands the module {dotted} around, which serves to change it")

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._check_module(node)
        if node.id in _REFUSED_NAMES and isinstance(node.ctx, ast.Load):
            self.refuse("name", node, f"uses {node.id}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._inside.add(node.value)
        self._check_module(node)
        if node.attr in _REFUSED_ATTRIBUTES:
            self.refuse("attribute", node, f"uses .{node.attr}: {_REFUSED_ATTRIBUTES[node.attr]}")
        else:
            dotted = self._dotted(node)
            self._check_dotted(node, dotted)
            if dotted.startswith("torch.backends") and isinstance(node.ctx, ast.Store):
                self.refuse("flags", node, f"sets {dotted}, a global precision flag")
        self.generic_visit(node)

    def _check_dotted(self, node: ast.AST, dotted: str) -> None:
        for prefix, why in _REFUSED_DOTTED.items():
            if dotted == prefix or dotted.startswith(prefix + "."):
                self.refuse("attribute", node, f"uses {dotted}: {why}")
                return
        for module in _REFUSED_MODULES:
            if (dotted == module or dotted.startswith(module + ".")) and dotted not in _DECORATORS:
                self.refuse("attribute", node, f"uses {dotted}, a module that a kernel has no use for")
                return
        if dotted.rpartition(".")[2] in sys.stdlib_module_names - _HARMLESS:
            self.refuse("attribute", node, f"uses {dotted}: reaches another module through one that imports it")

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
                self.refuse("name", node, f"uses {node.func.id} with a name that is not a literal")
            elif name.value in _REFUSED_ATTRIBUTES or name.value.startswith("__"):
                self.refuse("attribute", node, f"uses {node.func.id} for {name.value}")
            else:
                self._inside.add(node.args[0])
                owner = self._dotted(node.args[0])
                self._check_dotted(node, f"{owner}.{name.value}" if owner else "")
        self.generic_visit(node)

    # -- assignments to what is not ours ------------------------------------------------------------------------------
    def _targets(self, targets: list[ast.expr]) -> None:
        for target in targets:
            if isinstance(target, (ast.Tuple, ast.List)):
                self._targets(target.elts)
            elif isinstance(target, ast.Starred):
                self._targets([target.value])
            elif isinstance(target, ast.Attribute):
                dotted, root = self._dotted(target), target.value
                while isinstance(root, (ast.Attribute, ast.Subscript)):
                    root = root.value
                own = isinstance(root, ast.Name) and (root.id == "self" or root.id in self.own) and self.n_classes > 0
                if dotted or not own:
                    shown = dotted or ast.unparse(target)
                    self.refuse("patch", target, f"assigns to {shown}, which is not the candidate's")

    def visit_Assign(self, node: ast.Assign) -> None:
        self._targets(node.targets)
        names = {t.id for t in node.targets if isinstance(t, ast.Name)}
        if dotted := self._dotted(node.value):  # another name for a module or what is in it
            self.modules.update(dict.fromkeys(names, dotted))
            if len(names) == len(node.targets):
                self._inside.add(node.value)
        self._rename(names, node.value)
        self.generic_visit(node)

    def _rename(self, names: set[str], value: ast.expr) -> None:
        """Note other names for a layer of the model; a name for anything else is none any more."""
        if self.n_classes and _hangs_on_self(value):
            self.own |= names
        else:
            self.own -= names

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._targets([node.target])
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._targets([node.target])
        self._rename({n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}, node.iter)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        if dotted := self._dotted(node.value):
            self.modules[node.target.id] = dotted
            self._inside.add(node.value)
        self._rename({node.target.id}, node.value)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self._targets([item.optional_vars] if item.optional_vars is not None else [])
            call = item.context_expr.func if isinstance(item.context_expr, ast.Call) else item.context_expr
            if self._dotted(call).startswith("contextlib.") and self._dotted(call) != "contextlib.nullcontext":
                self.refuse("fallback", node, f"{self._dotted(call)} can hide a fallback to other code")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._targets([node.target])
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._targets(node.targets)
        self.generic_visit(node)

    # -- statements ---------------------------------------------------------------------------------------------------
    def visit_Try(self, node: ast.Try) -> None:
        if node.handlers:
            self.refuse("fallback", node, "try/except can hide a fallback to other code; write no except clause")
        if any(isinstance(n, (ast.Return, ast.Break, ast.Continue)) for s in node.finalbody for n in ast.walk(s)):
            self.refuse(
                "fallback", node, "leaving a finally clause by return, break or continue swallows the exception"
            )
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.refuse("state", node, f"keeps state in global {', '.join(node.names)}")

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.refuse("state", node, f"keeps state in a closure: {', '.join(node.names)}")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.refuse("name", node, "defines an async function")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.n_classes += 1
        for base in node.bases:
            dotted = self._dotted(base)
            if dotted in ("torch.Tensor", "torch.nn.Parameter", "torch.Storage"):
                self.refuse("class", node, f"derives from {dotted}: hides what a tensor is")
        if any(k.arg == "metaclass" for k in node.keywords):
            self.refuse("class", node, "uses a metaclass")
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name in (
                "__torch_function__",
                "__torch_dispatch__",
            ):
                self.refuse("class", statement, f"defines {statement.name}: hides what a tensor is")
        self.generic_visit(node)
        self.n_classes -= 1

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.own = self.own, set()
        for decorator in node.decorator_list:
            inner = decorator.func if isinstance(decorator, ast.Call) else decorator
            dotted = self._dotted(inner)
            if dotted in ("triton.jit", "triton.runtime.jit.jit"):
                self.n_kernels += 1
            elif dotted in ("functools.lru_cache", "functools.cache"):
                self.refuse("state", node, f"{node.name} remembers its answers ({dotted})")
        self.generic_visit(node)
        self.own = outer


def _hangs_on_self(node: ast.expr) -> bool:
    """Whether an expression is an attribute of self, or of one of its attributes."""
    if not isinstance(node, ast.Attribute):
        return False
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"
