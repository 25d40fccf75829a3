"""Running the user's model and discriminator for a look, and leaving no trace of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.util import get_rng_state, set_rng_state
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_gan.players.devices import calling_modules


@contextmanager
def kept_buffers(*modules: nn.Module) -> Iterator[None]:
    """A context after which the buffers of modules (batch statistics) are what they were before.

    Args:
        modules: Some that are known; those called in the context are found by themselves.
    """
    saved: list[tuple[nn.Module, str, Tensor | None, Tensor | None]] = []
    lazy: list[nn.Module] = []

    def save(module: nn.Module) -> None:
        if any(buffer is not None and is_lazy(buffer) for buffer in module._buffers.values()):
            lazy.append(module)
        else:
            saved.extend(
                (module, name, buffer, None if buffer is None else buffer.clone())
                for name, buffer in module._buffers.items()
            )

    try:
        with calling_modules(save, *modules):
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in saved:
                _restore(module, name, buffer, value)
            for module in lazy:  # batch statistics that had no shape before this run start from their beginning
                module.reset_running_stats()  # type: ignore[operator]


def _restore(module: nn.Module, name: str, buffer: Tensor | None, value: Tensor | None) -> None:
    """Put a buffer back: where it is now, unless it has another shape or was none before."""
    now = module._buffers[name]
    if buffer is None or value is None:
        module._buffers[name] = None
    elif now is not None and now.shape == value.shape:
        now.copy_(value)
    else:
        module._buffers[name] = buffer.resize_(value.shape).copy_(value)


@contextmanager
def dropped_parameters() -> Iterator[None]:
    """A context after which, if it fails, Pyro's store has no parameters that it had not before."""
    store = pyro.get_param_store()
    before = set(store.keys())
    try:
        yield
    except BaseException:
        for name in set(store.keys()) - before:
            del store[name]
        raise


@contextmanager
def kept_unbuilt(*functions: Any) -> Iterator[None]:
    """A context after which, if it fails, modules that built themselves in it have no parts, as before.

    Args:
        functions: Callables, of which only modules matter that say by `is_built` whether they have built themselves.
    """
    modules = [one for one in functions if isinstance(one, nn.Module) and getattr(one, "is_built", True) is False]
    before = [vars(module).copy() for module in modules]
    try:
        yield
    except BaseException:
        for module, attributes in zip(modules, before, strict=True):
            module._modules.clear()
            vars(module).update(attributes)
        raise


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """A context after which torch's, NumPy's and Python's random states are what they were before."""
    state = get_rng_state()
    backend, which = _backend(device)
    device_state = backend.get_rng_state(*which) if backend is not None else None
    try:
        yield
    finally:
        set_rng_state(state)
        if backend is not None:
            backend.set_rng_state(device_state, *which)


def random_states(device: torch.device) -> list[Tensor]:
    """The states of torch's generators on the host and on a device, to be compared."""
    backend, which = _backend(device)
    return [torch.get_rng_state(), *([] if backend is None else [backend.get_rng_state(*which)])]


def set_random_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Set them to what :func:`random_states` returned."""
    backend, which = _backend(device)
    torch.set_rng_state(states[0])
    if backend is not None:
        backend.set_rng_state(states[1], *which)


def _backend(device: torch.device) -> tuple[Any, tuple[torch.device, ...]]:
    """The module of torch with a device's generator, and its arguments; none for the host."""
    backend = getattr(torch, device.type) if device.type in ("cuda", "mps") else None
    return backend, (device,) if device.type == "cuda" else ()
