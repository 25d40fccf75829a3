"""Many processes are one: two of 64 rows take the steps of one of 128, and one that fails ends the other."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import ALL, NUM_STEPS, SOME, trained
from test_contract import same
from waiting import SECONDS, rows

from pyro_gan import simulate
from pyro_gan.players.devices import resolve_device
from pyro_gan.processes import found as processes_found
from pyro_gan.processes import initialize

TESTS = Path(__file__).parent


def launched(name, folder, size=2, options=(), **environment):
    """A run of a scenario of ranks.py by torchrun, which finds a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *options]
    paths = [str(TESTS.parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    command += [str(TESTS / "ranks.py"), name, str(folder)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def ran(name, folder, size=2, **environment):
    """What the first process of a scenario has found."""
    process = launched(name, folder, size, **environment)
    try:
        _, errors = process.communicate(timeout=900)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    return torch.load(folder / f"{name}.pt", weights_only=False)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes find in a run of each kind, of one start of them."""
    folder = tmp_path_factory.mktemp("quick")
    return ran("quick", folder), folder


COMPILED = [*SOME, ("gan", "default"), ("gan", "gradient penalty")]


def assert_two_equal_one(cases, num_steps, scenario, folder):
    """Two processes of 64 rows have the parameters of this one of 128 after so many steps."""
    alone, starts = {}, {}
    for key in cases:
        alone[key], starts[key] = trained(*key, num_steps)
    torch.save({key: (num_steps, start) for key, start in starts.items()}, folder / "cases.pt")
    together = ran(scenario, folder, PYRO_GAN_TEST_DOUBLE="1")
    assert together.keys() == alone.keys()
    for key, sides in alone.items():
        for side, leaves in sides.items():
            for leaf, value in leaves.items():
                torch.testing.assert_close(together[key][side][leaf], value, rtol=0, atol=1e-5)


def test_each_class_takes_the_same_steps_on_two_processes_of_64_rows_as_on_one_of_128(tmp_path, double_precision):
    assert_two_equal_one(SOME, 5, "equal", tmp_path)


@pytest.mark.slow
def test_two_processes_of_64_rows_equal_one_of_128_with_each_penalty(tmp_path, double_precision):
    assert_two_equal_one(ALL, NUM_STEPS, "equal", tmp_path)


@pytest.mark.slow
def test_two_compiled_processes_equal_one_that_is_not(tmp_path, double_precision):
    assert_two_equal_one(COMPILED, NUM_STEPS, "compiled", tmp_path)


@pytest.fixture
def double_precision(monkeypatch):
    """Numbers by which rounding shows as such: a gradient that is 0 but for rounding moves Adam as far as any."""
    import ranks

    monkeypatch.setattr(ranks, "DATA", ranks.DATA.double())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def same_numbers(one, other):
    """Whether the parameters of two results are the same to the last bit."""
    return all(torch.equal(one[side][name], other[side][name]) for side in one for name in one[side])


def test_processes_begin_alike_and_stay_so(found):
    first, second = found[0]["facts"]
    assert same_numbers(first["parameters"], second["parameters"])
    assert same(first["history"], second["history"])
    assert not torch.equal(first["draw"], second["draw"])


def test_each_row_is_seen_once_an_epoch_by_one_of_them(found):
    first, second = found[0]["facts"]
    epoch = torch.cat([first["seen"], second["seen"]], 1)[:5].flatten()
    assert torch.equal(epoch.sort().values, torch.arange(20.0))


def test_each_process_may_end_the_run_and_all_end_at_that_step(found):
    assert [each["steps"] for each in found[0]["facts"]] == [9, 9]


def test_one_process_speaks_and_writes(found):
    assert [(found[1] / f"history{rank}.csv").exists() for rank in (0, 1)] == [True, False]
    assert found[0]["facts"][1]["told"] == "" and "step 9/50" in found[0]["facts"][0]["told"]


def test_one_process_prints_the_report_that_all_have(found):
    (printed, first), (nothing, second) = found[0]["reported"]
    assert printed == first + "\n" and "measure" in first
    assert nothing == "" and "measure" in second


def test_all_end_where_rows_kept_apart_fit_worse_on_the_first(found):
    # Scored at steps 100, 200 and 300: the best is at 100, and the two after it are worse.
    assert found[0]["ended_early"] == [400, 400]


def test_all_keep_the_same_best(found):
    first, second = found[0]["facts"]
    assert first["best"] == second["best"] > 0


def test_loaders_and_data_sets_are_divided_among_them(found):
    for kind in zip(*found[0]["loaders"], strict=True):
        epochs = torch.stack(kind).unflatten(1, (2, 12)).transpose(0, 1).flatten(1)
        assert all(torch.equal(epoch.sort().values, torch.arange(24.0)) for epoch in epochs)
        assert not torch.equal(*epochs)  # the sampler was told that an epoch has begun


def test_other_networks_are_refused_by_all_before_anything_changes(found):
    for text, num_steps in found[0]["other_networks"]:
        assert "'parameter 1' has shape (8,) and type float32 on rank 0, and has shape (9,)" in text
        assert num_steps == 0


def test_other_arrays_are_refused_by_all(found):
    for text in found[0]["other_arrays"]:
        assert "the processes were given different arrays: rank 1 has" in text and "a loader of each one's own" in text


@pytest.mark.parametrize("case", ["any number of rows", "sixteen rows"])
def test_labels_that_one_process_reads_are_known_to_all(found, case):
    for each in (rank[case] for rank in found[0]["labelled"]):
        assert each["kinds"] == each["categories"] == [0, 1, 2, 3, 4, 5]
        assert each["shape"] == (16, 2) and each["told"] == []
        assert "holds 7, but in training it had the categories 0, 1, 2, 3, 4, 5 only" in each["refused"]


def test_labels_that_come_later_are_known_to_all_and_told_of_by_those_who_meet_them(found):
    first, second = (rank["late ones"] for rank in found[0]["labelled"])
    for each in (first, second):
        assert each["kinds"] == [0, 1, 2, 3, 4, 5] and each["categories"] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert ["holds 6, but the discriminator" in text for text in first["told"]] == [True]
    assert ["holds 8, but the discriminator" in text for text in second["told"]] == [True]


def test_few_rows_are_refused(found):
    assert "data has 1 rows for 2 processes. Start fewer of them." in found[0]["few_rows"][1]


def test_minibatches_count_by_their_rows(found):
    for mean, gradient in found[0]["uneven"]:
        torch.testing.assert_close(gradient, mean)


def test_statistics_of_a_minibatch_are_those_of_all_rows(found):
    for every in found[0]["statistics"]:
        for of_all, expected in every:
            torch.testing.assert_close(of_all, expected)


def test_running_batch_statistics_are_those_of_the_first_process(found):
    (first, _, untouched), (second, *_) = found[0]["normalized"]
    assert alike(first, second) and first["1.num_batches_tracked"] > 0
    assert untouched["1.num_batches_tracked"] == 0


def test_batch_statistics_of_all_processes_are_refused_on_cpus(found):
    for _, text, _ in found[0]["normalized"]:
        assert text.startswith("a network has an nn.SyncBatchNorm, which torch has for GPUs alone")
        assert "Leave nn.BatchNorm as it is" in text


def test_what_is_not_finite_on_one_is_told_on_all(found):
    for text in found[0]["diverged"]:
        assert "on rank 1. Check the data" in text


def test_questions_wait_for_no_other(found):
    alone, nothing = found[0]["questions"]
    assert alone == ((6,), True) and nothing is None


def alike(one, other):
    """Whether two mappings of tensors are the same to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_simulations_are_drawn_once_for_all_processes(found):
    alone = simulate(rows, 200, seed=1, progress=False)
    first, second = found[0]["simulated"]
    assert (first["number drawn"], second["number drawn"]) == (3 * (1 + 16), 0)  # a look and the shards, three times
    for each in (first, second):
        assert all(alike(each[name], alone) for name in ("in memory", "in a folder", "read again"))
        assert each["in a folder"].seed == 1
    assert alike(first["without a seed"], second["without a seed"])
    assert not alike(first["without a seed"], alone)


def test_simulations_that_fail_or_can_not_be_read_are_refused_by_all(found):
    for each in found[0]["simulated"]:
        failed, unseen = each["errors"]
        assert failed == "the solver of rank 0 gave up"
        assert "rank 1 does not find the simulations that rank 0 has written in its folder=" in unseen
        assert unseen.endswith("elsewhere 1'. Name a folder that all processes can read.")


def test_a_device_is_that_of_the_local_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=r"device='cuda:1' is not available here|device='cuda' is not available"):
        resolve_device("cuda", None)


def test_where_no_callback_may_end_a_run_processes_ask_each_other_seldom_and_end_at_the_same_step(found):
    first, second = found[0]["asked_to_end"]
    assert first == second
    num_steps, num_asks, code = first
    assert 40 <= num_steps < 100_000 and code == 143
    assert num_asks < num_steps / 3  # after 1, 2, 4, 8, ... steps


def test_one_that_raises_ends_the_other_with_its_name(tmp_path):
    process = launched("kept", tmp_path, PYRO_GAN_TEST_ACT="raise")
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "pyro_gan: rank 1 failed (OverflowError: too much of it) at step 12" in errors


@pytest.mark.slow
@pytest.mark.parametrize("minibatches", ["alike", "uneven"])
def test_killed_and_restarted_it_ends_as_if_it_had_not_been(minibatches, tmp_path, monkeypatch):
    if minibatches == "uneven":
        monkeypatch.setenv("PYRO_GAN_TEST_UNEVEN", "yes")
    (tmp_path / "killed").mkdir(), (tmp_path / "unbroken").mkdir()
    process = launched("kept", tmp_path / "killed", options=["--max-restarts", "1"], PYRO_GAN_TEST_ACT="kill")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "rank 1 ended without a word" in errors
    restarted, unbroken = torch.load(tmp_path / "killed" / "kept.pt"), ran("kept", tmp_path / "unbroken")
    assert same_numbers(restarted[0], unbroken[0]) and restarted[1:] == unbroken[1:]


@pytest.mark.slow
def test_a_request_to_end_one_stops_all_and_the_run_goes_on_on_any_number(tmp_path):
    folder = tmp_path / "stopped"
    folder.mkdir()
    process = launched("kept", folder, PYRO_GAN_TEST_ACT="term")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert sorted(each.name for each in (folder / "checkpoints").iterdir())[-1] == "step-000000012.state"
    for size in (1, 2, 4):
        copy = shutil.copytree(folder, tmp_path / f"on {size}")
        assert ran("kept", copy, size)[2] == 30
    (tmp_path / "unbroken").mkdir()
    resumed, unbroken = torch.load(tmp_path / "on 2" / "kept.pt"), ran("kept", tmp_path / "unbroken")
    assert same_numbers(resumed[0], unbroken[0]) and resumed[1] == unbroken[1]


@pytest.mark.slow
def test_others_wait_for_one_that_works_but_not_for_one_that_hangs(tmp_path):
    simulations, steps, numbers, text = ran("patient", tmp_path)
    assert alike(simulations, simulate(rows, 32, seed=1, shard_size=32, progress=False))
    assert steps == 4 and numbers[1::2] == [3.0, 3.0]
    assert f"rank 1 did not answer for {SECONDS} s (it hangs, takes longer, or is not to be reached) at step 5" in text


@pytest.mark.slow
def test_one_that_never_comes_is_named(tmp_path):
    text = ran("absent", tmp_path)
    assert text.startswith("rank 1 did not come to train with rank 0 within 3 s. Have every process call run")


def test_processes_end_while_a_message_is_under_way(tmp_path):
    assert ran("unfinished", tmp_path) == 2


@pytest.mark.slow
def test_simulations_go_on_after_the_first_process_is_killed(tmp_path):
    process = launched("killed", tmp_path, options=["--max-restarts", "1"])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-3000:]
    simulations, number = torch.load(tmp_path / "killed.pt", weights_only=False)
    assert alike(simulations, simulate(rows, 200, seed=1, shard_size=20, progress=False))
    assert number == 1 + 6  # the look, and the shards that were missing


def test_one_process_needs_no_others():
    initialize()
    assert processes_found() is None
