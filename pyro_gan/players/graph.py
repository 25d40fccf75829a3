"""Autograd's graph: what a tensor was computed by, and from which leaves."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def nodes_behind(output: Tensor) -> Iterator[Any]:
    """The operations of autograd's graph behind a tensor, each once, in a fixed order.

    Args:
        output: The tensor.
    """
    seen: set[Any] = set()
    nodes = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
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
    nodes, names, seen = [output.grad_fn], list[str](), set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().startswith((*SHAPING, *through)):
            nodes.extend([parent for parent, _ in node.next_functions])
        else:
            names.append(node.name())
    return names


def saturates(output: Tensor) -> bool:
    """Whether all of a tensor comes out of functions that flatten towards both ends, or is such with another scale.

    Args:
        output: The tensor.
    """
    found = ends(output, through=("Add", "Div", "Mul", "Neg", "Rsub", "Sub"))
    return bool(found) and all(name.startswith(("Hardsigmoid", "Hardtanh", "Sigmoid", "Tanh")) for name in found)
