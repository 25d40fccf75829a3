import math
import random
import re

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn
from torch.distributions.constraints import integer_interval
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from pyro_gan import AutoDiscriminator
from pyro_gan.penalties import (
    R1,
    R2,
    GradientPenalty,
    Judgement,
    Penalty,
    WeightClipping,
    ZeroCentredGradientPenalty,
    as_penalties,
)
from pyro_gan.players.discriminator import Discriminator

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []

GRADIENT_PENALTIES = [
    R1(3.0),
    R2(3.0),
    R1(0.1, relative=True),
    R2(0.1, relative=True),
    GradientPenalty(3.0),
    GradientPenalty(3.0, target=0.2, one_sided=True),
]
DOUBLE = {"dtype": torch.float64}


def leaf(rows):
    return rows.detach().clone().requires_grad_(rows.is_floating_point())


def judge(discriminator, real, fake):
    """A judgement as the inference makes it: rows of floating point are leaves that require a gradient."""
    real, fake = ({site: leaf(rows) for site, rows in sample.items()} for sample in (real, fake))
    return Judgement(discriminator, real, fake, discriminator(real), discriminator(fake))


def quadratic(matrix, vector):
    """D(x) = x'Ax/2 + b'x, whose gradient is Ax + b."""
    return lambda rows: (rows["x"] @ matrix * rows["x"]).sum(1) / 2 + rows["x"] @ vector


def joint_critic(rows):
    """D(x, z) = |x|²/2 + z sum(x) + z²: the gradient is x + z in x and sum(x) + 2z in z."""
    x, z = rows["x"].flatten(1), rows["z"]
    return x.square().sum(1) / 2 + z * x.sum(1) + z.square()


def joint_sample(num_rows):
    return {"x": torch.randn(num_rows, 2, 3, **DOUBLE), "z": torch.randn(num_rows, **DOUBLE)}


def recording(discriminator):
    """The discriminator, and the list of all rows that it has been given."""
    seen = []
    return lambda rows: [seen.append(rows), discriminator(rows)][1], seen


def of_site(penalty, site):
    """The same penalty of one site alone."""
    options = {name: getattr(penalty, name) for name in ("relative", "target", "one_sided") if hasattr(penalty, name)}
    return type(penalty)(penalty.weight, site=site, **options)


def network(*hidden):
    return nn.Sequential(nn.Linear(2, 8), *hidden, nn.Tanh(), nn.Linear(8, 1)).double()


def by_network(module):
    return lambda rows: module(rows["x"]).squeeze(1)


# Closed forms


@pytest.mark.parametrize("penalty, sample", [(R1(3.0), "real"), (R2(3.0), "fake")])
def test_r1_and_r2_are_the_closed_form_on_a_quadratic_critic(penalty, sample):
    matrix, vector = torch.randn(3, 3, **DOUBLE), torch.randn(3, **DOUBLE)
    matrix = matrix + matrix.T
    samples = {"real": torch.randn(7, 3, **DOUBLE), "fake": torch.randn(4, 3, **DOUBLE)}
    judgement = judge(quadratic(matrix, vector), {"x": samples["real"]}, {"x": samples["fake"]})
    expected = 3 / 2 * (samples[sample] @ matrix + vector).square().sum(1)
    torch.testing.assert_close(penalty(judgement), expected)


@pytest.mark.parametrize("penalty, sample", [(R1(5.0), "real"), (R2(5.0), "fake")])
def test_joint_samples_have_one_squared_norm_a_row_over_all_sites_and_elements(penalty, sample):
    samples = {"real": joint_sample(6), "fake": joint_sample(3)}
    x, z = samples[sample]["x"], samples[sample]["z"]
    expected = 5 / 2 * ((x + z[:, None, None]).square().sum((1, 2)) + (x.sum((1, 2)) + 2 * z).square())
    torch.testing.assert_close(penalty(judge(joint_critic, **samples)), expected)


def test_a_named_site_is_covered_alone():
    real = joint_sample(6)
    judgement = judge(joint_critic, real, joint_sample(6))
    x, z = real["x"], real["z"]
    torch.testing.assert_close(R1(2.0, site="z")(judgement), (x.sum((1, 2)) + 2 * z).square())
    torch.testing.assert_close(R1(2.0, site=["x"])(judgement), (x + z[:, None, None]).square().sum((1, 2)))
    torch.testing.assert_close(R1(2.0, site=("z", "x"))(judgement), R1(2.0)(judgement))


