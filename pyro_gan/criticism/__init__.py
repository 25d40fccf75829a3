"""Is the fitted model any good: measures that take samples and know nothing of how they were made."""

from pyro_gan.criticism.parzen import ParzenEstimate, parzen_log_likelihood, select_bandwidth

__all__ = ["ParzenEstimate", "parzen_log_likelihood", "select_bandwidth"]
