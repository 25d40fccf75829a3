import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import (
    hidden_layers,
    joint_discriminator,
    linear_model,
    linear_posterior,
    linear_rows,
    linear_simulator,
    noise_guide,
    normal_guide,
)
from pyro.infer import Predictive
from pyro.nn import PyroModule
from torch import nn
from torch.nn.functional import relu, softplus

import pyro_gan.inference.guided as guided
from pyro_gan import AutoImplicitGuide, BiGANInference, ImplicitKLqp
from pyro_gan.export import to_inference_data
from pyro_gan.losses import KL, Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, ReverseKL

X = linear_rows(64)[1]
SIMULATIONS = dict(zip("zx", linear_rows(64), strict=True))


def fitted(model=linear_model, guide=None, data=X, num_features=2, num_steps=2, **kwargs):
    inference = BiGANInference(model, guide or normal_guide(), joint_discriminator(num_features, 8), **kwargs)
    return inference.run(data, num_steps=num_steps, batch_size=16, progress=False)


def shapes(values):
    return {site: tuple(rows.shape) for site, rows in values.items()}


# ---- the posterior of a linear model


def assert_posterior(inference, num_samples=4000):
    """The mean within 0.1 and the standard deviation within 20 %, for x within two standard deviations."""
    x = torch.linspace(-2.0, 2.0, 9) * math.sqrt(1.25)
    draws = inference.sample_posterior(x, num_samples)["z"]
    mean, scale = linear_posterior(x)
    assert (draws.mean(0) - mean).abs().max() < 0.1
    assert (draws.std(0) / scale - 1).abs().max() < 0.2


def assert_untrained_fails(inference):
    inference.evaluate_loss(X)
    with pytest.raises(AssertionError):
        assert_posterior(inference)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("make_guide", "seed"),
    [(normal_guide, 0), slow(normal_guide, 1), slow(normal_guide, 2), slow(noise_guide, 0), slow(noise_guide, 1)],
)
def test_the_posterior_of_a_linear_model_is_recovered_with_the_defaults(make_guide, seed):
    pyro.set_rng_seed(seed)
    inference = BiGANInference(linear_model, make_guide(), joint_discriminator())
    assert_untrained_fails(inference)
    inference.run(linear_rows(20_000)[1], num_steps=1500, batch_size=256, progress=False)
    assert_posterior(inference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("make_guide", "inputs", "outputs"), [(normal_guide, 1, 2), (noise_guide, 2, 1)])
def test_networks_of_any_shape_recover_it_with_large_minibatches_and_averages(make_guide, inputs, outputs, seed):
    pyro.set_rng_seed(seed)
    guide = make_guide(hidden_layers(inputs, outputs))
    inference = BiGANInference(linear_model, guide, joint_discriminator(), ema_decay=0.999)
    assert_untrained_fails(inference)
    inference.run(linear_rows(20_000)[1], num_steps=3000, batch_size=1024, progress=False)
    with inference.averaged():
        assert_posterior(inference)


@pytest.mark.parametrize("make_guide", [noise_guide, slow(normal_guide)])
def test_simulations_made_beforehand_give_the_same_posterior(make_guide):
    calls = []

    def model(batch_size):
        calls.append(batch_size)
        return linear_simulator(batch_size)

    z, x = linear_rows(20_000)
    inference = BiGANInference(model, make_guide(), joint_discriminator())
    assert_untrained_fails(inference)
    calls.clear()
    inference.run({"z": z, "x": x}, num_steps=1500, batch_size=256, progress=False)
    assert calls == []
    assert_posterior(inference)


MAP = torch.tensor([[1.0, 0.5], [0.0, 1.0]])


