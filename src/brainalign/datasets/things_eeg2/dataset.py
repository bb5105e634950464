"""The THINGS-EEG2 reader: one `Recording` whatever layout the files have."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.things_eeg2.images import (
    Photos,
    image_folder,
    list_photos,
    metadata_file,
    stimulus_id,
    stimulus_set,
)
from brainalign.datasets.things_eeg2.layouts import PARTS, STIM, Part, part_files, read_part, subject_folders
from brainalign.datasets.things_eeg2.store import check_finite, open_part
from brainalign.errors import InputError
from brainalign.files import read_json
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

# Gifford et al. 2022, section 2: photos and repetitions of the two parts.
PUBLISHED_PHOTOS = {"train": 16540, "test": 200}
PUBLISHED_REPETITIONS = {"train": 4, "test": 80}
HOW_TO_GET = {
    "eeg": "brainalign datasets fetch things-eeg2; preprocessed: osf.io/anp5v (17 channels, 100 Hz); raw: osf.io/crxs4",
    "train": "training_images.zip is osf.io/3v527",
    "test": "test_images.zip is osf.io/znu7b",
    "metadata": "image_metadata.npy is osf.io/qkgtf",
}


class ThingsEEG2(Dataset):
    """EEG of ten people who saw 16,540 training photos four times and 200 test photos eighty times.

    Reads the four layouts in circulation (see `brainalign.datasets.things_eeg2.layouts`) into the same `Recording`.

    Parameters
    ----------
    root : path-like
        Folder that holds `sub-01`, ... (or `Preprocessed_data_250Hz/sub-01`, ...), the photos and `image_metadata.npy`.
    cache_dir : path-like, optional
        Where pickled signals are kept as plain memory maps; brainalign's cache by default.
    """

    info = DatasetInfo(
        name="things-eeg2",
        title="THINGS-EEG2, EEG to object photos in rapid series",
        modality="eeg",
        subjects=tuple(f"{i:02d}" for i in range(1, 11)),
        protocol="things-eeg2/intra/v1",
        licence="CC-BY-4.0 (EEG); the THINGS photos belong to third parties, for research only",
        citation="Gifford, Dwivedi, Roig & Cichy, A large and rich EEG dataset for modeling human visual object "
        "recognition, NeuroImage 264:119754, 2022",
        url="https://osf.io/3jk45/",
        size="1.1 GB a subject (17 channels, 100 Hz), 2.6 to 10.4 GB (63 channels, 250 Hz)",
        layout="sub-XX/preprocessed_eeg_{training,test}.npy, or {train,test}.pt, or {train,test}.npy + info.json; "
        "training_images/, test_images/, image_metadata.npy",
    )

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        super().__init__(root, preset=preset)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None

    @property
    def cache_dir(self) -> Path:
        """Folder of derived files."""
        if self._cache_dir is None:
            self._cache_dir = default_cache_dir(None)
        return self._cache_dir

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects with files in the folder (all ten before a folder is given)."""
        return self.info.subjects if self.root is None else tuple(subject_folders(self.require_root()))

    def _files(self, subject: str) -> tuple[str, Path, Path]:
        root = self.require_root()
        if self.subjects:
            self.require_subject(subject)
        return part_files(root, subject)

    def _unit(self, subject: str) -> str:
        folder = self._files(subject)[1].parent
        facts = read_json(folder / "info.json") if (folder / "info.json").is_file() else None
        if isinstance(facts, dict) and isinstance(facts.get("unit"), str):  # `brainalign prepare` says it
            return str(facts["unit"])
        return "" if "no_whiten" in folder.parent.name else "whitened"

    @functools.cached_property
    def _photos(self) -> dict[str, Photos]:
        return {part: list_photos(self.require_root(), part) for part in PARTS}

    def _photos_of(self, subject: str, parts: dict[str, Part] | None = None) -> dict[str, Photos]:
        """From the root; where it has none, from the signal files (UBP names the photo of every trial)."""
        root = self.require_root()
        if metadata_file(root) or all(image_folder(root, part) for part in PARTS):
            return self._photos
        parts = parts or self._parts(subject)
        return {name: list_photos(root, name, part.images) for name, part in parts.items()}

    def stimuli(self, subject: str) -> StimulusSet:
        """Training and test photos, `things/aardvark_01b`, concept from the folder; captions are empty.

        Neither the files of the photos nor the signals need be there until one is read.
        """
        if subject not in self.info.subjects:
            self._files(subject)
        return stimulus_set(self._photos_of(subject), self.require_root())

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, whitened EEG; the trigger channel is left out.

        `trials` holds `part` ('train', 'test'), `repetition` from 1, and `session` from 1 where the layout tells it.

        Raises
        ------
        InputError
            If files are missing or damaged, or signals and photos do not fit together.
        """
        parts = self._parts(subject)
        photos = self._photos_of(subject, parts)
        for name, part in parts.items():
            self._check_photos(subject, name, part, photos)
        train, test = (parts[name] for name in PARTS)
        self._check_alike(subject, train, test)
        tables = [_trial_columns(name, part, photos[name]) for name, part in parts.items()]
        columns: dict[str, Any] = {
            name: np.concatenate([t[name] for t in tables]) for name in tables[0] if name in tables[1]
        }
        recording = Recording.from_arrays(
            _Stacked(train.trials, test.trials),
            columns.pop("stimulus_id").tolist(),
            modality="eeg",
            subject=subject,
            ch_names=train.ch_names,
            sfreq=train.sfreq,
            tmin=train.tmin,
            unit=self._unit(subject),
            check_finite=False,  # done once when the part was opened
            **columns,
        )
        return recording.pick([name for name in recording.ch_names if name != STIM])

    def _parts(self, subject: str) -> dict[str, Part]:
        _, *paths = self._files(subject)
        return {name: open_part(path, self.cache_dir) for name, path in zip(PARTS, paths, strict=True)}

    def _check_photos(self, subject: str, name: str, part: Part, photos: dict[str, Photos]) -> None:
        path, listed = self._files(subject)[1 + PARTS.index(name)], photos[name]
        if part.images is not None:
            unknown = sorted(set(_ids(part, listed)) - set(listed.ids))
            if unknown:
                problem = f"showed {unknown[0]}, which {listed.source} lacks"
                raise InputError(problem, where=path, hint="check the photos")
            return
        if part.n_images != len(listed.names):
            problem = f"has {part.n_images} {name} images, {listed.source} lists {len(listed.names)}"
            raise InputError(problem, where=path, hint="signals and photos must come from one version of the data")
        if part.per_concept:
            groups = np.array(listed.concepts).reshape(-1, part.per_concept)
            mixed = np.flatnonzero((groups != groups[:, :1]).any(axis=1))
            if len(mixed):
                problem = f"groups {part.per_concept} images a concept, {listed.source} does not (group {mixed[0]})"
                raise InputError(problem, where=path, hint="check that no photo is missing")

    def _check_alike(self, subject: str, train: Part, test: Part) -> None:
        where = self._files(subject)[2]
        if train.ch_names != test.ch_names:
            raise InputError("names other channels than the training file", where=where, hint="get both anew")
        if train.times.shape != test.times.shape or not np.allclose(train.times, test.times, atol=1e-6):
            raise InputError("has other times than the training file", where=where, hint="get both anew")

    def check(self) -> list[Finding]:
        """Read every file whole: layouts, shapes, values, photos; what is missing and where to get it.

        Writes nothing, so pickled subjects are read into memory one part at a time.
        """
        root = self.require_root()
        findings = self._check_images(root)
        for subject in self.subjects:
            findings.extend(self._check_subject(subject))
        missing = sorted(set(self.info.subjects) - set(self.subjects))
        if not self.subjects:
            try:
                part_files(root, self.info.subjects[0])
            except InputError as error:
                findings.append(Finding(False, str(root), f"{error.problem}; {error.hint}; {HOW_TO_GET['eeg']}"))
        elif missing:
            text = f"not here (optional): subjects {', '.join(missing)}; {HOW_TO_GET['eeg']}"
            findings.append(Finding(True, str(root), text))
        return findings

    def _check_images(self, root: Path) -> list[Finding]:
        findings = []
        if metadata_file(root) is None:
            text = f"not here; the order of the photos is read from the sorted folders; {HOW_TO_GET['metadata']}"
            findings.append(Finding(image_folder(root, "train") is not None, "image_metadata.npy", text))
        for part in PARTS:
            try:
                findings.append(_check_part_images(root, part, list_photos(root, part)))
            except InputError as error:
                findings.append(Finding(False, f"{part} photos", f"{error}; {HOW_TO_GET[part]}"))
        return findings

    def _check_subject(self, subject: str) -> list[Finding]:
        try:
            layout, *paths = self._files(subject)
            parts = {}
            for name, path in zip(PARTS, paths, strict=True):
                part = read_part(path)
                check_finite(part, path)
                parts[name] = _without_trials(part)
            self._check_alike(subject, parts["train"], parts["test"])
            photos = self._photos_of(subject, parts)
            for name, part in parts.items():
                self._check_photos(subject, name, part, photos)
        except InputError as error:
            return [Finding(False, f"subject {subject}", str(error))]
        return [Finding(True, f"subject {subject}", _describe(layout, parts))]

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """Preprocessed (or, as `things-eeg2:raw`, raw) archives of the subjects, and the photos with their table."""
        from brainalign.datasets.sources import remote_files

        return remote_files(cls, subjects, variant)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """Training and test trials, and what `brainalign prepare` says of them."""
        _, *parts = self._files(subject)
        said = parts[0].parent / "info.json"
        return (*parts, said) if said.is_file() else tuple(parts)

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """Name, layout, unit and recordings."""
        if self.root is None or not self.subjects:
            return super().facts(subjects)
        layout, unit = self._files(self.subjects[0])[0], self._unit(self.subjects[0])
        return super().facts(subjects) | {"layout": layout, "unit": unit}


class _Stacked:
    """Training and test trials behind each other, read on demand."""

    def __init__(self, *parts: NDArray[Any]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        wanted = np.arange(self.shape[0])[rows]
        block = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)
        for part, start in zip(self._parts, self._starts[:-1], strict=True):
            here = (wanted >= start) & (wanted < start + len(part))
            if here.any():
                block[here] = part[wanted[here] - start]
        return block


def _ids(part: Part, photos: Photos) -> tuple[str, ...]:
    """Stimulus id of each image of a part: the file's own names where it has them, else by the order of conditions."""
    return photos.ids if part.images is None else tuple(stimulus_id(name.replace("\\", "/")) for name in part.images)


