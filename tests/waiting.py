"""What processes run that wait for one of them: while it has simulations drawn, evaluates, never answers, or ends."""

import os
import signal
import time
from datetime import timedelta

import pyro
import pyro.distributions as dist
import torch
from torch import distributed, nn

from pyro_gan import GANInference, processes, simulate
from pyro_gan.callbacks import Evaluate
from pyro_gan.processes import ProcessFailed, initialize

SECONDS = 8
"""The timeout. Processes that share a core come later than each other by seconds."""


def rows(batch_size):
    """z ~ N(1, 4), x ~ N(z, 1)."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(1.0, 2.0))
        pyro.sample("x", dist.Normal(z, 1.0))


def broken(batch_size):
    """A simulator that raises in whatever process draws from it."""
    raise RuntimeError(f"the solver of rank {os.environ['RANK']} gave up")


def simulated(folder):
    """What each process has of simulations, how often it drew, and the errors where they can not be had."""
    rank, drawn, errors = processes.found().rank, [], []
    pyro.set_rng_seed(rank)

    def counted(batch_size):
        drawn.append(batch_size)
        rows(batch_size)

    found = {
        "in memory": simulate(counted, 200, seed=1, progress=False),
        "in a folder": simulate(counted, 200, seed=1, folder=folder / "simulations", progress=False),
        "without a seed": simulate(counted, 200, progress=False),
        "number drawn": len(drawn),
        "read again": simulate(rows, 200, folder=folder / "simulations", progress=False),
    }
    for model, place in ((broken, None), (rows, folder / f"elsewhere {rank}")):
        try:
            simulate(model, 200, folder=place, progress=False)
        except (RuntimeError, ValueError) as error:
            errors.append(str(error))
    return processes.found().gathered({**found, "errors": errors})


def met(folder):
    """Wait until all processes have come so far, whatever the timeout; the number of this one."""
    (folder / f"rank {os.environ['RANK']}").touch()
    while len(list(folder.glob("rank *"))) < int(os.environ["WORLD_SIZE"]):
        time.sleep(0.05)
    return int(os.environ["RANK"])


def wait_for(path):
    """Hang until another process has written a file."""
    while not path.exists():
        time.sleep(0.05)


def patient(folder):
    """What is said where one process takes longer than the timeout, and where another never answers."""
    rank = met(folder)
    initialize(timeout=timedelta(seconds=SECONDS))
    calls = []

    def slow(batch_size):
        calls.append(batch_size)
        time.sleep(1.5 * SECONDS if len(calls) == 2 else 0.0)
        rows(batch_size)

    simulations = simulate(slow, 32, seed=1, shard_size=32, progress=False)
    critic = nn.Linear(1, 1)

    def minibatches():
        yield from simulations["x"].split(8)
        if rank == 1:
            wait_for(folder / "told")
            raise SystemExit(0)
        yield simulations["x"][:8]

    def model(batch_size):
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + pyro.sample("e", dist.Normal(torch.zeros(()), 1.0)), event_dim=0)

    def criticism(samples, rows):
        time.sleep(1.5 * SECONDS)
        return 3.0

    inference = GANInference(model, lambda x: critic(x[:, None]).squeeze(1), site="x")
    slowly = Evaluate(criticism, torch.zeros(2), every=2, name="slow")
    try:
        inference.run(minibatches(), num_steps=5, callbacks=slowly, progress=False)
    except ProcessFailed as error:
        (folder / "told").touch()
        return simulations, inference.history["step"][-1], inference.history["slow"], str(error)


def absent(folder):
    """What is said where one process never comes, and where all have come already."""
    if os.environ["RANK"] == "1":
        wait_for(folder / "told")
        raise SystemExit(0)
    try:
        initialize(timeout=timedelta(seconds=3))
    except ProcessFailed as error:
        torch.save(str(error), folder / "absent.pt")
    (folder / "told").touch()
    raise SystemExit(0)


def killed(folder):
    """Simulations in a folder, of whose processes the first one is killed, and how many runs it took after that."""
    calls = []

    def model(batch_size):
        calls.append(batch_size)
        if len(calls) == 6 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        rows(batch_size)

    simulations = simulate(model, 200, seed=1, shard_size=20, folder=folder / "simulations", progress=False)
    return simulations, len(calls)


def unfinished(folder):
    """Processes that end while a long message is under way, whose tensors nobody holds any more."""
    together = processes.found()
    values, every = torch.ones(30_000_000), list(torch.empty(together.size, 30_000_000))
    distributed.all_gather(every, values, group=together.hosts, async_op=True)
    return together.size
