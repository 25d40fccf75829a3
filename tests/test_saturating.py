"""Generators that end in a sigmoid or the like: they are recognized, and their weights decay under the default."""

from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import network_model, networks
from torch import nn

from pyro_gan import BiGANInference, GANInference
from pyro_gan.criticism import density_coverage
from pyro_gan.datasets import load_mnist
from pyro_gan.players.graph import ends, saturates
from pyro_gan.recipes import SATURATING_DECAY

PIXELS = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))

SATURATING = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": nn.functional.hardtanh,
    "hardsigmoid": nn.functional.hardsigmoid,
    "scaled tanh": lambda h: (torch.tanh(h) + 1) / 2,
    "255 sigmoid": lambda h: 255 * h.sigmoid(),
    "with a fixed scale": lambda h: torch.tensor([1.0, 2.0, 3.0]) * h.sigmoid(),
    "another shape": lambda h: h.sigmoid().reshape(-1, 3, 1).permute(0, 2, 1).expand(-1, 2, -1)[..., None],
    "two ends": lambda h: torch.cat([h[:, :1].sigmoid(), h[:, 1:].tanh()], 1),
    "difference": lambda h: h.sigmoid() - h.flip(1).sigmoid(),
}
OTHERS = {
    "linear": lambda h: h,
    "a sigmoid below": lambda h: h.sigmoid() @ torch.eye(3),
    "exponential": torch.exp,
    "rectifier": torch.relu,
    "one linear column": lambda h: torch.cat([h[:, :1].sigmoid(), h[:, 1:]], 1),
    "times a line": lambda h: h * h.sigmoid(),
    "swish": nn.functional.silu,
    "without a graph": lambda h: h.detach().sigmoid(),
}


@pytest.mark.parametrize("end", SATURATING.values(), ids=SATURATING)
def test_draws_that_saturate_are_recognized(end):
    assert saturates(end(nn.Linear(2, 3)(torch.randn(4, 2))))


@pytest.mark.parametrize("end", OTHERS.values(), ids=OTHERS)
def test_others_are_not(end):
    assert not saturates(end(nn.Linear(2, 3)(torch.randn(4, 2))))


def test_all_ends_are_named():
    parameter = torch.ones(2, requires_grad=True)
    named = ends(torch.stack([parameter.exp(), parameter.sin()])[..., None])
    assert sorted(named) == ["ExpBackward0", "SinBackward0"]
    assert ends(parameter) == []


def test_a_sum_with_many_ways_to_its_end_is_walked_once():
    rows = torch.ones(2, requires_grad=True).sigmoid()
    for _ in range(60):
        rows = rows + rows
    assert saturates(rows)


def decays(inference):
    """The weight decay of each parameter of the generator's side by name."""
    names = {parameter: name for name, parameter in inference.optim.parameters.items()}
    return {
        names[parameter]: group["weight_decay"]
        for group in inference.optim.optimizer.param_groups
        for parameter in group["params"]
    }


