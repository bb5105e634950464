"""`--over text_prior`: no text, given captions, and captions of tiny captioners of the real classes."""

from __future__ import annotations

import csv

import captioner_support
import pytest
from sentence_support import write_sentence_model
from tests_support import FAST, N_IMAGES, write_own

from brainalign.errors import InputError
from brainalign.execution.captions import make_captions
from brainalign.execution.sweep import sweep
from brainalign.stimuli.captioners import Decoding

SETTINGS = [*FAST[1::2], "training.epochs=2", "target.layer=1", "target.transform=null", "encoder.name=linear"]

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences") / "tower"
    write_sentence_model(folder)
    return folder


@pytest.mark.parametrize("kind", ["blip2", "llava", "qwen2_vl"])
def test_every_prior_is_a_row_of_one_sweep(own, tower, tmp_path, kind):
    captioner = tmp_path / kind
    getattr(captioner_support, kind)(captioner)
    cache = tmp_path / "cache"
    made = tmp_path / "made.csv"
    how = {"captioner": f"hf:{captioner}", "decoding": Decoding(max_new_tokens=4), "cache": cache, "device": "cpu"}
    make_captions(str(own), prompt="A", out=made, **how)
    given = tmp_path / "given.csv"
    with open(given, "w", newline="") as file:
        csv.writer(file).writerows(
            [("stimulus_id", "caption"), *((f"i{i:03d}", f"a picture {i % 7}") for i in range(N_IMAGES))]
        )
    values = ["none", f"table:{given}", f"prompt-a@hf:{captioner}"]
    found = sweep(
        "neuroalign", over=[f"text_prior={','.join(values)}"], dataset=str(own), out=tmp_path / "sweep", cache=cache,
        device="cpu", settings=[*SETTINGS, f"text.encoder=st:{tower}"],
    )  # fmt: skip
    assert [c["against"] for c in found["comparisons"]] == [f"text_prior {value}" for value in values[1:]]
    with open(tmp_path / "sweep/sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text_prior"] for row in rows] == values
    terms = []
    for row in rows:
        steps = tmp_path / "sweep" / row["run"] / "steps.csv"
        terms.append(steps.is_file() and "loss_semantic_guidance" in steps.read_text().partition("\n")[0])
    assert terms == [False, True, True]  # without text the brain-image term is what remains


def test_captions_that_nobody_made_are_asked_for(own, tower, tmp_path):
    with pytest.raises(InputError, match="brainalign captions"):
        sweep(
            "neuroalign", over=["text_prior=prompt-b@hf:org/name"], dataset=str(own), out=tmp_path / "s",
            cache=tmp_path / "cache", device="cpu", settings=[*SETTINGS, f"text.encoder=st:{tower}"],
        )  # fmt: skip
    assert not (tmp_path / "s").exists()
