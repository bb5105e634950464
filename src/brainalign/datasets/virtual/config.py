"""The options of a virtual brain: what is planted, how strong, under how much noise."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import quote, unquote

from brainalign.errors import InputError, unknown_name

PATHWAYS = ("both", "early", "late", "none")
TARGET_BACKBONE = "pip:efficientnet-lite0"
PLANTED_BACKBONE = "pip:efficientnet-lite2"

# THINGS-EEG2's 63 electrodes in its order; the last 17 are the occipito-parietal ones most papers decode from.
CHANNELS_63 = (
    "Fp1", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8", "F7", "F5", "F3", "F1", "F2",
    "F4", "F6", "F8", "FT9", "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6",
    "FT8", "FT10", "T7", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "T8", "TP9",
    "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "TP8", "TP10", "P7", "P5",
    "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz", "PO4", "PO8",
    "O1", "Oz", "O2",
)  # fmt: skip
POSTERIOR_17 = CHANNELS_63[-17:]


def _ctf_sensors() -> tuple[str, ...]:
    """The 275 sensors of a CTF helmet in the system's order: per side by region, row and place, then the midline."""
    rows = {"C": "7 5 2 2 5 3", "F": "4 5 5 6 6 7", "O": "4 4 4 4 3", "P": "2 3 5 5 7", "T": "6 7 7 7 7"}
    midline = {"C": 4, "F": 3, "O": 3, "P": 1}
    names = [
        f"M{side}{region}{row}{place}"
        for side in "LR"
        for region, widths in rows.items()
        for row, width in enumerate(widths.split(), 1)
        for place in range(1, int(width) + 1)
    ]
    return tuple(names + [f"MZ{region}{place:02d}" for region, n in midline.items() for place in range(1, n + 1)])


# The 271 sensors of THINGS-MEG in its order: three of the helmet did not work, MRO11 was dropped by its authors.
CTF_275 = _ctf_sensors()
CTF_DROPPED = ("MLF25", "MRF43", "MRO13", "MRO11")
CTF_271 = tuple(name for name in CTF_275 if name not in CTF_DROPPED)
POSTERIOR_CTF = tuple(name for name in CTF_271 if name[2] in "OP")


@dataclass(frozen=True)
class Shown:
    """Pictures a preset shows; presets of one name show the same ones in every modality.

    Attributes
    ----------
    n_concepts, n_exemplars : int
        Training concepts and images of each.
    n_test : int
        Held-out test concepts, one image each.
    """

    name: str
    n_concepts: int
    n_exemplars: int
    n_test: int

    @property
    def n_train(self) -> int:
        """Training images."""
        return self.n_concepts * self.n_exemplars


@dataclass(frozen=True)
class Preset(Shown):
    """Size of a virtual EEG or MEG data set.

    Attributes
    ----------
    sfreq : float
        Hz.
    tmin, tmax : float
        Epoch, seconds from stimulus onset; the sample at `tmax` is left out.
    test_per_session : int
        Presentations of every test image in a session.
    train_every_session : bool
        Whether every training image is shown once in each session, or once in all (every twelfth image in the first of
        12 sessions, and so on).
    """

    ch_names: tuple[str, ...]
    sfreq: float
    n_subjects: int
    n_sessions: int = 4
    test_per_session: int = 20
    tmin: float = -0.2
    tmax: float = 1.0
    train_every_session: bool = True

    @property
    def n_times(self) -> int:
        """Samples an epoch, the sample at `tmax` left out."""
        return round((self.tmax - self.tmin) * self.sfreq)

    @property
    def subjects(self) -> tuple[str, ...]:
        """'1', '2', ..."""
        return numbered(self.n_subjects)


