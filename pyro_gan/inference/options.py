"""What the inference classes take, and what can be refused before a model is seen."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from pyro_gan.checks import listed
from pyro_gan.losses import Loss, LossFunction, Wasserstein
from pyro_gan.penalties import PenaltyFunction
from pyro_gan.training.divergence import OnDivergence

DiscriminatorChoice = Callable[..., Tensor] | Mapping[str, Callable[..., Tensor]] | None
"""What a user may pass as `discriminator`: a callable, or where a model has stages one by the name of each site."""

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
    matching_aware: bool
    interpolate_conditions: bool
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


def check_interpolation(interpolate_conditions: bool, share_draws: bool) -> bool:
    """Refuse to interpolate conditions where the generator is to draw nothing of its own.

    Raises:
        ValueError: Both are asked for.
    """
    if interpolate_conditions and share_draws:
        raise ValueError(
            "share_draws=True has both players see one draw, but interpolate_conditions=True draws other rows for the "
            "generator. Leave one of them out."
        )
    return bool(interpolate_conditions)


def check_told(seen: Collection[str], taken: Collection[str]) -> None:
    """Refuse to judge whether rows match their conditions where the discriminator sees none.

    Args:
        seen: The conditions that it sees.
        taken: Those that the model takes.

    Raises:
        ValueError: It sees none.
    """
    if not seen and taken:
        raise ValueError(
            "matching_aware=True has the discriminator judge whether rows match their condition, but it is not told "
            f"the model's condition {listed(taken)}. Give it an argument of that name, or let it build itself."
        )
    if not seen:
        raise ValueError(
            "matching_aware=True has the discriminator judge whether rows match their condition, but the model takes "
            "none from the data. Give it an argument, such as model(labels), and pass the data as run((x, labels))."
        )


def check_between(conditions: Mapping[str, Tensor]) -> None:
    """Refuse to interpolate conditions that have nothing in between.

    Args:
        conditions: The conditions by name.

    Raises:
        ValueError: There are none, or one is of integers.
    """
    if not conditions:
        raise ValueError(
            "interpolate_conditions=True draws given the middle between two conditions, but the model takes none from "
            "the data. Give it an argument, such as model(c), and pass the data as run((x, c))."
        )
    for name, rows in conditions.items():
        if not rows.is_floating_point():
            raise ValueError(
                f"interpolate_conditions=True draws given the middle between two conditions, but {name!r} is of type "
                f"{rows.dtype} and has nothing in between. Pass floating-point numbers, such as one-hot rows or "
                "a fixed embedding's."
            )
