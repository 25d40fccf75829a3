"""What the discriminator minimizes: a loss of logits, summed over stages, with mismatched rows where they count."""

from collections.abc import Sequence
from functools import reduce
from operator import add

from torch import Tensor

from pyro_gan.losses import Loss
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.training.samples import Samples


def discriminator_loss(
    loss: Loss,
    discriminator: Discriminator,
    samples: Samples,
    logits: Sequence[tuple[Tensor, Tensor]],
    matching_aware: bool = False,
) -> Tensor:
    """The discriminator's loss, the sum of all stages'.

    Args:
        loss: The loss.
        discriminator: The discriminator.
        samples: The two samples.
        logits: Of each stage the logits of real and of fake rows, with shapes `(N,)` and `(M,)`.
        matching_aware: Whether real rows with another row's condition count as fake.
    """
    if not matching_aware:
        return reduce(add, [total(loss.discriminator(*pair)) for pair in logits])
    mismatched = samples.mismatched()
    others = [part(select(mismatched)) for part, select in discriminator.parts()]
    return reduce(add, [matching_loss(loss, *pair, other) for pair, other in zip(logits, others, strict=True)])


def matching_loss(loss: Loss, real_logits: Tensor, fake_logits: Tensor, mismatched_logits: Tensor) -> Tensor:
    """The discriminator's loss where real rows with another row's condition count as one half of what is fake.

    Args:
        loss: The loss.
        real_logits: The logits of real rows, with shape `(N,)`.
        fake_logits: The logits of fake rows, with shape `(M,)`.
        mismatched_logits: The logits of real rows with another row's condition, with shape `(N,)`.

    References:
        Reed et al. (2016), "Generative Adversarial Text to Image Synthesis", algorithm 1, line 10.
    """
    pairs = (real_logits, fake_logits), (real_logits, mismatched_logits)
    return reduce(add, [total(loss.discriminator(*pair)) for pair in pairs]) / 2


def total(losses: Sequence[Tensor]) -> Tensor:
    """The sum of the means of per-row losses."""
    return reduce(add, (rows.mean() for rows in losses))
