import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import geometric_slerp
from scipy.stats import binom
from torch.distributions import Normal

from pyro_gan.plots import (
    animate,
    densities,
    interpolate,
    plot_coverage,
    plot_density_1d,
    plot_density_2d,
    plot_history,
    plot_images,
    plot_neighbours,
    plot_ranks,
    plot_witness,
)

NAN = math.nan


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def history(num_steps, **more):
    steps = list(range(1, num_steps + 1))
    names = ("generator_loss", "discriminator_loss", "real_probability", "fake_probability")
    return {"step": steps, **{name: [0.1 * step for step in steps] for name in names}, **more}


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def right_of(ax):
    return next(other for other in ax.figure.axes if other is not ax)


def handle(ax, label):
    """The line that is drawn under a label."""
    return next(line for axes in ax.figure.axes for line in axes.get_lines() if line.get_label() == label)


def pixel(ax, x, y):
    """The colour that a person sees at a point of the axes, as red, green and blue from 0 to 255."""
    ax.figure.canvas.draw()
    picture = np.asarray(ax.figure.canvas.buffer_rgba())
    column, row = ax.transData.transform((x, y)).round().astype(int)
    return picture[len(picture) - 1 - row, column, :3].astype(int)


def refused(match, function, *args, error=ValueError, **options):
    """A clear error, before anything is drawn."""
    with pytest.raises(error, match=match):
        function(*args, **options)
    assert not plt.get_fignums()


# Images


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


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.uint8])
def test_images_of_any_type_from_0_to_1_are_drawn(kind):
    picture = plot_images(torch.tensor([[0, 1, 1, 0]]).to(kind)).images[0].get_array()
    np.testing.assert_array_equal(picture, [[0, 1], [1, 0]])


@pytest.mark.parametrize("rows", [torch.zeros(4, 6), torch.zeros(4, 1, 2, 3, 1), torch.zeros(4)])
def test_rows_that_are_no_images_are_refused(rows):
    refused(r"are no images of .* pixels. Pass image_shape=\(height, width\)", plot_images, rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(0, 4), r"rows must hold at least one number, but the shape is \(0, 4\)"),
        (torch.tensor([[0.0, NAN, 0.0, 0.0]]), "rows must hold finite numbers, but NaN or infinity is among them"),
        (torch.tensor([[0, 255, 3, 4]]), "rows are whole numbers up to 255, but expected 0 to 1. Scale them first"),
        ([["a"]], "rows must hold real numbers, but the type is <U1"),
    ],
)
def test_images_refuse(rows, message):
    refused(message, plot_images, rows)


def test_images_need_a_column():
    refused("num_columns must be a positive integer, but is 0", plot_images, torch.zeros(4, 4), num_columns=0)


def test_each_sample_stands_above_its_nearest_image():
    samples, nearest = torch.tensor([[0.1], [0.2], [0.3]]), torch.tensor([[0.4], [0.5], [0.6]])
    ax = plot_neighbours(samples, nearest)
    expected = [[0.1, 0, 0.2, 0, 0.3], [0, 0, 0, 0, 0], [0.4, 0, 0.5, 0, 0.6]]
    np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-7)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["generated", "nearest"]
    assert list(ax.get_yticks()) == [0, 2] and not len(ax.get_xticks())
    assert ax.get_lines()[0].get_ydata()[0] == 1  # the line between generated and real


def test_several_neighbours_and_the_distance_are_drawn():
    samples = np.array([[[0.0, 0.1]], [[0.2, 0.3]]])  # two images of 1 by 2 pixels, and two neighbours of each
    nearest = np.array([[[[0.4, 0.4]], [[0.5, 0.5]]], [[[0.6, 0.6]], [[0.7, 0.7]]]])
    ax = plot_neighbours(samples, nearest, [1.5, 20.25])
    picture = ax.images[0].get_array()
    np.testing.assert_allclose(
        picture[::2, [0, 1, 3, 4]], [[0, 0.1, 0.2, 0.3], [0.4] * 2 + [0.6] * 2, [0.5] * 2 + [0.7] * 2]
    )
    assert [text.get_text() for text in ax.get_yticklabels()] == ["generated", "nearest", "neighbour 2"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1.5", "20.2"]
    again = plot_neighbours(samples, nearest, torch.tensor([[1.5, 7.0], [20.25, 30.0]]), ax=plt.subplots()[1])
    assert [text.get_text() for text in again.get_xticklabels()] == ["1.5", "20.2"]
    assert list(ax.get_xticks()) == [0.5, 3.5] and ax.get_xlabel() == "distance from the nearest"
    flat = plot_neighbours(samples.reshape(2, 2), nearest.reshape(2, 2, 2), image_shape=(1, 2), ax=plt.subplots()[1])
    np.testing.assert_array_equal(flat.images[0].get_array(), picture)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros((3, 4)), np.zeros((2, 4))),
            r"neighbours have shape \(2, 4\), but samples \(3, 4\): expected the samples'",
        ),
        ((np.zeros((3, 4)), np.zeros((3, 2, 9))), r"neighbours have shape \(3, 2, 9\), but samples \(3, 4\)"),
        ((np.zeros((3, 5)), np.zeros((3, 5))), r"samples of shape \(3, 5\) are no images of 2 by 2 pixels"),
        ((np.zeros((3, 4)), np.full((3, 4), NAN)), "neighbours must hold finite numbers"),
        ((np.zeros((3, 4)), np.full((3, 4), 7)), "neighbours are whole numbers up to 7"),
        ((np.zeros((3, 4)), np.zeros((3, 4)), [1.0]), "distances must hold 3 numbers, but holds 1"),
    ],
)
def test_neighbours_refuse(arguments, message):
    refused(message, plot_neighbours, *arguments)


