"""Bidirectional adversarial inference, adversarially learned inference (Donahue et al. 2017; Dumoulin et al. 2017)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Unpack

import pyro
import torch
from pyro.poutine.condition_messenger import ConditionMessenger
from torch import Tensor

from pyro_gan.auto import AutoDiscriminator, AutoImplicitGuide
from pyro_gan.callbacks import Callback, EndBeforeOverfitting, ScaleNoise, WarnOfCoverage
from pyro_gan.checks import is_real_number, listed, shown
from pyro_gan.inference.energy import label_score, numbers_of, score_of
from pyro_gan.inference.guided import GuidedInference
from pyro_gan.inference.options import DiscriminatorChoice, LossChoice, PenaltyChoice, SharedOptions
from pyro_gan.inference.ranks import local_ranks, marginal_ranks
from pyro_gan.players.batch import Batch, mapped, named, number_of_rows, resized_batch
from pyro_gan.players.calls import Arguments, as_precise, places
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.players.handler import Draw
from pyro_gan.recipes import posterior_penalties
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.optimizers import OptimizerChoice
from pyro_gan.training.samples import Samples

ENERGY_WEIGHT = 3.0
"""The default weight of the energy score: with less, guides are too sure of themselves; with more, less sharp."""

MOST_TO_VALIDATE = 1000
"""The most simulations that a run keeps apart."""

DRAWS_TO_VALIDATE = 16
"""The draws of the guide by which it is scored on each."""

NEXT_TO_VALIDATE = 3
"""The other draws that each of them is compared with."""

DRAWS_TO_RANK = 31
"""The draws of the guide among which the true latents of each are ranked."""

DRAWS_TO_COVER = 39
"""Those of which intervals are made: the true value has one of 40 places, of which 36 are the middle 90 %."""


class BiGANInference(GuidedInference):
    r"""Fits an implicit model and its guide by learning to tell their joint samples apart.

    The discriminator compares :math:`(x, z)` with :math:`x` from the data and :math:`z` from the guide, with
    :math:`(z, x)` from the model. When it can not tell them apart, the guide is the model's posterior. With a model
    that has no parameters, this is amortized posterior inference for a simulator. Draws of such a model tell what each
    observation was made of; so the guide learns from these too, by its energy score (:mod:`pyro_gan.inference.energy`).
    Guides and discriminators that build themselves then see latents beside their regression on the observations
    (:mod:`pyro_gan.auto.regression`), and in deviations that simulations tell (:mod:`pyro_gan.auto.moments`); in these
    the energy score is taken too.
    Discrete latents carry no gradient: there the game is learned by the score function, and simulations by a score of
    the guide's probabilities.

    Args:
        model: As of :class:`GANInference`, with latent sites. It is called on the minibatch where it takes data.
        guide: A Pyro guide that draws the model's latent sites by name, called on the minibatch: of reparameterized
            distributions, deterministic sites of noise through a network, or for discrete sites a Categorical or
            Bernoulli, before the others. Its own noise is marked with `infer={"is_auxiliary": True}`.
        discriminator: A callable that returns one logit a row, called with the rows of all compared sites as keyword
            arguments by site name; by default :class:`~pyro_gan.AutoDiscriminator`.
        optim: The optimizer of the model and the guide, as of :class:`GANInference`.
        optim_d: The discriminator's optimizer.
        loss: As of :class:`GANInference`.
        penalty: As of :class:`GANInference`; by default with a tenth of its weight where the energy score is weighed.
        discriminator_steps: The updates of the discriminator for each of the guide. With one, a guide runs ahead and
            loses its noise more often.
        energy_weight: The weight of the guide's energy score on draws of the model beside the loss of the game, at
            least 0. By default 3 where the model has no parameters to train and the data hold its observed sites as
            they are, so that the guide can be called on draws of them; else 0.
        validation: The part of simulations that a run keeps apart, from 0 for none to below 1, and at most 1,000. Where
            the guide's energy score on these rises again, it begins to know the others by heart: the run then ends
            early (:class:`~pyro_gan.callbacks.EndBeforeOverfitting`). At the end :class:`AutoImplicitGuide` scales its
            noise, that of continuous latents, by what suits them best (:class:`~pyro_gan.callbacks.ScaleNoise`), and a
            warning tells where intervals do not hold what they say (:class:`~pyro_gan.callbacks.WarnOfCoverage`). Draws
            of the model that each step makes anew, and rows that do not lie in arrays, are not kept.
        options: As of :class:`GANInference`; `site` names the compared sites, latent and observed, where not all are.

    A minibatch that holds the latent sites too, by name, as from `run({"z": ..., "x": ...})`, stands for draws of the
    model, which is then not run: simulations that were made beforehand.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument's value does not fit; at the first step, if guide and model do not match.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> pyro.set_rng_seed(0)
        >>> pyro.clear_param_store()
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 0.5), obs=x)
        >>> def guide(x):
        ...     slope, scale = pyro.param("slope", torch.tensor(0.0)), pyro.param("scale", torch.tensor(1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(slope * x, scale.abs()))
        >>> inference = BiGANInference(model, guide).run(torch.randn(1000), num_steps=10, progress=False)
        >>> inference.sample_posterior(torch.tensor(1.0), num_samples=100)["z"].shape
        torch.Size([100])

    References:
        Donahue et al. (2017), "Adversarial Feature Learning", equation 3.
        Dumoulin et al. (2017), "Adversarially Learned Inference", algorithm 1.
    """

    guide_tells_large = True

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        discriminator: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        loss: LossChoice = None,
        penalty: PenaltyChoice = None,
        discriminator_steps: int = 2,
        energy_weight: float | None = None,
        validation: float = 0.1,
        **options: Unpack[SharedOptions],
    ) -> None:
        if energy_weight is not None and not (is_real_number(energy_weight) and 0 <= energy_weight < math.inf):
            raise ValueError(f"energy_weight must be a number of at least 0, or None, but is {shown(energy_weight)}.")
        if not (is_real_number(validation) and 0 <= validation < 1):
            raise ValueError(f"validation must be a part of the data from 0 to below 1, but is {shown(validation)}.")
        super().__init__(
            model,
            guide,
            discriminator,
            optim,
            optim_d,
            loss=loss,
            penalty=penalty,
            discriminator_steps=discriminator_steps,
            **options,
        )
        self.energy_weight = energy_weight
        self.validation = validation
        self._open_penalties = self.penalties if loss is None and penalty is None else None
        """Those that nobody chose, while it is not known whether the guide is scored."""

    def get_to_know(self, batch: Batch) -> None:
        super().get_to_know(batch)
        if self.penalties is self._open_penalties and self._relates():
            self.penalties = posterior_penalties()
        self._open_penalties = None

    def schedule(self, batches: Minibatches) -> list[Callback]:
        scores, ranks = (partial(self._of_validation, batches, of) for of in (self._mean_score, self._ranks))
        early = EndBeforeOverfitting(scores)
        scaled = ScaleNoise(scores, ranks, partial(self._scale_of_noise, early))
        covered = WarnOfCoverage(partial(self._coverage, batches, early))
        return [early, *super().schedule(batches), scaled, covered]  # rates follow the first

    def draw(self, batch: Batch) -> Samples:
        self.get_to_know(batch)
        guided = self.guide.draw(self.guide.calls.arguments(self.visible(batch)))
        arguments = self.model.calls.arguments(batch)
        if isinstance(batch, dict) and all(site in batch for site in (self.model.sites or ())):
            return self.with_given(self._from_simulations(batch, guided), batch)
        drawn = self.run_model(arguments, number_of_rows(batch))
        sources = self.model.calls.sources(drawn, arguments, batch, self.latent_sites)
        real = {**guided.values, **as_precise(sources, drawn.values)}
        samples = Samples(
            {site: real[site] for site in drawn.values},
            self.as_guided(drawn.values, guided),
            {**drawn.parameters, **guided.parameters},
            drawn.log_factor,
            {site: places(rows, batch) for site, rows in sources.items()},
            log_densities=self.log_densities(guided, drawn),
        )
        return self.with_given(samples, batch)

    def relate(self, functions: Mapping[str, Any], samples: Samples) -> None:
        """As of every inference: where the guide is scored, by draws of a model that stays as it is."""
        if self._relates():
            more = partial(self._simulations_to_fit, samples.fake) if samples.is_simulated else tuple
            self.relate_by(functions, samples, more)

    def draw_for_generator(self, batch: Batch) -> Samples:
        samples = self.draw(batch)
        weight = self._weight()
        simulated = self._with_draws(batch, samples) if weight else None
        if simulated is None:
            return samples
        score = -weight * self._score(self.guide.calls.arguments(self.visible(simulated)), samples).mean()
        return samples._replace(log_factor=score if samples.log_factor is None else samples.log_factor + score)

    def _simulations_to_fit(self, like: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Many simulations that the run never keeps apart, in pieces, with types and shapes as draws have them."""
        if self.never_apart is not None:
            for batch in self.never_apart(self.validation, MOST_TO_VALIDATE):
                values = dict(named(batch))
                rows = {site: values[site].to(each.dtype) for site, each in like.items()}
                drawn = self.latent_sites if self.draws_single_rows else ()
                yield rows | {site: rows[site].reshape(-1, *like[site].shape[1:]) for site in drawn if site in rows}

    def _of_validation(self, batches: Minibatches, of: Callable[[Batch], Tensor]) -> Tensor | None:
        """What is found of each simulation that the run keeps apart, with the same random numbers at each call."""
        last = self.last_batch()
        if self.global_sites or last is None or not self.are_simulations(last) or not self._weight():
            return None
        rows = batches.keep_apart(self.validation, MOST_TO_VALIDATE) if self.validation else None
        if rows is None:
            return None
        size, number = number_of_rows(last), number_of_rows(rows)
        whole = resized_batch(rows, -(-number // size) * size)  # a guide may rely on the size of a minibatch
        pieces = [mapped(whole, itemgetter(slice(at, at + size))) for at in range(0, number, size)]
        with torch.no_grad(), kept_buffers(), kept_random_state(self.device):
            pyro.set_rng_seed(0)
            return torch.cat([of(piece) for piece in pieces])[:number]

    def _scale_of_noise(self, early: EndBeforeOverfitting) -> Tensor | None:
        """By what a guide that builds itself multiplies the noise of its rows; nothing of a run without scores."""
        guide = self.guide.function
        are_continuous = [not self.guide.found[site].is_finite for site in self.latent_sites]
        if early.best is None or not isinstance(guide, AutoImplicitGuide) or not any(are_continuous):
            return None
        return guide.posterior.widening.scale

    def _mean_score(self, batch: Batch) -> Tensor:
        """The scores of many draws of the guide for each simulation, of which each is compared with the next ones."""
        samples, latents, labels, draws = self._draws_for(batch, DRAWS_TO_VALIDATE)
        pairs = [(one, draws[at - by]) for at, one in enumerate(draws) for by in range(1, NEXT_TO_VALIDATE + 1)]
        return torch.stack([self._score_of(*pair, latents, labels, samples) for pair in pairs]).mean(0)

    def _ranks(self, batch: Batch) -> Tensor:
        """The ranks of each simulation's continuous latents among draws of the guide."""
        samples, latents, _, draws = self._draws_for(batch, DRAWS_TO_RANK)
        *numbers, truth = self._numbers_of((*(each.values for each in draws), latents), latents, samples)
        return local_ranks(numbers, truth)

    def _coverage(self, batches: Minibatches, early: EndBeforeOverfitting) -> dict[str, Tensor]:
        """By continuous site, the ranks of the rows kept apart; nothing of a run without scores."""
        sites = (
            [] if early.best is None else [site for site in self.latent_sites if not self.guide.found[site].is_finite]
        )
        sizes: dict[str, int] = {}
        found = self._of_validation(batches, partial(self._marginal_ranks, sizes)) if sites else None
        return {} if found is None else dict(zip(sites, found.split([sizes[site] for site in sites], 1), strict=True))

    def _marginal_ranks(self, sizes: dict[str, int], batch: Batch) -> Tensor:
        """The ranks of all continuous latents' numbers among draws of the guide; notes how many each site has."""
        _, latents, _, draws = self._draws_for(batch, DRAWS_TO_COVER)
        ranks = [marginal_ranks([each.values[site] for each in draws], rows) for site, rows in latents.items()]
        sizes.update(zip(latents, (each.shape[1] for each in ranks), strict=True))
        return torch.cat(ranks, 1)

    def _draws_for(self, batch: Batch, number: int) -> tuple[Samples, dict[str, Tensor], dict[str, Tensor], list[Draw]]:
        """The samples of a minibatch, its true continuous latents and labels, and draws of the guide given labels."""
        samples = self.draw(batch)
        latents, labels = self._latents_and_labels(samples)
        arguments = self.guide.calls.arguments(self.visible(batch))
        with ConditionMessenger(labels):
            return samples, latents, labels, [self.guide.draw(arguments) for _ in range(number)]

    def _weight(self) -> float:
        """The energy score's weight, once the model has been run."""
        if self.energy_weight is None:
            return 0.0 if self.model.trainable() else ENERGY_WEIGHT
        return self.energy_weight

    def _relates(self) -> bool:
        """Whether the guide is scored on draws of a model that stays as it is; one to train relates others later."""
        return bool(self._weight()) and not self.model.trainable()

    def _score(self, arguments: Arguments, samples: Samples) -> Tensor:
        """The scores of the guide's draws on the model's, with shape `(num_rows,)`.

        Labels have one of their own, and the other latents theirs given the true labels: both are smallest at the
        posterior, and no gradient has to pass through a draw of a label.
        """
        latents, labels = self._latents_and_labels(samples)
        if not labels and samples.is_simulated:
            draws = (samples.real, self.guide.draw(arguments).values, latents)
            return score_of(*self._numbers_of(draws, latents, samples))
        with ConditionMessenger(labels):
            first, second = self.guide.draw(arguments), self.guide.draw(arguments)
        return self._score_of(first, second, latents, labels, samples)

    def _latents_and_labels(self, samples: Samples) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The continuous and the discrete latents of the model's draws."""
        values = {site: samples.fake[site].detach() for site in self.latent_sites}
        labels = {site: rows for site, rows in values.items() if self.guide.found[site].is_finite}
        return {site: rows for site, rows in values.items() if site not in labels}, labels

    def _score_of(
        self, first: Draw, second: Draw, latents: dict[str, Tensor], labels: dict[str, Tensor], samples: Samples
    ) -> Tensor:
        """The scores of two draws of the guide given the true labels."""
        draws = (first.values, second.values, latents)
        scores = [score_of(*self._numbers_of(draws, latents, samples))] if latents else []
        scores += [label_score(first.without_path, second.without_path, labels)] if labels else []
        return torch.stack(scores).sum(0)

    def _numbers_of(
        self, draws: Sequence[Mapping[str, Tensor]], latents: dict[str, Tensor], samples: Samples
    ) -> list[Tensor]:
        """The numbers of draws of continuous latents: the discriminator's coordinates where it relates them all."""
        seen = self.discriminator.function
        if isinstance(seen, AutoDiscriminator):
            rows = {site: values.detach() for site, values in samples.fake.items()}
            found = seen.residuals(rows, draws)
            if found is not None:
                return found
        return numbers_of(draws, latents, self.supports())

    def _with_draws(self, batch: Batch, samples: Samples) -> Batch | None:
        """The minibatch with the model's draws of the observed sites in their place, where it has one for each.

        Raises:
            ValueError: It has none, and the user asked for the energy score.
        """
        elements: dict[Any, Tensor] = dict(named(batch))
        for site in self.observed_sites:
            real, fake = samples.real[site], samples.fake[site].detach()
            found = samples.places[site] if real.shape == fake.shape else ()
            if not found and self.energy_weight is not None:
                raise ValueError(
                    f"energy_weight={self.energy_weight!r} has the guide called on the model's draws of {site!r}, but "
                    "the data hold nothing that the model observes there as it is. Change it by transform= instead of "
                    "in the model, or pass energy_weight=0."
                )
            if not found:
                return None
            for place in found:
                elements[place] = fake.to(elements[place].dtype)
        return elements if isinstance(batch, dict) else tuple(elements.values())

    def _from_simulations(self, batch: dict[str, Tensor], guided: Draw) -> Samples:
        """Compare the guide with simulations that were made beforehand."""
        if trainable := self.model.trainable():
            raise ValueError(
                f"the data hold the latent sites {listed(self.latent_sites)}, so they are simulations by "
                f"the model, but it has parameters to train ({listed(trainable)}). Pass the observed "
                "sites alone."
            )
        drawn = guided.values
        simulated = {
            site: rows.reshape(drawn[site].shape) if site in drawn and self.draws_single_rows else rows
            for site, rows in ((site, batch[site]) for site in self.model.sites or ())
        }
        real = {site: drawn.get(site, rows) for site, rows in simulated.items()}
        fake = {site: rows.to(real[site].dtype) for site, rows in simulated.items()}
        found = {site: places(simulated[site], batch) for site in self.observed_sites}
        log_densities = self.log_densities(guided)
        return Samples(real, fake, guided.parameters, None, found, is_simulated=True, log_densities=log_densities)