def planar_model(x):
    """z ~ N(0, I), x ~ N(MAP z, 0.5² I), both with two dimensions."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Normal(z @ MAP.T, 0.5).to_event(1), obs=x)


def planar_guide():
    encoder = nn.Linear(4, 2)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0).expand([2]).to_event(1), infer={"is_auxiliary": True})
            pyro.deterministic("z", encoder(torch.cat([x, noise], 1)), event_dim=1)

    return guide


def assert_planar_posterior(inference):
    """As above, and the correlation of the two within 0.1."""
    covariance = torch.linalg.inv(torch.eye(2) + MAP.T @ MAP / 0.25)
    directions = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.7, 0.7], [0.0, 0.0]])
    x = 2 * directions @ torch.linalg.cholesky(MAP @ MAP.T + 0.25 * torch.eye(2)).T
    draws = inference.sample_posterior(x, 4000)["z"]
    assert (draws.mean(0) - x @ MAP @ covariance / 0.25).abs().max() < 0.1
    for row in draws.unbind(1):
        found = row.T.cov()
        assert (found.diagonal() / covariance.diagonal()).sqrt().sub(1).abs().max() < 0.2
        exact = covariance[0, 1] / covariance.diagonal().prod().sqrt()
        assert (found[0, 1] / found.diagonal().prod().sqrt() - exact).abs() < 0.1


def planar_data():
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 20_000, 2, generator=generator)
    return z @ MAP.T + 0.5 * noise


@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
def test_the_posterior_of_two_dimensions_has_its_correlation(seed):
    pyro.set_rng_seed(seed)
    inference = BiGANInference(
        planar_model, planar_guide(), joint_discriminator(4), discriminator_steps=2, ema_decay=0.999
    )
    data = planar_data()
    inference.evaluate_loss(data[:16])
    with pytest.raises(AssertionError):
        assert_planar_posterior(inference)
    inference.run(data, num_steps=2000, batch_size=256, progress=False)
    with inference.averaged():
        assert_planar_posterior(inference)


# ---- the step


def trainable_model(x):
    """z ~ N(0, 1), x ~ N(slope z, 0.5²)."""
    slope = pyro.param("slope", torch.tensor(0.7, dtype=torch.float64))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
        pyro.sample("x", dist.Normal(slope * z, 0.5), obs=x)


def trainable_guide(x):
    gain = pyro.param("gain", torch.tensor(0.3, dtype=torch.float64))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(gain * x, 0.8))


STEPS = [
    (
        Minimax(),
        lambda r, f: softplus(-r).mean() + softplus(f).mean(),
        lambda r, f: -(softplus(f) + softplus(-r)).mean(),
    ),
    (
        NonSaturating(),
        lambda r, f: (softplus(-r) + softplus(f)).mean(),
        lambda r, f: (softplus(-f) + softplus(r)).mean(),
    ),
    (Hinge(), lambda r, f: (relu(1 - r) + relu(1 + f)).mean(), lambda r, f: (r - f).mean()),
    (LeastSquares(), lambda r, f: ((r - 1) ** 2 + f**2).mean() / 2, lambda r, f: ((f - 1) ** 2 + r**2).mean() / 2),
    (KL(), lambda r, f: ((f - 1).exp() - r).mean(), lambda r, f: (r - f).mean()),
    (ReverseKL(), lambda r, f: ((-r).exp() + f - 1).mean(), lambda r, f: (1 - f - (-r).exp()).mean()),
    (Relativistic(), lambda r, f: softplus(f - r).mean(), lambda r, f: softplus(r - f).mean()),
    ((lambda r, f: f - r, lambda r, f: r - f), lambda r, f: (f - r).mean(), lambda r, f: (r - f).mean()),
]


def written_by_hand(x, weights, slope, gain, loss_d, loss_g, rate):
    """A step of adversarially learned inference: the discriminator's update, then the other two together."""

    def logits(z, x):
        return torch.stack([z * x, z.square(), x.square(), z.sin()], 1) @ weights

    def samples():
        noise_q, noise_z, noise_x = (torch.normal(torch.zeros_like(x), torch.ones_like(x)) for _ in range(3))
        z = noise_z
        return (gain * x + 0.8 * noise_q, x), (z, slope * z + 0.5 * noise_x)

    real, fake = samples()
    (gradient,) = torch.autograd.grad(loss_d(logits(*real), logits(*fake)), [weights])
    with torch.no_grad():
        weights -= rate * gradient
    real, fake = samples()
    gradients = torch.autograd.grad(loss_g(logits(*real), logits(*fake)), [slope, gain])
    return [weights, *(leaf - rate * gradient for leaf, gradient in zip((slope, gain), gradients, strict=True))]


