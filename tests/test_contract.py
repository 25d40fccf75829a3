"""What every inference class does, whatever its algorithm: a new class needs a builder here and nothing more."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import DEVICE, falling_adam
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_gan
from pyro_gan import (
    AdversarialInference,
    AutoImplicitGuide,
    BiGANInference,
    GANInference,
    ImplicitKLqp,
    StepLosses,
    WGANInference,
)
from pyro_gan.penalties import R1, GradientPenalty

# The problem of all: z ~ N(0, 1), x ~ N(loc + z, 1/4), where loc is 1 and starts at 0. So x ~ N(loc, 5/4), and the
# posterior is z ~ N(0.8 (x - loc), 0.2).
LOC, NOISE, SLOPE, POSTERIOR_SCALE = 1.0, 0.5, 0.8, 0.2**0.5
NUM_ROWS = 32
DATA = LOC + (1 + NOISE**2) ** 0.5 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
ROWS = DATA[:NUM_ROWS]


def joint(num_rows, x, is_observed):
    """The model: with an observed `x`, or with a deterministic one that carries noise of its own."""
    loc = pyro.param("loc", lambda: torch.zeros(()))
    with pyro.plate("data", num_rows):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        if is_observed:
            return pyro.sample("x", dist.Normal(loc + z, NOISE), obs=x)
        eps = pyro.sample("eps", dist.Normal(torch.zeros(()), 1.0), infer={"is_auxiliary": True})
        return pyro.deterministic("x", loc + z + NOISE * eps, event_dim=0)


MODELS: dict[str, Callable[..., Any]] = {
    "model(x)": lambda x: joint(len(x), x, is_observed=True),
    "model(x=None)": lambda x=None: joint(NUM_ROWS if x is None else len(x), x, is_observed=True),
    "model(batch_size)": lambda batch_size: joint(batch_size, None, is_observed=False),
    "model()": lambda: joint(NUM_ROWS, None, is_observed=False),
}


def guide_of_ones_own():
    """A guide N(slope x + intercept, scale²) over a module."""
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight), nn.init.zeros_(network.bias)

    def guide(x):
        pyro.module("encoder", network)
        scale = pyro.param("scale", lambda: torch.ones(()), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(network(x[:, None]).squeeze(1), scale))

    return guide


class Judge(nn.Module):
    """A discriminator of one site, or of two by name."""

    def __init__(self, num_sites, width=16):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(num_sites, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, x, z=None):
        return self.network(torch.stack([x] if z is None else [x, z], 1))


def assert_location_fits(inference):
    assert abs(pyro.param("loc").item() - LOC) < 0.15


def assert_posterior_fits(inference):
    """The guide's draws at several observations have the posterior's means and deviation."""
    x = torch.tensor([-1.0, 1.0, 2.5])
    draws = inference.sample_posterior(x, num_samples=4000)["z"].cpu()
    assert (draws.mean(0) - SLOPE * (x - LOC)).abs().max() < 0.25
    assert (draws.std(0) / POSTERIOR_SCALE - 1).abs().max() < 0.25


def assert_both_fit(inference):
    assert_location_fits(inference)
    assert_posterior_fits(inference)


class Case(NamedTuple):
    """How an inference class is built for the problem, and what it reaches."""

    build: Callable[..., AdversarialInference]
    """From a model and options of all classes to a new inference, on networks of its own."""
    assert_fits: Callable[[AdversarialInference], None]
    num_steps: int
    options: dict[str, Any]
    """What the quality takes beside the defaults."""
    models: tuple[str, ...] = tuple(MODELS)
    """The forms of model that the class can work with."""


def gan(model, **options):
    return GANInference(model, Judge(1), **{"site": "x", **options})


def wgan(model, **options):
    return WGANInference(model, Judge(1), **{"site": "x", "discriminator_steps": 2, **options})


def bigan(model, **options):
    return BiGANInference(model, guide_of_ones_own(), Judge(2), **options)


def implicit_klqp(model, **options):
    return ImplicitKLqp(model, guide_of_ones_own(), Judge(2), **{"discriminator_steps": 2, **options})


def adversarial_variational_bayes(model, **options):
    return implicit_klqp(model, contrast="prior", **options)


def automatic_gan(model, **options):
    return GANInference(model, **{"site": "x", **options})


def automatic_bigan(model, **options):
    return BiGANInference(model, AutoImplicitGuide(model), **options)


def automatic_klqp(model, **options):
    return ImplicitKLqp(model, AutoImplicitGuide(model), **options)


DEFAULTS = {"optim": None, "optim_d": None}
CASES = {
    "gan": Case(gan, assert_location_fits, 300, {}),
    "wgan": Case(wgan, assert_location_fits, 400, {"penalty": GradientPenalty(0.1, one_sided=True)}),
    "bigan": Case(bigan, assert_both_fit, 600, {}),
    "implicit_klqp": Case(implicit_klqp, assert_both_fit, 400, {}),
    "implicit_klqp_prior": Case(
        adversarial_variational_bayes, assert_both_fit, 400, {}, models=("model(x)", "model(x=None)")
    ),
    "automatic gan": Case(automatic_gan, assert_location_fits, 1000, DEFAULTS),
    "automatic bigan": Case(automatic_bigan, assert_both_fit, 1000, DEFAULTS),
    "automatic klqp": Case(automatic_klqp, assert_both_fit, 1000, DEFAULTS),
}


def build(case, form="model(x)", seed=0, **options):
    """A new inference, with nothing left of earlier ones."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    return case.build(MODELS[form], **{"device": DEVICE, **options})


