"""Compiled gradients are the eager ones, or the eager ones are used and a warning says why."""

import copy
import itertools
import random
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import test_contract
import torch
from models import DEVICE, network_model, networks
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor import config
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import one_hot

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback
from pyro_gan.losses import NonSaturating
from pyro_gan.penalties import R1, GradientPenalty, Penalty, ZeroCentredGradientPenalty
from pyro_gan.training.agreement import rounding_unit
from pyro_gan.training.compiled import MOST_VERSIONS
from pyro_gan.training.tracing import inductor

ROWS = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
FAST = ("gan", "bigan")
as_traced = pytest.mark.usefixtures("graphs_as_traced")


def sgd(parameters):
    """Adam divides by the gradient's size, which makes the rounding of a gradient of 0 as large as any step."""
    return torch.optim.SGD(parameters, lr=1e-3)


def values(inference):
    return {
        f"{role} {name}": leaf.detach().clone()
        for role, player in inference.players().items()
        for name, leaf in player.parameters.items()
    }


def distance(one, other):
    assert one.keys() == other.keys()
    return max((value - other[name]).abs().max().item() for name, value in one.items())


def make(model=None, discriminator=None, seed=0, batch_norm=False, **options):
    """A small inference on networks of its own, with nothing left of earlier ones."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    generator, judge = networks(batch_norm=batch_norm)
    model = network_model(generator, 2) if model is None else model(generator)
    return GANInference(
        model, judge if discriminator is None else discriminator(judge), sgd, sgd, device=DEVICE, **options
    )


def trained(inference, compile, num_steps=12, rows=ROWS, **options):
    pyro.set_rng_seed(1)
    return inference.run(rows, num_steps=num_steps, batch_size=32, progress=False, compile=compile, **options)


def both(inference):
    """The compiled functions of the discriminator's and of the generator's gradients."""
    return inference._step.for_discriminator, inference._step.for_generator


def assert_compiled_once(inference):
    assert [(each.reason, each.num_compilations) for each in both(inference)] == [(None, 1), (None, 1)]


def told(reason, **arguments):
    """The warnings of a run that goes on eagerly, and that its parameters are those of an eager run, bit for bit."""
    expected = values(trained(make(**arguments), compile=False))
    inference = make(**arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(inference, compile=True)
    messages = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert messages and all("go on eagerly" in message and reason in message for message in messages), messages
    assert len(messages) == sum(each.reason is not None for each in both(inference))  # once each
    assert all(message.endswith("or leave out compile=True.") for message in messages)
    return distance(values(inference), expected), inference


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.slow] * (each not in FAST)) for each in test_contract.CASES]
)
def test_two_hundred_steps_are_those_of_an_eager_run(name):
    case, found = test_contract.CASES[name], {}
    for compile in (False, True):
        inference = test_contract.build(case, form=case.models[0], optim=sgd, optim_d=sgd)
        trained(inference, compile, 200, test_contract.DATA)
        found[compile] = values(inference)
    assert_compiled_once(inference)
    assert distance(found[True], found[False]) < 1e-4
    untrained = test_contract.build(case, form=case.models[0], optim=sgd, optim_d=sgd)
    untrained.evaluate_loss(test_contract.ROWS)
    assert distance(found[True], values(untrained)) > 1e-3


def test_the_default_recipe_falls_along_a_compiled_run_as_along_an_eager_one():
    penalty = ZeroCentredGradientPenalty(5.0, final_weight=0.01, relative=True)
    found = [trained(make(penalty=penalty), compile, 50) for compile in (False, True)]
    assert distance(*map(values, found)) < 1e-5
    eager, compiled = (inference.history for inference in found)
    for name in ("generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability"):
        assert compiled[name] == pytest.approx(eager[name], rel=1e-4)
    # Burned in, the first weight would stay: the penalty falls with it, five hundredfold.
    assert compiled["penalty"][-1] < 0.02 * compiled["penalty"][0]
    assert_compiled_once(found[1])


@as_traced
def test_the_default_optimizers_rates_fall_outside_of_what_is_compiled():
    pyro.clear_param_store()
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, 2), discriminator)
    seen = []

    class Rate(Callback):
        def on_step(self, inference):
            seen.append(inference.optim.optimizer.param_groups[0]["lr"])

    trained(inference, True, 4, callbacks=[Rate()])
    assert seen == pytest.approx([2e-3, 2e-3, 1e-3, 0.0])
    assert_compiled_once(inference)


def test_batch_statistics_move_as_in_an_eager_run():
    found = []
    for compile in (False, True):
        inference = trained(make(batch_norm=True, loss=NonSaturating()), compile)
        modules = [module for player in inference.players().values() for module in player.modules]
        found.append([buffer.clone() for module in modules for buffer in module.buffers(recurse=False)])
    assert len(found[0]) == 6 and found[0][2].item() == 24  # the generator's passes are counted in both updates
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert_compiled_once(inference)


def test_dropout_draws_the_same_numbers():
    def dropped(judge):
        return nn.Sequential(nn.Dropout(0.5), judge)

    eager, compiled = (trained(make(discriminator=dropped, loss=NonSaturating()), compile) for compile in (False, True))
    assert distance(values(compiled), values(eager)) < 1e-5
    assert_compiled_once(compiled)


class Half(nn.Module):
    """A network that computes in half precision; compiled code does not round between the last two operations."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows):
        with torch.autocast(rows.device.type, torch.bfloat16):
            return (1.1 * self.network(rows).tanh()).float()


