import pyro
import pyro.distributions as dist
import pytest
import torch
from models import falling_adam, location_model, networks, scalar_discriminator
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import nn

from pyro_gan import GANInference

DATA = 4 + 0.1 * torch.randn(256, generator=torch.Generator().manual_seed(0))


def moves(model, data=DATA, name="loc", **kwargs):
    """Run three steps; return the inference, having checked that the parameter moved towards the data."""
    inference = GANInference(model, scalar_discriminator(8), **kwargs)
    inference.run(data, num_steps=3, batch_size=32, progress=False)
    assert pyro.get_param_store()[name].detach().abs().sum() > 0
    return inference


def location(prefix=""):
    return pyro.param(f"{prefix}loc", torch.tensor(0.0))


def test_a_deterministic_site_is_found():
    assert moves(location_model).model.sites == ("x",)


@pytest.mark.parametrize("observe", [False, True])
def test_a_delta_site_is_found(observe):
    def model(x):
        with pyro.plate("data", len(x)):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Delta(location() + eps), obs=x if observe else None)

    assert moves(model).model.sites == ("x",)


def svi_model(x):
    """A model written for SVI: it observes what it is given."""
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(location() + 0.0 * z, scale), obs=x)


def test_the_same_model_runs_in_svi_and_here_unchanged():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    loss = SVI(svi_model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(DATA)
    assert loss > 0
    pyro.clear_param_store()
    inference = moves(svi_model)
    assert inference.model.sites == ("x",)


def test_an_observed_site_is_drawn_afresh_and_its_observation_is_the_real_sample():
    seen = []
    network = nn.Linear(1, 1)

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(location(), 0.1), obs=2 * x)

    inference = GANInference(model, discriminator)
    inference.evaluate_loss(DATA)
    real, fake = seen[-2:]
    assert torch.equal(real, 2 * DATA)
    assert fake.shape == real.shape and fake.abs().max() < 1


@pytest.mark.parametrize(
    "noise",
    [dist.Uniform(-1.0, 1.0), dist.Normal(0.0, 1.0), dist.Gamma(2.0, 1.0), dist.Bernoulli(0.5), dist.Poisson(3.0)],
)
def test_noise_of_any_distribution_works(noise):
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", location() + 0.1 * pyro.sample("eps", noise), event_dim=0)

    moves(model)


def test_constrained_parameters_are_trained_in_their_unconstrained_space():
    def model(batch_size):
        rate = pyro.param("loc", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", rate + 0.0 * pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    moves(model)
    assert 0 < pyro.param("loc").item() < 1 and pyro.param("loc").item() != 0.5


class ModuleModel(PyroModule):
    """A model that is a PyroModule, with a constrained parameter and a network."""

    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.tensor(0.1), dist.constraints.positive)
        self.network = PyroModule[nn.Linear](1, 1)

    def forward(self, batch_size=32):
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", self.network(eps[:, None])[:, 0] * self.scale, event_dim=0)


def test_a_pyro_module_is_a_model():
    model = ModuleModel()
    before = model.scale.item(), model.network.weight.item()
    inference = GANInference(model, scalar_discriminator(8)).run(DATA, num_steps=3, progress=False)
    assert {"scale", "network.weight", "network.bias"} == set(inference.model.parameters)
    assert model.scale.item() != before[0] and model.network.weight.item() != before[1]


def test_a_bound_method_is_a_model():
    class Simulator:
        def draw(self, batch_size):
            return location_model(batch_size)

    moves(Simulator().draw)


