"""What users of a guide get wrong: each message says what came, what was expected and the mend, and nothing changes."""

from contextlib import contextmanager

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_model, linear_rows, linear_simulator, normal_guide
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_gan import BiGANInference

X = linear_rows(16)[1]


@contextmanager
def refused(error, message, *networks):
    """The error is raised; Pyro's parameters, the networks and the random state are what they were."""
    store = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    weights = [value.detach().clone() for network in networks for value in network.state_dict().values()]
    random_state = torch.get_rng_state()
    with pytest.raises(error, match=message):
        yield
    now = dict(pyro.get_param_store().items())
    assert set(now) == set(store) and all(torch.equal(now[name], value) for name, value in store.items())
    after = [value for network in networks for value in network.state_dict().values()]
    assert all(torch.equal(value, before) for value, before in zip(after, weights, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


def model_of(*draws):
    """A model that draws z, x observed, and whatever the functions of z draw besides."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            for draw in draws:
                draw(z)
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    return model


def guide_of(*draws):
    """A guide that draws what the functions of a parameter, times the observation, draw."""

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.5)) * x
        with pyro.plate("data", len(x)):
            for draw in draws:
                draw(loc)

    return guide


def draws(name, function=lambda loc: dist.Normal(loc, 1.0), **kwargs):
    return lambda loc: pyro.sample(name, function(loc), **kwargs)


def tells(name, function=lambda loc: loc):
    return lambda loc: pyro.deterministic(name, function(loc), event_dim=0)


NETWORK = nn.Linear(1, 1)


def unregistered(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(NETWORK(x[:, None])[:, 0], 1.0))


def detached(x):
    pyro.module("encoder", NETWORK)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(NETWORK(x[:, None])[:, 0].detach(), 1.0))


def outside_of_plates(x):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def rows_behind(x):
    loc = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", len(x), dim=-1), pyro.plate("groups", 3, dim=-2):
        pyro.sample("z", dist.Normal(loc, 1.0))


def model_rows_behind(x):
    with pyro.plate("data", len(x), dim=-1):
        with pyro.plate("groups", 3, dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.sum(0), 0.5), obs=x)


def trainable_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(pyro.param("slope", torch.tensor(1.0)) * z, 0.5), obs=x)


def of_two_observed(x, y):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * z, event_dim=0)
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)
        pyro.sample("y", dist.Normal(z, 0.5), obs=y)


def guide_of_two(x, y):
    guide_of(draws("z"))(x)


def two_unobserved(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("w", dist.Normal(z, 0.5))
        pyro.sample("x", dist.Normal(z, 0.5))


SITES = [
    (
        model_of(),
        guide_of(draws("y")),
        {},
        r"the guide draws site 'y', but the model has 'z', 'x'. Name .* infer=\{'is_auxiliary': True\}",
    ),
    (model_of(), guide_of(draws("noise"), tells("z")), {}, "the guide draws site 'noise', but the model has 'z', 'x'"),
    (lambda x: None, guide_of(draws("z")), {}, "the guide draws site 'z', but the model has no sites"),
    (
        model_of(),
        guide_of(draws("z", lambda loc: dist.Poisson(loc.exp()))),
        {},
        r"guide's site 'z' \(latent Poisson, not reparameterized\) carries no gradient. .* discrete site a Categorical",
    ),
    (
        model_of(),
        guide_of(draws("z", lambda loc: dist.Bernoulli(logits=loc))),
        {},
        r"guide's site 'z' \(latent Bernoulli, not reparameterized\) is discrete, but the model's \(latent Normal",
    ),
    (model_of(), guide_of(), {}, "the guide draws none of the model's sites, 'z', 'x'. Draw at least one"),
    (model_of(), guide_of(tells("loc")), {}, "the guide draws none of the model's sites, 'z', 'x'"),
    (model_of(), guide_of(draws("z")), {"site": "x"}, "the guide draws none of the model's sites, 'x'"),
    (
        model_of(),
        guide_of(draws("z"), draws("x")),
        {},
        "guide draws all of the model's sites, 'z', 'x': none is left .*Observe one in the model, or leave it out",
    ),
    (
        model_of(),
        guide_of(draws("z")),
        {"site": ["z"]},
        "site names 'z', all of which the guide draws: none is left .*Name an observed site too",
    ),
    (
        model_of(draws("w")),
        guide_of(draws("z")),
        {},
        r"the guide has no site 'w', which the model draws. Draw it in the guide, or .*site=\['z', 'x'\]",
    ),
    (
        model_of(draws("w")),
        guide_of(draws("z")),
        {"site": ["z", "w", "x"]},
        r"the guide has no site 'w', which the model draws.*site=\['z', 'x'\]",
    ),
    (two_unobserved, guide_of(draws("z")), {}, r"the guide has no site 'w', .*site=\['z', '...'\]"),
    (model_of(), guide_of(draws("z")), {"site": ["z", "y"]}, "site='y' is not a site of the model; it has 'z', 'x'"),
    (
        model_of(tells("mean")),
        guide_of(draws("z")),
        {},
        r"several sites to compare with the data: 'mean', 'x'. Choose with site=\['z', 'x'\]",
    ),
    (model_of(), outside_of_plates, {}, r"the guide's site 'z' has shape \(\), but the guide was given 16 rows"),
    (
        model_rows_behind,
        rows_behind,
        {},
        r"guide's site 'z' has shape \(3, 16\), .* 16 rows, .* in front. Draw it in a pyro.plate .*dim is to the left",
    ),
    (
        model_of(),
        guide_of(draws("z", lambda loc: dist.Normal(0 * loc.detach(), 1.0))),
        {},
        r"guide's draws of 'z' carry no gradient to its parameters \('loc'\). .*without detach\(\) or no_grad\(\)",
    ),
    (model_of(), detached, {}, r"the guide's draws of 'z' carry no gradient to its parameters \('encoder\$\$\$weight'"),
    (trainable_model, detached, {}, "the guide's draws of 'z' carry no gradient to its parameters"),
    (model_of(), unregistered, {}, r"neither the guide nor the model has parameters .*pyro.module\('guide', network\)"),
    (trainable_model, unregistered, {}, r"site 'z' depends on tensors .* not registered with Pyro, of shapes"),
]


@pytest.mark.parametrize(("model", "guide", "options", "message"), SITES)
def test_sites_that_do_not_match_are_refused(model, guide, options, message):
    discriminator = joint_discriminator()
    inference = BiGANInference(model, guide, discriminator, **options)
    for _ in range(2):  # the second time as the first
        with refused(ValueError, message, NETWORK):
            inference.step(X)
    assert inference.num_steps_taken == 0 and inference.history["step"] == []


def test_several_observed_sites_want_a_choice():
    inference = BiGANInference(of_two_observed, guide_of_two, joint_discriminator(3))
    with refused(ValueError, r"several sites .*: 'twice', 'x', 'y'. Choose with site=\['z', 'x', 'y'\]"):
        inference.step(X, X)
    inference = BiGANInference(of_two_observed, guide_of_two, joint_discriminator(3), site=["z", "x", "y"])
    assert torch.isfinite(inference.step(X, X).generator)


def test_a_mended_guide_works_in_the_same_inference():
    sites = {"names": [draws("y")]}

    def guide(x):
        guide_of(*sites["names"])(x)

    inference = BiGANInference(linear_model, guide, joint_discriminator())
    for wrong in (
        draws("y"),
        draws("z", lambda loc: dist.Bernoulli(logits=loc)),
        draws("z", lambda loc: dist.Delta(0 * X)),
    ):
        sites["names"] = [wrong]
        with refused(ValueError, "the guide"):
            inference.step(X)
    sites["names"] = [draws("z")]
    inference.step(X)
    assert inference.num_steps_taken == 1 and inference.sample_posterior(0.0, 3)["z"].shape == (3,)


def test_a_mended_model_works_in_the_same_inference():
    more = {"draws": [draws("w")]}

    def model(x):
        model_of(*more["draws"])(x)

    inference = BiGANInference(model, guide_of(draws("z")), joint_discriminator())
    with refused(ValueError, "the guide has no site 'w'"):
        inference.step(X)
    more["draws"] = []
    inference.step(X)
    assert inference.model.sites == ("z", "x")


# ---- the constructor


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"guide": 3}, TypeError, r"guide must be a Pyro model, a callable, but is 3 \(int\)"),
        ({"model": None}, TypeError, "model must be a Pyro model, a callable, but is None"),
        ({"site": 3}, TypeError, "site must be a site's name or a list of names, but is 3"),
        ({"discriminator_steps": 0}, ValueError, "discriminator_steps must be a positive integer, but is 0"),
    ],
)
def test_what_the_constructor_refuses(arguments, error, message):
    given = {"model": linear_model, "guide": normal_guide(), "discriminator": joint_discriminator(), **arguments}
    with refused(error, message):
        BiGANInference(**given)


# ---- the discriminator


class OfImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1)

    def forward(self, image):
        return self.network(image)


@pytest.mark.parametrize(
    ("discriminator", "message"),
    [
        (lambda x: NETWORK(x[:, None]), r"takes x, but the sites compared are 'z', 'x'.*def discriminator\(z, x\)"),
        (lambda x, z, w: NETWORK(x[:, None]), "takes x, z, w, but the sites compared are 'z', 'x'"),
        (lambda a, b: NETWORK(a[:, None]), "takes a, b, but the sites compared are 'z', 'x'"),
        (lambda: NETWORK(X[:, None]), "takes no arguments, but the sites compared are 'z', 'x'"),
        (OfImages(), "takes image, but the sites compared are 'z', 'x'"),
        (nn.Sequential(nn.Linear(1, 1)), "takes input, but the sites compared are 'z', 'x'"),
        (lambda z, x, /: NETWORK(x[:, None]), "takes z, x by position, .*Remove the slash from its arguments"),
    ],
)
def test_a_discriminator_of_other_arguments_is_refused(discriminator, message):
    inference = BiGANInference(linear_model, normal_guide(), discriminator)
    with refused(ValueError, f"the discriminator {message}", NETWORK):
        inference.step(X)


@pytest.mark.parametrize(
    "discriminator",
    [
        lambda x, z: NETWORK((x + z)[:, None]),
        lambda *, z, x: NETWORK((x + z)[:, None]),
        lambda z, x, scale=2.0: NETWORK(scale * (x + z)[:, None]),
        lambda z, *others, x: NETWORK((x + z)[:, None]),
        lambda **rows: NETWORK((rows["x"] + rows["z"])[:, None]),
        lambda z, **rows: NETWORK((rows["x"] + z)[:, None]),
    ],
)
def test_a_discriminator_may_name_its_arguments_as_python_allows(discriminator):
    assert torch.isfinite(BiGANInference(linear_model, normal_guide(), discriminator).step(X).generator)


def dotted_model(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("a.z", dist.Normal(0.0, 1.0)), 0.5), obs=x)


def test_sites_whose_names_python_can_not_spell_go_as_keywords():
    guide = guide_of(draws("a.z"))
    assert torch.isfinite(BiGANInference(dotted_model, guide, joint_discriminator()).step(X).generator)


def test_sites_whose_names_python_can_not_spell_are_told_to_go_as_keywords():
    inference = BiGANInference(dotted_model, guide_of(draws("a.z")), lambda z, x: NETWORK((x + z)[:, None]))
    with refused(ValueError, r"the sites compared are 'a.z', 'x'.*def discriminator\(\*\*rows\)"):
        inference.step(X)


def test_a_discriminator_that_borrows_from_the_guide_is_refused():
    network = nn.Linear(1, 2)

    def discriminator(z, x):
        return network(x[:, None])[:, 0] + z

    inference = BiGANInference(linear_model, normal_guide(network), discriminator)
    with refused(ValueError, "is also the discriminator's .*Each player trains its own", network):
        inference.step(X)


# ---- data


@pytest.mark.parametrize(
    ("guide", "data", "message"),
    [
        (guide_of_two, X, r"the guide takes 2 data arguments \(x, y\), but the minibatch has 1 elements"),
        (guide_of_two, {"x": X}, r"the guide's argument 'y' is not among the data's names \('x'\)"),
        (guide_of(draws("z")), {"y": X}, r"the model's argument 'x' is not among the data's names \('y'\)"),
    ],
)
def test_guide_and_model_name_what_they_lack(guide, data, message):
    inference = BiGANInference(linear_model, guide, joint_discriminator())
    with refused(TypeError, message):
        inference.step(data)


def test_data_of_another_number_type_than_the_guide_are_told():
    inference = BiGANInference(linear_model, normal_guide(), joint_discriminator())
    with refused(RuntimeError, "must have the same dtype"):
        inference.step(X.double())
    with pytest.raises(RuntimeError) as error:
        inference.step(X.double())
    assert any("The guide was given data of another floating-point type" in note for note in error.value.__notes__)


def test_simulations_of_a_model_that_is_trained_are_refused():
    inference = BiGANInference(trainable_model, normal_guide(), joint_discriminator())
    message = r"the data hold the latent sites 'z', .* it has parameters to train \('slope'\). Pass the observed sites"
    with refused(ValueError, message):
        inference.step({"z": X, "x": X})
    inference.step({"x": X})


def test_simulations_in_a_tuple_are_refused():
    inference = BiGANInference(linear_simulator, normal_guide(), joint_discriminator(), site=["z", "x"])
    message = r"the minibatch is a tuple of 2, as many as the sites 'z', 'x', .* as a mapping, run\(\{'z': ..., ...\}\)"
    with refused(ValueError, message):
        inference.step(X, X)
    inference.step({"z": X, "x": X})


def test_simulations_of_another_shape_than_the_guides_draws_are_refused():
    inference = BiGANInference(linear_simulator, normal_guide(), joint_discriminator())
    message = r"differ at site 'z': the guide's have shape \(16 rows, event shape \(\)\), .* event shape \(2,\)\)"
    with refused(ValueError, message):
        inference.step({"z": torch.zeros(16, 2), "x": X})
    inference.step({"z": X, "x": X})


def test_a_guide_that_draws_nan_is_named():
    guide = guide_of(tells("z", lambda loc: loc / 0 * 0))
    inference = BiGANInference(linear_model, guide, joint_discriminator())
    with refused(ValueError, "the guide's draws hold NaN or infinity at site 'z'"):
        inference.step(X)


def test_a_site_that_vanishes_from_the_guide_is_named():
    there = {"z": True}

    def guide(x):
        guide_of(*([draws("z")] if there["z"] else []))(x)

    inference = BiGANInference(linear_model, guide, joint_discriminator())
    inference.step(X)
    there["z"] = False
    with refused(ValueError, "site 'z' is missing from this run of the guide. Draw it in every run"):
        inference.step(X)


# ---- after the fit


@pytest.fixture
def fitted():
    inference = BiGANInference(linear_model, normal_guide(), joint_discriminator())
    inference.step(X)
    return inference


NOT_YET = "no step has been taken, so that {} can not be used yet. Call run or step first"


def test_nothing_is_drawn_before_the_first_step():
    inference = BiGANInference(linear_model, normal_guide(), joint_discriminator())
    with refused(ValueError, NOT_YET.format("x_obs")):
        inference.sample_posterior(0.0)
    with refused(ValueError, NOT_YET.format("latents")):
        inference.decode({"z": 0.0})
    with refused(ValueError, NOT_YET.format("the observations")):
        inference.reconstruct(X)
    inference.step(X)
    assert inference.sample_posterior(0.0, 2)["z"].shape == (2,)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("3", TypeError)])
def test_the_number_of_draws_is_checked(fitted, number, error):
    with refused(error, "num_samples must be a positive integer"):
        fitted.sample_posterior(0.0, number)


POSTERIOR = [
    (torch.zeros(3, 2), ValueError, r"x_obs\[0\] has shape \(3, 2\), but in training each had shape \(\)"),
    (torch.zeros(2, 3, 4), ValueError, r"x_obs\[0\] has shape \(2, 3, 4\), but in training each had shape \(\)"),
    (torch.zeros(0), ValueError, "x_obs is empty"),
    (float("nan"), ValueError, r"x_obs\[0\] holds NaN or infinity"),
    (None, TypeError, r"x_obs\[0\] must be a tensor, an array or a number, but is None"),
    ((X, X), ValueError, "x_obs are 2 in order, but the guide was trained on 1"),
    ({"x": X}, ValueError, "x_obs are 'x' by name, but the guide was trained on 1 in a tuple"),
]


@pytest.mark.parametrize(("x_obs", "error", "message"), POSTERIOR)
def test_observations_that_do_not_fit_are_refused(fitted, x_obs, error, message):
    with refused(error, message):
        fitted.sample_posterior(x_obs)
    with refused(error, message.replace("x_obs", "the observations")):
        fitted.reconstruct(x_obs)


LATENTS = [
    (torch.zeros(3), TypeError, r"latents must be a mapping such as \{'z': ...\}, but is a Tensor"),
    ({}, ValueError, "latents holds nothing, but the latent sites are 'z'"),
    ({"y": X}, ValueError, "latents holds 'y', but the latent sites are 'z'. Pass these, or some of them"),
    ({"x": X}, ValueError, "latents holds 'x', but the latent sites are 'z'"),
    ({"z": torch.zeros(3, 2)}, ValueError, r"latents\['z'\] has shape \(3, 2\), but in training each had shape \(\)"),
    ({"z": "a"}, TypeError, r"latents\['z'\] must be a tensor, an array or a number, but is 'a'"),
    ({"z": torch.tensor([float("nan")])}, ValueError, r"latents\['z'\] holds NaN or infinity"),
    ({"z": torch.zeros(0)}, ValueError, "latents is empty"),
]


@pytest.mark.parametrize(("latents", "error", "message"), LATENTS)
def test_latents_that_do_not_fit_are_refused(fitted, latents, error, message):
    with refused(error, message):
        fitted.decode(latents)


def test_a_missing_observation_is_named():
    def guide(x, c):
        guide_of(draws("z"))(x + c)

    def model(x, c):
        linear_model(x)

    inference = BiGANInference(model, guide, joint_discriminator())
    inference.step({"x": X, "c": X})
    with refused(TypeError, r"the guide's argument 'c' is not among the data's names \('x'\)"):
        inference.sample_posterior({"x": X})
    with refused(ValueError, r"x_obs\['c'\] is a single one, but x_obs\['x'\] has rows"):
        inference.sample_posterior({"x": X, "c": 0.0})
    with refused(ValueError, "x_obs are 3 in order, but the guide was trained on 'x', 'c'. Pass these by name"):
        inference.sample_posterior((X, X, X))


def test_a_guide_of_a_fixed_number_of_rows_has_no_others():
    inference = BiGANInference(linear_model, AutoNormal(linear_model), joint_discriminator())
    inference.step(X)
    with pytest.raises(ValueError, match=r"the guide's site 'z' has shape \(16,\), but the guide was given 48 rows"):
        inference.sample_posterior(X, 3)
