"""Handwritten digits on demand: a generator that is told what to draw, by a label or by a caption.

Labels, or captions such as "a handwritten seven", come with the images: `run((images, labels))`. The model makes its
images of noise and an embedding of the condition. The discriminator sees images with the same conditions: its logit has
the product of an embedding and of what its layers have made of the image (Miyato and Koyama 2018). Or it reads the
embedding beside the pixels (`--concatenated`), or builds itself (`--automatic`). With `--matching-aware` it is shown
real images with another image's condition too, which it is to take for fake (Reed et al. 2016). Of labels as one-hot
rows the generator also draws the middle between two, and the picture has ways from one digit to another. A classifier
reads the digits that are drawn: are they those that were asked for?

    python examples/conditional.py --data mnist --out output/conditional
    python examples/conditional.py --data mnist --matching-aware --out output/conditional
    python examples/conditional.py --data mnist --matching-aware --conditions captions --out output/conditional
    python examples/conditional.py --data mnist --matching-aware --conditions one-hot --out output/conditional

References:
    Mirza and Osindero (2014), "Conditional Generative Adversarial Nets".
    Reed et al. (2016), "Generative Adversarial Text to Image Synthesis".
    Miyato and Koyama (2018), "cGANs with Projection Discriminator", equation 4.
"""

import argparse
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from handwriting import Reader, load, network
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pyro_gan import AutoDiscriminator, CaptionEmbedding, GANInference, LabelEmbedding
from pyro_gan.plots import interpolate, plot_images

NOISE_SIZE, EMBEDDING_SIZE, WIDTH = 64, 32, 384
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CAPTIONS = [f"a handwritten {name}" for name in NAMES]
WAYS = [[0, 1, 3, 4, 5], [6, 7, 8, 9, 2]]


class Conditional(nn.Module):
    """A network of rows beside an embedding of their conditions."""

    def __init__(self, embedding: nn.Module, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.network = network(num_inputs + EMBEDDING_SIZE, WIDTH, WIDTH, WIDTH, num_outputs)

    def forward(self, rows: Tensor, condition: Tensor) -> Tensor:
        return self.network(torch.cat([rows.flatten(1), self.embedding(condition)], 1))


class Projection(nn.Module):
    """A discriminator whose logit has the product of an embedding of the condition and of its last hidden layer."""

    def __init__(self, embedding: nn.Module, num_inputs: int) -> None:
        super().__init__()
        self.layers = network(num_inputs, WIDTH, WIDTH, WIDTH).append(nn.LeakyReLU(0.2))
        self.last = nn.Linear(WIDTH, 1)
        self.embedding = embedding
        with torch.no_grad():
            for parameter in embedding.parameters():
                parameter.div_(WIDTH**0.25)  # stronger than the rest, so that images keep to labels

    def forward(self, rows: Tensor, condition: Tensor) -> Tensor:
        features = self.layers(rows.flatten(1))
        return self.last(features) + (self.embedding(condition) * features).sum(1, keepdim=True)


def embedding(kind: str, size: int = EMBEDDING_SIZE) -> nn.Module:
    """An embedding of labels, of one-hot rows or of captions."""
    if kind == "one-hot":
        return nn.Linear(10, size)
    return LabelEmbedding(10, size) if kind == "labels" else CaptionEmbedding(CAPTIONS, size)


def discriminator_of(args: argparse.Namespace, num_pixels: int) -> nn.Module:
    """The discriminator that was asked for."""
    if args.automatic:
        return AutoDiscriminator(width=WIDTH)
    if args.concatenated:
        return Conditional(embedding(args.conditions), num_pixels, 1)
    return Projection(embedding(args.conditions, WIDTH), num_pixels)


def picture(kind: str, inference: GANInference, images: Tensor, digits: Tensor, seed: int) -> Axes:
    """Images with their captions, ways between digits from the same noise, or a line for each label."""
    if kind == "captions":
        return plot_images(images[:10], labels=[CAPTIONS[digit] for digit in digits[:10]], num_columns=5)
    if kind == "labels":
        return plot_images(images[:100], labels=digits[:100], row_per_class=True)
    columns = []
    for weights in interpolate(*torch.eye(10)[torch.tensor(WAYS)], num_points=10).unbind(1):
        pyro.set_rng_seed(seed)  # the same noise in all columns
        columns.append(inference.sample(len(weights), weights))
    return plot_images(torch.stack(columns, 1).flatten(0, 1), num_columns=len(columns))


def main(args: argparse.Namespace) -> None:
    """Train, read what is drawn, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    train, test = load(args.data)
    shape = train.images.shape[1:]
    generator = Conditional(embedding(args.conditions), NOISE_SIZE, shape.numel())
    discriminator = discriminator_of(args, shape.numel())

    def model(condition: Tensor) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", len(condition)):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(NOISE_SIZE), 1.0).to_event(1))
            pixels = generator(noise, condition).sigmoid().unflatten(1, shape)
            return pyro.deterministic("x", pixels, event_dim=3)

    def conditions(labels: Tensor) -> Tensor:
        if args.conditions == "captions":
            return generator.embedding.tokens([CAPTIONS[label] for label in labels])
        return labels if args.conditions == "labels" else one_hot(labels, 10).float()

    options = {"matching_aware": args.matching_aware, "interpolate_conditions": args.conditions == "one-hot"}
    inference = GANInference(model, discriminator, **options)
    start = time.perf_counter()
    inference.run((train.images, conditions(train.labels)), num_steps=args.num_steps, progress=args.progress)
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    reader = Reader(train, args.num_reader_steps)
    print(f"the classifier reads {(reader(test.images) == test.labels).float().mean():.1%} of the test images rightly")
    wanted = torch.arange(10).repeat(100)
    images = inference.sample(len(wanted), conditions(wanted))
    right = (reader(images) == wanted).float().reshape(-1, 10)
    print(f"and the digit that was asked for in {right.mean():.1%} of {len(wanted)} samples, in the worst case of ten")
    print(f"in {right.mean(0).min():.0%} of the samples of a {NAMES[int(right.mean(0).argmin())]}")

    name = f"conditional_{args.conditions}{'_matching' if args.matching_aware else ''}.png"
    ax = picture(args.conditions, inference, images, wanted, args.seed)
    ax.figure.savefig(args.out / name, dpi=120, bbox_inches="tight")
    print(f"picture: {args.out / name}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some four minutes on one core; on small digits one."
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument(
        "--conditions", choices=["labels", "captions", "one-hot"], default="labels", help="what is told"
    )
    parser.add_argument("--matching-aware", action="store_true", help="show mismatched pairs too")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--concatenated", action="store_true", help="a discriminator that reads conditions beside pixels")
    kind.add_argument("--automatic", action="store_true", help="a discriminator that builds itself: convolutions")
    parser.add_argument("--num-steps", type=int, default=4000, help="steps of training")
    parser.add_argument("--num-reader-steps", type=int, default=1500, help="steps of the classifier")
    parser.add_argument("--out", type=Path, default=Path("output/conditional"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
