r"""Generative alignment: signals as a linear function of image features plus correlated noise, all in closed form.

.. math:: y \mid x \sim \mathcal N\big(B^\top \varphi(x) + b,\; \Sigma_\text{model} + \Sigma_\text{trial} / R\big)

The features of several layers stand side by side (bands); B is a ridge fit with exact leave-one-out residuals, the
covariance is theirs, shrunk towards its diagonal. A signal is identified by its likelihood under each image of the
gallery. This is the model of Kay et al. 2008 (Nature 452:352) and of linearised encoding (Naselaris et al. 2011,
NeuroImage 56:400).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.band_weights import learn_weights
from brainalign.alignment.calibration import fit_temperature, identification
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.covariance import ResidualMoments, cholesky, log_likelihood, shrink, split_noise
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.receptive_field import grid_side, learn_cells, with_cells
from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge, RidgeMap
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress, State
from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.load import validate_recipe
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals
from brainalign.recordings.trial_noise import has_trials, trial_noise_covariance
from brainalign.recordings.whitening import noise_covariance, whitening_matrix

SCHEMA = "brainalign.generative/1"
Repetitions = int | Sequence[int] | None
CHUNK = 2048
PENALTIES = tuple(float(p) for p in np.logspace(-3, 4, 29))  # the best is about noise over signal variance
AROUND = (1.0, 1.778, 3.162)  # of the leave-one-out optimum, tried on validation
SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
PROBED_IMAGES, PROBED_OUTPUTS = 4096, 64  # of many, those on which the primal form finds its penalty
FOURTH_OUTPUTS = 4096  # above so many the analytic shrinkage would need as much memory again


class GenerativeAligner:
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

    has_epochs = False

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
        trials: Recording | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Fit on the split's training stimuli, choose penalty and shrinkage on its validation stimuli.

        Parameters
        ----------
        recordings : sequence of one Recording
            Single trials or averages.
        features : mapping
            The bank named `image`.
        split : Split
        noise : array of shape (n_chans, n_chans), optional
            For whitening, see `ContrastiveAligner.fit`.
        trials : Recording, optional
            The same with single trials, for the trial noise; the recording itself by default.
        checkpoint : path, optional
            Not used: a fit takes seconds.

        Returns
        -------
        Fit
            Its history has a row for each setting tried: ridge, shrinkage, and how it did on validation.

        Raises
        ------
        InputError
            If there is not exactly one recording, or a stimulus has no signal or no features.
        """
        if len(recordings) != 1:
            raise InputError(f"this recipe fits one subject, {len(recordings)} given", hint="sweep --over subject")
        recording, targets = select_signals(recordings[0], self.recipe.signals), features["image"]
        self.signal_transform = self._fit_signals(recording, split, noise)
        data = _Data(recording, targets, self.signal_transform, self.device)
        self.feature_map = self._fit_features(data, split)
        solver = self._solve(data, split)
        penalty = self._loo_penalty(solver)
        tried = self._tried(data, solver, penalty, split)
        best = min(range(len(tried)), key=lambda i: tried[i].row["validation_loss"])
        chosen = tried[best]
        self.map = _rounded(solver.map(chosen.row["ridge"]))
        self.covariance = chosen.moments.second.float().double()
        singles = recording if trials is None else select_signals(trials, self.recipe.signals)
        self._fit_noise(singles, split)
        self.facts = {
            "n_chans": recording.n_chans,
            "n_times": recording.n_times,
            "ch_names": list(recording.ch_names),
            "sfreq": recording.sfreq,
            "tmin": recording.tmin,
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
            "ridge": chosen.row["ridge"],
            "shrinkage": chosen.row["shrinkage"],
            "training_repetitions": float(1 / np.mean(1 / recording.repetitions(split.train))),
            "form": solver.form,
            "cell_weights": self.cell_weights,
        }
        self.temperature = self._calibrate(data, singles, split)
        return Fit([row.row for row in tried], best + 1)

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
        predictions, flat = self._predict(images), self._flatten(signals)
        asked = np.asarray(1 if repetitions is None else repetitions)
        if asked.shape not in ((), (len(flat),)) or asked.dtype.kind not in "iu" or (asked < 1).any():
            raise InputError(
                f"repetitions {repetitions} do not fit {len(flat)} signals", hint="one positive count each"
            )
        known = repetitions is not None and self.trial_noise is not None
        counts = np.broadcast_to(asked if known else 0, len(flat))
        found = np.empty((len(flat), len(predictions)))
        for count in np.unique(counts):
            factor = cholesky(self.noise(int(count) or None))
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
        *_, covariance = self._fitted()
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

    def load_state(self, state: State) -> None:
        """There are no epochs to go back to."""
        raise InputError("a closed-form fit has no epochs")

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
        tensors, facts = load_tensors(path)
        if facts.get("schema") != SCHEMA:
            raise InputError(f"has schema {facts.get('schema')!r}, expected {SCHEMA!r}", where=path, hint="train again")
        aligner = cls(validate_recipe(facts["recipe"], where=path), seed=int(facts["seed"]), device=device)
        parts: dict[str, State] = {"signal": {}, "features": {}, "map": {}, "covariance": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        try:
            aligner.signal_transform = SignalTransform.from_tensors(parts["signal"])
            aligner.feature_map = FeatureMap.from_tensors(parts["features"]).to(aligner.device)
            aligner.map = RidgeMap(
                *(parts["map"][k].double().to(aligner.device) for k in ("coefficients", "intercept"))
            )
            aligner.covariance = parts["covariance"]["total"].double().to(aligner.device)
            if "trial" in parts["covariance"]:
                aligner.trial_noise = parts["covariance"]["trial"].double().to(aligner.device)
            aligner.cell_weights = facts["shape"]["cell_weights"]
            aligner.facts, aligner.temperature = facts["shape"], float(facts["temperature"])
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

    def _fit_signals(self, recording: Recording, split: Split, noise: NDArray[np.float64] | None) -> SignalTransform:
        whitener = None
        if self.recipe.signals.whiten == "mvnn":
            noise = noise_covariance(recording, split.train) if noise is None else noise
            whitener = torch.from_numpy(whitening_matrix(noise))
        return SignalTransform.fit_chunks(
            lambda: (torch.from_numpy(recording.average(part)) for part in _parts(split.train)),
            self.recipe.signals,
            whitener,
        )

    def _fit_features(self, data: _Data, split: Split) -> FeatureMap:
        settings = self.recipe.target
        fitted = FeatureMap.fit(
            lambda: (data.images(part) for part in _parts(split.train)),
            [band.dim for band in data.targets.bands],
            components=settings.components,
            standardize=settings.standardize,
            sample=lambda most: data.images(split.train[:: max(1, -(-len(split.train) // most))]),
        )
        if self.recipe.generative.field == "learned":
            fitted = self._fit_field(fitted, data, split)
        wanted = self.recipe.generative.bands
        if wanted == "equal" or len(fitted.bands) == 1:
            return fitted
        if wanted == "learned":
            return fitted.with_weights(learn_weights(fitted, data.images, data.signals, split.train))
        if len(wanted) != len(fitted.bands):
            text = f"{len(wanted)} weights for {len(fitted.bands)} layers"
            raise InputError(text, where="generative.bands", hint="give one a layer, or equal, or learned")
        return fitted.with_weights([float(w) / sum(map(float, wanted)) for w in wanted])

    def _fit_field(self, features: FeatureMap, data: _Data, split: Split) -> FeatureMap:
        side = grid_side(data.targets)
        if side is None or self.recipe.target.components is not None:
            text = "a receptive field needs layers that are all pooled by one gridN, without principal components"
            raise InputError(text, where="generative.field", hint="use flat, or drop layer final and target.components")
        self.cell_weights = learn_cells(features, side, data.images, data.signals, split.train)
        return with_cells(features, self.cell_weights)

    def _solve(self, data: _Data, split: Split) -> _Solver:
        assert self.feature_map is not None
        form, features = self.recipe.generative.form, self.feature_map
        n, p = len(split.train), data.recording.n_chans * data.recording.n_times
        dual = form == "dual" or (form == "auto" and n < features.size)
        if dual:
            raw = data.images(split.train)
            ridge = DualRidge(features.kernel(raw), data.signals(split.train))
            cross = features.kernel(data.images(split.validation), raw)
            return _Dual(ridge, cross, lambda: features.weighted(raw))
        statistics = GramStatistics(features.size, p, device=self.device)
        for a, y in _chunks(data, features, split.train):
            statistics.add(a, y)
        few = features(data.images(split.validation))
        chunks = functools.partial(_chunks, data, features)
        some = split.train[:: max(1, -(-n // PROBED_IMAGES))]
        return _Primal(PrimalRidge(statistics), few, lambda: chunks(split.train), lambda: chunks(some))

    def _loo_penalty(self, solver: _Solver) -> float:
        wanted = self.recipe.generative.ridge
        if not isinstance(wanted, str):
            return float(wanted)
        errors = solver.loo_errors(PENALTIES)
        return PENALTIES[errors.index(min(errors))]

    def _tried(self, data: _Data, solver: _Solver, penalty: float, split: Split) -> list[_Tried]:
        """Every setting of penalty and shrinkage, scored on validation."""
        settings = self.recipe.generative
        search = settings.ridge == "validation" and solver.form == "dual"
        signals = data.signals(split.validation)
        tried = []
        for ridge in [penalty * factor for factor in AROUND] if search else [penalty]:
            analytic = settings.shrinkage == "analytic"
            moments = ResidualMoments.of(solver.loo_residuals(ridge), fourth=analytic)
            predictions = solver.validation(ridge)
            if analytic:
                amounts: Sequence[float] = (moments.analytic_shrinkage(),)
            else:
                amounts = SHRINKAGES if isinstance(settings.shrinkage, str) else (float(settings.shrinkage),)
            for amount in amounts:
                density = log_likelihood(signals, predictions, cholesky(shrink(moments.second, amount)))
                tried.append(_Tried({"ridge": ridge, "shrinkage": amount, **identification(density)}, moments))
        return tried

    def _fit_noise(self, recording: Recording, split: Split) -> None:
        assert self.signal_transform is not None
        transform = self.signal_transform

        def flat(signals: NDArray[np.float32]) -> NDArray[np.float64]:
            return transform(torch.from_numpy(signals)).flatten(1).double().numpy()

        self.trial_noise = None
        if self.recipe.generative.trial_noise and has_trials(recording, split.train):
            found = trial_noise_covariance(recording, split.train, flat)
            self.trial_noise = torch.from_numpy(found).float().double().to(self.device)

    def _calibrate(self, data: _Data, trials: Recording, split: Split) -> float:
        """Temperature from validation: each image among all, measured as often as a test query will be."""
        asked, images = self.recipe.evaluation.repetitions, data.targets.of(split.validation)
        if self.trial_noise is None:
            density = self.log_density(data.recording.average(split.validation), images)
            return fit_temperature(torch.from_numpy(density))
        available = trials.repetitions(split.validation)
        enough = available >= (asked or 1)
        ids = [name for name, keep in zip(split.validation, enough, strict=True) if keep]
        if len(ids) < 2:
            text = f"{len(ids)} validation images were shown {asked} times"
            raise InputError(text, where="evaluation.repetitions", hint="ask for fewer")
        counts = [asked or int(n) for n in available[enough]]
        density = self.log_density(trials.average(ids, repetitions=asked), images[enough], repetitions=counts)
        return fit_temperature(torch.from_numpy(density))

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


@dataclass(frozen=True)
class _Data:
    """Signals and image features by stimulus, ready for a linear fit."""

    recording: Recording
    targets: AnyTargets
    transform: SignalTransform
    device: torch.device

    def images(self, ids: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.targets.of(ids)).to(self.device)

    def signals(self, ids: Sequence[str]) -> Tensor:
        values = self.transform(torch.from_numpy(self.recording.average(ids)))
        return values.flatten(1).double().to(self.device)


class _Solver(Protocol):
    """Either form of ridge."""

    @property
    def form(self) -> str:
        """'dual' or 'primal'."""

    def map(self, penalty: float) -> RidgeMap:
        """The fit as a linear map of the features."""

    def validation(self, penalty: float) -> Tensor:
        """Predictions of the validation images, (n, p)."""

    def loo_residuals(self, penalty: float) -> Iterator[Tensor]:
        """Leave-one-out residuals, chunk by chunk."""

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Mean square of the leave-one-out residuals at each penalty."""


@dataclass(frozen=True)
class _Dual:
    """From kernels: the features themselves are gone through only once more, for the map."""

    ridge: DualRidge
    cross: Tensor
    bands: Callable[[], Iterator[Tensor]]
    form: str = "dual"

    def map(self, penalty: float) -> RidgeMap:
        return self.ridge.map(penalty, self.bands())

    def validation(self, penalty: float) -> Tensor:
        return self.ridge.predict(self.cross, penalty)

    def loo_residuals(self, penalty: float) -> Iterator[Tensor]:
        return iter([self.ridge.loo_residuals(penalty)])

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        return [float(self.ridge.loo_residuals(penalty).square().mean()) for penalty in penalties]


@dataclass(frozen=True)
class _Primal:
    """From sums over images: residuals take another pass over them."""

    ridge: PrimalRidge
    few: Tensor
    chunks: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    some: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    form: str = "primal"

    def map(self, penalty: float) -> RidgeMap:
        return self.ridge.map(penalty)

    def validation(self, penalty: float) -> Tensor:
        return self.ridge.map(penalty)(self.few)

    def loo_residuals(self, penalty: float) -> Iterator[Tensor]:
        return self.ridge.loo_residuals(self.chunks(), penalty)

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Of many images and outputs, some: a mean over a hundred thousand residuals is exact enough to rank."""
        outputs = slice(0, None, max(1, len(self.ridge.output_mean) // PROBED_OUTPUTS))
        return self.ridge.loo_errors(self.some(), penalties, outputs)


@dataclass(frozen=True)
class _Tried:
    row: dict[str, float]
    moments: ResidualMoments


def _rounded(fitted: RidgeMap) -> RidgeMap:
    """As a checkpoint keeps it: what is scored now is what is loaded later."""
    return RidgeMap(fitted.coefficients.float().double(), fitted.intercept.float().double())


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _chunks(data: _Data, features: FeatureMap, ids: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    for part in _parts(ids):
        yield features(data.images(part)), data.signals(part)
