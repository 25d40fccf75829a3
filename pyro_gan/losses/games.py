r"""Losses of games that were proposed one by one: the 2014 game and those that came after it.

Each loss is written for the real rows, of density p, and the fake rows, of density q. The package's table
(:mod:`pyro_gan.losses`) says which divergence each reaches at the best discriminator.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from pyro_gan.losses.base import Loss


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
        Goodfellow et al. (2014), "Generative Adversarial Nets", equation 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return softplus(-real_logits), softplus(fake_logits)

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (-softplus(fake_logits),)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (-softplus(-real_logits),)

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits


class NonSaturating(Minimax):
    r"""The 2014 paper's recommended game: the generator minimizes :math:`-\log D(x)`, the discriminator as before.

    Example:
        >>> import torch
        >>> NonSaturating().generator(None, torch.tensor([0.0, 30.0]))
        (tensor([6.9315e-01, 9.3576e-14]),)

    References:
        Goodfellow et al. (2014), "Generative Adversarial Nets", section 3, last paragraph.
    """

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (softplus(-fake_logits),)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (softplus(real_logits),)


class Relativistic(Loss):
    r"""The pairing game: the discriminator scores a real row x above a fake row y, the generator y above x.

    With :math:`h = \ell(x) - \ell(y)` the discriminator minimizes :math:`\mathrm{softplus}(-h)`, the generator
    :math:`\mathrm{softplus}(h)`. This is the 2014 game on pairs, with density :math:`p(x)\,q(y)` against
    :math:`q(x)\,p(y)`; at the best discriminator

    .. math:: h = \log \frac{p(x)}{q(x)} - \log \frac{p(y)}{q(y)},

    so :math:`\ell = \log p - \log q + c` with a constant c that the game leaves open, and that
    :math:`\mathbb{E}_{y \sim q} \exp(\ell(y) - c) = 1` fixes. Its generator reads both samples: where a guide moves the
    real rows, the generator's loss moves it as well.

    Rows are paired in the order in which they come. Where the two samples differ in number, each real row is paired
    with each fake one, :math:`N M` pairs in all: the same expectation.

    Example:
        >>> import torch
        >>> Relativistic().discriminator(torch.tensor([2.0, 0.0]), torch.tensor([2.0, 50.0]))
        (tensor([ 0.6931, 50.0000]),)

    References:
        Jolicoeur-Martineau (2019), "The relativistic discriminator: a key element missing from standard GAN"; Huang et
        al. (2024), "The GAN is dead; long live the GAN! A Modern GAN Baseline", section 2.
    """

    generator_reads_real = True
    leaves_constant_open = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (softplus(-_differences(real_logits, fake_logits)),)

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        if real_logits is None:
            raise ValueError("Relativistic.generator needs real_logits, but they are None: it compares pairs of rows.")
        return (softplus(_differences(real_logits, fake_logits)),)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return ()

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits


def _differences(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The real row's logit less the fake row's, for each pair, with shape :math:`(N,)` or, all with all, `(N M,)`."""
    if len(real_logits) == len(fake_logits):
        return real_logits - fake_logits
    return (real_logits[:, None] - fake_logits).flatten()


class LeastSquares(Loss):
    r"""Regression of the targets 1 and 0 in place of classification; the generator aims at 1.

    The best output is :math:`\ell = p / (p + q)`, a probability rather than a logit, though nothing holds a network's
    outputs between 0 and 1. The log ratio is therefore :math:`\log \ell - \log(1 - \ell)` of the output clamped into
    :math:`(\epsilon, 1 - \epsilon)`, with the precision's :math:`\epsilon`: it lies within ±16 in single precision, and
    within ±36 in double.

    Example:
        >>> import torch
        >>> LeastSquares().log_ratio(torch.tensor([0.5, 0.8, 1.2]))       # 0.8/0.2 is 4; 1.2 is clamped
        tensor([ 0.0000,  1.3863, 15.9424])

    References:
        Mao et al. (2017), "Least Squares Generative Adversarial Networks", equation 9.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return 0.5 * (real_logits - 1).square(), 0.5 * fake_logits.square()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (0.5 * (fake_logits - 1).square(),)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (0.5 * real_logits.square(),)

    def log_ratio(self, logits: Tensor) -> Tensor:
        return logits.logit(eps=torch.finfo(logits.dtype).eps)


class Hinge(Loss):
    r"""The hinge of support vector machines: real rows shall score above 1, fake ones below -1, and no more is asked.

    The best scores are 1 where p is the greater and -1 where q is. They tell which density is greater, not by how much:
    the hinge implies no log density ratio.

    Example:
        >>> import torch
        >>> Hinge().discriminator(torch.tensor([0.0, 1.5]), torch.tensor([0.0, -3.0]))
        (tensor([1., 0.]), tensor([1., 0.]))

    References:
        Lim and Ye (2017), "Geometric GAN"; Miyato et al. (2018), "Spectral Normalization for Generative Adversarial
        Networks", equations 16 and 17.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return relu(1 - real_logits), relu(1 + fake_logits)

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (-fake_logits,)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (real_logits,)


class Wasserstein(Loss):
    r"""The Wasserstein distance in its dual form: a critic, whose slope is at most 1, scores real rows above fake ones.

    .. math:: W_1(p, q) = \sup_{\|\ell\|_L \le 1} \mathbb{E}_{x \sim p}\, \ell(x) - \mathbb{E}_{x \sim q}\, \ell(x),

    in the units of the rows. The loss does not bound the slope: a penalty or clipping must, without which the critic
    grows beyond all bounds. The scores imply no log density ratio.

    Example:
        >>> import torch
        >>> real, fake = Wasserstein().discriminator(torch.tensor([4.0, 5.0]), torch.tensor([0.0, 1.0]))
        >>> -(real.mean() + fake.mean())                     # the critic x → x; one sample is the other, moved by 4
        tensor(4.)

    References:
        Arjovsky, Chintala and Bottou (2017), "Wasserstein GAN", equation 2 and algorithm 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return -real_logits, fake_logits

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return (-fake_logits,)

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return (real_logits,)
