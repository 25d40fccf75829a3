"""What is timed: networks, data and recipes, each as loops that one would write oneself and as an inference.

All contenders of a workload start from the same parameters, take the same step and draw random numbers in the same
order, so that from one seed they compute the same gradients.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import AutoImplicitGuide, BiGANInference, GANInference, WGANInference
from pyro_gan.penalties.scales import FEWEST_PIXELS
from pyro_gan.recipes import edward
from pyro_gan.training.minibatches import minibatches

DEVICE = torch.device("cpu")
"""Where networks and data lie; step.py's option sets it."""

WEIGHT = 0.2  # of the default penalty, at the start of a run


@dataclass
class Workload:
    """A model, its data and its recipe.

    Args:
        name: What to call it.
        generator: From noise to rows.
        discriminator: From rows to logits.
        draw_noise: The generator's noise for a number of rows.
        site: The same noise as a Pyro distribution of one row.
        data: All rows.
        batch_size: The rows of a minibatch.
        discriminator_loss: From the discriminator, real and fake rows to its loss, with penalties.
        generator_loss: From the discriminator, real and fake rows to the generator's loss.
        adam: The options of both Adams.
        options: Those of the inference, for the same step.
        inference: The inference class.
        discriminator_steps: The discriminator's updates in a step.
        transform: Applied to each minibatch.
    """

    name: str
    generator: nn.Module
    discriminator: nn.Module
    draw_noise: Callable[[int], Tensor]
    site: Callable[[], Any]
    data: Tensor
    batch_size: int
    discriminator_loss: Callable[..., Tensor]
    generator_loss: Callable[..., Tensor]
    adam: dict[str, Any]
    options: dict[str, Any]
    inference: Any = GANInference
    discriminator_steps: int = 1
    transform: Callable[[Tensor], Tensor] | None = None


class Loop:
    """A loop that one would write oneself; a careful one keeps the data in memory as they are, computes no gradient in
    vain and uses fused Adams."""

    def __init__(self, workload: Workload, careful: bool) -> None:
        self.workload, self.careful = workload, careful
        self.generator, self.discriminator = copies(workload)
        self.optimizer, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), fused=careful, **workload.adam)
            for network in (self.generator, self.discriminator)
        )
        stream = minibatches(workload.data, workload.batch_size, DEVICE, workload.transform)
        self.batches = (x for (x,) in stream) if careful else self._loaded()

    def _loaded(self) -> Iterator[Tensor]:
        loader = DataLoader(TensorDataset(self.workload.data), self.workload.batch_size, shuffle=True, drop_last=True)
        while True:
            for (x,) in loader:
                x = x.to(DEVICE)
                yield x if self.workload.transform is None else self.workload.transform(x)

    def step(self) -> None:
        """One step of the recipe."""
        work, generator, discriminator = self.workload, self.generator, self.discriminator
        for _ in range(work.discriminator_steps):
            x = next(self.batches)
            with torch.set_grad_enabled(not self.careful):
                fake = generator(work.draw_noise(len(x)))
            loss_d = work.discriminator_loss(discriminator, x, fake.detach())
            self.optimizer_d.zero_grad()
            loss_d.backward()
            self.optimizer_d.step()
        loss = work.generator_loss(discriminator, x, generator(work.draw_noise(len(x))), self.careful)
        self.optimizer.zero_grad()
        loss.backward(inputs=list(generator.parameters()) if self.careful else None)
        self.optimizer.step()


