"""Running the user's model and discriminator for a look, and leaving no trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pyro.util import get_rng_state, set_rng_state
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_gan.devices import calling_modules


@contextmanager
def kept_buffers() -> Iterator[None]:
    """A context after which the buffers of the modules called in it (batch statistics) are what they were before."""
    saved: list[tuple[nn.Module, str, Tensor]] = []
    lazy: list[nn.Module] = []

    def save(module: nn.Module) -> None:
        buffers = dict(module.named_buffers(recurse=False))
        if any(is_lazy(buffer) for buffer in buffers.values()):
            lazy.append(module)
        else:
            saved.extend((module, name, buffer.clone()) for name, buffer in buffers.items())

    try:
        with calling_modules(save):
            yield
    finally:
        with torch.no_grad():
            for module, name, value in saved:
                module.get_buffer(name).copy_(value)
            for module in lazy:  # batch statistics that had no shape before this run start from their beginning
                module.reset_running_stats()  # type: ignore[operator]


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """A context after which torch's, NumPy's and Python's random states are what they were before."""
    state = get_rng_state()
    backend = getattr(torch, device.type) if device.type in ("cuda", "mps") else None
    device_state = backend.get_rng_state() if backend is not None else None
    try:
        yield
    finally:
        set_rng_state(state)
        if backend is not None:
            backend.set_rng_state(device_state)
