r"""What an inference does when nothing else is said, and the classic recipe to compare with.

The default compares real and fake rows in pairs (Huang et al. 2024) and keeps the discriminator's slope small on the
way from one to the other (Thanh-Tung et al. 2019). With both the game settles instead of circling. The penalty's weight
is relative to the total variance of the rows, since it has the unit of a squared length; so one number serves data of
any scale. It falls along a run, as the learning rates do: at first the discriminator should be smooth, so that modes
far from all samples are felt, and at last sharp.

References:
    Huang et al. (2024), "The GAN is dead; long live the GAN! A Modern GAN Baseline".
    Thanh-Tung, Tran and Venkatesh (2019), "Improving Generalization and Stability of Generative Adversarial Networks".
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pyro_gan.losses import Loss, NonSaturating, Relativistic
from pyro_gan.penalties import Penalty, ZeroCentredGradientPenalty


def default_loss() -> Loss:
    """The loss where none is given."""
    return Relativistic()


def default_penalties() -> tuple[Penalty, ...]:
    """The penalties where neither a loss nor a penalty is given."""
    return (ZeroCentredGradientPenalty(0.2, final_weight=0.001, relative=True),)


def edward() -> dict[str, Any]:
    r"""The recipe of Edward's tutorial: the 2014 game, and Adam with rate 0.001 and :math:`\beta = (0.9, 0.999)`.

    Returns:
        Keyword arguments for an inference class.

    Example:
        >>> sorted(edward())
        ['loss', 'optim', 'optim_d', 'penalty']

        >>> GANInference(model, discriminator, **edward())                             # doctest: +SKIP

    References:
        Tran et al. (2016), "Edward: A library for probabilistic modeling, inference, and criticism".
    """
    return {"loss": NonSaturating(), "penalty": (), "optim": _adam, "optim_d": _adam}


def _adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)
