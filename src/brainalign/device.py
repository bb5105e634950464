"""Which device to compute on."""

from __future__ import annotations

from brainalign.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str = "auto") -> str:
    """'cpu' or 'cuda'; `auto` takes CUDA where there is any.

    Raises
    ------
    InputError
        If the name is unknown, or CUDA is asked for and absent.
    """
    if name not in DEVICES:
        raise InputError(f"unknown device '{name}'", where="--device", hint=f"one of {', '.join(DEVICES)}")
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError("no CUDA device here", where="--device", hint="use --device cpu")
    return "cpu"
