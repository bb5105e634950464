"""Guessing: scores that depend on the seed and on who was recorded alone, never on a signal or an image.

What the evaluation says of this is chance by construction. It shows that intervals, permutation tests and tables hold
chance where nothing was learned; a score that it does not lie below is no score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainalign.alignment.calibration import identification
from brainalign.alignment.checkpoint import read_aligner, save_tensors
from brainalign.alignment.preparation import check_alike
from brainalign.alignment.targets import AnyTargets
from brainalign.alignment.training import Fit, Progress, State
from brainalign.errors import InputError
from brainalign.protocols import Split
from brainalign.recipes.recipe import Recipe
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals

SCHEMA = "brainalign.random/1"
# Guesses are logits of a model that knows that it knows nothing: all but equal, so that it is calibrated.
SPREAD = 1e-3


class RandomAligner:
    """A model that guesses, the same guess for the same seed.

    The guess of a signal is told by its row, the number of images, the seed, and the subjects and training stimuli that
    the model was fitted on; so subjects, splits and seeds guess independently.

    Parameters
    ----------
    recipe : Recipe
        Of family `random`.
    seed : int
    device : str
        Not used.

    Examples
    --------
    >>> import numpy as np
    >>> from brainalign.recipes import load_recipe
    >>> aligner = RandomAligner(load_recipe("random", modality="eeg"), seed=3)
    >>> aligner.guess(2, 4).shape
    (2, 4)
    """

    has_epochs = False

    def __init__(self, recipe: Recipe, *, seed: int = 0, device: str = "cpu") -> None:
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.facts: dict[str, Any] = {}

    def fit(
        self,
        recordings: Sequence[Recording],
        features: Mapping[str, AnyTargets],
        split: Split,
        *,
        noise: NDArray[np.float64] | None = None,
        trials: Sequence[Recording] | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """Note who was recorded; nothing is learned. See `RidgeAligner.fit` for the arguments.

        Returns
        -------
        Fit
            One row: how a guess does on as many validation images.

        Raises
        ------
        InputError
            If there is no recording, or subjects differ in channels or samples.
        """
        subjects = [select_signals(recording, self.recipe.signals) for recording in recordings]
        check_alike(subjects)
        first, targets = subjects[0], features["image"]
        known = [[one.subject for one in subjects], list(split.train)]
        self.facts = {
            "n_chans": first.n_chans,
            "n_times": first.n_times,
            "ch_names": list(first.ch_names),
            "sfreq": first.sfreq,
            "tmin": first.tmin,
            "subjects": known[0],
            "target": {
                "backbone": targets.backbone,
                "layers": [band.layer for band in targets.bands],
                "pooling": targets.pooling,
            },
            "dim": targets.dim,
            "key": hashlib.sha256(json.dumps(known).encode()).hexdigest(),
        }
        n = len(split.validation)
        return Fit([identification(torch.from_numpy(self.guess(n, n)))], 1)

    def guess(self, n_signals: int, n_images: int) -> NDArray[np.float64]:
        """Guessed scores, (n_signals, n_images); those of the first signals do not depend on how many there are."""
        key = int(self.facts.get("key", "0"), 16)
        return SPREAD * np.random.default_rng([self.seed, n_images, key]).random((n_signals, n_images))

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: Any = None
    ) -> NDArray[np.float32]:
        """Guesses for signals (n_signals, n_chans, n_times) and a gallery (n_images, dim): (n_signals, n_images).

        Raises
        ------
        InputError
            If it has not been fitted, or shapes are not those it was fitted on.
        """
        if not self.facts:
            raise InputError("the aligner has not been fitted", hint="call fit, or load a saved one")
        shape, gallery = (self.facts["n_chans"], self.facts["n_times"]), images["image"]
        if signals.ndim != 3 or signals.shape[1:] != shape:
            raise InputError(f"signals have shape {signals.shape}, expected (n, {shape[0]}, {shape[1]})")
        if gallery.ndim != 2 or gallery.shape[1] != self.facts["dim"]:
            raise InputError(f"image features have shape {gallery.shape}, expected (n, {self.facts['dim']})")
        return self.guess(len(signals), len(gallery)).astype(np.float32)

    @property
    def layer_weights(self) -> list[float] | None:
        """No layer is looked at."""
        return None

    def load_state(self, state: State) -> None:
        """There are no epochs to go back to.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("a guess has no epochs")

    def save(self, path: str | Path) -> None:
        """Write seed and facts as one safetensors file, which needs a tensor to be one."""
        facts = {"schema": SCHEMA, "recipe": self.recipe.model_dump(mode="json"), "seed": self.seed,
                 "shape": self.facts}  # fmt: skip
        save_tensors(path, {"seed": torch.tensor(self.seed)}, facts)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> RandomAligner:
        """Read a saved one.

        Raises
        ------
        InputError
            If the file is missing or damaged, or of another family.
        """
        saved = read_aligner(path, SCHEMA)
        aligner = cls(saved.recipe, seed=saved.seed, device=device)
        try:
            aligner.facts = dict(saved.facts["shape"])
            int(aligner.facts["key"], 16)
            _ = [int(aligner.facts[name]) for name in ("n_chans", "n_times", "dim")]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"lacks what a guess needs ({error})", where=path, hint="train again") from error
        return aligner
