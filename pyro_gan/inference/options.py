"""What the inference classes take, and what can be refused before a model is seen."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from pyro_gan.losses import Loss, LossFunction, Wasserstein
from pyro_gan.penalties import PenaltyFunction
from pyro_gan.training.divergence import OnDivergence

LossChoice = Loss | tuple[LossFunction, LossFunction] | None
"""What a user may pass as `loss`: one of :mod:`pyro_gan.losses`, or a pair of callables."""

PenaltyChoice = PenaltyFunction | Sequence[PenaltyFunction] | None
"""What a user may pass as `penalty`: one of :mod:`pyro_gan.penalties`, any callable on a judgement, or several."""


class StepLosses(NamedTuple):
    """The losses of a step, detached 0-dimensional tensors in nats; `None` for a player that was not updated."""

    generator: Tensor | None
    discriminator: Tensor | None


class SharedOptions(TypedDict, total=False):
    """What every inference class takes beside its own arguments; :class:`~pyro_gan.GANInference` describes them."""

    site: str | Sequence[str] | None
    generator_steps: int
    only: str | Sequence[str] | None
    exclude: str | Sequence[str]
    share_draws: bool
    ema_decay: float | None
    clip_norm: float | None
    clip_norm_d: float | None
    on_divergence: OnDivergence
    device: str | torch.device | None


class Options(SharedOptions, total=False):
    """What those take beside that have no loss, penalty and number of steps of their own."""

    loss: LossChoice
    penalty: PenaltyChoice
    discriminator_steps: int


def check_bounded(loss: Loss, penalty: object) -> None:
    """Refuse a critic that nothing keeps from growing without bound.

    Raises:
        ValueError: It is one.
    """
    if isinstance(loss, Wasserstein) and penalty is None:
        raise ValueError(
            "the Wasserstein loss needs a critic of bounded slope, but penalty is None. Pass "
            "penalty=GradientPenalty() or WeightClipping(), as WGANInference does; for a critic with spectral "
            "normalization pass penalty=()."
        )


def check_shareable(share_draws: bool, generator_steps: int, own_draws: bool, name: str) -> bool:
    """Refuse to share draws where the generator's side needs others.

    Args:
        share_draws: What the user asked for.
        generator_steps: The updates of the generator in a step.
        own_draws: Whether the algorithm draws something else for the generator.
        name: The algorithm's name.

    Raises:
        ValueError: Draws are to be shared, and can not be.
    """
    if share_draws and own_draws:
        raise ValueError(
            f"share_draws=True has both players see one draw, but {name} draws other rows for the generator's side. "
            "Leave it out."
        )
    if share_draws and generator_steps > 1:
        raise ValueError(
            f"share_draws=True has both players see one draw, but generator_steps={generator_steps} updates the "
            "generator on a fresh one each time. Leave one of them out."
        )
    return bool(share_draws)
