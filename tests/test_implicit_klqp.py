import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import (
    joint_discriminator,
    linear_model,
    linear_posterior,
    linear_rows,
    linear_simulator,
    normal_guide,
)
from models import falling_adam
from pyro import poutine
from torch import nn

from pyro_gan import ImplicitKLqp
from pyro_gan.inference.contrast import AdaptiveContrast
from pyro_gan.losses import Hinge, NonSaturating, Relativistic

X = linear_rows(16)[1]
NUM_ROWS = 100
"""Of the data that X is a minibatch of."""


# ---- the bound: mean ~ N(0, 1), z ~ N(mean, 1), x ~ N(z, 0.5²), and a guide whose every density is known


def one(value):
    return torch.tensor(value, dtype=torch.float64)


START = {"loc": 0.4, "log_scale": -0.7, "slope": 0.3, "share": 0.6, "offset": -0.5, "log_width": -0.2}


def hierarchical_model(x):
    mean = pyro.sample("mean", dist.Normal(one(0.0), 1.0))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def scaled_model(x):
    """The same, by a handler in place of the plate's size."""
    mean = pyro.sample("mean", dist.Normal(one(0.0), 1.0))
    with poutine.scale(scale=NUM_ROWS / len(x)), pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def scaled_throughout(x):
    """The same, with the global site's density scaled by 3 as well."""
    with poutine.scale(scale=3.0):
        hierarchical_model(x)


def hierarchical_guide(x):
    values = {name: pyro.param(name, one(value)) for name, value in START.items()}
    mean = pyro.sample("mean", dist.Normal(values["loc"], values["log_scale"].exp()))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        center = values["slope"] * x + values["share"] * mean + values["offset"]
        pyro.sample("z", dist.Normal(center, values["log_width"].exp()))


def log_normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - torch.as_tensor(scale).log() - 0.5 * math.log(2 * math.pi)


def log_guide(values, x, z, mean):
    center = values["slope"] * x + values["share"] * mean + values["offset"]
    return log_normal(z, center, values["log_width"].exp())


def exact_discriminator(contrast, adaptive=False):
    """The log ratio itself (the data's own density left out, as a constant), with a parameter that does nothing."""
    idle = nn.Parameter(one(0.0))

    def discriminator(mean, z, x):
        values = {name: pyro.get_param_store()[name].detach() for name in START}
        ratio = log_guide(values, x, z, mean) + 0 * idle
        if adaptive:
            contrasted = AdaptiveContrast({"z": dist.constraints.real}, {"z": z.detach()})
            return ratio - contrasted.log_prob({"z": z}, log_normal(z, mean, one(1.0)))
        if contrast == "joint":
            ratio = ratio - log_normal(x, z, one(0.5))
        return ratio - log_normal(z, mean, one(1.0))

    return discriminator


def exact_inference(contrast, model=hierarchical_model, **kwargs):
    discriminator = exact_discriminator(contrast, kwargs.get("adaptive", False))
    inference = ImplicitKLqp(model, hierarchical_guide, discriminator, global_sites="mean", contrast=contrast, **kwargs)
    inference.evaluate_loss(X.double())
    return inference


def leaves():
    return [pyro.param(name).unconstrained() for name in START]


def generator_loss(inference):
    return inference.generator_loss(inference.draw_for_generator(inference._batch((X.double(),))))


def loss_by_hand(x, model_scale=1.0, num_draws=1):
    """The negative bound of each draw, divided by the number of rows, as an estimate of this minibatch."""
    values = dict(zip(START, leaves(), strict=True))
    noise = torch.normal(torch.zeros(num_draws, 1, dtype=x.dtype), 1.0)
    mean = values["loc"] + values["log_scale"].exp() * noise
    noise = torch.normal(torch.zeros(num_draws, len(x), dtype=x.dtype), 1.0)
    z = values["slope"] * x + values["share"] * mean + values["offset"] + values["log_width"].exp() * noise
    fixed = {name: value.detach() for name, value in values.items()}
    local = log_normal(x, z, one(0.5)) + log_normal(z, mean, one(1.0)) - log_guide(fixed, x, z, mean)
    prior = model_scale * log_normal(mean, one(0.0), one(1.0))
    shared = prior - log_normal(mean, values["loc"], values["log_scale"].exp())
    return -(shared / (model_scale * NUM_ROWS) + local).mean()


