"""UBP's uncertainty: training images whose pairs fit badly are blurred more, those that fit well less.

Wu et al., CVPR 2025, arXiv 2503.04207, section 4.2, equations 6 to 10.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

from brainalign.errors import InputError, unknown_name

LOW, MEDIUM, HIGH = 0, 1, 2
COMPARED = ("smoothed", "current")
INTERVALS = ("epoch", "batch")


def confidence_interval(similarities: Tensor, alpha: float = 0.05) -> tuple[Tensor, Tensor]:
    """Ends of the two-sided normal interval, eq. 8 and 9: mean -+ z(alpha / 2) deviation (n - 1 in its denominator).

    Parameters
    ----------
    similarities : Tensor of shape (n,)
        At least two.
    alpha : float
        The share expected outside.

    Examples
    --------
    >>> low, high = confidence_interval(torch.tensor([1.0, 2.0, 3.0]), alpha=0.05)
    >>> round(float(low), 4), round(float(high), 4)  # 2 -+ 1.95996
    (0.04, 3.96)
    """
    reach = NormalDist().inv_cdf(1 - alpha / 2) * similarities.std(correction=1)
    middle = similarities.mean()
    return middle - reach, middle + reach


class UncertaintyBlur(nn.Module):
    """Chooses a level of blur for every training image, epoch by epoch.

    Every image keeps a moving average of the similarity s of its pairs, m <- gamma s + (1 - gamma) m. The averages have
    a two-sided normal interval. Images below it (brain and image disagree) get the high level in the next epoch, images
    above it (brain and image agree unusually well) the low level, all others the medium level.

    The paper's text and its code agree on this; its eq. 10 is printed the other way round. The defaults follow the
    paper otherwise, and mean the same for cosines and for logits. The authors' code is
    ``compare="current", initial=1.0, interval="batch"`` with logits (softplus scale times similarity) as similarities.

    State lies in buffers, in float64: it moves with `to` and is kept by `state_dict`. Nothing is random, and the order
    of updates in an epoch does not matter with ``interval="epoch"``.

    Parameters
    ----------
    n_images : int
        Training images; rows are 0 to n_images - 1.
    gamma : float
        Weight of the newest similarity, above 0, at most 1.
    alpha : float
        Share of images expected outside the interval, between 0 and 1.
    compare : {'smoothed', 'current'}
        What is compared with the interval: the moving average (section 4.2), or the newest similarity alone (code).
    initial : float or None
        The moving average ahead of the first similarity; None: the first similarity itself.
    interval : {'epoch', 'batch'}
        Whether the interval is that of all images updated in the epoch (eq. 8), or of each call of `update` (code).

    Raises
    ------
    InputError
        If a setting is out of its range.

    Examples
    --------
    >>> blur = UncertaintyBlur(8, alpha=0.2)
    >>> blur.update(torch.arange(8), torch.tensor([0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, -0.3]))
    >>> blur.levels(torch.arange(8)).tolist()  # nothing changes within an epoch
    [1, 1, 1, 1, 1, 1, 1, 1]
    >>> blur.end_epoch()
    >>> blur.levels(torch.arange(8)).tolist()
    [0, 1, 1, 1, 1, 1, 1, 2]
    """

    smoothed: Tensor
    level: Tensor
    pending: Tensor
    total: Tensor
    count: Tensor

    def __init__(
        self,
        n_images: int,
        *,
        gamma: float = 0.3,
        alpha: float = 0.05,
        compare: str = "smoothed",
        initial: float | None = None,
        interval: str = "epoch",
    ) -> None:
        super().__init__()
        if n_images < 1:
            raise InputError(f"n_images is {n_images}, expected at least 1")
        if not 0 < gamma <= 1:
            raise InputError(f"gamma is {gamma}, expected above 0 and at most 1")
        if not 0 < alpha < 1:
            raise InputError(f"alpha is {alpha}, expected between 0 and 1")
        if compare not in COMPARED:
            raise unknown_name("compare", compare, COMPARED)
        if interval not in INTERVALS:
            raise unknown_name("interval", interval, INTERVALS)
        self.gamma, self.alpha, self.compare, self.interval = gamma, alpha, compare, interval
        start = torch.nan if initial is None else float(initial)
        self.register_buffer("smoothed", torch.full((n_images,), start, dtype=torch.float64))
        self.register_buffer("level", torch.full((n_images,), MEDIUM))
        self.register_buffer("pending", torch.full((n_images,), MEDIUM))
        self.register_buffer("total", torch.zeros(n_images, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(n_images, dtype=torch.int64))

    def levels(self, image_rows: Tensor) -> Tensor:
        """Levels of this epoch: 0 low, 1 medium, 2 high.

        Parameters
        ----------
        image_rows : Tensor of shape (m,)
            Whole numbers.

        Returns
        -------
        Tensor of shape (m,), int64
        """
        return self.level[image_rows]

    @torch.no_grad()
    def update(self, image_rows: Tensor, similarities: Tensor) -> None:
        """Take the similarities of some pairs; several of one image are averaged.

        Parameters
        ----------
        image_rows : Tensor of shape (m,)
            Which image each pair has, whole numbers.
        similarities : Tensor of shape (m,)
            Of the two sides of each pair, as the model has them now.

        Raises
        ------
        InputError
            If shapes differ, a row does not exist, or a similarity is not finite.
        """
        self._check(image_rows, similarities)
        values = similarities.detach().to(self.total)
        # `index_put_` adds in a fixed order on every device, `index_add_` does not.
        self.total.index_put_((image_rows,), values, accumulate=True)
        self.count.index_put_((image_rows,), torch.ones_like(image_rows), accumulate=True)
        if self.interval == "batch":
            self._judge()

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Let the levels found in this epoch count from now on; images that were not seen keep theirs."""
        self._judge()
        self.level.copy_(self.pending)

    def _judge(self) -> None:
        """Move the averages of the images seen since the last time, and compare with their interval."""
        seen = self.count.nonzero().squeeze(1)
        current = self.total[seen] / self.count[seen]
        self.total.zero_()
        self.count.zero_()
        before = self.smoothed[seen]
        after = torch.where(before.isnan(), current, self.gamma * current + (1 - self.gamma) * before)
        self.smoothed[seen] = after
        if len(seen) < 2:  # no deviation, no interval
            return
        low, high = confidence_interval(after, self.alpha)
        compared = after if self.compare == "smoothed" else current
        found = torch.full_like(seen, MEDIUM)
        found[compared > high] = LOW
        found[compared < low] = HIGH
        self.pending[seen] = found

    def _check(self, rows: Tensor, similarities: Tensor) -> None:
        if rows.ndim != 1 or rows.shape != similarities.shape or rows.dtype != torch.int64:
            problem = f"got rows {tuple(rows.shape)} of {rows.dtype} and similarities {tuple(similarities.shape)}"
            raise InputError(f"{problem}, expected two of shape (m,), rows of int64")
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.level):
            raise InputError(f"rows go from {int(rows.min())} to {int(rows.max())}, there are {len(self.level)} images")
        if not bool(torch.isfinite(similarities).all()):
            raise InputError("a similarity is not a finite number", hint="lower the learning rate")
