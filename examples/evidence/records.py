"""Tables of runs as CSV files: a row for each run, with its settings, what was found, and versions.

Rows are written as they come, so a program that is cut off goes on where it was when it is started again.
"""

import csv
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyro
import torch

import pyro_gan

VERSIONS = {
    "python": platform.python_version(),
    "torch": torch.__version__,
    "pyro": pyro.__version__,
    "pyro_gan": pyro_gan.__version__,
}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text, none where there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def complete(
    path: Path, settings: Iterable[Mapping[str, Any]], run: Callable[..., Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Run each setting that the table has no row of, and write its row.

    Args:
        path: The table; its folder is made where there is none.
        settings: What names a run: its seed, and whatever is varied. All have the same names.
        run: Takes a setting's items as keyword arguments, and returns what was found. Seconds and versions are added.

    Returns:
        All rows of the table, those of earlier calls too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read(path)
    for setting in settings:
        if any(all(row[name] == str(value) for name, value in setting.items()) for row in rows):
            continue
        start = time.perf_counter()
        found = run(**setting)
        row = {**setting, **found, "seconds": round(time.perf_counter() - start, 1), **VERSIONS}
        with path.open("a", newline="") as file:
            table = csv.DictWriter(file, list(row), lineterminator="\n")
            if not rows:
                table.writeheader()
            table.writerow(row)
        rows.append({name: str(value) for name, value in row.items()})
        print(", ".join(f"{name} {value}" for name, value in row.items() if name not in VERSIONS), flush=True)
    return rows
