"""Training on every device that is there: the CPU always, CUDA and MPS where torch sees one."""

import inspect

import pyro
import pyro.distributions as dist
import pytest
import test_contract
import torch
from models import networks, scalar_discriminator
from torch import nn

from pyro_gan import GANInference, criticism

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []
BYTES = torch.randint(0, 256, (64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(device, batch_norm=True):
    """Networks and a parameter made on the host, noise of plain numbers; and the devices the model drew on."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    generator, discriminator = networks(batch_norm=batch_norm)
    drawn = set()

    def model(batch_size):
        pyro.module("generator", generator)
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
            drawn.add(eps.device.type)
            return pyro.deterministic("x", scale * generator(eps), event_dim=1)

    return GANInference(model, discriminator, device=device), generator, discriminator, drawn


def run(inference):
    return inference.run(BYTES, num_steps=5, batch_size=16, transform=lambda x: x / 255, progress=False)


@pytest.mark.parametrize("device", DEVICES)
def test_modules_data_and_noise_go_to_the_device(device):
    inference, generator, discriminator, drawn = make(device)
    seen = set()
    inference.run(
        BYTES, num_steps=5, batch_size=16, progress=False, transform=lambda x: [seen.add(x.device.type), x / 255][1]
    )
    assert drawn == seen == {device}
    tensors = [tensor for module in (generator, discriminator) for tensor in module.state_dict().values()]
    assert {tensor.device.type for tensor in tensors} == {device}
    assert pyro.param("scale").device.type == device
    assert inference.sample(4).device.type == device
    assert inference.log_ratio(BYTES / 255).device.type == device
    assert len(inference.history["step"]) == 5


@pytest.mark.parametrize("device", DEVICES)
def test_a_state_from_the_cpu_goes_on_on_the_device(device, tmp_path):
    first = run(make("cpu")[0])
    first.save(tmp_path / "state.pt")
    rows = BYTES / 255
    expected = first.log_ratio(rows)
    second = make(device)[0].load(tmp_path / "state.pt")
    found = second.log_ratio(rows).cpu()
    # The constant is found by draws, which are others on another device.
    torch.testing.assert_close(found - found.mean(), expected - expected.mean(), rtol=1e-4, atol=1e-6)
    assert run(second).num_steps_taken == 10


@pytest.mark.parametrize("device", DEVICES)
def test_modules_already_there_need_no_device_argument(device):
    discriminator = nn.Linear(1, 1).to(device)

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0, device=device))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", (loc + eps)[:, None], event_dim=1)

    inference = GANInference(model, discriminator).run(BYTES[:, :1] / 255, num_steps=2, progress=False)
    assert inference.sample(3).device.type == device


def test_without_a_device_argument_nothing_is_moved():
    with torch.device("meta"):
        elsewhere = nn.Linear(3, 3)
    inference = GANInference(lambda: elsewhere, scalar_discriminator())
    inference.model._move(elsewhere)
    assert elsewhere.weight.device.type == "meta"


@pytest.mark.parametrize("device", [device for device in DEVICES if device != "mps"])
def test_compiled_steps_on_the_device_are_the_eager_ones(device):
    histories = []
    for compile in (False, True):
        inference = make(device, batch_norm=False)[0]
        pyro.set_rng_seed(1)
        inference.run(BYTES / 255, num_steps=5, batch_size=16, progress=False, compile=compile)
        histories.append(inference.history)
    assert inference.seconds_to_compile() > 0
    for name in ("generator_loss", "discriminator_loss", "penalty"):
        assert histories[1][name] == pytest.approx(histories[0][name], rel=1e-2)


X, Y, Z = torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(0)).unbind()
DRAWS = torch.randn(60, 9, 2, generator=torch.Generator().manual_seed(1))
CRITICISM = {
    "c2st": lambda: criticism.c2st(X, Y),
    "calibration_ranks": lambda: criticism.calibration_ranks(X, DRAWS),
    "calibration_test": lambda: criticism.calibration_test(criticism.calibration_ranks(X, DRAWS), 9),
    "compare": lambda: criticism.compare({"y": Y, "z": Z}, X, num_samples=60).to_dict(),
    "density_coverage": lambda: criticism.density_coverage(X, Y),
    "energy_test": lambda: criticism.energy_test(X, Y).statistic,
    "expected_coverage": lambda: criticism.expected_coverage(X, DRAWS, references=Y),
    "ks_test": lambda: criticism.ks_test(X, Y),
    "label_coverage": lambda: criticism.label_coverage((X[:, 0] > 0).long(), 2),
    "local_c2st": lambda: criticism.local_c2st(X, DRAWS, Y, num_null=3),
    "memorization": lambda: criticism.memorization(X, Y, Z),
    "mmd_test": lambda: criticism.mmd_test(X, Y, num_permutations=9).statistic,
    "mode_coverage": lambda: criticism.mode_coverage(X, Y[:5], 1.0),
    "nearest_rows": lambda: criticism.nearest_rows(X, Y),
    "parzen_log_likelihood": lambda: criticism.parzen_log_likelihood(X, Y, 1.0),
    "precision_recall": lambda: criticism.precision_recall(X, Y),
    "select_bandwidth": lambda: criticism.select_bandwidth(X, Y),
    "sliced_wasserstein": lambda: criticism.sliced_wasserstein(X, Y),
    "support_size": lambda: criticism.support_size(X, threshold=0.1),
    "tarp": lambda: criticism.tarp(X, DRAWS, references=Y),
}


def test_every_function_of_criticism_is_here():
    assert set(CRITICISM) == {name for name in criticism.__all__ if inspect.isfunction(getattr(criticism, name))}


older_adam = pytest.mark.skipif(torch.__version__ < "2.13", reason="older Adams count steps on the default device")


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=older_adam if each == "local_c2st" else ()) for each in CRITICISM]
)
def test_criticism_stays_where_its_rows_are_whatever_torchs_default_device(name):
    """Tensors of the meta device hold no numbers, so that nothing can be made there and counted."""
    found = []
    for default in ("cpu", "meta"):
        pyro.set_rng_seed(0)
        with torch.device(default):
            found.append(CRITICISM[name]())
    assert repr(found[1]) == repr(found[0])


@older_adam
@pytest.mark.parametrize("name", test_contract.CASES)
def test_training_stays_on_its_device_whatever_torchs_default_device(name, tmp_path):
    states = []
    for default in ("cpu", "meta"):
        inference = test_contract.build(test_contract.CASES[name], device="cpu")
        with torch.device(default):
            test_contract.run(inference, seed=1)
            inference.save(tmp_path / "state.pt")
            test_contract.run(inference.load(tmp_path / "state.pt"), seed=2)
            inference.sample(5)
            inference.check(test_contract.DATA[:200])
        states.append(inference.state_dict())
    assert test_contract.same(*states)
