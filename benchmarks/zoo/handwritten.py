"""Models that need torch alone: recurrent nets, graph layers, recommenders, fields, generators."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from _building import Made, image, tokens
from torch import nn

# -- recurrent nets -----------------------------------------------------------------------------------------------------


class RecurrentLanguageModel(nn.Module):
    """Embedding, recurrent layers of one kind, vocabulary."""

    def __init__(self, kind: type[nn.RNNBase], width: int, layers: int, vocabulary: int, bidirectional: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.net = kind(width, width, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(width * (2 if bidirectional else 1), vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(self.embed(ids))[0])


def _recurrent(full: bool, kind: type[nn.RNNBase], bidirectional: bool = False) -> Made:
    width, layers, vocabulary, length = (1024, 2, 32000, 64) if full else (24, 2, 50, 7)
    return RecurrentLanguageModel(kind, width, layers, vocabulary, bidirectional), (tokens(2, length, vocabulary),)


def lstm_language_model(full: bool = False) -> Made:
    return _recurrent(full, nn.LSTM)


def gru_language_model(full: bool = False) -> Made:
    return _recurrent(full, nn.GRU)


def rnn_language_model(full: bool = False) -> Made:
    return _recurrent(full, nn.RNN)


def bidirectional_tagger(full: bool = False) -> Made:
    return _recurrent(full, nn.LSTM, bidirectional=True)


class SequenceToSequence(nn.Module):
    """Encoder and decoder of GRU cells, step by step, with additive attention (Bahdanau et al., 2014)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(vocabulary, width), nn.Embedding(vocabulary, width)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRUCell(2 * width, width)
        self.query, self.key, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        memory, state = self.encoder(self.source(source))
        state, keys, steps = state[0], self.key(memory), []
        for t in range(target.shape[1]):
            scores = self.score(torch.tanh(keys + self.query(state)[:, None])).squeeze(-1)
            context = torch.einsum("bs,bsd->bd", scores.softmax(-1), memory)
            state = self.decoder(torch.cat([self.target(target[:, t]), context], -1), state)
            steps.append(self.head(state))
        return torch.stack(steps, 1)


def sequence_to_sequence(full: bool = False) -> Made:
    vocabulary, width, length = (32000, 512, 16) if full else (40, 16, 5)
    return SequenceToSequence(vocabulary, width), (tokens(2, length, vocabulary), tokens(2, length, vocabulary))


class LstmCells(nn.Module):
    """A loop over LSTM cells with a teacher's input at each step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = torch.zeros(x.shape[0], x.shape[2], dtype=x.dtype, device=x.device)
        out = torch.empty_like(x)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
            out[:, t] = self.head(h)
        return out


def lstm_cells(full: bool = False) -> Made:
    width, length = (512, 16) if full else (12, 5)
    return LstmCells(width), (torch.randn(3, length, width),)


# -- graph layers -------------------------------------------------------------------------------------------------------


class GraphConvolution(nn.Module):
    """Mean of the neighbours through ``index_add`` (Kipf and Welling, 2016, with its symmetric normalisation)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges
        degree = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
        degree = degree.index_add(0, target, torch.ones_like(target, dtype=x.dtype)) + 1
        scale = degree.rsqrt()
        h = self.linear(x)
        message = h[source] * (scale[source] * scale[target])[:, None]
        return torch.zeros_like(h).index_add(0, target, message) + h / degree[:, None]


