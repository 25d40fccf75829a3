"""Runs that end early, where rows kept apart fit ever worse."""

import functools
import math
import runpy
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from latent_models import joint_discriminator, linear_posterior, linear_rows, linear_simulator, noise_guide
from models import network_model, networks, run_to_its_end

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference
from pyro_gan.callbacks import Callback, EndBeforeOverfitting, ScaleNoise
from pyro_gan.criticism import expected_coverage
from pyro_gan.inference.ranks import local_ranks
from pyro_gan.training.minibatches import Gathered, minibatches

ROWS = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")
NOISE = torch.randn(1000, generator=torch.Generator().manual_seed(1))


class Scored(GANInference):
    """One that follows scores."""

    def follow(self, scores):
        self.scores = scores
        return self

    def schedule(self, batches):
        return [EndBeforeOverfitting(self.scores), *super().schedule(batches)]


def make():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    generator, discriminator = networks()
    return Scored(network_model(generator, 2), discriminator)


class Course:
    """Scores of 1,000 rows that follow a course of means, with noise that repeats, so that all of it cancels."""

    def __init__(self, means, noise=0.0):
        self.means, self.noise, self.calls = means, noise, 0

    def __call__(self):
        self.calls += 1
        own = torch.randn(1000, generator=torch.Generator().manual_seed(self.calls))
        return self.means[min(self.calls - 1, len(self.means) - 1)] + NOISE + self.noise * own


def test_a_run_whose_scores_have_risen_goes_on_for_as_long_as_to_the_best(capsys):
    # Called at steps 1, 100, 200, 300, 400: the best is at 200, and those at 300 and 400 are worse.
    inference, course = make(), Course([2.0, 1.5, 1.0, 1.1], noise=0.1)
    inference.follow(course).run(ROWS, num_steps=2000, batch_size=8)
    assert inference.history["step"] == list(range(1, 601))
    assert course.calls == 5
    told = capsys.readouterr().err
    assert told.count("the run ends at step 600 instead of 2000, since rows kept apart fit ever worse\n") == 1
    assert "step 600/600" in told
    noted = [value for value in inference.history["held_out_score"] if value == value]
    assert noted == pytest.approx([1.5, 1.0, 1.1, 1.1], abs=0.05)


def test_scores_that_have_risen_but_once_end_no_run():
    inference = make()
    inference.follow(Course([2.0, 1.5, 1.0, 1.1, 1.0, 1.1, 1.0])).run(ROWS, num_steps=700, batch_size=8, progress=False)
    assert len(inference.history["step"]) == 700


@pytest.mark.parametrize(("errors", "num_steps"), [(2.5, 700), (3.5, 400)])
def test_scores_must_have_risen_by_three_standard_errors(errors, num_steps):
    # Differences from the best are 1 or -1 beside what they have risen by: their error is 1 / sqrt(1000).
    signs = torch.tensor([1.0, -1.0]).repeat(500)
    risen = signs + errors / 1000**0.5
    scores = iter([NOISE, NOISE, *6 * [NOISE + risen]])
    inference = make().follow(lambda: next(scores))
    inference.run(ROWS, num_steps=700, batch_size=8, progress=False)
    assert len(inference.history["step"]) == num_steps


def test_rates_have_fallen_to_their_end_when_a_run_ends_early():
    class Rates(Callback):
        def __init__(self):
            self.rates = []

        def on_step(self, inference):
            self.rates.append(inference.optim.optimizer.param_groups[0]["lr"])

    rates = Rates()
    inference = make().follow(Course([2.0, 1.0, 1.5, 1.5]))
    inference.run(ROWS, num_steps=2000, batch_size=8, progress=False, callbacks=rates)
    assert len(rates.rates) == 400
    assert rates.rates[298] == 2e-3
    assert rates.rates[350] == pytest.approx(5e-4, rel=0.02)
    assert rates.rates[-1] < 1e-5


@pytest.mark.parametrize("means", [[1.0] * 4, [4.0, 3.0, 2.0, 1.0]])
def test_a_run_whose_scores_rise_by_chance_alone_or_fall_takes_all_its_steps(means):
    inference = make().follow(Course(means, noise=1.0))
    inference.run(ROWS, num_steps=800, batch_size=8, progress=False)
    assert len(inference.history["step"]) == 800


def test_short_runs_and_those_without_scores_ask_for_none():
    course = Course([1.0])
    make().follow(course).run(ROWS, num_steps=400, batch_size=8, progress=False)
    assert course.calls == 0
    calls = []
    inference = make().follow(lambda: calls.append(1))
    inference.run(ROWS, num_steps=500, batch_size=8, progress=False)
    assert len(calls) == 1
    assert len(inference.history["step"]) == 500


