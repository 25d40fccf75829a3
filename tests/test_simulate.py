"""Simulations in parallel: the right draws, whatever the number of processes, none lost or doubled after a kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from pyro_gan import AutoImplicitGuide, BiGANInference, GANInference, simulate
from pyro_gan.simulations.shards import Plan


def rows(batch_size):
    """z ~ N(1, 4), x ~ N(z, 1)."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(1.0, 2.0))
        pyro.sample("x", dist.Normal(z, 1.0))


def single():
    """The same, one simulation a run, with an observation that is not drawn elsewhere."""
    z = pyro.sample("z", dist.Normal(1.0, 2.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(100.0))


def in_plate():
    """The same, 30 a run."""
    with pyro.plate("data", 30):
        z = pyro.sample("z", dist.Normal(1.0, 2.0))
        pyro.sample("x", dist.Normal(z, 1.0))


def failing(batch_size):
    """Simulations with z > 1 hold NaN."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("x", torch.where(z > 1.0, torch.nan, z))


def raising():
    """Simulations with z > 1 raise."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    if z > 1.0:
        raise RuntimeError("the solver gave up")
    pyro.sample("x", dist.Normal(z, 1.0))


def raising_in_rows(batch_size):
    """A run with a row of z > 2.5 raises."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    if (z > 2.5).any():
        raise RuntimeError("the solver gave up")


def draw(model, number=400, **options):
    return simulate(model, number, **{"seed": 1, "progress": False, **options})


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[site], other[site]) for site in one)


@pytest.mark.parametrize("model", [rows, single, in_plate])
def test_simulations_are_of_the_model(model):
    found = draw(model, 1999)
    assert list(found) == ["z", "x"] and all(each.shape == (1999,) for each in found.values())
    assert len(torch.stack([found["z"], found["x"]]).unique(dim=1)[0]) == 1999
    assert stats.kstest(found["z"], stats.norm(1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(found["x"] - found["z"], stats.norm.cdf).pvalue > 1e-3


def test_a_plate_inside_of_a_simulation_is_no_row():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("trials", 5):
            pyro.sample("x", dist.Normal(z, 1.0))

    found = draw(model, 20)
    assert found["z"].shape == (20,) and found["x"].shape == (20, 5)


@pytest.mark.parametrize("model", [rows, single])
def test_a_seed_gives_the_same_whatever_the_number_of_processes(model, tmp_path):
    alone = draw(model)
    assert same(draw(model, num_workers=2), alone)
    assert same(draw(model, num_workers=2, folder=tmp_path), alone)
    assert not same(draw(model, seed=2), alone)


def test_a_model_in_main_with_a_network_has_its_parameters_elsewhere_too():
    network, shift = nn.Linear(1, 1), 3.0
    pyro.param("loc", torch.zeros(()))
    pyro.get_param_store()["loc"] = torch.tensor(50.0)  # as after training

    def model(batch_size):
        pyro.module("network", network)
        with pyro.plate("data", batch_size):
            z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0))
            pyro.deterministic("x", network(z[:, None]).squeeze(1) + shift)

    found = draw(model, num_workers=2)
    assert abs(found["z"].mean() - 50) < 1
    torch.testing.assert_close(found["x"], network(found["z"][:, None]).squeeze(1).detach() + shift)


def test_random_states_move_alike_whether_drawn_or_read(tmp_path):
    states = []
    for _ in range(2):
        pyro.set_rng_seed(0)
        simulate(rows, 100, folder=tmp_path, progress=False)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    pyro.set_rng_seed(0)
    assert same(simulate(rows, 100, progress=False), simulate(rows, 100, folder=tmp_path, progress=False))


def test_no_two_shards_have_one_seed():
    plan = Plan(10**7, 1, 7)
    seeds = [plan.seed_of(number) for number in range(-1, 20_000)]
    assert len(set(seeds)) == len(seeds)


def test_a_folder_is_mapped_into_memory_and_trained_on(tmp_path):
    found = draw(rows, 1000, folder=tmp_path)
    in_file = np.load(tmp_path / "valid-1.npy")
    np.testing.assert_array_equal(in_file, found["x"])
    found["x"][0] = 9.0  # reaches neither the file nor a later reading
    np.testing.assert_array_equal(np.load(tmp_path / "valid-1.npy"), in_file)
    again = draw(rows, 1000, folder=tmp_path)
    assert again["x"][0] == in_file[0] and str(tmp_path) in Path("/proc/self/maps").read_text()
    inference = BiGANInference(rows, AutoImplicitGuide(rows)).run(again, num_steps=5, batch_size=100, progress=False)
    assert inference.sample_posterior(torch.zeros(1), num_samples=3)["z"].shape == (3, 1)


def test_what_is_there_is_not_drawn_again(tmp_path):
    drawn = []

    def model(batch_size):
        drawn.append(batch_size)
        rows(batch_size)

    complete = draw(model, 100, shard_size=10)
    number = len(drawn)
    plan = Plan(100, 10, 1)
    with pytest.raises(RuntimeError):
        draw(lambda batch_size: stop_after(model, batch_size, drawn, number + 6), 100, shard_size=10, folder=tmp_path)
    shards = sorted(tmp_path.glob("shard-*"))
    assert len(shards) == 5 and not (tmp_path / "complete.json").exists()
    shards[2].write_bytes(shards[2].read_bytes()[:-20])  # as a disk may do
    drawn.clear()
    assert same(draw(model, 100, shard_size=10, folder=tmp_path), complete)
    assert len(drawn) == 1 + 6  # the look, five shards, and the damaged one
    assert plan.num_shards == 10 and not list(tmp_path.glob("shard-*"))


def stop_after(model, batch_size, drawn, number):
    if len(drawn) == number:
        raise RuntimeError("stopped")
    model(batch_size)


@pytest.mark.parametrize("model", [failing, raising])
@pytest.mark.parametrize("in_folder", [True, False])
def test_failures_are_kept_apart_counted_and_told(model, in_folder, tmp_path):
    folder = tmp_path if in_folder else None
    with pytest.warns(RuntimeWarning, match=r"left out .* of 2,000 simulations that failed") as told:
        found = draw(model, 2000, invalid="exclude", folder=folder, num_workers=2)
    assert len(found["x"]) + found.num_failed == 2000
    assert abs(found.num_failed / 2000 - stats.norm.sf(1)) < 0.03  # four deviations
    assert found["z"].max() <= 1
    if model is failing:
        assert found.num_raised == 0 and found["x"].isfinite().all()
        assert len(found.failed["z"]) == found.num_failed and found.failed["z"].min() > 1
        assert "hold NaN or infinity" in str(told[0].message)
    else:
        assert found.num_not_finite == 0 and "RuntimeError: 'the solver gave up'" in str(told[0].message)
        assert not found.failed
    with pytest.warns(RuntimeWarning, match="left out"):
        assert same(draw(model, 2000, invalid="exclude", folder=folder), found)


def test_a_run_of_many_rows_that_raises_is_drawn_row_by_row():
    with pytest.warns(RuntimeWarning, match="left out"):
        found = draw(raising_in_rows, 5000, shard_size=100, invalid="exclude")
    assert len(found["z"]) + found.num_raised == 5000 and found["z"].max() <= 2.5
    expected = 5000 * stats.norm.sf(2.5)
    assert 0.4 * expected < found.num_raised < 2 * expected


def test_failures_are_errors_by_default(tmp_path):
    with pytest.raises(
        ValueError, match=r"simulations of shard 0 \(seed \d+\) failed: .* hold NaN .*invalid='exclude'"
    ):
        draw(failing)
    with pytest.raises(RuntimeError, match="the solver gave up") as caught:
        draw(raising, folder=tmp_path)
    assert "simulation of shard 0, from seed" in caught.value.__notes__[0]
    with pytest.warns(RuntimeWarning, match="left out"):
        excluded = draw(raising, folder=tmp_path, invalid="exclude")
    assert excluded.num_failed
    with pytest.raises(ValueError, match=r"simulations in .* failed: .* raised"):
        draw(raising, folder=tmp_path)


def test_when_all_fail_there_is_an_error():
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", torch.full((batch_size,), torch.nan))

    with pytest.raises(ValueError, match=r"all 40 simulations failed: 40 hold NaN or infinity. Check the simulator"):
        draw(model, 40, invalid="exclude")


def changed(batch_size):
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(5.0, 2.0))
        pyro.sample("x", dist.Normal(z, 1.0))


def test_a_folder_of_other_simulations_is_refused(tmp_path):
    draw(rows, 100, folder=tmp_path)
    for options, message in [
        ({"num_simulations": 200}, "num_simulations=100, but this is 200"),
        ({"shard_size": 3}, "shard_size=7, but this is 3"),
        ({"seed": 5}, "seed=1, but this is 5"),
        ({"sites": ["x"]}, r"simulations of sites \['z', 'x'\], but the model draws \['x'\]"),
        ({"model": changed}, "a model that draws site 'z' otherwise than this one"),
    ]:
        given = {"model": rows, "num_simulations": 100, "seed": 1, "folder": tmp_path, "progress": False, **options}
        with pytest.raises(ValueError, match=message):
            simulate(**given)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty .*'notes.txt'.*holds no simulations"):
        draw(rows, folder=other)
    with pytest.raises(ValueError, match="is a file, but a folder is expected"):
        draw(rows, folder=other / "notes.txt")


def test_a_simulator_with_random_numbers_of_its_own_goes_on(tmp_path):
    def model(batch_size):
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", torch.from_numpy(np.random.default_rng().normal(size=batch_size)))

    first = draw(model, 100, folder=tmp_path)
    assert same(draw(model, 100, folder=tmp_path), first)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": 3}, TypeError, "model must be a Pyro model, a callable, but is 3"),
        ({"model": lambda x: x}, TypeError, "the model takes 'x', but simulations are drawn without data"),
        ({"model": lambda: None}, ValueError, "the model draws nothing to keep"),
        ({"num_simulations": 0}, ValueError, "num_simulations must be a positive integer, but is 0"),
        ({"num_workers": 0}, ValueError, "num_workers must be a positive integer, but is 0"),
        ({"invalid": "skip"}, ValueError, "invalid must be 'raise' or 'exclude', but is 'skip'"),
        ({"seed": -1}, ValueError, r"seed must be an integer of at least 0 and below 2\*\*32, but is -1"),
        ({"sites": "x"}, TypeError, "sites must be a list of names, but is 'x'"),
        ({"sites": ["y"]}, ValueError, "sites names 'y', which the model does not draw; it has 'z', 'x'"),
        ({"shard_size": 0}, ValueError, "shard_size must be a positive integer"),
        ({"folder": 3}, TypeError, "folder must be a folder's path, but is 3"),
        ({"folder": ""}, ValueError, "folder must be a folder's path, but is ''"),
    ],
)
def test_wrong_arguments_are_told(options, error, message):
    with pytest.raises(error, match=message):
        simulate(**{"model": rows, "num_simulations": 10, "progress": False, **options})


def test_what_is_no_row_is_told():
    def model(batch_size):
        shared = pyro.sample("shared", dist.Normal(0.0, 1.0))
        with pyro.plate("data", batch_size):
            pyro.sample("x", dist.Normal(shared, 1.0))

    with pytest.raises(ValueError, match=r"site 'shared' has shape \(\) where the model was called with batch_size=2"):
        draw(model)
    assert draw(model, 50, sites=["x"])["x"].shape == (50,)


def test_simulations_of_varying_shape_are_told():
    def model():
        number = int(pyro.sample("number", dist.Poisson(3.0))) + 1
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([number]).to_event(1))

    with pytest.raises(ValueError, match=r"site 'x' has shape .* in one run of the model and .*with a mask"):
        draw(model)


def test_a_model_that_can_not_be_sent_is_told():
    lock = threading.Lock()

    def model(batch_size):
        with lock:
            rows(batch_size)

    with pytest.raises(ValueError, match=r"the model can not be sent to other processes .*pass num_workers=1"):
        draw(model, num_workers=2)


def test_lines_tell_how_many_there_are(capsys, tmp_path):
    draw(rows, 1000, progress=True, folder=tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "1,000 of 1,000 simulations" and 9 <= len(lines) <= 11


def test_a_trained_generator_learns_from_simulations():
    data = draw(rows, 500)["x"]

    def model(batch_size):
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("data", batch_size):
            pyro.deterministic("x", loc + pyro.sample("e", dist.Normal(torch.zeros(()), 2.0)))

    pyro.clear_param_store()
    GANInference(model, site="x").run(data, num_steps=100, batch_size=50, progress=False)
    assert 0.1 < float(pyro.param("loc").detach()) < 2  # on its way from 0 to the mean of the data


SLOW = """
import sys, time
import pyro, pyro.distributions as dist
from pyro_gan import simulate

def model(batch_size):
    time.sleep(0.02)
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(1.0, 2.0))
        pyro.sample("x", dist.Normal(z, 1.0))

if __name__ == "__main__":
    simulate(model, 2000, num_workers=int(sys.argv[2]), folder=sys.argv[1], shard_size=10, seed=1, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_killed_and_resumed_none_is_lost_or_doubled(num_workers, tmp_path):
    folder = tmp_path / "simulations"
    script = tmp_path / "script.py"
    script.write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, str(script), str(folder), str(num_workers)]
    first = subprocess.Popen(command, env=environment)
    while len(list(folder.glob("shard-*"))) < 20:
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (folder / "complete.json").exists()
    subprocess.run(command, env=environment, check=True)
    assert same(simulate(rows, 2000, folder=folder, shard_size=10, progress=False), draw(rows, 2000, shard_size=10))
