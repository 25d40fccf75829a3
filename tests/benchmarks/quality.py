"""Time to quality: seconds of processor until a run is as good as one wants, for the default recipe and Edward's.

The grid shall have all 25 modes and 90 % high quality (examples/mixture.py), MNIST a Parzen log-likelihood of 200 nats
(examples/mnist.py, where the environment variable PYRO_GAN_DATA names its folder). A run is looked at every so many
steps; the looks' time does not count, the time to compile does.

    python tests/benchmarks/quality.py --out docs/benchmarks/quality.txt
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

import mixture
import mnist
from evidence.fitting import implicit_model

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback
from pyro_gan.criticism import mode_coverage, parzen_log_likelihood, select_bandwidth
from pyro_gan.recipes import edward


class Until(Callback):
    """Ends a run when its samples are good enough.

    Args:
        quality: From samples to how good they are, in words, and whether that is enough.
        every: The number of steps between looks.
        num_samples: The samples of a look.
    """

    def __init__(self, quality: Callable[[torch.Tensor], tuple[str, bool]], every: int, num_samples: int) -> None:
        self.quality, self.every, self.num_samples = quality, every, num_samples

    def on_start(self, inference: Any, num_steps: int) -> None:
        self.start, self.found, self.step = time.process_time(), "", 0

    def on_step(self, inference: Any) -> bool:
        if inference.num_steps_taken % self.every:
            return False
        self.seconds, now = time.process_time() - self.start, time.process_time()
        self.found, is_enough = self.quality(inference.sample(self.num_samples))
        self.start += time.process_time() - now
        self.step, self.is_enough = inference.num_steps_taken, is_enough
        return is_enough


def grid(recipe: dict[str, Any], options: dict[str, Any], length: float) -> Until:
    """A run of examples/mixture.py, or a part of it."""
    data = mixture.DATA["grid"](100_000)

    def quality(samples: torch.Tensor) -> tuple[str, bool]:
        found = mode_coverage(samples, data.centers, data.scale)
        is_enough = found.num_modes == 25 and found.high_quality >= 0.9
        return f"{found.num_modes} modes, {found.high_quality:.1%}", is_enough

    until = Until(quality, round(1000 * length), 10_000)
    inference = GANInference(implicit_model(mixture.network(2, 2), 2), mixture.network(2, 1), **recipe)
    inference.run(
        data.rows, num_steps=round(20_000 * length), batch_size=256, progress=False, callbacks=[until], **options
    )
    return until


def digits(recipe: dict[str, Any], options: dict[str, Any], length: float) -> Until:
    """A run of examples/mnist.py, or a part of it."""
    training, validation, test = mnist.load("mnist")
    is_classic = bool(recipe)

    def quality(samples: torch.Tensor) -> tuple[str, bool]:
        sigma = select_bandwidth(samples, mnist.grey(validation))
        estimate = parzen_log_likelihood(samples, mnist.grey(test[:2000]), sigma)
        return f"{estimate.mean:.1f} nats", estimate.mean >= 200

    until = Until(quality, round(1500 * length), 10_000)
    generator, discriminator = mnist.networks("edward" if is_classic else "default", 784)
    inference = GANInference(implicit_model(generator, mnist.NOISE_SIZE), discriminator, **recipe)
    transform = mnist.binarize if is_classic else mnist.grey
    num_steps = round(15_000 * length)
    inference.run(training, num_steps=num_steps, transform=transform, progress=False, callbacks=[until], **options)
    return until


def main() -> None:
    """Run all, a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=["grid", "mnist"], default=["grid", "mnist"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=float, default=1.0, help="a part of the examples' numbers of steps")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/quality.txt"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    recipes = {"default": ({}, {}), "default, compiled": ({}, {"compile": True}), "Edward's": (edward(), {})}
    with args.out.open("a") as file:

        def tell(line: str) -> None:
            print(line, file=file, flush=True)
            print(line, flush=True)

        tell(f"torch {torch.__version__}, {torch.get_num_threads()} threads, seed {args.seed}; seconds of processor")
        for name in args.data:
            for recipe, (options, run_options) in recipes.items():
                pyro.clear_param_store()
                pyro.set_rng_seed(args.seed)
                until = (grid if name == "grid" else digits)(options, run_options, args.length)
                reached = "reached" if until.is_enough else "NOT reached"
                tell(f"{name:6s} {recipe:18s} {until.seconds:7.0f} s, step {until.step:6d}: {until.found}  ({reached})")


if __name__ == "__main__":
    main()
