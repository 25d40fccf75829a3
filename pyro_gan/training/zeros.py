"""Products with zeros, left out of the gradient of a gradient.

The second derivative of a rectifier is 0 but at its kink. Autograd hands these zeros on, and multiplies them by the
weights of all layers below: of a penalty on gradients about a third of the work. Sums and products with them change
nothing, so they are taken out of its graph.
"""

from typing import Any

from torch import Tensor

from pyro_gan.players.graph import nodes_behind

ZERO_BY_INPUT = frozenset(
    f"{name}BackwardBackward0"
    for name in ("Threshold", "LeakyRelu", "Hardtanh", "RreluWithNoise", "Hardshrink", "Softshrink")
)
"""Operations whose gradient by the second of their inputs is 0 everywhere: slopes of piecewise linear functions."""


def without_zeros(output: Tensor) -> Tensor:
    """A tensor from which autograd goes no further than to where a gradient is 0 whatever the numbers are.

    Args:
        output: The tensor, computed from gradients, such as a penalty of them.
    """
    for node in nodes_behind(output):
        if node.name() in ZERO_BY_INPUT:
            node.register_hook(_nothing_by_input)
    return output


def _nothing_by_input(by_inputs: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
    return (by_inputs[0], None, *by_inputs[2:])
