"""A process that fails ends the others, and they say which one it was.

A process that raises says so in the store of its group, to which all are connected, before it ends. Where one is killed
it says nothing; but its connections are closed, so that the others fail at their next message, and look who is left.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from torch import distributed

from pyro_gan.processes import Processes, ProcessFailed, key, store

__all__ = ["ProcessFailed", "one_for_all"]

SECONDS_TO_ANSWER = 5.0
"""How long the others have to say that they are alive."""


@contextmanager
def one_for_all(processes: Processes | None, when: Callable[[], str]) -> Iterator[Processes | None]:
    """A context for what all processes do: where it fails on this one the others are told, and likewise.

    Args:
        processes: They, or `None` where there is one.
        when: Tells in words what they were at, such as "at step 12".

    Yields:
        The processes.

    Raises:
        ProcessFailed: Another process has failed; the message names it.
    """
    if processes is None:
        yield None
        return
    try:
        yield processes
    except BaseException as error:
        if isinstance(error, ProcessFailed):  # it has been told
            raise
        if not _is_of_others(error):
            _say(f"failed/{processes.rank}", f"{type(error).__name__}: {error}")
            raise
        who = _who_failed(processes, "timed out" in str(error).lower() or "timeout" in str(error).lower())
        text = f"{who} {when()}, so that rank {processes.rank} can not go on either."
        with suppress(OSError, ValueError):  # a launcher may end this process before it can raise
            print(f"pyro_gan: {text}", file=sys.stderr, flush=True)
        raise ProcessFailed(text) from error


def _is_of_others(error: BaseException) -> bool:
    """Whether an error is of a connection to another process."""
    if isinstance(error, distributed.DistError):
        return True
    words = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out waiting")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _who_failed(processes: Processes, was_waited_for: bool) -> str:
    """The processes that failed, in words: those that said so, else those that say nothing any more.

    Args:
        processes: All of them.
        was_waited_for: Whether none was seen to end, but the time is up.
    """
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
    if was_waited_for:
        seconds = processes.timeout.total_seconds()
        return f"rank {ranks} did not answer for {seconds:g} s (it hangs, takes longer, or is not to be reached)"
    return f"rank {ranks} ended without a word (killed, out of memory, or not to be reached)"


def _store() -> Any:
    found = store()
    with suppress(Exception):  # not all kinds have a timeout
        found.set_timeout(timedelta(seconds=SECONDS_TO_ANSWER))
    return found


def _say(name: str, text: str) -> None:
    with suppress(Exception):  # the store may be gone with the process that held it
        _store().set(key(name), text)


def _said(name: str) -> str | None:
    with suppress(Exception):
        found = _store()
        if found.check([key(name)]):
            return bytes(found.get(key(name))).decode()
    return None
