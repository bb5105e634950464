"""Whose dissimilarities models are compared with: published ones, or those of signals and of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.rsa_distances import (
    Matrix,
    correlation_distance,
    crossnobis,
    deal_folds,
    euclidean,
    squared_euclidean,
)
from brainalign.errors import InputError, unknown_name
from brainalign.execution.session import Session
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings import Recording
from brainalign.recordings.dissimilarities import CONDITIONS_MIN, Dissimilarities
from brainalign.recordings.selection import REGION
from brainalign.recordings.whitening import noise_covariance, whitening_matrix
from brainalign.stimuli import StimulusSet

CHANNELS_MAX = 1000  # a full noise covariance of more channels takes minutes and next to no trials fix it
SIGNALS, EMBEDDINGS = "signals", "embeddings"
Window = tuple[float, float]


@runtime_checkable
class Published(Protocol):
    """A data set that offers dissimilarities instead of signals."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Names that `dissimilarities` takes."""

    def dissimilarities(self, region: str) -> Dissimilarities:
        """Matrices of all subjects in a region."""

    def stimuli(self, subject: str) -> StimulusSet:
        """The images shown."""


@dataclass(frozen=True)
class Source:
    """Dissimilarities of a group of subjects.

    Attributes
    ----------
    name : str
        A region, 'signals' or 'embeddings', with whose they are where groups differ.
    found : Dissimilarities
    window : (float, float) or None
        Seconds from stimulus onset; None for all samples.
    """

    name: str
    found: Dissimilarities
    window: Window | None = None


@dataclass(frozen=True)
class Gathered:
    """Sources that share their stimuli.

    Attributes
    ----------
    stimuli : StimulusSet
        In the order of the matrices.
    sources : tuple of Source
    notes : tuple of str
        What the reader must know.
    """

    stimuli: StimulusSet
    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> list[Source]:
        """Sources over all samples."""
        return [source for source in self.sources if source.window is None]

    @property
    def windows(self) -> list[Source]:
        """Sources over windows of time."""
        return [source for source in self.sources if source.window is not None]


@dataclass(frozen=True)
class Wanted:
    """How dissimilarities of recordings are made; see the options of the analysis."""

    images: str
    split: int
    n_stimuli: int
    distance: str
    width: float
    step: float
    seed: int


def published(dataset: Published, regions: Sequence[str], subjects: Sequence[str]) -> Gathered:
    """Regions and subjects of a data set that offers dissimilarities; all where none is named.

    Raises
    ------
    InputError
        If a region or subject is not there, or a file is damaged.
    """
    found = [dataset.dissimilarities(region) for region in regions or dataset.regions]
    if subjects:
        found = [one.of(subjects) for one in found]
    stimuli = dataset.stimuli("").select(found[0].stimulus_ids)
    return Gathered(stimuli, tuple(Source(one.name, one) for one in found))


