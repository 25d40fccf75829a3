"""What is told of the package outside of it agrees: the version, the licence, and what a source distribution holds."""

import configparser
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_version_is_one():
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert SETUP["metadata"]["version"] == newest[1] == CITATION["version"]


def test_a_citation_has_what_the_format_asks_for():
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["license"] == SETUP["metadata"]["license"]
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= reference.keys()


def test_oldest_versions_are_those_that_are_declared():
    extras = SETUP["options.extras_require"]
    used = [extras[name] for name in ("examples", "tensorboard", "netcdf", "test")]
    lines = " ".join([SETUP["options"]["install_requires"], *used])
    declared = dict(line.split(">=") for line in lines.split() if ">=" in line)
    requirements, beside = (ROOT / "constraints-oldest.txt").read_text().split("# What these stand on")
    oldest, others = (
        dict(line.split("==") for line in part.splitlines() if "==" in line) for part in (requirements, beside)
    )
    assert declared.keys() == oldest.keys() and not declared.keys() & others.keys()
    assert all(f"{oldest[name]}.".startswith(f"{version}.") for name, version in declared.items())


def test_a_source_distribution_holds_all_that_is_not_the_package():
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    ignored = {".git", ".ci", ".gitignore", "LICENSE", "README.md", "MANIFEST.in", "setup.cfg", "pyproject.toml"}
    ignored |= {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().split()} | {"pyro_gan", "dist"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".venv", "."))}
    assert {name for name in found if not name.endswith(".egg-info")} - ignored <= set(manifest)
