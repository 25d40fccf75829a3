"""How the defaults do beside Edward's recipe on the ring, the grid and MNIST: a table of what the examples print.

Each row is a run of an example, and is written as soon as it is there. A run takes minutes.

    python tests/benchmarks/defaults.py --out docs/benchmarks/defaults.txt

MNIST runs where the environment variable PYRO_GAN_DATA names its folder.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run(script: str, *arguments: str) -> str:
    """What an example prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(EXAMPLES / script), *arguments, "--out", folder]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(args: argparse.Namespace) -> None:
    """Run the examples with both recipes and several seeds, and write a row for each run."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a") as file:

        def write(row: str) -> None:
            print(row, file=file, flush=True)
            print(row, flush=True)

        if not args.out.stat().st_size:
            write(f"torch {torch.__version__}, {os.cpu_count()} cores, {platform.machine()}; seconds may be shared")
            write("recipe   seed  data  modes  high quality  reverse KL  seconds")
        for recipe in args.recipes:
            for seed in range(args.first_seed, args.first_seed + args.num_seeds):
                for data in args.data:
                    options = ("--recipe", recipe, "--seed", str(seed))
                    if data == "mnist":
                        lines = run("mnist.py", "--data", "mnist", *options).splitlines()
                        write(f"{recipe:8s} {seed:4d}  mnist  {'; '.join(lines[:2])}")
                    else:
                        write(f"{recipe:8s} {seed:4d}  {run('mixture.py', '--data', data, *options).splitlines()[1]}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=["ring", "grid", "mnist"], default=["ring", "grid"])
    parser.add_argument("--recipes", nargs="+", choices=["default", "edward"], default=["default", "edward"])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/defaults.txt"))
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
