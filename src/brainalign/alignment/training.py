"""The training loop of a contrastive aligner: one run, its epochs chosen on validation, resumable at any epoch."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.model import ContrastiveModel, cosine
from brainalign.alignment.pairs import Batch, Pairs, epoch_batches
from brainalign.alignment.terms import Balance, Embedded, active_terms, loss_terms
from brainalign.errors import InputError
from brainalign.objectives import UncertaintyBlur
from brainalign.recipes.recipe import Recipe, TrainingSettings

State = dict[str, Tensor]
Progress = Callable[[int, int], None]
CHECKPOINT_SECONDS = 20.0


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

    @property
    def plain(self) -> bool:
        """Whether its loss is the brain-image term alone, of one signal an image."""
        pairs = self.training
        bare = pairs.images is None and pairs.subjects is None and pairs.levels is None
        return bare and Balance(self.recipe, self.model).plain


@dataclass
class Fit:
    """What training leaves behind.

    Attributes
    ----------
    history : list of dict
        One an epoch: epoch, train_loss, validation_loss, validation_top1, validation_mrr, scale, lr; with several terms
        `train_TERM` and `validation_TERM` of each. `validation_loss` is always that of the brain-image term, which
        retrieval rests on, so that runs with other terms or weights are chosen by the same score.
    epoch : int
        The chosen epoch, from 1.
    state : dict
        Weights of the chosen epoch.
    candidates : dict
        Weights of epochs kept for the inflation gap, by epoch.
    steps : list of dict
        With several terms, one an optimiser step: epoch, step, and of each term its loss and weight; under dynamic loss
        adjustment also the norm of its gradient and its velocity.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    state: State = field(default_factory=dict)
    candidates: dict[int, State] = field(default_factory=dict)
    steps: list[dict[str, float]] = field(default_factory=list)

    @property
    def chosen(self) -> dict[str, float]:
        """The history's row of the chosen epoch."""
        return self.history[self.epoch - 1]


@dataclass(eq=False)
class _Loop:
    """What changes while a run trains, besides its weights."""

    optimizer: torch.optim.Optimizer
    balance: Balance
    blur: UncertaintyBlur | None
    fit: Fit = field(default_factory=Fit)

    @classmethod
    def of(cls, run: Run) -> _Loop:
        blur = None
        if run.training.levels is not None:
            how = run.recipe.uncertainty.model_dump(exclude={"levels"})
            blur = UncertaintyBlur(len(run.training.targets), **how).to(run.training.targets.device)
        return cls(make_optimizer(run.model, run.settings), Balance(run.recipe, run.model), blur)

    def states(self) -> dict[str, State]:
        """What a checkpoint keeps besides weights and optimiser."""
        blur = {} if self.blur is None else dict(self.blur.state_dict())
        return {"balance": self.balance.state(), "blur": blur}

    def load(self, states: Mapping[str, State]) -> None:
        """Go on from `states`."""
        self.balance.load_state(states.get("balance", {}))
        if self.blur is not None:
            self.blur.load_state_dict(states["blur"])


