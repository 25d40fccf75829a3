"""Write the tables and two pictures of the evidence page from the CSV files that the runs leave.

    python examples/evidence/tables.py

In the page, what stands between `<!-- table: NAME -->` and `<!-- end -->` is replaced, and nothing else.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

from cost import METHODS, draw_costs
from records import VERSIONS, read
from sensitivity import draw, succeeds

DOCS = Path(__file__).parent.parent.parent / "docs"
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
SOURCES = {
    "default": "`GANInference`, default recipe",
    "edward": "`GANInference`, Edward's recipe, same networks and images",
    "edward-tutorial": "`GANInference`, Edward's recipe, networks and binarized images of its tutorial",
    "vae": "VAE by Pyro's `SVI`, the same generator as decoder",
    "gaussians": "mixture of 50 Gaussians in 100 dimensions",
    "k-means": "10,000 k-means centroids",
    "training": "10,000 training images",
}

Row = Mapping[str, str]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of words in the first column and figures in the others."""
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def groups(rows: Iterable[Row], *names: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows with the same text in these columns, in the order in which they come."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def spread(values: Sequence[float], form: str) -> str:
    """The mean of some values, and the smallest and the largest where they differ."""
    ends = f" ({min(values):{form}} to {max(values):{form}})" if min(values) < max(values) else ""
    return f"{mean(values):{form}}{ends}"


def mixtures(rows: Sequence[Row]) -> str:
    """Modes, high quality and reverse KL of each recipe on each data: the mean over the seeds, and the ends."""
    titles = ("data and recipe", "steps", "seeds", "modes", "high quality (%)", "reverse KL (nats)")
    lines = []
    for (data, recipe, num_steps, num_modes), same in sorted(groups(rows, "data", "recipe", "num_steps", "of").items()):
        modes, quality, divergence = (
            [float(row[name]) for row in same] for name in ("modes", "high_quality", "reverse_kl")
        )
        found = f"{spread(modes, '.3g')} of {num_modes}"
        percent = spread([100 * value for value in quality], ".1f")
        figures = (f"{int(num_steps):,}", str(len(same)), found, percent, spread(divergence, ".3f"))
        lines.append((f"{data}, {recipe}", *figures))
    return table(titles, lines)


def far(row: Row) -> str:
    """How far test images lie from their nearest training image."""
    return f"{float(row['held_out_distance']):.2f}"


def digits(rows: Sequence[Row]) -> str:
    """What each source of digits scores; a line for each number of steps and seed."""
    titles = ("source", "steps", "seed", "Parzen (nats)", "window", "coverage (%)", "density", "distance", "nearer (%)")
    order = list(SOURCES)
    lines = [
        (
            SOURCES[row["source"]],
            f"{int(row['num_steps']):,}" if int(row["num_steps"]) else "",
            row["seed"],
            f"{float(row['parzen']):.1f} ± {float(row['standard_error']):.1f}",
            f"{float(row['sigma']):.2f}",
            f"{100 * float(row['coverage']):.1f}",
            f"{float(row['density']):.2f}",
            f"{float(row['distance']):.2f}",
            f"{100 * float(row['nearer']):.1f}",
        )
        for row in sorted(rows, key=lambda row: (order.index(row["source"]), int(row["num_steps"]), int(row["seed"])))
    ]
    held_out = [("the test images", *[""] * 6, distance, "50.0") for distance in sorted({far(row) for row in rows})]
    return table(titles, [*lines, *held_out])


def posteriors(rows: Sequence[Row]) -> str:
    """How near posteriors are to reference draws, and what that took: the mean over the seeds, and the ends."""
    titles = ("task and method", "simulations", "steps", "seeds", "C2ST", "worst", "training (s)", "draws (ms)")
    lines = []
    for setting, same in sorted(groups(rows, "task", "num_simulations", "method", "num_steps").items()):
        task, num_simulations, method, num_steps = setting
        near, worst, processor, sampling = (
            [float(row[name]) for row in same] for name in ("c2st", "worst", "processor", "sampling_ms")
        )
        figures = (spread(near, ".3f"), f"{max(worst):.3f}", f"{mean(processor):.0f}", f"{mean(sampling):.0f}")
        steps = "" if method == "npe" else f"{int(num_steps):,}"  # NPE finds their number itself
        lines.append((f"{task}, {METHODS[method]}", f"{int(num_simulations):,}", steps, str(len(same)), *figures))
    return table(titles, lines)


def exact(rows: Sequence[Row]) -> str:
    """How far distribution functions are off, a line for each simulator: the mean over the seeds, and the ends."""
    titles = ["simulator"]
    for method in (methods := list(groups(rows, "method"))):
        name = METHODS[method[0]]
        titles += [f"{name}, distance", "worst", "training (s)"]
    lines = []
    for task, same in groups(rows, "task").items():
        line = [*task]
        for method in methods:
            runs = groups(same, "method").get(method, [])
            far, worst, processor = ([float(row[name]) for row in runs] for name in ("distance", "worst", "processor"))
            line += [spread(far, ".3f"), f"{max(worst):.3f}", f"{mean(processor):.0f}"] if runs else ["", "", ""]
        lines.append(line)
    return table(titles, lines)


def sensitivity(rows: Sequence[Row]) -> str:
    """How many settings have all modes with each recipe, and at least some share of samples of high quality."""
    shares = (0.0, 0.25, 0.5, 0.75, 0.9)
    titles = (
        "recipe",
        "steps",
        "settings",
        "all modes",
        *(f"and {100 * share:.0f} % of high quality" for share in shares[1:]),
    )
    lines = []
    for (recipe, num_steps), same in groups(rows, "recipe", "num_steps").items():
        counts = (sum(succeeds(row, share) for row in same) for share in shares)
        lines.append((recipe, f"{int(num_steps):,}", str(len(same)), *map(str, counts)))
    return table(titles, lines)


def versions(rows: Sequence[Row]) -> str:
    """What the runs were made with."""
    return table(tuple(VERSIONS), groups(rows, *VERSIONS))


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "mixtures": mixtures,
    "digits": digits,
    "posteriors": posteriors,
    "exact": exact,
    "sensitivity": sensitivity,
}


def filled(page: str, folder: Path) -> str:
    """A page with the tables of a folder's CSV files; a table without a file is left empty."""
    rows = {name: read(folder / f"{name}.csv") for name in TABLES}
    texts = {name: TABLES[name](rows[name]) for name in TABLES}
    texts["versions"] = versions([row for each in rows.values() for row in each])
    return PLACE.sub(lambda found: f"{found[1]}\n{texts[found[2]]}\n{found[3]}", page)


def with_most(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows in which a number is the largest of all."""
    most = max(int(row[name]) for row in rows)
    return [row for row in rows if int(row[name]) == most]


def main(args: argparse.Namespace) -> None:
    """Write the page's tables, and draw the heat map and what posteriors cost."""
    args.page.write_text(filled(args.page.read_text(), args.out))
    if rows := read(args.out / "posteriors.csv"):
        draw_costs(with_most(rows, "num_simulations"), args.out / "posteriors.png")
    if rows := read(args.out / "sensitivity.csv"):
        draw(with_most(rows, "num_steps"), args.out / "sensitivity.png")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=DOCS / "evidence.md", help="the page with the places")
    parser.add_argument("--out", type=Path, default=DOCS / "evidence", help="folder of the tables and the pictures")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
