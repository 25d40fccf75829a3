"""Criticism of numbers of any size: the same as of numbers about 1, in their unit, or an error that says what to do."""

import math
import sys

import numpy as np
import pyro
import pytest
import torch

from pyro_gan.criticism import (
    c2st,
    calibration_ranks,
    calibration_test,
    compare,
    density_coverage,
    energy_test,
    expected_coverage,
    ks_test,
    label_coverage,
    memorization,
    mmd_test,
    mode_coverage,
    nearest_rows,
    parzen_log_likelihood,
    precision_recall,
    scales,
    select_bandwidth,
    sliced_wasserstein,
    support_size,
    two_sample,
)
from pyro_gan.criticism.distances import distances_of_pairs
from pyro_gan.criticism.rows import matching_rows

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR)


X, Y, Z = normal(24, 3), 1.3 * normal(20, 3) + 0.5, normal(22, 3)
WIDE = normal(24, 40), 1.3 * normal(20, 40) + 0.3, normal(22, 40)  # of which distances come from products
PRIOR, DRAWS = normal(30, 2), normal(30, 12, 2)
LOG_ROOT = math.log(2 * math.pi) / 2


def seeded(function, *arguments, **options):
    pyro.set_rng_seed(3)
    return function(*arguments, **options)


def flat(result):
    """The numbers of a result, whatever holds them."""
    if isinstance(result, torch.Tensor | np.ndarray):
        return np.asarray(result, dtype=float).reshape(-1)
    return np.concatenate([flat(part) for part in result]) if isinstance(result, tuple) else np.array([float(result)])


# The same data in other units ----------------------------------------------------------------------------------------

# A function of rows x, y and z and of a length in their unit, and which of its results have the rows' unit.
MEASURES = {
    "mmd": (lambda x, y, z, width: mmd_test(x, y, num_permutations=99), [0, 0]),
    "mmd, one bandwidth": (lambda x, y, z, width: mmd_test(x, y, bandwidth=width, num_permutations=99), [0, 0]),
    "mmd, two": (lambda x, y, z, width: mmd_test(x, y, bandwidth=[width / 3, 2 * width], num_permutations=99), [0, 0]),
    "energy": (lambda x, y, z, width: energy_test(x, y, num_permutations=99), [1, 0]),
    "ks": (lambda x, y, z, width: ks_test(x, y), [0]),
    "wasserstein 1": (lambda x, y, z, width: sliced_wasserstein(x, y, num_projections=20), [1]),
    "wasserstein 2": (lambda x, y, z, width: sliced_wasserstein(x, y, num_projections=20, p=2), [1]),
    "distances": (lambda x, y, z, width: nearest_rows(x, y, num_neighbours=3).distances, [1]),
    "indices": (lambda x, y, z, width: nearest_rows(x, y, num_neighbours=3).indices, [0]),
    "memorization": (lambda x, y, z, width: memorization(x, y, z), [1, 1, 0, 0]),
    "precision and recall": (lambda x, y, z, width: precision_recall(x, y), [0]),
    "density and coverage": (lambda x, y, z, width: density_coverage(x, y), [0]),
    "modes": (lambda x, y, z, width: mode_coverage(x, y, width, num_deviations=1.1), [0]),
    "support": (lambda x, y, z, width: support_size(x, threshold=width), [0]),
    "bandwidth": (lambda x, y, z, width: select_bandwidth(x, y, [width / 8, width / 4, width, 8 * width]), [1]),
    "parzen's error": (lambda x, y, z, width: parzen_log_likelihood(x, y, width / 2).standard_error, [0]),
}
UNITS = [
    *((2.0**531, torch.float64), (2.0**-531, torch.float64), (1e160, torch.float64), (1e-160, torch.float64)),
    *((2.0**990, torch.float64), (2.0**-990, torch.float64), (2.0**1012, torch.float64), (2.0**-1010, torch.float64)),
    *((2.0**66, torch.float32), (2.0**-83, torch.float32), (2.0**124, torch.float32), (1e20, torch.float32)),
]


@pytest.mark.parametrize("rows", [(X, Y, Z), WIDE], ids=["3 columns", "40 columns"])
@pytest.mark.parametrize(("unit", "precision"), UNITS)
@pytest.mark.parametrize("name", MEASURES)
def test_results_do_not_depend_on_the_unit(name, unit, precision, rows):
    measure, powers = MEASURES[name]
    width = 2.0 if rows[0].shape[1] == 3 else 8.0
    rows = [part.to(precision) for part in rows]
    expected = flat(seeded(measure, *rows, width))
    scaled = flat(seeded(measure, *(part * unit for part in rows), width * unit))
    units = np.resize([unit**power for power in powers], len(expected))
    is_exact = math.frexp(unit)[0] == 0.5 and unit > 2.0**-1000  # the numbers' last digits are lost below
    rounding = 1e-12 if is_exact else 1e-5 if precision == torch.float32 else 1e-9
    np.testing.assert_allclose(scaled, expected * units, rtol=rounding, atol=0)
    assert np.ptp(expected) > 0 or name in {"bandwidth", "parzen's error", "wasserstein 1", "wasserstein 2"}


