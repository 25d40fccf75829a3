r"""The f-GAN family: a discriminator that estimates a divergence of the user's choice.

A convex f with :math:`f(1) = 0` has the divergence :math:`D_f(p \,\|\, q) = \int q\, f(p/q)`. With its conjugate
:math:`f^*(t) = \sup_u (t u - f(u))`, any function T bounds it from below,

.. math:: D_f(p \,\|\, q) \ge \mathbb{E}_{x \sim p}\, T(x) - \mathbb{E}_{x \sim q}\, f^*(T(x)),

with equality at :math:`T = f'(p/q)`. The discriminator raises the bound. Its logit v may be any number, while T must
stay where :math:`f^*` is finite, so an increasing activation leads from one to the other: :math:`T = g_f(v)`. Where the
bound is reached, :math:`g_f(v) = f'(p/q)`; solved for the ratio, that is the log density ratio that v implies.

What the number can not tell: f-divergences are exponential in the log ratio on one side or both. Where p and q hardly
overlap, their estimates rest on a few rows, and the logits of :class:`KL` (v = 89), :class:`ReverseKL` (-89) and
:class:`SquaredHellinger` (±89) overflow single precision.

References:
    Nowozin, Cseke and Tomioka (2016), "f-GAN: Training Generative Neural Samplers using Variational Divergence
    Minimization", equation 4, sections 2.2 to 3.2, tables 2 and 6.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gan.losses.base import Loss


class FDivergence(Loss):
    r"""The base of the family. One more divergence takes its activation and conjugate, and the log ratio where wanted.

    Args:
        saturating: What the generator minimizes. `True`: the bound itself, by its term :math:`-f^*(g_f(v))`, as in the
            paper's algorithm 1. `False`: :math:`-g_f(v)`, as in its section 3.2, with the same fixed point. The
            former's gradient vanishes on rows that are surely fake, as most are at the start, for every divergence here
            but :class:`ReverseKL`; so the default is `False`, and `True` for :class:`ReverseKL`.

    Example:
        >>> import torch
        >>> class TotalVariation(FDivergence):
        ...     '''Half the integral of |p - q|: f(u) = |u - 1| / 2, which implies no log ratio.'''
        ...     def activation(self, logits):
        ...         return logits.tanh() / 2
        ...     def conjugate(self, t):                              # for t from -1/2 to 1/2
        ...         return t
        >>> real, fake = TotalVariation().discriminator(torch.tensor([50.0]), torch.tensor([-50.0]))
        >>> -(real + fake)                                           # rows that are told apart for sure
        tensor([1.])
    """

    def __init__(self, *, saturating: bool = False) -> None:
        self.saturating = saturating

    @abstractmethod
    def activation(self, logits: Tensor) -> Tensor:
        r""":math:`T = g_f(v)`, which leads any logit into the conjugate's domain and rises with it.

        Args:
            logits: The logits v, of any shape.

        Returns:
            The values of T, of the same shape.
        """

    @abstractmethod
    def conjugate(self, t: Tensor) -> Tensor:
        r"""The conjugate :math:`f^*(t)`, as in textbooks; the class says for which t it is finite.

        Args:
            t: Values of T, of any shape.

        Returns:
            The values of the conjugate, of the same shape; beyond its domain they mean nothing.
        """

    def conjugate_of_activation(self, logits: Tensor) -> Tensor:
        r""":math:`f^*(g_f(v))`, what the losses use; the classes here have it in closed form, which rounds less.

        Args:
            logits: The logits v, of any shape.

        Returns:
            The values, of the same shape.
        """
        return self.conjugate(self.activation(logits))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return -self.activation(real_logits), self.conjugate_of_activation(fake_logits)

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (-(self.conjugate_of_activation if self.saturating else self.activation)(fake_logits),)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (self.activation(real_logits),)


class KL(FDivergence):
    r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(p \,\|\, q) = \int p \log(p/q)`, of the data from the model.

    :math:`f(u) = u \log u`, :math:`f'(u) = 1 + \log u`; :math:`g_f(v) = v`; :math:`f^*(t) = \exp(t - 1)` for any t. So
    :math:`\log p/q = v - 1`.

    Example:
        >>> import torch
        >>> KL().log_ratio(torch.tensor([1.0, 3.0]))
        tensor([0., 2.])
    """

    def activation(self, logits: Tensor) -> Tensor:
        return logits

    def conjugate(self, t: Tensor) -> Tensor:
        return (t - 1).exp()

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits - 1


