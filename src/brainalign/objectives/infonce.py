"""InfoNCE between brain and image: each finds its partner among all others of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name
from brainalign.objectives._cross_entropy import symmetric_cross_entropy

SCALE_MODES = ("fixed", "learned", "softplus", "raw")
MAX_SCALE = 100.0
MAX_RAW = math.log(MAX_SCALE) - 1e-6  # in float32 the exponential of the logarithm itself is above 100


def info_nce(
    brain: Tensor, image: Tensor, *, scale: Tensor | float, normalize_brain: bool = True, symmetric: bool = True
) -> Tensor:
    r"""Cross-entropy of finding each pair in the batch.

    With w the rows of `image` at unit norm, v those of `brain` (at unit norm unless `normalize_brain` is False) and
    :math:`S_{ij} = s\, v_i \cdot w_j`, the loss is

    .. math:: L = \frac{1}{2n} \sum_i \Big[\log \sum_j e^{S_{ij}} + \log \sum_j e^{S_{ji}} - 2 S_{ii}\Big]

    or, one-directional, only its first half (brain finds image): mean of :math:`\log \sum_j e^{S_{ij}} - S_{ii}`.

    Parameters
    ----------
    brain, image : Tensor of shape (..., n, dim)
        Row i of one belongs to row i of the other. Leading axes are separate batches.
    scale : float or Tensor of shape () or (...)
        Inverse temperature s = 1 / tau.
    normalize_brain : bool
        Whether brain rows are brought to unit norm, so that S is a cosine times `scale`. Without it the effective scale
        is ``scale * norm(brain row)``: after a LayerNorm over d values the norm is about sqrt(d), so UBP's
        softplus(ln(1 / 0.07)) = 2.73 at d = 1024 acts as 2.73 * 32 = 87, where cosine / 0.07 acts as 14.3.
    symmetric : bool
        Average of both directions, or brain to image alone.

    Returns
    -------
    Tensor of shape (...)

    Raises
    ------
    InputError
        If the two are not matrices of one shape, or hold no pair.

    References
    ----------
    van den Oord, Li, Vinyals 2018, arXiv 1807.03748, eq. 4; the symmetric form of CLIP: Radford et al. 2021, arXiv
    2103.00020, figure 3. Without brain norm: the published code of UBP (arXiv 2503.04207) and NeuroBridge (2511.06836).

    Examples
    --------
    >>> pairs = torch.eye(2)
    >>> round(float(info_nce(pairs, pairs, scale=1.0)), 4)  # log(1 + exp(-1))
    0.3133
    """
    if brain.ndim < 2 or brain.shape != image.shape or brain.shape[-2] == 0:
        raise InputError(
            f"InfoNCE needs n pairs in one space, got brain {tuple(brain.shape)} and image {tuple(image.shape)}",
            hint="give two arrays of shape (n, dim), n at least 1",
        )
    if normalize_brain:
        brain = nn.functional.normalize(brain, dim=-1)
    if isinstance(scale, Tensor):
        scale = scale[..., None, None]
    # The scale on the n x dim side: dim is smaller than n where it matters.
    logits = (scale * brain) @ nn.functional.normalize(image, dim=-1).mT
    if symmetric:
        return symmetric_cross_entropy(logits)
    return (logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)).mean(-1)


class InfoNCE(nn.Module):
    """`info_nce` together with its scale.

    Parameters
    ----------
    scale_mode : {"fixed", "learned", "softplus", "raw"}
        ``fixed``: 1 / temperature throughout. ``learned``: exp(a), a trained from ln(1 / temperature) on, at most 100
        (CLIP). ``softplus``: ln(1 + exp(a)), a trained from ln(1 / temperature) on; it starts at 2.73 for 0.07 (UBP,
        NeuroBridge), where ``learned`` starts at 14.3. ``raw``: a itself, at least 0, trained from ln(1 / temperature)
        on, 2.66 for 0.07 (the published code of ATM, which leaves the exponential out).
    temperature : float
        Above 0. At the start, where the scale is trained.
    normalize_brain, symmetric : bool
        See `info_nce`, also for the effective scale without `normalize_brain`.

    Raises
    ------
    InputError
        If `scale_mode` is unknown or `temperature` is not a finite number above 0.

    Examples
    --------
    >>> round(float(InfoNCE(temperature=0.07).scale), 2), round(float(InfoNCE(scale_mode="softplus").scale), 2)
    (14.29, 2.73)
    """

    stacks = True  # its own parameter may have a leading axis of runs

    def __init__(
        self,
        *,
        scale_mode: str = "fixed",
        temperature: float = 0.07,
        normalize_brain: bool = True,
        symmetric: bool = True,
    ) -> None:
        super().__init__()
        if scale_mode not in SCALE_MODES:
            raise unknown_name("scale_mode", scale_mode, SCALE_MODES)
        if not (temperature > 0 and math.isfinite(temperature)):
            raise InputError(f"temperature {temperature} is not a finite number above 0")
        self.scale_mode, self.normalize_brain, self.symmetric = scale_mode, normalize_brain, symmetric
        self.raw = nn.Parameter(torch.tensor(math.log(1 / temperature)), requires_grad=scale_mode != "fixed")

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, a tensor of shape ()."""
        if self.scale_mode == "softplus":
            return nn.functional.softplus(self.raw)
        if self.scale_mode == "raw":
            return self.raw.clamp(min=0.0)
        if self.scale_mode != "learned":
            return self.raw.exp()
        if self.training:
            # Brought back, and not to the clamp below but under it: past the clamp the gradient is 0 and would stay so.
            with torch.no_grad():
                self.raw.clamp_(max=MAX_RAW)
        return self.raw.exp().clamp(max=MAX_SCALE)

    def forward(self, brain: Tensor, image: Tensor) -> Tensor:
        """The loss of a batch of pairs, both (n, dim), to a tensor of shape ()."""
        return info_nce(brain, image, scale=self.scale, normalize_brain=self.normalize_brain, symmetric=self.symmetric)
