"""`brainalign demo`: both families of aligners on one virtual subject, in one report."""

from __future__ import annotations

from pathlib import Path

from brainalign.evaluation.result import Result
from brainalign.execution.progress import Reporter
from brainalign.execution.runs import rebuild_report
from brainalign.execution.train import train

DATASET, SUBJECT = "virtual-eeg:small", "1"


def demo(
    out: str | Path, *, device: str = "auto", cache: str | Path | None = None, reporter: Reporter | None = None
) -> tuple[Result, Result]:
    """Train `shallow-alignment` in a folder, `generative` below it, and write a report of both.

    Returns
    -------
    tuple of Result
        Of `shallow-alignment` and of `generative`.
    """
    folder = Path(out)
    found = []
    for recipe, place, settings in (
        ("shallow-alignment", folder, ["target.poolings=[grid4]"]),
        ("generative", folder / "generative", []),
    ):
        found.append(
            train(
                recipe,
                dataset=DATASET,
                subject=SUBJECT,
                out=place,
                settings=settings,
                device=device,
                cache=cache,
                reporter=reporter,
            )
        )
    rebuild_report(folder, beside=[folder / "generative"], cache=cache)
    return found[0], found[1]