def test_half_precision_is_compared_by_its_own_rounding():
    eager, compiled = (
        trained(make(lambda generator: network_model(Half(generator), 2), Half), compile, 30)
        for compile in (False, True)
    )
    assert_compiled_once(compiled)
    assert 0 < distance(values(compiled), values(eager)) < 1e-3  # a thousandth of the weights, which are about 1


def doubled(rows):
    return 2 * rows.float()


def product(rows):
    return rows @ rows.T


def convolved(rows):
    return nn.functional.conv1d(rows[None], rows[:, :, None])


@pytest.mark.parametrize(
    ("function", "dtype", "device", "allowed", "unit"),
    [
        (doubled, torch.bfloat16, "cpu", True, 2.0**-23),  # nothing is computed in the type that the rows come in
        (product, torch.bfloat16, "cpu", True, 2.0**-7),
        (product, torch.float32, "cuda", True, 2.0**-23),
        (convolved, torch.float32, "cuda", True, 2.0**-10),
        (convolved, torch.float32, "cuda", False, 2.0**-23),
        (convolved, torch.float32, "cpu", True, 2.0**-23),
        (convolved, torch.float64, "cuda", True, 2.0**-52),
    ],
)
def test_rounding_is_that_of_what_is_computed(function, dtype, device, allowed, unit, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    graph = make_fx(function)(torch.ones(4, 4, dtype=dtype))
    assert rounding_unit(graph, torch.device(device)) == unit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, within its compiler
def test_random_numbers_are_drawn_in_the_order_of_the_code():
    """Older versions of torch would change it."""

    def draws(weight):
        many, few = torch.rand(1000, 8), torch.rand(16)
        return few.cos().sum(), torch.tanh(many @ weight).sum()

    weight = torch.ones(8, 8)
    graph = make_fx(draws)(weight)
    call = inductor(graph, [weight])
    torch.manual_seed(0)
    expected = draws(weight)
    torch.manual_seed(0)
    torch.testing.assert_close(call(weight), expected)


def counting(generator):
    calls = itertools.count()

    def model(batch_size):
        scale = 1 + next(calls) / 100
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
            return pyro.deterministic("x", scale * generator(eps), event_dim=1)

    return model


def noting(generator):
    """It counts its calls, and nothing depends on it: compiled code would not count."""
    calls = []

    def model(batch_size):
        calls.append(batch_size)
        return network_model(generator, 2)(batch_size)

    return model


def random_on_the_host(draw):
    def make_model(generator):
        def model(batch_size):
            return network_model(nn.Sequential(generator, Scaled(draw())), 2)(batch_size)

        return model

    return make_model


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x


class Counting(nn.Module):
    """A discriminator that keeps its count in an attribute."""

    def __init__(self, judge):
        super().__init__()
        self.judge, self._count = judge, 0

    def forward(self, x):
        self._count += 1
        return self.judge(x) * (1 + 0.01 * self._count)


class Branching(nn.Module):
    """A discriminator that does one thing or another, as a value decides."""

    def __init__(self, judge):
        super().__init__()
        self.judge = judge

    def forward(self, x):
        return self.judge(x) if x.mean() > 0 else 2 * self.judge(x)


@as_traced
@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("changes Python variables, such as a counter", {"model": counting}),
        ("changes Python variables, such as a counter", {"model": noting}),
        ("changes Python variables, such as a counter", {"discriminator": Counting}),
        ("drawn from Python or NumPy", {"model": random_on_the_host(random.random)}),
        ("drawn from Python or NumPy", {"model": random_on_the_host(lambda: float(np.random.rand()))}),  # noqa: NPY002
        ("a tensor's value decides what is done", {"discriminator": Branching}),
    ],
)
def test_what_can_not_be_compiled_is_eager_and_told_once(reason, arguments):
    difference, _ = told(reason, loss=NonSaturating(), **arguments)
    assert difference == 0


