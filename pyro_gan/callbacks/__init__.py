"""What happens beside training: progress, and whatever a user wants done every so many steps."""

from pyro_gan.callbacks.base import Callback
from pyro_gan.callbacks.calibration import ScaleNoise
from pyro_gan.callbacks.coverage import WarnOfCoverage
from pyro_gan.callbacks.evaluation import Evaluate, KeepBest, SaveSamples, StopWhen
from pyro_gan.callbacks.failures import WarnOfFailures
from pyro_gan.callbacks.overfitting import EndBeforeOverfitting
from pyro_gan.callbacks.progress import ProgressBar, ProgressLines, describe, progress_callbacks
from pyro_gan.callbacks.records import TensorBoard, WriteCSV
from pyro_gan.callbacks.schedules import FallingRates, FinalMean

__all__ = [
    "Callback",
    "EndBeforeOverfitting",
    "Evaluate",
    "FallingRates",
    "FinalMean",
    "KeepBest",
    "ProgressBar",
    "ProgressLines",
    "SaveSamples",
    "ScaleNoise",
    "StopWhen",
    "TensorBoard",
    "WarnOfCoverage",
    "WarnOfFailures",
    "WriteCSV",
    "describe",
    "progress_callbacks",
]
