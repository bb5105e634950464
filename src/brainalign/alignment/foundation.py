"""One space for several people and several kinds of measurement, anchored in frozen image features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.foundation_model import FoundationModel, SourceShape
from brainalign.alignment.foundation_training import Joint, Source, train_joint
from brainalign.alignment.preparation import Preparation
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress, State, epoch_seed
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.errors import InputError, unknown_name
from brainalign.protocols import Split
from brainalign.protocols.held_out import check_held_out
from brainalign.recipes.recipe import Recipe, SignalSettings
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

SCHEMA = "brainalign.foundation/1"
EMBED_ROWS = 4096


class FoundationAligner:
    """A layer a subject, an encoder a modality, one image projector (Ferrante et al. 2024, arXiv 2411.09723).

    Parameters
    ----------
    recipe : Recipe
        With one layer and one pooling.
    seed : int
    device : str

    Examples
    --------
    >>> from brainalign.alignment import Targets
    >>> from brainalign.recipes import load_recipe
    >>> ids = [f"image{i:02d}" for i in range(30)]
    >>> x = np.random.default_rng(0).normal(size=(30, 6))
    >>> people = {n: Recording.from_arrays(x[:, :w], ids, modality="fmri", subject=n) for n, w in (("a", 5), ("b", 6))}
    >>> split = Split("own/intra/v1", 0, tuple(ids[:20]), tuple(ids[20:25]), tuple(ids[25:]), "image-disjoint")
    >>> recipe = load_recipe("foundation", modality="fmri", overrides=["training.epochs=2"])
    >>> targets = Targets(x, {name: row for row, name in enumerate(ids)})
    >>> aligner = FoundationAligner(recipe.with_target(layer=0, pooling="mean"))
    >>> _ = aligner.fit_sources(people, {"image": targets}, {"a": split, "b": split})
    >>> aligner.similarity(x[25:, :5, None], {"image": x[25:]}, source="a").shape
    (5, 5)
    """

    has_epochs = True

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed = recipe, seed
        self.device = torch.device(device)
        self.model: FoundationModel | None = None
        self.signal_transforms: dict[str, SignalTransform] = {}
        self.target_transform: BandTransform | None = None
        self.facts: dict[str, Any] = {}

    def fit(self, recordings: Sequence[Recording], features: Mapping[str, AnyTargets], split: Split, **how: Any) -> Fit:
        """Train on recordings that share a split; sources are named by their subjects. See `fit_sources`.

        Raises
        ------
        InputError
            If two recordings are of one subject.
        """
        people = {recording.subject: recording for recording in recordings}
        if len(people) < len(recordings):
            raise InputError("two recordings are of one subject", hint="name the sources and call fit_sources")
        how.pop("trials", None)
        return self.fit_sources(people, features, dict.fromkeys(people, split), **how)

    def fit_sources(
        self,
        recordings: Mapping[str, Recording],
        features: Mapping[str, AnyTargets],
        splits: Mapping[str, Split],
        *,
        noise: Mapping[str, NDArray[np.float64]] | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Train all sources together.

        Parameters
        ----------
        recordings : mapping of str to Recording
            By source; channels, samples and modality may differ.
        features : mapping
            The bank named `image`, holding the images of every source.
        splits : mapping of str to Split
            Of each source. No image that validates or tests one source may train another.
        noise : mapping of str to array of shape (n_chans, n_chans), optional
            Covariance of single-trial noise, by source, for whitening.
        checkpoint : path, optional
            Where training is kept from time to time, and continued from.

        Raises
        ------
        InputError
            If there is no source, an image is held out for one source and trains another, or a stimulus has no signal
            or no features.
        """
        check_held_out(splits)
        targets = features["image"]
        sides = self._prepare(recordings, splits, noise or {})
        images = {
            part: list(dict.fromkeys(name for s in splits.values() for name in getattr(s, part)))
            for part in ("train", "validation")
        }
        training = torch.from_numpy(targets.of(images["train"])).to(self.device)
        dims = [band.dim for band in targets.bands]
        self.target_transform = BandTransform.fit(training, dims, self.recipe.target)
        self.facts = self._facts(recordings, targets)
        self.model = self._build()
        joint = Joint(
            self._sources(sides, splits, "train", images["train"]),
            self._sources(sides, splits, "validation", images["validation"]),
            self.target_transform(training),
            self.target_transform(torch.from_numpy(targets.of(images["validation"])).to(self.device)),
        )
        fit = train_joint(self.model, joint, self.recipe, self.seed, checkpoint=checkpoint, progress=progress)
        self.model.eval()
        return fit

    def add_source(
        self,
        name: str,
        recording: Recording,
        features: Mapping[str, AnyTargets],
        split: Split,
        *,
        noise: NDArray[np.float64] | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Bring a new subject into the space by its alignment layer alone; all else stays as it is.

        Its modality must be known to the model. `recipe.foundation.newcomer` says how fast and how long.

        Raises
        ------
        InputError
            If the name is taken, or nobody of its modality was trained.
        """
        model = self._fitted()
        if name in self.facts["sources"]:
            raise InputError(f"source '{name}' is there already", hint="give it another name")
        if recording.modality not in model.encoders:
            known = ", ".join(model.encoders)
            raise InputError(f"nobody measured with {recording.modality} was trained", hint=f"there are: {known}")
        sides = self._prepare({name: recording}, {name: split}, {} if noise is None else {name: noise})
        shape = self.facts["sources"] | {name: self._shape(recording)}
        if shape[name]["n_times"] != next(
            s["n_times"] for s in self.facts["sources"].values() if s["modality"] == recording.modality
        ):
            raise InputError(f"source '{name}' has {shape[name]['n_times']} samples, others of its kind another number")
        self.facts = self.facts | {"sources": shape}
        grown, old = self._build(), model.state_dict()
        grown.load_state_dict(grown.state_dict() | old)
        for parameter_name, parameter in grown.named_parameters():
            parameter.requires_grad_(parameter_name.startswith(f"layers.{name}."))
        self.model = grown
        assert self.target_transform is not None
        targets = features["image"]
        seen = {
            part: self.target_transform(torch.from_numpy(targets.of(getattr(split, part))).to(self.device))
            for part in ("train", "validation")
        }
        joint = Joint(
            self._sources(sides, {name: split}, "train", list(split.train)),
            self._sources(sides, {name: split}, "validation", list(split.validation)),
            seen["train"],
            seen["validation"],
        )
        faster = self.recipe.training.model_copy(update=dict(self.recipe.foundation.newcomer))
        recipe = self.recipe.model_copy(update={"training": faster})
        fit = train_joint(grown, joint, recipe, self.seed, frozen=True, progress=progress)
        grown.eval()
        return fit

    @property
    def source_names(self) -> tuple[str, ...]:
        """Sources that the model knows."""
        return tuple(self.facts.get("sources", {}))

    def similarity(
        self,
        signals: NDArray[Any],
        images: Mapping[str, NDArray[Any]],
        *,
        source: str | None = None,
        repetitions: object = None,
    ) -> NDArray[np.float32]:
        """Cosine between signals of a source (n, n_chans, n_times) and images, (n, n_images).

        Raises
        ------
        InputError
            If the source is unknown, or not named where there are several.
        """
        a, b = self.embed_brain(signals, source=source), self.embed_image(images["image"])
        found: NDArray[np.float32] = a @ b.T
        return found

    @torch.no_grad()
    def embed_brain(self, signals: NDArray[Any], *, source: str | None = None) -> NDArray[np.float32]:
        """Signals of a source (n, n_chans, n_times) in the shared space, unit norm, (n, shared).

        Raises
        ------
        InputError
            If the signals have another number of channels or samples than the source was trained with.
        """
        model, name = self._fitted(), self._named(source)
        shape = self.facts["sources"][name]
        expected = (shape["n_chans"], shape["n_times"])
        if signals.ndim != 3 or signals.shape[1:] != expected:
            raise InputError(
                f"signals have shape {signals.shape}, expected (n, {expected[0]}, {expected[1]})", where=name
            )
        parts = []
        for start in range(0, len(signals), EMBED_ROWS):
            block = torch.from_numpy(np.asarray(signals[start : start + EMBED_ROWS], np.float32)).to(self.device)
            prepared = model.prepare(name, self.signal_transforms[name](block))
            parts.append(torch.nn.functional.normalize(model.embed_brain({name: prepared})[name], dim=1))
        embedded: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return embedded

    @torch.no_grad()
    def embed_image(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Image features (n, dim) in the shared space, unit norm, (n, shared).

        Raises
        ------
        InputError
            If the features have another number of columns than those trained with.
        """
        model = self._fitted()
        assert self.target_transform is not None
        expected = sum(self.target_transform.dims)
        if features.ndim != 2 or features.shape[1] != expected:
            raise InputError(f"image features have shape {features.shape}, expected (n, {expected})")
        values = self.target_transform(torch.from_numpy(np.asarray(features, np.float32)).to(self.device))
        embedded: NDArray[np.float32] = torch.nn.functional.normalize(model.embed_image(values), dim=1).cpu().numpy()
        return embedded

    @property
    def layer_weights(self) -> list[float] | None:
        """Shares of a mixture's layers, in order; None for a single layer."""
        weights = self._fitted().layer_weights
        return None if weights is None else [float(share) for share in weights.tolist()]

    def load_state(self, state: State) -> None:
        """Put other weights of this very model in place (a stored epoch)."""
        self._fitted().load_state_dict(state)

    def save(self, path: str | Path) -> None:
        """Write weights, transforms and the recipe as one safetensors file."""
        assert self.target_transform is not None
        tensors = {f"model.{k}": v for k, v in self._fitted().state_dict().items()}
        for name, transform in self.signal_transforms.items():
            tensors |= {f"signal.{name}.{k}": v for k, v in transform.tensors().items()}
        tensors |= {f"target.{k}": v for k, v in self.target_transform.tensors().items()}
        recipe = self.recipe.model_dump(mode="json")
        save_tensors(path, tensors, {"schema": SCHEMA, "recipe": recipe, "seed": self.seed, "shape": self.facts})

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> FoundationAligner:
        """Read a saved aligner.

        Raises
        ------
        InputError
            If the file is missing or damaged, or its tensors do not fit its recipe.
        """
        saved = read_aligner(path, SCHEMA)
        aligner = cls(saved.recipe, seed=saved.seed, device=device)

        def signal(source: str) -> State:
            held = saved.parts["signal"].items()
            return {k.removeprefix(f"{source}."): v for k, v in held if k.startswith(f"{source}.")}

        try:
            aligner.facts = saved.facts["shape"]
            names = aligner.source_names
            aligner.signal_transforms = {n: SignalTransform.from_tensors(signal(n)) for n in names}
            aligner.target_transform = BandTransform.from_tensors(saved.parts["target"])
            aligner._check_sizes()
            aligner.model = aligner._build()
            aligner.model.load_state_dict(saved.parts["model"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensors do not fit the recipe ({error})", where=path, hint="train again") from error
        aligner.model.eval()
        return aligner

    def _check_sizes(self) -> None:
        """Refuse tensors of a file that do not belong together, before they meet a signal."""
        assert self.target_transform is not None
        for name, shape in self.facts["sources"].items():
            self.signal_transforms[name].check_size(shape["n_chans"], shape["n_times"])
        self.target_transform.check_sizes(self.facts["target_dims"])

    def _prepare(
        self,
        recordings: Mapping[str, Recording],
        splits: Mapping[str, Split],
        noise: Mapping[str, NDArray[np.float64]],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Transformed training and validation signals of every source; transforms are kept."""
        found = {}
        for name, recording in recordings.items():
            if "." in name:
                raise InputError(f"source '{name}' has a dot in its name", hint="write _ or - instead")
            settings = inputs_of(self.recipe, recording.modality)
            recipe = self.recipe.model_copy(update={"signals": settings})
            selected = select_signals(recording, settings)
            side = Preparation([selected], splits[name], self.device, noise.get(name)).signals(recipe)
            self.signal_transforms[name] = side.transform
            found[name] = (side.training, side.validation)
        if not found:
            raise InputError("no recording to train on", hint="give at least one subject")
        return found

    def _sources(
        self, sides: Mapping[str, tuple[Tensor, Tensor]], splits: Mapping[str, Split], part: str, images: list[str]
    ) -> dict[str, Source]:
        model = self._fitted()
        place = {name: row for row, name in enumerate(images)}
        found = {}
        for name, (training, validation) in sides.items():
            rows = torch.tensor([place[one] for one in getattr(splits[name], part)], device=self.device)
            signals = training if part == "train" else validation
            found[name] = Source(model.prepare(name, signals), rows)
        return found

    def _facts(self, recordings: Mapping[str, Recording], targets: AnyTargets) -> dict[str, Any]:
        assert self.target_transform is not None
        return {
            "sources": {name: self._shape(recording) for name, recording in recordings.items()},
            "target_dims": self.target_transform.sizes,
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
        }

    def _shape(self, recording: Recording) -> dict[str, Any]:
        selected = select_signals(recording, inputs_of(self.recipe, recording.modality))
        return asdict(SourceShape(recording.modality, selected.n_chans, selected.n_times)) | {
            "subject": recording.subject,
            "ch_names": list(selected.ch_names),
            "sfreq": selected.sfreq,
            "tmin": selected.tmin,
        }

    def _build(self) -> FoundationModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(self.seed, 0))
            shapes = {
                name: SourceShape(s["modality"], s["n_chans"], s["n_times"])
                for name, s in self.facts["sources"].items()
            }
            model = FoundationModel(self.recipe, sources=shapes, target_dims=self.facts["target_dims"])
        return model.to(self.device)

    def _named(self, source: str | None) -> str:
        names = self.source_names
        if source is None and len(names) == 1:
            return names[0]
        if source is None:
            raise InputError(f"{len(names)} sources, none named", where="source", hint=f"there are: {', '.join(names)}")
        if source not in names:
            raise unknown_name("source", source, names)
        return source

    def _fitted(self) -> FoundationModel:
        if self.model is None:
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        return self.model


def inputs_of(recipe: Recipe, modality: str) -> SignalSettings:
    """How signals of a modality become the encoder's input."""
    return recipe.foundation.inputs.get(modality, recipe.signals)
