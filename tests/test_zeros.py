"""Products with zeros are left out of a penalty's gradient, and its numbers stay the same."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_gan.training.zeros import ZERO_BY_INPUT, without_zeros


class Operations(TorchDispatchMode):
    """Counts what is called."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def gradients(network, rows, is_short):
    """The gradients of a penalty's and a plain loss's sum by the parameters, and how many products they take."""
    between = rows.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
    penalty = slope.square().sum()
    if is_short:
        without_zeros(penalty)
    with Operations() as operations:
        found = torch.autograd.grad(penalty + network(rows).mean(), list(network.parameters()))
    return found, operations.counts["aten.mm.default"]


def layers(*activations):
    modules = [part for activation in activations for part in (nn.Linear(6, 6), activation)]
    return nn.Sequential(*modules, nn.Linear(6, 1))


NETWORKS = {
    "relu": lambda: layers(nn.ReLU(), nn.ReLU(), nn.ReLU()),
    "leaky": lambda: layers(nn.LeakyReLU(0.2), nn.LeakyReLU(0.2)),
    "smooth between": lambda: layers(nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.2)),
    "smooth": lambda: layers(nn.Softplus(), nn.SiLU()),
    "bounded": lambda: layers(nn.Hardtanh(), nn.ReLU6()),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.LeakyReLU(0.2), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(8, 1)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_the_same_to_the_last_bit(name):
    torch.manual_seed(0)
    network, rows = NETWORKS[name](), 2 * torch.randn(20, 6)
    (plain, of_all), (short, of_some) = gradients(network, rows, False), gradients(network, rows, True)
    assert all(map(torch.equal, plain, short))
    assert any(value.any() for value in plain)
    assert of_some == of_all if name in ("smooth", "convolutions") else of_some < of_all


def test_of_rectifiers_no_layer_below_is_multiplied_by_zeros():
    torch.manual_seed(0)
    network = layers(nn.ReLU(), nn.ReLU(), nn.ReLU())
    (_, of_all), (_, of_some) = (gradients(network, torch.randn(20, 6), is_short) for is_short in (False, True))
    assert of_all - of_some == 5  # of the lower two layers by weights and by rows, of the lowest by weights alone


FUNCTIONS = {
    "Threshold": functional.relu,
    "LeakyRelu": functional.leaky_relu,
    "Hardtanh": functional.hardtanh,
    "RreluWithNoise": lambda x: functional.rrelu(x, training=True),
    "Hardshrink": functional.hardshrink,
    "Softshrink": functional.softshrink,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_of_them_has_a_second_derivative_of_zero(name):
    assert f"{name}BackwardBackward0" in ZERO_BY_INPUT and len(FUNCTIONS) == len(ZERO_BY_INPUT)
    x = torch.linspace(-2.0, 2.0, 9, requires_grad=True)
    (slope,) = torch.autograd.grad((FUNCTIONS[name](x * 1.5)).square().sum(), x, create_graph=True)
    nodes, told = [slope.grad_fn], []
    while nodes:
        node = nodes.pop()
        if node.name() == f"{name}BackwardBackward0":
            node.register_hook(lambda by_inputs, _: told.append(by_inputs))
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    slope.sum().backward()
    assert told and all(by_inputs[0].any() and not by_inputs[1].any() for by_inputs in told)
