"""What the options of an inference do, beside loops written by hand and what Pyro's own handlers do."""

import copy
import csv
import io
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import falling_adam, location_model, location_scale_model, network_model, networks, scalar_discriminator
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import logsigmoid, softplus
from torch.nn.utils.parametrizations import spectral_norm

from pyro_gan import GANInference
from pyro_gan.callbacks import TensorBoard, WriteCSV, describe
from pyro_gan.losses import Hinge, Loss, NonSaturating, Relativistic, Wasserstein
from pyro_gan.penalties import R1, R2, GradientPenalty, WeightClipping
from pyro_gan.plots import plot_history

NOISE_SIZE = 2
ROWS = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
NUMBERS = 4 + 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def non_saturating(real, fake):
    return softplus(-real).mean() + softplus(fake).mean(), softplus(-fake).mean()


def relativistic(real, fake):
    return softplus(fake - real).mean(), softplus(real - fake).mean()


def slopes(logits, rows, units=1.0):
    (gradients,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
    return (units * gradients).flatten(1).norm(dim=1)


class HandwrittenLoop:
    """A step of adversarial training as anybody would write it in PyTorch, on networks of its own."""

    def __init__(self, generator, discriminator, game, penalty=None, k=1, g=1):
        self.generator, self.discriminator = copy.deepcopy((generator, discriminator))
        self.optimizer, self.optimizer_d = sgd(self.generator.parameters()), sgd(self.discriminator.parameters())
        self.game, self.penalty, self.k, self.g = game, penalty, k, g

    def step(self, minibatches):
        for x in minibatches[: self.k]:
            losses_d = self.update_discriminator(x)
        for x in minibatches[len(minibatches) - self.g :]:
            loss = self.update_generator(x)
        return loss, losses_d

    def fake(self, number):
        return self.generator(-1.0 + torch.rand(number, NOISE_SIZE) * 2.0)

    def update_discriminator(self, x):
        real, fake = x.clone().requires_grad_(), self.fake(len(x)).detach().requires_grad_()
        real_logits, fake_logits = self.discriminator(real).squeeze(1), self.discriminator(fake).squeeze(1)
        loss = self.game(real_logits, fake_logits)[0]
        penalty = torch.zeros(()) if self.penalty is None else self.penalty(self, real, fake, real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        (loss + penalty).backward()
        self.optimizer_d.step()
        return loss.item(), penalty.item()

    def update_generator(self, x):
        loss = self.game(self.discriminator(x).squeeze(1), self.discriminator(self.fake(len(x))).squeeze(1))[1]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def parameters(self):
        return [*self.generator.parameters(), *self.discriminator.parameters()]


def assert_same_steps(by_hand, inference, minibatches, parameters, num_steps):
    """Take the same steps on the same noise and data, and compare losses, penalties and parameters."""
    number = max(by_hand.k, by_hand.g)
    inference.evaluate_loss(minibatches[0])
    pyro.set_rng_seed(1)
    history = inference.run(list(minibatches), num_steps=num_steps, progress=False).history
    pyro.set_rng_seed(1)
    expected = [by_hand.step(minibatches[number * step : number * (step + 1)]) for step in range(num_steps)]
    assert history["generator_loss"] == pytest.approx([loss for loss, _ in expected], rel=1e-6, abs=1e-6)
    assert history["discriminator_loss"] == pytest.approx([loss for _, (loss, _) in expected], rel=1e-6, abs=1e-6)
    if by_hand.penalty is not None:
        assert history["penalty"] == pytest.approx([penalty for _, (_, penalty) in expected], rel=1e-6, abs=1e-6)
    torch.testing.assert_close(parameters, by_hand.parameters(), rtol=1e-6, atol=1e-6)


# Several updates a step


@pytest.mark.parametrize(("loss", "game"), [(NonSaturating(), non_saturating), (Relativistic(), relativistic)])
@pytest.mark.parametrize(("k", "g"), [(1, 1), (3, 1), (1, 3), (3, 2), (2, 3), (2, 2)])
def test_several_updates_a_step_equal_a_handwritten_loop(k, g, loss, game):
    generator, discriminator = networks()
    by_hand = HandwrittenLoop(generator, discriminator, game, k=k, g=g)
    inference = GANInference(
        *(network_model(generator, NOISE_SIZE), discriminator, sgd, sgd),
        loss=loss,
        penalty=(),
        discriminator_steps=k,
        generator_steps=g,
    )
    minibatches = torch.randn(4 * max(k, g), 16, 3)
    parameters = [*generator.parameters(), *discriminator.parameters()]
    assert_same_steps(by_hand, inference, minibatches, parameters, num_steps=4)


@pytest.mark.parametrize(("k", "g"), [(3, 1), (1, 3), (2, 3)])
def test_each_update_of_a_player_sees_a_fresh_minibatch(k, g):
    seen, network = {False: [], True: []}, nn.Linear(1, 1)

    def discriminator(x):
        seen[generates["on"]].append(x.detach().clone())
        return network(x[:, None])

    generates = {"on": False}

    def model(batch_size):
        generates["on"] = torch.is_grad_enabled()  # as it draws for the generator's update
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", pyro.param("loc", torch.tensor(-1.0)).expand(batch_size), event_dim=0)

    inference = GANInference(
        model, discriminator, loss=Relativistic(), penalty=(), discriminator_steps=k, generator_steps=g
    )
    inference.evaluate_loss(torch.arange(2.0))
    seen[False].clear(), seen[True].clear()
    inference.run(torch.arange(24.0), num_steps=2, batch_size=4, progress=False)
    for update_of_generator, number in ((False, k), (True, g)):
        real = [x[x >= 0] for x in seen[update_of_generator] if (x >= 0).any()]  # fake rows are at -1 or near it
        assert len(real) == 2 * number
        rows = torch.cat(real).tolist()
        assert len(set(rows)) == len(rows)  # at most 2 * 3 minibatches of 4 rows: no row comes twice


@pytest.mark.parametrize(("player", "counts"), [("generator", (3, 0)), ("discriminator", (0, 2)), (None, (3, 2))])
def test_a_player_alone_takes_all_of_its_updates(player, counts):
    made = []

    def counting(parameters):
        optimizer = sgd(parameters)
        made.append([])
        optimizer.register_step_post_hook(lambda *_, count=made[-1]: count.append(1))
        return optimizer

    generator, discriminator = networks()
    inference = GANInference(
        *(network_model(generator, NOISE_SIZE), discriminator, counting, counting),
        discriminator_steps=2,
        generator_steps=3,
    )
    losses = inference.step(ROWS, player=player)
    assert tuple(map(len, made)) == counts
    assert [loss is None for loss in losses] == [count == 0 for count in counts]
    assert inference.num_steps_taken == 1


@pytest.mark.parametrize("argument", ["discriminator_steps", "generator_steps"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, ValueError)])
def test_numbers_of_updates_are_positive_integers(argument, value, error):
    with pytest.raises(error, match=rf"{argument} must be a positive integer, but is {value!r}"):
        GANInference(location_model, scalar_discriminator(4), **{argument: value})


def test_data_that_end_within_the_generators_updates_change_nothing():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, generator_steps=3)
    before = [parameter.detach().clone() for parameter in (*generator.parameters(), *discriminator.parameters())]
    with pytest.raises(ValueError, match="the data ran out at step 1"):
        inference.run(iter(torch.randn(2, 8, 3)), num_steps=1, progress=False)
    after = [*generator.parameters(), *discriminator.parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


# Terms that the model adds to its loss


def factor_model(factor, plate_size=None):
    """N(loc, 0.1²) with a factor that `factor(loc)` adds within the model; the plate may be subsampled."""

    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.5))
        with pyro.plate("data", plate_size or batch_size, subsample_size=batch_size):
            eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
            factor(loc, eps)
            return pyro.deterministic("x", loc + 0.1 * eps, event_dim=0)

    return model


