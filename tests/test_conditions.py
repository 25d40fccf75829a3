"""Conditions go from the data through the model to the discriminator, row by row; matching and interpolation."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from pyro_gan import (
    AutoDiscriminator,
    AutoImplicitGuide,
    BiGANInference,
    CaptionEmbedding,
    GANInference,
    ImplicitKLqp,
    LabelEmbedding,
    WGANInference,
)
from pyro_gan.losses import Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein
from pyro_gan.penalties import R1, GradientPenalty, Judgement
from pyro_gan.players.conditions import other_rows
from pyro_gan.training.objective import matching_loss

LABELS = torch.arange(64) % 4
X = 2.0 * LABELS + torch.linspace(-0.2, 0.2, 64)


class Paired(nn.Module):
    """A discriminator that keeps the rows and the labels that it is called with."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        self.seen = []

    def forward(self, x, labels):
        self.seen.append((x.detach().clone(), labels.clone()))
        return self.network(torch.stack([x, labels.to(x.dtype)], 1))


def drawn(labels):
    embedding = pyro.param("embedding", lambda: torch.tensor([0.0, 0.1, 0.2, 0.3]))
    with pyro.plate("data", len(labels)):
        eps = pyro.sample("eps", dist.Normal(0.0, 0.2))
        return pyro.deterministic("x", 100 + embedding[labels] + eps, event_dim=0)


def of_labels(labels):
    return drawn(labels)


def of_rows_too(x, labels):
    return drawn(labels)


def of_a_number_too(batch_size, labels):
    assert batch_size == len(labels)
    return drawn(labels)


def of_a_number_last(labels, batch_size=None):
    assert batch_size == len(labels)
    return drawn(labels)


def observed(x, labels):
    embedding = pyro.param("embedding", lambda: torch.tensor([0.0, 0.1, 0.2, 0.3]))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(100 + embedding[labels], 0.2), obs=x)


MODELS = [of_labels, of_rows_too, of_a_number_too, of_a_number_last, observed]


@pytest.mark.filterwarnings("ignore:the model's draws have another place")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_named", [False, True])
def test_rows_and_their_labels_stay_together(model, is_named):
    discriminator = Paired()
    data = {"x": X, "labels": LABELS} if is_named else (X, LABELS)
    inference = GANInference(model, discriminator, discriminator_steps=2, loss=NonSaturating())
    inference.run(data, num_steps=4, batch_size=16, progress=False)
    real = [(x[x < 50], labels[x < 50]) for x, labels in discriminator.seen if (x < 50).any()]
    assert len(real) >= 8 and all(torch.equal((x / 2).round().long(), labels) for x, labels in real)
    fake = [labels[x > 50].sort().values for x, labels in discriminator.seen if (x > 50).any()]
    assert {len(labels) for labels in fake} <= {16, 64} and len(fake) >= 8
    samples = inference.sample(5, torch.tensor([3, 0, 1, 2, 2]))
    assert samples.shape == (5,) and (samples > 50).all()


def test_arguments_of_other_names_are_told_in_order():
    def discriminator(image, what):
        seen.append(what.dtype)
        return network(torch.stack([image, what.float()], 1))

    network, seen = nn.Linear(2, 1), []
    GANInference(of_labels, discriminator, loss=NonSaturating()).step(X + 100, LABELS)
    assert set(seen) == {torch.int64}


@pytest.mark.parametrize("by_name", [False, True])
def test_the_log_ratio_is_that_given_the_condition(by_name):
    def named(x, labels):
        return network(torch.stack([x, labels.float()], 1))

    network = nn.Linear(2, 1)
    discriminator = named if by_name else lambda image, what: named(image, what)
    inference = GANInference(of_labels, discriminator, loss=NonSaturating())
    inference.step(X + 97, LABELS)
    expected = named(X, LABELS)[:, 0]
    for rows in (X, LABELS), {"x": X, "labels": LABELS}, {"labels": LABELS, "x": X}:
        torch.testing.assert_close(inference.log_ratio(rows), expected)
    relative = GANInference(of_labels).run((X + 97, LABELS), num_steps=1, progress=False)
    assert relative.log_ratio((X, LABELS)).isfinite().all()


