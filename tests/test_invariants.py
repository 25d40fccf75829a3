"""What makes training possible is seen at each step, not at the first alone."""

import copy
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator
from torch import nn

from pyro_gan import BiGANInference, GANInference

ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
NUMBERS = ROWS[:, 0]


class Notebook:
    """A model over a network that a cell may make again, as in a notebook."""

    def __init__(self):
        self.generator, self.discriminator = networks()
        self.detaches = self.leaves_out = False

    def model(self, batch_size):
        if not self.leaves_out:
            pyro.module("generator", self.generator)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            x = self.generator(z)
            pyro.deterministic("x", x.detach() if self.detaches else x, event_dim=1)


def run_again(notebook):
    notebook.generator = networks()[0]


def copied(notebook):
    notebook.generator = copy.deepcopy(notebook.generator)


def detached(notebook):
    notebook.detaches = True


def vanished(notebook):
    notebook.leaves_out = True


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            run_again,
            r"carries no gradient to any parameter of the model \('generator\$\$\$0.weight'.*clear_param_store",
        ),
        (copied, r"carries no gradient to any parameter of the model \('generator\$\$\$0.weight'.*clear_param_store"),
        (detached, r"carries no gradient to any parameter of the model \('generator\$\$\$0.weight'"),
        (vanished, "the model has no parameters to train: it registers none"),
    ],
)
def test_a_generator_that_is_no_longer_trained_is_told_at_the_next_run(change, message, compile, request):
    if compile:
        request.getfixturevalue("graphs_as_traced")
    notebook = Notebook()
    inference = GANInference(notebook.model, notebook.discriminator)
    inference.run(ROWS, num_steps=3, batch_size=16, progress=False, compile=compile)
    change(notebook)
    before = {name: leaf.detach().clone() for name, leaf in inference.model.parameters.items()}
    if compile:  # which tells that draws differ before the generator's turn comes
        warnings.simplefilter("ignore", RuntimeWarning)
    with pytest.raises(ValueError, match=message):
        inference.run(ROWS, num_steps=500, batch_size=16, progress=False, compile=compile)
    assert all(torch.equal(inference.model.parameters[name], value) for name, value in before.items())


def test_a_part_that_is_made_again_is_named():
    notebook = Notebook()
    inference = GANInference(notebook.model, notebook.discriminator).run(ROWS, num_steps=2, progress=False)
    notebook.generator[0] = nn.Linear(2, 8)
    with pytest.raises(
        ValueError, match=r"depends on tensors that require a gradient but are not registered.*\(8, 2\)"
    ):
        inference.step(ROWS)


def test_a_discriminator_that_stops_depending_on_its_parameters_is_told():
    network, detaches = nn.Linear(1, 1), []

    def discriminator(x):
        logits = network(x[:, None])
        return logits.detach() if detaches else logits

    inference = GANInference(location_model, discriminator)
    inference.step(NUMBERS)
    detaches.append(True)
    with pytest.raises(ValueError, match="logits depend on none of its parameters at this step"):
        inference.step(NUMBERS)


def test_a_discriminator_that_the_user_freezes_rests():
    network = nn.Linear(1, 1)
    inference = GANInference(location_model, lambda x: network(x[:, None]))
    inference.step(NUMBERS)
    network.requires_grad_(False)
    before, loc = network.weight.clone(), pyro.param("loc").item()
    inference.step(NUMBERS)
    assert torch.equal(network.weight, before) and pyro.param("loc").item() != loc


def test_a_branch_without_parameters_may_be_taken_for_a_few_steps():
    branch = [True]

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", loc + eps if branch[0] else eps, event_dim=0)

    inference = GANInference(model, scalar_discriminator(4))
    for number in range(60):
        branch[0] = number % 20 < 5 or number == 0
        inference.step(NUMBERS)
    assert pyro.param("loc").item() != 0.0
    branch[0] = False
    with pytest.raises(ValueError, match="carries no gradient to any parameter"):
        inference.run(NUMBERS, num_steps=100, progress=False)


def test_parameters_that_take_turns_are_all_trained():
    turn = [0]

    def model(batch_size):
        locs = [pyro.param(f"loc_{number}", torch.tensor(0.0)) for number in (0, 1)]
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", locs[turn[0]] + eps, event_dim=0)

    inference = GANInference(model, scalar_discriminator(4))
    for number in range(6):
        turn[0] = number % 2
        inference.step(NUMBERS)
    assert pyro.param("loc_0").item() != 0 and pyro.param("loc_1").item() != 0


def test_a_part_that_is_detached_later_is_told_of_once_and_then_refused_unless_it_is_frozen():
    detaches = []

    def model(batch_size):
        loc, scale = pyro.param("loc", torch.tensor(0.0)), pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", loc + (scale.detach() if detaches else scale) * eps, event_dim=0)

    inference = GANInference(model, scalar_discriminator(4)).run(NUMBERS, num_steps=2, progress=False)
    detaches.append(True)
    with pytest.warns(
        RuntimeWarning, match="have had no gradient for 100 steps, as they had before.*: 'scale'"
    ) as told:
        inference.run(NUMBERS, num_steps=250, progress=False)
    assert len(told) == 1
    with pytest.raises(
        ValueError, match=r"no gradient for 1000 steps, as they had before.*: 'scale'\. Leave .* freeze"
    ):
        inference.run(NUMBERS, num_steps=1000, progress=False)
    pyro.get_param_store()._params["scale"].requires_grad_(False)
    inference.run(NUMBERS, num_steps=20, progress=False)


def test_a_guide_whose_network_is_made_again_is_told():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    encoder = [nn.Linear(1, 1)]

    def guide(x):
        pyro.module("encoder", encoder[0])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder[0](x[:, None]).squeeze(1), 1.0))

    inference = BiGANInference(model, guide).run(NUMBERS, num_steps=2, progress=False)
    encoder[0] = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"carries no gradient to any parameter .*'encoder\$\$\$weight'"):
        inference.run(NUMBERS, num_steps=2, progress=False)


def test_parameters_that_are_cleared_and_registered_again_go_on():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, 2), discriminator)
    inference.step(ROWS)
    pyro.clear_param_store()
    before = generator[0].weight.detach().clone()
    inference.step(ROWS)
    assert not torch.equal(generator[0].weight, before)
