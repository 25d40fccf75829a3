"""Implicit models: Pyro models that are only ever sampled.

An :class:`ImplicitModel` runs the user's model forward under one light effect handler
(:class:`~pyro_gan.players.handler.Draw`), which keeps the values of the compared sites and the parameters that were
used.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_gan.checks import listed, shown
from pyro_gan.players.calls import Arguments, Calls, copied
from pyro_gan.players.exclusive import process_wide
from pyro_gan.players.first_look import dropped_parameters
from pyro_gan.players.handler import Draw, Site
from pyro_gan.players.player import Player, are_written


class _Undone(Exception):
    """Ends a look that is to leave nothing known of what it saw."""


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
        ValueError: `site` has a name twice.
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
            raise TypeError(f"{role} must be a Pyro model, a callable, but is {shown(model)} ({type(model).__name__}).")
        sites = (site,) if isinstance(site, str) else site
        if sites is not None and (
            not isinstance(sites, list | tuple) or not sites or not all(isinstance(name, str) for name in sites)
        ):
            raise TypeError(f"site must be a site's name or a list of names, but is {site!r}.")
        twice = [name for number, name in enumerate(sites or ()) if name in (sites or ())[:number]]
        if twice:
            raise ValueError(f"site names {twice[0]!r} twice. Name each site once.")
        super().__init__(model, device, move)
        self.role = role
        self.sites = None if sites is None else tuple(sites)
        self.calls = Calls(model, role, self.sites or (), self.takes_conditions if role == "model" else None)
        self.found: dict[str, Site] = {}
        self._plain: dict[str, Tensor] = {}

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
        # Checking the arguments of distributions takes time, and waits for a device; the first run has checked them.
        with self.creating, pyro.distributions.validation_enabled(False):
            given = copied(arguments) if self.writes_in_place else arguments
            draw = self._run(Draw(self.sites, self._meet, scored, self._plain), given)
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
            draw, given = Draw(self.sites, self._meet, looks=True), copied(arguments)
            try:
                self._run(draw, given)
            except (TypeError, RuntimeError, AttributeError, LookupError) as error:
                error.add_note(self._told(error, given))
                raise
            for name in self.sites or ():
                if name not in draw.found:
                    there = ", ".join(map(repr, draw.found)) or "none"
                    raise ValueError(
                        f"site={name!r} is not a site of the {self.role}; it has {there}. Name one of them."
                    )
        self.found = draw.found
        self.writes_in_place = are_written((*given.args, *given.kwargs.values()))

    def _told(self, error: Exception, arguments: Arguments) -> str:
        """What the model was called with when it failed, and what may have been wrong with that."""
        if isinstance(error, RuntimeError) and "dtype" in str(error):
            return (
                f"The {self.role} was given data of another floating-point type than its parameters have. "
                "Convert them with transform=, for example transform=lambda x, c: (x.float(), c.float())."
            )
        named = (f"{name}={_of_argument(value)}" for name, value in arguments.kwargs.items())
        given = ", ".join([*map(_of_argument, arguments.args), *named]) or "no argument"
        is_told = "batch_size" in arguments.kwargs
        return f"The {self.role} was called with {given}." + (
            "" if is_told else " An argument that is named batch_size would be given the number of rows."
        )

    def takes_conditions(self, data: Arguments, conditions: Arguments) -> bool:
        """Whether the model takes what lies behind the real rows of a minibatch, and not the rows themselves.

        A model that observes the rows, or names an argument as it names them, takes the rows.

        Args:
            data: How it would be called with the rows.
            conditions: How it would be called with what lies behind them.
        """
        try:
            with dropped_parameters():
                sites = self.response(conditions)[0]
        except Exception:  # an error that is told where the model is called as ever
            return not self._runs(data)
        is_named = bool(set(self.calls.named_arguments(data)) & set(sites))
        return not is_named and not any(site.is_observed for site in sites.values())

    def _runs(self, arguments: Arguments) -> bool:
        """Whether the model can be called so; it leaves no effect."""
        try:
            with dropped_parameters():
                self.response(arguments)
        except Exception:  # whatever a model does with rows that it does not expect
            return False
        return True

    def response(self, arguments: Arguments) -> tuple[dict[str, Site], list[Tensor]]:
        """What a run draws from the present random state, and how it depends on the parameters; it changes nothing.

        Args:
            arguments: How the model is called.

        Returns:
            The candidates among its sites, or those that are compared, and their values and gradients.
        """
        with suppress(_Undone), self.look(), torch.enable_grad():
            draw = self._run(Draw(self.sites, self._meet, looks=True), copied(arguments))
            values = list(draw.values.values())
            weighed = [
                (value * torch.linspace(1.0, 2.0, value.numel(), device=value.device).reshape(value.shape)).sum()
                for value in values
                if value.requires_grad
            ]
            leaves = list(draw.parameters.values())
            gradients = (
                torch.autograd.grad(torch.stack(weighed).sum(), leaves, allow_unused=True, materialize_grads=True)
                if weighed and leaves
                else ()
            )
            raise _Undone
        return {name: draw.found[name] for name in draw.values}, [value.detach() for value in (*values, *gradients)]

    def _run(self, draw: Draw, arguments: Arguments) -> Draw:
        with process_wide, draw:
            self.function(*arguments.args, **arguments.kwargs)
        return draw

    def state_dict(self) -> dict[str, Any]:
        """As of every player, and the compared sites."""
        return {**super().state_dict(), "sites": list(self.sites or ())}

    def names_in_state(self) -> set[str]:
        return super().names_in_state() | {"sites"}

    def read(self, state: dict[str, Any]) -> None:
        super().read(state)
        if not all(isinstance(site, str) for site in state["sites"]):
            raise TypeError("compared sites are names")

    def check_state_dict(self, state: dict[str, Any]) -> None:
        super().check_state_dict(state)
        theirs = tuple(state["sites"])
        if self.sites is not None and theirs and set(self.sites) != set(theirs):
            raise ValueError(
                f"the state is that of a {self.role} whose compared sites are {listed(theirs)}, but this one's are "
                f"{listed(self.sites)}. Load it into an inference that compares the same."
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sites = self.sites or tuple(state["sites"]) or None

    def cleared(self) -> list[str]:
        """The names of parameters that have been met, but that Pyro's store has no longer, or has others for."""
        stored = pyro.get_param_store()._params
        return [name for name, leaf in self.parameters.items() if stored.get(name) is not leaf]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "found": {}, "_plain": {}}

    def _meet(self, name: str, leaf: Tensor) -> Tensor | None:
        """Take note of a parameter; at its first sight it may move or take a loaded value, which is then returned."""
        if self.parameters.get(name) is leaf or not self.fill(name, leaf):
            return None
        return pyro.get_param_store()[name]


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
        f"the model has several sites to compare with the data: {listed(candidates)}. "
        f"Choose with site={candidates[0]!r}."
    )


def _of_argument(value: Any) -> str:
    return f"a tensor with shape {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else shown(value)
