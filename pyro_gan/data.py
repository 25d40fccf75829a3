"""Whatever the user has, as an endless stream of minibatches on the device.

Arrays are placed on the device once, in their own dtype; minibatches are gathered there, epoch by epoch without
replacement. Everything else that gives minibatches, from a `DataLoader` to a generator, is read as it comes.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_gan.checks import positive_integer
from pyro_gan.devices import creating_on

Batch = tuple[Tensor, ...] | dict[str, Tensor]
"""A minibatch: tensors in order or by name, each with shape `(num_rows, *event_shape)`."""


def minibatches(
    data: Any,
    batch_size: int,
    device: torch.device,
    transform: Callable[..., Any] | None = None,
) -> Iterator[Batch]:
    """An endless stream of minibatches on the device.

    Args:
        data: A tensor or array with shape `(num_rows, *)`, a tuple or a mapping of them, a `Dataset`, a `DataLoader`,
            or any iterable of minibatches.
        batch_size: The rows of a minibatch, at most all there are. Where `data` gives minibatches, they are taken as
            they are.
        device: Where the minibatches lie.
        transform: Applied to each minibatch on the device, as `transform(*batch)`, or `transform(batch)` where the
            batch is a mapping; it returns a tensor, or as many as it likes in a tuple or mapping.

    Raises:
        TypeError: `data` is none of these, or `transform` is not callable.
        ValueError: There are no rows, arrays differ in length, or a value is NaN or infinite.
    """
    batch_size = positive_integer("batch_size", batch_size)
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a callable on a minibatch, but is {transform!r}.")
    if type(data) is TensorDataset:  # a subclass may have its own way to get a row
        data = data.tensors
    if _is_array(data) or isinstance(data, tuple | Mapping):
        stream = _gathered(as_batch(data, device, "data", may_wait=True), batch_size, copies=transform is not None)
    elif isinstance(data, Dataset):
        stream = _read(_loader(data, batch_size), device)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        stream = _read(data, device)
    else:
        raise TypeError(
            f"data must be a tensor, an array, a tuple or mapping of them, a Dataset, a DataLoader or an iterable of "
            f"minibatches, but is {data!r} ({type(data).__name__})."
        )
    return stream if transform is None else _transformed(stream, transform, device)


def as_batch(value: Any, device: torch.device, source: str = "the minibatch", may_wait: bool = False) -> Batch:
    """What a loader gives, or a user passes to `step`, as a minibatch on the device.

    Args:
        value: A tensor or array, a tuple or list, or a mapping of such.
        device: Where to put them.
        source: What to call `value` in messages.
        may_wait: Whether values that lie on a device already are read too, to see that they are finite.

    Raises:
        TypeError: `value` holds something that is no array.
        ValueError: The arrays are empty or differ in length, or a value is NaN or infinite.
    """
    place = partial(_placed, device=device, may_wait=may_wait)
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
    return len(next(iter(_tensors(batch))))


def resized(rows: Tensor, num_rows: int) -> Tensor:
    """Another number of rows: cut, or repeated from the start."""
    return rows[torch.arange(num_rows, device=rows.device) % len(rows)]


def resized_batch(batch: Batch, num_rows: int) -> Batch:
    """Another number of rows of each element of a minibatch."""
    if isinstance(batch, dict):
        return {name: resized(rows, num_rows) for name, rows in batch.items()}
    return tuple(resized(rows, num_rows) for rows in batch)


def _placed(array: Any, name: str, device: torch.device, may_wait: bool) -> Tensor:
    """A tensor on the device, which shares the array's memory where it can."""
    tensor = array.detach() if isinstance(array, Tensor) else _from_numpy(array, name)
    if tensor.dim() == 0:
        raise ValueError(f"{name} has no rows: it is a single number. Pass arrays with shape (num_rows, ...).")
    if tensor.is_floating_point() and (tensor.device.type == "cpu" or may_wait):
        _check_finite(tensor, name)
    return tensor.to(device, non_blocking=True)


