r"""What each player of the adversarial game minimizes.

A discriminator is trained to tell real rows from fake ones. Written with its logit :math:`\ell`, so that
:math:`D = \mathrm{sigmoid}(\ell)` is its probability that a row is real, the 2014 game is

.. math:: \min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_\text{data}} \log D(x) + \mathbb{E}_{x \sim p_G} \log(1 - D(x)).

At the best discriminator :math:`\ell = \log p_\text{data} - \log p_G`, and :math:`V = 2\,\mathrm{JS} - \log 4`.

A loss is one short class: two functions of the logits, and the log density ratio that the logits imply. Each function
returns per-row losses, as a tuple of tensors whose means the caller adds (real and fake rows may differ in number).

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets", equation 1, section 3 and theorem 1.
"""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import softplus


class Loss(ABC):
    """The losses of both players as functions of the discriminator's logits; subclass it to add one."""

    generator_reads_real = False
    """Whether :meth:`generator` needs the logits of real rows. Where it does not, they are never computed for it."""

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        """The discriminator's losses.

        Args:
            real_logits: The logits of real rows, with shape :math:`(N,)`.
            fake_logits: The logits of fake rows, with shape :math:`(M,)`.

        Returns:
            Per-row losses, each with shape :math:`(N,)` or :math:`(M,)`; the discriminator minimizes the sum of their
            means.
        """

    @abstractmethod
    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        """The generator's losses.

        Args:
            real_logits: The logits of real rows, with shape :math:`(N,)`, or `None` unless
                :attr:`generator_reads_real`.
            fake_logits: The logits of fake rows, with shape :math:`(M,)`.

        Returns:
            Per-row losses; the generator minimizes the sum of their means.
        """

    @abstractmethod
    def log_ratio(self, logits: Tensor) -> Tensor:
        r"""The estimate of :math:`\log p_\text{data}(x) - \log p_G(x)`, in nats, that the logits of rows x imply.

        Args:
            logits: The logits, with shape :math:`(N,)`.

        Returns:
            The log density ratio of each row, with shape :math:`(N,)`.
        """


class Minimax(Loss):
    r"""The value function of the 2014 paper, minimized by the generator as it stands: :math:`\log(1 - D(x))`.

    Its gradient vanishes where the discriminator is sure that a row is fake; :class:`NonSaturating` has the same fixed
    point without that.

    Example:
        >>> import torch
        >>> undecided = torch.zeros(4)                       # D = 1/2 everywhere
        >>> real, fake = Minimax().discriminator(undecided, undecided)
        >>> -(real.mean() + fake.mean())                     # the value function there: -log 4
        tensor(-1.3863)

    References:
        Goodfellow et al. (2014), equation 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return softplus(-real_logits), softplus(fake_logits)

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (-softplus(fake_logits),)

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits


class NonSaturating(Minimax):
    r"""The 2014 paper's recommended game: the generator minimizes :math:`-\log D(x)`, the discriminator as before.

    Example:
        >>> import torch
        >>> NonSaturating().generator(None, torch.tensor([0.0, 30.0]))
        (tensor([6.9315e-01, 9.3576e-14]),)

    References:
        Goodfellow et al. (2014), section 3, last paragraph.
    """

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (softplus(-fake_logits),)
