import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import network_model, networks, scalar_discriminator
from torch import nn
from torch.nn.functional import softplus

from pyro_gan import GANInference
from pyro_gan.losses import Minimax, NonSaturating

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")

NOISE_SIZE = 2


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def tensors(*modules):
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def copies(*modules):
    return [tensor.detach().clone() for tensor in tensors(*modules)]


def all_equal(before, *modules):
    return all(torch.equal(old, new) for old, new in zip(before, tensors(*modules), strict=True))


def handwritten_step(generator, discriminator, optimizer, optimizer_d, x, k, generator_loss):
    """The step as anybody would write it in PyTorch, after algorithm 1 of the 2014 paper."""

    def noise():
        return -1.0 + torch.rand(len(x), NOISE_SIZE) * 2.0

    for _ in range(k):
        optimizer_d.zero_grad()
        loss_d = softplus(-discriminator(x)).mean()
        loss_d = loss_d + softplus(discriminator(generator(noise()).detach())).mean()
        loss_d.backward()
        optimizer_d.step()
    optimizer.zero_grad()
    loss = generator_loss(discriminator(generator(noise())))
    loss.backward()
    gradient = [parameter.grad.clone() for parameter in generator.parameters()]
    optimizer.step()
    return loss.detach(), loss_d.detach(), gradient


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("loss", "generator_loss"),
    [
        (NonSaturating(), lambda logits: -torch.sigmoid(logits).log().mean()),
        (Minimax(), lambda logits: (1 - torch.sigmoid(logits)).log().mean()),
    ],
)
def test_steps_equal_handwritten_steps_on_the_same_noise_and_data(loss, generator_loss, k, batch_norm):
    generator, discriminator = networks(noise_size=NOISE_SIZE, batch_norm=batch_norm)
    by_hand, by_hand_d = copy.deepcopy((generator, discriminator))
    optimizer, optimizer_d = sgd(by_hand.parameters()), sgd(by_hand_d.parameters())
    model = network_model(generator, NOISE_SIZE)
    inference = GANInference(model, discriminator, sgd, sgd, loss=loss, discriminator_steps=k)
    data = torch.randn(4, 16, 3)

    pyro.set_rng_seed(1)
    found = []
    for x in data:
        losses = inference.step(x)
        found.append((*losses, [parameter.grad.clone() for parameter in generator.parameters()]))
    pyro.set_rng_seed(1)
    for x, (loss, loss_d, gradient) in zip(data, found, strict=True):
        expected = handwritten_step(by_hand, by_hand_d, optimizer, optimizer_d, x, k, generator_loss)
        # The hand-written version leaves D's gradient from G's loss behind; only G's own is comparable.
        torch.testing.assert_close(loss, expected[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(loss_d, expected[1], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient, expected[2], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tensors(generator, discriminator), tensors(by_hand, by_hand_d), rtol=1e-6, atol=1e-6)


def test_no_gradient_leaks_between_the_players():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
    inference.step(torch.randn(8, 3), player="discriminator")
    assert all(parameter.grad is None for parameter in generator.parameters())
    gradients = [parameter.grad.clone() for parameter in discriminator.parameters()]
    inference.step(torch.randn(8, 3), player="generator")
    after = [parameter.grad for parameter in discriminator.parameters()]
    assert all(torch.equal(old, new) for old, new in zip(gradients, after, strict=True))
    assert all(parameter.grad.abs().sum() > 0 for parameter in generator.parameters())


@pytest.mark.parametrize(("player", "moves", "rests"), [("generator", 0, 1), ("discriminator", 1, 0)])
def test_one_player_alone_is_updated(player, moves, rests):
    players = networks()
    inference = GANInference(network_model(players[0], NOISE_SIZE), players[1])
    moving, resting = copies(players[moves]), copies(players[rests])
    losses = inference.step(torch.randn(8, 3), player=player)
    assert all_equal(resting, players[rests])
    assert not all_equal(moving, players[moves])
    assert getattr(losses, player).ndim == 0
    assert losses[rests] is None


def test_losses_are_detached_zero_dimensional_tensors():
    generator, discriminator = networks()
    losses = GANInference(network_model(generator, NOISE_SIZE), discriminator).step(torch.randn(8, 3))
    assert [(loss.ndim, loss.requires_grad) for loss in losses] == [(0, False), (0, False)]


def test_evaluate_loss_changes_nothing_and_equals_the_next_steps_losses():
    generator, discriminator = networks(batch_norm=True)
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
    x = torch.randn(8, 3)
    before = copies(generator, discriminator)
    pyro.set_rng_seed(2)
    evaluated = inference.evaluate_loss(x)
    assert all_equal(before, generator, discriminator)
    assert (inference.num_steps_taken, inference.history["step"]) == (0, [])
    pyro.set_rng_seed(2)
    assert torch.equal(inference.step(x, player="discriminator").discriminator, evaluated.discriminator)


def test_a_failing_first_step_changes_nothing():
    generator, discriminator = networks(batch_norm=True)
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
    x = torch.randn(8, 4)
    before, state = copies(generator, discriminator), torch.get_rng_state()
    with pytest.raises(ValueError, match="real and fake rows differ"):
        inference.step(x)
    assert all_equal(before, generator, discriminator)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_run_bit_for_bit():
    def run():
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        generator, discriminator = networks(batch_norm=True)
        inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
        inference.run(torch.randn(100, 3), num_steps=30, batch_size=16, progress=False)
        return inference.history, copies(generator, discriminator)

    (history, final), (history_again, final_again) = run(), run()
    assert history == history_again
    assert all(torch.equal(one, other) for one, other in zip(final, final_again, strict=True))


def test_training_consumes_random_numbers_as_the_handwritten_loop_does():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, loss=NonSaturating())
    pyro.set_rng_seed(4)
    inference.step(torch.zeros(16, 3))
    after = torch.rand(1)
    pyro.set_rng_seed(4)
    torch.rand(16, NOISE_SIZE), torch.rand(16, NOISE_SIZE)
    assert torch.equal(after, torch.rand(1))


def test_a_parameter_that_appears_later_is_trained_from_then_on():
    late = {"on": False}

    def model(batch_size=16):
        loc = pyro.param("loc", torch.tensor(0.0))
        if late["on"]:
            loc = loc + pyro.param("late", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    network, other = nn.Linear(1, 1), nn.Linear(1, 1)

    def discriminator(x):
        logits = network(x[:, None])
        return logits + other(x[:, None]) if late["on"] else logits

    inference = GANInference(model, discriminator, sgd, sgd)
    inference.step(torch.randn(16) + 3)
    before = copies(other)
    assert "late" not in pyro.get_param_store()
    late["on"] = True
    inference.step(torch.randn(16) + 3)
    assert pyro.param("late").item() != 0
    assert not all_equal(before, other)


def test_frozen_parameters_stay_as_they_are():
    generator, discriminator = networks()
    generator[0].eval().requires_grad_(False)
    discriminator[0].requires_grad_(False)
    generator.eval()  # Pyro warns of frozen parameters in training mode
    before = copies(generator[0], discriminator[0])
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
    inference.run(torch.randn(32, 3), num_steps=3, progress=False)
    assert all_equal(before, generator[0], discriminator[0])
    assert generator[2].weight.grad.abs().sum() > 0


def test_gradient_clipping_bounds_each_players_own_gradient():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, clip_norm=1e-3, clip_norm_d=1e-4)
    inference.step(100 * torch.randn(8, 3))

    def norm(module):
        return torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()

    torch.testing.assert_close(norm(generator), torch.tensor(1e-3), rtol=1e-3, atol=0)
    torch.testing.assert_close(norm(discriminator), torch.tensor(1e-4), rtol=1e-3, atol=0)


def test_schedules_advance_once_a_step_whatever_the_discriminators_updates():
    def halving(parameters):
        return torch.optim.lr_scheduler.ExponentialLR(torch.optim.Adam(parameters, lr=1.0), gamma=0.5)

    generator, discriminator = networks()
    pyro_schedule = pyro.optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "gamma": 0.1})
    inference = GANInference(
        network_model(generator, NOISE_SIZE), discriminator, halving, pyro_schedule, discriminator_steps=3
    )
    inference.run(torch.randn(32, 3), num_steps=3, progress=False)
    assert inference.optim.optimizer.param_groups[0]["lr"] == pytest.approx(0.5**3)
    assert inference.optim_d.optimizer.param_groups[0]["lr"] == pytest.approx(0.1**3)


