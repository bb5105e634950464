"""Contrastive alignment: signals and images meet in one space, trained by gradient descent on InfoNCE."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.model import ContrastiveModel, cosine
from brainalign.alignment.pairs import Pairs
from brainalign.alignment.preparation import Preparation, Rows
from brainalign.alignment.stacked import train_together
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress, Run, State, epoch_seed
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

SCHEMA = "brainalign.model/3"
LEVEL_MARK = "image@"
EMBED_ROWS = 4096


class ContrastiveAligner:
    """One brain encoder and one image projector, aligned with the layer the recipe names.

    Parameters
    ----------
    recipe : Recipe
        With one layer and one pooling (`auto` is resolved before, by `brainalign.execution`).
    seed : int
        Initialisation, batch order and dropout.
    device : str
        'cpu' or 'cuda'.

    Examples
    --------
    >>> import numpy as np
    >>> from brainalign.alignment import Targets
    >>> from brainalign.protocols import Split
    >>> from brainalign.recipes import load_recipe
    >>> from brainalign.recordings import Recording
    >>> ids = [f"image{i:02d}" for i in range(30)]
    >>> x = np.random.default_rng(0).normal(size=(30, 6))
    >>> recording = Recording.from_arrays(x, ids, modality="fmri")
    >>> split = Split("own/intra/v1", 0, tuple(ids[:20]), tuple(ids[20:25]), tuple(ids[25:]), "image-disjoint")
    >>> recipe = load_recipe("shallow-alignment", modality="fmri", overrides=["training.epochs=2"])
    >>> targets = Targets(x, {name: row for row, name in enumerate(ids)})
    >>> aligner = ContrastiveAligner(recipe.with_target(layer=0, pooling="mean"))
    >>> _ = aligner.fit([recording], {"image": targets}, split)
    >>> aligner.similarity(x[25:, :, None], {"image": x[25:]}).shape
    (5, 5)
    """

    has_epochs = True

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed = recipe, seed
        self.device = torch.device(device)
        self.model: ContrastiveModel | None = None
        self.signal_transform: SignalTransform | None = None
        self.target_transform: BandTransform | None = None
        self.text_transform: BandTransform | None = None
        self.facts: dict[str, Any] = {}

    def fit(
        self,
        recordings: Sequence[Recording],
        features: Mapping[str, AnyTargets],
        split: Split,
        *,
        noise: NDArray[np.float64] | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Train on the split's training stimuli and choose the epoch on its validation stimuli.

        Parameters
        ----------
        recordings : sequence of Recording
            One, or those of all training subjects: same channels and samples.
        features : mapping
            The bank named `image`; `text` where the recipe has language; `image@0`, `image@1`, ... where training
            images are blurred by their uncertainty, from least to most.
        split : Split
        noise : array of shape (n_chans, n_chans), optional
            Covariance of single-trial noise over the selected channels, for whitening; estimated from training trials
            where it is needed and not given.
        checkpoint : path, optional
            Where training is kept from time to time, and continued from.

        Raises
        ------
        InputError
            If recordings differ in channels or samples, or a stimulus has no signal or no features.
        """
        selected = [select_signals(recording, self.recipe.signals) for recording in recordings]
        preparation = Preparation(selected, split, self.device, noise)
        together = fit_together([self], preparation, [features], checkpoints=[checkpoint], progress=progress)
        ((_, fit, _),) = together
        return fit

    def prepare(
        self, preparation: Preparation, features: Mapping[str, AnyTargets], checkpoint: Path | None = None
    ) -> Run:
        """Fit the transforms on training data, build the model, and say what is to be trained."""
        recording, signals = preparation.recording, preparation.signals(self.recipe)
        targets = features["image"]
        images = preparation.targets(self.recipe, targets)
        texts = preparation.texts(self.recipe, features["text"]) if "text" in features else None
        self.signal_transform, self.target_transform = signals.transform, images.transform
        self.text_transform = None if texts is None else texts.transform
        self.facts = {
            "n_chans": recording.n_chans,
            "n_times": recording.n_times,
            "target_dims": images.transform.sizes,
            "ch_names": list(recording.ch_names),
            "sfreq": recording.sfreq,
            "tmin": recording.tmin,
            "text_dim": 0 if texts is None else sum(texts.transform.sizes),
            "n_subjects": preparation.n_subjects if preparation.n_subjects > 1 else 0,
            "subjects": [r.subject for r in preparation.recordings],
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
        }
        self.model = self._build()
        encoded = preparation.encoded(self.recipe, self.model.encoder)
        several = preparation.n_subjects > 1

        def pairs(part: str, rows: Rows | None, levels: Tensor | None = None) -> Pairs:
            return Pairs(
                getattr(encoded, part),
                getattr(images, part),
                images=None if rows is None else rows.images,
                subjects=rows.subjects if rows is not None and several else None,
                texts=None if texts is None else getattr(texts, part),
                levels=levels,
            )

        training = pairs("training", preparation.rows("training", self.recipe), self._levels(preparation, features))
        validation = pairs("validation", preparation.rows("validation", self.recipe))
        return Run(self.model, training, validation, self.recipe, self.seed, checkpoint)

    def _levels(self, preparation: Preparation, features: Mapping[str, AnyTargets]) -> Tensor | None:
        """Training images at every level of blur, (n_levels, n_images, dim)."""
        names = sorted(name for name in features if name.startswith(LEVEL_MARK))
        if not names:
            return None
        assert self.target_transform is not None
        ids = preparation.split.train
        seen = [torch.from_numpy(features[name].of(ids)).to(self.device) for name in names]
        return torch.stack([self.target_transform(level) for level in seen])

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: object = None
    ) -> NDArray[np.float32]:
        """Cosine in the shared space.

        Parameters
        ----------
        signals : array of shape (n_signals, n_chans, n_times)
            Channels and samples already selected, as `select_signals` gives them.
        images : mapping
            `image`: features of the gallery, (n_images, dim).
        repetitions
            Of each signal; makes no difference here.

        Returns
        -------
        array of shape (n_signals, n_images), float32
        """
        brain, image = self._embed(signals), self._embed_images(images["image"])
        found: NDArray[np.float32] = cosine(brain, image).cpu().numpy()
        return found

    def embed_brain(self, signals: NDArray[Any]) -> NDArray[np.float32]:
        """Signals (n, n_chans, n_times) in the shared space, unit norm, (n, dim)."""
        found: NDArray[np.float32] = torch.nn.functional.normalize(self._embed(signals), dim=1).cpu().numpy()
        return found

    def embed_image(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Image features (n, dim) in the shared space, unit norm, (n, shared)."""
        found: NDArray[np.float32] = torch.nn.functional.normalize(self._embed_images(features), dim=1).cpu().numpy()
        return found

    def embed_text(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Text features (n, dim) in the shared space, unit norm, (n, shared).

        Raises
        ------
        InputError
            If the aligner was trained without text.
        """
        model = self._fitted()
        if self.text_transform is None:
            raise InputError("the aligner was trained without text", hint="train with text.prior")
        values = _checked(features, sum(self.text_transform.dims), "text").to(self.device)
        with torch.no_grad():
            found = torch.nn.functional.normalize(model.embed_text(self.text_transform(values)), dim=1)
        embedded: NDArray[np.float32] = found.cpu().numpy()
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
        model = self._fitted()
        assert self.signal_transform is not None and self.target_transform is not None
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"signal.{k}": v for k, v in self.signal_transform.tensors().items()}
        tensors |= {f"target.{k}": v for k, v in self.target_transform.tensors().items()}
        if self.text_transform is not None:
            tensors |= {f"text.{k}": v for k, v in self.text_transform.tensors().items()}
        facts = {
            "schema": SCHEMA,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "shape": self.facts,
        }
        save_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> ContrastiveAligner:
        """Read a saved aligner.

        Raises
        ------
        InputError
            If the file is missing or damaged, or its tensors do not fit its recipe.
        """
        saved = read_aligner(path, SCHEMA)
        aligner = cls(saved.recipe, seed=saved.seed, device=device)
        try:
            aligner.facts = saved.facts["shape"]
            aligner.signal_transform = SignalTransform.from_tensors(saved.parts["signal"])
            aligner.target_transform = BandTransform.from_tensors(saved.parts["target"])
            aligner.text_transform = BandTransform.from_tensors(saved.parts["text"]) if saved.parts["text"] else None
            aligner._check_sizes()
            aligner.model = aligner._build()
            aligner.model.load_state_dict(saved.parts["model"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensors do not fit the recipe ({error})", where=path, hint="train again") from error
        aligner.model.eval()
        return aligner

    def _check_sizes(self) -> None:
        """Refuse tensors of a file that do not belong together, before they meet a signal."""
        assert self.signal_transform is not None and self.target_transform is not None
        self.signal_transform.check_size(self.facts["n_chans"], self.facts["n_times"])
        self.target_transform.check_sizes(self.facts["target_dims"])
        if self.text_transform is not None:
            self.text_transform.check_sizes(self.text_transform.sizes)
        found = 0 if self.text_transform is None else sum(self.text_transform.sizes)
        if found != self.facts["text_dim"]:
            raise ValueError(f"the text transform leads to {found} features, expected {self.facts['text_dim']}")

    def _build(self) -> ContrastiveModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(self.seed, 0))
            shape = self.facts
            model = ContrastiveModel(
                self.recipe,
                n_chans=shape["n_chans"],
                n_times=shape["n_times"],
                target_dims=shape["target_dims"],
                text_dim=shape["text_dim"],
                n_subjects=shape["n_subjects"],
            )
        return model.to(self.device)

    def _fitted(self) -> ContrastiveModel:
        if self.model is None:
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        return self.model

    @torch.no_grad()
    def _embed(self, signals: NDArray[Any]) -> Tensor:
        model = self._fitted()
        assert self.signal_transform is not None
        expected = (self.facts["n_chans"], self.facts["n_times"])
        if signals.ndim != 3 or signals.shape[1:] != expected:
            raise InputError(f"signals have shape {signals.shape}, expected (n, {expected[0]}, {expected[1]})")
        parts = []
        for start in range(0, len(signals), EMBED_ROWS):
            block = torch.from_numpy(np.asarray(signals[start : start + EMBED_ROWS], dtype=np.float32)).to(self.device)
            parts.append(model.embed_brain(model.encoder.prepare(self.signal_transform(block))))
        return torch.cat(parts)

    @torch.no_grad()
    def _embed_images(self, features: NDArray[Any]) -> Tensor:
        model = self._fitted()
        assert self.target_transform is not None
        values = _checked(features, sum(self.target_transform.dims), "image").to(self.device)
        return model.embed_image(self.target_transform(values))


def _checked(features: NDArray[Any], expected: int, what: str) -> Tensor:
    if features.ndim != 2 or features.shape[1] != expected:
        raise InputError(f"{what} features have shape {features.shape}, expected (n, {expected})")
    return torch.from_numpy(np.asarray(features, np.float32))


def fit_together(
    aligners: Sequence[ContrastiveAligner],
    preparation: Preparation,
    features: Sequence[Mapping[str, AnyTargets]],
    *,
    checkpoints: Sequence[Path | None],
    done: Collection[int] = (),
    progress: Progress | None = None,
) -> Iterator[tuple[int, Fit, float]]:
    """Fit several aligners on the same signals; those that can be trained as one model are, where that is faster.

    Parameters
    ----------
    aligners, features, checkpoints : sequences of one length
        `features` as `ContrastiveAligner.fit` takes them.
    done : collection of int
        Indices of aligners whose fit is not needed.

    Yields
    ------
    tuple of int, Fit, float
        Index of an aligner that is fitted, how it went, its share of the time in seconds.
    """
    runs = [a.prepare(preparation, t, c) for a, t, c in zip(aligners, features, checkpoints, strict=True)]
    for index, fit, seconds in train_together(runs, done=done, progress=progress):
        runs[index].model.eval()
        yield index, fit, seconds