class Cut(Callback):
    """Cuts a run off after so many steps of it."""

    def __init__(self, at):
        self.at = at

    def on_step(self, inference):
        if inference.clock.done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [150, 350, 590])
def test_a_run_that_was_cut_off_ends_where_it_would_have(tmp_path, at):
    def run(*cut):
        inference = make()
        # Of the clock, and not of the calls, since a run that goes on calls anew.
        means = {0: 2.0, 1: 2.0, 100: 1.5, 200: 1.0}
        inference.follow(lambda: means.get(inference.clock.done, 1.1) + NOISE)
        inference.run(
            ROWS,
            num_steps=2000,
            batch_size=8,
            progress=False,
            callbacks=cut,
            checkpoint=tmp_path / ("cut" if cut else "whole"),
            checkpoint_every=50,
        )
        return inference

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(Cut(at))
    resumed = run(Cut(-1))
    assert len(resumed.history["step"]) == len(whole.history["step"]) == 600
    for name, leaf in whole.generator_parameters().items():
        assert torch.equal(leaf, resumed.generator_parameters()[name])
    again = run(Cut(-1))  # the run is over: nothing is left to do
    assert len(again.history["step"]) == 600
    for name, leaf in whole.generator_parameters().items():
        assert torch.equal(leaf, again.generator_parameters()[name])


def test_rows_kept_apart_come_no_more_and_all_others_once_an_epoch():
    pyro.set_rng_seed(0)
    stream = Gathered((torch.arange(103.0),), 10, CPU)
    next(stream)
    (apart,) = stream.keep_apart(13)
    assert len(set(apart.tolist())) == 13
    epochs = [torch.cat([next(stream)[0] for _ in range(9)]) for _ in range(4)]
    for epoch in epochs:
        assert sorted([*epoch.tolist(), *apart.tolist()]) == list(range(103))
    assert not torch.equal(epochs[0], epochs[1])
    other = Gathered((torch.arange(103.0),), 10, CPU)
    assert torch.equal(other.keep_apart(13)[0], apart)


def test_a_stream_that_keeps_rows_apart_goes_on_at_its_place():
    pyro.set_rng_seed(0)
    stream = Gathered((torch.arange(103.0),), 10, CPU)
    stream.keeps_place = True
    next(stream)
    stream.keep_apart(13)
    for steps in (0, 4, 13):
        for _ in range(steps):
            next(stream)
        state = stream.state_dict()
        states = torch.get_rng_state()
        expected = [next(stream)[0] for _ in range(20)]
        other = Gathered((torch.arange(103.0),), 10, CPU)
        other.load_state_dict(state)
        torch.set_rng_state(states)
        assert all(torch.equal(next(other)[0], rows) for rows in expected)


def test_enough_rows_for_a_minibatch_always_stay():
    stream = Gathered((torch.arange(12.0),), 10, CPU)
    assert len(stream.keep_apart(5)[0]) == 2
    assert Gathered((torch.arange(12.0),), 12, CPU).keep_apart(5) is None
    assert minibatches([torch.zeros(3)], 3, CPU).keep_apart(0.5, 10) is None
    (rows,) = minibatches(torch.arange(50.0), 3, CPU, lambda x: x + 100).keep_apart(0.5, 10)
    assert len(rows) == 10
    assert rows.min() >= 100


class Seen(Callback):
    """The values of z in all minibatches after the first step."""

    def __init__(self):
        self.values = set()

    def on_step(self, inference):
        if inference.clock.done > 1:
            self.values.update(inference.last_batch().get("z", torch.zeros(0)).tolist())


def simulated(num_rows=1000):
    z, x = linear_rows(num_rows)
    return {"z": z, "x": x}


@pytest.mark.parametrize(("options", "number"), [({}, 900), ({"validation": 0.25}, 750), ({"validation": 0}, 1000)])
def test_a_part_of_simulations_is_kept_apart(options, number):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    inference = BiGANInference(linear_simulator, noise_guide(), joint_discriminator(width=8), **options)
    seen = Seen()
    inference.run(simulated(), num_steps=401, batch_size=50, progress=False, callbacks=seen)
    assert len(seen.values) == number
    assert ("held_out_score" in inference.history) == (number < 1000)


@pytest.mark.parametrize("data", ["observations", "loader", "unscored"])
def test_other_data_are_used_whole(data):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    options = {"energy_weight": 0} if data == "unscored" else {}
    rows = simulated()
    source = {"observations": {"x": rows["x"]}, "unscored": rows}.get(data)
    if source is None:
        source = [{name: each[at : at + 50] for name, each in rows.items()} for at in range(0, 1000, 50)]
    inference = BiGANInference(linear_simulator, noise_guide(), joint_discriminator(width=8), **options)
    inference.run(source, num_steps=401, batch_size=50, progress=False)
    assert "held_out_score" not in inference.history


