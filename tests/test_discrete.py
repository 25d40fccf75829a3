"""Discrete latents: which of several mechanisms made an observation, and what else can be learned of it."""

import copy
import itertools
import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from torch import nn

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, ImplicitKLqp
from pyro_gan.export import to_inference_data
from pyro_gan.inference.energy import label_score
from pyro_gan.players.discrete import has_probabilities, log_probabilities, score_function

LOC, SCALE, PRIOR = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 2.0]), torch.tensor([0.5, 0.3, 0.2])
"""Three mechanisms that make four numbers: normal ones, of another place, or wider; and how probable each is."""

LABELS = {
    "categorical": dist.Categorical(torch.tensor([0.2, 0.3, 0.5])),
    "bernoulli": dist.Bernoulli(torch.tensor(0.3)),
    "one-hot": dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])),
    "count": dist.Binomial(4, torch.tensor(0.3)),
    "vector": dist.Categorical(torch.ones(2, 3)).to_event(1),
    "one-hot vector": dist.OneHotCategorical(torch.ones(2, 3)).to_event(1),
    "matrix": dist.Bernoulli(0.5 * torch.ones(2, 3)).to_event(2),
}


def mechanisms(batch_size):
    with pyro.plate("data", batch_size):
        m = pyro.sample("m", dist.Categorical(PRIOR))
        pyro.sample("x", dist.Normal(LOC[m, None], SCALE[m, None]).expand([batch_size, 4]).to_event(1))


def exact_probabilities(x):
    return (PRIOR.log() + dist.Normal(LOC, SCALE).log_prob(x.unsqueeze(-1)).sum(-2)).softmax(-1)


def model_of(prior, continuous=False):
    """A discrete latent, a continuous one beside it where asked for, and a noisy sum that is observed."""

    def model(x):
        with pyro.plate("data", len(x)):
            m = pyro.sample("m", prior)
            loc = m.reshape(len(x), -1).float().mean(1)
            if continuous:
                loc = loc + pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(loc, 0.5), obs=x)

    return model


def simulations(model, number):
    drawn = Predictive(model, num_samples=1)(batch_size=number)
    return {site: rows[0] for site, rows in drawn.items()}


def small_guide(model, **options):
    return AutoImplicitGuide(model, width=8, depth=1, **options)


def small_discriminator():
    return AutoDiscriminator(width=8, depth=1)


# ---- the gradient without a path, and the score


