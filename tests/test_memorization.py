import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.neighbors import NearestNeighbors

from pyro_gan.criticism import parzen_log_likelihood, select_bandwidth
from pyro_gan.criticism.coverage import density_coverage
from pyro_gan.criticism.neighbours import memorization, nearest_rows
from pyro_gan.datasets import load_digits

GENERATOR = torch.Generator().manual_seed(0)
SAMPLES = torch.randn(70, 5, dtype=torch.float64, generator=GENERATOR)
TRAINING = torch.randn(200, 5, dtype=torch.float64, generator=GENERATOR)
MODULE = sys.modules["pyro_gan.criticism.neighbours"]  # the package exports the function of the same name
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def scikit_learns(samples, training, num_neighbours):
    """By a tree, which takes differences: its brute force takes products, and loses the digits of small distances."""
    search = NearestNeighbors(n_neighbors=num_neighbours, algorithm="kd_tree").fit(training.double().numpy())
    return search.kneighbors(samples.double().numpy())


@pytest.mark.parametrize("num_neighbours", [1, 7, 200])
def test_nearest_rows_equal_scikit_learns(num_neighbours):
    distances, indices = scikit_learns(SAMPLES, TRAINING, num_neighbours)
    found = nearest_rows(SAMPLES, TRAINING, num_neighbours=num_neighbours)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_near_copies_in_single_precision_keep_their_distances(offset):
    training = (TRAINING + offset).float()
    copies = training[:50] + torch.tensor(1e-3) * SAMPLES[:50].float()
    distances, indices = scikit_learns(copies, training, 2)
    found = nearest_rows(copies, training, num_neighbours=2)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_a_row_is_its_own_nearest_at_no_distance():
    found = nearest_rows(TRAINING + 1e6, TRAINING + 1e6)
    assert found.distances.max() == 0
    assert found.indices[:, 0].tolist() == list(range(200))


def test_chunks_arrays_images_and_gradients_change_nothing(monkeypatch):
    expected = nearest_rows(SAMPLES, TRAINING, num_neighbours=3)
    images = nearest_rows(SAMPLES.reshape(70, 1, 5).numpy(), TRAINING.reshape(200, 1, 5).clone().requires_grad_())
    assert torch.equal(images.indices[:, 0], expected.indices[:, 0])
    assert not images.distances.requires_grad
    monkeypatch.setattr(MODULE, "CHUNK_ENTRIES", 3 * len(TRAINING))
    chunked = nearest_rows(SAMPLES, TRAINING, num_neighbours=3)
    assert torch.equal(chunked.indices, expected.indices)
    assert torch.equal(chunked.distances, expected.distances)


def test_chunks_bound_what_is_held_at_once(monkeypatch):
    monkeypatch.setattr(MODULE, "CHUNK_ENTRIES", 1000)
    shapes = [squared.shape for _, squared in MODULE.squared_distances(SAMPLES, TRAINING)]
    assert shapes == [(5, 200)] * 14
    wide = [squared.shape for _, squared in MODULE.squared_distances(SAMPLES.repeat(1, 50), TRAINING.repeat(1, 50), 2)]
    assert wide == [(2, 200)] * 35


