"""The visual cortex fMRI sees: regions, the places of voxels, and what each voxel takes from the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.virtual.brain import EARLY, LATE, Brain, generator, saturate, source_layers, standardised
from brainalign.datasets.virtual.config import VirtualBrainConfig
from brainalign.datasets.virtual.early import GRID
from brainalign.datasets.virtual.head import Head

Array = NDArray[np.float64]

REACH_M = 0.025  # how far a voxel reaches for sources
SCATTER = 0.07  # of a region's voxels, in units of the head's radius
DEPTH_WIDTH = 0.4
SELECTIVE_GAIN = 0.5
SELECTIVE_OFFSET = 0.7
SCAN_NOISE = 2.6  # percent signal change


@dataclass(frozen=True)
class Region:
    """A visual area.

    Attributes
    ----------
    pathway : {'early', 'late'}
        Whose sources its voxels mix.
    share : float
        Of all voxels.
    place : tuple of float
        Centre in the right hemisphere, units of the head's radius from the sphere's centre (right, front, up).
    amplitude : float
        Median over voxels of the deviation between images, percent signal change.
    mean : float
        Mean response to a picture, percent signal change.
    rf_size : float
        Early: deviation of a receptive field that looks at the middle, in picture sides.
    layer_depth : float
        Late: 0 prefers the shallowest planted layer, 1 the deepest.
    selectivity : mapping of category to float
        Late: which pictures the region prefers; others count as 0.
    by_side : bool
        Whether its label names the hemisphere, as in 'lLOC'.
    """

    name: str
    pathway: str
    share: float
    place: tuple[float, float, float]
    amplitude: float
    mean: float
    rf_size: float = np.nan
    layer_depth: float = np.nan
    selectivity: Mapping[str, float] = field(default_factory=dict)
    by_side: bool = False


REGIONS = (
    Region("V1", "early", 0.22, (0.10, -0.78, -0.05), 0.42, 1.0, rf_size=0.12),
    Region("V2", "early", 0.20, (0.16, -0.76, -0.14), 0.38, 0.9, rf_size=0.16),
    Region("V3", "early", 0.16, (0.25, -0.72, -0.20), 0.35, 0.9, rf_size=0.22),
    Region("hV4", "late", 0.10, (0.32, -0.66, -0.28), 0.35, 0.8, layer_depth=0.0),
    Region("LOC", "late", 0.16, (0.50, -0.60, -0.12), 0.35, 0.8, layer_depth=0.7, by_side=True),
    Region("FFA", "late", 0.06, (0.42, -0.42, -0.38), 0.32, 0.7, layer_depth=1.0, by_side=True,
           selectivity={"animal": 1.0, "plant": -0.3, "building": -0.5, "furniture": -0.3, "geometric": -0.3}),
    Region("PPA", "late", 0.10, (0.28, -0.32, -0.36), 0.32, 0.7, layer_depth=1.0, by_side=True,
           selectivity={"building": 1.0, "furniture": 0.5, "vehicle": 0.3, "animal": -0.5, "geometric": -0.3}),
)  # fmt: skip
REGION = {region.name: region for region in REGIONS}
ROI_LABELS = tuple(f"{side}{r.name}" for r in REGIONS for side in (("l", "r") if r.by_side else ("",)))


@dataclass(frozen=True)
class Cortex:
    """Voxels of one subject.

    Attributes
    ----------
    region, hemisphere : arrays of shape (n_voxels,)
        Names of regions; 'l' or 'r'.
    positions : array of shape (n_voxels, 3)
        Metres, head coordinates.
    weights : array of shape (n_voxels, n_sources)
        What a voxel takes from each source, rows of length 1; 0 for the sources of the other pathway.
    rf : array of shape (n_voxels, 3)
        Centre (right, up, from the picture's middle) and deviation of the receptive field, in picture sides; NaN for
        the late pathway.
    amplitude, mean : arrays of shape (n_voxels,)
        Percent signal change: deviation between images, mean response.
    scan_noise : array of shape (n_voxels,)
        Percent signal change, deviation of single scans.
    """

    region: NDArray[np.str_]
    hemisphere: NDArray[np.str_]
    positions: Array
    weights: Array
    rf: Array
    amplitude: Array
    mean: Array
    scan_noise: Array

    def __len__(self) -> int:
        return len(self.region)

    @property
    def early(self) -> NDArray[np.bool_]:
        """Which voxels belong to the early pathway, (n_voxels,)."""
        return np.array([REGION[name].pathway == "early" for name in self.region])

    @property
    def labels(self) -> list[str]:
        """'V1', 'hV4', 'lLOC', ... as THINGS-fMRI labels them."""
        pairs = zip(self.region, self.hemisphere, strict=True)
        return [f"{side}{name}" if REGION[name].by_side else str(name) for name, side in pairs]


def subject_cortex(
    config: VirtualBrainConfig, head: Head, brain: Brain, layers: int, n_voxels: int, subject: int
) -> Cortex:
    """Voxels of a subject, who has its own number of them.

    Parameters
    ----------
    brain : Brain
        The subject's sources.
    layers : int
        Number of planted layers.
    n_voxels : int
        About.
    subject : int
        Number of the subject, from 0.
    """
    rng = generator(config, "voxels", subject)
    counts = [max(2, round(n_voxels * r.share * rng.lognormal(0.0, 0.1))) for r in REGIONS]
    region = np.repeat([r.name for r in REGIONS], counts)
    right = np.concatenate([np.arange(n) % 2 for n in counts]) == 1
    centres = np.array([r.place for r in REGIONS]).repeat(counts, axis=0) * np.where(right, 1, -1)[:, None] ** [1, 0, 0]
    positions = head.centre + head.radius * (centres + SCATTER * rng.standard_normal((len(region), 3)))
    rf = np.full((len(region), 3), np.nan)
    early = np.array([REGION[name].pathway == "early" for name in region])
    rf[early] = _receptive_fields(region[early], right[early], rng)
    sizes = {name: np.array([getattr(REGION[r], name) for r in region]) for name in ("amplitude", "mean")}
    return Cortex(
        region=region,
        hemisphere=np.where(right, "r", "l"),
        positions=positions,
        weights=_weights(region, positions, brain, layers, rng),
        rf=rf,
        amplitude=sizes["amplitude"] * rng.lognormal(0.0, 0.4, len(region)),
        mean=sizes["mean"] * rng.lognormal(0.0, 0.3, len(region)),
        scan_noise=SCAN_NOISE * rng.lognormal(0.0, 0.2, len(region)),
    )


def _receptive_fields(region: NDArray[np.str_], right: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Centres in the opposite half of the picture, denser near its middle; fields grow with eccentricity."""
    away = 0.5 * rng.uniform(0.0, 1.0, len(region)) ** 1.5
    turn = rng.uniform(-np.pi / 2, np.pi / 2, len(region))
    across = away * np.cos(turn) * np.where(right, -1.0, 1.0)
    size = np.array([REGION[name].rf_size for name in region]) * (1 + 2 * away)
    return np.stack([across, away * np.sin(turn), size], axis=1)


def field_weights(rf: Array) -> Array:
    """How much of a receptive field lies in each cell of the early features' grid, rows sum to 1, (n, 16)."""
    middle = (np.arange(GRID) + 0.5) / GRID - 0.5
    up, across = np.meshgrid(-middle, middle, indexing="ij")  # cells go row by row from the top left
    far = (across.ravel() - rf[:, :1]) ** 2 + (up.ravel() - rf[:, 1:2]) ** 2
    weights = np.exp(-0.5 * (far - far.min(axis=1, keepdims=True)) / rf[:, 2:] ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _weights(region: NDArray[np.str_], positions: Array, brain: Brain, layers: int, rng: np.random.Generator) -> Array:
    """Random mixtures of the region's pathway, of near sources more than of far ones, and of the layers it prefers."""
    far = np.sum((positions[:, None] - brain.positions) ** 2, axis=2)
    weights = rng.standard_normal(far.shape)
    rank = source_layers(LATE.n_sources, layers) / max(1, layers - 1)
    for name in np.unique(region):
        own, area = region == name, REGION[name]
        feeds = brain.pathway == (0 if area.pathway == "early" else 1)
        near = far[own] - far[own][:, feeds].min(axis=1, keepdims=True)
        weights[own] *= np.where(feeds, np.exp(-0.5 * np.maximum(near, 0.0) / REACH_M**2), 0.0)
        if area.pathway == "late" and layers > 1:
            weights[np.ix_(own, feeds)] *= np.exp(-0.5 * ((rank - area.layer_depth) / DEPTH_WIDTH) ** 2)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True))


