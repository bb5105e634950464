"""Whether the image model of a finished run is still the one it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from brainalign.alignment.targets import AnyTargets
from brainalign.errors import InputError
from brainalign.files import read_json

FIT = "fit.json"


def weights_of(targets: AnyTargets) -> dict[str, str]:
    """Hash of the weights of every backbone that features came from, by its id."""
    return {band.backbone: band.weights for band in targets.bands if band.weights}


def check_weights(folder: Path, found: Mapping[str, str]) -> None:
    """Refuse an image model whose weights are others than those a run was trained with.

    A name without a tag, or a folder, can come to mean another model of the same width: it would decode at chance and
    say nothing. Backbones that the run does not name pass.

    Parameters
    ----------
    folder : Path
        Of the run, or of a source of a foundation run.
    found : mapping
        Hash of the weights at hand by backbone.

    Raises
    ------
    InputError
        If they differ.
    """
    files = [place / FIT for place in (folder, folder.parent.parent) if (place / FIT).is_file()]
    kept = read_json(files[0]).get("weights") or {} if files else {}
    for backbone, weights in found.items():
        if kept.get(backbone, weights) != weights:
            text = f"was trained with other weights of {backbone} ({kept[backbone][:12]}, here {weights[:12]})"
            raise InputError(text, where=folder, hint="get the weights it was trained with, or train it again")