KINDS = [("joint", {}), ("prior", {}), ("prior", {"adaptive": True})]


@pytest.mark.parametrize(("contrast", "options"), KINDS)
@pytest.mark.parametrize("model", [hierarchical_model, scaled_model])
def test_with_the_exact_ratio_the_loss_is_the_negative_bound_for_a_row(contrast, options, model):
    inference = exact_inference(contrast, model, **options)
    pyro.set_rng_seed(3)
    expected = loss_by_hand(X.double())
    wanted = torch.autograd.grad(expected, leaves())
    pyro.set_rng_seed(3)
    found = generator_loss(inference)
    assert torch.allclose(found, expected, rtol=1e-8)
    for gradient, by_hand in zip(torch.autograd.grad(found, leaves()), wanted, strict=True):
        assert torch.allclose(gradient, by_hand, rtol=1e-6)


def test_a_scale_of_the_whole_model_weighs_its_own_densities():
    inference = exact_inference("joint", scaled_throughout)
    pyro.set_rng_seed(3)
    expected = loss_by_hand(X.double(), model_scale=3.0)
    pyro.set_rng_seed(3)
    assert torch.allclose(generator_loss(inference), expected, rtol=1e-8)


def exact_bound(x):
    """The bound's expectation in closed form, the minibatch standing for all rows."""
    values = dict(zip(START, leaves(), strict=True))
    loc, variance = values["loc"], values["log_scale"].exp() ** 2
    width, share = values["log_width"].exp() ** 2, values["share"]
    center = values["slope"] * x + values["offset"]
    to_mean = (center + (share - 1) * loc) ** 2 + (share - 1) ** 2 * variance + width
    to_x = (x - center - share * loc) ** 2 + share**2 * variance + width
    shared = -0.5 * (loc**2 + variance) + values["log_scale"]
    return shared + NUM_ROWS * (-0.5 * to_mean - 0.5 * to_x / 0.25 + values["log_width"]).mean()


def test_the_gradient_is_that_of_the_exact_bound():
    exact_inference("joint")
    wanted = torch.stack(torch.autograd.grad(-exact_bound(X.double()) / NUM_ROWS, leaves()))
    # Draw by draw this is the inference's loss and gradient, as the tests above show.
    found = torch.stack(torch.autograd.grad(loss_by_hand(X.double(), num_draws=100_000), leaves()))
    assert (found - wanted).abs().max() < 0.01 * wanted.abs().max()


@pytest.mark.parametrize("contrast", ["joint", "prior"])
def test_the_step_goes_down_the_bound(contrast):
    inference = exact_inference(contrast, optim=lambda leaves: torch.optim.SGD(leaves, lr=0.1))
    before = exact_bound(X.double()).item()
    for _ in range(5):
        inference.step(X.double(), player="generator")
    assert exact_bound(X.double()).item() > before + 10


# ---- the discriminator's draws


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_discriminator_alone_sees_global_draws_that_are_spread(spread):
    inference = exact_inference("joint", spread=spread)
    batch = inference._batch((X.double(),))
    with torch.no_grad():
        apart = torch.stack([inference.draw(batch).real["mean"] for _ in range(300)])
        close = torch.stack([inference.draw_for_generator(batch).real["mean"] for _ in range(300)])
    assert (apart == apart[:, :1]).all() and apart.shape == (300, len(X))
    scale = math.exp(START["log_scale"])
    assert abs(apart[:, 0].std() / scale / spread - 1) < 0.15  # 4 % is the standard error
    assert abs(close[:, 0].std() / scale - 1) < 0.15
    assert abs(apart[:, 0].mean() - START["loc"]) < 4 * spread * scale / math.sqrt(300)


def test_spread_draws_stay_in_the_support():
    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
        parts = pyro.sample("parts", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(parts[0], rate), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.5))
        pyro.sample("rate", dist.LogNormal(0.0, scale))
        pyro.sample("parts", dist.Dirichlet(torch.ones(3) + scale))

    inference = ImplicitKLqp(model, guide, joint_discriminator(5), global_sites=["rate", "parts"], spread=5.0)
    inference.evaluate_loss(X)
    drawn = [inference.draw(inference._batch((X,))) for _ in range(300)]
    rates = torch.stack([samples.real["rate"][0] for samples in drawn])
    parts = torch.stack([samples.fake["parts"][0] for samples in drawn])
    assert (rates > 0).all() and abs(rates.log().std() / 2.5 - 1) < 0.2
    assert (parts >= 0).all() and (parts.sum(1) - 1).abs().max() < 1e-5


