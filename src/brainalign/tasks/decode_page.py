"""The page of decoded signals: pictures, probabilities, what to keep in mind; one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.report.page import csv_text, data_uri, write_page
from brainalign.report.pictures import Pictures
from brainalign.stimuli import StimulusSet

SHOWN_MAX = 100  # signals whose pictures are on the page
IMAGES_MAX = 10


def write_decode_page(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    gallery: StimulusSet,
    facts: Mapping[str, Any],
    *,
    truth: Sequence[str] | None = None,
) -> Path:
    """Write the page.

    Parameters
    ----------
    rows : sequence of dict
        As `brainalign.tasks.decode.rows_of` gives them.
    facts : mapping
        Of the command: `run`, `layers`, `dataset`, `virtual`, `notes`, `scores_in_words`, `score_is`, ...
    truth : sequence of str, optional
        The image of each signal.
    """
    queries: list[dict[str, Any]] = []
    for row in rows:
        if row["rank"] == 1:
            number = len(queries)
            shown = None if truth is None else truth[number]
            queries.append({"name": row["signal"], "none": row.get("none_of_these"), "truth": shown, "images": []})
        if row["rank"] <= IMAGES_MAX:
            queries[-1]["images"].append({"posterior": None, **row})
    shown_facts = {name.replace("_", " "): facts[name] for name in FACTS if facts.get(name) is not None}
    generative = facts["family"] == "generative"
    lead = f"{len(queries)} signals, nearest of {facts['n_gallery']} images. "
    lead += (
        "p is the probability that the signal came from that image."
        if generative
        else f"Numbers: {facts['score_is']}. They rank the images of one signal and do not say how sure the answer is."
    )
    return write_page(
        "decode.html",
        out,
        title=f"Signals decoded by {facts['recipe']}",
        virtual=facts["virtual"],
        lead=lead,
        scores=facts["scores_in_words"],
        score=facts["score_is"],
        queries=queries[:SHOWN_MAX],
        hidden=max(0, len(queries) - SHOWN_MAX),
        pictures=Pictures(gallery),
        notes=facts["notes"],
        facts=shown_facts,
        table=data_uri(csv_text(rows)),
    )


FACTS = ("run", "recipe", "layers", "dataset", "subject", "signals", "gallery", "n_gallery", "none_prior")