@pytest.mark.parametrize(("unit", "precision"), UNITS)
@pytest.mark.parametrize("rows", [(X, Y), WIDE[:2]], ids=["3 columns", "40 columns"])
def test_log_likelihoods_shift_by_the_units_logarithm(rows, unit, precision):
    rows = [part.to(precision) for part in rows]
    expected = parzen_log_likelihood(*rows, 0.8).mean - rows[0].shape[1] * math.log(unit)
    estimate = parzen_log_likelihood(*(part * unit for part in rows), 0.8 * unit).mean
    assert estimate == pytest.approx(expected, rel=1e-6 if precision == torch.float32 else 1e-9)


@pytest.mark.parametrize(("unit", "precision"), [UNITS[0], UNITS[5], *UNITS[-4:-1]])
def test_the_classifier_does_not_depend_on_the_unit(unit, precision):
    x, y = (part[:10].to(precision) for part in (X, Y))
    assert c2st(x * unit, y * unit) == c2st(x, y)
    assert c2st(x * unit, (y + 4) * unit + 4 * unit) == 1.0


@pytest.mark.parametrize("unit", [2.0**531, 2.0**-531, 2.0**1018, 2.0**-990, torch.tensor([2.0**-990, 2.0**990])])
@pytest.mark.parametrize("references", [None, PRIOR.flip(0)], ids=["draws", "references"])
def test_posteriors_do_not_depend_on_the_units_of_parameters(unit, references):
    expected = seeded(expected_coverage, PRIOR, DRAWS, references=references)
    unit = torch.as_tensor(unit, dtype=torch.float64)
    unit = torch.tensor([2.0**-990, 2.0**990], dtype=torch.float64) if unit.dim() else unit
    there = None if references is None else references * unit
    scaled = seeded(expected_coverage, PRIOR * unit, DRAWS * unit, references=there)
    assert torch.equal(scaled.joint, expected.joint)
    assert torch.equal(scaled.marginal, expected.marginal)
    assert torch.equal(seeded(calibration_ranks, PRIOR * unit, DRAWS * unit), calibration_ranks(PRIOR, DRAWS))


@pytest.mark.parametrize("unit", [2.0**66, 2.0**-83, 2.0**124])
def test_posteriors_in_single_precision_do_not_either(unit):
    prior, draws = PRIOR.float(), DRAWS.float()
    expected = seeded(expected_coverage, prior, draws)
    scaled = seeded(expected_coverage, prior * unit, draws * unit)
    assert torch.equal(scaled.joint, expected.joint)
    assert scaled.joint.dtype == torch.float32


def test_a_comparison_of_small_numbers_is_finite():
    table = compare({"right": X * 1e-160, "copies": Y * 1e-160}, Y * 1e-160)
    assert np.isfinite(table.to_numpy(dtype=float)).all()
    assert table.loc["copies", "energy_statistic"] == pytest.approx(0, abs=1e-174)
    assert table.loc["right", "energy_statistic"] == pytest.approx(1e-160 * energy_test(X, Y).statistic, rel=1e-9)


# The largest numbers -------------------------------------------------------------------------------------------------

LARGE = torch.full((8, 2), 1.7e308, dtype=torch.float64)


def test_the_largest_numbers_are_compared_as_ones_are():
    ones = LARGE / 1.7e308
    for test in (mmd_test, ks_test):
        np.testing.assert_allclose(flat(seeded(test, LARGE, -LARGE)), flat(seeded(test, ones, -ones)), rtol=1e-12)
    assert c2st(LARGE, -LARGE) == 1.0
    assert precision_recall(LARGE, -LARGE) == (0.0, 0.0)
    assert density_coverage(LARGE, LARGE) == (8 / 5, 1.0)
    assert mode_coverage(LARGE, torch.cat([LARGE[:1], -LARGE[:1]]), 1e308) == (1, 1.0, pytest.approx(math.log(2)))
    assert energy_test(LARGE, LARGE * 0.9).statistic == pytest.approx(0.34e308 * math.sqrt(2))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (energy_test, "the energy distance"),
        (sliced_wasserstein, "the distance"),
        (nearest_rows, "a sample's distance to a training row"),
        (lambda x, y: memorization(x, y, y), "a row's distance to its nearest training row"),
    ],
)
def test_results_above_the_largest_number_are_refused(function, what):
    mend = r"must be at most 1.80e\+308, the largest number, but is more. Divide all rows by a common number first"
    with pytest.raises(ValueError, match=f"{what} {mend}"):
        function(LARGE, -LARGE)


