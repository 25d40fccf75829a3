"""Images with channels: the published convolutional networks, and those that build themselves."""

import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_gan import AutoDiscriminator, GANInference
from pyro_gan.datasets import load_digits
from pyro_gan.losses import NonSaturating

IMAGES = load_digits(shape="image").images / 255


def image_model(generator):
    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            return pyro.deterministic("x", generator(noise), event_dim=3)

    return model


def flat_generator(channels=1):
    return nn.Sequential(nn.Linear(4, channels * 64), nn.Sigmoid(), nn.Unflatten(1, (channels, 8, 8)))


def convolutional(monkeypatch):
    """The networks of the example."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    monkeypatch.delitem(sys.modules, "dcgan", raising=False)
    import dcgan

    return dcgan


def test_real_and_fake_rows_have_batch_statistics_of_their_own(monkeypatch):
    """The discriminator's loss is that of two separate passes, worked out by hand, and not that of a joint one."""
    pyro.set_rng_seed(0)
    dcgan = convolutional(monkeypatch)
    monkeypatch.setattr(dcgan, "NOISE_SIZE", 4)
    generator, discriminator = dcgan.convolutional(8)
    inference = GANInference(image_model(generator), discriminator, loss=NonSaturating())
    real = 2 * IMAGES[:64] - 1
    inference.step(real, player="generator")
    found = inference.draw((real,))
    sizes = []
    hook = discriminator.layers[2].register_forward_hook(lambda *call: sizes.append(len(call[1][0])))
    loss = inference.step(real, player="discriminator").discriminator
    hook.remove()
    assert sizes == [64, 64] and loss.isfinite()
    one_by_one, together = discriminator(real), discriminator(torch.cat([real, found.fake["x"]]))[:64]
    assert not torch.allclose(one_by_one, together, rtol=0.01)


def test_a_place_of_the_last_layer_sees_18_by_18_pixels(monkeypatch):
    """Kernels of 4, 4 and 3 with strides of 2 see 4 + 3 * 2 + 2 * 4 pixels in a line."""
    torch.manual_seed(0)
    discriminator = convolutional(monkeypatch).convolutional(28, is_published=False)[1]
    images, seen = torch.rand(1, 1, 28, 28, requires_grad=True), []
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    layers[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    discriminator(images)
    assert seen[0].shape[2:] == (4, 4)
    slopes = torch.autograd.grad(seen[0][0, :, 1, 1].float().sum(), images)[0][0, 0]
    rows, columns = slopes.nonzero().unbind(1)
    assert [int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1] == [18, 18]


def test_the_published_start_is_that_of_the_paper(monkeypatch):
    torch.manual_seed(0)
    for network in convolutional(monkeypatch).convolutional(28):
        weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
        assert weights and all(weight.std().item() == pytest.approx(0.02, rel=0.1) for weight in weights)
    example = convolutional(monkeypatch)
    generator, discriminator = example.convolutional(28)
    drawn = generator(torch.randn(3, example.NOISE_SIZE))
    assert drawn.shape == (3, 1, 28, 28) and drawn.abs().max() <= 1 and discriminator(drawn).shape == (3, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_meet_convolutions_by_themselves(channels):
    inference = GANInference(image_model(flat_generator(channels)))
    inference.run(IMAGES.expand(-1, channels, -1, -1), num_steps=2, progress=False)
    discriminator = inference.discriminator.function
    first = next(module for module in discriminator.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == channels and inference.sample(3).shape == (3, channels, 8, 8)


def test_another_number_of_channels_is_refused():
    inference = GANInference(image_model(flat_generator(3)))
    message = r"real and fake rows differ at site 'x': .* event shape \(1, 8, 8\)\), the model's .* \(3, 8, 8\)\)"
    with pytest.raises(ValueError, match=message):
        inference.run(IMAGES, num_steps=1, progress=False)
    discriminator = AutoDiscriminator(width=8)
    discriminator(IMAGES[:8])
    with pytest.raises(ValueError, match=r"was built for rows of 'x' with event shape \(1, 8, 8\), but .* \(3, 8, 8\)"):
        discriminator(IMAGES[:8].expand(-1, 3, -1, -1))


def test_a_jump_of_the_examples_generator_adds_on_one_side_what_it_subtracts_on_the_other(monkeypatch):
    dcgan = convolutional(monkeypatch)
    generator, _ = dcgan.convolutional(8, is_published=False, num_jumps=1)
    (jumps,) = [layer for layer in generator.layers if isinstance(layer, dcgan.Jumps)]
    with torch.no_grad():
        for parameter, value in zip(jumps.parameters(), (1.0, 0.0, 2.0, 0.5), strict=True):
            parameter.fill_(value)
    rows = torch.full((2, dcgan.INNER), 0.1) * torch.tensor([[1.0], [-1.0]])
    assert torch.allclose(jumps(rows), rows + torch.tensor([[2.5], [-1.5]]))