@pytest.mark.parametrize(("loss", "loss_d", "loss_g"), STEPS)
def test_a_step_is_that_of_adversarially_learned_inference(loss, loss_d, loss_g):
    weights = nn.Parameter(torch.tensor([0.5, -0.3, 0.2, 0.4], dtype=torch.float64))

    def discriminator(z, x):
        return torch.stack([z * x, z.square(), x.square(), z.sin()], 1) @ weights

    def descent(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    x = X.double()
    inference = BiGANInference(
        trainable_model, trainable_guide, discriminator, descent, descent, loss=loss, penalty=(), discriminator_steps=1
    )
    inference.evaluate_loss(x)
    start = (weights, pyro.param("slope"), pyro.param("gain"))
    start = [value.detach().clone().requires_grad_() for value in start]
    pyro.set_rng_seed(7)
    expected = written_by_hand(x, *start, loss_d, loss_g, rate=0.1)
    pyro.set_rng_seed(7)
    inference.step(x)
    for found, wanted in zip((weights, pyro.param("slope"), pyro.param("gain")), expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-10, atol=0)
    assert pyro.param("gain").item() != 0.3 and pyro.param("slope").item() != 0.7


@pytest.mark.parametrize(("options", "number"), [({}, 6), ({"discriminator_steps": 1}, 3)])
def test_the_discriminator_is_updated_twice_a_step_by_default(options, number):
    inference = fitted(num_steps=3, **options)
    for optimizer, expected in (inference.optim_d, number), (inference.optim, 3):
        assert {int(state["step"]) for state in optimizer.optimizer.state.values()} == {expected}


def test_one_player_alone_leaves_the_other_as_it_is():
    inference = BiGANInference(trainable_model, trainable_guide, _double_discriminator())
    inference.evaluate_loss(X.double())

    def state():
        theirs = [value.detach().clone() for value in inference.discriminator.parameters.values() if value.dim() > 1]
        return theirs, (pyro.param("slope").item(), pyro.param("gain").item())

    before, players = state(), {}
    inference.step(X.double(), player="discriminator")
    players["d"] = state()
    inference.step(X.double(), player="generator")
    players["g"] = state()
    weight, weight_before = players["d"][0][0], before[0][0]
    assert players["d"][1] == before[1] and not torch.equal(weight, weight_before)
    assert players["g"][1] != before[1] and torch.equal(players["g"][0][0], weight)
    assert all(now != then for now, then in zip(players["g"][1], before[1], strict=True))


def test_simulations_train_the_guide_and_the_discriminator():
    guide = normal_guide()
    inference = fitted(linear_simulator, guide, data=SIMULATIONS)
    assert list(inference.generator_parameters()) == ["encoder$$$weight", "encoder$$$bias"]
    assert inference.model.sites == ("z", "x")


def test_simulations_in_double_precision_meet_the_guides_own():
    z, x = linear_rows(64)
    inference = fitted(linear_simulator, data={"z": z.double().numpy(), "x": x})
    assert inference.sample_posterior(0.0, 3)["z"].dtype == torch.float32


def test_simulations_pair_the_guides_draw_with_the_observation_that_it_saw():
    seen = []
    network = nn.Linear(2, 1)

    def discriminator(z, x):
        seen.append((z.detach(), x.detach()))
        return network(torch.stack([z, x], 1))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(10 * x * pyro.param("one", torch.tensor(1.0)), 1e-3))

    BiGANInference(linear_simulator, guide, discriminator).step(SIMULATIONS)
    (z_real, z_fake), (x_real, x_fake) = (rows.split(64) for rows in seen[-1])  # judged in one call
    assert torch.equal(x_real, SIMULATIONS["x"]) and torch.equal(x_fake, SIMULATIONS["x"])
    assert torch.equal(z_fake, SIMULATIONS["z"]) and (z_real - 10 * x_real).abs().max() < 0.1


# ---- draws given observations


@pytest.mark.parametrize(
    ("x_obs", "shape"),
    [
        (0.3, ()),
        (torch.tensor(0.3), ()),
        (torch.zeros(1), (1,)),
        (torch.zeros(3, dtype=torch.float64), (3,)),
        (np.zeros(3), (3,)),
        ((np.zeros(3),), (3,)),
        ([0.1, 0.2], (2,)),
    ],
)
def test_draws_have_a_row_for_each_observation(x_obs, shape):
    inference = fitted()
    draws = inference.sample_posterior(x_obs, 7)["z"]
    assert draws.shape == (7, *shape) and draws.dtype == torch.float32 and not draws.requires_grad
    assert draws.flatten().unique().numel() == draws.numel()


def image_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        image = z.sum(1)[:, None, None, None].expand(-1, 1, 4, 4)
        pyro.sample("x", dist.Normal(image, 0.1).to_event(3), obs=x)


def image_guide():
    encoder = nn.Linear(16, 2)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder(x.flatten(1)), 1.0).to_event(1))

    return guide


