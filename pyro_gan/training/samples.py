"""The two samples that an algorithm compares, and what makes them comparable."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gan.checks import listed
from pyro_gan.players.batch import Batch, too_large
from pyro_gan.players.conditions import other_rows
from pyro_gan.players.graph import leaves


class Samples(NamedTuple):
    """Rows of the same sites from two sources, each with shape `(num_rows, *event_shape)`.

    For the generator's side `fake` may be empty, where only real rows, with a guide's draws, are moved.
    """

    real: dict[str, Tensor]
    fake: dict[str, Tensor]
    parameters: dict[str, Tensor]
    """The parameters that the generator's side moves, by name: unconstrained leaves."""
    log_factor: Tensor | None = None
    """What the model adds to the objective by `pyro.factor`, a 0-dimensional tensor: the generator's loss less it."""
    places: Mapping[str, Sequence[Any]] = {}
    """By site, the names or numbers of the minibatch's elements that are its real rows as they are."""
    is_simulated: bool = False
    """Whether both samples have the same observed rows, of simulations that were made beforehand."""
    log_densities: Sequence[Tensor] = ()
    """Those of draws without a gradient, each with shape `(num_rows,)`, by which their parameters learn."""
    given: Sequence[str] = ()
    """The names of what both samples have alike beside the compared sites: masks and conditions."""
    conditions: Sequence[str] = ()
    """Those of them that are conditions."""
    scales: Mapping[str, Any] = {}
    """By site, how much the model weighs its rows, as by `poutine.scale`, where an objective heeds it."""

    def mismatched(self) -> dict[str, Tensor]:
        """The real rows, each with the conditions of the next row that has other ones, without a graph.

        Raises:
            ValueError: There are no conditions.
        """
        if not self.conditions:
            raise ValueError(
                "matching_aware=True needs samples with conditions, but these have none. Have draw(batch) return "
                "self.with_given(samples, batch)."
            )
        conditions = {name: self.real[name].detach() for name in self.conditions}
        others = other_rows(conditions)
        rows = {site: values.detach() for site, values in self.real.items()}
        return {**rows, **{name: values[others] for name, values in conditions.items()}}

    def check(self, batch: Batch) -> None:
        """Refuse samples that can not be compared.

        Args:
            batch: The minibatch that they were drawn for.

        Raises:
            ValueError: Event shapes differ; integer data face real draws; or a value is NaN or infinite.
        """
        self.check_alike()
        for site in self.fake:
            for source, rows in ("data", self.real[site]), ("model's draws", self.fake[site]):
                if not torch.isfinite(rows).all():
                    if source == "data" and (large := too_large(batch, rows.dtype)) is not None:
                        raise ValueError(f"{large}.")
                    source = "guide's draws" if rows.requires_grad and source == "data" else source
                    raise ValueError(f"the {source} hold NaN or infinity at site {site!r}. Check them before training.")

    def check_alike(self) -> None:
        """Refuse samples of different event shapes or kinds of numbers; this reads no value.

        Raises:
            ValueError: They differ, or the model draws none; the message has the site.
        """
        for site, fake in self.fake.items():
            real = self.real[site]
            if fake.dim() == 0 or real.shape[1:] != fake.shape[1:]:
                raise ValueError(
                    f"real and fake rows differ at site {site!r}: the {_source(real)} have shape {_show(real)}, "
                    f"the model's {_show(fake)}. Both must be (num_rows, *event_shape) with the same event shape; "
                    "draw the model's rows in a pyro.plate."
                )
            if not len(fake):
                raise ValueError(
                    f"the model draws no rows at site {site!r}. Draw them in a plate with at least one row."
                )
            if fake.is_floating_point() and not real.is_floating_point():
                raise ValueError(
                    f"the data at site {site!r} are of type {real.dtype}, but the model draws {fake.dtype}. "
                    "Convert them with transform=, for example transform=lambda x: x / 255."
                )

    def strangers(self) -> list[Tensor]:
        """The leaves that the draws depend on, but that are no registered parameters."""
        known = {id(parameter) for parameter in self.parameters.values()}
        return [leaf for leaf in self._reached() if id(leaf) not in known]

    def _reached(self) -> list[Tensor]:
        """The leaves that the draws depend on, each once."""
        values = (*self.fake.values(), *self.real.values(), *self.log_densities)
        found = [leaf for value in values for leaf in leaves(value)]
        return list({id(leaf): leaf for leaf in found}.values())

    def check_parameters(self) -> None:
        """Refuse samples that can not be learned from.

        Raises:
            ValueError: The model has no parameters, its draws carry no gradient to them, or they depend on networks
                that are not registered.
        """
        if not self.parameters:
            raise ValueError(
                "the model has no parameters to train: it registers none with Pyro that require a gradient. "
                "Register its networks with pyro.module('generator', generator) and its numbers with pyro.param."
            )
        site, reached, strangers = next(iter(self.real)), self._reached(), self.strangers()
        if len(strangers) == len(reached):
            raise ValueError(
                f"site {site!r} carries no gradient to any parameter of the model "
                f"({listed(self.parameters)}). Compute it from them, with reparameterized distributions; "
                "where an earlier model used the same names, call pyro.clear_param_store() first."
            )
        if strangers:
            raise ValueError(
                f"site {site!r} depends on tensors that require a gradient but are not registered with Pyro, of shapes "
                f"{', '.join(str(tuple(leaf.shape)) for leaf in strangers)}: they would not be trained. Register their "
                "network with pyro.module, or freeze it with requires_grad_(False); where an earlier model used the "
                "same names, call pyro.clear_param_store() first."
            )


def _source(real: Tensor) -> str:
    return "guide's" if real.requires_grad else "data's"


def _show(rows: Tensor) -> str:
    return "()" if rows.dim() == 0 else f"({len(rows)} rows, event shape {tuple(rows.shape[1:])})"
