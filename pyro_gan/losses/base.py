"""What a loss is, and how two plain functions become one.

A loss knows the logits of real and of fake rows, and nothing else: no model, no optimizer, no device. It returns
per-row values, and the caller takes their means.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_gan.checks import shown

LossFunction = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]]
"""A function of the logits of real rows and those of fake rows; it returns per-row losses."""


class Loss(ABC):
    """The losses of both players as functions of the discriminator's logits; subclass it to add one."""

    generator_reads_real = False
    """Whether :meth:`generator` needs the logits of real rows. Where it does not, they are never computed for it."""

    leaves_constant_open = False
    r"""Whether :meth:`log_ratio` is known only up to a constant c, the same for all rows. The inference then fixes it
    by :math:`\mathbb{E}_{x \sim q} \exp(\text{log ratio} + c) = 1`, which holds for densities."""

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        """The discriminator's losses.

        Args:
            real_logits: The logits of real rows, with shape :math:`(N,)`.
            fake_logits: The logits of fake rows, with shape :math:`(M,)`.

        Returns:
            Per-row losses, each with shape :math:`(N,)` or :math:`(M,)`, or one for each pair of rows; the
            discriminator minimizes the sum of their means.
        """

    @abstractmethod
    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        """The generator's losses.

        Args:
            real_logits: The logits of real rows, with shape :math:`(N,)`, or `None` unless
                :attr:`generator_reads_real`.
            fake_logits: The logits of fake rows, with shape :math:`(M,)`.

        Returns:
            Per-row losses; the generator minimizes the sum of their means.
        """

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        """The losses of a guide that moves the real rows, so that they are taken for fake; a plain GAN never asks.

        Args:
            real_logits: The logits of real rows, with shape :math:`(N,)`.

        Returns:
            Per-row losses; the guide minimizes the sum of their means. None at all where :meth:`generator` depends on
            the real rows' logits and so moves the guide, too.

        Raises:
            ValueError: The loss does not define it.
        """
        name = type(self).__name__
        raise ValueError(
            f"{name} does not say what a guide minimizes, but this inference moves the real rows by one. Define "
            f"guide(real_logits) in {name}: a tuple of per-row losses, or () where generator() moves the guide as well."
        )

    def log_ratio(self, logits: Tensor) -> Tensor:
        r"""The estimate of :math:`\log p(x) - \log q(x)`, in nats, that the logits of rows x imply.

        Args:
            logits: The logits, with shape :math:`(N,)`.

        Returns:
            The log density ratio of each row, with shape :math:`(N,)`. It is exact at the best discriminator, up to a
            constant where :attr:`leaves_constant_open`.

        Raises:
            ValueError: The loss implies none.
        """
        raise ValueError(
            f"{type(self).__name__} implies no log density ratio: its logits do not tell p(x)/q(x). Use a loss that "
            "implies one (Minimax, NonSaturating, LeastSquares, Relativistic, KL, ReverseKL, PearsonChiSquared, "
            "SquaredHellinger, JensenShannon), or a subclass of Loss that defines log_ratio(logits)."
        )

    @property
    def implies_log_ratio(self) -> bool:
        """Whether there is a :meth:`log_ratio`."""
        return type(self).log_ratio is not Loss.log_ratio


class CallableLoss(Loss):
    """A user's own pair of functions as a loss; it implies no log density ratio.

    Args:
        discriminator_loss: A function of the logits of real rows, with shape :math:`(N,)`, and of those of fake rows,
            with shape :math:`(M,)`. It returns a tensor of losses or a tuple of such; the discriminator minimizes the
            sum of their means.
        generator_loss: The same for the generator, which moves the fake rows, and for a guide, which moves the real
            ones.

    Example:
        >>> import torch
        >>> loss = CallableLoss(lambda real, fake: ((real - 1).abs(), fake.abs()), lambda real, fake: (fake - 1).abs())
        >>> loss.generator(torch.zeros(2), torch.tensor([0.5, 3.0]))
        (tensor([0.5000, 2.0000]),)
    """

    generator_reads_real = True

    def __init__(self, discriminator_loss: LossFunction, generator_loss: LossFunction) -> None:
        self.discriminator_loss = discriminator_loss
        self.generator_loss = generator_loss

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, ...]:
        return _as_rows("discriminator_loss", self.discriminator_loss(real_logits, fake_logits))

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> tuple[Tensor, ...]:
        if real_logits is None:
            raise ValueError("CallableLoss.generator needs real_logits, but they are None: generator_loss takes both.")
        return _as_rows("generator_loss", self.generator_loss(real_logits, fake_logits))

    def guide(self, real_logits: Tensor) -> tuple[Tensor, ...]:
        return ()


def as_loss(loss: Any) -> Loss:
    """What a user passed as `loss=` as a :class:`Loss`.

    Args:
        loss: A :class:`Loss`, or a pair of callables (discriminator_loss, generator_loss), as in :class:`CallableLoss`.

    Returns:
        The loss itself, or the pair as a :class:`CallableLoss`.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss must be a pyro_gan.losses.Loss, but is the class. Call it: {loss.__name__}().")
    if isinstance(loss, tuple | list) and len(loss) == 2 and all(callable(function) for function in loss):
        return CallableLoss(*loss)
    raise TypeError(
        f"loss must be a pyro_gan.losses.Loss, such as NonSaturating(), but is {shown(loss)} ({type(loss).__name__}). "
        "Pass one, or a pair (discriminator_loss, generator_loss) of functions of (real_logits, fake_logits)."
    )


def _as_rows(name: str, losses: Any) -> tuple[Tensor, ...]:
    """What a user's loss function returned, as a tuple of tensors."""
    rows = losses if isinstance(losses, tuple) else (losses,)
    if not rows or not all(isinstance(tensor, Tensor) for tensor in rows):
        found = f"a tuple of {[type(entry).__name__ for entry in rows]}" if isinstance(losses, tuple) else repr(losses)
        raise TypeError(
            f"{name} must return a tensor of per-row losses or a tuple of such, but returned {found}. "
            "Return what is computed from the logits, without .item() or float()."
        )
    return rows