def test_a_discriminator_of_rows_alone_is_given_no_condition():
    network = nn.Linear(1, 1)
    inference = GANInference(of_labels, lambda x: network(x[:, None]), loss=NonSaturating())
    assert inference.step(X + 100, LABELS).generator is not None


def test_a_model_that_names_the_rows_takes_the_rows():
    def model(x):
        assert x.is_floating_point()
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    assert GANInference(model).run((X - 3, LABELS), num_steps=2, progress=False).sample(3).shape == (3,)


def test_a_slope_of_0_is_a_condition_too():
    """What a model makes of its argument shows in gradients where it does not show in draws."""

    def line(c):
        slope = pyro.param("slope", torch.tensor(0.0))
        with pyro.plate("data", len(c)):
            return pyro.deterministic("x", slope * c + pyro.sample("eps", dist.Normal(0.0, 0.3)), event_dim=0)

    c = torch.linspace(-1, 1, 2000)
    pyro.set_rng_seed(0)
    inference = GANInference(line).run((3 * c, c), num_steps=300, progress=False)
    assert pyro.param("slope").item() == pytest.approx(3.0, abs=0.5)
    assert inference.sample(3, [-1.0, 0.0, 1.0]).diff().min() > 1


def embedded_model(embedding, network):
    def model(condition):
        pyro.module("embedding", embedding)
        pyro.module("network", network)
        with pyro.plate("data", len(condition)):
            eps = pyro.sample("eps", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.deterministic("x", network(torch.cat([eps, embedding(condition)], 1)), event_dim=1)

    return model


CENTERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
WORDS = ["lower left", "upper left", "lower right", "upper right"]


@pytest.mark.parametrize("kind", ["labels", "one-hot", "captions"])
@pytest.mark.parametrize("options", [{}, {"matching_aware": True}])
def test_samples_are_what_was_asked_for(kind, options):
    pyro.set_rng_seed(0)
    labels = torch.randint(4, (2000,))
    embedding = {"labels": LabelEmbedding(4, 8), "one-hot": nn.Linear(4, 8), "captions": CaptionEmbedding(WORDS, 8)}
    module = embedding[kind]

    def condition(which):
        if kind == "labels":
            return which
        if kind == "one-hot":
            return nn.functional.one_hot(which, 4).float()
        return module.tokens([WORDS[label] for label in which])

    model = embedded_model(module, nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 2)))
    inference = GANInference(model, AutoDiscriminator(width=64, depth=2), **options)
    data = CENTERS[labels] + 0.1 * torch.randn(2000, 2)

    def part_right():
        nearest = torch.cdist(inference.sample(400, condition(labels[:400])), CENTERS).argmin(1)
        return (nearest == labels[:400]).float().mean().item()

    inference.step(data[:128], condition(labels[:128]))
    assert part_right() < 0.8
    inference.run((data, condition(labels)), num_steps=400, progress=False)
    assert part_right() > 0.97


# ---- every algorithm


def guide(x, labels):
    network = pyro.module("guide", GUIDE)
    with pyro.plate("data", len(x)):
        numbers = network(torch.stack([x, labels.float()], 1))
        pyro.sample("z", dist.Normal(numbers[:, 0], numbers[:, 1].exp()))


GUIDE = nn.Linear(2, 2)


