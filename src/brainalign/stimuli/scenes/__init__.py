"""Rendered pictures of objects: the stimuli of the embedded `virtual-*` data sets.

702 concepts (54 families of objects in 8 categories, each in 13 combinations of texture, colours, build and extra
parts), any number of pictures a concept, and a true caption for each picture. Nothing is downloaded and nothing depends
on the machine: every choice comes from SHA-256 and PCG64 words.

Examples
--------
>>> from brainalign.stimuli.scenes import caption, render_scene, scene, scene_concepts
>>> concept = scene_concepts()[17]
>>> picture = render_scene(scene(concept, 0), size=64)
>>> picture.shape, picture.dtype.name
((64, 64, 3), 'uint8')
>>> concept.colour in caption(scene(concept, 0))
True
"""

from __future__ import annotations

from brainalign.stimuli.scenes.captions import caption
from brainalign.stimuli.scenes.concepts import SceneConcept, scene_concepts
from brainalign.stimuli.scenes.layout import Scene, scene
from brainalign.stimuli.scenes.render import object_mask, render_scene

__all__ = ["Scene", "SceneConcept", "caption", "object_mask", "render_scene", "scene", "scene_concepts"]
