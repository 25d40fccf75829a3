"""Features of large sites and of small ones, and their products, in discriminators that build themselves."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, leaky_relu

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, ImplicitKLqp
from pyro_gan.auto.networks import Embedding, SlowLinear
from pyro_gan.auto.products import Products
from pyro_gan.datasets import load_digits


def embedding(**rows):
    """That of a discriminator which such rows have built."""
    discriminator = AutoDiscriminator(width=8)
    discriminator(**rows)
    return discriminator.embedding


def test_the_logit_is_a_network_of_both_kinds_features_and_of_their_products():
    pyro.set_rng_seed(0)
    discriminator = AutoDiscriminator(width=8)
    rows = {"z": torch.randn(50, 2), "x": torch.randn(50, 64), "c": torch.rand(50, 1)}
    logits = discriminator(**rows)
    seen = discriminator.coordinates(rows)
    large, small = discriminator.embedding.networks
    of_large, of_small = large(seen["x"]), small(torch.cat([seen["z"], seen["c"]], 1))
    features = torch.cat([leaky_relu(of_large, 0.2), leaky_relu(of_small, 0.2), of_large * of_small], 1)
    assert torch.allclose(discriminator.network(features).squeeze(1), logits)


@pytest.mark.parametrize(
    ("rows", "is_multiplied"),
    [
        ({"x": torch.randn(9, 64), "z": torch.randn(9, 2)}, True),
        ({"x": torch.rand(9, 1, 8, 8), "z": torch.randn(9, 2)}, True),
        ({"x": torch.randn(9, 63), "z": torch.randn(9, 2)}, False),
        ({"x": torch.randn(9, 64), "z": torch.randn(9, 64)}, False),
        ({"x": torch.randn(9, 64)}, False),
    ],
    ids=["vector", "image", "small", "both large", "alone"],
)
def test_products_are_for_a_large_site_beside_small_ones(rows, is_multiplied):
    assert type(embedding(**rows)) is (Products if is_multiplied else Embedding)


def test_labels_are_small_however_many_there_are():
    rows = {"c": torch.arange(640) % 64, "z": torch.randn(640, 2)}
    discriminator = AutoDiscriminator(width=8)
    discriminator.setup({"c": dist.Categorical(torch.ones(64)).support}, rows)
    assert discriminator.coordinates(rows)["c"].shape == (640, 64)
    assert type(discriminator.embedding) is Embedding


def test_a_rows_logit_depends_on_that_row_alone_and_has_second_derivatives():
    pyro.set_rng_seed(0)
    discriminator = AutoDiscriminator(width=8)
    x, z = torch.randn(5, 64, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    logits = discriminator(x=x, z=z)
    assert torch.allclose(discriminator(x=x[3:4], z=z[3:4]), logits[3:4])
    slopes = torch.autograd.grad(logits.sum(), z, create_graph=True)[0]
    assert torch.autograd.grad(slopes.square().sum(), z)[0].abs().min() > 0


def test_states_from_before_there_were_products_build_what_they_were_saved_from():
    rows = {"x": torch.randn(20, 64), "z": torch.randn(20, 2)}
    discriminator = AutoDiscriminator(width=8)
    discriminator(**rows)
    built = discriminator.built()
    again, before = AutoDiscriminator(width=8), AutoDiscriminator(width=8)
    again.build_as(pickle.loads(pickle.dumps(built)))
    before.build_as({site: {key: each[key] for key in each if key != "is_large"} for site, each in built.items()})
    again(**rows), before(**rows)
    again.load_state_dict(discriminator.state_dict())
    assert torch.equal(again(**rows), discriminator(**rows))
    assert type(before.embedding) is Embedding and before.network[0].in_features == 66


def same_digit(num_steps):
    """The part of held-out images whose reconstruction a classifier takes for the same digit."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    digits = load_digits()
    images, labels = digits.images / 255, digits.labels
    generator = nn.Sequential(nn.Linear(16, 128), nn.LeakyReLU(0.2), nn.Linear(128, 64), nn.Sigmoid())

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(torch.zeros(16), 1.0).to_event(1))
            return pyro.deterministic("x", generator(z), event_dim=1)

    inference = BiGANInference(model, AutoImplicitGuide(model))
    inference.run(images[300:], num_steps=num_steps, batch_size=128, progress=False)
    classifier = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    for _ in range(500):
        rows = torch.randint(300, len(images), (256,))
        optimizer.zero_grad()
        cross_entropy(classifier(images[rows]), labels[rows]).backward()
        optimizer.step()
    said, said_again = (classifier(x).argmax(1) for x in (images[:300], inference.reconstruct(images[:300])))
    return (said == said_again).float().mean().item()


