import copy
import math

import pyro
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator
from torch.nn.functional import softplus

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, StopWhen
from pyro_gan.losses import Hinge, NonSaturating, Relativistic
from pyro_gan.penalties import R1, Penalty, WeightClipping
from pyro_gan.recipes import PACE, default_loss, default_optimizer, default_penalties, default_rate, edward

NOISE_SIZE = 2
ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


class Rates(Callback):
    """Notes what is in force at each step: both players' rates, and the weights of the penalties."""

    def __init__(self):
        self.rates, self.rates_d, self.weights = [], [], []

    def on_start(self, inference, num_steps):
        for optimizer, rates in (inference.optim, self.rates), (inference.optim_d, self.rates_d):
            update = optimizer.update

            def noting(loss, parameters, update=update, optimizer=optimizer, rates=rates):
                rates.append(rate(optimizer))
                update(loss, parameters)

            optimizer.update = noting

    def on_step(self, inference):
        self.weights.append([getattr(penalty, "weight", None) for penalty in inference.penalties])

    def on_end(self, inference):
        del inference.optim.update, inference.optim_d.update


def rate(player_optimizer):
    (lr,) = {group["lr"] for group in player_optimizer.optimizer.param_groups}
    return lr


def gan(seed=0, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, **options)
    return inference, generator, discriminator


def handwritten_loop(generator, discriminator, minibatches):
    """The loop of the many tutorials on the 2014 game, with two Adams as they come."""
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.9, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.9, 0.999))
    for x in minibatches:
        noise = -1.0 + torch.rand(len(x), NOISE_SIZE) * 2.0
        optimizer_d.zero_grad()
        loss_d = softplus(-discriminator(x)).mean() + softplus(discriminator(generator(noise).detach())).mean()
        loss_d.backward()
        optimizer_d.step()
        noise = -1.0 + torch.rand(len(x), NOISE_SIZE) * 2.0
        optimizer.zero_grad()
        loss = softplus(-discriminator(generator(noise))).mean()
        loss.backward()
        optimizer.step()
        yield loss.item(), loss_d.item()


def test_edwards_recipe_takes_the_steps_of_the_classic_loop():
    inference, generator, discriminator = gan(**edward())
    by_hand, by_hand_d = copy.deepcopy((generator, discriminator))
    minibatches = torch.randn(30, 16, 3)
    inference.evaluate_loss(minibatches[0])
    pyro.set_rng_seed(1)
    history = inference.run(list(minibatches), num_steps=30, progress=False).history
    pyro.set_rng_seed(1)
    losses, losses_d = zip(*handwritten_loop(by_hand, by_hand_d, minibatches), strict=True)
    assert history["generator_loss"] == pytest.approx(losses, rel=1e-6, abs=1e-6)
    assert history["discriminator_loss"] == pytest.approx(losses_d, rel=1e-6, abs=1e-6)
    found = [*generator.parameters(), *discriminator.parameters()]
    expected = [*by_hand.parameters(), *by_hand_d.parameters()]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_edwards_recipe_has_no_penalty_and_keeps_its_rates():
    noted = Rates()
    inference, *_ = gan(**edward())
    history = inference.run(ROWS, num_steps=4, batch_size=16, progress=False, callbacks=[noted]).history
    assert type(inference.loss) is NonSaturating and inference.penalties == ()
    assert all(map(math.isnan, history["penalty"]))
    assert noted.rates == noted.rates_d == [1e-3] * 4
    assert inference.optim.optimizer.defaults["betas"] == inference.optim_d.optimizer.defaults["betas"] == (0.9, 0.999)


def test_a_part_of_a_recipe_can_be_replaced():
    inference, *_ = gan(**{**edward(), "loss": Hinge(), "penalty": R1(1.0)})
    assert type(inference.loss) is Hinge and type(inference.penalties[0]) is R1


def test_recipes_share_nothing_between_inferences():
    assert edward()["loss"] is not edward()["loss"]
    assert not set(map(id, default_penalties())) & set(map(id, default_penalties()))


