"""The look before the first step: everything is tried on one minibatch, and what can not work is refused."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.penalties import Penalty, SitePenalty
from pyro_gan.players.batch import Batch
from pyro_gan.players.discriminator import check_logits
from pyro_gan.players.first_look import builds_itself_later, kept_random_state
from pyro_gan.training.cautions import caution
from pyro_gan.training.samples import Samples
from pyro_gan.training.step import Game, Step
from pyro_gan.training.units import warn_of_units


class Unmet(Game, Protocol):
    """What the look needs of an inference beside what a step needs."""

    def looking(self) -> AbstractContextManager[None]:
        """A context in which a failure leaves nothing behind."""

    def typical_rows(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows by which a discriminator that builds itself may standardize the sites."""

    def supports(self) -> Mapping[str, Constraint]:
        """The supports of the compared sites."""

    def met_parameters(self) -> dict[str, Tensor]:
        """The parameters of the generator's side that have been met and could be moved."""


def look(game: Unmet, step: Step, batch: Batch, many: Batch | None) -> None:
    """Try everything on one minibatch, and make the optimizers.

    Args:
        game: The inference.
        step: Its step.
        batch: The minibatch.
        many: More rows, by which networks that build themselves standardize, where there are more.

    Raises:
        TypeError, ValueError: Something does not fit; the message says what. Nothing has changed then.
    """
    discriminator = game.discriminator
    with game.looking():
        of_many = samples_of_many(game, many)
        samples = game.draw(batch)
        samples.check(batch)
        game.draw_for_generator(batch).check_parameters()
        warn_of_units(samples)
        for given in game.penalties:
            if isinstance(given, Penalty):
                given.check(samples.real)
        real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
        discriminator.set_up(first_rows(game, of_many or samples), dict(game.supports()))
        discriminator(real)
        check_logits(discriminator(fake))
        for given in game.penalties:
            if isinstance(given, SitePenalty):
                discriminator.check_differentiable_twice(type(given).__name__)
        discriminator.both(real, fake)  # it finds out whether they can be judged in one call
        game.selection.check(game.met_parameters())
        step.meet()
        caution(discriminator, game.penalties, game.typical_rows(real, fake))
    for player in game.players().values():
        player.settle()


def samples_of_many(game: Unmet, many: Batch | None) -> Samples | None:
    """Samples of more rows than a minibatch has, where a network has still to build itself by them.

    A model that can only draw so many rows as a minibatch has is asked for no others.
    """
    if many is None or not any(builds_itself_later(player.function) for player in game.players().values()):
        return None
    try:
        with kept_random_state(game.device), torch.no_grad():
            samples = game.draw(many)
            samples.check(many)
    except Exception:  # whatever the model finds wrong, a minibatch of the usual size will show it, or not
        return None
    return samples


def first_rows(game: Unmet, samples: Samples) -> dict[str, Tensor]:
    """The rows of samples by which a discriminator standardizes the sites, without a graph."""
    real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
    return game.typical_rows(real, fake)
