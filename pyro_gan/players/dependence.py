"""Which random variables of a model are data where the model observes none: what is drawn last, given all others."""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from pyro_gan.players.calls import Arguments
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.players.handler import is_random_variable

PARTIAL = ("index", "scatter", "masked", "put", "fill_diagonal")
"""How the names of functions begin that write a part of a tensor in place."""


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
    noisy: Callable[[], Collection[str]] = tuple,
) -> set[str]:
    """The sites that are data: declared, observed, computed or, where there are none of these, drawn last.

    A random variable that the model draws last counts as data where it is the only one that depends on others and on
    which none depends. A computed one does not where the data are simulations of which others are known to be the
    observed part, or where it lies in between, unless it leads to computed ones and has noise of its own.

    Args:
        kinds: The model's sites in order.
        dependence: Gives the sites from which each one was directly computed.
        declared: Sites that the user says are data.
        asked: Sites that the user wants to compare.
        names: What the data hold by name.
        noisy: Gives the computed sites that others than random variables make vary.

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
    if any(kinds[name] is Kind.RANDOM for name in ends):
        return set()
    between = (computed & used) - set(asked)
    return computed - (between - set(noisy())) if between else computed


class _Sources(TorchFunctionMode):
    """Keeps from which random variables each tensor was computed.

    Pyro's own tensors that keep track turn shapes into tuples, by which `x.new(shape)`, as some distributions call it,
    makes a tensor of the shape's numbers. What is written into a part of a tensor is lost: else all that is read from
    its other parts would depend on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names = WeakTensorKeyDictionary()

    def of(self, values: Any) -> frozenset[str]:
        """The names of the random variables behind all tensors in a structure."""
        return frozenset[str]().union(*(self._names.get(each, ()) for each in _tensors(values)))

    def set(self, value: Tensor, *names: str) -> None:
        """Say from which random variables a tensor was computed."""
        self._names[value] = frozenset(names)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        names = self.of((args, kwargs))
        is_same = bool(args) and result is args[0]  # of conversions too, where there is nothing to convert
        if names and (not is_same or _is_written_all_over(function.__name__)):
            for each in _tensors(result):
                self.set(each, *names, *self._names.get(each, ()))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _is_written_all_over(name: str) -> bool:
    """Whether a function changes each number of a tensor in place."""
    is_in_place = (name.endswith("_") and not name.startswith("__")) or name.startswith("__i")
    return is_in_place and not name.startswith(PARTIAL)


class _Dependence(Messenger):
    """Keeps from which random variables each one was computed."""

    def __init__(self, sources: _Sources) -> None:
        super().__init__()
        self.sources = sources
        self.upstream: dict[str, set[str]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if not is_random_variable(msg):
            return
        value, found = msg["value"], set(self.sources.of(msg["value"]))
        if msg["is_observed"]:  # it may be another's value too
            value = value.clone()
        self.sources.set(value)
        if hasattr(msg["fn"], "log_prob"):  # of what is drawn by other means than torch's, the parameters tell
            found |= self.sources.of(msg["fn"].log_prob(value))
        self.sources.set(value, msg["name"])
        self.upstream[msg["name"]] = found
        msg["value"] = value


def dependence(model: Callable[..., Any], arguments: Arguments, names: Collection[str] = ()) -> dict[str, set[str]]:
    """From which random variables each one of a model was directly computed, as far as torch can tell.

    Args:
        model: The model, which is run once.
        arguments: How it is called. Where it is given data without names, these need be no site, and nothing tells.
        names: The names of the data.

    Returns:
        The names of the others by name; nothing where the model does not run.
    """
    if not names and any(isinstance(value, Tensor) for value in (*arguments.args, *arguments.kwargs.values())):
        return {}
    sources = _Sources()
    found = _Dependence(sources)
    try:
        with poutine.block(), kept_buffers(), torch.no_grad(), found, sources:
            model(*arguments.args, **arguments.kwargs)
    except Exception:  # an error that is told where the model is called as ever
        return {}
    return found.upstream


def noisy(model: Callable[..., Any], arguments: Arguments) -> set[str]:
    """The sites whose values vary while those of all random variables that are drawn stay as they are.

    Such a one is computed by random numbers that are no sites, as by `torch.randn`.

    Args:
        model: The model, which is run twice.
        arguments: How it is called.

    Returns:
        Their names; those of all sites where the model does not run.
    """
    with poutine.block(), kept_buffers(), torch.no_grad():
        first = poutine.trace(model).get_trace(*arguments.args, **arguments.kwargs)
        nodes = {name: site for name, site in first.nodes.items() if site["type"] == "sample"}
        sites: dict[str, Any] = {name: site["value"] for name, site in nodes.items() if is_random_variable(site)}
        drawn = {name: value for name, value in sites.items() if not nodes[name]["is_observed"]}
        try:
            again = poutine.trace(poutine.condition(model, drawn)).get_trace(*arguments.args, **arguments.kwargs)
        except Exception:  # a model that draws other sites, or rows of another shape, each time
            return set(sites)
    return {name for name, value in sites.items() if not _are_same(value, again.nodes.get(name, {}).get("value"))}


def _are_same(value: Any, other: Any) -> bool:
    """Whether two values are the same numbers."""
    return isinstance(value, Tensor) and isinstance(other, Tensor) and torch.equal(value, other)
