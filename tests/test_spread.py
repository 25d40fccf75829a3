"""How the numbers of a feature become coordinates: units, outliers, long tails, labels, what is an image."""

import math

import pyro
import pytest
import torch
from torch.distributions import StudentT, constraints

from pyro_gan import AutoDiscriminator, GANInference, Standardized
from pyro_gan.auto.coordinates import Coordinates, looks_like_images
from pyro_gan.auto.spread import REACH, crowded, numbers_at, plain_spread, spread_of

DOUBLE = {"dtype": torch.float64}


def coordinates_of(rows, support=constraints.real, **options):
    return Coordinates("x", support, rows, torch.float64, **options)


def mixed_amounts(num_rows=4096):
    """Nothing for two thirds, else amounts of widely differing size."""
    amounts = (torch.randint(4, (num_rows,)) + 0.5 * torch.randn(num_rows, **DOUBLE)).exp()
    return torch.where(torch.rand(num_rows) < 0.65, 0.0, amounts)


LONG_TAILS = {
    "Cauchy": lambda: StudentT(torch.tensor(1.0, **DOUBLE)).sample((4096,)),
    "log-normal": lambda: (2 * torch.randn(4096, **DOUBLE)).exp(),
    "counts": lambda: torch.poisson((2 + 3 * torch.randn(4096, **DOUBLE)).exp()),
    "amounts": mixed_amounts,
    "bursts": lambda: 1000 + 350 * torch.randn(4096, **DOUBLE) * torch.where(torch.rand(4096) < 0.02, 100.0, 1.0),
    "losses": lambda: -(2 * torch.randn(4096, **DOUBLE)).exp(),
}
SHORT_TAILS = {
    "normal": lambda: torch.randn(4096, **DOUBLE),
    "uniform": lambda: torch.rand(4096, **DOUBLE),
    "exponential": lambda: torch.rand(4096, **DOUBLE).log().neg(),
    "modes": lambda: torch.randint(5, (4096,)) - 2 + 0.02 * torch.randn(4096, **DOUBLE),
    "two numbers": lambda: (torch.rand(4096) < 0.02).double(),
    "few numbers": lambda: torch.tensor([0.0] * 4000 + [1.0, 2.0, 1000.0] * 32, **DOUBLE),
}


@pytest.mark.parametrize("kind", LONG_TAILS)
def test_features_with_long_tails_are_bent_and_have_moderate_coordinates(kind):
    torch.manual_seed(0)
    rows = LONG_TAILS[kind]()
    coordinates = coordinates_of(rows)
    assert coordinates.reach != REACH
    assert "long tails bent in 1 of 1" in repr(coordinates)
    found = coordinates(rows)
    assert found.mean().abs() < 0.1 and 0.9 < found.std() < 1.3
    assert found.abs().max() < 12
    order = rows.argsort()
    assert (found[order].diff()[rows[order].diff() > 0] > 0).all()


@pytest.mark.parametrize("kind", SHORT_TAILS)
def test_features_with_short_tails_or_few_numbers_are_not_bent(kind):
    torch.manual_seed(0)
    assert coordinates_of(SHORT_TAILS[kind]()).reach == REACH


@pytest.mark.parametrize("kind", ["log-normal", "counts", "amounts"])
def test_both_ends_of_what_begins_at_an_end_can_be_told_apart(kind):
    """The smallest numbers from each other, and the largest; of which a line would leave the one or the other."""
    torch.manual_seed(0)
    rows = LONG_TAILS[kind]()
    coordinates = coordinates_of(rows)
    positive = rows[rows > 0]
    low, high = positive.quantile(0.05), positive.quantile(0.95)
    apart = [coordinates(3 * value) - coordinates(value) for value in (low, high)]
    assert all(difference > 0.1 for difference in apart)


@pytest.mark.parametrize("kind", [*LONG_TAILS, *SHORT_TAILS])
@pytest.mark.parametrize("unit", [1000.0, 1e-6, -1.0])
def test_the_unit_of_a_feature_changes_no_coordinate(kind, unit):
    torch.manual_seed(0)
    rows = {**LONG_TAILS, **SHORT_TAILS}[kind]()
    before, after = coordinates_of(rows)(rows), coordinates_of(unit * rows)(unit * rows)
    torch.testing.assert_close(before, math.copysign(1, unit) * after, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [*LONG_TAILS, *SHORT_TAILS])
