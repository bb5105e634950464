"""New recordings from files, brought to what a model takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainalign.alignment.transforms import SignalTransform
from brainalign.errors import InputError
from brainalign.tasks.signal_files import FileOptions, read_signals
from brainalign.tasks.signal_format import SignalFormat

FMRI = SignalFormat(("a", "b", "c"), 1, None, 0.0, "fmri")
EEG = SignalFormat(("O1", "Oz"), 50, 100.0, 0.0, "eeg")


def scaled(n_chans=3, *, sqrt=False, scale=1.0):
    return SignalTransform(sqrt, torch.empty(0, 0), torch.zeros(n_chans, 1), torch.full((n_chans, 1), scale))


def saved(folder, array, name="x.npy"):
    np.save(folder / name, array)
    return folder / name


def wave(times, channels=2):
    return np.stack([np.sin(2 * np.pi * (3 + c) * times) for c in range(channels)])[None].repeat(4, axis=0)


def test_npy(tmp_path, rng):
    x = rng.normal(size=(5, 3)).astype(np.float32)
    found = read_signals(saved(tmp_path, x), FMRI, scaled())
    assert np.array_equal(found.signals[:, :, 0], x)
    assert found.names == ("0", "1", "2", "3", "4")


def test_npy_channels_by_name(tmp_path, rng):
    x = rng.normal(size=(5, 4))
    (tmp_path / "names.txt").write_text("c\nother\nA\nb\n")
    found = read_signals(saved(tmp_path, x), FMRI, scaled(), FileOptions(channels=tmp_path / "names.txt"))
    assert np.allclose(found.signals[:, :, 0], x[:, [2, 3, 0]])


def test_npy_is_resampled_and_cropped(tmp_path):
    recorded = np.arange(-100, 300) / 200
    path = saved(tmp_path, wave(recorded))
    found = read_signals(path, EEG, scaled(2), FileOptions(sfreq=200.0, tmin=-0.5))
    assert found.signals.shape == (4, 2, 50)
    assert np.abs(found.signals - wave(EEG.times)).max() < 0.02
    assert any("resampled from 200 to 100 Hz" in note for note in found.notes)


def test_epochs(tmp_path):
    mne = pytest.importorskip("mne")
    times = np.arange(-20, 120) / 100
    info = mne.create_info(["Oz", "Fz", "O1"], 100.0, "eeg")
    data = wave(times, 3) * 1e-6
    mne.EpochsArray(data, info, tmin=-0.2, verbose="error").save(tmp_path / "x-epo.fif", verbose="error")
    found = read_signals(tmp_path / "x-epo.fif", EEG, scaled(2))
    assert np.allclose(found.signals, wave(EEG.times, 3)[:, [2, 0]], atol=1e-3)


def test_csv(tmp_path):
    (tmp_path / "x.csv").write_text("name,c,b,a\nfirst,3,2,1\nsecond,6,5,4\n")
    found = read_signals(tmp_path / "x.csv", FMRI, scaled())
    assert found.names == ("first", "second")
    assert found.signals[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_volumes(tmp_path, rng):
    nibabel = pytest.importorskip("nibabel")
    mask = np.zeros((2, 2, 2), dtype=np.uint8)
    mask[0, 1, 0] = mask[1, 0, 0] = mask[1, 1, 1] = 1
    betas = rng.normal(size=(2, 2, 2, 4)).astype(np.float32)
    for name, values in (("mask", mask), ("betas", betas), ("one", betas[..., 0])):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
    options = FileOptions(mask=tmp_path / "mask.nii.gz")
    found = read_signals(tmp_path / "betas.nii.gz", FMRI, scaled(), options)
    assert np.array_equal(found.signals[:, :, 0], np.stack([betas[0, 1, 0], betas[1, 0, 0], betas[1, 1, 1]], axis=1))
    assert len(read_signals(tmp_path / "one.nii.gz", FMRI, scaled(), options).signals) == 1
    nibabel.save(nibabel.Nifti1Image(mask, 2 * np.eye(4)), tmp_path / "moved.nii.gz")
    with pytest.raises(InputError, match="affines differ"):
        read_signals(tmp_path / "betas.nii.gz", FMRI, scaled(), FileOptions(mask=tmp_path / "moved.nii.gz"))
    with pytest.raises(InputError, match="need the mask"):
        read_signals(tmp_path / "betas.nii.gz", FMRI, scaled())
    nibabel.save(nibabel.Nifti1Image(np.ones_like(mask), np.eye(4)), tmp_path / "all.nii.gz")
    with pytest.raises(InputError, match="8 voxels, the run takes 3"):
        read_signals(tmp_path / "betas.nii.gz", FMRI, scaled(), FileOptions(mask=tmp_path / "all.nii.gz"))
    (tmp_path / "broken.nii.gz").write_bytes((tmp_path / "betas.nii.gz").read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read as a volume"):
        read_signals(tmp_path / "broken.nii.gz", FMRI, scaled(), options)


def test_odd_units_are_noticed(tmp_path, rng):
    path = saved(tmp_path, 1e-6 * rng.normal(size=(5, 3)))
    assert any("check their unit" in note for note in read_signals(path, FMRI, scaled()).notes)
    assert not read_signals(saved(tmp_path, rng.normal(size=(5, 3))), FMRI, scaled()).notes[1:]


BAD = {
    "missing": (lambda f: f / "nothing.npy", FMRI, {}, "no such file"),
    "kind": (lambda f: _text(f / "x.mat", "x"), FMRI, {}, "of no kind known"),
    "not numpy": (lambda f: _text(f / "x.npy", "hello"), FMRI, {}, "not a whole .npy"),
    "channels": (lambda f: saved(f, np.ones((4, 5))), FMRI, {}, "has 5 channels, the run takes 3 channels"),
    "dimensions": (lambda f: saved(f, np.ones(4)), FMRI, {}, "has shape (4,)"),
    "text": (lambda f: saved(f, np.array([["a"] * 3])), FMRI, {}, "expected (n, n_chans, n_times)"),
    "empty": (lambda f: saved(f, np.ones((0, 3))), FMRI, {}, "holds no signal"),
    "NaN": (lambda f: saved(f, np.full((2, 3), np.nan)), FMRI, {}, "NaN or infinity"),
    "samples": (lambda f: saved(f, np.ones((4, 3, 2))), FMRI, {}, "has 2 samples"),
    "no rate": (lambda f: saved(f, np.ones((4, 2, 60))), EEG, {}, "give --sfreq and --tmin"),
    "short": (lambda f: saved(f, np.ones((4, 2, 40))), EEG, {"sfreq": 100.0, "tmin": 0.0}, "cut the epochs wider"),
    "late": (lambda f: saved(f, np.ones((4, 2, 60))), EEG, {"sfreq": 100.0, "tmin": 0.1}, "cut the epochs wider"),
    "rate": (lambda f: saved(f, np.ones((4, 2, 60))), EEG, {"sfreq": -1.0, "tmin": 0.0}, "the sampling rate is -1"),
    "csv channel": (lambda f: _text(f / "x.csv", "a,b\n1,2\n"), FMRI, {}, "lacks 1 of the run's 3 channels"),
    "csv words": (lambda f: _text(f / "x.csv", "a,b,c\n1,2,x\n"), FMRI, {}, "line 2"),
    "csv ragged": (lambda f: _text(f / "x.csv", "a,b,c\n1,2\n"), FMRI, {}, "line 2 has 2 values"),
    "csv empty": (lambda f: _text(f / "x.csv", "a,b,c\n"), FMRI, {}, "has 1 lines"),
    "csv twice": (lambda f: _text(f / "x.csv", "a,b,c,a\n1,2,3,4\n"), FMRI, {}, "stands twice"),
    "csv time": (lambda f: _text(f / "x.csv", "O1,Oz\n1,2\n"), EEG, {}, "one value a channel"),
    "fif": (lambda f: _text(f / "x-epo.fif", "x"), EEG, {}, "cannot be read as epochs"),
}


def _text(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", BAD)
def test_refused(name, tmp_path):
    make, wanted, options, words = BAD[name]
    with pytest.raises(InputError) as refused:
        read_signals(make(tmp_path), wanted, scaled(len(wanted.ch_names)), FileOptions(**options))
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_counts_are_not_negative(tmp_path):
    with pytest.raises(InputError, match="takes counts"):
        read_signals(saved(tmp_path, -np.ones((2, 3))), FMRI, scaled(sqrt=True))


@pytest.mark.parametrize(
    ("option", "value", "kinds", "said"),
    [
        ("mask", "m.nii", (".npy", ".fif", ".csv"), "a mask is for volumes"),
        ("channels", "names.txt", (".nii.gz", ".fif", ".csv"), "a list of channel names is for .npy files"),
        ("sfreq", 100.0, (".nii.gz", ".fif", ".csv"), "a sampling rate is for .npy files"),
        ("tmin", 0.0, (".nii.gz", ".fif", ".csv"), "a first sample is for .npy files"),
    ],
)
def test_options_for_another_kind_of_file_are_refused(tmp_path, option, value, kinds, said):
    for kind in kinds:
        path = _text(tmp_path / f"x{kind}", "a,b,c\n1,2,3\n")
        with pytest.raises(InputError, match=f"--{option}: {said}"):
            read_signals(path, FMRI, scaled(), FileOptions(**{option: value}))


@pytest.mark.parametrize("option", ["sfreq", "tmin"])
def test_times_for_a_run_without_time_are_refused(tmp_path, option):
    with pytest.raises(InputError, match=f"--{option}: the run has no sampling rate"):
        read_signals(saved(tmp_path, np.ones((2, 3))), FMRI, scaled(), FileOptions(**{option: 0.1}))
