"""Surface textures: how much of the second colour shows at each point of a surface.

Every texture takes the surface coordinates u and v (one unit is about half the object's size) and the point p in space,
and returns weights in [0, 1]: 0 is the base colour, 1 the second colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brainalign.stimuli.scenes.draws import Draws
from brainalign.stimuli.scenes.solids import Array

Points = tuple[Array, Array, Array]


def _edge(value: Array, width: float = 0.12) -> Array:
    """Soft step from 0 to 1 around 0."""
    return np.clip(value * (0.5 / width) + 0.5, 0.0, 1.0)


def _wave(value: Array) -> Array:
    """Triangle wave of period 1 between -1 and 1."""
    return np.abs(value - np.floor(value) - 0.5) * 4.0 - 1.0


def _waves(x: Array, y: Array, z: Array) -> Array:
    """Smooth irregular field between about -1 and 1: a few sines that bend each other."""
    a = np.sin(2.1 * x + 1.7 * np.sin(1.3 * y + 0.4) + 1.1)
    b = np.sin(2.7 * y + 1.5 * np.sin(1.9 * z + a))
    return (a + b + np.sin(3.1 * z + 1.3 * a + 2.0 * b)) * (1 / 3)


def _plain(u: Array, v: Array, p: Points) -> Array:
    return np.zeros_like(u)


def _striped(u: Array, v: Array, p: Points) -> Array:
    return _edge(_wave(v * 2.0))


def _vertical(u: Array, v: Array, p: Points) -> Array:
    return _edge(_wave(u * 2.0))


def _diagonal(u: Array, v: Array, p: Points) -> Array:
    return _edge(_wave(u * 1.5 + v * 1.5))


def _dotted(u: Array, v: Array, p: Points) -> Array:
    row = np.floor(v * 2.5)
    a, b = u * 2.5 + 0.5 * (row % 2), v * 2.5
    a, b = a - np.floor(a) - 0.5, b - row - 0.5
    return _edge(0.31 - np.sqrt(a * a + b * b), 0.06)


def _checked(u: Array, v: Array, p: Points) -> Array:
    return _edge(_wave(u * 1.5) * _wave(v * 1.5), 0.06)


def _zigzag(u: Array, v: Array, p: Points) -> Array:
    return _edge(_wave(v * 1.8 + 0.22 * _wave(u * 2.5)))


def _wooden(u: Array, v: Array, p: Points) -> Array:
    x, y, z = p
    rings = np.sqrt((x + 0.3) ** 2 + (z - 0.6) ** 2) * 5.5 + 0.7 * _waves(x, 0.6 * y, z) + 0.35 * y
    return 0.75 * (rings - np.floor(rings)) ** 2 + 0.25 * np.abs(np.sin(40.0 * x + 31.0 * z + 2.0 * np.sin(3.0 * y)))


def _marbled(u: Array, v: Array, p: Points) -> Array:
    x, y, z = p
    bent = _waves(2.0 * x, 2.0 * y, 2.0 * z)
    vein = np.abs(np.sin(3.0 * x + 4.0 * y + 2.5 * z + 4.0 * bent))
    return np.clip(1.05 - 1.6 * vein, 0.0, 1.0) ** 1.5


def _scaly(u: Array, v: Array, p: Points) -> Array:
    row = np.floor(v * 4.0)
    a, b = u * 4.0 + 0.5 * (row % 2), v * 4.0 - row
    a = a - np.floor(a) - 0.5
    return np.clip(2.4 * (a * a * 1.6 + (1.0 - b) ** 2) - 0.9, 0.0, 1.0)


def _brick(u: Array, v: Array, p: Points) -> Array:
    row = np.floor(v * 4.0)
    a, b = u * 2.0 + 0.5 * (row % 2), v * 4.0 - row
    a = a - np.floor(a)
    return _edge(np.maximum(np.abs(b - 0.5) - 0.41, (np.abs(a - 0.5) - 0.46) * 2.0), 0.04)


def _speckled(u: Array, v: Array, p: Points) -> Array:
    x, y, z = p
    return _edge(
        np.sin(13 * x + 3 * np.sin(9 * y)) * np.sin(14 * y + 3 * np.sin(8 * z)) * np.sin(12 * z + 2 * np.sin(10 * x))
        - 0.22,
        0.1,
    )


def _shaded(u: Array, v: Array, p: Points) -> Array:
    return np.clip(0.5 + 0.75 * p[1], 0.0, 1.0)


def _patchy(u: Array, v: Array, p: Points) -> Array:
    x, y, z = p
    return _edge(_waves(2.3 * x + 0.5, 2.3 * y, 2.3 * z) - 0.05, 0.08)


@dataclass(frozen=True)
class Texture:
    """One surface texture.

    Attributes
    ----------
    name : str
        Adjective used in names and captions.
    weight : callable
        Takes u, v and the points; returns the weight of the second colour.
    second : str
        Where the second colour comes from: 'accent' (the concept's own), 'dark' or 'light' (a tone of the base colour).
    """

    name: str
    weight: Callable[[Array, Array, Points], Array]
    second: str = "accent"


TEXTURES: dict[str, Texture] = {
    t.name: t
    for t in (
        Texture("plain", _plain, "dark"),
        Texture("striped", _striped),
        Texture("vertically striped", _vertical),
        Texture("diagonally striped", _diagonal),
        Texture("dotted", _dotted),
        Texture("checked", _checked),
        Texture("zigzag", _zigzag),
        Texture("wooden", _wooden, "dark"),
        Texture("marbled", _marbled, "light"),
        Texture("scaly", _scaly, "dark"),
        Texture("bricked", _brick, "light"),
        Texture("speckled", _speckled, "light"),
        Texture("shaded", _shaded),
        Texture("patchy", _patchy),
    )
}


def _noise_table() -> Array:
    draws = Draws("scene noise table")
    return np.array([draws.uniform() for _ in range(64 * 64)], dtype=np.float32).reshape(64, 64)


_NOISE = _noise_table()


def noise(x: Array, y: Array) -> Array:
    """Value noise between 0 and 1 with unit cells, period 64, cubic blending between the cells."""
    a, b = np.floor(x), np.floor(y)
    s, t = x - a, y - b
    s, t = s * s * (3.0 - 2.0 * s), t * t * (3.0 - 2.0 * t)
    i, j = a.astype(np.int32) & 63, b.astype(np.int32) & 63
    i1, j1 = (i + 1) & 63, (j + 1) & 63
    low = _NOISE[j, i] * (1.0 - s) + _NOISE[j, i1] * s
    high = _NOISE[j1, i] * (1.0 - s) + _NOISE[j1, i1] * s
    return np.asarray(low + (high - low) * t)


def surface_uv(points: Points, normal: Points, wrap: bool) -> tuple[Array, Array]:
    """Flatten a surface: around the y axis when `wrap`, else along the axis that the surface faces most."""
    x, y, z = points
    nx, ny, nz = (np.abs(n) for n in normal)
    if wrap:
        # Two units a half turn, so that every texture meets itself at the back.
        return np.arctan2(x, z) * (2.0 / math.pi), y
    side, top = (nx > ny) & (nx > nz), (ny > nx) & (ny > nz)
    return np.where(side, z, x), np.where(top, z, y)
