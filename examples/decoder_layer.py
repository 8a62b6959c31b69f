"""One decoder layer of a Llama-style language model in bfloat16: RMS norm, rotary grouped-query attention, SwiGLU."""

import torch
from torch import nn

BATCH = 2
TOKENS = 1024
WIDTH = 2048
HEADS = 16
KV_HEADS = 4
HIDDEN = 5632


class RMSNorm(nn.Module):
    """Division by the root mean square, taken in float32, then a learned scale."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * h.to(x.dtype)


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention: each key-value head serves ``heads // kv_heads`` query heads."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, heads * self.head_width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(heads * self.head_width, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q = self.q_proj(x).view(batch, tokens, self.heads, self.head_width).transpose(1, 2)
        k = self.k_proj(x).view(batch, tokens, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v_proj(x).view(batch, tokens, self.kv_heads, self.head_width).transpose(1, 2)
        q = q * cos + rotate_half(q) * sin
        k = k * cos + rotate_half(k) * sin
        k, v = self._repeat(k), self._repeat(v)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_width))

    def _repeat(self, x: torch.Tensor) -> torch.Tensor:
        batch, kv_heads, tokens, head_width = x.shape
        repeats = self.heads // kv_heads
        x = x[:, :, None].expand(batch, kv_heads, repeats, tokens, head_width)
        return x.reshape(batch, self.heads, tokens, head_width)


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Model(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width)
        self.self_attn = Attention(width, heads, kv_heads)
        self.post_attention_layernorm = RMSNorm(width)
        self.mlp = SwiGLU(width, hidden)
        self.to(torch.bfloat16)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


def get_inputs() -> list[torch.Tensor]:
    head_width = WIDTH // HEADS
    frequencies = 10000.0 ** (-torch.arange(0, head_width, 2).float() / head_width)
    angles = torch.outer(torch.arange(TOKENS).float(), frequencies).repeat(1, 2)
    x = torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.bfloat16)
    return [x, angles.cos().bfloat16(), angles.sin().bfloat16()]


def get_init_inputs() -> list[int]:
    return [WIDTH, HEADS, KV_HEADS, HIDDEN]
