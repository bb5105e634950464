"""Furniture, buildings and vehicles."""

from __future__ import annotations

import numpy as np

from brainalign.stimuli.scenes.forms import Solid, family
from brainalign.stimuli.scenes.solids import (
    Array,
    Field,
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


def _gable(low: float, width: float, height: float, depth: float) -> Field:
    """Roof of triangular section, `height` above `low`, ridge along z."""
    size = (width * width + height * height) ** 0.5

    def outline(x: Array, y: Array) -> Array:
        slope = (np.abs(x) * height + (y - low - height) * width) * (1 / size)
        return np.maximum(slope, low - y)

    return extrude(outline, depth, 0.02)


def _wheels(x: float, z: float, radius: float) -> list[Solid]:
    """Four wheels at plus and minus x and z, with hubs."""
    tyre = swap(cylinder((x, z, radius), radius, 0.12, 0.05), "yz")
    hub = swap(cylinder((x, z, radius), 0.5 * radius, 0.14, 0.02), "yz")
    return [("dark", mirror(tyre, "x", "z")), ("metal", mirror(hub, "x", "z"))]


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
        leaves = union(rod((0.35, 1.6, 0), (0.15, 2.1, 0), 0.05, 0.12), rod((0.35, 1.6, 0), (0.6, 2.1, 0.05), 0.05, 0.12))
        solids += [("accent", pot), ("leaf", leaves)]
    return solids


@family("furniture", ("a pull chain", "a round foot"), wrap=True)
def lamp(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cone((0, 1.75, 0), 0.78, 0.42, 0.42)), ("metal", rod((0, 0.1, 0), (0, 1.5, 0), 0.07))]
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
        shell = cut(cylinder((0, 1.85, 0), 0.62, 0.22, 0.04), cylinder((0, 1.85, 0), 0.52, 1, 0.02), box((0, 1.8, 1.0), (2, 1, 1)))
        posts = mirror(rod((0.42, 1.2, -0.36), (0.42, 1.8, -0.38), 0.05), "x")
        solids += [("body", shell), ("metal", posts)]
    return solids


@family("furniture", ("a drawer at the bottom", "a clock on top"), yaw=25, swing=30)
def cabinet(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cut(box((0, 1.0, 0), (0.7, 1.0, 0.42)), box((0, 1.2, 0.5), (0.012, 0.75, 0.12), 0.001)))]
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
        solids += [("body", box((1.15, 0.38, 0.2), (0.42, 0.38, 0.5), 0.02)), ("white", box((1.15, 0.3, 0.7), (0.3, 0.28, 0.03), 0.01))]
        solids.append(("accent", box((1.15, 0.8, 0.2), (0.47, 0.05, 0.55), 0.02)))
    return solids


@family("building", ("a clock", "a flag"), wrap=True, yaw=0, swing=40)
def tower(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cone((0, 0.9, 0), 0.58, 0.45, 0.9)), ("accent", cone((0, 2.1, 0), 0.65, 0.02, 0.36))]
    windows = around(5, box((0.5, 1.3, 0), (0.08, 0.14, 0.08), 0.02))
    solids += [("dark", windows), ("wood", box((0, 0.28, 0.54), (0.16, 0.3, 0.06), 0.02))]
    if "a clock" in extras:
        solids += [("white", swap(cylinder((0, 0.5, 0.85), 0.22, 0.08), "yz")), ("dark", rod((0, 0.85, 0.59), (0.08, 0.97, 0.59), 0.03))]
    if "a flag" in extras:
        solids += [("metal", rod((0, 2.4, 0), (0, 2.95, 0), 0.04)), ("pink", box((0.25, 2.8, 0), (0.23, 0.13, 0.03), 0.02))]
    return solids


