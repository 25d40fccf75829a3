"""What is told before the first step though it may be meant."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from models import network_model, networks
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from pyro_gan import AutoDiscriminator, BiGANInference, GANInference, WGANInference
from pyro_gan.losses import NonSaturating
from pyro_gan.penalties import R1, R2, GradientPenalty, WeightClipping

ROWS = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
APART = torch.tensor([1.0, 1e-5, 3e3])
"""What columns are multiplied by."""


def network(layer):
    return nn.Sequential(nn.Linear(3, 8), layer, nn.LeakyReLU(0.2), nn.Linear(8, 1))


def inference(discriminator, inference_class=GANInference, **options):
    pyro.clear_param_store()
    return inference_class(network_model(networks()[0], 2), discriminator, **options)


class MinibatchDiscrimination(nn.Module):
    def forward(self, rows):
        return rows - rows.mean(0)


def with_critic(**options):
    return {"inference_class": WGANInference, **options}


MIXING = r"takes the slope of the logit at each row, but in this discriminator a row's logit depends on the other rows"


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), MinibatchDiscrimination()])
@pytest.mark.parametrize(
    ("options", "penalty"),
    [
        ({}, "ZeroCentredGradientPenalty"),
        (with_critic(), "GradientPenalty"),
        ({"loss": NonSaturating(), "penalty": [WeightClipping(0.1), R2(1.0)]}, "R2"),
    ],
)
def test_a_discriminator_that_mixes_rows_below_a_penalty_of_gradients_is_told_of_once(layer, options, penalty):
    one = inference(network(layer), **options)
    with pytest.warns(RuntimeWarning, match=rf"^{penalty} {MIXING}.*, as with batch.*Use nn.LayerNorm") as told:
        one.run(ROWS, num_steps=3, batch_size=16, progress=False)
    assert len(told) == 1
    one.run(ROWS, num_steps=1, batch_size=16, progress=False)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (nn.BatchNorm1d(8), {"loss": NonSaturating()}),
        (nn.BatchNorm1d(8), with_critic(clip=0.1)),
        (nn.BatchNorm1d(8).eval(), {}),
        *((layer, {}) for layer in (nn.Dropout(0.3), nn.LayerNorm(8), spectral_norm(nn.Linear(8, 8)))),
        (nn.Identity(), {"loss": NonSaturating(), "penalty": R1(1.0)}),
        (nn.Identity(), with_critic(penalty=GradientPenalty(1.0))),
    ],
)
def test_nothing_is_told_where_a_logit_is_a_rows_own_or_no_gradient_of_it_is_penalized(layer, options):
    inference(network(layer), **options).run(ROWS, num_steps=2, batch_size=16, progress=False)


def test_the_look_at_it_changes_neither_statistics_nor_random_numbers():
    judge = network(nn.BatchNorm1d(8))
    before = [value.clone() for value in (*judge.buffers(), *judge.parameters())]
    one, state = inference(judge), torch.get_rng_state()
    with pytest.warns(RuntimeWarning, match=MIXING):
        one.get_ready((ROWS,))
    assert all(map(torch.equal, before, (*judge.buffers(), *judge.parameters())))
    assert torch.equal(torch.get_rng_state(), state)


SCALES = r"site 'x'\[1\] with a scale of about \de-0\d beside site 'x'\[2\] with a scale of about \de\+03, of which.*"


@pytest.mark.filterwarnings("ignore:the .*draws have another place")
def test_columns_of_scales_far_apart_are_told_of_once():
    one = inference(networks()[1])
    with pytest.warns(RuntimeWarning, match=SCALES + "Use AutoDiscriminator, .*, or standardize them") as told:
        one.run(ROWS * APART, num_steps=3, batch_size=64, progress=False)
    assert ["sees site" in str(each.message) for each in told].count(True) == 1


def images():
    """As of digits, mostly 0 in the margins and faint in one image there."""
    rows = torch.rand(100, 3) * (torch.rand(100, 3) < torch.tensor([0.9, 0.5, 0.0]))
    rows[7, 2] = 1 / 255
    return rows


@pytest.mark.filterwarnings("ignore:the .*draws have another place")
@pytest.mark.parametrize(
    "data",
    [
        ROWS * torch.tensor([1.0, 1e-3, 5.0]),
        torch.cat([ROWS[:, :2], torch.full((100, 1), 1e7)], 1),  # a constant has no scale
        torch.cat([ROWS[:99], torch.tensor([[1e9, 0.0, 0.0]])]),  # nor has a single outlier
        images(),
        ROWS[:1] * APART,
    ],
    ids=["a thousandfold", "constant", "outlier", "images", "one row"],
)
def test_no_scales_are_told_of_where_they_are_near_each_other_or_unknown(data):
    inference(networks()[1], loss=NonSaturating()).run(data, num_steps=1, progress=False)


@pytest.mark.filterwarnings("ignore:the .*draws have another place")
def test_no_scales_are_told_of_where_the_discriminator_brings_them_together():
    judge = networks()[1]
    inference(lambda x: judge(x / APART)).run(ROWS * APART, num_steps=1, progress=False)
    inference(AutoDiscriminator(width=8)).run(ROWS * APART, num_steps=1, progress=False)


@pytest.mark.filterwarnings("ignore:the .*draws have another place")
def test_scales_of_latents_beside_data_are_told_of_by_site():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1e-5))
            pyro.sample("x", dist.Normal(1e5 * z, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.1)) * x, 1.0))

    judge = nn.Linear(2, 1)
    one = BiGANInference(model, guide, lambda z, x: judge(torch.stack([z, x], 1)))
    with pytest.warns(RuntimeWarning, match=r"sees site 'z' with a scale of about \de-05 beside site 'x' with a scale"):
        one.run(torch.randn(100), num_steps=1, progress=False)


def test_whole_numbers_and_what_reads_nothing_but_them_have_no_scale_to_tell():
    table = nn.Embedding(20, 4)
    head = nn.Linear(4, 1)

    def model(batch_size):
        pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            loc = pyro.param("loc", torch.tensor(0.0))
            pyro.deterministic("x", loc + torch.randn(batch_size), event_dim=0)

    inference = GANInference(model, lambda x: head(table((x.clamp(0, 19)).long())), loss=NonSaturating())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inference.run(torch.randn(50), num_steps=1, progress=False)


@pytest.mark.parametrize("num_rows", [2, 100])
def test_data_of_fewer_rows_than_a_minibatch_are_all_in_each(num_rows):
    one = inference(networks()[1]).run(ROWS[:num_rows], num_steps=2, progress=False)
    assert len(one.last_batch()[0]) == num_rows


def test_a_single_row_is_refused_where_its_variance_is_needed():
    with pytest.raises(ValueError, match=r"the variance over the rows, but the first minibatch has 1 row. Train on"):
        GANInference(network_model(networks()[0], 2), networks()[1]).run(ROWS[:1], num_steps=2, progress=False)


DARK = torch.rand(100, 8, 16, generator=torch.Generator().manual_seed(0)).pow(6)  # mostly near 0, as of dark images
LIGHT = 4 * (1 - DARK)
OFFSET = r"site 'x' has 128 features that lie around 3.43, far from 0 beside their deviations of about 0.9\d*: a step"


def of_images(discriminator, data=LIGHT, **options):
    pyro.clear_param_store()
    generator = nn.Sequential(nn.Linear(2, 128), nn.Unflatten(1, (8, 16)))

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=2)

    one = GANInference(model, discriminator, **options)
    return one.run(data, num_steps=2, batch_size=100, progress=False)


def frozen(layer):
    return layer.requires_grad_(False)


class Fewer(nn.Module):
    """Rows less a constant."""

    def forward(self, rows):
        return rows - 4


def test_rows_far_from_0_that_a_linear_layer_reads_are_told_of_once():
    with pytest.warns(RuntimeWarning, match=OFFSET + r".*layer by 0.88 at once.*Scale the data so that") as told:
        of_images(nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)))
    assert len(told) == 1


def test_they_are_told_of_beside_a_condition_too():
    network = nn.Linear(129, 1)
    with pytest.warns(RuntimeWarning, match=OFFSET):
        of_images(lambda x: network(torch.cat([torch.ones(len(x), 1), x.flatten(1)], 1)))


@pytest.mark.parametrize(
    ("layers", "arguments"),
    [
        ([nn.Flatten(), nn.Linear(128, 1)], {"data": 4 * DARK}),
        ([Fewer(), nn.Flatten(), nn.Linear(128, 1)], {}),
        ([nn.Flatten(), nn.Linear(128, 1)], {"optim_d": lambda parameters: torch.optim.Adam(parameters, lr=1e-4)}),
        ([nn.Flatten(), frozen(nn.Linear(128, 8)), nn.Linear(8, 1)], {}),
        ([nn.Flatten(), nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)], {"penalty": ()}),
        ([nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 2, 4, 4), nn.Flatten(), nn.Linear(16, 1)], {}),
    ],
)
def test_no_offset_is_told_of_where_it_does_no_harm(layers, arguments):
    of_images(nn.Sequential(*layers), **arguments)


def test_no_offset_is_told_of_where_the_discriminator_builds_itself():
    of_images(AutoDiscriminator())
