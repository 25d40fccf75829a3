"""Images in a grid, and beside the training rows that they are nearest to."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.plots.arrays import as_array, as_vector
from pyro_gan.plots.tiles import ImageShape, as_images, draw_tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    rows: Any,
    *,
    labels: Any = None,
    row_per_class: bool = False,
    num_columns: int | None = None,
    image_shape: ImageShape | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw images in a grid: grey ones as ink on paper, others in their colours.

    Args:
        rows: One image a row, with shape `(num_rows, height * width)`, `(num_rows, height, width)` or
            `(num_rows, channels, height, width)`, of one channel or three. Pixels lie from 0 (paper) to 1 (ink), or
            from -1 to 1, as where one lies below -0.5; what lies beyond is drawn as paper or ink.
        labels: What each image shows, as text or numbers, with shape `(num_rows,)`: they are written above the images.
        row_per_class: Whether images of one label stand in a line of their own, with the label at its left; lines are
            in the order of the labels.
        num_columns: The grid's columns; by default as many as rows, or with `row_per_class` as many as it takes, more
            images of a class being left out.
        image_shape: Height and width in pixels, or channels, height and width, where the images are flat and not
            square or not grey.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: The rows are no images of the given or of a square shape or of one or three channels, are empty, not
            finite, or bytes; there is not one label an image, or none for `row_per_class`.
    """
    images = as_images("rows", rows, image_shape)
    names = [] if labels is None else _names(labels, len(images))
    if num_columns is not None:
        positive_integer("num_columns", num_columns)
    if row_per_class:
        if labels is None:
            raise ValueError(
                "row_per_class=True puts each label's images in a line, but there are no labels. Pass "
                "labels= with one label an image."
            )
        return _draw_classes(ax, images, names, num_columns)
    ax = draw_tiles(ax, images, num_columns or math.ceil(math.sqrt(len(images))), [str(name) for name in names])
    ax.set_axis_off()
    return ax


def plot_neighbours(
    samples: Any,
    neighbours: Any,
    distances: Any = None,
    *,
    image_shape: ImageShape | None = None,
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
        image_shape: As of :func:`plot_images`.
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
    images, shape = as_images("samples", generated, image_shape, nearest), generated.shape
    single = nearest.shape == shape
    if not single and (nearest.shape[:1] + nearest.shape[2:] != shape or nearest.ndim != len(shape) + 1):
        raise ValueError(
            f"neighbours have shape {nearest.shape}, but samples {shape}: expected the samples' shape, "
            "or (num_samples, num_neighbours, *image)."
        )
    num_neighbours = 1 if single else nearest.shape[1]
    nearest = as_images("neighbours", nearest.reshape(-1, *shape[1:]), image_shape, generated)
    columns = np.concatenate([images[:, None], nearest.reshape(len(images), num_neighbours, *images.shape[1:])], 1)
    if distances is not None:
        distances = as_array("distances", distances)
        distances = as_vector("distances", distances[:, 0] if distances.ndim == 2 else distances, len(images))
    return _draw_columns(ax, columns, distances)


def _names(labels: Any, number: int) -> list[Any]:
    """One label an image, as text or numbers.

    Raises:
        ValueError: There are more or fewer.
    """
    values = labels.detach().cpu() if isinstance(labels, Tensor) else labels
    names = np.asarray(values)
    if names.shape not in ((number,), (number, 1)):
        raise ValueError(
            f"labels must hold one label for each of the {number} images, but have shape {names.shape}. Pass as many."
        )
    return list(names.ravel().tolist())


def _draw_classes(ax: "Axes | None", images: np.ndarray, names: list[Any], num_columns: int | None) -> "Axes":
    """Draw a line of images for each label."""
    kinds = sorted(set(names))
    places = {kind: [number for number, name in enumerate(names) if name == kind] for kind in kinds}
    width = num_columns or max(len(found) for found in places.values())
    picture = np.full((len(kinds), width, *images.shape[1:]), 1.0 if images.ndim == 4 else 0.0)
    for line, kind in enumerate(kinds):
        found = places[kind][:width]
        picture[line, : len(found)] = images[found]
    ax = draw_tiles(ax, picture.reshape(-1, *images.shape[1:]), width)
    height = images.shape[1]
    ax.set_yticks(np.arange(len(kinds)) * (height + 1) + (height - 1) / 2, [str(kind) for kind in kinds])
    _hide_frame(ax)
    return ax


def _draw_columns(ax: "Axes | None", columns: np.ndarray, distances: np.ndarray | None) -> "Axes":
    """Draw images with shape `(num_columns, num_lines, *image)`, a red line below the first line of them."""
    num_columns, num_lines, height, width = columns.shape[:4]
    ax = draw_tiles(ax, columns.swapaxes(0, 1).reshape(-1, *columns.shape[2:]), num_columns)
    ax.axhline(height, color="C3", linewidth=1.5)
    names = ["generated", "nearest", *(f"neighbour {number}" for number in range(2, num_lines))]
    ax.set_yticks(np.arange(num_lines) * (height + 1) + (height - 1) / 2, names)
    centers = np.arange(num_columns) * (width + 1) + (width - 1) / 2
    _hide_frame(ax)
    if distances is not None:
        ax.set_xticks(centers, [f"{distance:.3g}" for distance in distances], fontsize="small")
        ax.set_xlabel("distance from the nearest")
    return ax


def _hide_frame(ax: "Axes") -> None:
    """Leave the names at the left alone."""
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
