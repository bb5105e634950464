"""Names of image transforms in recipes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brainalign.errors import InputError
from brainalign.stimuli.blur import FovealBlur
from brainalign.stimuli.saliency import VisualSaliency
from brainalign.stimuli.transforms import TRANSFORMS, stimulus_transform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("vse", VisualSaliency()),
        ("vse?eta=0.5", VisualSaliency(eta=0.5)),
        ("vse?scales=1,2,4&sobel_size=5", VisualSaliency(scales=(1, 2, 4), sobel_size=5)),
        ("vse?scales=1+2", VisualSaliency(scales=(1, 2))),
        ("vse?alphas=1e+0+0+1e-1", VisualSaliency(alphas=(1, 0, 0.1))),
        ("vse?scales=3", VisualSaliency(scales=(3,))),
        ("vse?normalize=zscore&size=none", VisualSaliency(normalize="zscore", size=None)),
        ("vse?size=112", VisualSaliency(size=112)),
        ("blur", FovealBlur()),
        ("blur?level=low&kernel_size=41&steepness=2.5&size=null", FovealBlur("low", 41, 2.5, size=None)),
    ],
)
def test_names_and_options(text, expected) -> None:
    assert stimulus_transform(text) == expected


@pytest.mark.parametrize(
    "transform",
    [VisualSaliency(), VisualSaliency(3, (0.5,), alphas=(1 / 3, 0.1, 1e-7), size=None), FovealBlur("high", size=None)],
)
def test_a_key_is_a_name_with_all_options(transform) -> None:
    assert stimulus_transform(transform.key) == transform


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_registered_transform_changes_a_picture(name) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    transform = stimulus_transform(name)
    changed = transform(Image.fromarray(pixels))
    assert changed.mode == "RGB"
    assert np.asarray(changed).std() > 0
    assert not np.array_equal(np.asarray(changed.resize((30, 20))), pixels)
    assert transform.key.startswith(f"{name}?")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no image transform; write name\\?option=value"),
        ("?eta=1", "names no image transform"),
        ("vsee", "unknown image transform 'vsee'; did you mean 'vse'\\? Known: .*blur.*vse"),
        ("VSE", "unknown image transform 'VSE'"),
        ("vse?etta=1", "vse: unknown option 'etta'; did you mean 'eta'\\? Known: .*sobel_size"),
        ("vse?name=x", "vse: unknown option 'name'"),
        ("vse?", "'' is not option=value"),
        ("vse?eta", "'eta' is not option=value"),
        ("vse?eta=", "'eta=' is not option=value"),
        ("vse?=1", "'=1' is not option=value"),
        ("vse?eta=1&eta=2", "option 'eta' is given twice"),
        ("vse?eta=much", "vse\\?eta=much: 'much' is not a number"),
        ("vse?sobel_size=7.5", "'7.5' is not a whole number"),
        ("vse?scales=1,,2", "vse\\?scales=1,,2: '' is not a number"),
        ("vse?scales=1;2", "'1;2' is not a number"),
        ("vse?sobel_size=none", "'none' is not a whole number"),
        ("vse?sobel_size=8", "sobel_size is 8, expected an odd number"),
        ("blur?level=strong", "unknown level of blur 'strong'"),
    ],
)
def test_refused_in_one_line(text, problem) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        stimulus_transform(text)
    assert "\n" not in str(caught.value)


def test_registry_imports_a_transform_when_it_is_asked_for() -> None:
    code = (
        "import sys, brainalign.stimuli.transforms as t; "
        "t.stimulus_transform(None); print([n for n in ('torch', 'PIL', 'brainalign.features') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    assert "torch" not in loaded
    assert "features" not in loaded
