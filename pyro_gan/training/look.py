"""The look before the first step: everything is tried on one minibatch, and what can not work is refused."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.penalties import Penalty, SitePenalty
from pyro_gan.players.batch import Batch
from pyro_gan.players.discriminator import check_logits
from pyro_gan.players.first_look import builds_itself_later, kept_random_state
from pyro_gan.players.graph import saturates
from pyro_gan.training.cautions import caution, warn_of_ignored
from pyro_gan.training.distributed import joined
from pyro_gan.training.samples import Samples
from pyro_gan.training.step import Game, Step
from pyro_gan.training.units import warn_of_offset, warn_of_units

MoreRows = Callable[[], Batch | None]
"""Gives rows from all over the data, or of minibatches to come, or `None` where there are none."""


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
    more = more_rows(many) if unbuilt else None
    with game.looking():
        of_many = drawn_for(game, more)
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
        with discriminator.creating:
            first = samples_to_build_by(step, of_many, samples) if unbuilt and many is not None else of_many or samples
            discriminator.set_up(first_rows(game, first), dict(game.supports()))
            game.relate(unbuilt, first)
        discriminator(real)
        check_logits(discriminator(fake))
        for given in game.penalties:
            if isinstance(given, SitePenalty):
                discriminator.check_differentiable_twice(type(given).__name__)
        for part, select in discriminator.parts():
            part.both(select(real), select(fake))  # it finds out whether they can be judged in one call
        game.selection.check(game.met_parameters())
        drawn = [rows for rows in samples.fake.values() if rows.requires_grad]
        game.players()["model"].saturates = bool(drawn) and all(map(saturates, drawn))
        step.meet()
        for part, select in discriminator.parts():
            caution(part, game.penalties, select(game.typical_rows(real, fake)))
            if game.optim_d.is_default:
                warn_of_offset(part, select(real))
    for player in game.players().values():
        player.settle()


def more_rows(many: MoreRows | None) -> Batch | None:
    """More rows than a minibatch has, where there are; random minibatches to come have drawn their numbers then."""
    with suppress(Exception):  # whatever is wrong, the minibatches themselves will show it, or not
        return None if many is None else many()
    return None


def drawn_for(game: Unmet, rows: Batch | None) -> Samples | None:
    """Samples for more rows than a minibatch has.

    A model that can only draw so many rows as a minibatch has, or always as many, is asked for no others.
    """
    if rows is None:
        return None
    try:
        with kept_random_state(game.device), torch.no_grad():
            samples = game.draw(rows)
            samples.check(rows)
    except Exception:  # whatever the model finds wrong, a minibatch of the usual size will show it, or not
        return None
    numbers = {len(values) for sample in (samples.real, samples.fake) for values in sample.values()}
    return samples if len(numbers) == 1 else None


def samples_to_build_by(step: Step, of_many: Samples | None, own: Samples) -> Samples:
    """Samples by which networks build themselves before a step, which all processes take.

    Args:
        step: The step.
        of_many: Samples for more rows, where the model could draw them.
        own: Those of the minibatch; of all processes' where any model could draw no others.
    """
    processes = None if step.together is None else step.together.processes
    if processes is None or not processes.greatest(of_many is None)[0]:
        return of_many or own
    real, fake = (joined(processes, {site: rows.detach() for site, rows in sample.items()}) for sample in own[:2])
    return own._replace(real=cast(dict[str, Tensor], real), fake=cast(dict[str, Tensor], fake))


def first_rows(game: Unmet, samples: Samples) -> dict[str, Tensor]:
    """The rows of samples by which a discriminator standardizes the sites, without a graph."""
    real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
    return game.typical_rows(real, fake)
