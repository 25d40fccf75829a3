"""Measures beside their limits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.plots.arrays import as_vector
from pyro_gan.plots.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST_SHOWN = 2.0
"""The length at which bars are cut, in units of what is allowed."""


def plot_checks(
    names: Sequence[str],
    off: Any,
    passed: Sequence[bool],
    labels: Sequence[str] = (),
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how far measures of a fit are from what is best, in units of how far they may be.

    A bar that ends before the line is of a measure that is met. A longer one in grey is beyond it by no more than
    chance, one in red is not met.

    Args:
        names: What the measures are called.
        off: How far each is off, 0 at its best and 1 at its limit, with shape `(num_measures,)`.
        passed: Whether each is met.
        labels: What stands at the end of each bar, such as the value; by default nothing.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: There are no measures, or not as many of each.
    """
    lengths = as_vector("off", off)
    texts = list(labels) or [""] * len(lengths)
    if not len(names) == len(passed) == len(texts) == len(lengths):
        raise ValueError(
            f"there are {len(names)} names, {len(lengths)} numbers in off, {len(passed)} in passed and {len(texts)} "
            "labels. Pass as many of each."
        )
    ax = axes_or_new(ax, (7.5, 1.2 + 0.32 * len(lengths)))
    shown = np.clip(lengths, 0.0, FARTHEST_SHOWN)
    are_met = np.asarray(passed, dtype=bool)
    colors = np.where(~are_met, "C3", np.where(lengths > 1, "grey", "C0"))
    places = range(len(lengths))
    ax.barh(places, shown, color=colors, height=0.6)
    ax.axvline(1, color="black", linestyle="--", linewidth=1)
    for place, length, text, color in zip(places, shown, texts, colors, strict=True):
        label = ax.text(length + 0.03, place, text, va="center", fontsize="small", color=color)
        label.set_bbox({"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1})  # over the limit's line
    ax.set_yticks(places, names)
    ax.set_xticks([0, 1], ["best", "limit"])
    ax.set(ylim=(len(lengths) - 0.5, -0.5), xlim=(0, FARTHEST_SHOWN + 0.6))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
