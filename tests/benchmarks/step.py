"""How long a step takes: GANInference beside loops that one would write oneself, and beside Pyro's SVI.

The tutorial's step: minibatches of 128, noise of 100 dimensions, one hidden layer of 128 in each network, binarized
images of 784 pixels. All contenders run in turns, a block of steps each, so that what else the machine does hits all
alike; the table has the median of the blocks, and its ratio to the careful loop.

    python tests/benchmarks/step.py --blocks 20 --steps 50
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import GANInference
from pyro_gan.recipes import edward
from pyro_gan.training.minibatches import minibatches

BATCH_SIZE, NOISE_SIZE, HIDDEN_SIZE, NUM_PIXELS = 128, 100, 128, 784


def networks() -> tuple[nn.Module, nn.Module]:
    """The tutorial's generator and discriminator."""
    generator = nn.Sequential(
        nn.Linear(NOISE_SIZE, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, NUM_PIXELS), nn.Sigmoid()
    )
    return generator, nn.Sequential(nn.Linear(NUM_PIXELS, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, 1))


def binarize(images: torch.Tensor) -> torch.Tensor:
    """Bytes to black or white."""
    return torch.bernoulli(images / 255)


def loop(batches: Iterator[torch.Tensor], careful: bool) -> Callable[[], None]:
    """A hand-written step; a careful one computes no gradient in vain and uses fused Adams."""
    generator, discriminator = networks()
    optimizer, optimizer_d = (torch.optim.Adam(net.parameters(), fused=careful) for net in (generator, discriminator))

    def noise() -> torch.Tensor:
        return 2 * torch.rand(BATCH_SIZE, NOISE_SIZE) - 1

    def step() -> None:
        x = binarize(next(batches))
        with torch.set_grad_enabled(not careful):
            fake = generator(noise())
        loss_d = softplus(-discriminator(x)).mean() + softplus(discriminator(fake.detach())).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss = softplus(-discriminator(generator(noise()))).mean()
        optimizer.zero_grad()
        loss.backward(inputs=list(generator.parameters()) if careful else None)
        optimizer.step()

    return step


def inference(images: torch.Tensor) -> Callable[[], None]:
    """GANInference's step, with the stream of minibatches that its run uses."""
    generator, discriminator = networks()

    def model(batch_size: int) -> torch.Tensor:
        pyro.module("gan", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    gan = GANInference(model, discriminator, **edward())
    batches = minibatches(images, BATCH_SIZE, torch.device("cpu"), binarize)
    return lambda: gan.take_step(batches)  # type: ignore[return-value]


def svi(images: torch.Tensor) -> Callable[[], float]:
    """SVI's step on a VAE with a decoder of the generator's size."""
    decoder = networks()[0][:3]
    encoder = nn.Sequential(nn.Linear(NUM_PIXELS, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, 2 * NOISE_SIZE))

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    engine = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    batches = minibatches(images, BATCH_SIZE, torch.device("cpu"), binarize)
    return lambda: engine.step(*next(batches))


def contenders(images: torch.Tensor) -> dict[str, Callable[[], object]]:
    """All that is timed, by name."""
    loader = (x for _ in repeat(None) for (x,) in DataLoader(TensorDataset(images), BATCH_SIZE, True, drop_last=True))
    gathered = (x for (x,) in minibatches(images, BATCH_SIZE, torch.device("cpu")))
    return {
        "careful loop": loop(gathered, careful=True),
        "ordinary loop": loop(loader, careful=False),
        "GANInference": inference(images),
        "SVI": svi(images),
    }


def main() -> None:
    """Time all in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50, help="steps a block")
    parser.add_argument("--out", type=Path, help="a file for the table")
    args = parser.parse_args()
    pyro.set_rng_seed(0)
    steps = contenders(torch.randint(0, 256, (60_000, NUM_PIXELS), dtype=torch.uint8))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for block in range(args.blocks + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(args.steps):
                step()
            if block:  # the first warms up
                times[name].append((time.perf_counter() - start) / args.steps * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    lines = [
        f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        f"{'':16s}{'ms a step':>12s}{'ratio':>8s}",
        *(f"{name:16s}{median:12.2f}{median / medians['careful loop']:8.2f}" for name, median in medians.items()),
    ]
    print("\n".join(lines))
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")


def machine() -> str:
    """The processor's name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    names = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in names if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
