"""Writing the history elsewhere as the run goes on."""

import csv
import math
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.checks import positive_integer
from pyro_gan.players.first_look import kept_random_state


class WriteCSV(Callback):
    """Writes the history to a CSV file as the run goes on, a line a step.

    Args:
        path: The file; it is written anew when a run starts or a new name is noted.
    """

    is_side_channel = True
    ends_runs = False

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.names: list[str] = []

    def on_read(self, inference: Inference) -> None:
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

    is_side_channel = True
    ends_runs = False

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

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.writer = self.make_writer()
        self.written = len(inference.history["step"])

    def on_step(self, inference: Inference) -> None:
        step = inference.clock.step
        if step % self.every:
            return
        for role, player in inference.players().items():
            for name, parameter in player.parameters.items():
                self.writer.add_histogram(f"{role}/{name}", parameter.detach(), step)
        if self.draw is not None:
            with kept_random_state(inference.device):
                figure = self.draw(inference.sample(self.num_samples)).figure
            self.writer.add_figure("samples", figure, step)  # which closes it

    def on_read(self, inference: Inference) -> None:
        steps = inference.history["step"]
        for name, values in inference.history.items():
            for position in range(self.written, len(steps)):
                if name != "step" and not math.isnan(values[position]):
                    self.writer.add_scalar(name, values[position], steps[position])
        self.written = len(steps)

    def on_end(self, inference: Inference) -> None:
        self.writer.close()
