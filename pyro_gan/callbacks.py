"""What happens beside training: progress, and whatever a user wants done every so many steps."""

import sys
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from pyro_gan.checks import positive_integer

if TYPE_CHECKING:
    from pyro_gan.inference.base import AdversarialInference


class Callback:
    """Hooks into a run; subclass it and override what is needed.

    Example:
        >>> class Rates(Callback):
        ...     def on_step(self, inference):
        ...         if inference.num_steps_taken % 1000 == 0:
        ...             print(inference.optim.optimizer.param_groups[0]["lr"])
    """

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        """Before the first of the `num_steps` steps of a run."""

    def on_step(self, inference: "AdversarialInference") -> bool | None:
        """After each step, before its losses have been read; return `True` to end the run."""

    def on_read(self, inference: "AdversarialInference") -> None:
        """After losses have been read from the device into `inference.history`, at most some ten times a second."""

    def on_end(self, inference: "AdversarialInference") -> None:
        """After the last step, or when a run is cut off by an error or an interrupt."""


class ProgressBar(Callback):
    """A tqdm bar, in a terminal or a notebook, with both losses and the discriminator's mean probabilities."""

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.first = inference.num_steps_taken
        self.bar = tqdm(total=num_steps, unit="step", dynamic_ncols=True)

    def on_read(self, inference: "AdversarialInference") -> None:
        self.bar.set_postfix_str(describe(inference.history), refresh=False)
        self.bar.update(inference.num_steps_taken - self.first - self.bar.n)

    def on_end(self, inference: "AdversarialInference") -> None:
        self.bar.close()


class ProgressLines(Callback):
    """A plain line every so many steps, for logs.

    Args:
        every: The number of steps between lines; by default a tenth of the run.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = None if every is None else positive_integer("print_every", every)

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.num_steps = num_steps
        self.first = inference.num_steps_taken
        self.next = self.every or max(1, num_steps // 10)

    def on_read(self, inference: "AdversarialInference") -> None:
        done = inference.num_steps_taken - self.first
        spacing = self.every or max(1, self.num_steps // 10)
        while self.next <= done:
            position = self.next - done - 1
            print(f"step {self.next}/{self.num_steps}: {describe(inference.history, position)}", file=sys.stderr)
            self.next += spacing


def describe(history: dict[str, list[Any]], position: int = -1) -> str:
    """One entry of a history in words: both losses, and D's mean probability on real and on fake rows.

    Example:
        >>> describe({"step": [1], "generator_loss": [0.7], "discriminator_loss": [1.4],
        ...           "real_probability": [0.5], "fake_probability": [0.5]})
        'generator 0.700, discriminator 1.400, D(real) 0.50, D(fake) 0.50'
    """
    return (
        f"generator {history['generator_loss'][position]:.3f}, "
        f"discriminator {history['discriminator_loss'][position]:.3f}, "
        f"D(real) {history['real_probability'][position]:.2f}, D(fake) {history['fake_probability'][position]:.2f}"
    )


def progress_callbacks(progress: bool, print_every: int | None) -> list[Callback]:
    """A bar where somebody watches (a terminal, a notebook), lines where nobody does, nothing if not wanted."""
    lines = ProgressLines(print_every)
    if not progress:
        return []
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return [ProgressBar()] if in_notebook or sys.stderr.isatty() else [lines]
