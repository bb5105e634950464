"""The trained part of a foundation aligner: a layer a subject, an encoder a modality, one space with the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from brainalign.alignment.model import cosine, image_projector, objective_of
from brainalign.encoders import BrainEncoder, build_encoder
from brainalign.recipes.recipe import EncoderSettings, Recipe


@dataclass(frozen=True)
class SourceShape:
    """One subject in one modality, as the model needs to know it.

    Attributes
    ----------
    modality : str
    n_chans, n_times : int
    """

    modality: str
    n_chans: int
    n_times: int


class AlignmentLayer(nn.Module):
    """A subject's channels to those its modality shares: dropout, then one linear map at every sample.

    Parameters
    ----------
    n_chans, width : int
    dropout : float
    """

    def __init__(self, n_chans: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.map = nn.Dropout(dropout), nn.Linear(n_chans, width)

    def forward(self, signals: Tensor) -> Tensor:
        """(n, n_chans, n_times) to (n, width, n_times)."""
        aligned: Tensor = self.map(self.dropout(signals.mT)).mT
        return aligned


class FoundationModel(nn.Module):
    """f_n = g_n o a_n for every modality n (Ferrante et al. 2024, arXiv 2411.09723): a_n a subject's, g_n shared.

    Parameters
    ----------
    recipe : Recipe
    sources : mapping of str to SourceShape
        By name; names may hold any character but a dot.
    target_dims : sequence of int
        Widths of the image features after their transform, one a layer of the target.

    Raises
    ------
    InputError
        If an encoder cannot take signals of a modality's length.
    """

    def __init__(self, recipe: Recipe, *, sources: Mapping[str, SourceShape], target_dims: Sequence[int]) -> None:
        super().__init__()
        settings = recipe.foundation
        self.sources = dict(sources)
        self.image_projector, shared = image_projector(recipe, target_dims)
        self.layers = nn.ModuleDict(
            {name: AlignmentLayer(s.n_chans, settings.width, settings.dropout) for name, s in sources.items()}
        )
        self.encoders = nn.ModuleDict()
        for shape in sources.values():
            if shape.modality not in self.encoders:
                chosen = encoder_of(recipe, shape.modality)
                self.encoders[shape.modality] = build_encoder(
                    chosen.name, n_chans=settings.width, n_times=shape.n_times, dim=shared, **chosen.options
                )
        self.objective = objective_of(recipe)
        self.cross_modal = settings.cross_modal

    def prepare(self, source: str, signals: Tensor) -> Tensor:
        """What a modality's encoder does ahead of training; along time, so that it may come before the channels mix."""
        return self._encoder(source).prepare(signals)

    def embed_brain(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Signals of several sources to the shared space, each (n, ...) to (n, shared); a modality goes in one pass."""
        found: dict[str, Tensor] = {}
        for modality, encoder in self.encoders.items():
            names = [name for name in prepared if self.sources[name].modality == modality]
            if names:
                aligned = torch.cat([self.layers[name](prepared[name]) for name in names])
                parts = encoder(aligned, prepared=True).split([len(prepared[name]) for name in names])
                found |= dict(zip(names, parts, strict=True))
        return {name: found[name] for name in prepared}

    def embed_image(self, targets: Tensor) -> Tensor:
        """Transformed image features, (n, sum of target_dims) to (n, shared)."""
        embedded: Tensor = self.image_projector(targets)
        return embedded

    def similarity(self, source: str, prepared: Tensor, targets: Tensor) -> Tensor:
        """Cosine between signals of a source and images, (n, m)."""
        return cosine(self.embed_brain({source: prepared})[source], self.embed_image(targets))

    @property
    def layer_weights(self) -> Tensor | None:
        """Shares of a mixture's layers, None for a single layer."""
        from brainalign.alignment.mixture import LayerMixture

        mixture = self.image_projector
        return mixture.weights.detach() if isinstance(mixture, LayerMixture) else None

    def _encoder(self, source: str) -> BrainEncoder:
        encoder = self.encoders[self.sources[source].modality]
        assert isinstance(encoder, BrainEncoder)
        return encoder


def encoder_of(recipe: Recipe, modality: str) -> EncoderSettings:
    """The encoder that a modality's subjects share."""
    return recipe.foundation.encoders.get(modality, recipe.encoder)
