"""Ranks of true rows among draws by their near neighbours."""

import pytest
import torch
from scipy.stats import kstest

from pyro_gan.criticism import calibration_ranks, calibration_test
from pyro_gan.inference.ranks import local_ranks


def two_modes(weight, width, *shape, seed):
    """Numbers around -5 and, with that weight, 5."""
    generator = torch.Generator().manual_seed(seed)
    is_upper = torch.rand(*shape, generator=generator) < weight
    return torch.where(is_upper, 5.0, -5.0) + width * torch.randn(*shape, generator=generator)


def test_by_hand():
    # Of four draws one is near. A row 10 is 7 from 3, all draws are 1 from another: four are below, and itself a half.
    draws = [torch.tensor([[at]]) for at in (0.0, 1.0, 2.0, 3.0)]
    assert local_ranks(draws, torch.tensor([[10.0]])).tolist() == pytest.approx([4.5 / 5])
    # A row 1.5 is half from 1 and 2, which are as near to it: two ties of one half each.
    assert local_ranks(draws, torch.tensor([[1.5]])).tolist() == pytest.approx([1.5 / 5])


@pytest.mark.parametrize("num_numbers", [1, 3])
def test_ranks_of_rows_like_the_draws_have_a_mean_of_a_half_and_are_nearly_uniform(num_numbers):
    # Not quite: two points that are each other's neighbours share a place.
    numbers = two_modes(0.3, 1.0, 32, 20_000, num_numbers, seed=0)
    ranks = local_ranks(list(numbers[1:]), numbers[0])
    assert ranks.mean().item() == pytest.approx(0.5, abs=3 / (12 * 20_000) ** 0.5)
    assert kstest(ranks.numpy(), "uniform").statistic < 0.04


def test_the_mean_tells_which_are_too_wide_and_too_narrow():
    truth = two_modes(0.5, 1.0, 5000, 2, seed=1)
    means = [
        local_ranks(list(two_modes(0.5, width, 31, 5000, 2, seed=2)), truth).mean().item() for width in (0.5, 1.0, 2.0)
    ]
    assert means[0] > 0.6
    assert means[1] == pytest.approx(0.5, abs=0.015)
    assert means[2] < 0.45


def along_a_diagonal(width, *shape, seed):
    """Two numbers whose sum is standard normal, and whose difference has that deviation."""
    total, difference = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack([total + width * difference, total - width * difference], -1)


@pytest.mark.parametrize(("width", "low", "high"), [(0.05, 0.515, 1.0), (0.1, 0.485, 0.515), (0.2, 0.0, 0.485)])
def test_the_width_in_a_direction_between_the_numbers_shows(width, low, high):
    truth, draws = along_a_diagonal(0.1, 5000, seed=3), along_a_diagonal(width, 31, 5000, seed=4)
    assert low < local_ranks(list(draws), truth).mean().item() < high
    ranks = calibration_ranks(truth, draws.transpose(0, 1))
    assert calibration_test(ranks, num_draws=31).spread.numpy() == pytest.approx([1.0, 1.0], abs=0.05)


def test_draws_far_from_zero_and_close_to_each_other_keep_their_ranks():
    numbers = torch.randn(32, 500, 4, generator=torch.Generator().manual_seed(5)).double()
    near = local_ranks(list(numbers[1:]), numbers[0])
    assert torch.equal(local_ranks(list(1e6 + 1e-3 * numbers[1:]), 1e6 + 1e-3 * numbers[0]), near)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_without_numbers_have_no_rank(bad):
    truth, draws = torch.zeros(3, 2), torch.randn(31, 3, 2, generator=torch.Generator().manual_seed(6))
    truth[0, 1] = draws[4, 1, 0] = bad
    assert local_ranks(list(draws), truth).isnan().tolist() == [True, True, False]
