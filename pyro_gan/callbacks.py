"""What happens beside training: progress, and whatever a user wants done every so many steps."""

import csv
import math
import sys
import warnings
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import TqdmWarning

from pyro_gan.averaging import Mean
from pyro_gan.checks import is_real_number, positive_integer
from pyro_gan.dry_run import kept_random_state
from pyro_gan.penalties import Penalty
from pyro_gan.plots import plot_images

with warnings.catch_warnings():  # that a notebook has no widgets: lines serve there as well
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

if TYPE_CHECKING:
    from pyro_gan.inference.base import AdversarialInference
    from pyro_gan.player import Player


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


class FallingRates(Callback):
    """Lets the learning rates of default optimizers, and weights of penalties that have a final one, fall along a run.

    Optimizers that the user chose keep their rates. A further run, or steps one by one, start at the full rates.
    """

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.first, self.num_steps = inference.num_steps_taken, num_steps

    def on_step(self, inference: "AdversarialInference") -> None:
        self._set(inference, (inference.num_steps_taken - self.first) / self.num_steps)

    def on_end(self, inference: "AdversarialInference") -> None:
        self._set(inference, 0.0)

    def _set(self, inference: "AdversarialInference", progress: float) -> None:
        for optimizer in inference.optim, inference.optim_d:
            optimizer.set_progress(progress)
        for penalty in inference.penalties:
            if isinstance(penalty, Penalty):
                penalty.set_progress(progress)


