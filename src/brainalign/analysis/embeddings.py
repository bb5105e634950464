"""Embeddings of a finished run, made again from its checkpoint and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.families import load_aligner
from brainalign.analysis.base import DataOptions
from brainalign.analysis.data import open_again
from brainalign.analysis.stored_score import check_score
from brainalign.cache import default_cache_dir
from brainalign.device import resolve_device
from brainalign.errors import InputError
from brainalign.evaluation import top_k_accuracy
from brainalign.evaluation.result import Result, read_predictions, read_result
from brainalign.execution.progress import Reporter, Silent
from brainalign.execution.session import Session
from brainalign.files import read_json
from brainalign.options import parse_options
from brainalign.stimuli import StimulusSet

MODEL = "model.safetensors"
TOLERANCE = 0.02  # of cosine similarity: another device or library rounds otherwise


@dataclass(frozen=True)
class Embeddings:
    """Signals and images of the same stimuli in the shared space.

    Attributes
    ----------
    ids : tuple of n str
    brain, image : arrays of shape (n, dim)
        Unit norm; row i of both is stimulus i.
    repetitions : int
        Presentations averaged in a signal (the smallest count).
    difference : float
        Of the recomputed validation top-1 from the stored one, or of test similarities from the stored ones.
    """

    folder: Path
    result: Result
    layer: str
    pooling: str
    depth: float
    ids: tuple[str, ...]
    brain: NDArray[np.float32]
    image: NDArray[np.float32]
    repetitions: int
    difference: float

    @property
    def both(self) -> NDArray[np.float32]:
        """Brain above image: (2 n, dim)."""
        return np.concatenate([self.brain, self.image])


class Opened:
    """The data set of a run, opened again for runs of the same subject and split.

    Parameters
    ----------
    folder : Path
        Of a finished run.
    options : DataOptions
    device : str
    data_options : sequence of str
        `key=value`, for virtual data sets.

    Raises
    ------
    InputError
        If the run is not finished, or its data set is not at hand.
    """

    def __init__(
        self,
        folder: Path,
        options: DataOptions,
        device: str,
        data_options: Sequence[str] = (),
        reporter: Reporter | None = None,
    ) -> None:
        self.result = read_result(folder)
        dataset = open_again(self.result.dataset, options, **parse_options(data_options))
        allowed = frozenset(finding.code for finding in self.result.lint)  # the run recorded them already
        self.session = Session(
            dataset,
            default_cache_dir(options.cache),
            resolve_device(device),
            self.result.protocol,
            reporter=reporter or Silent(),
            allow_leaks=allowed,
        )
        dataset.require_subject(self.result.subject)

    @property
    def test_reads(self) -> int:
        """How often the test set was opened for these embeddings."""
        return int(self.session.sealed(self.result.subject, self.result.split).reads)

    def stimuli(self) -> StimulusSet:
        """Images of the subject."""
        return self.session.stimuli(self.result.subject)

    def prefetch(self, folders: Sequence[Path]) -> None:
        """Compute the features of all runs in one pass over the images, where the cache lacks them."""
        recipes = [_aligner(folder).recipe for folder in folders]
        self.session.prefetch((self.result.subject, recipe.target) for recipe in recipes)

    def embed(self, folder: Path, images: str) -> Embeddings:
        """Embed the validation or test stimuli of a run.

        Parameters
        ----------
        folder : Path
            Of a finished run on the same data set, subject and split.
        images : {'validation', 'test'}
            Test opens the test set again, once for all runs.

        Raises
        ------
        InputError
            If a file of the run is missing or damaged, the split is another one by now, or the data do not give the
            scores that the run stored.
        """
        result, session = read_result(folder), self.session
        split = session.split(result.subject, result.split)
        if split.fingerprint != result.split_fingerprint:
            hint = "the data set's files or options differ from those of the run"
            raise InputError("was trained on another split of this data set", where=folder, hint=hint)
        aligner = _aligner(folder, session.device)
        recipe, fit = aligner.recipe, read_json(folder / "fit.json")
        candidates = session.targets(result.subject, recipe.target)
        try:
            target = candidates[str(fit["layer"]), str(fit["pooling"])]
        except (KeyError, TypeError) as error:
            raise InputError("names a layer that its recipe lacks", where=folder / "fit.json") from error
        held = session.validation_data(result.subject, result.split, recipe.signals)
        ids, repetitions = held.query_ids, held.repetitions
        brain, image = aligner.embed_brain(held.signals), aligner.embed_image(target.of(ids))
        again = top_k_accuracy(brain @ image.T, np.arange(len(brain)), 1)
        difference = check_score(folder, "validation", result.metrics.validation.top1, again, len(brain))
        if images == "test":
            data = session.test_data(result.subject, result.split, recipe)
            ids, repetitions = data.query_ids, data.repetitions
            brain, image = aligner.embed_brain(data.signals), aligner.embed_image(target.of(ids))
            difference = _check_test(folder, ids, brain, image)
        return Embeddings(
            folder,
            result,
            target.layer,
            target.pooling,
            target.depth,
            tuple(ids),
            brain,
            image,
            repetitions,
            difference,
        )


def _aligner(folder: Path, device: str = "cpu") -> Any:
    """The run's model, if it has a space that signals and images share."""
    aligner = load_aligner(folder / MODEL, device=device)
    if not (hasattr(aligner, "embed_brain") and hasattr(aligner, "embed_image")):
        text = f"a model of family '{aligner.recipe.family}' has no space that signals and images share"
        raise InputError(text, where=folder, hint="give a run of a contrastive recipe")
    return aligner


def _check_test(folder: Path, ids: Sequence[str], brain: NDArray[Any], image: NDArray[Any]) -> float:
    """Largest difference of the recomputed similarities from the stored ones."""
    stored = read_predictions(folder)
    columns = {name: column for column, name in enumerate(stored["gallery_ids"])}
    if tuple(ids) != stored["query_ids"] or any(name not in columns for name in ids):
        raise InputError("was tested on other images", where=folder / "predictions.npz", hint="the file is damaged")
    kept = stored["similarity"][:, [columns[name] for name in ids]]
    found = float(np.abs(kept - brain @ image.T).max())
    if found > TOLERANCE:
        text = f"stored similarities differ from the recomputed ones by {found:.3f}"
        raise InputError(text, where=folder, hint="are the data those of the run?")
    return found
