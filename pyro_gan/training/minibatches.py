"""Whatever the user has, as an endless stream of minibatches on the device.

Arrays are placed on the device once, in their own dtype; minibatches are gathered there, epoch by epoch without
replacement. Everything else that gives minibatches, from a `DataLoader` to a generator, is read as it comes. A
minibatch has memory of its own: what a network does to it reaches neither the user's data nor a later minibatch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from pyro_gan.checks import positive_integer, shown
from pyro_gan.players.batch import Batch, as_batch, concatenated, is_array, named, row_types
from pyro_gan.players.devices import creating_on
from pyro_gan.players.first_look import RandomStates, kept_random_state, random_states, set_random_states
from pyro_gan.processes import Processes, quiet
from pyro_gan.training.invalid import Invalid, without_invalid
from pyro_gan.training.noise import common_seed
from pyro_gan.training.streams import Gathered, Read, Stream, digest_of

__all__ = ["MANY", "Gathered", "Invalid", "Minibatches", "minibatches", "transformed", "without_invalid"]

MANY = 1024
"""The rows by which networks that build themselves standardize, where there are so many."""

MOST = 20_000
"""The rows to look at where more of them tell more."""


class Minibatches:
    """An endless stream of minibatches on the device, transformed.

    Args:
        stream: The stream.
        transform: Applied to each minibatch, or `None`.
    """

    def __init__(self, stream: Stream, transform: Callable[..., Any] | None) -> None:
        self.stream = stream
        self.transform = transform

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return transformed(next(self.stream), self.transform, self.stream.device)

    def keep_apart(self, part: float, most: int) -> Batch | None:
        """Leave out a part of the rows from here on, where all of them are at hand.

        Args:
            part: The part, at most 1.
            most: The most rows.

        Returns:
            These rows, transformed, or `None` where there are none.
        """
        if not isinstance(self.stream, Gathered):
            return None
        rows = self.stream.keep_apart(min(most, int(part * self.stream.num_rows)))
        return None if rows is None else self._looked_at(rows)

    def never_apart(self, part: float, most: int) -> Iterator[Batch]:
        """Up to 20,000 rows that :meth:`keep_apart` does not return, in transformed minibatches; nothing moves on.

        Args:
            part: The part that may be kept apart in this run.
            most: The most rows that may.

        Yields:
            Minibatches; none of a stream, whose rows are not at hand.
        """
        if not isinstance(self.stream, Gathered):
            return
        states: RandomStates | None = None
        for rows in self.stream.never_apart(min(most, int(part * self.stream.num_rows)), MOST):
            with kept_random_state(self.stream.device):
                if states is not None:  # a random transform goes on, as from step to step
                    set_random_states(self.stream.device, states)
                batch = transformed(rows, self.transform, self.stream.device)
                states = random_states(self.stream.device)
            yield batch

    def whole(self, place: Any) -> Tensor | None:
        """All rows of an element of the data, where they are at hand and no transform changes them.

        Args:
            place: The element's name or number.
        """
        stream = self.stream
        if not isinstance(stream, Gathered):
            return None
        rows = stream.look_ahead(MANY)
        before, after = (dict(named(each)).get(place) for each in (rows, self._looked_at(rows)))
        is_same = (
            before is not None and after is not None and before.dtype == after.dtype and torch.equal(before, after)
        )
        return dict(named(stream.arrays)).get(place) if is_same else None

    @property
    def are_at_hand(self) -> bool:
        """Whether all rows are."""
        return isinstance(self.stream, Gathered)

    def many_from(self, given: Sequence[Batch]) -> Batch | None:
        """As :meth:`many`; of a stream with minibatches that it has given, where their rows are alike."""
        more = self.many()
        if more is None or self.are_at_hand:
            return more
        return concatenated([*given, more]) if all(row_types(each) == row_types(more) for each in given) else None

    def many(self) -> Batch | None:
        """Up to 1,024 rows, transformed; nothing moves on.

        They are from all over the data where these are at hand, else those of the minibatches to come.
        """
        rows = self.stream.look_ahead(MANY)
        return None if rows is None else self._looked_at(rows)

    def _looked_at(self, rows: Batch) -> Batch:
        """Rows that are no step's, transformed; no random number is used up."""
        with kept_random_state(self.stream.device):
            return transformed(rows, self.transform, self.stream.device)


