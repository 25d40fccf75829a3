"""A run that goes on where another process, or an interrupt, left it: to the last bit as if nothing had happened."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.players.batch import Batch, as_batch
from pyro_gan.players.first_look import RandomStates, kept_random_state, random_states, set_random_states
from pyro_gan.players.player import Player
from pyro_gan.processes import Processes, agreed, found
from pyro_gan.training.checkpoint import Folder
from pyro_gan.training.clock import Clock
from pyro_gan.training.distributed import share_buffers
from pyro_gan.training.hooks import Hooks
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.optimizer_state import plain

Resume = Literal["auto", "never"]
"""Whether a run goes on from the newest checkpoint of its folder."""


class Resumable(Protocol):
    """What is kept of an inference."""

    clock: Clock
    device: torch.device

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""

    def last_batch(self) -> Batch | None:
        """The minibatch of the last step."""

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def share_categories(self, processes: Processes) -> None:
        """Take note of the conditions that any process has met; all of them come here."""


class Point(NamedTuple):
    """Where a run goes on."""

    done: int
    """The steps of it that have been taken."""
    num_steps: int
    """The steps that it has in all, fewer than were asked for where it is to end early."""
    is_skipped: bool = False
    """Whether a later run is under way, so that this one is over."""
    is_written: bool = False
    """Whether the run is over, and its last checkpoint written."""
    states: Sequence[tuple[Hooks, dict[str, Any]]] = ()
    """The callbacks that keep something, with what they kept."""
    random: RandomStates | None = None
    batch: Batch | None = None
    """The last minibatch, for a look where no step is left."""
    state: dict[str, Any] | None = None
    """The state at the end of a run that is over."""


class Keeper:
    """Writes checkpoints of a run, and finds where it goes on.

    Args:
        inference: The inference.
        batches: The run's data.
        callbacks: The run's callbacks.
        folder: The folder.
        every: The number of steps between checkpoints.
        resume: `"auto"` to go on from the newest checkpoint, `"never"` to begin at the beginning.

    Raises:
        ValueError: `resume` is neither, or the folder holds checkpoints that would be mixed with those of a new run.
    """

    def __init__(
        self,
        inference: Resumable,
        batches: Minibatches,
        callbacks: Sequence[Hooks],
        folder: Folder,
        every: int,
        resume: Resume,
    ) -> None:
        if resume not in get_args(Resume):
            raise ValueError(f"resume must be 'auto' or 'never', but is {shown(resume)}.")
        if resume == "never" and agreed(folder.files) and str(folder.path) not in inference.clock.folders:
            raise _other_run(folder)
        self.inference = inference
        self.batches = batches
        self.callbacks = callbacks
        self.folder = folder
        self.every = every
        self.resume = resume
        batches.stream.keeps_place = True
        batches.stream.description()  # which sees that the data can be told apart

    def start(self, num_steps: int) -> Point:
        """Where a run of so many steps goes on; the state and the place in the data are loaded.

        Raises:
            ValueError: The checkpoint is of other data, other callbacks, or another inference.
        """
        clock = self.inference.clock
        number = clock.runs + 1
        content = agreed(self.folder.newest) if self.resume == "auto" else None
        if content is None or content["run"] is None or content["run"]["number"] < number:
            if content is not None and str(self.folder.path) not in clock.folders:
                raise _other_run(self.folder)
            clock.folders.add(str(self.folder.path))
            return Point(0, num_steps)
        run, states = content["run"], RandomStates.from_state_dict(_own(content, "random"))
        if run["number"] > number:
            self.inference.load_state_dict(content["state"])
            clock.runs = number
            return Point(num_steps, num_steps, is_skipped=True, random=states, batch=self._batch(run))
        self._check_data(run["data"], 1 + len(content.get("random_of_others", ())))
        matched = self._matched(run["callbacks"])
        with kept_random_state(self.inference.device):
            self.batches.stream.load_state_dict(_own(run, "place"))
        self.inference.load_state_dict(content["state"])
        clock.runs = number - 1
        clock.folders.add(str(self.folder.path))
        is_same = run.get("asked", run["num_steps"]) == num_steps  # and not one that was made longer
        wanted = run["num_steps"] if is_same else num_steps
        ended_early = run["done"] < run["num_steps"]  # by a callback
        is_written = run["is_over"] and (ended_early or run["done"] >= wanted)
        last = run["done"] if is_written else max(wanted, run["done"])
        state = content["state"] if is_written else None
        return Point(run["done"], last, False, is_written, matched, states, self._batch(run), state)

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.inference.clock.done % self.every == 0

    def write(self, is_over: bool = False) -> None:
        """Write a checkpoint of the run as it stands; the history must have been read.

        Args:
            is_over: Whether the run has come to its end.
        """
        clock, processes = self.inference.clock, found()
        if processes is not None:
            share_buffers(processes, self.inference.players())
            self.inference.share_categories(processes)
        places = _of_each(processes, self.batches.stream.state_dict())
        random = _of_each(processes, random_states(self.inference.device).state_dict())
        if processes is not None and not processes.is_first:
            return
        run = {
            "number": clock.runs if is_over else clock.runs + 1,
            "done": clock.done,
            "num_steps": clock.num_steps,
            "asked": clock.asked,
            "is_over": is_over,
            "data": self.batches.stream.description(),
            "place": places[0],
            "place_of_others": places[1:],
            "batch": self.inference.last_batch(),
            "callbacks": [
                {"name": type(each).__name__, "state": plain(state, f"{type(each).__name__}.state_dict()")}
                for each in self.callbacks
                if (state := each.state_dict())
            ],
        }
        content = {**content_of(self.inference, run), "random_of_others": random[1:]}
        self.folder.write(content, clock.step)

    def _batch(self, run: dict[str, Any]) -> Batch:
        return as_batch(run["batch"], self.inference.device)

    def _check_data(self, before: dict[str, Any], number: int) -> None:
        """Refuse other data than a number of processes had, each of which may have had more or fewer of the rows."""
        now, processes = self.batches.stream.description(), found()
        other = number != (1 if processes is None else processes.size)
        free = {"batch_size", "length"} if other else set()
        if any(before.get(name) != now.get(name) for name in {*before, *now} - free):
            raise ValueError(
                f"the run in {str(self.folder.path)!r} was on data of {before}, but these are {now}. Pass the same "
                "data and batch_size, or name another folder."
            )

    def _matched(self, kept: list[dict[str, Any]]) -> list[tuple[Hooks, dict[str, Any]]]:
        """The callbacks that keep something with what they kept, by class and order."""
        seen: Counter[str] = Counter()
        matched = []
        for entry in kept:
            alike = [callback for callback in self.callbacks if type(callback).__name__ == entry["name"]]
            if seen[entry["name"]] >= len(alike):
                raise ValueError(
                    f"the run in {str(self.folder.path)!r} had a callback {entry['name']} that this one lacks. Pass "
                    "the same callbacks, or name another folder."
                )
            matched.append((alike[seen[entry["name"]]], entry["state"]))
            seen[entry["name"]] += 1
        processes = found()
        speaks = processes is None or processes.is_first
        return [(callback, state) for callback, state in matched if speaks or not callback.is_side_channel]


def _of_each(processes: Processes | None, value: Any) -> list[Any]:
    """A value of each process, by rank."""
    return [value] if processes is None else processes.gathered(value)


def _own(content: dict[str, Any], name: str) -> Any:
    """What a checkpoint has of this process, or of the first one where fewer have written it."""
    processes, others = found(), content.get(f"{name}_of_others", [])
    rank = 0 if processes is None else processes.rank
    return others[rank - 1] if 0 < rank <= len(others) else content[name]


def _other_run(folder: Folder) -> ValueError:
    return ValueError(
        f"checkpoint={str(folder.path)!r} holds checkpoints of another run, with which those of this one would mix. "
        "Name another folder, or empty this one; resume='auto' goes on from there in the script that wrote them."
    )


def go_on(point: Point, device: torch.device) -> None:
    """Have callbacks and random states be what they were."""
    for callback, state in point.states:
        callback.load_state_dict(state)
    if point.random is not None:
        set_random_states(device, point.random)


def content_of(inference: Resumable, run: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a file holds: the state, the random states, the run under way, and the versions that wrote it."""
    state = inference.state_dict()
    # A million steps are a few large tensors, which a file holds as they are.
    history = {name: _column(name, values) for name, values in state["history"].items()}
    versions = {name: _version(name) for name in ("pyro_gan", "torch", "pyro-ppl", "numpy")}
    return {
        "state": {**state, "history": history},
        "random": random_states(inference.device).state_dict(),
        "run": run,
        "versions": {**versions, "python": platform.python_version()},
    }


def _version(name: str) -> str:
    """A package's version; one that is on Python's path, but not installed, has none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _column(name: str, values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64 if name == "step" else torch.float64, device="cpu")
