import itertools
import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from pyro_gan.criticism import two_sample
from pyro_gan.criticism.rows import matching_rows
from pyro_gan.criticism.two_sample import TestResult, c2st, energy_test, ks_test, mmd_test, sliced_wasserstein

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def samples(num_x, num_y, dim):
    """Two different samples, one of whose rows is in both."""
    x, y = normal(num_x, dim), 1.5 * normal(num_y, dim) + 0.3
    y[0] = x[0]
    return x, y


def naive_mmd(x, y, bandwidths):
    def kernel(a, b):
        squared = sum((float(s) - float(t)) ** 2 for s, t in zip(a, b, strict=True))
        return sum(math.exp(-squared / (2 * width**2)) for width in bandwidths) / len(bandwidths)

    within = [
        sum(kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j)
        / (len(rows) * (len(rows) - 1))
        for rows in (x, y)
    ]
    return sum(within) - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


def naive_energy(x, y):
    def mean_distance(rows, others):
        return sum(math.dist(a.tolist(), b.tolist()) for a in rows for b in others) / (len(rows) * len(others))

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


# Statistics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [0.7, [0.3, 1.0, 5.0]])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_the_discrepancy_equals_a_naive_double_loop(dim, bandwidth):
    x, y = samples(13, 9, dim)
    widths = [bandwidth] if isinstance(bandwidth, float) else bandwidth
    expected = naive_mmd(x, y, widths)
    assert mmd_test(x, y, bandwidth=bandwidth, num_permutations=1).statistic == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("dim", [1, 3, 32])
def test_the_energy_distance_equals_a_naive_double_loop(dim):
    x, y = samples(13, 9, dim)
    assert energy_test(x, y, num_permutations=1).statistic == pytest.approx(naive_energy(x, y), abs=1e-10)


def test_distances_of_large_events_come_from_products():
    x, y = normal(13, 40), 1.5 * normal(9, 40) + 0.3
    assert energy_test(x, y, num_permutations=1).statistic == pytest.approx(naive_energy(x, y), abs=1e-10)
    assert energy_test(x + 1e6, y + 1e6, num_permutations=1).statistic == pytest.approx(naive_energy(x, y), abs=1e-8)
    y[0] = x[0]  # of equal rows they leave the root of the rounding error
    assert energy_test(x, y, num_permutations=1).statistic == pytest.approx(naive_energy(x, y), abs=1e-8)


def test_the_energy_distance_is_the_square_of_scipys_in_one_dimension():
    x, y = samples(50, 70, 1)
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_test(x, y, num_permutations=1).statistic == pytest.approx(expected, abs=1e-12)


def test_the_bandwidth_is_the_median_distance():
    x, y = samples(40, 31, 3)
    width = float(np.median(pdist(torch.cat([x, y]))))
    kernel = rbf_kernel(torch.cat([x, y]), gamma=1 / (2 * width**2))
    np.fill_diagonal(kernel, 0)
    expected = kernel[:40, :40].sum() / (40 * 39) + kernel[40:, 40:].sum() / (31 * 30) - 2 * kernel[:40, 40:].mean()
    assert mmd_test(x, y, num_permutations=1).statistic == pytest.approx(expected, abs=1e-12)


def test_the_median_of_many_rows_is_that_of_some():
    rows = normal(3000, 2)
    expected = float(np.median(pdist(rows)))
    assert two_sample._median_distance(rows) == pytest.approx(expected, rel=0.05)
    assert two_sample._median_distance(rows) != two_sample._median_distance(rows)


def test_where_the_median_is_0_the_bandwidth_is_the_mean_distance():
    x, y = torch.zeros(10, 1), torch.zeros(10, 1)
    y[0] = 0.5  # away from 19 rows: in 19 of the 190 pairs
    expected = naive_mmd(x, y, [0.05])
    assert mmd_test(x, y, num_permutations=1).statistic == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("test", [mmd_test, energy_test])
def test_the_statistics_do_not_depend_on_shift_order_or_precision(test):
    x, y = samples(40, 30, 3)
    expected = test(x, y, num_permutations=1).statistic
    assert test(y, x, num_permutations=1).statistic == pytest.approx(expected, abs=1e-12)
    assert test(x.flip(0) + 1000, y + 1000, num_permutations=1).statistic == pytest.approx(expected, abs=1e-9)
    assert test(x.float(), y, num_permutations=1).statistic == pytest.approx(expected, abs=1e-6)
    assert test(x.numpy()[::-1], y.tolist(), num_permutations=1).statistic == pytest.approx(expected, abs=1e-6)
    assert test(x.reshape(40, 1, 3), y.reshape(30, 1, 3), num_permutations=1).statistic == expected
    assert test(x.requires_grad_(), y, num_permutations=1).statistic == expected


