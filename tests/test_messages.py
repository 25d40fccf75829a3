"""Whatever is passed wrongly is answered in a few lines that name the argument and the mend."""

import gzip
import struct

import numpy as np
import pyro
import pytest
import torch
from models import location_model, scalar_discriminator

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, ProgressLines
from pyro_gan.checks import LONGEST_SHOWN, MOST_LISTED, listed, shown
from pyro_gan.datasets import MARGIN, read_idx

DATA = torch.randn(64, generator=torch.Generator().manual_seed(0))


def run(data=DATA, site=None, **options):
    inference = GANInference(location_model, scalar_discriminator(4), site=site)
    return inference.run(data, num_steps=2, progress=False, **options)


def sparse():
    with torch.sparse.check_sparse_tensor_invariants():  # told by an argument, some versions warn that nobody said
        return torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (64,))


def nested():
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sparse, r"^data is a sparse_coo tensor, but rows of a dense one are expected. Pass data.to_dense\(\)"),
        (lambda: (DATA, sparse()), r"^data\[1\] is a sparse_coo tensor"),
        (nested, "^data is a nested tensor, but rows of a dense one are expected"),
        (lambda: torch.zeros(64, device="meta"), "^data is on the meta device, which holds no numbers. Pass the data"),
        (lambda: [sparse()], "^the minibatch is a sparse_coo tensor"),
        (lambda: torch.zeros(0), "data is empty: expected at least one row"),
        (lambda: torch.zeros(0, 3), "data is empty: expected at least one row"),
    ],
)
def test_arrays_without_numbers_in_rows(data, message):
    with pytest.raises(ValueError, match=message):
        run(data())


@pytest.mark.parametrize(
    ("site", "error", "message"),
    [
        (["x", "x"], ValueError, r"site names 'x' twice. Name each site once"),
        ([], TypeError, "site must be a site's name or a list of names, but is "),
        (7, TypeError, "site must be a site's name or a list of names, but is 7"),
    ],
)
def test_sites(site, error, message):
    with pytest.raises(error, match=message):
        run(site=site)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (None, r"callbacks must be pyro_gan.callbacks.Callback objects in a list, but is None. Pass \[\] for none"),
        (7, "callbacks must be pyro_gan.callbacks.Callback objects in a list, but is 7"),
        ([ProgressLines], r"one is the class ProgressLines. Write ProgressLines\(\.\.\.\)"),
        ([print], "callbacks must be pyro_gan.callbacks.Callback objects, but one is <built-in function print>"),
    ],
)
def test_callbacks(callbacks, message):
    with pytest.raises(TypeError, match=message):
        run(callbacks=callbacks)
    assert run(callbacks=Callback()).num_steps_taken == 2  # one alone is a list of one


def test_a_model_of_no_rows():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0))
        pyro.deterministic("x", (loc + eps)[:0], event_dim=0)

    with pytest.raises(
        ValueError, match=r"the model draws no rows at site 'x'. Draw them in a plate with at least one"
    ):
        GANInference(model, scalar_discriminator(4)).run(DATA, num_steps=2, progress=False)


@pytest.mark.parametrize("value", ["x" * 4_000_000, list(range(1_000_000)), {"key": "y" * 10**6}], ids=type)
def test_no_message_is_longer_than_a_few_lines(value):
    def messages():
        for call in (
            lambda: run(num_steps_=value),
            lambda: GANInference(location_model, value),
            lambda: GANInference(value, scalar_discriminator(4)),
            lambda: GANInference(location_model, scalar_discriminator(4), device=value),
            lambda: GANInference(location_model, scalar_discriminator(4), loss=value),
            lambda: GANInference(location_model, scalar_discriminator(4), penalty=value),
            lambda: GANInference(location_model, scalar_discriminator(4), optim=value),
            lambda: GANInference(location_model, scalar_discriminator(4), ema_decay=value),
            lambda: GANInference(location_model, scalar_discriminator(4), clip_norm=value),
            lambda: GANInference(location_model, scalar_discriminator(4), only=value),
            lambda: GANInference(location_model, scalar_discriminator(4), on_divergence=value),
            lambda: run(batch_size=value),
            lambda: run(transform=value),
            lambda: run(callbacks=value),
            lambda: run(checkpoint=value if not isinstance(value, str) else 7),
            lambda: run(resume=value, checkpoint="folder"),
            lambda: run({"x": value}),
        ):
            try:
                call()
            except (TypeError, ValueError) as error:
                yield str(error)

    for message in messages():
        assert len(message) < 2000


def test_many_names_are_cut():
    names = [f"site_{number}" for number in range(1000)]
    assert listed(names[:2]) == "'site_0', 'site_1'"
    assert listed(names).count("site_") == MOST_LISTED and listed(names).endswith("... (1000 in all)")
    assert len(shown("x" * 10**6)) == LONGEST_SHOWN + 3


def test_thousands_of_parameters_are_not_listed():
    def model(batch_size):
        locs = [pyro.param(f"loc_{number}", torch.tensor(0.0)) for number in range(300)]
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0))
            pyro.deterministic("x", sum(locs).detach() + eps, event_dim=0)

    with pytest.raises(ValueError, match=r"carries no gradient to any parameter.*\.\.\. \(300 in all\)") as caught:
        GANInference(model, scalar_discriminator(4)).step(DATA)
    assert len(str(caught.value)) < 2000


def test_an_archive_that_unpacks_to_more_than_its_header_says_is_read_no_further(tmp_path):
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb", compresslevel=9) as file:
        file.write(b"\0\0\x08\1" + struct.pack(">I", 3))
        for _ in range(64):
            file.write(bytes(2**20))
    message = rf"its header gives the shape \(3,\), but at least {3 + MARGIN} bytes follow. Delete it and load again"
    with pytest.raises(ValueError, match=message):
        read_idx(bomb)


def test_a_header_that_claims_more_than_memory_has_is_refused(tmp_path):
    path = tmp_path / "huge.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"\0\0\x08\2" + struct.pack(">II", 2**31, 2**31))
        file.write(bytes(2 * MARGIN))
    with pytest.raises(ValueError, match=r"the shape \(2147483648, 2147483648\), but at least"):
        read_idx(path)


def test_arrays_of_python_objects_and_words():
    for data in (np.array(["a", "b"]), np.array([None, 1], dtype=object)):
        with pytest.raises(TypeError, match="data must hold numbers, but its dtype is"):
            run(data)