def test_a_guide_draws_the_numbers_that_have_the_coordinates(kind):
    """Where a feature is bent; the others' coordinates are drawn along the line that the inverse is near 0."""
    torch.manual_seed(0)
    rows = {**LONG_TAILS, **SHORT_TAILS}[kind]()
    coordinates = coordinates_of(rows)
    seen = coordinates(rows)
    line = REACH * torch.sinh(seen / REACH)
    torch.testing.assert_close(coordinates.to_support(seen if kind in LONG_TAILS else line), rows)


def test_an_outlier_does_not_set_the_scale():
    torch.manual_seed(0)
    rows = torch.randn(1000, 2, **DOUBLE)
    rows[0, 0], rows[1, 0] = 1e6, -1e5
    scale = coordinates_of(rows).scale
    assert scale.tolist() == pytest.approx([1.0, 1.0], abs=0.06)
    few = torch.tensor([0.0, 1.0, 5.0], **DOUBLE)  # of which none is told for an outlier
    assert coordinates_of(few).mean.item() == pytest.approx(2.0)


def test_plain_standardization_takes_all_rows_as_they_are():
    rows = torch.tensor([0.0] * 99 + [1000.0], **DOUBLE)
    coordinates = coordinates_of(rows, is_plain=True)
    assert (coordinates.mean.item(), coordinates.reach.item()) == (10.0, REACH)
    assert coordinates.scale.item() == pytest.approx(rows.std(correction=0).item())


def test_numbers_of_plain_coordinates_lie_on_a_line():
    spread = plain_spread(torch.tensor([1.0, 3.0]))
    assert numbers_at(torch.tensor([0.0, 2.0, -300.0]), spread).tolist() == [2.0, 4.0, -298.0]


def test_features_are_looked_at_one_by_one():
    torch.manual_seed(0)
    rows = torch.stack([LONG_TAILS["Cauchy"](), SHORT_TAILS["normal"](), LONG_TAILS["counts"]()], 1).reshape(-1, 1, 3)
    assert (spread_of(rows).reach != REACH).tolist() == [[True, False, True]]


def test_an_outlier_at_its_end_does_not_unbend_a_feature():
    torch.manual_seed(0)
    rows = (2 * torch.randn(4000, **DOUBLE)).exp()
    before = coordinates_of(rows)(rows)
    rows[0] = -999.0
    after = coordinates_of(rows)(rows)
    torch.testing.assert_close(after[1:], before[1:], atol=0.05, rtol=0.05)


def test_draws_of_a_bent_feature_are_finite():
    torch.manual_seed(0)
    coordinates = Coordinates("x", constraints.real, LONG_TAILS["Cauchy"]().float(), torch.float32)
    assert coordinates.to_support(torch.tensor([-1e4, 0.0, 1e4])).isfinite().all()


# ---- labels


def test_integers_of_few_kinds_have_a_coordinate_for_each_and_are_numbers_besides():
    rows = torch.tensor([3, 5, 9]).repeat(10)
    labels = coordinates_of(rows)
    assert labels.kinds == (3, 5, 9)
    assert labels.to_real(torch.tensor([5, 7])).tolist() == [[0, 1, 0, 5], [0, 0, 0, 7]]
    assert "a coordinate for each of the 3 values that the first rows have, and numbers" in repr(labels)


@pytest.mark.parametrize(
    "rows",
    [
        torch.arange(100),
        torch.tensor([0, 1]).repeat(50),
        torch.tensor([0.0, 1.0, 2.0]).repeat(50),
        torch.tensor([0, 1, 2]),
    ],
)
def test_integers_of_many_kinds_two_kinds_or_few_rows_are_numbers(rows):
    assert coordinates_of(rows).kinds == ()


def test_a_guess_that_integers_are_labels_is_told():
    with pytest.warns(UserWarning, match=r"'label' has integers of 3 kinds, which are taken for labels.*Categorical"):
        AutoDiscriminator(width=4, depth=1)(label=torch.arange(3).repeat(10), x=torch.randn(30))


