"""The inferences whose states lie in tests/states; `python tests/stored.py FOLDER` writes them, once a format."""

import sys
from pathlib import Path

import pyro
import torch
from latent_models import linear_model
from models import location_model, scalar_discriminator

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference

DATA = torch.linspace(-1.0, 3.0, 40)


def gan():
    """A model of one number, with averages and a criticism in its history."""
    return GANInference(location_model, scalar_discriminator(4), ema_decay=0.9)


def bigan():
    """A posterior by networks that build themselves."""
    guide = AutoImplicitGuide(linear_model, width=4, depth=1)
    return BiGANInference(linear_model, guide, AutoDiscriminator(width=4, depth=1))


def main():
    torch.set_num_threads(1)
    for make in (gan, bigan):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = make().run(DATA, num_steps=5, batch_size=10, progress=False)
        inference.note(score=0.25)
        inference.save(Path(sys.argv[1]) / f"{make.__name__}-1.state")


if __name__ == "__main__":
    main()
