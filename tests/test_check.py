"""Did it work: five kinds of fit are told apart, whatever the units, and nothing of the inference changes."""

import copy

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from killed import same
from latent_models import linear_model, linear_rows, linear_simulator, normal_guide
from models import location_model, networks, scalar_discriminator
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import BiGANInference, GANInference, ImplicitKLqp, WGANInference
from pyro_gan.callbacks import Callback
from pyro_gan.callbacks.failures import Drift
from pyro_gan.criticism.findings import draws_against_rows, finding
from pyro_gan.inference.verdict import PROBLEMS, Report
from pyro_gan.players.first_look import random_states

UNITS = torch.tensor([1.0, 1000.0])


def correlated(num_rows, seed):
    """Rows of two dependent features, of which one is in units and the other in thousands."""
    noise = torch.randn(num_rows, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack([noise[:, 0], 0.8 * noise[:, 0] + 0.6 * noise[:, 1]], 1) * UNITS


def scaled_model(scale, shift=0.0):
    """Draws like those of `correlated`, but for the scale and a shift, in deviations."""

    def model(batch_size):
        pace = pyro.param("scale", torch.tensor(float(scale)))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            rows = torch.stack([eps[:, 0], 0.8 * eps[:, 0] + 0.6 * eps[:, 1]], 1)
            return pyro.deterministic("x", (pace * rows + shift) * UNITS, event_dim=1)

    return model


def copying_model(train, num_copied=None, noise=0.0):
    """Draws training rows again."""
    copied = train if num_copied is None else train[:num_copied]

    def model(batch_size):
        offset = pyro.param("offset", torch.zeros(2))
        with pyro.plate("data", batch_size):
            index = pyro.sample("index", dist.Categorical(torch.ones(len(copied))))
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", copied[index] + (offset + noise * eps) * UNITS, event_dim=1)

    return model


def narrow_guide(scale, bias=0.0):
    """A guide of `linear_model` with so many times the right standard deviation."""

    def guide(x):
        factor = pyro.param("factor", torch.tensor(float(scale)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.8 * x + bias, 0.2**0.5 * factor))

    return guide


def of_draws(model, seed):
    train, held_out = correlated(1600, seed), correlated(400, 1000 + seed)
    inference = GANInference(model(train) if model is copying_model else model)
    return inference.check(held_out, train=train)


def good(seed):
    return of_draws(scaled_model(1.0), seed)


def collapsed(seed):
    return of_draws(scaled_model(0.05), seed)


def memorizing(seed):
    return of_draws(copying_model, seed)


def drifting(seed):
    pyro.set_rng_seed(seed)
    data = 30 + 0.1 * torch.randn(1000)
    with pytest.warns(RuntimeWarning) as told:
        inference = GANInference(location_model, scalar_discriminator(8)).run(data, num_steps=500, progress=False)
    assert all(text in str(each.message) for each, text in zip(told, ("another place", "one direction"), strict=True))
    return inference.check(30 + 0.1 * torch.randn(300))


def over_confident(seed):
    return BiGANInference(linear_simulator, narrow_guide(0.5)).check(linear_rows(300, seed)[1])


KINDS = {
    "passed": good,
    "collapsed": collapsed,
    "memorizing": memorizing,
    "drifting": drifting,
    "over-confident": over_confident,
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_five_kinds_of_fit_are_told_apart(kind, seed):
    report = KINDS[kind](seed)
    assert (report.passed, report.problems[:1]) == ((True, []) if kind == "passed" else (False, [kind]))
    assert not set(report.problems) & (set(KINDS) - {kind})
    assert ("did not pass" in report.verdict) == (kind != "passed")


@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
@pytest.mark.parametrize(
    ("guide", "problems"),
    [
        (narrow_guide(1.0), []),
        (narrow_guide(0.85), []),
        (narrow_guide(1.2), []),
        (narrow_guide(0.5), ["over-confident"]),
        (narrow_guide(2.0), ["under-confident"]),
        (narrow_guide(1.0, bias=0.25), ["biased"]),
    ],
)
def test_the_width_and_the_place_of_a_posterior_are_seen(inference_class, guide, problems):
    model = linear_simulator if inference_class is BiGANInference else linear_model
    assert inference_class(model, guide).check(linear_rows(200)[1]).problems == problems


def test_the_prior_is_calibrated_but_no_posterior():
    def guide(x):
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0 * x, scale))

    report = BiGANInference(linear_simulator, guide).check(linear_rows(200)[1])
    assert report.problems == ["miscalibrated"]
    assert "though not in its width on average" in report.verdict


