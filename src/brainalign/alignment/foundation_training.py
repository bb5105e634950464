"""Joint training of several sources on batches of images, resumable at any epoch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from brainalign.alignment.foundation_model import FoundationModel
from brainalign.alignment.pairs import batches
from brainalign.alignment.training import (
    CHECKPOINT_SECONDS,
    Fit,
    Progress,
    checked_loss,
    epoch_seed,
    exhausted,
    keep_weights,
    kept_epochs,
    make_optimizer,
    read_checkpoint,
    retrieval_scores,
    set_lr,
    write_checkpoint,
)
from brainalign.errors import InputError
from brainalign.recipes.recipe import Recipe


@dataclass(frozen=True)
class Source:
    """Signals of one source, ready for its alignment layer.

    Attributes
    ----------
    signals : Tensor of shape (n, ...)
    images : Tensor of shape (n,)
        Row of the part's targets that each signal belongs to.
    """

    signals: Tensor
    images: Tensor


@dataclass(frozen=True)
class Joint:
    """The data of a joint run, on the device.

    Attributes
    ----------
    training, validation : dict of str to Source
    targets, validation_targets : Tensor of shape (n_images, dim)
        Of the union of all sources' images.
    """

    training: Mapping[str, Source]
    validation: Mapping[str, Source]
    targets: Tensor
    validation_targets: Tensor


def train_joint(
    model: FoundationModel,
    joint: Joint,
    recipe: Recipe,
    seed: int,
    *,
    frozen: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Train all sources on batches of images; every source contributes the signals it has of a batch's images.

    Parameters
    ----------
    frozen : bool
        Only alignment layers that take gradients are trained: shared parts stay in evaluation mode, so that their
        running statistics stay as they are.

    Raises
    ------
    InputError
        If a source has fewer than two training images, or the loss is no finite number.
    """
    for name, source in joint.training.items():
        if len(source.images) < 2:
            raise InputError(f"{len(source.images)} training image: contrast needs at least two", where=name)
    settings, fit = recipe.training, Fit()
    optimizer = make_optimizer(model, settings)
    if checkpoint is not None and checkpoint.is_file():
        read_checkpoint(checkpoint, model, optimizer, fit)
    keep, written = kept_epochs(recipe), time.monotonic()
    where = {name: _rows(source, len(joint.targets)) for name, source in joint.training.items()}
    for epoch in range(len(fit.history) + 1, settings.epochs + 1):
        if exhausted(fit, settings):
            break
        model.train(not frozen)
        for name in joint.training:
            model.layers[name].train()
        row = {"epoch": float(epoch), "lr": set_lr(optimizer, settings, epoch)}
        row["train_loss"] = _epoch(model, joint, where, recipe, optimizer, epoch_seed(seed, epoch), epoch)
        fit.history.append(row | validate_joint(model, joint))
        keep_weights(fit, recipe, model.state_dict, epoch in keep)
        if checkpoint is not None and time.monotonic() - written > CHECKPOINT_SECONDS:
            write_checkpoint(checkpoint, model, optimizer, fit)
            written = time.monotonic()
        if progress is not None:
            progress(epoch, settings.epochs)
    model.load_state_dict(fit.state)
    return fit


def _rows(source: Source, n_images: int) -> Tensor:
    """Row of the signal of every image, -1 where the source has none."""
    rows = torch.full((n_images,), -1, device=source.images.device)
    rows[source.images] = torch.arange(len(source.images), device=source.images.device)
    return rows


def _epoch(
    model: FoundationModel,
    joint: Joint,
    where: Mapping[str, Tensor],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    seed: int,
    epoch: int,
) -> float:
    device = joint.targets.device
    total, count = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for images in batches(torch.randperm(len(joint.targets)).to(device), recipe.training.batch_size):
            loss = _batch_loss(model, joint, where, images, recipe)
            if loss is None:
                continue
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(images)
            count += len(images)
    return checked_loss(total / max(count, 1), epoch)


def _batch_loss(
    model: FoundationModel, joint: Joint, where: Mapping[str, Tensor], images: Tensor, recipe: Recipe
) -> Tensor | None:
    """Mean over sources of their loss against the batch's images, and the terms between sources; None if empty."""
    rows = {name: of[images] for name, of in where.items()}
    has = {name: torch.nonzero(r >= 0)[:, 0] for name, r in rows.items()}
    names = [name for name in has if len(has[name]) > 1]
    if not names:
        return None
    signals = {}
    for name in names:
        values = joint.training[name].signals[rows[name][has[name]]]
        signals[name] = values + recipe.training.noise * torch.randn_like(values) if recipe.training.noise else values
    brain, image = model.embed_brain(signals), model.embed_image(joint.targets[images])
    if recipe.losses.brain_image:
        anchored = [recipe.losses.brain_image * model.objective(brain[name], image[has[name]]) for name in names]
    else:
        anchored = [image.sum() * 0.0]
    if recipe.losses.regression:
        errors = [nn.functional.mse_loss(brain[name], image[has[name]].detach()) for name in names]
        anchored = [a + recipe.losses.regression * e for a, e in zip(itertools.cycle(anchored), errors)]
    loss = torch.stack(anchored).mean()
    if model.cross_modal:
        crossed = list(_crossed(model, brain, has, len(images), names))
        if crossed:
            loss = loss + model.cross_modal * torch.stack(crossed).mean()
    return loss


def _crossed(
    model: FoundationModel, brain: Mapping[str, Tensor], has: Mapping[str, Tensor], n_images: int, names: list[str]
) -> list[Tensor]:
    """Contrast between the signals of two sources that show the same images of the batch."""
    at = {}
    for name in names:
        at[name] = torch.full((n_images,), -1, device=has[name].device)
        at[name][has[name]] = torch.arange(len(has[name]), device=has[name].device)
    found = []
    for a, b in itertools.combinations(names, 2):
        both = torch.nonzero((at[a] >= 0) & (at[b] >= 0))[:, 0]
        if len(both) > 1:
            found.append(model.objective(brain[a][at[a][both]], nn.functional.normalize(brain[b][at[b][both]], dim=1)))
    return found


@torch.no_grad()
def validate_joint(model: FoundationModel, joint: Joint) -> dict[str, float]:
    """Every source's loss and identification among its validation images, and their means."""
    model.eval()
    image = model.embed_image(joint.validation_targets)
    found: dict[str, dict[str, float]] = {}
    for name, source in joint.validation.items():
        brain = model.embed_brain({name: source.signals})[name]
        own = image[source.images]
        scores = {"validation_loss": model.objective(brain, own), **retrieval_scores(brain, own)}
        found[name] = {key: float(value) for key, value in scores.items()}
    keys = next(iter(found.values()))
    row = {key: sum(scores[key] for scores in found.values()) / len(found) for key in keys}
    row["scale"] = float(model.objective.scale)
    return row | {f"{key}_{name}": scores[key] for name, scores in found.items() for key in keys}
