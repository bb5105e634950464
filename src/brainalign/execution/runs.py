"""Looking at finished runs: list, compare, write the report again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainalign.errors import InputError
from brainalign.evaluation.result import read_result
from brainalign.execution.reopen import shown_stimuli
from brainalign.files import read_json
from brainalign.report import write_run_report, write_sweep_report
from brainalign.report.stack_report import write_stack_report


def list_runs(folder: str | Path) -> list[dict[str, Any]]:
    """One row a finished run below a folder.

    Raises
    ------
    InputError
        If the folder is missing or holds no finished run.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("is not a folder", where=folder, hint="give the folder that holds runs")
    found = sorted(root.rglob("result.json"))
    if not found:
        raise InputError("holds no finished run", where=folder, hint="a run's folder has a result.json")
    return [_row(path.parent, root) for path in found]


def _row(folder: Path, root: Path) -> dict[str, Any]:
    result = read_result(folder)
    test = result.metrics.test
    return {
        "run": str(folder.relative_to(root)),
        "recipe": result.recipe,
        "dataset": result.dataset + (" (VIRTUAL)" if result.virtual else ""),
        "subject": result.subject,
        "split": result.split,
        "seed": result.seed,
        "target": f"{result.target.backbone} {result.target.label} {result.target.pooling}",
        "top1": round(test.top1, 4),
        "ci95": f"{test.top1_ci95[0]:.3f} to {test.top1_ci95[1]:.3f}",
        "chance": test.chance_top1,
        "test_reads": result.test_reads,
        "hash": result.config_hash[:12],
    }


def rebuild_report(
    folder: str | Path,
    *,
    beside: Sequence[str | Path] = (),
    out: str | Path | None = None,
    root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Write the report of a run or sweep again, with pictures where the data set is at hand.

    Parameters
    ----------
    beside : sequence of path-like
        Other runs (or sweeps: their chosen rows) on the same test images, compared with the run image by image.
    root : path-like, optional
        Where the data set lies; the folder itself for own recordings.

    Raises
    ------
    InputError
        If the folder holds neither, `root` does not hold the run's data set, or a run beside it was tested on other
        images.
    """
    place = Path(folder)
    target = Path(out) if out is not None else None
    if (place / "sweep.json").is_file():
        if beside:
            hint = "compare sweeps with `brainalign compare`, or give the folder of one of its runs"
            raise InputError("is a sweep: other runs cannot stand beside it", where=place, hint=hint)
        dataset = str(read_json(place / "sweep.json")["dataset"])
        return write_sweep_report(place, lambda subject: shown_stimuli(dataset, subject, root, cache), out=target)
    result = read_result(place)
    stimuli = shown_stimuli(result.dataset, result.subject, root, cache)
    if (place / "stack.json").is_file():
        return write_stack_report(place, stimuli, out=target, beside=beside)
    return write_run_report(place, stimuli, out=target, beside=beside)
