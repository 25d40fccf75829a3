import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from pyro_gan.criticism import parzen_log_likelihood, select_bandwidth
from pyro_gan.criticism.coverage import (
    density_coverage,
    label_coverage,
    mode_coverage,
    precision_recall,
    support_size,
)
from pyro_gan.datasets import grid, ring

GENERATOR = torch.Generator().manual_seed(0)
REAL = torch.randn(60, 4, dtype=torch.float64, generator=GENERATOR)
FAKE = torch.randn(45, 4, dtype=torch.float64, generator=GENERATOR) * 0.8 + 0.2
# Whole numbers give many rows on the very edge of a ball, and repeated rows.
LATTICE = (
    torch.randint(0, 7, (50, 3), generator=GENERATOR).double(),
    torch.randint(2, 9, (40, 3), generator=GENERATOR).double(),
)
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def gap(first, second):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)))


def naive(real, fake, k):
    """Precision, recall, density and coverage as their definitions read, a pair at a time."""
    real, fake = real.tolist(), fake.tolist()

    def radius(rows, index):
        return sorted(gap(rows[index], row) for other, row in enumerate(rows) if other != index)[k - 1]

    real_radii = [radius(real, index) for index in range(len(real))]
    fake_radii = [radius(fake, index) for index in range(len(fake))]
    balls = [[gap(x, y) <= r for x, r in zip(real, real_radii, strict=True)] for y in fake]
    precision = sum(any(row) for row in balls) / len(fake)
    recall = sum(any(gap(x, y) <= r for y, r in zip(fake, fake_radii, strict=True)) for x in real) / len(real)
    density = sum(sum(row) for row in balls) / (k * len(fake))
    coverage = sum(any(row[index] for row in balls) for index in range(len(real))) / len(real)
    return precision, recall, density, coverage


@pytest.mark.parametrize("num_neighbours", [1, 3, 5])
@pytest.mark.parametrize("rows", [(REAL, FAKE), LATTICE], ids=["real numbers", "lattice"])
def test_precision_recall_density_and_coverage_equal_a_naive_double_loop(rows, num_neighbours):
    measured = (
        *precision_recall(*rows, num_neighbours=num_neighbours),
        *density_coverage(*rows, num_neighbours=num_neighbours),
    )
    expected = naive(*rows, num_neighbours)
    assert measured == pytest.approx(expected, abs=1e-12)
    assert all(value > 0.1 for value in expected)  # neither side is trivial
    assert any(value < 1 for value in expected)


def test_precision_and_recall_trade_places_with_the_sets():
    assert precision_recall(REAL, FAKE) == precision_recall(FAKE, REAL)[::-1]


@pytest.mark.parametrize("num_neighbours", [1, 5])
def test_an_exact_model_has_the_expected_density_and_coverage(num_neighbours):
    num_real, num_fake, num_repeats = 12, 9, 2000
    rows = torch.randn(num_repeats, num_real + num_fake, 2, generator=GENERATOR).split([num_real, num_fake], 1)
    results = [tuple(density_coverage(*pair, num_neighbours=num_neighbours)) for pair in zip(*rows, strict=True)]
    density, coverage = np.mean(results, 0)
    errors = np.std(results, 0) / math.sqrt(num_repeats)
    total = num_real + num_fake - 1
    expected = 1 - math.comb(num_real - 1, num_neighbours) / math.comb(total, num_neighbours)
    assert density == pytest.approx(1.0, abs=4 * errors[0])
    assert coverage == pytest.approx(expected, abs=4 * errors[1])
    assert errors.max() < 0.02


def test_the_limit_of_coverage_in_the_documentation():
    assert 1 - math.comb(10_000 - 1, 5) / math.comb(20_000 - 1, 5) == pytest.approx(0.969, abs=5e-4)


def test_one_outlier_spoils_recall_but_hardly_density_and_coverage():
    real = torch.randn(200, 2, generator=GENERATOR)
    fake = torch.cat([torch.randn(199, 2, generator=GENERATOR) * 0.01 + 50, torch.full((1, 2), -100.0)])
    assert precision_recall(real, fake) == (0.0, 1.0)  # the outlier's ball holds all real rows
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_chunks_shapes_and_precision_change_nothing(monkeypatch):
    expected = precision_recall(REAL, FAKE), density_coverage(REAL, FAKE)
    single = [rows.float().reshape(-1, 2, 2).requires_grad_() for rows in (REAL, FAKE)]
    assert (precision_recall(*single), density_coverage(*single)) == expected
    arrays = REAL.numpy(), FAKE.numpy()
    assert (precision_recall(*arrays), density_coverage(*arrays)) == expected
    duplicates = support_size(REAL, threshold=1.0)
    monkeypatch.setattr(sys.modules["pyro_gan.criticism.neighbours"], "CHUNK_ENTRIES", 7 * len(REAL))
    assert (precision_recall(REAL, FAKE), density_coverage(REAL, FAKE)) == expected
    assert support_size(REAL, threshold=1.0) == duplicates


