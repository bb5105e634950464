"""Refusals that all encoders share."""

from __future__ import annotations

from brainalign.errors import InputError

WHERE = "encoder.options"


def check_sizes(encoder: str, n_chans: int, n_times: int, dim: int) -> None:
    """Refuse an empty signal or embedding.

    Raises
    ------
    InputError
        If one of the three is no whole number above 0.
    """
    for name, value in (("n_chans", n_chans), ("n_times", n_times), ("dim", dim)):
        _check_whole(encoder, name, value, 1, where=None)


def check_at_least_one(encoder: str, **options: int) -> None:
    """Refuse options that are no whole number above 0.

    Raises
    ------
    InputError
        If one is not.
    """
    for name, value in options.items():
        _check_whole(encoder, name, value, 1, where=WHERE)


def check_dropout(encoder: str, dropout: float, *, name: str = "dropout") -> None:
    """Refuse a share of dropped values outside [0, 1).

    Raises
    ------
    InputError
        If it is outside, or no number.
    """
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InputError(f"encoder '{encoder}' got {name} {dropout!r}, expected 0 <= {name} < 1", where=WHERE)


def check_subjects(encoder: str, n_subjects: int) -> None:
    """Refuse a number of subjects that is no whole number from 0.

    Raises
    ------
    InputError
        If it is none.
    """
    _check_whole(encoder, "n_subjects", n_subjects, 0, where=WHERE)


def check_length(encoder: str, n_times: int, needed: int, reason: str, *, name: str = "n_times") -> None:
    """Refuse a signal (or a width called `name`) that is shorter than the layers need; `reason` says why.

    Raises
    ------
    InputError
        If it is.
    """
    if n_times < needed:
        longer = "longer window" if name == "n_times" else f"larger {name}"
        raise InputError(
            f"encoder '{encoder}' needs at least {needed} samples ({reason}), got {name} {n_times}",
            where=WHERE,
            hint=f"take a {longer}, or a smaller kernel_size or pool_size",
        )


def check_heads(encoder: str, name: str, width: int, n_heads: int) -> None:
    """Refuse a width that the attention heads cannot share equally.

    Raises
    ------
    InputError
        If `width` is no multiple of `n_heads`.
    """
    if width % n_heads:
        raise InputError(
            f"encoder '{encoder}' got {name} {width}, expected a multiple of n_heads {n_heads}", where=WHERE
        )


def _check_whole(encoder: str, name: str, value: int, least: int, *, where: str | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(
            f"encoder '{encoder}' got {name} {value!r}, expected a whole number of at least {least}", where=where
        )