def test_both_samples_share_the_global_draw_and_the_local_draws_depend_on_it():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(mean, 1e-3)), 1e-3), obs=x)

    def guide(x):
        mean = pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(2 * mean, 1e-3))

    inference = ImplicitKLqp(model, guide, joint_discriminator(3), global_sites="mean")
    inference.evaluate_loss(X)
    samples = inference.draw(inference._batch((X,)))
    assert torch.equal(samples.real["mean"], samples.fake["mean"])
    assert (samples.real["z"] - 2 * samples.real["mean"]).abs().max() < 0.01
    assert (samples.fake["x"] - samples.real["mean"]).abs().max() < 0.02
    assert torch.equal(samples.real["x"], X)


def test_the_prior_contrast_compares_draws_for_the_same_data():
    inference = ImplicitKLqp(linear_model, normal_guide(), joint_discriminator(), contrast="prior")
    inference.evaluate_loss(X)
    samples = inference.draw(inference._batch((X,)))
    assert torch.equal(samples.real["x"], X) and torch.equal(samples.fake["x"], X)
    assert not torch.equal(samples.real["z"], samples.fake["z"])


# ---- what is trained


def trainable_model(x):
    slope = pyro.param("slope", torch.tensor(0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(slope * pyro.sample("z", dist.Normal(0.0, 1.0)), 0.5), obs=x)


@pytest.mark.parametrize(("contrast", "options"), KINDS)
def test_model_and_guide_are_trained_together(contrast, options):
    network = nn.Linear(1, 2)
    weight = network.weight.detach().clone()
    inference = ImplicitKLqp(
        trainable_model, normal_guide(network), joint_discriminator(), contrast=contrast, **options
    )
    inference.run(X, num_steps=3, progress=False)
    assert pyro.param("slope").item() != 0.5 and not torch.equal(network.weight, weight)
    assert len(inference.history["generator_loss"]) == 3


def test_the_tractable_likelihood_moves_the_model_by_its_own_gradient():
    idle = nn.Parameter(torch.tensor(0.0))
    inference = ImplicitKLqp(trainable_model, normal_guide(), lambda z, x: 0 * idle * z, contrast="prior")
    inference.evaluate_loss(X)
    pyro.set_rng_seed(2)
    samples = inference.draw_for_generator(inference._batch((X,)))
    leaf = pyro.param("slope").unconstrained()
    (found,) = torch.autograd.grad(inference.generator_loss(samples), [leaf])
    z = samples.real["z"].detach()
    by_hand = -((X - leaf.detach() * z) * z / 0.25).mean()
    assert torch.allclose(found, by_hand, rtol=1e-4)


def prior_model(x):
    """z ~ N(centre, width²), x ~ N(z, 0.5²)."""
    centre, width = pyro.param("centre", torch.tensor(0.5)), pyro.param("width", torch.tensor(1.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(centre, width)), 0.5), obs=x)


@pytest.mark.parametrize("options", [{}, {"adaptive": True}])
def test_the_density_of_the_prior_moves_its_parameters(options):
    idle = nn.Parameter(torch.tensor(0.0))
    inference = ImplicitKLqp(prior_model, normal_guide(), lambda z, x: 0 * idle * z, contrast="prior", **options)
    inference.evaluate_loss(X)
    leaves = [pyro.param(name).unconstrained() for name in ("centre", "width")]
    samples = inference.draw_for_generator(inference._batch((X,)))
    found = torch.autograd.grad(inference.generator_loss(samples), leaves)
    (centre, width), z = (leaf.detach() for leaf in leaves), samples.real["z"].detach()
    by_hand = -((z - centre) / width**2).mean(), -((z - centre) ** 2 / width**3 - 1 / width).mean()
    assert torch.allclose(torch.stack(found), torch.stack(by_hand), rtol=1e-4)