def test_simulations_that_were_made_beforehand_judge_a_guide():
    z, x = linear_rows(300)
    inference = BiGANInference(linear_model, narrow_guide(0.5))
    inference.step({"z": z[:64], "x": x[:64]})
    report = inference.check({"z": z, "x": x})
    assert report.problems == ["over-confident"]
    assert all("reach" not in each.name for each in report.table)
    with pytest.raises(ValueError, match=r"judged on at least 20 simulations.*there are 10\. Pass more"):
        inference.check({"z": z[:10], "x": x[:10]})


def test_a_simulator_that_can_not_make_an_observation_is_told():
    inference = BiGANInference(linear_simulator, narrow_guide(1.0))
    inference.step(linear_rows(64)[1])
    assert inference.check(observation=torch.tensor(1.0)).passed
    far = inference.check(observation=torch.tensor(9.0))
    assert far.problems == ["out of reach"]
    assert "look at the simulator, and at the observations" in far.verdict
    assert inference.check(torch.tensor([9.0])).problems == ["out of reach"]
    assert inference.check(9 + linear_rows(100)[1]).problems == ["out of reach"]


def test_an_observation_may_be_asked_about_without_a_guide():
    inference = GANInference(scaled_model(1.0))
    rows = correlated(100, 0)
    assert inference.check(rows, observation=rows[:1]).passed
    report = inference.check(rows, observation=torch.tensor([[0.0, 9000.0]]))
    assert report.problems == ["out of reach"]
    inside = torch.tensor([[2.5, -2500.0]])  # each feature is usual, both together are not
    assert inference.check(rows, observation=inside).problems == ["out of reach"]


@pytest.mark.parametrize("num_rows", [50, 2000, 20_000])
@pytest.mark.parametrize(
    ("model", "problems"),
    [
        (scaled_model(1.0), []),
        (scaled_model(0.9, shift=0.1), []),
        (scaled_model(1.0, shift=2.0), ["different"]),
    ],
)
def test_a_verdict_does_not_hang_on_the_number_of_rows(num_rows, model, problems):
    report = GANInference(model).check(correlated(num_rows, 3))
    assert [problem for problem in report.problems if problem != "out of balance"] == problems


@pytest.mark.filterwarnings("ignore:the discriminator sees site")
def test_units_of_features_do_not_matter():
    """A column in thousands hides no other, and columns that are scaled change no number."""

    def half_collapsed(which, units):
        def model(batch_size):
            size = pyro.param("size", torch.tensor(1.0))
            with pyro.plate("data", batch_size):
                eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
                factors = torch.ones(2).index_fill(0, torch.tensor([which]), 0.05)
                return pyro.deterministic("x", size * eps * factors * units, event_dim=1)

        return model

    rows = torch.randn(500, 2)
    for which in 0, 1:
        reports = [
            GANInference(half_collapsed(which, units), lambda x: x[:, 0] * 0 + pyro.param("d", torch.zeros(1))).check(
                rows * units
            )
            for units in (torch.ones(2), torch.tensor([2.0**20, 2.0**-20]))
        ]
        assert [report.problems[0] for report in reports] == ["collapsed"] * 2
        assert reports[0]["spread of draws over the data's"].where == f"x[{which}]"
        for one, other in zip(reports[0].table, reports[1].table, strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-3), one.name


