"""A network of latents' means and deviations: what it finds, where there is none, and where a guide starts with one."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference
from pyro_gan.auto import moments, normals
from pyro_gan.auto.moments import Moments
from pyro_gan.training import compiled
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.streams import Gathered

NUM_ROWS = 4000


@pytest.fixture(scope="module", autouse=True)
def shorter_fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normals, "NUM_STEPS", 1500)
        yield


def mean(given):
    return torch.sin(3 * given)


def deviation(given):
    return (given - 2).exp()


def bent(num_rows=NUM_ROWS, seed=0):
    """Residuals with a mean that is no line and a deviation that grows, and what is seen of them."""
    generator = torch.Generator().manual_seed(seed)
    given = torch.randn(num_rows, 1, generator=generator)
    noise = torch.randn(num_rows, 1, generator=generator)
    return mean(given) + deviation(given) * noise, given


def learned(residuals, given):
    found = Moments(residuals.shape[1], given.shape[1], given)
    found.learn(residuals, given)
    return found


@pytest.fixture(scope="module")
def fitted():
    return learned(*bent())


def test_means_and_deviations_are_those_of_the_draws(fitted):
    given = torch.linspace(-1.5, 1.5, 61)[:, None]
    zero, one = (fitted(torch.full_like(given, value), given) for value in (0.0, 1.0))
    assert (zero - mean(given)).abs().mean() < 0.1
    assert ((one - zero) / deviation(given)).log().abs().mean() < 0.15


def test_what_is_left_has_size_one_everywhere(fitted):
    residuals, given = bent(seed=1)
    standardized = fitted.standardized(residuals, given)
    for part in ((given < -0.5), (given.abs() < 0.5), (given > 0.5)):
        assert standardized[part].std() == pytest.approx(1.0, abs=0.15)
        assert standardized[part].mean() == pytest.approx(0.0, abs=0.15)


def test_draws_come_back_from_what_is_left(fitted):
    residuals, given = bent(50)
    for rows in (residuals, torch.stack([residuals, 2 * residuals])):
        assert torch.allclose(fitted(fitted.standardized(rows, given), given), rows, atol=1e-5)


@pytest.mark.parametrize("kind", ["independent", "nearly", "few", "not finite", "in two heaps"])
def test_without_something_to_tell_there_is_no_network(kind):
    residuals, given = bent()
    if kind == "independent":
        residuals = torch.randn(NUM_ROWS, 1, generator=torch.Generator().manual_seed(2))
    elif kind == "nearly":  # log 1.2 is less than a quarter
        noise = torch.randn(NUM_ROWS, 1, generator=torch.Generator().manual_seed(2))
        residuals = noise * torch.where(given > 0, 1.2, 1 / 1.2)
    elif kind == "few":
        residuals, given = residuals[: moments.FEWEST_ROWS - 1], given[: moments.FEWEST_ROWS - 1]
    elif kind == "in two heaps":  # of which the network tells how far they are apart
        residuals = deviation(given) * torch.where(residuals > mean(given), 1.0, -1.0) + 0.01 * residuals
    else:
        residuals = torch.full_like(residuals, torch.nan)
    found = learned(residuals, given)
    assert not found.may_act()
    assert found.standardized(residuals, given) is residuals


def test_rows_that_are_not_finite_are_left_out(fitted):
    residuals, given = bent()
    spoiled = (
        torch.cat([residuals, torch.tensor([[torch.nan], [1.0]])]),
        torch.cat([given, torch.full((2, 1), torch.inf)]),
    )
    spoiled[1][-2] = 0.0
    for one, other in zip(learned(*spoiled).buffers(), fitted.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_fit_is_the_same_whatever_the_random_state_and_leaves_that(fitted):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = learned(*bent())
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(again.buffers(), fitted.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("call", ["standardized", "forward"])
def test_what_is_compiled_is_compiled_anew_when_a_network_comes(fitted, call):
    residuals, given = bent(20)
    found = Moments(1, 1, given)

    def traced():
        return make_fx(lambda *rows: getattr(found, call)(*rows))(residuals, given)

    facts = compiled._facts([found])
    assert torch.equal(traced()(residuals, given), residuals)
    for into, values in zip(found.buffers(), fitted.buffers(), strict=True):
        into.copy_(values)
    assert compiled._facts([found]) != facts
    assert torch.allclose(traced()(residuals, given), getattr(fitted, call)(residuals, given))


def test_latents_that_are_told_no_better_stay_as_they_are_beside_others():
    residuals, given = bent()
    other = torch.randn(NUM_ROWS, 1, generator=torch.Generator().manual_seed(2))
    found = learned(torch.cat([other, residuals], 1), given).standardized(torch.cat([other, residuals], 1), given)
    assert torch.equal(found[:, :1], other)
    assert found[:, 1].std() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_have_a_network_too(dtype):
    residuals, given = (rows.to(dtype) for rows in bent())
    standardized = learned(residuals, given).standardized(residuals, given)
    assert standardized.dtype == dtype
    assert standardized.double().std() == pytest.approx(1.0, abs=0.15)


def test_beyond_the_observations_of_the_fit_means_and_deviations_stay(fitted):
    _, given = bent()
    lowest, highest = given.aminmax()
    far, ends = torch.tensor([[-1e4], [1e4]]), torch.stack([lowest, highest])[:, None]
    for value in (0.0, 1.0):
        assert torch.equal(fitted(torch.full((2, 1), value), far), fitted(torch.full((2, 1), value), ends))


def test_numbers_that_did_not_vary_tell_nothing():
    residuals, given = bent()
    found = learned(residuals, torch.cat([given, torch.ones(NUM_ROWS, 1)], 1))
    other = torch.cat([given, torch.full((NUM_ROWS, 1), 5.0)], 1)
    same = torch.cat([given, torch.ones(NUM_ROWS, 1)], 1)
    assert torch.equal(found.standardized(residuals, other), found.standardized(residuals, same))


def narrow(batch_size):
    """A number that is seen through a function that is no line, with a noise that grows."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal((z + z**3)[:, None], 0.02).to_event(1))