@pytest.mark.parametrize("shape", [(), (4,), (3, 5, 5)])
def test_rows_of_any_event_shape(shape):
    real, fake = torch.randn(5, *shape, **DOUBLE), torch.randn(3, *shape, **DOUBLE)
    judgement = judge(lambda rows: rows["x"].reshape(len(rows["x"]), -1).square().sum(1) / 2, {"x": real}, {"x": fake})
    torch.testing.assert_close(R1(2.0)(judgement), real.reshape(5, -1).square().sum(1))
    torch.testing.assert_close(R2(2.0)(judgement), fake.reshape(3, -1).square().sum(1))
    assert GradientPenalty()(judgement).shape == (3,)


def test_gradient_penalty_is_the_closed_form_on_a_linear_critic():
    # The slope (3, 4) has the norm 5 wherever the points lie.
    judgement = judge(
        lambda rows: rows["x"] @ torch.tensor([3.0, 4.0]), {"x": torch.randn(5, 2)}, {"x": torch.randn(5, 2)}
    )
    assert GradientPenalty(10.0)(judgement).tolist() == pytest.approx([160.0] * 5)
    assert GradientPenalty(10.0, target=0)(judgement).tolist() == pytest.approx([250.0] * 5)
    assert GradientPenalty(1.0, target=7.0)(judgement).tolist() == pytest.approx([4.0] * 5)
    assert GradientPenalty(1.0, target=7.0, one_sided=True)(judgement).tolist() == [0.0] * 5
    assert GradientPenalty(1.0, target=2.0, one_sided=True)(judgement).tolist() == pytest.approx([9.0] * 5)


@pytest.mark.parametrize("one_sided", [False, True])
def test_gradient_penalty_is_the_mean_over_rows_worked_one_by_one(one_sided):
    real, fake = joint_sample(6), joint_sample(4)
    judgement = judge(joint_critic, real, fake)
    torch.manual_seed(5)
    penalties = GradientPenalty(3.0, target=2.0, one_sided=one_sided)(judgement)
    torch.manual_seed(5)
    expected = []
    for row, epsilon in enumerate(torch.rand(4, **DOUBLE).tolist()):
        point = {site: epsilon * real[site][row] + (1 - epsilon) * fake[site][row] for site in real}
        square = (point["x"].sum() + 2 * point["z"]) ** 2
        for element in point["x"].flatten():
            square = square + (element + point["z"]) ** 2
        distance = math.sqrt(square) - 2.0
        expected.append(0.0 if one_sided and distance < 0 else 3.0 * distance**2)
    assert penalties.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_row_has_one_epsilon_for_all_elements_and_sites():
    real, fake = joint_sample(200), joint_sample(150)
    critic, seen = recording(joint_critic)
    GradientPenalty()(judge(critic, real, fake))
    points = seen[-1]
    fractions = torch.cat(
        [
            ((points[site] - fake[site]) / (real[site][:150] - fake[site])).reshape(150, -1).detach()
            for site in ("x", "z")
        ],
        1,
    )
    torch.testing.assert_close(fractions, fractions[:, :1].expand(150, 7), rtol=1e-6, atol=1e-6)
    assert len(set(fractions[:, 0].tolist())) == 150


