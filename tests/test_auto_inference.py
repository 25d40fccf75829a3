"""Inference with a discriminator and a guide that build themselves, on sites of all kinds."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference, ImplicitKLqp

PRIORS = {
    "scalar": dist.Normal(torch.tensor(0.0), 1.0),
    "vector": dist.Normal(torch.zeros(3), 1.0).to_event(1),
    "positive": dist.Gamma(torch.tensor(2.0), 1.0),
    "unit interval": dist.Beta(torch.tensor(2.0), 3.0),
    "simplex": dist.Dirichlet(torch.ones(3)),
    "image": dist.Normal(torch.zeros(1, 8, 8), 1.0).to_event(3),
}


def model_of(prior, observes=True):
    """A latent site of that prior, and a noisy sum of it that is observed."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            loc = z.reshape(len(x), -1).mean(1) if z.dim() > 1 else z
            pyro.sample("x", dist.Normal(loc, 0.5), obs=x)

    return model


@pytest.fixture(autouse=True)
def seed():
    pyro.set_rng_seed(0)


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
def test_every_kind_of_latent_site_is_inferred_by_defaults(inference_class, kind, tmp_path):
    prior, x = PRIORS[kind], torch.randn(16)

    def build():
        pyro.clear_param_store()
        model = model_of(prior)
        return inference_class(model, AutoImplicitGuide(model, width=8, depth=1))

    first = build().run(x, num_steps=3, batch_size=8, progress=False)
    draws = first.sample_posterior(x, num_samples=5)["z"]
    assert draws.shape == (5, 16, *prior.event_shape)
    assert prior.support.check(draws).all()
    first.save(tmp_path / "state.pt")
    expected = first.run(x, num_steps=2, batch_size=8, progress=False).history["generator_loss"][-2:]
    second = build().load(tmp_path / "state.pt")
    pyro.set_rng_seed(1)
    second.run(x, num_steps=2, batch_size=8, progress=False)
    assert second.num_steps_taken == first.num_steps_taken == 5 and len(expected) == 2


@pytest.mark.parametrize("kind", PRIORS)
def test_every_kind_of_site_is_compared_by_default(kind):
    prior = PRIORS[kind]
    data = prior.sample((64,))

    def model(batch_size):
        shift = pyro.param("shift", torch.tensor(0.1))
        with pyro.plate("data", batch_size):
            z = prior.rsample((batch_size,))
            return pyro.deterministic("x", z + shift, event_dim=len(prior.event_shape))

    inference = GANInference(model).run(data, num_steps=3, batch_size=32, progress=False)
    assert inference.sample(4).shape == (4, *prior.event_shape)
    assert inference.log_ratio(data).isfinite().all()
    assert "not built" in repr(AutoDiscriminator()) and "x" in repr(inference.discriminator.function)


# ---- posteriors by a discriminator and a guide that build themselves, against importance sampling from the prior

SQUARE = torch.zeros(8, 8)
SQUARE[2:6, 2:6] = 1.0
KINDS = {
    "scalar": (dist.Normal(torch.tensor(0.0), 1.0), lambda z: dist.Normal(z, 0.5)),
    "vector": (dist.Normal(torch.zeros(2), 1.0).to_event(1), lambda z: dist.Normal(z, 0.5).to_event(1)),
    "positive": (dist.Gamma(torch.tensor(2.0), 1.0), lambda z: dist.Gamma(2.0, z)),
    "unit interval": (dist.Beta(torch.tensor(2.0), 3.0), lambda z: dist.Normal(z, 0.15)),
    "simplex": (dist.Dirichlet(torch.ones(3)), lambda z: dist.Normal(z, 0.2).to_event(1)),
    "image": (
        dist.Normal(torch.tensor(0.0), 1.0),
        lambda z: dist.Normal(z[..., None, None] * SQUARE, 2.0).to_event(2),
    ),
    "latent image": (
        dist.Normal(torch.zeros(1, 8, 8), 1.0).to_event(3),
        lambda z: dist.Normal((z[..., 0, :, :] * SQUARE).sum((-2, -1)) / 4, 0.5),
    ),
}
"""The prior of the latent site, and what is observed given it."""


def model_of_kind(kind):
    prior, likelihood = KINDS[kind]

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", likelihood(pyro.sample("z", prior)), obs=x)

    return model


def exact_moments(kind, x, num_draws=200_000):
    """The posterior mean and standard deviation for each row, from weighted draws of the prior."""
    prior, likelihood = KINDS[kind]
    z = prior.sample((num_draws,))
    moments = []
    for row in x:
        weights = likelihood(z).log_prob(row).double().softmax(0)
        values = z.reshape(num_draws, -1).double()
        mean = weights @ values
        moments.append((mean, (weights @ (values - mean).square()).sqrt()))
    return [torch.stack(moment) for moment in zip(*moments, strict=True)]