@pytest.mark.parametrize("validation", [-0.1, 1, "a tenth", True, float("nan")])
def test_a_part_out_of_range_is_refused(validation):
    message = r"validation must be a part of the data from 0 to below 1, but is "
    with pytest.raises(ValueError, match=message):
        BiGANInference(linear_simulator, noise_guide(), validation=validation)


@pytest.mark.slow
def test_a_guide_of_few_simulations_is_as_wide_as_the_posterior():
    # Ten numbers, N(0, 0.1) with noise of the same variance: the posterior has half of that. Without rows kept apart
    # the guide knew its 1,000 simulations by heart, and was far too narrow.
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    scale = 0.1**0.5

    def simulator(batch_size):
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", dist.Normal(0.0, scale).expand([10]).to_event(1))
            return pyro.sample("x", dist.Normal(theta, scale).to_event(1))

    theta = scale * torch.randn(1000, 10)
    simulations = {"theta": theta, "x": theta + scale * torch.randn(1000, 10)}
    inference = BiGANInference(simulator, AutoImplicitGuide(simulator, observed="x"))
    inference.run(simulations, num_steps=3000, batch_size=256, progress=False)
    assert len(inference.history["step"]) < 1500
    x = scale * 2**0.5 * torch.randn(20, 10)
    draws = inference.sample_posterior(x, 1000)["theta"]
    ratio = draws.std(0).mean() / (scale / 2**0.5)
    assert 0.9 < ratio < 1.1
    assert (draws.mean(0) - x / 2).square().mean().sqrt() < 0.35 * scale / 2**0.5


def scale_after(scores, ranks, before=1.0):
    """The scale at the end of a run, where both are functions of it, or there are none."""
    scale = torch.tensor(before)
    run_to_its_end(ScaleNoise(lambda: scores and scores(scale), lambda: ranks and ranks(scale), lambda: scale))
    return float(scale)


def smallest_at(best):
    return lambda scale: 1 + (scale / best).log().square() + 0 * NOISE


def half_at(best):
    return lambda scale: 0.5 - 0.1 * (scale / best).log() + 0 * NOISE


@pytest.mark.parametrize(("before", "best"), [(1.0, 1.3), (1.2, 0.7), (1.0, 5.0), (1.0, 0.2), (1.0, 20.0)])
def test_noise_is_scaled_by_what_suits_rows_kept_apart_best(before, best):
    best_within = min(max(best, 0.5), 16.0)
    for ranks in None, lambda scale: NOISE * math.nan:
        assert scale_after(smallest_at(best), ranks, before) == pytest.approx(best_within, rel=0.01)


@pytest.mark.parametrize(("number", "most"), [(1, 2.0), (20, 2.0), (40, 4.0), (160, 16.0)])
def test_few_rows_scale_noise_by_less(number, most):
    assert scale_after(lambda scale: smallest_at(30.0)(scale)[:number], None) == pytest.approx(most, rel=0.01)


@pytest.mark.parametrize(("half", "found"), [(1.25, 1.25), (1.35, 1.35), (2.0, 1.43), (0.6, 1.3 / 1.1), (1.3, 1.3)])
def test_ranks_change_the_scale_by_a_tenth_at_most(half, found):
    assert scale_after(smallest_at(1.3), half_at(half)) == pytest.approx(found, rel=0.02)


def test_noise_keeps_its_scale_where_scores_are_no_numbers():
    assert scale_after(lambda scale: NOISE * math.nan, half_at(1.3), before=1.2) == pytest.approx(1.2)
    assert scale_after(None, half_at(1.3), before=1.2) == pytest.approx(1.2)


def test_ranks_of_true_latents_find_the_width_of_draws():
    # The truth is 1.35 times as far apart as draws without a scale, and by scores it would be 1.3.
    numbers = torch.randn(32, 20_000, 1, generator=torch.Generator().manual_seed(2))
    found = scale_after(smallest_at(1.3), lambda scale: local_ranks(list(scale * numbers[1:]), 1.35 * numbers[0]))
    assert found == pytest.approx(1.35, rel=0.02)


def labelled(number):
    """Labels, numbers near them, and the rows that tell of both."""
    labels = torch.randint(2, (number,)).float()
    z = labels + 0.5 * torch.randn(number)
    return {"label": labels, "z": z, "x": torch.stack([z, labels], 1) + 0.3 * torch.randn(number, 2)}


