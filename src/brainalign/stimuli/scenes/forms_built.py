"""Furniture and buildings."""

# ruff: noqa: D103 - a builder's name and its extras say what it builds.

from __future__ import annotations

import numpy as np

from brainalign.stimuli.scenes.forms import Solid, family
from brainalign.stimuli.scenes.solids import (
    Array,
    Field,
    around,
    box,
    cone,
    cut,
    cylinder,
    ellipsoid,
    extrude,
    mirror,
    move,
    pyramid,
    revolve,
    rod,
    sphere,
    swap,
    tip,
    torus,
    union,
)

Extras = frozenset[str]


def _gable(low: float, width: float, height: float, depth: float) -> Field:
    """Roof of triangular section, `height` above `low`, ridge along z."""
    size = (width * width + height * height) ** 0.5

    def outline(x: Array, y: Array) -> Array:
        slope = (np.abs(x) * height + (y - low - height) * width) * (1 / size)
        return np.asarray(np.maximum(slope, low - y))

    return extrude(outline, depth, 0.02)


@family("furniture", ("armrests", "a cushion"), yaw=-30, swing=45)
def chair(extras: Extras) -> list[Solid]:
    seat, back = box((0, 0.9, 0), (0.6, 0.09, 0.58)), box((0, 1.55, -0.53), (0.58, 0.62, 0.08))
    legs = mirror(rod((0.48, 0.05, 0.46), (0.48, 0.9, 0.46), 0.075), "x", "z")
    solids: list[Solid] = [("body", union(seat, back)), ("wood", legs)]
    if "armrests" in extras:
        arm = union(box((0.6, 1.35, -0.05), (0.08, 0.06, 0.5)), rod((0.6, 0.9, 0.4), (0.6, 1.3, 0.4), 0.06))
        solids.append(("accent", mirror(arm, "x")))
    if "a cushion" in extras:
        solids.append(("accent", box((0, 1.06, 0.03), (0.5, 0.12, 0.48), 0.11)))
    return solids


@family("furniture", ("a drawer", "a vase on top"), yaw=20, swing=40)
def table(extras: Extras) -> list[Solid]:
    legs = mirror(box((0.95, 0.5, 0.5), (0.08, 0.5, 0.08)), "x", "z")
    solids: list[Solid] = [("body", box((0, 1.06, 0), (1.15, 0.09, 0.7))), ("wood", legs)]
    if "a drawer" in extras:
        solids += [("body", box((0, 0.83, 0.2), (0.7, 0.16, 0.42))), ("metal", sphere((0, 0.83, 0.66), 0.08))]
    if "a vase on top" in extras:
        pot = move((0.35, 1.14, 0), revolve([(0, 0.12), (0.25, 0.25), (0.5, 0.1), (0.62, 0.16)]))
        leaves = union(
            rod((0.35, 1.6, 0), (0.15, 2.1, 0), 0.05, 0.12), rod((0.35, 1.6, 0), (0.6, 2.1, 0.05), 0.05, 0.12)
        )
        solids += [("accent", pot), ("leaf", leaves)]
    return solids


