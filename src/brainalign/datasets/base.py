"""What every data set offers: facts about itself, and per subject the images shown and the signals measured."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from brainalign.errors import InputError
from brainalign.files import fingerprint, sha256_json
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set, shown by `brainalign datasets NAME` and in every report.

    Attributes
    ----------
    subjects : tuple of str
        Subjects (or sessions, where sessions show different images).
    protocol : str
        The protocol used when none is asked for.
    virtual : bool
        Whether the signals were computed and not measured.
    """

    name: str
    title: str
    modality: str
    subjects: tuple[str, ...]
    protocol: str
    licence: str
    citation: str
    url: str = ""
    size: str = ""
    layout: str = ""
    virtual: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of `datasets check`: what is wrong (or well), where, and what to do."""

    ok: bool
    where: str
    text: str


class Dataset(abc.ABC):
    """A data set opened at a place.

    Parameters
    ----------
    root : path-like, optional
        Folder that holds the files; None for embedded data.
    preset : str, optional
        A named size or variant (`virtual-eeg:full`).
    cache_dir : path-like, optional
        Where derived data are kept; the user's cache folder by default.
    """

    info: ClassVar[DatasetInfo]
    presets: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        if preset is not None and preset not in self.presets:
            offered = ", ".join(self.presets) or "none"
            raise InputError(f"dataset '{self.info.name}' has no preset '{preset}'", hint=f"presets: {offered}")
        self.root = Path(root) if root is not None else None
        self.preset = preset

    @property
    def name(self) -> str:
        """Registry name, with the preset if there is one."""
        return f"{self.info.name}:{self.preset}" if self.preset else self.info.name

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects that can be opened here."""
        return self.info.subjects

    def require_root(self) -> Path:
        """The data folder.

        Raises
        ------
        InputError
            If no folder was given, or it does not exist.
        """
        if self.root is None:
            raise InputError(f"dataset '{self.info.name}' needs a folder", hint="give it with --root DIR")
        if not self.root.is_dir():
            raise InputError("is not a folder", where=self.root, hint="check --root")
        return self.root

    def require_subject(self, subject: str) -> str:
        """`subject` if it is one of this data set's, else an error that lists them."""
        if subject not in self.subjects:
            known = ", ".join(self.subjects)
            raise InputError(
                f"dataset '{self.name}' has no subject '{subject}'", where=self.root, hint=f"there are: {known}"
            )
        return subject

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:  # noqa: B027 - most have nothing to do
        """Make what must be made before images can be read (rendered pictures); nothing for most data sets."""

    @abc.abstractmethod
    def stimuli(self, subject: str) -> StimulusSet:
        """The images shown to a subject."""

    @abc.abstractmethod
    def recording(self, subject: str) -> Recording:
        """The signals of a subject, opened lazily where they are large."""

    @abc.abstractmethod
    def check(self) -> list[Finding]:
        """Look at the files and say what is there, what is missing and how to get it."""

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """Public files of the subjects (of all, where none is named).

        Parameters
        ----------
        subjects : tuple of str
        variant : str, optional
            One of several forms of the data (`things-eeg2:raw`), where a data set has them.

        Raises
        ------
        InputError
            If this data set cannot be fetched.
        """
        name = cls.info.name
        hint = (
            "it is made here, nothing needs fetching"
            if cls.info.virtual
            else f"see {cls.info.url or 'its documentation'}"
        )
        raise InputError(f"dataset '{name}' cannot be fetched", hint=hint)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Files that hold a subject's signals, and those that say how they were made; none where they are computed."""
        return ()

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """What identifies this data set in a run's hash: its name, options that change the data, and the recordings.

        Parameters
        ----------
        subjects : iterable of str, optional
            Whose recordings count; all by default. A run names those it trains and tests on, so that it stays the same
            run where others are added.

        Raises
        ------
        InputError
            If a recording cannot be read.
        """
        if self.root is None:
            return {"name": self.name}
        wanted = sorted(self.subjects if subjects is None else set(subjects))
        found = {one: [fingerprint(path) for path in self.recording_files(one)] for one in wanted}
        kept = {one: sha256_json(files) for one, files in found.items() if files}
        return {"name": self.name} | ({"recordings": kept} if kept else {})

    def truth(self, subject: str) -> dict[str, Any] | None:
        """What was planted (virtual data only)."""
        return None
