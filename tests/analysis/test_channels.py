"""The channels analysis on made EEG in which two electrodes know the image, and on the virtual brain."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests_support import FAST

from brainalign.analysis import analyze
from brainalign.errors import InputError
from brainalign.execution.train import train
from brainalign.report.analysis_page import write_analysis

N, TIMES, N_TRIALS = 120, -0.1 + np.arange(30) / 50, 3  # -0.1 to 0.48 s at 50 Hz
NAMES = ["Fz", "Cz", "T7", "Pz", "PO7", "PO8", "O1", "O2"]
KNOWING = ["PO7", "O2"]


def write_eeg(folder, *, knows=True):
    """Colour fields; their coarse colours are in two channels from 0.1 to 0.3 s and nowhere else, or nowhere at all."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "sub-01").mkdir()
    coarse = rng.uniform(0, 255, (N, 2, 2, 3))
    for i, field in enumerate(coarse):
        image = Image.fromarray(field.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / f"images/i{i:03d}.png")
    clean = ((coarse.reshape(N, -1) - 128) / 74) @ rng.normal(size=(12, 2 * 10))
    signals = rng.normal(size=(N_TRIALS, N, len(NAMES), len(TIMES)))
    for number, name in enumerate(KNOWING if knows else []):
        signals[:, :, NAMES.index(name), 10:20] += clean[:, 10 * number : 10 * (number + 1)]
    np.save(folder / "sub-01/signals.npy", signals.reshape(-1, len(NAMES), len(TIMES)).astype(np.float32))
    rows = [f"i{i:03d}.png,{r}" for r in range(1, N_TRIALS + 1) for i in range(N)]
    (folder / "sub-01/trials.csv").write_text("image,repetition\n" + "\n".join(rows) + "\n")
    (folder / "channels.csv").write_text("name\n" + "\n".join(NAMES) + "\n")
    (folder / "dataset.yaml").write_text("modality: eeg\nunit: uV\nsfreq: 50\ntmin: -0.1\n")
    return folder


SETTINGS = [*FAST[1::2], "target.layer=0", "signals.whiten=none", "training.lr=0.01"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_eeg(tmp_path_factory.mktemp("own") / "own-eeg")


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory, shared_cache):
    out = tmp_path_factory.mktemp("run") / "eeg"
    train("shallow-alignment", dataset=str(own), out=out, settings=SETTINGS, cache=shared_cache, device="cpu")
    return out


@pytest.fixture
def options(own, shared_cache):
    return {"root": own, "cache": shared_cache, "device": "cpu", "permutations": 199, "resamples": 200}


@pytest.fixture(scope="module")
def found(trained, own, shared_cache):
    given = {"root": own, "cache": shared_cache, "device": "cpu", "permutations": 199, "resamples": 200}
    return analyze("channels", [trained], {**given, "images": "test"})


def numbers(found):
    return found.numbers["runs"][0]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_encoding_finds_the_channels_that_know_the_image(found):
    encoding = numbers(found)["encoding"]
    sure = {name for name, p in zip(NAMES, encoding["p_corrected"], strict=True) if p <= 0.05}
    assert sure == set(KNOWING)
    assert min(encoding["values"][NAMES.index(name)] for name in KNOWING) > 0.4
    low, high = zip(*encoding["ci95"], strict=True)
    assert all(lo < value < hi for lo, value, hi in zip(low, encoding["values"], high, strict=True))


def test_windows_find_when_they_know_it(found):
    encoding = numbers(found)["encoding"]
    sure = np.array(encoding["by_window_p_corrected"]) <= 0.05
    windows = np.array(encoding["windows_s"])
    inside = (windows[:, 0] > 0.05) & (windows[:, 1] < 0.35)
    assert sure[[NAMES.index(n) for n in KNOWING]][:, inside].all()
    assert not sure[:, ~inside].any()


def test_patterns_and_attributions_point_at_them(found):
    pattern, attribution = numbers(found)["pattern"]["share"]["values"], numbers(found)["attribution"]
    assert {NAMES[i] for i in np.argsort(pattern)[-2:]} == set(KNOWING)
    assert {NAMES[i] for i in np.argsort(attribution["share"]["values"])[-2:]} == set(KNOWING)
    assert sum(attribution["share"]["values"]) == pytest.approx(1, abs=1e-5)
    assert attribution["images_that_miss_it"] == 0 and attribution["delta_overall"] < 0.01


def test_a_channel_that_carries_something_is_missed_and_one_that_carries_nothing_is_not(found):
    drops = numbers(found)["knockout"]["channels"]
    sure = {name for name, p in zip(NAMES, drops["p_corrected"], strict=True) if p <= 0.05}
    # Both say the same of the image, so one may stand in for the other; those that say nothing are never missed.
    assert "PO7" in sure and sure <= set(KNOWING)
    np.testing.assert_allclose(drops["drop"], drops["full"] - np.array(drops["without"]), atol=1e-12)


def test_a_region_that_carries_everything_leaves_chance(found):
    regions = numbers(found)["knockout"]["regions"]
    without = dict(zip(regions["names"], regions["without"], strict=True))
    assert set(without) == {"frontal", "central", "temporal", "parietal", "occipital"}
    assert abs(without["occipital"] - 0.5) < 0.12 < regions["full"] - 0.5
    assert without["frontal"] > regions["full"] - 0.05


def test_the_test_set_is_opened_and_said_to_be(found):
    assert found.numbers["test_reads"] == 1 and found.numbers["no_choice_may_rest_on_this"] is True
    assert {finding.kind for finding in found.findings} == {"exploratory", "limit"}
    assert all("exploratory" in figure.title for figure in found.figures)


def test_the_page_and_its_tables(found, tmp_path):
    write_analysis(found, tmp_path / "page", formats=["png"])
    rows = read(tmp_path / "page/channels.csv")
    assert [row["channel"] for row in rows] == NAMES and rows[4]["region"] == "occipital"
    checks = read(tmp_path / "page/convergence.csv")
    assert all(float(row["delta_percent"]) < 1 and row["below_1_percent"] == "True" for row in checks)
    for row in checks:
        assert float(row["answer"]) - float(row["answer_of_zero_signal"]) == pytest.approx(float(row["difference"]))
    names = {figure.name for figure in found.figures}
    assert names == {"channels-encoding", "channels-encoding-time", "channels-patterns", "channels-attributions",
                     "channels-knockout", "channels-regions"}  # fmt: skip
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6 and "PO7" in page
    assert json.loads((tmp_path / "page/analysis.json").read_text())["numbers"]["runs"][0]["channels"] == NAMES


def test_validation_leaves_the_test_set_sealed(trained, options):
    found = analyze("channels", [trained], {**options, "attribution": "deeplift"})
    assert found.numbers["test_reads"] == 0 and found.numbers["no_choice_may_rest_on_this"] is False
    assert {"finding", "limit"} <= {finding.kind for finding in found.findings}
    assert "exploratory" not in {finding.kind for finding in found.findings}
    # The encoder's layer norm and GELU are not among DeepLIFT's rules: its own check must say so.
    attribution = numbers(found)["attribution"]
    assert attribution["method"] == "integrated gradients" and "DeepLIFT" in attribution["note"]


def test_signals_without_the_image_show_nothing(tmp_path, shared_cache, options):
    """Signals of the same kind that no image is in."""
    own = write_eeg(tmp_path / "own-eeg", knows=False)
    train("shallow-alignment", dataset=str(own), out=tmp_path / "run", settings=SETTINGS, cache=shared_cache,
          device="cpu")  # fmt: skip
    found = analyze("channels", [tmp_path / "run"], {**options, "root": own, "images": "test"})
    encoding = numbers(found)["encoding"]
    assert min(encoding["p_corrected"]) > 0.05
    assert np.array(encoding["by_window_p_corrected"]).min() > 0.05
    assert any("is not above chance" in finding.text for finding in found.findings)


@pytest.mark.parametrize("recipe", ["generative", "ridge", "random"])
def test_other_families(recipe, own, tmp_path, shared_cache, options):
    settings = [word for word in SETTINGS if not word.startswith("training.")]
    train(recipe, dataset=str(own), out=tmp_path / recipe, settings=settings, cache=shared_cache, device="cpu")
    found = analyze("channels", [tmp_path / recipe], {**options, "images": "test"})
    one, missing = numbers(found), " ".join(f.text for f in found.findings if f.kind == "not measured")
    assert isinstance(one["attribution"], str) and "Attributions" in missing
    if recipe == "random":
        assert "Haufe" in missing and "Knock-outs" in missing
    else:
        share = one["pattern"]["share"]["values"]
        assert min(share[NAMES.index(name)] for name in KNOWING) > np.median(share) + 0.02
    write_analysis(found, tmp_path / "page")


def test_a_block_design_is_said_on_the_page_too(trained, options, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "run")
    result = json.loads((copy / "result.json").read_text())
    result["lint"].append({"code": "block-design", "severity": "note", "text": "Shown in blocks."})
    (copy / "result.json").write_text(json.dumps(result))
    found = analyze("channels", [copy], {**options, "attribution": "none"})
    assert "Shown in blocks." in [finding.text for finding in found.findings if finding.kind == "limit"]
    plain = analyze("channels", [trained], {**options, "attribution": "none"})
    assert not any("blocks" in finding.text for finding in plain.findings)


def test_images_of_one_concept_are_no_independent_ones(trained, options, monkeypatch):
    said = "Several of these images show the same concept"
    plain = analyze("channels", [trained], {**options, "attribution": "none"})
    assert not any(said in finding.text for finding in plain.findings)
    monkeypatch.setattr(
        "brainalign.stimuli.StimulusSet.column", lambda self, name, ids: [f"c{i % 3}" for i in range(len(ids))]
    )
    found = analyze("channels", [trained], {**options, "attribution": "none"})
    assert any(said in finding.text for finding in found.findings)


def test_a_run_given_twice_is_refused(trained, options, tmp_path):
    copy = tmp_path / "again"
    copy.symlink_to(trained)
    with pytest.raises(InputError, match="twice"):
        analyze("channels", [trained, copy], options)


def test_other_data_are_refused(trained, options, tmp_path):
    other = write_eeg(tmp_path / "own-eeg", knows=False)
    with pytest.raises(InputError, match="top-1"):
        analyze("channels", [trained], {**options, "root": other})


@pytest.fixture(scope="module")
def virtual(tmp_path_factory, shared_cache):
    """The virtual brain, and one in which no pathway answers to the image."""
    found = {}
    for pathways in ("both", "none"):
        out = tmp_path_factory.mktemp("virtual") / pathways
        settings = ["target.layer=9", "target.pooling=grid4", "evaluation.repetitions=5", "evaluation.n_resamples=200",
                    "evaluation.n_permutations=200"]  # fmt: skip
        train("ridge", dataset="virtual-eeg:small", out=out, settings=settings, cache=shared_cache, device="cpu",
              options={"pathways": pathways})  # fmt: skip
        given = {"cache": shared_cache, "device": "cpu", "data_option": [f"pathways={pathways}"], "resamples": 200}
        found[pathways] = analyze("channels", [out], given)
    return found


@pytest.mark.slow  # test_channels_measures.py has the same on signals made in a moment
def test_encoding_strength_follows_the_planted_signal_to_noise_ratio(virtual):
    one = numbers(virtual["both"])
    assert np.corrcoef(one["encoding"]["values"], one["planted_snr"])[0, 1] >= 0.7
    assert (np.array(one["encoding"]["p_corrected"]) <= 0.05).sum() >= 5
    assert any("planted" in finding.text for finding in virtual["both"].findings)


@pytest.mark.slow  # `test_signals_without_the_image_show_nothing` is the quick one
def test_a_brain_without_pathways_shows_nothing(virtual):
    one = numbers(virtual["none"])
    assert min(one["encoding"]["p_corrected"]) > 0.05
    assert np.array(one["encoding"]["by_window_p_corrected"]).min() > 0.05
    assert min(one["knockout"]["channels"]["p_corrected"]) > 0.05
