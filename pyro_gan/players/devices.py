"""Devices: which one, and how the user's modules and noise get there."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_gan.checks import shown
from pyro_gan.players.exclusive import process_wide


def resolve_device(device: str | torch.device | None, discriminator: object) -> torch.device:
    """The device to work on.

    Args:
        device: The user's choice, such as `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`. Under torchrun, `"cuda"` is the
            device of the local rank. `None` takes the device of the
            discriminator's parameters where it is a module that has some, else torch's default device.
        discriminator: The discriminator.

    Raises:
        ValueError: `device` names no device, or one that is not available here.
        TypeError: `device` is neither a string nor a `torch.device`.
    """
    if device is None:
        parameter = next(discriminator.parameters(), None) if isinstance(discriminator, nn.Module) else None
        return _default_device() if parameter is None else parameter.device
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a string such as 'cuda' or a torch.device, but is {shown(device)}.")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={shown(device)} names no device; use 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None
    if chosen.type == "cuda" and chosen.index is None and "LOCAL_RANK" in os.environ:
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))  # each of torchrun's processes has its own
    try:
        return torch.empty(0, device=chosen).device  # 'cuda' becomes 'cuda:0', as tensors name it
    except Exception as error:  # each backend has errors of its own for not being there
        raise ValueError(
            f"device={str(device)!r} is not available here. "
            "Use device='cpu', or a torch build and a machine that have it."
        ) from error


def check_works_on(module: nn.Module, device: torch.device) -> None:
    """Refuse a module that is about to be called where it can not work.

    Args:
        module: The module.
        device: Where it is called.

    Raises:
        ValueError: It takes batch statistics over processes, which torch has for GPUs alone.
    """
    if device.type != "cpu" or not isinstance(module, nn.SyncBatchNorm) or not module.training:
        return
    if distributed.is_available() and distributed.is_initialized():
        raise ValueError(
            "a network has an nn.SyncBatchNorm, which torch has for GPUs alone, but many processes train on CPUs here. "
            "Leave nn.BatchNorm as it is, which takes the statistics of each process's own rows, take nn.GroupNorm or "
            "nn.LayerNorm, or train on GPUs."
        )


def creating_on(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which new tensors are made on `device`, so that `dist.Uniform(-1.0, 1.0)` draws there."""
    # The context costs a little on every torch call, so it is entered only where it changes something.
    return nullcontext() if device == _default_device() else device


def _default_device() -> torch.device:
    return torch.empty(0).device  # torch.get_default_device overlooks a context in older versions of torch


@contextmanager
def calling_modules(on_call: Callable[[nn.Module], None], *modules: nn.Module) -> Iterator[list[nn.Module]]:
    """A context that gives the list of the modules called within it, each once and passed to `on_call` beforehand.

    A Pyro model is a function, which tells nobody what networks it runs; torch's global hook does.

    Args:
        on_call: Called with each module, parents before their children.
        modules: Some that are known, which count as called from the start.
    """
    seen: set[nn.Module] = set()
    called: list[nn.Module] = []

    def meet(module: nn.Module, inputs: object = None) -> None:
        if module in seen:
            return
        for part in module.modules():
            if part not in seen:
                seen.add(part)
                called.append(part)
                on_call(part)

    with process_wide, _uncompiled():  # torch.compile would compile the hook into the user's network
        handle = register_module_forward_pre_hook(meet)
        try:
            for module in modules:
                meet(module)
            yield called
        finally:
            handle.remove()


@contextmanager
def _uncompiled() -> Iterator[None]:
    """A context in which networks that the user compiled run as they were written."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled yet
        yield
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        yield


def is_compiled(module: nn.Module) -> bool:
    """Whether a module was compiled by the user, by `torch.compile(module)` or `module.compile()`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
