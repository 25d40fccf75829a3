from collections import namedtuple

import numpy as np
import pyro
import pytest
import torch
from models import location_model, scalar_discriminator

from pyro_gan import GANInference
from pyro_gan.criticism import compare, density_coverage, parzen_log_likelihood, precision_recall, select_bandwidth

Pair = namedtuple("Pair", ["one", "two"])


def rows(num_rows, seed, shift=0.0):
    return shift + torch.randn(num_rows, 2, generator=torch.Generator().manual_seed(seed))


def test_the_table_holds_each_models_measures():
    test, exact, shifted = rows(300, 0), rows(300, 1), rows(300, 2, shift=2.0)
    table = compare({"exact": exact, "shifted": shifted.numpy()}, test)
    assert list(table.index) == ["exact", "shifted"]
    assert list(table.columns) == [
        *("parzen_mean", "parzen_standard_error", "energy_statistic", "energy_pvalue", "sliced_wasserstein"),
        *("precision", "recall", "density", "coverage"),
    ]
    recall = precision_recall(test, shifted).recall
    assert table.loc["shifted", "recall"] == recall
    assert table.loc["exact", "coverage"] == density_coverage(test, exact).coverage
    better = table.loc["exact"] - table.loc["shifted"]
    assert (better[["parzen_mean", "energy_pvalue", "precision", "recall", "coverage"]] > 0).all()
    assert (better[["energy_statistic", "sliced_wasserstein"]] < 0).all()


def test_parzen_chooses_its_window_on_rows_that_it_does_not_score():
    test, samples = rows(50, 0), rows(100, 1)
    width = select_bandwidth(samples, test[::5])
    rest = test[[index for index in range(50) if index % 5]]
    expected = parzen_log_likelihood(samples, rest, width).mean
    assert compare({"model": samples}, test).loc["model", "parzen_mean"] == pytest.approx(expected, abs=1e-5)


def test_trained_models_are_sampled_and_own_measures_used():
    data = torch.randn(100)
    inference = GANInference(location_model, scalar_discriminator(4)).run(data, num_steps=2, progress=False)
    measures = {"count": lambda samples, test: len(samples), "pair": lambda samples, test: Pair(1, 2.5)}
    draws = {"GAN": inference.sample, "other": lambda number: np.zeros(number)}
    table = compare(draws, data, num_samples=7, measures=measures)
    assert table.to_dict("index") == {name: {"count": 7.0, "pair_one": 1.0, "pair_two": 2.5} for name in draws}


def test_the_same_seed_gives_the_same_table():
    tables = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        tables.append(compare({"model": rows(60, 1)}, rows(60, 0)))
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("models", [{}, torch.zeros(3, 2), [torch.zeros(3, 2)]])
def test_what_is_no_mapping_is_refused(models):
    with pytest.raises(TypeError, match="models must be a mapping from names to samples, but is"):
        compare(models, rows(5, 0))


def test_a_measures_error_names_the_model():
    with pytest.raises(ValueError, match=r"^wrong: samples have shape \(9, 3\)"):
        compare({"right": rows(9, 1), "wrong": torch.zeros(9, 3)}, rows(9, 0))
