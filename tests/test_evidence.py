"""The evidence page holds what its CSV files say, and the scripts that write them compare like with like."""

import itertools
import re

import convolutions
import digits
import exact
import matplotlib.pyplot as plt
import mixtures
import numpy as np
import pixels
import posteriors
import pyro
import pytest
import records
import sensitivity
import simulators
import tables
import torch
from fitting import RECIPES, implicit_model, network
from scipy import stats

from pyro_gan import AutoImplicitGuide, BiGANInference, GANInference
from pyro_gan.criticism import calibration_ranks, calibration_test, parzen_log_likelihood, select_bandwidth
from pyro_gan.datasets import ring

PAGE = (tables.DOCS / "evidence.md").read_text()


def test_the_pages_tables_are_what_the_files_say():
    assert tables.filled(PAGE, tables.DOCS / "evidence") == PAGE


@pytest.mark.parametrize("name", tables.TABLES)
def test_another_figure_is_another_page(name, tmp_path):
    for path in (tables.DOCS / "evidence").glob("*.csv"):
        lines = path.read_text().splitlines(keepends=True)
        (tmp_path / path.name).write_text("".join(lines[:-1] if path.stem == name else lines))
    assert tables.filled(PAGE, tmp_path) != PAGE


def test_every_line_of_a_table_has_as_many_cells_as_the_table_has_titles():
    for found in tables.PLACE.finditer(PAGE):
        lines = found[0].splitlines()[2:-2]
        assert len(lines) > 2
        assert len({line.count("|") for line in lines}) == 1


def test_every_table_has_a_place_in_the_page():
    assert {found[2] for found in tables.PLACE.finditer(PAGE)} == {*tables.TABLES, "versions"}


def test_the_scripts_files_make_a_page_with_a_heat_map(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in [*tables.TABLES, "versions"]))
    for script, *arguments in (
        (mixtures,),
        (sensitivity, "--recipes", "edward"),
        (posteriors, "--tasks", "SLCP", "two moons"),
        (exact, "--tasks", "angle", "amount"),
        (digits, "--sources", "k-means", "training", "gaussians"),
    ):
        script.main(script.parser().parse_args(["--quick", *arguments, "--out", str(tmp_path)]))
    (tmp_path / "sensitivity.png").unlink()
    tables.main(tables.parser().parse_args(["--page", str(page), "--out", str(tmp_path)]))
    text = page.read_text()
    assert len(re.findall(r"^\| (ring|grid), (default|edward) \| 20 \| 1 \|", text, re.MULTILINE)) == 4
    sources = re.findall(r"^\| ([^|]*) \|  \| 0 \|", text, re.MULTILINE)
    assert sources == [tables.SOURCES[name] for name in ("gaussians", "k-means", "training")]
    assert re.search(r"^\| edward \| 5 \| 8 \| 0 \| 0 \| 0 \| 0 \| 0 \|$", text, re.MULTILINE)
    tasks = re.findall(r"^\| ([^|]*), `BiGANInference` \| 300 \| 20 \| 1 \| 0\.\d+ \|", text, re.MULTILINE)
    assert tasks == ["SLCP", "two moons"]
    assert re.findall(r"^\| (angle|amount) \| 0\.\d+ \| 0\.\d+ \| \d+ \|$", text, re.MULTILINE) == ["angle", "amount"]
    assert f"| {' | '.join(records.VERSIONS.values())} |" in text
    assert all(plt.imread(tmp_path / name)[..., :3].std() > 0.05 for name in ("sensitivity.png", "posteriors.png"))


def test_means_and_ends_over_seeds():
    same = {"data": "ring", "recipe": "default", "num_steps": "9000", "of": "8"}
    rows = [
        {**same, "seed": "0", "modes": "8", "high_quality": "0.95", "reverse_kl": "0.001"},
        {**same, "seed": "1", "modes": "7", "high_quality": "0.85", "reverse_kl": "0.003"},
    ]
    line = tables.mixtures(rows).splitlines()[2]
    assert line == "| ring, default | 9,000 | 2 | 7.5 (7 to 8) of 8 | 90.0 (85.0 to 95.0) | 0.002 (0.001 to 0.003) |"


def test_a_setting_succeeds_with_all_modes_and_high_quality():
    rows = [
        {"recipe": "default", "num_steps": "9", "modes": modes, "high_quality": quality}
        for modes, quality in (("8", "0.5"), ("8", "0.49"), ("7", "0.99"), ("8", "1.0"))
    ]
    assert [sensitivity.succeeds(row) for row in rows] == [True, False, False, True]
    assert tables.sensitivity(rows).splitlines()[2] == "| default | 9 | 4 | 3 | 3 | 2 | 1 | 1 |"


