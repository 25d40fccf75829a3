"""Many processes are one: two of 64 rows take the steps of one of 128, and one that fails ends the other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import EQUAL, trained

TESTS = Path(__file__).parent


def launched(name, folder, size=2, options=(), **environment):
    """A run of a scenario of ranks.py by torchrun, which finds a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *options]
    paths = [str(TESTS.parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment}
    command += [str(TESTS / "ranks.py"), name, str(folder)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def ran(name, folder, size=2, **environment):
    """What the first process of a scenario has found."""
    process = launched(name, folder, size, **environment)
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    return torch.load(folder / f"{name}.pt")


QUICK = [("gan", "default"), ("bigan", "gradient penalty"), ("automatic klqp", "R1")]


@pytest.mark.parametrize("cases", [QUICK, pytest.param(EQUAL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_two_processes_of_64_rows_equal_one_of_128(cases, tmp_path, double_precision):
    alone, starts = {}, {}
    for case, penalty in cases:
        alone[f"{case}, {penalty}"], starts[f"{case}, {penalty}"] = trained(case, penalty)
    torch.save(starts, tmp_path / "starts.pt")
    together = ran("equal", tmp_path, PYRO_GAN_TEST_DOUBLE="1")
    for name, sides in alone.items():
        for side, leaves in sides.items():
            for leaf, value in leaves.items():
                torch.testing.assert_close(together[name][side][leaf], value, rtol=0, atol=1e-5)


@pytest.fixture
def double_precision(monkeypatch):
    """Numbers by which rounding shows as such: a gradient that is 0 but for rounding moves Adam as far as any."""
    import ranks

    monkeypatch.setattr(ranks, "DATA", ranks.DATA.double())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
