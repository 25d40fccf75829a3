"""The right half of a handwritten digit from its left half: several completions of one image.

The model is told the left half, `run((images, left))`, and draws the right one from it and from noise; the left half of
what it draws is the given one, pixel by pixel. So the discriminator has only to tell whether a whole image is real. Two
numbers are printed: how far completions of one image lie apart, and how often a classifier reads the true digit.

    python examples/inpainting.py --data mnist --out output/inpainting

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets", section 6 (2: approximate conditionals of all subsets), and
    the code published with it.
"""

import argparse
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from handwriting import Reader, load, network
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.plots import plot_images

NOISE_SIZE, WIDTH = 64, 384


def main(args: argparse.Namespace) -> None:
    """Train, complete test images, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    train, test = load(args.data)
    _, side, _ = train.images.shape[1:]
    half = side * side // 2
    generator = network(half + NOISE_SIZE, WIDTH, WIDTH, WIDTH, half)
    discriminator = nn.Sequential(nn.Flatten(), network(2 * half, WIDTH, WIDTH, WIDTH, 1))

    def model(left: Tensor) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", len(left)):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(NOISE_SIZE), 1.0).to_event(1))
            right = generator(torch.cat([left.flatten(1), noise], 1)).sigmoid().reshape(left.shape)
            return pyro.deterministic("x", torch.cat([left, right], 3), event_dim=3)

    def left_half(images: Tensor) -> Tensor:
        return images[..., : side // 2]

    inference = GANInference(model, discriminator)
    start = time.perf_counter()
    inference.run((train.images, left_half(train.images)), num_steps=args.num_steps, progress=args.progress)
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    left, reader = left_half(test.images), Reader(train, args.num_reader_steps)
    first, second = (inference.sample(len(left), left) for _ in range(2))
    print(f"the given half is kept exactly: {torch.equal(left_half(first), left)}")
    strangers = first[torch.randperm(len(first))]
    apart, at_most = ((first - other).flatten(1).norm(dim=1).mean() for other in (second, strangers))
    print(f"two completions of one image lie {apart:.2f} apart on average, those of two images {at_most:.2f}")
    for what, images in ("the test images themselves", test.images), ("their completions", first):
        print(f"a classifier reads the true digit in {(reader(images) == test.labels).float().mean():.1%} of {what}")

    shown = test.images[:10]
    rows = [inference.sample(10, left_half(shown)) for _ in range(5)]
    given = torch.cat([left_half(shown), torch.zeros_like(left_half(shown))], 3)
    ax = plot_images(torch.cat([shown, given, *rows]), num_columns=10)
    ax.set_title("test images, what is given, and five completions")
    ax.figure.savefig(args.out / "inpainting.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes some two minutes on one core.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument("--num-steps", type=int, default=4000, help="steps of training")
    parser.add_argument("--num-reader-steps", type=int, default=1500, help="steps of the classifier")
    parser.add_argument("--out", type=Path, default=Path("output/inpainting"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
