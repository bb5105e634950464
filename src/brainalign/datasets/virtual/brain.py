"""The sources of a virtual brain: where they lie, when they answer, and what drives them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.config import VirtualBrainConfig
from brainalign.datasets.virtual.head import Head, Sensors

Array = NDArray[np.float64]

COMPONENTS = 150
WHITENING = 0.35


@dataclass(frozen=True)
class Pathway:
    """A group of sources that answer together.

    Attributes
    ----------
    n_sources : int
    anchors : tuple of str
        Electrodes above the patches of cortex.
    lower : float
        How far below its anchor a source lies (in units of the unit sphere).
    window_s : tuple of float
        Range of the sources' peak latencies.
    onset_s : float
        Nothing happens earlier than this after the stimulus.
    shape : tuple of float
        Range of the gamma kernel's order: small is long.
    rhythm_hz : tuple of float
        Range of the frequency the kernel oscillates at.
    moment_nam : float
        Root mean square moment of the part that differs between images.
    common : float
        Moment of the part all images share, in the same units.
    """

    name: str
    n_sources: int
    anchors: tuple[str, ...]
    lower: float
    window_s: tuple[float, float]
    onset_s: float
    shape: tuple[float, float]
    rhythm_hz: tuple[float, float]
    moment_nam: float
    common: float


EARLY = Pathway("early", 24, ("O1", "Oz", "O2", "POz"), 0.1, (0.085, 0.120), 0.045, (3.0, 6.0), (2.0, 9.0), 5.5, 1.2)
LATE = Pathway(
    "late", 96, ("PO7", "PO8", "P7", "P8", "O1", "O2"), 0.2, (0.170, 0.250), 0.090, (1.5, 4.0), (2.0, 10.0), 3.4, 1.2
)


@dataclass(frozen=True)
class Brain:
    """Sources of one subject as they are, however they are recorded.

    Attributes
    ----------
    pathway : array of shape (n_sources,)
        0 early, 1 late.
    positions : array of shape (n_sources, 3)
        Metres, head coordinates.
    orientations : array of shape (n_sources, 3)
        Unit vectors.
    moments : array of shape (n_sources,)
        nAm for a drive of one standard deviation, in the anatomy all subjects share.
    factors : array of shape (n_sources,)
        The subject's own factor on each moment.
    gain : float
        The subject's factor on all of them.
    common, latency_s, onset_s, shape, rhythm_hz : arrays of shape (n_sources,)
        See `Sources`.
    """

    pathway: NDArray[np.intp]
    positions: Array
    orientations: Array
    moments: Array
    factors: Array
    gain: float
    common: Array
    latency_s: Array
    onset_s: Array
    shape: Array
    rhythm_hz: Array

    def seen_by(self, sensors: Sensors, picks: NDArray[np.intp]) -> Sources:
        """The sources with what some of the sensors record of each."""
        fields = []
        for code in np.unique(self.pathway):
            own = self.pathway == code
            field = sensors.leadfield(self.positions[own], self.orientations[own])[picks]
            fields.append(field * self.moments[own] * self.factors[own])
        shared = {name: getattr(self, name) for name in Sources.__annotations__ if name != "topographies"}
        return Sources(topographies=np.concatenate(fields, axis=1) * self.gain, **shared)


@dataclass(frozen=True)
class Sources:
    """Sources of one subject as some sensors see them.

    Attributes
    ----------
    pathway : array of shape (n_sources,)
        0 early, 1 late.
    topographies : array of shape (n_chans, n_sources)
        Microvolts (EEG) or femtotesla (MEG) for a drive of one standard deviation.
    common : array of shape (n_sources,)
        The drive all images share.
    latency_s, onset_s, shape, rhythm_hz : arrays of shape (n_sources,)
        Peak, first answer, order and frequency of the evoked kernel.
    """

    pathway: NDArray[np.intp]
    topographies: Array
    common: Array
    latency_s: Array
    onset_s: Array
    shape: Array
    rhythm_hz: Array

    def kernels(self, times: Array, shift_s: float = 0.0) -> Array:
        """Evoked kernels; see `evoked_kernel`. (n_sources, n_times)."""
        late = times[None] - shift_s
        return evoked_kernel(
            late, self.latency_s[:, None], self.onset_s[:, None], self.shape[:, None], self.rhythm_hz[:, None]
        )


def evoked_kernel(times: Array, latency_s: Array, onset_s: Array, shape: Array, rhythm_hz: Array) -> Array:
    """A gamma envelope that is 0 up to its onset and 1 at its latency, times a cosine that is 1 there too.

    With x = (t - onset) / (latency - onset): x^n exp(n (1 - x)) cos(2 pi f (t - latency)) for x > 0.
    """
    x = np.maximum((times - onset_s) / (latency_s - onset_s), 0.0)
    return np.asarray(x**shape * np.exp(shape * (1 - x)) * np.cos(2 * np.pi * rhythm_hz * (times - latency_s)))


def subject_sources(
    config: VirtualBrainConfig,
    head: Head,
    picks: NDArray[np.intp],
    layers: int,
    subject: int,
    sensors: Sensors | None = None,
) -> Sources:
    """Sources of a subject as some sensors see them; see `subject_brain`.

    Parameters
    ----------
    picks : array of int
        Recorded channels among all of the sensors.
    sensors : Sensors, optional
        The head's 63 electrodes by default.
    """
    return subject_brain(config, head, layers, subject).seen_by(sensors or head, picks)


def subject_brain(config: VirtualBrainConfig, head: Head, layers: int, subject: int) -> Brain:
    """Sources of a subject: an anatomy all subjects share, displaced, turned, scaled and delayed for each.

    Parameters
    ----------
    layers : int
        Number of planted layers; the late sources are dealt out to them in order of latency.
    subject : int
        Number of the subject, from 0.
    """
    own = generator(config, "sources", subject)
    parts: list[dict[str, Array]] = []
    for code, pathway in enumerate((EARLY, LATE)):
        shared = generator(config, "anatomy", code)
        places, ways = _patches(pathway, head, shared)
        moments = pathway.moment_nam * shared.lognormal(0.0, 0.3, pathway.n_sources)
        answers = _answers(pathway, layers if pathway is LATE else 1, shared)
        parts.append({"moments": moments, **_individual(head, places, ways, answers, pathway, own)})
    gain = float(own.lognormal(0.0, 0.15))
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    pathway_codes = np.repeat(np.arange(len(parts)), [len(part["moments"]) for part in parts])
    return Brain(pathway=pathway_codes.astype(np.intp), gain=gain, **merged)


def _patches(pathway: Pathway, head: Head, rng: np.random.Generator) -> tuple[Array, Array]:
    """Unit vectors from the sphere's centre to the sources, and their orientations, (n_sources, 3) each."""
    anchors = np.stack([head.direction(pathway.anchors[k % len(pathway.anchors)]) for k in range(pathway.n_sources)])
    places = anchors - [0.0, 0.0, pathway.lower] + 0.12 * rng.standard_normal(anchors.shape)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    ways = 0.7 * places * rng.choice([-1.0, 1.0], (len(places), 1)) + 0.6 * rng.standard_normal(places.shape)
    return places, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def _answers(pathway: Pathway, layers: int, rng: np.random.Generator) -> dict[str, Array]:
    """Peak latency, order and frequency of every source's kernel; deeper layers answer later."""
    n = pathway.n_sources
    rank = source_layers(n, layers)
    within = (rank + rng.uniform(0.0, 1.0, n)) / layers
    low, high = pathway.window_s
    return {
        "latency_s": low + (high - low) * within,
        "shape": rng.uniform(*pathway.shape, n),
        "rhythm_hz": rng.uniform(*pathway.rhythm_hz, n),
        "common": pathway.common * rng.normal(0.7, 0.7, n),
    }


