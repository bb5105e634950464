"""What a model's score owes to a channel or region: the drop when it is set to its training mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainalign.alignment.transforms import SignalTransform
from brainalign.analysis.channels_data import Material
from brainalign.analysis.onset import AboveChance, Difference, Values, difference, outcomes
from brainalign.errors import InputError
from brainalign.execution.progress import Tick

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Knocked:
    """Drops of a score, one a set of channels that is silenced.

    Attributes
    ----------
    names : tuple of str
        Of the sets: channels or regions.
    sizes : tuple of int
        Channels in each.
    full : float
        Score with all channels.
    scores : array of shape (n_sets,)
        Without each.
    drop : Difference
        Full minus knocked out; interval over images, p (sign flips) corrected for all sets.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    full: float
    scores: Values
    drop: Difference


@dataclass(frozen=True)
class Knockouts:
    """Drops by channel and by region.

    Attributes
    ----------
    channels : Knocked or None
        None where there are too many channels.
    regions : Knocked or None
        None where no regions are known.
    chance : float
        Score of a guess.
    above_chance_p : float
        Of the full score: where it is not above chance there is nothing to lose.
    """

    metric: str
    channels: Knocked | None
    regions: Knocked | None
    chance: float
    above_chance_p: float


def measure_knockouts(
    material: Material, metric: str, chance: float, *, most: int, n_resamples: int, seed: int, tick: Tick
) -> Knockouts | str:
    """Silence every channel, and every region, of a run's held-out signals; in words why not, where it cannot be.

    Parameters
    ----------
    metric : {'top1', 'top5', 'two_way'}
    most : int
        Channels that are silenced one by one, at most; with more of them only regions are.
    """
    transform = getattr(material.run.aligner, "signal_transform", None)
    if transform is None:
        return f"a model of family '{material.run.recipe.family}' takes no signals"
    channels = material.channels
    alone = [np.array([place]) for place in range(len(channels.names))]
    singles = alone if len(alone) <= most else []
    regions = {name: members for name, members in channels.groups.items() if len(members) < len(channels.names)}
    sets: list[NDArray[np.intp]] = [np.array([], dtype=np.intp), *singles, *regions.values()]
    hits = _hits(material, transform, sets, metric, tick)
    full, targets = hits[0], _targets(material)
    names, sizes = channels.names, (1,) * len(singles)
    dealt: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    by_channel = _knocked(names, sizes, full, hits[1 : 1 + len(singles)], targets, dealt) if singles else None
    last = hits[1 + len(singles) :]
    by_region = (
        _knocked(tuple(regions), tuple(map(len, regions.values())), full, last, targets, dealt) if regions else None
    )
    return Knockouts(metric, by_channel, by_region, chance, _above_chance(material, metric, n_resamples, seed))


def knock_out(
    signals: NDArray[Any], transform: SignalTransform, sets: Sequence[NDArray[np.intp]]
) -> NDArray[np.float32]:
    """Signals with the channels of each set at their training mean (0 after scaling), back in the recording's units.

    The mean is the one that the model's scaling takes out: of each sample, or of a channel over all samples.

    Parameters
    ----------
    signals : array of shape (n, n_chans, n_times)
    transform : SignalTransform
        Of the model. Where it whitens, it is whitened channels that are silenced.
    sets : sequence of int arrays

    Returns
    -------
    array of shape (n_sets, n, n_chans, n_times), float32
    """
    values = transform(torch.from_numpy(np.asarray(signals, np.float32)))
    found = np.empty((len(sets), *signals.shape), np.float32)
    for number, members in enumerate(sets):
        silenced = values.clone()
        silenced[:, torch.from_numpy(np.asarray(members, dtype=np.int64))] = 0
        found[number] = transform.inverse(silenced).numpy()
    return found


def _hits(
    material: Material, transform: SignalTransform, sets: Sequence[NDArray[np.intp]], metric: str, tick: Tick
) -> Values:
    """What every query scores without each set of channels, (n_sets, n_queries)."""
    held, run, targets = material.held, material.run, _targets(material)
    features = {"image": run.targets.of(held.gallery_ids)}
    n, rows = len(held.query_ids), np.arange(len(held.query_ids))
    step, found = max(1, BLOCK_BYTES // held.signals.nbytes), np.empty((len(sets), n))
    for start in range(0, len(sets), step):
        part = sets[start : start + step]
        silenced = knock_out(held.signals, transform, part)
        if start == 0:
            silenced[0] = held.signals  # the empty set: as they are, without the rounding of there and back
        similarity = run.aligner.similarity(
            silenced.reshape(-1, *held.signals.shape[1:]), features, repetitions=tuple(held.counts) * len(part)
        )
        for number, block in enumerate(np.split(similarity, len(part))):
            found[start + number] = outcomes(block, metric)[rows, targets]
        tick(min(start + step, len(sets)), len(sets))
    return found


def _knocked(
    names: Sequence[str], sizes: Sequence[int], full: Values, hits: Values, targets: NDArray[np.intp],
    dealt: dict[str, Any],
) -> Knocked:  # fmt: skip
    found = difference(np.broadcast_to(full, hits.shape), hits, targets, **dealt)
    return Knocked(tuple(names), tuple(sizes), float(full.mean()), hits.mean(1), found)


def _targets(material: Material) -> NDArray[np.intp]:
    column = {name: number for number, name in enumerate(material.held.gallery_ids)}
    return np.array([column[name] for name in material.held.query_ids], dtype=np.intp)


def _above_chance(material: Material, metric: str, n_permutations: int, seed: int) -> float:
    held = material.held
    features = {"image": material.run.targets.of(held.gallery_ids)}
    similarity = material.run.aligner.similarity(held.signals, features, repetitions=held.counts)
    try:
        test = AboveChance(_targets(material), n_permutations=n_permutations, seed=seed)
    except InputError:
        return 1.0
    test.add(outcomes(similarity, metric))
    return float(test.result().p[0])
