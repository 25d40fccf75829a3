"""The only step: gradients as functions, and updates beside them.

:meth:`Step.discriminator_gradients` and :meth:`Step.generator_gradients` draw both samples, have them judged, and
return gradients and what is to be recorded. They are functions of the parameters, a minibatch and the random state, and
change nothing but batch statistics. An update gives gradients to one optimizer a player, and does what follows it:
clipping, averages, a penalty's hand in the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import add
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_gan.checks import listed
from pyro_gan.losses import Loss
from pyro_gan.penalties import Judgement, Penalty, PenaltyFunction
from pyro_gan.players.batch import Batch, number_of_rows
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import kept_buffers, kept_random_state, restore_buffer
from pyro_gan.players.graph import leaves
from pyro_gan.players.player import Player
from pyro_gan.players.selection import Selection
from pyro_gan.processes import Processes, as_one
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.divergence import Diverged, Divergence, OnDivergence, Seen, are_finite, beginning, message
from pyro_gan.training.objective import discriminator_loss
from pyro_gan.training.optimizers import PlayerOptimizer
from pyro_gan.training.reach import Reach
from pyro_gan.training.record import StepRecord
from pyro_gan.training.samples import Samples
from pyro_gan.training.zeros import without_zeros


class Game(Protocol):
    """What a step needs of an inference: two players, what they minimize, and which samples are compared."""

    loss: Loss
    penalties: tuple[PenaltyFunction, ...]
    discriminator: Discriminator
    optim: PlayerOptimizer
    optim_d: PlayerOptimizer
    selection: Selection
    average: MovingAverage | None
    share_draws: bool
    matching_aware: bool
    """Whether real rows with another row's condition are judged too, as fake."""
    num_updates: int
    """The updates of the discriminator so far, by which lazy penalties are due."""
    num_steps_taken: int
    on_divergence: OnDivergence
    device: torch.device

    def draw(self, batch: Batch) -> Samples:
        """Draw the two samples to compare."""

    def samples_for_generator(self, batch: Batch) -> list[Samples]:
        """Draw all that the generator's side descends on."""

    def generator_loss(self, samples: Samples) -> Tensor:
        """What the generator's side minimizes."""

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def generator_parameters(self) -> dict[str, Tensor]:
        """The parameters by name that the generator's optimizer moves."""


class Gradients(NamedTuple):
    """What a player is moved by, and what is to be recorded."""

    parameters: dict[str, Tensor]
    """The leaves by name."""
    values: tuple[Tensor | None, ...]
    """The gradient of each; `None` where the loss does not depend on it."""
    loss: Tensor
    """The player's loss without penalties, a detached 0-dimensional tensor."""
    penalty: Tensor | None = None
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None


class Averaging(Protocol):
    """What makes one gradient of those of many processes: :class:`~pyro_gan.training.distributed.Together`."""

    processes: Processes
    diverged: list[int]

    def meet(self, players: Mapping[str, Player], device: torch.device) -> None:
        """Where parameters are new, give all processes the same."""

    def many(self, many: Callable[[], Batch | None] | None, batch: Batch) -> Callable[[], Batch | None]:
        """Gives rows from all over the data of all processes."""

    def average(self, found: Gradients, num_rows: int, leaves: Mapping[str, Tensor]) -> Gradients:
        """The mean of all processes' gradients."""


GradientFunction = Callable[[Batch], Gradients]
PlayerName = Literal["generator", "discriminator"]


