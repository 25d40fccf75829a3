"""Which random variables of a model are data where the model observes none: what is drawn last, given all others."""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

import torch
from pyro import poutine
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_gan.players.calls import Arguments
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.players.handler import is_random_variable


class Kind(Enum):
    """What a random variable is to a model."""

    OBSERVED = 1
    COMPUTED = 2
    """Deterministic or Delta."""
    RANDOM = 3


def data_sites(
    kinds: Mapping[str, Kind],
    dependence: Callable[[], Mapping[str, Collection[str]]],
    declared: Collection[str] = (),
    asked: Collection[str] = (),
    names: Collection[str] = (),
) -> set[str]:
    """The sites that are data: declared, observed, computed or, where there are none of these, drawn last.

    A random variable that the model draws last counts as data where it is the only one that depends on others and on
    which none depends. A computed one does not where it lies in between, or where the data are simulations of which
    others are known to be the observed part.

    Args:
        kinds: The model's sites in order.
        dependence: Gives the sites from which each one was directly computed.
        declared: Sites that the user says are data.
        asked: Sites that the user wants to compare.
        names: What the data hold by name.

    Returns:
        Their names; none where nothing tells.
    """
    known = {name for name, kind in kinds.items() if kind is Kind.OBSERVED or name in declared}
    computed = {name for name, kind in kinds.items() if kind is Kind.COMPUTED} - known
    are_simulations = any(kinds.get(name) is Kind.RANDOM and name not in declared for name in names)
    if known:
        return known | (computed & set(asked) if are_simulations else computed)
    last = next(iter(list(kinds)[::-1]), "")
    if not are_simulations and kinds.get(last) is not Kind.RANDOM:
        return computed
    upstream = dependence()
    used = set[str]().union(*upstream.values())
    ends = [name for name, sources in upstream.items() if sources and name not in used]
    if kinds.get(last) is Kind.RANDOM:
        return {last} if ends == [last] else computed
    # A number computed last may be the observation or tell of a latent; a random variable beside it is either, too.
    return set() if any(kinds[name] is Kind.RANDOM for name in ends) else computed


class _Dependence(Messenger):
    """Keeps from which random variables each one was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.upstream: dict[str, set[str]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if not is_random_variable(msg):
            return
        found = set(get_provenance(msg["value"]))
        value = detach_provenance(msg["value"])
        if hasattr(msg["fn"], "log_prob"):  # of what is drawn by other means than torch's, the parameters tell
            found |= get_provenance(msg["fn"].log_prob(value))
        self.upstream[msg["name"]] = found
        msg["value"] = track_provenance(value, frozenset({msg["name"]}))


def dependence(model: Callable[..., Any], arguments: Arguments, names: Collection[str] = ()) -> dict[str, set[str]]:
    """From which random variables each one of a model was directly computed, as far as torch can tell.

    Args:
        model: The model, which is run once.
        arguments: How it is called. Where it is given data without names, these need be no site, and nothing tells.
        names: The names of the data.

    Returns:
        The names of the others by name; nothing where the model does not run on tensors that keep track.
    """
    if not names and any(isinstance(value, Tensor) for value in (*arguments.args, *arguments.kwargs.values())):
        return {}
    found = _Dependence()
    try:
        with poutine.block(), kept_buffers(), torch.no_grad(), found:
            model(*arguments.args, **arguments.kwargs)
    except Exception:  # whatever a model does with tensors that are of a class of their own
        return {}
    return found.upstream
