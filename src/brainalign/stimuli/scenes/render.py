"""Draw a scene: sphere tracing of the object, shading, shadow, background.

The object is traced at twice the resolution and averaged, the background is painted at the picture's own. Sphere
tracing is Hart's (1996); a first pass with one wide ray a block of pixels finds where the object can be at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brainalign.errors import InputError
from brainalign.stimuli.scenes import backgrounds, camera
from brainalign.stimuli.scenes.camera import Model, Pose
from brainalign.stimuli.scenes.concepts import COLOURS, Rgb
from brainalign.stimuli.scenes.forms import families
from brainalign.stimuli.scenes.layout import Scene
from brainalign.stimuli.scenes.solids import Array
from brainalign.stimuli.scenes.textures import TEXTURES, surface_uv

SAMPLES = 2
BLOCK = 8

MATERIALS: dict[str, tuple[Rgb, float]] = {
    "dark": ((0.14, 0.14, 0.16), 0.25),
    "wood": ((0.50, 0.33, 0.20), 0.08),
    "metal": ((0.66, 0.68, 0.72), 0.7),
    "white": ((0.93, 0.92, 0.89), 0.2),
    "leaf": ((0.28, 0.56, 0.22), 0.12),
    "glow": ((1.00, 0.90, 0.52), 0.1),
    "glass": ((0.34, 0.50, 0.62), 0.8),
    "skin": ((0.72, 0.68, 0.42), 0.15),
    "warm": ((0.96, 0.58, 0.14), 0.2),
    "yellow": ((0.98, 0.84, 0.22), 0.25),
    "pink": ((0.92, 0.42, 0.52), 0.15),
    "red": ((0.84, 0.15, 0.13), 0.3),
    "blue": ((0.20, 0.48, 0.85), 0.3),
    "grey": ((0.50, 0.50, 0.52), 0.08),
    "brick": ((0.70, 0.36, 0.24), 0.08),
    "straw": ((0.84, 0.70, 0.44), 0.08),
}
"""Colour (sRGB) and strength of the highlight of everything that is not 'body' or 'accent'."""

GLOSS = {"wooden": 0.1, "bricked": 0.06, "scaly": 0.35, "marbled": 0.5}


@dataclass(frozen=True)
class _Light:
    """Direction towards the light in the world and in object coordinates, and its colour."""

    world: tuple[float, float, float]
    local: tuple[float, float, float]
    colour: Array


def _light(scene: Scene, at: Pose) -> _Light:
    a, e = math.radians(scene.light_azimuth), math.radians(scene.light_elevation)
    world = (math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e))
    local = [float(v) for v in at.turn.T @ np.array(world)]
    w = scene.light_warmth
    colour = np.array([1 + w, 1, 1 - 1.4 * w], dtype=np.float32) * np.float32(scene.light_strength)
    return _Light(world, (local[0], local[1], local[2]), colour)


def _trace(thing: Model, start: Array, rays: tuple[Array, Array, Array], near: Array, cone: float, far: float) -> Array:
    """March along the rays until the surface (or the cone around the ray) is touched; inf where nothing is met.

    `cone` is the radius of the cone per unit of distance; all lengths in object units.
    """
    ox, oy, oz = (float(c) for c in start)
    reached = np.full(near.shape, np.inf, dtype=np.float32)
    index, t = np.arange(near.size), near.copy()
    dx, dy, dz = rays
    for _ in range(48):
        d = thing.distance(ox + dx * t, oy + dy * t, oz + dz * t)
        hit = d < cone * t
        reached[index[hit]] = t[hit]
        t = t + d * 0.93
        go = ~hit & (t < far)
        if not go.any():
            break
        index, t, dx, dy, dz = index[go], t[go], dx[go], dy[go], dz[go]
    return reached


@dataclass(frozen=True)
class _Hits:
    """Surface points: flat index in the fine grid, object coordinates, directions of their rays."""

    index: Array
    points: tuple[Array, Array, Array]
    rays: tuple[Array, Array, Array]


def _hits(scene: Scene, thing: Model, at: Pose, size: int) -> _Hits:
    """Find what the fine grid (`size` a side) sees of the object."""
    start = np.stack(at.into_object(*camera.eye(scene)))
    middle = float(np.linalg.norm(start - thing.centre))
    reach = thing.half * 1.75
    coarse = -(-size // BLOCK)
    across, up = (g.ravel() for g in camera.grid(coarse))
    wide = at.into_direction(*camera.rays(scene, *_stretch(across, up, coarse * BLOCK / size)))
    near = np.full(across.shape, max(middle - reach, 0.1), dtype=np.float32)
    pixel = 2.0 / size / camera.DISTANCE
    first = _trace(thing, start, wide, near, 0.8 * BLOCK * pixel, middle + reach)
    block = np.flatnonzero(np.isfinite(first))
    inner = np.arange(BLOCK)
    rows = ((block // coarse * BLOCK)[:, None, None] + inner[:, None] + 0 * inner).ravel()
    columns = ((block % coarse * BLOCK)[:, None, None] + inner + 0 * inner[:, None]).ravel()
    near = np.repeat(first[block] * 0.985, BLOCK * BLOCK)
    across = (columns.astype(np.float32) + 0.5) * (2.0 / size) - 1.0
    up = 1.0 - (rows.astype(np.float32) + 0.5) * (2.0 / size)
    rays = at.into_direction(*camera.rays(scene, across, up))
    t = _trace(thing, start, rays, near, 0.35 * pixel, middle + reach)
    seen = np.isfinite(t) & (rows < size) & (columns < size)
    rays = (rays[0][seen], rays[1][seen], rays[2][seen])
    points = tuple(float(o) + d * t[seen] for o, d in zip(start, rays, strict=True))
    return _Hits(rows[seen] * size + columns[seen], (points[0], points[1], points[2]), rays)


def _stretch(across: Array, up: Array, by: float) -> tuple[Array, Array]:
    """Widen a grid whose blocks reach over the right and lower edge of the picture."""
    return (across + 1.0) * by - 1.0, 1.0 - (1.0 - up) * by


def _normals(thing: Model, points: tuple[Array, Array, Array], step: float) -> tuple[Array, Array, Array]:
    """Gradient of the distance from its values at the corners of a tetrahedron."""
    total = [np.zeros_like(points[0]) for _ in range(3)]
    for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        d = thing.distance(points[0] + sx * step, points[1] + sy * step, points[2] + sz * step)
        for axis, sign in zip(total, (sx, sy, sz), strict=True):
            axis += sign * d
    per = 1.0 / np.sqrt(total[0] ** 2 + total[1] ** 2 + total[2] ** 2 + 1e-12)
    return total[0] * per, total[1] * per, total[2] * per


def _visible(thing: Model, points: tuple[Array, Array, Array], way: tuple[float, float, float], steps: int) -> Array:
    """Share of the light that reaches points: 1 free, 0 in shadow, soft at the edge of the shadow."""
    unit = thing.half
    light = np.ones_like(points[0])
    t = np.full_like(light, 0.06 * unit)
    for _ in range(steps):
        d = thing.distance(points[0] + way[0] * t, points[1] + way[1] * t, points[2] + way[2] * t)
        light = np.minimum(light, 7.0 * d / t)
        t = t + np.clip(d, 0.05 * unit, 0.6 * unit)
    return np.asarray(np.clip(light, 0.0, 1.0))


def _linear(colour: Rgb, shift: Rgb = (0.0, 0.0, 0.0)) -> Array:
    """SRGB to light; a gamma of 2 is near enough for pictures and exact on every machine."""
    return np.square(np.clip(np.array(colour, dtype=np.float32) + np.array(shift, dtype=np.float32), 0.01, 1.0))


def _pattern(
    scene: Scene, thing: Model, points: tuple[Array, Array, Array], normal: tuple[Array, Array, Array]
) -> Array:
    """Colour of body points, shape (n, 3)."""
    concept = scene.concept
    texture = TEXTURES[concept.texture]
    base = _linear(COLOURS[concept.colour], scene.colour_shift)
    second = {
        "accent": _linear(COLOURS[concept.accent], scene.colour_shift),
        "dark": base * 0.28 + 0.004,
        "light": base * 0.3 + 0.6 if float(base.mean()) < 0.45 else base * 0.25,
    }[texture.second]
    unit = [(p - float(c)) * (1 / thing.half) for p, c in zip(points, thing.centre, strict=True)]
    wrap = families()[concept.family].wrap
    u, v = surface_uv((unit[0], unit[1], unit[2]), normal, wrap)
    f, phase = scene.texture_scale, scene.texture_phase
    solid = (unit[0] * f + phase[0], unit[1] * f + 0.4 * phase[1], unit[2] * f + phase[2])
    weight = texture.weight((u if wrap else u * f) + phase[0], v * f + phase[1], solid)
    return np.asarray(base + (second - base) * weight[:, None])


def _albedo(scene: Scene, thing: Model, hits: _Hits, normal: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Colour (n, 3), highlight strength (n,) and own light (n,) of the surface points."""
    which = thing.material(*hits.points)
    colour, gloss = np.empty((which.size, 3), dtype=np.float32), np.empty(which.size, dtype=np.float32)
    shine = np.zeros(which.size, dtype=np.float32)
    for i, (material, _) in enumerate(thing.solids):
        mask = which == i
        if not mask.any():
            continue
        if material == "body":
            part = [tuple(c[mask] for c in triple) for triple in (hits.points, normal)]
            colour[mask] = _pattern(scene, thing, part[0], part[1])
            gloss[mask] = GLOSS.get(scene.concept.texture, 0.25)
        else:
            plain = (COLOURS[scene.concept.accent], 0.25) if material == "accent" else MATERIALS[material]
            colour[mask] = _linear(plain[0], scene.colour_shift)
            gloss[mask] = plain[1]
        if material == "glow":
            shine[mask] = 0.5
    return colour, gloss, shine


