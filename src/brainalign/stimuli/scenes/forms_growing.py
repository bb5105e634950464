"""Plants and fruit."""

# ruff: noqa: D103 - a builder's name and its extras say what it builds.

from __future__ import annotations

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
    move,
    rod,
    sphere,
    star_outline,
    swap,
    tip,
    union,
)

Extras = frozenset[str]


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
    blobs = [
        sphere((0, 1.75, 0), 0.62),
        sphere((0.5, 1.5, 0.15), 0.45),
        sphere((-0.5, 1.5, 0.1), 0.47),
        sphere((0.05, 1.45, 0.45), 0.42),
    ]
    trunk = blend(0.1, rod((0, 0, 0), (0, 1.2, 0), 0.2, 0.14), rod((0, 0.8, 0), (0.4, 1.3, 0), 0.08))
    solids: list[Solid] = [("body", blend(0.1, *blobs)), ("wood", trunk)]
    if "apples" in extras:
        spots = [
            (0.3, 1.85, 0.55),
            (-0.25, 2.0, 0.52),
            (-0.55, 1.4, 0.52),
            (0.62, 1.35, 0.55),
            (0.08, 1.35, 0.86),
            (0, 2.3, 0.25),
        ]
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
        solids.append(
            (
                "white",
                union(rod((0.75, 0.1, 0.2), (0.75, 0.4, 0.2), 0.11), rod((-0.75, 0.1, 0.3), (-0.75, 0.3, 0.3), 0.1)),
            )
        )
        caps = union(ellipsoid((0.75, 0.5, 0.2), (0.3, 0.2, 0.3)), ellipsoid((-0.75, 0.38, 0.3), (0.25, 0.17, 0.25)))
        solids.append(("body", cut(caps, box((0, -0.3, 0), (2, 0.65, 2)))))
    return solids


@family("plant", ("a pot", "a ladybird"), swing=40)
def flower(extras: Extras) -> list[Solid]:
    petals = swap(around(7, ellipsoid((0.52, 0, 0), (0.36, 0.1, 0.21))), "yz")
    bloom = move((0, 1.7, 0.1), petals)
    centre = ellipsoid((0, 1.7, 0.14), (0.28, 0.28, 0.16))
    leaves = union(
        tip(35, (0, 0.6), ellipsoid((0.38, 0.6, 0), (0.38, 0.1, 0.17))),
        tip(145, (0, 0.45), ellipsoid((0.38, 0.45, 0), (0.38, 0.1, 0.17))),
    )
    solids: list[Solid] = [
        ("body", bloom),
        ("accent", centre),
        ("leaf", union(rod((0, 0, 0), (0, 1.7, 0), 0.065), leaves)),
    ]
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
        eyes = mirror(
            move((0.33, 0.78, 0.85), extrude(lambda x, y: abs(x) * 0.8 + abs(y) * 0.8 - 0.16, 0.3, 0.01)), "x"
        )
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
        worm = blend(
            0.05, rod((0.3, 0.9, 0.45), (0.55, 0.95, 0.85), 0.13), rod((0.55, 0.95, 0.85), (0.6, 1.25, 0.9), 0.13)
        )
        solids += [("pink", worm), ("dark", mirror(sphere((0.62, 1.32, 1.02), 0.035), "z"))]
    return solids
