"""Reading the layout off the shape of an output."""

from __future__ import annotations

import pytest

from brainalign.errors import InputError
from brainalign.features.shapes import FeatureShape, infer_shape


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((1, 64, 56, 56), {}, FeatureShape("NCHW", 64)),
        ((1, 56, 56, 64), {}, FeatureShape("NHWC", 64)),
        ((1, 56, 56, 56), {}, FeatureShape("NCHW", 56)),
        ((1, 56, 56, 56), {"nhwc": True}, FeatureShape("NHWC", 56)),
        ((1, 7, 7, 96), {"nhwc": True}, FeatureShape("NHWC", 96)),
        ((1, 96, 7, 7), {"nhwc": True}, FeatureShape("NCHW", 96)),
        ((1, 320, 1, 1), {}, FeatureShape("NCHW", 320)),
        ((1, 197, 192), {"n_prefix_tokens": 1, "has_class_token": True}, FeatureShape("NLC", 192, 1, True)),
        # CaiT adds its class token after the blocks
        ((1, 196, 192), {"n_prefix_tokens": 1, "has_class_token": True}, FeatureShape("NLC", 192)),
        ((1, 196, 192), {"ordered": False}, FeatureShape("NLC", 192, has_grid=False)),
        ((1, 77, 512), {}, FeatureShape("NLC", 512, has_grid=False)),
    ],
)
def test_infers(size, options, expected) -> None:
    assert infer_shape(size, **options) == expected


@pytest.mark.parametrize("size", [(1, 64), (1, 3, 4, 4, 4)])
def test_neither_map_nor_tokens(size) -> None:
    with pytest.raises(InputError, match="neither a map nor tokens"):
        infer_shape(size)


def test_widths() -> None:
    tokens = FeatureShape("NLC", 10, 1, True)
    assert [tokens.dim(p) for p in ("cls", "mean", "grid3")] == [10, 10, 90]
    assert FeatureShape("NC", 7).dim("final") == 7
    assert not tokens.allows("final")
    assert not FeatureShape("NCHW", 8).allows("cls")
    assert not FeatureShape("NLC", 8, has_grid=False).allows("grid2")
    assert FeatureShape("NLC", 8, has_grid=False).allows("mean")
    with pytest.raises(InputError, match="unknown pooling"):
        FeatureShape("NCHW", 8).dim("max")
