"""The processes that train together, and what is taken over the rows of all of them.

They are those of torch.distributed: of a group that has been initialized, or of torchrun's environment, by which one is
then made. Within :func:`as_one` statistics of a minibatch's rows are those over the minibatches of all processes. They
are constants without a gradient, so a process needs no more of the others than their means, variances and ends.
"""

import atexit
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, in a group that is made here."""


class ProcessFailed(RuntimeError):
    """Another process has failed, so that this one can not go on."""


class Processes:
    """The processes of a group, of which this is one.

    Attributes:
        rank: The number of this one, from 0.
        size: How many there are.
        timeout: How long they wait for each other.

    Raises:
        ProcessFailed: Some do not come.
    """

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self.timeout = _timeout()
        # What is said beside gradients goes over the hosts, and waits for no device.
        with _meeting(store(), "found", self.rank, self.size, self.timeout):
            self.hosts: Any = distributed.new_group(backend="gloo", timeout=self.timeout)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """The sum of all processes' values, in place."""
        distributed.all_reduce(values)
        return values

    def broadcast(self, values: Tensor) -> Tensor:
        """The first process's values, in place."""
        distributed.broadcast(values, 0)
        return values

    def greatest(self, *numbers: float) -> list[float]:
        """The greatest of all processes' numbers, one by one."""
        values = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        every = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(every, values, group=self.hosts)  # of few numbers gloo makes it sooner than a reduction
        return torch.stack(every).amax(0).tolist()

    def gathered(self, value: Any) -> list[Any]:
        """A value of each process, by rank; tensors come on the host."""
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, value, group=self.hosts)
        return every

    def from_first(self, function: Callable[[], Any]) -> Any:
        """What a function returns on the first process, which alone calls it; an error is raised on all of them.

        The others wait for as long as the first one is alive, whatever their timeout.
        """
        answer: list[Any] = [None]
        if self.is_first:
            with self._telling_that_it_lives():
                try:
                    answer = [(function(), None)]
                except Exception as error:
                    answer = [(None, error if _can_be_sent(error) else RuntimeError(repr(error)))]
        distributed.broadcast_object_list(answer, 0, group=self.hosts)
        while answer[0] is None:
            distributed.broadcast_object_list(answer, 0, group=self.hosts)
        value, failure = answer[0]
        if failure is not None:
            raise failure
        return value

    @contextmanager
    def _telling_that_it_lives(self) -> Iterator[None]:
        """A context in which the others, who wait for this process, are told four times a timeout to wait on."""
        is_over = threading.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # one of them is gone, which the answer's message finds too
                while not is_over.wait(self.timeout.total_seconds() / 4):
                    distributed.broadcast_object_list([None], 0, group=self.hosts)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def store() -> Any:
    """What all processes of the group can write to and read, by name."""
    return distributed.distributed_c10d._get_default_store()


def key(name: str) -> str:
    """A name in the store that no earlier attempt of torchrun has used."""
    return f"pyro_gan/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


@contextmanager
def _meeting(place: Any, name: str, rank: int, size: int, timeout: timedelta) -> Iterator[None]:
    """A context in which all processes come together.

    Args:
        place: A store.
        name: The occasion.
        rank: The number of this process.
        size: How many there are to be.
        timeout: How long they wait.

    Raises:
        ProcessFailed: Some do not come; the message names them.
    """
    with suppress(RuntimeError):  # what does not work here does not work below
        place.set(key(f"{name}/{rank}"), "here")
    try:
        yield
    except RuntimeError as error:
        absent = []
        with suppress(RuntimeError):
            absent = [str(each) for each in range(size) if not place.check([key(f"{name}/{each}")])]
        if not absent:
            raise
        raise ProcessFailed(
            f"rank {', '.join(absent)} did not come to train with rank {rank} within {timeout.total_seconds():g} s. "
            "Have every process call run, step or simulate; see that none of them has ended or hangs, or have them "
            "wait for longer by pyro_gan.processes.initialize(timeout=...)."
        ) from error


