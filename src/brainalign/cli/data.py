"""Commands about data and features: datasets, features, backbones, recipes, cache."""

from __future__ import annotations

from typing import Annotated

import typer

from brainalign.cli import common as c
from brainalign.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Examples: brainalign datasets | brainalign datasets macaque-v4 | "
        "brainalign datasets check macaque-v4 --root V4 | "
        "brainalign datasets fetch macaque-v4 --subject 201025 --root V4"
    )(datasets)
    app.command(
        epilog="Example: brainalign features macaque-v4 --root V4 --subject 201025 --backbone pip:efficientnet-lite0 "
        "--layers all --pooling mean,grid4"
    )(features)
    app.command(epilog="Example: brainalign backbones 'vit*'")(backbones)
    app.command(epilog="Example: brainalign recipes shallow-alignment")(recipes)
    app.command(epilog="Example: brainalign cache list")(cache)


def datasets(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME] | check NAME|DIR | fetch NAME", help="Nothing lists all.")
    ] = None,
    root: c.Root = None,
    subject: Annotated[list[str] | None, typer.Option(help="Subject to fetch; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch more than 100 MB without asking.")] = False,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """List data sets, describe one, check a local copy, or fetch chosen subjects."""
    from brainalign.datasets.commands import check, describe, fetch, overview, plan

    match words or []:
        case []:
            rows = overview()
            c.emit(rows) if json else c.table("data sets", rows)
        case ["check", name]:
            _check(check(name, root), json)
        case ["fetch", name]:
            if root is None:
                raise InputError("where should the files go?", where="datasets fetch", hint="give --root DIR")
            planned = plan(name, root, subject or ())
            if planned.n_missing and not quiet:
                typer.echo(str(planned), err=True)
            if planned.asks and not yes and not typer.confirm("download?", err=True):
                raise typer.Exit(1)
            with c.reporter(quiet).step(f"fetching {name}") as tick:
                report = fetch(
                    name, root, subject or (), planned=planned, progress=lambda done, total, _: tick(done, total)
                )
            c.emit(report) if json else print(report["summary"])
        case [name]:
            facts = describe(name, root)
            c.emit(facts) if json else [print(f"{key:12} {value}") for key, value in facts.items()]
        case other:
            raise InputError(
                f"'{' '.join(other)}' is not understood", where="datasets", hint="see brainalign datasets --help"
            )


def _check(findings: list[dict[str, object]], json: bool) -> None:
    if json:
        c.emit(findings)
    else:
        for found in findings:
            print(f"{'ok ' if found['ok'] else 'BAD'}  {found['where']}: {found['text']}")
    bad = sum(not found["ok"] for found in findings)
    if bad:
        raise InputError(f"{bad} problem(s) found", where="datasets check", hint="mend what is marked BAD")


def features(
    dataset: Annotated[str, typer.Argument(help="Name, or a folder of own recordings.")],
    backbone: Annotated[str, typer.Option(help="For example pip:efficientnet-lite0 or timm:vit_base_patch16_224.")],
    layers: Annotated[str, typer.Option(help="all, blocks, or a list: 0,3,head; 3-7; 0.5")] = "all",
    pooling: Annotated[str, typer.Option(help="cls, mean, gridN; a list.")] = "mean,grid4",
    root: c.Root = None,
    subject: c.Subject = None,
    crop: Annotated[str, typer.Option(help="none: the whole image; center: the model's own crop.")] = "none",
    verify: Annotated[bool, typer.Option(help="Recompute a sample of images afterwards and compare.")] = False,
    device: c.Device = "auto",
    cache: c.Cache = None,
    json: c.Json = False,
    quiet: c.Quiet = False,
) -> None:
    """Compute every layer asked for in one pass over a subject's images, and keep it in the cache."""
    from brainalign.execution.features import compute_features

    rows = compute_features(
        dataset,
        backbone=backbone,
        layers=layers,
        pooling=pooling,
        root=root,
        subject=subject,
        crop=crop,
        verify=verify,
        device=device,
        cache=cache,
        reporter=c.reporter(quiet),
    )
    c.emit(rows) if json else c.table(f"features of {backbone}", rows)


def backbones(
    pattern: Annotated[str, typer.Argument(help="Wildcard over ids, such as 'vit*'.")] = "*",
    json: c.Json = False,
) -> None:
    """List vision models that can be targets."""
    from brainalign.features import list_backbones

    rows = [
        {
            "id": found.id,
            "parameters": f"{found.n_parameters / 1e6:.1f} M" if found.n_parameters else "",
            "blocks": found.n_layers or "",
            "source": found.source,
            "stands for": found.resolves_to or "",
        }
        for found in list_backbones(pattern)
    ]
    if not rows:
        raise InputError(
            f"no backbone matches '{pattern}'", where="backbones", hint="use wildcards, such as '*resnet50*'"
        )
    c.emit(rows) if json else c.table("backbones", rows)


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show one recipe, with its profile: shallow-alignment/paper.")
    ] = None,
    modality: Annotated[str, typer.Option(help="Kind of data the recipe is resolved for.")] = "eeg",
    settings: c.Settings = None,
    json: c.Json = False,
) -> None:
    """List recipes, or show one with every setting resolved."""
    from brainalign.recipes import load_recipe, recipe_names, recipe_profiles, save_recipe

    if name is not None:
        recipe = load_recipe(name, modality=modality, overrides=settings or ())
        c.emit(recipe.model_dump(mode="json")) if json else print(save_recipe(recipe), end="")
        return
    rows = [
        {"recipe": n, "profiles": ", ".join(recipe_profiles(n)), "summary": load_recipe(n, modality="eeg").summary}
        for n in recipe_names()
    ]
    c.emit(rows) if json else c.table("recipes", rows)


def cache(
    action: Annotated[str, typer.Argument(help="list or clear.")] = "list",
    cache: c.Cache = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Clear without asking.")] = False,
    json: c.Json = False,
) -> None:
    """Show or clear cached features and derived data."""
    from brainalign.cache import clear_cache, default_cache_dir, list_cache

    where = default_cache_dir(cache)
    entries = list_cache(where)
    if action == "list":
        rows = [{"kind": e.kind, "name": e.name, "MB": f"{e.bytes / 1e6:.1f}", "date": e.date} for e in entries]
        c.emit(rows) if json else c.table(f"cache {where}", rows)
    elif action == "clear":
        size = sum(e.bytes for e in entries) / 1e6
        if not yes and not typer.confirm(f"remove {len(entries)} entries ({size:.0f} MB) below {where}?", err=True):
            raise typer.Exit(1)
        clear_cache(where)
        facts = {"cache": where, "removed": len(entries), "MB": f"{size:.1f}"}
        c.emit(facts) if json else print(f"removed {len(entries)} entries, {size:.0f} MB")
    else:
        raise InputError(f"unknown action '{action}'", where="cache", hint="list or clear")
