"""Observations of repeated measurements: which columns networks see, and what they see of them."""

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference, ImplicitKLqp
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.repeated import MOST_NUMBERS, Repeated, Repeats, repeats_of

DOUBLE = {"dtype": torch.float64}
SMALL = {"width": 16, "depth": 1}


def repeated(rows, columns, least=1e-12, support=constraints.real):
    return Repeated(Repeats(columns, least), "x", support, rows, torch.float64)


def found(rows, support=constraints.real, **options):
    return repeats_of(Coordinates("x", support, rows, torch.float64, is_image=False, **options), rows)


def measured(num_rows, num_measurements=4):
    """Two features of each of several measurements, with means, deviations and a correlation of the row's own."""
    means = 3 * torch.randn(num_rows, 1, 2)
    deviations = torch.randn(num_rows, 1, 2).exp()
    noise = torch.randn(num_rows, num_measurements, 2)
    noise[..., 1] += torch.randn(num_rows, 1) * noise[..., 0]
    return (means + deviations * noise).flatten(1)


def test_behind_the_numbers_are_the_deviations_and_correlations_of_columns():
    torch.manual_seed(0)
    rows = torch.randn(20, 12, **DOUBLE)
    real = repeated(rows, (1, 3)).to_real(rows).numpy()
    assert real.shape == (20, 12 + 1 + 3 + 3)
    for row, seen in zip(rows.numpy(), real, strict=True):
        by_three = row.reshape(4, 3)
        correlations = np.corrcoef(by_three.T)[[0, 0, 1], [1, 2, 2]]
        expected = [*row, np.log(row.std()), *np.log(by_three.std(0)), *correlations]
        np.testing.assert_allclose(seen, expected, rtol=1e-9)


def test_a_matrix_of_measurements_is_parted_as_it_stands():
    torch.manual_seed(0)
    rows = torch.randn(20, 5, 2, **DOUBLE)
    real = repeated(rows, (2,)).to_real(rows)
    torch.testing.assert_close(real[:, 10:12], rows.std(1, correction=0).log())
    torch.testing.assert_close(real, repeated(rows.flatten(1), (2,)).to_real(rows.flatten(1)))


def test_numbers_are_parted_on_the_real_line():
    torch.manual_seed(0)
    rows = torch.randn(20, 6, **DOUBLE).exp()
    real = repeated(rows, (1,), support=constraints.independent(constraints.positive, 1)).to_real(rows)
    torch.testing.assert_close(real[:, 6], rows.log().std(1, correction=0).log())


def test_of_many_numbers_the_means_are_seen_too_and_latents_are_related_to_what_columns_say():
    torch.manual_seed(0)
    rows = torch.randn(50, MOST_NUMBERS + 2, **DOUBLE)
    site = repeated(rows, (1, 2))
    related = site.related(rows)
    assert related.shape == (50, site.num_related) == (50, 2 + 1 + 3)
    means = rows.reshape(50, -1, 2).mean(1)
    torch.testing.assert_close(related[:, :2], (means - site.mean[-6:-4]) / site.scale[-6:-4])
    few = rows[:, :MOST_NUMBERS]
    assert repeated(few, (1, 2)).num_related == MOST_NUMBERS + 1 + 3


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_a_change_of_units_changes_no_coordinate(factor):
    torch.manual_seed(0)
    rows = measured(300).double()
    sites = [Repeated(found(each), "x", constraints.real, each, torch.float64) for each in (rows, factor * rows)]
    torch.testing.assert_close(sites[0](rows), sites[1](factor * rows))


@pytest.mark.parametrize("row", [[2.0] * 6, [0.0] * 6, [1e30, -1e30, 0.0, 1.0, 2.0, 3.0], [1e-30, *[0.0] * 5]])
def test_any_row_has_finite_coordinates_that_can_be_differentiated_twice(row):
    torch.manual_seed(0)
    site = Repeated(Repeats((1, 2), 1e-3), "x", constraints.real, torch.randn(50, 6), torch.float32)
    rows = torch.tensor([row], requires_grad=True)
    seen = site(rows)
    (slope,) = torch.autograd.grad(seen[:, 6:].square().sum(), rows, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), rows)
    assert all(each.isfinite().all() for each in (seen, slope, second))


def test_a_row_of_one_number_counts_as_one_of_the_least_deviation():
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(999, 5, **DOUBLE), torch.full((1, 5), 7.0, **DOUBLE)])
    repeats = found(rows)
    smallest = rows[:-1].std(1, correction=0).log().min()
    seen = Repeated(repeats, "x", constraints.real, rows, torch.float64).to_real(rows)[-1, 5]
    assert seen == pytest.approx(math.log(repeats.least))
    assert smallest - 3 < seen < smallest


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (lambda: torch.randn(256, 10), (1, 2)),
        (lambda: torch.randn(256, 12), (1, 2, 3, 4)),
        (lambda: torch.randn(256, 7), (1,)),
        (lambda: torch.randn(256, 4, 3), (1, 2, 3, 4)),
        (lambda: torch.randn(256, 60), (1, 2)),  # more columns, and latents would not be related to each number
        (lambda: torch.randn(256, 120), (1, 2, 3, 4)),
        (lambda: measured(256), (1, 2)),
        (lambda: torch.randn(256, 8) * torch.tensor([1.0, 1000.0]).repeat(4), (2,)),
        (lambda: torch.randn(256, 9) + torch.tensor([0.0, 3.0, 9.0]).repeat(3), (3,)),
        (lambda: torch.randn(256, 8) + 5 * torch.randn(256, 1), (1, 2)),
        (lambda: torch.poisson(torch.randn(256, 1).exp().expand(-1, 5)), (1,)),
    ],
)
def test_columns_are_those_in_which_numbers_lie_alike(rows, columns):
    torch.manual_seed(0)
    assert found(rows()).columns == columns


