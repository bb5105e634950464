"""What stands behind and under the object: walls, floors, landscapes."""

# ruff: noqa: D103 - a painter's name says what it paints.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brainalign.stimuli.scenes.draws import Draws
from brainalign.stimuli.scenes.solids import Array
from brainalign.stimuli.scenes.textures import noise

Colour = tuple[float, float, float]
OUTDOORS = frozenset({"meadow", "beach", "snow", "desert", "night"})
PAINTS: tuple[Colour, ...] = (
    (0.78, 0.74, 0.66), (0.60, 0.70, 0.76), (0.70, 0.76, 0.66), (0.80, 0.68, 0.66),
    (0.66, 0.62, 0.74), (0.72, 0.72, 0.72), (0.45, 0.50, 0.56), (0.82, 0.80, 0.72),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """Where the ray of each pixel goes. All arrays have the shape of the picture.

    Attributes
    ----------
    across, up : Array
        Position in the picture, -1 to 1.
    floor_x, floor_z : Array
        Where the ray meets the ground (only meaningful where `on_floor`).
    wall_x, wall_y : Array
        Where it meets the wall: sideways and above the ground.
    on_floor : Array
        True where the ground is seen.
    away : Array
        Distance to the ground point; large towards the horizon.
    above : Array
        Height above the horizon, in units of the picture's half side.
    """

    across: Array
    up: Array
    floor_x: Array
    floor_z: Array
    wall_x: Array
    wall_y: Array
    on_floor: Array
    away: Array
    above: Array


def _mix(a: Colour | Array, b: Colour | Array, weight: Array) -> Array:
    """Blend two colours; channels come first."""
    p, q = (np.asarray(c, dtype=np.float32) for c in (a, b))
    p, q = (c[:, None, None] if c.ndim == 1 else c for c in (p, q))
    return p + (q - p) * weight


def _tone(colour: Colour, strength: Array) -> Array:
    """One colour, lighter or darker from place to place; channels come first."""
    return np.asarray(colour, dtype=np.float32)[:, None, None] * strength


def _shift(colour: Colour, draws: Draws, by: float = 0.05) -> Colour:
    delta = draws.uniform(-by, by)
    r, g, b = (c + delta + draws.uniform(-by, by) * 0.5 for c in colour)
    return r, g, b


def _fract(value: Array) -> Array:
    return value - np.floor(value)


def _lines(value: Array, width: Array | float, soft: Array | float) -> Array:
    """1 on lines of half width `width` at whole numbers, fading over `soft`."""
    return np.clip((width - np.abs(_fract(value + 0.5) - 0.5)) / soft + 0.5, 0.0, 1.0)


def _painted(view: View, draws: Draws, floor: Array) -> Array:
    """A painted wall above `floor`, with a skirting board at its foot."""
    paint = _shift(draws.choice(PAINTS), draws)
    shade = 0.94 + 0.12 * noise(view.wall_x * 0.9 + 7, view.wall_y * 0.9 + 3)
    wall = _tone(paint, shade)
    board = ((view.wall_y < 0.12) & ~view.on_floor).astype(np.float32)
    return np.where(view.on_floor, floor, _mix(wall, (0.86, 0.84, 0.80), board))


def _grain(view: View) -> Array:
    """How blurred a ground pattern is at this distance: 0 near, 1 far."""
    return np.clip((view.away - 3.0) * 0.12, 0.0, 1.0)


def studio(view: View, draws: Draws) -> Array:
    paint = _shift(draws.choice(PAINTS), draws, 0.08)
    glow = 1.08 - 0.22 * np.sqrt(view.across**2 + view.up**2) - 0.06 * view.up
    return _tone(paint, glow)


def _slabs(view: View, tone: Colour) -> Array:
    """Concrete paving."""
    spots = 0.93 + 0.06 * noise(view.floor_x * 3, view.floor_z * 3) + 0.07 * noise(view.floor_x * 26, view.floor_z * 26)
    joint = np.maximum(_lines(view.floor_x * 0.8 + 0.3, 0.008, 0.02), _lines(view.floor_z * 0.8, 0.01, 0.025))
    return _mix(_tone(tone, spots), (0.40, 0.38, 0.36), joint)


def brick(view: View, draws: Draws) -> Array:
    tone = _shift(draws.choice([(0.62, 0.32, 0.24), (0.70, 0.50, 0.38), (0.55, 0.48, 0.46)]), draws)
    row = np.floor(view.wall_y * 5.0)
    a = view.wall_x * 2.4 + 0.5 * (row % 2)
    mortar = np.maximum(_lines(a, 0.025, 0.04), _lines(view.wall_y * 5.0, 0.055, 0.08))
    each = 0.75 + 0.5 * noise(np.floor(a) * 7.3 + 0.5, row * 3.7 + 0.5)
    wall = _mix(_tone(tone, each), (0.76, 0.73, 0.68), mortar)
    return np.where(view.on_floor, _slabs(view, (0.62, 0.60, 0.57)), wall)


def parquet(view: View, draws: Draws) -> Array:
    tone = _shift(draws.choice([(0.66, 0.44, 0.25), (0.52, 0.33, 0.20), (0.76, 0.58, 0.38)]), draws)
    plank = np.floor(view.floor_x * 3.0)
    along = view.floor_z * 0.6 + 0.37 * plank
    each = (
        0.8
        + 0.3 * noise(plank * 5.3 + 0.5, np.floor(along) * 9.1 + 0.5)
        + 0.12 * noise(view.floor_x * 30, view.floor_z * 3)
    )
    gap = np.maximum(_lines(view.floor_x * 3.0, 0.02, 0.05), _lines(along, 0.008, 0.02)) * 0.6
    return _painted(view, draws, _mix(_tone(tone, each), (0.2, 0.12, 0.07), gap))


def tiles(view: View, draws: Draws) -> Array:
    tone = _shift(draws.choice([(0.62, 0.72, 0.72), (0.74, 0.66, 0.56), (0.56, 0.64, 0.74)]), draws)
    x, z = view.floor_x * 1.8, view.floor_z * 1.8
    each = 0.88 + 0.22 * noise(np.floor(x) * 5.1 + 0.5, np.floor(z) * 8.3 + 0.5)
    gap = np.maximum(_lines(x, 0.025, 0.05), _lines(z, 0.03, 0.06))
    return _painted(view, draws, _mix(_tone(tone, each), (0.88, 0.87, 0.84), gap))


def checkerboard(view: View, draws: Draws) -> Array:
    dark = draws.choice([(0.20, 0.20, 0.22), (0.45, 0.18, 0.16), (0.16, 0.30, 0.26), (0.24, 0.26, 0.45)])
    x, z = (np.abs(_fract(c * 0.9) - 0.5) - 0.25 for c in (view.floor_x, view.floor_z))
    sharp = 160.0 / view.away
    board = np.clip(x * sharp, -1, 1) * np.clip(z * sharp * 0.5, -1, 1) * 0.5 + 0.5
    return _painted(view, draws, _mix(dark, (0.85, 0.82, 0.76), board))


def _landscape(view: View, sky: Array, ground: Array, haze: Colour) -> Array:
    """Ground that fades into haze towards the horizon, below the sky."""
    return np.where(view.on_floor, _mix(ground, haze, 0.7 * np.clip((view.away - 6) * 0.035, 0.0, 1.0)), sky)


def _clouds(view: View, draws: Draws) -> Array:
    x, y = view.across * 1.6 + draws.uniform(0, 60), view.above * 4.0 + draws.uniform(0, 60)
    return np.clip((0.65 * noise(x, y) + 0.35 * noise(2.3 * x, 2.3 * y) - 0.5) * 4.0, 0.0, 1.0)


def meadow(view: View, draws: Draws) -> Array:
    sky = _mix(
        _mix((0.80, 0.90, 0.96), (0.32, 0.58, 0.90), np.clip(view.above, 0, 1)),
        (0.97, 0.97, 0.97),
        0.85 * _clouds(view, draws),
    )
    hill = 0.10 + 0.16 * noise(view.across * 1.5 + draws.uniform(0, 60), view.across * 0)
    sky = _mix(sky, (0.34, 0.52, 0.34), np.clip((hill - view.above) * 40, 0, 1))
    blades = 0.6 * noise(view.floor_x * 11, view.floor_z * 4) + 0.4 * noise(view.floor_x * 27, view.floor_z * 9)
    grass = _mix(_shift((0.20, 0.42, 0.13), draws), (0.48, 0.66, 0.25), blades)
    bloom = np.clip((noise(view.floor_x * 9 + 31, view.floor_z * 9 + 17) - 0.88) * 14, 0, 1) * (1 - _grain(view))
    return _landscape(
        view,
        sky,
        _mix(grass, draws.choice([(0.95, 0.9, 0.5), (0.95, 0.95, 0.95), (0.9, 0.5, 0.7)]), bloom),
        (0.62, 0.74, 0.50),
    )


def beach(view: View, draws: Draws) -> Array:
    sky = _mix(
        _mix((0.90, 0.93, 0.92), (0.42, 0.70, 0.92), np.clip(view.above * 1.2, 0, 1)),
        (0.98, 0.98, 0.98),
        0.6 * _clouds(view, draws),
    )
    sand = _mix(
        (0.76, 0.64, 0.44),
        (0.92, 0.83, 0.63),
        0.5 * noise(view.floor_x * 3, view.floor_z * 6) + 0.5 * noise(view.floor_x * 22, view.floor_z * 22),
    )
    shore = -2.2 + 0.25 * np.sin(view.floor_x * 0.9 + draws.uniform(0, 6))
    waves = np.clip((noise(view.floor_x * 0.7, view.floor_z * 2.5) - 0.62) * 5, 0, 1)
    sea = _mix(
        _mix((0.10, 0.46, 0.60), (0.20, 0.62, 0.68), noise(view.floor_x, view.floor_z * 2)),
        (0.88, 0.95, 0.95),
        0.6 * waves,
    )
    foam = np.clip(1 - np.abs(view.floor_z - shore) * 5, 0, 1)
    ground = _mix(_mix(sand, sea, np.clip((shore - view.floor_z) * 8, 0, 1)), (0.97, 0.98, 0.97), foam)
    return _landscape(view, sky, ground, (0.30, 0.55, 0.70))


def snow(view: View, draws: Draws) -> Array:
    sky = _mix((0.86, 0.88, 0.92), _shift((0.55, 0.68, 0.84), draws), np.clip(view.above, 0, 1))
    start = draws.uniform(0, 60)
    ridge = 0.55 * noise(view.across * 1.3 + start, view.across * 0) + 0.16 * noise(
        view.across * 6 + start, view.across * 0
    )
    rock = _mix(
        (0.46, 0.52, 0.62),
        (0.93, 0.95, 0.98),
        np.clip((view.above - 0.18 - 0.2 * noise(view.across * 9, view.above * 9)) * 9, 0, 1),
    )
    sky = np.where(ridge > view.above, rock, sky)
    drift = 0.6 * noise(view.floor_x * 1.1, view.floor_z * 1.8) + 0.4 * noise(view.floor_x * 13, view.floor_z * 13)
    return _landscape(view, sky, _mix((0.80, 0.85, 0.92), (0.97, 0.98, 1.0), drift), (0.86, 0.89, 0.94))


def desert(view: View, draws: Draws) -> Array:
    sky = _mix(
        _mix((0.99, 0.80, 0.45), (0.93, 0.48, 0.38), np.clip(view.above * 2, 0, 1)),
        (0.36, 0.28, 0.52),
        np.clip(view.above * 1.3 - 0.3, 0, 1),
    )
    sun = np.sqrt((view.across - draws.uniform(-0.8, 0.8)) ** 2 + (view.above - 0.16) ** 2)
    sky = _mix(sky, (1.0, 0.94, 0.72), np.clip((0.17 - sun) * 30, 0, 1))
    dune = 0.16 * noise(view.across * 1.1 + draws.uniform(0, 60), view.across * 0)
    sky = _mix(sky, (0.55, 0.32, 0.26), np.clip((dune - view.above) * 50, 0, 1))
    ripple = (
        0.5
        + 0.35 * np.sin(view.floor_z * 14 + 4 * noise(view.floor_x * 1.2, view.floor_z * 0.8)) * (1 - _grain(view))
        + 0.3 * noise(view.floor_x, view.floor_z)
    )
    return _landscape(
        view, sky, _mix((0.66, 0.40, 0.24), (0.90, 0.64, 0.40), np.clip(ripple, 0, 1)), (0.86, 0.56, 0.40)
    )


def _stars(x: Array, y: Array) -> Array:
    """One round star a unit cell, at a random place, most of them faint."""
    a, b = np.floor(x), np.floor(y)
    u, v, size = (noise(a + k + 0.5 * (k > 9), b + 3 * k) for k in (5, 23, 41))
    away = np.sqrt((x - a - 0.2 - 0.6 * u) ** 2 + (y - b - 0.2 - 0.6 * v) ** 2)
    return np.clip((0.02 + 0.13 * size**3 - away) * 12, 0.0, 1.0)


def night(view: View, draws: Draws) -> Array:
    sky = _mix((0.22, 0.24, 0.44), (0.05, 0.06, 0.17), np.clip(view.above * 1.2, 0, 1))
    sky = _mix(
        sky, (0.98, 0.97, 0.88), _stars(view.across * 9 + draws.uniform(0, 60), view.above * 9 + draws.uniform(0, 60))
    )
    moon = np.sqrt((view.across - draws.uniform(-0.85, 0.85)) ** 2 + (view.above - draws.uniform(0.3, 0.7)) ** 2)
    sky = _mix(sky, (0.96, 0.94, 0.82), np.clip((0.12 - moon) * 30, 0, 1))
    tufts = 0.6 * noise(view.floor_x * 19, view.floor_z * 7) + 0.4 * noise(view.floor_x * 2, view.floor_z * 2)
    return _landscape(view, sky, _mix((0.12, 0.16, 0.22), (0.28, 0.34, 0.38), tufts), (0.20, 0.23, 0.36))


def curtain(view: View, draws: Draws) -> Array:
    first, second = draws.choice(
        [
            ((0.60, 0.20, 0.22), (0.86, 0.78, 0.68)),
            ((0.22, 0.36, 0.50), (0.84, 0.86, 0.86)),
            ((0.30, 0.44, 0.34), (0.86, 0.82, 0.64)),
            ((0.46, 0.30, 0.50), (0.88, 0.80, 0.84)),
        ]
    )
    x = view.wall_x + 0.05 * np.sin(view.wall_y * 1.5)
    fold = 0.82 + 0.2 * np.sin(x * 9) + 0.1 * np.sin(x * 23 + 1)
    stripes = np.clip(np.sin(x * 7.0) * 5 + 0.5, 0, 1)
    cloth = _mix(first, second, stripes) * fold
    tone = draws.choice([(0.50, 0.46, 0.43), (0.66, 0.58, 0.48), (0.42, 0.40, 0.46)])
    carpet = 0.9 + 0.14 * noise(view.floor_x * 28, view.floor_z * 28) + 0.05 * np.sin(view.floor_z * 22)
    return np.where(view.on_floor, _tone(tone, carpet), cloth)


def clutter(view: View, draws: Draws) -> Array:
    wood = 0.85 + 0.2 * noise(view.floor_x * 2, view.floor_z * 18)
    picture = _painted(view, draws, _tone((0.72, 0.60, 0.46), wood))
    for _ in range(7):
        tone = _shift(
            draws.choice(
                [(0.75, 0.35, 0.30), (0.35, 0.50, 0.70), (0.45, 0.62, 0.42), (0.80, 0.68, 0.36), (0.6, 0.55, 0.6)]
            ),
            draws,
            0.08,
        )
        size, x, z = draws.uniform(0.12, 0.3), draws.uniform(-1.9, 1.9), draws.uniform(-1.5, -0.5)
        foot = _row_of(view, z)
        u, v = (view.across - x * (1 + 0.2 * z)) / size, (view.up - foot) / size - 0.9
        edge = np.sqrt(u * u + v * v) if draws.uniform() < 0.5 else np.maximum(np.abs(u), np.abs(v))
        light = 0.9 - 0.25 * u * draws.choice([-1, 1]) + 0.15 * v
        ground = np.clip(1 - np.sqrt(u * u + ((v + 0.95) * 3.5) ** 2) * 0.75, 0, 1) * 0.5
        picture = picture * (1 - ground * view.on_floor)
        picture = _mix(picture, _tone(tone, light), np.clip((1 - edge) * 9, 0, 1))
    return picture


def _row_of(view: View, z: float) -> float:
    """Height in the picture of the ground at depth z."""
    middle = view.up.shape[1] // 2
    column = np.where(view.on_floor[:, middle], np.abs(view.floor_z[:, middle] - z), np.inf)
    return float(view.up[int(np.argmin(column)), middle])


PAINTERS: dict[str, Callable[[View, Draws], Array]] = {
    f.__name__: f
    for f in (studio, brick, parquet, tiles, checkerboard, meadow, beach, snow, desert, night, curtain, clutter)
}


def paint(name: str, view: View, draws: Draws) -> Array:
    """Paint one background.

    Parameters
    ----------
    name : str
        A key of `PAINTERS`.
    view : View
        What each pixel sees.
    draws : Draws
        Chooses its colours and places.

    Returns
    -------
    Array
        sRGB in [0, 1], float32, shape (3, height, width).
    """
    return np.clip(PAINTERS[name](view, draws), 0.0, 1.0).astype(np.float32, copy=False)
