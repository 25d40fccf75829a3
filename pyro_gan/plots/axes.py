"""Axes to draw on, and a legend that covers nothing."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def axes_or_new(ax: "Axes | None", size: tuple[float, float] | None = None) -> "Axes":
    """The axes, or new ones of a size in inches, in a figure that makes room for what stands around them."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def legend_above(ax: "Axes", handles: "Sequence[Artist]") -> None:
    """Put the legend above the axes, in one row of up to five."""
    ax.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(handles) if len(handles) <= 5 else math.ceil(len(handles) / 2),
        fontsize="small",
        frameon=False,
        columnspacing=1.2,
        handlelength=1.6,
    )
