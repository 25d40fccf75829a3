"""Rows of the data that hold NaN or infinity, such as simulations that failed."""

import warnings
from typing import Literal

from pyro_gan.players.batch import Batch, mapped, valid_rows

Invalid = Literal["raise", "exclude"]
"""What is done about rows of the data that hold NaN or infinity."""


def without_invalid(arrays: Batch, batch_size: int) -> Batch:
    """The rows that hold neither NaN nor infinity; how many others there are is told.

    Raises:
        ValueError: None are left, or no longer enough for a minibatch.
    """
    valid = valid_rows(arrays)
    if valid is None:
        return arrays
    num_rows, left = len(valid), int(valid.sum())
    if not left:
        raise ValueError(
            f"all {num_rows:,} rows of data hold NaN or infinity, so that invalid='exclude' leaves none. Check the "
            "simulator, or the element of the data that is never finite."
        )
    if left < batch_size <= num_rows:
        raise ValueError(
            f"{num_rows - left:,} of {num_rows:,} rows of data hold NaN or infinity, so that invalid='exclude' leaves "
            f"{left:,}, fewer than a minibatch of {batch_size:,}. Pass batch_size={left} or less, or more data."
        )
    warnings.warn(
        f"left out {num_rows - left:,} of {num_rows:,} rows of data that hold NaN or infinity. What is learned is "
        "conditional on there being none.",
        RuntimeWarning,
        stacklevel=4,
    )
    return mapped(arrays, lambda array: array[valid])
