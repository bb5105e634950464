"""Virtual fMRI: betas against a simulated scan, voxels against their regions, ceilings against repeats."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.alignment.preparation import check_alike
from brainalign.datasets import open_dataset
from brainalign.datasets.virtual import brain as brains
from brainalign.datasets.virtual import cortex as cortices
from brainalign.datasets.virtual import glm
from brainalign.datasets.virtual.config import (
    FMRI_PRESETS,
    MEG_PRESETS,
    POSTERIOR_17,
    POSTERIOR_CTF,
    PRESETS,
    Preset,
    VirtualBrainConfig,
    VoxelPreset,
)
from brainalign.datasets.virtual.early import early_cells, early_features
from brainalign.datasets.virtual.head import standard_head
from brainalign.datasets.virtual.virtual_eeg import VirtualEEG
from brainalign.datasets.virtual.virtual_fmri import VirtualFMRI, slots_per_run
from brainalign.datasets.virtual.virtual_meg import VirtualMEG
from brainalign.datasets.virtual.voxel_truth import noise_ceiling
from brainalign.errors import InputError

pytest.importorskip("mne")

TINY = VoxelPreset("tiny", 6, 4, 4, 120, 2, 12, 1)
TINY_EEG = Preset("tiny", 6, 4, 4, POSTERIOR_17, 100.0, 2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("virtual")


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for sizes, made, cls in ((FMRI_PRESETS, TINY, VirtualFMRI), (PRESETS, TINY_EEG, VirtualEEG)):
        monkeypatch.setitem(sizes, "tiny", made)
        monkeypatch.setattr(cls, "presets", ("small", "full", "tiny"))

    def build(cls: Any = VirtualFMRI, **options: Any) -> Any:
        return cls(preset="tiny", cache_dir=cache, **{"pathways": "early", **options})

    return build


def made_cortex(n_voxels: int = 300, subject: int = 0) -> cortices.Cortex:
    config, head = VirtualBrainConfig(), standard_head()
    return cortices.subject_cortex(config, head, brains.subject_brain(config, head, 2, subject), 2, n_voxels, subject)


def test_response_is_the_canonical_one() -> None:
    from scipy.integrate import quad
    from scipy.stats import gamma

    def impulse(t: float) -> float:
        return float(gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6)

    times = np.array([-1.0, 2.0, 5.25, 9.0, 15.0, 25.0])
    shown = np.array([quad(impulse, max(0.0, t - glm.SHOWN_S), max(0.0, t))[0] for t in times])
    found = glm.double_gamma_response(times)
    assert found[0] == 0 and found[2] == pytest.approx(1, abs=1e-4) and found[4] < 0
    np.testing.assert_allclose(found, shown / shown[2], atol=1e-4)


def test_covariance_is_that_of_least_squares_betas_of_simulated_scans() -> None:
    n, rng = 25, np.random.default_rng(0)
    design = glm.run_design(n)
    n_scans, voxels = len(design), 6000
    walk = np.zeros((n_scans, voxels))  # AR(1) by its recursion, then white noise
    walk[0] = rng.standard_normal(voxels)
    for scan in range(1, n_scans):
        walk[scan] = glm.AUTOCORRELATION * walk[scan - 1] + np.sqrt(1 - glm.AUTOCORRELATION**2) * rng.standard_normal(
            voxels
        )
    noise = np.sqrt(1 - glm.WHITE_SHARE) * walk + np.sqrt(glm.WHITE_SHARE) * rng.standard_normal((n_scans, voxels))
    response = rng.standard_normal(n)
    drift = 50 + 10 * design[:, n + 1 :].sum(axis=1, keepdims=True)
    signal = design[:, :n] @ response
    betas = np.linalg.lstsq(design, signal[:, None] + drift + noise, rcond=None)[0][:n]
    expected = glm.beta_covariance(n)
    np.testing.assert_allclose(betas.mean(axis=1), response, atol=4.5 * np.sqrt(expected.max() / voxels))
    np.testing.assert_allclose(np.cov(betas), expected, atol=5 * expected.max() / np.sqrt(voxels))
    assert 0.05 < expected[3, 5] / expected[3, 3] < 0.5  # neighbours share noise


def test_onsets_leave_blank_places() -> None:
    design = glm.run_design(12)
    first = [int(np.flatnonzero(design[:, k] > 0)[0]) for k in range(12)]
    assert set(np.diff(first[:10])) == {3} and first[10] - first[9] == 9


def test_cells_add_up_to_the_sources_drive() -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8)
    features, training, config = early_features(images), np.arange(30), VirtualBrainConfig()
    whole = brains.drives(features, training, 5, brains.generator(config, "x"))
    parts = brains.drives_by_cell(features, training, 5, brains.generator(config, "x"), early_cells())
    assert parts.shape == (40, 5, 16)
    np.testing.assert_allclose(parts.sum(axis=2), whole, atol=1e-8)


def test_a_voxel_sees_only_its_receptive_field() -> None:
    """A square in one cell of the picture moves the features of that cell alone; cells go row by row."""
    plain = np.full((64, 64, 3), 128, np.uint8)
    lit = plain.copy()
    lit[0:16, 48:64] = [220, 60, 60]
    changed = np.flatnonzero(early_features(lit[None])[0][: 3 * 16] != early_features(plain[None])[0][: 3 * 16])
    assert set(early_cells()[changed]) == {3}  # the colour maps; filters reach further
    upper_right = cortices.field_weights(np.array([[0.375, 0.375, 0.05], [-0.375, -0.375, 0.05]]))
    assert upper_right[0].argmax() == 3 and upper_right[1].argmax() == 12
    np.testing.assert_allclose(upper_right.sum(axis=1), 1)
    wide = cortices.field_weights(np.array([[0.0, 0.0, 50.0]]))
    np.testing.assert_allclose(wide, 1 / 16, rtol=1e-3)


def test_cortex_is_retinotopic_and_regions_mix_their_pathway() -> None:
    cortex = made_cortex()
    early = cortex.early
    assert set(cortex.region) == {"V1", "V2", "V3", "hV4", "LOC", "FFA", "PPA"}
    assert set(cortex.region[early]) == {"V1", "V2", "V3"}
    left = cortex.hemisphere == "l"
    assert (cortex.rf[early & left, 0] >= 0).all() and (cortex.rf[early & ~left, 0] <= 0).all()
    assert np.isnan(cortex.rf[~early]).all() and np.isfinite(cortex.rf[early]).all()
    assert (cortex.rf[cortex.region == "V3", 2]).mean() > (cortex.rf[cortex.region == "V1", 2]).mean()
    assert not cortex.weights[early][:, 24:].any() and not cortex.weights[~early][:, :24].any()
    np.testing.assert_allclose(np.linalg.norm(cortex.weights, axis=1), 1)
    across = cortex.positions[:, 0] - standard_head().centre[0]
    assert across[~left].mean() > 0.02 > -0.02 > across[left].mean()
    assert np.linalg.norm(cortex.positions - standard_head().centre, axis=1).max() < standard_head().radius
    assert set(cortex.labels) == set(cortices.ROI_LABELS)


def test_layers_feed_the_regions_that_prefer_them() -> None:
    cortex = made_cortex(2000)
    deep = np.arange(24, 120) % 2 == 1  # sources are dealt out to the two layers in turn
    power = {r: (cortex.weights[cortex.region == r][:, 24:] ** 2).mean(axis=0) for r in ("hV4", "LOC", "PPA")}
    share = {r: p[deep].sum() / p.sum() for r, p in power.items()}
    assert share["hV4"] < 0.4 < share["LOC"] + 0.1 and share["PPA"] > 0.6 and share["LOC"] > share["hV4"]


def late_patterns(categories: list[str]) -> tuple[cortices.Cortex, NDArray[np.float64], NDArray[np.float64]]:
    cortex = made_cortex()
    drive = np.random.default_rng(1).standard_normal((len(categories), 120))
    found = cortices.voxel_patterns(
        cortex, VirtualBrainConfig(), drive, None, np.array(categories), np.arange(len(categories))
    )
    return cortex, drive, found


def test_categories_set_gain_and_mean_of_the_regions_that_prefer_them() -> None:
    kinds = ["animal", "building", "tool"] * 200
    cortex, drive, patterns = late_patterns(kinds)
    is_kind = {kind: np.array(kinds) == kind for kind in kinds}
    for region, liked in (("FFA", "animal"), ("PPA", "building")):
        own = patterns[:, cortex.region == region]
        assert own[is_kind[liked]].mean() > 0.3 + own[is_kind["tool"]].mean()
        assert own[is_kind[liked]].std(axis=0).mean() > 1.3 * own[is_kind["tool"]].std(axis=0).mean()
    plain = cortex.region == "LOC"
    mixed = drive @ cortex.weights[plain].T
    np.testing.assert_allclose(patterns[:, plain], (mixed - mixed.mean(axis=0)) / mixed.std(axis=0))
    assert not patterns[:, cortex.early].any()  # no early drive was given


def test_trials_follow_things_fmri(tiny: Any) -> None:
    recording = tiny().recording("1")
    assert (recording.modality, recording.n_times, recording.sfreq) == ("fmri", 1, None)
    assert recording.unit == "% signal change"
    train, test = recording.part("train").trials, recording.part("test").trials
    assert len(train) == 24 and train.groupby("stimulus_id").size().eq(1).all() and train["repetition"].eq(1).all()
    assert (
        test.groupby("stimulus_id").size().eq(12).all() and test.groupby(["stimulus_id", "session"]).size().eq(1).all()
    )
    betas = recording.signals
    places = np.stack([betas.runs, betas.slots], axis=1)
    assert len(np.unique(places, axis=0)) == len(recording) and places[:, 1].max() < slots_per_run(TINY)


def test_trials_are_the_same_in_any_order(tiny: Any) -> None:
    recording = tiny().recording("1")
    everything = recording.read(np.arange(len(recording)))
    rows = np.array([40, 3, 41, 3, 0])
    np.testing.assert_array_equal(tiny().recording("1").read(rows), everything[rows])
    np.testing.assert_array_equal(recording.signals[7], everything[7])
    assert np.isfinite(everything).all()
    other = tiny(seed=1).recording("1").read(rows)
    n = min(other.shape[1], everything.shape[1])
    assert not np.isclose(other[:, :n], everything[rows, :n]).mean() > 0.01


def test_noise_of_a_run_is_the_models(tiny: Any) -> None:
    data = tiny(gain_sd=0.0, noise=1.0)
    recording, quiet = data.recording("1"), tiny(gain_sd=0.0, noise=0.0).recording("1")
    betas = recording.signals
    noise = (recording.read(np.arange(len(recording))) - quiet.read(np.arange(len(quiet))))[:, :, 0]
    noise /= betas.session_gain[betas.sessions]
    variance = np.diag(glm.beta_covariance(slots_per_run(TINY))).mean()
    ratio = (noise**2).mean(axis=0) / betas.scan_noise**2 / variance
    assert ratio.mean() == pytest.approx(1, abs=0.15)
    position = data._subject("1")[1].positions
    far = np.linalg.norm(position[:, None] - position, axis=2)
    alike = np.corrcoef((noise / noise.std(axis=0)).T)
    pairs = np.triu_indices(len(far), 1)
    assert alike[pairs][far[pairs] < 0.008].mean() > alike[pairs][far[pairs] > 0.06].mean() + 0.05


def test_noise_ceilings_are_those_of_repeats(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual estimate from repeats (Allen et al. 2022), in plain numpy."""
    monkeypatch.setitem(FMRI_PRESETS, "tiny", VoxelPreset("tiny", 6, 4, 24, 120, 2, 120, 1))
    data = tiny(signal=3.0)
    recording = data.recording("1")
    shown = data.stimuli("1").ids[24:]
    repeats = np.stack([recording.read(recording.trials_of(name))[:, :, 0] for name in shown]).astype(float)
    noise = repeats.var(axis=1, ddof=1).mean(axis=0)
    truth = data.truth("1")
    np.testing.assert_allclose(noise, truth["noise_variance"], rtol=0.12)
    signal = np.maximum(repeats.mean(axis=1).var(axis=0, ddof=1) - noise / 120, 0)
    clean = data.responses("1", shown)[:, :, 0].astype(float)
    gains = data._subject("1")[0].session_gain.astype(float).mean(axis=0)
    # Signals of these 24 images, not of the training images the table speaks of.
    expected = noise_ceiling(gains**2 * clean.var(axis=0, ddof=1), truth["noise_variance"], 1)
    early = truth["pathway"] == "early"
    found = 100 * signal / (signal + noise)
    np.testing.assert_allclose(found[early], expected[early], atol=6.0)
    assert np.corrcoef(found[early], expected[early])[0, 1] > 0.97
    trained = data.responses("1", data.stimuli("1").ids[:24])[:, :, 0].astype(float)
    by_hand = gains**2 * trained.var(axis=0)
    table = recording.channels
    np.testing.assert_allclose(table["nc_singletrial"], 100 * by_hand / (by_hand + truth["noise_variance"]), rtol=1e-3)
    np.testing.assert_allclose(
        table["nc_testset"], 100 * by_hand / (by_hand + truth["noise_variance"] / 120), rtol=1e-3
    )
    assert (table["noise_ceiling"] == table["nc_testset"]).all()


