"""What an inference with a guide hands to ArviZ."""

import pyro
import pyro.distributions as dist
import torch

from pyro_gan import BiGANInference, ImplicitKLqp

X = torch.linspace(-1.0, 1.0, 20)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(10 * z, 0.01), obs=x)


def guide(x):
    slope = pyro.param("slope", torch.tensor(2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x, 0.01))


def test_draws_of_the_guide_and_what_follows_from_them_have_groups_of_their_own():
    pyro.set_rng_seed(0)
    inference = BiGANInference(model, guide)
    exported = inference.to_inference_data(X, num_draws=50)
    assert exported.posterior["z"].dims == ("chain", "draw", "data") and exported.posterior["z"].shape == (1, 50, 20)
    means = torch.from_numpy(exported.posterior["z"].values).mean((0, 1))
    predicted = torch.from_numpy(exported.posterior_predictive["x"].values).mean((0, 1))
    assert (means - 2 * X).abs().max() < 0.01  # what the guide says, not what is right
    assert (predicted - 20 * X).abs().max() < 0.1
    assert abs(float(exported.prior["z"].std()) - 1) < 0.1 and abs(float(exported.prior_predictive["x"].std()) - 10) < 1
    assert exported.observed_data["x"].shape == (20,) and "z" not in exported.observed_data


def test_global_sites_are_exported_once_a_draw():
    def global_model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def global_guide(x):
        pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    exported = ImplicitKLqp(global_model, global_guide, global_sites="mean").to_inference_data(X, num_draws=7)
    assert exported.posterior["mean"].shape == (1, 7) and exported.posterior_predictive["x"].shape == (1, 7, 20)
