"""The discriminator and the guide that build themselves, alone: in plain torch, SVI and Predictive."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.distributions import biject_to, constraints

from pyro_gan import BiGANInference
from pyro_gan.auto import AutoDiscriminator, AutoImplicitGuide
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.networks import SLOWNESS, Embedding, SlowLinear, convolutions, fully_connected
from pyro_gan.players.discriminator import Discriminator, check_logits
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.players.handler import Draw
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.supports import fixed_support
from pyro_gan.recipes import DECAY

CPU = torch.device("cpu")
SITES = {
    "scalar": dist.Normal(0.0, 1.0),
    "vector": dist.Normal(0.0, 1.0).expand([3]).to_event(1),
    "correlated": dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    "image": dist.Normal(0.0, 1.0).expand([2, 8, 9]).to_event(3),
    "positive": dist.Gamma(2.0, 1.0),
    "log-normal": dist.LogNormal(0.0, 1.0).expand([2]).to_event(1),
    "unit interval": dist.Beta(2.0, 1.0),
    "interval": dist.Uniform(torch.tensor([-3.0, 0.0]), torch.tensor([1.0, 100.0])).to_event(1),
    "simplex": dist.Dirichlet(torch.ones(4)),
    "simplices": dist.Dirichlet(torch.ones(2, 3)).to_event(1),
    "correlation": dist.LKJCholesky(3),
}
SAMPLED = {
    **SITES,
    "label": dist.Categorical(torch.ones(5)),
    "labels": dist.Categorical(torch.ones(2, 5)).to_event(1),
    "coin": dist.Bernoulli(0.3),
    "count": dist.Poisson(3.0),
    "gray image": dist.Normal(0.0, 1.0).expand([9, 8]).to_event(2),
    "pixels": dist.Beta(0.2, 0.2).expand([1, 12, 12]).to_event(3),
}


def bce(real_logits, fake_logits):
    return nn.functional.softplus(-real_logits).mean() + nn.functional.softplus(fake_logits).mean()


def slopes(discriminator, x):
    """The squared norm of the logit's gradient at each row, differentiable."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1) if gradient.dim() > 1 else gradient.square()


# --- the discriminator --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLED)
def test_it_judges_any_site_and_learns_with_all_its_parameters(kind):
    rows = SAMPLED[kind].sample((20,))
    discriminator = AutoDiscriminator(width=16, depth=2)
    discriminator.setup({"z": SAMPLED[kind].support}, {"z": rows})
    logits = discriminator(rows)
    assert logits.shape == (20,)
    check_logits(logits)
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())


def test_it_judges_joint_rows_of_several_sites():
    rows = {name: fn.sample((6,)) for name, fn in SAMPLED.items()}
    discriminator = AutoDiscriminator(width=16, depth=1)
    discriminator.setup({name: fn.support for name, fn in SAMPLED.items()}, rows)
    logits = discriminator(**rows)
    assert logits.shape == (6,)
    reordered = dict(reversed(rows.items()))
    assert torch.equal(discriminator(**reordered), logits)
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())


def test_each_site_matters():
    rows = {"x": torch.randn(6, 1, 8, 8), "c": torch.randn(6, 2), "label": torch.arange(6)}
    discriminator = AutoDiscriminator(width=8, depth=1)
    logits = discriminator(**rows)
    for site in rows:
        assert not torch.allclose(discriminator(**{**rows, site: rows[site].roll(1, 0)}), logits)


def standardized(coordinates, rows):
    """The coordinates before the inverse hyperbolic sine."""
    return 8 * torch.sinh(coordinates(rows) / 8)


@pytest.mark.parametrize(
    ("kind", "real"),
    [
        ("scalar", lambda x: x),
        ("positive", torch.log),
        ("log-normal", torch.log),
        ("unit interval", lambda x: x),
        ("interval", lambda x: x),
        ("simplex", biject_to(constraints.simplex).inv),
    ],
)
def test_sites_are_mapped_to_the_real_line_and_standardized(kind, real):
    rows = SITES[kind].sample((500,)).double()
    rows = rows / rows.sum(-1, keepdim=True) if kind == "simplex" else rows
    coordinates = Coordinates("z", fixed_support(SITES[kind].support, rows.shape[1:]), rows, torch.float64)
    numbers = real(rows)
    ordered = numbers.sort(0).values
    inner = numbers.clamp(ordered[2], ordered[-3])  # two of the 500 at either end count as the third
    expected = (numbers - inner.mean(0)) / inner.std(0, correction=0)
    assert torch.allclose(standardized(coordinates, rows), expected, atol=1e-8)
    assert torch.allclose(coordinates.to_support(expected), rows)


@pytest.mark.parametrize(
    ("support", "rows", "real"),
    [
        (constraints.unit_interval, dist.Beta(0.2, 0.2).sample((500,)).double().clamp(1e-6, 1 - 1e-6), torch.logit),
        (constraints.interval(-3, 1), torch.tensor([-3.0, 1.0, 0.0, 0.5], dtype=torch.double).repeat(50), None),
    ],
)
def test_intervals_that_are_dense_at_an_end_are_mapped_to_the_real_line(support, rows, real):
    coordinates = Coordinates("z", support, rows, torch.float64)
    assert not coordinates.is_reflected
    if real is not None:
        assert torch.allclose(coordinates.to_real(rows), real(rows))
        assert torch.allclose(coordinates.to_support(coordinates.on_a_line(rows)), rows)


def test_numbers_outside_of_an_interval_are_reflected_at_its_ends():
    rows = torch.linspace(-2.9, 0.9, 101, dtype=torch.float64)
    coordinates = Coordinates("z", constraints.interval(-3, 1), rows, torch.float64)
    outside = torch.tensor([-3.5, 1.25, 5.5, 9.0, -7.0], dtype=torch.float64)
    standardized = (outside - coordinates.mean) / coordinates.scale
    assert torch.allclose(
        coordinates.to_support(standardized), torch.tensor([-2.5, 0.75, -2.5, 1.0, 1.0], dtype=torch.float64)
    )
    assert "reflecting ends" in repr(coordinates)


def test_far_out_coordinates_grow_as_a_logarithm():
    coordinates = Coordinates("z", constraints.real, torch.tensor([-1.0, 1.0]), torch.float32)
    assert coordinates(torch.tensor([0.1, 2.0, 1e6])).tolist() == pytest.approx([0.1, 1.980, 99.434], abs=1e-3)


