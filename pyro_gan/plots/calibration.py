"""Whether posteriors are calibrated: ranks and coverage."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gan.checks import positive_integer
from pyro_gan.plots.arrays import as_fractions, as_probability, as_vector
from pyro_gan.plots.axes import axes_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def plot_ranks(
    ranks: Any,
    num_draws: int,
    *,
    num_bins: int | None = None,
    confidence: float = 0.99,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a histogram of the ranks that simulation-based calibration found, and the band where uniform ranks lie.

    A rank is the number of posterior draws below the true value. If posteriors are exact it is uniform on the whole
    numbers from 0 to `num_draws`. A valley says that posteriors are too narrow, a hill that they are too wide, a slope
    that they are shifted. Bars outside the band are red; even exact posteriors give `1 - confidence` of all bars so.

    What the picture can not tell: ranks are uniform also where posteriors are merely the prior. It needs independent
    draws: ranks among the draws of a Markov chain pile up at the ends.

    Args:
        ranks: The rank of the true value in each simulation, whole numbers from 0 to `num_draws`, with shape
            `(num_simulations,)`; one parameter a picture.
        num_draws: The number of posterior draws among which each rank was taken.
        num_bins: The number of bars; by default one for each twenty simulations, but from 2 to 20 and at most one for
            each rank, and of equal width where there is such a number near.
        confidence: The probability that a bar lies in the band, if ranks are uniform.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: The ranks have another shape, are empty, no whole numbers or out of range; there are more bins than
            ranks; or `confidence` is not between 0 and 1.

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), "Validating Bayesian Inference Algorithms with
        Simulation-Based Calibration", theorem 1 and the figures of its histograms.
    """
    from scipy.stats import binom

    num_ranks = positive_integer("num_draws", num_draws) + 1
    values = _ranks(ranks, num_ranks)
    edges = _rank_edges(num_ranks, len(values), num_bins)
    expected = np.diff(edges) / num_ranks  # bars of unequal width expect unequally many
    low, high = binom.interval(as_probability("confidence", confidence), len(values), expected)
    counts, _ = np.histogram(values, edges)
    ax = axes_or_new(ax)
    colors = np.where((counts < low) | (counts > high), "C3", "C0")
    ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors, edgecolor="white", linewidth=0.5)
    low, high = np.append(low, low[-1]), np.append(high, high[-1])  # a step goes on to the next edge
    label = f"{100 * confidence:.4g} % band"
    band = ax.fill_between(edges, low, high, step="post", color="grey", alpha=0.35, linewidth=0, label=label)
    line = ax.stairs(expected * len(values), edges, baseline=None, color="black", linestyle="--", label="expected")
    ax.set(xlabel=f"rank among {num_draws} draws", ylabel="simulations", xlim=(edges[0], edges[-1]))
    ax.set_ylim(0, 1.05 * max(counts.max(), high.max()))
    legend_above(ax, [line, band])
    return ax


def plot_coverage(
    levels: Any,
    coverage: Any,
    num_simulations: int | None = None,
    *,
    confidence: float = 0.99,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how often credible regions hold the true value, against how often they say they do.

    On the diagonal both agree. Below it regions are too small (over-confident), above it too large (under-confident).

    What the picture can not tell: regions of the prior, whatever was observed, lie on the diagonal too. Coverage is an
    average over observations, and may be right on average where it is wrong for each.

    Args:
        levels: The regions' credibility, from 0 to 1, with shape `(num_levels,)`.
        coverage: The fraction of simulations in which the region held the true value, with shape `(num_levels,)`; or a
            mapping of such by name, one line each.
        num_simulations: The number of simulations, for the band around the diagonal; by default none is drawn.
        confidence: The probability that the coverage at a level lies in the band, if it is the level.
        ax: The axes to draw on; by default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: Shapes do not fit, there are no levels or no lines, values are not between 0 and 1, or `confidence`
            is not.

    References:
        Hermans et al. (2022), "A Trust Crisis in Simulation-Based Inference?", definition of the expected coverage.
    """
    lines = coverage if isinstance(coverage, Mapping) else {"coverage": coverage}
    if not lines:
        raise ValueError("coverage must hold at least one line, but is empty.")
    nominal = as_fractions("levels", levels)
    values = {name: as_fractions(f"coverage {name!r}", line, len(nominal)) for name, line in lines.items()}
    confidence = as_probability("confidence", confidence)
    num_simulations = None if num_simulations is None else positive_integer("num_simulations", num_simulations)
    ax = axes_or_new(ax)
    handles: list[Artist] = [*ax.plot([0, 1], [0, 1], "k--", linewidth=1, label="calibrated")]
    if num_simulations is not None:
        handles.append(_draw_coverage_band(ax, num_simulations, confidence))
    order = np.argsort(nominal)
    for number, (name, line) in enumerate(values.items()):
        style = f"C{number}{'os^vD'[number % 5]}-"
        handles += ax.plot(nominal[order], line[order], style, linewidth=1.2, markersize=4, label=name)
    ax.text(0.04, 0.96, "under-confident", color="grey", va="top", style="italic")
    ax.text(0.96, 0.04, "over-confident", color="grey", ha="right", style="italic")
    ax.set(
        xlabel="credibility level", ylabel="expected coverage", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal"
    )
    legend_above(ax, handles)
    return ax


def _ranks(ranks: Any, num_ranks: int) -> np.ndarray:
    values = as_vector("ranks", ranks)
    if (values % 1).any() or values.min() < 0 or values.max() >= num_ranks:
        raise ValueError(
            f"ranks must be whole numbers from 0 to num_draws = {num_ranks - 1}, but they reach from "
            f"{values.min():g} to {values.max():g}" + (" with fractions." if (values % 1).any() else ".")
        )
    return values


def _rank_edges(num_ranks: int, num_simulations: int, num_bins: int | None) -> np.ndarray:
    """Edges of bars between ranks, of equal width where the number of ranks allows it."""
    if num_bins is None:
        most = min(num_ranks, 20, max(2, num_simulations // 20))
        num_bins = next((number for number in range(most, most // 2, -1) if num_ranks % number == 0), most)
    if positive_integer("num_bins", num_bins) > num_ranks:
        raise ValueError(f"num_bins must be at most the number of ranks, {num_ranks}, but is {num_bins}.")
    return np.linspace(0, num_ranks, num_bins + 1).round() - 0.5


def _draw_coverage_band(ax: "Axes", num_simulations: int, confidence: float) -> "Artist":
    from scipy.stats import binom

    levels = np.linspace(0, 1, 201)
    low, high = binom.interval(confidence, num_simulations, levels)
    label = f"{100 * confidence:.4g} % band of {num_simulations:,} simulations"
    return ax.fill_between(
        levels, low / num_simulations, high / num_simulations, color="grey", alpha=0.25, linewidth=0, label=label
    )