def latent_model(labels):
    embedding = pyro.param("embedding", lambda: torch.tensor([0.0, 0.1, 0.2, 0.3]))
    with pyro.plate("data", len(labels)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        eps = pyro.sample("eps", dist.Normal(0.0, 0.1).mask(False), infer={"is_auxiliary": True})
        return pyro.deterministic("x", z + embedding[labels] + 0.0 * eps, event_dim=0)


@pytest.mark.parametrize("matching_aware", [False, True])
@pytest.mark.parametrize("algorithm", ["gan", "wgan", "bigan", "implicit"])
def test_every_algorithm_passes_conditions(algorithm, matching_aware):
    made = {
        "gan": lambda: GANInference(of_labels, matching_aware=matching_aware),
        "wgan": lambda: WGANInference(of_labels, matching_aware=matching_aware),
        "bigan": lambda: BiGANInference(latent_model, guide, matching_aware=matching_aware),
        "implicit": lambda: ImplicitKLqp(latent_model, guide, matching_aware=matching_aware),
    }
    x = X - 3 if algorithm in ("bigan", "implicit") else X + 97
    inference = made[algorithm]().run((x, LABELS), num_steps=2, batch_size=16, progress=False)
    names = [site.name for site in inference.discriminator.function.sites]
    assert names[-1] == "labels" and set(names) >= {"x", "labels"}
    found = inference.sample(3, torch.tensor([0, 1, 2]))
    assert (found if isinstance(found, torch.Tensor) else found["x"]).shape == (3,)
    if algorithm in ("bigan", "implicit"):
        assert inference.sample_posterior((x[:5], LABELS[:5]), 7)["z"].shape == (7, 5)
        assert inference.reconstruct(x[:5], LABELS[:5]).shape == (5,)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("algorithm", [BiGANInference, ImplicitKLqp])
def test_a_guide_that_builds_itself_sees_rows_and_conditions(algorithm, is_named):
    data = {"x": X - 3, "labels": LABELS} if is_named else (X - 3, LABELS)
    inference = algorithm(latent_model, AutoImplicitGuide(latent_model, width=8))
    inference.run(data, num_steps=2, batch_size=16, progress=False)
    assert [site.name for site in inference.guide.function.posterior.observations()] == ["x", "labels"]
    assert {site.name for site in inference.discriminator.function.sites} == {"x", "z", "labels"}
    assert inference.sample_posterior(data, 3)["z"].shape == (3, 64)


# ---- what is asked for


@pytest.fixture
def inference():
    return GANInference(of_labels).run((X + 97, LABELS), num_steps=2, batch_size=16, progress=False)


@pytest.mark.parametrize("kind", [list, np.array, lambda values: torch.tensor(values, dtype=torch.int32)])
def test_conditions_come_in_any_array(inference, kind):
    pyro.set_rng_seed(0)
    samples = inference.sample(3, kind([3, 0, 1]))
    pyro.set_rng_seed(0)
    assert torch.equal(samples, inference.sample(3, torch.tensor([3, 0, 1])))


def test_one_condition_for_all_rows(inference):
    pyro.set_rng_seed(0)
    samples = inference.sample(6, 3)
    pyro.set_rng_seed(0)
    assert torch.equal(samples, inference.sample(6, torch.full((6,), 3)))


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ([0, 1], ValueError, r"the condition 'labels' has 2 rows, but 3 samples are asked for. Pass one for each"),
        (
            [0, 1, 7],
            ValueError,
            r"the condition 'labels' holds 7, but in training it had the categories 0, 1, 2, 3 only",
        ),
        ([0, -1, 1], ValueError, r"the condition 'labels' holds -1, but in training it had the categories"),
        ([0.0, 1.0, 2.0], TypeError, r"'labels' is of type torch.int64 in the data, but torch.float\d\d was passed"),
        ([[0], [1], [2]], ValueError, r"the condition 'labels' has shape \(3, 1\), but \(3\) is expected"),
        (["two"], TypeError, r"the condition 'labels' must hold numbers, but is \['two'\]"),
    ],
)
def test_conditions_that_do_not_fit(inference, condition, error, message):
    with pytest.raises(error, match=message):
        inference.sample(3, condition)


def test_categories_of_all_runs_count(inference):
    inference.run((X[:8] + 97, torch.full((8,), 3)), num_steps=1, progress=False)
    with pytest.raises(ValueError, match="the categories 0, 1, 2, 3 only"):
        inference.sample(1, [9])


def test_a_condition_of_another_length_than_the_data_is_refused():
    with pytest.raises(ValueError, match="differ in length: 64, 63 rows"):
        GANInference(of_labels).run((X, LABELS[:63]), num_steps=1, progress=False)