@as_traced
def test_what_moves_on_later_is_found_by_a_later_comparison():
    box = {"factor": torch.ones(())}

    def moving(judge):
        return lambda x: judge(x) * box["factor"]

    inference = make(discriminator=moving, loss=NonSaturating())
    trained(inference, True, 5)
    assert_compiled_once(inference)
    box["factor"] = torch.tensor(3.0)  # another tensor in its place, which compiled code does not see
    with pytest.warns(RuntimeWarning, match="compiled and eager ones differ") as caught:
        trained(inference, True, 5)
    assert len(caught) == 2  # both players' gradients pass through the discriminator
    assert all(each.reason is not None for each in both(inference))


@as_traced
def test_a_network_that_was_made_anew_is_found_at_the_next_run():
    networks_ = {"generator": networks()[0]}

    def renewed(_):
        return lambda batch_size: network_model(networks_["generator"], 2)(batch_size)

    inference = trained(make(renewed, loss=NonSaturating()), True, 3)
    assert_compiled_once(inference)
    networks_["generator"] = nn.Sequential(*networks()[0], nn.Tanh()).to(DEVICE)  # a notebook's cell was run again
    inference.step(ROWS)
    with (
        pytest.warns(RuntimeWarning, match="compiled and eager ones differ"),
        pytest.raises(ValueError, match="carries no gradient to any parameter of the model"),
    ):
        trained(inference, True, 1)


@as_traced
def test_other_minibatches_and_modes_are_compiled_anew():
    inference = make(loss=NonSaturating())
    judge = inference.discriminator.function
    inference.compile()
    for rows in (ROWS, ROWS, ROWS[:20], ROWS):
        inference.step(rows)
    assert [each.num_compilations for each in both(inference)] == [2, 2]
    judge.eval()
    inference.step(ROWS), inference.step(ROWS)
    assert [each.num_compilations for each in both(inference)] == [3, 3]
    judge[0].weight.requires_grad_(False)
    before = judge[0].weight.clone()
    inference.step(ROWS)
    assert torch.equal(judge[0].weight, before) and both(inference)[0].num_compilations == 4


@as_traced
def test_a_penalty_added_in_mid_run_counts_from_then_on():
    found = []
    for compile in (False, True):
        inference = trained(make(loss=NonSaturating()), compile, 3)
        inference.penalties = (R1(1.0),)
        trained(inference, compile, 3)
        found.append(inference)
    assert [value > 0 for value in found[1].history["penalty"]] == [False] * 3 + [True] * 3
    assert distance(*map(values, found)) < 1e-5
    assert [each.num_compilations for each in both(found[1])] == [2, 1]


