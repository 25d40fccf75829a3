"""Implicit models: Pyro models that are only ever sampled.

An :class:`ImplicitModel` runs the user's model forward under one light effect handler, :class:`Draw`, which keeps the
values of the compared sites and the parameters that were used. It also knows how a minibatch becomes the model's
arguments, and which part of it is the real sample of a compared site.
"""

import functools
import inspect
import math
from collections.abc import Callable, Container, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger, unwrap
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_gan.data import Batch, number_of_rows, resized
from pyro_gan.player import Player


class Arguments(NamedTuple):
    """How a model is called on a minibatch."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    spare: tuple[Tensor, ...] = ()
    """Elements of the minibatch that the model is not given because they are compared sites' real rows, in order."""


class Site(NamedTuple):
    """What a look at a random variable of a model tells."""

    support: constraints.Constraint
    is_observed: bool
    is_reparameterized: bool
    is_candidate: bool
    """Whether it can be compared with data without being named."""
    has_rows: bool
    """Whether it lies in a plate."""
    distribution: str

    def __str__(self) -> str:
        kind = "observed" if self.is_observed else "latent"
        return f"{kind} {self.distribution}{'' if self.is_reparameterized else ', not reparameterized'}"


class Draw(Messenger):
    """An effect handler that keeps what one forward run of an implicit model draws.

    Observed sites that are compared are drawn afresh; their observations are kept as the real sample.

    Args:
        sites: The sites to keep; `None` looks: it keeps every candidate, and describes all random variables.
        meet: Called with each parameter's name and unconstrained leaf; it may return a new constrained value.
        scored: Sites whose log-densities are kept, with the shape of their plates; observed ones are not drawn afresh.
    """

    def __init__(
        self,
        sites: Sequence[str] | None,
        meet: Callable[[str, Tensor], Tensor | None],
        scored: Sequence[str] = (),
        looks: bool = False,
    ) -> None:
        super().__init__()
        self.sites = sites
        self.meet = meet
        self.scored = scored
        self.looks = looks
        self.values: dict[str, Tensor] = {}
        self.observed: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        self.log_densities: dict[str, Tensor] = {}
        self.scales: dict[str, float | Tensor] = {}
        self.log_factor: Tensor | None = None
        self.found: dict[str, Site] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if not self._is_compared(msg) or not msg["is_observed"] or msg["infer"].get("_deterministic"):
            return
        self.observed[msg["name"]] = msg["value"]
        if msg["name"] in self.scored:
            return
        msg["value"] = None
        msg["is_observed"] = False

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], pyro.distributions.Unit):
            self._add_factor(msg)
        elif self._is_compared(msg) or msg["name"] in self.observed:
            self.values[msg["name"]] = msg["value"]
            self.scales[msg["name"]] = msg["scale"]
        if msg["name"] in self.scored:
            self.log_densities[msg["name"]] = msg["fn"].log_prob(msg["value"])
            self.scales[msg["name"]] = msg["scale"]
        if self.looks and is_random_variable(msg):
            self.found[msg["name"]] = _look_at(msg, msg["name"] in self.observed)

    def _pyro_post_param(self, msg: Any) -> None:
        reference = getattr(msg["value"], "unconstrained", None)
        if reference is None:  # a handler such as poutine.lift has made a random variable of it
            return
        leaf = reference()
        value = self.meet(msg["name"], leaf)
        if value is not None:
            msg["value"] = value
        if leaf.requires_grad:
            self.parameters[msg["name"]] = leaf

    def _is_compared(self, msg: Any) -> bool:
        if self.sites is not None:
            return msg["name"] in self.sites and is_random_variable(msg)
        return is_random_variable(msg) and _is_candidate(msg)

    def _add_factor(self, msg: Any) -> None:
        """Add a `pyro.factor`: the mean over its rows, as that of losses, without the scale of plates' subsampling."""
        of_plates = math.prod((frame.full_size or frame.size) / frame.size for frame in _plates(msg))
        factor = scale_and_mask(msg["fn"].log_factor, msg["scale"] / of_plates, msg["mask"]).mean()
        self.log_factor = factor if self.log_factor is None else self.log_factor + factor


def is_random_variable(msg: Any) -> bool:
    """Whether a sample message is more than a plate's subsampling or a factor."""
    return type(msg["fn"]).__name__ != "_Subsample" and not msg["infer"].get("is_auxiliary")