class GraphNet(nn.Module):
    """Two graph convolutions and a mean over each graph of the batch."""

    def __init__(self, inside: int, width: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = GraphConvolution(inside, width), GraphConvolution(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, edges: torch.Tensor, graph: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.first(x, edges))
        h = F.relu(self.second(h, edges))
        total = torch.zeros(4, h.shape[1], dtype=h.dtype, device=h.device)
        total = total.scatter_add(0, graph[:, None].expand_as(h), h)
        count = torch.zeros_like(total[:, 0]).scatter_add(0, graph, torch.ones_like(h[:, 0]))
        return self.head(total / count.clamp_min(1)[:, None])


def graph_convolution(full: bool = False) -> Made:
    nodes, edges, width = (20000, 100000, 128) if full else (12, 30, 8)
    x, pairs = torch.randn(nodes, width), torch.randint(0, nodes, (2, edges))
    return GraphNet(width, 2 * width, 5), (x, pairs, torch.randint(0, 4, (nodes,)))


class EdgeAttention(nn.Module):
    """Attention over the edges of each node: a softmax by ``scatter_reduce`` and ``scatter_add``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.project, self.heads = nn.Linear(width, width), heads
        self.source = nn.Parameter(torch.randn(heads, width // heads))
        self.target = nn.Parameter(torch.randn(heads, width // heads))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges[0], edges[1]
        h = self.project(x).view(x.shape[0], self.heads, -1)
        score = F.leaky_relu((h * self.source).sum(-1)[source] + (h * self.target).sum(-1)[target], 0.2)
        index = target[:, None].expand_as(score)
        top = torch.full((x.shape[0], self.heads), -math.inf, dtype=x.dtype, device=x.device)
        top = top.scatter_reduce(0, index, score, "amax")
        weight = (score - top[target]).exp()
        total = torch.zeros_like(top).scatter_add(0, index, weight)
        weight = weight / total[target]
        out = torch.zeros_like(h).index_add(0, target, h[source] * weight[..., None])
        return out.flatten(1)


def edge_attention(full: bool = False) -> Made:
    nodes, edges, width = (20000, 100000, 128) if full else (12, 30, 8)
    return EdgeAttention(width, 4), (torch.randn(nodes, width), torch.randint(0, nodes, (2, edges)))


# -- recommenders -------------------------------------------------------------------------------------------------------


class Dlrm(nn.Module):
    """Deep learning recommendation model (Naumov et al., 2019): bags of categories, pairwise interactions."""

    def __init__(self, tables: int, rows: int, width: int, dense: int) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables))
        self.bottom = nn.Sequential(nn.Linear(dense, 4 * width), nn.ReLU(), nn.Linear(4 * width, width), nn.ReLU())
        self.top = nn.Sequential(
            nn.Linear(width + (tables + 1) * tables // 2, 4 * width), nn.ReLU(), nn.Linear(4 * width, 1)
        )
        self.register_buffer("pairs", torch.tril_indices(tables + 1, tables + 1, -1), persistent=False)

    def forward(self, dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
        x = self.bottom(dense)
        vectors = torch.stack([x, *(bag(sparse[:, i]) for i, bag in enumerate(self.bags))], 1)
        products = torch.bmm(vectors, vectors.mT)[:, self.pairs[0], self.pairs[1]]
        return torch.sigmoid(self.top(torch.cat([x, products], 1)))


def dlrm(full: bool = False) -> Made:
    tables, rows, width, batch = (26, 10000, 64, 256) if full else (4, 20, 8, 3)
    return Dlrm(tables, rows, width, 13), (torch.randn(batch, 13), torch.randint(0, rows, (batch, tables, 3)))


class FactorisationMachine(nn.Module):
    """DeepFM (Guo et al., 2017): second-order interactions as the square of a sum, beside a deep network."""

    def __init__(self, fields: int, rows: int, width: int) -> None:
        super().__init__()
        self.embed, self.linear = nn.Embedding(fields * rows, width), nn.EmbeddingBag(fields * rows, 1, mode="mean")
        self.register_buffer("offset", torch.arange(fields) * rows)
        self.deep = nn.Sequential(
            nn.Linear(fields * width, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 1)
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        ids = ids + self.offset
        v = self.embed(ids)
        second = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.linear(ids) + second + self.deep(v.flatten(1))).squeeze(1)


def deep_fm(full: bool = False) -> Made:
    fields, rows, width, batch = (26, 10000, 32, 256) if full else (5, 20, 8, 3)
    return FactorisationMachine(fields, rows, width), (torch.randint(0, rows, (batch, fields)),)


# -- fields -------------------------------------------------------------------------------------------------------------


class RadianceField(nn.Module):
    """NeRF (Mildenhall et al., 2020): encoded positions, an MLP with a skip, and compositing along each ray."""

    def __init__(self, width: int, octaves: int) -> None:
        super().__init__()
        inside = 3 + 6 * octaves
        self.octaves = octaves
        self.first = nn.Sequential(nn.Linear(inside, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(width + inside, width), nn.ReLU())
        self.density, self.colour = nn.Linear(width, 1), nn.Sequential(nn.Linear(width + 3, 3), nn.Sigmoid())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        angles = x[..., None] * 2.0 ** torch.arange(self.octaves, device=x.device)
        return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)

    def forward(self, origin: torch.Tensor, direction: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, ...]:
        points = origin[:, None] + direction[:, None] * depth[..., None]
        code = self.encode(points)
        h = self.second(torch.cat([self.first(code), code], -1))
        sigma = F.softplus(self.density(h)).squeeze(-1)
        ray = direction[:, None].expand_as(points) / direction.norm(dim=-1)[:, None, None]
        rgb = self.colour(torch.cat([h, ray], -1))
        gap = torch.cat([depth[:, 1:] - depth[:, :-1], torch.full_like(depth[:, :1], 1e10)], -1)
        alpha = 1 - torch.exp(-sigma * gap)
        clear = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1), -1)[:, :-1]
        weight = alpha * clear
        return (weight[..., None] * rgb).sum(1), (weight * depth).sum(1)


def nerf(full: bool = False) -> Made:
    rays, samples, width = (1024, 128, 256) if full else (4, 8, 16)
    depth = torch.linspace(2.0, 6.0, samples).expand(rays, samples).contiguous()
    return RadianceField(width, 6), (torch.randn(rays, 3), torch.randn(rays, 3), depth)


class Siren(nn.Module):
    """Sine network (Sitzmann et al., 2020)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2 if i == 0 else width, width) for i in range(layers))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.sin(30.0 * layer(x))
        return self.head(x)


