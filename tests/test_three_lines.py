"""What the three lines learn where posteriors are known: at edges, over magnitudes, and narrow ones."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_gan import AutoImplicitGuide, BiGANInference

pytestmark = pytest.mark.slow


def trained(model, simulations, num_steps):
    """The three lines."""
    pyro.set_rng_seed(0)
    inference = BiGANInference(model, AutoImplicitGuide(model, observed="x"))
    return inference.run(simulations, num_steps=num_steps, batch_size=256, progress=False)


def simulated(model, num_rows):
    """Rows of all sites of a model that takes their number."""
    pyro.set_rng_seed(0)
    trace = pyro.poutine.trace(model).get_trace(num_rows)
    return {site: trace.nodes[site]["value"] for site in ("theta", "x")}


def in_a_box(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Uniform(-torch.ones(2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(theta, 0.3).to_event(1))


def distances_in_a_box(inference, x):
    """From the exact posterior's distribution function, in both directions."""
    draws = inference.sample_posterior(torch.tensor(x), 5000)["theta"]
    assert (draws.abs() <= 1).all()
    for center, column in zip(x, draws.T, strict=True):
        exact = stats.truncnorm((-1 - center) / 0.3, (1 - center) / 0.3, center, 0.3)
        yield stats.kstest(column.numpy(), exact.cdf).statistic


def test_posteriors_are_densest_at_the_edge_of_a_box_where_they_should_be():
    inference = trained(in_a_box, simulated(in_a_box, 10_000), 4000)
    for x in ([1.2, -0.9], [1.0, -1.4]):
        assert max(distances_in_a_box(inference, x)) < 0.06
    assert max(distances_in_a_box(inference, [1.6, -2.0])) < 0.15  # where hardly a simulation is


def of_counts(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(2.0, 3.0))
        return pyro.sample("x", dist.Poisson(theta.exp().unsqueeze(-1).expand(*theta.shape, 3)).to_event(1))


@pytest.mark.parametrize("counts", [(2.0, 1.0, 3.0), (110.0, 96.0, 105.0), (8000.0, 8100.0, 7900.0)])
def test_counts_of_six_orders_of_magnitude_are_right_at_both_ends(counts):
    inference = _counted()
    draws = inference.sample_posterior(torch.tensor(counts), 5000)["theta"]
    places = torch.linspace(-8, 12, 200_001, dtype=torch.float64)
    density = dist.Normal(2.0, 3.0).log_prob(places)
    density += dist.Poisson(places.exp().unsqueeze(-1)).log_prob(torch.tensor(counts).double()).sum(-1)
    weights = (density - density.max()).exp()
    weights /= weights.sum()
    mean = (weights * places).sum()
    deviation = (weights * (places - mean).square()).sum().sqrt()
    assert (draws.mean() - mean).abs() < max(0.5 * deviation, 0.01)
    assert 0.8 < draws.std() / deviation < 1.5 or draws.std() < 0.02


def of_successes(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Beta(0.5, 0.5))
        return pyro.sample("x", dist.Binomial(30, theta))


def test_successes_are_told_apart_where_there_are_hardly_any_and_where_nearly_all_are():
    inference = trained(of_successes, simulated(of_successes, 10_000), 3000)
    for x in (0.0, 1.0, 12.0, 29.0, 30.0):
        draws = inference.sample_posterior(torch.tensor(x), 5000)["theta"]
        assert stats.kstest(draws.numpy(), stats.beta(0.5 + x, 30.5 - x).cdf).statistic < 0.12


_inferences = {}


def _of_either_sign():
    """One inference for all observations."""
    if "signs" not in _inferences:
        _inferences["signs"] = trained(of_either_sign, simulated(of_either_sign, 10_000), 6000)
    return _inferences["signs"]


def _counted():
    """One inference for all counts."""
    if "counts" not in _inferences:
        _inferences["counts"] = trained(of_counts, simulated(of_counts, 10_000), 4000)
    return _inferences["counts"]


def narrow(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        return pyro.sample("x", dist.Normal(theta, 1 / 60))


def test_a_posterior_sixty_times_narrower_than_its_prior_is_as_wide_as_it_should_be():
    inference = trained(narrow, simulated(narrow, 10_000), 1000)
    for x in (-1.5, 0.0, 0.7):
        draws = inference.sample_posterior(torch.tensor(x), 5000)["theta"]
        assert draws.std() * 60 == pytest.approx(1, abs=0.15)
        assert (draws.mean() - x).abs() * 60 < 0.3


def of_ten(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(torch.zeros(10), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(theta, 1.0).to_event(1))


def test_a_posterior_of_ten_numbers_is_not_learned_by_heart_from_a_thousand_simulations():
    inference = trained(of_ten, simulated(of_ten, 1000), 5000)
    divergences = []
    for x in simulated(of_ten, 20)["x"]:  # from the exact posterior, of mean x / 2 and variance 1 / 2
        draws = inference.sample_posterior(x, 5000)["theta"]
        mean, covariance = (draws.mean(0) - x / 2) * 2**0.5, 2 * torch.cov(draws.T)
        divergences.append((covariance.trace() - 10 - torch.logdet(covariance) + mean.square().sum()) / 2)
    assert torch.stack(divergences).mean() < 0.5


def of_either_sign(batch_size):
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(torch.ones(2), 1.0).to_event(1))
        signs = 2.0 * torch.randint(2, theta.shape[:1]) - 1
        return pyro.sample("x", dist.Normal(signs.unsqueeze(-1) * theta, 0.3).to_event(1))


@pytest.mark.parametrize("x", [(0.5, 0.5), (0.5, -0.1), (1.0, 0.2), (0.9, -1.0), (1.0, -1.0)])
def test_both_modes_of_a_posterior_have_their_weight_and_are_as_wide_as_they_should_be(x):
    noise = 0.3
    narrowing = 1 / (1 + 1 / noise**2)
    signs, place = torch.tensor([[1.0], [-1.0]]), torch.tensor(x)
    means = narrowing * (1 + signs * place / noise**2)
    weights = torch.softmax(-((signs * place - 1) ** 2).sum(1) / (2 * (1 + noise**2)), 0)
    torch.manual_seed(0)
    exact = means[torch.multinomial(weights, 20_000, replacement=True)]
    exact += narrowing**0.5 * torch.randn(20_000, 2)
    draws = _of_either_sign().sample_posterior(place, 5000)["theta"]
    ours, theirs = (torch.cdist(each, means).argmin(1) for each in (draws, exact))
    assert (ours == 0).float().mean().item() == pytest.approx((theirs == 0).float().mean().item(), abs=0.05)
    for mode in (0, 1):
        ratios = draws[ours == mode].std(0) / exact[theirs == mode].std(0)
        assert (ratios < (1.2 if weights[mode] > 0.2 else 1.35)).all()
        assert (ratios > 0.8).all()
