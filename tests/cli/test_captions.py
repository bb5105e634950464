"""`brainalign captions`: the table it writes, killed for good in the middle, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import captioner_support as tiny
import pandas as pd
import pytest

from brainalign.cli.main import run
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.text_priors import texts_of

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("llava")
    tiny.llava(folder)
    return f"hf:{folder}"


def arguments(own, llava, out, cache, *more) -> list[str]:
    fixed = ["captions", str(own), "--captioner", llava, "--prompt", "A", "--out", str(out), "--cache", str(cache)]
    return [*fixed, "--device", "cpu", "--quiet", "--max-new-tokens", "5", "--batch-size", "4", *more]


def test_the_table_and_the_text_prior(own, llava, tmp_path, capsys) -> None:
    out, cache = tmp_path / "captions.csv", tmp_path / "cache"
    assert run(arguments(own, llava, out, cache, "--json")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["captions"], facts["made"], facts["batch_size"]) == (72, 72, 4)
    assert facts["decoding"] == "max_new_tokens=5 temperature=0 seed=0"
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table) == [
        "stimulus_id", "image_id", "caption", "captioner", "revision", "prompt", "decoding", "dtype",
    ]  # fmt: skip
    assert len(table) == 72 and table["stimulus_id"].is_unique
    assert set(table["captioner"]) == {llava} and set(table["prompt"]) == {"This is a photo of..."}
    said = table[table["caption"] != ""]
    assert said["caption"].str.startswith("This is a photo of").all() and said["caption"].nunique() > 5
    images = StimulusSet.from_folder(own / "images")
    assert table.set_index("stimulus_id")["image_id"].to_dict() == dict(zip(images.ids, images.image_ids))
    kept = images.select(said["stimulus_id"].tolist())
    expected = dict(zip(said["stimulus_id"], said["caption"]))
    assert dict(texts_of(kept, f"prompt-a@{llava}", cache_dir=cache)) == expected
    assert dict(texts_of(kept, f"table:{out}")) == expected
    first = out.read_bytes()
    out.unlink()
    assert run(arguments(own, llava, out, cache)) == 0
    shown = capsys.readouterr()
    assert "made         0" in shown.out and shown.err == ""
    assert out.read_bytes() == first


def test_killed_and_run_again(own, llava, tmp_path) -> None:
    whole, out, cache = tmp_path / "whole.jsonl", tmp_path / "out.jsonl", tmp_path / "cache"
    assert run(arguments(own, llava, whole, tmp_path / "other")) == 0
    command = [sys.executable, "-m", "brainalign", *arguments(own, llava, out, cache, "--batch-size", "1")]
    program = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while time.monotonic() < end and program.poll() is None:
        logs = list((cache / "derived/captions").glob("*.jsonl"))
        if logs and logs[0].read_bytes().count(b"\n") > 5:
            program.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    program.wait(60)
    assert program.returncode == -signal.SIGKILL
    assert not out.exists()
    assert run(arguments(own, llava, out, cache)) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert len(out.read_text().splitlines()) == 72


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--captioner", "hf:OTHER"], "model type 'bert' is no captioner; supported: BLIP-2"),
        (["--captioner", "blip3"], "unknown captioner 'blip3'; did you mean 'blip2'"),
        (["--prompt", "E"], "unknown prompt 'E'"),
        (["--prompt", "C"], "needs the concept of 'i000', which has none"),
        (["--out", "OTHER/captions.doc"], "has the suffix '.doc'; use .csv, .tsv, .jsonl"),
        (["--dtype", "int4"], "unknown dtype 'int4'"),
        (["--batch-size", "0"], "--batch-size: 0 is not at least 1"),
        (["--max-new-tokens", "0"], "--max-new-tokens: 0 is not between 1 and 1024"),
        (["--subject", "nobody"], "nobody"),
    ],
)
def test_bad_input(change, words, own, llava, tmp_path, capsys) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    out, cache = tmp_path / "captions.csv", tmp_path / "cache"
    given = arguments(own, llava, out, cache, *[word.replace("OTHER", str(other)) for word in change])
    assert run(given) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1 and "bug in brainalign" not in shown.err
    assert not out.exists() and not list(tmp_path.rglob("*.jsonl"))