def test_parameters_of_the_prior_leave_the_losss_value_and_the_guides_gradient_alone():
    def with_known_prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.5, 1.5)), 0.5), obs=x)

    results = []
    for model in (prior_model, with_known_prior):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        network = nn.Linear(1, 2)
        inference = ImplicitKLqp(model, normal_guide(network), joint_discriminator(), contrast="prior")
        inference.evaluate_loss(X)
        pyro.set_rng_seed(4)
        loss = inference.generator_loss(inference.draw_for_generator(inference._batch((X,))))
        results.append((loss, torch.autograd.grad(loss, [network.weight])[0]))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


def test_evaluating_the_loss_changes_nothing():
    inference = exact_inference("joint")
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    first, second = inference.evaluate_loss(X.double()), inference.evaluate_loss(X.double())
    assert (
        torch.isfinite(first.generator) and torch.isfinite(first.discriminator) and first.generator != second.generator
    )
    assert all(torch.equal(value, before[name]) for name, value in pyro.get_param_store().items())
    assert inference.num_steps_taken == 0


# ---- after the fit


def vector_model(x):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        z = pyro.sample("z", dist.Normal(weights[0], scale))
        pyro.sample("x", dist.Normal(z, 1e-3), obs=x)


def vector_guide(x):
    loc = pyro.param("loc", torch.zeros(2))
    weights = pyro.sample("weights", dist.Normal(loc, 0.1).to_event(1))
    pyro.sample("scale", dist.LogNormal(0.0, 0.1))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        pyro.sample("z", dist.Normal(x + 0 * weights[0], 1e-3))


@pytest.fixture
def fitted():
    inference = ImplicitKLqp(vector_model, vector_guide, joint_discriminator(5), global_sites=["weights", "scale"])
    return inference.run(X, num_steps=2, batch_size=8, progress=False)


def test_draws_of_global_sites_have_no_rows(fitted):
    draws = fitted.sample_posterior(X[:3], 20)
    assert draws["weights"].shape == (20, 2) and draws["scale"].shape == (20,) and draws["z"].shape == (20, 3)
    assert draws["scale"].unique().numel() == 20 and (draws["scale"] > 0).all()
    one_of_them = fitted.sample_posterior(0.5, 20)
    assert one_of_them["weights"].shape == (20, 2) and one_of_them["z"].shape == (20,)


def test_decoding_takes_one_value_of_a_global_site(fitted):
    z = torch.linspace(-1, 1, 5)
    decoded = fitted.decode({"z": z, "weights": torch.zeros(2), "scale": 0.5})
    assert decoded.shape == (5,) and (decoded - z).abs().max() < 0.01
    assert fitted.decode({"z": 0.5}).shape == ()
    decoded = fitted.decode({"weights": [7.0, 0.0], "scale": 1e-3})
    assert decoded.shape == (8,) and (decoded - 7).abs().max() < 0.1
    with pytest.raises(ValueError, match=r"latents holds rows of the global site 'weights'. Pass one value of it"):
        fitted.decode({"z": z, "weights": torch.zeros(5, 2)})
    with pytest.raises(
        ValueError, match=r"latents\['weights'\] has shape \(3,\), but in training each had shape \(2,\)"
    ):
        fitted.decode({"weights": torch.zeros(3)})


def test_reconstruction_draws_the_global_sites_too(fitted):
    assert (fitted.reconstruct(X[:4]) - X[:4]).abs().max() < 0.02
    assert abs(fitted.reconstruct(0.3).item() - 0.3) < 0.02


def test_samples_of_the_model_have_a_row_of_each_site(fitted):
    drawn = fitted.sample(20)
    assert {site: tuple(rows.shape) for site, rows in drawn.items()} == {
        "weights": (20, 2), "scale": (20,), "z": (20,), "x": (20,)
    }  # fmt: skip
    assert (drawn["x"] - drawn["z"]).abs().max() < 0.01


def test_the_export_has_the_guides_draws(fitted):
    exported = fitted.to_inference_data(X[:8], num_draws=6)
    assert exported["posterior"]["weights"].shape == (1, 6, 2) and exported["posterior"]["z"].shape == (1, 6, 8)
    assert exported["posterior_predictive"]["x"].shape == (1, 6, 8)
    assert list(exported["observed_data"].data_vars) == ["x"]


