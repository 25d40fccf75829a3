"""Random numbers of many processes: noise that is each one's own, and what all of them draw alike."""

import hashlib

import pyro
import torch

from pyro_gan.players.first_look import random_states
from pyro_gan.processes import Processes


def separate_noise(processes: Processes, device: torch.device) -> None:
    """Give a process whose random states are those of an earlier one, as after one seed for all, others.

    Args:
        processes: All of them.
        device: Where noise is drawn.
    """
    own = _digest(device)
    if own in processes.gathered(own)[: processes.rank]:
        mixed = hashlib.sha256(f"{own} {processes.rank}".encode()).digest()
        pyro.set_rng_seed(int.from_bytes(mixed[:4]))


def common_seed(processes: Processes, device: torch.device) -> int:
    """A seed for what all processes draw alike: it follows from the first one's random state, which does not move."""
    return int(processes.from_first(lambda: int(_digest(device)[:8], 16)))


def _digest(device: torch.device) -> str:
    """A fingerprint of torch's random state, by which noise is drawn."""
    states = random_states(device)
    both = (states.host, states.host if states.device is None else states.device)
    return hashlib.sha256(b"".join(each.cpu().numpy().tobytes() for each in both)).hexdigest()