class Inference:
    """The same step by an inference, with the stream of minibatches that its run uses."""

    def __init__(self, workload: Workload, compile: bool = False) -> None:
        self.generator, self.discriminator = copies(workload)
        generator, site = self.generator, workload.site
        name = f"{workload.name} {'compiled' if compile else 'eager'}"

        def model(batch_size: int) -> Tensor:
            pyro.module(name, generator)
            with pyro.plate("data", batch_size):
                eps = pyro.sample("eps", site())
                return pyro.deterministic("x", generator(eps), event_dim=workload.data.dim() - 1)

        options = {"optim": adam(workload), "optim_d": adam(workload), **workload.options}
        if workload.discriminator_steps > 1:
            options["discriminator_steps"] = workload.discriminator_steps
        self.inference = workload.inference(model, self.discriminator, device=DEVICE, **options)
        self.batches = minibatches(workload.data, workload.batch_size, DEVICE, workload.transform)
        if compile:
            self.inference.compile()

    def step(self) -> None:
        """One step."""
        self.inference.take_step(self.batches)


def copies(workload: Workload) -> tuple[nn.Module, nn.Module]:
    """The networks' copies on the device."""
    generator, discriminator = copy.deepcopy((workload.generator, workload.discriminator))
    return generator.to(DEVICE), discriminator.to(DEVICE)


def adam(workload: Workload) -> Callable[[Any], torch.optim.Optimizer]:
    """The workload's optimizer, fused."""
    return lambda parameters: torch.optim.Adam(parameters, fused=True, **workload.adam)


def layers(sizes: list[int], slope: float | None = 0.2) -> nn.Sequential:
    """A fully connected network."""
    pairs = pairwise(sizes)
    modules = [
        part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU() if slope is None else nn.LeakyReLU(slope))
    ]
    return nn.Sequential(*modules[:-1])