def run(inference, num_steps=5, data=DATA[:128], seed=None):
    if seed is not None:
        pyro.set_rng_seed(seed)
    return inference.run(data, num_steps=num_steps, batch_size=NUM_ROWS, progress=False)


def parameters(inference):
    """The parameters of the generator's side, and those of the discriminator."""
    players = inference.players()
    sides = {"generator": {}, "discriminator": dict(players.pop("discriminator").parameters)}
    for player in players.values():
        sides["generator"].update(player.parameters)
    return sides


def values(inference):
    return {
        side: {name: leaf.detach().clone() for name, leaf in leaves.items()}
        for side, leaves in parameters(inference).items()
    }


def same(one, other):
    """Whether two nested containers hold the same numbers, bit for bit; NaN counts as the same."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def drawn(inference, number=5, seed=3):
    pyro.set_rng_seed(seed)
    return inference.sample(number)


every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
every_form = pytest.mark.parametrize(
    ("case", "form"), [pytest.param(c, form, id=f"{name}-{form}") for name, c in CASES.items() for form in c.models]
)


def test_every_inference_class_is_here():
    public = [getattr(pyro_gan, name) for name in pyro_gan.__all__]
    classes = {one for one in public if inspect.isclass(one) and issubclass(one, AdversarialInference)}
    built = {type(build(case)) for case in CASES.values()}
    assert built == {one for one in classes if not inspect.isabstract(one)}


@every_form
def test_step_and_run(case, form):
    inference = build(case, form)
    losses = inference.step(ROWS)
    assert isinstance(losses, StepLosses)
    assert [(loss.ndim, loss.requires_grad, loss.isfinite().item()) for loss in losses] == [(0, False, True)] * 2
    assert run(inference, num_steps=4) is inference
    assert inference.num_steps_taken == 5 and inference.history["step"] == [2, 3, 4, 5]
    for name in "generator_loss", "discriminator_loss":
        assert len(inference.history[name]) == 4 and all(map(math.isfinite, inference.history[name]))
    assert pyro.param("loc").item() != 0


@every_form
def test_evaluating_changes_nothing(case, form):
    inference = build(case, form)
    run(inference, num_steps=1)
    before = inference.state_dict()
    losses = inference.evaluate_loss(ROWS)
    assert all(loss.isfinite() and not loss.requires_grad for loss in losses)
    assert same(inference.state_dict(), before)


@every_case
@pytest.mark.parametrize(("player", "other"), [("generator", "discriminator"), ("discriminator", "generator")])
@pytest.mark.parametrize("steps", [0, 2])
def test_one_player_alone_is_updated(case, player, other, steps):
    inference = build(case)
    inference.evaluate_loss(ROWS)
    for _ in range(steps):
        inference.step(ROWS)
    before = values(inference)
    losses = inference.step(ROWS, player=player)
    after = values(inference)
    assert same(after[other], before[other])
    assert not same(after[player], before[player])
    weights = {name: value for name, value in before[player].items() if value.dim() > 1}
    assert not any(torch.equal(after[player][name], value) for name, value in weights.items())
    assert getattr(losses, player).isfinite() and getattr(losses, other) is None


@every_case
def test_no_gradient_leaks_between_the_players(case):
    inference = build(case)
    inference.step(ROWS, player="discriminator")
    sides = parameters(inference)
    assert all(leaf.grad is None for leaf in sides["generator"].values())
    assert any(leaf.grad.abs().sum() > 0 for leaf in sides["discriminator"].values())
    before = {name: leaf.grad.clone() for name, leaf in sides["discriminator"].items()}
    inference.step(ROWS, player="generator")
    assert same({name: leaf.grad for name, leaf in sides["discriminator"].items()}, before)
    assert all(leaf.grad.abs().sum() > 0 for leaf in sides["generator"].values())
    assert not set(map(id, sides["generator"].values())) & set(map(id, sides["discriminator"].values()))


@every_form
def test_samples_have_the_models_sites(case, form):
    inference = build(case, form)
    run(inference)
    for number in 5, 100:  # fewer than, and more than, the rows of a minibatch
        samples = drawn(inference, number)
        rows = samples if isinstance(samples, dict) else dict.fromkeys(inference.model.sites, samples)
        assert set(rows) == set(inference.model.sites) and "x" in rows
        assert all(value.shape == (number,) and not value.requires_grad for value in rows.values())
    assert same(drawn(inference), drawn(inference))


@every_form
@pytest.mark.parametrize("taken", [0, 2])
def test_training_goes_on_from_a_saved_state_bit_for_bit(case, form, taken, tmp_path):
    first = run(build(case, form, ema_decay=0.9))
    first.save(tmp_path / "state.pt")
    run(first, seed=5)
    expected, samples = first.state_dict(), drawn(first)

    second = build(case, form, seed=1, ema_decay=0.9)  # other initial values
    if taken:
        run(second, num_steps=taken)
    assert second.load(tmp_path / "state.pt") is second
    run(second, seed=5)
    assert same(second.state_dict(), expected)
    assert same(drawn(second), samples)


@every_case
def test_a_loaded_model_samples_before_any_step(case, tmp_path):
    first = run(build(case, "model(x=None)"))
    first.save(tmp_path / "state.pt")
    samples = drawn(first)
    assert same(drawn(build(case, "model(x=None)", seed=1).load(tmp_path / "state.pt")), samples)


@every_case
def test_the_same_seed_gives_the_same_run_bit_for_bit(case):
    first = run(build(case), num_steps=10).state_dict()
    assert same(run(build(case), num_steps=10).state_dict(), first)
    assert not same(run(build(case, seed=1), num_steps=10).state_dict(), first)


class Minibatches:
    """The minibatches of a loader that does not shuffle, which yet draws a seed for its workers at each reading."""

    def __iter__(self):
        torch.empty((), dtype=torch.int64).random_()
        yield from DATA[:100].split(NUM_ROWS)  # the last one is short


@every_case
def test_a_loader_gives_the_run_of_its_minibatches(case):
    loader = DataLoader(TensorDataset(DATA[:100]), batch_size=NUM_ROWS)
    by_loader = run(build(case), num_steps=9, data=loader, seed=2).state_dict()
    assert by_loader["history"]["step"] == list(range(1, 10))
    assert same(run(build(case), num_steps=9, data=Minibatches(), seed=2).state_dict(), by_loader)


@every_case
@pytest.mark.parametrize(
    "wrap", [lambda x: x.numpy(), lambda x: (x,), lambda x: {"x": x}], ids=["array", "tuple", "map"]
)
def test_data_of_other_forms_give_the_same_run(case, wrap):
    expected, found = (run(build(case), data=data, seed=2).state_dict() for data in (DATA[:128], wrap(DATA[:128])))
    for state in expected, found:
        state.pop("observations", None)  # it tells whether they came by name
    assert same(found, expected)


@every_form
def test_double_precision_works_throughout(case, form):
    torch.set_default_dtype(torch.float64)
    try:
        inference = run(build(case, form, ema_decay=0.9), data=DATA[:128].double())
        leaves = [leaf for side in parameters(inference).values() for leaf in side.values()]
        assert {leaf.dtype for leaf in leaves} == {torch.float64}
        assert all(loss.dtype == torch.float64 for loss in inference.step(ROWS.double()))
        samples = drawn(inference)
        for rows in samples.values() if isinstance(samples, dict) else [samples]:
            assert rows.dtype == torch.float64
        assert {value.dtype for value in inference.average.values.values()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


def shifted(x):
    """The model with a second parameter that does the same as the first."""
    loc = pyro.param("loc", lambda: torch.zeros(()))
    shift = pyro.param("shift", lambda: torch.zeros(()))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        return pyro.sample("x", dist.Normal(loc + shift + z, NOISE), obs=x)


@every_case
def test_the_shared_options_are_taken(case):
    pyro.clear_param_store()
    inference = case.build(
        shifted,
        penalty=R1(0.1),
        discriminator_steps=2,
        generator_steps=3,
        exclude="loc",
        ema_decay=0.9,
        clip_norm=1.0,
        clip_norm_d=1e-3,
    )
    run(inference)
    assert pyro.param("loc").item() == 0 != pyro.param("shift").item()
    assert "loc" not in inference.average.values and "shift" in inference.average.values
    assert inference.average.num_updates == 3 * 5
    assert all(value > 0 for value in inference.history["penalty"])
    gradients = [leaf.grad.norm() for leaf in parameters(inference)["discriminator"].values()]
    assert torch.stack(gradients).norm().item() == pytest.approx(1e-3, rel=1e-3)
    pyro.set_rng_seed(3)
    assert not same(inference.sample(5, averaged=True), drawn(inference))


@every_case
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.full((NUM_ROWS,), math.nan), ValueError, "holds NaN or infinity, first in row 0"),
        (torch.zeros(NUM_ROWS, 2), (ValueError, RuntimeError), "shape"),  # the guide's own error, where there is one
        (torch.zeros(0), ValueError, "is empty: expected at least one row"),
        (1.0, TypeError, "must be a tensor or an array"),
    ],
    ids=["nan", "shape", "empty", "number"],
)
def test_bad_rows_are_refused_before_anything_changes(case, rows, error, message):
    inference = build(case, "model(x=None)")
    state = torch.get_rng_state()
    with pytest.raises(error, match=message):
        inference.step(rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pyro.get_param_store()) == 0 and inference.num_steps_taken == 0
    run(inference, num_steps=2)  # the next try, with what fits, is as good as the first
    assert inference.num_steps_taken == 2


@every_case
def test_training_reaches_what_an_untrained_model_misses(case):
    optimizer = falling_adam(case.num_steps, rate=0.02, beta=0.0)
    inference = build(case, **{"optim": optimizer, "optim_d": optimizer, **case.options})
    inference.evaluate_loss(ROWS)
    with pytest.raises(AssertionError):
        case.assert_fits(inference)
    inference.run(DATA, num_steps=case.num_steps, batch_size=128, progress=False)
    case.assert_fits(inference)
