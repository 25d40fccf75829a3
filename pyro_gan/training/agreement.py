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
    found = 0.0
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if not (isinstance(value, Tensor) and value.is_floating_point()) or not _computes(node):
            continue
        found = max(found, torch.finfo(value.dtype).eps)
        if device.type == "cuda" and value.dtype == torch.float32 and _is_tf32(str(node.target)):
            found = max(found, TF32)
    return found


def _computes(node: torch.fx.Node) -> bool:
    """Whether a node is more than an input, a view or a cast: rows of a coarse type may be made fine ones."""
    is_view, name = getattr(node.target, "is_view", False), str(node.target)
    return node.op == "call_function" and not is_view and "_to_copy" not in name


def _is_tf32(operation: str) -> bool:
    """Whether a CUDA device computes an operation on numbers of single precision in TensorFloat-32."""
    try:
        convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # settings of a newer kind, which these do not tell
        convolutions = products = True
    return ("convolution" in operation and convolutions) or ("mm" in operation and products)


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
    room = max(4 * unit, torch.finfo(found.dtype).eps ** 0.5)
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
