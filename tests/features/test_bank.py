"""Reading a bank: rows join by image, damage is named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from brainalign.errors import InputError
from brainalign.features import FeatureBank, extract_features, load_backbone
from brainalign.stimuli import StimulusSet


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("timm:test_efficientnet", weights="random", image_size=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory, backbone):
    """A bank of 12 pictures and their stimuli."""
    from tests_support import write_images

    root = tmp_path_factory.mktemp("bank")
    write_images(root / "images", 12)
    stimuli = StimulusSet.from_folder(root / "images")
    found = extract_features(stimuli, backbone, [2], ["mean"], cache_dir=root / "cache")
    return stimuli, found["2", "mean"].folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(made[1], tmp_path / "bank")
    return tmp_path / "bank"


def test_rows_join_by_image(made) -> None:
    stimuli, folder = made
    bank = FeatureBank(folder)
    asked = [stimuli.image_ids[i] for i in (5, 0, 5)]
    rows = bank.rows(asked)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[0], rows[2])
    at = bank.meta["image_ids"].index(asked[1])
    np.testing.assert_array_equal(rows[1], np.load(folder / "features.npy")[at].astype(np.float32))
    assert (bank.layer, bank.pooling, bank.depth) == ("2", "mean", 0.5)
    assert isinstance(bank.array, np.memmap)
    with pytest.raises(InputError, match=r"lacks image ffffffffffff; compute the features again"):
        bank.rows(["f" * 64])


def test_description_says_where_it_comes_from(made, backbone) -> None:
    meta = FeatureBank(made[1]).meta
    assert meta["backbone"] == "timm:test_efficientnet"
    assert meta["weights"] == "random, seed 0"
    assert meta["weights_hash"] == backbone.weights_hash
    assert meta["layer"] == {"name": "2", "index": 2, "depth": 0.5, "module": "blocks.2.0"}
    assert meta["preprocessing"] == backbone.preprocessing.facts()
    assert meta["transform"] is None
    assert set(meta["versions"]) == {"brainalign", "torch", "timm", "pillow", "numpy"}


def test_a_fresh_computation_agrees(made, backbone) -> None:
    stimuli, folder = made
    found = FeatureBank(folder).verify(stimuli, backbone, n=5)
    assert found.n_images == 5
    assert 0 < found.max_rel_error <= 2**-11 + 1e-5  # float16 keeps 11 bits
    assert FeatureBank(folder).verify(stimuli, backbone, n=100).n_images == 12


def test_a_changed_value_is_found(folder, made, backbone) -> None:
    array = np.load(folder / "features.npy", mmap_mode="r+")
    array[:, 3] += np.float16(0.01 * np.abs(array).max())
    array.flush()
    with pytest.raises(InputError, match=r"differs from a fresh computation by 0\.01 of the largest value"):
        FeatureBank(folder).verify(made[0], backbone, n=3)


def test_rows_of_other_images_are_found(folder, made, backbone) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    meta["image_ids"].reverse()
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="differs from a fresh computation"):
        FeatureBank(folder).verify(made[0], backbone)


class Flip:
    key = "flip"

    def __call__(self, image):
        return image.rotate(180)


@pytest.mark.parametrize(
    ("options", "transform", "problem"),
    [
        ({"seed": 1}, None, "has weights_hash"),
        ({"crop": "center"}, None, "has preprocessing"),
        ({"image_size": 48}, None, "has preprocessing"),
        ({}, Flip(), "has transform None, expected flip"),
    ],
)
def test_another_model_is_refused(made, options, transform, problem) -> None:
    other = load_backbone("timm:test_efficientnet", weights="random", **{"image_size": 32, **options})
    with pytest.raises(InputError, match=problem):
        FeatureBank(made[1]).verify(made[0], other, transform=transform)


def test_images_that_are_not_in_the_bank(made, backbone, tmp_path) -> None:
    from tests_support import write_images

    write_images(tmp_path / "others", 3, seed=5)
    with pytest.raises(InputError, match="holds none of these images"):
        FeatureBank(made[1]).verify(StimulusSet.from_folder(tmp_path / "others"), backbone)


class TestDamage:
    def test_no_folder(self, tmp_path) -> None:
        with pytest.raises(InputError, match=r"meta\.json: cannot be read"):
            FeatureBank(tmp_path / "none")

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": "brainalign.features/2"}'])
    def test_description(self, folder, text) -> None:
        (folder / "meta.json").write_text(text)
        with pytest.raises(InputError, match=r"meta\.json: "):
            FeatureBank(folder)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("dim", "64"), ("dim", 65), ("n_images", 11), ("dtype", "float64"), ("dtype", "float32"), ("layer", "2"),
            ("layer", {"name": 2, "depth": 0}), ("layer", {"name": "2"}), ("image_ids", ["a"] * 12), ("image_ids", {}),
            ("image_ids", [[str(i)] for i in range(12)]), ("pooling", None), ("weights_hash", 1), ("backbone", None),
        ],
    )  # fmt: skip
    def test_key(self, folder, name, value) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        for changed in ({**meta, name: value}, {k: v for k, v in meta.items() if k != name}):
            (folder / "meta.json").write_text(json.dumps(changed))
            with pytest.raises(InputError):
                FeatureBank(folder)

    @pytest.mark.parametrize("kept", [0, 10, 200, -1])
    def test_array_cut_short(self, folder, kept) -> None:
        data = (folder / "features.npy").read_bytes()
        (folder / "features.npy").write_bytes(data[:kept])
        with pytest.raises(InputError, match=r"features\.npy: is missing or damaged .*remove the folder"):
            FeatureBank(folder)

    def test_array_too_long(self, folder) -> None:
        with open(folder / "features.npy", "ab") as file:
            file.write(b"\0\0")
        with pytest.raises(InputError, match="2 bytes too long"):
            FeatureBank(folder)

    @pytest.mark.parametrize(
        "array", [np.zeros((12, 7), np.float16), np.zeros((3, 4), np.float32), np.array([{"a": 1}], dtype=object)]
    )
    def test_another_array(self, folder, array) -> None:
        np.save(folder / "features.npy", array, allow_pickle=True)
        with pytest.raises(InputError, match=r"features\.npy: is "):
            FeatureBank(folder)

    def test_no_array(self, folder) -> None:
        (folder / "features.npy").unlink()
        with pytest.raises(InputError, match=r"features\.npy: is missing or damaged"):
            FeatureBank(folder)
