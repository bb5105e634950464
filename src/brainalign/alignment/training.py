"""The training loop of a contrastive aligner: one run, its epochs chosen on validation, resumable at any epoch."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.model import ContrastiveModel, cosine
from brainalign.errors import InputError
from brainalign.recipes.recipe import Recipe, TrainingSettings

State = dict[str, Tensor]
Progress = Callable[[int, int], None]
CHECKPOINT_SECONDS = 20.0


@dataclass
class Pairs:
    """Signals ready for the encoder and the image features they belong to, row by row, on the device."""

    signals: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(eq=False)
class Run:
    """One model and all that its training depends on.

    Attributes
    ----------
    model : ContrastiveModel
    training, validation : Pairs
        Runs that share signals hold the same tensor.
    recipe : Recipe
    seed : int
    checkpoint : path or None
        Written every 20 s at the end of an epoch, read at the start if it is there.
    """

    model: ContrastiveModel
    training: Pairs
    validation: Pairs
    recipe: Recipe
    seed: int
    checkpoint: Path | None = None

    @property
    def settings(self) -> TrainingSettings:
        """The optimiser and its budget."""
        return self.recipe.training


@dataclass
class Fit:
    """What training leaves behind.

    Attributes
    ----------
    history : list of dict
        One an epoch: epoch, train_loss, validation_loss, validation_top1, validation_mrr, scale, lr.
    epoch : int
        The chosen epoch, from 1.
    state : dict
        Weights of the chosen epoch.
    candidates : dict
        Weights of epochs kept for the inflation gap, by epoch.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    state: State = field(default_factory=dict)
    candidates: dict[int, State] = field(default_factory=dict)

    @property
    def chosen(self) -> dict[str, float]:
        """The history's row of the chosen epoch."""
        return self.history[self.epoch - 1]


def train(run: Run, *, progress: Progress | None = None) -> Fit:
    """Fit a model and choose its epoch.

    Batch order, dropout and noise of an epoch depend on the seed and the epoch's number alone, so a run that was killed
    and resumed at an epoch ends in the same weights as one that was not.
    """
    model, settings = run.model, run.settings
    check_pairs(run.training)
    optimizer = make_optimizer(model.parameters(), settings)
    fit = Fit()
    if run.checkpoint is not None and run.checkpoint.is_file():
        _resume(run.checkpoint, model, optimizer, fit)
    keep = kept_epochs(run.recipe)
    written = time.monotonic()
    for epoch in range(len(fit.history) + 1, settings.epochs + 1):
        if exhausted(fit, settings):
            break
        row = {"epoch": float(epoch), "lr": set_lr(optimizer, settings, epoch)}
        row["train_loss"] = _train_epoch(run, optimizer, epoch)
        (scores,) = validate(model, run.validation)
        fit.history.append(row | scores)
        keep_weights(fit, run.recipe, model.state_dict, epoch in keep)
        if run.checkpoint is not None and time.monotonic() - written > CHECKPOINT_SECONDS:
            _write_checkpoint(run.checkpoint, model, optimizer, fit)
            written = time.monotonic()
        if progress is not None:
            progress(epoch, settings.epochs)
    model.load_state_dict(fit.state)
    return fit


def check_pairs(pairs: Pairs) -> None:
    """Refuse what cannot be contrasted.

    Raises
    ------
    InputError
        If there are fewer than two pairs.
    """
    if len(pairs) < 2:
        raise InputError(f"{len(pairs)} training image: contrast needs at least two", hint="add images")


