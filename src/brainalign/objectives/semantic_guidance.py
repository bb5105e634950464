"""Semantic guidance: brain-image similarities of a batch follow its image-text similarities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name

DIRECTIONS = ("reverse", "forward")
DIAGONALS = ("keep", "mask", "literal")


def semantic_guidance_loss(
    brain: Tensor,
    image: Tensor,
    text: Tensor,
    temperature: float = 0.07,
    direction: str = "reverse",
    diagonal: str = "keep",
    detach_teacher: bool = True,
) -> Tensor:
    r"""Divergence between how brain finds images and how images find texts.

    With e, v, t the rows of `brain`, `image` and `text` at unit norm and :math:`\tau` the temperature, teacher P and
    student Q are

    .. math:: P_{ij} = \frac{e^{v_i \cdot t_j / \tau}}{\sum_m e^{v_i \cdot t_m / \tau}}, \qquad
              Q_{ij} = \frac{e^{e_i \cdot v_j / \tau}}{\sum_m e^{e_i \cdot v_m / \tau}}

    and the loss is the mean over i of :math:`\sum_j Q_{ij} \log (Q_{ij} / P_{ij})`, KL(Q || P), or with
    ``direction="forward"`` of :math:`\sum_j P_{ij} \log (P_{ij} / Q_{ij})`, KL(P || Q).

    Parameters
    ----------
    brain, image, text : Tensor of shape (..., n, dim)
        Rows i belong together. Leading axes are separate batches.
    temperature : float
        Above 0.
    direction : {"reverse", "forward"}
        ``reverse``: KL(Q || P), as published; a student that is sure of one of several likely partners pays little.
        ``forward``: KL(P || Q), as in distillation; a student that misses a likely partner pays much.
    diagonal : {"keep", "mask", "literal"}
        ``keep``: softmax over the whole row (Algorithm 1). ``mask``: without the pair itself, the rest scaled to sum 1,
        so that only the order among the other items teaches. ``literal``: eq. 4 to 6 as printed, with 1 on both
        diagonals and the other entries divided by the sum over the whole row. There the diagonal adds nothing and rows
        are no distributions: the sum can be negative, and its minimum lies at Q = P / e (reverse), not at Q = P.
    detach_teacher : bool
        Whether P is a constant, so that the loss trains brain and image through Q alone.

    Returns
    -------
    Tensor of shape (...)
        In nats; 0 for a batch of one.

    Raises
    ------
    InputError
        If the three are not matrices of one shape, hold no row, or an option is unknown or out of range.

    Notes
    -----
    Eq. 6 sums over i and j, Algorithm 1 (line 16) takes the mean over i; the mean is used throughout, so that the loss
    does not grow with the batch.

    References
    ----------
    NeuroAlign, section 3.3, eq. 4 to 6 and Algorithm 1, lines 13 to 16.

    Examples
    --------
    A brain that sees two images alike, a teacher that tells them apart: half of log(1 / 2p) + log(1 / 2(1 - p)), with
    p = 1 / (1 + exp(-1)).

    >>> pairs = torch.eye(2)
    >>> round(float(semantic_guidance_loss(torch.ones(2, 2), pairs, pairs, temperature=1.0)), 4)
    0.1201
    """
    _check(brain, image, text)
    _check_options(temperature, direction, diagonal)
    brain, image, text = (nn.functional.normalize(x, dim=-1) for x in (brain, image, text))
    with torch.set_grad_enabled(torch.is_grad_enabled() and not detach_teacher):
        teacher = _log_rows(image, text, temperature, diagonal)
    student = _log_rows(brain, image, temperature, diagonal)
    weigh, other = (student, teacher) if direction == "reverse" else (teacher, student)
    terms = weigh.exp() * (weigh - other)
    if diagonal != "keep":
        terms = terms.masked_fill(_diagonal(terms), 0.0)
    return terms.sum(-1).mean(-1)


def _log_rows(a: Tensor, b: Tensor, temperature: float, diagonal: str) -> Tensor:
    """Logarithms of the softmax of rows, (..., n, dim) twice to (..., n, n)."""
    logits = (a / temperature) @ b.mT
    if diagonal == "mask":
        # The lowest number, not minus infinity: a batch of one then gives 0 where it would give infinity - infinity.
        logits = logits.masked_fill(_diagonal(logits), torch.finfo(logits.dtype).min)
    return logits.log_softmax(-1)


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(square.shape[-1], dtype=torch.bool, device=square.device)


def _check(brain: Tensor, image: Tensor, text: Tensor) -> None:
    if brain.ndim < 2 or not brain.shape == image.shape == text.shape or brain.shape[-2] == 0:
        shapes = f"brain {tuple(brain.shape)}, image {tuple(image.shape)} and text {tuple(text.shape)}"
        raise InputError(
            f"semantic guidance needs n rows of each in one space, got {shapes}",
            hint="give three arrays of shape (n, dim), n at least 1",
        )


def _check_options(temperature: float, direction: str, diagonal: str) -> None:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature {temperature} is not a finite number above 0")
    if direction not in DIRECTIONS:
        raise unknown_name("direction", direction, DIRECTIONS)
    if diagonal not in DIAGONALS:
        raise unknown_name("diagonal", diagonal, DIAGONALS)


class SemanticGuidance(nn.Module):
    """`semantic_guidance_loss` with its options; no parameter of its own.

    Parameters
    ----------
    temperature, direction, diagonal, detach_teacher
        See `semantic_guidance_loss`.

    Raises
    ------
    InputError
        If an option is unknown or out of range.

    Examples
    --------
    >>> rows = torch.eye(3)
    >>> float(SemanticGuidance()(rows, rows, rows))
    0.0
    """

    stacks = True  # leading axes are separate batches

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        direction: str = "reverse",
        diagonal: str = "keep",
        detach_teacher: bool = True,
    ) -> None:
        super().__init__()
        _check_options(temperature, direction, diagonal)
        self.temperature, self.direction, self.diagonal = temperature, direction, diagonal
        self.detach_teacher = detach_teacher

    def forward(self, brain: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """The loss of a batch, each of shape (..., n, dim), to a tensor of shape (...)."""
        return semantic_guidance_loss(
            brain, image, text, self.temperature, self.direction, self.diagonal, self.detach_teacher
        )
