"""Made sweep folders whose hits are given, so that every number can be computed beside the code."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainalign.evaluation.result import Result

Key = tuple[str, int]  # subject, seed
Hits = Mapping[Key, Mapping[str, Sequence[float]]]
BLOCKS = 6


def similarity_of(hits: np.ndarray, seed: int) -> np.ndarray:
    """A square similarity matrix whose rows find their image exactly where `hits` is 1."""
    rng = np.random.default_rng(seed)
    n = len(hits)
    matrix = rng.uniform(0, 0.4, (n, n))
    diagonal = np.arange(n)
    matrix[diagonal, diagonal] = np.where(hits == 1, 0.9, 0.05)
    matrix[diagonal, (diagonal + 1) % n] = 0.6
    return matrix.astype(np.float32)


def depth_of(layer: str) -> float:
    if "+" in layer:
        return float(np.mean([depth_of(part) for part in layer.split("+")]))
    return int(layer) / (BLOCKS - 1) if layer.isdigit() else 1.0


def score(top1: float, n: int) -> dict[str, Any]:
    ends = [max(0.0, top1 - 0.05), min(1.0, top1 + 0.05)]
    return {
        "n_way": n, "n_queries": n, "repetitions": 2, "top1": top1, "top1_ci95": ends, "top5": min(1.0, top1 + 0.2),
        "top5_ci95": [0.0, 1.0], "mrr": min(1.0, top1 + 0.1), "median_rank": 3.0, "two_way": 0.9, "chance_top1": 1 / n,
        "chance_top5": 5 / n, "permutation_p": 0.001,
    }  # fmt: skip


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_run(folder: Path, hits: np.ndarray, ids: Sequence[str], facts: dict[str, Any]) -> None:
    """A finished run: its losses are 10 - epoch - validation score (training) and 10 - validation score."""
    folder.mkdir(parents=True)
    top1 = float(np.mean(hits))
    document = {
        "schema": "brainalign.result/1", "recipe": "shallow-alignment", "profile": "fmri", "budget": "full",
        "config_hash": "ab" * 32, "dataset": facts["dataset"], "virtual": False, "modality": "fmri",
        "protocol": "own/intra/v1", "subject": facts["subject"], "split": 0, "seed": facts["seed"],
        "target": {"backbone": facts["backbone"], "layers": [facts["layer"]], "depth": facts["depth"],
                   "pooling": facts["pooling"]},
        "encoder": "linear",
        "selection": {"metric": "validation_loss", "split": "validation", "epoch": 3, "layer_chosen_on": "given"},
        "metrics": {"test": score(top1, len(hits)), "validation": score(facts["validation"], 40)},
        "shuffled": {"top1": None}, "inflation_gap_top1": 0.0, "epochs_exploratory": [], "lint": [], "test_reads": 1,
        "timing": {"features_s": 1.0, "train_s": 1.0, "total_s": 2.0}, "environment": {"python": "3.11"},
        "split_fingerprint": "cd" * 32, "validation_kind": "image-disjoint", "n_train": 100,
        "data": {"licence": "", "citation": "", "url": ""},
    }  # fmt: skip
    Result.model_validate(document)
    (folder / "result.json").write_text(json.dumps(document))
    matrix = similarity_of(np.asarray(hits), facts["seed"])
    order = np.random.default_rng(facts["seed"] + len(facts["layer"])).permutation(len(ids))  # queries in any order
    np.savez(
        folder / "predictions.npz",
        similarity=matrix[order],
        query_ids=np.array(ids)[order],
        gallery_ids=np.array(ids),
    )
    rows = [
        {"epoch": float(e), "train_loss": 10 - e - facts["validation"], "validation_loss": 10 - facts["validation"]}
        for e in range(1, 6)
    ]
    write_csv(folder / "history.csv", rows)


def build_sweep(
    folder: Path,
    hits: Hits,
    *,
    validation: Mapping[str, float] | None = None,
    backbone: str = "timm:test_resnet",
    pooling: str = "mean",
    dataset: str = "macaque-v4",
    ids: Sequence[str] | None = None,
    ablated: Mapping[str, Hits] | None = None,
) -> Path:
    """A finished sweep over layers: `hits[subject, seed][layer]` is one 0 or 1 an image.

    `validation` gives each layer's score (its mean of hits, where it is not given). With `ablated`, hits of each
    ablation, the sweep has an axis `ablation` too, and `hits` are those of the full recipe.
    """
    folder.mkdir(parents=True)
    rows = []
    methods = {"full": hits, **(ablated or {})}
    for method, subject, seed, layers in [(m, *key, found) for m, of in methods.items() for key, found in of.items()]:
        mine = []
        for layer, values in layers.items():
            array = np.asarray(values, dtype=float)
            names = list(ids) if ids is not None else [f"made/i{i:03d}" for i in range(len(array))]
            held = float(array.mean()) if validation is None else validation[layer]
            pooled = "final" if layer == "final" else pooling
            facts = {
                "subject": subject, "seed": seed, "layer": layer, "depth": depth_of(layer), "pooling": pooled,
                "validation": held, "backbone": backbone, "dataset": dataset,
            }  # fmt: skip
            run = f"runs/layer-{layer}_subject-{subject}_seed-{seed}" + (f"_ablation-{method}" if ablated else "")
            write_run(folder / run, array, names, facts)
            top1 = float(array.mean())
            mine.append({
                "recipe": "shallow-alignment", "dataset": dataset, "subject": subject, "split": 0, "seed": seed,
                "backbone": backbone, "layer": layer, "depth": round(depth_of(layer), 4), "pooling": pooled,
                "encoder": "linear", "validation_top1": held, "test_top1": top1, "test_top1_ci_lo": 0.0,
                "test_top1_ci_hi": 1.0, "test_top5": 1.0, "chosen": 0, "total_s": 1.0, "validation_mrr": held,
                "validation_loss": 10 - held, "chance_top1": 1 / len(array), "run": run,
            } | ({"ablation": method} if ablated else {}))  # fmt: skip
        max(mine, key=lambda row: row["validation_mrr"])["chosen"] = 1
        rows += mine
    write_csv(folder / "sweep.csv", rows)
    axes = [{"name": "layer", "values": list(dict.fromkeys(row["layer"] for row in rows)), "choice": True}]
    axes += [{"name": "ablation", "values": list(methods), "choice": False}] if ablated else []
    summary = {
        "schema": "brainalign.sweep/1", "recipe": "shallow-alignment", "profile": "fmri", "budget": "full",
        "dataset": dataset, "virtual": False, "protocol": "own/intra/v1", "axes": axes,
        "chosen_by": "validation_mrr", "conditions": [], "mean": {}, "comparisons": [], "test_reads": 1,
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(summary))
    return folder


def draw_hits(rates: Mapping[str, float], n: int, seed: int) -> dict[str, np.ndarray]:
    """Independent hits of every layer, at exactly the given rates."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer, rate in rates.items():
        hits = np.zeros(n)
        hits[: round(rate * n)] = 1
        found[layer] = rng.permutation(hits)
    return found


@pytest.fixture
def make_sweep() -> Callable[..., Path]:
    return build_sweep


@pytest.fixture
def draw() -> Callable[..., dict[str, np.ndarray]]:
    return draw_hits
