"""Lines of latents on observations: which of them are drawn between ends, and how far latents lie beside them."""

import pytest
import torch
from torch.distributions import StudentT

from pyro_gan.auto.lines import _between, fitted

ENDS = -torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)


def flat(num_rows, num_latents=1):
    torch.manual_seed(0)
    return 2 * torch.rand(num_rows, num_latents, dtype=torch.float64) - 1


def centered(given):
    return given - given.mean(0)


def have_ends(latents, given):
    """Which latents are given their ends at -1 and 1."""
    ends = (end.expand(latents.shape[1]) for end in ENDS)
    return fitted(latents, centered(given), tuple(ends)).ends.upper.isfinite().tolist()


def noise(kind, num_rows):
    if kind == "StudentT":
        return StudentT(3.0).sample((num_rows, 1)).double()
    normal = torch.randn(num_rows, 1, dtype=torch.float64)
    return normal * (0.7 * torch.randn(num_rows, 1, dtype=torch.float64)).exp() if kind == "of all widths" else normal


@pytest.mark.parametrize("kind", ["normal", "StudentT", "of all widths"])
@pytest.mark.parametrize("width", [0.02, 0.1, 0.3])
def test_a_number_that_is_seen_with_noise_has_its_ends(kind, width):
    latents = flat(1024)
    assert have_ends(latents, latents + width * noise(kind, 1024)) == [True]


@pytest.mark.parametrize("x", [1.15, 1.5, 3.0])
def test_an_odd_row_changes_nothing(x):
    latents = flat(1024)
    latents[0], given = 0.0, latents + 0.05 * noise("normal", 1024)
    expected = fitted(latents[1:], centered(given[1:]), ENDS)
    given[0] = x
    line = fitted(latents, centered(given), ENDS)
    assert line.ends.upper.item() == 1.0
    assert torch.allclose(line.slope, expected.slope, rtol=0.02)
    assert torch.allclose(line.root, expected.root, rtol=0.1)


def test_latents_of_which_a_difference_is_known_keep_the_line_that_tells_how_narrow_they_are():
    """Cut at the ends number by number, they would not know their difference; a third latent has its ends beside."""
    latents = flat(1024, 3)
    given = torch.stack([latents[:, 0] - latents[:, 1], latents[:, 2]], 1) + 0.05 * torch.randn(1024, 2).double()
    assert have_ends(latents, given) == [False, False, True]
    line = fitted(latents, centered(given), tuple(end.expand(3) for end in ENDS))
    assert (line.root[0] - line.root[1]).norm() < 0.06


def test_latents_of_which_nothing_is_known_have_the_plain_line():
    latents = flat(1024)
    assert have_ends(latents, noise("normal", 1024)) == [False]


def test_the_deviation_between_ends_is_at_most_twice_that_beside_the_plain_line():
    """No deviation would be too large for latents at both ends of which next to nothing is known."""
    latents = 0.99 * flat(5000).sign()
    given = centered(latents + 5 * noise("normal", 5000))
    plain = _between(latents, given, torch.stack([-torch.inf * ENDS[1], torch.inf * ENDS[1]]))
    line = _between(latents, given, torch.stack(ENDS))
    assert line.ends.deviation.item() == pytest.approx(2 * plain.ends.deviation.item(), rel=1e-3)
    assert line.slope.isfinite().all() and line.root.isfinite().all()


def test_the_density_of_what_comes_back_at_the_ends_is_one_between_them():
    latents = flat(2000)
    line = fitted(latents, centered(latents + 0.3 * noise("normal", 2000)), ENDS)
    places = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    for x in (-1.5, -0.9, 0.0, 1.2):
        given = torch.full_like(places, x)
        mass = torch.trapezoid(line.log_densities(places, given, torch.stack(ENDS)).exp(), places[:, 0])
        assert mass.item() == pytest.approx(1.0, abs=0.02)
