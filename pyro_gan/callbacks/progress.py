"""Telling how far a run is: a bar where somebody watches, plain lines where nobody does."""

import math
import sys
import warnings
from typing import Any

from tqdm import TqdmWarning

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.checks import positive_integer
from pyro_gan.training.clock import Clock

with warnings.catch_warnings():  # that a notebook has no widgets: lines serve there as well
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm as tqdm


class ProgressBar(Callback):
    """A tqdm bar, in a terminal or a notebook, with both losses and the discriminator's mean probabilities."""

    is_side_channel = True
    ends_runs = False

    def on_start(self, inference: Inference, num_steps: int) -> None:
        total, done = inference.clock.num_steps, inference.clock.done
        self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def on_read(self, inference: Inference) -> None:
        if inference.clock.num_steps < self.bar.total:
            self.bar.write(ends_early(inference.clock), file=sys.stderr)
            self.bar.total = inference.clock.num_steps
        self.bar.set_postfix_str(describe(inference.history), refresh=False)
        self.bar.update(inference.clock.done - self.bar.n)

    def on_end(self, inference: Inference) -> None:
        self.bar.close()


class ProgressLines(Callback):
    """A plain line every so many steps, for logs.

    Args:
        every: The number of steps between lines; by default a tenth of the run.
    """

    is_side_channel = True
    ends_runs = False

    def __init__(self, every: int | None = None) -> None:
        self.every = None if every is None else positive_integer("print_every", every)

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.num_steps, self.spacing = inference.clock.num_steps, self.every or max(1, num_steps // 10)
        if inference.clock.done:
            print(f"going on from step {inference.clock.done}/{self.num_steps}", file=sys.stderr)
        self.next = min((inference.clock.done // self.spacing + 1) * self.spacing, self.num_steps)

    def on_read(self, inference: Inference) -> None:
        done = inference.clock.done
        if inference.clock.num_steps < self.num_steps:
            print(ends_early(inference.clock), file=sys.stderr)
            self.num_steps = inference.clock.num_steps
            self.next = min(self.next, self.num_steps)
        while self.next <= done:
            position = self.next - done - 1
            print(f"step {self.next}/{self.num_steps}: {describe(inference.history, position)}", file=sys.stderr)
            is_last = self.next == self.num_steps
            self.next = self.num_steps + 1 if is_last else min(self.next + self.spacing, self.num_steps)


class CompilationTime(Callback):
    """A line that tells how long compiling took, whenever something has been compiled."""

    is_side_channel = True
    ends_runs = False

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.told = inference.seconds_to_compile()

    def on_step(self, inference: Inference) -> None:
        seconds = inference.seconds_to_compile()
        if seconds > self.told:
            text = f"compiled in {seconds - self.told:.1f} s; torch keeps a part of it for later processes"
            tqdm.write(text, file=sys.stderr)
            self.told = seconds


def ends_early(clock: Clock) -> str:
    """That a run takes fewer steps than it was asked for, and why.

    Example:
        >>> clock = Clock()
        >>> with clock.running(1000):
        ...     clock.shorten(400, "since it has settled")
        ...     print(ends_early(clock))
        the run ends at step 400 instead of 1000, since it has settled
    """
    return f"the run ends at step {clock.num_steps} instead of {clock.asked}, {clock.reason}"


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


def progress_callbacks(progress: bool, print_every: int | None, compiles: bool = False) -> list[Callback]:
    """What a run tells of itself.

    Args:
        progress: Whether to show progress: a bar in a terminal or a notebook, where somebody watches, else lines.
        print_every: The number of steps between lines.
        compiles: Whether to tell how long compiling takes, too.
    """
    lines = ProgressLines(print_every)
    if not progress:
        return []
    shown = ProgressBar() if has_watchers() else lines
    return [shown, CompilationTime()] if compiles else [shown]


def has_watchers() -> bool:
    """Whether somebody watches a bar: in a notebook, or a terminal."""
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return in_notebook or sys.stderr.isatty()
