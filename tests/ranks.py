"""What the processes of test_distributed.py run: `python -m torch.distributed.run ... tests/ranks.py NAME FOLDER`.

Each scenario is also called by one process alone, which it is compared with.
"""

import contextlib
import io
import os
import signal
import sys
import warnings
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from labelled import labelled
from shared_noise import SharedNoise
from test_contract import CASES, DATA, MODELS, values
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset
from waiting import absent, killed, patient, simulated, unfinished

from pyro_gan import GANInference, processes
from pyro_gan.callbacks import Callback, EndBeforeOverfitting, Evaluate, KeepBest, StopWhen, WriteCSV
from pyro_gan.inference.contrast import AdaptiveContrast
from pyro_gan.inference.energy import numbers_of, score_of
from pyro_gan.losses import Wasserstein
from pyro_gan.penalties import R1, GradientPenalty, WeightClipping
from pyro_gan.players.discrete import score_function
from pyro_gan.processes import ranges_of, rows_of_all, variances_of

NUM_ROWS, NUM_STEPS = 128, 50
PENALTIES = {
    "default": {},
    "R1": {"penalty": lambda: R1(1.0)},
    "gradient penalty": {"penalty": lambda: GradientPenalty(1.0)},
    "weight clipping": {"penalty": lambda: WeightClipping(0.05)},
}
ALL = [(case, penalty) for case in CASES for penalty in PENALTIES]
SOME = list(zip(CASES, [*PENALTIES] * 2, strict=True))
"""Each class once, and each penalty twice."""


def place():
    """Which process this is, and of how many."""
    found = processes.found()
    return (0, 1) if found is None else (found.rank, found.size)


def minibatches():
    """The rows of this process in each step, from the first of which on all draw from one seed."""
    rank, size = place()
    pyro.set_rng_seed(2)
    part = NUM_ROWS // size
    step = 0
    while True:
        rows = DATA[(step * NUM_ROWS) % 3968 :][:NUM_ROWS]
        yield rows[part * rank : part * (rank + 1)]
        step += 1


def trained(case, penalty, num_steps=NUM_STEPS, start=None, **options):
    """The parameters after so many steps on minibatches of 128 rows of all processes, and the state at their beginning.

    Networks build themselves by draws, and what those are hangs on how many there are; so all begin at one state.
    """
    given = {name: make() for name, make in PENALTIES[penalty].items()}
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    inference = CASES[case].build(MODELS["model(x)"], **given)
    inference.run(minibatches(), num_steps=1, progress=False)
    start = inference.state_dict() if start is None else start
    inference.load_state_dict(start)
    with SharedNoise(*place(), NUM_ROWS):
        inference.run(minibatches(), num_steps=num_steps, progress=False, **options)
    return values(inference), start


def equal(folder, **options):
    """The parameters of all cases and penalties, from the states that one process has written."""
    cases = torch.load(folder / "cases.pt")
    return {key: trained(*key, num_steps, start, **options)[0] for key, (num_steps, start) in cases.items()}


def gaussian(width=8, kind=GANInference, **options):
    """An inference of a location, from networks that differ from process to process in their numbers."""
    pyro.clear_param_store()
    torch.manual_seed(place()[0])
    network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))

    def model(batch_size):
        loc = pyro.param("loc", torch.randn(()))
        with pyro.plate("data", batch_size):
            x = loc + pyro.sample("e", dist.Normal(torch.zeros(()), 1.0))
            return pyro.deterministic("x", x, event_dim=0)

    return kind(model, lambda x: network(x[:, None]).squeeze(1), site="x", **options)


def facts(folder):
    """What each process has after a run: parameters, a draw, the rows that it saw, and what it wrote."""
    seen = []

    def transform(rows):
        seen.append(rows.clone())
        return rows

    inference = gaussian()
    pyro.set_rng_seed(0)
    told = WriteCSV(folder / f"history{place()[0]}.csv")
    stop = StopWhen(lambda inference: place()[0] == 1 and inference.clock.step == 9)
    best = [Evaluate(lambda rows, _: torch.rand(()), torch.zeros(1), every=2, name="luck"), KeepBest("luck")]
    with contextlib.redirect_stderr(io.StringIO()) as spoken:
        inference.run(
            torch.arange(20.0),
            num_steps=50,
            batch_size=2,
            transform=transform,
            callbacks=[told, stop, *best],
            on_divergence="skip",
            progress=True,
            print_every=1,
        )
    mine = {
        "parameters": values(inference),
        "draw": inference.sample(4),
        "seen": torch.stack(seen),
        "history": inference.history,
        "steps": inference.num_steps_taken,
        "best": best[1].step,
        "told": spoken.getvalue(),
    }
    return processes.found().gathered(mine)


