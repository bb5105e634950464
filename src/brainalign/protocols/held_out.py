"""Whether splits that are trained together keep their held-out images from each other."""

from __future__ import annotations

from collections.abc import Mapping

from brainalign.errors import InputError
from brainalign.protocols.split import Split


def check_held_out(splits: Mapping[str, Split]) -> None:
    """Refuse an image that is held out for one source and trains (or, tested, validates) another.

    Raises
    ------
    InputError
        Naming the image and both sources.
    """
    for kind, wider in (("train", ("validation", "test")), ("validation", ("test",))):
        for held in wider:
            out = {name: source for source, split in splits.items() for name in getattr(split, held)}
            for source, split in splits.items():
                shared = next((name for name in getattr(split, kind) if name in out), None)
                if shared is not None:
                    verb = {"train": "trains", "validation": "validates"}[kind]
                    text = f"image '{shared}' is in the {held} part of {out[shared]} and {verb} {source}"
                    raise InputError(text, where="splits", hint="cut all sources by one protocol")