def test_epsilon_is_uniform():
    critic, seen = recording(lambda rows: rows["x"])
    GradientPenalty()(judge(critic, {"x": torch.ones(5000, **DOUBLE)}, {"x": torch.zeros(5000, **DOUBLE)}))
    assert kstest(seen[-1]["x"].detach(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("num_real, num_fake", [(7, 3), (3, 7), (1, 1)])
def test_real_and_fake_rows_may_differ_in_number(num_real, num_fake):
    judgement = judge(joint_critic, joint_sample(num_real), joint_sample(num_fake))
    assert R1()(judgement).shape == (num_real,)
    assert R2()(judgement).shape == (num_fake,)
    assert GradientPenalty()(judgement).shape == (min(num_real, num_fake),)


def test_the_wasserstein_critic_is_best_where_the_penalties_say():
    # D(x) = wx, rows apart by 3, weight g: g w²/2 - 3w is least at w = 3/g, and g(w - 1)² - 3w at w = 1 + 3/(2g).
    real, fake = {"x": torch.full((4,), 3.0, **DOUBLE)}, {"x": torch.zeros(4, **DOUBLE)}
    best = [(R1(6.0), 0.5), (R2(6.0), 0.5), (GradientPenalty(6.0), 1.25), (GradientPenalty(6.0, one_sided=True), 1.25)]
    for penalty, slope in best:
        weight = torch.tensor(slope, **DOUBLE, requires_grad=True)
        judgement = judge(lambda rows, weight=weight: weight * rows["x"], real, fake)
        loss = judgement.fake_logits.mean() - judgement.real_logits.mean() + penalty(judgement).mean()
        assert torch.autograd.grad(loss, weight)[0].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("penalty", [None, R1(1.0), R2(1.0)])
def test_the_dirac_wasserstein_gan_converges_with_r1_and_with_r2_and_runs_off_without(penalty):
    # Mescheder et al. (2018), section 2: data at 0, a model at theta, D(x) = psi x. Without a penalty a step of 0.1
    # multiplies the distance from the solution by the root of 1 + 0.1²; with one it shrinks by about 1 - 0.1 / 2.
    theta, psi = torch.tensor([1.0]), torch.tensor(1.0, requires_grad=True)
    for _ in range(300):
        judgement = judge(lambda rows, psi=psi: psi * rows["x"], {"x": torch.zeros(1)}, {"x": theta})
        loss = judgement.fake_logits.mean() - judgement.real_logits.mean()
        loss = loss if penalty is None else loss + penalty(judgement).mean()
        (gradient,) = torch.autograd.grad(loss, psi)
        with torch.no_grad():
            theta = theta + 0.1 * psi
            psi -= 0.1 * gradient
    distance = math.hypot(theta.item(), psi.item())
    if penalty is None:
        assert distance == pytest.approx(math.sqrt(2) * 1.01**150, rel=1e-4)
    else:
        assert distance < 1e-5


# Relative weights


@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_relative_weight_is_in_units_of_each_features_variance_over_the_real_rows(penalty):
    real, fake = joint_sample(6), joint_sample(6)
    judgement = judge(joint_critic, real, fake)
    logits, rows = ("real_logits", "real") if penalty is R1 else ("fake_logits", "fake")
    expected = 0
    for site, values in real.items():
        (slope,) = torch.autograd.grad(
            getattr(judgement, logits).sum(), getattr(judgement, rows)[site], retain_graph=True
        )
        variances = torch.from_numpy(values.numpy().reshape(6, -1).var(0))
        expected = expected + 0.15 * len(variances) * (slope.reshape(6, -1).square() * variances).sum(1)
    torch.testing.assert_close(penalty(0.3, relative=True)(judgement), expected)


@pytest.mark.parametrize("penalty", [R1, R2])
def test_where_all_features_vary_alike_a_relative_weight_is_in_units_of_the_total_variance(penalty):
    rows = torch.tensor([[1.0, 5.0, -2.0], [3.0, 3.0, 0.0]], **DOUBLE)
    judgement = judge(lambda given: (given["x"] ** 3).sum(1), {"x": rows}, {"x": rows.flip(0) + 1})
    torch.testing.assert_close(penalty(0.3, relative=True)(judgement), 3 * penalty(0.3)(judgement))


UNITLESS = [
    R1(0.3, relative=True),
    R2(0.3, relative=True),
    ZeroCentredGradientPenalty(0.3, relative=True),
    GradientPenalty(0.3, relative=True),
]


@pytest.mark.parametrize("penalty", UNITLESS)
def test_the_unit_of_a_single_feature_changes_no_relative_penalty(penalty):
    real, fake, units = torch.randn(8, 3, **DOUBLE), torch.randn(5, 3, **DOUBLE), torch.tensor([1000.0, 1.0, 1e-6])

    def critic(rows):
        return rows["x"].sin().sum(1)

    def scaled_critic(rows):
        return critic({"x": rows["x"] / units})

    found = []
    for each, scale in ((critic, torch.ones(3)), (scaled_critic, units)):
        torch.manual_seed(0)
        found.append(penalty(judge(each, {"x": scale * real}, {"x": scale * fake})))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("penalty", UNITLESS)
def test_pixels_share_a_scale_and_measurements_in_many_units_do_not(penalty):
    pixels = torch.rand(8, 64, **DOUBLE)
    pixels[:, :16] = 0.0  # a margin that the fake rows do not keep to
    pixels[0, 17] = 0.3  # hardly ever lit
    fake = torch.rand(8, 64, **DOUBLE)

    def slope_at(feature, units):
        torch.manual_seed(0)
        critic = lambda rows: 9 * rows["x"][:, feature] / units[feature]  # noqa: E731
        return penalty(judge(critic, {"x": units * pixels}, {"x": units * fake})).mean()

    one = torch.ones(64, **DOUBLE)
    torch.testing.assert_close(slope_at(3, one), slope_at(40, one))
    many = torch.where(torch.arange(64) % 4 > 0, 1.0, 1e-4).to(torch.float64)
    many[50] = 1e3
    spreads = (pixels if isinstance(penalty, R1 | R2) else torch.cat([pixels, fake])).var(0, correction=0)
    if isinstance(penalty, GradientPenalty):
        expected = 0.3 * (9 * spreads.sqrt() - 1).square()
    else:
        expected = 0.15 * 64 * spreads * 81
    for feature in (20, 40, 50):
        torch.testing.assert_close(slope_at(feature, many), expected[feature])


@pytest.mark.parametrize("penalty", UNITLESS)
def test_relative_penalties_act_in_a_discriminators_own_coordinates(penalty):
    rows = {"x": 50.0 + 9.0 * torch.randn(40, 2)}
    auto = AutoDiscriminator(width=8, depth=1)
    auto(**rows)
    player = Discriminator(auto, torch.device("cpu"), move=False)
    real, fake = ({"x": (50 + 9 * torch.randn(40, 2)).requires_grad_()} for _ in range(2))
    judgement = Judgement(player, real, fake, player(real), player(fake))
    inside = [{"x": auto.coordinates(sample)["x"].detach().requires_grad_()} for sample in (real, fake)]
    by_hand = Judgement(auto.judge, *inside, *map(auto.judge, inside))
    found = []
    for each in (judgement, by_hand):
        torch.manual_seed(0)
        found.append(penalty(each))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_relative_weight_does_not_feel_the_units_of_the_rows(penalty):
    real, fake = joint_sample(8), joint_sample(5)
    units = {"x": 1000.0, "z": 0.01}

    def scaled_critic(rows):
        return joint_critic({site: values / units[site] for site, values in rows.items()})

    scaled = [{site: units[site] * values for site, values in sample.items()} for sample in (real, fake)]
    before, after = judge(joint_critic, real, fake), judge(scaled_critic, *scaled)
    torch.testing.assert_close(penalty(relative=True)(before), penalty(relative=True)(after))
    absolute = penalty(10.0, site="x")
    torch.testing.assert_close(absolute(before), 1000.0**2 * absolute(after))


def test_the_variance_is_a_constant():
    judgement = judge(lambda rows: 2 * rows["x"], {"x": torch.randn(5)}, {"x": torch.randn(5)})
    penalties = R1(relative=True)(judgement).sum() + 0 * judgement.real["x"].sum()
    (gradient,) = torch.autograd.grad(penalties, judgement.real["x"])
    assert gradient.tolist() == [0.0] * 5


@pytest.mark.parametrize("penalty", [R1, R2, ZeroCentredGradientPenalty])
def test_labels_beside_numbers_are_not_penalized_in_coordinates_either(penalty):
    auto = AutoDiscriminator(width=8, depth=1)
    auto.setup({"k": integer_interval(0, 2)}, {"x": torch.randn(40), "k": torch.arange(40) % 3})
    player = Discriminator(auto, torch.device("cpu"), move=False)
    rows = {"x": torch.randn(40, requires_grad=True), "k": torch.arange(40) % 3}
    judgement = Judgement(player, rows, rows, player(rows), player(rows))
    found = []
    for site in None, "x":
        torch.manual_seed(0)
        found.append(penalty(relative=True, site=site)(judgement))
    assert torch.equal(*found) and found[0].mean() > 0


def test_an_absolute_penalty_is_in_units_of_the_rows_for_every_discriminator():
    auto = AutoDiscriminator(width=8, depth=1)
    auto(x=9 * torch.randn(40, 2))
    player, rows = Discriminator(auto, torch.device("cpu"), move=False), (9 * torch.randn(40, 2)).requires_grad_()
    (slope,) = torch.autograd.grad(auto(x=rows).sum(), rows)
    judgement = Judgement(player, {"x": rows}, {"x": rows}, player({"x": rows}), player({"x": rows}))
    torch.testing.assert_close(R1(2.0)(judgement), slope.square().sum(1))


def test_a_site_without_variance_is_not_penalized():
    real, fake = joint_sample(6), joint_sample(6)
    real["z"] = torch.full((6,), 3.0, **DOUBLE)
    judgement = judge(joint_critic, real, fake)
    penalties = R1(0.1, relative=True)(judgement)
    torch.testing.assert_close(penalties, R1(0.1, relative=True, site="x")(judgement))
    assert R1(0.1, relative=True, site="z")(judgement).tolist() == [0.0] * 6


def test_default_weights():
    assert (R1().weight, R2().weight, GradientPenalty().weight, WeightClipping().clip) == (10.0, 10.0, 10.0, 0.01)
    assert (R1(relative=True).weight, R2(relative=True).weight) == (0.02, 0.02)
    assert R1(np.float32(0.5)).weight == 0.5
    assert GradientPenalty(1, target=0).target == 0.0


# Derivatives


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
def test_penalties_have_the_gradients_that_finite_differences_give(penalty):
    module = nn.Sequential(nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    names, parameters = zip(*module.named_parameters(), strict=True)
    real, fake = joint_sample(5), joint_sample(4)

    def of_parameters(*values):
        def critic(rows):
            joint = torch.cat([rows["x"].flatten(1), rows["z"][:, None]], 1)
            return functional_call(module, dict(zip(names, values, strict=True)), joint).squeeze(1)

        torch.manual_seed(2)  # the same interpolation at each call
        return penalty(judge(critic, real, fake))

    assert (of_parameters(*parameters) > 0).any()
    assert torch.autograd.gradcheck(of_parameters, parameters)


@pytest.mark.parametrize("one_sided", [False, True])
def test_gradient_penalty_has_finite_gradients_where_the_critic_is_flat(one_sided):
    weight = torch.zeros(2, 3, requires_grad=True)
    sample = {"x": torch.randn(4, 2, 3), "z": torch.randn(4)}
    judgement = judge(lambda rows: (weight * rows["x"]).sum((1, 2)) + weight[0, 0] * rows["z"], sample, sample)
    penalties = GradientPenalty(10.0, one_sided=one_sided)(judgement)
    assert penalties.tolist() == [0.0 if one_sided else 10.0] * 4
    penalties.sum().backward()
    assert weight.grad.tolist() == torch.zeros(2, 3).tolist()


def test_gradient_penalty_is_differentiable_where_one_site_of_several_is_flat():
    sample = joint_sample(4)

    def of_weights(in_x, in_z):
        critic = judge(lambda rows: (in_x * rows["x"]).sum((1, 2)) + in_z * rows["z"], sample, sample)
        return GradientPenalty()(critic)

    in_x, in_z = torch.randn(2, 3, **DOUBLE, requires_grad=True), torch.zeros((), **DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(of_weights, (in_x, in_z))


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
def test_a_site_that_the_logits_ignore_counts_as_flat(penalty):
    slope = torch.ones((), **DOUBLE, requires_grad=True)
    judgement = judge(lambda rows: slope * rows["z"].square(), joint_sample(5), joint_sample(5))
    torch.manual_seed(1)
    both = penalty(judgement)
    torch.manual_seed(1)
    torch.testing.assert_close(both, of_site(penalty, "z")(judgement))
    both.sum().backward()
    assert torch.isfinite(slope.grad)
    flat = 3.0 if isinstance(penalty, GradientPenalty) and not penalty.one_sided else 0.0
    assert of_site(penalty, "x")(judgement).tolist() == [flat] * 5


# Critics, kinds of numbers, devices


def test_a_spectrally_normalized_linear_critic_has_the_slope_1():
    critic = by_network(spectral_norm(nn.Linear(2, 1)).double())
    judgement = judge(critic, {"x": torch.randn(5, 2, **DOUBLE)}, {"x": torch.randn(5, 2, **DOUBLE)})
    assert GradientPenalty(10.0)(judgement).tolist() == pytest.approx([0.0] * 5, abs=1e-12)
    assert R1(10.0)(judgement).tolist() == pytest.approx([5.0] * 5)


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.LayerNorm, lambda size: spectral_norm(nn.Linear(size, size))])
def test_normalized_critics_learn_from_penalties(penalty, layer):
    module = network(layer(8))
    critic = by_network(module)
    sample = {"x": torch.randn(6, 2, **DOUBLE)}
    penalties = penalty(judge(lambda rows: 10 * critic(rows), sample, sample))  # steep beyond the one-sided target
    assert penalties.shape == (6,)
    penalties.mean().backward()
    assert torch.isfinite(penalties).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters() if parameter.grad is not None)
    assert module[0].weight.grad.any()


def test_batch_normalization_hides_the_slope_at_single_rows():
    # The logits have the mean 0 whatever the rows are, so their sum has no slope; in use the slope is 1/std.
    module = nn.BatchNorm1d(1, affine=False, momentum=1.0).double()
    sample = {"x": torch.randn(6, 1, **DOUBLE)}
    assert R1(2.0)(judge(by_network(module), sample, sample)).tolist() == pytest.approx([0.0] * 6, abs=1e-12)
    in_use = R1(2.0)(judge(by_network(module.eval()), sample, sample))
    assert in_use.tolist() == pytest.approx([1 / (sample["x"].var().item() + module.eps)] * 6)


def test_sites_that_are_not_of_floating_point_are_held_at_the_real_rows_and_left_out():
    def sample(num_rows):
        return {"k": torch.randint(100, (num_rows,)), "x": torch.randn(num_rows, 2, **DOUBLE)}

    real, fake = sample(6), sample(4)
    critic, seen = recording(lambda rows: rows["k"] * rows["x"].sum(1))
    judgement = judge(critic, real, fake)
    for penalty in R1(), R2(), GradientPenalty():
        penalty.check(real)
    torch.testing.assert_close(R1(2.0)(judgement), 2.0 * real["k"].double() ** 2)
    torch.testing.assert_close(R2(2.0)(judgement), 2.0 * fake["k"].double() ** 2)
    torch.testing.assert_close(GradientPenalty(1.0, target=0.0)(judgement), 2.0 * real["k"][:4].double() ** 2)
    assert list(seen[-1]) == ["k", "x"]  # in the order that the discriminator knows
    assert seen[-1]["k"].tolist() == real["k"][:4].tolist()


def test_sites_that_are_not_named_are_held_at_the_real_rows():
    real, fake = joint_sample(6), joint_sample(4)
    critic, seen = recording(joint_critic)
    penalties = GradientPenalty(1.0, target=0.0, site="z")(judge(critic, real, fake))
    assert seen[-1]["x"].tolist() == real["x"][:4].tolist()
    torch.testing.assert_close(penalties, (real["x"][:4].sum((1, 2)) + 2 * seen[-1]["z"]).square())


def test_draws_of_integers_beside_real_data_are_interpolated_as_the_data_are():
    real, fake = {"x": torch.rand(5, **DOUBLE)}, {"x": torch.randint(9, (5,))}
    critic, seen = recording(lambda rows: rows["x"] * 2)
    assert GradientPenalty(10.0)(judge(critic, real, fake)).tolist() == pytest.approx([10.0] * 5)
    assert seen[-1]["x"].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
def test_penalties_keep_the_device_and_the_precision(penalty, device, dtype):
    if (device, dtype) == ("mps", torch.float64):
        pytest.skip("MPS has no double precision")
    sample = {site: rows.to(device, dtype) for site, rows in joint_sample(5).items()}
    penalties = penalty(judge(joint_critic, sample, sample))
    assert (penalties.dtype, penalties.device.type) == (dtype, device)


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
def test_sites_of_different_precision_are_added_in_the_higher(penalty):
    sample = joint_sample(5)
    mixed = {"x": sample["x"].float(), "z": sample["z"]}
    assert penalty(judge(joint_critic, mixed, mixed)).dtype == torch.float64
    same = {"x": mixed["x"].double(), "z": mixed["z"]}
    if not isinstance(penalty, GradientPenalty):  # which draws other points in another precision
        expected = penalty(judge(joint_critic, same, same))
        torch.testing.assert_close(penalty(judge(joint_critic, mixed, mixed)), expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("penalty", [*GRADIENT_PENALTIES, WeightClipping()])
def test_penalties_use_no_random_numbers_but_one_a_row_of_torchs(penalty):
    judgement = judge(joint_critic, joint_sample(5), joint_sample(4))
    before, others = torch.get_rng_state(), (random.getstate(), np.random.get_state()[2])  # noqa: NPY002
    penalty(judgement)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    if isinstance(penalty, GradientPenalty):
        torch.rand(4, **DOUBLE)
    assert torch.equal(torch.get_rng_state(), after)
    assert (random.getstate(), np.random.get_state()[2]) == others  # noqa: NPY002


def test_penalties_leave_rows_and_gradients_as_they_were():
    module = network()
    judgement = judge(by_network(module), {"x": torch.randn(6, 2, **DOUBLE)}, {"x": torch.randn(6, 2, **DOUBLE)})
    before = [judgement.real["x"].tolist(), judgement.fake["x"].tolist()]
    total = sum(penalty(judgement).mean() for penalty in GRADIENT_PENALTIES)
    total.backward(inputs=list(module.parameters()))
    assert [judgement.real["x"].tolist(), judgement.fake["x"].tolist()] == before
    assert judgement.real["x"].grad is judgement.fake["x"].grad is None


# Weight clipping


def test_weight_clipping_clamps_every_parameter_in_place():
    module = network(nn.BatchNorm1d(8))
    parameters = list(module.parameters())
    with torch.no_grad():
        parameters[0][0, 0] = 0.004
    before = [parameter.detach().clone() for parameter in parameters]
    WeightClipping(0.01).after_update(parameters)
    for parameter, now, then in zip(parameters, module.parameters(), before, strict=True):
        assert parameter is now and now.requires_grad
        np.testing.assert_array_equal(now.detach(), np.clip(then.numpy(), -0.01, 0.01))
    assert parameters[0][0, 0].item() == 0.004
    WeightClipping().after_update([])


def test_weight_clipping_adds_nothing_and_reads_no_gradient():
    rows = {"x": torch.randn(5, 2, **DOUBLE)}
    critic = by_network(network())
    value = WeightClipping()(Judgement(critic, rows, rows, critic(rows), critic(rows)))
    assert (value.shape, value.item(), value.requires_grad) == ((), 0.0, False)
    assert not WeightClipping.reads_gradients
    assert R1.reads_gradients and R2.reads_gradients
    assert not GradientPenalty.reads_gradients  # but that of rows between the judgement's
    WeightClipping().check({"k": torch.zeros(3, dtype=torch.int64)})


def test_a_clipped_critic_stays_within_its_bounds_while_it_learns():
    module, clipping = network(), WeightClipping(0.05)
    optimizer = torch.optim.RMSprop(module.parameters(), lr=0.05)
    for _ in range(20):
        loss = module(torch.randn(16, 2, **DOUBLE)).mean() - module(torch.randn(16, 2, **DOUBLE) + 3).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert max(parameter.abs().max() for parameter in module.parameters()) > 0.05
        clipping.after_update(list(module.parameters()))
        assert max(parameter.abs().max() for parameter in module.parameters()) == 0.05


# A user's own


def test_as_penalties_takes_one_or_several_or_none():
    def ridge(judgement):
        return judgement.real_logits.square()

    r1, r2 = R1(), R2()
    assert as_penalties(None) == as_penalties([]) == ()
    assert as_penalties(r1) == (r1,)
    assert as_penalties(ridge) == (ridge,)
    assert as_penalties([r1, r2, ridge]) == as_penalties((r1, r2, ridge)) == (r1, r2, ridge)


def test_a_users_penalty_needs_one_method():
    class Drift(Penalty):
        def __call__(self, judgement):
            return 1e-3 * judgement.real_logits.square()

    drift = Drift()
    judgement = judge(lambda rows: 3 * rows["x"], {"x": torch.ones(2)}, {"x": torch.ones(2)})
    assert drift(judgement).tolist() == pytest.approx([9e-3, 9e-3])
    assert drift.reads_gradients
    assert drift.check(judgement.real) is drift.after_update([]) is None
    with pytest.raises(TypeError, match=r"abstract method '?__call__"):
        Penalty()


# What users get wrong


@pytest.mark.parametrize(
    "penalty, message",
    [
        (10.0, r"penalty=10.0 is a number.*penalty=GradientPenalty\(10.0\) or penalty=\[R1\(10.0\), R2\(10.0\)\]"),
        ([R1(), 5], r"penalty=5 is a number, but does not say of what. Name it: penalty=GradientPenalty\(5\)"),
        (R1, r"penalty=R1 is a class, but an object of it is expected. Write penalty=R1\(\)"),
        ([R1(), R2], r"penalty=R2 is a class, but an object of it is expected. Write penalty=R2\(\)"),
        ("R1", r"penalty must be a callable from a Judgement .* such as R1\(10.0\) .* but is or holds 'R1' \(str\)"),
        (True, r"penalty must be a callable from a Judgement .* but is or holds True \(bool\)"),
        ({"x": R1()}, r"penalty must be a callable .* or a list of such, but is or holds \{.*\} \(dict\)"),
        ([R1(), None], r"penalty must be a callable .* but is or holds None \(NoneType\)"),
    ],
)
def test_as_penalties_refuses_what_is_none(penalty, message):
    with pytest.raises(TypeError, match=message):
        as_penalties(penalty)


@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.inf, math.nan, True, "10", torch.tensor(1.0)])
@pytest.mark.parametrize("penalty", [R1, R2, GradientPenalty, WeightClipping])
def test_weights_are_positive_numbers(penalty, value):
    name = "clip" if penalty is WeightClipping else "weight"
    with pytest.raises(ValueError, match=f"^{name} must be a positive number, but is {re.escape(repr(value))}"):
        penalty(value)


