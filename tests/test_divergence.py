"""An update that is not finite is found before it is used, and traced to where it began."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator
from torch import nn

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback
from pyro_gan.losses import NonSaturating
from pyro_gan.training.divergence import Divergence, are_finite, not_finite
from pyro_gan.training.optimizers import PlayerOptimizer

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")

NAN, INF = math.nan, math.inf
DATA = torch.randn(64, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


class Bad:
    """Makes one number of one row not finite, at one draw of many."""

    def __init__(self, at, value=NAN):
        self.at, self.value, self.draws = at, value, 0

    def model(self, batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            x = loc + pyro.sample("eps", dist.Normal(0.0, 1.0))
            self.draws += 1
            if self.draws == self.at:
                x = torch.where(torch.arange(batch_size) == 5, self.value * loc.exp(), x)
            pyro.deterministic("x", x, event_dim=0)


def everything(inference):
    """All numbers that training moves."""
    state = inference.state_dict()
    tensors = [*state["average"]["values"].values()]
    for player in inference.players():
        tensors += [*state[player]["parameters"].values(), *state[player]["others"]]
    for optimizer in inference.optimizers():
        tensors += [value for values in state[optimizer]["state"].values() for value in values.values()]
    return [torch.as_tensor(tensor) for tensor in tensors]


def make(model, **options):
    return GANInference(model, scalar_discriminator(8), ema_decay=0.9, **options)


# The looks before the first step draw 4 times here, then each step twice: for the discriminator and for the generator.
LOOKS = 3


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(("extra", "player"), [(0, "discriminator"), (1, "generator")])
def test_one_number_that_is_not_finite_ends_the_run_and_reaches_nothing(value, extra, player):
    bad = Bad(LOOKS + 2 * 9 + extra + 1, value)
    inference = make(bad.model)
    message = r"at step 10.*, which began in the model's draws at site 'x', row 5\. Check the data for NaN"
    with pytest.raises(ValueError, match=message) as caught:
        inference.run(DATA, num_steps=20, batch_size=16, progress=False)
    assert all(torch.isfinite(tensor).all() for tensor in everything(inference))
    assert player in str(caught.value) or "penalty" in str(caught.value)
    assert inference.history["step"] == list(range(1, 11))
    assert inference.num_steps_taken == 10


def test_such_updates_can_be_left_out():
    bad = Bad(LOOKS + 2 * 9 + 1)
    inference = make(bad.model, on_divergence="skip")
    with pytest.warns(RuntimeWarning, match="loss is nan at step 10.*This update is left out, as further ones will be"):
        inference.run(DATA, num_steps=20, batch_size=16, progress=False)
    assert all(torch.isfinite(tensor).all() for tensor in everything(inference))
    assert inference.num_steps_taken == 20
    assert [step for step, loss in enumerate(inference.history["discriminator_loss"], 1) if math.isnan(loss)] == [10]


@pytest.mark.parametrize("choice", ["raise", "skip"])
def test_batch_statistics_are_what_they_were_too(choice):
    generator, discriminator = networks(batch_norm=True)
    bad = []

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z = torch.where(torch.arange(batch_size)[:, None] == 3, NAN, z) if bad else z
            pyro.deterministic("x", generator(z), event_dim=1)

    inference = GANInference(model, discriminator, on_divergence=choice)
    inference.step(ROWS)
    before = [buffer.clone() for network in (generator, discriminator) for buffer in network.buffers()]
    bad.append(True)
    expected = pytest.raises(ValueError, match="row 0") if choice == "raise" else pytest.warns(RuntimeWarning)
    with expected:
        inference.step(ROWS)
    now = [buffer for network in (generator, discriminator) for buffer in network.buffers()]
    assert len(now) >= 3 and all(map(torch.equal, now, before))


def test_buffers_that_a_network_replaces_are_put_back_too():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 1)
            self.register_buffer("mean", torch.zeros(()))
            self.register_buffer("seen", torch.zeros(0))

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
            self.seen.resize_(len(self.seen) + 1).fill_(1.0)
            return self.linear((x - self.mean)[:, None]).squeeze(1)

    bad = Bad(LOOKS + 2 * 9 + 1)
    inference = GANInference(bad.model, Centred(), on_divergence="skip")
    with pytest.warns(RuntimeWarning, match="This update is left out"):
        inference.run(DATA, num_steps=20, batch_size=16, progress=False)
    assert torch.isfinite(inference.discriminator.function.mean)
    assert sum(map(math.isnan, inference.history["discriminator_loss"])) <= 1


def test_one_player_alone_can_not_be_left_out_for_ever():
    def bad(judgement):
        return judgement.real_logits.sum() * NAN

    inference = make(location_model, loss=NonSaturating(), penalty=bad, on_divergence="skip")
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="100 updates in a row were not finite"):
        inference.run(DATA, num_steps=500, progress=False)


def test_what_a_device_leaves_out_now_and_then_does_not_add_up():
    inference = make(location_model, on_divergence="skip")
    with pytest.warns(RuntimeWarning, match="at step 0"):
        for number in range(150):
            inference.tell_left_out(number, number % 10 == 0)
    with pytest.raises(ValueError, match="100 updates in a row"):
        for number in range(150):
            inference.tell_left_out(number, True)


def test_a_run_can_choose_too():
    bad = Bad(LOOKS + 1)
    with pytest.warns(RuntimeWarning, match="at step 1, which began in the model's draws"):
        make(bad.model).run(DATA, num_steps=3, progress=False, on_divergence="skip")
    with pytest.raises(ValueError, match="on_divergence must be 'raise' or 'skip', but is 'ignore'"):
        make(bad.model).run(DATA, num_steps=3, progress=False, on_divergence="ignore")
    with pytest.raises(ValueError, match="on_divergence must be 'raise' or 'skip', but is True"):
        make(bad.model, on_divergence=True)


def test_leaving_out_has_an_end():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", eps + loc / (0.0 if broken else 1.0) * 0.0, event_dim=0)

    broken = []
    inference = make(model, on_divergence="skip")
    inference.step(DATA)
    broken.append(True)
    with (
        pytest.warns(RuntimeWarning, match="at step 2"),
        pytest.raises(ValueError, match="100 updates in a row were not finite and left out"),
    ):
        inference.run(DATA, num_steps=200, progress=False)


def test_a_gradient_that_is_not_finite_though_the_loss_is_names_its_parameter():
    class Rooted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(1, 1), nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.linear(x[:, None]).squeeze(1) + (self.scale - self.scale.detach()).sqrt()

    inference = GANInference(location_model, Rooted())
    message = r"the gradient of the discriminator's parameter 'scale' is not finite at step 1, though the loss is\."
    with pytest.raises(ValueError, match=message):
        inference.run(DATA, num_steps=2, progress=False)
    assert inference.discriminator.function.scale == 1


def test_rows_of_the_discriminator_are_named_where_it_begins_there():
    network = nn.Linear(1, 1)
    breaks = []

    def discriminator(x):
        logits = network(x[:, None]).squeeze(1)
        return torch.where(torch.arange(len(x)) == 3, NAN, logits) if breaks else logits

    inference = GANInference(location_model, discriminator)
    inference.step(DATA)
    breaks.append(True)
    with pytest.raises(ValueError, match="which began in the discriminator's logits of the real rows, row 3"):
        inference.step(DATA)


@pytest.mark.usefixtures("graphs_as_traced")
def test_compiled_steps_say_where_it_began_too():
    class Poison(Callback):
        def on_step(self, inference):
            if inference.clock.step == 5:
                with torch.no_grad():
                    generator[2].bias[1] = NAN

    generator, discriminator = networks()
    inference = GANInference(network_model(generator, 2), discriminator)
    message = "the discriminator's loss is nan at step 6, which began in the model's draws at site 'x', row 0"
    with pytest.raises(ValueError, match=message):
        inference.run(ROWS, num_steps=9, batch_size=16, progress=False, compile=True, callbacks=[Poison()])
    assert all(torch.isfinite(leaf).all() for leaf in discriminator.parameters())


@pytest.mark.parametrize("first", [True, False], ids=["at the first look", "later"])
def test_a_double_that_single_precision_can_not_hold_is_told_as_what_it_is(first):
    data = np.zeros(64)
    inference = make(location_model)
    if not first:
        inference.step(data)
    data[7] = 1e39
    message = (
        r"the data hold 1e\+39 \(element 0, row 7\), which is infinite as torch.float32, the model's type: it holds "
        r"numbers up to 3.4e\+38. Divide the data by their scale"
    )
    with pytest.raises(ValueError, match=message):
        inference.step(data)


def test_questions_tell_of_it_too():
    inference = make(location_model).run(DATA, num_steps=1, progress=False)
    with pytest.raises(ValueError, match=r"the data hold 1e\+39 \(x, row 1\).*infinite as torch.float32"):
        inference.log_ratio(np.array([0.0, 1e39]))


# On a device, where no step waits. The functions are the same on the host.


def test_flags_of_a_device_tell_what_looking_tells():
    good, bad = torch.zeros(3), torch.tensor([0.0, NAN])
    sparse = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([INF]), (3,), check_invariants=True)
    large = torch.full((9,), 1e18)
    assert not are_finite([torch.full((9,), 1e30)])  # whose squares, which Adam averages, are infinite
    for tensors in ([good], [large, None], [good.double(), good]):
        assert are_finite(tensors)
        assert not not_finite([tensor for tensor in tensors if tensor is not None])
    for tensors in ([good, bad], [sparse], [-good / 0]):
        assert not are_finite(tensors)
        assert Divergence().flagged(tensors) == 1


@pytest.mark.parametrize("make_optimizer", [None, lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.5)])
def test_a_device_leaves_an_update_out_by_itself(make_optimizer):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = PlayerOptimizer(make_optimizer, "optim")
    optimizer.meet({"w": parameter})
    optimizer.update([parameter], [torch.tensor([NAN, 1.0, 1.0])], torch.ones(()))
    assert torch.equal(parameter.detach(), torch.ones(3))
    optimizer.update([parameter], [torch.ones(3)], torch.zeros(()))
    assert (parameter < 1).all() and all(torch.isfinite(value).all() for value in moments(optimizer))


def moments(optimizer):
    return [torch.as_tensor(value) for values in optimizer.state_dict()["state"].values() for value in values.values()]


@pytest.mark.parametrize("choice", ["raise", "skip"])
def test_what_a_device_left_out_is_told_at_the_next_reading(choice):
    class Flag(Callback):
        def on_step(self, inference):
            record = inference.recorder.unread[-1]
            flag = torch.tensor(float(inference.clock.step == 3))
            inference.recorder.unread[-1] = record._replace(not_finite=flag)

    inference = make(location_model, on_divergence=choice)
    message = "an update was not finite at step 3 and was left out"
    if choice == "raise":
        with pytest.raises(ValueError, match=message):
            inference.run(DATA, num_steps=4, progress=False, callbacks=[Flag()])
    else:
        with pytest.warns(RuntimeWarning, match=message):
            inference.run(DATA, num_steps=4, progress=False, callbacks=[Flag()])
    assert inference.history["step"] == [1, 2, 3, 4] and "not_finite" not in inference.history
