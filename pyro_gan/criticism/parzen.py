r"""The Parzen-window estimate of a model's log-likelihood, by which the 2014 paper compared models.

A Gaussian of standard deviation :math:`\sigma` stands on each of n samples :math:`s_i` of the model, in d dimensions:

.. math:: \log \hat p(x) = \log \frac{1}{n} \sum_i \exp\Big(-\frac{\|x - s_i\|^2}{2\sigma^2}\Big)
    - \frac{d}{2} \log(2 \pi \sigma^2).

What the number can not tell: in many dimensions it is far below the true log-likelihood, it praises a model that
repeats its training rows, and it ranks models by their coarse spread more than by what they look like
(Theis, van den Oord and Bethge 2016, section 3.2).
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gan.criticism.distances import distances, products_are_exact_enough
from pyro_gan.criticism.rows import matching_rows
from pyro_gan.criticism.scales import as_float, center, double, times_power, without_scale

CHUNK_ENTRIES = 2**23
"""How many distances are held at once: 64 MiB in double precision."""


class ParzenEstimate(NamedTuple):
    """A mean log-likelihood over test rows, in nats."""

    mean: float
    standard_error: float


def parzen_log_likelihood(samples: Any, test: Any, sigma: float) -> ParzenEstimate:
    """The mean Parzen-window log-likelihood of test rows under samples of a model.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`, a floating-point tensor or array.
        test: Held-out rows, with shape `(num_rows, *event_shape)`.
        sigma: The windows' standard deviation, in the data's units.

    Returns:
        The mean over the test rows and its standard error, the standard deviation over the root of their number, in
        nats.

    Raises:
        TypeError: Rows are no numbers.
        ValueError: Devices or event shapes differ, there are no rows, values are not finite numbers of floating point,
            `sigma` is not positive, or so narrow that a test row's log-likelihood is below the lowest number.

    Example:
        >>> parzen_log_likelihood(torch.zeros(5, 1), torch.zeros(3, 1), sigma=1.0).mean      # log N(0; 0, 1)
        -0.918938...

    References:
        Goodfellow et al. (2014), section 5, and the program `parzen_ll.py` that came with it; Breuleux, Bengio and
        Vincent (2011), "Quickly Generating Representative Samples from an RBM-Derived Process".
    """
    sigma = _positive(sigma)
    log_likelihoods = _log_likelihoods(*_scaled_rows(samples, test), sigma)
    mean = _mean(log_likelihoods)
    if mean == -math.inf:
        raise ValueError(
            f"sigma must be wide enough for all test rows to have a log-likelihood, but is {sigma!r}, and a row "
            "lies so far from all samples that its own is below the lowest number. Choose a wider one."
        )
    (deviations,), power = without_scale((log_likelihoods - mean)[:, None])
    deviation = times_power(float(deviations.square().mean().sqrt()), power)
    return ParzenEstimate(mean, deviation / math.sqrt(len(log_likelihoods)))


def select_bandwidth(samples: Any, validation: Any, sigmas: Iterable[float] | None = None) -> float:
    """The window width under which validation rows are likeliest.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`.
        validation: Rows that are neither test rows nor used otherwise, with shape `(num_rows, *event_shape)`.
        sigmas: The widths to choose from; by default the ten of the 2014 program, from 0.1 to 1 in equal ratios.

    Returns:
        The width with the largest mean log-likelihood.

    Raises:
        TypeError: Rows are no numbers, or `sigmas` no collection.
        ValueError: As in :func:`parzen_log_likelihood`, where that happens under every width, or there are no widths.

    References:
        The program `parzen_ll.py` that came with Goodfellow et al. (2014).
    """
    try:
        given = list(torch.logspace(-1, 0, 10, device="cpu") if sigmas is None else sigmas)
    except TypeError:
        raise TypeError(
            f"sigmas must be a collection of widths, but is {sigmas!r}. Put a single one in a list."
        ) from None
    widths = [_positive(sigma) for sigma in given]
    if not widths:
        raise ValueError("sigmas must hold at least one width, but is empty.")
    scaled = _scaled_rows(samples, validation)
    means = [_mean(_log_likelihoods(*scaled, sigma)) for sigma in widths]
    if max(means) == -math.inf:
        raise ValueError(
            f"sigmas must hold one wide enough for each row to have a log-likelihood, but go up to {max(widths)!r}, "
            "and a row lies so far from all samples that its own is below the lowest number. Add wider ones, or divide "
            "all rows by a common number first."
        )
    return widths[means.index(max(means))]


def _log_likelihoods(samples: Tensor, rows: Tensor, power: int, sigma: float) -> Tensor:
    """The log-likelihood of each row, with as many distances at once as fit a fixed amount of memory.

    Args:
        samples: A matrix with shape `(num_samples, size)`, in units of `2**power`.
        rows: A matrix with shape `(num_rows, size)`, in the same units.
        power: The exponent of the units.
        sigma: The windows' width, in units of 1.

    Returns:
        Log-likelihoods with shape `(num_rows,)`; minus infinity for those below the lowest number.
    """
    width = max(times_power(sigma, -power), torch.finfo(samples.dtype).tiny)  # 0 would leave 0 / 0 of equal rows
    middle = center(samples)  # distances from products lose the fewest digits around the origin
    log_kernels, centered = _from_products, (samples - middle, rows - middle)
    if products_are_exact_enough(*centered, width=width):
        samples, rows = centered
    else:
        log_kernels = _from_differences
    chunks = rows.split(max(1, CHUNK_ENTRIES // len(samples)))
    sums = [torch.logsumexp(log_kernels(chunk, samples, width), 1) for chunk in chunks]
    normalizer = math.log(len(samples)) + samples.shape[1] * (math.log(2 * math.pi) / 2 + math.log(sigma))
    return torch.cat(sums) - normalizer


def _from_products(rows: Tensor, samples: Tensor, width: float) -> Tensor:
    rows, samples = rows / width, samples / width
    products = torch.addmm(-samples.square().sum(1) / 2, rows, samples.T)
    return products.sub_(rows.square().sum(1, keepdim=True) / 2)


def _from_differences(rows: Tensor, samples: Tensor, width: float) -> Tensor:
    return (distances(rows, samples, from_products=False) / width).square_().mul_(-0.5)


def _mean(log_likelihoods: Tensor) -> float:
    return float((log_likelihoods / len(log_likelihoods)).sum())  # the sum itself may be too large a number


def _scaled_rows(samples: Any, test: Any) -> tuple[Tensor, Tensor, int]:
    """Both in double precision and in units of `2**power`, and `power`."""
    pair = matching_rows(samples, test, names=("samples", "test rows"))
    (samples, rows), power = without_scale(*(double(part) for part in pair))
    return samples, rows, power


def _positive(sigma: Any) -> float:
    if not 0 < as_float(sigma) < math.inf:
        raise ValueError(f"sigma must be a positive number, but is {sigma!r}.")
    return as_float(sigma)