def one_for_all(loc, eps):
    """In the plate, but the same for all rows."""
    pyro.factor("ridge", -0.3 * loc.square())


def per_row(loc, eps):
    pyro.factor("ridge", -0.3 * (loc + eps).square())


def handwritten_gradient(network, term, loc=0.5, num_rows=16):
    """The generator's loss and its gradient for loc, with the term that is subtracted."""
    loc = torch.tensor(loc, requires_grad=True)
    eps = torch.randn(num_rows)
    loss = softplus(-network((loc + 0.1 * eps)[:, None])).mean() - term(loc, eps)
    return loss.item(), torch.autograd.grad(loss, loc)[0].item()


def generator_step(model, network, num_rows=16):
    """The generator's loss at a step on its own, and the gradient for loc."""
    inference = GANInference(model, lambda x: network(x[:, None]), sgd, sgd, loss=NonSaturating())
    inference.evaluate_loss(NUMBERS[:num_rows])
    pyro.set_rng_seed(1)
    loss = inference.step(NUMBERS[:num_rows], player="generator").generator
    return loss.item(), pyro.param("loc").grad.item()


@pytest.mark.parametrize(
    ("model", "term", "plate_size"),
    [
        (factor_model(one_for_all), lambda loc, eps: -0.3 * loc.square(), None),
        (factor_model(per_row), lambda loc, eps: (-0.3 * (loc + eps).square()).mean(), None),
        (factor_model(per_row, 1000), lambda loc, eps: (-0.3 * (loc + eps).square()).mean(), 1000),
        (poutine.scale(factor_model(per_row), 7.0), lambda loc, eps: (-2.1 * (loc + eps).square()).mean(), None),
        (poutine.scale(factor_model(per_row, 1000), 7.0), lambda loc, eps: (-2.1 * (loc + eps).square()).mean(), 1000),
        (
            factor_model(lambda loc, eps: [pyro.factor("one", loc), pyro.factor("rows", eps * loc)]),
            lambda loc, eps: loc + (eps * loc).mean(),
            None,
        ),
        (poutine.mask(factor_model(per_row), False), lambda loc, eps: torch.zeros(()), None),
        (
            poutine.mask(factor_model(per_row), torch.arange(16) < 4),
            lambda loc, eps: (-0.3 * (loc + eps).square())[:4].sum() / 16,
            None,
        ),
        (poutine.block(factor_model(per_row), hide=["ridge"]), lambda loc, eps: torch.zeros(()), None),
    ],
    ids=["scalar", "rows", "subsampled", "scaled", "scaled_subsampled", "two", "masked", "masked_rows", "blocked"],
)
def test_a_factor_is_subtracted_from_the_generators_loss(model, term, plate_size):
    network = nn.Linear(1, 1)
    found = generator_step(model, network)
    pyro.set_rng_seed(1)
    if plate_size is not None:
        torch.randperm(plate_size)  # the plate's choice of rows
    assert found == pytest.approx(handwritten_gradient(network, term), abs=1e-6)