@pytest.mark.parametrize("target", [-0.5, math.inf, math.nan, None, False])
def test_targets_are_numbers_of_at_least_0(target):
    with pytest.raises(ValueError, match=rf"^target must be a finite number of at least 0, but is {target}\.$"):
        GradientPenalty(target=target)


@pytest.mark.parametrize("site", [3, [], ["x", 2], {"x"}])
@pytest.mark.parametrize("penalty", [R1, R2, GradientPenalty])
def test_sites_are_names(penalty, site):
    with pytest.raises(TypeError, match="site must be a site's name or a list of names, but is "):
        penalty(site=site)


@pytest.mark.parametrize("penalty", [R1, R2, GradientPenalty])
def test_check_refuses_sites_without_gradients(penalty):
    name = penalty.__name__
    counts, rows = torch.zeros(4, dtype=torch.int64), torch.zeros(4)
    message = (
        rf"{name} needs rows of floating point, .* but found torch.int64 at site 'k'\. "
        r"Convert them, for example with transform=lambda x: x / 255, or use WeightClipping or .*spectral_norm"
    )
    with pytest.raises(ValueError, match=message):
        penalty().check({"k": counts})
    with pytest.raises(ValueError, match=r"found torch\.int64 at site 'k', torch\.bool at site 'b'"):
        penalty().check({"k": counts, "b": counts.bool()})
    message = (
        rf"{name} needs .* those of site 'k' are of type torch.int64. Convert them, or name another site; "
        r"of floating point: 'x'\."
    )
    with pytest.raises(ValueError, match=message):
        penalty(site=["x", "k"]).check({"k": counts, "x": rows})
    with pytest.raises(ValueError, match=r"site 'k' are of type torch.int64. Convert them, or name another site\."):
        penalty(site="k").check({"k": counts})
    message = rf"{name} is given site='y', but the compared sites are 'k', 'x'. Name one of them, or leave out site= "
    with pytest.raises(ValueError, match=message):
        penalty(site="y").check({"k": counts, "x": rows})
    penalty().check({"k": counts, "x": rows})
    penalty(site="x").check({"k": counts, "x": rows})


def test_fake_rows_without_gradients_are_refused_as_they_come():
    judgement = judge(lambda rows: rows["x"] * 2.0, {"x": torch.rand(5)}, {"x": torch.randint(9, (5,))})
    with pytest.raises(ValueError, match=r"R2 needs rows of floating point, .* but found torch\.int64 at site 'x'"):
        R2()(judgement)


@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_relative_weight_needs_more_than_one_row(penalty):
    message = rf"{penalty.__name__}\(relative=True\) .* the first minibatch has 1 row. Train on more .* relative=False"
    with pytest.raises(ValueError, match=message):
        penalty(relative=True).check({"x": torch.zeros(1, 3)})
    penalty().check({"x": torch.zeros(1, 3)})
    penalty(relative=True).check({"x": torch.zeros(2, 3)})
