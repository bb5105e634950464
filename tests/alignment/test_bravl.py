"""BraVL: every equation against another implementation, then the aligner as a whole."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.svm import SVC
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from brainalign.alignment import Aligner, Targets
from brainalign.alignment.bravl import BravlAligner, BravlSettings
from brainalign.alignment.bravl.elbo import beta_of, kl_to_prior, pass_through, validation_negative_elbo
from brainalign.alignment.bravl.fit import train_q_networks, train_vae
from brainalign.alignment.bravl.model import BravlModel
from brainalign.alignment.bravl.mutual_information import (
    cubo,
    draw_negatives,
    evidence_bounds,
    inter_information,
    intra_information,
    kinds_of,
    soft_mean,
)
from brainalign.alignment.bravl.posterior import Gaussian, mixture, product_of_experts, shares, subset_posteriors
from brainalign.alignment.bravl.scores import cosine_scores, likelihood_scores, svm_scores
from brainalign.alignment.checkpoint import load_tensors, save_tensors
from brainalign.alignment.families import build_aligner, load_aligner
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes import validate_recipe
from brainalign.recordings import Recording

DIMS = {"brain": 5, "image": 40, "text": 7}  # the image is wider than the hidden layer of SMALL, the others are not
SMALL = BravlSettings(latent=3, hidden=12, q_hidden=10, precision="float64")
NOISE = 0.75


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def model(dims=DIMS, settings=SMALL):
    return BravlModel(dims, settings).double()


def batch(n=21, dims=DIMS):
    return {name: torch.randn(n, dim, dtype=torch.float64) for name, dim in dims.items()}


def gaussian(*shape):
    return Gaussian(torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64) - 1)


def normal(posterior):
    return Independent(Normal(posterior.mean, posterior.deviation), 1)


# Posteriors


def test_product_of_experts_is_the_normalised_product(rng):
    """Against the product of densities on a fine grid, one dimension at a time."""
    z = np.linspace(-12, 12, 40001)
    for prior in (False, True):
        mean, sd = rng.normal(size=(3, 2)), rng.uniform(0.3, 2, size=(3, 2))
        experts = [Gaussian(torch.tensor(m)[None], 2 * torch.tensor(s).log()[None]) for m, s in zip(mean, sd)]
        found = product_of_experts(experts, prior=prior)
        for k in range(2):
            density = np.prod([norm.pdf(z, m[k], s[k]) for m, s in zip(mean, sd)], axis=0)
            density *= norm.pdf(z) if prior else 1
            density /= density.sum()
            centre = (density * z).sum()
            assert found.mean[0, k].item() == pytest.approx(centre, abs=1e-6)
            spread = (density * (z - centre) ** 2).sum()
            assert found.log_variance.exp()[0, k].item() == pytest.approx(spread, rel=1e-5)


def test_only_the_whole_set_holds_the_prior_and_missing_modalities_are_left_out():
    experts = {name: gaussian(4, 3) for name in DIMS}
    found = subset_posteriors(experts, list(DIMS))
    assert [len(s) for s in found] == [1, 1, 1, 2, 2, 2, 3]
    precision = {k: np.exp(-v.log_variance.numpy()) for k, v in experts.items()}
    for subset, posterior in found.items():
        expected = sum(precision[name] for name in subset) + (len(subset) == 3)
        np.testing.assert_allclose(np.exp(-posterior.log_variance.numpy()), expected, rtol=1e-5)
    known = subset_posteriors({k: experts[k] for k in ("text", "image")}, list(DIMS))
    assert set(known) == {("image",), ("text",), ("image", "text")}
    np.testing.assert_allclose(
        np.exp(-known["image", "text"].log_variance.numpy()), precision["image"] + precision["text"], rtol=1e-5
    )


@pytest.mark.parametrize("n", [3, 7, 20, 800])
def test_the_mixture_gives_each_component_its_share_of_the_batch(n):
    parts = [Gaussian(torch.full((2, n, 1), float(k)), torch.full((2, n, 1), 10.0 + k)) for k in range(7)]
    found = mixture(parts)
    expected = [min(i // (n // 7), 6) for i in range(n)] if n >= 7 else [6] * n
    assert found.mean[0, :, 0].tolist() == found.mean[1, :, 0].tolist() == expected
    assert (found.log_variance - found.mean == 10).all()
    assert sorted(i for s in shares(n, 7) for i in range(n)[s]) == list(range(n))


# The evidence lower bound


def test_divergence_agrees_with_torch():
    found = gaussian(6, 3)
    prior = Independent(Normal(torch.zeros_like(found.mean), torch.ones_like(found.mean)), 1)
    torch.testing.assert_close(kl_to_prior(found), kl_divergence(normal(found), prior))


@pytest.mark.parametrize("names", [("brain", "image", "text"), ("brain", "image"), ("image", "text")])
def test_the_bound_is_likelihood_and_divergence(names):
    net, x = model(), {k: v for k, v in batch().items() if k in names}
    passed = pass_through(net, x)
    missing, divergence = 0.0, []
    for name, value in x.items():
        decoded = Normal(net.decoders[name](passed.z), NOISE)
        missing -= decoded.log_prob(value).sum() / 21
    posteriors = subset_posteriors(net.experts(x), net.names)
    prior = Normal(torch.zeros(3, dtype=torch.float64), 1.0)
    for posterior in posteriors.values():
        divergence.append(kl_divergence(Normal(posterior.mean, posterior.deviation), prior).sum() / 21)
    assert len(divergence) == 2 ** len(names) - 1
    torch.testing.assert_close(passed.negative_elbo(0.3), missing + 0.3 * sum(divergence) / len(divergence))
    assert set(passed.means) == set(names)


def test_the_draw_comes_from_the_mixture():
    net, x = model(), batch(7)
    for encoder in net.encoders.values():  # no spread: the draw is the mean
        nn.init.zeros_(encoder.log_variance.weight)
        nn.init.constant_(encoder.log_variance.bias, -18.0)
    posteriors = list(subset_posteriors(net.experts(x), net.names).values())
    z = pass_through(net, x).z
    for row in range(7):
        torch.testing.assert_close(z[row], posteriors[row].mean[row], atol=1e-3, rtol=0)


def test_the_validation_bound_takes_every_row_under_every_subset():
    net, x = model(), batch(9)
    for encoder in net.encoders.values():
        nn.init.zeros_(encoder.log_variance.weight)
        nn.init.constant_(encoder.log_variance.bias, -18.0)
    expected = []
    for posterior in subset_posteriors(net.experts(x), net.names).values():
        likelihood = sum(Normal(net.decoders[k](posterior.mean), NOISE).log_prob(v).sum(1) for k, v in x.items())
        expected.append((kl_to_prior(posterior) - likelihood).mean().item())
    assert validation_negative_elbo(net, x) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_divergence_counts_more_from_epoch_to_epoch():
    assert [beta_of(epoch, 0.01) for epoch in (1, 2, 51, 101, 102, 500)] == [0, 0.01, 0.5, 1, 1, 1]


# Mutual information


def test_intra_information_is_the_q_networks_log_density():
    net, x = model(), batch()
    passed = pass_through(net, x)
    expected = 0.0
    for name, mean in passed.means.items():
        expected += Normal(net.q_networks[name](mean), NOISE).log_prob(passed.z).sum(1).mean()
    torch.testing.assert_close(intra_information(net, passed.z, passed.means), expected)


def test_cubo_against_numpy(rng):
    weights = rng.normal(size=(30, 8)) * 5 - 900
    expected = 0.5 * (logsumexp(2 * weights, axis=0) - np.log(30))
    np.testing.assert_allclose(cubo(torch.tensor(weights)).numpy(), expected, rtol=1e-12)


def linear_problem(n=4):
    """A model whose decoders are linear, so that evidence and posterior are known."""
    dims = {"brain": 2, "image": 9}
    net = model(dims)
    for decoder, dim in zip(net.decoders.values(), dims.values(), strict=True):
        decoder.body, decoder.out = nn.Identity(), nn.Linear(3, dim).double()
    x = batch(n, dims)
    weight = np.concatenate([d.out.weight.detach().numpy() for d in net.decoders.values()])
    offset = np.concatenate([d.out.bias.detach().numpy() for d in net.decoders.values()])
    whole = torch.cat(list(x.values()), 1).numpy()
    evidence = multivariate_normal(offset, weight @ weight.T + NOISE**2 * np.eye(11)).logpdf(whole)
    covariance = np.linalg.inv(np.eye(3) + weight.T @ weight / NOISE**2)
    mean = (whole - offset) @ weight @ covariance / NOISE**2
    return net, x, evidence, mean, covariance


@pytest.mark.parametrize("draws", [None, 2])
def test_cubo_lies_above_the_evidence_and_the_elbo_below(draws):
    net, x, evidence, mean, covariance = linear_problem()
    assert net.decoders["image"].wide and not net.decoders["brain"].wide
    spread = torch.tensor(np.diag(covariance)).expand(4, 3)
    proposal = Gaussian(torch.tensor(mean) + 0.2, spread.log() + 0.5)
    bounds = evidence_bounds(net, x, proposal, 20_000, draws).detach().numpy()
    z = proposal.mean + proposal.deviation * torch.randn(20_000, 4, 3, dtype=torch.float64)
    joint = sum(Normal(net.decoders[k](z), NOISE).log_prob(v).sum(-1) for k, v in x.items())
    weights = (joint + Normal(0.0, 1.0).log_prob(z).sum(-1) - normal(proposal).log_prob(z)).detach().numpy()
    assert (bounds > evidence + 0.05).all()
    assert (weights.mean(0) < evidence - 0.05).all()
    np.testing.assert_allclose(bounds, 0.5 * (logsumexp(2 * weights, axis=0) - np.log(20_000)), atol=0.02)


def test_cubo_is_the_evidence_where_the_proposal_is_the_posterior():
    """With independent latents the exact posterior is a proposal; all weights are then equal."""
    net, x, *_ = linear_problem()
    with torch.no_grad():
        for decoder in net.decoders.values():
            weight = torch.zeros_like(decoder.out.weight)
            rows = min(weight.shape)
            weight[range(rows), range(rows)] = torch.tensor([0.7, -1.3, 0.4], dtype=torch.float64)[:rows]
            decoder.out.weight.copy_(weight)
    weight = torch.cat([d.out.weight for d in net.decoders.values()]).detach().numpy()
    rest = torch.cat([x[k] - d.out.bias for k, d in net.decoders.items()], 1).detach().numpy()
    covariance = np.linalg.inv(np.eye(3) + weight.T @ weight / NOISE**2)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-12
    proposal = Gaussian(
        torch.tensor(rest @ weight @ covariance / NOISE**2), torch.tensor(np.log(np.diag(covariance))).expand(4, 3)
    )
    evidence = multivariate_normal(np.zeros(11), weight @ weight.T + NOISE**2 * np.eye(11)).logpdf(rest)
    np.testing.assert_allclose(evidence_bounds(net, x, proposal, 3).detach().numpy(), evidence, rtol=1e-10)


def plain_bounds(net, x, posterior, noise):
    """CUBO the straightforward way: every sample decoded with a gradient."""
    z = posterior.mean + posterior.deviation * noise
    weights = Normal(0.0, 1.0).log_prob(z).sum(-1) - normal(posterior).log_prob(z)
    for name, value in x.items():
        weights = weights + Normal(net.decoders[name](z), NOISE).log_prob(value).sum(-1)
    return cubo(weights)


def gradients(net, value):
    net.zero_grad()
    value.backward()
    return torch.cat([p.grad.flatten() for p in net.vae_parameters() if p.grad is not None])


@pytest.mark.parametrize("kept", [16384, 17])
def test_bounds_and_their_gradients_are_those_of_the_straightforward_way(monkeypatch, kept):
    monkeypatch.setattr("brainalign.alignment.bravl.mutual_information.KEPT", kept)
    monkeypatch.setattr("brainalign.alignment.bravl.mutual_information.CHUNK", 40)
    net, x = model(), batch()
    results = []
    for plain in (False, True):
        posterior = mixture(list(subset_posteriors(net.experts(x), net.names).values()))
        torch.manual_seed(3)
        if plain:
            bounds = plain_bounds(net, x, posterior, torch.randn(10, 21, 3, dtype=torch.float64))
        else:
            bounds = evidence_bounds(net, x, posterior, 10)
        results.append((bounds.detach(), gradients(net, bounds.mean())))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_drawn_samples_give_the_gradient_on_average(monkeypatch):
    net, x = model(), batch()
    original = torch.multinomial

    def gradient(draws, seed):
        def multinomial(*args, **options):
            torch.manual_seed(seed)
            return original(*args, **options)

        monkeypatch.setattr(torch, "multinomial", multinomial)
        torch.manual_seed(7)  # the same samples, of which others are drawn
        posterior = mixture(list(subset_posteriors(net.experts(x), net.names).values()))
        return gradients(net, evidence_bounds(net, x, posterior, 10, draws).mean())

    exact = gradient(None, 0)
    few = torch.stack([gradient(2, seed) for seed in range(60)])
    error = (few.mean(0) - exact).norm() / exact.norm()
    assert (few[0] - exact).norm() / exact.norm() > 2 * error
    assert error < 0.1


def test_negatives_shuffle_one_modality_or_two():
    x = batch(50)
    x["text"][:25] = x["text"][0]  # images of one concept share their text
    found = draw_negatives(x)
    kinds = kinds_of(list(x))
    assert found.valid.shape == (6, 50)
    rows = torch.arange(50)
    for number, kind in enumerate(kinds):
        for name, index in found.index.items():
            assert sorted(index[number].tolist()) == rows.tolist()
            assert bool((index[number] == rows).all()) == (name not in kind)
        moved = [(x[name][found.index[name][number]] != x[name]).any(1) for name in kind]
        assert found.valid[number].tolist() == torch.stack(moved).any(0).tolist()
    text = kinds.index(("text",))
    assert not found.valid[text].all() and found.valid[text].any()
    assert draw_negatives({k: x[k] for k in ("brain", "image")}).valid.shape == (2, 50)


def test_soft_mean_is_a_mean_or_a_log_mean_exp(rng):
    values, valid = rng.normal(size=(3, 10)) * 300, rng.random((3, 10)) < 0.6
    valid[2] = False
    hot = soft_mean(torch.tensor(values), torch.tensor(valid), 1e9).numpy()
    cold = soft_mean(torch.tensor(values), torch.tensor(valid), 1.0).numpy()
    for k in range(2):
        kept = values[k][valid[k]]
        assert hot[k] == pytest.approx(kept.mean(), rel=1e-4)
        assert cold[k] == pytest.approx(logsumexp(kept) - np.log(len(kept)), rel=1e-9)
    assert hot[2] == cold[2] == 0


@pytest.mark.parametrize("rows", [None, 6])
def test_inter_information_is_the_mean_bound_of_the_mismatched(rows):
    """With no spread in the posteriors the bound is the log-weight at their mean, up to what was drawn."""
    net, x = model(), batch(14)
    for encoder in net.encoders.values():
        nn.init.zeros_(encoder.log_variance.weight)
        nn.init.constant_(encoder.log_variance.bias, -15.0)
    torch.manual_seed(5)
    found = inter_information(net, x, net.experts(x), samples=1, rows=rows)
    torch.manual_seed(5)
    negatives = draw_negatives(x)
    picked = torch.randperm(14)[:rows]
    noise = torch.randn(1, 6 * len(picked), 3, dtype=torch.float64).reshape(6, -1, 3)
    expected = []
    for k in range(6):
        tuples = {name: x[name][index[k]] for name, index in negatives.index.items()}
        posterior = mixture(list(subset_posteriors(net.experts(tuples), net.names).values())).of(picked)
        bounds = plain_bounds(net, {n: v[picked] for n, v in tuples.items()}, posterior, noise[k][None])
        expected.append(bounds[negatives.valid[k, picked]].mean())
    torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-4, atol=0)


# Steps


def changed(net, before):
    now = net.state_dict()
    return {name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])}


def test_each_step_trains_its_own_networks():
    net, x = model(), batch()
    q = torch.optim.Adam(net.q_networks.parameters())
    vae = torch.optim.Adam(net.vae_parameters())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    train_q_networks(net, x, q)
    assert all(p.grad is None for p in net.vae_parameters())
    assert all(p.grad is not None for p in net.q_networks.parameters())
    assert changed(net, before) == {"q_networks"}
    before = {k: v.clone() for k, v in net.state_dict().items()}
    held = [p.grad.clone() for p in net.q_networks.parameters()]
    found = train_vae(net, x, vae, SMALL, beta=0.5)
    assert changed(net, before) == {"encoders", "decoders"}
    assert all(torch.equal(p.grad, g) for p, g in zip(net.q_networks.parameters(), held, strict=True))
    assert all(p.requires_grad for p in net.parameters())
    parts = found["train_elbo"] + SMALL.intra * found["train_intra"] + SMALL.inter * found["train_inter"]
    assert found["train_loss"] == pytest.approx(parts, rel=1e-9)


# Scores


@pytest.mark.parametrize("n", [2, 3, 25])
@pytest.mark.parametrize("repeats", [1, 3])
def test_svm_scores_are_those_of_scikit_learn(monkeypatch, rng, n, repeats):
    monkeypatch.setattr("brainalign.alignment.bravl.scores.NUMBERS", 700)  # several blocks of queries
    points = [Gaussian(torch.tensor(rng.normal(size=(n, 4))), torch.zeros(n, 4)) for _ in range(repeats)]
    brain = Gaussian(torch.tensor(rng.normal(size=(11, 4))), torch.zeros(11, 4))
    found = svm_scores(brain, points, gamma=0.05, c=1.0)
    labels = np.tile(np.arange(n) + 10, repeats)
    machine = SVC(kernel="rbf", gamma=0.05, C=1.0, decision_function_shape="ovr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # many classes
        machine.fit(np.concatenate([p.mean.numpy() for p in points]), labels)
    expected = machine.decision_function(brain.mean.numpy())
    if n == 2:  # there scikit-learn gives one column: positive is the second class
        assert ((found[:, 1] > found[:, 0]) == (expected > 0)).all()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_image_and_a_gallery_too_large(monkeypatch):
    brain = gaussian(3, 4)
    assert svm_scores(brain, [gaussian(1, 4)], gamma=1, c=1).tolist() == [[0]] * 3
    monkeypatch.setattr("brainalign.alignment.bravl.scores.SVM_IMAGES_MAX", 5)
    with pytest.raises(InputError, match=r"bravl.score: .* 6 images, at most 5; set bravl.score=likelihood"):
        svm_scores(brain, [gaussian(6, 4)], gamma=1, c=1)


def test_likelihood_scores_are_the_integral(monkeypatch):
    monkeypatch.setattr("brainalign.alignment.bravl.scores.NUMBERS", 1)
    brain, gallery = gaussian(3, 2), gaussian(4, 2)
    brain, gallery = (Gaussian(p.mean, p.log_variance.clamp_max(-0.1)) for p in (brain, gallery))
    found = likelihood_scores(brain, gallery)
    for i in range(3):
        for j in range(4):
            total = 0.0
            for k in range(2):
                one = norm(brain.mean[i, k], brain.deviation[i, k])
                two = norm(gallery.mean[j, k], gallery.deviation[j, k])
                total += np.log(quad(lambda z, a=one, b=two: a.pdf(z) * b.pdf(z) / norm.pdf(z), -15, 15, limit=500)[0])
            assert found[i, j] == pytest.approx(total, rel=1e-5, abs=1e-6)


def test_cosine_scores(rng):
    one, two = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    expected = (one @ two.T) / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(two, axis=1)
    found = cosine_scores(
        Gaussian(torch.tensor(one), torch.zeros(3, 4)), Gaussian(torch.tensor(two), torch.zeros(5, 4))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# The aligner

N = 260
IDS = [f"i{i:03d}" for i in range(N)]
SPLIT = Split("own/intra/v1", 0, tuple(IDS[:180]), tuple(IDS[180:220]), tuple(IDS[220:]), "image-disjoint")


def recipe(**changes):
    words = {"epochs": 12, "batch_size": 30, "lr": 0.006, "optimizer": "adam", "weight_decay": 0, "patience": None}
    bravl = {"latent": 8, "hidden": 48, "q_hidden": 16, "samples": 4, "precision": "float32", "beta_step": 0.05}
    bravl |= {"inter_rows": 6}
    for key, value in changes.items():
        (bravl if key in BravlSettings.model_fields else words)[key] = value
    made = {"name": "bravl", "family": "bravl", "bravl": bravl, "training": words, "signals": {"scale": "feature"}}
    return validate_recipe(made, where="test").with_target(layer=0, pooling="mean")


def problem(rng, *, shuffled=False, subjects=1):
    """Six causes seen by the signal, the image and the text, with noise of their own."""
    causes = rng.normal(size=(N, 6))

    def seen(dim, noise):
        return (causes @ rng.normal(size=(6, dim)) / 2 + noise * rng.normal(size=(N, dim))).astype(np.float32)

    order = rng.permutation(N) if shuffled else np.arange(N)
    recordings = [
        Recording.from_arrays(seen(30, 0.3)[order].reshape(N, 15, 2), IDS, modality="meg", sfreq=10.0, subject=f"s{i}")
        for i in range(subjects)
    ]
    rows = {name: row for row, name in enumerate(IDS)}
    return recordings, {"image": Targets(seen(20, 0.2), rows), "text": Targets(seen(12, 0.2), rows)}


def fitted(data, *, text=True, seed=0, **changes):
    recordings, features = data
    aligner = BravlAligner(recipe(**changes), seed=seed)
    fit = aligner.fit(recordings, features if text else {"image": features["image"]}, SPLIT)
    return aligner, fit


def gallery(features, names=("image", "text")):
    return {name: features[name].of(SPLIT.test) for name in names}


def top1(aligner, recording, images):
    similarity = aligner.similarity(recording.average(SPLIT.test), images)
    return float((similarity.argmax(1) == np.arange(len(similarity))).mean())


def test_learns_what_is_there_by_every_score(rng):
    recordings, features = data = problem(rng)
    aligner, fit = fitted(data)
    assert isinstance(aligner, Aligner)
    assert aligner.has_epochs and aligner.layer_weights is None
    assert fit.chosen["validation_loss"] == min(row["validation_loss"] for row in fit.history)
    assert fit.chosen["validation_loss"] == pytest.approx(1 - fit.chosen["validation_mrr"])
    assert fit.history[-1]["train_elbo"] < fit.history[0]["train_elbo"]
    for score in ("svm", "likelihood", "cosine"):
        aligner.recipe = recipe(score=score)
        assert top1(aligner, recordings[0], gallery(features)) > 0.5
        assert top1(aligner, recordings[0], gallery(features, ["image"])) > 0.4
        assert top1(aligner, recordings[0], gallery(features, ["text"])) > 0.2


def test_learns_nothing_from_shuffled_pairs(rng):
    recordings, features = data = problem(rng, shuffled=True)
    assert top1(fitted(data)[0], recordings[0], gallery(features)) < 0.2


def test_two_modalities_are_enough(rng):
    recordings, features = data = problem(rng)
    aligner, _ = fitted(data, text=False)
    assert set(aligner.facts["dims"]) == {"brain", "image"}
    assert top1(aligner, recordings[0], gallery(features, ["image"])) > 0.4
    x = recordings[0].average(SPLIT.test)
    np.testing.assert_array_equal(
        aligner.similarity(x, gallery(features)), aligner.similarity(x, gallery(features, ["image"]))
    )
    with pytest.raises(InputError, match="trained without text"):
        aligner.embed_text(features["text"].of(SPLIT.test))


def test_fit_reads_no_test_stimulus(rng):
    recordings, features = problem(rng)
    known = [*SPLIT.train, *SPLIT.validation]
    sealed = [one.restrict(known) for one in recordings], {k: v.restrict(known) for k, v in features.items()}
    a, b = fitted((recordings, features), epochs=2)[0], fitted(sealed, epochs=2)[0]
    assert all(torch.equal(v, b.model.state_dict()[k]) for k, v in a.model.state_dict().items())


def test_each_signal_is_scored_by_itself(rng):
    """Nothing of a query may help another one."""
    recordings, features = data = problem(rng)
    aligner, _ = fitted(data, epochs=3)
    x = recordings[0].average(SPLIT.test)
    whole = aligner.similarity(x, gallery(features))
    np.testing.assert_allclose(aligner.similarity(x[4:6], gallery(features)), whole[4:6], atol=1e-5)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_save_and_load_give_the_same_similarities(rng, tmp_path, text, precision):
    recordings, features = data = problem(rng)
    aligner, _ = fitted(data, text=text, epochs=2, precision=precision)
    aligner.save(tmp_path / "m.safetensors")
    again = load_aligner(tmp_path / "m.safetensors")
    x = recordings[0].average(SPLIT.test)
    np.testing.assert_array_equal(again.similarity(x, gallery(features)), aligner.similarity(x, gallery(features)))
    np.testing.assert_array_equal(again.embed_brain(x), aligner.embed_brain(x))
    assert again.recipe == aligner.recipe
    assert type(build_aligner(again.recipe)) is BravlAligner
    assert next(again.model.parameters()).dtype == getattr(torch, precision)


def test_seed_decides_everything_and_global_random_state_nothing(rng):
    data = problem(rng)
    losses = []
    for seed, before in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(before)
        state = torch.random.get_rng_state()
        losses.append([row["train_loss"] for row in fitted(data, seed=seed, epochs=2)[1].history])
        assert torch.equal(state, torch.random.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_weights(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("brainalign.alignment.bravl.fit.CHECKPOINT_SECONDS", -1.0)
    data = problem(rng)
    whole, expected = fitted(data, epochs=5)

    def kill(done, total):
        if done == 3:
            raise Killed

    file = tmp_path / "training"
    with pytest.raises(Killed):
        BravlAligner(recipe(epochs=5)).fit(*data, SPLIT, checkpoint=file, progress=kill)
    resumed, seen = BravlAligner(recipe(epochs=5)), []
    got = resumed.fit(*data, SPLIT, checkpoint=file, progress=lambda d, t: seen.append(d))
    assert seen == [4, 5]
    assert got.history == expected.history
    assert got.candidates.keys() == expected.candidates.keys() == {1, 2, 3, 4, 5}
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    resumed.load_state(got.candidates[1])
    assert not torch.equal(resumed.model.encoders["brain"].mean.weight, whole.model.encoders["brain"].mean.weight)


def test_several_subjects_train_one_model(rng):
    recordings, features = data = problem(rng, subjects=2)
    recordings[1] = recordings[1].restrict([*IDS[:100], *IDS[180:200], *IDS[220:]])
    aligner, _ = fitted(data)
    assert aligner.facts["subjects"] == ["s0", "s1"]
    assert all(top1(aligner, one, gallery(features)) > 0.3 for one in recordings)


def test_selection_by_the_bound_and_by_the_last_epoch(rng):
    data = problem(rng)
    fit = fitted(data, epochs=3, select="elbo")[1]
    assert all(row["validation_loss"] == row["validation_elbo"] for row in fit.history)
    assert {"train_intra", "train_inter", "beta"} <= set(fit.history[0])
    plain = fitted(data, epochs=3, intra=0, inter=0)[1]
    assert not {"train_intra", "train_inter"} & set(plain.history[0])
    assert plain.history[0]["train_loss"] == plain.history[0]["train_elbo"]


def test_validation_knows_its_gallery_by_what_the_recipe_says(rng):
    """Text that says nothing harms where it is used, and makes no difference where it is not."""
    recordings, features = problem(rng)
    text = Targets(rng.normal(size=(N, 12)).astype(np.float32), features["text"].rows)
    junk = recordings, {"image": features["image"], "text": text}
    used, unused = (fitted(junk, epochs=12, gallery=gallery)[1] for gallery in ("image+text", "image"))
    assert [row["train_loss"] for row in used.history] == [row["train_loss"] for row in unused.history]
    assert unused.history[-1]["validation_mrr"] > used.history[-1]["validation_mrr"]


def test_signals_come_back_in_the_units_of_the_recording(rng):
    recordings, features = problem(rng)
    scaled = [Recording.from_arrays(1000 + 50 * recordings[0].average(IDS), IDS, modality="meg", sfreq=10.0)]
    changes = {"scales": {"brain": 2.0, "image": 1.0, "text": 1.0}}
    aligner, _ = fitted((scaled, features), epochs=15, select="elbo", **changes)
    found = aligner.predict_signal(features["image"].of(SPLIT.test))
    truth = scaled[0].average(SPLIT.test)
    assert found.shape == truth.shape
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.7
    assert np.abs(found - truth).mean() < np.abs(truth - truth.mean(0)).mean()
    brain, image = aligner.embed_brain(truth), aligner.embed_image(features["image"].of(SPLIT.test))
    np.testing.assert_allclose(np.linalg.norm(brain, axis=1), 1, rtol=1e-5)
    assert (brain @ image.T).diagonal().mean() > (brain @ image.T).mean() + 0.3
    assert len(aligner.embed_text(features["text"].of(SPLIT.test))) == 40


def test_wrong_shapes_files_and_divergence_are_refused(rng, tmp_path):
    recordings, features = data = problem(rng)
    with pytest.raises(InputError, match="has not been fitted"):
        BravlAligner(recipe()).embed_brain(np.zeros((1, 15, 2)))
    aligner, _ = fitted(data, epochs=1)
    with pytest.raises(InputError, match=r"shape \(1, 14, 2\), expected \(n, 15, 2\)"):
        aligner.embed_brain(np.zeros((1, 14, 2)))
    with pytest.raises(InputError, match=r"text features have shape \(1, 3\), expected \(n, 12\)"):
        aligner.similarity(np.zeros((1, 15, 2)), {"image": np.zeros((1, 20)), "text": np.zeros((1, 3))})
    for gone in ({}, {"sound": np.zeros((1, 12))}, {"image": np.zeros((2, 20)), "text": np.zeros((1, 12))}):
        with pytest.raises(InputError, match="of the same images"):
            aligner.similarity(np.zeros((1, 15, 2)), gone)
    one = Split("own/intra/v1", 0, SPLIT.train[:1], SPLIT.validation, SPLIT.test, "image-disjoint")
    with pytest.raises(InputError, match="1 training image"):
        BravlAligner(recipe()).fit(recordings, features, one)
    with pytest.raises(InputError, match="lower the learning rate"):
        fitted(data, lr=1e30, epochs=3)
    path = tmp_path / "m.safetensors"
    aligner.save(path)
    tensors, facts = load_tensors(path)
    wrong = [
        ({"shape": facts["shape"] | {"n_chans": 14}}, {}),
        ({"shape": facts["shape"] | {"dims": {"brain": 30, "image": 20}}}, {}),
        ({"shape": facts["shape"] | {"dims": {"brain": 30, "image": 20, "sound": 12}}}, {}),
        ({"shape": {}}, {}),
        ({}, {"model.encoders.brain.mean.bias": torch.zeros(9)}),
        ({}, {"image.0.mean": torch.zeros(3)}),
    ]
    for changed_facts, changed_tensors in wrong:
        save_tensors(path, tensors | changed_tensors, facts | changed_facts)
        with pytest.raises(InputError, match="do not fit the recipe"):
            load_aligner(path)
    save_tensors(path, tensors, facts | {"schema": "brainalign.model/3"})
    with pytest.raises(InputError, match="schema"):
        BravlAligner.load(path)


@pytest.mark.parametrize(
    "word", [{"latent": 0}, {"noise": 0}, {"score": "knn"}, {"samples": 0}, {"scales": {"brain": -1}}, {"inter": -1},
             {"precision": "float16"}, {"inter_draws": 0}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(word):
    with pytest.raises(InputError, match=next(iter(word))):
        recipe(**word)
