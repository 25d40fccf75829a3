"""Observations of repeated measurements: which columns networks see, and what they see of them."""

import copy
import math
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference, ImplicitKLqp
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.regression import num_related, numbers_of
from pyro_gan.auto.repeated import Repeated, can_be_parted, possible_columns

DOUBLE = {"dtype": torch.float64}
SMALL = {"width": 16, "depth": 1}


def repeated(rows, support=constraints.real):
    return Repeated("x", support, rows, torch.float64)


def is_parted(rows, support=constraints.real, **options):
    return can_be_parted(Coordinates("x", support, rows, torch.float32, **options), support)


def measured(num_rows, num_measurements=4):
    """Two features of each of several measurements, with means, deviations and a correlation of the row's own."""
    means = 3 * torch.randn(num_rows, 1, 2)
    deviations = torch.randn(num_rows, 1, 2).exp()
    noise = torch.randn(num_rows, num_measurements, 2)
    noise[..., 1] += torch.randn(num_rows, 1) * noise[..., 0]
    return (means + deviations * noise).flatten(1)


def test_behind_the_numbers_are_the_deviations_and_correlations_of_columns():
    torch.manual_seed(0)
    rows = torch.randn(100, 12, **DOUBLE)
    real = repeated(rows).to_real(rows).numpy()
    assert real.shape == (100, 12 + 1 + 3 + 6)
    for row, seen in zip(rows.numpy(), real, strict=True):
        by_two, by_three = row.reshape(6, 2), row.reshape(4, 3)
        among_three = np.corrcoef(by_three.T)[[0, 0, 1], [1, 2, 2]]
        of_two = [*np.log(by_two.std(0)), np.corrcoef(by_two.T)[0, 1]]
        expected = [*row, np.log(row.std()), *of_two, *np.log(by_three.std(0)), *among_three]
        np.testing.assert_allclose(seen, expected, rtol=0.01, atol=0.01)  # but for what counts as no deviation


def test_of_a_row_of_many_numbers_the_correlations_with_the_next_ones_are_seen():
    torch.manual_seed(0)
    noise = torch.randn(400, 17, **DOUBLE)
    rows = noise[:, 1:] + noise[:, :-1]
    real = repeated(rows).to_real(rows).numpy()
    for row, seen in zip(rows.numpy(), real, strict=True):
        rest = row - row.mean()
        assert seen[17] == pytest.approx((rest[1:] * rest[:-1]).mean() / rest.var(), abs=0.01)


def test_a_matrix_of_measurements_is_parted_as_it_stands():
    torch.manual_seed(0)
    rows = torch.randn(100, 5, 2, **DOUBLE)
    real = repeated(rows).to_real(rows)
    torch.testing.assert_close(real[:, 11:13], rows.std(1, correction=0).log(), atol=0.02, rtol=0.0)
    torch.testing.assert_close(real, repeated(rows.flatten(1)).to_real(rows.flatten(1)))


def test_numbers_are_parted_on_the_real_line():
    torch.manual_seed(0)
    rows = torch.randn(100, 5, **DOUBLE).exp()
    real = repeated(rows, constraints.independent(constraints.positive, 1)).to_real(rows)
    torch.testing.assert_close(real[:, 5], rows.log().std(1, correction=0).log(), atol=0.02, rtol=0.0)


def test_latents_are_related_to_numbers_alone_where_with_statistics_they_were_too_many():
    torch.manual_seed(0)
    few, several = (repeated(torch.randn(100, size, **DOUBLE)) for size in (10, 30))
    assert few.size == 14
    assert num_related([few]) == 14
    assert num_related([several, several]) == 60
    assert numbers_of([several, several], 2 * [several(torch.randn(5, 30, **DOUBLE))]).shape == (5, 60)
    assert num_related(3 * [several]) > 64


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_a_change_of_units_changes_no_coordinate(factor):
    torch.manual_seed(0)
    rows = measured(300).double()
    torch.testing.assert_close(repeated(rows)(rows), repeated(factor * rows)(factor * rows))