def test_copies_of_a_few_rows_are_a_collapse():
    train = correlated(1000, 0)
    report = GANInference(copying_model(train, num_copied=20)).check(correlated(400, 1), train=train)
    assert report.problems[0] == "collapsed"
    assert not report["different draws, over the data's"].passed


def test_copies_with_a_trace_of_noise_are_memorized_and_need_training_rows_to_be_seen():
    train, held_out = correlated(1000, 0), correlated(400, 1)
    inference = GANInference(copying_model(train, noise=0.001))
    assert inference.check(held_out, train=train).problems == ["memorizing"]
    assert inference.check(held_out).passed


def test_modes_that_are_lost_are_a_collapse():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(3.0))
        with pyro.plate("data", batch_size):
            side = 2 * pyro.sample("side", dist.Bernoulli(0.5)) - 1
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", eps * 0.3 + torch.stack([side * 3, loc + 0 * side], 1), event_dim=1)

    sides = 6 * torch.randint(2, (600, 2)) - 3  # four modes, of which the model draws two
    report = GANInference(model).check(sides + 0.3 * torch.randn(600, 2))
    assert report.problems[0] == "collapsed"
    assert report["part of the data that is drawn"].value < 0.6


def test_draws_that_are_not_finite_are_told():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", loc + eps, event_dim=0)

    inference = GANInference(model, scalar_discriminator(4))
    inference.check(torch.randn(50))
    pyro.get_param_store()["loc"] = torch.tensor(torch.nan)
    report = inference.check(torch.randn(50))
    assert report.problems[0] == "not finite"


def test_covariates_are_part_of_what_is_compared():
    def model(x, c):
        slope = pyro.param("slope", torch.tensor(1.0))
        with pyro.plate("data", len(c)):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", slope * c + 0.1 * eps, event_dim=0)

    c = torch.randn(800)
    x = c + 0.1 * torch.randn(800)
    inference = GANInference(model)
    assert inference.check({"x": x, "c": c}).passed
    report = inference.check({"x": -x, "c": c})  # the same marginal distributions
    assert "different" in report.problems
    assert report["distance of a feature's distribution"].passed
    assert not report["accuracy of a new classifier"].passed


class Fixed(torch.nn.Module):
    """A discriminator of a given slope."""

    def __init__(self, slope):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(float(slope)))

    def forward(self, x):
        return self.slope * x


def test_players_out_of_balance_are_told():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    rows = 4 + torch.randn(200)
    for inference_class in GANInference, WGANInference:
        assert "out of balance" in inference_class(model, Fixed(1.0)).check(rows).problems  # it wins
        assert "out of balance" in inference_class(model, Fixed(0.0)).check(rows).problems  # it is blind
        assert "out of balance" not in inference_class(model, Fixed(0.0)).check(rows - 4).problems


def test_a_steady_pace_explains_draws_that_differ_but_is_no_fault_alone():
    drift = Drift("", 0.0, "loc", 0.9)
    for shift, problems in (0.0, []), (2.0, ["drifting", "different"]):
        inference = GANInference(scaled_model(1.0, shift))
        inference.drift = drift
        found = inference.check(correlated(300, 0)).problems
        assert [problem for problem in found if problem != "out of balance"] == problems


def test_global_sites_are_checked_by_what_they_predict():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 1000, subsample=x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(3.0))
        pyro.sample("mean", dist.Normal(loc, 0.03))

    inference = ImplicitKLqp(model, guide, global_sites="mean")
    rows = torch.randn(400)
    assert inference.check(3 + rows).passed
    assert inference.check(rows).problems == ["different"]


def batch_norm_gan():
    generator, discriminator = networks(2, batch_norm=True)

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    return GANInference(model, discriminator), correlated(200, 0) / UNITS


def bigan():
    return BiGANInference(linear_model, normal_guide()), linear_rows(200)[1]


