"""Figures as files for papers: SVG, PDF and PNG, on white, fonts embedded, all in the one style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.errors import InputError, unknown_name
from brainalign.files import atomic_write, write_error
from brainalign.report.figures import Drawing
from brainalign.report.style import EXPORT, FORMATS, PNG_DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "figures"  # beside the page

# No dates and no program names: the same numbers give the same bytes.
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


def read_formats(text: str) -> tuple[str, ...]:
    """Formats of a list such as `svg,pdf`, each once.

    Raises
    ------
    InputError
        For one that figures cannot be written in.

    Examples
    --------
    >>> read_formats("pdf, png,pdf")
    ('pdf', 'png')
    """
    return tuple(check_formats(list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))))


def check_formats(formats: Sequence[str]) -> Sequence[str]:
    """The formats as they are.

    Raises
    ------
    InputError
        For one that figures cannot be written in.
    """
    for one in formats:
        if one not in FORMATS:
            raise unknown_name("figure format", one, FORMATS, where="--format")
    return formats


def save_figure(name: str, paint: Callable[[Axes], None], size: tuple[float, float], path: Path, kind: str) -> None:
    """Write one figure atomically.

    Parameters
    ----------
    name : str
        Salt of the ids inside an SVG, so that the same figure gives the same bytes.
    size : (float, float)
        Inches.
    kind : {'svg', 'pdf', 'png'}

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {**EXPORT, "svg.hashsalt": name}
    with rc_context(style), atomic_write(path) as file:
        canvas = Figure(figsize=size, layout="constrained")
        paint(canvas.subplots())
        canvas.savefig(file, format=kind, dpi=PNG_DPI, metadata=METADATA[kind])


def made_folder(folder: str | Path, hint: str) -> Path:
    """A folder, made if it is missing.

    Raises
    ------
    InputError
        If it is a file, or cannot be made.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise InputError("is a file, not a folder", where=place, hint=hint)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, place) from error
    return place


def save_figures(drawn: Sequence[Drawing], folder: str | Path, formats: Sequence[str]) -> list[Path]:
    """Write every figure of a page in every format; nothing where no format is asked for.

    Parameters
    ----------
    drawn : sequence of Drawing
        As `brainalign.report.figures.drawings` collects them.
    folder : path-like
        Made if it is missing.

    Returns
    -------
    list of Path
        The files, figure after figure.

    Raises
    ------
    InputError
        For an unknown format, or a folder that cannot be written.
    """
    check_formats(formats)
    if not formats:
        return []
    place = made_folder(folder, hint="figures need a folder of that name")
    written = []
    for one in drawn:
        for kind in formats:
            path = place / f"{one.name}.{kind}"
            save_figure(one.name, one.paint, one.size, path, kind)
            written.append(path)
    return written
