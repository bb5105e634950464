"""`datasets check bids`: every problem of a BIDS folder, not only the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brainalign.datasets.base import Finding
from brainalign.datasets.bids.events import Shown, read_shown
from brainalign.datasets.bids.images import stimulus_id
from brainalign.datasets.bids.layout import STIMULI, read_description
from brainalign.datasets.bids.options import BidsOptions
from brainalign.datasets.bids.raw import Opened, open_run
from brainalign.datasets.folder import image_problems
from brainalign.errors import InputError

if TYPE_CHECKING:
    from brainalign.datasets.bids.dataset import BidsDataset

T = TypeVar("T")


def check_dataset(dataset: BidsDataset) -> list[Finding]:
    """Look at the description, the events, the headers and the images.

    Parameters
    ----------
    dataset : BidsDataset
    """
    root = dataset.require_root()
    problems: list[InputError] = []
    said = _try(problems, lambda: read_description(root))
    runs = _try(problems, lambda: dataset.runs) if said is not None else None
    if said is None or runs is None:
        return [_finding(problem, root) for problem in problems]
    good = [Finding(True, "dataset_description.json", f"{said.get('Name') or 'no name'}, BIDS {said['BIDSVersion']}")]
    n_before = len(problems)
    for run in runs:
        _try(problems, lambda run=run: read_shown(run, dataset.options))  # type: ignore[misc]
    if len(problems) == n_before and _try(problems, lambda: dataset.shown) is not None:
        good += _check_images(dataset, problems)
        good += [_check_subject(dataset, subject, problems) for subject in _subjects(dataset)]
    return [*good, *(_finding(problem, root) for problem in problems)]


def _subjects(dataset: BidsDataset) -> list[str]:
    return sorted({shown.run["sub"] for shown in dataset.shown})


def _try(problems: list[InputError], read: Callable[[], T]) -> T | None:
    """What `read` gives; a problem is noted, and nothing given."""
    try:
        return read()
    except InputError as problem:
        problems.append(problem)
        return None


def _check_images(dataset: BidsDataset, problems: list[InputError]) -> list[Finding]:
    """Names, concepts and parts; files that are missing, cannot be decoded, or are the same under two names."""
    found = _try(problems, lambda: dataset.images)
    parts = _try(problems, lambda: dataset.parts)
    if found is None or parts is None:
        return []
    stimuli, source = found
    missing = [str(name) for name in stimuli.table["path"] if not (dataset.require_root() / STIMULI / name).is_file()]
    if missing:
        first = dataset.require_root() / STIMULI / missing[0]
        others = f", with {len(missing) - 1} others" if len(missing) > 1 else ""
        link = " (a link to nothing)" if first.is_symlink() else ""
        hint = "get them: datalad get stimuli" if link else f"put the images into {STIMULI}/"
        problems.append(InputError(f"missing{link}{others}", where=first, hint=hint))
    there = [stimulus_id(name) for name in stimuli.table["path"] if name not in set(missing)]
    if there:
        problems.extend(image_problems(stimuli.select(there)))
    concepts = f"{stimuli.table['concept'].nunique()} concepts ({source})" if source else "no concepts"
    counts = Counter(parts.values())
    cut = f"{counts['train']} train, {counts['test']} test" if parts else "test images are held out by the protocol"
    return [Finding(True, STIMULI, f"{len(stimuli)} images, {concepts}; {cut}")]


def _check_subject(dataset: BidsDataset, subject: str, problems: list[InputError]) -> Finding:
    runs = [shown for shown in dataset.shown if shown.run["sub"] == subject]
    opened = [_try(problems, lambda shown=shown: open_run(shown, dataset.options)) for shown in runs]  # type: ignore[misc]
    whole = [(shown, found) for shown, found in zip(runs, opened, strict=True) if found is not None]
    sessions = len({shown.run["ses"] for shown in runs})
    text = f"{len(runs)} run{'s' * (len(runs) > 1)} in {sessions} session{'s' * (sessions > 1)}"
    if len(whole) < len(runs):
        return Finding(False, f"sub-{subject}", f"{text}, {len(runs) - len(whole)} of them cannot be read; see below")
    return Finding(True, f"sub-{subject}", f"{text}; {_describe(whole, dataset.options)}; {_left_out(whole)}")


def _describe(whole: list[tuple[Shown, Opened]], options: BidsOptions) -> str:
    names = [shown.images[event] for shown, found in whole for event in found.kept]
    often = Counter(names)
    first = whole[0][1]
    times = (
        f"{min(often.values())} to {max(often.values())}"
        if len(set(often.values())) > 1
        else f"{max(often.values(), default=0)}"
    )
    rates = " and ".join(f"{rate:g}" for rate in sorted({found.recorded for _, found in whole}))
    bads = sorted({name for _, found in whole for name in found.bads})
    marked = f", {len(bads)} marked bad ({'kept' if options.bads == 'keep' else 'left out'})" if bads else ""
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(first.kinds).items())
    return f"{len(names)} trials of {len(often)} images x {times}; {kinds} channels{marked}, {rates} Hz"


def _left_out(whole: list[tuple[Shown, Opened]]) -> str:
    counts: Counter[str] = Counter()
    for shown, _ in whole:
        counts.update(shown.skipped)
    counts["beyond the recording"] = sum(found.n_outside for _, found in whole)
    counts["in a bad segment"] = sum(found.n_bad_segment for _, found in whole)
    listed = ", ".join(f"{n} {reason}" for reason, n in counts.items() if n)
    return f"events left out: {listed or 'none'}"


def _finding(problem: InputError, root: Path) -> Finding:
    where = Path(str(problem.where)) if problem.where is not None else root
    shown = where.relative_to(root).as_posix() if where != root and where.is_relative_to(root) else str(where)
    return Finding(False, shown, f"{problem.problem}; {problem.hint}" if problem.hint else problem.problem)
