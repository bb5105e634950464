"""The trained part of a contrastive aligner: brain encoder, projectors to the shared space, objective."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.alignment.mixture import LayerMixture
from brainalign.encoders import BrainEncoder, build_encoder, encoder_class
from brainalign.errors import InputError
from brainalign.objectives import InfoNCE
from brainalign.recipes.recipe import EncoderSettings, ProjectorSettings, Recipe


class ContrastiveModel(nn.Module):
    """Two towers to one shared space (Shallow Alignment, section 1.1: v = W_N z_N + b_N, w = W_I z_I + b_I).

    Parameters
    ----------
    recipe : Recipe
    n_chans, n_times : int
        Shape of a signal.
    target_dims : sequence of int
        Widths of the image features after their transform, one a layer of the target.
    text_dim : int
        Width of the text features; 0 without text.
    n_subjects : int
        Subjects in the training data, for encoders that know them; 0 where there is one.

    Raises
    ------
    InputError
        If layers are to be mixed without a projector and differ in width, or text has no projector and another width
        than the shared space.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        n_chans: int,
        n_times: int,
        target_dims: Sequence[int],
        text_dim: int = 0,
        n_subjects: int = 0,
    ) -> None:
        super().__init__()
        shared = recipe.projector
        image_dim = _shared_width(recipe, target_dims)
        encoder_dim = recipe.encoder.dim if recipe.encoder.dim and shared.brain == "linear" else image_dim
        self.encoder: BrainEncoder = build_encoder(
            recipe.encoder.name,
            n_chans=n_chans,
            n_times=n_times,
            dim=encoder_dim,
            **subject_options(recipe.encoder, n_subjects),
        )
        self.brain_projector = nn.Linear(encoder_dim, image_dim) if shared.brain == "linear" else nn.Identity()
        self.image_projector, _ = image_projector(recipe, target_dims)
        self.text_projector: nn.Module = _text_projector(shared, text_dim, image_dim)
        self.objective = objective_of(recipe)
        if recipe.training.init_std is not None:
            _draw_weights(self, recipe.training.init_std)

    def embed_brain(self, prepared: Tensor, subjects: Tensor | None = None) -> Tensor:
        """Signals prepared by `encoder.prepare`, (n, ...) of `subjects` (n,) to (n, shared)."""
        embedded: Tensor = self.brain_projector(self.encoder(prepared, prepared=True, subjects=subjects))
        return embedded

    def embed_image(self, targets: Tensor) -> Tensor:
        """Transformed image features, (n, sum of target_dims) to (n, shared)."""
        embedded: Tensor = self.image_projector(targets)
        return embedded

    def embed_text(self, texts: Tensor) -> Tensor:
        """Text features, (n, text_dim) to (n, shared)."""
        embedded: Tensor = self.text_projector(texts)
        return embedded

    def forward(self, prepared: Tensor, targets: Tensor) -> Tensor:
        """The brain-image loss of a batch of pairs."""
        loss: Tensor = self.objective(self.embed_brain(prepared), self.embed_image(targets))
        return loss

    @property
    def layer_weights(self) -> Tensor | None:
        """Shares of a mixture's layers, (n_layers,); None for a single layer."""
        mixture = self.image_projector
        return mixture.weights.detach() if isinstance(mixture, LayerMixture) else None


def _shared_width(recipe: Recipe, target_dims: Sequence[int]) -> int:
    if recipe.projector.image != "none":
        return recipe.projector.dim
    if len(set(target_dims)) > 1:
        text = f"layers of widths {', '.join(map(str, target_dims))} cannot be added without a projector"
        raise InputError(text, where="projector.image", hint="use linear, or fewer target.components")
    return target_dims[0]


def image_projector(recipe: Recipe, target_dims: Sequence[int]) -> tuple[nn.Module, int]:
    """The image side of a recipe and the width it leads to; a mixture where there are several layers.

    Raises
    ------
    InputError
        If layers are to be mixed without a projector and differ in width.
    """
    width = _shared_width(recipe, target_dims)
    if len(target_dims) == 1:
        return _image_projector(recipe.projector, target_dims[0]), width
    learned = recipe.target.mixture == "learned"
    return LayerMixture(target_dims, functools.partial(_image_projector, recipe.projector), learned=learned), width


def objective_of(recipe: Recipe) -> InfoNCE:
    """InfoNCE with a recipe's settings."""
    return InfoNCE(**recipe.objective.model_dump())


def subject_options(encoder: EncoderSettings, n_subjects: int) -> dict[str, Any]:
    """An encoder's options, with the number of training subjects where it knows subjects and none is given."""
    options = dict(encoder.options)
    if n_subjects and encoder_class(encoder.name).knows_subjects:
        options.setdefault("n_subjects", n_subjects)
    return options


def _image_projector(settings: ProjectorSettings, target_dim: int) -> nn.Module:
    return _projector(settings.image, target_dim, settings.dim, settings.dropout)


def _text_projector(settings: ProjectorSettings, text_dim: int, shared: int) -> nn.Module:
    if not text_dim:
        return nn.Identity()
    if settings.text == "none" and text_dim != shared:
        text = f"text features of width {text_dim} have no projector to the shared width {shared}"
        raise InputError(text, where="projector.text", hint="use linear, or another text.encoder")
    return _projector(settings.text, text_dim, shared, settings.dropout)


def _projector(kind: str, width: int, dim: int, dropout: float) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, dim))
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))
    return ResidualProjector(width, dim, dropout)


class ResidualProjector(nn.Module):
    """A linear map (left out where widths agree), then ``LayerNorm(x + Dropout(Linear(GELU(x))))``: NICE-LLM's.

    Parameters
    ----------
    width, dim : int
    dropout : float
    """

    def __init__(self, width: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.residual = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        x = self.enter(features)
        projected: Tensor = self.norm(x + self.residual(x))
        return projected


@torch.no_grad()
def _draw_weights(model: nn.Module, deviation: float) -> None:
    """Convolutions and linear maps from N(0, deviation), BatchNorm scales from N(1, deviation), as NICE starts."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, deviation)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, deviation)
            nn.init.zeros_(module.bias)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine between all rows, (..., n, d) and (..., m, d) to (..., n, m)."""
    return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).mT