def test_images_and_vectors():
    images = torch.randn(32, 1, 4, 4)
    inference = fitted(image_model, image_guide(), images, num_features=18)
    assert shapes(inference.sample_posterior(images[0], 5)) == {"z": (5, 2)}
    assert shapes(inference.sample_posterior(images[:3].double().numpy(), 5)) == {"z": (5, 3, 2)}
    assert inference.reconstruct(images[:3]).shape == (3, 1, 4, 4)
    assert inference.reconstruct(images[0]).shape == (1, 4, 4)
    assert inference.decode({"z": torch.zeros(6, 2)}).shape == (6, 1, 4, 4)
    assert inference.decode({"z": np.zeros(2)}).shape == (1, 4, 4)


def test_chunks_draw_all_and_each_once(monkeypatch):
    seen = []

    def guide(x):
        seen.append(x)
        normal(x)

    normal = normal_guide()
    inference = fitted(guide=guide)
    monkeypatch.setattr(guided, "ROWS_AT_ONCE", 10)
    seen.clear()
    x = torch.tensor([-1.0, 0.0, 1.0])
    draws = inference.sample_posterior(x, 8)["z"]
    assert [rows.tolist() for rows in seen] == [[-1.0, 0.0, 1.0] * 3] * 2 + [[-1.0, 0.0, 1.0] * 2]
    assert draws.shape == (8, 3) and draws.unique().numel() == 24
    pyro.set_rng_seed(3)
    first = inference.sample_posterior(torch.zeros(40), 2)["z"]  # more rows than fit at once
    pyro.set_rng_seed(3)
    assert torch.equal(first, inference.sample_posterior(torch.zeros(40), 2)["z"])


def test_each_row_is_given_its_own_observation():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x + 0 * pyro.param("loc", torch.tensor(0.0)), 1e-3))

    x = torch.tensor([-3.0, 0.0, 5.0])
    draws = fitted(guide=guide).sample_posterior(x, 5000)["z"]
    assert (draws - x).abs().max() < 0.01


def test_the_same_seed_gives_the_same_draws():
    inference = fitted()
    pyro.set_rng_seed(5)
    first = inference.sample_posterior(0.5, 10)["z"]
    pyro.set_rng_seed(5)
    assert torch.equal(first, inference.sample_posterior(0.5, 10)["z"])


def test_draws_go_into_predictive_and_arviz():
    inference = fitted()
    x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    draws = inference.sample_posterior(x, 50)
    replicated = Predictive(linear_simulator, posterior_samples=draws)(4)["x"]
    assert replicated.shape == (50, 4)
    assert (replicated - draws["z"]).std() < 0.6  # each with the noise of x given its own z
    one = inference.sample_posterior(1.0, 50)
    assert Predictive(linear_simulator, posterior_samples=one)(1)["x"].shape == (50, 1)
    assert Predictive(linear_simulator, posterior_samples=draws, parallel=True)(4)["x"].shape == (50, 4)
    exported = to_inference_data(
        posterior=draws,
        posterior_predictive={"x": replicated},
        observed_data={"x": x},
        dims={"z": ["data"], "x": ["data"]},
    )
    assert exported["posterior"]["z"].sizes == {"chain": 1, "draw": 50, "data": 4}


def test_draws_are_those_of_the_averages_in_their_context():
    inference = fitted(ema_decay=0.9, num_steps=5)
    pyro.set_rng_seed(1)
    now = inference.sample_posterior(1.0, 5)["z"]
    with inference.averaged():
        pyro.set_rng_seed(1)
        assert not torch.equal(now, inference.sample_posterior(1.0, 5)["z"])
    pyro.set_rng_seed(1)
    assert torch.equal(now, inference.sample_posterior(1.0, 5)["z"])


def test_batch_statistics_stay_what_training_made_them():
    norm = nn.BatchNorm1d(4)
    inference = fitted(guide=normal_guide(nn.Sequential(nn.Linear(1, 4), norm, nn.Linear(4, 2))))
    before, count = norm.running_mean.clone(), norm.num_batches_tracked.item()
    inference.sample_posterior(torch.zeros(5), 5)
    inference.reconstruct(X[:5])
    inference.evaluate_loss(X)
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked.item() == count


# ---- decoding and reconstruction


def narrow_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(3 * z, 1e-3), obs=x)