class Step:
    """Takes the steps of a game.

    Args:
        game: The inference.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.for_discriminator: GradientFunction = self.discriminator_gradients
        self.for_generator: GradientFunction = self.generator_gradients
        self.divergence = Divergence()
        self.together: Averaging | None = None
        """The processes that take the steps, where there are several."""
        self._reach = Reach()
        self._shared: Samples | None = None
        self._seen: Seen | None = None
        self._start: Tensor | None = None
        self._with_buffers: list[nn.Module] | None = None
        self._before: list[tuple[nn.Module, str, Tensor, Tensor]] = []
        """Buffers and copies of what they held before the last gradients, which moved batch statistics."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy is in no step."""
        none = dict.fromkeys(("_shared", "_seen", "_start", "_with_buffers"))
        return {**vars(self), **none, "_reach": Reach(), "_before": [], "together": None}

    def take_eagerly(self) -> None:
        """Compute gradients operation by operation."""
        self.for_discriminator, self.for_generator = self.discriminator_gradients, self.generator_gradients

    def seconds_to_compile(self) -> float:
        """How long compiling has taken."""
        return sum(float(getattr(each, "seconds", 0.0)) for each in (self.for_discriminator, self.for_generator))

    def take(self, for_discriminator: Sequence[Batch], for_generator: Sequence[Batch]) -> StepRecord:
        """Update the discriminator once on each of its minibatches, then the generator's side on each of its own.

        Raises:
            ValueError: A player can no longer learn, or its update is not finite.
        """
        game, record = self.game, StepRecord()
        try:
            for batch in for_discriminator:
                found = self._gradients("discriminator", batch)
                record = StepRecord(None, found.loss, found.penalty, found.real_logits, found.fake_logits, game.loss)
                self._update("discriminator", found, batch)
            if for_discriminator:
                game.optim_d.advance_schedule()
            for batch in for_generator:
                found = self._gradients("generator", batch)
                record = record._replace(generator_loss=found.loss)
                self._update("generator", found, batch)
            if for_generator:
                game.optim.advance_schedule()
        except Diverged as error:
            error.record = record
            raise
        finally:
            self._shared = self._seen = None
        flag = self.divergence.flag()
        return record if flag is None else record._replace(not_finite=flag)

    def discriminator_gradients(self, batch: Batch) -> Gradients:
        """The gradients of the discriminator's loss and penalties, on fresh draws.

        Raises:
            ValueError: The samples can not be compared, or the logits depend on no parameter.
        """
        game = self.game
        with torch.set_grad_enabled(game.share_draws):
            samples = game.draw(batch)
        samples.check_alike()
        self._shared = samples if game.share_draws else None
        judgements = self._judge(samples)
        self._seen = Seen(samples.real, samples.fake)
        logits = [(each.real_logits, each.fake_logits) for each in judgements]
        loss = discriminator_loss(game.loss, game.discriminator, samples, logits, game.matching_aware)
        parameters = game.discriminator.meet(_parameters(loss, judgements))
        if not parameters:
            game.discriminator.check_frozen()
        penalty = self._penalty(judgements)
        return Gradients(
            parameters,
            _gradients(loss if penalty is None else loss + penalty, parameters),
            loss.detach(),
            None if penalty is None else penalty.detach(),
            torch.cat([real for real, _ in logits]).detach(),
            torch.cat([fake for _, fake in logits]).detach(),
        )

    def generator_gradients(self, batch: Batch) -> Gradients:
        """The gradients of the generator's loss: on fresh draws, or on those that the discriminator just saw.

        Raises:
            ValueError: The draws carry no gradient to the parameters, or depend on others than those that are trained.
        """
        game, all_samples = self.game, [self._shared] if self._shared else self.game.samples_for_generator(batch)
        samples = all_samples[0]
        self._shared = None  # after an update their graph would be that of other parameters
        if samples.fake.keys() <= samples.real.keys():  # a model may come to draw other shapes
            samples.check_alike()
        self._seen = Seen(samples.real, samples.fake)
        loss = reduce(add, map(game.generator_loss, all_samples))
        parameters = samples.parameters
        if game.selection:
            parameters = {name: leaf for name, leaf in parameters.items() if name in game.selection}
        values = _gradients(loss, parameters)
        self._reach.check(samples, parameters, values, game.generator_parameters)
        return Gradients(parameters, values, loss.detach())

    def _gradients(self, player: PlayerName, batch: Batch) -> Gradients:
        """A player's gradients; its last ones are let go of first."""
        is_generator = player == "generator"
        (self.game.optim if is_generator else self.game.optim_d).clear()
        function = self.for_generator if is_generator else self.for_discriminator
        # Compiled code does not show what it saw, but an eager run from the same state does.
        self._start = None if function == self._eager(player) else torch.get_rng_state()
        self._before = self._held_by_buffers()
        if self.together is None:
            return function(batch)
        with as_one(self.together.processes):
            found = function(batch)
        leaves = self.game.generator_parameters() if is_generator else self.game.discriminator.parameters
        return self.together.average(found, number_of_rows(batch), leaves)

    def _update(self, player: PlayerName, found: Gradients, batch: Batch) -> None:
        """Update a player along its gradients where they are finite; a device decides that by itself."""
        tensors, flag = (found.loss, found.penalty, *found.values), list[Tensor]()
        if found.loss.device.type == "cpu":
            if not are_finite(tensors):
                self._put_back_buffers()
                self._tell(player, found, batch)
                return
            self.divergence.passes(player)
        elif found.loss.device.type != "meta":
            flag.append(self.divergence.flagged(tensors))
            self._put_back_buffers(flag[0] > 0)
        if player == "generator":
            self._update_generator(found, *flag)
        else:
            self._update_discriminator(found, *flag)

    def _held_by_buffers(self) -> list[tuple[nn.Module, str, Tensor, Tensor]]:
        """What the buffers of all modules hold; those without are found once, and anew with new parameters."""
        if self._with_buffers is None:
            modules = dict.fromkeys(module for each in self.game.players().values() for module in each.modules)
            self._with_buffers = [module for module in modules if module._buffers]
        return [
            (module, name, buffer, buffer.clone())
            for module in self._with_buffers
            for name, buffer in module._buffers.items()
            if buffer is not None and not is_lazy(buffer)
        ]

    @torch.no_grad()
    def _put_back_buffers(self, where: Tensor | None = None) -> None:
        """Undo what gradients did to batch statistics; on a device where a flag is set."""
        for module, name, buffer, before in self._before:
            now = module._buffers[name]
            if where is None:
                restore_buffer(module, name, buffer, before)
            elif now is not None and now.shape == before.shape:
                now.copy_(torch.where(where, before, now))

    def _eager(self, player: PlayerName) -> GradientFunction:
        return self.generator_gradients if player == "generator" else self.discriminator_gradients

    def _tell(self, player: PlayerName, found: Gradients, batch: Batch) -> None:
        """Say where an update began that is not finite.

        Raises:
            Diverged: It is not to be left out.
        """
        game = self.game
        if self._start is not None:
            with kept_random_state(game.device), kept_buffers(), suppress(ValueError):
                torch.set_rng_state(self._start)
                self._eager(player)(batch)
        logits = (found.real_logits, found.fake_logits) if self.together is None else ()
        began = beginning(self._seen, logits, batch)
        if self.together is not None and self.together.diverged:
            began += f", on rank {listed(self.together.diverged)}"
        self.divergence.meet(game.on_divergence, player, message(player, found, game.num_steps_taken + 1, began))

    def meet(self) -> None:
        """Give each player's optimizer the parameters that it does not know yet.

        Raises:
            ValueError: A parameter belongs to both players.
        """
        game, kinds, self._with_buffers = self.game, (set[Tensor](), set[Tensor](), set[Tensor]()), None
        for player in game.players().values():
            if player is not game.discriminator:
                _check_apart(player.parameters, game.discriminator.parameters)
                for kind, more in zip(kinds, (player.decaying(), player.numbers(), player.saturating()), strict=True):
                    kind |= more
        game.optim.meet(game.generator_parameters(), *kinds)
        game.optim_d.meet(game.discriminator.parameters, game.discriminator.decaying())

    def _update_discriminator(self, found: Gradients, *flag: Tensor) -> None:
        game = self.game
        if not game.optim_d.knows(found.parameters.values()):
            self.meet()
        parameters = list(found.parameters.values())
        game.optim_d.update(parameters, found.values, *flag)
        game.num_updates += 1
        for given in game.penalties:
            if isinstance(given, Penalty):
                given.after_update(parameters)

    def _update_generator(self, found: Gradients, *flag: Tensor) -> None:
        game = self.game
        if not game.optim.knows(found.parameters.values()):
            if game.average is not None:  # as after pyro.clear_param_store()
                game.average.forget(game.optim.replaced(found.parameters))
            self.meet()
        game.optim.update(list(found.parameters.values()), found.values, *flag)
        if game.average is not None:
            game.average.update(found.parameters)

    def _judge(self, samples: Samples) -> list[Judgement]:
        """Have each stage judge both samples; no graph of the model goes further, even of one under `enable_grad()`."""
        differentiates = any(getattr(given, "reads_gradients", True) for given in self.due_penalties())
        real, fake = (
            {
                site: rows.detach().requires_grad_(differentiates and rows.is_floating_point())
                for site, rows in sample.items()
            }
            for sample in (samples.real, samples.fake)
        )
        judgements = []
        for part, select in self.game.discriminator.parts():
            ours, theirs = select(real), select(fake)
            # The gradient at one sample's rows costs the other's as well where both were judged in one call.
            logits = (part(ours), part(theirs)) if differentiates else part.both(ours, theirs)
            judgements.append(Judgement(part, ours, theirs, *logits, samples.given))
        return judgements

    def due_penalties(self) -> list[PenaltyFunction]:
        """The penalties that act at this update."""
        return [given for given in self.game.penalties if self.game.num_updates % getattr(given, "every", 1) == 0]

    def _penalty(self, judgements: Sequence[Judgement]) -> Tensor | None:
        """The sum of the penalties that are due, each times the number of updates that it stands for."""
        if not self.game.penalties:
            return None
        terms = [
            _for_all_updates(given, given(judgement).mean())
            for given in self.due_penalties()
            for judgement in judgements
            if _covers(given, judgement)
        ]
        return without_zeros(reduce(add, terms)) if terms else None


