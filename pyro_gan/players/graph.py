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
