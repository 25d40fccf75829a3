"""Drawing simulations of a model: many rows a run, where it draws rows, or one."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger, unwrap
from torch import Tensor

from pyro_gan.checks import listed, shown
from pyro_gan.players.batch import valid_rows
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.players.handler import is_random_variable

NUM_LOOKED_AT = 2
"""The rows of the run that shows what a model draws."""

NUM_LOOKS = 10
"""How many runs may fail before one has to show it, where failures are to be left out."""


class Shard(NamedTuple):
    """Some of the simulations, drawn from one seed."""

    number: int
    seed: int
    valid: dict[str, Tensor]
    """By site the rows of simulations that are finite, each with shape `(num_rows, *event_shape)`."""
    failed: dict[str, Tensor]
    """Those of simulations that hold NaN or infinity."""
    num_raised: int = 0
    """How many others raised an error."""
    error: str = ""
    """The first of these."""


class Simulator:
    """A model that is drawn from, and what a run of it draws.

    Args:
        model: A Pyro model. A parameter named `batch_size` is given the number of rows wanted.
        sites: The sites to keep; `None` keeps all random variables that are not auxiliary.
        seed: The seed of the look.
        may_fail: Whether runs may raise.

    Raises:
        TypeError: The model is not callable, or takes other arguments.
        ValueError: It draws none of the sites, or not a row of each for each row that is wanted.
    """

    def __init__(
        self, model: Callable[..., Any], sites: Collection[str] | None, seed: int = 0, may_fail: bool = False
    ) -> None:
        self.model = model
        self.sites = None if sites is None else tuple(sites)
        self.takes_number = _takes_number(model)
        recorded = self._look(seed, NUM_LOOKS if may_fail else 1)
        self.sites = self._found(recorded)
        self.draws_rows = self.takes_number or _are_in_one_plate(recorded, self.sites)
        self.first = {site: recorded[site]["value"].detach().cpu() for site in self.sites}
        """What the look drew."""
        if self.takes_number:
            self._check_rows(self.first, NUM_LOOKED_AT)

    def draw(self, number: int, num_rows: int, seed: int, may_fail: bool) -> Shard:
        """Draw a shard; random states, statistics and the number of threads are put back.

        Args:
            number: The number of the shard.
            num_rows: How many simulations it has.
            seed: From which they are drawn.
            may_fail: Whether runs may raise.
        """
        with _alone():
            pyro.set_rng_seed(seed)
            try:
                rows, errors = (self._rows(num_rows), []) if self.draws_rows else self._one_by_one(num_rows, may_fail)
            except Exception as error:
                if not may_fail or not self.draws_rows:
                    error.add_note(
                        f"This was a simulation of shard {number}, from seed {seed}. With invalid='exclude' those that "
                        "fail are left out and counted."
                    )
                    raise
                rows, errors = self._again(num_rows, error)
        valid = valid_rows(rows) if rows else None
        if valid is None:
            return Shard(number, seed, rows, {}, *_told(errors))
        failed = {site: values[~valid] for site, values in rows.items()}
        return Shard(number, seed, {site: values[valid] for site, values in rows.items()}, failed, *_told(errors))

    def _again(self, num_rows: int, error: Exception) -> tuple[dict[str, Tensor], list[Exception]]:
        """Draw row by row where a run of many has raised, which does not tell whose fault it was.

        At least one row counts as failed: had none of them, the run would not have.
        """
        if not self.takes_number:  # a run always draws so many
            return {}, [error] * num_rows
        rows, errors = self._one_by_one(num_rows, may_fail=True)
        if not errors:
            rows, errors = {site: values[:-1] for site, values in rows.items()}, [error]
        return rows, errors

    def _rows(self, num_rows: int) -> dict[str, Tensor]:
        """So many rows, from as many runs as that takes."""
        parts, missing = list[dict[str, Tensor]](), num_rows
        while missing > 0:
            values = self._values(self._run(missing))
            if self.takes_number:
                self._check_rows(values, missing)
            parts.append({site: rows[:missing] for site, rows in values.items()})
            missing -= len(next(iter(values.values())))
        return {site: torch.cat([part[site] for part in parts]) for site in parts[0]} if len(parts) > 1 else parts[0]

    def _one_by_one(self, num_rows: int, may_fail: bool) -> tuple[dict[str, Tensor], list[Exception]]:
        """Rows from a run each, and the errors of those that raised."""
        draws, errors = list[dict[str, Tensor]](), list[Exception]()
        for _ in range(num_rows):
            try:
                draws.append(self._values(self._run(1)))
            except Exception as error:
                if not may_fail:
                    raise
                errors.append(error)
        if not draws:
            return {}, errors
        if self.draws_rows:
            return {site: torch.cat([draw[site] for draw in draws]) for site in draws[0]}, errors
        for site, first in self.first.items():
            if other := [draw[site].shape for draw in draws if draw[site].shape != first.shape]:
                raise ValueError(
                    f"site {site!r} has shape {tuple(first.shape)} in one run of the model and {tuple(other[0])} in "
                    "another, but simulations must be alike to be rows of an array. Fill them up to one shape, with a "
                    "mask of what is there as a site of its own."
                )
        return {site: torch.stack([draw[site] for draw in draws]) for site in draws[0]}, errors

    def _run(self, num_rows: int) -> dict[str, Any]:
        """The random variables of one run by name, observed ones drawn afresh."""
        arguments = {"batch_size": num_rows} if self.takes_number else {}
        with pyro.distributions.validation_enabled(False), poutine.trace() as recorded, _DrawnAfresh():
            self.model(**arguments)
        return {
            name: node
            for name, node in recorded.trace.nodes.items()
            if node["type"] == "sample" and is_random_variable(node)
        }

    def _values(self, recorded: dict[str, Any]) -> dict[str, Tensor]:
        for site in self.sites or ():
            if site not in recorded:
                raise ValueError(f"site {site!r} is missing from this run of the model. Draw it in every run.")
        return {site: recorded[site]["value"].detach().cpu() for site in self.sites or ()}

    def _look(self, seed: int, attempts: int) -> dict[str, Any]:
        """What a run draws; where runs may fail, the first that does not shows it."""
        with _alone():
            pyro.set_rng_seed(seed)
            for _ in range(attempts - 1):
                with suppress(Exception):
                    return self._run(NUM_LOOKED_AT)
            return self._run(NUM_LOOKED_AT)

    def _found(self, recorded: dict[str, Any]) -> tuple[str, ...]:
        if self.sites is None:
            if not recorded:
                raise ValueError("the model draws nothing to keep. Give it pyro.sample or pyro.deterministic sites.")
            return tuple(recorded)
        if missing := [site for site in self.sites if site not in recorded]:
            raise ValueError(
                f"sites names {missing[0]!r}, which the model does not draw; it has {listed(recorded)}. Name its own."
            )
        return self.sites

    def _check_rows(self, values: dict[str, Tensor], num_rows: int) -> None:
        for site, rows in values.items():
            if not rows.dim() or len(rows) != num_rows:
                raise ValueError(
                    f"site {site!r} has shape {tuple(rows.shape)} where the model was called with "
                    f"batch_size={num_rows}: each site needs a row for each simulation. Draw it in the plate of rows, "
                    "name the others with sites=[...], or leave batch_size out, so that each run is one simulation."
                )


class _DrawnAfresh(Messenger):
    """Draws observed sites. What is computed stays: it has its observation from the model."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not msg["infer"].get("_deterministic") and is_random_variable(msg):
            msg["value"], msg["is_observed"] = None, False


