"""Windows of time on made EEG whose signal lies between 0.2 and 0.4 s, and repetitions of it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from tests_support import FAST

from brainalign.analysis import analyze
from brainalign.analysis.window_ridge import PENALTIES, fit_ridge
from brainalign.analysis.windows import windows_of
from brainalign.errors import InputError
from brainalign.evaluation.result import read_predictions
from brainalign.execution.train import train
from brainalign.report.analysis_page import write_analysis

N, N_CHANS, TIMES = 80, 8, -0.1 + np.arange(30) / 50  # -0.1 to 0.48 s at 50 Hz
N_TRIALS = 4


def write_eeg(folder):
    """Colour fields; their coarse colours are in the signal from 0.2 to 0.4 s and nowhere else."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "sub-01").mkdir()
    coarse = rng.uniform(0, 255, (N, 2, 2, 3))
    for i, field in enumerate(coarse):
        image = Image.fromarray(field.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / f"images/i{i:03d}.png")
    clean = 0.35 * ((coarse.reshape(N, -1) - 128) / 74) @ rng.normal(size=(12, 2 * N_CHANS))
    signals = rng.normal(size=(N_TRIALS, N, N_CHANS, len(TIMES)))
    signals[..., 15:20] += clean[:, :N_CHANS, None]  # 0.2 to 0.3 s
    signals[..., 20:25] += clean[:, N_CHANS:, None]  # 0.3 to 0.4 s
    np.save(folder / "sub-01/signals.npy", signals.reshape(-1, N_CHANS, len(TIMES)).astype(np.float32))
    rows = [f"i{i:03d}.png,{r}" for r in range(1, N_TRIALS + 1) for i in range(N)]
    (folder / "sub-01/trials.csv").write_text("image,repetition\n" + "\n".join(rows) + "\n")
    (folder / "dataset.yaml").write_text("modality: eeg\nunit: uV\nsfreq: 50\ntmin: -0.1\n")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_eeg(tmp_path_factory.mktemp("own") / "own-eeg")


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        settings = [*FAST[1::2], "target.layer=0", "signals.whiten=none", "training.lr=0.01"]
        train("shallow-alignment", dataset=str(own), out=out / f"seed{seed}", seed=seed, settings=settings,
              cache=shared_cache, device="cpu")  # fmt: skip
    return out


@pytest.fixture
def options(own, shared_cache):
    return {"root": own, "cache": shared_cache, "device": "cpu", "permutations": 199, "resamples": 200}


def test_windows_cover_what_they_should():
    found = windows_of(TIMES, ["growing", "shrinking", "sliding"], step=0.2, width=0.2, slide=0.2)
    ends = [(w.kind, *w.ends) for w in found]
    assert ends == [
        ("growing", 0.0, 0.2), ("growing", 0.0, 0.4), ("growing", 0.0, 0.5),
        ("shrinking", 0.0, 0.5), ("shrinking", 0.2, 0.5), ("shrinking", 0.4, 0.5),
        ("sliding", -0.1, 0.1), ("sliding", 0.1, 0.3), ("sliding", 0.3, 0.5),
    ]  # fmt: skip
    assert [w.at for w in found if w.kind == "sliding"] == pytest.approx([0, 0.2, 0.4])
    with pytest.raises(InputError, match="--width"):
        windows_of(TIMES, ["sliding"], step=0.1, width=2.0, slide=0.1)
    with pytest.raises(InputError, match="--step"):
        windows_of(TIMES, ["growing"], step=0.001, width=0.1, slide=0.1)


@pytest.mark.parametrize(("n", "p"), [(60, 12), (20, 50)])
def test_ridge_is_scikit_learns_at_the_best_left_out_penalty(n, p):
    rng = np.random.default_rng(p)
    x, y = rng.normal(size=(n, p)), rng.normal(size=(n, 3))
    y += x[:, :3]
    unit = np.square(x - x.mean(0)).sum() / min(n, p)
    errors = []
    for penalty in PENALTIES:
        left = [y[i] - Ridge(alpha=unit * penalty).fit(np.delete(x, i, 0), np.delete(y, i, 0)).predict(x[[i]])[0]
                for i in range(n)]  # fmt: skip
        errors.append(np.square(left).mean())
    best = Ridge(alpha=unit * PENALTIES[int(np.argmin(errors))]).fit(x, y)
    fresh = rng.normal(size=(5, p))
    found = fit_ridge(torch.from_numpy(x), torch.from_numpy(y))(torch.from_numpy(fresh))
    np.testing.assert_allclose(found, best.predict(fresh), rtol=1e-6, atol=1e-8)


