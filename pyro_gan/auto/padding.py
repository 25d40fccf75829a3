"""Sets and series of different lengths as rows of one length, with a mask that says what is there."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pyro_gan.checks import shown


def padded(rows: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Sets or series, filled up with zeros to the length of the longest, and their mask.

    Args:
        rows: One tensor or array each, with shape `(length, *element_shape)`.

    Returns:
        The rows, with shape `(num_rows, longest, *element_shape)`, and the mask, with shape `(num_rows, longest)`, True
        where there is an element.

    Raises:
        TypeError: `rows` is no list of arrays.
        ValueError: There is none, one has no element, or their elements differ in shape.

    Example:
        >>> rows, mask = padded([[1.0, 2.0], [3.0]])
        >>> rows.tolist(), mask.tolist()
        ([[1.0, 2.0], [3.0, 0.0]], [[True, True], [True, False]])
    """
    if isinstance(rows, Tensor) or not isinstance(rows, Sequence):
        raise TypeError(f"rows must be a list of tensors or arrays, but is {shown(rows)} ({type(rows).__name__}).")
    tensors = [torch.as_tensor(each) for each in rows]
    empty = [number for number, each in enumerate(tensors) if each.dim() == 0 or not len(each)]
    if empty or not tensors:
        what = f"that of row {empty[0]} has shape {tuple(tensors[empty[0]].shape)}" if empty else "there are none"
        raise ValueError(
            f"rows must have shape (length, *element_shape) with at least one element, but {what}. Leave out empty "
            "ones, and pass single numbers as tensors of one element."
        )
    shapes = {tuple(each.shape[1:]) for each in tensors}
    if len(shapes) > 1:
        raise ValueError(
            f"the elements of all rows must have one shape, but have {', '.join(map(str, sorted(shapes)))}. Bring them "
            "to one."
        )
    masks = [torch.ones(len(each), dtype=torch.bool, device=each.device) for each in tensors]
    return pad_sequence(tensors, batch_first=True), pad_sequence(masks, batch_first=True)
