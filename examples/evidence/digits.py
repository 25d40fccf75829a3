"""Handwritten digits from adversarial and other sources, by the Parzen window of 2014 and by measures that tell more.

The sources: both recipes with the same networks on the same images, Edward's with its tutorial's networks and binarized
images, a VAE by Pyro's SVI whose decoder is the same generator, k-means centroids, a mixture of Gaussians, and real
training images. Each gives 10,000 images. MNIST takes some five minutes to half an hour a source on one core;
a run that is cut off goes on with the next source.

    python examples/evidence/digits.py --out output/evidence

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets", section 5, and its program `parzen_ll.py`.
    Theis, van den Oord and Bethge (2016), "A note on the evaluation of generative models", section 3.2.
"""

import argparse
import functools
import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from fitting import RECIPES, implicit_model, network
from pyro.infer import SVI, Trace_ELBO
from records import complete
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent.parent))

from mnist import binarize, grey, load

from pyro_gan import GANInference
from pyro_gan.criticism import density_coverage, memorization, parzen_log_likelihood, select_bandwidth
from pyro_gan.plots import plot_images
from pyro_gan.training.minibatches import minibatches

NOISE_SIZE, HIDDEN, BATCH_SIZE = 100, [384, 384, 384], 128


def adversarial(
    training: Tensor, num_samples: int, num_steps: int, *, recipe: str, is_tutorial: bool = False, compile: bool = False
) -> Tensor:
    """A generator by a recipe, with the networks of all recipes here or those of Edward's tutorial."""
    hidden, activation = ([128], nn.ReLU()) if is_tutorial else (HIDDEN, None)
    num_pixels = training.shape[1]
    generator = network([NOISE_SIZE, *hidden, num_pixels], activation).append(nn.Sigmoid())
    discriminator = network([num_pixels, *hidden, 1], activation)
    inference = GANInference(implicit_model(generator, NOISE_SIZE), discriminator, **RECIPES[recipe])
    transform = binarize if is_tutorial else grey
    options = {"batch_size": BATCH_SIZE, "transform": transform, "progress": False, "compile": compile}
    inference.run(training, num_steps=num_steps, **options)
    return inference.sample(num_samples)


def autoencoder(training: Tensor, num_samples: int, num_steps: int) -> Tensor:
    """A VAE with the generator as decoder, of binarized images; its samples are the pixels' probabilities."""
    num_pixels = training.shape[1]
    decoder = network([NOISE_SIZE, *HIDDEN, num_pixels])
    encoder = network([num_pixels, *HIDDEN, 2 * NOISE_SIZE])

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    for (x,) in itertools.islice(minibatches(training, BATCH_SIZE, torch.get_default_device(), binarize), num_steps):
        svi.step(x)
    with torch.no_grad():
        return decoder(torch.randn(num_samples, NOISE_SIZE)).sigmoid()


def centroids(training: Tensor, num_samples: int, num_steps: int) -> Tensor:
    """As many k-means centroids of the training images as samples are asked for."""
    seed = int(torch.randint(2**31, ()))
    means = KMeans(num_samples, init="random", n_init=1, max_iter=10, random_state=seed).fit(grey(training).numpy())
    return torch.from_numpy(means.cluster_centers_)


def gaussians(training: Tensor, num_samples: int, num_steps: int) -> Tensor:
    """A mixture of up to 50 Gaussians along the up to 100 directions of largest variance; pixels are clipped."""
    seed = int(torch.randint(2**31, ()))
    directions = PCA(min(100, training.shape[1] // 2), random_state=seed)
    rows = directions.fit_transform(grey(training).double().numpy())  # which covariances want
    num_components = max(1, min(50, len(rows) // 200))
    mixture = GaussianMixture(num_components, reg_covar=1e-4, max_iter=50, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 50 iterations are the budget
        mixture.fit(rows)
    samples = torch.from_numpy(directions.inverse_transform(mixture.sample(num_samples)[0]))
    return samples[torch.randperm(num_samples)].float().clamp(0, 1)


def real(training: Tensor, num_samples: int, num_steps: int) -> Tensor:
    """Training images themselves."""
    return grey(training[torch.randperm(len(training))[:num_samples]])


SOURCES: dict[str, Callable[..., Tensor]] = {
    "default": functools.partial(adversarial, recipe="default"),
    "edward": functools.partial(adversarial, recipe="edward"),
    "edward-tutorial": functools.partial(adversarial, recipe="edward", is_tutorial=True),
    "vae": autoencoder,
    "gaussians": gaussians,
    "k-means": centroids,
    "training": real,
}
ADVERSARIAL = ("default", "edward", "edward-tutorial")
LEARNT_BY_STEPS = (*ADVERSARIAL, "vae")


def measure(samples: Tensor, training: Tensor, validation: Tensor, test: Tensor) -> dict[str, Any]:
    """The Parzen value, how well samples cover the test images, and how near they lie to training images."""
    sigma = select_bandwidth(samples, validation)
    parzen = parzen_log_likelihood(samples, test, sigma)
    spread = density_coverage(test, samples)
    near = memorization(samples, training, test)
    return {
        "parzen": round(parzen.mean, 2),
        "standard_error": round(parzen.standard_error, 2),
        "sigma": round(sigma, 4),
        "density": round(spread.density, 4),
        "coverage": round(spread.coverage, 4),
        "distance": round(near.sample_distance, 4),
        "held_out_distance": round(near.held_out_distance, 4),
        "nearer": round(near.probability_nearer, 4),
    }


def run(
    source: str, data: str, seed: int, num_steps: int, *, num_samples: int, out: Path, compile: bool = False
) -> dict[str, Any]:
    """Draw from one source, leave a picture of 40 images, and measure."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    training, validation, test = (part.to(torch.get_default_device()) for part in load(data))
    options = {"compile": compile} if source in ADVERSARIAL else {}
    samples = SOURCES[source](training, num_samples, num_steps, **options)
    figure, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
    plot_images(samples[:40], num_columns=10, ax=ax)
    figure.savefig(out / f"digits_{source}.png", dpi=80)
    plt.close(figure)
    return measure(samples, grey(training), grey(validation), grey(test))


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    with torch.device(args.device):
        fill(args)


def fill(args: argparse.Namespace) -> None:
    """The same on a device, which is torch's default."""
    args.out.mkdir(parents=True, exist_ok=True)
    data, num_steps, num_samples = ("digits", 20, 100) if args.quick else ("mnist", args.num_steps, 10_000)
    settings = [
        {"source": source, "data": data, "seed": seed, "num_steps": num_steps if source in LEARNT_BY_STEPS else 0}
        for source, seed in itertools.product(args.sources, args.seeds)
    ]
    options = {"num_samples": num_samples, "out": args.out, "compile": args.compile}
    complete(args.out / "digits.csv", settings, functools.partial(run, **options))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sources", nargs="+", choices=list(SOURCES), default=list(SOURCES), help="models and other samples to measure"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a run for each")
    parser.add_argument("--num-steps", type=int, default=15_000, help="steps of training")
    parser.add_argument("--device", default="cpu", help="where sources are trained by steps, such as cuda")
    parser.add_argument("--compile", action="store_true", help="compile the steps of the adversarial ones")
    parser.add_argument("--quick", action="store_true", help="small digits, 20 steps, 100 samples; some seconds")
    parser.add_argument(
        "--out", type=Path, default=Path("output/evidence"), help="folder of the table and the pictures"
    )
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
