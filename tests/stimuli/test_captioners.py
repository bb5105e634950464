"""Captioners of transformers' real classes with tiny random weights, against a plain call of `generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import captioner_support as tiny
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.captioners import Decoding, caption_images, parse_captioner
from brainalign.stimuli.captioners.captioner import Captioner
from brainalign.stimuli.captioners.loading import load_captioner, open_folder
from brainalign.stimuli.captioners.log import read_log

transformers = pytest.importorskip("transformers")

BUILDERS = {
    "opt": tiny.blip2,
    "t5": lambda folder: tiny.blip2(folder, language="t5"),
    "llava": tiny.llava,
    "qwen": tiny.qwen2_vl,
}
QUESTION = "Describe the main object in the picture"
# What goes in with the picture, written out by hand: the beginning of a caption, and a question.
ASKED = {
    "opt": ("This is a photo of", f"Question: {QUESTION} Answer:"),
    "t5": ("This is a photo of", f"Question: {QUESTION} Answer:"),
    "llava": ("USER: <image>\nASSISTANT: This is a photo of", f"USER: <image>\n{QUESTION} ASSISTANT:"),
    "qwen": (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"
        "This is a photo of",
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ),
}


@pytest.fixture(scope="module", params=list(BUILDERS))
def kind(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, kind) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(kind)
    return folder, BUILDERS[kind](folder)


@pytest.fixture(scope="module")
def llava_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llava-1.5")
    tiny.llava(folder)
    return folder


def pictures(folder: Path, n: int = 7) -> StimulusSet:
    """Pictures of several sizes in three concepts; the last two files hold the same bytes."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        path = folder / f"c{i % 3:02d}_{i}.png"
        if i == n - 1:
            path.write_bytes((folder / f"c{(i - 1) % 3:02d}_{i - 1}.png").read_bytes())
        else:
            size = (30 + 5 * i, 50, 3)
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
        rows.append({"stimulus_id": f"own/{i}", "path": path.name, "concept": f"c{i % 3:02d}"})
    return StimulusSet(pd.DataFrame(rows), folder)


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> StimulusSet:
    return pictures(tmp_path_factory.mktemp("pictures"))


def by_hand(folder: Path, model: Any, processor_class: str, image: Image.Image, text: str, **options: Any) -> str:
    """One picture by itself, through transformers' own processor and `generate`."""
    processor = getattr(transformers, processor_class).from_pretrained(folder)
    inputs = processor(images=[image], text=[text], return_tensors="pt")
    with torch.no_grad():
        found = model.generate(**inputs, max_new_tokens=8, **options)
    new = found if model.config.get_text_config().is_encoder_decoder else found[:, inputs["input_ids"].shape[1] :]
    return " ".join(processor.tokenizer.decode(new[0], skip_special_tokens=True).split())


PROCESSORS = {"opt": "Blip2Processor", "t5": "Blip2Processor", "llava": "LlavaProcessor", "qwen": "Qwen2VLProcessor"}


@pytest.mark.parametrize("number", [0, 1])
def test_captions_equal_a_plain_call_of_generate(number, saved, kind, shown, tmp_path) -> None:
    folder, model = saved
    prompt = ("A", "B")[number]
    found = caption_images(
        shown, f"hf:{folder}", prompt, cache_dir=tmp_path, decoding=Decoding(max_new_tokens=8), batch_size=3
    )
    expected = []
    for row in range(len(shown)):
        text = by_hand(folder, model, PROCESSORS[kind], shown.image(row), ASKED[kind][number], do_sample=False)
        expected.append(f"This is a photo of {text}" if number == 0 else text)
    assert list(found.texts) == expected
    assert len(set(expected)) > 1  # the caption depends on the picture
    assert (found.n_made, found.batch_size) == (6, 3)  # the same file twice is one picture


