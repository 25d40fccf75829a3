r"""Two-sample tests: do two sets of rows come from one distribution?

Maximum mean discrepancy and energy distance are one statistic of the rows' distances under two kernels k, a Gaussian
and the negative distance:

.. math:: E\,k(X, X') + E\,k(Y, Y') - 2\,E\,k(X, Y).

It is 0 for equal distributions and positive for different ones. Its p-value comes from permutations: where the
distributions are equal, which rows are called x does not matter, so the statistic ranks evenly among those of random
relabellings. The Kolmogorov-Smirnov test looks at one dimension after the other, the sliced Wasserstein distance at
random directions, and the classifier two-sample test asks how well a network tells the two apart.

All of them take rows that are independent of each other: neighbours of one Markov chain are not.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import is_real_number, positive_integer
from pyro_gan.criticism.distances import distances, products_are_exact_enough
from pyro_gan.criticism.kernels import bandwidths_of, extent, gaussian, kernel_sums, scaled_widths
from pyro_gan.criticism.rows import matching_rows
from pyro_gan.criticism.scales import center, double, in_units_of_data, times_power, unit_columns, without_scale

CHUNK_ENTRIES = 2**22
"""How many kernel values or projections are held at once: 32 MiB in double precision."""

LABEL_ENTRIES = 2**24
"""How many labels of rows are held at once, 128 MiB; the kernel matrix is computed anew for the next ones."""

MEDIAN_ROWS = 1000
"""How many rows the median heuristic looks at."""

DIRECT_SIZE = 32
"""The largest event whose distances come from differences; those of larger ones come, much faster, from products."""

FARTHEST = 1e9
"""The largest z-score that the classifier sees: squares of larger ones overflow single precision in its training."""


class TestResult(NamedTuple):
    """A test's statistic and its p-value."""

    statistic: float
    pvalue: float


TestResult.__test__ = False  # type: ignore[attr-defined]  # for pytest: it is no test case


class MarginalTestResult(NamedTuple):
    """The dimension that differs most, and all dimensions' statistics and corrected p-values."""

    statistic: float
    pvalue: float
    statistics: np.ndarray
    pvalues: np.ndarray


def mmd_test(
    x: Any, y: Any, *, bandwidth: float | Sequence[float] | None = None, num_permutations: int = 999
) -> TestResult:
    r"""The kernel two-sample test: maximum mean discrepancy under Gaussian kernels.

    The kernel is :math:`k(a, b) = \exp(-\|a - b\|^2 / (2 \sigma^2))`; with several bandwidths it is their kernels'
    mean. Pairs of a row with itself are left out, which makes the statistic unbiased: it may be negative.

    Args:
        x: Rows with shape `(num_rows, *event_shape)`, at least two, a floating-point tensor or array.
        y: Rows with shape `(other_num_rows, *event_shape)`, at least two.
        bandwidth: :math:`\sigma` in the data's units, or several; by default the median distance between two rows of
            both samples together, of at most 1000 rows drawn at random. Where more than half of the rows are equal and
            the median is 0, it is the mean distance, and 1 where all rows are equal.
        num_permutations: How many relabellings the p-value is ranked among. It is at least 1 / (num_permutations + 1).

    Returns:
        The squared discrepancy's unbiased estimate, at most 2, and the probability of one as large, from equal
        distributions.

    Raises:
        TypeError: `bandwidth` is no number and holds none, `num_permutations` is no integer, or rows are no numbers.
        ValueError: Devices or event shapes differ, a sample has fewer than two rows, values are not finite numbers of
            floating point, or `bandwidth` or `num_permutations` is not positive.

    Example:
        >>> x, y = torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([5.0, 5.1, 5.2, 5.3])
        >>> mmd_test(x, y, bandwidth=1.0).statistic
        1.967...

    What the number can not tell: how the distributions differ. A large p-value says that this kernel saw no difference
    in that many rows, not that there is none. In many dimensions the test loses its power, and the median heuristic
    overlooks what differs on a scale much finer than the whole: pass several bandwidths then.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), "A Kernel Two-Sample Test", lemma 6, and
        section 8 on the median heuristic; Phipson and Smyth (2010), "Permutation P-values Should Never Be Zero".
    """
    bandwidths = None if bandwidth is None else bandwidths_of(bandwidth)
    num_permutations = positive_integer("num_permutations", num_permutations)
    x, y, power = _scaled_rows(x, y)
    rows = torch.cat([x, y])
    bound = extent(rows)
    widths, excess = scaled_widths(bandwidths, power, bound) if bandwidths else ([_median_distance(rows)], 0)
    kernel, num_pairs = partial(gaussian, widths=widths, extent=bound), (len(x) * (len(x) - 1), len(y) * (len(y) - 1))
    statistic, pvalue = _permutation_test(x, y, kernel, num_pairs, num_permutations, min(widths))
    return TestResult(times_power(statistic, -2 * excess), pvalue)


