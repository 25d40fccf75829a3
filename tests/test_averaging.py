import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_model, noise_guide
from models import location_model, network_model, networks, scalar_discriminator

from pyro_gan import BiGANInference, GANInference
from pyro_gan.callbacks import Callback, FallingRates, FinalMean
from pyro_gan.training.averaging import MovingAverage

DATA = 4 + 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def documented_average(positions, decay):
    """The average of one number's positions along training, by the documented rule, in double precision."""
    average = positions[0]
    for t, position in enumerate(positions[1:], start=1):
        beta = min(decay, (1 + t) / (10 + t))
        average = beta * average + (1 - beta) * position
    return average


class Positions(Callback):
    """Keeps the generator's parameters as they are after each step."""

    def __init__(self):
        self.taken = []

    def on_step(self, inference):
        parameters = inference.generator_parameters()
        self.taken.append({name: leaf.detach().double().clone() for name, leaf in parameters.items()})


def averaging(decay=0.9, seed=0):
    """A new inference over networks of its own, with nothing left of earlier ones."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    generator, discriminator = networks()
    return GANInference(network_model(generator, 2), discriminator, ema_decay=decay), generator


def trained(decay=0.9, num_steps=40, seed=0):
    inference, generator = averaging(decay, seed)
    return inference.run(ROWS, num_steps=num_steps, batch_size=16, progress=False), generator


def drawn(inference, averaged, seed=1):
    pyro.set_rng_seed(seed)
    return inference.sample(6, averaged=averaged)


@pytest.mark.parametrize("decay", [0, 0.5, 0.99])
def test_the_average_follows_the_documented_rule(decay):
    average, parameter = MovingAverage(decay), torch.zeros(2, 3)
    positions = torch.randn(30, 2, 3)
    for position in positions:
        average.update({"weight": parameter.copy_(position)})
    for row in range(2):
        for column in range(3):
            expected = documented_average(positions[:, row, column].double().tolist(), decay)
            assert average.values["weight"][row, column].item() == pytest.approx(expected, abs=1e-6)
    assert average.num_updates == 30


def test_without_decay_the_average_is_the_last_position():
    average = MovingAverage(0)
    for position in torch.randn(5, 3):
        average.update({"weight": position})
    assert torch.equal(average.values["weight"], position)


def test_the_start_is_forgotten_early():
    """Of a start at 1 and then always 0, the rule leaves the product of the decays: after 100 updates 8.4e-7."""
    average = MovingAverage(0.999)
    average.update({"weight": torch.ones(1)})
    for _ in range(100):
        average.update({"weight": torch.zeros(1)})
    left = math.prod((1 + t) / (10 + t) for t in range(1, 101))
    assert average.values["weight"].item() == pytest.approx(left, rel=1e-4)
    assert left < 1e-6 < 0.9 < 0.999**100  # what the plain rule would have left


def test_a_parameter_that_appears_late_starts_its_average_where_it_is():
    average = MovingAverage(0.5)
    average.update({"first": torch.zeros(2)})
    average.update({"first": torch.ones(2), "late": torch.full((2,), 5.0)})
    assert average.values["late"].tolist() == [5, 5]
    assert average.values["first"][0].item() == pytest.approx(1 - 2 / 11)
    average.update({"late": torch.full((2,), 7.0)})  # a step that does not use the first
    assert average.values["late"][0].item() == pytest.approx(5 * 0.25 + 7 * 0.75)  # beta is 3 / 12
    assert average.values["first"][0].item() == pytest.approx(1 - 2 / 11)


def test_the_average_is_of_its_own_memory_and_without_gradients():
    average, parameter = MovingAverage(0.5), torch.zeros(2, requires_grad=True)
    average.update({"weight": parameter})
    with torch.no_grad():
        parameter.add_(1)
    assert average.values["weight"].tolist() == [0, 0]
    average.update({"weight": parameter})
    assert not average.values["weight"].requires_grad


def test_averages_are_kept_in_the_parameters_precision():
    average = MovingAverage(0.9)
    for _ in range(3):
        average.update({"weight": torch.ones(2, dtype=torch.float64)})
    assert average.values["weight"].dtype == torch.float64


def test_a_state_that_was_read_elsewhere_follows_the_parameters():
    average, other = MovingAverage(0.9), MovingAverage(0.9)
    average.update({"weight": torch.zeros(2)})
    other.load_state_dict(average.state_dict())
    other.update({"weight": torch.zeros(2, device="meta", dtype=torch.float64)})
    assert (other.values["weight"].device.type, other.values["weight"].dtype) == ("meta", torch.float64)


def test_applied_gives_the_averages_and_takes_them_back():
    average, parameters = MovingAverage(0.5), {"a": torch.zeros(2, requires_grad=True), "b": torch.ones(1)}
    average.update(parameters)
    with torch.no_grad():
        parameters["a"].add_(11)
    average.update(parameters)
    other = torch.full((1,), 3.0)
    with average.applied({**parameters, "unknown": other}):
        assert parameters["a"].tolist() == pytest.approx([9, 9])
        assert other.item() == 3
    assert parameters["a"].tolist() == [11, 11] and parameters["b"].tolist() == [1]
    assert average.values["a"].tolist() == pytest.approx([9, 9])


def test_applied_restores_after_an_error():
    average, parameter = MovingAverage(0.5), torch.zeros(2)
    average.update({"weight": parameter})
    parameter.add_(1)
    with pytest.raises(RuntimeError, match="on purpose"), average.applied({"weight": parameter}):
        assert parameter.tolist() == [0, 0]
        raise RuntimeError("on purpose")
    assert parameter.tolist() == [1, 1]


def test_applied_within_applied_restores_both():
    average, parameter = MovingAverage(0.5), torch.zeros(2)
    average.update({"weight": parameter})
    parameter.add_(1)
    with average.applied({"weight": parameter}):
        with average.applied({"weight": parameter}):
            assert parameter.tolist() == [0, 0]
        assert parameter.tolist() == [0, 0]
    assert parameter.tolist() == [1, 1]


def test_a_state_is_a_copy_from_which_the_average_goes_on():
    average, positions = MovingAverage(0.9), torch.randn(8, 3)
    for position in positions[:4]:
        average.update({"weight": position})
    state = average.state_dict()
    kept = copy.deepcopy(state)
    other = MovingAverage(0.9)
    other.load_state_dict(state)
    for position in positions[4:]:
        average.update({"weight": position})
        other.update({"weight": position})
    assert torch.equal(average.values["weight"], other.values["weight"])
    assert average.num_updates == other.num_updates == 8
    assert state["num_updates"] == 4 and torch.equal(state["values"]["weight"], kept["values"]["weight"])


@pytest.mark.parametrize("decay", [1, 1.0, -0.1, float("nan"), float("inf"), True, "0.9"])
def test_a_decay_out_of_range_is_refused(decay):
    message = r"ema_decay must be a number from 0 to below 1, such as 0.999, but is .*; None keeps no average"
    with pytest.raises(ValueError, match=message):
        GANInference(location_model, scalar_discriminator(4), ema_decay=decay)


def test_an_inference_averages_where_its_parameters_have_been():
    positions = Positions()
    inference, _ = averaging(0.9)
    inference.run(ROWS, num_steps=40, batch_size=16, progress=False, callbacks=[positions])
    values = inference.average.values
    assert set(values) == set(inference.generator_parameters()) and len(values) == 4
    for name, value in values.items():
        for entry in range(value.numel()):
            expected = documented_average([taken[name].flatten()[entry].item() for taken in positions.taken], 0.9)
            assert value.flatten()[entry].item() == pytest.approx(expected, abs=1e-6)


def test_averaged_samples_are_those_of_a_model_with_the_averaged_values():
    inference, generator = trained()
    before = copy.deepcopy(generator.state_dict())
    averaged = copy.deepcopy(generator)
    values = {name.removeprefix("generator$$$"): value for name, value in inference.average.values.items()}
    averaged.load_state_dict(values)

    pyro.set_rng_seed(1)
    expected = averaged(-1.0 + 2.0 * torch.rand(6, 2))
    torch.testing.assert_close(drawn(inference, averaged=True), expected)
    assert (drawn(inference, averaged=True) - drawn(inference, averaged=False)).abs().max() > 1e-3
    after = generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_constrained_parameters_are_averaged_where_the_optimizer_moves_them():
    def model(batch_size=64):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", scale * pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    inference = GANInference(model, scalar_discriminator(4), ema_decay=0.9)
    inference.run(DATA, num_steps=20, progress=False)
    with inference.averaged():
        assert pyro.param("scale").log().item() == pytest.approx(inference.average.values["scale"].item(), abs=1e-6)
        assert inference.average.values["scale"].item() != 0


def test_predictive_draws_with_the_averages_within_the_context():
    inference, generator = trained()

    def predicted():
        pyro.set_rng_seed(1)
        return pyro.infer.Predictive(inference.model.function, num_samples=2)(6)["x"]

    outside = predicted()
    with inference.averaged():
        within = predicted()
    values = {name.removeprefix("generator$$$"): value for name, value in inference.average.values.items()}
    generator.load_state_dict(values)
    assert torch.equal(within, predicted())
    assert (within - outside).abs().max() > 1e-3


def test_the_parameters_are_restored_when_sampling_fails():
    fails = {"on": False}

    def model(batch_size=64):
        if fails["on"]:
            raise RuntimeError("on purpose")
        return location_model(batch_size)

    inference = GANInference(model, scalar_discriminator(4), ema_decay=0.9).run(DATA, num_steps=20, progress=False)
    loc = pyro.param("loc").item()
    fails["on"] = True
    with pytest.raises(RuntimeError, match="on purpose"):
        inference.sample(3, averaged=True)
    assert pyro.param("loc").item() == loc != inference.average.values["loc"].item()


def test_training_goes_the_same_way_with_and_without_averages():
    with_averages, generator = trained(0.9)
    without, other = trained(None)
    assert with_averages.history == without.history
    assert all(torch.equal(one, two) for one, two in zip(generator.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("taken", [0, 3])
def test_averages_are_saved_and_loaded(tmp_path, taken):
    first, _ = trained()
    first.save(tmp_path / "state.pt")
    expected = drawn(first, averaged=True)
    second = trained(seed=1, num_steps=taken)[0] if taken else averaging(seed=1)[0]
    second.load(tmp_path / "state.pt")
    assert torch.equal(drawn(second, averaged=True), expected)  # of a model that has not been run before, too


def test_averaging_goes_on_from_a_saved_state_bit_for_bit(tmp_path):
    def further(inference):
        pyro.set_rng_seed(2)
        return inference.run(ROWS, num_steps=5, batch_size=16, progress=False).average.state_dict()

    first, _ = trained()
    first.save(tmp_path / "state.pt")
    expected = further(first)
    found = further(averaging(seed=1)[0].load(tmp_path / "state.pt"))
    assert found["num_updates"] == expected["num_updates"] == 45
    assert all(torch.equal(found["values"][name], value) for name, value in expected["values"].items())


def test_a_state_without_averages_leaves_none_of_before():
    state = trained(None, num_steps=5)[0].state_dict()
    inference, _ = trained(num_steps=5)
    inference.load_state_dict(state)
    assert torch.equal(drawn(inference, averaged=True), drawn(inference, averaged=False))


def test_averages_that_were_not_kept_can_not_be_used():
    inference, _ = trained(None, num_steps=2)
    message = "no averages of the parameters are kept. Pass ema_decay=0.999 to the constructor"
    with pytest.raises(ValueError, match=message):
        inference.sample(3, averaged=True)
    with pytest.raises(ValueError, match=message), inference.averaged():
        pass


def test_before_the_first_step_the_averages_are_the_parameters():
    inference, _ = averaging()
    assert torch.equal(drawn(inference, averaged=True), drawn(inference, averaged=False))


def test_what_the_generators_optimizer_does_not_move_is_not_averaged():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, 2), discriminator, ema_decay=0.9, only="generator.2")
    inference.run(ROWS, num_steps=3, batch_size=16, progress=False)
    assert set(inference.average.values) == {"generator$$$2.weight", "generator$$$2.bias"}


def test_the_discriminators_steps_alone_move_no_average():
    inference, _ = trained(num_steps=3)
    before = inference.average.state_dict()
    inference.step(ROWS, player="discriminator")
    after = inference.average.state_dict()
    assert after["num_updates"] == before["num_updates"] == 3
    assert all(torch.equal(after["values"][name], value) for name, value in before["values"].items())


# ---- a run that ends at a mean


def last_positions(part, num_steps=10, defaults_only=False, **options):
    """The parameters after a run with :class:`FinalMean`, and as they were after each step of it."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    positions, networks_ = Positions(), networks()
    inference = GANInference(network_model(networks_[0], 2), networks_[1], **options)
    callbacks = [positions, FinalMean(part, defaults_only=defaults_only)]
    inference.run(ROWS, num_steps=num_steps, batch_size=16, progress=False, callbacks=callbacks)
    return inference.generator_parameters(), positions.taken


