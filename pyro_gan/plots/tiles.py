"""Images of any form as one picture: grey or coloured, flat or not, from 0 or from -1 to 1."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.checks import shown
from pyro_gan.plots.arrays import as_array
from pyro_gan.plots.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ImageShape = tuple[int, int] | tuple[int, int, int]
"""(height, width) or (channels, height, width)."""

CHANNELS = (1, 3)
"""Grey, or red, green and blue."""

BELOW = -0.5
"""The pixel below which images are taken to reach from -1 to 1; a little below 0 is what a network misses 0 by."""


def as_images(name: str, rows: Any, image_shape: ImageShape | None, *others: Any) -> np.ndarray:
    """Images with shape `(num_images, height, width)`, or `(num_images, height, width, 3)` in colour, from 0 to 1.

    Args:
        name: What messages call them.
        rows: One image a row, flat or not, from 0 to 1 or from -1 to 1.
        image_shape: The shape of an image, where rows are flat and not square.
        others: Further images that are drawn beside these, on the same scale.

    Raises:
        ValueError: The rows are no images, or have other channels than one or three; or they are bytes.
    """
    values = as_array(name, rows)
    shape = _shape_of(name, values, image_shape)
    lowest = min(float(np.min(each)) for each in (values, *others))
    if values.max() > 1 and not (values % 1).any():
        raise ValueError(f"{name} are whole numbers up to {values.max():g}, but expected 0 to 1. Scale them first.")
    images = values.reshape(len(values), *shape)
    images = (images + 1) / 2 if lowest < BELOW else images
    return images[:, 0] if shape[0] == 1 else np.clip(np.moveaxis(images, 1, -1), 0, 1)


def _shape_of(name: str, values: np.ndarray, image_shape: ImageShape | None) -> tuple[int, ...]:
    """The (channels, height, width) of an image.

    Raises:
        ValueError: There is none.
    """
    size, row = math.prod(values.shape[1:]), values.shape[1:]
    if image_shape is not None and (
        not isinstance(image_shape, tuple | list)
        or len(image_shape) not in (2, 3)
        or not all(isinstance(side, int | np.integer) and side > 0 for side in image_shape)
    ):
        raise ValueError(
            f"image_shape must be (height, width) or (channels, height, width), but is {shown(image_shape)}."
        )
    if values.ndim == 4 and row[0] not in CHANNELS:
        hint = (
            f" The channels seem to come last: pass {name}.movedim(-1, 1), or np.moveaxis of an array."
            if row[-1] in CHANNELS
            else f" Pass some of them, such as {name}[:, :1]."
        )
        raise ValueError(
            f"{name} of shape {values.shape} are images of {row[0]} channels, but 1 (grey) or 3 (red, green, blue) are "
            f"expected, as (num_images, channels, height, width).{hint}"
        )
    shape = tuple(image_shape or (row if values.ndim in (3, 4) else (math.isqrt(size),) * 2))
    shape = (1, *shape)[-3:]
    if values.ndim not in (2, 3, 4) or size != math.prod(shape):
        coloured = f"{shape[0]} channels of " if shape[0] > 1 else ""
        raise ValueError(
            f"{name} of shape {values.shape} are no images of {coloured}{shape[1]} by {shape[2]} pixels. Pass "
            "image_shape=(height, width), or image_shape=(channels, height, width)."
        )
    if shape[0] not in CHANNELS:
        raise ValueError(
            f"image_shape={shown(image_shape)} has {shape[0]} channels, but 1 (grey) or 3 (red, green, blue) are "
            "expected."
        )
    return shape


def tiles(images: np.ndarray, num_columns: int, gap: int = 1) -> np.ndarray:
    """One picture of all images, row by row, with a pixel of paper between neighbours.

    Args:
        images: Images as of :func:`as_images`.
        num_columns: The images of a line.
        gap: The pixels of paper below a line.
    """
    num_images, height, width, *colours = images.shape
    num_lines = math.ceil(num_images / num_columns)
    paper = 1.0 if colours else 0.0  # grey images are ink on paper, coloured ones light
    picture = np.full((num_lines * num_columns, height + gap, width + 1, *colours), paper)
    picture[:num_images, :height, :width] = images
    lines = picture.reshape(num_lines, num_columns, height + gap, width + 1, *colours).swapaxes(1, 2)
    return lines.reshape(num_lines * (height + gap), num_columns * (width + 1), *colours)[:-gap, :-1]


def draw_tiles(ax: "Axes | None", images: np.ndarray, num_columns: int, titles: Sequence[str] = ()) -> "Axes":
    """Draw images, by default on axes of the picture's own proportions, with a title above each where there are such.

    Args:
        ax: The axes.
        images: Images as of :func:`as_images`.
        num_columns: The images of a line.
        titles: A title for each image, or none.
    """
    height, width = images.shape[1:3]
    gap = max(2, math.ceil(0.3 * height)) if titles else 1
    picture = tiles(images, num_columns, gap)
    tall, wide = picture.shape[:2]
    ax = axes_or_new(ax, size=(6.4, min(max(6.4 * tall / wide, 1.0), 12.8)))
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    if titles:
        ax.set_ylim(tall - 0.5, -gap - 0.5)
        inches = ax.figure.figure.get_size_inches()[0] / num_columns  # of the whole, where it has parts
        longest = max(8, *map(len, titles))  # one size for all
        size = min(10.0, 110 * inches / longest, 72 * inches * 0.25 * height / width)
        for number, title in enumerate(titles):
            line, column = divmod(number, num_columns)
            place = column * (width + 1) + (width - 1) / 2, line * (height + gap) - 1
            ax.text(*place, title, ha="center", va="bottom", fontsize=size)
    return ax
