"""What a lazy penalty costs and saves: the defaults with their penalty taken at each k-th update of the discriminator.

Each row is a run, and is written as soon as it is there. By default the runs are shorter than the examples', so that
all of them fit into an hour on one core; `--length 1` runs the examples' numbers of steps.

    python tests/benchmarks/lazy.py --out docs/benchmarks/lazy.txt

Measures: ring and grid, modes found and the part of samples of high quality; MNIST, Parzen log-likelihood in nats
(it runs where the environment variable PYRO_GAN_DATA names its folder); two moons, a classifier's accuracy (0.5 is
perfect), the mean of four observations.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "evidence"))

import mixture
import mnist
import two_moons
from fitting import implicit_model

from pyro_gan import AutoImplicitGuide, BiGANInference, GANInference
from pyro_gan.criticism import c2st, mode_coverage, parzen_log_likelihood, select_bandwidth
from pyro_gan.penalties import Penalty
from pyro_gan.recipes import default_penalties


def lazy(every: int) -> tuple[Penalty, ...]:
    """The default penalty, taken at each so many updates."""
    (penalty,) = default_penalties()
    penalty.every = every
    return (penalty,)


def of_mixture(name: str) -> Callable[[int, float, dict], tuple[float, str]]:
    """A run of examples/mixture.py."""

    def run(every: int, length: float, options: dict) -> tuple[float, str]:
        data = mixture.DATA[name](100_000)
        generator, discriminator = mixture.network(2, 2), mixture.network(2, 1)
        inference = GANInference(implicit_model(generator, 2), discriminator, penalty=lazy(every))
        seconds = timed(inference, data.rows, int(20_000 * length), 256, options)
        found = mode_coverage(inference.sample(2500), data.centers, data.scale)
        return seconds, f"{found.num_modes:2d} modes {found.high_quality:6.1%}"

    return run


def of_mnist(every: int, length: float, options: dict) -> tuple[float, str]:
    """A run of examples/mnist.py with its default recipe."""
    training, validation, test = map(mnist.grey, mnist.load("mnist"))
    generator, discriminator = mnist.networks("default", 784)
    inference = GANInference(implicit_model(generator, mnist.NOISE_SIZE), discriminator, penalty=lazy(every))
    seconds = timed(inference, training, int(15_000 * length), 128, options)
    samples = inference.sample(10_000)
    estimate = parzen_log_likelihood(samples, test[:2000], select_bandwidth(samples, validation))
    return seconds, f"{estimate.mean:6.1f} nats"


def of_two_moons(every: int, length: float, options: dict) -> tuple[float, str]:
    """Posteriors of two moons by all defaults."""
    theta = two_moons.PRIOR.sample((10_000,))
    data = {"theta": theta, "x": two_moons.simulate(theta)}
    guide = AutoImplicitGuide(two_moons.model, observed="x")
    inference = BiGANInference(two_moons.model, guide, penalty=lazy(every))
    seconds = timed(inference, data, int(15_000 * length), 256, options)
    pyro.set_rng_seed(1)
    accuracies = [
        c2st(two_moons.exact_posterior(x, 2000), inference.sample_posterior(x, 2000)["theta"])
        for x in two_moons.simulate(two_moons.PRIOR.sample((4,)))
    ]
    return seconds, f"{sum(accuracies) / 4:.3f} C2ST"


def timed(inference: GANInference | BiGANInference, data: object, steps: int, batch_size: int, options: dict) -> float:
    """Seconds of a run."""
    start = time.perf_counter()
    inference.run(data, num_steps=steps, batch_size=batch_size, progress=False, **options)
    return time.perf_counter() - start


RUNS = {"ring": of_mixture("ring"), "grid": of_mixture("grid"), "two_moons": of_two_moons, "mnist": of_mnist}


def main() -> None:
    """Run all, a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--every", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--length", type=float, default=0.3, help="a part of the examples' numbers of steps")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/lazy.txt"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a") as file:
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.length:g} of the examples' steps, "
            f"{'compiled' if args.compile else 'eager'}\nseed  data       every  seconds  found",
            file=file,
            flush=True,
        )
        for seed in args.seeds:
            for name in args.data:
                for every in args.every:
                    pyro.clear_param_store()
                    pyro.set_rng_seed(seed)
                    seconds, found = RUNS[name](every, args.length, {"compile": args.compile})
                    print(f"{seed:4d}  {name:9s}  {every:5d}  {seconds:7.0f}  {found}", file=file, flush=True)


if __name__ == "__main__":
    main()
