"""Encoders in the published order of layers, one plain layer after another: what ours are compared with.

Each network names, in `OURS`, the part of our encoder that holds the parameters of each of its own.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """x plus layers of x."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def head(n_in: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, dim), Residual(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout)), nn.LayerNorm(dim)
    )


def head_names(theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}.0.": f"{ours}project.",
        f"{theirs}.1.layers.1.": f"{ours}residual.1.",
        f"{theirs}.2.": f"{ours}norm.",
    }


def ts_block(n_chans: int, f: int, kernel_size: int, pool_size: int, pool_stride: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, f, (1, kernel_size)),
        nn.AvgPool2d((1, pool_size), (1, pool_stride)),
        nn.BatchNorm2d(f),
        nn.ELU(),
        nn.Conv2d(f, f, (n_chans, 1)),
        nn.BatchNorm2d(f),
        nn.ELU(),
        nn.Dropout(dropout),
        nn.Conv2d(f, f, (1, 1)),
    )


TS_NAMES = {
    "convolve.0.": "tsconv.temporal.",
    "convolve.2.": "tsconv.temporal_norm.",
    "convolve.4.": "tsconv.spatial.",
    "convolve.5.": "tsconv.spatial_norm.",
    "convolve.8.": "tsconv.mix.",
    **head_names("head", "tsconv."),
}


def in_time_order(maps: Tensor) -> Tensor:
    """Maps (n, f, 1, t) to tokens (n, t, f)."""
    return maps.squeeze(2).transpose(1, 2)


class EEGNet(nn.Module):
    OURS: ClassVar[dict[str, str]] = {
        "backbone.0.": "temporal.",
        "backbone.1.": "temporal_norm.",
        "backbone.2.": "spatial.",
        "backbone.3.": "second.0.",
        "backbone.7.": "second.4.",
        "backbone.8.": "second.5.",
        **head_names("head", "head."),
    }

    def __init__(
        self, n_chans, n_times, dim, n_temporal=8, n_spatial=16, kernel_size=64, second_kernel_size=16, pool_size=2,
        dropout=0.5,
    ):  # fmt: skip
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, n_temporal, (1, kernel_size)),
            nn.BatchNorm2d(n_temporal),
            nn.Conv2d(n_temporal, n_spatial, (n_chans, 1)),
            nn.BatchNorm2d(n_spatial),
            nn.ELU(),
            nn.AvgPool2d((1, pool_size), (1, pool_size)),
            nn.Dropout(dropout),
            nn.Conv2d(n_spatial, n_spatial, (1, second_kernel_size)),
            nn.BatchNorm2d(n_spatial),
            nn.ELU(),
            nn.Dropout2d(dropout),
        )
        n_left = (n_times - kernel_size + 1) // pool_size - second_kernel_size + 1
        self.head = head(n_spatial * n_left, dim, dropout)

    def forward(self, signals):
        return self.head(self.backbone(signals.unsqueeze(1)).flatten(1))


class Attention(nn.Module):
    """Separate queries, keys and values; one head after another."""

    def __init__(self, width, n_heads, scale, dropout):
        super().__init__()
        self.size, self.n_heads, self.scale = width // n_heads, n_heads, scale
        inner = self.size * n_heads
        self.queries, self.keys, self.values = (nn.Linear(width, inner) for _ in range(3))
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(inner, width)

    def forward(self, x):
        q, k, v = (layer(x).split(self.size, dim=-1) for layer in (self.queries, self.keys, self.values))
        heads = []
        for h in range(self.n_heads):
            weights = torch.softmax(q[h] @ k[h].transpose(1, 2) * self.scale, dim=-1)
            heads.append(self.drop(weights) @ v[h])
        return self.out(torch.cat(heads, dim=-1))


