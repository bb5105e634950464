"""The gallery of a page: every query with its nearest images and its signal, as data for the page's script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.report.pictures import Pictures
from brainalign.report.query_signals import QuerySignals
from brainalign.report.retrievals import Retrievals

SCHEMA = "brainalign.gallery/1"
N_NEAREST = 8
QUERIES_MAX = 400
PICTURES_MAX = 1200
BYTES_MAX = 9 * 2**20  # of pictures; a page stays under 15 MB


@dataclass(frozen=True)
class Gallery:
    """What a page shows of its gallery.

    Attributes
    ----------
    data : str
        JSON; holds no `<`, so that it can stand inside a script element.
    n_shown, n_queries : int
        Queries on the page, and in the run.
    has_signals : bool
    """

    data: str
    n_shown: int
    n_queries: int
    has_signals: bool


def build_gallery(retrievals: Retrievals, pictures: Pictures, signals: QuerySignals | None, *, lead: str) -> Gallery:
    """Gather queries, neighbours, pictures and signals.

    Parameters
    ----------
    retrievals : Retrievals
    pictures : Pictures
    signals : QuerySignals or None
        Of the same queries, in the same order.
    lead : str
        What differences of similarity are counted in: `of cosine similarity`.
    """
    n = len(retrievals.query_ids)
    queries = list(range(n))
    if n > QUERIES_MAX:  # drawn blindly, the same at every call: no choice by score
        queries = sorted(np.random.default_rng(0).choice(n, QUERIES_MAX, replace=False).tolist())
    rows, columns = [], dict[int, int]()

    def place(column: int) -> int:
        return columns.setdefault(column, len(columns))

    for query in queries:  # shown images first: they get their pictures before any neighbour does
        place(int(retrievals.targets[query]))
    for query in queries:
        shown = int(retrievals.targets[query])
        near = [int(column) for column in retrievals.nearest(query, N_NEAREST)]
        values = retrievals.similarity[query]
        rows.append(
            {
                "image": place(shown),
                "rank": float(retrievals.ranks[query]),
                "margin": _short(retrievals.margin(query)),
                "score": _short(values[shown]),
                "near": [place(column) for column in near],
                "scores": [_short(values[column]) for column in near],
            }
        )
    ids = [retrievals.gallery_ids[column] for column in columns]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "n_way": len(retrievals.gallery_ids),
        "lead": lead,
        "images": [{"id": name, "name": pictures.name(name)} for name in ids],
        "pictures": _pictures(ids, pictures),
        "queries": rows,
        "signals": None if signals is None else signals.packed(queries),
    }
    return Gallery(script_safe(document), len(rows), n, signals is not None)


def _pictures(ids: list[str], pictures: Pictures) -> list[str | None]:
    """Data addresses of the pictures, as far as the page has room; the shown images come first."""
    found: list[str | None] = []
    room = BYTES_MAX
    for number, name in enumerate(ids):
        uri = pictures.uri(name) if number < PICTURES_MAX and room > 0 else None
        room -= len(uri or "")
        found.append(uri)
    return found


def _short(value: Any) -> float | None:
    return float(f"{float(value):.5g}") if np.isfinite(value) else None


def script_safe(document: Any) -> str:
    r"""JSON that cannot end a script element or begin a comment in one, whatever names it holds.

    Examples
    --------
    >>> script_safe("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
