import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_scale_model, network_model, networks, scalar_discriminator
from pyro.nn import PyroModule, PyroParam
from torch import nn

from pyro_gan import BiGANInference, GANInference
from pyro_gan.losses import NonSaturating
from pyro_gan.players.selection import Selection

ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
NUMBERS = torch.randn(64, generator=torch.Generator().manual_seed(0))
NAMES = ["generator$$$0.weight", "generator$$$0.bias", "generator$$$2.weight", "generator$$$2.bias"]
FIRST, LAST = set(NAMES[:2]), set(NAMES[2:])


def two_numbers(batch_size=64):
    """Names where one is the beginning of the other, though not up to a dot."""
    loc = pyro.param("loc", torch.tensor(0.0)) + pyro.param("location", torch.tensor(0.0))
    with pyro.plate("data", batch_size):
        pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)


class Module(PyroModule):
    """A PyroModule with a layer and a number of its own."""

    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](2, 3)
        self.loc = PyroParam(torch.zeros(3))

    def forward(self, batch_size=64):
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", self.loc + self.layer(eps), event_dim=1)


def values(inference):
    return {name: leaf.detach().clone() for name, leaf in inference.model.parameters.items()}


def moved(model, discriminator, data, num_steps=3, **options):
    """The parameters that a run has moved, and those that it has left bit for bit."""
    inference = GANInference(model, discriminator, **options)
    inference.evaluate_loss(data)
    before = values(inference)
    inference.run(data, num_steps=num_steps, batch_size=16, progress=False)
    after = values(inference)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    return changed, set(before) - changed


def in_order(value):
    """A value as text, which for a set of names differs from one process to the next."""
    return repr(sorted(value) if isinstance(value, set) else value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, FIRST | LAST),
        ({"only": "generator"}, FIRST | LAST),
        ({"only": "generator.0"}, FIRST),
        ({"only": ["generator.0", "generator.2.bias"]}, FIRST | {"generator$$$2.bias"}),
        ({"only": "generator$$$0.weight"}, {"generator$$$0.weight"}),
        ({"only": ("generator.0.weight",)}, {"generator$$$0.weight"}),
        ({"exclude": "generator.0"}, LAST),
        ({"exclude": ["generator$$$0.weight", "generator$$$2"]}, {"generator$$$0.bias"}),
        ({"only": "generator.0", "exclude": "generator.0.bias"}, {"generator$$$0.weight"}),
    ],
    ids=in_order,
)
def test_layers_of_a_module_are_chosen(options, expected):
    generator, discriminator = networks()
    assert moved(network_model(generator, 2), discriminator, ROWS, **options) == (expected, set(NAMES) - expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"only": "loc"}, {"loc"}), ({"exclude": ["loc"]}, {"scale"}), ({"only": ["loc", "scale"]}, {"loc", "scale"})],
    ids=in_order,
)
def test_parameters_by_name_are_chosen(options, expected):
    changed, _ = moved(location_scale_model, scalar_discriminator(4), NUMBERS, **options)
    assert changed == expected


def test_a_name_covers_no_longer_one():
    assert moved(two_numbers, scalar_discriminator(4), NUMBERS, only="loc") == ({"loc"}, {"location"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"only": "layer"}, {"layer.weight", "layer.bias"}),
        ({"only": "loc"}, {"loc"}),
        ({"exclude": "layer.weight"}, {"layer.bias", "loc"}),
    ],
    ids=in_order,
)
def test_parts_of_a_pyro_module_are_chosen(options, expected):
    changed, left = moved(Module(), networks()[1], ROWS, **options)
    assert changed == expected and changed | left == {"layer.weight", "layer.bias", "loc"}


def test_the_unused_keep_their_gradients_and_have_no_optimizer_state():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, 2), discriminator, exclude="generator.0")
    inference.run(ROWS, num_steps=2, batch_size=16, progress=False)
    assert all(parameter.grad is None for parameter in generator[0].parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in generator[2].parameters())
    assert set(inference.optim.parameters) == LAST
    assert set(inference.state_dict()["optim"]["state"]) == LAST


def test_a_choice_trains_as_frozen_parameters_do():
    def run(freezes, **options):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks()
        if freezes:
            generator[0].eval().requires_grad_(False)
            generator.eval()  # Pyro warns of frozen parameters in training mode
        inference = GANInference(network_model(generator, 2), discriminator, **options)
        pyro.set_rng_seed(1)
        inference.run(ROWS, num_steps=10, batch_size=16, progress=False)
        return inference.history, generator

    (history, generator), (expected, frozen) = run(False, exclude="generator.0"), run(True)
    assert history == expected
    assert all(torch.equal(one, other) for one, other in zip(generator.parameters(), frozen.parameters(), strict=True))


