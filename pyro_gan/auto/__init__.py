"""Networks that build themselves from what they are used with: a discriminator, a guide for latents, a last layer."""

from pyro_gan.auto.conditions import CaptionEmbedding, LabelEmbedding
from pyro_gan.auto.discriminator import AutoDiscriminator
from pyro_gan.auto.guide import AutoImplicitGuide
from pyro_gan.auto.padding import padded
from pyro_gan.auto.standardized import Standardized

__all__ = ["AutoDiscriminator", "AutoImplicitGuide", "CaptionEmbedding", "LabelEmbedding", "Standardized", "padded"]
