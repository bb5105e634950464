"""Image features by stimulus id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError


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
    """

    array: NDArray[Any]
    rows: dict[str, int]
    backbone: str = ""
    layer: str = ""
    pooling: str = ""
    depth: float = float("nan")

    @property
    def dim(self) -> int:
        """Number of features an image."""
        return int(self.array.shape[1])

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
        keep = {name: self.rows[name] for name in stimulus_ids}
        return Targets(self.array, keep, self.backbone, self.layer, self.pooling, self.depth)
