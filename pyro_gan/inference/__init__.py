"""The inference classes, one algorithm a file."""

from pyro_gan.inference.base import AdversarialInference
from pyro_gan.inference.bigan import BiGANInference
from pyro_gan.inference.gan import GANInference
from pyro_gan.inference.implicit_klqp import ImplicitKLqp
from pyro_gan.inference.options import StepLosses
from pyro_gan.inference.wgan import WGANInference

__all__ = ["AdversarialInference", "BiGANInference", "GANInference", "ImplicitKLqp", "StepLosses", "WGANInference"]
