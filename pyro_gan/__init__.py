"""Adversarial, likelihood-free inference for implicit Pyro models."""

from importlib.metadata import version

from pyro_gan.inference import AdversarialInference, GANInference, StepLosses

__version__ = version("pyro_gan")
__all__ = ["AdversarialInference", "GANInference", "StepLosses"]
