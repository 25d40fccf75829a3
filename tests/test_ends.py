"""Where a normal distribution lies that is cut at the ends of an interval."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_gan.auto.ends import Ends, hazard


def between(lower, upper, deviation):
    ends = Ends(1, torch.zeros((), dtype=torch.float64))
    ends.move(torch.tensor([lower]), torch.tensor([upper]))
    ends.deviation.fill_(deviation)
    return ends


@pytest.mark.parametrize("number", [-9.0, -3.0, -0.5, 0.0, 1.0, 4.0, 9.0])
def test_the_hazard_is_the_density_over_the_mass_above(number):
    expected = stats.norm.pdf(number) / stats.norm.sf(number)
    assert hazard(torch.tensor(number, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("point", [-3.0, -1.3, -1.0, -0.5, 0.0, 0.8, 1.1, 2.5])
def test_moments_are_those_of_a_truncated_normal_distribution(point):
    cut = stats.truncnorm((-1 - point) / 0.3, (1 - point) / 0.3, point, 0.3)
    means, factors = between(-1.0, 1.0, 0.3).moments(torch.tensor([point], dtype=torch.float64))
    assert means.item() == pytest.approx(cut.mean(), abs=2e-3)
    assert factors.item() == pytest.approx(cut.std() / 0.3, abs=5e-3)


@pytest.mark.parametrize(("distance", "limit"), [(0.0, 0.001), (0.5, 0.025), (1.0, 0.035), (2.0, 0.05), (9.0, 0.07)])
@pytest.mark.parametrize("side", [-1, 1])
def test_beyond_an_end_half_a_normal_distribution_is_close_to_what_is_cut(distance, limit, side):
    point = torch.tensor([side * (1 + 0.3 * distance)], dtype=torch.float64)
    middle, factor = between(-1.0, 1.0, 0.3)(point)
    assert middle.item() == pytest.approx(side)
    places = np.linspace(0, 8, 2001) / (1 + distance)
    cut = 1 - stats.norm.sf(distance + places) / stats.norm.sf(distance)
    assert abs(cut - stats.halfnorm.cdf(places / factor.item())).max() < limit


@pytest.mark.parametrize("call", ["forward", "moments"])
def test_without_ends_nothing_changes(call):
    points = torch.tensor([[-1e30], [0.0], [3.0]], dtype=torch.float64)
    means, factors = getattr(between(-math.inf, math.inf, 1.0), call)(points)
    assert torch.equal(means, points)
    assert torch.equal(factors, torch.ones_like(points))


@pytest.mark.parametrize("ends", [(-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0), (0.0, 1e-4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_however_far_keep_finite_values_and_gradients(ends, dtype):
    points = torch.tensor([[-1e15], [-50.0], [-1e-3], [0.0], [0.3], [7.0], [1e15]], dtype=dtype, requires_grad=True)
    means, factors = between(*ends, 0.1).to(dtype)(points)
    (slopes,) = torch.autograd.grad((means + factors).sum(), points, create_graph=True)
    again = torch.autograd.grad(slopes.square().sum(), points, allow_unused=True)[0]
    for values in (means, factors, slopes, again, *between(*ends, 0.1).to(dtype).moments(points)):
        assert values.isfinite().all()
    assert (factors > 0).all()


def test_the_deviation_is_what_rest_and_factors_tell_up_to_the_widest():
    ends = between(0.0, 1.0, 1.0)
    rest, factors = torch.tensor([[3.0], [-3.0]]).double(), torch.tensor([[0.5], [0.5]]).double()
    assert ends.measure(rest, factors).item() == pytest.approx(6.0)
    assert ends.measure(rest, factors, torch.tensor([4.0])).item() == pytest.approx(4.0)
    assert ends.measure(0 * rest).item() == pytest.approx(1e-3)
