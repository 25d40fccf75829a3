"""Jumps of a network's output: what they add, on which side, and how steeply."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import linear_simulator

from pyro_gan import AutoImplicitGuide
from pyro_gan.auto.jumps import Jumps


@pytest.mark.parametrize(
    ("gates", "sides"), [([9.0, -9.0, 9.0, -9.0], [1, -1, 1, -1]), ([0.0, 0.0, 0.0, 9.0], [0, 0, 0, 1])]
)
def test_a_jump_adds_a_quarter_of_its_height_on_the_side_of_its_gate(gates, sides):
    numbers, heights = torch.tensor([1.0, 2.0]), torch.arange(8.0).reshape(4, 2)
    found = Jumps(2)(torch.cat([numbers, torch.tensor(gates), heights.flatten()]))
    assert torch.allclose(found, numbers + 0.25 * torch.tensor(sides, dtype=torch.float32) @ heights)


def test_a_jump_is_as_steep_as_its_height_at_its_gate_and_flat_beside():
    outputs = torch.tensor([[0.0, gate, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0] for gate in (0.0, 1.0)], requires_grad=True)
    (slopes,) = torch.autograd.grad(Jumps(1)(outputs).sum(), outputs)
    assert slopes[:, 1].tolist() == pytest.approx([30 * 0.25 * 3, 0], abs=1e-6)


@pytest.mark.parametrize("shape", [(), (5,), (3, 5)])
def test_each_row_has_its_own(shape):
    jumps = Jumps(3)
    outputs = torch.randn(*shape, jumps.num_inputs)
    each = torch.stack([jumps(row) for row in outputs.reshape(-1, jumps.num_inputs)])
    assert torch.allclose(jumps(outputs), each.reshape(*shape, 3))


@pytest.mark.parametrize(("num_numbers", "has_jumps"), [(5, True), (6, False)])
def test_draws_of_many_numbers_do_not_jump(num_numbers, has_jumps):
    def model(batch_size):
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", dist.Normal(torch.zeros(num_numbers), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(theta, 1.0).to_event(1))

    guide = AutoImplicitGuide(model, width=8, observed="x")
    guide(x=torch.randn(20, num_numbers))
    assert isinstance(guide.posterior.own.network[-1], Jumps) == has_jumps


def test_guides_of_states_from_before_there_were_jumps_have_none():
    def guide_as(built):
        pyro.clear_param_store()
        guide = AutoImplicitGuide(linear_simulator, width=8, observed="x")
        guide.build_as(built)
        guide(x=torch.randn(20, 2))
        return guide

    guide = guide_as({})
    built = pickle.loads(pickle.dumps(guide.built()))
    again = guide_as(built)
    before = guide_as({site: {key: each[key] for key in each if key != "has_jumps"} for site, each in built.items()})
    assert [isinstance(each.posterior.own.network[-1], Jumps) for each in (guide, again, before)] == [True, True, False]
    again.load_state_dict(guide.state_dict())
