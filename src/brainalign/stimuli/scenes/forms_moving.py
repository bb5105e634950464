"""Vehicles. Those with a front drive along positive x."""

# ruff: noqa: D103 - a builder's name and its extras say what it builds.

from __future__ import annotations

import numpy as np

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
    mirror,
    revolve,
    rod,
    sphere,
    star_outline,
    swap,
    tip,
    union,
)

Extras = frozenset[str]


def _wheels(x: float, z: float, radius: float) -> list[Solid]:
    """Four wheels at plus and minus x and z, with hubs."""
    tyre = swap(cylinder((x, z, radius), radius, 0.12, 0.05), "yz")
    hub = swap(cylinder((x, z, radius), 0.5 * radius, 0.14, 0.02), "yz")
    return [("dark", mirror(tyre, "x", "z")), ("metal", mirror(hub, "x", "z"))]


@family("vehicle", ("a roof rack", "a spoiler"), yaw=-25, swing=40)
def car(extras: Extras) -> list[Solid]:
    body = blend(0.12, box((0, 0.52, 0), (1.25, 0.27, 0.55), 0.12), box((-0.1, 0.9, 0), (0.65, 0.28, 0.47), 0.16))
    glass = union(box((-0.1, 0.94, 0), (0.5, 0.16, 0.5), 0.06), box((-0.1, 0.94, 0), (0.69, 0.16, 0.38), 0.06))
    lights = mirror(sphere((1.22, 0.58, 0.36), 0.11), "z")
    solids: list[Solid] = [("body", body), ("glass", glass), ("glow", lights), *_wheels(0.75, 0.5, 0.28)]
    if "a roof rack" in extras:
        solids += [
            ("wood", box((-0.1, 1.32, 0), (0.45, 0.11, 0.3))),
            ("dark", mirror(rod((-0.5, 1.2, 0.3), (0.3, 1.2, 0.3), 0.04), "z")),
        ]
    if "a spoiler" in extras:
        wing = union(
            box((-1.15, 1.02, 0), (0.17, 0.04, 0.55)), mirror(rod((-1.1, 0.7, 0.35), (-1.15, 1.0, 0.35), 0.05), "z")
        )
        solids.append(("accent", wing))
    return solids


@family("vehicle", ("a load of barrels", "an exhaust pipe"), yaw=-25, swing=40)
def truck(extras: Extras) -> list[Solid]:
    cab = box((0.85, 0.85, 0), (0.4, 0.6, 0.52), 0.1)
    open_bed = "a load of barrels" in extras
    cargo = box((-0.45, 0.55, 0), (0.85, 0.25, 0.54)) if open_bed else box((-0.45, 0.98, 0), (0.85, 0.68, 0.54))
    solids: list[Solid] = [("accent", cab), ("body", cargo), ("glass", box((0.95, 1.1, 0), (0.34, 0.2, 0.44), 0.03))]
    solids[2] = ("glass", union(solids[2][1], box((0.9, 1.1, 0), (0.22, 0.18, 0.55), 0.03)))
    solids += _wheels(0.8, 0.48, 0.28)
    if open_bed:
        solids.append(("wood", union(*(cylinder((-1.0 + 0.5 * i, 1.0, 0), 0.23, 0.3, 0.08) for i in range(3)))))
    if "an exhaust pipe" in extras:
        solids.append(("metal", mirror(cylinder((0.42, 1.35, 0.45), 0.08, 0.5), "z")))
    return solids


@family("vehicle", ("a flag", "a cabin"), yaw=-15, swing=45)
def boat(extras: Extras) -> list[Solid]:
    outer = ellipsoid((0, 0.75, 0), (1.2, 0.75, 0.5))
    hull = cut(
        both(outer, box((0, 0.2, 0), (2, 0.5, 1))),
        both(ellipsoid((0, 0.8, 0), (1.08, 0.6, 0.4)), box((0, 0.9, 0), (2, 0.4, 1))),
    )
    sail = both(
        extrude(lambda x, y: np.maximum(np.maximum(x * 0.88 + (y - 2.2) * 0.47, -x + 0.1), 0.85 - y), 0.04, 0.01)
    )
    jib = extrude(lambda x, y: np.maximum(np.maximum(-x * 0.9 + (y - 2.0) * 0.43, x + 0.08), 0.85 - y), 0.04, 0.01)
    solids: list[Solid] = [
        ("body", hull),
        ("wood", rod((0, 0.3, 0), (0, 2.35, 0), 0.06)),
        ("white", sail),
        ("accent", jib),
    ]
    if "a flag" in extras:
        solids.append(("pink", box((0.22, 2.38, 0), (0.22, 0.12, 0.03), 0.02)))
    if "a cabin" in extras:
        solids += [
            ("white", box((-0.5, 0.8, 0), (0.3, 0.25, 0.25))),
            ("glass", box((-0.5, 0.85, 0), (0.2, 0.1, 0.27), 0.02)),
        ]
    return solids


