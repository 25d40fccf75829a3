"""Densities of data and samples, in one and two dimensions, with what a discriminator or a kernel tells apart."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import positive_integer, shown
from pyro_gan.plots.arrays import as_points, as_vector, at_least, common_box, common_limits, rows_inside
from pyro_gan.plots.axes import axes_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.patches import StepPatch


CHUNK_ENTRIES = 2**22
"""How many values of a kernel are held at once: 32 MiB in double precision."""


def plot_density_1d(
    data: Any,
    samples: Any,
    log_ratio: Callable[[Tensor], Any] | None = None,
    *,
    limits: tuple[float, float] | None = None,
    num_bins: int = 100,
    num_points: int = 400,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Draw the one-dimensional picture of adversarial training: both densities, and :math:`D(x)` between them.

    With the best discriminator, :math:`D(x) = p_\text{data}(x) / (p_\text{data}(x) + p_\text{model}(x))`: 1/2 where the
    densities agree.

    What the picture can not tell: far from all rows the discriminator was never asked, and its answer means nothing.

    Args:
        data: Numbers, with shape `(num_rows,)` or `(num_rows, 1)`.
        samples: The model's, likewise; the number of rows may differ.
        log_ratio: An estimate of :math:`\log p_\text{data}(x) - \log p_\text{model}(x)` in nats, such as
            `inference.log_ratio`. It is given points of the data's shape, type and device, and returns one number for
            each. By default no :math:`D(x)` is drawn.
        limits: The least and the greatest `x` to draw; by default all rows are seen. Rows outside still count: the
            area below a histogram is the fraction of rows inside.
        num_bins: The histograms' bins.
        num_points: The points where :math:`D(x)` is computed.
        ax: The axes to draw the densities on, whose right-hand side shows :math:`D(x)`; by default new ones.

    Returns:
        The axes of the densities.

    Raises:
        ValueError: There are no rows, shapes do not fit, values are not finite, the limits are not in order, or
            `log_ratio` returns NaN or not one number a point.

    References:
        Goodfellow et al. (2014), figure 1 and proposition 1.
    """
    data_rows, sample_rows = as_vector("data", data), as_vector("samples", samples)
    limits = common_limits(limits, data_rows, sample_rows)
    num_bins, num_points = positive_integer("num_bins", num_bins), positive_integer("num_points", num_points)
    points = np.linspace(*limits, num_points)
    if log_ratio is not None:
        ratios = _log_ratios(log_ratio, points.reshape(-1, *np.shape(data)[1:]), data)
    ax = axes_or_new(ax)
    handles: list[Artist] = [
        _draw_histogram(ax, data_rows, limits, num_bins, color="C0", label=r"$p_\mathrm{data}$"),
        _draw_histogram(ax, sample_rows, limits, num_bins, color="C1", label=r"$p_\mathrm{model}$"),
    ]
    ax.set(xlabel="x", ylabel="density", xlim=limits)
    if log_ratio is not None:
        right = ax.twinx()
        right.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
        handles += right.plot(points, torch.from_numpy(ratios).sigmoid().numpy(), "k-", linewidth=1.2, label="D(x)")
        right.set(ylabel="D(x)", ylim=(0, 1.02))
    legend_above(ax, handles)
    return ax


