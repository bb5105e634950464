"""Image features by stimulus id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.recipes.recipe import MIXTURE_MARK


@dataclass(frozen=True)
class Targets:
    """Rows of a feature bank joined with stimulus ids.

    Attributes
    ----------
    array : array of shape (n_images, dim)
        Often a memory map.
    rows : dict
        From stimulus id to row.
    layer, pooling, backbone : str
    depth : float
        Relative depth of the layer, 0 to 1.
    weights : str
        sha256 of the backbone's weights; empty where it is not known.
    """

    array: NDArray[Any]
    rows: dict[str, int]
    backbone: str = ""
    layer: str = ""
    pooling: str = ""
    depth: float = float("nan")
    weights: str = ""

    @property
    def dim(self) -> int:
        """Number of features an image."""
        return int(self.array.shape[1])

    @property
    def bands(self) -> tuple[Targets, ...]:
        """The single layer, as a mixture of one."""
        return (self,)

    def of(self, stimulus_ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of some stimuli, (n, dim) float32.

        Raises
        ------
        InputError
            If a stimulus has no features.
        """
        try:
            rows = np.fromiter((self.rows[name] for name in stimulus_ids), dtype=np.intp, count=len(stimulus_ids))
        except KeyError as error:
            raise InputError(f"no features of stimulus {error}", hint="run `brainalign features` again") from None
        order = np.argsort(rows, kind="stable")  # reads a memory map forwards
        result = np.empty((len(rows), self.dim), dtype=np.float32)
        result[order] = self.array[rows[order]]
        return result

    def restrict(self, stimulus_ids: Iterable[str]) -> Targets:
        """The same features, reachable only for some stimuli."""
        return replace(self, rows={name: self.rows[name] for name in stimulus_ids})

    def dealt(self, partner: Mapping[str, str]) -> Targets:
        """The same features with some stimuli standing for others (control: pairs dealt anew)."""
        return replace(self, rows=self.rows | {name: self.rows[other] for name, other in partner.items()})


@dataclass(frozen=True)
class MixedTargets:
    """Features of several layers side by side: a mixture of layers.

    Attributes
    ----------
    bands : tuple of Targets
        One a layer, of the same stimuli.
    """

    bands: tuple[Targets, ...]

    @property
    def dim(self) -> int:
        """Number of features an image, all layers together."""
        return sum(band.dim for band in self.bands)

    @property
    def backbone(self) -> str:
        """Of the layers; several with a `+` between them."""
        return MIXTURE_MARK.join(dict.fromkeys(band.backbone for band in self.bands))

    @property
    def layer(self) -> str:
        """Names of the layers with `+` between them."""
        return MIXTURE_MARK.join(band.layer for band in self.bands)

    @property
    def pooling(self) -> str:
        """The pooling asked for; layer `final` has its own."""
        names = dict.fromkeys(band.pooling for band in self.bands if band.pooling != "final")
        return MIXTURE_MARK.join(names) or "final"

    @property
    def depth(self) -> float:
        """Mean relative depth of the layers."""
        return float(np.mean([band.depth for band in self.bands]))

    def of(self, stimulus_ids: Sequence[str]) -> NDArray[np.float32]:
        """Features of some stimuli, layer beside layer, (n, dim) float32; see `Targets.of`."""
        return np.concatenate([band.of(stimulus_ids) for band in self.bands], axis=1)

    def restrict(self, stimulus_ids: Iterable[str]) -> MixedTargets:
        """The same features, reachable only for some stimuli."""
        names = list(stimulus_ids)
        return MixedTargets(tuple(band.restrict(names) for band in self.bands))

    def dealt(self, partner: Mapping[str, str]) -> MixedTargets:
        """The same features with some stimuli standing for others."""
        return MixedTargets(tuple(band.dealt(partner) for band in self.bands))


AnyTargets = Targets | MixedTargets
