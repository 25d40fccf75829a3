"""How Sphinx builds these pages; every warning is an error there: `sphinx-build -W --keep-going -b html docs out`.

The Python blocks of a page run while it is built, in order and in one session, and what they print or draw is shown
below them. Nothing is loaded from elsewhere: formulas are MathML, which browsers set by themselves.
"""

import hashlib
import html
import inspect
import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import pyro_gan
from pyro_gan import __version__

project = "pyro_gan"
author = copyright = "the pyro_gan authors"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_notebooks/README.md"]
nitpicky = False  # builds are offline: names of torch and Pyro have no page to link to

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

NOT_RUN = {"index"}
"""Pages whose blocks need a data set that a build does not download."""

PACKAGE = b"".join(path.read_bytes() for path in sorted(Path(pyro_gan.__file__).parent.rglob("*.py")))
nb_execution_mode = "cache"  # what ran is kept, as long as neither a page's blocks nor the package changes
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "executed" / hashlib.sha256(PACKAGE).hexdigest()[:16])
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_excludepatterns = ["_notebooks/*"]  # these are shown with the output that they were saved with
nb_output_stderr = "remove"  # progress and warnings; the text says which there are
nb_merge_streams = True

napoleon_google_docstring = True
napoleon_numpy_docstring = False

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what a subclass overrides is told of once, where it was introduced
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

default_role = "code"  # docstrings write `name` for code
html_theme = "furo"
html_title = f"pyro_gan {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"

RUNS = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---

```{code-cell}
:tags: [remove-cell]
import torch

get_ipython().ast_node_interactivity = "none"  # what is printed or drawn is shown, not what an expression returns
torch.set_num_threads(1)  # the networks are small
```

"""


def run_blocks(app, name, source):
    """Make a page's Python blocks cells that run, and what a notebook says of other pages links to them."""
    if name.startswith("_notebooks/"):
        source[0] = re.sub(r"`docs/(\w+\.md)`", r"[](../\1)", source[0])
    if name in NOT_RUN or not re.search(r"^```python$", source[0], re.MULTILINE):
        return
    source[0] = RUNS + re.sub(r"^```python$", "```{code-cell}", source[0], flags=re.MULTILINE)


NARROW = 56
"""The letters of a printed line that fit a narrow screen."""

THIN = '<mspace width="0.17em"/>'