@dataclass(frozen=True)
class VoxelPreset(Shown):
    """Size of a virtual fMRI data set: in each session every test image once, and its share of the training images.

    Attributes
    ----------
    n_voxels : int
        About; subjects differ.
    runs_per_session : int
    """

    n_voxels: int
    n_subjects: int
    n_sessions: int = 12
    runs_per_session: int = 4

    @property
    def subjects(self) -> tuple[str, ...]:
        """'1', '2', ..."""
        return numbered(self.n_subjects)


def numbered(n: int) -> tuple[str, ...]:
    """Names of n subjects: '1', '2', ..."""
    return tuple(str(s + 1) for s in range(n))


PRESETS = {
    p.name: p
    for p in (
        Preset("small", 200, 5, 200, POSTERIOR_17, 100.0, 4),
        Preset("full", 400, 10, 200, CHANNELS_63, 250.0, 10),
    )
}
MEG_PRESETS = {
    p.name: p
    for p in (
        Preset("small", 200, 5, 200, POSTERIOR_CTF, 100.0, 4, 12, 1, -0.1, 1.3, False),
        Preset("full", 400, 10, 200, CTF_271, 200.0, 10, 12, 1, -0.1, 1.3, False),
    )
}
FMRI_PRESETS = {
    p.name: p for p in (VoxelPreset("small", 200, 5, 200, 600, 4), VoxelPreset("full", 400, 10, 200, 6000, 10, 12, 7))
}


