"""The user's data are the user's: read, and never written to."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import linear_model
from models import location_model, network_model, networks, scalar_discriminator
from torch import nn

from pyro_gan import BiGANInference, GANInference
from pyro_gan.losses import NonSaturating

ROWS = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))


class InPlace(nn.Module):
    """A discriminator whose first layer writes to what it is given."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LeakyReLU(0.2, inplace=True), nn.Linear(3, 1))

    def forward(self, x):
        return self.layers(x)


def own_array(kind, tmp_path):
    if kind == "memory map":
        np.save(tmp_path / "rows.npy", ROWS.numpy())
        return np.load(tmp_path / "rows.npy", mmap_mode="r")  # writing to it would end the process
    return {"tensor": ROWS.clone, "array": lambda: ROWS.numpy().copy()}[kind]()


@pytest.mark.parametrize("penalty", [(), None], ids=["plain", "default"])
@pytest.mark.parametrize("call", ["run", "step", "evaluate_loss", "log_ratio", "to_inference_data"])
@pytest.mark.parametrize("kind", ["tensor", "array", "memory map"])
def test_no_network_writes_to_the_users_array(kind, call, penalty, tmp_path):
    data, generator = own_array(kind, tmp_path), networks()[0]
    inference = GANInference(network_model(generator, 2), InPlace(), loss=None if penalty is None else NonSaturating())
    inference.run(data, num_steps=2, batch_size=1000, progress=False)
    if call == "to_inference_data":
        inference.to_inference_data(data, num_draws=2)
    elif call != "run":
        getattr(inference, call)(data)
    assert np.array_equal(np.asarray(data), ROWS.numpy())


def test_a_network_that_writes_in_place_trains_as_one_that_does_not():
    def trained(inplace):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks()[0], InPlace()
        discriminator.layers[0].inplace = inplace
        inference = GANInference(network_model(generator, 2), discriminator, discriminator_steps=3, generator_steps=2)
        inference.step(ROWS)
        return [leaf.detach().clone() for leaf in (*generator.parameters(), *discriminator.parameters())]

    assert all(map(torch.equal, trained(True), trained(False)))


def test_a_model_that_writes_to_its_arguments_is_given_copies():
    def model(x):
        x.div_(2.0)
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    seen = []

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    network, data = nn.Linear(1, 1), torch.full((16,), 8.0)
    inference = GANInference(model, discriminator, discriminator_steps=3)
    inference.step(data)
    assert torch.equal(data, torch.full((16,), 8.0))
    constant = [rows[:16] for rows in seen if len(rows) >= 16 and rows[:16].std() == 0]
    assert constant and all(torch.equal(rows, torch.full((16,), 4.0)) for rows in constant)


def test_a_buffer_that_a_source_uses_again_gives_each_update_its_own_rows():
    buffer, seen = torch.zeros(16), []

    def source():
        for number in range(1000):
            buffer.fill_(float(number))
            yield buffer

    def discriminator(x):
        seen.append(x[0].item())
        return network(x[:, None])

    network = nn.Linear(1, 1)
    inference = GANInference(location_model, discriminator, discriminator_steps=3, loss=NonSaturating())
    inference.run(source(), num_steps=1, progress=False)
    assert {0.0, 1.0, 2.0} <= set(seen)


@pytest.mark.parametrize("form", ["array", "tuple", "mapping", "minibatches"])
def test_numbers_below_a_mask_are_not_trained_on(form):
    masked = np.ma.masked_equal(np.array([1.0, -999.0, 2.0, -999.0]), -999.0)
    data = {"array": masked, "tuple": (masked,), "mapping": {"x": masked}, "minibatches": [masked]}[form]
    inference = GANInference(location_model, scalar_discriminator(4))
    with pytest.raises(ValueError, match=r"is a masked array with masked numbers in 2 rows. Leave these rows out"):
        inference.run(data, num_steps=2, progress=False)
    inference.run(masked.compressed(), num_steps=2, progress=False)
    inference.step(np.ma.masked_array(np.ones(4)))  # a mask of nothing is none


def guide(x):
    slope, scale = pyro.param("slope", torch.tensor(0.1)), pyro.param("scale", torch.tensor(1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x.float(), scale.abs()))


@pytest.mark.parametrize("form", [lambda x: x, lambda x: {"x": x}, lambda x: {"x": x, "z": x / 2}])
def test_doubles_do_what_single_precision_does(form):
    found = []
    for precision in (torch.float32, torch.float64):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = BiGANInference(linear_model, guide, scalar_judge())
        inference.run(form(ROWS[:, 0].to(precision)), num_steps=5, batch_size=16, progress=False)
        found.append([pyro.param(name).item() for name in ("slope", "scale")])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0][0] != pytest.approx(0.1)


def scalar_judge():
    network = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))

    def judge(x, z):
        return network(torch.stack([x.float(), z.float()], 1))

    return judge


def test_a_weight_of_the_energy_score_is_heeded_for_doubles():
    slopes = []
    for weight in (0.0, 3.0):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = BiGANInference(linear_model, guide, scalar_judge(), energy_weight=weight)
        inference.run(ROWS[:, 0].double(), num_steps=2, progress=False)  # an error before: the data were not recognized
        slopes.append(pyro.param("slope").item())
    assert slopes[0] != slopes[1]
