"""A loss of several terms: what each is, how they are weighed, and that a killed run goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainalign.alignment import ContrastiveAligner, Targets
from brainalign.alignment.model import ContrastiveModel
from brainalign.alignment.pairs import Batch
from brainalign.alignment.terms import Balance, Embedded, active_terms, loss_terms
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import load_recipe
from brainalign.recordings import Recording

IDS = [f"i{i:03d}" for i in range(200)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:140]), tuple(IDS[140:170]), tuple(IDS[170:]), "image-disjoint")


def recipe(**changes):
    words = {"training.epochs": 12, "training.batch_size": 70, "projector.dim": 16, "text.prior": "captions"}
    words |= {"training.lr": 0.003} | changes
    made = load_recipe("shallow-alignment", modality="fmri", overrides=[f"{k}={v}" for k, v in words.items()])
    return made.with_target(layer=0, pooling="mean")


THREE = {"losses.image_text": 1, "losses.semantic_guidance": 1}


@pytest.fixture
def problem(rng):
    features = rng.normal(size=(len(IDS), 8)).astype(np.float32)
    signals = features @ rng.normal(size=(8, 20)) + 0.5 * rng.normal(size=(len(IDS), 20))
    texts = (features[:, :5] + 0.3 * rng.normal(size=(len(IDS), 5))).astype(np.float32)
    rows = {name: row for row, name in enumerate(IDS)}
    return Recording.from_arrays(signals, IDS, modality="fmri"), {
        "image": Targets(features, rows),
        "text": Targets(texts, rows),
    }


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def info_nce(a, b, scale):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    s = scale * a @ b.T
    return -(np.diag(log_softmax(s)).mean() + np.diag(log_softmax(s.T)).mean()) / 2


def test_every_term_is_what_its_equation_says():
    made = recipe(**THREE, **{"losses.brain_text": 0.3, "losses.regression": 0.1, "losses.intra_modal": 1})
    model = ContrastiveModel(made, n_chans=20, n_times=1, target_dims=[8], text_dim=5).double().eval()
    torch.manual_seed(0)
    batch = Batch(torch.randn(9, 20, 1).double(), torch.randn(9, 8).double(), torch.randn(9, 5).double())
    embedded = Embedded.of(model, batch)
    assert active_terms(made) == (
        "brain_image", "image_text", "semantic_guidance", "brain_text", "intra_modal", "regression",
    )  # fmt: skip
    found = loss_terms(model, batch, embedded, active_terms(made), made.losses)
    e, v, t = (x.detach().numpy() for x in (embedded.brain, embedded.image, embedded.text))
    assert float(found["brain_image"]) == pytest.approx(info_nce(e, v, 1 / 0.07), rel=1e-6)
    assert float(found["image_text"]) == pytest.approx(info_nce(v, t, 1 / 0.07), rel=1e-6)
    assert float(found["brain_text"]) == pytest.approx(info_nce(e, t, 1 / 0.07), rel=1e-6)
    assert float(found["regression"]) == pytest.approx(((e - v) ** 2).mean(), rel=1e-6)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (e, v, t)]
    q, p = log_softmax(unit[0] @ unit[1].T / 0.07), log_softmax(unit[1] @ unit[2].T / 0.07)
    assert float(found["semantic_guidance"]) == pytest.approx((np.exp(q) * (q - p)).sum(1).mean(), rel=1e-6)
    assert 0 < float(found["intra_modal"]) < np.log(9)  # a view is nearer to its twin than to another signal


def test_without_text_its_terms_are_left_out():
    assert active_terms(recipe(**THREE, **{"text.prior": "none"})) == ("brain_image",)


def test_fixed_weights_give_the_gradient_of_the_weighted_sum():
    made = recipe(**{"losses.brain_image": 0.5, "losses.image_text": 2.0})
    model = ContrastiveModel(made, n_chans=20, n_times=1, target_dims=[8], text_dim=5).eval()
    batch = Batch(torch.randn(9, 20, 1), torch.randn(9, 8), torch.randn(9, 5))
    embedded = Embedded.of(model, batch)
    terms = loss_terms(model, batch, embedded, active_terms(made), made.losses)
    expected = torch.autograd.grad(
        0.5 * terms["brain_image"] + 2 * terms["image_text"], model.image_projector[1].weight, retain_graph=True
    )[0]
    balance = Balance(made, model)
    total = balance.backward(terms, embedded)
    assert torch.allclose(model.image_projector[1].weight.grad, expected, rtol=1e-5, atol=1e-8)
    assert total == pytest.approx(float(0.5 * terms["brain_image"] + 2 * terms["image_text"]), rel=1e-6)
    assert balance.last["weight_image_text"] == 2.0


def test_dynamic_weights_follow_equations_8_and_9():
    made = recipe(**THREE, **{"losses.balance": "dynamic", "losses.dynamic.normalize": False})
    model = ContrastiveModel(made, n_chans=20, n_times=1, target_dims=[8], text_dim=5).double().eval()
    balance = Balance(made, model)
    before = None
    for step in range(3):
        torch.manual_seed(step)
        batch = Batch(torch.randn(9, 20, 1).double(), torch.randn(9, 8).double(), torch.randn(9, 5).double())
        embedded = Embedded.of(model, batch)
        terms = loss_terms(model, batch, embedded, active_terms(made), made.losses)
        brain = [p for p in model.encoder.parameters() if p.ndim == 2 or p.ndim == 1]
        others = [*model.image_projector.parameters(), *model.text_projector.parameters()]
        norms = [
            float(torch.stack([g.square().sum() for g in torch.autograd.grad(
                terms[name], of, retain_graph=True, allow_unused=True) if g is not None]).sum().sqrt())
            for name, of in (("brain_image", brain), ("image_text", others), ("semantic_guidance", brain))
        ]  # fmt: skip
        velocity = np.zeros(3) if before is None else np.abs(np.array(norms) - before) / (np.array(before) + 1e-8)
        balance.backward(terms, embedded)
        z = np.array(norms) * (1 + velocity) / 0.07
        expected = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        got = [balance.last[f"weight_{name}"] for name in terms]
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-7)
        before = norms


def test_a_detached_image_leaves_its_projector_to_language():
    made = recipe(**{"losses.image_text": 1, "losses.detach_image": True})
    model = ContrastiveModel(made, n_chans=20, n_times=1, target_dims=[8], text_dim=5).eval()
    batch = Batch(torch.randn(9, 20, 1), torch.randn(9, 8), torch.randn(9, 5))
    terms = loss_terms(model, batch, Embedded.of(model, batch), active_terms(made), made.losses)
    weight = model.image_projector[1].weight
    (gone,) = torch.autograd.grad(terms["brain_image"], weight, retain_graph=True, allow_unused=True)
    (kept,) = torch.autograd.grad(terms["image_text"], weight)
    assert gone is None
    assert float(kept.abs().sum()) > 0
    with pytest.raises(InputError, match="detach_image needs image_text"):
        recipe(**{"losses.detach_image": True})


def test_training_logs_every_step_and_is_saved(problem, tmp_path):
    recording, features = problem
    made = recipe(**THREE, **{"losses.balance": "dynamic"})
    aligner = ContrastiveAligner(made)
    fit = aligner.fit([recording], features, SPLIT)
    assert len(fit.steps) == 2 * len(fit.history)
    assert {"loss_semantic_guidance", "weight_image_text", "norm_brain_image", "velocity_brain_image"} <= set(
        fit.steps[0]
    )
    assert all(sum(row[f"weight_{n}"] for n in active_terms(made)) == pytest.approx(1) for row in fit.steps)
    assert {"train_image_text", "validation_semantic_guidance"} <= set(fit.history[0])
    assert fit.history[-1]["train_brain_image"] < fit.history[0]["train_brain_image"]
    aligner.save(tmp_path / "m")
    again = ContrastiveAligner.load(tmp_path / "m")
    texts = features["text"].of(SPLIT.test)
    assert np.array_equal(aligner.embed_text(texts), again.embed_text(texts))
    with pytest.raises(InputError, match=r"text features have shape \(30, 4\)"):
        again.embed_text(texts[:, :4])


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["dynamic", "blur"])
def test_a_killed_run_goes_on_to_the_same_weights(problem, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("brainalign.alignment.training.CHECKPOINT_SECONDS", -1.0)
    recording, features = problem
    if kind == "dynamic":
        made = recipe(**THREE, **{"losses.balance": "dynamic", "training.patience": "null"})
    else:
        levels = '{"levels": ["blur?level=low", "blur?level=medium", "blur?level=high"], "alpha": 0.5}'
        made = recipe(**{"text.prior": "none", "uncertainty": levels, "training.patience": "null"})
        array, rows = features["image"].array, features["image"].rows
        noise = np.random.default_rng(1).normal(size=array.shape).astype(np.float32)
        features = {"image": features["image"]} | {
            f"image@{n}": Targets(array + n * 0.2 * noise, rows) for n in range(3)
        }
    whole = ContrastiveAligner(made)
    expected = whole.fit([recording], features, SPLIT)

    def kill(done, total):
        if done == 5:
            raise Killed

    file = tmp_path / "training"
    with pytest.raises(Killed):
        ContrastiveAligner(made).fit([recording], features, SPLIT, checkpoint=file, progress=kill)
    resumed = ContrastiveAligner(made)
    got = resumed.fit([recording], features, SPLIT, checkpoint=file)
    assert got.history == expected.history
    assert got.steps == expected.steps
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_uncertain_pairs_are_trained_on_the_blurred_image(problem):
    """An image far from its signal takes the third level; training then differs from training on the second alone."""
    recording, features = problem
    levels = '{"levels": ["blur?level=low", "blur?level=medium", "blur?level=high"], "alpha": 0.8}'
    made = recipe(**{"text.prior": "none", "uncertainty": levels})
    image = features["image"]
    same = {"image": image} | {f"image@{n}": image for n in range(3)}
    other = same | {"image@2": Targets(image.array[::-1].copy(), image.rows)}
    plain = recipe(**{"text.prior": "none"})
    a = ContrastiveAligner(made).fit([recording], same, SPLIT)
    b = ContrastiveAligner(plain).fit([recording], {"image": image}, SPLIT)
    c = ContrastiveAligner(made).fit([recording], other, SPLIT)
    assert a.history == b.history
    assert a.history[0] == c.history[0]  # every image starts at the second level
    assert a.history[-1] != c.history[-1]
