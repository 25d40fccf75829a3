"""Posteriors of four simulators by the three lines of this package, and by sbi's NPE, against reference draws.

Simulations, observations, reference draws and the classifier two-sample test are the same for both, and both run with
their defaults; ours takes `--num-steps` steps of 256, as `compiled` by `run(..., compile=True)`. Seconds are of the
processor, for training alone, the compiler's included. NPE runs where sbi is installed.

    python examples/evidence/posteriors.py --methods ours --out output/evidence
    python examples/evidence/posteriors.py --methods npe --out output/evidence

References:
    Lueckmann et al. (2021), "Benchmarking Simulation-Based Inference" (tasks, test).
    Greenberg, Nonnenmacher and Macke (2019), "Automatic Posterior Transformation for Likelihood-Free Inference" (NPE).
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pyro
from records import complete
from simulators import TASKS, Task
from torch import Tensor

from pyro_gan import AutoImplicitGuide, BiGANInference
from pyro_gan.criticism import c2st

NUM_DRAWS = 2000

Sampler = Callable[[Tensor], Tensor]
"""From one observation to draws of the posterior."""


def ours(task: Task, simulations: dict[str, Tensor], num_steps: int, compile: bool = False) -> Sampler:
    """The three lines."""

    def simulator(batch_size: int) -> Tensor:
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", task.prior)
            return pyro.deterministic("x", task.simulate(theta), event_dim=1)

    inference = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x"))
    inference.run(simulations, num_steps=num_steps, batch_size=256, progress=False, compile=compile)
    return lambda x: inference.sample_posterior(x, NUM_DRAWS)["theta"]


def npe(task: Task, simulations: dict[str, Tensor], num_steps: int) -> Sampler:
    """sbi's neural posterior estimation by defaults, which finds its number of steps itself."""
    return neural_posterior(task.prior, simulations["theta"], simulations["x"], NUM_DRAWS)


def neural_posterior(prior: Any, theta: Tensor, x: Tensor, num_draws: int) -> Sampler:
    """The same of rows of parameters and of observations, each with shape `(num_rows, size)`.

    In one dimension sbi's default flow is a Gaussian, and a spline flow takes its place.
    """
    from sbi.inference import NPE

    flow = "nsf" if theta.shape[1] == 1 else "maf"
    inference = NPE(prior=prior, density_estimator=flow, show_progress_bars=False)
    inference.append_simulations(theta, x).train()
    posterior = inference.build_posterior()
    return lambda x: posterior.sample((num_draws,), x=x.reshape(1, -1), show_progress_bars=False)


METHODS = {"ours": ours, "compiled": partial(ours, compile=True), "npe": npe}


def processor_seconds() -> float:
    """Of this process and of those that it has started, as a compiler."""
    return sum(os.times()[:4])


def run(
    method: str, task: str, seed: int, num_simulations: int, num_steps: int, num_observations: int
) -> dict[str, Any]:
    """Train once, and compare draws for some observations with the reference."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    simulator = TASKS[task]
    theta = simulator.prior.sample((num_simulations,))
    simulations = {"theta": theta, "x": simulator.simulate(theta)}
    start = processor_seconds()
    sample = METHODS[method](simulator, simulations, num_steps)
    processor = processor_seconds() - start

    pyro.set_rng_seed(1000)  # the same observations, whatever the seed of the run
    observations = simulator.simulate(simulator.prior.sample((num_observations,)))
    references = [simulator.reference(x, NUM_DRAWS) for x in observations]
    start = time.process_time()
    draws = [sample(x) for x in observations]
    sampling = (time.process_time() - start) / num_observations
    accuracies = [c2st(one, other) for one, other in zip(references, draws, strict=True)]
    return {
        "c2st": round(sum(accuracies) / num_observations, 4),
        "worst": round(max(accuracies), 4),
        "processor": round(processor, 1),
        "sampling_ms": round(1000 * sampling, 2),
    }


def settings(args: argparse.Namespace, num_quick_observations: int) -> list[dict[str, Any]]:
    """What names each run that the command line asks for."""
    quick = (300, 20, num_quick_observations)
    sizes = quick if args.quick else (args.num_simulations, args.num_steps, args.num_observations)
    return [
        dict(zip(("method", "task", "seed", "num_simulations", "num_steps", "num_observations"), each, strict=True))
        for each in itertools.product(args.methods, args.tasks, args.seeds, *([size] for size in sizes))
    ]


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    complete(args.out / "posteriors.csv", settings(args, 1), run)


def command_line(
    description: str, tasks: Collection[str], num_steps: int, num_observations: int
) -> argparse.ArgumentParser:
    """The arguments of a comparison of methods on these tasks, with defaults for its sizes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=["ours"], help="ways to infer; npe needs sbi"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(tasks), default=list(tasks), help="simulators to infer")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a run for each")
    parser.add_argument("--num-simulations", type=int, default=10_000, help="simulations to learn from")
    parser.add_argument("--num-steps", type=int, default=num_steps, help="steps of training")
    parser.add_argument(
        "--num-observations", type=int, default=num_observations, help="observations to compare posteriors for"
    )
    parser.add_argument("--quick", action="store_true", help="300 simulations, 20 steps, an observation or two")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table")
    return parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return command_line(__doc__, TASKS, num_steps=5000, num_observations=10)


if __name__ == "__main__":
    main(parser().parse_args())
