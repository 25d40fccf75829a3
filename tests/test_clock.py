"""A run follows its own clock, whatever callbacks do meanwhile."""

import math

import pyro
import pytest
import torch
from latent_models import linear_model, slope_guide
from models import location_model, network_model, networks, scalar_discriminator

from pyro_gan import BiGANInference, GANInference
from pyro_gan.callbacks import Callback, Evaluate, FinalMean, KeepBest, SaveSamples
from pyro_gan.losses import NonSaturating, Wasserstein
from pyro_gan.penalties import R1
from pyro_gan.recipes import PACE, default_rate
from pyro_gan.training.clock import Clock

DATA = 4 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))


def make(**options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return GANInference(location_model, scalar_discriminator(4), **options)


class Extra(Callback):
    """Takes steps of its own within a run, and keeps what it saw."""

    def __init__(self, number=2):
        self.number = number
        self.rates, self.progress = [], []

    def on_step(self, inference):
        self.rates.append(inference.optim_d.optimizer.param_groups[0]["lr"])
        self.progress.append(inference.clock.progress)
        for _ in range(self.number):
            inference.step(DATA[:10], player="discriminator")


def test_steps_of_a_callback_move_neither_rates_nor_the_history():
    extra, trained = Extra(), make()
    trained.run(DATA, num_steps=20, progress=False, callbacks=[extra])
    assert trained.history["step"] == list(range(1, 21))
    assert extra.progress == [pytest.approx(step / 20) for step in range(1, 21)]
    assert extra.rates == [pytest.approx(default_rate(step / 20)) for step in range(1, 21)]
    assert min(extra.rates) >= 0
    assert trained.num_steps_taken == 60


def test_the_next_run_is_numbered_on_without_a_gap():
    trained = make().run(DATA, num_steps=3, progress=False, callbacks=[Extra()])
    trained.run(DATA, num_steps=2, progress=False)
    assert trained.history["step"] == [1, 2, 3, 4, 5]


def test_no_progress_makes_a_rate_negative():
    assert default_rate(1.5) == 0.0
    clock = Clock()
    with clock.running(2):
        for expected in (0.5, 1.0, 1.0):  # a loop that goes on longer than announced
            clock.tick()
            assert clock.progress == expected
        assert clock.num_left == 0
    assert clock.progress == 0.0


def test_the_final_mean_is_that_of_the_runs_own_last_steps():
    class Locations(Callback):
        def __init__(self):
            self.seen = []

        def on_step(self, inference):
            self.seen.append(pyro.param("loc").item())

    seen, trained = Locations(), make()
    trained.run(DATA, num_steps=8, progress=False, callbacks=[seen, FinalMean(0.5), Extra()])
    assert pyro.param("loc").item() == pytest.approx(sum(seen.seen[-4:]) / 4)


@pytest.mark.parametrize("method", ["run", "load_state_dict"])
def test_what_would_confuse_a_run_is_refused_within_it(method):
    class Nested(Callback):
        def on_step(self, inference):
            if method == "run":
                inference.run(DATA, num_steps=2, progress=False)
            else:
                inference.load_state_dict(inference.state_dict())

    trained = make()
    with pytest.raises(ValueError, match=f"{method} was called while a run of the same inference is under way"):
        trained.run(DATA, num_steps=3, progress=False, callbacks=[Nested()])
    trained.run(DATA, num_steps=2, progress=False)  # and the next run is as any other
    assert trained.history["step"] == [1, 2, 3]


def test_numbers_can_be_noted_whenever_a_run_tells_and_after_it():
    class Notes(Callback):
        def on_read(self, inference):
            inference.note(read=1.0)

        def on_end(self, inference):
            inference.note(end=2.0)

    trained = make().run(DATA, num_steps=4, progress=False, callbacks=[Notes()])
    trained.note(after=3.0)
    last = {name: values[-1] for name, values in trained.history.items()}
    assert (last["read"], last["end"], last["after"]) == (1.0, 2.0, 3.0)
    assert {len(values) for values in trained.history.values()} == {4}
    assert trained.noted() == {"read": 1.0, "end": 2.0, "after": 3.0}
    assert not trained.notes


def test_there_must_be_a_step_to_note_at():
    trained = make()
    with pytest.raises(ValueError, match="there is no step to note numbers at: only run writes a history"):
        trained.note(score=1.0)
    trained.step(DATA)
    with pytest.raises(ValueError, match="there is no step to note numbers at"):
        trained.note(score=1.0)


def test_a_state_that_is_asked_for_within_a_run_has_all_of_the_history(tmp_path):
    class Save(Callback):
        def on_step(self, inference):
            inference.note(score=float(inference.clock.step))
            inference.save(tmp_path / "state")
            assert inference.noted() == {"score": float(inference.clock.step)}

    trained = make().run(DATA, num_steps=3, progress=False, callbacks=[Save()])
    other = make().load(tmp_path / "state")
    assert other.history == trained.history
    assert other.history["score"] == [1.0, 2.0, 3.0]


def test_a_loss_and_penalties_that_are_exchanged_in_a_run_are_recorded():
    class Exchange(Callback):
        def on_step(self, inference):
            if inference.clock.step == 2:
                inference.loss, inference.penalties = Wasserstein(), (R1(1.0),)

    trained = make(loss=NonSaturating())
    trained.run(DATA, num_steps=4, progress=False, callbacks=[Exchange()])
    is_missing = [math.isnan(value) for value in trained.history["penalty"]]
    assert is_missing == [True, True, False, False]
    assert [math.isnan(value) for value in trained.history["real_probability"]] == [False, False, True, True]


def test_evaluations_and_pictures_come_at_the_runs_own_steps(tmp_path):
    evaluate = Evaluate(lambda samples, rows: samples.mean() - rows.mean(), DATA, every=2, num_samples=9, name="gap")
    pictures = SaveSamples(tmp_path, every=2, num_samples=9, draw=lambda samples: _axes())
    trained = make().run(DATA, num_steps=4, progress=False, callbacks=[Extra(), evaluate, pictures])
    assert [math.isnan(value) for value in trained.history["gap"]] == [True, False, True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002.png", "000004.png"]


def _axes():
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def test_the_best_of_one_inference_is_not_anothers():
    def model(x):
        loc = pyro.param("other", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.deterministic("x", loc + pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0)), event_dim=0)

    def gap(samples, rows):
        return abs(samples.mean() - rows.mean())

    best = KeepBest("gap", smaller_is_better=True)
    callbacks = [Evaluate(gap, DATA, every=5, num_samples=50), best]
    make().run(DATA, num_steps=5, progress=False, callbacks=callbacks)
    first = best.value
    second = GANInference(model, scalar_discriminator(4)).run(
        DATA + 50, num_steps=5, progress=False, callbacks=callbacks
    )
    assert best.value == pytest.approx(second.history["gap"][-1]) and best.value != first
    assert pyro.param("other").item() != 0.0


def test_rates_of_a_guides_default_optimizers_fall_once_whatever_a_callback_does():
    class Rates(Extra):
        def on_step(self, inference):
            self.rates.append(inference.optim.optimizer.param_groups[0]["lr"])
            inference.step(DATA[:10])

    rates = Rates()
    BiGANInference(linear_model, slope_guide).run(DATA, num_steps=10, progress=False, callbacks=[rates])
    assert rates.rates == [pytest.approx(PACE * default_rate(step / 10)) for step in range(1, 11)]  # of plain numbers


def test_history_of_a_step_that_a_network_takes_by_hand_is_not_written():
    generator, discriminator = networks()
    trained = GANInference(network_model(generator, 2), discriminator)
    trained.step(torch.randn(8, 3))
    trained.run(torch.randn(32, 3), num_steps=2, progress=False)
    assert trained.history["step"] == [2, 3] and trained.num_steps_taken == 3
