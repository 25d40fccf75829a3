"""The processes that train together, and what is taken over the rows of all of them.

They are those of torch.distributed: of a group that has been initialized, or of torchrun's environment, by which one is
then made. Within :func:`as_one` statistics of a minibatch's rows are those over the minibatches of all processes. They
are constants without a gradient, so a process needs no more of the others than their sums.
"""

import atexit
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, in a group that is made here."""


class Processes:
    """The processes of a group, of which this is one.

    Attributes:
        rank: The number of this one, from 0.
        size: How many there are.
    """

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        # What is said beside gradients goes over the hosts, and waits for no device.
        self.hosts: Any = distributed.new_group(backend="gloo")

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
        distributed.all_reduce(values, distributed.ReduceOp.MAX, group=self.hosts)
        return values.tolist()

    def gathered(self, value: Any) -> list[Any]:
        """A value of each process, by rank; tensors come on the host."""
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, value, group=self.hosts)
        return every

    def from_first(self, function: Callable[[], Any]) -> Any:
        """What a function returns on the first process, which alone calls it; an error is raised on all of them."""
        answer: list[Any] = [None]
        if self.is_first:
            try:
                answer = [(function(), None)]
            except Exception as error:
                answer = [(None, error if _can_be_sent(error) else RuntimeError(repr(error)))]
        distributed.broadcast_object_list(answer, 0, group=self.hosts)
        value, failure = answer[0]
        if failure is not None:
            raise failure
        return value


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
        RuntimeError: torchrun's environment names others, but they can not be reached.
    """
    if not distributed.is_available():
        return None
    if not distributed.is_initialized():
        named = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
        if not named or int(os.environ["WORLD_SIZE"]) < 2:
            return None
        _initialize()
    if distributed.get_world_size() < 2:
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


def _initialize() -> None:
    """Make a group of torchrun's processes: by NCCL where each has a GPU, else by gloo."""
    has_devices = torch.cuda.is_available() and distributed.is_nccl_available()
    if has_devices:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    exported: Any = distributed  # these names are in its documentation, but not in its exports
    store, rank, size = next(exported.rendezvous("env://", timeout=TIMEOUT))
    # After a restart torchrun's store still holds the addresses of processes that have ended. It counts restarts for a
    # machine alone; of several machines it has to be told to make a new store (docs/processes.md).
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1" and (attempt := os.environ.get("TORCHELASTIC_RESTART_COUNT")):
        store = exported.PrefixStore(f"pyro_gan/attempt {attempt}", store)
    backend = "cpu:gloo,cuda:nccl" if has_devices else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    _known["is_own"] = True


@atexit.register
def _leave() -> None:
    """Let go of groups before the interpreter ends, whose threads may not outlive it."""
    if "processes" in _known:
        _known.pop("processes").hosts = None
    _known.pop("group", None)
    if _known.pop("is_own", False) and distributed.is_initialized():
        distributed.destroy_process_group()


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


def variances_of(rows: Tensor) -> Tensor:
    """Each feature's variance over the rows of all processes, divided by their number, as constants.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`; the result has the shape `event_shape`.
    """
    rows = rows.detach()
    if not _together:
        return rows.var(0, correction=0)
    variance, mean = torch.var_mean(rows, 0, correction=0)
    mean, number = mean.double(), torch.full_like(mean, len(rows), dtype=torch.float64)
    sums = torch.stack([number * mean, number * (variance + mean.square()), number])
    total, squares, number = _reduced(sums, "sum").unbind()
    return (squares / number - (total / number).square()).clamp_min(0.0).to(rows.dtype)


def ranges_of(rows: Tensor) -> Tensor:
    """The difference of each feature's largest and smallest number over the rows of all processes.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`; the result has the shape `event_shape`.
    """
    largest, smallest = rows.amax(0), rows.amin(0)
    if not _together:
        return largest - smallest
    ends = _reduced(torch.stack([largest, -smallest]), "max")
    return ends[0] + ends[1]


def rows_of_all(rows: Tensor) -> Tensor:
    """The rows of all processes, by rank, as constants.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`.
    """
    if not _together:
        return rows
    size, rank = _together[-1].size, _together[-1].rank
    rows = rows.detach()
    numbers = torch.zeros(size, dtype=torch.int64, device=rows.device)
    numbers[rank] = len(rows)
    counts = _reduced(numbers, "sum").tolist()
    places = rows.new_zeros(sum(counts), *rows.shape[1:])
    start = sum(counts[:rank])
    places[start : start + len(rows)] = rows
    return _reduced(places, "sum")


def _reduced(values: Tensor, how: str) -> Tensor:
    """A reduction that a compiler can follow, which the in-place ones of torch.distributed are not made for."""
    from torch.distributed import _functional_collectives as collectives

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        group: Any = distributed.group.WORLD
        reduced = collectives.all_reduce(values.contiguous(), how, group)
        return collectives.wait_tensor(reduced)
