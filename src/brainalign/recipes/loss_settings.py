"""Settings of the loss: its terms, and how they are weighed against each other."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from brainalign.recipes.base import Settings

# How the terms are called in figures.
TERM_NAMES = {
    "brain_image": "brain–image",
    "image_text": "image–text",
    "semantic_guidance": "semantic guidance",
    "brain_text": "brain–text",
    "intra_modal": "two views of a signal",
    "regression": "regression",
}


class GuidanceSettings(Settings):
    """Semantic guidance; see `brainalign.objectives.semantic_guidance_loss`."""

    temperature: float = Field(0.07, gt=0)
    direction: Literal["reverse", "forward"] = "reverse"
    diagonal: Literal["keep", "mask", "literal"] = "keep"
    detach_teacher: bool = True


class DynamicSettings(Settings):
    """Dynamic loss adjustment; see `brainalign.objectives.DynamicLossAdjustment`."""

    temperature: float = Field(0.07, gt=0)
    eps: float = Field(1e-8, gt=0)
    normalize: bool = True
    smoothing: float = Field(0.0, ge=0, lt=1)


class LossSettings(Settings):
    """Terms of the loss, each with its weight; a term of weight 0 is left out, and so is one that needs text where
    `text.prior` is none.
    """

    brain_image: float = Field(1.0, ge=0)
    image_text: float = Field(0.0, ge=0)
    brain_text: float = Field(0.0, ge=0)
    semantic_guidance: float = Field(0.0, ge=0, description="brain-image similarities follow image-text ones")
    intra_modal: float = Field(0.0, ge=0, description="two noisy views of one signal find each other")
    regression: float = Field(0.0, ge=0, description="mean squared error between brain and image embeddings")
    intra_modal_noise: float = Field(0.1, gt=0, description="deviation of the noise of a view")
    detach_image: bool = Field(
        False, description="brain terms leave the image projector alone; image_text trains it (NICE-LLM)"
    )
    balance: Literal["fixed", "dynamic"] = "fixed"
    guidance: GuidanceSettings = GuidanceSettings()
    dynamic: DynamicSettings = DynamicSettings()

    @model_validator(mode="after")
    def _something_aligns(self) -> Self:
        if self.brain_image == self.brain_text == self.regression == 0:
            raise ValueError("brain_image, brain_text or regression must weigh something")
        if self.detach_image and self.image_text == 0:
            raise ValueError("detach_image needs image_text: nothing else would train the image projector")
        return self