def test_a_comparison_of_numbers_too_large_for_its_windows_is_refused():
    message = (
        r"^far: sigmas must hold one wide enough for each row .* go up to 1.0, and a row .* Add wider ones, or divide"
    )
    with pytest.raises(ValueError, match=message):
        compare({"far": X * 1e160}, Y * 1e160)


# Widths of any size --------------------------------------------------------------------------------------------------


def squared_difference_of_means(x, y):
    """The unbiased estimate: what is left of the discrepancy, in squared widths, where the kernel is 1 - d^2 / 2."""
    return float((x.mean(0) - y.mean(0)).square().sum() - x.var(0).sum() / len(x) - y.var(0).sum() / len(y))


@pytest.mark.parametrize("rows", [(X, Y), WIDE[:2]], ids=["3 columns", "40 columns"])
@pytest.mark.parametrize("width", [1e9, 1e20, 1e100, 1e160, 1e200, 1e308, sys.float_info.max])
def test_wide_kernels_compare_means(width, rows):
    expected = squared_difference_of_means(*rows)
    result = seeded(mmd_test, *rows, bandwidth=width)
    assert result.statistic == pytest.approx(expected / width / width, rel=1e-6)
    assert result.pvalue == seeded(mmd_test, *rows, bandwidth=1e6).pvalue < 0.5
    beside_a_narrow = seeded(mmd_test, *rows, bandwidth=[5.0, width])
    alone = seeded(mmd_test, *rows, bandwidth=5.0)
    assert beside_a_narrow == (pytest.approx(alone.statistic / 2, abs=1e-15), alone.pvalue)
    scaled = seeded(mmd_test, *(part * 1e-150 for part in rows), bandwidth=1e-100)
    assert scaled.statistic == pytest.approx(expected * 1e-100, rel=1e-6)


@pytest.mark.parametrize("dim", [3, 40])
@pytest.mark.parametrize("width", [5e-324, 1e-200, 1e-10])
@pytest.mark.parametrize("unit", [1.0, 1e160, 1e300])
def test_narrow_kernels_count_equal_rows(unit, width, dim):
    x, y = normal(12, dim) * unit, normal(10, dim) * unit
    x[1], y[:3] = x[0], x[0]
    # Of x's 132 ordered pairs 2 are of equal rows, of y's 90 there are 6, and of the 120 across 6.
    expected = 2 / 132 + 6 / 90 - 2 * 6 / 120
    assert mmd_test(x, y, bandwidth=width, num_permutations=9).statistic == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim", [3, 40])
@pytest.mark.parametrize("sigma", [5e-324, 1e-200, 1e-10, 1e-4])
def test_narrow_windows_give_copies_their_peak(sigma, dim):
    samples = normal(30, dim)
    expected = -math.log(30) - dim * (math.log(sigma) + LOG_ROOT)
    estimate = parzen_log_likelihood(samples, samples[:7], sigma)
    assert estimate.mean == pytest.approx(expected, rel=1e-12)
    assert estimate.standard_error == pytest.approx(0, abs=1e-11)
    assert select_bandwidth(samples, samples[:7], [sigma, 1e200, 1.0]) == sigma


@pytest.mark.parametrize("sigma", [1e160, 1e200, sys.float_info.max])
def test_wide_windows_are_flat(sigma):
    expected = -3 * (math.log(sigma) + LOG_ROOT)
    assert parzen_log_likelihood(X, Y, sigma) == (pytest.approx(expected, rel=1e-12), pytest.approx(0, abs=1e-11))
    assert select_bandwidth(X, Y, [sigma, 1.0]) == 1.0


def test_windows_of_every_width_have_one_closed_form():
    # One sample at 0 and one row at a: the normal density of a.
    for distance, sigma in ((1e-160, 3e-161), (1e160, 1e155), (3e300, 1e150), (2.0, 1e-150)):
        row = torch.tensor([[distance]], dtype=torch.float64)
        expected = -((distance / sigma) ** 2) / 2 - math.log(sigma) - LOG_ROOT
        assert parzen_log_likelihood(torch.zeros_like(row), row, sigma).mean == pytest.approx(expected, rel=1e-12)


def test_the_error_of_large_log_likelihoods_is_finite():
    # Log-likelihoods about -a / 2 and -4 a / 2, for a = 1e300: their deviation's square is no number any more.
    rows = torch.tensor([[1e150], [2e150]], dtype=torch.float64)
    estimate = parzen_log_likelihood(torch.zeros(1, 1, dtype=torch.float64), rows, 1.0)
    assert estimate == (pytest.approx(-1.25e300), pytest.approx(0.75e300 / math.sqrt(2)))