def simulations(num_rows=NUM_ROWS):
    pyro.set_rng_seed(0)
    trace = pyro.poutine.trace(narrow).get_trace(num_rows)
    return {site: trace.nodes[site]["value"] for site in ("z", "x")}


def an_inference(**options):
    pyro.clear_param_store()
    guide = AutoImplicitGuide(narrow, observed="x", width=16, depth=1)
    return BiGANInference(narrow, guide, AutoDiscriminator(width=16, depth=1), **options)


def test_a_guide_starts_near_a_narrow_posterior_off_the_line():
    inference = an_inference().run(simulations(), num_steps=1, progress=False)
    for z in (-1.0, 0.0, 1.0):
        draws = inference.sample_posterior(torch.tensor([z + z**3]), 500)["z"]
        exact = 0.02 / (1 + 3 * z**2)
        assert (draws.mean() - z).abs() < 0.1
        assert exact / 2 < draws.std() < 0.1  # a line leaves 0.4


def test_rows_that_are_kept_apart_teach_nothing():
    data = simulations(1024)
    minibatches = Minibatches(Gathered(data, 128, torch.device("cpu")), None)
    seen = torch.cat([batch["z"] for batch in minibatches.never_apart(0.5, 1000)])
    apart = minibatches.keep_apart(0.5, 1000)["z"]
    assert len(seen) == len(apart) == 512
    assert torch.equal(torch.cat([seen, apart]).sort().values, data["z"].sort().values)


def test_simulations_are_looked_at_as_minibatches_come():
    """A transform that knows no other number of rows than a minibatch's."""
    sizes = []

    def transform(batch):
        sizes.append(len(batch["z"]))
        return {"z": batch["z"], "x": batch["x"] + torch.zeros(128, 1)}

    inference = an_inference().run(simulations(), num_steps=1, batch_size=128, transform=transform, progress=False)
    assert 4 * sizes.count(128) > 3 * len(sizes)
    assert inference.guide.function.posterior.regression.moments.may_act()


def gathered(num_rows, batch_size, transform=None):
    rows = {"z": torch.arange(float(num_rows))}
    return Minibatches(Gathered(rows, batch_size, torch.device("cpu")), transform)


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "sizes"),
    [
        (1000, 256, [256] * 3),  # of 900 that are never apart
        (1000, 1000, [900]),
        (30_000, 25_000, [25_000]),
        (30_000, 12_000, [12_000]),
        (30_000, 256, [256] * 78),
        (2, 2, [2]),
    ],
)
def test_simulations_are_given_as_minibatches(num_rows, batch_size, sizes):
    assert [len(batch["z"]) for batch in gathered(num_rows, batch_size).never_apart(0.1, 1000)] == sizes


def test_a_random_transform_goes_on_from_piece_to_piece_and_leaves_the_random_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches = gathered(1000, 100, lambda batch: {"z": torch.randn(len(batch["z"]))})
    noise = torch.cat([batch["z"] for batch in batches.never_apart(0.1, 1000)])
    assert len(noise.unique()) == len(noise) == 900
    assert torch.equal(torch.get_rng_state(), before)