def test_the_concept_is_told(saved, kind, shown, tmp_path) -> None:
    folder, model = saved
    concepts = ["cat", "big_wooden_dog", "c00"]  # prompts of several lengths in one batch
    named = StimulusSet(shown.table.assign(concept=[concepts[i % 3] for i in range(7)]), shown.root)
    found = caption_images(
        named, f"hf:{folder}", "C", cache_dir=tmp_path, decoding=Decoding(max_new_tokens=8), batch_size=7
    )
    words = ["cat", "big wooden dog", "c00"]
    asked = [f"Briefly describe the '{words[i % 3]}' in the images." for i in range(7)]
    assert [prompt for _, prompt in found.asked] == asked
    for row in range(7):
        text = ASKED[kind][1].replace(QUESTION, asked[row])
        one = by_hand(folder, model, PROCESSORS[kind], shown.image(row), text, do_sample=False)
        assert found.texts[row] == one
    assert found.n_made == 7  # two files are equal and their concepts are not


def test_settings_of_a_repository_do_not_decide(saved, kind, shown, tmp_path) -> None:
    folder, _ = saved
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    held = json.loads((copy / "generation_config.json").read_text())
    more = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 3.0, "min_new_tokens": 8}
    (copy / "generation_config.json").write_text(json.dumps(held | more))
    options: dict[str, Any] = {"cache_dir": tmp_path, "decoding": Decoding(max_new_tokens=8)}
    theirs, ours = (caption_images(shown, f"hf:{one}", "A", **options) for one in (copy, folder))
    assert theirs.texts == ours.texts


def test_llava_without_a_template(tmp_path, shown) -> None:
    tiny.llava(tmp_path, template=None)
    name = parse_captioner(f"hf:{tmp_path}")
    loaded = load_captioner(name, open_folder(name)[0], device="cpu", dtype="float32")
    word = loaded.family.word
    assert word(loaded.processor, "What?") == "USER: <image>\nWhat? ASSISTANT:"
    assert word(loaded.processor, "It is...") == "USER: <image>\n ASSISTANT: It is"
    assert loaded.describe([shown.image(0)], ["It is..."], Decoding(4))[0].startswith("It is")


def test_old_blip2_files_do_not_name_the_image_token(tmp_path, shown) -> None:
    tiny.blip2(tmp_path)
    before = caption_images(shown, f"hf:{tmp_path}", "B", cache_dir=tmp_path / "one")
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("image_token_index", "image_token_id"):
        config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    held = json.loads((tmp_path / "processor_config.json").read_text())
    held["num_query_tokens"] = None
    (tmp_path / "processor_config.json").write_text(json.dumps(held))
    after = caption_images(shown, f"hf:{tmp_path}", "B", cache_dir=tmp_path / "two")
    assert after.texts == before.texts
    assert after.key.revision != before.key.revision


def options(cache: Path, **more: Any) -> dict[str, Any]:
    return {"cache_dir": cache, "batch_size": 2, "decoding": Decoding(max_new_tokens=6), **more}


def test_a_killed_run_goes_on_and_ends_in_the_same_file(llava_folder, shown, tmp_path, monkeypatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    caption_images(shown, f"hf:{llava_folder}", "C", **options(whole, out=whole / "out.csv"))
    describe, calls = Captioner.describe, []

    def interrupted(self: Captioner, images: Any, *rest: Any, **named: Any) -> list[str]:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return describe(self, images, *rest, **named)

    monkeypatch.setattr(Captioner, "describe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        caption_images(shown, f"hf:{llava_folder}", "C", **options(killed, out=killed / "out.csv"))
    assert not (killed / "out.csv").exists()
    (log,) = (killed / "derived/captions").glob("*.jsonl")
    assert len(log.read_text().splitlines()) == 1 + 4
    with open(log, "ab") as file:  # killed in the middle of a line
        file.write(b'{"image_id": "abc", "prom')
    steps: list[tuple[int, int]] = []
    found = caption_images(
        shown, f"hf:{llava_folder}", "C", **options(killed, out=killed / "out.csv"),
        progress=lambda *now: steps.append(now),
    )  # fmt: skip
    assert (calls[3:], found.n_made, steps) == ([2, 1], 3, [(6, 7), (7, 7)])
    assert (killed / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()
    (other,) = (whole / "derived/captions").glob("*.jsonl")
    assert log.read_bytes() == other.read_bytes()


def test_what_is_there_is_not_made_again(llava_folder, shown, tmp_path, monkeypatch) -> None:
    first = caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path))
    monkeypatch.setattr(Captioner, "describe", None)  # a call would now fail
    again = caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path))
    assert (again.texts, again.n_made, again.batch_size) == (first.texts, 0, 0)
    some = caption_images(shown.select(["own/3", "own/1"]), f"hf:{llava_folder}", "A", **options(tmp_path))
    assert some.texts == (first.texts[3], first.texts[1])


