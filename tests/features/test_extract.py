"""Filling banks: one pass, nothing twice, the same bytes after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from brainalign.errors import InputError
from brainalign.features import Backbone, FeatureSet, extract_features, facts, load_backbone
from brainalign.features.layers import find_blocks, layer_table
from brainalign.features.preprocessing import Preprocessing
from brainalign.features.sources import Network
from brainalign.stimuli import StimulusSet

MODEL = {"weights": "random", "image_size": 32}
NAME = "timm:test_efficientnet"


@pytest.fixture
def stimuli(image_folder) -> StimulusSet:
    return StimulusSet.from_folder(image_folder[0])


def extract(stimuli, cache, layers="all", poolings=("mean", "grid2"), backbone=NAME, **options) -> FeatureSet:
    return extract_features(stimuli, backbone, layers, list(poolings), cache_dir=cache, **{**MODEL, **options})


def contents(folder: Path) -> dict[str, bytes]:
    """Every bank's bytes, by its folder's name."""
    return {p.parent.name: p.read_bytes() for p in sorted((folder / "features").rglob("features.npy"))}


class Counting:
    """A transform that does nothing but count, and fail or wait where it is told to."""

    key = "counting"

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.n, self.fail_at, self._lock = 0, fail_at, threading.Lock()

    def __call__(self, image):
        with self._lock:
            self.n += 1
            if self.n == self.fail_at:
                raise RuntimeError("interrupted")
        return image


def test_values_are_the_model_s_own(stimuli, tmp_path) -> None:
    """Against one image at a time, prepared by Pillow and numpy, through the bare model."""
    found = extract(stimuli, tmp_path, ["1", "final"], ["mean"], batch_size=5)
    assert list(found) == [("1", "mean"), ("final", "final")]
    model = load_backbone(NAME, **MODEL).model
    kept = {}
    model.blocks[1][0].register_forward_hook(lambda _m, _i, out: kept.update(one=out.mean((2, 3))))
    config = model.pretrained_cfg
    mean, std = np.array(config["mean"])[:, None, None], np.array(config["std"])[:, None, None]
    for row, image_id in enumerate(stimuli.image_ids):
        pixels = Image.open(stimuli.path(row)).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        values = (np.asarray(pixels).transpose(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            final = model.forward_head(model.forward_features(torch.from_numpy(values[None]).float()), pre_logits=True)
        for key, expected in ((("1", "mean"), kept["one"]), (("final", "final"), final)):
            stored = found[key].rows([image_id])
            np.testing.assert_allclose(stored, expected, rtol=2**-10, atol=2e-4)


def test_every_layer_and_pooling_in_model_order(stimuli, tmp_path) -> None:
    found = extract(stimuli, tmp_path)
    blocks = [(str(i), p) for i in range(5) for p in ("mean", "grid2")]
    assert list(found) == [*blocks, ("head", "mean"), ("head", "grid2"), ("final", "final")]
    assert [layer.name for layer in found.layers] == ["0", "1", "2", "3", "4", "head", "final"]
    assert [found.depth(str(i)) for i in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found["4", "grid2"].array.shape == (12, 64 * 4)
    assert found["4", "grid2"].array.dtype == np.float16
    with pytest.raises(InputError, match="unknown layer '9'"):
        found.depth("9")


def test_pairs_that_do_not_fit_are_left_out(stimuli, tmp_path) -> None:
    found = extract(stimuli, tmp_path, "0,final", ["cls", "mean", "final"])
    assert list(found) == [("0", "mean"), ("final", "final")]
    tokens = extract(stimuli, tmp_path, "0,final", ["cls", "mean"], backbone="timm:test_vit")
    assert list(tokens) == [("0", "cls"), ("0", "mean"), ("final", "final")]
    with pytest.raises(InputError, match="no class token"):
        extract(stimuli, tmp_path, "0", ["cls"])


def test_model_is_not_loaded_where_all_banks_exist(stimuli, tmp_path, monkeypatch) -> None:
    first = extract(stimuli, tmp_path)
    before = contents(tmp_path)

    def refuse(*_given, **_named):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(facts, "load_backbone", refuse)
    again = extract(stimuli, tmp_path, "blocks", ["mean"])
    assert {key: bank.folder for key, bank in again.items()} == {key: first[key].folder for key in again}
    assert contents(tmp_path) == before
    with pytest.raises(AssertionError, match="the model was loaded"):
        extract(stimuli, tmp_path, "blocks", ["grid3"])


def test_only_missing_banks_are_computed(stimuli, tmp_path) -> None:
    extract(stimuli, tmp_path, "0-1", ["mean"])
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("features.npy")}
    both = extract(stimuli, tmp_path, "all", ["mean"])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    whole = extract(stimuli, tmp_path / "other", "all", ["mean"])
    for key, bank in both.items():
        np.testing.assert_array_equal(bank.array, whole[key].array)


def test_equal_files_are_computed_once(stimuli, tmp_path) -> None:
    shutil.copy(stimuli.path(0), Path(stimuli.path(0)).with_name("copy.png"))
    twice = StimulusSet.from_folder(Path(stimuli.path(0)).parent)
    count = Counting()
    bank = extract(twice, tmp_path, [0], ["mean"], transform=count)["0", "mean"]
    assert (len(twice), count.n, bank.array.shape[0]) == (13, 12, 12)
    assert bank.rows(twice.image_ids).shape[0] == 13


def test_order_and_names_of_the_stimuli_do_not_matter(stimuli, tmp_path) -> None:
    one = extract(stimuli, tmp_path, [0], ["mean"])["0", "mean"]
    table = stimuli.table.iloc[::-1].assign(stimulus_id=[f"other/{i}" for i in range(12)])
    other = extract(StimulusSet(table, stimuli.root), tmp_path, [0], ["mean"])["0", "mean"]
    assert one.folder == other.folder


class Flip:
    key = "flip"

    def __call__(self, image):
        return image.rotate(180)


@pytest.mark.parametrize(
    "change",
    [
        {"crop": "center"},
        {"image_size": 48},
        {"layers": [1]},
        {"poolings": ["grid3"]},
        {"dtype": "float32"},
        {"transform": Flip()},
        {"backbone": "timm:test_resnet"},
    ],
)
def test_what_changes_features_changes_the_key(stimuli, tmp_path, change) -> None:
    base = {"layers": [0], "poolings": ["mean"]}
    (one,) = extract(stimuli, tmp_path, **base).values()
    (other,) = extract(stimuli, tmp_path, **{**base, **change}).values()
    assert one.folder != other.folder
    assert one.folder.is_dir()


def test_a_changed_file_changes_the_key(stimuli, tmp_path) -> None:
    one = extract(stimuli, tmp_path, [0], ["mean"])["0", "mean"]
    image = Image.open(stimuli.path(3)).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(stimuli.path(3))
    fresh = StimulusSet.from_folder(Path(stimuli.path(3)).parent)
    other = extract(fresh, tmp_path, [0], ["mean"])["0", "mean"]
    assert one.folder != other.folder
    unchanged = fresh.image_ids[0]
    np.testing.assert_array_equal(one.rows([unchanged]), other.rows([unchanged]))
    with pytest.raises(InputError, match="lacks image"):
        one.rows([fresh.image_ids[3]])


def test_transform_is_applied(stimuli, tmp_path) -> None:
    backbone = load_backbone(NAME, **MODEL)
    bank = extract(stimuli, tmp_path, [1], ["grid2"], backbone=backbone, transform=Flip())["1", "grid2"]
    turned = backbone.preprocessing.batch([backbone.preprocessing.resized(stimuli.image(4).rotate(180))])
    expected = backbone.forward_layers(turned, backbone.resolve_layers(1), ["grid2"])["1", "grid2"]
    np.testing.assert_allclose(bank.rows([stimuli.image_ids[4]]), expected, rtol=2**-10, atol=1e-4)
    assert bank.verify(stimuli, backbone, transform=Flip()).n_images == 12


def test_weights_that_changed_under_the_same_name(stimuli, tmp_path, monkeypatch) -> None:
    """Remembered facts are believed until the model is loaded; then nothing is mixed."""
    old = extract(stimuli, tmp_path, [0], ["mean"])
    monkeypatch.setattr(facts, "load_backbone", lambda *given, **named: load_backbone(*given, seed=1, **named))
    assert extract(stimuli, tmp_path, [0], ["mean"])["0", "mean"].folder == old["0", "mean"].folder
    both = extract(stimuli, tmp_path, [0, 1], ["mean"])
    hashes = {bank.meta["weights_hash"] for bank in both.values()}
    assert hashes == {load_backbone(NAME, seed=1, **MODEL).weights_hash}
    assert both["0", "mean"].folder != old["0", "mean"].folder


@pytest.mark.parametrize("text", ["", "{}", '{"versions": 3}', "[]"])
def test_damaged_facts_are_made_anew(stimuli, tmp_path, text) -> None:
    one = extract(stimuli, tmp_path, [0], ["mean"])
    (kept,) = (tmp_path / "backbones").glob("*.json")
    before = kept.read_text()
    kept.write_text(text)
    assert extract(stimuli, tmp_path, [0], ["mean"])["0", "mean"].folder == one["0", "mean"].folder
    assert kept.read_text() == before


def test_other_library_versions_load_the_model_again(stimuli, tmp_path) -> None:
    extract(stimuli, tmp_path, [0], ["mean"])
    (kept,) = (tmp_path / "backbones").glob("*.json")
    old = json.loads(kept.read_text())
    kept.write_text(json.dumps({**old, "versions": {**old["versions"], "timm": "0"}, "weights_hash": "wrong"}))
    extract(stimuli, tmp_path, [0], ["mean"])
    assert json.loads(kept.read_text()) == old


def test_a_loaded_backbone_gives_the_same_banks(stimuli, tmp_path) -> None:
    by_name = extract(stimuli, tmp_path, [0], ["mean"])
    by_model = extract(stimuli, tmp_path, [0], ["mean"], backbone=load_backbone(NAME, **MODEL))
    assert by_model["0", "mean"].folder == by_name["0", "mean"].folder


def test_progress_counts_images(stimuli, tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    extract(stimuli, tmp_path, [0], ["mean"], batch_size=5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 12), (10, 12), (12, 12)]


class TestResume:
    def test_after_an_error(self, stimuli, tmp_path) -> None:
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        extract(stimuli, whole, batch_size=2, transform=Counting())
        with pytest.raises(RuntimeError, match="interrupted"):
            extract(stimuli, broken, batch_size=2, transform=Counting(fail_at=9))
        assert contents(broken).keys() == {name + ".partial" for name in contents(whole)}
        count = Counting()
        extract(stimuli, broken, batch_size=2, transform=count)
        assert 0 < count.n < 12
        assert contents(broken) == contents(whole)

    def test_banks_that_stopped_at_different_rows(self, stimuli, tmp_path) -> None:
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        extract(stimuli, whole, [0, 1], ["mean"], batch_size=2, transform=Counting())
        for layers, fail_at in (([0], 11), ([0, 1], 3)):
            with pytest.raises(RuntimeError, match="interrupted"):
                extract(stimuli, broken, layers, ["mean"], batch_size=2, transform=Counting(fail_at=fail_at))
        extract(stimuli, broken, [0, 1], ["mean"], batch_size=2, transform=Counting())
        assert contents(broken) == contents(whole)

    def test_after_a_kill(self, stimuli, tmp_path) -> None:
        """SIGKILL in the middle of a slow pass, in a process of its own."""
        script = tmp_path / "slow.py"
        script.write_text(SLOW)
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(script), str(stimuli.root), str(killed)]
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
        try:
            self._wait_for_rows(process, killed, n=4)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert all(name.endswith(".partial") for name in contents(killed))
        count = Counting()
        torch.set_num_threads(1)
        extract(stimuli, killed, batch_size=2, transform=count)
        assert 0 < count.n < 12
        extract(stimuli, whole, batch_size=2, transform=Counting())
        assert contents(killed) == contents(whole)
        assert not list(killed.rglob("*.partial"))

    def _wait_for_rows(self, process, cache: Path, *, n: int) -> None:
        """Until the bank of layer `final` (256 float16 a row) holds n rows."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            sizes = [path.stat().st_size for path in cache.rglob("final_final_*.partial/features.npy")]
            if sizes and sizes[0] >= 128 + n * 512:
                return
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
        raise AssertionError("the slow pass wrote nothing within 2 minutes")


