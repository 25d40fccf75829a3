import matplotlib
import pyro
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # the tests' tensors are too small to share among threads


@pytest.fixture(autouse=True)
def fresh_parameters_and_seed():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
