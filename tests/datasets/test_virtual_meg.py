"""Virtual MEG: sensors as MNE ships them, fields against other formulas, and the brains of virtual-eeg."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainalign.datasets import open_dataset
from brainalign.datasets.virtual import brain as brains
from brainalign.datasets.virtual.config import (
    CTF_271,
    CTF_275,
    MEG_PRESETS,
    POSTERIOR_17,
    POSTERIOR_CTF,
    PRESETS,
    Preset,
    VirtualBrainConfig,
)
from brainalign.datasets.virtual.head import pick_channels, standard_head
from brainalign.datasets.virtual.helmet import Helmet, ctf_sensors, helmet_around, sarvas_field
from brainalign.datasets.virtual.noise import blink_topography, noise_model
from brainalign.datasets.virtual.trials import virtual_trials
from brainalign.datasets.virtual.truth import planted
from brainalign.datasets.virtual.virtual_eeg import VirtualEEG
from brainalign.datasets.virtual.virtual_meg import VirtualMEG
from brainalign.errors import InputError

mne = pytest.importorskip("mne")
if not hasattr(mne.channels, "read_meg_canonical_info"):
    pytest.skip("MNE older than 1.12 ships no CTF geometry", allow_module_level=True)

Array = NDArray[np.float64]

TINY = Preset("tiny", 6, 2, 4, POSTERIOR_CTF, 100.0, 2, 12, 1, -0.1, 1.3, False)
TINY_EEG = Preset("tiny", 6, 2, 4, POSTERIOR_17, 100.0, 2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("virtual")


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for sizes, made, cls in ((MEG_PRESETS, TINY, VirtualMEG), (PRESETS, TINY_EEG, VirtualEEG)):
        monkeypatch.setitem(sizes, "tiny", made)
        monkeypatch.setattr(cls, "presets", ("small", "full", "tiny"))

    def build(cls: Any = VirtualMEG, **options: Any) -> Any:
        return cls(preset="tiny", cache_dir=cache, **{"pathways": "early", **options})

    return build


def helmet() -> Helmet:
    return helmet_around(standard_head().centre)


def dipoles(n: int = 5) -> tuple[Array, Array]:
    """Places relative to the sphere's centre (metres) and unit orientations."""
    rng = np.random.default_rng(3)
    places = rng.normal(size=(n, 3)) * [1, 1, 0.5]
    places *= rng.uniform(0.03, 0.075, (n, 1)) / np.linalg.norm(places, axis=1, keepdims=True)
    ways = rng.normal(size=(n, 3))
    return places, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def test_sensors_are_those_of_things_meg() -> None:
    # ds004212: 272 working channels without MLF25, MRF43 and MRO13; its authors drop MRO11.
    assert len(CTF_275) == 275 and len(set(CTF_275)) == 275
    assert set(CTF_275) - set(CTF_271) == {"MLF25", "MRF43", "MRO13", "MRO11"}
    assert {n[:3] for n in POSTERIOR_CTF} == {"MLO", "MRO", "MZO", "MLP", "MRP", "MZP"} and len(POSTERIOR_CTF) == 84


def test_geometry_is_mnes_and_the_missing_sensor_mirrors_its_twin() -> None:
    info = mne.channels.read_meg_canonical_info("ctf275", verbose="ERROR")
    shipped = {name.partition("-")[0]: ch for name, ch in zip(info["ch_names"], info["chs"], strict=True)}
    assert [name for name in CTF_275 if name in shipped] == [name.partition("-")[0] for name in info["ch_names"]]
    positions, axes = ctf_sensors()
    for at, name in enumerate(CTF_271):
        if name in shipped:
            np.testing.assert_array_equal(positions[at], shipped[name]["loc"][:3])
            np.testing.assert_array_equal(axes[at].ravel(), shipped[name]["loc"][3:])
    assert set(CTF_275) - set(shipped) == {"MLO42"}
    place = dict(zip(CTF_271, positions, strict=True))
    np.testing.assert_allclose(place["MLO42"], place["MRO42"] * [-1, 1, 1])
    others = [(place[n] - place[n.replace("ML", "MR")] * [-1, 1, 1]) for n in CTF_271
              if n.startswith("ML") and n.replace("ML", "MR") in place]  # fmt: skip
    assert np.linalg.norm(others, axis=1).max() < 0.002
    gap = np.linalg.norm(helmet().positions - standard_head().centre, axis=1) - standard_head().radius
    assert gap.min() > 0.005 and gap.max() < 0.06  # no sensor in the head, none far off


