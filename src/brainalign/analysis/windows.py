"""Windows of time, and the models that see a window alone: retrained with a run's own settings, or a ridge map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainalign.alignment.families import load_aligner
from brainalign.alignment.transforms import window_samples
from brainalign.analysis.embeddings import MODEL
from brainalign.analysis.reopened import Reopened
from brainalign.analysis.window_ridge import RidgeDecoder
from brainalign.errors import InputError
from brainalign.execution.job import Job
from brainalign.execution.progress import Silent, Tick
from brainalign.execution.rundir import RunDirectory
from brainalign.execution.train import freeze_job
from brainalign.protocols.sealed import TestData
from brainalign.recipes.recipe import Recipe

KINDS = ("growing", "shrinking", "sliding")
DIGITS = 6


@dataclass(frozen=True)
class Window:
    """A stretch of time that a model sees.

    Attributes
    ----------
    kind : {'growing', 'shrinking', 'sliding'}
    start, stop : float
        Seconds from stimulus onset; the start is inside, the stop is not.
    """

    kind: str
    start: float
    stop: float

    @property
    def at(self) -> float:
        """Where its score is drawn: the moving end, of a sliding window the middle."""
        return {"growing": self.stop, "shrinking": self.start}.get(self.kind, (self.start + self.stop) / 2)

    @property
    def ends(self) -> tuple[float, float]:
        """Start and stop."""
        return (self.start, self.stop)


def times_of(run: Reopened) -> NDArray[np.float64]:
    """Seconds from stimulus onset of the samples that a run's model takes.

    Raises
    ------
    InputError
        If its signals have no time axis.
    """
    recipe, result = run.recipe, run.result
    recording = run.session.development(result.subject, result.split, recipe.signals)[0]
    if recording.sfreq is None or recording.n_times < 4:
        text = f"{recording.modality} signals with {recording.n_times} sample(s) have no time to look into"
        raise InputError(text, where=run.folder, hint="give runs on EEG or MEG")
    return recording.times


def windows_of(
    times: NDArray[np.float64], kinds: Sequence[str], *, step: float, width: float, slide: float
) -> list[Window]:
    """Growing windows [0, t], shrinking ones [t, end] and sliding ones of a width.

    Growing and shrinking windows count from stimulus onset, or from the first sample where that is later. Sliding ones
    begin with the first sample, before the stimulus if there is one.

    Parameters
    ----------
    times : array of shape (n_times,)
        Seconds from stimulus onset, evenly spaced.
    step, width, slide : float
        Seconds between ends of growing and shrinking windows; length of sliding windows and how far each moves.

    Raises
    ------
    InputError
        If a step or the width is shorter than a sample or longer than the signals.
    """
    sample = float(times[1] - times[0])
    first, end = float(times[0]), float(times[-1]) + sample
    for name, value in (("step", step), ("width", width), ("slide", slide)):
        if not sample * (1 - 1e-6) <= value <= end - first + sample * 1e-6:
            text = f"{value:g} s is not between one sample ({sample:g} s) and the whole signal ({end - first:g} s)"
            raise InputError(text, where=f"--{name}")
    onset = max(0.0, first)
    found = []
    if "growing" in kinds:
        stops = [onset + step * i for i in range(1, _count(end - onset, step) + 1)]
        found += [Window("growing", onset, t) for t in [*stops, end] if t <= end + sample * 1e-6]
    if "shrinking" in kinds:
        found += [Window("shrinking", onset + step * i, end) for i in range(_count(end - onset - sample, step) + 1)]
    if "sliding" in kinds:
        # Whole samples, so that all windows are equally long.
        width, slide = round(width / sample) * sample, round(slide / sample) * sample
        starts = [first + slide * i for i in range(_count(end - first - width, slide) + 1)]
        found += [Window("sliding", t, t + width) for t in starts]
    rounded = [Window(w.kind, round(w.start, DIGITS) + 0.0, round(w.stop, DIGITS)) for w in found]
    return list(dict.fromkeys(rounded))


def _count(length: float, step: float) -> int:
    return int(np.floor(length / step + 1e-6))


class Retrained:
    """Models of a run trained anew on one window each, kept in a folder and taken up from there.

    Everything but the window is as in the run: recipe, layer and pooling, subject, split and seed.

    Parameters
    ----------
    run : Reopened
    folder : Path
        Of all windows of this run.
    """

    def __init__(self, run: Reopened, folder: Path) -> None:
        self.run, self.folder, self.times = run, folder, times_of(run)

    def similarity(self, window: Window, images: str, tick: Tick) -> tuple[NDArray[np.float32], TestData]:
        """Similarities of the validation or test signals under the model of a window, which is trained if need be."""
        recipe = self.recipe(window)
        aligner = self.run.aligner if recipe is None else self._trained(window, recipe, tick)
        data = signals_of(self.run, images, aligner.recipe)
        features = {"image": self.run.targets.of(data.gallery_ids)}
        return aligner.similarity(data.signals, features, repetitions=data.counts), data

    def recipe(self, window: Window) -> Recipe | None:
        """The run's recipe with a window; None where the window holds all samples: that is the run itself."""
        start, stop = window_samples(self.times, window.ends)
        if (start, stop) == (0, len(self.times)):
            return None
        recipe = self.run.recipe
        # A likelihood of samples that are all 0 does not exist: a generative model leaves them out instead.
        change: dict[str, Any] = (
            {"tmin": window.start, "tmax": window.stop} if recipe.family == "generative" else {"window": window.ends}
        )
        return recipe.model_copy(update={"signals": recipe.signals.model_copy(update=change)})

    def _trained(self, window: Window, recipe: Recipe, tick: Tick) -> Any:
        result, session = self.run.result, self.run.session
        directory = RunDirectory(self.folder / f"{window.start:g}..{window.stop:g}")
        job = Job(recipe, result.subject, result.split, result.seed)
        if directory.claim(job.config_hash(session)) == "new":
            reporter, session.reporter = session.reporter, _Inner(tick)
            try:
                freeze_job(session, job, directory)
            finally:
                session.reporter = reporter
            directory.path("epochs.safetensors").unlink(missing_ok=True)  # nothing here is chosen on test
        return load_aligner(directory.path(MODEL), device=session.device)