def validate(model: ContrastiveModel, pairs: Pairs) -> list[dict[str, float]]:
    """Loss and identification among the validation images; one entry a model of a stack, one for a single model."""
    model.eval()
    with torch.no_grad():
        brain, image = model.embed_brain(pairs.signals), model.embed_image(pairs.targets)
        loss = model.objective(brain, image)
        similarity = cosine(brain, image)
        truth = similarity.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        # Ties count half, as in evaluation: a constant similarity scores chance.
        rank = (similarity > truth).sum(-1) + 0.5 * ((similarity == truth).sum(-1) - 1)
        scores = {
            "validation_loss": loss,
            "validation_top1": (rank < 0.5).double().mean(-1),
            "validation_mrr": (1 / (rank + 1)).mean(-1),
            "scale": model.objective.scale,
        }
        weights = model.layer_weights
        if weights is not None:
            scores |= {f"weight_{i}": share for i, share in enumerate(weights.unbind(-1))}
    columns = {name: value.double().reshape(-1).tolist() for name, value in scores.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _train_epoch(run: Run, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    model, pairs, settings = run.model, run.training, run.settings
    model.train()
    device = pairs.targets.device
    total, count = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed(run.seed, epoch))
        order = torch.randperm(len(pairs)).to(device)
        for batch in batches(order, settings.batch_size):
            signals, targets = pairs.signals[batch], pairs.targets[batch]
            if settings.noise:
                signals = signals + settings.noise * torch.randn_like(signals)
            loss = model(signals, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
            count += len(batch)
    return checked_loss(total / count, epoch)


def checked_loss(mean: float, epoch: int) -> float:
    """The mean loss of an epoch.

    Raises
    ------
    InputError
        If it is not a finite number.
    """
    if not math.isfinite(mean):
        raise InputError(
            f"the loss became {mean} in epoch {epoch}", where="training.lr", hint="lower the learning rate"
        )
    return mean


def epoch_seed(seed: int, epoch: int) -> int:
    """A 63-bit seed for one epoch of one run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8], "little") >> 1


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches of nearly equal size, none of a single image."""
    n = max(1, -(-len(order) // size))
    return list(order.tensor_split(n))


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: TrainingSettings, *, stacked: bool = False
) -> torch.optim.Optimizer:
    """Weight decay on matrices only: biases, norms and the logit scale have no size to shrink.

    Parameters
    ----------
    stacked : bool
        Whether parameters have a leading axis of runs.
    """
    trained = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trained if p.ndim - stacked >= 2]
    others = [p for p in trained if p.ndim - stacked < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind([g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas)


def set_lr(optimizer: torch.optim.Optimizer, settings: TrainingSettings, epoch: int) -> float:
    """Put an epoch's learning rate in place and return it."""
    lr = settings.lr
    if settings.schedule == "cosine":
        lr *= 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (epoch - 1) / settings.epochs)).item())
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def kept_epochs(recipe: Recipe) -> frozenset[int]:
    """Epochs kept for the inflation gap, evenly spaced, the last among them."""
    epochs, wanted = recipe.training.epochs, recipe.selection.candidates
    return frozenset(round(epochs * (i + 1) / min(wanted, epochs)) for i in range(min(wanted, epochs)))


def keep_weights(fit: Fit, recipe: Recipe, weights: Callable[[], Mapping[str, Tensor]], candidate: bool) -> None:
    """Copy the weights after the newest epoch if it is the best so far or one of the `candidate` epochs."""
    row = fit.history[-1]
    epoch = int(row["epoch"])
    best = min((r["validation_loss"] for r in fit.history[:-1]), default=float("inf"))
    better = recipe.selection.epoch == "last" or row["validation_loss"] < best or not fit.state
    if not (better or candidate):
        return
    state = {name: value.detach().to("cpu", copy=True) for name, value in weights().items()}
    if better:
        fit.state, fit.epoch = state, epoch
    if candidate:
        fit.candidates[epoch] = state


def exhausted(fit: Fit, settings: TrainingSettings) -> bool:
    """Whether patience has run out."""
    if settings.patience is None or not fit.history:
        return False
    losses = [row["validation_loss"] for row in fit.history]
    return len(losses) - 1 - losses.index(min(losses)) >= settings.patience


def _write_checkpoint(path: Path, model: ContrastiveModel, optimizer: torch.optim.Optimizer, fit: Fit) -> None:
    tensors: State = {f"model.{k}": v for k, v in model.state_dict().items()}
    if fit.epoch not in fit.candidates:  # otherwise the chosen weights are among the stored epochs
        tensors |= {f"best.{k}": v for k, v in fit.state.items()}
    for epoch, state in fit.candidates.items():
        tensors |= {f"candidate.{epoch}.{k}": v for k, v in state.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    save_tensors(path, tensors, {"history": fit.history, "epoch": fit.epoch})


def _resume(path: Path, model: ContrastiveModel, optimizer: torch.optim.Optimizer, fit: Fit) -> None:
    tensors, facts = load_tensors(path)
    parts: dict[str, State] = {"model": {}, "best": {}, "candidate": {}, "optimizer": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    model.load_state_dict(parts["model"])
    stored = optimizer.state_dict()
    for name, value in parts["optimizer"].items():
        index, _, slot = name.partition(".")
        stored["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(stored)
    for name, value in parts["candidate"].items():
        epoch, _, rest = name.partition(".")
        fit.candidates.setdefault(int(epoch), {})[rest] = value
    fit.history, fit.epoch = facts["history"], facts["epoch"]
    fit.state = parts["best"] or fit.candidates[fit.epoch]