SLOW = """
import sys, time, torch
from brainalign.features import extract_features
from brainalign.stimuli import StimulusSet

class Slow:
    key = "counting"
    def __call__(self, image):
        time.sleep(0.5)
        return image

if __name__ == "__main__":
    torch.set_num_threads(1)
    extract_features(
        StimulusSet.from_folder(sys.argv[1]), "timm:test_efficientnet", "all", ["mean", "grid2"], cache_dir=sys.argv[2],
        weights="random", image_size=32, batch_size=2, transform=Slow(),
    )
"""


class Bright(nn.Module):
    """Two blocks that hand the picture on, the second one a million times as large."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))
        for block, scale in zip(self.blocks, (1.0, factor), strict=True):
            block.weight.data = scale * torch.eye(3).view(3, 3, 1, 1)
        self.requires_grad_(False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            images = block(images)
        return images


def bright(factor: float) -> Backbone:
    model = Bright(factor)
    how = Preprocessing(24, "bilinear", (0.0,) * 3, (1.0,) * 3)
    blocks, aliases = find_blocks(model)
    network = Network("toy:bright", model, blocks, how, model.features, lambda last: last.mean((2, 3)), aliases)
    return Backbone(network, layer_table(2), "random", str(factor))


def test_values_beyond_float16_are_kept_in_float32(stimuli, tmp_path) -> None:
    pixels = {}
    for row, name in enumerate(stimuli.image_ids):
        value = np.asarray(stimuli.image(row), dtype=np.float64).mean((0, 1)) / 255
        pixels[name] = value
    largest = max(value.max() for value in pixels.values())
    factor = 65504 / np.median([value.max() for value in pixels.values()])  # half of the pictures fit
    assert factor * largest > 65504
    found = extract(stimuli, tmp_path, "blocks", ["mean"], backbone=bright(factor), batch_size=2)
    assert {key: bank.meta["dtype"] for key, bank in found.items()} == {
        ("0", "mean"): "float16",
        ("1", "mean"): "float32",
    }
    for name, value in pixels.items():
        np.testing.assert_allclose(found["0", "mean"].rows([name])[0], value, rtol=2**-10)
        np.testing.assert_allclose(found["1", "mean"].rows([name])[0], factor * value, rtol=1e-5)
    for bank in found.values():
        bank.verify(stimuli, bright(factor))


def test_infinite_features_are_refused(stimuli, tmp_path) -> None:
    with pytest.raises(InputError, match="NaN or infinite features"):
        extract(stimuli, tmp_path, "blocks", ["mean"], backbone=bright(float("inf")))


def test_threads_are_gone_after_an_error(stimuli, tmp_path) -> None:
    """Ctrl-C between two batches: nothing goes on decoding while the error, and with it every frame, is still held."""
    before = set(threading.enumerate())

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        extract(stimuli, tmp_path, [0], ["mean"], batch_size=2, progress=interrupt)
    assert caught.value is not None  # the traceback holds the generator of batches
    assert set(threading.enumerate()) <= before


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"poolings": ["max"]}, "unknown pooling 'max'"),
            ({"dtype": "float8"}, "unknown dtype of features 'float8'"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"layers": "7"}, "no layer '7'; there are blocks 0 to 4"),
            ({"backbone": "timm:nosuch"}, "unknown timm model 'nosuch'"),
            ({"backbone": "nosuch"}, "'nosuch' names no source"),
            ({"layers": "0", "poolings": []}, "add a pooling such as mean"),
        ],
    )
    def test_one_line(self, stimuli, tmp_path, options, problem) -> None:
        with pytest.raises(InputError, match=problem) as caught:
            extract(stimuli, tmp_path, **{"layers": "0", "poolings": ["mean"], **options})
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("features/*/*"))

    def test_poolings_as_text(self, stimuli, tmp_path) -> None:
        with pytest.raises(InputError, match="expected a list"):
            extract_features(stimuli, NAME, [0], "mean", cache_dir=tmp_path)

    def test_no_room(self, stimuli, tmp_path, monkeypatch) -> None:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=100))
        with pytest.raises(
            InputError, match="0 MiB are free; free space, give another --cache, or ask for fewer layers"
        ):
            extract(stimuli, tmp_path)
        assert not list(tmp_path.glob("features/*/*"))

    def test_cache_below_a_file(self, stimuli, tmp_path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            extract(stimuli, tmp_path / "file" / "cache")

    def test_damaged_bank_is_named(self, stimuli, tmp_path) -> None:
        bank = extract(stimuli, tmp_path, [0], ["mean"])["0", "mean"]
        (bank.folder / "features.npy").write_bytes(b"")
        with pytest.raises(InputError, match="remove the folder; the features are then computed again"):
            extract(stimuli, tmp_path, [0], ["mean"])
        shutil.rmtree(bank.folder)
        extract(stimuli, tmp_path, [0], ["mean"])


def test_two_programs_at_once(stimuli, tmp_path) -> None:
    """The second one waits and finds the banks made."""
    counts = [Counting(), Counting()]
    backbones = [load_backbone(NAME, **MODEL) for _ in counts]
    errors: list[BaseException] = []

    def work(backbone: Backbone, count: Counting) -> None:
        try:
            extract(stimuli, tmp_path, backbone=backbone, transform=count)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(backbones, counts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(count.n for count in counts) == [0, 12]