@pytest.mark.filterwarnings("ignore:'label' has integers of 10 kinds")
def test_class_labels_are_learned_as_classes():
    """Places on a circle, of which neighbours have labels far apart; as one number half of them are still mistaken."""
    pyro.set_rng_seed(0)
    angle = 2 * math.pi / 10 * torch.tensor([3, 7, 0, 5, 1, 9, 4, 8, 2, 6])
    centers = torch.stack([angle.cos(), angle.sin()], 1)
    labels = torch.randint(10, (20_000,))
    generator = torch.nn.Sequential(
        *(torch.nn.Linear(12, 64), torch.nn.LeakyReLU(0.2)),
        *(torch.nn.Linear(64, 64), torch.nn.LeakyReLU(0.2)),
        torch.nn.Linear(64, 2),
    )

    def model(x, label):
        pyro.module("generator", generator)
        with pyro.plate("data", len(label)):
            eps = torch.randn(len(label), 2)
            pyro.deterministic("label", label, event_dim=0)
            one_hot = torch.nn.functional.one_hot(label, 10)
            pyro.deterministic("x", generator(torch.cat([one_hot, eps], 1)), event_dim=1)

    inference = GANInference(model, AutoDiscriminator(width=64, depth=2), site=["x", "label"])
    data = {"x": centers[labels] + 0.05 * torch.randn(20_000, 2), "label": labels}
    inference.run(data, num_steps=400, batch_size=256, progress=False)
    asked = torch.arange(2000) % 10
    drawn = inference.sample(2000, None, asked)["x"]
    assert (torch.cdist(drawn, centers).argmin(1) == asked).double().mean() > 0.95


def test_corners_of_a_simplex_are_labels_and_its_inside_is_mapped():
    corners = torch.eye(4, **DOUBLE)[torch.arange(40) % 4]
    assert torch.equal(coordinates_of(corners, constraints.simplex).to_real(corners), corners)
    inside = torch.full((40, 4), 0.25, **DOUBLE)
    assert coordinates_of(inside, constraints.simplex).to_real(inside).shape == (40, 3)


# ---- images


def test_rows_of_measurements_are_no_images_and_an_argument_says_otherwise():
    torch.manual_seed(0)
    pixels, series = torch.rand(64, 24, 9), 0.35 * torch.randn(64, 24, 9)
    series[..., 0] = 1000 + 350 * torch.randn(64, 24)
    assert looks_like_images(pixels) and not looks_like_images(series)
    assert not looks_like_images(torch.rand(64, 7, 24))
    for images, expected in ((None, [True, False]), (True, [True, True]), (False, [False, False])):
        found = []
        for rows in (pixels, series):
            discriminator = AutoDiscriminator(width=8, depth=1, images=images)
            discriminator(rows)
            found.append(discriminator.sites[0].is_image)
        assert found == expected
    with pytest.raises(TypeError, match=r"images must be True or False, or None to see by the rows' ranges, but is 1"):
        AutoDiscriminator(images=1)


def test_dark_margins_and_pixels_that_are_hardly_lit_are_of_images():
    torch.manual_seed(0)
    rows = torch.rand(64, 16, 16)
    rows[:, :4] = 0.0
    rows[:, 4] *= 0.01
    assert looks_like_images(rows)
    assert looks_like_images((rows * 255).to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.int8])
def test_images_of_any_type_are_seen(dtype):
    torch.manual_seed(0)
    rows = (torch.rand(32, 9, 9) * (2 if dtype == torch.bool else 120)).to(torch.int16).to(dtype)
    discriminator = AutoDiscriminator(width=8, depth=1)
    assert discriminator(rows).shape == (32,) and discriminator.sites[0].is_image


# ---- what can hardly be seen


def test_values_that_fall_onto_nearly_one_coordinate_are_told():
    torch.manual_seed(0)
    tight = torch.where(torch.arange(1000) % 2 == 0, 5.0, 0.0) + 1e-5 * torch.randn(1000, **DOUBLE)
    tight[::50] += torch.rand(20, **DOUBLE)
    tight = torch.where(tight > 1, 5.0, tight)
    rows = torch.stack([torch.randn(1000, **DOUBLE), tight], 1)
    with pytest.warns(
        RuntimeWarning, match=r"\d\d% of the different values of feature 1 of 'x' lie within a hundredth"
    ):
        AutoDiscriminator(width=4, depth=1)(rows)
    with pytest.warns(RuntimeWarning, match=r"different values of 'x' lie within .* by transform="):
        AutoDiscriminator(width=4, depth=1)(tight)


@pytest.mark.parametrize("kind", [*LONG_TAILS, *SHORT_TAILS])
def test_what_can_be_told_apart_is_not_told_of(kind):
    torch.manual_seed(0)
    rows = {**LONG_TAILS, **SHORT_TAILS}[kind]()
    assert crowded(coordinates_of(rows)(rows), rows) == []


# ---- a last layer