def narrow_simulator(batch_size):
    with pyro.plate("data", batch_size):
        pyro.deterministic("x", 3 * pyro.sample("z", dist.Normal(0.0, 1.0)), event_dim=0)


def narrow_constant():
    narrow_simulator(16)


def narrow_optional(x=None):
    narrow_simulator(16 if x is None else len(x))


@pytest.mark.parametrize("model", [narrow_model, narrow_simulator, narrow_optional])
def test_decoding_gives_each_latent_row_its_observation(model):
    inference = fitted(model)
    for latents in (torch.linspace(-1, 1, 5), np.linspace(-1, 1, 5), torch.linspace(-1, 1, 40)):
        decoded = inference.decode({"z": latents})
        assert decoded.shape == (len(latents),) and (decoded - 3 * torch.as_tensor(latents)).abs().max() < 0.01
    assert abs(inference.decode({"z": 0.5}).item() - 1.5) < 0.01


def test_a_model_of_a_fixed_size_decodes_as_many_rows():
    inference = fitted(narrow_constant)
    z = torch.linspace(-1, 1, 16)
    assert (inference.decode({"z": z}) - 3 * z).abs().max() < 0.01


def test_latent_sites_left_out_are_drawn():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.sample("w", dist.Normal(0.0, 1e-3))
            pyro.sample("x", dist.Normal(z + w, 1e-3), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.0)) * x, 1.0))
            pyro.sample("w", dist.Normal(pyro.param("b", torch.tensor(0.0)) * x, 1.0))

    inference = fitted(model, guide, num_features=3)
    assert (inference.decode({"z": torch.full((5,), 4.0)}) - 4).abs().max() < 0.1
    assert (inference.decode({"w": torch.full((5,), 40.0)}) - 40).abs().max() < 9


def test_reconstruction_goes_through_the_guide_and_the_model():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 3 + 0 * pyro.param("loc", torch.tensor(0.0)), 1e-3))

    inference = fitted(narrow_model, guide)
    assert (inference.reconstruct(X[:7]) - X[:7]).abs().max() < 0.05
    assert abs(inference.reconstruct(0.7).item() - 0.7) < 0.05


# ---- covariates


def regression_model(x, c):
    with pyro.plate("data", len(c)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(c * z, 1e-3), obs=x)


def regression_simulator(c):
    with pyro.plate("data", len(c)):
        pyro.deterministic("x", c * pyro.sample("z", dist.Normal(0.0, 1.0)), event_dim=0)


def unobserved_simulator(c):
    with pyro.plate("data", len(c)):
        pyro.sample("x", dist.Normal(c * pyro.sample("z", dist.Normal(0.0, 1.0)), 1e-3))


def regression_guide(x, c):
    """The exact posterior, nearly."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / c + 0 * pyro.param("loc", torch.tensor(0.0)), 1e-3))


def assert_regression(inference, *given):
    x, c = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])
    for values in given:
        draws = inference.sample_posterior(values(x, c), 6)["z"]
        assert draws.shape == (6, 3) and (draws - x / c).abs().max() < 0.1
        one = inference.sample_posterior(values(x[2], c[2]), 6)["z"]
        assert one.shape == (6,) and (one - 0.75).abs().max() < 0.1
    assert (inference.decode({"z": x}, *_arguments(inference, c)) - c * x).abs().max() < 0.1
    assert inference.decode({"z": torch.zeros(30)}).shape == (30,)
    assert (inference.reconstruct({"x": x, "c": c}) - x).abs().max() < 0.1


def _arguments(inference, c):
    return (c, c) if inference.model.function is regression_model else (c,)


@pytest.mark.parametrize("model", [regression_model, regression_simulator, unobserved_simulator])
@pytest.mark.parametrize("order", ["xc", "cx"])
def test_covariates_by_name_reach_model_and_guide(model, order):
    rows = {"x": X, "c": torch.rand(64) + 1}
    inference = fitted(model, regression_guide, {name: rows[name] for name in order})
    assert inference.latent_sites == ("z",) and inference.observed_sites == ("x",)
    assert_regression(inference, lambda x, c: {"x": x, "c": c}, lambda x, c: {"c": c, "x": x}, lambda x, c: (x, c))


def test_covariates_in_order_reach_model_and_guide():
    inference = fitted(regression_model, regression_guide, (X, torch.rand(64) + 1))
    draws = inference.sample_posterior((torch.tensor([1.0, 3.0]), np.array([1.0, 4.0])), 6)["z"]
    assert (draws - torch.tensor([1.0, 0.75])).abs().max() < 0.1
    assert (inference.reconstruct(X[:3], torch.ones(3)) - X[:3]).abs().max() < 0.1


@pytest.mark.filterwarnings("ignore:the .*draws have another place")
def test_labels_beside_the_data_are_left_out():
    seen = []
    network = nn.Linear(2, 1)

    def discriminator(z, x):
        seen.append(x.detach().clone())
        return network(torch.stack([z, x], 1))

    inference = BiGANInference(linear_simulator, normal_guide(), discriminator, loss=NonSaturating(), penalty=())
    for _ in range(2):
        inference.step(100 + X, torch.arange(64))
    assert {round(rows[rows > 50].mean().item()) for rows in seen if (rows > 50).any()} == {100}
    assert inference.sample_posterior(100.0, 4)["z"].shape == (4,)
    assert inference.sample_posterior((torch.zeros(3), torch.zeros(3)), 4)["z"].shape == (4, 3)


def test_labels_beside_the_data_are_left_out_of_a_model_that_takes_the_data():
    inference = BiGANInference(linear_model, normal_guide(), joint_discriminator())
    for _ in range(2):
        inference.step(X, torch.arange(64))
    assert inference.reconstruct(X[:3]).shape == (3,)


def factored_model(x):
    """p(z) proportional to N(z; 0, 1) exp(-z²)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 1.0))
        pyro.factor("narrow", -z.square(), has_rsample=True)
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def test_a_factor_of_the_model_is_no_site_to_compare():
    assert fitted(factored_model).model.sites == ("z", "x")
    assert pyro.param("loc").item() != 0.5