@family("vehicle", ("flames", "stripes of rivets"), wrap=True, swing=60, floats=True)
def rocket(extras: Extras) -> list[Solid]:
    profile = [(0.3, 0.38), (0.9, 0.5), (1.5, 0.42), (1.9, 0.25), (2.25, 0.02)]
    fins = around(
        3,
        extrude(
            lambda x, y: np.maximum(
                np.maximum(x - 0.95, (y - 1.0) * 0.7 + (x - 0.35) * 0.7), 0.05 - y + (0.5 - x) * 0.4
            ),
            0.06,
            0.02,
        ),
    )
    window = union(swap(cylinder((0, 0.46, 1.3), 0.17, 0.1), "yz"))
    solids: list[Solid] = [
        ("body", revolve(profile)),
        ("accent", fins),
        ("glass", window),
        ("metal", cone((0, 0.22, 0), 0.36, 0.25, 0.12)),
    ]
    solids.append(
        (
            "accent",
            both(
                revolve([(0.3, 0.40), (0.9, 0.52), (1.5, 0.44), (1.9, 0.27), (2.3, 0.02)]),
                box((0, 2.7, 0), (1, 0.8, 1)),
            ),
        )
    )
    if "flames" in extras:
        solids += [
            ("warm", cone((0, -0.15, 0), 0.02, 0.27, 0.3)),
            ("yellow", around(5, rod((0.17, 0.1, 0), (0.2, -0.25, 0), 0.09, 0.01))),
        ]
    if "stripes of rivets" in extras:
        solids.append(
            ("metal", union(around(10, sphere((0.49, 0.85, 0), 0.05)), around(10, sphere((0.43, 0.5, 0), 0.05))))
        )
    return solids


@family("vehicle", ("propellers", "a row of windows"), yaw=-25, swing=50, floats=True)
def plane(extras: Extras) -> list[Solid]:
    hull = ellipsoid((0, 0.6, 0), (1.25, 0.3, 0.3))
    wings = box((0.1, 0.55, 0), (0.3, 0.05, 1.25), 0.04)
    tail = union(
        box((-1.05, 0.7, 0), (0.17, 0.04, 0.45)), tip(20, (-1.05, 0.6), box((-1.05, 0.9, 0), (0.17, 0.32, 0.04)))
    )
    solids: list[Solid] = [
        ("body", hull),
        ("accent", union(wings, tail)),
        ("glass", ellipsoid((0.75, 0.74, 0), (0.27, 0.17, 0.2))),
    ]
    if "propellers" in extras:
        pod = rod((0.15, 0.5, 0.65), (0.5, 0.5, 0.65), 0.13)
        disc = swap(cylinder((0.5, 0.6, 0.65), 0.3, 0.025, 0.01), "xy")
        solids += [("dark", mirror(pod, "z")), ("metal", mirror(disc, "z"))]
    if "a row of windows" in extras:
        row = [sphere((-0.5 + 0.22 * i, 0.68, 0.27), 0.065) for i in range(5)]
        solids.append(("white", mirror(union(*row), "z")))
    return solids


@family("vehicle", ("sandbags", "a star on top"), wrap=True, floats=True)
def balloon(extras: Extras) -> list[Solid]:
    envelope = revolve([(0.75, 0.2), (1.0, 0.4), (1.5, 0.82), (2.0, 0.9), (2.4, 0.7), (2.65, 0.3), (2.7, 0.05)])
    basket = cut(box((0, 0.2, 0), (0.25, 0.2, 0.25)), box((0, 0.35, 0), (0.2, 0.2, 0.2)))
    ropes = mirror(rod((0.22, 0.35, 0.22), (0.2, 0.95, 0.2), 0.03), "x", "z")
    solids: list[Solid] = [("body", envelope), ("straw", basket), ("dark", ropes)]
    if "sandbags" in extras:
        solids.append(("accent", around(4, ellipsoid((0.33, 0.2, 0), (0.1, 0.14, 0.1)))))
    if "a star on top" in extras:
        solids.append(("accent", extrude(star_outline(5, 0.36, 0.17, 2.95), 0.08, 0.02)))
    return solids


@family("vehicle", ("a tender", "a bell"), yaw=-25, swing=40)
def locomotive(extras: Extras) -> list[Solid]:
    boiler = swap(cylinder((0.75, 0.35, 0), 0.38, 0.75), "xy")
    cab = cut(box((-0.65, 0.95, 0), (0.35, 0.62, 0.48)), box((-0.65, 1.2, 0), (0.2, 0.18, 1)))
    frame = box((0.05, 0.36, 0), (1.1, 0.1, 0.48))
    chimney = cone((0.75, 1.3, 0), 0.13, 0.24, 0.28)
    solids: list[Solid] = [
        ("body", union(boiler, cab)),
        ("dark", frame),
        ("accent", chimney),
        *_wheels(0.6, 0.48, 0.27),
    ]
    solids += [("accent", box((-0.65, 1.6, 0), (0.45, 0.06, 0.56))), ("glow", sphere((1.1, 0.85, 0), 0.14))]
    if "a tender" in extras:
        solids += [
            ("body", box((-1.5, 0.65, 0), (0.4, 0.3, 0.45))),
            ("dark", mirror(swap(cylinder((-1.5, 0.45, 0.22), 0.22, 0.1), "yz"), "z")),
        ]
    if "a bell" in extras:
        solids.append(("yellow", cone((0.2, 1.25, 0), 0.2, 0.05, 0.15)))
    return solids
