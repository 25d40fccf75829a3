"""Whatever the user has, as an endless stream of minibatches on the device.

Arrays are placed on the device once, in their own dtype; minibatches are gathered there, epoch by epoch without
replacement. Everything else that gives minibatches, from a `DataLoader` to a generator, is read as it comes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_gan.checks import positive_integer
from pyro_gan.players.batch import Batch, as_batch, is_array, number_of_rows, tensors_of
from pyro_gan.players.devices import creating_on


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
    if is_array(data) or isinstance(data, tuple | Mapping):
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


def _gathered(arrays: Batch, batch_size: int, copies: bool) -> Iterator[Batch]:
    """Minibatches of rows gathered on the device, each row once an epoch; all rows at once are gathered for a copy."""
    num_rows = number_of_rows(arrays)
    if batch_size >= num_rows and not copies:
        yield from repeat(arrays)
    for index in _indices(num_rows, min(batch_size, num_rows), next(iter(tensors_of(arrays))).device):
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