def _check_finite(tensor: Tensor, name: str) -> None:
    finite = torch.isfinite(tensor)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"{name} holds NaN or infinity, first in row {row}. Remove such rows or fill them in.")


def _from_numpy(array: Any, name: str) -> Tensor:
    if not _is_array(array):
        raise TypeError(f"{name} must be a tensor or an array, but is {array!r} ({type(array).__name__}).")
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers, but its dtype is {array.dtype}. Convert it to numbers first.")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():  # of memory that torch can not mark as read-only: nothing here writes to it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _tensors(batch: Batch) -> Iterable[Tensor]:
    return batch.values() if isinstance(batch, dict) else batch


def _check_lengths(batch: Batch, source: str) -> None:
    lengths = [len(tensor) for tensor in _tensors(batch)]
    if not any(lengths):
        raise ValueError(f"{source} is empty: expected at least one row. Pass arrays with shape (num_rows, ...).")
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the arrays of {source} differ in length: {', '.join(map(str, lengths))} rows. "
            "Pass arrays that have one entry a row."
        )


def _gathered(arrays: Batch, batch_size: int, copies: bool) -> Iterator[Batch]:
    """Minibatches of rows gathered on the device, each row once an epoch; all rows at once are gathered for a copy."""
    num_rows = number_of_rows(arrays)
    if batch_size >= num_rows and not copies:
        yield from repeat(arrays)
    for index in _indices(num_rows, min(batch_size, num_rows), next(iter(_tensors(arrays))).device):
        if isinstance(arrays, dict):
            yield {name: _gather(array, index) for name, array in arrays.items()}
        else:
            yield tuple(_gather(array, index) for array in arrays)


def _gather(array: Tensor, index: Tensor) -> Tensor:
    # index_select takes a fraction of the time, but knows no wide unsigned integers.
    return array[index] if array.dtype in (torch.uint16, torch.uint32, torch.uint64) else array.index_select(0, index)


def _indices(num_rows: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Row indices of full minibatches: random orders of all rows, one after the other, cut evenly."""
    order = torch.randperm(num_rows, device=device)
    start = 0
    while True:
        if start + batch_size > num_rows:
            # The epoch's last rows and the next epoch's first fill one minibatch, so that none is short.
            following = torch.randperm(num_rows, device=device)
            yield torch.cat([order[start:], following[: start + batch_size - num_rows]])
            order, start = following, start + batch_size - num_rows
        else:
            yield order[start : start + batch_size]
            start += batch_size


def _loader(data: Dataset[Any], batch_size: int) -> DataLoader[Any]:
    """A loader of full minibatches in random order, as far as the data set allows."""
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size)
    if not hasattr(data, "__len__"):
        raise TypeError(f"data is a Dataset without a length ({type(data).__name__}). Pass a DataLoader over it.")
    num_rows = len(data)
    if num_rows == 0:
        raise ValueError("data is empty: expected at least one row, but the Dataset has length 0.")
    return DataLoader(data, batch_size, shuffle=True, drop_last=num_rows > batch_size)


def _read(source: Iterable[Any], device: torch.device) -> Iterator[Batch]:
    """The minibatches of an iterable, over and over where it can be read again."""
    iterator = iter(source)
    if iterator is source:
        yield from (as_batch(value, device) for value in iterator)
        return
    is_first = True
    while True:
        is_empty = True
        for value in iterator:
            is_empty = False
            yield as_batch(value, device)
        if is_empty:  # at the second reading, whoever takes the steps can tell which one found nothing
            if is_first:
                raise ValueError("data is empty: the iterable gives no minibatch.")
            return
        is_first = False
        iterator = iter(source)


def _transformed(stream: Iterator[Batch], transform: Callable[..., Any], device: torch.device) -> Iterator[Batch]:
    for batch in stream:
        with creating_on(device):
            result = transform(batch) if isinstance(batch, dict) else transform(*batch)
        yield as_batch(result, device, "what transform returned")
