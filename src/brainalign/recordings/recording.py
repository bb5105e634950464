"""One subject's trials in one modality."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainalign.errors import InputError
from brainalign.recordings.mne_epochs import scaled
from brainalign.recordings.rows import CHUNK_BYTES, Rows, SignalSource, blocks
from brainalign.recordings.trials import check_shape, trial_table

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True, eq=False)
class Recording:
    """Trials of one subject, one modality; `fmri` and `spikes` have one sample a trial.

    Use `Recording.from_arrays` or `Recording.from_epochs` to build one: they check what they are given.

    Attributes
    ----------
    signals : SignalSource
        (n_trials, n_all_chans, n_all_times); read through `read`, which applies the channel and time selection.
    trials : pandas.DataFrame
        One row a trial: `stimulus_id`, `session`, `run`, `repetition`, `part` ('train', 'test' or ''), `n_averaged`
        (how many repetitions the stored row is already a mean of; 1 for single trials).
    ch_names : tuple of str
    sfreq : float or None
        Samples a second; None where there is no time axis.
    tmin : float
        Time of the first sample, seconds from stimulus onset.
    unit : str
        For example 'uV', 'fT', 'spikes/bin', 'whitened'.
    ch_pos : array of shape (n_chans, 3), optional
        Metres, head coordinates.
    channels : pandas.DataFrame, optional
        One row a channel: region, noise ceiling, ...

    Examples
    --------
    >>> Recording.from_arrays(np.ones((4, 2, 5)), ["a", "b", "a", "b"], modality="eeg", sfreq=100.0)
    Recording(eeg, subject 1, 4 trials x 2 channels x 5 samples, 100 Hz)
    """

    subject: str
    modality: str
    signals: SignalSource
    trials: pd.DataFrame
    ch_names: tuple[str, ...]
    sfreq: float | None = None
    tmin: float = 0.0
    unit: str = ""
    ch_pos: NDArray[np.float64] | None = None
    channels: pd.DataFrame | None = None
    _picks: NDArray[np.intp] | None = field(default=None, repr=False)
    _times: slice = field(default_factory=lambda: slice(None), repr=False)

    @classmethod
    def from_arrays(
        cls,
        signals: ArrayLike | SignalSource,
        stimulus_ids: Sequence[str],
        *,
        modality: str,
        subject: str = "1",
        ch_names: Sequence[str] | None = None,
        sfreq: float | None = None,
        tmin: float = 0.0,
        unit: str = "",
        ch_pos: ArrayLike | None = None,
        channels: pd.DataFrame | None = None,
        check_finite: bool = True,
        **trial_columns: Sequence[Any],
    ) -> Recording:
        """Build a recording from an array and the name of the image each trial showed.

        Parameters
        ----------
        signals : array of shape (n_trials, n_chans, n_times) or (n_trials, n_chans)
            Kept as it is (a memory map stays one); rows are read as float32.
        stimulus_ids : sequence of n_trials str
        modality : {'eeg', 'meg', 'ieeg', 'fmri', 'spikes'}
        sfreq : float, optional
            Hz. Required where n_times > 1.
        tmin : float
            Seconds from stimulus onset to the first sample.
        check_finite : bool
            Read all trials once and refuse NaN and infinity.
        **trial_columns : sequences of n_trials values
            `session`, `run`, `repetition`, `part`, `n_averaged`. A missing `repetition` is counted per stimulus.

        Raises
        ------
        InputError
            If shapes, names, the sampling rate or a value do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> r = Recording.from_arrays(np.ones((4, 2, 5)), ["a", "b", "a", "b"], modality="eeg", sfreq=100.0)
        >>> r.n_chans, r.n_times, r.repetitions(["a"]).tolist()
        (2, 5, [2])
        """
        source: Any = signals if hasattr(signals, "shape") and hasattr(signals, "__getitem__") else np.asarray(signals)
        if len(source.shape) == 2 and isinstance(source, np.ndarray):
            source = source[:, :, None]
        check_shape(source, len(stimulus_ids), modality, sfreq)
        n_chans = source.shape[1]
        names = tuple(map(str, ch_names)) if ch_names is not None else tuple(f"ch{i:03d}" for i in range(n_chans))
        if len(names) != n_chans or len(set(names)) != len(names):
            raise InputError(f"{len(names)} channel names ({len(set(names))} distinct) for {n_chans} channels")
        positions = None if ch_pos is None else np.asarray(ch_pos, dtype=np.float64)
        if positions is not None and positions.shape != (n_chans, 3):
            raise InputError(
                f"ch_pos has shape {positions.shape}, expected ({n_chans}, 3)", hint="give x, y, z in metres"
            )
        if channels is not None and len(channels) != n_chans:
            raise InputError(f"the channel table has {len(channels)} rows for {n_chans} channels")
        trials = trial_table(stimulus_ids, trial_columns)
        recording = cls(subject, modality, source, trials, names, sfreq, tmin, unit, positions, channels)
        if check_finite:
            recording.check_finite()
        return recording

    @classmethod
    def from_epochs(
        cls, epochs: mne.BaseEpochs, stimulus_ids: Sequence[str], *, subject: str = "1", **trial_columns: Sequence[Any]
    ) -> Recording:
        """Build a recording from `mne.Epochs`: EEG in microvolts, MEG in femtotesla, positions from the montage.

        Parameters
        ----------
        epochs : mne.BaseEpochs
            Bad channels are left out; of the others MEG is taken where there is any, else EEG. Epochs that are not
            preloaded are read in blocks, so that only float32 is held.
        stimulus_ids : sequence of str
            The image of each epoch, in the order of `epochs` after dropping.

        Raises
        ------
        InputError
            If there is neither an EEG nor an MEG channel.
        """
        import mne

        kinds = set(epochs.get_channel_types())
        if not kinds & {"eeg", "mag", "grad"}:
            raise InputError(f"epochs hold no EEG or MEG channel, only {sorted(kinds)}")
        modality = "meg" if kinds & {"mag", "grad"} else "eeg"
        picks = mne.pick_types(epochs.info, meg=modality == "meg", eeg=modality == "eeg", exclude="bads")
        scale, unit = (1e15, "fT") if modality == "meg" else (1e6, "uV")
        data = scaled(epochs, picks, scale)
        positions = np.array([epochs.info["chs"][p]["loc"][:3] for p in picks], dtype=np.float64)
        known = bool(np.isfinite(positions).all() and np.abs(positions).max(initial=0) > 0)
        return cls.from_arrays(
            data,
            stimulus_ids,
            modality=modality,
            subject=subject,
            ch_names=[epochs.ch_names[p] for p in picks],
            sfreq=float(epochs.info["sfreq"]),
            tmin=float(epochs.tmin),
            unit=unit,
            ch_pos=positions if known else None,
            **trial_columns,  # type: ignore[arg-type]
        )

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        shape = f"{len(self)} trials x {self.n_chans} channels x {self.n_times} samples"
        rate = f", {self.sfreq:g} Hz" if self.sfreq is not None else ""
        return f"Recording({self.modality}, subject {self.subject}, {shape}{rate})"

    @property
    def n_chans(self) -> int:
        """Number of channels (electrodes, sensors, voxels or neurons)."""
        return len(self.ch_names)

    @property
    def n_times(self) -> int:
        """Number of samples a trial."""
        return len(range(*self._times.indices(self.signals.shape[2])))

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from stimulus onset of each sample, (n_times,)."""
        return self.tmin + np.arange(self.n_times) / (self.sfreq or 1.0)

    @functools.cached_property
    def index(self) -> dict[str, NDArray[np.intp]]:
        """From stimulus id to the rows of its trials, in the order of `repetition`, then of the table."""
        order = np.argsort(self.trials["repetition"].to_numpy(), kind="stable")
        codes, names = pd.factorize(self.trials["stimulus_id"].to_numpy()[order])
        grouped = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[grouped], np.arange(len(names) + 1))
        return {str(n): order[grouped[starts[i] : starts[i + 1]]] for i, n in enumerate(names)}

    def trials_of(self, stimulus_id: str) -> NDArray[np.intp]:
        """Rows that showed a stimulus.

        Raises
        ------
        InputError
            If the subject never saw it.
        """
        try:
            return self.index[stimulus_id]
        except KeyError:
            raise InputError(f"subject {self.subject} has no trial of stimulus '{stimulus_id}'") from None

    def repetitions(self, stimulus_ids: Iterable[str]) -> NDArray[np.int64]:
        """How many repetitions there are of each stimulus, stored means counted in full; (n_stimuli,)."""
        counts = self.trials["n_averaged"].to_numpy(dtype=np.int64)
        return np.array([counts[self.trials_of(name)].sum() for name in stimulus_ids], dtype=np.int64)

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Trials as float32, (len(rows), n_chans, n_times), channels and times selected."""
        block = np.asarray(self.signals[np.asarray(rows, dtype=np.intp)])
        if block.ndim == 2:
            block = block[:, :, None]
        block = block[:, :, self._times]
        return np.ascontiguousarray(block if self._picks is None else block[:, self._picks], dtype=np.float32)

    def average(
        self,
        stimulus_ids: Sequence[str],
        *,
        repetitions: int | None = None,
        seed: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Mean over repetitions, computed in float64 in blocks of bounded memory.

        Parameters
        ----------
        stimulus_ids : sequence of n str
        repetitions : int, optional
            Repetitions to average (all by default); see `pick_trials`.

        Returns
        -------
        array of shape (n, n_chans, n_times), float32

        Raises
        ------
        InputError
            As `trials_of` and `pick_trials` do.
        """
        if repetitions is None:
            groups = [self.trials_of(name) for name in stimulus_ids]
        else:
            groups = [self.pick_trials(name, repetitions, seed=seed) for name in stimulus_ids]
        weights = self.trials["n_averaged"].to_numpy(dtype=np.float64)
        result = np.empty((len(groups), self.n_chans, self.n_times), dtype=np.float32)
        for start, stop in blocks(groups, self._row_bytes()):
            rows = np.concatenate(groups[start:stop])
            block = self.read(rows)
            at = 0
            for target in range(start, stop):
                n = len(groups[target])
                share = weights[rows[at : at + n]]
                result[target] = np.einsum("r,rct->ct", share / share.sum(), block[at : at + n], dtype=np.float64)
                at += n
            if progress is not None:
                progress(stop, len(groups))
        return result

    def collapse(self, stimulus_ids: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> Recording:
        """One row a stimulus, held in memory: the mean over its repetitions, which the row says it holds."""
        return replace(
            self,
            signals=self.average(stimulus_ids, progress=progress),
            trials=trial_table(stimulus_ids, {"n_averaged": self.repetitions(stimulus_ids).tolist()}),
            _picks=None,
            _times=slice(None),
        )

    def pick_trials(self, stimulus_id: str, repetitions: int, *, seed: int | None = None) -> NDArray[np.intp]:
        """Rows of a stimulus that together hold so many repetitions: the first ones, or, with `seed`, random ones.

        A stored mean counts for all that it holds; one that holds too many is passed over.

        Raises
        ------
        InputError
            If the stimulus has fewer repetitions, or its stored means, in this order, do not add up to so many.
        """
        rows = self.trials_of(stimulus_id)
        held = self.trials["n_averaged"].to_numpy(dtype=np.int64)[rows]
        if not 1 <= repetitions <= held.sum():
            raise InputError(f"{repetitions} repetitions asked for, stimulus '{stimulus_id}' has {held.sum()}")
        order = np.arange(len(rows))
        if seed is not None:
            generator = np.random.default_rng([seed, *stimulus_id.encode()])
            first = generator.choice(order, min(repetitions, len(rows)), replace=False)
            order = np.concatenate([first, np.setdiff1d(order, first)])
        taken, left = [], repetitions
        for place in order:
            if held[place] <= left:
                taken.append(place)
                left -= held[place]
        if left:
            holds = ", ".join(map(str, sorted(set(held.tolist()))))
            problem = f"{repetitions} repetitions asked for, stimulus '{stimulus_id}' has averages of {holds}"
            raise InputError(problem, hint="give null, or data with single trials")
        return rows[taken] if seed is None else np.sort(rows[taken])

    def _row_bytes(self) -> int:
        return 4 * int(np.prod(self.signals.shape[1:]))

    def check_finite(self) -> None:
        """Read every trial once.

        Raises
        ------
        InputError
            If a trial holds NaN or infinity; names the trial and the channel.
        """
        step = max(1, CHUNK_BYTES // max(1, self._row_bytes()))
        for start in range(0, len(self), step):
            block = self.read(np.arange(start, min(start + step, len(self))))
            if not np.isfinite(block).all():
                trial, channel, _ = np.argwhere(~np.isfinite(block))[0]
                name = self.ch_names[channel]
                raise InputError(
                    f"signals hold NaN or infinity, first in trial {start + trial}, channel '{name}'",
                    where=f"subject {self.subject}",
                    hint="interpolate or drop it",
                )

    def restrict(self, stimulus_ids: Iterable[str]) -> Recording:
        """Only the trials of some stimuli: the rest cannot be reached through the result."""
        keep = np.sort(np.concatenate([self.trials_of(n) for n in stimulus_ids] or [np.empty(0, np.intp)]))
        return self._take(keep)

    def part(self, name: str) -> Recording:
        """Only the trials of one part ('train' or 'test')."""
        return self._take(np.flatnonzero(self.trials["part"].to_numpy() == name))

    def _take(self, keep: NDArray[np.intp]) -> Recording:
        return replace(self, signals=Rows(self.signals, keep), trials=self.trials.iloc[keep].reset_index(drop=True))

    def pick(self, names: Sequence[str]) -> Recording:
        """Only some channels, by name, in the order given.

        Raises
        ------
        InputError
            If a name is not a channel of this recording.
        """
        where = {name: i for i, name in enumerate(self.ch_names)}
        missing = [name for name in names if name not in where]
        if missing or not names:
            known = ", ".join(self.ch_names[:12])
            raise InputError(
                f"no channel '{missing[0]}'" if missing else "no channel asked for", hint=f"there are {known} ..."
            )
        local = np.array([where[name] for name in names], dtype=np.intp)
        return replace(
            self,
            ch_names=tuple(names),
            ch_pos=None if self.ch_pos is None else self.ch_pos[local],
            channels=None if self.channels is None else self.channels.iloc[local].reset_index(drop=True),
            _picks=local if self._picks is None else self._picks[local],
        )

    def crop(self, tmin: float | None, tmax: float | None) -> Recording:
        """Only samples with tmin <= t < tmax, seconds from stimulus onset (0 to 1 s at 250 Hz is 250 samples).

        Raises
        ------
        InputError
            If the recording has no time axis or the window holds no sample.
        """
        if self.sfreq is None:
            raise InputError(f"{self.modality} of subject {self.subject} has no time axis", hint="leave the window out")
        times = self.times
        slack = 1e-6 / self.sfreq
        inside = np.flatnonzero((times >= (tmin if tmin is not None else times[0]) - slack)
                                & (times < (tmax if tmax is not None else np.inf) - slack))  # fmt: skip
        if not len(inside):
            raise InputError(
                f"no sample between {tmin} and {tmax} s", hint=f"the trials span {times[0]:g} to {times[-1]:g} s"
            )
        first = self._times.indices(self.signals.shape[2])[0]
        window = slice(first + int(inside[0]), first + int(inside[-1]) + 1)
        return replace(self, tmin=float(times[inside[0]]), _times=window)
