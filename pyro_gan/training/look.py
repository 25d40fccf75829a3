"""The look before the first step: everything is tried on one minibatch, and what can not work is refused."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.penalties import Penalty, SitePenalty
from pyro_gan.players.batch import Batch
from pyro_gan.players.discriminator import check_logits
from pyro_gan.training.cautions import caution
from pyro_gan.training.step import Game, Step


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


def look(game: Unmet, step: Step, batch: Batch) -> None:
    """Try everything on one minibatch, and make the optimizers.

    Args:
        game: The inference.
        step: Its step.
        batch: The minibatch.

    Raises:
        TypeError, ValueError: Something does not fit; the message says what. Nothing has changed then.
    """
    discriminator = game.discriminator
    with game.looking():
        samples = game.draw(batch)
        samples.check(batch)
        game.draw_for_generator(batch).check_parameters()
        for given in game.penalties:
            if isinstance(given, Penalty):
                given.check(samples.real)
        real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
        discriminator.set_up(game.typical_rows(real, fake), dict(game.supports()))
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
