"""`brainalign features`: banks of a subject's images ahead of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainalign.execution.progress import Reporter
from brainalign.execution.train import choose_subject, open_session
from brainalign.features import load_backbone
from brainalign.recipes import TargetSettings


def compute_features(
    dataset: str,
    *,
    backbone: str,
    layers: str = "all",
    pooling: str = "mean,grid4",
    root: str | Path | None = None,
    subject: str | None = None,
    crop: str = "none",
    verify: bool = False,
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Extract layers of a backbone for a subject's images; one row a bank.

    Parameters
    ----------
    verify : bool
        Recompute a sample of every bank and report the largest difference.
    """
    session = open_session(dataset, root=root, device=device, cache=cache, reporter=reporter)
    who = choose_subject(session, subject)
    poolings = [p.strip() for p in pooling.split(",") if p.strip()]
    target = TargetSettings.model_validate(
        {"backbone": backbone, "candidates": layers, "poolings": poolings, "crop": crop}
    )
    banks = session.features(who, target)
    model = load_backbone(backbone, device=session.device, crop=crop) if verify else None
    rows = []
    for (layer, pooled), bank in banks.items():
        row: dict[str, Any] = {"layer": layer, "depth": round(banks.depth(layer), 3), "pooling": pooled}
        row |= {"images": bank.array.shape[0], "dim": bank.array.shape[1], "MB": round(bank.array.nbytes / 1e6, 1)}
        if model is not None:
            row["max_error"] = bank.verify(session.stimuli(who), model).max_abs_error
        rows.append(row)
    return rows
