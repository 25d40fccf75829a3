"""Every example runs, small, and leaves its pictures; a script without a run here fails a test."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
RUNS = {
    "beside.py": (["--num-steps", "20", "--num-simulations", "500"], ["beside.png"]),
    "bigan.py": (["--num-steps", "20", "--num-classifier-steps", "20", "--no-compile"], ["bigan.png"]),
    "conditional.py": (
        ["--num-steps", "20", "--num-reader-steps", "20", "--matching-aware"],
        ["conditional_labels_matching.png"],
    ),
    "dcgan.py": (["--num-steps", "20", "--num-reader-steps", "20", "--num-samples", "500"], ["dcgan.png"]),
    "demo.py": (["--num-steps", "20"], ["digits.png", "history.png"]),
    "evidence/convolutions.py": (["--quick"], []),
    "evidence/digits.py": (["--quick"], ["digits_default.png", "digits_vae.png", "digits_k-means.png"]),
    "evidence/exact.py": (["--quick", "--tasks", "successes", "curve"], []),
    "evidence/mixtures.py": (["--quick"], []),
    "evidence/pixels.py": (["--quick"], []),
    "evidence/posteriors.py": (["--quick", "--tasks", "two moons"], []),
    "evidence/sensitivity.py": (["--quick", "--recipes", "default"], ["sensitivity.png"]),
    "distributed.py": (["--num-steps", "20", "--device", "cpu"], ["digits.png", "history.png"]),
    "eight_schools.py": (["--num-steps", "5", "--num-draws", "20"], ["eight_schools.png"]),
    "epidemic.py": (
        ["--num-steps", "20", "--num-simulations", "500", "--num-held-out", "50"],
        ["epidemic.png"],
    ),
    "gaussian_1d.py": (["--num-steps", "20"], ["gaussian_1d.png"]),
    "inpainting.py": (["--num-steps", "20", "--num-reader-steps", "20"], ["inpainting.png"]),
    "interpolation.py": (["--num-steps", "20"], ["interpolation.png"]),
    "linear_regression.py": (["--num-steps", "20"], ["linear_regression.png"]),
    "mixture.py": (["--num-steps", "20"], ["mixture.png"]),
    "mnist.py": (
        ["--num-steps", "30", "--num-samples", "200", "--device", "cpu"],
        ["default/000002.png", "default/000030.png", "default.png", "history_default.png"],
    ),
    "simulator.py": (["--num-steps", "20", "--num-simulations", "500", "--num-held-out", "100"], ["simulator.png"]),
    "staged.py": (["--num-steps", "20", "--num-reader-steps", "20"], ["staged.png"]),
    "svi_comparison.py": (["--num-steps", "5"], ["svi_comparison.png"]),
    "two_moons.py": (
        ["--num-steps", "20", "--num-simulations", "500", "--num-observations", "2", "--num-draws", "100"],
        ["two_moons.png"],
    ),
    "wgan.py": (["--num-steps", "20"], ["wgan.png"]),
}
TOLD = [script for script in RUNS if not script.startswith("evidence/")]
"""Scripts whose `--help` says how long they take: all but those of the evidence."""


def test_every_script_has_a_run():
    scripts = [path for path in EXAMPLES.rglob("*.py") if "__main__" in path.read_text()]
    names = {path.relative_to(EXAMPLES).as_posix() for path in scripts}
    assert names - {"evidence/tables.py"} == set(RUNS)  # tables.py runs in test_evidence.py, on the others' files


@pytest.mark.parametrize("script", RUNS)
def test_script_runs_and_draws(script, tmp_path):
    arguments, pictures = RUNS[script]
    command = [sys.executable, "-W", "error", EXAMPLES / script, *arguments, "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for picture in pictures:
        pixels = plt.imread(tmp_path / picture)
        assert min(pixels.shape[:2]) > 100 and pixels[..., :3].std() > 0.05


@pytest.mark.parametrize("notebook", sorted((EXAMPLES / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs_from_start_to_end(notebook, monkeypatch):
    monkeypatch.setitem(os.environ, "PYRO_GAN_NUM_STEPS", "20")
    monkeypatch.setitem(os.environ, "PYRO_GAN_DATASET", "digits")
    content = nbformat.read(notebook, as_version=4)
    outputs = NotebookClient(content, timeout=300).execute().cells
    pictures = [data for cell in outputs for output in cell.get("outputs", []) for data in output.get("data", {})]
    assert pictures.count("image/png") >= 1


@pytest.mark.parametrize("notebook", sorted((EXAMPLES / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_the_notebook_is_saved_with_its_pictures(notebook):
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.parametrize("script", TOLD)
def test_help_tells_how_long_it_takes_and_what_each_option_is(script, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)  # as when it is run
    parser = runpy.run_path(str(EXAMPLES / script))["parser"]()
    assert "minute" in parser.epilog
    assert all(action.help for action in parser._actions)
