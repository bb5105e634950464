"""`brainalign captions`: what a captioner says of a data set's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.train import choose_subject, open_session
from brainalign.stimuli.captioners import Decoding, caption_images


def make_captions(
    dataset: str,
    *,
    captioner: str,
    prompt: str,
    out: str | Path,
    root: str | Path | None = None,
    subject: str | None = None,
    decoding: Decoding | None = None,
    dtype: str = "auto",
    batch_size: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Caption a subject's images and write them as a table; facts about them come back.

    A killed run goes on where it stopped and ends in the same file.

    Parameters
    ----------
    out : path-like
        .csv, .tsv or .jsonl.

    Raises
    ------
    InputError
        If anything given cannot be used; `out` is then not written.
    """
    reporter = reporter or Silent()
    session = open_session(dataset, root=root, device=device, cache=cache, reporter=reporter)
    who = choose_subject(session, subject)
    stimuli = session.stimuli(who)
    with reporter.step(f"captions by {captioner}") as tick:
        found = caption_images(
            stimuli,
            captioner,
            prompt,
            cache_dir=session.cache_dir,
            device=session.device,
            dtype=dtype,
            batch_size=batch_size,
            decoding=decoding,
            out=out,
            progress=tick,
        )
    return {
        "out": str(out),
        "captions": len(found.texts),
        "made": found.n_made,
        "empty": found.n_empty,
        "batch_size": found.batch_size,
        **found.key.row(),
        "example": found.texts[0],
    }