def classic(discriminator: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    """The 2014 game's loss of the discriminator."""
    return softplus(-discriminator(x)).mean() + softplus(discriminator(fake)).mean()


def classic_generator(discriminator: nn.Module, x: Tensor, fake: Tensor, careful: bool) -> Tensor:
    """The 2014 game's loss of the generator."""
    return softplus(-discriminator(fake)).mean()


def slopes(discriminator: nn.Module, x: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """The gradient of the logit between real and fake rows, with shape `(num_rows, num_features)`."""
    between = torch.lerp(fake, x, epsilon[:, None]).requires_grad_()
    return torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)[0]


def relativistic(discriminator: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    """The default recipe's loss of the discriminator."""
    loss = softplus(discriminator(fake) - discriminator(x)).mean()
    epsilon = (1 - (math.pi * torch.rand(len(x), device=DEVICE)).cos()) / 2
    variances = torch.cat([x, fake]).var(0, correction=0)
    unit = len(variances) * (variances.mean() if len(variances) >= FEWEST_PIXELS else variances)
    return loss + WEIGHT / 2 * (unit * slopes(discriminator, x, fake, epsilon).square()).sum(1).mean()


def relativistic_generator(discriminator: nn.Module, x: Tensor, fake: Tensor, careful: bool) -> Tensor:
    """The default recipe's loss of the generator."""
    with torch.set_grad_enabled(not careful):
        real_logits = discriminator(x)
    return softplus(real_logits - discriminator(fake)).mean()


def wasserstein(critic: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss, with the two-sided penalty of weight 10."""
    norms = slopes(critic, x, fake, torch.rand(len(x), device=DEVICE)).norm(dim=1)
    return critic(fake).mean() - critic(x).mean() + 10 * (norms - 1).square().mean()


def wasserstein_generator(critic: nn.Module, x: Tensor, fake: Tensor, careful: bool) -> Tensor:
    """The generator's Wasserstein loss."""
    return -critic(fake).mean()


def normal(size: int) -> dict[str, Any]:
    """Standard normal noise."""
    return {
        "draw_noise": lambda number: torch.randn(number, size, device=DEVICE),
        "site": lambda: dist.Normal(0.0, 1.0).expand([size]).to_event(1),
    }


def uniform(size: int) -> dict[str, Any]:
    """Noise that is uniform from -1 to 1."""
    return {
        "draw_noise": lambda number: -1 + 2 * torch.rand(number, size, device=DEVICE),
        "site": lambda: dist.Uniform(-1.0, 1.0).expand([size]).to_event(1),
    }


def binarize(images: Tensor) -> Tensor:
    """Bytes to black or white."""
    return torch.bernoulli(images / 255)


def tutorial() -> Workload:
    """Edward's tutorial: one hidden layer of 128 in each network, noise of 100, binarized images."""
    return Workload(
        "tutorial",
        nn.Sequential(*layers([100, 128, 784], None), nn.Sigmoid()),
        layers([784, 128, 1], None),
        **uniform(100),
        data=torch.randint(0, 256, (60_000, 784), dtype=torch.uint8),
        batch_size=128,
        discriminator_loss=classic,
        generator_loss=classic_generator,
        adam={"lr": 1e-3},
        options={key: value for key, value in edward().items() if not key.startswith("optim")},
        transform=binarize,
    )


def default(name: str, noise: int, width: int, features: int, batch_size: int, data: Tensor) -> Workload:
    """The default recipe on networks of three hidden layers."""
    return Workload(
        name,
        layers([noise, width, width, width, features]),
        layers([features, width, width, width, 1]),
        **normal(noise),
        data=data,
        batch_size=batch_size,
        discriminator_loss=relativistic,
        generator_loss=relativistic_generator,
        adam={"lr": 2e-3, "betas": (0.0, 0.99)},
        options={},
    )


def plane() -> Workload:
    """Two dimensions, three layers of 128, minibatches of 256."""
    return default("two dimensions", 2, 128, 2, 256, torch.randn(100_000, 2))


def images() -> Workload:
    """784 pixels, three layers of 384, minibatches of 128."""
    return default("images", 100, 384, 784, 128, torch.rand(60_000, 784))


def wgan() -> Workload:
    """The Wasserstein distance with a gradient penalty: two dimensions, three layers of 128, five critic updates."""
    return Workload(
        "WGAN, penalty",
        layers([2, 128, 128, 128, 2]),
        layers([2, 128, 128, 128, 1]),
        **normal(2),
        data=torch.randn(100_000, 2),
        batch_size=256,
        discriminator_loss=wasserstein,
        generator_loss=wasserstein_generator,
        adam={"lr": 1e-4, "betas": (0.0, 0.9)},
        options={},
        inference=WGANInference,
        discriminator_steps=5,
    )


def dcgan() -> Workload:
    """Convolutions with batch normalization on images of 28 by 28, minibatches of 64, the classic recipe."""
    generator = nn.Sequential(
        nn.Linear(100, 128 * 7 * 7, bias=False),
        nn.Unflatten(1, (128, 7, 7)),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128 * 7 * 7, 1),
    )
    return Workload(
        "DCGAN",
        generator,
        discriminator,
        **uniform(100),
        data=2 * torch.rand(10_000, 1, 28, 28) - 1,
        batch_size=64,
        discriminator_loss=classic,
        generator_loss=classic_generator,
        adam={"lr": 2e-4, "betas": (0.5, 0.999)},
        options={key: value for key, value in edward().items() if not key.startswith("optim")},
    )


def posterior(compile: bool) -> Callable[[], None]:
    """A step of BiGANInference by all defaults on a simulator with two sites of two numbers, minibatches of 256."""

    def simulator(x: Tensor | None = None, batch_size: int = 256) -> None:
        with pyro.plate("data", batch_size if x is None else len(x)):
            z = pyro.sample("z", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(z.abs(), 0.1).to_event(1), obs=x)

    guide = AutoImplicitGuide(simulator, name=f"guide {compile}")
    inference = BiGANInference(simulator, guide, device=DEVICE)
    z = 2 * torch.rand(10_000, 2) - 1
    batches = minibatches({"z": z, "x": z.abs() + 0.1 * torch.randn(10_000, 2)}, 256, DEVICE)
    if compile:
        inference.compile()

    def step() -> None:
        inference.take_step(batches)

    return step
