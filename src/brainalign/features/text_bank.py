"""Text features on disk: every text embedded once an encoder, found again by the sha256 of its characters."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.features.bank import AGAIN, ARRAY, META, TOLERANCE, Verification
from brainalign.features.extract import folder_name
from brainalign.features.text_facts import TextFacts, TextLoader, text_versions
from brainalign.features.text_towers import TextTower
from brainalign.features.writing import BankWriter, check_room
from brainalign.files import read_json, sha256_json, sync_folder
from brainalign.locks import locked

SCHEMA = "brainalign.text/1"
BATCH = 64
DTYPE = "float32"
Progress = Callable[[int, int], None]


def text_id(text: str) -> str:
    """The sha256 of a text in UTF-8, hexadecimal.

    Examples
    --------
    >>> text_id("")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class TextBank:
    """Rows of text features, joined with texts by the sha256 of their characters.

    Parameters
    ----------
    folder : path-like
        Holds `features.npy` (n_texts, dim) float32, and `meta.json`.

    Attributes
    ----------
    array : ndarray of shape (n_texts, dim)
        Memory-mapped.
    meta : dict
        Encoder, hash of its weights, text ids, library versions.

    Raises
    ------
    InputError
        If a file is missing or the array is not what the description says.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder / META)
        self.array = _read_array(self.folder / ARRAY, (len(self.meta["text_ids"]), self.meta["dim"]))

    def __repr__(self) -> str:
        n_texts, dim = self.array.shape
        return f"TextBank({self.encoder}: {n_texts} x {dim})"

    @property
    def encoder(self) -> str:
        """Id of the text encoder."""
        return str(self.meta["encoder"])

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.meta["text_ids"])}

    def index_of(self, texts: Iterable[str]) -> list[int]:
        """Row of each text.

        Raises
        ------
        InputError
            If the bank lacks a text.
        """
        try:
            return [self._rows[text_id(text)] for text in texts]
        except KeyError as error:
            hint = "compute the text features again"
            raise InputError(f"lacks the text {error.args[0][:12]}", where=self.folder, hint=hint) from None

    def verify(self, texts: Sequence[str], tower: TextTower, *, n: int = 16, seed: int = 0) -> Verification:
        """Recompute a sample of texts.

        Parameters
        ----------
        texts : sequence of str
            That the bank was made of; a bank does not hold the texts themselves.
        n : int
            Size of the sample; `seed` picks it.

        Raises
        ------
        InputError
            If the encoder is another one, no text is in the bank, or a value differs by more than rounding explains.
        """
        if tower.weights_hash != self.meta["weights_hash"]:
            text = f"was made with weights {self.meta['weights_hash'][:12]}, not {tower.weights_hash[:12]}"
            raise InputError(text, where=self.folder, hint="load the encoder it was made with")
        known = sorted({text for text in texts if text_id(text) in self._rows})
        if not known:
            raise InputError("holds none of these texts", where=self.folder)
        sample = [known[i] for i in np.random.default_rng(seed).permutation(len(known))[:n]]
        fresh = tower.encode(sample).numpy()
        error, largest = float(np.abs(self.array[self.index_of(sample)] - fresh).max()), float(np.abs(fresh).max())
        found = Verification(len(sample), error, error / max(largest, 1e-12))
        if not found.max_rel_error <= TOLERANCE[DTYPE]:
            text = f"differs from a fresh computation by {found.max_rel_error:.2g} of the largest value"
            raise InputError(text, where=self.folder, hint=AGAIN)
        return found


@dataclass(frozen=True)
class TextFeatures:
    """Rows of a bank joined with the texts that were asked for.

    Attributes
    ----------
    bank : TextBank
    rows : tuple of int
        Row of each text, in the order in which they were given.
    ids : tuple of str
        Stimulus ids in the same order; empty where texts were given without ids.
    """

    bank: TextBank
    rows: tuple[int, ...]
    ids: tuple[str, ...] = ()

    @property
    def array(self) -> NDArray[np.float32]:
        """All features of the bank, (n_texts, dim), memory-mapped; see `rows`."""
        return self.bank.array

    @property
    def tower(self) -> str:
        """Id of the text encoder."""
        return self.bank.encoder

    @functools.cached_property
    def row_of(self) -> dict[str, int]:
        """From stimulus id to row of `array`."""
        return dict(zip(self.ids, self.rows))

    def of(self, stimulus_ids: Sequence[str]) -> NDArray[np.float32]:
        """Text features of some stimuli, (n, dim) float32, in the order given.

        Raises
        ------
        InputError
            If a stimulus had no text.
        """
        for name in stimulus_ids:
            if name not in self.row_of:
                raise InputError(f"no text features of stimulus '{name}'", hint="give the text prior all stimuli")
        return np.asarray(self.array[[self.row_of[name] for name in stimulus_ids]], dtype=np.float32)


def extract_texts(
    texts: Mapping[str, str] | Sequence[str],
    encoder: str | TextTower = "pip:minilm",
    *,
    cache_dir: str | Path,
    device: str = "cpu",
    batch_size: int = BATCH,
    weights: str = "pretrained",
    seed: int = 0,
    progress: Progress | None = None,
) -> TextFeatures:
    """Embed texts, from the cache where they are, computed where they are not.

    Equal texts are embedded once. A killed program goes on where it stopped.

    Parameters
    ----------
    texts : mapping of str to str, or sequence of str
        Stimulus id to text, as `texts_of` gives them, or texts alone.
    encoder : str or TextTower
        An id, or an encoder that is loaded already; `device`, `weights` and `seed` then say nothing.
    cache_dir : path-like
        Banks lie below `features/`.
    batch_size : int
        Texts a pass of the model.
    progress : callable, optional
        Called as `progress(texts done, texts)`.

    Returns
    -------
    TextFeatures

    Raises
    ------
    InputError
        If there is no text, the encoder cannot be used, or the disk has no room.
    """
    ids, given = (tuple(texts), tuple(texts.values())) if isinstance(texts, Mapping) else ((), tuple(texts))
    if isinstance(texts, str) or not given or not all(isinstance(text, str) for text in given):
        raise InputError("expected texts, at least one", where="texts", hint="write ['a photo of a cat']")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1")
    root, unique = Path(cache_dir), {text_id(text): text for text in given}
    slug = folder_name(encoder if isinstance(encoder, str) else encoder.id)
    loader = TextLoader(encoder, root, slug=slug, device=device, weights=weights, seed=seed)
    folder = _bank_folder(root, loader.facts(), unique)
    if not (folder / META).is_file():
        with locked(root / "features" / f"{slug}.text.lock"):
            facts = loader.fresh_facts()  # weights may have changed under the same name
            folder = _bank_folder(root, facts, unique)
            if not (folder / META).is_file():  # else another program has made it meanwhile
                _fill(folder, facts, loader.tower(), unique, batch_size, progress)
    bank = TextBank(folder)
    return TextFeatures(bank, tuple(bank.index_of(given)), ids)


def _meta(facts: TextFacts) -> dict[str, Any]:
    """All that decides the values of a bank but for its texts."""
    return {
        "schema": SCHEMA,
        "encoder": facts.id,
        "weights": facts.weights,
        "weights_hash": facts.weights_hash,
        "structure_hash": facts.structure_hash,
        "encoder_files": facts.files,
        "versions": text_versions(),
    }


def _bank_folder(root: Path, facts: TextFacts, unique: Mapping[str, str]) -> Path:
    digest = sha256_json({**_meta(facts), "texts": sorted(unique)})
    return root / "features" / folder_name(facts.id) / f"text_{digest[:20]}"


def _fill(
    folder: Path,
    facts: TextFacts,
    tower: TextTower,
    unique: Mapping[str, str],
    batch_size: int,
    progress: Progress | None,
) -> None:
    names = sorted(unique)
    writer = BankWriter(folder, n_images=len(names), dim=tower.dim, dtype=DTYPE, batch_size=batch_size)
    check_room([writer], folder)
    writer.open()
    try:
        for first in range(writer.done, len(names), batch_size):
            batch = [unique[name] for name in names[first : first + batch_size]]
            writer.append(first, tower.encode(batch, batch_size=batch_size).numpy())
            if progress is not None:
                progress(first + len(batch), len(names))
    finally:
        writer.close()
    writer.finish({**_meta(facts), "text_ids": names})
    sync_folder(folder.parent)


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        raise InputError(f"is not a description of text features, schema {SCHEMA}", where=path, hint=AGAIN)
    for name, kind in {"encoder": str, "weights_hash": str, "dim": int, "text_ids": list}.items():
        if not isinstance(meta.get(name), kind):
            raise InputError(f"'{name}' is missing or of the wrong type", where=path, hint=AGAIN)
    names = meta["text_ids"]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise InputError("'text_ids' holds an id twice, or what is none", where=path, hint=AGAIN)
    return meta


def _read_array(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"is missing or damaged ({error})", where=path, hint=AGAIN) from error
    if array.shape != shape or array.dtype.name != DTYPE:
        raise InputError(f"is {array.shape} {array.dtype}, expected {shape} {DTYPE}", where=path, hint=AGAIN)
    return array
