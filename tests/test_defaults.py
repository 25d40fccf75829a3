"""The defaults on data whose modes can be counted, by the network and the budget of examples/mixture.py."""

import argparse
import importlib.util
from pathlib import Path

import pyro
import pytest

from pyro_gan.criticism import mode_coverage

PATH = Path(__file__).parent.parent / "examples" / "mixture.py"


def fitted(name, num_steps):
    """Samples of the example's model after that many steps, and the data."""
    spec = importlib.util.spec_from_file_location("mixture", PATH)
    mixture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mixture)
    pyro.set_rng_seed(11)  # none of those that the defaults were chosen on
    data = mixture.DATA[name](100_000)
    arguments = argparse.Namespace(recipe="default", num_steps=num_steps, progress=False)
    return mode_coverage(mixture.fit(data, arguments).sample(2500), data.centers, data.scale)


def assert_all_modes_are_found(found, num_modes):
    assert found.num_modes == num_modes
    assert found.high_quality >= 0.8
    assert found.reverse_kl < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name, num_modes", [("ring", 8), ("grid", 25)])
def test_all_modes_are_found_with_nothing_tuned(name, num_modes):
    with pytest.raises(AssertionError):
        assert_all_modes_are_found(fitted(name, num_steps=1), num_modes)
    assert_all_modes_are_found(fitted(name, num_steps=20_000), num_modes)
