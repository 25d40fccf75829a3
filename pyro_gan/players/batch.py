"""A minibatch: what a loader gives, or a user passes to `step`, as tensors with rows on the device."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import shown

FOR_TEXT = (
    "For labels, np.unique(text, return_inverse=True)[1] has a number each; captions are embedding.tokens(captions) of "
    "embedding = CaptionEmbedding(captions, size)."
)
"""How text becomes numbers."""

FOR_LISTS = "Make it one, for example torch.tensor(rows): a list is taken for minibatches, and theirs for arrays."
"""How lists of numbers become rows."""

Batch = tuple[Tensor, ...] | dict[str, Tensor]
"""A minibatch: tensors in order or by name, each with shape `(num_rows, *event_shape)`."""


def as_batch(
    value: Any,
    device: torch.device,
    source: str = "the minibatch",
    may_wait: bool = False,
    is_own: bool = False,
    may_be_invalid: bool = False,
) -> Batch:
    """What a loader gives, or a user passes to `step`, as a minibatch on the device.

    Args:
        value: A tensor or array, a tuple or list, or a mapping of such.
        device: Where to put them.
        source: What to call `value` in messages.
        may_wait: Whether values that lie on a device already are read too, to see that they are finite.
        is_own: Whether the minibatch has memory of its own, which a network may write to and the source may not.
        may_be_invalid: Whether rows may hold NaN or infinity.

    Raises:
        TypeError: `value` holds something that is no array.
        ValueError: The arrays are empty or differ in length, or a value is NaN or infinite.
    """
    place = partial(_placed, device=device, may_wait=may_wait, is_own=is_own, may_be_invalid=may_be_invalid)
    if isinstance(value, Mapping):
        batch: Batch = {name: place(array, f"{source}[{name!r}]") for name, array in value.items()}
    elif isinstance(value, tuple | list):
        batch = tuple(place(array, f"{source}[{index}]") for index, array in enumerate(value))
    else:
        batch = (place(value, source),)
    _check_lengths(batch, source)
    return batch


def number_of_rows(batch: Batch) -> int:
    """The number of rows of a minibatch."""
    return len(next(iter(tensors_of(batch))))


def resized(rows: Tensor, num_rows: int) -> Tensor:
    """Another number of rows: cut, or repeated from the start."""
    return rows[torch.arange(num_rows, device=rows.device) % len(rows)]


def resized_batch(batch: Batch, num_rows: int) -> Batch:
    """Another number of rows of each element of a minibatch."""
    return mapped(batch, lambda rows: resized(rows, num_rows))


def mapped(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """A minibatch of what a function makes of each element."""
    if isinstance(batch, dict):
        return {name: function(rows) for name, rows in batch.items()}
    return tuple([function(rows) for rows in batch])


def row_types(batch: Batch) -> dict[Any, tuple[torch.Size, torch.dtype]]:
    """The shape and the type of each element's rows."""
    return {name: (rows.shape[1:], rows.dtype) for name, rows in named(batch)}


def concatenated(batches: Sequence[Batch]) -> Batch:
    """The rows of minibatches whose rows have the same shapes and types."""
    every = [dict(named(batch)) for batch in batches]
    rows = {name: torch.cat([each[name] for each in every]) for name in every[0]}
    return rows if isinstance(batches[0], dict) else tuple(rows.values())


def fixed_order(number: int, seed: int) -> Tensor:
    """An order of so many rows that is random, but always the same, on the host."""
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed), device="cpu")


def named(batch: Batch) -> Iterable[tuple[Any, Tensor]]:
    """The elements of a minibatch with their names, or numbers."""
    return batch.items() if isinstance(batch, dict) else enumerate(batch)


def valid_rows(batch: Batch) -> Tensor | None:
    """Which rows hold neither NaN nor infinity in any element, with shape `(num_rows,)`; `None` where all are so."""
    found = [
        torch.isfinite(rows.reshape(len(rows), -1)).all(1)
        for rows in tensors_of(batch)
        if rows.is_floating_point() and not math.isfinite(rows.sum())
    ]
    valid = torch.stack(found).all(0) if found else None
    return None if valid is None or bool(valid.all()) else valid


