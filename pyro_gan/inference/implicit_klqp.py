r"""Variational inference with implicit models and guides (Tran et al. 2017; Mescheder et al. 2017).

The evidence lower bound needs log-densities of the model and of the guide. Where one of them has none, the log of their
ratio still can be learned by telling draws apart, and that is all the bound needs. Of N rows with local latent
variables :math:`z_n` and global ones :math:`\beta`,

.. math:: \mathrm{ELBO} = \mathbb{E}_q \Big[\log p(\beta) - \log q(\beta) - \sum_n \log r(x_n, z_n, \beta)\Big],

where :math:`r` is the ratio :math:`q(z \mid x, \beta) / p(x, z \mid \beta)` up to the data's own density (joint
contrast), or, where the likelihood is tractable, :math:`q(z \mid x, \beta) / p(z \mid \beta)` divided by it (prior
contrast).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

import torch
from pyro.poutine.condition_messenger import ConditionMessenger
from torch import Tensor
from torch.distributions import biject_to

from pyro_gan.checks import is_real_number, shown
from pyro_gan.inference.contrast import AdaptiveContrast
from pyro_gan.inference.guided import GuidedInference
from pyro_gan.inference.options import DiscriminatorChoice, LossChoice, PenaltyChoice, SharedOptions
from pyro_gan.losses import NonSaturating
from pyro_gan.players.batch import Batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.discrete import by_row, score_function
from pyro_gan.players.handler import Draw
from pyro_gan.players.stages import StagedDiscriminator
from pyro_gan.training.objective import total
from pyro_gan.training.optimizers import OptimizerChoice
from pyro_gan.training.samples import Samples


class ImplicitKLqp(GuidedInference):
    r"""Fits a guide, and a model, by the evidence lower bound with a learned density ratio.

    Local latent sites and observed ones have a row for each row of data and need samples only. Global sites are drawn
    once for all rows; the model and the guide draw them from distributions with a density. With the joint contrast, no
    global site and no parameter of the model, networks that build themselves see latents beside their regression on the
    observations (:mod:`pyro_gan.auto.regression`).

    The discriminator estimates the ratio given the global sites, so it may see any values of them. It is trained on
    draws spread wider than the guide's: a single row hardly tells neighbouring values apart, but all rows together do,
    and how the ratio changes along them is what decides the guide's spread.

    Args:
        model: A Pyro model. Its data plate tells the number of all rows, as in SVI:
            `pyro.plate("data", N, subsample=x)`, or `poutine.scale`.
        guide: As of :class:`BiGANInference`.
        discriminator: As of :class:`BiGANInference`; global sites are given to it as rows that are all alike. With
            several observed sites a mapping of such by site, `{"x": ..., "y": ...}`, each with the latent sites among
            its arguments: the log ratio is the sum of theirs, where the sites are independent given these. A
            `poutine.scale` around a site in the model weighs its part against that of the first one. `site` then names
            all compared sites.
        optim: The optimizer of the guide and the model.
        optim_d: The discriminator's optimizer.
        global_sites: The names of the global sites.
        contrast: `"joint"` needs samples of the observed sites alone; `"prior"` has the model observe them with a
            tractable likelihood (adversarial variational Bayes).
        adaptive: Whether the guide's local sites are contrasted with a Gaussian that follows it, and not with the prior
            alone (:class:`~pyro_gan.inference.contrast.AdaptiveContrast`); with the contrast `"prior"`. The model then
            draws these sites from distributions with a density.
        spread: How much larger than the guide's the standard deviation of the global draws is that the discriminator
            is trained on; at least 1.
        discriminator_steps: The updates of the discriminator for each of the guide. The bound needs a good ratio.
        options: As of :class:`GANInference`; the loss is :class:`~pyro_gan.losses.NonSaturating` by default, and has no
            penalty, since a penalty biases the ratio.

    The generator's loss is the negative bound divided by the number of rows, in nats; with the joint contrast the
    data's own entropy is missing from it.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: An argument's value does not fit; at the first step, if guide and model do not match.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> pyro.set_rng_seed(0)
        >>> pyro.clear_param_store()
        >>> def model(x):
        ...     mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", 1000, subsample=x):
        ...         pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
        >>> def guide(x):
        ...     loc, scale = pyro.param("loc", torch.tensor(0.0)), pyro.param("scale", torch.tensor(0.1))
        ...     pyro.sample("mean", dist.Normal(loc, scale.abs()))
        >>> inference = ImplicitKLqp(model, guide, global_sites="mean")
        >>> inference = inference.run(torch.randn(1000), num_steps=10, progress=False)
        >>> inference.sample_posterior(torch.zeros(5), num_samples=100)["mean"].shape
        torch.Size([100])

    References:
        Tran et al. (2017), "Hierarchical Implicit Models and Likelihood-Free Variational Inference", algorithm 1.
        Mescheder et al. (2017), "Adversarial Variational Bayes", algorithm 1.
    """

    judges_in_stages = True
    discriminator_tells_large = False  # products are steep where a log ratio is to be learned to its numbers

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        discriminator: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        global_sites: str | Sequence[str] = (),
        contrast: Literal["joint", "prior"] = "joint",
        adaptive: bool = False,
        spread: float = 10.0,
        loss: LossChoice = None,
        penalty: PenaltyChoice = None,
        discriminator_steps: int = 3,
        **options: Unpack[SharedOptions],
    ) -> None:
        if contrast not in ("joint", "prior"):
            raise ValueError(f"contrast must be 'joint' or 'prior', but is {shown(contrast)}.")
        if not is_real_number(spread) or not 1 <= spread < math.inf:
            raise ValueError(f"spread must be a number of at least 1, but is {shown(spread)}.")
        if adaptive and contrast != "prior":
            raise ValueError("adaptive=True adapts the contrast with the prior. Pass contrast='prior' with it.")
        names = (global_sites,) if isinstance(global_sites, str) else global_sites
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"global_sites must be a site's name or a list of names, but is {shown(global_sites)}.")
        loss = NonSaturating() if loss is None else loss
        steps = {"discriminator_steps": discriminator_steps}
        super().__init__(model, guide, discriminator, optim, optim_d, loss=loss, penalty=penalty, **steps, **options)
        if not self.loss.implies_log_ratio:
            self.loss.log_ratio(torch.zeros(()))  # it raises the error that says why
        if names and self.loss.leaves_constant_open:
            raise ValueError(
                f"{type(self.loss).__name__} leaves a constant of the log ratio open, which would depend on the global "
                "sites and mislead their guide. Use a loss without that, such as NonSaturating()."
            )
        self.contrast: str = contrast
        self.adaptive: bool = bool(adaptive)
        self.spread: float = float(spread)
        self._learns_prior: bool = False
        self.global_sites = tuple(names)

    def draw(self, batch: Batch) -> Samples:
        self.get_to_know(batch)
        arguments, guide_arguments = self.model.calls.arguments(batch), self.guide.calls.arguments(self.visible(batch))
        guided = self.guide.draw(guide_arguments)
        if self.global_sites:
            other = self.guide.draw(guide_arguments)
            with ConditionMessenger(self._spread(guided, other)):
                guided = self.guide.draw(guide_arguments)
        given = {site: guided.values[site] for site in self.global_sites}
        with ConditionMessenger(given):
            drawn = self.model.draw(arguments, self.observed_sites if self.contrast == "prior" else ())
        observed = self.model.calls.real(drawn, arguments, batch, self.latent_sites)
        local = {site: drawn.values[site] for site in self._local_sites()}
        fake = {**drawn.values, **given, **(self._contrast(guided).draw(local) if self.adaptive else {})}
        real = _as_rows({**guided.values, **observed}, self.global_sites, observed)
        fake = _as_rows(self.as_guided(fake, guided), self.global_sites, observed)
        fake = {site: fake[site] for site in real}
        return self.with_given(Samples(real, fake, {**drawn.parameters, **guided.parameters}), batch)

    def draw_for_generator(self, batch: Batch) -> Samples:
        self.get_to_know(batch)
        arguments = self.model.calls.arguments(batch)
        guided = self.guide.draw(self.guide.calls.arguments(self.visible(batch)), self.global_sites)
        is_tractable = self.contrast == "prior"
        given = self.latent_sites if is_tractable else self.global_sites
        scored = (*self.global_sites, *(self.observed_sites if is_tractable else ()))
        with ConditionMessenger({site: guided.values[site] for site in given}):
            drawn = self.model.draw(arguments, (*scored, *self._local_sites()) if self.adaptive else scored)
        observed = self.model.calls.real(drawn, arguments, batch, self.latent_sites)
        real = _as_rows({**guided.values, **observed}, self.global_sites, observed)
        is_moved = any(leaf.requires_grad for leaf in drawn.parameters.values()) and not is_tractable
        moved = self.as_guided(drawn.values, guided) if is_moved else {}
        fake = _as_rows(moved, self.global_sites, observed)
        bound = self._tractable_bound(guided, drawn, len(next(iter(observed.values()))))
        if self._learns_prior:
            bound = bound + self._prior_bound(guided, arguments)
        parameters, log_densities = {**drawn.parameters, **guided.parameters}, self.log_densities(guided, drawn)
        samples = Samples(real, fake, parameters, bound, log_densities=log_densities, scales=drawn.scales)
        return self.with_given(samples, batch)

    def _tractable_bound(self, guided: Draw, drawn: Draw, num_rows: int) -> Tensor:
        """What the bound has beside the learned ratio, divided by the number of all rows."""
        log_p, log_q = drawn.log_densities, guided.log_densities
        bound = torch.zeros((), device=self.device) if drawn.log_factor is None else drawn.log_factor
        for site in self.observed_sites if self.contrast == "prior" else ():
            bound = bound + log_p[site].sum() / num_rows
        if self.adaptive:
            log_prior = torch.stack([by_row(log_p[site]) for site in self._local_sites()]).sum(0)
            local = {site: guided.values[site] for site in self._local_sites()}
            bound = bound + (log_prior - self._contrast(guided).log_prob(local, log_prior)).mean()
        scale = drawn.scales[self.observed_sites[0]] * num_rows
        for site in self.global_sites:
            log_ratio = drawn.scales[site] * log_p[site].sum() - guided.scales[site] * log_q[site].sum()
            bound = bound + log_ratio / scale
        return bound

    def _prior_bound(self, guided: Draw, arguments: Arguments) -> Tensor:
        """What moves the parameters of the local sites' prior: log p(z) of the guide's draws, which it does not move.

        Its value is in the learned ratio already, so that it is 0 here. Of an adaptive contrast, it makes up for the
        part that moves with the prior: the ratio would follow, but the discriminator stands still.
        """
        values = {site: guided.values[site].detach() for site in self.latent_sites}
        with ConditionMessenger(values):
            log_p = self.model.draw(arguments, self._local_sites()).log_densities
        log_prior = torch.stack([by_row(log_p[site]) for site in self._local_sites()]).sum(0)
        fixed = log_prior.detach()
        if self.adaptive:
            local = {site: values[site] for site in self._local_sites()}
            log_prior = log_prior * self._contrast(guided).share_of_prior(local, fixed)
        return (log_prior - log_prior.detach()).mean()

    def _contrast(self, guided: Draw) -> AdaptiveContrast:
        supports = {site: self.model.found[site].support for site in self._local_sites()}
        return AdaptiveContrast(supports, {site: guided.values[site].detach() for site in self._local_sites()})

    def _local_sites(self) -> list[str]:
        return [site for site in self.latent_sites if site not in self.global_sites]

    def generator_loss(self, samples: Samples) -> Tensor:
        terms: list[Tensor] = []
        for (part, select), weight in zip(self.discriminator.parts(), self._weights(samples.scales), strict=True):
            logits = part(select(samples.real))
            found = [self.loss.log_ratio(logits)]
            if samples.fake:  # a model without a likelihood moves its own draws towards the data
                real_logits = logits if self.loss.generator_reads_real else None
                found += self.loss.generator(real_logits, part(select(samples.fake)))
            terms += found if weight is None else [weight * rows for rows in found]
        loss = total(terms)
        if samples.log_factor is not None:
            loss = loss - samples.log_factor
        return loss + score_function(terms, samples.log_densities) if samples.log_densities else loss

    def _weights(self, scales: Mapping[str, Any]) -> list[Any]:
        """How much the model weighs each discriminator's site against the first observed one; `None` for one of all."""
        if not isinstance(self.discriminator, StagedDiscriminator):
            return [None]
        return [scales[site] / scales[self.observed_sites[0]] for site in self.discriminator.stages]

    def as_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        local = {site: value for site, value in values.items() if site not in self.global_sites}
        return _as_rows(values, self.global_sites, local)

    def model_rows(self, num_rows: int) -> dict[str, Tensor]:
        raise ValueError(
            "ImplicitKLqp fixes no constant of its log ratio. Use a loss that leaves none open, such as NonSaturating."
        )

    def compares_alike(self) -> bool:
        return self.contrast == "joint" and not self.global_sites

    def relate(self, functions: Mapping[str, Any], samples: Samples) -> None:
        """By joint draws of a model that stays as it is."""
        if self.compares_alike() and not self.model.trainable():
            self.relate_by(functions, samples)

    def look_at_draws(self, batch: Batch) -> None:
        if self.contrast == "prior":
            self._look_at_prior(batch)
        super().look_at_draws(batch)

    def _look_at_prior(self, batch: Batch) -> None:
        """Note whether the prior of local sites has parameters, which need its density."""
        with torch.enable_grad():
            drawn = self.model.draw(self.model.calls.arguments(batch)).values
        moved = [site for site in self._local_sites() if drawn[site].requires_grad]
        for site in moved:
            if self.model.found[site].distribution == "Delta":
                raise ValueError(
                    f"contrast='prior' can not train the parameters of the prior of {site!r}, which has no density "
                    f"({self.model.found[site]}). Draw it from a distribution with one, or use contrast='joint'."
                )
        self._learns_prior = bool(moved)

    def _spread(self, first: Draw, second: Draw) -> dict[str, Tensor]:
        """Global draws farther apart than the guide's, from two of them, in the space without constraints.

        Of two independent draws, the first and a times their difference have (1 + a)² + a² times a draw's variance.
        """
        factor = (math.sqrt(2 * self.spread**2 - 1) - 1) / 2
        spread = {}
        for site in self.global_sites:
            transform = biject_to(self.guide.found[site].support)
            one, other = transform.inv(first.values[site]), transform.inv(second.values[site])
            spread[site] = transform(one + factor * (one - other)).detach()
        return spread

    def check_sites(self) -> None:
        """Refuse global sites without a density, and observed ones without a likelihood where it is needed.

        Raises:
            ValueError: There is one.
        """
        for name in self.global_sites:
            for role, found in ("model", self.model.found), ("guide", self.guide.found):
                if found[name].distribution in ("Delta", "MaskedDistribution"):
                    raise ValueError(
                        f"the {role}'s global site {name!r} has no density. Draw it from a distribution with one, or "
                        "make it a local site."
                    )
                if found[name].is_finite:
                    raise ValueError(
                        f"the {role}'s global site {name!r} ({found[name]}) is discrete, and has no values between "
                        "which the discriminator could learn the ratio. Sum it out of the model, or fit the model once "
                        "for each value of it."
                    )
        if self.contrast == "prior" and not self._local_sites():
            raise ValueError(
                "contrast='prior' contrasts local sites, but there are none: the bound is tractable. Use "
                "contrast='joint', or pyro.infer.SVI."
            )
        for name in self._local_sites() if self.contrast == "prior" else ():
            if self.guide.found[name].is_finite:
                raise ValueError(
                    f"contrast='prior' takes the gradient of the likelihood at the guide's draws, but {name!r} "
                    f"({self.guide.found[name]}) is discrete and has none. Use contrast='joint', or pyro.infer.SVI "
                    "with TraceEnum_ELBO, which sums it out."
                )
        for name in self._local_sites() if self.adaptive else ():
            if self.model.found[name].distribution == "Delta":
                raise ValueError(
                    f"adaptive=True needs the density of the model's site {name!r}, but it is a Delta. Draw it from a "
                    "distribution with a density, or leave out adaptive."
                )
        for name in self.observed_sites if self.contrast == "prior" else ():
            if not self.model.found[name].is_observed or self.model.found[name].distribution == "Delta":
                raise ValueError(
                    f"contrast='prior' needs the likelihood of {name!r}, but the model has none "
                    f"({self.model.found[name]}). Observe it with obs=, or use contrast='joint'."
                )


def _as_rows(values: dict[str, Tensor], global_sites: Sequence[str], observed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values with a row for each row of data: those of global sites are all alike."""
    num_rows = len(next(iter(observed.values())))
    return {
        site: value.expand(num_rows, *value.shape) if site in global_sites else value for site, value in values.items()
    }
