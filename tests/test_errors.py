"""What users get wrong, and what they are told: each message says what came, what was expected and the mend."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_model, scalar_discriminator
from torch import nn

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, ProgressLines

DATA = torch.randn(64)
NAN = float("nan")


def run(model=location_model, discriminator=None, data=DATA, num_steps=2, batch_size=16, **kwargs):
    options = {key: kwargs.pop(key) for key in ("transform", "callbacks", "print_every") if key in kwargs}
    inference = GANInference(model, discriminator or scalar_discriminator(4), **kwargs)
    return inference.run(data, num_steps=num_steps, batch_size=batch_size, progress=False, **options)


def model_of(*sites):
    """A model whose body is given as functions of its location parameter and its noise."""

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            for site in sites:
                site(loc, eps)

    return model


def deterministic(name="x", function=lambda loc, eps: loc + eps):
    return lambda loc, eps: pyro.deterministic(name, function(loc, eps), event_dim=0)


def module_discriminator(*layers):
    network = nn.Sequential(nn.Linear(1, 1), *layers)
    return lambda x: network(x[:, None])


CONSTRUCTOR = [
    ({"model": 3}, TypeError, "model must be a Pyro model, a callable, but is 3"),
    ({"discriminator": "D"}, TypeError, "discriminator must be a callable .* but is 'D'"),
    (
        {"loss": "minimax"},
        TypeError,
        r"loss must be a pyro_gan.losses.Loss, such as NonSaturating\(\), but is 'minimax'",
    ),
    ({"site": 3}, TypeError, "site must be a site's name or a list of names, but is 3"),
    ({"site": []}, TypeError, r"site must be a site's name or a list of names, but is \[\]"),
    ({"discriminator_steps": 0}, ValueError, "discriminator_steps must be a positive integer, but is 0"),
    ({"discriminator_steps": 1.5}, TypeError, r"discriminator_steps must be a positive integer, but is 1.5 \(float\)"),
    ({"optim": "adam"}, TypeError, "optim must be a pyro.optim.PyroOptim or a callable"),
    (
        {"optim_d": torch.optim.Adam([torch.zeros(1)])},
        TypeError,
        "optim_d must be a pyro.optim.PyroOptim or a callable",
    ),
    ({"clip_norm": 0}, ValueError, "clip_norm must be a positive number, but is 0"),
    ({"clip_norm_d": -1.0}, ValueError, "clip_norm_d must be a positive number, but is -1.0"),
    ({"device": "gpu"}, ValueError, "device='gpu' names no device"),
]

MODELS = [
    (model_of(), ValueError, r"no site to compare .* found 'eps' \(latent Normal\).*site='x'"),
    (lambda: None, ValueError, "no site to compare .* found no other sites"),
    (model_of(deterministic("a"), deterministic("b")), ValueError, "several sites .*: 'a', 'b'. Choose with site='a'"),
    (
        model_of(lambda loc, eps: pyro.sample("y", dist.Bernoulli(logits=loc), obs=torch.ones(16))),
        ValueError,
        r"'y' \(observed Bernoulli, not reparameterized\)",
    ),
    (
        model_of(deterministic(function=lambda loc, eps: eps)),
        ValueError,
        r"site 'x' carries no gradient to any parameter of the model \('loc'\)",
    ),
    (model_of(deterministic(function=lambda loc, eps: (loc + eps).detach())), ValueError, "carries no gradient"),
    (
        model_of(lambda loc, eps: pyro.deterministic("x", (loc + eps)[:, None].expand(16, 2), event_dim=1)),
        ValueError,
        r"differ at site 'x': the data's have shape \(16 rows, event shape \(\)\), "
        r"the model's \(16 rows, event shape \(2,\)\)",
    ),
    (model_of(deterministic(function=lambda loc, eps: loc / 0 * 0 + eps)), ValueError, "model's draws hold NaN"),
    (lambda a, b, c: None, TypeError, r"model takes 3 data arguments \(a, b, c\), but the minibatch has 1 elements"),
]

DISCRIMINATORS = [
    (lambda x: [0.0] * len(x), TypeError, "must return a tensor of logits, but returned list"),
    (lambda x: torch.zeros(len(x), 2), ValueError, r"shape \(16,\) or \(16, 1\), but returned shape \(16, 2\)"),
    (lambda x: torch.zeros(()), ValueError, r"one logit a row, .* but returned shape \(\)"),
    (lambda x: x, ValueError, "the discriminator has no parameters to train"),
    (module_discriminator(nn.Sigmoid()), ValueError, "returns probabilities .*Remove its last activation"),
    (module_discriminator(nn.Sigmoid(), nn.Flatten(0)), ValueError, "returns probabilities"),
    (module_discriminator(nn.Softmax(1)), ValueError, "returns probabilities"),
    (lambda x: pyro.param("w", torch.tensor(1.0)) * x / 0, ValueError, "logits are NaN or infinite"),
    (
        lambda x: pyro.get_param_store()["loc"] * x,
        ValueError,
        "parameter 'loc' of the model is also the discriminator's",
    ),
]

RUNS = [
    ({"num_steps": 0}, ValueError, "num_steps must be a positive integer, but is 0"),
    ({"num_steps": 2.0}, TypeError, "num_steps must be a positive integer, but is 2.0"),
    ({"batch_size": -1}, ValueError, "batch_size must be a positive integer, but is -1"),
    ({"batch_size": True}, ValueError, "batch_size must be a positive integer, but is True"),
    ({"print_every": 0}, ValueError, "print_every must be a positive integer, but is 0"),
    ({"data": torch.zeros(0)}, ValueError, "data is empty"),
    ({"data": []}, ValueError, "data is empty"),
    ({"data": (torch.zeros(3), torch.zeros(4))}, ValueError, "arrays of data differ in length: 3, 4 rows"),
    ({"data": torch.arange(20)}, ValueError, "of type torch.int64, but the model draws torch.float32.*transform="),
    ({"data": torch.tensor([1.0, NAN])}, ValueError, "data holds NaN or infinity, first in row 1"),
    ({"data": [torch.tensor([1.0, NAN])]}, ValueError, "the minibatch holds NaN or infinity, first in row 1"),
    ({"data": "x"}, TypeError, "data must be a tensor, an array"),
    ({"data": {"y": DATA}}, ValueError, "no part of the data is known to be the real sample of site 'x'"),
    ({"transform": 3}, TypeError, "transform must be a callable on a minibatch, but is 3"),
    ({"callbacks": [print]}, TypeError, "callbacks must be pyro_gan.callbacks.Callback objects, but one is <built-in"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), CONSTRUCTOR)
def test_what_the_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        GANInference(**{"model": location_model, "discriminator": scalar_discriminator(4), **arguments})


def assert_nothing_has_changed(inference):
    assert inference.num_steps_taken == 0
    assert inference.history["step"] == []
    assert all(value.item() in (0.0, 1.0) for value in pyro.get_param_store().values())


@pytest.mark.parametrize(("model", "error", "message"), MODELS)
def test_models_that_are_refused(model, error, message):
    inference = GANInference(model, scalar_discriminator(4))
    with pytest.raises(error, match=message):
        inference.run(DATA, num_steps=1, batch_size=16, progress=False)
    assert_nothing_has_changed(inference)


@pytest.mark.parametrize(("discriminator", "error", "message"), DISCRIMINATORS)
def test_discriminators_that_are_refused(discriminator, error, message):
    inference = GANInference(location_model, discriminator)
    with pytest.raises(error, match=message):
        inference.run(DATA, num_steps=1, batch_size=16, progress=False)
    assert_nothing_has_changed(inference)


@pytest.mark.parametrize(("arguments", "error", "message"), RUNS)
def test_what_a_run_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        run(**arguments)
    assert all(value.item() == 0.0 for value in pyro.get_param_store().values())


def test_a_site_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="site='y' is not a site of the model; it has 'eps', 'x'"):
        run(site="y")


def test_a_model_without_parameters_is_refused():
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    with pytest.raises(ValueError, match=r"model has no parameters to train.*pyro.module\('generator', generator\)"):
        run(model)


def test_a_network_that_is_not_registered_is_named_as_the_cause():
    network = nn.Linear(1, 1)

    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", network(pyro.sample("eps", dist.Normal(0.0, 1.0))[:, None])[:, 0], event_dim=0)

    with pytest.raises(ValueError, match="registers none with Pyro"):
        run(model)


def test_the_name_of_a_missing_argument_is_told():
    def model(c):
        return location_model(len(c))

    with pytest.raises(TypeError, match="argument 'c' is not among the data's names"):
        run(model, data={"x": DATA})


def test_an_unknown_player_is_refused():
    with pytest.raises(ValueError, match="player must be 'generator', 'discriminator' or None for both, but is 'both'"):
        GANInference(location_model, scalar_discriminator(4)).step(DATA, player="both")


def test_a_step_without_data_is_refused():
    with pytest.raises(ValueError, match="the minibatch is empty"):
        GANInference(location_model, scalar_discriminator(4)).step()


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (2.5, TypeError)])
def test_the_number_of_samples_is_checked(number, error):
    with pytest.raises(error, match="num_samples must be a positive integer"):
        GANInference(location_model, scalar_discriminator(4)).sample(number)


def test_samples_of_a_model_that_needs_arguments_want_them():
    def model(c):
        return location_model(len(c))

    with pytest.raises(TypeError, match=r"the model takes c, and no step has been taken.*sample\(num_samples, ...\)"):
        GANInference(model, scalar_discriminator(4)).sample(3)


@pytest.mark.parametrize("rows", [0, None])
def test_a_model_that_draws_no_rows_has_no_samples(rows):
    def model():
        pyro.deterministic("x", pyro.param("loc", torch.zeros(() if rows is None else (rows,))))

    with pytest.raises(ValueError, match="the model draws no rows"):
        GANInference(model, scalar_discriminator(4)).sample(3)


def test_data_that_run_out_name_the_step():
    with pytest.raises(ValueError, match=r"the data ran out at step 3: an iterator can be read only once"):
        run(data=iter([DATA, DATA]), num_steps=5)


def test_data_that_turn_bad_name_the_row_and_the_step_and_train_nothing():
    inference = GANInference(location_model, scalar_discriminator(4))
    batches = [DATA, DATA, torch.full((64,), NAN)]
    with pytest.raises(ValueError, match=r"holds NaN or infinity, first in row 0.*\n.*at step 3"):
        inference.run(batches, num_steps=3, progress=False)
    assert inference.history["step"] == [1, 2]
    assert torch.isfinite(pyro.param("loc"))


def test_a_loss_that_is_not_finite_names_the_step_and_the_player():
    network = nn.Linear(1, 1)
    inference = GANInference(location_model, lambda x: network(x[:, None])).run(DATA, num_steps=2, progress=False)
    with torch.no_grad():
        network.bias.fill_(NAN)
    with pytest.raises(ValueError, match="the discriminator's loss is nan at step 3"):
        inference.run(DATA, num_steps=4, progress=False)
    assert inference.history["step"][:3] == [1, 2, 3]


def test_a_diverging_generator_is_named():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    inference = GANInference(model, scalar_discriminator(4))
    inference.step(DATA)
    with torch.no_grad():
        pyro.get_param_store()["loc"].unconstrained().fill_(NAN)
    with pytest.raises(ValueError, match="'s loss is nan at step 2"):
        inference.run(DATA, num_steps=1, progress=False)


def test_callbacks_check_their_arguments():
    assert issubclass(ProgressLines, Callback)
    with pytest.raises(TypeError, match="print_every must be a positive integer"):
        ProgressLines("often")


def test_a_later_minibatch_of_another_kind_is_refused():
    for batch, message in (
        (torch.zeros(8, 2), "real and fake rows differ"),
        (torch.zeros(8).int(), "of type torch.int32"),
    ):
        with pytest.raises(ValueError, match=message):
            run(data=[DATA, batch], num_steps=2)


def test_a_network_that_is_left_out_beside_others_is_refused():
    network = nn.Linear(1, 1)

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", loc + network(eps[:, None])[:, 0], event_dim=0)

    with pytest.raises(
        ValueError, match=r"not registered with Pyro, of shapes \(1,\), \(1, 1\): they would not be trained"
    ):
        run(model)
    network.requires_grad_(False)
    assert run(model).num_steps_taken == 2


def test_a_parameter_shared_from_a_later_step_on_is_refused():
    shared = {"on": False}
    network = nn.Linear(1, 1)

    def discriminator(x):
        logits = network(x[:, None])[:, 0]
        return logits + pyro.get_param_store()["loc"] if shared["on"] else logits

    inference = GANInference(location_model, discriminator)
    inference.step(DATA)
    before = pyro.param("loc").item()
    shared["on"] = True
    with pytest.raises(ValueError, match="parameter 'loc' of the model is also the discriminator's"):
        inference.step(DATA)
    assert pyro.param("loc").item() == before


def test_a_site_that_vanishes_is_named():
    there = {"x": True}

    def model(batch_size):
        return location_model(batch_size) if there["x"] else pyro.param("loc")

    inference = GANInference(model, scalar_discriminator(4))
    inference.step(DATA)
    there["x"] = False
    with pytest.raises(ValueError, match="site 'x' is missing from this run of the model"):
        inference.step(DATA)


def test_an_argument_that_goes_by_name_wants_a_mapping():
    def model(*, c):
        return location_model(len(c))

    with pytest.raises(TypeError, match=r"the model takes 'c' by name only. Pass the data as a mapping"):
        run(model)


def test_an_error_of_the_model_is_not_taken_for_the_end_of_the_data():
    calls = []

    def model(batch_size):
        calls.append(batch_size)
        if len(calls) > 4:
            next(iter(()))
        return location_model(batch_size)

    with pytest.raises(StopIteration):
        run(model, num_steps=9)


def test_a_failed_first_step_leaves_no_parameters_behind():
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", pyro.param("loc", torch.zeros(2)) + torch.zeros(batch_size, 2), event_dim=1)

    with pytest.raises(ValueError, match="real and fake rows differ"):
        run(model)
    assert list(pyro.get_param_store()) == []


def notes_of(model, data):
    with pytest.raises((TypeError, RuntimeError)) as error:
        run(model=model, data=data)
    return "\n".join(error.value.__notes__)


def test_a_model_that_fails_at_once_is_shown_with_what_it_was_called():
    def of_number(n):
        with pyro.plate("data", n):
            pyro.deterministic("x", pyro.param("loc", torch.tensor(0.0)) + torch.randn(n))

    given = r"a tensor with shape \(16,\) of torch.float32. An argument that is named batch_size would be given"
    assert re.search(rf"The model was called with {given} the number of rows", notes_of(of_number, DATA))

    def of_columns(batch_size, c):
        pyro.deterministic("x", c @ pyro.param("weights", torch.zeros(5)))

    notes = notes_of(of_columns, {"x": DATA, "c": torch.randn(64, 3)})
    assert "The model was called with c=a tensor with shape (16, 3) of torch.float32, batch_size=16." in notes
    assert "named batch_size would" not in notes
