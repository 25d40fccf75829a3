"""Endless streams of minibatches on a device, gathered from arrays or read as they come, each of which knows its place.

Several processes go through arrays in one order, a minibatch of all of them at a time, and each gathers its own part.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from functools import cached_property, partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from pyro_gan.players.batch import Batch, as_batch, concatenated, fixed_order, mapped, named, number_of_rows, row_types
from pyro_gan.players.first_look import RandomStates, random_states, set_random_states

SEED = 1
"""The seed of the permutation by which rows are left out; another than that of rows to check by."""

SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""The integers of the same bits for those that not all of torch's functions take."""


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
    def look_ahead(self, number: int) -> Batch | None:
        """Up to so many rows to look at; nothing moves on."""

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
        share: Where several processes take each its part of so many times the rows: which this is, and how many.
        seed: From which orders are drawn that are the same on all processes; `None` for the global generator.

    Raises:
        ValueError: There are fewer rows than processes.
    """

    def __init__(
        self,
        arrays: Batch,
        batch_size: int,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
        seed: int | None = None,
    ) -> None:
        super().__init__(device)
        self.arrays = arrays
        self.num_rows = number_of_rows(arrays)
        self.size = min(batch_size, self.num_rows)
        self.total = min(batch_size * share[1], self.num_rows)
        """The rows of all processes' minibatches."""
        if self.num_rows < share[1]:
            raise ValueError(f"data has {self.num_rows} rows for {share[1]} processes. Start fewer of them.")
        self.part = slice(self.total * share[0] // share[1], self.total * (share[0] + 1) // share[1])
        self.generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        self.start = 0
        self.order: Tensor | None = None
        self.before: Tensor | None = None
        """The generator's state from which the order was drawn."""
        self.apart: Tensor | None = None
        """The places of the rows that are left out, and those of the others, once there are such."""
        self.others: Tensor | None = None

    def __next__(self) -> Batch:
        if self.total == self.num_rows:
            return mapped(self.arrays, lambda array: array[self.part].clone())
        index = self._next_index()[self.part]
        return mapped(self.arrays, lambda array: _gather(array, index))

    def look_ahead(self, number: int) -> Batch:
        """Up to so many rows, spread over the data; not all, so that a plate over all is seen to be subsampled."""
        number = min(number, max(self.total, self.num_rows - 1))
        return mapped(self.arrays, lambda array: _gather(array, _spread_out(array, number)))

    def keep_apart(self, number: int) -> Batch | None:
        """Leave out rows from here on, the same of as many in whatever run and process.

        Args:
            number: How many, so far as enough are left for a minibatch.

        Returns:
            These rows, or `None` where there are none.
        """
        number = min(number, self.num_rows - self.total)
        if self.apart is None and number:
            self._leave_out(number)
            self.order, self.start = None, 0
        apart = self.apart
        return None if apart is None else mapped(self.arrays, lambda array: _gather(array, apart))

    def never_apart(self, num_apart: int, number: int) -> Iterator[Batch]:
        """Rows that are not among as many to be kept apart, as minibatches of the usual size; nothing moves on.

        Args:
            num_apart: How many rows may be kept apart, in this run or a later one.
            number: How many rows are asked for; a minibatch is given at least, which is smaller where all rows are one.
        """
        places = fixed_order(self.num_rows, SEED)[num_apart:].to(self.device)
        size = min(self.size, len(places))
        for start in range(0, max(size, min(number, len(places)) // max(1, size) * size), max(1, size)):
            yield mapped(self.arrays, partial(_gather, index=places[start : start + size]))

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
            generator = self.generator or torch.Generator(self.device)
            generator.set_state(self.before)
            self.order = self._permuted(generator)

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.arrays)

    def _next_index(self) -> Tensor:
        if self.order is None:
            self.order = self._drawn_order()
        stop = self.start + self.total
        if stop <= len(self.order):
            index, self.start = self.order[self.start : stop], stop
            return index
        # The epoch's last rows and the next epoch's first fill one minibatch, so that none is short.
        last, self.order, self.start = self.order[self.start :], self._drawn_order(), stop - len(self.order)
        return torch.cat([last, self.order[: self.start]])

    def _drawn_order(self) -> Tensor:
        if self.generator is not None:
            self.before = self.generator.get_state()
        elif self.keeps_place:
            states = random_states(self.device)
            self.before = states.host if states.device is None else states.device
        return self._permuted(self.generator)

    def _permuted(self, generator: torch.Generator | None) -> Tensor:
        if self.others is None:
            return torch.randperm(self.num_rows, device=self.device, generator=generator)
        return self.others[torch.randperm(len(self.others), device=self.device, generator=generator)]

    def _leave_out(self, number: int) -> None:
        places = fixed_order(self.num_rows, SEED).to(self.device)
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
        self.num_passes = 0
        """How often it was begun, which a sampler that divides rows among processes is told."""
        self.ahead: deque[Batch] = deque()
        """Minibatches that have been read to be looked at, and are still to come."""
        self._error: Exception | None = None
        """What the iterable raised after them."""
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._begin()
        batch = self.ahead.popleft() if self.ahead else self._read()
        if batch is not None:
            self.position += 1
            return batch
        if self._iterator is self.source:
            raise StopIteration
        if not self.position:  # at the second reading, whoever takes the steps can tell which one found nothing
            if not self.is_begun_again:
                raise ValueError("data is empty: the iterable gives no minibatch.")
            raise StopIteration
        self._iterator, self.is_begun_again = None, True
        return next(self)

    def look_ahead(self, number: int) -> Batch | None:
        """The rows of the minibatches to come, which come all the same.

        Args:
            number: How many rows. There are fewer where the iterable ends, raises, or gives rows of another shape.

        Returns:
            The rows, or `None` where no minibatch is left before the iterable is begun again.
        """
        found: list[Batch] = []
        try:
            while sum(map(number_of_rows, found)) < number:
                batch = self.ahead[len(found)] if len(found) < len(self.ahead) else self._read()
                if batch is None:
                    break
                if len(found) == len(self.ahead):
                    self.ahead.append(batch)
                if found and row_types(batch) != row_types(found[0]):
                    break
                found.append(batch)
        except Exception as error:  # it is raised when its turn comes
            self._error = error
        return mapped(concatenated(found), lambda rows: rows[:number]) if found else None

    def _read(self) -> Batch | None:
        """The next minibatch of the iterable, or `None` at its end."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        for value in () if self._iterator is None else self._iterator:
            return as_batch(value, self.device, is_own=True)
        return None

    def description(self) -> dict[str, Any]:
        length = None
        with suppress(TypeError):  # some have the method without a length
            length = len(self.source) if isinstance(self.source, Sized) else None
        return {"source": type(self.source).__name__, "length": length}

    def state_dict(self) -> dict[str, Any]:
        before = None if self.before is None else self.before.state_dict()
        state = {"position": self.position, "before": before, "generators": self.generators}
        return {**state, "num_passes": self.num_passes, "ahead": list(self.ahead)}

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
        self.num_passes = state.get("num_passes", 1) - 1
        self._begin()
        while self.position < state["position"]:
            if self._iterator is None or next(self._iterator, self) is self:
                raise ValueError(
                    f"the run goes on after {state['position']} minibatches of the data, but there are only "
                    f"{self.position}. An iterator can be read only once: make a new one, from its beginning."
                )
            self.position += 1
        self.ahead.extend(as_batch(batch, self.device) for batch in state.get("ahead", ()))
        for _ in self.ahead:
            next(self._iterator or iter(()), None)

    def _begin(self) -> None:
        if self.keeps_place:
            self.before = random_states(self.device)
            self.generators = [own.get_state() for own in _generators(self.source)]
        for sampler in _samplers(self.source):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.num_passes)
        self.num_passes += 1
        self._iterator, self.position = iter(self.source), 0
        if self.keeps_place and self._iterator is self.source and _read.get(id(self.source)) is self.source:
            raise ValueError(
                "data is an iterator that an earlier run has read in part, so that a run with checkpoint= could not go "
                "on. Make one for each run, from its beginning."
            )
        if self._iterator is self.source:
            with suppress(TypeError):  # some, such as a list's, can not be referred to weakly
                _read[id(self.source)] = self.source


def digest_of(arrays: Batch) -> str:
    """A fingerprint of rows from all over the data, so that other data of the same shape are told apart."""
    found = hashlib.sha256()
    for _, array in named(arrays):
        found.update(_gather(array, _spread_out(array, 1000)).cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _spread_out(array: Tensor, number: int) -> Tensor:
    """The places of up to so many rows, evenly spread over all."""
    number = min(len(array), number)
    return torch.arange(number, device=array.device) * (len(array) - 1) // max(1, number - 1)


_read: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The iterators that have been read in this process, by identity."""


def _generators(source: object) -> list[torch.Generator]:
    """The generators of a loader and of its samplers, each once."""
    found = [getattr(each, "generator", None) for each in (source, *_samplers(source))]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def _samplers(source: object) -> list[Any]:
    """A loader's samplers, each once."""
    batches = getattr(source, "batch_sampler", None)
    found = (getattr(source, "sampler", None), batches, getattr(batches, "sampler", None))
    return list({id(each): each for each in found if each is not None}.values())


def _gather(array: Tensor, index: Tensor) -> Tensor:
    # index_select takes a fraction of indexing's time, but knows no wide unsigned integers.
    signed = SIGNED.get(array.dtype)
    if signed is None:
        return array.index_select(0, index)
    return array.view(signed).index_select(0, index).view(array.dtype)
