"""Handwritten digits by deep convolutional networks, as published and by the defaults, beside fully connected ones.

Convolutions with a stride in place of pooling, batch normalization in both networks but at the generator's output and
the discriminator's input, leaky rectifiers, pixels from -1 to 1, and two Adams with beta 0.5. Real and fake rows go
through the discriminator one after the other, so that each sample has batch statistics of its own: the package sees
that rows are not judged alone, and does so by itself. What is not as published is for the sake of minutes: fewer
channels and numbers of noise, minibatches of 64, the rate 0.001 in place of 0.0002, and draws by a moving average of
the generator, which that rate asks for; half precision and channels last make a step a third shorter. The same networks
without the discriminator's batch normalization, which no penalty of gradients goes with, but with fully connected
layers next to the noise and to the logit, and fully connected ones are trained by the package's defaults for the same
processor time; draws of the former are by a moving average too. A classifier counts the digits, and tells of how many
draws it is surer than 0.9, and of how many of those that the discriminator accepts by the ratio of densities that it
estimates.

    python examples/dcgan.py --data mnist --out output/dcgan

A longer run of one kind alone, by larger minibatches:

    python examples/dcgan.py --data mnist --kinds "convolutional, defaults" --num-steps 20000 --batch-size 256 --compile

On a GPU, twice the channels, with jumps of what the layers next to the noise give, take two minutes:

    python examples/dcgan.py --data mnist --kinds "convolutional, defaults" --num-steps 2700 --batch-size 512 \\
        --channels 48 --jumps 16 --compile --device cuda

References:
    Radford, Metz and Chintala (2016), "Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks", section 3 and 4.
    Azadi et al. (2019), "Discriminator Rejection Sampling".
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from handwriting import Reader, load, network, spread_out
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.criticism import energy_test
from pyro_gan.losses import NonSaturating
from pyro_gan.plots import plot_images

NOISE_SIZE, CHANNELS, WIDTH, INNER = 16, 24, 384, 256
CONNECTED = "fully connected, defaults"
KINDS = "published", "convolutional, defaults", CONNECTED


class Half(nn.Module):
    """A network that computes in half precision where torch thinks it safe, on images ordered by pixel."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, torch.bfloat16):
            for layer in self.layers:
                rows = layer(rows)
                if rows.dim() == 4:
                    rows = rows.contiguous(memory_format=torch.channels_last)
        return rows.float()


class Jumps(nn.Module):
    """Vectors that are added on one side of a plane, and subtracted on its other side.

    Noise is of one piece, and so is what a continuous network makes of it; digits are not. Where noise of one digit
    borders on noise of another, a jump leaves out what would lie in between.
    """

    def __init__(self, size: int, number: int) -> None:
        super().__init__()
        self.gates, self.heights = nn.Linear(size, number), nn.Linear(number, size)

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.heights(torch.tanh(30 * self.gates(rows)))


def published(network: nn.Module) -> nn.Module:
    """Weights from a normal distribution of deviation 0.02, those of batch normalization around 1."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return network


def convolutional(
    side: int, is_published: bool = True, channels: int = CHANNELS, num_jumps: int = 0
) -> tuple[nn.Module, nn.Module]:
    """The generator, from noise to images, and the discriminator, from images to a logit.

    As published, strides lead from 4 by 4 places to the image and back: what the last layer sees in each place is of 18
    by 18 pixels, nearly a digit. Of two strides it would be 10 by 10, too few to tell digits from strokes. What is not
    published has fully connected layers at the inner ends: a digit is one thing, and not what sixteen places show.
    """
    few, more, most = channels, 2 * channels, 4 * channels
    quarter, least = side // 4, (side // 4 + 1) // 2
    half, last = ({"kernel_size": size, "stride": 2, "padding": 1} for size in (4, 3))

    def drawn(layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
        return layer, nn.BatchNorm2d(channels), nn.ReLU()

    def seen(layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
        return layer, *([nn.BatchNorm2d(channels)] if is_published else []), nn.LeakyReLU(0.2)

    into = [] if is_published else [*(nn.Linear(NOISE_SIZE, INNER), nn.ReLU()), *(nn.Linear(INNER, INNER), nn.ReLU())]
    out = [] if is_published else [nn.Linear(most * least**2, INNER), nn.LeakyReLU(0.2)]
    generator = Half(
        *into,
        *(
            nn.Linear(INNER if into else NOISE_SIZE, most * least**2),
            *drawn(nn.Unflatten(1, (most, least, least)), most),
        ),
        *drawn(nn.ConvTranspose2d(most, more, bias=False, output_padding=1 - quarter % 2, **last), more),
        *drawn(nn.ConvTranspose2d(more, few, bias=False, **half), few),
        *(nn.ConvTranspose2d(few, 1, **half), nn.Tanh()),
    )
    discriminator = Half(
        *(nn.Conv2d(1, few, **half), nn.LeakyReLU(0.2)),
        *seen(nn.Conv2d(few, more, bias=not is_published, **half), more),
        *seen(nn.Conv2d(more, most, bias=not is_published, **last), most),
        *(nn.Flatten(), *out, nn.Linear(INNER if out else most * least**2, 1)),
    )
    if is_published:
        return published(generator), published(discriminator)
    if num_jumps:
        generator.layers.insert(len(into), Jumps(INNER, num_jumps))
    return generator, discriminator


def connected(side: int) -> tuple[nn.Module, nn.Module]:
    """The same of fully connected layers, for pixels from 0 to 1."""
    generator = nn.Sequential(network(NOISE_SIZE, WIDTH, WIDTH, WIDTH, side**2), nn.Sigmoid())
    discriminator = nn.Sequential(nn.Flatten(), network(side**2, WIDTH, WIDTH, WIDTH, 1))
    return generator.append(nn.Unflatten(1, (1, side, side))), discriminator


def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimizer of the paper, section 4, at five times its rate."""
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


