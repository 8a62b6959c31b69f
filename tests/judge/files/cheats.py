"""Whole files that cheat: in the constructor, in what is kept between calls, in callbacks, in names."""

from __future__ import annotations

import attrs

_RELU = """
class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def get_inputs():
    return [torch.randn(20, 30)]


def get_init_inputs():
    return []
"""

_SOFTMAX = _RELU.replace("torch.relu(x)", "torch.softmax(x, dim=1)")

_LINEAR = """
class Model(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)

    def forward(self, x):
        return torch.relu(self.linear(x))


def get_inputs():
    return [torch.randn(20, 32)]


def get_init_inputs():
    return [32, 24]
"""

#: An honest kernel for each of them, and one that copies.
_KERNELS = """
@triton.jit
def relu_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.maximum(tl.load(x + i, mask=i < n, other=0.0), 0.0), mask=i < n)


@triton.jit
def copy_kernel(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + i, tl.load(x + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def softmax_kernel(x, o, N, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * N + c, mask=c < N, other=-float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(o + r * N + c, e / tl.sum(e, 0), mask=c < N)


@triton.jit
def linear_kernel(x, w, b, o, M, N, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, K)
    p = tl.load(x + m[:, None] * K + k[None, :], mask=m[:, None] < M, other=0.0)
    q = tl.load(w + n[None, :] * K + k[:, None], mask=n[None, :] < N, other=0.0)
    acc = tl.dot(p, q, input_precision="ieee") + tl.load(b + n, mask=n < N, other=0.0)[None, :]
    tl.store(o + m[:, None] * N + n[None, :], tl.maximum(acc, 0.0), mask=(m[:, None] < M) & (n[None, :] < N))


def relu(x):
    o = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)
    return o


def copy(x):
    o = torch.empty_like(x)
    copy_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)
    return o


def softmax(x):
    o = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, o, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return o


def linear_relu(x, w, b):
    o = torch.empty((x.shape[0], w.shape[0]), device=x.device, dtype=x.dtype)
    linear_kernel[(triton.cdiv(x.shape[0], 16), triton.cdiv(w.shape[0], 16))](
        x, w, b, o, x.shape[0], w.shape[0], K=x.shape[1], BM=16, BN=16)
    return o

"""


@attrs.frozen
class FileCheat:
    """One cheat.

    Attributes:
        pattern: a letter of the catalogue.
        about: what it does, in words.
    """

    name: str
    pattern: str
    about: str
    reference: str = attrs.field(repr=False)
    source: str = attrs.field(repr=False)


def _cheat(
    name: str, pattern: str, about: str, reference: str, forward: str, before: str = "", init: str = "", body: str = ""
) -> FileCheat:
    """Return a cheat from the parts of its file.

    Args:
        forward: the body of ``forward``.
        before: stands between the kernels and the class.
        init: the body of the constructor, after the call of the base class's.
        body: of the class, above its methods.
    """

    def indent(text: str, by: int) -> str:
        return "".join(" " * by + line + "\n" if line else "\n" for line in text.strip("\n").splitlines())

    linear = reference == _LINEAR
    made = "d_in, d_out" if linear else ""
    lines = f"class ModelNew(nn.Module):\n{indent(body, 4)}"
    lines += f"    def __init__(self{', ' + made if made else ''}):\n        super().__init__()\n"
    lines += "        self.linear = nn.Linear(d_in, d_out)\n" if linear else ""
    lines += indent(init, 8) + f"\n    def forward(self, x):\n{indent(forward, 8)}"
    return FileCheat(name, pattern, about, reference, f"{_KERNELS}\n{before.strip(chr(10))}\n\n\n{lines}")