def test_a_factor_outside_of_plates_is_subtracted_once():
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.5))
        pyro.factor("ridge", -0.3 * loc.square())
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + 0.1 * pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    network = nn.Linear(1, 1)
    found = generator_step(model, network)
    pyro.set_rng_seed(1)
    assert found == pytest.approx(handwritten_gradient(network, lambda loc, eps: -0.3 * loc.square()), abs=1e-6)


def test_a_factor_is_no_site_to_compare_and_none_to_draw():
    inference = GANInference(factor_model(per_row), scalar_discriminator(4)).run(NUMBERS, num_steps=2, progress=False)
    assert inference.model.sites == ("x",)
    assert set(inference.model.found) == {"eps", "x"}
    assert inference.sample(5).shape == (5,)


def test_a_factor_leaves_the_discriminators_update_alone():
    def after_one(model):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        network = nn.Linear(1, 1)
        inference = GANInference(model, lambda x: network(x[:, None]), sgd, sgd, loss=NonSaturating())
        loss = inference.step(NUMBERS, player="discriminator").discriminator
        return loss.item(), network.weight.item()

    assert after_one(factor_model(per_row)) == after_one(factor_model(lambda loc, eps: None))


def test_weight_decay_as_a_factor_keeps_a_network_small():
    def run(strength):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks()
        plain = network_model(generator, NOISE_SIZE)

        def model(batch_size):
            weights = torch.cat([parameter.flatten() for parameter in generator.parameters()])
            pyro.factor("ridge", -strength * weights.square().sum())
            return plain(batch_size)

        adam = falling_adam(100)
        GANInference(model, discriminator, adam, adam).run(ROWS, num_steps=100, progress=False)
        return sum(parameter.square().sum().item() for parameter in generator.parameters())

    assert run(10.0) < 0.05 * run(0.0)


# Terms that are added to the discriminator's loss


def zero_centred(weight, slope):
    return weight / 2 * slope.square().mean()


def gradient_penalty(loop, real, fake, weight=2.0, target=1.0):
    epsilon = torch.rand(len(real))[:, None]
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return weight * (slopes(loop.discriminator(between), between) - target).square().mean()


