"""Caption every picture of a stimulus set, from the cache where captions are, resumable after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.errors import InputError
from brainalign.locks import locked
from brainalign.stimuli.caption_table import check_table_path, write_table
from brainalign.stimuli.captioners.decoding import CaptionKey, Decoding, picture_seed
from brainalign.stimuli.captioners.log import Asked, CaptionLog, missing
from brainalign.stimuli.captioners.names import parse_captioner
from brainalign.stimuli.captioners.prompts import Prompt, parse_prompt
from brainalign.stimuli.stimulus_set import StimulusSet

if TYPE_CHECKING:
    from brainalign.stimuli.captioners.captioner import Captioner

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Captions:
    """Captions of a stimulus set.

    Attributes
    ----------
    key : CaptionKey
        What made them.
    stimuli : StimulusSet
    asked : tuple of (image_id, prompt)
        A row a stimulus.
    texts : tuple of str
        A row a stimulus.
    n_made : int
        Captions that were not in the cache.
    batch_size : int
        That fitted into memory; 0 where nothing was made.
    """

    key: CaptionKey
    stimuli: StimulusSet
    asked: tuple[Asked, ...]
    texts: tuple[str, ...]
    n_made: int
    batch_size: int

    @property
    def n_empty(self) -> int:
        """Stimuli of which the captioner said nothing."""
        return sum(not text for text in self.texts)

    def write(self, path: str | Path) -> None:
        """Write a table (.csv, .tsv or .jsonl), a row a stimulus, atomically."""
        same = self.key.row()
        write_table(
            path,
            [
                {"stimulus_id": name, "image_id": image, "caption": text, **same, "prompt": prompt}
                for name, (image, prompt), text in zip(self.stimuli.ids, self.asked, self.texts, strict=True)
            ],
        )


def asked_of(stimuli: StimulusSet, prompt: Prompt) -> tuple[Asked, ...]:
    """image_id and filled prompt of every stimulus.

    Raises
    ------
    InputError
        If the prompt needs concepts and a stimulus has none, or an image cannot be read.
    """
    concepts = stimuli.column("concept", stimuli.ids)
    filled = [prompt.filled(concept, name) for concept, name in zip(concepts, stimuli.ids)]
    return tuple(zip(stimuli.image_ids, filled, strict=True))


def caption_images(
    stimuli: StimulusSet,
    captioner: str,
    prompt: str | Prompt,
    *,
    cache_dir: str | Path,
    device: str = "cpu",
    dtype: str = "auto",
    batch_size: int | None = None,
    decoding: Decoding | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Captions:
    """Captions of all pictures; equal pictures are captioned once.

    Parameters
    ----------
    captioner : str
        `blip2`, `llava-1.5`, `qwen2-vl`, `hf:ORG/NAME[?revision=COMMIT]` or `hf:/path/to/folder`.
    prompt : str or Prompt
        `A`, `B`, `C`, or a text; see `parse_prompt`.
    cache_dir : path-like
        Captions are kept below `derived/captions/`.
    dtype : {'auto', 'float32', 'bfloat16', 'float16'}
        `auto` is float32 on CPUs and bfloat16 elsewhere.
    batch_size : int, optional
        Pictures at a time; by default what fits into memory. It is halved whenever memory runs out.
    out : path-like, optional
        A table that is written at the end.
    progress : callable, optional
        Called as `progress(pictures done, pictures)`.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    from brainalign.stimuli.captioners.loading import load_captioner, open_folder, resolve_dtype

    if batch_size is not None and batch_size < 1:
        raise InputError(f"{batch_size} is not at least 1", where="--batch-size")
    if out is not None:
        check_table_path(out)
    name, decoding = parse_captioner(captioner), decoding or Decoding()
    prompt = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    chosen = resolve_dtype(dtype, device)
    asked = asked_of(stimuli, prompt)
    folder, revision = open_folder(name)
    log = CaptionLog(Path(cache_dir), CaptionKey(name.id, revision, prompt, decoding, chosen))
    n_made = 0
    if missing(asked, log.captions):
        with locked(log.lock), log:
            wanted = missing(asked, log.captions)
            n_made = len(wanted)
            if wanted:
                model = load_captioner(name, folder, device=device, dtype=chosen)
                batch_size = _make(model, stimuli, asked, wanted, log, batch_size, progress)
    texts = tuple(log.captions[one] for one in asked)
    found = Captions(log.key, stimuli, asked, texts, n_made, (batch_size or 0) if n_made else 0)
    if out is not None:
        found.write(out)
    return found


def _make(
    model: Captioner,
    stimuli: StimulusSet,
    asked: tuple[Asked, ...],
    wanted: list[Asked],
    log: CaptionLog,
    batch_size: int | None,
    progress: Progress | None,
) -> int:
    """Caption what is wanted, batch by batch into the log; the batch size that fitted comes back."""
    decoding = log.key.decoding
    row = {one: number for number, one in enumerate(asked)}
    if batch_size is None:
        batch_size = model.suggest_batch_size(stimuli.image(row[wanted[0]]), wanted[0][1], decoding)
    done, total, left = len(row) - len(wanted), len(row), list(wanted)
    while left:
        batch, left = left[:batch_size], left[batch_size:]
        images, prompts = [stimuli.image(row[one]) for one in batch], [prompt for _, prompt in batch]
        seeds = [picture_seed(decoding.seed, *one) for one in batch] if decoding.temperature > 0 else None
        texts, batch_size = model.describe_within_memory(images, prompts, decoding, batch_size=batch_size, seeds=seeds)
        log.add(batch, texts)
        done += len(batch)
        if progress is not None:
            progress(done, total)
    return batch_size