def test_features_that_are_constant_at_first_keep_their_unit():
    rows = torch.stack([torch.arange(4.0), torch.full((4,), 0.1)], 1)
    coordinates = Coordinates("x", constraints.real, rows, torch.float32)
    assert coordinates.scale.tolist() == pytest.approx([1.25**0.5, 1.0])
    assert coordinates.mean.tolist() == pytest.approx([1.5, 0.1])


def test_a_single_first_row_keeps_all_units():
    assert Coordinates("x", constraints.real, torch.tensor([[3.0, 5.0]]), torch.float32).scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("support", "rows"),
    [
        (constraints.nonnegative, torch.tensor([0.0, 1.0, 2.0])),
        (constraints.greater_than(5.0), torch.tensor([5.0, 6.0, 7.0])),
        (constraints.less_than(-5.0), torch.tensor([-5.0, -6.0, -7.0])),
        (constraints.unit_interval, torch.tensor([0.0, 0.5, 1.0])),
        (constraints.interval(1000.0, 1001.0), torch.tensor([1000.0, 1000.5, 1001.0])),
        (constraints.half_open_interval(-1.0, 1.0), torch.tensor([-1.0, 0.0, 1.0])),
        (constraints.simplex, torch.eye(3)),
        (constraints.simplex, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5]])),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_on_the_boundary_have_finite_logits_and_slopes(support, rows, dtype):
    rows = rows.to(dtype)
    discriminator = AutoDiscriminator(width=8, depth=1)
    discriminator.setup({"x": support}, {"x": rows})
    squares = slopes(discriminator, rows)
    assert torch.isfinite(discriminator(rows)).all() and torch.isfinite(squares).all()
    squares.clamp(max=1.0).sum().backward()


def test_a_positive_site_does_not_lose_small_numbers():
    rows = torch.tensor([1e-15, 1e-14, 1e-13])
    coordinates = Coordinates("x", constraints.positive, rows, torch.float32)
    assert coordinates.to_real(rows).tolist() == pytest.approx(rows.log().tolist())


def test_labels_have_a_coordinate_each_and_other_integers_are_numbers():
    labels = Coordinates("c", constraints.integer_interval(1, 4), torch.tensor([1, 2, 4]), torch.float32)
    assert labels.to_real(torch.tensor([4, 1])).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    for support in (constraints.nonnegative_integer, constraints.boolean):
        numbers = Coordinates("c", support, torch.tensor([0, 1, 1]), torch.float64)
        assert numbers.to_real(torch.tensor([1, 0])).tolist() == [1.0, 0.0]
        assert numbers.to_real(torch.tensor([1, 0])).dtype == torch.float64


def test_counts_out_of_a_known_number_have_their_log_odds_beside_them():
    successes = torch.tensor([0.0, 1.0, 15.0, 30.0])
    expected = torch.stack([successes.double(), torch.logit((successes.double() + 0.5) / 31)], 1)
    for support in (constraints.integer_interval(0, 30), constraints.integer_interval(torch.tensor(0), 30)):
        coordinates = Coordinates("x", support, successes, torch.float64, has_odds=True)
        assert torch.allclose(coordinates.to_real(successes), expected)
    assert torch.allclose(coordinates.to_real(torch.tensor([-3.0, 99.0]))[:, 1], expected[[0, 3], 1])
    assert "counts and their log-odds" in repr(coordinates)
    vectors = torch.stack([successes, 30 - successes], 1)
    other = torch.stack([30 - expected[:, 0], -expected[:, 1]], 1)
    for counts in (dist.Multinomial(30, torch.ones(2)), dist.Binomial(30, torch.ones(4, 2)).to_event(1)):
        coordinates = Coordinates("x", fixed_support(counts.support, (2,)), vectors, torch.float64, has_odds=True)
        assert torch.allclose(coordinates.to_real(vectors), torch.stack([expected, other], 1))
    for options in ({}, {"kinds": (), "is_mapped": True}):  # as in a state of before
        assert torch.equal(Coordinates("x", support, successes, torch.float64, **options).to_real(successes), successes)


def test_totals_that_differ():
    totals = torch.tensor([10.0, 20.0])
    counts = dist.DirichletMultinomial(torch.ones(2, 3), totals)
    assert fixed_support(counts.support, (3,)) is None  # rows have their own
    counts = dist.DirichletMultinomial(torch.ones(50, 2, 3), totals.expand(50, 2)).to_event(1)
    support, rows = fixed_support(counts.support, (2, 3)), torch.arange(10.0).repeat(30).reshape(50, 2, 3)
    coordinates = Coordinates("x", support, rows, torch.float64, has_odds=True)
    assert coordinates.most.tolist() == [[10], [20]]
    assert coordinates.to_real(torch.zeros(1, 2, 3))[0, :, 0, 1].exp().tolist() == pytest.approx([1 / 21, 1 / 41])


def test_images_in_an_interval_keep_their_pixels_and_share_the_scale_of_a_channel():
    rows = torch.rand(7, 2, 8, 9)
    supports = (constraints.real, constraints.unit_interval, constraints.independent(constraints.unit_interval, 3))
    for support in supports:
        coordinates = Coordinates("x", support, rows, torch.float32)
        assert torch.equal(coordinates.to_real(rows), rows)
        assert coordinates.mean.flatten().tolist() == pytest.approx(rows.mean((0, 2, 3)).tolist())
        assert coordinates.scale.shape == (2, 1, 1)


def test_bounds_that_are_the_same_in_each_row_are_one_rows_bounds():
    expanded = dist.Uniform(torch.tensor([-1.0, 0.0]).expand(5, 2), torch.ones(5, 2)).to_event(1)
    support = fixed_support(expanded.support, (2,)).base_constraint
    assert support.lower_bound.tolist() == [-1.0, 0.0] and support.upper_bound == 1.0
    differing = dist.Uniform(torch.arange(5.0), 9.0)
    assert fixed_support(differing.support, ()) is None


def test_rows_whose_bounds_differ_count_as_numbers():
    upper = torch.arange(1.0, 6.0)
    discriminator = AutoDiscriminator(width=4, depth=1)
    discriminator.setup({"x": dist.Uniform(0.0, upper).support}, {"x": upper / 2})
    assert "'x', shape (), numbers" in repr(discriminator)
    assert discriminator(torch.rand(9)).shape == (9,)