def ridge(network):
    return 0.1 * sum(parameter.square().sum() for parameter in network.parameters())


PENALTIES = {
    "r1": (R1(3.0), lambda loop, real, fake, r, f: zero_centred(3.0, slopes(r, real))),
    "r2": (R2(3.0), lambda loop, real, fake, r, f: zero_centred(3.0, slopes(f, fake))),
    "relative": (
        R1(0.5, relative=True),
        lambda loop, real, fake, r, f: zero_centred(0.5, slopes(r, real, real.std(0, correction=0).detach())) * 3,
    ),
    "gradient": (GradientPenalty(2.0), lambda loop, real, fake, r, f: gradient_penalty(loop, real, fake)),
    "both": (
        [R1(3.0), R2(2.0)],
        lambda loop, real, fake, r, f: zero_centred(3.0, slopes(r, real)) + zero_centred(2.0, slopes(f, fake)),
    ),
    "rows": (lambda judgement: judgement.real_logits.square(), lambda loop, real, fake, r, f: r.square().mean()),
    "mixed": (
        (GradientPenalty(2.0), lambda judgement: judgement.fake_logits.exp().mean()),
        lambda loop, real, fake, r, f: gradient_penalty(loop, real, fake) + f.exp().mean(),
    ),
}


@pytest.mark.parametrize(("loss", "game"), [(NonSaturating(), non_saturating), (Relativistic(), relativistic)])
@pytest.mark.parametrize("name", PENALTIES)
def test_steps_with_penalties_equal_a_handwritten_loop(name, loss, game):
    penalty, penalty_by_hand = PENALTIES[name]
    generator, discriminator = networks()
    by_hand = HandwrittenLoop(generator, discriminator, game, penalty_by_hand, k=2)
    inference = GANInference(
        *(network_model(generator, NOISE_SIZE), discriminator, sgd, sgd),
        loss=loss,
        penalty=penalty,
        discriminator_steps=2,
    )
    parameters = [*generator.parameters(), *discriminator.parameters()]
    assert_same_steps(by_hand, inference, torch.randn(8, 16, 3), parameters, num_steps=4)


def test_a_term_of_the_discriminators_own_weights_equals_a_handwritten_one():
    generator, discriminator = networks()
    by_hand = HandwrittenLoop(
        generator, discriminator, relativistic, lambda loop, *judgement: ridge(loop.discriminator)
    )
    model = network_model(generator, NOISE_SIZE)
    inference = GANInference(
        model, discriminator, sgd, sgd, loss=Relativistic(), penalty=lambda judgement: ridge(discriminator)
    )
    parameters = [*generator.parameters(), *discriminator.parameters()]
    assert_same_steps(by_hand, inference, torch.randn(4, 16, 3), parameters, num_steps=4)


def test_no_penalty_moves_the_model():
    """Penalties at fake rows depend on the model's draws, but the discriminator alone pays."""
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, penalty=[R2(5.0), GradientPenalty()])
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    inference.step(ROWS, player="discriminator")
    assert all(torch.equal(*pair) for pair in zip(before, generator.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_weights_are_clipped_after_each_update_of_the_discriminator():
    generator, discriminator = networks()
    largest = []
    discriminator.register_forward_pre_hook(
        lambda module, inputs: largest.append(max(p.abs().max().item() for p in module.parameters()))
    )
    inference = GANInference(
        *(network_model(generator, NOISE_SIZE), discriminator, sgd, sgd),
        loss=Wasserstein(),
        penalty=WeightClipping(0.03),
        discriminator_steps=3,
    )
    inference.evaluate_loss(ROWS)
    largest.clear()
    inference.step(ROWS)
    # Each update of D judges two samples in one call, the generator's one; only before the first are weights larger.
    assert len(largest) == 4 and largest[0] > 0.03
    assert max(largest[1:]) == pytest.approx(0.03, abs=1e-8)


def test_clipping_is_kept_within_a_list_of_penalties():
    generator, discriminator = networks()
    inference = GANInference(
        network_model(generator, NOISE_SIZE), discriminator, sgd, sgd, penalty=[R1(1.0), WeightClipping(0.02)]
    )
    inference.step(ROWS)
    assert max(parameter.abs().max().item() for parameter in discriminator.parameters()) <= 0.02


def test_the_history_has_the_penalty_where_there_is_one():
    def history(penalty, loss=None):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks()
        inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, loss=loss, penalty=penalty)
        return inference.run(ROWS, num_steps=3, progress=False).history

    alone, both = history(None, NonSaturating()), history([lambda _: torch.tensor(2.0), lambda _: torch.ones(5, 2)])
    assert len(alone["penalty"]) == 3 and all(map(math.isnan, alone["penalty"]))
    assert both["penalty"] == [3.0, 3.0, 3.0]
    assert all(value > 0 for value in history(None)["penalty"])  # the default has some
    plain = history(lambda _: torch.tensor(0.0), Relativistic())
    assert both["discriminator_loss"] == plain["discriminator_loss"]  # of which the penalty is no part
    assert both["generator_loss"] == plain["generator_loss"]


def test_the_evaluated_losses_hold_no_penalty():
    generator, discriminator = networks()
    inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, penalty=lambda _: torch.tensor(9.0))
    pyro.set_rng_seed(2)
    evaluated = inference.evaluate_loss(ROWS).discriminator
    pyro.set_rng_seed(2)
    history = inference.run(ROWS, num_steps=1, batch_size=256, progress=False).history
    assert history["penalty"] == [9.0]
    assert history["discriminator_loss"] == [pytest.approx(evaluated.item(), abs=0.05)]


