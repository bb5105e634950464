"""What every brain encoder offers."""

from __future__ import annotations

from torch import Tensor, nn


class BrainEncoder(nn.Module):
    """Signals (n, n_chans, n_times) to embeddings (n, dim).

    A subclass takes the keyword arguments `n_chans`, `n_times` and `dim` and its own options, raises
    `brainalign.errors.InputError` for values it cannot work with, and writes `embed`. Where part of the way is a fixed
    function of the input, `prepare` does that part: training calls it once for the whole recording and then passes its
    result with ``prepared=True``. `prepare` treats each trial by itself.

    Attributes
    ----------
    stacks : bool
        Whether `embed` is made of linear maps, layer norms, dropout and elementwise functions alone and also takes
        (runs, n, ...), so that several runs can be trained as one model.
    knows_subjects : bool
        Whether the embedding depends on the `subjects` given to `forward`. Such encoders take the option `n_subjects`,
        and their `embed` an optional second argument.
    """

    stacks = False
    knows_subjects = False

    def prepare(self, signals: Tensor) -> Tensor:
        """What can be computed ahead of training, (n, n_chans, n_times) to (n, ...); by default the signals."""
        return signals

    def forward(self, signals: Tensor, *, prepared: bool = False, subjects: Tensor | None = None) -> Tensor:
        """Embed signals.

        Parameters
        ----------
        signals : Tensor of shape (n, n_chans, n_times)
            Or the result of `prepare` on them.
        prepared : bool
            Whether `signals` went through `prepare`.
        subjects : Tensor of shape (n,), optional
            Whom each trial is from: whole numbers from 0, and -1 for anybody who is not in the training data. Encoders
            that know no subjects ignore it.

        Returns
        -------
        Tensor of shape (n, dim)
        """
        return self.embed(signals if prepared else self.prepare(signals))

    def embed(self, prepared: Tensor) -> Tensor:
        """Embed what `prepare` returned, (n, ...) to (n, dim)."""
        raise NotImplementedError
