"""The density that a guide is contrasted with when it has moved far from the prior (adaptive contrast)."""

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, biject_to
from torch.distributions.constraints import Constraint

from pyro_gan.processes import rows_of_all

PRIOR_SHARE = 0.1
"""The share of prior draws in the contrast: far out, where the Gaussian has no mass, they keep the ratio in bounds."""


class AdaptiveContrast:
    r"""A Gaussian with the mean and the covariance of a guide's draws on the real line, and a tenth of the prior.

    A ratio of densities is learned well where both have draws. A posterior that is much narrower than the prior has few
    neighbours among prior draws; among those of a Gaussian of its own place and shape it has many.

    Args:
        supports: The supports of the sites by name.
        draws: The guide's rows by site, with shape `(num_rows, *event_shape)`, without gradients.

    References:
        Mescheder et al. (2017), "Adversarial Variational Bayes", section 3.3, with the Gaussian alone, of independent
        coordinates.
    """

    def __init__(self, supports: dict[str, Constraint], draws: dict[str, Tensor]) -> None:
        self.transforms = {site: biject_to(supports[site]) for site in draws}
        rows = {site: transform.inv(draws[site]) for site, transform in self.transforms.items()}
        self.shapes = {site: value.shape[1:] for site, value in rows.items()}
        self.normal = _fitted(rows_of_all(_flat(rows)))

    def draw(self, prior: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows of the contrast by site.

        Args:
            prior: As many rows of the prior, some of which are taken over.
        """
        num_rows = len(next(iter(prior.values())))
        flat = self.normal.sample((num_rows,))
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()], 1)
        from_prior = torch.rand(num_rows, device=flat.device) < PRIOR_SHARE
        drawn = {}
        for (site, shape), part in zip(self.shapes.items(), parts, strict=True):
            value = self.transforms[site](part.reshape(num_rows, *shape))
            drawn[site] = torch.where(from_prior.reshape(-1, *[1] * (value.dim() - 1)), prior[site], value)
        return drawn

    def log_prob(self, values: dict[str, Tensor], log_prior: Tensor) -> Tensor:
        """The log-density of rows, with shape `(num_rows,)`.

        Args:
            values: The rows by site.
            log_prior: Their log-density under the prior, with shape `(num_rows,)`.
        """
        rows = {site: transform.inv(values[site]) for site, transform in self.transforms.items()}
        log_normal = self.normal.log_prob(_flat(rows))
        for site, transform in self.transforms.items():
            volume = transform.log_abs_det_jacobian(rows[site], values[site])
            log_normal = log_normal - volume.reshape(len(volume), -1).sum(1)
        return torch.logaddexp(log_normal + math.log1p(-PRIOR_SHARE), log_prior + math.log(PRIOR_SHARE))

    def share_of_prior(self, values: dict[str, Tensor], log_prior: Tensor) -> Tensor:
        """The probability that rows came from the prior, from 0 to 1; arguments and shape as of :meth:`log_prob`."""
        return (log_prior + math.log(PRIOR_SHARE) - self.log_prob(values, log_prior)).exp()


def _flat(rows: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.reshape(len(value), -1) for value in rows.values()], 1)


def _fitted(rows: Tensor) -> MultivariateNormal:
    """The Gaussian of the rows' mean and covariance, nearer to independence the fewer the rows."""
    covariance = torch.atleast_2d(torch.cov(rows.T))
    diagonal = covariance.diagonal().diag()
    weight = min(1.0, rows.shape[1] / len(rows))
    smallest = 1e-6 * (1 + diagonal.mean()) * torch.eye(len(diagonal), dtype=rows.dtype, device=rows.device)
    return MultivariateNormal(rows.mean(0), torch.lerp(covariance, diagonal, weight) + smallest)