@pytest.mark.filterwarnings("ignore:ZeroCentredGradientPenalty takes the slope")
@pytest.mark.parametrize("build", [batch_norm_gan, bigan])
def test_a_check_changes_nothing_and_says_the_same_again(build):
    inference, rows = build()
    inference.run(rows, num_steps=3, batch_size=64, progress=False)
    before = copy.deepcopy(inference.state_dict())
    state = random_states(inference.device).state_dict()
    first, second = (inference.check(rows, observation=rows[:5]) for _ in range(2))
    assert str(first) == str(second)
    assert same(random_states(inference.device).state_dict(), state)
    assert same(inference.state_dict(), before)
    gradients = [leaf.grad for leaf in inference.optim.parameters.values()]
    assert all(gradient is not None for gradient in gradients)


def test_a_check_works_after_load(tmp_path):
    inference, rows = bigan()
    first = inference.run(rows, num_steps=3, progress=False).check(rows)
    inference.save(tmp_path / "state")
    pyro.clear_param_store()
    assert str(bigan()[0].load(tmp_path / "state").check(rows)) == str(first)


def test_a_run_that_keeps_rows_apart_prints_a_report(capsys):
    rows = correlated(500, 0)
    inference = GANInference(scaled_model(1.0)).run(rows, num_steps=3, held_out=0.2)
    assert str(inference.report) in capsys.readouterr().out
    assert "(100 held-out rows, 400 training rows)" in str(inference.report)
    assert str(inference.check()) == str(inference.report)
    inference.run(rows, num_steps=3, held_out=50, progress=False)
    assert capsys.readouterr().out == ""
    assert "(50 held-out rows, 450 training rows)" in str(inference.report)
    inference.run(rows, num_steps=3, progress=False)
    assert inference.report is None


def test_rows_that_are_kept_apart_are_not_trained_on_and_are_always_the_same():
    class Seen(Callback):
        def __init__(self):
            self.rows = set()

        def on_step(self, inference):
            self.rows.update(inference.last_batch()[0].tolist())

    rows, state = torch.arange(100.0), torch.get_rng_state()
    inference = GANInference(location_model, scalar_discriminator(4))
    seen = [Seen(), Seen()]
    kept = []
    for each in seen:
        inference.run(rows, num_steps=8, batch_size=16, held_out=0.2, progress=False, callbacks=[each])
        kept.append(set(inference.parts.held_out[0].tolist()))
    assert kept[0] == kept[1] and len(kept[0]) == 20
    assert seen[0].rows == seen[1].rows == set(rows.tolist()) - kept[0]
    assert torch.equal(rows, torch.arange(100.0))
    assert len(state) == len(torch.get_rng_state())


def test_rows_that_are_left_out_are_not_among_those_that_are_kept_apart():
    rows = correlated(200, 0)
    rows[::5, 1] = torch.nan
    inference = GANInference(scaled_model(1.0))
    with pytest.warns(RuntimeWarning, match="left out 40 of 200 rows") as told:
        inference.run(rows, num_steps=2, held_out=0.25, invalid="exclude", progress=False)
    assert len(told) == 1
    (apart,) = inference.parts.held_out
    assert len(apart) == 40 and apart.isfinite().all()


def test_mappings_tuples_and_transforms_are_kept_apart_alike():
    rows = correlated(200, 0)
    inference = GANInference(scaled_model(1.0), site="x")
    for data in ({"x": rows / 2}, (rows / 2, torch.arange(200)), TensorDataset(rows / 2)):
        as_is = isinstance(data, dict)
        double = (lambda batch: {"x": 2 * batch["x"]}) if as_is else (lambda x, *_: 2 * x)
        inference.run(data, num_steps=1, held_out=0.2, transform=double, progress=False)
        assert inference.report["spread of draws over the data's"].passed
        assert inference.report["distance of a feature's distribution"].passed