def attention_names(theirs: str, ours: str) -> dict[str, str]:
    """The third of our one map for queries, keys and values that each of theirs is, after a '#'."""
    thirds = {f"{theirs}{name}.": f"{ours}queries_keys_values.#{i}" for i, name in enumerate(QUERIES_KEYS_VALUES)}
    return thirds | {f"{theirs}out.": f"{ours}out."}


QUERIES_KEYS_VALUES = ("queries", "keys", "values")


class Conformer(nn.Module):
    OURS: ClassVar[dict[str, str]] = {
        "patches.0.": "temporal.",
        "patches.1.": "spatial.",
        "patches.2.": "pool.0.",
        "mix.": "mix.",
        **head_names("head", "head."),
    }
    for _i in range(3):
        OURS |= {
            f"blocks.{_i}.0.layers.0.": f"blocks.{_i}.attend.0.",
            **attention_names(f"blocks.{_i}.0.layers.1.", f"blocks.{_i}.attend.1."),
            f"blocks.{_i}.1.layers.0.": f"blocks.{_i}.transform.0.",
            f"blocks.{_i}.1.layers.1.": f"blocks.{_i}.transform.1.",
            f"blocks.{_i}.1.layers.4.": f"blocks.{_i}.transform.4.",
        }

    def __init__(
        self, n_chans, n_times, dim, n_filters=40, kernel_size=25, pool_size=75, pool_stride=15, depth=2, n_heads=10,
        expansion=4, dropout=0.5, attention_dropout=0.5,
    ):  # fmt: skip
        super().__init__()
        f, p = n_filters, attention_dropout
        self.patches = nn.Sequential(
            nn.Conv2d(1, f, (1, kernel_size)),
            nn.Conv2d(f, f, (n_chans, 1)),
            nn.BatchNorm2d(f),
            nn.ELU(),
            nn.AvgPool2d((1, pool_size), (1, pool_stride)),
            nn.Dropout(dropout),
        )
        self.mix = nn.Conv2d(f, f, (1, 1))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    Residual(nn.LayerNorm(f), Attention(f, n_heads, 1 / math.sqrt(f), p), nn.Dropout(p)),
                    Residual(
                        nn.LayerNorm(f),
                        nn.Linear(f, expansion * f),
                        nn.GELU(),
                        nn.Dropout(p),
                        nn.Linear(expansion * f, f),
                        nn.Dropout(p),
                    ),
                )
                for _ in range(depth)
            )
        )
        n_tokens = (n_times - kernel_size + 1 - pool_size) // pool_stride + 1
        self.head = head(n_tokens * f, dim, dropout)

    def forward(self, signals):
        tokens = in_time_order(self.mix(self.patches(signals.unsqueeze(1))))
        return self.head(self.blocks(tokens).flatten(1))


class EEGTransformer(nn.Module):
    OURS: ClassVar[dict[str, str]] = {"tokens.": "tokens.", "project.": "project."}
    for _i in range(4):
        OURS |= {
            f"layers.{_i}.": f"layers.layers.{_i}.",
            f"layers.{_i}.in_proj": f"layers.layers.{_i}.self_attn.in_proj_",
            f"layers.{_i}.out_proj.": f"layers.layers.{_i}.self_attn.out_proj.",
        }

    def __init__(self, n_chans, n_times, dim, width=128, depth=4, n_heads=8, hidden=512, dropout=0.1):
        super().__init__()
        self.tokens = nn.Linear(n_chans, width)
        self.layers = nn.Sequential(*(_TransformerLayer(width, n_heads, hidden, dropout) for _ in range(depth)))
        self.project = nn.Linear(width, dim)
        self.positions = [
            [(math.cos if i % 2 else math.sin)(t / 10000 ** ((i - i % 2) / width)) for i in range(width)]
            for t in range(n_times)
        ]

    def forward(self, signals):
        tokens = self.tokens(signals.transpose(1, 2))
        return self.project(self.layers(tokens + tokens.new_tensor(self.positions)).mean(1))


