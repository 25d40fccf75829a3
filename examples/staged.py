"""Handwritten digits in two stages: a draft of half the size, and the image from it.

The first stage draws a draft from noise, the second an image from the draft and more noise. Each has a discriminator
of its own, `discriminator={"draft": ..., "image": ...}`; that of the images sees their drafts beside them, so that an
image has to be one of its draft. `--one-by-one` trains the first stage alone, and then the second with the first
frozen, as published; by default both are trained together. A classifier reads drafts and images: are their digits the
same? And images are compared with held-out ones, beside drafts that are merely enlarged.

    python examples/staged.py --data mnist --out output/staged

References:
    Zhang et al. (2017), "StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial
    Networks".
"""

import argparse
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from handwriting import Reader, load, network, spread_out
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from pyro_gan import GANInference
from pyro_gan.criticism import energy_test
from pyro_gan.plots import plot_images

NOISE_SIZE, WIDTH = 64, 384


def enlarged(drafts: Tensor) -> Tensor:
    """Drafts of twice the size, without anything added."""
    return interpolate(drafts, scale_factor=2, mode="bilinear")


def main(args: argparse.Namespace) -> None:
    """Train, compare, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    train, test = load(args.data)
    shape = train.images.shape[1:]
    small = (1, shape[1] // 2, shape[2] // 2)
    pixels, draft_pixels = shape.numel(), small[1] * small[2]
    first = network(NOISE_SIZE, WIDTH, WIDTH, draft_pixels)
    second = network(draft_pixels + NOISE_SIZE, WIDTH, WIDTH, pixels)
    of_drafts = nn.Sequential(nn.Flatten(), network(draft_pixels, WIDTH, WIDTH, 1))
    of_images = network(pixels + draft_pixels, WIDTH, WIDTH, WIDTH, 1)

    def model(batch_size: int) -> Tensor:
        pyro.module("first", first)
        pyro.module("second", second)
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(2, NOISE_SIZE), 1.0).to_event(2))
            draft = pyro.deterministic("draft", first(noise[:, 0]).sigmoid().unflatten(1, small), event_dim=3)
            image = second(torch.cat([draft.flatten(1), noise[:, 1]], 1)).sigmoid()
            return pyro.deterministic("image", image.unflatten(1, shape), event_dim=3)

    def with_draft(image: Tensor, draft: Tensor) -> Tensor:
        return of_images(torch.cat([image.flatten(1), draft.flatten(1)], 1))

    discriminators = {"draft": of_drafts, "image": with_draft}
    data = {"draft": avg_pool2d(train.images, 2), "image": train.images}
    options = {"num_steps": args.num_steps, "progress": args.progress}
    start = time.perf_counter()
    if args.one_by_one:
        GANInference(model, {"draft": of_drafts}, site="draft").run({"draft": data["draft"]}, **options)
        inference = GANInference(model, {"image": with_draft}, site=["draft", "image"], exclude="first")
        inference.run(data, **options)
    else:
        inference = GANInference(model, discriminators).run(data, **options)
    print(f"{args.num_steps} steps{' of each stage' if args.one_by_one else ''} in {time.perf_counter() - start:.0f} s")

    reader, drawn = Reader(train, args.num_reader_steps), inference.sample(2000)
    large = enlarged(drawn["draft"])
    print(f"{(reader(large) == reader(drawn['image'])).float().mean():.1%} of the images show the digit of their draft")
    held_out = spread_out(test.images).flatten(1)
    for what, images in (
        ("images", drawn["image"]),
        ("enlarged drafts", large),
        ("training images", spread_out(train.images)),
    ):
        distance = energy_test(images.flatten(1), held_out, num_permutations=1).statistic
        print(f"energy distance from held-out images: {distance:.4f} ({what})")
    pairs = torch.stack([large[:50], drawn["image"][:50]], 1).flatten(0, 1)
    ax = plot_images(pairs, num_columns=10)
    ax.set_title("enlarged drafts, each beside its image")
    ax.figure.savefig(args.out / "staged.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument("--one-by-one", action="store_true", help="the first stage first, then the second")
    parser.add_argument("--num-steps", type=int, default=4000, help="steps of training")
    parser.add_argument("--num-reader-steps", type=int, default=1500, help="steps of the classifier")
    parser.add_argument("--out", type=Path, default=Path("output/staged"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
