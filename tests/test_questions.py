"""Questions change nothing of what is trained later."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from killed import same
from models import location_model, network_model, networks, scalar_discriminator

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference, ImplicitKLqp

pytestmark = pytest.mark.filterwarnings("ignore:the model.s draws have another place")  # ROWS are far on purpose

ROWS = 5 + 100 * torch.randn(512, 3, generator=torch.Generator().manual_seed(0))


def gan():
    generator = networks()[0]
    return GANInference(network_model(generator, 2), AutoDiscriminator(width=8, depth=1)), ROWS


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 100.0))
        pyro.sample("x", dist.Normal(z, 10.0), obs=x)


def bigan():
    return BiGANInference(model, AutoImplicitGuide(model, width=8, depth=1)), ROWS[:, 0]


def klqp():
    return ImplicitKLqp(model, AutoImplicitGuide(model, width=8, depth=1)), ROWS[:, 0]


QUESTIONS = {
    "evaluate_loss": lambda inference, rows: inference.evaluate_loss(rows),
    "to_inference_data": lambda inference, rows: inference.to_inference_data(rows, num_draws=2),
    "sample": lambda inference, rows: inference.sample(3),
    "print": lambda inference, rows: str(inference.discriminator.function),
}


def trained(build, question=None, rows=None):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    inference, data = build()
    state = torch.get_rng_state()
    if question is not None:
        QUESTIONS[question](inference, data[:4] if rows is None else rows)
    # The weights are drawn when a network builds itself, by a question or later; what it standardizes by is compared.
    torch.set_rng_state(state)
    inference.run(data, num_steps=3, batch_size=256, progress=False)
    buffers = {
        f"{role}.{name}": buffer
        for role, player in inference.players().items()
        if isinstance(player.function, torch.nn.Module)
        for name, buffer in player.function.named_buffers()
    }
    return inference, buffers


@pytest.mark.parametrize("question", [name for name in QUESTIONS if name != "sample"])
@pytest.mark.parametrize("build", [gan, bigan, klqp])
def test_a_question_before_training_does_not_fix_how_networks_standardize(build, question):
    _, expected = trained(build)
    _, found = trained(build, question)
    assert found.keys() == expected.keys() and len(found) >= 2
    for name, buffer in expected.items():
        # Draws that latents are standardized by are new ones; what the data standardize is the same to the last bit.
        if "posterior.own" in name or (".sites." in name and build is not gan):
            # Of 512 draws with deviation 100, means differ by 6 as a rule.
            assert torch.allclose(found[name], buffer, rtol=0.2, atol=25.0)
        elif "regression" in name:  # of such draws on the data, in standard units
            assert torch.allclose(found[name], buffer, rtol=0.2, atol=0.2)
        else:
            assert torch.equal(found[name], buffer)


def test_a_deviation_of_a_hundred_is_learned_as_a_hundred_after_a_question_of_four_rows():
    _, found = trained(gan, "evaluate_loss", ROWS[:4] * 1e-3)
    scale = found["discriminator.sites.0.scale"]
    assert torch.allclose(scale, ROWS.std(0), rtol=0.15)


def test_a_question_before_a_state_is_loaded_leaves_the_state_as_it_is():
    pyro.clear_param_store()
    inference, data = gan()
    state = inference.run(data, num_steps=2, progress=False).state_dict()
    pyro.clear_param_store()
    other, _ = gan()
    other.evaluate_loss(data[:4])
    with pytest.raises(ValueError, match="there is no state before the first step"):
        other.state_dict()  # what four rows standardize is nobody's state
    other.load_state_dict(state)
    other.step(data[:50])
    buffers = dict(other.discriminator.function.named_buffers())
    expected = dict(inference.discriminator.function.named_buffers())
    assert same(buffers, expected) and len(buffers) >= 2


def test_a_log_ratio_needs_a_discriminator_that_is_built():
    inference, data = gan()
    message = "log_ratio was called before the first step, but the discriminator builds itself on the first minibatch"
    with pytest.raises(ValueError, match=message):
        inference.log_ratio(data[:1])
    assert not inference.discriminator.function.is_built
    inference.run(data, num_steps=2, progress=False)
    assert inference.log_ratio(data[:1]).shape == (1,)


@pytest.mark.parametrize("question", [*QUESTIONS, "log_ratio"])
def test_a_question_within_training_changes_no_state(question):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    inference, data = gan()
    inference.run(data, num_steps=2, progress=False)
    before = inference.state_dict()
    if question == "log_ratio":
        inference.log_ratio(data[:1])
    else:
        QUESTIONS[question](inference, data[:4])
    assert same(inference.state_dict(), before)


def test_questions_of_a_users_own_networks_have_no_effect_but_on_random_numbers():
    def run(asks):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference, data = GANInference(location_model, scalar_discriminator(4)), ROWS[:, 0]
        if asks:
            state = torch.get_rng_state()
            inference.evaluate_loss(data[:4]), inference.log_ratio(data[:1]), inference.sample(2)
            inference.to_inference_data(data[:4], num_draws=2)
            torch.set_rng_state(state)
        return inference.run(data, num_steps=5, progress=False).state_dict()

    assert same(run(True), run(False))


def test_averages_are_not_trained_on():
    inference = GANInference(location_model, scalar_discriminator(4), ema_decay=0.9)
    inference.step(ROWS[:, 0])
    with inference.averaged():
        with pytest.raises(ValueError, match=r"within averaged\(\) the parameters have the values of their averages"):
            inference.step(ROWS[:, 0])
        with pytest.raises(ValueError, match=r"within averaged\(\)"):
            inference.run(ROWS[:, 0], num_steps=2, progress=False)
    inference.step(ROWS[:, 0])


def test_averages_do_not_outlive_the_parameters_that_they_are_of():
    inference = GANInference(location_model, scalar_discriminator(4), ema_decay=0.99)
    inference.run(ROWS[:, 0] / 100, num_steps=50, progress=False)
    assert abs(inference.average.values["loc"].item()) > 0.01
    pyro.clear_param_store()
    with pytest.raises(ValueError, match=r"averages are of parameters that Pyro's store no longer has \('loc'\)"):
        inference.sample(3, averaged=True)
    inference.step(ROWS[:, 0] / 100)
    assert inference.average.values["loc"].item() == pytest.approx(pyro.param("loc").item())
    assert np.isfinite(inference.sample(3, averaged=True).numpy()).all()