def _takes_number(model: Callable[..., Any]) -> bool:
    """Whether a model is told the number of rows.

    Raises:
        TypeError: It is not callable, or can not be called with that alone.
    """
    if not callable(model):
        raise TypeError(f"model must be a Pyro model, a callable, but is {shown(model)} ({type(model).__name__}).")
    try:
        function: Any = unwrap(model)
        parameters = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else model).parameters
    except (TypeError, ValueError):
        return False
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable and name != "batch_size"
    ]
    if needed:
        raise TypeError(
            f"the model takes {listed(needed)}, but simulations are drawn without data. Give arguments a value, as "
            f"functools.partial(model, {needed[0]}=...) does."
        )
    return "batch_size" in parameters


def _are_in_one_plate(recorded: dict[str, Any], sites: Collection[str]) -> bool:
    """Whether all sites have the rows of one plate first, so that a run draws as many simulations."""
    nodes = [recorded[site] for site in sites]
    plates = [{frame for frame in node["cond_indep_stack"] if frame.vectorized} for node in nodes]
    sizes = {tuple(node["value"].shape[:1]) for node in nodes}
    return any(sizes == {(frame.size,)} for frame in set.intersection(*plates))


def _told(errors: list[Exception]) -> tuple[int, str]:
    return len(errors), f"{type(errors[0]).__name__}: {shown(str(errors[0]))}" if errors else ""


@contextmanager
def _alone() -> Iterator[None]:
    """A context that leaves random states and statistics as they were, and computes in one thread.

    With more of them sums are rounded otherwise, and simulations would hang on the machine.
    """
    threads = torch.get_num_threads()
    with kept_random_state(torch.device("cpu")), kept_buffers(), torch.no_grad():
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