@pytest.mark.parametrize(
    "row", [[2.0] * 6, [0.0] * 6, [1e30, -1e30, 0.0, 1.0, 2.0, 3.0], [1e-30, *[0.0] * 5], [1e25, *[0.0] * 5]]
)
def test_any_row_has_finite_coordinates_that_can_be_differentiated_twice(row):
    torch.manual_seed(0)
    first = torch.randn(50, 6) * torch.tensor([1000.0, 1.0]).repeat(3)
    for unit in (1.0, 1e-36, 1e12):
        site = Repeated("x", constraints.real, unit * first, torch.float32)
        rows = torch.tensor([row]).mul(unit).clamp(-1e30, 1e30).requires_grad_()
        seen = site(rows)
        (slope,) = torch.autograd.grad((seen[:, 6:] * unit).square().sum(), rows, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), rows)
        assert all(each.isfinite().all() for each in (seen, slope, second))


def test_columns_may_have_units_that_are_far_apart():
    torch.manual_seed(0)
    rows = torch.randn(400, 8)
    far = rows * torch.tensor([1e14, 1e-9]).repeat(4)
    seen, as_seen = (Repeated("x", constraints.real, each, torch.float32)(each) for each in (far, rows))
    torch.testing.assert_close(seen[:, 9:], as_seen[:, 9:], atol=0.05, rtol=0.0)  # but for the least


def test_statistics_are_standardized_where_they_hardly_differ():
    torch.manual_seed(0)
    rows = torch.randn(2000, 8, 2, **DOUBLE)
    rows[..., 1] = rows[..., 0] + (2 * torch.randn(2000, 1, **DOUBLE) - 8).exp() * rows[..., 1]  # correlations near 1
    seen = repeated(rows)(rows)[:, 16:]
    assert seen.mean(0).abs().max() < 0.5
    assert seen.std(0).max() < 2


def test_a_row_that_is_not_finite_spoils_no_other():
    torch.manual_seed(0)
    rows = torch.randn(1000, 6)
    rows[0, 0] = torch.inf
    assert Repeated("x", constraints.real, rows, torch.float32)(rows[1:]).isfinite().all()
    largest = torch.full((1, 6), 3e38)
    assert Repeated("x", constraints.real, rows[1:], torch.float32)(largest).isfinite().all()


def test_a_row_of_one_number_counts_as_one_of_the_least_deviation():
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(999, 5, **DOUBLE), torch.full((1, 5), 7.0, **DOUBLE)])
    site = repeated(rows)
    smallest = rows[:-1].std(1, correction=0).log().min()
    seen = site.to_real(rows)[-1, 5]
    assert seen == pytest.approx(math.log(site.least))
    assert smallest - 3 < seen < smallest


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.rand(400, 10).argsort(1).float(),
        lambda: torch.nn.functional.layer_norm(torch.randn(400, 10), (10,)),
        lambda: 1e-6 * torch.nn.functional.layer_norm(torch.randn(400, 60), (60,)),
        lambda: torch.eye(6)[torch.arange(400) % 6],
    ],
)
def test_statistics_that_differ_by_rounding_alone_say_nothing(make):
    torch.manual_seed(0)
    rows = make()
    site = Repeated("x", constraints.real, rows, torch.float32)
    size = rows.shape[1]
    is_constant = site(rows)[:, size:].std(0) < 0.01
    assert is_constant.any()
    moved = (site(rows * (1 + 1e-6)) - site(rows))[:, size:]
    assert moved.abs().max() < 0.01


@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (lambda: torch.randn(256, 10), [1, 2]),
        (lambda: torch.randn(256, 12), [1, 2, 3]),  # by four they had more statistics than numbers
        (lambda: torch.randn(256, 7), [1]),
        (lambda: torch.randn(256, 20, 3), [1, 2, 3, 4]),
        (lambda: measured(256), [1, 2]),
        (lambda: torch.randn(256, 8) * torch.tensor([1.0, 1000.0]).repeat(4), [2]),
        (lambda: torch.randn(256, 9) + torch.tensor([0.0, 3.0, 9.0]).repeat(3), [3]),
        (lambda: torch.randn(256, 8) + 5 * torch.randn(256, 1), [1, 2]),
        (lambda: torch.poisson(torch.randn(256, 1).exp().expand(-1, 5)), [1]),
        (lambda: torch.randn(8, 10), []),  # too few rows to see it by
        (lambda: torch.randn(256, 8) + torch.arange(8.0), []),
        (lambda: torch.randn(256, 5) * torch.tensor([1.0, 1000.0, 1.0, 1.0, 1.0]), []),
    ],
)
def test_columns_are_seen_in_which_numbers_lie_alike(make, columns):
    torch.manual_seed(0)
    rows = make()
    site = repeated(rows)
    sizes = [site._statistics(rows.double().reshape(len(rows), -1, each)).shape[1] for each in site.columns]
    expected = [each for each, size in zip(site.columns, sizes, strict=True) for _ in range(size) if each in columns]
    assert site.alike.sum() == len(expected)
    assert (site(rows)[:, -len(site.alike) :].std(0) > 0).tolist() == site.alike.bool().tolist()