def formula(tex, is_block):
    """TeX as MathML, with what docutils does not know: large parentheses, and spaces about the names of functions."""
    tex = re.sub(r"\\[bB]igg?l(?![a-zA-Z])", r"\\left", tex)
    tex = re.sub(r"\\[bB]igg?r(?![a-zA-Z])", r"\\right", tex)
    tex = re.sub(r"\\[bB]igg?m?(?![a-zA-Z])", "", tex).replace(r"\dots", r"\ldots")
    tex = re.sub(r"(\\[dt]?frac)(\d)(\d)", r"\1{\2}{\3}", tex)  # which docutils takes for twelve over what follows
    mathml = tex2mathml(tex, as_block=is_block)
    bar = r"<mo(?: class=\"math\w+\"| stretchy=\"false\")?>([‖|])</mo>"  # of one height, and close to what they hold
    mathml = re.sub(bar, r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', mathml)
    before = r"(</m(?:i|n|sub|sup|subsup|row|frac|text)>\s*|\)</mo>\s*)"
    mathml = re.sub(before + r"(?=<mi>(?:log|exp|tanh)</mi>)", rf"\1{THIN}", mathml)
    return re.sub(r"<mo>&ApplyFunction;</mo>(?!\s*<mo stretchy=\"false\">\()", THIN, mathml)


def visit_math(self, node):
    self.body.append(formula(node.astext(), is_block=False))
    raise SkipNode


def visit_math_block(self, node):
    parts = node.astext().split(r"\qquad")  # which stand side by side where there is room
    self.body.append(f'<div class="formula">{"".join(formula(part, is_block=True) for part in parts)}</div>')
    raise SkipNode


def let_code_break(app, pagename, templatename, context, doctree):
    """Tell browsers where code in tables may break, so that columns fit a narrow screen."""

    def in_code(code):
        return re.sub(r"(?<=[(.,=_])(?=\w)|(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "<wbr>", code[0])

    def in_table(table):
        return re.sub(r'(?<=<span class="pre">)[^<]+', in_code, table[0])

    if "body" in context:
        context["body"] = re.sub(r"<table.*?</table>", in_table, context["body"], flags=re.DOTALL)


def let_printed_lines_wrap(app, pagename, templatename, context, doctree):
    """Tell sentences from columns in what was printed: those may break on a narrow screen, these scroll."""

    def wrapped(line):
        text = html.unescape(re.sub(r"<[^>]+>", "", line))
        is_sentence = len(text) > NARROW and "  " not in text.strip()
        return (f'<span class="sentence">{line}</span>', 0) if is_sentence else (line, len(text))

    def printed(block):
        lines, widths = zip(*map(wrapped, block[2].split("\n")), strict=True)
        kind = ' class="wide"' if max(widths) > NARROW else ""
        return f"{block[1]}<pre{kind}>" + "\n".join(lines) + "</pre>"

    if "body" in context:
        start = r'(<div class="(?:output \w+ )?highlight-(?:none|text|myst-ansi) notranslate"><div class="highlight">)'
        context["body"] = re.sub(rf"{start}<pre>(.*?)</pre>", printed, context["body"], flags=re.DOTALL)


def drop_generated_docstrings(app, what, name, obj, options, lines):
    """Leave out what Python itself writes about named tuples, and torch about modules."""
    for index, line in enumerate(lines):
        if line.startswith(("Alias for field number", "Create new instance of", "Initialize internal Module state")):
            del lines[index:]
            break


def join_attribute(app, what, name, obj, options, lines):
    """Put back what napoleon took for an attribute's type: none is written here, and a colon is a colon."""
    if what in ("attribute", "data") and lines and (entry := re.match(r":type: (.*)", lines[-1])):
        lines[:] = [f"{entry[1]}: {lines[0]}", *lines[1:-1]]


def arguments(lines):
    """The entries of a docstring's `Args:`, by name, and the place behind the last of them."""
    found, start = {}, lines.index("Args:") + 1
    for index in range(start, len(lines)):
        line = lines[index]
        if line and not line.startswith("    "):
            return found, index
        if entry := re.match(r"    (\w+): ", line):
            found[entry[1]] = [line]
        elif found:
            found[next(reversed(found))].append(line)
    return found, len(lines)


def expand_options(app, what, name, obj, options, lines):
    """Write out what `**options` of an inference class takes, as :class:`~pyro_gan.GANInference` describes it."""
    if not inspect.isclass(obj) or not issubclass(obj, pyro_gan.AdversarialInference) or "Args:" not in lines:
        return
    found, _ = arguments(lines)
    if "options" not in found:
        return
    passed = inspect.get_annotations(obj.__init__)["options"].__args__[0].__annotations__
    described, _ = arguments(inspect.getdoc(pyro_gan.GANInference).splitlines())
    start = lines.index(found["options"][0]) + len([line for line in found["options"] if line])
    lines[start:start] = [line for option in passed if option not in found for line in described[option]]


def copy_notebooks(app):
    """Bring the notebooks, which stand among the examples, into reach."""
    folder = Path(app.srcdir)
    shutil.copytree(folder.parent / "examples" / "notebooks", folder / "_notebooks", dirs_exist_ok=True)


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", copy_notebooks)
    app.connect("source-read", run_blocks)
    app.connect("html-page-context", let_code_break)
    app.connect("html-page-context", let_printed_lines_wrap)
    app.connect("autodoc-process-docstring", drop_generated_docstrings)
    app.connect("autodoc-process-docstring", expand_options, priority=400)  # before napoleon reads `Args:`
    app.connect("autodoc-process-docstring", join_attribute, priority=600)  # after it