def test_what_decides_a_caption_is_in_the_key(llava_folder, shown, tmp_path) -> None:
    few = shown.select(["own/0"])
    name = f"hf:{llava_folder}"
    found = [
        caption_images(few, name, "A", **options(tmp_path)),
        caption_images(few, name, "B", **options(tmp_path)),
        caption_images(few, name, "Name the object", **options(tmp_path)),
        caption_images(few, name, "A", **options(tmp_path, decoding=Decoding(max_new_tokens=3))),
        caption_images(few, name, "A", **options(tmp_path, dtype="bfloat16")),
    ]
    assert len({one.key.digest for one in found}) == len(list((tmp_path / "derived/captions").glob("*.jsonl"))) == 5
    key, captions, _ = read_log(next((tmp_path / "derived/captions").glob(f"*{found[1].key.digest[:20]}.jsonl")))
    assert key == found[1].key
    assert (key.captioner, key.dtype, key.prompt.id) == (name, "float32", "b")
    assert captions == {(few.image_ids[0], QUESTION): found[1].texts[0]}


def test_other_weights_are_another_captioner(shown, tmp_path) -> None:
    folder = tmp_path / "model"
    model = tiny.llava(folder)
    few = shown.select(["own/0"])
    before = caption_images(few, f"hf:{folder}", "A", **options(tmp_path))
    model.lm_head.weight.data.roll(1, 0)
    model.lm_head.weight.data *= -1
    model.save_pretrained(folder)
    after = caption_images(few, f"hf:{folder}", "A", **options(tmp_path))
    assert before.key.revision != after.key.revision
    assert before.texts != after.texts


def test_drawn_words_depend_on_the_seed_and_not_on_the_batch(llava_folder, shown, tmp_path) -> None:
    def drawn(cache: str, seed: int, n: int, names: list[str]) -> dict[str, str]:
        how = Decoding(max_new_tokens=6, temperature=1.5, seed=seed)
        made = caption_images(
            shown.select(names), f"hf:{llava_folder}", "B", cache_dir=tmp_path / cache, batch_size=n, decoding=how
        )
        return dict(zip(names, made.texts))

    names = [f"own/{i}" for i in range(5)]
    state = torch.get_rng_state()
    one, other = drawn("a", 1, 4, names), drawn("b", 1, 1, names[::-1])
    assert one == other
    assert one != drawn("c", 2, 4, names)
    assert torch.equal(state, torch.get_rng_state())  # the caller's random numbers are left alone


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_batches_are_halved_where_memory_runs_out(error, llava_folder, shown, tmp_path, monkeypatch) -> None:
    expected = caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path / "plain"))
    describe, sizes = Captioner.describe, []

    def tight(self: Captioner, images: Any, *rest: Any, **named: Any) -> list[str]:
        sizes.append(len(images))
        if len(images) > 2:
            raise error
        return describe(self, images, *rest, **named)

    monkeypatch.setattr(Captioner, "describe", tight)
    found = caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path / "tight", batch_size=8))
    assert found.texts == expected.texts
    assert found.batch_size == 2
    assert sizes == [6, 4, 2, 2, 2]

    def none_fits(self: Captioner, *_: Any, **__: Any) -> list[str]:
        raise error

    monkeypatch.setattr(Captioner, "describe", none_fits)
    with pytest.raises(InputError, match="out of memory with one picture; use --dtype bfloat16"):
        caption_images(shown, f"hf:{llava_folder}", "B", **options(tmp_path / "tight", batch_size=4))