def test_a_standardized_network_gives_numbers_at_the_place_and_scale_of_the_rows():
    torch.manual_seed(0)
    rows = torch.tensor([40.0, 60_000.0]) + torch.tensor([12.0, 20_000.0]) * torch.randn(4000, 2)
    layer = Standardized(torch.nn.Identity(), rows)
    drawn = layer(torch.randn(3, 4000, 2))
    assert drawn.shape == (3, 4000, 2) and list(layer.parameters()) == []
    torch.testing.assert_close(drawn.mean((0, 1)), rows.mean(0), rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.std((0, 1)), rows.std(0), rtol=0.05, atol=0)


def test_a_standardized_network_keeps_to_a_support_and_takes_arrays():
    layer = Standardized(torch.nn.Identity(), (3 + torch.randn(200)).exp().numpy(), support=constraints.positive)
    assert (layer(10 * torch.randn(100)) > 0).all()
    assert layer(torch.tensor(0.0)).log().item() == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize(
    ("network", "rows", "error", "message"),
    [
        (lambda z: z, torch.rand(5), TypeError, r"network must be an nn.Module, but is <function .*\(function\)"),
        (torch.nn.Identity(), [1.0, 2.0], TypeError, "rows must be one tensor or array of numbers, but is a list"),
        (torch.nn.Identity(), torch.rand(1, 2), ValueError, "rows must be at least two, .* but there is 1"),
        (torch.nn.Identity(), torch.tensor([1.0, torch.nan]), ValueError, "NaN"),
    ],
)
def test_a_standardized_network_without_proper_rows_is_refused(network, rows, error, message):
    with pytest.raises(error, match=message):
        Standardized(network, rows)


def test_a_standardized_network_of_another_size_is_refused():
    layer = Standardized(torch.nn.Linear(2, 3), torch.rand(5, 4))
    with pytest.raises(ValueError, match=r"outputs have shape \(7, 3\), but those of Standardized must end in \(4,\)"):
        layer(torch.rand(7, 2))


def test_a_state_has_the_parts_of_networks_that_were_built_by_other_rows(tmp_path):
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            x = pyro.deterministic("x", loc + torch.randn(batch_size), event_dim=0)
            pyro.deterministic("label", (3 * x).round().long() % 3, event_dim=0)

    def inference():
        pyro.clear_param_store()
        return GANInference(model, AutoDiscriminator(width=4, depth=1), site=["x", "label"])

    pyro.set_rng_seed(0)
    rows = {"x": torch.randn(40), "label": torch.arange(40) % 3}
    with pytest.warns(UserWarning, match="taken for labels"):
        first = inference().run(rows, num_steps=2, progress=False)
    first.save(tmp_path / "state")
    kept = first.log_ratio(rows)
    other = inference().load(tmp_path / "state")
    few = {"x": torch.randn(2), "label": torch.tensor([1, 0])}
    other.evaluate_loss(few)
    assert torch.equal(other.log_ratio(rows), kept)


@pytest.mark.filterwarnings("ignore:'label' has integers of 10 kinds")
def test_a_question_by_rows_that_look_otherwise_is_refused_when_training_begins():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            x = pyro.deterministic("x", loc + torch.randn(batch_size), event_dim=0)
            pyro.deterministic("label", (3 * x).round().long() % 10, event_dim=0)

    inference = GANInference(model, AutoDiscriminator(width=4, depth=1), site=["x", "label"])
    inference.evaluate_loss({"x": torch.randn(4), "label": torch.arange(4)})
    rows = {"x": torch.randn(100), "label": torch.arange(100) % 10}
    with pytest.raises(ValueError, match=r"a question before .* the discriminator by rows .* at 'label'. Make the inf"):
        inference.run(rows, num_steps=1, progress=False)


def test_a_state_of_before_rows_were_looked_at_builds_as_then():
    rows = torch.arange(3).repeat(20)
    counts = AutoDiscriminator(width=4, depth=1)
    counts.build_as(None)
    counts.setup({"x": constraints.integer_interval(0, 90)}, {"x": rows.float()})
    assert not counts.sites[0].has_odds
    discriminator = AutoDiscriminator(width=4, depth=1)
    discriminator.build_as(None)
    discriminator(label=rows)
    assert discriminator.sites[0].shape == ()
    before = {name: value for name, value in discriminator.state_dict().items() if not name.endswith(("reach", "set"))}
    discriminator.load_state_dict(before)
    assert discriminator.sites[0].reach == REACH
