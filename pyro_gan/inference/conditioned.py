"""What an inference knows of conditions: told by steps and states, asked by questions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_gan.inference.algorithm import Algorithm
from pyro_gan.players.batch import Batch
from pyro_gan.players.categories import Known
from pyro_gan.players.conditions import Condition, asked
from pyro_gan.processes import Processes, found, quiet
from pyro_gan.training.cautions import warn_of_unseen


class Conditioned(Algorithm):
    """An algorithm that keeps what its data tell of conditions; :class:`Stepping` adds steps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.known = Known()
        self._last_batch: Batch | None = None
        self._kinds: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        """By condition the kinds that have coordinates in a network that built itself, with what it is called."""
        self._told_of: set[str] = set()
        """The conditions of whose unseen kinds a warning has told."""

    def fitting(self, values: Mapping[str, Any], num_rows: int) -> dict[str, Tensor]:
        """The conditions among values by name, in the form and of the categories of training.

        Args:
            values: Values by name; what is no condition is left out.
            num_rows: The number of rows.

        Raises:
            TypeError, ValueError: A condition does not fit.
        """
        return {
            name: asked(name, values[name], self._condition(name), num_rows, self.device)
            for name in self.names_of_conditions()
            if values.get(name) is not None
        }

    def names_of_conditions(self) -> tuple[str, ...]:
        """The names of the last minibatch's conditions or, before there is one, of those that a state tells of."""
        last = self._last_batch
        return tuple(self.known.conditions if last is None else self.places_of_conditions(last))

    def _condition(self, name: str) -> Condition:
        """What is known of a condition; before the first step what the minibatch at hand tells."""
        if name in self.known.conditions or self._last_batch is None:
            return self.known.conditions[name]
        return Condition.of(self.conditions(self._last_batch)[name])

    def meet_conditions(self, minibatches: Sequence[Batch]) -> None:
        """Take note of the conditions of a step; on the host what is unseen in them is told of at once."""
        for batch in minibatches:
            if self.places_of_conditions(batch):
                self.known.meet(self.conditions(batch))
        if self.device.type == "cpu":
            self._tell_of_unseen()

    def note_categories(self, whole: Callable[[Any], Tensor | None], is_over: bool = True) -> None:
        """Note which categories the data of a run have.

        Args:
            whole: Gives all rows of an element of the data, where they are at hand.
            is_over: Whether the run is over, so that where they are not those count that have come, to any process.
        """
        batch, processes = self._last_batch, found()
        if batch is None:
            return
        if is_over and processes is not None:
            self._told_of.update(*processes.gathered(self._told_of))
            self.share_categories(processes)
        for name, rows in self.conditions(batch).items():
            of_all = whole(self.places_of_conditions(batch)[name])
            if not rows.is_floating_point() and (is_over or of_all is not None):
                self.known.note(name, of_all)
        if is_over:
            with quiet(processes):
                self._tell_of_unseen()

    def share_categories(self, processes: Processes) -> None:
        """Take note of the integers that any process has met in steps; all of them come here."""
        self.known.share(processes)

    def _tell_of_unseen(self) -> None:
        """Warn of categories that have no coordinate in a network that had built itself before they came."""
        for name in [name for name in self.known.conditions if name not in self._told_of]:
            late = [(role, self.known.beyond(name, kinds)) for role, kinds in self._kinds_in_networks(name) if kinds]
            for role, unseen in [each for each in late if each[1]][:1]:
                self._told_of.add(name)
                warn_of_unseen(name, unseen, role)

    def _kinds_in_networks(self, name: str) -> list[tuple[str, tuple[int, ...]]]:
        if name not in self._kinds:
            networks: list[tuple[str, Any]] = [
                ("discriminator", part.function) for part, _ in self.discriminator.parts()
            ]
            networks += [(role, one.function) for role, one in self.players().items() if role == "guide"]
            built = [(role, one.built()) for role, one in networks if hasattr(one, "built")]
            self._kinds[name] = [(role, tuple(each.get(name, {}).get("kinds", ()))) for role, each in built]
        return self._kinds[name]
