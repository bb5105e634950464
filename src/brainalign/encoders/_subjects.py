"""One learnt vector a subject."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainalign.errors import InputError

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class SubjectToken(nn.Module):
    """A learnt vector for each subject of the training data, and a shared one for everybody else.

    Parameters
    ----------
    n_subjects : int
        Subjects with a vector of their own; with 0 all share one.
    width : int
        Of a vector.
    dropout : float
        Share of trials that get the shared vector in training although their subject has one. Above 0, the shared
        vector learns what a subject without training data will need; at 0 it learns from trials of subject -1 alone.
    """

    def __init__(self, n_subjects: int, width: int, dropout: float) -> None:
        super().__init__()
        self.n_subjects, self.dropout = n_subjects, dropout
        self.own = nn.Embedding(n_subjects, width) if n_subjects else None
        self.shared = nn.Parameter(torch.randn(1, width))

    def forward(self, n: int, subjects: Tensor | None) -> Tensor:
        """Vectors (n, width) of the `subjects` (n,) of n trials; -1, or no subjects at all, gives the shared one.

        Raises
        ------
        InputError
            If `subjects` are not n whole numbers from -1 to ``n_subjects - 1``; ignored where ``n_subjects`` is 0.
        """
        if subjects is None or self.own is None:
            return self.shared.expand(n, -1)
        self._check(n, subjects)
        rows = subjects.to(self.shared.device, torch.long)
        if self.training and self.dropout > 0:
            rows = rows.masked_fill(torch.rand(n, device=rows.device) < self.dropout, -1)
        # -1 is the last row.
        return torch.cat((self.own.weight, self.shared))[rows]

    def _check(self, n: int, subjects: Tensor) -> None:
        if subjects.shape != (n,) or subjects.dtype not in _WHOLE:
            raise InputError(
                f"subjects of {n} trials have shape {tuple(subjects.shape)} and type {subjects.dtype}",
                where="subjects",
                hint=f"give {n} whole numbers, -1 for a subject without training data",
            )
        if n and (int(subjects.min()) < -1 or int(subjects.max()) >= self.n_subjects):
            raise InputError(
                f"subjects lie between {int(subjects.min())} and {int(subjects.max())}, the encoder was built with"
                f" n_subjects {self.n_subjects}",
                where="subjects",
                hint="number them from 0, and -1 for a subject without training data",
            )