def test_a_penalty_that_is_not_finite_ends_the_run():
    inference = GANInference(location_model, scalar_discriminator(4), penalty=lambda _: torch.tensor(math.nan))
    with pytest.raises(ValueError, match=r"the penalty is nan at step 1. Check the data for NaN or infinity, or lower"):
        inference.run(NUMBERS, num_steps=2, progress=False)


def joint_model(x, y):
    """Numbers and their labels; the labels carry no gradient."""
    loc = pyro.param("loc", torch.tensor([0.0, 1.0]))
    with pyro.plate("data", len(x)):
        label = pyro.sample("y", dist.Categorical(logits=torch.zeros(2)), obs=y)
        pyro.sample("x", dist.Normal(loc[label], 1.0), obs=x)


def joint_inference(**options):
    network = nn.Linear(2, 1)
    inference = GANInference(
        joint_model, lambda x, y: network(torch.stack([x, y.float()], 1)), site=["x", "y"], **options
    )
    return inference, network


def test_joint_rows_with_integers_are_penalized_where_they_have_a_slope():
    inference, network = joint_inference(loss=NonSaturating(), penalty=R1(3.0))
    slope = network.weight[0, 0].item()  # in x; the one in y does not count
    history = inference.run((NUMBERS, torch.randint(2, (64,))), num_steps=1, progress=False).history
    assert history["penalty"] == [pytest.approx(3.0 / 2 * slope**2, rel=1e-5)]


@pytest.mark.parametrize("penalty", [R1(1.0, site="y"), [R2(1.0), GradientPenalty(site=["x", "y"])]])
def test_a_penalty_on_an_integer_site_is_refused_before_anything_changes(penalty):
    inference, network = joint_inference(penalty=penalty)
    before = network.weight.detach().clone()
    message = (
        r"needs rows of floating point, since others have no gradient, but those of site 'y' are of type torch.int64"
    )
    with pytest.raises(ValueError, match=message):
        inference.step(NUMBERS, torch.randint(2, (64,)))
    assert torch.equal(network.weight, before)
    assert len(pyro.get_param_store()) == 0 and inference.num_steps_taken == 0


def test_spectral_normalization_works_as_it_is():
    """torch's parametrization bounds the critic's slope at 1, which is all that the Wasserstein loss asks for."""

    def layer(inputs, outputs):
        return spectral_norm(nn.Linear(inputs, outputs), n_power_iterations=3)

    network = nn.Sequential(layer(1, 16), nn.LeakyReLU(0.2), layer(16, 16), nn.LeakyReLU(0.2), layer(16, 1))
    adam = falling_adam(300, rate=0.05)
    inference = GANInference(
        location_model, lambda x: network(x[:, None]), adam, adam, loss=Wasserstein(), penalty=(), discriminator_steps=2
    )
    inference.run(NUMBERS, num_steps=300, batch_size=64, progress=False)
    assert abs(pyro.param("loc").item() - 4) < 0.5  # from 0
    for module in network[::2]:
        for _ in range(200):  # each look is three more power iterations, which lag behind weights that move
            weight = module.weight
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)
    assert len(inference.discriminator.parameters) == 6
    x = torch.linspace(-1, 5, 100)[:, None].requires_grad_()
    assert torch.autograd.grad(network(x).sum(), x)[0].abs().max() <= 1 + 1e-3
    inference.state_dict()


