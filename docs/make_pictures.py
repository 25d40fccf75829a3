"""Draws the pictures of docs/criticism.md: python docs/make_pictures.py (or make pictures)."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from pyro_gan import criticism
from pyro_gan.datasets import load_digits, ring
from pyro_gan.plots import plot_coverage, plot_density_2d, plot_neighbours, plot_ranks, plot_witness

FOLDER = Path(__file__).parent / "images"


def save(name: str) -> None:
    plt.savefig(FOLDER / f"{name}.png", dpi=100)
    plt.close()


def two_samples() -> None:
    """A narrow and a wide Gaussian with their witness, and a ring with a sample that misses modes."""
    axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")[1]
    plot_witness(torch.randn(1000), 2 * torch.randn(1000), ax=axes[0])
    data, samples = ring(4000, scale=0.08), ring(1000, scale=0.08)
    plot_density_2d(data.rows, samples.rows[samples.labels < 6], ax=axes[1])
    save("two_samples")


def neighbours() -> None:
    """Copies of training images, and images that are new, beside the training images nearest to them."""
    images = load_digits().images / 255
    images = images[torch.randperm(len(images))]
    training, new = images[:1200], images[1200:1210]
    axes = plt.subplots(2, 1, figsize=(8, 5), layout="constrained")[1]
    copies = (training[:10] + 0.02 * torch.randn(10, 64)).clamp(0, 1)
    for ax, samples, title in (axes[0], copies, "copies"), (axes[1], new, "new images"):
        found = criticism.nearest_rows(samples, training)
        plot_neighbours(samples, training[found.indices], found.distances, ax=ax).set_title(title)
    save("neighbours")


def calibration() -> None:
    """Ranks and coverage of a posterior that is too narrow by a half: theta ~ N(0, 1), x ~ N(theta, 1)."""
    truth = torch.randn(1000, 1)
    x = truth + torch.randn(1000, 1)
    narrow = x[:, None] / 2 + 0.5 * 0.5**0.5 * torch.randn(1000, 99, 1)
    exact = x[:, None] / 2 + 0.5**0.5 * torch.randn(1000, 99, 1)
    axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")[1]
    plot_ranks(criticism.calibration_ranks(truth, narrow)[:, 0], 99, ax=axes[0])
    curves = {name: criticism.expected_coverage(truth, draws) for name, draws in (("narrow", narrow), ("exact", exact))}
    joint = {name: curve.joint for name, curve in curves.items()}
    plot_coverage(curves["exact"].levels, joint, num_simulations=1000, ax=axes[1])
    save("calibration")


if __name__ == "__main__":
    torch.manual_seed(0)
    for draw in (two_samples, neighbours, calibration):
        draw()
