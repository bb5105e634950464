"""Animals and plants. Animals look along positive x."""

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
    extrude,
    mirror,
    move,
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
    legs = mirror(union(rod((0.05, 0.6, 0.17), (0.1, 0.05, 0.17), 0.045), rod((0.1, 0.04, 0.17), (0.3, 0.04, 0.2), 0.05)), "z")
    solids: list[Solid] = [("body", body), ("accent", union(tail, mirror(wing, "z"))), ("warm", union(beak, legs))]
    if "a crest" in extras:
        solids.append(("accent", union(*(tip(t, (0.6, 1.75), ellipsoid((0.6, 2.0, 0), (0.07, 0.25, 0.07))) for t in (0, 28, 56)))))
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
    shell = union(ellipsoid((-0.2, 0.95, 0), (0.75, 0.75, 0.42)), mirror(ellipsoid((-0.2, 0.95, 0.3), (0.42, 0.42, 0.25)), "z"))
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
    neck = blend(0.1, rod((0.8, 0.35, 0), (1.15, 0.3 + top, 0), 0.17), ellipsoid((1.25, 0.35 + top, 0), (0.29, 0.22, 0.22)))
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
    arms = around(8, blend(0.1, rod((0.3, 0.65, 0), (0.8, 0.2, 0), 0.2, 0.15), rod((0.8, 0.2, 0), (1.2, 0.2, 0), 0.15, 0.1), rod((1.2, 0.2, 0), (1.32, 0.48, 0), 0.1, 0.06)))
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
    body = blend(0.12, trunk, ellipsoid((0.45, 1.3, 0), (0.42, 0.4, 0.37)), mirror(ellipsoid((0.1, 0.15, 0.36), (0.5, 0.15, 0.17)), "z"))
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
    solids: list[Solid] = [("body", union(body, wings)), ("white", union(belly, eyes)), ("warm", union(beak, feet)), ("dark", pupils)]
    if "a scarf" in extras:
        knot = union(swap(torus((0, 0, 1.42), 0.42, 0.11), "yz"), box((0.22, 1.15, 0.5), (0.12, 0.3, 0.06)))
        solids.append(("accent", knot))
    if "an egg" in extras:
        solids.append(("straw", ellipsoid((0.85, 0.27, 0.2), (0.22, 0.29, 0.22))))
    return solids


@family("plant", ("baubles", "a star on top"), wrap=True)
def pine_tree(extras: Extras) -> list[Solid]:
    tiers = union(*(cone((0, 0.75 + 0.5 * i, 0), 0.88 - 0.2 * i, 0.2 - 0.06 * i, 0.37) for i in range(4)))
    solids: list[Solid] = [("body", tiers), ("wood", cylinder((0, 0.2, 0), 0.18, 0.22))]
    if "baubles" in extras:
        rows = [around(6 - i, sphere((0.84 - 0.2 * i, 0.44 + 0.5 * i, 0), 0.1)) for i in range(3)]
        solids.append(("accent", union(*rows)))
    if "a star on top" in extras:
        solids.append(("yellow", extrude(star_outline(5, 0.34, 0.16, 2.7), 0.09, 0.03)))
    return solids




@family("plant", ("apples", "a swing"), swing=60)
def leafy_tree(extras: Extras) -> list[Solid]:
    blobs = [sphere((0, 1.75, 0), 0.62), sphere((0.5, 1.5, 0.15), 0.45), sphere((-0.5, 1.5, 0.1), 0.47), sphere((0.05, 1.45, 0.45), 0.42)]
    trunk = blend(0.1, rod((0, 0, 0), (0, 1.2, 0), 0.2, 0.14), rod((0, 0.8, 0), (0.4, 1.3, 0), 0.08))
    solids: list[Solid] = [("body", blend(0.1, *blobs)), ("wood", trunk)]
    if "apples" in extras:
        spots = [(0.3, 1.85, 0.55), (-0.25, 2.0, 0.52), (-0.55, 1.4, 0.52), (0.62, 1.35, 0.55), (0.08, 1.35, 0.86), (0, 2.3, 0.25)]
        solids.append(("red", union(*(sphere(p, 0.11) for p in spots))))
    if "a swing" in extras:
        ropes = union(rod((0.62, 1.3, 0), (0.62, 0.42, 0), 0.025), rod((0.95, 1.3, 0), (0.95, 0.42, 0), 0.025))
        branch = rod((0, 1.1, 0), (1.1, 1.35, 0), 0.08, 0.05)
        solids.append(("wood", union(ropes, branch, box((0.79, 0.4, 0), (0.26, 0.04, 0.13)))))
    return solids


@family("plant", ("a ring around the stem", "small mushrooms beside it"), wrap=True)
def mushroom(extras: Extras) -> list[Solid]:
    cap = cut(ellipsoid((0, 1.05, 0), (0.95, 0.72, 0.95)), box((0, 0.4, 0), (2, 0.62, 2)))
    stem = blend(0.1, rod((0, 0.2, 0), (0, 1.0, 0), 0.3, 0.22), ellipsoid((0, 0.15, 0), (0.38, 0.18, 0.38)))
    solids: list[Solid] = [("body", cap), ("white", stem)]
    if "a ring around the stem" in extras:
        solids.append(("accent", cone((0, 0.72, 0), 0.42, 0.24, 0.09)))
    if "small mushrooms beside it" in extras:
        solids.append(("white", union(rod((0.75, 0.1, 0.2), (0.75, 0.4, 0.2), 0.11), rod((-0.75, 0.1, 0.3), (-0.75, 0.3, 0.3), 0.1))))
        caps = union(ellipsoid((0.75, 0.5, 0.2), (0.3, 0.2, 0.3)), ellipsoid((-0.75, 0.38, 0.3), (0.25, 0.17, 0.25)))
        solids.append(("body", cut(caps, box((0, -0.3, 0), (2, 0.65, 2)))))
    return solids


