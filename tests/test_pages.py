"""The reference has every public name, its texts are read as they are meant, and pages load nothing from elsewhere."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import pyro_gan

ROOT = Path(__file__).parents[1]
REFERENCE = "".join(path.read_text() for path in sorted((ROOT / "docs" / "api").glob("*.md")))
ROOMS = [
    *("", ".auto", ".losses", ".penalties", ".recipes", ".callbacks", ".criticism", ".datasets", ".export", ".plots"),
    *(".simulations", ".inference", ".processes"),
]
CLOSED = {"checks", "players", "training"}
"""Rooms that need not be opened."""
PARTS = {"describe", "progress_callbacks", "MNIST_FILES", "MNIST_MIRRORS"}
PARTS |= {
    "quiet",
    "agreed",
    "as_one",
    "variances_of",
    "ranges_of",
    "variances_and_ranges_of",
    "rows_of_all",
    "store",
    "key",
}
"""Names that a module shares with others of the package, and no user calls."""


def whole_modules():
    """Modules all of whose members the reference has."""
    return set(re.findall(r"automodule:: (\S+)\n   :members:\n", REFERENCE))


def is_ours(value, module="pyro_gan"):
    return getattr(value, "__module__", "").startswith(module)


def public(room):
    """The functions and classes that a module offers, by name."""
    module = importlib.import_module(f"pyro_gan{room}")
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    values = {name: getattr(module, name) for name in names if name not in PARTS}
    return {
        name: value for name, value in values.items() if getattr(value, "__module__", "").startswith(module.__name__)
    }


def test_every_room_is_looked_through():
    names = {module.name for module in pkgutil.iter_modules(pyro_gan.__path__)}
    assert {f".{name}" for name in names - CLOSED} | {""} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room):
    names = public(room)
    assert names
    for name, value in names.items():
        told = {f"pyro_gan{room}", value.__module__} & whole_modules()
        assert told or re.search(rf"\b{name}\b", REFERENCE), name


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_returned_is_no_type_by_mistake(room):
    methods = [method for value in public(room).values() for _, method in inspect.getmembers(value, inspect.isfunction)]
    for function in filter(is_ours, [*public(room).values(), *methods]):
        found = re.search(r"Returns:\n +(.*)", inspect.getdoc(function) or "")
        text = found[1] if found else ""  # napoleon takes what is before a colon for a type
        assert not re.match(r"(?:[^`:]|`[^`]*`)+: ", text), f"{function.__qualname__}: {text}"


def test_no_page_asks_for_a_script_or_a_font_from_elsewhere():
    settings = (ROOT / "docs" / "conf.py").read_text() + (ROOT / "docs" / "_static" / "pages.css").read_text()
    assert not re.search(r"https?://", settings)
    assert "mathjax" not in settings


def test_the_first_page_names_every_example_and_its_pictures_are_small():
    text = (ROOT / "docs" / "index.md").read_text()
    for script in sorted((ROOT / "examples").glob("*.py")):
        assert f"{script.name}`" in text or "__main__" not in script.read_text(), script.name
    for notebook in (ROOT / "examples" / "notebooks").glob("*.ipynb"):
        assert text.count(f"_notebooks/{notebook.stem}") == 2, notebook.name  # in the gallery and in the contents
    pictures = re.findall(r"images/gallery/\S+\.png", text)
    assert {ROOT / "docs" / picture for picture in pictures} == set((ROOT / "docs/images/gallery").iterdir())
    assert max((ROOT / "docs" / picture).stat().st_size for picture in pictures) < 16_000
