"""DRT from scratch: the whole idea in one file that runs.

    python docs/autodrt.py

DRT turns PyTorch programs into Triton kernels that it can vouch for.  This file does the same to one small program, with the
same five ideas and none of the volume.  It is meant to be read from top to bottom, and then the real code is easy:

1. An operator is data: a relation between shapes, and a meaning.                      (real thing: ir/ops/*.drt)
2. Everything else is a reading of that data: one tree, one fold, many algebras.       (ir/infer.py, backend/)
3. A program is a flat list of values, imported by reading the data backwards.         (frontend/)
4. Whoever writes a kernel, a judge that knows the meaning decides.                    (backend/verify/)
5. Compiling is a search over the ways to cut a program into kernels.                  (search/)

Kernels run here in Triton's interpreter, so no GPU is needed.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import math
import operator
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import torch
from torch.fx.experimental.proxy_tensor import make_fx

warnings.simplefilter("ignore", RuntimeWarning)  # NumPy, inside the interpreter, remarks on every infinity

# ---- 1. Operators are data --------------------------------------------------------------------------------------
#
# `x[*S, N]` is a tensor whose last axis has size N and whose other axes are called S.  The same letters in the result say
# what shape comes out, so nobody writes a shape function.  `scalar` is the meaning of one element; `reduce` runs over the
# last axis; `index` says an element by its coordinates; `expand` composes other operators.  `torch` is how PyTorch says the
# operator, and `aten` is how PyTorch's own graphs say it.

DEFINITIONS = """
op add(a[*A], b[*B]) -> y[*broadcast(A, B)]
  where  broadcastable(A, B)
  scalar a + b
  torch  torch.add(a, b)
  aten   aten.add.Tensor(a, b)
op sub(a[*A], b[*B]) -> y[*broadcast(A, B)]
  where  broadcastable(A, B)
  scalar a - b
  torch  torch.sub(a, b)
  aten   aten.sub.Tensor(a, b)
op div(a[*A], b[*B]) -> y[*broadcast(A, B)]
  where  broadcastable(A, B)
  scalar a / b
  torch  torch.div(a, b)
  aten   aten.div.Tensor(a, b)
op exp(x[*S]) -> y[*S]
  scalar exp(x)
  torch  torch.exp(x)
  aten   aten.exp.default(x)
op gelu(x[*S]) -> y[*S]
  scalar 0.5 * x * (1.0 + erf(x * 0.7071067811865476))
  torch  torch.nn.functional.gelu(x)
  aten   aten.gelu.default(x)
op row_sum(x[*S, N]) -> y[*S, 1]
  reduce sum
  torch  torch.sum(x, -1, True)
  aten   aten.sum.dim_IntList(x, [-1], True)
op row_max(x[*S, N]) -> y[*S, 1]
  reduce max
  torch  torch.amax(x, -1, True)
  aten   aten.amax.default(x, [-1], True)
op softmax(x[*S, N]) -> y[*S, N]
  expand m = row_max(x); d = sub(x, m); e = exp(d); s = row_sum(e); y = div(e, s)
  torch  torch.softmax(x, -1)
  aten   aten._softmax.default(x, -1, False)
op matmul(a[M, K], b[K, N]) -> y[M, N]
  index  mk,kn->mn
  torch  torch.mm(a, b)
  aten   aten.mm.default(a, b)
