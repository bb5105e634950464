"""Training steps of encoders (forward, backward, AdamW) against the published orders of layers.

    python benchmarks/bench_encoders.py [NAME ...] [--threads 1] [--batch 128] [--chans 63] [--rounds 7]

The published networks are those that the tests compare the encoders with (`tests/encoders/published.py`), with
attention by torch's own fused function, which is what a plain implementation would use. Both hold the same weights and
see the same batch, all dropouts as published.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
from torch import Tensor, nn

from brainalign.encoders import build_encoder
from brainalign.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "encoders"))
import published

N_TIMES, DIM = 250, 1024


class FusedAttention(published.Attention):
    """The same as one call for all heads."""

    def forward(self, x: Tensor) -> Tensor:
        n, n_tokens, _ = x.shape
        heads = (
            m(x).view(n, n_tokens, self.n_heads, -1).transpose(1, 2) for m in (self.queries, self.keys, self.values)
        )
        dropout = self.drop.p if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(*heads, dropout_p=dropout, scale=self.scale)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, n_tokens, -1))
        return out


class DenseGraph(published.NiceGA):
    """Graph attention as matrix products, without a list of edges."""

    def forward(self, signals: Tensor) -> Tensor:
        h = self.features(signals)
        scores = (h @ self.a_to)[:, :, None] + (h @ self.a_from)[:, None]
        attended = torch.softmax(nn.functional.leaky_relu(scores, 0.2), dim=-1) @ h + self.bias
        signals = signals + self.drop(attended)
        tokens = published.in_time_order(self.convolve(signals.unsqueeze(1)))
        embedded: Tensor = self.head(tokens.flatten(1))
        return embedded


def networks(name: str, size: dict[str, int]) -> tuple[nn.Module, nn.Module]:
    """The published network and ours, with the same weights."""
    ours = build_encoder(name, **size)
    published.Attention = FusedAttention  # type: ignore[misc]
    plain: nn.Module = (published.PUBLISHED | {"nice-ga": DenseGraph})[name](**size)
    published.copy_weights(ours, plain)
    return plain, ours


def training_step(model: nn.Module, signals: Tensor, weight: Tensor) -> Callable[[], None]:
    """One step on a fixed batch; the loss is a fixed linear function of the embedding."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (model(signals) * weight).mean().backward()
        optimizer.step()

    return step


def difference(plain: nn.Module, ours: nn.Module, signals: Tensor) -> float:
    """Largest difference of the embeddings in evaluation: both networks must be the same function."""
    with torch.no_grad():
        found = (plain.eval()(signals) - ours.eval()(signals)).abs().max()
    plain.train(), ours.train()
    return float(found)


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    size = {"n_chans": given.chans, "n_times": N_TIMES, "dim": DIM}
    plain, ours = networks(name, size)
    signals, weight = torch.randn(given.batch, given.chans, N_TIMES), torch.randn(given.batch, DIM)
    apart = difference(plain, ours, signals)
    if apart > 1e-4:
        raise InputError(f"the two networks of '{name}' are {apart:.2g} apart")
    steps = {"published": training_step(plain, signals, weight), "ours": training_step(ours, signals, weight)}
    found = harness.compare(steps, baseline="published", rounds=given.rounds)
    return found | {"parameters": sum(p.numel() for p in ours.parameters()), "largest_difference": apart}


def main() -> None:
    names = sorted(published.PUBLISHED.keys() - {"eegtransformer"})  # torch's own layers, here and as published
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all if none is given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--chans", type=int, default=63)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if unknown := set(given.names) - set(names):
        parser.error(f"unknown encoder {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    torch.set_num_threads(given.threads)
    found = {name: measure(name, given) for name in given.names or names}
    setting = {"n_chans": given.chans, "n_times": N_TIMES, "dim": DIM, "batch": given.batch, "dtype": "float32"}
    kind = "-".join(given.names) or "all"
    harness.write(
        f"encoders-{kind}-chans{given.chans}-batch{given.batch}-threads{given.threads}", {"setting": setting, **found}
    )


if __name__ == "__main__":
    main()