def test_windows_too_narrow_for_a_row_are_refused():
    message = (
        "sigma must be wide enough for all test rows .* but is 1e-200, and a row lies so far .* Choose a wider one"
    )
    with pytest.raises(ValueError, match=message):
        parzen_log_likelihood(X, Y, 1e-200)
    message = (
        r"sigmas must hold one wide enough for each row .* go up to 1e-180, and a row lies so far .* Add wider ones"
    )
    with pytest.raises(ValueError, match=message):
        select_bandwidth(X, Y, [1e-180, 1e-200])
    assert select_bandwidth(X, Y, [1e-180, 0.5, 1e-200]) == 0.5


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_balls_of_any_radius(precision):
    samples = torch.cat([X, X]).to(precision)
    centers = X[:4].to(precision)
    for small in (5e-324, 1e-200, 1e-30):
        narrow = mode_coverage(samples, centers, small)
        assert (narrow.num_modes, narrow.high_quality) == (4, 8 / 48)  # the centers themselves, twice
        assert mode_coverage(samples, centers, 1.0, num_deviations=small) == narrow
        assert support_size(samples, threshold=small).estimate == pytest.approx(47 * 48 / 2 / 24)
    for large in (1e30, 1e200, sys.float_info.max):
        assert mode_coverage(samples, centers, large).high_quality == 1.0
        assert mode_coverage(samples, centers, large, num_deviations=large).high_quality == 1.0
        assert support_size(samples, threshold=large).estimate == 1.0


# Constant samples, repeated and few rows -----------------------------------------------------------------------------

CONSTANTS = [0.0, 0.1, -1.7e308, 1e160, 1e-160, 5e-324]


@pytest.mark.parametrize("dim", [1, 3, 40])
@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_samples(value, dim):
    rows = torch.full((9, dim), value, dtype=torch.float64)
    assert mmd_test(rows, rows, num_permutations=9) == (0.0, 1.0)
    assert mmd_test(rows, rows, bandwidth=[1e-200, 1e200], num_permutations=9)[1] == 1.0
    assert energy_test(rows, rows, num_permutations=9) == (0.0, 1.0)
    assert ks_test(rows, rows)[:2] == (0.0, 1.0)
    assert [sliced_wasserstein(rows, rows, p=p) for p in (1, 2)] == [0.0, 0.0]
    assert not nearest_rows(rows, rows).distances.any()
    assert memorization(rows, rows, rows) == (0.0, 0.0, 0.5, 1.0)
    assert precision_recall(rows, rows) == (1.0, 1.0)
    assert density_coverage(rows, rows) == (9 / 5, 1.0)
    assert mode_coverage(rows, rows[:1], 1e-200) == (1, 1.0, 0.0)
    assert support_size(rows, threshold=0.0).estimate == 1.0
    for sigma in (1.0, 1e-200, 1e200):
        expected = -dim * (math.log(sigma) + LOG_ROOT)
        assert parzen_log_likelihood(rows, rows, sigma) == (pytest.approx(expected), pytest.approx(0, abs=1e-10))


@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_parameters_are_covered_at_the_level(value):
    prior, draws = (
        torch.full((2000, 2), value, dtype=torch.float64),
        torch.full((2000, 9, 2), value, dtype=torch.float64),
    )
    prior[:, 1], draws[:, :, 1] = normal(2000), normal(2000, 9)
    coverage = expected_coverage(prior, draws)
    alone = expected_coverage(prior[:, 1:], draws[:, :, 1:])
    for values in (coverage.joint, coverage.marginal[:, 0], alone.joint):
        assert ((values - coverage.levels).abs() < 4 * coverage.standard_error).all()


def test_a_constant_parameter_changes_no_distance():
    prior, draws = PRIOR.clone(), DRAWS.clone()
    prior[:, 0], draws[:, :, 0] = 0.1, 0.1  # the deviation of which is not 0 but rounding
    joint = seeded(expected_coverage, prior, draws, references=torch.zeros(30, 2)).joint
    alone = seeded(expected_coverage, prior[:, 1:], draws[:, :, 1:], references=torch.zeros(30, 1)).joint
    assert torch.equal(joint, alone)


@pytest.mark.parametrize("unit", [1.0, 2.0**-500, 2.0**500])
def test_a_parameter_that_the_prior_alone_holds_constant_has_the_draws_scale(unit):
    prior, draws = PRIOR.clone(), DRAWS.clone()
    prior[:, 0] = 0
    expected = seeded(expected_coverage, prior, draws)
    draws[:, :, 0] *= unit
    assert torch.equal(seeded(expected_coverage, prior, draws).joint, expected.joint)


