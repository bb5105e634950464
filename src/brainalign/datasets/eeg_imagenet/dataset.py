"""The ImageNetEEG reader."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainalign.cache import default_cache_dir
from brainalign.datasets.base import Dataset, DatasetInfo, Finding
from brainalign.datasets.eeg_imagenet.classes import class_name
from brainalign.datasets.eeg_imagenet.items import N_CHANS, WINDOW, Items, read_items
from brainalign.datasets.eeg_imagenet.spectrogram import Spectrograms
from brainalign.datasets.eeg_imagenet.splits import ALL, SINGLE, parts_of_images, read_splits
from brainalign.datasets.eeg_imagenet.store import open_store, store_folder, stored_items, subject_signals
from brainalign.datasets.eeg_imagenet.tensors import load_tensors
from brainalign.errors import InputError
from brainalign.recordings import Recording
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.columns import BLOCKED, PARTS, PRESENTATION, part_column

if TYPE_CHECKING:
    from brainalign.datasets.fetch import RemoteFile

FILES = {
    "5-95": "eeg_5_95_std.pth",
    "14-70": "eeg_14_70_std.pth",
    "55-95": "eeg_55_95_std.pth",
    "raw": "eeg_signals_raw_with_mean_std.pth",
}
SPECTROGRAM = "spectrogram"
SFREQ = 1000.0
PLACES = ("", "block", "data/block", "datasets")
IMAGE_PLACES = ("images", "imageNet_images")
HOW_TO_GET = "links are at github.com/perceivelab/eeg_visual_classification (PeRCeiVe Lab, research use)"
HOW_TO_GET_IMAGES = "get the photos from image-net.org (an account and its terms), as images/nXXXXXXXX/nXXXXXXXX_Y.JPEG"


class EEGImageNet(Dataset):
    """EEG (128 channels, 1 kHz) of six people who saw 2,000 photos of 40 ImageNet classes, half a second each, once.

    **All photos of a class came in one block**: every result says what that does to a score.

    Parameters
    ----------
    root : path-like
        Folder that holds a file of signals such as `eeg_5_95_std.pth`, `block_splits_by_image_all.pth` and `images/`.
    preset : str, optional
        Which file: '5-95', '14-70', '55-95' (Hz, standardised) or 'raw'; the one that is there by default. With
        '-spectrogram' behind it (or 'spectrogram' alone), time-frequency power instead of samples.
    cache_dir : path-like, optional
        Where the trials are kept as plain memory maps (2.7 GB a file); brainalign's cache by default.
    """

    info = DatasetInfo(
        name="eeg-imagenet",
        title="ImageNetEEG, EEG to photos of 40 classes SHOWN IN BLOCKS",
        modality="eeg",
        subjects=("1", "2", "3", "4", "5", "6"),
        protocol="eeg-imagenet/intra/v1",
        licence="research use, on the authors' terms; the photos are of ImageNet, under its own terms",
        citation="Spampinato, Palazzo, Kavasidis, Giordano, Souly & Shah, Deep learning human mind for automated "
        "visual classification, CVPR 2017; Palazzo et al., Decoding brain representations by multimodal learning of "
        "neural activity and visual features, TPAMI 43(11):3833-3849, 2021",
        url="https://github.com/perceivelab/eeg_visual_classification",
        size="3.1 GB a file of signals, 2.7 GB in the cache, photos 0.3 GB",
        layout="eeg_5_95_std.pth (or eeg_14_70_std.pth, eeg_55_95_std.pth, eeg_signals_raw_with_mean_std.pth), "
        "block_splits_by_image_all.pth; images/nXXXXXXXX/nXXXXXXXX_Y.JPEG",
    )
    presets = (*FILES, SPECTROGRAM, *(f"{name}-{SPECTROGRAM}" for name in FILES))

    def __init__(
        self, root: str | Path | None = None, *, preset: str | None = None, cache_dir: str | Path | None = None
    ) -> None:
        super().__init__(root, preset=preset)
        self._cache_dir = Path(cache_dir) if cache_dir is not None else None
        self._progress: Callable[[int, int], None] | None = None
        self._kind = (preset or "").removesuffix(SPECTROGRAM).removesuffix("-")

    @property
    def cache_dir(self) -> Path:
        """Where derived copies are kept."""
        return self._cache_dir or default_cache_dir()

    @functools.cached_property
    def _signals(self) -> Path:
        """The file of signals asked for, or the only one there is.

        Raises
        ------
        InputError
            If it is not there, or nobody could tell which of several is meant.
        """
        wanted = [FILES[self._kind]] if self._kind else list(FILES.values())
        found = self._find(wanted)
        if not found:
            hint = "see brainalign datasets check eeg-imagenet"
            raise InputError(f"holds no {' or '.join(wanted)}", where=self.require_root(), hint=hint)
        if len(found) > 1:
            names = ", ".join(f"eeg-imagenet:{kind}" for kind in FILES)
            problem = f"holds {found[0].name} and {found[1].name}"
            raise InputError(problem, where=self.require_root(), hint=f"name one: {names}")
        return found[0]

    def _find(self, names: list[str]) -> list[Path]:
        root = self.require_root()
        return [path for name in names for place in PLACES if (path := root / place / name).is_file()]

    @property
    def _raw(self) -> bool:
        return self._signals.name == FILES["raw"]

    @functools.cached_property
    def _store(self) -> tuple[Path, Items]:
        return open_store(self._signals, self.cache_dir, raw=self._raw, progress=self._progress)

    def _splits_file(self) -> Path | None:
        return next(iter(self._find([ALL, SINGLE])), None)

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the signals into the cache, where they are not there yet."""
        self._progress = progress
        _ = self._store

    def stimuli(self, subject: str) -> StimulusSet:
        """Photos that a subject saw, `imagenet/n02951358_31190`, in the order of their names; files need not be there.

        The table names the class (`concept`, `synset`), says that images came in blocks (`presentation`), and the part
        of every published split (`published_split_0` ...).

        Raises
        ------
        InputError
            If a file is missing or damaged, or splits and signals do not fit together.
        """
        items, subject = self._store[1], self.require_subject(subject)
        return self._stimuli(items, items.used & (items.subject == int(subject)), subject)

    def _stimuli(self, items: Items, chosen: Any, subject: str | None) -> StimulusSet:
        """Photos of some items; with a subject, the parts of the published splits too."""
        numbers = sorted(set(items.image[chosen].tolist()), key=lambda number: items.images[number])
        stems = [items.images[number] for number in numbers]
        synsets = [stem.partition("_")[0] for stem in stems]
        root = self.require_root()
        place = next((p for p in IMAGE_PLACES if (root / p).is_dir()), IMAGE_PLACES[0])
        table = pd.DataFrame({"stimulus_id": [f"imagenet/{stem}" for stem in stems]})
        table["path"] = [f"{place}/{synset}/{stem}.JPEG" for synset, stem in zip(synsets, stems, strict=True)]
        table["concept"], table["synset"] = [class_name(synset) for synset in synsets], synsets
        table[PRESENTATION] = BLOCKED
        path = self._splits_file()
        if path is not None and subject is not None:
            for number, split in enumerate(read_splits(path)):
                parts = parts_of_images(split, items, subject, path)
                table[part_column(number)] = [parts.get(image, "") for image in numbers]
        return StimulusSet(table, root)

    def recording(self, subject: str) -> Recording:
        """Trials of a subject, 20 to 460 ms: 440 samples at 1 kHz, as the published program cuts them.

        Trials shorter than 460 or longer than 600 samples are left out, as there. Channels are `E001` to `E128`: the
        files do not name them. With a spectrogram, channels are `E001@25Hz`, and the channel table names electrode and
        frequency.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        (folder, items), subject = self._store, self.require_subject(subject)
        signals: Any = subject_signals(folder, items, subject)
        shown = items.image[items.used & (items.subject == int(subject))]
        names = [f"E{number:03d}" for number in range(1, N_CHANS + 1)]
        sfreq, tmin, unit, channels = SFREQ, WINDOW[0] / SFREQ, "z", None
        if (self.preset or "").endswith(SPECTROGRAM):
            signals = Spectrograms(signals, SFREQ)
            heard, centres = signals.frequencies, signals.centres
            pairs = [(name, frequency) for name in names for frequency in heard]
            channels = pd.DataFrame(pairs, columns=["electrode", "frequency_hz"])
            names = [f"{name}@{frequency:g}Hz" for name, frequency in pairs]
            sfreq, tmin, unit = 1 / float(centres[1] - centres[0]), tmin + float(centres[0]), "dB"
        return Recording.from_arrays(
            signals,
            [f"imagenet/{items.images[number]}" for number in shown],
            modality="eeg",
            subject=subject,
            ch_names=names,
            sfreq=sfreq,
            tmin=tmin,
            unit=unit,
            channels=channels,
            check_finite=False,  # done once when the copy was made
        )

    def check(self) -> list[Finding]:
        """Signals, splits and photos; what is missing and how to get it. Reads no sample."""
        root = self.require_root()
        try:
            path = self._signals
        except InputError as error:
            return [Finding(False, str(root), f"{error.problem} (3.1 GB); {HOW_TO_GET}"), self._check_splits(None)]
        try:
            kept = stored_items(store_folder(path, self.cache_dir, raw=self._raw))
            items = kept or read_items(load_tensors(path), path)
        except InputError as error:
            return [Finding(False, path.name, str(error)), self._check_splits(None)]
        return [
            Finding(True, path.name, _describe(items)),
            self._check_splits(items),
            _check_photos(self._stimuli(items, items.used, None)),
            Finding(True, "block design", "all photos of a class came in one block: every result carries a warning"),
        ]

    def _check_splits(self, items: Items | None) -> Finding:
        path = self._splits_file()
        if path is None:
            text = f"missing, so that the protocol {self.info.protocol} has no splits; {HOW_TO_GET}"
            return Finding(False, ALL, text)
        try:
            splits = read_splits(path)
            if items is not None:
                for subject in sorted(set(items.subject.tolist())):
                    for split in splits:
                        parts_of_images(split, items, str(subject), path)
        except InputError as error:
            return Finding(False, path.name, str(error))
        counts = ", ".join(f"{len(splits[0][part])} {part}" for part in PARTS)
        return Finding(True, path.name, f"{len(splits)} splits; the first has {counts}")

    @classmethod
    def remote_files(cls, subjects: tuple[str, ...], variant: str | None = None) -> list[RemoteFile]:
        """It cannot be fetched: the authors keep it behind links for people.

        Raises
        ------
        InputError
            Always; it says how to get them.
        """
        raise InputError("dataset 'eeg-imagenet' cannot be fetched", hint=HOW_TO_GET)

    def recording_files(self, subject: str) -> tuple[Path, ...]:
        """The one file of all subjects."""
        return (self._signals,)

    def facts(self, subjects: Iterable[str] | None = None) -> dict[str, Any]:
        """Name, recordings, and the files of signals and splits."""
        if self.root is None:
            return super().facts(subjects)
        splits = self._splits_file()
        names = {"signals": self._signals.name, "splits": splits.name if splits else ""}
        return super().facts(subjects) | names


def _describe(items: Items) -> str:
    used = items.used
    short, long = int((items.samples < WINDOW[1]).sum()), int((items.samples > WINDOW[1]).sum() - used.sum())
    people = ", ".join(f"{s}: {int((items.subject[used] == s).sum())}" for s in np.unique(items.subject))
    text = f"{len(used)} trials, {len(items.labels)} classes, {len(items.images)} images; used of subject {people}"
    return f"{text}; left out {short} too short and {max(long, 0)} too long" if not used.all() else text


def _check_photos(stimuli: StimulusSet) -> Finding:
    root = stimuli.root or Path()
    missing = [name for name in stimuli.table["path"] if not (root / str(name)).is_file()]
    if missing:
        others = f", with {len(missing) - 1} others" if len(missing) > 1 else ""
        return Finding(False, str(missing[0]), f"missing{others}; {HOW_TO_GET_IMAGES}")
    return Finding(True, "photos", f"{len(stimuli)} photos of {stimuli.table['concept'].nunique()} classes")
