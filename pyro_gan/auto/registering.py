"""How a module that registers itself by a fixed name keeps its own parameters in Pyro's store.

The store has one entry a name. Where another module that still lives has the entries, this one's take their place while
it runs, and the other's come back when that runs: so each trains, and answers, by its own. Entries that nobody has any
more, or that a user has loaded, are taken over, as by any module of Pyro's.
"""

import gc
from collections.abc import Mapping
from weakref import ref

import pyro
from pyro.params import param_with_module_name
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

_owners = WeakIdKeyDictionary()
"""The modules that have registered parameters here, as weak references, by parameter."""


def register(name: str, module: nn.Module) -> None:
    """Register a module's parameters with Pyro, and take over those of the store that no other living module has.

    Args:
        name: The module's name in the store.
        module: The module, for which :func:`check_store` has been called.
    """
    own = _full_names(name, dict(module.named_parameters()))
    is_known = any(_owner(parameter) is module for parameter in own.values())
    store = pyro.get_param_store()
    for full_name, entry in _others(own).items():
        # A module that had parameters of its own goes on with these, also where the other one is gone by now.
        if is_known or _owner(entry) is not None or entry.shape != own[full_name].shape:
            del store[full_name]
    pyro.module(name, module, update_module_params=True)
    for parameter in module.parameters():
        if _owner(parameter) is not module:
            _owners[parameter] = ref(module)


def check_store(name: str, parameters: Mapping[str, Tensor]) -> None:
    """Refuse to take over parameters of other shapes from Pyro's store, such as an older guide's.

    Args:
        name: The name in the store of the module that is to have the parameters.
        parameters: These by name.

    Raises:
        ValueError: There are some, and no living module has them.
    """
    own = _full_names(name, parameters)
    if _others(own):
        gc.collect()  # an inference, which a notebook's cell may have made again, lies in a circle of references
    for full_name, entry in _stored(own).items():
        if _owner(entry) is None and entry.shape != own[full_name].shape:
            raise ValueError(
                f"Pyro's parameter store holds {full_name!r} with shape {tuple(entry.shape)} from another guide, but "
                f"this guide's has {tuple(own[full_name].shape)}. Call pyro.clear_param_store() first, or give this "
                "guide another name."
            )


def _full_names(name: str, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {param_with_module_name(name, each): parameter for each, parameter in parameters.items()}


def _stored(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What Pyro's store has under the names of a module's parameters."""
    entries = pyro.get_param_store()._params
    return {full_name: entries[full_name] for full_name in own if full_name in entries}


def _others(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of them that are another module's, living or not."""
    return {name: entry for name, entry in _stored(own).items() if entry is not own[name] and entry in _owners}


def _owner(parameter: Tensor) -> nn.Module | None:
    found = _owners.get(parameter)
    owner: nn.Module | None = None if found is None else found()
    return owner
