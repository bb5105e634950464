"""What every brain encoder offers."""

from __future__ import annotations

from torch import Tensor, nn


class BrainEncoder(nn.Module):
    """Signals (n, n_chans, n_times) to embeddings (n, dim).

    `prepare` is a fixed function of the input, computed once for a whole recording before training; `forward` takes its
    result with `prepared=True`.
    """

    def prepare(self, signals: Tensor) -> Tensor:
        """What can be computed ahead of training; the signals themselves by default."""
        return signals

    def forward(self, signals: Tensor, *, prepared: bool = False) -> Tensor:
        """Embed signals, (n, n_chans, n_times) to (n, dim)."""
        return self.embed(signals if prepared else self.prepare(signals))

    def embed(self, prepared: Tensor) -> Tensor:
        """Embed what `prepare` returned."""
        raise NotImplementedError