def _is_candidate(msg: Any) -> bool:
    """Whether a site can be compared without being named: deterministic, Delta, or observed and reparameterized."""
    if msg["infer"].get("_deterministic") or _innermost(msg["fn"]) == "Delta":
        return True
    return bool(msg["is_observed"] and getattr(msg["fn"], "has_rsample", False))


def _innermost(fn: Any) -> str:
    """The name of a distribution's class, without the masks, expansions and independence wrapped around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__


def _plates(msg: Any) -> list[Any]:
    return [frame for frame in msg["cond_indep_stack"] if frame.vectorized]


def _look_at(msg: Any, was_observed: bool) -> Site:
    return Site(
        support=getattr(msg["fn"], "support", constraints.real),
        is_observed=was_observed or bool(msg["is_observed"] and not msg["infer"].get("_deterministic")),
        is_reparameterized=bool(getattr(msg["fn"], "has_rsample", False)),
        is_candidate=was_observed or _is_candidate(msg),
        has_rows=bool(_plates(msg)),
        distribution=_innermost(msg["fn"]),
    )


class ImplicitModel(Player):
    """A Pyro model, its compared sites, and how to draw them.

    Args:
        model: A Pyro model. A parameter named `batch_size` is given the number of rows wanted; parameters with a
            default other than `None` keep it; the others are filled from the minibatch.
        site: The compared site, or several; `None` finds the only candidate at the first draw.
        device: The device on which the model draws.
        move: Whether the modules and parameters that it uses are moved there.
        role: What to call it in messages, such as "guide".

    Raises:
        TypeError: The model is not callable, or `site` is not a name or several.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        site: str | Sequence[str] | None,
        device: torch.device,
        move: bool,
        role: str = "model",
    ) -> None:
        if not callable(model):
            raise TypeError(f"{role} must be a Pyro model, a callable, but is {model!r} ({type(model).__name__}).")
        sites = (site,) if isinstance(site, str) else site
        if sites is not None and (
            not isinstance(sites, list | tuple) or not sites or not all(isinstance(name, str) for name in sites)
        ):
            raise TypeError(f"site must be a site's name or a list of names, but is {site!r}.")
        super().__init__(model, device, move)
        self.role = role
        self.sites = None if sites is None else tuple(sites)
        self.in_order = self.sites or ()
        """The sites that a tuple's elements stand for, where the model does not take these in order."""
        self.found: dict[str, Site] = {}
        self._signature = _signature(model)
        self._data_parameters = _data_parameters(self._signature)

    def draw(self, arguments: Arguments, scored: Sequence[str] = ()) -> Draw:
        """Run the model once.

        Args:
            arguments: How it is called.
            scored: Sites whose log-densities are kept; observed ones are not drawn afresh.

        Returns:
            The run's handler: `values` by compared site, each with shape `(num_rows, *event_shape)`, the observations
            that they replaced, and the parameters used.

        Raises:
            ValueError: At the first draw, when no single site to compare is found.
        """
        if not self.is_known:
            self.look_at(arguments)
        self._fill_others()
        if self.sites is None:
            self.sites = _only_candidate(self.found)
        # Off the CPU, checking the arguments of distributions waits for the device; the first run has checked them.
        unchecked = nullcontext() if self.device.type == "cpu" else pyro.distributions.validation_enabled(False)
        with self.creating, unchecked:
            draw = self._run(Draw(self.sites, self._meet, scored), arguments)
        if len(draw.values) != len(self.sites or ()):
            missing = sorted(set(self.sites or ()) - set(draw.values))
            raise ValueError(f"site {missing[0]!r} is missing from this run of the {self.role}. Draw it in every run.")
        return draw

    def look_at(self, arguments: Arguments) -> None:
        """Run the model once to see its random variables, described in `found`; it leaves no other effect.

        Raises:
            ValueError: A site that was asked for is not there.
        """
        with self.look(), torch.no_grad():
            draw = Draw(self.sites, self._meet, looks=True)
            try:
                self._run(draw, arguments)
            except RuntimeError as error:
                if "dtype" in str(error):
                    error.add_note(
                        f"The {self.role} was given data of another floating-point type than its parameters have. "
                        "Convert them with transform=, for example transform=lambda x, c: (x.float(), c.float())."
                    )
                raise
            for name in self.sites or ():
                if name not in draw.found:
                    there = ", ".join(map(repr, draw.found)) or "none"
                    raise ValueError(
                        f"site={name!r} is not a site of the {self.role}; it has {there}. Name one of them."
                    )
        self.found = draw.found

    def _run(self, draw: Draw, arguments: Arguments) -> Draw:
        with draw:
            self.function(*arguments.args, **arguments.kwargs)
        return draw

    def state_dict(self) -> dict[str, Any]:
        """As of every player, and the compared sites."""
        return {**super().state_dict(), "sites": list(self.sites or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sites = self.sites or tuple(state["sites"]) or None

    def _meet(self, name: str, leaf: Tensor) -> Tensor | None:
        """Take note of a parameter; at its first sight it may move or take a loaded value, which is then returned."""
        if self.parameters.get(name) is leaf or not self.fill(name, leaf):
            return None
        return pyro.get_param_store()[name]

    def arguments(self, batch: Batch) -> Arguments:
        """How the model is called on a minibatch.

        A mapping fills the model's parameters by name, and so does a tuple with an element for each of several compared
        sites. Any other tuple fills the data parameters in order, as `SVI.step` would; elements beyond, such as labels,
        are left out. For a model that takes no data, the first element is the compared site's real sample.

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
        args = batch if self._data_parameters is None else batch[: len(self._data_parameters)]
        if len(args) < self._required():
            raise TypeError(
                f"the {self.role} takes {len(self._data_parameters or ())} data arguments "
                f"({', '.join(self._data_parameters or ())}), but the minibatch has {len(batch)} elements. "
                "Pass the data as a tuple that matches the model's arguments, or as a mapping from their names."
            )
        return self._with_batch_size(self._placed(args, () if args else batch[:1]), num_rows)

    def _check_keywords(self) -> None:
        """Refuse a tuple for a model that needs an argument by name."""
        for parameter in self._signature.parameters.values() if self._signature is not None else ():
            is_needed = parameter.default is inspect.Parameter.empty and parameter.name != "batch_size"
            if is_needed and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                raise TypeError(
                    f"the {self.role} takes {parameter.name!r} by name only. Pass the data as a mapping, "
                    f"run({{{parameter.name!r}: ..., ...}})."
                )

    def _placed(self, args: tuple[Any, ...], spare: tuple[Tensor, ...]) -> Arguments:
        """The arguments by position, or by name where a parameter such as `batch_size` stands before them."""
        names = (self._data_parameters or ())[: len(args)]
        if self._signature is None or tuple(self._signature.parameters)[: len(args)] == names or not names:
            return Arguments(args, {}, spare)
        return Arguments((), dict(zip(names, args, strict=True)), spare)

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
                return arguments
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

    def real(self, draw: Draw, arguments: Arguments, batch: Batch, latent: Container[str] = ()) -> dict[str, Tensor]:
        """The real sample of the compared sites.

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
        return {name: _as_precise(real[name], draw.values[name]) for name in compared}

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
                f"({', '.join(map(repr, batch))}). Add it to the mapping, or give it a default."
            )
        return {parameter.name: batch[parameter.name] for parameter in parameters if parameter.name in batch}

    def named_arguments(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by the names of the model's parameters."""
        if self._signature is None:
            return dict(arguments.kwargs)
        return dict(self._signature.bind_partial(*arguments.args, **arguments.kwargs).arguments)

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


def _as_precise(real: Tensor, fake: Tensor) -> Tensor:
    """Real rows in the model's floating-point type: NumPy's default is double, torch's single precision."""
    return real.to(fake.dtype) if real.is_floating_point() and fake.is_floating_point() else real


def _only_candidate(found: dict[str, Site]) -> tuple[str, ...]:
    """The site to compare after a look, or an error that lists what the model has."""
    candidates = [name for name, site in found.items() if site.is_candidate]
    if len(candidates) == 1:
        return tuple(candidates)
    if not candidates:
        others = ", ".join(f"{name!r} ({site})" for name, site in found.items()) or "no other sites"
        raise ValueError(
            "the model has no site to compare with the data: expected one pyro.deterministic, Delta or observed "
            f"reparameterized site, found {others}. Add pyro.deterministic('x', ...) or name one with site='x'."
        )
    raise ValueError(
        f"the model has several sites to compare with the data: {', '.join(map(repr, candidates))}. "
        f"Choose with site={candidates[0]!r}."
    )
