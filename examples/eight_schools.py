"""The eight schools, by adversarial variational Bayes, against NUTS.

A coaching program's effect was measured in eight schools; the effects vary around a common mean by an unknown spread.
The guide is noise through a network: it can be sampled, but has no density. ImplicitKLqp learns the ratio of its
density to a Gaussian that follows it, and takes the prior and the likelihood from the model.

    python examples/eight_schools.py --out output/eight_schools

References:
    Rubin (1981), "Estimation in Parallel Randomized Experiments" (the data).
    Mescheder et al. (2017), "Adversarial Variational Bayes".
"""

import argparse
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_gan import AutoImplicitGuide, ImplicitKLqp
from pyro_gan.criticism import c2st

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model(y: Tensor) -> None:
    """Each row is a draw of the whole study: mean, spread, and the schools' deviations in units of the spread."""
    with pyro.plate("draws", len(y)):
        mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
        spread = pyro.sample("spread", dist.HalfCauchy(5.0))
        deviations = pyro.sample("deviations", dist.Normal(torch.zeros(8), 1.0).to_event(1))
        schools = mean[..., None] + spread[..., None] * deviations
        pyro.sample("y", dist.Normal(schools, ERRORS).to_event(1), obs=y)


def flat(draws: dict[str, Tensor]) -> Tensor:
    """Mean, spread and the schools' effects, with shape `(num_draws, 10)`."""
    mean, spread = draws["mean"].reshape(-1, 1), draws["spread"].reshape(-1, 1)
    return torch.cat([mean, spread, mean + spread * draws["deviations"].reshape(-1, 8)], 1)


def nuts(num_draws: int) -> Tensor:
    """Draws of the same model by NUTS."""
    kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_draws, warmup_steps=max(10, num_draws // 10), disable_progbar=True)
    with warnings.catch_warnings():  # torch.jit.trace is deprecated, but eager NUTS takes many times as long
        warnings.filterwarnings("ignore", r"`torch\.jit")
        mcmc.run(EFFECTS[None])
    return flat(mcmc.get_samples())


def main(args: argparse.Namespace) -> None:
    """Fit, run NUTS, compare."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    start = time.perf_counter()
    inference = ImplicitKLqp(model, AutoImplicitGuide(model), contrast="prior", adaptive=True)
    inference.run(EFFECTS.expand(256, 8), num_steps=args.num_steps, batch_size=256, progress=args.progress)
    draws = flat(inference.sample_posterior(EFFECTS, num_samples=args.num_draws))
    print(f"ImplicitKLqp {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    reference = nuts(args.num_draws)
    print(f"NUTS {time.perf_counter() - start:.0f} s")

    print("             mean: NUTS   ImplicitKLqp   deviation: NUTS   ImplicitKLqp")
    for number, name in enumerate(["mean", "spread", *(f"school {letter}" for letter in "ABCDEFGH")]):
        exact, learned = reference[:, number], draws[:, number]
        print(f"{name:10s} {exact.mean():12.2f} {learned.mean():14.2f} {exact.std():17.2f} {learned.std():14.2f}")
    order = torch.randperm(len(reference))[: args.num_tested]  # the draws of a chain are in an order
    accuracy = c2st(reference[order], draws[: args.num_tested])
    print(f"classifier two-sample test on {len(order):,} draws of each: {accuracy:.3f} (0.5 cannot be told apart)")

    figure, axes = plt.subplots(2, 5, figsize=(15, 5), layout="constrained")
    for number, ax in enumerate(axes.flat):
        limits = tuple(reference[:, number].quantile(torch.tensor([0.002, 0.998])).tolist())
        for rows, label in (reference, "NUTS"), (draws, "ImplicitKLqp"):
            ax.hist(rows[:, number], 50, range=limits, density=True, histtype="step", label=label)
        ax.set(yticks=[], xlabel=["mean", "spread", *(f"school {letter}" for letter in "ABCDEFGH")][number])
    axes[0, 0].legend()
    figure.savefig(args.out / "eight_schools.png", dpi=100, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes one or two minutes on one core."
    )
    parser.add_argument("--num-steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--num-draws", type=int, default=10_000, help="draws of each posterior")
    parser.add_argument(
        "--num-tested", type=int, default=2000, help="draws in the two-sample test; 10,000 take minutes"
    )
    parser.add_argument("--out", type=Path, default=Path("output/eight_schools"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
