"""Observations that are sets, series, have gaps, or pass a module of the user's."""

import copy
import pickle
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference, ImplicitKLqp
from pyro_gan.auto import padded
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.pooling import deviation, parted
from pyro_gan.auto.views import Elements

LONGEST = 12
SMALL = {"width": 16, "depth": 1}


def normal_mean(batch_size):
    """theta ~ N(0, 1), x_l ~ N(theta, 1): given n of them, theta ~ N(sum / (n + 1), 1 / (n + 1))."""
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.deterministic("x", theta[:, None] + torch.randn(batch_size, LONGEST), event_dim=1)


def some_sets(num_rows=200, longest=LONGEST, seed=0):
    """Draws of that, with masks of at least two elements each."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(num_rows, generator=generator)
    x = theta[:, None] + torch.randn(num_rows, longest, generator=generator)
    mask = torch.arange(longest) < torch.randint(2, longest + 1, (num_rows, 1), generator=generator)
    return {"theta": theta, "x": x, "mask": mask}


def a_guide(model=normal_mean, **arguments):
    return AutoImplicitGuide(model, **{**SMALL, "sets": "x", "masks": {"x": "mask"}, **arguments})


def a_discriminator(**arguments):
    return AutoDiscriminator(**{**SMALL, "sets": "x", "masks": {"x": "mask"}, **arguments})


def briefly(inference, data, **arguments):
    return inference.run(data, num_steps=3, batch_size=50, progress=False, **arguments)


class Mean(nn.Module):
    """Features of a set by a mean over what is there."""

    def __init__(self, size=4):
        super().__init__()
        self.layer = nn.Linear(1, size)

    def forward(self, x, mask):
        features = torch.tanh(self.layer(x.unsqueeze(2))) * mask.unsqueeze(2)
        return torch.cat([features.sum(1), mask.sum(1, keepdim=True)], 1)


def a_structure(kind):
    return {
        "set": {"sets": "x"},
        "series": {"sets": (), "series": "x"},
        "embedding": {"sets": "x", "embedding": {"x": Mean()}},
    }[kind]


KINDS = ["set", "series", "embedding"]
EVENTS = [pytest.param((), id="numbers"), pytest.param((3,), id="vectors")]


def judged(discriminator, rows):
    with torch.no_grad():
        return discriminator(**rows)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("entries", [False, True], ids=["elements", "entries"])
def test_what_is_not_there_changes_nothing(kind, event, entries):
    x, mask = torch.randn(30, 10, *event), torch.arange(10) < torch.randint(1, 11, (30, 1))
    if entries and event:
        mask = mask[:, :, None] & (torch.rand(30, 10, *event) < 0.8)
        mask[:, 0, 0] = True
    discriminator = a_discriminator(**a_structure(kind))
    there = mask.reshape(*mask.shape, *(x.dim() - mask.dim()) * (1,))
    rows = {"x": x, "z": torch.randn(30), "mask": mask}
    logits = judged(discriminator, rows)
    garbage = torch.where(there, x, 1e9 * torch.randn_like(x))
    torch.testing.assert_close(judged(discriminator, {**rows, "x": garbage}), logits, rtol=0, atol=1e-6)
    for number in (1, 7, 30):
        longer = torch.cat([x, torch.full((30, number, *event), -7.0)], 1)
        of_longer = torch.cat([mask, torch.zeros(30, number, *mask.shape[2:], dtype=torch.bool)], 1)
        found = judged(discriminator, {**rows, "x": longer, "mask": of_longer})
        torch.testing.assert_close(found, logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_all_entries_are_there_without_a_mask(kind):
    rows = some_sets(20)
    discriminator = a_discriminator(**a_structure(kind))
    logits = judged(discriminator, rows)
    for row in range(20):
        number = int(rows["mask"][row].sum())
        alone = {"x": rows["x"][row : row + 1, :number], "theta": rows["theta"][row : row + 1]}
        torch.testing.assert_close(judged(discriminator, alone), logits[row : row + 1], rtol=0, atol=1e-6)


def test_the_order_of_a_set_does_not_matter_and_that_of_a_series_does():
    rows = some_sets(20)
    order = torch.randperm(LONGEST)
    shuffled = {**rows, "x": rows["x"][:, order], "mask": rows["mask"][:, order]}
    of_sets, of_series = a_discriminator(), a_discriminator(sets=(), series="x")
    torch.testing.assert_close(judged(of_sets, shuffled), judged(of_sets, rows), rtol=0, atol=1e-6)
    assert (judged(of_series, shuffled) - judged(of_series, rows)).abs().max() > 1e-3


def test_a_series_is_seen_whole():
    x = torch.randn(8, 40, requires_grad=True)
    discriminator = AutoDiscriminator(series="x", **SMALL)
    (slopes,) = torch.autograd.grad(discriminator(x=x).sum(), x)
    assert (slopes != 0).all()


def test_the_number_of_elements_is_seen():
    discriminator = AutoDiscriminator(sets="x", **SMALL)
    discriminator(x=torch.ones(5, 4) + torch.arange(5.0)[:, None])
    logits = [judged(discriminator, {"x": torch.ones(1, number)}) for number in (1, 2, 8)]
    assert len({round(float(each), 4) for each in logits}) == 3


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_a_change_of_units_of_elements_changes_nothing(factor):
    rows = some_sets(100)
    changed = {**rows, "x": factor * rows["x"] + 3 * factor}
    first, second = a_discriminator(), a_discriminator()
    torch.manual_seed(0)
    logits = judged(first, rows)
    torch.manual_seed(0)
    torch.testing.assert_close(judged(second, changed), logits, rtol=0, atol=1e-4)


def test_elements_that_are_there_alone_set_the_scale():
    rows = some_sets(100)
    discriminator = a_discriminator()
    judged(discriminator, {**rows, "x": torch.where(rows["mask"], rows["x"], 1e6)})
    coordinates = discriminator.sites[1].coordinates
    known = rows["x"][rows["mask"]]
    assert coordinates.mean == pytest.approx(float(known.mean()), abs=0.05)
    assert coordinates.scale == pytest.approx(float(known.std()), rel=0.05)


def test_entries_that_are_there_alone_set_the_scale_of_rows_with_gaps():
    x, mask = torch.randn(400, 3) * torch.tensor([1.0, 10.0, 100.0]), torch.rand(400, 3) < 0.7
    discriminator = AutoDiscriminator(masks={"x": "mask"}, **SMALL)
    logits = judged(discriminator, {"x": torch.where(mask, x, 1e6), "mask": mask})
    coordinates = discriminator.sites[0].coordinates
    scales = torch.stack([column[there].std() for column, there in zip(x.T, mask.T, strict=True)])
    torch.testing.assert_close(coordinates.scale, scales, rtol=0.05, atol=0.0)
    torch.testing.assert_close(judged(discriminator, {"x": torch.where(mask, x, -3.0), "mask": mask}), logits)
    assert not torch.equal(judged(discriminator, {"x": x, "mask": ~mask}), logits)


def test_a_whole_site_or_pixels_of_images_may_be_missing():
    x, images = torch.randn(20, 3), torch.rand(20, 2, 8, 8)
    there, seen = torch.rand(20) < 0.5, torch.rand(20, 2, 8, 8) < 0.9
    discriminator = AutoDiscriminator(masks={"x": "there", "images": "seen"}, images=True, **SMALL)
    rows = {"x": x, "images": images, "there": there, "seen": seen}
    logits = judged(discriminator, rows)
    other = {**rows, "x": torch.where(there[:, None], x, 5.0), "images": torch.where(seen, images, 9.0)}
    torch.testing.assert_close(judged(discriminator, other), logits)
    assert logits.shape == (20,)


def test_elements_of_a_support_and_labels_are_seen_as_rows_of_them_are():
    def counted(batch_size):
        with pyro.plate("data", batch_size):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            times = dist.Exponential(rate[:, None].expand(-1, 6)).to_event(1)
            pyro.sample("x", times, obs=times.sample())

    data = {"x": dist.Exponential(1.0).sample((100, 6)), "mask": torch.rand(100, 6) < 0.7}
    data["mask"][:, 0] = True
    inference = briefly(BiGANInference(counted, a_guide(counted)), data)
    assert str(inference.guide.function.posterior.observed[0].coordinates.support) == "GreaterThanEq(lower_bound=0.0)"
    labels = torch.arange(400).reshape(100, 4) % 5
    discriminator = AutoDiscriminator(sets="x", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judged(discriminator, {"x": labels})
    assert discriminator.sites[0].num_features == 6


@pytest.mark.parametrize("kind", KINDS)
def test_one_guide_answers_for_observations_of_any_length(kind):
    inference = briefly(BiGANInference(normal_mean, a_guide(**a_structure(kind))), some_sets())
    for number in (1, 7, 40):
        assert inference.sample_posterior({"x": torch.randn(number)}, num_samples=5)["theta"].shape == (5,)
    x, mask = padded([torch.randn(3), torch.randn(9), torch.randn(20)])
    draws = inference.sample_posterior({"x": x, "mask": mask}, num_samples=5)
    assert draws["theta"].shape == (5, 3)
    assert inference.sample_posterior({"x": x[0], "mask": mask[0]}, num_samples=4)["theta"].shape == (4,)


def test_an_observation_without_a_name_is_the_set_with_all_its_elements():
    inference = briefly(BiGANInference(normal_mean, a_guide()), dict(reversed(some_sets().items())))
    x = torch.randn(7)
    pyro.set_rng_seed(1)
    draws = inference.sample_posterior(x, num_samples=10)["theta"]
    pyro.set_rng_seed(1)
    torch.testing.assert_close(inference.sample_posterior({"x": x}, num_samples=10)["theta"], draws)
    longer = {"x": torch.cat([x, torch.zeros(5)]), "mask": torch.arange(12) < 7}
    pyro.set_rng_seed(1)
    torch.testing.assert_close(inference.sample_posterior(longer, num_samples=10)["theta"], draws)


def test_several_observations_have_the_draws_that_each_has_alone():
    inference = briefly(BiGANInference(normal_mean, a_guide()), some_sets())
    lists = [torch.full((number,), float(number)) for number in (2, 5, 12)]
    x, mask = padded(lists)
    together = inference.sample_posterior({"x": x, "mask": mask}, num_samples=4000)["theta"]
    assert together.shape == (4000, 3)
    for number, each in enumerate(lists):
        alone = inference.sample_posterior(each, num_samples=4000)["theta"]
        assert together[:, number].mean() == pytest.approx(float(alone.mean()), abs=0.1)
        assert together[:, number].std() == pytest.approx(float(alone.std()), rel=0.1)


def test_the_discriminator_beside_a_guide_sees_as_it_does():
    inference = briefly(BiGANInference(normal_mean, a_guide()), some_sets())
    discriminator = inference.discriminator.function
    assert discriminator.structure == inference.guide.function.structure
    rows = some_sets(30)
    assert inference.log_ratio(rows).shape == (30,)
    padding = {**rows, "x": torch.where(rows["mask"], rows["x"], 100.0)}
    torch.testing.assert_close(inference.log_ratio(padding), inference.log_ratio(rows))


def as_set(x, mask):
    """How a set is seen, its elements as they are seen, and where there are some."""

    def sight(support, rows):
        return Coordinates("x", support, rows, rows.dtype)

    rows = {"x": x, "mask": mask}
    site = Elements("x", "mask", constraints.real, rows, sight, "guide", is_ordered=False)
    return site, *parted(site(rows))


def test_the_deviation_of_the_elements_that_are_there_is_seen():
    x, mask = torch.randn(3, 1000), torch.ones(3, 1000, dtype=torch.bool)
    x[1], mask[2, 1:], x[2, 1:] = 0.01 * x[1], False, 1e9
    site, elements, there = as_set(x, mask)
    log_deviation = deviation(site, elements, there)
    torch.testing.assert_close(log_deviation[:2], elements[:2].std(1).log(), rtol=0, atol=0.01)
    assert log_deviation[2] == 0  # a single element has the deviation of all elements


def test_entries_that_are_missing_say_nothing_of_the_deviation():
    x = torch.randn(4, 500, 2) * torch.tensor([0.1, 0.3, 1.0, 3.0])[:, None, None] + 5.0
    mask = torch.ones(4, 500, 2, dtype=torch.bool)
    mask[:, :, 1] = torch.rand(4, 500) < 0.7
    site, elements, there = as_set(x, mask)
    known = [[elements[row, mask[row, :, entry], entry].std().log() for entry in (0, 1)] for row in range(4)]
    torch.testing.assert_close(deviation(site, elements, there), torch.tensor(known), rtol=0, atol=0.01)


def test_networks_of_states_from_before_sets_had_a_deviation_have_none():
    def guide_as(built):
        pyro.clear_param_store()
        guide = a_guide()
        guide.build_as(built)
        guide(x=some_sets()["x"], mask=some_sets()["mask"])
        return guide

    guide = guide_as({})
    built = pickle.loads(pickle.dumps(guide.built()))
    again = guide_as(built)
    before = {site: {key: each[key] for key in each if key != "has_deviation"} for site, each in built.items()}
    sizes = [each.posterior.embedding.size for each in (guide, again, guide_as(before), guide_as(None))]
    assert sizes == [sizes[0], sizes[0], sizes[0] - 1, sizes[0] - 1]
    again.load_state_dict(guide.state_dict())


@pytest.mark.parametrize("arguments", [{"embedding": {"x": Mean()}}, {"sets": ()}], ids=["embedding", "gaps"])
def test_a_state_of_sets_is_refused_by_networks_that_see_no_set(arguments):
    def inference(**arguments):
        pyro.clear_param_store()
        return BiGANInference(normal_mean, a_guide(**arguments))

    data = some_sets()
    state = briefly(inference(), data).state_dict()
    other = inference(**arguments)
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="parameter"):
        briefly(other, data)


def masked_mean(x, mask):
    """The same model as one that takes data and masks, with a density."""
    with pyro.plate("data", len(x)):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(theta[:, None], 1.0).expand([len(x), x.shape[1]]).mask(mask).to_event(1), obs=x)


def own_masks(batch_size):
    """A simulator that makes its masks."""
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        mask = torch.arange(LONGEST) < torch.randint(2, LONGEST + 1, (batch_size, 1))
        mask = pyro.deterministic("mask", mask, event_dim=1)
        pyro.deterministic("x", mask * (theta[:, None] + torch.randn(batch_size, LONGEST)), event_dim=1)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(masked_mean, ("x", "mask"), id="model given both"),
        pytest.param(own_masks, ("x", "mask"), id="masks of the simulator"),
        pytest.param(own_masks, ("x", "mask", "theta"), id="its simulations"),
        pytest.param(normal_mean, ("x", "mask"), id="masks of the data alone"),
    ],
)
def test_masks_reach_both_networks_whoever_makes_them(model, data):
    rows = some_sets()
    inference = BiGANInference(model, a_guide(model), a_discriminator())
    briefly(inference, {name: rows[name] for name in data})
    assert inference.sample_posterior(torch.randn(5), num_samples=3)["theta"].shape == (3,)
    masks = [site.mask for site in inference.discriminator.function.sites if site.name == "x"]
    assert masks == ["mask"]


def test_a_tuple_that_fills_the_models_arguments_does_too():
    rows = some_sets()
    inference = briefly(BiGANInference(masked_mean, a_guide(masked_mean)), (rows["x"], rows["mask"]))
    x, mask = padded([torch.randn(3), torch.randn(20)])
    assert inference.sample_posterior((x, mask), num_samples=3)["theta"].shape == (3, 2)


@pytest.mark.parametrize("contrast", ["prior", "joint"])
def test_the_evidence_lower_bound_takes_sets(contrast):
    rows = some_sets()
    inference = ImplicitKLqp(masked_mean, a_guide(masked_mean), contrast=contrast)
    briefly(inference, {"x": rows["x"], "mask": rows["mask"]})
    assert inference.sample_posterior(torch.randn(5), num_samples=3)["theta"].shape == (3,)


def test_a_model_of_sets_is_fitted_alone():
    def model(mask):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(mask)):
            pyro.deterministic("x", loc + torch.randn(mask.shape), event_dim=1)

    rows = some_sets()
    inference = briefly(GANInference(model, a_discriminator(), site="x"), {"x": rows["x"], "mask": rows["mask"]})
    assert list(inference.compared_rows()) == ["x"]
    assert "x" in str(inference.check({"x": rows["x"], "mask": rows["mask"]}))


def test_a_simulator_of_single_sets_is_learned_from_its_simulations():
    def single():
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(theta, 1.0).expand([LONGEST]).to_event(1))

    inference = briefly(BiGANInference(single, a_guide(single)), some_sets())
    draws = inference.sample_posterior(torch.randn(20), num_samples=3)
    assert draws["theta"].shape == (3,) and inference.decode(draws).shape == (3, LONGEST)


def test_a_discriminator_of_the_users_is_given_what_it_asks_for():
    seen = []
    hidden = nn.Linear(3, 1)

    def discriminator(x, theta, mask):
        seen.append(mask.float().mean())
        mean = (x * mask).sum(1) / mask.sum(1)
        return hidden(torch.stack([mean, theta, mask.float().sum(1)], 1))

    rows = some_sets()
    briefly(BiGANInference(normal_mean, a_guide(), discriminator), rows)
    assert seen and all(0.2 < float(each) < 0.9 for each in seen)


def test_an_embedding_of_ones_own_learns_with_both_or_with_the_guide_where_shared():
    rows = some_sets()
    shared, of_guide, of_discriminator = Mean(), Mean(), Mean()
    for embeddings in ((shared, shared), (of_guide, of_discriminator)):
        pyro.clear_param_store()
        before = [copy.deepcopy(each.state_dict()) for each in embeddings]
        guide, discriminator = (
            kind(embedding={"x": module}) for kind, module in zip((a_guide, a_discriminator), embeddings, strict=True)
        )
        inference = briefly(BiGANInference(normal_mean, guide, discriminator), rows)
        for module, start in zip(embeddings, before, strict=True):
            assert any(not torch.equal(value, start[name]) for name, value in module.state_dict().items())
        of_embedding = set(embeddings[1].parameters())
        is_trained = bool(of_embedding & set(inference.discriminator.parameters.values()))
        assert is_trained is (embeddings[0] is not embeddings[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_posterior_answers_for_any_length_in_a_later_session(kind, tmp_path):
    def made():
        pyro.clear_param_store()
        return BiGANInference(normal_mean, a_guide(**a_structure(kind)))

    inference = briefly(made(), some_sets())
    x, mask = padded([torch.randn(3), torch.randn(20)])
    pyro.set_rng_seed(2)
    draws = inference.sample_posterior({"x": x, "mask": mask}, num_samples=6)["theta"]
    inference.save(tmp_path / "posterior.pt")
    for asked in ({"x": x, "mask": mask}, {"x": x[1:]}):  # whether the first question has a mask or none
        loaded = made().load(tmp_path / "posterior.pt")
        loaded.sample_posterior(asked, num_samples=1)
        pyro.set_rng_seed(2)
        torch.testing.assert_close(loaded.sample_posterior({"x": x, "mask": mask}, num_samples=6)["theta"], draws)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_derivatives_are_right_twice_over(kind):
    discriminator = a_discriminator(**a_structure(kind))
    rows = {name: rows.double() if rows.is_floating_point() else rows for name, rows in some_sets(4).items()}
    judged(discriminator, rows)
    x = rows["x"].requires_grad_()

    def judge(x):
        return discriminator(x=x, theta=rows["theta"], mask=rows["mask"])

    assert torch.autograd.gradcheck(judge, x)
    assert torch.autograd.gradgradcheck(judge, x)


@pytest.mark.slow
def test_a_report_on_a_posterior_of_sets_is_made():
    inference = briefly(BiGANInference(normal_mean, a_guide()), some_sets(600))
    held_out = some_sets(400, seed=1)
    report = str(inference.check(held_out, observation=torch.randn(7)))
    assert "theta" in report and "observation" in report
    unlike = {**held_out, "x": torch.where(held_out["mask"], held_out["x"], 1e4)}
    pairs, others = inference.simulate(held_out), inference.simulate(unlike)
    torch.testing.assert_close(others.observed["x"], pairs.observed["x"])


@pytest.fixture
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("in_double_precision")  # Adam makes much of the rounding of small gradients
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_steps_are_the_eager_ones(kind):
    states = []
    for is_compiled in (False, True):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = BiGANInference(normal_mean, a_guide(**a_structure(kind)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            briefly(inference, some_sets(), compile=is_compiled)
        states.append(inference.state_dict()["guide"]["parameters"])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sets": 3}, TypeError, "sets must be a site's name or a list of names, but is 3"),
        ({"series": [None]}, TypeError, r"series must be a site's name or a list of names, but is \[None\]"),
        ({"masks": "mask"}, TypeError, "masks must be a mapping such as {'x': 'mask'}, .* but is 'mask'"),
        ({"masks": {"x": 3}}, TypeError, "masks must be a mapping such as .* but is {'x': 3}"),
        ({"embedding": nn.Identity()}, TypeError, r"embedding must be a mapping .* but is Identity\(\)"),
        ({"embedding": {"x": torch.tanh}}, TypeError, "embedding must be a mapping .* and an nn.Module, but is "),
        ({"sets": "x", "series": ["x"]}, ValueError, "sets and series both name 'x'. Name it in sets if the order"),
    ],
)
@pytest.mark.parametrize("make", [a_guide, a_discriminator])
def test_arguments_of_the_wrong_kind_are_refused(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make(**{"masks": {}, "sets": (), **arguments})


ROWS = some_sets(20)


@pytest.mark.parametrize(
    ("arguments", "changes", "error", "message"),
    [
        ({"sets": ["x", "y"]}, {}, ValueError, "sets of the {} names the site 'y', but the {} is called with .*'x'"),
        ({"masks": {"y": "mask"}}, {}, ValueError, "masks of the {} names the site 'y'"),
        (
            {"masks": {"x": "there"}},
            {},
            ValueError,
            r"masks of the {} names 'there' as the mask of 'x', but .* Pass it by name beside the others, run\(",
        ),
        (
            {},
            {"mask": ROWS["mask"].float()},
            TypeError,
            r"the mask 'mask' of 'x' must hold truth values .* of type torch.float32. Pass it as mask.bool\(\)",
        ),
        (
            {},
            {"mask": ROWS["mask"][:, 1:]},
            ValueError,
            r"mask 'mask' of 'x' has shape \(20, 11\), but 'x' has shape \(20, 12\): expected \(20, 12\). Pass a truth",
        ),
        ({}, {"mask": ROWS["mask"][:, 0]}, ValueError, r"has shape \(20,\), but .*: expected \(20, 12\)"),
        (
            {},
            {"mask": ROWS["mask"] & (torch.arange(20) != 3)[:, None]},
            ValueError,
            "the mask 'mask' has no entry in row 3, but each row of 'x' needs at least one. Leave such rows out",
        ),
        (
            {"masks": {}},
            {"x": ROWS["x"][:, 0]},
            ValueError,
            r"'x' is a set or a series to the {}, with shape \(num_rows, length, ...\), but has shape \(20,\)",
        ),
        (
            {"masks": {}, "embedding": {"x": nn.Unflatten(1, (3, 4))}},
            {},
            ValueError,
            r"embedding of 'x' must return features with shape \(2, num_features\) .* returned shape \(2, 3, 4\)",
        ),
        (
            {"masks": {}, "embedding": {"x": nn.GRU(LONGEST, 2)}},
            {},
            TypeError,
            "embedding of 'x' must return a tensor of features .* but returned a tuple",
        ),
    ],
)
@pytest.mark.parametrize("make", [a_guide, a_discriminator])
def test_first_rows_that_do_not_fit_are_refused(make, arguments, changes, error, message):
    network = make(**arguments)
    rows = {**ROWS, **changes}
    if make is a_guide:
        rows.pop("theta")
    with pytest.raises(error, match=message.replace("{}", network.role)):
        network(**rows)
    assert not network.is_built


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"x": torch.zeros(2, 5), "mask": torch.zeros(2, 5) > 1}, "mask 'mask' has no entry in row 0 and 1 more"),
        ({"x": torch.zeros(2, 5), "mask": torch.ones(2, 4) > 0}, r"the mask 'mask' of 'x' has shape \(\d+, 4\), but"),
        (
            {"x": torch.zeros(2, 5, 3)},
            r"x_obs\['x'\] has shape \(2, 5, 3\), but in training each had shape \(length,\)",
        ),
        ({"x": torch.zeros(2, 5), "mask": torch.ones(5) > 0}, r"x_obs\['mask'\] is a single one, but x_obs\['x'\] has"),
    ],
)
def test_questions_that_do_not_fit_are_refused(asked, message):
    inference = briefly(BiGANInference(normal_mean, a_guide()), some_sets())
    with pytest.raises(ValueError, match=message):
        inference.sample_posterior(asked, num_samples=3)


def test_later_rows_of_another_element_shape_are_refused():
    discriminator = a_discriminator()
    judged(discriminator, ROWS)
    with pytest.raises(ValueError, match=r"rows of 'x' with shape \(num_rows, length\), but .*\(20, 12, 2\)"):
        discriminator(x=torch.zeros(20, 12, 2), theta=ROWS["theta"])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.zeros(2, 3), TypeError, "rows must be a list of tensors or arrays, but is tensor"),
        ([], ValueError, "with at least one element, but there are none"),
        ([torch.zeros(2), torch.zeros(0)], ValueError, r"but that of row 1 has shape \(0,\). Leave out empty ones"),
        ([torch.zeros(2), torch.zeros(1, 2)], ValueError, r"must have one shape, but have \(\), \(2,\)"),
    ],
)
def test_rows_that_can_not_be_padded_are_refused(rows, error, message):
    with pytest.raises(error, match=message):
        padded(rows)


def offset_and_width(draws, mean, deviation):
    """How far the mean of draws lies off in posterior deviations, and how wide they are for the exact posterior."""
    return float(((draws.mean(0) - mean) / deviation).abs().mean()), float((draws.std(0) / deviation).mean())


@pytest.mark.slow
def test_one_guide_has_the_posterior_of_sets_of_7_of_20_and_of_50():
    def fifty(batch_size):
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", theta[:, None] + torch.randn(batch_size, 50), event_dim=1)

    pyro.set_rng_seed(0)
    theta = torch.randn(20_000)
    data = {"theta": theta, "x": theta[:, None] + torch.randn(20_000, 50)}
    data["mask"] = torch.arange(50) < torch.randint(5, 51, (20_000, 1))
    guide = AutoImplicitGuide(fifty, sets="x", masks={"x": "mask"}, width=64)
    inference = BiGANInference(fifty, guide, AutoDiscriminator(sets="x", masks={"x": "mask"}, width=64))
    briefly(inference, data)
    before = inference.sample_posterior({"x": torch.randn(100, 50)}, num_samples=200)["theta"]
    assert offset_and_width(before, torch.zeros(100), torch.tensor(51**-0.5))[1] > 1.3  # one width for all at first
    inference.run(data, num_steps=3000, batch_size=128, progress=False)
    for number in (7, 20, 50):
        theta = torch.randn(300)
        x = theta[:, None] + torch.randn(300, number)
        draws = inference.sample_posterior({"x": x}, num_samples=1000)["theta"]
        offset, width = offset_and_width(draws, x.sum(1) / (number + 1), torch.tensor((number + 1) ** -0.5))
        assert offset < 0.1
        assert 0.85 < width < 1.15


@pytest.mark.slow
def test_a_guide_has_the_posterior_of_rows_with_gaps():
    noise = torch.tensor([0.5, 1.0, 2.0, 1.0])

    def four(batch_size):
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", theta[:, None] + noise * torch.randn(batch_size, 4), event_dim=1)

    pyro.set_rng_seed(0)
    theta = torch.randn(20_000)
    data = {"theta": theta, "x": theta[:, None] + noise * torch.randn(20_000, 4), "known": torch.rand(20_000, 4) < 0.6}
    guide = AutoImplicitGuide(four, masks={"x": "known"}, width=64)
    inference = BiGANInference(four, guide, AutoDiscriminator(masks={"x": "known"}, width=64))
    inference.run(data, num_steps=2000, batch_size=128, progress=False)
    theta, known = torch.randn(300), torch.rand(300, 4) < 0.6
    x = theta[:, None] + noise * torch.randn(300, 4)
    draws = inference.sample_posterior({"x": x, "known": known}, num_samples=1000)["theta"]
    precision = 1 + (known / noise.square()).sum(1)
    offset, width = offset_and_width(draws, (x * known / noise.square()).sum(1) / precision, precision.rsqrt())
    assert offset < 0.15
    assert 0.85 < width < 1.15
    ignoring = inference.sample_posterior({"x": x}, num_samples=1000)["theta"]
    assert offset_and_width(ignoring, (x * known / noise.square()).sum(1) / precision, precision.rsqrt())[0] > 0.3


def ten(batch_size):
    """Ten numbers of unknown mean and deviation, both of several orders of magnitude."""
    with pyro.plate("data", batch_size):
        mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
        deviation = pyro.sample("deviation", dist.LogNormal(0.0, 1.0))
        pyro.sample("x", dist.Normal(mean[:, None], deviation[:, None]).expand([batch_size, 10]).to_event(1))


def farthest(inference):
    """The mean distance of distribution functions from the exact ones, of 100 sets, of the mean and the deviation."""
    x = pyro.infer.Predictive(ten, num_samples=1)(batch_size=100)["x"][0].double()
    draws = inference.sample_posterior(x.float(), num_samples=1000)
    units = torch.linspace(-8.0, 8.0, 401, dtype=torch.float64)
    means = x.mean(1, keepdim=True) + x.std(1, keepdim=True) / 10**0.5 * units
    deviations = x.std(1, keepdim=True) * torch.linspace(-1.5, 1.5, 301, dtype=torch.float64).exp()
    m, s = means[:, :, None], deviations[:, None, :]
    squares = ((x[:, None] - means[:, :, None]) ** 2).sum(2)[:, :, None]
    log_joint = -10 * s.log() - squares / (2 * s**2) - m**2 / 18 - s.log() ** 2 / 2  # in the logarithm of s
    weights = log_joint.flatten(1).softmax(1).reshape(100, 401, 301)
    found = []
    for name, places, parts in (("mean", means, weights.sum(2)), ("deviation", deviations, weights.sum(1))):
        at = torch.searchsorted(places, draws[name].double().sort(0).values.T.contiguous()).clamp(max=len(parts[0]) - 1)
        exact = parts.cumsum(1).gather(1, at)
        found.append((exact - torch.linspace(0.0, 1.0, 1000)).abs().amax(1).mean())
    return [float(each) for each in found]


@pytest.mark.slow
def test_a_guide_sees_how_far_numbers_of_a_row_are_spread():
    """Of the networks that see the numbers alone the deviation was 0.23 away."""
    pyro.set_rng_seed(0)
    data = {site: rows[0] for site, rows in pyro.infer.Predictive(ten, num_samples=1)(batch_size=10_000).items()}
    inference = BiGANInference(ten, AutoImplicitGuide(ten, observed="x"))
    inference.run(data, num_steps=1500, batch_size=128, progress=False)
    assert max(farthest(inference)) < 0.12


@pytest.mark.slow
def test_a_guide_has_the_posterior_of_a_set_of_unknown_mean_and_deviation():
    pyro.set_rng_seed(0)
    data = {site: rows[0] for site, rows in pyro.infer.Predictive(ten, num_samples=1)(batch_size=10_000).items()}

    def an_inference():
        guide = AutoImplicitGuide(ten, observed="x", sets="x", width=64)
        return BiGANInference(ten, guide, AutoDiscriminator(sets="x", width=64))

    untrained = an_inference()
    briefly(untrained, {site: rows[:1000] for site, rows in data.items()})  # too few for a network of deviations
    assert max(farthest(untrained)) > 0.15  # the mean is as wide for all sets at first
    inference = an_inference()
    inference.run(data, num_steps=1500, batch_size=128, progress=False)
    assert max(farthest(inference)) < 0.1
