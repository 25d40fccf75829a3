r"""The mean and the deviations of latents given an observation, told by a network.

What a line leaves of latents (:mod:`pyro_gan.auto.regression`), r, is seen as

.. math:: r' = \frac{r - m(u)}{s(u)},

with m and s outputs of a network of the observation's numbers u, fitted to draws of the model by the likelihood of a
normal distribution (:mod:`pyro_gan.auto.normals`). For given u, r and r' are one to one. So whatever the posterior's
shape, a guide starts where it lies and as wide as it is, each latent by its own measure, and the discriminator sees
that shape in size 1. Beyond the observations of the fit, m and s stay as they are at its ends, and the line alone goes
on.

A network that is wrong costs: its errors are waves in what a line has left straight. So a tenth of the draws is kept
apart to choose the best network, and to see which latents are much more likely by it; of others m is 0 and s is 1. So
they are of latents that may lie in two heaps, each of which is narrower than both.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from pyro_gan.auto.normals import fitted, kept, outputs, shapes, told
from pyro_gan.players.player import fill_in

FEWEST_ROWS = 2000
"""The draws from which on a network is fitted: of fewer it learns by heart."""

LEAST, DOUBT = 0.25, 2.0
"""How much more likely draws kept apart must be than without a network: nats, and standard errors of their mean."""

MOST_IN_HEAPS = 0.05
"""The part of draws that may lie in one of two heaps."""

SEED = 0
"""Of the first weights and of minibatches, which are drawn from a generator of their own."""


class Moments(nn.Module):
    """Standardizes what is left of latents given an observation; the identity at first.

    Args:
        num_latents: The numbers of a row's latents.
        num_observed: The numbers of its observation.
        like: A tensor whose type and device the map has.
    """

    ends: Tensor

    later_format: ClassVar[int] = 5
    turns_by_buffers: ClassVar[bool] = True

    def __init__(self, num_latents: int, num_observed: int, like: Tensor) -> None:
        super().__init__()
        for number, shape in enumerate(shapes(num_latents, num_observed, num_outputs=2)):
            kind = "bias" if number % 2 else "weight"
            self.register_buffer(f"{kind}_{number // 2}", like.new_zeros(shape))
        self.register_buffer("ends", like.new_zeros(2, num_observed))

    @property
    def later_buffers(self) -> dict[str, float]:
        """What states have not that were saved before there were such networks, and the values that change nothing."""
        return dict.fromkeys(self._buffers, 0.0)

    def standardized(self, residuals: Tensor, given: Tensor) -> Tensor:
        """What is left of latents beside their means, in their deviations, with shape `(*, num_rows, num_latents)`.

        Args:
            residuals: What a line leaves of them, likewise.
            given: The numbers of the observations, with shape `(num_rows, num_observed)`.
        """
        if not self.may_act():
            return residuals
        mean, logs = self._told(given)
        return (residuals - mean) * (-logs).exp()

    def forward(self, standardized: Tensor, given: Tensor) -> Tensor:
        """What a line leaves of latents, with shape `(*, num_rows, num_latents)`.

        Args:
            standardized: What :meth:`standardized` returns of them, likewise.
            given: The numbers of the observations, with shape `(num_rows, num_observed)`.
        """
        if not self.may_act():
            return standardized
        mean, logs = self._told(given)
        return mean + standardized * logs.exp()

    def may_act(self) -> bool:
        """Whether a network has been fitted, as far as a look at its values waits for no device; else it may have been.

        Compiled steps hold what it was when they were traced, and are compiled anew where it changes.
        """
        last = self._weights()[-2]
        if torch.compiler.is_compiling() or last.device.type != "cpu":
            return True
        with disable_proxy_modes_tracing():
            return bool(last.any())

    @torch.no_grad()
    def learn(self, residuals: Tensor, given: Tensor) -> None:
        """Fit the network to draws of the model; too few leave it as it is, as do latents that it tells no better.

        Args:
            residuals: What a line leaves of latents, with shape `(num_rows, num_latents)`.
            given: The numbers of the observations, with shape `(num_rows, num_observed)`.
        """
        is_finite = torch.cat([residuals, given], 1).isfinite().all(1)
        precise = torch.promote_types(residuals.dtype, torch.float32)
        residuals, given = residuals[is_finite].to(precise), given[is_finite].to(precise)
        if len(residuals) < FEWEST_ROWS:
            return
        generator = torch.Generator("cpu").manual_seed(SEED)
        order = torch.randperm(len(residuals), generator=generator, device="cpu").to(residuals.device)
        residuals, given = residuals[order], given[order]
        num_apart = len(residuals) // 10
        found = fitted(residuals, given, num_apart, generator)
        is_told = _are_told(found, residuals[:num_apart], given[:num_apart]).repeat(2)
        if not is_told.any():
            return
        self.ends.copy_(torch.stack([given.amin(0), given.amax(0)]))
        last, last_bias = (each[: len(is_told)] for each in found[-2:])
        found[-2:] = torch.where(is_told[:, None], last, 0.0), torch.where(is_told, last_bias, 0.0)
        for into, values in zip(self._weights(), found, strict=True):
            into.copy_(values)

    def _told(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """The means of latents and the logarithms of their deviations, with shape `(num_rows, num_latents)` each."""
        mean, logs = outputs(self._weights(), given.clamp(*self.ends)).chunk(2, 1)
        return mean, kept(logs)

    def _weights(self) -> list[Tensor]:
        """The weights and biases of the layers, in order."""
        return [buffer for name, buffer in self._buffers.items() if name != "ends" and buffer is not None]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fill_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _are_told(weights: list[Tensor], residuals: Tensor, given: Tensor) -> Tensor:
    """Which latents are much more likely by a network, and lie in one heap, with shape `(num_latents,)`.

    Args:
        weights: The network's.
        residuals: What a line leaves of latents that were kept apart, with shape `(num_rows, num_latents)`.
        given: The numbers of their observations, with shape `(num_rows, num_observed)`.
    """
    normals = told(weights, given)
    better = residuals.square() / 2 - normals.losses(residuals)
    is_much = better.mean(0) > LEAST + DOUBT * better.std(0) / math.sqrt(len(better))
    return is_much & (normals.have_two_heaps().to(better.dtype).mean(0) <= MOST_IN_HEAPS)