def test_the_discrepancy_is_unbiased():
    # Of two standard normal samples in one dimension the expectation is 0; the biased estimate's is about 0.08.
    estimates = torch.tensor(
        [mmd_test(normal(10), normal(10), bandwidth=1.0, num_permutations=1)[0] for _ in range(900)]
    )
    assert abs(float(estimates.mean())) < 3 * float(estimates.std()) / 30 < 0.01


def test_the_discrepancy_of_normals_has_a_closed_form():
    # E k(X, Y) is the density at the means' distance of a normal of variance 2 + s**2, times sqrt(2 pi) s.
    shift, width = 1.0, 0.8
    scale = width / math.sqrt(2 + width**2)
    expected = 2 * scale * (1 - math.exp(-(shift**2) / (2 * (2 + width**2))))
    estimate = mmd_test(normal(2000), normal(2000) + shift, bandwidth=width, num_permutations=1).statistic
    assert estimate == pytest.approx(expected, rel=0.1)


# p-values ------------------------------------------------------------------------------------------------------------

TESTS = {
    "mmd": lambda x, y, num_permutations: mmd_test(x, y, bandwidth=0.8, num_permutations=num_permutations),
    "energy": lambda x, y, num_permutations: energy_test(x, y, num_permutations=num_permutations),
}
NAIVE = {"mmd": lambda x, y: naive_mmd(x, y, [0.8]), "energy": naive_energy}


@pytest.mark.parametrize(("num_x", "num_y"), [(3, 3), (4, 7), (8, 5)])
@pytest.mark.parametrize("name", TESTS)
def test_pvalues_equal_a_naive_loop_over_the_same_permutations(name, num_x, num_y):
    x, y = samples(num_x, num_y, 2)
    rows = torch.cat([x, y])
    pyro.set_rng_seed(7)
    result = TESTS[name](x, y, 100)
    pyro.set_rng_seed(7)
    relabellings = [torch.randperm(num_x + num_y) < num_x for _ in range(100)]
    observed = NAIVE[name](x, y)
    num_larger = sum(NAIVE[name](rows[is_x], rows[~is_x]) >= observed - 1e-12 for is_x in relabellings)
    assert 0 < num_larger < 100
    assert result.pvalue == (1 + num_larger) / 101


@pytest.mark.parametrize("name", TESTS)
def test_pvalues_come_to_those_of_all_partitions(name):
    x, y = normal(4, 2), normal(4, 2) + 0.8
    rows = torch.cat([x, y])
    partitions = [torch.isin(torch.arange(8), torch.tensor(first)) for first in itertools.combinations(range(8), 4)]
    statistics = [NAIVE[name](rows[is_x], rows[~is_x]) for is_x in partitions]
    exact = float(np.mean([statistic >= NAIVE[name](x, y) - 1e-12 for statistic in statistics]))
    assert 0.02 < exact < 0.5
    assert TESTS[name](x, y, 5000).pvalue == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 5000))


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_chunks_change_nothing(test, monkeypatch):
    x, y = samples(23, 18, 3)
    pyro.set_rng_seed(3)
    expected = test(x, y, 100)
    monkeypatch.setattr(two_sample, "CHUNK_ENTRIES", 7 * 41)
    monkeypatch.setattr(two_sample, "LABEL_ENTRIES", 9 * 41)
    pyro.set_rng_seed(3)
    result = test(x, y, 100)
    assert result.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert result.pvalue == expected.pvalue


def test_results_are_named_pairs():
    result = energy_test(normal(10), normal(10) + 5, num_permutations=99)
    statistic, pvalue = result
    assert isinstance(result, TestResult)
    assert (statistic, pvalue) == (result.statistic, result.pvalue)
    assert result.pvalue == 0.01
    assert type(result.statistic) is type(result.pvalue) is float


def test_the_same_seed_gives_the_same_result():
    x, y = normal(1200, 2), normal(30, 2)
    for function in (mmd_test, energy_test, sliced_wasserstein):
        pyro.set_rng_seed(1)
        first = function(x, y)
        pyro.set_rng_seed(1)
        assert function(x, y) == first