def test_nothing_said_is_the_default_recipe():
    inference, *_ = gan()
    inference.step(ROWS)
    assert type(inference.loss) is type(default_loss()) is Relativistic
    assert list(map(type, inference.penalties)) == list(map(type, default_penalties()))
    expected = default_optimizer([torch.zeros(1)]).defaults
    for optimizer in inference.optim, inference.optim_d:
        assert type(optimizer.optimizer) is torch.optim.AdamW
        assert [group["weight_decay"] for group in optimizer.optimizer.param_groups] == [0.0]
        assert optimizer.optimizer.defaults == expected
        assert optimizer.optimizer.defaults["betas"][0] == 0


def test_the_default_takes_the_steps_of_its_parts():
    """What the defaults are, said in full, is the same run."""

    def run(**options):
        inference, generator, discriminator = gan(**options)
        history = inference.run(ROWS, num_steps=10, batch_size=16, progress=False).history
        return history, [*generator.parameters(), *discriminator.parameters()]

    (history, parameters), (expected, others) = run(), run(loss=Relativistic(), penalty=default_penalties())
    assert history == expected
    assert all(torch.equal(*pair) for pair in zip(parameters, others, strict=True))


@pytest.mark.parametrize(
    ("options", "penalties"),
    [
        ({"loss": Relativistic()}, []),
        ({"loss": NonSaturating()}, []),
        ({"penalty": R1(1.0)}, [R1]),
        ({"penalty": ()}, []),
        ({"penalty": [WeightClipping(), R1(1.0)]}, [WeightClipping, R1]),
    ],
    ids=["loss", "other_loss", "penalty", "no_penalty", "list"],
)
def test_default_penalties_go_with_the_default_loss_alone(options, penalties):
    inference, *_ = gan(**options)
    assert list(map(type, inference.penalties)) == penalties
    assert type(inference.loss) is type(options.get("loss", default_loss()))


def test_the_default_penalties_are_the_same_in_all_units():
    """Rows in millimetres in place of metres, before a discriminator that undoes it, have the same penalty."""

    def penalty(unit):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        network = scalar_discriminator(8)

        def model(batch_size):
            with pyro.plate("data", batch_size):
                eps = pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0))
                pyro.deterministic("x", unit * (pyro.param("loc", torch.tensor(0.5)) + eps), event_dim=0)

        inference = GANInference(model, lambda x: network(x / unit))
        return inference.run(unit * ROWS[:, 0], num_steps=1, progress=False).history["penalty"][0]

    assert penalty(1000.0) == pytest.approx(penalty(1.0), rel=1e-4)


# Rates that fall along a run


def test_the_default_rates_fall_along_a_run_and_start_anew():
    inference, *_ = gan()
    for num_steps in 20, 10:
        noted = Rates()
        inference.run(ROWS, num_steps=num_steps, batch_size=16, progress=False, callbacks=[noted])
        expected = [default_rate(step / num_steps) for step in range(num_steps)]
        assert noted.rates == noted.rates_d == pytest.approx(expected)
        assert noted.rates[0] == default_rate(0.0) > 0
        assert noted.rates[num_steps // 2] == pytest.approx(default_rate(0.5))
        assert rate(inference.optim) == rate(inference.optim_d) == default_rate(0.0)
    inference.step(ROWS)
    assert rate(inference.optim) == default_rate(0.0)


def test_the_default_rate_never_rises_and_ends_at_nothing():
    rates = [default_rate(part / 100) for part in range(101)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0 == rates[-1]
    assert rates[90] / rates[80] == pytest.approx(1 / 2)  # a line at the end


def test_a_short_run_ends_as_far_as_its_length_asks():
    """A run of half the steps has the same rates at the same parts of its length."""
    rates = []
    for num_steps in 4, 8:
        noted = Rates()
        gan()[0].run(ROWS, num_steps=num_steps, batch_size=16, progress=False, callbacks=[noted])
        rates.append(noted.rates)
    assert rates[0] == rates[1][::2]


@pytest.mark.parametrize(
    "optim",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        pyro.optim.SGD({"lr": 0.3}),
        lambda parameters: torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(parameters, lr=0.3), factor=1.0),
    ],
    ids=["torch", "pyro", "schedule"],
)
@pytest.mark.parametrize("argument", ["optim", "optim_d"])
def test_an_optimizer_of_the_users_keeps_its_rate_and_the_other_falls(argument, optim):
    noted = Rates()
    inference, *_ = gan(**{argument: optim})
    inference.run(ROWS, num_steps=4, batch_size=16, progress=False, callbacks=[noted])
    kept, falling = (noted.rates, noted.rates_d) if argument == "optim" else (noted.rates_d, noted.rates)
    assert kept == [0.3] * 4
    assert falling == pytest.approx([default_rate(part) for part in (0, 0.25, 0.5, 0.75)])