def test_fields_are_those_of_mnes_sphere_model() -> None:
    made, head = helmet(), standard_head()
    info = mne.channels.read_meg_canonical_info("ctf275", verbose="ERROR")
    present = [name for name in info["ch_names"] if name.partition("-")[0] in CTF_271]
    info = mne.pick_info(info, [info["ch_names"].index(name) for name in present])
    shift = made.positions[0] - ctf_sensors()[0][0]
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", mne.transforms.translation(*shift))
    places, ways = dipoles()
    source = mne.setup_volume_source_space(
        pos={"rr": places + head.centre, "nn": ways}, sphere=head.sphere, sphere_units="m", verbose="ERROR"
    )
    forward = mne.make_forward_solution(info, None, source, head.sphere, eeg=False, mindist=0.0, verbose="ERROR")
    gain = forward["sol"]["data"].reshape(len(present), len(places), 3)
    expected = np.einsum("ckx,kx->ck", gain, ways) * 1e15 * 1e-9
    found = made.leadfield(places + head.centre, ways)
    rows = [CTF_271.index(name.partition("-")[0]) for name in present]
    # MNE takes seven points a coil, we four: where a dipole is near they differ by up to a part in a thousand.
    np.testing.assert_allclose(found[rows], expected, atol=1e-3 * np.abs(expected).max())


def test_field_is_biot_savarts_along_the_radius_and_has_no_curl() -> None:
    """Currents in the sphere leave the radial field as it is in empty space; outside, the field has no source."""
    places, ways = dipoles(4)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    points *= 0.12 / np.linalg.norm(points, axis=1, keepdims=True)
    radial = points / np.linalg.norm(points, axis=1, keepdims=True)
    away = points[:, None] - places
    free = 1e-7 * np.cross(ways[None], away) / np.linalg.norm(away, axis=2, keepdims=True) ** 3
    expected = np.einsum("pdx,px->pd", free, radial)
    np.testing.assert_allclose(sarvas_field(places, ways, points, radial), expected, rtol=1e-9, atol=1e-12)

    def whole(at: Array) -> Array:
        return np.stack([sarvas_field(places, ways, at, np.tile(axis, (20, 1))) for axis in np.eye(3)])

    step = 1e-5
    slope = np.stack([(whole(points + step * e) - whole(points - step * e)) / (2 * step) for e in np.eye(3)])
    scale = np.abs(slope).max()
    assert np.abs(np.trace(slope, axis1=0, axis2=1)).max() < 1e-6 * scale
    assert np.abs(slope - np.swapaxes(slope, 0, 1)).max() < 1e-6 * scale


def test_radial_sources_are_silent_and_tangential_ones_make_femtotesla() -> None:
    made, head = helmet(), standard_head()
    way = head.direction("Oz")[None]
    place = head.centre + 0.78 * head.radius * way
    assert np.abs(made.leadfield(place, way)).max() < 1e-6
    field = made.leadfield(place, np.array([[1.0, 0.0, 0.0]]))[:, 0]
    assert 5 < np.abs(field).max() < 100
    assert CTF_271[int(np.abs(field).argmax())][2] in "OPT"


