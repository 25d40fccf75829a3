"""Samples over training, as an animation."""

import math
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.checks import positive_integer
from pyro_gan.plots.arrays import as_array, as_points, common_box
from pyro_gan.plots.densities import draw_points
from pyro_gan.plots.tiles import ImageShape, as_images, draw_tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def animate(
    frames: Iterable[Any],
    path: str | PathLike[str],
    *,
    steps: Sequence[int] | None = None,
    data: Any = None,
    num_columns: int | None = None,
    image_shape: ImageShape | None = None,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    frames_per_second: int = 5,
) -> Path:
    """Write samples over the course of training as an animated GIF, which starts again at its end.

    Args:
        frames: The samples at one time after another: images, as in :func:`plot_images`, or points in the plane, with
            shape `(num_samples, 2)`. Pictures that are equal and follow each other become one that stands longer.
        path: The file to write, which ends in `.gif`.
        steps: The step of each frame, which is written above it; by default nothing is.
        data: Points with shape `(num_rows, 2)` that are drawn in grey behind the frames' points; by default none.
        num_columns: The columns of the grid of images; by default as many as rows.
        image_shape: As of :func:`plot_images`.
        limits: The least and the greatest value along each axis, `((left, right), (bottom, top))`, of points; by
            default all are seen.
        frames_per_second: How fast the frames follow each other.

    Returns:
        The path.

    Raises:
        ValueError: There are no frames, one is empty, not finite or shaped unlike the first, they are neither images
            nor points; there are not as many steps as frames; `data` or `limits` come with images; `path` does not end
            in `.gif`; or `frames_per_second` is not positive.
        FileNotFoundError: The folder of `path` does not exist.
    """
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif, but is {str(path)!r}.")
    rows = _frames(frames, steps)
    if image_shape is None and rows[0].ndim == 2 and rows[0].shape[1] == 2:
        draw = _points_frame(rows, data, limits)
    else:
        rows, draw = _images_frame(rows, data, limits, num_columns, image_shape)
    figure = Figure(figsize=(4, 4))
    ax = figure.add_axes((0.14, 0.12, 0.82, 0.8))
    writer = PillowWriter(fps=positive_integer("frames_per_second", frames_per_second))
    with writer.saving(figure, str(path), dpi=100):
        for number, frame in enumerate(rows):
            ax.clear()
            draw(ax, frame)
            if steps is not None:
                ax.set_title(f"step {steps[number]:,}")
            writer.grab_frame()
    return path


def _frames(frames: Iterable[Any], steps: Sequence[int] | None) -> list[np.ndarray]:
    """The frames' rows, all of one event shape."""
    rows = [as_array(f"frames[{number}]", frame) for number, frame in enumerate(frames)]
    if not rows:
        raise ValueError("frames must hold at least one array of samples, but are empty.")
    for number, frame in enumerate(rows):
        if frame.shape[1:] != rows[0].shape[1:]:
            raise ValueError(
                f"frames[{number}] has shape {frame.shape} and frames[0] {rows[0].shape}: expected like event shapes."
            )
    if steps is not None and len(steps) != len(rows):
        raise ValueError(f"expected a step for each frame, but there are {len(rows)} frames and {len(steps)} steps.")
    return rows


def _points_frame(rows: list[np.ndarray], data: Any, limits: Any) -> Callable[["Axes", np.ndarray], None]:
    """A function that draws a frame of points within limits that all frames share."""
    behind = None if data is None else as_points("data", data)
    box = common_box(limits, *rows, *([] if behind is None else [behind]))

    def draw(ax: "Axes", frame: np.ndarray) -> None:
        if behind is not None:
            ax.plot(*behind.T, "o", color="lightgrey", markersize=2)
        draw_points(ax, frame, box)

    return draw


def _images_frame(
    rows: list[np.ndarray], data: Any, limits: Any, num_columns: int | None, image_shape: ImageShape | None
) -> tuple[list[np.ndarray], Callable[["Axes", np.ndarray], None]]:
    """The frames' images on one scale, and a function that draws a frame of them."""
    if data is not None or limits is not None:
        raise ValueError(f"data and limits are for points of shape (num_samples, 2), but frames have {rows[0].shape}.")
    if num_columns is not None:
        positive_integer("num_columns", num_columns)
    images = [as_images(f"frames[{number}]", frame, image_shape, *rows) for number, frame in enumerate(rows)]

    def draw(ax: "Axes", frame: np.ndarray) -> None:
        draw_tiles(ax, frame, num_columns or math.ceil(math.sqrt(len(frame)))).set_axis_off()

    return images, draw
