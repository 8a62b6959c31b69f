"""One ``torch.fx`` graph of ATen calls to one IR graph, node by node.

Each call is normalised (:mod:`.normal`), read as an operator by its ``aten`` patterns (:mod:`.matching`), or, where no
pattern fits, decomposed with PyTorch's own rules into calls that do.  What is left becomes an opaque node, which runs as
PyTorch has it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import torch

from ..ir import DTYPES, Literal, OpSet, Size, TensorType, Unsupported, UsageError, VerifyError
from ..ir.build import GraphBuilder
from ..ir.opdef import Location
from ..ir.typesys import is_float
from .complexes import parts_dtype, read_call
from .fxnodes import default_of, location, lookup, only_checked, result_names, returned_nodes, used_results
from .matching import AtenCall, Match, Mismatch, Value, match_call
from .normal import CHECKS, KEPT_WHOLE, NORMAL, RANDOM
from .sizes import SymbolTable
from .spellings import basic_call
from .tracing import traced_call
from .widening import read_with_axis

#: torch dtype -> IR dtype.
DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.bool: "bool", torch.uint8: "u8", torch.int8: "i8", torch.int32: "i32", torch.int64: "i64",
    torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32", torch.float64: "f64",
}  # fmt: skip
TORCH_DTYPES: dict[str, torch.dtype] = {v: k for k, v in DTYPE_NAMES.items()}

#: A decomposition into more nodes than this is not used: the one call is faster.
MAX_DECOMPOSITION = 40
#: Operators that change nothing where they do not change the type.
SAME_ELEMENTS = frozenset({"reshape", "flatten", "squeeze", "expand", "slice", "narrow"})

#: What an fx node stands for: a tensor, a number or size, or a tuple of these.
Result: TypeAlias = Any


@attrs.frozen
class Unknown:
    """An ATen target that no operator says: how many calls of it are left opaque, and why."""

    target: str
    count: int
    reason: str


class Importer:
    """Builds one IR graph.

    Args:
        builder: receives inputs and nodes.
        table: the program's symbols.
    """

    def __init__(self, builder: GraphBuilder, table: SymbolTable) -> None:
        self.builder = builder
        self.ops: OpSet = builder.ops
        self.table = table
        self.fakes: dict[str, torch.Tensor] = {}  # value name -> the fake tensor that PyTorch traced
        self.constants: dict[str, torch.Tensor] = {}  # tensors that appear in decompositions
        self.unknown: dict[str, tuple[int, str]] = {}
        self.location: Location | None = None
        self.traced: list[torch.Tensor] = []  # fake tensors that the call reads; values that agree may lie otherwise
        self.stem = "value"  # the name of the call that is being read; what it is made of is named after it
        self.fake_mode: Any = None
        self._casts: dict[tuple[str, str], Value] = {}
        self._decompositions: Mapping[Any, Callable[..., Any]] | None = None

    # -- values ---------------------------------------------------------------------------------------------------------

    def type_of(self, tensor: torch.Tensor, what: str = "a value") -> TensorType:
        """Return the IR type of a (fake) tensor, of a pair where it is complex; errors say ``what`` it is.

        Raises:
            Unsupported: the IR does not have its dtype.
        """
        if tensor.is_complex():
            return TensorType(DTYPE_NAMES[parts_dtype(tensor)], (*self.table.shape(tensor.shape), 2))
        if tensor.dtype not in DTYPE_NAMES:
            known = ", ".join(DTYPES)
            raise Unsupported(f"{what} has dtype {str(tensor.dtype).removeprefix('torch.')}, expected one of {known}")
        if tensor.layout is not torch.strided:
            raise Unsupported(f"{what} is sparse ({str(tensor.layout).removeprefix('torch.')}), expected dense tensors")
        shape = self.table.shape(tensor.shape)
        if self.builder.guards:
            shape = tuple(map(self.builder.facts.simplify, shape))
        return TensorType(DTYPE_NAMES[tensor.dtype], shape)

    def input(self, name: str, tensor: torch.Tensor, kind: str, target: str, number: Any = None) -> Value:
        """Add a graph input for a fake tensor."""
        type = self.type_of(tensor, target or name)
        value = Value(self.builder.input(name, type, kind, target), type, number, tensor.is_complex())
        self.fakes[value.name] = tensor
        self.fake_mode = self.fake_mode or getattr(tensor, "fake_mode", None)
        return value

    def cast(self, value: Value, dtype: str) -> Value:
        """Return ``value`` converted to ``dtype``; one node per value and dtype."""
        if value.type.dtype == dtype:
            return value
        key = (value.name, dtype)
        if key not in self._casts:
            name = self.builder.add(
                "cast", value.name, to=dtype, result=f"{value.name}_{dtype}", location=self.location
            )
            self._casts[key] = Value(name, self.builder.types[name])
        return self._casts[key]

    # -- the graph --------------------------------------------------------------------------------------------------------

    def run(self, graph: torch.fx.Graph, env: dict[torch.fx.Node, Result], prefix: str = "", last: str = "") -> Any:
        """Import every node of ``graph`` and return what its output node returns.

        Args:
            graph: functional ATen calls.
            env: the placeholders' values; filled with every node's.
            prefix: put before the names of values (a decomposition is named after the call that it stands for).
            last: the name for the value that is returned.
        """
        returned = returned_nodes(graph)
        for node in graph.nodes:
            if node.op == "placeholder":
                continue
            if node.op == "output":
                return lookup(node.args[0], env)
            if not prefix:
                self.location = location(node) or self.location
            name = last if last and node in returned else f"{prefix}{node.name}"
            env[node] = self._node(node, name, env)
        raise Unsupported("the graph has no output")

    def _node(self, node: torch.fx.Node, name: str, env: dict[torch.fx.Node, Result]) -> Result:
        value = node.meta.get("val")
        if node.op == "get_attr":
            return self._attribute(node)
        if node.op != "call_function":
            raise Unsupported(f"the program calls {node.target} ({node.op}), expected tensor functions")
        if node.target is operator.getitem:
            several, index = lookup(node.args, env)
            return several[index]
        target = str(node.target)
        if target in CHECKS:
            return None
        if isinstance(value, (torch.SymInt, int)) and not isinstance(value, bool):
            return self.table.size(value)
        if isinstance(value, (torch.SymBool, bool)) and only_checked(node):
            return None  # a guard, which the graph says by itself
        if isinstance(value, (torch.SymFloat, torch.SymBool)):
            raise Unsupported(
                f"a number is computed from tensor contents or from a symbolic size ({target}), expected tensors there"
            )
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._higher_order(node, name, env)
        if not isinstance(node.target, torch._ops.OpOverload):
            raise Unsupported(f"the program calls {target}, expected tensor functions of PyTorch")
        call = self.call_of(node.target, lookup(node.args, env), lookup(node.kwargs, env))
        several = isinstance(value, (tuple, list))
        fakes = list(value) if several else [value]
        used = used_results(node) if several else {0}
        names = result_names(node, name, len(fakes)) if several else [name]
        traced = [n.meta.get("val") for n in node.all_input_nodes]
        self.traced = [v for v in traced if isinstance(v, torch.Tensor)]
        results = self.emit(node.target, call, fakes, used, names)
        for result, fake in zip(results, fakes, strict=True):
            if isinstance(result, Value) and isinstance(fake, torch.Tensor):
                self.fakes.setdefault(result.name, fake)
        return tuple(results) if several else results[0]

    def _attribute(self, node: torch.fx.Node) -> Result:
        """A tensor constant that tracing a decomposition has made, or a submodule of a higher-order operator."""
        owner: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            owner = getattr(owner, part)
        if not isinstance(owner, torch.Tensor):
            return owner
        number = owner.item() if owner.dim() == 0 and owner.dtype in DTYPE_NAMES else None
        name = self.builder.fresh(str(node.target).strip("_").replace(".", "_"))
        while name in self.constants:
            name += "_"
        self.constants[name] = owner
        return self.input(name, owner, "constant", name, number)

    def constant(self, name: str, call: AtenCall) -> Value:
        """Return what a call without tensors gives, computed once, as a constant of the program."""
        dtype = {"dtype": TORCH_DTYPES[call.arguments["dtype"]]} if call.arguments.get("dtype") else {}
        given = {k: v for k, v in call.arguments.items() if v is not None} | dtype
        name = self.builder.fresh(name)
        self.constants[name] = overload_of(call.target)(**given)
        return self.input(name, self.constants[name], "constant", name)

    def _higher_order(self, node: torch.fx.Node, name: str, env: dict[torch.fx.Node, Result]) -> Result:
        target = str(node.target)
        if target in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            at = next(i for i, a in enumerate(node.args) if isinstance(a, torch.fx.Node) and a.op == "get_attr")
            body: torch.fx.GraphModule = env[node.args[at]]  # type: ignore[index]
            given = lookup(node.args[at + 1 :], env)
            inner = dict(zip([n for n in body.graph.nodes if n.op == "placeholder"], given, strict=True))
            return self.run(body.graph, inner, prefix=f"{name}_")
        if target.startswith("auto_functionalized"):
            written = f"calls {node.args[0]}, which writes to its arguments, expected operators that return new tensors"
            raise Unsupported(f"the program {written}")
        raise Unsupported(f"the program uses {target}, expected straight-line tensor code")

    # -- calls ------------------------------------------------------------------------------------------------------------

    def call_of(self, target: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AtenCall:
        """Return a call with its arguments in the order of the schema and its defaults filled in."""
        arguments: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for i, a in enumerate(target._schema.arguments):
            if a.has_default_value():
                defaults[a.name] = self.plain(default_of(a))
            if i < len(args) and not a.kwarg_only:
                arguments[a.name] = self.plain(args[i])
            elif a.name in kwargs:
                arguments[a.name] = self.plain(kwargs[a.name])
            else:
                arguments[a.name] = defaults.get(a.name)
        return AtenCall(str(target), arguments, defaults)

    def plain(self, value: Any) -> Any:
        """Return an argument as plain data: tuples for lists, sizes for symbolic integers, names for dtypes."""
        if isinstance(value, (list, tuple)):
            return tuple(map(self.plain, value))
        if isinstance(value, torch.SymInt):
            return self.table.size(value)
        if isinstance(value, torch.dtype):
            return DTYPE_NAMES.get(value, value)
        return value

    def call(self, target: str, *args: Any, **kwargs: Any) -> AtenCall:
        """Return a call that is not in the program, to be matched in place of one that is."""
        return self.call_of(overload_of(target), args, kwargs)

    def build(self, target: str, *args: Any, name: str = "", **kwargs: Any) -> Value:
        """Emit one single-result call that is not in the program, and return its value.

        Args:
            target: the ATen overload.
            args: of the call.
            name: for the value; "" derives one from the program's call that is being read.
            kwargs: of the call.
        """
        match, reason = match_call(self.call(target, *args, **kwargs), [None], {0}, self.ops)
        if match is None:
            raise Unsupported(f"{target}: {reason}")
        result = self.append(match, [name or f"{self.stem}_{target.split('.')[1]}"])[0]
        assert isinstance(result, Value)
        return result

    def emit(
        self, overload: torch._ops.OpOverload, call: AtenCall, fakes: Sequence[Any], used: set[int], names: list[str]
    ) -> list[Result]:
        """Emit one call and return a value for each of its results; unused results may be None."""
        try:
            expected = [self.type_of(f) if isinstance(f, torch.Tensor) else None for f in fakes]
            typed = True
        except Unsupported:
            expected, typed = [None] * len(fakes), False
        if not typed:
            return self._opaque(overload, call, fakes, names, "its results have a dtype that the IR does not have")
        self.stem = names[0] if len(names) == 1 else names[0].removesuffix("_0")
        complex_result = any(isinstance(f, torch.Tensor) and f.is_complex() for f in fakes)
        if complex_result or any(v.complex for v in _values(call.arguments)):
            read: Sequence[Any] | str | None = read_call(self, call, expected, complex_result, used, names)
            if read is None:
                read = self._decomposed(overload, call, expected, used, names)
            if isinstance(read, list):
                return read
            return self._opaque(overload, call, fakes, names, "it computes with complex numbers")
        call = basic_call(self, self._simplified(call), expected)
        match, reason = match_call(call, expected, used, self.ops)
        reasons = [reason]
        if match is None and call.target in NORMAL:
            try:
                done = NORMAL[call.target](self, call, expected, used, names)
            except (Unsupported, Mismatch, VerifyError) as error:
                reasons.append(str(error))
            else:
                if done is not None and not isinstance(done, AtenCall):
                    return list(done)
                if done is not None:
                    done = self._simplified(done)
                    match, reason = match_call(done, expected, used, self.ops)
                    reasons.append(reason)
                    call = done if done.target == call.target else call
        if match is not None:
            return self.append(match, names)
        wider = read_with_axis(self, call, expected, used, names)
        if wider is not None:
            return wider
        decomposed = self._decomposed(overload, call, expected, used, names)
        if isinstance(decomposed, list):
            return decomposed
        reason = "; ".join(dict.fromkeys(r for r in [*reasons, decomposed] if r))
        return self._opaque(overload, call, fakes, names, reason)

    def mark(self) -> Mark:
        """Return the present state, to come back to if what follows does not help."""
        return Mark(self)

    def _simplified(self, call: AtenCall) -> AtenCall:
        """Return a call with its sizes as simple as the guards of the program make them."""
        if not self.builder.guards:
            return call

        def simple(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(simple, value))
            return self.builder.facts.simplify(value) if isinstance(value, Size) else value

        return call.replace(**{k: simple(v) for k, v in call.arguments.items()})

    def append(self, match: Match, names: list[str]) -> list[Result]:
        """Add what a match says and return a value for each result of the ATen call; None for one without a meaning."""
        if match.op.name == "identity" and isinstance(match.operands[0], Value):
            return [match.operands[0] if r == 0 else None for r in match.results]
        if match.op.name == "cast" and isinstance(match.operands[0], Value):
            return [self.cast(match.operands[0], match.types[0].dtype)]
        first = match.operands[0] if match.operands else None
        if match.op.name in SAME_ELEMENTS and isinstance(first, Value) and first.type == match.types[0]:
            return [first]
        operands = [self._operand(o, match.casts) for o in match.operands]
        # Names of PyTorch's own internal operators (``_native_batch_norm_legit_no_training``) say less than ours.
        internal = names[0].startswith("_")
        stem = match.op.name if internal else names[0]
        stems = [f"{stem}_{p.name}" for p in match.op.results] if len(match.op.results) > 1 else [stem]
        for i, r in enumerate(match.results):
            if r is not None and not internal:
                stems[r] = names[i]
        made = self.builder.add(
            match.op.name, *operands, result=stems, location=self.location, **dict(match.attributes)
        )
        results = [made] if isinstance(made, str) else list(made)
        number = dict(match.attributes)["value"] if match.op.name == "full" and not match.types[0].shape else None
        return [None if r is None else Value(results[r], match.types[r], number) for r in match.results]

    def _operand(self, operand: Any, casts: Mapping[str, str]) -> Any:
        if isinstance(operand, Value):
            dtype = casts.get(operand.name, operand.type.dtype)
            if operand.number is not None:
                number = operand.number
                if is_float(dtype) and not isinstance(number, Size):
                    number = float(number)
                number = int(number) if isinstance(number, bool) else number
                key = (str(number), dtype)
                if key not in self._casts:
                    name = self.builder.add("full", shape=(), value=number, dtype=dtype, location=self.location)
                    self._casts[key] = Value(name, self.builder.types[name])
                return self._casts[key].name
            return self.cast(operand, dtype).name
        if isinstance(operand, tuple):
            return tuple(self._operand(o, casts) for o in operand)
        return operand

    # -- decomposition ------------------------------------------------------------------------------------------------------

    def _decomposed(
        self, overload: torch._ops.OpOverload, call: AtenCall, expected: list[Any], used: set[int], names: list[str]
    ) -> list[Result] | str:
        """Try PyTorch's own decomposition of one call; return its results, or why it does not help."""
        if call.target in KEPT_WHOLE or call.target in RANDOM or self.fake_mode is None:
            return ""
        rule = self._rule(overload)
        if rule is None and not _is_composite(overload):
            return ""
        before = Mark(self)
        try:
            traced = traced_call(overload, call, rule, self.fake, self.fake_mode, TORCH_DTYPES)
            nodes = [n for n in traced.graph.nodes if n.op == "call_function"]
            if len(nodes) > MAX_DECOMPOSITION:
                return f"its decomposition has {len(nodes)} nodes, expected at most {MAX_DECOMPOSITION}"
            if any(n.target is overload for n in nodes):
                return ""
            values = list(_values(call.arguments))
            env = dict(zip([n for n in traced.graph.nodes if n.op == "placeholder"], values, strict=True))
            before.watch()
            returned = self.run(traced.graph, env, prefix=f"{self.stem}_", last=names[0])
            if self.unknown != before.unknown:
                inner = next(t for t, c in self.unknown.items() if before.unknown.get(t) != c)
                before.restore()
                return f"its decomposition uses {inner}"
            n_nodes = len(self.builder.nodes) - before.n_nodes
            if n_nodes > MAX_DECOMPOSITION:
                before.restore()
                return f"its decomposition has {n_nodes} nodes, expected at most {MAX_DECOMPOSITION}"
            results = list(returned) if isinstance(returned, (tuple, list)) else [returned]
            for r, want in zip(results, expected, strict=True):
                if isinstance(r, Value) and want is not None and r.type != want:
                    raise Unsupported(f"its decomposition gives {r.type}, expected {want}")
            return results
        except (Unsupported, UsageError, VerifyError) as error:
            before.restore()
            return error.line()
        except Exception as error:  # PyTorch's decompositions raise whatever they like for arguments they do not take
            before.restore()
            return f"its decomposition raises {type(error).__name__}"

    def _rule(self, overload: torch._ops.OpOverload) -> Callable[..., Any] | None:
        if self._decompositions is None:
            self._decompositions = torch._decomp.core_aten_decompositions()
        try:
            return self._decompositions.get(overload) or torch._decomp.decomposition_table.get(overload)
        except KeyError:
            return None

    def fake(self, value: Value) -> torch.Tensor:
        """Return a fake tensor of the value's type."""
        found = self.fakes.get(value.name)
        if found is None:
            if not value.type.is_static:
                raise Unsupported(f"%{value.name} has a symbolic size")
            with self.fake_mode:
                found = torch.empty(value.type.shape, dtype=TORCH_DTYPES[value.type.dtype])
            self.fakes[value.name] = found
        if found.is_complex() != value.complex:
            with self.fake_mode:
                found = torch.view_as_complex(found) if value.complex else torch.view_as_real(found)
        return found

    # -- opaque -------------------------------------------------------------------------------------------------------------

    def _opaque(
        self, overload: torch._ops.OpOverload, call: AtenCall, fakes: Sequence[Any], names: list[str], reason: str
    ) -> list[Result]:
        types = []
        for f in fakes:
            if not isinstance(f, torch.Tensor):
                raise Unsupported(f"{call.target} gives {type(f).__name__}, expected tensors")
            types.append(self.type_of(f))
        operands: list[Any] = []
        encoded: dict[str, Any] = {}
        for a in overload._schema.arguments:
            encoded[a.name] = self._encode(call.arguments[a.name], operands, "ScalarType" in str(a.real_type))
        args = [encoded[a.name] for a in overload._schema.arguments if not a.kwarg_only]
        kwargs = {
            a.name: encoded[a.name]
            for a in overload._schema.arguments
            if a.kwarg_only and not (a.name in call.defaults and call.arguments[a.name] == call.defaults[a.name])
        }
        defaults = [a for a in overload._schema.arguments if not a.kwarg_only]
        while (
            args
            and defaults[len(args) - 1].has_default_value()
            and call.arguments[defaults[len(args) - 1].name] == call.defaults[defaults[len(args) - 1].name]
        ):
            args.pop()
        complexes = [isinstance(f, torch.Tensor) and f.is_complex() for f in fakes]
        arguments = [args, kwargs, ["complex" if c else "" for c in complexes]] if any(complexes) else [args, kwargs]
        count, first = self.unknown.get(call.target, (0, reason))
        self.unknown[call.target] = (count + 1, first)
        made = self.builder.opaque(
            call.target, operands, types, arguments, result=names if len(types) > 1 else names[0],
            location=self.location,
        )  # fmt: skip
        results = [made] if isinstance(made, str) else list(made)
        return [Value(r, t, complex=c) for r, t, c in zip(results, types, complexes, strict=True)]

    def _encode(self, value: Any, operands: list[Any], is_dtype: bool) -> Any:
        """Return an argument as JSON; tensors become ``"$0"``, what JSON lacks an object with one key in ``$``."""
        if isinstance(value, Value):
            if value.name not in operands:
                operands.append(value.name)
            reference = f"${operands.index(value.name)}"
            return {"$complex": reference} if value.complex else reference
        if isinstance(value, Literal):
            return value.value
        if isinstance(value, tuple):
            return [self._encode(v, operands, is_dtype) for v in value]
        if isinstance(value, Size):
            return {"$size": str(value)}
        if isinstance(value, str) and is_dtype:
            return {"$dtype": value}
        if isinstance(value, torch.device):
            return {"$device": value.type}
        if isinstance(value, (torch.layout, torch.memory_format)):
            return {"$torch": str(value).removeprefix("torch.")}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise Unsupported(f"an argument is a {type(value).__name__}, expected tensors and plain values")