def test_the_score_functions_mean_gradient_is_that_of_the_expected_cost():
    """Over all 3² draws of two rows, each weighted by its probability."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    costs = torch.randn(2, 3, dtype=torch.float64)
    fn = dist.Categorical(logits=logits)
    expected = torch.autograd.grad((fn.probs * costs).sum(1).mean(), logits, retain_graph=True)[0]
    found = torch.zeros_like(logits)
    for drawn in itertools.product(range(3), repeat=2):
        labels = torch.tensor(drawn)
        cost = costs.gather(1, labels[:, None])[:, 0]
        term = score_function([cost, torch.ones(5)], [fn.log_prob(labels)])
        assert term.item() == 0
        weight = fn.log_prob(labels).sum().exp().detach()
        found += weight * torch.autograd.grad(term, logits, retain_graph=True)[0]
    torch.testing.assert_close(found, expected)


def test_a_baseline_of_equal_costs_leaves_no_noise():
    logits = torch.randn(6, 3, requires_grad=True)
    fn = dist.Categorical(logits=logits)
    score_function([torch.full((6,), 7.0)], [fn.log_prob(fn.sample())]).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(6, 3))


@pytest.mark.parametrize("kind", LABELS)
def test_log_probabilities_are_those_of_each_value(kind):
    fn = LABELS[kind].expand_by([4])
    assert has_probabilities(fn) is (kind != "count")
    if kind == "count":
        return
    found = log_probabilities(fn)
    torch.testing.assert_close(found.logsumexp(-1), torch.zeros(found.shape[:-1]))
    value = fn.sample()
    is_one_hot = "one-hot" in kind
    own = (found * value).sum(-1) if is_one_hot else found.gather(-1, value.long().unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(own.reshape(4, -1).sum(1), fn.log_prob(value))


def test_the_score_of_one_label_is_half_of_the_brier_score():
    torch.manual_seed(0)
    fn = dist.Categorical(logits=torch.randn(5, 3))
    labels = torch.tensor([0, 1, 2, 2, 0])
    brier = (fn.probs - nn.functional.one_hot(labels, 3)).square().sum(1)
    torch.testing.assert_close(label_score({"m": fn}, {"m": fn}, {"m": labels}), brier / 2)


def test_the_score_of_several_labels_is_the_mean_over_all_draws():
    """By a sum over all draws of a categorical and two coins, at two different distributions."""
    torch.manual_seed(0)
    first, second = (
        {"m": dist.Categorical(logits=torch.randn(1, 3)), "b": dist.Bernoulli(torch.rand(1, 2)).to_event(1)}
        for _ in range(2)
    )
    values = [(m, b, c) for m in range(3) for b in range(2) for c in range(2)]

    def probability(fns, value):
        m, *coins = value
        log_prob = fns["m"].log_prob(torch.tensor([m])) + fns["b"].log_prob(torch.tensor([coins]).float())
        return log_prob.exp().item()

    def distance(one, other):
        differing = sum(p != q for p, q in zip(one, other, strict=True))
        return (1 - math.exp(-differing / 3)) / (1 - math.exp(-1))

    truth = (2, 0, 1)
    expected = sum(
        (distance(one, truth) + distance(other, truth) - distance(one, other))
        / 2
        * probability(first, one)
        * probability(second, other)
        for one in values
        for other in values
    )
    labels = {"m": torch.tensor([2]), "b": torch.tensor([[0.0, 1.0]])}
    assert label_score(first, second, labels).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("change", [0.7, 1.4])
def test_exact_probabilities_have_the_smallest_score(change):
    drawn = simulations(mechanisms, 50_000)
    exact = exact_probabilities(drawn["x"])

    def mean_score(power):
        fn = {"m": dist.Categorical(exact**power)}
        return label_score(fn, fn, {"m": drawn["m"]}).mean()

    assert mean_score(change) > mean_score(1.0) + 0.001


# ---- the guide


@pytest.mark.parametrize("kind", LABELS)
def test_it_draws_any_discrete_site_with_the_models_shape_and_values(kind):
    prior, x = LABELS[kind], torch.randn(6)
    model = model_of(prior, continuous=True)
    guide = small_guide(model)
    drawn = guide(x)
    assert list(drawn) == ["m", "z"]
    assert drawn["m"].shape == (6, *prior.event_shape)
    assert prior.support.check(drawn["m"]).all()
    assert drawn["m"].dtype == (torch.int64 if kind == "count" else prior.sample().dtype)
    trace = poutine.trace(poutine.condition(model, drawn)).get_trace(x)
    assert torch.isfinite(trace.log_prob_sum())


def test_it_starts_at_the_prior():
    guide = AutoImplicitGuide(mechanisms, observed="x")
    m = guide(x=simulations(mechanisms, 20_000)["x"])["m"]
    assert m.bincount() / len(m) == pytest.approx(PRIOR, abs=0.1)  # of 256 draws


def test_continuous_latents_know_the_label():
    guide = small_guide(model_of(dist.Categorical(torch.ones(3)), continuous=True))
    x = torch.randn(5)
    guide(x)
    with torch.no_grad():
        guide.posterior.own.linear.weight[:, -4:-1] = torch.tensor([0.0, 100.0, 200.0])
    drawn = []
    for label in range(3):
        pyro.set_rng_seed(1)
        drawn.append(poutine.condition(guide, {"m": torch.full((5,), label)})(x)["z"])
    assert (drawn[0] < drawn[1]).all() and (drawn[1] < drawn[2]).all()


def test_labels_that_all_rows_share_and_labels_in_plates():
    def model(x):
        kind = pyro.sample("kind", dist.Categorical(torch.ones(3)))
        weight = pyro.sample("weight", dist.Normal(kind.float(), 1.0))
        with pyro.plate("parts", 2, dim=-1):
            flags = pyro.sample("flags", dist.Bernoulli(0.5))
        with pyro.plate("data", len(x), dim=-2):
            own = pyro.sample("own", dist.Categorical(torch.ones(4)))
            with pyro.plate("parts again", 2, dim=-1):
                each = pyro.sample("each", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(weight + flags + own + each, 1.0), obs=x)

    x = torch.randn(5, 2)
    guide = small_guide(model)
    shapes = {site: tuple(value.shape) for site, value in guide(x).items()}
    assert shapes == {"kind": (), "weight": (), "flags": (2,), "own": (5, 1), "each": (5, 2)}
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(num_particles=3, vectorize_particles=True)).step(x)
    draws = Predictive(model, guide=guide, num_samples=4)(x)
    assert draws["kind"].shape == draws["weight"].shape and draws["each"].shape == (4, 5, 2)


def test_svi_learns_a_label_by_its_score_function():
    """x of 3 or -3 tells the label; a guide at the prior is right half the time."""

    def model(x):
        with pyro.plate("data", len(x)):
            m = pyro.sample("m", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(6 * m - 3, 1.0), obs=x)

    truth = torch.arange(64) % 2
    x = 6.0 * truth - 3
    guide = small_guide(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO())
    first = (guide(x)["m"] == truth).float().mean()
    for _ in range(150):
        svi.step(x)
    assert first < 0.75 and (guide(x)["m"] == truth).float().mean() > 0.95


def test_sites_that_the_model_enumerates_are_summed_out():
    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + k, 1.0), obs=x)

    guide, x = small_guide(model), torch.randn(5)
    assert set(guide(x)) == {"z"}
    assert math.isfinite(SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1)).step(x))


@pytest.mark.parametrize(
    ("prior", "support"),
    [
        (dist.Poisson(torch.tensor(2.0)), r"IntegerGreaterThan\(lower_bound=0\)"),
        (dist.Binomial(5000, torch.tensor(0.5)), r"IntegerInterval\(lower_bound=0, upper_bound=.*5000.*\)"),
    ],
)
def test_counts_without_a_bound_are_refused(prior, support):
    message = rf"'m' is discrete \({support}\).*at most 1,000, from 0 on. Draw it from a Categorical.*hide=\['m'\]"
    with pytest.raises(ValueError, match=message):
        AutoImplicitGuide(model_of(prior))(torch.randn(5))


def test_it_can_be_copied_pickled_and_printed():
    guide, x = small_guide(model_of(LABELS["vector"], continuous=True)), torch.randn(5)
    guide(x)
    assert "Labels('m', 3 values)" in repr(guide)
    expected = {name: value.clone() for name, value in guide.state_dict().items()}
    for other in copy.deepcopy(guide), pickle.loads(pickle.dumps(guide)):
        for name, value in other.state_dict().items():
            assert torch.equal(value, expected[name])
        pyro.set_rng_seed(2)
        first = guide(x)
        pyro.set_rng_seed(2)
        assert all(torch.equal(value, first[site]) for site, value in other(x).items())


# ---- inferences


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("inference_class", [BiGANInference, ImplicitKLqp])
def test_every_kind_is_inferred_saved_and_loaded(inference_class, kind, tmp_path):
    prior, x = LABELS[kind], torch.randn(16)

    def build():
        pyro.clear_param_store()
        model = model_of(prior, continuous=True)
        return inference_class(model, small_guide(model), small_discriminator())

    first = build().run(x, num_steps=3, batch_size=8, progress=False)
    draws = first.sample_posterior(x, num_samples=5)
    assert draws["m"].shape == (5, 16, *prior.event_shape) and draws["z"].shape == (5, 16)
    assert prior.support.check(draws["m"]).all()
    assert first.sample_posterior(x[0], num_samples=5)["m"].shape == (5, *prior.event_shape)
    assert first.decode({"m": draws["m"][0]}).shape == (16,)
    first.save(tmp_path / "state.pt")
    pyro.set_rng_seed(1)
    expected = first.run(x, num_steps=2, batch_size=8, progress=False).history["generator_loss"][-2:]
    second = build().load(tmp_path / "state.pt")
    pyro.set_rng_seed(1)
    assert second.run(x, num_steps=2, batch_size=8, progress=False).history["generator_loss"][-2:] == expected


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_simulations_may_hold_labels_of_any_integer_type(dtype):
    drawn = simulations(mechanisms, 64)
    inference = BiGANInference(mechanisms, small_guide(mechanisms), small_discriminator())
    inference.run({"m": drawn["m"].to(dtype), "x": drawn["x"]}, num_steps=3, batch_size=32, progress=False)
    assert inference.sample_posterior(drawn["x"][0], 7)["m"].dtype == torch.int64
    ratio = inference.log_ratio({"m": drawn["m"], "x": drawn["x"]})
    assert ratio.shape == (64,) and ratio.isfinite().all()


def test_a_simulator_of_single_rows():
    def simulator():
        m = pyro.sample("m", dist.Categorical(PRIOR))
        theta = pyro.sample("theta", dist.Normal(m.float(), 1.0))
        pyro.sample("x", dist.Normal(theta * torch.ones(4), SCALE[m]).to_event(1))

    drawn = Predictive(simulator, num_samples=64)()
    inference = BiGANInference(simulator, small_guide(simulator), small_discriminator())
    inference.run(drawn, num_steps=3, batch_size=32, progress=False)
    draws = inference.sample_posterior(drawn["x"][0], num_samples=7)
    assert draws["m"].shape == draws["theta"].shape == (7,)
    assert inference.decode(draws).shape == (7, 4)


def test_a_guide_of_the_users_own_may_draw_labels():
    network = nn.Linear(4, 3)

    def guide(x):
        pyro.module("network", network)
        with pyro.plate("data", len(x)):
            pyro.sample("m", dist.Categorical(logits=network(x)))

    before = network.weight.detach().clone()
    inference = BiGANInference(mechanisms, guide, small_discriminator())
    inference.run(simulations(mechanisms, 64), num_steps=3, batch_size=32, progress=False)
    assert (network.weight - before).abs().min() > 0


@pytest.mark.slow
def test_a_models_own_weights_learn_by_the_score_function():
    """A mixture whose weight alone is unknown: .8 of the data are of the second kind, the model starts at half."""
    data = torch.where(torch.rand(2000) < 0.8, 3.0, -3.0) + torch.randn(2000)

    def model(x):
        weight = pyro.param("weight", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            m = pyro.sample("m", dist.Bernoulli(logits=weight))
            pyro.sample("x", dist.Normal(6 * m - 3, 1.0), obs=x)

    inference = BiGANInference(model, small_guide(model), AutoDiscriminator(width=32, depth=2))
    inference.run(data, num_steps=400, batch_size=128, progress=False)
    assert pyro.param("weight").sigmoid().item() == pytest.approx(0.8, abs=0.1)


def test_a_check_and_an_export_take_labels():
    drawn = simulations(mechanisms, 400)
    inference = BiGANInference(mechanisms, small_guide(mechanisms), small_discriminator())
    inference.run(drawn, num_steps=5, batch_size=64, progress=False, held_out=100)
    assert inference.report.table is not None
    exported = inference.to_inference_data(drawn, num_draws=3)
    assert exported["posterior"]["m"].shape == (1, 3, 400) and exported["posterior"]["m"].dtype.kind == "i"
    draws = inference.sample_posterior(drawn["x"][0], num_samples=50)
    assert to_inference_data(posterior=draws)["posterior"]["m"].shape == (1, 50)


@pytest.mark.parametrize("is_exact", [True, False])
def test_exact_labels_pass_a_check_and_others_do_not(is_exact):
    """The guide is the exact posterior, or has all mechanisms alike: their mean rank is then off by more than 0.1."""
    drawn = simulations(mechanisms, 1000)

    def guide(x):
        tilt = pyro.param("tilt", torch.zeros(3))  # it has to have something to train
        with pyro.plate("data", len(x)):
            probabilities = exact_probabilities(x) if is_exact else torch.full((len(x), 3), 1 / 3)
            pyro.sample("m", dist.Categorical(logits=probabilities.log() + 1e-6 * tilt))

    inference = BiGANInference(mechanisms, guide, small_discriminator())
    inference.step(drawn)
    assert inference.check(drawn).problems == ([] if is_exact else ["biased"])


@pytest.mark.usefixtures("graphs_as_traced")
def test_compiled_gradients_are_the_eager_ones():
    drawn, losses = simulations(mechanisms, 64), []
    for is_compiled in (False, True):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = BiGANInference(mechanisms, small_guide(mechanisms), small_discriminator())
        inference.run(drawn, num_steps=6, batch_size=32, progress=False, compile=is_compiled)
        losses.append(inference.history["generator_loss"])
        assert (inference.seconds_to_compile() > 0) is is_compiled
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_what_needs_a_gradient_through_labels_is_refused():
    model = model_of(LABELS["categorical"])
    inference = ImplicitKLqp(model, small_guide(model), small_discriminator(), contrast="prior")
    message = (
        r"contrast='prior' takes the gradient.* 'm' \(latent Categorical, not reparam.*Use contrast='joint', or .*SVI"
    )
    with pytest.raises(ValueError, match=message):
        inference.step(torch.randn(8))


def test_labels_of_all_rows_are_no_global_sites():
    def model(x):
        kind = pyro.sample("kind", dist.Categorical(torch.ones(3)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(kind.float(), 1.0), obs=x)

    def guide(x):
        pyro.sample("kind", dist.Categorical(logits=pyro.param("logits", torch.zeros(3))))

    message = (
        r"the model's global site 'kind' \(latent Categorical, not reparameterized\) is discrete.*fit the model once"
    )
    with pytest.raises(ValueError, match=message):
        ImplicitKLqp(model, guide, small_discriminator(), global_sites="kind").step(torch.randn(8))
    with pytest.raises(ValueError, match=r"'kind' has shape .* a latent site needs one for each"):
        BiGANInference(model, guide, small_discriminator()).step(torch.randn(8))


# ---- quality


def trained_on_fresh_simulations(model, seed, **options):
    pyro.set_rng_seed(seed)
    inference = BiGANInference(
        model, AutoImplicitGuide(model, width=64, depth=2), AutoDiscriminator(width=64, depth=2), **options
    )
    return inference.run(simulations(model, 10_000)["x"], num_steps=2000, batch_size=512, progress=False)


@pytest.mark.slow
def test_the_probabilities_of_three_mechanisms_are_the_exact_ones():
    """The worst of three probabilities over 100 observations; the prior's is off by 0.4 on average."""
    inference = trained_on_fresh_simulations(mechanisms, seed=0)
    x = simulations(mechanisms, 100)["x"]
    draws, exact = inference.sample_posterior(x, num_samples=5000)["m"], exact_probabilities(x)
    found = torch.stack([draws[:, row].bincount(minlength=3) for row in range(100)]) / 5000
    error = (found - exact).abs().amax(1)
    assert (PRIOR - exact).abs().amax(1).mean() > 0.3
    assert error.mean() < 0.03 and error.max() < 0.12