def _shade(scene: Scene, thing: Model, light: _Light, hits: _Hits) -> Array:
    """Light that surface points send to the eye, shape (n, 3): ambient, Lambert and Blinn's highlight."""
    normal = _normals(thing, hits.points, 0.004 * thing.half)
    colour, gloss, shine = _albedo(scene, thing, hits, normal)
    reach = 0.14 * thing.half
    x, y, z = (p + n * reach for p, n in zip(hits.points, normal, strict=True))
    open_sky = np.clip(0.35 + 0.65 * thing.distance(x, y, z) * (1 / reach), 0.3, 1.0)
    lx, ly, lz = light.local
    facing = normal[0] * lx + normal[1] * ly + normal[2] * lz
    lit = np.zeros_like(facing)
    bright = facing > 0.02
    part = tuple((p + n * (0.02 * thing.half))[bright] for p, n in zip(hits.points, normal, strict=True))
    lit[bright] = facing[bright] * _visible(thing, (part[0], part[1], part[2]), light.local, 5)
    half = [w - d for w, d in zip(light.local, hits.rays, strict=True)]
    per = 1.0 / np.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
    mirror = np.clip((normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2]) * per, 0.0, 1.0)
    for _ in range(5):  # to the power of 32, without a platform's own pow
        mirror = mirror * mirror
    ambient = (0.34 + 0.12 * normal[1]) * open_sky
    direct = lit[:, None] * (0.85 * light.colour)
    return (
        colour * (ambient[:, None] + direct + shine[:, None])
        + (gloss * mirror * np.minimum(lit * 3, 1))[:, None] * light.colour
    )