@family("plant", ("a pot", "a ladybird"), swing=40)
def flower(extras: Extras) -> list[Solid]:
    petals = swap(around(7, ellipsoid((0.52, 0, 0), (0.36, 0.1, 0.21))), "yz")
    bloom = move((0, 1.7, 0.1), petals)
    centre = ellipsoid((0, 1.7, 0.14), (0.28, 0.28, 0.16))
    leaves = union(tip(35, (0, 0.6), ellipsoid((0.38, 0.6, 0), (0.38, 0.1, 0.17))), tip(145, (0, 0.45), ellipsoid((0.38, 0.45, 0), (0.38, 0.1, 0.17))))
    solids: list[Solid] = [("body", bloom), ("accent", centre), ("leaf", union(rod((0, 0, 0), (0, 1.7, 0), 0.065), leaves))]
    if "a pot" in extras:
        solids.append(("brick", union(cone((0, 0.1, 0), 0.32, 0.45, 0.3), cylinder((0, 0.42, 0), 0.5, 0.08))))
    if "a ladybird" in extras:
        solids += [("red", ellipsoid((0.42, 1.72, 0.24), (0.13, 0.16, 0.1))), ("dark", sphere((0.42, 1.9, 0.24), 0.08))]
    return solids


@family("plant", ("a pot", "a flower on top"), wrap=True, swing=40)
def cactus(extras: Extras) -> list[Solid]:
    arm = union(rod((0.2, 0.9, 0), (0.72, 0.95, 0), 0.17), rod((0.72, 0.95, 0), (0.74, 1.5, 0), 0.18, 0.16))
    other = union(rod((-0.2, 1.1, 0), (-0.66, 1.15, 0), 0.15), rod((-0.66, 1.15, 0), (-0.68, 1.55, 0), 0.15))
    solids: list[Solid] = [("body", blend(0.1, rod((0, 0.1, 0), (0, 1.8, 0), 0.36, 0.33), arm, other))]
    if "a pot" in extras:
        solids.append(("brick", union(cone((0, 0.12, 0), 0.45, 0.62, 0.35), cylinder((0, 0.46, 0), 0.68, 0.09))))
    if "a flower on top" in extras:
        petals = move((0, 2.15, 0), around(6, ellipsoid((0.2, 0.04, 0), (0.2, 0.1, 0.12))))
        solids += [("pink", petals), ("yellow", sphere((0, 2.2, 0), 0.11))]
    return solids


@family("plant", ("a carved face", "a curled leaf"), wrap=True, swing=30)
def pumpkin(extras: Extras) -> list[Solid]:
    ribs = around(10, ellipsoid((0.42, 0.65, 0), (0.55, 0.65, 0.32)))
    solids: list[Solid] = [("body", ribs), ("wood", tip(-12, (0, 1.2), rod((0, 1.15, 0), (0, 1.6, 0), 0.13, 0.08)))]
    if "a carved face" in extras:
        eyes = mirror(move((0.33, 0.78, 0.85), extrude(lambda x, y: abs(x) * 0.8 + abs(y) * 0.8 - 0.16, 0.3, 0.01)), "x")
        mouth = cut(swap(cylinder((0, 0.85, 0.6), 0.42, 0.3), "yz"), box((0, 0.85, 0.85), (1, 0.35, 1)))
        solids.append(("glow", union(eyes, mouth)))
        solids[0] = ("body", cut(ribs, eyes, mouth))
        solids[-1] = ("glow", both(solids[-1][1], ellipsoid((0, 0.65, 0), (0.9, 0.6, 0.9))))
    if "a curled leaf" in extras:
        solids.append(("leaf", tip(15, (0.1, 1.3), ellipsoid((0.5, 1.34, 0.15), (0.42, 0.07, 0.26)))))
    return solids


@family("plant", ("a leaf", "a worm"), wrap=True, swing=50)
def pear(extras: Extras) -> list[Solid]:
    body = blend(0.35, ellipsoid((0, 0.68, 0), (0.72, 0.68, 0.72)), ellipsoid((0, 1.45, 0), (0.36, 0.48, 0.36)))
    solids: list[Solid] = [("body", body), ("wood", tip(-15, (0, 1.9), rod((0, 1.85, 0), (0, 2.3, 0), 0.06)))]
    if "a leaf" in extras:
        solids.append(("leaf", tip(22, (0.05, 2.1), ellipsoid((0.43, 2.1, 0), (0.4, 0.08, 0.2)))))
    if "a worm" in extras:
        worm = blend(0.05, rod((0.3, 0.9, 0.45), (0.55, 0.95, 0.85), 0.13), rod((0.55, 0.95, 0.85), (0.6, 1.25, 0.9), 0.13))
        solids += [("pink", worm), ("dark", mirror(sphere((0.62, 1.32, 1.02), 0.035), "z"))]
    return solids
