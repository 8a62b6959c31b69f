"""Exported programs without in-place calls, as the importer reads them.

``run_decompositions({})`` makes any program functional, by tracing it again, which takes longer than the export did.  Most
programs need less: they have no in-place calls at all, or only those whose operand nobody sees under another name
afterwards (``relu_`` of a fresh tensor), and such a call is its functional twin under the old name.  Which tensors share
memory is read off the fake tensors of the trace, whose storages are shared as those of real ones are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

#: Calls that return their operand itself in evaluation mode, though their schemas do not say so.
_MAY_RETURN_OPERAND = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
#: Argument that says that a call draws random numbers or changes running statistics, which schemas do not say either.
_TRAINING_ARGUMENTS = {
    **dict.fromkeys(_MAY_RETURN_OPERAND, "train"),
    "batch_norm": "training", "instance_norm": "use_input_stats", "rrelu": "training", "lstm": "train", "gru": "train",
    "rnn_tanh": "train", "rnn_relu": "train",
}  # fmt: skip


def make_functional(program: Any) -> Any:
    """Return an exported program that says the same without in-place calls.

    Args:
        program: what ``torch.export.export`` returns; its graph may be changed.
    """
    graph = program.graph
    graph.eliminate_dead_code()
    if all(_is_plain(n) for n in graph.nodes) and _without_mutations(graph):
        return program
    # An empty table keeps operators such as linear and softmax whole.
    views = _hidden_views(graph)
    table = torch.export.default_decompositions() if views else {}
    return program.run_decompositions({t: table[t] for t in views if t in table})


def _hidden_views(graph: torch.fx.Graph) -> set[torch._ops.OpOverload]:
    """Return what gives a view without saying so in its schema (``einsum``): kept whole, PyTorch takes it for a copy."""
    found = set()
    for node in graph.nodes:
        overload = node.target
        if isinstance(overload, torch._ops.OpOverload) and not any(r.alias_info for r in overload._schema.returns):
            operands = {_key(v) for n in node.all_input_nodes for v in _tensors(n)}
            if operands & {_key(v) for v in _tensors(node)} and _is_composite(overload):
                found.add(overload)
    return found


def _is_composite(overload: torch._ops.OpOverload) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd")


def _tensors(node: torch.fx.Node) -> list[torch.Tensor]:
    values = node.meta.get("val")
    return [v for v in (values if isinstance(values, (list, tuple)) else [values]) if isinstance(v, torch.Tensor)]


def _is_plain(node: torch.fx.Node) -> bool:
    """Whether what the call changes is in its schema, and it is the same in every run."""
    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    packet = _packet(node.target)
    if packet not in _TRAINING_ARGUMENTS:
        return True
    given = _arguments(node)
    without_statistics = packet in ("batch_norm", "instance_norm") and given.get("running_mean") is None
    return without_statistics or not given.get(_TRAINING_ARGUMENTS[packet], False)


def _without_mutations(graph: torch.fx.Graph) -> bool:
    """Replace each in-place call by its functional twin; False, and nothing changed, where that would not do."""
    mutations = [n for n in graph.nodes if isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable]
    if not mutations:
        return True
    position = {n: i for i, n in enumerate(graph.nodes)}
    sharing = _sharing(graph)
    named: dict[torch.fx.Node, torch.fx.Node] = {}  # the result of an in-place call -> the tensor that it is
    twins: dict[torch.fx.Node, torch._ops.OpOverload] = {}
    checked: dict[Any, bool] = {}
    for node in mutations:
        twin = _twin(node, checked)
        if twin is None:
            return False
        operand = node.args[0]
        assert isinstance(operand, torch.fx.Node)
        twins[node], named[node] = twin, named.get(operand, operand)
        for other in sharing.get(_storage(operand), ()):
            if other.op != "call_function":
                return False  # an argument or a buffer changes
            is_view = named.get(other, other) is not named[node]
            if is_view and position[other] < position[node] and any(position[u] > position[node] for u in other.users):
                return False
    _replace(graph, twins, named)
    return True


def _replace(
    graph: torch.fx.Graph, twins: Mapping[torch.fx.Node, Any], named: Mapping[torch.fx.Node, torch.fx.Node]
) -> None:
    value: dict[torch.fx.Node, torch.fx.Node] = {}  # a tensor -> the node that holds what it has become
    affected = {*named, *named.values()}
    for node in list(graph.nodes):
        if any(i in affected for i in node.all_input_nodes):

            def current(n: torch.fx.Node) -> torch.fx.Node:
                return value.get(named.get(n, n), n)

            node.args = torch.fx.map_arg(node.args, current)
            node.kwargs = torch.fx.map_arg(node.kwargs, current)
        if node in twins:
            # The twin's name is the call's without the underscore that marks it.
            stem, _, number = node.name.rpartition("__")
            name = f"{stem}_{number}" if stem and number.isdigit() else node.name.rstrip("_")
            with graph.inserting_before(node):
                new = graph.create_node("call_function", twins[node], node.args, node.kwargs, name=name)
            new.meta = dict(node.meta)
            value[named[node]] = new
    for node in reversed(list(twins)):
        graph.erase_node(node)


def _twin(node: torch.fx.Node, checked: dict[Any, bool]) -> torch._ops.OpOverload | None:
    """Return the functional overload that computes what the in-place call leaves in its first argument."""
    overload, value = node.target, node.meta.get("val")
    assert isinstance(overload, torch._ops.OpOverload)
    schema = overload._schema
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    packet = getattr(getattr(torch.ops, overload.namespace), _packet(overload).removesuffix("_"), None)
    twin = getattr(packet, overload._overloadname, None)
    if (
        not isinstance(value, torch.Tensor)
        or written != [schema.arguments[0].name]
        or not node.args
        or twin is None
        or twin is overload
        or twin._schema.is_mutable
        or [a.name for a in twin._schema.arguments] != [a.name for a in schema.arguments]
        or torch.Tag.nondeterministic_seeded in overload.tags
    ):
        return None
    # An in-place call keeps the dtype and shape of its operand, the functional one may promote.
    args = torch.fx.map_arg(node.args, lambda n: n.meta["val"])
    kwargs = torch.fx.map_arg(node.kwargs, lambda n: n.meta["val"])
    key = (twin, *map(_kind, [*args, *kwargs.values()]))
    if key not in checked:
        try:
            with value.fake_mode:
                result = twin(*args, **kwargs)
            checked[key] = result.dtype == value.dtype and result.dim() == value.dim()
        except Exception:  # whatever PyTorch has against it: the general way is open
            checked[key] = False
    return twin if checked[key] else None


def _kind(argument: Any) -> Any:
    """Return what the dtype of a result may depend on."""
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.dim()
    if isinstance(argument, (list, tuple)):
        return tuple(map(_kind, argument))
    return type(argument)


def _sharing(graph: torch.fx.Graph) -> dict[int, list[torch.fx.Node]]:
    """Return storage -> the nodes whose tensors lie in it."""
    found: dict[int, list[torch.fx.Node]] = {}
    for node in graph.nodes:
        for tensor in _tensors(node):
            found.setdefault(_key(tensor), []).append(node)
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            if _packet(node.target) in _MAY_RETURN_OPERAND:
                one, two = found[_storage(node)], found[_storage(node.args[0])]
                if one is not two:
                    two += one
                    found[_storage(node)] = two
    return found


def _storage(node: torch.fx.Node) -> int:
    return _key(node.meta["val"])


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _packet(overload: torch._ops.OpOverload) -> str:
    return str(overload._schema.name).partition("::")[2]


def _arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name, without those that have their defaults."""
    assert isinstance(node.target, torch._ops.OpOverload)
    names = [a.name for a in node.target._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


__all__ = ["make_functional"]