def images(end, **options):
    """An inference of rows of three numbers, whose generator has one hidden layer."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    generator, discriminator = networks()
    return GANInference(network_model(nn.Sequential(*generator, end), 2), discriminator, **options)


@pytest.mark.parametrize(("end", "decay"), [(nn.Sigmoid(), SATURATING_DECAY), (nn.Tanh(), 0.03), (nn.Identity(), 0.0)])
def test_weights_behind_a_sigmoid_decay_and_biases_do_not(end, decay):
    inference = images(end)
    inference.step(PIXELS)
    found = {name.removeprefix("generator$$$"): value for name, value in decays(inference).items()}
    assert found == {"0.weight": decay, "0.bias": 0.0, "2.weight": decay, "2.bias": 0.0}
    assert {group["weight_decay"] for group in inference.optim_d.optimizer.param_groups} == {0.0}


def test_an_optimizer_of_the_users_own_decays_as_it_says():
    inference = images(nn.Sigmoid(), optim=torch.optim.AdamW)
    inference.step(PIXELS)
    assert set(decays(inference).values()) == {0.01}


def test_the_decay_is_that_of_the_formula():
    """A weight of the last layer whose input is always 0 has no gradient: it loses a part of itself at each step."""
    inference = images(nn.Sigmoid())
    inference.step(PIXELS)
    layer = inference.model.modules[0][0]
    with torch.no_grad():
        layer.weight.fill_(0.0)
        layer.bias.copy_(torch.tensor([-1.0, *[1.0] * 7]))
        last = inference.model.modules[0][2].weight
        last[:, 0] = 1.0
    inference.run(PIXELS, num_steps=4, batch_size=50, progress=False)
    rates = [2e-3, 2e-3, 1e-3]  # of the second step to the fourth; the first has the run's first rate
    expected = (1 - 0.03 * 2e-3) * torch.tensor([1 - 0.03 * rate for rate in rates]).prod()
    assert last[:, 0].tolist() == pytest.approx([expected.item()] * 3, rel=1e-6)


def test_plain_numbers_behind_a_sigmoid_do_not_decay():
    def model(batch_size):
        loc = pyro.param("loc", torch.zeros(2, 3))
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", (noise @ loc).sigmoid(), event_dim=1)

    pyro.clear_param_store()
    inference = GANInference(model, networks()[1])
    inference.step(PIXELS)
    assert decays(inference) == {"loc": 0.0}


def test_a_generator_beside_an_encoder_decays_and_the_encoder_does_not():
    pyro.clear_param_store()
    generator, encoder = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid()), nn.Sequential(nn.Linear(3, 2), nn.Tanh())

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", generator(z), event_dim=1)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(encoder(x), event_dim=1))

    inference = BiGANInference(model, guide)
    inference.step(PIXELS)
    assert {name: value for name, value in decays(inference).items() if value} == {"generator$$$0.weight": 0.03}


def test_a_state_of_before_goes_on_without_decay(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("pyro_gan.training.look.saturates", lambda rows: False)
        before = images(nn.Sigmoid())
        before.step(PIXELS)
    state = before.state_dict()
    now = images(nn.Sigmoid())
    now.load_state_dict(state)
    now.step(PIXELS)
    assert set(decays(now).values()) == {0.0}


def test_a_failed_look_leaves_no_mark():
    pyro.clear_param_store()
    generator, discriminator = networks()
    shared = nn.Sequential(discriminator, generator[0], nn.Linear(8, 1)).insert(1, nn.Linear(1, 2))
    inference = GANInference(network_model(nn.Sequential(*generator, nn.Sigmoid()), 2), shared)
    with pytest.raises(ValueError, match="is also the discriminator"):
        inference.step(PIXELS)
    assert not inference.model.saturates


@pytest.mark.slow
def test_a_long_run_on_digits_keeps_its_greys():
    """Of the real pixels 87 % lie within 0.01 of black or white. Without decay 91 % of the draws' do, and 24 % of the
    images have a draw near them."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    try:
        images = load_mnist(download=False).train.images
    except FileNotFoundError:
        pytest.skip("MNIST is not on this machine")
    training, held_out = images[:50_000], images[50_000:52_000] / 255
    generator = layers(100, 128, 128, 128, 784).append(nn.Sigmoid())
    inference = GANInference(network_model(generator, 100), layers(784, 128, 128, 128, 1))
    options = {"batch_size": 64, "transform": lambda x: x.float() / 255, "compile": True, "progress": False}
    inference.run(training, num_steps=16_000, **options)
    draws = inference.sample(2000)
    at_ends = [((rows < 0.01) | (rows > 0.99)).float().mean().item() for rows in (held_out, draws)]
    assert at_ends[1] == pytest.approx(at_ends[0], abs=0.03)
    assert density_coverage(held_out, draws).coverage > 0.5


def layers(*sizes):
    """Linear layers with leaky rectifiers between them."""
    parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*parts[:-1])
