"""Short names of backbones: the eight models of Shallow Alignment (arXiv 2601.21948v1), and what stands for them.

Parameters and L are those of its table of backbones. The paper names architectures and says that its CLIP weights are
OpenCLIP's; it names neither the data the weights were trained on nor the input's resolution. What is here is the
reading that the field's own code makes plausible: OpenAI's weights for the ResNets (OpenCLIP has none trained on
LAION), those of LAION-2B for the transformers, and the resolution each checkpoint documents.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from brainalign.features.slip_names import canonical


@dataclass(frozen=True)
class Alias:
    """A short name and the facts of the model behind it.

    Attributes
    ----------
    id : str
        What it resolves to.
    parameters : str
        Of the vision model, as published.
    layers : int
        L as published: stages of a ResNet, else blocks (InternViT: 45 blocks and one more).
    n_parameters, n_blocks : int
        Of the model as it is loaded here.
    image_size : int
        Side of the input, pixels.
    note : str
        What the paper leaves open, and how it is read.
    """

    id: str
    parameters: str
    layers: int
    n_parameters: int
    n_blocks: int
    image_size: int
    note: str = ""


LAION = "the paper says OpenCLIP and no training set: LAION-2B"
OPENAI = "L counts stages: layers stage1 to stage4; OpenAI's weights, as OpenCLIP has no LAION-2B ones"
ALIASES: dict[str, Alias] = {
    "rn50": Alias("open_clip:RN50/openai", "38M", 4, 38_316_896, 16, 224, OPENAI),
    "rn101": Alias("open_clip:RN101/openai", "56M", 4, 56_259_936, 33, 224, OPENAI),
    "vit-b-16": Alias("open_clip:ViT-B-16/laion2b_s34b_b88k", "86M", 12, 86_192_640, 12, 224, LAION),
    "vit-h-14": Alias("open_clip:ViT-H-14/laion2b_s32b_b79k", "632M", 32, 632_076_800, 32, 224, LAION),
    "dinov2-g": Alias(
        "hf:facebook/dinov2-giant", "1.14B", 40, 1_136_480_768, 40, 224,
        "without registers; 224 pixels as its preprocessing has it (trained to 518)",
    ),
    "vit-bigg-14": Alias("open_clip:ViT-bigG-14/laion2b_s39b_b160k", "1.84B", 48, 1_844_907_264, 48, 224, LAION),
    "eva02-clip-e": Alias(
        "open_clip:EVA02-E-14/laion2b_s4b_b115k", "4.35B", 64, 4_350_556_928, 64, 224,
        "E, not E+ (EVA02-E-14-plus has the same architecture and other weights)",
    ),
    "internvit-6b": Alias(
        "hf:OpenGVLab/InternViT-6B-448px-V1-5", "5.54B", 46, 5_536_496_000, 45, 448,
        "version and resolution as the open re-implementations have them; runs without the repository's own code",
    ),
}  # fmt: skip


def resolve_alias(backbone: str) -> str:
    """The full id behind a short name, or of a SLIP model in any spelling; anything else comes back as it is.

    Examples
    --------
    >>> resolve_alias("rn50"), resolve_alias("timm:resnet50"), resolve_alias("slip:vitb16")
    ('open_clip:RN50/openai', 'timm:resnet50', 'slip:ViT-B-16/100ep')
    """
    alias = ALIASES.get(backbone.lower())
    return alias.id if alias is not None else canonical(backbone)


def nearest_alias(backbone: str) -> str | None:
    """The short name that a word may have meant."""
    near = difflib.get_close_matches(backbone.lower(), ALIASES, n=1, cutoff=0.6)
    return near[0] if near else None
