import functools
import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_model, network_model, networks
from torch import nn

from pyro_gan.training.python_state import python_state

COUNT = {"calls": 0}


def counts_in_a_global():
    COUNT["calls"] += 1


def counts_in_a_closure():
    count = 0

    def function():
        nonlocal count
        count += 1

    return function


def appends_to_a_list():
    calls = []
    return lambda: calls.append(1)


def takes_from_a_counter():
    counter = itertools.count()
    return lambda: next(counter)


class Counter:
    def __init__(self):
        self.number = 0

    def __call__(self):
        self.number += 1


class CountingModule(nn.Module):
    def __init__(self):
        super().__init__()
        self._number, self.inner = 0, nn.Linear(1, 1)

    def forward(self):
        self._number += 1


def within(function):
    """A function that calls another."""
    return lambda: function()


@pytest.mark.parametrize(
    "function",
    [
        counts_in_a_global,
        counts_in_a_closure(),
        appends_to_a_list(),
        takes_from_a_counter(),
        Counter(),
        Counter().__call__,
        CountingModule(),
        functools.partial(Counter()),
        within(counts_in_a_closure()),
        within(CountingModule()),
        nn.Sequential(nn.Linear(1, 1), CountingModule())[1],
    ],
)
def test_a_count_is_seen(function):
    before = python_state([function])
    assert python_state([function]) == before
    function()
    assert python_state([function]) != before


def test_steps_of_training_are_no_change():
    generator, discriminator = networks(batch_norm=True)
    guide_numbers, rows = torch.zeros(3), torch.randn(8, 3)

    def guide(x):
        return pyro.sample("z", dist.Delta(guide_numbers.sum() + x.mean()))

    functions = [network_model(generator, 2), discriminator, location_model, guide]
    before = python_state(functions)
    discriminator(functions[0](8))
    with torch.no_grad():
        discriminator[0].weight.add_(1.0), guide_numbers.add_(1.0)
    generator.eval(), guide(rows)
    assert python_state(functions) == before


def test_large_containers_are_read_in_part():
    numbers = list(range(10**6))

    def model():
        return numbers

    assert len(python_state([model])) < 200