# History


def test_history_is_drawn_with_names_and_a_moving_mean():
    ax = plot_history(history(10), smoothing=4)
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(x, np.arange(4, 11))
    np.testing.assert_allclose(y, 0.1 * np.arange(2.5, 9))
    assert labels(ax) == ["generator's loss", "discriminator's loss", "D(real)", "D(fake)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (nats)")
    assert right_of(ax).get_ylabel() == "mean probability of real"


def test_a_single_step_is_drawn():
    assert len(plot_history(history(1)).get_lines()[0].get_xdata()) == 1


@pytest.mark.parametrize("names", [(), ("parzen",), ("parzen", "distance")])
def test_the_legend_stands_above_the_curves_which_differ_in_style(names):
    ax = plot_history(history(10, parzen=[1.0] * 10, distance=[2.0] * 10), names=names)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    lines = [line for axes in ax.figure.axes for line in axes.get_lines()]
    assert len({line.get_color() for line in lines}) == len(lines) == 4 + len(names)
    assert len({line.get_linestyle() for line in right_of(ax).get_lines()} | {"-"}) == 3


def test_more_columns_are_drawn_as_markers_where_they_are_finite():
    ax = plot_history(
        history(5, parzen=[NAN, 7.0, NAN, 9.0, NAN], distance=[None, None, 3.0, None, NAN]), names=("parzen",)
    )
    assert labels(ax)[4:] == ["parzen"]
    line = handle(ax, "parzen")
    np.testing.assert_array_equal(line.get_data(), [[2, 4], [7, 9]])
    assert line.get_marker() == "o" and line.axes.get_ylabel() == "parzen"
    assert line.axes.get_ylim()[1] < 10  # an axis of its own
    both = plot_history(
        history(5, parzen=[1.0] * 5, distance=[None, None, 3.0, None, NAN]), names=("parzen", "distance")
    )
    np.testing.assert_array_equal(handle(both, "distance").get_data(), [[3], [3]])
    spines = [handle(both, name).axes.spines.right.get_position()[1] for name in ("parzen", "distance")]
    assert spines[0] < spines[1]


def test_a_column_that_was_never_recorded_is_drawn_empty():
    assert not len(handle(plot_history(history(2, parzen=[NAN, NAN]), names="parzen"), "parzen").get_xdata())


@pytest.mark.parametrize(
    ("record", "options", "message"),
    [
        (history(0), {}, r"the history is empty. Call run first"),
        (history(3), {"names": ("parzen",)}, "the history has no 'parzen'. It has 'step', 'generator_loss'"),
        ({"step": [1]}, {}, "the history has no 'generator_loss'. It has 'step'"),
        (history(3, parzen=[1.0]), {"names": ("parzen",)}, "the history has 3 steps, but 1 numbers of 'parzen'"),
        (history(3), {"smoothing": 0}, "smoothing must be a positive integer, but is 0"),
    ],
)
def test_history_refuses(record, options, message):
    refused(message, plot_history, record, **options)


# One dimension


def test_both_densities_are_drawn_as_histograms():
    data, samples = torch.randn(1000), 1 + 2 * torch.randn(500, 1)
    ax = plot_density_1d(data, samples, num_bins=20, limits=(-2, 3))
    for patch, rows, label in zip(ax.patches, (data, samples), ("data", "model"), strict=True):
        heights, edges, _ = patch.get_data()
        counts, expected_edges = np.histogram(rows, 20, (-2, 3))
        np.testing.assert_allclose(edges, expected_edges)
        np.testing.assert_allclose(heights * 0.25 * len(rows), counts)  # the area is the fraction of rows inside
        assert label in patch.get_label()
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xlim()) == ("x", "density", (-2, 3))
    assert labels(ax) == [r"$p_\mathrm{data}$", r"$p_\mathrm{model}$"] and len(ax.figure.axes) == 1


