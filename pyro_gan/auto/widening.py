"""The noise of a guide, wider or narrower than it was trained with."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyro_gan.players.player import fill_in


class Widening(nn.Module):
    """Multiplies noise by a number, 1 at first, by which draws lie further apart or closer together.

    Args:
        like: A tensor whose type and device the number has.
    """

    scale: Tensor

    later_buffers: ClassVar[dict[str, float]] = {"scale": 1.0}
    """What states have not that were saved before noise was scaled, and the value that changes nothing."""
    later_format: ClassVar[int] = 3

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones_like(like))

    def forward(self, noise: Tensor) -> Tensor:
        """Scaled noise, of the same shape."""
        return noise * self.scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fill_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