@family("building", ("pointed roofs", "banners"), yaw=-30, swing=40)
def castle(extras: Extras) -> list[Solid]:
    wall = cut(box((0, 0.45, 0), (0.85, 0.45, 0.85), 0.02), box((0, 1.0, 0), (0.7, 0.5, 0.7), 0.02))
    notch = mirror(union(box((0.28, 0.95, 0.8), (0.12, 0.1, 0.08), 0.01), box((0.8, 0.95, 0.28), (0.08, 0.1, 0.12), 0.01)), "x", "z")
    turrets = mirror(cylinder((0.85, 0.65, 0.85), 0.27, 0.65, 0.02), "x", "z")
    keep = box((0, 0.8, -0.1), (0.38, 0.8, 0.38), 0.02)
    gate = union(box((0, 0.22, 0.85), (0.2, 0.25, 0.05), 0.01), swap(cylinder((0, 0.85, 0.46), 0.2, 0.05), "yz"))
    solids: list[Solid] = [("body", union(wall, notch, turrets, keep)), ("dark", gate)]
    if "pointed roofs" in extras:
        solids += [("accent", mirror(cone((0.85, 1.55, 0.85), 0.36, 0.01, 0.28), "x", "z")), ("accent", pyramid((0, 1.85, -0.1), 0.45, 0.28))]
    if "banners" in extras:
        solids.append(("pink", mirror(box((0.55, 0.55, 0.88), (0.11, 0.25, 0.03), 0.01), "x")))
    return solids


@family("building", ("a balcony", "a small shed"), wrap=True, yaw=-15, swing=35)
def windmill(extras: Extras) -> list[Solid]:
    solids: list[Solid] = [("body", cone((0, 0.75, 0), 0.62, 0.4, 0.75)), ("accent", ellipsoid((0, 1.5, 0), (0.43, 0.38, 0.43)))]
    blade = union(rod((0, 0, 0), (1.0, 0, 0), 0.035), box((0.62, 0.0, 0.11), (0.4, 0.02, 0.12), 0.01))
    solids += [("white", move((0, 1.5, 0.55), swap(around(4, blade), "yz"))), ("dark", rod((0, 1.5, 0.3), (0, 1.5, 0.62), 0.09))]
    solids.append(("wood", box((0, 0.25, 0.55), (0.15, 0.27, 0.08), 0.02)))
    if "a balcony" in extras:
        solids.append(("wood", swap(torus((0, 0, 0.75), 0.6, 0.08), "yz")))
    if "a small shed" in extras:
        solids += [("body", box((0.8, 0.25, 0), (0.3, 0.25, 0.3))), ("accent", move((0.8, 0, 0), _gable(0.5, 0.38, 0.3, 0.35)))]
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
        solids += [("white", swap(cylinder((0, 0.38, 1.15), 0.17, 0.08), "yz")), ("blue", swap(cylinder((0, 0.4, 1.15), 0.12, 0.09), "yz"))]
    return solids


@family("vehicle", ("a roof rack", "a spoiler"), yaw=-25, swing=40)
def car(extras: Extras) -> list[Solid]:
    body = blend(0.12, box((0, 0.52, 0), (1.25, 0.27, 0.55), 0.12), box((-0.1, 0.9, 0), (0.65, 0.28, 0.47), 0.16))
    glass = union(box((-0.1, 0.94, 0), (0.5, 0.16, 0.5), 0.06), box((-0.1, 0.94, 0), (0.69, 0.16, 0.38), 0.06))
    lights = mirror(sphere((1.22, 0.58, 0.36), 0.11), "z")
    solids: list[Solid] = [("body", body), ("glass", glass), ("glow", lights), *_wheels(0.75, 0.5, 0.28)]
    if "a roof rack" in extras:
        solids += [("wood", box((-0.1, 1.32, 0), (0.45, 0.11, 0.3))), ("dark", mirror(rod((-0.5, 1.2, 0.3), (0.3, 1.2, 0.3), 0.04), "z"))]
    if "a spoiler" in extras:
        wing = union(box((-1.15, 1.02, 0), (0.17, 0.04, 0.55)), mirror(rod((-1.1, 0.7, 0.35), (-1.15, 1.0, 0.35), 0.05), "z"))
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
    hull = cut(both(outer, box((0, 0.2, 0), (2, 0.5, 1))), both(ellipsoid((0, 0.8, 0), (1.08, 0.6, 0.4)), box((0, 0.9, 0), (2, 0.4, 1))))
    sail = both(extrude(lambda x, y: np.maximum(np.maximum(x * 0.88 + (y - 2.2) * 0.47, -x + 0.1), 0.85 - y), 0.04, 0.01))
    jib = extrude(lambda x, y: np.maximum(np.maximum(-x * 0.9 + (y - 2.0) * 0.43, x + 0.08), 0.85 - y), 0.04, 0.01)
    solids: list[Solid] = [("body", hull), ("wood", rod((0, 0.3, 0), (0, 2.35, 0), 0.06)), ("white", sail), ("accent", jib)]
    if "a flag" in extras:
        solids.append(("pink", box((0.22, 2.38, 0), (0.22, 0.12, 0.03), 0.02)))
    if "a cabin" in extras:
        solids += [("white", box((-0.5, 0.8, 0), (0.3, 0.25, 0.25))), ("glass", box((-0.5, 0.85, 0), (0.2, 0.1, 0.27), 0.02))]
    return solids


