"""How many parameters a backbone has, found without loading its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainalign.errors import InputError, unknown_name


@dataclass(frozen=True)
class Size:
    """A number of parameters and where it comes from: 'given', 'listed' by the source, or 'counted' on the model."""

    n_parameters: int
    origin: str


def parse_sizes(words: Sequence[str], backbones: Sequence[str]) -> dict[str, Size]:
    """Read `backbone=NUMBER`; the number may end in k, M or B, or be written as 8.6e7.

    Raises
    ------
    InputError
        If a word cannot be read, or names a backbone that is not among those analysed.

    Examples
    --------
    >>> parse_sizes(["timm:a=86.6M"], ["timm:a"])
    {'timm:a': Size(n_parameters=86600000, origin='given')}
    """
    factors = {"k": 1e3, "M": 1e6, "B": 1e9}
    found = {}
    for word in words:
        name, mark, text = word.rpartition("=")
        factor = factors.get(text[-1:], 1.0)
        try:
            value = float(text[:-1] if text[-1:] in factors else text) * factor
        except ValueError:
            value = 0.0
        if not mark or not 1 <= value < 1e15:
            hint = "for example --parameters timm:vit_base_patch16_224=86.6M"
            raise InputError(f"'{word}' is not backbone=NUMBER", where="--parameters", hint=hint)
        if name not in backbones:
            raise unknown_name("backbone of these sweeps", name, backbones, where="--parameters")
        found[name] = Size(round(value), "given")
    return found


def find_size(backbone: str) -> Size:
    """Number of parameters of a whole backbone, classifier included.

    Where its source does not list it, the model is built on torch's `meta` device: its shapes without its numbers.

    Raises
    ------
    InputError
        If the number cannot be found.
    """
    import torch

    from brainalign.features.sources import find_source, parse_id

    hint = f"give it: --parameters {backbone}=NUMBER"
    try:
        scheme, name = parse_id(backbone)
        source = find_source(scheme)
        if (listed := source.sizes(name)[0]) is not None:
            return Size(int(listed), "listed")
        with torch.device("meta"):
            model = source.load(name, weights="random", seed=0, image_size=None, crop="none").model
    except Exception as error:  # not every model can be built without numbers
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(f"number of parameters not found ({reason})", where=backbone, hint=hint) from error
    return Size(sum(p.numel() for p in model.parameters()), "counted")
