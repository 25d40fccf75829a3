"""Which parameters of the generator's side the gradient reaches, from step to step.

The first look sees that it reaches them. Later a notebook's cell may make a network again, of which Pyro's store knows
nothing, or a model may come to detach what it draws. A parameter without a gradient is not moved, and no number tells.
"""

import warnings
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from pyro_gan.checks import listed
from pyro_gan.training.samples import Samples

LONG = 100
"""The number of steps without a gradient after which a parameter that had one is told of."""

TOO_LONG = 1000
"""The number of such steps after which a run ends: what a mixture leaves out for so long is lost."""


MOST_EMPTY = 50
"""The number of steps in a row at which no parameter has a gradient, up to which a model may be left alone."""


class Reach:
    """What the last steps' gradients have reached."""

    def __init__(self) -> None:
        self._missed: frozenset[str] | None = None
        """The parameters that got no gradient at the last step."""
        self._reached: set[str] = set()
        self._lost: frozenset[str] = frozenset()
        self._num_lost = 0
        self._num_empty = 0

    def check(
        self,
        samples: Samples,
        parameters: dict[str, Tensor],
        values: Sequence[Tensor | None],
        trainable: Callable[[], Collection[str]],
    ) -> None:
        """See why a parameter got no gradient: one that a model leaves out for a while may, one that is lost may not.

        Args:
            samples: What the generator's loss was computed from.
            parameters: The parameters of this step by name.
            values: The gradient of each.
            trainable: Gives the names of all that have been met and are not frozen.

        Raises:
            ValueError: No parameter got one at several steps in a row, or one that had gradients none for long, or the
                draws depend on others than those that are registered.
        """
        missed = frozenset([name for name, value in zip(parameters, values, strict=True) if value is None])
        if missed == self._missed and len(missed) < len(parameters):  # as at the last step
            self._num_empty = 0
            self._tell_of_lost()
            return
        self._reached |= parameters.keys() - missed
        self._missed, self._lost, self._num_lost = missed, missed & self._reached, 0
        if (parameters and not missed) or not trainable():  # all are reached, or frozen
            self._num_empty = 0
            return
        if samples.strangers():
            samples.check_parameters()
        # A mixture may take a branch without parameters for a step or a few.
        self._num_empty = self._num_empty + 1 if len(missed) == len(parameters) else 0
        if self._num_empty >= MOST_EMPTY:
            samples.check_parameters()
            raise ValueError(
                f"no parameter of the generator's side got a gradient ({listed(parameters)}): its loss does not depend "
                "on them at this step. Compute the compared sites from them, without detach()."
            )

    def _tell_of_lost(self) -> None:
        """Tell of parameters that were trained before: by a warning when they had no gradient for long, then an error.

        Raises:
            ValueError: They had none for too long.
        """
        if not self._lost:
            return
        self._num_lost += 1
        if self._num_lost != LONG and self._num_lost < TOO_LONG:
            return
        text = (
            f"parameters of the generator's side have had no gradient for {self._num_lost} steps, as they had before, "
            f"and are no longer trained: {listed(sorted(self._lost))}. Leave out what detaches them, or freeze them by "
            "requires_grad_(False)."
        )
        if self._num_lost >= TOO_LONG:
            raise ValueError(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)
