"""State belongs to objects: copies, threads and shared objects are independent, or refused."""

import copy
import gc
import pickle
import threading
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import test_contract
import torch
from killed import same
from latent_models import joint_discriminator, linear_model, linear_rows, linear_simulator, noise_guide
from models import scalar_discriminator
from test_contract import CASES, build, run
from torch import nn

from pyro_gan import AutoDiscriminator, AutoImplicitGuide, BiGANInference, GANInference
from pyro_gan.callbacks import Callback, FinalMean
from pyro_gan.losses import NonSaturating
from pyro_gan.penalties import R1

DATA = torch.randn(64, generator=torch.Generator().manual_seed(0))


def named_model(name):
    """A model whose only parameter has that name."""

    def model(batch_size):
        loc = pyro.param(name, torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    return model


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_a_deep_copy_goes_on_exactly(case):
    pyro.set_rng_seed(0)
    inference = build(case)
    run(inference, num_steps=3)
    twin = copy.deepcopy(inference)
    pyro.set_rng_seed(1)
    run(inference, num_steps=3)
    expected = inference.state_dict()
    pyro.set_rng_seed(1)
    run(twin, num_steps=3)
    assert same(twin.state_dict(), expected)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_a_deep_copy_of_an_inference_without_steps_is_one(case):
    inference = build(case)
    twin = copy.deepcopy(inference)
    run(twin, num_steps=2)
    assert (twin.num_steps_taken, inference.num_steps_taken) == (2, 0)


def picklable_model(batch_size):
    loc = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", batch_size):
        pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)


def judge():
    return nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 8), nn.ELU(), nn.Linear(8, 1))


@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("compile", [False, True])
def test_what_was_pickled_goes_on_exactly(taken, compile, request):
    if compile:
        request.getfixturevalue("graphs_as_traced")
    pyro.set_rng_seed(0)
    inference = GANInference(picklable_model, judge(), ema_decay=0.9)
    if taken:
        inference.run(DATA, num_steps=taken, progress=False, compile=compile)
    content = pickle.dumps(inference)
    pyro.set_rng_seed(1)
    expected = inference.run(DATA, num_steps=4, progress=False, compile=compile).state_dict()
    pyro.clear_param_store()  # as in another process
    twin = pickle.loads(content)
    assert twin.num_steps_taken == taken
    pyro.set_rng_seed(1)
    assert same(twin.run(DATA, num_steps=4, progress=False, compile=compile).state_dict(), expected)


@pytest.mark.parametrize("judged_by", [joint_discriminator, AutoDiscriminator])
@pytest.mark.parametrize("guided_by", [partial(AutoImplicitGuide, linear_simulator, observed="x"), noise_guide])
def test_a_copy_of_what_ran_on_simulations_goes_on_exactly(guided_by, judged_by):
    pyro.set_rng_seed(0)
    data = dict(zip(("z", "x"), linear_rows(200), strict=True))
    inference = BiGANInference(linear_simulator, guided_by(), judged_by())
    twin = copy.deepcopy(inference.run(data, num_steps=3, batch_size=50, progress=False))
    pyro.set_rng_seed(1)
    expected = inference.run(data, num_steps=3, batch_size=50, progress=False).state_dict()
    pyro.set_rng_seed(1)
    assert same(twin.run(data, num_steps=3, batch_size=50, progress=False).state_dict(), expected)


def test_a_copy_can_be_asked_and_saved_before_it_goes_on(tmp_path):
    inference = GANInference(picklable_model, judge()).run(DATA, num_steps=3, progress=False)
    twin = copy.deepcopy(inference)
    assert same(twin.state_dict(), inference.state_dict())
    assert torch.equal(twin.log_ratio(DATA), inference.log_ratio(DATA))
    twin.save(tmp_path / "state")


def test_a_question_to_a_copy_does_not_put_back_what_the_original_has_learned():
    inference = GANInference(picklable_model, judge()).run(DATA + 3, num_steps=3, progress=False)
    twin = copy.deepcopy(inference)
    twin.sample(2)  # nothing has changed yet
    twin = copy.deepcopy(inference)
    inference.run(DATA + 3, num_steps=3, progress=False)
    loc = pyro.param("loc").item()
    with pytest.raises(
        ValueError, match="this inference is a copy, and the parameter 'loc' of its model is that of the"
    ):
        twin.sample(2)
    assert pyro.param("loc").item() == loc
    twin.step(DATA + 3)  # which goes on from the copy's values
    assert pyro.param("loc").item() != loc


