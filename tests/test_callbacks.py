import csv
import math
from collections import namedtuple

import matplotlib.pyplot as plt
import pyro
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, Evaluate, KeepBest, SaveSamples, StopWhen, TensorBoard, WriteCSV

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")

DATA = 4 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", ["statistic", "pvalue"])


def run(callbacks, num_steps=10):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    inference = GANInference(location_model, scalar_discriminator(4))
    return inference.run(DATA, num_steps=num_steps, batch_size=16, progress=False, callbacks=callbacks)


def distance(samples, rows):
    return (samples.mean() - rows.mean()).abs()


def test_evaluations_enter_the_history_at_their_steps():
    history = run([Evaluate(distance, DATA, every=4, num_samples=500)]).history
    assert list(history)[-1] == "distance"
    noted = [step for step, value in zip(history["step"], history["distance"], strict=True) if not math.isnan(value)]
    assert noted == [4, 8] and len(history["distance"]) == 10
    assert history["distance"][3] == pytest.approx(4, abs=0.1)


def test_a_named_tuple_is_noted_field_by_field():
    history = run([Evaluate(lambda samples, rows: Pair(len(samples), 0.5), DATA, every=10, name="test")]).history
    assert history["test_statistic"][-1] == 1000 and history["test_pvalue"][-1] == 0.5


def test_watching_a_run_does_not_change_it(tmp_path):
    def train(callbacks):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks(num_features=4, batch_norm=True)
        inference = GANInference(network_model(generator, 2), discriminator)
        inference.run(torch.rand(32, 4), num_steps=6, batch_size=8, progress=False, callbacks=callbacks)
        state = [*generator.state_dict().values(), *discriminator.state_dict().values()]
        return [tensor.clone() for tensor in state]

    watchers = [
        Evaluate(distance, torch.rand(8, 4), every=2),
        SaveSamples(tmp_path, every=3),
        KeepBest("distance"),
        StopWhen(lambda inference: False),
        WriteCSV(tmp_path / "history.csv"),
    ]
    watchers.pop(2)  # which changes the end on purpose
    assert all(torch.equal(one, other) for one, other in zip(train([]), train(watchers), strict=True))


def test_samples_are_saved_as_pictures_named_after_their_step(tmp_path):
    def draw(samples):
        ax = plt.subplots()[1]
        ax.hist(samples.numpy())
        return ax

    before = plt.get_fignums()
    run([SaveSamples(tmp_path / "new", every=5, num_samples=50, draw=draw)])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["000005.png", "000010.png"]
    assert plt.imread(tmp_path / "new" / "000005.png").std() > 0.05
    assert plt.get_fignums() == before


def test_the_history_is_written_as_csv_with_what_is_noted_on_the_way(tmp_path):
    path = tmp_path / "history.csv"
    inference = run([Evaluate(distance, DATA, every=4), WriteCSV(path)])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == inference.history["step"]
    assert [float(row["generator_loss"]) for row in rows] == inference.history["generator_loss"]
    assert float(rows[3]["distance"]) == inference.history["distance"][3]


def test_a_csv_grows_with_each_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_gan.training.record.SECONDS_BETWEEN_READS", 0)
    path, lengths = tmp_path / "history.csv", []

    class CountLines(Callback):
        def on_read(self, inference):
            lengths.append(len(path.read_text().splitlines()))

    run([WriteCSV(path), CountLines()], num_steps=3)
    assert lengths == [2, 3, 4]


def test_a_condition_ends_the_run():
    inference = run([StopWhen(lambda inference: inference.num_steps_taken >= 3)])
    assert inference.num_steps_taken == 3


def test_the_best_model_is_kept_and_patience_ends_the_run():
    locations = []

    def unlikeness(samples, rows):  # best at the third step, whatever training does
        locations.append(pyro.param("loc").item())
        return abs(len(locations) - 3)

    best = KeepBest("unlikeness", smaller_is_better=True)
    patience = StopWhen(lambda inference: inference.num_steps_taken - best.step >= 4)
    inference = run([Evaluate(unlikeness, DATA, every=1), best, patience], num_steps=50)
    assert (best.step, best.value, inference.num_steps_taken) == (3, 0.0, 7)
    assert pyro.param("loc").item() == locations[2] != locations[-1]


def test_the_largest_is_best_by_default():
    values = iter([1.0, 3.0, math.nan, 2.0, 3.0])
    best = KeepBest("value")
    run([Evaluate(lambda samples, rows: next(values), DATA, every=2, name="value"), best])
    assert (best.step, best.value) == (4, 3.0)


def test_tensorboard_gets_scalars_histograms_and_pictures(tmp_path):
    def draw(samples):
        ax = plt.subplots()[1]
        ax.hist(samples.numpy())
        return ax

    inference = run([Evaluate(distance, DATA, every=5), TensorBoard(tmp_path, every=5, draw=draw)])
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("generator_loss")]
    assert losses == [
        (step, pytest.approx(value, rel=1e-6))
        for step, value in zip(inference.history["step"], inference.history["generator_loss"], strict=True)
    ]
    assert [event.step for event in events.Scalars("distance")] == [5, 10]
    assert "model/loc" in events.Tags()["histograms"]
    assert [event.step for event in events.Images("samples")] == [5, 10]


def test_notes_may_not_take_the_historys_own_names():
    inference = GANInference(location_model, scalar_discriminator(4))
    with pytest.raises(ValueError, match=r"'generator_loss' is in the history already"):
        inference.note(generator_loss=1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Evaluate(3, DATA), TypeError, "criticism must be a callable on samples and rows, but is 3"),
        (lambda: Evaluate(distance, DATA, every=0), ValueError, "every must be a positive integer, but is 0"),
        (lambda: Evaluate(distance, DATA, num_samples=1.5), TypeError, "num_samples must be a positive integer"),
        (lambda: SaveSamples("x", draw=3), TypeError, "draw must be a callable from samples to matplotlib axes"),
        (lambda: SaveSamples("x", every=-1), ValueError, "every must be a positive integer, but is -1"),
        (lambda: StopWhen(True), TypeError, "condition must be a callable on the inference, but is True"),
        (lambda: KeepBest(3), TypeError, "name must be that of a noted number, but is 3"),
        (lambda: KeepBest("generator_loss"), ValueError, "'generator_loss' does not tell how good the model is"),
    ],
)
def test_what_callbacks_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_class_with_an_on_step_of_its_own_may_end_runs_unless_it_says_that_it_does_not():
    class Renamed(Evaluate):
        pass

    class Ending(Evaluate):
        def on_step(self, inference):
            return True

    class Silent(Evaluate):
        ends_runs = False

        def on_step(self, inference):
            return None

    assert [each.ends_runs for each in (Evaluate, Renamed, Ending, Silent)] == [False, False, True, False]
