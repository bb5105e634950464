r"""Ridge regression from signals to image features: the linear baseline, in closed form.

.. math:: \min_{B, b} \sum_i \lVert \varphi(x_i) - B^\top y_i - b \rVert^2 + \lambda \lVert B \rVert^2

for signals y and standardised features of the images x that evoked them (Hoerl & Kennard 1970, Technometrics 12:55). A
signal is identified by the cosine, or the correlation, between what it predicts and the features of each image of the
gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainalign.alignment.calibration import identification
from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.closed_form import ClosedForm
from brainalign.alignment.generative_choice import PENALTIES, common_temperature
from brainalign.alignment.preparation import Preparation
from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge, RidgeMap
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress
from brainalign.alignment.transforms import BandTransform, SignalTransform
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

SCHEMA = "brainalign.ridge/1"
CHUNK = 2048
TINY = 1e-12


class RidgeAligner(ClosedForm):
    """A linear map from signals to image features.

    Parameters
    ----------
    recipe : Recipe
        Of family `ridge`, with one layer or a mixture, and one pooling.
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
    >>> aligner = RidgeAligner(load_recipe("ridge", modality="fmri").with_target(layer=0, pooling="mean"))
    >>> fit = aligner.fit([recording], {"image": Targets(x, {n: r for r, n in enumerate(ids)})}, split)
    >>> aligner.similarity(x[32:, :, None], {"image": x[32:]}).argmax(1).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed = recipe, seed
        self.device = torch.device(device)
        self.signal_transform: SignalTransform | None = None
        self.target_transform: BandTransform | None = None
        self.map: RidgeMap | None = None
        self.scale = 1.0
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
        """Fit on the split's training stimuli, choose the penalty on its validation stimuli.

        Parameters
        ----------
        recordings : sequence of Recording
            One a training subject; their signals are pooled. Subjects may have seen different stimuli.
        features : mapping
            The bank named `image`.
        split : Split
        noise : array of shape (n_chans, n_chans), optional
            For whitening, see `Preparation`.
        trials, checkpoint : optional
            Not used: trials are told apart by nothing here, and a fit takes seconds.

        Returns
        -------
        Fit
            Its history has a row for each penalty: ridge (in units of the mean squared length of a centred training
            signal), and how it did on validation, the mean over subjects.

        Raises
        ------
        InputError
            If there is no recording, subjects differ in channels or samples, a stimulus has no features, there are
            fewer than three training signals, or no subject has two validation images.
        """
        subjects = [select_signals(recording, self.recipe.signals) for recording in recordings]
        data = Preparation(subjects, split, self.device, noise)
        signals, targets = data.signals(self.recipe), data.targets(self.recipe, features["image"])
        self.signal_transform, self.target_transform = signals.transform, targets.transform
        x, y = signals.training.flatten(1), targets.training
        rows = data.rows("training", self.recipe)
        solver = _Solver(x, y if rows is None else y[rows.images])
        parts = _of_subjects(data, self.recipe, signals.validation.flatten(1), targets.validation)
        history, scales, best = [], [], 0
        for number, penalty in enumerate(self._penalties(solver)):
            fitted = solver.map(penalty)
            cosines = [self._compare(fitted(shown.double()), images) for shown, images in parts]
            scale = common_temperature([c / self.recipe.objective.temperature for c in cosines])
            scales.append(scale / self.recipe.objective.temperature)
            scores = [identification(scales[-1] * cosine) for cosine in cosines]
            history.append({"ridge": penalty, **{k: float(np.mean([s[k] for s in scores])) for k in scores[0]}})
            best = min(best, number, key=lambda at: history[at]["validation_loss"])
        kept = solver.map(history[best]["ridge"])
        # As a checkpoint keeps it: what is scored now is what is loaded later.
        self.map = RidgeMap(kept.coefficients.float().double(), kept.intercept.float().double())
        self.scale = scales[best]
        self.facts = _describe(data, features["image"], history[best]["ridge"], solver)
        return Fit(history, best + 1)

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: Any = None
    ) -> NDArray[np.float32]:
        """Cosine (or correlation) of predicted and shown features, times the factor fitted on validation.

        Parameters
        ----------
        signals : array of shape (n_signals, n_chans, n_times)
            Channels and samples already selected, as `select_signals` gives them.
        images : mapping
            `image`: features of the gallery, (n_images, dim).
        repetitions : optional
            Not used: a linear map takes an average as it comes.

        Returns
        -------
        array of shape (n_signals, n_images), float32
            A softmax over images is the probability of each under a flat prior.

        Raises
        ------
        InputError
            If the features have another number of columns than those trained with.
        """
        _, features, _ = self._fitted()
        gallery = images["image"]
        if gallery.ndim != 2 or gallery.shape[1] != sum(features.dims):
            raise InputError(f"image features have shape {gallery.shape}, expected (n, {sum(features.dims)})")
        shown = torch.cat([
            features(torch.from_numpy(np.asarray(gallery[i : i + CHUNK], np.float32)).to(self.device))
            for i in range(0, len(gallery), CHUNK)
        ])  # fmt: skip
        predicted = torch.from_numpy(self.predict_features(signals)).to(self.device)
        found: NDArray[np.float32] = (self.scale * self._compare(predicted, shown)).float().cpu().numpy()
        return found

    def predict_features(self, signals: NDArray[Any]) -> NDArray[np.float64]:
        """Standardised image features that signals (n, n_chans, n_times) point at, (n, dim).

        Raises
        ------
        InputError
            If the signals have another number of channels or samples than those trained with.
        """
        transform, _, linear = self._fitted()
        expected = (self.facts["n_chans"], self.facts["n_times"])
        if signals.ndim != 3 or signals.shape[1:] != expected:
            raise InputError(f"signals have shape {signals.shape}, expected (n, {expected[0]}, {expected[1]})")
        parts = [
            linear(transform(torch.from_numpy(np.asarray(signals[i : i + CHUNK], np.float32)).to(self.device))
                   .flatten(1).double())
            for i in range(0, len(signals), CHUNK)
        ]  # fmt: skip
        found: NDArray[np.float64] = torch.cat(parts).cpu().numpy()
        return found

    @property
    def layer_weights(self) -> list[float] | None:
        """Layers of a mixture stand side by side with no weights of their own."""
        return None

    def save(self, path: str | Path) -> None:
        """Write the map, both transforms and the recipe as one safetensors file."""
        transform, features, linear = self._fitted()
        tensors = {f"signal.{k}": v for k, v in transform.tensors().items()}
        tensors |= {f"target.{k}": v for k, v in features.tensors().items()}
        tensors |= {"map.coefficients": linear.coefficients.float(), "map.intercept": linear.intercept.float()}
        facts = {"schema": SCHEMA, "recipe": self.recipe.model_dump(mode="json"), "seed": self.seed,
                 "shape": self.facts, "scale": self.scale}  # fmt: skip
        save_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> RidgeAligner:
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
            aligner.target_transform = BandTransform.from_tensors(saved.parts["target"])
            aligner.map = RidgeMap(
                *(saved.parts["map"][k].double().to(aligner.device) for k in ("coefficients", "intercept"))
            )
            aligner.facts, aligner.scale = saved.facts["shape"], float(saved.facts["scale"])
            aligner._check_sizes()
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"tensors do not fit the recipe ({error})", where=path, hint="train again") from error
        return aligner

    def _check_sizes(self) -> None:
        """Refuse tensors of a file that do not belong together, before they meet a signal."""
        transform, features, linear = self._fitted()
        zeros = torch.zeros(1, self.facts["n_chans"], self.facts["n_times"], device=self.device)
        predicted = linear(transform(zeros).flatten(1).double())
        if predicted.shape[1] != features(torch.zeros(1, sum(features.dims), device=self.device)).shape[1]:
            raise ValueError(f"the map leads to {predicted.shape[1]} features")

    def _penalties(self, solver: _Solver) -> Sequence[float]:
        """Penalties to try on validation."""
        wanted = self.recipe.ridge.penalty
        if wanted == "loo":
            errors = solver.loo_errors(PENALTIES)
            return (PENALTIES[errors.index(min(errors))],)
        return PENALTIES if wanted == "validation" else (float(wanted),)

    def _compare(self, predicted: Tensor, shown: Tensor) -> Tensor:
        """Cosine or correlation of rows, (n, dim) and (m, dim) to (n, m) float64."""
        centre = self.recipe.ridge.score == "correlation"
        return _unit(predicted.double(), centre) @ _unit(shown.double(), centre).T

    def _fitted(self) -> tuple[SignalTransform, BandTransform, RidgeMap]:
        held = (self.signal_transform, self.target_transform, self.map)
        if any(part is None for part in held):
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        return held  # type: ignore[return-value]