"""


@dataclass(frozen=True)
class Op:
    """One operator, exactly as its lines say it; expressions are Python syntax trees, never code."""

    name: str
    operands: tuple[tuple[str, tuple[ast.expr, ...]], ...]
    result: tuple[ast.expr, ...]
    clauses: dict[str, Any] = field(hash=False)


def tree(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def dims(e: ast.expr) -> tuple[str, tuple[ast.expr, ...]]:
    """Split the tree of ``x[*S, N]`` into the name and its dimensions."""
    assert isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name)
    return e.value.id, tuple(e.slice.elts) if isinstance(e.slice, ast.Tuple) else (e.slice,)


def parse(text: str) -> dict[str, Op]:
    ops = {}
    for block in text.strip().removeprefix("op ").split("\nop "):
        head, *lines = block.splitlines()
        left, right = head.split("->")
        call = tree(left)
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        clauses: dict[str, Any] = {}
        for kind, body in (line.split(None, 1) for line in lines):
            clauses[kind] = body if kind in ("reduce", "expand", "index") else tree(body)
        ops[call.func.id] = Op(call.func.id, tuple(map(dims, call.args)), dims(tree(right))[1], clauses)
    return ops


# ---- 2. Readings ------------------------------------------------------------------------------------------------
#
# A reading is a fold over the tree with its own idea of names, operators and functions.  Sizes, float64 values, calls
# into PyTorch and Triton source differ in nothing else.  (Cost and documentation are two more in the real code.)

ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
PYTHON = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class Reading:
    name: Callable[[str], Any]
    call: Callable[..., Any]  # a function's name, then its arguments
    binary: Callable[[str, Any, Any], Any] = lambda op, a, b: PYTHON[op](a, b)
    number: Callable[[Any], Any] = lambda value: value


def read(e: Any, by: Reading) -> Any:
    match e:
        case ast.Constant(value):
            return by.number(value)
        case ast.UnaryOp(ast.USub(), operand):
            return by.binary("-", by.number(0), read(operand, by))
        case ast.Name(name):
            return by.name(name)
        case ast.BinOp(a, op, b):
            return by.binary(ARITHMETIC[type(op)], read(a, by), read(b, by))
        case ast.Call(function, arguments):
            return by.call(ast.unparse(function), *(read(a, by) for a in arguments))
    raise TypeError(ast.dump(e))


Shape = tuple[int, ...]


def broadcastable(a: Shape, b: Shape) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1]))


def sizes(env: dict[str, Any]) -> Reading:
    """Sizes: names are dimensions, functions work on shapes."""
    functions = {"broadcast": torch.broadcast_shapes, "broadcastable": broadcastable}
    return Reading(env.__getitem__, lambda fn, *args: functions[fn](*args))


def infer(op: Op, shapes: list[Shape]) -> Shape:
    """Match the operands' shapes with the signature; return the result's shape or say what is wrong."""
    env: dict[str, Any] = {}
    for (name, pattern), shape in zip(op.operands, shapes):
        left = list(shape)
        for position, d in enumerate(pattern):
            n = len(left) - (len(pattern) - position - 1)  # sizes that are left for a starred part
            value: Any = tuple(left.pop(0) for _ in range(n)) if isinstance(d, ast.Starred) else left.pop(0)
            key = ast.unparse(d).lstrip("*")
            if env.setdefault(key, value) != value:
                raise TypeError(f"{op.name}: {key} is {value} in operand {name}, expected {env[key]}")
    if "where" in op.clauses and not read(op.clauses["where"], sizes(env)):
        raise TypeError(f"{op.name}: {ast.unparse(op.clauses['where'])} does not hold for {shapes}")
    out: list[int] = []
    for d in op.result:
        out += read(d.value, sizes(env)) if isinstance(d, ast.Starred) else [read(d, sizes(env))]
    return tuple(out)


def in_torch(env: dict[str, torch.Tensor]) -> Reading:
    """PyTorch: the `torch` clause is a call, resolved by name (DRT proper has a list of names that it allows)."""
    return Reading(env.__getitem__, lambda fn, *args: operator.attrgetter(fn.removeprefix("torch."))(torch)(*args))


def in_triton(names: dict[str, str]) -> Reading:
    """Triton: the same tree as source text."""
    return Reading(
        names.__getitem__, lambda fn, *a: f"tl.{fn}({', '.join(a)})", lambda op, a, b: f"({a} {op} {b})", repr
    )


# ---- 3. Programs ------------------------------------------------------------------------------------------------
#
# One value per line, each with its operator, operands and shape.  Importing reads the `aten` clauses backwards: where the
# pattern has a name the argument is bound, where it has a literal the argument must be equal.


@dataclass(frozen=True)
class Value:
    name: str
    op: str  # "" for an input
    args: tuple[str, ...]
    shape: Shape

    def __str__(self) -> str:
        call = f"{self.op}({', '.join(f'%{a}' for a in self.args)})" if self.op else "input"
        return f"  %{self.name} = {call} : f32{list(self.shape)}"


def match_call(pattern: ast.expr, target: str, args: tuple[object, ...]) -> dict[str, str] | None:
    assert isinstance(pattern, ast.Call)
    if ast.unparse(pattern.func) != target or len(pattern.args) != len(args):
        return None
    bound = {p.id: str(a) for p, a in zip(pattern.args, args) if isinstance(p, ast.Name)}
    literal = all(ast.literal_eval(p) == a for p, a in zip(pattern.args, args) if not isinstance(p, ast.Name))
    return bound if literal else None


def import_function(
    function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], ops: dict[str, Op]
) -> list[Value]:
    program: dict[str, Value] = {}
    for node in make_fx(function)(*inputs).graph.nodes:
        if node.op == "placeholder":
            program[node.name] = Value(node.name, "", (), tuple(node.meta["val"].shape))
        elif node.op == "call_function":
            for op in ops.values():
                bound = match_call(op.clauses["aten"], str(node.target), node.args)
                if bound is not None:
                    args = tuple(bound[name] for name, _ in op.operands)
                    program[node.name] = Value(node.name, op.name, args, infer(op, [program[a].shape for a in args]))
                    break
            else:
                raise TypeError(f"no operator is defined as {node.target}{node.args}")
    return list(program.values())


def expand(program: list[Value], ops: dict[str, Op]) -> list[Value]:
    """Replace composite operators by what they mean, until none is left."""
    out: dict[str, Value] = {}
    for v in program:
        if not v.op or "expand" not in ops[v.op].clauses:
            out[v.name] = v
            continue
        names = dict(zip((n for n, _ in ops[v.op].operands), v.args))
        for statement in str(ops[v.op].clauses["expand"]).split(";"):
            local, call = (part.strip() for part in statement.split("=", 1))
            fn, args = re.fullmatch(r"(\w+)\((.*)\)", call).groups()
            names[local] = v.name if local == "y" else f"{v.name}_{local}"
            operands = tuple(names[a.strip()] for a in args.split(","))
            out[names[local]] = Value(names[local], fn, operands, infer(ops[fn], [out[a].shape for a in operands]))
    return list(out.values())


def run(program: list[Value], inputs: list[torch.Tensor], ops: dict[str, Op], exact: bool) -> dict[str, torch.Tensor]:
    """Every value of a program: by PyTorch, or (``exact``) in float64 by the definitions alone, which is the oracle."""
    env: dict[str, torch.Tensor] = {}
    given = iter(x.double() if exact else x for x in inputs)
    for v in expand(program, ops) if exact else program:
        if not v.op:
            env[v.name] = next(given)
            continue
        op = ops[v.op]
        own = {name: env[a] for (name, _), a in zip(op.operands, v.args)}
        if not exact:
            env[v.name] = read(op.clauses["torch"], in_torch(own))
        elif "scalar" in op.clauses:
            env[v.name] = read(op.clauses["scalar"], Reading(own.__getitem__, lambda fn, *a: getattr(torch, fn)(*a)))
        elif "reduce" in op.clauses:
            env[v.name] = {"sum": torch.sum, "max": torch.amax}[op.clauses["reduce"]](own["x"], -1, keepdim=True)
        else:
            env[v.name] = torch.einsum(op.clauses["index"], own["a"], own["b"])
    return env


# ---- 4. A kernel writer, and the judge --------------------------------------------------------------------------
#
# The writer handles one pattern: a program (rows) x (columns), one row per Triton program, everything in registers.  The
# scalar code is one more reading of the same tree.  A language model could stand in its place: the judge would not care.

REDUCE = {"sum": ("tl.sum({}, 0)", "0.0"), "max": ("tl.max({}, 0)", "float('-inf')")}


class Unsupported(Exception):
    """The writer cannot say this fragment; PyTorch keeps it."""


def inputs_of(fragment: list[Value]) -> list[str]:
    own = {v.name for v in fragment}
    return list(dict.fromkeys(a for v in fragment for a in v.args if a not in own))


def write_kernel(fragment: list[Value], keep: list[str], shapes: dict[str, Shape], ops: dict[str, Op]) -> str:
    """Return Triton source with a launcher ``launch(*inputs)`` that returns the values named in ``keep``."""
    inputs = inputs_of(fragment)
    rows, columns = torch.broadcast_shapes(*(shapes[v.name] for v in fragment))
    body = []

    def place(name: str) -> tuple[str, str]:
        """Address and mask of this row's part of a value: a full row, one element for each row, or a row that all share."""
        high, wide = math.prod(shapes[name][:-1]) > 1, shapes[name][-1] > 1
        terms = [f"{name}_ptr"] + [f"row * {shapes[name][-1]}"] * high + ["column"] * wide
        return " + ".join(terms), ", mask=column < COLUMNS" * wide

    for name in inputs:
        address, mask = place(name)
        body.append(f"{name} = tl.load({address}{mask})")
    for v in fragment:
        op = ops[v.op]
        names = {local: a for (local, _), a in zip(op.operands, v.args)}
        if "scalar" in op.clauses:
            body.append(f"{v.name} = {read(op.clauses['scalar'], in_triton(names))}")
        elif "reduce" in op.clauses:
            combine, identity = REDUCE[op.clauses["reduce"]]
            body.append(f"{v.name} = " + combine.format(f"tl.where(column < COLUMNS, {names['x']}, {identity})"))
        else:
            raise Unsupported(f"{op.name} is no row operation")
    for name in keep:
        address, mask = place(name)
        body.append(f"tl.store({address}, {name}{mask})")
    outputs = (f"    {name} = empty({list(shapes[name])}, device={inputs[0]}.device)\n" for name in keep)
    return f"""\
import torch, triton, triton.language as tl

empty = torch.empty


@triton.jit
def kernel({", ".join(f"{name}_ptr" for name in [*inputs, *keep])}, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    {f"{chr(10)}    ".join(body)}


def launch({", ".join(inputs)}):
{"".join(outputs)}\
    kernel[({rows},)]({", ".join([*inputs, *keep])}, COLUMNS={columns}, BLOCK={1 << (columns - 1).bit_length()})
    return {", ".join(keep)},
"""


