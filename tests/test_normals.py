"""A network of normal densities and mixtures of two: its likelihoods, and what it finds."""

import math

import pytest
import torch
from torch import distributions

from pyro_gan.auto import normals
from pyro_gan.auto.normals import LARGEST, SMALLEST, Normals, fitted, told


def some(num_rows=5, num_latents=2):
    generator = torch.Generator().manual_seed(0)
    mean, log, odds, one, other, log_one, log_other = torch.randn(7, num_rows, num_latents, generator=generator)
    return Normals(mean, log, odds, (one, other), (log_one, log_other)), torch.randn(num_rows, num_latents)


def test_losses_are_those_of_a_normal_distribution():
    found, rows = some()
    exact = distributions.Normal(found.mean, found.log_deviation.exp()).log_prob(rows)
    assert torch.allclose(found.losses(rows) + math.log(2 * math.pi) / 2, -exact, atol=1e-5)


def test_losses_of_two_are_those_of_a_mixture():
    found, rows = some()
    heaps = distributions.Normal(torch.stack(found.means, -1), torch.stack(found.log_deviations, -1).exp())
    weights = distributions.Categorical(logits=torch.stack([found.odds, torch.zeros_like(found.odds)], -1))
    exact = distributions.MixtureSameFamily(weights, heaps).log_prob(rows)
    assert torch.allclose(found.losses_of_two(rows) + math.log(2 * math.pi) / 2, -exact, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "gap", "deviations", "expected"),
    [
        (0.5, 3.1, (1.0, 0.5), True),
        (0.5, 2.9, (1.0, 0.5), False),
        (0.06, 3.1, (1.0, 0.5), True),
        (0.94, 3.1, (1.0, 0.5), True),
        (0.04, 3.1, (1.0, 0.5), False),
        (0.96, 3.1, (1.0, 0.5), False),
    ],
)
def test_heaps_are_two_where_they_hardly_overlap_and_neither_is_rare(weight, gap, deviations, expected):
    weight, gap, *logs = (torch.tensor([[each]]) for each in (weight, gap, *map(math.log, deviations)))
    zero = torch.zeros(1, 1)
    assert Normals(zero, zero, weight.logit(), (zero, gap), tuple(logs)).have_two_heaps().item() == expected


def test_a_fit_finds_two_heaps_and_their_middle(monkeypatch):
    """Of one latent at ±(2 + u), the other around u."""
    monkeypatch.setattr(normals, "NUM_STEPS", 800)
    generator = torch.Generator().manual_seed(0)
    given, noise = torch.randn(4000, 1, generator=generator), torch.randn(4000, 2, generator=generator)
    sign = 2.0 * torch.randint(2, (4000, 1), generator=generator) - 1
    rows = torch.cat([sign * (2 + given.tanh()), given], 1) + 0.1 * noise
    found = told(fitted(rows, given, 400, generator), given[:400])
    assert found.have_two_heaps().double().mean(0).tolist() == pytest.approx([1.0, 0.0], abs=0.02)
    assert found.mean[:, 0].abs().mean() < 0.3
    assert (found.mean[:, 1] - given[:400, 0]).abs().mean() < 0.05
    upper = torch.maximum(*found.means)[:, 0]
    assert (upper - 2 - given[:400, 0].tanh()).abs().mean() < 0.1


@pytest.mark.parametrize(("sign", "limit"), [(1.0, LARGEST), (-1.0, SMALLEST)])
def test_deviations_keep_limits(sign, limit):
    hidden = [torch.ones(4, 1), torch.zeros(4), torch.ones(4, 4), torch.zeros(4)]
    found = told([*hidden, sign * torch.ones(7, 4), torch.zeros(7)], torch.full((3, 1), 1e6))
    assert (torch.stack([found.log_deviation, *found.log_deviations]) == limit).all()