def fitted(kind: str, images: Tensor, num_steps: int, args: argparse.Namespace) -> tuple[GANInference, float]:
    """A trained model, and the processor time that it took."""
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    side, is_published, is_connected = images.shape[-1], kind == "published", kind == CONNECTED
    generator, discriminator = (
        connected(side) if is_connected else convolutional(side, is_published, args.channels, args.jumps)
    )

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(NOISE_SIZE), 1.0).to_event(1))
            return pyro.deterministic("x", generator(noise), event_dim=3)

    recipe = {"optim": adam, "optim_d": adam, "loss": NonSaturating()} if is_published else {}
    averages = {} if is_connected else {"ema_decay": 0.995}
    inference = GANInference(model, discriminator, device=args.device, **recipe, **averages)
    rows, batch_size = (images, 128) if is_connected else (2 * images - 1, 64)
    start = time.process_time()
    inference.run(
        rows,
        num_steps=num_steps,
        batch_size=args.batch_size or batch_size,
        progress=args.progress,
        compile=args.compile,
    )
    return inference, time.process_time() - start


def draws(kind: str, inference: GANInference, num_samples: int) -> Tensor:
    """Images with pixels from 0 to 1."""
    is_connected = kind == CONNECTED
    rows = torch.cat([inference.sample(500, averaged=not is_connected) for _ in range(num_samples // 500)]).cpu()
    return rows if is_connected else rows / 2 + 0.5


def accepted(kind: str, inference: GANInference, images: Tensor) -> Tensor:
    """Those images that the discriminator accepts: each with the probability of its ratio of densities to a bound.

    The ratio is of real images to the model's; a tenth of the images lie above the bound and are kept anyway.
    """
    ratios = inference.log_ratio(images if kind == CONNECTED else 2 * images - 1).cpu()
    return images[torch.rand(len(ratios)) < (ratios - ratios.quantile(0.9)).exp()]


def is_sure(reader: Reader, images: Tensor) -> Tensor:
    """The part of images of which the classifier is surer than 0.9."""
    return (reader.probabilities(images).amax(1) > 0.9).float().mean()


def report(name: str, drawn: Tensor, reader: Reader, held_out: Tensor) -> None:
    """Print what digits are drawn, how clearly, and how far they are from others."""
    counts = torch.bincount(reader(drawn), minlength=10) / len(drawn)
    print(f"{name}: digits from {counts.min():.1%} to {counts.max():.1%} of {len(drawn)} samples")
    print(f"{name}: the classifier is surer than 0.9 of {is_sure(reader, drawn):.1%}")
    distance = energy_test(drawn[:2000].flatten(1), held_out, num_permutations=1).statistic
    print(f"{name}: energy distance from held-out images {distance:.4f}")


def main(args: argparse.Namespace) -> None:
    """Train all, count digits, compare with held-out images, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    train, test = load(args.data)
    torch.manual_seed(args.seed)
    reader, held_out = Reader(train, args.num_reader_steps), spread_out(test.images).flatten(1)
    figure, axes = plt.subplots(
        1, len(args.kinds), figsize=(6 * len(args.kinds), 6), squeeze=False, layout="constrained"
    )
    num_steps, images, seconds = args.num_steps, train.images, 0.0
    print(f"test images: the classifier is surer than 0.9 of {is_sure(reader, spread_out(test.images)):.1%}")
    for kind, ax in zip(args.kinds, axes[0], strict=True):
        if seconds:  # as many steps as take the same time
            num_steps = max(1, round(seconds / fitted(kind, images, 200, args)[1] * 200))
        inference, taken = fitted(kind, images, num_steps, args)
        seconds = seconds or taken
        print(f"{kind}: {num_steps} steps, {taken:.0f} s of the processor")
        drawn = draws(kind, inference, args.num_samples)
        report(kind, drawn, reader, held_out)
        if kind != "published":  # whose discriminator judges no row alone
            report(f"{kind}, accepted", accepted(kind, inference, drawn), reader, held_out)
        plot_images(drawn[:100], ax=ax).set_title(kind)
    figure.savefig(args.out / "dcgan.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some twenty minutes on one core; on small digits seven."
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument("--num-steps", type=int, default=8000, help="steps of the first kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what to train, for equal times")
    parser.add_argument("--compile", action="store_true", help="compile the steps of a single kind")
    parser.add_argument("--channels", type=int, default=CHANNELS, help="channels next to images; inside there are more")
    parser.add_argument("--jumps", type=int, default=0, help="how often the generator may jump, but the published one")
    parser.add_argument("--device", default=None, help="where it trains, such as cuda")
    parser.add_argument("--batch-size", type=int, help="rows of a minibatch; by default 64, fully connected 128")
    parser.add_argument("--num-samples", type=int, default=10_000, help="samples whose digits are counted")
    parser.add_argument("--num-reader-steps", type=int, default=1500, help="steps of the classifier")
    parser.add_argument("--out", type=Path, default=Path("output/dcgan"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    arguments = parser().parse_args()
    if arguments.compile and len(arguments.kinds) > 1:  # its time would be taken for that of steps
        parser().error("--compile is for a single kind: name it by --kinds.")
    main(arguments)