def _timeout() -> timedelta:
    """How long processes wait for each other in the group that all are in."""
    for device in ("cpu", "cuda"):
        with suppress(AttributeError, RuntimeError):  # it has no such device, or its backend does not tell
            return _world()._get_backend(torch.device(device)).options._timeout
    return TIMEOUT


@contextmanager
def quiet(processes: Processes | None) -> Iterator[None]:
    """A context in which only the first process warns of what all of them see."""
    if processes is None or processes.is_first:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _can_be_sent(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # errors may keep whatever they like
        return False
    return True


def found() -> Processes | None:
    """The processes that train together; `None` where this one is alone.

    Raises:
        ProcessFailed: Others do not come.
        RuntimeError: torchrun's environment names others, but they can not be reached.
    """
    if not distributed.is_available():
        return None
    if not distributed.is_initialized():
        initialize()
    if not distributed.is_initialized() or distributed.get_world_size() < 2:
        return None
    group = distributed.group.WORLD
    if _known.get("group") is not group:
        _known.update(group=group, processes=Processes())
    return _known["processes"]


def agreed(function: Callable[[], Any]) -> Any:
    """What a function returns: where several processes train together, on the first one, for all of them."""
    processes = found()
    return function() if processes is None else processes.from_first(function)


_known: dict[str, Any] = {}
"""The group that was found last, and its processes."""


def initialize(timeout: timedelta = TIMEOUT) -> None:
    """Make a group of torchrun's processes: by NCCL where each has a GPU, else by gloo. Of one process nothing is made.

    `run`, `step` and `simulate` call it. A script calls it before them to have another timeout. After a restart by
    torchrun it finds the new processes, where `torch.distributed.init_process_group` may find the old ones' addresses.

    Args:
        timeout: How long a process waits for the others before it ends with an error.

    Raises:
        ProcessFailed: Others do not come.
        RuntimeError: There is a group already, or the others can not be reached.
    """
    if distributed.is_initialized():
        raise RuntimeError(
            "the processes have come together already, with a timeout of "
            f"{_timeout().total_seconds():g} s. Call initialize before run, step and simulate."
        )
    named = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if not named or int(os.environ["WORLD_SIZE"]) < 2:
        return
    has_devices = torch.cuda.is_available() and distributed.is_nccl_available()
    if has_devices:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    exported: Any = distributed  # these names are in its documentation, but not in its exports
    place, rank, size = next(exported.rendezvous("env://", timeout=timeout))
    # After a restart torchrun's store still holds the addresses of processes that have ended. It counts restarts for a
    # machine alone; of several machines it has to be told to make a new store (docs/processes.md).
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1" and (attempt := os.environ.get("TORCHELASTIC_RESTART_COUNT")):
        place = exported.PrefixStore(f"pyro_gan/attempt {attempt}", place)
    backend = "cpu:gloo,cuda:nccl" if has_devices else "gloo"
    with _meeting(place, "initialize", rank, size, timeout):
        distributed.init_process_group(backend, store=place, rank=rank, world_size=size, timeout=timeout)
    _known["own"] = _world()


@atexit.register
def _leave() -> None:
    """Let go of groups before the interpreter ends, whose threads may not outlive it.

    A group that goes waits for its threads, which may want the interpreter's lock to let go of a tensor. Older versions
    of torch hold that lock meanwhile, but not where the part of a group that computes on the host is what goes last.
    """
    own, processes = _known.pop("own", None), _known.pop("processes", None)
    groups = [*([] if own is None else [own]), *([] if processes is None else [processes.hosts])]
    parts = [group._get_backend(torch.device("cpu")) for group in groups]
    is_own = own is not None and own is _world()
    own = None
    _known.clear()
    groups.clear()
    if processes is not None:
        processes.hosts = None
    if is_own:
        distributed.destroy_process_group()
    parts.clear()


def _world() -> Any:
    """The group that all processes are in, whose type torch leaves open."""
    return distributed.group.WORLD


_together: list[Processes] = []
"""The processes over whose rows statistics are taken now, innermost last."""


@contextmanager
def as_one(processes: Processes | None) -> Iterator[None]:
    """A context in which statistics of rows are taken over all processes, each of which enters it.

    Args:
        processes: They, or `None` where there is one.
    """
    if processes is None:
        yield
        return
    _together.append(processes)
    try:
        yield
    finally:
        _together.pop()


def variances_of(rows: Tensor) -> Callable[[], Tensor]:
    """Each feature's variance over the rows of all processes, divided by their number, as constants.

    Like all of these it asks the others at once, and what it returns waits for them: work in between costs no waiting.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`; the result has the shape `event_shape`.
    """
    if not _together:
        return lambda: rows.detach().var(0, correction=0)
    every = _gathered(_moments(rows))
    return lambda: _variances(every()).to(rows.dtype)


def ranges_of(rows: Tensor) -> Callable[[], Tensor]:
    """The difference of each feature's largest and smallest number over the rows of all processes, as constants.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`; the result has the shape `event_shape`.
    """
    if not _together:
        return lambda: rows.detach().amax(0) - rows.detach().amin(0)
    every = _gathered(_ends(rows))
    return lambda: every().amax(0).sum(0)


def variances_and_ranges_of(rows: Tensor, others: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """The variances of rows and the ranges of others, by one message.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`; the results have the shape `event_shape`.
        others: Rows of the same features.
    """
    if not _together:
        return lambda: (variances_of(rows)(), ranges_of(others)())
    moments, ends = _moments(rows), _ends(others)
    every = _gathered(torch.cat([moments, ends.to(moments.dtype)]))

    def both() -> tuple[Tensor, Tensor]:
        of_rows, of_others = every().split([len(moments), len(ends)], 1)
        return _variances(of_rows).to(rows.dtype), of_others.amax(0).sum(0).to(others.dtype)

    return both


def _moments(rows: Tensor) -> Tensor:
    """The means and variances of rows and their number, in double precision, with shape `(3, *event_shape)`."""
    variance, mean = torch.var_mean(rows.detach(), 0, correction=0)
    return torch.stack([mean, variance, torch.full_like(mean, len(rows))]).double()


def _variances(moments: Tensor) -> Tensor:
    """The variances over all processes' rows, from their moments with shape `(num_processes, 3, *event_shape)`."""
    means, variances, numbers = moments.unbind(1)
    weights = numbers / numbers.sum(0)
    mean = (weights * means).sum(0)
    return (weights * (variances + (means - mean).square())).sum(0)


def _ends(rows: Tensor) -> Tensor:
    """The largest numbers of rows, and the smallest with another sign, with shape `(2, *event_shape)`."""
    rows = rows.detach()
    return torch.stack([rows.amax(0), -rows.amin(0)])


def rows_of_all(rows: Tensor) -> Tensor:
    """The rows of all processes, by rank, as constants.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`.
    """
    if not _together:
        return rows
    rank = _together[-1].rank
    rows = rows.detach()
    counts = _gathered(torch.tensor(len(rows), device=rows.device))().tolist()
    places = rows.new_zeros(sum(counts), *rows.shape[1:])
    start = sum(counts[:rank])
    places[start : start + len(rows)] = rows
    return _made("all_reduce", places, "sum")()


def _gathered(values: Tensor) -> Callable[[], Tensor]:
    """What waits for the values of all processes, by rank along a new first dimension."""
    return _made("all_gather_tensor", values[None], 0)


def _made(collective: str, values: Tensor, how: Any) -> Callable[[], Tensor]:
    """What waits for what a collective makes, one that a compiler can follow, for which the in-place ones are not made.

    Args:
        collective: Its name.
        values: This process's.
        how: Its argument beside them.
    """
    from torch.distributed import _functional_collectives as collectives

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        made = getattr(collectives, collective)(values.contiguous(), how, _world())
    return lambda: collectives.wait_tensor(made)
