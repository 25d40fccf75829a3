"""The Python blocks of the documentation and the README run, in order and in one namespace a page."""

import gzip
import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(```|:::)(?P<language>\S*).*\n(?P<source>(?:.*\n)*?)\1$", re.MULTILINE)
PAGES = {page.name: page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}


def run_page(name):
    """Run a page's Python blocks and return their namespace."""
    text = PAGES[name].read_text()
    namespace = {"__name__": name}
    for block in FENCE.finditer(text):
        if block["language"] == "python":
            line = text.count("\n", 0, block.start("source"))  # so that a traceback points into the page
            source = "\n" * line + re.sub(r"num_steps=\d+_000", "num_steps=15", block["source"])
            exec(compile(source, str(PAGES[name]), "exec"), namespace)
    return namespace


def write_mnist(folder):
    """The four files of MNIST, with 200 training and 20 test images of noise."""
    folder.mkdir()
    for part, number in ("train", 200), ("t10k", 20):
        for kind, shape in ("images-idx3", (number, 28, 28)), ("labels-idx1", (number,)):
            header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
            content = torch.randint(0, 10, shape, dtype=torch.uint8).numpy().tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + content))


@pytest.fixture(autouse=True)
def place_to_run(tmp_path, monkeypatch):
    """A folder of its own, MNIST without a download, and one thread: the networks are small."""
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("PYRO_GAN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    plt.close("all")


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"tutorial.md", "start.md"}))
def test_a_pages_python_blocks_run(name):
    run_page(name)


def test_the_tutorial_runs_and_finds_what_it_says():
    page = run_page("tutorial.md")
    assert page["estimate"] == pytest.approx({"a": 3.0, "b": 1.0, "g": 2.0, "k": 0.5}, abs=0.4)
    assert page["line_estimate"] == pytest.approx({"offset": 1.0, "slope": 2.0, "spread": 0.3}, abs=0.15)
    for value in page["value"], page["judge_value"]:
        assert value.item() == pytest.approx(-1.386, abs=0.01)
    assert {name: value.shape for name, value in page["draws"].items()} == {"z": (1, 1000), "x": (1, 1000)}


@pytest.mark.parametrize("name", PAGES)
def test_blocks_say_what_they_are(name):
    text = PAGES[name].read_text()
    languages = [block["language"] for block in FENCE.finditer(text)]
    assert len(re.findall(r"^(?:```|:::)", text, re.MULTILINE)) == 2 * len(languages)
    assert all(language in ("python", "text", "shell") or language.startswith("{") for language in languages)


def test_every_page_with_python_blocks_is_run():
    for page in {*ROOT.glob("*.md"), *ROOT.glob("docs/api/*.md")} - set(PAGES.values()):
        assert "```python" not in page.read_text(), page.name


def test_start_here_reaches_a_fit_a_verdict_and_a_posterior():
    page = run_page("start.md")
    assert page["inference"].report.passed
    assert page["posterior"].report.passed
    assert page["rates"].mean().item() == pytest.approx(page["exact"].mean.item(), abs=0.25)
    assert page["rates"].std().item() == pytest.approx(page["exact"].stddev.item(), abs=0.2)


def test_links_between_pages_lead_to_pages():
    for page in [*PAGES.values(), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", FENCE.sub("", page.read_text())):
            if not re.match(r"https?:|#", target) and not target.startswith("_notebooks"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.fixture(scope="module")
def site():
    """The names of docs/conf.py."""
    return runpy.run_path(str(ROOT / "docs" / "conf.py"))


@pytest.mark.parametrize("tex", [r"\frac12 \log p", r"\tfrac12 \int p", r"\frac{1}{2} p"])
def test_a_half_is_one_over_two(site, tex):
    (fraction,) = re.findall(r"<mfrac.*?</mfrac>", site["formula"](tex, False), re.DOTALL)
    assert re.findall(r"<(m\w+)>(\w+)", fraction) == [("mn", "1"), ("mn", "2")]


@pytest.mark.parametrize("tex", [r"\|\nabla D\|^2", r"\lVert z\rVert^2", "|p - q|"])
def test_both_bars_of_a_norm_have_one_height(site, tex):
    bars = re.findall(r"<mo([^>]*)>[‖|]</mo>", site["formula"](tex, False))
    assert bars == [' stretchy="false" lspace="0" rspace="0"'] * 2


def test_printed_sentences_break_and_columns_scroll(site):
    sentence = "The draws differ from the rows that were held out &amp; kept apart."
    columns = "spread   0.25   not ok" + 60 * " " + "x"
    start = '<div class="output stream highlight-myst-ansi notranslate"><div class="highlight">'
    context = {
        "body": f"{start}<pre>{sentence}\n{columns}\n</pre>{start}<pre>short\n{sentence}</pre><pre>of code</pre>"
    }
    site["let_printed_lines_wrap"](None, "page", "page.html", context, None)
    broken = f'<span class="sentence">{sentence}</span>'
    first, second = f'<pre class="wide">{broken}\n{columns}\n</pre>', f"<pre>short\n{broken}</pre>"
    assert context["body"] == f"{start}{first}{start}{second}<pre>of code</pre>"
