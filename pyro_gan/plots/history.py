"""A training history as curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.checks import listed, positive_integer
from pyro_gan.plots.axes import axes_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_history(
    history: Mapping[str, Sequence[Any]],
    *,
    names: Sequence[str] = (),
    smoothing: int | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw both players' losses, and D's mean probability on real and on fake rows, over the steps.

    Args:
        history: `inference.history`.
        names: More keys of the history, such as criticism that was recorded every so many steps and is NaN in between.
            Each gets an axis of its own on the right, and a marker at each finite number.
        smoothing: The number of steps of the moving mean that is drawn; by default a fiftieth of all.
        ax: The axes to draw the losses on, whose right-hand side shows the probabilities; by default new ones.

    Returns:
        The axes of the losses.

    Raises:
        ValueError: The history is empty, lacks a name, or has columns of different lengths.
    """
    names = (names,) if isinstance(names, str) else names
    columns = _columns(history, ("generator_loss", "discriminator_loss", "real_probability", "fake_probability"), names)
    steps = columns.pop("step")
    width = len(steps) // 50 if smoothing is None else positive_integer("smoothing", smoothing)
    width = min(len(steps), max(1, width))
    ax = axes_or_new(ax)
    right = ax.twinx()
    for axes, name, label, style in (
        (ax, "generator_loss", "generator's loss", "C0-"),
        (ax, "discriminator_loss", "discriminator's loss", "C1-"),
        (right, "real_probability", "D(real)", "C2--"),
        (right, "fake_probability", "D(fake)", "C3:"),
    ):
        axes.plot(steps[width - 1 :], _moving_mean(columns[name], width), style, label=label, linewidth=1.2)
    ax.set(xlabel="step", ylabel="loss (nats)")
    right.set(ylabel="mean probability of real", ylim=(-0.02, 1.02))
    extra = [_draw_record(ax, number, name, steps, columns[name]) for number, name in enumerate(names)]
    legend_above(ax, [*ax.get_lines(), *right.get_lines(), *(line for axes in extra for line in axes.get_lines())])
    return ax


def _moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def _draw_record(ax: "Axes", number: int, name: str, steps: np.ndarray, values: np.ndarray) -> "Axes":
    """Draw a column's finite numbers on an axis of its own, farther to the right the greater its number."""
    finite = np.isfinite(values)
    color, marker = f"C{4 + number}", "os^vD"[number % 5]
    right = ax.twinx()
    right.spines.right.set_position(("outward", 50 * (number + 1)))
    right.plot(steps[finite], values[finite], f"{marker}-", color=color, markersize=4, linewidth=0.5, label=name)
    right.set_ylabel(name, color=color)
    right.tick_params(axis="y", colors=color)
    return right


def _columns(
    history: Mapping[str, Sequence[Any]], players: Sequence[str], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The history's columns that are to be drawn."""
    wanted = ("step", *players, *names)
    missing = [name for name in wanted if name not in history]
    if missing:
        raise ValueError(f"the history has no {missing[0]!r}. It has {listed(history)}.")
    columns = {name: np.asarray(history[name], dtype=float) for name in wanted}
    if not columns["step"].size:
        raise ValueError("the history is empty. Call run first.")
    for name, column in columns.items():
        if column.shape != columns["step"].shape:
            raise ValueError(f"the history has {columns['step'].size} steps, but {column.size} numbers of {name!r}.")
    return columns