def transformed(batch: Batch, transform: Callable[..., Any] | None, device: torch.device) -> Batch:
    """A minibatch after a transform, if there is one.

    Args:
        batch: The minibatch.
        transform: What the user passed.
        device: Where the minibatch lies.
    """
    if transform is None:
        return batch
    with creating_on(device):
        result = transform(batch) if isinstance(batch, dict) else transform(*batch)
    return as_batch(result, device, "what transform returned")


def minibatches(
    data: Any,
    batch_size: int,
    device: torch.device,
    transform: Callable[..., Any] | None = None,
    invalid: Invalid = "raise",
    processes: Processes | None = None,
) -> Minibatches:
    """An endless stream of minibatches on the device.

    Args:
        data: A tensor or array with shape `(num_rows, *)`, a tuple or a mapping of them, a `Dataset`, a `DataLoader`,
            or any iterable of minibatches.
        batch_size: The rows of a minibatch, at most all there are. Where `data` gives minibatches, they are taken as
            they are.
        device: Where the minibatches lie.
        transform: Applied to each minibatch on the device, as `transform(*batch)`, or `transform(batch)` where the
            batch is a mapping; it returns a tensor, or as many as it likes in a tuple or mapping.
        invalid: `"exclude"` to leave out rows that hold NaN or infinity, of arrays; they are counted in a warning.
        processes: Those that train together, where there are several. Each takes minibatches of `batch_size` rows, of
            arrays and data sets its own part; what gives minibatches gives them to each as it will.

    Raises:
        TypeError: `data` is none of these, or `transform` is not callable.
        ValueError: There are no rows, arrays differ in length, or a value is NaN or infinite. Or `invalid` is neither,
            or too few rows are left, or there are no arrays to leave them out of.
    """
    if invalid not in get_args(Invalid):
        raise ValueError(f"invalid must be 'raise' or 'exclude', but is {shown(invalid)}.")
    batch_size = positive_integer("batch_size", batch_size)
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a callable on a minibatch, but is {shown(transform)}.")
    if type(data) is TensorDataset:  # a subclass may have its own way to get a row
        data = data.tensors
    if is_array(data) or isinstance(data, tuple | Mapping):
        arrays = as_batch(data, device, "data", may_wait=True, may_be_invalid=invalid == "exclude")
        with quiet(processes):
            arrays = without_invalid(arrays, batch_size)
        stream: Stream = Gathered(arrays, batch_size, device, *_share(processes, arrays, device))
    elif invalid == "exclude":
        raise ValueError(
            f"invalid='exclude' looks at all rows beforehand, which takes arrays, but data is a {type(data).__name__}. "
            "Pass a tensor or an array, a tuple or a mapping of them, or leave such rows out where they are read."
        )
    elif isinstance(data, Dataset):
        stream = Read(_loader(data, batch_size, processes, device), device)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        stream = Read(data, device)
    else:
        raise TypeError(
            f"data must be a tensor, an array, a tuple or mapping of them, a Dataset, a DataLoader or an iterable of "
            f"minibatches, but is {shown(data)} ({type(data).__name__})."
        )
    return Minibatches(stream, transform)


def _share(processes: Processes | None, arrays: Batch, device: torch.device) -> tuple[tuple[int, int], int | None]:
    """Which part of arrays is this process's, and the seed of the orders in which all go through them.

    Raises:
        ValueError: The processes have other arrays.
    """
    if processes is None:
        return (0, 1), None
    every = processes.gathered([(str(name), list(array.shape), digest_of(arrays)) for name, array in named(arrays)])
    if others := [rank for rank, each in enumerate(every) if each != every[0]]:
        raise ValueError(
            f"the processes were given different arrays: rank {others[0]} has {every[others[0]]}, but rank 0 "
            f"{every[0]}. Pass the same to all, of which each takes its part, or a loader of each one's own rows."
        )
    return (processes.rank, processes.size), common_seed(processes, device)


def _loader(data: Dataset[Any], batch_size: int, processes: Processes | None, device: torch.device) -> DataLoader[Any]:
    """A loader of full minibatches in random order, as far as the data set allows."""
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size)
    if not hasattr(data, "__len__"):
        raise TypeError(f"data is a Dataset without a length ({type(data).__name__}). Pass a DataLoader over it.")
    num_rows = len(data)
    if num_rows == 0:
        raise ValueError("data is empty: expected at least one row, but the Dataset has length 0.")
    if processes is not None:
        seed = common_seed(processes, device)
        sampler: Any = DistributedSampler(data, processes.size, processes.rank, seed=seed)
        return DataLoader(data, batch_size, sampler=sampler, drop_last=len(sampler) > batch_size)
    return DataLoader(data, batch_size, shuffle=True, drop_last=num_rows > batch_size)
