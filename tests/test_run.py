import io
import time

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from models import falling_adam, location_model, network_model, networks, scalar_discriminator
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, ProgressBar, ProgressLines, progress_callbacks
from pyro_gan.losses import NonSaturating
from pyro_gan.training.minibatches import minibatches
from pyro_gan.training.record import COLUMNS

DATA = 4 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))


def inference():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return GANInference(location_model, scalar_discriminator(4))


def endless():
    while True:
        yield DATA[:10]


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        DATA.numpy(),
        DATA.double().numpy(),
        (DATA,),
        {"x": DATA},
        TensorDataset(DATA),
        DataLoader(TensorDataset(DATA), batch_size=10),
        [DATA[:50], DATA[50:]],
        endless(),
    ],
    ids=["tensor", "array", "double", "tuple", "mapping", "dataset", "loader", "list", "generator"],
)
def test_data_of_every_form_train_the_model(data):
    adam = falling_adam(200, rate=0.05)
    trained = GANInference(location_model, scalar_discriminator(16), adam, adam)
    trained.run(data, num_steps=200, batch_size=10, progress=False)
    assert trained.num_steps_taken == 200
    assert pyro.param("loc").item() > 1


def test_history_has_every_step_in_order_over_several_runs():
    trained = inference().run(DATA, num_steps=7, progress=False)
    trained.run(DATA, num_steps=5, progress=False)
    assert trained.history["step"] == list(range(1, 13))
    lengths = {name: len(values) for name, values in trained.history.items()}
    assert set(lengths) == {"step", *COLUMNS}
    assert set(lengths.values()) == {12}


def test_history_holds_what_step_returns():
    batch = DATA[:10]
    losses = inference().step(batch)
    history = inference().run(batch, num_steps=1, batch_size=10, progress=False).history
    assert history["generator_loss"] == [losses.generator.item()]
    assert history["discriminator_loss"] == [losses.discriminator.item()]


def test_probabilities_are_the_discriminators_means_before_its_update():
    trained = GANInference(location_model, scalar_discriminator(16), loss=NonSaturating())
    trained.evaluate_loss(DATA)  # so that the first update is the first draw
    probability = trained.log_ratio(DATA).sigmoid().mean().item()
    trained.run(DATA, num_steps=1, progress=False)
    assert trained.history["real_probability"] == [pytest.approx(probability, abs=1e-6)]


def test_transforms_see_each_minibatch_in_its_own_type():
    seen = []

    def transform(x):
        seen.append((x.dtype, len(x)))
        return x / 255

    generator, discriminator = networks()
    trained = GANInference(network_model(generator, 2), discriminator)
    trained.run(
        torch.randint(0, 256, (40, 3), dtype=torch.uint8),
        num_steps=3,
        batch_size=8,
        transform=transform,
        progress=False,
    )
    assert seen == [(torch.uint8, 8)] * 3


class Counting(Callback):
    """Counts the calls of each hook; ends the run after some steps."""

    def __init__(self, end_after=None):
        self.calls = []
        self.end_after = end_after

    def on_start(self, inference, num_steps):
        self.calls.append(("start", num_steps))

    def on_step(self, inference):
        self.calls.append(("step", inference.num_steps_taken))
        return inference.num_steps_taken == self.end_after

    def on_read(self, inference):
        self.calls.append(("read", len(inference.history["step"])))

    def on_end(self, inference):
        self.calls.append(("end", inference.num_steps_taken))


def test_callbacks_are_called_in_order_and_may_end_the_run():
    callback = Counting(end_after=3)
    inference().run(DATA, num_steps=10, progress=False, callbacks=[callback])
    assert [call for call in callback.calls if call[0] != "read"] == [
        ("start", 10), ("step", 1), ("step", 2), ("step", 3), ("end", 3)
    ]  # fmt: skip
    assert callback.calls[-2] == ("read", 3)


def test_an_interrupt_keeps_the_history_and_closes_the_callbacks():
    class Interrupt(Callback):
        def on_step(self, inference):
            if inference.num_steps_taken == 4:
                raise KeyboardInterrupt

    counting, trained = Counting(), inference()
    with pytest.raises(KeyboardInterrupt):
        trained.run(DATA, num_steps=10, progress=False, callbacks=[counting, Interrupt()])
    assert trained.history["step"] == [1, 2, 3, 4]
    assert counting.calls[-1] == ("end", 4)


def test_the_device_is_read_some_ten_times_a_second():
    class Slow(Counting):
        def on_step(self, inference):
            time.sleep(0.004)

    callback = Slow()
    start = time.monotonic()
    inference().run(DATA, num_steps=100, progress=False, callbacks=[callback])
    reads = sum(call[0] == "read" for call in callback.calls)
    assert 2 <= reads <= 10 * (time.monotonic() - start) + 1


def test_plain_lines_appear_where_there_is_no_terminal(capsys):
    inference().run(DATA, num_steps=6, print_every=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 2/6", "step 4/6", "step 6/6"]
    for part in ("generator ", "discriminator ", "D(real) ", "D(fake) "):
        assert part in lines[0]


def test_lines_show_the_history_of_their_own_step(capsys):
    trained = inference().run(DATA, num_steps=30, print_every=10)
    lines = capsys.readouterr().err.splitlines()
    for line, step in zip(lines, (10, 20, 30), strict=True):
        assert f"generator {trained.history['generator_loss'][step - 1]:.3f}" in line


def test_no_progress_is_silent(capsys):
    inference().run(DATA, num_steps=3, progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_bar_appears_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    inference().run(DATA, num_steps=5)
    shown = terminal.getvalue()
    assert "5/5" in shown and "generator" in shown and "D(fake)" in shown and "step/s" in shown


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, ProgressBar), (False, ProgressLines)])
def test_progress_fits_who_watches(monkeypatch, is_terminal, kind):
    monkeypatch.setattr("sys.stderr", Terminal() if is_terminal else io.StringIO())
    assert [type(callback) for callback in progress_callbacks(True, None)] == [kind]
    assert progress_callbacks(False, None) == []


def test_samples_have_the_number_of_rows_asked_for():
    def model():
        with pyro.plate("data", 3):
            pyro.deterministic(
                "x", pyro.param("w", torch.zeros(2)) + pyro.sample("eps", dist.Normal(0.0, 1.0))[:, None], event_dim=1
            )

    untrained = GANInference(model, lambda x: x.sum(1))
    assert untrained.sample(7).shape == (7, 2)
    assert np.isfinite(untrained.sample(7).numpy()).all()


def test_the_last_step_has_a_line(capsys):
    inference().run(DATA, num_steps=5, print_every=2)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["step 2/5", "step 4/5", "step 5/5"]


def test_an_error_keeps_the_history_of_the_steps_before():
    class Failing(Callback):
        def on_step(self, inference):
            if inference.num_steps_taken == 3:
                raise RuntimeError("on purpose")

    trained = inference()
    with pytest.raises(RuntimeError, match="on purpose"):
        trained.run(DATA, num_steps=9, progress=False, callbacks=Failing())
    assert trained.history["step"] == [1, 2, 3]


def test_transforms_make_tensors_on_the_device():
    made = []

    def transform(x):
        made.append(torch.zeros(1).device.type)
        return x

    stream = minibatches(torch.zeros(4, device="meta").to(torch.int8), 2, torch.device("meta"), transform)
    next(stream)
    assert made == ["meta"]
