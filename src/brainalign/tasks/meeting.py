"""Where signals of two runs meet: in one shared space, or at images that both models know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.conversion import Conversion
from brainalign.errors import InputError
from brainalign.tasks.convert import convert_retrieve
from brainalign.tasks.foundation_source import FoundationSource
from brainalign.tasks.trained import TrainedRun

Array = NDArray[np.float64]
Scorer = Callable[[NDArray[Any], NDArray[Any]], Array]
Counts = tuple[int | None, int | None]
ANCHORS_MAX = 1000
FEWEST_ANCHORS = 10


@dataclass(frozen=True)
class Anchors:
    """Images both models know, none of them a test image of either run.

    Attributes
    ----------
    source, target : arrays of shapes (n, dim_1) and (n, dim_2)
        Their features as either model takes them.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, source: TrainedRun, target: TrainedRun) -> Anchors:
        """Training images of the target that neither run tests on, evenly spaced.

        Raises
        ------
        InputError
            If fewer than 10 are left, or data are not at hand.
        """
        stimuli = target.stimuli("train")
        tested = {*target.stimuli("test").image_ids, *source.stimuli("test").image_ids}
        rows = [row for row, image in enumerate(stimuli.image_ids) if image not in tested]
        rows = rows[:: max(1, -(-len(rows) // ANCHORS_MAX))]
        if len(rows) < FEWEST_ANCHORS:
            text = f"{len(rows)} images are left that both models know and neither tests on"
            raise InputError(text, where=target.folder, hint=f"{FEWEST_ANCHORS} or more are needed")
        chosen = stimuli.select([stimuli.ids[row] for row in rows])
        return cls(source.features(chosen), target.features(chosen))


@dataclass(frozen=True)
class Meeting:
    """How signals of the source and of the target are compared.

    Attributes
    ----------
    score, control : callable
        Signals of the source (n, n_chans, n_times) and of the target to similarity (n_source, n_target); the control
        does the same after what ties the target to its images was dealt anew.
    words : str
        What they meet through.
    control_words : str
        What the control is.
    n_anchors : int or None
        None where no anchor images are needed.
    """

    score: Scorer
    control: Scorer
    words: str
    control_words: str
    n_anchors: int | None = None


def share_space(source: TrainedRun, target: TrainedRun) -> bool:
    """Whether both are sources of one foundation run."""
    return isinstance(source, FoundationSource) and source.shares_space_with(target)


def meet_in_space(source: TrainedRun, target: TrainedRun) -> Meeting:
    """Two sources of one foundation run: cosine in the shared space.

    The control deals anew which target signal belongs to which image. It checks the scoring and not the training; what
    a model of shuffled pairs converts stands in the run's `foundation.json`.
    """

    def score(sources: NDArray[Any], targets: NDArray[Any]) -> Array:
        return convert_retrieve(source.aligner.embed_brain(sources), target.aligner.embed_brain(targets))

    def control(sources: NDArray[Any], targets: NDArray[Any]) -> Array:
        return score(sources, targets[np.random.default_rng(0).permutation(len(targets))])

    return Meeting(
        score,
        control,
        "the run's shared space",
        "the same conversion with the images of the target signals dealt anew: it checks the scoring, and the run's "
        "foundation.json holds the conversion of a model trained on shuffled pairs",
    )


def meet_at_anchors(source: TrainedRun, target: TrainedRun, anchors: Anchors, how: str, counts: Counts) -> Meeting:
    """Two runs with spaces of their own: through what each says of the anchor images.

    Parameters
    ----------
    how : {'retrieve', 'generate'}
    counts : tuple of int or None
        Trials averaged in the signals of source and target, where they are known.
    """
    compare = (_generation if how == "generate" else _retrieval)(source, target, anchors, counts)
    truth = np.arange(len(anchors))

    def score(sources: NDArray[Any], targets: NDArray[Any]) -> Array:
        return compare(sources, targets, truth)

    def control(sources: NDArray[Any], targets: NDArray[Any]) -> Array:
        return compare(sources, targets, np.random.default_rng(0).permutation(truth))

    return Meeting(
        score,
        control,
        f"{len(anchors)} training images of the target run that neither run tests on",
        "the same conversion with the anchor images of the target dealt anew",
        len(anchors),
    )


Dealt = Callable[[NDArray[Any], NDArray[Any], NDArray[np.intp]], Array]


def _retrieval(source: TrainedRun, target: TrainedRun, anchors: Anchors, counts: Counts) -> Dealt:
    """Similarity of source and target signals through the anchors, dealt anew to the target in the order given."""
    both = source.generative and target.generative

    def profile(run: TrainedRun, signals: NDArray[Any], images: NDArray[np.float32], repetitions: int | None) -> Array:
        found = run.aligner.similarity(signals, {"image": images}, repetitions=repetitions).astype(np.float64)
        if both:
            found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return np.asarray(found, dtype=np.float64)

    def score(sources: NDArray[Any], targets: NDArray[Any], order: NDArray[np.intp]) -> Array:
        a = profile(source, sources, anchors.source, counts[0])
        b = profile(target, targets, anchors.target[order], counts[1])
        return convert_retrieve(a, b, space="posterior" if both else "scores")

    return score


def _generation(source: TrainedRun, target: TrainedRun, anchors: Anchors, counts: Counts) -> Dealt:
    def score(sources: NDArray[Any], targets: NDArray[Any], order: NDArray[np.intp]) -> Array:
        made = Conversion(source.aligner, target.aligner, anchors.source, anchors.target[order])
        return made.gain(sources, targets, source_repetitions=counts[0], target_repetitions=counts[1])

    return score
