"""ATM-S: attention over channels and a subject token, then TSConv."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainalign.encoders._attention import SelfAttention
from brainalign.encoders._checks import check_at_least_one, check_dropout, check_sizes, check_subjects
from brainalign.encoders._smoothing import smooth
from brainalign.encoders._subjects import SubjectToken
from brainalign.encoders.base import BrainEncoder
from brainalign.encoders.tsconv import TSConv, check_options
from brainalign.errors import InputError


class ATM(BrainEncoder):
    """Channels as tokens beside one for the subject, a transformer layer, then `TSConv` on the channels.

    The encoder ATM-S (Li et al., NeurIPS 2024, arXiv 2403.07721, and its code). In order:

    ``Linear(n_times, 250)`` of each channel; the subject's token before them; ``Dropout``; layers of
    ``LayerNorm(x + Dropout(Attention(x)))`` and ``LayerNorm(x + Dropout(Linear(256, 250)(Dropout(GELU(Linear(250,
    256)(x))))))`` with 4 heads of 62 dimensions (250 is not divisible by 4; the maps to and from the heads are 248
    wide); ``LayerNorm``; then the channels' tokens as signals of 250 samples through `TSConv`.

    The released code cuts the sequence after as many tokens as there are channels, with the subject's token in front:
    the convolutions see that token in place of the last channel. ``as_released=True`` does the same. The default
    passes the channels on, as the paper's figure has it. Parts of the released code that no output depends on (a mask
    token, temporal embeddings, one linear map a subject) are left out.

    Parameters
    ----------
    n_chans, n_times, dim : int
        Channels and samples of a signal; width of the embedding.
    n_subjects : int
        Subjects in the training data, each with a token of its own. With 0, and for subject -1, it is a shared one.
    subject_dropout : float
        Share of trials that get the shared token in training (published: 0). The shared token learns from these and
        from trials without a subject alone: choose it above 0 where a held-out subject is to be embedded.
    width : int
        Of a token, and so the samples that `TSConv` sees.
    depth, n_heads, hidden : int
        Transformer layers, attention heads in each, units of each layer's hidden layer.
    attention_dropout : float
        After the first linear map and everywhere in the layers.
    n_filters, kernel_size, pool_size, pool_stride, dropout
        As in `TSConv`.
    as_released : bool
        Whether the subject's token takes the place of the last channel, as in the released code.

    Raises
    ------
    InputError
        If a size is below 1, a dropout is outside [0, 1), ``width`` is smaller than ``n_heads`` or than
        ``kernel_size + pool_size - 1``; in `forward`, if the subjects are not whole numbers from -1 to
        ``n_subjects - 1``.

    Examples
    --------
    >>> import torch
    >>> encoder = ATM(n_chans=17, n_times=250, dim=32, n_subjects=9)
    >>> encoder(torch.zeros(3, 17, 250), subjects=torch.tensor([0, 8, -1])).shape
    torch.Size([3, 32])
    """

    knows_subjects = True

    def __init__(
        self,
        *,
        n_chans: int,
        n_times: int,
        dim: int,
        n_subjects: int = 0,
        subject_dropout: float = 0.0,
        width: int = 250,
        depth: int = 1,
        n_heads: int = 4,
        hidden: int = 256,
        attention_dropout: float = 0.25,
        n_filters: int = 40,
        kernel_size: int = 25,
        pool_size: int = 51,
        pool_stride: int = 5,
        dropout: float = 0.5,
        as_released: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("atm", n_chans, n_times, dim)
        check_subjects("atm", n_subjects)
        check_at_least_one("atm", width=width, depth=depth, n_heads=n_heads, hidden=hidden)
        check_dropout("atm", subject_dropout, name="subject_dropout")
        check_dropout("atm", attention_dropout, name="attention_dropout")
        check_options("atm", width, n_filters, kernel_size, pool_size, pool_stride, dropout, name="width")
        if width < n_heads:
            raise InputError(
                f"encoder 'atm' got width {width}, expected n_heads {n_heads} or more", where="encoder.options"
            )
        self.as_released = as_released
        self.channel_tokens = nn.Linear(n_times, width)
        self.subject_token = SubjectToken(n_subjects, width, subject_dropout)
        self.token_dropout = nn.Dropout(attention_dropout)
        self.layers = nn.Sequential(
            *(_Layer(width, n_heads, hidden, attention_dropout) for _ in range(depth)), nn.LayerNorm(width)
        )
        self.tsconv = TSConv(
            n_chans=n_chans,
            n_times=width,
            dim=dim,
            n_filters=n_filters,
            kernel_size=kernel_size,
            pool_size=pool_size,
            pool_stride=pool_stride,
            dropout=dropout,
        )

    def forward(self, signals: Tensor, *, prepared: bool = False, subjects: Tensor | None = None) -> Tensor:
        """Embed signals (n, n_chans, n_times) of `subjects` (n,) as (n, dim); see `BrainEncoder.forward`."""
        return self.embed(signals if prepared else self.prepare(signals), subjects)

    def embed(self, prepared: Tensor, subjects: Tensor | None = None) -> Tensor:
        """Signals (n, n_chans, n_times) of `subjects` (n,) to (n, dim)."""
        return self.tsconv.embed(smooth(self.attend(prepared, subjects), self.tsconv.pool_size))

    def attend(self, signals: Tensor, subjects: Tensor | None = None) -> Tensor:
        """The transformer's output for the channels, (n, n_chans, n_times) to (n, n_chans, width)."""
        token = self.subject_token(len(signals), subjects)[:, None]
        tokens = self.layers(self.token_dropout(torch.cat((token, self.channel_tokens(signals)), dim=1)))
        kept: Tensor = tokens[:, :-1] if self.as_released else tokens[:, 1:]
        return kept


class _Layer(nn.Module):
    """Attention and a hidden layer, each added to what came in and followed by a LayerNorm (iTransformer's layer)."""

    def __init__(self, width: int, n_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        scale = (width // n_heads) ** -0.5
        self.attend = nn.Sequential(SelfAttention(width, n_heads, scale, dropout), nn.Dropout(dropout))
        self.attend_norm = nn.LayerNorm(width)
        self.transform = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.transform_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, n_tokens, width) to the same."""
        tokens = self.attend_norm(tokens + self.attend(tokens))
        out: Tensor = self.transform_norm(tokens + self.transform(tokens))
        return out
