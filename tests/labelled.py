"""What processes run whose loaders have other labels each."""

import warnings

import pyro
import torch
from test_categories import conditional, loader

from pyro_gan import GANInference, processes

FIRST = [0, 1, 2], [3, 4, 5]
"""The labels of each rank from the first minibatch on."""
LATE = [6], [8, 3]
"""Those that come after it."""


def labelled(folder):
    """What each process knows of labels that a run read, and what it was told, by what the model draws."""
    rank = processes.found().rank
    first, late = (torch.tensor(each[rank]).repeat(48)[:48] for each in (FIRST, LATE))
    cases = {
        "any number of rows": (any_number, first, 5),
        "sixteen rows": (sixteen, first, 5),
        "late ones": (any_number, torch.cat([first, late]), 8),
    }
    found = {name: known(*case) for name, case in cases.items()}
    return processes.found().gathered(found)


def known(make, labels, asked):
    """The labels that a discriminator has coordinates for and that may be asked for, whether one may, and warnings."""
    pyro.clear_param_store()
    inference = GANInference(make())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        inference.run(loader(labels), num_steps=6, progress=False)
    return {
        "kinds": inference.discriminator.function.built()["labels"]["kinds"],
        "categories": inference.state_dict()["conditions"]["labels"]["categories"],
        "shape": tuple(inference.sample(16, asked).shape),
        "refused": refused(inference, 7),
        "told": [str(each.message) for each in told],
    }


def refused(inference, label):
    """What is said to a label that no process has had."""
    try:
        inference.sample(16, label)
    except ValueError as error:
        return str(error)


def any_number():
    """A model of as many rows as there are labels."""
    return conditional(9)


def sixteen():
    """One that refuses to draw another number than a minibatch has."""
    drawn = conditional(9)

    def model(labels):
        if len(labels) != 16:
            raise ValueError("this simulator makes sixteen rows at a time")
        return drawn(labels)

    return model