def test_all_rows_are_seen_by_default_and_constant_ones_too():
    assert plot_density_1d([0.0, 10.0], [20.0]).get_xlim() == (-1, 21)
    assert plot_density_1d([3.0], [3.0]).get_xlim() == (2.5, 3.5)
    assert sum(patch.get_data().values.sum() for patch in plot_density_1d([1e20], [1e20]).patches) > 0


def test_the_best_discriminator_of_two_gaussians_is_drawn():
    real, fake = Normal(4.0, 0.5), Normal(3.0, 1.0)
    given = plt.subplots()[1]
    ax = plot_density_1d(
        real.sample((100,)), fake.sample((100,)), lambda x: real.log_prob(x) - fake.log_prob(x), limits=(0, 7), ax=given
    )
    assert ax is given and labels(ax)[2] == "D(x)"
    x, y = handle(ax, "D(x)").get_data()
    densities = [np.exp(-((x - loc) ** 2) / (2 * scale**2)) / scale for loc, scale in ((4, 0.5), (3, 1))]
    np.testing.assert_allclose(y, densities[0] / (densities[0] + densities[1]), atol=1e-5)
    right = right_of(ax)
    assert list(right.get_lines()[0].get_ydata()) == [0.5, 0.5]
    assert right.get_ylabel() == "D(x)" and right.get_ylim()[0] == 0 and 1 <= right.get_ylim()[1] < 1.1


@pytest.mark.parametrize(
    ("data", "shape", "kind"),
    [
        (torch.randn(9, dtype=torch.float64), (50,), torch.float64),
        (torch.randn(9, 1, requires_grad=True), (50, 1), torch.float32),
        (np.random.default_rng(0).normal(size=9), (50,), torch.float32),
        (torch.arange(9), (50,), torch.float32),
    ],
)
def test_the_critic_is_given_points_like_the_data(data, shape, kind):
    weight = torch.ones((), requires_grad=True)
    seen = []

    def log_ratio(x):
        seen.append((tuple(x.shape), x.dtype))
        return weight * x

    ax = plot_density_1d(data, data, log_ratio, num_points=50)
    assert seen == [(shape, kind)]
    x, y = handle(ax, "D(x)").get_data()
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x)), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], [1.0]), {}, r"data must hold at least one number, but the shape is \(0,\)"),
        (([1.0], [NAN]), {}, "samples must hold finite numbers"),
        (
            (torch.zeros(3, 2), [1.0]),
            {},
            r"data must have shape \(num_rows,\) or \(num_rows, 1\), but the shape is \(3, 2\)",
        ),
        ((1.0, [1.0]), {}, r"data must have shape \(num_rows,\) or \(num_rows, 1\), but the shape is \(\)"),
        (([1.0], [2.0]), {"limits": (3, 1)}, r"limits must be two finite numbers, the smaller first, but are \(3, 1\)"),
        (([1.0], [2.0]), {"limits": (0, math.inf)}, "limits must be two finite numbers"),
        (([1.0], [2.0]), {"limits": (1, 2, 3)}, "limits must be two finite numbers"),
        (([1.0], [2.0]), {"num_bins": 0}, "num_bins must be a positive integer"),
        (
            ([1.0], [2.0], lambda x: x[:5]),
            {},
            r"log_ratio must return one number a point, 400 in all, but returns shape \(5,\)",
        ),
        (([1.0], [2.0], lambda x: x * NAN), {}, "log_ratio returns NaN. Check the discriminator's parameters"),
    ],
)
def test_density_1d_refuses(arguments, options, message):
    refused(message, plot_density_1d, *arguments, **options)


def test_a_critic_that_is_no_function_is_refused():
    refused("log_ratio must be a function of points, but is 3", plot_density_1d, [1.0], [2.0], 3, error=TypeError)


def witness(ax):
    line = next(line for line in right_of(ax).get_lines() if "witness" in line.get_label())
    return line.get_data()


def test_the_witness_equals_a_naive_double_loop():
    x, y = torch.randn(7), 1 + torch.randn(5, 1)
    ax = plot_witness(x, y, bandwidth=0.7, num_points=11, labels=("real", "fake"))
    points, values = witness(ax)
    for t, value in zip(points, values, strict=True):
        kernels = [[math.exp(-((t - s) ** 2) / (2 * 0.7**2)) for s in rows.ravel().tolist()] for rows in (x, y)]
        assert value == pytest.approx(sum(kernels[0]) / 7 - sum(kernels[1]) / 5, abs=1e-6)
    assert labels(ax) == ["real", "fake", r"witness ($\sigma$ = 0.7)"]
    assert len(ax.patches) == 2 and right_of(ax).get_ylabel() == "witness f(t)"
    low, high = right_of(ax).get_ylim()
    assert -low == high > np.abs(values).max()


