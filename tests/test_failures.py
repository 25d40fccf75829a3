"""The classic failures are told of, once each; good runs are not."""

import re
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import (
    falling_adam,
    location_model,
    location_scale_model,
    network_model,
    networks,
    scalar_discriminator,
)
from torch import nn

from pyro_gan import GANInference
from pyro_gan.callbacks import FinalMean, WarnOfFailures
from pyro_gan.callbacks.failures import LONG
from pyro_gan.losses import Minimax, NonSaturating

DATA = 4 + torch.randn(1000, generator=torch.Generator().manual_seed(0))


def told(inference, data=DATA, num_steps=1200, **options):
    """The warnings of a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inference.run(data, num_steps=num_steps, progress=False, **options)
    texts = [str(each.message) for each in caught]
    return [text for text in texts if "another place or scale" not in text]  # which test_units.py is about


def test_a_good_run_is_told_nothing_of():
    adam = falling_adam(2000, rate=0.02, beta=0.0)
    inference = GANInference(location_scale_model, scalar_discriminator(32), adam, adam)
    assert told(inference, num_steps=2000) == []
    assert pyro.param("loc").item() == pytest.approx(4, abs=0.3)


def test_parameters_that_still_march_are_named():
    (text,) = told(GANInference(location_model, scalar_discriminator(32)), 30 + DATA)
    assert text.startswith("parameters still moved in one direction when the run ended: 'loc', by up to ")
    assert "Run longer, or give them a higher rate" in text
    assert pyro.param("loc").item() < 25


def test_a_run_that_is_long_enough_is_not():
    adam = falling_adam(4000, rate=0.02, beta=0.0)
    assert told(GANInference(location_model, scalar_discriminator(32), adam, adam), num_steps=4000) == []
    assert pyro.param("loc").item() == pytest.approx(4, abs=0.3)


def test_short_runs_are_left_alone():
    assert told(GANInference(location_model, scalar_discriminator(32)), 30 + DATA, num_steps=499) == []


def far_model(batch_size):
    """Draws that are far from the data, whatever the parameter is."""
    loc = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        pyro.deterministic("x", eps + torch.tanh(loc) / 10, event_dim=0)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


class Sure(nn.Module):
    """Knows the real rows from the start."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.scale * (x - 50)


def test_a_discriminator_that_wins_for_long_is_told_once():
    inference = GANInference(far_model, Sure(), sgd, sgd, loss=NonSaturating(), penalty=())
    texts = told(inference, 100 + DATA, num_steps=LONG + 400)
    assert [text.split(",")[0] for text in texts] == [
        f"the discriminator has told real rows from the model's for {LONG} steps"
    ]
    assert "Use the default loss and penalties, a penalty of a greater weight" in texts[0]


def test_a_gradient_that_has_vanished_is_told():
    inference = GANInference(far_model, Sure(), sgd, sgd, loss=Minimax(), penalty=())
    texts = told(inference, 100 + DATA, num_steps=LONG + 600)
    start = "the generator's gradient has vanished: for 1000 steps its norm has been about"
    assert any(text.startswith(start) for text in texts)
    assert any("Use the default loss" in text for text in texts)


def test_draws_that_have_collapsed_are_told_of():
    def model(batch_size):
        scale = pyro.param("scale", torch.tensor(0.001))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", 4 + 0.01 * torch.tanh(scale) * eps, event_dim=0)

    texts = told(GANInference(model, scalar_discriminator(8), sgd, sgd), num_steps=500)
    assert len([text for text in texts if text.startswith("the model's draws have collapsed: at site 'x'")]) == 1


def still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


GREYS = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))
HALF_GREY = torch.where(GREYS < 0.5, 0.0, GREYS)
BLACK_AND_WHITE = GREYS.round()


@pytest.mark.parametrize(
    ("end", "data", "share"),
    [
        (nn.Sigmoid(), GREYS, 0.98),
        (nn.Sigmoid(), HALF_GREY, 0.49),
        (nn.Sigmoid(), BLACK_AND_WHITE, None),
        (nn.Hardtanh(0, 1), GREYS, 0.98),
        (nn.Threshold(0, 0), GREYS, None),
    ],
)
def test_draws_that_have_saturated_are_told_of(end, data, share):
    """The weights are so large from the start that hardly a number is between black and white."""
    generator = nn.Sequential(nn.Linear(3, 3), end)
    with torch.no_grad():
        generator[0].weight.copy_(1e4 * torch.eye(3))
    inference = GANInference(network_model(generator, 3), networks()[1], still, still)
    texts = [text for text in told(inference, data, num_steps=500) if "saturated" in text]
    assert len(texts) == (share is not None)
    if share:
        pattern = r"the model's draws have saturated: at site 'x' (.*?) of .* of the data's (.*?)\. W"
        shares = re.match(pattern, texts[0])
        assert float(shares[1]) < 0.01 and float(shares[2]) == pytest.approx(share, abs=0.06)
        assert "let the weights decay: optim=lambda parameters: torch.optim.AdamW" in texts[0]


def test_draws_elsewhere_have_not_saturated():
    inference = GANInference(far_model, Sure(), still, still)
    assert not any("saturated" in text for text in told(inference, 100 + DATA, num_steps=500))


def test_greys_that_are_not_lost_are_not_told_of():
    inference = GANInference(network_model(nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), 3), networks()[1])
    assert not any("saturated" in text for text in told(inference, HALF_GREY, num_steps=500))


def test_warnings_change_nothing_of_the_run():
    def run(watches):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = GANInference(location_model, scalar_discriminator(8))
        inference.schedule = lambda batches: [
            each
            for each in type(inference).schedule(inference, batches)
            if watches or not isinstance(each, WarnOfFailures)
        ]
        told(inference, num_steps=600)
        return inference.history, pyro.param("loc").item(), torch.get_rng_state()

    (first, loc, state), (second, other_loc, other_state) = run(True), run(False)
    assert (first, loc) == (second, other_loc) and torch.equal(state, other_state)


def test_each_run_tells_anew():
    inference = GANInference(location_model, scalar_discriminator(8))
    assert [len(told(inference, 30 + DATA, num_steps=600)) for _ in range(2)] == [1, 1]
    assert told(inference, 30 + DATA, num_steps=600, callbacks=[FinalMean(0.5)])
