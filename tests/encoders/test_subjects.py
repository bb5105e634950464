"""Which encoders know whom a trial is from, and what a stranger gets."""

from __future__ import annotations

import pytest
import torch

from brainalign.encoders import ENCODERS, build_encoder
from brainalign.errors import InputError

SIZE = {"n_chans": 4, "n_times": 100, "dim": 6}


def atm(**options):
    torch.manual_seed(0)
    return build_encoder("atm", **SIZE, **options)


def signals(n=5):
    return torch.randn(n, 4, 100, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"atm"}))
def test_encoders_without_subjects_ignore_them(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, **SIZE).eval()
    x = signals()
    assert not encoder.knows_subjects
    assert torch.equal(encoder(x, subjects=torch.tensor([7, 0, -1, 2, 3])), encoder(x))


def test_each_subject_has_a_path_and_strangers_share_one():
    encoder = atm(n_subjects=3).eval()
    x = signals(1).expand(5, -1, -1)
    out = encoder(x, subjects=torch.tensor([0, 1, 2, -1, 0]))
    for i in range(4):
        for j in range(i):
            assert (out[i] - out[j]).abs().max() > 1e-4
    torch.testing.assert_close(out[4], out[0])
    torch.testing.assert_close(out[3], encoder(x)[3])  # no subjects: the shared path
    torch.testing.assert_close(encoder.embed(encoder.prepare(x), torch.tensor([0, 1, 2, -1, 0])), out)


def test_tokens_of_other_subjects_do_not_matter():
    encoder = atm(n_subjects=3).eval()
    x = signals()
    before = encoder(x, subjects=torch.full((5,), -1)), encoder(x, subjects=torch.full((5,), 1))
    with torch.no_grad():
        encoder.subject_token.own.weight[0] += 1
    after = encoder(x, subjects=torch.full((5,), -1)), encoder(x, subjects=torch.full((5,), 1))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with torch.no_grad():
        encoder.subject_token.shared += 1
    assert not torch.equal(encoder(x, subjects=torch.full((5,), -1)), before[0])
    assert torch.equal(encoder(x, subjects=torch.full((5,), 1)), before[1])


def test_gradients_reach_the_tokens_of_the_batch_alone():
    encoder = atm(n_subjects=3)
    encoder(signals(), subjects=torch.tensor([0, 0, 2, 2, 2])).pow(3).sum().backward()
    reached = encoder.subject_token.own.weight.grad.abs().sum(1) > 0
    assert reached.tolist() == [True, False, True]
    assert encoder.subject_token.shared.grad is None or not encoder.subject_token.shared.grad.any()


def test_hidden_subjects_teach_the_shared_token():
    encoder = atm(n_subjects=3, subject_dropout=0.5)
    encoder(signals(64), subjects=torch.arange(64) % 3).pow(3).sum().backward()
    assert encoder.subject_token.shared.grad.any()
    assert (encoder.subject_token.own.weight.grad.abs().sum(1) > 0).all()


def test_share_of_hidden_subjects():
    token = atm(n_subjects=2, subject_dropout=0.3).subject_token
    shared = (token(4000, torch.zeros(4000, dtype=torch.long)) == token.shared).all(1)
    assert abs(float(shared.float().mean()) - 0.3) < 5 * (0.21 / 4000) ** 0.5
    token.eval()
    assert not (token(4000, torch.zeros(4000, dtype=torch.long)) == token.shared).all(1).any()


def test_without_own_tokens_any_subject_is_a_stranger():
    encoder = atm().eval()
    x = signals()
    assert torch.equal(encoder(x, subjects=torch.tensor([0, 5, -1, 2, 9])), encoder(x))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_any_whole_type_will_do(dtype):
    encoder = atm(n_subjects=3, subject_dropout=0.5).eval()
    x = signals()
    subjects = torch.tensor([0, 1, 2, 2, 0])
    assert torch.equal(encoder(x, subjects=subjects.to(dtype)), encoder(x, subjects=subjects))
    encoder.train()
    assert torch.isfinite(encoder(x, subjects=subjects.to(dtype))).all()


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (torch.tensor([0, 1, 2, 3, 0]), "between 0 and 3, the encoder was built with n_subjects 3"),
        (torch.tensor([0, 1, -2, 0, 0]), "between -2 and 1"),
        (torch.tensor([0, 1]), r"shape \(2,\)"),
        (torch.zeros(5), "float32"),
        (torch.zeros(5, dtype=torch.bool), "bool"),
        (torch.zeros(5, 1, dtype=torch.long), r"shape \(5, 1\)"),
    ],
)
def test_impossible_subjects_are_refused(subjects, said):
    with pytest.raises(InputError, match=said):
        atm(n_subjects=3)(signals(), subjects=subjects)