def test_the_weighted_draws_are_those_of_a_known_posterior():
    x = torch.tensor([1.0, 2.0, 4.0])
    exact = dist.Gamma(4.0, 1 + x)  # of z ~ Gamma(2, 1) and x ~ Gamma(2, z)
    mean, deviation = exact_moments("positive", x)
    torch.testing.assert_close(mean[:, 0], exact.mean.double(), rtol=0.02, atol=0)
    torch.testing.assert_close(deviation[:, 0], exact.stddev.double(), rtol=0.03, atol=0)


def rows_that_agree(kind, inference, x, moments):
    """Whether a row's means are within a tenth of the prior's standard deviation, and its deviations within 20 %."""
    draws = inference.sample_posterior(x, num_samples=8000)["z"].reshape(8000, len(x), -1).double()
    mean, deviation = moments
    spread = KINDS[kind][0].sample((4000,)).reshape(4000, -1).double().std(0)
    near = (draws.mean(0) - mean).abs() / spread < 0.1
    return (near & ((draws.std(0) / deviation - 1).abs() < 0.2)).all(1).double()


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("kind", "num_steps"),
    [
        ("scalar", 1000),
        *(slow(kind, 2000) for kind in ("vector", "positive", "unit interval", "simplex")),
    ],
)
@pytest.mark.parametrize(
    ("inference_class", "options"),
    [(BiGANInference, {}), (ImplicitKLqp, {}), slow(ImplicitKLqp, {"contrast": "prior"})],
)
def test_the_posterior_of_a_latent_of_any_kind_is_recovered(inference_class, options, kind, num_steps):
    prior, likelihood = KINDS[kind]
    data = likelihood(prior.sample((200_000,))).sample()  # hardly any row is seen twice
    x = likelihood(prior.sample((6,))).sample()
    moments = exact_moments(kind, x)
    model = model_of_kind(kind)
    inference = inference_class(model, AutoImplicitGuide(model), **options)
    inference.evaluate_loss(data[:256])
    is_exact = not options and kind in ("scalar", "vector")  # by the regression on x
    assert is_exact or not rows_that_agree(kind, inference, x, moments).all()
    inference.run(data, num_steps=num_steps, batch_size=256, progress=False)
    assert rows_that_agree(kind, inference, x, moments).all()


def moments_given_an_image(x):
    """The posterior mean and standard deviation of the number whose image, beneath noise, is x."""
    return (x * SQUARE).sum((1, 2)) / 20, 5**-0.5  # 16 pixels of variance 4, and the prior: a precision of 5


def moments_given_a_sum(x):
    """Those of each pixel of the image whose middle, summed, is x beneath noise, with shape `(num_rows, 64)`."""
    weight = SQUARE.flatten() / 4
    return 0.8 * x[:, None] * weight, (1 - 0.8 * weight.square()).sqrt()


@pytest.mark.parametrize(("kind", "exact"), [("image", moments_given_an_image), ("latent image", moments_given_a_sum)])
def test_the_weighted_draws_agree_with_the_images_closed_forms(kind, exact):
    prior, likelihood = KINDS[kind]
    x = likelihood(prior.sample((3,))).sample()
    (mean, deviation), weighted = exact(x), exact_moments(kind, x)
    assert (weighted[0] - mean.reshape(3, -1)).abs().max() < 0.05
    assert (weighted[1] - deviation).abs().max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "exact"), [("image", moments_given_an_image), ("latent image", moments_given_a_sum)])
@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
def test_the_posterior_of_an_image_is_recovered(inference_class, kind, exact):
    """For 19 of 20 observations, of 64 noisy pixels, some of which lie far out."""
    prior, likelihood = KINDS[kind]
    data, x = likelihood(prior.sample((100_000,))).sample(), likelihood(prior.sample((60,))).sample()
    moments = [moment.reshape(60, -1).double() for moment in torch.broadcast_tensors(*map(torch.as_tensor, exact(x)))]
    model = model_of_kind(kind)
    inference = inference_class(model, AutoImplicitGuide(model))
    inference.evaluate_loss(data[:256])
    assert rows_that_agree(kind, inference, x, moments).mean() < 0.2
    num_steps = 3000 if inference_class is ImplicitKLqp else 2000
    inference.run(data, num_steps=num_steps, batch_size=256, progress=False)
    assert rows_that_agree(kind, inference, x, moments).mean() >= 0.95