def test_the_export_has_the_guides_draws_and_what_the_model_makes_of_them():
    inference = fitted(narrow_model)
    exported = inference.to_inference_data(X[:8], num_draws=6)
    assert shapes(exported["posterior"]) == {"z": (1, 6, 8)} and shapes(exported["prior"]) == {"z": (1, 6, 8)}
    assert shapes(exported["observed_data"]) == {"x": (8,)}
    assert np.array_equal(exported["observed_data"]["x"].values, X[:8].numpy())
    for group, latent in ("posterior_predictive", "posterior"), ("prior_predictive", "prior"):
        assert np.abs(exported[group]["x"].values - 3 * exported[latent]["z"].values).max() < 0.01


# ---- sites


def test_sites_of_all_supports_are_drawn_within_them():
    def model(x):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
            share = pyro.sample("share", dist.Beta(2.0, 2.0))
            parts = pyro.sample("parts", dist.Dirichlet(torch.ones(3)))
            pyro.sample("x", dist.Normal(rate * share + parts[:, 0], 0.1), obs=x)

    network = nn.Linear(1, 7)

    def guide(x):
        pyro.module("encoder", network)
        values = network(x[:, None])
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.LogNormal(values[:, 0], values[:, 1].exp()))
            pyro.sample("share", dist.Beta(values[:, 2].exp(), values[:, 3].exp()))
            pyro.sample("parts", dist.Dirichlet(values[:, 4:].exp()))

    inference = fitted(model, guide, num_features=6, num_steps=3)
    draws = inference.sample_posterior(X[:4], 100)
    assert shapes(draws) == {"rate": (100, 4), "share": (100, 4), "parts": (100, 4, 3)}
    assert (draws["rate"] > 0).all() and ((draws["share"] > 0) & (draws["share"] < 1)).all()
    assert (draws["parts"].sum(-1) - 1).abs().max() < 1e-5
    assert all(value.grad is None or value.grad.abs().sum() > 0 for value in network.parameters())


def test_several_observed_sites_are_named_by_a_mapping():
    def model(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)
            pyro.sample("y", dist.Normal(-z, 1e-3), obs=y)

    def guide(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x - y) / 2 + 0 * pyro.param("loc", torch.tensor(0.0)), 1e-3))

    inference = fitted(model, guide, {"y": -X, "x": X}, num_features=3)
    assert inference.model.sites == ("z", "x", "y")
    decoded = inference.decode({"z": torch.tensor([1.0, 2.0])})
    assert set(decoded) == {"x", "y"} and (decoded["x"] + decoded["y"]).abs().max() < 0.02
    again = inference.reconstruct({"x": X[:3], "y": -X[:3]})
    assert (again["x"] - X[:3]).abs().max() < 0.02 and (again["y"] + X[:3]).abs().max() < 0.02
    named = fitted(model, guide, (X, -X), num_features=3, site=["z", "x", "y"])
    assert named.observed_sites == ("x", "y")
    assert inference.log_ratio({"x": X, "y": X, "z": X}).shape == (64,)


