"""Updates that are not finite: found before they are used, and traced to where they began.

One NaN in one row of one draw makes a loss NaN, its gradient, and after the update every parameter, its moments and its
average. On the host losses and gradients are looked at before each update. A device is not waited for: there the update
itself is left out, and the next reading of the history tells.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.players.batch import Batch, too_large

OnDivergence = Literal["raise", "skip"]
"""What happens where an update would not be finite: an error, or it is left out."""

MOST_SKIPPED = 100
"""The number of updates in a row that may be left out before there is an error all the same."""

LARGE = 1e18
"""The sum from which on single numbers are looked at."""

MEND = "Check the data for NaN or infinity, or lower the learning rates (optim, optim_d)."


def check_on_divergence(value: Any) -> OnDivergence:
    """A user's choice, or an error that names the argument."""
    if value not in get_args(OnDivergence):
        raise ValueError(f"on_divergence must be 'raise' or 'skip', but is {shown(value)}.")
    return value


class Diverged(ValueError):
    """An update is not finite, and the user's choice is to end.

    Attributes:
        record: What the step leaves for the history.
    """

    record: Any = None


class Seen(NamedTuple):
    """What gradients were computed from, to trace what is not finite to its beginning."""

    real: Mapping[str, Tensor]
    """The real rows by site, each with shape `(N, *event_shape)`."""
    fake: Mapping[str, Tensor]
    """The fake rows by site, each with shape `(M, *event_shape)`."""


def are_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Whether all numbers of tensors on the host are finite, and the squares of those with dimensions too."""
    numbers = [numbers_of(tensor) for tensor in tensors if tensor is not None]
    # NaN and infinity stay in sums, which take a tenth of the time of looking at each number.
    if abs(sum([tensor.sum().item() for tensor in numbers])) < LARGE:
        return True
    return all(map(_is_usable, numbers))


class Divergence:
    """What has been found of updates that are not finite."""

    def __init__(self) -> None:
        self._num_skipped: Counter[str] = Counter()
        """How many were left out in a row, by player."""
        self._is_told = False
        self._flags: list[Tensor] = []

    def passes(self, player: str) -> None:
        """An update of a player is finite."""
        if self._num_skipped:
            del self._num_skipped[player]

    def meet(self, on_divergence: OnDivergence, player: str, text: str) -> None:
        """What follows where an update is not finite.

        Args:
            on_divergence: The user's choice.
            player: Whose update.
            text: What is wrong.

        Raises:
            Diverged: That is the user's choice, or there were too many in a row.
        """
        self._num_skipped[player] += 1
        if on_divergence == "raise":
            raise Diverged(text)
        if self._num_skipped[player] > MOST_SKIPPED:
            raise Diverged(f"{MOST_SKIPPED} updates in a row were not finite and left out; now {text}")
        if not self._is_told:
            self._is_told = True
            warnings.warn(f"{text} This update is left out, as further ones will be.", RuntimeWarning, stacklevel=2)

    def flagged(self, tensors: Iterable[Tensor | None]) -> Tensor:
        """1.0 where any number of tensors on a device is not finite, else 0.0; the step's flags are kept.

        Args:
            tensors: The tensors, which are not waited for.
        """
        flag = not_finite([numbers_of(tensor) for tensor in tensors if tensor is not None])
        self._flags.append(flag)
        return flag

    def flag(self) -> Tensor | None:
        """The greatest of a step's flags, which are let go of; `None` where there are none."""
        flags, self._flags = self._flags, []
        return torch.stack(flags).amax() if flags else None


def not_finite(tensors: Sequence[Tensor]) -> Tensor:
    """1.0 where any number of tensors on one device is not finite, else 0.0: a 0-dimensional tensor, without waiting.

    Args:
        tensors: At least one tensor.
    """
    if tensors[0].device.type == "cuda" and len({tensor.dtype for tensor in tensors}) == 1:
        found = torch.zeros((), dtype=torch.float32, device=tensors[0].device)  # whatever the default type
        # One launch for all; they are multiplied by 1.
        torch._amp_foreach_non_finite_check_and_unscale_(list(tensors), found, torch.ones_like(found))
        return found
    return torch.stack([(~torch.isfinite(tensor).all()).float() for tensor in tensors]).amax()


def beginning(seen: Seen | None, logits: Sequence[Tensor | None], batch: Batch) -> str:
    """Where it began that something is not finite, as a clause for a message; empty where nothing tells.

    Args:
        seen: The rows that were compared.
        logits: Those of the real and of the fake rows, each with shape `(num_rows,)`.
        batch: The minibatch.
    """
    samples = (("real rows", seen.real), ("model's draws", seen.fake)) if seen is not None else ()
    for source, sample in samples:
        for site, rows in sample.items():
            if (row := _first_row(rows)) is not None:
                large = too_large(batch, rows.dtype) if source == "real rows" else None
                return f", and {large}" if large else f", which began in the {source} at site {site!r}, row {row}"
    for source, values in zip(("real", "fake"), logits, strict=False):
        if values is not None and (row := _first_row(values)) is not None:
            return f", which began in the discriminator's logits of the {source} rows, row {row}"
    return ""


def message(player: str, found: Any, step: int, began: str) -> str:
    """What a user is told of an update that is not finite.

    Args:
        player: Whose update.
        found: Its :class:`~pyro_gan.training.step.Gradients`.
        step: The number of the step.
        began: Where it began, as of :func:`beginning`.
    """
    for what, value in ((f"{player}'s loss", found.loss), ("penalty", found.penalty)):
        if value is not None and not are_finite([value]):
            return f"the {what} is {value.item()} at step {step}{began}. {MEND}"
    for name, value in zip(found.parameters, found.values, strict=True):
        if not are_finite([value]):
            return (
                f"the gradient of the {player}'s parameter {name!r} is not finite at step {step}, though the loss is"
                f"{began}. {MEND} A square root or a logarithm at 0 has such a gradient."
            )
    return f"the {player}'s update is not finite at step {step}{began}. {MEND}"


def _is_usable(tensor: Tensor) -> bool:
    """Whether all numbers are finite, and a gradient's squares, which optimizers average, are too."""
    if not bool(torch.isfinite(tensor).all()):
        return False
    return not tensor.dim() or not tensor.numel() or math.isfinite(float(tensor.abs().max().square()))


def numbers_of(tensor: Tensor) -> Tensor:
    """All numbers of a tensor that may be sparse, without a gradient."""
    return tensor.detach() if tensor.layout == torch.strided else tensor.detach().coalesce().values()


def _first_row(rows: Tensor) -> int | None:
    """The first row that is not finite, or `None`."""
    finite = torch.isfinite(rows.detach())
    return None if bool(finite.all()) else int((~finite).nonzero()[0, 0])
