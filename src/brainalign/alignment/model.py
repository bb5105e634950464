"""The trained part of a contrastive aligner: brain encoder, projectors to the shared space, objective."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from brainalign.alignment.mixture import LayerMixture
from brainalign.encoders import BrainEncoder, build_encoder
from brainalign.errors import InputError
from brainalign.objectives import InfoNCE
from brainalign.recipes.recipe import ProjectorSettings, Recipe


class ContrastiveModel(nn.Module):
    """Two towers to one shared space (Shallow Alignment, section 1.1: v = W_N z_N + b_N, w = W_I z_I + b_I).

    Parameters
    ----------
    recipe : Recipe
    n_chans, n_times : int
        Shape of a signal.
    target_dims : sequence of int
        Widths of the image features after their transform, one a layer of the target.

    Raises
    ------
    InputError
        If layers are to be mixed without a projector and differ in width.
    """

    def __init__(self, recipe: Recipe, *, n_chans: int, n_times: int, target_dims: Sequence[int]) -> None:
        super().__init__()
        shared = recipe.projector
        if shared.image == "none" and len(set(target_dims)) > 1:
            text = f"layers of widths {', '.join(map(str, target_dims))} cannot be added without a projector"
            raise InputError(text, where="projector.image", hint="use linear, or fewer target.components")
        image_dim = target_dims[0] if shared.image == "none" else shared.dim
        encoder_dim = recipe.encoder.dim if recipe.encoder.dim and shared.brain == "linear" else image_dim
        self.encoder: BrainEncoder = build_encoder(
            recipe.encoder.name, n_chans=n_chans, n_times=n_times, dim=encoder_dim, **recipe.encoder.options
        )
        self.brain_projector = nn.Linear(encoder_dim, image_dim) if shared.brain == "linear" else nn.Identity()
        learned = recipe.target.mixture == "learned"
        self.image_projector: nn.Module = (
            _image_projector(shared, target_dims[0])
            if len(target_dims) == 1
            else LayerMixture(target_dims, functools.partial(_image_projector, shared), learned=learned)
        )
        self.objective = InfoNCE(
            scale_mode=recipe.objective.scale_mode,
            temperature=recipe.objective.temperature,
            normalize_brain=recipe.objective.normalize_brain,
            symmetric=recipe.objective.symmetric,
        )

    def embed_brain(self, prepared: Tensor) -> Tensor:
        """Signals prepared by `encoder.prepare`, (n, ...) to (n, shared)."""
        embedded: Tensor = self.brain_projector(self.encoder(prepared, prepared=True))
        return embedded

    def embed_image(self, targets: Tensor) -> Tensor:
        """Transformed image features, (n, sum of target_dims) to (n, shared)."""
        embedded: Tensor = self.image_projector(targets)
        return embedded

    def forward(self, prepared: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of pairs."""
        loss: Tensor = self.objective(self.embed_brain(prepared), self.embed_image(targets))
        return loss

    @property
    def layer_weights(self) -> Tensor | None:
        """Shares of a mixture's layers, (n_layers,); None for a single layer."""
        mixture = self.image_projector
        return mixture.weights.detach() if isinstance(mixture, LayerMixture) else None


def _image_projector(settings: ProjectorSettings, target_dim: int) -> nn.Module:
    if settings.image == "none":
        return nn.Identity()
    if settings.image == "linear":
        return nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(target_dim, settings.dim))
    return nn.Sequential(
        nn.Linear(target_dim, settings.dim),
        nn.GELU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.dim, settings.dim),
    )


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine between all rows, (..., n, d) and (..., m, d) to (..., n, m)."""
    return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).mT