def _ground_light(scene: Scene, thing: Model, at: Pose, light: _Light, seen: backgrounds.View) -> Array:
    """Share of the light on the ground, (height, width): the object's shadow and the dark at its foot."""
    rows, columns = seen.on_floor.shape
    x, z = (_every_other(c) for c in (seen.floor_x, seen.floor_z))
    inside = _every_other(seen.on_floor)
    px, py, pz = (float(c) for c in at.place)
    reach = at.scale * thing.half * 1.75
    along = light.world[0] * (px - x) + light.world[1] * (py - at.ground) + light.world[2] * (pz - z)
    beside = (px - x) ** 2 + (py - at.ground) ** 2 + (pz - z) ** 2 - along * along
    todo = inside & (beside < (1.15 * reach) ** 2) & (along > -reach)
    share = np.ones(x.shape, dtype=np.float32)
    points = at.into_object(x[todo], np.full(int(todo.sum()), at.ground + 0.004, dtype=np.float32), z[todo])
    if points[0].size:
        foot = np.clip(thing.distance(*points) * (1 / (0.45 * thing.half)), 0.0, 1.0)
        share[todo] = (0.42 + 0.58 * _visible(thing, points, light.local, 12)) * (0.62 + 0.38 * foot)
    full = _double(_double(share, 0, rows), 1, columns)
    return np.where(seen.on_floor, full, 1.0)


