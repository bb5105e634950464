"""NSD in its real layout: what comes out is what was written, and what is damaged is refused in one line."""

from __future__ import annotations

import gzip
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from nsd_support import (
    BETAS,
    DESIGN,
    MASK,
    N_OWN,
    N_SHARED,
    ROI,
    SCENES,
    SHAPE,
    TABLE,
    TRIALS,
    design,
    ncsnr,
    roi_labels,
    session_betas,
    shown,
    stimulus_table,
    write_betas,
    write_design,
    write_nsd,
    write_volume,
)
from tests_support import FAST

from brainalign.cli.main import run
from brainalign.datasets import open_dataset
from brainalign.datasets.nsd import NSD
from brainalign.datasets.nsd import pictures as pictures_module
from brainalign.datasets.nsd import store as store_module
from brainalign.errors import InputError
from brainalign.protocols import find_protocol, lint_split
from brainalign.recipes.recipe import SignalSettings
from brainalign.recordings.selection import select_signals
from brainalign.stimuli import StimulusSet


def opened(root: Path) -> NSD:
    return NSD(root, cache_dir=root.parent / "cache")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions with scenes, written once; tests copy what they change."""
    root = tmp_path_factory.mktemp("nsd") / "data"
    write_nsd(root, sessions=2, scenes=True, table=True)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy without scenes of the first session."""
    target = tmp_path / "data"
    shutil.copytree(written, target, ignore=shutil.ignore_patterns("*session02*", "nsd_stimuli.hdf5", "*.csv"))
    return target


def expected(sessions: int) -> np.ndarray:
    """z-scores (trials, voxels), voxels in the order of z, y, x, by numpy from the definition."""
    found = []
    for session in range(1, sessions + 1):
        values = session_betas(session).astype(np.float64).transpose(0, 3, 2, 1)[:, MASK.transpose(2, 1, 0)] / 300
        own = ~np.isin(shown(session)[-TRIALS:], design()["sharedix"][0] - 1)
        found.append((values - values[own].mean(axis=0)) / values[own].std(axis=0))
    return np.concatenate(found)


def test_values_are_those_written(written: Path, tmp_path: Path) -> None:
    recording = NSD(written, cache_dir=tmp_path).recording("01")
    assert (recording.modality, recording.subject, recording.unit, recording.n_times) == ("fmri", "01", "z", 1)
    assert recording.n_chans == MASK.sum()
    assert recording.trials["stimulus_id"].tolist() == [f"nsd/{number:05d}" for number in shown(2)]
    assert recording.trials["session"].tolist() == [1] * TRIALS + [2] * TRIALS
    shared = np.isin(shown(2), design()["sharedix"][0] - 1)
    assert recording.trials["part"].tolist() == np.where(shared, "test", "train").tolist()
    rows = np.random.default_rng(0).permutation(2 * TRIALS)
    np.testing.assert_allclose(recording.read(rows)[:, :, 0], expected(2)[rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (16, 3, 2, 5), "compression": "gzip"},
        {"chunks": (750, 2, 1, 5)},
        {"chunks": (750, 7, 1, 1)},
        {"chunks": (40, 1, 6, 5)},
    ],
)
def test_chunked_files_and_small_blocks(root: Path, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 2 * 7 * 6 * 5 * 37)
    write_betas(root / BETAS / "betas_session01.hdf5", session_betas(1), **options)
    read = opened(root).recording("01").read(np.arange(TRIALS))[:, :, 0]
    np.testing.assert_allclose(read, expected(1), rtol=1e-4, atol=1e-5)