def nuisance_model(x):
    with pyro.plate("data", len(x)):
        z, w = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + w, 0.5), obs=x)


def test_a_nuisance_is_left_out_by_naming_the_others():
    inference = fitted(nuisance_model, site=["z", "x"])
    assert inference.model.sites == ("z", "x") and inference.latent_sites == ("z",)
    assert set(inference.sample_posterior(0.0, 3)) == {"z"}
    assert inference.decode({"z": torch.zeros(3)}).shape == (3,)


def test_a_nuisance_among_simulations_is_left_out_likewise():
    def simulator(batch_size):
        with pyro.plate("data", batch_size):
            z, w = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", z + w, event_dim=0)

    rows = {"z": X, "w": X, "x": 2 * X}
    assert fitted(simulator, data=rows, site=["z", "x"]).model.sites == ("z", "x")
    with pytest.raises(ValueError, match=r"the guide has no site 'w', which the model draws.*site=\['z', 'x'\]"):
        fitted(simulator, data=rows)


def test_a_site_that_the_data_name_needs_no_guide():
    def guide(x, w):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x - w) * pyro.param("slope", torch.tensor(0.5)), 1.0))

    def simulator(batch_size):
        with pyro.plate("data", batch_size):
            z, w = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", z + w, event_dim=0)

    inference = fitted(simulator, guide, {"w": X, "x": X}, num_features=3)
    assert inference.observed_sites == ("w", "x")


def test_what_a_guide_only_tells_is_no_site_to_compare():
    network = nn.Linear(1, 1)

    def guide(x):
        pyro.module("encoder", network)
        with pyro.plate("data", len(x)):
            loc = pyro.deterministic("loc", network(x[:, None])[:, 0], event_dim=0)
            pyro.sample("z", dist.Normal(loc, 1.0))

    inference = fitted(guide=guide)
    assert inference.latent_sites == ("z",) and set(inference.sample_posterior(0.0, 2)) == {"z"}


def test_a_latent_site_may_be_deterministic_in_the_model():
    def model(x):
        with pyro.plate("data", len(x)):
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            z = pyro.deterministic("z", 2 + noise, event_dim=0)
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)

    inference = fitted(model)
    assert inference.model.sites == ("z", "x")
    assert (inference.decode({"z": torch.tensor([5.0, 6.0])}) - torch.tensor([5.0, 6.0])).abs().max() < 0.01


def test_nested_plates_with_the_rows_in_front():
    def model(x):
        with pyro.plate("data", len(x), dim=-2), pyro.plate("groups", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-2), pyro.plate("groups", 3, dim=-1):
            pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.0)) * x, 1.0))

    inference = fitted(model, guide, torch.randn(64, 3), num_features=6)
    assert shapes(inference.sample_posterior(torch.zeros(3), 5)) == {"z": (5, 3)}
    assert shapes(inference.sample_posterior(torch.zeros(7, 3), 5)) == {"z": (5, 7, 3)}
    z = torch.randn(4, 3)
    assert (inference.decode({"z": z}) - z).abs().max() < 0.01


def test_a_subsampled_plate_takes_as_many_rows_as_there_are():
    def model(x):
        with pyro.plate("data", 20, subsample=x):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", 20, subsample=x):
            pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.0)) * x, 1.0))

    inference = fitted(model, guide, X[:20])
    assert inference.sample_posterior(X[:3], 100)["z"].shape == (100, 3)
    assert inference.decode({"z": torch.zeros(100)}).shape == (100,)


class Encoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.network = PyroModule[nn.Linear](1, 2)

    def forward(self, x):
        loc, log_scale = self.network(x[:, None]).unbind(1)
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(loc, log_scale.exp()))


def test_a_pyro_module_is_a_guide():
    encoder = Encoder()
    before = encoder.network.weight.detach().clone()
    inference = fitted(guide=encoder)
    assert not torch.equal(before, encoder.network.weight)
    assert inference.sample_posterior(0.0, 4)["z"].shape == (4,)


def test_a_guide_may_leave_the_observation_unread():
    def guide(batch_size):
        with pyro.plate("data", batch_size):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    inference = fitted(guide=guide)
    assert inference.sample_posterior(X[:3], 4)["z"].shape == (4, 3)