@pytest.mark.parametrize(("part", "num_averaged"), [(0.3, 3), (0.5, 5), (1, 10), (0.01, 1)])
def test_a_run_can_end_at_the_mean_of_its_last_part(part, num_averaged):
    parameters, taken = last_positions(part)
    for name, leaf in parameters.items():
        mean = torch.stack([position[name] for position in taken[-num_averaged:]]).mean(0)
        torch.testing.assert_close(leaf.detach().double(), mean, rtol=1e-5, atol=1e-7)
        assert num_averaged == 1 or not torch.allclose(mean, taken[-1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("defaults_only", [False, True])
def test_parameters_of_the_users_own_optimizer_can_stay_where_they_are(defaults_only):
    parameters, taken = last_positions(
        0.5, defaults_only=defaults_only, optim=lambda leaves: torch.optim.Adam(leaves, lr=1e-3)
    )
    stays = [torch.equal(leaf.double(), taken[-1][name]) for name, leaf in parameters.items()]
    assert all(stays) if defaults_only else not any(stays)


def test_a_run_that_ends_early_keeps_its_last_values():
    class Stop(Callback):
        def on_step(self, inference):
            return inference.num_steps_taken == 8

    pyro.set_rng_seed(0)
    positions, (generator, discriminator) = Positions(), networks()
    inference = GANInference(network_model(generator, 2), discriminator)
    callbacks = [FinalMean(0.5), positions, Stop()]
    inference.run(ROWS, num_steps=10, batch_size=16, progress=False, callbacks=callbacks)
    assert inference.num_steps_taken == 8
    for name, leaf in inference.generator_parameters().items():
        assert torch.equal(leaf.double(), positions.taken[-1][name])


def test_a_guides_run_ends_at_the_mean_of_its_last_quarter(monkeypatch):
    def run():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        positions, discriminator = Positions(), joint_discriminator(2, 8)
        inference = BiGANInference(linear_model, noise_guide(), discriminator)
        x = torch.linspace(-1.0, 1.0, 64)
        inference.run(x, num_steps=20, batch_size=16, progress=False, callbacks=[positions])
        return inference, positions.taken

    inference, _ = run()
    found = {name: leaf.detach().double().clone() for name, leaf in inference.generator_parameters().items()}
    logit = inference.log_ratio({"z": torch.ones(1), "x": torch.ones(1)})
    monkeypatch.setattr(BiGANInference, "schedule", lambda self, batches: [FallingRates()])
    inference, taken = run()
    for name, value in found.items():
        mean = torch.stack([position[name] for position in taken[-5:]]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-7)
    assert not torch.equal(logit, inference.log_ratio({"z": torch.ones(1), "x": torch.ones(1)}))


@pytest.mark.parametrize("part", [0, 1.5, -1, True, "0.25", float("nan")])
def test_a_part_of_a_run_out_of_range_is_refused(part):
    with pytest.raises(ValueError, match="part must be a number above 0 and at most 1, but is"):
        FinalMean(part)
