"""Latents beside their linear regression on the observations: what the networks see, and where a guide starts."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_rows, linear_simulator, noise_guide
from scipy import stats
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, ImplicitKLqp
from pyro_gan.auto.coordinates import reflected
from pyro_gan.auto.regression import Regression
from pyro_gan.penalties import R1
from pyro_gan.recipes import default_penalties, posterior_penalties


def related(num_rows=2000):
    """Draws of two latents, one of which three observed numbers tell to a hundredth, in double precision."""
    given = torch.randn(num_rows, 3, dtype=torch.float64)
    noise = torch.randn(num_rows, 2, dtype=torch.float64) * torch.tensor([0.01, 1.0])
    return 5 + given @ torch.tensor([[1.0, 0.0], [2.0, 0.3], [0.0, -1.0]], dtype=torch.float64) + noise, given


def in_a_box(num_rows):
    """Numbers between -1 and 1, and what is seen of them with noise."""
    torch.manual_seed(0)
    latents = 2 * torch.rand(num_rows, 2, dtype=torch.float64) - 1
    return latents, latents + 0.3 * torch.randn(num_rows, 2, dtype=torch.float64)


def learned(latents, given, lower=-math.inf, upper=math.inf):
    regression = Regression(latents.shape[1], given.shape[1], latents)
    regression.learn(latents, given, tuple(latents.new_full(latents.shape[1:], end) for end in (lower, upper)))
    return regression


def test_residuals_have_no_mean_unit_covariance_and_nothing_to_do_with_the_observation():
    latents, given = related()
    residuals = learned(latents, given).residuals(latents, given)
    assert torch.allclose(residuals.mean(0), torch.zeros(2).double(), atol=1e-9)
    covariance = residuals.T @ residuals / len(residuals)
    assert torch.allclose(covariance, torch.eye(2).double(), atol=0.02)  # a narrowest deviation is added
    assert (residuals.T @ (given - given.mean(0)) / len(residuals)).abs().max() < 1e-3  # the ridge leaves little


def test_the_slope_is_that_of_least_squares():
    latents, given = related()
    design = torch.cat([torch.ones(len(given), 1), given], 1)
    expected = torch.linalg.lstsq(design, latents).solution
    regression = learned(latents, given)
    assert torch.allclose(regression.slope, expected[1:], atol=0.01)
    assert torch.allclose(regression.center, expected[0], atol=0.01)


def test_latents_come_back_from_their_residuals():
    latents, given = related()
    regression = learned(latents, given)
    assert torch.allclose(regression(regression.residuals(latents, given), given), latents)


def test_latents_come_back_from_their_residuals_beyond_the_ends_too():
    latents, given = in_a_box(2000)
    regression = learned(latents, given, -1.0, 1.0)
    assert regression.ends.are_finite()
    given = torch.cat([5 * given, 1e6 * given])  # as far beyond as no row that was seen
    latents = torch.cat([latents, latents])
    assert torch.allclose(regression(regression.residuals(latents, given), given), latents)


def test_a_noisy_number_between_two_ends_has_nearly_its_posterior_at_once():
    """By least squares alone the slope is 0.79; draws that come back at the ends are what a guide starts with."""
    regression = learned(*in_a_box(10_000), -1.0, 1.0)
    assert torch.allclose(regression.slope, torch.eye(2).double(), atol=0.02)
    assert torch.allclose(regression.ends.deviation, torch.tensor([0.3, 0.3]).double(), atol=0.01)
    for x in (0.0, -0.6, -0.9, 1.2, -1.4, 1.6, -2.0):
        given, residuals = torch.full((1, 2), x).double(), torch.randn(10_000, 1, 2, dtype=torch.float64)
        draws = reflected(regression(residuals, given), constraints.interval(-1.0, 1.0))[:, 0, 0]
        posterior = stats.truncnorm((-1 - x) / 0.3, (1 - x) / 0.3, x, 0.3)
        assert stats.kstest(draws.numpy(), posterior.cdf).statistic < 0.1


@pytest.mark.parametrize("kind", ["few", "not finite"])
def test_what_can_not_be_related_is_left_as_it_is(kind):
    latents, given = related(20 if kind == "few" else 100)
    if kind == "not finite":
        given[5:] = torch.nan
    residuals = learned(latents, given).residuals(latents, given.nan_to_num())
    assert torch.equal(residuals, latents)


def test_rows_that_are_not_finite_are_left_out():
    latents, given = related()
    rows = torch.cat([latents, torch.full((7, 2), torch.inf)]), torch.cat([given, torch.zeros(7, 3)])
    assert torch.equal(learned(*rows).slope, learned(latents, given).slope)


def narrow(x):
    """The posterior of z given x is N(0.9999 x, 0.01²)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.01), obs=x)