def energy_test(x: Any, y: Any, *, num_permutations: int = 999) -> TestResult:
    r"""The energy test, which needs no bandwidth.

    The statistic is :math:`2 E\|X - Y\| - E\|X - X'\| - E\|Y - Y'\|`, each expectation the mean over all pairs of rows,
    a row and itself among them: it is never negative.

    Args:
        x: Rows with shape `(num_rows, *event_shape)`, at least two, a floating-point tensor or array.
        y: Rows with shape `(other_num_rows, *event_shape)`, at least two.
        num_permutations: How many relabellings the p-value is ranked among. It is at least 1 / (num_permutations + 1).

    Returns:
        The energy distance, in the data's units, and the probability of one as large, from equal distributions.

    Raises:
        TypeError: `num_permutations` is no integer, or rows are no numbers.
        ValueError: Devices or event shapes differ, a sample has fewer than two rows, values are not finite numbers of
            floating point, `num_permutations` is not positive, or the distance is larger than the largest number.

    Example:
        >>> energy_test(torch.zeros(4), torch.ones(4)).statistic
        2.0

    What the number can not tell: how the distributions differ. It depends on the units of each dimension, and sees
    shifts and changes of scale much better than changes of dependence.

    References:
        Székely and Rizzo (2013), "Energy Statistics: A Class of Statistics Based on Distances". Their test's statistic
        is this one times num_rows * other_num_rows / (num_rows + other_num_rows); the p-value is the same.
    """
    num_permutations = positive_integer("num_permutations", num_permutations)
    x, y, power = _scaled_rows(x, y)
    statistic, pvalue = _permutation_test(x, y, torch.neg, (len(x) ** 2, len(y) ** 2), num_permutations)
    return TestResult(in_units_of_data("the energy distance", statistic, power), pvalue)


