"""What a trained encoder's answer to its own image is made of, channel by channel and sample by sample (captum)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainalign.alignment.contrastive import ContrastiveAligner
from brainalign.analysis.channels_data import Estimates, Material, one_row_an_image, resampling_weights
from brainalign.analysis.onset import Values
from brainalign.errors import InputError
from brainalign.execution.progress import Tick

Method = Literal["ig", "deeplift"]
NAMES = {"ig": "integrated gradients", "deeplift": "DeepLIFT"}
TOLERANCE = 0.01  # of |f(x) - f(baseline)|
STEPS = (32, 64, 128, 256, 512, 1024)
TINY = 1e-30
ROWS = 512  # images times steps that go through the model at once


class DotProduct(nn.Module):
    """The dot product of a signal's embedding with its image's, before either is scaled to unit length.

    Parameters
    ----------
    aligner : ContrastiveAligner
        Fitted. Encoder and projectors stay the modules they are, so that attribution methods find their nonlinearities.
    """

    def __init__(self, aligner: ContrastiveAligner) -> None:
        super().__init__()
        assert aligner.model is not None
        self.model = aligner.model.eval()

    def forward(self, signals: Tensor, images: Tensor) -> Tensor:
        """Transformed signals (n, n_chans, n_times) and embedded images (n, dim) to (n,)."""
        embedded = self.model.embed_brain(self.model.encoder.prepare(signals))
        found: Tensor = (embedded * images).sum(1)
        return found


@dataclass(frozen=True)
class Attribution:
    """Attributions of the dot product to transformed signals.

    Attributes
    ----------
    values : array of shape (n, n_chans, n_times)
        Their sum over channels and samples is the answer minus the baseline's, but for `delta`.
    answer, baseline, delta : arrays of shape (n,)
        f(x), f(0), and sum of attributions minus f(x) - f(0).
    steps : array of shape (n,)
        Of the integral; 0 for DeepLIFT, which has none.
    """

    values: NDArray[np.float32]
    answer: Values
    baseline: Values
    delta: Values
    steps: NDArray[np.intp]

    @property
    def relative(self) -> Values:
        """|delta| / |f(x) - f(0)|, infinite where these are the same and delta is not 0."""
        gap, delta = np.abs(self.answer - self.baseline), np.abs(self.delta)
        return np.asarray(np.divide(delta, gap, out=np.where(delta > 0, np.inf, 0.0), where=gap > 0))

    @property
    def overall(self) -> float:
        """Sum of |delta| over images, relative to the sum of |f(x) - f(0)|."""
        return float(np.abs(self.delta).sum() / max(np.abs(self.answer - self.baseline).sum(), TINY))

    @property
    def n_missed(self) -> int:
        """Images whose delta is not below the tolerance."""
        return int((self.relative >= TOLERANCE).sum())


@dataclass(frozen=True)
class Attributed:
    """Attributions of a run by channel.

    Attributes
    ----------
    method : {'ig', 'deeplift'}
    note : str
        Why the method is another one than was asked for; else empty.
    share : Estimates
        Of a channel in the sum of absolute attributions over all channels and samples, mean over images; sums to 1.
    signed : Estimates
        Sum of a channel's attributions over samples, in units of the mean of |f(x) - f(0)|: what the channel adds.
    by_time : array of shape (n_chans, n_times)
        Mean absolute attribution, as a share.
    raw : Attribution
    """

    method: Method
    note: str
    share: Estimates
    signed: Estimates
    by_time: Values
    raw: Attribution


def measure_attribution(
    material: Material, method: Method, *, n_resamples: int, seed: int, tick: Tick
) -> Attributed | str:
    """Attribute the answers of a run to held-out signals; in words why not, where its model is not a contrastive one.

    Raises
    ------
    InputError
        If captum is not installed.
    """
    aligner = material.run.aligner
    if not isinstance(aligner, ContrastiveAligner) or aligner.model is None or aligner.signal_transform is None:
        return f"a model of family '{material.run.recipe.family}' has no brain encoder to attribute to"
    device, held = aligner.device, material.held
    signals = aligner.signal_transform(torch.from_numpy(np.asarray(held.signals, np.float32)).to(device))
    features = torch.from_numpy(np.asarray(material.run.targets.of(held.query_ids), np.float32)).to(device)
    assert aligner.target_transform is not None
    with torch.no_grad():
        images = aligner.model.embed_image(aligner.target_transform(features))
    raw, used, note = attribute(DotProduct(aligner), signals, images, method, tick)
    (values, gap) = one_row_an_image(held.query_ids, raw.values, raw.answer - raw.baseline)
    absolute = np.abs(values).sum(2)
    weights = resampling_weights(len(values), n_resamples, seed)
    total, signed, mean = max(float(absolute.sum()), TINY), values.sum(2), max(float(np.abs(gap).mean()), TINY)
    drawn = weights @ absolute
    groups = material.channels.groups
    return Attributed(
        used,
        note,
        Estimates.of(absolute.sum(0) / total, drawn / np.maximum(drawn.sum(1, keepdims=True), TINY), groups),
        Estimates.of(signed.mean(0) / mean, weights @ signed / mean, groups),
        np.abs(values).sum(0) / total,
        raw,
    )


def attribute(
    model: nn.Module, signals: Tensor, images: Tensor, method: Method = "ig", tick: Tick | None = None
) -> tuple[Attribution, Method, str]:
    """Attributions against a signal of zeros (the training mean), with their convergence checked.

    Parameters
    ----------
    model : Module
        Signals (n, n_chans, n_times) and images (n, dim) to (n,).
    method : {'ig', 'deeplift'}
        Integrated gradients take more steps for the images that miss the tolerance, up to the last of `STEPS`.
        DeepLIFT's rules hold for nonlinearities that are modules captum knows; where its delta shows that they do not
        hold, integrated gradients are taken instead.

    Returns
    -------
    Attribution
    str
        The method that was used.
    str
        Why it is another one than was asked for.

    Raises
    ------
    InputError
        If captum is not installed.

    References
    ----------
    M. Sundararajan, A. Taly and Q. Yan, Axiomatic attribution for deep networks, ICML 2017, arXiv 1703.01365.
    A. Shrikumar, P. Greenside and A. Kundaje, Learning important features through propagating activation differences,
    ICML 2017, arXiv 1704.02685.
    """
    _require_captum()
    note = ""
    if method == "deeplift":
        found, problem = _deeplift(model, signals, images)
        if found is not None and found.n_missed == 0:
            return found, "deeplift", ""
        note = problem or (
            f"DeepLIFT misses its convergence for {found.n_missed if found else 0} of {len(signals)} images: the "
            "encoder has nonlinearities that its rules do not cover"
        )
    return _integrated(model, signals, images, tick), "ig", note


def _integrated(model: nn.Module, signals: Tensor, images: Tensor, tick: Tick | None) -> Attribution:
    from captum.attr import IntegratedGradients

    ig, n = IntegratedGradients(model), len(signals)
    answer, baseline = _answers(model, signals, images)
    values, steps = np.zeros(tuple(signals.shape), np.float32), np.zeros(n, dtype=np.intp)
    delta, todo = np.full(n, np.inf), np.arange(n)
    for count in STEPS:
        block = max(1, ROWS // count)
        for start in range(0, len(todo), block):
            rows = todo[start : start + block]
            x, w = signals[torch.from_numpy(rows)], images[torch.from_numpy(rows)]
            part = ig.attribute(x, baselines=torch.zeros_like(x), additional_forward_args=(w,), n_steps=count)
            values[rows] = part.detach().float().cpu().numpy()
            if tick is not None and count == STEPS[0]:
                tick(min(start + block, n), n)
        steps[todo] = count
        delta[todo] = values[todo].sum((1, 2), dtype=np.float64) - (answer - baseline)[todo]
        found = Attribution(values, answer, baseline, delta, steps)
        todo = np.flatnonzero(found.relative >= TOLERANCE)
        if not len(todo):
            break
    return found


def _deeplift(model: nn.Module, signals: Tensor, images: Tensor) -> tuple[Attribution | None, str]:
    """DeepLIFT's attributions, or in words why it cannot be applied."""
    import warnings

    from captum.attr import DeepLift

    answer, baseline = _answers(model, signals, images)
    parts = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum says on every call that it sets hooks
            lift = DeepLift(model)
            for x, w in zip(torch.split(signals, ROWS), torch.split(images, ROWS), strict=True):
                parts.append(lift.attribute(x, torch.zeros_like(x), additional_forward_args=(w,)).detach().cpu())
    except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
        first = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        return None, f"DeepLIFT cannot be applied to this encoder ({first})"
    values = torch.cat(parts).float().numpy()
    delta = values.sum((1, 2), dtype=np.float64) - (answer - baseline)
    return Attribution(values, answer, baseline, delta, np.zeros(len(values), dtype=np.intp)), ""


@torch.no_grad()
def _answers(model: nn.Module, signals: Tensor, images: Tensor) -> tuple[Values, Values]:
    """f(x) and f(0), (n,) each."""
    parts: list[tuple[Any, Any]] = [
        (model(x, w), model(torch.zeros_like(x), w))
        for x, w in zip(torch.split(signals, ROWS), torch.split(images, ROWS), strict=True)
    ]
    answer, baseline = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
    return answer, baseline


def _require_captum() -> None:
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        hint = 'pip install "brainalign[attributions]", or --attribution none'
        raise InputError("captum is not installed", where="--attribution", hint=hint) from error
