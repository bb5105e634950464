"""From a name on the command line to an analysis."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    from brainalign.analysis.base import Analysis, Options
    from brainalign.execution.progress import Reporter


@dataclass(frozen=True)
class Entry:
    """Where an analysis lives, and what its help says before it is imported.

    Attributes
    ----------
    module : str
        Offers `Options` (settings, each with a description) and `run(paths, options, reporter)`.
    takes : str
        What paths it reads.
    summary : str
    of : str
        What such a path is, in words.
    needed : bool
        Whether a path must be given; else an option may say what is analysed.
    """

    module: str
    takes: str
    summary: str
    of: str = "finished folder"
    needed: bool = True


# A new analysis is one file and one line here; its options become those of the command line.
ANALYSES: dict[str, Entry] = {
    "layers": Entry("brainalign.analysis.layers", "SWEEP...", "Scores, losses and concepts over the depth of a model."),
    "scaling": Entry("brainalign.analysis.scaling", "SWEEP...", "Scores of backbones over their number of parameters."),
    "space": Entry("brainalign.analysis.space", "RUN|SWEEP", "Maps and numbers of the space that two worlds share."),
    "time": Entry("brainalign.analysis.time", "RUN...", "Scores over windows of time: when the signal can be decoded."),
    "repetitions": Entry("brainalign.analysis.repetitions", "RUN...", "Scores over averaged repetitions."),
    "newcomer": Entry(
        "brainalign.analysis.newcomer", "RUN", "A new subject with few images, added to a foundation run or alone."
    ),
    "channels": Entry("brainalign.analysis.channels", "RUN|SWEEP...", "Which channels know the image, and are needed."),
    "losses": Entry(
        "brainalign.analysis.losses", "RUN|SWEEP...", "Terms, weights and gradients of losses over training."
    ),
    "rsa": Entry(
        "brainalign.analysis.rsa",
        "[RUN...]",
        "Layers whose geometry is like a brain's (RSA): RUN... or --dataset.",
        needed=False,
    ),
    "saliency": Entry("brainalign.analysis.saliency", "IMAGE...", "What stands out in pictures, and where.", "picture"),
}


class Module(Protocol):
    """What the module of an analysis offers."""

    @property
    def Options(self) -> type[Options]:
        """Its settings."""

    def run(self, paths: Sequence[Path], options: Any, reporter: Reporter | None = None) -> Analysis:
        """Read what the paths name (finished runs or sweeps, pictures); write nothing."""


def find_analysis(name: str) -> Module:
    """The module of an analysis, imported now.

    Raises
    ------
    InputError
        If there is none of that name; names the nearest one.
    """
    if name not in ANALYSES:
        raise unknown_name("analysis", name, ANALYSES, where="analyze")
    return cast(Module, importlib.import_module(ANALYSES[name].module))


def analyze(
    name: str,
    paths: Sequence[str | Path],
    options: Mapping[str, Any] | None = None,
    *,
    reporter: Reporter | None = None,
) -> Analysis:
    """Run an analysis; `brainalign.report.analysis_page.write_analysis` writes its page.

    Parameters
    ----------
    name : str
        A key of `ANALYSES`.
    paths : sequence of path-like
        Folders of finished runs or sweeps, or image files: what the entry `takes`.
    options : mapping, optional
        Settings of the analysis by name.
    reporter : Reporter, optional
        Shows how far it is.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If the name, an option or a path cannot be used.
    """
    from brainalign.analysis.base import Finding, read_options

    module = find_analysis(name)
    if not paths and ANALYSES[name].needed:
        entry = ANALYSES[name]
        raise InputError(f"needs a {entry.of}", where=f"analyze {name}", hint=f"give {entry.takes}")
    places = [Path(path) for path in paths]
    found = module.run(places, read_options(module.Options, options or {}), reporter)
    return replace(found, findings=(*found.findings, *(Finding("limit", text) for text in _always_said(places))))


def _always_said(paths: Sequence[Path]) -> list[str]:
    """What no number made from these runs may go without, such as that images came in blocks."""
    from brainalign.evaluation.comparison import runs_of
    from brainalign.evaluation.result import read_result

    texts: dict[str, None] = {}
    for path in paths:
        with contextlib.suppress(InputError, OSError):  # images, and sweeps whose runs are not kept
            joint = (path / "foundation.json").is_file()
            for run in sorted((path / "sources").iterdir()) if joint else runs_of(path):
                texts |= dict.fromkeys(read_result(run).always_said)
    return list(texts)