def _trial_columns(name: str, part: Part, photos: Photos) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        "stimulus_id": np.repeat(_ids(part, photos), part.n_repetitions),
        "part": np.full(len(part.trials), name),
        "repetition": np.tile(np.arange(1, part.n_repetitions + 1), part.n_images),
    }
    if part.sessions is not None:
        columns["session"] = part.sessions.ravel()
    return columns


def _without_trials(part: Part) -> Part:
    return replace(part, trials=np.broadcast_to(np.float32(0), part.trials.shape))


def _check_part_images(root: Path, part: str, photos: Photos) -> Finding:
    published = PUBLISHED_PHOTOS[part]
    share = "as published" if len(photos.names) == published else f"a subset of the {published} published"
    listed = f"{len(photos.names)} {part} photos of {len(set(photos.concepts))} concepts in {photos.source} ({share})"
    if not photos.there:
        return Finding(False, photos.folder, f"no such folder; {listed}; {HOW_TO_GET[part]}, unpack it")
    missing = [name for name in photos.names if not (root / photos.folder / name).is_file()]
    if missing:
        text = f"missing, with {len(missing) - 1} others; {HOW_TO_GET[part]}"
        return Finding(False, f"{photos.folder}/{missing[0]}", text)
    return Finding(True, photos.folder, listed)


def _describe(layout: str, parts: dict[str, Part]) -> str:
    train = parts["train"]
    n_chans = sum(name != STIM for name in train.ch_names)
    counts = ", ".join(f"{p.n_images} {name} images x {p.n_repetitions}" for name, p in parts.items())
    odd = [
        f"published are {PUBLISHED_REPETITIONS[name]} repetitions of {name} images"
        for name, part in parts.items()
        if part.n_repetitions != PUBLISHED_REPETITIONS[name]
    ]
    span = f"{len(train.times)} samples at {train.sfreq:g} Hz from {train.tmin:g} s"
    return "; ".join([f"{layout} layout: {counts}, {n_chans} channels, {span}", *odd])
