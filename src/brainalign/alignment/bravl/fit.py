"""Training of BraVL: Q networks first, then the variational model; the epoch chosen on validation; resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brainalign.alignment.bravl.elbo import beta_of, pass_through, validation_negative_elbo
from brainalign.alignment.bravl.model import BravlModel
from brainalign.alignment.bravl.mutual_information import inter_information, intra_information
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.pairs import Pairs, epoch_batches
from brainalign.alignment.training import (
    Fit,
    Progress,
    State,
    checked_loss,
    epoch_seed,
    exhausted,
    keep_weights,
    kept_epochs,
    set_lr,
)
from brainalign.errors import InputError
from brainalign.recipes.bravl_settings import BravlSettings
from brainalign.recipes.recipe import Recipe, TrainingSettings

CHECKPOINT_SECONDS = 20.0
Features = dict[str, Tensor]
Score = Callable[[Mapping[str, Tensor]], np.ndarray[tuple[int, int], np.dtype[np.float64]]]


@dataclass(eq=False)
class BravlRun:
    """A model and all that its training depends on.

    Attributes
    ----------
    model : BravlModel
    training, validation : Pairs
    recipe : Recipe
    seed : int
    score : callable
        Similarity (n, n) of the signals and images of some validation pairs, by the recipe's score.
    checkpoint : path or None
        Written every 20 s at the end of an epoch, read at the start if it is there.
    """

    model: BravlModel
    training: Pairs
    validation: Pairs
    recipe: Recipe
    seed: int
    score: Score
    checkpoint: Path | None = None

    @property
    def settings(self) -> BravlSettings:
        """Of the method."""
        return self.recipe.bravl

    def features(self, pairs: Pairs, rows: Tensor) -> Features:
        """What the model takes of some pairs, each (m, dim): flat, scaled, in its precision."""
        batch = pairs.batch(rows)
        held = {"brain": batch.signals.flatten(1), "image": batch.targets}
        if batch.texts is not None:
            held["text"] = batch.texts
        return scaled(held, self.settings)


@dataclass(eq=False)
class _Loop:
    """What changes while a run trains, besides its weights."""

    vae: torch.optim.Optimizer
    q: torch.optim.Optimizer
    fit: Fit = field(default_factory=Fit)

    @classmethod
    def of(cls, run: BravlRun) -> _Loop:
        settings = run.recipe.training
        return cls(_optimizer(run.model.vae_parameters(), settings),
                   _optimizer(list(run.model.q_networks.parameters()), settings))  # fmt: skip

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By the name they have in a checkpoint."""
        return {"vae": self.vae, "q": self.q}


def scaled(features: Mapping[str, Tensor], settings: BravlSettings) -> Features:
    """Features as the model takes them."""
    dtype = getattr(torch, settings.precision)
    factors = settings.scales.model_dump()
    return {name: values.to(dtype) * factors[name] for name, values in features.items()}


def train(run: BravlRun, *, progress: Progress | None = None) -> Fit:
    """Fit a model and choose its epoch.

    What is random in an epoch depends on the seed and the epoch's number alone, so a run that was killed and resumed
    at an epoch ends in the same weights as one that was not.

    Raises
    ------
    InputError
        If there are fewer than two pairs, or the loss is no longer finite.
    """
    if len(run.training) < 2:
        raise InputError(f"{len(run.training)} training image: mismatched tuples need at least two", hint="add images")
    model, settings, loop = run.model, run.recipe.training, _Loop.of(run)
    fit = loop.fit
    if run.checkpoint is not None and run.checkpoint.is_file():
        _resume(run.checkpoint, model, loop)
    keep = kept_epochs(run.recipe)
    written = time.monotonic()
    for epoch in range(len(fit.history) + 1, settings.epochs + 1):
        if exhausted(fit, settings):
            break
        for optimizer in loop.optimizers.values():
            lr = set_lr(optimizer, settings, epoch)
        row = {"epoch": float(epoch), "lr": lr, "beta": beta_of(epoch, run.settings.beta_step)}
        with torch.random.fork_rng(devices=_cuda(run.training)):
            torch.manual_seed(epoch_seed(run.seed, epoch))
            row |= _train_epoch(run, loop, row["beta"])
            checked_loss(row["train_loss"], epoch)
            fit.history.append(row | _validate(run))
        keep_weights(fit, run.recipe, model.state_dict, epoch in keep)
        if run.checkpoint is not None and time.monotonic() - written > CHECKPOINT_SECONDS:
            _write_checkpoint(run.checkpoint, model, loop)
            written = time.monotonic()
        if progress is not None:
            progress(epoch, settings.epochs)
    model.load_state_dict(fit.state)
    return fit