@as_traced
def test_a_lazy_penalty_is_compiled_with_and_without():
    found = [trained(make(penalty=R1(1.0, every=2)), compile, 6) for compile in (False, True)]
    assert distance(*map(values, found)) < 1e-5
    assert [each.num_compilations for each in both(found[1])] == [2, 1]


class Rising(Penalty):
    """A user's penalty whose weight moves along a run, in Python."""

    weight = 0.0

    def __call__(self, judgement):
        return self.weight * judgement.real_logits.square()

    def set_progress(self, progress):
        self.weight = progress


@as_traced
def test_a_users_penalty_that_moves_in_python_is_eager():
    difference, _ = told("a number of the loss or of a penalty changes from step to step", penalty=Rising())
    assert difference < 1e-6


@as_traced
def test_too_many_kinds_of_calls_are_eager(monkeypatch):
    monkeypatch.setattr("pyro_gan.training.compiled.MOST_VERSIONS", 1)
    assert MOST_VERSIONS == 8
    inference = make(loss=NonSaturating()).compile()
    inference.step(ROWS)
    with pytest.warns(RuntimeWarning, match=r"more than 1 ways.*drop_last=True"):
        inference.step(ROWS[:20])


@pytest.mark.skipif(DEVICE == "cuda", reason="Triton compiles there")
def test_without_a_compiler_it_is_eager_and_says_what_to_install():
    with config.patch({"cpp.cxx": ("there-is-no-such-compiler",), "force_disable_caches": True}):
        difference, _ = told("no C++ compiler works here", loss=NonSaturating())
        assert difference == 0
        inference = make(loss=NonSaturating())
        with pytest.warns(RuntimeWarning, match=r"Install one, such as g\+\+ or clang"):
            trained(inference, True, 1)


@as_traced
def test_steps_after_a_compiled_run_are_compiled_until_a_run_that_is_not():
    inference = trained(make(loss=NonSaturating()), True, 2)
    inference.step(ROWS)
    assert_compiled_once(inference)
    compiled = both(inference)
    trained(inference, False, 1)
    assert both(inference) == (inference._step.discriminator_gradients, inference._step.generator_gradients)
    assert all(each.num_compilations == 1 for each in compiled)


@as_traced
def test_a_copy_compiles_anew_for_its_own_networks():
    inference = trained(make(loss=NonSaturating(), batch_norm=True), True, 2)
    other = copy.deepcopy(inference)
    assert all(each._versions == {} for each in both(other)) and both(inference)[0]._versions
    before, statistics = values(inference), inference.discriminator.modules[2].running_mean.clone()
    other.step(ROWS, player="discriminator")
    assert both(other)[0].reason is None and both(other)[0].num_compilations == 2
    assert distance(values(inference), before) == 0 and distance(values(other), before) > 0
    assert torch.equal(inference.discriminator.modules[2].running_mean, statistics)
    assert not torch.equal(other.discriminator.modules[2].running_mean, statistics)


def test_sharing_draws_and_compiling_are_not_combined():
    with pytest.raises(ValueError, match="compile=True and share_draws=True each save a run of the model"):
        trained(make(share_draws=True), True)


