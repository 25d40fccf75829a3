"""Wasserstein adversarial inference (Arjovsky et al. 2017)."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from pyro_gan.inference.gan import GANInference
from pyro_gan.inference.options import DiscriminatorChoice, SharedOptions
from pyro_gan.losses import Wasserstein
from pyro_gan.penalties import GradientPenalty, PenaltyFunction, WeightClipping
from pyro_gan.training.optimizers import OptimizerChoice


class WGANInference(GANInference):
    r"""Fits an implicit model by descending the Wasserstein distance that a critic of bounded slope estimates.

    Args:
        model: As of :class:`GANInference`.
        critic: As its discriminator. A critic's values are no logits, and imply no density ratio.
        optim: As of :class:`GANInference`.
        optim_d: As of :class:`GANInference`.
        penalty: What bounds the critic's slope: the weight of a two-sided gradient penalty, or penalties from
            :mod:`pyro_gan.penalties`; by default the weight 10, and with `clip` none. The slope is one for each unit of
            the rows, so that the critic estimates the distance in that unit; where features have different units, pass
            `GradientPenalty(relative=True)`. A one-dimensional critic needs
            `GradientPenalty(0.1, one_sided=True)`: to turn its slope round it must pass slope 0, which the two-sided
            penalty of weight 10 forbids.
        clip: Bounds the critic's slope by keeping its parameters in [-clip, clip] instead.
        discriminator_steps: The updates of the critic for each of the generator.
        options: As of :class:`GANInference`.

    Raises:
        TypeError: An argument is of the wrong kind, or `loss` is given.
        ValueError: An argument's value does not fit, or both `penalty` and `clip` are given.

    Example:
        >>> inference = WGANInference(lambda: None, lambda x: x, clip=0.01)
        >>> inference.penalties[0].clip
        0.01

    References:
        Arjovsky et al. (2017), "Wasserstein GAN", algorithm 1 (`clip`).
        Gulrajani et al. (2017), "Improved Training of Wasserstein GANs", equation 3 (`penalty`).
    """

    def __init__(
        self,
        model: Callable[..., Any],
        critic: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        penalty: float | PenaltyFunction | Sequence[PenaltyFunction] | None = None,
        clip: float | None = None,
        discriminator_steps: int = 5,
        **options: Unpack[SharedOptions],
    ) -> None:
        if "loss" in options:
            raise TypeError("WGANInference has the Wasserstein loss. For another use GANInference(..., loss=...).")
        if clip is not None and penalty is not None:
            raise ValueError("penalty and clip both bound the critic's slope. Give one of them.")
        if clip is not None:
            penalty = WeightClipping(clip)
        elif penalty is None:
            penalty = GradientPenalty()
        elif isinstance(penalty, int | float):
            penalty = GradientPenalty(penalty)
        super().__init__(
            model,
            critic,
            optim,
            optim_d,
            loss=Wasserstein(),
            penalty=penalty,
            discriminator_steps=discriminator_steps,
            **options,
        )
