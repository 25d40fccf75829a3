"""What a first run by defaults says of units before the first step, and that units change nothing."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_gan import AutoDiscriminator, BiGANInference, GANInference, Standardized
from pyro_gan.recipes import PACE, default_rate
from pyro_gan.training.minibatches import minibatches
from pyro_gan.training.samples import Samples
from pyro_gan.training.units import warn_of_units


def network(num_inputs, num_outputs, width=16):
    return nn.Sequential(nn.Linear(num_inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, num_outputs))


def model_of(generator):
    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.deterministic("x", generator(eps), event_dim=1)

    return model


def people(num_rows=1000):
    return torch.tensor([40.0, 60_000.0]) + torch.tensor([12.0, 20_000.0]) * torch.randn(num_rows, 2)


# ---- far from the data


def test_a_generator_far_from_its_data_is_told_before_the_first_step_and_once():
    pyro.set_rng_seed(0)
    inference = GANInference(model_of(network(2, 2)), network(2, 1), optim_d=lambda p: torch.optim.SGD(p, lr=0.0))
    message = r"the model's draws have another place or scale .* feature 1 of site 'x' is drawn as .* ± .*Standardized"
    with pytest.warns(RuntimeWarning, match=message) as told:
        inference.step(people(64))
    assert len(told) == 1
    inference.step(people(64))


def test_draws_that_are_far_too_wide_are_told():
    pyro.set_rng_seed(0)
    with pytest.warns(
        RuntimeWarning, match=r"is drawn as .* but shall be (1|9\.\d+e-07|1\.\d+e-06|1e-06).* ± \d\.\d+e-07"
    ):
        GANInference(model_of(network(2, 2)), network(2, 1)).step(1e-6 * (1 + 0.3 * torch.randn(64, 2)))


def test_a_standardized_generator_is_near_its_data():
    pyro.set_rng_seed(0)
    rows = people()
    GANInference(model_of(Standardized(network(2, 2), rows)), AutoDiscriminator(width=8, depth=1)).step(rows[:64])


def test_a_guide_far_from_its_latents_is_told():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(5000.0, 900.0))
            pyro.sample("x", dist.Normal(z / 1000, 1.0), obs=x)

    encoder = nn.Linear(2, 1)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(encoder(torch.stack([x, eps], 1))[:, 0]))

    pyro.set_rng_seed(0)
    with pytest.warns(
        RuntimeWarning, match=r"the guide's draws have another place .* site 'z' .* shall be \d\.\d+e\+03 ± \d+\. "
    ):
        BiGANInference(model, guide, AutoDiscriminator(width=8, depth=1)).step(torch.randn(64))


@pytest.mark.parametrize("near", ["fixed", "few", "narrow", "integers"])
def test_what_is_near_or_not_trained_is_not_told_of(near):
    torch.manual_seed(0)
    real, fake = 1000 + torch.randn(30, 2), torch.randn(30, 2, requires_grad=True) * 1.0
    if near == "fixed":
        fake = fake.detach()
    elif near == "few":
        real, fake = real[:10], fake[:10]
    elif near == "narrow":  # as of a guide without noise, which is not far
        real, fake = torch.randn(30, 2), 1e-3 * fake + 0.5
    else:
        real = torch.randint(1000, (30, 2))
    warn_of_units(Samples({"x": real}, {"x": fake}, {}))


def test_images_whose_margins_are_hardly_ever_lit_are_near_a_network_that_ends_in_a_sigmoid():
    torch.manual_seed(0)
    pixels = torch.rand(128, 81) * (torch.rand(128, 81) < torch.linspace(0.01, 1.0, 81))
    pixels[:, 0] = 1e-3 * torch.rand(128)
    drawn = torch.sigmoid(0.2 * torch.randn(128, 81, requires_grad=True))
    warn_of_units(Samples({"x": pixels}, {"x": drawn}, {}))


# ---- networks that build themselves


def test_they_are_standardized_by_rows_from_all_over_the_data_and_nothing_moves_on():
    torch.manual_seed(0)
    rows = torch.arange(10_000.0)[:, None].expand(-1, 2)

    def noisy(x):
        return x + 0.1 * torch.randn_like(x)

    stream = minibatches(rows, 32, torch.device("cpu"), noisy)
    before = torch.get_rng_state()
    (many,) = stream.many()
    assert many.shape == (1024, 2) and torch.equal(torch.get_rng_state(), before)
    assert many[0, 0].item() == pytest.approx(0.0, abs=1) and many[-1, 0].item() == pytest.approx(9999.0, abs=1)
    assert minibatches([(rows[:5],)], 32, torch.device("cpu")).many() is None
    assert minibatches(rows[:100], 32, torch.device("cpu")).many()[0].shape == (99, 2)  # a plate of 100 is subsampled
    few = minibatches(rows[:20], 32, torch.device("cpu"))
    assert torch.equal(few.many()[0], rows[:20])

    discriminator = AutoDiscriminator(width=4, depth=1)
    pyro.set_rng_seed(0)
    generator = Standardized(network(2, 2), rows[::10])
    GANInference(model_of(generator), discriminator).run(rows, num_steps=1, batch_size=8, progress=False)
    mean, scale = discriminator.sites[0].mean, discriminator.sites[0].scale
    assert mean.tolist() == pytest.approx([4999.5] * 2, rel=1e-3)
    assert scale.tolist() == pytest.approx([rows[:, 0].std().item()] * 2, rel=1e-2)


def test_a_model_that_draws_minibatches_alone_is_asked_for_nothing_else():
    def model(x):
        assert len(x) == 8, "only eight"
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", 8):
            pyro.deterministic("x", loc + torch.randn(8, 2), event_dim=1)

    discriminator = AutoDiscriminator(width=4, depth=1)
    GANInference(model, discriminator).run(torch.randn(100, 2), num_steps=1, batch_size=8, progress=False)
    assert discriminator.is_built


@pytest.mark.parametrize("unit", [torch.tensor([1000.0, 1.0]), torch.tensor(1e-6)])
def test_units_of_the_data_change_no_run(unit):
    """A run in other units is the same one, up to rounding, where the generator is standardized."""
    torch.manual_seed(0)
    rows, losses = people(500), []
    for scale in (torch.ones(2), unit):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator = Standardized(network(2, 2), scale * rows)
        inference = GANInference(model_of(generator), AutoDiscriminator(width=8, depth=1))
        inference.run(scale * rows, num_steps=20, batch_size=64, progress=False)
        losses.append(inference.history["discriminator_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


# ---- plain numbers


class Numbers(pyro.nn.PyroModule):
    """A network and a number beside it."""

    def __init__(self):
        super().__init__()
        self.layer = pyro.nn.PyroModule[nn.Linear](1, 1)
        self.shift = pyro.nn.PyroParam(torch.tensor(0.5))

    def forward(self, eps):
        return self.layer(eps) + self.shift


def test_plain_numbers_have_a_rate_of_their_own_and_parts_of_modules_have_not():
    network, parts = nn.Linear(1, 1), Numbers()

    def model(batch_size):
        pyro.module("network", network)
        loc, weights = pyro.param("loc", torch.zeros(1)), pyro.param("weights", torch.ones(1, 1))
        with pyro.plate("data", batch_size):
            eps = torch.randn(batch_size, 1)
            x = (loc + network(parts(eps))) @ weights
            pyro.deterministic("x", x, event_dim=1)

    inference = GANInference(model, nn.Linear(1, 1))
    inference.step(torch.randn(8, 1))
    names = {leaf: name for name, leaf in inference.optim.parameters.items()}
    rates = {names[leaf]: group["lr"] for group in inference.optim.optimizer.param_groups for leaf in group["params"]}
    fast = {name for name, rate in rates.items() if rate == pytest.approx(PACE * default_rate(0.0))}
    slow = {name for name, rate in rates.items() if rate == pytest.approx(default_rate(0.0))}
    assert fast == {"loc"} and fast | slow == set(rates) and len(rates) == 7


def test_numbers_of_a_state_of_before_they_had_a_rate_of_their_own_keep_theirs():
    network = nn.Linear(1, 1)

    def model(batch_size):
        pyro.module("network", network)
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", network(torch.randn(batch_size, 1)) + shift, event_dim=1)

    def rates(inference):
        groups = inference.optim.optimizer.param_groups
        return sorted(group["lr"] / default_rate(0.0) for group in groups)

    inference = GANInference(model, nn.Linear(1, 1))
    inference.step(torch.randn(8, 1))
    assert rates(inference) == pytest.approx([1.0, PACE])
    state = inference.state_dict()
    options = [group["options"] for group in state["optim"]["groups"]]
    for each in options:
        del each["pace"]
        each["lr"] = default_rate(0.0)
    for other in (inference, GANInference(model, nn.Linear(1, 1))):
        other.load_state_dict(state)
        other.step(torch.randn(8, 1))
        assert rates(other) == pytest.approx([1.0, 1.0])


def test_the_g_and_k_distribution_is_found_by_all_defaults():
    """The tutorial's own; at the rate of networks its numbers were still on their way after the default 1,000 steps."""

    def quantile(z, a, b, g, k):
        return a + b * (1 + 0.8 * torch.tanh(g * z / 2)) * (1 + z**2) ** k * z

    def model(batch_size):
        a, g = pyro.param("a", torch.tensor(0.0)), pyro.param("g", torch.tensor(0.0))
        b, k = (
            pyro.param(name, torch.tensor(start), constraint=dist.constraints.positive)
            for name, start in (("b", 1.0), ("k", 0.1))
        )
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", quantile(pyro.sample("z", dist.Normal(0.0, 1.0)), a, b, g, k), event_dim=0)

    pyro.set_rng_seed(0)
    rows = quantile(torch.randn(10_000), 3.0, 1.0, 2.0, 0.5)
    GANInference(model).run(rows, progress=False)
    found = [pyro.param(name).item() for name in "abgk"]
    assert found == pytest.approx([3.0, 1.0, 2.0, 0.5], abs=0.2)