def test_the_witness_means_differ_by_the_squared_mmd():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=40), generator.laplace(size=30)
    points, values = witness(plot_witness(x, y, bandwidth=0.5, num_points=4001))

    def mean(a, b):
        return np.exp(-((a[:, None] - b) ** 2) / 0.5).mean()

    squared_mmd = mean(x, x) - 2 * mean(x, y) + mean(y, y)
    means = [np.interp(rows, points, values).mean() for rows in (x, y)]
    assert means[0] - means[1] == pytest.approx(squared_mmd, abs=1e-5)


def test_the_default_bandwidth_is_the_median_distance():
    ax = plot_witness([0.0, 1.0], [3.0])  # distances 1, 2 and 3
    assert labels(ax)[2] == r"witness ($\sigma$ = 2)"
    assert labels(plot_witness([0.0] * 4, [2.0]))[2] == r"witness ($\sigma$ = 0.8)"  # median 0, mean 4 * 2 / 10
    assert labels(plot_witness([5.0], [5.0]))[2] == r"witness ($\sigma$ = 1)"
    rows = torch.randn(5000)  # the distance of two standard normal variables is below 0.954 half of the time
    assert float(labels(plot_witness(rows[:2000], rows[2000:]))[2][:-1].split()[-1]) == pytest.approx(0.954, abs=0.03)


def test_the_witness_does_not_depend_on_its_chunks(monkeypatch):
    rows = torch.randn(100), torch.randn(90)
    expected = witness(plot_witness(*rows))[1]
    monkeypatch.setattr(densities, "CHUNK_ENTRIES", 7 * 400)
    np.testing.assert_allclose(witness(plot_witness(*rows))[1], expected, atol=1e-12)


def test_equal_samples_have_no_witness():
    ax = plot_witness([1.0, 2.0], [2.0, 1.0])
    np.testing.assert_array_equal(witness(ax)[1], 0)
    assert right_of(ax).get_ylim() == (-1, 1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], [1.0]), {}, "x must hold at least one number"),
        (([1.0], [[1.0, 2.0]]), {}, r"y must have shape \(num_rows,\) or \(num_rows, 1\), but the shape is \(1, 2\)"),
        (([1.0, 1.0], [1.0, 2.0]), {"bandwidth": 0.0}, "bandwidth must be a positive number, but is 0.0"),
        (([1.0], [math.inf]), {}, "y must hold finite numbers"),
    ],
)
def test_witness_refuses(arguments, options, message):
    refused(message, plot_witness, *arguments, **options)


# Two dimensions


def test_the_plane_shows_counts_of_data_and_all_samples():
    data, samples = torch.randn(300, 2), 3 + torch.randn(20, 2)
    ax = plot_density_2d(data, samples, num_bins=10)
    assert ax.collections[0].get_array().sum() == 300
    np.testing.assert_allclose(np.stack(ax.get_lines()[0].get_data(), 1), samples)
    assert labels(ax) == ["data", "samples"] and (ax.get_xlabel(), ax.get_ylabel()) == ("$x_1$", "$x_2$")
    both = torch.cat([data, samples]).numpy()
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    np.testing.assert_allclose(low, both.min(0) - np.ptp(both, 0) / 20, rtol=1e-6)
    np.testing.assert_allclose(high, both.max(0) + np.ptp(both, 0) / 20, rtol=1e-6)


def test_a_single_row_of_data_is_seen_on_paper():
    ax = plot_density_2d([[0.0, 0.0]] * 50 + [[1.0, 1.0]], [[0.5, 0.0]], num_bins=5)
    assert pixel(ax, 0.5, 1.0).sum() > pixel(ax, 1.0, 1.0).sum() > pixel(ax, 0.0, 0.0).sum()


def test_the_field_is_blue_where_the_data_are_denser_and_red_where_the_model_is():
    seen = []

    def log_ratio(x):
        seen.append(x)
        return 2 * x[:, 0]

    rows = torch.linspace(-1, 1, 401, dtype=torch.float64)[:, None].expand(401, 2)
    box = ((-1.0, 1.0), (-3.0, 5.0))
    ax = plot_density_2d(rows, rows[:1], log_ratio, limits=box, num_points=201)
    assert seen[0].shape == (201**2, 2) and seen[0].dtype == torch.float64
    assert (ax.get_xlim(), ax.get_ylim()) == box
    for height in (-2.0, 4.0):  # red, green, blue
        assert pixel(ax, -0.9, height)[0] > pixel(ax, -0.9, height)[2] + 50
        assert pixel(ax, 0.9, height)[2] > pixel(ax, 0.9, height)[0] + 50
    field, bar = ax.collections[0], ax.figure.axes[1]
    assert field.levels[0] == -field.levels[-1] and 0 in field.levels
    assert field.levels[-1] == pytest.approx(1.9, abs=0.01)  # 95 % of |2 x| are below
    np.testing.assert_allclose(field.cmap(field.norm(0.0))[:3], 0.97, atol=0.01)
    assert "p_\\mathrm{data}" in bar.get_ylabel() and bar.get_ylabel().endswith("in nats")