def test_draws_far_from_the_prior_never_cover_it():
    never = expected_coverage(PRIOR * 1e-160, DRAWS * 1e157 + 1e160, levels=[0.8])
    assert (never.joint.item(), never.marginal.tolist()) == (0.0, [[0.0, 0.0]])


def test_a_parameter_that_is_known_exactly_changes_no_distance():
    unit = torch.tensor([1e-300, 1e160], dtype=torch.float64)
    prior, draws = PRIOR * unit, DRAWS * unit
    draws[:, :, 0] = prior[:, :1]
    joint = seeded(expected_coverage, prior, draws).joint
    assert torch.equal(joint, seeded(expected_coverage, prior[:, 1:], draws[:, :, 1:]).joint)


def test_references_too_far_to_tell_draws_apart_rank_them_at_random():
    prior, draws = torch.randn(2000, 2), torch.randn(2000, 9, 2)
    coverage = expected_coverage(prior, draws, references=torch.full((2000, 2), 1e200, dtype=torch.float64))
    assert ((coverage.joint - coverage.levels).abs() < 4 * coverage.standard_error).all()


@pytest.mark.parametrize("dim", [3, 40])
def test_where_most_rows_are_equal_the_bandwidth_is_the_mean_distance(dim):
    # Of 44 rows 40 are one and 4 are at the ends of the axes: 160 of the 946 pairs are at distance 1, 6 at sqrt(2).
    x, y = torch.full((22, dim), 0.1).double(), torch.full((22, dim), 0.1).double()
    for index, row in enumerate([*x[:2], *y[:2]]):
        row[index % dim] += 1
    mean = float(two_sample._median_distance(torch.cat([x, y])))
    pairs = torch.cdist(torch.cat([x, y]), torch.cat([x, y]), compute_mode="donot_use_mm_for_euclid_dist")
    assert mean == pytest.approx(float(pairs.sum() / (44 * 43)), rel=1e-9)
    assert mean > 0.15


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize("unit", [1.0, 1e160, 1e-160])
def test_one_row_and_two(unit, num_rows):
    x, y = X[:num_rows] * unit, Y[:num_rows] * unit
    calls = [
        lambda: nearest_rows(x, y),
        lambda: memorization(x, y, x),
        lambda: memorization(x, x, x),
        lambda: mode_coverage(x, y, unit),
        lambda: parzen_log_likelihood(x, y, unit),
        lambda: select_bandwidth(x, y, [unit, 2 * unit]),
        lambda: calibration_ranks(x, y[:, None]),
        lambda: expected_coverage(x, torch.stack([y, x], 1)),
    ]
    two = [
        lambda: mmd_test(x, y, num_permutations=9),
        lambda: energy_test(x, y, num_permutations=9),
        lambda: ks_test(x, y),
        lambda: sliced_wasserstein(x, y, num_projections=9),
        lambda: precision_recall(x, y, num_neighbours=1),
        lambda: density_coverage(x, y, num_neighbours=1),
        lambda: support_size(x, threshold=100 * unit),
    ]
    for call in calls + (two if num_rows == 2 else []):
        assert np.isfinite(flat(call())).all()
    for call in two if num_rows == 1 else []:
        with pytest.raises(ValueError, match=r"expected (at least 2|more real rows)"):
            call()


def test_one_row_can_not_choose_a_window_and_be_scored():
    with pytest.raises(
        ValueError, match=r"^one: expected at least 2 test rows, one to choose the window by, .* is 1. Add"
    ):
        compare({"one": X}, Y[:1])


# Numbers of several sizes at once ------------------------------------------------------------------------------------


def naive_mmd(x, y, width):
    within_x, within_y, across = (
        torch.exp(-(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / width).square() / 2)
        for a, b in ((x, x), (y, y), (x, y))
    )
    n, m = len(x), len(y)
    return float((within_x.sum() - n) / (n * (n - 1)) + (within_y.sum() - m) / (m * (m - 1)) - 2 * across.mean())