def test_the_log_ratio_is_read_off(fitted):
    rows = {"z": X, "x": X, "weights": torch.zeros(16, 2), "scale": torch.ones(16)}
    assert fitted.log_ratio(rows).shape == (16,)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": "posterior"}, "contrast must be 'joint' or 'prior', but is 'posterior'"),
        ({"spread": 0.5}, "spread must be a number of at least 1, but is 0.5"),
        ({"spread": math.inf}, "spread must be a number of at least 1, but is inf"),
        ({"spread": "3"}, "spread must be a number of at least 1, but is '3'"),
        ({"spread": True}, "spread must be a number of at least 1, but is True"),
        ({"adaptive": True}, "adaptive=True adapts the contrast with the prior. Pass contrast='prior' with it"),
        ({"loss": Hinge()}, "Hinge implies no log density ratio"),
        ({"loss": (lambda r, f: r, lambda r, f: f)}, "CallableLoss implies no log density ratio"),
        ({"discriminator_steps": 0}, "discriminator_steps must be a positive integer, but is 0"),
    ],
)
def test_what_the_constructor_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        ImplicitKLqp(linear_model, normal_guide(), joint_discriminator(), **options)


@pytest.mark.parametrize("names", [3, ["mean", 3], {"mean": 1}])
def test_names_of_global_sites_are_checked(names):
    with pytest.raises(TypeError, match="global_sites must be a site's name or a list of names, but is"):
        ImplicitKLqp(linear_model, normal_guide(), joint_discriminator(), global_sites=names)


