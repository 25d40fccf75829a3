import pyro
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator

from pyro_gan import GANInference

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")

DATA = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def adam(parameters):
    return torch.optim.lr_scheduler.ExponentialLR(torch.optim.Adam(parameters, lr=0.01), 0.9)


def make(seed=0):
    """A new inference over networks of its own, with nothing left of earlier ones."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    generator, discriminator = networks(batch_norm=True)
    return GANInference(network_model(generator, 2), discriminator, adam, pyro.optim.Adam({"lr": 0.01}))


def steps(inference, seed=5):
    pyro.set_rng_seed(seed)
    inference.run(DATA, num_steps=5, batch_size=16, progress=False)
    return inference.sample(4)


@pytest.mark.parametrize("taken", [0, 3])
def test_training_goes_on_from_a_saved_state_bit_for_bit(tmp_path, taken):
    first = make().run(DATA, num_steps=10, batch_size=16, progress=False)
    first.save(tmp_path / "state.pt")
    expected, history = steps(first), first.history

    second = make(seed=1)  # other initial values
    if taken:
        second.run(DATA, num_steps=taken, batch_size=16, progress=False)
    second.load(tmp_path / "state.pt")
    assert second.num_steps_taken == 10
    assert torch.equal(steps(second), expected)
    assert second.history == history


def test_a_loaded_inference_samples_and_judges_before_any_step(tmp_path):
    first = make().run(DATA, num_steps=10, batch_size=16, progress=False)
    first.save(tmp_path / "state.pt")
    pyro.set_rng_seed(2)
    samples, ratios = first.sample(5), first.log_ratio(DATA)
    second = make(seed=1).load(tmp_path / "state.pt")
    pyro.set_rng_seed(2)
    assert torch.equal(second.sample(5), samples)
    assert torch.equal(second.log_ratio(DATA), ratios)


def test_a_state_is_a_copy_that_later_steps_do_not_change():
    inference = make().run(DATA, num_steps=3, batch_size=16, progress=False)
    state = inference.state_dict()
    expected = steps(inference)
    inference.load_state_dict(state)
    assert torch.equal(steps(inference), expected)


def test_constrained_parameters_and_functions_over_networks_are_restored():
    def run():
        pyro.clear_param_store()
        return GANInference(location_model, scalar_discriminator(4))

    data = DATA[:, 0]
    first = run().run(data, num_steps=5, progress=False)
    state, loc, ratio = first.state_dict(), pyro.param("loc").item(), first.log_ratio(data)
    second = run()
    second.load_state_dict(state)
    assert torch.equal(second.log_ratio(data), ratio)
    second.sample(1)
    assert pyro.param("loc").item() == loc


def test_there_is_no_state_before_the_first_step():
    with pytest.raises(ValueError, match=r"no state before the first step. Call run or step first"):
        make().state_dict()


@pytest.mark.parametrize("state", [None, {}, {"model": {}}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match="expected a state that state_dict"):
        make().load_state_dict(state)


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["model"]["parameters"].pop("generator$$$0.weight"), "has no parameter 'generator"),
        (
            lambda state: state["discriminator"]["parameters"].update({"0.weight": torch.zeros(1, 1)}),
            r"parameter '0.weight' has shape \(1, 1\), but the one to load it into has \(8, 3\)",
        ),
        (lambda state: state["model"]["others"].pop(), "the state holds buffers of shapes"),
    ],
    ids=["name", "shape", "buffers"],
)
def test_the_state_of_another_network_is_refused(change, message, taken):
    state = make().run(DATA, num_steps=1, progress=False).state_dict()
    change(state)
    other = make()
    if taken:
        other.run(DATA, num_steps=taken, progress=False)
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
        other.step(DATA)


def test_a_parameter_that_appears_after_loading_takes_its_loaded_value():
    late = {"on": True}

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        if late["on"]:
            loc = loc + pyro.param("late", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0)), event_dim=0)

    first = GANInference(model, scalar_discriminator(4)).run(DATA[:, 0], num_steps=3, progress=False)
    state, value = first.state_dict(), pyro.param("late").item()
    pyro.clear_param_store()
    late["on"] = False
    second = GANInference(model, scalar_discriminator(4))
    second.load_state_dict(state)
    second.sample(1)
    late["on"] = True
    second.sample(1)
    assert value != 0 and pyro.param("late").item() == value


def test_parameters_of_a_function_keep_their_names_when_others_appear():
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    first.requires_grad_(False)
    inference = GANInference(location_model, lambda x: first(x[:, None]) + second(x[:, None]))
    inference.run(DATA[:, 0], num_steps=2, progress=False)
    names = dict(inference.discriminator.parameters)
    first.requires_grad_(True)
    inference.run(DATA[:, 0], num_steps=2, progress=False)
    assert {name: inference.discriminator.parameters[name] for name in names} == names
    assert len(inference.state_dict()["discriminator"]["parameters"]) == 4
    assert set(inference.state_dict()["optim_d"]["state"]) == set(inference.discriminator.parameters)


def test_a_cleared_store_starts_the_model_anew():
    inference = GANInference(location_model, scalar_discriminator(4)).run(DATA[:, 0], num_steps=3, progress=False)
    pyro.clear_param_store()
    inference.run(DATA[:, 0], num_steps=1, progress=False)
    state = inference.state_dict()
    assert state["model"]["parameters"]["loc"].item() == pyro.param("loc").item()
    assert state["optim"]["state"]["loc"]["step"] == 1


def test_a_state_that_fits_one_player_alone_changes_neither():
    inference = make().run(DATA, num_steps=1, progress=False)
    state = inference.state_dict()
    state["model"]["parameters"] = {name: value + 1 for name, value in state["model"]["parameters"].items()}
    state["discriminator"]["parameters"].pop("0.weight")
    before = inference.model.state_dict()["parameters"]
    with pytest.raises(ValueError, match=r"has no parameter '0.weight'"):
        inference.load_state_dict(state)
    after = inference.model.state_dict()["parameters"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_first_run_that_fails_keeps_the_loaded_state_for_the_next():
    fails = {"on": True}

    def model(batch_size):
        x = location_model(batch_size)
        if fails["on"]:
            raise RuntimeError("not yet")
        return x

    first = GANInference(location_model, scalar_discriminator(4)).run(DATA[:, 0], num_steps=3, progress=False)
    state, loc = first.state_dict(), pyro.param("loc").item()
    pyro.clear_param_store()
    second = GANInference(model, scalar_discriminator(4))
    second.load_state_dict(state)
    with pytest.raises(RuntimeError, match="not yet"):
        second.sample(1)
    fails["on"] = False
    pyro.clear_param_store()
    second.sample(1)
    assert pyro.param("loc").item() == loc


def test_a_loaded_model_knows_its_site_without_its_data():
    def model(x=None, batch_size=64):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.sample("x", pyro.distributions.Normal(loc, 0.1), obs=x)

    state = GANInference(model, scalar_discriminator(4)).run(DATA[:, 0], num_steps=3, progress=False).state_dict()
    loc = pyro.param("loc").item()
    pyro.clear_param_store()
    second = GANInference(model, scalar_discriminator(4))
    second.load_state_dict(state)
    assert second.sample(500).mean().item() == pytest.approx(loc, abs=0.03)


@pytest.mark.parametrize("first_use", ["sample", "log_ratio", "evaluate_loss"])
def test_loaded_batch_statistics_survive_the_first_use(tmp_path, first_use):
    def in_evaluation(inference):
        for player in inference.players().values():
            for module in player.modules:
                module.eval()
        pyro.set_rng_seed(3)
        return inference.sample(6), inference.log_ratio(DATA)

    first = make().run(DATA, num_steps=20, batch_size=16, progress=False)
    first.save(tmp_path / "state.pt")
    second = make(seed=1).load(tmp_path / "state.pt")
    {"sample": lambda: second.sample(8), "log_ratio": lambda: second.log_ratio(DATA)}.get(
        first_use, lambda: second.evaluate_loss(DATA)
    )()
    second.sample(3), second.log_ratio(DATA)
    found, expected = in_evaluation(second), in_evaluation(first)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
