"""The BraVL aligner: a multimodal variational model behind the protocol of all aligners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.bravl.fit import BravlRun, scaled, train
from brainalign.alignment.bravl.model import BravlModel
from brainalign.alignment.bravl.posterior import Gaussian, product_of_experts
from brainalign.alignment.bravl.scores import cosine_scores, likelihood_scores, svm_scores
from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.pairs import Pairs
from brainalign.alignment.preparation import Preparation, Rows
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress, State, epoch_seed
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

SCHEMA = "brainalign.bravl/1"
Scores = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class BravlAligner:
    """A mixture of products of experts over brain, image and text features.

    Parameters
    ----------
    recipe : Recipe
        Of family `bravl`, with one layer or several side by side, and one pooling; `training` is its budget.
    seed : int
        Initialisation, batch order, and all that is drawn while training.
    device : str
        'cpu' or 'cuda'.

    References
    ----------
    Du, Fu, Li & He 2023, Decoding visual neural representations by multimodal learning of brain-visual-linguistic
    features, IEEE TPAMI 45:10760.

    Examples
    --------
    >>> import numpy as np
    >>> from brainalign.alignment import Targets
    >>> from brainalign.protocols import Split
    >>> from brainalign.recipes import validate_recipe
    >>> from brainalign.recordings import Recording
    >>> ids = [f"image{i:02d}" for i in range(30)]
    >>> x = np.random.default_rng(0).normal(size=(30, 6))
    >>> recording = Recording.from_arrays(x, ids, modality="fmri")
    >>> split = Split("own/intra/v1", 0, tuple(ids[:20]), tuple(ids[20:25]), tuple(ids[25:]), "image-disjoint")
    >>> settings = {"name": "bravl", "family": "bravl", "bravl": {"hidden": 16}, "training": {"epochs": 2}}
    >>> aligner = BravlAligner(validate_recipe(settings, where="example").with_target(layer=0, pooling="mean"))
    >>> _ = aligner.fit([recording], {"image": Targets(x, {n: r for r, n in enumerate(ids)})}, split)
    >>> aligner.similarity(x[25:, :, None], {"image": x[25:]}).shape
    (5, 5)
    """

    has_epochs = True

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed = recipe, seed
        self.device = torch.device(device)
        self.model: BravlModel | None = None
        self.signal_transform: SignalTransform | None = None
        self.transforms: dict[str, BandTransform] = {}
        self.facts: dict[str, Any] = {}

    def fit(
        self,
        recordings: Sequence[Recording],
        features: Mapping[str, AnyTargets],
        split: Split,
        *,
        noise: NDArray[np.float64] | None = None,
        trials: Sequence[Recording] | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Train on the split's training stimuli and choose the epoch on its validation stimuli.

        Parameters
        ----------
        recordings : sequence of Recording
            One, or those of all training subjects: same channels and samples.
        features : mapping
            The bank named `image`, and `text` where there is text; without it the model has two modalities.
        split : Split
        noise : array of shape (n_chans, n_chans), optional
            Covariance of single-trial noise over the selected channels, for whitening.
        trials : sequence of Recording, optional
            Not used.
        checkpoint : path, optional
            Where training is kept from time to time, and continued from.

        Raises
        ------
        InputError
            If recordings differ in channels or samples, or a stimulus has no signal or no features.
        """
        selected = [select_signals(recording, self.recipe.signals) for recording in recordings]
        preparation = Preparation(selected, split, self.device, noise)
        signals = preparation.signals(self.recipe)
        sides = {"image": preparation.targets(self.recipe, features["image"])}
        if "text" in features:
            sides["text"] = preparation.texts(self.recipe, features["text"])
        self.signal_transform = signals.transform
        self.transforms = {name: side.transform for name, side in sides.items()}
        self.facts = self._describe(preparation, features["image"])
        self.model = self._build()

        def pairs(part: str, rows: Rows | None) -> Pairs:
            return Pairs(
                getattr(signals, part),
                getattr(sides["image"], part),
                images=None if rows is None else rows.images,
                subjects=rows.subjects if rows is not None and preparation.n_subjects > 1 else None,
                texts=getattr(sides["text"], part) if "text" in sides else None,
            )

        training = pairs("training", preparation.rows("training", self.recipe))
        validation = pairs("validation", preparation.rows("validation", self.recipe))
        run = BravlRun(self.model, training, validation, self.recipe, self.seed, self._validation_score, checkpoint)
        return train(run, progress=progress)

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: object = None
    ) -> NDArray[np.float32]:
        """How well each signal fits each image, by the recipe's `bravl.score`.

        `svm`, as published: a support vector machine with a class an image, trained on the latent means that the
        gallery's image, text and image with text give; its decisions about the latent means of the signals. It sees
        no signal while it is trained, and each signal is scored by itself. `likelihood` and `cosine` compare posteriors
        and their means; see `brainalign.alignment.bravl.scores`.

        Parameters
        ----------
        signals : array of shape (n_signals, n_chans, n_times)
            Channels and samples already selected, as `select_signals` gives them.
        images : mapping
            `image`: features of the gallery, (n_images, dim); `text`, (n_images, dim), beside or instead of them, where
            the model has learnt from text.
        repetitions
            Of each signal; makes no difference here.

        Returns
        -------
        array of shape (n_signals, n_images), float32
            Comparable within a row, whose largest entry is 0 (`cosine`: as it is).

        Raises
        ------
        InputError
            If shapes are not those of training, or the gallery is empty, unequal, or too large for `svm`.
        """
        model = self._fitted()
        with torch.no_grad():
            gallery = {name: self._transformed(images[name], name) for name in self.transforms if name in images}
            if len({len(values) for values in gallery.values()}) != 1:
                sizes = {name: len(values) for name, values in gallery.items()} or "nothing the model knows"
                raise InputError(f"the gallery holds {sizes}, expected image or text features of the same images")
            held = {"brain": self._flatten(signals)} | gallery
            scores = self._scores(model.experts(scaled(held, self.recipe.bravl)))
        if self.recipe.bravl.score != "cosine":
            # A part that all images share would cost a float32 the digits that tell them apart.
            scores = scores - scores.max(1, keepdims=True)
        found: NDArray[np.float32] = scores.astype(np.float32)
        return found

    def embed_brain(self, signals: NDArray[Any]) -> NDArray[np.float32]:
        """Latent means of signals (n, n_chans, n_times), unit norm, (n, latent)."""
        return self._embed("brain", self._flatten(signals))

    def embed_image(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Latent means of image features (n, dim), unit norm, (n, latent)."""
        return self._embed("image", self._transformed(features, "image"))

    def embed_text(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Latent means of text features (n, dim), unit norm, (n, latent).

        Raises
        ------
        InputError
            If the aligner was trained without text.
        """
        self._fitted()
        if "text" not in self.transforms:
            raise InputError("the aligner was trained without text", hint="train with text.prior")
        return self._embed("text", self._transformed(features, "text"))

    @torch.no_grad()
    def predict_signal(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Signal decoded from the latent mean of image features (n, dim), (n, n_chans, n_times), recording's units."""
        model, transform = self._fitted(), self.signal_transform
        assert transform is not None
        held = scaled({"image": self._transformed(images, "image")}, self.recipe.bravl)
        flat = model.decode(model.experts(held)["image"].mean, ["brain"])["brain"] / self.recipe.bravl.scales.brain
        shape = (len(images), self.facts["n_chans"], self.facts["n_times"])
        found: NDArray[np.float64] = transform.inverse(flat.reshape(shape).cpu()).double().numpy()
        return found

    @property
    def layer_weights(self) -> list[float] | None:
        """None: layers stand side by side, and how much each counts is not one number."""
        return None

    def load_state(self, state: State) -> None:
        """Put other weights of this very model in place (a stored epoch)."""
        self._fitted().load_state_dict(state)

    def save(self, path: str | Path) -> None:
        """Write weights, transforms and the recipe as one safetensors file."""
        model = self._fitted()
        assert self.signal_transform is not None
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"signal.{k}": v for k, v in self.signal_transform.tensors().items()}
        for name, transform in self.transforms.items():
            tensors |= {f"{name}.{k}": v for k, v in transform.tensors().items()}
        facts = {"schema": SCHEMA, "recipe": self.recipe.model_dump(mode="json"), "seed": self.seed,
                 "shape": self.facts}  # fmt: skip
        save_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> BravlAligner:
        """Read a saved aligner.

        Raises
        ------
        InputError
            If the file is missing or damaged, or of another family, or its tensors do not fit its recipe.
        """
        saved = read_aligner(path, SCHEMA)
        aligner = cls(saved.recipe, seed=saved.seed, device=device)
        try:
            aligner.facts = saved.facts["shape"]
            aligner.signal_transform = SignalTransform.from_tensors(saved.parts["signal"])
            names = [name for name in aligner.facts["dims"] if name != "brain"]
            aligner.transforms = {name: BandTransform.from_tensors(saved.parts[name]) for name in names}
            aligner._check_sizes()
            aligner.model = aligner._build()
            aligner.model.load_state_dict(saved.parts["model"])
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensors do not fit the recipe ({error})", where=path, hint="train again") from error
        aligner.model.eval()
        return aligner

    def _check_sizes(self) -> None:
        """Refuse tensors of a file that do not belong together, before they meet a signal."""
        transform, dims = self.signal_transform, self.facts["dims"]
        assert transform is not None
        flat = transform(torch.zeros(1, self.facts["n_chans"], self.facts["n_times"])).flatten(1)
        found = {"brain": flat.shape[1]}
        found |= {k: t(torch.zeros(1, sum(t.dims))).shape[1] for k, t in self.transforms.items()}
        if dims != found or list(dims)[:2] != ["brain", "image"]:
            raise ValueError(f"sizes {dims}, but the transforms give {found}")

    def _describe(self, preparation: Preparation, targets: AnyTargets) -> dict[str, Any]:
        recording = preparation.recording
        return {
            "n_chans": recording.n_chans,
            "n_times": recording.n_times,
            "dims": {"brain": recording.n_chans * recording.n_times}
            | {name: sum(transform.sizes) for name, transform in self.transforms.items()},
            "ch_names": list(recording.ch_names),
            "sfreq": recording.sfreq,
            "tmin": recording.tmin,
            "subjects": [one.subject for one in preparation.recordings],
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
        }

    def _build(self) -> BravlModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(epoch_seed(self.seed, 0))
            model = BravlModel(self.facts["dims"], self.recipe.bravl)
        return model.to(self.device, getattr(torch, self.recipe.bravl.precision))

    def _validation_score(self, features: Mapping[str, Tensor]) -> Scores:
        """Scores of validation pairs, the gallery known by what the recipe says."""
        hidden = "text" if self.recipe.bravl.gallery == "image" else ""
        return self._scores(self._fitted().experts({k: v for k, v in features.items() if k != hidden}))

    def _scores(self, experts: Mapping[str, Gaussian]) -> Scores:
        settings, brain = self.recipe.bravl, experts["brain"]
        single = [experts[name] for name in ("image", "text") if name in experts]
        both = product_of_experts(single) if len(single) > 1 else single[0]
        if settings.score == "cosine":
            return cosine_scores(brain, both)
        if settings.score == "likelihood":
            return likelihood_scores(brain, both)
        gallery = [*single, both] if len(single) > 1 else single
        return svm_scores(brain, gallery, gamma=settings.svm_gamma, c=settings.svm_c)

    @torch.no_grad()
    def _embed(self, name: str, values: Tensor) -> NDArray[np.float32]:
        expert = self._fitted().experts(scaled({name: values}, self.recipe.bravl))[name]
        found: NDArray[np.float32] = torch.nn.functional.normalize(expert.mean.float(), dim=1).cpu().numpy()
        return found

    def _fitted(self) -> BravlModel:
        if self.model is None:
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        return self.model

    def _flatten(self, signals: NDArray[Any]) -> Tensor:
        self._fitted()
        assert self.signal_transform is not None
        expected = (self.facts["n_chans"], self.facts["n_times"])
        if signals.ndim != 3 or signals.shape[1:] != expected:
            raise InputError(f"signals have shape {signals.shape}, expected (n, {expected[0]}, {expected[1]})")
        values = torch.from_numpy(np.asarray(signals, dtype=np.float32)).to(self.device)
        return self.signal_transform(values).flatten(1)

    def _transformed(self, features: NDArray[Any], name: str) -> Tensor:
        self._fitted()
        transform = self.transforms[name]
        expected = sum(transform.dims)
        if features.ndim != 2 or features.shape[1] != expected:
            raise InputError(f"{name} features have shape {features.shape}, expected (n, {expected})")
        return transform(torch.from_numpy(np.asarray(features, np.float32)).to(self.device))
