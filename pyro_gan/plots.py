"""Pictures on matplotlib axes, which each function takes or makes, and returns."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    rows: Any, *, num_columns: int | None = None, image_shape: tuple[int, int] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw images in a grid, ink on paper.

    Args:
        rows: One grey image a row, with shape `(num_rows, height * width)` or `(num_rows, height, width)`, from 0
            (paper) to 1 (ink).
        num_columns: The grid's columns; by default as many as rows.
        image_shape: Height and width in pixels, where the images are flat and not square.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: The rows are no images of the given or of a square shape.
    """
    images = torch.as_tensor(rows).detach().cpu().float()
    shape = image_shape or (tuple(images.shape[1:]) if images.dim() == 3 else (math.isqrt(images[0].numel()),) * 2)
    if images.dim() not in (2, 3) or images[0].numel() != math.prod(shape):
        raise ValueError(
            f"rows of shape {tuple(images.shape)} are no images of {shape[0]} by {shape[1]} pixels. "
            "Pass image_shape=(height, width)."
        )
    columns = num_columns or math.ceil(math.sqrt(len(images)))
    lines = math.ceil(len(images) / columns)
    tiles = torch.zeros(lines * columns, shape[0] + 1, shape[1] + 1)  # a pixel of paper between neighbours
    tiles[: len(images), :-1, :-1] = images.reshape(len(images), *shape)
    picture = (
        tiles.reshape(lines, columns, *tiles.shape[1:]).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)[:-1, :-1].numpy()
    )
    ax = _axes(ax)
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    return ax


def plot_history(history: dict[str, list[Any]], *, smoothing: int | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw both players' losses, and D's mean probability on real and on fake rows, over the steps.

    Args:
        history: `inference.history`.
        smoothing: The number of steps of the moving mean that is drawn; by default a fiftieth of all.
        ax: The axes to draw the losses on, whose right-hand side shows the probabilities; by default new ones.

    Returns:
        The axes of the losses.

    Raises:
        ValueError: The history is empty.
    """
    steps = np.asarray(history["step"])
    if not len(steps):
        raise ValueError("the history is empty. Call run first.")
    width = min(len(steps), smoothing or max(1, len(steps) // 50))
    ax = _axes(ax)
    right = ax.twinx()
    for axes, name, label, style in (
        (ax, "generator_loss", "generator's loss", "C0-"),
        (ax, "discriminator_loss", "discriminator's loss", "C1-"),
        (right, "real_probability", "D(real)", "C2--"),
        (right, "fake_probability", "D(fake)", "C3--"),
    ):
        axes.plot(steps[width - 1 :], _moving_mean(np.asarray(history[name]), width), style, label=label, linewidth=1)
    ax.set(xlabel="step", ylabel="loss (nats)")
    right.set(ylabel="mean probability of real", ylim=(0, 1))
    lines = [*ax.get_lines(), *right.get_lines()]
    ax.legend(lines, [str(line.get_label()) for line in lines], loc="upper center", ncol=2, fontsize="small")
    return ax


def _moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]