def _train_epoch(run: BravlRun, loop: _Loop, beta: float) -> dict[str, float]:
    """Mean loss and its parts, nats a row."""
    settings = run.recipe.training
    totals: dict[str, float] = {}
    run.model.train()
    for rows in epoch_batches(run.training, settings):
        features = run.features(run.training, rows)
        if settings.noise:
            features["brain"] = features["brain"] + settings.noise * torch.randn_like(features["brain"])
        train_q_networks(run.model, features, loop.q)
        found = train_vae(run.model, features, loop.vae, run.settings, beta)
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + value * len(rows) / len(run.training)
    return totals


def train_q_networks(model: BravlModel, features: Features, optimizer: torch.optim.Optimizer) -> float:
    """One step of the Q networks, the rest of the model left alone.

    Returns
    -------
    float
        Log-density of the latents that they recover, before the step.
    """
    with torch.no_grad():
        passed = pass_through(model, features)
    information = intra_information(model, passed.z, passed.means)
    optimizer.zero_grad(set_to_none=True)
    (-information).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(information.detach())


def train_vae(
    model: BravlModel, features: Features, optimizer: torch.optim.Optimizer, settings: BravlSettings, beta: float
) -> dict[str, float]:
    """One step of encoders and decoders, the Q networks left alone.

    Returns
    -------
    dict
        `train_loss`, its negative bound `train_elbo`, and `train_intra` and `train_inter`, each before its weight.
    """
    model.q_networks.requires_grad_(False)
    try:
        passed = pass_through(model, features)
        elbo = passed.negative_elbo(beta)
        loss, parts = elbo, {"train_elbo": elbo}
        if settings.intra:
            parts["train_intra"] = -intra_information(model, passed.z, passed.means)
            loss = loss + settings.intra * parts["train_intra"]
        if settings.inter:
            parts["train_inter"] = elbo + inter_information(
                model,
                features,
                passed.experts,
                samples=settings.samples,
                draws=settings.inter_draws,
                rows=settings.inter_rows,
                temperature=settings.inter_temperature,
            )
            loss = loss + settings.inter * parts["train_inter"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    finally:
        model.q_networks.requires_grad_(True)
    return {name: float(value.detach()) for name, value in ({"train_loss": loss} | parts).items()}


@torch.no_grad()
def _validate(run: BravlRun) -> dict[str, float]:
    """Bound and retrieval among validation images, each subject by itself."""
    run.model.eval()
    found = []
    for part in run.validation.parts():
        features = run.features(part, torch.arange(len(part), device=part.targets.device))
        similarity = run.score(features)
        truth = similarity.diagonal()[:, None]
        # Ties count half, as in evaluation: a constant similarity scores chance.
        rank = (similarity > truth).sum(1) + 0.5 * ((similarity == truth).sum(1) - 1)
        found.append({
            "validation_elbo": validation_negative_elbo(run.model, features),
            "validation_top1": float((rank < 0.5).mean()),
            "validation_mrr": float((1 / (rank + 1)).mean()),
        })  # fmt: skip
    row = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
    chosen = row["validation_elbo"] if run.settings.select == "elbo" else 1 - row["validation_mrr"]
    return {"validation_loss": chosen} | row


def _optimizer(parameters: list[torch.nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Weight decay on matrices only: biases have no size to shrink."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return kind(groups, lr=settings.lr, betas=settings.betas)


def _cuda(pairs: Pairs) -> list[torch.device]:
    return [pairs.targets.device] if pairs.targets.device.type == "cuda" else []


def _write_checkpoint(path: Path, model: BravlModel, loop: _Loop) -> None:
    fit = loop.fit
    tensors: State = {f"model.{k}": v for k, v in model.state_dict().items()}
    if fit.epoch not in fit.candidates:  # otherwise the chosen weights are among the stored epochs
        tensors |= {f"best.{k}": v for k, v in fit.state.items()}
    for epoch, state in fit.candidates.items():
        tensors |= {f"candidate.{epoch}.{k}": v for k, v in state.items()}
    for name, optimizer in loop.optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    save_tensors(path, tensors, {"history": fit.history, "epoch": fit.epoch})


def _resume(path: Path, model: BravlModel, loop: _Loop) -> None:
    fit = loop.fit
    tensors, facts = load_tensors(path)
    parts: dict[str, State] = {kind: {} for kind in ("model", "best", "candidate", *loop.optimizers)}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    model.load_state_dict(parts["model"])
    for kind, optimizer in loop.optimizers.items():
        stored = optimizer.state_dict()
        for name, value in parts[kind].items():
            index, _, slot = name.partition(".")
            stored["state"].setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict(stored)
    for name, value in parts["candidate"].items():
        epoch, _, rest = name.partition(".")
        fit.candidates.setdefault(int(epoch), {})[rest] = value
    fit.history, fit.epoch = facts["history"], facts["epoch"]
    fit.state = parts["best"] or fit.candidates[fit.epoch]
