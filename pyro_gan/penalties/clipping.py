"""A bound on the weights in place of a term of the loss (Arjovsky et al. 2017)."""

import torch
from torch import Tensor

from pyro_gan.checks import finite_number
from pyro_gan.penalties.base import Judgement, Penalty


class WeightClipping(Penalty):
    """Keeps every parameter of the discriminator in [-clip, clip], by clamping it after each update.

    This bounds the discriminator's slope, by a number that depends on its architecture. It adds nothing to the loss.
    All parameters are clamped, those of normalization layers too; freeze what should keep its value.

    Args:
        clip: The largest absolute value of a parameter, positive.

    Raises:
        ValueError: `clip` is not a positive finite number.

    References:
        Arjovsky et al. (2017), algorithm 1, line 7.
    """

    reads_gradients = False

    def __init__(self, clip: float = 0.01) -> None:
        self.clip = finite_number("clip", clip)

    def __call__(self, judgement: Judgement) -> Tensor:
        return judgement.real_logits.new_zeros(())

    def after_update(self, parameters: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter in parameters:
                parameter.clamp_(-self.clip, self.clip)
