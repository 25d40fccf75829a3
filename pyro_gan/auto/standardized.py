"""A last layer for generators of numbers that live far from 0 and 1.

An optimizer such as Adam moves each weight by its rate whatever the data's unit, so that a generator of ages and
incomes would spend its run on growing to thousands.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.checks import shown
from pyro_gan.players.batch import as_batch, named


class Standardized(nn.Module):
    r"""A network whose outputs are taken for standardized numbers, and brought to the place and scale of some rows.

    Each feature :math:`v` that the network gives becomes :math:`T(\mu + \sigma v)`, with :math:`\mu` and :math:`\sigma`
    the mean and the standard deviation of that feature over the rows, outliers aside, and :math:`T` the map to the
    support. A feature with long tails becomes the hyperbolic sine of such a line (:mod:`pyro_gan.auto.spread`). Nothing
    of this layer is trained.

    Args:
        network: Called with whatever the layer is called with; its outputs have shape `(*, *event_shape)`.
        rows: Rows of the data, with shape `(num_rows, *event_shape)`: a tensor or an array.
        support: Where the outputs shall lie, such as `constraints.positive`; by default anywhere.

    Raises:
        TypeError: `network` is no module, or `rows` no tensor or array of numbers.
        ValueError: There are fewer than two rows, or a value is NaN or infinite; when called, the network's outputs
            have another event shape.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[40.0, 30_000.0], [60.0, 50_000.0]])
        >>> layer = Standardized(torch.nn.Identity(), rows)
        >>> layer(torch.tensor([[0.0, 0.0], [1.0, -1.0]])).tolist()
        [[50.0, 40000.0], [60.0, 30000.0]]
    """

    def __init__(self, network: nn.Module, rows: Any, *, support: Constraint = constraints.real) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be an nn.Module, but is {shown(network)} ({type(network).__name__}).")
        if isinstance(rows, tuple | list | dict):
            raise TypeError(f"rows must be one tensor or array of numbers, but is a {type(rows).__name__}.")
        values = dict(named(as_batch((rows,), torch.device("cpu"), "rows", may_wait=True)))[0]
        if len(values) < 2:
            raise ValueError(f"rows must be at least two, to say how they are spread, but there is {len(values)}.")
        dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
        self.network = network
        self.coordinates = Coordinates("rows", support, values.to(dtype), dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The network's outputs at the place and scale of the rows, with shape `(*, *event_shape)`."""
        outputs, shape = self.network(*args, **kwargs), self.coordinates.shape
        if tuple(outputs.shape[outputs.dim() - len(shape) :]) != shape:
            raise ValueError(
                f"the network's outputs have shape {tuple(outputs.shape)}, but those of Standardized must end in "
                f"{shape}, the event shape of its rows. Let the network give as many numbers."
            )
        return self.coordinates.to_support(outputs)