# Losses


def test_a_pair_of_functions_equals_the_loss_with_the_same_formulas():
    def run(loss):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        generator, discriminator = networks()
        inference = GANInference(network_model(generator, NOISE_SIZE), discriminator, loss=loss)
        history = inference.run(ROWS, num_steps=20, batch_size=32, progress=False).history
        return history, [*generator.parameters(), *discriminator.parameters()]

    def discriminator_loss(real_logits, fake_logits):
        return -logsigmoid(real_logits), -logsigmoid(-fake_logits)

    def generator_loss(real_logits, fake_logits):
        return -logsigmoid(fake_logits)

    (history, parameters), (expected, others) = run((discriminator_loss, generator_loss)), run(NonSaturating())
    for name in "generator_loss", "discriminator_loss":
        assert history[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6)
    torch.testing.assert_close(parameters, others, rtol=1e-5, atol=1e-6)
    assert all(map(math.isnan, history["real_probability"]))


def test_rows_of_different_number_are_averaged_one_by_one():
    def model():
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", 5):
            pyro.deterministic("x", loc.expand(5) + 0.0, event_dim=0)

    network = nn.Linear(1, 1)
    pair = (lambda real, fake: (real, fake), lambda real, fake: (real, 3 * fake))
    losses = GANInference(model, lambda x: network(x[:, None]), loss=pair).evaluate_loss(torch.ones(8))
    real, fake = (network(torch.tensor([[value]])).item() for value in (1.0, 0.0))
    assert losses.discriminator.item() == pytest.approx(real + fake, abs=1e-6)
    assert losses.generator.item() == pytest.approx(real + 3 * fake, abs=1e-6)


def test_a_loss_of_ones_own_trains():
    class Exponential(Loss):
        """The exponential loss of boosting; half the log ratio is its best score."""

        def discriminator(self, real_logits, fake_logits):
            return (-real_logits).exp(), fake_logits.exp()

        def generator(self, real_logits, fake_logits):
            assert real_logits is None
            return (-fake_logits,)

        def log_ratio(self, logits):
            return 2 * logits

    adam = falling_adam(300, rate=0.02)
    inference = GANInference(location_model, scalar_discriminator(16), adam, adam, loss=Exponential(), penalty=R1(0.1))
    inference.run(NUMBERS, num_steps=300, progress=False)
    assert pyro.param("loc").item() > 2
    assert 0 < inference.history["real_probability"][-1] < 1


def test_logits_are_not_told_as_probabilities_where_they_are_none(tmp_path, capsys):
    """Everything that shows a history copes with a loss that has no log ratio, without a warning."""
    inference = GANInference(location_model, scalar_discriminator(4), loss=Hinge(), penalty=R1(0.1))
    callbacks = [WriteCSV(tmp_path / "history.csv"), TensorBoard(tmp_path / "logs", every=5)]
    history = inference.run(NUMBERS, num_steps=20, print_every=10, callbacks=callbacks).history
    for name in "real_probability", "fake_probability":
        assert len(history[name]) == 20 and all(map(math.isnan, history[name]))
    assert all(map(math.isfinite, history["generator_loss"]))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 10/20", "step 20/20"]
    assert describe(history).startswith(f"generator {history['generator_loss'][-1]:.3f}, discriminator ")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and {row["real_probability"] for row in rows} == {"nan"}
    assert float(rows[-1]["penalty"]) == history["penalty"][-1]
    axes = plot_history(history)
    axes.figure.canvas.draw()
    assert plot_history(history, names=["penalty"]).figure.axes[-1].get_ylabel() == "penalty"
    inference.to_inference_data(NUMBERS, num_draws=2)