def test_a_copy_of_an_inference_whose_model_is_a_module_says_what_it_needs():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(1, 1)

        def forward(self, batch_size):
            pyro.module("network", self.network)
            with pyro.plate("data", batch_size):
                eps = pyro.sample("eps", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                pyro.deterministic("x", self.network(eps).squeeze(-1), event_dim=0)

    inference = GANInference(Model(), judge()).run(DATA, num_steps=2, progress=False)
    twin = copy.deepcopy(inference)
    with pytest.raises(ValueError, match=r"not those that Pyro's store has under their names.*clear_param_store\(\)"):
        twin.run(DATA, num_steps=2, progress=False)
    pyro.clear_param_store()
    assert twin.run(DATA, num_steps=2, progress=False).num_steps_taken == 4


def test_a_copy_that_is_made_within_a_run_is_in_none():
    copies = []

    class Copy(Callback):
        def on_step(self, inference):
            if inference.clock.step == 2:
                copies.append(copy.deepcopy(inference))

    GANInference(picklable_model, judge()).run(DATA, num_steps=4, progress=False, callbacks=[Copy()])
    twin = copies[0].run(DATA, num_steps=2, progress=False)
    assert twin.history["step"] == [1, 2, 3, 4]


def test_two_inferences_whose_steps_take_turns_are_as_if_alone():
    def make(name):
        return GANInference(named_model(name), scalar_discriminator(4))

    def alone(name, target):
        pyro.set_rng_seed(3)
        inference = make(name)
        for _ in range(20):
            pyro.set_rng_seed(7)
            inference.step(DATA + target)
        return pyro.param(name).item()

    expected = alone("a", 3.0), alone("b", -3.0)
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    first = make("a")
    pyro.set_rng_seed(3)
    second = make("b")
    for _ in range(20):
        pyro.set_rng_seed(7)
        first.step(DATA + 3.0)
        pyro.set_rng_seed(7)
        second.step(DATA - 3.0)
    assert (pyro.param("a").item(), pyro.param("b").item()) == expected


def posterior(name="AutoImplicitGuide", sign=1.0, width=8):
    """The posterior of z, given sign times z and noise, by a guide that builds itself."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(sign * z, 0.5), obs=x)

    guide = AutoImplicitGuide(model, width=width, depth=1, name=name)
    return BiGANInference(model, guide, AutoDiscriminator(width=8, depth=1))


def answer(inference):
    pyro.set_rng_seed(5)
    return inference.sample_posterior(torch.tensor(1.0), 50)["z"]


def test_two_guides_of_one_name_each_answer_by_their_own():
    first = posterior().run(DATA, num_steps=3, progress=False)
    expected = answer(first)
    second = posterior(sign=-1.0).run(DATA, num_steps=3, progress=False)
    other = answer(second)
    assert torch.equal(answer(first), expected) and torch.equal(answer(second), other)
    third = posterior(width=4).run(DATA, num_steps=3, progress=False)  # of other shapes
    assert torch.equal(answer(first), expected) and not torch.equal(answer(third), expected)
    store = pyro.get_param_store()
    assert all(store[name].unconstrained() is leaf for name, leaf in third.guide.parameters.items())
    first.run(DATA, num_steps=3, progress=False)
    assert not torch.equal(answer(first), expected) and torch.equal(answer(second), other)


def test_guides_of_one_name_whose_steps_take_turns_are_as_if_alone():
    def make(sign):
        pyro.set_rng_seed(3)
        inference = posterior(sign=sign)
        inference.evaluate_loss(DATA)
        return inference

    def alone(sign):
        pyro.clear_param_store()
        inference = make(sign)
        for _ in range(5):
            pyro.set_rng_seed(7)
            inference.step(DATA)
        return answer(inference)

    expected = alone(1.0), alone(-1.0)
    pyro.clear_param_store()
    pair = make(1.0), make(-1.0)
    for _ in range(5):
        for inference in pair:
            pyro.set_rng_seed(7)
            inference.step(DATA)
    assert all(torch.equal(answer(inference), found) for inference, found in zip(pair, expected, strict=True))


def test_a_state_goes_from_one_guide_to_another_of_its_name(tmp_path):
    first, second = posterior().run(DATA, num_steps=3, progress=False), posterior()
    first.save(tmp_path / "state")
    expected = answer(first)
    second.load(tmp_path / "state")
    assert torch.equal(answer(second), expected)
    second.run(DATA, num_steps=3, progress=False)
    assert torch.equal(answer(first), expected) and not torch.equal(answer(second), expected)
    del second
    gc.collect()
    assert torch.equal(answer(first), expected)  # what is gone leaves it alone, too


def test_a_guide_made_again_takes_over_what_nobody_has_any_more():
    inference = posterior().run(DATA, num_steps=3, progress=False)
    trained = dict(inference.guide.parameters)
    inference = posterior()  # as in a notebook's cell that is run again
    inference.evaluate_loss(DATA)
    assert all(inference.guide.parameters[name] is leaf for name, leaf in trained.items())


def test_a_guide_takes_over_what_a_user_has_loaded(tmp_path):
    inference = posterior().run(DATA, num_steps=3, progress=False)
    pyro.get_param_store().save(tmp_path / "store")
    expected = answer(inference)
    inference.run(DATA, num_steps=3, progress=False)
    pyro.get_param_store().load(tmp_path / "store")
    assert torch.equal(answer(inference), expected)


def test_two_networks_of_one_name_are_refused():
    def make():
        encoder = nn.Linear(1, 1)

        def guide(x):
            pyro.module("encoder", encoder)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(encoder(x[:, None])[:, 0], 1.0))

        return BiGANInference(linear_model, guide)

    first = make().run(DATA, num_steps=2, progress=False)
    before = [leaf.detach().clone() for leaf in first.guide.parameters.values()]
    with pytest.raises(ValueError, match=r"carries no gradient to any.*'encoder.*earlier model used the same names"):
        make().run(DATA, num_steps=2, progress=False)
    assert all(map(torch.equal, before, first.guide.parameters.values()))


def test_threads_train_side_by_side():
    def train(name, target, errors):
        try:
            inference = GANInference(named_model(name), scalar_discriminator(8), ema_decay=0.9)
            for _ in range(3):
                inference.run(DATA + target, num_steps=100, batch_size=32, progress=False)
                inference.sample(10, averaged=True), inference.evaluate_loss(DATA), inference.log_ratio(DATA)
        except BaseException as error:
            errors.append(error)

    errors = []
    threads = [
        threading.Thread(target=train, args=(f"loc_{number}", 4.0 * (-1) ** number, errors)) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    locs = [pyro.param(f"loc_{number}").item() for number in range(4)]
    assert min(locs[::2]) > 0.2 and max(locs[1::2]) < -0.2
    assert not pyro.poutine.runtime._PYRO_STACK and torch.is_grad_enabled()


def test_two_threads_can_not_run_one_inference():
    class Wait(Callback):
        def on_step(self, inference):
            inside.set()
            assert outside.wait(30)

    inside, outside = threading.Event(), threading.Event()
    inference = GANInference(named_model("loc"), scalar_discriminator(4))
    options = {"num_steps": 1, "progress": False}
    thread = threading.Thread(target=inference.run, args=(DATA,), kwargs={**options, "callbacks": [Wait()]})
    thread.start()
    assert inside.wait(30)
    with pytest.raises(ValueError, match="run was called while a run of the same inference is under way"):
        inference.run(DATA, **options)
    outside.set()
    thread.join()


class Inner(Callback):
    """Runs another inference within a run."""

    def __init__(self, inference, callbacks=()):
        self.inference, self.callbacks = inference, callbacks

    def on_step(self, inference):
        self.inference.run(DATA, num_steps=1, progress=False, callbacks=self.callbacks)


def test_an_object_that_keeps_something_is_in_one_run_at_a_time():
    mean, penalty = FinalMean(), R1(1.0)

    def make(name, **options):
        return GANInference(named_model(name), scalar_discriminator(4), **options)

    with pytest.raises(ValueError, match="FinalMean is in use: one object was given twice, or to two runs at a time"):
        make("a").run(DATA, num_steps=2, progress=False, callbacks=[mean, Inner(make("b"), [mean])])
    with pytest.raises(ValueError, match="FinalMean is in use"):
        make("c").run(DATA, num_steps=2, progress=False, callbacks=[mean, mean])
    options = {"loss": NonSaturating(), "penalty": penalty}
    with pytest.raises(ValueError, match="R1 is in use"):
        make("d", **options).run(DATA, num_steps=2, progress=False, callbacks=[Inner(make("e", **options))])
    make("f", **options).run(DATA, num_steps=2, progress=False, callbacks=[mean])  # one after the other
    inner = make("g", loss=NonSaturating(), penalty=R1(1.0))
    make("h", **options).run(DATA, num_steps=2, progress=False, callbacks=[Inner(inner)])
    assert inner.num_steps_taken == 2


def test_the_contracts_cases_are_all_here():
    assert set(CASES) == set(test_contract.CASES) and len(CASES) >= 8