def test_each_discriminator_update_of_a_run_sees_a_fresh_minibatch():
    seen = []
    network = nn.Linear(1, 1)

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(-1.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc.expand(batch_size), event_dim=0)

    inference = GANInference(model, discriminator, discriminator_steps=3, loss=NonSaturating())
    inference.step(torch.arange(2.0))
    seen.clear()
    inference.run(torch.arange(12.0), num_steps=2, batch_size=2, progress=False)
    real = [x[x >= 0] for x in seen if (x >= 0).any()]  # fake rows are at -1 or near it
    assert len(real) == 6  # twice k updates; the generator's update needs no real rows
    assert sorted(torch.cat(real).tolist()) == list(range(12))


def test_frozen_statistics_and_modes_are_the_users_own():
    generator, discriminator = networks(batch_norm=True)
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
    inference.run(torch.randn(32, 3), num_steps=2, progress=False)
    assert generator.training and discriminator.training
    before = copies(generator)
    inference.sample(5)
    assert all_equal(before, generator)


def test_double_precision_works_throughout():
    torch.set_default_dtype(torch.float64)
    try:
        generator, discriminator = networks()
        inference = GANInference(network_model(generator, NOISE_SIZE), discriminator)
        inference.run(torch.randn(32, 3), num_steps=2, progress=False)
        assert inference.sample(4).dtype == torch.float64
        assert inference.log_ratio(torch.zeros(2, 3)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_models_own_number_of_rows_may_differ_from_the_minibatchs():
    def model():
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", 10):
            pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    inference = GANInference(model, scalar_discriminator(4)).run(torch.randn(7), num_steps=2, progress=False)
    assert inference.sample(25).shape == (25,)


def test_nothing_is_updated_when_the_data_end_within_a_step():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, discriminator_steps=3)
    before = copies(generator, discriminator)
    with pytest.raises(ValueError, match="the data ran out at step 1"):
        inference.run(iter(torch.randn(2, 8, 3)), num_steps=5, progress=False)
    assert all_equal(before, generator, discriminator)


