"""Penalties of the gradient of the logit with respect to the rows."""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from pyro_gan.checks import finite_number, listed, positive_integer
from pyro_gan.penalties.base import Judgement, Penalty
from pyro_gan.penalties.scales import in_own_coordinates, mean_weights, players


class SitePenalty(Penalty):
    """A penalty of the gradient with respect to some sites' rows; the rows of the other sites are held fixed.

    A gradient of a gradient is the dearest part of a step. A lazy penalty is taken at each `every`-th update of the
    discriminator alone, and then counts `every` times: the same on average, for less time.

    Args:
        site: The site or the sites; by default all compared ones whose rows are of floating
            point.
        every: The number of updates of the discriminator from one at which the penalty is taken to the next.

    Raises:
        TypeError: `site` is neither a name nor a list of names, or `every` no integer.
        ValueError: `every` is not positive.

    References:
        Karras et al. (2020), "Analyzing and Improving the Image Quality of StyleGAN", section 3.1: lazy regularization.
    """

    def __init__(self, site: str | Sequence[str] | None, every: int = 1) -> None:
        self.every = positive_integer("every", every)
        sites = (site,) if isinstance(site, str) else site
        if sites is not None and (
            not isinstance(sites, list | tuple) or not sites or not all(isinstance(name, str) for name in sites)
        ):
            raise TypeError(f"site must be a site's name or a list of names, but is {site!r}.")
        self.sites = None if sites is None else tuple(sites)

    def check(self, real: dict[str, Tensor]) -> None:
        self.covered_sites(real)

    def covered_sites(self, rows: dict[str, Tensor], given: Sequence[str] = ()) -> list[str]:
        """The names of the sites that the penalty covers.

        Args:
            rows: The rows by site, each with shape `(num_rows, *event_shape)`.
            given: Those among them that both samples are given alike, which are covered only where they are named.

        Raises:
            ValueError: A named site is unknown or not of floating point, or no site is.
        """
        floating = [site for site, values in rows.items() if values.is_floating_point()]
        for site in self.sites or ():
            self._check_site(site, rows, floating)
        if not set(floating).difference(given):
            types = ", ".join(f"{values.dtype} at site {site!r}" for site, values in rows.items())
            raise ValueError(
                f"{type(self).__name__} needs rows of floating point, since others have no gradient, but found {types}."
                " Convert them, for example with transform=lambda x: x / 255, or use WeightClipping or "
                "torch.nn.utils.parametrizations.spectral_norm, which need no gradient of rows."
            )
        return [site for site in floating if site not in given] if self.sites is None else list(self.sites)

    def _check_site(self, site: str, rows: dict[str, Tensor], floating: list[str]) -> None:
        if site not in rows:
            raise ValueError(
                f"{type(self).__name__} is given site={site!r}, but the compared sites are "
                f"{listed(rows)}. Name one of them, or leave out site= to cover all."
            )
        if site not in floating:
            others = f"; of floating point: {listed(floating)}" if floating else ""
            raise ValueError(
                f"{type(self).__name__} needs rows of floating point, since others have no gradient, but those of "
                f"site {site!r} are of type {rows[site].dtype}. Convert them, or name another site{others}."
            )