def test_truth_names_pathways_and_ratios(tiny: Any) -> None:
    truth = tiny().truth("1")
    assert truth["virtual"] and len(truth["ch_names"]) == len(truth["snr"]) == len(truth["region"])
    assert truth["regions"]["V1"]["answers"] and not truth["regions"]["PPA"]["answers"]
    assert not truth["snr"][truth["pathway"] == "late"].any() and truth["snr"][truth["pathway"] == "early"].all()
    np.testing.assert_allclose(truth["nc_singletrial"], 100 * truth["snr"] / (1 + truth["snr"]))
    assert sum(r["n_voxels"] for r in truth["regions"].values()) == len(truth["snr"])


def test_channel_table_labels_regions(tiny: Any) -> None:
    table = tiny().recording("1").channels
    labels = table[list(cortices.ROI_LABELS)]
    assert labels.dtypes.eq(bool).all() and labels.sum(axis=1).eq(1).all()
    for side in "lr":
        np.testing.assert_array_equal(table[f"{side}LOC"], (table["region"] == "LOC") & (table["hemisphere"] == side))
    assert table.loc[table["region"].isin(["V1", "V2", "V3"]), "rf_size"].gt(0).all()


def test_drive_is_that_of_the_eeg_and_sets_the_voxels(tiny: Any) -> None:
    fmri, eeg = tiny(), tiny(VirtualEEG)
    ids = fmri.stimuli("1").ids
    np.testing.assert_array_equal(fmri.drive(ids), eeg.drive(ids))
    _, cortex, _ = fmri._subject("1")
    # With fields that see all of the picture and no saturation, a voxel is a mixture of the sources.
    wide = cortices.Cortex(**{**vars(cortex), "rf": np.where(np.isnan(cortex.rf), np.nan, [0.0, 0.0, 1e3])})
    linear = VirtualBrainConfig(pathways="early", saturation=0.0)
    flat = tiny(saturation=0.0)
    found = cortices.voxel_patterns(
        wide, linear, flat.drive(ids), flat._early_cell_drive(), np.array([""] * len(ids)), np.arange(24)
    )
    mixed = flat.drive(ids)[:, :24] @ cortex.weights[cortex.early][:, :24].T
    mixed = (mixed - mixed[:24].mean(axis=0)) / mixed[:24].std(axis=0)
    np.testing.assert_allclose(found[:, cortex.early], mixed, atol=1e-4)


