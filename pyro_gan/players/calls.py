"""How a minibatch becomes a call of a model or a guide, and which part of it is the real sample of a compared site."""

import functools
import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from pyro.poutine.messenger import unwrap
from torch import Tensor, nn

from pyro_gan.checks import listed
from pyro_gan.players.batch import Batch, named, number_of_rows, resized
from pyro_gan.players.handler import Draw


class Arguments(NamedTuple):
    """How a model is called on a minibatch."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    spare: tuple[Tensor, ...] = ()
    """Elements of the minibatch that the model is not given because they are compared sites' real rows, in order."""


def copied(arguments: Arguments) -> Arguments:
    """The arguments with tensors that have memory of their own."""
    return Arguments(
        tuple([_copy(value) for value in arguments.args]),
        {name: _copy(value) for name, value in arguments.kwargs.items()},
        arguments.spare,
    )


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


class Calls:
    """How a callable is called: what a minibatch's elements are to its parameters.

    Args:
        function: A Pyro model or guide. A parameter named `batch_size` is given the number of rows wanted; parameters
            with a default other than `None` keep it; the others are filled from the minibatch.
        role: What to call it in messages, such as "guide".
        in_order: The sites that a tuple's elements stand for, where the callable does not take these in order.
        takes_conditions: Asked once, where a tuple has more elements than the callable has parameters for data: whether
            it takes the first ones, or those behind the compared sites' real rows, which are given to it in this order.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        role: str,
        in_order: tuple[str, ...] = (),
        takes_conditions: "Callable[[Arguments, Arguments], bool] | None" = None,
    ) -> None:
        self.role = role
        self.in_order = in_order
        self._takes_conditions = takes_conditions
        self._num_skipped: dict[int, int] = {}
        """By a tuple's length, how many of its elements are real rows that the callable is not given."""
        self._signature = _signature(function)
        self._data_parameters = _data_parameters(self._signature)

    def arguments(self, batch: Batch) -> Arguments:
        """How the model is called on a minibatch.

        A mapping fills the model's parameters by name, and so does a tuple with an element for each of several compared
        sites. Any other tuple fills the data parameters in order, as `SVI.step` would; elements beyond, such as labels,
        are left out. For a model that takes no data, or only what lies beyond, the first element is the compared site's
        real sample.

        Raises:
            TypeError: The minibatch does not fit the model's parameters.
        """
        num_rows = number_of_rows(batch)
        if isinstance(batch, dict):
            return self._with_batch_size(Arguments((), self._by_name(batch)), num_rows)
        self._check_keywords()
        if len(self.in_order) == len(batch) > 1 and not self._fits(len(batch)):
            by_site = dict(zip(self.in_order, batch, strict=True))
            kwargs = self._by_name(by_site)
            spare = tuple(value for site, value in by_site.items() if site not in kwargs)
            return self._with_batch_size(Arguments((), kwargs, spare), num_rows)
        skipped = self._number_skipped(batch)
        if skipped:
            return self._behind(batch, skipped)
        args = batch if self._data_parameters is None else batch[: len(self._data_parameters)]
        if len(args) < self._required():
            raise TypeError(
                f"the {self.role} takes {len(self._data_parameters or ())} data arguments "
                f"({', '.join(self._data_parameters or ())}), but the minibatch has {len(batch)} elements. "
                "Pass the data as a tuple that matches the model's arguments, or as a mapping from their names."
            )
        return self._with_batch_size(self._placed(args, () if args else batch[:1]), num_rows)

    def sample_arguments(
        self, args: tuple[Any, ...], last: Arguments | None, num_rows: int, exactly: bool = False
    ) -> Arguments:
        """How the model is called when `num_rows` rows are wanted: on the user's arguments, else the last step's.

        Args:
            args: The user's arguments.
            last: The last step's arguments.
            num_rows: The number of rows wanted.
            exactly: Whether the last step's arguments are cut or repeated to that number.

        Raises:
            TypeError: The model needs arguments, and there are none.
        """
        is_free = not self._needs_arguments() and (last is None or not exactly)
        if args or is_free:
            arguments = Arguments(args, {})
            if "batch_size" in self.named_arguments(arguments):
                if self._required() <= len(args) - 1 or len(args) != len(self._data_parameters or ()):
                    return arguments
                arguments = self._placed(args, ())  # those behind the number of rows
            return self._with_batch_size(arguments, num_rows)
        if last is None:
            raise TypeError(
                f"the {self.role} takes {', '.join(self._data_parameters or ())}, and no step has been taken whose "
                "arguments could be used. Pass them: sample(num_samples, ...)."
            )
        if exactly:
            last = _with_rows(last, num_rows)
        covariates = [value for value in (*last.args, *last.kwargs.values()) if isinstance(value, Tensor)]
        return self._with_batch_size(last, len(covariates[0]) if covariates else num_rows)

    def named_arguments(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by the names of the model's parameters."""
        if self._signature is None:
            return dict(arguments.kwargs)
        return dict(self._signature.bind_partial(*arguments.args, **arguments.kwargs).arguments)

    def real(self, draw: Draw, arguments: Arguments, batch: Batch, latent: Container[str] = ()) -> dict[str, Tensor]:
        """The real sample of the compared sites, as of :meth:`sources`, in the model's floating-point type."""
        return as_precise(self.sources(draw, arguments, batch, latent), draw.values)

    def sources(self, draw: Draw, arguments: Arguments, batch: Batch, latent: Container[str] = ()) -> dict[str, Tensor]:
        """The real sample of the compared sites, as the data or the model's observations have it.

        Args:
            draw: What the model drew.
            arguments: How it was called.
            batch: The minibatch.
            latent: Compared sites that are no data.

        Returns:
            A tensor by site with shape `(num_rows, *event_shape)`: the minibatch's element of that name or place, where
            the model is not given it; else what the model observed there, else the minibatch's element of that name,
            else the argument of that name, else the minibatch's only element.

        Raises:
            ValueError: None of these decides.
        """
        compared = [name for name in draw.values if name not in latent]
        named = {**(batch if isinstance(batch, dict) else {}), **draw.observed, **_unseen(compared, arguments, batch)}
        rest = arguments.spare or (tuple(batch) if not isinstance(batch, dict) and len(batch) == 1 else ())
        if len(compared) > len(rest):  # else the arguments, which take time to name, decide nothing
            named = {**self.named_arguments(arguments), **named}
        real = {name: named[name] for name in compared if isinstance(named.get(name), Tensor)}
        missing = [name for name in compared if name not in real]
        if len(missing) > len(rest):
            raise ValueError(
                f"no part of the data is known to be the real sample of site {missing[0]!r}. "
                f"Pass the data as a mapping, run({{{missing[0]!r}: ..., ...}})."
            )
        real.update(zip(missing, rest, strict=False))
        return {name: real[name] for name in compared}

    def _check_keywords(self) -> None:
        """Refuse a tuple for a model that needs an argument by name."""
        for parameter in self._signature.parameters.values() if self._signature is not None else ():
            is_needed = parameter.default is inspect.Parameter.empty and parameter.name != "batch_size"
            if is_needed and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                raise TypeError(
                    f"the {self.role} takes {parameter.name!r} by name only. Pass the data as a mapping, "
                    f"run({{{parameter.name!r}: ..., ...}})."
                )

    def _number_skipped(self, batch: tuple[Tensor, ...]) -> int:
        """How many elements of a tuple are real rows that the callable is not given, as it takes conditions alone."""
        number, taken = len(batch), len(self._data_parameters or ())
        if not 0 < taken < number or self._takes_conditions is None:
            return 0
        if number not in self._num_skipped:
            first = len(self.in_order) if 0 < len(self.in_order) < number else 1
            is_possible = self._required() <= number - first
            self._num_skipped[number] = 0
            if is_possible and self._takes_conditions(
                self._with_batch_size(self._placed(batch[:taken], ()), number_of_rows(batch)),
                self._behind(batch, first),
            ):
                self._num_skipped[number] = first
        return self._num_skipped[number]

    def forget(self) -> None:
        """Let go of what has been seen in minibatches."""
        self._num_skipped = {}

    def _behind(self, batch: tuple[Tensor, ...], skipped: int) -> Arguments:
        """The callable's arguments where it is given what lies behind the real rows."""
        args = batch[skipped : skipped + len(self._data_parameters or ())]
        return self._with_batch_size(self._placed(args, batch[:skipped]), number_of_rows(batch))

    def replaced(self, arguments: Arguments, values: Mapping[str, Any]) -> Arguments:
        """Arguments with other values of some of the callable's parameters.

        Args:
            arguments: The arguments.
            values: The values by the parameters' names.
        """
        places = list(self._signature.parameters) if self._signature is not None else []
        args, kwargs = list(arguments.args), dict(arguments.kwargs)
        for name, value in values.items():
            if name in kwargs or name not in places[: len(args)]:
                kwargs[name] = value
            else:
                args[places.index(name)] = value
        return Arguments(tuple(args), kwargs, arguments.spare)

    def _placed(self, args: tuple[Any, ...], spare: tuple[Tensor, ...]) -> Arguments:
        """The arguments by position, or by name where a parameter such as `batch_size` stands before them."""
        names = (self._data_parameters or ())[: len(args)]
        if self._signature is None or tuple(self._signature.parameters)[: len(args)] == names or not names:
            return Arguments(args, {}, spare)
        return Arguments((), dict(zip(names, args, strict=True)), spare)

    def _fits(self, number: int) -> bool:
        """Whether the model can be called with this many elements of a minibatch."""
        if self._data_parameters is None:
            return number > 0
        return self._required() <= number <= len(self._data_parameters)

    def _needs_arguments(self) -> bool:
        """Whether the model can not be called without data."""
        if self._signature is None:
            return True
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return any(
            parameter.default is inspect.Parameter.empty and parameter.kind not in variable and name != "batch_size"
            for name, parameter in self._signature.parameters.items()
        )

    def number_required(self) -> int:
        """How many arguments the model can not do without, the number of rows left out."""
        return self._required()

    def _required(self) -> int:
        """How many elements of a minibatch the model can not do without."""
        parameters = self._signature.parameters if self._signature is not None else {}
        return sum(parameters[name].default is inspect.Parameter.empty for name in self._data_parameters or ())

    def _by_name(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._signature is None:
            return {}
        parameters = self._signature.parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return dict(batch)
        missing = [
            parameter.name
            for parameter in parameters
            if parameter.default is inspect.Parameter.empty
            and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
            and parameter.name not in (*batch, "batch_size")
        ]
        if missing:
            raise TypeError(
                f"the {self.role}'s argument {missing[0]!r} is not among the data's names "
                f"({listed(batch)}). Add it to the mapping, or give it a default."
            )
        return {parameter.name: batch[parameter.name] for parameter in parameters if parameter.name in batch}

    def _with_batch_size(self, arguments: Arguments, num_rows: int) -> Arguments:
        if self._signature is None or "batch_size" not in self._signature.parameters:
            return arguments
        return arguments._replace(kwargs={**arguments.kwargs, "batch_size": num_rows})


def _unseen(compared: list[str], arguments: Arguments, batch: Batch) -> dict[str, Tensor]:
    """The minibatch's elements by compared site that the model is not given, so that it can not have observed them."""
    names = [name for name in compared if name not in arguments.kwargs]
    if isinstance(batch, dict):
        return {name: batch[name] for name in names if name in batch}
    return dict(zip(names, arguments.spare, strict=True)) if len(names) == len(arguments.spare) else {}


def _with_rows(arguments: Arguments, num_rows: int) -> Arguments:
    """The arguments with another number of rows: cut, or repeated from the start."""

    def as_long(value: Any) -> Any:
        return resized(value, num_rows) if isinstance(value, Tensor) else value

    return Arguments(
        tuple(map(as_long, arguments.args)), {name: as_long(value) for name, value in arguments.kwargs.items()}
    )


def _signature(model: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of the user's function below Pyro's effect handlers, or `None` where Python can not tell."""
    function = model if type(model) is functools.partial else unwrap(model)
    try:
        return inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return None


def _data_parameters(signature: inspect.Signature | None) -> tuple[str, ...] | None:
    """The names of the parameters that a minibatch fills in order; `None` where the model takes any number."""
    if signature is None:
        return None
    parameters = signature.parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        and parameter.name != "batch_size"
        and parameter.default in (inspect.Parameter.empty, None)
    )


def as_precise(real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
    """Real rows by site in the model's floating-point type: NumPy's default is double, torch's single precision."""
    are_numbers = {site: rows.is_floating_point() and fake[site].is_floating_point() for site, rows in real.items()}
    return {site: rows.to(fake[site].dtype) if are_numbers[site] else rows for site, rows in real.items()}


def places(rows: Tensor, batch: Batch) -> list[Any]:
    """The names or numbers of the minibatch's elements that are these rows, as they are."""
    return [place for place, value in named(batch) if value is rows]
