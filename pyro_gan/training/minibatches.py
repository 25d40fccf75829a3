"""Whatever the user has, as an endless stream of minibatches on the device.

Arrays are placed on the device once, in their own dtype; minibatches are gathered there, epoch by epoch without
replacement. Everything else that gives minibatches, from a `DataLoader` to a generator, is read as it comes. A
minibatch has memory of its own: what a network does to it reaches neither the user's data nor a later minibatch.

A stream knows its place, so that a run that was cut off goes on with the rows that it would have had.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from functools import cached_property
from typing import Any, get_args
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_gan.checks import positive_integer, shown
from pyro_gan.players.batch import Batch, as_batch, is_array, mapped, named, number_of_rows
from pyro_gan.players.devices import creating_on
from pyro_gan.players.first_look import RandomStates, kept_random_state, random_states, set_random_states
from pyro_gan.training.invalid import Invalid, without_invalid

MANY = 1024
"""The rows by which networks that build themselves standardize, where there are so many."""

SEED = 1
"""The seed of the permutation by which rows are left out; another than that of rows to check by."""


class Stream(ABC):
    """An endless stream of minibatches on a device, as they are before any transform.

    Args:
        device: Where the minibatches lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.keeps_place = False
        """Whether what :meth:`state_dict` needs is kept, which costs a little."""

    @abstractmethod
    def __next__(self) -> Batch:
        """The next minibatch."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the data are: whatever must be the same where a run goes on."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The place in the stream."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place in the stream. Random states move; whoever calls it sets them afterwards."""


