"""Optional columns of the stimulus table: what a data set says of its images and a protocol or the lint reads."""

from __future__ import annotations

# How images were shown, where not in random order: BLOCKED where all images of a concept came in one block.
PRESENTATION, BLOCKED = "presentation", "block"
# Values of the columns `published_split_0`, `published_split_1`, ...; an empty string is no part.
PARTS = ("train", "val", "test")
PUBLISHED = "published_split_"


def part_column(number: int) -> str:
    """Column that says in which part of a published split an image is.

    Examples
    --------
    >>> part_column(0)
    'published_split_0'
    """
    return f"{PUBLISHED}{number}"
