"""Brain encoders by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from brainalign.encoders.base import BrainEncoder
from brainalign.errors import InputError, unknown_name

ENCODERS: dict[str, str] = {
    "linear": "brainalign.encoders.linear:LinearEncoder",
    "eegproject": "brainalign.encoders.eegproject:EEGProject",
    "mlp": "brainalign.encoders.mlp:MLP",
    "tsconv": "brainalign.encoders.tsconv:TSConv",
    "eegnet": "brainalign.encoders.eegnet:EEGNet",
    "conformer": "brainalign.encoders.conformer:Conformer",
    "eegtransformer": "brainalign.encoders.eegtransformer:EEGTransformer",
    "nice-sa": "brainalign.encoders.nice_sa:NiceSA",
    "nice-ga": "brainalign.encoders.nice_ga:NiceGA",
    "atm": "brainalign.encoders.atm:ATM",
}


def build_encoder(name: str, *, n_chans: int, n_times: int, dim: int, **options: Any) -> BrainEncoder:
    """Build an encoder.

    Parameters
    ----------
    name : str
        One of `ENCODERS`.
    n_chans, n_times : int
        Channels and samples of a signal.
    dim : int
        Width of the embedding.
    **options
        The encoder's own keyword arguments.

    Returns
    -------
    BrainEncoder
        Signals (n, n_chans, n_times) to (n, dim).

    Raises
    ------
    InputError
        If the name or an option is unknown, or the encoder cannot take signals of this size.

    Examples
    --------
    >>> type(build_encoder("eegproject", n_chans=17, n_times=250, dim=64, dropout=0.1)).__name__
    'EEGProject'
    """
    kind = encoder_class(name)
    known = [p for p in inspect.signature(kind).parameters if p not in ("n_chans", "n_times", "dim")]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of encoder '{name}'", option, known, where="encoder.options")
    try:
        return kind(n_chans=n_chans, n_times=n_times, dim=dim, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"encoder '{name}' refuses its options ({error})", where="encoder.options") from error


def encoder_class(name: str) -> type[BrainEncoder]:
    """The class of an encoder.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    module, _, attribute = ENCODERS[name].partition(":")
    kind: type[BrainEncoder] = getattr(importlib.import_module(module), attribute)
    return kind
