"""`virtual-eeg`: EEG of virtual subjects that look at rendered pictures."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.virtual.brain import (
    EARLY,
    LATE,
    Sources,
    concept_codes,
    drives,
    generator,
    saturate,
    source_layers,
    subject_sources,
)
from brainalign.datasets.virtual.config import PRESETS, VirtualBrainConfig
from brainalign.datasets.virtual.early import early_features
from brainalign.datasets.virtual.head import pick_channels, standard_head
from brainalign.datasets.virtual.noise import noise_model
from brainalign.datasets.virtual.pictures import (
    Progress,
    picture_folder,
    renderer_version,
    shown_scenes,
    write_pictures,
)
from brainalign.datasets.virtual.trials import VirtualTrials, virtual_trials
from brainalign.datasets.virtual.truth import planted
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.features import FeatureSet

Array = NDArray[np.float64]

MODEL_VERSION = 1  # raised when the same options give other signals
LATE_POOLING = "grid4"


class VirtualEEG(Dataset):
    """EEG computed from a model of the brain whose every parameter is known.

    Parameters
    ----------
    root : path-like, optional
        Not used: everything is made here.
    preset : {'small', 'full'}, optional
        'small' by default.
    cache_dir : path-like, optional
        Where pictures and features are kept; the user's cache folder by default.
    **options
        Fields of `VirtualBrainConfig`.

    Raises
    ------
    InputError
        If the preset or an option is unknown, or a value out of range.
    """

    info = DatasetInfo(
        name="virtual-eeg",
        title="VIRTUAL EEG: computed from a model of the brain, not measured",
        modality="eeg",
        subjects=PRESETS["small"].subjects,
        protocol="virtual-eeg/intra/v1",
        licence="same as this library",
        citation="computed by brainalign; the model is written down in docs/virtual-brain.md",
        size="made on demand; about 30 MB of pictures and features (small)",
        layout="no files; presets small (default) and full",
        virtual=True,
    )
    presets = tuple(PRESETS)

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        preset: str | None = None,
        cache_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, preset=preset or "small")
        self.size = PRESETS[preset or "small"]
        self.config = VirtualBrainConfig.from_options(**options)
        self._cache_dir = cache_dir
        self._pictures: StimulusSet | None = None
        self._banks: FeatureSet | None = None
        self._made: dict[str, tuple[VirtualTrials, Sources]] = {}
        if self.config.same_network:
            title = f"{type(self).info.title}; planted in the decoding target itself"
            self.__dict__["info"] = replace(type(self).info, title=title)

    @property
    def name(self) -> str:
        """Registry name and preset; says so where the decoding target itself is planted."""
        return super().name + ("[same-network]" if self.config.same_network else "")

    @property
    def subjects(self) -> tuple[str, ...]:
        """'1' and so on."""
        return self.size.subjects

    @functools.cached_property
    def cache_dir(self) -> Path:
        """Where pictures and features are kept."""
        from brainalign.cache import default_cache_dir

        return default_cache_dir(self._cache_dir)

    def prepare(self, progress: Progress | None = None) -> None:
        """Do the two long steps ahead: render the pictures, compute the planted features. Nothing, if they are there.

        Parameters
        ----------
        progress : callable, optional
            Called with (done, total).
        """
        self._render(progress)
        if self.config.has_late:
            self._extract(progress)

    def _render(self, progress: Progress | None = None) -> StimulusSet:
        if self._pictures is None:
            self._pictures = write_pictures(self.size, self.cache_dir, progress)
        return self._pictures

    def _extract(self, progress: Progress | None = None) -> FeatureSet:
        """Features of the planted layers, always on the CPU so that all machines plant the same."""
        if self._banks is None:
            from brainalign.features import extract_features

            layers: list[Any] = list(self.config.layers)
            self._banks = extract_features(
                self._render(),
                self.config.backbone,
                layers,
                [LATE_POOLING],
                cache_dir=self.cache_dir,
                progress=progress,
            )
            if len(self._banks) != len(layers):
                raise InputError(f"late_layer '{','.join(layers)}' names a layer twice", where=self.config.backbone)
        return self._banks

    def stimuli(self, subject: str) -> StimulusSet:
        """The pictures, the same for every subject: `virtual/c017_03` is picture 3 of concept 17."""
        self.require_subject(subject)
        return self._render()

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, made when they are read."""
        trials, _ = self._subject(self.require_subject(subject))
        table = self._trial_table()
        positions = standard_head().positions[pick_channels(self.size.ch_names)]
        return Recording.from_arrays(
            trials,
            table["stimulus_id"].tolist(),
            modality="eeg",
            subject=subject,
            ch_names=self.size.ch_names,
            sfreq=self.size.sfreq,
            tmin=self.size.tmin,
            unit="uV",
            ch_pos=positions,
            check_finite=False,
            session=table["session"].tolist(),
            run=table["run"].tolist(),
            repetition=table["repetition"].tolist(),
            part=table["part"].tolist(),
        )

    def check(self) -> list[Finding]:
        """Whether the pictures are rendered, and one trial of every subject."""
        folder = picture_folder(self.size, self.cache_dir)
        total = len(shown_scenes(self.size))
        there = sum(1 for _ in folder.glob("c*.png")) if folder.is_dir() else 0
        note = "" if there == total else "; the rest is rendered when first needed"
        return [
            Finding(True, self.name, "VIRTUAL: computed from a model, not measured"),
            Finding(True, str(folder), f"{there} of {total} pictures{note}"),
        ]

    def facts(self) -> dict[str, Any]:
        """Name and every option that changes the data."""
        return {
            "name": self.name,
            "virtual": True,
            "model_version": MODEL_VERSION,
            "renderer": renderer_version(),
            **self.config.facts(),
        }

    def truth(self, subject: str) -> dict[str, Any]:
        """What was planted in a subject; see `brainalign.datasets.virtual.truth.planted`.

        Returns
        -------
        dict
            Beside what `planted` returns: `ch_names`, `options` and, where the late pathway answers, `layers`: a
            list of `{backbone, layer, depth, pooling, n_sources}`.
        """
        trials, sources = self._subject(self.require_subject(subject))
        found = planted(trials, sources, self._drive[: self._n_train])
        found |= {"virtual": True, "ch_names": self.size.ch_names, "options": self.config.facts()}
        found["layers"] = self._planted_layers() if self.config.has_late else []
        return found

    @property
    def _n_train(self) -> int:
        return self.size.n_concepts * self.size.n_exemplars

    def _trial_table(self) -> pd.DataFrame:
        """One row a trial: session by session, every training image once, then every test image 20 times."""
        n_train, n_test, each = self._n_train, self.size.n_test, self.size.test_per_session
        shown = np.concatenate([np.arange(n_train), n_train + np.repeat(np.arange(n_test), each)])
        within = np.concatenate([np.zeros(n_train, dtype=int), np.tile(np.arange(each), n_test)])
        session = np.repeat(np.arange(self.size.n_sessions), len(shown))
        image = np.tile(shown, self.size.n_sessions)
        test = image >= n_train
        return pd.DataFrame(
            {
                "image": image,
                "stimulus_id": np.array(self._render().ids)[image],
                "session": session + 1,
                "run": 1,
                "repetition": np.where(test, session * each + np.tile(within, self.size.n_sessions), session) + 1,
                "part": np.where(test, "test", "train"),
            }
        )

    def _planted_layers(self) -> list[dict[str, Any]]:
        banks = self._extract()
        dealt = np.bincount(source_layers(LATE.n_sources, len(banks)))
        return [
            {
                "backbone": self.config.backbone,
                "layer": layer,
                "depth": float(banks.depth(layer)),
                "pooling": pooling,
                "n_sources": int(n),
            }
            for (layer, pooling), n in zip(banks, dealt, strict=True)
        ]

    @functools.cached_property
    def _drive(self) -> Array:
        """What drives each source, (n_images, n_sources); the same for all subjects."""
        training = np.arange(self._n_train)
        stimuli = self._render()
        drive = np.zeros((len(stimuli), EARLY.n_sources + LATE.n_sources))
        if self.config.has_early:
            images = np.stack([np.asarray(stimuli.image(row)) for row in range(len(stimuli))])
            mixed = drives(early_features(images), training, EARLY.n_sources, generator(self.config, "early drive"))
            drive[:, : EARLY.n_sources] = saturate(mixed, self.config.saturation, training)
        if self.config.has_late:
            drive[:, EARLY.n_sources :] = saturate(self._late_drive(training), self.config.saturation, training)
        return drive

    def _late_drive(self, training: NDArray[np.intp]) -> Array:
        """Each source takes its layer's features and, in part, a code of the concept."""
        stimuli, banks, share = self._render(), self._extract(), self.config.concept_share
        table = stimuli.table
        mixed = np.empty((len(table), LATE.n_sources))
        dealt = source_layers(LATE.n_sources, len(banks))
        for at, bank in enumerate(banks.values()):
            rng = generator(self.config, "late drive", at)
            features = bank.rows(stimuli.image_ids)
            mixed[:, dealt == at] = drives(features, training, int((dealt == at).sum()), rng)
        codes = concept_codes(table["concept"].tolist(), table["category"].tolist(), LATE.n_sources, self.config)
        return np.asarray(np.sqrt(1 - share) * mixed + np.sqrt(share) * codes)

    def _subject(self, subject: str) -> tuple[VirtualTrials, Sources]:
        """Everything that makes a subject's trials."""
        if subject not in self._made:
            self._made[subject] = self._make(int(subject) - 1)
        return self._made[subject]

    def _make(self, number: int) -> tuple[VirtualTrials, Sources]:
        size, head = self.size, standard_head()
        picks = pick_channels(size.ch_names)
        times = size.tmin + np.arange(size.n_times) / size.sfreq
        sources = subject_sources(self.config, head, picks, len(self.config.layers), number)
        noise = noise_model(head, picks, times, size.sfreq, size.n_sessions, generator(self.config, "noise", number))
        table = self._trial_table()
        images, sessions = (table[name].to_numpy(dtype=np.intp) for name in ("image", "session"))
        return virtual_trials(self.config, sources, noise, self._drive, images, sessions - 1, number), sources
