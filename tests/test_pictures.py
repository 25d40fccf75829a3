"""Images of any form are drawn: channels, colours, ranges, labels, and a line for each class."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_gan.datasets import load_digits, load_mnist
from pyro_gan.plots import animate, plot_images, plot_neighbours


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(rows, **options):
    return np.asarray(plot_images(rows, **options).images[0].get_array())


SMALL = torch.tensor([[0.0, 0.25], [0.75, 1.0]])


@pytest.mark.parametrize("shape", [(1, 4), (1, 2, 2), (1, 1, 2, 2)])
def test_an_image_is_drawn_alike_whatever_its_shape(shape):
    np.testing.assert_array_equal(drawn(SMALL.reshape(shape)), SMALL)


@pytest.mark.parametrize("as_flat", [False, True])
def test_colours_are_drawn_as_they_are(as_flat):
    rows = torch.rand(3, 3, 4, 5)
    given = rows.flatten(1) if as_flat else rows
    picture = drawn(given, num_columns=2, **({"image_shape": (3, 4, 5)} if as_flat else {}))
    assert picture.shape == (9, 11, 3)
    np.testing.assert_allclose(picture[:4, :5], rows[0].movedim(0, -1), atol=1e-6)
    np.testing.assert_allclose(picture[5:, :5], rows[2].movedim(0, -1), atol=1e-6)
    assert (picture[4] == 1).all() and (picture[:, 5] == 1).all()  # white between coloured images


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_from_minus_1_to_1_are_drawn_like_those_from_0(channels):
    rows = torch.rand(4, channels, 6, 6)
    rows[0, 0, 0, 0] = 0.0
    np.testing.assert_allclose(drawn(2 * rows - 1), drawn(rows), atol=1e-6)


def test_a_pixel_a_little_below_0_is_paper():
    rows = torch.tensor([[-0.1, 0.5, 1.1, 1.0]])
    np.testing.assert_allclose(drawn(rows), rows.reshape(2, 2), atol=1e-6)


def test_labels_stand_above_their_images():
    images = torch.rand(5, 1, 8, 8)
    ax = plot_images(images, labels=["zero", "one", "two", "three", "four"], num_columns=3)
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    assert list(texts) == ["zero", "one", "two", "three", "four"]
    assert texts["zero"][0] < texts["one"][0] < texts["two"][0] and texts["three"][0] == texts["zero"][0]
    assert texts["zero"][1] < 0 < texts["three"][1]  # rows count downwards
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array())[:8, :8], images[0, 0], atol=1e-6)
    top = texts["three"][1] + 1
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array())[int(top) :, :8], images[3, 0], atol=1e-6)


def test_a_class_has_a_line_of_its_own():
    labels = torch.tensor([2, 0, 2, 1, 2])
    images = torch.stack([torch.full((1, 2, 2), (number + 1) / 10) for number in range(5)])
    ax = plot_images(images, labels=labels, row_per_class=True)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "1", "2"]
    lines = np.asarray(ax.images[0].get_array())[::3, ::3]
    np.testing.assert_allclose(lines, [[0.2, 0.0, 0.0], [0.4, 0.0, 0.0], [0.1, 0.3, 0.5]], atol=1e-6)
    cut = drawn(images, labels=labels, row_per_class=True, num_columns=2)
    np.testing.assert_allclose(cut[::3, ::3], lines[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (torch.zeros(4, 2, 8, 8), {}, r"rows of shape \(4, 2, 8, 8\) are images of 2 channels, but 1 \(grey\) or 3"),
        (torch.zeros(4, 8, 8, 3), {}, r"images of 8 channels.*channels seem to come last: pass rows\.movedim\(-1, 1\)"),
        (torch.zeros(4, 32), {"image_shape": (2, 4, 4)}, r"image_shape=\(2, 4, 4\) has 2 channels, but 1 \(grey\) or"),
        (torch.zeros(4, 4), {"image_shape": (0, 4)}, r"image_shape must be \(height, width\) or \(channels, height"),
        (torch.zeros(4, 5), {"image_shape": (3, 4, 5)}, r"no images of 3 channels of 4 by 5 pixels"),
        (torch.zeros(4, 4), {"labels": [1, 2]}, r"one label for each of the 4 images, but have shape \(2,\)"),
        (torch.zeros(4, 4), {"row_per_class": True}, "row_per_class=True .* there are no labels. Pass labels="),
    ],
)
def test_what_is_no_picture_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        plot_images(rows, **options)
    assert not plt.get_fignums()


def test_neighbours_of_images_with_channels_share_a_scale():
    samples, nearest = torch.rand(3, 3, 4, 4), torch.rand(3, 2, 3, 4, 4)
    nearest[0, 0, 0, 0, 0] = samples[0, 0, 0, 0] = 0.0
    colours = np.asarray(plot_neighbours(samples, nearest).images[0].get_array())
    assert colours.shape == (14, 14, 3)
    shifted = np.asarray(plot_neighbours(samples, 2 * nearest - 1).images[0].get_array())
    np.testing.assert_allclose(shifted[5:9, :4], nearest[0, 0].movedim(0, -1), atol=1e-6)
    np.testing.assert_allclose(shifted[:4, :4], (samples[0].movedim(0, -1) + 1) / 2, atol=1e-6)


def test_images_with_channels_are_animated(tmp_path):
    frames = [torch.rand(4, channels, 8, 8) for channels in (3, 3)]
    animate(frames, tmp_path / "colours.gif")
    animate([2 * frame[:, :1] - 1 for frame in frames], tmp_path / "grey.gif")
    assert all((tmp_path / name).stat().st_size > 0 for name in ("colours.gif", "grey.gif"))


def test_digits_have_a_shape_for_convolutions():
    flat, images = load_digits(), load_digits(shape="image")
    assert images.images.shape == (1797, 1, 8, 8) and images.images.dtype == torch.uint8
    assert torch.equal(images.images.flatten(1), flat.images) and torch.equal(images.labels, flat.labels)
    assert drawn(images.images[:9] / 255).shape == (26, 26)


@pytest.mark.parametrize("load", [load_digits, load_mnist])
def test_another_shape_is_refused(load):
    with pytest.raises(ValueError, match="shape must be 'flat' or 'image', but is 'square'"):
        load(shape="square")
