"""Autograd's graph: what a tensor was computed by, and from which leaves."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def nodes_behind(output: Tensor, through: tuple[str, ...] | None = None) -> Iterator[Any]:
    """The operations of autograd's graph behind a tensor, each once, in a fixed order.

    Args:
        output: The tensor.
        through: How the names of operations begin behind which to look; by default all.
    """
    seen: set[Any] = set()
    nodes = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if through is None or node.name().startswith(through):
            nodes.extend([parent for parent, _ in reversed(node.next_functions)])


def leaves(output: Tensor) -> list[Tensor]:
    """The parameters that a tensor was computed from: the leaves of its autograd graph, in a fixed order."""
    own = [output] if output.grad_fn is None and output.requires_grad else []
    return own + [node.variable for node in nodes_behind(output) if hasattr(node, "variable")]


SHAPING = (
    *("Alias", "AsStrided", "Cat", "Clone", "Expand", "Permute", "Reshape", "Select", "Slice", "Split"),
    *("Squeeze", "Stack", "Transpose", "TBackward", "ToCopy", "Unbind", "UnsafeView", "Unsqueeze", "View"),
)
"""How the names of operations begin that change no number."""


def ends(output: Tensor, through: tuple[str, ...] = ()) -> list[str]:
    """The names of the operations that a tensor comes out of, but for changes of shape.

    Args:
        output: The tensor.
        through: How the names of others begin through which to look as well.

    Returns:
        A name for each of its parts, such as "SigmoidBackward0"; none where it has no graph.
    """
    passed = (*SHAPING, *through)
    names = (node.name() for node in nodes_behind(output, passed))
    return [name for name in names if not name.startswith(passed)]


def saturates(output: Tensor) -> bool:
    """Whether all of a tensor comes out of functions that flatten towards both ends, or is such with another scale.

    Args:
        output: The tensor.
    """
    found = ends(output, through=("Add", "Div", "Mul", "Neg", "Rsub", "Sub"))
    return bool(found) and all(name.startswith(("Hardsigmoid", "Hardtanh", "Sigmoid", "Tanh")) for name in found)
