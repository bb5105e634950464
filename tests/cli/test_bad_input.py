"""Bad input: one line that says what is wrong, exit code 2, and nothing half-written."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests_support import FAST

from brainalign.cli.main import run

OUT = "OUT"  # stands for a fresh output folder
OWN = "OWN"  # stands for a whole folder of own recordings
TRAIN = ["train", "shallow-alignment", "--dataset", OWN, "--out", OUT, "-q", "--device", "cpu", *FAST]
V4 = [
    "train",
    "shallow-alignment",
    "--dataset",
    "macaque-v4",
    "--root",
    "TMP/v4",
    "--subject",
    "201025",
    "--out",
    OUT,
    "-q",
]


def tree(folder):
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def refused(words, command, own, tmp_path, capsys):
    """Run, and check the promise: exit code 2, one line, the words, no file made."""
    command = [
        w.replace("TMP", str(tmp_path)) if "TMP" in w else {OUT: str(tmp_path / "out"), OWN: str(own)}.get(w, w)
        for w in command
    ]
    before = tree(tmp_path)
    capsys.readouterr()
    code = run(command)
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1, shown.err
    assert words in shown.err, shown.err
    assert "bug in brainalign" not in shown.err
    assert tree(tmp_path) == before


ARGUMENTS = {
    "several backbones, one layer": (
        [*TRAIN, "--set", "target.layer=0", "--set", "target.backbone=timm:test_resnet+timm:test_vit"],
        "several backbones need a mixture",
    ),
    "mixture of a layer that is not there": ([*TRAIN, "--set", "target.layers=[0, 99]"], "no layer '99'"),
    "mixture range backwards": ([*TRAIN, "--set", "target.layers=3-1"], "no layer '3-1'"),
    "more images than there are": ([*TRAIN, "--set", "training.n_images=5000"], "the split has"),
    "field without a grid": (
        ["train", "generative", "--dataset", OWN, "--out", OUT, "-q", "--device", "cpu", *FAST, "--set", "target.layers=[0, 1]", "--set", "target.pooling=mean", "--set", "generative.field=learned"],
        "pooled by one gridN",
    ),
    "weights for other layers": (
        ["train", "generative", "--dataset", OWN, "--out", OUT, "-q", "--device", "cpu", *FAST, "--set", "target.layers=[0, 1]", "--set", "generative.bands=[1, 2, 3]"],
        "3 weights for 2 layers",
    ),
    "shrinkage above 1": (["train", "generative", "--dataset", OWN, "--out", OUT, "-q", "--device", "cpu", *FAST, "--set", "generative.shrinkage=2"], "between 0 and 1"),
    "compare with nothing": (["compare", "TMP/a", "TMP/b"], "is not the folder of a run"),
    "unknown command": (["trian"], "No such command"),
    "missing option": (["train", "shallow-alignment"], "Missing option"),
    "unknown option": ([*TRAIN, "--sed", "1"], "No such option"),
    "negative seed": ([*TRAIN, "--seed", "-1"], "--seed"),
    "seed is no number": ([*TRAIN, "--seed", "x"], "--seed"),
    "unknown recipe": (["train", "shalow-alignment", *TRAIN[2:]], "did you mean 'shallow-alignment'"),
    "unknown profile": (["train", "shallow-alignment/papr", *TRAIN[2:]], "did you mean 'paper'"),
    "missing recipe file": (["train", "none.yaml", *TRAIN[2:]], "none.yaml: cannot be read"),
    "unknown data set": (["train", "shallow-alignment", "--dataset", "macaque-v5", "--out", OUT], "did you mean 'macaque-v4'"),
    "missing data folder": (["train", "shallow-alignment", "--dataset", "TMP/none", "--out", OUT], "none"),
    "no root": (["train", "shallow-alignment", "--dataset", "macaque-v4", "--out", OUT, "-q"], "give it with --root"),
    "root is missing": (V4, "is not a folder"),
    "unknown preset": (["train", "shallow-alignment", "--dataset", "virtual-eeg:tiny", "--out", OUT], "no preset 'tiny'"),
    "unknown data option": (
        ["train", "shallow-alignment", "--dataset", "virtual-eeg", "--data-option", "noize=2", "--out", OUT], "did you mean 'noise'"),
    "data option without value": ([*TRAIN, "--data-option", "noise"], "is not key=value"),
    "data option of real data": ([*V4, "--data-option", "noise=2"], "takes no option 'noise'"),
    "unknown subject": ([*TRAIN, "--subject", "7"], "no subject '7'"),
    "unknown protocol": ([*TRAIN, "--protocol", "own/intra/v2"], "did you mean 'own/intra/v1'"),
    "split not frozen": ([*TRAIN, "--split", "7"], "no split 7"),
    "unknown device": ([*TRAIN[:-len(FAST) - 2], "--device", "gpu", *FAST], "unknown device 'gpu'"),
    "unknown key": ([*TRAIN, "--set", "training.epoch=3"], "did you mean 'training.epochs'"),
    "refused value": ([*TRAIN, "--set", "training.lr=-1"], "training.lr"),
    "set without value": ([*TRAIN, "--set", "training.lr"], "is not key=value"),
    "python in yaml": ([*TRAIN, "--set", "training.lr=!!python/name:os.system"], "not YAML"),
    "one-image batch": ([*TRAIN, "--set", "training.batch_size=1"], "training.batch_size"),
    "unknown encoder": ([*TRAIN, "--set", "encoder.name=lineer"], "did you mean 'linear'"),
    "unknown encoder option": ([*TRAIN, "--set", "encoder.options={dropuot: 0.1}"], "did you mean 'dropout'"),
    "bad encoder option": ([*TRAIN, "--set", "encoder.options={dropout: 2}"], "dropout"),
    "signal too short": ([*TRAIN, "--set", "encoder.name=tsconv", "--set", "encoder.options={}"], "75"),
    "unknown source": ([*TRAIN, "--set", "target.backbone=tmm:x"], "did you mean 'timm'"),
    "no source": ([*TRAIN, "--set", "target.backbone=resnet50"], "names no source"),
    "unknown model": ([*TRAIN, "--set", "target.backbone=timm:resnet5000"], "unknown timm model"),
    "unknown layer": ([*TRAIN, "--set", "target.layer=99"], "no layer '99'"),
    "unknown pooling": ([*TRAIN, "--set", "target.pooling=grit4"], "pooling"),
    "class token of a CNN": ([*TRAIN, "--set", "target.pooling=cls"], "class token"),
    "unknown channel": ([*TRAIN, "--set", "signals.channels=[Oz]"], "no channel 'Oz'"),
    "no posterior channel": ([*TRAIN, "--set", "signals.channels=posterior"], "no posterior channel"),
    "sqrt of negative": ([*TRAIN, "--set", "signals.transform=sqrt"], "sqrt needs counts"),
    "more repetitions than there are": ([*TRAIN, "--set", "evaluation.repetitions=9"], "9 repetitions asked for"),
    "sweep without axis": (["sweep", *TRAIN[1:]], "--over"),
    "unknown axis": (["sweep", *TRAIN[1:], "--over", "layr"], "did you mean 'layer'"),
    "axis twice": (["sweep", *TRAIN[1:], "--over", "split=0", "--over", "split=1"], "given twice"),
    "value twice": (["sweep", *TRAIN[1:], "--over", "split=1,1"], "names a value twice"),
    "axis without values": (["sweep", *TRAIN[1:], "--over", "encoder"], "has no values"),
    "axis of words": (["sweep", *TRAIN[1:], "--over", "seed=a"], "whole numbers"),
    "unknown layer in a sweep": (["sweep", *TRAIN[1:], "--over", "layer=0,99"], "no layer '99'"),
    "fetch without root": (["datasets", "fetch", "macaque-v4"], "give --root"),
    "fetch of virtual data": (["datasets", "fetch", "virtual-eeg", "--root", "TMP/x", "-q"], "cannot be fetched"),
    "fetch unknown subject": (["datasets", "fetch", "macaque-v4", "--root", "TMP/x", "--subject", "1", "-q"], "no subject '1'"),
    "datasets gibberish": (["datasets", "chek", "macaque-v4"], "is not understood"),
    "compare nothing": (["compare", "TMP/a", "TMP/b"], "is not the folder of a run"),
    "report of nothing": (["report", "TMP/a"], "is not the folder of a run"),
    "runs of nothing": (["runs", "TMP/a"], "is not a folder"),
    "no such backbone": (["backbones", "zzz*"], "no backbone matches"),
    "unknown cache action": (["cache", "lst"], "unknown action 'lst'"),
    "unknown recipe to show": (["recipes", "nothing"], "unknown recipe"),
    "features of nothing": (["features", OWN, "--backbone", "pip:efficientnet-lite9", "-q"], "unknown pip backbone"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments(case, own, tmp_path, capsys):
    command, words = ARGUMENTS[case]
    refused(words, command, own, tmp_path, capsys)


def remove(path):
    return lambda own: (own / path).unlink()


def write(path, content):
    def change(own):
        if isinstance(content, bytes):
            (own / path).write_bytes(content)
        elif isinstance(content, str):
            (own / path).write_text(content)
        else:
            np.save(own / path, content, allow_pickle=True)

    return change


def edit(path, old, new):
    return lambda own: (own / path).write_text((own / path).read_text().replace(old, new))


def nan(own):
    signals = np.load(own / "sub-01/signals.npy")
    signals[3, 2] = np.nan
    np.save(own / "sub-01/signals.npy", signals)


def cut(path):
    def change(own):
        content = (own / path).read_bytes()
        (own / path).write_bytes(content[: len(content) // 2])

    return change


def copy_image(own):
    """One picture under two names: across the split it is a leak."""
    for i in range(1, 60):
        shutil.copy(own / "images/i000.png", own / f"images/i{i:03d}.png")


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


FOLDERS = {
    "no dataset.yaml": (remove("dataset.yaml"), "dataset.yaml"),
    "no trials": (remove("sub-01/trials.csv"), "trials.csv"),
    "no signals": (remove("sub-01/signals.npy"), "sub-01"),
    "unknown setting": (edit("dataset.yaml", "unit", "unt"), "did you mean 'unit'"),
    "unknown modality": (edit("dataset.yaml", "fmri", "ecg"), "ecg"),
    "malformed yaml": (write("dataset.yaml", "a: ["), "dataset.yaml"),
    "truncated signals": (cut("sub-01/signals.npy"), "signals.npy"),
    "empty signals": (write("sub-01/signals.npy", b""), "signals.npy"),
    "wrong shape": (write("sub-01/signals.npy", np.ones((144, 3, 2, 2))), "shape (144, 3, 2, 2)"),
    "too few trials": (write("sub-01/signals.npy", np.ones((10, 3, 1))), "10"),
    "NaN": (nan, "NaN or infinity, first in trial 3"),
    "object array": (write("sub-01/signals.npy", np.array([None] * 144, dtype=object)), "signals.npy"),
    "pickle that would run code": (write("sub-01/signals.npy", pickle.dumps(Bomb())), "signals.npy"),
    "complex numbers": (write("sub-01/signals.npy", np.ones((144, 3, 1), dtype=complex)), "complex128"),
    "time axis without sfreq": (write("sub-01/signals.npy", np.ones((144, 3, 5))), "sfreq"),
    "unknown image": (edit("sub-01/trials.csv", "i003.png,1", "zzz.png,1"), "zzz"),
    "empty trials": (write("sub-01/trials.csv", ""), "trials.csv"),
    "wrong column": (edit("sub-01/trials.csv", "image,", "picture,"), "trials.csv"),
    "trials not text": (write("sub-01/trials.csv", b"\xff\xfe\x00\x01"), "trials.csv"),
    "channels of another count": (write("sub-01/channels.csv", "name\nO1\nO2\n"), "channels.csv"),
    "damaged image": (write("images/i005.png", b"no picture"), "i005.png"),
    "truncated image": (cut("images/i005.png"), "i005.png"),
    "no images": (lambda own: shutil.rmtree(own / "images"), "images"),
    "no subject": (lambda own: shutil.rmtree(own / "sub-01"), "holds no subject"),
    "one picture under many names": (copy_image, "leak 'images-shared-training-test'"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_folders(case, own, tmp_path, capsys):
    change, words = FOLDERS[case]
    change(own)
    refused(words, TRAIN, own, tmp_path, capsys)


def write_session(tmp_path, n=320):
    """A small macaque-v4 session in the published layout."""
    root = tmp_path / "v4"
    (root / "images").mkdir(parents=True)
    (root / "responses_repeat_averaged").mkdir()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(root / "images/images_201025.zip", "w") as archive:
        for i in range(n):
            data = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(data, "JPEG")
            archive.writestr(f"image{i + 1:04d}.jpg", data.getvalue())
    np.save(root / "responses_repeat_averaged/responses_201025.npy", rng.poisson(3, (4, n)).astype(float))
    return root


@pytest.mark.parametrize(
    ("n", "damage", "words"),
    [
        (320, lambda root: cut("images/images_201025.zip")(root), "not a whole zip archive"),
        (320, lambda root: cut("responses_repeat_averaged/responses_201025.npy")(root), "not a whole .npy file"),
        (320, lambda root: (root / "images/images_201025.zip").unlink(), "datasets fetch macaque-v4"),
        (200, lambda root: None, "needs at least 308 images"),
    ],
)
def test_bad_sessions(n, damage, words, own, tmp_path, capsys):
    damage(write_session(tmp_path, n))
    refused(words, V4, own, tmp_path, capsys)


def test_out_that_cannot_be_used(own, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in ("TMP/file", "TMP/file/below"):
        refused("file", [*TRAIN, "--out", out], own, tmp_path, capsys)
    refused("is a file", [*TRAIN, "--cache", "TMP/file"], own, tmp_path, capsys)


def test_out_that_holds_another_run(own, tmp_path, capsys):
    first = [{OUT: str(tmp_path / "out"), OWN: str(own)}.get(w, w) for w in TRAIN]
    assert run(first) == 0
    refused("holds another run", [*TRAIN, "--seed", "1"], own, tmp_path, capsys)
    refused("holds a single run", ["sweep", *TRAIN[1:], "--over", "seed=0,1"], own, tmp_path, capsys)
    done = tmp_path / "out"
    other = tmp_path / "other"
    assert run([w if w != str(done) else str(other) for w in [*first, "--split", "1"]]) == 0
    refused("was not tested on the images of", ["compare", "TMP/out", "TMP/other"], own, tmp_path, capsys)
    (other / "predictions.npz").write_bytes((other / "predictions.npz").read_bytes()[:100])
    refused("predictions.npz: is damaged", ["compare", "TMP/other", "TMP/other"], own, tmp_path, capsys)
    (other / "result.json").write_text('{"schema": "brainalign.result/1"}')
    refused("result.json", ["report", "TMP/other"], own, tmp_path, capsys)
    (other / "result.json").write_text("{")
    refused("is not JSON", ["compare", "TMP/other", "TMP/out"], own, tmp_path, capsys)


def test_a_full_disk_leaves_nothing_behind(own, tmp_path, capsys, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    train = [w if w != OUT else str(tmp_path / "warm") for w in TRAIN]
    assert run([str(own) if w == OWN else w for w in train]) == 0  # features are cached now
    shutil.rmtree(tmp_path / "warm")
    monkeypatch.setattr(os, "fsync", full)
    refused("the disk is full", TRAIN, own, tmp_path, capsys)


def test_the_table_is_as_long_as_promised():
    assert len(ARGUMENTS) + len(FOLDERS) >= 40
