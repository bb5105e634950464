"""One picture as a list of true attributes: what stands where, in which light, before what."""

from __future__ import annotations

from dataclasses import dataclass

from brainalign.errors import InputError
from brainalign.stimuli.scenes.backgrounds import OUTDOORS
from brainalign.stimuli.scenes.concepts import SceneConcept
from brainalign.stimuli.scenes.draws import Draws
from brainalign.stimuli.scenes.forms import families

BACKGROUNDS: dict[str, str] = {
    "studio": "against a plain backdrop",
    "brick": "in front of a brick wall",
    "parquet": "on a wooden floor",
    "tiles": "on a tiled floor",
    "checkerboard": "on a checkerboard floor",
    "meadow": "in a meadow under a blue sky",
    "beach": "on a beach by the sea",
    "snow": "on snow before distant mountains",
    "desert": "in a desert at sunset",
    "night": "under a starry night sky",
    "curtain": "in front of a striped curtain",
    "clutter": "on a table among scattered balls and boxes",
}
"""Background and how a caption words it."""

LIGHTS: dict[str, tuple[float, str]] = {
    "left": (-62.0, "lit from the left"),
    "right": (62.0, "lit from the right"),
    "front": (0.0, "lit from the front"),
}
"""Side of the light, its azimuth in degrees (0 is behind the viewer) and how a caption words it."""


@dataclass(frozen=True)
class Scene:
    """All attributes of one picture.

    Attributes
    ----------
    concept : SceneConcept
        What is shown.
    exemplar, seed : int
        Which of the concept's pictures, of which world.
    extent : float
        Larger side of the object as a share of the picture's side.
    x, y : float
        Offset of the object's centre from the picture's centre, right and up, as a share of the picture's half side.
    yaw, tilt : float
        Heading and lean of the object in degrees.
    lift : float
        Height above the ground as a share of the object's size; 0 stands on it.
    elevation : float
        Angle from which the camera looks down, degrees.
    light : str
        Side of the light: a key of `LIGHTS`.
    light_azimuth, light_elevation : float
        Direction of the light in degrees; azimuth 0 is behind the viewer, positive is right.
    light_strength, light_warmth : float
        Factor on the light, and its tint: 0 is neutral, positive is warm.
    background : str
        A key of `BACKGROUNDS`.
    texture_phase : tuple of float
        Shift of the texture in its own units.
    texture_scale : float
        Factor on the texture's frequency.
    colour_shift : tuple of float
        Added to the object's sRGB colours.
    """

    concept: SceneConcept
    exemplar: int
    seed: int
    extent: float
    x: float
    y: float
    yaw: float
    tilt: float
    lift: float
    elevation: float
    light: str
    light_azimuth: float
    light_elevation: float
    light_strength: float
    light_warmth: float
    background: str
    texture_phase: tuple[float, float, float]
    texture_scale: float
    colour_shift: tuple[float, float, float]

    @property
    def size_word(self) -> str:
        """How large the object is, in words."""
        return "small" if self.extent < 0.64 else "medium-sized" if self.extent < 0.76 else "large"

    @property
    def position_words(self) -> str:
        """Where the object is, in words."""
        return "left of centre" if self.x < -0.06 else "right of centre" if self.x > 0.06 else "in the centre"

    @property
    def stimulus_id(self) -> str:
        """Canonical name within the embedded data sets, such as 'virtual/c017_03'."""
        return f"virtual/{self.concept.concept_id}_{self.exemplar:02d}"

    def draws(self, purpose: str) -> Draws:
        """Return a stream of random numbers of this scene alone."""
        return Draws("scene", self.concept.index, self.exemplar, self.seed, purpose)


def scene(concept: SceneConcept, exemplar: int, *, seed: int = 0) -> Scene:
    """Choose everything that varies between the pictures of one concept.

    Parameters
    ----------
    concept : SceneConcept
        One of `scene_concepts()`.
    exemplar : int
        Which picture of the concept, from 0; there is no upper end.
    seed : int
        Another seed gives another world of pictures of the same concepts.

    Returns
    -------
    Scene
        The attributes; `render_scene` draws them and `caption` words them.

    Raises
    ------
    InputError
        If `exemplar` is negative.

    Examples
    --------
    >>> from brainalign.stimuli.scenes import scene_concepts
    >>> s = scene(scene_concepts()[17], 3)
    >>> s.stimulus_id
    'virtual/c017_03'
    """
    if exemplar < 0:
        raise InputError(f"exemplar is {exemplar}, expected 0 or more", where="scene")
    kind = families()[concept.family]
    draws = Draws("scene", concept.index, exemplar, seed)
    extent = draws.uniform(0.54, 0.86)
    room = 0.97 - extent
    light, background = draws.choice(list(LIGHTS)), draws.choice(list(BACKGROUNDS))
    floats = kind.floats and draws.uniform() < 0.5
    return Scene(
        concept=concept,
        exemplar=exemplar,
        seed=seed,
        extent=extent,
        x=draws.uniform(-room, room),
        y=draws.uniform(-0.5, 0.35) * room,
        yaw=kind.yaw + draws.uniform(-kind.swing, kind.swing),
        tilt=draws.uniform(-22, 22) if floats else 0.0,
        lift=draws.uniform(0.12, 0.3) if floats else 0.0,
        elevation=draws.uniform(4, 9) if background in OUTDOORS else draws.uniform(9, 25),
        light=light,
        light_azimuth=LIGHTS[light][0] + draws.uniform(-18, 18),
        light_elevation=draws.uniform(35, 62),
        light_strength=draws.uniform(0.85, 1.2),
        light_warmth=draws.uniform(-0.08, 0.14),
        background=background,
        texture_phase=draws.triple(-0.25, 0.25),
        texture_scale=draws.uniform(0.88, 1.14),
        colour_shift=draws.triple(-0.035, 0.035),
    )