def test_noise_comes_from_the_dipoles_of_the_eeg() -> None:
    times = -0.1 + np.arange(60) / 100.0
    picks = np.arange(len(CTF_271))
    meg = noise_model(
        standard_head(), picks, times, 100.0, 4, np.random.default_rng(5), sensors=helmet(), sensor_noise=6.0
    )
    eeg = noise_model(standard_head(), pick_channels(POSTERIOR_17), times, 100.0, 4, np.random.default_rng(5))
    np.testing.assert_array_equal(meg.alpha_time, eeg.alpha_time)  # the same frequency
    assert meg.sensor_sd == pytest.approx(60.0)
    spread = np.sqrt((meg.background_space**2).sum(axis=1))
    assert 100 < spread.mean() < 500
    blink = np.abs(blink_topography(standard_head(), helmet()))
    assert 1000 < blink.max() < 10000 and {CTF_271[i][2] for i in blink.argsort()[-10:]} <= set("FT")


def test_the_brain_is_that_of_the_eeg(tiny: Any) -> None:
    meg, eeg = tiny(), tiny(VirtualEEG)
    ids = meg.stimuli("1").ids
    assert ids == eeg.stimuli("1").ids and meg.stimuli("1").image_ids == eeg.stimuli("1").image_ids
    np.testing.assert_array_equal(meg.drive(ids), eeg.drive(ids))
    one, two = (d.truth("2")["pathways"]["early"] for d in (meg, eeg))
    assert one["latency_range_s"] == two["latency_range_s"]
    brain = brains.subject_brain(VirtualBrainConfig(), standard_head(), 2, 1)
    field = helmet().moved(np.zeros(3)).leadfield(brain.positions, brain.orientations)
    sources = brain.seen_by(helmet(), np.arange(271))
    np.testing.assert_allclose(sources.topographies, field * brain.moments * brain.factors * brain.gain)


def test_eeg_is_what_it_was_before_meg_came() -> None:
    """Numbers of the release that knew EEG alone; a change here needs a new `MODEL_VERSION` of virtual-eeg."""
    times, config = -0.2 + np.arange(60) / 50.0, VirtualBrainConfig(seed=2)
    sources = brains.subject_sources(config, standard_head(), np.arange(63), 2, 1)
    noise = noise_model(standard_head(), np.arange(63), times, 50.0, 2, brains.generator(config, "noise", 1))
    drive = np.cos(np.arange(6 * 120).reshape(6, 120))
    drive -= drive.mean(axis=0)
    trials = virtual_trials(config, sources, noise, drive, np.arange(40) % 6, np.arange(40) % 2, 1)
    signals, truth = trials[:], planted(trials, sources, drive)
    found = signals[[0, 7, 39], [0, 40, 62], [20, 30, 59]]
    np.testing.assert_allclose(found, [-2.2962346, 2.4518077, 5.2680292], rtol=1e-5)
    assert np.sqrt((signals.astype(float) ** 2).mean()) == pytest.approx(4.568733089652806, rel=1e-6)
    np.testing.assert_allclose(truth["snr"][[0, 62]], [0.00044321578558260185, 0.008121411249497933], rtol=1e-6)
    np.testing.assert_allclose(truth["noise_variance_uv2"][[0, 62]], [39.66024565898066, 24.535585101107362], rtol=1e-6)
    assert truth["pathways"]["late"]["topography_uv"][62] == pytest.approx(1.2275257089408669, rel=1e-6)


def test_geometry_of_responses_is_shared_with_the_eeg(tiny: Any) -> None:
    meg, eeg = tiny(saturation=0.0), tiny(VirtualEEG, saturation=0.0)
    ids = meg.stimuli("1").ids
    latent = meg.drive(ids)[:, :24]
    for data in (meg, eeg):
        x = data.responses("1", ids).reshape(len(ids), -1).astype(float)
        x -= x.mean(axis=0)
        weights, *_ = np.linalg.lstsq(np.column_stack([latent, np.ones(len(ids))]), x, rcond=None)
        np.testing.assert_allclose(np.column_stack([latent, np.ones(len(ids))]) @ weights, x, atol=1e-3 * x.std())


