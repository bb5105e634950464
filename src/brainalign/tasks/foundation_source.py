"""One source of a foundation run as a run of its own: decode, encode and convert take it like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment.foundation import FoundationAligner, inputs_of
from brainalign.alignment.transforms import SignalTransform
from brainalign.cache import default_cache_dir
from brainalign.device import resolve_device
from brainalign.errors import InputError, unknown_name
from brainalign.evaluation.result import read_result
from brainalign.execution.foundation_again import open_foundation, reopen_foundation
from brainalign.execution.progress import Reporter, Silent
from brainalign.recipes.recipe import Recipe
from brainalign.tasks.trained import TrainedRun

if TYPE_CHECKING:
    from brainalign.execution.joint import Member
    from brainalign.execution.session import Session

SOURCE = "--source"


class SourceAligner:
    """The part of a foundation model that concerns one source, with the interface of a model of one subject.

    Parameters
    ----------
    model : FoundationAligner
        Fitted.
    name : str
        Of the source.

    Attributes
    ----------
    recipe : Recipe
        That of the run, `signals` as they are for this source's modality.
    facts : dict
        Channels, samples, sampling rate and first sample of the source; `target` of the run.
    signal_transform : SignalTransform
    """

    has_epochs = True

    def __init__(self, model: FoundationAligner, name: str) -> None:
        self.model, self.name = model, name
        own = model.facts["sources"][name]
        self.facts: dict[str, Any] = {**own, "target": model.facts["target"]}
        self.recipe: Recipe = model.recipe.model_copy(update={"signals": inputs_of(model.recipe, own["modality"])})

    @property
    def signal_transform(self) -> SignalTransform:
        """Scaling (and whitening) fitted on the source's training signals."""
        return self.model.signal_transforms[self.name]

    def similarity(
        self, signals: NDArray[Any], images: Mapping[str, NDArray[Any]], *, repetitions: object = None
    ) -> NDArray[np.float32]:
        """Cosine between signals (n, n_chans, n_times) and images (m, dim), (n, m); repetitions play no part."""
        return self.model.similarity(signals, {"image": images["image"]}, source=self.name)

    def embed_brain(self, signals: NDArray[Any]) -> NDArray[np.float32]:
        """Signals (n, n_chans, n_times) in the shared space, unit norm, (n, shared)."""
        return self.model.embed_brain(signals, source=self.name)

    def embed_image(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Image features (n, dim) in the shared space, unit norm, (n, shared)."""
        return self.model.embed_image(features)


@dataclass
class OpenFoundation:
    """A finished foundation run: its model now, its data when they are asked for.

    Attributes
    ----------
    folder : Path
    document : mapping
        What `foundation.json` holds.
    """

    folder: Path
    document: Mapping[str, Any]
    model: FoundationAligner
    cache_dir: Path
    device: str = "cpu"
    root: Path | None = None
    reporter: Reporter = field(default_factory=Silent)
    _members: Mapping[str, Member] | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        root: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> OpenFoundation:
        """Read what the run found, and its model.

        Raises
        ------
        InputError
            If the folder holds no finished foundation run.
        """
        place, chosen = Path(folder), resolve_device(device)
        document, model = open_foundation(place, device=chosen)
        held = None if root is None else Path(root)
        return cls(place, document, model, default_cache_dir(cache), chosen, held, reporter or Silent())

    def source(self, asked: str | None, *, where: str = SOURCE) -> FoundationSource:
        """A source by its name, or by its modality where one subject alone was measured so.

        Parameters
        ----------
        asked : str or None
            May be left out where the run has a single source.
        where : str
            The option that names it, for messages.

        Raises
        ------
        InputError
            If nothing, or no single source, is meant.
        """
        name = source_named(self.document, asked, where=where)
        folder = self.folder / "sources" / name
        aligner = SourceAligner(self.model, name)
        return FoundationSource(
            folder, read_result(folder), aligner, self.cache_dir, self.device, self.root, self.reporter, run=self
        )

    @property
    def members(self) -> Mapping[str, Member]:
        """The run's subjects with their data, opened once for all sources.

        Raises
        ------
        InputError
            If the data are not at hand, or are others than the run's.
        """
        if self._members is None:
            found = reopen_foundation(
                self.folder, root=self.root, device=self.device, cache=self.cache_dir, reporter=self.reporter
            )
            self._members = found.members
        return self._members


@dataclass
class FoundationSource(TrainedRun):
    """One source of a foundation run; `folder` is its own below `sources/`.

    Attributes
    ----------
    run : OpenFoundation
        Shared by all sources that were asked of it.
    """

    run: OpenFoundation | None = field(default=None, repr=False)

    def shares_space_with(self, other: TrainedRun) -> bool:
        """Whether signals of both lie in one space: two sources of the same run."""
        mine, theirs = self.run, getattr(other, "run", None)
        return mine is not None and theirs is not None and mine.folder.resolve() == theirs.folder.resolve()

    def _open_session(self) -> Session:
        assert self.run is not None
        return self.run.members[self.folder.name].session


def source_named(document: Mapping[str, Any], asked: str | None, *, where: str = SOURCE) -> str:
    """The name of the source that is meant: by its name, or by its modality where one subject alone has it.

    Raises
    ------
    InputError
        If nothing, or no single source, is meant.

    Examples
    --------
    >>> sources = [{"name": f"{m}-{i}", "modality": m} for m, i in (("eeg", 1), ("eeg", 2), ("fmri", 1))]
    >>> source_named({"sources": sources}, "fmri"), source_named({"sources": sources}, "eeg-2")
    ('fmri-1', 'eeg-2')
    """
    modality_of = {str(one["name"]): str(one["modality"]) for one in document["sources"]}
    listed = ", ".join(modality_of)
    if asked is None and len(modality_of) > 1:
        text = f"the run has {len(modality_of)} sources, none is named"
        raise InputError(text, where=where, hint=f"there are {listed}")
    if asked is None or asked in modality_of:
        return asked if asked is not None else next(iter(modality_of))
    measured = [name for name, modality in modality_of.items() if modality == asked]
    if len(measured) > 1:
        text = f"{len(measured)} sources were measured with {asked}"
        raise InputError(text, where=where, hint=f"name one: {', '.join(measured)}")
    if not measured:
        raise unknown_name("source", asked, list(dict.fromkeys([*modality_of, *modality_of.values()])), where=where)
    return measured[0]