class SquaredGradient(SitePenalty):
    r"""The squared gradient of the logit, :math:`\frac{\gamma}{2} \|\nabla D\|^2`, at rows that a subclass chooses.

    Its weight :math:`\gamma` has the unit of a squared length, that of the rows: when centimetres become metres,
    :math:`\|\nabla D\|^2` grows ten-thousandfold. A weight that suits one data set therefore says nothing of another.
    With `relative=True` the weight is a number without unit, and each of a site's n features counts in units of its own
    deviation,

    .. math:: \frac{\gamma}{2} \, n \sum_{j=1}^n \operatorname{Var}(x_j) \, (\partial_j D)^2,

    with the variance over the minibatch's rows (divided by their number). So no change of units changes the penalty, of
    one feature neither. Where all features vary alike, :math:`n \operatorname{Var}(x_j)` is the total variance. So it
    is, for all of them, where at least 64 features have ranges of one size, as pixels have: what a pixel at the margin
    does counts as what one in the middle does. A feature whose rows are all alike has the variance 0 and is not
    penalized. Where the discriminator sees rows through coordinates of its own (`coordinates` and `judge`), as one that
    builds itself does, all of this is meant in these.

    The penalty keeps the discriminator from being sharper than the samples allow, which early in a run are far apart,
    and later may differ in fine detail alone. So a weight may fall along a run.

    Args:
        weight: The weight :math:`\gamma`, positive; by default 10, the value of the paper's experiments on images, or
            0.02 where it is relative.
        final_weight: The weight at the end of a run; it falls, or rises, by the same factor in each step. By default it
            stays.
        relative: Whether the weights are without unit.
        site: The site or the sites that it covers; by default all whose rows are of floating point.
        every: As of :class:`SitePenalty`.

    Raises:
        TypeError: `site` is neither a name nor a list of names, or `every` no integer.
        ValueError: A weight is not a positive finite number, or `every` not positive.
    """

    def __init__(
        self,
        weight: float | None = None,
        *,
        final_weight: float | None = None,
        relative: bool = False,
        site: str | Sequence[str] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(site, every)
        self.first_weight = finite_number("weight", (0.02 if relative else 10.0) if weight is None else weight)
        self.final_weight = self.first_weight if final_weight is None else finite_number("final_weight", final_weight)
        self.relative = relative
        self._weight = torch.tensor(self.first_weight, dtype=torch.float64, device="cpu")

    @property
    def weight(self) -> float:
        """The weight at the present part of a run."""
        return self._weight.item()

    @weight.setter
    def weight(self, weight: float) -> None:
        self._weight.fill_(finite_number("weight", weight))

    def set_progress(self, progress: float) -> None:
        # A tensor that is filled anew, so that a compiled step reads the present weight.
        self._weight.fill_(self.first_weight * (self.final_weight / self.first_weight) ** progress)

    def check(self, real: dict[str, Tensor]) -> None:
        super().check(real)
        if self.relative and min(map(len, real.values())) < 2:
            raise ValueError(
                f"{type(self).__name__}(relative=True) multiplies its weight by the variance over the rows, but the "
                "first minibatch has 1 row. Train on more rows at a time, or give an absolute weight with "
                "relative=False."
            )

    def seen(
        self, judgement: Judgement, logits: Tensor, rows: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Rows, their logits and the real rows, as the penalty sees them: in the discriminator's own coordinates.

        Args:
            judgement: Both samples.
            logits: The logits of the rows, with shape `(num_rows,)`.
            rows: The rows by site, each with shape `(num_rows, *event_shape)`, leaves that require a gradient.

        Returns:
            The same, and the real rows, where the weight is not relative or the discriminator has no coordinates.
        """
        critic = in_own_coordinates(judgement) if self.relative else None
        if critic is None:
            return logits, rows, judgement.real
        coordinates = {site: value.requires_grad_() for site, value in critic.coordinates(rows).items()}
        return critic.judge(coordinates), coordinates, critic.coordinates(judgement.real)

    def penalize(
        self,
        sites: Sequence[str],
        logits: Tensor,
        rows: dict[str, Tensor],
        reference: dict[str, Tensor],
        real: dict[str, Tensor],
    ) -> Tensor:
        """The penalty at each row.

        Args:
            sites: The sites that are covered.
            logits: The logits of the rows, with shape `(num_rows,)`.
            rows: The rows by site, each with shape `(num_rows, *event_shape)`.
            reference: The rows by site whose variances the weight is relative to.
            real: The real rows by site, whose ranges tell whether features are in one unit.

        Returns:
            The penalties, with shape `(num_rows,)`.
        """
        weights = [mean_weights(reference[site], real[site]) for site in sites] if self.relative else []
        gradients = _gradients(logits, [rows[site] for site in sites])
        half = (self._weight / 2).to(logits.dtype)
        if not self.relative:
            return half * reduce(add, [gradient.square().sum(1) for gradient in gradients])
        squares = [
            gradient.shape[1] * (gradient.square() @ weights_of_site().to(gradient.dtype))
            for weights_of_site, gradient in zip(weights, gradients, strict=True)
        ]
        return half * reduce(add, squares)


class R1(SquaredGradient):
    r"""The squared gradient of the logit at real rows, :math:`\frac{\gamma}{2} \|\nabla D(x)\|^2`.

    See :class:`SquaredGradient` for the arguments and for the unit of the weight, whose variance is that of real rows.

    Example:
        >>> rows = {"x": torch.tensor([[3.0, 4.0], [0.0, 1.0]], requires_grad=True)}
        >>> def halved_square(rows):                        # its gradient is the row itself
        ...     return rows["x"].square().sum(1) / 2
        >>> logits = halved_square(rows)
        >>> judgement = Judgement(halved_square, rows, rows, logits, logits)
        >>> R1(10.0)(judgement).tolist()                    # 10 / 2 times 25 and 1
        [125.0, 5.0]

    References:
        Mescheder et al. (2018), equation 9.
    """

    def __call__(self, judgement: Judgement) -> Tensor:
        logits, rows, real = self.seen(judgement, judgement.real_logits, judgement.real)
        return self.penalize(self.covered_sites(judgement.real, judgement.given), logits, rows, real, real)


class R2(SquaredGradient):
    r"""The squared gradient of the logit at fake rows, :math:`\frac{\gamma}{2} \|\nabla D(x)\|^2`.

    See :class:`SquaredGradient` for the arguments and for the unit of the weight; the variance is that of the real rows
    here too.

    References:
        Mescheder et al. (2018), equation 10.
    """

    def __call__(self, judgement: Judgement) -> Tensor:
        logits, rows, real = self.seen(judgement, judgement.fake_logits, judgement.fake)
        return self.penalize(self.covered_sites(judgement.fake, judgement.given), logits, rows, real, real)


class ZeroCentredGradientPenalty(SquaredGradient):
    r"""The squared gradient of the logit on the way from fake to real rows.

    .. math:: \frac{\gamma}{2} \|\nabla D(\hat x)\|^2, \qquad
        \hat x = \epsilon x_\text{real} + (1 - \epsilon) x_\text{fake}

    Each real row is paired with a fake one; a pair has one :math:`\epsilon = (1 - \cos \pi u) / 2` with
    :math:`u \sim U(0, 1)`. This arcsine law has most of its mass near 0 and 1, so that the penalty acts at both ends as
    :class:`R1` and :class:`R2` do. In between it forces a slope all the way from one sample to the other: where R1 and
    R2 act alone, a discriminator that is flat at both samples and has a step between them costs nothing, and its
    generator stands still.

    See :class:`SquaredGradient` for the arguments and for the unit of the weight, whose variance is that of real and
    fake rows together. Where the samples differ in size, the first `min(N, M)` rows of each are paired. Sites that are
    not covered are held at the real rows.

    References:
        Thanh-Tung, Tran and Venkatesh (2019), "Improving Generalization and Stability of Generative Adversarial
        Networks", equation 8, with a uniform law in place of the arcsine law.
    """

    reads_gradients = False  # but at rows of its own

    def __call__(self, judgement: Judgement) -> Tensor:
        sites = self.covered_sites(judgement.real, judgement.given)
        judge, real, fake = players(judgement, self.relative)
        rows = _interpolate(real, fake, sites, at_ends=True)
        both = {site: torch.cat([real[site], fake[site]]) for site in sites} if self.relative else {}
        return self.penalize(sites, judge(rows), rows, both, real)


class GradientPenalty(SitePenalty):
    r"""The gradient's distance from a target norm, :math:`\lambda (\|\nabla D(\hat x)\| - 1)^2`, between the samples.

    Each real row is paired with a fake one, and :math:`\hat x = \epsilon x_\text{real} + (1 - \epsilon) x_\text{fake}`
    with one :math:`\epsilon \sim U(0, 1)` for a pair, shared by all covered sites and their elements. Where the samples
    differ in size, the first `min(N, M)` rows of each are paired. Sites that are not covered are held at the real rows.

    One-sided, :math:`\lambda \max(0, \|\nabla D(\hat x)\| - 1)^2`, a critic that is flatter than the target costs
    nothing. The two-sided penalty can lock a critic: to turn its slope round, it has to pass a slope of 0, which a
    large weight forbids in one dimension. Where rows have few dimensions, prefer `one_sided=True`.

    The target is a slope: logits per unit of length of the rows. With `relative=True` each feature's length is counted
    in its own deviations over real and fake rows together, as of :class:`SquaredGradient`. At a gradient of 0, where
    the norm has a kink, the penalty passes no gradient on.

    Args:
        weight: The weight :math:`\lambda`, positive.
        target: The norm that costs nothing, at least 0.
        one_sided: Whether smaller norms cost nothing either.
        relative: Whether the slope is one for each deviation of the rows, whatever their units.
        site: The site or the sites that it covers; by default all whose rows are of floating point.
        every: As of :class:`SitePenalty`.

    Raises:
        TypeError: `site` is neither a name nor a list of names, or `every` no integer.
        ValueError: `weight` is not a positive finite number, `target` not a finite one that is at least 0, or `every`
            not positive.

    Example:
        >>> real, fake = {"x": torch.zeros(2, requires_grad=True)}, {"x": torch.ones(2, requires_grad=True)}
        >>> def line(rows):                                 # its slope is 3 everywhere
        ...     return 3 * rows["x"]
        >>> judgement = Judgement(line, real, fake, line(real), line(fake))
        >>> GradientPenalty(10.0)(judgement).tolist()       # 10 (3 - 1)^2
        [40.0, 40.0]

    References:
        Gulrajani et al. (2017), equation 3; one-sided: Petzka, Fischer and Lukovnikov (2018), "On the Regularization of
        Wasserstein GANs".
    """

    reads_gradients = False  # but at rows of its own

    def __init__(
        self,
        weight: float = 10.0,
        *,
        target: float = 1.0,
        one_sided: bool = False,
        relative: bool = False,
        site: str | Sequence[str] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(site, every)
        self.weight = finite_number("weight", weight)
        self.target = finite_number("target", target, zero_allowed=True)
        self.one_sided = one_sided
        self.relative = relative

    def __call__(self, judgement: Judgement) -> Tensor:
        sites = self.covered_sites(judgement.real, judgement.given)
        judge, real, fake = players(judgement, self.relative)
        rows = _interpolate(real, fake, sites)
        gradients = _gradients(judge(rows), [rows[site] for site in sites])
        if self.relative:
            deviations = [mean_weights(torch.cat([real[site], fake[site]]), real[site])().sqrt() for site in sites]
            gradients = [gradient * each for gradient, each in zip(gradients, deviations, strict=True)]
        excess = _norms(gradients) - self.target
        return self.weight * (excess.clamp(min=0) if self.one_sided else excess).square()


def _gradients(logits: Tensor, rows: list[Tensor]) -> list[Tensor]:
    """The gradient of each row's logit for each site, with shape `(num_rows, num_elements)`; 0 where there is none."""
    gradients = torch.autograd.grad(logits.sum(), rows, create_graph=True, materialize_grads=True)
    return [gradient if gradient.dim() == 2 else gradient.reshape(len(gradient), -1) for gradient in gradients]


def _norms(gradients: list[Tensor]) -> Tensor:
    """One Euclidean norm a row over all sites; its own gradient at 0 is 0, where that of a square root is NaN."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(rows, dim=1) for rows in gradients]), dim=0)


def _interpolate(
    real: dict[str, Tensor], fake: dict[str, Tensor], sites: list[str], at_ends: bool = False
) -> dict[str, Tensor]:
    """Rows at random points between real and fake ones in some sites, and the real rows of the others.

    The points are uniform, or `at_ends` of the arcsine law.
    """
    first = real[sites[0]]
    num_rows = min(len(first), len(fake[sites[0]]))
    epsilon = torch.rand(num_rows, dtype=first.dtype, device=first.device)
    if at_ends:
        epsilon = (1 - (math.pi * epsilon).cos()) / 2
    if len(first) != len(fake[sites[0]]):
        real, fake = ({site: rows[:num_rows] for site, rows in sample.items()} for sample in (real, fake))
    return {**real, **{site: _between(fake[site], real[site], epsilon) for site in sites}}


def _between(fake: Tensor, real: Tensor, epsilon: Tensor) -> Tensor:
    weight = epsilon.to(real.dtype).reshape(-1, *[1] * (real.dim() - 1))
    return torch.lerp(fake.to(real.dtype), real, weight).detach().requires_grad_()
