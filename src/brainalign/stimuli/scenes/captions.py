"""A sentence that says what a picture shows, made from its true attributes."""

from __future__ import annotations

from brainalign.stimuli.scenes.concepts import listed, surface_words
from brainalign.stimuli.scenes.layout import BACKGROUNDS, LIGHTS, Scene


def caption(scene: Scene) -> str:
    """Describe one picture in one English sentence.

    Parameters
    ----------
    scene : Scene
        The attributes of the picture.

    Returns
    -------
    str
        Size, build, texture, colours, shape, parts, position, background and light.

    Examples
    --------
    >>> from brainalign.stimuli.scenes import scene, scene_concepts
    >>> text = caption(scene(scene_concepts()[0], 0))
    >>> scene_concepts()[0].family in text
    True
    """
    concept = scene.concept
    build = f", {concept.build}" if concept.build else ""
    thing = f"A {scene.size_word}{build} {surface_words(concept)} {concept.family}"
    parts = f" with {listed(concept.extras)}" if concept.extras else ""
    pose = "hovering " if scene.lift else ""
    where = f"{pose}{scene.position_words}, {BACKGROUNDS[scene.background]}"
    return f"{thing}{parts}, {where}, {LIGHTS[scene.light][1]}."
