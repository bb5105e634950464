"""Made folders of runs and sweeps (similarities simulated, the rest in plain numpy), and a strict reader of pages."""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_support import browser, look  # noqa: F401 - fixtures of this folder

from brainalign.evaluation.result import Result
from brainalign.stimuli import StimulusSet

BuildRun = Callable[..., Result]


def simulate(n: int, noise: float, seed: int) -> np.ndarray:
    """Cosines of n noisy signals with n images."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n, 24))
    signals = images + noise * rng.standard_normal((n, 24))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    signals /= np.linalg.norm(signals, axis=1, keepdims=True)
    return (signals @ images.T).astype(np.float32)


def score(similarity: np.ndarray, repetitions: int = 4) -> dict[str, Any]:
    """The numbers of a result, with a normal interval: enough for a page."""
    n = len(similarity)
    rank = (similarity > similarity.diagonal()[:, None]).sum(1) + 1
    top1, top5 = float((rank == 1).mean()), float((rank <= 5).mean())

    def ends(p: float) -> list[float]:
        reach = 1.96 * np.sqrt(p * (1 - p) / n) + 0.5 / n
        return [max(0.0, p - reach), min(1.0, p + reach)]

    return {
        "n_way": n,
        "n_queries": n,
        "repetitions": repetitions,
        "top1": top1,
        "top1_ci95": ends(top1),
        "top5": top5,
        "top5_ci95": ends(top5),
        "mrr": float((1 / rank).mean()),
        "median_rank": float(np.median(rank)),
        "two_way": float(1 - (rank - 1).mean() / (n - 1)),
        "chance_top1": 1 / n,
        "chance_top5": 5 / n,
        "permutation_p": 0.0005,
    }


def build_run(
    folder: Path,
    *,
    ids: list[str] | None = None,
    n: int = 60,
    noise: float = 1.4,
    seed: int = 0,
    layer: str = "5",
    pooling: str = "grid4",
    similarity: np.ndarray | None = None,
    layers: tuple[str, ...] = ("0", "5", "10", "15", "head", "final"),
    **changes: Any,
) -> Result:
    """Write the folder of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ids if ids is not None else [f"made/i{i:03d}" for i in range(n)]
    matrix = simulate(len(names), noise, seed) if similarity is None else similarity
    test = score(matrix)
    rng = np.random.default_rng(seed)
    epochs = [
        {"epoch": e, "test_top1": float(np.clip(test["top1"] + rng.normal(0, 0.02), 0, 1))} for e in range(3, 61, 3)
    ]
    document = {
        "schema": "brainalign.result/1",
        "recipe": "shallow-alignment",
        "profile": "spikes",
        "budget": "full",
        "config_hash": "ab" * 32,
        "dataset": "macaque-v4",
        "virtual": False,
        "modality": "spikes",
        "protocol": "macaque-v4/within-session/v1",
        "subject": "m1",
        "split": 0,
        "seed": seed,
        "target": {"backbone": "pip:efficientnet-lite0", "layers": [layer], "depth": 1 / 3, "pooling": pooling},
        "encoder": "linear",
        "selection": {
            "metric": "validation_loss",
            "split": "validation",
            "epoch": 24,
            "layer_chosen_on": "validation_mrr",
        },
        "metrics": {"test": test, "validation": score(simulate(40, noise, seed + 100))},
        "shuffled": {"top1": 1 / len(names)},
        "inflation_gap_top1": max([test["top1"], *(e["test_top1"] for e in epochs)]) - test["top1"],
        "epochs_exploratory": epochs,
        "lint": [
            {"code": "validation-by-image", "severity": "note", "text": "Validation holds out images, not concepts."}
        ],
        "test_reads": 1,
        "timing": {"features_s": 61.2, "train_s": 18.4, "total_s": 83.1},
        "environment": {
            "python": "3.11.7",
            "torch": "2.8.0",
            "device": "cpu (x86_64)",
            "brainalign": "0.1",
            "git": None,
        },
        "split_fingerprint": "cd" * 32,
        "validation_kind": "image-disjoint",
        "n_train": 2700,
        "data": {"licence": "CC BY 4.0", "citation": "The authors (2026)", "url": "https://example.org/data"},
    }
    result = Result.model_validate(document | changes)
    (folder / "result.json").write_text(json.dumps(result.model_dump(mode="json")))
    np.savez_compressed(
        folder / "predictions.npz", similarity=matrix, query_ids=np.array(names), gallery_ids=np.array(names)
    )
    write_csv(folder / "history.csv", history(seed))
    write_csv(folder / "candidates.csv", candidate_rows(layers, seed))
    (folder / "recipe.yaml").write_text("name: shallow-alignment\nencoder:\n  name: linear\n")
    return result