def plot_density_2d(
    data: Any,
    samples: Any,
    log_ratio: Callable[[Tensor], Any] | None = None,
    *,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    num_bins: int = 50,
    num_points: int = 100,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Draw the data's density in the plane, the samples over it, and behind both the critic's field.

    Without a field, the density is the number of rows in each hexagon, the darker the more. With one, it is lines where
    the smoothed density is 1, 4 and 7 tenths of its peak, so that the field is seen. The field is the log ratio as
    filled contours, white around 0. Its colours span what all but a twentieth of the rows see: far from them a
    critic's values may be huge.

    What the picture can not tell: far from all rows the critic was never asked, and its field means nothing.

    Args:
        data: Points, with shape `(num_rows, 2)`.
        samples: The model's, likewise; the number of rows may differ.
        log_ratio: An estimate of :math:`\log p_\text{data}(x) - \log p_\text{model}(x)` in nats, such as
            `inference.log_ratio`. It is given points with shape `(num_points ** 2, 2)` of the data's type and on its
            device, and returns one number for each. By default no field is drawn.
        limits: The least and the greatest value along each axis, `((left, right), (bottom, top))`; by default all rows
            are seen.
        num_bins: The hexagons along the first axis, or the cells of the smoothed histogram along each.
        num_points: The points along each axis where the field is computed.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: There are no rows, shapes do not fit, values are not finite, the limits are not in order, or
            `log_ratio` returns NaN or not one number a point.
    """
    data_rows, sample_rows = as_points("data", data), as_points("samples", samples)
    box = common_box(limits, data_rows, sample_rows)
    if not len(rows_inside(data_rows, box)):
        raise ValueError(
            f"limits hold no row of the data, but are {shown(limits)}. Pass wider ones, or none for all rows."
        )
    num_bins, num_points = positive_integer("num_bins", num_bins), at_least("num_points", num_points, 2)
    if log_ratio is not None:
        grid = np.meshgrid(*np.linspace(box[:, 0], box[:, 1], num_points).T)
        field = _log_ratios(log_ratio, np.stack(grid, -1).reshape(-1, 2), data).reshape(num_points, num_points)
    ax = axes_or_new(ax)
    if log_ratio is None:
        density = _draw_hexagons(ax, data_rows, box, num_bins)
    else:
        _draw_field(ax, grid, field, np.concatenate([data_rows, sample_rows]), box)
        density = _draw_density_lines(ax, data_rows, box, num_bins)
    points = draw_points(ax, sample_rows, box, label="samples")
    legend_above(ax, [density, points])
    return ax


def plot_witness(
    x: Any,
    y: Any,
    *,
    bandwidth: float | None = None,
    labels: tuple[str, str] = ("x", "y"),
    limits: tuple[float, float] | None = None,
    num_bins: int = 50,
    num_points: int = 400,
    ax: "Axes | None" = None,
) -> "Axes":
    r"""Draw where two one-dimensional samples differ: their histograms, and the witness of their MMD.

    The witness is the function whose means under the two samples differ most, among those of a kernel:

    .. math:: f(t) = \frac{1}{m} \sum_i k(t, x_i) - \frac{1}{n} \sum_j k(t, y_j), \qquad
        k(t, s) = \exp\Big(-\frac{(t - s)^2}{2 \sigma^2}\Big),

    up to a factor. It is positive where `x` is more frequent, negative where `y` is.

    What the picture can not tell: whether a difference is more than chance, and any difference much finer than the
    bandwidth.

    Args:
        x: Numbers, with shape `(num_rows,)` or `(num_rows, 1)`.
        y: Others, likewise; the number of rows may differ.
        bandwidth: The kernel's :math:`\sigma`, in the data's units; by default the median distance between any two of
            all rows (of a thousand, evenly spread in order, where there are more). Where the median is 0, it is the
            mean distance, and 1 where all rows are equal.
        labels: What to call the two samples.
        limits: The least and the greatest :math:`t` to draw; by default all rows are seen. Rows outside still count.
        num_bins: The histograms' bins.
        num_points: The points where the witness is computed.
        ax: The axes to draw the histograms on, whose right-hand side shows the witness; by default new ones.

    Returns:
        The axes of the histograms.

    Raises:
        ValueError: There are no rows, shapes do not fit, values are not finite, the limits are not in order, or the
            bandwidth is not positive.

    References:
        Gretton et al. (2012), "A Kernel Two-Sample Test", section 2.3.
    """
    first, second = as_vector("x", x), as_vector("y", y)
    limits = common_limits(limits, first, second)
    num_bins, num_points = positive_integer("num_bins", num_bins), positive_integer("num_points", num_points)
    width = _bandwidth(bandwidth, first, second)
    points = np.linspace(*limits, num_points)
    witness = _kernel_means(points, first, width) - _kernel_means(points, second, width)
    ax = axes_or_new(ax)
    histograms = [
        _draw_histogram(ax, rows, limits, num_bins, color=color, label=label)
        for rows, color, label in zip((first, second), ("C0", "C1"), labels, strict=True)
    ]
    ax.set(xlabel="t", ylabel="density", xlim=limits)
    right = ax.twinx()
    right.axhline(0, color="grey", linewidth=0.8, linestyle=":")
    lines = right.plot(points, witness, "k-", linewidth=1.2, label=rf"witness ($\sigma$ = {width:.3g})")
    bound = 1.1 * float(np.abs(witness).max()) or 1.0
    right.set(ylabel="witness f(t)", ylim=(-bound, bound))
    legend_above(ax, [*histograms, *lines])
    return ax


def _draw_histogram(
    ax: "Axes", rows: np.ndarray, limits: tuple[float, float], num_bins: int, **style: Any
) -> "StepPatch":
    """Draw a density whose area is the fraction of rows within the limits."""
    counts, edges = np.histogram(rows, num_bins, limits)
    return ax.stairs(counts / (len(rows) * np.diff(edges)), edges, fill=True, alpha=0.4, **style)


def _log_ratios(log_ratio: Callable[[Tensor], Any], points: np.ndarray, data: Any) -> np.ndarray:
    """A critic's log ratios at points, which it is given as what the data are."""
    if not callable(log_ratio):
        raise TypeError(f"log_ratio must be a function of points, but is {shown(log_ratio)}.")
    rows = torch.as_tensor(points, dtype=torch.get_default_dtype())
    if isinstance(data, Tensor):
        rows = rows.to(data) if data.is_floating_point() else rows.to(data.device)
    with torch.no_grad():
        values = log_ratio(rows)
    ratios = values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=float)
    if ratios.shape not in ((len(points),), (len(points), 1)):
        raise ValueError(
            f"log_ratio must return one number a point, {len(points)} in all, but returns shape {ratios.shape}."
        )
    if np.isnan(ratios).any():
        raise ValueError("log_ratio returns NaN. Check the discriminator's parameters.")
    return ratios.ravel()


