"""What a penalty is, what it sees of an update, and how a user's choice becomes a tuple of such."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from pyro_gan.checks import is_real_number, shown


@runtime_checkable
class InCoordinates(Protocol):
    """A discriminator that may see rows through coordinates of its own, in which features have no unit."""

    has_coordinates: bool
    """Whether it does."""

    def coordinates(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """The coordinates of rows by site, each with shape `(num_rows, *shape)`, without a graph."""

    def judge(self, coordinates: dict[str, Tensor]) -> Tensor:
        """The logits of rows given by their coordinates, with shape `(num_rows,)`."""


class Judgement(NamedTuple):
    """The two samples of an update of the discriminator, and what it says about them.

    The rows of floating point are leaves that require a gradient. So
    `torch.autograd.grad(judgement.real_logits.sum(), judgement.real["x"], create_graph=True)` gives the gradient of the
    logit at each row without another run of the discriminator.

    Whatever the discriminator's loss should have added to it can be written as a function of a judgement. It returns
    per-row values, whose mean is taken, or a 0-dimensional tensor.

    Example:
        A drift term, which keeps the logits of real rows near 0 (Karras et al. 2018, appendix A.1):

        >>> def drift(judgement):
        ...     return 1e-3 * judgement.real_logits.square()

        An L2 term on the weights of a network, and the mean slope at the fake rows:

        >>> import torch
        >>> network = torch.nn.Linear(2, 1)
        >>> def ridge(judgement):
        ...     return 1e-4 * network.weight.square().sum()
        >>> def slope(judgement):
        ...     logits, rows = judgement.fake_logits, judgement.fake["x"]
        ...     (gradients,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
        ...     return gradients.abs().mean(1)
    """

    discriminator: Callable[[dict[str, Tensor]], Tensor]
    """From the rows of each site, with shape `(num_rows, *event_shape)`, to the logits, with shape `(num_rows,)`."""

    real: dict[str, Tensor]
    """The N real rows by site, each with shape `(N, *event_shape)`."""

    fake: dict[str, Tensor]
    """The M fake rows by site, each with shape `(M, *event_shape)`."""

    real_logits: Tensor
    """The logits of the real rows, with shape `(N,)`."""

    fake_logits: Tensor
    """The logits of the fake rows, with shape `(M,)`."""

    given: Sequence[str] = ()
    """The names among the rows of what both samples are given alike, such as conditions: penalties leave it out."""


PenaltyFunction = Callable[[Judgement], Tensor]
"""What a penalty is: per-row values, or a 0-dimensional tensor, as a function of a judgement."""


class Penalty(ABC):
    """A penalty with a look before the first step and a hand in what follows an update; subclass it to add one.

    A penalty that needs neither can be a plain function.
    """

    reads_gradients = True
    """Whether the gradient with respect to the judgement's own rows is read. Where no penalty reads it, they do not
    require one."""

    every = 1
    """The penalty is called at each update whose number is a multiple of it, and counts as many times."""

    @abstractmethod
    def __call__(self, judgement: Judgement) -> Tensor:
        """The penalty, with shape `(num_rows,)` or 0-dimensional; its mean is added to the discriminator's loss.

        Args:
            judgement: Both samples and their logits.
        """

    def after_update(self, parameters: list[Tensor]) -> None:  # noqa: B027 - most penalties have nothing to do here
        """Called after each update of the discriminator with its parameters, which may be changed in place."""

    def set_progress(self, progress: float) -> None:  # noqa: B027
        """Called in each step of a run with the part of it that is done, from 0 to 1, and with 0 when it has ended."""

    def check(self, real: dict[str, Tensor]) -> None:  # noqa: B027
        """Called once before the first step, to refuse rows that the penalty can not work with.

        Args:
            real: The real rows of the first minibatch by site, each with shape `(N, *event_shape)`.

        Raises:
            ValueError: They do not fit; the message has the site and the mend.
        """


def as_penalties(penalty: PenaltyFunction | Sequence[PenaltyFunction] | None) -> tuple[PenaltyFunction, ...]:
    """The penalties that a user passed, as a tuple.

    Args:
        penalty: One callable from a :class:`Judgement` to a tensor, a list or tuple of such, or `None` for none.

    Raises:
        TypeError: It is anything else, such as a number or a class.
    """
    if penalty is None:
        return ()
    penalties = tuple(penalty) if isinstance(penalty, list | tuple) else (penalty,)
    for each in penalties:
        _check_penalty(each)
    return penalties


def _check_penalty(penalty: Any) -> None:
    if isinstance(penalty, type):
        name = penalty.__name__
        raise TypeError(f"penalty={name} is a class, but an object of it is expected. Write penalty={name}().")
    if is_real_number(penalty):
        raise TypeError(
            f"penalty={penalty!r} is a number, but does not say of what. Name it: penalty=GradientPenalty({penalty!r}) "
            f"or penalty=[R1({penalty!r}), R2({penalty!r})]."
        )
    if not callable(penalty):
        raise TypeError(
            "penalty must be a callable from a Judgement to a tensor, such as R1(10.0) or GradientPenalty(10.0), or a "
            f"list of such, but is or holds {shown(penalty)} ({type(penalty).__name__})."
        )