def test_a_field_of_zeros_or_with_infinity_is_drawn():
    rows = torch.randn(50, 2)
    assert plot_density_2d(rows, rows, lambda x: 0 * x[:, :1]).collections[0].levels[-1] == 1
    ax = plot_density_2d(rows, rows, lambda x: torch.where(x[:, 0] < 0, -math.inf, 1.0))
    assert ax.collections[0].levels[-1] == 1
    assert pixel(ax, ax.get_xlim()[0] + 0.01, 0.0)[0] > 90 > pixel(ax, ax.get_xlim()[0] + 0.01, 0.0)[2]
    assert plot_density_2d(rows, rows, lambda x: torch.full((len(x),), math.inf)).collections[0].levels[-1] == 1


def test_over_a_field_the_data_are_lines_around_their_peak():
    data = torch.tensor([2.0, -1.0]) + 0.3 * torch.randn(2000, 2)
    ax = plot_density_2d(data, data[:3], lambda x: x[:, 0], limits=((0, 4), (-3, 1)))
    lines = ax.collections[1]
    assert len(lines.levels) == 3
    outer = lines.get_paths()[0].vertices
    np.testing.assert_allclose(outer.mean(0), [2, -1], atol=0.1)
    radii = np.linalg.norm(outer - [2, -1], axis=1)  # a tenth of the peak: 2.15 widths of the smoothed Gaussian
    assert radii.mean() == pytest.approx(0.3 * 2.15, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(3), torch.zeros(3, 2)), {}, r"data must have shape \(num_rows, 2\), but the shape is \(3,\)"),
        ((torch.zeros(3, 2), torch.zeros(3, 3)), {}, r"samples must have shape \(num_rows, 2\)"),
        ((torch.zeros(0, 2), torch.zeros(3, 2)), {}, "data must hold at least one number"),
        ((torch.zeros(3, 2), torch.full((3, 2), NAN)), {}, "samples must hold finite numbers"),
        (
            (torch.zeros(3, 2), torch.zeros(3, 2)),
            {"limits": (0, 1, 0, 1)},
            r"limits must be \(\(left, right\), \(bottom, top\)\)",
        ),
        ((torch.zeros(3, 2), torch.zeros(3, 2)), {"limits": ((0, 1), (1, 0))}, "limits must be two finite numbers"),
        ((torch.zeros(3, 2), torch.zeros(3, 2)), {"limits": ((1, 2), (1, 2))}, "limits hold no row of the data"),
        (
            (torch.zeros(3, 2), torch.zeros(3, 2), lambda x: x),
            {},
            "log_ratio must return one number a point, 10000 in all",
        ),
        ((torch.zeros(3, 2), torch.zeros(3, 2), lambda x: x[:, 0] * NAN), {}, "log_ratio returns NaN"),
        ((torch.zeros(3, 2), torch.zeros(3, 2)), {"num_points": 1}, "num_points must be at least 2, but is 1"),
    ],
)
def test_density_2d_refuses(arguments, options, message):
    refused(message, plot_density_2d, *arguments, **options)


# Interpolation


def test_spherical_interpolation_equals_scipys():
    first, second = torch.nn.functional.normalize(torch.randn(2, 5, dtype=torch.float64), dim=1)
    expected = geometric_slerp(first.numpy(), second.numpy(), np.linspace(0, 1, 9))
    np.testing.assert_allclose(interpolate(first, second, 9, kind="spherical"), expected, atol=1e-12)


def test_interpolation_keeps_its_ends_and_linear_is_straight():
    first, second = torch.randn(2, 3, 4)
    for kind in ("linear", "spherical"):
        noise = interpolate(first, second, 5, kind=kind)
        assert noise.shape == (3, 5, 4) and noise.dtype == torch.float32
        assert torch.equal(noise[:, 0], first) and torch.equal(noise[:, -1], second)
    straight = interpolate(first, second, 5)
    torch.testing.assert_close(straight[:, 1:] - straight[:, :-1], ((second - first) / 4)[:, None].expand(3, 4, 4))


def test_spherical_interpolation_keeps_the_length_and_linear_does_not():
    first, second = 10 * torch.nn.functional.normalize(torch.randn(2, 100), dim=1)
    torch.testing.assert_close(interpolate(first, second, 7, kind="spherical").norm(dim=1), torch.full((7,), 10.0))
    assert interpolate(first, second, 7)[3].norm() < 8


def test_parallel_vectors_are_interpolated_along_their_line():
    first = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    torch.testing.assert_close(interpolate(first, 3 * first, 5, "spherical"), interpolate(first, 3 * first, 5))
    near = first + torch.tensor([1e-9, 0.0, 0.0], dtype=torch.float64)  # acos would see no angle here
    torch.testing.assert_close(
        interpolate(first, near, 5, "spherical"), interpolate(first, near, 5), rtol=0, atol=1e-15
    )


