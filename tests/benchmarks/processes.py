"""Milliseconds a step on 1, 2 and 4 processes, which share a minibatch of 512 rows.

    python tests/benchmarks/processes.py --out docs/benchmarks/processes.txt

Images of 784 pixels, networks of three layers of 384, the default recipe. The threads of all processes together are as
many as are given. Settings take turns, and the least of the rounds counts, since other work can only lengthen them.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_gan import GANInference
from pyro_gan.processes import found

NUM_ROWS, NUM_PIXELS, WIDTH, NOISE_SIZE = 512, 784, 384, 100


def network(first: int, last: int) -> nn.Sequential:
    """Three hidden layers."""
    layers = [nn.Linear(first, WIDTH), nn.LeakyReLU(0.2)]
    for _ in range(2):
        layers += [nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, last))


def measure(num_steps: int) -> None:
    """Print the milliseconds of a step, of one process among others."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    pyro.set_rng_seed(0)
    generator, discriminator = network(NOISE_SIZE, NUM_PIXELS), network(NUM_PIXELS, 1)

    def model(batch_size):
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(noise), event_dim=1)

    inference = GANInference(model, discriminator)
    data = torch.rand(20_000, NUM_PIXELS)
    inference.run(data, num_steps=5, batch_size=NUM_ROWS // size, progress=False)
    wall, processor = time.perf_counter(), time.process_time()
    inference.run(data, num_steps=num_steps, batch_size=NUM_ROWS // size, progress=False)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    together = found()
    of_all = processor if together is None else sum(together.gathered(processor))
    if rank == 0:
        print(f"milliseconds {1000 * wall / num_steps:.2f} {1000 * of_all / num_steps:.2f}")


def launched(size: int, num_threads: int, num_steps: int) -> tuple[float, float]:
    """The milliseconds of a step of so many processes, and those of the processor in all of them together."""
    command = [sys.executable]
    if size > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    command += [__file__, "--measure", "--num-steps", str(num_steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    wall, processor = output.split("milliseconds")[1].split()[:2]
    return float(wall), float(processor)


def main(args: argparse.Namespace) -> None:
    """Measure each setting in turn, and write the table."""
    settings = [(1, args.num_threads), (2, max(1, args.num_threads // 2)), (4, max(1, args.num_threads // 4))]
    best = dict.fromkeys(settings, (float("inf"), float("inf")))
    for _ in range(args.num_rounds):
        for setting in settings:
            best[setting] = tuple(map(min, best[setting], launched(*setting, args.num_steps)))
            print(setting, best[setting], flush=True)
    alone = best[settings[0]]
    lines = [
        f"{args.num_threads} thread(s) in all but at least one a process; torch {torch.__version__}, gloo; "
        f"{NUM_ROWS} rows, three layers of {WIDTH}",
        "processes   threads of each   rows of each   ms a step   ratio   processor ms of all   ratio",
    ]
    for (size, threads), (wall, processor) in best.items():
        lines.append(
            f"{size:9d} {threads:17d} {NUM_ROWS // size:14d} {wall:11.1f} {wall / alone[0]:7.2f} {processor:21.1f} "
            f"{processor / alone[1]:7.2f}"
        )
    print("\n".join(lines))
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=40)
    parser.add_argument("--num-rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/processes.txt"))
    parser.add_argument("--measure", action="store_true", help="measure, which the script's own processes do")
    given = parser.parse_args()
    if given.measure:
        measure(given.num_steps)
    else:
        main(given)
