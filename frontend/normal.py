"""Normal forms of ATen calls that no pattern fits as they stand: an operator needs no pattern for every spelling.

A rule takes the importer, the call, PyTorch's result types, the indices of results that are read, and the names for them.
It returns a changed call, or the results themselves, or None where it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from ..ir import Literal, Size, TensorType, Unsupported
from ..ir.size import compare, floordiv, maximum, minimum
from ..ir.typesys import is_float
from . import indexing
from .matching import AtenCall, Value

if TYPE_CHECKING:
    from .importer import Importer

Types: TypeAlias = "list[TensorType | None]"
Rule: TypeAlias = Callable[
    ["Importer", AtenCall, Types, "set[int]", "list[str]"], Union[AtenCall, "Sequence[Any]", None]
]


def _overloads(text: str, *, packet_default: str = "default") -> frozenset[str]:
    return frozenset(f"aten.{w}" if "." in w else f"aten.{w}.{packet_default}" for w in text.split())


#: Calls that only check: export writes them, values do not depend on them.
CHECKS = _overloads(
    """
    _assert_tensor_metadata _assert_scalar _assert_async _assert_async.msg sym_constrain_range
    sym_constrain_range_for_size _linalg_check_errors _print
    """
) | {"<built-in function le>", "<built-in function ge>"}

#: Calls that PyTorch has one fast kernel for and decomposes into one node per step of a loop.
KEPT_WHOLE = _overloads(
    """
    lstm.input lstm.data gru.input gru.data rnn_tanh.input rnn_tanh.data rnn_relu.input rnn_relu.data
    bucketize.Tensor searchsorted.Tensor
    """
)

#: Elements of the largest tensor that is computed when a program is imported.
LARGEST_CONSTANT = 2**16

#: Calls that draw random numbers: they stay as they are, in their order.
RANDOM = _overloads(
    """
    rand rand.generator rand_like randn randn.generator randn_like randint randint.low randint_like
    randint_like.low_dtype randperm normal.float_float normal_functional bernoulli bernoulli.p multinomial
    native_dropout dropout uniform exponential rrelu rrelu_with_noise_functional poisson
    """
)


# -- dtype arguments --------------------------------------------------------------------------------------------------------


def _cast_input(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    """``f(x, dtype=d)`` is ``f(cast(x, d))``."""
    dtype = call.arguments.get("dtype")
    first = next(iter(call.arguments))
    x = call.arguments[first]
    if dtype is None or not isinstance(x, Value):
        return None
    return call.replace(**{first: b.cast(x, str(dtype)), "dtype": None})


def _running(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
    """A running sum or product in a narrow integer dtype is that of the input in this dtype, kept in 64 bits, then wrapped."""
    dtype = call.arguments.get("dtype")
    if dtype not in ("i32", "i8", "u8"):
        return _cast_input(b, call, expected, used, names)
    wide = b.build(call.target, b.cast(call.arguments["self"], str(dtype)), call.arguments["dim"])
    return [b.cast(wide, str(dtype))]


def _conversion(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Sequence[Any] | None:
    x = next(iter(call.arguments.values()))
    wanted = expected[0]
    assert isinstance(x, Value) and wanted is not None
    device = call.arguments.get("device")
    before = b.fakes.get(x.name)
    if device is not None and before is not None and device.type not in (before.device.type, "meta"):
        raise Unsupported(f"moves a tensor from {before.device.type} to {device.type}, expected one device")
    return [b.cast(x, wanted.dtype)]


# -- shapes -----------------------------------------------------------------------------------------------------------------


def _shape_argument(name: str) -> Rule:
    """The size argument becomes the result's shape: no -1 is left."""

    def rule(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
        wanted, x = expected[0], next(iter(call.arguments.values()))
        assert wanted is not None
        if isinstance(x, Value) and x.type.shape == wanted.shape:
            return [x]
        return call.replace(**{name: wanted.shape})

    return rule


def _as(target: str) -> Rule:
    """Another spelling of ``view`` or ``expand`` to the result's shape."""

    def rule(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
        wanted, x = expected[0], next(iter(call.arguments.values()))
        assert wanted is not None
        if isinstance(x, Value) and x.type.shape == wanted.shape:
            return [x]
        return b.call(target, x, wanted.shape)

    return rule


def _from_front(index: Any, size: Any) -> Any:
    return index + size if isinstance(index, int) and index < 0 else index


def _slice(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
    x, step = call.arguments["self"], call.arguments["step"]
    axis = _from_front(call.arguments["dim"], x.type.rank)
    size = x.type.shape[axis]
    start, end = _clip(call.arguments["start"], 0, size), _clip(call.arguments["end"], size, size)
    if start == 0 and end == size and step == 1:
        return [x]
    return call.replace(dim=axis, start=start, end=end)


def _clip(value: Any, default: Any, size: Any) -> Any:
    """Return a slice bound as Python does: absent, counted from the end, or beyond the end."""
    if value is None:
        return default
    if isinstance(value, int) and value >= 2**62:
        return size
    if compare("<", value, 0) is True:
        return maximum(value + size, 0)
    return minimum(value, size)


def _select(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall:
    x = call.arguments["self"]
    axis = _from_front(call.arguments["dim"], x.type.rank)
    return call.replace(dim=axis, index=_from_front(call.arguments["index"], x.type.shape[axis]))


def _pieces(sizes: Callable[[AtenCall, Any, int], Sequence[Any]]) -> Rule:
    """A split: one slice for each piece that is read."""

    def rule(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Any]:
        x = call.arguments["self"]
        axis = _from_front(call.arguments["dim"], x.type.rank)
        results: list[Any] = []
        start: Any = 0
        for i, size in enumerate(sizes(call, x.type.shape[axis], len(expected))):
            end = start + size
            whole = start == 0 and end == x.type.shape[axis]
            piece = (
                x if whole else b.build("aten.slice.Tensor", x, axis, start, end, name=names[i]) if i in used else None
            )
            results.append(piece)
            start = end
        return results

    return rule


def _equal_pieces(call: AtenCall, size: Any, n: int) -> list[Any]:
    width = call.arguments.get("split_size")
    if width is None:  # chunk
        chunks = call.arguments["chunks"]
        width = floordiv(size + chunks - 1, chunks)
    return [width] * (n - 1) + [size - width * (n - 1)]


def _named_pieces(call: AtenCall, size: Any, n: int) -> Sequence[Any]:
    return tuple(call.arguments["split_sizes" if "split_sizes" in call.arguments else "split_size"])


def _tensor_split(call: AtenCall, size: Any, n: int) -> list[Any]:
    if "sections" in call.arguments:
        if isinstance(size, Size):
            raise Unsupported("tensor_split of a symbolic size")
        return [size // n + (1 if i < size % n else 0) for i in range(n)]
    cuts = [0, *[_clip(i, 0, size) for i in call.arguments["indices"]], size]
    return [end - start for start, end in zip(cuts, cuts[1:], strict=False)]


def _unbind(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Any]:
    x, axis = call.arguments["self"], _from_front(call.arguments["dim"], call.arguments["self"].type.rank)
    return [b.build("aten.select.int", x, axis, i, name=names[i]) if i in used else None for i in range(len(expected))]


def _broadcast_tensors(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Any]:
    results = []
    for i, (x, wanted) in enumerate(zip(call.arguments["tensors"], expected, strict=True)):
        assert wanted is not None
        same = x.type.shape == wanted.shape
        made = x if same or i not in used else b.build("aten.expand.default", x, wanted.shape, name=names[i])
        results.append(made)
    return results


def _meshgrid(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Any]:
    tensors = list(call.arguments["tensors"])
    rank = len(tensors)
    order = list(range(rank))
    if call.arguments.get("indexing") == "xy" and rank >= 2:
        order[0], order[1] = 1, 0
    results: list[Any] = []
    for i, x in enumerate(tensors):
        wanted = expected[i]
        assert wanted is not None
        if i not in used:
            results.append(None)
            continue
        n = wanted.shape[order[i]]
        column = b.build("aten.view.default", x, tuple(n if k == order[i] else 1 for k in range(rank)))
        results.append(b.build("aten.expand.default", column, wanted.shape, name=names[i]))
    return results


def _einsum(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Sequence[Any] | None:
    """A sum of products over labels, as matrix products of pairs, left to right."""
    equation, tensors = str(call.arguments["equation"]).replace(" ", ""), list(call.arguments["tensors"])
    left, arrow, output = equation.partition("->")
    inputs = left.split(",")
    if "." in equation or any(len(set(i)) != len(i) for i in inputs) or len(set(output)) != len(output):
        return None  # ellipses and diagonals: PyTorch's decomposition has them
    if not arrow:
        output = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    sizes = {c: s for labels, t in zip(inputs, tensors, strict=True) for c, s in zip(labels, t.type.shape, strict=True)}
    if any(sizes[c] != s for i, t in zip(inputs, tensors, strict=True) for c, s in zip(i, t.type.shape, strict=True)):
        return None  # a label of size 1 that broadcasts

    def shaped(x: Any, groups: Sequence[str], labels: str) -> Any:
        """Return ``x`` with its axes in the order of ``groups``, each group as one axis."""
        order = "".join(groups)
        if order != labels:
            x = b.build("aten.permute.default", x, tuple(labels.index(c) for c in order))
        shape = tuple(_product(sizes[c] for c in g) for g in groups)
        return x if shape == x.type.shape else b.build("aten.view.default", x, shape)

    def reduced(x: Any, labels: str, kept: set[str]) -> tuple[Any, str]:
        axes = tuple(i for i, c in enumerate(labels) if c not in kept)
        if axes:
            x = b.build("aten.sum.dim_IntList", x, axes)
        return x, "".join(c for c in labels if c in kept)

    x, labels = tensors[0], inputs[0]
    for k, (y, other) in enumerate(zip(tensors[1:], inputs[1:], strict=True)):
        later = set(output).union(*inputs[k + 2 :])
        x, labels = reduced(x, labels, later | set(other))
        y, other = reduced(y, other, later | set(labels))
        batch = [c for c in labels if c in other and c in later]
        inner = "".join(c for c in labels if c in other and c not in later)
        rows, columns = "".join(c for c in labels if c not in other), "".join(c for c in other if c not in labels)
        if not inner and not rows and not columns:
            x = b.build("aten.mul.Tensor", x, shaped(y, list(labels), other))
            continue
        x = shaped(x, [*batch, rows, inner], labels)
        y = shaped(y, [*batch, inner, columns], other)
        x = b.build("aten.matmul.default", x, y)
        labels = "".join([*batch, rows, columns])
        shape = tuple(sizes[c] for c in labels)
        if shape != x.type.shape:
            x = b.build("aten.view.default", x, shape)
    x, labels = reduced(x, labels, set(output))
    return [shaped(x, list(output), labels)]


def _product(values: Any) -> Any:
    total: Any = 1
    for v in values:
        total = total * v
    return total


# -- factories --------------------------------------------------------------------------------------------------------------


def _constant(number: float | None) -> Rule:
    """``zeros``, ``ones_like``, ``full``, ``fill``: a filled tensor of the result's type."""

    def rule(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
        wanted, a = expected[0], call.arguments
        assert wanted is not None
        value = number if number is not None else a.get("fill_value", a.get("value", a.get("s")))
        if isinstance(value, Value) and value.number is not None:
            value = value.number
        if isinstance(value, Value):
            cast = b.cast(value, wanted.dtype)
            return [cast] if cast.type.shape == wanted.shape else b.call("aten.expand.default", cast, wanted.shape)
        if isinstance(value, Literal):
            value = value.value
        if isinstance(value, Size):
            return None
        value = float(value) if is_float(wanted.dtype) else bool(value) if wanted.dtype == "bool" else int(value)
        return b.call("aten.full.default", wanted.shape, value, dtype=wanted.dtype)

    return rule


def _arange(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
    a, wanted = call.arguments, expected[0]
    assert wanted is not None
    step = a.get("step")
    ends = [v for v in (a.get("start"), a["end"], step) if isinstance(v, float)]
    if not is_float(wanted.dtype) and not all(v.is_integer() for v in ends):
        return _evaluated(b, call, expected, used, names)
    return b.call(
        "aten.arange.start_step", a.get("start") or 0, a["end"], 1 if step is None else step, dtype=wanted.dtype
    )


def _evaluated(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Any] | None:
    """Numbers that PyTorch rounds in its own way, computed now: a constant of the program."""
    wanted = expected[0]
    count = LARGEST_CONSTANT + 1 if wanted is None else wanted.numel
    if wanted is None or is_float(wanted.dtype) or isinstance(count, Size) or count > LARGEST_CONSTANT:
        return None
    return [b.constant(names[0], call)]


def _frequencies(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall:
    """Frequencies of a transform of ``n`` samples: whole numbers in their order, over the length of the signal."""
    wanted = expected[0]
    assert wanted is not None
    n, step = call.arguments["n"], 1.0 / (call.arguments["n"] * call.arguments["d"])
    if call.target.startswith("aten.fft_rfftfreq"):
        numbers = b.build("aten.arange.start_step", 0, n // 2 + 1, 1, dtype=wanted.dtype)
    else:
        ahead = b.build("aten.arange.start_step", 0, (n + 1) // 2, 1, dtype=wanted.dtype)
        behind = b.build("aten.arange.start_step", -(n // 2), 0, 1, dtype=wanted.dtype)
        numbers = b.build("aten.cat.default", (ahead, behind), 0)
    return b.call("aten.mul.Scalar", numbers, step)


def _pairs_of_rows(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall:
    """Distances of all rows to those after them: norms of differences."""
    x, p = call.arguments["self"], call.arguments["p"]
    places = b.build("aten.triu_indices.default", x.type.shape[0], x.type.shape[0], 1, dtype="i64")
    rows = [b.build("aten.index_select.default", x, 0, b.build("aten.select.int", places, 0, k)) for k in range(2)]
    return b.call("aten.linalg_vector_norm.default", b.build("aten.sub.Tensor", *rows), p, (1,))


def _reduced_number(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall:
    """A number combined with what stands at places: a tensor of that number."""
    a = call.arguments
    number = b.build("aten.full.default", a["index"].type.shape, a["value"], dtype=a["self"].type.dtype)
    return b.call("aten.scatter.reduce", a["self"], a["dim"], a["index"], number, reduce=a["reduce"])


def _copy(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
    wanted = expected[0]
    assert wanted is not None
    cast = b.cast(call.arguments["src"], wanted.dtype)
    return [cast] if cast.type.shape == wanted.shape else b.call("aten.expand.default", cast, wanted.shape)


# -- arguments with a second meaning ------------------------------------------------------------------------------------------


def _reduction(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    """No axes means all axes; ``dtype=`` is a cast of the input."""
    first = next(iter(call.arguments))
    call = _cast_input(b, call, expected, used, names) or call
    x = call.arguments[first]
    if "dim" in call.arguments and call.arguments["dim"] in (None, ()) and isinstance(x, Value):
        # argmax(x) is over the flattened tensor: an operator of its own, not one over all axes.
        if not call.target.startswith(("aten.arg", "aten.linalg_vector_norm")):
            call = call.replace(dim=tuple(range(x.type.rank)))
    return call


def _variance(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    """Every spelling of var and std as ``.correction`` with axes and a number."""
    a = call.arguments
    packet = call.target.split(".")[1]
    x = a["self"]
    correction = a.get("correction")
    if "unbiased" in a:
        correction = 1 if a["unbiased"] else 0
    dim = a.get("dim")
    axes = tuple(range(x.type.rank)) if dim in (None, ()) else dim
    return b.call(
        f"aten.{packet}.correction", x, axes, correction=1 if correction is None else correction,
        keepdim=bool(a.get("keepdim", False)),
    )  # fmt: skip


def _pool_stride(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    return call.replace(stride=call.arguments["kernel_size"]) if call.arguments["stride"] in ((), None) else None


def _convolution_padding(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall:
    """``padding="same"`` and ``"valid"`` as numbers; uneven padding as a pad before it."""
    a = call.arguments
    x, weight = a["input"], a["weight"]
    rank = len(weight.type.shape) - 2

    def each(value: Any) -> tuple[Any, ...]:
        items = value if isinstance(value, tuple) else (value,)
        return items * rank if len(items) == 1 else items

    dilation, padding = each(a["dilation"]), (0,) * rank
    if a["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.type.shape[2:], strict=True)]
        padding = tuple(t // 2 for t in total)
        uneven = [t % 2 for t in total]
        if any(uneven):
            after = [side for u in reversed(uneven) for side in (0, u)]
            x = b.build("aten.constant_pad_nd.default", x, tuple(after), 0.0)
    packet = call.target.split(".")[1]
    overload = "default" if packet.startswith("conv") and "transpose" not in packet else "input"
    return b.call(f"aten.{packet}.{overload}", x, weight, a["bias"], each(a["stride"]), padding, dilation, a["groups"])


def _per_channel(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    """A grid for each position of an axis: the grids get the axes that they lack."""
    a = call.arguments
    x, axis = a["input"], a["axis"]
    if a["zero_points"] is None:
        return None
    shape = tuple(n if i == _from_front(axis, x.type.rank) else 1 for i, n in enumerate(x.type.shape))
    scale, zero = (b.build("aten.view.default", a[n], shape) for n in ("scales", "zero_points"))
    rest = [a[n] for n in ("quant_min", "quant_max", "dtype")]
    return b.call(call.target.replace("per_channel.default", "per_tensor.tensor"), x, scale, zero, *rest)


def _one_sample(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> Any:
    """A loss of one sample is that of a batch of one."""
    x, target = (call.arguments[n] for n in ("self", "target"))
    wanted = expected[0]
    if x.type.rank > 1 or wanted is None:
        return None
    n = x.type.shape[0] if x.type.rank else 1
    rows = [b.build("aten.view.default", v, (1, n)) for v in (x, target)]
    # The one sample's loss is its mean and its sum.
    loss = b.build(call.target, *rows, 2, name=f"{names[0]}_row" if wanted.shape else names[0])
    return [
        loss if loss.type.shape == wanted.shape else b.build("aten.view.default", loss, wanted.shape, name=names[0])
    ]


def _as_strided(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> list[Value]:
    """Positions in an operand that lies in row-major order; a program's meaning does not know any other layout."""
    a = call.arguments
    x, offset = a["self"], a["storage_offset"]
    fake = b.traced[0] if b.traced else None
    if fake is None or not fake.is_contiguous() or fake.storage_offset() != 0:
        raise Unsupported("as_strided depends on the layout of its operand, expected one in row-major order")
    made = b.builder.add(
        "as_strided",
        x.name,
        size=a["size"],
        stride=a["stride"],
        offset=offset or 0,
        result=names[0],
        location=b.location,
    )
    return [Value(made, b.builder.types[made])]


def _cat(b: Importer, call: AtenCall, expected: Types, used: set[int], names: list[str]) -> AtenCall | None:
    """PyTorch passes over vectors without elements among tensors of other ranks."""
    tensors = call.arguments["tensors"]
    kept = tuple(t for t in tensors if t.type.shape != (0,))
    return call.replace(tensors=kept) if kept and len(kept) < len(tensors) else None


def _table() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}

    def put(rule: Rule, text: str) -> None:
        for target in _overloads(text):
            rules[target] = rule

    put(_running, "cumsum cumprod")
    put(_cast_input, "softmax.int log_softmax.int prod prod.dim_int sum mean _softmax _log_softmax")
    put(_conversion, "to.dtype to.dtype_layout to.device to.other _to_copy type_as")
    put(_shape_argument("size"), "view _unsafe_view view_copy expand expand_copy")
    put(_shape_argument("shape"), "reshape")
    put(
        _as("aten.view.default"),
        "view_as reshape_as flatten.using_ints unflatten.int ravel squeeze squeeze.dim squeeze.dims",
    )
    put(_as("aten.expand.default"), "expand_as broadcast_to")
    put(_slice, "slice.Tensor slice_copy.Tensor")
    put(_select, "select.int select_copy.int")
    put(_pieces(_equal_pieces), "split.Tensor chunk unsafe_chunk unsafe_split.Tensor split_copy.Tensor")
    put(_pieces(_named_pieces), "split.sizes split_with_sizes unsafe_split_with_sizes split_with_sizes_copy")
    put(_pieces(_tensor_split), "tensor_split.sections tensor_split.indices")
    put(indexing.read, "index.Tensor _unsafe_index.Tensor")
    put(indexing.write, "index_put index_put.hacked_twin _unsafe_index_put")
    put(_unbind, "unbind.int unbind_copy.int")
    put(_broadcast_tensors, "broadcast_tensors")
    put(_einsum, "einsum")
    put(_meshgrid, "meshgrid meshgrid.indexing")
    put(
        _constant(0),
        """zeros zeros_like new_zeros _new_zeros_with_same_feature_meta empty.memory_format new_empty empty_like empty_strided
        new_empty_strided empty_permuted""",
    )
    put(_constant(1), "ones ones_like new_ones")
    put(_constant(None), "full full_like new_full fill.Scalar fill.Tensor scalar_tensor")
    put(_arange, "arange arange.start arange.start_step")
    put(_evaluated, "linspace logspace")
    put(_frequencies, "fft_fftfreq fft_rfftfreq")
    put(_reduced_number, "scatter.value_reduce")
    put(_pairs_of_rows, "pdist")
    put(_copy, "copy")
    put(
        _reduction,
        """sum.dim_IntList mean.dim amax amin any.dim any.dims all.dim all.dims argmax argmin logsumexp linalg_vector_norm
        nansum nanmean norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype""",
    )
    put(_variance, "var var.dim var.correction std std.dim std.correction var_mean var_mean.dim var_mean.correction")
    put(
        _pool_stride,
        """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices
        max_pool3d_with_indices max_pool1d_with_indices""",
    )
    put(_convolution_padding, "conv1d.padding conv2d.padding conv3d.padding")
    for packet in ("quantize_per_channel", "dequantize_per_channel"):
        rules[f"quantized_decomposed.{packet}.default"] = _per_channel
    put(_one_sample, "multilabel_margin_loss")
    put(_as_strided, "as_strided as_strided_copy")
    put(_cat, "cat concat concatenate")
    return rules


#: ATen target -> the rule that brings a call of it to normal form.
NORMAL: dict[str, Rule] = _table()
