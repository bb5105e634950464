"""Which backbones there are."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace

from brainalign.features.aliases import ALIASES
from brainalign.features.hub import MissingExtra
from brainalign.features.sources import SOURCES, find_source

MOST_SIZED = 40  # building one without its weights takes up to half a second


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone that could be loaded.

    Attributes
    ----------
    id : str
    source : str
        'timm', 'pip', 'open_clip', 'hf', 'slip', or 'alias' for a short name.
    n_parameters, n_layers : int or None
        Weights and blocks of the vision model; None where they were not asked for or cannot be said without a download.
    resolves_to : str or None
        The full id behind a short name.
    """

    id: str
    source: str
    n_parameters: int | None = None
    n_layers: int | None = None
    resolves_to: str | None = None


def list_backbones(pattern: str = "*", *, sizes: bool | None = None) -> list[BackboneInfo]:
    """Backbones with pretrained weights whose name, or whole id, matches a wildcard.

    Sources that need a package that is not installed are left out, unless the pattern names one of them.

    Parameters
    ----------
    pattern : str
        Over names (`vit_tiny*`, `rn*`), or over ids of one source (`open_clip:*bigG*`, `alias:*`).
    sizes : bool, optional
        Whether to count parameters and blocks. The models are built without memory for their weights to that end,
        nothing is downloaded; counts are kept while the program runs. By default they are counted if at most 40
        backbones match.

    Raises
    ------
    InputError
        If the pattern names a source whose package is not installed.

    Examples
    --------
    >>> [found.id for found in list_backbones("pip:*lite?")]
    ['pip:efficientnet-lite0', 'pip:efficientnet-lite1', 'pip:efficientnet-lite2']
    >>> list_backbones("rn50")[0].resolves_to
    'open_clip:RN50/openai'
    """
    scheme, mark, name = pattern.partition(":")
    if not mark:
        scheme, name = "*", pattern
    found = _aliases(name) if scheme in ("*", "alias") else []
    for source in SOURCES:
        if scheme in ("*", source):
            found += _of(source, name, asked=scheme == source)
    if sizes or (sizes is None and len(found) <= MOST_SIZED):
        found = [_sized(one) for one in found]
    return sorted(found, key=lambda one: (one.source, one.id))


def _aliases(pattern: str) -> list[BackboneInfo]:
    return [
        BackboneInfo(name, "alias", alias.n_parameters, alias.n_blocks, alias.id)
        for name, alias in ALIASES.items()
        if fnmatch.fnmatch(name, pattern)
    ]


def _of(source: str, pattern: str, *, asked: bool) -> list[BackboneInfo]:
    try:
        names = find_source(source).names(pattern)
    except MissingExtra:
        if asked:
            raise
        names = []
    return [BackboneInfo(f"{source}:{name}", source) for name in names]


def _sized(one: BackboneInfo) -> BackboneInfo:
    if one.source == "alias":
        return one
    n_parameters, n_layers = find_source(one.source).sizes(one.id.partition(":")[2])
    return replace(one, n_parameters=n_parameters, n_layers=n_layers)