def test_what_guide_and_model_share_is_trained_once():
    shared = nn.Linear(1, 1)

    def model(x):
        pyro.module("shared", shared)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(shared(z[:, None])[:, 0], 0.5), obs=x)

    def guide(x):
        pyro.module("shared", shared)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(shared(x[:, None])[:, 0], 0.5))

    assert list(fitted(model, guide).generator_parameters()) == ["shared$$$weight", "shared$$$bias"]


def test_the_guide_alone_can_be_trained():
    inference = BiGANInference(trainable_model, trainable_guide, _double_discriminator(), only="gain")
    inference.run(X.double(), num_steps=2, progress=False)
    assert pyro.param("slope").item() == 0.7 and pyro.param("gain").item() != 0.3


def test_double_precision_throughout():
    inference = BiGANInference(trainable_model, trainable_guide, _double_discriminator())
    inference.run(X.double().numpy(), num_steps=2, progress=False)
    assert inference.sample_posterior(0.5, 3)["z"].dtype == torch.float64
    assert inference.decode({"z": [0.5]}).dtype == torch.float64


def _double_discriminator():
    network = nn.Linear(2, 1).double()
    return lambda z, x: network(torch.stack([z, x], 1))


# ---- state


def test_a_saved_fit_goes_on_and_draws_the_same(tmp_path):
    torch.manual_seed(0)
    first = fitted(guide=normal_guide(nn.Linear(1, 2)), num_steps=5)
    first.save(tmp_path / "state.pt")
    pyro.set_rng_seed(4)
    expected = first.sample_posterior(torch.zeros(3), 6)["z"]
    pyro.clear_param_store()
    second = BiGANInference(linear_model, normal_guide(nn.Linear(1, 2)), joint_discriminator(2, 8))
    second.load(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"latents can not be used yet\. .* or after load, sample_posterior\."):
        second.decode({"z": 0.0})
    pyro.set_rng_seed(4)
    assert torch.equal(second.sample_posterior(torch.zeros(3), 6)["z"], expected)
    assert second.decode({"z": 0.0}).shape == ()
    assert second.num_steps_taken == 5


@pytest.mark.parametrize("ask", [lambda fit: fit.sample_posterior(0.3, 6)["z"], lambda fit: fit.reconstruct(0.3)])
@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
def test_a_loaded_fit_of_networks_that_built_themselves_answers_one_observation(inference_class, ask, tmp_path):
    """The first look after `load` is at the observation alone, which has no spread to standardize by."""

    def build():
        pyro.clear_param_store()
        return inference_class(linear_model, AutoImplicitGuide(linear_model, width=8, depth=1))

    def answer(fit):
        pyro.set_rng_seed(4)
        return ask(fit)

    first = build().run(X, num_steps=3, batch_size=16, progress=False)
    first.save(tmp_path / "state.pt")
    expected = answer(first)
    loaded = build().load(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"x_obs\[0\] has shape \(2, 2\), but in training each had shape \(\)"):
        loaded.sample_posterior(torch.zeros(2, 2), 6)
    assert torch.equal(answer(loaded), expected)
    assert loaded.run(X, num_steps=2, batch_size=16, progress=False).num_steps_taken == 5


def test_a_loaded_posterior_of_simulations_answers_before_any_simulation_is_shown(tmp_path):
    first = fitted(linear_simulator, data=SIMULATIONS)
    first.save(tmp_path / "state.pt")
    pyro.set_rng_seed(4)
    expected = first.sample_posterior(torch.zeros(3), 6)["z"]
    pyro.clear_param_store()
    second = BiGANInference(linear_simulator, normal_guide(), joint_discriminator(2, 8)).load(tmp_path / "state.pt")
    pyro.set_rng_seed(4)
    assert torch.equal(second.sample_posterior(torch.zeros(3), 6)["z"], expected)
    assert second.run(SIMULATIONS, num_steps=1, batch_size=16, progress=False).num_steps_taken == 3


def test_evaluating_the_loss_changes_nothing():
    inference = fitted()
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    first, second = inference.evaluate_loss(X), inference.evaluate_loss(X)
    assert torch.isfinite(first.generator) and first.generator != second.generator  # new noise at each call
    assert all(torch.equal(value, before[name]) for name, value in pyro.get_param_store().items())
    assert inference.num_steps_taken == 2
