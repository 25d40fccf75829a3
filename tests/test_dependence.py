"""From which random variables each one of a model was computed, as far as torch can tell."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive

from pyro_gan import AutoImplicitGuide, BiGANInference
from pyro_gan.players.calls import Arguments
from pyro_gan.players.dependence import dependence, noisy


def latent():
    return pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))


def given_a_vector(distribution):
    """A model that draws one more site given a vector of positive numbers."""

    def model():
        pyro.sample("x", distribution(latent().exp()))

    return model


DISTRIBUTIONS = {
    "exponential": lambda z: dist.Exponential(z.expand(3, 4)).to_event(2),
    "multinomial": lambda z: dist.Multinomial(5, z),
    "Dirichlet-multinomial": lambda z: dist.DirichletMultinomial(z, 5),
    "Poisson": lambda z: dist.Poisson(z).to_event(1),
    "Student": lambda z: dist.StudentT(3.0, z).to_event(1),
    "mixture": lambda z: dist.MixtureSameFamily(dist.Categorical(torch.ones(4)), dist.Normal(z, 1.0)),
    "stable": lambda z: dist.Stable(1.5, 0.1, z).to_event(1),
    "von Mises": lambda z: dist.VonMises(z, 1.0).to_event(1),
    "by its size": lambda z: dist.Normal(z.new(z.shape).zero_() + z, 1.0).to_event(1),
    "written all over": lambda z: dist.Normal(torch.zeros(4).copy_(z), 1.0).to_event(1),
    "added to": lambda z: dist.Normal(added(torch.zeros(4), z), 1.0).to_event(1),
}


def added(x, z):
    x += z
    return x


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_site_depends_on_that_of_its_parameters(name):
    assert dependence(given_a_vector(DISTRIBUTIONS[name]), Arguments((), {})) == {"z": set(), "x": {"z"}}


def by_a_flow():
    flow = dist.transforms.Planar(4)  # has no inverse: a density is known of what it has just drawn
    z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(4), 1.0).to_event(1), [flow]))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1))


def through_another():
    pyro.sample("x", dist.Normal(pyro.deterministic("y", 2 * latent(), event_dim=1), 1.0).to_event(1))


def under_two_names():
    z = latent()
    pyro.deterministic("y", z, event_dim=1)
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1))


def side_by_side_in_an_array():
    z, both = latent(), torch.zeros(2, 4)
    both[0] = pyro.sample("y", dist.Normal(z, 1.0).to_event(1))
    both[1] = 2 * z
    pyro.sample("x", dist.Normal(z + 0 * both[1], 1.0).to_event(1))


def side_by_side_by_an_index():
    z, both = latent(), torch.zeros(2, 4)
    y = pyro.sample("y", dist.Normal(z, 1.0).to_event(1))
    both.index_copy_(0, torch.tensor([0]), y.unsqueeze(0))
    pyro.sample("x", dist.Normal(z + both[1], 1.0).to_event(1))


def of_the_same_type():
    z, constant = latent(), torch.zeros(4)
    y = pyro.sample("y", dist.Normal(z, 1.0).to_event(1))
    constant.to(y)
    pyro.sample("x", dist.Normal(z + constant, 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (by_a_flow, {"z": set(), "x": {"z"}}),
        (through_another, {"z": set(), "y": {"z"}, "x": {"y"}}),
        (under_two_names, {"z": set(), "y": {"z"}, "x": {"z"}}),
        *((each, {"z": set(), "y": {"z"}, "x": {"z"}}) for each in (side_by_side_in_an_array, of_the_same_type)),
        (side_by_side_by_an_index, {"z": set(), "y": {"z"}, "x": {"z"}}),
    ],
)
def test_a_site_depends_directly_on_what_it_was_computed_from(model, expected):
    assert dependence(model, Arguments((), {})) == expected


def test_what_leaves_torch_and_what_fails_depend_on_nothing():
    assert dependence(lambda: pyro.sample("x", dist.Normal(float(latent()[0]), 1.0)), Arguments((), {})) == {
        "z": set(),
        "x": set(),
    }
    assert dependence(lambda: latent() @ torch.zeros(3), Arguments((), {})) == {}


class Column(torch.nn.Module):
    """A single feature."""

    def forward(self, rows):
        return rows[:, None]


def shifted(batch_size):
    """A number between the latent and the observation, which is computed by noise that is no site."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.deterministic("y", 2 * z)
        pyro.deterministic("x", y + torch.randn(batch_size))


def simulated(model):
    pyro.clear_param_store()
    return {site: rows[0] for site, rows in Predictive(model, num_samples=1)(batch_size=100).items()}


def briefly(model, data, site=None, **options):
    guide = AutoImplicitGuide(model, width=8, depth=1, **options)
    return BiGANInference(model, guide, site=site).run(data, num_steps=2, batch_size=50, progress=False)


def test_a_number_computed_between_latents_and_a_computed_observation_is_no_data_and_told_of():
    data = simulated(shifted)
    assert set(data) == {"z", "y", "x"}
    with pytest.warns(UserWarning) as found:
        inference = briefly(shifted, data)
    assert [str(each.message) for each in found] == [
        "the model computes 'y' from its latents, and from that 'x': the data's 'y' is not taken for an observation. "
        "If it is one, name all of them, AutoImplicitGuide(model, observed=['y', 'x'])."
    ]
    assert inference.observed_sites == ("x",)
    assert inference.sample_posterior(torch.tensor(0.5), num_samples=3)["z"].shape == (3,)


@pytest.mark.parametrize(
    "options", [{"observed": ["y", "x"]}, {"site": ["z", "y", "x"]}, {"embedding": {"y": Column()}}]
)
def test_it_is_data_where_it_is_named(options):
    assert set(briefly(shifted, simulated(shifted), **options).observed_sites) == {"x", "y"}


def test_it_is_told_of_only_where_the_data_hold_it_and_nobody_said_what_is_observed():
    data = simulated(shifted)
    assert briefly(shifted, data, observed="x").observed_sites == ("x",)
    del data["y"]
    assert briefly(shifted, data).observed_sites == ("x",)


def summed_up(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.deterministic("y", z[:, None] + torch.randn(batch_size, 5), event_dim=1)
        pyro.deterministic("x", y.mean(1))


def one_after_the_other(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.deterministic("y", z + torch.randn(batch_size))
        pyro.deterministic("x", z * y + torch.randn(batch_size))


@pytest.mark.parametrize("model", [summed_up, one_after_the_other])
def test_an_observation_from_which_another_is_computed_is_data(model):
    pyro.set_rng_seed(0)
    inference = briefly(model, simulated(model))
    assert set(inference.observed_sites) == {"x", "y"}


def test_what_is_noisy_is_told_apart_and_nothing_where_a_model_can_not_be_run_again():
    arguments = Arguments((), {"batch_size": 7})
    assert noisy(shifted, arguments) == {"x"}
    assert noisy(summed_up, arguments) == {"x", "y"}
    scales = iter([1.0])

    def once(batch_size):
        z = pyro.sample("z", dist.Normal(torch.zeros(batch_size), next(scales)).to_event(1))
        pyro.deterministic("x", 2 * z, event_dim=1)

    assert noisy(once, arguments) == {"z", "x"}