def _for_all_updates(given: PenaltyFunction, term: Tensor) -> Tensor:
    """A lazy penalty's term at an update, which stands for those at which it is left out."""
    every = getattr(given, "every", 1)
    return term if every == 1 else every * term


def _gradients(loss: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor | None, ...]:
    if not parameters:  # all of them are frozen at this step
        return ()
    return torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)


def _covers(given: PenaltyFunction, judgement: Judgement) -> bool:
    """Whether a penalty of some sites is meant for a stage: it sees one of them."""
    sites = getattr(given, "sites", None)
    return not isinstance(sites, tuple) or any(site in judgement.real for site in sites)


def _parameters(loss: Tensor, judgements: Sequence[Judgement]) -> list[Tensor]:
    """The discriminator's parameters: what its loss depends on, without the rows that penalties differentiate by."""
    rows = {id(value) for each in judgements for sample in (each.real, each.fake) for value in sample.values()}
    return [leaf for leaf in leaves(loss) if id(leaf) not in rows]


def _check_apart(generator: dict[str, Tensor], discriminator: dict[str, Tensor]) -> None:
    """Refuse a parameter that both players would train.

    Raises:
        ValueError: There is one; the message has its names.
    """
    names = {id(parameter): name for name, parameter in generator.items()}
    for name, parameter in discriminator.items():
        if id(parameter) in names:
            raise ValueError(
                f"parameter {names[id(parameter)]!r} of the model is also the discriminator's ({name!r}). "
                "Each player trains its own: give the discriminator a network of its own, or detach what it borrows."
            )
