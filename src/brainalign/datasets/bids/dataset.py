"""The reader of BIDS data sets."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.bids.events import STIM_FILE, Shown, read_shown
from brainalign.datasets.bids.images import parts_of_images, stimulus_id, stimulus_set
from brainalign.datasets.bids.layout import Run, all_runs, choose_runs, read_description
from brainalign.datasets.bids.options import BidsOptions
from brainalign.datasets.bids.raw import UNITS
from brainalign.datasets.bids.store import Piece, join_pieces, open_piece
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet


class BidsDataset(Dataset):
    """A BIDS data set of EEG, MEG or iEEG with a column `stim_file` in its events.

    Parameters
    ----------
    root : path-like
        Folder with `dataset_description.json`, `stimuli/` and `sub-*`. Nothing but names is read before it is needed.
    preset : str, optional
        Options as they stand in the name: `task=things:tmax=0.8` of `bids:task=things:tmax=0.8`.
    cache_dir : path-like, optional
        Where epochs are kept; brainalign's cache by default.
    **options
        Fields of `BidsOptions`.

    Raises
    ------
    InputError
        If an option is unknown or its value makes no sense.
    """

    info = DatasetInfo(
        name="bids",
        title="any BIDS data set of EEG, MEG or iEEG whose events name images",
        modality="eeg, meg or ieeg",
        subjects=(),
        protocol="bids/intra/v1",
        licence="that of the data set",
        citation="Gorgolewski et al., Scientific Data 3:160044, 2016; Pernet et al., 6:103, 2019; Niso et al., "
        "5:180110, 2018; Holdgraf et al., 6:102, 2019; read with MNE-BIDS: Appelhoff et al., JOSS 4:1896, 2019",
        url="https://bids-specification.readthedocs.io",
        size="yours",
        layout="dataset_description.json, stimuli/, sub-*/[ses-*/]{eeg,meg,ieeg}/*_events.tsv with onset and stim_file",
    )

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        preset: str | None = None,
        cache_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root)
        self.options = BidsOptions.read(preset, **options)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None
        with contextlib.suppress(InputError):  # said by whatever needs it
            if self.root is not None:
                self.__dict__["info"] = self._own_info()

    @property
    def name(self) -> str:
        """`bids`, with the options that differ from the defaults: it opens the same data again."""
        return f"bids:{self.options.text}" if self.options.text else "bids"

    @property
    def cache_dir(self) -> Path:
        """Where epochs are kept."""
        return self._cache_dir or default_cache_dir()

    def _own_info(self) -> DatasetInfo:
        root = self.require_root()
        said = read_description(root)
        authors = said.get("Authors")
        citation = [", ".join(map(str, authors)) if isinstance(authors, list) else "", str(said.get("DatasetDOI", ""))]
        return replace(
            type(self).info,
            title=f"BIDS: {said.get('Name') or root.resolve().name}",
            modality=self.runs[0].datatype,
            subjects=self.subjects,
            licence=str(said.get("License") or "not stated"),
            citation="; ".join(part for part in citation if part) or "not stated",
        )

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """Recordings that the options choose, by name.

        Raises
        ------
        InputError
            If there is none, or the options leave a choice open.
        """
        root = self.require_root()
        read_description(root)
        return tuple(choose_runs(root, all_runs(root), self.options))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Labels of the subjects that saw images; of all with a chosen recording, where the events cannot be read."""
        if self.root is None:
            return ()
        with contextlib.suppress(InputError):
            return tuple(sorted({shown.run["sub"] for shown in self.shown if len(shown)}))
        return tuple(sorted({run["sub"] for run in self.runs}))

    @functools.cached_property
    def shown(self) -> tuple[Shown, ...]:
        """Image events of the chosen recordings of every subject; recordings of tasks without images are left out.

        Raises
        ------
        InputError
            If events are damaged or missing, no event names an image, or several tasks show images.
        """
        found = [(run, read_shown(run, self.options)) for run in self.runs]
        tasks = sorted({run["task"] for run, shown in found if shown is not None and len(shown)})
        if not tasks:
            problem = f"no event of {len(self.runs)} recordings names an image in '{STIM_FILE}'"
            raise InputError(problem, where=self.root, hint="see docs/datasets/bids.md")
        if len(tasks) > 1 and not self.options.task:
            hint = f"choose with --data-option task={tasks[0]}, or take several: task={','.join(tasks)}"
            raise InputError(f"several tasks show images: {', '.join(tasks)}", where=self.root, hint=hint)
        shown_runs = []
        for run, shown in found:
            if shown is None and run["task"] in tasks:
                problem = f"has no events.tsv with '{STIM_FILE}', other runs of task '{run['task']}' have"
                raise InputError(problem, where=run.path, hint="get the file, or leave the run out with run=, session=")
            if shown is not None and run["task"] in tasks:
                shown_runs.append(shown)
        return tuple(shown_runs)

    def of_subject(self, subject: str) -> list[Shown]:
        """Image events of a subject's recordings."""
        self.require_subject(subject)
        return [shown for shown in self.shown if shown.run["sub"] == subject]

    @functools.cached_property
    def images(self) -> tuple[StimulusSet, str]:
        """Every image that any subject saw, and where concepts are from ('' for none)."""
        return stimulus_set(self.require_root(), self.shown, self.options.concept)

    @functools.cached_property
    def parts(self) -> dict[str, str]:
        """From image to 'train' or 'test'; empty if the data do not say."""
        return parts_of_images(self.shown, self.options.part)

    def stimuli(self, subject: str) -> StimulusSet:
        """All images, whichever of the subjects saw them; files need not be there yet."""
        self.require_subject(subject)
        return self.images[0]

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, run after run, each in the order of onsets.

        `trials` holds `session`, `run` (labels; 1 where the name has none) and `part`; the channel table holds `kind`,
        `unit` and `bad`. Positions are those MNE-BIDS gives, metres.

        Raises
        ------
        InputError
            If a file is missing or damaged, runs do not fit together, or no trial is left.
        """
        runs = [shown for shown in self.of_subject(subject) if len(shown)]
        _ = self.images, self.parts  # contradictions in the tables are said before signals are read
        found = [(shown, open_piece(shown, self.options, self.cache_dir)) for shown in runs]
        found = [(shown, piece) for shown, piece in found if piece.kept]
        if not found:
            problem = f"no trial of subject {subject} lies whole in its recording"
            raise InputError(problem, where=self.root, hint="give a shorter window (tmin, tmax), or bad_segments=keep")
        signals, names = join_pieces([piece for _, piece in found], self.options)
        first = found[0][1]
        at = [first.names.index(name) for name in names]
        table = _channel_table([piece for _, piece in found], names)
        trials = [(shown, event) for shown, piece in found for event in piece.kept]
        return Recording.from_arrays(
            signals,
            [stimulus_id(shown.images[event]) for shown, event in trials],
            modality=self.runs[0].datatype,  # BIDS and this library have the same names
            subject=subject,
            ch_names=names,
            sfreq=first.sfreq,
            tmin=first.tmin,
            unit=" and ".join(dict.fromkeys(table["unit"])),
            ch_pos=None if first.ch_pos is None else first.ch_pos[at],
            channels=table,
            check_finite=False,  # done once when the epochs were cut
            session=[shown.run["ses"] or 1 for shown, _ in trials],
            run=[shown.run["run"] or 1 for shown, _ in trials],
            part=[self.parts.get(shown.images[event], "") for shown, event in trials],
        )

    def check(self) -> list[Finding]:
        """Every run's headers and events, every image; what is missing or damaged. Reads no signals."""
        from brainalign.datasets.bids.check import check_dataset

        return check_dataset(self)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Signals, events and sidecars of all its runs."""
        return tuple(sorted({path for run in self.runs if run["sub"] == subject for path in run.parts()}))

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Nothing: images are there, and epochs are cut when a subject is opened."""


def _channel_table(pieces: list[Piece], names: tuple[str, ...]) -> pd.DataFrame:
    """What each channel is, its unit, and whether any run marks it bad."""
    first = pieces[0]
    kinds = dict(zip(first.names, first.kinds, strict=True))
    bad = frozenset().union(*(piece.bads for piece in pieces))
    return pd.DataFrame(
        {
            "kind": [kinds[name] for name in names],
            "unit": [UNITS[kinds[name]][1] for name in names],
            "bad": np.array([name in bad for name in names], dtype=bool),
        }
    )