def test_zero_vectors_are_interpolated_linearly_only():
    zero, one = torch.zeros(2), torch.ones(2)
    torch.testing.assert_close(interpolate(zero, one, 3), torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]))
    for pair in ((zero, one), (one, zero)):
        refused(
            "a zero vector has no direction to turn from or to. Pass kind='linear'", interpolate, *pair, 3, "spherical"
        )


def test_opposite_vectors_are_interpolated_linearly_only():
    first = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    second = torch.tensor([[0.0, 1.0], [-2.0, -4.0]])
    assert interpolate(first, second, 3).shape == (2, 3, 2)
    refused("between opposite vectors no way is the shortest", interpolate, first, second, 3, "spherical")
    almost = torch.tensor([[0.0, 1.0], [-2.0, -3.9]])
    assert interpolate(first, almost, 3, "spherical")[1, 1].norm() > 1


def test_interpolation_takes_arrays_and_images_of_it_are_drawn_in_rows():
    noise = interpolate(np.zeros((3, 4)), np.ones((3, 4)), 5)
    assert noise.dtype == torch.float64
    picture = plot_images(noise.flatten(0, -2), num_columns=5).images[0].get_array()
    np.testing.assert_allclose(picture[0, ::3], [0, 0.25, 0.5, 0.75, 1])
    assert not interpolate(torch.ones(4, requires_grad=True), torch.zeros(4), 2).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), torch.zeros(4), 5), r"first has shape \(3,\) and second \(4,\): expected the same"),
        ((torch.zeros(2, 3), torch.zeros(1, 3), 5), r"first has shape \(2, 3\) and second \(1, 3\)"),
        ((torch.zeros(3), torch.zeros(3), 5, "cubic"), "kind must be 'linear' or 'spherical', but is 'cubic'"),
        ((torch.zeros(3), torch.zeros(3), 1), "num_points must be at least 2, but is 1"),
        ((torch.zeros(3), torch.full((3,), NAN), 5), "second holds NaN or infinity. Draw other noise"),
        (
            (torch.zeros(3).int(), torch.zeros(3), 5),
            "first is of type torch.int32, but expected floating point. Pass first.f",
        ),
        ((torch.zeros(0), torch.zeros(0), 5), r"first has shape \(0,\) and second \(0,\)"),
        ((torch.zeros(()), torch.zeros(()), 5), r"expected the same \(\*, noise_size\)"),
        ((torch.zeros(3), torch.zeros(3, device="meta"), 5), "first is on cpu and second on meta: expected one device"),
    ],
)
def test_interpolation_refuses(arguments, message):
    refused(message, interpolate, *arguments)


# Calibration


def bars(ax):
    """The bars of the histogram: left edges, widths, heights and colours."""
    patches = ax.containers[0].patches
    return ([getattr(bar, f"get_{name}")() for bar in patches] for name in ("x", "width", "height", "facecolor"))