# Level and power -----------------------------------------------------------------------------------------------------


def rejections(name, draw, num_repetitions):
    """How often a test, with a bandwidth of its own choice, rejects at 0.05."""
    test = {"mmd": mmd_test, "energy": energy_test, "ks": ks_test}[name]
    options = {} if name == "ks" else {"num_permutations": 199}
    return sum(test(*draw(), **options).pvalue <= 0.05 for _ in range(num_repetitions)) / num_repetitions


def exact_ks_level(num_rows, dim):
    """The probability that the corrected test rejects at 0.05, in independent dimensions without ties."""
    same = np.arange(num_rows, dtype=float)
    moved = [stats.ks_2samp(same, same + k - 0.5, method="exact").pvalue for k in range(1, num_rows)]
    return 1 - (1 - max(p for p in moved if p <= 0.05 / dim)) ** dim


@pytest.mark.parametrize("dim", [1, 10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["mmd", "energy", "ks"])
def test_the_level_is_kept(name, dim):
    num_rows, num_repetitions = 40, 400
    level = exact_ks_level(num_rows, dim) if name == "ks" else 0.05
    assert 0.01 < level <= 0.05
    rate = rejections(name, lambda: (normal(num_rows, dim), normal(num_rows, dim)), num_repetitions)
    assert rate == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / num_repetitions))


def dependent(correlation):
    first, second = normal(2, 200)
    return torch.stack([first, correlation * first + math.sqrt(1 - correlation**2) * second], 1)


ALTERNATIVES = {
    "mean": lambda: (normal(100, 2), normal(100, 2) + 0.7),
    "scale": lambda: (normal(150, 2), 2 * normal(150, 2)),
    "dependence": lambda: (dependent(0.0), dependent(0.85)),
}


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("name", ["mmd", "energy", "ks"])
def test_differences_are_seen(name, alternative):
    power = rejections(name, ALTERNATIVES[alternative], 50)
    if (name, alternative) == ("ks", "dependence"):
        assert power < 0.15  # no margin differs: no more than its level, and three standard errors
    else:
        assert power > 0.9


# Kolmogorov-Smirnov --------------------------------------------------------------------------------------------------


def test_ks_is_scipys_by_dimension_with_holms_correction():
    x, y = normal(60, 2, 2), normal(50, 2, 2) + torch.tensor([[0.0, 0.3], [0.6, 0.9]])
    single = [stats.ks_2samp(x[:, i, j], y[:, i, j]) for i in (0, 1) for j in (0, 1)]
    result = ks_test(x, y)
    assert result.statistics.tolist() == [each.statistic for each in single]
    raw = [each.pvalue for each in single]
    for index, pvalue in enumerate(raw):  # Holm's: the largest of the corrected ones among those as small
        ranks = {p: sum(other >= p for other in raw) for p in raw}
        assert result.pvalues[index] == pytest.approx(min(1, max(p * ranks[p] for p in raw if p <= pvalue)))
    assert result.pvalue == result.pvalues.min() == pytest.approx(4 * min(raw))
    assert result.statistic == result.statistics.max()


def test_holms_correction_worked_by_hand():
    assert two_sample._holm(np.array([0.04, 0.01, 0.03])).tolist() == [0.06, 0.03, 0.06]
    assert two_sample._holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


