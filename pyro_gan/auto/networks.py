"""The layers of networks that build themselves: fully connected for vectors, convolutions for images.

There is no batch normalization and no dropout. What a network says of a row does not depend on the other rows, and it
can be differentiated twice, as penalties of its gradient need.

References:
    He et al. (2015), "Delving Deep into Rectifiers", section 2.2: the weights' initial variance.
    Radford, Metz and Chintala (2016), "Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks", section 3: convolutions with a stride in place of pooling.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pyro_gan.auto.coordinates import SMALLEST_IMAGE

Part = TypeVar("Part", bound=nn.Module)


class Site(Protocol):
    """A site as networks see it."""

    is_image: bool
    shape: tuple[int, ...]
    """That of what is seen of a row."""

    @property
    def size(self) -> int:
        """The numbers that are seen of a row."""


SLOPE = 0.2
"""The slope of the leaky rectifier below 0."""

SLOWNESS = 4.0
"""How many times slower a slow layer moves."""


class SlowLinear(nn.Linear):
    r"""A linear layer with weights :math:`W / 4` and biases :math:`b / 4` of its parameters :math:`W` and :math:`b`.

    Adam moves a parameter by its rate whatever the gradient's size, and so this layer a quarter as fast as others.
    """

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight / SLOWNESS, self.bias / SLOWNESS)


@torch.no_grad()
def start_as_fast(slow: nn.Module) -> None:
    """Give slow layers, whose parameters were drawn as those of fast ones, the same start."""
    for parameter in slow.parameters():
        parameter.mul_(SLOWNESS)


def decaying(part: Part) -> Part:
    """Mark a part of a network as one whose weights decay under :func:`~pyro_gan.recipes.default_optimizer`."""
    part.decays = True  # type: ignore[assignment]
    return part


def fully_connected(num_inputs: int, width: int, depth: int, num_outputs: int, is_slow: bool = False) -> nn.Sequential:
    """A fully connected network with leaky rectifiers.

    Args:
        num_inputs: The features of a row.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
        num_outputs: The numbers that come out, without an activation.
        is_slow: Whether the layers are slow ones.
    """
    kind = SlowLinear if is_slow else nn.Linear
    sizes = [num_inputs, *depth * [width]]
    layers = [layer for pair in pairwise(sizes) for layer in activated(kind(*pair))]
    network = nn.Sequential(*layers, kind(width, num_outputs))
    if is_slow:
        start_as_fast(network)
    return network


def convolutions(shape: tuple[int, ...], width: int) -> nn.Sequential:
    """Convolutions that halve an image until its shorter side is below 8, then a linear layer.

    Args:
        shape: The image's shape, (channels, height, width).
        width: The numbers that come out; the first convolution has a fourth as many channels, each further one twice as
            many as the one before, at most `width`.
    """
    channels, *sides = shape
    layers: list[nn.Module] = []
    wanted = max(1, width // 4)
    while min(sides) >= SMALLEST_IMAGE:
        layers += activated(nn.Conv2d(channels, wanted, kernel_size=4, stride=2, padding=1))
        channels, wanted = wanted, min(2 * wanted, width)
        sides = [side // 2 for side in sides]
    return nn.Sequential(*layers, nn.Flatten(), *activated(nn.Linear(channels * sides[0] * sides[1], width)))


class Embedding(nn.Module):
    """One vector of features a row, from the coordinates of several sites.

    Without images, these are the coordinates themselves. Beside images, whose features come out of convolutions, all
    other sites together go through one layer.

    Args:
        coordinates: The sites' coordinates.
        width: The number of features of an image, and of all other sites beside images.
    """

    def __init__(self, coordinates: Sequence[Site], width: int) -> None:
        super().__init__()
        self.images = nn.ModuleList(convolutions((1, *site.shape)[-3:], width) for site in coordinates if site.is_image)
        num_others = sum(site.size for site in coordinates if not site.is_image)
        embeds = bool(self.images) and num_others > 0
        self.others = nn.Sequential(*activated(nn.Linear(num_others, width))) if embeds else nn.Identity()
        self._are_images = [site.is_image for site in coordinates]
        self.size = width * (len(self.images) + embeds) if self.images else num_others

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """The features of rows.

        Args:
            values: Each site's coordinates, with shape `(num_rows, *shape)`.

        Returns:
            The features, with shape `(num_rows, size)`.
        """
        images = [value for value, is_image in zip(values, self._are_images, strict=True) if is_image]
        others = [flat(value) for value, is_image in zip(values, self._are_images, strict=True) if not is_image]
        features = [
            network(image.reshape(len(image), *(1, *image.shape[1:])[-3:]))
            for network, image in zip(self.images, images, strict=True)
        ]
        return torch.cat([*features, *([self.others(torch.cat(others, 1))] if others else [])], 1)


def flat(rows: Tensor) -> Tensor:
    """Rows as vectors, with shape `(num_rows, num_features)`."""
    return rows.reshape(len(rows), rows.shape[1:].numel())


def activated(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> list[nn.Module]:
    """A layer and its rectifier, with weights that keep the variance from layer to layer."""
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    return [layer, nn.LeakyReLU(SLOPE)]
