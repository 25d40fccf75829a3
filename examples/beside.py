"""One posterior by four ways: Pyro's SVI, sbi's NPE, an adversarial loop by hand, and BiGANInference.

Five waiting times have an unknown rate. Their likelihood is known, so SVI can have it, and the exact posterior is known
to compare with; the others see simulations alone. The table has mean and deviation of the posterior for one
observation, and the seconds that training took. Takes some three minutes on one core; sbi is left out where it is not
installed.

    python examples/beside.py --out output/beside
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_gan import AutoImplicitGuide, BiGANInference

NUM_DRAWS = 5000
OBSERVED = torch.tensor([0.3, 1.2, 0.1, 0.7, 0.4]).log()
PRIOR = dist.Gamma(2.0, 1.0)


def simulator(batch_size: int) -> Tensor:
    """A rate, and the logarithms of five waiting times."""
    with pyro.plate("data", batch_size):
        rate = pyro.sample("rate", PRIOR)
        times = -torch.rand(batch_size, 5).log() / rate[:, None]
        return pyro.deterministic("x", times.log(), event_dim=1)


def simulations(number: int) -> dict[str, Tensor]:
    """Draws of all sites, a row a simulation."""
    draws = pyro.infer.Predictive(simulator, num_samples=1)(batch_size=number)
    return {site: rows[0] for site, rows in draws.items()}


def by_svi(data: dict[str, Tensor], num_steps: int) -> Tensor:
    """Uses the likelihood, for this observation alone; simulations are not needed."""

    def model() -> None:
        rate = pyro.sample("rate", PRIOR)
        pyro.sample("times", dist.Exponential(rate).expand([5]).to_event(1), obs=OBSERVED.exp())

    def guide() -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
        pyro.sample("rate", dist.LogNormal(loc, scale))

    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO(num_particles=10))
    for _ in range(num_steps):
        svi.step()
    return dist.LogNormal(pyro.param("loc"), pyro.param("scale")).sample((NUM_DRAWS,))


def by_npe(data: dict[str, Tensor], num_steps: int) -> Tensor:
    """Learns the posterior's density by a spline flow, since sbi's default flow is a Gaussian in one dimension."""
    from sbi.inference import NPE

    prior = torch.distributions.Gamma(torch.tensor([2.0]), 1.0)
    inference = NPE(prior=prior, density_estimator="nsf", show_progress_bars=False)
    inference.append_simulations(data["rate"][:, None], data["x"]).train()
    posterior = inference.build_posterior()
    return posterior.sample((NUM_DRAWS,), x=OBSERVED[None], show_progress_bars=False)[:, 0]


def by_hand(data: dict[str, Tensor], num_steps: int) -> Tensor:
    """The pairing loss with a penalty at real and fake rows, written out."""

    def network(*sizes: int) -> nn.Sequential:
        layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
        return nn.Sequential(*layers[:-1])

    guide, judge = network(5 + 4, 128, 128, 128, 1), network(5 + 1, 128, 128, 128, 1)
    optim = torch.optim.Adam(guide.parameters(), 2e-3, betas=(0.0, 0.99))
    optim_d = torch.optim.Adam(judge.parameters(), 2e-3, betas=(0.0, 0.99))
    schedules = [torch.optim.lr_scheduler.LinearLR(each, 1.0, 0.01, num_steps) for each in (optim, optim_d)]
    theta, x = data["rate"].log()[:, None], data["x"]
    (loc, scale), (x_loc, x_scale) = [(each.mean(0), each.std(0)) for each in (theta, x)]
    theta, x = (theta - loc) / scale, (x - x_loc) / x_scale

    def draw(x: Tensor) -> Tensor:
        return guide(torch.cat([x, torch.randn(len(x), 4)], 1))

    for step in range(num_steps):
        for _ in range(2):
            real, rows = (torch.randint(len(x), (128,)) for _ in range(2))
            given = torch.cat([x[real], theta[real]], 1).requires_grad_()
            made = torch.cat([x[rows], draw(x[rows]).detach()], 1).requires_grad_()
            on_given, on_made = judge(given), judge(made)
            slopes = torch.autograd.grad(on_given.sum() + on_made.sum(), [given, made], create_graph=True)
            weight = 0.02 * (0.01 ** (step / num_steps))
            penalty = weight / 2 * sum(slope.square().sum(1).mean() for slope in slopes)
            optim_d.zero_grad()
            (softplus(on_made - on_given).mean() + penalty).backward()
            optim_d.step()
        real, rows = (torch.randint(len(x), (128,)) for _ in range(2))
        on_given = judge(torch.cat([x[real], theta[real]], 1)).detach()
        loss = softplus(on_given - judge(torch.cat([x[rows], draw(x[rows])], 1))).mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
        for schedule in schedules:
            schedule.step()
    with torch.no_grad():
        asked = ((OBSERVED - x_loc) / x_scale).expand(NUM_DRAWS, 5)
        return (loc + scale * draw(asked)[:, 0]).exp()


def by_bigan(data: dict[str, Tensor], num_steps: int) -> Tensor:
    """The three lines."""
    inference = BiGANInference(simulator, AutoImplicitGuide(simulator))
    inference.run(data, num_steps=num_steps, batch_size=128, progress=False)
    return inference.sample_posterior(OBSERVED, num_samples=NUM_DRAWS)["rate"]


WAYS: dict[str, Callable[[dict[str, Tensor], int], Tensor]] = {
    "SVI, with the likelihood": by_svi,
    "sbi's NPE": by_npe,
    "a loop by hand": by_hand,
    "BiGANInference": by_bigan,
}


def main(args: argparse.Namespace) -> None:
    """Infer by each way, write the table and draw the densities."""
    args.out.mkdir(parents=True, exist_ok=True)
    exact = torch.distributions.Gamma(7.0, 1 + OBSERVED.exp().sum())
    lines = [f"{'':26s}{'mean':>8s}{'deviation':>11s}{'seconds':>9s}"]
    lines += [f"{'exact':26s}{exact.mean:8.3f}{exact.stddev:11.3f}"]
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, way in WAYS.items():
        if way is by_npe and find_spec("sbi") is None:
            continue
        pyro.clear_param_store()
        pyro.set_rng_seed(args.seed)
        data = simulations(args.num_simulations)
        start = time.process_time()
        draws = way(data, args.num_steps)
        seconds = time.process_time() - start
        lines += [f"{name:26s}{draws.mean():8.3f}{draws.std():11.3f}{seconds:9.1f}"]
        ax.hist(draws.numpy(), bins=60, range=(0, 5), density=True, histtype="step", label=name)
    grid = torch.linspace(0.01, 5, 200)
    ax.plot(grid, exact.log_prob(grid).exp(), "k", linewidth=1, label="exact")
    ax.set(xlabel="rate", ylabel="density")
    ax.legend()
    figure.savefig(args.out / "beside.png", dpi=100)
    table = "\n".join(lines)
    print(table)
    (args.out / "beside.txt").write_text(table + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--num-simulations", type=int, default=10_000, help="simulations that all but SVI learn from")
    parser.add_argument("--num-steps", type=int, default=3000, help="steps of each but NPE, which stops by itself")
    parser.add_argument("--out", type=Path, default=Path("output/beside"), help="the folder for table and picture")
    parser.add_argument("--seed", type=int, default=0, help="the seed of each way")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
