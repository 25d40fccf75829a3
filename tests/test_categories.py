"""Labels that are unseen when networks build themselves, and what is known of conditions after a state is loaded."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import AutoImplicitGuide, BiGANInference, GANInference, LabelEmbedding
from pyro_gan.auto.coordinates import kinds_of_condition
from pyro_gan.callbacks import Callback
from pyro_gan.losses import NonSaturating
from pyro_gan.players.categories import Known
from pyro_gan.players.conditions import Condition

LABELS = torch.arange(96) % 4
X = torch.stack([2.0 * LABELS, torch.linspace(-1.0, 1.0, 96)], 1)


def conditional(num_labels=4):
    embedding, network = LabelEmbedding(num_labels, 3), nn.Linear(5, 2)

    def model(labels):
        pyro.module("embedding", embedding)
        pyro.module("network", network)
        with pyro.plate("data", len(labels)):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.deterministic("x", network(torch.cat([noise, embedding(labels)], 1)), event_dim=1)

    return model


def loader(labels, batch_size=16):
    return DataLoader(TensorDataset(X[: len(labels)], labels), batch_size)


def late(batch_size=1152):
    """A loader that gives each label in turn, more of each than is looked at."""
    rows = X.repeat(48, 1), LABELS.repeat(48).sort().values
    return DataLoader(TensorDataset(*rows), batch_size)


def kinds(inference):
    return inference.discriminator.function.built()["labels"]["kinds"]


# ---- after a state has been loaded


class Cut(Callback):
    """Interrupts a run after so many steps."""

    def __init__(self, num_steps=2):
        self.num_steps = num_steps

    def on_step(self, inference):
        if inference.clock.done == self.num_steps:
            raise KeyboardInterrupt


@pytest.fixture(params=["state", "file", "of half a run"])
def loaded(request, tmp_path):
    """An inference that has another one's state and took no step, labels 0 to 3 of 9, and log ratios of the other."""
    inference, fresh = (GANInference(conditional(9), loss=NonSaturating()) for _ in range(2))
    options = {"num_steps": 4, "batch_size": 16, "progress": False}
    if request.param == "of half a run":
        with pytest.raises(KeyboardInterrupt):
            inference.run((X, LABELS), callbacks=[Cut()], **options)
    else:
        inference.run((X, LABELS), **options)
    path = tmp_path / "gan.state"
    inference.save(path)
    expected = inference.log_ratio({"x": X[:5], "labels": LABELS[:5]})
    pyro.clear_param_store()
    if request.param == "state":
        fresh.load_state_dict(inference.state_dict())
    else:
        fresh.load(path)
    return fresh, expected


def test_a_loaded_inference_is_asked_for_labels_as_before(loaded):
    fresh, _ = loaded
    assert fresh.sample(2, 3).shape == fresh.sample(2, [3, 0]).shape == (2, 2)
    with pytest.raises(ValueError, match="the condition 'labels' holds 7, but in training it had the categories 0, 1,"):
        fresh.sample(2, 7)
    with pytest.raises(ValueError, match=r"the condition 'labels' has 3 rows, but 2 samples are asked for"):
        fresh.sample(2, [0, 1, 2])
    with pytest.raises(TypeError, match=r"'labels' is of type torch\.int64 in the data, but torch\.float64 was passed"):
        fresh.sample(2, 0.5)
    assert fresh.state_dict()["conditions"]["labels"] == {"shape": [], "dtype": "int64", "categories": [0, 1, 2, 3]}


def test_the_log_ratio_is_the_same_after_a_state_is_loaded(loaded):
    fresh, expected = loaded
    found = fresh.log_ratio((X[:5], LABELS[:5]))
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, fresh.log_ratio((X[:5], LABELS[:5].roll(1))), atol=1e-4)
    with pytest.raises(ValueError, match="the condition 'labels' holds 8, but in training it had the categories"):
        fresh.log_ratio((X[:2], torch.tensor([0, 8])))


def test_a_run_that_goes_on_adds_to_what_a_state_knows(loaded):
    fresh, _ = loaded
    with pytest.warns(RuntimeWarning, match="the condition 'labels' holds 4, but the discriminator built itself by"):
        fresh.run((X, torch.full_like(LABELS, 4)), num_steps=1, batch_size=16, progress=False)
    with pytest.raises(ValueError, match="the categories 0, 1, 2, 3, 4 only"):
        fresh.sample(1, 5)


def test_conditions_of_floating_point_have_no_categories():
    def model(shift):
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(shift)):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.deterministic("x", shift + scale * noise, event_dim=1)

    inference = GANInference(model).run((2 * X, X.double()), num_steps=1, batch_size=16, progress=False)
    fresh = GANInference(model)
    fresh.load_state_dict(inference.state_dict())
    assert fresh.known.conditions == {"shift": Condition((2,), torch.float64, None)}
    assert fresh.sample(3, [50, 60]).round(decimals=-1).tolist() == 3 * [[50, 60]]


# ---- data that are read


def test_a_label_between_others_has_its_coordinate_though_it_comes_late():
    order = torch.cat([(LABELS != 2).nonzero()[:, 0], (LABELS == 2).nonzero()[:, 0]])
    inference = GANInference(conditional()).run(loader(LABELS[order]), num_steps=8, progress=False)
    assert kinds(inference) == [0, 1, 2, 3]