@pytest.mark.parametrize(("kind", "factor"), [("vector", 1000.0), ("positive", 1000.0), ("image", 1e-3)])
def test_a_change_of_units_changes_nothing(kind, factor):
    rows = SITES[kind].sample((50,))
    logits = []
    for scale in (1.0, factor):
        pyro.set_rng_seed(1)
        discriminator = AutoDiscriminator(width=32)
        discriminator.setup({"x": SITES[kind].support}, {"x": scale * rows})
        logits.append(discriminator(scale * rows))
    assert torch.allclose(*logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["scalar", "image", "simplex"])
def test_a_rows_logit_depends_on_that_row_alone(kind):
    rows = SITES[kind].sample((10,))
    discriminator = AutoDiscriminator(width=16)
    logits = discriminator(rows)
    assert torch.allclose(discriminator(rows[3:5]), logits[3:5], atol=1e-5)


@pytest.mark.parametrize("kind", ["vector", "image", "positive", "simplex"])
def test_penalties_of_the_slope_reach_the_parameters(kind):
    rows = SITES[kind].sample((10,))
    discriminator = AutoDiscriminator(width=16, depth=2)
    discriminator.setup({"x": SITES[kind].support}, {"x": rows})
    slopes(discriminator, rows).mean().backward()
    weights = [parameter for name, parameter in discriminator.named_parameters() if name.endswith("weight")]
    assert all(torch.isfinite(weight.grad).all() and weight.grad.abs().sum() > 0 for weight in weights)


def test_its_derivatives_are_right_twice_over():
    rows = SITES["simplex"].sample((4,)).double()
    discriminator = AutoDiscriminator(width=8, depth=2)
    discriminator.setup({"x": constraints.simplex}, {"x": rows})
    rows = (0.9 * rows + 0.025).requires_grad_()
    assert torch.autograd.gradcheck(discriminator, (rows,))
    assert torch.autograd.gradgradcheck(discriminator, (rows,))


def test_coordinates_and_judge_are_the_two_halves_of_a_call():
    rows = {"z": SITES["positive"].sample((10,)), "c": SAMPLED["label"].sample((10,))}
    discriminator = AutoDiscriminator(width=8)
    discriminator.setup({"z": constraints.positive, "c": constraints.integer_interval(0, 4)}, rows)
    coordinates = discriminator.coordinates(rows)
    assert {name: tuple(value.shape) for name, value in coordinates.items()} == {"z": (10,), "c": (10, 5)}
    assert all(value.is_floating_point() for value in coordinates.values())
    assert torch.equal(discriminator.judge(coordinates), discriminator(**rows))


def test_parameters_have_the_type_of_the_first_rows():
    discriminator = AutoDiscriminator(width=4)
    assert discriminator(x=torch.randn(3, dtype=torch.float64), c=torch.arange(3)).dtype == torch.float64
    assert {value.dtype for value in discriminator.state_dict().values()} == {torch.float64}
    assert discriminator(x=torch.randn(3), c=torch.arange(3)).dtype == torch.float64
    assert discriminator.float()(x=torch.randn(3), c=torch.arange(3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (dist.Normal(1.0, 1.0), dist.Normal(0.0, 1.5)),
        (dist.Gamma(3.0, 2.0), dist.Gamma(2.0, 1.0)),
        (dist.Beta(2.0, 3.0), dist.Beta(1.0, 1.0)),
        (dist.Categorical(torch.tensor([0.1, 0.3, 0.6])), dist.Categorical(torch.ones(3))),
    ],
    ids=["normal", "gamma", "beta", "categorical"],
)
def test_it_learns_the_log_ratio_of_two_densities(real, fake):
    discriminator = AutoDiscriminator(width=64, depth=2)
    discriminator.setup({"x": real.support}, {"x": real.sample((256,))})
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=300)
    rows = torch.cat([real.sample((2000,)), fake.sample((2000,))])
    exact = real.log_prob(rows) - fake.log_prob(rows)
    rows, exact = rows[exact.abs() < 3], exact[exact.abs() < 3]  # beyond there are next to no rows of one of the two

    def error():
        with torch.no_grad():
            return (discriminator(rows) - exact).abs().mean().item()

    untrained = error()
    for _ in range(300):
        optimizer.zero_grad()
        bce(discriminator(real.sample((1024,))), discriminator(fake.sample((1024,)))).backward()
        optimizer.step()
        schedule.step()
    assert error() < 0.1 < untrained


def test_what_is_built_in_a_look_survives_it():
    rows = 5 + torch.randn(50, 2)
    discriminator = AutoDiscriminator(width=4, depth=1)
    with kept_buffers(discriminator), kept_random_state(CPU), torch.no_grad():
        logits = discriminator(rows)
    assert torch.equal(discriminator(rows), logits)
    assert torch.allclose(discriminator.sites[0].mean, rows.mean(0))
    other = AutoDiscriminator(width=4, depth=1)
    with kept_buffers(other), torch.inference_mode():
        other.setup({}, {"x": rows})
        other(rows)
    assert torch.allclose(other.sites[0].scale, rows.std(0, correction=0))
    bce(other(rows), other(rows - 1)).backward()


def test_a_second_setup_changes_nothing():
    discriminator = AutoDiscriminator(width=4)
    discriminator.setup({}, {"x": torch.randn(5)})
    before = copy.deepcopy(discriminator.state_dict())
    discriminator.setup({"x": constraints.positive}, {"x": 3 + torch.rand(5)})
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


def test_the_state_holds_the_standardization_and_loads_into_one_that_is_built():
    interval = dist.Uniform(torch.tensor([-3.0, 0.0]), torch.tensor([1.0, 100.0])).to_event(1)
    first, second = interval.sample((20,)), interval.sample((20,))
    one, other = (AutoDiscriminator(width=4) for _ in range(2))
    one.setup({"x": interval.support}, {"x": first})
    other.setup({"x": interval.support}, {"x": second})
    assert not torch.allclose(one(first), other(first))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(first), other(first))


def test_a_state_does_not_load_before_the_first_call():
    built = AutoDiscriminator(width=4)
    built(torch.randn(3))
    for module, prefix in (AutoDiscriminator(), ""), (nn.ModuleDict({"d": AutoDiscriminator()}), "d."):
        with pytest.raises(ValueError, match=r"AutoDiscriminator has no parts yet to load a state into.*first call"):
            module.load_state_dict({prefix + name: value for name, value in built.state_dict().items()})


