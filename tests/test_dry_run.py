import random

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from pyro_gan.players.first_look import kept_buffers, kept_random_state

CPU = torch.device("cpu")


def draw_everywhere() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002  the legacy state is Pyro's


def buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def normalizing_net() -> nn.Module:
    """A network whose batch statistics are not those it was made with."""
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
    net(torch.randn(8, 2))
    return net


def test_batch_statistics_are_as_before():
    pyro.set_rng_seed(0)
    net = normalizing_net()
    before = buffers(net)
    with kept_buffers():
        net(5 + torch.randn(8, 2))
        net(5 + torch.randn(8, 2))
        assert net[1][0].num_batches_tracked == 3
        assert not torch.equal(net[1][0].running_mean, before["1.0.running_mean"])
    after = buffers(net)
    assert set(after) == {"1.0.running_mean", "1.0.running_var", "1.0.num_batches_tracked"}
    for name, value in before.items():
        assert torch.equal(after[name], value)


def test_batch_statistics_are_as_before_also_after_an_exception():
    pyro.set_rng_seed(0)
    net = normalizing_net()
    before = buffers(net)
    with pytest.raises(ZeroDivisionError), kept_buffers():
        net(5 + torch.randn(8, 2))
        raise ZeroDivisionError
    for name, value in buffers(net).items():
        assert torch.equal(value, before[name])


def test_batch_statistics_are_as_before_where_the_network_itself_fails():
    pyro.set_rng_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(3, 1))
    before = buffers(net)
    with pytest.raises(RuntimeError, match="shapes"), kept_buffers():
        net(torch.randn(8, 2))
    for name, value in buffers(net).items():
        assert torch.equal(value, before[name])


def test_buffers_stay_the_tensors_that_others_hold():
    net = nn.BatchNorm1d(2)
    held = net.running_mean
    with kept_buffers():
        net(torch.ones(4, 2))
    assert net.running_mean is held
    assert held.tolist() == [0.0, 0.0]


def test_power_iteration_of_spectral_norm_is_as_before():
    pyro.set_rng_seed(0)
    net = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5))
    before = buffers(net)
    assert before
    with kept_buffers():
        net(torch.ones(1, 6))
        assert any(not torch.equal(value, before[name]) for name, value in buffers(net).items())
    for name, value in buffers(net).items():
        assert torch.equal(value, before[name])


def test_batch_statistics_change_as_ever_after_the_context():
    net = nn.BatchNorm1d(1, momentum=0.5)
    with kept_buffers():
        net(torch.tensor([[1.0], [3.0]]))
    net(torch.tensor([[1.0], [3.0]]))
    assert net.running_mean.item() == 1.0  # half of the batch's mean 2
    assert net.running_var.item() == 1.5  # half of 1 and half of the batch's unbiased variance 2


def test_random_states_are_as_before():
    pyro.set_rng_seed(11)
    expected = draw_everywhere()
    pyro.set_rng_seed(11)
    with kept_random_state(CPU):
        assert draw_everywhere() == expected
        assert draw_everywhere() != expected
    assert draw_everywhere() == expected


def test_random_states_are_as_before_also_after_an_exception():
    pyro.set_rng_seed(11)
    expected = draw_everywhere()
    pyro.set_rng_seed(11)
    with pytest.raises(ZeroDivisionError), kept_random_state(CPU):
        draw_everywhere()
        raise ZeroDivisionError
    assert draw_everywhere() == expected


def test_seeding_within_the_context_has_no_effect_after_it():
    pyro.set_rng_seed(11)
    expected = draw_everywhere()
    pyro.set_rng_seed(11)
    with kept_random_state(CPU):
        pyro.set_rng_seed(99)
    assert draw_everywhere() == expected


def test_lazy_statistics_start_from_their_beginning():
    module = torch.nn.LazyBatchNorm1d()
    with kept_buffers():
        module(torch.randn(8, 3) + 5)
    assert module.running_mean.tolist() == [0.0, 0.0, 0.0] and module.num_batches_tracked == 0
