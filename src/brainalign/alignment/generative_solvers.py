"""The ridge fits of a generative aligner behind one protocol, whatever the form and the number of subjects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from brainalign.alignment.feature_map import FeatureMap
from brainalign.alignment.generative_inputs import Inputs
from brainalign.alignment.left_out import LeftOutSubjects
from brainalign.alignment.ridge import DualRidge, GramStatistics, PrimalRidge, RidgeMap

PROBED_IMAGES, PROBED_OUTPUTS = 4096, 64  # of many, those on which a penalty is looked for


class Solver(Protocol):
    """A fit for any penalty, and what it does on images, and of several subjects on a subject, that it left out."""

    @property
    def form(self) -> str:
        """'dual' or 'primal'."""

    def map(self, penalty: float) -> RidgeMap:
        """The fit on all training data as a linear map of the features."""

    def validation(self, penalty: float) -> list[Tensor]:
        """Predictions of the validation images, (n, p), for each subject; of several, without the subject's signals."""

    def loo_residuals(self, penalty: float) -> Iterator[tuple[int, Tensor]]:
        """Residuals (m, p) under fits without the image, and of several subjects without the subject, chunk by chunk,
        each with the number of its subject.
        """

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Mean square of those residuals at each penalty."""


def build_solver(form: str, data: Inputs, features: FeatureMap) -> Solver:
    """The solver of the smaller form, or of the one that is asked for ('dual' or 'primal')."""
    n = len(data.train)
    dual = form == "dual" or (form == "auto" and n < features.size)
    if len(data.recordings) > 1:
        return LeftOutSubjects(data, features, "dual" if dual else "primal", PROBED_IMAGES, PROBED_OUTPUTS)
    if dual:
        raw = data.images(data.train)
        ridge = DualRidge(features.kernel(raw), data.signals(data.train))
        cross = features.kernel(data.images(data.validation), raw)
        return _Dual(ridge, cross, lambda: features.weighted(raw))
    statistics = GramStatistics(features.size, data.n_outputs, device=data.device)
    for a, y in data.chunks(features, data.train):
        statistics.add(a, y)
    few = features(data.images(data.validation))
    chunks = functools.partial(data.chunks, features)
    some = data.train[:: max(1, -(-n // PROBED_IMAGES))]
    return _Primal(PrimalRidge(statistics), few, lambda: chunks(data.train), lambda: chunks(some))


@dataclass(frozen=True)
class _Dual:
    """From kernels: the features themselves are gone through only once more, for the map."""

    ridge: DualRidge
    cross: Tensor
    bands: Callable[[], Iterator[Tensor]]
    form: str = "dual"

    def map(self, penalty: float) -> RidgeMap:
        return self.ridge.map(penalty, self.bands())

    def validation(self, penalty: float) -> list[Tensor]:
        return [self.ridge.predict(self.cross, penalty)]

    def loo_residuals(self, penalty: float) -> Iterator[tuple[int, Tensor]]:
        return iter([(0, self.ridge.loo_residuals(penalty))])

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

    def validation(self, penalty: float) -> list[Tensor]:
        return [self.ridge.map(penalty)(self.few)]

    def loo_residuals(self, penalty: float) -> Iterator[tuple[int, Tensor]]:
        return ((0, residuals) for residuals in self.ridge.loo_residuals(self.chunks(), penalty))

    def loo_errors(self, penalties: Sequence[float]) -> list[float]:
        """Of many images and outputs, some: a mean over a hundred thousand residuals is exact enough to rank."""
        outputs = slice(0, None, max(1, len(self.ridge.output_mean) // PROBED_OUTPUTS))
        return self.ridge.loo_errors(self.some(), penalties, outputs)