def test_the_discriminator_is_not_chosen_from():
    generator, discriminator = networks()
    before = [parameter.detach().clone() for parameter in discriminator.parameters()]
    inference = GANInference(network_model(generator, 2), discriminator, loss=NonSaturating(), only="generator.0")
    inference.step(ROWS)
    assert not any(torch.equal(*pair) for pair in zip(before, discriminator.parameters(), strict=True))


def test_a_guides_parameters_are_chosen_as_well():
    def model(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(loc, 1.0)), 0.5), obs=x)

    def guide(x):
        slope = pyro.param("slope", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, 0.5))

    inference = BiGANInference(model, guide, only="slope").run(NUMBERS, num_steps=3, progress=False)
    assert pyro.param("loc").item() == 0 != pyro.param("slope").item()
    with pytest.raises(ValueError, match="there are 'loc', 'slope'"):
        BiGANInference(model, guide, only="slop").step(NUMBERS)
    assert set(inference.optim.parameters) == {"slope"}


def test_a_late_parameter_is_trained_where_it_is_chosen():
    late = {"on": False}

    def model(batch_size=64):
        loc = pyro.param("first.loc", torch.tensor(0.0))
        if late["on"]:
            loc = loc + pyro.param("first.late", torch.tensor(0.0)) + pyro.param("second", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    inference = GANInference(model, scalar_discriminator(4), only="first")
    inference.step(NUMBERS)
    late["on"] = True
    inference.step(NUMBERS)
    assert pyro.param("first.late").item() != 0 == pyro.param("second").item()


def test_a_state_of_chosen_parameters_holds_and_restores_all():
    def make(seed, **options):
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        generator, discriminator = networks()
        return GANInference(network_model(generator, 2), discriminator, **options), generator

    def further(inference):
        pyro.set_rng_seed(5)
        inference.run(ROWS, num_steps=3, batch_size=16, progress=False)
        return inference.sample(4)

    first, _ = make(0, only="generator.0")
    state = first.run(ROWS, num_steps=5, batch_size=16, progress=False).state_dict()
    expected = further(first)
    second, _ = make(1, only="generator.0")
    second.load_state_dict(state)
    assert torch.equal(further(second), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"only": "generatr"},
            r"only names 'generatr', but there is no such parameter: there are 'generator.0.weight', "
            r"'generator.0.bias', 'generator.2.weight', 'generator.2.bias'. Use these names or the part before a dot",
        ),
        ({"only": ["generator.0", "generator.1"]}, r"only names 'generator.1', but .* 'generator.0.weight'"),
        ({"only": "generator.0.weigh"}, r"only names 'generator.0.weigh', but there is no such"),
        ({"only": ""}, r"only names '', but there is no such parameter: there are 'generator.0.weight'"),
        ({"exclude": "discriminator"}, r"exclude names 'discriminator', but there is no such .* 'generator.2.bias'"),
        ({"exclude": "generator"}, r"only and exclude leave no parameter to train. Leave at least one"),
        ({"only": "generator.0", "exclude": ["generator.0"]}, r"only and exclude leave no parameter to train"),
        ({"only": []}, r"only and exclude leave no parameter to train"),
    ],
    ids=in_order,
)
def test_a_choice_that_can_not_be_is_refused_and_nothing_has_changed(options, message):
    generator, discriminator = networks(batch_norm=True)
    network = nn.Sequential(generator[0], generator[2], generator[3])  # layers 0 and 2 have parameters
    tensors = [*network.parameters(), *discriminator.parameters(), *discriminator.buffers()]
    before, random_state = [tensor.detach().clone() for tensor in tensors], torch.get_rng_state()
    inference = GANInference(network_model(network, 2), discriminator, **options)
    with pytest.raises(ValueError, match=message):
        inference.step(ROWS)
    assert all(torch.equal(*pair) for pair in zip(before, tensors, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(pyro.get_param_store()) == 0
    assert inference.num_steps_taken == 0


@pytest.mark.parametrize("value", [3, [3], {"loc": True}, [None], True, b"loc"])
@pytest.mark.parametrize("argument", ["only", "exclude"])
def test_what_is_no_name_is_refused(argument, value):
    message = rf"{argument} must be a parameter's name or a list of names, but is "
    with pytest.raises(TypeError, match=message):
        GANInference(location_scale_model, scalar_discriminator(4), **{argument: value})


def test_exclude_is_no_none():
    with pytest.raises(TypeError, match="exclude must be a parameter's name or a list of names, but is None"):
        GANInference(location_scale_model, scalar_discriminator(4), exclude=None)


def test_both_forms_of_a_name_are_one():
    selection = Selection(None, "generator$$$0.weight")
    assert "generator.0.weight" not in selection and "generator$$$0.weight" not in selection
    assert "generator$$$0.bias" in selection
    assert bool(selection) and not bool(Selection(None, ()))
