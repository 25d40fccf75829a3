"""Is the fitted model any good: measures that take samples and know nothing of how they were made."""

from pyro_gan.criticism.accuracy import local_c2st, tarp
from pyro_gan.criticism.comparison import compare
from pyro_gan.criticism.coverage import (
    density_coverage,
    label_coverage,
    mode_coverage,
    precision_recall,
    support_size,
)
from pyro_gan.criticism.neighbours import memorization, nearest_rows
from pyro_gan.criticism.parzen import ParzenEstimate, parzen_log_likelihood, select_bandwidth
from pyro_gan.criticism.posterior import calibration_ranks, calibration_test, expected_coverage
from pyro_gan.criticism.two_sample import c2st, energy_test, ks_test, mmd_test, sliced_wasserstein

__all__ = [
    "ParzenEstimate",
    "c2st",
    "calibration_ranks",
    "calibration_test",
    "compare",
    "density_coverage",
    "energy_test",
    "expected_coverage",
    "ks_test",
    "label_coverage",
    "local_c2st",
    "memorization",
    "mmd_test",
    "mode_coverage",
    "nearest_rows",
    "parzen_log_likelihood",
    "precision_recall",
    "select_bandwidth",
    "sliced_wasserstein",
    "support_size",
    "tarp",
]