class Mark:
    """The importer's state before a decomposition, so that one that does not help leaves no trace."""

    def __init__(self, importer: Importer) -> None:
        self.importer = importer
        b = importer.builder
        self.n_nodes, self.n_inputs, self.n_guards = len(b.nodes), len(b.inputs), len(b.guards)
        self.casts = dict(importer._casts)
        self.constants = dict(importer.constants)
        self.unknown = dict(importer.unknown)

    def watch(self) -> None:
        """Take note of the unknown targets so far."""
        self.unknown = dict(self.importer.unknown)

    def restore(self) -> None:
        """Bring the importer back to the mark."""
        i, b = self.importer, self.importer.builder
        for node in b.nodes[self.n_nodes :]:
            for r in node.results:
                del b.types[r]
                i.fakes.pop(r, None)
        for made in b.inputs[self.n_inputs :]:
            del b.types[made.name]
            i.fakes.pop(made.name, None)
        del b.nodes[self.n_nodes :], b.inputs[self.n_inputs :], b.guards[self.n_guards :]
        i._casts, i.constants, i.unknown = self.casts, self.constants, self.unknown


def _values(value: Any) -> Iterable[Value]:
    if isinstance(value, Value):
        yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _values(v)
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _values(v)


def _is_composite(overload: torch._ops.OpOverload) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd")


def overload_of(target: str) -> torch._ops.OpOverload:
    """Return ``torch.ops.aten.sum.dim_IntList`` for ``aten.sum.dim_IntList``."""
    found: Any = torch.ops
    for part in target.split("."):
        found = getattr(found, part)
    return found


__all__ = ["DTYPE_NAMES", "TORCH_DTYPES", "Importer", "Unknown", "overload_of"]
