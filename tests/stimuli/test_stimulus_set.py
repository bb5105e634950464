"""StimulusSet and image reading."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet, open_image, read_image_bytes


def test_folder_names_ids_and_concepts(tmp_path):
    from tests_support import write_images

    write_images(tmp_path, 6, concepts=2)
    shown = StimulusSet.from_folder(tmp_path, prefix="own/")
    assert shown.ids[:2] == ("own/c00/i000", "own/c00/i002")
    assert shown.column("concept", ["own/c01/i001"]) == ["c01"]
    assert shown.has_concepts
    expected = hashlib.sha256((tmp_path / "c00/i000.png").read_bytes()).hexdigest()
    assert shown.image_ids[0] == expected


def test_zip_members_read_as_files_do(tmp_path, image_folder):
    folder, names = image_folder
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.write(folder / f"{name}.png", f"inside/{name}.png")
    table = pd.DataFrame({"stimulus_id": names, "path": [f"{archive}!inside/{n}.png" for n in names]})
    zipped, loose = StimulusSet(table), StimulusSet.from_folder(folder)
    assert zipped.image_ids == loose.image_ids
    np.testing.assert_array_equal(np.asarray(zipped.image(3)), np.asarray(loose.image(3)))
    with pytest.raises(InputError, match="no such image"):
        read_image_bytes(f"{archive}!inside/none.png")


def test_transparency_lies_on_grey(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_image(str(tmp_path / "clear.png")).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a picture", "cannot be decoded"), (b"", "cannot be decoded"), (None, "cannot be read")],
)
def test_bad_images_are_refused(tmp_path, content, words):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        open_image(str(path))


def test_truncated_image_and_archive_are_refused(tmp_path, image_folder):
    folder, names = image_folder
    whole = (folder / f"{names[0]}.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.png: cannot be decoded"):
        open_image(str(tmp_path / "half.png"))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.png", whole)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputError, match="not a whole zip archive"):
        read_image_bytes(f"{archive}!x.png")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"stimulus_id": ["a"]}, "no column 'path'"),
        ({"stimulus_id": ["a", "a"], "path": ["1", "2"]}, "'a' stands twice"),
        ({"stimulus_id": [], "path": []}, "is empty"),
    ],
)
def test_bad_tables_are_refused(table, words):
    with pytest.raises(InputError, match=words):
        StimulusSet(pd.DataFrame(table))


def test_joins_are_by_id_never_by_row():
    shown = StimulusSet(pd.DataFrame({"stimulus_id": ["a", "b", "c"], "path": ["1", "2", "3"], "caption": list("xyz")}))
    assert shown.select(["c", "a"]).ids == ("c", "a")
    assert shown.column("caption", ["c", "a"]) == ["z", "x"]
    with pytest.raises(InputError, match="no stimulus 'd' among 3"):
        shown.row("d")
