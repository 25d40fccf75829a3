"""The inference classes, one algorithm a file."""

from pyro_gan.inference.base import AdversarialInference, StepLosses
from pyro_gan.inference.gan import GANInference

__all__ = ["AdversarialInference", "GANInference", "StepLosses"]
