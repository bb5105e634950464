"""THINGS-fMRI in its real layout: what comes out is what was written, and what is damaged is refused in one line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from things_mri_meg_support import (
    FMRI_TEST,
    FMRI_TRAIN,
    N_VOXELS,
    betas,
    stimulus_table,
    voxel_table,
    write_fmri,
    write_frame,
    write_photos,
)

from brainalign.datasets import open_dataset
from brainalign.datasets.things_fmri import ThingsFMRI
from brainalign.datasets.things_fmri import store as store_module
from brainalign.errors import InputError
from brainalign.protocols import find_protocol, lint_split
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings.selection import select_signals


def opened(root: Path) -> ThingsFMRI:
    return ThingsFMRI(root, cache_dir=root.parent / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def check_values(dataset: ThingsFMRI, values: np.ndarray) -> None:
    recording, table = dataset.recording("01"), stimulus_table()
    assert (recording.modality, recording.subject, recording.unit) == ("fmri", "01", "beta")
    assert (recording.n_chans, recording.n_times, recording.sfreq) == (N_VOXELS, 1, None)
    assert recording.ch_names[7] == "voxel000007"
    assert recording.trials["stimulus_id"].tolist() == [f"things/{name[:-4]}" for name in table["stimulus"]]
    assert recording.trials["part"].tolist() == table["trial_type"].tolist()
    assert recording.trials["session"].tolist() == table["session"].tolist()
    read = recording.read(np.arange(len(recording)))[:, :, 0]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.T.astype(np.float32))


@pytest.mark.parametrize("labels", ["pickled", "text"])
@pytest.mark.parametrize("place", ["betas_csv", "derivatives/betas_csv", ""])
def test_values_are_those_written(root: Path, labels: str, place: str) -> None:
    check_values(opened(root), write_fmri(root / place, labels=labels))


@pytest.mark.parametrize("options", [{"chunks": (7, 10), "compression": "gzip"}, {"chunks": (50, 1)}])
def test_chunked_files_and_small_blocks(root: Path, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 8 * 48 * 9)
    check_values(opened(root), write_fmri(root / "betas_csv", **options))


def test_voxel_numbers_among_the_betas(root: Path) -> None:
    values = write_fmri(root)
    with h5py.File(root / "sub-01_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group["block0_values"] = np.c_[np.arange(N_VOXELS), values]
        group["block0_items"] = np.array([b"voxel_id", *(str(i).encode() for i in range(values.shape[1]))])
    check_values(opened(root), values)


def test_one_plain_dataset(root: Path) -> None:
    values = write_fmri(root)
    with h5py.File(root / "sub-01_ResponseData.h5", "w") as file:
        file["betas"] = values
    check_values(opened(root), values)


def test_layout_of_openneuro(root: Path) -> None:
    folder = root / "derivatives/ICA-betas/sub-01/voxel-metadata"
    values = betas()
    write_frame(folder / "sub-01_task-things_voxel-wise-responses.h5", values)
    stimulus_table().to_csv(folder / "sub-01_task-things_stimulus-metadata.tsv", index=False)  # commas, as published
    voxel_table().to_csv(folder / "sub-01_task-things_voxel-metadata.tsv", index=False, sep="\t")
    check_values(opened(root), values)


def test_trial_numbers_decide_the_column(root: Path) -> None:
    values = write_fmri(root)
    table = stimulus_table()
    table.iloc[::-1].to_csv(root / "sub-01_StimulusMetadata.csv", index=False)
    check_values(opened(root), values)


def test_catch_trials_are_left_out(root: Path) -> None:
    values = write_fmri(root)
    table = stimulus_table()
    table.loc[[2, 5], "trial_type"] = "catch"
    table.loc[[2, 5], "stimulus"] = "made_up.jpg"
    table.to_csv(root / "sub-01_StimulusMetadata.csv", index=False)
    recording = opened(root).recording("01")
    keep = np.setdiff1d(np.arange(len(table)), [2, 5])
    np.testing.assert_array_equal(recording.read(np.arange(len(keep)))[:, :, 0], values.T[keep].astype(np.float32))


def test_empty_voxels_are_left_out(root: Path) -> None:
    values = write_fmri(root)
    hollow = values.copy()
    hollow[[3, 20]] = np.nan
    write_frame(root / "sub-01_ResponseData.h5", hollow)
    recording = opened(root).recording("01")
    keep = np.setdiff1d(np.arange(N_VOXELS), [3, 20])
    assert recording.channels["voxel_id"].tolist() == keep.tolist()
    np.testing.assert_array_equal(recording.read([4])[0, :, 0], values[keep, 4].astype(np.float32))


def test_the_second_time_comes_from_the_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = write_fmri(root)
    opened(root).recording("01")
    monkeypatch.setattr(store_module, "open_betas", None)
    check_values(opened(root), values)
    assert isinstance(opened(root).recording("01").signals, np.memmap)


def test_repetitions_are_averaged(root: Path) -> None:
    values = write_fmri(root)
    recording, table = opened(root).recording("01"), stimulus_table()
    shown = (table["stimulus"] == f"{FMRI_TEST[0]}.jpg").to_numpy()
    assert recording.repetitions([f"things/{FMRI_TEST[0]}", f"things/{FMRI_TRAIN[0]}"]).tolist() == [12, 1]
    mean = recording.average([f"things/{FMRI_TEST[0]}"])[0, :, 0]
    np.testing.assert_allclose(mean, values[:, shown].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_regions_choose_voxels(root: Path) -> None:
    write_fmri(root)
    recording = opened(root).recording("01")

    def chosen(**settings: object) -> list[int]:
        return [int(name[5:]) for name in select_signals(recording, SignalSettings(**settings)).ch_names]

    assert chosen(channels=["roi:V1"]) == list(range(10))
    assert chosen(channels=["roi:V2,LO1 (prf)"]) == [*range(10, 25), 30]
    assert chosen(channels=["roi:lFFA", "voxel000040"]) == [5, 6, 40]
    ceiling = np.arange(N_VOXELS) * 7 % N_VOXELS
    assert chosen(channels=["top:noise_ceiling"], n_channels=5) == sorted(np.argsort(-ceiling)[:5].tolist())
    inside = np.arange(10, 25)
    best = sorted(inside[np.argsort(-ceiling[10:25])[:4]].tolist())
    assert chosen(channels=["roi:V2", "top:noise_ceiling"], n_channels=4) == best
    assert len(chosen(channels="all", n_channels=6)) == 6
    picked = select_signals(recording, SignalSettings(channels=["roi:V2"]))
    np.testing.assert_array_equal(picked.read([0])[0, :, 0], betas()[10:25, 0].astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": ["roi:V9"]}, r"unknown region 'V9'; did you mean 'V"),
        ({"channels": ["roi:voxel_x"]}, r"unknown region 'voxel_x'"),
        ({"channels": ["top:noise"], "n_channels": 3}, r"unknown column of numbers 'noise'; did you mean"),
        ({"channels": ["top:noise_ceiling"]}, r"set signals\.n_channels"),
    ],
)
def test_unknown_regions_are_named(root: Path, settings: dict, message: str) -> None:
    write_fmri(root)
    with pytest.raises(InputError, match=message):
        select_signals(opened(root).recording("01"), SignalSettings(**settings))


def test_intra_holds_out_concepts(root: Path) -> None:
    write_fmri(root)
    write_photos(root, FMRI_TRAIN + FMRI_TEST)
    dataset = opened(root)
    stimuli = dataset.stimuli("01")
    split = find_protocol("things-fmri/intra/v1").split(0, stimuli, dataset.recording("01"))
    concepts = [{name.rpartition("_")[0] for name in part} for part in (split.train, split.validation, split.test)]
    assert concepts[2] == {"things/aardvark", "things/bat1"}
    assert not concepts[0] & concepts[1]
    assert not (concepts[0] | concepts[1]) & concepts[2]
    assert len(split.train) + len(split.validation) == 18
    assert split.validation_kind == "concept-disjoint"
    assert not lint_split(split, stimuli)


def test_official_says_that_concepts_are_shared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    write_fmri(root)
    write_photos(root, FMRI_TRAIN + FMRI_TEST)
    dataset = opened(root)
    stimuli, recording = dataset.stimuli("01"), dataset.recording("01")
    protocol = find_protocol("things-fmri/official/v1")
    with pytest.raises(InputError, match="needs at least 508 training images, there are 24"):
        protocol.split(0, stimuli, recording)
    split = dataclasses.replace(protocol, n_validation=6).split(0, stimuli, recording)
    assert (len(split.train), len(split.validation), set(split.test)) == (18, 6, {f"things/{s}" for s in FMRI_TEST})
    found = {finding.code: finding.severity for finding in lint_split(split, stimuli)}
    assert found["concepts-shared-training-test"] == "note"
    assert found["validation-by-image"] == "note"


def test_stimuli_join_with_other_things_data(root: Path) -> None:
    write_fmri(root)
    stimuli = opened(root).stimuli("01")
    assert set(stimuli.ids) == {f"things/{stem}" for stem in FMRI_TRAIN + FMRI_TEST}
    assert stimuli.column("concept", ["things/bat1_15n"]) == ["bat1"]


def test_check(root: Path) -> None:
    write_fmri(root / "betas_csv")
    write_fmri(root / "betas_csv", "03")
    (root / "betas_csv/sub-03_VoxelMetadata.csv").unlink()
    findings = {found.where: found for found in opened(root).check()}
    assert "50 voxels, 4 regions, 48 trials; 24 train photos x 1, not as published" in findings["subject 01"].text
    assert "VoxelMetadata.csv: cannot be read" in findings["subject 03"].text
    assert "fetch things-fmri --subject 02" in findings["betas_csv/sub-02_ResponseData.h5"].text
    assert not findings["object_images/aardvark/aardvark_01b.jpg"].ok
    assert not (root.parent / "cache").exists()


def test_registered() -> None:
    assert isinstance(open_dataset("things-fmri"), ThingsFMRI)


def rewrite(edit: Callable[[pd.DataFrame], pd.DataFrame], name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / f"sub-01_{name}.csv"
        edit(pd.read_csv(path)).to_csv(path, index=False)

    return damage


def reopen(edit: Callable[[h5py.Group], None]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with h5py.File(root / "sub-01_ResponseData.h5", "r+") as file:
            edit(file["ResponseData"])

    return damage


def replace_values(values: object, **options: object) -> Callable[[Path], None]:
    def edit(group: h5py.Group) -> None:
        del group["block0_values"]
        group.create_dataset("block0_values", data=values, **options)

    return reopen(edit)


def objects(root: Path) -> None:
    def edit(group: h5py.Group) -> None:
        del group["block0_values"]
        group.create_dataset("block0_values", (N_VOXELS, 48), dtype=h5py.vlen_dtype(np.uint8))

    reopen(edit)(root)


def link_elsewhere(root: Path) -> None:
    def edit(group: h5py.Group) -> None:
        del group["block0_values"]
        group["block0_values"] = h5py.ExternalLink("/etc/other.h5", "/values")

    reopen(edit)(root)


def external_storage(root: Path) -> None:
    def edit(group: h5py.Group) -> None:
        del group["block0_values"]
        size = N_VOXELS * 48 * 8
        group.create_dataset("block0_values", (N_VOXELS, 48), "f8", external=[("/etc/passwd", 0, size)])

    reopen(edit)(root)


def table_format(root: Path) -> None:
    with h5py.File(root / "sub-01_ResponseData.h5", "w") as file:
        file.create_group("ResponseData")["table"] = np.zeros(3, dtype=[("index", "i8"), ("values_block_0", "f8", 4)])


def half(root: Path) -> None:
    path = root / "sub-01_ResponseData.h5"
    path.write_bytes(path.read_bytes()[:20_000])


def with_nan(row: int, trial: int) -> np.ndarray:
    values = betas()
    values[row, trial] = np.nan
    return values


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    table.loc[[4, 5], "voxel_id"] = [5, 4]
    return table


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (half, r"ResponseData\.h5: is not a whole HDF5 file"),
    "not HDF5": (lambda r: (r / "sub-01_ResponseData.h5").write_bytes(b"PK" * 99), r"is not a whole HDF5 file"),
    "objects": (objects, r"'block0_values' holds pickled objects, expected numbers"),
    "link": (link_elsewhere, r"'block0_values' is a link to elsewhere"),
    "external storage": (external_storage, r"takes its numbers from other files"),
    "table format": (table_format, r"is stored as a pandas table, expected pandas' fixed format"),
    "whole numbers": (replace_values(np.zeros((N_VOXELS, 48), int)), r"has int64 betas, expected a float type"),
    "three axes": (replace_values(np.zeros((N_VOXELS, 48, 2))), r"has betas of shape \(50, 48, 2\)"),
    "too few trials": (replace_values(betas()[:, :40]), r"50 voxels x 40 trials, the table of trials has 48"),
    "too few voxels": (
        reopen(lambda g: (g.pop("block1_values"), g.pop("block1_items"), g.pop("block0_values"),
                          g.create_dataset("block0_values", data=betas()[:40]))),
        r"has 50 voxels, sub-01_ResponseData\.h5 has 40",
    ),
    "NaN": (replace_values(with_nan(12, 7)), r"holds NaN or infinity, first in row 12, trial 7"),
    "too large for float32": (replace_values(betas() * 1e300), r"holds NaN or infinity|holds no beta at all"),
    "no betas": (replace_values(betas() * np.nan), r"holds no beta at all"),
    "no block": (reopen(lambda g: g.pop("block0_values") and g.pop("block1_values")), r"expected block0_values"),
    "other voxels": (rewrite(swapped, "VoxelMetadata"), r"row 4 is voxel 5, in sub-01_ResponseData\.h5 it is voxel 4"),
    "voxel twice": (rewrite(lambda t: t.assign(voxel_id=0), "VoxelMetadata"), r"voxel 0 stands twice"),
    "no voxel_id": (rewrite(lambda t: t.drop(columns="voxel_id"), "VoxelMetadata"), r"has no column 'voxel_id'"),
    "no stimulus": (rewrite(lambda t: t.drop(columns="stimulus"), "StimulusMetadata"), r"has no column 'stimulus'"),
    "kind of trial": (rewrite(lambda t: t.assign(trial_type="rest"), "StimulusMetadata"), r"the trial_type 'rest'"),
    "photo name": (rewrite(lambda t: t.assign(stimulus="../x"), "StimulusMetadata"), r"names the photo '\.\./x'"),
    "session": (rewrite(lambda t: t.assign(session=1.5), "StimulusMetadata"), r"has a session that is no whole number"),
    "photo in both parts": (
        rewrite(lambda t: t.assign(stimulus=["dog_01b.jpg"] * len(t)), "StimulusMetadata"),
        r"things/dog_01b is a training and a test photo",
    ),
    "no trials": (rewrite(lambda t: t.iloc[:0], "StimulusMetadata"), r"has no row"),
    "table gone": (lambda r: (r / "sub-01_StimulusMetadata.csv").unlink(), r"StimulusMetadata\.csv: cannot be read"),
    "table of bytes": (lambda r: (r / "sub-01_VoxelMetadata.csv").write_bytes(b"\xff\0"), r"is not a table|no column"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_in_one_line(root: Path, kind: str) -> None:
    write_fmri(root)
    damage, message = DAMAGE[kind]
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        opened(root).recording("01")
    assert "\n" not in str(caught.value)
    assert not [path for path in root.parent.rglob("trials.json") if path.is_file()]
    assert not list(root.parent.rglob("*.partial"))


def test_two_places_are_refused(root: Path) -> None:
    write_fmri(root)
    write_fmri(root / "betas_csv")
    with pytest.raises(InputError, match="subject 01 lies here and in"):
        opened(root).recording("01")


def test_unknown_subject_and_empty_folder(root: Path) -> None:
    root.mkdir()
    with pytest.raises(InputError, match=r"holds no betas of THINGS-fMRI; looked for betas_csv"):
        opened(root).recording("01")
    write_fmri(root)
    with pytest.raises(InputError, match="has no subject '02'"):
        opened(root).recording("02")


def test_memory_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_voxels = 100_000
    write_fmri(root)
    voxel_table(n_voxels).to_csv(root / "sub-01_VoxelMetadata.csv", index=False)
    with h5py.File(root / "sub-01_ResponseData.h5", "w") as file:  # never written, so it takes no room
        file.create_dataset("ResponseData", (n_voxels, 480), "f8", chunks=(1000, 480))
    table = pd.concat([stimulus_table()] * 10, ignore_index=True)
    table["trial_id"] = np.arange(len(table))
    table.to_csv(root / "sub-01_StimulusMetadata.csv", index=False)
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 2**23)
    tracemalloc.start()  # numpy tells it of every array
    try:
        assert opened(root).recording("01").signals.shape == (480, n_voxels, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n_voxels * 480 * 4 / 2