def test_ranks_are_counted_and_compared_with_the_binomial_band():
    ranks = np.repeat(np.arange(10), [30, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    ax = plot_ranks(torch.from_numpy(ranks), 9, num_bins=5, confidence=0.9)
    left, widths, heights, colors = bars(ax)
    assert left == [-0.5, 1.5, 3.5, 5.5, 7.5] and widths == [2] * 5 and heights == [40, 20, 20, 20, 20]
    assert colors[0] != colors[1] and len(set(colors)) == 2  # only the first bar is outside the band
    low, high = binom.interval(0.9, 120, 0.2)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (low, high)
    expected = next(patch for patch in ax.patches if patch.get_label() == "expected")
    np.testing.assert_allclose(expected.get_data().values, 24)
    assert labels(ax) == ["expected", "90 % band"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rank among 9 draws", "simulations")
    assert ax.get_xlim() == (-0.5, 9.5) and ax.get_ylim()[0] == 0


def test_bars_of_unequal_width_expect_unequally_many():
    ax = plot_ranks(np.arange(5).repeat(20), 4, num_bins=2)
    left, widths, heights, colors = bars(ax)
    assert left == [-0.5, 1.5] and widths == [2, 3] and heights == [40, 60]
    assert len(set(colors)) == 1
    np.testing.assert_allclose(next(p for p in ax.patches if p.get_label() == "expected").get_data().values, [40, 60])


@pytest.mark.parametrize(
    ("num_simulations", "num_draws", "num_bins"),
    [
        (1000, 99, 20),  # at most 20, which divide 100 ranks
        (1000, 100, 20),  # no number above 10 divides 101 ranks
        (1000, 63, 16),  # 16 divide 64 ranks
        (200, 99, 10),  # twenty simulations a bar
        (5, 99, 2),
        (1000, 3, 4),  # a bar a rank
    ],
)
def test_the_number_of_bars_follows_from_that_of_simulations_and_draws(num_simulations, num_draws, num_bins):
    ranks = np.arange(num_simulations) % (num_draws + 1)
    assert len(plot_ranks(ranks, num_draws).containers[0]) == num_bins


@pytest.mark.parametrize(
    ("scale", "are_outside"), [(1.0, [False, False, False]), (0.5, [True, True, True]), (2.0, [True, True, True])]
)
def test_ranks_of_wrong_posteriors_leave_the_band_and_those_of_exact_ones_do_not(scale, are_outside):
    truth, draws = torch.randn(1000, 1), torch.randn(1000, 99)
    *_, heights, colors = bars(plot_ranks((scale * draws < truth).sum(1), 99))
    low, high = binom.interval(0.99, 1000, 0.05)
    chosen = [0, 10, 19]  # the ends and the middle
    assert [not low <= heights[number] <= high for number in chosen] == are_outside
    assert [colors[number][0] > colors[number][2] for number in chosen] == are_outside  # red, not blue
    assert (heights[0] > heights[10]) == (scale < 1) or scale == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 9), {}, "ranks must hold at least one number"),
        (
            (np.zeros((5, 2)), 9),
            {},
            r"ranks must have shape \(num_rows,\) or \(num_rows, 1\), but the shape is \(5, 2\)",
        ),
        (([0, 10], 9), {}, "ranks must be whole numbers from 0 to num_draws = 9, but they reach from 0 to 10"),
        (([-1, 1], 9), {}, "but they reach from -1 to 1"),
        (([0.5, 1], 9), {}, "but they reach from 0.5 to 1 with fractions"),
        (([0, NAN], 9), {}, "ranks must hold finite numbers"),
        (([0, 1], 0), {}, "num_draws must be a positive integer"),
        (([0, 1], 4), {"num_bins": 6}, "num_bins must be at most the number of ranks, 5, but is 6"),
        (([0, 1], 4), {"num_bins": 0}, "num_bins must be a positive integer"),
        (([0, 1], 4), {"confidence": 1.0}, "confidence must lie between 0 and 1, but is 1.0"),
    ],
)
def test_ranks_refuse(arguments, options, message):
    refused(message, plot_ranks, *arguments, **options)


def test_coverage_is_drawn_against_level_with_diagonal_and_band():
    ax = plot_coverage([0.5, 0.1, 0.9], [0.4, 0.1, 0.8], 200)
    np.testing.assert_allclose(handle(ax, "coverage").get_data(), [[0.1, 0.5, 0.9], [0.1, 0.4, 0.8]])
    np.testing.assert_allclose(handle(ax, "calibrated").get_data(), [[0, 1], [0, 1]])
    band = ax.collections[0].get_paths()[0].vertices
    heights = band[np.isclose(band[:, 0], 0.5), 1]
    np.testing.assert_allclose([heights.min(), heights.max()], np.array(binom.interval(0.99, 200, 0.5)) / 200)
    assert labels(ax) == ["calibrated", "99 % band of 200 simulations", "coverage"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("credibility level", "expected coverage", 1)
    sides = {text.get_text(): text.get_position() for text in ax.texts}
    assert sides["under-confident"][1] > sides["under-confident"][0]
    assert sides["over-confident"][1] < sides["over-confident"][0]


def test_several_coverages_are_distinguishable_and_need_no_band():
    ax = plot_coverage([0.2, 0.8], {"narrow": torch.tensor([0.1, 0.6]), "wide": np.array([0.4, 0.9])})
    assert labels(ax) == ["calibrated", "narrow", "wide"] and not ax.collections
    styles = [(handle(ax, name).get_color(), handle(ax, name).get_marker()) for name in ("narrow", "wide")]
    assert styles[0][0] != styles[1][0] and styles[0][1] != styles[1][1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0.5], [0.4, 0.3]), {}, "coverage 'coverage' must hold 1 numbers, but holds 2"),
        (([0.5], {"a": [1.4]}), {}, "coverage 'a' must lie between 0 and 1, but reach from 1.4 to 1.4"),
        (([50, 90], [0.4, 0.3]), {}, "levels must lie between 0 and 1, but reach from 50 to 90"),
        (([], []), {}, "levels must hold at least one number"),
        (([0.5], {}), {}, "coverage must hold at least one line, but is empty"),
        (([0.5], [NAN]), {}, "coverage 'coverage' must hold finite numbers"),
        (([0.5], [0.5], 0), {}, "num_simulations must be a positive integer"),
        (([0.5], [0.5]), {"confidence": 0}, "confidence must lie between 0 and 1, but is 0"),
    ],
)
def test_coverage_refuses(arguments, options, message):
    refused(message, plot_coverage, *arguments, **options)


# Animation


def frames_of(path):
    """The frames of a GIF as arrays of red, green and blue, their milliseconds, and how often it runs."""
    with Image.open(path) as gif:
        pictures, durations = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
            durations.append(gif.info["duration"])
        return pictures, durations, gif.info["loop"]


