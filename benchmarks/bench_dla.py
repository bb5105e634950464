"""A training step of NeuroAlign with dynamic loss adjustment against the same step with fixed weights.

    python benchmarks/bench_dla.py [--threads 1] [--rounds 15]

TSConv's tokens (1440 values) projected to 256, image and text features of 512 projected to 256, dropout 0.2, three
losses (InfoNCE brain-image, InfoNCE image-text, semantic guidance), AdamW; features and prepared signals are at hand.

`fixed`: one backward pass of the weighted sum. `norms`: `gradient_norms`, then that backward pass. `balanced`:
`balanced_backward`. `separate`: three full backward passes, one a loss, as a plain reading of the equations would do
it. `share` is the time of the fastest round over that of `fixed`, less 1; `cpu_share` the same in processor time, which
other work on the machine disturbs less (only with one thread is it what the step takes). The target is at most .15.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import torch
from torch import Tensor, nn

from brainalign.encoders.tsconv import TSConv
from brainalign.objectives import (
    DynamicLossAdjustment,
    balanced_backward,
    gradient_norms,
    info_nce,
    semantic_guidance_loss,
)

N_TIMES, DIM, FEATURES, TEMPERATURE, TARGET = 250, 256, 512, 0.07, 0.15


class Towers(nn.Module):
    """Encoder and projectors at NeuroAlign's sizes (Table 3)."""

    def __init__(self, n_chans: int) -> None:
        super().__init__()
        self.brain = TSConv(n_chans=n_chans, n_times=N_TIMES, dim=DIM, head="linear", head_dropout=0.2)
        self.image = nn.Sequential(nn.Dropout(0.2), nn.Linear(FEATURES, DIM))
        self.text = nn.Sequential(nn.Dropout(0.2), nn.Linear(FEATURES, DIM))

    @property
    def measured(self) -> list[list[nn.Parameter]]:
        """Projector parameters of each loss, theta of eq. 9."""
        brain = list(self.brain.project.parameters())
        return [brain, [*self.image.parameters(), *self.text.parameters()], brain]

    def embeddings(self, signals: Tensor, images: Tensor, texts: Tensor) -> list[Tensor]:
        """Prepared signals (n, n_chans, ...) and features (n, 512) to (n, 256) each."""
        return [self.brain(signals, prepared=True), self.image(images), self.text(texts)]


def losses(brain: Tensor, image: Tensor, text: Tensor) -> list[Tensor]:
    """Eq. 7's three."""
    return [
        info_nce(brain, image, scale=1 / TEMPERATURE),
        info_nce(image, text, scale=1 / TEMPERATURE),
        semantic_guidance_loss(brain, image, text, TEMPERATURE),
    ]


def weighted_backward(terms: Sequence[Tensor], weights: Tensor) -> None:
    """One backward pass of the weighted sum."""
    (torch.stack(list(terms)) * weights).sum().backward()


def norms_of_separate_passes(towers: Towers, terms: Sequence[Tensor]) -> Tensor:
    """Three passes through the whole network, each norm read off ``.grad``."""
    found = []
    for term, chosen in zip(terms, towers.measured, strict=True):
        term.backward(retain_graph=True)
        found.append(torch.cat([p.grad.flatten() for p in chosen if p.grad is not None]).norm())
        towers.zero_grad(set_to_none=True)
    return torch.stack(found)


def steps(n_chans: int, batch: int, cpu: dict[str, list[float]]) -> dict[str, Callable[[], None]]:
    """The alternatives, on one network and one batch; each call leaves its processor time in `cpu`."""
    torch.manual_seed(0)
    towers = Towers(n_chans).train()
    optimizer = torch.optim.AdamW(towers.parameters(), lr=2e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    signals = towers.brain.prepare(torch.randn(batch, n_chans, N_TIMES))
    images, texts = torch.randn(batch, FEATURES), torch.randn(batch, FEATURES)
    third = torch.full((3,), 1 / 3)

    def fixed(embedded: list[Tensor], terms: list[Tensor]) -> None:
        weighted_backward(terms, third)

    def norms(embedded: list[Tensor], terms: list[Tensor]) -> None:
        weighted_backward(terms, adjustments["norms"].weights(gradient_norms(terms, towers.measured)))

    def balanced(embedded: list[Tensor], terms: list[Tensor]) -> None:
        balanced_backward(terms, embedded, towers.measured, adjustments["balanced"].weights)

    def separate(embedded: list[Tensor], terms: list[Tensor]) -> None:
        weighted_backward(terms, adjustments["separate"].weights(norms_of_separate_passes(towers, terms)))

    ways = {"fixed": fixed, "norms": norms, "balanced": balanced, "separate": separate}
    adjustments = {name: DynamicLossAdjustment() for name in ways}

    def step(name: str, way: Callable[[list[Tensor], list[Tensor]], None]) -> Callable[[], None]:
        def run() -> None:
            start = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            embedded = towers.embeddings(signals, images, texts)
            way(embedded, losses(*embedded))
            optimizer.step()
            cpu.setdefault(name, []).append(time.process_time() - start)

        return run

    return {name: step(name, way) for name, way in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: dict[str, Any] = {}
    for n_chans in (17, 63):
        for batch in (256, 1000):
            cpu: dict[str, list[float]] = {}
            times = harness.compare(steps(n_chans, batch, cpu), baseline="fixed", rounds=given.rounds)
            for name in ("norms", "balanced", "separate"):
                times[name]["share"] = round(1 / times[name]["fastest_times_faster"] - 1, 3)
                times[name]["cpu_share"] = round(
                    min(cpu[name][1:]) / min(cpu["fixed"][1:]) - 1, 3
                )  # without the warm-up
            within = max(times["balanced"]["share"], times["balanced"]["cpu_share"]) <= TARGET
            found[f"chans{n_chans}-batch{batch}"] = times | {"within_target": within}
    found["setting"] = {"n_times": N_TIMES, "dim": DIM, "features": FEATURES, "target_share": TARGET}
    harness.write(f"dla-threads{given.threads}", found)


if __name__ == "__main__":
    main()