@pytest.mark.parametrize("has_number", [True, False])
def test_noise_of_numbers_beside_labels_is_scaled_and_that_of_labels_is_not(has_number):
    def simulator(batch_size):
        with pyro.plate("data", batch_size):
            label = pyro.sample("label", dist.Bernoulli(0.5))
            noise = torch.randn(batch_size, 2)
            z = pyro.sample("z", dist.Normal(label, 0.5)) if has_number else label + 0.5 * noise[:, 0]
            return pyro.deterministic("x", torch.stack([z, label], 1) + 0.3 * noise, event_dim=1)

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    simulations = {site: rows for site, rows in labelled(1000).items() if has_number or site != "z"}
    guide = AutoImplicitGuide(simulator, observed="x", width=8, depth=1)
    inference = BiGANInference(simulator, guide, AutoDiscriminator(width=8, depth=1))
    inference.run(simulations, num_steps=401, batch_size=50, progress=False)
    assert (guide.posterior.widening.scale != 1.0) == has_number


def test_noise_keeps_its_scale_where_nothing_was_kept_apart():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoImplicitGuide(linear_simulator, observed="x", width=8, depth=1)
    inference = BiGANInference(linear_simulator, guide, joint_discriminator(width=8))
    inference.run(simulated(), num_steps=20, batch_size=50, progress=False)
    assert guide.posterior.widening.scale == 1.0


def test_a_guide_that_knows_its_simulations_by_heart_is_widened():
    # The guide's draws are right on the mean and half as wide as they should be.
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoImplicitGuide(linear_simulator, observed="x", width=8, depth=1)
    still = functools.partial(torch.optim.SGD, lr=0.0)
    inference = BiGANInference(linear_simulator, guide, joint_discriminator(width=8), still, still)
    inference.step(simulated(50))
    with torch.no_grad():
        guide.posterior.regression.root.mul_(0.5)
        guide.posterior.own.network[-2].weight.zero_()
    inference.run(simulated(10_000), num_steps=401, batch_size=400, progress=False)
    assert float(guide.posterior.widening.scale) == pytest.approx(2.0, abs=0.1)
    x = torch.tensor([-1.0, 0.5])
    draws = inference.sample_posterior(x, 4000)["z"]
    assert (draws.std(0) - linear_posterior(x)[1]).abs().max() < 0.05


def test_intervals_of_a_guide_of_the_wrong_shape_hold_what_they_say_on_average():
    # Errors of the observations are of many sizes, and the guide knows of one: no scale makes it the posterior.
    def noise(number):
        return torch.randn(number).exp() * 0.2 * torch.randn(number)

    def simulator(batch_size):
        with pyro.plate("data", batch_size):
            theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", theta + noise(batch_size))

    def simulations(number):
        theta = torch.randn(number)
        return {"theta": theta, "x": theta + noise(number)}

    def covered():
        fresh = simulations(5000)
        draws = inference.sample_posterior(fresh["x"], 99)["theta"].T
        return expected_coverage(fresh["theta"], draws).marginal.mean().item()  # over levels from 0.05 to 0.95

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoImplicitGuide(simulator, width=8, depth=1)
    still = functools.partial(torch.optim.SGD, lr=0.0)
    inference = BiGANInference(simulator, guide, joint_discriminator(width=8), still, still)
    inference.run(simulations(10_000), num_steps=401, batch_size=500, progress=False)
    assert covered() == pytest.approx(0.5, abs=0.03)
    guide.posterior.widening.scale.fill_(1.0)
    assert covered() > 0.6  # the line's residuals are wider than most errors


def coverage_by_three_lines(model, observed, simulations):
    """The coverage of 50 % and 90 % intervals on the first 1,000 simulations, by a guide that saw the others."""
    inference = BiGANInference(model, AutoImplicitGuide(model, observed=observed))
    others = {name: rows[1000:] for name, rows in simulations.items()}
    inference.run(others, num_steps=5000, batch_size=256, progress=False)
    draws = inference.sample_posterior(simulations[observed][:1000], num_samples=500)
    levels = [0.5, 0.9]
    found = [
        expected_coverage(simulations[site][:1000], values.transpose(0, 1), levels=levels).marginal.mean(1)
        for site, values in draws.items()
    ]
    return torch.stack(found).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["simulator.py", "epidemic.py"])
def test_intervals_for_a_simulator_hold_what_they_say(script):
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / script))
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    if script == "simulator.py":
        rates = example["PRIOR"].sample((11_000,))
        simulations = {"rates": rates, "x": example["simulate"](rates)}
    else:
        drawn = {name: prior.sample((11_000,)) for name, prior in example["PRIORS"].items()}
        simulations = {**drawn, "reports": example["simulate"](**drawn)}
    covered = coverage_by_three_lines(example["model"], list(simulations)[-1], simulations)
    assert 0.47 < covered[0] < 0.53
    assert 0.87 < covered[1] < 0.93
