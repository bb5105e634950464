"""What a layer gives: a map or tokens, where its channels are, how wide each pooling is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.features.pooling import check_pooling


@dataclass(frozen=True)
class FeatureShape:
    """Shape of one layer's output for one image.

    Attributes
    ----------
    layout : {'NCHW', 'NHWC', 'NLC', 'NC'}
        NC is a vector, as layer `final` gives.
    channels : int
    n_prefix_tokens : int
        Tokens ahead of the grid.
    has_class_token : bool
    has_grid : bool
        Whether the layer can be seen as a picture of features.
    """

    layout: str
    channels: int
    n_prefix_tokens: int = 0
    has_class_token: bool = False
    has_grid: bool = True

    def dim(self, pooling: str) -> int:
        """Width of a pooled vector.

        Raises
        ------
        InputError
            If the layer cannot be pooled so.

        Examples
        --------
        >>> FeatureShape("NCHW", 320).dim("grid4")
        5120
        """
        side = check_pooling(pooling)
        if (self.layout == "NC") != (pooling == "final"):
            raise InputError("pooling 'final' belongs to layer 'final', and only to it", hint="use cls, mean or grid4")
        if pooling == "cls" and not self.has_class_token:
            raise InputError("this layer has no class token", where="pooling cls", hint="use mean or grid4")
        if side is None:
            return self.channels
        if not self.has_grid:
            raise InputError("this layer's tokens form no square grid", where=f"pooling {pooling}", hint="use mean")
        return self.channels * side * side

    def allows(self, pooling: str) -> bool:
        """Whether the layer can be pooled so."""
        try:
            return self.dim(pooling) > 0
        except InputError:
            return False


def infer_shape(
    size: tuple[int, ...],
    *,
    n_prefix_tokens: int = 0,
    has_class_token: bool = False,
    nhwc: bool = False,
    ordered: bool = True,
) -> FeatureShape:
    """Read the layout off the output for one square image.

    A map is taken as channels-last if its first two axes agree and its last two do not (NHWC), channels-first if it is
    the other way round, and as the model's other layers (`nhwc`) if all three agree. Some models add their class token
    only after the blocks: tokens that form a square grid by themselves have no prefix.

    Parameters
    ----------
    size : tuple of int
        With the batch axis.

    Raises
    ------
    InputError
        If it is neither a map nor tokens.
    """
    if len(size) == 4:
        first, middle, last = size[1:]
        channels_last = nhwc if first == middle == last else first == middle != last
        return FeatureShape("NHWC", last) if channels_last else FeatureShape("NCHW", first)
    if len(size) != 3:
        raise InputError(f"a layer gives {size}, which is neither a map nor tokens", hint="choose another backbone")
    tokens = size[1]
    if not _is_square(tokens - n_prefix_tokens) and _is_square(tokens):
        n_prefix_tokens, has_class_token = 0, False
    has_grid = ordered and _is_square(tokens - n_prefix_tokens)
    return FeatureShape("NLC", size[2], n_prefix_tokens, has_class_token, has_grid)


def _is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n