def test_runs_that_were_cut_off_go_on(tmp_path):
    path, tried = tmp_path / "new" / "table.csv", []

    def run(seed, form):
        tried.append((seed, form))
        if len(tried) == 2:
            raise KeyboardInterrupt
        return {"found": 10 * seed}

    settings = [{"seed": seed, "form": "a"} for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        records.complete(path, settings, run)
    assert [row["found"] for row in records.read(path)] == ["0"]
    rows = records.complete(path, settings, run)
    assert tried == [(0, "a"), (1, "a"), (1, "a"), (2, "a")]
    assert rows == records.read(path)
    assert [(row["seed"], row["found"]) for row in rows] == [("0", "0"), ("1", "10"), ("2", "20")]
    assert all(row[name] == version for row in rows for name, version in records.VERSIONS.items())


def test_both_recipes_and_the_autoencoder_have_the_same_networks():
    training, _, _ = digits.load("digits")
    shapes = []
    for source in "default", "edward", "vae":
        pyro.clear_param_store()
        digits.SOURCES[source](training, 1, 1)
        parameters = pyro.get_param_store().items()
        shapes.append([value.shape for name, value in parameters if name.startswith(("generator", "decoder"))])
    assert len(shapes[0]) == 8
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_middle_of_the_settings_is_the_recipe_itself(recipe):
    def trained(options):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        data, generator = ring(500).rows, network([2, 16, 2])
        inference = GANInference(implicit_model(generator, 2), network([2, 16, 1]), **options)
        inference.run(data, num_steps=20, batch_size=32, progress=False)
        return torch.cat([each.detach().flatten() for each in generator.parameters()])

    expected = trained(RECIPES[recipe])
    torch.testing.assert_close(trained(sensitivity.options(recipe, 1.0, 20)), expected, rtol=1e-3, atol=1e-5)
    assert (trained(sensitivity.options(recipe, 2.0, 20)) - expected).abs().max() > 0.01


def test_settings_vary_two_at_a_time_about_the_middle():
    tried, middle = sensitivity.settings(is_quick=False), sensitivity.Setting()
    assert len(tried) == len(set(tried)) == 48
    assert middle in tried
    pairs = {"rate", "width"}, {"batch_size", "noise"}
    for setting in tried:
        varied = {name for name in middle._fields if getattr(setting, name) != getattr(middle, name)}
        assert any(varied <= pair for pair in pairs)


def test_discriminators_of_images_have_convolutions_only_where_they_say_so():
    x, images = torch.rand(40, 1, 8, 8), {}
    for way in convolutions.WAYS:
        discriminator = convolutions.discriminator_of(way, 64)
        assert discriminator(x).shape in ((40,), (40, 1))
        images[way] = any(isinstance(part, torch.nn.Conv2d) for part in discriminator.modules())
    assert images == {"connected": False, "automatic-connected": False, "automatic": True}


def test_a_discriminator_of_convolutions_is_trained_for_as_long_as_was_asked(tmp_path):
    convolutions.main(convolutions.parser().parse_args(["--quick", "--ways", "automatic", "--out", str(tmp_path)]))
    (row,) = records.read(tmp_path / "convolutions.csv")
    assert int(row["num_steps"]) > 0 and float(row["of_processor"]) > 0.0
    assert float(row["energy"]) > 0.0 and 0.0 <= float(row["coverage"]) <= 1.0


def test_each_way_to_show_pixels_has_a_row_that_its_seed_gives_again(tmp_path):
    pixels.main(pixels.parser().parse_args(["--quick", "--out", str(tmp_path)]))
    assert b"\r" not in (tmp_path / "pixels.csv").read_bytes()
    rows = records.read(tmp_path / "pixels.csv")
    assert [row["way"] for row in rows] == list(pixels.WAYS)
    assert len({row["energy"] for row in rows}) == len(pixels.WAYS)
    expected = str(pixels.run("tanh", "digits", 0, 20, num_samples=100)["energy"])
    assert [row["energy"] for row in rows if row["way"] == "tanh"] == [expected]


def test_the_ways_to_show_pixels_differ_by_what_they_say_alone():
    x = torch.linspace(-1.0, 1.0, 640).reshape(10, 64)
    made = {}
    for way in pixels.WAYS:
        pyro.set_rng_seed(0)
        made[way] = pixels.networks(way, 64)
    noise = torch.randn(10, pixels.NOISE_SIZE)
    generators = {way: generator(noise) for way, (generator, _) in made.items()}
    torch.testing.assert_close(2 * generators["sigmoid"] - 1, (generators["tanh"].atanh() / 2).tanh())
    for way, each in generators.items():
        assert torch.equal(each, generators["tanh" if "tanh" in way else "sigmoid"])
    judged = {way: discriminator for way, (_, discriminator) in made.items()}
    assert torch.equal(judged["sigmoid"](x), judged["tanh"](x))
    assert torch.equal(judged["negative"](x), judged["tanh"](x))
    for way in pixels.WAYS:
        torch.testing.assert_close(pixels.original(way, pixels.shown(way, x)), x)
    assert pixels.shown("negative", torch.zeros(2)).tolist() == [1, 1]
    assert torch.equal(judged["tanh-half-rates"](x), judged["tanh"](x))
    assert torch.equal(judged["tanh-moved-up"](x), judged["tanh"](x + 1))


def test_half_the_rates_are_half_the_first_update():
    images, moved = torch.rand(128, 64, generator=torch.Generator().manual_seed(0)), {}
    for way in "tanh", "tanh-half-rates":
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        _, before = pixels.networks(way, 64)
        pyro.set_rng_seed(0)
        after = pixels.fitted(way, images, 1).discriminator.function
        weights = zip(before.parameters(), after.parameters(), strict=True)
        moved[way] = torch.cat([(later - first).detach().flatten() for first, later in weights])
    assert moved["tanh"].abs().max() == pytest.approx(2e-3, rel=1e-3)
    torch.testing.assert_close(moved["tanh-half-rates"], moved["tanh"] / 2, rtol=0, atol=1e-7)


def test_a_seed_gives_the_same_row():
    arguments = {"recipe": "default", "seed": 3, "num_steps": 5, **sensitivity.Setting(width=8)._asdict()}
    assert sensitivity.run(**arguments) == sensitivity.run(**arguments)


def test_training_images_are_found_out_as_copies_and_centroids_have_the_better_parzen_value():
    training, validation, test = digits.load("digits")
    measured = {
        source: digits.measure(
            digits.SOURCES[source](training, 300, 0), *map(digits.grey, (training, validation, test))
        )
        for source in ("training", "k-means", "gaussians")
    }
    assert measured["training"]["distance"] == 0.0
    assert measured["training"]["nearer"] == 1.0
    assert measured["k-means"]["parzen"] > measured["training"]["parzen"] + 5
    assert 0.2 < measured["gaussians"]["nearer"] < 0.8
    for first, second in itertools.pairwise(measured.values()):
        assert first["held_out_distance"] == second["held_out_distance"] > 1.0


def test_the_window_is_chosen_on_the_validation_images_alone():
    training, validation, test = map(digits.grey, digits.load("digits"))
    samples = digits.SOURCES["training"](digits.load("digits")[0], 200, 0)
    found = digits.measure(samples, training, validation, test)
    sigma = select_bandwidth(samples, validation)
    assert found["sigma"] == pytest.approx(sigma, abs=1e-4)
    assert found["parzen"] == pytest.approx(parzen_log_likelihood(samples, test, sigma).mean, abs=0.01)


@pytest.mark.parametrize("name", simulators.TASKS)
def test_true_parameters_rank_evenly_among_reference_draws(name):
    pyro.set_rng_seed(0)
    task = simulators.TASKS[name]
    truth = task.prior.sample((40,))
    draws = torch.stack([task.reference(x, 100) for x in task.simulate(truth)])
    ranks = calibration_ranks(truth, draws)
    assert (torch.as_tensor(calibration_test(ranks, num_draws=100).pvalue) > 0.001).all()
    rest = (draws - draws.mean(1, keepdim=True)).flatten(0, 1)
    prior = task.prior.sample((4000,))
    assert torch.linalg.eigvalsh(rest.T.cov())[0] < 0.6 * prior.var(0).min()  # draws of the prior rank evenly too


@pytest.mark.parametrize("name", exact.SIMULATORS)
def test_known_posteriors_are_those_of_the_simulator(name):
    pyro.set_rng_seed(0)
    simulator = exact.SIMULATORS[name]
    inference = BiGANInference(simulator.model, AutoImplicitGuide(simulator.model))
    assert inference.run(simulator.simulate(300), num_steps=1, progress=False).observed_sites == ("x",)
    prior = simulator.simulate(200_000)
    parameters = torch.stack([prior[site] for site in simulator.prior], 1)
    likelihood = simulator.likelihood(**{site: prior[site] for site in simulator.prior})
    # Posterior probabilities of parameters and of observations that were drawn together are uniform.
    below = []
    for row in range(100):
        weights = likelihood.log_prob(prior["x"][row]).double()
        weights[row] = -torch.inf
        weights = weights.softmax(0)
        below.append((weights[:, None] * (parameters < parameters[row])).sum(0))
    assert stats.kstest(torch.stack(below).flatten().numpy(), "uniform").pvalue > 1e-3


def test_distances_are_those_between_distribution_functions():
    pyro.set_rng_seed(0)
    rows, few, many = torch.rand(400_000, 1), stats.beta(4, 18), stats.beta(7, 15)
    weights = torch.as_tensor(few.pdf(rows[:, 0].double().numpy()))
    weights /= weights.sum()
    places = np.linspace(0, 1, 10_001)
    expected = np.abs(few.cdf(places) - many.cdf(places)).max()
    for other, distance in ((few, 0.0), (many, expected)):
        draws = torch.as_tensor(other.rvs((20_000, 1), random_state=0))
        assert exact.distances(draws, rows, weights) == pytest.approx([distance], abs=0.012)
