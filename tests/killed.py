"""A training script that is killed at random moments, run again each time, and compared with one that was not.

`python tests/killed.py --kills 50` kills until there have been so many, some of them while a checkpoint is written.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch


def train(folder, out, compile, kind):
    """Two runs, one after the other, with all that keeps something along a run."""
    import pyro
    from models import network_model, networks
    from torch.utils.data import DataLoader, TensorDataset

    from pyro_gan import GANInference
    from pyro_gan.callbacks import Evaluate, KeepBest

    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    rows = torch.randn(700, 3, generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(rows)
    data = rows if kind == "array" else DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True)
    generator, discriminator = networks(batch_norm=True)
    inference = GANInference(network_model(generator, 2), discriminator, ema_decay=0.99)

    def gap(samples, held_out):
        return (samples.mean(0) - held_out.mean(0)).abs().mean()

    options = {"batch_size": 32, "progress": False, "compile": compile, "checkpoint": folder, "checkpoint_every": 7}
    inference.run(data, num_steps=300, **options)
    callbacks = [Evaluate(gap, rows, every=10, num_samples=50), KeepBest("gap", smaller_is_better=True)]
    inference.run(data, num_steps=200, callbacks=callbacks, **options)
    torch.save({"state": inference.state_dict(), "random": torch.get_rng_state()}, out)


def started(folder, out, compile, kind):
    """The script in a process of its own."""
    command = [sys.executable, __file__, "--train", str(folder or ""), "--out", str(out), "--data", kind]
    return subprocess.Popen(
        [*command, *["--compile"] * compile], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    )


def killed(kills, folder, compile=False, kind="array", seed=0):
    """Kill so many times; return how often, how often while a checkpoint was written, and whether all results agree."""
    folder, moments = Path(folder), random.Random(seed)
    for _ in range(2 if compile else 1):  # the first fills torch's cache of compiled code
        start = time.monotonic()
        finish(started(None, folder / "expected", compile, kind))
        seconds = time.monotonic() - start
    expected, number, number_writing, agrees = torch.load(folder / "expected"), 0, 0, True
    trial = 0
    while number < kills:
        trial += 1
        checkpoints = folder / f"trial-{trial}"
        while True:
            process = started(checkpoints, folder / "found", compile, kind)
            try:
                process.wait(timeout=moments.uniform(0.5, 1.05) * seconds if number < kills else None)
                finish(process)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                number += 1
                number_writing += bool(list(checkpoints.glob(".*.part")))
        agrees = agrees and same(torch.load(folder / "found"), expected)
    return number, number_writing, agrees


def finish(process):
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(errors.decode())


def same(one, other):
    """Whether two nests of tensors, lists and dictionaries are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", choices=["array", "loader"], default="array")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--train", help="be the script, with checkpoints in this folder")
    parser.add_argument("--out", help="the script's result")
    args = parser.parse_args()
    if args.train is not None:
        train(args.train or None, args.out, args.compile, args.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        number, number_writing, agrees = killed(args.kills, folder, args.compile, args.data, args.seed)
    what = f"{args.data}, {'compiled' if args.compile else 'eager'}"
    print(f"{what}: {number} kills, {number_writing} while writing; bit for bit the same: {agrees}")


if __name__ == "__main__":
    main()
