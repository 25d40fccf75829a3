"""Reconstructions of handwritten digits: a generator and its inverse, learned by BiGANInference.

The model draws 16 latent numbers and turns them into pixels; the guide turns pixels into the latent numbers that may
have made them. Guide and discriminator build themselves: the latter sees pixels and latent numbers together, and
multiplies features of the one by features of the other, from which it is easier to tell than from sums whether the two
belong together. A reconstruction is what the model makes of what the guide saw, and is judged by a classifier: does it
show the same digit?

    python examples/bigan.py --data mnist --out output/bigan

Steps are compiled, where there is a C++ compiler. Reconstructions go on getting better for longer than generated images
do:

    python examples/bigan.py --data mnist --num-steps 24000

References:
    Donahue et al. (2017), "Adversarial Feature Learning".
    Dumoulin et al. (2017), "Adversarially Learned Inference".
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyro_gan import AutoImplicitGuide, BiGANInference
from pyro_gan.datasets import LabelledImages, load_digits, load_mnist
from pyro_gan.plots import interpolate, plot_images

LATENT_SIZE, WIDTH = 16, 384


def network(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with leaky rectifiers between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])


def load(name: str) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images with their labels, as numbers from 0 to 1."""
    if name == "mnist":
        train, test = load_mnist()
    else:
        digits = load_digits()
        train, test = (
            LabelledImages(digits.images[part], digits.labels[part]) for part in (slice(300, None), slice(300))
        )
    return LabelledImages(train.images / 255, train.labels), LabelledImages(test.images / 255, test.labels)


def train_classifier(data: LabelledImages, num_steps: int) -> nn.Module:
    """A classifier of digits, to judge reconstructions."""
    classifier = nn.Sequential(nn.Dropout(0.2), network(data.images.shape[1], 512, 512, 10))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        rows = torch.randint(len(data.images), (256,))
        optimizer.zero_grad()
        cross_entropy(classifier(data.images[rows]), data.labels[rows]).backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def main(args: argparse.Namespace) -> None:
    """Train, count digits that are kept, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    train, test = load(args.data)
    num_pixels = train.images.shape[1]
    generator = network(LATENT_SIZE, WIDTH, WIDTH, num_pixels).append(nn.Sigmoid())

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT_SIZE), 1.0).to_event(1))
            return pyro.deterministic("x", generator(z), event_dim=1)

    inference = BiGANInference(model, AutoImplicitGuide(model))
    start = time.process_time()
    inference.run(train.images, num_steps=args.num_steps, batch_size=128, progress=args.progress, compile=args.compile)
    print(f"{args.num_steps} steps in {time.process_time() - start:.0f} s of the processor")

    classifier = train_classifier(train, args.num_classifier_steps)
    reconstructions = inference.reconstruct(test.images)
    means = inference.decode({"z": inference.sample_posterior(test.images, num_samples=20)["z"].mean(0)})
    said, again, in_the_mean = (classifier(images).argmax(1) for images in (test.images, reconstructions, means))
    print(f"the classifier is right on {(said == test.labels).float().mean():.1%} of the test images")
    print(f"it sees the same digit in {(said == again).float().mean():.1%} of their reconstructions")
    print(f"and in {(said == in_the_mean).float().mean():.1%} of those by the mean of twenty draws of latents")

    ends = inference.sample_posterior(test.images[:10], num_samples=1)["z"][0]
    way = interpolate(ends[:5], ends[5:], num_points=10, kind="spherical")
    pairs = torch.stack([test.images[:50], reconstructions[:50]], 1).reshape(100, -1)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    plot_images(pairs, ax=axes[0]).set_title("test images, each beside its reconstruction")
    plot_images(inference.sample(100)["x"], ax=axes[1]).set_title("generated")
    plot_images(inference.decode({"z": way.flatten(0, 1)}), ax=axes[2], num_columns=10).set_title(
        "from one test image to another"
    )
    figure.savefig(args.out / "bigan.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some eight minutes on one core."
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data to train on")
    parser.add_argument("--num-steps", type=int, default=13_000, help="steps of training")
    parser.add_argument(
        "--num-classifier-steps", type=int, default=2000, help="steps of the classifier that judges reconstructions"
    )
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="compile the steps, by a C++ compiler"
    )
    parser.add_argument("--out", type=Path, default=Path("output/bigan"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