def recorded(session: Session, subjects: Sequence[str], regions: Sequence[str], wanted: Wanted) -> list[Gathered]:
    """Signals of some subjects, those who saw the same images as one group.

    Raises
    ------
    InputError
        If a subject or region is unknown, or there are too few images.
    """
    known = session.dataset.subjects
    for name in subjects:
        if name not in known:
            raise unknown_name("subject", name, known, where=session.dataset.name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for subject in subjects or known:
        seen = session.recording(subject).index
        ids = _pick(session, subject, wanted, [seen])
        groups.setdefault(ids, []).append(subject)
    gathered = []
    for ids, people in groups.items():
        label = f" of {people[0]}" if len(groups) > 1 else ""
        sources: list[Source] = []
        for region in regions or [""]:
            settings = SignalSettings(channels=[f"{REGION}{region}"] if region else "all")
            trials = [session.trials(one, wanted.split, settings)[0] for one in people]
            sources += sources_of(trials, ids, f"{region or SIGNALS}{label}", wanted)
        gathered.append(Gathered(session.stimuli(people[0]).select(ids), tuple(sources)))
    return gathered


def of_run(run: Any, wanted: Wanted) -> Gathered:
    """Signals and embeddings of the training subjects of a finished run.

    Parameters
    ----------
    run : Reopened
    """
    recordings = run.session.trials(run.result.subject, wanted.split, run.recipe.signals)
    ids = _pick(run.session, run.result.subject, wanted, [one.index for one in recordings])
    sources, notes = sources_of(recordings, ids, f"{SIGNALS} ({run.name})", wanted), []
    if hasattr(run.aligner, "embed_brain"):
        embedded = [embed(run.aligner, one, ids) for one in recordings]
        sources += sources_of(embedded, ids, f"{EMBEDDINGS} ({run.name})", wanted)
    else:
        notes.append(f"{run.name}: embeddings are not measured, a model of its family has none.")
    return Gathered(run.session.stimuli(run.result.subject).select(ids), tuple(sources), tuple(notes))


def embed(aligner: Any, recording: Recording, ids: Sequence[str]) -> Recording:
    """Every trial of some images in a model's space, as a recording whose channels are its dimensions."""
    rows = np.concatenate([recording.trials_of(name) for name in ids])
    names = [name for name in ids for _ in recording.trials_of(name)]
    counts = recording.trials["n_averaged"].to_numpy()[rows].tolist()
    return Recording.from_arrays(
        aligner.embed_brain(recording.read(rows)), names, modality="fmri", subject=recording.subject, n_averaged=counts
    )


def sources_of(recordings: Sequence[Recording], ids: Sequence[str], name: str, wanted: Wanted) -> list[Source]:
    """Dissimilarities of a group over all samples and, where there is time, over sliding windows."""
    windows = [None, *sliding(recordings[0], wanted.width, wanted.step)]
    per_subject = [matrices_of(one, ids, windows, wanted.distance) for one in recordings]
    measure = " or ".join(dict.fromkeys(used for _, used in per_subject))
    people = [one.subject for one in recordings]
    return [
        Source(
            name,
            Dissimilarities.from_array(
                [matrices[i] for matrices, _ in per_subject], ids, people, name=name, measure=measure, where=name
            ),
            window,
        )
        for i, window in enumerate(windows)
    ]


def sliding(recording: Recording, width: float, step: float) -> list[Window]:
    """Windows of a width, seconds from stimulus onset; none where there is no time axis or width is 0.

    Raises
    ------
    InputError
        If the signals are shorter than a window, or the step shorter than a sample.
    """
    if recording.sfreq is None or recording.n_times < 2 or width == 0:
        return []
    sample, times = 1 / recording.sfreq, recording.times
    end = float(times[-1]) + sample
    if width > end - times[0] + sample / 2 or width < sample * 0.999:
        text = f"{width:g} s is not between one sample and the whole signal ({end - times[0]:g} s)"
        raise InputError(text, where="--window", hint="0 for no windows")
    if step < sample * 0.999:
        raise InputError(f"{step:g} s is shorter than a sample ({sample:g} s)", where="--step")
    count = int(np.floor((end - times[0] - width) / step + 1e-6)) + 1
    starts = [round(float(times[0]) + step * i, 6) for i in range(count)]
    return [(start, round(start + width, 6)) for start in starts]


def matrices_of(
    recording: Recording, ids: Sequence[str], windows: Sequence[Window | None], distance: str
) -> tuple[list[Matrix], str]:
    """Dissimilarities of one subject in some windows, and the distance that was taken.

    `auto` takes crossnobis where every image has two trials or more, else the correlation distance. For crossnobis and
    mahalanobis signals are whitened with the noise of trials around their image's mean, the same for all samples;
    beyond 1,000 channels only each channel's own scale is taken out.

    Returns
    -------
    matrices : list of arrays of shape (n_images, n_images)
    distance : str

    Raises
    ------
    InputError
        If the distance needs two trials of every image and some have one.
    """
    groups = [recording.trials_of(name) for name in ids]
    fewest = min(map(len, groups))
    if distance == "auto":
        distance = "crossnobis" if fewest > 1 else "correlation"
    if distance == "crossnobis" and fewest < 2:
        lonely = ids[int(np.argmin([len(rows) for rows in groups]))]
        problem = f"crossnobis needs two trials of every image, '{lonely}' has {fewest}"
        raise InputError(problem, where=f"subject {recording.subject}", hint="--signal-distance correlation")
    block = recording.read(np.concatenate(groups)).astype(np.float64)
    if distance in ("crossnobis", "mahalanobis"):
        block = np.einsum("dc,nct->ndt", _whitener(recording, ids), block, optimize=True)
    ends = np.cumsum([len(rows) for rows in groups])
    rows_of = [np.arange(stop - len(rows), stop) for stop, rows in zip(ends, groups, strict=True)]
    return [_matrix(block[:, :, _samples(recording, w)], rows_of, distance) for w in windows], distance


def _matrix(block: NDArray[np.float64], rows_of: Sequence[NDArray[np.intp]], distance: str) -> Matrix:
    patterns = block.reshape(len(block), -1)
    if distance == "crossnobis":
        return crossnobis(deal_folds(patterns, rows_of))
    means = np.array([patterns[rows].mean(axis=0) for rows in rows_of])
    if distance == "mahalanobis":
        squares: Matrix = squared_euclidean(means) / means.shape[1]
        return squares
    return euclidean(means) if distance == "euclidean" else correlation_distance(means)


def _whitener(recording: Recording, ids: Sequence[str]) -> Matrix:
    if recording.n_chans <= CHANNELS_MAX:
        return whitening_matrix(noise_covariance(recording, ids))
    squares, degrees = np.zeros(recording.n_chans), 0
    for name in ids:
        trials = recording.read(recording.trials_of(name)).astype(np.float64)
        squares += ((trials - trials.mean(axis=0)) ** 2).sum(axis=(0, 2))
        degrees += (len(trials) - 1) * trials.shape[2]
    if degrees == 0:
        raise InputError("no image was repeated, so the noise is not known", hint="--signal-distance correlation")
    scale = np.sqrt(squares / degrees)
    inverse: Matrix = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    return inverse[:, None] * np.eye(len(scale))


def _samples(recording: Recording, window: Window | None) -> slice:
    if window is None:
        return slice(None)
    inside = np.flatnonzero((recording.times >= window[0] - 1e-6) & (recording.times < window[1] - 1e-6))
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _pick(session: Session, subject: str, wanted: Wanted, seen: Sequence[Any]) -> tuple[str, ...]:
    """Validation (or training) images that everybody saw, at most so many, in one random order of their own."""
    split = session.split(subject, wanted.split)
    ids = split.validation if wanted.images == "validation" else split.train
    held = [name for name in ids if all(name in index for index in seen)]
    if len(held) > wanted.n_stimuli:
        kept = np.random.default_rng(wanted.seed).permutation(len(held))[: wanted.n_stimuli]
        held = [held[i] for i in sorted(kept)]
    if len(held) < CONDITIONS_MIN:
        raise InputError(f"{len(held)} {wanted.images} images are too few", where=f"subject {subject}")
    return tuple(held)
