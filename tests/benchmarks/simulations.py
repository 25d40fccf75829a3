"""A million simulations of the predator-prey model in shards: killed, resumed, and compared with an unbroken run.

    python tests/benchmarks/simulations.py --folder output/simulations --out docs/benchmarks/simulations.txt

The first process is killed by SIGKILL when a part of the shards is there; a second one draws the rest. Then some shards
are drawn once more, apart, and must be what stands at their place. The peak of memory is that of the resident set of a
process, the rows that it has mapped included.
"""

import argparse
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import simulator

from pyro_gan import simulate
from pyro_gan.simulations.drawing import Simulator
from pyro_gan.simulations.shards import Plan

SEED = 0


def main(args: argparse.Namespace) -> None:
    """Kill, resume, compare, and write what was found."""
    command = [sys.executable, __file__, "--draw", "--folder", str(args.folder), "--number", str(args.number)]
    command += ["--num-workers", str(args.num_workers)]
    start = time.perf_counter()
    first = subprocess.Popen(command)
    while len(list(args.folder.glob("shard-*"))) < args.number // 1000 * 0.4:
        if first.poll() is not None:
            raise SystemExit("the first process ended before it was killed")
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed, before = time.perf_counter() - start, len(list(args.folder.glob("shard-*")))
    start = time.perf_counter()
    subprocess.run(command, check=True)
    resumed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    found = simulate(simulator.model, args.number, folder=args.folder, seed=SEED, progress=False)
    plan, drawing = Plan(args.number, 1000, SEED), Simulator(simulator.model, None)
    for number in range(0, plan.num_shards, max(1, plan.num_shards // 20)):
        again = drawing.draw(number, plan.rows_of(number), plan.seed_of(number), may_fail=False)
        there = slice(number * 1000, number * 1000 + plan.rows_of(number))
        if not all(torch.equal(found[site][there], rows) for site, rows in again.valid.items()):
            raise SystemExit(f"shard {number} is not at its place")
    unique = len(torch.unique(found["rates"][:].view(torch.int32), dim=0))
    lines = [
        f"{args.number:,} simulations of the predator-prey model, num_workers={args.num_workers}",
        f"killed after {killed:.0f} s with {before:,} of {plan.num_shards:,} shards; the rest in {resumed:.0f} s",
        f"rows afterwards {len(found['x']):,}, different ones {unique:,}; 20 shards drawn apart are at their places",
        f"largest resident set of a process {peak:.2f} GiB",
    ]
    print("\n".join(lines))
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("output/simulations"))
    parser.add_argument("--number", type=int, default=1_000_000)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/simulations.txt"))
    parser.add_argument("--draw", action="store_true", help="draw, which the script's own processes do")
    given = parser.parse_args()
    if given.draw:
        simulate(simulator.model, given.number, given.num_workers, given.folder, seed=SEED, progress=False)
    else:
        main(given)