def test_trials_follow_things_meg(tiny: Any) -> None:
    recording = tiny().recording("1")
    assert (recording.n_chans, recording.n_times, recording.sfreq, recording.unit) == (84, 140, 100.0, "fT")
    assert recording.modality == "meg" and recording.times[0] == pytest.approx(-0.1)
    train, test = recording.part("train").trials, recording.part("test").trials
    assert len(train) == 12 and train.groupby("stimulus_id").size().eq(1).all() and train["repetition"].eq(1).all()
    assert test.groupby("stimulus_id").size().eq(12).all()
    assert test.groupby(["stimulus_id", "session"]).size().eq(1).all()
    assert sorted(train["session"]) == list(range(1, 13))
    assert recording.channels is not None and set(recording.channels["region"]) == {"occipital", "parietal"}


def test_trials_are_the_same_in_any_order(tiny: Any) -> None:
    rows = np.array([3, 40, 17, 3])
    everything = tiny().recording("2").read(np.arange(60))
    np.testing.assert_array_equal(tiny().recording("2").read(rows), everything[rows])
    assert not np.allclose(everything[:5], tiny(seed=1).recording("2").read(np.arange(5)))
    assert not np.allclose(everything[:5], tiny().recording("1").read(np.arange(5)))


def test_planted_signal_to_noise_is_that_of_trials(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        MEG_PRESETS, "tiny", Preset("tiny", 6, 2, 4, POSTERIOR_CTF[:12], 100.0, 2, 150, 1, -0.1, 0.5, True)
    )
    data = tiny(signal=4.0)
    truth, recording = data.truth("1"), data.recording("1").part("train")
    signals = np.stack([recording.read(recording.trials_of(name)) for name in data.stimuli("1").ids[:12]]).astype(float)
    after = recording.times >= 0
    within = signals[..., after].var(axis=1, ddof=1).mean(axis=(0, 2))
    between = signals[..., after].mean(axis=1).var(axis=0).mean(axis=1) - within / 150 * 11 / 12
    np.testing.assert_allclose(between / within, truth["snr"], rtol=0.2)
    clean = data.responses("1", data.stimuli("1").ids[:12]).astype(float)
    np.testing.assert_allclose(
        clean[..., after].var(axis=0).mean(axis=1), truth["snr"] * truth["noise_variance_ft2"], rtol=0.02
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nois": 2}, "unknown option of virtual-meg 'nois'; did you mean 'noise'"),
        ({"noise": -1}, "virtual-meg: noise is -1"),
        ({"seed": 1.5}, "virtual-meg: seed is '1.5'"),
        ({"preset": "huge"}, "dataset 'virtual-meg' has no preset 'huge'; presets: small, full"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        VirtualMEG(**options)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_other_bad_names_are_refused_in_one_line(tiny: Any) -> None:
    with pytest.raises(InputError, match="no subject '7'"):
        tiny().recording("7")
    with pytest.raises(InputError, match=r"unknown stimulus of virtual-meg:tiny:\S+ 'virtual/c00'"):
        tiny().drive(["virtual/c00"])


def test_an_old_mne_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(channels=SimpleNamespace(), __version__="1.11.0")
    monkeypatch.setitem(sys.modules, "mne", old)
    ctf_sensors.cache_clear()
    with pytest.raises(InputError, match=r"needs MNE 1\.12 or newer, found 1\.11\.0"):
        ctf_sensors()


def test_presets() -> None:
    full = MEG_PRESETS["full"]
    assert open_dataset("virtual-meg").name == "virtual-meg:small" and open_dataset("virtual-meg").info.virtual
    assert (len(full.ch_names), full.sfreq, full.n_times) == (271, 200.0, 280)
    for name, size in MEG_PRESETS.items():
        twin = PRESETS[name]
        assert (size.n_concepts, size.n_exemplars, size.n_test) == (twin.n_concepts, twin.n_exemplars, twin.n_test)
        assert size.n_subjects == twin.n_subjects
