r"""Ridge regression with an intercept that is not shrunk, and its exact leave-one-out residuals, in float64.

.. math:: \min_{B, b} \sum_i \lVert y_i - B^\top a_i - b \rVert^2 + \lambda \lVert B \rVert^2

Both forms take one decomposition and then any penalty at the cost of matrix products. With H the matrix that maps the
signals to the fitted values, the residual of image i under the fit without it is
:math:`(y_i - \hat y_i) / (1 - H_{ii})` (Allen 1974, PRESS), for both forms the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from brainalign.alignment.covariance import add_products, mirror
from brainalign.errors import InputError

Chunks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
FLOOR = 1e-12  # leverage is at most 1 - this: a single image that fixes a coefficient has no residual of its own


@dataclass(frozen=True)
class RidgeMap:
    """A linear map with an intercept.

    Attributes
    ----------
    coefficients : Tensor of shape (n_features, n_outputs)
    intercept : Tensor of shape (n_outputs,)
    """

    coefficients: Tensor
    intercept: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Predict, (n, n_features) to (n, n_outputs)."""
        return features @ self.coefficients + self.intercept


class DualRidge:
    """The form for fewer images than features: one eigendecomposition of the (n, n) kernel.

    Parameters
    ----------
    kernel : Tensor of shape (n, n)
        Inner products of the images' features, not centred.
    outputs : Tensor of shape (n, n_outputs)

    Raises
    ------
    InputError
        If the two do not belong together, or there are fewer than three images.
    """

    def __init__(self, kernel: Tensor, outputs: Tensor) -> None:
        _check(kernel, outputs)
        self.kernel, y = kernel.double(), outputs.double()
        self.output_mean = y.mean(0)
        self._y = y - self.output_mean
        rows = self.kernel.mean(0)
        values, self._u = torch.linalg.eigh(self.kernel - rows - rows[:, None] + rows.mean())
        self._s = _above_rounding(values)
        self._uy = self._u.T @ self._y

    @classmethod
    def of_features(cls, features: Tensor, outputs: Tensor) -> DualRidge:
        """From features (n, n_features)."""
        a = features.double()
        return cls(a @ a.T, outputs)

    def leverage(self, penalty: float) -> Tensor:
        """Diagonal of H, (n,)."""
        found: Tensor = 1 / len(self._s) + self._u.square() @ (self._s / (self._s + penalty))
        return found

    def loo_residuals(self, penalty: float) -> Tensor:
        """Residual of each image under the fit without it, (n, n_outputs)."""
        fitted = self._u @ ((self._s / (self._s + penalty))[:, None] * self._uy)
        residuals: Tensor = (self._y - fitted) / (1 - self.leverage(penalty)).clamp_min(FLOOR)[:, None]
        return residuals

    def weights(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Weights of the images (n, n_outputs), each column summing to 0, and the intercept (n_outputs,)."""
        weights = self._u @ (self._uy / (self._s + penalty)[:, None])
        weights = weights - weights.mean(0)  # 0 but for rounding, which a small penalty and a large mean would magnify
        return weights, self.output_mean - self.kernel.mean(0) @ weights

    def predict(self, cross: Tensor, penalty: float) -> Tensor:
        """Predict from inner products with the training images, (m, n) to (m, n_outputs)."""
        weights, intercept = self.weights(penalty)
        return cross.double() @ weights + intercept

    def map(self, penalty: float, features: Iterable[Tensor]) -> RidgeMap:
        """The same fit as a linear map of the features, which come in parts (n, some features) side by side."""
        weights, intercept = self.weights(penalty)
        return RidgeMap(torch.cat([part.double().T @ weights for part in features]), intercept)


class GramStatistics:
    """Sums that fix a ridge fit; memory does not depend on the number of images.

    Parameters
    ----------
    n_features, n_outputs : int
    device : torch.device or str
    """

    def __init__(self, n_features: int, n_outputs: int, *, device: torch.device | str = "cpu") -> None:
        make = {"dtype": torch.float64, "device": device}
        self.n = 0
        self.features = torch.zeros(n_features, **make)  # type: ignore[call-overload]
        self.outputs = torch.zeros(n_outputs, **make)  # type: ignore[call-overload]
        self.gram = torch.zeros(n_features, n_features, **make)  # type: ignore[call-overload]
        self.cross = torch.zeros(n_features, n_outputs, **make)  # type: ignore[call-overload]

    def add(self, features: Tensor, outputs: Tensor) -> GramStatistics:
        """Take more images in: (m, n_features) and (m, n_outputs)."""
        a, y = features.double(), outputs.double()
        self.n += len(a)
        self.features += a.sum(0)
        self.outputs += y.sum(0)
        add_products(self.gram, a)
        mirror(self.gram)
        self.cross.addmm_(a.T, y)
        return self

    def merge(self, other: GramStatistics) -> GramStatistics:
        """Take in the sums of another part of the data (a session, a subject, more repetitions)."""
        self.n += other.n
        for name in ("features", "outputs", "gram", "cross"):
            getattr(self, name).add_(getattr(other, name))
        return self


class PrimalRidge:
    """The form for more images than features: one eigendecomposition of the (n_features, n_features) Gram matrix.

    Parameters
    ----------
    statistics : GramStatistics

    Raises
    ------
    InputError
        If there are fewer than three images.
    """

    def __init__(self, statistics: GramStatistics) -> None:
        if statistics.n < 3:
            raise _too_few(statistics.n)
        self.n = statistics.n
        self.feature_mean, self.output_mean = statistics.features / self.n, statistics.outputs / self.n
        gram = statistics.gram - self.n * torch.outer(self.feature_mean, self.feature_mean)
        cross = statistics.cross - self.n * torch.outer(self.feature_mean, self.output_mean)
        values, self._v = torch.linalg.eigh(gram)
        self._s = _above_rounding(values)
        self._vy = self._v.T @ cross
        self._latest: tuple[float, RidgeMap] | None = None

    def leverage(self, features: Tensor, penalty: float) -> Tensor:
        """Diagonal of H for some of the images, (m, n_features) to (m,)."""
        projected = (features.double() - self.feature_mean) @ self._v
        found: Tensor = 1 / self.n + projected.square() @ (1 / (self._s + penalty))
        return found

    def map(self, penalty: float) -> RidgeMap:
        """The fit on all images. The latest is kept: predictions, residuals and the caller ask for the same one."""
        if self._latest is None or self._latest[0] != penalty:
            weights = self._v @ (self._vy / (self._s + penalty)[:, None])
            self._latest = penalty, RidgeMap(weights, self.output_mean - self.feature_mean @ weights)
        return self._latest[1]

    def loo_errors(
        self, chunks: Iterable[tuple[Tensor, Tensor]], penalties: Sequence[float], outputs: slice = slice(None)
    ) -> list[float]:
        """Mean squared leave-one-out residual at each penalty over the images that come, of all outputs or some.

        Images are projected on the eigenvectors once, for all penalties.
        """
        gains = [1 / (self._s + penalty) for penalty in penalties]
        totals, count = [0.0] * len(gains), 0
        for features, signals in chunks:
            projected = (features.double() - self.feature_mean) @ self._v
            y = signals[:, outputs].double() - self.output_mean[outputs]
            room = (1 - 1 / self.n - projected.square() @ torch.stack(gains, 1)).clamp_min(FLOOR)
            for number, gain in enumerate(gains):
                residuals = (y - projected @ (gain[:, None] * self._vy[:, outputs])) / room[:, number, None]
                totals[number] += float(residuals.square().sum())
            count += y.numel()
        return [total / count for total in totals]

    def loo_residuals(self, chunks: Iterable[tuple[Tensor, Tensor]], penalty: float) -> Iterator[Tensor]:
        """Residuals of each image under the fit without it, chunk by chunk, from a second pass over the images."""
        fitted = self.map(penalty)
        for features, outputs in chunks:
            room = (1 - self.leverage(features, penalty)).clamp_min(FLOOR)
            yield (outputs.double() - fitted(features.double())) / room[:, None]


def _check(features: Tensor, outputs: Tensor) -> None:
    if features.ndim != 2 or outputs.ndim != 2 or len(features) != len(outputs):
        raise InputError(f"ridge needs one row of outputs a row of features, got {tuple(features.shape)} and "
                         f"{tuple(outputs.shape)}")  # fmt: skip
    if len(features) < 3:
        raise _too_few(len(features))


def _above_rounding(values: Tensor) -> Tensor:
    """Eigenvalues, with 0 for those that are 0 but for rounding: beside a small penalty they would count."""
    return torch.where(values > len(values) * torch.finfo(values.dtype).eps * values.max(), values, 0.0)


def _too_few(n: int) -> InputError:
    return InputError(f"{n} training images are too few to leave one out", hint="add images")
