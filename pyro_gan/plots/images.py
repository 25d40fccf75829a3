"""Images in a grid, and beside the training rows that they are nearest to."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.checks import positive_integer
from pyro_gan.plots.arrays import as_array, as_vector
from pyro_gan.plots.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    rows: Any, *, num_columns: int | None = None, image_shape: tuple[int, int] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw images in a grid, ink on paper.

    Args:
        rows: One grey image a row, with shape `(num_rows, height * width)` or `(num_rows, height, width)`, from 0
            (paper) to 1 (ink); what lies beyond is drawn as paper or ink.
        num_columns: The grid's columns; by default as many as rows.
        image_shape: Height and width in pixels, where the images are flat and not square.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: The rows are no images of the given or of a square shape, are empty, not finite, or bytes.
    """
    images = as_images("rows", rows, image_shape)
    columns = math.ceil(math.sqrt(len(images))) if num_columns is None else positive_integer("num_columns", num_columns)
    ax = _draw_tiles(ax, images, columns)
    ax.set_axis_off()
    return ax


def plot_neighbours(
    samples: Any,
    neighbours: Any,
    distances: Any = None,
    *,
    image_shape: tuple[int, int] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw generated images, each above the training images that are nearest to it, so that copies can be seen.

    What the picture can not tell: the nearest image in pixels need not be the most similar one. A copy that is shifted
    by a pixel may lie farther from its original than from another image.

    Args:
        samples: One generated image a row, as in :func:`plot_images`; about twenty can be seen well.
        neighbours: The nearest training image of each sample, with the samples' shape; or the nearest few, the nearest
            first, with shape `(num_samples, num_neighbours, *image)`.
        distances: The distance of each sample from its nearest training images, with shape `(num_samples,)` or
            `(num_samples, num_neighbours)`; the first is written below its column. By default nothing is.
        image_shape: Height and width in pixels, where the images are flat and not square.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: Shapes do not fit each other or are no images, or values are not finite or bytes.

    References:
        Theis, van den Oord and Bethge (2016), "A note on the evaluation of generative models", on samples and nearest
        neighbours.
    """
    generated, nearest = as_array("samples", samples), as_array("neighbours", neighbours)
    images, shape = as_images("samples", generated, image_shape), generated.shape
    single = nearest.shape == shape
    if not single and (nearest.shape[:1] + nearest.shape[2:] != shape or nearest.ndim != len(shape) + 1):
        raise ValueError(
            f"neighbours have shape {nearest.shape}, but samples {shape}: expected the samples' shape, "
            "or (num_samples, num_neighbours, *image)."
        )
    num_neighbours = 1 if single else nearest.shape[1]
    nearest = as_images("neighbours", nearest.reshape(-1, *shape[1:]), image_shape)
    columns = np.concatenate([images[:, None], nearest.reshape(len(images), num_neighbours, *images.shape[1:])], 1)
    if distances is not None:
        distances = as_array("distances", distances)
        distances = as_vector("distances", distances[:, 0] if distances.ndim == 2 else distances, len(images))
    return _draw_columns(ax, columns, distances)


def as_images(name: str, rows: Any, image_shape: tuple[int, int] | None) -> np.ndarray:
    """Images with shape `(num_images, height, width)`.

    Args:
        name: What messages call them.
        rows: One image a row, flat or not.
        image_shape: Height and width in pixels, where they are flat and not square.
    """
    images = as_array(name, rows)
    size = math.prod(images.shape[1:])
    shape = image_shape or (images.shape[1:] if images.ndim == 3 else (math.isqrt(size),) * 2)
    if images.ndim not in (2, 3) or size != math.prod(shape):
        raise ValueError(
            f"{name} of shape {images.shape} are no images of {shape[0]} by {shape[1]} pixels. "
            "Pass image_shape=(height, width)."
        )
    if images.max() > 1 and not (images % 1).any():
        raise ValueError(f"{name} are whole numbers up to {images.max():g}, but expected 0 to 1. Scale them first.")
    return images.reshape(len(images), *shape)


def _tiles(images: np.ndarray, num_columns: int) -> np.ndarray:
    """One picture of all images, row by row, with a pixel of paper between neighbours."""
    num_images, height, width = images.shape
    num_lines = math.ceil(num_images / num_columns)
    tiles = np.zeros((num_lines * num_columns, height + 1, width + 1))
    tiles[:num_images, :-1, :-1] = images
    lines = tiles.reshape(num_lines, num_columns, height + 1, width + 1).swapaxes(1, 2)
    return lines.reshape(num_lines * (height + 1), num_columns * (width + 1))[:-1, :-1]


def _draw_tiles(ax: "Axes | None", images: np.ndarray, num_columns: int) -> "Axes":
    """Draw images, by default on axes of the picture's own proportions."""
    picture = _tiles(images, num_columns)
    height, width = picture.shape
    ax = axes_or_new(ax, size=(6.4, min(max(6.4 * height / width, 1.0), 12.8)))
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    return ax


def _draw_columns(ax: "Axes | None", columns: np.ndarray, distances: np.ndarray | None) -> "Axes":
    """Draw images with shape `(num_columns, num_lines, height, width)`, a red line below the first line of them."""
    num_columns, num_lines, height, width = columns.shape
    ax = _draw_tiles(ax, columns.swapaxes(0, 1).reshape(-1, height, width), num_columns)
    ax.axhline(height, color="C3", linewidth=1.5)
    names = ["generated", "nearest", *(f"neighbour {number}" for number in range(2, num_lines))]
    ax.set_yticks(np.arange(num_lines) * (height + 1) + (height - 1) / 2, names)
    centers = np.arange(num_columns) * (width + 1) + (width - 1) / 2
    if distances is None:
        ax.set_xticks([])
    else:
        ax.set_xticks(centers, [f"{distance:.3g}" for distance in distances], fontsize="small")
        ax.set_xlabel("distance from the nearest")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
