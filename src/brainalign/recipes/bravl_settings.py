"""Settings of BraVL, a variational model of brain, image and text features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from brainalign.recipes.base import Settings


class BravlScales(Settings):
    """What each modality is multiplied by, from unit mean square, before the model sees it."""

    brain: float = Field(1.0, gt=0)
    image: float = Field(1.0, gt=0)
    text: float = Field(1.0, gt=0)


class BravlSettings(Settings):
    """BraVL; see `brainalign.alignment.bravl.BravlAligner`. Defaults are the published values."""

    latent: int = Field(32, ge=1, description="dimensions of the latent variable")
    hidden: int = Field(256, ge=1, description="width of encoders and decoders")
    q_hidden: int = Field(512, ge=1, description="width of the Q networks")
    noise: float = Field(0.75, gt=0, description="deviation of the likelihoods, Q networks' among them")
    scales: BravlScales = BravlScales()
    beta_step: float = Field(
        0.01, gt=0, description="what the weight of the divergence grows by each epoch, from 0 to 1"
    )
    intra: float = Field(0.001, ge=0, description="weight of the intra-modality information")
    inter: float = Field(0.001, ge=0, description="weight of the inter-modality information")
    samples: int = Field(30, ge=1, description="latent samples of the bound on the evidence of mismatched tuples")
    inter_draws: int | None = Field(
        1, ge=1, description="of those, how many its gradient rests on, drawn by their share in it; null: all"
    )
    inter_rows: int | None = Field(
        None, ge=1, description="rows of a batch that bound is computed on, drawn anew each step; null: all"
    )
    inter_temperature: float = Field(
        1e6, gt=0, description="of the log-mean-exp over mismatched tuples; large ones make it their mean"
    )
    score: Literal["svm", "likelihood", "cosine"] = "svm"
    svm_gamma: float = Field(0.001, gt=0)
    svm_c: float = Field(1.0, gt=0)
    gallery: Literal["image", "image+text"] = Field(
        "image+text", description="what validation images are known by; without text always the image alone"
    )
    select: Literal["retrieval", "elbo"] = Field(
        "retrieval", description="validation loss: 1 - mean reciprocal rank, or the negative bound at full divergence"
    )
    precision: Literal["float64", "float32"] = "float64"
