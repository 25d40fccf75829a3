"""Handwritten digits as images, networks for them, and a classifier that reads them, for the examples beside."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyro_gan.datasets import LabelledImages, load_digits, load_mnist


def load(name: str) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images with their labels, as numbers from 0 to 1 with shape (num_rows, 1, height, width)."""
    if name == "mnist":
        train, test = load_mnist(shape="image")
    else:
        digits = load_digits(shape="image")
        train, test = (
            LabelledImages(digits.images[part], digits.labels[part]) for part in (slice(300, None), slice(300))
        )
    return LabelledImages(train.images / 255, train.labels), LabelledImages(test.images / 255, test.labels)


def spread_out(images: Tensor, number: int = 2000) -> Tensor:
    """Up to so many rows from all over: the two halves of MNIST's test images are of different writers."""
    return images[:: max(1, len(images) // number)][:number]


def network(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with leaky rectifiers between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])


class Reader:
    """A classifier of digits, to judge what is drawn.

    Args:
        data: The images that it is trained on.
        num_steps: The steps of Adam; 1,500 will do for MNIST.
    """

    def __init__(self, data: LabelledImages, num_steps: int) -> None:
        side = data.images.shape[-1] // 4
        self.network = nn.Sequential(
            *(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1)),
            *(nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * side**2, 128), nn.ReLU(), nn.Linear(128, 10)),
        )
        optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-3, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for _ in range(num_steps):
            rows = torch.randint(len(data.images), (256,))
            optimizer.zero_grad()
            cross_entropy(self.network(data.images[rows]), data.labels[rows]).backward()
            optimizer.step()
            schedule.step()
        self.network.eval()

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """What it thinks of each digit, with shape `(num_images, 10)`."""
        parts = images.reshape(len(images), 1, *images.shape[-2:]).split(1000)
        return torch.cat([self.network(part).softmax(1) for part in parts])

    def __call__(self, images: Tensor) -> Tensor:
        """The digits that it reads, with shape `(num_images,)`."""
        return self.probabilities(images).argmax(1)
