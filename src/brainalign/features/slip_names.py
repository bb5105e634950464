"""Names of SLIP models: `slip:ViT-B-16/100ep`, or a checkpoint of one's own, `slip:ViT-B-16?checkpoint=FILE`.

SLIP (Mu et al. 2022, arXiv 2112.12750) trains CLIP's image and text towers together with SimCLR on YFCC15M. The ViT-S
is that of MoCo v3, with 12 heads, not the usual 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from brainalign.errors import InputError, unknown_name
from brainalign.features.options import split_options

ADDRESS = "https://dl.fbaipublicfiles.com/slip"
DEFAULT_TAG = "100ep"
EPOCHS = ("25ep", "50ep", "100ep")


@dataclass(frozen=True)
class SlipModel:
    """A published image tower; the text tower is the same in all.

    Attributes
    ----------
    size : str
        What it is called in the names of the published files.
    width, depth, heads : int
        Of the image transformer. Heads cannot be read off a checkpoint.
    tags : tuple of str
        Published weights: epochs on YFCC15M, or data set and epochs.
    """

    size: str
    width: int
    depth: int
    heads: int
    tags: tuple[str, ...] = EPOCHS


MODELS = {
    "ViT-S-16": SlipModel("small", 384, 12, 12),
    "ViT-B-16": SlipModel("base", 768, 12, 12, (*EPOCHS, "cc3m_40ep", "cc12m_35ep")),
    "ViT-L-16": SlipModel("large", 1024, 24, 16),
}
_SPELLING = re.compile(
    r"(?:slip[-_])?(?:vit[-_ ]?)?(?P<size>s|b|l|small|base|large)(?:[-_/ ]?(?:patch)?16)?(?:[-_/](?P<tag>\w*ep))?",
    re.IGNORECASE,
)
_LETTERS = {model.size[0]: name for name, model in MODELS.items()}


@dataclass(frozen=True)
class SlipName:
    """What an id names.

    Attributes
    ----------
    model : str
        A key of `MODELS`.
    tag : str or None
        Of published weights; None with a checkpoint of one's own.
    checkpoint : str or None
        A file or an http(s) address.
    """

    model: str
    tag: str | None
    checkpoint: str | None

    @property
    def where(self) -> str:
        """The id as it is written in full."""
        return f"slip:{self.model}" + (f"/{self.tag}" if self.tag else f"?checkpoint={self.checkpoint}")

    @property
    def facts(self) -> SlipModel:
        """Published sizes."""
        return MODELS[self.model]

    @property
    def address(self) -> str:
        """Where the weights are: a file or an http(s) address."""
        return self.checkpoint or f"{ADDRESS}/slip_{self.facts.size}_{self.tag}.pt"


def parse(text: str) -> SlipName:
    """Read the part of an id behind `slip:`, in any case and the spellings in use (`ViT-B/16`, `vitb16`, `base_50ep`).

    Raises
    ------
    InputError
        If there is no such model, tag or option, or both a tag and a checkpoint are given.

    Examples
    --------
    >>> parse("vit-b/16").where, parse("SLIP_VITS16").where, parse("large_25ep").address
    ('slip:ViT-B-16/100ep', 'slip:ViT-S-16/100ep', 'https://dl.fbaipublicfiles.com/slip/slip_large_25ep.pt')
    """
    where = f"slip:{text}"
    bare, options = split_options(text, ["checkpoint"], where=where)
    checkpoint = options.get("checkpoint")
    found = _SPELLING.fullmatch(bare)
    if found is None:
        head, _, tag = bare.rpartition("/")
        known = _SPELLING.fullmatch(head)
        if known is None:
            raise unknown_name("SLIP model", bare, MODELS, where=where)
        model = _LETTERS[known["size"][0].lower()]
        raise unknown_name(f"weights of {model}", tag, MODELS[model].tags, where=where)
    model, tag = _LETTERS[found["size"][0].lower()], found["tag"]
    if "checkpoint" in options and not checkpoint:
        raise InputError("names no checkpoint", where=where, hint="write ?checkpoint=FILE")
    if checkpoint:
        if tag:
            raise InputError(f"names both the weights {tag} and a checkpoint", where=where, hint="leave one out")
        return SlipName(model, None, checkpoint)
    tag = (tag or DEFAULT_TAG).lower()
    if tag not in MODELS[model].tags:
        raise unknown_name(f"weights of {model}", tag, MODELS[model].tags, where=where)
    return SlipName(model, tag, None)


def canonical(backbone: str) -> str:
    """The id written in full if it names a SLIP model; anything else comes back as it is.

    Examples
    --------
    >>> canonical("slip:vitb16"), canonical("timm:resnet50"), canonical("slip:nothing")
    ('slip:ViT-B-16/100ep', 'timm:resnet50', 'slip:nothing')
    """
    scheme, _, name = backbone.partition(":")
    if scheme != "slip":
        return backbone
    try:
        return parse(name).where
    except InputError:
        return backbone