def test_images_are_animated(tmp_path):
    frames = [torch.full((4, 9), ink) for ink in (0.2, 0.5, 1.0)]
    path = animate(frames, tmp_path / "images.gif", frames_per_second=10)
    assert path == tmp_path / "images.gif" and not plt.get_fignums()
    pictures, durations, loop = frames_of(path)
    assert durations == [100, 100, 100] and loop == 0
    for picture, ink in zip(pictures, (0.2, 0.5, 1.0), strict=True):
        assert picture.shape == (400, 400, 3)
        np.testing.assert_allclose(picture[100, 100], 255 * (1 - ink), atol=4)
        assert (picture[:25] == 255).all()  # no text above


def test_points_are_animated_within_fixed_limits_over_the_data(tmp_path):
    frames = [torch.tensor([[x, 0.0]]) for x in (-1.0, 0.0, 1.0)]
    path = animate(frames, str(tmp_path / "points.gif"), steps=[1, 10, 1000], data=[[0.5, 1.0], [0.5, -1.0]])
    pictures, _, _ = frames_of(path)
    assert len(pictures) == 3
    columns = []
    for picture in pictures:
        gold = (picture[..., 0] > 200) & (picture[..., 2] < 80)
        columns.append(np.nonzero(gold)[1].mean())
        inside = picture[40:340, 70:380]
        assert ((abs(inside - 211) < 12).all(-1)).any()  # the data, in light grey
        assert (picture[:30].min(-1) < 100).any()  # the step, above
    assert columns[0] + 50 < columns[1] < columns[2] - 50
    assert columns[2] - columns[1] == pytest.approx(columns[1] - columns[0], abs=2)
    titles = [picture[:30] for picture in pictures]
    assert (titles[0] != titles[1]).any() and (titles[1] != titles[2]).any()


def test_limits_and_columns_of_frames_can_be_given(tmp_path):
    near, _, _ = frames_of(animate([[[0.0, 0.0]]], tmp_path / "near.gif", limits=((-1, 1), (0, 8))))
    gold = np.nonzero((near[0][..., 0] > 200) & (near[0][..., 2] < 80))
    assert gold[0].mean() > 340 and 200 < gold[1].mean() < 240  # at the lower edge, in the middle
    flat, _, _ = frames_of(animate([np.ones((2, 2))], tmp_path / "flat.gif", image_shape=(1, 2), num_columns=1))
    tall = np.nonzero(flat[0][..., 0] < 128)
    assert np.ptp(tall[0]) > 1.3 * np.ptp(tall[1])  # two pixels wide, three high with the gap


def test_equal_frames_become_one_that_stands_longer(tmp_path):
    paper, ink = np.zeros((1, 4)), np.ones((1, 4))
    pictures, durations, _ = frames_of(animate([paper, paper, ink], tmp_path / "equal.gif", frames_per_second=5))
    assert len(pictures) == 2 and durations == [400, 200]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "frames must hold at least one array of samples, but are empty"),
        ([torch.zeros(3, 4), torch.zeros(3, 9)], {}, r"frames\[1\] has shape \(3, 9\) and frames\[0\] \(3, 4\)"),
        ([torch.zeros(3, 5)], {}, r"frames\[0\] of shape \(3, 5\) are no images of 2 by 2 pixels"),
        ([torch.zeros(3, 4), torch.full((3, 4), NAN)], {}, r"frames\[1\] must hold finite numbers"),
        ([torch.zeros(3, 2)], {"steps": [1, 2]}, "expected a step for each frame, but there are 1 frames and 2 steps"),
        (
            [torch.zeros(3, 4)],
            {"data": torch.zeros(3, 2)},
            r"data and limits are for points .* but frames have \(3, 4\)",
        ),
        ([torch.zeros(3, 2)], {"data": torch.zeros(3, 4)}, r"data must have shape \(num_rows, 2\)"),
        ([torch.zeros(3, 2)], {"limits": (0, 1)}, r"limits must be \(\(left, right\), \(bottom, top\)\)"),
        ([torch.zeros(3, 2)], {"frames_per_second": 0}, "frames_per_second must be a positive integer, but is 0"),
        ([torch.zeros(3, 4)], {"num_columns": 0}, "num_columns must be a positive integer, but is 0"),
    ],
)
def test_animation_refuses(tmp_path, frames, options, message):
    refused(message, animate, frames, tmp_path / "film.gif", **options)
    assert not list(tmp_path.iterdir())


def test_animation_refuses_other_files_and_folders_that_are_missing(tmp_path):
    refused("path must end in .gif, but is 'film.mp4'", animate, [torch.zeros(3, 4)], "film.mp4")
    refused("missing", animate, [torch.zeros(3, 4)], tmp_path / "missing" / "film.gif", error=FileNotFoundError)