def source_layers(n_sources: int, layers: int) -> NDArray[np.intp]:
    """Which planted layer drives each source, dealt out in turn so that every patch sees every layer."""
    return np.arange(n_sources) % layers


def _individual(
    head: Head, places: Array, ways: Array, answers: dict[str, Array], pathway: Pathway, rng: np.random.Generator
) -> dict[str, Array]:
    """One subject's version of a pathway: fields of `Brain`."""
    n = len(places)
    moved = places + 0.06 * rng.standard_normal(3) + 0.04 * rng.standard_normal(places.shape)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    turned = ways + 0.25 * rng.standard_normal(ways.shape)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    depth = np.clip(rng.normal(0.78, 0.03, (n, 1)), 0.68, 0.86)
    delay = float(np.clip(rng.normal(0.0, 0.006), -0.012, 0.012))
    return {
        "positions": head.centre + head.radius * depth * moved,
        "orientations": turned,
        "factors": rng.lognormal(0.0, 0.2, n),
        "common": answers["common"],
        "latency_s": answers["latency_s"] + delay,
        "onset_s": np.full(n, pathway.onset_s + delay),
        "shape": answers["shape"],
        "rhythm_hz": answers["rhythm_hz"],
    }


def drives(
    features: NDArray[np.float32], training: NDArray[np.intp], n_sources: int, rng: np.random.Generator
) -> Array:
    """Random mixtures of an image's features, one a source.

    Features are standardised, their first `COMPONENTS` principal components partly whitened (each divided by its
    standard deviation to the power `WHITENING`, so that what differs between layers is not drowned by what they
    share), and mixed with Gaussian weights. All statistics are those of the training images.

    Parameters
    ----------
    features : array of shape (n_images, dim)
    training : array of int
        Rows of the training images.

    Returns
    -------
    array of shape (n_images, n_sources)
        Mean 0 and variance 1 over the training images.
    """
    x, axes = _components(features, training)
    scores = x @ axes.T
    scores /= scores[training].std(axis=0) ** WHITENING
    mixed = scores @ rng.standard_normal((len(axes), n_sources))
    return standardised(mixed, training)


