"""First runs by defaults on data in whatever units: tables, series and long tails are learned."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from pyro_gan import AutoDiscriminator, GANInference, Standardized

pytestmark = pytest.mark.slow


def network(num_inputs, num_outputs, width=64):
    layers = [nn.Linear(num_inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def model_of(generator, noise, event_dim):
    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([noise]).to_event(1))
            pyro.deterministic("x", generator(eps), event_dim=event_dim)

    return model


def people(unit, num_rows):
    age = 40 + 12 * torch.randn(num_rows)
    income = unit * (3.7 + 0.01 * age + 0.5 * torch.randn(num_rows)).exp()
    return torch.stack([age, income], 1)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_a_table_of_ages_and_incomes_is_learned_in_any_unit(unit):
    pyro.set_rng_seed(0)
    rows = people(unit, 20_000)
    model = model_of(Standardized(network(2, 2), rows), 2, 1)
    inference = GANInference(model, AutoDiscriminator(width=64, depth=2))
    inference.run(rows, num_steps=4000, batch_size=256, progress=False)
    drawn, fresh = inference.sample(5000), people(unit, 5000)
    assert max(ks_2samp(*(each[:, column].numpy() for each in (drawn, fresh))).statistic for column in (0, 1)) < 0.1


def series(num_features, num_rows):
    """One feature a volume of 1,000 ± 350, the others of 0.35; each step remembers the one before."""
    steps = [torch.randn(num_rows, num_features)]
    for _ in range(23):
        steps.append(0.7 * steps[-1] + 0.51**0.5 * torch.randn(num_rows, num_features))
    scale = torch.full((num_features,), 0.35)
    scale[0] = 350.0
    return torch.where(torch.arange(num_features) == 0, 1000.0, 0.0) + scale * torch.stack(steps, 1)


class AsSeries(nn.Module):
    """Numbers of a network as rows of 24 times."""

    def __init__(self, num_features):
        super().__init__()
        self.network = network(16, 24 * num_features, 128)
        self.num_features = num_features

    def forward(self, eps):
        return self.network(eps).reshape(*eps.shape[:-1], 24, self.num_features)


@pytest.mark.parametrize("num_features", [7, 9])  # the second has the shape of an image
def test_series_of_features_in_different_units_are_learned(num_features):
    pyro.set_rng_seed(0)
    rows = series(num_features, 10_000)
    inference = GANInference(model_of(Standardized(AsSeries(num_features), rows), 16, 2))
    inference.run(rows, num_steps=3000, batch_size=128, progress=False)
    drawn, fresh = inference.sample(2000), series(num_features, 2000)
    ratios = drawn.std(0) / fresh.std(0)
    assert ratios.min() > 0.6 and ratios.max() < 1.5 and 0.85 < ratios.mean() < 1.15
    assert ((drawn.mean(0) - fresh.mean(0)) / fresh.std(0)).abs().max() < 0.3


def test_a_category_and_an_amount_that_depends_on_it_are_learned():
    """Shares .5, .3, .15, .05; amounts 0 with probability .8, .6, .4, .2, else log-normal with medians 1, e, e², e³."""
    pyro.set_rng_seed(0)
    shares, none = torch.tensor([0.5, 0.3, 0.15, 0.05]), torch.tensor([0.8, 0.6, 0.4, 0.2])
    kind = torch.multinomial(shares, 20_000, replacement=True)
    amount = torch.where(torch.rand(20_000) < none[kind], 0.0, (kind + 0.5 * torch.randn(20_000)).exp())
    generator = network(8, 5)

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            out = generator(pyro.sample("eps", dist.Normal(0.0, 1.0).expand([8]).to_event(1)))
            relaxed = dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), logits=out[..., :4])
            pyro.sample("kind", relaxed)
            pyro.deterministic("amount", out[..., 4].relu(), event_dim=0)

    inference = GANInference(model, AutoDiscriminator(width=64, depth=2), site=["kind", "amount"])
    data = {"kind": nn.functional.one_hot(kind, 4).float(), "amount": amount}
    inference.run(data, num_steps=8000, batch_size=256, progress=False)
    drawn = inference.sample(5000)
    found = drawn["kind"].argmax(1)
    assert torch.bincount(found, minlength=4) / 5000 == pytest.approx(shares, abs=0.07)
    for number in range(3):
        amounts = drawn["amount"][found == number]
        assert (amounts == 0).float().mean().item() == pytest.approx(none[number].item(), abs=0.2)
        assert amounts[amounts > 0].median().log().item() == pytest.approx(number, abs=0.5)


def test_numbers_with_tails_that_have_no_mean_are_learned():
    def draw(num_rows):
        return 3 + 2 * dist.StudentT(1.0, 0.0, 1.0).sample((num_rows, 1))

    pyro.set_rng_seed(0)
    inference = GANInference(model_of(network(4, 1), 4, 1), AutoDiscriminator(width=64, depth=2))
    inference.run(draw(20_000), num_steps=4000, batch_size=256, progress=False)
    assert ks_2samp(inference.sample(5000)[:, 0].numpy(), draw(5000)[:, 0].numpy()).statistic < 0.1
