"""Whether compiled gradients are the eager ones, but for rounding."""

import math
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from pyro_gan.training.step import Gradients
from pyro_gan.training.tracing import flat

ROUNDING = 1e-4
"""The relative distance of gradients that is always taken for rounding."""

LARGEST_JUMP = 0.1
"""The relative distance of gradients that is never taken for rounding."""

TF32 = 2.0**-10
"""The relative rounding of TensorFloat-32, in which CUDA devices compute convolutions unless told otherwise."""


def rounding_unit(graph: torch.fx.GraphModule, device: torch.device) -> float:
    """The relative rounding of the coarsest numbers that a graph computes with, as below `torch.autocast`.

    Args:
        graph: Operations as `make_fx` has traced them.
        device: Where they run.
    """
    values = [node.meta.get("val") for node in graph.graph.nodes]
    types = {value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point()}
    units = [torch.finfo(dtype).eps for dtype in types]
    if device.type == "cuda" and (torch.get_float32_matmul_precision() != "highest" or "convolution" in graph.code):
        units.append(TF32)
    return max(units, default=0.0)


def agree(found: Tensor | None, expected: Tensor | None, unit: float) -> bool:
    """Whether two tensors are the same but for rounding, which is relative to the largest of their numbers.

    Args:
        found: A result of compiled code.
        expected: The eager result.
        unit: As of :func:`rounding_unit`.
    """
    if found is None or expected is None:
        return found is expected
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not found.is_floating_point() or not found.numel():
        return torch.equal(found, expected)
    room = max(unit, torch.finfo(found.dtype).eps) ** 0.5
    return torch.allclose(found, expected, rtol=room, atol=room * float(expected.abs().max()), equal_nan=True)


def distances_of(found: Gradients, expected: Gradients) -> tuple[float, float]:
    """How far two gradients of all parameters together lie apart, and two penalties, relative to their size."""
    if list(map(_shape, flat(found))) != list(map(_shape, flat(expected))):
        return math.inf, math.inf
    pairs = [(one, other) for one, other in zip(found.values, expected.values, strict=True) if one is not None]
    return _distance(pairs), _distance([(found.penalty, expected.penalty)] if found.penalty is not None else [])


def _distance(pairs: list[tuple[Any, Any]]) -> float:
    size = math.sqrt(sum(float(other.detach().square().sum()) for _, other in pairs))
    apart = math.sqrt(sum(float((one - other).detach().square().sum()) for one, other in pairs))
    return apart / size if size else apart


def _shape(value: Tensor | None) -> Hashable:
    return None if value is None else (value.shape, value.dtype)
