"""The energy score of a guide, and how BiGANInference uses it."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_model, linear_rows, linear_simulator, normal_guide
from torch import nn
from torch.distributions import Normal, constraints

from pyro_gan import BiGANInference
from pyro_gan.auto.coordinates import REACH
from pyro_gan.inference.bigan import ENERGY_WEIGHT
from pyro_gan.inference.energy import numbers_of, score_of

SIMULATIONS = dict(zip("zx", linear_rows(64), strict=True))


def score(first, second, latents, support=constraints.real):
    return score_of(*numbers_of(({"z": first}, {"z": second}, {"z": latents}), {"z": latents}, {"z": support}))


def standardized(rows, latents):
    return REACH * torch.asinh((rows - latents.mean(0)) / latents.std(0, correction=0) / REACH)


# ---- the score


def test_hand_worked_rows():
    latents = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])  # standardized already; asinh changes small numbers by little
    first, second = torch.tensor([[-1.0, -1.0], [1.0, 0.9]]), torch.tensor([[-1.0, -0.8], [1.0, 1.1]])
    expected = torch.tensor([(0.0 + 0.2 - 0.2) / 2, (0.1 + 0.1 - 0.2) / 2]) / math.sqrt(2)
    torch.testing.assert_close(score(first, second, latents), expected, atol=2e-3, rtol=0)
    apart = score(torch.tensor([[-1.0, -1.0], [0.5, 1.0]]), torch.tensor([[-1.0, -1.0], [0.5, 1.0]]), latents)
    torch.testing.assert_close(apart, torch.tensor([0.0, 0.5]) / math.sqrt(2), atol=5e-3, rtol=0)


def test_several_sites_count_as_one_vector_by_a_double_loop():
    torch.manual_seed(0)
    shapes = {"a": (6,), "b": (6, 2, 3)}
    latents, first, second = ({site: torch.randn(shape).double() for site, shape in shapes.items()} for _ in range(3))
    supports = dict.fromkeys(shapes, constraints.real)
    got = score_of(*numbers_of((first, second, latents), latents, supports))
    for row in range(6):

        def distance(one, other, row=row):
            total = 0.0
            for site in shapes:
                for p, q in zip(
                    standardized(one[site], latents[site])[row].flatten(),
                    standardized(other[site], latents[site])[row].flatten(),
                    strict=True,
                ):
                    total += (p - q) ** 2
            return (total / 7) ** 0.5

        expected = (distance(first, latents) + distance(second, latents) - distance(first, second)) / 2
        assert got[row] == pytest.approx(expected.item())


def test_in_one_dimension_its_mean_is_the_continuous_ranked_probability_score_of_a_normal():
    """Gneiting and Raftery (2007), equation 21 and the closed form below it."""
    torch.manual_seed(0)
    latents = torch.randn(200_000, dtype=torch.float64)
    latents = 0.1 * (latents - latents.mean()) / latents.std(correction=0) + 3.0
    mean, scale = 3.02, 0.13
    first, second = (mean + scale * torch.randn_like(latents) for _ in range(2))
    # in units of the latents' deviation, near 0 of asinh
    omega = (latents - mean) / scale
    normal = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    closed = scale * (omega * (2 * normal.cdf(omega) - 1) + 2 * normal.log_prob(omega).exp() - math.pi**-0.5) / 0.1
    assert score(first, second, latents).mean().item() == pytest.approx(closed.mean().item(), rel=0.02)


@pytest.mark.parametrize("change", [(0.3, 1.0), (-0.3, 1.0), (0.0, 0.6), (0.0, 1.6)])
def test_the_exact_posterior_has_the_smallest_score(change):
    shift, factor = change
    z, x = (rows.double() for rows in linear_rows(100_000))
    mean, deviation = 0.8 * x, math.sqrt(0.2)

    def mean_score(shift, factor):
        torch.manual_seed(0)
        first, second = (mean + deviation * (shift + factor * torch.randn_like(x)) for _ in range(2))
        return score(first, second, z).mean()

    assert mean_score(shift, factor) > mean_score(0.0, 1.0) + 0.001


def test_units_do_not_matter_and_half_lines_are_compared_by_their_logarithms():
    torch.manual_seed(0)
    latents, first, second = (torch.randn(20).double() for _ in range(3))
    expected = score(first, second, latents)
    torch.testing.assert_close(score(*(100 * rows - 7 for rows in (first, second, latents))), expected)
    for support in constraints.positive, constraints.nonnegative:
        logs = score(*(rows.exp() for rows in (first, second, latents)), support)
        torch.testing.assert_close(logs, expected)
    below = score(*(3 - rows.exp() for rows in (first, second, latents)), constraints.less_than(3.0))
    torch.testing.assert_close(below, expected)


def test_draws_outside_of_an_interval_are_told_how_far_they_lie():
    latents = torch.tensor([0.2, 0.4, 0.6, 0.8])
    outside = torch.full((4,), 1.5, requires_grad=True)
    score(outside, outside, latents, constraints.unit_interval).sum().backward()
    assert (outside.grad > 0.1).all()


def test_draws_without_noise_have_a_finite_slope():
    latents = torch.tensor([-1.0, 1.0])
    same = torch.tensor([-1.0, 0.5], requires_grad=True)
    score(same, same, latents).sum().backward()
    assert same.grad.isfinite().all() and same.grad[1] < 0


# ---- in BiGANInference


def point_guide(network):
    def guide(x):
        pyro.module("encoder", network)
        with pyro.plate("data", len(x)):
            pyro.deterministic("z", network(x[:, None])[:, 0], event_dim=0)

    return guide


def generator_loss(model, data, **options):
    pyro.clear_param_store()
    torch.manual_seed(0)
    inference = BiGANInference(model, point_guide(nn.Linear(1, 1)), joint_discriminator(), **options)
    return inference.evaluate_loss(data).generator.item()


@pytest.mark.parametrize("weight", [0.5, 20])
def test_the_generators_loss_has_the_weighted_score_beside_the_games(weight):
    """Of a guide without noise and simulations, nothing of which is left to chance."""
    torch.manual_seed(0)
    z = nn.Linear(1, 1)(SIMULATIONS["x"][:, None])[:, 0].detach()
    expected = score(z, z, SIMULATIONS["z"]).mean().item()
    game = generator_loss(linear_simulator, SIMULATIONS, energy_weight=0)
    with_score = generator_loss(linear_simulator, SIMULATIONS, energy_weight=weight)
    assert with_score - game == pytest.approx(weight * expected, rel=1e-4)
    assert expected > 0.1


def test_by_default_it_has_a_weight_where_the_model_has_no_parameters():
    def trainable(x):
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)) + shift, 0.5), obs=x)

    losses = {
        (model, weight): generator_loss(model, data, energy_weight=weight)
        for model, data in (
            (linear_simulator, SIMULATIONS),
            (linear_model, SIMULATIONS["x"]),
            (trainable, SIMULATIONS["x"]),
        )
        for weight in (None, 0, ENERGY_WEIGHT)
    }
    for model, of_default in (linear_simulator, ENERGY_WEIGHT), (linear_model, ENERGY_WEIGHT), (trainable, 0):
        assert losses[model, None] == losses[model, of_default]
        assert losses[model, 0] != losses[model, ENERGY_WEIGHT]


def test_the_guide_is_called_on_the_models_draws_in_the_place_of_the_data():
    calls = []

    def model(label, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + 100.0 + 1000.0 * label, 0.5), obs=x)

    def guide(label, x):
        calls.append((label, x))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.0)) * x, 1.0))

    label, x = torch.arange(8.0), torch.zeros(8)
    inference = BiGANInference(model, guide, joint_discriminator())
    inference.step(label, x)
    calls.clear()
    inference.step(label, x, player="generator")
    assert all(torch.equal(given, label) for given, _ in calls)
    on_data, on_draws = calls[0][1], calls[1:]
    assert torch.equal(on_data, x) and len(on_draws) == 2
    for _, drawn in on_draws:
        assert ((drawn - 100 - 1000 * label).abs() < 10).all()


def test_a_model_that_changes_its_data_has_no_score_unless_asked():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 0.5), obs=x / 2)

    assert generator_loss(model, SIMULATIONS["x"]) == generator_loss(model, SIMULATIONS["x"], energy_weight=0)
    with pytest.raises(
        ValueError,
        match=r"energy_weight=10 has the guide called on the model's draws of 'x', but the data hold nothing that the "
        r"model observes there as it is. Change it by transform= instead of in the model, or pass energy_weight=0.",
    ):
        generator_loss(model, SIMULATIONS["x"], energy_weight=10)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "10", True])
def test_weights_that_are_none_are_refused(weight):
    with pytest.raises(ValueError, match=r"energy_weight must be a number of at least 0, or None, but is"):
        BiGANInference(linear_model, normal_guide(), energy_weight=weight)


def test_it_tells_a_guide_how_wide_to_be_without_a_discriminator_that_sees_anything():
    """A guide's two numbers, and logits that are always 0 but for a number of their own."""
    pyro.set_rng_seed(0)
    z, x = linear_rows(5000)
    number = nn.Parameter(torch.zeros(()))

    def guide(x):
        slope = pyro.param("slope", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, scale))

    options = {"penalty": (), "optim": lambda parameters: torch.optim.Adam(parameters, lr=0.02)}
    blind = BiGANInference(linear_simulator, guide, lambda z, x: number * torch.ones_like(z), **options)
    blind.run({"z": z, "x": x}, num_steps=400, batch_size=500, progress=False)
    assert pyro.param("slope").item() == pytest.approx(0.8, abs=0.05)
    assert pyro.param("scale").item() == pytest.approx(math.sqrt(0.2), rel=0.1)