def simulations(num_rows=2000):
    z = torch.randn(num_rows)
    return {"z": z, "x": z + 0.01 * torch.randn(num_rows)}


def test_a_guide_starts_at_the_linear_posterior():
    pyro.set_rng_seed(0)
    inference = BiGANInference(narrow, AutoImplicitGuide(narrow, width=8, depth=1)).run(
        simulations(), num_steps=1, progress=False
    )
    draws = inference.sample_posterior(torch.tensor([-1.0, 0.5]), 4000)["z"]
    assert torch.allclose(draws.mean(0), torch.tensor([-1.0, 0.5]), atol=0.01)
    assert torch.allclose(draws.std(0), torch.tensor(0.01), rtol=0.4)


@pytest.mark.parametrize(
    ("options", "is_related"), [({}, True), ({"contrast": "prior"}, False), ({"global_sites": "shared"}, False)]
)
def test_implicit_klqp_relates_local_latents_by_joint_draws(options, is_related):
    def model(x):
        shared = pyro.sample("shared", dist.Normal(0.0, 1.0)) if "global_sites" in options else 0.0
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.01 + 0.0 * shared), obs=x)

    def guide(x):
        pyro.sample("shared", dist.Normal(0.0, 1.0))
        own(x)

    pyro.set_rng_seed(0)
    own = AutoImplicitGuide(narrow, width=8, depth=1)
    inference = ImplicitKLqp(model, guide if "global_sites" in options else own, **options)
    inference.run(simulations()["x"], num_steps=1, progress=False)
    draws = inference.sample_posterior(torch.tensor([0.5]), 2000)["z"]
    assert (inference.discriminator.function.regression is not None) == is_related
    assert (draws.std() < 0.02) == is_related
    assert not is_related or draws.mean().item() == pytest.approx(0.5, abs=0.01)


