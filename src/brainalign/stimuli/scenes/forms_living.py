"""Animals. Those seen from the side look along positive x."""

# ruff: noqa: D103 - a builder's name and its extras say what it builds.

from __future__ import annotations

from brainalign.stimuli.scenes.forms import Solid, family
from brainalign.stimuli.scenes.solids import (
    Vec,
    around,
    blend,
    both,
    box,
    cone,
    cut,
    cylinder,
    ellipsoid,
    mirror,
    rod,
    sphere,
    swap,
    tip,
    torus,
    union,
)

Extras = frozenset[str]


def _eyes(at: Vec, radius: float) -> list[Solid]:
    """One eye at `at` and its mirror image, looking forward and outward."""
    x, y, z = at
    white = mirror(sphere(at, radius), "z")
    pupil = mirror(sphere((x + 0.45 * radius, y, z + 0.45 * radius), 0.62 * radius), "z")
    return [("white", white), ("dark", pupil)]


@family("animal", ("a tall fin", "whiskers"), yaw=-10, swing=45, floats=True)
def fish(extras: Extras) -> list[Solid]:
    body = blend(0.15, ellipsoid((0.1, 0.7, 0), (0.95, 0.55, 0.34)), ellipsoid((-0.75, 0.7, 0), (0.35, 0.17, 0.12)))
    tail = union(*(tip(t, (-0.9, 0.7), ellipsoid((-1.22, 0.7, 0), (0.42, 0.17, 0.06))) for t in (38, -38)))
    fins = mirror(tip(-30, (0.1, 0.5), ellipsoid((-0.05, 0.5, 0.36), (0.3, 0.12, 0.07))), "z")
    solids: list[Solid] = [("body", body), ("accent", union(tail, fins)), *_eyes((0.68, 0.83, 0.21), 0.13)]
    if "a tall fin" in extras:
        solids.append(("accent", tip(15, (0, 1.2), ellipsoid((-0.05, 1.25, 0), (0.4, 0.38, 0.06)))))
    if "whiskers" in extras:
        solids.append(("dark", mirror(rod((0.95, 0.55, 0.1), (1.15, 0.2, 0.3), 0.04, 0.02), "z")))
    return solids


@family("animal", ("a crest", "raised wings"), yaw=-20, swing=45)
def bird(extras: Extras) -> list[Solid]:
    trunk = tip(25, (0, 0.95), ellipsoid((0, 0.95, 0), (0.72, 0.46, 0.42)))
    body = blend(0.15, trunk, sphere((0.68, 1.5, 0), 0.34))
    tail = tip(20, (-0.6, 0.6), box((-0.95, 0.62, 0), (0.42, 0.06, 0.2)))
    if "raised wings" in extras:
        wing = tip(-20, (0, 1.1), swap(ellipsoid((0.95, 1.55, -0.1), (0.75, 0.1, 0.34)), "xz"))
        wing = blend(0.1, wing, ellipsoid((-0.1, 1.2, 0.4), (0.3, 0.15, 0.2)))
    else:
        wing = tip(25, (-0.1, 0.95), ellipsoid((-0.2, 1.0, 0.36), (0.55, 0.3, 0.13)))
    beak = swap(cone((1.5, 1.14, 0), 0.13, 0.01, 0.2), "xy")
    legs = mirror(
        union(rod((0.05, 0.6, 0.17), (0.1, 0.05, 0.17), 0.045), rod((0.1, 0.04, 0.17), (0.3, 0.04, 0.2), 0.05)), "z"
    )
    solids: list[Solid] = [("body", body), ("accent", union(tail, mirror(wing, "z"))), ("warm", union(beak, legs))]
    if "a crest" in extras:
        solids.append(
            ("accent", union(*(tip(t, (0.6, 1.75), ellipsoid((0.6, 2.0, 0), (0.07, 0.25, 0.07))) for t in (0, 28, 56))))
        )
    return solids + _eyes((0.82, 1.6, 0.22), 0.11)


