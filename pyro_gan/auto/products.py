r"""Features of large sites and of small ones beside them, and their products.

Whether an image and the numbers beside it belong together is told soon from

.. math:: f(\phi(x), \psi(z), \phi(x) \odot \psi(z)),

with networks :math:`\phi` and :math:`\psi` of each alone: a network of both side by side has to find from hundreds of
pixels and a few numbers what the one says of the other, and at first sees the pixels alone.

References:
    Miyato and Koyama (2018), "cGANs with Projection Discriminator", equation 3: a product of an image's features and
    its label's.
    Donahue et al. (2017), "Adversarial Feature Learning", section 4: networks of images and of latents before one of
    both.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from pyro_gan.auto.networks import SLOPE, fully_connected
from pyro_gan.auto.pooling import embedding_of

LAYERS = 2
"""The hidden layers of large sites' own network; that of the small ones has one less."""


class Products(nn.Module):
    """One vector of features a row: of large sites, of the others, and their products.

    Args:
        sites: The sites' coordinates or views, of both kinds.
        width: The features of each kind, and the units of hidden layers.
    """

    def __init__(self, sites: Sequence[Any], width: int) -> None:
        super().__init__()
        self._are_large = [is_large(site) for site in sites]
        embeddings, networks = [], []
        for kind, depth in ((True, LAYERS), (False, LAYERS - 1)):
            embeddings.append(embedding_of([site for site in sites if is_large(site) == kind], width))
            networks.append(fully_connected(embeddings[-1].size, width, depth, width))
        self.embeddings, self.networks = nn.ModuleList(embeddings), nn.ModuleList(networks)
        self.size = 3 * width

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """The features of rows, with shape `(num_rows, size)`.

        Args:
            values: What is seen of each site, with shape `(num_rows, *shape)`.
        """
        pairs = list(zip(values, self._are_large, strict=True))
        kinds = ([value for value, kind in pairs if kind], [value for value, kind in pairs if not kind])
        parts = zip(kinds, self.embeddings, self.networks, strict=True)
        large, small = (network(embedding(each)) for each, embedding, network in parts)
        return torch.cat([leaky_relu(large, SLOPE), leaky_relu(small, SLOPE), large * small], 1)


def is_large(site: Any) -> bool:
    """Whether a site has so many numbers that small ones beside it are hard to see."""
    return bool(getattr(site, "is_large", False))


def are_multiplied(sites: Sequence[Any]) -> bool:
    """Whether there are sites of both kinds."""
    return len({is_large(site) for site in sites}) == 2
