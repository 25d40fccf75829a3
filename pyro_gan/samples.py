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
                parameters, or its draws carry no gradient to them.
        """
        for site in self.fake:
            _check_site(site, self.real[site], self.fake[site])
        if not self.parameters:
            raise ValueError(
                "the model has no parameters to train: it registers none with Pyro that require a gradient. "
                "Register its networks with pyro.module('generator', generator) and its numbers with pyro.param."
            )
        reached = {id(leaf) for value in self.fake.values() for leaf in leaves(value)}
        if not any(id(parameter) in reached for parameter in self.parameters.values()):
            raise ValueError(
                f"site {next(iter(self.fake))!r} carries no gradient to any parameter of the model "
                f"({', '.join(map(repr, self.parameters))}). Compute it from them, with reparameterized distributions; "
                "where an earlier model used the same names, call pyro.clear_param_store() first."
            )


def _check_site(site: str, real: Tensor, fake: Tensor) -> None:
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
    for source, rows in ("data", real), ("model's draws", fake):
        if not torch.isfinite(rows).all():
            raise ValueError(f"the {source} hold NaN or infinity at site {site!r}. Check them before the first step.")


def _show(rows: Tensor) -> str:
    return "()" if rows.dim() == 0 else f"({len(rows)} rows, event shape {tuple(rows.shape[1:])})"