@family("animal", ("a collar", "spots of mud"), yaw=-25, swing=45)
def dog(extras: Extras) -> list[Solid]:
    trunk, neck = rod((-0.6, 0.9, 0), (0.5, 0.95, 0), 0.36), rod((0.6, 1.05, 0), (0.85, 1.45, 0), 0.24)
    head = blend(0.1, sphere((0.9, 1.55, 0), 0.34), rod((1.0, 1.45, 0), (1.35, 1.4, 0), 0.19, 0.15))
    legs = mirror(blend(0.05, rod((0.55, 0.8, 0.2), (0.6, 0.1, 0.22), 0.14, 0.11)), "z")
    hind = mirror(rod((-0.65, 0.8, 0.2), (-0.65, 0.1, 0.22), 0.17, 0.11), "z")
    tail = rod((-0.9, 1.05, 0), (-1.3, 1.5, 0), 0.1, 0.06)
    ears = mirror(tip(-10, (0.8, 1.7), ellipsoid((0.75, 1.52, 0.33), (0.15, 0.3, 0.07))), "z")
    solids: list[Solid] = [("body", blend(0.15, trunk, neck, head, legs, hind, tail)), ("accent", ears)]
    solids += [("dark", sphere((1.49, 1.46, 0), 0.09)), *_eyes((1.12, 1.68, 0.17), 0.085)]
    if "a collar" in extras:
        solids.append(("pink", tip(-30, (0.7, 1.2), swap(torus((0.7, 0, 1.22), 0.25, 0.07), "yz"))))
    if "spots of mud" in extras:
        spots = [sphere((-0.6, 1.0, 0.18), 0.24), sphere((-0.05, 0.85, 0.2), 0.2), sphere((0.4, 1.05, 0.2), 0.2)]
        solids.append(("wood", mirror(union(*spots), "z")))
    return solids


@family("animal", ("a small hat", "a striped tail end"), yaw=-15, swing=45)
def snail(extras: Extras) -> list[Solid]:
    shell = union(
        ellipsoid((-0.2, 0.95, 0), (0.75, 0.75, 0.42)), mirror(ellipsoid((-0.2, 0.95, 0.3), (0.42, 0.42, 0.25)), "z")
    )
    foot = blend(0.2, rod((-1.1, 0.12, 0), (0.7, 0.17, 0), 0.12, 0.22), rod((0.7, 0.2, 0), (0.95, 0.85, 0), 0.22, 0.2))
    stalks = mirror(rod((0.98, 0.9, 0.08), (1.15, 1.35, 0.2), 0.055), "z")
    solids: list[Solid] = [("body", shell), ("skin", union(foot, stalks)), *_eyes((1.16, 1.4, 0.21), 0.11)]
    if "a small hat" in extras:
        solids.append(("accent", union(cylinder((-0.2, 1.7, 0), 0.42, 0.05), cylinder((-0.2, 1.9, 0), 0.27, 0.22))))
    if "a striped tail end" in extras:
        solids.append(("accent", union(*(sphere((-1.12 + 0.28 * i, 0.14, 0), 0.16) for i in range(3)))))
    return solids


@family("animal", ("a spiky shell", "a raised head"), yaw=-25, swing=45)
def turtle(extras: Extras) -> list[Solid]:
    shell = both(ellipsoid((0, 0.35, 0), (0.95, 0.72, 0.8)), box((0, 1.3, 0), (2, 1, 2)))
    top = 0.75 if "a raised head" in extras else 0.3
    neck = blend(
        0.1, rod((0.8, 0.35, 0), (1.15, 0.3 + top, 0), 0.17), ellipsoid((1.25, 0.35 + top, 0), (0.29, 0.22, 0.22))
    )
    legs = mirror(rod((0.55, 0.3, 0.5), (0.75, 0.1, 0.75), 0.19, 0.15), "x", "z")
    tail = rod((-0.9, 0.3, 0), (-1.2, 0.15, 0), 0.1, 0.03)
    rim = cut(ellipsoid((0, 0.34, 0), (1.02, 0.13, 0.87)), ellipsoid((0, 0.3, 0), (0.8, 0.5, 0.65)))
    solids: list[Solid] = [("body", shell), ("skin", union(neck, legs, tail)), ("accent", rim)]
    if "a spiky shell" in extras:
        ridge = [cone((-0.55 + 0.37 * i, 1.08 - 0.25 * (i - 1.5) ** 2 * 0.35, 0), 0.15, 0.01, 0.18) for i in range(4)]
        solids.append(("accent", union(*ridge)))
    return solids + _eyes((1.4, 0.43 + top, 0.13), 0.085)


