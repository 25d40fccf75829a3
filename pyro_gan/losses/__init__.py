r"""What each player of the adversarial game minimizes.

A discriminator is trained to tell real rows, with density p, from fake ones, with density q. Written with its logit
:math:`\ell`, so that :math:`D = \mathrm{sigmoid}(\ell)` is its probability that a row is real, the 2014 game is

.. math:: \min_G \max_D V(D, G) = \mathbb{E}_{x \sim p} \log D(x) + \mathbb{E}_{x \sim q} \log(1 - D(x)).

At the best discriminator :math:`\ell = \log p - \log q`, and :math:`V = 2\,\mathrm{JS} - \log 4`.

A loss is one short class: what the discriminator and the generator minimize, as functions of the logits, and, where the
logits imply one, the log density ratio :math:`\log p - \log q`. Each function returns per-row losses, as a tuple of
tensors whose means the caller adds (real and fake rows may differ in number). Two functions will do, too:
:func:`as_loss`. What each loss estimates:

============================================  ================================  ========================================
loss                                          the best logits                   the discriminator's least loss
============================================  ================================  ========================================
:class:`Minimax`, :class:`NonSaturating`      :math:`\log p/q`                  :math:`\log 4 - 2\,\mathrm{JS}(p, q)`
:class:`Relativistic`                         :math:`\log p/q` + a constant     :math:`\log 2 - \mathrm{JS}(pq', qp')`
:class:`LeastSquares`                         :math:`p / (p + q)`               :math:`(2 - \Delta(p, q)) / 8`
:class:`Hinge`                                :math:`\mathrm{sign}(p - q)`      :math:`2 - 2\,\mathrm{TV}(p, q)`
:class:`Wasserstein`, slopes of at most 1     those of the duality              :math:`-W_1(p, q)`
:class:`KL`                                   :math:`1 + \log p/q`              :math:`-\mathrm{KL}(p \,\|\, q)`
:class:`ReverseKL`                            :math:`\log p/q`                  :math:`-\mathrm{KL}(q \,\|\, p)`
:class:`PearsonChiSquared`                    :math:`2(p/q - 1)`                :math:`-\int (p - q)^2 / q`
:class:`SquaredHellinger`                     :math:`\frac12 \log p/q`          :math:`-\int (\sqrt p - \sqrt q)^2`
:class:`JensenShannon`                        :math:`\log p/q`                  :math:`-2\,\mathrm{JS}(p, q)`
============================================  ================================  ========================================

:math:`\mathrm{JS}(p, q) = \frac12 \mathrm{KL}(p \,\|\, \frac{p + q}2) + \frac12 \mathrm{KL}(q \,\|\, \frac{p + q}2)` is
at most log 2; :math:`\Delta = \int (p - q)^2 / (p + q)` is the triangular discrimination, at most 2;
:math:`\mathrm{TV} = \frac12 \int |p - q|` the total variation; :math:`pq'` stands for the density of a pair of rows,
:math:`p(x)\,q(x')`.

What the number can not tell: a discriminator in training has not reached its best, and its loss is then no divergence
but a bound to one.

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets", equation 1, section 3 and theorem 1.
"""

from pyro_gan.losses.base import CallableLoss, Loss, LossFunction, as_loss
from pyro_gan.losses.divergences import (
    KL,
    FDivergence,
    JensenShannon,
    PearsonChiSquared,
    ReverseKL,
    SquaredHellinger,
)
from pyro_gan.losses.games import Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein

__all__ = [
    "KL",
    "CallableLoss",
    "FDivergence",
    "Hinge",
    "JensenShannon",
    "LeastSquares",
    "Loss",
    "LossFunction",
    "Minimax",
    "NonSaturating",
    "PearsonChiSquared",
    "Relativistic",
    "ReverseKL",
    "SquaredHellinger",
    "Wasserstein",
    "as_loss",
]