def dissimilarity(x: NDArray[Any]) -> NDArray[np.float64]:
    """Correlation distance between all images, (n, n)."""
    flat = x.reshape(len(x), -1).astype(float)
    return np.asarray(1 - np.corrcoef(flat - flat.mean(axis=0)))


def agreement(one: NDArray[Any], two: NDArray[Any]) -> float:
    pairs = np.triu_indices(len(one), 1)
    return float(np.corrcoef(one[pairs], two[pairs])[0, 1])


def test_representational_geometry_is_shared_across_modalities(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise-free responses of one brain in three modalities agree as they do under no other order of the images."""
    shown = (12, 4, 4)
    monkeypatch.setitem(FMRI_PRESETS, "tiny", VoxelPreset("tiny", *shown, 120, 2, 12, 1))
    monkeypatch.setitem(PRESETS, "tiny", Preset("tiny", *shown, POSTERIOR_17, 100.0, 2))
    monkeypatch.setitem(MEG_PRESETS, "tiny", Preset("tiny", *shown, POSTERIOR_CTF, 100.0, 2, 12, 1, -0.1, 1.3, False))
    monkeypatch.setattr(VirtualMEG, "presets", ("small", "full", "tiny"))
    data = [tiny(), tiny(VirtualEEG), tiny(VirtualMEG)]
    ids = data[0].stimuli("1").ids
    maps = [dissimilarity(d.responses("1", ids)) for d in data]
    maps.append(dissimilarity(data[0].drive(ids)[:, :24]))
    orders = [np.random.default_rng(k).permutation(len(ids)) for k in range(200)]
    for one, two in itertools.combinations(maps, 2):
        chance = [agreement(one, two[np.ix_(order, order)]) for order in orders]
        assert agreement(one, two) > max(0.15, *chance)


def test_subjects_cannot_train_one_encoder(tiny: Any) -> None:
    data = tiny()
    one, two = data.recording("1"), data.recording("2")
    assert one.n_chans != two.n_chans and not set(one.ch_names) & set(two.ch_names)
    with pytest.raises(InputError) as caught:
        check_alike([one, two])
    assert "subjects 1 and 2 differ" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"jitter_s": 0.02}, "unknown option of virtual-fmri 'jitter_s'"),
        ({"signl": 2}, "did you mean 'signal'"),
        ({"gain_sd": 2}, "virtual-fmri: gain_sd is 2"),
        ({"preset": "huge"}, "dataset 'virtual-fmri' has no preset 'huge'; presets: small, full"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        VirtualFMRI(**options)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_presets_and_facts() -> None:
    opened = open_dataset("virtual-fmri")
    assert opened.name == "virtual-fmri:small" and opened.info.virtual and "jitter_s" not in opened.facts()
    for name, size in FMRI_PRESETS.items():
        twin = PRESETS[name]
        assert (size.n_concepts, size.n_exemplars, size.n_test) == (twin.n_concepts, twin.n_exemplars, twin.n_test)
        assert size.n_subjects == twin.n_subjects


def test_no_pathway_means_no_information(tiny: Any) -> None:
    data = tiny(pathways="none", noise=0.0, gain_sd=0.0)
    clean = data.responses("1", data.stimuli("1").ids)
    np.testing.assert_array_equal(clean, np.broadcast_to(clean[:1], clean.shape))
    assert not data.truth("1")["snr"].any()
    assert not any(region["answers"] for region in data.truth("1")["regions"].values())
