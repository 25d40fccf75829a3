"""What can be asked of an inference: draws, the log ratio, and an export; no answer changes what is trained later."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pyro
import torch
from torch import Tensor

from pyro_gan.export import to_inference_data
from pyro_gan.losses import Loss
from pyro_gan.players.batch import Batch, as_batch, number_of_rows, too_large
from pyro_gan.players.calls import Arguments
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.replicates import Replicates, draw_replicates
from pyro_gan.training.record import log_mean_exp

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import DataTree

NUM_ROWS_FOR_CONSTANT = 10_000


class Asked(Protocol):
    """What the answers need of an inference."""

    model: ImplicitModel
    discriminator: Discriminator
    loss: Loss
    device: torch.device
    latent_sites: tuple[str, ...]
    history: dict[str, list[Any]]
    num_steps_taken: int
    discriminator_steps: int

    def meet_after_load(self, rows: Any) -> None:
        """Where a state tells of conditions, look at rows that are a minibatch."""

    def judged_names(self) -> tuple[str, ...]:
        """The names of the compared sites and of the conditions, in order."""

    def fitting(self, values: Mapping[str, Any], num_rows: int) -> dict[str, Tensor]:
        """The conditions among values by name, in the form of training."""

    def as_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a run of the model draws, with a row of each site for each row of data."""

    def model_rows(self, num_rows: int) -> dict[str, Tensor]:
        """Fresh fake rows of the compared sites."""

    def draws_to_export(
        self, batch: Batch, arguments: Arguments, replicates: Replicates, num_draws: int
    ) -> dict[str, dict[str, Tensor] | None]:
        """The groups of draws for ArviZ by name."""


def draw_rows(inference: Asked, arguments: Arguments, num_samples: int) -> dict[str, Tensor]:
    """Rows of the compared sites, of as many runs of the model as it takes.

    Args:
        inference: The inference.
        arguments: How the model is called.
        num_samples: The number of rows.

    Returns:
        The rows by site, each with shape `(num_samples, *event_shape)`.

    Raises:
        ValueError: The model draws no rows.
    """
    parts: list[dict[str, Tensor]] = []
    missing = num_samples
    with torch.no_grad(), kept_buffers():
        while missing > 0:
            values = inference.as_rows(inference.model.draw(arguments).values)
            num_rows = min(len(value) if value.dim() else 0 for value in values.values())
            if not num_rows:
                raise ValueError("the model draws no rows. Draw them in a plate with at least one row.")
            parts.append({name: value[:missing] for name, value in values.items()})
            missing -= num_rows
    return {name: torch.cat([part[name] for part in parts]).detach() for name in parts[0]}


def log_ratio(inference: Asked, x: Any) -> Tensor:
    """The discriminator's estimate of the log density ratio of rows, with its constant fixed.

    Raises:
        ValueError: The loss implies no ratio.
    """
    loss, discriminator = inference.loss, inference.discriminator
    if not loss.implies_log_ratio:
        loss.log_ratio(torch.zeros(()))  # it raises the error that says why
    inference.meet_after_load(x)
    values = as_batch(x, inference.device)
    rows = _by_name(values, inference.judged_names())
    rows |= inference.fitting(rows, number_of_rows(values))
    precision = next((leaf.dtype for leaf in discriminator.parameters.values()), torch.get_default_dtype())
    if large := too_large(rows, precision):
        raise ValueError(f"{large}.")
    rows = {site: value.to(precision) if value.is_floating_point() else value for site, value in rows.items()}
    with torch.no_grad(), kept_buffers():
        part = discriminator.part_for(rows)
        ratio = loss.log_ratio(part(rows))
        return ratio - _log_mean_ratio(inference, part, rows) if loss.leaves_constant_open else ratio


def _by_name(values: Batch, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Rows by the names of sites and conditions, in the order of these where all have one."""
    if isinstance(values, dict):
        known = [name for name in names if name in values]
        return {name: values[name] for name in (known if len(known) == len(values) else values)}
    return {"x": values[0]} if len(values) == 1 else dict(zip(names, values, strict=False))


def _log_mean_ratio(inference: Asked, part: Discriminator, names: Iterable[str]) -> Tensor:
    """The log of the ratio's mean over rows of the model, which is 0 for a ratio of densities.

    Args:
        inference: The inference.
        part: The discriminator that is asked.
        names: What it is called with, where it is one of several.
    """
    with kept_random_state(inference.device):
        pyro.set_rng_seed(0)  # the same rows at each call
        rows = inference.model_rows(NUM_ROWS_FOR_CONSTANT)
    seen = rows if part is inference.discriminator else {name: rows[name] for name in names}
    return log_mean_exp(inference.loss.log_ratio(part(seen)))


def export(inference: Asked, batch: Batch, num_draws: int) -> "InferenceData | DataTree":
    """Data, draws of the model as it stands, and the training history, in ArviZ's container.

    Args:
        inference: The inference.
        batch: The data.
        num_draws: The number of replicated data sets.
    """
    arguments = inference.model.calls.arguments(batch)
    with torch.no_grad(), kept_buffers():
        replicates = draw_replicates(inference.model, arguments, num_draws)
        groups = inference.draws_to_export(batch, arguments, replicates, num_draws)
    observed = inference.model.calls.real(replicates.last, arguments, batch, inference.latent_sites)
    constant = {
        name: value
        for name, value in inference.model.calls.named_arguments(arguments).items()
        if isinstance(value, Tensor) and not any(value is rows for rows in replicates.last.observed.values())
    }
    plates = next(iter(replicates.dims[site] for site in observed))
    return to_inference_data(
        **groups,
        observed_data=observed,
        constant_data=constant or None,
        history=inference.history,
        dims={**replicates.dims, **dict.fromkeys(constant, plates[:1])},
        seed=torch.initial_seed(),
        settings={
            "algorithm": type(inference).__name__,
            "loss": type(inference.loss).__name__,
            "discriminator_steps": inference.discriminator_steps,
            "num_steps_taken": inference.num_steps_taken,
            "device": str(inference.device),
        },
    )