@pytest.mark.parametrize(
    "rows",
    [
        lambda: torch.randn(256),
        lambda: torch.randn(256, 2),
        lambda: torch.randn(8, 10),
        lambda: torch.full((256, 5), 2.0),
        lambda: torch.randn(256, 8) + torch.arange(8.0),
        lambda: torch.randn(256, 5) * torch.tensor([1.0, 1000.0, 1.0, 1.0, 1.0]),
        lambda: torch.randint(5, (256, 6)),
    ],
)
def test_rows_that_are_no_measurements_are_seen_as_they_are(rows):
    torch.manual_seed(0)
    assert found(rows()) is None


def test_images_shares_and_counts_out_of_a_number_are_seen_as_they_are():
    torch.manual_seed(0)
    shares = dist.Dirichlet(torch.ones(5)).sample((256,))
    assert found(shares, constraints.simplex) is None
    counts = dist.Binomial(10, torch.rand(256, 1).expand(-1, 6)).sample()
    assert found(counts, constraints.integer_interval(0, torch.full((6,), 10.0)), has_odds=True) is None
    images = torch.rand(256, 9, 9)
    assert repeats_of(Coordinates("x", constraints.unit_interval, images, torch.float32), images) is None


def simulator(batch_size):
    with pyro.plate("data", batch_size):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.deterministic("x", scale[:, None] * torch.randn(batch_size, 6), event_dim=1)


def simulations(num_rows=400):
    trace = pyro.poutine.trace(simulator).get_trace(num_rows)
    return {site: trace.nodes[site]["value"] for site in ("scale", "x")}


def briefly(inference, data, **options):
    return inference.run(data, num_steps=3, batch_size=64, progress=False, **options)


def sites_of(network):
    return {site.name: site for site in network.modules() if isinstance(site, Coordinates)}


@pytest.mark.parametrize("discriminator", [None, AutoDiscriminator])
def test_guide_and_discriminator_see_observations_alike_and_latents_as_they_are(discriminator):
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    judge = discriminator and discriminator(**SMALL)
    inference = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x", **SMALL), judge)
    briefly(inference, simulations())
    theirs, ours = sites_of(inference.guide.function), sites_of(inference.discriminator.function)
    assert theirs["x"].repeats == ours["x"].repeats
    assert theirs["x"].repeats.columns == (1, 2)
    assert type(ours["scale"]) is type(theirs["scale"]) is Coordinates
    assert inference.guide.function.posterior.regression.slope.shape == (6 + 1 + 3, 1)
    assert inference.discriminator.function.regression.slope.shape == (6 + 1 + 3, 1)
    assert "with the deviations of columns by 1, 2" in repr(inference.guide.function)


def test_without_a_guide_rows_are_seen_as_they_are():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()

    def model(batch_size):
        noise = pyro.sample("noise", dist.Uniform(0.0, 1.0).expand([batch_size, 6]).to_event(2))
        return pyro.deterministic("x", pyro.param("scale", torch.tensor(1.0)) * noise, event_dim=1)

    inference = briefly(GANInference(model), torch.randn(400, 6))
    assert type(sites_of(inference.discriminator.function)["x"]) is Coordinates


def test_a_saved_fit_sees_rows_as_before_whatever_the_first_ones_look_like(tmp_path):
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    inference = BiGANInference(
        simulator, AutoImplicitGuide(simulator, observed="x", **SMALL), AutoDiscriminator(**SMALL)
    )
    data = simulations()
    briefly(inference, data)
    inference.save(tmp_path / "fit.pt")
    x = data["x"][:5]
    with pyro.poutine.block():
        pyro.set_rng_seed(1)
        expected = inference.sample_posterior(x, 10)["scale"]
    pyro.clear_param_store()
    loaded = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x", **SMALL), AutoDiscriminator(**SMALL))
    loaded.load(tmp_path / "fit.pt")
    pyro.set_rng_seed(1)
    torch.testing.assert_close(loaded.sample_posterior(x, 10)["scale"], expected)  # five rows are too few to see it by
    briefly(loaded, data)
    assert sites_of(loaded.discriminator.function)["x"].repeats == sites_of(inference.guide.function)["x"].repeats


def test_copies_of_what_is_not_built_yet_see_observations_as_their_own_guide():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    inference = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x", **SMALL))
    other = copy.deepcopy(inference)
    briefly(other, simulations())
    assert isinstance(sites_of(other.discriminator.function)["x"], Repeated)
    assert not inference.discriminator.function.is_built


def test_a_compiled_run_sees_the_same():
    runs = []
    for compile in (False, True):
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        data = simulations()
        inference = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x", **SMALL))
        briefly(inference, data, compile=compile)
        runs.append({name: value.detach() for name, value in inference.guide.function.named_parameters()})
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, atol=1e-5, rtol=1e-4)


def test_a_posterior_by_the_prior_and_a_ratio_sees_them_too():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()

    def model(x):
        with pyro.plate("data", len(x)):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.0, scale[:, None]).expand([len(x), 6]).to_event(1), obs=x)

    inference = ImplicitKLqp(model, AutoImplicitGuide(model, **SMALL), AutoDiscriminator(**SMALL))
    briefly(inference, simulations()["x"])
    assert isinstance(sites_of(inference.guide.function)["x"], Repeated)