def ks_test(x: Any, y: Any) -> MarginalTestResult:
    """The Kolmogorov-Smirnov test of each dimension, corrected for their number.

    The p-values are corrected by Holm's method: where the distributions are equal, the probability that any dimension's
    is below 0.05 is at most 0.05, however the dimensions depend on each other.

    Args:
        x: Rows with shape `(num_rows, *event_shape)`, at least two, a floating-point tensor or array.
        y: Rows with shape `(other_num_rows, *event_shape)`, at least two.

    Returns:
        The largest `statistic`, from 0 to 1, and its corrected `pvalue`, the smallest. `statistics` and `pvalues` are
        arrays with shape `(event_size,)`, a dimension each, of flattened events.

    Raises:
        TypeError: Rows are no numbers.
        ValueError: Devices or event shapes differ, a sample has fewer than two rows, or values are not finite numbers
            of floating point.

    Example:
        >>> ks_test(torch.zeros(5, 2), torch.tensor([[0.0, 1.0]] * 5)).pvalues   # exact: 2 of 252 orders, twice
        array([1.        , 0.01587302])

    What the number can not tell: anything about how dimensions depend on each other. Rows that repeat a few values,
    and many dimensions, make the test stricter than its level.

    References:
        SciPy's `scipy.stats.ks_2samp`; Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    from scipy.stats import ks_2samp

    x, y = _rows(x, y)
    # Doubles hold any row as it is; SciPy from 1.18 on gives p-values in the rows' own precision.
    columns = zip(x.T.cpu().double().numpy(), y.T.cpu().double().numpy(), strict=True)
    with warnings.catch_warnings():  # where the exact p-value fails, SciPy takes the asymptotic one
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        results = [ks_2samp(*column) for column in columns]
    statistics = np.array([result.statistic for result in results])
    pvalues = _holm(np.array([result.pvalue for result in results]))
    return MarginalTestResult(float(statistics.max()), float(pvalues.min()), statistics, pvalues)


def sliced_wasserstein(x: Any, y: Any, *, num_projections: int = 1000, p: Literal[1, 2] = 1) -> float:
    r"""The sliced Wasserstein distance: Wasserstein distances of projections on random directions.

    In one dimension the distance is known: :math:`W_p^p` is the integral of :math:`|F^{-1}(u) - G^{-1}(u)|^p` over the
    levels u. The samples' quantile functions are steps, so it is a finite sum, whatever the numbers of rows.

    Args:
        x: Rows with shape `(num_rows, *event_shape)`, at least two, a floating-point tensor or array.
        y: Rows with shape `(other_num_rows, *event_shape)`, at least two.
        num_projections: How many directions, uniform on the unit sphere.
        p: The mean of :math:`W_1` over the directions, or the root of the mean of :math:`W_2^2`.

    Returns:
        The distance, in the data's units, 0 for equal samples.

    Raises:
        TypeError: `num_projections` is no integer, or rows are no numbers.
        ValueError: Devices or event shapes differ, a sample has fewer than two rows, values are not finite numbers of
            floating point, `num_projections` is not positive, `p` is neither 1 nor 2, or the distance is larger than
            the largest number.

    Example:
        >>> sliced_wasserstein(torch.tensor([0.0, 4.0]), torch.tensor([1.0, 1.0, 5.0, 5.0]))    # moved by 1
        1.0

    What the number can not tell: whether it differs from 0 by more than chance. Two samples of one distribution are
    apart by the order of 1 / sqrt(num_rows); compare it with the distance between two halves of the data. A shift of
    length l in d dimensions counts about 0.8 l / sqrt(d) for p = 1.

    References:
        Rabin, Peyré, Delon and Bernot (2011), "Wasserstein Barycenter and Its Application to Texture Mixing"; Bonneel,
        Rabin, Peyré and Pfister (2015), "Sliced and Radon Wasserstein Barycenters of Measures".
    """
    num_projections = positive_integer("num_projections", num_projections)
    if not is_real_number(p) or p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, but is {p!r}.")
    x, y, power = _scaled_rows(x, y)
    middle = center(torch.cat([x, y]))  # what both samples have in common would cost the projections' digits
    x, y = x - middle, y - middle
    at_once = max(1, CHUNK_ENTRIES // max(len(x) + len(y), x.shape[1]))
    sizes = [min(at_once, num_projections - start) for start in range(0, num_projections, at_once)]
    directions = (
        torch.nn.functional.normalize(torch.randn(x.shape[1], size, dtype=x.dtype, device=x.device), dim=0)
        for size in sizes
    )
    total = sum(float(_wasserstein(x @ towards, y @ towards, p).sum()) for towards in directions)
    return in_units_of_data("the distance", (total / num_projections) ** (1 / p), power)


def c2st(x: Any, y: Any, *, seed: int | None = 1) -> float:
    """The classifier two-sample test: how often a network tells unseen rows of x and y apart.

    The definition of the simulation-based inference benchmark: both samples are z-scored by x's mean and standard
    deviation, a network with two layers of 10 * event_size rectifiers learns to tell them apart, and the mean accuracy
    over five shuffled cross-validation folds is the answer. A column that is constant in x is centered: at 0 in x,
    and in y too where it is the same constant; else the largest difference in y is brought to a number from 8 to 16.

    Args:
        x: The reference, with shape `(num_rows, *event_shape)`, at least five rows, a floating-point tensor or array.
        y: The rows to judge, with shape `(other_num_rows, *event_shape)`, at least five; as many as in x, if 0.5 is to
            mean that they can not be told apart.
        seed: The seed of the folds and of the network; the benchmark's is 1. `None` draws it from torch's generator.

    Returns:
        The accuracy, from 0 to 1, which is 0.5 for equal distributions and 1 for disjoint ones.

    Raises:
        TypeError: `seed` is no integer, or rows are no numbers.
        ValueError: Devices or event shapes differ, a sample has fewer than five rows, values are not finite numbers of
            floating point, or `seed` is not from 0 to 2**32 - 1.

    Example:
        >>> c2st(torch.arange(20.0), torch.arange(20.0) + 100)
        1.0

    What the number can not tell: a difference that this network can not learn from so many rows. Near 0.5 it is good
    to sqrt(1 / (8 * num_rows)) or so, one standard error, and a little below 0.5 where rows of x are repeated in y. It
    says that samples differ, not by how much: disjoint samples count 1, however near they are.

    References:
        Lueckmann, Boelts, Greenberg, Gonçalves and Macke (2021), "Benchmarking Simulation-Based Inference", and
        its program `sbibm.metrics.c2st`; Lopez-Paz and Oquab (2017), "Revisiting Classifier Two-Sample Tests".
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    seed = _seed(seed)
    x, y = _rows(x, y, at_least=5)
    rows = torch.cat(_z_scored(*unit_columns(x.cpu(), y.cpu()))).numpy()
    labels = np.repeat([0, 1], [len(x), len(y)])
    classifier = MLPClassifier((10 * x.shape[1],) * 2, solver="adam", max_iter=1000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(cross_val_score(classifier, rows, labels, cv=folds, scoring="accuracy").mean())


def _rows(x: Any, y: Any, at_least: int = 2) -> tuple[Tensor, Tensor]:
    return matching_rows(x, y, names=("rows of x", "rows of y"), at_least=at_least)


def _scaled_rows(x: Any, y: Any) -> tuple[Tensor, Tensor, int]:
    """Rows over `2**power`, and `power`, in double precision: the statistics are small differences of large sums."""
    (x, y), power = without_scale(*(double(rows) for rows in _rows(x, y)))
    return x, y, power


def _median_distance(rows: Tensor) -> float:
    """The median distance between two of some of the rows, or something positive in its place."""
    rows = rows[torch.randperm(len(rows), device=rows.device)[:MEDIAN_ROWS]] if len(rows) > MEDIAN_ROWS else rows
    pairs = torch.ones(len(rows), len(rows), dtype=torch.bool, device=rows.device).triu(1)
    centered = rows - center(rows)
    values = distances(centered, centered, rows.shape[1] > DIRECT_SIZE)[pairs]
    if not products_are_exact_enough(centered, width=float(values.quantile(0.5))):
        values = distances(rows, rows, from_products=False)[pairs]  # a median of rounding, of equal rows, is not 0
    return next(width for width in (float(values.quantile(0.5)), float(values.mean()), 1.0) if width > 0)


def _permutation_test(
    x: Tensor,
    y: Tensor,
    kernel: Callable[[Tensor], Tensor],
    num_pairs: tuple[int, int],
    num_permutations: int,
    width: float = math.inf,
) -> tuple[float, float]:
    """The statistic, and by its rank among those of random relabellings its p-value.

    Args:
        x: Scaled rows with shape `(num_rows, event_size)`.
        y: Rows with shape `(other_num_rows, event_size)`.
        kernel: From distances to similarities of the same shape.
        num_pairs: By what the sums over pairs within x and within y are divided.
        num_permutations: The number of relabellings.
        width: The smallest difference of distances that the kernel sees.
    """
    rows = torch.cat([x, y])
    centered = rows - center(rows)  # distances from products lose the fewest digits around the origin
    from_products = rows.shape[1] > DIRECT_SIZE and products_are_exact_enough(centered, width=width)
    rows = centered if from_products else rows
    statistics, scale, at_once = [], 0.0, max(1, CHUNK_ENTRIES // len(rows))
    for labels in _labels(len(x), rows, num_permutations):
        within_x, touching_x, total = kernel_sums(rows, labels, kernel, from_products, at_once)
        within_y, across = total - 2 * touching_x + within_x, touching_x - within_x
        statistics.append(within_x / num_pairs[0] + within_y / num_pairs[1] - 2 * across / (len(x) * len(y)))
        scale = abs(float(total)) / (len(x) * len(y))
    observed, *permuted = torch.cat(statistics).tolist()
    tie = 1000 * torch.finfo(rows.dtype).eps * scale  # equal partitions, summed in another order
    num_larger = sum(statistic >= observed - tie for statistic in permuted)
    return observed, (1 + num_larger) / (1 + num_permutations)


def _labels(num_x: int, rows: Tensor, num_permutations: int) -> Iterator[Tensor]:
    """Which rows are called x: 1 or 0, a relabelling a line, the first of them the truth; as many as fit at once."""
    identity = torch.arange(len(rows), device=rows.device)
    orders = chain([identity], (torch.randperm(len(rows), device=rows.device) for _ in range(num_permutations)))
    are_x = (order < num_x for order in orders)
    while lines := list(islice(are_x, max(1, LABEL_ENTRIES // len(rows)))):
        yield torch.stack(lines).to(rows.dtype)


def _holm(pvalues: np.ndarray) -> np.ndarray:
    """Holm's corrected p-values."""
    order = np.argsort(pvalues)
    steps = pvalues[order] * np.arange(len(pvalues), 0, -1)
    corrected = np.empty_like(pvalues)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def _wasserstein(x: Tensor, y: Tensor, p: int) -> Tensor:
    """The p-th power of the Wasserstein distance of each column of x from that of y."""
    num_x, num_y = len(x), len(y)
    steps = [torch.arange(num_x, device=x.device) * num_y, torch.arange(num_y, device=x.device) * num_x]
    levels = torch.cat(steps).unique()  # where a quantile function steps, in units of 1 / (num_x * num_y)
    widths = torch.cat([levels, levels.new_tensor([num_x * num_y])]).diff().to(x.dtype) / (num_x * num_y)
    differences = x.sort(0).values[levels // num_y] - y.sort(0).values[levels // num_x]
    return widths @ differences.abs_().pow_(p)


def _seed(seed: Any) -> int:
    if seed is None:
        return int(torch.randint(2**31, ()))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be an integer or None, but is {seed!r} ({type(seed).__name__}).")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, but is {seed!r}.")
    return int(seed)


def _z_scored(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Both by the mean and standard deviation of x; what is too far out for a network counts as `FARTHEST`."""
    deviation = x.std(0)
    is_constant = (x == x[0]).all(0) | (deviation == 0)  # equal numbers' may be off 0 by rounding, tiny ones' be 0
    center = torch.where(is_constant, x[0], x.mean(0))
    scale = torch.where(is_constant, torch.ones_like(deviation), deviation)
    return tuple(((rows - center) / scale).clamp(-FARTHEST, FARTHEST) for rows in (x, y))