def test_a_run_that_goes_on_keeps_the_same_rows_apart(tmp_path):
    def run(num_steps):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = GANInference(location_model, scalar_discriminator(4))
        options = {"checkpoint": tmp_path / "cut", "checkpoint_every": 2, "progress": False}
        return inference.run(torch.arange(100.0), num_steps=num_steps, held_out=0.3, batch_size=16, **options)

    run(4)
    went_on = run(8)
    assert str(run(8).report) == str(went_on.report)  # which was over
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    whole = GANInference(location_model, scalar_discriminator(4))
    whole.run(torch.arange(100.0), num_steps=8, held_out=0.3, batch_size=16, progress=False)
    assert went_on.parts.held_out[0].equal(whole.parts.held_out[0])
    with pytest.raises(ValueError, match="was on data of"):
        inference = GANInference(location_model, scalar_discriminator(4))
        inference.run(torch.arange(100.0), num_steps=12, held_out=0.2, batch_size=16, checkpoint=tmp_path / "cut")


@pytest.mark.filterwarnings("ignore:the model.s draws have another place")
def test_a_run_that_is_skipped_for_a_later_one_reports_nothing(tmp_path):
    def runs(lengths):
        pyro.clear_param_store()
        inference = GANInference(location_model, scalar_discriminator(4))
        reports = []
        for num_steps in lengths:
            options = {"held_out": 0.3, "progress": False, "checkpoint": tmp_path, "checkpoint_every": 1}
            reports.append(inference.run(torch.arange(100.0), num_steps=num_steps, **options).report)
        return reports

    assert None not in runs([2, 2])
    skipped, went_on = runs([2, 4])
    assert skipped is None and went_on is not None


@pytest.mark.parametrize(
    ("held_out", "error", "text"),
    [
        (
            "a tenth",
            TypeError,
            "must be a part of the rows between 0 and 1, such as 0.1, or a number of rows, but is 'a",
        ),
        (True, TypeError, r"but is True \(bool\)"),
        (1.5, ValueError, "or a number of rows, but is 1.5"),
        (0.0, ValueError, "but is 0.0"),
        (float("nan"), ValueError, "but is nan"),
        (100, ValueError, "keeps 100 of 100 rows apart. Leave at least 1 of each"),
        (-3, ValueError, "keeps -3 of 100 rows"),
        (0.1, ValueError, "keeps 10 of 100 rows apart, but a check takes at least 20. Keep more apart"),
    ],
)
def test_what_can_not_be_kept_apart_is_refused_before_anything_changes(held_out, error, text):
    inference = GANInference(location_model, scalar_discriminator(4))
    with pytest.raises(error, match=text):
        inference.run(torch.randn(100), held_out=held_out)
    assert not pyro.get_param_store().keys() and inference.num_steps_taken == 0


def test_loaders_keep_nothing_apart():
    inference = GANInference(location_model, scalar_discriminator(4))
    for data in (DataLoader(torch.randn(100)), [torch.randn(10)], iter([torch.randn(10)])):
        with pytest.raises(ValueError, match=r"keeps rows of arrays apart, but data is a .*pass them to check\(rows\)"):
            inference.run(data, held_out=0.2)


def test_a_check_without_rows_says_what_to_pass():
    inference = GANInference(location_model, scalar_discriminator(4))
    with pytest.raises(ValueError, match=r"no held-out rows to check by\. Pass some, check\(rows\), or have a run"):
        inference.check()
    inference.step(torch.randn(30))
    with pytest.raises(ValueError, match=r"no held-out rows, but there are none|train is compared with held-out rows"):
        inference.check(train=torch.randn(30), observation=torch.randn(3))
    with pytest.raises(ValueError, match=r"held_out has 5 rows, but draws are compared with at least 20\. Pass more"):
        inference.check(torch.randn(5))
    with pytest.raises(ValueError, match=r"real and fake rows differ at site 'x'.*event shape \(2,\)"):
        inference.check(torch.randn(30, 2))
    with pytest.raises(TypeError, match="held_out must be a tensor or an array"):
        inference.check("rows")


