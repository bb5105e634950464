"""The table of concepts: which family, texture, colours, extras and build make each one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from brainalign.stimuli.scenes.draws import Draws
from brainalign.stimuli.scenes.forms import Family, families
from brainalign.stimuli.scenes.textures import TEXTURES

Rgb = tuple[float, float, float]

COLOURS: dict[str, Rgb] = {
    "red": (0.83, 0.13, 0.12),
    "dark red": (0.48, 0.07, 0.10),
    "orange": (0.95, 0.50, 0.10),
    "yellow": (0.96, 0.82, 0.18),
    "lime": (0.62, 0.82, 0.20),
    "green": (0.18, 0.60, 0.25),
    "dark green": (0.09, 0.34, 0.18),
    "turquoise": (0.16, 0.70, 0.68),
    "light blue": (0.52, 0.76, 0.94),
    "blue": (0.14, 0.36, 0.82),
    "dark blue": (0.10, 0.15, 0.44),
    "purple": (0.48, 0.22, 0.68),
    "lilac": (0.76, 0.64, 0.90),
    "pink": (0.95, 0.55, 0.70),
    "magenta": (0.80, 0.14, 0.52),
    "brown": (0.46, 0.28, 0.15),
    "beige": (0.87, 0.77, 0.60),
    "white": (0.94, 0.94, 0.92),
    "grey": (0.52, 0.53, 0.55),
    "black": (0.13, 0.13, 0.15),
}
"""Named colours as sRGB in [0, 1]."""

BUILDS: dict[str, tuple[float, float]] = {"": (1.0, 1.0), "tall": (0.88, 1.22), "squat": (1.12, 0.84)}
"""Adjective and the factors on width and height."""

PER_FAMILY = 13


@dataclass(frozen=True)
class SceneConcept:
    """One kind of thing that pictures show.

    Attributes
    ----------
    index : int
        Place in the table, from 0.
    concept_id : str
        'c' and the index in three digits.
    name : str
        Readable and unique, such as 'striped red vase with two handles'.
    category : str
        One of eight.
    family, texture, colour, accent, build : str
        Names in the tables of families, textures, colours and builds. `accent` is the colour of the second parts and,
        for two-coloured textures, of the pattern.
    extras : tuple of str
        Optional parts that this concept has.
    """

    index: int
    concept_id: str
    name: str
    category: str
    family: str
    texture: str
    colour: str
    accent: str
    build: str
    extras: tuple[str, ...]

    @property
    def attributes(self) -> dict[str, str | tuple[str, ...]]:
        """The combination that makes the concept, by name."""
        return {k: getattr(self, k) for k in ("family", "texture", "colour", "accent", "build", "extras")}


def listed(words: tuple[str, ...]) -> str:
    """Join words as in 'a, b and c'."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def surface_words(concept: SceneConcept) -> str:
    """Words for texture and colour, as in 'striped red and white'."""
    two = TEXTURES[concept.texture].second == "accent"
    return f"{concept.texture} {concept.colour}{' and ' + concept.accent if two else ''}"


def _differs(a: Rgb, b: Rgb) -> float:
    """Distance of two colours, weighing lightness most."""
    light = 0.3 * (a[0] - b[0]) + 0.6 * (a[1] - b[1]) + 0.1 * (a[2] - b[2])
    return float(2.0 * abs(light) + max(abs(p - q) for p, q in zip(a, b, strict=True)))


def _concept(index: int, kind: Family, rank: int) -> SceneConcept:
    """Build concept number `rank` of a family.

    Five colours and seven textures a family return in coprime turns: pairs are distinct, yet neither the colour nor
    the texture alone names a concept within its family.
    """
    order = Draws("scene family", kind.name)
    colours = order.shuffled(list(COLOURS))[:5]
    textures = order.shuffled(list(TEXTURES))[:7]
    one, two = kind.extras
    parts = order.shuffled([(), (one,), (two,), (one, two)])[rank % 4]
    draws = Draws("scene concept", kind.name, rank)
    texture, colour = textures[rank % 7], colours[rank % 5]
    build = draws.choice(list(BUILDS))
    accent = draws.choice([c for c in COLOURS if _differs(COLOURS[c], COLOURS[colour]) > 0.8])
    words = SceneConcept(index, f"c{index:03d}", "", kind.category, kind.name, texture, colour, accent, build, parts)
    name = f"{texture} {colour} {kind.name}" + (f" with {listed(parts)}" if parts else "")
    return SceneConcept(**{**vars(words), "name": name})


@lru_cache(maxsize=1)
def scene_concepts() -> tuple[SceneConcept, ...]:
    """Return all concepts in their fixed order.

    The order deals the families out in rounds: any run of consecutive concepts mixes all categories, so that training
    and test concepts taken as two slices come from the same families but share no concept.

    Returns
    -------
    tuple of SceneConcept
        702 concepts of 54 families in 8 categories.

    Examples
    --------
    >>> concepts = scene_concepts()
    >>> len(concepts), concepts[17].concept_id
    (702, 'c017')
    >>> len({c.name for c in concepts})
    702
    """
    kinds = list(families().values())
    deal: list[tuple[Family, int]] = []
    for rank in range(PER_FAMILY):
        deal += [(kind, rank) for kind in Draws("scene round", rank).shuffled(kinds)]
    return tuple(_concept(index, kind, rank) for index, (kind, rank) in enumerate(deal))
