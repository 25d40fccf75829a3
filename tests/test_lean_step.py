"""What a step does not do: judge twice, draw twice where it need not, walk, wait, or compute what nobody reads."""

import copy
import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import location_model, network_model, networks, scalar_discriminator
from torch import nn
from torch.nn.functional import softplus

from pyro_gan import BiGANInference, GANInference, ImplicitKLqp, WGANInference
from pyro_gan.losses import LeastSquares, NonSaturating, Relativistic
from pyro_gan.penalties import R1, GradientPenalty, ZeroCentredGradientPenalty
from pyro_gan.training.clock import Clock
from pyro_gan.training.optimizers import PlayerOptimizer
from pyro_gan.training.record import Recorder, StepRecord, mean_probabilities

ROWS = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


class Noted(nn.Module):
    """A network that notes how many rows each of its calls has."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, []

    def forward(self, x):
        self.calls.append(len(x))
        return self.network(x)


def calls_of_a_step(network, rows=ROWS, **options):
    pyro.clear_param_store()
    judge = Noted(network)
    inference = GANInference(network_model(networks()[0], 2), judge, sgd, sgd, loss=NonSaturating(), **options)
    inference.evaluate_loss(rows)
    judge.calls.clear()
    inference.step(rows, player="discriminator")
    return judge.calls, inference


class MeanFree(nn.Module):
    """It subtracts the rows' mean, so that a row's logit depends on the others."""

    def forward(self, x):
        return x - x.mean(0)


class OfSoManyRows(nn.Module):
    """It counts on 24 rows."""

    def forward(self, x):
        return x.view(24, 3)


class Gated(nn.Module):
    """It adds the rows' mean behind a gate that is closed at the start: logits tell nothing of it, gradients do."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gate * x.mean(0)


@pytest.mark.parametrize(
    ("first", "calls"),
    [
        (nn.Identity(), [48]),
        (nn.LayerNorm(3), [48]),
        (nn.Dropout(0.5), [24, 24]),
        (nn.BatchNorm1d(3), [24, 24]),
        (nn.BatchNorm1d(3).eval(), [48]),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), [24, 24]),  # each call takes an iteration
        (MeanFree(), [24, 24]),
        (Gated(), [24, 24]),
        (OfSoManyRows(), [24, 24]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_rows_are_judged_in_one_call_where_each_is_judged_alone(first, calls):
    assert calls_of_a_step(nn.Sequential(first, networks()[1]))[0] == calls


def test_the_modes_of_modules_decide_anew():
    network = nn.Sequential(nn.Dropout(0.5), networks()[1])
    calls, inference = calls_of_a_step(network)
    assert calls == [24, 24]
    network.eval()
    calls.clear()
    inference.step(ROWS, player="discriminator")
    assert calls[-1] == 48  # the calls before have found it out
    calls.clear()
    inference.step(ROWS, player="discriminator")
    assert calls == [48]


def test_penalties_at_the_rows_themselves_are_judged_by_two_calls():
    judge = networks()[1]
    assert calls_of_a_step(judge, penalty=R1(1.0))[0] == [24, 24]
    assert calls_of_a_step(judge, penalty=GradientPenalty(1.0))[0] == [48, 24]


def test_one_call_gives_the_gradients_of_two():
    pyro.set_rng_seed(0)
    generator, judge = networks()
    inference = GANInference(network_model(generator, 2), judge, sgd, sgd, loss=NonSaturating())
    inference.evaluate_loss(ROWS)
    pyro.set_rng_seed(3)
    fake = generator(-1 + 2 * torch.rand(24, 2)).detach()
    loss = softplus(-judge(ROWS)).mean() + softplus(judge(fake)).mean()
    expected = torch.autograd.grad(loss, list(judge.parameters()))
    pyro.set_rng_seed(3)
    inference.step(ROWS, player="discriminator")
    found = [parameter.grad for parameter in judge.parameters()]
    torch.testing.assert_close(found, list(expected), rtol=1e-5, atol=1e-7)


def shared_steps(share_draws, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    drawn = []
    generator, judge = networks()

    def model(batch_size):
        drawn.append(torch.is_grad_enabled())
        return network_model(generator, 2)(batch_size)

    inference = GANInference(model, judge, sgd, sgd, loss=NonSaturating(), share_draws=share_draws, **options)
    inference.evaluate_loss(ROWS)
    drawn.clear()
    pyro.set_rng_seed(1)
    inference.step(ROWS)
    return drawn, generator, judge


def test_sharing_draws_runs_the_model_once_and_is_a_step_on_one_draw():
    assert shared_steps(False)[0] == [False, True]
    drawn, generator, judge = shared_steps(True)
    assert drawn == [True]

    found = [parameter.detach().clone() for parameter in (*generator.parameters(), *judge.parameters())]
    pyro.set_rng_seed(0)
    generator, judge = networks()
    optimizer, optimizer_d = sgd(generator.parameters()), sgd(judge.parameters())
    pyro.set_rng_seed(1)
    fake = generator(-1 + 2 * torch.rand(24, 2))
    (softplus(-judge(ROWS)).mean() + softplus(judge(fake.detach())).mean()).backward()
    optimizer_d.step()
    softplus(-judge(fake)).mean().backward()
    optimizer.step()
    expected = [parameter.detach() for parameter in (*generator.parameters(), *judge.parameters())]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_last_of_several_draws_is_shared():
    assert shared_steps(True, discriminator_steps=3)[0] == [True] * 3


def test_draws_are_not_shared_where_the_generator_needs_others():
    with pytest.raises(ValueError, match="generator_steps=2 updates the generator on a fresh one each time"):
        GANInference(location_model, scalar_discriminator(), share_draws=True, generator_steps=2)
    for one in BiGANInference, ImplicitKLqp:
        with pytest.raises(ValueError, match=f"{one.__name__} draws other rows for the generator's side"):
            one(location_model, location_model, share_draws=True)
    assert WGANInference(location_model, scalar_discriminator(), share_draws=True).share_draws


def penalized(every, num_steps, penalty=R1):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    generator, judge = networks()
    still = [{"params": list(judge.parameters()), "lr": 0.0}]
    inference = GANInference(
        network_model(generator, 2), judge, sgd, lambda _: torch.optim.SGD(still), penalty=penalty(1.0, every=every)
    )
    gradients = []
    for _ in range(num_steps):
        pyro.set_rng_seed(2)
        inference.step(ROWS, player="discriminator")
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in judge.parameters()]))
    return gradients


