"""Pictures: the same everywhere, of the right thing, and learnable."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from brainalign.errors import InputError
from brainalign.stimuli.scenes import object_mask, render_scene, scene, scene_concepts
from brainalign.stimuli.scenes import solids as sd
from brainalign.stimuli.scenes.concepts import COLOURS
from brainalign.stimuli.scenes.forms import families
from brainalign.stimuli.scenes.layout import BACKGROUNDS
from brainalign.stimuli.scenes.textures import TEXTURES, noise

CONCEPTS = scene_concepts()


def _points(*rows: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.array(rows, dtype=np.float32).T
    return x, y, z


@pytest.mark.parametrize(
    ("field", "point", "distance"),
    [
        (sd.sphere((1, 0, 0), 0.5), (4, 4, 0), 4.5),
        (sd.box((0, 0, 0), (1, 1, 1), 0.1), (0.5, 3, 0), 2.0),
        (sd.box((0, 0, 0), (1, 1, 1), 0.001), (4, 5, 0), 5.0),
        (sd.cylinder((0, 0, 0), 1, 2, 0.001), (4, 6, 0), 5.0),
        (sd.rod((0, 0, 0), (0, 2, 0), 0.25), (0, 4, 0), 1.75),
        (sd.rod((0, 0, 0), (0, 2, 0), 0.25), (3, 1, 0), 2.75),
        (sd.torus((0, 0, 0), 2, 0.5), (0, 2, 3), 2.5),
        (sd.torus((0, 0, 0), 2, 0.5), (0, 0, 0), 1.5),
        (sd.mirror(sd.sphere((1, 0, 0), 0.5), "x"), (-1, 0, 2), 1.5),
        (sd.around(4, sd.sphere((1, 0, 0), 0.5)), (0, 0, -3), 1.5),
        (sd.tip(90, (0, 0), sd.sphere((1, 0, 0), 0.5)), (0, 3, 0), 1.5),
        (sd.swap(sd.rod((0, 0, 0), (0, 2, 0), 0.25), "yz"), (0, 0, 4), 1.75),
        (sd.cut(sd.sphere((0, 0, 0), 1), sd.sphere((0, 0, 0), 0.5)), (0, 0, 0), 0.5),
        (sd.revolve([(0, 1), (1, 1), (2, 1)]), (3, 1, 0), 2.0),
    ],
)
def test_distances_worked_out_by_hand(field: sd.Field, point: tuple[float, float, float], distance: float) -> None:
    assert field(*_points(point))[0] == pytest.approx(distance, abs=2e-3)


@pytest.mark.parametrize("name", list(families()))
def test_no_field_promises_more_room_than_there_is(name: str) -> None:
    """Sphere tracing steps 0.93 times the field: the nearest matter, found by brute force, must not be closer."""
    kind = families()[name]
    solids = [solid for _, solid in kind.build(frozenset(kind.extras))]
    step = 0.08
    axis = np.arange(-2, 2, step, dtype=np.float32)
    lattice = np.stack(np.meshgrid(axis, axis + 1, axis), axis=-1).reshape(-1, 3)
    matter = lattice[np.min([f(*lattice.T) for f in solids], axis=0) < 0.25 * step]
    points = np.random.default_rng(0).uniform((-1.5, -0.5, -1.5), (1.5, 2.5, 1.5), (1500, 3)).astype(np.float32)
    room = np.min([f(*points.T) for f in solids], axis=0)
    nearest = cKDTree(matter).query(points)[0]
    assert (0.93 * room - nearest).max() < 0.5 * step
    assert np.abs(room - nearest)[room > 0].mean() < 0.35  # and it is not so cautious that tracing never arrives


def test_every_weight_lies_between_the_two_colours() -> None:
    rng = np.random.default_rng(1)
    u, v, x, y, z = rng.uniform(-2, 2, (5, 4000)).astype(np.float32)
    for texture in TEXTURES.values():
        weight = texture.weight(u, v, (x, y, z))
        assert weight.shape == u.shape
        assert weight.min() >= 0
        assert weight.max() <= 1
        if texture.name != "plain":
            assert weight.std() > 0.05, texture.name


def test_noise_is_continuous_and_repeats_every_64_cells() -> None:
    x = np.linspace(0, 5, 2001, dtype=np.float32)
    value = noise(x, x * 0)
    assert np.abs(np.diff(value)).max() < 0.01
    assert np.allclose(value, noise(x + 64, x * 0), atol=1e-3)
    assert value.std() > 0.1


@pytest.mark.parametrize("size", [15, 4096])
def test_render_refuses_a_useless_size(size: int) -> None:
    with pytest.raises(InputError, match="expected 16 to 2048"):
        render_scene(scene(CONCEPTS[0], 0), size)


def test_rendering_twice_gives_the_same_bytes() -> None:
    s = scene(CONCEPTS[31], 2)
    picture = render_scene(s, 48)
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8
    assert picture.tobytes() == render_scene(s, 48).tobytes()


PINNED = {
    0: [214, 210, 214, 213, 160, 131, 164, 173, 241, 189, 243, 243, 242, 196, 229, 245],
    123: [35, 40, 35, 35, 64, 87, 65, 64, 64, 117, 76, 65, 62, 75, 65, 63],
    457: [168, 165, 162, 175, 169, 134, 109, 170, 150, 107, 148, 160, 66, 89, 163, 106],
    690: [151, 143, 140, 152, 147, 132, 147, 163, 122, 107, 95, 146, 148, 154, 159, 160],
}


@pytest.mark.parametrize("index", list(PINNED))
def test_pictures_stay_as_they_are(index: int) -> None:
    """Means of 4 x 4 tiles. Rounding of a sine in its last bit moves a mean by far less than the tolerance."""
    picture = render_scene(scene(CONCEPTS[index], 1), 32).astype(float)
    tiles = picture.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3, 4))
    assert np.abs(tiles.ravel() - PINNED[index]).max() < 1.5


def test_size_changes_the_resolution_only() -> None:
    s = scene(CONCEPTS[44], 3)
    small = render_scene(s, 32).astype(float)
    large = render_scene(s, 128).astype(float).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 8
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("index", range(0, 702, 39))
def test_object_has_its_size_and_place(index: int) -> None:
    s = scene(CONCEPTS[index], 4)
    mask = object_mask(s, 64)
    assert 0.03 < mask.mean() < 0.65
    rows, columns = np.nonzero(mask > 0.3)
    longest = max(np.ptp(rows), np.ptp(columns)) + 1
    assert longest / 64 == pytest.approx(s.extent, rel=0.2)
    assert (columns.min() + columns.max() + 1) / 64 - 1 == pytest.approx(s.x, abs=0.12)
    assert 1 - (rows.min() + rows.max() + 1) / 64 == pytest.approx(s.y, abs=0.12)


def test_plain_objects_show_their_colour() -> None:
    """The object's own pixels come closer in hue to the named colour than to others; grey tones have no hue."""
    hues = {name: np.array(rgb) - np.mean(rgb) for name, rgb in COLOURS.items() if np.ptp(rgb) > 0.35}
    right = []
    for c in [c for c in CONCEPTS if c.texture == "plain" and c.colour in hues and not c.extras]:
        s = dataclasses.replace(scene(c, 0), background="studio", light_warmth=0.0)
        seen = render_scene(s, 48)[object_mask(s, 48) > 0.9].astype(float)
        seen -= seen.mean(axis=1, keepdims=True)
        tone = np.median(seen[np.ptp(seen, axis=1) > 25], axis=0)
        cosine = {n: tone @ h / np.linalg.norm(tone) / np.linalg.norm(h) for n, h in hues.items()}
        right.append(cosine[c.colour] > 0.8)
    assert len(right) >= 8
    assert np.mean(right) >= 0.75