@family("vehicle", ("flames", "stripes of rivets"), wrap=True, swing=60, floats=True)
def rocket(extras: Extras) -> list[Solid]:
    profile = [(0.3, 0.38), (0.9, 0.5), (1.5, 0.42), (1.9, 0.25), (2.25, 0.02)]
    fins = around(3, extrude(lambda x, y: np.maximum(np.maximum(x - 0.95, (y - 1.0) * 0.7 + (x - 0.35) * 0.7), 0.05 - y + (0.5 - x) * 0.4), 0.06, 0.02))
    window = union(swap(cylinder((0, 0.46, 1.3), 0.17, 0.1), "yz"))
    solids: list[Solid] = [("body", revolve(profile)), ("accent", fins), ("glass", window), ("metal", cone((0, 0.22, 0), 0.36, 0.25, 0.12))]
    solids.append(("accent", both(revolve([(0.3, 0.40), (0.9, 0.52), (1.5, 0.44), (1.9, 0.27), (2.3, 0.02)]), box((0, 2.7, 0), (1, 0.8, 1)))))
    if "flames" in extras:
        solids += [("warm", cone((0, -0.15, 0), 0.02, 0.27, 0.3)), ("yellow", around(5, rod((0.17, 0.1, 0), (0.2, -0.25, 0), 0.09, 0.01)))]
    if "stripes of rivets" in extras:
        solids.append(("metal", union(around(10, sphere((0.49, 0.85, 0), 0.05)), around(10, sphere((0.43, 0.5, 0), 0.05)))))
    return solids


@family("vehicle", ("propellers", "a row of windows"), yaw=-25, swing=50, floats=True)
def plane(extras: Extras) -> list[Solid]:
    hull = ellipsoid((0, 0.6, 0), (1.25, 0.3, 0.3))
    wings = box((0.1, 0.55, 0), (0.3, 0.05, 1.25), 0.04)
    tail = union(box((-1.05, 0.7, 0), (0.17, 0.04, 0.45)), tip(20, (-1.05, 0.6), box((-1.05, 0.9, 0), (0.17, 0.32, 0.04))))
    solids: list[Solid] = [("body", hull), ("accent", union(wings, tail)), ("glass", ellipsoid((0.75, 0.74, 0), (0.27, 0.17, 0.2)))]
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
    solids: list[Solid] = [("body", union(boiler, cab)), ("dark", frame), ("accent", chimney), *_wheels(0.6, 0.48, 0.27)]
    solids += [("accent", box((-0.65, 1.6, 0), (0.45, 0.06, 0.56))), ("glow", sphere((1.1, 0.85, 0), 0.14))]
    if "a tender" in extras:
        solids += [("body", box((-1.5, 0.65, 0), (0.4, 0.3, 0.45))), ("dark", mirror(swap(cylinder((-1.5, 0.45, 0.22), 0.22, 0.1), "yz"), "z"))]
    if "a bell" in extras:
        solids.append(("yellow", cone((0.2, 1.25, 0), 0.2, 0.05, 0.15)))
    return solids
