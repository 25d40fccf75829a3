"""A picture of accuracy against cost: how near posteriors are to reference draws, and the seconds that this took."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

METHODS = {"ours": "`BiGANInference`", "compiled": "`BiGANInference`, compiled", "npe": "sbi's NPE"}
"""What the methods of `posteriors.py` are called on a page."""

MARKERS = {"ours": "o", "compiled": "s", "npe": "^"}


def draw_costs(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Each run as a point, a panel for a task, a marker for a method.

    Args:
        rows: The runs, as `posteriors.py` writes them; their simulations are equally many.
        path: The file of the picture.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    num_lines = (len(tasks) + 1) // 2
    figure, axes = plt.subplots(num_lines, 2, figsize=(9, 3.3 * num_lines), layout="constrained", squeeze=False)
    for ax in axes.flat[len(tasks) :]:
        ax.remove()
    seconds = max(float(row["processor"]) for row in rows)
    for task, ax in zip(tasks, axes.flat, strict=False):
        runs = [row for row in rows if row["task"] == task]
        for method, name in METHODS.items():
            of_method = [row for row in runs if row["method"] == method]
            points = ([float(row[column]) for row in of_method] for column in ("processor", "c2st"))
            ax.scatter(*points, marker=MARKERS[method], alpha=0.8, label=name.replace("`", ""))
        above = max(float(row["c2st"]) for row in runs) - 0.5
        ax.set(title=task, xlabel="processor seconds of training", ylabel="C2ST")
        ax.set(xlim=(0, 1.1 * seconds), ylim=(0.5 - 0.08 * above, 0.5 + 1.15 * above))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS))
    figure.savefig(path, dpi=110)
    plt.close(figure)
