r"""Does the model draw all of the data, and nothing else: fidelity and diversity as two numbers.

Where the data's modes are known (a ring or grid of Gaussians, labelled images), count those that samples reach.
Where they are not, balls around rows stand for the data's or the model's support: with :math:`r_k(x)` the distance of
a row to its k-th nearest neighbour among the rows of its own set, itself left out,

.. math:: B(x) = \{y : \|y - x\| \le r_k(x)\}.

Precision is the share of fake rows in a real row's ball, recall that of real rows in a fake row's ball
(Kynkäänniemi et al. 2019). Density counts, over k, the real balls that a fake row lies in, and coverage the real
balls that hold a fake row (Naeem et al. 2020), so that outliers, whose balls are large, distort less. Where a model
repeats itself, near-duplicates among its samples tell how much it can draw (Arora and Zhang 2017).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.criticism.distances import ROUNDING, distances_of_pairs
from pyro_gan.criticism.neighbours import nearest, squared_distances
from pyro_gan.criticism.rows import as_tensor, matching_rows
from pyro_gan.criticism.scales import as_float, center, double, times_power, without_scale


class ModeCoverage(NamedTuple):
    """How samples spread over known modes."""

    num_modes: int
    """How many modes have at least one sample of high quality."""
    high_quality: float
    """The share of samples near a mode, from 0 to 1."""
    reverse_kl: float
    """KL(model || uniform) over the modes, in nats; 0 is right, and the logarithm of their number the worst."""


class LabelCoverage(NamedTuple):
    """How labels spread over their possible values."""

    num_modes: int
    """How many labels occur."""
    reverse_kl: float
    """KL(labels || uniform), in nats."""


class PrecisionRecall(NamedTuple):
    """Two shares, from 0 to 1."""

    precision: float
    """The share of fake rows that lie where real rows do."""
    recall: float
    """The share of real rows that lie where fake rows do."""


class DensityCoverage(NamedTuple):
    """How densely fake rows lie among the real ones, and how many of those they reach."""

    density: float
    """The mean number of real balls around a fake row, over k; 1 for an exact model, and more where fakes crowd."""
    coverage: float
    """The share of real rows whose ball holds a fake row, from 0 to 1."""


class SupportSize(NamedTuple):
    """How many different things a model draws, from the share of near-duplicates among its samples."""

    estimate: float
    """The number of equally likely things that would give as many near-duplicates; infinite where there are none."""
    lower: float
    """The estimate's 95 % interval's lower end, which is finite even then."""
    upper: float
    """The upper end."""
    batch_size: float
    """How many samples hold a near-duplicate as likely as not."""


def mode_coverage(samples: Any, centers: Any, scale: float, *, num_deviations: float = 3.0) -> ModeCoverage:
    """Count the modes that samples reach, where the data are equally likely round Gaussians.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`, a floating-point tensor or array.
            PacGAN draws 2,500.
        centers: The modes' means, with shape `(num_modes, *event_shape)`.
        scale: The modes' standard deviation along each axis, in the data's units.
        num_deviations: A sample is of high quality up to this many standard deviations (a Euclidean distance of
            `num_deviations * scale`) from its nearest mode.

    Returns:
        The number of modes with a sample of high quality, the share of such samples, and the reverse KL divergence
        of the share of all samples, of high quality or not, whose nearest mode each is, from the uniform distribution
        over all modes. A perfect sampler in two dimensions has a share of 1 - exp(-9/2), 98.9 %: more means that
        it crowds at the centers. Its divergence is not 0 but about (num_modes - 1) / (2 num_samples).

    Raises:
        ValueError: Devices or event shapes differ, there are no rows, values are not finite numbers of floating point,
            or `scale` or `num_deviations` is no positive number.
        TypeError: Rows are no numbers.

    Example:
        >>> samples = torch.tensor([[0.0, 0.1], [1.0, 0.0], [1.0, 0.1], [0.9, 0.5]])
        >>> mode_coverage(samples, torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), scale=0.1)
        ModeCoverage(num_modes=2, high_quality=0.75, reverse_kl=0.536...)

    References:
        Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1. The authors' program takes its distribution over the
        modes from samples of high quality alone, as their text does not.

    What the number can not tell:
        A mode counts with a single sample, so the number grows with the samples: compare at equal numbers. Nothing
        is said of the shape that samples have around a mode: one repeated point a mode is all well.
    """
    scale, num_deviations = _positive("scale", scale), _positive("num_deviations", num_deviations)
    (rows, modes), power = without_scale(*matching_rows(samples, centers, names=("samples", "centers")))
    distances, indices = (found[:, 0] for found in nearest(rows, modes, 1))
    good = distances <= num_deviations * times_power(scale, -power)
    counts = indices.bincount(minlength=len(modes))
    return ModeCoverage(len(indices[good].unique()), float(good.double().mean()), _kl_to_uniform(counts))


def label_coverage(labels: Any, num_modes: int) -> LabelCoverage:
    """Count the modes among labels that a classifier gave to samples, as on stacked MNIST.

    Args:
        labels: The label of each sample, integers from 0 to `num_modes - 1` with shape `(num_samples,)`. On stacked
            MNIST, 26,000 labels, each three digits from 0 to 999.
        num_modes: How many labels there are.

    Returns:
        The number of labels that occur, and the reverse KL divergence of their shares from equal shares. An exact
        sampler's is not 0 but about (num_modes - 1) / (2 num_samples): 0.019 on stacked MNIST.

    Raises:
        ValueError: `labels` are no integers of that range in one dimension, or there are none.
        TypeError: `num_modes` is no integer, or `labels` are no numbers.

    Example:
        >>> label_coverage(torch.tensor([0, 0, 1, 1]), num_modes=4)      # KL: log 2
        LabelCoverage(num_modes=2, reverse_kl=0.693...)

    References:
        Metz et al. (2017), "Unrolled Generative Adversarial Networks"; Lin, Khetan, Fanti and Oh (2018), section 4.2.

    What the number can not tell:
        The classifier names a digit in every image: samples of no digit at all still cover modes. Nothing is said of
        variety within a label.
    """
    modes = positive_integer("num_modes", num_modes)
    labels = as_tensor("labels", labels)
    if labels.dim() != 1 or labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels must be integers with shape (num_samples,), but are {labels.dtype} with shape "
            f"{tuple(labels.shape)}. Take the classifier's argmax."
        )
    if not len(labels):
        raise ValueError("labels must hold at least one label, but are empty.")
    labels = labels.long()
    if labels.min() < 0 or labels.max() >= modes:
        raise ValueError(
            f"labels must lie from 0 to num_modes - 1 = {modes - 1}, but go from {int(labels.min())} to "
            f"{int(labels.max())}."
        )
    counts = labels.bincount(minlength=modes)
    return LabelCoverage(int((counts > 0).sum()), _kl_to_uniform(counts))


def precision_recall(real: Any, fake: Any, *, num_neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall: how much of the fakes is realistic, how much of the real is drawn.

    Args:
        real: Rows of the data, with shape `(num_real, *event_shape)`, a floating-point tensor or array.
        fake: The model's samples, with shape `(num_fake, *event_shape)`; best as many as real rows.
        num_neighbours: The k of the balls' radii; each set needs more rows.

    Returns:
        Both shares. Rows on the edge of a ball lie in it, so sets of one constant row each, the same, score 1.

    Raises:
        ValueError: Devices or event shapes differ, a set has no more than `num_neighbours` rows, or values are not
            finite numbers of floating point.
        TypeError: `num_neighbours` is no integer, or rows are no numbers.

    Example:
        >>> real, fake = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.5], [9.0], [9.5]])
        >>> precision_recall(real, fake, num_neighbours=1)      # 0.5 alone is realistic; its own ball reaches to 9
        PrecisionRecall(precision=0.333..., recall=1.0)

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), "Improved Precision and Recall Metric for Assessing
        Generative Models", equations 1 and 2 (on features of a network; here on what is given).

    What the number can not tell:
        A single outlier's ball can take in a whole set, as in the example: see :func:`density_coverage`. Exact models
        do not score 1 in general. Both change with the number of rows: compare at equal numbers. A model that
        repeats the training rows scores well.
    """
    count = positive_integer("num_neighbours", num_neighbours)
    matrices = matching_rows(real, fake, names=("real rows", "fake rows"), at_least=count + 1)
    (rows, fakes), _ = without_scale(*matrices)
    precision, recall = (
        torch.cat([inside.any(1) for inside in _inside(some, others, _radii(others, count))]).double().mean()
        for some, others in ((fakes, rows), (rows, fakes))
    )
    return PrecisionRecall(float(precision), float(recall))


def density_coverage(real: Any, fake: Any, *, num_neighbours: int = 5) -> DensityCoverage:
    """Density and coverage: fidelity and diversity that single outliers do not distort.

    Args:
        real: Rows of the data, with shape `(num_real, *event_shape)`, a floating-point tensor or array.
        fake: The model's samples, with shape `(num_fake, *event_shape)`.
        num_neighbours: The k of the real rows' balls; there must be more real rows.

    Returns:
        Both numbers. Of an exact model the density is 1 in the mean, and the coverage
        1 - C(num_real - 1, k) / C(num_real + num_fake - 1, k): about 0.969 for many rows, as many of each, and k = 5.
        Rows on the edge of a ball lie in it.

    Raises:
        ValueError: Devices or event shapes differ, there are no rows, no more real rows than `num_neighbours`, or
            values are not finite numbers of floating point.
        TypeError: `num_neighbours` is no integer, or rows are no numbers.

    Example:
        >>> real, fake = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.5], [0.6]])
        >>> density_coverage(real, fake, num_neighbours=1)      # both fakes in the balls of 0 and 1, none reaches 5's
        DensityCoverage(density=2.0, coverage=0.666...)

    References:
        Naeem, Oh, Uh, Choi and Yoo (2020), "Reliable Fidelity and Diversity Metrics for Generative Models", section 3;
        the authors' program leaves out the balls' edges.

    What the number can not tell:
        A model that repeats the training rows scores well against them: give held-out rows as real ones, and see
        :func:`~pyro_gan.criticism.memorization`. Euclidean distances of pixels are not likeness.
    """
    count = positive_integer("num_neighbours", num_neighbours)
    (rows, fakes), _ = without_scale(*matching_rows(real, fake, names=("real rows", "fake rows")))
    if count >= len(rows):
        raise ValueError(
            f"expected more real rows than num_neighbours, but there are {len(rows)} real rows and num_neighbours is "
            f"{count}. Lower it."
        )
    radii = _radii(rows, count)
    num_inside, reached = 0, torch.zeros_like(radii, dtype=torch.bool)
    for inside in _inside(fakes, rows, radii):
        num_inside += int(inside.sum())
        reached |= inside.any(0)
    return DensityCoverage(num_inside / (count * len(fakes)), float(reached.double().mean()))


def support_size(samples: Any, *, threshold: float) -> SupportSize:
    """Estimate how many different things a model draws, by the birthday paradox.

    Two samples are one thing again with the probability that two people share a birthday. Of N equally likely things
    it is 1 / N, so of n samples' n (n - 1) / 2 pairs that share is near-duplicates, and their count gives N back.

    Args:
        samples: Independent samples of the model, with shape `(num_samples, *event_shape)`, a floating-point tensor or
            array. It takes about as many as the square root of the number to be found.
        threshold: Samples at most this far apart are near-duplicates, in the data's units; 0 for exact repetitions.
            Draw pairs at about the distance and look at them; the smallest distance between two real rows,
            `nearest_rows(real, real, num_neighbours=2).distances[:, 1].min()`, is a place to begin.

    Returns:
        The estimate with its 95 % interval (of a Poisson count of near-duplicates), and the size of a batch that holds
        a near-duplicate as likely as not, by which the paper measures. Constant samples give an estimate of 1.

    Raises:
        ValueError: There are fewer than two samples, values are not finite numbers of floating point, or `threshold` is
            no number from 0 on.
        TypeError: Samples are no numbers.

    Example:
        >>> support_size(torch.tensor([[0.0], [0.1], [5.0], [7.0]]), threshold=0.2).estimate     # 1 of 6 pairs
        6.0

    References:
        Arora and Zhang (2017), "Do GANs Actually Learn the Distribution? An Empirical Study", who look for one
        near-duplicate in each of many batches, by eye; here all pairs count once, which wastes none.

    What the number can not tell:
        All depends on the threshold: a model of continuous rows has a number for each, so compare with that of as many
        real rows. Things that are not equally likely count as 1 / sum p^2 of them, which is at most their number: a
        model may draw many more, rarely, and the interval is then too narrow once most samples have near-duplicates.
        Nothing is said of whether they are any good, or of whether they are training rows.
    """
    from scipy.stats import chi2

    if not 0 <= as_float(threshold) < math.inf:
        raise ValueError(f"threshold must be a distance of 0 or more, but is {threshold!r}.")
    (rows, _), power = without_scale(*matching_rows(samples, samples, names=("samples", "samples")))
    if len(rows) < 2:
        raise ValueError(f"expected at least 2 samples, but there is {len(rows)}. Draw more.")
    radius = rows.new_tensor(times_power(as_float(threshold), -power))
    within = sum(int(inside.sum()) for inside in _inside(rows, rows, radius.expand(len(rows))))
    duplicates, pairs = (within - len(rows)) // 2, len(rows) * (len(rows) - 1) / 2
    fewest = float(chi2.ppf(0.025, 2 * duplicates)) / 2 if duplicates else 0.0
    most = float(chi2.ppf(0.975, 2 * duplicates + 2)) / 2
    estimate, upper = (pairs / count if count else math.inf for count in (duplicates, fewest))
    return SupportSize(estimate, pairs / most, upper, (1 + math.sqrt(1 + 8 * estimate * math.log(2))) / 2)


def _radii(rows: Tensor, num_neighbours: int) -> Tensor:
    """Each row's distance to its k-th nearest other row: itself, at distance 0, is one of the k + 1 nearest."""
    return nearest(rows, rows, num_neighbours + 1).distances[:, -1]


def _inside(rows: Tensor, centers: Tensor, radii: Tensor) -> Iterator[Tensor]:
    """Whether each row lies in each ball, with shape `(chunk, num_centers)`, some rows at a time.

    Products, whose squared distances are too small by up to their rounding, tell which rows are outside; differences
    decide on those so near to the edge that they may be.
    """
    radii, norms = double(radii), (double(centers) - center(centers)).norm(dim=1)
    rounding = 8 * ROUNDING * (radii.square() + norms.square())
    edges = radii * (1 + (4 + centers.shape[1]) * torch.finfo(radii.dtype).eps)  # by the rounding of two norms
    for chunk, squared in squared_distances(rows, centers):
        inside = squared <= radii.square()
        is_open = inside & (squared > radii.square() - rounding)
        if is_open.any():
            inside[is_open] = distances_of_pairs(chunk, centers, is_open) <= edges.expand_as(squared)[is_open]
        yield inside


def _kl_to_uniform(counts: Tensor) -> float:
    shares = counts.double() / counts.sum()
    return float(torch.special.xlogy(shares, shares * len(shares)).sum())


def _positive(name: str, value: Any) -> float:
    if not 0 < as_float(value) < math.inf:
        raise ValueError(f"{name} must be a positive number, but is {value!r}.")
    return as_float(value)
