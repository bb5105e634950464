"""Several runs as one model: stacked parameters, one optimiser, each run with its own draws and its own end."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.pairs import Pairs, batches
from brainalign.alignment.training import (
    Fit,
    Progress,
    Run,
    State,
    check_pairs,
    checked_loss,
    epoch_seed,
    exhausted,
    keep_weights,
    kept_epochs,
    make_optimizer,
    set_lr,
    train,
    validate,
)

# Values a step touches, all runs together: beyond it a stack loses to single runs (benchmarks/bench_stacked.py).
STEP_BYTES = {"cpu": 24 * 2**20, "cuda": 2**30}
MOST_RUNS = 32


def stackable(run: Run) -> bool:
    """Whether every module of a run's model has a stacked form, and its loss is the plain one."""
    if not run.plain:
        return False
    model = run.model
    others = [m for m in model.modules() if m is not model and m is not model.encoder]
    return model.encoder.stacks and all(
        type(m) in STACKED or getattr(m, "stacks", False) or _is_bare(m) for m in others
    )


def _is_bare(module: nn.Module) -> bool:
    """A module that only holds others, or computes without anything of its own."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not own and not isinstance(module, nn.modules.dropout._DropoutNd)


def train_together(
    runs: Sequence[Run], *, done: Collection[int] = (), progress: Progress | None = None
) -> Iterator[tuple[int, Fit, float]]:
    """Train runs, as stacks where that is faster, one after another where not.

    A run whose checkpoint exists goes on alone. A stack's members do not depend on `done`: rounding does on them, and a
    sweep that was killed must end as one that was not.

    Parameters
    ----------
    runs : sequence of Run
    done : collection of int
        Indices of runs whose outcome is not needed.

    Yields
    ------
    tuple of int, Fit, float
        Index of a run that has ended, what it leaves, its share of the time in seconds.
    """
    total = sum(run.settings.epochs for run in runs)
    ended = 0
    for group in group_runs(runs):
        base, ended = ended, ended + sum(runs[index].settings.epochs for index in group)
        if all(index in done for index in group):
            continue
        members = [runs[index] for index in group]
        step = None if progress is None else functools.partial(_advance, progress, base, len(group), total)
        began = time.perf_counter()
        fits = train_stacked(members, progress=step) if len(group) > 1 else [train(members[0], progress=step)]
        seconds = (time.perf_counter() - began) / len(group)
        yield from ((index, fit, seconds) for index, fit in zip(group, fits, strict=True) if index not in done)


def _advance(progress: Progress, base: int, runs: int, total: int, epoch: int, _epochs: int) -> None:
    progress(base + runs * epoch, total)


def group_runs(runs: Sequence[Run]) -> list[list[int]]:
    """Indices of runs that train as one, each group small enough to gain from it."""
    alike: dict[Hashable, list[int]] = {}
    for index, run in enumerate(runs):
        resumes = run.checkpoint is not None and run.checkpoint.is_file()
        key = ("alone", index) if resumes or not stackable(run) else _likeness(run)
        alike.setdefault(key, []).append(index)
    groups = []
    for members in alike.values():
        size = stack_size(runs[members[0]])
        # Runs of one seed share their draws: they stand together.
        members.sort(key=lambda index: runs[index].seed)
        groups += [members[start : start + size] for start in range(0, len(members), size)]
    return groups


def _likeness(run: Run) -> Hashable:
    recipe = run.recipe
    parts = (recipe.encoder, recipe.projector, recipe.objective, recipe.training, recipe.selection)
    shapes = tuple(sorted((name, tuple(value.shape)) for name, value in run.model.state_dict().items()))
    return (id(run.training.signals), *(part.model_dump_json() for part in parts), shapes)


def stack_size(run: Run) -> int:
    """How many runs of this kind to train as one: as many as keep a training step's values in reach."""
    n = min(run.settings.batch_size, len(run.training))
    widest = max(p.shape[0] for p in run.model.parameters() if p.ndim == 2)
    step = 4 * n * (3 * n + 6 * widest)
    budget = STEP_BYTES["cuda" if run.training.targets.is_cuda else "cpu"]
    return max(1, min(MOST_RUNS, budget // step))


def train_stacked(runs: Sequence[Run], *, progress: Progress | None = None) -> list[Fit]:
    """Train runs together; each ends in the weights it would end in alone, up to rounding.

    Parameters
    ----------
    runs : sequence of Run
        Of one recipe but for the target, with the same signals and the same shapes; all `stackable`.
    """
    check_pairs(runs[0].training)
    stack = _Stack(runs)
    settings, keep = runs[0].settings, kept_epochs(runs[0].recipe)
    fits = [Fit() for _ in runs]
    for epoch in range(1, settings.epochs + 1):
        stack.keep_only([i for i in stack.active if not exhausted(fits[i], settings)])
        if not stack.active:
            break
        lr = set_lr(stack.optimizer, settings, epoch)
        losses = stack.train_epoch(epoch)
        scores = validate(stack.model, stack.validation)
        for place, index in enumerate(stack.active):
            fits[index].history.append({"epoch": float(epoch), "lr": lr, "train_loss": losses[place], **scores[place]})
            keep_weights(fits[index], runs[index].recipe, lambda p=place: stack.state(p), epoch in keep)  # type: ignore[misc]
        if progress is not None:
            progress(epoch, settings.epochs)
    for run, fit in zip(runs, fits, strict=True):
        run.model.load_state_dict(fit.state)
    return fits


class _Stack:
    """The models of the runs still in training, as one."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.active = list(range(len(runs)))
        self.draws = _Draws([run.seed for run in runs], runs[0].training.targets.device)
        self.model = _stack_models([run.model for run in runs], self.draws)
        self.settings = runs[0].settings
        self.optimizer = make_optimizer(self.model, self.settings, stacked=True)
        self.signals = runs[0].training.signals
        self.targets = torch.stack([run.training.targets for run in runs])
        self.validation = Pairs(runs[0].validation.signals, torch.stack([run.validation.targets for run in runs]))

    def train_epoch(self, epoch: int) -> list[float]:
        """Mean loss of each active run."""
        self.model.train()
        n, total = len(self.signals), torch.zeros(len(self.active), dtype=torch.float64, device=self.signals.device)
        with self.draws.epoch(epoch):
            orders = self.draws.each(lambda: torch.randperm(n))
            parts = [batches(order.to(self.signals.device), self.settings.batch_size) for order in orders]
            for batch in zip(*parts, strict=True):
                signals, targets = self._batch(batch)
                losses = self.model(signals, targets)
                self.optimizer.zero_grad(set_to_none=True)
                losses.sum().backward()
                self.optimizer.step()
                total += losses.detach() * len(batch[0])
        return [checked_loss(mean, epoch) for mean in (total / n).tolist()]

    def _batch(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Signals (n, ...) where all runs draw alike, else (runs, n, ...); targets (runs, n, dim)."""
        drawn = [self.signals[rows] for rows in batch]
        if self.settings.noise:
            noise = self.draws.each(lambda: torch.randn_like(drawn[0]))
            drawn = [signals + self.settings.noise * one for signals, one in zip(drawn, noise, strict=True)]
        if len(batch) == 1:
            return drawn[0], self.targets[:, batch[0]]
        of = self.draws.of
        return torch.stack(drawn)[of], torch.stack([self.targets[run, batch[seed]] for run, seed in enumerate(of)])

    def keep_only(self, active: list[int]) -> None:
        """Let runs that have ended leave the stack."""
        if active == self.active:
            return
        where = torch.tensor([self.active.index(index) for index in active], dtype=torch.long)
        self.active = active
        if not active:
            return
        self.targets = self.targets[where.to(self.targets.device)]
        self.validation.targets = self.validation.targets[where.to(self.targets.device)]
        self.draws.set([self.runs[index].seed for index in active])
        for parameter in self.model.parameters():
            rows = where.to(parameter.device)
            parameter.data, parameter.grad = parameter.data[rows], None
            for name, slot in self.optimizer.state.get(parameter, {}).items():
                if isinstance(slot, Tensor) and slot.ndim:  # the count of steps has no axis of runs
                    self.optimizer.state[parameter][name] = slot[rows]

    def state(self, place: int) -> State:
        """Weights of one active run, under the names of its own model."""
        return {name: value[place] for name, value in self.model.state_dict().items()}


class _Draws:
    """Random numbers of several runs, each run's in the order in which it would draw them alone.

    Runs of one seed draw alike, so a draw is made once a seed.

    Attributes
    ----------
    of : list of int
        Number of each run's seed among the different ones.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.device = device
        self._fork: Any = None
        self.set(seeds)

    def set(self, seeds: Sequence[int]) -> None:
        """Seeds of the runs that are left; to be called between epochs."""
        self.seeds = list(dict.fromkeys(seeds))
        self.of = [self.seeds.index(seed) for seed in seeds]

    def epoch(self, epoch: int) -> _Draws:
        """Start every run's draws of an epoch; a context that leaves the program's random state as it was."""
        self._fork = torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
        self._epoch = epoch
        return self

    def __enter__(self) -> None:
        self._fork.__enter__()
        self._states = [self._seeded(epoch_seed(seed, self._epoch)) for seed in self.seeds]

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(*error)

    def each(self, draw: Callable[[], Tensor]) -> list[Tensor]:
        """One draw a seed."""
        if len(self.seeds) == 1:  # the program's state is this seed's
            return [draw()]
        drawn = []
        for number, state in enumerate(self._states):
            self._restore(state)
            drawn.append(draw())
            self._states[number] = self._held()
        return drawn

    def _seeded(self, seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return self._held()

    def _held(self) -> tuple[Tensor, ...]:
        on_device = (torch.cuda.get_rng_state(self.device),) if self.device.type == "cuda" else ()
        return (torch.get_rng_state(), *on_device)

    def _restore(self, state: tuple[Tensor, ...]) -> None:
        torch.set_rng_state(state[0])
        if len(state) > 1:
            torch.cuda.set_rng_state(state[1], self.device)


class _Linear(nn.Module):
    def __init__(self, layers: Sequence[nn.Linear], _draws: _Draws) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = None if layers[0].bias is None else nn.Parameter(torch.stack([m.bias.detach() for m in layers]))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:  # one input for all runs: one product
            runs, n_out, n_in = self.weight.shape
            y = (x @ self.weight.view(runs * n_out, n_in).T).view(len(x), runs, n_out).transpose(0, 1)
            return y if self.bias is None else y + self.bias[:, None]
        if self.bias is None:
            return x @ self.weight.mT
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class _LayerNorm(nn.Module):
    def __init__(self, layers: Sequence[nn.LayerNorm], _draws: _Draws) -> None:
        super().__init__()
        self.shape, self.eps = layers[0].normalized_shape, layers[0].eps
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        normed = nn.functional.layer_norm(x, self.shape, eps=self.eps)
        return torch.addcmul(self.bias[:, None], normed, self.weight[:, None])


class _Dropout(nn.Module):
    def __init__(self, layers: Sequence[nn.Dropout], draws: _Draws) -> None:
        super().__init__()
        self.p, self.draws = layers[0].p, draws

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        ones = torch.ones(x.shape[-2:], dtype=x.dtype, device=x.device)
        masks = self.draws.each(lambda: nn.functional.dropout(ones, self.p, training=True))
        return x * (masks[0] if len(masks) == 1 else torch.stack(masks)[self.draws.of])


STACKED: dict[type[nn.Module], Any] = {nn.Linear: _Linear, nn.LayerNorm: _LayerNorm, nn.Dropout: _Dropout}


def _stack_models(models: Sequence[ContrastiveModel], draws: _Draws) -> ContrastiveModel:
    """A model whose parameters have a leading axis of runs."""
    stacked = copy.deepcopy(models[0])
    _stack_into(stacked, models, draws)
    return stacked


def _stack_into(module: nn.Module, twins: Sequence[nn.Module], draws: _Draws) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        held = torch.stack([getattr(twin, name).detach() for twin in twins])
        setattr(module, name, nn.Parameter(held, requires_grad=parameter.requires_grad))
    for name, child in list(module.named_children()):
        children = [getattr(twin, name) for twin in twins]
        if type(child) in STACKED:
            setattr(module, name, STACKED[type(child)](children, draws))
        else:
            _stack_into(child, children, draws)
