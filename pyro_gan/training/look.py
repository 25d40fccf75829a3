"""The look before the first step: everything is tried on one minibatch, and what can not work is refused."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.penalties import Penalty, SitePenalty
from pyro_gan.players.batch import Batch
from pyro_gan.players.discriminator import check_logits
from pyro_gan.players.first_look import builds_itself_later, kept_random_state
from pyro_gan.training.cautions import caution, warn_of_ignored
from pyro_gan.training.samples import Samples
from pyro_gan.training.step import Game, Step
from pyro_gan.training.units import warn_of_units

MoreRows = Callable[[], Batch | None]
"""Gives rows from all over the data, or `None` where there are none at hand."""


class Unmet(Game, Protocol):
    """What the look needs of an inference beside what a step needs."""

    def looking(self) -> AbstractContextManager[None]:
        """A context in which a failure leaves nothing behind."""

    def typical_rows(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows by which a discriminator that builds itself may standardize the sites."""

    def supports(self) -> Mapping[str, Constraint]:
        """The supports of the compared sites."""

    def relate(self, functions: Mapping[str, Any], samples: Samples) -> None:
        """Have networks that have just built themselves relate latents to observations, where the game does so."""

    def check_judged(self) -> None:
        """Refuse sites to compare that no discriminator sees."""

    def ignored_conditions(self, batch: Batch) -> list[str]:
        """The names of conditions on which none of the model's draws depends."""

    def met_parameters(self) -> dict[str, Tensor]:
        """The parameters of the generator's side that have been met and could be moved."""


def look(game: Unmet, step: Step, batch: Batch, many: MoreRows | None) -> None:
    """Try everything on one minibatch, and make the optimizers.

    Args:
        game: The inference.
        step: Its step.
        batch: The minibatch.
        many: Gives more rows, by which networks that build themselves standardize, where there are more.

    Raises:
        TypeError, ValueError: Something does not fit; the message says what. Nothing has changed then.
    """
    discriminator = game.discriminator
    unbuilt = {name: one.function for name, one in game.players().items() if builds_itself_later(one.function)}
    with game.looking():
        of_many = samples_of_many(game, many)
        samples = game.draw(batch)
        samples.check(batch)
        for each in game.samples_for_generator(batch):
            each.check_parameters()
        warn_of_units(samples)
        game.check_judged()
        warn_of_ignored(game.ignored_conditions(batch))
        for given in game.penalties:
            if isinstance(given, Penalty):
                given.check(samples.real)
        real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
        discriminator.set_up(first_rows(game, of_many or samples), dict(game.supports()))
        game.relate(unbuilt, of_many or samples)
        discriminator(real)
        check_logits(discriminator(fake))
        for given in game.penalties:
            if isinstance(given, SitePenalty):
                discriminator.check_differentiable_twice(type(given).__name__)
        for part, select in discriminator.parts():
            part.both(select(real), select(fake))  # it finds out whether they can be judged in one call
        game.selection.check(game.met_parameters())
        step.meet()
        for part, select in discriminator.parts():
            caution(part, game.penalties, select(game.typical_rows(real, fake)))
    for player in game.players().values():
        player.settle()


def samples_of_many(game: Unmet, many: MoreRows | None) -> Samples | None:
    """Samples of more rows than a minibatch has, where a network has still to build itself by them."""
    if not any(builds_itself_later(player.function) for player in game.players().values()):
        return None
    found = drawn_for_many(game, many)
    return None if found is None else found[1]


def drawn_for_many(game: Unmet, many: MoreRows | None) -> tuple[Batch, Samples] | None:
    """More rows than a minibatch has, and samples for them.

    A model that can only draw so many rows as a minibatch has, or always as many, is asked for no others.
    """
    try:
        with kept_random_state(game.device), torch.no_grad():
            batch = None if many is None else many()
            if batch is None:
                return None
            samples = game.draw(batch)
            samples.check(batch)
    except Exception:  # whatever the model finds wrong, a minibatch of the usual size will show it, or not
        return None
    numbers = {len(rows) for sample in (samples.real, samples.fake) for rows in sample.values()}
    return (batch, samples) if len(numbers) == 1 else None


def first_rows(game: Unmet, samples: Samples) -> dict[str, Tensor]:
    """The rows of samples by which a discriminator standardizes the sites, without a graph."""
    real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
    return game.typical_rows(real, fake)