def test_an_error_is_mended_in_the_same_inference():
    inference = GANInference(of_labels)
    with pytest.raises(IndexError):
        inference.step(X + 97, LABELS + 9)
    assert inference.run((X + 97, LABELS), num_steps=1, progress=False).sample(2, [0, 1]).shape == (2,)


def test_a_condition_that_is_ignored_is_told_of():
    def model(labels, weight):
        loc = pyro.param("loc", torch.tensor(97.0))
        with pyro.plate("data", len(labels)):
            return pyro.deterministic("x", loc + weight * pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    with pytest.warns(RuntimeWarning, match="the model ignores its condition 'labels': what it draws is the same"):
        GANInference(model).step({"x": X, "labels": LABELS, "weight": 1 + torch.rand(64)})


def test_labels_that_a_model_only_counts_are_told_of():
    def model(labels):
        loc = pyro.param("loc", torch.tensor(2.0))
        with pyro.plate("data", len(labels)):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    with pytest.warns(RuntimeWarning, match="the model ignores its condition 'labels': what it draws is the same"):
        inference = GANInference(model).run((X, LABELS), num_steps=2, progress=False)
    assert inference.sample(3, 1).shape == (3,)


def test_integers_are_categories_to_a_discriminator_that_builds_itself(inference):
    assert inference.discriminator.function.built()["labels"]["kinds"] == [0, 1, 2, 3]


# ---- matching


def test_each_row_is_given_the_next_other_condition():
    labels, numbers = torch.tensor([1, 1, 2, 1, 3]), torch.tensor([[0.0, 1.0]] * 3 + [[2.0, 3.0]] * 2)
    assert other_rows({"labels": labels}).tolist() == [2, 2, 3, 4, 0]
    assert other_rows({"labels": labels, "numbers": numbers}).tolist() == [2, 2, 3, 4, 0]
    assert other_rows({"numbers": numbers}).tolist() == [3, 3, 3, 0, 0]
    rows = torch.randint(3, (200, 2))
    others = other_rows({"rows": rows})
    assert (rows[others] != rows).any(1).all()


def test_the_loss_weighs_three_pairs_as_published():
    """Reed et al. (2016), algorithm 1: log s_r + (log(1 - s_w) + log(1 - s_f)) / 2."""
    real, fake, wrong = torch.randn(3, 50).unbind()
    published = logsigmoid(real).mean() + (logsigmoid(-wrong).mean() + logsigmoid(-fake).mean()) / 2
    for loss in Minimax(), NonSaturating():
        torch.testing.assert_close(matching_loss(loss, real, fake, wrong), -published)
    critic = matching_loss(Wasserstein(), real, fake, wrong)
    torch.testing.assert_close(critic, (fake.mean() + wrong.mean()) / 2 - real.mean())


@pytest.mark.filterwarnings("ignore:the model's draws have another place")
@pytest.mark.parametrize("loss", [NonSaturating(), LeastSquares(), Hinge(), Relativistic(), Wasserstein()])
def test_a_step_judges_real_rows_with_other_conditions(loss):
    discriminator = Paired()
    inference = GANInference(of_labels, discriminator, loss=loss, penalty=(), matching_aware=True)
    inference.step(X, LABELS, player="generator")
    discriminator.seen.clear()
    pyro.set_rng_seed(1)
    found = inference.step(X, LABELS, player="discriminator").discriminator
    x, labels = discriminator.seen[-1]
    assert torch.equal(x, X) and torch.equal(labels, LABELS[other_rows({"labels": LABELS})])
    assert found.isfinite()
    pyro.set_rng_seed(1)
    assert not math.isclose(
        found.item(),
        GANInference(of_labels, discriminator, loss=loss, penalty=())
        .step(X, LABELS, player="discriminator")
        .discriminator.item(),
    )


@pytest.mark.filterwarnings("ignore:the model's draws have another place")
def test_a_covariate_that_the_model_registers_is_a_condition():
    def model(labels):
        pyro.deterministic("labels", labels, event_dim=0)
        return drawn(labels)

    discriminator = Paired()
    inference = GANInference(model, discriminator, site=["x", "labels"], matching_aware=True, loss=NonSaturating())
    inference.step(X, LABELS, player="discriminator")
    x, labels = discriminator.seen[-1]
    assert torch.equal(x, X) and not (labels == LABELS).any()


@pytest.mark.slow
def test_compiled_steps_judge_the_same():
    def losses(compile):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        c = torch.nn.functional.one_hot(LABELS, 4).float()
        model = embedded_model(nn.Linear(4, 4), nn.Linear(5, 1))
        options = {"matching_aware": True, "interpolate_conditions": True}
        inference = GANInference(model, AutoDiscriminator(width=8, depth=1), **options)
        inference.run((X[:, None], c), num_steps=4, batch_size=16, compile=compile, progress=False)
        return inference.history["discriminator_loss"], inference.history["generator_loss"]

    for eager, compiled in zip(losses(False), losses(True), strict=True):
        assert compiled == pytest.approx(eager, abs=1e-4)


def test_the_generator_draws_between_conditions_too():
    seen = []

    def model(c):
        seen.append(c.detach().clone())
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(c)):
            return pyro.deterministic("x", scale * c + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    c = torch.randn(16)
    inference = GANInference(model, interpolate_conditions=True)
    inference.step(X[:16], c, player="generator")
    seen.clear()
    inference.step(X[:16], c, player="generator")
    assert torch.equal(seen[0], c) and len(seen) == 2
    torch.testing.assert_close(seen[1], (c + c.roll(-1)) / 2)


def test_the_loss_of_what_is_drawn_between_is_added():
    """Reed et al. (2016), equation 5, with the loss of NonSaturating, -log D."""

    def model(c):
        scale = pyro.param("scale", torch.tensor(2.0))
        with pyro.plate("data", len(c)):
            return pyro.deterministic("x", scale * c, event_dim=0)

    network, c = nn.Linear(2, 1), torch.randn(16)

    def discriminator(x, c):
        return network(torch.stack([x, c], 1))[:, 0]

    inference = GANInference(model, discriminator, loss=NonSaturating(), interpolate_conditions=True)
    middle = (c + c.roll(-1)) / 2
    expected = -sum(logsigmoid(discriminator(2 * each, each)).mean() for each in (c, middle))
    torch.testing.assert_close(inference.evaluate_loss(X[:16], c).generator, expected.detach())
    torch.testing.assert_close(inference.step(X[:16], c, player="generator").generator, expected.detach())


@pytest.mark.parametrize(
    ("model", "discriminator", "data", "options", "message"),
    [
        (
            of_labels,
            None,
            (X, LABELS),
            {"interpolate_conditions": True},
            r"'labels' is of type torch.int64 and has",
        ),
        (drawn, lambda x: x, (X, LABELS), {"matching_aware": True}, "not told the model's condition 'labels'. Give it"),
        ("location", None, X, {"matching_aware": True}, "but the model takes none from the data. Give it an argument"),
        ("location", None, X, {"interpolate_conditions": True}, "the model takes none from the data"),
    ],
)
def test_options_without_what_they_need(model, discriminator, data, options, message):
    def location(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", loc + pyro.sample("eps", dist.Normal(0.0, 1.0)), event_dim=0)

    with pytest.raises(ValueError, match=message):
        GANInference(location if model == "location" else model, discriminator, **options).run(
            data, num_steps=1, progress=False
        )


def test_an_algorithm_of_ones_own_that_leaves_conditions_out():
    class Own(GANInference):
        def draw(self, batch):
            return super().draw(batch)._replace(conditions=())

    with pytest.raises(ValueError, match="needs samples with conditions, but these have none"):
        Own(of_labels, matching_aware=True).step(X + 97, LABELS)


def test_draws_are_not_shared_where_others_are_drawn():
    with pytest.raises(ValueError, match=r"share_draws=True .* interpolate_conditions=True draws other rows"):
        GANInference(of_labels, share_draws=True, interpolate_conditions=True)


def test_penalties_leave_conditions_out_unless_they_are_named():
    rows = {"x": torch.randn(4, requires_grad=True), "c": torch.randn(4, requires_grad=True)}

    def judge(rows):
        return 3 * rows["x"] + 4 * rows["c"]

    judgement = Judgement(judge, rows, rows, judge(rows), judge(rows), ("c",))
    assert R1(2.0)(judgement).tolist() == [9.0] * 4
    assert R1(2.0, site="c")(judgement).tolist() == [16.0] * 4
    torch.testing.assert_close(GradientPenalty(1.0)(judgement), torch.full((4,), 4.0))


# ---- embeddings


def test_labels_are_embedded_whatever_their_integers():
    embedding = LabelEmbedding(3, 5)
    assert torch.equal(embedding(torch.tensor([2, 0], dtype=torch.uint8)), embedding.weight[[2, 0]])
    with pytest.raises(ValueError, match=r"labels hold -1, 3, but the embedding has 3 labels, from 0 to 2"):
        embedding(torch.tensor([0, 3, -1]))
    with pytest.raises(TypeError, match=r"labels must be a tensor of integers, but are of type torch.float32"):
        embedding(torch.zeros(3))


def test_captions_are_means_of_their_words():
    embedding = CaptionEmbedding(["a Red square", "a square"], 4)
    assert embedding.words == ("a", "red", "square")
    tokens = embedding.tokens(["square a", "red"])
    torch.testing.assert_close(embedding(tokens)[0], embedding.embedding.weight[[1, 3]].mean(0))
    torch.testing.assert_close(embedding(tokens)[1], embedding.embedding.weight[2])
    assert torch.equal(embedding.tokens("red"), tokens[1:])


@pytest.mark.parametrize(
    ("captions", "error", "message"),
    [
        (
            ["a blue square"],
            ValueError,
            "the caption 'a blue square' has the unknown word 'blue', but captions have",
        ),
        (["a a a a"], ValueError, "the caption 'a a a a' has 4 words, but captions have up to 3 of the words 'a', 'r"),
        ([""], ValueError, "the caption '' has 0 words"),
        ([7], TypeError, r"captions must be a list of texts such as .*, but are \[7\]"),
    ],
)
def test_captions_that_are_not_known(captions, error, message):
    embedding = CaptionEmbedding(["a red square", "a square"], 4)
    with pytest.raises(error, match=message):
        embedding.tokens(captions)


@pytest.mark.parametrize("captions", [["two"] * 64, np.array(["two"] * 64)])
def test_text_has_to_be_turned_into_numbers(captions):
    with pytest.raises(TypeError, match=r"\[1\] must .* captions are embedding\.tokens"):
        GANInference(of_labels).run((X, captions), num_steps=1, progress=False)


def test_a_loader_and_a_data_set_pass_conditions_too():
    rows = torch.utils.data.TensorDataset(X + 97, LABELS)
    for data in rows, torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True):
        inference = GANInference(of_labels).run(data, num_steps=3, batch_size=16, progress=False)
        assert inference.sample(2, [0, 3]).shape == (2,)


def test_a_fit_is_checked_and_exported_with_its_conditions():
    pyro.set_rng_seed(0)
    inference = GANInference(of_labels).run((X + 97, LABELS), num_steps=3, progress=False)
    assert inference.check((X + 97, LABELS)).problems
    exported = inference.to_inference_data(X + 97, LABELS, num_draws=3)
    assert exported["posterior_predictive"]["x"].shape == (1, 3, 64)
    assert np.array_equal(exported["constant_data"]["labels"].values, LABELS.numpy())


def test_a_condition_that_does_not_vary_at_first_is_one():
    def model(labels):
        assert not labels.is_floating_point()
        return drawn(labels)

    inference = GANInference(model)
    inference.step(X + 97, torch.ones(64, dtype=torch.int64))
    assert inference.sample(2, [0, 3]).shape == (2,)


def test_a_model_is_not_called_with_rows_where_it_takes_conditions():
    """On some devices an index that is out of range ends the process."""

    def model(labels):
        seen.add(labels.dtype)
        return drawn(labels)

    seen = set()
    GANInference(model).step(X + 97, LABELS)
    assert seen == {torch.int64}