def siren(full: bool = False) -> Made:
    return Siren(256 if full else 16, 4), (torch.rand(65536 if full else 50, 2) * 2 - 1,)


# -- generators and dense prediction ------------------------------------------------------------------------------------


class Unet(nn.Module):
    """Encoder, decoder and skips (Ronneberger et al., 2015) with transposed convolutions and instance norm."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def block(a: int, b: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1), nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.2, inplace=True)
            )

        self.down = nn.ModuleList([block(3, width), block(width, 2 * width)])
        self.middle = block(2 * width, 4 * width)
        self.enlarge = nn.ModuleList(
            [nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1)]
        )
        self.up = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            x = up(torch.cat([enlarge(x), kept.pop()], 1))
        return self.head(x)


def unet(full: bool = False) -> Made:
    return Unet(64 if full else 4), (image(256 if full else 16, 1),)


def dcgan_generator(full: bool = False) -> Made:
    width, noise = (64, 100) if full else (4, 10)
    layers: list[nn.Module] = []
    channels = [noise, 4 * width, 2 * width, width]
    for i, (a, b) in enumerate(zip(channels, channels[1:], strict=False)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers), (torch.randn(2, noise, 1, 1),)


class SuperResolution(nn.Module):
    """Sub-pixel convolution (Shi et al., 2016) with channel attention and a bicubic shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head, self.body = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.squeeze = nn.Sequential(nn.Conv2d(width, 2, 1), nn.PReLU(), nn.Conv2d(2, width, 1), nn.Sigmoid())
        self.tail = nn.Conv2d(width, 12, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.hardswish(self.body(self.head(x)))
        h = h * self.squeeze(F.adaptive_avg_pool2d(h, 1))
        enlarged = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return (F.pixel_shuffle(self.tail(h), 2) + enlarged).clamp(-3, 3)


def super_resolution(full: bool = False) -> Made:
    return SuperResolution(64 if full else 4), (image(128 if full else 8, 1),)


class VectorQuantiser(nn.Module):
    """Nearest code of a codebook, straight through (van den Oord et al., 2017)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, width, 4, 2, 1), nn.ConvTranspose1d(width, 1, 4, 2, 1)
        self.codebook = nn.Embedding(codes, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = self.encode(x).transpose(1, 2)
        nearest = torch.cdist(z, self.codebook.weight[None]).argmin(-1)
        q = self.codebook(nearest)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return self.decode((z + (q - z).detach()).transpose(1, 2)), loss, nearest


def vector_quantiser(full: bool = False) -> Made:
    codes, width, length = (1024, 64, 4096) if full else (10, 6, 16)
    return VectorQuantiser(codes, width), (torch.randn(2, 1, length),)


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates and skips (van den Oord et al., 2016)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(layers))
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, 256, 1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids).mT
        skip = torch.zeros_like(x)
        for i, (gate, mix) in enumerate(zip(self.gates, self.mix, strict=True)):
            a, b = gate(F.pad(x, (2**i, 0))).chunk(2, 1)
            h = mix(torch.tanh(a) * torch.sigmoid(b))
            skip += h
            x = x + h
        return self.head(skip)


def wavenet(full: bool = False) -> Made:
    width, layers, length = (128, 8, 2048) if full else (8, 4, 20)
    return WaveNet(width, layers), (tokens(2, length, 256),)


class SpectralBlock(nn.Module):
    """Fourier layer (Li et al., 2020): a product with weights of the lowest frequencies."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.real = nn.Parameter(torch.randn(width, width, modes) / width)
        self.imaginary = nn.Parameter(torch.randn(width, width, modes) / width)
        self.local = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(x)
        low = spectrum[..., : self.modes]
        weight = torch.complex(self.real, self.imaginary)
        product = torch.einsum("bik,iok->bok", low, weight)
        full = F.pad(product, (0, spectrum.shape[-1] - self.modes))
        return F.gelu(torch.fft.irfft(full, n=x.shape[-1]) + self.local(x))


def fourier_operator(full: bool = False) -> Made:
    width, modes, length = (64, 16, 1024) if full else (6, 3, 16)
    return nn.Sequential(SpectralBlock(width, modes), SpectralBlock(width, modes)), (torch.randn(2, width, length),)


class CouplingFlow(nn.Module):
    """Affine couplings with a fixed permutation between them (Dinh et al., 2016) and the log-determinant."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        half = width // 2
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(half, hidden), nn.ELU(), nn.Linear(hidden, 2 * half)) for _ in range(layers)
        )
        self.register_buffer("order", torch.randperm(width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = x.new_zeros(x.shape[0])
        for net in self.nets:
            a, b = x.tensor_split(2, -1)
            scale, shift = net(a).chunk(2, -1)
            scale = 2 * torch.tanh(scale / 2)
            x = torch.cat([a, b * scale.exp() + shift], -1)[:, self.order]
            total = total + scale.sum(-1)
        normal = -0.5 * (x.square() + math.log(2 * math.pi)).sum(-1)
        return x, normal + total


def coupling_flow(full: bool = False) -> Made:
    width, hidden = (64, 512) if full else (6, 10)
    return CouplingFlow(width, hidden, 4), (torch.randn(128 if full else 5, width),)


class SwitchLayer(nn.Module):
    """Top-2 mixture of experts with dispatch by one-hot masks and a load-balancing loss (Fedus et al., 2021)."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, width, 2 * width) / math.sqrt(width))
        self.down = nn.Parameter(torch.randn(experts, 2 * width, width) / math.sqrt(width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probability = self.router(x).softmax(-1)
        weight, index = torch.topk(probability, 2, dim=-1)
        experts = probability.shape[-1]
        mask = F.one_hot(index, experts).to(x.dtype)
        gate = (mask * (weight / weight.sum(-1, keepdim=True))[..., None]).sum(-2)
        hidden = F.silu(torch.einsum("td,edf->tef", x, self.up))
        out = torch.einsum("te,tef,efd->td", gate, hidden, self.down)
        balance = experts * (mask.sum(-2).mean(0) * probability.mean(0)).sum()
        return out, balance


def switch_layer(full: bool = False) -> Made:
    width, experts, length = (512, 8, 256) if full else (8, 4, 6)
    return SwitchLayer(width, experts), (torch.randn(length, width),)


class SpatialTransformer(nn.Module):
    """Samples the image on an affine grid that a small network proposes (Jaderberg et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(1, 8, 7), nn.MaxPool2d(2, 2), nn.ReLU(True), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
            nn.Linear(72, 6),
        )  # fmt: skip
        self.classify = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.locate(x).view(-1, 2, 3), x.shape, align_corners=False)
        return F.log_softmax(self.classify(F.grid_sample(x, grid, align_corners=False)), 1)


def spatial_transformer(full: bool = False) -> Made:
    return SpatialTransformer(), (image(28 if not full else 128, 2, 1),)
