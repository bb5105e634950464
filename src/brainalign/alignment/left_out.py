r"""One map for several subjects, and what it does on a subject and on an image that both were left out of it.

.. math:: \min_{B, b} \sum_i w_i \lVert \bar y_i - B^\top a_i - b \rVert^2 + \lambda \lVert B \rVert^2

is, up to a constant, the ridge problem of all subjects' rows: an image counts once, by the mean of the subjects who
saw it, with their number as its weight (here brought to mean 1, so that a penalty means the same for any number of
subjects). Leaving a subject out changes weights and means only. Where all saw the same images not even the weights
change: one decomposition serves every left-out subject and every penalty.

With W the sum of the weights, A the centred features and
:math:`h_i = w_i (1/W + a_i^\top (A^\top w A + \lambda)^{-1} a_i)` the prediction of image i without any of its signals
is :math:`\bar y_i - (\bar y_i - \hat y_i) / (1 - h_i)`, the identity of `ridge`. What a left-out subject's own signal
differs from it by holds all that a new subject's will: noise, what the features do not explain, and how subjects
differ. `group` is the model for subjects whose departures are to be learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from brainalign.alignment.covariance import add_products, mirror
from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.generative_inputs import Inputs
from brainalign.alignment.ridge import FLOOR, RidgeMap
from brainalign.errors import InputError


@dataclass(frozen=True)
class Basis:
    """Principal coordinates of weighted images, of their features (primal) or of their rows of the kernel (dual).

    Attributes
    ----------
    values : Tensor of shape (r,)
        Weighted sum of squares along each direction; those that are 0 but for rounding are left out.
    mean : Tensor of shape (d,)
        Weighted mean of the rows.
    vectors : Tensor of shape (d, r)
    """

    values: Tensor
    mean: Tensor
    vectors: Tensor

    @classmethod
    def of_gram(cls, gram: Tensor, sums: Tensor, total: float) -> Basis:
        """From weighted sums over images: products (d, d), features (d,) and the weights themselves."""
        mean = sums / total
        values, vectors = torch.linalg.eigh(gram - total * torch.outer(mean, mean))
        keep = _above_rounding(values)
        return cls(values[keep], mean, vectors[:, keep])

    @classmethod
    def of_kernel(cls, kernel: Tensor, weights: Tensor) -> Basis:
        """From inner products of images (n, n), not centred, and their weights (n,)."""
        mean = weights @ kernel / weights.sum()
        centred = kernel - mean - mean[:, None] + weights @ mean / weights.sum()
        root = weights.sqrt()
        values, left = torch.linalg.eigh(root[:, None] * centred * root)
        keep = _above_rounding(values)
        # A direction in feature space is a sum over images; its weights sum to 0, so rows need no further centring.
        return cls(values[keep], mean, root[:, None] * left[:, keep] / values[keep].sqrt())

    def __call__(self, rows: Tensor) -> Tensor:
        """Coordinates of images, (m, d) to (m, r)."""
        found: Tensor = (rows - self.mean) @ self.vectors
        return found


@dataclass
class _Fold:
    """The fit on some of the subjects."""

    basis: int
    counts: Tensor  # subjects by image, (n,)
    weights: Tensor  # the same, mean 1 over the images that have any
    mean: Tensor  # of the outputs, (p,)
    products: Tensor  # of coordinates and outputs, (r, p)
    total: float = field(init=False)

    def __post_init__(self) -> None:
        self.total = float(self.weights.sum())

    def predict(self, coordinates: Tensor, gain: Tensor, outputs: slice = slice(None)) -> Tensor:
        found: Tensor = self.mean[outputs] + (coordinates * gain) @ self.products[:, outputs]
        return found

    def room(self, places: Tensor, coordinates: Tensor, gain: Tensor) -> Tensor:
        leverage = 1 / self.total + coordinates.square() @ gain
        return (1 - self.weights[places] * leverage).clamp_min(FLOOR)

    def average(self, places: Tensor, signals: Tensor) -> Tensor:
        """Mean of summed signals; 0 where nobody is left, which no weight and no residual takes up."""
        return signals / self.counts[places].clamp_min(1)[:, None]


class LeftOutSubjects:
    """Ridge on the signals of several subjects; a `Solver` whose residuals leave out subject and image.

    Parameters
    ----------
    data : Inputs
        Two recordings or more.
    features : FeatureMap
    form : {'dual', 'primal'}
        Kernel of images, or sums over images.
    probed_images, probed_outputs : int
        At most about so many, evenly spaced, are looked at where a penalty is looked for.

    Raises
    ------
    InputError
        If fewer than three images are left without a subject.
    """

    def __init__(
        self, data: Inputs, features: FeatureMap, form: str, probed_images: int = 4096, probed_outputs: int = 64
    ) -> None:
        self.data, self.features, self.form = data, features, form
        self._every = max(1, -(-len(data.train) // probed_images))
        self._outputs = slice(0, None, max(1, data.n_outputs // probed_outputs))
        self._raw = data.images(data.train) if form == "dual" else torch.empty(0)
        self._kernel = features.kernel(self._raw) if form == "dual" else torch.empty(0)
        self._seen = data.seen(data.train)
        everybody = self._seen.sum(0)
        counts = torch.stack([everybody, *(everybody - one.long() for one in self._seen)]).double()
        self._check(counts)
        # Products of whole numbers first: equal shares are then equal to the last digit.
        weights = counts * (counts > 0).sum(1, keepdim=True) / counts.sum(1, keepdim=True)
        patterns, which = torch.unique(weights, dim=0, return_inverse=True)
        self._bases = self._decompose(patterns)
        self._folds = [
            self._empty(int(basis), count, weight) for basis, count, weight in zip(which, counts, weights, strict=True)
        ]
        self._add_signals()

    def map(self, penalty: float) -> RidgeMap:
        """The fit on all subjects."""
        fold = self._folds[0]
        basis = self._bases[fold.basis]
        weights = basis.vectors @ (fold.products / (basis.values + penalty)[:, None])
        intercept = fold.mean - basis.mean @ weights
        if self.form == "dual":
            weights = torch.cat([part.T @ weights for part in self.features.weighted(self._raw)])
        return RidgeMap(weights, intercept)

    def validation(self, penalty: float) -> list[Tensor]:
        """Predictions of all validation images, (n, p), without each subject in turn."""
        raw = self.data.images(self.data.validation)
        rows = self.features.kernel(raw, self._raw) if self.form == "dual" else self.features(raw)
        coordinates = self._coordinates(rows)
        return [fold.predict(coordinates[fold.basis], self._gain(fold, penalty)) for fold in self._folds[1:]]

    def loo_residuals(self, penalty: float) -> Iterator[tuple[int, Tensor]]:
        """Residuals of every signal under the fit without its subject and its image, some images after others.

        Yields
        ------
        tuple
            Number of the subject, and its residuals (m, p) of those of the images that it saw.
        """
        for places, rows in self._chunks():
            coordinates, signals = self._coordinates(rows), self._signals(places)
            for number, fold, mean in self._means(places, signals):
                known, gain = coordinates[fold.basis], self._gain(fold, penalty)
                without = (mean - fold.predict(known, gain)) / fold.room(places, known, gain)[:, None]
                yield number, (signals[number] - mean + without)[self._seen[number, places]]

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Mean square of those residuals at each penalty, on some of the images and outputs."""
        totals, count = [0.0] * len(penalties), 0
        for places, rows in self._chunks(self._every):
            coordinates, signals = self._coordinates(rows), self._signals(places)[:, :, self._outputs]
            for number, fold, mean in self._means(places, signals):
                known, seen = coordinates[fold.basis], self._seen[number, places]
                count += int(seen.sum()) * mean.shape[1]
                for at, penalty in enumerate(penalties):
                    gain = self._gain(fold, penalty)
                    error = mean - fold.predict(known, gain, self._outputs)
                    residuals = signals[number] - mean + error / fold.room(places, known, gain)[:, None]
                    totals[at] += float(residuals[seen].square().sum())
        return [total / count for total in totals]

    def _check(self, counts: Tensor) -> None:
        left = (counts > 0).sum(1).tolist()
        for recording, n in zip(self.data.recordings, left[1:], strict=True):
            if n < 3:
                text = f"without subject {recording.subject} {n} training images have a signal"
                raise InputError(text, hint="add images, or another subject")

    def _decompose(self, patterns: Tensor) -> list[Basis]:
        if self.form == "dual":
            return [Basis.of_kernel(self._kernel, weights) for weights in patterns]
        size = self.features.size
        grams = torch.zeros(len(patterns), size, size, dtype=torch.float64, device=self.data.device)
        sums = grams.new_zeros(len(patterns), size)
        for places, rows in self._chunks():
            for gram, total, weights in zip(grams, sums, patterns, strict=True):
                share = weights[places]
                add_products(gram, share.sqrt()[:, None] * rows)
                total += share @ rows
        weighed = [float(weights.sum()) for weights in patterns]
        return [Basis.of_gram(mirror(gram), one, total) for gram, one, total in zip(grams, sums, weighed, strict=True)]

    def _empty(self, basis: int, counts: Tensor, weights: Tensor) -> _Fold:
        mean = weights.new_zeros(self.data.n_outputs)
        return _Fold(basis, counts, weights, mean, mean.new_zeros(len(self._bases[basis].values), len(mean)))

    def _add_signals(self) -> None:
        for places, rows in self._chunks():
            coordinates, signals = self._coordinates(rows, everybody=True), self._signals(places)
            self._add_mean(self._folds[0], places, coordinates, self._folds[0].average(places, signals.sum(0)))
            for _, fold, mean in self._means(places, signals):
                self._add_mean(fold, places, coordinates, mean)

    @staticmethod
    def _add_mean(fold: _Fold, places: Tensor, coordinates: dict[int, Tensor], mean: Tensor) -> None:
        weighted = fold.weights[places][:, None] * mean
        fold.mean += weighted.sum(0) / fold.total
        fold.products.addmm_(coordinates[fold.basis].T, weighted)

    def _chunks(self, every: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Places of some images after others, and their rows: features or kernel."""
        places = torch.arange(0, len(self.data.train), every, device=self.data.device)
        for some in torch.split(places, max(1, self.data.chunk // len(self.data.recordings))):
            if self.form == "dual":
                yield some, self._kernel[some]
            else:
                yield some, self.features(self.data.images(self._names(some)))

    def _signals(self, places: Tensor) -> Tensor:
        """Of every subject, (n_subjects, m, p); 0 where it did not see the image."""
        found = torch.zeros(len(self._seen), len(places), self.data.n_outputs, dtype=torch.float64)
        found = found.to(self.data.device)
        for number, seen in enumerate(self._seen[:, places]):
            if bool(seen.any()):
                found[number, seen] = self.data.of_subject(number, self._names(places[seen]))
        return found

    def _means(self, places: Tensor, signals: Tensor) -> Iterator[tuple[int, _Fold, Tensor]]:
        """Each subject, the fit without it, and the mean signals of all others."""
        total = signals.sum(0)
        for number, fold in enumerate(self._folds[1:]):
            yield number, fold, fold.average(places, total - signals[number])

    def _coordinates(self, rows: Tensor, *, everybody: bool = False) -> dict[int, Tensor]:
        """In every basis that a fold needs."""
        wanted = {fold.basis for fold in (self._folds if everybody else self._folds[1:])}
        return {basis: self._bases[basis](rows) for basis in wanted}

    def _gain(self, fold: _Fold, penalty: float) -> Tensor:
        return 1 / (self._bases[fold.basis].values + penalty)

    def _names(self, places: Tensor) -> list[str]:
        return [self.data.train[place] for place in places.tolist()]


def _above_rounding(values: Tensor) -> Tensor:
    """Which eigenvalues are not 0 but for rounding: beside a small penalty the others would count."""
    keep: Tensor = values > len(values) * torch.finfo(values.dtype).eps * values.max()
    return keep