@family("animal", ("a top hat", "suckers"), wrap=True, swing=50)
def octopus(extras: Extras) -> list[Solid]:
    head = blend(0.25, ellipsoid((0, 1.35, 0), (0.58, 0.68, 0.58)), sphere((0, 0.8, 0), 0.42))
    arms = around(
        8,
        blend(
            0.1,
            rod((0.3, 0.65, 0), (0.8, 0.2, 0), 0.2, 0.15),
            rod((0.8, 0.2, 0), (1.2, 0.2, 0), 0.15, 0.1),
            rod((1.2, 0.2, 0), (1.32, 0.48, 0), 0.1, 0.06),
        ),
    )
    white, pupil = mirror(sphere((0.22, 1.3, 0.52), 0.16), "x"), mirror(sphere((0.22, 1.3, 0.62), 0.1), "x")
    solids: list[Solid] = [("body", blend(0.2, head, arms)), ("white", white), ("dark", pupil)]
    if "a top hat" in extras:
        solids.append(("dark", union(cylinder((0, 1.97, 0), 0.5, 0.05), cylinder((0, 2.22, 0), 0.32, 0.28))))
    if "suckers" in extras:
        solids.append(("accent", around(8, union(sphere((0.8, 0.36, 0), 0.1), sphere((1.02, 0.32, 0), 0.08)))))
    return solids


@family("animal", ("a carrot", "a bow tie"), yaw=-20, swing=40)
def rabbit(extras: Extras) -> list[Solid]:
    trunk = ellipsoid((-0.15, 0.6, 0), (0.65, 0.6, 0.5))
    body = blend(
        0.12,
        trunk,
        ellipsoid((0.45, 1.3, 0), (0.42, 0.4, 0.37)),
        mirror(ellipsoid((0.1, 0.15, 0.36), (0.5, 0.15, 0.17)), "z"),
    )
    ears = mirror(tip(12, (0.3, 1.6), ellipsoid((0.28, 2.0, 0.17), (0.12, 0.5, 0.09))), "z")
    inner = mirror(tip(12, (0.3, 1.6), ellipsoid((0.35, 2.0, 0.18), (0.09, 0.4, 0.06))), "z")
    solids: list[Solid] = [("body", union(body, ears)), ("pink", inner), ("white", sphere((-0.8, 0.5, 0), 0.23))]
    solids += [("pink", sphere((0.87, 1.27, 0), 0.07)), *_eyes((0.72, 1.42, 0.22), 0.1)]
    if "a carrot" in extras:
        root = swap(cone((0.5, 1.0, 0.3), 0.03, 0.2, 0.4), "xy")
        solids += [("warm", root), ("leaf", mirror(rod((1.35, 0.5, 0.3), (1.7, 0.62, 0.34), 0.07, 0.03), "z"))]
    if "a bow tie" in extras:
        loops = mirror(ellipsoid((0.58, 0.88, 0.2), (0.1, 0.16, 0.2)), "z")
        solids.append(("accent", union(loops, sphere((0.62, 0.88, 0), 0.1))))
    return solids


@family("animal", ("a scarf", "an egg"), wrap=True, swing=50)
def penguin(extras: Extras) -> list[Solid]:
    body = blend(0.2, ellipsoid((0, 0.85, 0), (0.58, 0.85, 0.5)), sphere((0, 1.75, 0), 0.42))
    belly = ellipsoid((0, 0.8, 0.14), (0.45, 0.68, 0.43))
    wings = mirror(tip(18, (0.5, 1.3), ellipsoid((0.55, 0.95, 0), (0.12, 0.5, 0.25))), "x")
    beak = swap(cone((0, 0.52, 1.72), 0.14, 0.02, 0.17), "yz")
    feet = mirror(ellipsoid((0.26, 0.06, 0.3), (0.2, 0.08, 0.3)), "x")
    eyes, pupils = mirror(sphere((0.16, 1.87, 0.34), 0.1), "x"), mirror(sphere((0.16, 1.87, 0.4), 0.06), "x")
    solids: list[Solid] = [
        ("body", union(body, wings)),
        ("white", union(belly, eyes)),
        ("warm", union(beak, feet)),
        ("dark", pupils),
    ]
    if "a scarf" in extras:
        knot = union(swap(torus((0, 0, 1.42), 0.42, 0.11), "yz"), box((0.22, 1.15, 0.5), (0.12, 0.3, 0.06)))
        solids.append(("accent", knot))
    if "an egg" in extras:
        solids.append(("straw", ellipsoid((0.85, 0.27, 0.2), (0.22, 0.29, 0.22))))
    return solids