def _every_other(values: Array) -> Array:
    return np.ascontiguousarray(values[::2, ::2])


def _double(values: Array, axis: int, length: int) -> Array:
    """Linear interpolation between samples taken at every other place."""
    following = np.concatenate([np.take(values, range(1, values.shape[axis]), axis), np.take(values, [-1], axis)], axis)
    woven = np.stack([values, 0.5 * (values + following)], axis=axis + 1)
    shape = list(values.shape)
    shape[axis] *= 2
    return np.take(woven.reshape(shape), range(length), axis)


def _behind(scene: Scene, thing: Model, at: Pose, light: _Light, size: int) -> Array:
    """The picture without the object but with its shadow, as light, shape (size, size, 3)."""
    draws = scene.draws("background")
    outdoors = scene.background in backgrounds.OUTDOORS or scene.background == "studio"
    seen = camera.view(scene, at, size, wall=None if outdoors else draws.uniform(1.1, 2.0))
    picture = np.square(backgrounds.paint(scene.background, seen, draws))
    lamp = light.colour if scene.background not in ("night", "studio") else np.ones(3, dtype=np.float32)
    shade = _ground_light(scene, thing, at, light, seen)
    fall = 1.0 + (0.0 if outdoors else 0.12) * (light.world[0] * seen.across)
    return np.moveaxis(picture * (shade * fall), 0, 2) * (0.25 + 0.75 * lamp)


def render_scene(scene: Scene, size: int = 128) -> Array:
    """Draw one picture.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size : int
        Pixels a side, at least 16.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        sRGB. The same on every machine up to the last bit of a float32 sine, that is, to at most a rounding step
        of single pixels.

    Raises
    ------
    InputError
        If `size` is below 16 or above 2048.

    Examples
    --------
    >>> from brainalign.stimuli.scenes import scene, scene_concepts
    >>> render_scene(scene(scene_concepts()[3], 0), size=32).shape
    (32, 32, 3)
    """
    light = _light_and_alpha(scene, size)[0]
    return np.asarray(np.sqrt(np.clip(light, 0.0, 1.0)) * 255.0 + 0.5).astype(np.uint8)


def object_mask(scene: Scene, size: int = 128) -> Array:
    """Share of each pixel that the object covers.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size : int
        Pixels a side, 16 to 2048.

    Returns
    -------
    ndarray of float32, shape (size, size)
        0 background, 1 object.
    """
    return _light_and_alpha(scene, size)[1]


def _light_and_alpha(scene: Scene, size: int) -> tuple[Array, Array]:
    if not 16 <= size <= 2048:
        raise InputError(f"size is {size}, expected 16 to 2048 pixels a side", where="render_scene")
    thing = camera.model(scene.concept)
    at = camera.pose(scene, thing)
    light = _light(scene, at)
    fine = SAMPLES * size
    hits = _hits(scene, thing, at, fine)
    cell = (hits.index // fine // SAMPLES) * size + hits.index % fine // SAMPLES
    colour = np.clip(_shade(scene, thing, light, hits), 0.0, 1.0)
    share = 1.0 / SAMPLES**2
    alpha = (np.bincount(cell, minlength=size * size) * share).astype(np.float32)
    front = np.stack([np.bincount(cell, colour[:, c], size * size) * share for c in range(3)], axis=1)
    back = _behind(scene, thing, at, light, size).reshape(-1, 3)
    return (back * (1.0 - alpha[:, None]) + front).reshape(size, size, 3), alpha.reshape(size, size)
