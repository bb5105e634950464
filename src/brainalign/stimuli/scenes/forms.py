"""What a family of objects is: a shape with optional extras, a category and a natural pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from brainalign.stimuli.scenes.solids import Field

Solid = tuple[str, Field]
"""Material ('body' carries the concept's texture and colour) and the solid made of it."""


@dataclass(frozen=True)
class Family:
    """One kind of object.

    Attributes
    ----------
    name : str
        Noun used in names and captions.
    category : str
        One of the eight categories.
    extras : tuple of str
        Optional parts, worded so that they follow 'with'.
    build : callable
        Takes the extras present and returns the solids with their materials.
    wrap : bool
        Surface textures run around the y axis instead of being projected along x, y or z.
    yaw : float
        Heading in degrees around which the pose varies; 0 shows the front (z).
    swing : float
        Largest deviation from `yaw` in degrees.
    floats : bool
        The object may hover above the ground and tilt.
    """

    name: str
    category: str
    extras: tuple[str, str]
    build: Callable[[frozenset[str]], list[Solid]]
    wrap: bool = False
    yaw: float = 0.0
    swing: float = 45.0
    floats: bool = False


_FAMILIES: dict[str, Family] = {}


def family(
    category: str,
    extras: tuple[str, str],
    *,
    wrap: bool = False,
    yaw: float = 0.0,
    swing: float = 45.0,
    floats: bool = False,
) -> Callable[[Callable[[frozenset[str]], list[Solid]]], Callable[[frozenset[str]], list[Solid]]]:
    """Register a builder under its function name ('pine_tree' becomes 'pine tree', 'cone_block' 'cone')."""

    def register(build: Callable[[frozenset[str]], list[Solid]]) -> Callable[[frozenset[str]], list[Solid]]:
        name = build.__name__.removesuffix("_block").replace("_", " ")
        _FAMILIES[name] = Family(name, category, extras, build, wrap, yaw, swing, floats)
        return build

    return register


def families() -> dict[str, Family]:
    """Return every family by name, in a fixed order."""
    # The modules register their families when they are imported.
    from brainalign.stimuli.scenes import forms_built, forms_growing, forms_living, forms_moving, forms_small  # noqa: F401

    return {name: _FAMILIES[name] for name in sorted(_FAMILIES)}
