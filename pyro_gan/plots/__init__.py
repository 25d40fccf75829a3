r"""Pictures on matplotlib axes, which each function takes or makes, and returns.

Nothing here knows an inference: samples come as arrays, critics as plain functions. An array is a tensor on any device,
a NumPy array or a list; its numbers are drawn, never changed. The pictures look the same in a notebook and in a program
without a screen. Legends stand above the axes, where they cover nothing: give a title room with
`ax.set_title(title, pad=24)`.
"""

from pyro_gan.plots.animation import animate
from pyro_gan.plots.calibration import plot_coverage, plot_ranks
from pyro_gan.plots.checks import plot_checks
from pyro_gan.plots.densities import plot_density_1d, plot_density_2d, plot_witness
from pyro_gan.plots.history import plot_history
from pyro_gan.plots.images import plot_images, plot_neighbours
from pyro_gan.plots.interpolation import interpolate

__all__ = [
    "animate",
    "interpolate",
    "plot_checks",
    "plot_coverage",
    "plot_density_1d",
    "plot_density_2d",
    "plot_history",
    "plot_images",
    "plot_neighbours",
    "plot_ranks",
    "plot_witness",
]