class Gathered(Stream):
    """Minibatches of rows gathered on the device: random orders of all rows, one after the other, cut evenly.

    Args:
        arrays: The data.
        batch_size: The rows of a minibatch; where there are no more, all rows come as they are.
        device: Where the data lie.
    """

    def __init__(self, arrays: Batch, batch_size: int, device: torch.device) -> None:
        super().__init__(device)
        self.arrays = arrays
        self.num_rows = number_of_rows(arrays)
        self.size = min(batch_size, self.num_rows)
        self.start = 0
        self.order: Tensor | None = None
        self.before: Tensor | None = None
        """The generator's state from which the order was drawn."""
        self.apart: Tensor | None = None
        """The places of the rows that are left out, and those of the others, once there are such."""
        self.others: Tensor | None = None

    def __next__(self) -> Batch:
        if self.size == self.num_rows:
            return mapped(self.arrays, Tensor.clone)
        index = self._next_index()
        return mapped(self.arrays, lambda array: _gather(array, index))

    def spread_out(self, number: int) -> Batch:
        """Up to so many rows, spread over the data; not all, so that a plate over all is seen to be subsampled."""
        number = min(number, max(self.size, self.num_rows - 1))
        return mapped(self.arrays, lambda array: _gather(array, _spread_out(array, number)))

    def keep_apart(self, number: int) -> Batch | None:
        """Leave out rows from here on, the same of as many in whatever run and process.

        Args:
            number: How many, so far as enough are left for a minibatch.

        Returns:
            These rows, or `None` where there are none.
        """
        number = min(number, self.num_rows - self.size)
        if self.apart is None and number:
            self._leave_out(number)
            self.order, self.start = None, 0
        apart = self.apart
        return None if apart is None else mapped(self.arrays, lambda array: _gather(array, apart))

    def description(self) -> dict[str, Any]:
        shapes = {str(name): list(array.shape) for name, array in named(self.arrays)}
        return {"shapes": shapes, "batch_size": self.size, "digest": self._digest}

    def state_dict(self) -> dict[str, Any]:
        before = None if self.order is None else self.before
        return {"start": self.start, "before": before, "apart": 0 if self.apart is None else len(self.apart)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start, self.before = state["start"], state["before"]
        if state.get("apart"):
            self._leave_out(state["apart"])
        if self.before is not None:
            generator = torch.Generator(self.device)
            generator.set_state(self.before)
            self.order = self._permuted(generator)

    @cached_property
    def _digest(self) -> str:
        return _digest(self.arrays)

    def _next_index(self) -> Tensor:
        if self.order is None:
            self.order = self._drawn_order()
        stop = self.start + self.size
        if stop <= len(self.order):
            index, self.start = self.order[self.start : stop], stop
            return index
        # The epoch's last rows and the next epoch's first fill one minibatch, so that none is short.
        last, self.order, self.start = self.order[self.start :], self._drawn_order(), stop - len(self.order)
        return torch.cat([last, self.order[: self.start]])

    def _drawn_order(self) -> Tensor:
        if self.keeps_place:
            states = random_states(self.device)
            self.before = states.host if states.device is None else states.device
        return self._permuted()

    def _permuted(self, generator: torch.Generator | None = None) -> Tensor:
        if self.others is None:
            return torch.randperm(self.num_rows, device=self.device, generator=generator)
        return self.others[torch.randperm(len(self.others), device=self.device, generator=generator)]

    def _leave_out(self, number: int) -> None:
        places = torch.randperm(self.num_rows, generator=torch.Generator().manual_seed(SEED)).to(self.device)
        self.apart, self.others = places[:number], places[number:]


class Read(Stream):
    """The minibatches of an iterable, over and over where it can be read again.

    Args:
        source: The iterable.
        device: Where the minibatches are put.
    """

    def __init__(self, source: Iterable[Any], device: torch.device) -> None:
        super().__init__(device)
        self.source = source
        self.position = 0
        """The number of minibatches that have been read since the iterable was begun."""
        self.is_begun_again = False
        self.before: RandomStates | None = None
        """The random states from which it was begun."""
        self.generators: list[Tensor] = []
        """The states of a loader's own generators from which it was begun."""
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._begin()
        for value in () if self._iterator is None else self._iterator:
            self.position += 1
            return as_batch(value, self.device, is_own=True)
        if self._iterator is self.source:
            raise StopIteration
        if not self.position:  # at the second reading, whoever takes the steps can tell which one found nothing
            if not self.is_begun_again:
                raise ValueError("data is empty: the iterable gives no minibatch.")
            raise StopIteration
        self._iterator, self.is_begun_again = None, True
        return next(self)

    def description(self) -> dict[str, Any]:
        length = None
        with suppress(TypeError):  # some have the method without a length
            length = len(self.source) if isinstance(self.source, Sized) else None
        return {"source": type(self.source).__name__, "length": length}

    def state_dict(self) -> dict[str, Any]:
        before = None if self.before is None else self.before.state_dict()
        return {"position": self.position, "before": before, "generators": self.generators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["before"] is None:
            return
        if iter(self.source) is self.source and id(self.source) in _read:
            raise ValueError(
                "the run goes on, but its data are an iterator that has been read already in this process. Make a new "
                "one, from its beginning."
            )
        set_random_states(self.device, RandomStates.from_state_dict(state["before"]))
        for own, kept in zip(_generators(self.source), state["generators"], strict=True):
            own.set_state(kept)
        self._begin()
        while self.position < state["position"]:
            if self._iterator is None or next(self._iterator, self) is self:
                raise ValueError(
                    f"the run goes on after {state['position']} minibatches of the data, but there are only "
                    f"{self.position}. An iterator can be read only once: make a new one, from its beginning."
                )
            self.position += 1

    def _begin(self) -> None:
        if self.keeps_place:
            self.before = random_states(self.device)
            self.generators = [own.get_state() for own in _generators(self.source)]
        self._iterator, self.position = iter(self.source), 0
        if self.keeps_place and self._iterator is self.source and _read.get(id(self.source)) is self.source:
            raise ValueError(
                "data is an iterator that an earlier run has read in part, so that a run with checkpoint= could not go "
                "on. Make one for each run, from its beginning."
            )
        if self._iterator is self.source:
            with suppress(TypeError):  # some, such as a list's, can not be referred to weakly
                _read[id(self.source)] = self.source


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
        if rows is None:
            return None
        with kept_random_state(self.stream.device):
            return transformed(rows, self.transform, self.stream.device)

    def many(self) -> Batch | None:
        """Up to 1,024 rows from all over the data, transformed, where all of them are at hand; nothing moves on."""
        if not isinstance(self.stream, Gathered):
            return None
        with kept_random_state(self.stream.device):
            return transformed(self.stream.spread_out(MANY), self.transform, self.stream.device)


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
        stream: Stream = Gathered(without_invalid(arrays, batch_size), batch_size, device)
    elif invalid == "exclude":
        raise ValueError(
            f"invalid='exclude' looks at all rows beforehand, which takes arrays, but data is a {type(data).__name__}. "
            "Pass a tensor or an array, a tuple or a mapping of them, or leave such rows out where they are read."
        )
    elif isinstance(data, Dataset):
        stream = Read(_loader(data, batch_size), device)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        stream = Read(data, device)
    else:
        raise TypeError(
            f"data must be a tensor, an array, a tuple or mapping of them, a Dataset, a DataLoader or an iterable of "
            f"minibatches, but is {shown(data)} ({type(data).__name__})."
        )
    return Minibatches(stream, transform)


def _digest(arrays: Batch) -> str:
    """A fingerprint of rows from all over the data, so that other data of the same shape are told apart."""
    found = hashlib.sha256()
    for _, array in named(arrays):
        found.update(array[_spread_out(array, 1000)].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _spread_out(array: Tensor, number: int) -> Tensor:
    """The places of up to so many rows, evenly spread over all."""
    number = min(len(array), number)
    return torch.arange(number, device=array.device) * (len(array) - 1) // max(1, number - 1)


_read: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The iterators that have been read in this process, by identity."""


def _generators(source: object) -> list[torch.Generator]:
    """The generators of a loader and of its samplers, each once."""
    sampler = getattr(source, "sampler", None)
    inner = getattr(getattr(source, "batch_sampler", None), "sampler", None)
    found = [getattr(each, "generator", None) for each in (source, sampler, inner)]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def _gather(array: Tensor, index: Tensor) -> Tensor:
    # index_select takes a fraction of the time, but knows no wide unsigned integers.
    return array[index] if array.dtype in (torch.uint16, torch.uint32, torch.uint64) else array.index_select(0, index)


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
