"""What can be asked of inferences with a guide: posterior draws, reconstructions, and whether they fit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_gan.auto import AutoDiscriminator, AutoImplicitGuide
from pyro_gan.auto.regression import MoreDraws
from pyro_gan.checks import listed, positive_integer
from pyro_gan.inference.compared import Compared, Pairs, covariates
from pyro_gan.inference.guiding import Guiding, not_known
from pyro_gan.inference.matching import (
    check_rows,
)
from pyro_gan.players.batch import Batch, named, number_of_rows, resized_batch
from pyro_gan.players.calls import Arguments, places
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.players.replicates import Replicates
from pyro_gan.training.samples import Samples

ROWS_AT_ONCE = 10_000


class GuidedInference(Guiding):
    """The base of inferences with a guide; see :class:`~pyro_gan.BiGANInference` for the arguments."""

    def sample_posterior(self, x_obs: Any, num_samples: int = 1000) -> dict[str, Tensor]:
        """Draw latent sites from the guide, given observations.

        Args:
            x_obs: What the guide is called with: one observation with shape `event_shape`, or rows of them with shape
                `(num_rows, *event_shape)`; a tuple or a mapping of such where the guide takes several. Sets and series
                have any length; without their mask all their elements are there.
            num_samples: The number of draws.

        Returns:
            The draws by site, in the sites' supports, with shape `(num_samples, *event_shape)` for one observation and
            `(num_samples, num_rows, *event_shape)` for rows, as `Predictive` and ArviZ take them; those of a global
            site with shape `(num_samples, *shape)`.

        Raises:
            TypeError: `num_samples` is no integer, or `x_obs` holds no arrays.
            ValueError: No step has been taken, or the observations have another shape than in training.
        """
        num_samples = positive_integer("num_samples", num_samples)
        rows, is_single = self._rows_of(x_obs, "x_obs")
        with torch.no_grad(), kept_buffers():
            draws = self.posterior_draws(rows, num_samples)
        return {
            site: value.squeeze(1) if is_single and site not in self.global_sites else value
            for site, value in draws.items()
        }

    def decode(self, latents: Mapping[str, Any], *args: Any) -> Tensor | dict[str, Tensor]:
        """Draw the observed sites from the model, given its latent ones; those that are left out are drawn too.

        Args:
            latents: Latent sites by name: one value each with shape `event_shape`, or rows with shape
                `(num_rows, *event_shape)`; of a global site one value.
            args: The model's arguments, with as many rows. By default a model that needs some is given those of the
                last step, repeated as needed.

        Returns:
            The observed site's rows, with shape `(num_rows, *event_shape)`, or `event_shape` for one value of each
            latent site; where several are observed, a dictionary.

        Raises:
            TypeError: `latents` is no mapping of arrays.
            ValueError: A name is no latent site of the model, a shape is another than in training, or no step has been
                taken.
        """
        if self._latents is None:
            raise not_known("latents", "after load, sample_posterior")
        forms = self._latents
        if not isinstance(latents, Mapping):
            raise TypeError(f"latents must be a mapping such as {{'z': ...}}, but is a {type(latents).__name__}.")
        if not latents or set(latents) - set(self.latent_sites):
            raise ValueError(
                f"latents holds {listed(latents) or 'nothing'}, but the latent sites are "
                f"{listed(self.latent_sites)}. Pass these, or some of them."
            )
        local = self._local(latents)
        shared = {site: value for site, value in latents.items() if site in self.global_sites}
        rows, is_single = forms.rows(local, "latents") if local else ({}, False)
        values, is_one = forms.rows(shared, "latents") if shared else ({}, True)
        if not is_one:
            raise ValueError(f"latents holds rows of the global site {next(iter(shared))!r}. Pass one value of it.")
        given = {**_by_site(rows), **{site: value[0] for site, value in _by_site(values).items()}}
        num_rows = number_of_rows(rows) if rows else None
        with torch.no_grad(), kept_buffers():
            drawn = self.run_model(self._arguments(args, num_rows), num_rows or 1, given).values
        return self._observed(drawn, is_single)

    def reconstruct(self, *batch: Any) -> Tensor | dict[str, Tensor]:
        """Draw latent sites given observations, and observations given these.

        Args:
            batch: One observation or rows of them, as in :meth:`step`.

        Returns:
            The observed site's rows, with shape `(num_rows, *event_shape)`, or `event_shape` for one observation; where
            several are observed, a dictionary.

        Raises:
            TypeError: `batch` holds no arrays.
            ValueError: No step has been taken, or the observations have another shape than in training.
        """
        given = batch[0] if len(batch) == 1 else batch
        rows, is_single = self._rows_of(given, "the observations")
        with torch.no_grad(), kept_buffers():
            latents = self.guide.draw(self.guide.calls.arguments(rows)).values
            drawn = self.run_model(self.model.calls.arguments(rows), number_of_rows(rows), latents).values
        return self._observed(drawn, is_single)

    def draws_to_export(
        self, batch: Batch, arguments: Arguments, replicates: Replicates, num_draws: int
    ) -> dict[str, dict[str, Tensor] | None]:
        if self.draws_single_rows:
            raise ValueError(
                "to_inference_data draws whole data sets, but a run of the model draws a single row. Draw rows in "
                "pyro.plate('data', batch_size), or pass draws of sample_posterior to export.to_inference_data."
            )
        prior = {site: replicates.compared[site] for site in self.latent_sites}
        posterior = self.sample_posterior(self.visible(batch), num_draws)
        predictions = []
        for number in range(num_draws):
            given = {site: draws[number] for site, draws in posterior.items()}
            predictions.append(self.run_model(arguments, number_of_rows(batch), given).values)
        return {
            "prior": {**replicates.latent, **prior},
            "prior_predictive": {site: replicates.compared[site] for site in self.observed_sites},
            "posterior": posterior,
            "posterior_predictive": {
                site: torch.stack([drawn[site] for drawn in predictions]) for site in self.observed_sites
            },
        }

    def draws_are_data(self) -> bool:
        return bool(self.global_sites or self.model.trainable())

    def are_simulations(self, batch: Batch) -> bool:
        return isinstance(batch, dict) and all(site in batch for site in (self.model.sites or ()))

    def rows_to_check(self, batch: Batch) -> Compared:
        """As of every inference; the observed sites are drawn given the guide's global ones."""
        self.get_to_know(batch)
        arguments, given = self.model.calls.arguments(batch), {}
        if self.global_sites:
            guided = self.guide.draw(self.guide_arguments(batch)).values
            given = {site: guided[site] for site in self.global_sites}
        drawn = self.run_model(arguments, number_of_rows(batch), given)
        real = self.model.calls.real(drawn, arguments, batch, self.latent_sites)
        fake = {site: drawn.values[site] for site in real}
        Samples(real, fake, {}).check_alike()
        seen = covariates(self.model.calls.named_arguments(arguments), real, batch)
        return Compared(self.blanked(real, batch), self.blanked(fake, batch), seen)

    def observation_rows(self, observation: Any) -> Batch:
        """Observations as a minibatch, sets and series as long as those of training."""
        rows, guide, forms = self._rows_of(observation, "observation")[0], self.guide.function, self._observations
        if not isinstance(guide, AutoImplicitGuide) or not isinstance(rows, dict) or forms is None:
            return rows
        lengths = {str(name): form.event_shape[0] for name, form in forms.forms.items() if form.is_free}
        return guide.structure.filled_up(rows, lengths)

    def simulate(self, batch: Batch) -> Pairs | None:
        """Draws of the model, in the minibatch in place of the data; simulations that are data are taken as they are.

        There are none with global sites, whose guide is of one data set alone, and none where the data hold nothing
        that the model observes as it is.
        """
        self.get_to_know(batch)
        if self.global_sites:
            return None
        if isinstance(batch, dict) and self.are_simulations(batch):
            truth, observed = (
                {site: batch[site] for site in each} for each in (self.latent_sites, self.observed_sites)
            )
            return Pairs(truth, self.blanked(observed, batch), self.visible(batch))
        arguments = self.model.calls.arguments(batch)
        drawn = self.run_model(arguments, number_of_rows(batch))
        sources = self.model.calls.sources(drawn, arguments, batch, self.latent_sites)
        elements: dict[Any, Tensor] = dict(named(batch))
        for site, rows in sources.items():
            fake = drawn.values[site]
            found = places(rows, batch) if rows.shape == fake.shape else []
            if not found:
                return None
            for place in found:
                elements[place] = fake.to(elements[place].dtype)
        given: Batch = elements if isinstance(batch, dict) else tuple(elements.values())
        truth, observed = (
            {site: drawn.values[site] for site in each} for each in (self.latent_sites, self.observed_sites)
        )
        return Pairs(truth, self.blanked(observed, given), self.visible(given))

    def posterior_draws(self, batch: Batch, num_draws: int) -> dict[str, Tensor]:
        at_once = 1 if self.global_sites else max(1, ROWS_AT_ONCE // number_of_rows(batch))
        numbers = [min(at_once, num_draws - start) for start in range(0, num_draws, at_once)]
        parts = [self._posterior_draws(batch, number) for number in numbers]
        return {site: torch.cat([part[site] for part in parts]) for site in self.latent_sites}

    def relate_by(self, functions: Mapping[str, Any], samples: Samples, more: MoreDraws = tuple) -> None:
        """Have networks that built themselves see latents beside what observations tell of them.

        Args:
            functions: The networks by the names of the players.
            samples: Samples of which the fake ones are joint draws of the model.
            more: Gives many such draws, in pieces.
        """
        draws = {site: values.detach() for site, values in samples.fake.items()}
        for function in functions.values():
            if isinstance(function, AutoDiscriminator):
                latents = [site for site in self.latent_sites if not self.guide.found[site].is_finite]
                function.relate(draws, latents, more)
            elif isinstance(function, AutoImplicitGuide):
                function.relate(draws, more)

    def _posterior_draws(self, rows: Batch, number: int) -> dict[str, Tensor]:
        """Draws of the guide for each row, with shape `(number, num_rows, *event_shape)`; of a global site, one."""
        num_rows = number_of_rows(rows)
        drawn = self.guide.draw(self.guide.calls.arguments(resized_batch(rows, number * num_rows))).values
        check_rows(self._local(drawn), number * num_rows)
        return {
            site: value[None] if site in self.global_sites else value.unflatten(0, (number, num_rows))
            for site, value in drawn.items()
        }

    def _arguments(self, args: tuple[Any, ...], num_rows: int | None) -> Arguments:
        """The model's arguments for that many rows, or for as many as in the last step."""
        last = self.last_arguments()
        if num_rows is None:
            number = last.kwargs.get("batch_size", 1) if last is not None else 1
            return self.model.calls.sample_arguments(args, last, number)
        return self.model.calls.sample_arguments(args, last, num_rows, exactly=True)

    def _observed(self, drawn: dict[str, Tensor], is_single: bool) -> Tensor | dict[str, Tensor]:
        observed = {site: drawn[site][0] if is_single else drawn[site] for site in self.observed_sites}
        return observed if len(observed) > 1 else next(iter(observed.values()))


def _by_site(rows: Batch) -> dict[str, Tensor]:
    return rows if isinstance(rows, dict) else {}
