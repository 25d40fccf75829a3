"""The package imports in one direction, quickly, and documents what it makes public."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_gan

PACKAGE = Path(pyro_gan.__file__).parent
ORDER = [
    "checks",
    "processes",
    *("losses.base", "losses.games", "losses.divergences", "losses"),
    *("penalties.base", "penalties.scales", "penalties.gradients", "penalties.clipping", "penalties"),
    *("recipes", "export"),
    *(
        "plots.arrays",
        "plots.axes",
        "plots.tiles",
        "plots.images",
        "plots.history",
        "plots.densities",
        "plots.interpolation",
    ),
    *("plots.calibration", "plots.checks", "plots.animation", "plots"),
    *("criticism.rows", "criticism.scales", "criticism.distances", "criticism.kernels", "criticism.parzen"),
    *("criticism.two_sample", "criticism.neighbours", "criticism.coverage", "criticism.comparison"),
    *("criticism.posterior", "criticism.classifier", "criticism.accuracy", "criticism.draws", "criticism.findings"),
    "criticism",
    *(
        "players",
        "players.exclusive",
        "players.devices",
        "players.first_look",
        "players.graph",
        "players.selection",
        "players.batch",
        "players.observations",
    ),
    *("players.supports", "players.discrete"),
    *("players.conditions", "players.categories"),
    *("players.handler", "players.calls", "players.player", "players.discriminator", "players.stages", "players.model"),
    *("players.dependence", "players.replicates"),
    *("training", "training.clock", "training.invalid", "training.noise", "training.streams", "training.minibatches"),
    *("training.samples", "training.objective", "training.averaging", "training.reach"),
    *(
        "training.divergence",
        "training.optimizer_state",
        "training.optimizers",
        "training.record",
        "training.zeros",
        "training.step",
        "training.distributed",
        "training.failing",
        "training.units",
        "training.cautions",
        "training.look",
    ),
    *("training.python_state", "training.masks", "training.tracing", "training.agreement", "training.captured"),
    "training.compiled",
    *("training.interrupts", "training.hooks", "training.checkpoint", "training.resuming", "training.loop"),
    *("callbacks.base", "callbacks.progress", "callbacks.schedules", "callbacks.evaluation", "callbacks.records"),
    *("callbacks.failures", "callbacks.overfitting", "callbacks.calibration", "callbacks.coverage", "callbacks"),
    *("simulations.drawing", "simulations.shards", "simulations.simulating", "simulations"),
    *(
        "auto.conditions",
        "auto.spread",
        "auto.coordinates",
        "auto.networks",
        "auto.structure",
        "auto.views",
        "auto.widening",
        "auto.embedded",
        "auto.pooling",
        "auto.padding",
        "auto.products",
        "auto.ends",
        "auto.lines",
        "auto.normals",
        "auto.moments",
        "auto.jumps",
        "auto.repeated",
        "auto.regression",
        "auto.building",
        "auto.labels",
        "auto.latents",
        "auto.calls",
        "auto.posterior",
    ),
    *("auto.registering", "auto.discriminator", "auto.guide", "auto.standardized", "auto"),
    *("inference.options", "inference.matching", "inference.compared", "inference.questions", "inference.state"),
    *("inference.apart", "inference.verdict", "inference.checking", "inference.algorithm"),
    *("inference.conditioned", "inference.stepping", "inference.base", "inference.gan"),
    *(
        "inference.wgan",
        "inference.guiding",
        "inference.guided",
        "inference.energy",
        "inference.ranks",
        "inference.bigan",
        "inference.contrast",
    ),
    *("inference.contrast", "inference.implicit_klqp", "inference"),
    "",
]
ALONE = [
    *("criticism.rows", "criticism.scales", "criticism.distances", "criticism.kernels"),
    "criticism.parzen",
    "criticism.two_sample",
    "criticism.coverage",
    "criticism.neighbours",
    "criticism.comparison",
    "criticism.posterior",
    *("criticism.classifier", "criticism.accuracy", "criticism.draws", "criticism.findings"),
    "criticism",
    "export",
    "datasets",
]
MODULES = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "pyro_gan.")]


def imported(module):
    """The pyro_gan modules that a module imports, for type checkers too."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    return {
        node.module.removeprefix("pyro_gan").removeprefix(".")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pyro_gan")
    }


def test_every_module_has_its_place():
    assert {name.removeprefix("pyro_gan.") for name in MODULES} | {""} == {*ORDER, *ALONE}


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_in_one_direction(module):
    assert imported(module) <= set(ORDER[: ORDER.index(module)])


def test_folders_stand_one_above_the_other():
    folders = [module.partition(".")[0] for module in ORDER]
    assert len([name for name, _ in itertools.groupby(folders)]) == len(set(folders))


@pytest.mark.parametrize(
    "folder", ["players", "training", "callbacks", "penalties", "losses", "auto", "simulations", "inference"]
)
def test_files_of_the_engine_can_be_seen_whole(folder):
    lengths = {path: len(path.read_text().splitlines()) for path in (PACKAGE / folder).glob("*.py")}
    assert max(lengths.values()) <= 400
    assert lengths.get(PACKAGE / "inference" / "base.py", 0) <= 350


@pytest.mark.parametrize("module", ALONE)
def test_what_takes_arrays_knows_no_inference(module):
    assert imported(module) <= {name for name in ALONE if name.startswith("criticism")} | {"checks"}


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_heavy_libraries_load_only_when_used():
    loaded = run_python("import pyro_gan, sys; print(*sys.modules)")
    assert not {"arviz", "matplotlib", "sklearn", "scipy", "pandas", "pooch"} & set(loaded)


def test_importing_adds_few_modules_to_pyros():
    # A tenth of the time is the limit; modules are what costs it, and unlike seconds they can be counted.
    added, with_pyro = run_python(
        "import pyro, sys; before = set(sys.modules); import pyro_gan;"
        "print(len([m for m in set(sys.modules) - before if not m.startswith('pyro_gan')]), len(before))"
    )
    assert int(added) < 0.02 * int(with_pyro)


def public_objects():
    for name in ["pyro_gan", *MODULES]:
        module = importlib.import_module(name)
        for member, value in vars(module).items():
            if not member.startswith("_") and getattr(value, "__module__", None) == name and callable(value):
                yield f"{name}.{member}", value


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in public_objects()])
def test_every_public_name_has_a_docstring_of_what_it_does(value):
    text = inspect.getdoc(value)
    assert text and text.splitlines()[0].endswith((".", ":"))
    parameters = [] if inspect.isclass(value) else list(inspect.signature(value).parameters)
    for method, function in vars(value).items() if inspect.isclass(value) else ():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(getattr(value, method)), method
    if len(parameters) > 2:
        assert "Args:" in text
