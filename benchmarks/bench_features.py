"""Every layer of a backbone from one pass, against the bare pass and against a straightforward extraction.

    python benchmarks/bench_features.py [--backbone pip:efficientnet-lite0] [--threads 1] [--rounds 5] [--images 192]

`pass`: the model alone (no layer read) against all layers pooled by mean and 4 x 4 grid in the same pass, on batches of
32 and of 8, with weights of the same memory format; three times as many rounds. `extraction`: files on disk to features
on disk, ours against the straightforward way: decode a batch, run the model as timm builds it on batches of 64 with a
hook on every block that keeps the full map, pool the maps afterwards, save one array a layer. Ours decodes in threads
beside the model, on as many cores as there are; `ours_one_core` runs the same with the whole process held to one core,
where the system can do that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from brainalign.features import Backbone, extract_features, load_backbone
from brainalign.stimuli import StimulusSet

POOLINGS = ["mean", "grid4"]


def forward_pass(backbone: Backbone, batch: int, rounds: int) -> dict[str, Any]:
    """The model alone, classifier included, against all its layers."""
    side = backbone.preprocessing.size
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)

    def bare() -> None:
        with torch.inference_mode():
            backbone.model(images)

    layered = lambda: backbone.forward_layers(images, backbone.layers, POOLINGS)  # noqa: E731
    found = harness.compare({"bare": bare, "all_layers": layered}, baseline="bare", rounds=rounds)
    found["all_layers"]["times_as_long"] = round(1 / found["all_layers"]["times_faster"], 3)
    return found


def straightforward(stimuli: StimulusSet, backbone: Backbone, model: nn.Module, folder: Path) -> None:
    """Hooks that keep every map; maps pooled after each batch of 64, arrays saved at the end."""
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: maps.update({name: output})

    blocks = {layer.name: model.get_submodule(layer.module) for layer in backbone.table.blocks}
    handles = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    rows: dict[tuple[str, str], list[Tensor]] = {}
    for first in range(0, len(stimuli), 64):
        pixels = [
            backbone.preprocessing.resized(stimuli.image(row)) for row in range(first, min(first + 64, len(stimuli)))
        ]
        with torch.no_grad():
            last = model.forward_features(backbone.preprocessing.batch(pixels).contiguous())  # type: ignore[operator]
            maps["head"] = last
            for name, feature in maps.items():
                rows.setdefault((name, "mean"), []).append(feature.mean((2, 3)))
                rows.setdefault((name, "grid4"), []).append(adaptive_avg_pool2d(feature, 4).flatten(1))
    for (name, pooling), parts in rows.items():
        np.save(folder / f"{name}_{pooling}.npy", torch.cat(parts).half().numpy())
    for handle in handles:
        handle.remove()


def on_one_core(run: Callable[[], object]) -> None:
    """Run with this thread, and all that it starts, held to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        run()
    finally:
        os.sched_setaffinity(0, cores)


def extraction(name: str, backbone: Backbone, n_images: int, rounds: int) -> dict[str, Any]:
    """From JPEG files of 500 x 500 pixels to arrays on disk."""
    plain = load_backbone(name).model.to(memory_format=torch.contiguous_format)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as given:
        root = Path(given)
        (root / "images").mkdir()
        for i in range(n_images):
            small = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            small.resize((500, 500), Image.Resampling.BICUBIC).save(root / "images" / f"{i:04d}.jpg", quality=90)
        stimuli = StimulusSet.from_folder(root / "images")

        def ours() -> None:
            with tempfile.TemporaryDirectory(dir=root) as cache:
                extract_features(stimuli, backbone, "all", POOLINGS, cache_dir=cache)

        def theirs() -> None:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                straightforward(stimuli, backbone, plain, Path(folder))

        alternatives = {"straightforward": theirs, "ours": ours}
        if hasattr(os, "sched_setaffinity"):
            alternatives["ours_one_core"] = lambda: on_one_core(ours)
        found = harness.compare(alternatives, baseline="straightforward", rounds=rounds)
    found["ours"]["images_per_s"] = round(n_images / found["ours"]["fastest_s"], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="pip:efficientnet-lite0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=192)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    backbone = load_backbone(given.backbone)
    found = {f"pass_batch{batch}": forward_pass(backbone, batch, 3 * given.rounds) for batch in (32, 8)}
    found["extraction"] = extraction(given.backbone, backbone, given.images, given.rounds)
    found["setting"] = {"backbone": given.backbone, "images": given.images, "poolings": POOLINGS}
    harness.write(f"features-{given.backbone.partition(':')[2]}-threads{given.threads}", found)


if __name__ == "__main__":
    main()
