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
from pyro_gan.inference.compared import Compared, Pairs, covariates
from pyro_gan.inference.options import LossChoice, PenaltyChoice, check_bounded, check_shareable
from pyro_gan.losses import Loss, as_loss
from pyro_gan.penalties import PenaltyFunction, as_penalties
from pyro_gan.players.batch import Batch, as_batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.devices import resolve_device
from pyro_gan.players.discrete import score_function
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import dropped_parameters, kept_buffers, kept_random_state, kept_unbuilt
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.player import Player
from pyro_gan.players.replicates import Replicates
from pyro_gan.players.selection import Selection
from pyro_gan.recipes import default_loss, default_penalties
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.divergence import OnDivergence, check_on_divergence
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.optimizers import OptimizerChoice, PlayerOptimizer
from pyro_gan.training.samples import Samples
from pyro_gan.training.step import total


class Algorithm(ABC):
    """The base of :class:`~pyro_gan.AdversarialInference`: all that differs between algorithms is here."""

    guide_moves_real = False
    """Whether the real rows hold draws of a guide, which the generator's optimizer moves too."""

    latent_sites: tuple[str, ...] = ()
    """The compared sites that are no data; a guide draws them."""

    def __init__(
        self,
        model: Callable[..., Any],
        discriminator: Callable[..., Tensor] | None = None,
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
        self.model = ImplicitModel(model, site, self.device, move=device is not None)
        self.discriminator = Discriminator(discriminator, self.device, move=device is not None)
        self.optim = PlayerOptimizer(optim, "optim", clip_norm)
        self.optim_d = PlayerOptimizer(optim_d, "optim_d", clip_norm_d)
        self.discriminator_steps = positive_integer("discriminator_steps", discriminator_steps)
        self.generator_steps = positive_integer("generator_steps", generator_steps)
        own_draws = type(self).draw_for_generator is not Algorithm.draw_for_generator
        self.share_draws = check_shareable(share_draws, generator_steps, own_draws, type(self).__name__)
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
        """Samples with what the discriminator is told of the rows beside the compared sites, such as masks.

        Args:
            samples: The two samples.
            batch: The minibatch that they were drawn for.
        """
        names = self.discriminator.asks_for(samples.real)
        if not names:
            return samples
        held = self.model.calls.named_arguments(self.model.calls.arguments(batch))
        held |= batch if isinstance(batch, dict) else {}
        given = {name: held[name] for name in names if isinstance(held.get(name), Tensor)}
        fake = {**samples.fake, **given} if samples.fake else {}
        return samples._replace(real={**samples.real, **given}, fake=fake)

    def draw_for_generator(self, batch: Batch) -> Samples:
        """Draw what the generator's side descends on; by default the two samples of :meth:`draw`, drawn afresh."""
        return self.draw(batch)

    def generator_loss(self, samples: Samples) -> Tensor:
        """What the generator's side minimizes on two samples, a 0-dimensional tensor."""
        loss, discriminator = self.loss, self.discriminator
        if self.guide_moves_real:
            real_logits, fake_logits = discriminator.both(samples.real, samples.fake)
            terms = (*loss.generator(real_logits, fake_logits), *loss.guide(real_logits))
        else:
            with torch.no_grad():
                fixed = discriminator(samples.real) if loss.generator_reads_real else None
            terms = loss.generator(fixed, discriminator(samples.fake))
        found = total(terms)
        if samples.log_densities:
            found = found + score_function(terms, samples.log_densities)
        return found if samples.log_factor is None else found - samples.log_factor

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
        functions = [player.function for player in self.players().values()]
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
            yield

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
