"""Paths between noise vectors."""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.plots.arrays import at_least


def interpolate(first: Any, second: Any, num_points: int, kind: Literal["linear", "spherical"] = "linear") -> Tensor:
    r"""Noise vectors on the way from one to another, both ends included, in equal steps.

    With :math:`t` from 0 to 1 and the angle :math:`\omega` between the vectors :math:`a` and :math:`b`, they are

    .. math:: (1 - t)\, a + t\, b \quad \text{(linear)}, \qquad
        \frac{\sin((1 - t)\, \omega)}{\sin \omega}\, a + \frac{\sin(t\, \omega)}{\sin \omega}\, b
        \quad \text{(spherical)}.

    Choose the way along which the noise stays likely. Gaussian noise of many dimensions lies close to a sphere, so the
    middle of a straight line is far too short; spherical interpolation keeps the length of vectors of equal length.
    Uniform noise on a box keeps to the box along straight lines.

    Args:
        first: A vector of noise with shape `(noise_size,)`, or several with shape `(*, noise_size)`.
        second: As many others, with the same shape.
        num_points: The number of vectors on each way, at least 2.
        kind: `"linear"` or `"spherical"`. Parallel vectors have the angle 0, where both are the same.

    Returns:
        The vectors, with shape `(*, num_points, noise_size)`. The images that a generator makes of them are drawn by
        `plot_images(generator(noise.flatten(0, -2)), num_columns=num_points)`, one way a row.

    Raises:
        ValueError: Shapes or devices differ, values are not finite numbers of floating point, `kind` is unknown, there
            are fewer than 2 points, or spherical interpolation is asked for where it has no answer: from or to a zero
            vector, which has no direction, and between opposite vectors, with equally short ways on all sides.

    Example:
        >>> interpolate(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), 3)
        tensor([[2., 0.],
                [1., 1.],
                [0., 2.]])
        >>> interpolate(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), 3, kind="spherical")
        tensor([[2.0000, 0.0000],
                [1.4142, 1.4142],
                [0.0000, 2.0000]])

    References:
        Shoemake (1985), "Animating Rotation with Quaternion Curves"; White (2016), "Sampling Generative Networks",
        for noise vectors.
    """
    if kind not in ("linear", "spherical"):
        raise ValueError(f"kind must be 'linear' or 'spherical', but is {shown(kind)}.")
    first, second = _vectors(first, second)
    way = torch.linspace(0, 1, at_least("num_points", num_points, 2), dtype=first.dtype, device=first.device)[:, None]
    first, second = first[..., None, :], second[..., None, :]
    if kind == "linear":
        return torch.lerp(first, second, way)
    fraction = _angles(first, second) / math.pi
    # sin(t w) / sin(w) as t sinc(t w) / sinc(w), which is t where the angle is 0
    backward, forward = ((t * torch.sinc(t * fraction) / torch.sinc(fraction)) for t in (1 - way, way))
    return backward * first + forward * second


def _vectors(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Two tensors of noise vectors, of one shape, precision and device."""
    pair = [
        (rows if isinstance(rows, Tensor) else torch.as_tensor(np.asarray(rows))).detach() for rows in (first, second)
    ]
    shapes = [tuple(rows.shape) for rows in pair]
    if shapes[0] != shapes[1] or not pair[0].dim() or not pair[0].numel():
        raise ValueError(f"first has shape {shapes[0]} and second {shapes[1]}: expected the same (*, noise_size).")
    if pair[0].device != pair[1].device:
        raise ValueError(f"first is on {pair[0].device} and second on {pair[1].device}: expected one device.")
    for name, rows in zip(("first", "second"), pair, strict=True):
        if not rows.is_floating_point():
            raise ValueError(f"{name} is of type {rows.dtype}, but expected floating point. Pass {name}.float().")
        if not torch.isfinite(rows).all():
            raise ValueError(f"{name} holds NaN or infinity. Draw other noise.")
    precision = torch.promote_types(torch.promote_types(pair[0].dtype, pair[1].dtype), torch.float32)
    return pair[0].to(precision), pair[1].to(precision)


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """The angles between vectors along the last axis, in radians, which stays.

    Raises:
        ValueError: A vector is zero, or two are opposite to working precision.
    """
    lengths = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    if not (lengths[0] > 0).all() or not (lengths[1] > 0).all():
        raise ValueError("a zero vector has no direction to turn from or to. Pass kind='linear', or other noise.")
    first, second = first / lengths[0], second / lengths[1]
    together = (first + second).norm(dim=-1, keepdim=True)
    if (together < math.sqrt(torch.finfo(first.dtype).eps)).any():
        raise ValueError("between opposite vectors no way is the shortest. Pass kind='linear', or other noise.")
    return 2 * torch.atan2((first - second).norm(dim=-1, keepdim=True), together)  # exact also for small angles