@pytest.mark.slow
def test_three_lines_reconstruct_digits():
    assert same_digit(1) < 0.2
    assert same_digit(1500) > 0.8


TIMES = torch.linspace(0.0, 6.0, 100)


def waves(x=None, batch_size=256):
    """A hundred numbers of a wave with noise, of a height and a frequency."""
    with pyro.plate("data", batch_size if x is None else len(x)):
        height = pyro.sample("height", dist.Normal(0.0, 1.0))
        frequency = pyro.sample("frequency", dist.Uniform(0.5, 2.0))
        wave = height[..., None] * torch.sin(frequency[..., None] * TIMES)
        pyro.sample("x", dist.Normal(wave, 0.5).to_event(1), obs=x)


def mean_and_deviation(weights, values):
    mean = (weights * values).sum(-1)
    return mean, ((weights * values**2).sum(-1) - mean**2).sqrt()


@pytest.mark.parametrize(
    ("inference_class", "num_numbers", "kind"),
    [(BiGANInference, 63, SlowLinear), (BiGANInference, 64, nn.Linear), (ImplicitKLqp, 64, SlowLinear)],
)
def test_guides_of_large_observations_are_fast_where_they_are_learned_from_pairs(inference_class, num_numbers, kind):
    pyro.clear_param_store()

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None], torch.ones(num_numbers)).to_event(1), obs=x)

    guide = AutoImplicitGuide(model, width=8)
    inference = inference_class(model, guide)
    inference.step(torch.randn(9, num_numbers))
    layers = [layer for layer in guide.posterior.own.modules() if isinstance(layer, nn.Linear)]
    assert {type(layer) for layer in layers} == {kind}
    embedding = inference.discriminator.function.embedding
    assert isinstance(embedding, Products) == (kind is nn.Linear)


@pytest.mark.slow
def test_a_posterior_given_a_hundred_numbers_is_learned_in_time():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    runs = (pyro.poutine.trace(waves).get_trace(None, number) for number in (10_000, 200))
    data, test = ({site: run.nodes[site]["value"] for site in ("height", "frequency", "x")} for run in runs)
    inference = BiGANInference(waves, AutoImplicitGuide(waves, observed="x"))
    inference.run(data, num_steps=2000, batch_size=256, progress=False)
    draws = inference.sample_posterior(test["x"], 500)

    heights, frequencies = torch.linspace(-4.0, 4.0, 161), torch.linspace(0.5, 2.0, 101)
    grid = heights[:, None, None] * torch.sin(frequencies[:, None] * TIMES)
    for site, values, other in (("height", heights, 1), ("frequency", frequencies, 0)):
        errors, ratios = [], []
        for number, x in enumerate(test["x"]):
            log_density = -((x - grid) / 0.5).square().sum(2) / 2 - heights[:, None].square() / 2
            weights = (log_density - log_density.logsumexp((0, 1))).exp().sum(other)
            mean, deviation = mean_and_deviation(weights, values)
            of_guide = draws[site][:, number]
            errors.append((of_guide.mean() - mean).abs() / deviation)
            ratios.append(of_guide.std() / deviation)
        assert torch.stack(errors).median() < 0.75
        assert torch.stack(ratios).median() == pytest.approx(1.0, abs=0.3)