def test_several_updates_a_step_have_the_steps_rate():
    noted = Rates()
    inference, *_ = gan(discriminator_steps=3, generator_steps=2)
    inference.run(ROWS, num_steps=2, batch_size=16, progress=False, callbacks=[noted])
    assert noted.rates == [default_rate(0.0)] * 2 + [default_rate(0.5)] * 2
    assert noted.rates_d == [default_rate(0.0)] * 3 + [default_rate(0.5)] * 3


def test_the_rates_are_restored_when_a_run_is_cut_off():
    class Interrupt(Callback):
        def on_step(self, inference):
            if inference.num_steps_taken == 3:
                raise KeyboardInterrupt

    inference, *_ = gan()
    with pytest.raises(KeyboardInterrupt):
        inference.run(ROWS, num_steps=4, batch_size=16, progress=False, callbacks=[Interrupt()])
    assert rate(inference.optim) == rate(inference.optim_d) == default_rate(0.0)
    inference.run(ROWS, num_steps=4, progress=False, callbacks=[StopWhen(lambda inference: True)])
    assert rate(inference.optim) == default_rate(0.0)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_run_from_a_state_saved_within_a_run_starts_at_the_full_rate(taken):
    class Keep(Callback):
        def on_step(self, inference):
            if inference.num_steps_taken == 8:
                self.state = inference.state_dict()

    keep, noted = Keep(), Rates()
    gan()[0].run(ROWS, num_steps=10, batch_size=16, progress=False, callbacks=[keep])
    inference, *_ = gan(seed=1)
    if taken:
        inference.step(ROWS)
    inference.load_state_dict(keep.state)
    inference.run(ROWS, num_steps=2, batch_size=16, progress=False, callbacks=[noted])
    assert noted.rates == noted.rates_d == [default_rate(0.0), default_rate(0.5)]


def test_a_parameter_that_appears_within_a_run_has_the_rate_of_the_others():
    late = {"on": False}

    class Switch(Callback):
        def on_step(self, inference):
            late["on"] = inference.num_steps_taken >= 5

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        if late["on"]:
            loc = loc + pyro.param("late", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0)), event_dim=0)

    noted, switch = Rates(), Switch()
    inference = GANInference(model, scalar_discriminator(4))
    inference.run(ROWS[:, 0], num_steps=10, progress=False, callbacks=[noted, switch])
    assert noted.rates == pytest.approx([PACE * default_rate(step / 10) for step in range(10)])


def test_penalties_with_a_final_weight_fall_along_a_run_and_start_anew():
    class Falling(Penalty):
        weight = 1.0

        def __call__(self, judgement):
            return self.weight * judgement.real_logits.square()

        def set_progress(self, progress):
            self.weight = 1.0 - progress / 2

    noted, falling = Rates(), Falling()
    inference, *_ = gan(penalty=[R1(3.0), falling])
    inference.run(ROWS, num_steps=4, batch_size=16, progress=False, callbacks=[noted])
    assert [weights[0] for weights in noted.weights] == [3.0] * 4
    assert [weights[1] for weights in noted.weights] == pytest.approx([0.875, 0.75, 0.625, 0.5])
    assert falling.weight == 1.0


def assert_half_recovered():
    assert abs(pyro.param("loc").item() - 0.5) < 0.05


def test_the_default_trains_a_location_that_an_untrained_model_misses():
    inference, data = GANInference(location_model, scalar_discriminator()), 0.5 + 0.1 * torch.randn(500)
    inference.evaluate_loss(data)
    with pytest.raises(AssertionError):
        assert_half_recovered()
    inference.run(data, num_steps=800, progress=False)
    assert_half_recovered()