def sets(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("x", (z + z**3)[:, None] + 0.1 * torch.randn(batch_size, 12), event_dim=1)


def test_minibatches_may_hold_sets_of_other_lengths():
    pyro.set_rng_seed(0)
    z = torch.randn(NUM_ROWS)
    lengths = torch.randint(3, 13, (NUM_ROWS, 1))
    mask = torch.arange(12) < lengths
    data = {"z": z, "x": ((z + z**3)[:, None] + 0.1 * torch.randn(NUM_ROWS, 12)) * mask, "mask": mask}

    def cut(batch):
        longest = int(batch["mask"][: 1 + len(batch["z"]) // 64].sum(1).max())  # of other lengths in each minibatch
        return {**batch, "x": batch["x"][:, :longest], "mask": batch["mask"][:, :longest]}

    given = {"sets": "x", "masks": {"x": "mask"}, "width": 16, "depth": 1}
    inference = BiGANInference(sets, AutoImplicitGuide(sets, observed="x", **given), AutoDiscriminator(**given))
    inference.run(data, num_steps=2, batch_size=128, transform=cut, progress=False)
    assert inference.guide.function.posterior.regression.moments.may_act()


def test_features_of_an_embedding_which_move_have_no_network():
    pyro.clear_param_store()
    guide = AutoImplicitGuide(narrow, observed="x", width=16, depth=1, embedding={"x": torch.nn.Linear(1, 2)})
    BiGANInference(narrow, guide).run(simulations(), num_steps=1, progress=False)
    assert not guide.posterior.regression.moments.may_act()


def test_a_module_of_the_users_may_have_any_attribute():
    module = torch.nn.Linear(1, 1)
    module.may_act = True
    assert compiled._facts([module])


@pytest.mark.parametrize("kind", ["a plate", "a row at a time"])
def test_plain_simulators_are_told_alike(kind):
    def single():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal((z + z**3)[None], 0.02).to_event(1))

    model = narrow if kind == "a plate" else single
    guide = AutoImplicitGuide(model, observed="x", width=16, depth=1)
    inference = BiGANInference(model, guide, AutoDiscriminator(width=16, depth=1))
    inference.run(simulations(), num_steps=1, progress=False)
    assert inference.guide.function.posterior.regression.moments.may_act()
    assert inference.discriminator.function.regression.moments.may_act()


def test_no_fit_is_made_of_what_a_state_holds(tmp_path):
    an_inference().run(simulations(), num_steps=1, progress=False).save(tmp_path / "fit.pt")
    loaded = an_inference()
    loaded.load(tmp_path / "fit.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Moments, "learn", lambda *_: pytest.fail("a fit was made"))
        loaded.run(simulations(), num_steps=1, progress=False)
    assert loaded.guide.function.posterior.regression.moments.may_act()


def test_a_copy_and_a_saved_fit_have_it(tmp_path):
    inference = an_inference().run(simulations(), num_steps=1, progress=False)
    x = torch.tensor([2.0])
    draws = []
    inference.save(tmp_path / "fit.pt")
    copied = copy.deepcopy(inference)
    pyro.set_rng_seed(1)
    draws.append(copied.sample_posterior(x, 20)["z"])
    loaded = an_inference()
    loaded.load(tmp_path / "fit.pt")
    pyro.set_rng_seed(1)
    draws.append(loaded.sample_posterior(x, 20)["z"])
    assert torch.equal(*draws)
    assert (draws[0] - 1).abs().max() < 0.2


def test_states_from_before_go_on_without():
    trained = an_inference().run(simulations(), num_steps=1, progress=False)
    state = trained.state_dict()
    for player, module in (
        ("guide", trained.guide.function.posterior),
        ("discriminator", trained.discriminator.function),
    ):
        own = list(module.regression.moments.buffers())
        kept = state[player]["others"]
        state[player]["others"] = [
            each for each in kept if not any(each.shape == one.shape and torch.equal(each, one) for one in own)
        ]
        assert len(state[player]["others"]) == len(kept) - len(own)
    with_network = trained.sample_posterior(torch.tensor([2.0]), 200)["z"].std()
    loaded = an_inference()
    loaded.load_state_dict(state)
    assert loaded.sample_posterior(torch.tensor([2.0]), 200)["z"].std() > 2 * with_network
    assert not loaded.guide.function.posterior.regression.moments.may_act()
