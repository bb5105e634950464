"""`brainalign analyze saliency`: what visual saliency extraction finds in pictures, map by map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from brainalign.analysis import base, saliency_figures, words
from brainalign.analysis.base import Analysis, Figure, Finding, Table
from brainalign.analysis.saliency_figures import TITLES, Seen
from brainalign.device import resolve_device
from brainalign.errors import InputError
from brainalign.execution.progress import Reporter, Silent
from brainalign.stimuli import open_image
from brainalign.stimuli.images import IMAGE_SUFFIXES
from brainalign.stimuli.saliency import GREY, VisualSaliency, visual_saliency
from brainalign.stimuli.transforms import stimulus_transform

NO_VALUE = "eta and alpha have no published value: 1 and 1/3 unless given (docs/saliency.md says why)."


class Options(base.Options):
    """Settings of the saliency analysis."""

    transform: str = Field("vse", description="As in recipes, such as 'vse?eta=0.5&scales=1,2'.")
    show: int = Field(12, ge=0, description="Pictures, from the first on, that get a figure; all are in the table.")
    device: str = Field("auto", description="auto, cpu or cuda.")


@dataclass(frozen=True)
class Numbers:
    """Statistics of one picture.

    Attributes
    ----------
    name : str
    size : (int, int)
        Width and height of the file, pixels.
    analysed : (int, int)
        Width and height of the maps, pixels.
    maps : dict of str to dict
        By map, then by name of the statistic.
    edges_r, exogenous_r : float or None
        Pearson's correlation of the antagonism map with the edges and with the exogenous map, over pixels; None where
        a map is flat.
    light : float or None
        Share of the picture's light (sum of grey) that the enhanced one keeps; None for a black picture.
    bright : float
        Share of pixels whose response is above half of the largest.
    """

    name: str
    size: tuple[int, int]
    analysed: tuple[int, int]
    maps: dict[str, dict[str, float]]
    edges_r: float | None
    exogenous_r: float | None
    light: float | None
    bright: float

    def row(self) -> dict[str, Any]:
        """One line of the table."""
        row: dict[str, Any] = {"picture": self.name, "width": self.size[0], "height": self.size[1]}
        row |= {"analysed width": self.analysed[0], "analysed height": self.analysed[1]}
        row |= {"response and edges r": self.edges_r, "response and exogenous r": self.exogenous_r}
        row |= {"light kept": self.light, "share above half": self.bright}
        for name, found in self.maps.items():
            row |= {f"{name} mean": found["mean"], f"{name} deviation": found["deviation"]}
        return row


def run(paths: Sequence[Path], options: Options, reporter: Reporter | None = None) -> Analysis:
    """Extract the maps of pictures, draw them and say what they do to the picture.

    Parameters
    ----------
    paths : sequence of Path
        Image files, or folders whose image files (those directly inside) are taken in the order of their names.
    options : Options
    reporter : Reporter, optional
        Shows how far it is.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If a picture cannot be read, a folder holds none, or the transform is not visual saliency extraction.
    """
    transform = _transform(options.transform)
    device = resolve_device(options.device)
    files = [file for path in paths for file in _pictures(path)]
    numbers: list[Numbers] = []
    figures: list[Figure] = []
    with (reporter or Silent()).step(f"maps of {len(files)} picture(s)") as tick:
        for place, file in enumerate(files, start=1):
            seen = _see(file, transform, device)
            numbers.append(_measure(seen))
            if place <= options.show:
                figures.append(saliency_figures.figure(seen, place, numbers[-1].maps))
            tick(place, len(files))
    return Analysis(
        name="saliency",
        title=f"Visual saliency of {files[0].name}" if len(files) == 1 else f"Visual saliency of {len(files)} pictures",
        virtual=False,
        facts={
            "Pictures": str(len(files)),
            "Transform": transform.key,
            "Shorter side": f"{transform.size} pixels" if transform.size else "as in the file",
        },
        findings=(*_findings(numbers), *_limits(transform, len(files), options)),
        figures=tuple(figures),
        tables=(Table("pictures", "Numbers of the pictures", [one.row() for one in numbers]),),
        numbers={
            "transform": transform.key,
            "pictures": [{**one.row(), "maps": one.maps} for one in numbers],
        },
    )


def _transform(text: str) -> VisualSaliency:
    found = stimulus_transform(text)
    if not isinstance(found, VisualSaliency):
        raise InputError(
            f"'{text}' is not visual saliency extraction", where="--transform", hint="give vse?option=value"
        )
    return found


def _pictures(path: Path) -> list[Path]:
    """The file itself, or the image files of a folder."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise InputError("holds no image file", where=path, hint="give pictures, or a folder with pictures inside")
    return files


