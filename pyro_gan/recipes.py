r"""What an inference does when nothing else is said, and the classic recipe to compare with.

The default compares real and fake rows in pairs (Huang et al. 2024) and keeps the discriminator's slope small on the
way from one to the other (Thanh-Tung et al. 2019). With both the game settles instead of circling. The penalty's weight
is relative to the variance of each feature, since it has the unit of a squared length; so one number serves data of any
scale. It falls along a run, as the learning rates do: at first the discriminator should be smooth, so that modes
far from all samples are felt, and at last sharp.

References:
    Huang et al. (2024), "The GAN is dead; long live the GAN! A Modern GAN Baseline".
    Thanh-Tung, Tran and Venkatesh (2019), "Improving Generalization and Stability of Generative Adversarial Networks".
"""

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyro_gan.losses import Loss, NonSaturating, Relativistic
from pyro_gan.penalties import Penalty, ZeroCentredGradientPenalty

PACE = 10.0
"""How many times the rate of networks plain numbers have under :func:`default_optimizer`."""

DECAY = 0.3
"""The weight decay of :func:`default_optimizer`, by which the rate is multiplied."""

SATURATING_DECAY = 0.03
"""The same for networks that end in a sigmoid or the like."""


def default_loss() -> Loss:
    """The loss where none is given: :class:`~pyro_gan.losses.Relativistic`."""
    return Relativistic()


def default_penalties() -> tuple[Penalty, ...]:
    """The penalties where neither a loss nor a penalty is given.

    They are :class:`~pyro_gan.penalties.ZeroCentredGradientPenalty` alone, its weight relative to the rows' variances:
    0.2, falling to 0.001 along a run.
    """
    return (ZeroCentredGradientPenalty(0.2, final_weight=0.001, relative=True),)


def posterior_penalties() -> tuple[Penalty, ...]:
    """The same where a guide learns the posterior of a simulator, of which the energy score tells the coarse shape.

    The weight is a tenth of that: 0.02, falling to 0.0002.
    """
    return (ZeroCentredGradientPenalty(0.02, final_weight=0.0002, relative=True),)


def default_rate(progress: float) -> float:
    """The learning rate of :func:`default_optimizer` at a part of a run, from 0 to 1: half a run, then a fall to 0."""
    return 2e-3 * max(0.0, min(1.0, 2 * (1 - progress)))


def default_optimizer(
    parameters: Iterable[Tensor],
    decaying: Collection[Tensor] = (),
    numbers: Collection[Tensor] = (),
    saturating: Collection[Tensor] = (),
) -> Optimizer:
    r"""Adam with :math:`\beta = (0, 0.99)`, in its fused form.

    Its rate is 0.002; in the second half of a run it falls to 0 along a line, so that the players settle. A player's
    gradient turns with its opponent, so a memory of it misleads.

    Adam moves a weight as far by noise as by a signal. Weights that decay also lose a part of their value at each step,
    0.3 times the rate: so those of which the opponent sees nothing vanish, where they would walk at random.

    Behind a sigmoid such a walk has a direction: numbers that have gone far feel no gradient that would call them back,
    and pixels end as black or white, with no grey between. So weights of generators that end in one decay as well, by a
    tenth of that.

    A network's output moves by many weights at once, a plain number by itself alone: so these have ten times the rate.

    Args:
        parameters: The parameters.
        decaying: Those among them that decay. Inferences give the parameters of modules with an attribute
            `decays = True`, which :class:`~pyro_gan.AutoImplicitGuide` has.
        numbers: Those among them that are plain numbers. Inferences give what the model, and a guide, registers by
            `pyro.param` with at most one dimension, and is no part of a module.
        saturating: Those among them that lie behind a sigmoid or the like, and decay. Inferences give the weights, of
            at least two dimensions, of the modules of a model whose draws all come out of one.

    References:
        Loshchilov and Hutter (2019), "Decoupled Weight Decay Regularization", algorithm 2.
    """
    sets = set(decaying), set(numbers), set(saturating)
    parts: dict[tuple[bool, ...], list[Tensor]] = {}
    for parameter in parameters:
        parts.setdefault(tuple(parameter in each for each in sets), []).append(parameter)
    groups = [
        {
            "params": members,
            "weight_decay": DECAY if decays else SATURATING_DECAY if saturates else 0.0,
            "pace": PACE if are_numbers else 1.0,
            "lr": default_rate(0.0) * (PACE if are_numbers else 1.0),
        }
        for (decays, are_numbers, saturates), members in parts.items()
    ]
    return torch.optim.AdamW(groups, lr=default_rate(0.0), betas=(0.0, 0.99), weight_decay=0.0, fused=True)


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