def loaders(folder):
    """The rows that a loader with a DistributedSampler and a data set give each process, in two epochs."""
    found = []
    rows = torch.arange(24.0)
    sampler = DistributedSampler(TensorDataset(rows), *place()[::-1], seed=1)
    for data in (DataLoader(TensorDataset(rows), 3, sampler=sampler), Rows()):
        seen = []
        inference = gaussian()
        inference.run(
            data, num_steps=8, batch_size=3, progress=False, transform=lambda x, s=seen: (s.append(x.clone()), x)[1]
        )
        found.append(torch.cat(seen))
    return processes.found().gathered(found)


class Rows(Dataset):
    """A data set of 24 numbers."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.tensor(float(index))


def compiled(folder):
    """The same with compiled gradients; an error where any had to be computed eagerly after all."""
    warnings.simplefilter("error", RuntimeWarning)
    return equal(folder, compile=True)


def reported(folder):
    """What each process prints of rows that it kept apart, and what it was told."""
    inference = gaussian()
    with contextlib.redirect_stdout(io.StringIO()) as spoken, contextlib.redirect_stderr(io.StringIO()):
        inference.run(torch.randn(200, generator=torch.Generator().manual_seed(0)), num_steps=5, held_out=0.2)
    return processes.found().gathered((spoken.getvalue(), str(inference.report)))


def ended_early(folder):
    """The steps of a run whose held-out rows fit ever worse on the first process, and ever better on the other."""

    class Scored(GANInference):
        def schedule(self, batches):
            slope = [1.0, -1.0][place()[0]]
            return [EndBeforeOverfitting(lambda: slope * self.clock.done + torch.randn(100))]

    inference = gaussian(kind=Scored).run(torch.arange(20.0), num_steps=1000, batch_size=2, progress=False)
    return processes.found().gathered(inference.num_steps_taken)


class Asked(Callback):
    """Sends the second process two requests to end after step 40, and never ends a run by itself."""

    ends_runs = False

    def on_step(self, inference):
        if place()[0] == 1 and inference.clock.step == 40:
            for _ in range(2):  # as of a scheduler and of torchrun, which hands it on
                os.kill(os.getpid(), signal.SIGTERM)


def asked_to_end(folder):
    """The steps of a run that one process is asked to end, and how often the processes have asked each other."""
    inference, asks, greatest = gaussian(), [], processes.Processes.greatest
    processes.Processes.greatest = lambda self, *numbers: asks.append(numbers) or greatest(self, *numbers)
    try:
        inference.run(torch.arange(20.0), num_steps=100_000, batch_size=2, callbacks=Asked(), progress=False)
    except SystemExit as error:
        return processes.found().gathered((inference.num_steps_taken, len(asks), error.code))
    finally:
        processes.Processes.greatest = greatest


def other_networks(folder):
    """The errors of processes whose networks have other widths."""
    inference = gaussian(width=8 + place()[0])
    try:
        inference.step(torch.zeros(4))
    except ValueError as error:
        return processes.found().gathered((str(error), inference.num_steps_taken))


def other_arrays(folder):
    """The errors of processes that are given other data."""
    try:
        gaussian().run(torch.arange(20.0) + place()[0], num_steps=1, progress=False)
    except ValueError as error:
        return processes.found().gathered(str(error))


def few_rows(folder):
    """The errors of processes that have more than the rows."""
    try:
        gaussian().run(torch.zeros(1), num_steps=1, progress=False)
    except ValueError as error:
        return processes.found().gathered(str(error))


def uneven(folder):
    """The mean of real rows, of which the processes have 1 and 3, and the gradient of a loss that is linear in them."""
    slope = torch.nn.Parameter(torch.zeros(()))
    rows = torch.tensor([[1.0], [4.0, 6.0, 9.0]][place()[0]])

    def model(batch_size):
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", pyro.param("loc", torch.zeros(())).expand(batch_size), event_dim=0)

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = slope

        def forward(self, x):
            return self.slope * x

    pyro.clear_param_store()
    optim = pyro.optim.SGD({"lr": 1.0})
    inference = GANInference(model, Critic(), optim, pyro.optim.SGD({"lr": 1.0}), loss=Wasserstein(), penalty=[zero])
    inference.step(rows, player="discriminator")
    return processes.found().gathered((torch.tensor(20.0 / 4), slope.detach().clone()))


def zero(judgement):
    """No penalty."""
    return judgement.real_logits.sum() * 0


def normalized(folder):
    """Batch statistics after a run whose processes saw other rows, and the error where they are to be of all rows."""
    answers = []
    for convert in (lambda network: network, nn.SyncBatchNorm.convert_sync_batchnorm):
        pyro.clear_param_store()
        network = convert(nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)))

        def model(batch_size, network=network):
            pyro.module("network", network)
            with pyro.plate("data", batch_size):
                e = pyro.sample("e", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                return pyro.deterministic("x", network(e), event_dim=1)

        try:
            GANInference(model, nn.Linear(1, 1)).run(
                torch.randn(40, 1, generator=torch.Generator().manual_seed(0)), num_steps=5, progress=False
            )
        except ValueError as error:
            answers.append(str(error))
        answers.append({name: each.clone() for name, each in network.named_buffers()})
    return processes.found().gathered(answers)


def diverged(folder):
    """The errors of processes of which one has draws that are not finite."""
    inference, state = gaussian(), {"is_broken": False}

    def model(batch_size):
        factor = torch.tensor(torch.nan if state["is_broken"] and place()[0] == 1 else 1.0)
        with pyro.plate("data", batch_size):
            x = factor * pyro.param("loc", torch.zeros(())) + pyro.sample("e", dist.Normal(torch.zeros(()), 1.0))
            return pyro.deterministic("x", x, event_dim=0)

    pyro.clear_param_store()
    inference = GANInference(model, nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1)), site="x")
    inference.step(torch.zeros(4))
    state["is_broken"] = True
    try:
        inference.step(torch.zeros(4))
    except ValueError as error:
        return processes.found().gathered(str(error))


def questions(folder):
    """What one process is answered while the other asks nothing."""
    inference = gaussian()
    inference.step(torch.zeros(4))
    answers = None
    if place()[0] == 0:
        report = inference.check(torch.randn(40))
        answers = tuple(inference.sample(6).shape), bool(report.table)
    return processes.found().gathered(answers)


def statistics(folder):
    """Statistics of the rows of all, of which the processes have 2 and 3, and what they are of all rows together."""
    rows = torch.tensor([[1.0, 2.0], [4.0, 0.0], [3.0, 3.0], [9.0, -1.0], [0.5, 7.0]])
    own = [rows[:2], rows[2:]][place()[0]]
    supports = {"z": dist.constraints.real_vector}

    def found(rows):
        moved = rows.clone().requires_grad_()
        score = len(rows) * score_function([rows[:, 0]], [moved[:, 0]])
        (gradient,) = torch.autograd.grad(score, moved)
        energy = score_of(*numbers_of(({"z": rows + 1}, {"z": rows - 1}, {"z": rows}), {"z": rows}, supports))
        mean = AdaptiveContrast(supports, {"z": rows}).normal.mean
        far = variances_of(1e9 + rows.double())()
        return [variances_of(rows)(), far, ranges_of(rows)(), rows_of_all(rows), mean, energy, gradient]

    with processes.as_one(processes.found()):
        of_all = found(own)
    apart = found(rows)
    part = [slice(2), slice(2, 5)][place()[0]]
    return processes.found().gathered(list(zip(of_all, [*apart[:5], *(each[part] for each in apart[5:])], strict=True)))


def quick(folder):
    """All that is quick, in one start of the processes."""
    every = [
        facts,
        loaders,
        other_networks,
        other_arrays,
        few_rows,
        uneven,
        diverged,
        questions,
        statistics,
        simulated,
        normalized,
        reported,
        ended_early,
        asked_to_end,
        labelled,
    ]
    return {each.__name__: each(folder) for each in every}


def kept(folder):
    """A run with checkpoints, in which a process may be killed, or told to end, at step 12."""
    rank, _ = place()
    inference = gaussian()
    pyro.set_rng_seed(0)
    act = os.environ.get("PYRO_GAN_TEST_ACT")
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))

    def condition(inference):
        if act and inference.clock.step == 12 and rank == 1 and restarts == 0:
            if act == "raise":
                raise OverflowError("too much of it")
            os.kill(os.getpid(), signal.SIGKILL if act == "kill" else signal.SIGTERM)
        return False

    rows, options = torch.arange(20.0) / 10, {"batch_size": 4}
    if "PYRO_GAN_TEST_UNEVEN" in os.environ:
        parts = [torch.arange(7).tolist(), [7 + rank, 8, 9], torch.arange(10, 20).tolist()]
        rows, options = DataLoader(TensorDataset(rows), batch_sampler=parts), {}
    inference.run(
        rows,
        num_steps=30,
        **options,
        callbacks=StopWhen(condition),
        checkpoint=folder / "checkpoints",
        checkpoint_every=5,
        progress=False,
    )
    return values(inference), inference.history["discriminator_loss"], inference.num_steps_taken


SCENARIOS = {each.__name__: each for each in (quick, equal, compiled, kept, patient, absent, killed, unfinished)}


def main(name, folder):
    found = SCENARIOS[name](Path(folder))
    if place()[0] == 0:
        torch.save(found, Path(folder) / f"{name}.pt")


if __name__ == "__main__":
    if "PYRO_GAN_TEST_DOUBLE" in os.environ:
        torch.set_default_dtype(torch.float64)
        DATA = DATA.double()
    main(*sys.argv[1:])