def delta_model(x):
    mean = pyro.deterministic("mean", torch.tensor(0.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def mean_model(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def mean_guide(x):
    pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.1))


def delta_guide(x):
    pyro.deterministic("mean", pyro.param("loc", torch.tensor(0.0)) + 0.1 * torch.randn(()))


def deterministic_local(x):
    with pyro.plate("data", len(x)):
        noise = pyro.sample("noise", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        pyro.sample("x", dist.Normal(pyro.deterministic("z", noise, event_dim=0), 0.5), obs=x)


def learned_local(x):
    shift = pyro.param("shift", torch.tensor(0.0))
    with pyro.plate("data", len(x)):
        noise = pyro.sample("noise", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        pyro.sample("x", dist.Normal(pyro.deterministic("z", noise + shift, event_dim=0), 0.5), obs=x)


SITES = [
    (
        learned_local,
        normal_guide(),
        {"contrast": "prior"},
        r"contrast='prior' can not train the parameters of the prior of 'z', which has no density \(latent Delta\)",
    ),
    (mean_model, mean_guide, {"global_sites": "men"}, "global_sites names 'men', but the guide draws 'mean'"),
    (delta_model, mean_guide, {"global_sites": "mean"}, "the model's global site 'mean' has no density. Draw it from"),
    (mean_model, delta_guide, {"global_sites": "mean"}, "the guide's global site 'mean' has no density"),
    (mean_model, mean_guide, {}, r"the guide's site 'mean' has shape \(\), .* one of ImplicitKLqp's global_sites"),
    (
        linear_simulator,
        normal_guide(),
        {"contrast": "prior"},
        r"contrast='prior' needs the likelihood of 'x', but the model has none \(latent Delta\). Observe it",
    ),
    (
        deterministic_local,
        normal_guide(),
        {"contrast": "prior", "adaptive": True},
        "adaptive=True needs the density of the model's site 'z', but it is a Delta",
    ),
    (
        mean_model,
        mean_guide,
        {"global_sites": "mean", "contrast": "prior"},
        "contrast='prior' contrasts local sites, but there are none",
    ),
]


@pytest.mark.parametrize(("model", "guide", "options", "message"), SITES)
def test_sites_that_do_not_fit_are_refused_and_leave_nothing(model, guide, options, message):
    inference = ImplicitKLqp(model, guide, joint_discriminator(), **options)
    random_state = torch.get_rng_state()
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            inference.step(X)
    assert dict(pyro.get_param_store().items()) == {} and inference.num_steps_taken == 0
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_loss_that_leaves_a_constant_open_trains_but_tells_no_ratio():
    guide = normal_guide()
    inference = ImplicitKLqp(linear_model, guide, joint_discriminator(), loss=Relativistic())
    inference.step(X)
    with pytest.raises(ValueError, match=r"ImplicitKLqp fixes no constant of its log ratio. Use .*NonSaturating"):
        inference.log_ratio({"z": X, "x": X})
    inference = ImplicitKLqp(linear_model, guide, joint_discriminator(), loss=NonSaturating())
    inference.step(X)
    assert inference.log_ratio({"z": X, "x": X}).shape == (16,)


# ---- conjugate normal posteriors


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def assert_local_posterior(inference):
    """The mean within 0.05 and the standard deviation within 15 %, for x within two standard deviations."""
    x = torch.linspace(-2.0, 2.0, 9) * math.sqrt(1.25)
    draws = inference.sample_posterior(x, 20_000)["z"]
    mean, scale = linear_posterior(x)
    assert (draws.mean(0) - mean).abs().max() < 0.05
    assert (draws.std(0) / scale - 1).abs().max() < 0.15


LOCAL = [
    ("prior", {}, 0),
    slow("joint", {}, 0),
    slow("prior", {"adaptive": True}, 0),
    slow("prior", {}, 1),
    slow("joint", {}, 1),
    slow("prior", {"adaptive": True}, 1),
]


@pytest.mark.parametrize(("contrast", "options", "seed"), LOCAL)
def test_the_posterior_of_local_sites_is_recovered(contrast, options, seed):
    pyro.set_rng_seed(seed)
    inference = ImplicitKLqp(linear_model, normal_guide(), joint_discriminator(), contrast=contrast, **options)
    inference.evaluate_loss(X)
    with pytest.raises(AssertionError):
        assert_local_posterior(inference)
    inference.run(linear_rows(20_000)[1], num_steps=1500, batch_size=256, progress=False)
    assert_local_posterior(inference)


def assert_mean_posterior(inference, data):
    """The mean within 0.05 and the standard deviation within 15 %."""
    draws = inference.sample_posterior(data, 4000)["mean"]
    assert abs(draws.mean() - data.sum() / (len(data) + 1)) < 0.05
    assert abs(draws.std() * math.sqrt(len(data) + 1) - 1) < 0.15


@pytest.mark.parametrize(
    ("num_rows", "start", "num_steps", "seed"), [(20, 0.5, 1000, 0), slow(20, 0.5, 1000, 1), slow(100, 0.3, 2000, 0)]
)
def test_the_posterior_of_a_global_site_is_recovered_from_samples_of_x_alone(num_rows, start, num_steps, seed):
    pyro.set_rng_seed(seed)
    data = 1.5 + torch.randn(num_rows, generator=torch.Generator().manual_seed(0))

    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", num_rows, subsample=x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(start), constraint=dist.constraints.positive)
        pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), scale))

    optim = falling_adam(num_steps, rate=0.01, beta=0.0)  # two parameters far from where they belong
    inference = ImplicitKLqp(model, guide, joint_discriminator(), optim, global_sites="mean")
    inference.evaluate_loss(data)
    with pytest.raises(AssertionError):
        assert_mean_posterior(inference, data)
    inference.run(data, num_steps=num_steps, batch_size=64, progress=False)
    assert_mean_posterior(inference, data)


# ---- Edward's ratio_loss="hinge": its score in place of the log ratio


class ScoredHinge(Hinge):
    """As docs/edward.md has it."""

    def log_ratio(self, logits):
        return logits


def test_the_score_of_a_hinge_takes_the_log_ratios_place():
    """With the score 2 x - 3 mean, the loss and its gradient are worked out by hand: one draw, 100 rows in all."""
    idle = nn.Parameter(one(0.0))

    def model(x):
        mean = pyro.sample("mean", dist.Normal(one(0.0), 1.0))
        with pyro.plate("data", NUM_ROWS, subsample=x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        pyro.sample("mean", dist.Normal(pyro.param("loc", one(0.4)), 0.5))

    def score(mean, x):
        return 2 * x - 3 * mean + 0 * idle

    inference = ImplicitKLqp(model, guide, score, global_sites="mean", loss=ScoredHinge())
    x = X.double()
    inference.evaluate_loss(x)
    samples = inference.draw_for_generator(inference._batch((x,)))
    mean = samples.real["mean"][0].item()
    log_p, log_q = -(mean**2) / 2, -((mean - 0.4) ** 2) / 0.5 + math.log(2)  # the same constant is left out of both
    expected = 2 * x.mean().item() - 3 * mean - (log_p - log_q) / NUM_ROWS
    found = inference.generator_loss(samples)
    assert found.item() == pytest.approx(expected, rel=1e-8)
    (gradient,) = torch.autograd.grad(found, [pyro.param("loc").unconstrained()])
    assert gradient.item() == pytest.approx(-3 + mean / NUM_ROWS, rel=1e-8)


def test_a_scored_hinge_brings_the_guide_to_the_data():
    pyro.set_rng_seed(0)
    data = 1.5 + torch.randn(100, generator=torch.Generator().manual_seed(0))

    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        pyro.sample("mean", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.1))

    optim = falling_adam(500, rate=0.01, beta=0.0)
    inference = ImplicitKLqp(model, guide, joint_discriminator(), optim, global_sites="mean", loss=ScoredHinge())
    inference.run(data, num_steps=500, batch_size=64, progress=False)
    assert abs(pyro.param("loc").item() - data.sum().item() / 101) < 0.15  # it begins 1.5 away


