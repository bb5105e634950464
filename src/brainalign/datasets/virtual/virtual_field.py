"""What virtual EEG and MEG share: trials with a time course, made from the sources' fields at the sensors."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.virtual.brain import Sources, generator, subject_sources
from brainalign.datasets.virtual.config import Preset
from brainalign.datasets.virtual.head import Sensors, standard_head
from brainalign.datasets.virtual.noise import NoiseModel, noise_model
from brainalign.datasets.virtual.trials import VirtualTrials, virtual_trials
from brainalign.datasets.virtual.truth import expected_signals, planted
from brainalign.datasets.virtual.virtual_dataset import VirtualDataset
from brainalign.recordings import Recording

Array = NDArray[np.float64]


class VirtualField(VirtualDataset):
    """EEG or MEG of a virtual brain."""

    unit: ClassVar[str]
    sensor_noise: ClassVar[float]  # unit per square root of Hz
    kind: ClassVar[str] = ""  # keeps trials and sessions of different kinds of recording apart

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made: dict[str, tuple[VirtualTrials, Sources]] = {}

    @abc.abstractmethod
    def sensors(self, subject: str) -> Sensors:
        """All sensors around a subject's head."""

    @abc.abstractmethod
    def _picks(self) -> NDArray[np.intp]:
        """Recorded channels among all sensors."""

    @abc.abstractmethod
    def _positions(self, subject: str) -> Array:
        """Places of the recorded channels, (n_chans, 3), metres, head coordinates."""

    def _channels(self) -> pd.DataFrame | None:
        """Table of the recorded channels, where there is more to say than their names."""
        return None

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, made when they are read."""
        trials, _ = self._subject(self.require_subject(subject))
        table = field_table(self.size, self._render().ids)
        return Recording.from_arrays(
            trials,
            table["stimulus_id"].tolist(),
            modality=type(self).info.modality,
            subject=subject,
            ch_names=self.size.ch_names,
            sfreq=self.size.sfreq,
            tmin=self.size.tmin,
            unit=self.unit,
            ch_pos=self._positions(subject),
            channels=self._channels(),
            check_finite=False,
            session=table["session"].tolist(),
            run=table["run"].tolist(),
            repetition=table["repetition"].tolist(),
            part=table["part"].tolist(),
        )

    def responses(self, subject: str, stimulus_ids: Sequence[str]) -> NDArray[np.float32]:
        """What the mean over endless trials of each stimulus would be: no noise, no session gain.

        Returns
        -------
        array of shape (n, n_chans, n_times), float32

        Raises
        ------
        InputError
            If subject or stimulus are not this data set's.
        """
        trials, sources = self._subject(self.require_subject(subject))
        return expected_signals(trials, sources, self._image_rows(stimulus_ids))

    def truth(self, subject: str) -> dict[str, Any]:
        """What was planted in a subject; see `brainalign.datasets.virtual.truth.planted`.

        Returns
        -------
        dict
            Beside what `planted` returns: `ch_names`, `options` and, where the late pathway answers, `layers`: a
            list of `{backbone, layer, depth, pooling, n_sources}`.
        """
        trials, sources = self._subject(self.require_subject(subject))
        found = planted(trials, sources, self._drive[: self.size.n_train], self.unit.lower())
        found |= {"virtual": True, "ch_names": self.size.ch_names, "options": self.config.facts()}
        found["layers"] = self._planted_layers()
        return found

    def _subject(self, subject: str) -> tuple[VirtualTrials, Sources]:
        """Everything that makes a subject's trials."""
        if subject not in self._made:
            self._made[subject] = self._make(subject)
        return self._made[subject]

    def _make(self, subject: str) -> tuple[VirtualTrials, Sources]:
        size, head, number = self.size, standard_head(), int(subject) - 1
        sensors, picks = self.sensors(subject), self._picks()
        sources = subject_sources(self.config, head, picks, len(self.config.layers), number, sensors)
        table = field_table(size, self._render().ids)
        images, sessions = (table[name].to_numpy(dtype=np.intp) for name in ("image", "session"))
        noise = self._noise(sensors, picks, number)
        return (
            virtual_trials(self.config, sources, noise, self._drive, images, sessions - 1, number, self.kind),
            sources,
        )

    def _noise(self, sensors: Sensors, picks: NDArray[np.intp], number: int) -> NoiseModel:
        size, head = self.size, standard_head()
        return noise_model(
            head,
            picks,
            size.tmin + np.arange(size.n_times) / size.sfreq,
            size.sfreq,
            size.n_sessions,
            generator(self.config, "noise", number),
            sensors=None if sensors is head else sensors,
            sensor_noise=self.sensor_noise,
        )


def field_table(size: Preset, stimulus_ids: Sequence[str]) -> pd.DataFrame:
    """One row a trial: session by session, the session's training images once, then every test image.

    Parameters
    ----------
    stimulus_ids : sequence of str
        Training images, then test images.

    Returns
    -------
    pandas.DataFrame
        `image` (row of the stimulus), `stimulus_id`, `session` and `run` (from 1), `repetition` (from 1), `part`.
    """
    n_train, n_test, each = size.n_train, size.n_test, size.test_per_session
    images, sessions, repetitions = [], [], []
    for session in range(size.n_sessions):
        train = np.arange(n_train) if size.train_every_session else np.arange(session, n_train, size.n_sessions)
        images += [train, n_train + np.repeat(np.arange(n_test), each)]
        sessions.append(np.full(len(train) + n_test * each, session))
        repetitions += [np.full(len(train), session if size.train_every_session else 0)]
        repetitions += [session * each + np.tile(np.arange(each), n_test)]
    image = np.concatenate(images)
    return pd.DataFrame(
        {
            "image": image,
            "stimulus_id": np.array(stimulus_ids)[image],
            "session": np.concatenate(sessions) + 1,
            "run": 1,
            "repetition": np.concatenate(repetitions) + 1,
            "part": np.where(image >= n_train, "test", "train"),
        }
    )