def _see(file: Path, transform: VisualSaliency, device: str) -> Seen:
    image = open_image(str(file))
    try:
        pixels = transform.pixels(image)
        maps = visual_saliency(pixels.to(device), **transform.options)
    except InputError as error:
        raise InputError(error.problem, where=file, hint=error.hint) from error
    found = {"original": pixels[0].numpy()} | {name: values[0].cpu().numpy() for name, values in maps.items()}
    return Seen(file.name, image.size, found)


def _measure(seen: Seen) -> Numbers:
    maps = {name: _statistics(seen.maps[name]) for name in TITLES if seen.maps[name].ndim == 2}
    response = seen.maps["antagonism"]
    before, after = (np.tensordot(GREY, np.clip(seen.maps[name], 0, 1), 1).sum() for name in ("original", "enhanced"))
    return Numbers(
        name=seen.name,
        size=seen.size,
        analysed=(response.shape[1], response.shape[0]),
        maps=maps,
        edges_r=_correlation(response, seen.maps["edges"]),
        exogenous_r=_correlation(response, seen.maps["exogenous"]),
        light=float(after / before) if before > 0 else None,
        bright=float((response > 0.5 * response.max()).mean()),
    )


def _statistics(values: NDArray[np.float32]) -> dict[str, float]:
    exact = values.astype(np.float64)
    low, q05, middle, q95, high = np.quantile(exact, (0, 0.05, 0.5, 0.95, 1))
    found = {"mean": exact.mean(), "deviation": exact.std(), "min": low, "q05": q05, "median": middle}
    return {name: float(value) for name, value in (found | {"q95": q95, "max": high}).items()}


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """Pearson's correlation over pixels; None where one of both is flat."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1])


def _findings(numbers: Sequence[Numbers]) -> list[Finding]:
    edges = [one.edges_r for one in numbers if one.edges_r is not None]
    exogenous = [one.exogenous_r for one in numbers if one.exogenous_r is not None]
    light = [one.light for one in numbers if one.light is not None]
    found = []
    if edges and exogenous:
        text = f"The response goes with edges at {_spread(edges)} and with the exogenous map at {_spread(exogenous)}."
        found.append(Finding("finding", f"{text} Pearson's r over the pixels of a picture."))
    if light:
        lowest, highest = words.percent(min(light)), words.percent(max(light))
        each = f", {lowest} to {highest} over {len(light)} pictures" if len(light) > 1 else ""
        mean = words.percent(sum(light) / len(light))
        found.append(Finding("finding", f"Enhanced, a picture keeps {mean} of its light{each}."))
    flat = [one.name for one in numbers if one.maps["antagonism"]["max"] == one.maps["antagonism"]["min"]]
    if flat:
        named = ", ".join(flat[:5]) + (", ..." if len(flat) > 5 else "")
        text = f"Nothing stands out in {len(flat)} of {len(numbers)} picture(s), which end black: {named}."
        found.append(Finding("finding", text))
    return found


def _spread(values: Sequence[float]) -> str:
    """A mean, and the ends where there are several."""
    if len(values) == 1:
        return f"r = {values[0]:.2f}"
    return f"mean r = {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _limits(transform: VisualSaliency, n: int, options: Options) -> list[Finding]:
    texts = [
        NO_VALUE,
        "The maps show what the equations bring out, not where a person looks or what a brain responds to.",
    ]
    if transform.normalize == "zscore":
        texts.append("With z-scores the response is negative at many pixels: those are black in the enhanced picture.")
    if n > options.show:
        texts.append(f"Figures show the first {options.show} of {n} pictures; --show N draws more.")
    return [Finding("limit", text) for text in texts]