# ---- a discriminator for each observed site, weighed by the model's scales


def two_sites_model(x, y):
    """x ~ N(mean, 1) and, three times as heavy, y ~ N(2 mean, 1)."""
    mean = pyro.sample("mean", dist.Normal(one(0.0), 1.0))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
        with poutine.scale(scale=3.0):
            pyro.sample("y", dist.Normal(2 * mean, 1.0), obs=y)


def two_sites_guide(x, y):
    pyro.sample("mean", dist.Normal(pyro.param("loc", one(0.4)), pyro.param("width", one(0.5))))


def two_exact_discriminators():
    """The log ratios themselves, without the data's own densities."""
    idle = nn.Parameter(one(0.0))
    return {
        "x": lambda x, mean: 0 * idle - log_normal(x, mean, one(1.0)),
        "y": lambda y, mean: 0 * idle - log_normal(y, 2 * mean, one(1.0)),
    }


def test_sites_are_weighed_by_their_scales():
    parts, sites = two_exact_discriminators(), ["mean", "x", "y"]
    inference = ImplicitKLqp(two_sites_model, two_sites_guide, parts, global_sites="mean", site=sites)
    x, y = X.double(), 1 - X.double()
    inference.evaluate_loss(x, y)
    samples = inference.draw_for_generator(inference._batch((x, y)))
    loc, width = pyro.param("loc"), pyro.param("width")
    mean = loc + width * ((samples.real["mean"][0] - loc) / width).detach()
    shared = log_normal(mean, one(0.0), one(1.0)) - log_normal(mean, loc, width)
    local = log_normal(x, mean, one(1.0)) + 3 * log_normal(y, 2 * mean, one(1.0))
    expected = -shared / NUM_ROWS - local.mean()
    found = inference.generator_loss(samples)
    assert torch.allclose(found, expected, rtol=1e-8)
    for gradient, by_hand in zip(*(torch.autograd.grad(loss, [loc, width]) for loss in (found, expected)), strict=True):
        assert torch.allclose(gradient, by_hand, rtol=1e-6)


def test_the_discriminators_of_several_sites_learn_each_their_own_ratio():
    pyro.set_rng_seed(0)
    x = 1.5 + torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    y = 2 * x.mean() + torch.randn(100, generator=torch.Generator().manual_seed(1)).double()
    networks = {name: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1)).double() for name in "xy"}
    parts = {
        "x": lambda x, mean: networks["x"](torch.stack([x, mean], 1)),
        "y": lambda y, mean: networks["y"](torch.stack([y, mean], 1)),
    }
    optim = falling_adam(600, rate=0.01, beta=0.0)
    sites = ["mean", "x", "y"]
    inference = ImplicitKLqp(two_sites_model, two_sites_guide, parts, optim, global_sites="mean", site=sites)
    inference.run((x, y), num_steps=600, batch_size=64, progress=False)
    exact = (x.sum() + 3 * 2 * y.sum()) / (1 + 100 + 3 * 4 * 100)  # the mode of the weighed posterior
    assert abs(pyro.param("loc").item() - exact.item()) < 0.1  # it begins 1.1 away


def test_discriminators_by_site_need_the_sites():
    with pytest.raises(ValueError, match=r"leaves open which latent sites are compared. Pass site=\[...\] with"):
        ImplicitKLqp(two_sites_model, two_sites_guide, two_exact_discriminators(), global_sites="mean")