def test_the_batch_size_is_measured_where_memory_can_be(llava_folder) -> None:
    name = parse_captioner(f"hf:{llava_folder}")
    loaded = load_captioner(name, llava_folder, device="cpu", dtype="float32")
    assert loaded.suggest_batch_size(Image.new("RGB", (9, 9)), "A...", Decoding()) == 4  # processors: a fixed few


def test_refusals(llava_folder, shown, tmp_path) -> None:
    name = f"hf:{llava_folder}"
    other, empty, lacking = (tmp_path / one for one in ("other", "empty", "lacking"))
    for folder in (other, empty, lacking):
        folder.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for file in llava_folder.iterdir():
        if file.name != "model.safetensors":
            (lacking / file.name).write_bytes(file.read_bytes())
    nameless = StimulusSet(shown.table.assign(concept=""), shown.root)
    cases: list[tuple[StimulusSet, str, str, dict[str, Any], str]] = [
        (shown, f"hf:{other}", "A", {}, r"model type 'bert' is no captioner; supported: BLIP-2 \(blip-2\), LLaVA-1.5"),
        (shown, f"hf:{empty}", "A", {}, "config.json: cannot be read"),
        (shown, f"hf:{lacking}", "A", {}, "the captioner cannot be loaded"),
        (shown, f"hf:{tmp_path}/none", "A", {}, "no such folder"),
        (shown, f"{name}?revision=abc", "A", {}, "a folder has no revision"),
        (shown, "blip3", "A", {}, "unknown captioner 'blip3'; did you mean 'blip2'"),
        (shown, "hf:org/name?dtype=x", "A", {}, "'hf:org/name.dtype=x' is no id"),
        (shown, name, "D", {}, "unknown prompt 'D'"),
        (shown, name, "", {}, "unknown prompt ''"),
        (shown, name, "x" * 3000, {}, "the prompt has 3000 characters"),
        (nameless, name, "C", {}, "needs the concept of 'own/0', which has none"),
        (shown, name, "A", {"dtype": "int8"}, "unknown dtype 'int8'"),
        (shown, name, "A", {"batch_size": 0}, "--batch-size: 0 is not at least 1"),
        (shown, name, "A", {"out": tmp_path / "captions.xls"}, "has the suffix '.xls'"),
        (shown, name, "A", {"device": "nosuch"}, "does not fit on nosuch"),
    ]
    for stimuli, captioner, prompt, more, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            caption_images(stimuli, captioner, prompt, cache_dir=tmp_path / "cache", **more)
        assert "\n" not in str(caught.value)
    for bad in ({"max_new_tokens": 0}, {"temperature": -1.0}):
        with pytest.raises(InputError, match="is not between"):
            Decoding(**bad)  # type: ignore[arg-type]


def test_a_damaged_cache_is_named(llava_folder, shown, tmp_path) -> None:
    caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path))
    (log,) = (tmp_path / "derived/captions").glob("*.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    for content, words in [
        ([lines[0], "{}\n", *lines[1:]], "line 2 is damaged"),
        ([lines[0], '{"image_id": 1, "prompt": "a", "caption": "b"}\n'], "line 2 is damaged"),
        (["[]\n", *lines[1:]], "its first line is damaged"),
        ([lines[0].replace("float32", "float16"), *lines[1:]], "holds captions of another kind than its name says"),
    ]:
        log.write_text("".join(content))
        with pytest.raises(InputError, match=words):
            caption_images(shown, f"hf:{llava_folder}", "A", **options(tmp_path))
