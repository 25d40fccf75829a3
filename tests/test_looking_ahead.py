"""Networks that build themselves look at minibatches to come; these come all the same, once each and in order."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import AutoDiscriminator, GANInference
from pyro_gan.callbacks import Callback
from pyro_gan.training.minibatches import minibatches

CPU = torch.device("cpu")


def ordered(num_rows=640):
    """Rows 0, 1, 2, ..., so that the first minibatch has a small part of the range."""
    return torch.arange(float(num_rows))


def inference():
    """A model of single numbers, and a discriminator that builds itself."""
    pyro.clear_param_store()
    generator = nn.Linear(1, 1)

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.deterministic("x", generator(eps)[:, 0])

    return GANInference(model, AutoDiscriminator(width=4, depth=1))


SOURCES = {
    "list": lambda: list(ordered().split(32)),
    "generator": lambda: itertools.cycle(ordered().split(32)),
    "loader": lambda: DataLoader(TensorDataset(ordered()), 32),
    "loader with workers": lambda: DataLoader(TensorDataset(ordered()), 32, num_workers=1, persistent_workers=True),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_minibatches_that_were_looked_at_come_once_and_in_order(source):
    stream = minibatches(source(), 32, CPU)
    first = next(stream)[0]
    assert torch.equal(stream.many()[0][:600], ordered()[32 : 32 + 600])
    assert torch.equal(stream.many()[0][:600], ordered()[32 : 32 + 600])  # and may be looked at again
    assert torch.equal(torch.cat([first, *(next(stream)[0] for _ in range(19))]), ordered())
    assert torch.equal(next(stream)[0], ordered()[:32])  # the second epoch


def test_a_look_ends_with_an_epoch_and_then_finds_nothing():
    stream = minibatches(list(ordered(64).split(32)), 32, CPU)
    next(stream)
    assert len(stream.many()[0]) == 32
    next(stream)
    assert stream.many() is None
    assert torch.equal(next(stream)[0], ordered()[:32])


def test_a_look_is_at_a_thousand_rows_of_one_shape():
    rows = [torch.zeros(400, 2)] * 4
    assert minibatches(rows, 1, CPU).many() is None  # nothing has been begun
    for source, number in ((rows, 1024), ([rows[0], rows[0], torch.zeros(400, 3)], 400)):
        stream = minibatches(source, 1, CPU)
        next(stream)
        assert len(stream.many()[0]) == number
        assert [next(stream)[0].shape for _ in source[1:]] == [each.shape for each in source[1:]]


def test_what_an_iterable_raises_is_raised_when_its_turn_comes():
    def source():
        yield torch.zeros(4)
        yield torch.ones(4)
        raise OSError("the disk is gone")

    stream = minibatches(source(), 4, CPU)
    next(stream)
    assert torch.equal(stream.many()[0], torch.ones(4))
    assert torch.equal(next(stream)[0], torch.ones(4))
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def test_a_look_takes_memory_of_its_own_from_a_source_that_fills_one_buffer_again_and_again():
    buffer = torch.zeros(2)

    def source():
        for number in range(5):
            yield buffer.fill_(number)

    stream = minibatches(source(), 2, CPU)
    next(stream)
    stream.many()
    assert [int(next(stream)[0][0]) for _ in range(4)] == [1, 2, 3, 4]


def test_a_discriminator_standardizes_by_more_than_a_loaders_first_minibatch():
    trained = inference()
    with pytest.warns(RuntimeWarning, match="another place or scale"):
        trained.run(list(ordered().split(32)), num_steps=1, progress=False)
    coordinates = trained.discriminator.function.coordinates({"x": ordered()})["x"]
    assert coordinates.std() == pytest.approx(1.0, abs=0.2)  # by the first 32 rows it would be 20
    assert coordinates.mean() == pytest.approx(0.0, abs=0.2)


def test_random_minibatches_that_were_looked_at_share_no_random_numbers_with_the_model():
    drawn = []

    def model(batch_size):
        shift = pyro.param("shift", torch.tensor(0.5))
        with pyro.plate("data", batch_size):
            drawn.append(pyro.sample("eps", dist.Normal(0.0, 1.0)))
            pyro.deterministic("x", drawn[-1] + shift)

    given = []

    def source():
        while True:
            given.append(torch.randn(64))
            yield given[-1]

    GANInference(model, AutoDiscriminator(width=4, depth=1)).run(source(), num_steps=3, progress=False)
    known = {float(row) for rows in given for row in rows}
    assert len(known) == 64 * len(given) and len(given) > 10
    for rows in drawn[-6:]:  # those of the steps; the look's leave no trace
        assert not known & {float(row) for row in rows.detach()}


class Breaks(Callback):
    """Ends a run after some steps, as a crash would."""

    def on_step(self, inference):
        if inference.clock.done == 5:
            raise OSError("the machine is gone")


def test_a_run_that_goes_on_has_the_minibatches_that_were_looked_at(tmp_path):
    def source():
        generator = torch.Generator().manual_seed(0)
        while True:
            yield 3 + torch.randn(8, generator=generator) + torch.rand(8)  # by one's own generator, and by the global

    def history(**options):
        pyro.set_rng_seed(0)
        return inference().run(source(), num_steps=12, progress=False, **options).history

    expected = history()
    with pytest.raises(OSError, match="the machine is gone"):
        history(checkpoint=tmp_path, checkpoint_every=4, callbacks=[Breaks()])
    assert history(checkpoint=tmp_path, checkpoint_every=4) == expected