@dataclass(frozen=True)
class VirtualBrainConfig:
    """Options of a virtual brain; equations in docs/virtual-brain.md.

    Attributes
    ----------
    pathways : {'both', 'early', 'late', 'none'}
        Which pathways answer to the image. 'none' leaves the response that all images share, and the noise.
    late_backbone : str, optional
        Network whose layers drive the late pathway; by default another than the default decoding target.
    late_layer : str, optional
        Its layers, comma separated; deeper ones answer later.
    same_network : bool
        Plant in the very network that is the default decoding target. Only for tests of the code: a sweep over its
        layers must find the planted one. The data set's name says so.
    signal : float
        Factor on the part of the response that differs between images.
    noise : float
        Factor on everything that does not answer to the stimulus (background, alpha, blinks, drift, sensor noise).
    concept_share : float
        Share of the late pathway's variance that is a code of the concept, the same for all its images.
    saturation : float
        Gain in front of the tanh of every source; 0 is linear.
    jitter_s : float
        Standard deviation of the latency between trials, seconds.
    gain_sd : float
        Standard deviation of the response's gain between trials.
    seed : int
        Everything random derives from it.
    """

    pathways: str = "both"
    late_backbone: str | None = None
    late_layer: str | None = None
    same_network: bool = False
    signal: float = 1.0
    noise: float = 1.0
    concept_share: float = 0.1
    saturation: float = 0.7
    jitter_s: float = 0.01
    gain_sd: float = 0.15
    seed: int = 0

    @classmethod
    def from_options(
        cls, dataset: str = "virtual-eeg", without: Collection[str] = (), /, **options: Any
    ) -> VirtualBrainConfig:
        """Read options as a command line or a recipe gives them (text is converted).

        Parameters
        ----------
        dataset : str
            Whose options they are, for errors.
        without : collection of str
            Fields that mean nothing to this data set.

        Raises
        ------
        InputError
            If an option is unknown or its value is out of range.

        Examples
        --------
        >>> VirtualBrainConfig.from_options(noise="0.5", late_layer=12).noise
        0.5
        """
        types = {f.name: str(f.type) for f in fields(cls) if f.name not in without}
        for name in options:
            if name not in types:
                raise unknown_name(f"option of {dataset}", name, types)
        config = cls(**{name: _convert(name, types[name], value, dataset) for name, value in options.items()})
        return config.check(dataset)

    def check(self, dataset: str = "virtual-eeg") -> VirtualBrainConfig:
        """Return the configuration if its values make sense; errors name the data set.

        Raises
        ------
        InputError
            For the first value that makes no sense.
        """
        if self.pathways not in PATHWAYS:
            raise unknown_name("choice of pathways", self.pathways, PATHWAYS)
        ranges = {
            "signal": (0, 100), "noise": (0, 100), "concept_share": (0, 1), "saturation": (0, 10),
            "jitter_s": (0, 0.05), "gain_sd": (0, 0.5), "seed": (0, 2**31 - 1),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}, expected {low} to {high}", where=dataset)
        if self.late_backbone == TARGET_BACKBONE and not self.same_network:
            raise InputError(
                f"{TARGET_BACKBONE} is the default decoding target: planting in it is circular",
                where=dataset,
                hint="choose another late_backbone, or say same_network=true (tests of the code only)",
            )
        if self.same_network and self.late_backbone not in (None, TARGET_BACKBONE):
            problem = f"same_network plants in {TARGET_BACKBONE}, not in {self.late_backbone}"
            raise InputError(problem, where=dataset, hint="leave one of the two options out")
        if any(not layer.strip() for layer in (self.late_layer or "0").split(",")):
            raise InputError(f"late_layer is '{self.late_layer}'", where=dataset, hint="for example '12,17'")
        return self

    @property
    def backbone(self) -> str:
        """The planted network."""
        return self.late_backbone or (TARGET_BACKBONE if self.same_network else PLANTED_BACKBONE)

    @property
    def layers(self) -> tuple[str, ...]:
        """The planted layers, each once, in the order given."""
        given = self.late_layer or ("8" if self.same_network else "9,17")
        return tuple(layer.strip() for layer in given.split(","))

    @property
    def has_early(self) -> bool:
        """Whether the early pathway answers to the image."""
        return self.pathways in ("both", "early")

    @property
    def has_late(self) -> bool:
        """Whether the late pathway answers to the image."""
        return self.pathways in ("both", "late")

    def facts(self) -> dict[str, Any]:
        """Every option that changes the data, resolved."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"late_backbone": self.backbone, "late_layer": ",".join(self.layers)}


def options_in_name(text: str) -> tuple[str, dict[str, str]]:
    """Preset and options behind the first colon of a data set's name; no comma in it, as commas separate data sets.

    Raises
    ------
    InputError
        If an option stands there twice.

    Examples
    --------
    >>> options_in_name("small:pathways=late:late_layer=9+17")
    ('small', {'pathways': 'late', 'late_layer': '9,17'})
    """
    preset, options = "", {}
    for place, word in enumerate(text.split(":")):
        key, mark, value = word.partition("=")
        if not mark and place == 0:
            preset = word
        elif not mark or key in options:
            problem = f"option '{key}' twice" if mark else f"'{word}', expected option=value"
            raise InputError(f"the name has {problem}", where=text, hint="such as virtual-eeg:small:noise=2")
        else:
            options[key] = unquote(value.replace("+", ","))
    return preset, options


def options_for_name(config: VirtualBrainConfig) -> list[str]:
    """Options that are not the default ones, as `options_in_name` reads them: every digit, and %3A for a colon.

    Examples
    --------
    >>> options_for_name(VirtualBrainConfig(same_network=True, noise=2.0, late_layer="9,17"))
    ['late_layer=9+17', 'same_network=true', 'noise=2']
    """
    default = VirtualBrainConfig()
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        if value == getattr(default, field.name):
            continue
        found.append(f"{field.name}={quote(_text(value), safe=',').replace(',', '+')}")
    return found


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(name: str, kind: str, value: Any, dataset: str) -> Any:
    """Bring one option to the type of its field."""
    if value is None and "None" in kind:
        return None
    if kind == "bool":
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in known:
            raise InputError(f"{name} is '{value}', expected true or false", where=dataset)
        return known[str(value).lower()]
    if kind in ("int", "float"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or (kind == "int" and number != int(number)):
            raise InputError(f"{name} is '{value}', expected a {'whole ' * (kind == 'int')}number", where=dataset)
        return int(number) if kind == "int" else number
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