def _placed(array: Any, name: str, device: torch.device, may_wait: bool, is_own: bool, may_be_invalid: bool) -> Tensor:
    """A tensor on the device, which shares the array's memory where it can and may."""
    tensor = array.detach() if isinstance(array, Tensor) else _from_numpy(array, name)
    if tensor.layout != torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise ValueError(f"{name} is a {kind} tensor, but rows of a dense one are expected. Pass {name}.to_dense().")
    if tensor.device.type == "meta" and device.type != "meta":
        raise ValueError(f"{name} is on the meta device, which holds no numbers. Pass the data themselves.")
    if tensor.dim() == 0:
        raise ValueError(f"{name} has no rows: it is a single number. Pass arrays with shape (num_rows, ...).")
    if tensor.is_floating_point() and (tensor.device.type == "cpu" or may_wait) and not may_be_invalid:
        _check_finite(tensor, name, may_wait)
    return tensor.to(device, non_blocking=True, copy=is_own)


def _check_finite(tensor: Tensor, name: str, are_all: bool) -> None:
    if math.isfinite(tensor.sum()):  # a tenth of the time of looking at each number, and NaN and infinity stay in sums
        return
    finite = torch.isfinite(tensor)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        or_exclude = ", or leave out simulations that failed with run(..., invalid='exclude')" if are_all else ""
        raise ValueError(
            f"{name} holds NaN or infinity, first in row {row}. Remove such rows or fill them in{or_exclude}."
        )


def too_large(batch: Batch, dtype: torch.dtype) -> str | None:
    """The first finite number of a minibatch that another floating-point type can not hold, in words.

    Args:
        batch: The minibatch.
        dtype: The type.
    """
    if not dtype.is_floating_point:
        return None
    for name, rows in named(batch):
        large = torch.isfinite(rows) & (rows.abs() > torch.finfo(dtype).max) if rows.is_floating_point() else rows[:0]
        if bool(large.any()):
            place = tuple(large.nonzero()[0].tolist())
            return (
                f"the data hold {rows[place].item():.3g} ({name if isinstance(name, str) else f'element {name}'}, row "
                f"{place[0]}), which is infinite as {dtype}, the model's type: it holds numbers up to "
                f"{torch.finfo(dtype).max:.3g}. Divide the data by their scale"
            )
    return None


def _from_numpy(array: Any, name: str) -> Tensor:
    if not is_array(array):
        raise TypeError(
            f"{name} must be a tensor or an array, but is {shown(array)} ({type(array).__name__}).{_mend(array)}"
        )
    if isinstance(array, np.ma.MaskedArray):
        array = _unmasked(array, name)
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        hint = f". {FOR_TEXT}" if array.dtype.kind in "US" else "."
        raise TypeError(f"{name} must hold numbers, but its dtype is {array.dtype}. Convert it to numbers first{hint}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():  # of memory that torch can not mark as read-only: nothing here writes to it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _mend(value: Any) -> str:
    """How text or numbers that are no array become one, where that is plain."""
    if isinstance(value, list | tuple) and any(isinstance(each, str) for each in value):
        return f" {FOR_TEXT}"
    return f" {FOR_LISTS}" if isinstance(value, list | tuple | int | float) else ""


def _unmasked(array: Any, name: str) -> Any:
    """A masked array without a mask; the numbers below a mask stand for nothing.

    Raises:
        ValueError: It masks something.
    """
    rows = int(np.ma.getmaskarray(array).reshape(len(array), -1).any(1).sum()) if array.ndim else 0
    if rows:
        raise ValueError(
            f"{name} is a masked array with masked numbers in {rows} rows. Leave these rows out, "
            f"np.ma.compress_rows(array) for a table, or fill them in with array.filled(...)."
        )
    return array.data


def is_array(value: Any) -> bool:
    """Whether a value is a tensor, or an array by NumPy's protocol."""
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def tensors_of(batch: Batch) -> Iterable[Tensor]:
    """The elements of a minibatch, in order."""
    return batch.values() if isinstance(batch, dict) else batch


def _check_lengths(batch: Batch, source: str) -> None:
    lengths = [len(tensor) for tensor in tensors_of(batch)]
    if not any(lengths):
        raise ValueError(f"{source} is empty: expected at least one row. Pass arrays with shape (num_rows, ...).")
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the arrays of {source} differ in length: {', '.join(map(str, lengths))} rows. "
            "Pass arrays that have one entry a row."
        )
