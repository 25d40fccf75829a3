"""The only loop. It knows no algorithm: it takes steps, reads what they left, and tells the callbacks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Protocol

from pyro_gan.penalties import Penalty, PenaltyFunction
from pyro_gan.players.batch import Batch
from pyro_gan.players.player import Player
from pyro_gan.processes import Processes, found
from pyro_gan.training.distributed import share_buffers
from pyro_gan.training.divergence import Diverged
from pyro_gan.training.failing import one_for_all
from pyro_gan.training.hooks import Callbacks, Hooks, in_one_run
from pyro_gan.training.interrupts import Interrupts, held_back
from pyro_gan.training.noise import separate_noise
from pyro_gan.training.record import Recorded, Recorder, StepRecord
from pyro_gan.training.resuming import Keeper, Point, Resumable, go_on

PAUSE = 1.0
"""Seconds between two times at which processes ask each other whether a signal has come."""


class Ending:
    """Whether a run ends before its time, on which all processes agree at the same step.

    Asking costs a message. So where no callback may end the run they ask at some steps only, a pause apart; which ones
    is reckoned from the slowest process's seconds a step, and at most twice as many steps apart as the time before.

    Args:
        interrupts: What this process was interrupted by.
        processes: All of them, or `None` where there is one.
        may_end: Whether a callback of this process may end the run.
    """

    def __init__(self, interrupts: Interrupts, processes: Processes | None, may_end: bool) -> None:
        self.interrupts = interrupts
        self.processes = processes
        self.may_end = may_end
        self._is_ended = False
        self._num_waited, self._num_to_wait = 0, 1
        self._began = perf_counter()

    def agreed(self, is_ended: bool, num_left: int) -> tuple[bool, int | None]:
        """Whether a callback of any process ends the run, and the number of a signal that any has caught.

        Args:
            is_ended: Whether one of this process does.
            num_left: The steps that are left; where there are none, all ask.
        """
        caught = self.interrupts.caught
        if self.processes is None:
            return is_ended, caught
        self._is_ended |= is_ended
        self._num_waited += 1
        if self._num_waited < self._num_to_wait and num_left:
            return False, None
        seconds = (perf_counter() - self._began) / self._num_waited
        may_end, ends, number, seconds = self.processes.greatest(self.may_end, self._is_ended, caught or 0, seconds)
        if number and caught is None:
            self.interrupts.caught = int(number)
        self._num_to_wait = 1 if may_end else min(2 * self._num_waited, int(PAUSE / seconds))
        self._num_waited = 0
        self._began = perf_counter()
        return bool(ends), int(number) or None


class Trainee(Recorded, Resumable, Protocol):
    """What takes the steps, beside what is recorded and kept of it."""

    num_steps_taken: int
    penalties: tuple[PenaltyFunction, ...]
    recorder: Recorder

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def get_ready(self, batch: Batch) -> None:
        """Before the first step, look at one minibatch."""

    def take_step(self, batches: Iterator[Batch]) -> StepRecord:
        """Take one step on a stream of minibatches."""


def train(
    inference: Trainee,
    batches: Iterator[Batch],
    num_steps: int,
    callbacks: Sequence[Hooks],
    keeper: Keeper | None = None,
) -> bool:
    """Take `num_steps` steps of inference on a stream of minibatches.

    Args:
        inference: Takes the steps and keeps the history.
        batches: The stream.
        num_steps: The number of steps.
        callbacks: Told of every step, and of every reading of the history.
        keeper: Writes checkpoints, where there is one, and tells where the run goes on.

    Returns:
        Whether it was this run's turn: not where it was over, and a later one is under way.

    Raises:
        ValueError: An update is not finite, the stream runs out, or a run of the inference is under way.
        KeyboardInterrupt, SystemExit: The run was interrupted; it ended after the step in hand.
    """
    clock, processes = inference.clock, found()
    clock.check_idle("run")
    penalties = {id(given): given for given in inference.penalties if isinstance(given, Penalty)}
    kept_along = [*callbacks, *penalties.values()]  # a penalty may be given twice, and counts twice
    with held_back(0.0 if processes is None else 5 * PAUSE) as interrupts, in_one_run(kept_along):
        point = Point(0, num_steps) if keeper is None else keeper.start(num_steps)
        if point.is_skipped:
            _look_again(inference, point)
            go_on(point, inference.device)
            return False
        told, recorder = Callbacks(inference, callbacks, processes), inference.recorder
        with clock.running(point.num_steps, point.done, num_steps):
            try:
                told.start(num_steps)
                if not clock.num_left:  # all steps were taken, but callbacks have still to be told
                    _look_again(inference, point)
                go_on(point, inference.device)
                # Within the context that holds SIGTERM back, so that there is time to say who failed.
                with one_for_all(processes, lambda: f"at step {inference.num_steps_taken}"):
                    if processes is not None:
                        separate_noise(processes, inference.device)
                    caught = _take_steps(inference, batches, told, Ending(interrupts, processes, told.may_end), keeper)
            except BaseException as error:
                with suppress(ValueError):  # an update that is not finite is not what ended the run
                    recorder.read()
                told.end(error)
            is_complete = caught is None
            if is_complete:
                clock.complete()
            told.end()
        if point.state is not None:  # the state has what the first telling did
            inference.load_state_dict(point.state)
            go_on(point._replace(states=()), inference.device)
        elif keeper is not None and is_complete:
            keeper.write(is_over=True)
        if processes is not None:
            share_buffers(processes, inference.players())
    return True


def _look_again(inference: Trainee, point: Point) -> None:
    """Put loaded values in place where no step does."""
    if point.batch is not None:
        inference.get_ready(point.batch)


def _take_steps(
    inference: Trainee,
    batches: Iterator[Batch],
    told: Callbacks,
    ending: Ending,
    keeper: Keeper | None,
) -> int | None:
    """Take the steps that are left, until a callback or an interrupt ends the run; its number is returned."""
    clock, recorder, first = inference.clock, inference.recorder, inference.clock.done
    is_ended, caught = ending.agreed(False, clock.num_left)
    while clock.num_left and not is_ended and caught is None:
        recorder.unread.append(_take_step(inference, batches, recorder))
        clock.tick()
        is_ended, caught = ending.agreed(told.step(), clock.num_left)
        is_kept = keeper is not None and keeper.is_due()
        if is_kept or recorder.is_due():
            _read(recorder, told)
        if is_kept and keeper is not None and not is_ended:
            keeper.write()
    _read(recorder, told)
    if keeper is not None and caught is not None and clock.done > first:
        keeper.write()
    return caught


def _take_step(inference: Trainee, batches: Iterator[Batch], recorder: Recorder) -> StepRecord:
    try:
        return inference.take_step(batches)
    except Diverged as error:  # the history shows at which step
        recorder.unread.append(error.record)
        inference.clock.tick()
        raise
    except Exception as error:
        error.add_note(f"This was at step {inference.num_steps_taken + 1} of inference.")
        raise


def _read(recorder: Recorder, told: Callbacks) -> None:
    recorder.read()
    if recorder.is_fresh:
        recorder.is_fresh = False
        told.read()