# Sliced Wasserstein --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_x", "num_y"), [(50, 50), (37, 64), (60, 20), (2, 7)])
def test_in_one_dimension_it_is_scipys_wasserstein_distance(num_x, num_y):
    x, y = samples(num_x, num_y, 1)
    expected = stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, num_projections=5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_unequal_sizes_are_as_repeated_rows(p):
    x, y = samples(6, 4, 1)
    repeated = x.repeat(2, 1).sort(0).values - y.repeat(3, 1).sort(0).values
    expected = float(repeated.abs().pow(p).mean()) ** (1 / p)
    assert sliced_wasserstein(x, y, num_projections=1, p=p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dim", [2, 10])
@pytest.mark.parametrize("p", [1, 2])
def test_the_distance_of_a_shift_has_a_closed_form(p, dim):
    # On a unit vector the shift projects to its length times a coordinate, whose square's mean is 1 / dim and whose
    # absolute value's is the one below.
    x, shift = normal(20, dim), normal(dim)
    mean_absolute = math.exp(math.lgamma(dim / 2) - math.lgamma((dim + 1) / 2)) / math.sqrt(math.pi)
    expected = float(shift.norm()) * (mean_absolute if p == 1 else dim**-0.5)
    assert sliced_wasserstein(x, x + shift, num_projections=20_000, p=p) == pytest.approx(expected, rel=0.02)
    gaussians = sliced_wasserstein(normal(2000, dim), normal(1500, dim) + shift, num_projections=2000, p=p)
    assert gaussians == pytest.approx(expected, rel=0.1)


def test_the_distance_of_scaled_gaussians_has_a_closed_form():
    # In every direction W_2 of N(0, 1) and N(0, 9) is 2, and W_1 is 2 E|Z|.
    x, y = normal(20_000, 5), 3 * normal(10_000, 5)
    assert sliced_wasserstein(x, y, num_projections=50, p=2) == pytest.approx(2, rel=0.02)
    assert sliced_wasserstein(x, y, num_projections=50) == pytest.approx(2 * math.sqrt(2 / math.pi), rel=0.02)


@pytest.mark.parametrize("p", [1, 2])
def test_projections_in_chunks_give_the_same(p, monkeypatch):
    x, y = samples(13, 9, 1)
    expected = sliced_wasserstein(x, y, num_projections=10, p=p)
    monkeypatch.setattr(two_sample, "CHUNK_ENTRIES", 3 * 22)
    assert sliced_wasserstein(x, y, num_projections=10, p=p) == pytest.approx(expected, abs=1e-12)


def test_equal_samples_are_at_distance_0():
    x = normal(30, 4)
    assert sliced_wasserstein(x, x[torch.randperm(30)]) == pytest.approx(0, abs=1e-14)
    assert sliced_wasserstein(x.float().requires_grad_(), x.float().numpy()) == pytest.approx(0, abs=1e-14)


# The classifier ------------------------------------------------------------------------------------------------------


def reference_c2st(x, y, seed=1):
    """The benchmark's definition once more, from NumPy arrays and with the z-score as a step of a pipeline."""
    dim, mean, deviation = x.shape[1], x.mean(0), x.std(0, ddof=1)
    network = MLPClassifier(
        hidden_layer_sizes=(10 * dim, 10 * dim), activation="relu", solver="adam", max_iter=1000, random_state=seed
    )
    pipeline = make_pipeline(FunctionTransformer(lambda rows: (rows - mean) / deviation), network)
    labels = np.concatenate([np.zeros(len(x)), np.ones(len(y))])
    folds = KFold(n_splits=5, shuffle=True, random_state=seed)
    return cross_val_score(pipeline, np.concatenate([x, y]), labels, cv=folds, scoring="accuracy").mean()


@pytest.mark.parametrize(
    ("shift", "scale", "dim", "num_y", "seed"), [(0.0, 1.0, 3, 50, 1), (0.7, 1.0, 2, 100, 1), (0.0, 3.0, 2, 80, 5)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_c2st_agrees_with_an_independent_implementation(shift, scale, dim, num_y, seed):
    x, y = 5 + 2 * normal(80, dim), 5 + 2 * (shift + scale * normal(num_y, dim))
    assert c2st(x, y, seed=seed) == pytest.approx(reference_c2st(x.numpy(), y.numpy(), seed), abs=1e-12)


def test_c2st_tells_equal_from_disjoint_samples():
    x, y = torch.randn(2, 1000, 2)
    assert c2st(x, y) == pytest.approx(0.5, abs=0.03)
    assert c2st(x[:100], y[:100] + 10) == 1.0
    assert c2st(x[:300], y[:300] + 1) > 0.65


def test_c2st_hides_that_training_stopped_early():
    x, y = normal(5, 1), normal(5, 1)
    with pytest.warns(ConvergenceWarning):
        expected = reference_c2st(x.numpy(), y.numpy())
    assert c2st(x, y) == pytest.approx(expected, abs=1e-12)  # a warning would be an error here


def test_c2st_takes_its_randomness_from_torch_where_it_has_no_seed():
    x, y = normal(10, 1), normal(10, 1)
    pyro.set_rng_seed(4)
    state = pyro.util.get_rng_state()["numpy"][1].copy()
    first = [c2st(x, y, seed=None) for _ in range(5)]
    assert len(set(first)) > 1  # two of them may well agree
    assert (pyro.util.get_rng_state()["numpy"][1] == state).all()
    pyro.set_rng_seed(4)
    assert [c2st(x, y, seed=None) for _ in range(5)] == first


def test_c2st_takes_few_rows_of_any_kind_and_scale():
    x, y = torch.randn(2, 5, 2, 2)
    assert 0 <= c2st(x.requires_grad_(), y.double().numpy()) <= 1
    assert c2st(torch.randn(20, 1) * 1e-30, torch.randn(20, 1) * 1e8) == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert c2st(torch.randn(5, 2), torch.randn(25, 2), seed=14233) > 0.5  # a fold holds all rows of x


# Constant columns and equal rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_rows_that_are_all_equal_do_not_differ(value):
    x, y = torch.full((12, 3), value), torch.full((15, 3), value)
    assert mmd_test(x, y, num_permutations=20) == (pytest.approx(0, abs=1e-15), 1.0)
    assert energy_test(x, y, num_permutations=20) == (0.0, 1.0)
    assert ks_test(x, y)[:2] == (0.0, 1.0)
    assert sliced_wasserstein(x, y) == pytest.approx(0, abs=1e-15)
    assert 0.3 < c2st(x, x) < 0.7


def test_different_constants_differ():
    x, y = torch.full((20, 2), 0.1), torch.full((20, 2), 0.2)
    assert mmd_test(x, y).pvalue == energy_test(x, y).pvalue == 0.001
    assert ks_test(x, y).statistics.tolist() == [1.0, 1.0]
    assert c2st(x, y + 1) == 1.0


def test_a_constant_column_changes_nothing():
    x, y = normal(30, 2), normal(30, 2) + 0.5
    wider_x, wider_y = (torch.cat([rows, torch.full((30, 1), 0.1)], 1) for rows in (x, y))
    assert mmd_test(wider_x, wider_y, num_permutations=1)[0] == pytest.approx(mmd_test(x, y, num_permutations=1)[0])
    assert energy_test(wider_x, wider_y, num_permutations=1)[0] == pytest.approx(
        energy_test(x, y, num_permutations=1)[0]
    )
    assert ks_test(wider_x, wider_y).pvalues[2] == 1.0
    for rows in two_sample._z_scored(wider_x, wider_y):
        assert not rows[:, 2].any()


def test_a_column_that_is_constant_in_x_alone_is_centered():
    x, y = torch.full((20, 1), 0.1), 0.1 + torch.linspace(1, 2, 20)[:, None]
    torch.testing.assert_close(two_sample._z_scored(x, y), (torch.zeros(20, 1), y - 0.1))
    x = torch.tensor([[-1e-200], [0.0], [1e-200]], dtype=torch.float64)  # whose squares, and deviation, are 0
    torch.testing.assert_close(two_sample._z_scored(x, y.double()), (x, y.double()))
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    assert two_sample._z_scored(x, 1e30 * y)[1].unique().tolist() == [two_sample.FARTHEST]


# Bad input -----------------------------------------------------------------------------------------------------------

X, Y = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0))
FUNCTIONS = [mmd_test, energy_test, ks_test, sliced_wasserstein, c2st]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:, :2], r"rows of x have shape \(20, 3\) and rows of y \(20, 2\): expected \(num_rows, \*event_shape\)"),
        (X, torch.tensor(1.0), r"rows of x have shape \(20, 3\) and rows of y \(\)"),
        (X[:, :0], Y[:, :0], r"rows of y \(20, 0\): expected at least one entry a row"),
        (X[:1], Y, "expected at least . rows in both, but there are 1 rows of x and 20 rows of y"),
        (X, Y[:0], "expected at least . rows in both, but there are 20 rows of x and 0 rows of y"),
        (X, Y * math.nan, "rows of y hold NaN or infinity. Remove such rows first"),
        (X / 0, Y, "rows of x hold NaN or infinity"),
        (X, Y.int(), "rows of y are of type torch.int32, but expected floating point. Scale them first"),
        (np.arange(60).reshape(20, 3), Y, "rows of x are of type torch.int64, but expected floating point"),
        (X, Y.to("meta"), "rows of x are on the device cpu and rows of y on meta: expected one device. Move one with"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_rows_are_refused(function, x, y, message):
    with pytest.raises(ValueError, match=message):
        function(x, y)


def test_the_fewest_rows():
    assert 0 < mmd_test(X[:2], Y[:2]).pvalue <= 1
    assert 0 < energy_test(X[:2], Y[:2]).pvalue <= 1
    assert 0 < ks_test(X[:2], Y[:2]).pvalue <= 1
    assert sliced_wasserstein(X[:2], Y[:2]) > 0
    with pytest.raises(
        ValueError, match="expected at least 5 rows in both, but there are 20 rows of x and 4 rows of y"
    ):
        c2st(X, Y[:4])


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (mmd_test, {"num_permutations": 0}, ValueError, "num_permutations must be a positive integer, but is 0"),
        (energy_test, {"num_permutations": 0}, ValueError, "num_permutations must be a positive integer, but is 0"),
        (energy_test, {"num_permutations": 9.5}, TypeError, r"num_permutations must be a positive integer, but is 9.5"),
        (mmd_test, {"bandwidth": -1.0}, ValueError, "bandwidth must be a positive number, .*, but is -1.0"),
        (mmd_test, {"bandwidth": [1.0, 0.0]}, ValueError, r"or a sequence of such, but is \[1.0, 0.0\]"),
        (mmd_test, {"bandwidth": []}, ValueError, r"bandwidth must be a positive number, .*, but is \[\]"),
        (mmd_test, {"bandwidth": math.inf}, ValueError, "bandwidth must be a positive number, .*, but is inf"),
        (mmd_test, {"bandwidth": math.nan}, ValueError, "bandwidth must be a positive number, .*, but is nan"),
        (mmd_test, {"bandwidth": "wide"}, TypeError, "bandwidth must be a number or a sequence .*, but is 'wide'"),
        (
            sliced_wasserstein,
            {"num_projections": 0},
            ValueError,
            "num_projections must be a positive integer, but is 0",
        ),
        (sliced_wasserstein, {"p": 3}, ValueError, "p must be 1 or 2, but is 3"),
        (c2st, {"seed": -1}, ValueError, r"seed must be from 0 to 2\*\*32 - 1, but is -1"),
        (c2st, {"seed": 0.5}, TypeError, r"seed must be an integer or None, but is 0.5 \(float\)"),
    ],
)
def test_bad_options_are_refused(function, options, error, message):
    with pytest.raises(error, match=message):
        function(X, Y, **options)


