"""A training step of TSConv (forward, backward, AdamW) against the published order of layers.

    python benchmarks/bench_tsconv.py [--threads 2] [--batch 256] [--rounds 9] [--bf16]

Both networks hold the same parameters and see the same batch; ours gets it prepared, as in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import harness
import torch
from torch import Tensor, nn

from brainalign.encoders.tsconv import TSConv

N_CHANS, N_TIMES, DIM, N_FILTERS = 63, 250, 768, 40  # THINGS-EEG2 and NICE's CLIP width


class Published(nn.Module):
    """The layers one after another."""

    def __init__(self) -> None:
        super().__init__()
        f = N_FILTERS
        self.convolve = nn.Sequential(
            nn.Conv2d(1, f, (1, 25)),
            nn.AvgPool2d((1, 51), (1, 5)),
            nn.BatchNorm2d(f),
            nn.ELU(),
            nn.Conv2d(f, f, (N_CHANS, 1)),
            nn.BatchNorm2d(f),
            nn.ELU(),
            nn.Dropout(0.5),
            nn.Conv2d(f, f, (1, 1)),
        )
        self.project = nn.Linear(36 * f, DIM)
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(DIM, DIM), nn.Dropout(0.5))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.convolve(signals.unsqueeze(1)).squeeze(2).transpose(1, 2).flatten(1)
        x = self.project(x)
        normed: Tensor = self.norm(x + self.residual(x))
        return normed


def arithmetic(batch: int) -> dict[str, float]:
    """Floating-point operations of a step, in 1e9, matrix products alone, a multiply-add counted as two.

    Ours, a product of (a, b) and (b, c) being 2abc, at batch 256:
      temporal filters  2 * (256 * 63 * 36) * 25 * 40 = 1.16, twice (forward, weights; the signal needs no gradient)
      spatial filters   2 * (256 * 36) * (63 * 40) * 40 = 1.86, three times (forward, weights, input)
      mix               2 * (256 * 36) * 40 * 40 = 0.03, three times
      project, residual 2 * 256 * (1440 + 768) * 768 = 0.87, three times
      moments           2 * (256 * 63) * 25 * 25 * 36 = 0.73 if each window is counted by itself; in float64
    Published: temporal filters at all 226 positions, 2 * (256 * 63 * 226) * 25 * 40 = 7.29, twice; averages not
    counted.
    """
    rows = batch * N_CHANS
    spatial = 3 * 2 * batch * 36 * N_CHANS * N_FILTERS * N_FILTERS
    rest = 3 * 2 * batch * (36 * N_FILTERS * N_FILTERS + (36 * N_FILTERS + DIM) * DIM)
    ours = 2 * 2 * rows * 36 * 25 * N_FILTERS + spatial + rest
    return {
        "ours_gflop": round(ours / 1e9, 2),
        "moments_float64_gflop": round(2 * rows * 25 * 25 * 36 / 1e9, 2),
        "published_gflop": round((2 * 2 * rows * 226 * 25 * N_FILTERS + spatial + rest) / 1e9, 2),
    }


def training_step(model: nn.Module, forward: Callable[[], Tensor], weight: Tensor, bf16: bool) -> Callable[[], None]:
    """One step on a fixed batch; the loss is a fixed linear function of the embedding."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embedded = forward()
        (embedded.float() * weight).mean().backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    published, ours = Published(), TSConv(n_chans=N_CHANS, n_times=N_TIMES, dim=DIM)
    for a, b in zip(ours.parameters(), published.parameters(), strict=True):
        a.data.copy_(b.data)
    signals, weight = torch.randn(given.batch, N_CHANS, N_TIMES), torch.randn(given.batch, DIM)
    prepared = ours.prepare(signals)
    found = harness.compare(
        {
            "published": training_step(published, lambda: published(signals), weight, given.bf16),
            "ours": training_step(ours, lambda: ours(prepared, prepared=True), weight, given.bf16),
        },
        baseline="published",
        rounds=given.rounds,
    )
    flops, rate = arithmetic(given.batch), harness.matmul_rate()
    floor = flops["ours_gflop"] * 1e9 / rate
    found |= {
        "setting": {"n_chans": N_CHANS, "n_times": N_TIMES, "dim": DIM, "batch": given.batch, "bf16": given.bf16},
        "arithmetic": flops | {"matmul_gflop_per_s": round(rate / 1e9, 1), "floor_s": float(f"{floor:.3g}")},
    }
    if not given.bf16:  # the floor is that of float32 products
        found["ours"]["fastest_over_floor"] = round(found["ours"]["fastest_s"] / floor, 2)
    kind = "bf16" if given.bf16 else "fp32"
    harness.write(f"tsconv-{kind}-batch{given.batch}-threads{given.threads}", found)


if __name__ == "__main__":
    main()