@pytest.mark.slow
def test_the_probabilities_given_one_number_are_within_three_hundredths():
    """Of a normal, one of another place and a wide one; each is likely somewhere between -2 and 3."""
    loc, scale = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 3.0])

    def model(batch_size):
        with pyro.plate("data", batch_size):
            m = pyro.sample("m", dist.Categorical(PRIOR))
            pyro.sample("x", dist.Normal(loc[m], scale[m]))

    inference = trained_on_fresh_simulations(model, seed=0)
    x = torch.linspace(-2.0, 3.0, 6)
    exact = (PRIOR.log() + dist.Normal(loc, scale).log_prob(x[:, None])).softmax(-1)
    assert (exact.amax(0) > 0.4).all() and (exact.amin(0) < 0.2).all()
    draws = inference.sample_posterior(x, num_samples=20_000)["m"]
    found = torch.stack([draws[:, row].bincount(minlength=3) for row in range(6)]) / 20_000
    assert (found - exact).abs().max() < 0.03


def lines(batch_size):
    """Numbers around theta, or where m is 1 around a line of it."""
    with pyro.plate("data", batch_size):
        m = pyro.sample("m", dist.Bernoulli(0.4))
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        loc = torch.where(m == 1, 1.5 + 0.5 * theta, theta)
        pyro.sample("x", dist.Normal(loc[:, None], 1.0).expand([batch_size, 4]).to_event(1))