def test_a_bar_shows_losses_without_probabilities(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    GANInference(location_model, scalar_discriminator(4), loss=Hinge()).run(NUMBERS, num_steps=5)
    assert "5/5" in terminal.getvalue() and "generator" in terminal.getvalue()


@pytest.mark.parametrize("loss", [Hinge(), (lambda real, fake: fake - real, lambda real, fake: -fake)])
def test_a_log_ratio_that_a_loss_does_not_imply_is_an_error(loss):
    inference = GANInference(location_model, scalar_discriminator(4), loss=loss)
    inference.run(NUMBERS, num_steps=1, progress=False)
    name = type(inference.loss).__name__
    with pytest.raises(ValueError, match=rf"{name} implies no log density ratio: .* Use a loss that implies one \(Min"):
        inference.log_ratio(NUMBERS)


def test_a_wasserstein_critic_that_nothing_bounds_is_refused():
    message = (
        r"the Wasserstein loss needs a critic of bounded slope, but penalty is None. Pass penalty=GradientPenalty\(\) "
        r"or WeightClipping\(\), as WGANInference does; for a critic with spectral normalization pass penalty=\(\)"
    )
    with pytest.raises(ValueError, match=message):
        GANInference(location_model, scalar_discriminator(4), loss=Wasserstein())


# The log ratio of a loss that leaves a constant open


def test_the_open_constant_makes_the_mean_ratio_over_the_model_one():
    inference = GANInference(location_scale_model, scalar_discriminator(16), falling_adam(200), falling_adam(200))
    assert inference.loss.leaves_constant_open
    inference.run(torch.randn(500) + 1, num_steps=200, progress=False)
    state = torch.get_rng_state()
    x = torch.linspace(-2, 3, 20)
    first = inference.log_ratio(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inference.log_ratio(x), first)
    torch.testing.assert_close(inference.log_ratio(x[:7]), first[:7])
    drawn = inference.sample(100_000)
    assert inference.log_ratio(drawn).exp().mean().item() == pytest.approx(1, abs=0.02)


def test_a_constant_added_to_the_logits_changes_no_ratio():
    network, shift = nn.Linear(1, 1), {"by": 0.0}
    inference = GANInference(location_model, lambda x: network(x[:, None]) + shift["by"])
    inference.run(NUMBERS, num_steps=2, progress=False)
    before = inference.log_ratio(NUMBERS)
    shift["by"] = 5.0
    torch.testing.assert_close(inference.log_ratio(NUMBERS), before, rtol=0, atol=1e-5)


def test_the_default_losss_ratio_matches_the_closed_form_of_two_gaussians():
    data = 1.0 + torch.randn(20_000)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    inference = GANInference(
        *(location_scale_model, lambda x: network(x[:, None])),
        loss=Relativistic(),
        optim_d=falling_adam(1000),
    )
    x = torch.linspace(-0.5, 2.5, 31)
    expected = Normal(1.0, 1.0).log_prob(x) - Normal(0.0, 1.0).log_prob(x)
    inference.evaluate_loss(data[:1024])
    assert (inference.log_ratio(x) - expected).abs().max() > 0.1
    for start in range(1000):
        inference.step(data[(torch.arange(1024) + 1024 * start) % len(data)], player="discriminator")
    assert (inference.log_ratio(x) - expected).abs().max() < 0.1


def test_the_history_tells_probabilities_with_the_constant_of_the_minibatch():
    """Undecided logits are the probability 1/2, whatever their level."""
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight), nn.init.constant_(network.bias, 3.0)
    inference = GANInference(location_model, lambda x: network(x[:, None]))
    history = inference.run(NUMBERS, num_steps=1, progress=False).history
    assert history["real_probability"] == history["fake_probability"] == [pytest.approx(0.5)]