def drives_by_cell(
    features: NDArray[np.float32],
    training: NDArray[np.intp],
    n_sources: int,
    rng: np.random.Generator,
    cells: NDArray[np.intp],
) -> Array:
    """What each cell of the picture adds to the same mixtures: `drives` is a sum of these over cells.

    Parameters
    ----------
    features, training, n_sources, rng
        As in `drives`; the same state of `rng` gives the same mixtures.
    cells : array of shape (dim,)
        Cell of the picture that each feature describes, from 0.

    Returns
    -------
    array of shape (n_images, n_sources, n_cells)
        Mean 0 over the training images; the sum over cells has variance 1.
    """
    x, axes = _components(features, training)
    spread = (x[training] @ axes.T).std(axis=0) ** WHITENING
    weights = (axes.T / spread) @ rng.standard_normal((len(axes), n_sources))
    weights /= (x[training] @ weights).std(axis=0)
    parts = [x[:, cells == cell] @ weights[cells == cell] for cell in range(int(cells.max()) + 1)]
    return np.stack(parts, axis=2)


def _components(features: NDArray[np.float32], training: NDArray[np.intp]) -> tuple[Array, Array]:
    """Standardised features, (n_images, dim), and their first principal axes, (n_axes, dim)."""
    x = features.astype(np.float64)
    spread = x[training].std(axis=0)
    x = (x - x[training].mean(axis=0)) / np.where(spread > 1e-8 * (spread.max() + 1e-30), spread, np.inf)
    _, values, axes = np.linalg.svd(x[training], full_matrices=False)
    kept = min(COMPONENTS, int((values > 1e-6 * values[0]).sum()))
    return x, axes[:kept]


def concept_codes(
    concepts: Sequence[str], categories: Sequence[str], n_sources: int, config: VirtualBrainConfig
) -> Array:
    """A code of each image's concept, half of it shared by its category; about N(0, 1), (n_images, n_sources)."""

    def code(kind: str, name: str) -> Array:
        return generator(config, kind, zlib.crc32(name.encode())).standard_normal(n_sources)

    own = {name: code("concept", name) for name in set(concepts)}
    wide = {name: code("category", name) for name in set(categories)}
    return np.stack([(own[c] + wide[k]) / np.sqrt(2) for c, k in zip(concepts, categories, strict=True)])


def saturate(drive: Array, gain: float, training: NDArray[np.intp]) -> Array:
    """tanh(gain x), scaled back to mean 0 and variance 1 over the training images; gain 0 is linear."""
    return standardised(np.tanh(gain * drive) if gain > 0 else drive, training)


def standardised(values: Array, training: NDArray[np.intp]) -> Array:
    """Mean 0 and variance 1 over the training rows."""
    return np.asarray((values - values[training].mean(axis=0)) / np.maximum(values[training].std(axis=0), 1e-12))


def generator(config: VirtualBrainConfig, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator that depends on the seed, a purpose and some numbers, and on nothing else."""
    words = [config.seed, zlib.crc32(purpose.encode()), *numbers]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