class FinalMean(Callback):
    """Ends a run at the mean of the values that parameters had in its last part.

    The players circle around the solution, and falling rates alone leave them where they happen to be. A run that ends
    early keeps its last values, and buffers, such as batch statistics, keep theirs.

    Args:
        part: The part of the run, above 0 and at most 1.
        defaults_only: Whether parameters of optimizers that the user chose stay as they are.

    Raises:
        ValueError: `part` is out of range.
    """

    def __init__(self, part: float = 0.25, *, defaults_only: bool = False) -> None:
        if not is_real_number(part) or not 0 < part <= 1:
            raise ValueError(f"part must be a number above 0 and at most 1, but is {part!r}.")
        self.part: float = float(part)
        self.defaults_only: bool = defaults_only

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.first, self.num_steps = inference.num_steps_taken, num_steps
        optimizers = (inference.optim, inference.optim_d)
        self.means = {each: Mean() for each in optimizers if each.is_default or not self.defaults_only}

    def on_step(self, inference: "AdversarialInference") -> None:
        num_left = self.num_steps - (inference.num_steps_taken - self.first)
        if num_left < self.part * self.num_steps:
            for optimizer, mean in self.means.items():
                mean.update(optimizer.parameters)
        if num_left == 0:
            for optimizer, mean in self.means.items():
                mean.assign(optimizer.parameters)


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
        self.next = min(self.every or max(1, num_steps // 10), num_steps)

    def on_read(self, inference: "AdversarialInference") -> None:
        done = inference.num_steps_taken - self.first
        spacing = self.every or max(1, self.num_steps // 10)
        while self.next <= done:
            position = self.next - done - 1
            print(f"step {self.next}/{self.num_steps}: {describe(inference.history, position)}", file=sys.stderr)
            is_last = self.next == self.num_steps
            self.next = self.num_steps + 1 if is_last else min(self.next + spacing, self.num_steps)


class Evaluate(Callback):
    """Notes a criticism of fresh samples in the history, every so many steps: the losses do not tell how good a fit is.

    The run goes on as it would have without: random states and batch statistics are put back.

    Args:
        criticism: Called with the samples and the held-out rows; it returns a number or a named tuple of numbers, as
            those of :mod:`pyro_gan.criticism` do.
        rows: Held-out rows, with shape `(num_rows, *event_shape)`.
        every: The number of steps between evaluations.
        num_samples: The number of samples drawn for each.
        name: The history's name for it, by default the function's; a named tuple's fields are appended to it.

    Example:
        >>> import torch
        >>> Evaluate(lambda samples, rows: (samples.mean() - rows.mean()).abs(), torch.zeros(9), name="error").name
        'error'
    """

    def __init__(
        self,
        criticism: Callable[[Any, Any], Any],
        rows: Any,
        *,
        every: int = 1000,
        num_samples: int = 1000,
        name: str | None = None,
    ) -> None:
        if not callable(criticism):
            raise TypeError(f"criticism must be a callable on samples and rows, but is {criticism!r}.")
        self.criticism = criticism
        self.rows = rows
        self.every = positive_integer("every", every)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.name = name or getattr(getattr(criticism, "func", criticism), "__name__", type(criticism).__name__)

    def on_step(self, inference: "AdversarialInference") -> None:
        if inference.num_steps_taken % self.every == 0:
            with kept_random_state(inference.device):
                result = self.criticism(inference.sample(self.num_samples), self.rows)
            fields = result._asdict() if hasattr(result, "_asdict") else {"": result}
            inference.note(**{"_".join(filter(None, (self.name, field))): value for field, value in fields.items()})


class SaveSamples(Callback):
    """Saves a picture of fresh samples every so many steps, named after the step.

    Args:
        folder: Where to; it is made if missing.
        every: The number of steps between pictures.
        num_samples: The number of samples drawn for each.
        draw: Draws the samples on matplotlib axes, which it makes and returns; by default as images in a grid.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        every: int = 1000,
        num_samples: int = 16,
        draw: Callable[[Any], Any] = plot_images,
    ) -> None:
        if not callable(draw):
            raise TypeError(f"draw must be a callable from samples to matplotlib axes, but is {draw!r}.")
        self.folder = Path(folder)
        self.every = positive_integer("every", every)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.draw = draw

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_step(self, inference: "AdversarialInference") -> None:
        if inference.num_steps_taken % self.every == 0:
            with kept_random_state(inference.device):
                ax = self.draw(inference.sample(self.num_samples))
            ax.set_title(f"step {inference.num_steps_taken}")
            ax.figure.savefig(self.folder / f"{inference.num_steps_taken:06d}.png", dpi=120, bbox_inches="tight")
            _close(ax.figure)


class WriteCSV(Callback):
    """Writes the history to a CSV file as the run goes on, a line a step.

    Args:
        path: The file; it is written anew when a run starts or a new name is noted.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.names: list[str] = []

    def on_read(self, inference: "AdversarialInference") -> None:
        history = inference.history
        is_new = self.names != list(history)
        if is_new:
            self.names, self.written = list(history), 0
        with self.path.open("w" if is_new else "a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(self.names)
            writer.writerows(zip(*(values[self.written :] for values in history.values()), strict=True))
        self.written = len(history["step"])


class TensorBoard(Callback):
    """Logs scalars, and every so many steps histograms of the parameters and a picture of samples, for TensorBoard.

    Args:
        logdir: The folder that TensorBoard reads.
        every: The number of steps between histograms, and between pictures.
        num_samples: The number of samples in a picture.
        draw: Draws samples on matplotlib axes and returns them, such as :func:`pyro_gan.plots.plot_images`; by default
            no picture is drawn.

    Raises:
        ImportError: The package tensorboard is not installed.
    """

    def __init__(
        self,
        logdir: str | PathLike[str],
        *,
        every: int = 1000,
        num_samples: int = 16,
        draw: Callable[[Any], Any] | None = None,
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard(logdir) needs tensorboard. Install pyro_gan[tensorboard].") from None
        self.make_writer = partial(SummaryWriter, str(logdir))
        self.every = positive_integer("every", every)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.draw = draw

    def on_start(self, inference: "AdversarialInference", num_steps: int) -> None:
        self.writer = self.make_writer()
        self.written = len(inference.history["step"])

    def on_step(self, inference: "AdversarialInference") -> None:
        step = inference.num_steps_taken
        if step % self.every:
            return
        for role, player in inference.players().items():
            for name, parameter in player.parameters.items():
                self.writer.add_histogram(f"{role}/{name}", parameter.detach(), step)
        if self.draw is not None:
            with kept_random_state(inference.device):
                figure = self.draw(inference.sample(self.num_samples)).figure
            self.writer.add_figure("samples", figure, step)  # which closes it

    def on_read(self, inference: "AdversarialInference") -> None:
        steps = inference.history["step"]
        for name, values in inference.history.items():
            for position in range(self.written, len(steps)):
                if name != "step" and not math.isnan(values[position]):
                    self.writer.add_scalar(name, values[position], steps[position])
        self.written = len(steps)

    def on_end(self, inference: "AdversarialInference") -> None:
        self.writer.close()


class StopWhen(Callback):
    """Ends the run when a condition holds.

    Args:
        condition: Called with the inference after each step; `True` ends the run. Numbers noted at the step are in
            `inference.notes.get(inference.num_steps_taken, {})`.

    Example:
        >>> import torch
        >>> evaluate = Evaluate(lambda samples, rows: abs(samples.mean() - rows.mean()), torch.zeros(9), name="error")
        >>> best = KeepBest("error", smaller_is_better=True)
        >>> patience = StopWhen(lambda inference: inference.num_steps_taken - best.step >= 5000)
        >>> callbacks = [evaluate, best, patience]                       # in this order
    """

    def __init__(self, condition: Callable[["AdversarialInference"], bool]) -> None:
        if not callable(condition):
            raise TypeError(f"condition must be a callable on the inference, but is {condition!r}.")
        self.condition = condition

    def on_step(self, inference: "AdversarialInference") -> bool:
        return bool(self.condition(inference))


class KeepBest(Callback):
    """Leaves the model, and its guide, at the end of a run as they were when a noted number was best.

    Put it behind the :class:`Evaluate` that notes the number. The losses can not serve: they tell how the players stand
    to each other, not how good the model is.

    Args:
        name: The number's name in the history.
        smaller_is_better: Whether the least is the best.

    Attributes:
        value: The best number so far, or `None`.
        step: The step at which it was noted, 0 before there is one.
    """

    def __init__(self, name: str, *, smaller_is_better: bool = False) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a noted number, but is {name!r}.")
        if name in ("generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability"):
            raise ValueError(
                f"name={name!r} does not tell how good the model is. Name a criticism that Evaluate notes."
            )
        self.name = name
        self.sign = -1 if smaller_is_better else 1
        self.value: float | None = None
        self.step = 0

    def on_step(self, inference: "AdversarialInference") -> None:
        value = inference.notes.get(inference.num_steps_taken, {}).get(self.name)
        if (
            value is None
            or math.isnan(value)
            or (self.value is not None and self.sign * value <= self.sign * self.value)
        ):
            return
        self.value, self.step = value, inference.num_steps_taken
        self.states = {name: player.state_dict() for name, player in _generator_side(inference).items()}

    def on_end(self, inference: "AdversarialInference") -> None:
        if self.value is not None:
            for name, player in _generator_side(inference).items():
                player.load_state_dict(self.states[name])


def _generator_side(inference: "AdversarialInference") -> "dict[str, Player]":
    return {name: player for name, player in inference.players().items() if name != "discriminator"}


def _close(figure: Any) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)


def describe(history: dict[str, list[Any]], position: int = -1) -> str:
    """One entry of a history in words: both losses, and D's mean probability on real and on fake rows where it has one.

    Example:
        >>> describe({"step": [1], "generator_loss": [0.7], "discriminator_loss": [1.4],
        ...           "real_probability": [0.5], "fake_probability": [0.5]})
        'generator 0.700, discriminator 1.400, D(real) 0.50, D(fake) 0.50'
    """
    losses = (
        f"generator {history['generator_loss'][position]:.3f}, "
        f"discriminator {history['discriminator_loss'][position]:.3f}"
    )
    real, fake = history["real_probability"][position], history["fake_probability"][position]
    return losses if math.isnan(real) else f"{losses}, D(real) {real:.2f}, D(fake) {fake:.2f}"


def progress_callbacks(progress: bool, print_every: int | None) -> list[Callback]:
    """A bar where somebody watches (a terminal, a notebook), lines where nobody does, nothing if not wanted."""
    lines = ProgressLines(print_every)
    if not progress:
        return []
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return [ProgressBar()] if in_notebook or sys.stderr.isatty() else [lines]
