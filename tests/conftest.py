import os
import signal

import matplotlib
import pyro
import pytest
import torch

matplotlib.use("Agg")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; the tests are of a terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the tests' tensors are too small to share among threads
os.environ["OMP_NUM_THREADS"] = "1"  # and in the processes that tests start, one of which runs on each core


@pytest.fixture(autouse=True)
def fresh_parameters_and_seed():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()


@pytest.fixture
def graphs_as_traced(monkeypatch):
    """The traced operations run as they are: machine code of them, which takes seconds to make, is tested elsewhere."""
    monkeypatch.setattr("pyro_gan.training.compiled.inductor", lambda graph, examples: graph)