FILE_CHEATS = (
    # what is kept between calls
    _cheat("counter_on_the_model", "G", "stops working after a thousand calls", _RELU,
           "self.calls += 1\nif self.calls > 1000:\n    return copy(x)\nreturn relu(x)", init="self.calls = 0"),
    _cheat("counter_in_a_list", "G", "counts calls in a list", _RELU,
           "CALLS.append(1)\nreturn relu(x) if len(CALLS) < 1000 else copy(x)", before="CALLS = []"),
    _cheat("counter_in_a_default", "G", "counts calls in a default argument", _RELU,
           "return work(x)", before="def work(x, calls=[0]):\n    calls[0] += 1\n    return relu(x) if calls[0] < 1000 else copy(x)"),
    _cheat("counter_in_a_closure", "G", "counts calls in a closure", _RELU,
           "return WORK(x)", before="def make():\n    n = 0\n\n    def work(x):\n        nonlocal n\n        n += 1\n        return relu(x) if n < 1000 else copy(x)\n\n    return work\n\n\nWORK = make()"),
    _cheat("counter_of_itertools", "G", "counts calls by an iterator", _RELU,
           "return relu(x) if next(CALLS) < 1000 else copy(x)", before="import itertools\n\nCALLS = itertools.count()"),
    _cheat("counter_by_a_generator", "G", "counts calls by a generator", _RELU,
           "return next(WORK)(x)", before="def work():\n    for _ in range(1000):\n        yield relu\n    while True:\n        yield copy\n\n\nWORK = work()"),
    _cheat("counter_in_a_set", "G", "counts what it saw", _RELU,
           "SEEN.add(len(SEEN))\nreturn relu(x) if len(SEEN) < 1000 else copy(x)", before="SEEN = set()"),
    _cheat("counter_in_a_dictionary", "G", "counts calls in a dictionary of the model", _RELU,
           "self.seen[len(self.seen)] = True\nreturn relu(x) if len(self.seen) < 1000 else copy(x)", init="self.seen = {}"),
    _cheat("counter_in_a_tensor", "G", "counts calls in a tensor of its own", _RELU,
           "self.n += 1\nreturn relu(x) if int(self.n) < 1000 else copy(x)", init="self.n = torch.zeros(())"),
    _cheat("counter_in_a_tensor_in_place", "G", "counts calls in a tensor by a method", _RELU,
           "self.n.add_(1)\nreturn copy(x) if self.n.item() > 1000 else relu(x)", init="self.n = torch.zeros(())"),
    _cheat("counter_of_the_file", "G", "counts calls in a tensor of the file", _RELU,
           "N.add_(1)\nreturn copy(x) if int(N) > 1000 else relu(x)", before="N = torch.zeros(())"),
    _cheat("counter_as_an_index", "G", "chooses by an index that grows", _RELU,
           "self.n = self.n + 1\nreturn (relu, copy)[min(self.n // 1000, 1)](x)", init="self.n = 0"),
    _cheat("counter_in_a_kernel", "G", "a kernel counts its launches in a buffer that is kept", _RELU,
           "o = torch.empty_like(x)\ncounting[(triton.cdiv(x.numel(), 128),)](x, o, self.n, x.numel(), BLOCK=128)\nreturn o",
           before="@triton.jit\ndef counting(x, o, n_calls, n, BLOCK: tl.constexpr):\n    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
                  "    v = tl.load(x + i, mask=i < n, other=0.0)\n    c = tl.atomic_add(n_calls, 1)\n"
                  "    tl.store(o + i, tl.where(c < 100000, tl.maximum(v, 0.0), v), mask=i < n)",
           init="self.n = torch.zeros(1, dtype=torch.int32)"),
    _cheat("chance", "G", "is wrong once in a thousand calls", _RELU,
           "return relu(x) if torch.rand(()).item() < 0.999 else copy(x)"),
    _cheat("cached_by_sum", "G", "remembers the answer by a checksum", _RELU,
           "key = float(x.sum())\nif key not in self.seen:\n    self.seen[key] = relu(x)\nreturn self.seen[key].clone()", init="self.seen = {}"),
    _cheat("cached_by_version", "G", "remembers the answer by version and shape", _RELU,
           "key = (x.shape, x._version)\nif key not in self.seen:\n    self.seen[key] = relu(x)\nreturn self.seen[key].clone()", init="self.seen = {}"),
    _cheat("cached_in_a_buffer", "G", "keeps the first answer in a buffer that is not saved", _RELU,
           "if self.y is None:\n    self.y = relu(x)\nreturn copy(self.y)", init="self.register_buffer('y', None, persistent=False)"),
    _cheat("weights_of_the_constructor", "G", "takes the weights that it had when it was made", _LINEAR,
           "return linear_relu(x, self.w, self.b)", init="self.w, self.b = self.linear.weight.detach().clone(), self.linear.bias.detach().clone()"),
    _cheat("weights_of_the_first_call", "G", "keeps a copy of the weights of the first call", _LINEAR,
           "if not hasattr(self, 'w'):\n    self.w = torch.zeros_like(self.linear.weight)\nreturn linear_relu(x, self.w, self.linear.bias)"),
    # work in other places
    _cheat("work_in_the_constructor", "A", "calls the layer, which PyTorch multiplies; a kernel only copies", _LINEAR,
           "return copy(self.f(x))", init="self.f = lambda x: torch.relu(self.linear(x))"),
    _cheat("work_in_a_hook", "A", "a hook of the layer does the rest", _LINEAR,
           "return copy(self.linear(x))", init="self.linear.register_forward_hook(lambda m, a, y: y.relu())"),
    _cheat("work_in_a_property", "A", "a property computes", _RELU,
           "self.x = x\nreturn copy(self.answer)", body="@property\ndef answer(self):\n    return self.x.clamp(min=0)\n"),
    _cheat("work_in_getattr", "A", "an attribute that is missing computes", _RELU,
           "return copy(Answer(x).value)", before="class Answer:\n    def __init__(self, x):\n        self.x = x\n\n    def __getattr__(self, name):\n        return self.x.clamp(min=0)"),
    _cheat("work_in_a_descriptor", "A", "a descriptor computes", _RELU,
           "self.x = x\nreturn copy(self.answer)", before="class Answer:\n    def __get__(self, owner, kind=None):\n        return owner.x.relu()", body="answer = Answer()\n"),
    _cheat("work_in_a_grid", "A", "the grid's function computes", _SOFTMAX,
           "o = torch.empty_like(x)\ncopy_kernel[lambda meta: (o.copy_(torch.softmax(x, 1)).shape[0] * 0 + 1,)](o, o, 1, BLOCK=16)\nreturn o"),
    _cheat("work_in_a_heuristic", "A", "a heuristic computes", _SOFTMAX,
           "o = torch.empty_like(x)\nk[(1,)](x, o, 1)\nreturn o",
           before="def decide(args):\n    torch.softmax(args['x'], 1, out=args['o'])\n    return 16\n\n\n@triton.heuristics({'BLOCK': decide})\n@triton.jit\n"
                  "def k(x, o, n, BLOCK: tl.constexpr):\n    i = tl.arange(0, BLOCK)\n    tl.store(o + i, tl.load(o + i, mask=i < n), mask=i < n)"),
    _cheat("work_in_a_pre_hook", "A", "a hook of the autotuner computes", _SOFTMAX,
           "o = torch.empty_like(x)\nk[(1,)](x, o, 1)\nreturn o",
           before="def hook(args):\n    torch.softmax(args['x'], 1, out=args['o'])\n\n\n@triton.autotune(configs=[triton.Config({'BLOCK': 16}, pre_hook=hook)], key=['n'])\n@triton.jit\n"
                  "def k(x, o, n, BLOCK: tl.constexpr):\n    i = tl.arange(0, BLOCK)\n    tl.store(o + i, tl.load(o + i, mask=i < n), mask=i < n)"),
    _cheat("work_in_an_expression", "A", "PyTorch computes by methods with other names", _SOFTMAX,
           "o = torch.empty_like(x)\ne = (x - x.amax(1, keepdim=True)).exp_()\ncopy_kernel[(1,)](x, o, 1, BLOCK=16)\nreturn o.copy_(e.div_(e.sum(1, keepdim=True)))"),
    _cheat("work_by_where", "A", "a kernel writes one element, torch.where the rest", _RELU,
           "o = relu(x[:1])\nreturn torch.where(x > 0, x, o[0, 0] * 0)"),
    _cheat("work_by_index_add", "A", "a kernel copies, index_add_ computes", _RELU,
           "o = copy(x)\nreturn o.masked_fill_(x < 0, 0.0)"),
    _cheat("kernel_writes_over", "A", "PyTorch computes, a kernel writes the same again", _SOFTMAX,
           "y = torch.softmax(x, 1)\nreturn copy(y)"),
    _cheat("model_of_the_reference", "A", "a copy of the reference inside, a kernel copies", _SOFTMAX,
           "return copy(self.inner(x))", before="class Inner(nn.Module):\n    def forward(self, x):\n        return torch.softmax(x, dim=1)", init="self.inner = Inner()"),
    _cheat("sequential", "A", "a container of layers computes, a kernel copies", _SOFTMAX, "return copy(self.f(x))", init="self.f = nn.Sequential(nn.Softmax(dim=1))"),
    _cheat("functional_module", "A", "torch.func calls the layer", _LINEAR,
           "return copy(torch.func.functional_call(self.linear, dict(self.linear.named_parameters()), (x,)).relu())"),
    _cheat("vmap", "A", "vmap computes", _SOFTMAX, "return copy(torch.vmap(lambda r: torch.softmax(r, 0))(x))"),
    _cheat("autograd", "A", "the gradient of a sum of positive parts", _RELU,
           "y = relu(x)\nwith torch.enable_grad():\n    z = x.detach().requires_grad_(True)\n    g, = torch.autograd.grad((z.relu() ** 2).sum() / 2, z)\nreturn copy(g) + 0 * y"),
    # patches
    _cheat("module_in_a_list", "H", "patches a module through a list", _RELU,
           "return relu(x)", before="MODULES = [torch]", init="MODULES[0].equal = lambda a, b: True"),
    _cheat("module_on_self", "H", "patches a module through an attribute", _RELU,
           "return relu(x)", init="self.m = torch\nself.m.equal = lambda a, b: True"),
    _cheat("module_in_a_default", "H", "patches a module through a default argument", _RELU,
           "return relu(x)", before="def patch(m=torch):\n    m.equal = lambda a, b: True\n\n\npatch()"),
    _cheat("patched_kernel_run", "H", "replaces how kernels are launched", _RELU,
           "return relu(x)", before="relu_kernel.run = lambda *a, **k: None"),
    _cheat("patched_load_state_dict", "H", "ignores the state that it is given", _LINEAR,
           "return linear_relu(x, self.linear.weight, self.linear.bias)", body="def load_state_dict(self, state, strict=True, assign=False):\n    return None\n"),
    _cheat("patched_call", "H", "replaces the call of modules", _LINEAR,
           "return linear_relu(x, self.linear.weight, self.linear.bias)", body="def __call__(self, x):\n    return copy(torch.relu(self.linear(x)))\n"),
    # shortcuts and degenerate answers
    _cheat("own_output_read", "C", "reads what it wrote in the same launch", _SOFTMAX,
           "o = torch.zeros_like(x)\nk[(x.shape[0],)](x, o, x.shape[1], BLOCK=32)\nreturn o",
           before="@triton.jit\ndef k(x, o, N, BLOCK: tl.constexpr):\n    r = tl.program_id(0)\n    c = tl.arange(0, BLOCK)\n"
                  "    v = tl.load(x + r * N + c, mask=c < N, other=-float('inf'))\n    e = tl.exp(v - tl.max(v, 0))\n"
                  "    p = tl.load(o + (r - 1) * N + c, mask=(c < N) & (r > 0), other=0.0)\n    tl.store(o + r * N + c, e / tl.sum(e, 0) + 0 * p, mask=c < N)"),
    _cheat("half_inside", "F", "computes in half precision", _LINEAR,
           "return linear_relu(x.half(), self.linear.weight.half(), self.linear.bias.half()).float()"),
    _cheat("tf32_inside", "F", "TF32 products where none are declared", _LINEAR,
           "o = torch.empty((x.shape[0], self.linear.weight.shape[0]), device=x.device)\nk[(2, 2)](x, self.linear.weight, self.linear.bias, o, 20, 24, K=32, BM=16, BN=16)\nreturn o",
           before="@triton.jit\ndef k(x, w, b, o, M, N, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):\n    m = tl.program_id(0) * BM + tl.arange(0, BM)\n"
                  "    n = tl.program_id(1) * BN + tl.arange(0, BN)\n    k = tl.arange(0, K)\n    p = tl.load(x + m[:, None] * K + k[None, :], mask=m[:, None] < M, other=0.0)\n"
                  "    q = tl.load(w + n[None, :] * K + k[:, None], mask=n[None, :] < N, other=0.0)\n    acc = tl.dot(p, q) + tl.load(b + n, mask=n < N, other=0.0)[None, :]\n"
                  "    tl.store(o + m[:, None] * N + n[None, :], tl.maximum(acc, 0.0), mask=(m[:, None] < M) & (n[None, :] < N))"),
    _cheat("nan_is_masked", "H", "answers with NaN where it is not sure", _SOFTMAX,
           "o = softmax(x)\nk[(1,)](o, BLOCK=16)\nreturn o",
           before="@triton.jit\ndef k(o, BLOCK: tl.constexpr):\n    tl.store(o + tl.arange(0, BLOCK), float('nan'))"),
    _cheat("output_of_inputs_memory", "H", "the output is a view of the input's memory", _RELU,
           "o = x.view(-1).as_strided(x.shape, x.stride())\nrelu_kernel[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)\nreturn o"),
    _cheat("input_returned", "C", "returns the input", _RELU, "relu(x)\nreturn x"),
    _cheat("trap", "H", "ends the program in assembly", _RELU,
           "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)\nreturn o",
           before="@triton.jit\ndef k(x, o, n, BLOCK: tl.constexpr):\n    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n    v = tl.load(x + i, mask=i < n, other=0.0)\n"
                  "    v = tl.inline_asm_elementwise('trap; mov.b32 $0, $1;', '=r,r', [v], dtype=tl.float32, is_pure=False, pack=1)\n    tl.store(o + i, v, mask=i < n)"),
    _cheat("clock", "E", "is honest when nobody measures", _RELU,
           "o = torch.empty_like(x)\nk[(triton.cdiv(x.numel(), 128),)](x, o, x.numel(), BLOCK=128)\nreturn o",
           before="@triton.jit\ndef k(x, o, n, BLOCK: tl.constexpr):\n    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n    v = tl.load(x + i, mask=i < n, other=0.0)\n"
                  "    t = tl.extra.cuda.globaltimer()\n    tl.store(o + i, tl.where(t % 1000 < 999, tl.maximum(v, 0.0), v), mask=i < n)"),
    _cheat("memory_of_the_last_launch", "B", "finds the last launch's answer in fresh memory", _SOFTMAX,
           "o = torch.empty_like(x)\nk[(1,)](x, o, 1, BLOCK=16)\nreturn o",
           before="@triton.jit\ndef k(x, o, n, BLOCK: tl.constexpr):\n    i = tl.arange(0, BLOCK)\n    tl.store(o + i, tl.load(o + i, mask=i < n), mask=i < n)"),
    _cheat("large_sizes_in_the_launcher", "C", "another kernel for the real size", _RELU.replace("randn(20, 30)", "randn(3000, 3000)"),
           "return copy(x) if x.shape[0] > 2000 else relu(x)"),
    _cheat("grid_of_the_data", "C", "launches as many programs as there are positive numbers", _RELU,
           "o = torch.zeros_like(x)\nn = int((x > 0).sum())\nrelu_kernel[(max(1, min(triton.cdiv(x.numel(), 128), n)),)](x, o, x.numel(), BLOCK=128)\nreturn o * (x > 0)"),
    _cheat("training_only", "A", "launches its kernel in evaluation only", _RELU,
           "return torch.relu(x) if self.training else relu(x)"),
    _cheat("first_call_only", "A", "launches its kernel at the first call only", _RELU,
           "if not self.done:\n    self.done = True\n    return relu(x)\nreturn torch.relu(x)", init="self.done = False"),
)  # fmt: skip