def test_ridge_windows_find_when_the_signal_is(trained, options, tmp_path):
    found = analyze("time", [trained / "seed0"], options | {
        "model": "ridge", "generalise": True, "step": 0.1, "width": 0.1, "slide": 0.1, "metric": "two_way",
        "consecutive": 1,
    })  # fmt: skip
    curves = {curve["kind"]: curve["two_way"] for curve in found.numbers["curves"]}
    assert curves["growing"]["onset"]["window_s"] == [0.0, 0.3]
    assert curves["shrinking"]["last"]["window_s"] == [0.3, 0.5]
    p = np.array(curves["sliding"]["p_corrected"])
    np.testing.assert_array_equal(p <= 0.05, [False, False, False, True, True, False])  # 0.2 and 0.3 s alone
    assert found.numbers["test_reads"] == 0
    grid = next(f for f in found.figures if f.name.startswith("time-generalisation"))
    sure = {(row["trained_start_s"], row["tested_start_s"]) for row in grid.rows if row["p_corrected"] <= 0.05}
    assert sure == {(0.2, 0.2), (0.3, 0.3)}  # the two halves carry the image in other ways
    write_analysis(found, tmp_path / "out", formats=["png"])
    with open(tmp_path / "out/windows.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 5 + 5 + 6


def test_retrained_windows_are_kept_and_compared(trained, options, tmp_path):
    asked = options | {"windows": "growing", "step": 0.2, "runs": tmp_path / "runs", "metric": "two_way"}
    found = analyze("time", [trained / "seed0", trained / "seed1"], asked)
    first, second = found.numbers["curves"]
    assert first["windows"] == [[0.0, 0.2], [0.0, 0.4], [0.0, 0.5]]
    scores, p = first["two_way"]["scores"], first["two_way"]["p_corrected"]
    assert p[0] > 0.05 >= p[1]
    assert scores[1] > 0.65 > scores[0]
    (gap,) = found.numbers["differences"]
    np.testing.assert_allclose(gap["difference"], np.subtract(scores, second["two_way"]["scores"]))
    models = sorted((tmp_path / "runs").rglob("model.safetensors"))
    assert len(models) == 6
    before = [path.stat().st_mtime_ns for path in models]
    again = analyze("time", [trained / "seed0", trained / "seed1"], asked)
    assert [path.stat().st_mtime_ns for path in models] == before  # nothing was trained again
    assert again.numbers["curves"] == found.numbers["curves"]
    write_analysis(found, tmp_path / "out")


def test_test_images_are_opened_once_for_all_windows(trained, options, tmp_path):
    asked = options | {"windows": "growing,sliding", "step": 0.3, "width": 0.2, "slide": 0.2, "images": "test"}
    found = analyze("time", [trained / "seed0", trained / "seed1"], asked | {"model": "ridge"})
    assert found.numbers["test_reads"] == 1
    assert found.numbers["no_choice_may_rest_on_this"] is True
    assert {f.kind for f in found.findings} <= {"exploratory", "limit"}


def test_time_refuses_what_it_cannot_use(trained, options):
    with pytest.raises(InputError, match="growing"):
        analyze("time", [trained / "seed0"], options | {"windows": "growin"})
    with pytest.raises(InputError, match="given twice"):
        analyze("time", [trained / "seed0", trained / "seed0"], options)


# ---- repetitions


def test_all_repetitions_give_the_runs_own_score(trained, own, options):
    settings = {k: v for k, v in options.items() if k in ("root", "cache", "device")}
    found = analyze("repetitions", [trained / "seed0", trained / "seed1"], settings | {"draws": 5})
    assert found.numbers["test_reads"] == 1
    assert {f.kind for f in found.findings} == {"exploratory", "limit"}
    for seed, numbers in enumerate(found.numbers["runs"]):
        stored = read_predictions(trained / f"seed{seed}")
        columns = [stored["gallery_ids"].index(name) for name in stored["query_ids"]]
        top1 = np.mean(stored["similarity"].argmax(1) == columns)
        assert [point["k"] for point in numbers["signals"]] == [1, 2, 4]
        assert numbers["signals"][-1]["top1"] == pytest.approx(top1)
        assert numbers["signals"][-1]["sd_over_draws"] == 0
        # One trial is one trial, whatever is averaged.
        assert numbers["signals"][0]["top1"] == numbers["predictions"][0]["top1"]
        assert numbers["signals"][0]["top1"] < numbers["signals"][-1]["top1"]


def test_single_trials_are_scored_by_hand(trained, own, options):
    """k = 1 over very many draws: the mean over all single trials."""
    from brainalign.alignment.contrastive import ContrastiveAligner
    from brainalign.datasets import open_dataset

    aligner = ContrastiveAligner.load(trained / "seed0/model.safetensors")
    stored = read_predictions(trained / "seed0")
    recording = open_dataset(str(own)).recording("01")
    images = aligner_images(trained / "seed0", own, options["cache"], stored["gallery_ids"])
    single = np.stack([aligner.similarity(recording.read(recording.trials_of(q)), {"image": images})
                       for q in stored["query_ids"]])  # fmt: skip
    columns = np.array([stored["gallery_ids"].index(q) for q in stored["query_ids"]])
    by_trial = np.mean(single.argmax(2) == columns[:, None])
    after = np.mean(single.mean(1).argmax(1) == columns)
    settings = {k: v for k, v in options.items() if k in ("root", "cache", "device")}
    found = analyze("repetitions", [trained / "seed0"], settings | {"draws": 200, "repetitions": "1,4"})
    (numbers,) = found.numbers["runs"]
    assert numbers["signals"][0]["top1"] == pytest.approx(by_trial, abs=0.03)
    assert numbers["predictions"][-1]["top1"] == pytest.approx(after)


def aligner_images(run, own, cache, gallery):
    """Features of gallery images, as any session gives them."""
    from brainalign.execution.train import open_session
    from brainalign.recipes import load_recipe

    session = open_session(str(own), cache=cache, device="cpu")
    recipe = load_recipe(str(run / "recipe.yaml"), modality="eeg")
    (targets,) = session.targets("01", recipe.target).values()
    return targets.of(gallery)


def test_repetitions_that_are_not_there(trained, options):
    settings = {k: v for k, v in options.items() if k in ("root", "cache", "device")}
    with pytest.raises(InputError, match="have 4"):
        analyze("repetitions", [trained / "seed0"], settings | {"repetitions": "1,9"})
    with pytest.raises(InputError, match="whole numbers"):
        analyze("repetitions", [trained / "seed0"], settings | {"repetitions": "1,x"})
