"""A process that fails ends the others, and they say which one it was.

A process that raises says so in the store of its group, to which all are connected, before it ends. Where one is killed
it says nothing; but its connections are closed, so that the others fail at their next message, and look who is left.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from torch import distributed

from pyro_gan.processes import Processes

SECONDS_TO_ANSWER = 5.0
"""How long the others have to say that they are alive."""


class ProcessFailed(RuntimeError):
    """Another process has failed, so that this one can not go on."""


@contextmanager
def one_for_all(processes: Processes | None, step: Callable[[], int]) -> Iterator[None]:
    """A context for what all processes do: where it fails on this one the others are told, and likewise.

    Args:
        processes: They, or `None` where there is one.
        step: Tells the number of the step that is taken.

    Raises:
        ProcessFailed: Another process has failed; the message names it.
    """
    if processes is None:
        yield
        return
    try:
        yield
    except BaseException as error:
        if isinstance(error, ProcessFailed):  # it has been told
            raise
        if not _is_of_others(error):
            _say(f"failed/{processes.rank}", f"{type(error).__name__}: {error}")
            raise
        text = f"{_who_failed(processes)} at step {step()}, so that rank {processes.rank} can not go on either."
        with suppress(OSError, ValueError):  # a launcher may end this process before it can raise
            print(f"pyro_gan: {text}", file=sys.stderr, flush=True)
        raise ProcessFailed(text) from error


def _is_of_others(error: BaseException) -> bool:
    """Whether an error is of a connection to another process."""
    if isinstance(error, distributed.DistError):
        return True
    words = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out waiting")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _who_failed(processes: Processes) -> str:
    """The processes that failed, in words: those that said so, else those that say nothing any more."""
    _say(f"alive/{processes.rank}", "yes")
    others = [rank for rank in range(processes.size) if rank != processes.rank]
    until = time.monotonic() + SECONDS_TO_ANSWER
    silent = others
    while silent and time.monotonic() < until:
        said = {rank: _said(f"failed/{rank}") for rank in others}
        if failed := [f"rank {rank} failed ({text})" for rank, text in said.items() if text is not None]:
            return " and ".join(failed)
        silent = [rank for rank in silent if _said(f"alive/{rank}") is None]
        time.sleep(0.1)
    if not silent:
        return "a process could not be reached"
    ranks = ", ".join(map(str, silent))
    return f"rank {ranks} ended without a word (killed, out of memory, or not to be reached)"


def _key(name: str) -> str:
    return f"pyro_gan/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


def _store() -> Any:
    store = distributed.distributed_c10d._get_default_store()
    with suppress(Exception):  # not all kinds have a timeout
        store.set_timeout(timedelta(seconds=SECONDS_TO_ANSWER))
    return store


def _say(name: str, text: str) -> None:
    with suppress(Exception):  # the store may be gone with the process that held it
        _store().set(_key(name), text)


def _said(name: str) -> str | None:
    with suppress(Exception):
        store = _store()
        if store.check([_key(name)]):
            return bytes(store.get(_key(name))).decode()
    return None
