r"""Features of sets and series of any length, in which what is not there counts for nothing.

A set is summed up by a mean over its elements of what a network makes of each,

.. math:: h = \frac{1}{n} \sum_l m_l \, \phi(v_l),

beside the mean of the elements themselves, the logarithm of their deviation and their number n. A network of these can
be any function of sets (Zaheer et al. 2017). Where the scale of the elements is unknown, as of measurements with an
unknown error, the deviation tells of it at once, over orders of magnitude which the network would have to learn. A
series first passes convolutions, which are told where an element stands. What comes out depends neither on
what is not there nor on how far rows were filled up, but for rounding.

How wide a posterior is, and how far it leans towards the prior, depends on the number of elements as series in 1/n.
So the networks see :math:`\sqrt{\bar n / n}` and the logarithm of n, and the linear path of a guide the mean of the
elements, :math:`\bar n / n` times that, of a set the deviation, and :math:`\sqrt{\bar n / n}` times the noise.

References:
    Zaheer et al. (2017), "Deep Sets", theorem 2.
    Radev et al. (2022), "BayesFlow: Learning Complex Stochastic Models With Invertible Neural Networks", section
    "Summary network": which network for which data.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pyro_gan.auto.coordinates import SMALLEST_IMAGE
from pyro_gan.auto.networks import Embedding, activated, flat
from pyro_gan.auto.views import Elements

LEAST = 1e-3
"""What is added to the sum of squared deviations and to their number less 1, so that a single element has one, 1."""


class PooledEmbedding(nn.Module):
    """One vector of features a row, from several sites of which some are sets or series.

    Args:
        sites: The sites' coordinates or views.
        width: As of :class:`~pyro_gan.auto.networks.Embedding`, which the other sites pass.
    """

    def __init__(self, sites: Sequence[Any], width: int) -> None:
        super().__init__()
        self._are_pooled = [isinstance(site, Elements) for site in sites]
        pools = [Pooling(site, width) for site in sites if isinstance(site, Elements)]
        self.pools = nn.ModuleList(pools)
        others = [site for site in sites if not isinstance(site, Elements)]
        self.others = Embedding(others, width) if others else None
        self.size = sum(pool.size for pool in pools) + (self.others.size if self.others is not None else 0)

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """The features of rows, with shape `(num_rows, size)`.

        Args:
            values: What is seen of each site, with shape `(num_rows, *shape)`.
        """
        pairs = list(zip(values, self._are_pooled, strict=True))
        pooled = [value for value, is_pooled in pairs if is_pooled]
        features = [pool(value) for pool, value in zip(self.pools, pooled, strict=True)]
        if self.others is not None:
            features.append(self.others([value for value, is_pooled in pairs if not is_pooled]))
        return torch.cat(features, 1)


def embedding_of(sites: Sequence[Any], width: int) -> Embedding | PooledEmbedding:
    """The network that makes features of several sites, whether sets and series are among them or not.

    Args:
        sites: The sites' coordinates or views.
        width: As of :class:`~pyro_gan.auto.networks.Embedding`.
    """
    is_plain = not any(isinstance(site, Elements) for site in sites)
    return Embedding(sites, width) if is_plain else PooledEmbedding(sites, width)


class Pooling(nn.Module):
    """A vector of features of each set or series.

    Args:
        site: How it is seen.
        width: The features of a series; a set has half as many, of elements with as many units in two layers.
    """

    def __init__(self, site: Elements, width: int) -> None:
        super().__init__()
        num_features = site.num_features
        self._site = (site,)  # in a tuple, or its buffers would be this module's too
        half = max(1, width // 2)  # an observation has many elements
        self.elements: nn.Module
        if site.is_ordered:
            self.elements = Convolutions(num_features, site.longest, width)
        else:
            self.elements = nn.Sequential(*activated(nn.Linear(num_features, half)), *activated(nn.Linear(half, half)))
        self.size = num_features + 2 + (width if site.is_ordered else half) + site.num_deviations

    def forward(self, values: Tensor) -> Tensor:
        """The features, with shape `(num_rows, size)`.

        Args:
            values: What is seen of rows, with shape `(num_rows, length, num_features + 1)`.
        """
        elements, there = parted(values)
        if isinstance(self.elements, Convolutions):
            features = mean(*self.elements(elements, there))
        else:
            features = mean(self.elements(elements), there)
        ratio = self._site[0].number / number(there)
        deviations = [deviation(self._site[0], elements, there)] if self._site[0].num_deviations else []
        return torch.cat([mean(elements, there), ratio.sqrt(), ratio.log(), features, *deviations], 1)


class Convolutions(nn.Module):
    """Convolutions that halve a series, as often as the longest one at first allows.

    Args:
        num_features: The features of an element.
        longest: The length of the longest series at first, the unit in which places are told.
        width: The features that come out; the first layer has a fourth as many, each further one twice as many as the
            one before, at most `width`.
    """

    def __init__(self, num_features: int, longest: int, width: int) -> None:
        super().__init__()
        self.longest = longest
        channels = max(1, width // 4)
        layers = [nn.Sequential(*activated(nn.Conv1d(num_features + 2, channels, kernel_size=3, padding=1)))]
        while longest >= SMALLEST_IMAGE:
            wanted = min(2 * channels, width)
            layers.append(nn.Sequential(*activated(nn.Conv1d(channels, wanted, kernel_size=4, stride=2, padding=1))))
            channels, longest = wanted, longest // 2
        self.layers = nn.ModuleList(layers)
        self.last = nn.Sequential(*activated(nn.Linear(channels, width)))

    def forward(self, elements: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pieces of the series, and which pieces are there.

        Args:
            elements: The elements, with shape `(num_rows, length, num_features)`.
            there: 1 where there is one, else 0, with shape `(num_rows, length, 1)`.

        Returns:
            The features, with shape `(num_rows, num_pieces, width)`, and likewise `(num_rows, num_pieces, 1)`.
        """
        length = elements.shape[1]
        place = torch.arange(length, dtype=elements.dtype, device=elements.device) / self.longest
        place = place[:, None].expand(*elements.shape[:2], 1) * there
        piece = 2 ** (len(self.layers) - 1)
        full = -(-length // piece) * piece  # so that no layer cuts a piece off, wherever rows end
        values = pad(torch.cat([elements, place, there], 2).transpose(1, 2), (0, full - length))
        is_there = pad(there.transpose(1, 2), (0, full - length))
        for number, layer in enumerate(self.layers):
            if number:
                is_there = torch.maximum(is_there[..., ::2], is_there[..., 1::2])
            values = layer(values) * is_there
        return self.last(values.transpose(1, 2)), is_there.transpose(1, 2)


def summary(site: Any, values: Tensor) -> Tensor:
    """What a linear path takes of a site: coordinates, or the mean of sets and series, and once more for few elements.

    Of a set the logarithm of the deviation follows.

    Args:
        site: The site's coordinates or view.
        values: What is seen of its rows, with shape `(num_rows, *shape)`.

    Returns:
        Vectors, with shape `(num_rows, summary_size(site))`.
    """
    if not isinstance(site, Elements):
        return flat(values)
    elements, there = parted(values)
    center = mean(elements, there)
    deviations = [deviation(site, elements, there)] if site.num_deviations else []
    return torch.cat([center, center * (site.number / number(there)), *deviations], 1)


def sharpness(site: Any, values: Tensor) -> Tensor | None:
    r""":math:`\sqrt{\bar n / n}` of sets and series, with shape `(num_rows, 1)`, else `None`.

    Args:
        site: The site's coordinates or view.
        values: What is seen of its rows.
    """
    return (site.number / number(parted(values)[1])).sqrt() if isinstance(site, Elements) else None


def summary_size(site: Any) -> int:
    """The numbers that :func:`summary` has of a row."""
    return 2 * site.num_features + site.num_deviations if isinstance(site, Elements) else int(site.size)


def parted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Elements, with shape `(num_rows, length, num_features)`, and 1 where they are there, `(num_rows, length, 1)`."""
    return values[..., :-1], values[..., -1:].detach()


def number(there: Tensor) -> Tensor:
    """How many elements are there, at least 1, with shape `(num_rows, 1)`."""
    return there.sum(1).clamp_min(1)


def mean(features: Tensor, there: Tensor) -> Tensor:
    """The mean over the elements that are there, with shape `(num_rows, num_features)`."""
    return (features * there).sum(1) / number(there)


def deviation(site: Elements, elements: Tensor, there: Tensor) -> Tensor:
    """The logarithm of the deviation of each coordinate of a set's elements, with shape `(num_rows, num_deviations)`.

    Args:
        site: How the set is seen.
        elements: The elements, with shape `(num_rows, length, num_features)`: their coordinates and, where entries may
            be missing by themselves, which of these are there.
        there: 1 where an element is there, else 0, with shape `(num_rows, length, 1)`.
    """
    size = site.num_deviations
    values, entries = elements[..., :size], elements[..., size:].detach()
    present = entries.repeat_interleave(size // entries.shape[2], 2) if entries.shape[2] else there
    rest = (values - mean(values, present).unsqueeze(1)) * present
    variance: Tensor = (rest.square().sum(1) + LEAST) / (number(present) - 1 + LEAST)
    return variance.log() / 2
