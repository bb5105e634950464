"""Weights of several losses: fixed, or from the gradients of each (dynamic loss adjustment)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from brainalign.errors import InputError

LARGEST = 1e300  # scores stop here: a gradient that was 0 before has a velocity near 1 / eps


class Logged(TypedDict):
    """How the latest weights came about, one number a loss; `velocities` and `norms` are empty for fixed weights."""

    norms: list[float]
    velocities: list[float]
    weights: list[float]


@dataclass(frozen=True)
class FixedWeights:
    """The same weights throughout, with the interface of `DynamicLossAdjustment`.

    Parameters
    ----------
    given : sequence of float
        One a loss, at least 0 and not all 0. They are used as they are, not scaled to sum 1.

    Raises
    ------
    InputError
        If a weight is negative or not finite, or none is above 0.

    Examples
    --------
    >>> FixedWeights([1.0, 0.5]).weights()
    tensor([1.0000, 0.5000])
    """

    given: Sequence[float]
    needs_norms = False

    def __post_init__(self) -> None:
        values = [float(value) for value in self.given]
        if not all(math.isfinite(v) and v >= 0 for v in values) or not any(values):
            raise InputError(f"loss weights {values} must be finite numbers of at least 0, not all 0")

    def weights(self, norms: Tensor | None = None) -> Tensor:
        """The weights, shape (k,); `norms` gives the device and type, where it is there.

        Raises
        ------
        InputError
            If there are norms of another number of losses.
        """
        if norms is None:
            return torch.tensor(list(self.given), dtype=torch.float32)
        if tuple(norms.shape) != (len(self.given),):
            raise InputError(f"norms of shape {tuple(norms.shape)} for {len(self.given)} weights")
        return norms.new_tensor(list(self.given))

    @property
    def last(self) -> Logged:
        """The weights, for logging."""
        return {"norms": [], "velocities": [], "weights": [float(value) for value in self.given]}

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: fixed weights have no memory."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load.

        Raises
        ------
        InputError
            If `state` holds something: it comes from another kind of balancing.
        """
        if state:
            raise InputError(f"fixed loss weights have no state, got {', '.join(sorted(state))}")


