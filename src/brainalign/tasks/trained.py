"""A finished run opened for use: its model, features of any images as it takes them, its data if at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.families import load_aligner
from brainalign.cache import default_cache_dir
from brainalign.device import resolve_device
from brainalign.errors import InputError
from brainalign.evaluation.result import Result, read_result
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.weights import check_weights
from brainalign.features import extract_features
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.transforms import stimulus_transform

if TYPE_CHECKING:
    from brainalign.execution.session import Session

GENERATIVE = "generative"
BACKGROUND_MAX = 2000


@dataclass
class TrainedRun:
    """A run that `brainalign train` finished.

    Attributes
    ----------
    folder : Path
    result : Result
    aligner : ContrastiveAligner or GenerativeAligner
    cache_dir : Path
    device : str
    root : path, optional
        Where the run's data set lies.
    """

    folder: Path
    result: Result
    aligner: Any
    cache_dir: Path
    device: str = "cpu"
    root: Path | None = None
    reporter: Reporter = field(default_factory=Silent)
    _session: Session | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        root: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> TrainedRun:
        """Read the result and the model.

        Raises
        ------
        InputError
            If the folder holds no finished run, or one that has no model of its own (a stack).
        """
        place = Path(folder)
        result = read_result(place)
        if not (place / "model.safetensors").is_file():
            if place.resolve().parent.name == "sources":
                hint = f"give the foundation run two folders up, with --source {place.resolve().name}"
                raise InputError("is one source of a foundation run", where=place, hint=hint)
            raise InputError("holds no model", where=place, hint="give a run of `brainalign train`, not a stack")
        chosen = resolve_device(device)
        aligner = load_aligner(place / "model.safetensors", device=chosen)
        held = None if root is None else Path(root)
        return cls(place, result, aligner, default_cache_dir(cache), chosen, held, reporter or Silent())

    @property
    def generative(self) -> bool:
        """Whether the model predicts signals and knows probabilities."""
        return bool(self.aligner.recipe.family == GENERATIVE)

    @property
    def layers(self) -> str:
        """The features the run was aligned with, in words."""
        return f"{self.result.target.backbone} {self.result.target.words} ({self.result.target.pooling})"

    def features(self, stimuli: StimulusSet) -> NDArray[np.float32]:
        """Features of any images as the model takes them, (n_images, dim), in row order; from the cache where they are.

        Raises
        ------
        InputError
            If an image cannot be read or the backbone cannot be loaded.
        """
        target, wanted = self.aligner.recipe.target, self.aligner.facts["target"]
        several = len(target.backbones) > 1
        named = [name.partition(":")[::2] if several else ("1", name) for name in map(str, wanted["layers"])]
        bands: dict[int, NDArray[np.float32]] = {}
        for number, backbone in enumerate(target.backbones, start=1):
            own = [(place, layer) for place, (of, layer) in enumerate(named) if of == str(number)]
            found = self._extract(stimuli, backbone, [layer for _, layer in own])
            for place, layer in own:
                bands[place] = found[layer]
        return np.concatenate([bands[place] for place in sorted(bands)], axis=1)

    def _extract(self, stimuli: StimulusSet, backbone: str, layers: list[str]) -> dict[str, NDArray[np.float32]]:
        target = self.aligner.recipe.target
        with self.reporter.step(f"features of {len(stimuli)} images through {backbone}") as tick:
            banks = extract_features(
                stimuli,
                backbone,
                list(layers),
                [target.pooling],
                cache_dir=self.cache_dir,
                device=self.device,
                crop=target.crop,
                weights=target.weights,
                transform=stimulus_transform(target.transform),
                progress=tick,
            )
        any_bank, *_ = banks.values()
        check_weights(self.folder, {banks.backbone: str(any_bank.meta["weights_hash"])})
        return {layer: bank.rows(stimuli.image_ids) for (layer, _), bank in banks.items()}

    def judge(self, stimuli: StimulusSet, backbone: str | None = None) -> tuple[str, NDArray[np.float32]]:
        """Features that images are compared by when retrieved ones are scored: the output of a backbone.

        Parameters
        ----------
        backbone : str, optional
            The (first) one of the run where None.

        Returns
        -------
        tuple of str and array of shape (n_images, dim)
            What it is called, and its features.
        """
        name = backbone or self.aligner.recipe.target.backbones[0]
        weights = self.aligner.recipe.target.weights if backbone is None else "pretrained"
        with self.reporter.step(f"output of {name}, to compare images by") as tick:
            banks = extract_features(
                stimuli,
                name,
                ["final"],
                ["final"],
                cache_dir=self.cache_dir,
                device=self.device,
                weights=weights,
                progress=tick,
            )
        return f"{name}, final output", next(iter(banks.values())).rows(stimuli.image_ids)

    @property
    def session(self) -> Session:
        """The run's data set, opened again and checked to be the same.

        Raises
        ------
        InputError
            If it is not at hand, or holds other images or trials than the run saw.
        """
        if self._session is None:
            self._session = self._open_session()
        return self._session

    def _open_session(self) -> Session:
        from brainalign.execution.reopen import reopen_dataset
        from brainalign.execution.session import Session

        result = self.result
        dataset = reopen_dataset(result.dataset, self.root, self.cache_dir)
        dataset.require_subject(result.subject)
        leaks = frozenset(finding.code for finding in result.lint if finding.severity == "leak")
        session = Session(dataset, self.cache_dir, self.device, result.protocol, self.reporter, leaks)
        if session.split(result.subject, result.split).fingerprint != result.split_fingerprint:
            text = "the data set's split is not the one the run was trained on"
            raise InputError(text, where=self.folder, hint="give --root of the data as they were")
        return session

    def stimuli(self, part: str) -> StimulusSet:
        """Images of a part of the run's split: 'train', 'validation' or 'test'.

        Raises
        ------
        InputError
            If the data set is not at hand.
        """
        split = self.session.split(self.result.subject, self.result.split)
        return self.session.stimuli(self.result.subject).select(getattr(split, part))

    def background(self) -> NDArray[np.float32] | None:
        """Features of training images (at most 2,000, evenly spaced), of a generative run; None of others.

        Raises
        ------
        InputError
            If the data set is not at hand.
        """
        if not self.generative:
            return None
        stimuli = self.stimuli("train")
        return self.features(stimuli)[:: -(-len(stimuli) // BACKGROUND_MAX)]

    def recorded(self, part: str) -> Recorded:
        """Recorded signals of a part, repetitions averaged, channels and samples as the model takes them.

        Opening 'test' reads the test set once more: every choice of the run was frozen before.

        Raises
        ------
        InputError
            If the data set is not at hand.
        """
        from brainalign.recordings.selection import select_signals

        session, settings = self.session, self.aligner.recipe.signals
        where = (self.result.subject, self.result.split)
        if part == "test":
            data = session.test_data(*where, self.aligner.recipe)
            return Recorded(data.signals, data.query_ids, tuple(data.counts))
        recording = session.recording(self.result.subject)
        names = [name for name in getattr(session.split(*where), part) if name in recording.index]
        if not names:
            raise InputError(f"the tested subject has no signal of a {part} image", where=self.folder)
        selected = select_signals(recording.restrict(names), settings)
        counts = tuple(int(n) for n in selected.repetitions(names))
        return Recorded(selected.average(names), tuple(names), counts)


@dataclass(frozen=True)
class Recorded:
    """Averaged signals and what they showed.

    Attributes
    ----------
    signals : array of shape (n, n_chans, n_times)
    stimulus_ids : tuple of str
    counts : tuple of int
        Repetitions averaged in each.
    """

    signals: NDArray[np.float32]
    stimulus_ids: tuple[str, ...]
    counts: tuple[int, ...]
