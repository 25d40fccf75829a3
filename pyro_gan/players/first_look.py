"""Running the user's model and discriminator for a look, and leaving no trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from pyro.util import get_rng_state, set_rng_state
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_gan.players.devices import calling_modules
from pyro_gan.players.exclusive import process_wide


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
                restore_buffer(module, name, buffer, value)
            for module in lazy:  # batch statistics that had no shape before this run start from their beginning
                module.reset_running_stats()  # type: ignore[operator]


def restore_buffer(module: nn.Module, name: str, buffer: Tensor | None, value: Tensor | None) -> None:
    """Put a buffer back: where it is now, unless it has another shape or was none before.

    Args:
        module: Whose buffer it is.
        name: Its name.
        buffer: The tensor that it was.
        value: A copy of what that held.
    """
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


def builds_itself_later(function: Any) -> bool:
    """Whether a callable is a module that says by `is_built` that it has still to build itself."""
    return isinstance(function, nn.Module) and getattr(function, "is_built", True) is False


@torch.no_grad()
def take_buffers(module: nn.Module, other: nn.Module) -> None:
    """Give a module's buffers the values of another's that was built alike."""
    theirs = dict(other.named_buffers())
    for name, buffer in module.named_buffers():
        buffer.copy_(theirs[name])


@contextmanager
def kept_unbuilt(*functions: Any) -> Iterator[None]:
    """A context after which, if it fails, modules that built themselves in it have no parts, as before.

    Args:
        functions: Callables, of which only modules matter that say by `is_built` whether they have built themselves.
    """
    modules = [one for one in functions if builds_itself_later(one)]
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
    with process_wide:
        states = random_states(device)
        try:
            yield
        finally:
            set_random_states(device, states)


class RandomStates(NamedTuple):
    """The states of all generators that a user's code may draw from."""

    python: Any
    numpy: Any
    host: Tensor
    """That of torch's on the host."""
    device: Tensor | None
    """That of torch's on a device, where that has its own."""

    def state_dict(self) -> dict[str, Any]:
        """The states in tensors, numbers and strings."""
        version, words, gauss = self.python
        kind, keys, position, has_gauss, cached = self.numpy
        return {
            "python": {
                "version": version,
                "words": torch.tensor(words, dtype=torch.int64, device="cpu"),
                "gauss": gauss,
            },
            "numpy": {
                "kind": str(kind),
                "keys": torch.from_numpy(keys.astype("int64")),
                "rest": [int(position), int(has_gauss), float(cached)],
            },
            "host": self.host.clone(),
            "device": None if self.device is None else self.device.clone(),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "RandomStates":
        """The states that :meth:`state_dict` returned."""
        python, numpy = state["python"], state["numpy"]
        return cls(
            (python["version"], tuple(python["words"].tolist()), python["gauss"]),
            (numpy["kind"], numpy["keys"].numpy().astype("uint32"), *numpy["rest"]),
            state["host"],
            state["device"],
        )

    def has_drawn_by_torch(self, before: "RandomStates") -> bool:
        """Whether torch's generators have been used since."""
        pairs = ((self.host, before.host), (self.device, before.device))
        return any(one is not None and other is not None and not torch.equal(one, other) for one, other in pairs)

    def has_drawn_otherwise(self, before: "RandomStates") -> bool:
        """Whether Python's or NumPy's generators have been used since."""
        one, other = ((kind, keys.tobytes(), *rest) for kind, keys, *rest in (self.numpy, before.numpy))
        return self.python != before.python or one != other


def random_states(device: torch.device) -> RandomStates:
    """The states of all generators, of which torch's has one on the host and one on a device."""
    states, (backend, which) = get_rng_state(), _backend(device)
    of_device = None if backend is None else backend.get_rng_state(*which)
    return RandomStates(states["random"], states["numpy"], states["torch"], of_device)


def set_random_states(device: torch.device, states: RandomStates) -> None:
    """Set them to what :func:`random_states` returned."""
    backend, which = _backend(device)
    set_rng_state({"random": states.python, "numpy": states.numpy, "torch": states.host})
    if backend is not None:
        backend.set_rng_state(states.device, *which)


def _backend(device: torch.device) -> tuple[Any, tuple[torch.device, ...]]:
    """The module of torch with a device's generator, and its arguments; none for the host."""
    backend = getattr(torch, device.type) if device.type in ("cuda", "mps") else None
    return backend, (device,) if device.type == "cuda" else ()