@pytest.mark.parametrize("rows", [(X, Y), WIDE[:2]], ids=["3 columns", "40 columns"])
@pytest.mark.parametrize("far", [1e10, 1e160])
def test_an_outlier_costs_the_other_rows_no_digits(far, rows):
    x, y = rows
    outlier = torch.full((1, x.shape[1]), far, dtype=torch.float64)
    expected = nearest_rows(y, x, num_neighbours=3)
    found = nearest_rows(y, torch.cat([outlier, x]), num_neighbours=3)
    torch.testing.assert_close(found.distances, expected.distances, rtol=1e-12, atol=0)
    assert torch.equal(found.indices - 1, expected.indices)
    width = float(expected.distances.median())
    statistic = mmd_test(torch.cat([outlier, x]), y, bandwidth=width, num_permutations=9).statistic
    assert statistic == pytest.approx(naive_mmd(torch.cat([outlier, x]), y, width), rel=1e-9)
    assert precision_recall(x, torch.cat([y, outlier])).precision == pytest.approx(
        precision_recall(x, y).precision * 20 / 21
    )
    assert support_size(torch.cat([x, outlier]), threshold=width).estimate == pytest.approx(
        support_size(x, threshold=width).estimate * 25 / 23  # pairs of 25 rows, of which those of 24 can be near
    )


@pytest.mark.parametrize("rows", [(X, Y), WIDE[:2]], ids=["3 columns", "40 columns"])
@pytest.mark.parametrize("name", ["mmd", "energy", "wasserstein 1", "distances", "density and coverage", "support"])
def test_a_large_constant_column_costs_the_others_no_digits(name, rows):
    measure, powers = MEASURES[name]
    columns = [torch.cat([torch.ones(len(part), 1).double(), part * 1e-200], 1) for part in rows]
    zeros = [torch.cat([torch.zeros(len(part), 1).double(), part], 1) for part in rows]
    expected = flat(seeded(measure, *zeros, None, 2.0))
    found = flat(seeded(measure, *columns, None, 2e-200))
    units = np.resize([1e-200**power for power in powers], len(expected))
    np.testing.assert_allclose(found, expected * units, rtol=1e-9)


def test_rows_that_are_near_are_not_equal():
    rows = torch.tensor([[0.0], [1e-9], [5.0], [7.0]], dtype=torch.float64)
    assert support_size(rows, threshold=0.0).estimate == math.inf
    assert support_size(rows, threshold=1e-9).estimate == 6.0
    # Their own balls of radius 1e-9 hold the first two rows, and no third one as near.
    assert precision_recall(rows[:2], rows[:2] + 3e-9, num_neighbours=1) == (0.0, 0.0)
    assert precision_recall(rows[:3], rows[:3] + 3e-9, num_neighbours=1) == (1.0, 1 / 3)  # the last one's ball is wide


@pytest.mark.parametrize("dim", [3, 40])
def test_neighbours_in_a_far_cluster_are_told_apart(dim):
    near = normal(30, dim)
    rows = torch.cat([near, 1e8 + normal(20, dim)])  # whose squares hold no more digits of the differences
    found = nearest_rows(rows, rows, num_neighbours=4)
    exact = (rows[:, None] - rows).norm(dim=2).sort()
    torch.testing.assert_close(found.distances, exact.values[:, :4], rtol=1e-12, atol=0)
    assert torch.equal(found.indices, exact.indices[:, :4])


@pytest.mark.parametrize("dim", [3, 40])
def test_a_cluster_much_finer_than_the_whole_keeps_its_digits(dim):
    fine, rows = 1e-9 * normal(30, dim), 1e-9 * normal(10, dim)
    samples = torch.cat([fine, 1 + normal(31, dim)])  # whose middle is not in the fine cluster
    expected = parzen_log_likelihood(fine, rows, 1e-9).mean + math.log(30 / 61)
    assert parzen_log_likelihood(samples, rows, 1e-9).mean == pytest.approx(expected, rel=1e-12)
    statistic = mmd_test(samples, rows, bandwidth=3e-9, num_permutations=9).statistic
    assert statistic == pytest.approx(naive_mmd(samples, rows, 3e-9), rel=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.9])
def test_distances_of_pairs_are_those_of_differences(share):
    rows, others = normal(40, 5), normal(30, 5)
    others[:3] = rows[7]
    pairs = torch.rand(40, 30, generator=GENERATOR) < share
    pairs[7, 0] = True
    expected = (rows[:, None] - others).norm(dim=2)[pairs]
    torch.testing.assert_close(distances_of_pairs(rows, others, pairs), expected, rtol=1e-14, atol=0)
    assert distances_of_pairs(rows, others, torch.zeros_like(pairs)).shape == (0,)


@pytest.mark.parametrize("unit", [1e-160, 1e-3, 1.0, 1e160])
def test_the_classifier_sees_whatever_a_constant_is_not(unit):
    x = torch.full((20, 2), 0.1, dtype=torch.float64) * unit
    assert c2st(x, x + unit * torch.linspace(1, 2, 20).double()[:, None]) == 1.0
    assert c2st(x, -x) == 1.0
    assert c2st(x, x.clone()) <= 0.5
    assert c2st(X * 1e-200, Y * 1e200 + 1e201) == 1.0