def boxed(x):
    """Where x is far from the prior's box, z is at its nearer edge."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 10.0])).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)


def test_a_guide_starts_at_the_edge_that_an_observation_points_beyond():
    pyro.set_rng_seed(0)
    z = dist.Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 10.0])).sample((2000,))
    inference = BiGANInference(boxed, AutoImplicitGuide(boxed, width=8, depth=1))
    inference.run({"z": z, "x": dist.Normal(z, 0.1).sample()}, num_steps=1, progress=False)
    draws = inference.sample_posterior(torch.tensor([[4.0, -2.0], [-2.5, 13.0]]), 1000)["z"]
    assert torch.allclose(draws.mean(0), torch.tensor([[3.0, 0.0], [-1.0, 10.0]]), atol=0.2)


@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
def test_a_guide_with_a_model_to_train_starts_at_the_prior(inference_class):
    def model(x):
        scale = pyro.param("scale", torch.tensor(0.01), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    pyro.set_rng_seed(0)
    guide = AutoImplicitGuide(model, width=8, depth=1)
    inference_class(model, guide).run(torch.randn(2000), num_steps=1, progress=False)
    assert guide(torch.tensor([1.0]).expand(2000))["z"].std() > 0.8


def test_a_discriminator_sees_residuals():
    pyro.set_rng_seed(0)
    rows = simulations()
    discriminator = AutoDiscriminator(width=8, depth=1)
    discriminator.setup({}, rows)
    before = copy.deepcopy(discriminator)
    discriminator.relate(rows, ["z"], tuple)
    seen, unrelated = discriminator.coordinates(rows), before.coordinates(rows)
    assert torch.equal(seen["x"], unrelated["x"])
    assert seen["z"].std().item() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(torch.stack([seen["z"], seen["x"]]))[0, 1].abs() < 0.15 < 0.99
    assert torch.corrcoef(torch.stack([unrelated["z"], unrelated["x"]]))[0, 1] > 0.99


def test_labels_are_seen_as_they_are():
    pyro.set_rng_seed(0)
    rows = {"m": torch.randint(3, (200,)), "x": torch.randn(200)}
    discriminator = AutoDiscriminator(width=8, depth=1)
    discriminator.setup({"m": dist.Categorical(torch.ones(3)).support}, rows)
    discriminator.relate(rows, ["m"], tuple)
    assert discriminator.regression is None


@pytest.mark.parametrize("call", ["residuals", "forward"])
def test_operations_that_were_traced_without_ends_follow_when_ends_come(call):
    latents, given = in_a_box(2000)
    plain, between = learned(latents, given), learned(latents, given, -1.0, 1.0)
    rows = latents[:50], torch.cat([given[:48], torch.full((2, 2), 5.0, dtype=torch.float64)])
    assert not plain.ends.may_act()
    traced = make_fx(lambda *args: getattr(plain, call)(*args))(*rows)
    assert torch.allclose(traced(*rows), getattr(plain, call)(*rows), rtol=1e-12)
    plain.load_state_dict(between.state_dict())
    assert between.ends.may_act()
    assert torch.allclose(traced(*rows), getattr(between, call)(*rows), rtol=1e-12)


def test_several_draws_beside_one_observation_have_the_residuals_of_each():
    latents, given = in_a_box(200)
    regression = learned(latents, given, -1.0, 1.0)
    together = regression.residuals(torch.stack([latents, latents / 2]), given)
    for found, numbers in zip(together, (latents, latents / 2), strict=True):
        assert torch.allclose(found, regression.residuals(numbers, given), rtol=1e-12)


def test_what_is_related_is_saved_and_loaded(tmp_path):
    pyro.set_rng_seed(0)
    inference = BiGANInference(narrow, AutoImplicitGuide(narrow, width=8, depth=1))
    inference.run(simulations(), num_steps=3, progress=False)
    inference.save(tmp_path / "state")
    pyro.set_rng_seed(1)
    expected = inference.sample_posterior(torch.tensor(0.3), 10)["z"]
    pyro.clear_param_store()
    loaded = BiGANInference(narrow, AutoImplicitGuide(narrow, width=8, depth=1))
    loaded.load(tmp_path / "state")
    pyro.set_rng_seed(1)
    assert torch.equal(loaded.sample_posterior(torch.tensor(0.3), 10)["z"], expected)


def test_lines_of_states_from_before_they_had_ends_go_on_without_them():
    pyro.set_rng_seed(0)
    guide = AutoImplicitGuide(boxed, width=8, depth=1)
    z = dist.Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 10.0])).sample((2000,))
    rows = {"z": z, "x": z + 0.1 * torch.randn(2000, 2)}
    trained = BiGANInference(boxed, guide).run(rows, num_steps=1, progress=False)
    state = trained.state_dict()
    for player, module in (("guide", guide.posterior), ("discriminator", trained.discriminator.function)):
        buffers = state[player]["others"]
        later = [*module.regression.ends.buffers(), *module.regression.moments.buffers()]
        state[player]["others"] = [
            each for each in buffers if not any(each.shape == one.shape and torch.equal(each, one) for one in later)
        ]
        assert len(state[player]["others"]) == len(buffers) - len(later)
    pyro.clear_param_store()
    loaded = BiGANInference(boxed, AutoImplicitGuide(boxed, width=8, depth=1))
    loaded.load_state_dict(state)
    draws = loaded.sample_posterior(torch.tensor([4.0, -2.0]), 1000)["z"]
    assert torch.allclose(draws.mean(0), torch.tensor([2.0, 2.0]), atol=0.1)  # reflected, as they were


@pytest.mark.parametrize("is_assigned", [False, True])
def test_penalties_that_were_assigned_before_the_first_step_stay(is_assigned):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    inference = BiGANInference(linear_simulator, noise_guide(), joint_discriminator(width=8))
    own = (R1(0.5),)
    if is_assigned:
        inference.penalties = own
    z, x = linear_rows(50)
    inference.step({"z": z, "x": x})
    assert (inference.penalties is own) == is_assigned
    assert is_assigned or inference.penalties[0].weight == posterior_penalties()[0].weight


def test_latents_of_a_model_to_train_are_not_related_by_what_it_draws_at_first():
    """When it has come to where the data are, it relates them otherwise."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)

    def model(x):
        loc, scale = pyro.param("loc", torch.tensor(0.0)), pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(loc + scale * z, 0.2), obs=x)

    guide = AutoImplicitGuide(model, width=8)
    inference = BiGANInference(model, guide, AutoDiscriminator(width=8), energy_weight=1.0)
    inference.run(4 + 0.5 * torch.randn(2000), num_steps=2, batch_size=128, progress=False)
    assert inference.discriminator.function.regression is None
    assert torch.equal(guide.posterior.regression.slope, torch.zeros(1, 1))
    assert inference.penalties[0].weight == default_penalties()[0].weight