@pytest.mark.parametrize("shape", [(), (2,), (0,), (64,), (28, 28)])
def test_few_numbers_and_very_many_are_not_parted(shape):
    assert not possible_columns(torch.Size(shape).numel())


def test_images_shares_labels_and_counts_out_of_a_number_are_seen_as_they_are():
    torch.manual_seed(0)
    assert is_parted(torch.randn(256, 6))
    assert not is_parted(dist.Dirichlet(torch.ones(5)).sample((256,)), constraints.simplex)
    counts = dist.Binomial(10, torch.rand(256, 1).expand(-1, 6)).sample()
    assert not is_parted(counts, constraints.integer_interval(0, torch.full((6,), 10.0)), has_odds=True)
    assert not is_parted(torch.rand(256, 9, 9), constraints.unit_interval)
    assert not is_parted(torch.randint(5, (256, 6)))
    labels = torch.eye(6)[torch.randint(6, (256,))]
    assert not is_parted(labels, constraints.simplex)
    assert not is_parted(labels, constraints.one_hot)


def simulator(batch_size):
    with pyro.plate("data", batch_size):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.deterministic("x", scale[:, None] * torch.randn(batch_size, 6), event_dim=1)


def of_data(site):
    """The same as a model that observes a site of that name."""

    def model(x):
        with pyro.plate("data", len(x)):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
            pyro.sample(site, dist.Normal(0.0, scale[:, None]).expand([len(x), 6]).to_event(1), obs=x)

    return model


def simulations(num_rows=400):
    trace = pyro.poutine.trace(simulator).get_trace(num_rows)
    return {site: trace.nodes[site]["value"] for site in ("scale", "x")}


def briefly(inference, data, **options):
    return inference.run(data, num_steps=3, batch_size=64, progress=False, **options)