@pytest.mark.parametrize("bandwidth", [2, np.float32(2), torch.tensor(2.0), (2.0,), np.array([2.0, 2.0])])
def test_bandwidths_may_be_any_numbers(bandwidth):
    expected = mmd_test(X, Y, bandwidth=2.0, num_permutations=1).statistic
    assert mmd_test(X, Y, bandwidth=bandwidth, num_permutations=1).statistic == pytest.approx(expected, abs=1e-15)


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: np.asfortranarray(rows),
        lambda rows: rows.astype(">f8"),
        lambda rows: torch.tensor(rows, requires_grad=True),
        lambda rows: rows.tolist(),
    ],
)
def test_rows_may_be_arrays_of_any_layout(convert):
    rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    first, second = matching_rows(convert(rows), rows, names=("first rows", "second rows"))
    assert first.dtype == second.dtype == torch.float64
    assert first.tolist() == second.tolist() == rows.tolist()
    assert not first.requires_grad


def test_rows_that_can_not_be_written_to_are_taken_without_a_warning():
    rows = np.broadcast_to(np.float32(1), (3, 2, 2))
    first, second = matching_rows(rows, torch.ones(5, 2, 2, dtype=torch.float16), names=("first rows", "second rows"))
    assert first.shape == (3, 4)
    assert second.shape == (5, 4)
    assert first.dtype == second.dtype == torch.float32


# Devices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_results_are_the_same_on_every_device(device):
    x, y = torch.randn(60, 3), torch.randn(50, 3) + 1
    there = x.to(device), y.to(device)
    assert mmd_test(*there).statistic == pytest.approx(mmd_test(x, y).statistic, abs=1e-5)
    assert mmd_test(*there).pvalue == 0.001
    assert energy_test(*there).statistic == pytest.approx(energy_test(x, y).statistic, abs=1e-5)
    assert ks_test(*there).pvalues.tolist() == ks_test(x, y).pvalues.tolist()
    assert sliced_wasserstein(*there) == pytest.approx(sliced_wasserstein(x, y), rel=0.05)
    assert c2st(*there) > 0.6