def test_light_comes_from_the_side_the_scene_says() -> None:
    ball = next(c for c in CONCEPTS if c.family == "ball" and not c.extras)
    base = dataclasses.replace(
        scene(dataclasses.replace(ball, texture="plain", colour="white", build=""), 0),
        background="studio",
        x=0.0,
        y=0.0,
    )
    sides = {}
    for azimuth in (-60.0, 60.0):
        s = dataclasses.replace(base, light_azimuth=azimuth, tilt=0.0)
        picture, mask = render_scene(s, 64).mean(axis=2), object_mask(s, 64) > 0.9
        left, right = mask.copy(), mask.copy()
        left[:, 32:], right[:, :32] = False, False
        sides[azimuth] = picture[right].mean() - picture[left].mean()
    assert sides[60.0] > 15
    assert sides[-60.0] < -15


def test_every_background_looks_different() -> None:
    base = scene(CONCEPTS[2], 0)
    small = np.stack(
        [render_scene(dataclasses.replace(base, background=name), 32).astype(float).ravel() for name in BACKGROUNDS]
    )
    apart = np.abs(small[:, None] - small[None]).mean(axis=2)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 3


def test_exemplars_differ_and_concepts_are_learnable_but_not_trivial() -> None:
    """Nearest class mean in principal components of pixels: far above chance, far below perfect."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestCentroid

    concepts = CONCEPTS[400:440]
    pictures = np.array([[render_scene(scene(c, e), 32) for e in range(6)] for c in concepts], dtype=np.float32)
    between = np.abs(pictures[:, 0] - pictures[:, 1]).mean(axis=(1, 2, 3))
    assert between.min() > 5
    flat = pictures.reshape(40, 6, 16, 2, 16, 2, 3).mean(axis=(3, 5)).reshape(40, 6, -1)
    pca = PCA(40, whiten=True, random_state=0).fit(flat[:, :4].reshape(160, -1))
    labels = np.arange(40)
    model = NearestCentroid().fit(pca.transform(flat[:, :4].reshape(160, -1)), np.repeat(labels, 4))
    accuracy = model.score(pca.transform(flat[:, 4:].reshape(80, -1)), np.repeat(labels, 2))
    assert 5 / 40 < accuracy < 0.9