def an_inference(model=simulator, discriminator=None, kind=BiGANInference, **of_guide):
    """Anew, with a small guide."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    return kind(model, AutoImplicitGuide(model, **{"observed": "x", **SMALL, **of_guide}), discriminator)


def sites_of(network):
    return {site.name: site for site in network.modules() if isinstance(site, Coordinates)}


@pytest.mark.parametrize("discriminator", [None, AutoDiscriminator])
def test_guide_and_discriminator_see_observations_alike_and_latents_as_they_are(discriminator):
    inference = an_inference(discriminator=discriminator and discriminator(**SMALL))
    briefly(inference, simulations())
    theirs, ours = sites_of(inference.guide.function), sites_of(inference.discriminator.function)
    assert type(theirs["x"]) is type(ours["x"]) is Repeated
    torch.testing.assert_close(theirs["x"].alike, torch.ones(1 + 3))
    assert type(ours["scale"]) is type(theirs["scale"]) is Coordinates
    assert inference.guide.function.posterior.regression.slope.shape == (6 + 1 + 3, 1)
    assert inference.discriminator.function.regression.slope.shape == (6 + 1 + 3, 1)
    assert "4 statistics of columns" in repr(inference.guide.function)


def test_without_a_guide_rows_are_seen_as_they_are():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()

    def model(batch_size):
        noise = pyro.sample("noise", dist.Uniform(0.0, 1.0).expand([batch_size, 6]).to_event(2))
        return pyro.deterministic("x", pyro.param("scale", torch.tensor(1.0)) * noise, event_dim=1)

    inference = briefly(GANInference(model), torch.randn(400, 6))
    assert type(sites_of(inference.discriminator.function)["x"]) is Coordinates


def test_a_saved_fit_sees_rows_as_before_whatever_the_first_ones_look_like(tmp_path):
    inference = an_inference(discriminator=AutoDiscriminator(**SMALL))
    data = simulations()
    briefly(inference, data)
    inference.save(tmp_path / "fit.pt")
    x = data["x"][:5]
    with pyro.poutine.block():
        pyro.set_rng_seed(1)
        expected = inference.sample_posterior(x, 10)["scale"]
    loaded = an_inference(discriminator=AutoDiscriminator(**SMALL))
    loaded.load(tmp_path / "fit.pt")
    pyro.set_rng_seed(1)
    torch.testing.assert_close(loaded.sample_posterior(x, 10)["scale"], expected)  # five rows are too few to see it by
    briefly(loaded, data)
    for old, new in zip(inference.players().values(), loaded.players().values(), strict=True):
        for name, site in sites_of(old.function).items() if isinstance(old.function, torch.nn.Module) else ():
            assert type(sites_of(new.function)[name]) is type(site)
            torch.testing.assert_close(sites_of(new.function)[name].scale, site.scale)


def test_copies_of_what_is_not_built_yet_see_observations_as_their_own_guide():
    inference = an_inference()
    other = copy.deepcopy(inference)
    briefly(other, simulations())
    assert isinstance(sites_of(other.discriminator.function)["x"], Repeated)
    assert not inference.discriminator.function.is_built


@pytest.mark.slow
def test_a_compiled_run_sees_the_same():
    runs = []
    for compile in (False, True):
        inference = an_inference()
        briefly(inference, simulations(), compile=compile)
        runs.append({name: value.detach() for name, value in inference.guide.function.named_parameters()})
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, atol=1e-5, rtol=1e-4)


def test_a_posterior_by_the_prior_and_a_ratio_sees_them_too():
    inference = an_inference(of_data("x"), AutoDiscriminator(**SMALL), ImplicitKLqp, observed=())
    briefly(inference, simulations()["x"])
    assert isinstance(sites_of(inference.guide.function)["x"], Repeated)


@pytest.mark.parametrize("num_rows", [10, 64])
def test_a_question_before_the_first_step_decides_on_nothing(num_rows):
    inference = an_inference()
    data = simulations()
    inference.evaluate_loss({site: rows[:num_rows] for site, rows in data.items()})
    briefly(inference, data)
    for player in (inference.guide, inference.discriminator):
        assert sites_of(player.function)["x"].alike.all()


def test_a_discriminator_that_is_beside_a_guide_is_no_part_of_it():
    def model(batch_size):
        return simulator(batch_size)

    judge = AutoDiscriminator(**SMALL)
    BiGANInference(model, AutoImplicitGuide(model, observed="x", **SMALL), judge)
    assert not pickle.loads(pickle.dumps(judge)).is_built


def test_no_rows_have_no_logits():
    inference = an_inference()
    data = simulations()
    briefly(inference, data)
    assert inference.discriminator.function(**{site: rows[:0] for site, rows in data.items()}).shape == (0,)


def test_a_state_of_numbers_is_refused_by_a_guide_of_sets(tmp_path):
    inference = an_inference()
    briefly(inference, simulations())
    inference.save(tmp_path / "fit.pt")
    other = an_inference(sets="x")
    with pytest.raises(ValueError, match=r"has no parameter 'AutoImplicitGuide.*pools"):
        other.load(tmp_path / "fit.pt")
        other.sample_posterior(torch.randn(6), 2)


def test_few_draws_relate_latents_to_numbers_alone():
    inference = an_inference(discriminator=AutoDiscriminator(**SMALL))
    few = simulations(36)  # 4 (1 + 6 + 1) of them are enough for numbers, and not with four statistics more
    inference.run(few, num_steps=1, batch_size=36, progress=False)
    for network in (inference.guide.function.posterior, inference.discriminator.function):
        assert network.regression.slope[:6].abs().sum() > 0
        assert not network.regression.slope[6:].any()


def test_a_discriminator_finds_the_guides_observation_by_the_models_name():
    inference = an_inference(of_data("observed"), AutoDiscriminator(**SMALL), observed=())
    briefly(inference, simulations()["x"])
    assert isinstance(sites_of(inference.guide.function)["x"], Repeated)
    assert isinstance(sites_of(inference.discriminator.function)["observed"], Repeated)


def test_a_state_for_rows_of_another_length_is_refused_by_its_shape(tmp_path):
    inference = an_inference()
    briefly(inference, simulations())
    inference.save(tmp_path / "fit.pt")

    def pair(batch_size):
        with pyro.plate("data", batch_size):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
            pyro.deterministic("x", scale[:, None] * torch.randn(batch_size, 2), event_dim=1)

    other = an_inference(pair)
    other.load(tmp_path / "fit.pt")
    with pytest.raises(ValueError, match="Build the same networks"):
        briefly(other, {"scale": torch.rand(400), "x": torch.randn(400, 2)})