@family("furniture", ("a pull chain", "a round foot"), wrap=True)
def lamp(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [
        ("body", cone((0, 1.75, 0), 0.78, 0.42, 0.42)),
        ("metal", rod((0, 0.1, 0), (0, 1.5, 0), 0.07)),
    ]
    foot = ellipsoid((0, 0.32, 0), (0.5, 0.36, 0.5)) if "a round foot" in extras else cylinder((0, 0.06, 0), 0.5, 0.07)
    solids.append(("accent", foot))
    if "a pull chain" in extras:
        solids.append(("metal", union(rod((0.45, 1.4, 0.3), (0.45, 0.95, 0.3), 0.035), sphere((0.45, 0.9, 0.3), 0.1))))
    return solids


@family("furniture", ("two pillows", "wooden feet"), yaw=-15, swing=40)
def sofa(extras: Extras) -> list[Solid]:
    seat, back = box((0, 0.4, 0.05), (1.15, 0.3, 0.55), 0.1), box((0, 0.85, -0.45), (1.15, 0.55, 0.2), 0.16)
    arms = mirror(box((1.12, 0.58, 0.05), (0.2, 0.48, 0.6), 0.14), "x")
    solids: list[Solid] = [("body", union(seat, back, arms))]
    if "two pillows" in extras:
        pillow = tip(20, (0.55, 0.9), box((0.55, 0.95, -0.12), (0.3, 0.28, 0.14), 0.13))
        solids.append(("accent", mirror(pillow, "x")))
    if "wooden feet" in extras:
        solids.append(("wood", mirror(rod((1.0, 0.1, 0.45), (1.08, -0.25, 0.5), 0.09, 0.06), "x", "z")))
    return solids


@family("furniture", ("a footrest", "a backrest"), wrap=True)
def stool(extras: Extras) -> list[Solid]:
    legs = around(4, rod((0.4, 1.1, 0), (0.62, 0.05, 0), 0.075))
    solids: list[Solid] = [("body", cylinder((0, 1.2, 0), 0.62, 0.14, 0.08)), ("wood", legs)]
    if "a footrest" in extras:
        solids.append(("metal", swap(torus((0, 0, 0.4), 0.55, 0.05), "yz")))
    if "a backrest" in extras:
        shell = cut(
            cylinder((0, 1.85, 0), 0.62, 0.22, 0.04),
            cylinder((0, 1.85, 0), 0.52, 1, 0.02),
            box((0, 1.8, 1.0), (2, 1, 1)),
        )
        posts = mirror(rod((0.42, 1.2, -0.36), (0.42, 1.8, -0.38), 0.05), "x")
        solids += [("body", shell), ("metal", posts)]
    return solids


@family("furniture", ("a drawer at the bottom", "a clock on top"), yaw=25, swing=30)
def cabinet(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [
        ("body", cut(box((0, 1.0, 0), (0.7, 1.0, 0.42)), box((0, 1.2, 0.5), (0.012, 0.75, 0.12), 0.001)))
    ]
    solids.append(("metal", mirror(sphere((0.13, 1.15, 0.47), 0.08), "x")))
    if "a drawer at the bottom" in extras:
        solids += [("accent", box((0, 0.28, 0.3), (0.6, 0.18, 0.2))), ("metal", sphere((0, 0.28, 0.54), 0.08))]
    if "a clock on top" in extras:
        face = swap(cylinder((0, 0.0, 2.3), 0.28, 0.14), "yz")
        hands = union(rod((0, 2.3, 0.16), (0, 2.48, 0.16), 0.025), rod((0, 2.3, 0.16), (0.12, 2.34, 0.16), 0.025))
        solids += [("accent", swap(cylinder((0, 0.0, 2.3), 0.33, 0.1), "yz")), ("white", face), ("dark", hands)]
    return solids


@family("building", ("a chimney", "a garage"), yaw=-30, swing=35)
def house(extras: Extras) -> list[Solid]:
    walls = box((0, 0.55, 0), (0.75, 0.55, 0.8), 0.02)
    windows = mirror(box((0.4, 0.65, 0.8), (0.15, 0.17, 0.03), 0.01), "x")
    side = mirror(box((0.75, 0.65, 0.35), (0.03, 0.17, 0.17), 0.01), "x", "z")
    solids: list[Solid] = [("body", walls), ("accent", _gable(1.08, 0.98, 0.75, 0.95)), ("glow", union(windows, side))]
    solids.append(("wood", box((0, 0.35, 0.8), (0.16, 0.35, 0.04), 0.01)))
    if "a chimney" in extras:
        solids.append(("brick", box((0.45, 1.65, -0.3), (0.14, 0.4, 0.14), 0.01)))
    if "a garage" in extras:
        solids += [
            ("body", box((1.15, 0.38, 0.2), (0.42, 0.38, 0.5), 0.02)),
            ("white", box((1.15, 0.3, 0.7), (0.3, 0.28, 0.03), 0.01)),
        ]
        solids.append(("accent", box((1.15, 0.8, 0.2), (0.47, 0.05, 0.55), 0.02)))
    return solids


@family("building", ("a clock", "a flag"), wrap=True, yaw=0, swing=40)
def tower(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [
        ("body", cone((0, 0.9, 0), 0.58, 0.45, 0.9)),
        ("accent", cone((0, 2.1, 0), 0.65, 0.02, 0.36)),
    ]
    windows = around(5, box((0.47, 1.3, 0), (0.06, 0.15, 0.08), 0.02))
    solids += [("dark", windows), ("wood", box((0, 0.28, 0.54), (0.16, 0.3, 0.06), 0.02))]
    if "a clock" in extras:
        solids += [
            ("white", swap(cylinder((0, 0.5, 0.85), 0.22, 0.08), "yz")),
            ("dark", rod((0, 0.85, 0.59), (0.08, 0.97, 0.59), 0.03)),
        ]
    if "a flag" in extras:
        solids += [
            ("metal", rod((0, 2.4, 0), (0, 2.95, 0), 0.04)),
            ("pink", box((0.25, 2.8, 0), (0.23, 0.13, 0.03), 0.02)),
        ]
    return solids


@family("building", ("pointed roofs", "banners"), yaw=-30, swing=40)
def castle(extras: Extras) -> list[Solid]:
    wall = cut(box((0, 0.45, 0), (0.85, 0.45, 0.85), 0.02), box((0, 1.0, 0), (0.7, 0.5, 0.7), 0.02))
    notch = mirror(
        union(box((0.28, 0.95, 0.8), (0.12, 0.1, 0.08), 0.01), box((0.8, 0.95, 0.28), (0.08, 0.1, 0.12), 0.01)),
        "x",
        "z",
    )
    turrets = mirror(cylinder((0.85, 0.65, 0.85), 0.27, 0.65, 0.02), "x", "z")
    keep = box((0, 0.8, -0.1), (0.38, 0.8, 0.38), 0.02)
    gate = union(box((0, 0.22, 0.85), (0.2, 0.25, 0.05), 0.01), swap(cylinder((0, 0.85, 0.46), 0.2, 0.05), "yz"))
    solids: list[Solid] = [("body", union(wall, notch, turrets, keep)), ("dark", gate)]
    if "pointed roofs" in extras:
        solids += [
            ("accent", mirror(cone((0.85, 1.55, 0.85), 0.36, 0.01, 0.28), "x", "z")),
            ("accent", pyramid((0, 1.85, -0.1), 0.45, 0.28)),
        ]
    if "banners" in extras:
        solids.append(("pink", mirror(box((0.55, 0.55, 0.88), (0.11, 0.25, 0.03), 0.01), "x")))
    return solids


@family("building", ("a balcony", "a small shed"), wrap=True, yaw=-15, swing=35)
def windmill(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [
        ("body", cone((0, 0.75, 0), 0.62, 0.4, 0.75)),
        ("accent", ellipsoid((0, 1.5, 0), (0.43, 0.38, 0.43))),
    ]
    blade = union(rod((0, 0, 0), (1.0, 0, 0), 0.035), box((0.62, 0.0, 0.0), (0.4, 0.02, 0.14), 0.01))
    solids += [
        ("white", move((0, 1.5, 0.55), swap(around(4, blade), "yz"))),
        ("dark", rod((0, 1.5, 0.3), (0, 1.5, 0.62), 0.09)),
    ]
    solids.append(("wood", box((0, 0.25, 0.55), (0.15, 0.27, 0.08), 0.02)))
    if "a balcony" in extras:
        solids.append(("wood", swap(torus((0, 0, 0.75), 0.6, 0.08), "yz")))
    if "a small shed" in extras:
        solids += [
            ("body", box((0.8, 0.25, 0), (0.3, 0.25, 0.3))),
            ("accent", move((0.8, 0, 0), _gable(0.5, 0.38, 0.3, 0.35))),
        ]
    return solids


@family("building", ("bunting", "a stovepipe"), yaw=-30, swing=40)
def tent(extras: Extras) -> list[Solid]:
    flap = _gable(0.0, 0.36, 1.0, 0.3)
    solids: list[Solid] = [("body", cut(_gable(0.0, 1.0, 1.35, 1.1), move((0, 0, 1.1), flap)))]
    solids.append(("dark", move((0, 0, 0.78), flap)))
    poles = mirror(rod((0, 1.3, 1.05), (0, 1.55, 1.1), 0.05), "z")
    solids.append(("wood", poles))
    if "bunting" in extras:
        row = [ellipsoid((0, 1.43, -0.8 + 0.4 * i), (0.12, 0.12, 0.09)) for i in range(5)]
        solids.append(("accent", union(*row, rod((0, 1.5, -1.1), (0, 1.5, 1.1), 0.025))))
    if "a stovepipe" in extras:
        solids += [("metal", cylinder((0.5, 1.2, -0.4), 0.1, 0.5)), ("dark", cone((0.5, 1.75, -0.4), 0.2, 0.04, 0.09))]
    return solids


@family("building", ("a dome", "a round window"), wrap=True, yaw=10, swing=40)
def lighthouse(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cone((0, 1.0, 0), 0.5, 0.3, 0.9)), ("grey", cone((0, 0.05, 0), 0.85, 0.6, 0.1))]
    solids += [("dark", cylinder((0, 1.93, 0), 0.45, 0.05)), ("glow", cylinder((0, 2.15, 0), 0.23, 0.2))]
    top = ellipsoid((0, 2.35, 0), (0.32, 0.28, 0.32)) if "a dome" in extras else cone((0, 2.5, 0), 0.36, 0.01, 0.17)
    solids.append(("accent", top))
    if "a round window" in extras:
        solids += [
            ("white", swap(cylinder((0, 0.38, 1.15), 0.17, 0.08), "yz")),
            ("blue", swap(cylinder((0, 0.4, 1.15), 0.12, 0.09), "yz")),
        ]
    return solids