class _Solver:
    """The ridge problem in whichever form is smaller; penalties in units of the mean squared length of a signal."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        n, p = x.shape
        self.form = "primal" if p <= n else "dual"
        self.unit = max(float(x.double().var(0, correction=0).sum()), TINY)
        if self.form == "primal":
            sums = GramStatistics(p, y.shape[1], device=x.device)
            for rows, outputs in self._chunks():
                sums.add(rows, outputs)
            self.solver: PrimalRidge | DualRidge = PrimalRidge(sums)
        else:
            self.solver = DualRidge.of_features(x, y)

    def _chunks(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(torch.split(self.x, CHUNK), torch.split(self.y, CHUNK), strict=True))

    def map(self, penalty: float) -> RidgeMap:
        """The fit at a penalty."""
        if isinstance(self.solver, PrimalRidge):
            return self.solver.map(self.unit * penalty)
        return self.solver.map(self.unit * penalty, [self.x])

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Mean squared leave-one-out residual at each penalty."""
        asked = [self.unit * penalty for penalty in penalties]
        if isinstance(self.solver, PrimalRidge):
            return self.solver.loo_errors(self._chunks(), asked)
        return [float(self.solver.loo_residuals(penalty).square().mean()) for penalty in asked]


def _of_subjects(data: Preparation, recipe: Recipe, signals: Tensor, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Validation signals of each subject, and the features of the images they showed: each scored by itself."""
    rows = data.rows("validation", recipe)
    if rows is None:
        found = [(signals, images)]
    else:
        found = [
            (signals[rows.subjects == number], images[rows.images[rows.subjects == number]])
            for number in range(data.n_subjects)
        ]
    found = [part for part in found if len(part[0]) > 1]
    if not found:
        raise InputError("no training subject has signals of two validation images", hint="choose on others")
    return found


def _describe(data: Preparation, targets: AnyTargets, penalty: float, solver: _Solver) -> dict[str, Any]:
    first = data.recording
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
        "ridge": penalty,
        "penalty": penalty * solver.unit,
        "form": solver.form,
        "n_training_signals": len(solver.x),
    }


def _unit(rows: Tensor, centre: bool) -> Tensor:
    if centre:
        rows = rows - rows.mean(1, keepdim=True)
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(TINY)
    return unit