def test_constant_rows_lie_on_the_edge_of_their_balls():
    same, other = torch.full((10, 3), 0.1), torch.full((10, 3), 0.7)
    assert precision_recall(same, same) == (1.0, 1.0)
    assert density_coverage(same, same) == (2.0, 1.0)  # 10 balls around each row, over k = 5
    assert precision_recall(same, other) == (0.0, 0.0)
    assert density_coverage(same, other) == (0.0, 0.0)
    mixed = torch.cat([torch.randn(30, 1, generator=GENERATOR), torch.full((30, 1), 4.0)], 1)
    assert density_coverage(mixed[:15], mixed[15:]) == density_coverage(mixed[:15, :1], mixed[15:, :1])


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_changes_nothing(device):
    rows = REAL.to(device), FAKE.to(device)
    assert precision_recall(*rows) == precision_recall(REAL, FAKE)
    assert density_coverage(*rows) == density_coverage(REAL, FAKE)
    assert support_size(rows[0], threshold=1.0) == support_size(REAL, threshold=1.0)
    assert mode_coverage(*rows, 1.0) == pytest.approx(mode_coverage(REAL, FAKE, 1.0))
    labels = torch.tensor([0, 2, 2, 3], device=device)
    assert label_coverage(labels, 4) == pytest.approx(label_coverage(labels.cpu(), 4))


@pytest.mark.parametrize("mixture", [ring, grid])
def test_a_perfect_sampler_of_known_modes(mixture):
    num_rows = 20_000
    data = mixture(num_rows)
    result = mode_coverage(data.rows, data.centers, data.scale)
    share = 1 - math.exp(-9 / 2)
    assert share == pytest.approx(0.989, abs=2e-4)
    assert result.num_modes == len(data.centers)
    assert result.high_quality == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / num_rows))
    freedom = len(data.centers) - 1  # 2 n KL is chi-squared
    assert 2 * num_rows * result.reverse_kl == pytest.approx(freedom, abs=4 * math.sqrt(2 * freedom))


def test_mode_coverage_by_hand():
    # The second sample is three deviations off exactly, and good; the third is near the second center, but not enough.
    samples = torch.tensor([[0.0, 0.0], [0.0, 0.75], [0.0, 9.0], [0.0, 20.0]])
    result = mode_coverage(samples, torch.tensor([[0.0, 0.0], [0.0, 10.0], [0.0, 20.0], [0.0, 99.0]]), 0.25)
    assert result.num_modes == 2
    assert result.high_quality == 0.75
    assert result.reverse_kl == pytest.approx(entropy([0.5, 0.25, 0.25, 0.0], [0.25] * 4))
    loose = mode_coverage(samples, torch.tensor([[0.0, 0.0], [0.0, 10.0]]), 0.25, num_deviations=4.0)
    assert (loose.num_modes, loose.high_quality) == (2, 0.75)


def test_a_model_of_few_modes_and_one_that_crowds():
    data = grid(2500)
    few = mode_coverage(data.rows[data.labels < 5], data.centers, data.scale)
    assert few.num_modes == 5
    assert few.reverse_kl == pytest.approx(math.log(5), abs=0.05)
    crowded = mode_coverage(data.centers[data.labels], data.centers, data.scale)
    assert crowded.high_quality == 1.0
    garbage = mode_coverage(data.rows + 1.0, data.centers, data.scale)
    assert garbage[:2] == (0, 0.0)
    assert math.isfinite(garbage.reverse_kl)


def test_label_coverage_by_hand():
    assert label_coverage([3, 3, 3], 10) == pytest.approx((1, math.log(10)))
    assert label_coverage(np.arange(10), 10) == pytest.approx((10, 0.0))
    result = label_coverage(torch.tensor([0, 0, 0, 2], dtype=torch.uint8), 3)
    assert result == pytest.approx((2, entropy([0.75, 0.0, 0.25], [1 / 3] * 3)))


def test_uniform_labels_score_what_stacked_mnist_allows():
    result = label_coverage(torch.randint(1000, (26_000,)), 1000)
    assert result.num_modes == 1000
    assert result.reverse_kl == pytest.approx(999 / 52_000, abs=4 * math.sqrt(2 * 999) / 52_000)


def test_support_size_by_hand():
    result = support_size(torch.tensor([[0.0, 0.0], [0.0, 0.5], [3.0, 0.0], [9.0, 9.0]]), threshold=0.5)
    assert result.estimate == 6.0  # one of six pairs
    assert result.lower == pytest.approx(6 / 5.5716, rel=1e-4)  # the Poisson intervals of 1 and 0 in the tables
    assert result.upper == pytest.approx(6 / 0.025318, rel=1e-4)
    none = support_size(torch.arange(4.0)[:, None], threshold=0.5)
    assert (none.estimate, none.upper, none.batch_size) == (math.inf, math.inf, math.inf)
    assert none.lower == pytest.approx(6 / 3.6889, rel=1e-4)
    assert support_size(torch.zeros(10, 2), threshold=0.0).estimate == 1.0


