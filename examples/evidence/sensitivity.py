"""How many settings succeed? The ring of eight Gaussians over learning rates, widths, minibatches and noise.

Two pairs of settings are varied, the others held in the middle: rates against widths, and minibatches against noise. A
run succeeds when it finds all eight modes, and four fifths of its samples lie within three deviations of one. Rows are
written as they come to a table with seed and versions; a run that is cut off goes on where it was.

    python examples/evidence/sensitivity.py --out output/evidence

All 45 settings of a recipe take about half an hour on one core; `--quick` tries the corners for a few steps.

References:
    Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (data and measures).
"""

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pyro_gan import GANInference, __version__
from pyro_gan.criticism import mode_coverage
from pyro_gan.datasets import ring
from pyro_gan.recipes import default_rate, edward

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
WIDTHS = (32, 64, 128, 256, 512)
BATCHES = (32, 64, 256, 512, 1024)
NOISES = (1, 2, 8, 64)
HIGH_QUALITY = 0.8


class Setting(NamedTuple):
    """What is varied."""

    rate: float = 1.0
    """The learning rate, in units of the recipe's own."""
    width: int = 128
    batch_size: int = 256
    noise: int = 2


COLUMNS = ("recipe", "seed", *Setting._fields, "num_steps", "modes", "high_quality", "seconds", "pyro_gan", "torch")


def settings(is_quick: bool) -> list[Setting]:
    """All that are tried."""
    ends = (lambda values: values[:: len(values) - 1]) if is_quick else (lambda values: values)
    pairs = [Setting(rate, width) for rate, width in itertools.product(ends(RATES), ends(WIDTHS))]
    pairs += [Setting(batch_size=size, noise=noise) for size, noise in itertools.product(ends(BATCHES), ends(NOISES))]
    return list(dict.fromkeys(pairs))


def network(num_inputs: int, num_outputs: int, width: int) -> nn.Module:
    """Three hidden layers."""
    sizes = [num_inputs, width, width, width]
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def options(recipe: str, rate: float, num_steps: int) -> dict[str, Any]:
    """A recipe at a multiple of its rate; the default's falls along the run as it always does."""

    def default(parameters: Iterable[Tensor]) -> LambdaLR:
        optimizer = torch.optim.AdamW(parameters, rate * default_rate(0.0), betas=(0.0, 0.99), weight_decay=0.0)
        return LambdaLR(optimizer, lambda step: default_rate(step / num_steps) / default_rate(0.0))

    def classic(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, rate * 1e-3)

    optim: Callable[..., Any] = default if recipe == "default" else classic
    return {**({} if recipe == "default" else edward()), "optim": optim, "optim_d": optim}


def run(recipe: str, seed: int, setting: Setting, num_steps: int) -> dict[str, Any]:
    """Train once and judge: a row of the table."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    data = ring(100_000)
    generator, discriminator = network(setting.noise, 2, setting.width), network(2, 1, setting.width)

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([setting.noise]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    start = time.perf_counter()
    inference = GANInference(model, discriminator, **options(recipe, setting.rate, num_steps))
    inference.run(data.rows, num_steps=num_steps, batch_size=setting.batch_size, progress=False)
    found = mode_coverage(inference.sample(2500), data.centers, data.scale)
    return {
        "recipe": recipe,
        "seed": seed,
        **setting._asdict(),
        "num_steps": num_steps,
        "modes": found.num_modes,
        "high_quality": round(found.high_quality, 4),
        "seconds": round(time.perf_counter() - start),
        "pyro_gan": __version__,
        "torch": torch.__version__,
    }


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table, none where there is no table yet."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def succeeds(row: dict[str, str]) -> bool:
    """Whether a row of the table is that of a good fit."""
    return int(row["modes"]) == 8 and float(row["high_quality"]) >= HIGH_QUALITY


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """A heat map of the high quality for each recipe and pair of settings; a cross where it failed."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    figure, axes = plt.subplots(len(recipes), 2, figsize=(10, 4 * len(recipes)), layout="constrained", squeeze=False)
    middle = {name: str(value) for name, value in Setting()._asdict().items()}
    for recipe, line in zip(recipes, axes, strict=True):
        for (first, second), ax in zip((("rate", "width"), ("batch_size", "noise")), line, strict=True):
            fixed = [name for name in middle if name not in (first, second)]
            chosen = [row for row in rows if row["recipe"] == recipe and all(row[f] == middle[f] for f in fixed)]
            values, others = (sorted({float(row[name]) for row in chosen}) for name in (first, second))
            grid = torch.full((len(values), len(others)), torch.nan)
            for row in chosen:
                place = values.index(float(row[first])), others.index(float(row[second]))
                grid[place] = float(row["high_quality"])
                if not succeeds(row):
                    ax.text(place[1], place[0], "x", ha="center", va="center", color="white", fontsize=14)
            shown = ax.imshow(grid.numpy(), vmin=0.0, vmax=1.0, aspect="auto")
            ax.set(xlabel=second.replace("_", " "), ylabel=first.replace("_", " "), title=recipe)
            ax.set_xticks(range(len(others)), [f"{value:g}" for value in others])
            ax.set_yticks(range(len(values)), [f"{value:g}" for value in values])
        figure.colorbar(shown, ax=line, label="high quality (x: failed)")
    figure.savefig(path)
    plt.close(figure)


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet, then draw and count."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "sensitivity.csv"
    num_steps = 20 if args.quick else args.num_steps
    known = read(path)
    done = {tuple(row[name] for name in COLUMNS[:7]) for row in known}
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not known:
            table.writeheader()
        for recipe, setting in itertools.product(args.recipes, settings(args.quick)):
            key = (recipe, args.seed, *setting, num_steps)
            if tuple(map(str, key)) not in done:
                table.writerow(run(recipe, args.seed, setting, num_steps))
                file.flush()
    rows = read(path)
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        print(f"{recipe}: {sum(map(succeeds, of_recipe))} of {len(of_recipe)} settings succeed")
    draw(rows, args.out / "sensitivity.png")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=["default", "edward"], default=["default", "edward"])
    parser.add_argument("--num-steps", type=int, default=5000, help="steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="seed of each run")
    parser.add_argument("--quick", action="store_true", help="the corners alone, 20 steps each; some ten seconds")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table and the picture")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