@pytest.mark.parametrize("penalty", [R1, ZeroCentredGradientPenalty, GradientPenalty])
def test_a_lazy_penalty_is_taken_at_each_kth_update_and_counts_k_times(penalty):
    (every_time,), (plain,) = penalized(1, 1, penalty), penalized(1, 1, lambda *_, **__: ())
    lazy = penalized(3, 4, penalty)
    torch.testing.assert_close(lazy[0], plain + 3 * (every_time - plain), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(lazy[3], lazy[0])
    assert torch.equal(lazy[1], lazy[2])
    torch.testing.assert_close(lazy[1], plain, rtol=1e-5, atol=1e-7)


def test_a_lazy_penalty_is_in_the_history_where_it_was_taken(tmp_path):
    inference = GANInference(network_model(networks()[0], 2), networks()[1], penalty=R1(1.0, every=2))
    inference.run(ROWS, num_steps=3, batch_size=24, progress=False)
    assert [math.isnan(value) for value in inference.history["penalty"]] == [False, True, False]
    inference.save(tmp_path / "state.pt")
    pyro.clear_param_store()
    again = GANInference(network_model(networks()[0], 2), networks()[1], penalty=R1(1.0, every=2))
    again.load(tmp_path / "state.pt").run(ROWS, num_steps=2, batch_size=24, progress=False)
    assert [math.isnan(value) for value in again.history["penalty"]] == [False, True, False, True, False]


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_a_lazy_penalty_takes_a_positive_integer(every, error):
    with pytest.raises(error, match="every must be a positive integer"):
        R1(every=every)


def test_gradients_in_another_memory_layout_move_the_right_numbers():
    weight, bias = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)
    player = PlayerOptimizer(lambda parameters: torch.optim.Adam(parameters, lr=1.0, fused=True), "optim")
    player.meet({"weight": weight, "bias": bias})
    transposed = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]).T
    player.update([weight, bias], [transposed, torch.ones(()).expand(2)])  # as autograd.grad may return them
    torch.testing.assert_close(weight.detach(), -transposed.contiguous())
    torch.testing.assert_close(bias.detach(), -torch.ones(2))


def test_one_gradient_of_two_parameters_is_clipped_once_for_each():
    one, other = (torch.zeros(2, requires_grad=True) for _ in range(2))
    player = PlayerOptimizer(lambda parameters: torch.optim.SGD(parameters, lr=1.0), "optim", clip_norm=1.0)
    player.meet({"one": one, "other": other})
    gradient = torch.tensor([3.0, 4.0])
    player.update([one, other], [gradient, gradient])
    for parameter in one, other:
        torch.testing.assert_close(parameter.detach(), -gradient / (2**0.5 * 5))
    assert gradient.tolist() == [3.0, 4.0]


