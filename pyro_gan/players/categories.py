"""What training has told of conditions: their shapes and types, and which integers they have had.

Later questions are held against it, after a state has been loaded too. Integers are marked on the device, so that no
step waits for their values.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_gan.players.conditions import MOST_CATEGORIES, Condition, Rows, categories
from pyro_gan.processes import Processes

MOST_NUMBERS = 64
"""The integers of a row up to which they are labels or words, and no pixels."""


class Known:
    """What training has told of conditions.

    Attributes:
        conditions: What is known of each, by name in the order of the model's arguments.
    """

    def __init__(self) -> None:
        self.conditions: dict[str, Condition] = {}
        self._marks: dict[str, Tensor] = {}
        """By name a truth value for each integer from 0 to 999, and a last one for all others."""

    def meet(self, rows: Rows) -> None:
        """Take note of the conditions of a minibatch; this does not wait for the device.

        Args:
            rows: The conditions by name, each with shape `(num_rows, *event_shape)`.
        """
        for name, values in rows.items():
            before = self.conditions.get(name)
            self.conditions[name] = Condition.of(values, None if before is None else before.categories)
            if are_labels(values):
                self._mark(name, values.detach().flatten().long())

    def note(self, name: str, whole: Tensor | None) -> None:
        """Note which categories a condition has had.

        Args:
            name: Its name.
            whole: All rows of the data; `None` where they are not at hand, but only what has been met in steps.
        """
        before = self.conditions[name].categories
        found = set(self.met(name)) if whole is None else set(categories(whole))
        kinds = tuple(sorted(found.union(before or ()))) if found and before != () else ()
        self.conditions[name] = self.conditions[name]._replace(categories=kinds)

    def share(self, processes: Processes) -> None:
        """Take note of the integers that any process has met in steps; all of them come here."""
        for marks in processes.gathered({name: values.cpu() for name, values in self._marks.items()}):
            for name, values in marks.items():
                own = self._marks.setdefault(name, torch.zeros_like(values))
                self._marks[name] = own | values.to(own.device)

    def met(self, name: str) -> list[int]:
        """The integers that a condition has had in steps, in order; none where one is beyond those that are marked."""
        marks = self._marks.get(name)
        return [] if marks is None or marks[-1] else marks[:-1].nonzero().flatten().tolist()

    def beyond(self, name: str, kinds: Collection[int]) -> list[int]:
        """The integers that a condition has had in steps beside some kinds, in order."""
        return [number for number in self.met(name) if number not in kinds]

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All of it in lists, names and numbers; `"met"` is what has come since the last note, where something has."""
        return {
            name: {
                "shape": list(known.event_shape),
                "dtype": str(known.dtype).removeprefix("torch."),
                "categories": None if known.categories is None else list(known.categories),
                **({"met": new} if (new := self._new(name)) else {}),
            }
            for name, known in self.conditions.items()
        }

    @staticmethod
    def read(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Condition]:
        """The conditions that :meth:`state_dict` told of."""
        return {
            name: Condition(
                tuple(map(int, known["shape"])),
                getattr(torch, known["dtype"]),
                None if known["categories"] is None else tuple(map(int, known["categories"])),
            )
            for name, known in state.items()
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what :meth:`state_dict` returned."""
        conditions, self._marks = self.read(state), {}
        for name, known in state.items():
            if "met" in known:
                self._mark(name, torch.tensor(known["met"], dtype=torch.int64, device="cpu"))
        self.conditions = conditions

    def _new(self, name: str) -> list[int]:
        """The integers that are marked and not noted; the first one beyond those that are marked stands for others."""
        noted, marks = self.conditions[name].categories, self._marks.get(name)
        if marks is None or noted == ():
            return []
        return [number for number in marks.nonzero().flatten().tolist() if number not in (noted or ())]

    def _mark(self, name: str, numbers: Tensor) -> None:
        before = self._marks.get(name)
        marks = torch.zeros(MOST_CATEGORIES + 1, dtype=torch.bool, device="cpu") if before is None else before
        self._marks[name] = marks = marks.to(numbers.device)
        is_marked = (numbers >= 0) & (numbers < MOST_CATEGORIES)
        marks[torch.where(is_marked, numbers, MOST_CATEGORIES)] = True


def are_labels(rows: Tensor) -> bool:
    """Whether rows are integers, and so few of them in a row that they are labels or words, and no pixels.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`.
    """
    are_whole = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    return are_whole and 0 < rows.numel() <= MOST_NUMBERS * len(rows)