class _Inner(Silent):
    """The steps of one window are not announced by themselves; their ticks are dropped."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick


def signals_of(run: Reopened, images: str, recipe: Recipe) -> TestData:
    """Validation signals, or test signals; these open the test set, once a session."""
    result, session = run.result, run.session
    if images == "test":
        opened: TestData = session.test_data(result.subject, result.split, recipe)
        return opened
    return session.validation_data(result.subject, result.split, recipe.signals)


class Ridged:
    """Ridge maps of a run's signals, one a window: the cheap way, in closed form.

    Parameters
    ----------
    run : Reopened
    """

    def __init__(self, run: Reopened) -> None:
        self.run, self.times = run, times_of(run)
        self.decoder = RidgeDecoder(run)
        self._held: dict[str, tuple[torch.Tensor, TestData]] = {}

    def similarity(
        self, window: Window, images: str, tick: Tick, *, at: Window | None = None
    ) -> tuple[NDArray[np.float32], TestData]:
        """Similarities under the map of a window, of signals in that window or in another one as long.

        Parameters
        ----------
        at : Window, optional
            Where the signals are taken from (time generalisation).
        """
        if images not in self._held:
            data = signals_of(self.run, images, self.run.recipe)
            self._held[images] = self.decoder.transform(data.signals), data
        signals, data = self._held[images]
        samples = window_samples(self.times, window.ends)
        shown = samples if at is None else window_samples(self.times, at.ends)
        gallery = self.run.targets.of(data.gallery_ids)
        return self.decoder.similarity(samples, signals[:, :, shown[0] : shown[1]], gallery), data
