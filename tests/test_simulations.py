"""The plainest simulators: sites that nothing observes, with and without plates, as `Predictive` simulates them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_posterior
from pyro.infer import Predictive

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference


def plain():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(theta, 0.5))


def in_a_plate(batch_size):
    with pyro.plate("data", batch_size):
        plain()


def in_a_plate_of_a_size():
    with pyro.plate("data", 64):
        plain()


def observing(x=None):
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    mean = pyro.deterministic("mean", 2 * theta)
    pyro.sample("x", dist.Normal(mean, 0.5), obs=x)


def counts():
    pyro.sample("x", dist.Poisson(pyro.sample("theta", dist.Gamma(2.0, 1.0))))


def with_a_plate_within():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    with pyro.plate("observations", 4):
        pyro.sample("x", dist.Normal(theta, 0.5))


def of_vectors():
    theta = pyro.sample("theta", dist.Dirichlet(torch.ones(3)))
    pyro.sample("x", dist.MultivariateNormal(theta[..., :2], 0.1 * torch.eye(2)))


def through_a_deterministic_site():
    mean = pyro.deterministic("mean", 2 * pyro.sample("theta", dist.Normal(0.0, 1.0)))
    pyro.sample("x", dist.Poisson(mean.exp()))


def computed():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.deterministic("x", theta + 0.5 * torch.randn(()), event_dim=0)


def with_a_plate_of_latents():
    with pyro.plate("groups", 3):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(theta.sum(-1), 0.5))


def of_waiting_times():
    rate = pyro.sample("theta", dist.Gamma(2.0, 1.0))
    pyro.sample("x", dist.Exponential(rate[..., None, None].expand(*rate.shape, 2, 5)).to_event(2))


def of_votes():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Multinomial(20, logits=torch.stack([theta, -theta], -1)))


MODELS = [
    plain,
    in_a_plate,
    in_a_plate_of_a_size,
    observing,
    counts,
    with_a_plate_within,
    of_vectors,
    through_a_deterministic_site,
    computed,
    with_a_plate_of_latents,
    of_waiting_times,
    of_votes,
]


def simulated(model, number=64):
    """Simulations, as a user has them."""
    if model is in_a_plate:
        return {site: rows[0] for site, rows in Predictive(model, num_samples=1)(batch_size=number).items()}
    if model is in_a_plate_of_a_size:
        return {site: rows[0] for site, rows in Predictive(model, num_samples=1)().items()}
    return Predictive(model, num_samples=number)()


def built(model, **options):
    return BiGANInference(model, AutoImplicitGuide(model, width=8, depth=1, **options), AutoDiscriminator(width=8))


@pytest.mark.parametrize("observed", [{}, {"observed": "x"}], ids=["", "named"])
@pytest.mark.parametrize("model", MODELS)
def test_what_predictive_makes_of_a_simulator_is_trained_on(model, observed, tmp_path):
    simulations = simulated(model)
    inference = built(model, **observed).run(simulations, num_steps=3, batch_size=16, progress=False)
    assert inference.latent_sites == ("theta",) and inference.observed_sites == ("x",)
    x = simulations["x"]
    latent = {"of_vectors": (3,), "with_a_plate_of_latents": (3,)}.get(model.__name__, ())
    draws = inference.sample_posterior(x[:5], num_samples=4)["theta"]
    assert draws.shape == (4, 5, *latent)
    (support,) = (inference.supports()[site] for site in inference.latent_sites)
    assert support.check(draws).all()
    one = inference.sample_posterior(x[0], num_samples=4)
    assert one["theta"].shape == (4, *latent)
    if model is not in_a_plate_of_a_size:  # which draws as many rows as it draws
        assert inference.decode(one).shape == (4, *x.shape[1:])
        assert inference.reconstruct(x[:5]).shape == x[:5].shape
        assert inference.reconstruct(x[0]).shape == x[0].shape
    drawn = inference.sample(7)
    assert drawn["theta"].shape == (7, *latent) and drawn["x"].shape == (7, *x.shape[1:])
    inference.save(tmp_path / "state")
    pyro.set_rng_seed(1)
    expected = inference.sample_posterior(x[:5], num_samples=4)["theta"]
    pyro.clear_param_store()
    fresh = built(model, **observed).load(tmp_path / "state")
    fresh.sample_posterior(x[:5], num_samples=1)
    pyro.set_rng_seed(1)
    assert torch.equal(fresh.sample_posterior(x[:5], num_samples=4)["theta"], expected)


@pytest.mark.parametrize("form", ["array", "mapping"])
@pytest.mark.parametrize("model", [plain, in_a_plate, counts, with_a_plate_within, through_a_deterministic_site])
def test_observations_alone_are_compared_with_fresh_simulations(model, form):
    x = simulated(model)["x"]
    observed = {"observed": "x"} if model is through_a_deterministic_site else {}
    inference = built(model, **observed).run(
        x if form == "array" else {"x": x}, num_steps=2, batch_size=16, progress=False
    )
    assert inference.latent_sites == ("theta",) and inference.observed_sites == ("x",)
    assert inference.sample_posterior(x[:5], num_samples=4)["theta"].shape == (4, 5)


def test_the_posterior_of_the_plainest_simulator_is_recovered():
    inference = BiGANInference(plain, AutoImplicitGuide(plain))
    inference.run(Predictive(plain, num_samples=10_000)(), num_steps=600, batch_size=128, progress=False)
    x = torch.tensor([-1.0, 0.0, 1.5])
    draws, (mean, scale) = inference.sample_posterior(x, 4000)["theta"], linear_posterior(x)
    assert (draws.mean(0) - mean).abs().max() < 0.12
    assert (draws.std(0) / scale - 1).abs().max() < 0.25


def test_rows_of_decoded_latents_are_each_of_its_own():
    inference = built(plain).run(simulated(plain), num_steps=1, progress=False)
    theta = torch.tensor([-50.0, 0.0, 50.0])
    assert (inference.decode({"theta": theta}) - theta).abs().max() < 5


def test_a_guide_of_ones_own_is_given_a_row_for_each_simulation():
    weight = torch.tensor(0.1)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("theta", dist.Normal(pyro.param("weight", weight) * x, 1.0))

    inference = BiGANInference(plain, guide, joint_discriminator(2, 8))
    inference.run(simulated(plain), num_steps=2, progress=False)
    assert inference.decode({"theta": torch.zeros(3)}).shape == (3,)


def two_observations():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("first", dist.Normal(theta, 0.5))
    pyro.sample("second", dist.Normal(theta, 0.5))


def a_number_told_last():
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("second", dist.Normal(theta, 0.5))
    pyro.deterministic("twice", 2 * theta)


def out_of_torchs_sight():
    pyro.sample("mean", dist.Normal(0.0, 1.0))
    theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
    pyro.sample("second", dist.Normal(float(theta), 0.5))


@pytest.mark.parametrize("model", [two_observations, a_number_told_last, out_of_torchs_sight])
def test_it_is_asked_which_site_is_observed_where_nothing_tells(model):
    simulations = Predictive(model, num_samples=64)()
    with pytest.raises(
        ValueError, match=r"hold all of the model's sites, 'theta'.*nothing tells which is.*observed='second'\)"
        if model is not out_of_torchs_sight else r"model's sites, 'mean', 'theta'.*observed='second'\)"
    ):  # fmt: skip
        built(model).run(simulations, num_steps=1, progress=False)
    pyro.clear_param_store()
    observed = ["first", "second"] if model is two_observations else "second"
    inference = built(model, observed=observed).run(simulations, num_steps=2, progress=False)
    assert "theta" in inference.latent_sites
    assert inference.observed_sites == (("first", "second") if model is two_observations else ("second",))


@pytest.mark.parametrize("observed", [{}, {"observed": "x"}])
def test_simulations_without_names_are_refused(observed):
    simulations = simulated(plain)
    with pytest.raises(
        ValueError, match=r"a tuple of 2, as many as the sites 'theta', 'x', .* Pass simulations as a map"
    ):
        built(plain, **observed).run((simulations["theta"], simulations["x"]), num_steps=1, progress=False)


def test_what_is_computed_from_a_latent_is_not_shown_to_the_guide():
    inference = built(observing).run(simulated(observing), num_steps=1, progress=False)
    assert [site.name for site in inference.guide.function.posterior.observations()] == ["x"]


def test_a_model_of_single_rows_has_no_data_sets_to_export():
    simulations = simulated(plain)
    inference = built(plain).run(simulations, num_steps=1, progress=False)
    with pytest.raises(ValueError, match=r"a run of the model draws a single row. Draw rows in pyro.plate\('data', ba"):
        inference.to_inference_data(simulations, num_draws=2)


def test_the_posterior_given_success_is_exact_where_the_observation_tells_of_failure():
    """Of a simulator that fails where x is above 1: for an x below, p(theta | x) is what it is without failures."""
    simulations = Predictive(plain, num_samples=12_000)()
    x = simulations["x"]
    x[x > 1] = float("nan")
    inference = BiGANInference(plain, AutoImplicitGuide(plain))
    with pytest.warns(RuntimeWarning, match=r"left out 2,\d{3} of 12,000 rows"):
        inference.run(simulations, num_steps=600, batch_size=128, progress=False, invalid="exclude")
    asked = torch.tensor([-1.0, 0.0, 0.5])
    draws, (mean, scale) = inference.sample_posterior(asked, 4000)["theta"], linear_posterior(asked)
    assert (draws.mean(0) - mean).abs().max() < 0.12
    assert (draws.std(0) / scale - 1).abs().max() < 0.25
