"""Text priors: labels, captions of the table, files of others, and captions made earlier."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests_support import write_images

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.caption_table import read_captions, write_table
from brainalign.stimuli.captioners import CaptionKey, Decoding, parse_prompt
from brainalign.stimuli.captioners.log import CaptionLog
from brainalign.stimuli.label_words import label_words
from brainalign.stimuli.text_priors import texts_of

IDS = ["things/bat1_01b", "things/bulletproof_vest_02s", "own/type1/a"]
CONCEPTS = ["bat1", "bulletproof_vest", "type1"]
CAPTIONS = ["a bat hangs", "a vest", "some type"]


@pytest.fixture
def shown(tmp_path) -> StimulusSet:
    names = write_images(tmp_path / "images", 3)
    table = {"stimulus_id": IDS, "path": [f"{n}.png" for n in names], "concept": CONCEPTS, "caption": CAPTIONS}
    return StimulusSet(pd.DataFrame(table), tmp_path / "images")


def without(shown: StimulusSet, column: str, *rows: int) -> StimulusSet:
    table = shown.table.copy()
    table.loc[list(rows), column] = ""
    return StimulusSet(table, shown.root)


def test_none(shown) -> None:
    assert texts_of(shown, "none") is None


def test_label(shown) -> None:
    found = texts_of(shown, "label")
    assert dict(found) == {
        IDS[0]: "This is a photo of a bat.",
        IDS[1]: "This is a photo of a bulletproof vest.",
        IDS[2]: "This is a photo of a type1.",
    }
    assert list(found) == IDS  # in the order of the table
    assert texts_of(shown, "label:{concept}")[IDS[1]] == "bulletproof vest"
    assert texts_of(shown, "label:One: {concept}, {concept}!")[IDS[0]] == "One: bat, bat!"
    assert found.facts["template"] == "This is a photo of a {concept}."
    assert found.facts["texts"] != texts_of(shown, "label:{concept}").facts["texts"]
    with pytest.raises(InputError, match=r"template 'a photo' does not hold \{concept\}"):
        texts_of(shown, "label:a photo")
    with pytest.raises(InputError, match=r"no text for 1 of 3 stimuli \(own/type1/a\); these images have no concept"):
        texts_of(without(shown, "concept", 2), "label")


@pytest.mark.parametrize(
    ("concept", "stimulus", "words"),
    [
        ("aardvark", "things/aardvark_01b", "aardvark"),
        ("bat2", "things/bat2_03s", "bat"),
        ("ice_cream_cone", "things/ice_cream_cone_01b", "ice cream cone"),
        ("c017", "virtual/c017_03", "c017"),
        ("747", "things/747_01b", "747"),
        ("__odd__name_", "own/x", "odd name"),
    ],
)
def test_words_of_a_label(concept, stimulus, words) -> None:
    assert label_words(concept, stimulus) == words


def test_captions_of_the_table(shown) -> None:
    assert dict(texts_of(shown, "captions")) == dict(zip(IDS, CAPTIONS))
    with pytest.raises(
        InputError, match=r"the stimulus table: no text for 2 of 3 stimuli \(things/bat1_01b, own/type1/a"
    ):
        texts_of(without(shown, "caption", 0, 2), "captions")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_tables(suffix, shown, tmp_path) -> None:
    path = tmp_path / f"captions{suffix}"
    texts = ['a "quoted", bat', "vest\twith\ntabs", "ein Maß — 東京"]
    rows = [{"stimulus_id": name, "caption": text, "model": "x"} for name, text in zip(IDS, texts)]
    write_table(path, rows)
    found = texts_of(shown, f"table:{path}")
    assert dict(found) == {IDS[0]: texts[0], IDS[1]: "vest with tabs", IDS[2]: texts[2]}
    if suffix != ".jsonl":  # another library reads the same
        table = pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",")
        assert table["caption"].tolist() == texts
    else:
        assert [json.loads(line)["caption"] for line in path.read_text("utf-8").splitlines()] == texts
    write_table(path, rows[:1])
    with pytest.raises(InputError, match=r"no text for 2 of 3 stimuli \(things/bulletproof_vest_02s, own/type1/a\)"):
        texts_of(shown, f"table:{path}")


def test_tables_that_cannot_be_used(tmp_path, monkeypatch) -> None:
    from brainalign.stimuli import caption_table

    def table(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    head = "stimulus_id,caption\n"
    for path, words in [
        (tmp_path / "none.csv", "cannot be read (No such file"),
        (table("a.txt", ""), "has the suffix '.txt'"),
        (table("b.csv", "id,text\na,b\n"), "has no column 'stimulus_id', it has id, text"),
        (table("c.csv", ""), "has no column 'stimulus_id', it has none"),
        (table("d.csv", head), "holds no caption"),
        (table("e.csv", head + "a\n"), "line 2 has no text in 'stimulus_id' or 'caption'"),
        (table("f.csv", head + 'a,"b\n'), "is damaged (unexpected end of data)"),
        (table("g.csv", head + "a,b\na,c\n"), "gives 'a' two captions (line 3)"),
        (table("h.csv", head.encode() + b"a,\xff\n"), "is not text in UTF-8"),
        (table("i.csv", head + f"a,{'x' * 30_000}\n"), "line 2 has a caption of 30000 characters"),
        (table("j.csv", head + f"a,{'x' * 200_000}\n"), "field larger than field limit"),
        (table("k.jsonl", "{}\n"), "line 1 has no text"),
        (table("l.jsonl", '{"stimulus_id": "a", "caption": "b"}\n\nnot\n'), "line 3 is not JSON"),
        (table("m.jsonl", "[1]\n"), "line 1 is no object"),
        (table("n.jsonl", '{"stimulus_id": "a", "caption": 5}\n'), "line 1 has no text"),
        (table("o.jsonl", "[" * 100_000), "line 1 is not JSON"),
    ]:
        with pytest.raises(InputError) as caught:
            read_captions(path)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(caption_table, "BYTES_MAX", 10)
    with pytest.raises(InputError, match="more than 0"):
        read_captions(table("p.csv", head + "a,b\n"))
    monkeypatch.undo()
    # A byte-order mark, as spreadsheets write it, is no part of the name; the same row twice says nothing new.
    assert read_captions(table("q.csv", "\ufeff" + head + "a,b\na,b\n")) == {"a": "b"}


def made(cache: Path, shown: StimulusSet, captioner: str, prompt: str, text: str, **more: object) -> CaptionKey:
    """Captions as a captioner would have left them."""
    asked = parse_prompt(prompt)
    how = {"revision": "abc", "decoding": Decoding(), "dtype": "float32"} | more
    key = CaptionKey(captioner, how["revision"], asked, how["decoding"], how["dtype"])  # type: ignore[arg-type]
    concepts = shown.column("concept", shown.ids)
    rows = [(image, asked.filled(c, name)) for image, c, name in zip(shown.image_ids, concepts, shown.ids)]
    with CaptionLog(cache, key) as log:
        log.add(rows, [f"{text} {i}" if text else "" for i in range(len(rows))])
    return key


BLIP2 = "hf:Salesforce/blip2-opt-2.7b"


def test_captions_that_were_made(shown, tmp_path) -> None:
    llava = "hf:/models/llava"
    key = made(tmp_path, shown, BLIP2, "A", "blip a")
    made(tmp_path, shown, BLIP2, "C", "blip c")
    made(tmp_path, shown, llava, "A", "llava a")
    made(tmp_path, shown, BLIP2, "Who @ home?", "blip who")
    for prior, text in [
        ("prompt-a", "blip a"),
        ("prompt-a@blip2", "blip a"),
        (f"prompt-a@{BLIP2}", "blip a"),
        (f"prompt-a@{BLIP2}?revision=ab", "blip a"),
        ("prompt-c", "blip c"),
        (f"prompt-a@{llava}", "llava a"),
        ("prompt:Who @ home?", "blip who"),
        ("prompt:Who @ home?@blip2", "blip who"),
    ]:
        found = texts_of(shown, prior, cache_dir=tmp_path)
        assert dict(found) == {name: f"{text} {i}" for i, name in enumerate(IDS)}
    some = texts_of(shown.select(IDS[1:]), "prompt-a", cache_dir=tmp_path)
    assert dict(some) == {IDS[1]: "blip a 1", IDS[2]: "blip a 2"}
    assert some.facts["revision"] == key.revision
    assert some.facts["decoding"]["max_new_tokens"] == 40


def test_captions_that_were_not_made(shown, tmp_path) -> None:
    made(tmp_path, shown.select(IDS[:1]), BLIP2, "A", "one")
    command = "brainalign captions DATASET --captioner hf:Salesforce/blip2-opt-2.7b --prompt"
    for prior, words in [
        ("prompt-a", f"in the cache for 1 of 3 stimuli; run: {command} A --out captions.csv"),
        ("prompt-b", f"in the cache for 0 of 3 stimuli; run: {command} B"),
        ("prompt:Who is it", f'for 0 of 3 stimuli; run: {command} "Who is it"'),
        (f"prompt-a@{BLIP2}?revision=zz", "for 0 of 3 stimuli"),
    ]:
        with pytest.raises(InputError) as caught:
            texts_of(shown, prior, cache_dir=tmp_path)
        assert words in str(caught.value)


def test_which_captions_are_meant_is_not_guessed(shown, tmp_path) -> None:
    made(tmp_path, shown, BLIP2, "A", "short")
    made(tmp_path, shown, BLIP2, "A", "long", decoding=Decoding(max_new_tokens=99))
    made(tmp_path, shown, BLIP2, "A", "newer", revision="def")
    with pytest.raises(InputError, match=r"3 sets of captions fit 'prompt-a' .*max_new_tokens=99.*use table:FILE"):
        texts_of(shown, "prompt-a", cache_dir=tmp_path)
    assert texts_of(shown, f"prompt-a@{BLIP2}?revision=def", cache_dir=tmp_path)[IDS[0]] == "newer 0"


def test_empty_captions_are_no_text(shown, tmp_path) -> None:
    made(tmp_path, shown, BLIP2, "A", "")
    with pytest.raises(InputError, match="the captioner said nothing: no text for 3 of 3 stimuli"):
        texts_of(shown, "prompt-a", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("lable", "unknown text prior 'lable'; did you mean 'label'"),
        ("", "unknown text prior ''"),
        ("prompt-d", "unknown text prior 'prompt-d'"),
        ("prompt-a@blipp2", "unknown captioner 'blipp2'; did you mean 'blip2'"),
        ("prompt:", "unknown text prior 'prompt:'"),
        ("table:", "unknown text prior 'table:'"),
        ("none:x", "unknown text prior 'none:x'"),
        ("captions:x", "unknown text prior 'captions:x'"),
    ],
)
def test_unknown_priors(prior, words, shown, tmp_path) -> None:
    with pytest.raises(InputError) as caught:
        texts_of(shown, prior, cache_dir=tmp_path)
    assert words in str(caught.value)


def test_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, brainalign.stimuli.text_priors, brainalign.stimuli.captioners;"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