class DynamicLossAdjustment:
    r"""Weights that follow the size and the change of each loss's gradient (DLA).

    Loss k has at step t the gradient norm :math:`g_t^k`, measured with `gradient_norms` on parameters of its own, and

    .. math:: w_t = \mathrm{softmax}_k \big(g_t^k (1 + r_t^k) / T\big), \qquad
              r_t^k = \frac{|g_t^k - g_{t-1}^k|}{g_{t-1}^k + \epsilon}

    with velocity r = 0 at the first step. Weights sum to 1 and carry no gradient.

    Parameters
    ----------
    temperature : float
        T, above 0: the larger, the nearer the weights are to each other.
    eps : float
        Above 0.
    normalize : bool
        Whether g is divided by its sum over losses before the softmax (velocities are of the norms themselves). Read
        literally (False), the softmax sees the norms in whatever unit the losses and the network give them: at T = 0.07
        two norms 0.5 apart differ by a factor exp(7) = 1,300 in weight, so with norms around 1 all weight goes to the
        largest, whereas with norms around 0.001 all weights are equal; and it moves from one to the other as gradients
        shrink in training. Divided by their sum, g T^-1 stays within 1 / T = 14.3, and only the shares matter: at rest
        shares of .40, .35 and .25 give weights .62, .30 and .07. The published weights change smoothly, which
        the literal reading does not give.
    smoothing : float
        Share of the past in a moving average of the norms, in [0, 1), from which both g and r are then taken. 0: none,
        as published.

    Attributes
    ----------
    needs_norms : bool
        Whether `weights` has to be given norms.
    last : dict
        `norms` as measured, and `velocities` and `weights` of the latest step, lists of float.

    Raises
    ------
    InputError
        If an option is out of range.

    Notes
    -----
    Gradients that are all 0 give equal weights. A loss whose gradient was 0 and is so no longer has a velocity near
    g / eps and takes all weight for one step, as eq. 9 says.

    References
    ----------
    NeuroAlign, section 3.4, eq. 7 to 9; Algorithm 1, lines 19 to 21.

    Examples
    --------
    >>> dla = DynamicLossAdjustment(temperature=0.5)
    >>> dla.weights(torch.tensor([3.0, 1.0]))  # first step: softmax of (1.5, 0.5)
    tensor([0.7311, 0.2689])
    >>> dla.weights(torch.tensor([3.0, 2.0]))  # r = (0, 1): softmax of (0.6, 0.8) / 0.5
    tensor([0.4013, 0.5987])
    >>> [round(r, 6) for r in dla.last["velocities"]]
    [0.0, 1.0]
    """

    needs_norms = True

    def __init__(
        self, temperature: float = 0.07, eps: float = 1e-8, normalize: bool = True, smoothing: float = 0.0
    ) -> None:
        for name, value in (("temperature", temperature), ("eps", eps)):
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} {value} is not a finite number above 0")
        if not 0 <= smoothing < 1:
            raise InputError(f"smoothing {smoothing} is not in [0, 1)")
        self.temperature, self.eps, self.normalize, self.smoothing = temperature, eps, normalize, smoothing
        self.step = 0
        self._previous: list[float] = []
        self._last: Logged = {"norms": [], "velocities": [], "weights": []}

    def weights(self, norms: Tensor) -> Tensor:
        """Take the gradient norms of a step and give its weights.

        Parameters
        ----------
        norms : Tensor of shape (k,)

        Returns
        -------
        Tensor of shape (k,)
            Of the type and on the device of `norms`.

        Raises
        ------
        InputError
            If a norm is negative or not finite, or the number of losses has changed.
        """
        measured = self._checked(norms)
        g = measured
        if self._previous and self.smoothing:
            g = [self.smoothing * a + (1 - self.smoothing) * b for a, b in zip(self._previous, measured, strict=True)]
        velocities = [abs(b - a) / (a + self.eps) for a, b in zip(self._previous or g, g, strict=True)]
        weights = self._softmax(g, velocities)
        self.step += 1
        self._previous = g
        self._last = {"norms": measured, "velocities": velocities, "weights": weights}
        return norms.new_tensor(weights)

    def _checked(self, norms: Tensor) -> list[float]:
        if norms.ndim != 1 or not len(norms):
            raise InputError(f"gradient norms of shape {tuple(norms.shape)}; give one a loss, shape (k,)")
        # Plain numbers from here on: k is 2 or 3, and one copy from the device is all that waits for it.
        values = [float(value) for value in norms.detach().tolist()]
        for number, value in enumerate(values, start=1):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the gradient norm of loss {number} is {value}", hint="lower the learning rate")
        if self._previous and len(values) != len(self._previous):
            raise InputError(f"gradient norms of {len(values)} losses after those of {len(self._previous)}")
        return values

    def _softmax(self, g: list[float], velocities: list[float]) -> list[float]:
        total = sum(g) if self.normalize else 1.0
        shares = [value / total if total else 0.0 for value in g]
        scores = [min(s * (1 + r) / self.temperature, LARGEST) for s, r in zip(shares, velocities, strict=True)]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        return [power / sum(powers) for power in powers]

    @property
    def last(self) -> Logged:
        """The latest step, for logging; empty lists before the first."""
        return {
            "norms": list(self._last["norms"]),
            "velocities": list(self._last["velocities"]),
            "weights": list(self._last["weights"]),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on: `norms` of shape (k,), empty before the first step, float64, and `step`."""
        return {"norms": torch.tensor(self._previous, dtype=torch.float64), "step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state_dict`.

        Raises
        ------
        InputError
            If entries are missing, or hold what no `state_dict` gives.
        """
        if set(state) != {"norms", "step"}:
            held = ", ".join(sorted(state)) or "nothing"
            raise InputError(f"the state of dynamic loss adjustment holds norms and step, got {held}")
        norms, step = state["norms"], state["step"]
        fits = norms.ndim == 1 and step.ndim == 0 and not step.is_floating_point()
        if not (fits and step >= 0 and torch.isfinite(norms).all() and (norms >= 0).all()):
            raise InputError("the state of dynamic loss adjustment holds other than finite norms (k,) and a count")
        self.step = int(step)
        self._previous = [float(value) for value in norms.tolist()]
        self._last = {"norms": [], "velocities": [], "weights": []}
