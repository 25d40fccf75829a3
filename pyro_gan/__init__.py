"""Adversarial, likelihood-free inference for implicit Pyro models."""

from importlib.metadata import version

from pyro_gan.auto import AutoDiscriminator, AutoImplicitGuide, CaptionEmbedding, LabelEmbedding, Standardized
from pyro_gan.inference import (
    AdversarialInference,
    BiGANInference,
    GANInference,
    ImplicitKLqp,
    StepLosses,
    WGANInference,
)
from pyro_gan.simulations import Simulations, simulate

__version__ = version("pyro_gan")
__all__ = [
    "AdversarialInference",
    "AutoDiscriminator",
    "AutoImplicitGuide",
    "BiGANInference",
    "CaptionEmbedding",
    "GANInference",
    "ImplicitKLqp",
    "LabelEmbedding",
    "Simulations",
    "Standardized",
    "StepLosses",
    "WGANInference",
    "simulate",
]