def test_a_label_beyond_those_of_the_first_minibatch_is_told_of_once():
    inference = GANInference(conditional())
    with pytest.warns(RuntimeWarning, match="'labels' holds 2, but the discriminator built itself by first") as caught:
        inference.run(late(), num_steps=9, progress=False)
    assert len([each for each in caught if "built itself by first rows" in str(each.message)]) == 1
    assert kinds(inference) == [0, 1]
    assert inference.sample(1, 3).shape == (1, 2)


def test_one_hot_rows_as_that_message_says_are_told_of_nothing():
    def model(labels):
        return by_number(labels.argmax(1))

    by_number = conditional()
    rows = nn.functional.one_hot(LABELS.sort().values, 4).float()
    GANInference(model).run(loader(rows, 32), num_steps=9, progress=False)


def test_the_labels_that_a_loader_gave_are_those_that_may_be_asked_for():
    inference = GANInference(conditional(9)).run(loader(LABELS), num_steps=4, progress=False)
    assert inference.sample(1, 3).shape == (1, 2)
    with pytest.raises(ValueError, match="the condition 'labels' holds 4, but in training it had the categories 0, 1"):
        inference.sample(1, 4)


def test_a_guide_is_told_of_too():
    def model(x, labels):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None] + labels[:, None], 1.0).expand([len(x), 2]).to_event(1), obs=x)

    inference = BiGANInference(model, AutoImplicitGuide(model, width=8))
    with pytest.warns(RuntimeWarning, match="'labels' holds 3"):
        inference.run(late(), num_steps=3, progress=False)


def test_numbers_of_many_kinds_are_told_of():
    def model(count):
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(count)):
            noise = pyro.sample("noise", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.deterministic("x", count[:, None] + scale * noise, event_dim=1)

    with pytest.warns(UserWarning, match="the condition 'count' has integers from 0 to 95, too many kinds for a coord"):
        inference = GANInference(model).run((X, torch.arange(96)), num_steps=1, progress=False)
    assert inference.discriminator.function.built()["count"]["kinds"] == []


# ---- what it is made of


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([0, 5, 3], (0, 1, 2, 3, 4, 5)),
        ([[1, 0], [2, 0]], (0, 1, 2)),
        (20 * [100, 200, 300], (100, 200, 300)),
        ([100, 200, 300], ()),
        ([0.0, 1.0], ()),
        ([True, False], ()),
    ],
)
def test_which_integers_have_a_coordinate(rows, expected):
    assert kinds_of_condition(torch.tensor(rows)) == expected


def test_pixels_are_no_labels():
    assert kinds_of_condition(torch.randint(9, (50, 8, 8))) == ()
    assert kinds_of_condition(torch.randint(9, (50, 65))) == kinds_of_condition(torch.zeros(0, dtype=torch.long)) == ()


def test_what_is_met_counts_once_it_is_noted():
    known = Known()
    known.meet({"labels": torch.tensor([5, 3]), "weight": torch.ones(2)})
    known.meet({"labels": torch.tensor([999, 3])})
    assert known.met("labels") == [3, 5, 999] and known.beyond("labels", (3, 4)) == [5, 999]
    assert known.conditions["labels"].categories is None
    known.note("labels", None)
    known.note("labels", torch.tensor([7, -7]))
    assert known.conditions["labels"].categories == (-7, 3, 5, 7, 999)
    other = Known()
    other.load_state_dict(known.state_dict())
    assert other.conditions == known.conditions and other.met("labels") == []


def test_what_is_met_and_not_noted_is_in_the_state():
    known, other = Known(), Known()
    known.meet({"labels": torch.tensor([5, 3]), "weight": torch.ones(2)})
    known.note("labels", torch.tensor([3]))
    assert known.state_dict()["labels"]["met"] == [5] and "met" not in known.state_dict()["weight"]
    other.load_state_dict(known.state_dict())
    other.meet({"labels": torch.tensor([9])})
    assert other.state_dict()["labels"]["met"] == [5, 9]
    other.note("labels", None)
    assert other.conditions["labels"].categories == (3, 5, 9) and "met" not in other.state_dict()["labels"]
    known.meet({"labels": torch.tensor([-1])})
    other.load_state_dict(known.state_dict())
    other.note("labels", None)
    assert known.state_dict()["labels"]["met"] == [5, 1000] and other.conditions["labels"].categories == ()


def test_a_run_that_goes_on_in_another_process_knows_what_came_before_it_was_cut_off(tmp_path):
    labels = torch.tensor([0, 1, 2]).repeat_interleave(32)
    options = {"num_steps": 6, "checkpoint": tmp_path, "checkpoint_every": 1, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        GANInference(conditional(9)).run(loader(labels), callbacks=Cut(5), **options)
    pyro.clear_param_store()
    fresh = GANInference(conditional(9))
    fresh.run(loader(labels), **options)
    assert fresh.state_dict()["conditions"]["labels"]["categories"] == [0, 1, 2]
    assert fresh.sample(2, 0).shape == (2, 2)


def test_integers_beyond_those_marked_leave_categories_open():
    known = Known()
    known.meet({"labels": torch.tensor([5, 1000])})
    known.note("labels", None)
    assert known.met("labels") == [] and known.conditions["labels"].categories == ()
    known.note("labels", torch.tensor([1, 2]))
    assert known.conditions["labels"].categories == ()
