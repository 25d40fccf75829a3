"""What an algorithm is made of: two players, what they minimize, and the two samples that are compared.

A subclass says which two samples (:meth:`Algorithm.draw`), and where needed what the generator's side descends on them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto import AutoDiscriminator
from pyro_gan.callbacks import Callback, FallingRates, WarnOfFailures
from pyro_gan.checks import positive_integer
from pyro_gan.inference.compared import Compared, Pairs, Told, are_same, covariates, place_of
from pyro_gan.inference.options import (
    DiscriminatorChoice,
    LossChoice,
    PenaltyChoice,
    check_between,
    check_bounded,
    check_interpolation,
    check_shareable,
    check_told,
)
from pyro_gan.losses import Loss, as_loss
from pyro_gan.penalties import PenaltyFunction, as_penalties
from pyro_gan.players.batch import Batch, as_batch, named
from pyro_gan.players.calls import Arguments
from pyro_gan.players.conditions import between, ignored, other_rows
from pyro_gan.players.devices import resolve_device
from pyro_gan.players.discrete import score_function
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import dropped_parameters, kept_buffers, kept_random_state, kept_unbuilt
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.player import Player
from pyro_gan.players.replicates import Replicates
from pyro_gan.players.selection import Selection
from pyro_gan.players.stages import discriminator_of
from pyro_gan.recipes import default_loss, default_penalties
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.divergence import OnDivergence, check_on_divergence
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.objective import total
from pyro_gan.training.optimizers import OptimizerChoice, PlayerOptimizer
from pyro_gan.training.samples import Samples


class Algorithm(ABC):
    """The base of :class:`~pyro_gan.AdversarialInference`: all that differs between algorithms is here."""

    guide_moves_real = False
    """Whether the real rows hold draws of a guide, which the generator's optimizer moves too."""

    latent_sites: tuple[str, ...] = ()
    """The compared sites that are no data; a guide draws them."""

    def __init__(
        self,
        model: Callable[..., Any],
        discriminator: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        loss: LossChoice = None,
        penalty: PenaltyChoice = None,
        site: str | Sequence[str] | None = None,
        discriminator_steps: int = 1,
        generator_steps: int = 1,
        only: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        share_draws: bool = False,
        matching_aware: bool = False,
        interpolate_conditions: bool = False,
        ema_decay: float | None = None,
        clip_norm: float | None = None,
        clip_norm_d: float | None = None,
        on_divergence: OnDivergence = "raise",
        device: str | torch.device | None = None,
    ) -> None:
        discriminator = AutoDiscriminator() if discriminator is None else discriminator
        self.loss: Loss = default_loss() if loss is None else as_loss(loss)
        self.penalties: tuple[PenaltyFunction, ...] = (
            default_penalties() if loss is None and penalty is None else as_penalties(penalty)
        )
        check_bounded(self.loss, penalty)
        self.device = resolve_device(device, discriminator)
        self._finds_sites = site is None
        self.discriminator = discriminator_of(discriminator, self.device, move=device is not None)
        if isinstance(discriminator, Mapping) and site is None:
            site = list(discriminator)
        self.model = ImplicitModel(model, site, self.device, move=device is not None)
        self.optim = PlayerOptimizer(optim, "optim", clip_norm)
        self.optim_d = PlayerOptimizer(optim_d, "optim_d", clip_norm_d)
        self.discriminator_steps = positive_integer("discriminator_steps", discriminator_steps)
        self.generator_steps = positive_integer("generator_steps", generator_steps)
        own_draws = type(self).draw_for_generator is not Algorithm.draw_for_generator
        self.share_draws = check_shareable(share_draws, generator_steps, own_draws, type(self).__name__)
        self.matching_aware = bool(matching_aware)
        self.interpolate_conditions = check_interpolation(interpolate_conditions, share_draws)
        self._told: dict[Any, Told] = {}
        """By the form of a minibatch, the conditions in it."""
        self.selection = Selection(only, exclude)
        self.average = None if ema_decay is None else MovingAverage(ema_decay)
        self.on_divergence: OnDivergence = check_on_divergence(on_divergence)

    @abstractmethod
    def draw(self, batch: Batch) -> Samples:
        """Draw the two samples to compare.

        Args:
            batch: A minibatch of data.

        Returns:
            The samples by site, each with shape `(num_rows, *event_shape)`, and the parameters that were used.
        """

    def with_given(self, samples: Samples, batch: Batch) -> Samples:
        """Samples with what the discriminator is told of the rows beside the compared sites: masks and conditions.

        Args:
            samples: The two samples.
            batch: The minibatch that they were drawn for.

        Raises:
            ValueError: Matching is to be judged, and the discriminator is told no condition.
        """
        told = self._conditions_of(samples, batch)
        names = self.discriminator.asks_for(samples.real, told.places)
        if names:
            held = self.model.calls.named_arguments(self.model.calls.arguments(batch))
            held |= batch if isinstance(batch, dict) else {}
            given = {name: held[name] for name in names if isinstance(held.get(name), Tensor)}
            fake = {**samples.fake, **given} if samples.fake else {}
            samples = samples._replace(real={**samples.real, **given}, fake=fake, given=tuple(given))
        seen = tuple(name for name in (*told.places, *told.sites) if name in samples.real)
        if self.matching_aware:
            check_told(seen, told.places)
        return samples._replace(conditions=seen)

    def _conditions_of(self, samples: Samples, batch: Batch) -> Told:
        """The conditions in a minibatch of this form, which the first one tells."""
        form = tuple(batch) if isinstance(batch, dict) else len(batch)
        if form not in self._told:
            arguments = self.model.calls.named_arguments(self.model.calls.arguments(batch))
            of_data = {site: samples.real[site] for site in self.model.sites or () if site not in self.latent_sites}
            masks = self.discriminator.masks(samples.real)
            found = {name: rows for name, rows in covariates(arguments, of_data, batch).items() if name not in masks}
            places = {name: place_of(rows, batch) for name, rows in found.items()}
            drawn, look = samples.fake if not samples.is_simulated else {}, self.model.found
            computed = [site for site in of_data if site in drawn and not look[site].is_observed]
            sites = tuple(site for site in computed if are_same(drawn[site], arguments.get(site)))
            self._told[form] = Told({name: place for name, place in places.items() if place is not None}, sites)
        return self._told[form]

    def conditions(self, batch: Batch) -> dict[str, Tensor]:
        """The conditions in a minibatch by the names of the model's arguments, once samples have been drawn for one."""
        elements: dict[Any, Tensor] = dict(named(batch))
        return {name: elements[place] for name, place in self.places_of_conditions(batch).items()}

    def places_of_conditions(self, batch: Batch) -> dict[str, Any]:
        """The names or numbers of these elements of a minibatch."""
        told = self._told.get(tuple(batch) if isinstance(batch, dict) else len(batch))
        return {} if told is None else told.places

    def ignored_conditions(self, batch: Batch) -> list[str]:
        """The names of the conditions in a minibatch on which none of the model's draws depends."""
        arguments, model = self.model.calls.arguments(batch), self.model
        return ignored(lambda rows: model.response(model.calls.replaced(arguments, rows))[1], self.conditions(batch))

    def draw_for_generator(self, batch: Batch) -> Samples:
        """Draw what the generator's side descends on; by default the two samples of :meth:`draw`, drawn afresh."""
        return self.draw(batch)

    def samples_for_generator(self, batch: Batch) -> list[Samples]:
        """All samples that the generator's side descends on: those of :meth:`draw_for_generator`, and others beside.

        Where conditions are interpolated, the others are drawn given the middle between each row's condition and that
        of another one, for which there are no real rows.
        """
        samples = self.draw_for_generator(batch)
        if not self.interpolate_conditions:
            return [samples]
        conditions = self.conditions(batch)
        check_between(conditions)
        others, places = other_rows(conditions), self.places_of_conditions(batch)
        elements: dict[Any, Tensor] = dict(named(batch))
        elements |= {places[name]: between(rows, others) for name, rows in conditions.items()}
        middle = self.draw_for_generator(elements if isinstance(batch, dict) else tuple(elements.values()))
        return [samples, middle._replace(real={site: rows.detach() for site, rows in samples.real.items()})]

    def generator_loss(self, samples: Samples) -> Tensor:
        """What the generator's side minimizes on two samples, a 0-dimensional tensor."""
        parts = self.discriminator.parts()
        terms = [each for part, select in parts for each in self._terms(part, *map(select, samples[:2]))]
        found = total(terms)
        if samples.log_densities:
            found = found + score_function(terms, samples.log_densities)
        return found if samples.log_factor is None else found - samples.log_factor

    def _terms(
        self, discriminator: Discriminator, real: dict[str, Tensor], fake: dict[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """The per-row losses of the generator's side by one discriminator."""
        loss = self.loss
        if self.guide_moves_real:
            real_logits, fake_logits = discriminator.both(real, fake)
            return (*loss.generator(real_logits, fake_logits), *loss.guide(real_logits))
        with torch.no_grad():
            fixed = discriminator(real) if loss.generator_reads_real else None
        return loss.generator(fixed, discriminator(fake))

    def check_judged(self) -> None:
        """Refuse sites that the model has to be compared and that no stage's discriminator sees.

        Raises:
            ValueError: There is one.
        """
        candidates = [name for name, site in self.model.found.items() if site.is_candidate]
        self.discriminator.check_sees(candidates if self._finds_sites else self.model.sites or ())

    def schedule(self, batches: Minibatches) -> list[Callback]:
        """What a run does along its course: rates fall that the user left to it, and failures are told of.

        Args:
            batches: The run's data.
        """
        del batches
        return [FallingRates(), WarnOfFailures()]

    def players(self) -> dict[str, Player]:
        """The players by name; those beside the discriminator are moved by the generator's optimizer."""
        return {"model": self.model, "discriminator": self.discriminator}

    def generator_parameters(self) -> dict[str, Tensor]:
        """The parameters by name that the generator's optimizer moves, of those that have been met."""
        return {name: leaf for name, leaf in self.met_parameters().items() if name in self.selection}

    def met_parameters(self) -> dict[str, Tensor]:
        """The parameters of the generator's side that have been met and could be moved."""
        met = (player.parameters for player in self.players().values() if player is not self.discriminator)
        return {name: leaf for name, leaf in reduce(or_, met).items() if leaf.requires_grad}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A context for the first look: random states and buffers stay; if it fails, nothing is built or registered."""
        functions = [each for player in self.players().values() for each in player.functions()]
        with (
            ExitStack() as stack,
            dropped_parameters(),
            kept_unbuilt(*functions),
            kept_buffers(),
            kept_random_state(self.device),
            torch.enable_grad(),
        ):
            for kept in (*(player.kept for player in self.players().values()), self.optim.kept, self.optim_d.kept):
                stack.enter_context(kept())
            try:
                yield
            except BaseException:
                self._told = {}
                self.model.calls.forget()
                raise

    def typical_rows(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows by which a discriminator that builds itself may standardize the sites; by default the real ones."""
        return real

    def relate(self, functions: Mapping[str, Any], samples: Samples) -> None:
        """Have networks that have just built themselves relate latents to observations; by default they do not.

        Args:
            functions: The networks by the names of the players.
            samples: The first samples.
        """
        del functions, samples

    def guide_arguments(self, batch: Batch) -> Arguments:
        """How a guide is called on a minibatch, where there is one."""
        raise NotImplementedError

    def as_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a run of the model draws, with a row of each site for each row of data; by default it is so already."""
        return values

    def supports(self) -> dict[str, Constraint]:
        """The supports of the compared sites in the model, which has been run before."""
        return {name: self.model.found[name].support for name in self.model.sites or ()}

    def draws_are_data(self) -> bool:
        """Whether the model's draws are to be like the data, and not merely what a simulator makes."""
        return True

    def compares_alike(self) -> bool:
        """Whether the discriminator's two samples are alike where a fit is perfect."""
        return True

    def are_simulations(self, batch: Batch) -> bool:
        """Whether a minibatch holds all latent sites too, as draws of the model."""
        return False

    def rows_to_check(self, batch: Batch) -> Compared:
        """Rows of the data's sites from the data and from the model, and the covariates that both were given."""
        samples, arguments = self.draw(batch), self.model.calls.arguments(batch)
        samples.check_alike()
        real, fake = ({site: rows[site] for site in self.model.sites or ()} for rows in (samples.real, samples.fake))
        return Compared(real, fake, covariates(self.model.calls.named_arguments(arguments), real, batch))

    def observation_rows(self, observation: Any) -> Batch:
        """Observations as a minibatch."""
        return as_batch(observation, self.device, "observation", is_own=True)

    def simulate(self, batch: Batch) -> Pairs | None:
        """Simulations of the model and what they were made of, where there is a guide to judge by them."""
        return None

    def posterior_draws(self, batch: Batch, num_draws: int) -> dict[str, Tensor]:
        """Draws of the guide, with shape `(num_draws, num_rows, *event_shape)`."""
        raise NotImplementedError

    def draws_to_export(
        self, batch: Batch, arguments: Arguments, replicates: Replicates, num_draws: int
    ) -> dict[str, dict[str, Tensor] | None]:
        """The groups of draws for ArviZ by name, of which `replicates` are the model's own."""
        return {"prior": replicates.latent or None, "posterior_predictive": replicates.compared}