def test_support_size_finds_the_days_of_the_year_and_their_23_people():
    days = torch.randint(365, (3000, 1), generator=GENERATOR).double()
    result = support_size(days, threshold=0.5)
    assert result.lower < 365 < result.upper
    assert result.upper / result.lower < 1.05
    assert result.batch_size == pytest.approx(23, abs=0.5)


def test_support_size_has_its_confidence_and_counts_unequal_things_by_their_squares():
    draws = torch.randint(500, (400, 60, 1), generator=GENERATOR).double()
    intervals = [support_size(rows, threshold=0.0)[1:3] for rows in draws]
    assert np.mean([lower <= 500 <= upper for lower, upper in intervals]) > 0.93
    shares = torch.tensor([0.5, 0.3, 0.1, 0.1])
    unequal = shares.multinomial(3000, replacement=True, generator=GENERATOR)[:, None].double()
    assert support_size(unequal, threshold=0.0).estimate == pytest.approx(1 / float(shares.square().sum()), rel=0.05)


def test_a_collapsed_model_is_exposed_where_parzen_praises_it():
    validation, test, real = torch.randn(3, 1000, 5, generator=GENERATOR)
    collapsed = 1e-3 * torch.randn(1000, 5, generator=GENERATOR)  # one point, the mean
    values = {
        name: parzen_log_likelihood(rows, test, select_bandwidth(rows, validation)).mean
        for name, rows in {"real": real, "collapsed": collapsed}.items()
    }
    # A single window of the data's width is the data's distribution: no sampler has a higher Parzen value.
    assert values["collapsed"] > values["real"]
    assert precision_recall(test, collapsed).precision == 1.0  # and every sample is a likely one
    # But the real rows are not reached, and all samples are one.
    assert precision_recall(test, collapsed).recall < 0.01
    assert precision_recall(test, real).recall > 0.9
    assert density_coverage(test, collapsed).coverage < 0.02
    assert density_coverage(test, real).coverage > 0.95
    assert support_size(collapsed, threshold=0.05).estimate == 1.0
    assert support_size(real, threshold=0.05).lower > 10_000


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: precision_recall(REAL, FAKE[:, :3]), ValueError, r"real rows have shape \(60, 4\) and fake rows"),
        (lambda: precision_recall(REAL, FAKE[:3]), ValueError, "expected at least 4 rows in both, .* 3 fake rows"),
        (lambda: precision_recall(REAL, FAKE, num_neighbours=0), ValueError, "num_neighbours must be a positive"),
        (lambda: precision_recall(REAL, FAKE, num_neighbours="3"), TypeError, "num_neighbours must be a positive"),
        (lambda: density_coverage(REAL[:5], FAKE), ValueError, "expected more real rows than num_neighbours, .* 5"),
        (lambda: density_coverage(REAL, FAKE[:0]), ValueError, "there are 60 real rows and 0 fake rows"),
        (lambda: density_coverage(REAL, FAKE * math.inf), ValueError, "fake rows hold NaN or infinity"),
        (lambda: density_coverage(REAL.int(), FAKE), ValueError, "real rows are of type torch.int32"),
        (lambda: density_coverage(REAL, FAKE, num_neighbours=2.0), TypeError, "num_neighbours must be a positive"),
        (lambda: mode_coverage(REAL, FAKE[:, :2], 1.0), ValueError, r"samples have shape \(60, 4\) and centers"),
        (lambda: mode_coverage(REAL, FAKE, 0.0), ValueError, "scale must be a positive number, but is 0.0"),
        (lambda: mode_coverage(REAL, FAKE, math.nan), ValueError, "scale must be a positive number, but is nan"),
        (
            lambda: mode_coverage(REAL, FAKE, 1.0, num_deviations=-1),
            ValueError,
            "num_deviations must be a positive number, but is -1",
        ),
        (lambda: label_coverage([0.0, 1.0], 2), ValueError, r"labels must be integers .* torch.float32 with shape"),
        (lambda: label_coverage([[0, 1]], 2), ValueError, r"labels must be integers .* with shape \(1, 2\)"),
        (lambda: label_coverage([True], 2), ValueError, "labels must be integers .* torch.bool"),
        (lambda: label_coverage(torch.tensor([], dtype=torch.int64), 2), ValueError, "labels must hold at least one"),
        (lambda: label_coverage([0, 2], 2), ValueError, "labels must lie from 0 to num_modes - 1 = 1, .* from 0 to 2"),
        (lambda: label_coverage([-1], 2), ValueError, "labels must lie from 0 to num_modes - 1 = 1, .* from -1 to -1"),
        (lambda: label_coverage([0], 0.5), TypeError, "num_modes must be a positive integer, but is 0.5"),
        (lambda: support_size(REAL, threshold=-1.0), ValueError, "threshold must be a distance of 0 or more, .* -1.0"),
        (lambda: support_size(REAL, threshold=math.inf), ValueError, "threshold must be a distance .* inf"),
        (lambda: support_size(REAL[:1], threshold=1.0), ValueError, "expected at least 2 samples, but there is 1"),
        (lambda: support_size(REAL.long(), threshold=1.0), ValueError, "samples are of type torch.int64"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
