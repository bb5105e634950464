"""Which text stands beside an image: nothing, its label, its caption, or what a captioner said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.errors import InputError, unknown_name
from brainalign.files import sha256_file, sha256_json
from brainalign.stimuli.caption_table import read_captions
from brainalign.stimuli.captioners.captioning import asked_of
from brainalign.stimuli.captioners.decoding import CaptionKey
from brainalign.stimuli.captioners.log import find_keys, read_log
from brainalign.stimuli.captioners.names import ALIASES, DEFAULT, SCHEME, CaptionerName, parse_captioner
from brainalign.stimuli.captioners.prompts import CONCEPT, PROMPTS, Prompt, parse_prompt
from brainalign.stimuli.label_words import label_words
from brainalign.stimuli.stimulus_set import StimulusSet

LABEL = f"This is a photo of a {CONCEPT}."
KINDS = ("none", "label", "captions", "table:FILE", *(f"prompt-{one}" for one in PROMPTS), "prompt:TEXT")


class Texts(Mapping[str, str]):
    """The text of every stimulus, by stimulus id, in the order of the stimulus set.

    Parameters
    ----------
    texts : mapping of str to str
    prior : str
        As it was asked for.
    facts : dict
        Where the texts come from: template, file, or captioner with revision, prompt and decoding.
    """

    def __init__(self, texts: Mapping[str, str], prior: str, facts: Mapping[str, Any]) -> None:
        self._texts, self.prior = dict(texts), prior
        self.facts = {"prior": prior, **facts, "texts": sha256_json(self._texts)}

    def __getitem__(self, stimulus_id: str) -> str:
        return self._texts[stimulus_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"Texts({self.prior}: {len(self)} stimuli)"


def texts_of(stimuli: StimulusSet, prior: str, *, cache_dir: str | Path | None = None) -> Texts | None:
    """The text that stands beside every image.

    Parameters
    ----------
    prior : str
        `none`; `label` (a sentence about the concept) or `label:TEMPLATE` with `{concept}` in it; `captions` (the
        stimulus table's own column); `table:FILE` (.csv, .tsv or .jsonl with `stimulus_id` and `caption`);
        `prompt-a`, `prompt-b`, `prompt-c` or `prompt:TEXT`, with `@CAPTIONER` behind it for another one than BLIP-2:
        captions that `brainalign captions` has made.
    cache_dir : path-like, optional
        Where those lie; by default the program's cache.

    Returns
    -------
    Texts, or None for `none`

    Raises
    ------
    InputError
        If there is no such prior, or a stimulus has no text.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"stimulus_id": ["things/bat1_01b"], "path": ["1.jpg"], "concept": ["bat1"]})
    >>> texts_of(StimulusSet(table), "label")["things/bat1_01b"]
    'This is a photo of a bat.'
    """
    kind, _, rest = prior.partition(":")
    if prior == "none":
        return None
    if kind == "label":
        return _labels(stimuli, prior, rest if prior != "label" else LABEL)
    if prior == "captions":
        own = dict(zip(stimuli.ids, stimuli.column("caption", stimuli.ids)))
        return _complete(own, stimuli, prior, {}, "the stimulus table", "use the prior label, or table:FILE")
    if kind == "table" and rest:
        path = Path(rest).expanduser()
        facts = {"file": path.name, "sha256": sha256_file(path)} if path.is_file() else {}
        return _complete(read_captions(path), stimuli, prior, facts, str(path), "add them to the table")
    prompt, captioner = _asked(prior)
    return _made(stimuli, prior, prompt, captioner, cache_dir)


def _complete(
    texts: Mapping[str, str], stimuli: StimulusSet, prior: str, facts: Mapping[str, Any], where: str, hint: str
) -> Texts:
    """Texts of all stimuli, or an error that names those without."""
    _refuse([name for name in stimuli.ids if not texts.get(name, "").strip()], len(stimuli), where, hint)
    return Texts({name: texts[name] for name in stimuli.ids}, prior, facts)


def _refuse(absent: Sequence[str], n_stimuli: int, where: str, hint: str) -> None:
    if absent:
        named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise InputError(f"no text for {len(absent)} of {n_stimuli} stimuli ({named})", where=where, hint=hint)


def _labels(stimuli: StimulusSet, prior: str, template: str) -> Texts:
    if CONCEPT not in template:
        hint = f"for example label:{LABEL}"
        raise InputError(f"the template '{template}' does not hold {CONCEPT}", where="text.prior", hint=hint)
    concepts = dict(zip(stimuli.ids, stimuli.column("concept", stimuli.ids)))
    absent = [name for name, concept in concepts.items() if not concept]
    _refuse(absent, len(stimuli), "text.prior label", "these images have no concept; use captions or table:FILE")
    texts = {name: template.replace(CONCEPT, label_words(concept, name)) for name, concept in concepts.items()}
    return Texts(texts, prior, {"template": template})


def _asked(prior: str) -> tuple[Prompt, CaptionerName]:
    """Prompt and captioner of `prompt-a@blip2` or `prompt:Name the object@hf:ORG/NAME`."""
    before, mark, behind = prior.rpartition("@")
    named = bool(mark) and (behind.lower() in ALIASES or behind.startswith(SCHEME))
    words = before if named else prior
    kind, _, text = words.partition(":")
    if kind == "prompt" and text.strip():
        return parse_prompt(text), parse_captioner(behind if named else DEFAULT)
    letter = words.removeprefix("prompt-")
    if not words.startswith("prompt-") or letter not in PROMPTS:
        if mark and before.removeprefix("prompt-") in PROMPTS:
            raise unknown_name("captioner", behind, ALIASES, where="text.prior")
        raise unknown_name("text prior", prior, KINDS, where="text.prior")
    return PROMPTS[letter], parse_captioner(behind if named else DEFAULT)


def _made(
    stimuli: StimulusSet, prior: str, prompt: Prompt, captioner: CaptionerName, cache_dir: str | Path | None
) -> Texts:
    """Captions from the cache: of the one file that has them all."""
    if cache_dir is None:
        from brainalign.cache import default_cache_dir

        cache_dir = default_cache_dir()
    asked = dict(zip(stimuli.ids, asked_of(stimuli, prompt), strict=True))
    whole: list[tuple[CaptionKey, dict[str, str]]] = []
    most = 0
    for path, key in find_keys(Path(cache_dir), captioner.id):
        if key.prompt != prompt or not key.revision.startswith(captioner.revision or ""):
            continue
        _, captions, _ = read_log(path)
        found = {name: captions[one] for name, one in asked.items() if one in captions}
        most = max(most, len(found))
        if len(found) == len(asked):
            whole.append((key, found))
    if len(whole) > 1:
        ways = "; ".join(f"{key.row()['decoding']} {key.dtype} of {key.revision[:15]}" for key, _ in whole[:3])
        hint = "write the one you mean with `brainalign captions --out FILE` and use table:FILE"
        raise InputError(f"{len(whole)} sets of captions fit '{prior}' ({ways})", where="text.prior", hint=hint)
    if not whole:
        shown = prompt.id.upper() if prompt.id in PROMPTS else f'"{prompt.text}"'
        command = f"brainalign captions DATASET --captioner {captioner.id} --prompt {shown} --out captions.csv"
        text = f"captions of '{prior}' are in the cache for {most} of {len(asked)} stimuli"
        raise InputError(text, where="text.prior", hint=f"run: {command}")
    key, found = whole[0]
    hint = "give captions of your own with table:FILE, or another prompt"
    return _complete(found, stimuli, prior, key.facts(), f"{prior}: the captioner said nothing", hint)
