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