def test_a_players_state_loads_before_the_first_call():
    rows = torch.randn(20, 2)
    trained, fresh = (Discriminator(AutoDiscriminator(width=4), CPU, move=False) for _ in range(2))
    logits = trained({"x": rows})
    fresh.load_state_dict(trained.state_dict())
    pyro.set_rng_seed(1)
    assert not torch.allclose(AutoDiscriminator(width=4)(9 * rows + 1), logits)
    fresh({"x": 9 * rows + 1})  # other first rows, whose standardization gives way to the loaded one
    assert torch.equal(fresh({"x": rows}), logits)


def test_it_can_be_copied_and_pickled_before_and_after():
    rows = SITES["interval"].sample((20,))
    discriminator = AutoDiscriminator(width=4)
    for copied in (copy.deepcopy(discriminator), pickle.loads(pickle.dumps(discriminator))):
        assert copied(rows).shape == (20,)
    discriminator.setup({"x": SITES["interval"].support}, {"x": rows})
    for copied in (copy.deepcopy(discriminator), pickle.loads(pickle.dumps(discriminator))):
        assert torch.equal(copied(rows), discriminator(rows))


def test_it_asks_the_model_for_supports():
    def model(batch_size):
        with pyro.plate("data", batch_size):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            pyro.deterministic("x", rate + torch.rand(batch_size), event_dim=0)

    rows = {"rate": torch.rand(5), "x": torch.rand(5)}
    network = nn.Linear(1, 1)
    discriminator = AutoDiscriminator(model, width=4)
    discriminator(**rows)
    assert "'rate', shape (), GreaterThanEq(lower_bound=0.0) mapped to the real line" in repr(discriminator)
    assert "'x', shape (), numbers" in repr(discriminator)

    def observing(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.LogNormal(network(torch.ones(1)), 1.0), obs=x)

    single = AutoDiscriminator(observing, width=4)
    single(torch.rand(5))
    assert "'x', shape (), GreaterThan" in repr(single)
    assert pickle.loads(pickle.dumps(single))(torch.rand(3)).shape == (3,)  # the model is let go


def test_a_module_as_model_is_no_part_of_the_discriminator():
    assert not list(AutoDiscriminator(nn.Linear(1, 1)).parameters())
    assert not list(AutoImplicitGuide(nn.Linear(1, 1)).parameters())


def test_printing_shows_what_was_built():
    discriminator = AutoDiscriminator(width=12, depth=2)
    assert repr(discriminator) == "AutoDiscriminator(width=12, depth=2, not built before the first call)"
    discriminator(x=torch.rand(4, 1, 16, 16), c=torch.arange(4))
    text = repr(discriminator)
    for part in (
        "'x', shape (1, 16, 16) (an image), numbers, standardized",
        "'c', shape (), numbers",
        "Conv2d(1, 3,",
        "(embeddings): ModuleList(",
        "Linear(in_features=36, out_features=12",
        "out_features=1,",
    ):
        assert part in text


def test_images_become_small_before_they_become_vectors():
    sizes = {side: convolutions((3, side, side), 64)[-2].in_features for side in (8, 28, 32, 64)}
    assert sizes == {8: 16 * 16, 28: 32 * 49, 32: 64 * 16, 64: 64 * 16}
    assert convolutions((1, 8, 40), 64)[-2].in_features == 16 * 4 * 20


def test_without_images_an_embedding_has_no_parameters():
    sites = [Coordinates("x", constraints.real, torch.randn(5, *shape), torch.float32) for shape in ((), (2, 3))]
    embedding = Embedding(sites, 16)
    assert embedding.size == 7 and not list(embedding.parameters())


