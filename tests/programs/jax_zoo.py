"""Programs as people write them in JAX, small: functions of a tree of parameters and of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@attrs.frozen
class JaxProgram:
    """One function, its parameters by name, and its inputs.

    Attributes:
        function: ``function(params, *inputs)``.
        shapes: of the parameters, in a tree.
        inputs: ``f32[4, 8]``, or ``i32[4]<8`` for integers below 8.
    """

    function: Callable[..., Any]
    shapes: Any
    inputs: tuple[str, ...]

    def parameters(self, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)
        leaf = lambda s: isinstance(s, tuple) and all(isinstance(n, int) for n in s)  # noqa: E731
        return jax.tree.map(
            lambda s: (rng.standard_normal(s) / max(1, s[0] if s else 1) ** 0.5).astype(np.float32),
            self.shapes,
            is_leaf=leaf,
        )

    def arguments(self, seed: int = 1) -> list[Any]:
        rng = np.random.default_rng(seed)
        out = []
        for text in self.inputs:
            kind, _, rest = text.partition("[")
            inside, _, bound = rest.partition("]")
            shape = tuple(int(n) for n in inside.split(",") if n.strip())
            if kind == "i32":
                out.append(rng.integers(0, int(bound[1:]), shape).astype(np.int32))
            elif kind == "bool":
                out.append(rng.random(shape) < 0.5)
            else:
                out.append(rng.standard_normal(shape).astype(np.float32))
        return out


def layer_norm(x: Any, scale: Any, bias: Any, eps: float = 1e-5) -> Any:
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x - mean).mean(axis=-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + eps) * scale + bias


def rms_norm(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def mlp(p: Any, x: Any) -> Any:
    for layer in p["hidden"]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ p["out"]["w"] + p["out"]["b"]


def gelu_mlp(p: Any, x: Any) -> Any:
    return jax.nn.gelu(x @ p["up"], approximate=False) @ p["down"]


def swiglu(p: Any, x: Any) -> Any:
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def attention(p: Any, x: Any) -> Any:
    b, t, d = x.shape
    q, k, v = (jnp.reshape(x @ p[n], (b, t, 2, d // 2)) for n in ("q", "k", "v"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(d // 2)
    mask = jnp.tril(jnp.ones((t, t), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, t, d) @ p["o"]


def transformer_block(p: Any, x: Any) -> Any:
    x = x + attention(p["attention"], layer_norm(x, p["norm1"]["scale"], p["norm1"]["bias"]))
    return x + gelu_mlp(p["mlp"], layer_norm(x, p["norm2"]["scale"], p["norm2"]["bias"]))


def library_attention(p: Any, q: Any, k: Any, v: Any) -> Any:
    return jax.nn.dot_product_attention(q, k, v, scale=0.5)


def rotary(p: Any, x: Any) -> Any:
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] * (10000.0 ** (-jnp.arange(half) / half))[None, :]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def llama_block(p: Any, x: Any) -> Any:
    h = rms_norm(x, p["norm1"])
    b, t, d = h.shape
    q = rotary(None, h @ p["q"]).reshape(b, t, 2, d // 2)
    k = jnp.repeat((h @ p["k"]).reshape(b, t, 1, d // 2), 2, axis=2)
    v = jnp.repeat((h @ p["v"]).reshape(b, t, 1, d // 2), 2, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (d // 2) ** -0.5
    scores = jnp.where(jnp.arange(t)[:, None] >= jnp.arange(t)[None, :], scores, -1e9)
    x = x + jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v).reshape(b, t, d) @ p["o"]
    return x + swiglu(p["mlp"], rms_norm(x, p["norm2"]))


def language_model(p: Any, tokens: Any) -> Any:
    x = p["embedding"][tokens] + p["positions"][: tokens.shape[1]]
    x = transformer_block(p["block"], x)
    logits = x @ p["embedding"].T
    targets = jnp.roll(tokens, -1, axis=1)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1).mean()


def mixture(p: Any, x: Any) -> Any:
    gates, chosen = lax.top_k(jax.nn.softmax(x @ p["router"]), 2)
    gates = gates / gates.sum(-1, keepdims=True)
    weights = (jax.nn.one_hot(chosen, 4) * gates[..., None]).sum(1)
    outputs = jnp.einsum("td,edf->tef", x, p["experts"])
    return jnp.einsum("te,tef->tf", weights, jax.nn.relu(outputs))


def conv_net(p: Any, x: Any) -> Any:
    dims = ("NHWC", "HWIO", "NHWC")
    x = jax.nn.relu(lax.conv_general_dilated(x, p["c1"], (1, 1), "SAME", dimension_numbers=dims) + p["b1"])
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(lax.conv_general_dilated(x, p["c2"], (2, 2), "SAME", dimension_numbers=dims))
    x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4.0
    return x.reshape(x.shape[0], -1) @ p["w"]


def residual(p: Any, x: Any) -> Any:
    def conv(x: Any, w: Any) -> Any:
        return lax.conv(x, w, (1, 1), "SAME")

    def norm(x: Any, q: Any) -> Any:
        y = (x - q["mean"][:, None, None]) * lax.rsqrt(q["var"][:, None, None] ** 2 + 1e-5)
        return y * q["scale"][:, None, None] + q["bias"][:, None, None]

    y = jax.nn.relu(norm(conv(x, p["w1"]), p["n1"]))
    return jax.nn.relu(x + norm(conv(y, p["w2"]), p["n2"]))


def depthwise(p: Any, x: Any) -> Any:
    y = lax.conv_general_dilated(x, p["d"], (1, 1), ((1, 1), (2, 0)), rhs_dilation=(1, 2), feature_group_count=4)
    return jax.nn.hard_swish(lax.conv(y, p["p"], (1, 1), "VALID"))


def upsampling(p: Any, x: Any) -> Any:
    return lax.conv_transpose(x, p["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def temporal(p: Any, x: Any) -> Any:
    x = lax.conv_general_dilated(x, p["w"], (1,), [(4, 0)], rhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC"))
    return jnp.tanh(x[..., :3]) * jax.nn.sigmoid(x[..., 3:])


def group_norm(p: Any, x: Any) -> Any:
    b, h, w, c = x.shape
    g = x.reshape(b, h * w, 2, c // 2)
    g = (g - g.mean((1, 3), keepdims=True)) / jnp.sqrt(g.var((1, 3), keepdims=True) + 1e-5)
    return g.reshape(x.shape) * p["scale"] + p["bias"]


def recurrent(p: Any, x: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = jnp.tanh(x @ p["wx"] + h @ p["wh"] + p["b"])
        return h, h

    last, all_ = lax.scan(step, jnp.zeros((x.shape[1], 6)), x)
    return last, all_


def gated_recurrent(p: Any, x: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        z, r = jnp.split(jax.nn.sigmoid(x @ p["x"] + h @ p["h"]), 2, axis=-1)
        n = jnp.tanh(x @ p["xn"] + (r * h) @ p["hn"])
        return (1 - z) * h + z * n, None

    return lax.scan(step, jnp.zeros((x.shape[1], 4)), x, reverse=True)[0]


def diagonal_state_space(p: Any, x: Any) -> Any:
    decay = jnp.exp(-jax.nn.softplus(p["a"]))

    def body(i: int, carry: Any) -> Any:
        h, ys = carry
        h = h * decay + x[i]
        return h, ys.at[i].set(h * p["c"])

    return lax.fori_loop(0, x.shape[0], body, (jnp.zeros(x.shape[1]), jnp.zeros_like(x)))[1]


def power_iteration(p: Any, x: Any) -> Any:
    v = jnp.ones(x.shape[0])
    for _ in range(3):
        v = x @ v
        v = v / jnp.linalg.norm(v)
    return v @ x @ v


def label_smoothing(p: Any, logits: Any, labels: Any) -> Any:
    target = jax.nn.one_hot(labels, logits.shape[-1]) * 0.9 + 0.1 / logits.shape[-1]
    return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()


def contrastive(p: Any, a: Any, b: Any) -> Any:
    a = a / jnp.linalg.norm(a, axis=-1, keepdims=True)
    b = b / jnp.linalg.norm(b, axis=-1, keepdims=True)
    logits = a @ b.T / 0.07
    return (jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits)).mean()


def huber(p: Any, a: Any, b: Any) -> Any:
    d = jnp.abs(a - b)
    return jnp.where(d < 1.0, 0.5 * d**2, d - 0.5).mean()


def focal(p: Any, x: Any, y: Any) -> Any:
    prob = jax.nn.sigmoid(x)
    chosen = jnp.where(y, prob, 1 - prob)
    return jnp.mean(-((1 - chosen) ** 2) * jnp.log(jnp.clip(chosen, 1e-6, 1.0)))


def activations(p: Any, x: Any) -> Any:
    return [
        f(x)
        for f in (jax.nn.elu, jax.nn.selu, jax.nn.leaky_relu, jax.nn.softplus, jax.nn.mish, jax.nn.hard_tanh, jnp.tanh)
    ]


def graph_layer(p: Any, x: Any, source: Any, target: Any) -> Any:
    messages = (x @ p["w"])[source]
    summed = jax.ops.segment_sum(messages, target, num_segments=5)
    counts = jnp.zeros(5).at[target].add(1.0)
    return jax.nn.relu(summed / jnp.maximum(counts, 1.0)[:, None])


def orders(p: Any, x: Any) -> Any:
    return jnp.sort(x, axis=0), jnp.argsort(x, axis=1), jnp.median(x, axis=1), jnp.cumsum(x[:, ::-1], axis=1)


def indexing(p: Any, x: Any, i: Any) -> Any:
    return (
        x[i],
        x[:, 1],
        x[1:, ::2],
        x[..., None, -1],
        x.at[:, 2].set(0.0),
        x.at[0].add(1.0),
        jnp.take(x, i, axis=1, mode="clip"),
        x[i, i],
    )


def statistics(p: Any, x: Any) -> Any:
    return {
        "mean": x.mean(), "std": x.std(axis=0, ddof=1), "max": x.max(-1), "argmin": x.argmin(0), "any": (x > 1).any(),
        "all": (x < 9).all(1), "prod": x.prod(axis=1), "var": x.var(), "count": (x > 0).sum(),
    }  # fmt: skip


def integers(p: Any, i: Any, j: Any) -> Any:
    return (
        i // (j + 1),
        i % (j + 1),
        lax.div(-i, j + 1),
        lax.rem(-i, j + 1),
        (i & j) | (i ^ 3),
        i << 1,
        -i >> 1,
        jnp.sign(i - j),
    )


def diffusion_step(p: Any, x: Any, t: Any) -> Any:
    frequencies = jnp.exp(-jnp.log(1000.0) * jnp.arange(4) / 4)
    emb = jnp.concatenate([jnp.sin(t[:, None] * frequencies), jnp.cos(t[:, None] * frequencies)], -1)
    h = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h = h[:, :-2, 1:-1] + h[:, 2:, 1:-1] + h[:, 1:-1, :-2] + h[:, 1:-1, 2:] - 4 * x
    return x + h * (jax.nn.silu(emb) @ p["w"])[:, None, None, :]


def batched(p: Any, x: Any) -> Any:
    return jax.vmap(lambda row: jax.nn.softmax(p["w"] @ row))(x)


def gradient(p: Any, x: Any, y: Any) -> Any:
    return jax.grad(lambda p: jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2))(p)


_D = {"q": (8, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8)}
_BLOCK = {
    "attention": _D, "mlp": {"up": (8, 16), "down": (16, 8)}, "norm1": {"scale": (8,), "bias": (8,)},
    "norm2": {"scale": (8,), "bias": (8,)},
}  # fmt: skip
_BN = {"mean": (4,), "var": (4,), "scale": (4,), "bias": (4,)}

PROGRAMS: dict[str, JaxProgram] = {
    f.__name__: JaxProgram(f, shapes, inputs)
    for f, shapes, inputs in (
        (mlp, {"hidden": [{"w": (8, 16), "b": (16,)}, {"w": (16, 16), "b": (16,)}], "out": {"w": (16, 3), "b": (3,)}}, ("f32[5, 8]",)),
        (gelu_mlp, {"up": (8, 16), "down": (16, 8)}, ("f32[2, 3, 8]",)),
        (swiglu, {"gate": (8, 12), "up": (8, 12), "down": (12, 8)}, ("f32[3, 8]",)),
        (attention, _D, ("f32[2, 5, 8]",)),
        (transformer_block, _BLOCK, ("f32[2, 5, 8]",)),
        (library_attention, (), ("f32[2, 5, 2, 4]", "f32[2, 6, 2, 4]", "f32[2, 6, 2, 4]")),
        (rotary, (), ("f32[2, 5, 8]",)),
        (llama_block, {"norm1": (8,), "norm2": (8,), "q": (8, 8), "k": (8, 4), "v": (8, 4), "o": (8, 8),
                       "mlp": {"gate": (8, 12), "up": (8, 12), "down": (12, 8)}}, ("f32[2, 5, 8]",)),
        (language_model, {"embedding": (11, 8), "positions": (7, 8), "block": _BLOCK}, ("i32[2, 5]<11",)),
        (mixture, {"router": (6, 4), "experts": (4, 6, 5)}, ("f32[7, 6]",)),
        (conv_net, {"c1": (3, 3, 3, 4), "b1": (4,), "c2": (3, 3, 4, 6), "w": (6, 3)}, ("f32[2, 8, 8, 3]",)),
        (residual, {"w1": (4, 4, 3, 3), "w2": (4, 4, 3, 3), "n1": _BN, "n2": _BN}, ("f32[2, 4, 6, 5]",)),
        (depthwise, {"d": (4, 1, 3, 2), "p": (6, 4, 1, 1)}, ("f32[2, 4, 6, 5]",)),
        (upsampling, {"w": (3, 3, 4, 2)}, ("f32[1, 4, 5, 4]",)),
        (temporal, {"w": (3, 4, 6)}, ("f32[2, 9, 4]",)),
        (group_norm, {"scale": (4,), "bias": (4,)}, ("f32[2, 3, 5, 4]",)),
        (recurrent, {"wx": (3, 6), "wh": (6, 6), "b": (6,)}, ("f32[4, 2, 3]",)),
        (gated_recurrent, {"x": (3, 8), "h": (4, 8), "xn": (3, 4), "hn": (4, 4)}, ("f32[3, 2, 3]",)),
        (diagonal_state_space, {"a": (5,), "c": (5,)}, ("f32[4, 5]",)),
        (power_iteration, (), ("f32[4, 4]",)),
        (label_smoothing, (), ("f32[6, 5]", "i32[6]<5")),
        (contrastive, (), ("f32[6, 5]", "f32[6, 5]")),
        (huber, (), ("f32[4, 3]", "f32[4, 3]")),
        (focal, (), ("f32[4, 3]", "bool[4, 3]")),
        (activations, (), ("f32[4, 3]",)),
        (graph_layer, {"w": (3, 4)}, ("f32[5, 3]", "i32[9]<5", "i32[9]<5")),
        (orders, (), ("f32[5, 4]",)),
        (indexing, (), ("f32[4, 5]", "i32[3]<4")),
        (statistics, (), ("f32[4, 5]",)),
        (integers, (), ("i32[12]<9", "i32[12]<9")),
        (diffusion_step, {"w": (8, 3)}, ("f32[2, 5, 4, 3]", "f32[2]")),
        (batched, {"w": (4, 6)}, ("f32[5, 6]",)),
        (gradient, {"w": (4, 6), "v": (6, 2)}, ("f32[5, 4]", "f32[5, 2]")),
    )
}  # fmt: skip
