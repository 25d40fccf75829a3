"""Three lines on simulators of every kind, on every device that there is: networks are built where their rows are."""

import pyro
import pyro.distributions as dist
import pytest
import test_contract
import test_sets
import torch
from test_on_devices import DEVICES, older_adam

from pyro_gan import AutoImplicitGuide, BiGANInference


def numbers(batch_size):
    """In a box, and observed with noise and a count."""
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Uniform(-torch.ones(2), 1.0).to_event(1))
        pyro.sample("count", dist.Poisson((4 * theta[:, 0]).exp()))
        pyro.sample("x", dist.Normal(theta, 0.3).to_event(1))


def supports(batch_size):
    """A positive number, shares, an angle and a correlation, each seen with noise or by counts out of a total."""
    with pyro.plate("data", batch_size):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
        angle = pyro.sample("angle", dist.VonMises(torch.tensor(0.0), torch.tensor(1.0)))
        factor = pyro.sample("factor", dist.LKJCholesky(2, torch.tensor(1.0)))
        pyro.sample("x", dist.Exponential(rate.unsqueeze(-1).expand(-1, 2)).to_event(1))
        pyro.sample("successes", dist.Binomial(torch.tensor(30.0), shares[:, 0]))
        pyro.sample("votes", dist.Multinomial(20, shares))
        pyro.sample("seen", dist.VonMises(angle + factor[:, 1, 0], torch.tensor(8.0)))


def mechanisms(batch_size):
    """Labels, a number that depends on one, and an observation that is 0 in half of the rows."""
    with pyro.plate("data", batch_size):
        kind = pyro.sample("kind", dist.Categorical(torch.ones(3) / 3))
        coin = pyro.sample("coin", dist.Bernoulli(torch.tensor(0.5)))
        loc = pyro.sample("loc", dist.Normal(kind.float(), 1.0))
        pyro.sample("x", dist.Normal(torch.stack([loc, loc.square()], 1), 0.5).to_event(1))
        pyro.deterministic("amount", coin * loc.abs(), event_dim=0)


def pictures(batch_size):
    """An image in the shape that convolutions take."""
    places = torch.linspace(-1, 1, 8)
    with pyro.plate("data", batch_size):
        place = pyro.sample("place", dist.Uniform(-torch.ones(2), 1.0).to_event(1))
        rows, columns = (torch.exp(-8 * (places - place[:, i, None]).square()) for i in range(2))
        pyro.deterministic("x", (rows[:, :, None] * columns[:, None])[:, None], event_dim=3)


def many(batch_size):
    """Six numbers, of which a site of many is observed."""
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", dist.Normal(torch.zeros(6), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(theta.repeat(1, 12), 0.5).to_event(1))


SIMULATORS = {
    "numbers": (numbers, ["theta"]),
    "supports": (supports, ["rate", "shares", "angle", "factor"]),
    "mechanisms": (mechanisms, ["kind", "coin", "loc"]),
    "pictures": (pictures, ["place"]),
    "many": (many, ["theta"]),
}
STRUCTURES = ["set", "series", "embedding"]
CASES = [*SIMULATORS, *STRUCTURES]


def three_lines(case, device, **options):
    """A new inference with small networks, its simulations on the host, and its latents."""
    options["device"] = device
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    if case in STRUCTURES:
        guide = test_sets.a_guide(**test_sets.a_structure(case))
        return BiGANInference(test_sets.normal_mean, guide, **options), test_sets.some_sets(), ["theta"]
    model, latents = SIMULATORS[case]
    trace = pyro.poutine.trace(model).get_trace(200)
    data = {name: trace.nodes[name]["value"] for name in trace.nodes if name[0] != "_" and name != "data"}
    observed = [name for name in data if name not in latents]
    guide = AutoImplicitGuide(model, observed=observed, width=16, depth=1)
    return BiGANInference(model, guide, **options), data, latents


def trained(case, device, compile=False, **options):
    """That inference after some steps, its data and its latents."""
    inference, data, latents = three_lines(case, device, **options)
    pyro.set_rng_seed(1)
    inference.run(data, num_steps=4, batch_size=50, progress=False, compile=compile)
    return inference, data, latents


def one_row(data, latents):
    return {name: rows[0] for name, rows in data.items() if name not in latents}


@older_adam
@pytest.mark.parametrize("case", CASES)
def test_they_stay_on_their_device_whatever_torchs_default_device(case, tmp_path):
    """Tensors of the meta device hold no numbers, so that nothing can be made there and used."""
    found = []
    for default in ("cpu", "meta"):
        inference, data, latents = three_lines(case, "cpu")
        with torch.device(default):
            pyro.set_rng_seed(1)
            inference.run(data, num_steps=4, batch_size=50, progress=False)
            inference.save(tmp_path / "state.pt")
            inference.load(tmp_path / "state.pt")
            draws = inference.sample_posterior(one_row(data, latents), 20)
            inference.check(data)
        found.append((inference.state_dict(), draws))
    assert test_contract.same(*found)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_simulations_of_the_host_are_learned_from_on_the_device(case, device, tmp_path):
    inference, data, latents = trained(case, device)
    for player in inference.players().values():
        assert {tensor.device.type for tensor in (*player.parameters.values(), *player.buffers())} <= {device}
    draws = inference.sample_posterior(one_row(data, latents), 20)
    assert set(draws) == set(latents)
    for name, values in draws.items():
        assert values.device.type == device and values.shape == (20, *data[name].shape[1:])
    other = three_lines(case, "cpu")[0]
    inference.save(tmp_path / "state.pt")
    other.load(tmp_path / "state.pt")
    assert other.sample_posterior(one_row(data, latents), 20)[latents[0]].device.type == "cpu"
    assert inference.check(data)


@pytest.mark.slow
@pytest.mark.parametrize("device", [device for device in DEVICES if device != "mps"])
@pytest.mark.parametrize("case", CASES)
def test_compiled_steps_are_the_eager_ones(case, device):
    def sgd(parameters):  # Adam makes much of the rounding of small gradients
        return torch.optim.SGD(parameters, lr=1e-3)

    options = {"optim": sgd, "optim_d": sgd}
    histories = [trained(case, device, compile, **options)[0].history for compile in (False, True)]
    for name in ("generator_loss", "discriminator_loss", "penalty"):
        assert histories[1][name] == pytest.approx(histories[0][name], rel=1e-2 if device == "cuda" else 1e-4, abs=1e-6)
