"""Which queries of a finished run found their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainalign.evaluation.metrics import top_k_hits
from brainalign.evaluation.result import read_predictions


def hits_of_run(folder: str | Path, k: int = 1) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Query ids of a run, and for each how surely the shown image was among its first k (1, 0, or between at ties)."""
    stored = read_predictions(folder)
    where = {name: column for column, name in enumerate(stored["gallery_ids"])}
    targets = np.array([where[name] for name in stored["query_ids"]], dtype=np.intp)
    return stored["query_ids"], top_k_hits(stored["similarity"], targets, k)
