"""How long a step takes: inferences, eager and compiled, beside loops of the same recipe that one would write oneself.

All contenders of a workload run in turns, a few steps each, so that what else the machine does hits all alike; the
table has medians, and the median of the ratios to the careful loop's block of the same turn. Before, all take one step
from the same parameters and seed, and their gradients are compared. JAX joins where it is installed (the extra
`benchmarks`), Pyro's SVI on a variational autoencoder of the tutorial's size.

    python tests/benchmarks/step.py --seconds 30 --out docs/benchmarks/step.txt
"""

import argparse
import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
import workloads
from pyro.infer import SVI, Trace_ELBO
from workloads import Inference, Loop, Workload

from pyro_gan.training.minibatches import minibatches

COLUMNS = ("careful", "ordinary", "eager", "compiled", "JAX", "SVI")
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}
"""How far gradients may differ, beside the largest of a player; CUDA devices compute convolutions with fewer digits."""


def svi() -> Callable[[], None]:
    """SVI's step on a variational autoencoder with the tutorial's generator as decoder."""
    decoder = workloads.layers([100, 128, 784], None)
    encoder = workloads.layers([784, 128, 200], None)
    decoder, encoder = decoder.to(workloads.DEVICE), encoder.to(workloads.DEVICE)

    zero = torch.zeros((), device=workloads.DEVICE)

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(zero, 1.0).expand([100]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    engine = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    data = torch.randint(0, 256, (60_000, 784), dtype=torch.uint8)
    batches = minibatches(data, 128, workloads.DEVICE, workloads.binarize)

    def step() -> None:
        engine.step(*next(batches))

    return step


def gradients(contender: Loop | Inference, batch: torch.Tensor, is_exact: bool) -> dict[str, torch.Tensor]:
    """What a contender's first step leaves in `.grad`, from a seed."""
    stream, contender.batches = contender.batches, repeat(batch if isinstance(contender, Loop) else (batch,))
    pyro.set_rng_seed(0)
    contender.step()
    contender.batches = stream
    networks = {"generator": contender.generator, **({"discriminator": contender.discriminator} if is_exact else {})}
    return {
        f"{player}.{name}": parameter.grad.clone()
        for player, network in networks.items()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def contenders_of(workload: Workload) -> dict[str, Loop | Inference]:
    """New contenders that start from the workload's parameters."""
    return {
        "careful": Loop(workload, careful=True),
        "ordinary": Loop(workload, careful=False),
        "eager": Inference(workload),
        "compiled": Inference(workload, compile=True),
    }


def check_alike(workload: Workload) -> float:
    """Compare the gradients of all contenders' first steps; return the largest relative difference.

    An ordinary loop's generator leaves a gradient in the discriminator, so that only the generator's is compared there.
    The rates are 0, or the generator's gradient would be that beside another discriminator.

    Raises:
        ValueError: They differ by more than rounding.
    """
    batch = workload.data[: workload.batch_size].to(workloads.DEVICE)
    batch = batch if workload.transform is None else workload.transform(batch)
    still = replace(workload, adam={**workload.adam, "lr": 0.0})
    found = {name: gradients(each, batch, name != "ordinary") for name, each in contenders_of(still).items()}
    expected, worst = found.pop("careful"), 0.0
    for contender, values in found.items():
        for name, value in values.items():
            player = name.partition(".")[0]
            scale = max(float(one.abs().max()) for key, one in expected.items() if key.startswith(player))
            difference = float((value - expected[name]).abs().max()) / scale
            worst = max(worst, difference)
            if difference > TOLERANCE[workloads.DEVICE.type]:
                raise ValueError(
                    f"{workload.name}: {contender} and the careful loop differ by {difference:.1e} in {name}."
                )
    return worst


def now() -> float:
    """Seconds on a clock, when all that the device was given is done."""
    if workloads.DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(
    steps: dict[str, Callable[[], int | None]], seconds: float, clock: Callable[[], float] = now
) -> dict[str, list[float]]:
    """Milliseconds a step of each contender, in blocks of some 30 ms that take turns for so many seconds.

    A contender may take several steps in a call, and then returns their number.
    """
    lengths = {}
    for name, step in steps.items():
        for _ in range(12):  # warms up, and compiles
            step()
        start = now()
        step()
        lengths[name] = max(1, round(0.03 / (now() - start)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, step in steps.items():
            start = clock()
            number = sum(step() or 1 for _ in range(lengths[name]))
            times[name].append((clock() - start) / number * 1e3)
    return times


def row(name: str, times: dict[str, list[float]], reference: str) -> str:
    """A line of the table: milliseconds, and ratios to a contender."""
    cells = []
    for column in COLUMNS:
        if column not in times:
            cells.append(f"{'':12s}")
            continue
        ratios = [one / other for one, other in zip(times[column], times[reference], strict=True)]
        cells.append(f"{statistics.median(times[column]):7.2f}{statistics.median(ratios):5.2f}")
    return f"{name:16s}{''.join(cells)}".rstrip()


def of_workload(workload: Workload, seconds: float) -> tuple[str, float]:
    """A workload's line of the table, and how far gradients lie apart."""
    worst = check_alike(workload)
    pyro.clear_param_store()
    steps: dict[str, Callable[[], int | None]] = {name: each.step for name, each in contenders_of(workload).items()}
    if workloads.DEVICE.type == "cpu" and importlib.util.find_spec("jax") is not None:
        import in_jax

        if jax_step := in_jax.step(workload):
            steps["JAX"] = jax_step
    if workload.name == "tutorial":
        steps["SVI"] = svi()
    return row(workload.name, in_turns(steps, seconds), "careful"), worst


def of_scale(num_rows: int) -> str:
    """A step on so many rows of 10 numbers by a run's own stream, and the memory beside the data."""
    data = torch.randn(num_rows, 10)
    work = workloads.default("scale", 2, 128, 10, 256, data)
    contender = Inference(work)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    before = memory("VmRSS")
    times = in_turns({"eager": contender.step}, 3.0)["eager"]
    beside = (memory("VmHWM") - before) / 1024
    milliseconds, own = statistics.median(times), data.nbytes / 2**20
    return f"{num_rows:>12,d} rows: {milliseconds:6.2f} ms a step, {beside:5.0f} MB beside the data's {own:.0f}"


def memory(name: str) -> int:
    """A line of the process's status, in KiB; Linux alone has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Time all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="for each row")
    parser.add_argument("--rows", nargs="+", default=["tutorial", "plane", "images", "wgan", "posterior", "dcgan"])
    parser.add_argument("--device", default="cpu", help="where networks and data lie, such as cuda")
    parser.add_argument("--scale", type=int, help="measure a step on so many rows alone")
    parser.add_argument("--out", type=Path, help="a file for the table")
    args = parser.parse_args()
    workloads.DEVICE = torch.device(args.device)
    if args.scale is not None:
        print(of_scale(args.scale))
        return
    pyro.set_rng_seed(0)
    lines = [
        f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "milliseconds a step, and its ratio to the careful loop (of a posterior: to the eager step)",
        f"{'':16s}{''.join(f'{column:>12s}' for column in COLUMNS)}".rstrip(),
    ]
    print("\n".join(lines), flush=True)

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    differences: dict[str, float] = {}
    for name in args.rows:
        if name == "posterior":
            steps = {"eager": workloads.posterior(False), "compiled": workloads.posterior(True)}
            tell(row("posterior", in_turns(steps, args.seconds), "eager"))
        else:
            line, differences[name] = of_workload(getattr(workloads, name)(), args.seconds)
            tell(line)
    tell(f"largest relative difference of gradients: {max(differences.values(), default=0.0):.0e}")
    for num_rows in (10**3, 10**5, 10**7) if args.device == "cpu" else ():
        command = [sys.executable, __file__, "--scale", str(num_rows)]
        tell(subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip())
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")


def machine() -> str:
    """The processor's or the device's name, as far as the system tells."""
    if workloads.DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    names = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in names if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