def test_mean_probabilities_have_their_closed_forms():
    real, fake = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    found = mean_probabilities(real, fake, NonSaturating())
    torch.testing.assert_close(found[0], torch.tensor([(0.5 + 1 / (1 + math.exp(-2))) / 2, 1 / (1 + math.exp(-1))]))
    torch.testing.assert_close(found[1], torch.tensor([0.5, 0.5]))
    # A constant in all logits changes nothing where the loss leaves it open: E exp(l - c) = 1 over the fake rows.
    open_ = mean_probabilities(real, fake, Relativistic())
    for one, other in zip(open_, mean_probabilities(real + 5, fake + 5, Relativistic()), strict=True):
        torch.testing.assert_close(one, other)
    assert open_[1][1].item() == pytest.approx(0.5)


def test_the_history_does_not_depend_on_how_many_steps_are_read_at_once():
    torch.manual_seed(0)
    records = [
        StepRecord(torch.randn(()), torch.randn(()), None, *torch.randn(2, number, dtype=torch.float32).unbind())
        for number in (*[37] * 5, 12, *[37] * 3)
    ]
    histories = []
    for size in (1, 4, len(records)):
        read = SimpleNamespace(history={"step": []}, notes={}, clock=Clock())
        recorder = Recorder(read)
        for start in range(0, len(records), size):
            recorder.unread.extend(record._replace(loss=LeastSquares()) for record in records[start : start + size])
            read.clock.step = min(start + size, len(records))
            recorder.read()
        histories.append(read.history)
    assert histories[0]["step"] == list(range(1, 10))
    assert histories[0] == histories[1] == histories[2]


def test_a_model_is_asked_for_a_parameter_that_replaced_another():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    inference = GANInference(model, scalar_discriminator(4), sgd, sgd)
    inference.step(torch.randn(8))
    pyro.clear_param_store()
    pyro.param("loc", torch.tensor(7.0))
    assert (inference.sample(1000).mean() - 7).abs() < 0.2
    inference.step(torch.randn(8))
    assert pyro.param("loc").item() != 7.0


def test_a_batch_normalization_that_comes_later_ends_joint_calls():
    calls, inference = calls_of_a_step(nn.Sequential(nn.Identity(), networks()[1]))
    assert calls == [48]
    inference.discriminator.function.network[0] = nn.BatchNorm1d(3)
    inference.step(ROWS, player="discriminator")
    calls.clear()
    inference.step(ROWS, player="discriminator")
    assert calls == [24, 24]


def test_a_frozen_discriminator_in_another_mode_can_be_judged_by():
    generator, judge = networks()
    inference = GANInference(network_model(generator, 2), judge, sgd, sgd, loss=NonSaturating())
    inference.step(ROWS)
    judge.eval().requires_grad_(False)
    before = judge[0].weight.clone()
    inference.step(ROWS)
    assert torch.equal(judge[0].weight, before)


def test_parameters_have_gradients_of_their_own():
    def model(batch_size):
        one, other = (pyro.param(name, torch.tensor(0.0)) for name in ("one", "other"))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", one + other + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    GANInference(model, scalar_discriminator(4), sgd, sgd).step(torch.randn(8))
    one, other = (pyro.get_param_store()[name].grad for name in ("one", "other"))
    assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()


def test_a_part_that_comes_back_is_trained_again():
    judge = networks()[1]
    inference = GANInference(network_model(networks()[0], 2), judge, sgd, sgd, loss=NonSaturating())
    first, second = judge[2], nn.Linear(8, 1)
    for part in first, second, first:
        judge[2] = part
        before = part.weight.clone()
        inference.step(ROWS)
        assert not torch.equal(part.weight, before)


def test_shared_draws_are_let_go_of():
    inference = GANInference(network_model(networks()[0], 2), networks()[1], share_draws=True)
    inference.step(ROWS, player="discriminator")
    assert copy.deepcopy(inference).num_steps_taken == 1


def test_a_loss_may_work_in_place():
    def in_place(real, fake):
        return real.neg_().exp(), fake.exp_()

    inference = GANInference(network_model(networks()[0], 2), networks()[1], loss=(in_place, lambda _, fake: -fake))
    inference.penalties = ()
    assert all(map(torch.isfinite, inference.step(ROWS)))


def test_a_weight_can_be_set():
    penalty = R1(1.0)
    penalty.weight = 3.0
    assert penalty.weight == 3.0
    with pytest.raises(ValueError, match="weight must be a positive number"):
        penalty.weight = -1.0
