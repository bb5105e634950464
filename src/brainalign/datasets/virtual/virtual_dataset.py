"""What all virtual data sets share: the pictures, the planted network, and what drives the sources of the brains."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.base import Dataset, Finding
from brainalign.datasets.virtual.brain import (
    EARLY,
    LATE,
    concept_codes,
    drives,
    drives_by_cell,
    generator,
    saturate,
    source_layers,
)
from brainalign.datasets.virtual.config import (
    Preset,
    VirtualBrainConfig,
    VoxelPreset,
    options_for_name,
    options_in_name,
)
from brainalign.datasets.virtual.early import early_cells, early_features
from brainalign.datasets.virtual.pictures import (
    Progress,
    picture_folder,
    renderer_version,
    shown_scenes,
    write_pictures,
)
from brainalign.errors import InputError, unknown_name
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.features import FeatureSet

Array = NDArray[np.float64]

LATE_POOLING = "grid4"


class VirtualDataset(Dataset):
    """Recordings computed from a model of the brain whose every parameter is known.

    Subject number n has the same brain in every virtual data set of the same options: the same sources at the same
    places, driven by the same pictures in the same way.

    Parameters
    ----------
    root : path-like, optional
        Not used: everything is made here.
    preset : {'small', 'full'}, optional
        'small' by default; options may follow it, as in `name`.
    cache_dir : path-like, optional
        Where pictures and features are kept; the user's cache folder by default.
    **options
        Fields of `VirtualBrainConfig`.

    Raises
    ------
    InputError
        If the preset or an option is unknown, or a value out of range.
    """

    sizes: ClassVar[Mapping[str, Preset | VoxelPreset]]
    model_version: ClassVar[int]  # raised when the same options give other signals
    unused_options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        preset: str | None = None,
        cache_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        size, named = options_in_name(preset or "")
        super().__init__(root, preset=size or "small")
        self.size: Any = self.sizes[size or "small"]
        self.config = VirtualBrainConfig.from_options(type(self).info.name, self.unused_options, **{**named, **options})
        self._cache_dir = cache_dir
        self._pictures: StimulusSet | None = None
        self._banks: FeatureSet | None = None
        if self.config.same_network:
            title = f"{type(self).info.title}; planted in the decoding target itself"
            self.__dict__["info"] = replace(type(self).info, title=title)

    @property
    def name(self) -> str:
        """Registry name, preset, and the options that are not the default ones: what opens the same data again.

        Such as `virtual-eeg:small:pathways=late:noise=2`.
        """
        return super().name + "".join(f":{word}" for word in options_for_name(self.config))

    @property
    def subjects(self) -> tuple[str, ...]:
        """'1' and so on."""
        found: tuple[str, ...] = self.size.subjects
        return found

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

    def stimuli(self, subject: str) -> StimulusSet:
        """The pictures, the same for every subject: `virtual/c017_03` is picture 3 of concept 17."""
        self.require_subject(subject)
        return self._render()

    def check(self) -> list[Finding]:
        """Whether the pictures are rendered."""
        folder = picture_folder(self.size, self.cache_dir)
        total = len(shown_scenes(self.size))
        there = sum(1 for _ in folder.glob("c*.png")) if folder.is_dir() else 0
        note = "" if there == total else "; the rest is rendered when first needed"
        return [
            Finding(True, self.name, "VIRTUAL: computed from a model, not measured"),
            Finding(True, str(folder), f"{there} of {total} pictures{note}"),
        ]

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """Name and every option that changes the data; all subjects follow from them."""
        return {
            "name": self.name,
            "virtual": True,
            "model_version": self.model_version,
            "renderer": renderer_version(),
            **{name: value for name, value in self.config.facts().items() if name not in self.unused_options},
        }

    def drive(self, stimulus_ids: Sequence[str]) -> Array:
        """What drives each source: the one truth behind all modalities, the same for all subjects.

        Returns
        -------
        array of shape (n, n_sources)
            The 24 early sources, then the 96 late ones; mean 0 and variance 1 over the training images, 0 where a
            pathway does not answer.

        Raises
        ------
        InputError
            If a stimulus is not one of this data set's.
        """
        return np.asarray(self._drive[self._image_rows(stimulus_ids)])

    def _image_rows(self, stimulus_ids: Sequence[str]) -> NDArray[np.intp]:
        row = {name: at for at, name in enumerate(self._render().ids)}
        for name in stimulus_ids:
            if name not in row:
                raise unknown_name(f"stimulus of {self.name}", name, row)
        return np.array([row[name] for name in stimulus_ids], dtype=np.intp)

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

    def _planted_layers(self) -> list[dict[str, Any]]:
        if not self.config.has_late:
            return []
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
        training = np.arange(self.size.n_train)
        drive = np.zeros((len(self._render()), EARLY.n_sources + LATE.n_sources))
        if self.config.has_early:
            mixed = drives(self._early_features, training, EARLY.n_sources, generator(self.config, "early drive"))
            drive[:, : EARLY.n_sources] = saturate(mixed, self.config.saturation, training)
        if self.config.has_late:
            drive[:, EARLY.n_sources :] = saturate(self._late_drive(training), self.config.saturation, training)
        return drive

    @functools.cached_property
    def _early_features(self) -> NDArray[np.float32]:
        stimuli = self._render()
        return early_features(np.stack([np.asarray(stimuli.image(row)) for row in range(len(stimuli))]))

    def _early_cell_drive(self) -> Array:
        """What each cell of the picture adds to each early source before saturation, (n_images, n_sources, n_cells)."""
        rng, training = generator(self.config, "early drive"), np.arange(self.size.n_train)
        return drives_by_cell(self._early_features, training, EARLY.n_sources, rng, early_cells())

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
