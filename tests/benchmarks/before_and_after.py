"""How long a run's steps take in this tree and in another, such as that of an earlier commit.

Each tree has a process of its own; blocks of whole runs take turns, and the table has medians of their ratios.

    git worktree add /tmp/before HEAD~20
    python tests/benchmarks/before_and_after.py /tmp/before
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
WORKLOADS = ("tutorial", "plane", "images", "posterior")


def serve() -> None:
    """Answer each line, a workload and a number of steps, with the milliseconds that each step of a run took."""
    import torch
    import workloads

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    made = {}
    for line in sys.stdin:
        name, number = line.split()
        if name not in made:
            made[name] = workloads.posterior(False) if name == "posterior" else _run_of(getattr(workloads, name)())
        run = made[name]
        start = time.perf_counter()
        run(int(number)) if name != "posterior" else [run() for _ in range(int(number))]
        print((time.perf_counter() - start) / int(number) * 1e3, flush=True)


def _run_of(workload):
    """A function that takes so many steps by `run`, with all that happens along a run."""
    from workloads import Inference

    inference = Inference(workload).inference
    options = {"batch_size": workload.batch_size, "transform": workload.transform, "progress": False}
    return lambda number: inference.run(workload.data, num_steps=number, **options)


def started(tree: Path, threads: int) -> subprocess.Popen:
    """A process that serves the package of a tree; the workloads are this tree's."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{tree}:{HERE / 'tests/benchmarks'}"}
    command = [sys.executable, "-W", "ignore", __file__, "--serve"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen, name: str, number: int) -> float:
    """The milliseconds a step of a block."""
    process.stdin.write(f"{name} {number}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, nargs="?", help="the other tree")
    parser.add_argument("--serve", action="store_true", help="be the process of a tree")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each workload")
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    before, after = started(args.before, args.threads), started(HERE, args.threads)
    print(f"{'workload':12}{'before':>8}{'after':>8}{'ratio':>8}   ms a step, {args.threads} threads")
    for name in WORKLOADS:
        for process in (before, after):  # warms up
            ask(process, name, 30)
        number = max(5, int(300 / ask(after, name, 10)))
        blocks, end = [], time.monotonic() + args.seconds
        while time.monotonic() < end:
            blocks.append((ask(before, name, number), ask(after, name, number)))
        one, other = (statistics.median(times) for times in zip(*blocks, strict=True))
        ratio = statistics.median(second / first for first, second in blocks)
        print(f"{name:12}{one:8.2f}{other:8.2f}{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    main()
