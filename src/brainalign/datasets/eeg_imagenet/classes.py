"""The 40 classes in words, and scores by class: whether an image of the right class was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from brainalign.errors import InputError

# WordNet synsets of the published list, with the first name ImageNet gives each.
CLASSES: dict[str, str] = {
    "n02106662": "german_shepherd", "n02124075": "egyptian_cat", "n02281787": "lycaenid", "n02389026": "sorrel",
    "n02492035": "capuchin", "n02504458": "african_elephant", "n02510455": "giant_panda", "n02607072": "anemone_fish",
    "n02690373": "airliner", "n02906734": "broom", "n02951358": "canoe", "n02992529": "cellular_telephone",
    "n03063599": "coffee_mug", "n03100240": "convertible", "n03180011": "desktop_computer",
    "n03197337": "digital_watch", "n03272010": "electric_guitar", "n03272562": "electric_locomotive",
    "n03297495": "espresso_maker", "n03376595": "folding_chair", "n03445777": "golf_ball", "n03452741": "grand_piano",
    "n03584829": "iron", "n03590841": "jack-o'-lantern", "n03709823": "mailbag", "n03773504": "missile",
    "n03775071": "mitten", "n03792782": "mountain_bike", "n03792972": "mountain_tent", "n03877472": "pajama",
    "n03888257": "parachute", "n03982430": "pool_table", "n04044716": "radio_telescope", "n04069434": "reflex_camera",
    "n04086273": "revolver", "n04120489": "running_shoe", "n07753592": "banana", "n07873807": "pizza",
    "n11939491": "daisy", "n13054560": "bolete",
}  # fmt: skip


def class_name(synset: str) -> str:
    """Name of a class; of a synset that is not in the published list, the synset.

    Examples
    --------
    >>> class_name("n02951358"), class_name("n00000001")
    ('canoe', 'n00000001')
    """
    return CLASSES.get(synset, synset)


def class_accuracy(
    similarity: ArrayLike, query_classes: Sequence[str], gallery_classes: Sequence[str], k: int = 1
) -> tuple[float, float]:
    """Share of queries with an image of their class among the k nearest, and what guessing gives.

    How Ferrante et al. (arXiv 2411.09723) score their EEG. The gallery holds several images of a class, so that this is
    an easier question than which image was shown. Ties are broken by the order of the gallery.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_gallery)
        Higher is more similar; of `predictions.npz`.
    query_classes, gallery_classes : sequences of str
        Class of every query and of every gallery image.
    k : int

    Returns
    -------
    accuracy, chance : float
        Chance is that of k images drawn without replacement, the mean over queries.

    Raises
    ------
    InputError
        If the shape and the classes do not fit, or k is not 1 to n_gallery.

    Examples
    --------
    >>> class_accuracy([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], ["canoe", "daisy"], ["canoe", "canoe", "daisy"])
    (0.5, 0.5)
    """
    values = np.asarray(similarity, dtype=np.float64)
    gallery, queries = np.asarray(gallery_classes), np.asarray(query_classes)
    if values.shape != (len(queries), len(gallery)) or 0 in values.shape:
        raise InputError(f"similarity has shape {values.shape}, the classes say {(len(queries), len(gallery))}")
    if not 1 <= k <= len(gallery):
        raise InputError(f"k is {k}, expected 1 to {len(gallery)}")
    nearest = np.argsort(-values, axis=1, kind="stable")[:, :k]
    hits = (gallery[nearest] == queries[:, None]).any(axis=1)
    others = len(gallery) - (gallery[None] == queries[:, None]).sum(axis=1)
    drawn = np.arange(k)
    missed = np.prod(np.clip(others[:, None] - drawn, 0, None) / (len(gallery) - drawn), axis=1)
    return float(hits.mean()), float((1 - missed).mean())
