"""Runs trained as one stack end as they would end alone."""

from __future__ import annotations

import pytest
import torch

from brainalign.alignment import stacked
from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.training import Pairs, Run, epoch_seed, train
from brainalign.recipes import load_recipe

N, N_VALIDATION, N_CHANS, N_TIMES, DIM = 90, 30, 6, 4, 12


def settings(*words):
    base = ["training.epochs=12", "training.batch_size=32", "training.lr=0.01", "projector.dim=16",
            "projector.dropout=0.1", "encoder.options={dropout: 0.3}", *words]  # fmt: skip
    return load_recipe("shallow-alignment", modality="fmri", overrides=base)


def make_runs(recipe, seeds, target_dims=(DIM,), tmp=None):
    """Runs on one recording; each has targets of its own, the last ones mere noise, so that they end early."""
    draws = torch.Generator().manual_seed(5)
    signals = torch.randn(N + N_VALIDATION, N_CHANS, N_TIMES, generator=draws)
    first, second = Pairs(signals[:N], signals[:N]), Pairs(signals[N:], signals[N:])
    runs = []
    for number, seed in enumerate(seeds):
        mix = torch.randn(N_CHANS * N_TIMES, sum(target_dims), generator=draws)
        noise = torch.randn(len(signals), sum(target_dims), generator=draws)
        targets = noise if number >= len(seeds) - 2 else signals.flatten(1) @ mix + noise
        with torch.random.fork_rng():
            torch.manual_seed(epoch_seed(seed, 0))
            model = ContrastiveModel(recipe, n_chans=N_CHANS, n_times=N_TIMES, target_dims=target_dims)
        checkpoint = None if tmp is None else tmp / str(number)
        runs.append(
            Run(model, Pairs(first.signals, targets[:N]), Pairs(second.signals, targets[N:]), recipe, seed, checkpoint)
        )
    return runs


def assert_alike(alone, together):
    for one, two in zip(alone, together, strict=True):
        assert one.epoch == two.epoch
        assert len(one.history) == len(two.history)
        for row, other in zip(one.history, two.history, strict=True):
            assert row == pytest.approx(other, rel=2e-4, abs=2e-4)
        assert one.candidates.keys() == two.candidates.keys()
        for name, value in one.state.items():
            torch.testing.assert_close(value, two.state[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (0, 1, 2, 3), (0, 0, 1, 1, 1)], ids=["one seed", "many", "some"])
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("encoder.name=eegproject", "encoder.dim=10", "projector.brain=linear", "training.noise=0.5"),
        ("encoder.name=mlp", "encoder.options={hidden: 14, depth: 2}", "projector.image=mlp"),
        ("projector.image=none", "objective.scale_mode=learned", "training.optimizer=adam"),
        ("objective.scale_mode=softplus", "objective.normalize_brain=false", "training.schedule=cosine"),
        ("objective.symmetric=false", "selection.epoch=last", "training.patience=2"),
    ],
    ids=["linear", "eegproject", "mlp", "learned scale", "softplus", "one-sided"],
)
def test_a_stack_ends_like_single_runs(words, seeds):
    recipe = settings("training.patience=3", *words)
    alone, together = make_runs(recipe, seeds), make_runs(recipe, seeds)
    assert all(map(stacked.stackable, together))
    expected = [train(run) for run in alone]
    state = torch.random.get_rng_state()
    found = stacked.train_stacked(together)
    assert torch.equal(state, torch.random.get_rng_state())
    assert_alike(expected, found)
    for one, two in zip(alone, together, strict=True):
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(value, two.model.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_runs_leave_the_stack_one_by_one():
    recipe = settings("training.patience=2", "training.epochs=40")
    lengths = [len(fit.history) for fit in stacked.train_stacked(make_runs(recipe, (0, 1, 2, 3)))]
    assert len(set(lengths)) > 1
    assert_alike(
        [train(run) for run in make_runs(recipe, (0, 1, 2, 3))], stacked.train_stacked(make_runs(recipe, (0, 1, 2, 3)))
    )


def test_mixtures_stack_too():
    recipe = settings()
    expected = [train(run) for run in make_runs(recipe, (0, 1, 1), (5, 8))]
    found = stacked.train_stacked(make_runs(recipe, (0, 1, 1), (5, 8)))
    assert_alike(expected, found)
    assert found[0].history[-1]["weight_0"] + found[0].history[-1]["weight_1"] == pytest.approx(1)


def test_train_together_groups_what_is_alike(monkeypatch):
    recipe = settings("training.epochs=3")
    wide = make_runs(recipe, (0, 1), (20,))
    narrow = make_runs(recipe, (0, 1, 0))
    conv = make_runs(settings("encoder.name=tsconv", "training.epochs=3",
                              "encoder.options={kernel_size: 2, pool_size: 2, pool_stride: 1}"), (0,))  # fmt: skip
    for run in conv:
        run.training.signals = run.model.encoder.prepare(run.training.signals)
        run.validation.signals = run.model.encoder.prepare(run.validation.signals)
    for run in wide:
        run.training.signals, run.validation.signals = narrow[0].training.signals, narrow[0].validation.signals
    runs = [narrow[0], *conv, wide[0], narrow[1], wide[1], narrow[2]]
    assert not stacked.stackable(conv[0])
    assert sorted(map(tuple, stacked.group_runs(runs))) == [(0, 5, 3), (1,), (2, 4)]
    monkeypatch.setattr(stacked, "MOST_RUNS", 2)
    assert sorted(map(len, stacked.group_runs(runs))) == [1, 1, 2, 2]
    ended = {index: fit for index, fit, _ in stacked.train_together(runs)}
    assert sorted(ended) == list(range(6))
    assert all(len(fit.history) == 3 for fit in ended.values())


def test_what_is_done_does_not_change_the_rest():
    """A sweep that was killed trains the same stacks again, to the very same bits."""
    recipe = settings("training.epochs=4")
    whole = {index: fit for index, fit, _ in stacked.train_together(make_runs(recipe, (0, 1, 2)))}
    rest = {index: fit for index, fit, _ in stacked.train_together(make_runs(recipe, (0, 1, 2)), done={1})}
    assert sorted(rest) == [0, 2]
    for index, fit in rest.items():
        assert fit.history == whole[index].history
    assert not list(stacked.train_together(make_runs(recipe, (0, 1)), done={0, 1}))


def test_a_run_with_a_checkpoint_goes_on_alone(tmp_path, monkeypatch):
    recipe = settings("training.epochs=5", "training.patience=null")
    monkeypatch.setattr("brainalign.alignment.training.CHECKPOINT_SECONDS", -1.0)
    runs = make_runs(recipe, (0, 1, 2), tmp=tmp_path)
    train(runs[1])
    again = make_runs(recipe, (0, 1, 2), tmp=tmp_path)
    assert sorted(map(tuple, stacked.group_runs(again))) == [(0, 2), (1,)]


def test_wide_steps_are_not_stacked():
    recipe = settings("training.batch_size=2000")
    (run,) = make_runs(recipe, (0,))
    assert stacked.stack_size(run) > 1
    big = torch.zeros(2000, N_CHANS, N_TIMES)
    run.training = Pairs(big, torch.zeros(2000, DIM))
    assert stacked.stack_size(run) == 1