class ReverseKL(FDivergence):
    r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(q \,\|\, p) = \int q \log(q/p)`, of the model from the data.

    :math:`f(u) = -\log u`, :math:`f'(u) = -1/u`; :math:`g_f(v) = -\exp(-v)`; :math:`f^*(t) = -1 - \log(-t)` for t < 0,
    and :math:`f^*(g_f(v)) = v - 1`. So :math:`\log p/q = v`.

    Args:
        saturating: As in :class:`FDivergence`, but `True` by default: the generator then minimizes :math:`1 - v`, whose
            gradient is the same for all rows and vanishes nowhere. That of :math:`-g_f(v) = \exp(-v)` explodes on rows
            that are surely fake.

    Example:
        >>> import torch
        >>> ReverseKL().generator(None, torch.tensor([-30.0, 0.0]))
        (tensor([31.,  1.]),)
    """

    def __init__(self, *, saturating: bool = True) -> None:
        super().__init__(saturating=saturating)

    def activation(self, logits: Tensor) -> Tensor:
        return -(-logits).exp()

    def conjugate(self, t: Tensor) -> Tensor:
        return -1 - (-t).log()

    def conjugate_of_activation(self, logits: Tensor) -> Tensor:
        return logits - 1

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits


class PearsonChiSquared(FDivergence):
    r"""Pearson's chi-squared divergence :math:`\chi^2(p \,\|\, q) = \int (p - q)^2 / q`.

    :math:`f(u) = (u - 1)^2`, :math:`f'(u) = 2(u - 1)`; :math:`g_f(v) = v`; :math:`f^*(t) = t + t^2/4` for any t, as in
    the paper. So :math:`\log p/q = \log(1 + v/2)`, and the best logits are at least -2. Nothing keeps a network's
    there: lower ones are clamped, so that the log ratio is at least -16 in single precision, and -36 in double. On them
    :math:`-f^*` falls with v and would drive the generator the wrong way, one reason more for `saturating=False`.

    Example:
        >>> import torch
        >>> PearsonChiSquared().log_ratio(torch.tensor([0.0, 2.0, -5.0]))
        tensor([  0.0000,   0.6931, -15.9424])
    """

    def activation(self, logits: Tensor) -> Tensor:
        return logits

    def conjugate(self, t: Tensor) -> Tensor:
        return t + t.square() / 4

    def log_ratio(self, logits: Tensor) -> Tensor:
        return (logits / 2).clamp(min=torch.finfo(logits.dtype).eps - 1).log1p()


class SquaredHellinger(FDivergence):
    r"""The squared Hellinger distance :math:`\int (\sqrt p - \sqrt q)^2`, at most 2 (others halve it).

    :math:`f(u) = (\sqrt u - 1)^2`, :math:`f'(u) = 1 - u^{-1/2}`; :math:`g_f(v) = 1 - \exp(-v)`;
    :math:`f^*(t) = t / (1 - t)` for t < 1, and :math:`f^*(g_f(v)) = \exp(v) - 1`. So :math:`\log p/q = 2v`.

    Example:
        >>> import torch
        >>> SquaredHellinger().log_ratio(torch.tensor([0.0, 1.5]))
        tensor([0., 3.])
    """

    def activation(self, logits: Tensor) -> Tensor:
        return -torch.expm1(-logits)

    def conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def conjugate_of_activation(self, logits: Tensor) -> Tensor:
        return torch.expm1(logits)

    def log_ratio(self, logits: Tensor) -> Tensor:
        return 2 * logits


class JensenShannon(FDivergence):
    r"""Twice the Jensen-Shannon divergence, as the paper has it: the 2014 game with its value moved by log 4.

    :math:`D_f = \int p \log\frac{2p}{p + q} + q \log\frac{2q}{p + q} = 2\,\mathrm{JS}(p, q)`, at most log 4.
    :math:`f(u) = u \log u - (u + 1) \log\frac{u + 1}2`, :math:`f'(u) = \log\frac{2u}{u + 1}`;
    :math:`g_f(v) = \log 2 - \log(1 + \exp(-v))`; :math:`f^*(t) = -\log(2 - \exp(t))` for t < log 2, and
    :math:`f^*(g_f(v)) = \log(1 + \exp(v)) - \log 2`. So :math:`\log p/q = v`.

    Example:
        >>> import torch
        >>> real, fake = JensenShannon().discriminator(torch.tensor([50.0]), torch.tensor([-50.0]))
        >>> -(real + fake)                                   # rows that are told apart for sure: log 4
        tensor([1.3863])
    """

    def activation(self, logits: Tensor) -> Tensor:
        return math.log(2) - softplus(-logits)

    def conjugate(self, t: Tensor) -> Tensor:
        return -(2 - t.exp()).log()

    def conjugate_of_activation(self, logits: Tensor) -> Tensor:
        return softplus(logits) - math.log(2)

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits
