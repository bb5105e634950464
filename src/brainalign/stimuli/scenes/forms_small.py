"""Geometric bodies, containers and tools."""

# ruff: noqa: D103 - a builder's name and its extras say what it builds.

from __future__ import annotations

import math

from brainalign.stimuli.scenes.forms import Solid, family
from brainalign.stimuli.scenes.solids import (
    around,
    blend,
    both,
    box,
    cone,
    cut,
    cylinder,
    ellipsoid,
    extrude,
    heart_outline,
    mirror,
    move,
    pyramid,
    revolve,
    rod,
    sphere,
    star_outline,
    swap,
    tip,
    torus,
    union,
)

Extras = frozenset[str]


def _eyes(height: float, depth: float, apart: float = 0.3, radius: float = 0.17) -> list[Solid]:
    white = mirror(sphere((apart, height, depth), radius), "x")
    pupil = mirror(sphere((apart, height, depth + 0.55 * radius), 0.62 * radius), "x")
    return [("white", white), ("dark", pupil)]


@family("geometric", ("spikes", "eyes"), wrap=True, floats=True)
def ball(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", sphere((0, 0.9, 0), 0.9))]
    if "spikes" in extras:
        level = [around(8, tip(t, (0, 0.9), rod((0.85, 0.9, 0), (1.3, 0.9, 0), 0.13, 0.01))) for t in (0, 45, -45)]
        solids.append(("accent", union(*level, rod((0, 1.75, 0), (0, 2.2, 0), 0.13, 0.01))))
    return solids + (_eyes(1.2, 0.82, 0.3, 0.2) if "eyes" in extras else [])


@family("geometric", ("legs", "a round hole"), yaw=35, swing=30, floats=True)
def cube(extras: Extras) -> list[Solid]:
    body = box((0, 0.75, 0), (0.75, 0.75, 0.75), 0.08)
    if "a round hole" in extras:
        body = cut(body, swap(cylinder((0, 0, 0.75), 0.42, 2.0), "yz"))
    legs = mirror(rod((0.5, 0, 0.5), (0.6, -0.6, 0.6), 0.12), "x", "z")
    return [("body", body)] + ([("accent", legs)] if "legs" in extras else [])


@family("geometric", ("a collar", "antennas"), wrap=True)
def cylinder_block(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cylinder((0, 0.9, 0), 0.6, 0.9, 0.06))]
    if "a collar" in extras:
        solids.append(("accent", swap(torus((0, 0, 0.9), 0.62, 0.16), "yz")))
    if "antennas" in extras:
        stalks = mirror(rod((0.2, 1.75, 0), (0.5, 2.4, 0), 0.06), "x")
        solids += [("dark", stalks), ("accent", mirror(sphere((0.5, 2.42, 0), 0.16), "x"))]
    return solids


@family("geometric", ("a ball on top", "a wide rim"), wrap=True)
def cone_block(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cone((0, 0.95, 0), 0.85, 0.02, 0.95))]
    if "a ball on top" in extras:
        solids.append(("accent", sphere((0, 1.95, 0), 0.25)))
    if "a wide rim" in extras:
        solids.append(("accent", cylinder((0, 0.08, 0), 1.15, 0.08)))
    return solids


@family("geometric", ("knobs", "a stand"), swing=50, floats=True)
def ring(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", torus((0, 0.95, 0), 0.68, 0.27))]
    if "knobs" in extras:
        knobs = around(6, sphere((0.98, 0, 0), 0.17))
        solids.append(("accent", move((0, 0.95, 0), swap(knobs, "yz"))))
    if "a stand" in extras:
        solids.append(("dark", union(box((0, -0.1, 0), (0.6, 0.1, 0.4)), cylinder((0, 0.1, 0), 0.18, 0.2))))
    return solids


@family("geometric", ("eyes", "a stick"), swing=40, floats=True)
def star(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", extrude(star_outline(5, 1.05, 0.48, 1.0), 0.26, 0.08))]
    if "a stick" in extras:
        solids.append(("wood", rod((0, 0.5, 0), (0, -0.9, 0), 0.08)))
    return solids + (_eyes(1.1, 0.26, 0.19, 0.13) if "eyes" in extras else [])


@family("geometric", ("an arrow", "a ribbon"), swing=40, floats=True)
def heart(extras: Extras) -> list[Solid]:
    body = extrude(heart_outline(0.58, 0.82), 0.3, 0.14)
    solids: list[Solid] = [("body", body)]
    if "an arrow" in extras:
        shaft = rod((-1.2, 0.45, 0.35), (1.2, 1.35, 0.35), 0.05)
        head = tip(-63, (1.2, 1.35), move((1.2, 1.4, 0.35), cone((0, 0, 0), 0.17, 0.01, 0.2)))
        solids += [("wood", shaft), ("metal", head)]
    if "a ribbon" in extras:
        solids.append(("accent", both(extrude(heart_outline(0.62, 0.82), 0.36, 0.14), box((0, 0.8, 0), (0.13, 2, 1)))))
    return solids


@family("geometric", ("a metal band", "a base"), swing=60, floats=True)
def gem(extras: Extras) -> list[Solid]:
    top, low = pyramid((0, 1.3, 0), 0.75, 0.25, 0.4), pyramid((0, 0.55, 0), 0.02, 0.5, 0.75)
    turned = swap(union(top, low), "xz")
    c = math.sqrt(0.5)
    body = both(union(top, low), lambda x, y, z: turned(c * (x - z), y, c * (x + z)))
    solids: list[Solid] = [("body", body)]
    if "a metal band" in extras:
        solids.append(("metal", cylinder((0, 1.05, 0), 0.83, 0.07)))
    if "a base" in extras:
        solids.append(("dark", cone((0, 0.1, 0), 0.5, 0.2, 0.15)))
    return solids


@family("container", ("two handles", "a lid"), wrap=True)
def vase(extras: Extras) -> list[Solid]:
    profile = [(0, 0.4), (0.1, 0.42), (0.75, 0.78), (1.2, 0.62), (1.6, 0.3), (1.8, 0.3), (2.05, 0.5)]
    solids: list[Solid] = [("body", revolve(profile, None if "a lid" in extras else 0.06))]
    if "two handles" in extras:
        solids.append(("accent", mirror(torus((0.62, 1.3, 0), 0.3, 0.075), "x")))
    if "a lid" in extras:
        solids += [("accent", ellipsoid((0, 2.05, 0), (0.52, 0.2, 0.52))), ("accent", sphere((0, 2.32, 0), 0.13))]
    return solids


@family("container", ("a cork", "a label"), wrap=True)
def bottle(extras: Extras) -> list[Solid]:
    profile = [(0, 0.5), (1.25, 0.52), (1.45, 0.48), (1.75, 0.17), (2.2, 0.16), (2.21, 0.22), (2.35, 0.22)]
    solids: list[Solid] = [("body", revolve(profile))]
    if "a cork" in extras:
        solids.append(("wood", cylinder((0, 2.45, 0), 0.15, 0.16)))
    if "a label" in extras:
        solids.append(("white", cylinder((0, 0.72, 0), 0.545, 0.32, 0.01)))
    return solids


@family("container", ("a straw", "a saucer"), wrap=True, yaw=10, swing=50)
def mug(extras: Extras) -> list[Solid]:
    cup = cut(cylinder((0, 0.65, 0), 0.6, 0.65, 0.05), cylinder((0, 0.85, 0), 0.51, 0.65, 0.03))
    solids: list[Solid] = [("body", cup), ("accent", torus((0.66, 0.65, 0), 0.34, 0.09))]
    solids[1] = ("accent", cut(solids[1][1], cylinder((0, 0.65, 0), 0.56, 0.7)))
    if "a straw" in extras:
        solids.append(("white", rod((-0.1, 0.2, 0), (-0.45, 1.9, 0.1), 0.06)))
    if "a saucer" in extras:
        solids.append(("body", cone((0, 0.02, 0), 0.55, 1.0, 0.07)))
    return solids


@family("container", ("fruit inside", "a tall foot"), wrap=True)
def bowl(extras: Extras) -> list[Solid]:
    profile = [(0.1, 0.35), (0.14, 0.4), (0.3, 0.75), (0.55, 0.97), (0.8, 1.05)]
    foot = cone((0, -0.2 if "a tall foot" in extras else 0.04, 0), 0.5, 0.22, 0.36 if "a tall foot" in extras else 0.12)
    solids: list[Solid] = [("body", revolve(profile, 0.06)), ("accent", foot)]
    if "fruit inside" in extras:
        solids.append(("warm", union(sphere((-0.35, 0.75, 0.2), 0.33), sphere((0.05, 0.9, -0.3), 0.33))))
        solids.append(("leaf", union(sphere((0.4, 0.78, 0.2), 0.32), sphere((0.5, 0.72, -0.4), 0.28))))
    return solids


@family("container", ("three feet", "a flower on top"), wrap=True, swing=35)
def teapot(extras: Extras) -> list[Solid]:
    body = ellipsoid((0, 0.75, 0), (0.8, 0.66, 0.8))
    spout = blend(0.1, rod((0.6, 0.55, 0), (1.05, 0.95, 0), 0.2, 0.12), rod((1.05, 0.95, 0), (1.25, 1.2, 0), 0.11, 0.1))
    handle = cut(torus((-0.85, 0.8, 0), 0.38, 0.085), body)
    knob = union(ellipsoid((0, 1.36, 0), (0.42, 0.1, 0.42)), sphere((0, 1.52, 0), 0.12))
    solids: list[Solid] = [("body", blend(0.12, body, spout)), ("accent", handle), ("accent", knob)]
    if "three feet" in extras:
        solids.append(("dark", around(3, rod((0.4, 0.25, 0), (0.55, -0.12, 0), 0.1))))
    if "a flower on top" in extras:
        petals = around(6, ellipsoid((0.2, 1.72, 0), (0.18, 0.06, 0.11)))
        solids += [("pink", petals), ("yellow", sphere((0, 1.74, 0), 0.1))]
    return solids


@family("container", ("a handle", "a rope band"), wrap=True, swing=50)
def bucket(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", revolve([(0, 0.5), (0.7, 0.66), (1.3, 0.8)], 0.06))]
    solids.append(("metal", swap(torus((0, 0, 1.28), 0.8, 0.06), "yz")))
    if "a handle" in extras:
        arc = both(torus((0, 1.3, 0), 0.8, 0.05), box((0, 2.3, 0), (2, 1, 2)))
        solids.append(("metal", arc))
    if "a rope band" in extras:
        solids.append(("wood", swap(torus((0, 0, 0.6), 0.65, 0.09), "yz")))
    return solids


@family("tool", ("a nail puller", "a grip"), swing=50, floats=True)
def hammer(extras: Extras) -> list[Solid]:
    head = swap(cylinder((1.85, 0, 0), 0.27, 0.55, 0.05), "xy")
    neck = box((0, 1.85, 0), (0.22, 0.2, 0.2))
    solids: list[Solid] = [("body", head), ("metal", neck), ("wood", rod((0, 0.1, 0), (0, 1.8, 0), 0.12, 0.1))]
    if "a nail puller" in extras:
        solids.append(("metal", mirror(rod((-0.5, 1.85, 0.06), (-1.05, 1.55, 0.17), 0.11, 0.05), "z")))
    if "a grip" in extras:
        solids.append(("accent", rod((0, 0.1, 0), (0, 0.75, 0), 0.19)))
    return solids


@family("tool", ("a tag", "a star-shaped bow"), swing=45, floats=True)
def key(extras: Extras) -> list[Solid]:
    bow = torus((0, 1.7, 0), 0.38, 0.14)
    if "a star-shaped bow" in extras:
        bow = cut(extrude(star_outline(5, 0.68, 0.36, 1.7), 0.13, 0.05), swap(cylinder((0, 0, 1.7), 0.16, 1), "yz"))
    bits = union(box((0.2, 0.15, 0), (0.25, 0.1, 0.08)), box((0.17, 0.5, 0), (0.2, 0.1, 0.08)))
    solids: list[Solid] = [("body", union(bow, rod((0, 0.05, 0), (0, 1.3, 0), 0.13), bits))]
    if "a tag" in extras:
        tag = tip(18, (-0.5, 1.2), box((-0.62, 0.95, 0), (0.24, 0.36, 0.05)))
        solids += [("white", tag), ("dark", rod((-0.32, 1.5, 0), (-0.53, 1.25, 0), 0.04))]
    return solids


@family("tool", ("raindrops", "a knob on top"), wrap=True)
def umbrella(extras: Extras) -> list[Solid]:
    dome = cut(ellipsoid((0, 1.35, 0), (1.1, 0.75, 1.1)), ellipsoid((0, 1.25, 0), (1.04, 0.74, 1.04)))
    canopy = cut(dome, box((0, 0.35, 0), (3, 1, 3)))
    hook = both(torus((0.17, 0.1, 0), 0.17, 0.06), box((0.1, -0.9, 0), (1, 1, 1)))
    solids: list[Solid] = [("body", canopy), ("wood", union(rod((0, 0.1, 0), (0, 2.2, 0), 0.055), hook))]
    if "raindrops" in extras:
        solids.append(("blue", around(7, ellipsoid((0.95, 1.25, 0), (0.09, 0.17, 0.09)))))
    if "a knob on top" in extras:
        solids.append(("accent", sphere((0, 2.25, 0), 0.17)))
    return solids


@family("tool", ("a ribbon bow", "a wooden handle"), wrap=True, floats=True)
def bell(extras: Extras) -> list[Solid]:
    profile = [(0.1, 0.95), (0.25, 0.82), (0.6, 0.62), (1.1, 0.52), (1.4, 0.36), (1.5, 0.1)]
    solids: list[Solid] = [("body", revolve(profile)), ("metal", sphere((0, 0.08, 0), 0.2))]
    if "a wooden handle" in extras:
        solids.append(("wood", rod((0, 1.45, 0), (0, 2.15, 0), 0.12, 0.17)))
    else:
        solids.append(("metal", torus((0, 1.62, 0), 0.17, 0.06)))
    if "a ribbon bow" in extras:
        loops = mirror(tip(20, (0, 1.5), ellipsoid((0.36, 1.5, 0.25), (0.34, 0.2, 0.1))), "x")
        solids.append(("accent", union(loops, sphere((0, 1.5, 0.3), 0.13))))
    return solids


@family("tool", ("a coloured grip", "food on it"), swing=50, floats=True)
def spoon(extras: Extras) -> list[Solid]:
    scoop = cut(ellipsoid((0, 1.85, 0), (0.42, 0.58, 0.2)), ellipsoid((0, 1.88, 0.14), (0.36, 0.5, 0.18)))
    stem = blend(0.1, rod((0, 0.1, 0), (0, 1.3, 0), 0.13, 0.08), scoop)
    solids: list[Solid] = [("body", stem)]
    if "a coloured grip" in extras:
        solids.append(("accent", rod((0, 0.05, 0), (0, 0.55, 0), 0.2, 0.17)))
    if "food on it" in extras:
        solids.append(("warm", ellipsoid((0, 1.85, 0.12), (0.3, 0.42, 0.2))))
    return solids


@family("tool", ("fresh paint", "a hanging ring"), swing=50, floats=True)
def brush(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [
        ("body", blend(0.2, rod((0, 0.1, 0), (0, 0.9, 0), 0.17, 0.1), box((0, 1.15, 0), (0.42, 0.2, 0.15))))
    ]
    solids.append(("metal", box((0, 1.42, 0), (0.47, 0.13, 0.18))))
    solids.append(("straw", box((0, 1.82, 0), (0.43, 0.36, 0.14), 0.06)))
    if "fresh paint" in extras:
        solids.append(
            ("accent", union(box((0, 2.12, 0), (0.47, 0.2, 0.18), 0.1), rod((0.2, 2, 0.1), (0.2, 1.65, 0.12), 0.1)))
        )
    if "a hanging ring" in extras:
        solids.append(("metal", torus((0, -0.1, 0), 0.16, 0.05)))
    return solids