def test_voxels_regions_and_ceilings(root: Path) -> None:
    recording = opened(root).recording("01")
    table = recording.channels
    assert table is not None
    places = np.argwhere(MASK.transpose(2, 1, 0))
    assert table[["z", "y", "x"]].to_numpy().tolist() == places.tolist()
    z, y, x = places[3]
    assert recording.ch_names[3] == f"voxel{z * 30 + y * 5 + x:06d}"  # volumes of 7 x 6 x 5
    labels = roi_labels().transpose(2, 1, 0)[MASK.transpose(2, 1, 0)]
    for region, numbers in {"V1v": [1], "V1": [1, 2], "V3": [5, 6], "hV4": [7], "prf-visualrois": range(1, 8)}.items():
        np.testing.assert_array_equal(table[region], np.isin(labels, numbers))
    np.testing.assert_array_equal(table["RSC"], np.clip(labels, -1, 3) == 3)
    ratio = ncsnr().transpose(2, 1, 0)[MASK.transpose(2, 1, 0)].astype(float)
    np.testing.assert_allclose(table["noise_ceiling"], 100 * ratio**2 / (ratio**2 + 1 / 3), rtol=1e-6)
    assert table["noise_ceiling"].isna().sum() == 1
    picked = select_signals(recording, SignalSettings(channels=["roi:V1,hV4"]))
    assert picked.n_chans == np.isin(labels, [1, 2, 7]).sum()
    best = select_signals(recording, SignalSettings(channels=["top:noise_ceiling"], n_channels=4))
    highest = np.sort(np.argsort(-np.nan_to_num(ratio, nan=-1))[:4])
    assert best.ch_names == tuple(recording.ch_names[i] for i in highest)


def test_regions_and_ceilings_may_be_absent(root: Path) -> None:
    for path in (f"{ROI}/prf-visualrois.nii.gz", f"{ROI}/floc-places.nii.gz", f"{BETAS}/ncsnr.nii.gz"):
        (root / path).unlink()
    table = opened(root).recording("01").channels
    assert table is not None
    assert list(table.columns) == ["x", "y", "z"]


def test_constant_voxels(root: Path) -> None:
    """Constant in every session: left out. Constant in one: 0 there, in the others its values."""
    first, second = (session_betas(session) for session in (1, 2))
    places = np.argwhere(MASK.transpose(2, 1, 0))[:, ::-1]
    always, once = tuple(places[2]), tuple(places[5])
    for volumes in (first, second):
        volumes[(slice(None), *always)] = 0
    first[(slice(None), *once)] = 1234
    write_betas(root / BETAS / "betas_session01.hdf5", first)
    write_betas(root / BETAS / "betas_session02.hdf5", second)
    recording = opened(root).recording("01")
    keep = np.setdiff1d(np.arange(MASK.sum()), [2])
    assert recording.channels is not None
    assert recording.channels[["x", "y", "z"]].to_numpy().tolist() == places[keep].tolist()
    read = recording.read(np.arange(2 * TRIALS))[:, :, 0]
    wanted = expected(2)[:, keep]
    wanted[:TRIALS, 4] = 0
    np.testing.assert_allclose(read, wanted, rtol=1e-4, atol=1e-5)