def test_units_of_columns_round_nothing():
    x, y = X.clone(), Y.clone()
    x[:, 0], y[:, 0] = 3e200, 3e200
    x[:, 1], y[:, 1] = x[:, 1] * 1e-300, y[:, 1] * 1e-300
    x[:, 2], y[:, 2] = 0.0, torch.linspace(-0.3, 0.1, 20)
    columns = scales.unit_columns(x, y)
    assert columns[0][:, 1].abs().max() <= 1 < 2 * columns[0][:, 1].abs().max()
    assert 8 <= columns[1][:, 2].abs().max() < 16
    for scaled, rows in zip(columns, (x, y), strict=True):
        ratios = (scaled / rows)[:, :2]
        assert torch.equal(ratios, ratios[:1].expand_as(ratios))
        assert (torch.frexp(ratios[0]).mantissa == 0.5).all()


# Scales --------------------------------------------------------------------------------------------------------------


def test_a_power_of_two_comes_out_and_goes_in_again():
    for unit in (2.0**-1000, 2.0**-3, 1.0, 2.0**1000, 2.0**1020):
        rows = X * unit
        (scaled,), power = scales.without_scale(rows)
        assert 2.0**399 <= scaled.abs().max() < 2.0**400
        assert torch.equal(scales.times_power(scaled, power), rows)
        assert scales.times_power(float(scaled[0, 0]), power) == rows[0, 0]
    assert scales.without_scale(X.float()) == ((pytest.approx(X.float()),), 0)
    assert not scales.without_scale(torch.zeros(3, 2).double())[0][0].any()


def test_powers_beyond_the_numbers_end_at_0_and_infinity():
    assert scales.times_power(1.0, -5000) == 0.0
    assert scales.times_power(1e300, 1400) == math.inf
    assert scales.times_power(5e-324, 1474) == 2.0**400
    assert scales.times_powers(torch.ones(1, 2).double(), torch.tensor([-1074, 1023])).tolist() == [[5e-324, 2.0**1023]]


def test_a_center_is_among_the_rows_and_no_outlier_moves_it():
    rows = torch.cat([torch.full((5000, 1), 0.1).double(), normal(5000, 1)], 1)
    rows[::7, 1] = 1e300
    center = scales.center(rows)
    assert center[0] == rows[0, 0]
    assert abs(float(center[1])) < 1


# Kinds of numbers ----------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "rows of x": lambda rows: mmd_test(rows, Y),
    "rows of y": lambda rows: energy_test(X, rows),
    "samples": lambda rows: parzen_log_likelihood(rows, Y, 1.0),
    "test rows": lambda rows: parzen_log_likelihood(X, rows, 1.0),
    "training rows": lambda rows: nearest_rows(X, rows),
    "held-out rows": lambda rows: memorization(X, Y, rows),
    "real rows": lambda rows: precision_recall(rows, Y),
    "fake rows": lambda rows: density_coverage(X, rows),
    "centers": lambda rows: mode_coverage(X, rows, 1.0),
    "prior draws": lambda rows: calibration_ranks(rows, DRAWS),
    "posterior draws": lambda rows: calibration_ranks(PRIOR, rows),
    "references": lambda rows: expected_coverage(PRIOR, DRAWS, references=rows),
    "labels": lambda rows: label_coverage(rows, 10),
    "ranks": lambda rows: calibration_test(rows, 10),
}


@pytest.mark.parametrize("value", ["rows", None, [["a", "b"]], [[1.0], [1.0, 2.0]], np.array([["a", 1]], dtype=object)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_holds_no_numbers_is_refused(name, value):
    if name == "references" and value is None:
        return  # which is the default
    message = f"^{name} must be a tensor or an array of numbers, but are of type .*: .*. Convert them first"
    with pytest.raises(TypeError, match=message):
        FUNCTIONS[name](value)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in {"labels", "ranks"}])
@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda rows: rows.int(), "are of type torch.int32, but expected floating point. Scale them first"),
        (lambda rows: rows > 0, "are of type torch.bool, but expected floating point"),
        (lambda rows: rows.numpy().astype(np.uint16), "are of type torch.uint16, but expected floating point"),
        (lambda rows: rows.to(torch.complex64), "are of type torch.complex64, but expected floating point"),
        (lambda rows: rows * math.nan, "hold NaN or infinity. Remove such rows first"),
        (lambda rows: rows.masked_fill(rows == rows.max(), math.inf), "hold NaN or infinity"),
        (lambda rows: rows.numpy().astype(np.longdouble) * np.longdouble(2) ** 2000, "hold NaN or infinity"),
    ],
)
def test_numbers_that_are_not_finite_or_not_real_are_refused(name, convert, message):
    shapes = {"prior draws": PRIOR, "references": PRIOR, "posterior draws": DRAWS}
    with np.errstate(over="ignore"):  # where long doubles are doubles
        rows = convert(shapes.get(name, X).abs())
    with pytest.raises(ValueError, match=f"^{name} {message}"):
        FUNCTIONS[name](rows)