def _draw_field(ax: "Axes", grid: Sequence[np.ndarray], field: np.ndarray, rows: np.ndarray, box: np.ndarray) -> None:
    """Draw log ratios as filled contours, whose colours reach as far as most rows do."""
    low, high = box.T
    rows = rows_inside(rows, box)
    across, up = np.rint((rows - low) / (high - low) * (len(field) - 1)).astype(int).T
    sizes = np.abs(field[up, across])
    sizes = sizes[np.isfinite(sizes)]
    bound = (float(np.quantile(sizes, 0.95)) if len(sizes) else 1.0) or 1.0
    levels = np.linspace(-bound, bound, 21)
    picture = ax.contourf(*grid, np.clip(field, -2 * bound, 2 * bound), levels, cmap="RdBu", extend="both")
    label = r"$\log\, (p_\mathrm{data} \,/\, p_\mathrm{model})$ in nats"
    ax.figure.colorbar(picture, ax=ax, label=label, ticks=levels[::5], format="%.2g")


def _draw_hexagons(ax: "Axes", rows: np.ndarray, box: np.ndarray, num_bins: int) -> "Artist":
    """Draw how many rows are in each hexagon; return what stands for them in a legend."""
    from matplotlib.patches import Patch

    hexagons = ax.hexbin(*rows.T, gridsize=num_bins, extent=tuple(box.flat), mincnt=1, cmap="Blues", linewidths=0.2)
    hexagons.set_clim(-0.25 * hexagons.get_clim()[1])  # so that a single row is seen
    return Patch(color="C0", label="data")


def _draw_density_lines(ax: "Axes", rows: np.ndarray, box: np.ndarray, num_bins: int) -> "Artist":
    """Draw lines of equal density, smoothed over a few cells; return what stands for them in a legend."""
    from matplotlib.lines import Line2D
    from scipy.ndimage import gaussian_filter

    counts, *edges = np.histogram2d(rows[:, 0], rows[:, 1], 2 * num_bins, box)
    density = gaussian_filter(counts, 1.5, mode="constant")
    centers = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    ax.contour(*centers, density.T, np.array([0.1, 0.4, 0.7]) * density.max(), colors="black", linewidths=0.8)
    return Line2D([], [], color="black", linewidth=0.8, label="data")


def draw_points(ax: "Axes", rows: np.ndarray, box: np.ndarray, **style: Any) -> "Artist":
    """Draw points, the smaller the more there are.

    Args:
        ax: The axes to draw on.
        rows: The points, with shape `(num_rows, 2)`.
        box: The limits of both axes, with shape `(2, 2)`.
        style: What to draw otherwise, as matplotlib's line properties.
    """
    size = min(max(70 / math.sqrt(len(rows)), 1.2), 3.5)
    style = {"color": "gold", "markersize": size, "markeredgecolor": "black", "markeredgewidth": size / 8, **style}
    (line,) = ax.plot(*rows.T, "o", **style)
    ax.set(xlim=box[0], ylim=box[1], xlabel="$x_1$", ylabel="$x_2$")
    return line


def _bandwidth(bandwidth: float | None, first: np.ndarray, second: np.ndarray) -> float:
    """The bandwidth, or the median distance, or something positive in its place."""
    from scipy.spatial.distance import pdist

    if bandwidth is None:
        rows = np.sort(np.concatenate([first, second]))
        kept = np.linspace(0, len(rows) - 1, min(len(rows), 1000)).round().astype(int)
        distances = pdist(rows[kept, None])
        return next(width for width in (float(np.median(distances)), float(distances.mean()), 1.0) if width > 0)
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be a positive number, but is {bandwidth!r}.")
    return bandwidth


def _kernel_means(points: np.ndarray, rows: np.ndarray, bandwidth: float) -> np.ndarray:
    """The mean of a Gaussian kernel between each point and all rows, with bounded memory."""
    sums = np.zeros(len(points))
    size = max(1, CHUNK_ENTRIES // len(points))
    for start in range(0, len(rows), size):
        scaled = (points[:, None] - rows[start : start + size]) / bandwidth
        sums += np.exp(-(scaled**2) / 2).sum(1)
    return sums / len(rows)