def test_a_session_more_is_copied_alone(root: Path, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(root).recording("01")
    assert not list(root.parent.rglob("*.partial"))
    shutil.copy(written / BETAS / "betas_session02.hdf5", root / BETAS)
    made: list[Path] = []
    make = store_module._make
    monkeypatch.setattr(store_module, "_make", lambda path, *rest: (made.append(path), make(path, *rest)))
    opened(root).recording("01")
    assert [path.name for path in made] == ["betas_session02.hdf5"]
    recording = opened(root).recording("01")
    assert len(made) == 1
    np.testing.assert_allclose(recording.read([760])[:, :, 0], expected(2)[[760]], rtol=1e-4, atol=1e-5)
    facts = opened(root).facts()
    assert (facts["name"], facts["sessions"], list(facts["recordings"])) == ("nsd", {"01": 2}, ["01"])


def test_scenes_become_files_once(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = NSD(written, cache_dir=tmp_path)
    stimuli = dataset.stimuli("01")
    numbers = np.unique(shown(2))
    assert stimuli.ids == tuple(f"nsd/{number:05d}" for number in numbers)
    assert len(stimuli) == N_SHARED + N_OWN
    with h5py.File(written / SCENES) as file:
        for row in (0, 40):
            np.testing.assert_array_equal(np.asarray(stimuli.image(row)), file["imgBrick"][numbers[row]])
    assert Path(stimuli.path(0)).suffix == ".png"
    assert stimuli.table["coco_id"].tolist() == (numbers * 3 + 9).tolist()
    before = {row: Path(stimuli.path(row)).stat().st_mtime_ns for row in range(len(stimuli))}
    Path(stimuli.path(7)).unlink()  # as after an interruption
    written_again: list[int] = []
    write = pictures_module._write
    monkeypatch.setattr(
        pictures_module, "_write", lambda p, todo, *rest: (written_again.extend(todo), write(p, todo, *rest))
    )
    again = NSD(written, cache_dir=tmp_path).stimuli("01")
    assert written_again == [numbers[7]]
    after = {row: Path(again.path(row)).stat().st_mtime_ns for row in range(len(again))}
    assert {row for row in before if before[row] != after[row]} == {7}
    assert again.image_ids == stimuli.image_ids


def test_shared_images_are_tested(root: Path) -> None:
    recording = opened(root).recording("01")
    ids = sorted(set(recording.trials["stimulus_id"]))
    stimuli = StimulusSet(pd.DataFrame({"stimulus_id": ids, "path": ids}))
    shared = {f"nsd/{number - 1:05d}" for number in design()["sharedix"][0, : N_SHARED - 1]}
    split = find_protocol("nsd/intra/v1").split(0, stimuli, recording)
    assert set(split.test) == shared
    assert (len(split.train), len(split.validation)) == (N_OWN - N_OWN // 5, N_OWN // 5)
    assert not shared & {*split.train, *split.validation}
    assert split.validation_kind == "image-disjoint"
    other = find_protocol("nsd/intra/v1").split(1, stimuli, recording)
    assert (set(other.test), set(other.validation) != set(split.validation)) == (shared, True)


def test_shared_images_shown_too_seldom_are_left_out(root: Path) -> None:
    """Twice only: no test image, and no training image either; the papers' way tests it."""
    order = design()["masterordering"].copy()
    rare = np.flatnonzero(order[0, :TRIALS] == 1)[2:]
    order[0, rare] = 2
    write_design(root, masterordering=order)
    recording = opened(root).recording("01")
    ids = sorted(set(recording.trials["stimulus_id"]))
    stimuli = StimulusSet(pd.DataFrame({"stimulus_id": ids, "path": ids}))
    name = f"nsd/{design()['sharedix'][0, 0] - 1:05d}"
    assert recording.repetitions([name]).tolist() == [2]
    split = find_protocol("nsd/intra/v1").split(0, stimuli, recording)
    assert name not in {*split.train, *split.validation, *split.test}
    assert name in find_protocol("nsd/intra/paper").split(0, stimuli, recording).test


def test_lint_says_validation_is_by_image(written: Path, tmp_path: Path) -> None:
    dataset = NSD(written, cache_dir=tmp_path)
    stimuli = dataset.stimuli("01")
    split = find_protocol("nsd/intra/v1").split(0, stimuli, dataset.recording("01"))
    assert [f.code for f in lint_split(split, stimuli)] == ["validation-by-image"]


def test_check(written: Path, root: Path) -> None:
    found = {f.where: f for f in NSD(written, cache_dir=root.parent / "cache").check()}
    assert all(f.ok for f in found.values())
    assert f"2 of 40 sessions, {MASK.sum()} voxels of nsdgeneral; 50 training images" in found["subject 01"].text
    assert "14 shared images shown 3 times, 14 in all; without prf-eccrois" in found["subject 01"].text
    assert not (root.parent / "cache").exists()
    (root / DESIGN).unlink()
    (root / TABLE).with_suffix(".pkl").write_bytes(b"\x80\x04")
    found = {f.where: f for f in opened(root).check()}
    assert not found[DESIGN].ok
    assert "sign the agreement at naturalscenesdataset.org" in found[DESIGN].text
    assert "missing (40 GB)" in found[SCENES].text
    assert "never opened" in found[TABLE].text
    assert not found[TABLE].ok
    absent = found["nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5"]
    assert "02, 03, 04, 05, 06, 07, 08 (about 1 GB a session)" in absent.text


def test_registered_and_not_fetched() -> None:
    assert isinstance(open_dataset("nsd"), NSD)
    with pytest.raises(InputError, match="an agreement comes first; sign the agreement"):
        NSD.remote_files(("01",))


def replaced(path: str, **changes: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with h5py.File(root / path, "w") as file:
            for name, options in changes.items():
                file.create_dataset(name, **options)  # type: ignore[arg-type]

    return damage


def links(target: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with h5py.File(root / FIRST, "w") as file:
            file["betas"] = target

    return damage


def external(root: Path) -> None:
    with h5py.File(root / FIRST, "w") as file:
        size = TRIALS * 210 * 2
        file.create_dataset("betas", (TRIALS, 7, 6, 5), "i2", external=[("/etc/passwd", 0, size)])


def cut(path: str, size: int) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:size])


def rewrite(values: object, path: str = f"{ROI}/nsdgeneral.nii.gz") -> Callable[[Path], None]:
    return lambda root: write_volume(root / path, np.asarray(values))


def designed(edit: Callable[[dict[str, np.ndarray]], dict[str, object]]) -> Callable[[Path], None]:
    return lambda root: write_design(root, **edit(design()))


def at(array: np.ndarray, where: tuple[int, int], value: float) -> np.ndarray:
    changed = array.astype(np.float64)
    changed[where] = value
    return changed


def tabled(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda root: edit(stimulus_table()).to_csv(root / TABLE)


def bomb(root: Path) -> None:
    """A header that says 2 TB, as a gzip bomb would."""
    path = root / ROI / "nsdgeneral.nii.gz"
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[42:48] = np.array([10_000] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(header)))


def later_session(root: Path) -> None:
    shutil.copy(root / FIRST, root / BETAS / "betas_session03.hdf5")


def other_volumes(root: Path) -> None:
    write_betas(root / BETAS / "betas_session02.hdf5", np.zeros((TRIALS, 5, 6, 8), np.int16))


def row_moved(table: pd.DataFrame) -> pd.DataFrame:
    table["subject1_rep0"] = np.roll(table["subject1_rep0"], 1)
    return table


FIRST = f"{BETAS}/betas_session01.hdf5"
LABELS = f"{ROI}/prf-visualrois.nii.gz"
ZEROS = np.zeros((TRIALS, 7, 6, 5), np.int16)
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (cut(FIRST, 50_000), r"betas_session01\.hdf5: is not a whole HDF5 file"),
    "not HDF5": (lambda r: (r / FIRST).write_bytes(b"PK" * 99), r"is not a whole HDF5 file"),
    "no betas": (replaced(FIRST, other={"data": ZEROS}), r"holds other, expected 'betas'"),
    "a group": (lambda r: h5py.File(r / FIRST, "w").create_group("betas").file.close(), r"is a group, expected"),
    "floats": (replaced(FIRST, betas={"data": ZEROS.astype(np.float32)}), r"'betas' is of float32, expected int16"),
    "three axes": (replaced(FIRST, betas={"data": ZEROS[:, 0]}), r"shape \(750, 6, 5\), expected \(750, any, any"),
    "too few trials": (replaced(FIRST, betas={"data": ZEROS[:700]}), r"shape \(700, 7, 6, 5\), expected \(750"),
    "huge chunks": (
        replaced(FIRST, betas={"shape": (TRIALS, 700, 600, 500), "dtype": "i2", "chunks": (TRIALS, 7, 600, 500)}),
        r"'betas' is cut into chunks of \(750, 7, 600, 500\)",
    ),
    "constant": (replaced(FIRST, betas={"data": ZEROS}), r"is constant in every voxel of nsdgeneral"),
    "soft link": (links(h5py.ExternalLink("/etc/other.h5", "/betas")), r"'betas' is a link to elsewhere"),
    "external": (external, r"takes its numbers from other files"),
    "session missing": (later_session, r"betas_session02\.hdf5: no such file, later sessions are there"),
    "other volumes": (other_volumes, r"'betas' has shape \(750, 8, 6, 5\), expected \(750, 7, 6, 5\)"),
    "no mask": (lambda r: (r / ROI / "nsdgeneral.nii.gz").unlink(), r"nsdgeneral\.nii\.gz: no such file"),
    "mask of another shape": (rewrite(np.ones((6, 5, 7), np.int16)), r"has shape \(6, 5, 7\), the betas are of \(5,"),
    "huge mask": (bomb, r"has shape \(10000, 10000, 10000\), the betas are of"),
    "empty mask": (rewrite(np.zeros(SHAPE, np.int16)), r"marks no voxel"),
    "mask cut": (cut(f"{ROI}/nsdgeneral.nii.gz", 90), r"is not a whole NIfTI volume"),
    "mask of bytes": (lambda r: (r / ROI / "nsdgeneral.nii.gz").write_bytes(b"GIF89"), r"is not a whole NIfTI"),
    "unknown label": (rewrite(np.full(SHAPE, 9, np.int16), LABELS), r"holds the label 9, expected -1 to 7"),
    "half a label": (rewrite(np.full(SHAPE, 1.5, np.float32), LABELS), r"holds the label 1\.5, expected -1 to 7"),
    "NaN label": (rewrite(np.full(SHAPE, np.nan, np.float32), LABELS), r"holds the label nan, expected -1 to 7"),
    "regions elsewhere": (rewrite(np.ones((5, 6, 8), np.int16), LABELS), r"has shape \(5, 6, 8\), the betas are of"),
    "negative ratio": (
        rewrite(np.full(SHAPE, -1, np.float32), f"{BETAS}/ncsnr.nii.gz"), r"holds a negative or infinite ratio",
    ),
    "no design": (lambda r: (r / DESIGN).unlink(), r"nsd_expdesign\.mat: no such file"),
    "design cut": (cut(DESIGN, 2000), r"nsd_expdesign\.mat: (is not a whole MATLAB file|holds)"),
    "design of bytes": (lambda r: (r / DESIGN).write_bytes(b"hello" * 99), r"is not a whole MATLAB file"),
    "no sharedix": (designed(lambda d: {"sharedix": None}), r"holds .*, expected 'sharedix'"),
    "order too short": (
        designed(lambda d: {"masterordering": d["masterordering"][:, :-1]}), r"shape \(1, 29999\), expected \(1, 3",
    ),
    "order of zero": (
        designed(lambda d: {"masterordering": at(d["masterordering"], (0, 5), 0)}), r"holds 0, expected 1 to 10000",
    ),
    "NaN in order": (
        designed(lambda d: {"masterordering": at(d["masterordering"], (0, 5), np.nan)}), r"holds nan, expected 1 to",
    ),
    "image out of range": (
        designed(lambda d: {"subjectim": at(d["subjectim"], (0, 5000), 73001)}), r"holds 73001, expected 1 to 73000",
    ),
    "image twice": (
        designed(lambda d: {"subjectim": at(d["subjectim"], (2, 5000), d["subjectim"][2, 6000])}),
        r"row 3 of 'subjectim' holds image \d+ twice",
    ),
    "other shared images": (
        designed(lambda d: {"sharedix": at(d["sharedix"], (0, 0), d["subjectim"][1, 5000])}),
        r"the first 1000 images of 'subjectim' are not those of 'sharedix'",
    ),
    "table of bytes": (lambda r: (r / TABLE).write_bytes(b"\xff\0"), r"is not a table|has no column"),
    "no nsdId": (tabled(lambda t: t.drop(columns="nsdId")), r"has no column 'nsdId'"),
    "rows missing": (tabled(lambda t: t.iloc[:-1]), r"has 72999 rows, expected nsdId 0 to 72999"),
    "shared elsewhere": (tabled(lambda t: t.assign(shared1000=False)), r"'shared1000' marks other images"),
    "trials elsewhere": (tabled(row_moved), r"'subject1_rep0' of image \d+ contradicts"),
    "trial out of range": (tabled(lambda t: t.assign(subject1_rep1=30_001)), r"'subject1_rep1' holds something else"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_in_one_line(root: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        opened(root).recording("01")
    assert "\n" not in str(caught.value)
    kept = [
        path for path in root.parent.rglob("trials.json") if "session01" not in json.loads(path.read_text())["source"]
    ]
    assert not kept
    assert not list(root.parent.rglob("*.partial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (10, 425, 425, 3), "dtype": "u1"}, r"'imgBrick' has shape \(10, 425, 425, 3\), expected \(73000"),
        ({"shape": (73_000, 425, 425, 3), "dtype": "f4", "chunks": True}, r"is of float32, expected uint8"),
    ],
)
def test_damaged_scenes_are_refused(root: Path, options: dict, message: str) -> None:
    replaced(SCENES, imgBrick=options)(root)
    with pytest.raises(InputError, match=message):
        opened(root).stimuli("01")
    (root / SCENES).unlink()
    with pytest.raises(InputError, match=r"nsd_stimuli\.hdf5: no such file; see brainalign datasets check nsd"):
        opened(root).stimuli("01")


def test_unknown_subject_and_empty_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no subject '02'"):
        opened(root).recording("02")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no betas of NSD; looked for nsddata_betas"):
        NSD(tmp_path / "none", cache_dir=tmp_path).recording("01")


def test_memory_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes of 40 MB are read in blocks; what is kept are the few voxels of the mask."""
    shape = (50, 40, 30)
    with h5py.File(root / FIRST, "w") as file:
        data = file.create_dataset("betas", (TRIALS, *shape[::-1]), "i2", chunks=(10, *shape[::-1]))
        data[:10] = np.random.default_rng(0).integers(-300, 300, (10, *shape[::-1]))
    mask = np.zeros(shape, np.int16)
    mask[::7, ::5, ::3] = 1
    write_volume(root / ROI / "nsdgeneral.nii.gz", mask)
    for path in (f"{ROI}/prf-visualrois.nii.gz", f"{ROI}/floc-places.nii.gz", f"{BETAS}/ncsnr.nii.gz"):
        (root / path).unlink()
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 2**21)
    dataset = opened(root)
    dataset._trials("01")  # tables of fixed size
    tracemalloc.start()  # numpy tells it of every array
    try:
        assert dataset.recording("01").signals.shape == (TRIALS, int(mask.sum()), 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < TRIALS * 60_000 * 2 / 4


def test_train_through_the_command_line(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    words = ["--dataset", "nsd", "--root", str(written), "--subject", "01", "--out", str(out)]
    assert run(["train", "ridge", *words, *FAST, "--set", "target.layer=stage1", "--quiet", "--device", "cpu"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["protocol"], result["modality"], result["virtual"]) == ("nsd/intra/v1", "fmri", False)
    test = result["metrics"]["test"]
    assert (test["n_way"], test["n_queries"]) == (N_SHARED, N_SHARED)
    assert test["repetitions"] >= 3
    assert test["top1"] > 0.5  # betas are a linear map of the colours
    assert [f["code"] for f in result["lint"]] == ["validation-by-image"]
    assert "agreement" in result["data"]["licence"]
    assert len(list((tmp_path / "cache").rglob("*.png"))) == N_SHARED + N_OWN
