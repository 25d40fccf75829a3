"""Models in stages: each compared site has a discriminator of its own, whose losses add."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_gan import AutoDiscriminator, BiGANInference, GANInference, WGANInference
from pyro_gan.losses import Minimax, NonSaturating, Relativistic
from pyro_gan.penalties import R1, GradientPenalty
from pyro_gan.players.selection import Selection

DRAFT = torch.linspace(-1, 1, 64) + 3.0
IMAGE = torch.stack([DRAFT, 2 * DRAFT], 1)
DATA = {"draft": DRAFT, "image": IMAGE}


def model(batch_size):
    first = pyro.param("first", torch.tensor([0.5, 1.0]))
    second = pyro.param("second", torch.tensor([1.0, 1.5]))
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        draft = pyro.deterministic("draft", first[0] + first[1] * eps, event_dim=0)
        return pyro.deterministic("image", draft[:, None] * second, event_dim=1)


def networks():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)), nn.Linear(2, 1)


def stages(of_draft, of_image):
    return {"draft": lambda draft: of_draft(draft[:, None]), "image": of_image}


@pytest.fixture(autouse=True)
def seed():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), Relativistic()])
def test_losses_of_stages_add(loss):
    of_draft, of_image = networks()
    inference = GANInference(model, stages(of_draft, of_image), loss=loss)
    inference.step(DATA, player="generator")
    found = {}
    for name, discriminator in stages(of_draft, of_image).items():
        pyro.set_rng_seed(1)
        found[name] = GANInference(model, discriminator, loss=loss, site=name).evaluate_loss(DATA[name])
    pyro.set_rng_seed(1)
    together = inference.evaluate_loss(DATA)
    torch.testing.assert_close(together.discriminator, sum(each.discriminator for each in found.values()))
    pyro.set_rng_seed(1)
    stepped = inference.step(DATA, player="discriminator").discriminator
    torch.testing.assert_close(stepped, together.discriminator)


def test_penalties_of_stages_add():
    def penalty_of(sites, penalty):
        of_draft, of_image = networks()
        parts = {name: each for name, each in stages(of_draft, of_image).items() if name in sites}
        inference = GANInference(model, parts, loss=NonSaturating(), penalty=penalty, site=list(parts))
        pyro.set_rng_seed(1)
        inference.run({name: DATA[name] for name in sites}, num_steps=1, batch_size=64, progress=False)
        return inference.history["penalty"][0]

    both = penalty_of(["draft", "image"], R1(2.0))
    assert both == pytest.approx(penalty_of(["draft"], R1(2.0)) + penalty_of(["image"], R1(2.0)), rel=1e-4)
    assert penalty_of(["draft", "image"], R1(2.0, site="image")) == pytest.approx(penalty_of(["image"], R1(2.0)))
    _, linear = networks()
    assert penalty_of(["image"], R1(2.0)) == pytest.approx(linear.weight.square().sum().item(), rel=1e-4)
    assert penalty_of(["draft", "image"], GradientPenalty()) > 0


@pytest.mark.parametrize("data", [DATA, (DRAFT, IMAGE)])
@pytest.mark.parametrize("make", [GANInference, WGANInference])
def test_stages_are_trained_together(data, make):
    inference = make(model, {"draft": AutoDiscriminator(width=32), "image": AutoDiscriminator(width=32)})
    before = [pyro.param(name).clone() for name in ()]
    inference.run(data, num_steps=3, batch_size=32, progress=False)
    assert not before and set(inference.sample(5)) == {"draft", "image"}
    assert inference.sample(5)["image"].shape == (5, 2)
    moved = inference.generator_parameters()
    assert not torch.equal(moved["first"], torch.tensor([0.5, 1.0]))
    assert not torch.equal(moved["second"], torch.tensor([1.0, 1.5]))


def test_one_after_the_other_learns_both():
    discriminators = {"draft": AutoDiscriminator(width=32, depth=2), "image": AutoDiscriminator(width=32, depth=2)}
    rows = 3 + torch.randn(2000)
    data = {"draft": rows, "image": torch.stack([rows, 2 * rows], 1)}
    first = GANInference(model, {"draft": discriminators["draft"]}, site="draft")
    first.run({"draft": data["draft"]}, num_steps=300, progress=False)
    frozen = pyro.param("first").clone()
    assert frozen[0].item() == pytest.approx(3.0, abs=0.4)
    second = GANInference(model, {"image": discriminators["image"]}, site="image", exclude="first")
    second.run({"image": data["image"]}, num_steps=300, progress=False)
    assert torch.equal(pyro.param("first"), frozen)
    ratio = pyro.param("second")[1] / pyro.param("second")[0]
    assert ratio.item() == pytest.approx(2.0, abs=0.15)
    assert (pyro.param("second") - torch.tensor([1.0, 2.0])).abs().max() < 0.3


def test_conditions_reach_every_stage():
    seen = {"draft": [], "image": []}

    def conditional(labels):
        first = pyro.param("first", torch.tensor([2.0, 4.0]))
        with pyro.plate("data", len(labels)):
            draft = pyro.deterministic("draft", first[labels] + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)
            return pyro.deterministic("image", torch.stack([draft, 2 * draft], 1), event_dim=1)

    of_draft, of_image = nn.Linear(2, 1), nn.Linear(3, 1)

    def draft_discriminator(draft, labels):
        seen["draft"].append(labels)
        return of_draft(torch.stack([draft, labels.float()], 1))

    def image_discriminator(image, labels):
        seen["image"].append(labels)
        return of_image(torch.cat([image, labels.float()[:, None]], 1))

    labels = (DRAFT > 3).long()
    parts = {"draft": draft_discriminator, "image": image_discriminator}
    for data in (DRAFT, IMAGE, labels), {**DATA, "labels": labels}:
        inference = GANInference(conditional, parts, matching_aware=True, loss=NonSaturating())
        inference.run(data, num_steps=2, batch_size=64, progress=False)
        assert inference.sample(3, [0, 1, 1])["image"].shape == (3, 2)
    # the default order of a minibatch of all rows is the data's
    assert any(torch.equal(each, labels) for each in seen["draft"])
    assert any(torch.equal(each, 1 - labels) for each in seen["image"])


def test_a_stage_may_see_another():
    seen = []
    network = nn.Linear(3, 1)

    def of_image(image, draft):
        seen.append((image, draft))
        return network(torch.cat([image, draft[:, None]], 1))

    inference = GANInference(model, {"image": of_image}, site=["draft", "image"], loss=NonSaturating())
    inference.step(DATA)
    assert any(torch.equal(image, IMAGE) and torch.equal(draft, DRAFT) for image, draft in seen)


def test_each_stage_has_a_log_ratio():
    of_draft, of_image = networks()
    inference = GANInference(model, stages(of_draft, of_image), loss=NonSaturating())
    inference.step(DATA)
    torch.testing.assert_close(inference.log_ratio({"image": IMAGE}), of_image(IMAGE)[:, 0])
    with pytest.raises(ValueError, match="each stage has a log ratio of its own, but rows of 'draft', 'image' were"):
        inference.log_ratio(DATA)
    relative = GANInference(model, {"draft": AutoDiscriminator(), "image": AutoDiscriminator()})
    relative.step(DATA)
    assert relative.log_ratio({"draft": DRAFT}).shape == (64,)


@pytest.mark.parametrize("builds_itself", [False, True])
def test_a_state_of_stages_goes_on(builds_itself, tmp_path):
    def inference():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        parts = {name: AutoDiscriminator(width=8) for name in DATA} if builds_itself else stages(*networks())
        return GANInference(model, parts)

    whole = inference().run(DATA, num_steps=6, batch_size=64, progress=False)
    expected = [leaf.detach().clone() for leaf in whole.discriminator.parameters.values()]
    first = inference()
    for _ in range(3):
        first.step(DATA)
    first.save(tmp_path / "state")
    states = torch.get_rng_state()
    other = inference().load(tmp_path / "state")
    torch.set_rng_state(states)
    other.step(DATA)
    torch.set_rng_state(states)
    assert expected and other.num_steps_taken == 4
    pyro.clear_param_store()
    again = inference().load(tmp_path / "state")
    torch.set_rng_state(states)
    again.step(DATA)
    for one, another in zip(
        other.discriminator.parameters.values(), again.discriminator.parameters.values(), strict=True
    ):
        assert torch.equal(one, another)


@pytest.mark.slow
def test_compiled_stages_are_the_same():
    def losses(compile):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = GANInference(model, {name: AutoDiscriminator(width=8, depth=1) for name in DATA})
        inference.run(DATA, num_steps=4, batch_size=32, compile=compile, progress=False)
        return inference.history["discriminator_loss"]

    assert losses(True) == pytest.approx(losses(False), abs=1e-4)


@pytest.mark.parametrize(
    ("discriminator", "options", "error", "message"),
    [
        (
            {"draft": AutoDiscriminator()},
            {},
            ValueError,
            "the site 'image' has no discriminator: there are",
        ),
        (
            {"draft": AutoDiscriminator()},
            {"site": ["draft", "image"]},
            ValueError,
            "the site 'image' has no d",
        ),
        (
            {"draft": AutoDiscriminator(), "large": AutoDiscriminator()},
            {},
            ValueError,
            "site='large' is not a site of the model; it has 'eps', 'draft', 'image'",
        ),
        ({}, {}, ValueError, "discriminator is a mapping without a stage"),
        ({"draft": 3}, {}, TypeError, "discriminator must be a callable, or a mapping of callables by site .* has 3"),
    ],
)
def test_stages_without_their_discriminator(discriminator, options, error, message):
    with pytest.raises(error, match=message):
        GANInference(model, discriminator, **options).run(DATA, num_steps=1, progress=False)
    assert not any(getattr(each, "is_built", False) for each in discriminator.values())


def test_an_error_is_mended_in_the_same_inference():
    inference = GANInference(model, {name: AutoDiscriminator(width=8) for name in DATA})
    inference.selection = Selection("nothing", ())
    with pytest.raises(ValueError, match="nothing"):
        inference.step(DATA)
    inference.selection = Selection(None, ())
    assert not any(stage.is_known for stage in inference.discriminator.stages.values())
    inference.step(DATA)
    assert inference.discriminator.stages["image"].is_known


def test_a_guide_has_one_discriminator():
    with pytest.raises(TypeError, match="BiGANInference takes one discriminator of latent and observed sites together"):
        BiGANInference(model, lambda draft: None, {"draft": AutoDiscriminator()})
