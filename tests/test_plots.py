import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_gan.plots import plot_history, plot_images


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def history(num_steps):
    steps = list(range(1, num_steps + 1))
    names = ("generator_loss", "discriminator_loss", "real_probability", "fake_probability")
    return {"step": steps, **{name: [0.1 * step for step in steps] for name in names}}


def test_images_stand_in_rows_with_a_pixel_between():
    images = torch.stack([torch.full((4,), 0.1 * number) for number in range(1, 4)])
    picture = plot_images(images, num_columns=2).images[0].get_array()
    expected = np.array(
        [
            [0.1, 0.1, 0.0, 0.2, 0.2],
            [0.1, 0.1, 0.0, 0.2, 0.2],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.3, 0.3, 0.0, 0.0, 0.0],
            [0.3, 0.3, 0.0, 0.0, 0.0],
        ]
    )
    np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_images_are_drawn_on_the_given_axes_and_in_any_shape():
    ax = plt.subplots()[1]
    assert plot_images(np.zeros((4, 6)), image_shape=(2, 3), ax=ax) is ax
    assert plot_images(torch.zeros(4, 2, 3, requires_grad=True)).images[0].get_array().shape == (5, 7)


@pytest.mark.parametrize("rows", [torch.zeros(4, 6), torch.zeros(4, 1, 2, 3)])
def test_rows_that_are_no_images_are_refused(rows):
    with pytest.raises(ValueError, match=r"are no images of .* pixels. Pass image_shape=\(height, width\)"):
        plot_images(rows)


def test_history_is_drawn_with_names_and_a_moving_mean():
    ax = plot_history(history(10), smoothing=4)
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(x, np.arange(4, 11))
    np.testing.assert_allclose(y, 0.1 * np.arange(2.5, 9))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["generator's loss", "discriminator's loss", "D(real)", "D(fake)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (nats)")


def test_a_single_step_is_drawn():
    assert len(plot_history(history(1)).get_lines()[0].get_xdata()) == 1


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match=r"the history is empty. Call run first"):
        plot_history(history(0))