def test_shapes_are_fixed_numbers_in_compiled_code():
    """Of images that grow by strides it could make nothing, as long as their sizes were symbols."""

    def upsampling(generator):
        layers = [nn.Linear(2, 12 * 4 * 4), nn.Unflatten(1, (12, 4, 4)), nn.BatchNorm2d(12)]
        for few, more, size in ((12, 6, 3), (6, 3, 4)):  # to 7 by 7 pixels, and to 14 by 14
            layers += [nn.ReLU(), nn.ConvTranspose2d(few, more, size, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(more)]
        layers += [nn.ReLU(), nn.ConvTranspose2d(3, 1, 4, stride=2, padding=1), nn.Flatten()]
        return network_model(nn.Sequential(*layers), 2)

    inference = make(upsampling, lambda _: nn.Linear(28 * 28, 1), loss=NonSaturating())
    rows = torch.randn(64, 28 * 28, generator=torch.Generator().manual_seed(0))
    trained(inference, True, 2, rows)
    assert_compiled_once(inference)


def with_labels(draw):
    """A model whose rows are of one of three kinds, given as one-hot rows."""
    kinds = nn.Linear(3, 2, bias=False)

    def model(generator):
        def draws(labels):
            pyro.module("generator", generator)
            pyro.module("kinds", kinds)
            with pyro.plate("data", len(labels)):
                eps = pyro.sample("eps", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
                return pyro.deterministic("x", generator(eps + kinds(draw(labels))), event_dim=1)

        return draws

    return model


@pytest.mark.parametrize(
    "draw",
    [
        lambda labels: one_hot(labels, num_classes=3).to(torch.get_default_dtype()),
        lambda labels: pyro.sample("kind", dist.OneHotCategorical(1.0 + one_hot(labels, 3))),
    ],
    ids=["given", "drawn"],
)
def test_labels_as_one_hot_rows_are_compiled(draw):
    """Torch looks at their values first, by which a trace would not be of other labels."""
    labels = torch.arange(32) % 3
    found = []
    for compile in (False, True):
        torch.manual_seed(0)
        inference = make(with_labels(draw))
        found.append(values(trained(inference, compile, rows=(ROWS, labels))))
    assert distance(*found) < 1e-5
    assert_compiled_once(inference)


@pytest.mark.skipif(DEVICE == "cuda", reason="an assertion of a device's own ends its use by the process")
def test_labels_out_of_range_are_refused_by_compiled_code():
    inference = make(with_labels(lambda labels: one_hot(labels, 3).to(torch.get_default_dtype())))
    labels = torch.arange(32) % 3
    trained(inference, True, rows=(ROWS, labels))
    assert_compiled_once(inference)
    with pytest.raises(RuntimeError, match=r"one_hot\(\) takes labels from 0 to 2 here, but got others\."):
        inference.step((ROWS, labels + 1))


@pytest.mark.filterwarnings("ignore")  # of torch, as it compiles
def test_networks_that_the_user_compiled_are_trained_as_they_were_written():
    found = []
    for compile in (lambda network: network, torch.compile):
        inference = make(
            lambda generator, compile=compile: network_model(compile(generator), 2),
            compile,
            loss=NonSaturating(),
        )
        trained(inference, False, 5)
        found.append({name.replace("_orig_mod.", ""): value for name, value in values(inference).items()})
    assert distance(*found) < 1e-5
    trained(inference, True, 2)  # and compile=True looks through it
    assert [each.reason for each in both(inference)] == [None, None]


def test_a_penalty_of_gradients_refuses_a_network_that_the_user_compiled():
    inference = make(discriminator=torch.compile)
    with pytest.raises(ValueError, match=r"ZeroCentredGradientPenalty needs gradients.*run\(\.\.\., compile=True\)"):
        inference.step(ROWS)


def test_the_time_to_compile_is_told_once(capsys):
    inference = make(loss=NonSaturating())
    inference.run(ROWS, num_steps=3, batch_size=32, compile=True)
    told = [line for line in capsys.readouterr().err.splitlines() if "compiled in" in line]
    assert len(told) == 1 and told[0].startswith("compiled in ") and inference.seconds_to_compile() > 0
    inference.run(ROWS, num_steps=3, batch_size=32, compile=True)
    assert "compiled in" not in capsys.readouterr().err
    assert make().seconds_to_compile() == 0


@pytest.mark.skipif(torch.__version__ < "2.13", reason="older versions keep the kernels alone")
def test_code_of_a_graph_that_was_compiled_before_is_taken_from_the_disk():
    first = trained(make(loss=NonSaturating()), True, 2)
    counters.clear()
    again = trained(make(loss=NonSaturating()), True, 2)
    assert dict(counters["inductor"]).get("fxgraph_cache_hit") == 2
    assert distance(values(again), values(first)) == 0
    assert_compiled_once(again)


@as_traced
@pytest.mark.parametrize("factor", [1.02, 1.05, 1.09])
def test_a_small_drift_is_not_taken_for_rounding(factor):
    box = {"weight": torch.tensor(1.0)}
    of_rows = GradientPenalty(1.0)
    inference = trained(make(loss=NonSaturating(), penalty=lambda j: box["weight"] * of_rows(j)), True, 3)
    assert_compiled_once(inference)
    box["weight"] = torch.tensor(factor)
    with pytest.warns(RuntimeWarning, match="the discriminator's gradients go on eagerly: compiled and"):
        trained(inference, True, 1)


class Kinked(nn.Module):
    """A linear judge with a rectifier, whose input is 0 for rows with equal first and second features."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.weight = nn.Parameter(torch.tensor([1.0, -1.0, 0.0]))

    def forward(self, rows):
        return self.linear(rows).squeeze(1) + 0.1 * (rows @ self.weight).relu()


@as_traced
@pytest.mark.parametrize("wrong, is_rounding", [(0.0, True), (0.08, False)])
def test_a_slope_that_rounding_decides_is_taken_for_rounding(wrong, is_rounding):
    """A layer's weights that all are rounded alike leave the sign of the rectifier's input as it is."""
    inference = make(discriminator=lambda judge: Kinked(), penalty=None)
    rows = ROWS.clone()
    rows[0] = torch.tensor([0.5, 0.5, 0.0])
    trained(inference, compile=True, num_steps=1, rows=rows)
    compiled, _ = both(inference)
    weight = inference.discriminator.function.weight
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, -1.0, 0.0]))
    eager = compiled._eager((rows,))
    with torch.no_grad():
        weight[0] += 2e-7
    compiled._restore(eager.start)
    found = compiled.function((rows,))
    with torch.no_grad():
        weight[0] = 1.0
    found = found._replace(values=tuple((1 + wrong) * value for value in found.values))
    assert compiled._differ_by_rounding(found, eager, (rows,), 0.0) == is_rounding
    assert torch.equal(weight, torch.tensor([1.0, -1.0, 0.0]))


@as_traced
def test_parameters_that_replace_others_in_the_store_are_trained():
    found = []
    for compile in (False, True):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = GANInference(test_contract.MODELS["model()"], test_contract.Judge(1), sgd, sgd, site="x")
        inference.compile(compile)
        for _ in range(4):
            for _ in range(3):
                inference.step(test_contract.ROWS)
            assert pyro.get_param_store()["loc"] is inference.model.parameters["loc"]
            assert pyro.param("loc").item() != 0
            found.append(pyro.param("loc").item())
            pyro.clear_param_store()
    assert found[4:] == pytest.approx(found[:4], abs=1e-6)


@as_traced
def test_a_part_of_a_network_that_was_exchanged_is_trained():
    inference = trained(make(loss=NonSaturating()), True, 2)
    judge = inference.discriminator.function
    judge[2] = nn.Linear(8, 1).to(DEVICE)
    before = judge[2].weight.clone()
    trained(inference, True, 2)
    assert not torch.equal(judge[2].weight, before)
    assert both(inference)[0].num_compilations == 2


@as_traced
def test_compiled_code_that_fails_is_replaced_by_the_eager_run():
    def failing(*tensors):
        raise RuntimeError("out of memory")

    inference = make(loss=NonSaturating()).compile()
    inference.step(ROWS)
    (kind, version), *_ = both(inference)[0]._versions.items()
    both(inference)[0]._versions[kind] = version._replace(call=failing)
    inference.compile()
    with pytest.warns(RuntimeWarning, match=r"compiled code fails \(RuntimeError: out of memory\)"):
        inference.step(ROWS)
    assert inference.num_steps_taken == 2
