"""How long steps on images take with channels last and in half precision, beside the same steps as they stand.

The networks are those of the benchmark's DCGAN and of its fully connected images. `channels last` orders the numbers of
images by pixel, in which convolutions run without a copy; the weights stay as they are, since Pyro's store would copy
them. `bfloat16` runs the networks below `torch.autocast`, with parameters, logits and losses in single precision. All
take turns, a few steps each; the table has medians of the processor's time, and the medians of the ratios of a turn.

    python tests/benchmarks/formats.py --seconds 60 --out docs/benchmarks/formats.txt
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pyro
import torch
import workloads
from step import in_turns, machine
from torch import Tensor, nn
from workloads import Inference, Workload

FORMATS = {
    workloads.dcgan: ("as it stands", "channels last", "bfloat16", "channels last, bfloat16"),
    workloads.images: ("as it stands", "bfloat16"),
}


class ChannelsLast(nn.Module):
    """Images as they are, ordered by pixel in memory."""

    def forward(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last)


class Half(nn.Module):
    """A network that computes in half precision where torch thinks it safe, and returns single precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(rows).float()


def with_channels_last(network: nn.Sequential) -> nn.Sequential:
    """The network with its images in that order: from its start, or from where it makes images of vectors."""
    layers = list(network)
    start = next((place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.Unflatten)), 0)
    return nn.Sequential(*layers[:start], ChannelsLast(), *layers[start:])


def formatted(workload: Workload, name: str) -> Workload:
    """A workload in formats.

    Args:
        workload: The workload.
        name: The formats, in words.
    """
    networks = [workload.generator, workload.discriminator]
    if "channels last" in name:
        networks = [with_channels_last(network) for network in networks]
    if "bfloat16" in name:
        networks = [Half(network) for network in networks]
    return replace(workload, name=f"{workload.name}, {name}", generator=networks[0], discriminator=networks[1])


def main() -> None:
    """Time all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of the two")
    parser.add_argument("--out", type=Path, help="a file for the table")
    args = parser.parse_args()
    pyro.set_rng_seed(0)
    capability = torch.backends.cpu.get_cpu_capability()
    lines = [
        f"{machine()}, {capability}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "milliseconds of the processor a step, and the ratio to the step as it stands",
    ]
    for make, names in FORMATS.items():
        steps = {name: Inference(formatted(make(), name)).step for name in names}
        times = in_turns(steps, args.seconds, time.process_time)
        for name, each in times.items():
            ratio = statistics.median(one / other for one, other in zip(each, times["as it stands"], strict=True))
            lines.append(f"{make.__name__:8s}{name:26s}{statistics.median(each):7.1f}{ratio:6.2f}")
    print("\n".join(lines))
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
