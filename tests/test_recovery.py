import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import falling_adam, location_model, location_scale_model, scalar_discriminator
from torch import nn
from torch.distributions import Normal

from pyro_gan import GANInference
from pyro_gan.losses import Minimax, NonSaturating


def fit(model, data, seed, num_steps, **kwargs):
    pyro.set_rng_seed(seed)
    adam, adam_d = falling_adam(num_steps, rate=0.005, beta=0.0), falling_adam(num_steps, rate=0.01, beta=0.0)
    inference = GANInference(model, scalar_discriminator(64), adam, adam_d, **{"loss": NonSaturating(), **kwargs})
    return inference.run(data, num_steps=num_steps, batch_size=256, progress=False)


def assert_location_recovered():
    assert abs(pyro.param("loc").item() - 4) < 0.05


def assert_scale_recovered():
    assert abs(pyro.param("loc").item() / 4 - 1) < 0.1
    assert abs(pyro.param("scale").item() / 0.1 - 1) < 0.1


def gaussian_data():
    generator = torch.Generator().manual_seed(0)
    return 4 + 0.1 * torch.randn(2000, generator=generator)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10))])
def test_location_is_recovered(seed):
    inference = GANInference(location_model, scalar_discriminator())
    inference.evaluate_loss(gaussian_data())
    with pytest.raises(AssertionError):
        assert_location_recovered()
    fit(location_model, gaussian_data(), seed, num_steps=3000)
    assert_location_recovered()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_location_and_scale_are_recovered(seed):
    inference = GANInference(location_scale_model, scalar_discriminator())
    inference.evaluate_loss(gaussian_data())
    with pytest.raises(AssertionError):
        assert_scale_recovered()
    fit(location_scale_model, gaussian_data(), seed, num_steps=3000)
    assert_scale_recovered()


def assert_at_equilibrium(inference, data):
    probability = inference.log_ratio(data).sigmoid().mean().item()
    value = -inference.evaluate_loss(data).discriminator.item()
    assert abs(probability - 0.5) < 0.02
    assert abs(value + math.log(4)) < 0.02


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax()])
def test_the_game_ends_at_one_half_and_minus_log_four(loss):
    data = 1 + 0.5 * torch.randn(5000)
    inference = GANInference(location_scale_model, scalar_discriminator(), loss=loss)
    for _ in range(200):
        inference.step(data, player="discriminator")
    with pytest.raises(AssertionError):
        assert_at_equilibrium(inference, data)
    pyro.clear_param_store()
    inference = fit(location_scale_model, data, seed=0, num_steps=3000, loss=loss)
    assert_at_equilibrium(inference, data)


def test_log_ratio_matches_the_closed_form_of_two_gaussians():
    data = 1.0 + torch.randn(20_000)

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    inference = GANInference(model, lambda x: network(x[:, None]), optim_d=falling_adam(1500), loss=NonSaturating())
    x = torch.linspace(-0.5, 2.5, 31)  # where the data lie: one and a half deviations around their mean
    expected = Normal(1.0, 1.0).log_prob(x) - Normal(0.0, 1.0).log_prob(x)
    assert (inference.log_ratio(x) - expected).abs().max() > 0.1
    for start in range(1500):
        rows = (torch.arange(1024) + 1024 * start) % len(data)
        inference.step(data[rows], player="discriminator")
    assert pyro.param("loc").item() == 0
    assert (inference.log_ratio(x) - expected).abs().max() < 0.1
