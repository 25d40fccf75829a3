"""Bidirectional adversarial inference, adversarially learned inference (Donahue et al. 2017; Dumoulin et al. 2017)."""

from collections.abc import Callable
from typing import Any, Unpack

from torch import Tensor

from pyro_gan.data import Batch
from pyro_gan.inference.base import LossChoice, PenaltyChoice, SharedOptions
from pyro_gan.inference.guided import GuidedInference
from pyro_gan.optimizers import OptimizerChoice
from pyro_gan.samples import Samples


class BiGANInference(GuidedInference):
    r"""Fits an implicit model and its guide by learning to tell their joint samples apart.

    The discriminator compares :math:`(x, z)` with :math:`x` from the data and :math:`z` from the guide, with
    :math:`(z, x)` from the model. When it can not tell them apart, the guide is the model's posterior. With a model
    that has no parameters, this is amortized posterior inference for a simulator.

    Args:
        model: As of :class:`GANInference`, with latent sites. It is called on the minibatch where it takes data.
        guide: A Pyro guide that draws the model's latent sites by name, called on the minibatch: of reparameterized
            distributions, or deterministic sites of noise through a network. Its own noise is marked with
            `infer={"is_auxiliary": True}`.
        discriminator: A callable that returns one logit a row, called with the rows of all compared sites as keyword
            arguments by site name; by default :class:`~pyro_gan.AutoDiscriminator`.
        optim: The optimizer of the model and the guide, as of :class:`GANInference`.
        optim_d: The discriminator's optimizer.
        loss: As of :class:`GANInference`.
        penalty: As of :class:`GANInference`.
        discriminator_steps: The updates of the discriminator for each of the guide. With one, a guide runs ahead and
            loses its noise more often.
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

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        discriminator: Callable[..., Tensor] | None = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        loss: LossChoice = None,
        penalty: PenaltyChoice = None,
        discriminator_steps: int = 2,
        **options: Unpack[SharedOptions],
    ) -> None:
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

    def draw(self, batch: Batch) -> Samples:
        self.get_to_know(batch)
        guided = self.guide.draw(self.guide.arguments(self.visible(batch)))
        arguments = self.model.arguments(batch)
        self._last_arguments = arguments
        if isinstance(batch, dict) and all(site in batch for site in (self.model.sites or ())):
            return self._from_simulations(batch, guided.values, guided.parameters)
        drawn = self.model.draw(arguments)
        observed = self.model.real(drawn, arguments, batch, self.latent_sites)
        real = {**guided.values, **observed}
        return Samples(
            {site: real[site] for site in drawn.values},
            drawn.values,
            {**drawn.parameters, **guided.parameters},
            drawn.log_factor,
        )

    def _from_simulations(
        self, batch: dict[str, Tensor], guided: dict[str, Tensor], parameters: dict[str, Tensor]
    ) -> Samples:
        """Compare the guide with simulations that were made beforehand."""
        trainable = [name for name, leaf in self.model.parameters.items() if leaf.requires_grad]
        if trainable:
            raise ValueError(
                f"the data hold the latent sites {', '.join(map(repr, self.latent_sites))}, so they are simulations by "
                f"the model, but it has parameters to train ({', '.join(map(repr, trainable))}). Pass the observed "
                "sites alone."
            )
        simulated = {site: batch[site] for site in self.model.sites or ()}
        real = {site: guided.get(site, rows) for site, rows in simulated.items()}
        return Samples(real, {site: rows.to(real[site].dtype) for site, rows in simulated.items()}, parameters)
