"""The two samples that an algorithm compares, and what makes them comparable."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gan.discriminator import leaves


class Samples(NamedTuple):
    """Rows of the same sites from two sources, each with shape `(num_rows, *event_shape)`."""

    real: dict[str, Tensor]
    fake: dict[str, Tensor]
    parameters: dict[str, Tensor]
    """The parameters that the generator's side moves, by name: unconstrained leaves."""

    def check(self) -> None:
        """Refuse samples that can not be compared or learned from.

        Raises:
            ValueError: Event shapes differ; integer data face real draws; a value is NaN or infinite; the model has no
                parameters, its draws carry no gradient to them, or they depend on networks that are not registered.
        """
        self.check_alike()
        for site in self.fake:
            for source, rows in ("data", self.real[site]), ("model's draws", self.fake[site]):
                if not torch.isfinite(rows).all():
                    raise ValueError(f"the {source} hold NaN or infinity at site {site!r}. Check them before training.")
        self._check_parameters()

    def check_alike(self) -> None:
        """Refuse samples of different event shapes or kinds of numbers; this reads no value.

        Raises:
            ValueError: They differ; the message has the site and both.
        """
        for site, fake in self.fake.items():
            real = self.real[site]
            if fake.dim() == 0 or real.shape[1:] != fake.shape[1:]:
                raise ValueError(
                    f"real and fake rows differ at site {site!r}: the data's have shape {_show(real)}, "
                    f"the model's {_show(fake)}. Both must be (num_rows, *event_shape) with the same event shape; "
                    "draw the model's rows in a pyro.plate."
                )
            if fake.is_floating_point() and not real.is_floating_point():
                raise ValueError(
                    f"the data at site {site!r} are of type {real.dtype}, but the model draws {fake.dtype}. "
                    "Convert them with transform=, for example transform=lambda x: x / 255."
                )

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise ValueError(
                "the model has no parameters to train: it registers none with Pyro that require a gradient. "
                "Register its networks with pyro.module('generator', generator) and its numbers with pyro.param."
            )
        site, known = next(iter(self.fake)), {id(parameter) for parameter in self.parameters.values()}
        reached = [leaf for value in self.fake.values() for leaf in leaves(value)]
        strangers = {id(leaf): tuple(leaf.shape) for leaf in reached if id(leaf) not in known}
        if len(strangers) == len({id(leaf) for leaf in reached}):
            raise ValueError(
                f"site {site!r} carries no gradient to any parameter of the model "
                f"({', '.join(map(repr, self.parameters))}). Compute it from them, with reparameterized distributions; "
                "where an earlier model used the same names, call pyro.clear_param_store() first."
            )
        if strangers:
            raise ValueError(
                f"site {site!r} depends on tensors that require a gradient but are not registered with Pyro, of shapes "
                f"{', '.join(map(str, strangers.values()))}: they would not be trained. Register their network with "
                "pyro.module, or freeze it with requires_grad_(False); where an earlier model used the same names, "
                "call pyro.clear_param_store() first."
            )


def _show(rows: Tensor) -> str:
    return "()" if rows.dim() == 0 else f"({len(rows)} rows, event shape {tuple(rows.shape[1:])})"