@pytest.mark.parametrize(
    "given", [lambda model: model, poutine.scale(scale=2.0), lambda model: poutine.mask(model, mask=True)]
)
def test_models_with_and_without_arguments_under_handlers(given):
    def without():
        with pyro.plate("data", 16):
            pyro.deterministic("x", location() + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    def optional(x=None):
        with pyro.plate("data", 16 if x is None else len(x)):
            pyro.sample("x", dist.Normal(location(), 1.0), obs=x)

    for model in (without, optional, location_model):
        pyro.clear_param_store()
        assert moves(given(model)).sample(7).shape == (7,)


def test_batch_size_is_the_minibatchs_and_defaults_keep_their_value():
    calls = []

    def model(batch_size=5, temperature=2.0):
        calls.append((batch_size, temperature))
        return location_model(batch_size)

    inference = moves(model)
    inference.sample(3)
    inference.sample(3, 4)
    assert set(calls[:-2]) == {(32, 2.0)}
    assert calls[-2:] == [(3, 2.0), (4, 2.0)]


def conditional_model(c):
    """Rows around their covariate, which is registered as a site so that the discriminator sees it."""
    weight = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", len(c)):
        pyro.deterministic("c", c, event_dim=0)
        eps = pyro.sample("eps", dist.Normal(0.0, 0.1))
        return pyro.deterministic("x", weight * c + eps, event_dim=0)


def conditional_discriminator():
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    return lambda x, c: network(torch.stack([x, c], 1))


@pytest.mark.parametrize("data", [DATA, {"x": DATA}])
def test_data_that_the_model_is_not_given_win_over_what_it_observes(data):
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.sample("x", dist.Normal(location(), 0.1), obs=torch.ones(batch_size))

    seen = []
    network = nn.Linear(1, 1)

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    GANInference(model, discriminator).evaluate_loss(data)
    assert torch.equal(seen[-2], DATA)


@pytest.mark.parametrize("form", ["mapping", "tuple"])
def test_covariates_are_compared_jointly(form):
    c = torch.randn(256)
    x = 3 * c
    adam = falling_adam(1500)
    inference = GANInference(conditional_model, conditional_discriminator(), adam, adam, site=["x", "c"])
    data = {"x": x, "c": c} if form == "mapping" else (x, c)
    inference.run(data, num_steps=1500, batch_size=64, progress=False)
    assert abs(pyro.param("loc").item() - 3) < 0.2
    drawn = inference.sample(5, torch.arange(5.0))
    assert torch.equal(drawn["c"], torch.arange(5.0)) and drawn["x"].shape == (5,)
    assert inference.log_ratio({"x": x[:4], "c": c[:4]}).shape == (4,)


def test_labels_of_a_loader_are_left_out_by_a_model_that_takes_none():
    pairs = torch.utils.data.TensorDataset(DATA, torch.zeros(len(DATA), dtype=torch.long))
    moves(location_model, data=torch.utils.data.DataLoader(pairs, batch_size=32))


def test_an_argument_of_the_sites_name_is_the_real_sample():
    seen = []
    network = nn.Linear(1, 1)

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    def model(c, x):
        with pyro.plate("data", len(x)):
            pyro.deterministic("x", location() + 0.0 * c, event_dim=0)

    GANInference(model, discriminator).evaluate_loss(torch.zeros(4), torch.arange(4.0))
    assert torch.equal(seen[-2], torch.arange(4.0))


def test_a_subsampling_plate_compares_what_it_subsampled():
    def model(x):
        with pyro.plate("data", len(x), subsample_size=8) as index:
            pyro.sample("x", dist.Normal(location(), 0.1), obs=x[index])

    moves(model)


def test_nested_plates_and_event_dimensions_keep_their_shape():
    generator, _ = networks(num_features=6)

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("rows", batch_size, dim=-2), pyro.plate("columns", 3, dim=-1):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.deterministic("x", generator(eps), event_dim=1)

    network = nn.Linear(18, 1)
    inference = GANInference(model, lambda x: network(x.flatten(1)))
    inference.run(torch.randn(32, 3, 6), num_steps=2, progress=False)
    assert inference.sample(5).shape == (5, 3, 6)


def test_a_discriminator_may_register_its_parameters_with_pyro():
    network = nn.Linear(1, 1)

    def discriminator(x):
        pyro.module("discriminator", network)
        bias = pyro.param("extra", torch.tensor(0.0))
        return network(x[:, None])[:, 0] + bias * x

    GANInference(location_model, discriminator).run(DATA, num_steps=2, progress=False)
    assert pyro.param("extra").item() != 0


def test_predictive_works_after_training():
    inference = moves(location_model)
    draws = Predictive(location_model, num_samples=3)(5)
    assert draws["x"].shape == (3, 5)
    assert inference.sample(2).requires_grad is False


def test_samples_need_no_arguments_once_a_step_has_been_taken():
    inference = moves(svi_model)
    assert inference.sample(100).shape == (100,)
    assert inference.sample(4, DATA[:4]).shape == (4,)


def test_the_model_draws_on_the_chosen_device():
    drawn = {}

    def model(batch_size):
        with pyro.plate("data", batch_size):
            drawn["eps"] = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([3]).to_event(1))
            pyro.deterministic("x", pyro.param("loc", torch.zeros(3)) + drawn["eps"], event_dim=1)

    from pyro_gan.players.model import ImplicitModel

    implicit = ImplicitModel(model, None, torch.device("meta"), move=True)
    pyro.enable_validation(False)  # the meta device has no values to validate
    try:
        implicit.draw(implicit.calls.arguments((torch.empty(4, 3, device="meta"),)))
    finally:
        pyro.enable_validation(True)
    assert drawn["eps"].device.type == "meta" and drawn["eps"].shape == (4, 3)
    assert pyro.get_param_store()["loc"].device.type == "meta"


def test_modules_are_moved_to_the_chosen_device():
    generator, discriminator = networks(batch_norm=True)
    inference = GANInference(lambda: None, discriminator, device="cpu")
    assert inference.device == torch.device("cpu")
    inference.model.device = inference.discriminator.device = torch.device("meta")
    inference.model._move(generator)
    inference.discriminator._move(discriminator)
    assert {tensor.device.type for module in (generator, discriminator) for tensor in module.state_dict().values()} == {
        "meta"
    }


def test_a_pyro_method_of_a_module_is_a_model():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.tensor(0.0))

        @pyro_method
        def draw(self, batch_size):
            with pyro.plate("data", batch_size):
                eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
                return pyro.deterministic("x", self.loc + eps, event_dim=0)

    model = Model()
    GANInference(model.draw, scalar_discriminator(8)).run(DATA, num_steps=2, progress=False)
    assert model.loc.item() != 0


def test_samples_of_a_model_with_covariates_and_batch_size_fit_the_covariates():
    def model(c, batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", location() + 0.0 * c, event_dim=0)

    inference = moves(model, data={"x": DATA, "c": torch.zeros(256)})
    assert inference.sample(7).shape == (7,) and inference.sample(70).shape == (70,)


def test_labels_of_a_loader_are_left_out_by_a_model_that_takes_the_images_alone():
    def model(images):
        with pyro.plate("data", len(images)):
            pyro.sample("x", dist.Normal(location(), 0.1), obs=images)

    pairs = torch.utils.data.TensorDataset(DATA, torch.zeros(len(DATA), dtype=torch.long))
    inference = moves(model, data=torch.utils.data.DataLoader(pairs, batch_size=32))
    assert inference.sample(5).shape == (5,)


def test_a_tuple_that_does_not_tell_the_real_sample_is_refused():
    def model(b, c):
        with pyro.plate("data", len(c)):
            pyro.deterministic("x", location() + 0.0 * b * c, event_dim=0)

    with pytest.raises(
        ValueError, match=r"no part of the data is known to be the real sample of site 'x'. Pass the data"
    ):
        moves(model, data=(DATA, torch.zeros(256)))