def test_a_model_with_gradients_of_its_own_is_not_trained_for_the_discriminator():
    generator, discriminator = networks()
    plain = network_model(generator, NOISE_SIZE)

    def model(batch_size):
        with torch.enable_grad():  # as a simulator does that follows a gradient
            return plain(batch_size)

    inference = GANInference(model, discriminator)
    before = copies(generator)
    inference.step(torch.randn(8, 3), player="discriminator")
    assert all_equal(before, generator)
    assert len(inference.optim_d.parameters) == 4


def test_a_player_that_is_frozen_for_a_while_rests():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator.eval(), NOISE_SIZE), discriminator)
    inference.step(torch.randn(8, 3))
    generator.requires_grad_(False)
    before, before_d = copies(generator), copies(discriminator)
    inference.step(torch.randn(8, 3))
    assert all_equal(before, generator) and not all_equal(before_d, discriminator)


def test_the_buffers_behind_a_bound_method_are_kept_and_known():
    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 1)

        def judge(self, x):
            return self.head(self.norm(x))

    generator, judge = networks()[0], Judge()
    inference = GANInference(network_model(generator, NOISE_SIZE), judge.judge)
    inference.evaluate_loss(torch.randn(8, 3))
    assert judge.norm.num_batches_tracked == 0
    assert len(inference.state_dict()["discriminator"]["others"]) == 3
