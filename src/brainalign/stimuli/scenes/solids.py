"""Signed distance fields: the solids from which every object is put together.

A field maps coordinates (x right, y up, z towards the viewer; float32 arrays of one shape) to the distance from the
solid's surface, negative inside. Some fields give a lower bound instead of the exact distance, which sphere tracing
(Hart 1996, "Sphere tracing", The Visual Computer 12) allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Field = Callable[[Array, Array, Array], Array]
Vec = tuple[float, float, float]


def _length(*components: Array) -> Array:
    total = components[0] * components[0]
    for c in components[1:]:
        total += c * c
    return np.asarray(np.sqrt(total))


def sphere(centre: Vec, radius: float) -> Field:
    """Ball around `centre`."""
    a, b, c = centre
    return lambda x, y, z: _length(x - a, y - b, z - c) - radius


def ellipsoid(centre: Vec, radii: Vec) -> Field:
    """Ellipsoid; first-order distance, implicit function over the length of its gradient."""
    (a, b, c), (ra, rb, rc) = centre, radii

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v, w = (x - a) * (1 / ra), (y - b) * (1 / rb), (z - c) * (1 / rc)
        k = _length(u, v, w)
        return k * (k - 1.0) / (_length(u * (1 / ra), v * (1 / rb), w * (1 / rc)) + 1e-6)

    return field


def box(centre: Vec, half: Vec, edge: float = 0.03) -> Field:
    """Box of half sizes `half` with edges rounded by `edge`."""
    (a, b, c), (ha, hb, hc) = centre, half

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v, w = np.abs(x - a) - (ha - edge), np.abs(y - b) - (hb - edge), np.abs(z - c) - (hc - edge)
        inside = np.minimum(np.maximum(np.maximum(u, v), w), 0.0)
        return _length(np.maximum(u, 0.0), np.maximum(v, 0.0), np.maximum(w, 0.0)) + (inside - edge)

    return field


def cylinder(centre: Vec, radius: float, half: float, edge: float = 0.02) -> Field:
    """Upright cylinder of half height `half`."""
    a, b, c = centre

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v = _length(x - a, z - c) - (radius - edge), np.abs(y - b) - (half - edge)
        return _length(np.maximum(u, 0.0), np.maximum(v, 0.0)) + (np.minimum(np.maximum(u, v), 0.0) - edge)

    return field


def cone(centre: Vec, low: float, high: float, half: float) -> Field:
    """Upright frustum: radius `low` at the bottom, `high` at the top."""
    a, b, c = centre
    slope = (high - low) / (2 * half)
    steep, mid = 1 / math.sqrt(1 + slope * slope), (low + high) / 2

    def field(x: Array, y: Array, z: Array) -> Array:
        v = y - b
        return np.maximum((_length(x - a, z - c) - (mid + slope * v)) * steep, np.abs(v) - half)

    return field


def pyramid(centre: Vec, low: float, half: float, high: float = 0.0) -> Field:
    """Upright four-sided pyramid: half width `low` at the bottom, `high` at the top."""
    a, b, c = centre
    slope = (high - low) / (2 * half)
    steep, mid = 1 / math.sqrt(1 + slope * slope), (low + high) / 2

    def field(x: Array, y: Array, z: Array) -> Array:
        v = y - b
        side = np.maximum(np.abs(x - a), np.abs(z - c)) - (mid + slope * v)
        return np.maximum(side * steep, np.abs(v) - half)

    return field


def rod(start: Vec, end: Vec, radius: float, radius_end: float | None = None) -> Field:
    """Capsule from `start` to `end`, tapering to `radius_end`."""
    a, b, c = start
    d, e, f = end[0] - a, end[1] - b, end[2] - c
    per = 1 / (d * d + e * e + f * f)
    grow = (radius if radius_end is None else radius_end) - radius

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v, w = x - a, y - b, z - c
        h = np.clip((u * d + v * e + w * f) * per, 0.0, 1.0)
        return _length(u - h * d, v - h * e, w - h * f) - (radius + grow * h)

    return field


def torus(centre: Vec, ring: float, tube: float) -> Field:
    """Torus whose hole faces the viewer (axis z)."""
    a, b, c = centre
    return lambda x, y, z: _length(_length(x - a, y - b) - ring, z - c) - tube


def revolve(profile: Sequence[tuple[float, float]], wall: float | None = None) -> Field:
    """Turn a profile of (height, radius) points around the y axis; `wall` makes it a shell open at the top."""
    heights = np.array([p[0] for p in profile])
    radii = np.array([p[1] for p in profile])
    grid = np.linspace(heights[0], heights[-1], 65)
    table = np.interp(grid, heights, radii)
    for _ in range(12):  # round the corners of the polyline
        table[1:-1] = 0.25 * table[:-2] + 0.5 * table[1:-1] + 0.25 * table[2:]
    steep = 1 / math.sqrt(1 + float(np.max(np.abs(np.gradient(table, grid)))) ** 2)
    low, high = float(heights[0]), float(heights[-1])
    table32, per = table.astype(np.float32), 64 / (high - low)

    def field(x: Array, y: Array, z: Array) -> Array:
        at = np.clip((y - low) * per, 0.0, 63.999)
        cell = at.astype(np.int32)
        left = table32[cell]
        side = (_length(x, z) - (left + (table32[cell + 1] - left) * (at - cell.astype(np.float32)))) * steep
        solid = np.maximum(side, np.maximum(low - y, y - high))
        if wall is None:
            return np.asarray(solid)
        return np.asarray(np.maximum(solid, -np.maximum(side + wall, low + wall - y)))

    return field


def extrude(outline: Callable[[Array, Array], Array], depth: float, edge: float = 0.04) -> Field:
    """Give a flat outline in x and y the half thickness `depth`."""

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v = outline(x, y) + edge, np.abs(z) - (depth - edge)
        return _length(np.maximum(u, 0.0), np.maximum(v, 0.0)) + (np.minimum(np.maximum(u, v), 0.0) - edge)

    return field


def star_outline(points: int, outer: float, inner: float, height: float) -> Callable[[Array, Array], Array]:
    """Star with `points` tips around (0, height)."""
    step = math.pi / points
    ex, ey = inner * math.cos(step) - outer, inner * math.sin(step)
    size = math.hypot(ex, ey)

    def outline(x: Array, y: Array) -> Array:
        v = y - height
        r, turn = _length(x, v), np.arctan2(x, v)
        turn = np.abs(turn - np.round(turn * (1 / (2 * step))) * (2 * step))
        return ((r * np.cos(turn) - outer) * ey - r * np.sin(turn) * ex) * (1 / size)

    return outline


def heart_outline(half: float, height: float) -> Callable[[Array, Array], Array]:
    """Square on its corner with two discs of the same width on its upper sides."""
    s = math.sqrt(0.5)

    def outline(x: Array, y: Array) -> Array:
        u, v = np.abs(x), y - height
        p, q = np.abs((u + v) * s), np.abs((v - u) * s)
        return np.minimum(np.maximum(p, q) - half, _length(u - half * s, v - half * s) - half)

    return outline


def union(*fields: Field) -> Field:
    """All solids together."""

    def field(x: Array, y: Array, z: Array) -> Array:
        d = fields[0](x, y, z)
        for f in fields[1:]:
            d = np.minimum(d, f(x, y, z))
        return d

    return field


def blend(width: float, *fields: Field) -> Field:
    """All solids together, joined smoothly over `width` (polynomial smooth minimum)."""

    def field(x: Array, y: Array, z: Array) -> Array:
        d = fields[0](x, y, z)
        for f in fields[1:]:
            e = f(x, y, z)
            h = np.maximum(width - np.abs(d - e), 0.0)
            d = np.minimum(d, e) - h * h * (0.25 / width)
        return d

    return field


def cut(solid: Field, *holes: Field) -> Field:
    """The solid without the holes."""

    def field(x: Array, y: Array, z: Array) -> Array:
        d = solid(x, y, z)
        for hole in holes:
            d = np.maximum(d, -hole(x, y, z))
        return d

    return field


def both(*fields: Field) -> Field:
    """Where all solids overlap."""

    def field(x: Array, y: Array, z: Array) -> Array:
        d = fields[0](x, y, z)
        for f in fields[1:]:
            d = np.maximum(d, f(x, y, z))
        return d

    return field


def mirror(solid: Field, *axes: str) -> Field:
    """Repeat what lies at positive x (or z) on the other side."""

    def field(x: Array, y: Array, z: Array) -> Array:
        return solid(np.abs(x) if "x" in axes else x, y, np.abs(z) if "z" in axes else z)

    return field


def around(count: int, solid: Field) -> Field:
    """Repeat what lies along positive x `count` times around the y axis.

    The solid must be symmetric in z, else the field jumps between the sectors and no longer bounds the distance.
    """
    step = 2 * math.pi / count

    def field(x: Array, y: Array, z: Array) -> Array:
        r, turn = _length(x, z), np.arctan2(z, x)
        turn = turn - np.round(turn * (1 / step)) * step
        return solid(r * np.cos(turn), y, r * np.sin(turn))

    return field


def tip(degrees: float, pivot: tuple[float, float], solid: Field) -> Field:
    """Turn a solid around the z axis through `pivot` (x, y), counter-clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b = pivot

    def field(x: Array, y: Array, z: Array) -> Array:
        u, v = x - a, y - b
        return solid(c * u + s * v + a, c * v - s * u + b, z)

    return field


def swap(solid: Field, axes: str) -> Field:
    """Exchange two axes: 'yz' lays an upright solid along z, 'xy' along x, 'xz' turns it by a quarter."""

    def field(x: Array, y: Array, z: Array) -> Array:
        if axes == "yz":
            return solid(x, z, y)
        return solid(y, x, z) if axes == "xy" else solid(z, y, x)

    return field


def move(shift: Vec, solid: Field) -> Field:
    """Carry a solid by `shift`."""
    a, b, c = shift
    return lambda x, y, z: solid(x - a, y - b, z - c)
