"""What a run reports: schema `brainalign.result/1`."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign import __version__
from brainalign.errors import InputError
from brainalign.files import read_json
from brainalign.protocols.lint import ALWAYS_SAID

SCHEMA = "brainalign.result/1"
Interval = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Target(_Part):
    """The image features a run was aligned with."""

    backbone: str
    layers: list[str | int]
    layer_weights: list[float] | None = None
    cell_weights: list[float] | None = None
    depth: float
    pooling: str
    transform: str | None = None

    @property
    def label(self) -> str:
        """The layer's name; of a mixture, the names with `+` between them."""
        return "+".join(map(str, self.layers))

    @property
    def words(self) -> str:
        """The layers for people: `layer 7`, `layers 0-15, head`, of several models `layers 1:0-15, 2:0-20`."""
        spans: list[tuple[str, list[str]]] = []
        for name in map(str, self.layers):
            model, _, own = name.rpartition(":")
            follows = bool(spans) and spans[-1][0] == model and own.isdigit() and spans[-1][1][-1].isdigit()
            if follows and int(own) == int(spans[-1][1][-1]) + 1:
                spans[-1][1].append(own)
            else:
                spans.append((model, [own]))
        said = ", ".join(
            (f"{model}:" if model else "") + (span[0] if len(span) == 1 else f"{span[0]}-{span[-1]}")
            for model, span in spans
        )
        return f"layers {said}" if len(self.layers) > 1 else f"layer {said}"


class Selection(_Part):
    """How the epoch and the layer were chosen."""

    metric: str
    split: Literal["validation"]
    epoch: int | None
    settings: dict[str, float] = {}
    layer_chosen_on: str


class Scores(_Part):
    """Identification among `n_way` images, with intervals and chance; shares are between 0 and 1."""

    n_way: int
    n_queries: int
    repetitions: int
    top1: float
    top1_ci95: Interval
    top5: float
    top5_ci95: Interval
    mrr: float
    median_rank: float
    two_way: float
    chance_top1: float
    chance_top5: float
    permutation_p: float


class Metrics(_Part):
    """Scores of the frozen choice."""

    test: Scores
    validation: Scores


class Shuffled(_Part):
    """Test top-1 of the same settings trained on shuffled pairs; None where it was not trained."""

    top1: float | None


class Calibration(_Part):
    """Whether the probabilities of a generative model are ones: see `brainalign.alignment.calibration`."""

    error: float
    calibrated95: Interval
    log_loss: float


class EpochScore(_Part):
    """Exploratory: test top-1 of a stored epoch, read at the one opening."""

    epoch: int
    test_top1: float


class Lint(_Part):
    """A sentence of the leakage lint."""

    code: str
    severity: Literal["leak", "note"]
    text: str


class Timing(_Part):
    """Wall time in seconds."""

    features_s: float
    train_s: float
    total_s: float


class Language(_Part):
    """Which text stood beside the images, and the model that read it."""

    prior: str
    encoder: str


class Data(_Part):
    """Where the recordings come from."""

    licence: str
    citation: str
    url: str


class Result(_Part):
    """What `result.json` holds. No score without an interval, a chance level and the count of test openings."""

    schema_: Literal["brainalign.result/1"] = Field(default="brainalign.result/1", alias="schema")
    recipe: str
    profile: str
    budget: str
    config_hash: str
    dataset: str
    virtual: bool
    modality: str
    protocol: str
    subject: str
    split: int
    seed: int
    target: Target
    encoder: str
    selection: Selection
    metrics: Metrics
    shuffled: Shuffled
    calibration: Calibration | None = None
    inflation_gap_top1: float
    epochs_exploratory: list[EpochScore]
    lint: list[Lint]
    test_reads: int
    timing: Timing
    environment: dict[str, str | None]
    split_fingerprint: str
    validation_kind: str
    n_train: int
    training_subjects: list[str] = []
    language: Language | None = None
    data: Data

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    @property
    def leaves_out(self) -> bool:
        """Whether the tested subject gave no training data."""
        return bool(self.training_subjects) and self.subject not in self.training_subjects

    @property
    def always_said(self) -> list[str]:
        """Sentences that whatever is made with this run must carry."""
        return [finding.text for finding in self.lint if finding.code in ALWAYS_SAID]


def read_result(folder: str | Path) -> Result:
    """The result of a finished run.

    Raises
    ------
    InputError
        If the folder holds no finished run, or its `result.json` is not of this schema.
    """
    path = Path(folder) / "result.json"
    if not path.is_file():
        state = "is not finished" if (Path(folder) / "fit.json").is_file() else "is not the folder of a run"
        raise InputError(state, where=folder, hint="give a folder that `brainalign train` wrote to the end")
    try:
        return Result.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=path, hint=f"the schema is {SCHEMA}") from error


def environment(device: str) -> dict[str, str | None]:
    """Versions that produced a result."""
    import torch

    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device} ({name})",
        "brainalign": __version__,
        "git": source_commit(),
    }


@functools.cache
def source_commit() -> str | None:
    """The commit of a source checkout, with '+' where files differ from it; None for an installed package."""
    here = Path(__file__).resolve()
    if not (here.parents[3] / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parents[3]), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def read_predictions(folder: str | Path) -> dict[str, Any]:
    """`similarity` (n_queries, n_gallery) float32, `query_ids` and `gallery_ids` of a finished run.

    Raises
    ------
    InputError
        If the file is missing, damaged, or its shapes do not agree.
    """
    import zipfile

    import numpy as np

    path = Path(folder) / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("similarity", "query_ids", "gallery_ids")}
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, hint="is this the folder of a finished run?") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"is damaged ({error})", where=path, hint="run it again in another folder") from error
    similarity = arrays["similarity"]
    if similarity.shape != (len(arrays["query_ids"]), len(arrays["gallery_ids"])):
        raise InputError(f"similarity has shape {similarity.shape}, the ids say otherwise", where=path)
    return {
        "similarity": similarity,
        "query_ids": tuple(map(str, arrays["query_ids"])),
        "gallery_ids": tuple(map(str, arrays["gallery_ids"])),
    }
