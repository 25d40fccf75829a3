"""Interrupts (Ctrl-C) and requests to end (SIGTERM), held back until the step in hand is complete.

Raised in the middle of a step, an interrupt would leave one player updated and the other not, or a handler of Pyro's in
place. So within a run a signal is noted; the loop ends after the step, and the signal then takes its usual course.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

HELD_BACK = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What has been held back: the number of a signal, or `None`, and when it came, in seconds of a clock."""

    caught: int | None = None
    since = 0.0


@contextmanager
def held_back(patience: float = 0.0) -> Iterator[Interrupts]:
    """A context in which the first interrupt is only noted; it takes its course when the context has been left.

    A second one takes its course at once, for a step that does not end. Signals that were ignored before stay ignored,
    and outside of the main thread, which alone gets signals, nothing changes. After the context the handlers are those
    from before. A SIGTERM that had no handler exits with status 143.

    Args:
        patience: The seconds after the first one in which further ones are ignored: of many processes each may be sent
            one by a scheduler and one by torchrun, and they need a while to agree where to end.
    """
    noted = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    earlier: dict[int, Any] = {}
    process = os.getpid()

    def note(number: int, frame: Any) -> None:
        # A worker process inherits the handler, but the run is not its own.
        if os.getpid() == process and noted.caught is not None and time.monotonic() < noted.since + patience:
            return
        if noted.caught is not None or os.getpid() != process:
            _take_course(number, frame, earlier[number])
        noted.caught, noted.since = number, time.monotonic()

    try:
        for number in HELD_BACK:  # from here on nothing can come in between
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                earlier[number] = handler
                signal.signal(number, note)
        yield noted
    finally:
        for number in reversed(earlier):
            signal.signal(number, earlier[number])
        if noted.caught is not None:  # whatever was raised meanwhile is its context
            _take_course(noted.caught, None, earlier.get(noted.caught, signal.SIG_DFL))  # it may be another process's


def _take_course(number: int, frame: Any, handler: Callable[[int, Any], Any] | int) -> None:
    """What a signal does by its handler; where it has none, it ends the process by an exit that cleans up."""
    if callable(handler):
        handler(number, frame)
    else:
        raise SystemExit(128 + number)
