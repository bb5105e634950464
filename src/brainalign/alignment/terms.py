"""The terms of a contrastive run's loss, and how they are weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.pairs import Batch
from brainalign.errors import InputError
from brainalign.objectives import DynamicLossAdjustment, balanced_backward, info_nce, semantic_guidance_loss
from brainalign.recipes.loss_settings import LossSettings
from brainalign.recipes.recipe import Recipe

NEED_TEXT = ("image_text", "brain_text", "semantic_guidance")
TERMS = ("brain_image", "image_text", "semantic_guidance", "brain_text", "intra_modal", "regression")
State = dict[str, Tensor]


def active_terms(recipe: Recipe) -> tuple[str, ...]:
    """Terms of a recipe's loss, in order: those that weigh something, without language none that needs it."""
    text = recipe.text.prior != "none"
    return tuple(name for name in TERMS if getattr(recipe.losses, name) > 0 and (text or name not in NEED_TEXT))


@dataclass(frozen=True)
class Embedded:
    """A batch in the shared space, (n, shared) each."""

    brain: Tensor
    image: Tensor
    text: Tensor | None

    @classmethod
    def of(cls, model: ContrastiveModel, batch: Batch) -> Embedded:
        """Embed a batch."""
        text = model.embed_text(batch.texts) if batch.texts is not None else None
        return cls(model.embed_brain(batch.signals, batch.subjects), model.embed_image(batch.targets), text)


def loss_terms(
    model: ContrastiveModel, batch: Batch, embedded: Embedded, names: tuple[str, ...], settings: LossSettings
) -> State:
    """Every term of a batch, each a tensor of shape ().

    NeuroAlign, section 3: `brain_image` is L1, `image_text` L2, `semantic_guidance` L3 (eq. 4 to 7).
    """
    brain, image = embedded.brain, embedded.image
    text = cast(Tensor, embedded.text)  # None only where no active term reads it
    seen = image.detach() if settings.detach_image else image
    guidance = settings.guidance.model_dump()

    def second_view() -> Tensor:
        noisy = batch.signals + settings.intra_modal_noise * torch.randn_like(batch.signals)
        return model.embed_brain(noisy, batch.subjects)

    made: dict[str, Callable[[], Tensor]] = {
        "brain_image": lambda: model.objective(brain, seen),
        "image_text": lambda: info_nce(
            image,
            text,
            scale=model.objective.scale,
            symmetric=model.objective.symmetric,
        ),
        "brain_text": lambda: model.objective(brain, text),
        "semantic_guidance": lambda: semantic_guidance_loss(brain, seen, text, **guidance),
        "intra_modal": lambda: model.objective(brain, second_view()),
        "regression": lambda: nn.functional.mse_loss(brain, seen),
    }
    return {name: made[name]() for name in names}


class Balance:
    """Adds up the terms of a loss with fixed weights or with dynamic loss adjustment.

    Parameters
    ----------
    recipe : Recipe
    model : ContrastiveModel
        Its projectors are where the gradients of dynamic adjustment are measured.
    """

    def __init__(self, recipe: Recipe, model: ContrastiveModel) -> None:
        self.settings = recipe.losses
        self.names = active_terms(recipe)
        self.given = [float(getattr(self.settings, name)) for name in self.names]
        dynamic = self.settings.balance == "dynamic" and len(self.names) > 1
        self.adjustment = DynamicLossAdjustment(**self.settings.dynamic.model_dump()) if dynamic else None
        self.parameters = [_projectors(model, name) for name in self.names] if dynamic else []
        self.last: dict[str, float] = {}

    @property
    def plain(self) -> bool:
        """Whether the loss is the brain-image term alone."""
        return self.names == ("brain_image",) and self.given == [1.0]

    def backward(self, terms: State, embedded: Embedded) -> float:
        """Add the gradients of the weighted loss to the parameters, and return it; `last` says how it came about."""
        losses = list(terms.values())
        if self.adjustment is None:
            weights = self.given
            total = losses[0] if weights[0] == 1.0 else losses[0] * weights[0]
            for loss, weight in zip(losses[1:], weights[1:], strict=True):
                total = total + loss * weight
            total.backward()  # type: ignore[no-untyped-call]
        else:
            given = torch.tensor(self.given, device=losses[0].device)
            parts = [part for part in (embedded.brain, embedded.image, embedded.text) if part is not None]
            adjust = self.adjustment.weights
            weights = balanced_backward(losses, parts, self.parameters, lambda norms: given * adjust(norms)).tolist()
        values = torch.stack([loss.detach() for loss in losses]).tolist()
        if len(losses) > 1:
            self._log(values, weights)
        return float(sum(value * weight for value, weight in zip(values, weights, strict=True)))

    def _log(self, values: list[float], weights: list[float]) -> None:
        columns = {"loss": values, "weight": weights}
        if self.adjustment is not None:
            columns |= {"norm": self.adjustment.last["norms"], "velocity": self.adjustment.last["velocities"]}
        self.last = {
            f"{kind}_{name}": float(value)
            for kind, column in columns.items()
            for name, value in zip(self.names, column, strict=True)
        }

    def state(self) -> State:
        """What a checkpoint keeps."""
        return {} if self.adjustment is None else dict(self.adjustment.state_dict())

    def load_state(self, state: State) -> None:
        """Go on from a checkpoint."""
        if self.adjustment is not None:
            self.adjustment.load_state_dict(state)


def _projectors(model: ContrastiveModel, term: str) -> list[nn.Parameter]:
    """The projector parameters that a term reaches: theta of eq. 9."""
    if term == "image_text":
        modules: list[nn.Module] = [model.image_projector, model.text_projector]
        found = [p for m in modules for p in m.parameters() if p.requires_grad]
        if not found:
            text = "dynamic weights need a trained projector on the image or the text side"
            raise InputError(text, where="projector.image", hint="set it to linear, or losses.balance=fixed")
        return found
    return [p for p in model.brain_projector.parameters() if p.requires_grad] or _last_linear(model.encoder)


def _last_linear(module: nn.Module) -> list[nn.Parameter]:
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return list(linear[-1].parameters()) if linear else list(module.parameters())
