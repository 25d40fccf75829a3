"""How a guide is called: which of its arguments are observations, and what their names are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from pyro_gan.players.calls import Arguments
from pyro_gan.players.model import ImplicitModel


class Call(NamedTuple):
    """A guide's first call."""

    rows: dict[str, Tensor]
    """The observations by name, each with shape `(num_rows, *event_shape)`."""
    names: tuple[str, ...]
    """The names of the arguments by position."""
    arguments: Arguments
    """How the model is called."""


def first_call(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], sites: Sequence[str] = ()
) -> Call:
    """Understand a guide's first call.

    Rows alone are a minibatch, on which the model is called as every inference calls it: one that takes no data is
    called without, and further elements such as labels are left out. With anything else among the arguments the model
    is called on them as they are.

    Args:
        model: The model.
        args: The guide's arguments.
        kwargs: The same by name.
        sites: The names of sites that are data, by which a tuple of as many elements is named.
    """
    if (args and kwargs) or not (args or kwargs) or not all(map(_are_rows, (*args, *kwargs.values()))):
        names = tuple(map(_number, range(len(args))))
        given = {**dict(zip(names, args, strict=True)), **kwargs}
        return Call({name: value for name, value in given.items() if _are_rows(value)}, names, Arguments(args, kwargs))
    calls = ImplicitModel(model, tuple(sites) or None, next(iter((*args, *kwargs.values()))).device, move=False).calls
    arguments = calls.arguments(kwargs or args)
    if kwargs:
        return Call(kwargs, tuple(kwargs), arguments)
    bound = {id(value): name for name, value in calls.named_arguments(arguments).items()}
    if len(sites) == len(args):
        bound = {**{id(value): site for site, value in zip(sites, args, strict=True)}, **bound}
    names = tuple(bound.get(id(value), _number(number)) for number, value in enumerate(args))
    taken = {id(value) for value in (*arguments.args, *arguments.kwargs.values(), *arguments.spare)}
    return Call({name: rows for name, rows in zip(names, args, strict=True) if id(rows) in taken}, names, arguments)


def named_by_site(call: Call, sites: Sequence[str]) -> Call:
    """A call whose first observation, if the model takes all but that one, has the name of the model's only data site.

    Args:
        call: The call.
        sites: The names of the model's data sites.
    """
    unnamed = [name for number, name in enumerate(call.names) if name in call.rows and name == _number(number)]
    if len(sites) != 1 or unnamed != [_number(0)] or sites[0] in call.rows:
        return call
    rows = {sites[0] if name == _number(0) else name: values for name, values in call.rows.items()}
    return call._replace(rows=rows, names=(sites[0], *call.names[1:]))


def _are_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _number(position: int) -> str:
    return f"argument {position}"
