"""The settings of a method: typed, checked, and the same on disk, in Python and on the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from brainalign.recipes.base import Settings
from brainalign.recipes.bravl_settings import BravlSettings
from brainalign.recipes.loss_settings import LossSettings

LayerSpec = int | float | str
MIXTURE_MARK = "+"
MODALITIES = ("eeg", "meg", "ieeg", "fmri", "spikes")


class TargetSettings(Settings):
    """Which image features a signal is aligned with.

    `backbone` is one id, or several with `+` between them where `layers` names a mixture: its layers are then those of
    all of them.

    `layer` and `pooling` are one choice, or `auto`: chosen on validation among `candidates` and `poolings`. Several
    `layers` are one target, a mixture (`layer: 1+3+5` says the same and can stand in a sweep's axis).
    """

    backbone: str = "pip:efficientnet-lite0"
    layer: LayerSpec = "auto"
    layers: LayerSpec | list[LayerSpec] | None = Field(
        None, description="a mixture: a list or a range such as 1-13 or 1-13:2 (every second)"
    )
    candidates: LayerSpec | list[LayerSpec] = Field("all", description="candidates of layer=auto")
    pooling: str = "auto"
    poolings: list[str] = Field(default=["mean", "grid4"], description="candidates of pooling=auto")
    components: int | None = Field(200, ge=1, description="principal components of wide targets; null keeps all")
    mixture: Literal["learned", "uniform"] = Field("learned", description="weights of the layers of a mixture")
    standardize: bool = Field(True, description="centre and scale every feature by its training mean and deviation")
    transform: str | None = Field(
        None, description="what images go through before the model, such as vse or blur?level=medium; null: nothing"
    )
    crop: Literal["none", "center"] = Field("none", description="none: the whole image, as the subject saw it")
    weights: Literal["pretrained", "random"] = "pretrained"

    @property
    def backbones(self) -> list[str]:
        """The models, one or several."""
        return self.backbone.split(MIXTURE_MARK)

    @property
    def mixed(self) -> list[LayerSpec] | None:
        """Layers of the mixture, None where the target is a single layer (or one that is still to be chosen)."""
        if self.layers is not None:
            return self.layers if isinstance(self.layers, list) else [self.layers]
        if isinstance(self.layer, str) and MIXTURE_MARK in self.layer:
            return [int(w) if w.isdigit() else float(w) if _is_depth(w) else w for w in self.layer.split(MIXTURE_MARK)]
        return None

    @field_validator("layers")
    @classmethod
    def _some_layer(cls, value: Any) -> Any:
        if value in ("", []):
            raise ValueError("give at least one layer, or null")
        return value

    @model_validator(mode="after")
    def _several_are_mixed(self) -> Self:
        if len(self.backbones) > 1 and self.mixed is None:
            raise ValueError("several backbones need a mixture: name its layers in target.layers")
        return self

    @field_validator("poolings")
    @classmethod
    def _some_pooling(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("give at least one pooling")
        return value


def _is_depth(word: str) -> bool:
    return "." in word and word.replace(".", "", 1).isdigit()


class SignalSettings(Settings):
    """How trials become the encoder's input; everything fitted is fitted on training trials."""

    channels: Literal["all", "posterior"] | Annotated[str, Field(pattern=r"^(roi|top):.+")] | list[str] = Field(
        "all", description="also names, roi:REGION,... of the channel table, or top:COLUMN with n_channels"
    )
    n_channels: int | None = Field(None, ge=1, description="of those, so many in one random order: for learning curves")
    tmin: float | None = Field(None, description="seconds from stimulus onset, inclusive")
    tmax: float | None = Field(None, description="seconds from stimulus onset, exclusive")
    transform: Literal["none", "sqrt"] = Field("none", description="sqrt stabilises the variance of spike counts")
    scale: Literal["none", "channel", "feature"] = Field(
        "channel", description="z-score by channel, or by channel and sample, with training statistics"
    )
    whiten: Literal["none", "mvnn"] = Field(
        "none", description="multivariate noise normalisation from training repetitions"
    )
    window: tuple[float, float] | None = Field(
        None,
        description="[t0, t1] or t0..t1, seconds: signals are 0 outside, after the transform, and keep their length",
    )

    @field_validator("window", mode="before")
    @classmethod
    def _read_window(cls, value: Any) -> Any:
        if isinstance(value, str):  # an axis of a sweep splits its values at commas
            return value.split("..")
        return value

    @field_validator("window")
    @classmethod
    def _some_time(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("the window's start lies before its end")
        return value

    @model_validator(mode="after")
    def _noise_of_what_is_whitened(self) -> Self:
        if self.transform == "sqrt" and self.whiten == "mvnn":
            raise ValueError("whiten=mvnn knows the noise of signals as recorded and does not go with transform=sqrt")
        return self


class EncoderSettings(Settings):
    """The brain encoder and its own options."""

    name: str = "linear"
    dim: int | None = Field(None, ge=1, description="width of its output; null: the shared space's")
    options: dict[str, float | int | str | bool] = Field({})


class ProjectorSettings(Settings):
    """Maps from encoder output and image features to the shared space."""

    dim: int = Field(256, ge=1)
    brain: Literal["none", "linear"] = "none"
    image: Literal["none", "linear", "mlp", "residual"] = "linear"
    text: Literal["none", "linear", "mlp", "residual"] = "linear"
    dropout: float = Field(0.0, ge=0, lt=1)


class TextSettings(Settings):
    """Which text stands beside an image, and the frozen model that reads it; `prior: none` leaves language out."""

    prior: str = Field(
        "none",
        description="none, label, label:TEMPLATE, captions, table:FILE, prompt-a, -b, -c or prompt:TEXT (@CAPTIONER)",
    )
    encoder: str = Field("pip:minilm", description="text tower, such as open_clip:ViT-B-16/openai or slip:ViT-B-16")
    standardize: bool = Field(False, description="centre and scale every text feature with training statistics")


class ObjectiveSettings(Settings):
    """InfoNCE between brain and image; see `brainalign.objectives.InfoNCE`."""

    temperature: float = Field(0.07, gt=0)
    scale_mode: Literal["fixed", "learned", "softplus", "raw"] = "fixed"
    normalize_brain: bool = True
    symmetric: bool = True


class UncertaintySettings(Settings):
    """Training images blurred by how uncertain their pair is; see `brainalign.objectives.UncertaintyBlur`."""

    levels: list[str] = Field(
        default=[], description="image transforms from least to most blur; none: every image as target.transform"
    )
    gamma: float = Field(0.3, gt=0, le=1, description="weight of the newest similarity in the moving average")
    alpha: float = Field(0.05, gt=0, lt=1, description="two-sided level of the interval")
    compare: Literal["smoothed", "current"] = "smoothed"
    initial: float | None = Field(None, description="average ahead of the first similarity; null: that similarity")
    interval: Literal["epoch", "batch"] = "epoch"

    @field_validator("levels")
    @classmethod
    def _three(cls, value: list[str]) -> list[str]:
        if value and len(value) != 3:
            raise ValueError("give three levels, or none")
        return value


class GenerativeSettings(Settings):
    """The closed-form model; see `brainalign.alignment.GenerativeAligner`."""

    form: Literal["auto", "dual", "primal"] = Field(
        "auto", description="dual: kernel of images; primal: sums over images; auto: whichever is smaller"
    )
    bands: Literal["equal", "learned"] | list[float] = Field("equal", description="weights of the layers")
    field: Literal["flat", "learned"] = Field(
        "flat", description="weights of the cells of gridN features, shared by all layers: a receptive field"
    )
    ridge: Literal["validation", "loo"] | float = Field(
        "validation",
        description="penalty: by validation loss around the leave-one-out optimum (dual form; the primal form takes "
        "the optimum), that itself, or a number",
    )
    shrinkage: Literal["validation", "analytic"] | float = Field(
        "validation", description="of the residual covariance towards its diagonal"
    )
    trial_noise: bool = Field(
        True, description="use repetitions, where single trials are there, to know a query's noise"
    )

    @field_validator("bands")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if isinstance(value, list) and (not value or min(value) < 0 or sum(value) <= 0):
            raise ValueError("weights are at least 0 and not all 0")
        return value

    @field_validator("ridge", "shrinkage")
    @classmethod
    def _amount(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str) and (value <= 0 if info.field_name == "ridge" else not 0 <= value <= 1):
            raise ValueError("above 0" if info.field_name == "ridge" else "between 0 and 1")
        return value


class RidgeSettings(Settings):
    """The linear baseline; see `brainalign.alignment.regression.RidgeAligner`."""

    penalty: Literal["validation", "loo"] | float = Field(
        "validation",
        description="by validation loss, by leave-one-out error, or in units of a centred signal's mean squared length",
    )
    score: Literal["cosine", "correlation"] = Field("cosine", description="of predicted and shown features")

    @field_validator("penalty")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if not isinstance(value, str) and value <= 0:
            raise ValueError("above 0")
        return value


class NewcomerSettings(Settings):
    """How the alignment layer of a subject added later is trained: one matrix, so faster and longer than a model."""

    lr: float = Field(1e-2, gt=0)
    epochs: int = Field(200, ge=1)
    patience: int | None = Field(40, ge=1, description="epochs without a better validation loss; null: all epochs")


class FoundationSettings(Settings):
    """One space for several modalities; see `brainalign.alignment.FoundationAligner`."""

    width: int = Field(64, ge=1, description="channels that every subject's alignment layer leads to")
    dropout: float = Field(0.2, ge=0, lt=1, description="of channels ahead of the alignment layer")
    encoders: dict[str, EncoderSettings] = Field(
        {}, description="shared encoder by modality; encoder where none is named"
    )
    inputs: dict[str, SignalSettings] = Field({}, description="signals by modality; signals where none are named")
    cross_modal: float = Field(
        0.0, ge=0, description="weight of terms between two sources' signals of the same image; 0: images alone anchor"
    )

    newcomer: NewcomerSettings = NewcomerSettings()

    @field_validator("encoders", "inputs")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(value) - set(MODALITIES)):
            raise ValueError(f"'{unknown[0]}' is no modality; there are {', '.join(MODALITIES)}")
        return value


class TrainingSettings(Settings):
    """The optimiser and its budget."""

    n_images: int | None = Field(None, ge=3, description="training images, in one random order: for learning curves")
    trials: Literal["averaged", "single"] = Field(
        "averaged", description="single: every repetition is a training signal of its own"
    )
    batches: Literal["distinct", "random"] = Field(
        "distinct", description="distinct: no image twice in a batch, where an image has several signals"
    )
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    weight_decay_image: float | None = Field(None, ge=0, description="of the image and text projectors; null: the same")
    init_std: float | None = Field(
        None, gt=0, description="convolutions start from a normal distribution of this deviation; null: PyTorch's own"
    )
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(1024, ge=2)
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int | None = Field(20, ge=1, description="epochs without a better validation loss before stopping")
    noise: float = Field(
        0.0,
        ge=0,
        description="deviation of Gaussian noise added to training signals as the encoder takes them",
    )


class SelectionSettings(Settings):
    """How epoch, layer and pooling are chosen, always on validation images."""

    epoch: Literal["loss", "last"] = "loss"
    layer: Literal["loss", "mrr", "top1"] = "mrr"
    candidates: int = Field(20, ge=1, description="epochs kept to be scored when the test set opens (inflation gap)")


class EvaluationSettings(Settings):
    """How the one opening of the test set is scored."""

    repetitions: int | None = Field(None, ge=1, description="test trials averaged in a query; null: all")
    gallery: Literal["shown", "templates"] = Field(
        "shown", description="templates: a concept's other images, averaged, stand for it (NICE); not comparable"
    )
    n_resamples: int = Field(2000, ge=100)
    n_permutations: int = Field(2000, ge=100)


class Recipe(Settings):
    """A method with all its settings, resolved for one kind of data.

    Attributes
    ----------
    name : str
        For example `shallow-alignment`, or `shallow-alignment/paper`.
    profile : str
        The profile that was laid over the method's defaults ('eeg', 'spikes', 'paper', ...).
    budget : {'full', 'small'}
        `small` shortens training; every result says so.
    """

    name: str
    profile: str = ""
    summary: str = ""
    source: str = ""
    family: Literal["contrastive", "generative", "bravl", "foundation", "ridge", "random"] = "contrastive"
    budget: Literal["full", "small"] = "full"
    target: TargetSettings = TargetSettings()
    text: TextSettings = TextSettings()
    uncertainty: UncertaintySettings = UncertaintySettings()
    signals: SignalSettings = SignalSettings()
    encoder: EncoderSettings = EncoderSettings()
    projector: ProjectorSettings = ProjectorSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    losses: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    generative: GenerativeSettings = GenerativeSettings()
    ridge: RidgeSettings = RidgeSettings()
    bravl: BravlSettings = BravlSettings()
    foundation: FoundationSettings = FoundationSettings()
    selection: SelectionSettings = SelectionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _family_suits(self) -> Self:
        if self.family == "generative" and self.signals.window is not None:
            # Samples that are all 0 have no residual variance, and no likelihood.
            raise ValueError("signals.window: a generative model leaves samples out with signals.tmin and signals.tmax")
        if self.family == "foundation" and self.training.trials == "single":
            raise ValueError("training.trials: single is not for a foundation model, which takes one signal an image")
        return self

    def facts(self) -> dict[str, Any]:
        """Settings that decide the outcome, for the run's hash (prose left out)."""
        facts = self.model_dump(mode="json", exclude={"summary", "source"})
        if self.signals.window is None:
            del facts["signals"]["window"]  # runs from before there were windows keep their name
        if self.family != "ridge":
            del facts["ridge"]  # and so do those from before there was a linear baseline
        return facts

    @property
    def targets(self) -> list[TargetSettings]:
        """The target, and the same through every level of blur that training images may have."""
        levels = [self.target.model_copy(update={"transform": level}) for level in self.uncertainty.levels]
        return [self.target, *levels]

    def with_target(self, *, layer: LayerSpec, pooling: str, backbone: str | None = None) -> Recipe:
        """The same method aimed at one layer and pooling."""
        change: dict[str, Any] = {"pooling": pooling}
        if backbone is not None or len(self.target.backbones) == 1:  # several backbones keep the layers as they are
            change |= {"layer": layer, "layers": None}
        if backbone is not None:
            change["backbone"] = backbone
        return self.model_copy(update={"target": self.target.model_copy(update=change)})
