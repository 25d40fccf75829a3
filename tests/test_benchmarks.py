"""Every script that measures runs, small, and writes what it found; one without a run here fails a test."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent / "benchmarks"
RUNS = {
    "formats.py": (["--seconds", "0.1"], "bfloat16"),
    "lazy.py": (["--data", "ring", "--every", "2", "--seeds", "0", "--length", "0.001"], "modes"),
    "processes.py": (["--num-steps", "2", "--num-rounds", "1"], "rows of each"),
    "quality.py": (["--data", "grid", "--length", "0.001"], "modes"),
    "simulations.py": (["--number", "16000"], "different ones 16,000"),
    "step.py": (["--rows", "plane", "--seconds", "0.1"], "gradients"),
}
PARTS = {"in_jax.py", "workloads.py"}
OF_TWO_TREES = {"before_and_after.py"}


def test_every_script_has_a_run():
    assert {path.name for path in BENCHMARKS.glob("*.py")} - PARTS - OF_TWO_TREES == set(RUNS)


@pytest.mark.parametrize("script", RUNS)
def test_script_runs_and_writes_what_it_found(script, tmp_path):
    arguments, told = RUNS[script]
    command = [sys.executable, BENCHMARKS / script, *arguments, "--out", tmp_path / "out.txt"]
    if script == "simulations.py":
        command += ["--folder", tmp_path / "simulations"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert told in (tmp_path / "out.txt").read_text()