@pytest.mark.parametrize("make", [AutoDiscriminator, lambda **options: AutoImplicitGuide(lambda: None, **options)])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"width": 0}, ValueError, "width must be a positive integer, but is 0"),
        ({"width": 1.5}, TypeError, "width must be a positive integer, but is 1.5"),
        ({"depth": -1}, ValueError, "depth must be a positive integer, but is -1"),
        ({"depth": "3"}, TypeError, "depth must be a positive integer, but is '3'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_what_is_no_model_is_refused():
    for make in (AutoDiscriminator, AutoImplicitGuide):
        with pytest.raises(TypeError, match="model must be a Pyro model, a callable, but is 3"):
            make(3)
    with pytest.raises(TypeError, match="model must be a Pyro model, a callable, but is None"):
        AutoImplicitGuide(None)


def built_discriminator():
    discriminator = AutoDiscriminator(width=4)
    discriminator(x=torch.randn(5, 2), z=torch.randn(5))
    return discriminator


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((), {}, TypeError, "got 0 by position and 0 by name. Call discriminator"),
        ((torch.ones(5), torch.ones(5)), {}, TypeError, "got 2 by position and 0 by name"),
        ((torch.ones(5),), {"z": torch.ones(5)}, TypeError, "got 1 by position and 1 by name"),
        ((), {"x": [1.0]}, TypeError, r"the rows of 'x' must be a tensor, but are \[1.0\] \(list\)"),
        ((torch.ones(5, 2),), {}, ValueError, "built for the sites 'x', 'z', but is called with 'x'. Pass the same"),
        ((), {"x": torch.ones(5, 2), "y": torch.ones(5)}, ValueError, "sites 'x', 'z', but is called with 'x', 'y'"),
        (
            (),
            {"x": torch.ones(5, 3), "z": torch.ones(5)},
            ValueError,
            r"rows of 'x' with event shape \(2,\), but is called with event shape \(3,\). Pass rows with shape "
            r"\(num_rows, 2\), or make a new discriminator",
        ),
        ((), {"x": torch.ones(5, 2), "z": torch.ones(())}, ValueError, "'z' .* is called with a single number"),
        ((), {"x": torch.ones(5, 2), "z": torch.ones(4)}, ValueError, "as many rows of each site, but got 5 of 'x', 4"),
    ],
)
def test_calls_that_do_not_fit_are_refused(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        built_discriminator()(*args, **kwargs)


def test_first_calls_that_do_not_fit_are_refused_and_build_nothing():
    discriminator = AutoDiscriminator(width=4)
    with pytest.raises(ValueError, match="'x' has no rows: it is a single number"):
        discriminator(torch.tensor(1.0))
    with pytest.raises(ValueError, match="as many rows of each site, but got 2 of 'x', 3 of 'z'"):
        discriminator(x=torch.ones(2), z=torch.ones(3))
    assert not discriminator.is_built


def test_a_setup_for_other_sites_is_refused():
    with pytest.raises(ValueError, match="built for the sites 'x', 'z', but is called with 'x'"):
        built_discriminator().setup({}, {"x": torch.ones(5, 2)})


# --- the guide ------------------------------------------------------------------------------------------------------


def latent_model(fn):
    """A model with a latent site of this distribution for each row, and an observation of it with noise."""

    def model(x=None, batch_size=6):
        with pyro.plate("data", batch_size if x is None else len(x)):
            z = pyro.sample("z", fn)
            first = z.flatten(z.dim() - fn.event_dim)[..., :1].sum(-1) if fn.event_dim else z
            pyro.sample("x", dist.Normal(first, 0.5), obs=x)

    return model


@pytest.mark.parametrize("kind", SITES)
def test_it_draws_any_site_in_its_support_with_the_models_shape(kind):
    model, fn = latent_model(SITES[kind]), SITES[kind]
    guide = AutoImplicitGuide(model, width=16, depth=2)
    trace = poutine.trace(guide).get_trace(torch.randn(9))
    site = trace.nodes["z"]
    assert site["value"].shape == (9, *fn.event_shape) and site["fn"].event_dim == fn.event_dim
    assert fn.support.check(site["value"]).all()
    assert [(frame.name, frame.dim, frame.size) for frame in site["cond_indep_stack"]] == [("data", -1, 9)]
    site["value"].square().sum().backward()
    simplex = kind in ("simplex", "simplices", "correlation")  # the last entries follow from the others
    for name, parameter in guide.named_parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0 or simplex, name


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_svi_and_predictive_take_it(kind, loss):
    model = latent_model(SITES[kind])
    guide = AutoImplicitGuide(model, width=16, depth=1)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss())
    before = None
    for num_rows in (8, 8, 5):
        assert torch.isfinite(torch.tensor(svi.step(torch.randn(num_rows))))
        before = before or {name: value.clone() for name, value in guide.state_dict().items()}
    assert any(not torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert all(name.startswith("AutoImplicitGuide$$$") for name in pyro.get_param_store())
    for parallel in (False, True):
        drawn = Predictive(model, guide=guide, num_samples=3, parallel=parallel)(torch.randn(4))
        assert drawn["z"].shape == (3, 4, *SITES[kind].event_shape)
        assert (drawn["z"][0] != drawn["z"][1]).any()


def normal_model(x):
    """A conjugate model: z ~ N(0, 1), x ~ N(z, 0.5²)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def test_svi_trains_it_towards_the_mode():
    x = torch.randn(128) * 1.25**0.5
    guide = AutoImplicitGuide(normal_model, width=16, depth=1)

    def error():
        with torch.no_grad():
            return (guide(x)["z"] - 0.8 * x).abs().mean().item()  # the posterior is N(0.8 x, 0.2)

    untrained = error()
    optimizer = pyro.optim.ClippedAdam({"lr": 0.08, "lrd": 0.98})
    svi = SVI(normal_model, guide, optimizer, Trace_ELBO())
    for _ in range(200):
        svi.step(x)
    assert error() < 0.1 < untrained


def scaled_model(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(100.0, 5.0))
        rate = pyro.sample("rate", dist.LogNormal(-3.0, 0.2))
        pyro.deterministic("x", z * rate, event_dim=0)


def test_it_starts_near_the_prior():
    draws = AutoImplicitGuide(scaled_model)(torch.randn(4000))
    z, log_rate = draws["z"].detach(), draws["rate"].detach().log()
    assert z.mean().item() == pytest.approx(100.0, abs=1.5) and z.std().item() == pytest.approx(5.0, rel=0.2)
    assert log_rate.mean().item() == pytest.approx(-3.0, abs=0.06)
    assert log_rate.std().item() == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("call", [lambda guide, x: guide(x), lambda guide, x: guide(x=x)])
def test_models_that_take_no_data_are_called_as_they_can_be(call):
    def without():
        with pyro.plate("data", 16):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", z, event_dim=0)

    def optional(x=None):
        with pyro.plate("data", 16 if x is None else len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    for model in (without, optional, scaled_model):
        guide = AutoImplicitGuide(model, width=4)
        assert call(guide, torch.randn(16))["z"].shape == (16,)
        assert call(guide, torch.randn(7))["z"].shape == (7,)
        assert guide(torch.randn(3))["z"].shape == guide(x=torch.randn(3))["z"].shape == (3,)
        pyro.clear_param_store()


def test_arguments_that_are_no_rows_pass_to_the_model():
    seen = []

    def model(x, scale, flag=False):
        seen.append((scale, flag))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, scale)), 1.0), obs=x)

    guide = AutoImplicitGuide(model, width=4)
    assert guide(torch.randn(5), 2.0, flag=True)["z"].shape == (5,)
    assert set(seen) == {(2.0, True)}
    assert guide(torch.randn(4), torch.tensor(2.0))["z"].shape == (4,)


def repeatable(guide, *args, **kwargs):
    pyro.set_rng_seed(5)
    with torch.no_grad():
        return guide(*args, **kwargs)


def test_labels_that_the_model_leaves_out_are_left_out():
    guide = AutoImplicitGuide(normal_model, width=4)
    x = torch.randn(6)
    guide(x, torch.arange(6))
    assert torch.equal(repeatable(guide, x, torch.arange(6))["z"], repeatable(guide, x)["z"])
    assert [site.name for site in guide.posterior.observations()] == ["x"]


def test_covariates_are_observations_too():
    def model(x, c):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(c * pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    x, c = torch.randn(6), torch.randn(6)
    guide = AutoImplicitGuide(model, width=4)
    guide(x, c)
    draws = repeatable(guide, x, c)["z"]
    assert torch.equal(repeatable(guide, c=c, x=x)["z"], draws)
    assert not torch.equal(repeatable(guide, x, c + 1)["z"], draws)


def test_observations_are_seen_through_their_support():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Gamma(2.0, pyro.sample("rate", dist.Gamma(2.0, 1.0))), obs=x)

    guide = AutoImplicitGuide(model, width=4)
    guide(torch.rand(6))
    assert "'x', shape (), GreaterThanEq(lower_bound=0.0) mapped to the real line" in repr(guide)


def test_a_rows_latents_depend_on_that_row_alone():
    guide = AutoImplicitGuide(normal_model, width=8)
    x = torch.randn(6)
    guide(x)
    draws = repeatable(guide, x)["z"]
    changed = repeatable(guide, x.index_fill(0, torch.tensor(2), 9.0))["z"]
    assert (draws != changed).tolist() == [False, False, True, False, False, False]


def test_images_are_observations_through_convolutions():
    def model(images):
        with pyro.plate("data", len(images)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("images", dist.Normal(z[:, :1, None], 1.0).expand([len(z), 12, 12]).to_event(2), obs=images)

    guide = AutoImplicitGuide(model, width=8, depth=1)
    guide(torch.rand(5, 12, 12))["z"].square().sum().backward()
    assert "Conv2d(1, 2," in repr(guide)
    assert all(parameter.grad.abs().sum() > 0 for parameter in guide.parameters())


def hierarchical_model(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("features", 4):
        weight = pyro.sample("weight", dist.HalfCauchy(1.0))
    with pyro.plate("rows", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        with pyro.plate("columns", 3, dim=-1):
            u = pyro.sample("u", dist.Dirichlet(torch.ones(2)))
            pyro.sample("x", dist.Normal(z + u[..., 0] * weight.sum(), 1.0), obs=x)


def test_nested_plates_and_shared_latents_have_the_models_shapes():
    guide = AutoImplicitGuide(hierarchical_model, width=8, depth=1)
    expected = {"mu": (), "weight": (4,), "z": (5, 1), "u": (5, 3, 2)}
    assert {name: tuple(value.shape) for name, value in guide(torch.randn(5, 3)).items()} == expected
    elbos = (Trace_ELBO(), TraceMeanField_ELBO(), Trace_ELBO(4, vectorize_particles=True, max_plate_nesting=2))
    for elbo in elbos:
        svi = SVI(hierarchical_model, guide, pyro.optim.Adam({"lr": 0.001}), elbo)
        assert svi.step(torch.randn(5, 3)) != svi.step(torch.randn(7, 3))
    draws = Predictive(hierarchical_model, guide=guide, num_samples=6, parallel=True)(torch.randn(5, 3))
    assert draws["u"].shape == (6, 5, 3, 2) and draws["mu"].numel() == 6 and draws["weight"].numel() == 24
    sum(value.log().square().sum() if name == "weight" else value[..., 0].square().sum() if name == "u" else
        value.square().sum() for name, value in guide(torch.randn(5, 3)).items()).backward()  # fmt: skip
    assert all(parameter.grad.abs().sum() > 0 for parameter in guide.parameters())


def test_shared_latents_know_no_row_and_rows_know_them():
    guide = AutoImplicitGuide(hierarchical_model, width=8, depth=1)
    x = torch.randn(5, 3)
    guide(x)
    one, other = repeatable(guide, x), repeatable(guide, x + 1)
    assert torch.equal(one["mu"], other["mu"]) and torch.equal(one["weight"], other["weight"])
    draws = guide(x)
    (gradient,) = torch.autograd.grad(draws["z"].sum(), guide.posterior.shared.linear.weight)
    assert gradient.abs().sum() > 0


def test_a_guide_of_shared_latents_needs_no_observations():
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.ones(5))

    guide = AutoImplicitGuide(model, width=4)
    assert guide()["mu"].shape == ()
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step()


def test_models_without_plates_have_rows_too():
    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(1) + w.sum(), 1.0).to_event(1), obs=x)

    guide = AutoImplicitGuide(model, width=4)
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(torch.randn(6))
    assert {name: tuple(value.shape) for name, value in guide(torch.randn(4)).items()} == {"z": (4, 2), "w": (3,)}


@pytest.mark.parametrize("num_rows", [8, 5])
def test_plates_may_subsample(num_rows):
    def minibatch(x):
        with pyro.plate("data", 100, subsample_size=len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def inside(x):
        with pyro.plate("data", len(x), subsample_size=3) as index:
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x[index])

    for model, size in (minibatch, num_rows), (inside, 3):
        guide = AutoImplicitGuide(model, width=4)
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        svi.step(torch.randn(8))
        svi.step(torch.randn(num_rows))
        trace = poutine.trace(guide).get_trace(torch.randn(num_rows))
        assert trace.nodes["z"]["value"].shape == (size,)
        assert trace.nodes["z"]["scale"] == {"minibatch": 100, "inside": num_rows}[model.__name__] / size
        pyro.clear_param_store()


def test_a_subsampling_guide_looks_at_the_rows_that_were_taken():
    def model(x):
        with pyro.plate("data", len(x), subsample_size=3) as index:
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x[index])

    guide = AutoImplicitGuide(model, width=4)
    x = 100 * torch.arange(8.0)
    guide(x)
    with torch.no_grad():
        guide.posterior.own.linear.weight[0, -1] = 1000.0  # the latent now is mostly the observation
    trace = poutine.trace(guide).get_trace(x)
    assert torch.equal(trace.nodes["z"]["value"].argsort(), trace.nodes["data"]["value"].argsort())


def test_a_plate_without_a_size_is_one_of_the_rows():
    def model(x):
        with pyro.plate("data"):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    guide = AutoImplicitGuide(model, width=4)
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(torch.randn(6))
    assert guide(torch.randn(4))["z"].shape == (4,)


def test_discrete_sites_can_be_hidden():
    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Poisson(0.5))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + k, 1.0), obs=x)

    with pytest.raises(ValueError, match=r"'k' is discrete .*a Categorical over .*block\(model, hide=\['k'\]\)"):
        AutoImplicitGuide(model)(torch.randn(5))
    assert set(AutoImplicitGuide(poutine.block(model, hide=["k"]), width=4)(torch.randn(5))) == {"z"}


def test_sites_that_are_data_are_named():
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0))

    x = torch.randn(5)
    assert set(AutoImplicitGuide(model, width=4)(x=x)) == {"z"}
    assert set(AutoImplicitGuide(model, width=4, observed="x")(x)) == {"z"}
    assert set(AutoImplicitGuide(model, width=4, observed=["x"], name="other")(x)) == {"z"}
    assert set(AutoImplicitGuide(model, width=4, name="third")(x)) == {"z"}  # x is drawn last, given all others


def test_parameters_have_the_type_of_the_latents():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), x.new_ones(())))
            pyro.sample("x", dist.Normal(z, x.new_ones(())), obs=x)

    x = torch.randn(5, dtype=torch.float64)
    guide = AutoImplicitGuide(model, width=4)
    assert guide(x)["z"].dtype == torch.float64
    assert {value.dtype for value in guide.state_dict().values()} == {torch.float64}
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(x)
    pyro.clear_param_store()
    assert guide.float()(x.float())["z"].dtype == torch.float32


def test_the_look_leaves_the_models_batch_statistics_and_outer_handlers_alone():
    network = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))

    def model(batch_size):
        pyro.module("network", network)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([1]).to_event(1))
            pyro.deterministic("x", network(z), event_dim=1)

    guide = AutoImplicitGuide(model, width=4)
    rows = 3 + torch.randn(8, 2)
    with kept_buffers(guide), poutine.trace() as recorded:
        guide(rows)
    assert network[1].num_batches_tracked == 0
    drawn = [name for name, site in recorded.trace.nodes.items() if site["type"] == "sample"]
    assert drawn == ["data", "AutoImplicitGuide.noise", "z"] or drawn == ["AutoImplicitGuide.noise", "z"]
    assert torch.allclose(guide.posterior.observations()[0].mean, rows.mean(0))


def test_an_implicit_model_draws_from_it():
    implicit = ImplicitModel(AutoImplicitGuide(normal_model, width=4), None, CPU, move=False)
    x = torch.randn(6)
    draw = implicit.draw(implicit.calls.arguments((x,)))
    assert isinstance(draw, Draw) and set(draw.values) == {"z"} and draw.values["z"].shape == (6,)
    assert draw.values["z"].requires_grad
    assert set(draw.parameters) == {f"AutoImplicitGuide$$${name}" for name, _ in implicit.function.named_parameters()}
    assert implicit.draw(implicit.calls.arguments({"x": x[:4]})).values["z"].shape == (4,)


def test_a_guides_players_state_loads_before_the_first_call():
    x = torch.randn(20)
    trained = ImplicitModel(AutoImplicitGuide(normal_model, width=4), ["z"], CPU, move=False)
    trained.draw(trained.calls.arguments((x,)))
    draws = repeatable(trained.function, x)["z"]
    state = copy.deepcopy(trained.state_dict())
    pyro.clear_param_store()
    fresh = ImplicitModel(AutoImplicitGuide(normal_model, width=4), ["z"], CPU, move=False)
    fresh.load_state_dict(state)
    fresh.draw(fresh.calls.arguments((9 * x + 1,)))
    assert torch.equal(repeatable(fresh.function, x)["z"], draws)


def test_the_guide_can_be_copied_and_pickled_once_built():
    x = torch.randn(6)
    guide = AutoImplicitGuide(normal_model, width=4)
    guide(x)
    draws = repeatable(guide, x)["z"]
    for copied in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        pyro.clear_param_store()
        assert torch.equal(repeatable(copied, x)["z"], draws)


def test_the_guides_state_loads_into_one_that_is_built():
    x = torch.randn(6)
    one, other = AutoImplicitGuide(normal_model, width=4), AutoImplicitGuide(normal_model, width=4, name="other")
    one(x)
    with pytest.raises(ValueError, match="AutoImplicitGuide has no parts yet to load a state into"):
        other.load_state_dict(one.state_dict())
    other(x + 1)
    other.load_state_dict(one.state_dict())
    assert torch.equal(repeatable(one, x)["z"], repeatable(other, x)["z"])


def test_parameters_in_pyros_store_are_taken_over():
    x = torch.randn(6)
    AutoImplicitGuide(normal_model, width=4)(x)
    guide = AutoImplicitGuide(normal_model, width=4)
    guide(x)
    store = pyro.get_param_store()
    for name, parameter in guide.named_parameters():
        assert parameter is store[f"AutoImplicitGuide$$${name}"].unconstrained()
    del guide
    with pytest.raises(ValueError, match=r"store holds 'AutoImplicitGuide.*' with shape .*\(4, .* another guide, but "
                                         r"this guide's has \(8, .*Call pyro.clear_param_store\(\)"):  # fmt: skip
        AutoImplicitGuide(normal_model, width=8)(x)


def test_printing_the_guide_shows_what_was_built():
    guide = AutoImplicitGuide(hierarchical_model, width=8, depth=1, noise_dim=5)
    assert repr(guide) == (
        "AutoImplicitGuide(width=8, depth=1, not built before the first call, noise_dim=5, name='AutoImplicitGuide')"
    )
    guide(torch.randn(5, 3))
    text = repr(guide)
    for part in (
        "'x', shape (3,), numbers, standardized",
        "'u', shape (3, 2), Simplex() mapped to the real line, standardized",
        "'weight', shape (4,), GreaterThanEq(lower_bound=0.0) mapped to the real line",
        "noise_dim=5",
        "Linear(in_features=5, out_features=8, bias=True)",
    ):
        assert part in text


def test_less_noise_than_latents_is_mixed():
    guide = AutoImplicitGuide(latent_model(SITES["vector"]), width=4, noise_dim=1)
    guide(torch.randn(2000))
    assert (guide.posterior.own.linear.weight[:, 0] != 0).all()
    with torch.no_grad():
        guide.posterior.own.linear.weight[:, 0] = torch.tensor([4.0, -8.0, 12.0])
    draws = guide(torch.randn(2000))["z"].detach()
    assert draws[:, 0].std() > 0.9 and (draws.T.corrcoef().abs() > 0.9).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"noise_dim": 0}, ValueError, "noise_dim must be a positive integer, but is 0"),
        ({"noise_dim": 2.0}, TypeError, "noise_dim must be a positive integer, but is 2.0"),
        ({"observed": 3}, TypeError, "observed must be a site's name or a list of names, but is 3"),
        ({"observed": [3]}, TypeError, r"observed must be a site's name or a list of names, but is \[3\]"),
        ({"name": ""}, TypeError, "name must be a string, the prefix of the guide's parameters, but is ''"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        AutoImplicitGuide(normal_model, **options)


def no_latents(x):
    with pyro.plate("data", len(x)):
        pyro.deterministic("y", x, event_dim=0)
        pyro.sample("w", dist.Delta(x))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def depending_support(x):
    with pyro.plate("data", len(x)):
        low = pyro.sample("low", dist.Uniform(0.0, 1.0))
        pyro.sample("high", dist.Uniform(low, 2.0))
        pyro.deterministic("x", low, event_dim=0)


def shared_depending_support(x):
    low = pyro.sample("low", dist.Uniform(0.0, 1.0))
    pyro.sample("high", dist.Uniform(low, 2.0))


def sequential(x):
    for row in pyro.plate("data", len(x)):
        pyro.sample(f"z{row}", dist.Normal(0.0, 1.0))


def outside(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
        with pyro.plate("outer", 2):
            pyro.sample("z", dist.Normal(0.0, 1.0))


def on_a_sphere(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.ProjectedNormal(torch.ones(3)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (no_latents, "no latent sites: 'y', 'w', 'x' are observed, deterministic or Delta"),
        (depending_support, "support of the latent site 'high' depends on other sites.*fixed interval"),
        (shared_depending_support, "support of the latent site 'high' depends on other sites"),
        (sequential, r"'z0' lies in a sequential pyro.plate. Use it as a context"),
        (outside, "'z' has dimensions left of those of the rows' plate 'data'. Make the rows' plate the outermost"),
        (on_a_sphere, "'z' has the support .*[Ss]phere.*, to which torch has no bijection"),
    ],
)
def test_models_that_it_can_not_guide_are_refused(model, message):
    guide = AutoImplicitGuide(model, width=4)
    with pytest.raises(ValueError, match=message):
        guide(torch.randn(5))
    assert not guide.is_built and not pyro.get_param_store()


def test_observations_that_do_not_fit_are_refused():
    def model(x, c):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None], torch.ones(2)).to_event(1), obs=x)

    guide = AutoImplicitGuide(model, width=4)
    with pytest.raises(ValueError, match="as many rows of each site, but got 5 of 'x', 4 of 'c'"):
        guide(torch.randn(5, 2), torch.randn(4))
    guide(torch.randn(5, 2), torch.randn(5))
    with pytest.raises(
        ValueError,
        match=r"the guide was built for rows of 'x' with event shape \(2,\), but is called with event shape \(3,\)",
    ):
        guide(torch.randn(5, 3), torch.randn(5))
    with pytest.raises(ValueError, match=r"built for observations of 'c', but is called without. Pass a tensor"):
        guide(torch.randn(5, 2))
    with pytest.raises(ValueError, match="as many rows of each site, but got 5 of 'x', 6 of 'c'"):
        guide(torch.randn(5, 2), torch.randn(6))


@pytest.mark.parametrize("observed", [None, torch.ones(5)])
def test_rows_without_observations_are_refused(observed):
    def model(x=None):
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=observed)

    with pytest.raises(ValueError, match=r"called without observations, which latents of rows depend on. Call it on"):
        AutoImplicitGuide(model)()


def test_a_slow_network_starts_as_a_fast_one_and_is_moved_a_quarter_as_far():
    built = []
    for is_slow in (False, True):
        torch.manual_seed(0)
        built.append(fully_connected(3, 8, 2, 2, is_slow=is_slow))
    rows = torch.randn(5, 3)
    first = [network(rows).detach() for network in built]
    torch.testing.assert_close(*first)
    for network in built:
        adam = torch.optim.Adam(network.parameters(), lr=1e-3)
        network(rows).square().sum().backward()
        adam.step()
    fast, slow = (
        layer for network in built for layer in network if isinstance(layer, nn.Linear) and layer.in_features == 3
    )
    assert isinstance(slow, SlowLinear)
    torch.manual_seed(0)
    start = fully_connected(3, 8, 2, 2)[0].weight
    torch.testing.assert_close(SLOWNESS * (slow.weight / SLOWNESS - start), fast.weight - start, rtol=1e-2, atol=1e-6)


def images_model(size):
    def model(images):
        with pyro.plate("data", len(images)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample(
                "images", dist.Normal(z[:, None, None], 1.0).expand([len(z), size, size]).to_event(2), obs=images
            )

    return model


def test_the_linear_path_of_larger_images_moves_no_faster():
    moved = []
    for size in (8, 16):
        pyro.clear_param_store()
        images = torch.tensor([-1.0, 1.0])[:, None, None].expand(2, size, size)
        guide = AutoImplicitGuide(images_model(size), width=8, depth=1)
        guide(images)
        linear = guide.posterior.own.linear
        adam = torch.optim.Adam([linear.weight], lr=1e-3)
        outputs = []
        for _ in range(2):
            torch.manual_seed(0)
            outputs.append(guide(images)["z"][1])
            (-outputs[-1]).backward()
            linear.weight.grad[:, : guide.posterior.own.noise_dim] = 0.0
            adam.step()
        moved.append((outputs[1] - outputs[0]).item())
    assert moved[1] == pytest.approx(moved[0], rel=0.05) and moved[0] > 0.01


def test_all_decays_but_the_linear_path():
    pyro.clear_param_store()
    inference = BiGANInference(images_model(8), AutoImplicitGuide(images_model(8), width=8, depth=1))
    inference.step(torch.randn(4, 8, 8))
    steady, decaying = (
        {
            name
            for name, parameter in inference.optim.parameters.items()
            if any(parameter is one for one in group["params"])
        }
        for group in sorted(inference.optim.optimizer.param_groups, key=lambda group: group["weight_decay"])
    )
    assert all(".linear." in name for name in steady) and len(steady) == 2
    assert any("embedding" in name for name in decaying) and any(".network." in name for name in decaying)
    assert len(inference.optim_d.optimizer.param_groups) == 1


@pytest.mark.parametrize("decays", [True, False])
def test_modules_of_the_users_own_decay_where_they_say_so(decays):
    pyro.clear_param_store()
    network = nn.Sequential(nn.Linear(1, 2))
    network.decays = decays

    def guide(x):
        pyro.module("network", network)
        loc, scale = network(x[:, None]).unbind(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()))

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    inference = BiGANInference(model, guide)
    inference.step(torch.randn(4))
    (group,) = inference.optim.optimizer.param_groups
    assert len(group["params"]) == 2 and group["weight_decay"] == (DECAY if decays else 0.0)