def voxel_patterns(
    cortex: Cortex,
    config: VirtualBrainConfig,
    drive: Array,
    cell_drive: Array | None,
    categories: NDArray[np.str_],
    training: NDArray[np.intp],
) -> Array:
    """What each voxel answers to each image.

    Early: the sources' drive from within the voxel's receptive field, saturated. Late: a mixture of the sources' drive,
    times a gain and plus an offset that depend on how much the region prefers the image's category.

    Parameters
    ----------
    drive : array of shape (n_images, n_sources)
    cell_drive : array of shape (n_images, n_early_sources, n_cells), optional
        None where the early pathway does not answer.
    categories : array of shape (n_images,)
    training : array of int
        Rows of the training images.

    Returns
    -------
    array of shape (n_images, n_voxels)
        Mean 0 and variance 1 over the training images; 0 where the pathway does not answer.
    """
    patterns = np.zeros((len(drive), len(cortex)))
    early = cortex.early
    if cell_drive is not None:
        mixed = np.einsum(
            "ikc,vk,vc->iv",
            cell_drive,
            cortex.weights[early][:, : EARLY.n_sources],
            field_weights(cortex.rf[early]),
            optimize=True,
        )
        patterns[:, early] = saturate(standardised(mixed, training), config.saturation, training)
    if config.has_late:
        mixed = standardised(drive @ cortex.weights[~early].T, training)
        liked = preferences(cortex.region[~early], categories)
        answer = (1 + SELECTIVE_GAIN * liked) * mixed + SELECTIVE_OFFSET * liked
        patterns[:, ~early] = standardised(answer, training)
    return patterns


def preferences(region: NDArray[np.str_], categories: NDArray[np.str_]) -> Array:
    """How much each voxel's region prefers each image, (n_images, n_voxels)."""
    names, at = np.unique(region, return_inverse=True)
    table = np.array([[REGION[name].selectivity.get(str(c), 0.0) for name in names] for c in categories])
    return np.asarray(table[:, at])
