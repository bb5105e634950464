"""What many runs on one data set share: recordings, splits, averaged signals, features; each made once."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.alignment import AnyTargets, MixedTargets, Targets
from brainalign.alignment.contrastive import LEVEL_MARK
from brainalign.alignment.preparation import mean_noise
from brainalign.datasets import Dataset
from brainalign.errors import InputError
from brainalign.execution.openings import count_openings, record_opening
from brainalign.execution.progress import Reporter, Silent
from brainalign.features import FeatureSet, extract_features
from brainalign.features.text_bank import extract_texts
from brainalign.protocols import LintFinding, OpenedTest, SealedTest, Split, find_protocol, lint_split
from brainalign.protocols.sealed import TestData
from brainalign.protocols.templates import concept_templates
from brainalign.recipes.recipe import LayerSpec, Recipe, SignalSettings, TargetSettings
from brainalign.recordings import Recording
from brainalign.recordings.selection import select_signals
from brainalign.stimuli import StimulusSet
from brainalign.stimuli.text_priors import Texts, texts_of
from brainalign.stimuli.transforms import stimulus_transform


@dataclass
class Session:
    """One opened data set, its place for caches and its device.

    Parameters
    ----------
    dataset : Dataset
    protocol : str
        Versioned name; the data set's own by default (empty).
    cache_dir : path
    device : str
        'cpu' or 'cuda'.
    allow_leaks : frozenset of str
        Codes of lint findings that are recorded instead of refused.
    home : path, optional
        Folder of the run or sweep that this session scores; it keeps count of the openings of its test sets.
    """

    dataset: Dataset
    cache_dir: Path
    device: str = "cpu"
    protocol: str = ""
    reporter: Reporter = field(default_factory=Silent)
    allow_leaks: frozenset[str] = frozenset()
    home: Path | None = None
    _memory: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _seconds: dict[tuple[Any, ...], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.protocol = self.protocol or self.dataset.info.protocol
        if not self.protocol:
            hint = f"brainalign analyze rsa --dataset {self.dataset.info.name} compares models with it"
            raise InputError(f"dataset '{self.dataset.name}' has no signals to train or test on", hint=hint)
        find_protocol(self.protocol)

    def _once(self, key: tuple[Any, ...], make: Any) -> Any:
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def data_facts(self, subjects: Iterable[str]) -> dict[str, Any]:
        """What identifies the data of some subjects in a run's hash, found once: every job of a sweep asks for it."""
        wanted = tuple(sorted(subjects))
        found: dict[str, Any] = self._once(("facts", *wanted), lambda: self.dataset.facts(wanted))
        return found

    def stimuli(self, subject: str) -> StimulusSet:
        """Images of a subject, made first where the data set has to."""

        def make() -> StimulusSet:
            with self.reporter.step(f"opening {self.dataset.name}") as tick:
                self.dataset.prepare(tick)
                return self.dataset.stimuli(subject)

        found: StimulusSet = self._once(("stimuli", subject), make)
        return found

    def recording(self, subject: str) -> Recording:
        """All trials of a subject."""
        found: Recording = self._once(("recording", subject), lambda: self.dataset.recording(subject))
        return found

    def training_subjects(self, subject: str) -> tuple[str, ...]:
        """Whose signals train and validate when a subject is tested: its own, or those of all others."""
        return find_protocol(self.protocol).training_subjects(subject, self.dataset.subjects)

    def leaves_out(self, subject: str) -> bool:
        """Whether the tested subject is nobody's training data."""
        return subject not in self.training_subjects(subject)

    def split(self, subject: str, index: int) -> Split:
        """The frozen split, refused if the lint finds a leak that was not allowed."""
        return self._linted(subject, index)[0]

    def training_split(self, subject: str, index: int, recipe: Recipe) -> Split:
        """The split with as many training images as the recipe asks for, the first of one random order.

        Raises
        ------
        InputError
            If there are not so many.
        """
        split, wanted = self.split(subject, index), recipe.training.n_images
        if wanted is None or wanted == len(split.train):
            return split
        if wanted > len(split.train):
            text = f"{wanted} training images asked for, the split has {len(split.train)}"
            raise InputError(text, where="training.n_images", hint="ask for fewer, or null for all")
        order = np.random.default_rng(index).permutation(len(split.train))[:wanted]
        return replace(split, train=tuple(split.train[i] for i in sorted(order)))

    def lint(self, subject: str, index: int) -> list[LintFinding]:
        """What the lint says of a split."""
        return self._linted(subject, index)[1]

    def fix_split(self, subject: str, index: int, split: Split) -> None:
        """Use a split that was cut elsewhere (for several data sets at once); the lint looks at it all the same."""
        self._memory["split", subject, index] = (split, self._lint(subject, split))

    def _lint(self, subject: str, split: Split) -> list[LintFinding]:
        findings = lint_split(split, self.stimuli(subject))
        for finding in findings:
            if finding.severity == "leak" and finding.code not in self.allow_leaks:
                hint = f"mend the data, or record it with --allow-leak {finding.code}"
                raise InputError(f"leak '{finding.code}': {finding.text}", where=self.protocol, hint=hint)
        return findings

    def _linted(self, subject: str, index: int) -> tuple[Split, list[LintFinding]]:
        def make() -> tuple[Split, list[LintFinding]]:
            others = [self.recording(s) for s in self.training_subjects(subject) if s != subject]
            protocol = find_protocol(self.protocol)
            split = protocol.split(index, self.stimuli(subject), self.recording(subject), others)
            return split, self._lint(subject, split)

        found: tuple[Split, list[LintFinding]] = self._once(("split", subject, index), make)
        return found

    def sealed(self, subject: str, index: int) -> SealedTest:
        """The sealed test set of a split; one object, so that its openings are counted."""

        def make() -> SealedTest:
            earlier = 0 if self.home is None else count_openings(self.home, self.dataset.name, subject, index)
            return SealedTest(self.recording(subject), self.split(subject, index), earlier_reads=earlier)

        found: SealedTest = self._once(("sealed", subject, index), make)
        return found

    def open_test(self, subject: str, index: int) -> OpenedTest:
        """Open the test set, once for everything this session scores on it."""

        def make() -> OpenedTest:
            sealed = self.sealed(subject, index)
            if self.home is not None:
                record_opening(self.home, self.dataset.name, subject, index)
            return sealed.open()

        found: OpenedTest = self._once(("opened", subject, index), make)
        return found

    def _development(self, subject: str, index: int, settings: SignalSettings) -> list[Recording]:
        """Training and validation trials of every training subject, channels and samples selected."""
        if not self.leaves_out(subject):
            return [select_signals(self.sealed(subject, index).development, settings)]
        split = self.split(subject, index)
        known = [*split.train, *split.validation]
        found = []
        for source in self.training_subjects(subject):
            recording = self.recording(source)
            seen = recording.restrict([name for name in known if name in recording.index])
            found.append(select_signals(seen, settings))
        return found

    def development(self, subject: str, index: int, settings: SignalSettings) -> tuple[Recording, ...]:
        """Training and validation signals as a method sees them, repetitions averaged, in memory; one recording a
        training subject.
        """

        def make() -> tuple[Recording, ...]:
            split = self.split(subject, index)
            known = [*split.train, *split.validation]
            found = []
            for recording in self._development(subject, index, settings):
                with self.reporter.step(f"averaging repetitions of subject {recording.subject}") as tick:
                    seen = [name for name in known if name in recording.index]
                    found.append(recording.collapse(seen, progress=tick))
            return tuple(found)

        found: tuple[Recording, ...] = self._once(("development", subject, index, *_selection_key(settings)), make)
        return found

    def validation_data(self, subject: str, index: int, settings: SignalSettings) -> TestData:
        """Validation signals of every training subject, subject after subject, and the images they are found among."""
        split = self.split(subject, index)
        signals, ids, counts = [], [], []
        for recording in self.development(subject, index, settings):
            seen = [name for name in split.validation if name in recording.index]
            signals.append(recording.average(seen))
            counts += recording.repetitions(seen).tolist()
            ids += seen
        return TestData(np.concatenate(signals), tuple(ids), split.validation, min(counts), tuple(counts))

    def trials(self, subject: str, index: int, settings: SignalSettings) -> tuple[Recording, ...]:
        """Training and validation signals, every stored trial by itself; one recording a training subject."""
        return tuple(self._development(subject, index, settings))

    def noise(self, subject: str, index: int, recipe: Recipe) -> NDArray[np.float64] | None:
        """Noise covariance of the trials trained on, where the method whitens; the mean over training subjects."""
        settings = recipe.signals
        if settings.whiten == "none":
            return None
        found: NDArray[np.float64] = self._once(
            ("noise", subject, index, recipe.training.n_images, *_selection_key(settings)),
            lambda: mean_noise(
                self._development(subject, index, settings), self.training_split(subject, index, recipe).train
            ),
        )
        return found

    def test_data(self, subject: str, index: int, recipe: Recipe) -> Any:
        """Test signals as a method sees them; opens the test set if this is the first score."""
        key = ("test", subject, index, *_selection_key(recipe.signals), recipe.evaluation.repetitions)
        select = functools.partial(select_signals, settings=recipe.signals)
        opened = self.open_test(subject, index)
        return self._once(key, lambda: opened.data(select=select, repetitions=recipe.evaluation.repetitions))

    def features(self, subject: str, target: TargetSettings) -> FeatureSet:
        """Banks of every candidate layer and pooling of a target, extracted in one pass where missing."""
        return self._extract(subject, target, *_candidates(target))

    def prefetch(self, wanted: Iterable[tuple[str, TargetSettings]]) -> None:
        """Extract what several runs will ask for, in one pass over the images a subject and backbone.

        Parameters
        ----------
        wanted : iterable of (subject, TargetSettings)
        """
        together: dict[tuple[Any, ...], tuple[str, TargetSettings, dict[LayerSpec, None], dict[str, None]]] = {}
        for subject, target in ((s, _of_backbone(t, b)) for s, t in wanted for b in t.backbones):
            key = (id(self.stimuli(subject)), target.backbone, target.crop, target.weights, target.transform)
            _, _, layers, poolings = together.setdefault(key, (subject, target, {}, {}))
            more_layers, more_poolings = _candidates(target)
            layers |= dict.fromkeys(more_layers)
            poolings |= dict.fromkeys(more_poolings)
        for subject, target, layers, poolings in together.values():
            self._extract(subject, target, list(layers), list(poolings))

    def _extract(
        self, subject: str, target: TargetSettings, layers: list[LayerSpec], poolings: list[str]
    ) -> FeatureSet:
        stimuli = self.stimuli(subject)
        model = (target.backbone, target.crop, target.weights, target.transform)
        key = ("features", id(stimuli), *model, tuple(layers), tuple(poolings))

        def make() -> FeatureSet:
            began = time.perf_counter()
            seen = f", images through {target.transform}" if target.transform else ""
            with self.reporter.step(f"features of {target.backbone}{seen}") as tick:
                found = extract_features(
                    stimuli,
                    target.backbone,
                    layers,
                    poolings,
                    cache_dir=self.cache_dir,
                    device=self.device,
                    crop=target.crop,
                    weights=target.weights,
                    transform=stimulus_transform(target.transform),
                    progress=tick,
                )
            self._seconds[key] = time.perf_counter() - began
            return found

        found: FeatureSet = self._once(key, make)
        return found

    @property
    def features_seconds(self) -> float:
        """Wall time spent on features so far, seconds."""
        return sum(self._seconds.values())

    def targets(self, subject: str, target: TargetSettings) -> dict[tuple[str, str], AnyTargets]:
        """Features of every candidate (layer name, pooling), joined with stimulus ids, first layer first.

        A mixture of layers is one candidate a pooling, its name theirs with `+` between them.
        """
        banks = self._banks(subject, target)
        if target.mixed is None:
            return dict(banks)
        mixtures = {}
        for pooling in _candidates(target)[1]:
            # `final` comes as the model pools it, whatever is asked for.
            bands = tuple(bank for (_, pooled), bank in banks.items() if pooled in (pooling, "final"))
            mixed = bands[0] if len(bands) == 1 else MixedTargets(bands)
            mixtures[mixed.layer, pooling] = mixed
        return mixtures

    def templates(self, subject: str, index: int) -> dict[str, tuple[str, ...]]:
        """Of every gallery image, other images of its concept that nobody was shown."""
        people = {subject, *self.training_subjects(subject)}
        shown = {name for person in people for name in self.recording(person).index}
        return concept_templates(self.split(subject, index), self.stimuli(subject), shown)

    def feature_sets(self, subject: str, recipe: Recipe) -> dict[tuple[str, str], dict[str, AnyTargets]]:
        """Everything an aligner is aligned with, for every candidate (layer name, pooling).

        `image`, with language also `text`, and where training images are blurred by their uncertainty `image@0`,
        `image@1`, ..., from least to most.
        """
        found = {label: {"image": target} for label, target in self.targets(subject, recipe.target).items()}
        text = self.texts(subject, recipe)
        for number, level in enumerate(recipe.uncertainty.levels):
            seen = self.targets(subject, recipe.target.model_copy(update={"transform": level}))
            for label, features in found.items():
                features[f"{LEVEL_MARK}{number}"] = seen[label]
        if text is not None:
            for features in found.values():
                features["text"] = text
        return found

    def prior(self, subject: str, recipe: Recipe) -> Texts | None:
        """The text beside every image of a subject; None where the recipe leaves language out."""
        name = recipe.text.prior

        def make() -> Texts | None:
            return texts_of(self.stimuli(subject), name, cache_dir=self.cache_dir)

        found: Texts | None = self._once(("prior", id(self.stimuli(subject)), name), make)
        return found

    def texts(self, subject: str, recipe: Recipe) -> Targets | None:
        """Text features by stimulus id; None where the recipe leaves language out."""
        prior = self.prior(subject, recipe)
        if prior is None:
            return None
        key = ("texts", id(prior), recipe.text.encoder)

        def make() -> Targets:
            began = time.perf_counter()
            with self.reporter.step(f"texts ({recipe.text.prior}) through {recipe.text.encoder}") as tick:
                found = extract_texts(
                    prior, recipe.text.encoder, cache_dir=self.cache_dir, device=self.device, progress=tick
                )
            self._seconds[key] = time.perf_counter() - began
            return Targets(found.array, found.row_of, backbone=found.tower, layer=recipe.text.prior, pooling="text")

        found: Targets = self._once(key, make)
        return found

    def _banks(self, subject: str, target: TargetSettings) -> dict[tuple[str, str], Targets]:
        if len(target.backbones) == 1:
            return self._banks_of_one(subject, target)
        found = {}
        for number, backbone in enumerate(target.backbones, start=1):
            # Layers of several models share names: those of the second are 2:0, 2:1, ...
            banks = self._banks_of_one(subject, _of_backbone(target, backbone))
            for (layer, pooling), bank in banks.items():
                name = f"{number}:{layer}"
                made = self._once(("named", id(bank), name), lambda b=bank, n=name: replace(b, layer=n))
                found[name, pooling] = made
        return found

    def _banks_of_one(self, subject: str, target: TargetSettings) -> dict[tuple[str, str], Targets]:
        features = self.features(subject, target)
        stimuli = self.stimuli(subject)

        def join(layer: str, pooling: str) -> Targets:
            bank = features[layer, pooling]
            rows = dict(zip(stimuli.ids, bank.index_of(stimuli.image_ids), strict=True))
            weights = str(bank.meta["weights_hash"])
            return Targets(bank.array, rows, features.backbone, layer, pooling, bank.depth, weights)

        return {(a, b): self._once(("target", features[a, b].folder), lambda a=a, b=b: join(a, b)) for a, b in features}


def _of_backbone(target: TargetSettings, backbone: str) -> TargetSettings:
    """The same target of one model alone."""
    return target.model_copy(update={"backbone": backbone})


def _candidates(target: TargetSettings) -> tuple[list[LayerSpec], list[str]]:
    """Layers and poolings that a target may come to mean."""
    layers = target.mixed or (_listed(target.candidates) if target.layer == "auto" else [target.layer])
    return layers, list(target.poolings) if target.pooling == "auto" else [target.pooling]


def _listed(value: LayerSpec | list[LayerSpec]) -> list[LayerSpec]:
    return value if isinstance(value, list) else [value]


def _selection_key(settings: SignalSettings) -> tuple[Any, ...]:
    channels = settings.channels if isinstance(settings.channels, str) else tuple(settings.channels)
    return (channels, settings.n_channels, settings.tmin, settings.tmax)
