"""The shapes of what a guide was trained on, and later values brought into the same form."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.players.batch import Batch, as_batch, is_array, named, number_of_rows


class Form(NamedTuple):
    """What all rows of an array have in common."""

    event_shape: torch.Size
    dtype: torch.dtype
    is_free: bool = False
    """Whether the first dimension of a row may have any size."""

    def fits(self, shape: torch.Size) -> bool:
        """Whether a shape is that of a row."""
        first = int(self.is_free)
        return len(shape) == len(self.event_shape) and shape[first:] == self.event_shape[first:]

    def sizes(self) -> tuple[int | str, ...]:
        """The shape of a row, for messages."""
        return ("length", *self.event_shape[1:]) if self.is_free else tuple(self.event_shape)


class Observations:
    """Remembers a minibatch's event shapes and number types, and brings later values into the same form.

    Args:
        batch: A minibatch.
        device: Where later values are put.
        order: The names that later values without names stand for, in order, where the minibatch is a mapping.
        free: The names of those whose rows may have any size in their first dimension, such as sets.
    """

    def __init__(
        self, batch: Batch, device: torch.device, order: Sequence[str] = (), free: Collection[Hashable] = ()
    ) -> None:
        self.forms: dict[Hashable, Form] = {
            key: Form(value.shape[1:], value.dtype, key in free) for key, value in named(batch)
        }
        self.order = tuple(order) if isinstance(batch, dict) else tuple(range(len(batch)))
        self.is_named = isinstance(batch, dict)
        self.num_rows = number_of_rows(batch)
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, in tensors without rows."""
        rows = {key: torch.empty(0, *form.event_shape, dtype=form.dtype) for key, form in self.forms.items()}
        named = rows if self.is_named else tuple(rows.values())
        free = [key for key, form in self.forms.items() if form.is_free]
        order = list(self.order) if self.is_named else []
        return {"rows": named, "num_rows": self.num_rows, "order": order, "free": free}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> Self:
        """The same, from what :meth:`state_dict` returned."""
        observations = cls(state["rows"], device, state["order"], state.get("free", ()))
        observations.num_rows = state["num_rows"]
        return observations

    def rows(self, value: Any, source: str = "the observations") -> tuple[Batch, bool]:
        """Values as rows, and whether a single one was given.

        Args:
            value: One value with shape `event_shape`, or rows with shape `(num_rows, *event_shape)`: a tensor, an array
                or a number; a tuple or a mapping of such where there are several.
            source: What to call them in messages.

        Raises:
            TypeError: `value` holds something that is no array of numbers.
            ValueError: Names or shapes are others than those of the minibatch, or a number is NaN or infinite.
        """
        tensors = {
            key: _as_form(element, self.forms[key], _name(source, key), self.device)
            for key, element in self._elements(value, source).items()
        }
        singles = [key for key, tensor in tensors.items() if self.forms[key].fits(tensor.shape)]
        several = [key for key in tensors if key not in singles]
        for key in several:
            _check_shape(tensors[key], self.forms[key], _name(source, key))
        if singles and several:
            raise ValueError(
                f"{_name(source, singles[0])} is a single one, but {_name(source, several[0])} has rows. Pass one of "
                "each, or as many rows of each."
            )
        is_single = not several
        if is_single:
            tensors = {key: tensor[None] for key, tensor in tensors.items()}
        given = tensors if self.is_named else tuple(tensors.values())
        return as_batch(given, self.device, source), is_single

    def _elements(self, value: Any, source: str) -> dict[Hashable, Any]:
        """What was given, by the minibatch's names or places; a mapping may hold more than that."""
        known = ", ".join(map(repr, self.forms))
        if isinstance(value, Mapping):
            elements = {key: element for key, element in value.items() if self.is_named and key in self.forms}
            if elements:
                return elements
            expected = known if self.is_named else f"{len(self.forms)} in a tuple"
            names = ", ".join(map(repr, value)) or "none"
            raise ValueError(f"{source} are {names} by name, but the guide was trained on {expected}. Pass these.")
        is_several = isinstance(value, tuple) or (isinstance(value, list) and any(map(is_array, value)))
        elements = dict(zip(self.order, value if is_several else (value,), strict=False))
        if len(elements) < (len(value) if is_several else 1) or not elements:
            raise ValueError(
                f"{source} are {len(value) if is_several else 1} in order, but the guide was trained on "
                f"{known if self.is_named else len(self.forms)}. Pass these{' by name' if self.is_named else ''}."
            )
        return elements


def _as_form(value: Any, form: Form, name: str, device: torch.device) -> Tensor:
    """One array in the form's number type and on the device."""
    tensor = _as_tensor(value, name).to(device)
    if not form.dtype.is_floating_point and tensor.is_floating_point() and bool((tensor != tensor.floor()).any()):
        raise ValueError(
            f"{name} holds fractions, but in training there were whole numbers ({form.dtype}). Pass whole numbers."
        )
    return tensor.to(form.dtype)


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must be a tensor, an array or a number, but is {shown(value)} ({type(value).__name__})."
        )
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))  # a copy, which torch may write to


def _name(source: str, key: Hashable) -> str:
    return f"{source}[{key!r}]"


def _check_shape(tensor: Tensor, form: Form, name: str) -> None:
    if tensor.dim() == 0 or not form.fits(tensor.shape[1:]):
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, but in training each had shape {_shown(form.sizes())}. Pass one "
            f"of that shape, or rows of them, with shape {_shown(('num_rows', *form.sizes()))}."
        )


def _shown(sizes: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
