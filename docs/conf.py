"""How Sphinx builds these pages; every warning is an error there: `sphinx-build -W --keep-going -b html docs out`."""

from pyro_gan import __version__

project = "pyro_gan"
author = "the pyro_gan authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
nitpicky = False  # builds are offline: names of torch and Pyro have no page to link to

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

default_role = "code"  # docstrings write `name` for code
html_theme = "furo"
html_title = f"pyro_gan {release}"


def drop_generated_docstrings(app, what, name, obj, options, lines):
    """Leave out what Python itself writes about named tuples."""
    for index, line in enumerate(lines):
        if line.startswith(("Alias for field number", "Create new instance of")):
            del lines[index:]
            break


def setup(app):
    app.connect("autodoc-process-docstring", drop_generated_docstrings)
