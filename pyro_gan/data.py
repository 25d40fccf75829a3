"""Whatever the user has, as an endless stream of minibatches on the device.

Arrays are placed on the device once, in their own dtype; minibatches are gathered there, epoch by epoch without
replacement. Everything else that gives minibatches, from a `DataLoader` to a generator, is read as it comes.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_gan.checks import positive_integer

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
    if isinstance(data, TensorDataset):
        data = data.tensors
    if _is_array(data) or isinstance(data, tuple | Mapping):
        stream = _gathered(_arrays(data, device), batch_size)
    elif isinstance(data, Dataset):
        stream = _read(_loader(data, batch_size), device)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        stream = _read(data, device)
    else:
        raise TypeError(
            f"data must be a tensor, an array, a tuple or mapping of them, a Dataset, a DataLoader or an iterable of "
            f"minibatches, but is {data!r} ({type(data).__name__})."
        )
    return stream if transform is None else _transformed(stream, transform)


def as_batch(value: Any, device: torch.device) -> Batch:
    """What a loader gives, or a user passes to `step`, as a minibatch on the device.

    Raises:
        TypeError: `value` holds something that is no array.
        ValueError: The arrays are empty or differ in length.
    """
    if isinstance(value, Mapping):
        batch: Batch = {
            name: _tensor(array, f"data[{name!r}]").to(device, non_blocking=True) for name, array in value.items()
        }
    else:
        elements = value if isinstance(value, tuple | list) else (value,)
        batch = tuple(
            _tensor(array, f"element {index} of the minibatch").to(device, non_blocking=True)
            for index, array in enumerate(elements)
        )
    _check_lengths(batch)
    return batch


def number_of_rows(batch: Batch) -> int:
    """The number of rows of a minibatch."""
    return len(next(iter(_tensors(batch))))


def _arrays(data: Any, device: torch.device) -> Batch:
    arrays = as_batch(data, device)
    for name, array in arrays.items() if isinstance(arrays, dict) else enumerate(arrays):
        if array.is_floating_point() and not torch.isfinite(array).all():
            row = int((~torch.isfinite(array)).nonzero()[0, 0])
            which = "data" if arrays is not data and len(arrays) == 1 else f"data[{name!r}]"
            raise ValueError(f"{which} holds NaN or infinity, first in row {row}. Remove such rows or fill them in.")
    return arrays


def _tensor(array: Any, name: str) -> Tensor:
    """A tensor that shares the array's memory where it can."""
    if isinstance(array, Tensor):
        return array.detach()
    if not _is_array(array):
        raise TypeError(f"{name} must be a tensor or an array, but is {array!r} ({type(array).__name__}).")
    array = np.asarray(array)
    if array.dtype == object or array.dtype.kind in "USMm":
        raise TypeError(f"{name} must hold numbers, but its dtype is {array.dtype}. Convert it to numbers first.")
    with warnings.catch_warnings():  # of memory that torch can not mark as read-only: nothing here writes to it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _tensors(batch: Batch) -> Iterable[Tensor]:
    return batch.values() if isinstance(batch, dict) else batch


def _check_lengths(batch: Batch) -> None:
    tensors = list(_tensors(batch))
    if not tensors or any(tensor.dim() == 0 for tensor in tensors) or not len(tensors[0]):
        raise ValueError("the data are empty: expected at least one row. Pass arrays with shape (num_rows, ...).")
    lengths = [len(tensor) for tensor in tensors]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the data's arrays differ in length: {', '.join(map(str, lengths))} rows. "
            "Pass arrays that have one entry a row."
        )


def _gathered(arrays: Batch, batch_size: int) -> Iterator[Batch]:
    """Minibatches of rows gathered on the device, each row once an epoch."""
    if batch_size >= number_of_rows(arrays):
        while True:
            yield arrays
    for index in _indices(number_of_rows(arrays), batch_size, next(iter(_tensors(arrays))).device):
        if isinstance(arrays, dict):
            yield {name: array.index_select(0, index) for name, array in arrays.items()}
        else:
            yield tuple(array.index_select(0, index) for array in arrays)


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
    num_rows = len(data)  # type: ignore[arg-type]
    if num_rows == 0:
        raise ValueError("the data are empty: expected at least one row, but the Dataset has length 0.")
    return DataLoader(data, batch_size, shuffle=True, drop_last=num_rows > batch_size)


def _read(source: Iterable[Any], device: torch.device) -> Iterator[Batch]:
    """The minibatches of an iterable, over and over where it can be read again."""
    iterator = iter(source)
    if iterator is source:
        yield from (as_batch(value, device) for value in iterator)
        return
    while True:
        is_empty = True
        for value in iterator:
            is_empty = False
            yield as_batch(value, device)
        if is_empty:
            raise ValueError("the data are empty: the iterable gives no minibatch.")
        iterator = iter(source)


def _transformed(stream: Iterator[Batch], transform: Callable[..., Any]) -> Iterator[Batch]:
    for batch in stream:
        result = transform(batch) if isinstance(batch, dict) else transform(*batch)
        yield as_batch(result, next(iter(_tensors(batch))).device)