def exact_line(x, place, slope):
    """The log-density of rows of x, and the mean and standard deviation of theta, under one of the lines."""
    covariance = torch.eye(4) + slope**2 * torch.ones(4, 4)
    log_density = dist.MultivariateNormal(torch.full((4,), place), covariance).log_prob(x)
    precision = 1 + 4 * slope**2
    return log_density, slope * (x - place).sum(1) / precision, precision**-0.5


@pytest.mark.slow
def test_a_coin_and_a_number_that_depends_on_it_have_the_exact_joint_posterior():
    inference = trained_on_fresh_simulations(lines, seed=0)
    x = simulations(lines, 20)["x"]
    draws = inference.sample_posterior(x, num_samples=5000)
    exact = [exact_line(x, 0.0, 1.0), exact_line(x, 1.5, 0.5)]
    log_odds = math.log(0.4 / 0.6) + exact[1][0] - exact[0][0]
    error = (draws["m"].mean(0) - log_odds.sigmoid()).abs()
    assert error.mean() < 0.03 and error.max() < 0.1
    for m, (_, mean, deviation) in enumerate(exact):
        parts = [draws["theta"][:, row][draws["m"][:, row] == m] for row in range(20)]
        usual = [row for row, part in enumerate(parts) if len(part) > 1000]
        assert len(usual) >= 5
        off = torch.stack([(parts[row].mean() - mean[row]).abs() / deviation for row in usual])
        ratio = torch.stack([parts[row].std() / deviation for row in usual])
        assert off.max() < 0.25 and ratio.min() > 0.8 and ratio.max() < 1.25
    # The two means differ, so that theta without m would be off.
    assert (exact[0][1] - exact[1][1]).abs().mean() > 0.25


@pytest.mark.slow
def test_labels_that_depend_on_each_other_do_so_in_the_guide():
    """Of two coins x tells only whether they agree: each is fair given x, and their agreement is nearly certain."""

    def model(batch_size):
        with pyro.plate("data", batch_size):
            coins = pyro.sample("coins", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            agree = (coins[:, 0] == coins[:, 1]).float()
            pyro.sample("x", dist.Normal(2 * agree - 1, 0.3))

    inference = trained_on_fresh_simulations(model, seed=0)
    x = torch.tensor([1.0, -1.0])
    coins = inference.sample_posterior(x, num_samples=5000)["coins"]
    agree = (coins[..., 0] == coins[..., 1]).float().mean(0)
    assert coins.mean(0) == pytest.approx(torch.full((2, 2), 0.5), abs=0.1)
    assert agree[0] > 0.85 and agree[1] < 0.15