class _TransformerLayer(nn.Module):
    def __init__(self, width, n_heads, hidden, dropout):
        super().__init__()
        self.size = width // n_heads
        self.in_proj = nn.ParameterDict({"weight": torch.zeros(3 * width, width), "bias": torch.zeros(3 * width)})
        self.out_proj = nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        q, k, v = (x @ self.in_proj["weight"].T + self.in_proj["bias"]).chunk(3, dim=-1)
        heads = []
        for a, b, c in zip(*(t.split(self.size, dim=-1) for t in (q, k, v)), strict=True):
            heads.append(self.drop(torch.softmax(a @ b.transpose(1, 2) / math.sqrt(self.size), dim=-1)) @ c)
        x = self.norm1(x + self.drop(self.out_proj(torch.cat(heads, dim=-1))))
        return self.norm2(x + self.drop(self.linear2(self.drop(torch.relu(self.linear1(x))))))


class NiceSA(nn.Module):
    OURS: ClassVar[dict[str, str]] = {
        "norm.": "norm.",
        "query.": "query.",
        "key.": "key.",
        "projection.": "project.",
        **TS_NAMES,
    }

    def __init__(
        self, n_chans, n_times, dim, n_filters=40, kernel_size=25, pool_size=51, pool_stride=5, dropout=0.5,
        attention_dropout=0.3, as_released=False,
    ):  # fmt: skip
        super().__init__()
        self.n_times, self.as_released = n_times, as_released
        self.norm = nn.LayerNorm(n_times)
        self.query, self.key, self.projection = (
            nn.Sequential(nn.Linear(n_chans, n_chans), nn.LayerNorm(n_chans), nn.Dropout(attention_dropout))
            for _ in range(3)
        )
        self.drop = nn.Dropout(attention_dropout)
        self.convolve = ts_block(n_chans, n_filters, kernel_size, pool_size, pool_stride, dropout)
        n_tokens = (n_times - kernel_size + 1 - pool_size) // pool_stride + 1
        self.head = head(n_tokens * n_filters, dim, dropout)

    def forward(self, signals):
        x = self.norm(signals)
        q, k = self.query(x.transpose(1, 2)).transpose(1, 2), self.key(x.transpose(1, 2)).transpose(1, 2)
        weights = torch.softmax(torch.einsum("ncs,nms->ncm", q, k) / math.sqrt(self.n_times // 30), dim=-1)
        mixed = torch.einsum("ncs,ncm->ncs" if self.as_released else "nms,ncm->ncs", x, weights)
        signals = signals + self.drop(self.projection(mixed.transpose(1, 2)).transpose(1, 2))
        return self.head(in_time_order(self.convolve(signals.unsqueeze(1))).flatten(1))


class NiceGA(nn.Module):
    OURS: ClassVar[dict[str, str]] = {
        "features.": "features.",
        "a_from": "attend_from",
        "a_to": "attend_to",
        "bias": "bias",
        **TS_NAMES,
    }

    def __init__(
        self, n_chans, n_times, dim, n_filters=40, kernel_size=25, pool_size=51, pool_stride=5, dropout=0.5,
        attention_dropout=0.3,
    ):  # fmt: skip
        super().__init__()
        self.features = nn.Linear(n_times, n_times, bias=False)
        self.a_from, self.a_to, self.bias = (nn.Parameter(torch.zeros(n_times)) for _ in range(3))
        self.drop = nn.Dropout(attention_dropout)
        self.convolve = ts_block(n_chans, n_filters, kernel_size, pool_size, pool_stride, dropout)
        n_tokens = (n_times - kernel_size + 1 - pool_size) // pool_stride + 1
        self.head = head(n_tokens * n_filters, dim, dropout)

    def forward(self, signals):
        """Messages along a list of edges, as graph libraries send them."""
        n, n_chans, _ = signals.shape
        h = self.features(signals)
        sources, targets = (t.flatten() for t in torch.meshgrid(*[torch.arange(n_chans)] * 2, indexing="ij"))
        scores = nn.functional.leaky_relu((h[:, sources] * self.a_from + h[:, targets] * self.a_to).sum(2), 0.2).exp()
        totals = scores.new_zeros(n, n_chans).index_add(1, targets, scores)
        messages = h[:, sources] * (scores / totals[:, targets])[:, :, None]
        attended = torch.zeros_like(h).index_add(1, targets, messages) + self.bias
        signals = signals + self.drop(attended)
        return self.head(in_time_order(self.convolve(signals.unsqueeze(1))).flatten(1))


class ATM(nn.Module):
    OURS: ClassVar[dict[str, str]] = {
        "channels.": "channel_tokens.",
        "own.": "subject_token.own.",
        "shared": "subject_token.shared",
        "last_norm.": "layers.1.",
        **attention_names("attention.", "layers.0.attend.0."),
        "norm1.": "layers.0.attend_norm.",
        "linear1.": "layers.0.transform.0.",
        "linear2.": "layers.0.transform.3.",
        "norm2.": "layers.0.transform_norm.",
        **TS_NAMES,
    }

    def __init__(
        self, n_chans, n_times, dim, n_subjects=0, width=250, n_heads=4, hidden=256, attention_dropout=0.25,
        n_filters=40, kernel_size=25, pool_size=51, pool_stride=5, dropout=0.5, as_released=False,
    ):  # fmt: skip
        super().__init__()
        self.n_chans, self.as_released = n_chans, as_released
        self.channels = nn.Linear(n_times, width)
        if n_subjects:
            self.own = nn.Embedding(n_subjects, width)
        self.shared = nn.Parameter(torch.zeros(1, width))
        self.attention = Attention(width, n_heads, 1 / math.sqrt(width // n_heads), attention_dropout)
        self.norm1, self.norm2, self.last_norm = (nn.LayerNorm(width) for _ in range(3))
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(attention_dropout)
        self.convolve = ts_block(n_chans, n_filters, kernel_size, pool_size, pool_stride, dropout)
        n_tokens = (width - kernel_size + 1 - pool_size) // pool_stride + 1
        self.head = head(n_tokens * n_filters, dim, dropout)

    def forward(self, signals, subjects=None):
        ids = [-1] * len(signals) if subjects is None else subjects.tolist()
        tokens = torch.stack([self.shared[0] if i < 0 else self.own.weight[i] for i in ids])
        x = self.drop(torch.cat((tokens[:, None], self.channels(signals)), dim=1))
        x = self.norm1(x + self.drop(self.attention(x)))
        x = self.norm2(x + self.drop(self.linear2(self.drop(nn.functional.gelu(self.linear1(x))))))
        x = self.last_norm(x)
        x = x[:, : self.n_chans] if self.as_released else x[:, 1:]
        return self.head(in_time_order(self.convolve(x.unsqueeze(1))).flatten(1))


PUBLISHED = {
    "eegnet": EEGNet,
    "conformer": Conformer,
    "eegtransformer": EEGTransformer,
    "nice-sa": NiceSA,
    "nice-ga": NiceGA,
    "atm": ATM,
}


def ours_for(published: nn.Module, name: str, tensors: dict[str, Tensor]) -> Tensor:
    """Of our `tensors` (parameters, gradients or buffers by name), the part that the published `name` stands for."""
    prefix = max((p for p in published.OURS if name.startswith(p)), key=len)
    target, _, third = published.OURS[prefix].partition("#")
    rest = name[len(prefix) :].lstrip(".")
    found = tensors[target + rest]
    return found.chunk(3)[int(third)] if third else found


@torch.no_grad()
def copy_weights(ours: nn.Module, published: nn.Module) -> None:
    """Give the published network the weights and statistics of ours."""
    state = ours.state_dict()
    for name, theirs in published.state_dict().items():
        theirs.copy_(ours_for(published, name, state))
