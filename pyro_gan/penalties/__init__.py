r"""What is added to the discriminator's loss so that it stays smooth, or is done to its weights after an update.

Where two samples hardly overlap, the discriminator's loss falls as long as its slope grows, and the other player
circles around the data or stands still. Penalties of the squared gradient of the logit :math:`D`,

.. math:: R_1 = \frac{\gamma}{2} \mathbb{E}_{x \sim \text{real}} \|\nabla D(x)\|^2, \qquad
    R_2 = \frac{\gamma}{2} \mathbb{E}_{x \sim \text{fake}} \|\nabla D(x)\|^2,

make the game converge from near its solution. The Wasserstein distance needs a critic whose slope is at most 1: the
gradient penalty pulls the norm :math:`\|\nabla D\|` towards 1 between real and fake rows, weight clipping bounds the
weights.

A penalty is any callable from a :class:`Judgement` to a tensor; its mean is added to the discriminator's loss. Rows are
joint samples: the norm at a row runs over all event dimensions of all sites together, and a row has one norm.

Gradients of gradients are taken, which networks compiled by `torch.compile` and cuDNN's recurrent networks do not
offer; ``run(..., compile=True)`` does.
The gradient at a row is that of the sum of all logits. With batch normalization a row changes all logits, and what is
penalized is no longer the slope at single rows; layer, group and spectral normalization do not have this fault.

What a penalty can not tell: that it is small says that the discriminator is flat, not that the samples are alike.

References:
    Mescheder, Geiger and Nowozin (2018), "Which Training Methods for GANs do actually Converge?", section 4.
    Gulrajani et al. (2017), "Improved Training of Wasserstein GANs", section 4.
    Arjovsky, Chintala and Bottou (2017), "Wasserstein GAN", section 3.
"""

from pyro_gan.penalties.base import Judgement, Penalty, PenaltyFunction, as_penalties
from pyro_gan.penalties.clipping import WeightClipping
from pyro_gan.penalties.gradients import (
    R1,
    R2,
    GradientPenalty,
    SitePenalty,
    SquaredGradient,
    ZeroCentredGradientPenalty,
)

__all__ = [
    "R1",
    "R2",
    "GradientPenalty",
    "Judgement",
    "Penalty",
    "PenaltyFunction",
    "SitePenalty",
    "SquaredGradient",
    "WeightClipping",
    "ZeroCentredGradientPenalty",
    "as_penalties",
]