def history(seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, 61):
        validation = 1.9 + 2.4 * np.exp(-epoch / 8) + 0.004 * max(0, epoch - 24) + rng.normal(0, 0.01)
        row = {
            "epoch": float(epoch),
            "lr": 1e-3,
            "train_loss": 0.8 + 5 * np.exp(-epoch / 9),
            "validation_loss": validation,
        }
        rows.append(row | {"validation_top1": 0.5, "validation_mrr": 0.6, "scale": 14.3})
    return rows


def candidate_rows(layers: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    blocks = [name for name in layers if name.isdigit()]
    rows = []
    for layer in layers:
        depth = int(layer) / 15 if layer in blocks else 1.0
        for pooling in ("final",) if layer == "final" else ("grid4", "mean"):
            mrr = curve(depth, layer, pooling)
            row = {"layer": layer, "pooling": pooling, "depth": depth, "epoch": 24, "seconds": 3.1}
            rows.append(row | {"validation_loss": 4 - 3 * mrr, "validation_top1": 0.8 * mrr, "validation_mrr": mrr})
    return rows


def curve(depth: float, layer: str, pooling: str) -> float:
    height = {"head": 0.3, "final": 0.22}.get(layer, 0.25 + 0.5 * np.exp(-(((depth - 0.35) / 0.35) ** 2)))
    return float(height * (0.8 if pooling == "mean" else 1.0))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def build_sweep(
    folder: Path,
    *,
    ids: list[str] | None = None,
    layers: tuple[str, ...] = ("0", "5", "10", "15", "head", "final"),
    poolings: tuple[str, ...] = ("mean", "grid4"),
    splits: tuple[int, ...] = (0,),
    subject: str = "m1",
    **changes: Any,
) -> dict[str, Any]:
    """Write the folder of a finished sweep over layer, pooling and split."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, conditions = [], []
    for split in splits:
        mine = []
        for layer in layers:
            for pooling in poolings:
                depth = int(layer) / 15 if layer.isdigit() else 1.0
                mrr = curve(depth, layer, pooling) * (1 + 0.03 * split)
                test = round(0.9 * mrr + 0.01 * ((len(mine) * 7) % 5 - 2), 4)
                row = {
                    "recipe": "shallow-alignment",
                    "dataset": "macaque-v4",
                    "subject": subject,
                    "split": split,
                    "seed": 0,
                }
                row |= {
                    "backbone": "pip:efficientnet-lite0",
                    "layer": layer,
                    "depth": round(depth, 4),
                    "pooling": pooling,
                }
                row |= {"encoder": "linear", "validation_top1": 0.8 * mrr, "test_top1": test}
                row |= {"test_top1_ci_lo": max(0, test - 0.06), "test_top1_ci_hi": test + 0.06, "test_top5": test + 0.1}
                row |= {
                    "chosen": 0,
                    "total_s": 12.5,
                    "validation_mrr": mrr,
                    "validation_loss": 4 - 3 * mrr,
                    "chance_top1": 1 / 60,
                }
                mine.append(row | {"run": f"runs/layer-{layer}_pooling-{pooling}_split-{split}"})
        best = max(mine, key=lambda row: row["validation_mrr"])
        best["chosen"] = 1
        result = build_run(
            folder / best["run"], ids=ids, seed=split, split=split, subject=subject, layer=best["layer"],
            pooling=best["pooling"], **changes,
        )  # fmt: skip
        top1, ends = result.metrics.test.top1, list(result.metrics.test.top1_ci95)
        best |= {"test_top1": top1, "test_top1_ci_lo": ends[0], "test_top1_ci_hi": ends[1]}
        highest = max(row["test_top1"] for row in mine)
        condition = {"subject": subject, "split": split, "seed": 0, "run": best["run"], "test_top1": top1}
        condition |= {"chosen": {"layer": best["layer"], "pooling": best["pooling"]}, "test_top1_ci95": ends}
        condition |= {
            "test_top5": result.metrics.test.top5,
            "best_row_on_test": highest,
            "inflation_gap_top1": highest - top1,
        }
        conditions.append(condition)
        rows += mine
    axes = [
        {"name": "layer", "values": list(layers), "choice": True},
        {"name": "pooling", "values": list(poolings), "choice": True},
    ]
    axes.append({"name": "split", "values": list(splits), "choice": False})
    keys = ("test_top1", "test_top5", "inflation_gap_top1")
    compared = {
        "against": "final",
        "conditions": len(splits),
        "a": 0.7,
        "b": 0.55,
        "difference": 0.15,
        "ci95": [0.08, 0.22],
    }
    summary = {
        "schema": "brainalign.sweep/1",
        "recipe": "shallow-alignment",
        "profile": "spikes",
        "budget": "full",
        "dataset": "macaque-v4",
        "virtual": False,
        "protocol": "macaque-v4/within-session/v1",
        "axes": axes,
        "chosen_by": "validation_mrr",
        "conditions": conditions,
        "mean": {k: float(np.mean([c[k] for c in conditions])) for k in keys},
        "comparisons": [compared | {"p": 0.0004, "n_units": 60}],
        "test_reads": 1,
    }
    (folder / "sweep.json").write_text(json.dumps(summary))
    write_csv(folder / "sweep.csv", rows)
    return summary


VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed by its own end tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append((self.elements[-1][1].get("type"), data))
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.elements if tag in tags]

    def saved(self, name: str) -> bytes:
        (found,) = [a["href"] for a in self.all("a") if a.get("download") == name]
        return base64.b64decode(found.partition("base64,")[2])


def assert_safe(page: Page) -> None:
    """Nothing is loaded; nothing runs but the scripts that the page's policy names by their hash."""
    assert page.all("iframe", "object", "embed", "base", "form") == []
    for tag, attrs in page.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
                allowed = ("#", "data:image/", "data:text/", "data:application/json", "data:,")
                citation = tag == "a" and value.startswith(("https://", "http://"))
                assert value.startswith(allowed) or citation, (tag, name, value[:60])
    styles = re.findall(r"<style>(.*?)</style>", page.source, re.S) + [a.get("style") or "" for _, a in page.elements]
    for style in styles:
        assert "@import" not in style
        assert re.findall(r"url\((?!#)", style) == []
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe-eval" not in policy
    (allowed,) = [part.split()[1:] for part in policy.split("; ") if part.startswith("script-src ")]
    code = [text for kind, text in page.scripts if kind is None]
    assert len(page.scripts) == len(page.all("script"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert allowed == [f"'sha256-{one}'" for one in hashes]
    for attrs in page.all("script"):
        assert set(attrs) <= {"type", "id"}
        assert attrs.get("type") in (None, "application/json")
    for kind, text in page.scripts:
        if kind is not None:  # data: whatever names it holds, none ends the element or opens a comment in it
            assert not set("<>&") & set(text)
            json.loads(text)


def assert_accessible(page: Page) -> None:
    """Every picture and plot says in words what it shows; ids are unique and point somewhere."""
    assert all((a.get("alt") or "").strip() for a in page.all("img"))
    plots = page.all("svg")
    assert plots
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in plots)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    targets |= {a["xlink:href"][1:] for a in page.all("use")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", page.source))
    assert targets <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in page.elements


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    """Read a page; every page must be whole, safe and accessible."""

    def read(path: Path) -> Page:
        page = Page(path)
        assert_safe(page)
        assert_accessible(page)
        return page

    return read


@pytest.fixture
def make_run() -> BuildRun:
    return build_run


@pytest.fixture
def make_sweep() -> Callable[..., dict[str, Any]]:
    return build_sweep


@pytest.fixture
def shown(tmp_path: Path) -> StimulusSet:
    """60 images of 6 concepts."""
    from tests_support import write_images

    write_images(tmp_path / "pictures", 60, concepts=6, size=200)
    return StimulusSet.from_folder(tmp_path / "pictures", prefix="made/")