def train(run: Run, *, progress: Progress | None = None) -> Fit:
    """Fit a model and choose its epoch.

    Batch order, dropout and noise of an epoch depend on the seed and the epoch's number alone, so a run that was killed
    and resumed at an epoch ends in the same weights as one that was not.
    """
    model, settings = run.model, run.settings
    check_pairs(run.training)
    loop = _Loop.of(run)
    fit = loop.fit
    if run.checkpoint is not None and run.checkpoint.is_file():
        loop.load(read_checkpoint(run.checkpoint, model, loop.optimizer, fit))
    keep = kept_epochs(run.recipe)
    written = time.monotonic()
    for epoch in range(len(fit.history) + 1, settings.epochs + 1):
        if exhausted(fit, settings):
            break
        row = {"epoch": float(epoch), "lr": set_lr(loop.optimizer, settings, epoch)}
        row |= _train_epoch(run, loop, epoch)
        fit.history.append(row | _validate_run(run))
        keep_weights(fit, run.recipe, model.state_dict, epoch in keep)
        if run.checkpoint is not None and time.monotonic() - written > CHECKPOINT_SECONDS:
            write_checkpoint(run.checkpoint, model, loop.optimizer, fit, loop.states())
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
        scores = {
            "validation_loss": model.objective(brain, image),
            **retrieval_scores(brain, image),
            "scale": model.objective.scale,
        }
        weights = model.layer_weights
        if weights is not None:
            scores |= {f"weight_{i}": share for i, share in enumerate(weights.unbind(-1))}
    columns = {name: value.double().reshape(-1).tolist() for name, value in scores.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def retrieval_scores(brain: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Identification of each pair among all, both (..., n, dim), to values of shape (...)."""
    similarity = cosine(brain, image)
    truth = similarity.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    # Ties count half, as in evaluation: a constant similarity scores chance.
    rank = (similarity > truth).sum(-1) + 0.5 * ((similarity == truth).sum(-1) - 1)
    return {"validation_top1": (rank < 0.5).double().mean(-1), "validation_mrr": (1 / (rank + 1)).mean(-1)}


def _validate_run(run: Run) -> dict[str, float]:
    """Scores among the validation images, each subject by itself, and every term of a loss that has several."""
    model, names = run.model, active_terms(run.recipe)
    rows = []
    for part in run.validation.parts():
        (scores,) = validate(model, part)
        if len(names) > 1:
            with torch.no_grad():
                # A subject's own layers are not used: the one who will be tested has none.
                batch = Batch(part.signals, part.targets, part.texts)
                terms = loss_terms(model, batch, Embedded.of(model, batch), names, run.recipe.losses)
            scores |= {f"validation_{name}": float(value) for name, value in terms.items()}
        rows.append(scores)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _train_epoch(run: Run, loop: _Loop, epoch: int) -> dict[str, float]:
    """Mean loss, and the mean of every term where there are several."""
    model, pairs, settings, balance = run.model, run.training, run.settings, loop.balance
    model.train()
    device = pairs.targets.device
    totals: dict[str, float] = {}
    count = 0
    level = None if loop.blur is None else loop.blur.levels(torch.arange(len(pairs.targets), device=device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed(run.seed, epoch))
        for step, rows in enumerate(epoch_batches(pairs, settings), start=1):
            batch = pairs.batch(rows, level)
            if settings.noise:
                batch.signals = batch.signals + settings.noise * torch.randn_like(batch.signals)
            embedded = Embedded.of(model, batch)
            terms = loss_terms(model, batch, embedded, balance.names, run.recipe.losses)
            loop.optimizer.zero_grad(set_to_none=True)
            loss = balance.backward(terms, embedded)
            loop.optimizer.step()
            if loop.blur is not None:
                loop.blur.update(pairs.rows_of_images(rows), _pair_logits(model, embedded))
            if len(terms) > 1:
                loop.fit.steps.append({"epoch": float(epoch), "step": float(step)} | balance.last)
            found = {"train_loss": loss}
            if len(terms) > 1:
                found |= {f"train_{name}": balance.last[f"loss_{name}"] for name in terms}
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value * len(rows)
            count += len(rows)
    if loop.blur is not None:
        loop.blur.end_epoch()
    checked_loss(totals["train_loss"] / count, epoch)
    return {name: value / count for name, value in totals.items()}


@torch.no_grad()
def _pair_logits(model: ContrastiveModel, embedded: Embedded) -> Tensor:
    """Logit of every true pair, (n,), as the loss has just taken it."""
    brain = nn.functional.normalize(embedded.brain, dim=1) if model.objective.normalize_brain else embedded.brain
    return model.objective.scale * (brain * nn.functional.normalize(embedded.image, dim=1)).sum(dim=1)


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


def make_optimizer(model: nn.Module, settings: TrainingSettings, *, stacked: bool = False) -> torch.optim.Optimizer:
    """Weight decay on matrices only: biases, norms and the logit scale have no size to shrink.

    Parameters
    ----------
    model : torch.nn.Module
        Its `image_projector` and `text_projector`, where it has them, are the image side.
    stacked : bool
        Whether parameters have a leading axis of runs.
    """
    sides = (getattr(model, name, None) for name in ("image_projector", "text_projector"))
    other_side = {id(p) for side in sides if side is not None for p in side.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim - stacked >= 2]
    decay_image = settings.weight_decay if settings.weight_decay_image is None else settings.weight_decay_image
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in other_side], "weight_decay": settings.weight_decay},
        {"params": [p for p in matrices if id(p) in other_side], "weight_decay": decay_image},
        {"params": [p for p in trained if p.ndim - stacked < 2], "weight_decay": 0.0},
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


def write_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fit: Fit, parts: Mapping[str, State] | None = None
) -> None:
    """Keep everything that a run needs to go on after its newest epoch; `parts` are states of anything else."""
    tensors: State = {f"model.{k}": v for k, v in model.state_dict().items()}
    if fit.epoch not in fit.candidates:  # otherwise the chosen weights are among the stored epochs
        tensors |= {f"best.{k}": v for k, v in fit.state.items()}
    for epoch, state in fit.candidates.items():
        tensors |= {f"candidate.{epoch}.{k}": v for k, v in state.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    tensors |= {f"{part}.{k}": v for part, state in (parts or {}).items() for k, v in state.items()}
    save_tensors(path, tensors, {"history": fit.history, "epoch": fit.epoch, "steps": fit.steps})


def read_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fit: Fit) -> dict[str, State]:
    """Put a run where it was; returns the other states that were kept."""
    tensors, facts = load_tensors(path)
    parts: dict[str, State] = {kind: {} for kind in ("model", "best", "candidate", "optimizer")}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts.setdefault(kind, {})[rest] = value
    model.load_state_dict(parts.pop("model"))
    stored = optimizer.state_dict()
    for name, value in parts.pop("optimizer").items():
        index, _, slot = name.partition(".")
        stored["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(stored)
    for name, value in parts.pop("candidate").items():
        epoch, _, rest = name.partition(".")
        fit.candidates.setdefault(int(epoch), {})[rest] = value
    fit.history, fit.epoch, fit.steps = facts["history"], facts["epoch"], facts["steps"]
    fit.state = parts.pop("best") or fit.candidates[fit.epoch]
    return parts
