"""The object in space, the camera in front of it and the rays between them.

World units: the half side of the picture is 1 in the plane of the object's centre, which is the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from brainalign.stimuli.scenes.backgrounds import View
from brainalign.stimuli.scenes.concepts import BUILDS, SceneConcept
from brainalign.stimuli.scenes.forms import families
from brainalign.stimuli.scenes.layout import Scene
from brainalign.stimuli.scenes.solids import Array, Field

DISTANCE = 4.0
"""Distance of the camera from the object's centre."""


@dataclass(frozen=True)
class Model:
    """The object of a concept in its own coordinates.

    Attributes
    ----------
    solids : tuple of (str, Field)
        Materials and solids.
    shell : Array
        Points near the surface, shape (n, 3).
    bottom : float
        Lowest height.
    centre : Array
        Middle of the bounding box, shape (3,).
    half : float
        Half of the bounding box's longest side.
    """

    solids: tuple[tuple[str, Field], ...]
    shell: Array
    bottom: float
    centre: Array
    half: float

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance to the nearest solid."""
        d = self.solids[0][1](x, y, z)
        for _, solid in self.solids[1:]:
            d = np.minimum(d, solid(x, y, z))
        return d

    def material(self, x: Array, y: Array, z: Array) -> Array:
        """Index of the nearest solid at each point."""
        return np.asarray(np.argmin(np.stack([solid(x, y, z) for _, solid in self.solids]), axis=0))


def _stretched(solid: Field, wide: float, high: float) -> Field:
    """Stretch a solid; the factor keeps the field a lower bound of the distance."""
    if wide == high == 1.0:
        return solid
    a, b, least = 1 / wide, 1 / high, min(wide, high)
    return lambda x, y, z: solid(x * a, y * b, z * a) * least


@lru_cache(maxsize=64)
def _model(family: str, extras: tuple[str, ...], build: str) -> Model:
    solids = families()[family].build(frozenset(extras))
    stretched = tuple((material, _stretched(solid, *BUILDS[build])) for material, solid in solids)
    step = 0.1
    axis = np.arange(-2.2, 2.2, step, dtype=np.float32)
    x, y, z = np.meshgrid(axis, np.arange(-1.3, 3.8, step, dtype=np.float32), axis, indexing="ij")
    draft = Model(stretched, np.empty((0, 3)), 0.0, np.zeros(3), 1.0)
    d = draft.distance(x, y, z)
    near = np.abs(d) < 0.06
    shell = np.stack([x[near], y[near], z[near]], axis=1)
    low, high = shell.min(axis=0), shell.max(axis=0)
    return Model(stretched, shell, float(np.min((y + d)[near])), (low + high) / 2, float(np.max(high - low)) / 2)


def model(concept: SceneConcept) -> Model:
    """Build the object of a concept."""
    return _model(concept.family, concept.extras, concept.build)


@dataclass(frozen=True)
class Pose:
    """How object coordinates p lie in the world: turn @ (p - centre) * scale + place.

    Attributes
    ----------
    turn : Array
        Rotation, shape (3, 3).
    centre, place : Array
        Shape (3,).
    scale : float
        World units per object unit.
    ground : float
        Height of the ground in the world.
    """

    turn: Array
    centre: Array
    place: Array
    scale: float
    ground: float

    def into_object(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """World points in object coordinates."""
        px, py, pz = (float(p) for p in self.place)
        a, b, c = self.into_direction(
            (x - px) * (1 / self.scale), (y - py) * (1 / self.scale), (z - pz) * (1 / self.scale)
        )
        cx, cy, cz = (float(p) for p in self.centre)
        return a + cx, b + cy, c + cz

    def into_direction(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """World directions in object coordinates."""
        m = [[float(v) for v in row] for row in self.turn]
        first, second, third = (m[0][i] * x + m[1][i] * y + m[2][i] * z for i in range(3))
        return first, second, third


def pose(scene: Scene, thing: Model) -> Pose:
    """Turn the object, scale it to its share of the picture and put it on the ground (or above it)."""
    yaw, tilt = math.radians(scene.yaw), math.radians(scene.tilt)
    about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_z = np.array([[math.cos(tilt), -math.sin(tilt), 0], [math.sin(tilt), math.cos(tilt), 0], [0, 0, 1]])
    turn = about_z @ about_y
    turned = (thing.shell - thing.centre) @ turn.T
    up = _axes(scene.elevation)[1]
    seen = np.stack([turned[:, 0], turned @ up], axis=1)
    low, high = seen.min(axis=0), seen.max(axis=0)
    scale = 2 * scene.extent / float(np.max(high - low))
    middle = (low + high) / 2 * scale
    place = -(middle[0] * np.array([1.0, 0, 0]) + middle[1] * up)
    lowest = float(turned[:, 1].min()) if scene.tilt else thing.bottom - float(thing.centre[1])
    ground = float(place[1]) + lowest * scale - scene.lift * scene.extent
    return Pose(turn, thing.centre, place, scale, ground)


def _axes(elevation: float) -> tuple[Array, Array]:
    """Direction from the object to the camera, and the camera's up."""
    e = math.radians(elevation)
    return np.array([0, math.sin(e), math.cos(e)]), np.array([0, math.cos(e), -math.sin(e)])


def eye(scene: Scene) -> Array:
    """Position of the camera in the world, shape (3,)."""
    return DISTANCE * _axes(scene.elevation)[0]


def rays(scene: Scene, across: Array, up: Array) -> tuple[Array, Array, Array]:
    """Unit directions of the rays through picture positions in [-1, 1]."""
    back, rise = _axes(scene.elevation)
    a, b = across - scene.x, up - scene.y
    y, z = float(rise[1]) * b - DISTANCE * float(back[1]), float(rise[2]) * b - DISTANCE * float(back[2])
    per = 1.0 / np.sqrt(a * a + y * y + z * z)
    return a * per, y * per, z * per


def grid(size: int, columns: tuple[int, int] | None = None, rows: tuple[int, int] | None = None) -> tuple[Array, Array]:
    """Picture positions (across, up) of the pixel centres, shape (rows, columns)."""
    c0, c1 = columns or (0, size)
    r0, r1 = rows or (0, size)
    across = (np.arange(c0, c1, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    up = 1.0 - (np.arange(r0, r1, dtype=np.float32) + 0.5) * (2.0 / size)
    return np.broadcast_to(across, (r1 - r0, c1 - c0)), np.broadcast_to(up[:, None], (r1 - r0, c1 - c0))


def view(scene: Scene, at: Pose, size: int, *, wall: float | None) -> View:
    """Find what each pixel sees of ground, wall (at `wall` behind the object; None outdoors) and horizon."""
    across, up = grid(size)
    dx, dy, dz = rays(scene, across, up)
    _, ey, ez = (float(c) for c in eye(scene))
    down = np.where(dy < -1e-3, dy, -1e-3)
    away = (at.ground - ey) / down
    floor_x, floor_z = dx * away, ez + dz * away
    on_floor = dy < -1e-3
    back = ((-wall if wall is not None else -50.0) - ez) / dz
    if wall is not None:
        on_floor &= floor_z > -wall
    horizon = DISTANCE * math.tan(math.radians(scene.elevation)) + scene.y
    return View(
        across, up, floor_x, floor_z, dx * back, ey + dy * back - at.ground, on_floor, away, up - horizon
    )  # fmt: skip