def load(source: str) -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:  # Triton reads kernels from files
        file.write(source)
    spec = importlib.util.spec_from_file_location("kernels", file.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.unlink(file.name)
    return module


# The judge knows the meaning, so it needs no tolerance from a table: PyTorch's own error against float64 is the yardstick.
# Outputs start as NaN, so an element that is not written shows; large and tiny inputs find what the usual ones hide.


def judge(source: str, fragment: list[Value], keep: list[str], shapes: dict[str, Shape], ops: dict[str, Op]) -> str:
    """Return "" if the kernel is good, else what is wrong with it."""
    module = load(source)
    module.empty = lambda *args, **kw: torch.full(*args, float("nan"), **kw)
    names = inputs_of(fragment)
    program = [Value(n, "", (), shapes[n]) for n in names] + fragment
    for seed, scale in enumerate((1.0, 3.0, 0.01, 200.0)):
        generator = torch.Generator().manual_seed(seed)
        inputs = [torch.randn(shapes[n], generator=generator) * scale for n in names]
        try:
            results = module.launch(*inputs)
        except Exception as error:
            return f"raises {type(error).__name__}: {error}"
        exact, eager = run(program, inputs, ops, exact=True), run(program, inputs, ops, exact=False)
        for name, y in zip(keep, results):
            allowed = 4 * (eager[name] - exact[name]).abs().max() + 2.0**-22 * exact[name].abs().max()
            error = (y - exact[name]).abs().max()
            if not error <= allowed:  # also true of NaN
                return f"%{name} is off by {error:.1e} for inputs of scale {scale}, expected at most {allowed:.1e}"
    return ""


# ---- 5. Search --------------------------------------------------------------------------------------------------
#
# A program is cut into runs of neighbours; each run is one kernel if the writer can say it, else PyTorch's.  The cost of a
# cut is the memory that its kernels move plus a launch for each: fusing saves both, until the writer gives up.

BYTES_PER_US, LAUNCH_US = 3.0e6, 3.0


def cost_us(fragment: list[Value], keep: list[str], shapes: dict[str, Shape]) -> float:
    return LAUNCH_US + sum(4 * math.prod(shapes[name]) for name in [*inputs_of(fragment), *keep]) / BYTES_PER_US


def cuts(nodes: list[Value]) -> Iterator[list[list[Value]]]:
    for marks in itertools.product((False, True), repeat=len(nodes) - 1):
        ends = [i + 1 for i, cut in enumerate(marks) if cut]
        yield [nodes[a:b] for a, b in zip([0, *ends], [*ends, len(nodes)])]


Plan = list[tuple[list[Value], list[str], str]]  # fragment, what others read of it, source ("" for PyTorch)


def search(program: list[Value], ops: dict[str, Op]) -> tuple[float, Plan]:
    shapes = {v.name: v.shape for v in program}
    nodes = [v for v in program if v.op]
    best: tuple[float, Plan] = (math.inf, [])
    for pieces in cuts(nodes):
        plan: Plan = []
        for piece in pieces:
            wanted = {a for v in nodes if v not in piece for a in v.args} | {program[-1].name}
            keep = [v.name for v in piece if v.name in wanted]
            try:
                plan.append((piece, keep, write_kernel(piece, keep, shapes, ops)))
            except Unsupported:
                plan.append((piece, keep, ""))
        if all(source or len(piece) == 1 for piece, _, source in plan):  # what PyTorch runs, it runs one by one
            time_us = sum(cost_us(piece, keep, shapes) for piece, keep, _ in plan)
            best = min(best, (time_us, plan), key=operator.itemgetter(0))
    return best


# ---- All together -----------------------------------------------------------------------------------------------


def model(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.nn.functional.gelu(x @ w + b), -1)


SLIPS = {  # in the kernel that the search below finds
    "0.7071067811865476": "0.707",
    "gelu - _softmax_m": "gelu",
    "_softmax_e, 0.0": "_softmax_e, 0.5",
    "_softmax, mask=column < COLUMNS": "_softmax, mask=column < COLUMNS - 1",
}


def main() -> None:
    ops = parse(DEFINITIONS)
    inputs = [torch.randn(5, 16), torch.randn(16, 37), torch.randn(37)]
    program = import_function(model, inputs, ops)
    print("The program, as imported:", *program, sep="\n")
    try:
        infer(ops["matmul"], [(5, 16), (7, 37)])
    except TypeError as error:
        print(f"\nThe signature alone finds mistakes: {error}")

    program = expand(program, ops)
    shapes = {v.name: v.shape for v in program}
    nodes = [v for v in program if v.op]
    time_us, plan = search(program, ops)
    apart_us = sum(cost_us([v], [v.name], shapes) for v in nodes)
    print(f"\nThe best of {2 ** (len(nodes) - 1)} cuts: {time_us:.1f} us predicted, {apart_us:.1f} us one by one")
    env = dict(zip((v.name for v in program if not v.op), inputs))
    for piece, keep, source in plan:
        complaint = judge(source, piece, keep, shapes, ops) if source else "no kernel"
        print(f"  {', '.join(v.op for v in piece)}: {f'PyTorch, {complaint}' if complaint else 'kernel, verified'}")
        given = [env[name] for name in inputs_of(piece)]
        if complaint:
            env |= run([Value(n, "", (), shapes[n]) for n in inputs_of(piece)] + piece, given, ops, exact=False)
        else:
            env |= zip(keep, load(source).launch(*given))
    print(f"compiled - eager: {(env[program[-1].name] - model(*inputs)).abs().max():.1e}")

    print("\nThe kernel:", *(f"  {line}" for line in source.splitlines() if line), sep="\n")
    print("\nThe same kernel with one slip:")
    for right, wrong in SLIPS.items():
        assert right in source
        print(f"  {right} -> {wrong}: {judge(source.replace(right, wrong), piece, keep, shapes, ops) or 'NOT FOUND'}")


if __name__ == "__main__":
    main()