@pytest.mark.parametrize("size", [1, 30, 20_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squared_distances_are_never_above_the_true_ones(size, dtype):
    rows, others = torch.randn(2, 40, size, dtype=dtype, generator=GENERATOR)
    others[:20] = rows[:20] * (1 + 1e-6)
    ((_, squared),) = MODULE.squared_distances(rows, others)
    exact = (rows[:, None].double() - others.double()).square().sum(2)
    norms = sum((part.double() - others.double().mean(0)).square().sum(1) for part in (rows, others))
    assert (squared <= exact).all()
    assert (exact - squared).max() < 3 * MODULE.ROUNDING * norms.max()


def test_memorization_by_hand():
    training = torch.tensor([[0.0], [10.0]])
    result = memorization(torch.tensor([[1.0], [9.5]]), training, torch.tensor([[3.0], [6.0]]))
    assert result.sample_distance == 0.75
    assert result.held_out_distance == 3.5
    assert result.probability_nearer == 1.0
    assert result.pvalue == pytest.approx(1 / 6)  # one of the 6 orders of two and two


def test_ties_count_as_halves():
    training = torch.zeros(1, 1)
    result = memorization(torch.tensor([[1.0], [2.0]]), training, torch.tensor([[2.0], [3.0]]))
    assert result.probability_nearer == 3.5 / 4
    same = memorization(torch.ones(20, 3), torch.ones(10, 3), torch.ones(30, 3))
    assert same == (0.0, 0.0, 0.5, 1.0)


def test_pvalues_of_a_perfect_sampler_are_uniform():
    pvalues = [memorization(*torch.randn(3, 60, 2, generator=GENERATOR)).pvalue for _ in range(300)]
    assert kstest(pvalues, "uniform").pvalue > 0.01


def test_copies_are_found_whatever_their_noise_until_it_is_as_wide_as_the_gaps():
    training, held_out, noise = torch.randn(3, 500, 3, generator=GENERATOR)
    nearer = [memorization(training + width * noise, training, held_out).probability_nearer for width in (0, 0.05, 0.2)]
    assert nearer[0] == 1
    assert nearer[0] >= nearer[1] > nearer[2] > 0.5
    far = memorization(3 * noise, training, held_out)  # far samples are no copies
    assert far.probability_nearer < 0.3
    assert far.pvalue > 0.99


def test_a_model_that_repeats_its_training_rows_is_exposed_where_parzen_praises_it():
    digits = load_digits().images.float() / 255
    digits = digits[torch.randperm(len(digits), generator=GENERATOR)]
    training, validation, test, real = digits.split([597, 300, 303, 597])
    copies = training + 0.01 * torch.randn(training.shape, generator=GENERATOR)
    blurred = real + 0.1 * torch.randn(real.shape, generator=GENERATOR)  # new digits, not quite right
    values = {
        name: parzen_log_likelihood(rows, test, select_bandwidth(rows, validation))
        for name, rows in {"real": real, "copies": copies, "blurred": blurred}.items()
    }
    # To Parzen windows, and to coverage, copies are as good as new digits, and far better than the blurred ones.
    assert abs(values["copies"].mean - values["real"].mean) < 2 * values["real"].standard_error
    assert values["copies"].mean > values["blurred"].mean + 5 * values["blurred"].standard_error
    assert density_coverage(test, copies).coverage == pytest.approx(density_coverage(test, real).coverage, abs=0.02)
    # To the distances they are not.
    exposed = memorization(copies, training, test)
    assert exposed.sample_distance < 0.1 * exposed.held_out_distance
    assert exposed.probability_nearer > 0.99
    assert exposed.pvalue < 1e-50
    for honest in real, blurred:
        assert memorization(honest, training, test).pvalue > 0.01


@pytest.mark.parametrize("device", DEVICES)
def test_rows_stay_on_their_device(device):
    found = nearest_rows(SAMPLES.to(device), TRAINING.to(device))
    assert found.distances.device.type == found.indices.device.type == device
    torch.testing.assert_close(found.distances.cpu(), nearest_rows(SAMPLES, TRAINING).distances)
    rows = [rows.to(device) for rows in (SAMPLES, TRAINING, SAMPLES + 1)]
    assert memorization(*rows) == pytest.approx(memorization(SAMPLES, TRAINING, SAMPLES + 1))


@pytest.mark.parametrize(
    ("arguments", "number", "error", "message"),
    [
        ((SAMPLES, TRAINING[:, :4]), 1, ValueError, r"samples have shape \(70, 5\) and training rows \(200, 4\)"),
        ((SAMPLES[:0], TRAINING), 1, ValueError, "there are 0 samples and 200 training rows"),
        ((SAMPLES.int(), TRAINING), 1, ValueError, "samples are of type torch.int32, but expected floating point"),
        ((SAMPLES, TRAINING * math.nan), 1, ValueError, "training rows hold NaN or infinity"),
        ((SAMPLES, TRAINING), 201, ValueError, "num_neighbours is 201, but there are only 200 training rows"),
        ((SAMPLES, TRAINING), 0, ValueError, "num_neighbours must be a positive integer, but is 0"),
        ((SAMPLES, TRAINING), 1.5, TypeError, "num_neighbours must be a positive integer, but is 1.5"),
    ],
)
def test_nearest_rows_refuse(arguments, number, error, message):
    with pytest.raises(error, match=message):
        nearest_rows(*arguments, num_neighbours=number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SAMPLES[:, :4], TRAINING, TRAINING), r"samples have shape \(70, 4\) and training rows \(200, 5\)"),
        ((SAMPLES, TRAINING, SAMPLES[:0]), "there are 0 held-out rows and 200 training rows"),
        ((SAMPLES, TRAINING, SAMPLES / 0), "held-out rows hold NaN or infinity"),
    ],
)
def test_memorization_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        memorization(*arguments)