@pytest.mark.parametrize("unit", [1e160, 1e-160])
def test_lists_of_numbers_keep_their_double_precision(unit):
    x, y = (X * unit).tolist(), (Y * unit).tolist()
    assert seeded(energy_test, x, y) == seeded(energy_test, X * unit, Y * unit)
    first, second = matching_rows(x, y, names=("first rows", "second rows"))
    assert torch.equal(first, X * unit)
    assert torch.equal(second, Y * unit)
    expected = seeded(expected_coverage, PRIOR, DRAWS).joint
    assert torch.equal(seeded(expected_coverage, (PRIOR * unit).tolist(), (DRAWS * unit).tolist()).joint, expected)


def test_long_doubles_are_taken_as_doubles():
    x, y = X.numpy().astype(np.longdouble), Y.numpy().astype(np.longdouble)
    assert seeded(energy_test, x, y) == seeded(energy_test, X, Y)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64, np.int8])
def test_integers_of_every_kind_are_labels_and_ranks(kind):
    assert label_coverage(np.array([0, 0, 2], dtype=kind), 3).num_modes == 2
    ranks = np.arange(20).reshape(20, 1) % 4
    assert calibration_test(ranks.astype(kind), 3).pvalue == calibration_test(ranks, 3).pvalue


def test_complex_ranks_are_refused():
    with pytest.raises(ValueError, match=r"ranks must be integers .* but are torch.complex64 with shape \(20, 1\)"):
        calibration_test(torch.zeros(20, 1, dtype=torch.complex64), 3)


@pytest.mark.parametrize("value", ["wide", None, True, math.nan, math.inf, 0, -1, 1j, 10**400, [1.0], torch.ones(2)])
def test_what_is_no_positive_number_is_refused(value):
    calls = {
        "sigma": [lambda: parzen_log_likelihood(X, Y, value), lambda: select_bandwidth(X, Y, [1.0, value])],
        "scale": [lambda: mode_coverage(X, Y, value)],
        "num_deviations": [lambda: mode_coverage(X, Y, 1.0, num_deviations=value)],
    }
    for name, call in [(name, call) for name, some in calls.items() for call in some]:
        with pytest.raises(ValueError, match=f"^{name} must be a positive number, but is "):
            call()


@pytest.mark.parametrize("value", ["near", None, True, math.nan, -1e-200, 10**400, -(10**400)])
def test_what_is_no_threshold_is_refused(value):
    with pytest.raises(ValueError, match=r"^threshold must be a distance of 0 or more, but is "):
        support_size(X, threshold=value)


def test_numbers_may_be_of_any_real_kind():
    for one in (1, np.float32(1), torch.tensor(1.0), np.array(1)):
        assert parzen_log_likelihood(X, Y, one) == parzen_log_likelihood(X, Y, 1.0)
        assert mode_coverage(X, Y, one, num_deviations=one) == mode_coverage(X, Y, 1.0, num_deviations=1.0)
        assert support_size(X, threshold=one) == support_size(X, threshold=1.0)
    assert select_bandwidth(X, Y, torch.tensor([0.5, 1e20])) == select_bandwidth(X, Y, (0.5, 1e200)) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mmd_test(X, Y, bandwidth=10**400), ValueError, "^bandwidth must be a positive number, .* but is 1000"),
        (lambda: mmd_test(X, Y, bandwidth=[None]), TypeError, r"^bandwidth must be a number .* but is \[None\]"),
        (lambda: sliced_wasserstein(X, Y, p=np.array([1, 2])), ValueError, "^p must be 1 or 2, but is array"),
        (lambda: select_bandwidth(X, Y, 0.5), TypeError, "^sigmas must be a collection of widths, but is 0.5. Put a"),
        (lambda: select_bandwidth(X, Y, torch.tensor(0.5)), TypeError, "^sigmas must be a collection .* Put a single"),
        (lambda: expected_coverage(PRIOR, DRAWS, "high"), TypeError, "^levels must be numbers from 0 to 1, but are 'h"),
        (lambda: expected_coverage(PRIOR, DRAWS, [1j]), TypeError, "^levels must be numbers from 0 to 1, but are "),
        (lambda: compare({"none": None}, Y), TypeError, "^none: samples must be a tensor or an array of numbers"),
        (lambda: compare({"none": X}, None), TypeError, "^none: test rows must be a tensor or an array of numbers"),
    ],
)
def test_bad_options_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
