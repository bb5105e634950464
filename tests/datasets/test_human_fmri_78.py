"""human-fmri-78: the reader on the real files and on small made ones in the same layout, whole and damaged."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from brainalign.analysis.rsa_measures import compare, noise_ceiling
from brainalign.cli.main import run
from brainalign.datasets.commands import check, overview
from brainalign.datasets.human_fmri_78 import HumanFMRI78, public_files
from brainalign.datasets.registry import DATASETS
from brainalign.errors import InputError

NAME = "human-fmri-78"


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(DATASETS, NAME, "brainalign.datasets.human_fmri_78:HumanFMRI78")


def matrices(seed=0):
    """Distances of 15 people between 78 points."""
    points = np.random.default_rng(seed).normal(size=(15, 78, 4))
    return np.sqrt(((points[:, :, None] - points[:, None]) ** 2).sum(-1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("h78")
    (root / "brain_data").mkdir()
    (root / "stimuli_data").mkdir()
    for seed, region in enumerate(("EVC", "IT")):
        np.savez(root / f"brain_data/fmri_{region}_RDMs.npz", matrices(seed))
    rng = np.random.default_rng(0)
    for i in range(1, 79):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / f"stimuli_data/image_{i:02d}.jpg")
    return root


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def evc(root):
    return root / "brain_data/fmri_EVC_RDMs.npz"


def test_matrices_and_photos_are_in_the_order_of_the_files(made):
    dataset = HumanFMRI78(made)
    found = dataset.dissimilarities("IT")
    np.testing.assert_allclose(found.values, matrices(1), atol=1e-12)
    assert found.subjects == tuple(f"{i:02d}" for i in range(1, 16))
    assert found.stimulus_ids[0] == "human-fmri-78/image_01"
    assert found.stimulus_ids[77] == "human-fmri-78/image_78"
    assert dataset.stimuli("03").path(9).endswith("stimuli_data/image_10.jpg")
    assert dataset.stimuli("").image(0).size == (8, 8)


def test_arrays_stored_by_columns_or_compressed_are_the_same(copy):
    np.savez_compressed(evc(copy), np.asfortranarray(matrices(7)))
    np.testing.assert_allclose(HumanFMRI78(copy).dissimilarities("EVC").values, matrices(7), atol=1e-12)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


def bomb(path):
    """A header that claims 8 TB, as a file that someone wants to fill a memory with would."""
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (10_000, 10_000, 10_000)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue())


def spoil(kind, root):
    path, values = evc(root), matrices(0)
    match kind:
        case "missing":
            path.unlink()
        case "cut off":
            path.write_bytes(path.read_bytes()[:5000])
        case "flipped bytes":
            data = bytearray(path.read_bytes())
            data[20_000:20_400] = bytes(400)
            path.write_bytes(data)
        case "not a zip":
            path.write_text("<html>404</html>")
        case "pickled":
            objects = np.empty((15, 78, 78), dtype=object)
            objects[0, 0, 0] = Evil()
            np.savez(path, objects)
        case "another name":
            np.savez(path, rdms=values)
        case "another shape":
            np.savez(path, values[:, :70, :70])
        case "whole numbers":
            np.savez(path, values.astype(int))
        case "nan":
            values[4, 7, 9] = np.nan
            np.savez(path, values)
        case "skew":
            values[2, 5, 6] += 1
            np.savez(path, values)
        case "similarities":
            np.savez(path, 1 - values / values.max())
        case "bomb":
            bomb(path)
        case "text in the member":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("arr_0.npy", b"hello")
        case "compressed and flipped":
            np.savez_compressed(path, values)
            data = bytearray(path.read_bytes())
            data[20_000:20_400] = bytes(400)
            path.write_bytes(data)
        case "header of a whole file alone":
            whole = io.BytesIO()
            np.save(whole, values)
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("arr_0.npy", whole.getvalue()[:9000])
        case "header not closed":  # in a whole archive, its checksum right
            whole = io.BytesIO()
            np.save(whole, values)
            with zipfile.ZipFile(path, "w") as archive:
                content = whole.getvalue()
                archive.writestr("arr_0.npy", content[:64] + b" " * 63 + b"\n" + content[128:])
        case "photo missing":
            (root / "stimuli_data/image_44.jpg").unlink()
        case "photo too many":
            shutil.copy(root / "stimuli_data/image_44.jpg", root / "stimuli_data/image_44b.jpg")
        case "no photos":
            shutil.rmtree(root / "stimuli_data")


DAMAGE = {
    "missing": "no such file", "cut off": "not a whole .npz", "flipped bytes": "not a whole .npz",
    "not a zip": "not a whole .npz", "pickled": "of object, expected", "another name": "expected an array named arr_0",
    "another shape": "has shape (15, 70, 70)", "whole numbers": "of int64, expected", "nan": "subject 05 holds nan",
    "skew": "subject 03 is not symmetric", "similarities": "on its diagonal", "bomb": "has shape (10000, 10000, 10000)",
    "text in the member": "not a whole .npz", "compressed and flipped": "not a whole .npz",
    "header of a whole file alone": "not a whole .npz", "header not closed": "not a whole .npz",
    "photo missing": "has no image_44.jpg",
    "photo too many": "holds image_44b.jpg", "no photos": "no such folder",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "said"), DAMAGE.items())
def test_damaged_files_are_refused_in_one_line(copy, kind, said):
    spoil(kind, copy)
    with pytest.raises(InputError) as caught:
        HumanFMRI78(copy).dissimilarities("EVC")
    text = str(caught.value)
    assert said in text
    assert str(copy) in text
    assert "\n" not in text
    found = check(NAME, copy)
    assert any(not row["ok"] and said in row["text"] for row in found)


def test_made_files_are_not_those_of_the_commit_and_check_says_so(made):
    found = {row["where"]: row for row in check(NAME, made)}
    assert len(found) == 80 + 2
    assert not found["brain_data/fmri_EVC_RDMs.npz"]["ok"]
    assert "sha256" in found["stimuli_data/image_01.jpg"]["text"]
    assert found["region EVC"]["ok"]


def test_wrong_names_are_refused(made, tmp_path):
    dataset = HumanFMRI78(made)
    with pytest.raises(InputError, match="unknown region 'ITC'; did you mean 'IT'"):
        dataset.dissimilarities("ITC")
    with pytest.raises(InputError, match="no subject '16'"):
        dataset.stimuli("16")
    with pytest.raises(InputError, match="--root"):
        HumanFMRI78().dissimilarities("IT")
    with pytest.raises(InputError, match="is not a folder"):
        HumanFMRI78(tmp_path / "nowhere").check()


def test_training_on_it_is_refused_in_one_line(made, tmp_path, capsys):
    with pytest.raises(InputError, match="holds dissimilarities and no signals"):
        HumanFMRI78(made).recording("01")
    out = tmp_path / "run"
    code = run(["train", "shallow-alignment", "--dataset", NAME, "--root", str(made), "--out", str(out), "-q"])
    assert code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert len(shown.strip().splitlines()) == 1
    assert not out.exists()


def test_it_is_listed_and_cannot_be_fetched(made, tmp_path, capsys):
    assert NAME in {row["name"] for row in overview()}
    assert run(["datasets", NAME, "--root", str(made), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["subjects"]) == 15
    assert run(["datasets", "fetch", NAME, "--root", str(tmp_path)]) == 2
    assert "clone" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_files_are_whole_and_give_the_figures_beside_them(real_data):
    root = real_data / NAME
    assert all(row["ok"] for row in check(NAME, root))
    assert len(public_files()) == 80
    log = json.loads((root / "brain_data/noise_ceiling_log.json").read_text())
    for region in ("EVC", "IT"):
        rows = HumanFMRI78(root).dissimilarities(region).vectors
        # Theirs are means of squared correlations with means of dissimilarities that were not ranked.
        lower = [compare(np.delete(rows, i, 0).mean(0), rows[i])[0, 0] ** 2 for i in range(15)]
        theirs = log[f"fmri_{region}_RDMs.npz"]["spearman"]
        assert np.mean(lower) == pytest.approx(theirs["lnc"], abs=1e-9)
        assert np.mean(compare(rows.mean(0), rows) ** 2) == pytest.approx(theirs["unc"], abs=1e-9)
        ours = noise_ceiling(rows).mean(axis=1)
        assert 0 < ours[0] < 0.03
        assert 0.25 < ours[1] < 0.27
