"""Small BIDS data sets written with MNE-BIDS: BrainVision and EDF files made byte by byte, fif files by MNE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

SFREQ = 200.0
EEG_NAMES = ("Fz", "Cz", "Pz", "P3", "P4", "O1", "Oz", "O2", "PO7", "PO8")
GAP_S, START_S = 0.5, 1.0


def write_stimuli(root: Path, names: list[str], seed: int = 0) -> np.ndarray:
    """PNG files of smooth colour fields below `root/stimuli`; their coarse colours, (n, 27), about standardised."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (len(names), 3, 3, 3))
    for name, field in zip(names, coarse, strict=True):
        path = root / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC).save(path)
    pattern: np.ndarray = (coarse.reshape(len(names), -1) - 128) / 74
    return pattern


def signals(n_chans: int, n_samples: int, seed: int) -> np.ndarray:
    """White noise plus slow drifts, about unit variance; (n_chans, n_samples)."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(size=(n_chans, n_samples)), axis=1) / 40
    made: np.ndarray = rng.normal(size=(n_chans, n_samples)) + drift
    return made


def write_brainvision(folder: Path, data: np.ndarray, names: tuple[str, ...], sfreq: float = SFREQ) -> Path:
    """Microvolts, (n_chans, n_samples), as float32 BrainVision files."""
    folder.mkdir(parents=True, exist_ok=True)
    data.T.astype("<f4").tofile(folder / "made.eeg")
    channels = "\n".join(f"Ch{i}={name},,1,uV" for i, name in enumerate(names, 1))
    (folder / "made.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=made.eeg\n"
        "MarkerFile=made.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\nSamplingInterval={1e6 / sfreq:g}\n[Binary Infos]\n"
        f"BinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n"
    )
    (folder / "made.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=made.eeg\n"
        "[Marker Infos]\nMk1=New Segment,,1,1,0,20200101120000000000\n"
    )
    return folder / "made.vhdr"


def write_edf(path: Path, data: np.ndarray, names: tuple[str, ...], sfreq: float = SFREQ) -> Path:
    """Microvolts, (n_chans, n_samples) of whole seconds, as a 16-bit EDF file with steps of 0.01 uV."""
    per_record = int(sfreq)
    n_records, n = data.shape[1] // per_record, len(names)

    def field(value: Any, width: int) -> bytes:
        return str(value).ljust(width)[:width].encode("ascii")

    head = field(0, 8) + field("X X X X", 80) + field("Startdate 01-JAN-2020 X X X", 80)
    head += field("01.01.20", 8) + field("12.00.00", 8) + field(256 * (n + 1), 8) + field("", 44)
    head += field(n_records, 8) + field(1, 8) + field(n, 4)
    for values, width in (
        (names, 16), (("electrode",) * n, 80), (("uV",) * n, 8), (("-327.68",) * n, 8), (("327.67",) * n, 8),
        ((-32768,) * n, 8), ((32767,) * n, 8), (("",) * n, 80), ((per_record,) * n, 8), (("",) * n, 32),
    ):  # fmt: skip
        head += b"".join(field(value, width) for value in values)
    counts = np.rint(data[:, : n_records * per_record] * 100).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + counts.reshape(n, n_records, per_record).transpose(1, 0, 2).tobytes())
    return path


def events_of(images: list[str], columns: dict[str, list[str]]) -> pd.DataFrame:
    """Onsets every half second from 1 s, `stim_file` and further columns."""
    onsets = START_S + GAP_S * np.arange(len(images))
    return pd.DataFrame({"onset": onsets, "duration": 0.1, **columns, "stim_file": images})


def length_s(n_events: int) -> int:
    """Whole seconds that hold so many events."""
    return int(np.ceil(START_S + GAP_S * n_events + 1))


def add_run(raw: Any, root: Path, events: pd.DataFrame, **entities: str) -> Path:
    """Write a run with `mne_bids.write_raw_bids`, its events with their further columns; the path of the recording."""
    import mne_bids

    path = mne_bids.BIDSPath(root=root, **entities)
    samples = np.rint(events["onset"].to_numpy() * raw.info["sfreq"]).astype(int) + raw.first_samp
    types = events["trial_type"] if "trial_type" in events else pd.Series(["shown"] * len(events))
    codes = {name: code for code, name in enumerate(sorted(set(types)), 1)}
    rows = np.stack([samples, np.zeros_like(samples), [codes[name] for name in types]], axis=1)
    extra = events.drop(columns=["onset"])
    more = {"format": "FIF", "allow_preload": True} if raw.preload else {}
    written = mne_bids.write_raw_bids(
        raw, path, events=rows, event_id=codes, event_metadata=extra,
        extra_columns_descriptions={name: name for name in extra}, overwrite=True, verbose="ERROR", **more,
    )  # fmt: skip
    return Path(written.fpath)


def eeg_run(root: Path, tmp: Path, events: pd.DataFrame, added: np.ndarray | None = None, **entities: str) -> Path:
    """A BrainVision run; `added` (n_events, n_chans) in microvolts is laid on 0.1 to 0.3 s after each onset."""
    import mne

    seed = sum(map(ord, "".join(entities.values())))
    data = signals(len(EEG_NAMES), int(length_s(len(events)) * SFREQ), seed)
    for onset, values in zip(events["onset"], added if added is not None else [], strict=False):
        start = round(onset * SFREQ)
        data[:, start + 20 : start + 60] += values[:, None]
    raw = mne.io.read_raw_brainvision(write_brainvision(tmp / "raw", data, EEG_NAMES), verbose="ERROR")
    raw.set_channel_types(dict.fromkeys(EEG_NAMES, "eeg"), verbose="ERROR")
    raw.set_montage("standard_1005", verbose="ERROR")
    raw.info["line_freq"] = 50
    if "bads" in entities:
        raw.info["bads"] = [entities.pop("bads")]
    return add_run(raw, root, events, datatype="eeg", suffix="eeg", **entities)


def meg_run(root: Path, events: pd.DataFrame, first_samp: int = 500, **entities: str) -> Path:
    """A fif run of two magnetometers, two gradiometers and a stimulus channel."""
    import mne

    names = ["MEG0111", "MEG0112", "MEG0113", "MEG0121", "STI014"]
    info = mne.create_info(names, SFREQ, ["mag", "grad", "grad", "mag", "stim"])
    info["line_freq"] = 50
    for i, channel in enumerate(info["chs"][:4]):
        channel["loc"][:3] = [0.01 * i, 0.05, 0.08]
    data = signals(5, int(length_s(len(events)) * SFREQ), 3) * np.array([1e-13, 1e-12, 1e-12, 1e-13, 0])[:, None]
    raw = mne.io.RawArray(data, info, first_samp=first_samp, verbose="ERROR")
    raw.set_meas_date(1577880000)  # MNE-BIDS 0.20 loses the last events of undated files that begin late
    return add_run(raw, root, events, datatype="meg", suffix="meg", **entities)


def ieeg_run(root: Path, tmp: Path, events: pd.DataFrame, **entities: str) -> Path:
    """An EDF run of depth electrodes."""
    import mne

    names = ("LA1", "LA2", "LB1")
    data = signals(3, int(length_s(len(events)) * SFREQ), 5) * 20
    raw = mne.io.read_raw_edf(write_edf(tmp / "raw.edf", data, names), verbose="ERROR")
    raw.set_channel_types(dict.fromkeys(names, "seeg"), verbose="ERROR")
    raw.info["line_freq"] = 50
    return add_run(raw, root, events, datatype="ieeg", suffix="ieeg", **entities)
