"""Networks that build themselves from what they are used with: a discriminator, and a guide for a model's latents."""

from pyro_gan.auto.discriminator import AutoDiscriminator
from pyro_gan.auto.guide import AutoImplicitGuide

__all__ = ["AutoDiscriminator", "AutoImplicitGuide"]
