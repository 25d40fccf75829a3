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


class Reach:
    """What the last steps' gradients have reached."""

    def __init__(self) -> None:
        self._missed: frozenset[str] | None = None
        """The parameters that got no gradient at the last step."""
        self._reached: set[str] = set()
        self._lost: frozenset[str] = frozenset()
        self._num_lost = 0

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
            ValueError: No parameter got one, or the draws depend on others than those that are registered.
        """
        missed = frozenset([name for name, value in zip(parameters, values, strict=True) if value is None])
        if parameters and missed == self._missed:  # as at the last step
            self._warn_of_lost()
            return
        self._reached |= parameters.keys() - missed
        self._missed, self._lost, self._num_lost = missed, missed & self._reached, 0
        if (parameters and not missed) or not trainable():  # all are reached, or frozen
            return
        samples.check_parameters()
        if len(missed) == len(parameters):
            raise ValueError(
                f"no parameter of the generator's side got a gradient ({listed(parameters)}): its loss does not depend "
                "on them at this step. Compute the compared sites from them, without detach()."
            )

    def _warn_of_lost(self) -> None:
        """Warn, once for each, of parameters that were trained before but have had no gradient for long."""
        if not self._lost:
            return
        self._num_lost += 1
        if self._num_lost == LONG:
            self._reached -= self._lost
            warnings.warn(
                f"parameters of the generator's side have had no gradient for {LONG} steps, as they had before, and "
                f"are no longer trained: {listed(sorted(self._lost))}. Leave out what detaches them, or freeze them by "
                "requires_grad_(False).",
                RuntimeWarning,
                stacklevel=2,
            )