def test_an_open_constant_needs_rows_of_the_model():
    def model(c):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(c)):
            pyro.deterministic("x", loc + c * pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    with pytest.raises(TypeError, match="the model takes c, and no step has been taken whose arguments could be used"):
        GANInference(model, scalar_discriminator(4)).log_ratio(NUMBERS)


# Pyro's handlers over the model


def observing(x=None, batch_size=64):
    """N(z, scale²) with z from N(loc, 1), as for SVI: `x` is observed where it is given."""
    loc, scale = pyro.param("loc", torch.tensor(0.0)), pyro.param("scale", torch.tensor(1.0))
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        return pyro.sample("x", dist.Normal(z, scale.abs()), obs=x)


def run(model, data=NUMBERS, num_steps=3, **options):
    inference = GANInference(model, scalar_discriminator(4), **{"site": "x", **options})
    return inference.run(data, num_steps=num_steps, batch_size=64, progress=False)


def test_a_condition_on_a_latent_site_holds_in_training_and_sampling():
    inference = run(poutine.condition(location_model, data={"eps": torch.full((64,), 2.0)}))
    expected = pyro.param("loc").item() + 0.2
    assert inference.sample(64).tolist() == pytest.approx([expected] * 64)
    assert expected != 0.2


def test_a_condition_on_the_compared_site_is_the_real_sample():
    seen, network = [], nn.Linear(1, 1)

    def discriminator(x):
        seen.append(x.detach().clone())
        return network(x[:, None])

    conditioned = poutine.condition(observing, data={"x": NUMBERS})
    inference = GANInference(conditioned, discriminator).run(torch.zeros(64), num_steps=2, progress=False)
    assert any(torch.equal(rows, NUMBERS) for rows in seen)
    assert not any((rows == 0).all() for rows in seen)
    assert inference.sample(2000).mean().item() == pytest.approx(pyro.param("loc").item(), abs=0.15)  # drawn afresh


def test_an_intervention_moves_what_lies_below():
    inference = run(poutine.do(observing, data={"z": torch.tensor(7.0)}))
    assert inference.sample(2000).mean().item() == pytest.approx(7, abs=0.1)
    assert pyro.param("loc").item() == 0 != pyro.param("scale").item() - 1  # only the scale still has a say


def test_a_blocked_compared_site_is_not_seen():
    with pytest.raises(ValueError, match="site='x' is not a site of the model; it has 'eps'"):
        run(poutine.block(location_model, hide=["x"]))
    with pytest.raises(ValueError, match=r"the model has no site to compare with the data: .* found 'eps'"):
        run(poutine.block(location_model, hide=["x"]), site=None)


def test_a_blocked_latent_site_is_not_missed():
    inference = run(poutine.block(location_model, hide=["eps"]))
    assert set(inference.model.found) == {"x"} and pyro.param("loc").item() != 0


def test_a_blocked_parameter_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"the model has no parameters to train"):
        run(poutine.block(location_model, hide=["loc"]))
    with pytest.raises(ValueError, match=r"site 'x' depends on tensors that require a gradient but are not registered"):
        run(poutine.block(observing, hide=["loc"]))


@pytest.mark.parametrize(
    "handled",
    [
        poutine.scale(location_model, 0.1),
        poutine.mask(location_model, False),
        poutine.mask(location_model, torch.arange(64) < 32),
        poutine.block(location_model, expose=["x", "loc"]),
        poutine.infer_config(location_model, lambda site: {"note": True}),
    ],
    ids=["scale", "mask", "mask_rows", "block", "infer_config"],
)
def test_handlers_of_densities_change_no_draw(handled):
    """An implicit model has no densities that could be scaled or masked."""
    histories = []
    for model in location_model, handled:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        histories.append((run(model).history, pyro.param("loc").item()))
    (plain, loc), (found, loc_found) = histories
    for name in "generator_loss", "discriminator_loss":
        assert found[name] == plain[name]
    assert loc_found == loc != 0


def test_a_lifted_parameter_becomes_noise_and_the_others_are_trained():
    lifted = poutine.lift(observing, prior={"loc": dist.Normal(50.0, 1.0)})
    inference = run(lifted)
    assert set(inference.model.parameters) == {"scale"} and pyro.param("scale").item() != 1
    assert "loc" not in pyro.get_param_store()
    assert inference.sample(640).mean().item() == pytest.approx(50, abs=2)


def test_a_seeded_model_draws_the_same_rows_at_each_call():
    inference = run(poutine.seed(location_model, 3))
    assert torch.equal(inference.sample(64), inference.sample(64))


def test_a_reparameterized_site_is_drawn_in_parts():
    inference = run(poutine.reparam(observing, config={"z": LocScaleReparam(0.0)}))
    assert "z_decentered" in inference.model.found
    assert pyro.param("loc").item() != 0 != pyro.param("scale").item() - 1


def test_handlers_compose():
    handled = poutine.scale(poutine.condition(observing, data={"z": torch.full((64,), 3.0)}), 0.5)
    inference = run(handled)
    assert inference.sample(64).mean().item() == pytest.approx(3, abs=0.5)
    assert pyro.param("loc").item() == 0 != pyro.param("scale").item() - 1


def test_a_handler_around_the_whole_run_is_heard():
    with poutine.condition(data={"eps": torch.full((64,), 2.0)}):
        inference = run(location_model)
        drawn = inference.sample(64)
    assert drawn.tolist() == pytest.approx([pyro.param("loc").item() + 0.2] * 64)
