import math
import os

import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity

from pyro_gan.criticism import parzen, parzen_log_likelihood, select_bandwidth
from pyro_gan.datasets import load_digits, load_mnist

GENERATOR = torch.Generator().manual_seed(0)
SAMPLES = torch.randn(200, 5, dtype=torch.float64, generator=GENERATOR)
TEST = torch.randn(50, 5, dtype=torch.float64, generator=GENERATOR)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_parzen_equals_scikit_learns_kernel_density(sigma):
    # One leaf holds all samples: summed over a tree, scikit-learn's own log-densities are off by nats far out.
    expected = KernelDensity(bandwidth=sigma, leaf_size=1000).fit(SAMPLES).score_samples(TEST)
    estimate = parzen_log_likelihood(SAMPLES, TEST, sigma)
    assert estimate.mean == pytest.approx(expected.mean(), abs=1e-6)
    assert estimate.standard_error == pytest.approx(expected.std() / math.sqrt(len(expected)), abs=1e-6)


def test_parzen_equals_a_naive_double_loop():
    sigma, total = 0.3, 0.0
    for row in TEST:
        densities = [math.exp(-float((row - sample).square().sum()) / (2 * sigma**2)) for sample in SAMPLES]
        total += math.log(sum(densities) / len(SAMPLES)) - 2.5 * math.log(2 * math.pi * sigma**2)
    assert parzen_log_likelihood(SAMPLES, TEST, sigma).mean == pytest.approx(total / len(TEST), abs=1e-9)


def test_parzen_takes_arrays_images_and_single_precision():
    expected = parzen_log_likelihood(SAMPLES, TEST, 0.5).mean
    images = SAMPLES.reshape(200, 1, 5), TEST.reshape(50, 1, 5)
    assert parzen_log_likelihood(*images, 0.5).mean == expected
    assert parzen_log_likelihood(SAMPLES.numpy(), TEST.numpy(), 0.5).mean == expected
    far = parzen_log_likelihood((SAMPLES + 100).float(), (TEST + 100).float(), 0.5).mean
    assert far == pytest.approx(expected, abs=1e-3)
    assert parzen_log_likelihood(SAMPLES.requires_grad_(), TEST, 0.5).mean == expected
    SAMPLES.requires_grad_(False)


def test_parzen_does_not_depend_on_its_chunks(monkeypatch):
    expected = parzen_log_likelihood(SAMPLES, TEST, 0.5)
    monkeypatch.setattr(parzen, "CHUNK_ENTRIES", 3 * len(SAMPLES))
    assert parzen_log_likelihood(SAMPLES, TEST, 0.5).mean == pytest.approx(expected.mean, abs=1e-12)


def test_the_bandwidth_is_the_likeliest():
    widths = [0.05, 0.2, 0.7, 3.0]
    likelihoods = [parzen_log_likelihood(SAMPLES, TEST, width).mean for width in widths]
    assert select_bandwidth(SAMPLES, TEST, widths) == widths[int(np.argmax(likelihoods))]
    assert 0.1 <= select_bandwidth(SAMPLES, TEST) <= 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SAMPLES, TEST[:, :4], 0.5), r"samples have shape \(200, 5\) and test rows \(50, 4\)"),
        ((SAMPLES[:0], TEST, 0.5), "expected rows in both, but there are 0 samples and 50 test rows"),
        ((SAMPLES.int(), TEST, 0.5), "samples are of type torch.int32, but expected floating point"),
        ((SAMPLES, TEST * math.nan, 0.5), "test rows hold NaN or infinity"),
        ((SAMPLES, TEST, 0.0), "sigma must be a positive number, but is 0.0"),
        ((SAMPLES, TEST, math.nan), "sigma must be a positive number, but is nan"),
    ],
)
def test_parzen_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        parzen_log_likelihood(*arguments)


def test_no_widths_are_refused():
    with pytest.raises(ValueError, match="sigmas must hold at least one width"):
        select_bandwidth(SAMPLES, TEST, [])


DATA_FOLDERS = [os.environ["PYRO_GAN_DATA"]] if "PYRO_GAN_DATA" in os.environ else []


def test_real_digits_as_samples_score_what_the_protocol_gives():
    # The 2014 protocol in full where MNIST is at hand; elsewhere the same on fewer, smaller digits.
    if DATA_FOLDERS:
        train, test = load_mnist(download=False)
        images, held_out = train.images / 255, test.images / 255
        samples, validation, low, high = images[torch.randperm(50_000)[:10_000]], images[50_000:51_000], 241.0, 243.5
    else:
        images = load_digits().images / 255
        samples, validation, held_out, low, high = images[700:], images[:100], images[100:700], 20.0, 26.0
    estimate = parzen_log_likelihood(samples, held_out, select_bandwidth(samples, validation))
    assert low < estimate.mean < high
