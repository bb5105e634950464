r"""Generative alignment: signals as a linear function of image features plus correlated noise, all in closed form.

.. math:: y \mid x \sim \mathcal N\big(B^\top \varphi(x) + b,\; \Sigma_\text{model} + \Sigma_\text{trial} / R\big)

The features of several layers stand side by side (bands); B is a ridge fit with exact leave-one-out residuals, the
covariance is theirs, shrunk towards its diagonal. A signal is identified by its likelihood under each image of the
gallery. This is the model of Kay et al. 2008 (Nature 452:352) and of linearised encoding (Naselaris et al. 2011,
NeuroImage 56:400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.closed_form import ClosedForm
from brainalign.alignment.covariance import cholesky, log_likelihood, shrink, split_noise
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.generative_choice import AROUND, PENALTIES, SHRINKAGES, Choice, calibrate, choose
from brainalign.alignment.generative_inputs import Inputs, fit_features, fit_signals, fit_trial_noise, shown, shown_to
from brainalign.alignment.generative_solvers import PROBED_IMAGES, PROBED_OUTPUTS, Solver, build_solver
from brainalign.alignment.preparation import check_alike
from brainalign.alignment.ridge import RidgeMap
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress
from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

__all__ = ["AROUND", "CHUNK", "PENALTIES", "PROBED_IMAGES", "PROBED_OUTPUTS", "SCHEMA", "SHRINKAGES",
           "GenerativeAligner", "Repetitions"]  # fmt: skip
SCHEMA = "brainalign.generative/1"
Repetitions = int | Sequence[int] | None
CHUNK = 2048


class GenerativeAligner(ClosedForm):
    """A Gaussian linear model of the signal given the image.

    Parameters
    ----------
    recipe : Recipe
        Of family `generative`, with one layer or a mixture, and one pooling.
    seed : int
        Kept for the record: nothing here is random.
    device : str
        'cpu' or 'cuda'.

    Examples
    --------
    >>> import numpy as np
    >>> from brainalign.alignment import Targets
    >>> from brainalign.protocols import Split
    >>> from brainalign.recipes import load_recipe
    >>> from brainalign.recordings import Recording
    >>> ids = [f"image{i:02d}" for i in range(40)]
    >>> x = np.random.default_rng(0).normal(size=(40, 6))
    >>> recording = Recording.from_arrays(x, ids, modality="fmri")
    >>> split = Split("own/intra/v1", 0, tuple(ids[:25]), tuple(ids[25:32]), tuple(ids[32:]), "image-disjoint")
    >>> recipe = load_recipe("generative", modality="fmri").with_target(layer=0, pooling="mean")
    >>> aligner = GenerativeAligner(recipe)
    >>> fit = aligner.fit([recording], {"image": Targets(x, {n: r for r, n in enumerate(ids)})}, split)
    >>> aligner.similarity(x[32:, :, None], {"image": x[32:]}).argmax(1).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed = recipe, seed
        self.device = torch.device(device)
        self.signal_transform: SignalTransform | None = None
        self.feature_map: FeatureMap | None = None
        self.map: RidgeMap | None = None
        self.covariance: Tensor | None = None
        self.trial_noise: Tensor | None = None
        self._split: tuple[Tensor, Tensor, Tensor] | None = None
        self.temperature = 1.0
        self.cell_weights: list[float] | None = None
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
        """Fit on the split's training stimuli, choose penalty and shrinkage on its validation stimuli.

        Parameters
        ----------
        recordings : sequence of Recording
            Single trials or averages. Of one subject, whose other signals will be scored; or of several, one recording
            each, for a subject that is none of them (see `left_out`). Subjects may have seen different stimuli.
        features : mapping
            The bank named `image`.
        split : Split
        noise : array of shape (n_chans, n_chans), optional
            For whitening, see `ContrastiveAligner.fit`; of several subjects the mean.
        trials : sequence of Recording, optional
            The same subjects with single trials, for the trial noise; the recordings themselves by default.
        checkpoint : path, optional
            Not used: a fit takes seconds.

        Returns
        -------
        Fit
            Its history has a row for each setting tried: ridge, shrinkage, and how it did on validation.

        Raises
        ------
        InputError
            If there is no recording, subjects differ in channels or samples, `trials` are of another number of
            subjects, a stimulus has no features, or, of one subject, no signal.
        """
        subjects = [select_signals(recording, self.recipe.signals) for recording in recordings]
        check_alike(subjects)
        singles = subjects if trials is None else [select_signals(one, self.recipe.signals) for one in trials]
        if len(singles) != len(subjects):
            raise InputError(f"{len(singles)} recordings of trials for {len(subjects)} subjects")
        ids = shown(subjects, split.train)
        self.signal_transform = fit_signals(subjects, ids, self.recipe.signals, noise, CHUNK)
        data = Inputs(tuple(subjects), features["image"], split, self.signal_transform, self.device, CHUNK)
        self.feature_map, self.cell_weights = fit_features(self.recipe, data)
        solver = build_solver(self.recipe.generative.form, data, self.feature_map)
        chosen = choose(self.recipe.generative, data, solver)
        self.map = _rounded(solver.map(chosen.row["ridge"]))
        self.covariance = chosen.covariance.float().double()
        self.trial_noise = None
        if self.recipe.generative.trial_noise:
            found = fit_trial_noise(singles, ids, self.signal_transform)
            self.trial_noise = None if found is None else torch.from_numpy(found).float().double().to(self.device)
        self.facts = self._describe(data, solver, chosen.row)
        self.temperature = self._calibrate(data, solver, chosen, singles)
        return Fit(chosen.rows, chosen.best + 1)

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: Repetitions = None
    ) -> NDArray[np.float32]:
        """Log-likelihood of each signal under each image, times the temperature fitted on validation.

        Parameters
        ----------
        signals : array of shape (n_signals, n_chans, n_times)
            Channels and samples already selected, as `select_signals` gives them.
        images : mapping
            `image`: features of the gallery, (n_images, dim).
        repetitions : int or sequence of n_signals int, optional
            Trials that each signal is an average of; as many as in training where None.

        Returns
        -------
        array of shape (n_signals, n_images), float32
            A softmax over images is their posterior under a flat prior.
        """
        density = self.log_density(signals, images["image"], repetitions=repetitions)
        # The part that all images share would cost a float32 the digits that tell them apart.
        found: NDArray[np.float32] = (self.temperature * (density - density.max(1, keepdims=True))).astype(np.float32)
        return found

    def log_density(
        self, signals: NDArray[Any], images: NDArray[Any], *, repetitions: Repetitions = None
    ) -> NDArray[np.float64]:
        """Log-density of each signal (n, n_chans, n_times) under each image (m, dim), (n, m), nats."""
        return self._density(self._flatten(signals), self._predict(images), self._fitted()[3], repetitions)

    def _density(
        self, flat: Tensor, predictions: Tensor, covariance: Tensor, repetitions: Repetitions
    ) -> NDArray[np.float64]:
        """Log-density of transformed signals (n, p) under predictions (m, p), (n, m)."""
        asked = np.asarray(1 if repetitions is None else repetitions)
        if asked.shape not in ((), (len(flat),)) or asked.dtype.kind not in "iu" or (asked < 1).any():
            raise InputError(
                f"repetitions {repetitions} do not fit {len(flat)} signals", hint="one positive count each"
            )
        known = repetitions is not None and self.trial_noise is not None
        counts = np.broadcast_to(asked if known else 0, len(flat))
        found = np.empty((len(flat), len(predictions)))
        for count in np.unique(counts):
            factor = cholesky(self._noise(covariance, int(count) or None))
            rows = np.flatnonzero(counts == count)
            found[rows] = log_likelihood(flat[torch.from_numpy(rows)], predictions, factor).cpu().numpy()
        return found

    def posterior(
        self,
        signals: NDArray[Any],
        images: NDArray[Any],
        *,
        prior: NDArray[Any] | None = None,
        repetitions: Repetitions = None,
    ) -> NDArray[np.float64]:
        """Calibrated probability of each gallery image, (n_signals, n_images), rows summing to 1.

        Parameters
        ----------
        prior : array of shape (n_images,), optional
            Positive; flat where None.

        Raises
        ------
        InputError
            If the prior is not positive, or of another length than the gallery.
        """
        logits = self.temperature * torch.from_numpy(self.log_density(signals, images, repetitions=repetitions))
        if prior is not None:
            weights = torch.as_tensor(np.asarray(prior, dtype=np.float64))
            if weights.shape != (len(images),) or not bool((weights > 0).all()):
                raise InputError(f"the prior needs {len(images)} positive weights, got shape {tuple(weights.shape)}")
            logits = logits + weights.log()
        found: NDArray[np.float64] = torch.softmax(logits, dim=1).numpy()
        return found

    def predict_signal(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Expected signal of each image, (n_images, n_chans, n_times), in the units of the recording.

        Where signals are transformed by square roots, this is the square of the expected root: the median of the
        predictive density, not its mean.
        """
        transform = self._fitted()[0]
        flat = self._predict(images)
        shape = (len(images), self.facts["n_chans"], self.facts["n_times"])
        return transform.inverse(flat.reshape(shape).cpu()).numpy()

    def predict_transformed(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Expected signal in transformed units (z-scores), (n_images, n_chans * n_times)."""
        found: NDArray[np.float64] = self._predict(images).cpu().numpy()
        return found

    def transform(self, signals: NDArray[Any]) -> NDArray[np.float64]:
        """Signals (n, n_chans, n_times) in transformed units, (n, n_chans * n_times)."""
        found: NDArray[np.float64] = self._flatten(signals).cpu().numpy()
        return found

    def noise(self, repetitions: int | None = None) -> Tensor:
        """Covariance of a signal around its prediction, (p, p), transformed units.

        Parameters
        ----------
        repetitions : int, optional
            Of the average that is scored; without single trials in training the noise is that of training averages.
        """
        return self._noise(self._fitted()[3], repetitions)

    def _noise(self, covariance: Tensor, repetitions: int | None) -> Tensor:
        held = self.facts["training_repetitions"]
        if repetitions is not None and self.trial_noise is not None and abs(repetitions - held) > 1e-9:
            covariance = self._model_covariance(covariance, self.trial_noise, held) + self.trial_noise / repetitions
        return shrink(covariance, self.facts["shrinkage"])

    def _model_covariance(self, total: Tensor, trial: Tensor, held: float) -> Tensor:
        """`split_noise`, once for all numbers of repetitions."""
        if self._split is None or self._split[0] is not total or self._split[1] is not trial:
            self._split = total, trial, split_noise(total, trial, 1 / held)
        return self._split[2]

    @property
    def layer_weights(self) -> list[float] | None:
        """Weights of the layers of a mixture, summing to 1; None for a single layer."""
        weights = self._fitted()[1].weights
        return None if len(weights) == 1 else [w / sum(weights) for w in weights]

    def save(self, path: str | Path) -> None:
        """Write coefficients, covariances, transforms and the recipe as one safetensors file."""
        transform, features, linear, covariance = self._fitted()
        tensors = {f"signal.{k}": v for k, v in transform.tensors().items()}
        tensors |= {f"features.{k}": v for k, v in features.tensors().items()}
        tensors |= {"map.coefficients": linear.coefficients.float(), "map.intercept": linear.intercept.float()}
        tensors["covariance.total"] = covariance.float()
        if self.trial_noise is not None:
            tensors["covariance.trial"] = self.trial_noise.float()
        facts = {"schema": SCHEMA, "recipe": self.recipe.model_dump(mode="json"), "seed": self.seed,
                 "shape": self.facts, "temperature": self.temperature}  # fmt: skip
        save_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> GenerativeAligner:
        """Read a saved aligner.

        Raises
        ------
        InputError
            If the file is missing or damaged, or of another family.
        """
        saved = read_aligner(path, SCHEMA)
        aligner = cls(saved.recipe, seed=saved.seed, device=device)
        try:
            aligner.signal_transform = SignalTransform.from_tensors(saved.parts["signal"])
            aligner.feature_map = FeatureMap.from_tensors(saved.parts["features"]).to(aligner.device)
            aligner.map = RidgeMap(
                *(saved.parts["map"][k].double().to(aligner.device) for k in ("coefficients", "intercept"))
            )
            aligner.covariance = saved.parts["covariance"]["total"].double().to(aligner.device)
            if "trial" in saved.parts["covariance"]:
                aligner.trial_noise = saved.parts["covariance"]["trial"].double().to(aligner.device)
            aligner.cell_weights = saved.facts["shape"]["cell_weights"]
            aligner.facts, aligner.temperature = saved.facts["shape"], float(saved.facts["temperature"])
            aligner._check_sizes()
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensors do not fit the recipe ({error})", where=path, hint="train again") from error
        return aligner

    def _check_sizes(self) -> None:
        """Refuse tensors of a file that do not belong together, before they meet a signal."""
        transform, features, linear, covariance = self._fitted()
        p = self.facts["n_chans"] * self.facts["n_times"]
        transform(torch.zeros(1, self.facts["n_chans"], self.facts["n_times"]))
        linear(features(torch.zeros(1, sum(features.dims), device=self.device)))
        square = [covariance] if self.trial_noise is None else [covariance, self.trial_noise]
        if linear.intercept.shape != (p,) or any(found.shape != (p, p) for found in square):
            raise ValueError(f"expected sizes of {p} outputs")

    def _describe(self, data: Inputs, solver: Solver, chosen: Mapping[str, float]) -> dict[str, Any]:
        first, targets = data.recordings[0], data.targets
        known = shown_to(data.recordings, data.train)
        counts = [one.repetitions(ids) for one, ids in zip(data.recordings, known, strict=True)]
        return {
            "n_chans": first.n_chans,
            "n_times": first.n_times,
            "ch_names": list(first.ch_names),
            "sfreq": first.sfreq,
            "tmin": first.tmin,
            "subjects": [one.subject for one in data.recordings],
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
            "ridge": chosen["ridge"],
            "shrinkage": chosen["shrinkage"],
            "training_repetitions": float(1 / np.mean(1 / np.concatenate(counts))),
            "form": solver.form,
            "cell_weights": self.cell_weights,
        }

    def _calibrate(self, data: Inputs, solver: Solver, chosen: Choice, trials: Sequence[Recording]) -> float:
        """Temperature from validation; of several subjects each is scored by what the others give."""
        single, images = len(data.recordings) == 1, data.targets.of(data.validation)
        predictions = [self._predict(images)] if single else solver.validation(chosen.row["ridge"])

        def density(
            number: int, signals: NDArray[Any], among: list[int], repetitions: list[int] | None
        ) -> NDArray[np.float64]:
            covariance = self._fitted()[3] if single else chosen.covariance_for(number)
            return self._density(self._flatten(signals), predictions[number][among], covariance, repetitions)

        known = None if self.trial_noise is None else trials
        return calibrate(data, known, self.recipe.evaluation.repetitions, density)

    def _predict(self, images: NDArray[Any]) -> Tensor:
        _, features, linear, _ = self._fitted()
        expected = sum(features.dims)
        if images.ndim != 2 or images.shape[1] != expected:
            raise InputError(f"image features have shape {images.shape}, expected (n, {expected})")
        parts = [
            linear(features(torch.from_numpy(np.asarray(images[i : i + CHUNK], np.float32)).to(self.device)))
            for i in range(0, len(images), CHUNK)
        ]
        return torch.cat(parts)

    def _flatten(self, signals: NDArray[Any]) -> Tensor:
        transform = self._fitted()[0]
        expected = (self.facts["n_chans"], self.facts["n_times"])
        if signals.ndim != 3 or signals.shape[1:] != expected:
            raise InputError(f"signals have shape {signals.shape}, expected (n, {expected[0]}, {expected[1]})")
        values = transform(torch.from_numpy(np.asarray(signals, dtype=np.float32)))
        return values.flatten(1).double().to(self.device)

    def _fitted(self) -> tuple[SignalTransform, FeatureMap, RidgeMap, Tensor]:
        held = (self.signal_transform, self.feature_map, self.map, self.covariance)
        if any(part is None for part in held):
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        return held  # type: ignore[return-value]


def _rounded(fitted: RidgeMap) -> RidgeMap:
    """As a checkpoint keeps it: what is scored now is what is loaded later."""
    return RidgeMap(fitted.coefficients.float().double(), fitted.intercept.float().double())
