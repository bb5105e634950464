"""Runs trained as one stack against the same runs trained one after another, at several batch sizes.

    python benchmarks/bench_stacked.py [--threads 1] [--rounds 5] [--width 256] [--chans 89]

Each stack has the size that `stack_size` gives it (`runs`); where that is 1 the library does not stack, and the two
are the same. `plain8` stacks eight runs whatever their size, to show what the rule avoids. `floor`: the time of the
matrix products alone at the speed of one large product on this machine, over the time of the stack: the share of the
arithmetic floor.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import harness
import torch

from brainalign.alignment import stacked
from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.training import Pairs, Run, train
from brainalign.recipes import load_recipe

TARGET = 200


def make_runs(n: int, count: int, *, chans: int, width: int, seeds: int, steps: int) -> list[Run]:
    """Runs of one recording, `steps` training steps each."""
    words = [f"training.batch_size={n}", f"training.epochs={steps}", "training.patience=null", f"projector.dim={width}",
             "selection.candidates=1", "selection.epoch=last"]  # fmt: skip
    recipe = load_recipe("shallow-alignment", modality="spikes", overrides=words)
    signals, few = torch.randn(n, chans, 1), torch.randn(8, chans, 1)
    runs = []
    for number in range(count):
        torch.manual_seed(number % seeds)
        model = ContrastiveModel(recipe, n_chans=chans, n_times=1, target_dims=[TARGET])
        pairs = Pairs(signals, torch.randn(n, TARGET)), Pairs(few, torch.randn(8, TARGET))
        runs.append(Run(model, *pairs, recipe, number % seeds))
    return runs


def product_speed() -> float:
    """Floating point operations a second in one large product."""
    a = torch.randn(1536, 1536)
    a @ a
    best = min(_timed(lambda: a @ a) for _ in range(5))
    return 2 * 1536**3 / best


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--chans", type=int, default=89)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    speed, found = product_speed(), {}
    for n in (32, 64, 128, 256, 512, 900):
        shape = {"chans": given.chans, "width": given.width, "seeds": 1, "steps": max(3, 1500 // n)}
        size = stacked.stack_size(make_runs(n, 1, **shape)[0])
        size = min(size, 16)

        def alone(n: int = n, size: int = size, shape: Any = shape) -> None:
            for run in make_runs(n, size, **shape):
                train(run)

        def together(n: int = n, size: int = size, shape: Any = shape) -> None:
            stacked.train_stacked(make_runs(n, size, **shape))

        def plain_alone(n: int = n, shape: Any = shape) -> None:
            for run in make_runs(n, 8, **shape):
                train(run)

        def plain(n: int = n, shape: Any = shape) -> None:
            stacked.train_stacked(make_runs(n, 8, **shape))

        one = harness.compare({"alone": alone, "stack": together}, baseline="alone", rounds=given.rounds)
        eight = harness.compare({"alone": plain_alone, "stack": plain}, baseline="alone", rounds=given.rounds)
        flops = 6 * n * (given.chans * given.width + TARGET * given.width + n * given.width) * size * shape["steps"]
        found[f"batch{n}"] = {"runs": size, **one, "floor": round(flops / speed / one["stack"]["fastest_s"], 3),
                              "plain8": eight["stack"]}  # fmt: skip
    found["setting"] = {"target": TARGET, **{k: v for k, v in vars(given).items() if k != "rounds"}}
    harness.write(f"stacked-threads{given.threads}", found)


if __name__ == "__main__":
    main()