def test_a_check_that_fails_does_not_lose_the_run(monkeypatch):
    def fails(*_):
        raise ValueError("no draws today.")

    monkeypatch.setattr("pyro_gan.inference.checking._of_draws", fails)
    inference = GANInference(location_model, scalar_discriminator(4))
    with pytest.warns(RuntimeWarning, match=r"come to its end, but could not be checked: no draws today\. Call check"):
        inference.run(torch.randn(100), num_steps=2, held_out=0.3, progress=False)
    assert inference.num_steps_taken == 2 and inference.report is None


def table():
    return [
        finding("width", 0.2, 1.0, low=0.5, problem="collapsed", where="x[3]"),
        finding("distance", 0.3, 0.0, high=0.15, problem="different", is_chance=True),
        finding("area", 0.5, 0.5, low=0.05, high=0.95, problem="out of balance"),
    ]


def test_a_report_is_a_verdict_and_a_table():
    report = Report("GANInference", table(), "(500 held-out rows)")
    assert (report.passed, report.problems) == (False, ["collapsed"])
    assert report.verdict.startswith(
        "GANInference did not pass (collapsed): the draws have collapsed and lack a part of the data "
        "(width of x[3] 0.2, expected at least 0.5). Use the default loss"
    )
    lines = str(report).splitlines()
    assert lines[0] == report.verdict and lines[-1] == "(500 held-out rows)"
    assert lines[3].split() == ["width", "0.2", "at", "least", "0.5", "not", "ok", "x[3]"]
    assert lines[4].split() == ["distance", "0.3", "at", "most", "0.15", "ok,", "by", "chance"]
    assert lines[5].split() == ["area", "0.5", "0.05", "to", "0.95", "ok"]
    frame = pd.DataFrame(report.table)
    assert list(frame.columns[:4]) == ["name", "value", "expected", "passed"]
    assert frame.passed.tolist() == [False, True, True]
    assert report["width"].value == 0.2
    with pytest.raises(KeyError, match=r"no measure 'size'\. It has 'width', 'distance', 'area'"):
        report["size"]


def test_every_problem_has_a_sentence_and_a_mend():
    for problem, (what, mend) in PROBLEMS.items():
        report = Report("It", [finding("m", 2.0, 0.0, high=1.0, problem=problem)], "")
        assert report.verdict == f"It did not pass ({problem}): {what} (m 2, expected at most 1). {mend}"


def test_a_report_is_drawn():
    ax = Report("GANInference", table(), "").plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["width", "distance", "area"]
    assert [round(bar.get_width(), 2) for bar in ax.patches] == [1.6, 2.0, 0.0]
    assert ax.get_title() == "GANInference: collapsed"
    again = Report("GANInference", table()[2:], "").plot(ax=ax)
    assert again is ax and ax.get_title() == "GANInference: passed"


RARE = {
    "a rare event": lambda n: torch.cat([torch.randn(n, 1), (torch.rand(n, 1) < 0.05).float()], 1),
    "sparse pixels": lambda n: (torch.rand(n, 64) < torch.linspace(0.001, 0.5, 64)).float() * torch.rand(n, 64),
    "rare amounts": lambda n: (torch.rand(n, 1) < 0.01).float() * torch.randn(n, 1).exp() * 100,
}


@pytest.mark.parametrize("kind", RARE)
def test_exact_draws_of_what_is_rare_have_not_collapsed(kind):
    for seed in range(10):
        torch.manual_seed(seed)
        real, fake = (RARE[kind](1000).double() for _ in range(2))
        found = draws_against_rows(real, fake, [str(column) for column in range(real.shape[1])])
        assert [each.problem for each in found if not each.passed] == []


def test_a_rare_event_that_is_never_drawn_has_collapsed():
    torch.manual_seed(0)
    real = (torch.rand(2000, 1) < 0.05).double()
    (spread,) = [each for each in draws_against_rows(real, 0 * real, ["x"]) if "spread" in each.name]
    assert spread.problem == "collapsed" and not spread.passed
